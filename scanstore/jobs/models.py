"""The models of jobs and schedules, and the types of their arguments.

Change here: a job's columns, and their accepted values. The methods are in :mod:`scanstore.jobs.jobs`, those for
workers in :mod:`scanstore.jobs.leasing`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import peewee

from scanstore.db import arguments
from scanstore.db.arguments import check_integer, check_list, check_text, copy_saved, uuid_of
from scanstore.db.database import Database, current
from scanstore.db.fields import Base, EnumField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.state_machine import JOB_LIVE, JOB_STATUSES
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import InvalidArgument, NoStore, NotFound, shown
from scanstore.leases import engine
from scanstore.leases.engine import JOBS, LEASE, check_lease
from scanstore.leases.models import LeasedTask
from scanstore.library.models import Scene

QUEUE = "default"
STOPPING = JOBS._replace(leased="cancelling", done=("cancelled",))  # the same rows while they are being cancelled


class Job(LeasedTask):
    """One job. Its methods call those of ``store.jobs`` in the current store, and update this row."""

    if TYPE_CHECKING:
        parent_id = peewee.TextField(null=True)

    lease: float = LEASE  # seconds by which its ticks extend the lease
    store: Any  # the store through which the job was claimed

    type = peewee.TextField()
    queue = peewee.TextField(default=QUEUE)
    status = EnumField(JOB_STATUSES, default="pending", index=True)
    progress = peewee.IntegerField(default=0)
    total_items = peewee.IntegerField(null=True)
    processed_items = peewee.IntegerField(default=0)
    message = peewee.TextField(default="")
    meta: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    result: JSONField[JsonValue] = JSONField(null=True)
    parent = peewee.ForeignKeyField("self", on_delete="CASCADE", null=True, backref="children")
    unique_key = peewee.TextField(null=True)
    exclusive_group = peewee.TextField(null=True)
    run_at = UTCField(null=True)
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "jobs"
        column_order = (
            *(..., "max_retries", "max_lost", "rank", "retry_count", "lost_count", "attempt", "worker", "process"),
            *("lease_until", "lease_clock", "next_retry_at", "error", "started_at", "completed_at"),
            *("created_at", "updated_at"),
        )
        without_rowid = True

    @property
    def over(self) -> bool:
        """Whether the job was completed, failed or cancelled when this row was read."""
        return self.status not in JOB_LIVE

    @property
    def scenes(self) -> list[Scene]:
        """The scenes that this job is linked to."""
        self.check_home()
        links = JobScene.select(JobScene.scene).where(JobScene.job == self.id)
        return list(Scene.select().where(Scene.id.in_(links)).order_by(Scene.id))

    def tick(
        self,
        progress: float | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
        message: str | None = None,
        lease: float | None = None,
    ) -> bool:
        """Report progress, see :meth:`scanstore.jobs.jobs.Jobs.tick`. Returns False if the job was cancelled and should
        stop.
        """
        return tick(
            _here(), self, progress=progress, processed=processed, total=total, message=message, lease=lease
        )  # fmt: skip

    update_progress = tick

    def mark_completed(self, result: object = None) -> str:
        """Complete the job, see :meth:`scanstore.jobs.jobs.Jobs.complete`."""
        return complete(_here(), self, result=result)

    def mark_failed(self, error: str | BaseException, *, retry: bool = True) -> str:
        """Fail the job with an error, see :meth:`scanstore.jobs.jobs.Jobs.fail`."""
        return fail(_here(), self, error, retry=retry)


class JobScene(Base):
    """The link of a job to a scene."""

    if TYPE_CHECKING:
        job_id = peewee.TextField()
        scene_id = peewee.TextField()

    job = peewee.ForeignKeyField(Job, on_delete="CASCADE", backref="+", index=False)
    scene = peewee.ForeignKeyField(Scene, on_delete="CASCADE", backref="+")

    class Meta:
        table_name = "job_scenes"
        primary_key = peewee.CompositeKey("job", "scene")
        without_rowid = True


class ScheduledTask(Numbered, Timestamped):
    """A task with its schedule. ``next_run`` is None while it is disabled; ``last_run`` is its last start."""

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


def _here() -> Database:
    """Return the current store's database, for the methods of a row."""
    database = current()
    if database is None:
        raise NoStore("no store is open here; use 'with Store(path):', or store.bound() in a thread")
    return database


# Arguments for a job


def owner_of(job: Job | str | uuid.UUID, worker: str | None) -> tuple[str, str, int | None]:
    return arguments.owner_of(job, worker, "a job", Job)


def key_of(job: Job | str | uuid.UUID) -> str:
    return uuid_of(job, "a job", Job)


def unknown(key: str) -> NotFound:
    return NotFound(f"no job {key}; store.jobs.list() (scanstore jobs list) shows those that there are")


# Arguments


def check_types(types: str | Iterable[str]) -> list[str]:
    return [check_text(each, "type") for each in ((types,) if isinstance(types, str) else check_list(types, "types"))]


