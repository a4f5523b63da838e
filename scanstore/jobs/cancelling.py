"""Cancelling a job with its parts, and finding the parts again when the job is retried.

A part that is cancelled because the job above it is cancelled gets an error that names this job. It keeps the error
when its worker ends it later. So a retry of the job revives these parts, and no part that was cancelled on its own.

Change here: which parts a cancelled job takes along, and which of them a retry revives.
"""

from __future__ import annotations

from scanstore.db.database import Database
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove
from scanstore.jobs.leasing import CANCELLED_WITH, end_cancelled, mark_of, status_of
from scanstore.leases.engine import LAST_ERROR

TREE = """
WITH RECURSIVE tree (id) AS (
    VALUES (:id)
     UNION ALL
    SELECT j.id FROM tree AS t CROSS JOIN jobs AS j INDEXED BY ix_jobs_parent_id ON j.parent_id = t.id
)
"""
CANCEL = f"""{TREE}
UPDATE jobs
   SET status = CASE status WHEN 'pending' THEN 'cancelled' ELSE 'cancelling' END,
       error = CASE id WHEN :id THEN error ELSE substr(:mark || coalesce(': ' || error, ''), 1, {LAST_ERROR}) END,
       completed_at = CASE status WHEN 'pending' THEN :now END, next_retry_at = NULL, updated_at = :now
 WHERE id IN (SELECT id FROM tree) AND (status = 'pending' OR status = 'running')
"""
LIVE = f"{TREE} SELECT count(*) FROM tree AS t CROSS JOIN jobs AS j ON j.id = t.id WHERE j.completed_at IS NULL"
PARTS = f"""{TREE}
SELECT j.id, j.status FROM tree AS t CROSS JOIN jobs AS j ON j.id = t.id
 WHERE t.id <> :id AND (j.status = 'cancelled' OR j.status = 'cancelling') AND substr(j.error, 1, :length) = :mark
 ORDER BY j.id
"""


def cancel(db: Database, key: str) -> None:
    """Cancel a job and its parts, inside a transaction. Raises NotFound, and IllegalMove if all are finished."""
    status = status_of(db, key)
    if not db.execute_sql(LIVE, {"id": key}).fetchone()[0]:
        raise IllegalMove(f"job {key} is {status} and cannot be cancelled; it and all its parts are finished")
    db.execute_sql(CANCEL, {"id": key, "mark": CANCELLED_WITH + key, "now": format_time(utcnow())})
    end_cancelled(db)


def cancelled_with(db: Database, key: str) -> list[str]:
    """Return the parts of a cancelled job that were cancelled with it. Raises IllegalMove if one still runs."""
    status, error = db.execute_sql("SELECT status, error FROM jobs WHERE id = ?", (key,)).fetchone()
    if status != "cancelled":
        return []
    mark = mark_of(error) or CANCELLED_WITH + key
    found: list[tuple[str, str]] = db.execute_sql(PARTS, {"id": key, "mark": mark, "length": len(mark)}).fetchall()
    for part, state in found:
        if state == "cancelling":
            raise IllegalMove(
                f"job {key} cannot be retried while its part {part} is {state}; wait until its worker has released it"
            )
    return [part for part, _ in found]
