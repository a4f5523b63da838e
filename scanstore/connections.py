"""The connections of a store, which raise scanstore's errors, and what closes one when its thread ends.

Change here: how SQLite's connection class is adapted. Pragmas are set in database.py.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from scanstore import file_identity
from scanstore.files import Tracked
from scanstore.troubles import TROUBLE, translated


class Cursor(sqlite3.Cursor):
    """A cursor whose fetches raise scanstore's errors: SQLite may notice trouble at any row."""

    connection: Connection

    def fetchone(self) -> Any:
        try:
            return super().fetchone()
        except TROUBLE as error:
            raise translated(error, self.connection.name) from error

    def fetchmany(self, size: int | None = 100) -> list[Any]:
        try:
            return super().fetchmany(size)
        except TROUBLE as error:
            raise translated(error, self.connection.name) from error

    def fetchall(self) -> list[Any]:
        try:
            return super().fetchall()
        except TROUBLE as error:
            raise translated(error, self.connection.name) from error

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except TROUBLE as error:
            raise translated(error, self.connection.name) from error


class Fetched:
    """The rows of a statement that writes and returns some, read at once.

    SQLite commits such a statement with its last row. An interrupt before that would leave it, and what is written
    after it, uncommitted for as long as its traceback lives.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._rows = iter(cursor.fetchall())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def __next__(self) -> Any:
        return next(self._rows)

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int | None = 100) -> list[Any]:
        return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        return list(self._rows)


class Connection(Tracked):
    """A connection that knows the name of its store."""

    name = ""

    def cursor(self, factory: Any = Cursor) -> Any:
        return super().cursor(factory)


class Holder:
    """Closes a thread's connection when the thread ends: it lives in that thread's storage only."""

    __slots__ = ("connection", "connections", "pid", "watch")

    def __init__(
        self, connection: Connection, connections: dict[int, Connection], watch: file_identity.Watch | None
    ) -> None:
        self.connection, self.connections, self.watch, self.pid = connection, connections, watch, os.getpid()

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if self.pid == getpid() and self.connections.pop(id(self.connection), None) is not None:
            file_identity.close(self.connection, self.watch)
