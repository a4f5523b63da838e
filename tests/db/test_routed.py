"""Files that peewee_migrate's own command or Router migrated: they become stores, and strangers' files do not."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import peewee_migrate
import pytest

from scanstore import Store, errors
from scanstore.db import migrations
from scanstore.db.files import APPLICATION_ID, SCHEMA_VERSION

FOLDER = migrations.default_folder()
COMMAND = (sys.executable, "-c", "from peewee_migrate.cli import cli; cli()")  # pw_migrate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


def ask(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        return connection.execute(sql).fetchall()


def route(path: Path, name: str | None = None) -> None:
    database = peewee.SqliteDatabase(path)
    peewee_migrate.Router(database, migrate_dir=FOLDER).run(name)
    database.close()


def command(path: Path, verb: str, *options: str) -> None:
    done = subprocess.run(
        [*COMMAND, verb, "--directory", str(FOLDER), "--database", f"sqlite:///{path}", *options],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def step(number: int) -> str:
    return next(file.stem for file in sorted(FOLDER.glob(f"{number:03}_*.py")))


def version(path: Path) -> tuple[int, int, int]:
    return (
        ask(path, "PRAGMA application_id")[0][0],
        ask(path, "PRAGMA user_version")[0][0],
        ask(path, "SELECT count(*) FROM migratehistory")[0][0],
    )


def assert_store(path: Path) -> None:
    with Store(path) as store:
        assert store.check() == []
    assert version(path) == (APPLICATION_ID, SCHEMA_VERSION, SCHEMA_VERSION)
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]
    assert all(row.applied_at and row.applied_at.endswith("Z") for row in migrations.status(path))


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.backup-*"))


def refused(path: Path, error: type[Exception] = errors.NotAScanstore) -> None:
    before = path.read_bytes()
    with pytest.raises(error):
        Store(path)
    with pytest.raises(error):
        migrations.up(path)
    assert path.read_bytes() == before and sorted(path.parent.iterdir()) == [path]


def test_a_file_of_the_router_becomes_a_store(path: Path) -> None:
    route(path)
    with pytest.raises(errors.OutdatedSchema):
        Store(path, read_only=True)
    with pytest.raises(errors.OutdatedSchema):
        Store(path, migrate=False)
    assert all(row.applied for row in migrations.status(path))
    assert_store(path)
    assert backups(path) == []
    with Store(path) as store:
        store.settings["a"] = 1
        store.dump(path.with_name("dump.jsonl"))
    with Store(path, read_only=True) as store, Store(path.with_name("new.db")) as new:
        assert store.settings["a"] == 1
        new.load(path.with_name("dump.jsonl"))
        assert new.settings["a"] == 1


@pytest.mark.parametrize("number", [1, 5, 8, SCHEMA_VERSION - 1])
def test_a_file_of_fewer_steps_is_copied_and_migrated_up(path: Path, number: int) -> None:
    route(path, step(number))
    assert_store(path)
    (copy,) = backups(path)
    assert version(copy) == (APPLICATION_ID, number, number)
    assert_store(copy)


def test_migrate_up_and_down_take_it_over(path: Path) -> None:
    route(path)
    assert migrations.up(path) == [] and version(path)[:2] == (APPLICATION_ID, SCHEMA_VERSION)
    path.unlink()
    route(path, step(7))
    assert migrations.down(path) == [step(7)] and version(path) == (APPLICATION_ID, 6, 6)
    assert_store(path)


def test_a_router_goes_on_after_scanstore_and_the_other_way_round(path: Path) -> None:
    migrations.up(path, to=5)
    route(path)
    assert version(path) == (APPLICATION_ID, 5, SCHEMA_VERSION)
    with Store(path) as store:
        assert store.check() == []
    assert version(path) == (APPLICATION_ID, SCHEMA_VERSION, SCHEMA_VERSION)


@pytest.mark.parametrize("count", [1, 2, 5, SCHEMA_VERSION])
@pytest.mark.parametrize("opened", [True, False])
def test_the_command_migrates_and_rolls_back(path: Path, count: int, opened: bool) -> None:
    command(path, "migrate")
    if opened:
        with Store(path) as store:
            store.settings["a"] = 1
            store.database.execute_sql("CREATE TABLE mine (id INTEGER PRIMARY KEY, setting REFERENCES settings)")
            store.database.execute_sql("INSERT INTO mine (setting) VALUES ('a')")
    command(path, "rollback", "--count", str(count))
    if not opened and count == SCHEMA_VERSION:
        refused(path)  # an empty history may be anyone's
        return
    with Store(path) as store:
        if count < SCHEMA_VERSION:
            assert store.check() == []
        if opened and count <= 2:
            assert store.settings["a"] == 1
        if opened:
            assert store.database.execute_sql("SELECT setting FROM mine").fetchall() == [("a",)]
    assert version(path) == (APPLICATION_ID, SCHEMA_VERSION, SCHEMA_VERSION)
    command(path, "list")


def test_a_rolled_back_store_is_not_opened_without_migrating(path: Path) -> None:
    command(path, "migrate")
    assert_store(path)
    command(path, "rollback")
    with pytest.raises(errors.OutdatedSchema, match=f"schema {SCHEMA_VERSION - 1}"):
        Store(path, migrate=False)
    assert_store(path)


def test_a_router_with_an_open_log(path: Path) -> None:
    database = peewee.SqliteDatabase(path, pragmas={"journal_mode": "wal"})
    peewee_migrate.Router(database, migrate_dir=FOLDER).run()
    with Store(path) as store:
        assert store.check() == []
    database.close()
    assert_store(path)


FOREIGN = [
    "INSERT INTO migratehistory (name, migrated_at) VALUES ('013_other', '2026-01-01')",
    "UPDATE migratehistory SET name = '003_other' WHERE id = 3",
    "DELETE FROM migratehistory WHERE id = 3",
    f"DELETE FROM migratehistory WHERE id = {SCHEMA_VERSION}",
    "DELETE FROM migratehistory",
    "UPDATE migratehistory SET id = 99 WHERE id = 1",
    "CREATE TABLE other (a)",
    "CREATE INDEX other ON jobs (status)",
    "CREATE TRIGGER other AFTER INSERT ON jobs BEGIN DELETE FROM settings; END",
    "CREATE VIEW other AS SELECT 1",
    "ALTER TABLE settings ADD COLUMN other",
    "ALTER TABLE migratehistory ADD COLUMN other",
    "DROP TABLE file_identity",
    "PRAGMA user_version = 12",
    "PRAGMA application_id = 7",
]


@pytest.mark.parametrize("statement", FOREIGN)
def test_a_file_with_anything_else_is_refused(path: Path, statement: str) -> None:
    route(path)
    ask(path, statement)
    refused(path)


def test_another_programs_history_is_refused(path: Path) -> None:
    ask(path, 'CREATE TABLE "migratehistory" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, '
        '"migrated_at" DATETIME NOT NULL)')  # fmt: skip
    refused(path)
    ask(path, "INSERT INTO migratehistory (name, migrated_at) VALUES ('001_snapshot', '2026-01-01')")
    refused(path)
    ask(path, "DROP TABLE migratehistory")
    ask(path, "CREATE VIEW migratehistory AS WITH RECURSIVE r (name) AS (SELECT 1 UNION ALL SELECT 1 FROM r)"
        " SELECT name, name AS id FROM r")  # fmt: skip
    refused(path)
