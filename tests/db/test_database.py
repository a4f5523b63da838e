"""Opening, connections, transactions, the current store, and fields."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import needs
import peewee
import pytest

from scanstore import errors
from scanstore.db import database, file_identity, migrations, opening
from scanstore.db.database import SCHEMA_VERSION, current
from scanstore.db.domain import Domain
from scanstore.db.fields import Base, EnumField, HashField, JSONField, UTCField, UUIDField
from scanstore.db.files import APPLICATION_ID
from scanstore.db.opening import check_sqlite
from scanstore.db.values import utcnow
from scanstore.store import Store


class Author(Base):
    name = peewee.TextField(unique=True)
    token = peewee.TextField(null=True)
    meta = JSONField(null=True)
    seen = UTCField(default=utcnow)
    state = EnumField(("new", "done"), default="new")
    key = UUIDField(null=True)
    digest = HashField(null=True)

    __secret__ = frozenset({"token"})


class Book(Base):
    author = peewee.ForeignKeyField(Author, backref="books", on_delete="CASCADE")
    title = peewee.TextField()


@pytest.fixture
def books(store: Store) -> Store:
    store.database.create_tables([Author, Book])
    return store


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    pair = Store(tmp_path / "a.db"), Store(tmp_path / "b.db")
    for each in pair:
        with each.bound():
            each.database.create_tables([Author, Book])
            Author.create(name=Path(each.path).stem)
    yield pair
    for each in pair:
        each.close()


def run(code: str, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def in_child(action: Any) -> int:
    """Run an action in a forked child; return 0 when it went through."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Opening


def test_a_new_store_is_private_logged_and_ours(db_path: Path) -> None:
    with Store(db_path) as store:
        names = [db_path, *(Path(f"{db_path}{suffix}") for suffix in ("-wal", "-shm"))]
        assert all(map(needs.is_private, names)) and len(names) == 3
        pragma = store.database.pragma
        assert pragma("application_id") == APPLICATION_ID == int.from_bytes(b"SCAN")
        assert pragma("user_version") == SCHEMA_VERSION
        assert pragma("journal_mode") == "wal"
        assert pragma("foreign_keys") == 1
        assert pragma("synchronous") == 2
    assert sorted(path.name for path in db_path.parent.iterdir()) == ["scan.db"]
    with Store(db_path, durability="normal") as store:
        assert store.database.pragma("synchronous") == 1


def test_the_private_mode_does_not_depend_on_the_umask(db_path: Path) -> None:
    before = os.umask(0)
    try:
        with Store(db_path):
            assert needs.is_private(f"{db_path}-wal")
    finally:
        os.umask(before)


NAMES = ["a?b.db", "a#b.db", "a%41.db", "a b.db", "a\nb.db", "é.db", "file:x.db", "a\udcff.db"]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_is_taken_literally(tmp_path: Path, name: str) -> None:
    with Store(tmp_path / name):
        assert name in os.listdir(tmp_path)
    assert os.listdir(tmp_path) == [name]
    with Store(tmp_path / name, read_only=True) as store:
        assert store.path == str(tmp_path / name)


def test_the_path_defaults_to_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCANSTORE_DB", "mine.db")
    Store().close()
    monkeypatch.delenv("SCANSTORE_DB")
    Store().close()
    assert sorted(os.listdir(tmp_path)) == ["mine.db", "scanstore.db"]


def test_a_relative_path_survives_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "else").mkdir()
    with Store("x.db") as store, ThreadPoolExecutor(1) as pool:
        monkeypatch.chdir("else")
        assert pool.submit(store.database.pragma, "user_version").result() == SCHEMA_VERSION


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    if path:
        with pytest.raises(errors.InvalidArgument):
            Store(path)
    with pytest.raises(errors.InvalidArgument):
        database.Database(path)


def test_bad_options_are_refused(db_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument, match="durability"):
        Store(db_path, durability="none")
    with pytest.raises(errors.InvalidArgument, match="timeout"):
        Store(db_path, timeout=math.nan)
    assert not db_path.exists()


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and text
    return text


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.MissingFolder) as caught:
        Store(tmp_path / "no" / "such\n" / "x.db")
    assert "such" in one_line(caught.value)
    (tmp_path / "file").touch()
    with pytest.raises(errors.MissingFolder):
        Store(tmp_path / "file" / "x.db")


def test_a_folder_a_pipe_and_a_text_file_are_no_scanstore(tmp_path: Path) -> None:
    with pytest.raises(errors.NotAScanstore, match="folder"):
        Store(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.NotAScanstore, match="regular"):
        Store(tmp_path / "pipe")
    text = tmp_path / "notes.txt"
    for content in ("hello", "x" * 5000):
        text.write_text(content)
        for read_only in (False, True):
            with pytest.raises(errors.NotAScanstore) as caught:
                Store(text, read_only=read_only)
            assert "notes.txt" in one_line(caught.value)
        assert text.read_text() == content


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("setup", ["CREATE TABLE t(x)", "PRAGMA application_id=7", "PRAGMA user_version=3"])
def test_another_programs_database_is_left_untouched(tmp_path: Path, journal: str, setup: str) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute(setup)
    connection.close()
    before = path.read_bytes(), path.stat().st_mtime_ns, os.listdir(tmp_path)
    for options in ({}, {"read_only": True}, {"migrate": False}):
        with pytest.raises(errors.NotAScanstore) as caught:
            Store(path, **options)
        assert "other.db" in one_line(caught.value)
    assert before == (path.read_bytes(), path.stat().st_mtime_ns, os.listdir(tmp_path))


