"""Waiting for the lock of a store: for as long as was asked, and no longer; only for the lock."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from scanstore import Busy, Conflict
from scanstore.db import waiting
from scanstore.store import Store


@pytest.fixture
def holder(store: Store, db_path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else, who has the lock."""
    connection = sqlite3.connect(db_path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def test_whoever_waits_longer_than_sqlite_does_gets_its_turn(
    store: Store, holder: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 30:
                holder.execute("ROLLBACK")

    monkeypatch.setattr(waiting, "time", Clock)
    store.settings["x"] = 1
    assert store.settings["x"] == 1
    assert len(slept) == 30 and len(set(slept)) > 5, "at random intervals"
    assert all(0.0002 <= each <= 0.001 for each in slept)


def test_when_the_time_is_up_the_store_is_busy(db_path: Path, holder: sqlite3.Connection) -> None:
    for timeout in (0, 0.2):
        with Store(db_path, timeout=timeout) as other:
            start = time.monotonic()
            with pytest.raises(Busy, match="locked by another writer"):
                other.settings["x"] = 1
            assert timeout <= time.monotonic() - start < timeout + 5
            assert not other.database.in_sqlite_transaction()


def test_only_the_lock_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "time", None)  # any waiting would raise AttributeError
    store.settings["x"] = 1
    with pytest.raises(Conflict):
        store.database.execute_sql("INSERT INTO settings (key, value) VALUES ('x', '1')")


def test_ctrl_c_ends_the_waiting(store: Store, holder: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(waiting, "time", Clock)
    with pytest.raises(KeyboardInterrupt):
        store.settings["x"] = 1
    holder.execute("ROLLBACK")
    monkeypatch.undo()
    store.settings["x"] = 2
    assert store.settings["x"] == 2


def test_many_rows_are_written_all_or_none_outside_a_transaction_too(store: Store) -> None:
    add = "INSERT INTO settings (key, value) VALUES (?, ?)"

    def rows() -> Iterator[tuple[Any, ...]]:
        yield ("a", "1")
        yield ("b", "not JSON")

    with pytest.raises(peewee.IntegrityError):
        store.database.executemany(add, rows())
    assert list(store.settings) == [] and not store.database.in_sqlite_transaction()
    store.database.executemany(add, [("a", "1"), ("b", "2")])
    seen: list[list[str]] = []
    thread = threading.Thread(target=lambda: seen.append(list(store.settings)))
    thread.start()
    thread.join()
    assert seen == [["a", "b"]], "committed"
