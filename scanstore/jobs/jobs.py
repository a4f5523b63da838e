"""Jobs: the queue of background work, with its queries.

A job is pending, then leased to a worker (:mod:`scanstore.jobs.leasing`), then finished.

A job may have child jobs. Its progress is then computed when it is read: the mean of the children's progress, where a
finished child counts as 100.

Change here: how jobs are added and removed, and the queries about them. The loop that runs jobs is in
:mod:`scanstore.jobs.worker`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import peewee

from scanstore.db.arguments import check_bool, check_choice, check_integer, check_text
from scanstore.db.database import SCHEMA_VERSION, Database
from scanstore.db.domain import List, long, reads
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Rows
from scanstore.db.spans import check_span
from scanstore.db.state_machine import JOB_STATUSES, Machine
from scanstore.db.user_schema import holding
from scanstore.db.uuids import uuid7
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, NotFound, shown
from scanstore.jobs import cancelling, leasing
from scanstore.jobs.leasing import end_cancelled, status_of, unknown
from scanstore.jobs.models import QUEUE, check_types, format_run_at, key_of, scene_key, scene_keys
from scanstore.jobs.models import Job as Job
from scanstore.jobs.models import JobScene as JobScene
from scanstore.jobs.worker import Handler, Worked, check_seconds, run_worker
from scanstore.leases import engine
from scanstore.leases.checks import check_stop
from scanstore.leases.engine import (
    JOBS,
    LEASE,
    MOST_LOST,
    MOST_RETRIES,
    NO_VALUES,
    Recovered,
    State,
    Values,
    check_lease,
)
from scanstore.leases.queue import Key, Queue, Scope, add_states
from scanstore.leases.work import LeasedWork
from scanstore.library.models import Scene

if TYPE_CHECKING:
    from scanstore.db.words import JobStatus
    from scanstore.leases.queue import Stop

# Completely finished trees of jobs, the newest first: their roots, end times, and members, the deepest first.
OVER = """
WITH RECURSIVE tree (root, id, depth) AS (
    SELECT id, id, 0 FROM jobs WHERE completed_at IS NOT NULL AND parent_id IS NULL
     UNION ALL
    SELECT t.root, j.id, t.depth + 1
      FROM tree AS t CROSS JOIN jobs AS j INDEXED BY ix_jobs_parent_id ON j.parent_id = t.id
)
SELECT max(j.completed_at), json_group_array(json_array(t.depth, t.id))
  FROM tree AS t CROSS JOIN jobs AS j ON j.id = t.id
 GROUP BY t.root HAVING count(*) = count(j.completed_at) ORDER BY t.root DESC