@pytest.mark.parametrize("checkpoint", [True, False])
def test_another_programs_log_is_left_untouched(tmp_path: Path, checkpoint: bool) -> None:
    live, path = tmp_path / "live.db", tmp_path / "other.db"
    connection = sqlite3.connect(live)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("CREATE TABLE t(x)")
    if checkpoint:
        connection.execute("PRAGMA wal_checkpoint").fetchall()
    connection.execute("CREATE TABLE u(x)")
    for suffix in ("", "-wal"):
        shutil.copy(f"{live}{suffix}", f"{path}{suffix}")
    connection.close()
    before = {name: name.read_bytes() for name in tmp_path.iterdir()}
    for read_only in (False, True):
        with pytest.raises(errors.NotAScanstore):
            Store(path, read_only=read_only)
    assert {name: name.read_bytes() for name in tmp_path.iterdir()} == before


def test_an_empty_file_is_a_new_store(db_path: Path) -> None:
    db_path.touch()
    with Store(db_path) as store:
        assert store.database.pragma("user_version") == SCHEMA_VERSION


def test_schema_newer_or_older_is_refused(db_path: Path) -> None:
    Store(db_path).close()
    connection = sqlite3.connect(db_path)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(errors.NewerSchema, match="newer scanstore"):
        Store(db_path)
    connection = sqlite3.connect(db_path)
    connection.execute("PRAGMA user_version=0")
    connection.close()
    for options in ({"read_only": True}, {"migrate": False}):
        with pytest.raises(errors.OutdatedSchema, match="migrate up"):
            Store(db_path, **options)


def test_a_missing_file_is_not_created_by_looking(db_path: Path) -> None:
    for options in ({"read_only": True}, {"migrate": False}):
        with pytest.raises(errors.NotFound, match="does not exist"):
            Store(db_path, **options)
    assert not db_path.exists()


