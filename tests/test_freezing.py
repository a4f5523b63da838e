"""The quick way to copy a store: its file stands still meanwhile, for everybody, and where it does not, it is left."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stressing import RAW

from scanstore import Store, freezing

pytestmark = pytest.mark.skipif(os.name != "posix", reason="copied by SQLite elsewhere")

CHANGE = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for n in range(300):
    c.execute("BEGIN IMMEDIATE")
    c.execute("UPDATE settings SET value = ?", (f'"{n}"' + ' ' * 2000,))
    c.execute("COMMIT")
    if n % 50 == 0:
        c.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
c.execute("PRAGMA busy_timeout=0")
c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
"""
RESTORE = "import sys; from scanstore import backups; backups.restore(sys.argv[1], sys.argv[2], timeout=0.1)"


def outside(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def digest(path: str) -> str:
    """Of a file that this process has open: one that closes it loses its locks."""
    code = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    return outside(code, path).stdout


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "LEAST", 0)


@pytest.fixture
def full(store: Store) -> Iterator[Store]:
    for n in range(20):
        store.settings.set(f"key{n}", "x" * 1000)
    return store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copy.db").touch()
    return tmp_path / "copy.db"


def test_nobody_writes_into_a_file_that_stands_still(full: Store) -> None:
    reader = sqlite3.connect(full.path, isolation_level=None)
    assert freezing._freeze(reader, full.path, None)
    before = digest(full.path)
    changed = outside(CHANGE, full.path)
    assert changed.returncode == 0, changed.stderr  # and nobody was kept from writing
    assert digest(full.path) == before
    reader.close()
    assert outside(CHANGE, full.path).returncode == 0
    assert digest(full.path) != before


def test_a_copy_has_what_was_in_the_log(full: Store, target: Path) -> None:
    full.settings.set("last", "committed")
    assert os.path.getsize(full.path + "-wal") > 0
    assert freezing.copy(full.path, str(target), None, None)
    with Store(target) as copy:
        assert copy.settings.to_dict() == full.settings.to_dict() and copy.check() == []


def test_the_locks_of_this_process_stay(full: Store, tmp_path: Path) -> None:
    copy = full.backup(tmp_path / "copy.db").path
    done = outside(RESTORE, copy, full.path)
    assert done.returncode == 1 and "is open in this or another process" in done.stderr
    full.close()
    assert outside(RESTORE, copy, full.path).returncode == 0


@pytest.mark.parametrize("trouble", ["a writer", "a reader of what is older", "no log", "not there", "not a store"])
def test_where_it_cannot_be_had_nothing_is_done(full: Store, target: Path, tmp_path: Path, trouble: str) -> None:
    file = full.path
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        if trouble == "a writer":
            other.execute("BEGIN IMMEDIATE")
        elif trouble == "a reader of what is older":
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM settings").fetchone()
            full.settings.set("more", 1)
        else:
            file = str(tmp_path / "other.db")
            if trouble == "no log":
                with closing(sqlite3.connect(file)) as plain:
                    plain.execute("CREATE TABLE t (x)")
            elif trouble == "not a store":
                Path(file).write_bytes(b"no database at all" * 1000)
        assert not freezing.copy(file, str(target), None, None)
    assert target.read_bytes() == b""


def test_a_file_that_changes_after_all_is_not_taken(full: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = freezing._copied

    def meddle(*given: Any) -> bool:
        done = real(*given)
        os.utime(full.path)
        return done

    monkeypatch.setattr(freezing, "_copied", meddle)
    assert not freezing.copy(full.path, str(target), None, None)
    assert target.read_bytes() == b""
    assert full.backup(target.parent / "copy2.db").bytes  # the other way


def test_a_process_that_fails_is_not_believed(full: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "CODE", "raise SystemExit(1)")
    assert not freezing.copy(full.path, str(target), None, None)
    monkeypatch.setattr(sys, "executable", "")
    assert not freezing.copy(full.path, str(target), None, None)


def test_progress_is_told(full: Store, target: Path) -> None:
    told: list[tuple[int, int]] = []
    assert freezing.copy(full.path, str(target), None, lambda *pages: told.append(pages))
    assert told[-1] == (os.path.getsize(full.path) // 4096,) * 2 and told == sorted(told)


def test_small_stores_are_not_worth_a_process(full: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "LEAST", os.path.getsize(full.path) + 1)
    assert not freezing.copy(full.path, str(target), None, None)


def test_an_encrypted_store_is_copied_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("sqlcipher3")
    with Store(tmp_path / "secret.db", key=RAW) as store:
        store.settings.set("planted", "in the dark")
        assert freezing.copy(store.path, _touched(tmp_path / "copy.db"), RAW, None)
    assert b"in the dark" not in (tmp_path / "copy.db").read_bytes()
    with Store(tmp_path / "copy.db", key=RAW) as copy:
        assert copy.settings.get("planted") == "in the dark" and copy.check() == []


def _touched(path: Path) -> str:
    path.touch()
    return str(path)
