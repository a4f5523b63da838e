"""Repairs that lose nothing: counters, search indexes, SQLite's indexes, rows that nothing uses.

All of it follows from other rows that are there. What people or tools have said is never changed here, even where it is
at odds with something else: that is for a backup, or for a person. Change here: fixes that take more than a change of
the broken rows; the checks are in :mod:`scanstore.maintenance.invariants`.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

import peewee

from scanstore.db.files import limited, seconds_for
from scanstore.db.values import format_time
from scanstore.errors import InvalidArgument
from scanstore.jobs.schedules import next_run
from scanstore.maintenance.derived import DERIVED, filling, missing_tables
from scanstore.maintenance.invariants import BROKEN, IDENTITY, SCHEDULES, UNSEEN
from scanstore.snapshots import bindings
from scanstore.snapshots.names import sweep_names as sweep_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scanstore.db.database import Database
    from scanstore.maintenance.derived import SearchIndex

# The statements that restore the rows of a promise.
REPAIRS: dict[str, tuple[str, ...]] = {
    **{each.what: each.fix for each in DERIVED},
    **{safe.what: tuple(each.repair for each in BROKEN if each.what == safe.what) for safe in BROKEN if safe.safe},
    IDENTITY: (
        "INSERT OR REPLACE INTO file_identity (id, file, logs)"
        " VALUES (1, 'scanstore:file:' || lower(hex(randomblob(16))), 0)",
    ),
    SCHEDULES: ("UPDATE scheduled_tasks SET next_run = NULL WHERE NOT enabled AND next_run IS NOT NULL",),
}
FIXABLE = frozenset((*REPAIRS, UNSEEN))


def repair(db: Database, found: Iterable[str]) -> None:
    """Put right what checks of these names have found, as far as it is safe; one transaction."""
    with db.atomic():
        for what in found:
            if what == UNSEEN:
                for (lineage,) in db.execute_sql("SELECT id FROM lineages").fetchall():
                    bindings.sweep(db, lineage)
            for sql in REPAIRS.get(what, ()):
                db.execute_sql(sql).fetchall()
            if what == SCHEDULES:
                _plan_next_runs(db)


def _plan_next_runs(db: Database) -> None:
    """Give schedules that are enabled the next run that their expression means from now on."""
    sql = "SELECT id, schedule, timezone FROM scheduled_tasks WHERE enabled AND next_run IS NULL"
    for key, schedule, timezone in db.execute_sql(sql).fetchall():
        with suppress(InvalidArgument):  # no expression any more, or a time zone that this machine does not know
            moment = format_time(next_run(schedule, timezone=timezone))
            db.execute_sql("UPDATE scheduled_tasks SET next_run = ? WHERE id = ?", (moment, key)).fetchall()


def rebuild_search(db: Database, index: SearchIndex) -> None:
    """Make a full-text index sound, and note all of its rows, so that the next search restores them."""
    with db.atomic():
        db.execute_sql(f"INSERT INTO {index.table} ({index.table}) VALUES ('rebuild')").fetchall()
        for sql in index.rebuild:
            db.execute_sql(sql).fetchall()


def recreate(db: Database) -> None:
    """Create the derived tables that are missing, and fill them. A table whose sources are missing too is left."""
    there = {name for (name,) in db.execute_sql("SELECT name FROM sqlite_schema").fetchall()}
    for table, sql in missing_tables(there):
        with suppress(peewee.DatabaseError), db.atomic():
            for statement in (sql, *filling(table)):
                db.execute_sql(statement).fetchall()


def rebuild_indexes(db: Database) -> bool:
    """Make SQLite's indexes anew from their tables; False when these cannot be read. Waits for other writers."""
    try:
        connection = db.connection()  # type: ignore[no-untyped-call]
        with limited(connection, db.name, seconds_for(db.file)), db.atomic():
            db.execute_sql("REINDEX").fetchall()
    except (peewee.DatabaseError, sqlite3.DatabaseError):
        return False
    return True
