"""Every error that scanstore raises on purpose, in one tree.

    ScanstoreError
    ├── NotFound              (also peewee.DoesNotExist, LookupError) nothing by that name or id
    ├── InvalidArgument       (also ValueError)                      refused before any SQL ran
    │   └── Ambiguous                                                  several things are meant: `candidates`
    ├── IllegalMove                                                  a status cannot go there from here
    │   └── LeaseLost                                                  the work is not leased to this worker
    ├── NoSlot                                                       all places of a model are taken
    ├── BindRefused                                                  Model.bind(), bind_ctx(), Meta.database
    ├── NoStore               (also peewee.InterfaceError)           a model was used outside any store
    ├── WrongStore                                                   a row of one store used in another
    ├── WrongTask                                                    two tasks met inside one transaction
    ├── StoreClosed           (also peewee.InterfaceError)           the store was closed before
    ├── OpenRefused                                                  the file was left as it is
    │   ├── MissingFolder
    │   ├── NotAScanstore
    │   ├── NewerSchema
    │   ├── OutdatedSchema
    │   ├── ForeignSchema                                            views, triggers and the like of a stranger
    │   ├── WrongKey                                                 encrypted otherwise, or not at all
    │   └── SqliteTooOld
    ├── MigrationFailed                                              everything was rolled back
    ├── Conflict              (also peewee.IntegrityError)           unique, check, foreign key
    └── StorageError          (also peewee.OperationalError)         the file or its disk said no
        ├── FileReplaced                                             another file lies where the store's was
        ├── ReadTimeout                                              reading a file of others took too long
        ├── Busy                                                     the lock was held for too long
        ├── ReadOnly
        ├── DiskFull
        └── Damaged

Add a class here when a caller could sensibly react to it and to nothing else. A message names the thing, its
state and the remedy, in one line: the command line prints it as it is. What SQLite said stays as `__cause__`.
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    pass

LONGEST = 2000  #: characters of a message; what was given wrongly may be longer


def shown(value: object, most: int = 80) -> str:
    """Return a value as a message shows it: its `repr`, cut, or its type where that cannot be had.

    Lists that are nested too deep, integers of thousands of digits and objects whose `repr` raises have none.
    """
    try:
        return repr(value)[:most]
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


class ScanstoreError(Exception):
    """Base of every error that scanstore raises on purpose."""

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class NotFound(ScanstoreError, peewee.DoesNotExist, LookupError):
    """Nothing exists by that name, id or path."""


class InvalidArgument(ScanstoreError, ValueError):
    """A value was refused before any SQL ran; nothing was changed."""


class Ambiguous(InvalidArgument):
    """A name fits several things, or a question several targets; `candidates` are their rows, or the targets' names."""

    def __init__(self, message: str, candidates: Sequence[object]) -> None:
        super().__init__(message)
        self.candidates = list(candidates)


class IllegalMove(ScanstoreError):
    """The thing is in a state that does not allow this; nothing was changed."""


class LeaseLost(IllegalMove):
    """The work is not, or no longer, leased to this worker; nothing was changed."""


class NoSlot(ScanstoreError):
    """All places of a model stayed taken for as long as the caller would wait."""


class BindRefused(ScanstoreError):
    """Models follow the current store and cannot be bound to a database by hand."""


class NoStore(ScanstoreError, peewee.InterfaceError):
    """A model or query was used while no store is current."""


class WrongStore(ScanstoreError):
    """A row that was read from one store was used while another one is current."""


class WrongTask(ScanstoreError):
    """Another task of this thread is inside a transaction; nothing was executed."""


class StoreClosed(ScanstoreError, peewee.InterfaceError):
    """The store was closed; open it again to go on."""


class OpenRefused(ScanstoreError):
    """The file was not opened and nothing of it was changed."""


class MissingFolder(OpenRefused):
    """The folder that should hold the file does not exist."""


class NotAScanstore(OpenRefused):
    """The path holds something else: a folder, another program's database, any other file."""


class NewerSchema(OpenRefused):
    """The file was written by a newer scanstore."""


class OutdatedSchema(OpenRefused):
    """The file wants migrations that this way of opening does not run."""


class ForeignSchema(OpenRefused):
    """The file has views, triggers or tables that scanstore did not make and that could run; `parts` names them."""

    def __init__(self, name: str, parts: Sequence[str]) -> None:
        more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
        super().__init__(
            f"{name} has a schema that scanstore did not make: {'; '.join(parts[:5])}{more}; "
            "if you trust the rest of the file, remove this with: scanstore check --fix FILE"
        )
        self.parts = list(parts)


class WrongKey(OpenRefused):
    """The file cannot be read with the key that was given, or needs none."""


class SqliteTooOld(OpenRefused):
    """The SQLite library of this Python is older than scanstore needs."""


class MigrationFailed(ScanstoreError):
    """A migration did not go through; schema, version and rows are as they were before."""


class Conflict(ScanstoreError, peewee.IntegrityError):
    """A unique, check, foreign key rule refused the write."""


class StorageError(ScanstoreError, peewee.OperationalError):
    """The file cannot be read or written."""


class FileReplaced(StorageError):
    """The file of an open store was replaced, overwritten, moved or removed; the file at its path is left as it is."""


class ReadTimeout(StorageError):
    """Reading a file took longer than its limit; nothing was changed."""


class Busy(StorageError):
    """Another process or thread kept the lock for longer than the store's timeout."""


class ReadOnly(StorageError):
    """A write to a store that was opened read-only or lies in a read-only place."""


class DiskFull(StorageError):
    """No space was left; the transaction is rolled back."""


class Damaged(StorageError):
    """The file is malformed."""
