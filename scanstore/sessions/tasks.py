"""The tasks of a session, which workers claim, and their results.

See :mod:`scanstore.leases.engine` for the mechanism. A result is written in the transaction that completes its task,
and a task has at most one. Only an open session has pending or leased tasks. The first claim sets the session to
``processing``.

Change here: which tasks a claim skips, and the reports of a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from scanstore.db.arguments import check_integer, check_list, check_text, copy_saved
from scanstore.db.domain import reads
from scanstore.db.state_machine import RESULT_STATUSES, Machine, move
from scanstore.db.uuids import uuid7
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, NotFound, shown
from scanstore.leases import engine
from scanstore.leases.engine import LEASE, MOST_LOST, MOST_RETRIES, SESSION_TASKS, Recovered, State, check_lease
from scanstore.sessions.models import (
    AnalysisResult,
    AnalysisTask,
    ResultRecord,
    Session,
    Task,
    no_task,
    owner_of,
    read,
    result_columns,
    session_key,
    task_key,
)
from scanstore.sessions.uploads import SessionUploads

if TYPE_CHECKING:
    from scanstore.db.words import ResultStatus, SessionTaskStatus

LIFE = Machine(
    "analysis_tasks",
    "task",
    {"pending": ("failed", "cancelled"), "cancelled": ("pending", "processing")},
    {
        "pending": "it waits to be claimed as it is",
        "processing": "wait until it is over, or cancel it: store.sessions.cancel_task(task)",
        "completed": "add another one for another run",
        "failed": "let it wait again first: store.sessions.retry_task(task)",
        "cancelled": "let it wait again first: store.sessions.retry_task(task)",
    },
)
ANEW: dict[str, Any] = {
    "retry_count": 0, "lost_count": 0, "lease_clock": None,
    "started_at": None, "completed_at": None, "next_retry_at": None, "error_message": None,
    "progress": 0,
}  # fmt: skip

UNLIMITED = "9e18"
GUARD = "(:types IS NULL OR task_type IN (SELECT value FROM json_each(:types)))"
WITH_WORK = """
SELECT s.id FROM analysis_sessions AS s
 WHERE (s.status = 'created' OR s.status = 'processing') AND EXISTS (SELECT 1 FROM analysis_tasks AS t
        WHERE t.analysis_session_id = s.id AND (t.status = 'pending' OR t.status = 'processing'))
 ORDER BY s.created_at, s.id
