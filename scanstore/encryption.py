"""Encryption at rest: the only module that knows SQLCipher, an extra that is loaded when a store is opened with a key.

SQLCipher is SQLite with encrypted pages, its log and its journal included; Peewee's playhouse knows its driver. That
driver has errors of its own, which become those of `sqlite3` here, so that nobody else has to tell the two apart. The
key is never part of a message, a log or a representation.

Change here: how a key is given to SQLCipher, and how another one is set.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar, cast

from scanstore import forks, open_files, publishing
from scanstore.blocks import Scope
from scanstore.connections import Cursors, trouble
from scanstore.errors import Busy, Damaged, DiskFull, InvalidArgument, WrongKey
from scanstore.files import careful, free_space, identify, refusing, size_of, uri
from scanstore.foreign import refuse
from scanstore.logs import Timed

try:
    from playhouse.sqlcipher_ext import sqlcipher
except ImportError as missing:
    raise InvalidArgument(
        "a key needs SQLCipher, which is not installed; pip install 'scanstore[encryption]', or leave the key out"
    ) from missing

_F = TypeVar("_F", bound=Callable[..., Any])
PLAIN = b"SQLite format 3\0"


def check_key(key: Any) -> str:
    """Return a key that SQLCipher can take. Raises InvalidArgument, which does not show it."""
    if not isinstance(key, str) or not key or "\0" in key:
        raise InvalidArgument("key is not usable; it must be text that is not empty, without NUL characters")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("key is not usable; it must be text that UTF-8 can write") from None
    return key


def connect(file: str, options: str, key: str, **more: Any) -> sqlite3.Connection:
    """Open a file with a key, as ``sqlite3.connect`` would without one; raises its errors, and InvalidArgument.

    A wrong key is noticed by the first statement: SQLite does not take the file for a database then.
    """
    more.pop("factory", None)
    check_key(key)
    try:
        connection = sqlcipher.connect(uri(file, options), uri=True, factory=_Connection, **more)
    except sqlcipher.Error as error:
        raise _as_sqlite(error) from None
    try:
        # Its own complaints on stderr say nothing that the error does not, and nobody can read them.
        connection.execute("PRAGMA cipher_log_level=NONE").fetchall()
        connection.execute(f"PRAGMA key={_quoted(key)}").fetchall()
        connection.executescript(careful(sqlcipher.connect))
    except BaseException:
        connection.close()
        raise
    forks.opened(connection, file)
    return cast(sqlite3.Connection, connection)


def wrong_key(file: str, name: str, otherwise: str = "") -> WrongKey:
    """Return the error to raise when a file cannot be read with the key that was given, and what else may be done."""
    try:
        with open(file, "rb") as handle:
            plain = handle.read(len(PLAIN)) == PLAIN
    except OSError:
        plain = False
    if plain:
        return WrongKey(f"{name} is not encrypted; open it without a key, or encrypt it with: scanstore rekey")
    return WrongKey(f"{name} cannot be read with this key; give the one it was encrypted with{otherwise}")


def rekey(file: str, name: str, old: str | None, new: str | None, *, timeout: float = 5.0) -> None:
    """Encrypt a store with another key; ``None`` is none, so that a plain store is encrypted, or an encrypted one is
    not any more.

    Takes free space for another copy: the content is written into a new file, which then replaces the old one. Atomic:
    whoever is killed leaves a store with the old key or with the new one. Raises Busy when the store is open anywhere,
    WrongKey, DiskFull, and Damaged, when nothing was changed.
    """
    if new is not None:
        check_key(new)
    from scanstore.file_identity import refuse_foreign_log

    refuse_foreign_log(file, name, old, read_only=False)
    _refuse_without_room(file, name)
    try:
        _rekey(file, name, old, new, timeout)
    except sqlite3.Error as error:
        from scanstore.errors import ScanstoreError, StorageError
        from scanstore.troubles import translated

        trouble = translated(error, name)
        if not isinstance(trouble, ScanstoreError):  # sqlcipher_export() passes on the words without the code
            trouble = StorageError(f"the key of {name} was not changed ({error}); check the disk and try again")
        raise trouble from error


def _rekey(file: str, name: str, old: str | None, new: str | None, timeout: float) -> None:
    # Without a key SQLCipher reads plain files.
    connection = connect(file, "mode=rw", old, timeout=timeout, isolation_level=None) if old else _plain(file, timeout)
    with Scope(lambda: None, connection.close):
        version = _alone(connection, file, name)
        publishing.sweep(os.path.dirname(file))
        if connection.execute("PRAGMA cipher_integrity_check").fetchall():
            raise Damaged(f"{name} is damaged; restore a backup, or save what is left with: scanstore repair FILE NEW")
        # "PRAGMA rekey" would change the key in place, but it does not report a commit that the disk refused.
        with publishing.beside(file, name) as partial:
            _export(connection, partial, version, new)
            publishing.sync(partial, name)
            if not open_files.WINDOWS:
                publishing.publish(partial, file, name)  # while nobody else can read or write the one that was there
            else:
                _publish_closed(connection, partial, file, name)


def _publish_closed(connection: sqlite3.Connection, partial: str, file: str, name: str) -> None:
    """Replace the file where the system replaces no file that is open: the lock goes first.

    The content is compared again before each attempt, so that nothing is lost of what another process has written
    since. Raises Busy then, and when another process keeps the file open.
    """
    with refusing(name, "read"):
        before = open_files.patiently(lambda: _head(file))
    connection.close()

    def check() -> None:
        if os.path.exists(file + "-wal") or _head(file) != before:
            raise Busy(f"{name} was opened by another process meanwhile; close it there, and try again")

    publishing.publish(partial, file, name, check)


def _head(file: str) -> tuple[int, bytes]:
    """The size of a file and the beginning of its first page, which every transaction changes."""
    with open(file, "rb") as handle:
        return size_of(file), handle.read(100)


def _export(connection: sqlite3.Connection, partial: str, version: int, key: str | None) -> None:
    """Copy all content into another file, with that key."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    connection.execute(f"ATTACH ? AS fresh KEY {_quoted(key or '')}", (uri(partial, "mode=rw"),))
    # Nobody else sees this file, and nothing of it is worth a rollback.
    connection.execute("PRAGMA fresh.journal_mode=OFF").fetchall()
    connection.execute("PRAGMA fresh.synchronous=OFF").fetchall()
    connection.execute("SELECT sqlcipher_export('fresh')").fetchall()
    connection.execute(f"PRAGMA fresh.application_id={application}")
    connection.execute(f"PRAGMA fresh.user_version={version}")
    verdict = connection.execute("PRAGMA fresh.quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"the new file is not sound: {verdict}")
    connection.execute("DETACH fresh")


def _alone(connection: sqlite3.Connection, file: str, name: str) -> int:
    """Fold the log into the file and keep everybody else out of it, until the connection is closed; return the version
    of its schema, with which nothing is wrong.
    """
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        version = identify(connection, name)
        refuse(connection, version, name)
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        return version
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
            raise wrong_key(file, name) from error
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise Busy(f"{name} is open in this or another process; close it there, and try again") from error
        raise


def _plain(file: str, timeout: float) -> sqlite3.Connection:
    try:
        connection = sqlcipher.connect(
            uri(file, "mode=rw"), uri=True, factory=_Connection, timeout=timeout, isolation_level=None
        )
        connection.execute("PRAGMA cipher_log_level=NONE").fetchall()
        connection.executescript(careful(sqlcipher.connect))
    except sqlcipher.Error as error:
        raise _as_sqlite(error) from None
    return cast(sqlite3.Connection, connection)


def _refuse_without_room(file: str, name: str) -> None:
    needed, free = 2 * size_of(file), free_space(file, name)
    if free < needed:
        raise DiskFull(f"{name} needs about {needed:,} bytes for that, and {free:,} are free; free some space")


def _quoted(key: str) -> str:
    return "'" + key.replace("'", "''") + "'"


# The driver's errors


def _as_sqlite(error: Exception) -> sqlite3.Error:
    """The same error of `sqlite3`, with its code."""
    same: sqlite3.Error = getattr(sqlite3, type(error).__name__, sqlite3.DatabaseError)(*error.args)
    same.sqlite_errorcode = getattr(error, "sqlite_errorcode", 0)
    same.sqlite_errorname = getattr(error, "sqlite_errorname", "")
    if same.sqlite_errorname == "SQLITE_CONSTRAINT":  # which one, it only says in words
        rule = str(error).partition(" constraint failed")[0]
        same.sqlite_errorname += f"_{rule.replace(' ', '')}"
    return same


def _raising(method: _F) -> _F:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except sqlcipher.Error as error:
            raise _as_sqlite(error) from None

    return cast(_F, call)


def _fetching(method: _F) -> _F:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
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
    """A connection that knows the name of its store, as `database.Connection` does."""

    name = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.cursors = Cursors()
        super().__init__(*args, **options)

    def cursor(self, factory: Any = None) -> Any:
        made = super().cursor(_Cursor if factory is None else _TimedCursor)
        self.cursors.add(made)
        return made

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any) -> Any:
        return self.cursor().executemany(sql, parameters)

    def executescript(self, script: str) -> Any:
        return self.cursor().executescript(script)

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
