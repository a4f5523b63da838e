"""Vacuum and optimize: shrink the file, and update the statistics of the query planner.

`vacuum` rewrites the whole file, `optimize` only tidies indexes and statistics. Both leave every row as it is. Change
here: what counts as tidying up.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.blocks import closing, contextmanager
from scanstore.db.connections import connect
from scanstore.db.database import Database
from scanstore.db.files import free_space, limited, size_of
from scanstore.db.progress import Meter
from scanstore.db.sqlite_errors import translated
from scanstore.errors import DiskFull, IllegalMove, ReadOnly
from scanstore.maintenance.derived import SEARCHES
from scanstore.snapshots import figures

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback

_MERGE = 500  # pages of a full-text index that are written between two turns of other writers
#: Estimate how selective each index is, from some hundred of its rows.
ESTIMATE = ("PRAGMA analysis_limit = 400", "ANALYZE main")
_PATIENCE = 2000  # milliseconds to wait for readers of the log


class Compacted(NamedTuple):
    """Bytes of the file with its log, before and after, and the seconds it took."""

    before: int
    after: int
    seconds: float


def vacuum(db: Database, *, progress: ProgressCallback | None = None) -> Compacted:
    """Write the store anew without its free pages, and give these back to the disk.

    Readers go on meanwhile, writers wait. Needs free space: once the store for its log and once for temporary files.
    Atomic. ``progress`` is called with 0 and all pages before SQLite writes them, since it does not say how far it is,
    and with all pages afterwards. Raises DiskFull before it begins where that is not there, Busy, ReadOnly, and
    IllegalMove inside a transaction.
    """
    meter = Meter(progress)
    with _tidying(db, "vacuum") as (connection, before, start):
        pages, free, size = (
            int(connection.execute(f"PRAGMA {what}").fetchone()[0])
            for what in ("page_count", "freelist_count", "page_size")
        )
        _refuse_without_room(db, 2 * (pages - free) * size)
        meter.expect(pages - free)
        with limited(connection, db.name, math.inf):  # an interrupt stops it
            connection.execute("VACUUM")
        meter.end()
        _fold(connection)
        return Compacted(before, bytes_of(db), time.perf_counter() - start)


def optimize(db: Database, *, progress: ProgressCallback | None = None) -> Compacted:
    """Merge the full-text indexes, let SQLite estimate anew which index serves what, and fold the log into the file.

    Other writers get their turn in between. Harmless when repeated. ``progress`` is called with the finished steps and
    all steps. Raises Busy, ReadOnly, and IllegalMove inside a
    transaction.
    """
    meter = Meter(progress)
    with _tidying(db, "optimize") as (connection, before, start):
        meter.expect(3 + len(SEARCHES))
        figures.keep_missing(db)
        meter.add()
        for index in SEARCHES:
            _merge(connection, index.table)
            meter.add()
        for sql in ESTIMATE:
            connection.execute(sql).fetchall()
        meter.add()
        _fold(connection)
        meter.end()
        return Compacted(before, bytes_of(db), time.perf_counter() - start)


def _merge(connection: sqlite3.Connection, table: str) -> None:
    """Merge what a full-text index has in pieces, in small transactions."""
    pages = -_MERGE  # the first one, negative, says that all pieces are meant
    while True:
        before = connection.total_changes
        connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('merge', ?)", (pages,))
        if connection.total_changes - before < 2:
            return
        pages = _MERGE


@contextmanager
def _tidying(db: Database, what: str) -> Iterator[tuple[sqlite3.Connection, int, float]]:
    """A connection of its own, the bytes at the start, and the time."""
    if db.read_only:
        raise ReadOnly(f"{db.name} is open read-only; open it without read_only to {what} it")
    if db.in_sqlite_transaction():
        raise IllegalMove(f"{db.name} is inside a transaction; leave it, then {what}")
    start, before = time.perf_counter(), bytes_of(db)
    db.verify_file()
    try:
        with closing(connect(db.file, "mode=rw", key=db.key, timeout=db._timeout)) as connection:
            connection.execute("PRAGMA temp_store=FILE")  # a whole store does not belong into memory
            yield connection, before, start
    except sqlite3.Error as error:
        raise translated(error, db.name) from error


def _fold(connection: sqlite3.Connection) -> None:
    """Empty the log, unless readers need it for longer than we wait."""
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _refuse_without_room(db: Database, needed: int) -> None:
    free = free_space(db.file, db.name)
    if free < needed:
        raise DiskFull(
            f"{db.name} needs about {needed:,} bytes for a vacuum, beside it and for temporary files, and {free:,} are"
            " free; free some space"
        )


def bytes_of(db: Database) -> int:
    """Return the size of the file with its log."""
    return size_of(db.file) + size_of(db.file + "-wal")