"""

COLUMNS = ("configuration_id", "analysis_type", "file_name", "result_content", "score")  # the values of a result

List = list


class SessionTasks(SessionUploads):
    """The tasks of a session: claim, complete, fail, and their results."""

    def add_task(
        self,
        session: Session,
        task_type: str,
        *,
        task_id: str | None = None,
        priority: int = 0,
        max_retries: int = MOST_RETRIES,
        max_lost: int = MOST_LOST,
    ) -> AnalysisTask:
        """Add a task to an open session. Atomic.

        ``task_id`` is the caller's id of the task (default: its own id). If the session already has a task of this type
        with it, that task is returned. Tasks with a higher ``priority`` are claimed first. A task fails after
        ``max_retries`` failures, or when more than ``max_lost`` leases are lost because workers die or hang. Raises
        InvalidArgument, NotFound, IllegalMove for a finished session, and Conflict if another task has the id.
        """
        key, own = session_key(session), str(uuid7())
        kind = check_text(task_type, "task_type", 50)
        name = own if task_id is None else check_text(task_id, "task_id", 255)
        rank, most = -check_integer(priority, "priority", least=-(2**31) + 1), check_integer(max_retries, "max_retries")
        lost = check_integer(max_lost, "max_lost")
        with self.db.atomic():
            self._session_status(key)
            for known in read(self.db, AnalysisTask, "task_id = ?", (name,)):
                if (known.analysis_session_id, known.task_type) != (key, kind):
                    raise Conflict(
                        f"task_id {name!r} is that of a task of type {known.task_type!r} in session"
                        f" {known.analysis_session_id}; give another one"
                    )
                return known
            self._check_open(key)
            return AnalysisTask.create(
                id=own, session=key, task_id=name, task_type=kind, rank=rank, max_retries=most, max_lost=lost
            )  # fmt: skip

    # -- methods for workers -------------------------------------------------------------------------------------------

    def claim(
        self,
        session: Session | None = None,
        types: str | Iterable[str] | None = None,
        *,
        worker: str | None = None,
        limit: int = 1,
        lease: float = LEASE,
    ) -> List[AnalysisTask]:
        """Lease up to ``limit`` tasks of these types (default: any) for ``lease`` seconds. Atomic.

        All tasks are of one session, by priority and then age; by default of the oldest session with ready tasks. A
        ``created`` session becomes ``processing``. An empty list means that no task is ready now, not that all are
        done: see :meth:`state`. Each task is leased to one worker (default: this process). When that process ends or
        the lease expires, the next worker gets it. Raises InvalidArgument, NotFound.
        """
        worker = check_lease(worker, lease, limit)
        kinds = [types] if isinstance(types, str) else types
        wanted = (
            None if kinds is None else dump_json([check_text(each, "type", 50) for each in check_list(kinds, "types")])
        )
        only = None if session is None else session_key(session)
        found: dict[str, int] = {}
        with self.db.atomic():
            if only is not None:
                self._session_status(only)
            scopes = [only] if only is not None else [key for (key,) in self.db.execute_sql(WITH_WORK).fetchall()]
            for scope in scopes:
                taken = self._claim(scope, worker, limit - len(found), lease, wanted)
                if taken:
                    self.db.execute_sql(
                        "UPDATE analysis_sessions SET status = 'processing' WHERE id = ? AND status = 'created'",
                        (scope,),
                    )
                    found |= taken
                if len(found) == limit:
                    break
            if not found:
                return []
            among = "id IN (SELECT value FROM json_each(?))"
            rows = {row.id: row for row in read(self.db, AnalysisTask, among, (dump_json(list(found)),))}
        for row in rows.values():
            row.lease = lease
        return [rows[key] for key in found]

    def _claim(self, scope: str, worker: str, limit: int, lease: float, types: str | None) -> dict[str, int]:
        found: dict[str, int] = {}

        def take() -> None:
            while len(found) < limit and (
                row := engine.claim_one(
                    self.db, SESSION_TASKS, scope,
                    worker=worker, lease=lease, most=UNLIMITED, guard=GUARD, more="NULL", values={"types": types},
                )
            ):  # fmt: skip
                found[row[0]] = row[1]

        engine.free_expired(self.db, SESSION_TASKS, scope)
        take()
        if len(found) < limit and any(engine.recover(self.db, SESSION_TASKS, scope)):
            take()
        return found

    def tick(
        self, task: Task, *, progress: float | None = None, worker: str | None = None, lease: float | None = None
    ) -> bool:
        """Report progress of a task, and extend its lease to ``lease`` seconds from now.

        Returns False and changes nothing if the task was cancelled and its worker should stop. ``progress`` is in per
        cent and never decreases until the task is claimed again. Raises InvalidArgument, NotFound, and LeaseLost if the
        task is no longer leased to the worker.
        """
        carried = task.lease if isinstance(task, AnalysisTask) else LEASE
        lease = carried if lease is None else lease
        check_lease(worker, lease)
        if progress is not None and (
            isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 100
        ):
            raise InvalidArgument(f"progress is {shown(progress)}; give per cent, from 0 to 100")
        key, owner, attempt = owner_of(task, worker)
        with self.db.atomic():
            row = self.db.execute_sql("SELECT status, progress FROM analysis_tasks WHERE id = ?", (key,)).fetchone()
            if row is None:
                raise no_task(key)
            if row[0] == "cancelled":
                copy_saved(task, status="cancelled", lease_until=None)
                return False
            far = max(row[1], int(progress or 0))
            until = engine.heartbeat(
                self.db, SESSION_TASKS, key, worker=owner, attempt=attempt, lease=lease, progress=far
            )
        copy_saved(task, status="processing", lease_until=until, progress=far)
        return True

    heartbeat = tick

    def complete_task(
        self, task: Task, *, result: Mapping[str, object] | None = None, worker: str | None = None
    ) -> AnalysisResult | None:
        """Complete a task, optionally with a result, and return the result. Atomic.

        A result is a mapping with ``result_content`` and optionally ``analysis_type`` (default: the type of the task),
        ``file_name``, ``score`` (0 to 100, at most two decimals) and ``configuration``, the version of the prompt that
        produced it. Idempotent.

        Raises InvalidArgument, NotFound, LeaseLost if the task is no longer leased to the worker, and IllegalMove if it
        was completed with another result. Nothing is changed then.
        """
        check_lease(worker, LEASE)
        columns = None if result is None else result_columns(result)
        key, owner, attempt = owner_of(task, worker)
        now = utcnow()
        with self.db.atomic():
            about = self.db.execute_sql(
                "SELECT analysis_session_id, task_type FROM analysis_tasks WHERE id = ?", (key,)
            ).fetchone()
            if about is None:
                raise no_task(key)
            fresh = engine.settle(
                self.db, SESSION_TASKS, key, "completed",
                worker=owner, attempt=attempt, completed_at=format_time(now), progress=100,
            )  # fmt: skip
            if columns is not None:
                columns["analysis_type"] = columns["analysis_type"] or about[1]
            if fresh:
                made = None if columns is None else self._add_result(about[0], columns, task=key)
            else:
                made = self._result_of(key, columns)
        if fresh:
            copy_saved(task, status="completed", lease_until=None, progress=100, completed_at=now, error_message=None)
        return made

    def _result_of(self, key: str, columns: dict[str, object] | None) -> AnalysisResult | None:
        """Return the result of a completed task if the same result is reported again."""
        made = read(self.db, AnalysisResult, "analysis_task_id = ?", (key,))
        there = self.db.execute_sql(
            f"SELECT {', '.join(COLUMNS)} FROM analysis_results WHERE analysis_task_id = ?", (key,)
        ).fetchone()
        if there != (None if columns is None else tuple(columns[name] for name in COLUMNS)):
            raise IllegalMove(f"task {key} is completed with another result; add another task for another run")
        return made[0] if made else None

    def fail_task(
        self, task: Task, error: str | BaseException, *, retry: bool = True, worker: str | None = None
    ) -> str:
        """Fail a task with an error. Return its status: ``pending`` or ``failed``.

        The task is retried after two seconds, doubled with each retry, up to ``max_retries`` times. With
        ``retry=False`` it fails immediately. Raises InvalidArgument, LeaseLost, NotFound.
        """
        check_lease(worker, LEASE)
        if isinstance(error, BaseException):
            error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if not isinstance(error, str):
            raise InvalidArgument(f"error is {shown(error)}; give a text or an exception")
        key, owner, attempt = owner_of(task, worker)
        status = engine.fail(self.db, SESSION_TASKS, key, error, worker=owner, attempt=attempt, retry=retry)
        copy_saved(task, status=status, error_message=error[: engine.LAST_ERROR], lease_until=None)
        return status

    def release_task(self, task: Task, *, worker: str | None = None) -> None:
        """Release a task unchanged, so that any worker can claim it. Raises LeaseLost, NotFound."""
        check_lease(worker, LEASE)
        key, owner, attempt = owner_of(task, worker)
        engine.release(self.db, SESSION_TASKS, key, worker=owner, attempt=attempt)
        copy_saved(task, status="pending", lease_until=None)

    # -- cancelling and retrying --------------------------------------------------------------------------------------

    def cancel_task(self, task: Task) -> AnalysisTask:
        """Cancel an unfinished task, and return it. The worker's next tick returns False, and its report is refused.
        Raises NotFound, IllegalMove.
        """
        key = task_key(task)
        with self.db.atomic():
            self._task(key)
            now = format_time(utcnow())
            move(
                self.db, LIFE, key, "cancelled",
                lease_until=None, next_retry_at=None, completed_at=now, updated_at=now,
            )  # fmt: skip
            return self._task(key)

    def retry_task(self, task: Task) -> AnalysisTask:
        """Reset a failed or cancelled task to pending with all its retries, and return it.

        Raises NotFound, and IllegalMove for a task in another status, or if its session is finished.
        """
        key = task_key(task)
        with self.db.atomic():
            self._check_open(self._task(key).analysis_session_id)
            move(self.db, LIFE, key, "pending", **ANEW, updated_at=format_time(utcnow()))
            return self._task(key)

    # -- asking ----------------------------------------------------------------------------------------------------

    @reads
    def get_task(self, task: Task) -> AnalysisTask:
        """Read the task. Raises NotFound."""
        return self._task(task_key(task))

    @reads
    def find_task(self, task_id: str) -> AnalysisTask | None:
        """Return the task with this ``task_id``, or None."""
        rows = read(self.db, AnalysisTask, "task_id = ?", (check_text(task_id, "task_id"),))
        return rows[0] if rows else None

    @reads
    def tasks(
        self,
        session: Session,
        *,
        status: SessionTaskStatus | None = None,
        type: str | None = None,
        limit: int | None = None,
    ) -> List[AnalysisTask]:
        """List the tasks of a session, the oldest first, optionally of a status or type. Raises NotFound,
        InvalidArgument.
        """
        key = session_key(session)
        query = AnalysisTask.select().where(AnalysisTask.session == key).order_by(AnalysisTask.id)
        if status is not None:
            query = query.where(AnalysisTask.status == status)  # rejects an unknown status
        if type is not None:
            query = query.where(AnalysisTask.task_type == type)
        if limit is not None:
            query = query.limit(check_integer(limit, "limit"))
        self._session_status(key)
        return list(query)

    @reads
    def state(self, session: Session | None = None) -> State:
        """Return the number of tasks that are ready, delayed, leased, completed, failed and cancelled (``skipped``), of
        a session or of all, and the next due time. ``state().finished`` is true if none is left.

        A task with an expired lease counts as ready. Raises NotFound.
        """
        key = None if session is None else session_key(session)
        if key is not None:
            self._session_status(key)
        return engine.state(self.db, SESSION_TASKS, key)

    def recover(self) -> Recovered:
        """Free tasks of expired leases and dead processes. Claims and opening a store do this too, if necessary."""
        return engine.recover(self.db, SESSION_TASKS)

    # -- results ---------------------------------------------------------------------------------------------------

    def add_result(
        self, session: Session, *, status: ResultStatus = "completed", **result: Unpack[ResultRecord]
    ) -> AnalysisResult:
        """Add a result without a task. Takes the values of :meth:`complete_task`; ``analysis_type`` is required.

        Raises InvalidArgument, NotFound, and IllegalMove for a finished session.
        """
        key = session_key(session)
        columns = result_columns(result)
        if columns["analysis_type"] is None:
            raise InvalidArgument("analysis_type is None; give a text")
        if not isinstance(status, str) or status.lower() not in RESULT_STATUSES:
            raise InvalidArgument(f"status is {status!r}; it must be one of: {', '.join(RESULT_STATUSES)}")
        with self.db.atomic():
            self._check_open(key)
            return self._add_result(key, columns, status=status.lower())

    @reads
    def results(
        self, session: Session, *, analysis_type: str | None = None, limit: int | None = None
    ) -> List[AnalysisResult]:
        """List the results of a session, the oldest first, optionally of a type. Raises NotFound, InvalidArgument."""
        key = session_key(session)
        query = AnalysisResult.select().where(AnalysisResult.session == key)
        query = query.order_by(AnalysisResult.created_at, AnalysisResult.id)
        if analysis_type is not None:
            query = query.where(AnalysisResult.analysis_type == analysis_type)
        if limit is not None:
            query = query.limit(check_integer(limit, "limit"))
        self._session_status(key)
        return list(query)

    def _add_result(
        self, session: str, columns: Mapping[str, object], *, task: str | None = None, status: str = "completed"
    ) -> AnalysisResult:
        prompt = columns["configuration_id"]
        if (
            prompt is not None
            and not self.db.execute_sql("SELECT 1 FROM configurations WHERE id = ?", (prompt,)).fetchone()
        ):
            raise NotFound(f"no prompt {prompt}; store.sessions.prompts(user) shows all versions of a user's")
        row = {
            **columns,
            "id": str(uuid7()),
            "analysis_session_id": session,
            "analysis_task_id": task,
            "status": status,
        }
        row["created_at"] = row["updated_at"] = format_time(utcnow())
        self.db.execute_sql(
            f"INSERT INTO analysis_results ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )
        return read(self.db, AnalysisResult, "id = ?", (row["id"],))[0]

    def _task(self, key: str) -> AnalysisTask:
        rows = read(self.db, AnalysisTask, "id = ?", (key,))
        if not rows:
            raise no_task(key)
        return rows[0]
