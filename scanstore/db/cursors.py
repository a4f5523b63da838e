"""The connections and cursors of a store, which raise SQLite's errors as scanstore's errors.

Change here: how SQLite's classes are adapted. Pragmas are set in ``database``.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

from scanstore.db import forks
from scanstore.db.sqlite_errors import TROUBLE, translated
from scanstore.errors import StoreClosed

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Named(Protocol):
        """A connection to a store, of any driver."""

        name: str
        cursors: Cursors


# Python 3.12.0 to 3.12.3 warn about "?1" with a list of values; 3.12.4 removed the warning, because "?1" has no name.
_WARNS = (3, 12, 0) <= sys.version_info < (3, 12, 4)
_NUMBERED = re.compile(r"\?\d")
_PLACES = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|\?(\d*)")


def numbered(sql: str, values: Any, *, many: bool = False) -> tuple[str, Any]:
    """Return a statement with numbered placeholders, and its values or those of each run, so that no Python version
    warns.
    """
    if not _WARNS or _NUMBERED.search(sql) is None or isinstance(values, Mapping):
        return sql, values
    return _named(sql), map(_by_name, values) if many else _by_name(values)


@lru_cache(maxsize=256)
def _named(sql: str) -> str:
    most = 0

    def name(found: re.Match[str]) -> str:
        nonlocal most
        if found[1] is None:  # a text, a name or a comment
            return found[0]
        number = int(found[1] or most + 1)
        most = max(most, number)
        return f":_{number}"

    return _PLACES.sub(name, sql)


def _by_name(values: Sequence[object]) -> dict[str, object]:
    return {f"_{number}": value for number, value in enumerate(values, 1)}


def trouble(error: sqlite3.Error | UnicodeDecodeError, connection: Named) -> Exception:
    """Return the error to raise for an SQLite error of a cursor."""
    if connection.cursors.closed and isinstance(error, sqlite3.ProgrammingError):
        return StoreClosed(f"{connection.name} was closed; open it again")
    return translated(error, connection.name)


class Cursor(sqlite3.Cursor):
    """A cursor whose fetches raise scanstore's errors. SQLite can detect an error at any row."""

    connection: Connection

    def fetchone(self) -> Any:
        try:
            return super().fetchone()
        except TROUBLE as error:
            raise trouble(error, self.connection) from error

    def fetchmany(self, size: int | None = 100) -> list[Any]:
        try:
            return super().fetchmany(size)
        except TROUBLE as error:
            raise trouble(error, self.connection) from error

    def fetchall(self) -> list[Any]:
        try:
            return super().fetchall()
        except TROUBLE as error:
            raise trouble(error, self.connection) from error

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except TROUBLE as error:
            raise trouble(error, self.connection) from error


class Fetched:
    """The rows of a writing statement with ``RETURNING``, read immediately.

    SQLite commits such a statement when its last row is read. After an interrupt before that, it and all later writes
    would stay uncommitted until the traceback is released.
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


class Cursors:
    """The open cursors of a connection, which are closed with it."""

    __slots__ = ("_most", "_references", "closed")

    def __init__(self) -> None:
        self.closed = False  #: closed with their connection
        self._references: list[weakref.ref[sqlite3.Cursor]] = []
        self._most = 64

    def add(self, cursor: sqlite3.Cursor) -> None:
        references = self._references
        references.append(weakref.ref(cursor))
        if len(references) > self._most:  # most of them are gone
            references[:] = [reference for reference in references if reference() is not None]
            self._most = 64 + 2 * len(references)

    def close(self) -> None:
        """Discard unread rows: SQLite keeps a file open and locked until its last statement has ended."""
        self.closed = True
        for reference in self._references:
            if (cursor := reference()) is not None:
                with suppress(sqlite3.ProgrammingError):  # another thread executes it now
                    cursor.close()
        self._references.clear()


class Tracked(sqlite3.Connection):
    """A connection that is registered in :mod:`scanstore.db.forks` while it is open."""

    def close(self) -> None:
        super().close()
        forks.closed(self)


class Connection(Tracked):
    """A connection that knows the name of its store."""

    name = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.cursors = Cursors()
        super().__init__(*args, **options)

    def cursor(self, factory: Any = Cursor) -> Any:
        made = super().cursor(factory)
        self.cursors.add(made)
        return made

    def close(self) -> None:
        self.cursors.close()
        super().close()
