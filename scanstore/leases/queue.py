"""Queues: a description of each work queue, with the names of its columns and statuses.

Change here: the list of queues. The statements are in :mod:`scanstore.leases.engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from scanstore.db.database import Database
from scanstore.db.notebooks import described

LEASE = 600.0  #: seconds that a claim holds unless told otherwise
MOST_RETRIES = 3
MOST_LOST = 10  #: leases that a row may lose without failing, unless told otherwise
Key = int | str  #: the id of a row
Scope = int | str  #: the part of a table that is claimed from, such as a scan
Freed = Callable[[Database, Sequence[tuple[Key, str]], str], None]  #: takes the rows and the reason


class Queue(NamedTuple):
    """A work queue: its rows are claimed within one ``scope``, by ``rank`` and then by age."""

    table: str
    kind: str  #: its name in work_counts; empty if rows are counted one by one
    noun: str
    methods: str  #: the location of the methods, for remedies
    leased: str
    done: tuple[str, ...]
    scope: str = "scan_id"
    taken: str = ""  #: further columns that a claim sets; ``:now`` is the time
    ended: str | None = None  #: the column with the end time of a row
    most_retries: str | None = None  #: the column with the limit of retries; without one the caller passes the limit
    most_lost: str | None = None  #: the column with the limit of lost leases; without one the caller passes the limit
    not_before: str | None = None  #: the column with the earliest time at which a row is ready
    waiting: str = "pending"
    error: str = "error"  #: the column with the last error of a row
    freed: Freed | None = None  #: called in the transaction when rows of lost owners were freed
    again: str = ""  #: the condition under which the owner of a row with a lost lease may lease it again
    retry: str = ""  #: how to retry a failed or cancelled row
    guard: str = "1"  #: the condition on a row under which it may be claimed, over ``:now`` and the claim's own values
    one_by_one: bool = False  #: whether the guard depends on the rows that are leased already

    def on(self, what: str) -> str:
        """Return the name of one of the partial indexes of the queue."""
        return f"ix_{self.table}_{what}"


CHUNKS = Queue(
    "chunk_work", "chunk", "chunk", "store.chunks", "running", ("done",), retry="store.chunks.retry(chunk)"
)  # fmt: skip
DRAFTS = Queue(
    "draft_findings", "draft", "draft", "store.drafts", "verifying", ("verified", "rejected", "weakness"),
    retry="store.drafts.retry(draft)",
)  # fmt: skip
VERIFIED = Queue(
    "verified_findings", "verified", "verified finding", "store.verified", "enriching", ("complete",),
    retry="store.verified.retry(row)",
)  # fmt: skip
QUEUES = (CHUNKS, DRAFTS, VERIFIED)  #: the queues of an analysis
_GROUP_RUNS = (
    "EXISTS (SELECT 1 FROM jobs AS g INDEXED BY ix_jobs_exclusive_group"
    " WHERE g.exclusive_group = jobs.exclusive_group AND (g.status = 'running' OR g.status = 'cancelling'))"
)
_GROUP_IS_FREE = f"(exclusive_group IS NULL OR NOT {_GROUP_RUNS})"
JOBS = Queue(
    "jobs", "", "job", "store.jobs", "running", ("completed",), scope="queue",
    taken="started_at = coalesce(started_at, :now), progress = 0, processed_items = 0, message = ''",
    ended="completed_at", most_retries="max_retries", most_lost="max_lost", not_before="run_at",
    again=_GROUP_IS_FREE, retry="store.jobs.retry(job)", one_by_one=True,
    # Other types are passed over, and groups of which one runs. Nothing is claimed while a job that is being cancelled
    # has lost its worker: that one is ended first.
    guard="(:types IS NULL OR type IN (SELECT value FROM json_each(:types))) AND (:only IS NULL OR id = :only)"
    f" AND {_GROUP_IS_FREE} AND NOT EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_cancelling"
    " WHERE status = 'cancelling' AND lease_until <= :now)",
)  # fmt: skip
AUDIT_TASKS = Queue(
    "audit_tasks", "", "audit", "store.audits", "processing", ("completed",), scope="queue",
    taken="started_at = coalesce(started_at, :now)", ended="completed_at", most_retries="max_retries",
    most_lost="max_lost", waiting="queued", error="error_message", retry="store.audits.retry(audit)",
)  # fmt: skip
SESSION_TASKS = Queue(
    "analysis_tasks", "", "task", "store.sessions.tasks", "processing", ("completed",), scope="analysis_session_id",
    taken="started_at = coalesce(started_at, :now), progress = 0", ended="completed_at", most_retries="max_retries",
    most_lost="max_lost", error="error_message", retry="store.sessions.tasks.retry(task)",
    guard="(:types IS NULL OR task_type IN (SELECT value FROM json_each(:types)))",
)  # fmt: skip


@described
class Recovered(NamedTuple):
    """Lost leases: rows that are pending again, and rows that failed because they lost too many."""

    waiting: int
    failed: int

    @property
    def lost(self) -> int:
        """The number of lost leases."""
        return self.waiting + self.failed


@described
class State(NamedTuple):
    """The state of a queue. ``ready`` rows can be claimed now (including those with expired leases); ``delayed`` rows
    wait for a retry. ``next_at`` is the next time at which a retry is due or a lease expires. ``lost`` is the number of
    leases that its rows have lost. ``before`` counts the unfinished rows of earlier stages, each of which may add rows
    here.
    """

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
        """Whether no row is ready, delayed or leased, in this stage or an earlier one."""
        return not (self.ready or self.delayed or self.leased or self.before)


def add_states(states: Sequence[State]) -> State:
    """The state of several divisions of a queue together."""
    if not states:
        return State(0, 0, 0, 0, 0, 0, None)
    due = [state.next_at for state in states if state.next_at is not None]
    ready, delayed, leased, done, failed, skipped, _, lost, before = zip(*states, strict=True)
    return State(
        sum(ready), sum(delayed), sum(leased), sum(done), sum(failed), sum(skipped), min(due, default=None), sum(lost),
        sum(before),
    )  # fmt: skip


class Stop(Protocol):
    """A stop signal for workers: a ``threading.Event``, or any object with these two methods."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...