@pytest.mark.parametrize("when", ["as it is looked at", "as its id is read"])
def test_a_file_that_is_removed_while_it_is_opened_is_not_created(
    db_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Such as by drop_db, in another process; SQLite creates what it opens unless told not to."""
    Store(db_path).close()
    module, name = (opening, "refuse_foreign") if when == "as it is looked at" else (file_identity, "_reader")
    look = getattr(module, name)

    def late(*args: Any) -> Any:
        db_path.unlink(missing_ok=True)
        return look(*args)

    monkeypatch.setattr(module, name, late)
    Path(f"{db_path}-wal").write_bytes(b"x" * 4096)  # without a log no id is read before it is open
    if when == "as it is looked at":
        Path(f"{db_path}-wal").unlink()
    with pytest.raises(errors.ScanstoreError):
        Store(db_path, migrate=False)
    assert not db_path.exists()


def test_an_old_sqlite_is_refused() -> None:
    check_sqlite((3, 38, 0))
    with pytest.raises(errors.SqliteTooOld, match="3.37.9"):
        check_sqlite((3, 37, 9))


def test_the_schema_version_is_the_newest_migrations_number() -> None:
    newest = max(path.name for path in migrations.default_folder().glob("[0-9]*.py"))
    assert int(newest[:3]) == SCHEMA_VERSION


def test_opening_an_up_to_date_store_imports_little(db_path: Path) -> None:
    Store(db_path).close()
    code = "import sys; from scanstore.store import Store\nwith Store(sys.argv[1]): print(*sys.modules)"
    modules = run(code, db_path).stdout.split()
    assert "scanstore.db.database" in modules
    heavy = {"peewee_migrate", "scanstore.db.migrations", "click", "rich", "multiprocessing", "asyncio"}
    assert not heavy & set(modules)


def test_a_damaged_file_is_named(books: Store, db_path: Path) -> None:
    for number in range(200):
        Author.create(name=f"{number}" * 50)
    query = "SELECT rootpage FROM sqlite_schema WHERE name = 'author'"
    root = books.database.execute_sql(query).fetchone()[0]
    books.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    books.database.close()
    with open(db_path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(errors.Damaged, match="scan.db.*backup") as caught:
        list(Author.select())
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


def test_trouble_at_a_later_row_is_translated_too(books: Store, db_path: Path) -> None:
    Author.insert_many([{"name": f"{number:04}" * 100} for number in range(2000)]).execute()
    books.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    books.database.close()
    size = db_path.stat().st_size
    with open(db_path, "r+b") as file:
        file.seek(size - 40 * 4096)
        file.write(b"\xff" * 20 * 4096)
    with pytest.raises(errors.Damaged):
        list(Author.select(Author.name).order_by(Author.id).tuples().iterator())


def test_a_full_disk_is_named_and_rolls_back(books: Store) -> None:
    pages = books.database.pragma("page_count")
    books.database.pragma("max_page_count", pages + 2)
    with pytest.raises(errors.DiskFull, match="disk is full"), books.transaction():
        Author.create(name="first")
        Author.create(name="x" * 100_000)
    assert Author.select().count() == 0
    Author.create(name="small")


# Read-only


def test_read_only_reads_and_refuses_writes(books: Store, db_path: Path) -> None:
    Author.create(name="x")
    with Store(db_path, read_only=True) as reader:
        with reader.transaction():
            assert [row.name for row in Author.select()] == ["x"]
        with pytest.raises(errors.ReadOnly, match="read_only"):
            Author.create(name="y")
    with pytest.raises(errors.InvalidArgument):
        Store(":memory:", read_only=True)


READ_ONLY_PLACE = """
import sys
from scanstore import errors
from scanstore.store import Store
for options in ({}, {"read_only": True}):
    try:
        with Store(sys.argv[1], **options) as store:
            print(store.database.execute_sql("SELECT count(*) FROM sqlite_schema").fetchone()[0] > 0)
            store.database.execute_sql("CREATE TABLE t(x)")
    except errors.ReadOnly as error:
        print(error)
"""


def in_read_only_place(folder: Path, path: Path) -> list[str]:
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$4"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", folder, sys.executable, READ_ONLY_PLACE, path]
    environment = {**os.environ, "PYTHONPATH": str(Path(database.__file__).parent.parent)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode and ("mount" in done.stderr or "unshare" in done.stderr):
        pytest.skip("no mounts here")
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_read_only_place_can_be_read_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    Store(path).close()
    refused, read, write = in_read_only_place(tmp_path, path)
    assert "read_only=True" in refused
    assert read == "True"
    assert "read-only" in write
    assert os.listdir(tmp_path) == ["scan.db"]


def test_a_log_in_a_read_only_place_is_not_overlooked(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    code = (
        "import os, sys; from scanstore.store import Store; s = Store(sys.argv[1])\n"
        "s.database.execute_sql('CREATE TABLE t(x)'); os._exit(0)"
    )
    assert run(code, path).returncode == 0
    os.unlink(f"{path}-shm")
    _, answer = in_read_only_place(tmp_path, path)
    assert "-wal" in answer


# Transactions


def test_transactions_commit_roll_back_and_nest(books: Store) -> None:
    with books.transaction():
        Author.create(name="kept")
        with pytest.raises(ZeroDivisionError), books.transaction():
            Author.create(name="undone")
            raise ZeroDivisionError
        Author.create(name="kept too")
    with pytest.raises(KeyboardInterrupt), books.transaction():
        Author.create(name="interrupted")
        raise KeyboardInterrupt
    assert {row.name for row in Author.select()} == {"kept", "kept too"}
    with Author._meta.database.atomic() as transaction:
        Author.create(name="explicitly undone")
        transaction.rollback()
    assert Author.select().count() == 2


def test_a_transaction_holds_the_write_lock_from_its_start(books: Store, db_path: Path) -> None:
    with Store(db_path, timeout=0.05) as other:
        with books.transaction(), pytest.raises(errors.Busy, match="timeout") as caught:
            with other.transaction():
                pass
        assert isinstance(caught.value, peewee.OperationalError)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        with other.transaction():
            pass


def test_read_then_write_in_many_threads_loses_nothing(books: Store) -> None:
    Author.create(name="counter", meta=0)

    def work() -> None:
        with books.bound():
            for _ in range(50):
                with books.transaction():
                    row = Author.get(Author.name == "counter")
                    row.meta += 1
                    row.save()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert Author.get(Author.name == "counter").meta == 200


def test_a_statement_that_ends_the_transaction_keeps_the_first_error(books: Store) -> None:
    with pytest.raises(ZeroDivisionError), books.transaction(), books.transaction():
        books.database.execute_sql("ROLLBACK")
        raise ZeroDivisionError
    with books.transaction():
        Author.create(name="still works")


def test_after_commit_hooks_run_after_the_commit_only(books: Store) -> None:
    seen: list[int] = []
    with books.transaction():
        books.database.after_commit(lambda: seen.append(1))
        assert not seen
    with pytest.raises(ZeroDivisionError), books.transaction():
        books.database.after_commit(lambda: seen.append(2))
        raise ZeroDivisionError
    with books.transaction():
        pass
    assert seen == [1]


CTRL_C = """
import os, signal, sys, threading, time
from scanstore.store import Store
store = Store(sys.argv[1], timeout=5)
holder = Store(sys.argv[1])
held, done = threading.Event(), threading.Event()
def hold():
    with holder.transaction():
        held.set()
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)  # delivered when the waiting BEGIN below returns
        time.sleep(0.2)
