"""The calls of a worker about a job, by the job's id. See :mod:`scanstore.leases.engine` for the mechanism.

A finished job never changes again: a late report is refused by the guard of every statement here, and any other writer
by a trigger. A job that is cancelled while it runs is ``cancelling`` until its worker has noticed, or is gone; its
worker still owns it then, as it owns one that runs, and can only end it.

Change here: what a worker may say. The calls are in
:mod:`scanstore.jobs.jobs`.
"""

from __future__ import annotations

from typing import Any

from scanstore.db.arguments import check_integer, check_progress, check_string
from scanstore.db.clocks import LONGEST_LEASE
from scanstore.db.database import Database
from scanstore.db.processes import alive, gone
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import NotFound
from scanstore.leases import engine
from scanstore.leases.engine import JOBS, LAST_ERROR, Queue

STOPPING = JOBS._replace(leased="cancelling", done=("cancelled",))  # the same rows, on their way out
CANCELLED_WITH = "cancelled with job "  #: begins the error of a part that was cancelled with the job of this id
Owner = tuple[str, int | None]  #: the worker, and for which attempt
Columns = dict[str, Any]


def unknown(key: object) -> NotFound:
    return NotFound(f"no job {key}; store.jobs.list() (scanstore jobs list) shows those that there are")


def status_of(db: Database, key: str) -> str:
    """The status of a job. Raises NotFound."""
    row = db.execute_sql("SELECT status FROM jobs WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise unknown(key)
    return str(row[0])


def heartbeat(
    db: Database,
    key: str,
    owner: Owner,
    lease: float,
    *,
    progress: float | None = None,
    processed: int | None = None,
    total: int | None = None,
    message: str | None = None,
) -> None:
    """Extend a job's lease and set how far it is; a job that was cancelled is left as it is. Raises LeaseLost."""
    saved = _progress_columns(progress, processed, total, message)
    with db.atomic():
        row = db.execute_sql(
            "SELECT status, progress, processed_items, total_items FROM jobs WHERE id = ?", (key,)
        ).fetchone()
        if row is None:
            raise unknown(key)
        status, before, done, items = row
        if status == "cancelled":
            return
        share = _share(saved.get("processed_items", done), saved.get("total_items", items))
        if "progress" in saved or share is not None and ("processed_items" in saved or "total_items" in saved):
            saved["progress"] = max(before, saved.get("progress", share or 0))
        queue = STOPPING if status == "cancelling" else JOBS
        engine.heartbeat(db, queue, key, worker=owner[0], attempt=owner[1], lease=lease, **saved)


def complete(db: Database, key: str, owner: Owner, result: object) -> None:
    """End a job that went well, with its result."""
    text = None if result is None else dump_json(result)
    with db.atomic():
        queue, status = _way_out(db, key, "completed")
        columns: Columns = {"result": text, "completed_at": format_time(utcnow())}
        columns |= {"progress": 100} if queue is JOBS else {"error": _remark(db, key)}
        engine.settle(db, queue, key, status, worker=owner[0], attempt=owner[1], **columns)


def fail(db: Database, key: str, owner: Owner, error: str, retry: bool) -> str:
    """Give a job back with an error."""
    with db.atomic():
        queue, status = _way_out(db, key, "failed")
        if queue is STOPPING:
            _stop(db, key, owner, error)
        else:
            status = engine.fail(db, queue, key, error, worker=owner[0], attempt=owner[1], retry=retry)
    return status


def release(db: Database, key: str, owner: Owner) -> None:
    """Give a job back unchanged."""
    with db.atomic():
        queue, _ = _way_out(db, key, "pending")
        if queue is STOPPING:
            _stop(db, key, owner)
        else:
            engine.release(db, queue, key, worker=owner[0], attempt=owner[1])


def end_cancelled(db: Database) -> None:
    """End jobs that are being cancelled and have lost their worker, inside the caller's transaction."""
    engine.keep(db, STOPPING, None, utcnow(), "cancelling")
    held = db.execute_sql(
        "SELECT DISTINCT process FROM jobs INDEXED BY ix_jobs_cancelling WHERE status = 'cancelling'"
    ).fetchall()
    moment = utcnow()
    now, last = format_time(moment), format_time(moment + LONGEST_LEASE)
    db.executemany(
        "UPDATE jobs SET status = 'cancelled', lease_until = NULL, completed_at = ?, updated_at = ?"
        " WHERE status = 'cancelling' AND process IS ? AND (lease_until <= ? OR ? OR (lease_until > ? AND ?))",
        [(now, now, process, now, gone(process), last, not alive(process)) for (process,) in held],
    )


def _way_out(db: Database, key: str, to: str) -> tuple[Queue, str]:
    """A job that was told to stop ends as cancelled, whatever its owner says of it."""
    if status_of(db, key) in ("cancelling", "cancelled"):
        return STOPPING, "cancelled"
    return JOBS, to


def _stop(db: Database, key: str, owner: Owner, error: str | None = None) -> None:
    columns: Columns = {"completed_at": format_time(utcnow()), "error": _remark(db, key, error)}
    engine.settle(db, STOPPING, key, "cancelled", worker=owner[0], attempt=owner[1], **columns)


def mark_of(error: str | None) -> str | None:
    """Return the part of an error that names the job that this one was cancelled with."""
    return error[: len(CANCELLED_WITH) + 36] if error is not None and error.startswith(CANCELLED_WITH) else None


def _remark(db: Database, key: str, error: str | None = None) -> str | None:
    """Return the error of a job that ends as cancelled: the job that it was cancelled with, and its own error."""
    (kept,) = db.execute_sql("SELECT error FROM jobs WHERE id = ?", (key,)).fetchone()
    said = [each for each in (mark_of(kept), error) if each is not None]
    return ": ".join(said)[:LAST_ERROR] if said else None


def _progress_columns(progress: object, processed: object, total: object, message: object) -> Columns:
    columns: Columns = {}
    if progress is not None:
        columns["progress"] = check_progress(progress)
    if processed is not None:
        columns["processed_items"] = check_integer(processed, "processed")
    if total is not None:
        columns["total_items"] = check_integer(total, "total")
    if message is not None:
        columns["message"] = check_string(message, "message")
    return columns


def _share(processed: int, total: int | None) -> int | None:
    return min(100, processed * 100 // total) if total else None
