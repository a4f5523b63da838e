"""Repairs that lose nothing: counters, search indexes, SQLite's indexes, rows that nothing uses.

All of it follows from other rows that are there. What people or tools have said is never changed here, even where it is
at odds with something else: that is for a backup, or for a person. Change here: which repairs are safe; the checks are
in :mod:`scanstore.maintenance.invariants`.
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
from scanstore.maintenance.invariants import SCHEDULES
from scanstore.snapshots import bindings
from scanstore.snapshots.facts import FACT_TABLES
from scanstore.snapshots.names import sweep_names as sweep_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scanstore.db.database import Database

VERSIONS = """(SELECT v.id FROM file_versions AS v WHERE NOT EXISTS (SELECT 1 FROM scan_files WHERE version_id = v.id)
    AND NOT EXISTS (SELECT 1 FROM bindings WHERE version_id = v.id))"""
NOTE = "INSERT INTO search_changes (kind, id) SELECT '{kind}', id FROM ({ids}) WHERE true ON CONFLICT DO NOTHING"
FINDINGS = """
    SELECT id FROM findings WHERE id <= (SELECT max(id) FROM finding_search_docsize)
       AND id NOT IN (SELECT id FROM finding_search_docsize)
     UNION SELECT id FROM finding_search_docsize WHERE id NOT IN (SELECT id FROM findings)"""
SYMBOLS = """
    SELECT d.id >> 24 AS id FROM symbol_search_docsize AS d WHERE NOT EXISTS (SELECT 1 FROM symbol_facts AS s
           WHERE s.version_id = d.id >> 24 AND s.ordinal = d.id & 16777215)
     UNION SELECT s.version_id FROM symbol_facts AS s
            WHERE s.version_id IN (SELECT DISTINCT id >> 24 FROM symbol_search_docsize) AND NOT EXISTS
                  (SELECT 1 FROM symbol_search_docsize WHERE id = s.version_id << 24 | s.ordinal)"""
NOT_WAITING = "UPDATE {} SET next_retry_at = NULL WHERE next_retry_at IS NOT NULL AND status <> '{}'"

# What puts right what a check of that name has found.
REPAIRS: dict[str, tuple[str, ...]] = {
    "missing or malformed id of the file": (
        "INSERT OR REPLACE INTO file_identity (id, file, logs)"
        " VALUES (1, 'scanstore:file:' || lower(hex(randomblob(16))), 0)",
    ),
    "file versions that no scan uses": (
        *(f"DELETE FROM {table} WHERE version_id IN {VERSIONS}" for table in FACT_TABLES),
        f"DELETE FROM file_versions WHERE id IN {VERSIONS}",
    ),
    "counts of work that do not match the rows": (
        "DELETE FROM work_counts",
        *(
            "INSERT INTO work_counts (scan_id, kind, status, count)"
            f" SELECT scan_id, '{kind}', status, count(*) FROM {table} GROUP BY scan_id, status"
            for kind, table in (
                ("chunk", "chunk_work"),
                ("draft", "draft_findings"),
                ("verified", "verified_findings"),
            )
        ),
    ),
    "sums of model calls that do not match the calls": (
        "DELETE FROM call_counts",
        "INSERT INTO call_counts (scan_id, model, purpose, status, calls, prompt_tokens, completion_tokens, cost,"
        " latency_ms) SELECT coalesce(scan_id, 0), model, purpose, status, count(*), sum(prompt_tokens),"
        " sum(completion_tokens), sum(cost), sum(coalesce(latency_ms, 0)) FROM model_calls GROUP BY 1, 2, 3, 4",
    ),
    "counts of plans that do not match their changes": (
        "DELETE FROM plan_counts",
        "INSERT INTO plan_counts (plan_id, status, count)"
        " SELECT plan_id, status, count(*) FROM plan_changes GROUP BY plan_id, status",
    ),
    "counts of sessions that do not match their files": (
        """
        UPDATE analysis_sessions AS s SET total_files = n.files, processed_files = n.done
          FROM (SELECT a.id, count(f.id) AS files,
                       coalesce(sum(f.upload_status = 'completed' OR f.upload_status = 'error'), 0) AS done
                  FROM analysis_sessions AS a LEFT JOIN file_uploads AS f ON f.analysis_session_id = a.id
                 GROUP BY a.id) AS n
         WHERE n.id = s.id AND (s.total_files <> n.files OR s.processed_files <> n.done)""",
    ),
    "findings that the full-text search misses, or knows though they are gone": (
        NOTE.format(kind="finding", ids=FINDINGS),
    ),
    "symbols that the full-text search misses, or knows though they are gone": (
        NOTE.format(kind="symbol", ids=SYMBOLS),
    ),
    "jobs that wait for a time though they do not wait": (NOT_WAITING.format("jobs", "pending"),),
    "tasks and audits that wait for a time though they do not wait": (
        NOT_WAITING.format("analysis_tasks", "pending"),
        NOT_WAITING.format("audit_tasks", "queued"),
    ),
    SCHEDULES: ("UPDATE scheduled_tasks SET next_run = NULL WHERE NOT enabled AND next_run IS NOT NULL",),
    "library rows that were seen by a sync run which is not there": tuple(
        f"UPDATE {table} SET run_id = NULL WHERE run_id NOT IN (SELECT id FROM sync_runs)"
        for table in ("scenes", "performers", "tags", "studios")
    ),
    # One that another user has already stays, and is listed.
    "users whose address does not match its folded form": (
        "UPDATE OR IGNORE users SET email_key = lower(email)"
        " WHERE email NOT GLOB '*[^ -~]*' AND lower(email) <> email_key",
    ),
}
UNSEEN = "bindings that no scan sees"
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


def rebuild_search(db: Database, table: str) -> None:
    """Make a full-text index sound again, and have the next search take up anew all that it knows."""
    ids = (
        f"SELECT id FROM {table}_docsize"
        if table == "finding_search"
        else f"SELECT id >> 24 AS id FROM {table}_docsize"
    )
    with db.atomic():
        db.execute_sql(f"INSERT INTO {table} ({table}) VALUES ('rebuild')").fetchall()
        db.execute_sql(NOTE.format(kind=table.removesuffix("_search"), ids=ids))


def rebuild_indexes(db: Database) -> bool:
    """Make SQLite's indexes anew from their tables; False when these cannot be read. Waits for other writers."""
    try:
        connection = db.connection()  # type: ignore[no-untyped-call]
        with limited(connection, db.name, seconds_for(db.file)), db.atomic():
            db.execute_sql("REINDEX").fetchall()
    except (peewee.DatabaseError, sqlite3.DatabaseError):
        return False
    return True
