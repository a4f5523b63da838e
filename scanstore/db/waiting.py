"""Waiting for the lock of a store, so that everybody's turn comes.

SQLite waits longer and longer between its tries: writers that have waited long are overtaken by new ones, and with many
writers some wait for seconds. Here a writer that has waited for a moment tries again at short random intervals, and so
comes before new ones. Change here: how long that moment is, and how often.
"""

from __future__ import annotations

import os
import sqlite3
import time

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    _Cursor = TypeVar("_Cursor", bound=sqlite3.Cursor)


PATIENCE = 20  #: milliseconds that SQLite itself waits
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)


def patience(timeout: float) -> int:
    """The milliseconds to leave to SQLite, of so many seconds in all."""
    return min(PATIENCE, round(timeout * 1000))


def execute(cursor: _Cursor, sql: str, params: Sequence[object] | Mapping[str, object], timeout: float) -> _Cursor:
    """Execute a statement, which does nothing while others hold the lock, until it gets it or the time is up."""
    deadline = 0.0
    while True:
        try:
            return cursor.execute(sql, params)
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            deadline = deadline or now + timeout
            if getattr(error, "sqlite_errorcode", None) not in _LOCKED or now >= deadline:
                raise
        time.sleep(0.0002 + os.urandom(1)[0] / 320_000)  # 0.2 to 1 ms
