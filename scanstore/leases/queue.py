"""Queues: the tables that are worked through, and how each of them calls what all have in common.

Change here: which tables there are. The statements are in :mod:`scanstore.leases.engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from scanstore.db.database import Database

Key = int | str  #: of a row
Scope = int | str  #: what a table is divided by
Freed = Callable[[Database, Sequence[tuple[Key, str]], str], None]  #: takes ids and statuses of rows, and the reason


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
    most_lost: str | None = None  #: the column that holds how many leases a row may lose; without one the caller says
    not_before: str | None = None  #: the column that holds before when a row is never ready
    waiting: str = "pending"
    error: str = "error"  #: the column that holds why a row failed last
    freed: Freed | None = None  #: is called, in the transaction, when leases were ended without their owner
    again: str = ""  #: the condition on a row that lost its lease under which its owner may have it leased once more
    retry: str = ""  #: how a row that failed or was cancelled is tried again

    def on(self, what: str) -> str:
        """The name of one of the partial indexes that the mechanism lives on."""
        return f"ix_{self.table}_{what}"


CHUNKS = Queue(
    "chunk_work", "chunk", "chunk", "store.chunks", "running", ("done",), retry="store.chunks.retry(scan)"
)  # fmt: skip
DRAFTS = Queue(
    "draft_findings", "draft", "draft", "store.drafts", "verifying", ("verified", "rejected", "weakness"),
    retry="store.drafts.retry(scan)",
)  # fmt: skip
VERIFIED = Queue(
    "verified_findings", "verified", "verified finding", "store.verified", "enriching", ("complete",),
    retry="store.verified.retry(scan)",
)  # fmt: skip
QUEUES = (CHUNKS, DRAFTS, VERIFIED)  #: the work of scans
JOBS = Queue(
    "jobs", "job", "job", "store.jobs", "running", ("completed",), scope="queue",
    taken="started_at = coalesce(started_at, :now), progress = 0, processed_items = 0, message = ''",
    ended="completed_at", most_retries="max_retries", most_lost="max_lost", not_before="run_at",
    again="(exclusive_group IS NULL OR NOT EXISTS (SELECT 1 FROM jobs AS g INDEXED BY ix_jobs_exclusive_group"
    " WHERE g.exclusive_group = jobs.exclusive_group AND (g.status = 'running' OR g.status = 'cancelling')))",
    retry="store.jobs.retry(job)",
)  # fmt: skip
AUDIT_TASKS = Queue(
    "audit_tasks", "", "audit", "store.audits", "processing", ("completed",), scope="queue",
    taken="started_at = coalesce(started_at, :now)", ended="completed_at", most_retries="max_retries",
    most_lost="max_lost", waiting="queued", error="error_message", retry="store.audits.retry(audit, by=...)",
)  # fmt: skip
SESSION_TASKS = Queue(
    "analysis_tasks", "", "task", "store.sessions", "processing", ("completed",), scope="analysis_session_id",
    taken="started_at = coalesce(started_at, :now), progress = 0", ended="completed_at", most_retries="max_retries",
    most_lost="max_lost", error="error_message", retry="store.sessions.retry_task(task)",
)  # fmt: skip


class Recovered(NamedTuple):
    """Leases that were lost: rows that wait again, and rows that failed because they lost too many."""

    waiting: int
    failed: int

    @property
    def lost(self) -> int:
        """How many leases were lost."""
        return self.waiting + self.failed


class State(NamedTuple):
    """Where a queue stands. ``ready`` may be claimed now (expired leases among them), ``delayed`` wait for their
    next try, the first of which is due at ``next_at``, as is the first lease to expire. ``lost`` is how many leases
    its rows have lost so far. ``before`` are the rows of earlier stages that are not over: each may add rows here."""

    ready: int
    delayed: int
    leased: int
    done: int
    failed: int
    skipped: int
    next_at: datetime | None
    lost: int = 0
    before: int = 0

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: no row is ready, delayed or leased, here or in an earlier stage."""
        return not (self.ready or self.delayed or self.leased or self.before)


class Stop(Protocol):
    """What tells a worker to stop: a ``threading.Event``, or anything with its two methods."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...
