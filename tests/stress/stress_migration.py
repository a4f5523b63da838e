"""Migration: from every earlier schema, with rows in every table, killed at every statement: the old schema or the new
one, complete, and the next run goes on from what the killed one has left.

The statements of a whole run are counted first. The short form takes every third schema, and kills after the last
statement and at one more; the long form takes every schema and kills at every statement.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from comparing import rows, version
from stressing import LONG, Child, Tell, chance, copied, done, fill, rounds, sound, tables

from scanstore import Store
from scanstore.db import migrations
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.values import format_time, utcnow

EMPTY = {"search_changes", "model_slots", "scan_figures", "scan_counts", "scan_groups"}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A store of each earlier schema, with rows in every table that it has."""
    folder = tmp_path_factory.mktemp("old")
    newer, found = folder / "full.db", {}
    fill(newer)
    for schema in reversed(range(1, SCHEMA_VERSION)):
        found[schema] = newer = copied(newer, folder / f"{schema}.db")
        migrations.down(newer, to=schema, backup=False)
        # Going down may take the rows of expired leases, of a search that waits, and the figures of scans.
        assert {name for name, count in tables(newer).items() if not count} <= EMPTY
    return found


def migrates(path: Path, *, killed_at: int | None) -> Any:
    """Migrate in a process that is killed before its statement of that number, or after the last; tells how many there
    were."""

    def work(tell: Tell) -> None:
        count, real = 0, migrations._Connection.execute_sql

        def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
            nonlocal count
            if not self.replaying:
                if count == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
            return real(self, sql, params)

        migrations._Connection.execute_sql = execute_sql  # type: ignore[method-assign]
        migrations.up(path)
        if count == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        tell(count)

    return work


def migrated(path: Path, since: str) -> dict[str, list[Any]]:
    """The rows, without the times at which migrations made some of them."""

    def timeless(row: str) -> str:
        return re.sub(r"'(2\d{3}-\d\d-\d\dT[\d:.]{12}Z)'", lambda at: at[0] if at[1] < since else "then", row)

    return {table: sorted(map(timeless, found)) for table, found in rows(path).items()}


def content(path: Path) -> bytes:
    """The file as SQLite reads it, its log included."""
    connection = sqlite3.connect(path)
    try:
        return connection.serialize()
    finally:
        connection.close()


@pytest.mark.parametrize("schema", [*range(1, SCHEMA_VERSION)] if LONG else [*range(SCHEMA_VERSION - 1, 0, -3)])
def test_killed_at_any_statement(old: dict[int, Path], tmp_path: Path, schema: int) -> None:
    outcomes, some, path = Counter[str](), chance("statements", schema), tmp_path / "scan.db"
    shutil.copy(old[schema], path)
    since = format_time(utcnow())
    (statements,) = done(migrates(path, killed_at=None))
    after = migrated(path, since)
    shutil.copy(old[schema], path)
    original, before = content(path), rows(path)
    times = min(rounds(1, statements), statements)
    for number in (statements, *sorted(some.sample(range(statements), times))):
        child = Child(migrates(path, killed_at=number))
        told = child.end(60)
        assert child.status == -signal.SIGKILL, told
        if content(path) == original:  # to the byte: nothing of the migration is there
            outcomes["old"] += 1
        elif version(path) == schema:
            sound(path)
            assert rows(path) == before, number
            outcomes["old"] += 1
        else:
            sound(path)
            assert version(path) == SCHEMA_VERSION and migrated(path, since) == after, number
            outcomes["new"] += 1
            for end in ("-wal", "-shm"):
                path.with_name(f"scan.db{end}").unlink(missing_ok=True)
            shutil.copy(old[schema], path)
        for copy in tmp_path.glob("*.backup-*"):
            copy.unlink()
    with Store(path) as store:  # the last one that was killed is opened, and goes on
        assert version(path) == SCHEMA_VERSION and store.check() == []
    assert migrated(path, since) == after
    assert outcomes["old"] and outcomes["new"]
    print(f"\n{sum(outcomes.values())} kills from schema {schema}; the schema afterwards: {dict(outcomes)}")
