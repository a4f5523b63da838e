"""The tasks of sessions: leased to workers, and completed with a result.

The calls are those of :mod:`scanstore.leases.work`. A result is written in the transaction that completes its task, and
a task has at most one. Only an open session has pending or leased tasks. The first claim starts a session.

Change here: the tasks that a claim selects, and the values that a worker reports.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scanstore.db.arguments import check_choice, check_integer, check_list, check_progress, check_string, check_text
from scanstore.db.domain import List, reads
from scanstore.db.pagination import listed
from scanstore.db.rows import Rows, read
from scanstore.db.state_machine import TASK_STATUSES, Machine, move
from scanstore.db.uuids import uuid7
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import Conflict, IllegalMove, NotFound
from scanstore.leases import engine
from scanstore.leases.engine import (
    LEASE,
    MOST_LOST,
    MOST_RETRIES,
    NO_VALUES,
    SESSION_TASKS,
    Values,
    check_lease,
)
from scanstore.leases.queue import Key, Scope
from scanstore.leases.work import LeasedWork
from scanstore.sessions.models import (
    AnalysisTask,
    Session,
    Task,
    check_open,
    result_columns,
    session_key,
    session_status,
    task_key,
)
from scanstore.sessions.results import add_result

if TYPE_CHECKING:
    from scanstore.db.words import SessionTaskStatus

LIFE = Machine(
    "analysis_tasks",
    "task",
    {"pending": ("failed", "cancelled"), "cancelled": ("pending", "processing")},
    {
        "pending": "it waits to be claimed",
        "processing": "wait until it is finished, or cancel it: store.sessions.tasks.cancel(task)",
        "completed": "add another one for another run",
        "failed": "retry it first: store.sessions.tasks.retry(task)",
        "cancelled": "retry it first: store.sessions.tasks.retry(task)",
    },
)
WITH_WORK = """
SELECT s.id FROM analysis_sessions AS s
 WHERE (s.status = 'created' OR s.status = 'processing') AND EXISTS (SELECT 1 FROM analysis_tasks AS t
        WHERE t.analysis_session_id = s.id AND (t.status = 'pending' OR t.status = 'processing'))
 ORDER BY s.created_at, s.id
