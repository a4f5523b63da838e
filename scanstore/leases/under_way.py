"""Work under way in a store, and whether some of it was lost. Every opening asks.

This stands apart from :mod:`scanstore.leases.queue` because it is all that an opening needs of them.

Change here: what an opening looks for.
"""

from __future__ import annotations

from scanstore.db.database import Database

#: Tables whose rows are leased, the partial index that holds those rows, and their status.
LEASED = (
    ("chunk_work", "ix_chunk_work_leased", "running"),
    ("draft_findings", "ix_draft_findings_leased", "verifying"),
    ("verified_findings", "ix_verified_findings_leased", "enriching"),
    ("jobs", "ix_jobs_leased", "running"),
    ("audit_tasks", "ix_audit_tasks_leased", "processing"),
    ("analysis_tasks", "ix_analysis_tasks_leased", "processing"),
    ("jobs", "ix_jobs_cancelling", "cancelling"),
)
#: Rows that end with their process, and since when it is silent where that is looked at.
HELD = (
    ("model_calls WHERE status = 'running'", "min(started_at)"),
    ("model_slots WHERE true", "NULL"),
    ("answer_claims WHERE true", "NULL"),
)
ALWAYS = "'~'"  # after any time

_LEASES = "min(lease_until), NULL"
_ROWS = [
    *((f"{table} INDEXED BY {index} WHERE status = '{status}'", _LEASES) for table, index, status in LEASED),
    *((rows, f"{ALWAYS}, {heard}") for rows, heard in HELD),
]
ANY = "SELECT " + " OR ".join(f"EXISTS (SELECT 1 FROM {rows})" for rows, _ in _ROWS)
#: Who holds rows, when the first of their leases ends, and since when a process without a lease is silent.
HOLDERS = " UNION ALL ".join(f"SELECT process, {until} FROM {rows} GROUP BY process" for rows, until in _ROWS)


def lost(db: Database) -> bool:
    """Whether there is anything to recover, calls and places among it. Reads only leased rows."""
    (found,) = db.execute_sql(ANY).fetchone()
    if not found:
        return False
    from scanstore.db.clocks import silent  # start-up: only when work is leased
    from scanstore.db.processes import gone  # start-up: only when work is leased
    from scanstore.db.values import format_time, utcnow  # start-up: only when work is leased

    now = utcnow()
    text = format_time(now)
    return any(
        str(until) <= text or gone(process) or (heard is not None and silent(process, heard, now))
        for process, until, heard in db.execute_sql(HOLDERS).fetchall()
    )
