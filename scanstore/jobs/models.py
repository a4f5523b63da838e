"""The models of jobs and schedules, and the types of their arguments.

Change here: a job's columns, and their accepted values. The methods are in :mod:`scanstore.jobs.jobs`, those for
workers in :mod:`scanstore.jobs.leasing`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import peewee

from scanstore.db.arguments import check_bool, check_list, check_text, uuid_of
from scanstore.db.current import no_store
from scanstore.db.database import Database, current
from scanstore.db.fields import Base, EnumField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.processes import me
from scanstore.db.rows import Rows, read_keys
from scanstore.db.rules import LEASE_COLUMNS, Rules, columns
from scanstore.db.state_machine import JOB_LIVE, JOB_STATUSES
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, shown
from scanstore.jobs import leasing
from scanstore.jobs.times import check_task, next_run
from scanstore.leases.engine import check_lease, describe_error
from scanstore.leases.models import LeasedTask
from scanstore.library.models import Scene

QUEUE = "default"


class _WhenUsed(peewee.FieldAccessor):
    """Reads a large column when it is used, if the row was read without it."""

    def __get__(self, instance: Base | None, instance_type: object = None) -> object:
        if instance is not None and self.name not in instance.__data__ and self._saved(instance):
            instance.check_home()
            sql = f"SELECT {self.field.column_name} FROM {self.model._meta.table_name} WHERE id = ?"
            found = _here().execute_sql(sql, (instance.__data__["id"],)).fetchone()
            instance.__data__[self.name] = None if found is None else self.field.python_value(found[0])
        return super().__get__(instance, instance_type)  # type: ignore[no-untyped-call]

    @staticmethod
    def _saved(instance: Base) -> bool:
        key = instance._meta.primary_key
        return "id" in instance.__data__ and key not in instance.dirty_fields


class _LargeJSON(JSONField[JsonValue]):
    accessor_class = _WhenUsed


class Job(LeasedTask):
    """One job. Its methods call those of ``store.jobs`` in the current store, and update this row.

    Lists of jobs leave the ``result`` out, because it may be large: it is read from the current store when it is used.
    """

    __shown__ = (
        "status: type, message"
        " | queue, progress, processed_items, total_items, created_at, started_at, completed_at"
    )
    __rules__ = Rules(
        state={
            "status": "call store.jobs.start, complete, fail, cancel, release or retry",
            **columns("call store.jobs.claim, complete, fail, release or retry", *LEASE_COLUMNS, "result", "error"),
        },
    )

    if TYPE_CHECKING:
        parent_id = peewee.TextField(null=True)

    store: Any  # of one that was claimed: the store whose ``jobs`` did

    type = peewee.TextField()
    queue = peewee.TextField(default=QUEUE)
    status = EnumField(JOB_STATUSES, default="pending", index=True)
    progress = peewee.IntegerField(default=0)
    total_items = peewee.IntegerField(null=True)
    processed_items = peewee.IntegerField(default=0)
    message = peewee.TextField(default="")
    meta: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    result: JSONField[JsonValue] = _LargeJSON(null=True)
    parent = peewee.ForeignKeyField("self", on_delete="CASCADE", null=True, backref="children")
    unique_key = peewee.TextField(null=True)
    exclusive_group = peewee.TextField(null=True)
    run_at = UTCField(null=True)
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "jobs"
        indexes = ((("type", "queue", "status"), False),)
        column_order = (
            *(..., "max_retries", "max_lost", "rank", "retry_count", "lost_count", "attempt", "worker", "process"),
            *("lease_until", "lease_clock", "next_retry_at", "error", "started_at", "completed_at"),
            *("created_at", "updated_at"),
        )
        without_rowid = True

    def _prepare(self, names: set[str], *, new: bool) -> None:
        for name in ("type", "queue"):
            if new or name in names:
                setattr(self, name, check_text(self.__data__.get(name), name))
        if not new:
            return
        if self.run_at is not None:
            when: Any = Job.run_at.python_value(Job.run_at.db_value(self.run_at))
            self.next_retry_at = when if when > utcnow() else None
            names.add("next_retry_at")
        parent = None if self.parent_id is None else Job.get_or_none(Job.id == self.parent_id)
        if parent is not None and parent.status in ("cancelling", "cancelled"):
            raise IllegalMove(
                f"job {parent.id} is {parent.status} and gets no more parts; try it again first: store.jobs.retry"
            )

    @property
    def over(self) -> bool:
        """Whether the job was completed, failed or cancelled when this row was read."""
        return self.status not in JOB_LIVE

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        """Return the row as plain values, without its result if that was not read."""
        found = super().to_dict(secrets=secrets)
        if "result" not in self.__data__:
            del found["result"]
        return found

    @property
    def scenes(self) -> Rows[Scene]:
        """The scenes that this job is linked to."""
        self.check_home()
        links = JobScene.select(JobScene.scene).where(JobScene.job == self.id)
        return Rows(Scene.select().where(Scene.id.in_(links)).order_by(Scene.id), Scene)

    def update_progress(
        self,
        progress: float | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
        message: str | None = None,
        lease: float | None = None,
    ) -> bool:
        """Report progress and extend the lease. Return False if the job was cancelled and its handler should end.

        See :meth:`scanstore.jobs.jobs.Jobs.heartbeat`.
        """
        lease = self.lease if lease is None else lease
        check_lease(None, lease)
        self._acting(
            leasing.heartbeat, lease, progress=progress, processed=processed, total=total, message=message
        )  # fmt: skip
        return bool(self.status == "running")

    def mark_completed(self, result: object = None) -> Self:
        """Complete this job with its result, and return it. See :meth:`scanstore.jobs.jobs.Jobs.complete`."""
        return self._acting(leasing.complete, result)

    def mark_failed(self, error: str | BaseException, *, retry: bool = True) -> Self:
        """Give this job back with an error, and return it. The job may be retried.

        The ``status`` of the returned row is ``pending`` if the job will be retried, ``failed`` if its retries are used
        up, and ``cancelled`` if it was being cancelled. With ``retry=False`` it fails for good. See
        :meth:`scanstore.jobs.jobs.Jobs.fail`.
        """
        return self._acting(leasing.fail, describe_error(error), check_bool(retry, "retry"))

    def _acting(self, act: Callable[..., object], *args: object, **given: object) -> Self:
        """Act as the owner of this job, and bring the row up to date in the same transaction."""
        self.check_home()
        db = _here()
        with db.atomic():
            act(db, self.id, (self.worker or me(), self.attempt if self.worker else None), *args, **given)
            self.__data__ = read_keys(db, Job, [self.id])[0].__data__
        return self


class JobScene(Base):
    """The link of a job to a scene."""

    __shown__ = "job, scene"

    if TYPE_CHECKING:
        job_id = peewee.TextField()
        scene_id = peewee.TextField()

    job = peewee.ForeignKeyField(Job, on_delete="CASCADE", backref="+", index=False)
    scene = peewee.ForeignKeyField(Scene, on_delete="CASCADE", backref="+")

    class Meta:
        table_name = "job_scenes"
        primary_key = peewee.CompositeKey("job", "scene")
        without_rowid = True


_WHEN = frozenset({"schedule", "timezone", "enabled"})
_TASK = frozenset({"name", "task_type", "config", "enabled"})


class ScheduledTask(Numbered, Timestamped):
    """A task with its schedule. ``next_run`` is None while it is disabled; ``last_run`` is its last start."""

    __shown__ = "enabled: name, task_type, schedule | timezone, last_run, next_run"
    __rules__ = Rules(
        state={
            "next_run": "it follows from the schedule; call store.schedules.update(task, ...), enable or disable",
            **columns("call store.schedules.run_due()", "last_run", "last_job"),
        },
    )

    if TYPE_CHECKING:
        last_job_id = peewee.TextField(null=True)

    name = peewee.TextField(unique=True)
    task_type = peewee.TextField()
    schedule = peewee.TextField()
    timezone = peewee.TextField(default="UTC")
    config: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    enabled = peewee.BooleanField(default=True)
    last_run = UTCField(null=True)
    next_run = UTCField(null=True)
    last_job = peewee.ForeignKeyField(Job, on_delete="SET NULL", null=True, backref="+")

    class Meta:
        table_name = "scheduled_tasks"

    def _prepare(self, names: set[str], *, new: bool) -> None:
        wanted = _TASK if new else names & _TASK
        for name, value in check_task(**{name: self.__data__.get(name) for name in wanted}).items():
            setattr(self, name, value)
        if new or names & _WHEN:
            following = next_run(self.__data__.get("schedule"), timezone=self.timezone)
            self.next_run = following if self.enabled else None
            names.add("next_run")

    @classmethod
    def _prepare_update(cls, values: dict[str, Any]) -> None:
        if when := sorted(values.keys() & _WHEN):
            raise InvalidArgument(
                f"{when[0]} of ScheduledTask changes its next run; save the row, or call"
                " store.schedules.update(task, ...), enable or disable"
            )
        plain = {name: each for name, each in values.items() if name in _TASK and not isinstance(each, peewee.Node)}
        values.update(check_task(**plain))


def _here() -> Database:
    """Return the current store's database, for the methods of a row."""
    database = current()
    if database is None:
        raise no_store()
    return database


# Arguments for a job


def key_of(job: Job | str | uuid.UUID) -> str:
    return uuid_of(job, "a job", Job)


# What is given


def check_types(types: str | Iterable[str]) -> list[str]:
    return [check_text(each, "type") for each in ((types,) if isinstance(types, str) else check_list(types, "types"))]


def format_run_at(value: object) -> str | None:
    if value is not None and not isinstance(value, datetime):
        raise InvalidArgument(f"run_at is {shown(value)}; give an aware datetime")
    return None if value is None else format_time(value)


def scene_key(scene: object) -> str:
    if isinstance(scene, Scene):
        scene.check_home()
        return str(scene.id)
    if not isinstance(scene, str) or not scene:
        raise InvalidArgument(f"{shown(scene)} is not a scene; give a row or its id")
    return scene


def scene_keys(scenes: Iterable[Scene | str]) -> list[str]:
    if isinstance(scenes, str | Scene):
        raise InvalidArgument(f"scenes is {scenes!r}; give a list of scenes")
    return list(dict.fromkeys(scene_key(each) for each in check_list(scenes, "scenes")))
