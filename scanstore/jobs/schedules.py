"""Schedules: recurring jobs, by cron expressions, each in its time zone.

No function here waits. Any number of processes call ``run_due`` regularly, from a loop or from the system's cron. The
process that advances ``next_run`` from the value it has read owns the run. The next time is computed from now, not from
the last run, so one job makes up for all missed runs.

Expressions follow the rules of Debian's cron, as implemented by the library cronsim, also for daylight saving time. A
run at a fixed time in the skipped hour starts right after the change. A fixed time in the repeated hour runs only the
first time. Tasks for every minute or every hour follow the wall clock. If the clock is set back by more than three
hours, next runs are recalculated.

Change here: the accepted schedules, and the handling of a due task.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from scanstore.db import rows
from scanstore.db.arguments import check_bool, check_text, number_of
from scanstore.db.domain import Domain, List, reads
from scanstore.db.notebooks import described
from scanstore.db.pagination import listed
from scanstore.db.rows import Rows
from scanstore.db.rules import change_rows, insert_row, save_row
from scanstore.db.values import format_time, utcnow
from scanstore.errors import Busy, Conflict, InvalidArgument, NotFound, shown
from scanstore.jobs.jobs import Job, Jobs
from scanstore.jobs.models import ScheduledTask
from scanstore.jobs.times import check_task
from scanstore.jobs.times import next_run as next_run

if TYPE_CHECKING:
    from scanstore.db.rows import Removed

_T = TypeVar("_T")
DUE = "SELECT id FROM scheduled_tasks WHERE enabled = 1 AND next_run <= ? ORDER BY next_run, id"
SET_BACK = "SELECT id FROM scheduled_tasks WHERE enabled = 1 AND next_run > ?1 AND updated_at > ?1"
LISTING = "store.schedules.list() (scanstore schedules list) shows the known ones"
MISTAKE = timedelta(hours=3)  #: if the clock is set back by more than this, next runs are recalculated
_log = logging.getLogger("scanstore.jobs")
ADVANCE = """
UPDATE scheduled_tasks SET next_run = ?1, last_run = iif(?4, ?2, last_run)
 WHERE id = ?5 AND enabled = 1 AND next_run = ?3
