"""Vacuum gives free pages back, optimize tidies up, and every row stays as it is."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scanstore import Store
from scanstore.cli import main
from scanstore.errors import Busy, DiskFull, IllegalMove, ReadOnly
from scanstore.maintenance import compaction


def content(store: Store) -> dict[str, list[Any]]:
    run = store.database.execute_sql
    tables = run("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").fetchall()
    return {
        name: sorted(map(repr, run(f'SELECT * FROM "{name}"').fetchall()))
        for (name,) in tables
        if "_search_" not in name and name != "search_changes"
    }


@pytest.fixture
def loose(store: Store, tmp_path: Path) -> Store:
    """A store with rows of several kinds and many free pages."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for n in range(30):
        (tree / f"m{n}.py").write_text(f"import m{(n + 1) % 30}\n\n\ndef f{n}():\n    return m{(n + 1) % 30}.f()\n" * 3)
    scan = store.scans.record(tree, jobs=1)
    store.search("f1")
    plan = store.plans.add("tidy")
    with store.library.sync("scene") as run:
        store.library.upsert_scenes([{"id": "1", "title": "One"}], run=run)
    store.plans.propose(plan, "1", "title", "set", proposed="Better")
    store.plans.submit(plan)
    for n in range(300):
        store.settings.set(f"k{n}", "x" * 3000)
    for n in range(300):
        store.settings.remove(f"k{n}")
    assert store.symbols.find("f1", scan=scan)
    return store


def test_vacuum_makes_the_file_smaller_and_changes_no_row(loose: Store) -> None:
    before = content(loose)
    done = loose.vacuum()
    assert done.after < done.before - 500_000
    assert done.after == os.path.getsize(loose.path) and os.path.getsize(loose.path + "-wal") == 0
    assert done.seconds > 0
    assert loose.database.execute_sql("PRAGMA freelist_count").fetchone()[0] == 0
    assert content(loose) == before
    assert loose.search("f1")
    assert loose.check() == []


def test_optimize_changes_no_row_and_empties_the_log(loose: Store) -> None:
    before = content(loose)
    done = loose.optimize()
    assert os.path.getsize(loose.path + "-wal") == 0 and done.after == os.path.getsize(loose.path)
    assert content(loose) == before
    assert loose.database.execute_sql("SELECT count(*) FROM sqlite_stat1").fetchone()[0] > 10
    loose.optimize()
    assert loose.search("f1")
    assert loose.check() == []


def test_optimize_merges_the_full_text_indexes(store: Store) -> None:
    run = store.database.execute_sql
    for n in range(40):  # one piece each
        run("INSERT INTO symbol_search (rowid, name) VALUES (?, ?)", (n, f"word{n}")).fetchall()

    def pieces() -> int:
        return int(run("SELECT count(DISTINCT segid) FROM symbol_search_idx").fetchone()[0])

    before = pieces()
    store.optimize()
    assert 1 == pieces() < before
    run("DELETE FROM symbol_search").fetchall()
    assert store.check() == []


def test_look_ups_keep_their_indexes_after_optimize(loose: Store) -> None:
    queries = (
        "SELECT * FROM symbols WHERE scan_id = 1 AND name = 'f1'",
        "SELECT * FROM symbols WHERE scan_id = 1 AND file_path = 'm1.py'",
        "SELECT * FROM settings WHERE key = 'x'",
    )

    def steps() -> list[str]:
        rows = [loose.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in queries]
        return [row[3] for each in rows for row in each]

    before = steps()
    loose.optimize()
    assert steps() == before
    assert not [step for step in before if step.startswith("SCAN")], before


def test_readers_go_on_and_writers_are_waited_for(loose: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanstore.maintenance.compaction._PATIENCE", 100)
    rows = loose.database.execute_sql("SELECT id FROM scan_files")
    assert rows.fetchone()
    with Store(loose.path, timeout=0.1) as other:
        other.vacuum()  # this thread's reader is in the middle
        rows.fetchall()
        holding, done = threading.Event(), threading.Event()

        def hold() -> None:
            with loose.bound(), loose.transaction():
                holding.set()
                done.wait(20)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert holding.wait(10)
            with pytest.raises(Busy):
                other.vacuum()
            with pytest.raises(Busy):
                other.optimize()
        finally:
            done.set()
            thread.join()
    assert loose.check() == []


def test_refusals(loose: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with loose.transaction():
        for work in (loose.vacuum, loose.optimize):
            with pytest.raises(IllegalMove, match="inside a transaction"):
                work()
    with Store(loose.path, read_only=True) as reader:
        for work in (reader.vacuum, reader.optimize):
            with pytest.raises(ReadOnly, match="read-only"):
                work()
    usage = shutil.disk_usage(loose.path)
    size = os.path.getsize(loose.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DiskFull, match="1,000 are free"):
        loose.vacuum()
    assert os.path.getsize(loose.path) == size


def test_a_vacuum_does_not_keep_the_store_in_memory(loose: Store) -> None:
    seen: list[int] = []

    class Spy:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def execute(self, sql: str, *rest: Any) -> Any:
            if sql == "VACUUM":
                seen.append(self.connection.execute("PRAGMA temp_store").fetchone()[0])
            return self.connection.execute(sql, *rest)

    with compaction._tidying(loose.database, "vacuum") as (connection, _, _):
        Spy(connection).execute("VACUUM")
    assert seen == [1]  # a file


def test_commands(loose: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSTORE_DB", loose.path)
    for name in ("vacuum", "optimize"):
        result = CliRunner().invoke(main, [name])
        assert result.exit_code == 0 and " before, " in result.output
        found = json.loads(CliRunner().invoke(main, [name, "--json"]).output)
        assert found["before"] >= found["after"] > 0
