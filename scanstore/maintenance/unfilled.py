"""Stores without rows: such as one that was made for a command that failed. Change here: which of them are deleted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

from scanstore.db import open_files
from scanstore.db.blocks import closing
from scanstore.db.connections import connect
from scanstore.db.files import identify, quoted
from scanstore.errors import NotAScanstore
from scanstore.maintenance.dump_tables import tables_of


def filled(run: Callable[..., Any]) -> str | None:
    """Return the name of a table that has rows."""
    names = (table.name for table in tables_of(run))
    return next((name for name in names if run(f"SELECT EXISTS (SELECT 1 FROM {quoted(name)})").fetchone()[0]), None)


def remove_unfilled(path: str, key: str | None = None) -> None:
    """Delete a store without rows; leave any other, and a file of another program, as it is.

    A store that is open in another process stays too. Nothing is raised when it cannot be deleted.
    """
    file = os.path.realpath(path)
    try:
        with closing(connect(file, "mode=rw", key=key, timeout=0)) as connection:
            run = connection.execute
            run("PRAGMA locking_mode = EXCLUSIVE")
            # SQLite removes the log only for the only connection of a file.
            if run("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                return
            run("BEGIN EXCLUSIVE")
            identify(connection, path)
            if filled(run) is not None:
                return
            if os.name == "posix":  # under the lock, so that no other process has written to it meanwhile
                open_files.unlink(file)
                return
        open_files.unlink(file)
    except (sqlite3.Error, OSError, NotAScanstore):
        return