"""


@described
class ScheduledRun(NamedTuple):
    """A due task and its job. ``started`` is false if the previous job is unfinished.

    It is also false if an ``error`` prevented the run: an unrelated ``job`` has the name of the task as its unique key.
    The task is still due then.
    """

    task: ScheduledTask
    job: Job
    started: bool
    error: str | None = None


class Schedules(Domain):
    """Scheduled tasks by name, and their due runs."""

    # -- tasks -------------------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        task_type: str,
        schedule: str,
        *,
        timezone: str = "UTC",
        config: Mapping[str, object] | None = None,
        enabled: bool = True,
    ) -> ScheduledTask:
        """Add a task that creates a job of ``task_type`` with the input ``config`` at the times of ``schedule``.

        ``schedule`` is a cron expression of five fields, evaluated in ``timezone``, a name like Europe/Berlin. Raises
        InvalidArgument for an invalid schedule or one that never matches, and Conflict for an existing name.
        """
        columns = check_task(
            name=name, task_type=task_type, schedule=schedule, timezone=timezone, config=config or {}, enabled=enabled
        )
        following = next_run(schedule, timezone=timezone)
        try:
            return insert_row(ScheduledTask, **columns, next_run=following if enabled else None)
        except Conflict as error:
            raise _known(name) from error

    @reads
    def get(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Return the task with this name or id. Raises NotFound, and InvalidArgument for a value that is neither."""
        found = self.find(task)
        if found is None:
            raise NotFound(f"no schedule {shown(task)}; {LISTING}")
        return found

    @reads
    def find(self, task: str | int | ScheduledTask) -> ScheduledTask | None:
        """Return the task with this name or id, or None. Raises InvalidArgument for a value that is neither."""
        if isinstance(task, str):
            return ScheduledTask.get_or_none(ScheduledTask.name == check_text(task, "name"))
        return ScheduledTask.get_or_none(ScheduledTask.id == number_of(task, "a schedule", ScheduledTask, LISTING))

    @reads
    def list(
        self, *, enabled: bool | None = None, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[ScheduledTask]:
        """List all tasks by name, or only enabled or disabled ones.

        ``sort`` names another column, as for ``store.page``. Raises InvalidArgument.
        """
        query = ScheduledTask.select().order_by(ScheduledTask.name)
        if enabled is not None:
            query = query.where(ScheduledTask.enabled == check_bool(enabled, "enabled"))
        return listed(query, limit=limit, offset=offset, sort=sort)

    def update(
        self,
        task: str | int | ScheduledTask,
        *,
        name: str | None = None,
        task_type: str | None = None,
        schedule: str | None = None,
        timezone: str | None = None,
        config: Mapping[str, object] | None = None,
        enabled: bool | None = None,
    ) -> ScheduledTask:
        """Change the given settings and return the task. With a new schedule, the next run is computed from now.

        Raises NotFound, InvalidArgument, and Conflict if another task has the name.
        """
        given = {
            "name": name, "task_type": task_type, "schedule": schedule, "timezone": timezone, "config": config,
            "enabled": enabled,
        }  # fmt: skip
        columns = check_task(**{column: value for column, value in given.items() if value is not None})
        with self.db.atomic():
            row = self.get(task)
            when = (row.schedule, row.timezone, row.enabled)
            for column, value in columns.items():
                if getattr(row, column) != value:
                    setattr(row, column, value)
            if when != (row.schedule, row.timezone, row.enabled) or row.enabled != (row.next_run is not None):
                row.next_run = next_run(row.schedule, timezone=row.timezone) if row.enabled else None
            try:
                save_row(row)
            except Conflict as error:
                raise _known(row.name) from error
            return self.get(row.id)

    def enable(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Enable a task from its next time on, without the missed runs. Idempotent. Raises NotFound."""
        return self.update(task, enabled=True)

    def disable(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Disable a task until it is enabled again. Idempotent. Raises NotFound."""
        return self.update(task, enabled=False)

    def remove(self, task: str | int | ScheduledTask) -> Removed:
        """Remove a task, and return the number of removed rows by table. Its jobs stay. Raises NotFound."""
        with self.db.atomic():
            return rows.remove(self.db, "scheduled_tasks", "id = ?", (self.get(task).id,))

    # -- due tasks -------------------------------------------------------------------------------------------------

    def due(self, *, now: datetime | None = None) -> Rows[ScheduledTask]:
        """Return the due tasks for the caller to run, and advance each to its next time. The longest due come first.

        Each run is returned to only one process. Several missed runs count as one. If the caller dies, its returned
        runs are lost; ``run_due`` stores a job instead.

        Tasks with a time zone that this machine does not know are skipped with a warning in the log. Raises
        InvalidArgument if no other task is due.
        """
        return Rows(self._each(now, self._hand_out), ScheduledTask)

    def run_due(self, *, now: datetime | None = None) -> Rows[ScheduledRun]:
        """Enqueue a job for each due task and advance the task to its next time. The longest due come first.

        Each task is one transaction, and each run becomes one job, even with several processes. Several missed runs
        count as one. The task's name is the job's ``unique`` key: while the task's previous job is unfinished, the run
        is skipped. Then ``started`` is false, ``last_job`` is that job, and ``last_run`` stays.

        If an unrelated unfinished job has the task's name as its key, the run has an ``error`` that names both, and the
        task stays due. A job is unrelated if the task did not enqueue it and its type or input differs from the task's.

        Raises the same errors as ``due``.
        """
        return Rows(self._each(now, self._enqueue), ScheduledRun)

    def _each(self, now: datetime | None, take: Callable[[ScheduledTask, datetime], _T | None]) -> List[_T]:
        if now is None:
            now = utcnow()
            self._follow_the_clock()
        elif not isinstance(now, datetime):
            raise InvalidArgument(f"now is {shown(now)}; it must be an aware datetime")
        taken: List[_T] = []
        troubles: List[Busy | InvalidArgument] = []
        for (key,) in self.db.execute_sql(DUE, (format_time(now),)).fetchall():
            try:
                with self.db.atomic():
                    task = self.find(key)
                    found = None if task is None else take(task, now)
            except (Busy, InvalidArgument) as error:  # the tasks taken so far must reach the caller
                troubles.append(error)
            else:
                taken += [] if found is None else [found]
        if troubles and not taken:
            raise troubles[0]
        for trouble in troubles:
            _log.warning("a due schedule was skipped: %s", trouble)
        return taken

    def _follow_the_clock(self) -> None:
        """Recalculate the next runs of tasks that were advanced before the clock was set back."""

        def mistaken() -> List[tuple[int]]:
            return self.db.execute_sql(SET_BACK, (format_time(utcnow() + MISTAKE),)).fetchall()

        if mistaken():
            with self.db.atomic():
                for (key,) in mistaken():
                    task = self.get(key)
                    with contextlib.suppress(InvalidArgument):  # this machine does not know its time zone
                        task.next_run = next_run(task.schedule, timezone=task.timezone)
                        save_row(task)

    def _hand_out(self, task: ScheduledTask, now: datetime) -> ScheduledTask | None:
        return self.get(task) if self._advance(task, now, started=True) else None

    def _enqueue(self, task: ScheduledTask, now: datetime) -> ScheduledRun | None:
        jobs = Jobs(self.db)
        live = jobs.find(unique=task.name)
        if live is not None and live.id != task.last_job_id:
            if (live.type, live.meta) != (task.task_type, task.config):
                return self._conflict(task, live, now)
        if not self._advance(task, now, started=live is None):
            return None
        job = live or jobs.enqueue(task.task_type, unique=task.name, meta=task.config)
        change_rows(ScheduledTask, last_job=job.id).where(ScheduledTask.id == task.id).execute()
        return ScheduledRun(self.get(task), job, live is None)

    @staticmethod
    def _conflict(task: ScheduledTask, job: Job, now: datetime) -> ScheduledRun | None:
        if not task.enabled or task.next_run is None or task.next_run > now:
            return None
        error = (
            f"schedule {task.name!r} cannot enqueue its job of type {task.task_type!r}: its name is the unique key of"
            f" job {job.id}, of type {job.type!r}; wait until that job is finished, cancel it, or rename the schedule"
        )
        return ScheduledRun(task, job, False, error)

    def _advance(self, task: ScheduledTask, now: datetime, *, started: bool) -> bool:
        """Advance a task, unless another process has done so or it is no longer due."""
        if task.next_run is None or task.next_run > now:
            return False
        following = next_run(task.schedule, timezone=task.timezone, after=now)
        columns = (following, now, task.next_run)
        return bool(self.db.execute_sql(ADVANCE, (*map(format_time, columns), started, task.id)).rowcount)


def _known(name: str) -> Conflict:
    return Conflict(f"there is already a schedule {name!r}; change it with store.schedules.update")
