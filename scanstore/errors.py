"""The exception classes of scanstore.

The tree, with the other classes that some of them also derive from::

    ScanstoreError
    ├── NotFound              (also peewee.DoesNotExist, LookupError) no object with this name or id
    ├── InvalidArgument       (also ValueError)                      rejected before any SQL ran
    │   └── Ambiguous                                                  several objects match: `candidates`
    ├── IllegalMove                                                  the status does not allow this
    │   └── LeaseLost                                                  the row is not leased to this worker
    ├── NoSlot                                                       all slots of a model are taken
    ├── BindRefused                                                  Model.bind(), bind_ctx(), Meta.database
    ├── NoStore               (also peewee.InterfaceError)           a model was used without a current store
    ├── WrongStore                                                   a row of one store used in another
    ├── WrongTask                                                    two tasks met inside one transaction
    ├── StoreClosed           (also peewee.InterfaceError)           the store was closed before
    ├── OpenRefused                                                  the file was not opened, not changed
    │   ├── MissingFolder
    │   ├── NotAScanstore
    │   ├── NewerSchema
    │   ├── OutdatedSchema
    │   ├── ForeignSchema                                            foreign views, triggers or tables
    │   ├── WrongKey                                                 another key, or not encrypted
    │   └── SqliteTooOld
    ├── MigrationFailed                                              the migration was rolled back
    ├── Conflict              (also peewee.IntegrityError)           unique, check, foreign key
    └── StorageError          (also peewee.OperationalError)         reading or writing the file failed
        ├── FileReplaced                                             the file at the store's path is another one
        ├── ReadTimeout                                              reading an untrusted file took too long
        ├── Busy                                                     the lock was held for too long
        ├── ReadOnly
        ├── DiskFull
        └── Damaged

Add a class here if callers may want to handle this error and no other. A message is one line that names the object, its
state and the remedy; the command line prints it unchanged. SQLite's error is kept as `__cause__`.
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    pass

LONGEST = 2000  #: characters of a message, because a rejected value may be long


def shown(value: object, most: int = 80) -> str:
    """Return a value for a message: its truncated `repr`, or its type if `repr` fails.

    `repr` fails for deeply nested lists, integers of thousands of digits, and objects whose `__repr__` raises.
    """
    try:
        return repr(value)[:most]
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


class ScanstoreError(Exception):
    """Base class of all errors that scanstore raises."""

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class NotFound(ScanstoreError, peewee.DoesNotExist, LookupError):
    """There is no object with this name, id or path."""


class InvalidArgument(ScanstoreError, ValueError):
    """A value was refused before any SQL ran; nothing was changed."""


class Ambiguous(InvalidArgument):
    """A name matches several objects, or a query several targets. `candidates` has the rows, or the names of the
    targets.
    """

    def __init__(self, message: str, candidates: Sequence[object]) -> None:
        super().__init__(message)
        self.candidates = list(candidates)


class IllegalMove(ScanstoreError):
    """The status of the object does not allow this operation; nothing was changed."""


class LeaseLost(IllegalMove):
    """The row is not, or no longer, leased to this worker; nothing was changed."""


class NoSlot(ScanstoreError):
    """All slots of a model stayed taken until the caller's timeout."""


class BindRefused(ScanstoreError):
    """Models use the current store and cannot be bound to a database explicitly."""


class NoStore(ScanstoreError, peewee.InterfaceError):
    """A model or query was used while no store is current."""


class WrongStore(ScanstoreError):
    """A row of one store was used while another store was current."""


class WrongTask(ScanstoreError):
    """Another task of this thread is inside a transaction; nothing was executed."""


class StoreClosed(ScanstoreError, peewee.InterfaceError):
    """The store was closed. Open it again to continue."""


class OpenRefused(ScanstoreError):
    """The file was not opened and not changed."""


class MissingFolder(OpenRefused):
    """The folder that should hold the file does not exist."""


class NotAScanstore(OpenRefused):
    """The path is not a store: it is a folder, another program's database or another file."""


class NewerSchema(OpenRefused):
    """The file was written by a newer scanstore."""


class OutdatedSchema(OpenRefused):
    """The file has an older schema, and it was opened in a mode that does not migrate."""


class ForeignSchema(OpenRefused):
    """The file has foreign views, triggers or tables that could run; `parts` lists them."""

    def __init__(self, name: str, parts: Sequence[str]) -> None:
        more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
        super().__init__(
            f"{name} has a schema that scanstore did not make: {'; '.join(parts[:5])}{more}; "
            "if you trust the rest of the file, remove this with: scanstore check --fix FILE"
        )
        self.parts = list(parts)


class WrongKey(OpenRefused):
    """The file cannot be read with this key, or is not encrypted."""


class SqliteTooOld(OpenRefused):
    """The SQLite library of this Python is too old for scanstore."""


class MigrationFailed(ScanstoreError):
    """A migration failed; schema, version and rows are unchanged."""


class Conflict(ScanstoreError, peewee.IntegrityError):
    """A unique, check or foreign key constraint rejected the write."""


class StorageError(ScanstoreError, peewee.OperationalError):
    """The file cannot be read or written."""


class FileReplaced(StorageError):
    """The file of an open store was replaced, overwritten, moved or removed. The file at its path is left unchanged."""


class ReadTimeout(StorageError):
    """Reading a file took longer than its limit; nothing was changed."""


class Busy(StorageError):
    """Another process or thread held the lock for longer than the store's timeout."""


class ReadOnly(StorageError):
    """A write to a store that was opened read-only or is in a read-only place."""


class DiskFull(StorageError):
    """The disk is full; the transaction was rolled back."""


class Damaged(StorageError):
    """The file is malformed."""
