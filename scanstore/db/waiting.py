"""Fair waiting for the write lock of a store.

SQLite waits longer and longer between its attempts, so new writers overtake writers that have waited long, and some
wait for seconds. Here a writer that has waited for a moment retries at short random intervals, and so gets the lock
before new writers. Change here: when these retries start, and their interval.
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
    """Return the part of a timeout in seconds that SQLite waits, in milliseconds."""
    return min(PATIENCE, round(timeout * 1000))


def execute(cursor: _Cursor, sql: str, params: Sequence[object] | Mapping[str, object], timeout: float) -> _Cursor:
    """Retry a statement that needs the write lock until it succeeds or the time is over."""
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
