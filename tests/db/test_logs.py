"""What a store logs: slow statements without their values, what opening freed, and --verbose on the command line."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scanstore import InvalidArgument, Store
from scanstore.cli import main
from scanstore.db.logs import LONGEST, one_line, threshold, to_stderr

SLOW = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT {} FROM n"


@pytest.fixture
def restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("scanstore", "peewee")]
    before = [(each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, (level, handlers, propagate) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.handlers[:] = handlers
        each.propagate = propagate


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "scanstore.slow"]


def test_a_slow_statement_is_told_once_without_its_values(caplog: pytest.LogCaptureFixture) -> None:
    with Store(":memory:", slow_ms=20) as store:
        store.settings["quick"] = "hidden value"
        assert said(caplog) == []
        store.database.execute_sql(SLOW.format("count(*)"), (400_000,)).fetchall()
    (line,) = said(caplog)
    assert line.startswith(":memory:: ") and " ms, 1 rows: WITH RECURSIVE n" in line and "400000" not in line
    assert float(line.split()[1]) >= 20


@pytest.mark.parametrize("how", ["fetchall", "iterate", "fetchone", "fetchmany", "leave"])
def test_reading_rows_counts_too(caplog: pytest.LogCaptureFixture, how: str) -> None:
    with Store(":memory:", slow_ms=5) as store:
        caplog.clear()
        cursor = store.database.execute_sql(SLOW.format("i"), (30_000,))  # each row is made when it is read
        assert said(caplog) == []
        rows = 0
        if how == "fetchall":
            rows = len(cursor.fetchall())
        elif how == "iterate":
            rows = sum(1 for _ in cursor)
        elif how == "fetchone":
            while cursor.fetchone() is not None:
                rows += 1
        elif how == "fetchmany":
            while some := cursor.fetchmany(999):
                rows += len(some)
        else:
            rows = sum(1 for _ in zip(range(29_999), cursor, strict=False)) + 1
        del cursor
    (line,) = said(caplog)
    assert f"{rows if how != 'leave' else rows - 1} rows" in line or how == "leave"


def test_many_rows_at_once_are_one_statement(caplog: pytest.LogCaptureFixture) -> None:
    with Store(":memory:", slow_ms=0) as store:
        caplog.clear()
        rows = ((str(n), "1") for n in range(1000))
        store.database.executemany("INSERT INTO settings (key, value) VALUES (?, ?)", rows)
    assert sum("INSERT INTO settings" in line for line in said(caplog)) == 1


def test_a_statement_that_fails_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    with Store(":memory:", slow_ms=0) as store:
        store.settings["a"] = 1
        with pytest.raises(Exception, match="exists already"):
            store.database.execute_sql("INSERT INTO settings (key, value) VALUES ('a', '2')")
    assert any("('a', '2')" in line for line in said(caplog))


def test_the_environment_sets_it_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSTORE_SLOW_MS", "250")
    assert threshold(None) == 0.25 and threshold(5) == 0.005
    with Store(":memory:") as store:
        assert store.database.slow == 0.25
    monkeypatch.setenv("SCANSTORE_SLOW_MS", "")
    with Store(":memory:") as store:
        assert store.database.slow is None
    monkeypatch.delenv("SCANSTORE_SLOW_MS")
    assert threshold(None) is None


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "soon", True])
def test_a_bad_threshold_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InvalidArgument, match="slow_ms is"):
        Store(tmp_path / "s.db", slow_ms=value)
    assert os.listdir(tmp_path) == []


def test_a_bad_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSTORE_SLOW_MS", "fast")
    with pytest.raises(InvalidArgument, match="SCANSTORE_SLOW_MS is 'fast'"):
        Store(":memory:")


def test_long_statements_are_cut() -> None:
    assert one_line("SELECT\n   1") == "SELECT 1"
    assert len(one_line("x" * 1000)) == LONGEST


def test_what_opening_freed_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "s.db")
    code = "import os, sys; from scanstore import Store; s = Store(sys.argv[1]); s.jobs.enqueue('x');"
    subprocess.run([sys.executable, "-c", code + "s.jobs.claim('x'); os._exit(1)", path], check=False)
    with caplog.at_level("DEBUG", "scanstore.store"), Store(path) as store:
        assert store.recovered is not None
    told = [record.getMessage() for record in caplog.records if record.name == "scanstore.store"]
    assert told == [f"opened {path}", f"{path}: freed lost work, 1 wait again, 0 failed"]


@pytest.mark.usefixtures("restored")
def test_lines_are_safe_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr(logging.INFO)
    to_stderr(logging.INFO)  # once is enough
    logging.getLogger("scanstore.test").info("a\x1b[31m\nb")
    logging.getLogger("scanstore.test").debug("not this")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("scanstore.test: a\\x1b[31m b")


@pytest.mark.usefixtures("restored")
def test_verbose_on_the_command_line(tmp_path: Path) -> None:
    def run(*args: str) -> str:
        result = CliRunner().invoke(main, [*args, "--db", str(tmp_path / "s.db")])
        assert result.exit_code == 0, result.output
        return result.stderr

    assert run("init") == ""
    assert "scanstore.store: opened" not in run("-v", "settings", "list")
    loud = run("-vv", "settings", "list")
    assert "scanstore.store: opened" in loud and "SELECT" in loud
    assert "applied 001_snapshot" in CliRunner().invoke(main, ["-v", "init", "--db", str(tmp_path / "t.db")]).stderr