"""

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

# From the whole down: each part weighs its share of what its parent weighs, and what has no parts counts.
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


class Jobs(LeasedWork[Job, str | uuid.UUID, str | Iterable[str]]):
    """Jobs of all types: queued, claimed, watched, cancelled. A scope is a type of jobs, or several."""

    queue = JOBS
    model = Job
    life = LIFE
    anew = {
        "completed_at": None, "started_at": None, "result": None, "progress": 0, "processed_items": 0, "message": "",
    }  # fmt: skip

    def __init__(self, db: Database, store: object = None) -> None:
        super().__init__(db)
        self.store = store  # handed to the handlers, as ``job.store``

    # -- adding jobs --------------------------------------------------------------------------------------------------

    def enqueue(
        self,
        type: str,
        *,
        unique: str | None = None,
        parent: Job | str | uuid.UUID | None = None,
        scenes: Iterable[Scene | str] = (),
        run_at: datetime | None = None,
        priority: int = 0,
        meta: Mapping[str, object] | None = None,
        exclusive_group: str | None = None,
        max_retries: int = MOST_RETRIES,
        max_lost: int = MOST_LOST,
        queue: str = QUEUE,
    ) -> Job:
        """Add a job. Atomic, or part of the caller's transaction.

        If an unfinished job has the key ``unique``, that job is returned and nothing is added. ``meta`` is the job's
        input, a JSON object. The job is not claimed before ``run_at``. Jobs with a higher ``priority`` are claimed
        first, and only one job of an ``exclusive_group`` runs at a time. The job fails after ``max_retries`` failures,
        or when more than ``max_lost`` leases are lost because workers die or hang. It becomes a child of ``parent``,
        which must not be cancelled, and is linked to ``scenes``.

        Raises InvalidArgument, NotFound for an unknown parent or scene, IllegalMove for a cancelled parent, and
        Conflict if an unfinished job of another type has the key.
        """
        row: dict[str, Any] = {
            "id": str(uuid7()),
            "type": check_text(type, "type"),
            "queue": check_text(queue, "queue"),
            "unique_key": None if unique is None else check_text(unique, "unique"),
            "exclusive_group": None if exclusive_group is None else check_text(exclusive_group, "exclusive_group"),
            "rank": -check_integer(priority, "priority", least=-(2**31) + 1),
            "max_retries": check_integer(max_retries, "max_retries"),
            "max_lost": check_integer(max_lost, "max_lost"),
            "run_at": format_run_at(run_at),
            "parent_id": None if parent is None else key_of(parent),
        }
        if meta is not None and not isinstance(meta, Mapping):
            raise InvalidArgument(f"meta is {shown(meta)}; give a mapping, such as {{'path': 'src'}}")
        row["meta"] = dump_json({} if meta is None else dict(meta))
        about = scene_keys(scenes)
        with self.db.atomic():
            live = None if unique is None else self._live(row["unique_key"])
            if live is not None:
                known = self._row(live)
                if known.type != row["type"]:
                    raise Conflict(
                        f"unique key {unique!r} is that of job {known.id}, of type {known.type!r}; give another key"
                    )
                return known
            if parent is not None:
                self._check_parent(row["parent_id"])
            now = format_time(utcnow())
            row["next_retry_at"] = row["run_at"] if (row["run_at"] or "") > now else None
            row["created_at"] = row["updated_at"] = now
            self.db.execute_sql(
                f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )
            self._link(row["id"], about)
            return self._row(row["id"])

    def _check_parent(self, key: str) -> None:
        status = self._status(key)
        if status in ("cancelling", "cancelled"):
            raise IllegalMove(f"job {key} is {status} and gets no more parts; retry it first: store.jobs.retry(job)")

    def _link(self, key: str, scenes: Sequence[str]) -> None:
        if not scenes:
            return
        text = dump_json(scenes)
        absent = self.db.execute_sql(
            "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM scenes) LIMIT 4", (text,)
        ).fetchall()
        if absent:
            names = ", ".join(name for (name,) in absent[:3]) + (", …" if len(absent) > 3 else "")
            raise NotFound(f"no scene {names}; store.library.list() shows those that were synced")
        self.db.execute_sql(
            "INSERT INTO job_scenes (job_id, scene_id) SELECT ?, value FROM json_each(?)", (key, text)
        )  # fmt: skip

    # -- cancelling, retrying, removing
    # ---------------------------------------------------------------------------------------

    def cancel(self, job: Job | str | uuid.UUID) -> Job:
        """Cancel a job and its children, in any status, and return it. Atomic.

        A pending job becomes ``cancelled`` immediately. A running job becomes ``cancelling``: its worker's next
        heartbeat says so, and any report of the worker, the end of its process or of its lease makes it ``cancelled``.
        Cancelling it again meanwhile changes nothing. The ``error`` of a child names the job that it was cancelled
        with.

        Raises InvalidArgument, NotFound, and IllegalMove if the job and all its children are finished.
        """
        key = key_of(job)
        with self.db.atomic():
            cancelling.cancel(self.db, key)
            return self._row(key)

    def retry(self, *items: Job | str | uuid.UUID) -> Rows[Job]:
        """Let failed or cancelled jobs wait again, with all their retries, and return them. Atomic.

        The children that were cancelled together with a job are retried with it. Children that failed, or were
        cancelled on their own, stay as they are.

        Raises InvalidArgument, NotFound, IllegalMove for a job that did not fail and was not cancelled and for one with
        a child that is still being cancelled, and Conflict if another unfinished job has the unique key. Nothing is
        changed then.
        """
        keys = [key_of(item) for item in items]
        # A child is newer than its parent. It comes first, because the parent may revive it.
        found = {row.id: row for row in super().retry(*sorted(keys, reverse=True))}
        return Rows((found[key] for key in keys), Job)

    def _retry(self, key: Key) -> None:
        for each in (str(key), *cancelling.cancelled_with(self.db, str(key))):
            sql = "SELECT unique_key FROM jobs WHERE id = ? AND completed_at IS NOT NULL AND unique_key IS NOT NULL"
            for (unique,) in self.db.execute_sql(sql, (each,)).fetchall():
                if (other := self._live(unique)) is not None:
                    raise Conflict(
                        f"job {each} cannot be retried while job {other} has its unique key {unique!r};"
                        " wait for that one, or cancel it"
                    )
            super()._retry(each)

    def prune(
        self, *, older_than: timedelta | str | None = None, keep_last: int | None = None, dry_run: bool = True
    ) -> int:
        """Remove finished jobs, each with all its children or not at all, and return their number. Atomic.

        The newest ``keep_last`` jobs without a parent are kept, as are jobs that ended less than ``older_than`` ago (a
        timedelta, or text such as ``30d``), and jobs that rows of the user's own tables refer to. With ``dry_run`` the
        jobs are only counted, as in ``store.prune``. Raises InvalidArgument if neither ``keep_last`` nor
        ``older_than`` is given.
        """
        if older_than is None and keep_last is None:
            raise InvalidArgument("nothing says which jobs to remove; give older_than=, keep_last= or both")
        age = timedelta(0) if older_than is None else check_span(older_than, "older_than")
        kept = 0 if keep_last is None else check_integer(keep_last, "keep_last", most=2**63 - 1)
        check_bool(dry_run, "dry_run")
        try:
            before = format_time(utcnow() - age)
        except OverflowError:
            return 0
        with self.db.atomic():
            trees = self.db.execute_sql(OVER).fetchall()[kept:]
            held = holding(lambda sql: self.db.execute_sql(sql).fetchall(), SCHEMA_VERSION, "jobs", "id")
            found = [json.loads(members) for ended, members in trees if ended <= before]
            jobs = [job for tree in found if held.keys().isdisjoint(key for _, key in tree) for job in tree]
            if not dry_run:  # the deepest first, because SQLite limits the depth of cascading deletes
                self.db.executemany("DELETE FROM jobs WHERE id = ?", [(key,) for _, key in sorted(jobs, reverse=True)])
        return len(jobs)

    # -- queries ----------------------------------------------------------------------------------------------------

    @reads
    def find(self, item: Job | str | uuid.UUID | None = None, *, unique: str | None = None) -> Job | None:
        """Return the job with this id, or the unfinished job with the key ``unique``; None if there is none.

        Give one of the two. Raises InvalidArgument.
        """
        if (item is None) is (unique is None):
            raise InvalidArgument("give a job or its id, or unique=, the key of an unfinished job")
        if item is not None:
            return super().find(item)
        key = self._live(check_text(unique, "unique"))
        return None if key is None else self._row(key)

    def _live(self, unique: str) -> str | None:
        """Return the id of the unfinished job with a unique key."""
        row = self.db.execute_sql(
            "SELECT id FROM jobs INDEXED BY uq_jobs_unique_key WHERE unique_key = ?"
            " AND (status = 'pending' OR status = 'running' OR status = 'cancelling')",
            (unique,),
        ).fetchone()
        return None if row is None else str(row[0])

    @reads
    def list(
        self,
        *,
        status: JobStatus | None = None,
        type: str | None = None,
        parent: Job | str | uuid.UUID | None = None,
        scene: Scene | str | None = None,
        queue: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Job]:
        """List jobs, the newest first, optionally of a status, type, parent, scene or queue.

        Results are left out, because they may be large: ``job.result`` reads one when it is used, in the current store,
        and :meth:`get` reads all columns. ``sort`` names another column, as for ``store.page``. Raises InvalidArgument.
        """
        query = _light()
        if status is not None:
            query = query.where(Job.status == check_choice(status, "status", JOB_STATUSES))
        if type is not None:
            query = query.where(Job.type == check_text(type, "type"))
        if parent is not None:
            query = query.where(Job.parent == key_of(parent))
        if scene is not None:
            query = query.where(Job.id.in_(JobScene.select(JobScene.job).where(JobScene.scene == scene_key(scene))))
        if queue is not None:
            query = query.where(Job.queue == check_text(queue, "queue"))
        return self._with_progress(listed(query.order_by(Job.id.desc()), limit=limit, offset=offset, sort=sort))

    @reads
    def children(self, job: Job | str | uuid.UUID, *, limit: int | None = None, offset: int = 0) -> Rows[Job]:
        """List the children of a job, the oldest first, without their results, as :meth:`list` does.

        Raises NotFound and InvalidArgument.
        """
        key = key_of(job)
        check_window(limit, offset)
        self._status(key)
        query = _light().where(Job.parent == key).order_by(Job.id)
        return self._with_progress(listed(query, limit=limit, offset=offset))

    @reads
    def state(self, scope: str | Iterable[str] | None = None, *, queue: str | None = None) -> State:
        """Return the number of jobs that are ready, delayed, leased, completed, failed and cancelled (``skipped``), and
        when the next is due: of all jobs, of some types, of a queue, or of some types in a queue.

        ``state().finished`` says that no job is left to do. Raises InvalidArgument.
        """
        states = []
        for part, key in self._divisions(scope, queue):
            found = engine.state(self.db, part, key)
            (stopping,) = self.db.execute_sql(
                "SELECT count(*) FROM jobs INDEXED BY ix_jobs_cancelling"
                f" WHERE status = 'cancelling' AND (?1 IS NULL OR {part.scope} = ?1)",
                (key,),
            ).fetchone()
            states.append(found._replace(leased=found.leased + stopping))
        return add_states(states)

    @long
    def wait(
        self,
        job: Job | str | uuid.UUID,
        *,
        timeout: float | None = None,
        poll: float = 0.1,
        stop: Stop | None = None,
    ) -> Job:
        """Wait until a job is finished, at most ``timeout`` seconds or until ``stop`` is set, and return its current
        row.

        Raises NotFound, and IllegalMove inside a transaction, which would never see the job finish.
        """
        check_seconds(poll, "poll")
        check_seconds(timeout, "timeout", zero=True)
        check_stop(stop)
        if self.db.in_sqlite_transaction():
            raise IllegalMove("a transaction is open, and no worker can end a job before it is over; leave it first")
        end = None if timeout is None else time.monotonic() + timeout
        while not (row := self.get(job)).over and (end is None or time.monotonic() < end):
            time.sleep(poll)
            if stop is not None and stop.is_set():
                break
        return row

    # -- running jobs
    # ---------------------------------------------------------------------------------------------------

    def claim(
        self,
        scope: str | Iterable[str] | None = None,
        *,
        worker: str | None = None,
        limit: int = 1,
        lease: float = LEASE,
        queue: str = QUEUE,
    ) -> Rows[Job]:
        """Lease up to ``limit`` jobs of these types (default: any) in a queue, see :meth:`LeasedWork.claim`.

        Jobs of an ``exclusive_group`` of which one runs are passed over.
        """
        worker = check_lease(worker, lease, limit)
        return self._lease(check_text(queue, "queue"), worker, limit, lease, types=self._scope(scope))

    @long
    def work(
        self,
        scope: str | Iterable[str] | None = None,
        *,
        worker: str | None = None,
        lease: float = LEASE,
        wait: bool = True,
        stop: Stop | None = None,
        queue: str = QUEUE,
    ) -> Iterator[Job]:
        """Claim jobs of these types (default: any) in a queue, one after the other, until nothing is left to do or
        ``stop`` is set, see :meth:`LeasedWork.work`.
        """
        types = None if scope is None else check_types(scope)
        part = dump_json([check_text(queue, "queue"), types])
        yield from self._work(part, worker=worker, lease=lease, wait=wait, stop=stop)

    def start(self, job: Job | str | uuid.UUID, *, worker: str | None = None, lease: float = LEASE) -> Job:
        """Lease this one job, out of turn. Raises NotFound, and IllegalMove when it cannot be claimed now."""
        worker = check_lease(worker, lease)
        with self.db.atomic():
            before = self._row(key_of(job))
            found = self._lease(before.queue, worker, 1, lease, only=before.id)
            if not found:
                raise _not_now(self._row(before.id))
        return found[0]

    def _claim(
        self, scope: Scope | None, worker: str, limit: int, lease: float, values: Values = NO_VALUES
    ) -> Rows[Job]:
        queue, types = json.loads(str(scope))  # as work() gives it
        return self._lease(queue, worker, limit, lease, types=None if types is None else dump_json(types))

    def _lease(
        self, queue: str, worker: str, limit: int, lease: float, types: object = None, only: str | None = None
    ) -> Rows[Job]:
        values = {"types": types, "only": only}
        if limit == 1:  # mostly: one statement
            one = engine.claim_one(self.db, JOBS, queue, worker=worker, lease=lease, values=values)
            if one is not None:
                return self._claimed({one[0]: one[1]}, lease)
        with self.db.atomic():
            end_cancelled(self.db)
            found = engine.claim(self.db, JOBS, queue, worker=worker, limit=limit, lease=lease, values=values)
        return self._claimed(found, lease)

    def _claimed(self, found: dict[Any, int], lease: float) -> Rows[Job]:
        rows = super()._claimed(found, lease)
        for row in rows:
            row.store = self.store
        return rows

    def heartbeat(
        self,
        item: Job | str | uuid.UUID,
        *,
        progress: float | None = None,
        processed: int | None = None,
        total: int | None = None,
        message: str | None = None,
        worker: str | None = None,
        lease: float | None = None,
    ) -> Job:
        """Extend the lease to ``lease`` seconds from now (default: as claimed) and say how far the job is; return it.

        Its status is ``running``, or ``cancelling`` or ``cancelled`` when its worker should end; its progress is kept
        all the same. ``progress`` is in per cent and, without it, follows from ``processed`` of ``total`` items; it
        never goes back, until the job is claimed again. Raises InvalidArgument, LeaseLost when the job is not leased to
        the worker any more, NotFound; a finished job is never changed.
        """
        key, owner, attempt = self._owner(item, worker)
        lease = (item.lease if isinstance(item, Job) else LEASE) if lease is None else lease
        check_lease(worker, lease)
        with self.db.atomic():
            leasing.heartbeat(
                self.db, str(key), (owner, attempt), lease,
                progress=progress, processed=processed, total=total, message=message,
            )  # fmt: skip
            return self._reread(item, key)

    def complete(self, job: Job | str | uuid.UUID, *, result: object = None, worker: str | None = None) -> Job:
        """End a job that went well and keep its result, any JSON value; return it.

        One that is being cancelled ends as ``cancelled``, with its result. Doing it twice is harmless. Raises
        InvalidArgument for a result that is not JSON, LeaseLost, NotFound; nothing is changed then.
        """
        key, owner, attempt = self._owner(job, worker)
        with self.db.atomic():
            leasing.complete(self.db, str(key), (owner, attempt), result)
            return self._reread(job, key)

    def _fail(self, key: Key, error: str, owner: str, attempt: int | None, retry: bool) -> str:
        return leasing.fail(self.db, str(key), (owner, attempt), error, retry)

    def _release(self, key: Key, owner: str, attempt: int | None) -> None:
        leasing.release(self.db, str(key), (owner, attempt))

    def recover(self, scope: str | Iterable[str] | None = None, *, queue: str | None = None) -> Recovered:
        """Free leases that expired or whose process ended: of all jobs, of some types, of a queue, or of some types in
        a queue. Return their number.

        Jobs that were being cancelled are cancelled. Claims and opening a store do the same when needed. Raises
        InvalidArgument.
        """
        with self.db.atomic():
            end_cancelled(self.db)
            found = [engine.recover(self.db, part, key) for part, key in self._divisions(scope, queue)]
        return Recovered(sum(each.waiting for each in found), sum(each.failed for each in found))

    @long
    def run_worker(
        self,
        handlers: Mapping[str, Handler],
        *,
        worker: str | None = None,
        types: Iterable[str] | None = None,
        queue: str = QUEUE,
        lease: float = LEASE,
        poll: float = 0.5,
        until_empty: bool = False,
        stop: Stop | None = None,
        ended: Callable[[Job], None] | None = None,
    ) -> Worked:
        """Claim jobs one after another, call the handler of each job's type, and return the number of jobs by outcome.

        A handler is called with the claimed job, outside any transaction and with this store current. Its return value,
        a JSON value, becomes the job's result. An exception becomes its error, and the job is retried. While the
        handler runs, the lease is extended. The handler may finish the job itself (``job.mark_failed(error,
        retry=False)``), and should return when ``job.update_progress()`` is False. Jobs of other types are not claimed.

        Runs until ``stop`` (a ``threading.Event``) is set or, in the main thread, until SIGINT or SIGTERM: the running
        handler is finished first, unless the signal is repeated. With ``until_empty`` it ends as soon as no job can be
        claimed; delayed jobs are left. Polls for jobs every ``poll`` seconds. ``ended`` is called with each job after
        its end.

        Every job runs at least once: if its worker dies, another worker gets it. Raises InvalidArgument.
        """
        return run_worker(
            self, handlers, worker=worker, types=types, queue=queue, lease=lease, poll=poll, until_empty=until_empty,
            stop=stop, ended=ended,
        )  # fmt: skip

    # -- rows ------------------------------------------------------------------------------------------------------

    def _scope(self, scope: str | Iterable[str] | None) -> str | None:
        return None if scope is None else dump_json(check_types(scope))

    def _divisions(self, scope: str | Iterable[str] | None, queue: str | None) -> List[tuple[Queue, str | None]]:
        """Return the jobs of some types, of a queue, or of both, each part as a queue and its scope."""
        within = None if queue is None else check_text(queue, "queue")
        if scope is None:
            return [(JOBS, within)]
        types = list(dict.fromkeys(check_types(scope)))
        if within is None:
            return [(JOBS._replace(scope="type"), each) for each in types]
        name = within.replace("'", "''")  # a text of SQL, since a scope has one parameter
        return [(JOBS._replace(scope=f"queue = '{name}' AND type"), each) for each in types]

    def _left(self, scope: Scope | None) -> State:
        queue, types = json.loads(str(scope))  # as work() gives it
        parts = self._divisions(types, queue)
        return add_states([engine.state(self.db, part, key, finished=False) for part, key in parts])

    def _unknown(self, key: Key) -> NotFound:
        return unknown(key)

    def _status(self, key: str) -> str:
        return status_of(self.db, key)

    def _rows(self, keys: Sequence[Key]) -> Rows[Job]:
        return self._with_progress(super()._rows(keys))

    def _with_progress(self, rows: Rows[Job]) -> Rows[Job]:
        if rows:
            derived = dict(self.db.execute_sql(PROGRESS, (dump_json([row.id for row in rows]),)).fetchall())
            for row in rows:
                if row.id in derived:
                    row.__data__["progress"] = int(round(derived[row.id], 6))
        return rows


def _light() -> peewee.ModelSelect[Job]:
    return Job.select(*(field for field in Job._meta.sorted_fields if field.name != "result"))


def _not_now(row: Job) -> IllegalMove:
    if row.status != "pending":
        why = LIFE.remedies.get(row.status, "retry it first: store.jobs.retry(job) (scanstore jobs retry ID)")
        return IllegalMove(f"job {row.id} is {row.status} and cannot be started; {why}")
    if row.next_retry_at is not None:
        return IllegalMove(f"job {row.id} waits until {format_time(row.next_retry_at)}; start it then")
    return IllegalMove(
        f"job {row.id} waits for another of group {row.exclusive_group!r}; start it when that one is over"
    )
