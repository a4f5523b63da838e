"""Translation of SQLite's errors to scanstore's, with the name of the store, its state and the remedy.

Change here: the error class and the message for each error code of SQLite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import peewee

from scanstore.db.files import GIVE_ANOTHER
from scanstore.errors import (
    Busy,
    Conflict,
    Damaged,
    DiskFull,
    InvalidArgument,
    NotAScanstore,
    ReadOnly,
    StorageError,
    StoreClosed,
)

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    pass

LONGEST_VALUE = 1_000_000_000  #: bytes; SQLite's default limit
#: SQLite's message about damage may not be valid text.
TROUBLE = (sqlite3.Error, UnicodeDecodeError)


def translated(
    error: sqlite3.Error | UnicodeDecodeError, name: str, values: object = (), most: int = LONGEST_VALUE
) -> Exception:
    """Return the error, with this one as its cause, for an SQLite error in the store with this name. `values` are those
    of the statement, and `most` is SQLite's limit for the size of one.

    A mistake in the SQL stays Peewee's error of the same kind, because it is the caller's mistake.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error)
    if code == sqlite3.SQLITE_CONSTRAINT and isinstance(error, sqlite3.Error):
        return Conflict(f"{name}: {text}{_CONFLICTS.get(error.sqlite_errorname, '')}")
    # An unknown format of the first page and invalid text have no error code.
    if isinstance(error, UnicodeDecodeError) or text.startswith(("unsupported file format", "Could not decode to")):
        code = sqlite3.SQLITE_CORRUPT
    if code == sqlite3.SQLITE_TOOBIG or isinstance(error, sqlite3.DataError):
        return InvalidArgument(f"{name} takes no value or row of more than {most:,} bytes{_size_of(values)}; split it")
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError) and text.startswith("Error binding"):
        return InvalidArgument(f"{name} cannot store a value: {text}")
    if text == "row value misused":  # the error for a list as a value in Peewee
        return InvalidArgument(f"{name}: a list was given where a single value is expected")
    if code == sqlite3.SQLITE_LOCKED:
        return Busy(f"{name} is in use by an unfinished query of this thread; read its rows to the end first")
    if code in _TROUBLES:
        kind, message = _TROUBLES[code]
        return kind(f"{name} {message}" + (f" ({text})" if kind is StorageError else ""))
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in text:
        return StoreClosed(f"{name} was closed; open it again")
    kind = getattr(peewee, type(error).__name__, peewee.DatabaseError)
    return kind(*error.args)


def _size_of(values: object) -> str:
    """Describe the size of the largest value, if the values are available."""
    if isinstance(values, Mapping):
        values = values.values()
    elif not isinstance(values, Sequence) or isinstance(values, str):
        return ""
    sizes = [
        len(v) if isinstance(v, bytes) or v.isascii() else len(v.encode()) for v in values if isinstance(v, str | bytes)
    ]
    return f", and was given {max(sizes):,}" if sizes else ""


def code_of(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_CONFLICTS = {
    "SQLITE_CONSTRAINT_UNIQUE": "; such a row exists already",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "; such a row exists already",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "; a row it points at does not exist, or rows still point at it",
    "SQLITE_CONSTRAINT_NOTNULL": "; give it a value",
    "SQLITE_CONSTRAINT_CHECK": "; the value is outside what that rule allows",
}
_DAMAGED = "is damaged; restore a backup, or save the readable part with: scanstore repair FILE NEW"
_OR_KEY = "or its key if it is encrypted (key=, or $SCANSTORE_KEY for a command)"
_TROUBLES: dict[int, tuple[type[Exception], str]] = {
    sqlite3.SQLITE_BUSY: (Busy, "is locked by another writer; try again, or open it with a longer timeout"),
    sqlite3.SQLITE_PROTOCOL: (Busy, "is locked by another process; try again"),
    sqlite3.SQLITE_FULL: (DiskFull, "cannot grow: its disk is full; free some space and try again"),
    sqlite3.SQLITE_READONLY: (ReadOnly, "is read-only; open it without read_only, where it can be written"),
    sqlite3.SQLITE_CORRUPT: (Damaged, _DAMAGED),
    sqlite3.SQLITE_NOTADB: (NotAScanstore, f"is not a SQLite database; {GIVE_ANOTHER}, {_OR_KEY}"),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "cannot be opened; check that it and its folder may be written"),
    sqlite3.SQLITE_PERM: (StorageError, "may not be opened; check its permissions"),
    sqlite3.SQLITE_IOERR: (StorageError, "could not be read or written; check its disk"),
    sqlite3.SQLITE_NOMEM: (StorageError, "needs more memory than there is"),
}
