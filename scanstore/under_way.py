"""What is under way in a store, and whether some of it was lost. Every opening asks.

This stands apart from :mod:`scanstore.queues` because it is all that an opening needs of them.

Change here: what an opening looks for.
"""

from __future__ import annotations

from scanstore.database import Database

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
#: Rows that end with their process, whatever the time.
HELD = ("model_calls WHERE status = 'running'", "model_slots WHERE true", "answer_claims WHERE true")
ALWAYS = "'~'"  # after any time

_ROWS = [
    *((f"{table} INDEXED BY {index} WHERE status = '{status}'", "min(lease_until)") for table, index, status in LEASED),
    *((rows, ALWAYS) for rows in HELD),
]
ANY = "SELECT " + " OR ".join(f"EXISTS (SELECT 1 FROM {rows})" for rows, _ in _ROWS)
#: Who holds rows, and when the first of their leases ends.
HOLDERS = " UNION ALL ".join(f"SELECT process, {until} FROM {rows} GROUP BY process" for rows, until in _ROWS)


def lost(db: Database) -> bool:
    """Whether there is anything to recover, calls and places among it. Reads only what is under way."""
    (found,) = db.execute_sql(ANY).fetchone()
    if not found:
        return False
    from scanstore.fields import format_time, utcnow
    from scanstore.workers import gone

    now = format_time(utcnow())
    return any(until <= now or gone(process) for process, until in db.execute_sql(HOLDERS).fetchall())
