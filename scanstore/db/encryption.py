"""Encryption at rest with SQLCipher, an extra that only this module imports, when a store is opened with a key.

SQLCipher is SQLite with encrypted pages, including the log and the journal. Peewee's playhouse supports its driver.
This module translates the driver's errors to those of `sqlite3`, so that other modules handle one kind. The key never
appears in a message, a log or a representation.

Change here: how a key is passed to SQLCipher. Changing the key is in ``maintenance.rekeying``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar, cast

from scanstore.db import forks
from scanstore.db.cursors import Cursors, trouble
from scanstore.db.files import careful, uri
from scanstore.db.logs import Timed
from scanstore.errors import InvalidArgument, WrongKey

try:
    from playhouse.sqlcipher_ext import sqlcipher
except ImportError as missing:
    raise InvalidArgument(
        "a key needs SQLCipher, which is not installed; pip install 'scanstore[encryption]', or leave the key out"
    ) from missing

_F = TypeVar("_F", bound=Callable[..., object])
PLAIN = b"SQLite format 3\0"


def check_key(key: object) -> str:
    """Return a valid key for SQLCipher. Raises InvalidArgument, whose message does not show the key."""
    if not isinstance(key, str) or not key or "\0" in key:
        raise InvalidArgument("key is not usable; it must be text that is not empty, without NUL characters")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("key is not usable; it must be text that UTF-8 can write") from None
    return key


def connect(file: str, options: str, key: str, **more: object) -> sqlite3.Connection:
    """Open a file with a key, like ``sqlite3.connect`` without one. Raises the same errors, and InvalidArgument.

    A wrong key is detected by the first statement: SQLite then reports that the file is not a database.
    """
    more.pop("factory", None)
    check_key(key)
    try:
        connection = sqlcipher.connect(uri(file, options), uri=True, factory=_Connection, **more)
    except sqlcipher.Error as error:
        raise _as_sqlite(error) from None
    try:
        # SQLCipher's messages on stderr contain nothing beyond the error, so they are turned off.
        connection.execute("PRAGMA cipher_log_level=NONE").fetchall()
        connection.execute(f"PRAGMA key={quoted_key(key)}").fetchall()
        connection.executescript(careful(sqlcipher.connect))
    except BaseException:
        connection.close()
        raise
    forks.opened(connection, file)
    return cast(sqlite3.Connection, connection)


def wrong_key(file: str, name: str, otherwise: str = "") -> WrongKey:
    """Return the error for a file that cannot be read with the given key, with the remedies."""
    try:
        with open(file, "rb") as handle:
            plain = handle.read(len(PLAIN)) == PLAIN
    except OSError:
        plain = False
    if plain:
        return WrongKey(f"{name} is not encrypted; open it without a key, or encrypt it with: scanstore rekey")
    return WrongKey(f"{name} cannot be read with this key; give the one it was encrypted with{otherwise}")


def connect_plain(file: str, timeout: float) -> sqlite3.Connection:
    """Open an unencrypted file with the driver that can encrypt it."""
    try:
        connection = sqlcipher.connect(
            uri(file, "mode=rw"), uri=True, factory=_Connection, timeout=timeout, isolation_level=None
        )
        connection.execute("PRAGMA cipher_log_level=NONE").fetchall()
        connection.executescript(careful(sqlcipher.connect))
    except sqlcipher.Error as error:
        raise _as_sqlite(error) from None
    return cast(sqlite3.Connection, connection)


def quoted_key(key: str) -> str:
    return "'" + key.replace("'", "''") + "'"


# The driver's errors


def _as_sqlite(error: Exception) -> sqlite3.Error:
    """Return the same error of `sqlite3`, with its code."""
    same: sqlite3.Error = getattr(sqlite3, type(error).__name__, sqlite3.DatabaseError)(*error.args)
    same.sqlite_errorcode = getattr(error, "sqlite_errorcode", 0)
    same.sqlite_errorname = getattr(error, "sqlite_errorname", "")
    if same.sqlite_errorname == "SQLITE_CONSTRAINT":  # only the message names the constraint
        rule = str(error).partition(" constraint failed")[0]
        same.sqlite_errorname += f"_{rule.replace(' ', '')}"
    return same


def _raising(method: _F) -> _F:
    def call(self: object, *args: object, **kwargs: object) -> object:
        try:
            return method(self, *args, **kwargs)
        except sqlcipher.Error as error:
            raise _as_sqlite(error) from None

    return cast(_F, call)


def _fetching(method: _F) -> _F:
    def call(self: _Cursor, *args: object, **kwargs: object) -> object:
        try:
            return method(self, *args, **kwargs)
        except sqlcipher.Error as error:
            name = self.connection.name
            if not name:
                raise _as_sqlite(error) from None
            raise trouble(_as_sqlite(error), self.connection) from None

    return cast(_F, call)


class _Cursor(sqlcipher.Cursor):  # type: ignore[misc]
    execute = _raising(sqlcipher.Cursor.execute)
    executemany = _raising(sqlcipher.Cursor.executemany)
    executescript = _raising(sqlcipher.Cursor.executescript)
    fetchone = _fetching(sqlcipher.Cursor.fetchone)
    fetchmany = _fetching(sqlcipher.Cursor.fetchmany)
    fetchall = _fetching(sqlcipher.Cursor.fetchall)
    __next__ = _fetching(sqlcipher.Cursor.__next__)


class _TimedCursor(Timed, _Cursor):
    pass


class _Connection(sqlcipher.Connection):  # type: ignore[misc]
    """A connection that knows the name of its store, as `cursors.Connection` does."""

    name = ""

    def __init__(self, *args: object, **options: object) -> None:
        self.cursors = Cursors()
        super().__init__(*args, **options)

    def cursor(self, factory: object = None) -> _Cursor:
        made: _Cursor = super().cursor(_Cursor if factory is None else _TimedCursor)
        self.cursors.add(made)
        return made

    def execute(self, sql: str, parameters: object = ()) -> _Cursor:
        cursor: _Cursor = self.cursor().execute(sql, parameters)
        return cursor

    def executemany(self, sql: str, parameters: object) -> _Cursor:
        cursor: _Cursor = self.cursor().executemany(sql, parameters)
        return cursor

    def executescript(self, script: str) -> _Cursor:
        cursor: _Cursor = self.cursor().executescript(script)
        return cursor

    commit = _raising(sqlcipher.Connection.commit)
    rollback = _raising(sqlcipher.Connection.rollback)
    backup = _raising(sqlcipher.Connection.backup)
    create_function = _raising(sqlcipher.Connection.create_function)

    def close(self) -> None:
        try:
            self.cursors.close()
            super().close()
        except sqlcipher.Error as error:
            raise _as_sqlite(error) from None
        forks.closed(cast(sqlite3.Connection, self))
