"""Handling of open connections when the process is forked.

SQLite keeps its locks twice: in the kernel, per process, and in a table in memory. A fork copies only the table, so a
connection that a child opens on an inherited file relies on locks that the child does not hold. The child cannot repair
this. Therefore the forking thread closes its idle connections before the fork; they are reopened on the next use. If a
connection cannot be closed, because it belongs to another thread or is inside a transaction or query, using that file
in the child raises StorageError.

An inherited connection is never closed in the child, because closing may roll back into memory that the parent still
uses. Each connection of a store refers to itself (see `pin`), so that even the exit of the interpreter does not close
it.

Change here: which connections count as idle.
"""

from __future__ import annotations

import os
import sqlite3
import weakref

from scanstore.errors import StorageError

_PINNED = "scanstore_pinned"


TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import Protocol

    class Forkable(Protocol):
        """A database whose connections need handling when the process is forked."""

        def before_fork(self) -> None: ...

        def after_fork(self) -> None: ...


databases: weakref.WeakSet[Forkable] = weakref.WeakSet()
_open: weakref.WeakKeyDictionary[sqlite3.Connection, str] = weakref.WeakKeyDictionary()
_refused: dict[tuple[int, int], str] = {}


def opened(connection: sqlite3.Connection, file: str) -> None:
    """Record that this process has a connection to a file."""
    _open[connection] = file


def closed(connection: sqlite3.Connection) -> None:
    """Forget a connection that is closed."""
    _open.pop(connection, None)


def refuse_inherited(file: str) -> None:
    """Raise StorageError if the file was open during the fork in a way that a child cannot share."""
    if not _refused:
        return
    try:
        found = os.stat(file)
    except OSError:
        return
    if (found.st_dev, found.st_ino) in _refused:
        raise StorageError(
            f"{file} was open in another thread, or in a transaction or query, when this process was forked; open it in"
            " the child of a single-threaded parent, use the start method 'spawn', or close the store before the fork"
        )


def pin(connection: sqlite3.Connection) -> None:
    """Keep a connection alive until it is closed explicitly, even without references."""

    def refer() -> None:
        assert connection

    connection.create_function(_PINNED, 0, refer)


def is_idle(connection: sqlite3.Connection) -> bool:
    """Return whether a pinned connection has no open transaction or query."""
    try:
        pin(connection)  # SQLite refuses to replace a function while a statement runs
    except sqlite3.Error:
        return False
    return not connection.in_transaction


def _before_fork() -> None:
    for database in list(databases):
        database.before_fork()


def _after_fork() -> None:
    for file in set(_open.values()):
        try:
            found = os.stat(file)
        except OSError:
            continue
        _refused[found.st_dev, found.st_ino] = file
    _open.clear()
    for database in list(databases):
        database.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
