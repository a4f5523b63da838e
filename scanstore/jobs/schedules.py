"""Schedules: jobs that are due again and again, by cron expressions in a time zone of their own.

Nothing here waits. A loop or the system's own cron calls ``run_due`` now and then; any number of processes may. The
process that moves ``next_run`` on from the value it has read owns the run; no other process does. The next time is
counted from now and not from the last one, so however many runs were missed, one makes up for them.

Expressions follow the rules of Debian's cron, as the library cronsim does, also when the clocks change. A task at a
fixed time that falls into a skipped hour runs when that hour would have been, at once after the change; one whose hour
comes twice runs the first time. Tasks for every minute or every hour follow the clock on the wall. A clock that is set
back by more than three hours was wrong before: next runs are recalculated.

Change here: what a schedule may say and what becomes of a task that is due.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from scanstore.db.arguments import check_bool
from scanstore.db.domain import Domain, List, reads
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import Busy, Conflict, InvalidArgument, NotFound, shown
from scanstore.jobs.jobs import Job, Jobs
from scanstore.jobs.models import ScheduledTask

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_T = TypeVar("_T")
DUE = "SELECT id FROM scheduled_tasks WHERE enabled = 1 AND next_run <= ? ORDER BY next_run, id"
SET_BACK = "SELECT id FROM scheduled_tasks WHERE enabled = 1 AND next_run > ?1 AND updated_at > ?1"
MISTAKE = timedelta(hours=3)  #: by how much a clock is set back that was wrong, and not only a little fast
ADVANCE = """
UPDATE scheduled_tasks SET next_run = ?1, last_run = iif(?4, ?2, last_run)
 WHERE id = ?5 AND enabled = 1 AND next_run = ?3
"""


class ScheduledRun(NamedTuple):
    """A task that was due, and its job; ``started`` is false when that job was still going from the time before."""

    task: ScheduledTask
    job: Job
    started: bool


class Schedules(Domain):
    """Tasks by name, and their due runs."""

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
        """Add a task: a job of ``task_type`` with ``config`` as its input, whenever ``schedule`` says so.

        ``schedule`` is a cron expression of five fields, read in ``timezone``, a name like Europe/Berlin. Raises
        InvalidArgument for an invalid schedule or one that never comes, and Conflict for a known name.
        """
        columns = _checked(
            name=name, task_type=task_type, schedule=schedule, timezone=timezone, config=config or {}, enabled=enabled
        )
        following = next_run(schedule, timezone=timezone)
        try:
            return ScheduledTask.create(**columns, next_run=following if enabled else None)
        except Conflict as error:
            raise _known(name) from error

    @reads
    def get(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """The task of that name or id, read anew. Raises NotFound."""
        found = self.find(task)
        if found is None:
            raise NotFound(f"no schedule {shown(task)}; store.schedules.list() (scanstore schedules list) shows them")
        return found

    @reads
    def find(self, task: str | int | ScheduledTask) -> ScheduledTask | None:
        """The task of that name or id, or None."""
        key: object = task
        if isinstance(task, ScheduledTask):
            task.check_home()
            key = task.id or 0
        if isinstance(key, str):
            return ScheduledTask.get_or_none(ScheduledTask.name == key)
        if isinstance(key, bool) or not isinstance(key, int):
            raise InvalidArgument(f"{shown(task)} is no schedule; give its name, its id or its row")
        return ScheduledTask.get_or_none(ScheduledTask.id == key) if 0 < key < 2**63 else None

    @reads
    def list(self, *, enabled: bool | None = None) -> List[ScheduledTask]:
        """All tasks by name, or only those that are enabled, or not."""
        query = ScheduledTask.select().order_by(ScheduledTask.name)
        return list(query if enabled is None else query.where(ScheduledTask.enabled == check_bool(enabled, "enabled")))

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
        """Change the given settings and return the task; with another time its next run is counted from now.

        Raises NotFound, InvalidArgument, and Conflict for the name of another one.
        """
        given = {
            "name": name, "task_type": task_type, "schedule": schedule, "timezone": timezone, "config": config,
            "enabled": enabled,
        }  # fmt: skip
        columns = _checked(**{column: value for column, value in given.items() if value is not None})
        with self.db.atomic():
            row = self.get(task)
            when = (row.schedule, row.timezone, row.enabled)
            for column, value in columns.items():
                if getattr(row, column) != value:
                    setattr(row, column, value)
            if when != (row.schedule, row.timezone, row.enabled) or row.enabled != (row.next_run is not None):
                row.next_run = next_run(row.schedule, timezone=row.timezone) if row.enabled else None
            try:
                row.save()
            except Conflict as error:
                raise _known(row.name) from error
            return self.get(row.id)

    def enable(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Let a task run from its next time on; missed runs are not made up for. Idempotent. Raises NotFound."""
        return self.update(task, enabled=True)

    def disable(self, task: str | int | ScheduledTask) -> ScheduledTask:
        """Let a task rest until it is enabled again. Idempotent. Raises NotFound."""
        return self.update(task, enabled=False)

    def remove(self, task: str | int | ScheduledTask) -> None:
        """Remove a task; its jobs stay. Raises NotFound."""
        self.get(task).delete_instance()

    # -- what is due -------------------------------------------------------------------------------------------------

    def due(self, now: datetime | None = None) -> List[ScheduledTask]:
        """Take the tasks that are due, for the caller to run, and move each on to its next time; the longest due first.

        Every run is handed out once, whatever processes ask; runs that were missed count as one. What a caller has
        taken when it dies is missed too: ``run_due`` leaves a job in the store instead.

        A task whose time zone this machine does not know is passed over; when there is nothing else, InvalidArgument.
        """
        return self._each(now, self._hand_out)

    def run_due(self, now: datetime | None = None) -> List[ScheduledRun]:
        """Enqueue a job for each task that is due and move it on to its next time; the longest due first.

        Each task is one transaction, and every run becomes one job, whatever processes ask; runs that were missed count
        as one. The task's name is the job's ``unique`` key: while a job of that name is not over, the run is left out.
        Then ``started`` is false, ``last_job`` is that job, and ``last_run`` stays. Raises as ``due`` does.
        """
        return self._each(now, self._enqueue)

    def _each(self, now: datetime | None, take: Callable[[ScheduledTask, datetime], _T | None]) -> List[_T]:
        if now is None:
            now = utcnow()
            self._follow_the_clock()
        elif not isinstance(now, datetime):
            raise InvalidArgument(f"now is {shown(now)}; it must be an aware datetime")
        taken, trouble = [], None
        for (key,) in self.db.execute_sql(DUE, (format_time(now),)).fetchall():
            try:
                with self.db.atomic():
                    task = self.find(key)
                    found = None if task is None else take(task, now)
            except (Busy, InvalidArgument) as error:  # what was taken is the caller's, whatever else happens
                trouble = trouble or error
            else:
                taken += [] if found is None else [found]
        if trouble is not None and not taken:
            raise trouble
        return taken

    def _follow_the_clock(self) -> None:
        """Recalculate the next runs of tasks that were moved on before the clock was set back."""

        def mistaken() -> List[tuple[int]]:
            return self.db.execute_sql(SET_BACK, (format_time(utcnow() + MISTAKE),)).fetchall()

        if mistaken():
            with self.db.atomic():
                for (key,) in mistaken():
                    task = self.get(key)
                    with contextlib.suppress(InvalidArgument):  # this machine does not know its time zone
                        task.next_run = next_run(task.schedule, timezone=task.timezone)
                        task.save()

    def _hand_out(self, task: ScheduledTask, now: datetime) -> ScheduledTask | None:
        return self.get(task) if self._advance(task, now, started=True) else None

    def _enqueue(self, task: ScheduledTask, now: datetime) -> ScheduledRun | None:
        live = Jobs(self.db).live(task.name)
        if not self._advance(task, now, started=live is None):
            return None
        job = live or Jobs(self.db).enqueue(task.task_type, unique=task.name, meta=task.config)
        ScheduledTask.update(last_job=job.id).where(ScheduledTask.id == task.id).execute()
        return ScheduledRun(self.get(task), job, live is None)

    def _advance(self, task: ScheduledTask, now: datetime, *, started: bool) -> bool:
        """Move a task on, unless another process has done so or it is not due any more."""
        if task.next_run is None or task.next_run > now:
            return False
        following = next_run(task.schedule, timezone=task.timezone, after=now)
        columns = (following, now, task.next_run)
        return bool(self.db.execute_sql(ADVANCE, (*map(format_time, columns), started, task.id)).rowcount)


