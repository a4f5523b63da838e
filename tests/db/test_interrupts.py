"""What an interrupt leaves behind: each kind of block that it may keep from ending, and how the next use finds it."""

from __future__ import annotations

import contextlib
import gc
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from scanstore import StorageError, Store
from scanstore.analysis.calls import Call
from scanstore.db import blocks, transactions
from scanstore.db import current as binding
from scanstore.db.database import current
from scanstore.db.files import limited
from scanstore.library.sync import Sync
from scanstore.llm.slots import Slot
from scanstore.models import ModelCall, SyncRun

# An interrupt in a generator that is being closed has nowhere to go: Python says so and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def interrupted(call: Callable[[], object], function: Any) -> None:
    """Run a call in which a function raises KeyboardInterrupt instead of running its first line."""
    struck = []

    def trace(frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code is function.__code__:
            struck.append(event)
            raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        assert struck, "it did not come by there"


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a second interrupt struck before the call-back, which rolls back at once, has done anything."""
    monkeypatch.setattr(transactions.Atomic, "_abandoned", lambda self, _: None)


LEAVE = transactions.Atomic.__exit__


def lockable(store: Store) -> bool:
    other = sqlite3.connect(store.path, timeout=0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        return True
    except sqlite3.OperationalError:
        return False
    finally:
        other.close()


def seen(store: Store) -> set[str]:
    other = sqlite3.connect(store.path)
    try:
        return {name for (name,) in other.execute("SELECT key FROM settings")}
    finally:
        other.close()


def write(store: Store, name: str) -> Callable[[], None]:
    def call() -> None:
        with store.transaction():
            store.settings[name] = 1

    return call


# Transactions


def test_no_later_write_joins_an_abandoned_transaction(store: Store) -> None:
    try:
        interrupted(write(store, "lost"), LEAVE)
    except KeyboardInterrupt:  # with its traceback alive, which holds the frames
        assert lockable(store), "others are not blocked"
        store.settings["single"] = 1
        with store.transaction():
            store.settings["both"] = 1
        assert seen(store) == {"single", "both"}
    assert store.settings.to_dict() == {"single": 1, "both": 1}


@pytest.mark.parametrize("use", ["statement", "begin", "session", "look", "close"])
def test_the_next_use_repairs_what_a_second_interrupt_left(store: Store, use: str, twice: None) -> None:
    db = store.database
    with contextlib.suppress(KeyboardInterrupt):
        interrupted(write(store, "lost"), LEAVE)
    assert db._state.conn.in_transaction and not lockable(store)
    if use == "statement":
        store.settings["next"] = 1
    elif use == "begin":
        write(store, "next")()
    elif use == "session":
        db.session_start()
        store.settings["next"] = 1
        assert db.session_commit()
    elif use == "look":
        assert not db.in_transaction() and not db.in_sqlite_transaction() and db.top_transaction() is None
    else:
        db.close()
    assert lockable(store) and seen(store) <= {"next"}
    assert "lost" not in store.settings


def test_an_abandoned_savepoint_is_rolled_back_and_the_transaction_goes_on(store: Store) -> None:
    with store.transaction():
        store.settings["outer"] = 1
        with contextlib.suppress(KeyboardInterrupt):
            interrupted(write(store, "inner"), LEAVE)
        store.settings["more"] = 1
    assert seen(store) == {"outer", "more"}


def test_a_commit_does_not_take_an_abandoned_savepoint_along(store: Store, twice: None) -> None:
    with store.transaction():
        store.settings["outer"] = 1
        with contextlib.suppress(KeyboardInterrupt):
            interrupted(write(store, "inner"), LEAVE)
    assert seen(store) == {"outer"}


def test_blocks_inside_an_abandoned_one_go_with_it(store: Store) -> None:
    """A generator goes on in a block that was begun inside; it cannot pretend that its work is kept."""

    def steps() -> Iterator[None]:
        with store.transaction():
            store.settings["inner"] = 1
            yield

    generator = steps()

    def outer() -> None:
        with store.transaction():
            next(generator)

    with contextlib.suppress(KeyboardInterrupt):
        interrupted(outer, LEAVE)
    assert lockable(store)
    with pytest.raises(StorageError, match="rolled back before its block ended"):
        next(generator)
    assert seen(store) == set()


def test_a_block_that_goes_on_is_not_committed_by_the_one_around_it(store: Store) -> None:
    def steps() -> Iterator[None]:
        with store.transaction():
            store.settings["inner"] = 1
            yield

    generator = steps()
    with store.transaction():
        store.settings["outer"] = 1
        next(generator)
    assert seen(store) == {"outer"}
    with pytest.raises(StorageError, match="run the block again"):
        next(generator)


def test_a_generator_that_waits_inside_its_transaction_is_not_taken_for_abandoned(store: Store) -> None:
    def steps() -> Iterator[None]:
        with store.transaction():
            store.settings["first"] = 1
            yield
            store.settings["second"] = 1

    generator = steps()
    next(generator)
    store.settings["between"] = 1  # joins it, as ever
    assert seen(store) == set()
    assert list(generator) == []
    assert seen(store) == {"first", "second", "between"}
    generator = steps()
    next(generator)
    del generator  # left in the middle
    assert lockable(store) and not store.database.in_transaction()


@pytest.mark.parametrize("kind", ["transaction", "savepoint", "database", "decorator", "manual"])
def test_each_of_peewees_blocks(store: Store, kind: str) -> None:
    db = store.database

    def call() -> None:
        if kind == "transaction":
            with db.transaction():
                store.settings["lost"] = 1
        elif kind == "savepoint":
            with db.savepoint():
                store.settings["lost"] = 1
        elif kind == "database":
            with db:
                store.settings["lost"] = 1
        elif kind == "decorator":
            db.atomic()(lambda: store.settings.__setitem__("lost", 1))()
        else:
            with db.manual_commit():
                db.begin()
                store.settings["lost"] = 1

    leave = {
        "transaction": transactions.Transaction.__exit__,
        "savepoint": transactions.Savepoint.__exit__,
        "database": type(db).__exit__,
        "decorator": LEAVE,
        "manual": transactions.Manual.__exit__,
    }[kind]
    with contextlib.suppress(KeyboardInterrupt):
        interrupted(call, leave)
    assert lockable(store)
    write(store, "next")()
    assert seen(store) == {"next"}
    assert db._state.transactions == [] and db._state.ctx == []


def test_an_exception_ends_what_was_begun_by_hand_in_manual_mode(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.database.manual_commit():
        store.database.begin()
        store.settings["lost"] = 1
        raise KeyboardInterrupt
    store.settings["next"] = 1
    assert seen(store) == {"next"}


def test_a_savepoint_by_itself_ends_with_an_exception(store: Store) -> None:
    with pytest.raises(KeyError), store.database.savepoint():
        store.settings["lost"] = 1
        raise KeyError
    assert lockable(store) and not store.database.in_sqlite_transaction()


def test_what_is_begun_by_hand_stays_the_callers(store: Store) -> None:
    db = store.database
    db.execute_sql("BEGIN IMMEDIATE")
    store.settings["mine"] = 1
    gc.collect()
    assert db.in_sqlite_transaction() and seen(store) == set()
    db.execute_sql("COMMIT")
    db.session_start()
    store.settings["session"] = 1
    assert db.in_transaction() and seen(store) == {"mine"}
    assert db.session_rollback() and not db.session_rollback()
    with contextlib.ExitStack() as stack:
        stack.enter_context(db.atomic())
        store.settings["stack"] = 1
    assert seen(store) == {"mine", "stack"}


def test_an_interrupted_session_is_not_joined(store: Store) -> None:
    db = store.database
    db.session_start()
    store.settings["lost"] = 1
    with contextlib.suppress(KeyboardInterrupt):
        interrupted(db.session_commit, type(db).commit)
    store.settings["next"] = 1
    assert seen(store) == {"next"}


def test_a_thread_that_dies_with_a_transaction_open(store: Store) -> None:
    def work() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            interrupted(write(store, "lost"), LEAVE)
        store.database.execute_sql("BEGIN IMMEDIATE")
        store.settings["by hand"] = 1

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert lockable(store) and seen(store) == set()


# What else is undone


def test_an_interrupted_merge_leaves_nothing_attached(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path / "other.db") as other:
        other.settings["theirs"] = 1
    for function in (blocks.Scope.__exit__, LEAVE):
        with contextlib.suppress(KeyboardInterrupt):
            interrupted(lambda: store.merge(tmp_path / "other.db"), function)
        names = {name for _, name, _ in store.database._state.conn.execute("PRAGMA database_list")}
        assert names <= {"main", "temp"}
    store.database.execute_sql("ATTACH ? AS other", (str(tmp_path / "other.db"),))  # as after two interrupts
    assert store.merge(tmp_path / "other.db") is not None


def test_the_current_store_is_restored(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "one.db"), Store(tmp_path / "two.db")
    with one.bound():
        with contextlib.suppress(KeyboardInterrupt):
            interrupted(lambda: two.settings.__setitem__("x", 1), binding.Bound.__exit__)
        assert current() is one.database
    assert current() is None
    one.close()
    two.close()


def test_a_store_whose_block_was_interrupted_is_closed_by_the_next_block(tmp_path: Path) -> None:
    store = Store(tmp_path / "scan.db")

    def call() -> None:
        with store:
            store.settings["x"] = 1

    with contextlib.suppress(KeyboardInterrupt):
        interrupted(call, Store.__exit__)
    assert current() is None and not store.closed
    call()
    assert store.closed


def test_a_place_a_call_and_a_sync_are_ended(store: Store) -> None:
    store.llm.add("m", max_concurrent=1)

    def slot() -> None:
        with store.llm.slot("m", timeout=0):
            pass

    def call() -> None:
        with store.llm.call("m", purpose="analysis") as going:
            going.response = "paid for"

    def sync() -> None:
        with store.library.sync("scene"):
            pass

    for block, manager in ((slot, Slot), (call, Call), (sync, Sync)):
        with contextlib.suppress(KeyboardInterrupt):
            interrupted(block, getattr(manager.__exit__, "__wrapped__", manager.__exit__))
        block()  # nothing is in its way
    assert [row.status for row in store.llm.calls()] == ["answered"] * 2
    assert ModelCall.select().where(ModelCall.status == "running").count() == 0
    assert [row.status for row in SyncRun.select().order_by(SyncRun.id)] == ["failed", "completed"]


def test_a_scope_is_undone_however_it_is_left() -> None:
    told: list[str] = []

    def use() -> None:
        with blocks.Scope(lambda: told.append("begin"), lambda: told.append("undo")):
            told.append("inside")

    use()
    assert told == ["begin", "inside", "undo"]
    told.clear()
    with pytest.raises(KeyboardInterrupt):
        interrupted(use, blocks.Scope.__exit__)
    assert told == ["begin", "inside", "undo"]


def test_a_generators_block_is_undone_at_once() -> None:
    told: list[str] = []

    @blocks.contextmanager
    def managed() -> Iterator[int]:
        try:
            yield 1
        finally:
            told.append("undone")

    def use() -> None:
        with managed() as value:
            assert value == 1

    use()
    try:
        interrupted(use, blocks._Steps.__exit__)
    except KeyboardInterrupt:
        assert told == ["undone", "undone"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers of POSIX")
def test_an_interrupt_while_sqlite_asks_for_the_time_stays_one() -> None:
    """SQLite takes whatever the handler of its progress raises for a wish to stop."""

    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    before = signal.signal(signal.SIGALRM, strike)
    try:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection, pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with limited(connection, "x", 20):
                connection.execute(endless).fetchall()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
