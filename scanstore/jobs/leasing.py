"""The methods for workers: claim a job, report progress, finish it; and the recovery of jobs of dead workers.

See :mod:`scanstore.leases.engine` for the mechanism.

A finished job never changes again: the WHERE clause of every statement refuses a late report, and a trigger refuses all
other writers. A running job that is cancelled is ``cancelling`` until its worker notices or dies. The worker still owns
it, and can only finish it.

Change here: which jobs a claim skips, and the reports of a worker.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from scanstore.db.arguments import check_text, copy_saved
from scanstore.db.clocks import LONGEST_LEASE
from scanstore.db.database import Database
from scanstore.db.domain import Domain
from scanstore.db.processes import alive, gone
from scanstore.db.state_machine import Machine
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import IllegalMove
from scanstore.jobs.models import (  # fmt: skip
    QUEUE,
    STOPPING,
    Job,
    check_types,
    complete,
    fail,
    key_of,
    owner_of,
    status_of,
    tick,
    unknown,
    way_out,
)
from scanstore.leases import engine
from scanstore.leases.engine import JOBS, LEASE, Recovered, check_lease

UNLIMITED = "9e18"

LIFE = Machine(
    "jobs",
    "job",
    {"pending": ("failed", "cancelled")},
    {
        "pending": "it waits to be claimed as it is",
        "running": "wait until it is over, or cancel it: store.jobs.cancel(job) (scanstore jobs cancel ID)",
        "cancelling": "wait until its worker has let it go",
        "completed": "enqueue another one for another run",
    },
)

# A claim skips other types, and exclusive groups with a running job. Jobs that are being cancelled and have lost their
# worker are ended first.
GUARD = """(:types IS NULL OR type IN (SELECT value FROM json_each(:types))) AND (:only IS NULL OR id = :only)
 AND (exclusive_group IS NULL OR NOT EXISTS (
      SELECT 1 FROM jobs AS g INDEXED BY ix_jobs_exclusive_group
       WHERE g.exclusive_group = jobs.exclusive_group AND (g.status = 'running' OR g.status = 'cancelling')))
 AND NOT EXISTS (SELECT 1 FROM jobs INDEXED BY ix_jobs_cancelling WHERE status = 'cancelling' AND lease_until <= :now)
"""

# From the root down: each child gets an equal share of its parent's weight, and only jobs without children count.
PROGRESS = """
WITH RECURSIVE tree (root, id, weight, parts) AS (
    SELECT i.value, i.value, 1.0, (SELECT count(*) FROM jobs AS c WHERE c.parent_id = i.value) FROM json_each(?) AS i
     UNION ALL
    SELECT t.root, j.id, t.weight / t.parts, (SELECT count(*) FROM jobs AS c WHERE c.parent_id = j.id)
      FROM tree AS t CROSS JOIN jobs AS j INDEXED BY ix_jobs_parent_id ON j.parent_id = t.id
)
SELECT t.root, sum(t.weight * CASE WHEN j.completed_at IS NOT NULL THEN 100 ELSE j.progress END)
  FROM tree AS t CROSS JOIN jobs AS j ON j.id = t.id
 WHERE t.parts = 0 AND t.id <> t.root GROUP BY t.root
