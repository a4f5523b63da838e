"""Warnings as errors: setup.cfg makes them so for all tests; here for the processes that scanstore starts."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from scanstore import Store
from scanstore.db import cursors
from scanstore.indexing import pool

ODD = 'x = "\\d"\nassert (x, 1)\nif x is "y": pass\n\n\ndef f():\n    return g()\n'  # each line is worth a warning


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    for number in range(8):
        (tmp_path / f"tree/m{number}.py").write_text(ODD)
    return tmp_path / "tree"


def test_index_workers_raise_no_warning(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def strict(code: str, *arguments: str) -> list[str] | None:
        command = ["error" if word == "ignore" else word for word in real(code, *arguments) or []]
        started.append(command)
        return command

    real = pool.isolated
    monkeypatch.setattr(pool, "isolated", strict)
    scan = store.scans.record(tree, jobs=2)
    assert started and all("error" in command for command in started)
    assert [file.error for file in scan.files] == [None] * 8 and len(store.symbols.find("f")) == 8


def test_commands_raise_no_warning(tree: Path) -> None:
    """Nor does anything stay open that a development mode of Python complains about when it ends."""
    for words in (("scan", str(tree), "--jobs", "2"), ("check",), ("backup",)):
        command = [sys.executable, "-X", "dev", "-W", "error", "-m", "scanstore", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tree.parent)
        said = [line for line in done.stderr.splitlines() if not line.endswith("scanstore.db: no problems")]
        assert (done.returncode, said) == (0, []), words


def test_bytes_are_not_compared_with_texts(tree: Path) -> None:
    """Python warns of that with ``-b``."""
    code = "import sys, scanstore; from pathlib import Path\nwith scanstore.Store(':memory:') as s:\n"
    code += "    for path in (sys.argv[1], sys.argv[1].encode(), Path(sys.argv[1])): s.scans.record(path, jobs=1)"
    done = subprocess.run([sys.executable, "-bb", "-c", code, str(tree)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_suite_takes_warnings_for_errors() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_numbered_values_warn_in_no_python(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some releases of Python 3.12 warn of ``?1`` with a list; there the values are named by their numbers."""
    sql = "SELECT ?2, ?1, ?2"
    other = "SELECT '?1', ?, ?3 -- ?9"
    for warns in {True, cursors._WARNS}:  # what warns here is not tried
        monkeypatch.setattr(cursors, "_WARNS", warns)
        assert store.database.execute_sql(sql, ("a", "b")).fetchone() == ("b", "a", "b")
        assert store.database.execute_sql(other, ("a", "b", "c")).fetchone() == ("?1", "a", "c")
        assert isinstance(cursors.numbered(sql, ("a", "b"))[1], dict if warns else tuple)
    monkeypatch.setattr(cursors, "_WARNS", True)
    store.database.execute_sql("CREATE TABLE pairs (a, b)")
    store.database.executemany("INSERT INTO pairs VALUES (?2, ?1)", [(1, 2), (3, 4)])
    assert store.database.execute_sql("SELECT * FROM pairs").fetchall() == [(2, 1), (4, 3)]