"""
COLUMNS = ("configuration_id", "analysis_type", "file_name", "result_content", "score")  # compared on a repeated call


class SessionTasks(LeasedWork[AnalysisTask, str | uuid.UUID, Session]):
    """The tasks of sessions, ``store.sessions.tasks``: added, claimed, completed with a result. A scope is a session.

    A claim without a session starts with the oldest session. The first claim changes a session from ``created`` to
    ``processing``.
    """

    queue = SESSION_TASKS
    model = AnalysisTask
    life = LIFE
    anew = {"started_at": None, "completed_at": None, "progress": 0}

    def add(
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

        ``task_id`` is the caller's own id of the task (default: the id of the row). If the session has a task of this
        type with this ``task_id``, that task is returned unchanged. Tasks with a higher ``priority`` are claimed first.
        A task fails for good after ``max_retries`` failures, or when more than ``max_lost`` leases are lost because
        workers die or hang.

        Raises InvalidArgument, NotFound, IllegalMove for a finished session, and Conflict if another task has this
        ``task_id``.
        """
        key, own = session_key(session), str(uuid7())
        kind = check_text(task_type, "task_type", 50)
        name = own if task_id is None else check_text(task_id, "task_id", 255)
        rank, most = -check_integer(priority, "priority", least=-(2**31) + 1), check_integer(max_retries, "max_retries")
        lost = check_integer(max_lost, "max_lost")
        with self.db.atomic():
            session_status(self.db, key)
            for known in read(self.db, AnalysisTask, "task_id = ?", (name,)):
                if (known.analysis_session_id, known.task_type) != (key, kind):
                    raise Conflict(
                        f"task_id {name!r} belongs to a task of type {known.task_type!r} in session"
                        f" {known.analysis_session_id}; give another one"
                    )
                return known
            check_open(self.db, key)
            return AnalysisTask.create(
                id=own, session=key, task_id=name, task_type=kind, rank=rank, max_retries=most, max_lost=lost
            )  # fmt: skip

    # -- working ----------------------------------------------------------------------------------------------------

    def claim(
        self,
        scope: Session | None = None,
        *,
        worker: str | None = None,
        limit: int = 1,
        lease: float = LEASE,
        types: str | Iterable[str] | None = None,
    ) -> Rows[AnalysisTask]:
        """Lease up to ``limit`` tasks, of one session or of all, optionally of certain ``types``.

        See :meth:`LeasedWork.claim`.
        """
        worker = check_lease(worker, lease, limit)
        kinds = [types] if isinstance(types, str) else types
        wanted = (
            None if kinds is None else dump_json([check_text(each, "type", 50) for each in check_list(kinds, "types")])
        )
        return self._claim(self._scope(scope), worker, limit, lease, {"types": wanted})

    def _claim(
        self, scope: Scope | None, worker: str, limit: int, lease: float, values: Values = NO_VALUES
    ) -> Rows[AnalysisTask]:
        return super()._claim(scope, worker, limit, lease, values or {"types": None})

    def _take(self, scope: Scope, worker: str, limit: int, lease: float, values: Values) -> dict[Any, int]:
        found = super()._take(scope, worker, limit, lease, values)
        if found:
            going = "UPDATE analysis_sessions SET status = 'processing' WHERE id = ? AND status = 'created'"
            self.db.execute_sql(going, (scope,))
        return found

    def heartbeat(
        self, item: Task, *, progress: float | None = None, worker: str | None = None, lease: float | None = None
    ) -> AnalysisTask:
        """Extend the lease to ``lease`` seconds from now (default: as claimed), and return the task.

        A cancelled task is returned unchanged, and its worker should stop. ``progress`` is in per cent and never
        decreases until the task is claimed again. Raises InvalidArgument, NotFound, and LeaseLost if the task is no
        longer leased to the worker.
        """
        key, owner, attempt = self._owner(item, worker)
        lease = (item.lease if isinstance(item, AnalysisTask) else LEASE) if lease is None else lease
        check_lease(worker, lease)
        far = None if progress is None else check_progress(progress)
        with self.db.atomic():
            row = self.db.execute_sql("SELECT status, progress FROM analysis_tasks WHERE id = ?", (key,)).fetchone()
            if row is None:
                raise self._unknown(key)
            if row[0] != "cancelled":
                far = max(row[1], far or 0)
                engine.heartbeat(
                    self.db, SESSION_TASKS, key, worker=owner, attempt=attempt, lease=lease, progress=far
                )  # fmt: skip
            return self._reread(item, key)

    def complete(
        self, task: Task, *, result: Mapping[str, object] | None = None, worker: str | None = None
    ) -> AnalysisTask:
        """Complete a task, optionally with a result, and return the task. Atomic.

        A result is a mapping with ``result_content`` and optionally ``analysis_type`` (default: the type of the task),
        ``file_name``, ``score`` (0 to 100, at most two decimals) and ``configuration``, the prompt version that
        produced it. Afterwards, it is ``task.result``. Repeating the call with the same result is harmless.

        Raises InvalidArgument, NotFound, LeaseLost if the task is no longer leased to the worker, and IllegalMove if
        it was completed with another result. Nothing is changed then.
        """
        columns = None if result is None else result_columns(result)
        key, owner, attempt = self._owner(task, worker)
        with self.db.atomic():
            about = self.db.execute_sql(
                "SELECT analysis_session_id, task_type FROM analysis_tasks WHERE id = ?", (key,)
            ).fetchone()
            if about is None:
                raise self._unknown(key)
            fresh = engine.settle(
                self.db, SESSION_TASKS, key, "completed",
                worker=owner, attempt=attempt, completed_at=format_time(utcnow()), progress=100,
            )  # fmt: skip
            if columns is not None:
                columns["analysis_type"] = columns["analysis_type"] or about[1]
            if not fresh:
                self._check_result(key, columns)
            elif columns is not None:
                add_result(self.db, about[0], columns, task=str(key))
            return self._reread(task, key)

    def _check_result(self, key: Key, columns: dict[str, object] | None) -> None:
        """Raise IllegalMove unless a completed task is reported with the same result again."""
        there = self.db.execute_sql(
            f"SELECT {', '.join(COLUMNS)} FROM analysis_results WHERE analysis_task_id = ?", (key,)
        ).fetchone()
        if there != (None if columns is None else tuple(columns[name] for name in COLUMNS)):
            raise IllegalMove(f"task {key} is completed with another result; add another task for another run")

    # -- cancelling and retrying ----------------------------------------------------------------------------------

    def cancel(self, task: Task) -> AnalysisTask:
        """Cancel an unfinished task, and return it. Its worker's next heartbeat returns it with the status
        ``cancelled``, and later reports of that worker are refused. Raises NotFound, IllegalMove.
        """
        key = task_key(task)
        with self.db.atomic():
            self._row(key)
            now = format_time(utcnow())
            move(
                self.db, LIFE, key, "cancelled",
                lease_until=None, next_retry_at=None, completed_at=now, updated_at=now,
            )  # fmt: skip
            return self._row(key)

    def _retry(self, key: Key) -> None:
        check_open(self.db, self._row(key).analysis_session_id)
        super()._retry(key)

    # -- queries ---------------------------------------------------------------------------------------------------

    @reads
    def find(self, item: Task) -> AnalysisTask | None:
        """Return the task with this id or ``task_id``, or None if there is no such task. Raises InvalidArgument."""
        if isinstance(item, str):
            rows = read(self.db, AnalysisTask, "task_id = ?1 OR id = lower(?1)", (check_text(item, "task_id"),))
            return rows[0] if rows else None
        return super().find(item)

    @reads
    def list(
        self,
        session: Session,
        *,
        status: SessionTaskStatus | None = None,
        type: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisTask]:
        """List the tasks of a session, the oldest first, optionally of a status or a type. Raises NotFound,
        InvalidArgument.
        """
        key = session_key(session)
        query = AnalysisTask.select().where(AnalysisTask.session == key).order_by(AnalysisTask.id)
        if status is not None:
            query = query.where(AnalysisTask.status == check_choice(status, "status", TASK_STATUSES))
        if type is not None:
            query = query.where(AnalysisTask.task_type == check_string(type, "type"))
        rows = listed(query, limit=limit, offset=offset, sort=sort)
        if not rows:
            session_status(self.db, key)  # raises NotFound
        return rows

    # -- rows ------------------------------------------------------------------------------------------------------

    def _scope(self, scope: Session | None) -> str | None:
        if scope is None:
            return None
        key = session_key(scope)
        session_status(self.db, key)
        return key

    def _scopes(self) -> List[Scope]:
        return [key for (key,) in self.db.execute_sql(WITH_WORK).fetchall()]

    def _unknown(self, key: Key) -> NotFound:
        return NotFound(f"no task {key}; store.sessions.tasks.list(session) lists the tasks of a session")
