"""Whether a store has leased rows, and whether any lease was lost. Every opening checks this.

This module is separate from :mod:`scanstore.leases.queue` so that opening a store imports as little as possible.

Change here: the checks of an opening.
"""

from __future__ import annotations

from scanstore.db.database import Database

#: Tables with leased rows, the partial index of these rows, and their status.
LEASED = (
    ("chunk_work", "ix_chunk_work_leased", "running"),
    ("draft_findings", "ix_draft_findings_leased", "verifying"),
    ("verified_findings", "ix_verified_findings_leased", "enriching"),
    ("jobs", "ix_jobs_leased", "running"),
    ("audit_tasks", "ix_audit_tasks_leased", "processing"),
    ("analysis_tasks", "ix_analysis_tasks_leased", "processing"),
    ("jobs", "ix_jobs_cancelling", "cancelling"),
)
#: Rows that end with their process, and the time of its last write where it is checked.
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
#: The processes that hold rows, the first expiry of their leases, and the last write of processes without a lease.
HOLDERS = " UNION ALL ".join(f"SELECT process, {until} FROM {rows} GROUP BY process" for rows, until in _ROWS)


def lost(db: Database) -> bool:
    """Whether any row must be recovered, including model calls and slots. Reads only leased rows."""
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