def next_run(schedule: str, *, timezone: str = "UTC", after: datetime | None = None) -> datetime:
    """The first time after ``after`` (default: now) that a cron expression means, aware and in UTC.

    Raises InvalidArgument for an invalid expression, one without a run in the next 50 years, and an unknown zone.
    """
    from cronsim import CronSim, CronSimError

    if after is None:
        after = utcnow()
    if not isinstance(schedule, str) or len(schedule.split()) != 5:
        raise InvalidArgument(f"schedule is {shown(schedule)}; {FIELDS}")
    try:
        moments = CronSim(schedule, after.astimezone(_zone(timezone)))
        # In an hour that comes twice the library may answer with the first, when that is over.
        return next(moment for moment in (each.astimezone(UTC) for each in moments) if moment > after)
    except CronSimError as error:
        raise InvalidArgument(f"schedule is {schedule!r}: {str(error).lower()}; {FIELDS}") from None
    except StopIteration:
        raise InvalidArgument(f"schedule {schedule!r} never comes; choose a day that there is") from None
    except OverflowError:
        raise InvalidArgument(
            f"schedule {schedule!r} has no next time after {after.isoformat()}; give a time of the years 1 to 9999"
        ) from None


FIELDS = "write five fields: minute, hour, day of month, month, day of week, such as '0 3 * * *'"


def _zone(name: Any) -> ZoneInfo:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError, TypeError, AttributeError):
        raise InvalidArgument(
            f"timezone is {name!r}, which this machine does not know; write a name like 'Europe/Berlin'"
        ) from None


def _checked(**columns: object) -> dict[str, object]:
    """The columns of a task, each of the right kind."""
    for column in ("name", "task_type"):
        value = columns.get(column, "-")
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise InvalidArgument(f"{column} of a schedule is {shown(value)}; give a name")
        if column in columns:
            columns[column] = value.strip()
    if not isinstance(columns.get("enabled", True), bool):
        raise InvalidArgument(f"enabled is {shown(columns['enabled'])}; it must be True or False")
    if "config" in columns:
        if not isinstance(columns["config"], Mapping):
            raise InvalidArgument(f"config is {shown(columns['config'])}; give a dictionary, the input of its jobs")
        columns["config"] = dict(columns["config"])
        dump_json(columns["config"])
    return columns


def _known(name: str) -> Conflict:
    return Conflict(f"there is already a schedule {name!r}; change it with store.schedules.update")
