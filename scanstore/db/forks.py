"""Forks: what becomes of open connections when the process is forked.

SQLite keeps its locks twice: in the kernel, per process, and in a table of its own, in memory. A fork copies the second
and not the first, so a connection that a child opens on an inherited file believes in locks that the child does not
hold. There is no way to repair that in the child. Therefore the forking thread closes its idle connections before the
fork; they are opened again when they are needed. A connection that it cannot close, of another thread or in the middle
of a transaction or query, makes the child refuse that file with StorageError.

An inherited connection is never closed in the child: closing may roll back into memory that the parent still uses. Each
connection of a store refers to itself (see `pin`), so that not even the end of the interpreter closes it.

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
        """A database whose connections have to be looked after when the process is forked."""

        def before_fork(self) -> None: ...

        def after_fork(self) -> None: ...


databases: weakref.WeakSet[Forkable] = weakref.WeakSet()
_open: weakref.WeakKeyDictionary[sqlite3.Connection, str] = weakref.WeakKeyDictionary()
_refused: dict[tuple[int, int], str] = {}


def opened(connection: sqlite3.Connection, file: str) -> None:
    """Note that this process has a connection to a file."""
    _open[connection] = file


def closed(connection: sqlite3.Connection) -> None:
    """Forget a connection that is closed."""
    _open.pop(connection, None)


def refuse_inherited(file: str) -> None:
    """Raise StorageError for a file that was open in a way that a child cannot share when this process was forked."""
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
    """Make a connection live until it is closed explicitly, even when nothing refers to it any more."""

    def refer() -> None:
        assert connection

    connection.create_function(_PINNED, 0, refer)


def is_idle(connection: sqlite3.Connection) -> bool:
    """Tell whether a pinned connection has neither a transaction nor a query under way."""
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