"""


class JobLeases(Domain):
    """The methods for workers; part of ``store.jobs``."""

    def __init__(self, db: Database, store: object = None) -> None:
        super().__init__(db)
        self.store = store  # available to handlers as ``job.store``

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(
        self,
        types: str | Iterable[str] | None = None,
        *,
        worker: str | None = None,
        limit: int = 1,
        lease: float = LEASE,
        queue: str = QUEUE,
    ) -> list[Job]:
        """Lease up to ``limit`` jobs of these types (default: any) for ``lease`` seconds. Atomic.

        Jobs are claimed by priority and then age. An empty list means that no job is ready now, not that all are done:
        see :meth:`state`. Each job is leased to one worker (default: this process). When that process ends or the lease
        expires, the next worker gets it.
        """
        worker = check_lease(worker, lease, limit)
        wanted = None if types is None else check_types(types)
        found = self._claim(check_text(queue, "queue"), worker, limit, lease, wanted)
        return self._claimed(found, lease)

    def start(self, job: Job | str | uuid.UUID, *, worker: str | None = None, lease: float = LEASE) -> Job:
        """Lease this job, independent of its priority. Raises NotFound, and IllegalMove if it cannot be claimed now."""
        worker = check_lease(worker, lease)
        with self.db.atomic():
            before = self._row(key_of(job))
            found = self._claim(before.queue, worker, 1, lease, None, only=before.id)
            if not found:
                raise _not_now(self._row(before.id))
        return self._claimed(found, lease)[0]

    def _claim(
        self, queue: str, worker: str, limit: int, lease: float, types: list[str] | None, only: str | None = None
    ) -> dict[str, int]:
        values = {"types": None if types is None else dump_json(types), "only": only}

        def one() -> dict[str, int]:
            row = engine.claim_one(
                self.db, JOBS, queue,
                worker=worker, lease=lease, most=UNLIMITED, guard=GUARD, more="NULL", values=values,
            )  # fmt: skip
            return {} if row is None else {row[0]: row[1]}

        found = one() if limit == 1 else {}
        if found:  # the usual case: one statement
            return found
        with self.db.atomic():
            engine.free_expired(self.db, JOBS, queue)
            end_cancelled(self.db)
            while len(found) < limit and (more := one()):
                found |= more
            if len(found) < limit and any(engine.recover(self.db, JOBS, queue)):
                while len(found) < limit and (more := one()):
                    found |= more
        return found

    def _claimed(self, found: dict[str, int], lease: float) -> list[Job]:
        # Read outside the transaction, so that others can write. A job that was lost meanwhile belongs to another
        # worker.
        rows = [row for row in self._rows(list(found)) if row.attempt == found[row.id]]
        for row in rows:
            row.lease, row.store = lease, self.store
        return rows

    # -- methods for the owner of a lease
    # ----------------------------------------------------------------------------------------

    def tick(
        self,
        job: Job | str | uuid.UUID,
        *,
        progress: float | None = None,
        processed: int | None = None,
        total: int | None = None,
        message: str | None = None,
        worker: str | None = None,
        lease: float | None = None,
    ) -> bool:
        """Report progress of a job, and extend its lease to ``lease`` seconds from now.

        Returns False if the job was cancelled and its worker should stop; the progress is saved in any case.
        ``progress`` is in per cent; by default it is computed from ``processed`` of ``total`` items. It never decreases
        until the job is claimed again. Raises InvalidArgument, LeaseLost if the job is no longer leased to the worker,
        NotFound. A finished job is never changed.
        """
        return tick(
            self.db, job, progress=progress, processed=processed, total=total, message=message, worker=worker,
            lease=lease,
        )  # fmt: skip

    heartbeat = tick

    def complete(self, job: Job | str | uuid.UUID, *, result: object = None, worker: str | None = None) -> str:
        """Complete a job and save its result, any JSON value. Return its status, ``completed``.

        A job that is being cancelled becomes ``cancelled``, with its result. Idempotent. Raises InvalidArgument for a
        result that is not JSON, LeaseLost, NotFound. Nothing is changed then.
        """
        return complete(self.db, job, result=result, worker=worker)

    def fail(
        self,
        job: Job | str | uuid.UUID,
        error: str | BaseException,
        *,
        retry: bool = True,
        worker: str | None = None,
    ) -> str:
        """Fail a job with an error. Return its status: ``pending``, ``failed``, or ``cancelled`` if it was being
        cancelled.

        The job is retried after two seconds, doubled with each retry, up to ``max_retries`` times. With ``retry=False``
        it fails immediately. Raises LeaseLost, NotFound.
        """
        return fail(self.db, job, error, retry=retry, worker=worker)

    def release(self, job: Job | str | uuid.UUID, *, worker: str | None = None) -> str:
        """Release a job unchanged, so that any worker can claim it. Return its status: ``pending``, or ``cancelled`` if
        it was being cancelled. Raises LeaseLost, NotFound.
        """
        check_lease(worker, LEASE)
        key, owner, attempt = owner_of(job, worker)
        with self.db.atomic():
            queue, status = way_out(self.db, key, "pending")
            if queue is STOPPING:
                now = format_time(utcnow())
                engine.settle(self.db, queue, key, status, worker=owner, attempt=attempt, completed_at=now)
            else:
                engine.release(self.db, queue, key, worker=owner, attempt=attempt)
        copy_saved(job, status=status, lease_until=None)
        return status

    def recover(self, *, queue: str | None = None) -> Recovered:
        """Free jobs of expired leases and dead processes. Jobs that were being cancelled become cancelled. Claims and
        opening a store do this too, if necessary.
        """
        with self.db.atomic():
            end_cancelled(self.db)
            return engine.recover(self.db, JOBS, queue)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _status(self, key: str) -> str:
        return status_of(self.db, key)

    def _row(self, key: str) -> Job:
        rows = self._rows([key])
        if not rows:
            raise unknown(key)
        return rows[0]

    def _rows(self, keys: Sequence[str]) -> list[Job]:
        """Return the rows with these ids, in this order."""
        fields = Job._meta.sorted_fields
        names = ", ".join(f"j.{field.column_name}" for field in fields)
        rows = []
        for values in self.db.execute_sql(
            f"SELECT {names} FROM json_each(?) AS i CROSS JOIN jobs AS j ON j.id = i.value", (dump_json(list(keys)),)
        ).fetchall():
            row = Job(__no_default__=True)
            row.__data__ = {
                field.name: field.python_value(value) for field, value in zip(fields, values, strict=True)
            }  # fmt: skip
            rows.append(row)
        return self._with_progress(rows)

    def _with_progress(self, rows: list[Job]) -> list[Job]:
        if rows:
            derived = dict(self.db.execute_sql(PROGRESS, (dump_json([row.id for row in rows]),)).fetchall())
            for row in rows:
                if row.id in derived:
                    row.__data__["progress"] = int(round(derived[row.id], 6))
        return rows


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


def _not_now(row: Job) -> IllegalMove:
    if row.status != "pending":
        why = LIFE.remedies.get(row.status, "let it wait again first: store.jobs.retry(job) (scanstore jobs retry ID)")
        return IllegalMove(f"job {row.id} is {row.status} and cannot be started; {why}")
    if row.next_retry_at is not None:
        return IllegalMove(f"job {row.id} waits until {format_time(row.next_retry_at)}; start it then")
    return IllegalMove(
        f"job {row.id} waits for another of group {row.exclusive_group!r}; start it when that one is over"
    )
