"""Migrations: atomic, once, undisturbing, reversible. Most tests bring a folder of their own."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import needs
import peewee
import pytest
from peewee_migrate.models import MigrateHistory
from stressing import Program

from scanstore import errors
from scanstore.db import migrations
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.files import APPLICATION_ID
from scanstore.store import Store

FIRST = """
def migrate(migrator, database, *, fake=False):
    migrator.sql("CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    migrator.sql("CREATE TABLE child(id INTEGER PRIMARY KEY,"
                 " parent_id INTEGER NOT NULL REFERENCES parent(id) ON DELETE CASCADE)")

def rollback(migrator, database, *, fake=False):
    migrator.sql("DROP TABLE child")
    migrator.sql("DROP TABLE parent")
"""
SECOND = """
def migrate(migrator, database, *, fake=False):
    migrator.sql("CREATE TABLE extra(x)")

def rollback(migrator, database, *, fake=False):
    migrator.sql("DROP TABLE extra")
"""
MODELS = """
import peewee as pw

def migrate(migrator, database, *, fake=False):
    @migrator.create_model
    class Parent(pw.Model):
        name = pw.CharField()
        class Meta:
            table_name = "parent"

    @migrator.create_model
    class Child(pw.Model):
        parent = pw.ForeignKeyField(Parent, on_delete="CASCADE")
        class Meta:
            table_name = "child"

def rollback(migrator, database, *, fake=False):
    migrator.remove_model("child")
    migrator.remove_model("parent")
"""
REBUILD = """
import peewee as pw

def migrate(migrator, database, *, fake=False):
    migrator.change_fields("parent", name=pw.TextField(null=True))

def rollback(migrator, database, *, fake=False):
    migrator.change_fields("parent", name=pw.CharField())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "steps"
    made.mkdir()
    (made / "001_first.py").write_text(FIRST)
    (made / "002_second.py").write_text(SECOND)
    (made / "__init__.py").write_text("raise SystemExit")
    (made / "notes.txt").write_text("not a migration")
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


def ask(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path, timeout=10)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def tell(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def tables(path: Path) -> set[str]:
    return {name for (name,) in ask(path, "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'")}


def version(path: Path) -> tuple[int, int]:
    return ask(path, "PRAGMA application_id")[0][0], ask(path, "PRAGMA user_version")[0][0]


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.backup-*"))


# Up, down, to


def test_up_makes_a_scanstore(path: Path, folder: Path) -> None:
    assert migrations.up(path, folder=folder) == ["001_first", "002_second"]
    assert version(path) == (APPLICATION_ID, 2)
    assert tables(path) == {"parent", "child", "extra", "migratehistory"}
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]
    assert needs.is_private(path)
    assert migrations.up(path, folder=folder) == []


@pytest.mark.parametrize("to", ["001_first", "001", "1", 1])
def test_up_to_a_step_and_on(path: Path, folder: Path, to: str | int) -> None:
    assert migrations.up(path, to=to, folder=folder) == ["001_first"]
    assert version(path)[1] == 1 and "extra" not in tables(path)
    assert migrations.up(path, to=to, folder=folder) == []
    assert migrations.up(path, folder=folder) == ["002_second"]


def test_down_by_steps_and_to(path: Path, folder: Path) -> None:
    migrations.up(path, folder=folder)
    assert migrations.down(path, folder=folder) == ["002_second"]
    assert version(path)[1] == 1
    migrations.up(path, folder=folder)
    assert migrations.down(path, to=1, folder=folder) == ["002_second"]
    assert migrations.down(path, to=1, folder=folder) == []
    migrations.up(path, folder=folder)
    assert migrations.down(path, to=0, folder=folder) == ["002_second", "001_first"]
    assert version(path) == (APPLICATION_ID, 0)
    assert tables(path) == {"migratehistory"}
    assert migrations.down(path, steps=5, folder=folder) == []
    assert migrations.up(path, folder=folder) == ["001_first", "002_second"]


def test_status_tells_what_is_applied_and_touches_nothing(path: Path, folder: Path) -> None:
    pending = [("001_first", False, None), ("002_second", False, None)]
    assert migrations.status(path, folder=folder) == pending
    assert not path.exists()
    migrations.up(path, to=1, folder=folder)
    first, second = migrations.status(path, folder=folder)
    assert first.applied and second == pending[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(first.applied_at))
    (folder / "001_first.py").unlink()
    assert [step.name for step in migrations.status(path, folder=folder)] == ["001_first", "002_second"]


def test_unknown_names_list_the_known_ones(path: Path, folder: Path) -> None:
    migrations.up(path, to=1, folder=folder)
    for call in (migrations.up, migrations.down):
        for wrong in ("second", "9", 9, "001_firs"):
            with pytest.raises(errors.NotFound, match="001_first, 002_second"):
                call(path, to=wrong, folder=folder)
    with pytest.raises(errors.InvalidArgument):
        migrations.down(path, steps=-1, folder=folder)
    with pytest.raises(errors.NotFound, match="does not exist"):
        migrations.down(path.parent / "none.db", folder=folder)
    assert version(path)[1] == 1


def test_a_missing_folder_is_not_created(path: Path) -> None:
    with pytest.raises(errors.MigrationFailed, match="not a folder"):
        migrations.up(path, folder=path.parent / "none")
    assert not (path.parent / "none").exists() and not path.exists()


def test_another_programs_database_is_not_migrated(path: Path, folder: Path) -> None:
    tell(path, "CREATE TABLE precious(x)")
    before = path.read_bytes()
    for call in (migrations.up, migrations.down, migrations.status):
        with pytest.raises(errors.NotAScanstore):
            call(path, folder=folder)
    assert path.read_bytes() == before


def test_nothing_to_do_writes_nothing(path: Path, folder: Path) -> None:
    for step in folder.glob("0*"):
        step.unlink()
    assert migrations.up(path, folder=folder) == []
    assert path.read_bytes() == b""


# Rebuilds and foreign keys


@pytest.fixture
def rebuild(tmp_path: Path) -> Path:
    made = tmp_path / "rebuild"
    made.mkdir()
    (made / "001_models.py").write_text(MODELS)
    (made / "002_rebuild.py").write_text(REBUILD)
    return made


def test_rebuilding_a_parent_keeps_the_rows_that_cascade_from_it(path: Path, rebuild: Path) -> None:
    migrations.up(path, to=1, folder=rebuild)
    tell(path, "INSERT INTO parent VALUES (1, 'a'), (2, 'b')", "INSERT INTO child VALUES (1, 1), (2, 2)")
    assert migrations.up(path, folder=rebuild) == ["002_rebuild"]
    assert ask(path, "SELECT parent_id FROM child") == [(1,), (2,)]
    assert "TEXT" in ask(path, "SELECT sql FROM sqlite_schema WHERE name = 'parent'")[0][0]
    assert migrations.down(path, folder=rebuild) == ["002_rebuild"]
    assert len(ask(path, "SELECT * FROM child")) == 2


def test_a_migration_that_breaks_a_reference_is_undone(path: Path, folder: Path) -> None:
    migrations.up(path, folder=folder)
    tell(path, "INSERT INTO parent VALUES (1, 'a'), (2, 'b')", "INSERT INTO child(parent_id) VALUES (1), (2)")
    (folder / "003_breaks.py").write_text(
        'def migrate(migrator, database, *, fake=False): migrator.sql("DELETE FROM parent WHERE id = 2")'
    )
    with pytest.raises(errors.MigrationFailed, match="003_breaks.*child.*parent"):
        migrations.up(path, folder=folder)
    assert len(ask(path, "SELECT * FROM parent")) == 2
    assert version(path)[1] == 2


def test_violations_that_were_there_before_do_not_stop_a_migration(path: Path, folder: Path) -> None:
    migrations.up(path, to=1, folder=folder)
    tell(path, "INSERT INTO child(parent_id) VALUES (77)")  # a shell has foreign keys off
    assert migrations.up(path, folder=folder) == ["002_second"]


# Failures


@pytest.mark.parametrize(
    "body",
    [
        'migrator.sql("INSERT INTO parent VALUES (9, 9)"); migrator.sql("SELECT nonsense FROM nowhere")',
        'migrator.sql("DROP TABLE extra"); migrator.run(lambda: 1 / 0)',
        "raise RuntimeError('no')",
    ],
)
def test_a_failing_migration_changes_nothing(path: Path, folder: Path, body: str) -> None:
    migrations.up(path, to=1, folder=folder)
    tell(path, "INSERT INTO parent VALUES (1, 'a')")
    with closing(sqlite3.connect(path)) as connection:
        before = list(connection.iterdump())
    (folder / "003_fails.py").write_text(f"def migrate(migrator, database, *, fake=False):\n    {body}\n")
    with pytest.raises(errors.MigrationFailed, match="003_fails.*nothing was changed") as caught:
        migrations.up(path, folder=folder)
    assert "\n" not in str(caught.value) and caught.value.__cause__ is not None
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before
    assert version(path)[1] == 1
    assert backups(path) == []
    (folder / "003_fails.py").unlink()
    assert migrations.up(path, folder=folder) == ["002_second"]


def test_a_migration_without_rollback_says_so(path: Path, folder: Path) -> None:
    (folder / "002_second.py").write_text("def migrate(migrator, database, *, fake=False): pass")
    migrations.up(path, folder=folder)
    with pytest.raises(errors.MigrationFailed, match="no rollback.*backup"):
        migrations.down(path, folder=folder)
    (folder / "002_second.py").unlink()
    with pytest.raises(errors.MigrationFailed, match="002_second"):
        migrations.down(path, folder=folder)
    assert version(path)[1] == 2


def test_migrations_are_silent(path: Path, folder: Path) -> None:
    (folder / "003_fails.py").write_text("def migrate(migrator, database, *, fake=False): 1 / 0")
    code = (
        "import sys; from scanstore import errors; from scanstore.db import migrations as migrating\n"
        "try: migrating.up(sys.argv[1], folder=sys.argv[2])\n"
        "except errors.MigrationFailed: pass"
    )
    command = [sys.executable, "-c", code, path, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


KILLED = """
import os, signal
def migrate(migrator, database, *, fake=False):
    migrator.sql("CREATE TABLE half(x)")
    migrator.sql("PRAGMA cache_size=5")
    migrator.sql("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
                 " INSERT INTO half SELECT hex(zeroblob(100)) FROM n")
    migrator.sql("UPDATE parent SET name = 'gone'")
    migrator.run(os.kill, os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("applied", [0, 2])
def test_kill_9_in_a_migration_leaves_the_old_schema(path: Path, folder: Path, applied: int) -> None:
    if applied:
        migrations.up(path, folder=folder)
        tell(path, "INSERT INTO parent VALUES (1, 'a')")
    (folder / "003_killed.py").write_text(KILLED)
    code = "import sys; from scanstore.db import migrations as migrating; migrating.up(sys.argv[1], folder=sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, path, folder], timeout=60)
    assert done.returncode == -signal.SIGKILL
    (folder / "003_killed.py").unlink()
    assert version(path) == ((APPLICATION_ID, 2) if applied else (0, 0))
    assert "half" not in tables(path)
    if applied:
        assert ask(path, "SELECT name FROM parent") == [("a",)]
    assert migrations.up(path, folder=folder) == ([] if applied else ["001_first", "002_second"])
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


# Backups


def test_a_store_with_a_schema_is_copied_before(path: Path, folder: Path) -> None:
    assert migrations.up(path, to=1, folder=folder).backup is None
    tell(path, "INSERT INTO parent VALUES (1, 'a')")
    done = migrations.up(path, folder=folder)
    (backup,) = backups(path)
    assert done.backup == str(backup)
    assert re.fullmatch(r"x\.db\.backup-1-\d{8}T\d{9}Z", backup.name)
    assert needs.is_private(backup)
    assert ask(backup, "SELECT name FROM parent") == [("a",)]
    assert version(backup) == (APPLICATION_ID, 1) and "extra" not in tables(backup)
    assert migrations.down(path, folder=folder, backup=False).backup is None
    assert len(backups(path)) == 1


# Others meanwhile


SLOW = """
import time
def migrate(migrator, database, *, fake=False):
    if fake:
        time.sleep(0.3)
    else:
        migrator.sql("CREATE TABLE slow(x)")
        migrator.run(time.sleep, 0.3)
"""


def test_other_threads_are_not_disturbed(path: Path, folder: Path, tmp_path: Path) -> None:
    """The history is replayed slowly, which is when a process-wide patch would be felt."""
    (folder / "003_slow.py").write_text(SLOW)
    (folder / "004_slow.py").write_text(SLOW.replace("slow(x)", "slower(x)"))
    migrations.up(path, to=3, folder=folder)
    plain = peewee.SqliteDatabase(str(tmp_path / "plain.db"))

    class Note(peewee.Model):
        text = peewee.TextField()

        class Meta:
            database = plain

    plain.create_tables([Note])
    Note.create(text="x")
    stop, wrong, rounds = threading.Event(), [], [0]
    Store(tmp_path / "other.db").close()  # made before: that takes a while

    def look() -> None:
        with Store(tmp_path / "other.db") as other:
            while not stop.is_set():
                rounds[0] += 1
                try:
                    assert [note.text for note in Note.select()] == ["x"]
                    assert other.database.pragma("user_version") == SCHEMA_VERSION
                    assert peewee.Model.select.__module__ == "peewee"
                except BaseException as error:
                    wrong.append(error)
                    return
        plain.close()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        assert migrations.up(path, folder=folder) == ["004_slow"]
    finally:
        stop.set()
        thread.join()
        plain.close()
    assert not wrong and rounds[0] > 20


def test_readers_of_the_same_file_go_on_meanwhile(path: Path, folder: Path) -> None:
    (folder / "003_slow.py").write_text(SLOW)
    migrations.up(path, to=2, folder=folder)
    thread = threading.Thread(target=migrations.up, args=(path,), kwargs={"folder": folder})
    thread.start()
    rounds = 0
    while thread.is_alive():
        assert ask(path, "SELECT count(*) FROM parent") == [(0,)]
        rounds += 1
    assert rounds > 3
    assert version(path)[1] == 3


def test_histories_of_two_files_are_not_mixed(path: Path, folder: Path) -> None:
    other = path.with_name("y.db")
    table, database = MigrateHistory._meta.table_name, MigrateHistory._meta.database
    migrations.up(path, folder=folder)
    migrations.up(other, to=1, folder=folder)
    assert [step.applied for step in migrations.status(path, folder=folder)] == [True, True]
    assert [step.applied for step in migrations.status(other, folder=folder)] == [True, False]
    assert migrations.down(path, folder=folder) == ["002_second"]
    assert migrations.up(other, folder=folder) == ["002_second"]
    assert (MigrateHistory._meta.table_name, MigrateHistory._meta.database) == (table, database)


OPENER = """
import sys
from scanstore.store import Store
print("ready", flush=True)
sys.stdin.readline()
with Store(sys.argv[1]) as store:
    with store.transaction():
        pass
    print(store.database.pragma("user_version"), store.database.pragma("journal_mode"))
"""


def test_six_processes_open_one_new_file(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"{number}.db"
        pipe = subprocess.PIPE
        openers = [Program(OPENER, path, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(6)]
        for opener in openers:
            assert opener.stdout is not None and opener.stdout.readline() == "ready\n"
        for opener in openers:
            assert opener.stdin is not None
            opener.stdin.write("\n")
            opener.stdin.flush()
        for opener in openers:
            out, err = opener.communicate(timeout=60)
            assert (out, err) == (f"{SCHEMA_VERSION} wal\n", "")
        assert len(ask(path, "SELECT * FROM migratehistory")) == len(migrations.status(path))
        assert backups(path) == []


def test_threads_open_one_new_file(tmp_path: Path) -> None:
    start, failures = threading.Barrier(6), []

    def work() -> None:
        start.wait()
        try:
            Store(tmp_path / "x.db").close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(ask(tmp_path / "x.db", "SELECT * FROM migratehistory")) == SCHEMA_VERSION


# Through a store


def test_a_store_migrates_down_and_up(store: Store, db_path: Path) -> None:
    assert all(step.applied for step in store.migrate_status())
    undone = store.migrate_down(0)
    assert undone.backup is not None and os.path.exists(undone.backup)
    assert tables(db_path) == {"migratehistory"}
    with pytest.raises(errors.OutdatedSchema):
        Store(db_path, migrate=False)
    assert store.migrate_up() == undone[::-1]
    assert store.database.pragma("user_version") == SCHEMA_VERSION
    with store.transaction(), pytest.raises(errors.IllegalMove, match="transaction"):
        store.migrate_down()
    with Store(db_path, timeout=0.1) as other, store.transaction(), pytest.raises(errors.Busy):
        other.migrate_down()
