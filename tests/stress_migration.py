"""Migration: from every earlier schema, with rows in every table, killed at every statement: the old schema or the new
one, complete, and the next opening goes on.

The statements of a whole run are counted first. The short form kills at some of them, among these the first and the
last of each schema; the long form at every one.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from stressing import Child, Tell, chance, copied, done, fill, rounds, sound, tables
from test_upgrades import rows, version

from scanstore import Store, migrating
from scanstore.database import SCHEMA_VERSION


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A store of each earlier schema, with rows in every table that it has."""
    folder = tmp_path_factory.mktemp("old")
    fill(folder / "full.db")
    found = {}
    for schema in range(1, SCHEMA_VERSION):
        found[schema] = copied(folder / "full.db", folder / f"{schema}.db")
        migrating.down(found[schema], to=schema, backup=False)
        # Nobody leases a place for ever: going down may take those rows, and what waits for a search.
        assert {name for name, count in tables(found[schema]).items() if not count} <= {"search_changes", "model_slots"}
    return found


def migrates(path: Path, *, killed_at: int | None) -> Any:
    """Migrate in a process that is killed before its statement of that number; tells how many there were."""

    def work(tell: Tell) -> None:
        count, real = 0, migrating._Connection.execute_sql

        def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
            nonlocal count
            if not self.replaying:
                if count == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
            return real(self, sql, params)

        migrating._Connection.execute_sql = execute_sql  # type: ignore[method-assign]
        migrating.up(path)
        tell(count)

    return work


def test_killed_at_any_statement(old: dict[int, Path], tmp_path: Path) -> None:
    outcomes, kills, some = Counter[str](), 0, chance("statements")
    for schema, original in old.items():
        before = rows(original)
        folder = tmp_path / str(schema)
        folder.mkdir()
        path = folder / "scan.db"
        shutil.copy(original, path)
        (statements,) = done(migrates(path, killed_at=None))
        after = rows(path)
        middle = range(1, statements - 1)
        at = {0, statements - 1, *some.sample(middle, min(rounds(3, len(middle)), len(middle)))}
        for number in sorted(at):
            for left in folder.iterdir():
                left.unlink()
            shutil.copy(original, path)
            child = Child(migrates(path, killed_at=number))
            told = child.end(60)
            assert child.status == -signal.SIGKILL, told
            kills += 1
            sound(path)
            assert version(path) in (schema, SCHEMA_VERSION)
            outcomes["old" if version(path) == schema else "new"] += 1
            assert rows(path) == (before if version(path) == schema else after), (schema, number)
        with Store(path) as store:  # the last one killed is opened, and goes on
            assert version(path) == SCHEMA_VERSION and store.check() == []
        sound(path)
    assert outcomes["old"]
    print(f"\n{kills} kills at statements of migrations; the schema afterwards: {dict(outcomes)}")
