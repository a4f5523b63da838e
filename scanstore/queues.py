"""Queues: the tables that are worked through, and how each of them calls what all have in common.

Change here: which tables there are. What is done with them is in :mod:`scanstore.leases`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scanstore.database import Database

Key = int | str  #: of a row
Scope = int | str  #: what a table is divided by
Freed = Callable[[Database, Sequence[tuple[Any, str]], str], None]  #: takes ids and statuses of rows, and the reason


class Queue(NamedTuple):
    """A table that is worked through: its rows are claimed within one ``scope``, by ``rank`` and then by age."""

    table: str
    kind: str  #: as work_counts calls it; empty where rows are counted one by one
    noun: str
    methods: str  #: where the methods are, for remedies
    leased: str
    done: tuple[str, ...]
    scope: str = "scan_id"
    taken: str = ""  #: what else a claim sets; ``:now`` is the time
    ended: str | None = None  #: the column that holds when a row was over
    most_retries: str | None = None  #: the column that holds how many a row has; without one the caller says
    not_before: str | None = None  #: the column that holds before when a row is never ready
    waiting: str = "pending"
    error: str = "error"  #: the column that holds why a row failed last
    freed: Freed | None = None  #: is called, in the transaction, when leases were ended without their owner

    def on(self, what: str) -> str:
        """The name of one of the partial indexes that the mechanism lives on."""
        return f"ix_{self.table}_{what}"


CHUNKS = Queue("chunk_work", "chunk", "chunk", "store.chunks", "running", ("done",))
DRAFTS = Queue("draft_findings", "draft", "draft", "store.drafts", "verifying", ("verified", "rejected", "weakness"))
VERIFIED = Queue("verified_findings", "verified", "verified finding", "store.verified", "enriching", ("complete",))
QUEUES = (CHUNKS, DRAFTS, VERIFIED)  #: the work of scans
JOBS = Queue(
    "jobs", "job", "job", "store.jobs", "running", ("completed",), scope="queue",
    taken="started_at = coalesce(started_at, :now), progress = 0, processed_items = 0, message = ''",
    ended="completed_at", most_retries="max_retries", not_before="run_at",
)  # fmt: skip
AUDIT_TASKS = Queue(
    "audit_tasks", "", "audit", "store.audits", "processing", ("completed",), scope="queue",
    taken="started_at = coalesce(started_at, :now)", ended="completed_at", most_retries="max_retries",
    waiting="queued", error="error_message",
)  # fmt: skip
SESSION_TASKS = Queue(
    "analysis_tasks", "", "task", "store.sessions", "processing", ("completed",), scope="analysis_session_id",
    taken="started_at = coalesce(started_at, :now), progress = 0", ended="completed_at", most_retries="max_retries",
    error="error_message",
)  # fmt: skip


def lost(db: Database) -> bool:
    """Whether there is anything to recover, calls and places among it. Reads only what is under way.

    Every opening asks this, so what it takes to judge is imported when there is something to be judged.
    """
    under_way = [
        (queue.table, queue.on("leased"), queue.leased) for queue in (*QUEUES, JOBS, AUDIT_TASKS, SESSION_TASKS)
    ]
    found: list[tuple[str | None, str]] = []
    for table, index, status in (*under_way, (JOBS.table, JOBS.on("cancelling"), "cancelling")):
        found += db.execute_sql(
            f"SELECT process, min(lease_until) FROM {table} INDEXED BY {index}"
            f" WHERE status = '{status}' GROUP BY process"
        ).fetchall()
    others = "SELECT process FROM model_calls WHERE status = 'running' UNION SELECT process FROM model_slots"
    found += [(process, "~") for (process,) in db.execute_sql(others).fetchall()]  # after any time
    if not found:
        return False
    from scanstore.fields import format_time, utcnow
    from scanstore.workers import gone

    now = format_time(utcnow())
    return any(until <= now or gone(process) for process, until in found)