thread = threading.Thread(target=hold)
thread.start()
held.wait()
try:
    with store.transaction():
        print("entered")
except KeyboardInterrupt:
    print("interrupted")
thread.join()
print(store.database.in_sqlite_transaction(), store.database.transaction_depth())
with store.transaction():
    print("again")
"""


def test_ctrl_c_while_waiting_for_the_lock_leaves_no_transaction(db_path: Path) -> None:
    done = run(CTRL_C, db_path)
    assert done.stdout.split() == ["interrupted", "False", "0", "again"], done.stderr


def test_kill_9_in_a_transaction_loses_that_transaction_only(books: Store, db_path: Path) -> None:
    code = (
        "import os, signal, sys; from scanstore.store import Store; s = Store(sys.argv[1])\n"
        "add = 'INSERT INTO author(name, seen, state) VALUES (?, 1, 1)'\n"
        "s.database.execute_sql(add, ('kept',))\n"
        "with s.transaction():\n"
        "    s.database.executemany(add, ((str(n) * 100,) for n in range(20000)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run(code, db_path).returncode == -signal.SIGKILL
    assert [row.name for row in Author.select(Author.name)] == ["kept"]
    assert books.database.pragma("integrity_check") == "ok"


# Errors


def test_conflicts_are_peewees_and_ours(books: Store) -> None:
    Author.create(name="x")
    with pytest.raises(errors.Conflict, match="UNIQUE.*exists already") as caught:
        Author.create(name="x")
    assert isinstance(caught.value, peewee.IntegrityError)
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    with pytest.raises(errors.Conflict, match="points at"):
        Book.create(author=99, title="orphan")
    with pytest.raises(peewee.IntegrityError, match="NOT NULL"):
        books.database.execute_sql("INSERT INTO author(name) VALUES (NULL)")
    assert Author.get_or_create(name="x")[1] is False


def test_mistakes_in_sql_stay_peewees_errors(books: Store) -> None:
    with pytest.raises(peewee.OperationalError, match="no such table") as caught:
        books.database.execute_sql("SELECT * FROM nowhere")
    assert not isinstance(caught.value, errors.ScanstoreError)


def test_values_sqlite_cannot_hold_are_refused(books: Store) -> None:
    with pytest.raises(errors.InvalidArgument):
        Author.create(name="\udcff")
    with pytest.raises(errors.InvalidArgument):
        books.database.execute_sql("SELECT ?", (2**70,))


def test_a_patched_peewee_does_not_reach_a_store(books: Store) -> None:
    with mock.patch("peewee.Database.execute_sql", side_effect=AssertionError):
        Author.create(name="x")
        assert Author.select().count() == 1


def test_query_hooks_still_see_statements(books: Store) -> None:
    events: list[Any] = []
    books.database.query_hooks.append(events.append)
    Author.create(name="x")
    with pytest.raises(errors.Conflict):
        Author.create(name="x")
    writes = [event for event in events if event.sql.startswith("INSERT")]
    assert [type(event.exception) for event in writes] == [type(None), errors.Conflict]


# Binding


def test_outside_any_store_models_say_so(books: Store) -> None:
    query = Author.select().where(Author.name == "x")
    context = threading.Thread(target=lambda: results.append(outside(query)))
    results: list[Any] = []
    context.start()
    context.join()
    assert results == [6]


def outside(query: Any) -> int:
    attempts = [
        lambda: list(Author.select()),
        lambda: Author.create(name="x"),
        lambda: Author.select().count(),
        lambda: Author.update(name="y").execute(),
        lambda: Author._meta.database.atomic().__enter__(),
        lambda: Author.delete().execute(),
    ]
    refused = 0
    assert current() is None
    for attempt in attempts:
        with pytest.raises(errors.NoStore, match="with Store"):
            attempt()
        refused += 1
    assert list(query) == []  # built inside a store: stays there
    return refused


def test_a_query_built_outside_runs_in_the_store_of_its_execution(two: tuple[Store, Store]) -> None:
    query, update = Author.select(Author.name), Author.update(token="t")
    assert "SELECT" in str(query)
    with pytest.raises(errors.NoStore):
        list(query.clone())
    for each in two:
        with each.bound():
            assert [row.name for row in query.clone()] == [Path(each.path).stem]
            assert update.clone().execute() == 1


def paths(store: Store) -> dict[str, Any]:
    """What every way into Peewee sees of a store."""
    stem = Path(store.path).stem
    author = Author.get(Author.name == stem)
    book = Book.create(author=author, title=stem)
    with Author._meta.database.atomic():
        Book.insert_many([{"author": author, "title": f"{stem}{n}"} for n in range(3)]).execute()
    seen = {
        "select": [row.name for row in Author],
        "get": Author[author.id].name,
        "count": Book.select().count(),
        "iterator": [row.title[0] for row in Book.select().iterator()],
        "raw": [row.name for row in Author.raw("SELECT * FROM author")],
        "join": [row.author.name for row in Book.select(Book, Author).join(Author)],
        "backref": [row.title[0] for row in author.books],
        "lazy": Book[book.id].author.name,
        "prefetch": [len(row.books) for row in peewee.prefetch(Author.select(), Book)],
        "table": list(Author._meta.table.select(peewee.SQL("name")).tuples()),
        "alias": [row.name for row in Author.alias().select()],
        "exists": Author.table_exists(),
        "updated": Author.update(token="t").execute(),
        "saved": book.save(only=[Book.title]),
        "deleted": Book.delete().execute(),
    }
    return seen


def expected(store: Store) -> dict[str, Any]:
    stem = Path(store.path).stem
    four = [stem] * 4
    return {
        **{"select": [stem], "get": stem, "count": 4, "iterator": four, "raw": [stem], "join": four},
        **{"backref": four, "lazy": stem, "prefetch": [4], "table": [(stem,)]},
        **{"alias": [stem], "exists": True},
        **{"updated": 1, "saved": 1, "deleted": 4},
    }


def test_every_way_into_peewee_follows_the_current_store(two: tuple[Store, Store]) -> None:
    a, b = two
    with a.bound():
        assert paths(a) == expected(a)
        with b.bound():
            assert paths(b) == expected(b)
        assert paths(a) == expected(a)


def test_threads_and_tasks_each_have_their_store(two: tuple[Store, Store]) -> None:
    def threaded(store: Store) -> None:
        for _ in range(10):
            with store.bound():
                assert paths(store) == expected(store)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(threaded, each) for each in two]:
            done.result()

    async def task(store: Store) -> None:
        for _ in range(10):
            with store.bound():
                await asyncio.sleep(0)
                assert paths(store) == expected(store)
                await asyncio.sleep(0)
                assert current() is store.database

    async def both() -> None:
        await asyncio.gather(*(task(each) for each in two))
        with two[0].bound():  # to_thread copies the context, the thread gets its own connection
            assert await asyncio.to_thread(paths, two[0]) == expected(two[0])

    asyncio.run(both())


def test_binding_by_hand_is_refused(two: tuple[Store, Store]) -> None:
    a, b = two
    other = peewee.SqliteDatabase(":memory:")
    for attempt in (
        lambda: Author.bind(b.database),
        lambda: Author.bind_ctx(b.database),
        lambda: other.bind([Author]),
        lambda: other.bind_ctx([Author]).__enter__(),
        lambda: Author._meta.set_database(other),
        lambda: setattr(Author._meta, "database", other),
        lambda: type("Bound", (Base,), {"Meta": type("Meta", (), {"database": other})}),
    ):
        with a.bound(), pytest.raises(errors.BindRefused, match="with store"):
            attempt()


def test_a_model_defined_inside_a_store_is_not_tied_to_it(two: tuple[Store, Store]) -> None:
    a, b = two
    with a.bound():
        model = type("Author", (Base,), {"name": peewee.TextField()})
    with b.bound():
        assert model.get().name == "b"


def test_a_row_is_not_used_in_another_store(two: tuple[Store, Store]) -> None:
    a, b = two
    with a.bound():
        author = Author.get()
        book = Book.create(author=author, title="of a")
        book = Book.get()
        with b.bound():
            author.name = "z"
            follow = (lambda: book.author, lambda: author.books)
            for attempt in (author.save, author.delete_instance, *follow):
                with pytest.raises(errors.WrongStore, match="its own"):
                    attempt()
            assert Author.get().name == "b"
        author.save()
        assert book.author.name == "z"


def test_leaving_stores_out_of_order_restores_the_right_one(two: tuple[Store, Store]) -> None:
    a, b = two
    first, second = a.bound(), b.bound()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert current() is b.database
    second.__exit__()
    assert current() is None


def test_a_store_closes_when_its_outermost_block_ends(db_path: Path) -> None:
    store = Store(db_path)
    with store:
        with store:
            pass
        assert not store.closed
        assert store.database.pragma("user_version") == SCHEMA_VERSION
    assert store.closed and "closed" in repr(store)
    store.close()
    for attempt in (
        lambda: store.__enter__(),
        lambda: store.bound().__enter__(),
        lambda: store.database.execute_sql("SELECT 1"),
        lambda: store.transaction().__enter__(),
    ):
        with pytest.raises(errors.StoreClosed, match="open it again"):
            attempt()
    assert current() is None


class Things(Domain):
    def names(self) -> list[str]:
        return [row.name for row in Author.select()]

    def stream(self) -> Iterator[str]:
        try:
            for row in Author.select().iterator():
                yield row.name
                assert current() is self.db
        finally:
            self.closed_in = current()


def test_domain_methods_run_in_their_own_store(two: tuple[Store, Store]) -> None:
    a, b = two
    assert Things(a.database).names() == ["a"]
    with b.bound():
        things = Things(a.database)
        assert things.names() == ["a"]
        stream = things.stream()
        assert next(stream) == "a"
        assert current() is b.database
        assert list(stream) == []
        abandoned = things.stream()
        next(abandoned)
        abandoned.close()
        assert things.closed_in is a.database
        assert current() is b.database


# Threads


def test_a_thread_sees_what_another_committed_only(books: Store) -> None:
    def count() -> int:
        with books.bound():
            return Author.select().count()

    with ThreadPoolExecutor(1) as pool, books.transaction():
        Author.create(name="x")
        assert pool.submit(count).result() == 0
    assert count() == 1


def descriptors(path: Path) -> int:
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(os.path.islink(link) and os.readlink(link).startswith(str(path)) for link in links)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_connections_of_ended_threads_are_closed(store: Store, db_path: Path) -> None:
    before = descriptors(db_path)
    for _ in range(20):
        thread = threading.Thread(target=store.database.pragma, args=("user_version",))
        thread.start()
        thread.join()
    gc.collect()
    assert descriptors(db_path) <= before + 1  # SQLite keeps one back while the process holds a lock


def test_close_closes_the_connections_of_all_threads(db_path: Path) -> None:
    store, ready, closed = Store(db_path), threading.Event(), threading.Event()
    caught: list[BaseException] = []

    def work() -> None:
        store.database.pragma("user_version")
        ready.set()
        closed.wait()
        try:
            store.database.pragma("user_version")
        except errors.StoreClosed as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    store.close()
    assert os.listdir(db_path.parent) == ["scan.db"]  # the last connection takes the log with it
    closed.set()
    thread.join()
    assert len(caught) == 1


# Tasks


def test_tasks_of_one_thread_do_not_mix_in_a_transaction(books: Store) -> None:
    async def main() -> None:
        inside, tried = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with books.transaction():
                Author.create(name="first")
                inside.set()
                await tried.wait()
                Author.create(name="first again")

        async def second() -> None:
            await inside.wait()
            for attempt in (
                lambda: Author.create(name="second"),
                lambda: Author.select().count(),
                lambda: books.transaction().__enter__(),
                lambda: books.database.transaction().__enter__(),
            ):
                with pytest.raises(errors.WrongTask, match="another task"):
                    attempt()
            tried.set()

        await asyncio.gather(first(), second())
        Author.create(name="after")

    asyncio.run(main())
    assert [row.name for row in Author.select()] == ["first", "first again", "after"]


# Forks


def refused(action: Any) -> Any:
    """An action for a child that must be refused the file."""

    def attempt() -> None:
        with pytest.raises(errors.StorageError, match="when this process was forked"):
            action()

    return attempt


def test_a_fork_closes_idle_connections_and_both_sides_open_new_ones(books: Store, db_path: Path) -> None:
    Author.create(name="before")
    assert books.database._connections

    def work() -> None:
        assert not books.database._connections
        Author.create(name="child")
        assert books.check() == []

    assert in_child(work) == 0
    assert not books.database._connections
    Author.create(name="parent")
    assert {row.name for row in Author.select()} == {"before", "child", "parent"}
    assert books.check() == []


def test_a_child_refuses_the_file_when_the_fork_was_inside_a_transaction(books: Store, db_path: Path) -> None:
    """The transaction is larger than the cache, so its pages are in the log already."""
    books.database.execute_sql("PRAGMA cache_size=10")
    with books.transaction():
        Author.insert_many([{"name": f"{number:05}" * 20} for number in range(3000)]).execute()
        assert in_child(refused(Author.select().count)) == 0
        assert in_child(refused(lambda: Store(db_path))) == 0
        assert in_child(refused(lambda: Store(db_path, read_only=True))) == 0
        linked = db_path.with_name("linked.db")
        os.link(db_path, linked)
        assert in_child(refused(lambda: Store(linked))) == 0
        with Store(db_path.with_name("other.db")):  # other files are none of its business
            pass
        Author.create(name="parent")
    assert Author.select().count() == 3001
    assert books.database.pragma("integrity_check") == "ok"


def test_a_child_refuses_the_file_when_the_fork_was_inside_a_query(books: Store) -> None:
    Author.insert_many([{"name": str(number)} for number in range(50)]).execute()
    rows = iter(books.database.execute_sql("SELECT name FROM author ORDER BY id"))
    assert next(rows) == ("0",)
    assert in_child(refused(Author.select().count)) == 0
    assert len(list(rows)) == 49, "the parent reads on"
    assert in_child(lambda: Author.select().count() == 50 or os._exit(2)) == 0


@pytest.mark.parametrize("busy", [False, True])
def test_a_child_refuses_the_file_when_another_thread_has_a_connection(books: Store, busy: bool) -> None:
    """Idle or not: the child does not hang, and what the thread writes is unharmed."""
    inside, forked = threading.Event(), threading.Event()

    def work() -> None:
        with books.bound():
            books.database.execute_sql("PRAGMA cache_size=10")
            if not busy:
                inside.set()
                forked.wait()
            with books.transaction():
                Author.insert_many([{"name": f"{number:05}" * 20} for number in range(3000)]).execute()
                if busy:
                    inside.set()
                    forked.wait()
                assert Author.select(Author.name).distinct().count() == 3000
                Author.insert_many([{"name": f"b{number:05}" * 20} for number in range(3000)]).execute()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        inside.wait()
        assert in_child(gc.collect) == 0
        assert in_child(refused(Author.select().count)) == 0
        assert in_child(refused(lambda: Store(books.path))) == 0
        forked.set()
        done.result()
    assert Author.select().count() == 6000
    assert books.database.pragma("integrity_check") == "ok"


def test_the_end_of_a_child_leaves_the_parents_transaction_alone(db_path: Path) -> None:
    """A child that ends as any program does, with all that the interpreter tidies up then."""
    code = """