def format_run_at(value: object) -> str | None:
    if value is not None and not isinstance(value, datetime):
        raise InvalidArgument(f"run_at is {shown(value)}; give an aware datetime")
    return None if value is None else format_time(value)


def describe_error(error: object) -> str:
    if isinstance(error, BaseException):
        name = type(error).__name__
        return f"{name}: {error}" if str(error) else name
    if not isinstance(error, str):
        raise InvalidArgument(f"error is {shown(error)}; give a text or an exception")
    return error


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


def progress_columns(progress: object, processed: object, total: object, message: object) -> dict[str, Any]:
    """Return the columns that a tick sets."""
    columns: dict[str, object] = {}
    if progress is not None:
        if isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 100:
            raise InvalidArgument(f"progress is {shown(progress)}; give per cent, from 0 to 100")
        columns["progress"] = int(progress)
    if processed is not None:
        columns["processed_items"] = check_integer(processed, "processed")
    if total is not None:
        columns["total_items"] = check_integer(total, "total")
    if message is not None:
        if not isinstance(message, str):
            raise InvalidArgument(f"message is {shown(message)}; give a text")
        columns["message"] = message
    return columns


def share_of(processed: int, total: int | None) -> int | None:
    return min(100, processed * 100 // total) if total else None


# Reports of the worker of a job


def tick(
    db: Database,
    job: Job | str | uuid.UUID,
    *,
    progress: float | None = None,
    processed: int | None = None,
    total: int | None = None,
    message: str | None = None,
    worker: str | None = None,
    lease: float | None = None,
) -> bool:
    """See :meth:`scanstore.jobs.jobs.Jobs.tick`."""
    carried = job.lease if isinstance(job, Job) else LEASE
    lease = carried if lease is None else lease
    check_lease(worker, lease)
    told = progress_columns(progress, processed, total, message)
    key, owner, attempt = owner_of(job, worker)
    with db.atomic():
        row = db.execute_sql(
            "SELECT status, progress, processed_items, total_items FROM jobs WHERE id = ?", (key,)
        ).fetchone()
        if row is None:
            raise unknown(key)
        status, before, done, items = row
        if status == "cancelled":
            return False
        status = "running" if status == "pending" else status  # its lease was lost, and no worker has claimed it since
        share = share_of(told.get("processed_items", done), told.get("total_items", items))
        if "progress" in told or share is not None and ("processed_items" in told or "total_items" in told):
            told["progress"] = max(before, told.get("progress", share or 0))
        queue = STOPPING if status == "cancelling" else JOBS
        until = engine.heartbeat(db, queue, key, worker=owner, attempt=attempt, lease=lease, **told)
    copy_saved(job, status=status, lease_until=until, **told)
    return bool(status == "running")


def complete(db: Database, job: Job | str | uuid.UUID, *, result: object = None, worker: str | None = None) -> str:
    """See :meth:`scanstore.jobs.jobs.Jobs.complete`."""
    check_lease(worker, LEASE)
    text = None if result is None else dump_json(result)
    key, owner, attempt = owner_of(job, worker)
    now = utcnow()
    with db.atomic():
        queue, to = way_out(db, key, "completed")
        columns = {"result": text, "completed_at": format_time(now)} | ({"progress": 100} if queue is JOBS else {})
        engine.settle(db, queue, key, to, worker=owner, attempt=attempt, **columns)
    copy_saved(job, **columns | {"status": to, "result": result, "completed_at": now, "lease_until": None})
    return to


def fail(
    db: Database,
    job: Job | str | uuid.UUID,
    error: str | BaseException,
    *,
    retry: bool = True,
    worker: str | None = None,
) -> str:
    """See :meth:`scanstore.jobs.jobs.Jobs.fail`."""
    check_lease(worker, LEASE)
    text = describe_error(error)
    key, owner, attempt = owner_of(job, worker)
    with db.atomic():
        queue, status = way_out(db, key, "failed")
        if queue is STOPPING:
            told = {"error": text[: engine.LAST_ERROR], "completed_at": format_time(utcnow())}
            engine.settle(db, queue, key, status, worker=owner, attempt=attempt, **told)
        else:
            status = engine.fail(db, queue, key, text, worker=owner, attempt=attempt, retry=retry)
    copy_saved(job, status=status, error=text[: engine.LAST_ERROR], lease_until=None)
    return status


def way_out(db: Database, key: str, to: str) -> tuple[engine.Queue, str]:
    """Any report of the owner of a cancelling job ends it as cancelled."""
    if status_of(db, key) in ("cancelling", "cancelled"):
        return STOPPING, "cancelled"
    return JOBS, to


def status_of(db: Database, key: str) -> str:
    """Return the status of a job. Raises NotFound."""
    row = db.execute_sql("SELECT status FROM jobs WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise unknown(key)
    return str(row[0])