import gc, os, sys
from scanstore import Store
store = Store(sys.argv[1])
store.database.execute_sql("PRAGMA cache_size=10")
with store.transaction():
    for n in range(300):
        store.settings[f"a{n}"] = "x" * 2000
    child = os.fork()
    if child == 0:
        del store
        gc.collect()
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for n in range(300):
        store.settings[f"b{n}"] = "x" * 2000
assert len(list(store.settings)) == 600 and store.check() == []
store.close()
"""
    done = run(code, db_path)
    assert (done.returncode, done.stderr) == (0, "")
    with Store(db_path) as store:
        assert len(list(store.settings)) == 600 and store.check() == []


def test_a_child_keeps_its_store_when_the_parent_closes_its_own(db_path: Path) -> None:
    store = Store(db_path)
    with store.bound():
        store.database.create_tables([Author, Book])
        Author.create(name="before")
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with store.bound():
                assert Author.select().count() == 1
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                Author.create(name="child")
                os._exit(0)
        finally:
            os._exit(1)
    os.close(ready[1])
    assert os.read(ready[0], 1) == b"x"
    store.close()
    assert os.path.exists(f"{db_path}-wal"), "the log was removed although the child uses it"
    os.write(go[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with Store(db_path):
        assert {row.name for row in Author.select()} == {"before", "child"}


def test_a_child_that_leaves_the_parents_blocks_changes_nothing(books: Store, db_path: Path) -> None:
    child = -1
    try:
        with books.transaction():
            Author.create(name="parent")
            child = os.fork()
            if child == 0:
                raise ZeroDivisionError
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            Author.create(name="parent again")
    except ZeroDivisionError:
        os._exit(0 if child == 0 and books.database.transaction_depth() == 0 else 1)
    assert {row.name for row in Author.select()} == {"parent", "parent again"}


def test_a_child_may_open_the_same_file_anew(books: Store, db_path: Path) -> None:
    Author.create(name="parent")

    def action() -> None:
        with Store(db_path, timeout=1) as mine:
            with mine.transaction():
                Author.create(name="child")

    with books.transaction():
        pass
    assert in_child(action) == 0
    assert {row.name for row in Author.select()} == {"parent", "child"}


def test_children_and_parent_write_at_once(books: Store) -> None:
    def work(who: int) -> None:
        for number in range(50):
            with books.transaction():
                Author.create(name=f"{who} {number}", meta=Author.select().count())

    children = []
    for who in range(3):
        child = os.fork()
        if child == 0:
            try:
                work(who)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    work(99)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert sorted(row.meta for row in Author.select()) == list(range(200))


# Memory


def test_memory_is_private_to_its_store_and_leaves_nothing() -> None:
    with Store(":memory:") as a, Store(":memory:") as b:
        folder = os.path.dirname(a.database.file)
        assert (a.path, repr(a)) == (":memory:", "<Store :memory:>")
        assert needs.is_private(folder, 0o700)
        for each in (a, b):
            with each.bound():
                each.database.create_tables([Author])
                Author.create(name=str(each is a))

        def names() -> list[str]:
            with a.bound():
                return [row.name for row in Author.select()]

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(names).result() == names() == ["True"]
        assert in_child(lambda: names() == ["True"] or os._exit(1)) == 0
        assert names() == ["True"]
    assert not os.path.exists(folder)


def test_memory_is_tidied_up_when_it_was_never_closed() -> None:
    code = "from scanstore.store import Store; print(Store(':memory:').database.file)"
    assert not os.path.exists(run(code).stdout.strip())


# The base model and the fields


def test_to_dict_and_repr_keep_secrets_and_query_nothing(books: Store) -> None:
    author = Author.create(name="x", token="secret", key=uuid.UUID(int=1), digest="AB", meta={"a": [1]})
    book = Book.create(author=author, title="t")
    events: list[Any] = []
    books.database.query_hooks.append(events.append)
    seen = author.to_dict()
    assert json.loads(json.dumps(seen)) == seen
    assert "token" not in seen and author.to_dict(secrets=True)["token"] == "secret"
    assert seen["key"] == str(uuid.UUID(int=1)) and seen["state"] == "new" and seen["meta"] == {"a": [1]}
    assert Book(author=1, title="t").to_dict() == {"id": None, "author": 1, "title": "t"}
    assert (repr(author), repr(book)) == ("<Author 1 'x'>", "<Book 1 't'>")
    assert "secret" not in repr(author) + str(author)
    assert not events


def test_save_writes_changed_fields_only(books: Store) -> None:
    Author.create(name="x", token="old")
    stale, fresh = Author.get(), Author.get()
    fresh.token = "new"
    fresh.save()
    stale.name = "y"
    assert stale.save() == 1
    assert (Author.get().name, Author.get().token) == ("y", "new")


def test_times_are_fixed_width_utc_text_that_sorts(books: Store) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    times = [
        datetime(2026, 1, 1, 5, 30, tzinfo=east),
        datetime(2026, 1, 1, 0, 0, 0, 5000, UTC),
        datetime(999, 1, 1, tzinfo=UTC),
    ]
    for number, time in enumerate(times):
        Author.create(name=str(number), seen=time)
    rows = books.database.execute_sql("SELECT seen FROM author ORDER BY id").fetchall()
    texts = ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.005Z", "0999-01-01T00:00:00.000Z"]
    assert [row[0] for row in rows] == texts
    assert [row.name for row in Author.select().order_by(Author.seen)] == ["2", "0", "1"]
    assert [row.name for row in Author.select().where(Author.seen > times[0])] == ["1"]
    assert Author.get(Author.name == "0").seen == times[0]
    assert Author.get(Author.name == "0").seen.tzinfo is UTC
    assert Author.get(Author.seen == "2026-01-01T00:00:00Z").name == "0"
    for bad in (datetime(2026, 1, 1), "2026-01-01T00:00:00", "yesterday", 5):
        with pytest.raises(errors.InvalidArgument):
            Author.create(name="bad", seen=bad)
        with pytest.raises(errors.InvalidArgument):
            list(Author.select().where(Author.seen > bad))
    assert Author.create(name="now").seen == Author.get(Author.name == "now").seen


def test_json_is_compact_exact_and_refuses_what_it_cannot_say(books: Store) -> None:
    values: list[Any] = [{"é": [1, 2.5, None, True], "n": {}}, [], "text", 0, False, "", {"lone": "\ud800"}]
    for number, value in enumerate(values):
        Author.create(name=str(number), meta=value)
    assert [row.meta for row in Author.select().order_by(Author.id)] == values
    rows = books.database.execute_sql("SELECT meta, typeof(meta), json_valid(meta) FROM author").fetchall()
    assert rows[0] == ('{"é":[1,2.5,null,true],"n":{}}', "text", 1)
    recursive: list[Any] = []
    recursive.append(recursive)
    for bad in (math.nan, math.inf, {1, 2}, object(), recursive):
        with pytest.raises(errors.InvalidArgument, match="JSON"):
            Author.create(name="bad", meta=bad)
    Author.update(meta=Author.meta["n"].set({"k": 1})).where(Author.name == "0").execute()
    assert Author.get(Author.name == "0").meta["n"] == {"k": 1}
    assert [row.name for row in Author.select().where(Author.meta["n"]["k"] == 1)] == ["0"]
    assert [row.name for row in Author.select().where(Author.meta == [])] == ["1"]


def test_enums_take_any_case_and_refuse_strangers(books: Store) -> None:
    Author.create(name="x", state="DONE")
    assert Author.get(Author.state == "Done").state == "done"
    with pytest.raises(errors.InvalidArgument, match="state is 'gone'.*new, done"):
        Author.create(name="y", state="gone")
    with pytest.raises(errors.InvalidArgument):
        Author.update(state=5).execute()


def test_uuids_are_text_of_36(books: Store) -> None:
    key = uuid.uuid4()
    Author.create(name="x", key=key)
    assert Author.get(Author.key == str(key).upper()).key == key
    assert books.database.execute_sql("SELECT key FROM author").fetchone() == (str(key),)
    with pytest.raises(errors.InvalidArgument):
        Author.create(name="y", key="nonsense")


@pytest.mark.parametrize(
    ("given", "read", "kind"),
    [
        ("ab" * 32, "ab" * 32, "blob"),
        ("AB12", "ab12", "blob"),
        (b"\x00\xff", "00ff", "blob"),
        ("abc", "abc", "text"),
        ("sha256:ab", "sha256:ab", "text"),
        ("a b c ", "a b c ", "text"),
        ("", "", "text"),
        ("١٢", "١٢", "text"),
    ],
)
def test_hashes_are_bytes_inside_and_text_outside(books: Store, given: Any, read: str, kind: str) -> None:
    Author.create(name="x", digest=given)
    assert Author.get(Author.digest == given).digest == read
    assert books.database.execute_sql("SELECT typeof(digest) FROM author").fetchone() == (kind,)
    with pytest.raises(errors.InvalidArgument):
        Author.create(name="y", digest=5)
