"""Jobs: what their docstrings promise, move by move, and with real processes that are interrupted, late or killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import textwrap
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import needs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stressing import Program

from scanstore.db import uuids
from scanstore.db.rules import change_rows
from scanstore.db.state_machine import JOB_STATUSES
from scanstore.db.values import utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, LeaseLost, NoStore, NotFound, WrongStore
from scanstore.jobs.jobs import Job, JobScene
from scanstore.jobs.worker import Worked
from scanstore.leases import engine
from scanstore.library.models import Scene
from scanstore.store import Store

NOBODY = str(uuid.UUID(int=7))


def process(db: Path, code: str, *args: str) -> Program:
    """Run code in a process of its own, with the store open as `store`."""
    head = "import os, sys, time\nfrom scanstore import Store\nstore = Store(sys.argv[1], durability='normal')\n"
    return Program(head + textwrap.dedent(code), db, *args, stdout=subprocess.PIPE)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def one(store: Store, **options: Any) -> Job:
    """A job that was enqueued and claimed."""
    job = store.jobs.enqueue("work", **options)
    return store.jobs.start(job)


def over_lease(store: Store, job: Job) -> None:
    """Let a lease have run out."""
    store.database.execute_sql("UPDATE jobs SET lease_until = '2020-01-01T00:00:00.000Z' WHERE id = ?", (job.id,))


# Ids ------------------------------------------------------------------------------------------------------------------


def test_ids_sort_by_the_time_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    made: list[uuid.UUID] = [uuids.uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}
    assert before <= made[0].int >> 80 <= made[-1].int >> 80 <= time.time_ns() // 1_000_000 + 20


def test_ids_sort_when_the_clock_goes_back_and_across_threads() -> None:
    made: list[uuid.UUID] = []
    with mock.patch.object(uuids.time, "time_ns", side_effect=[10**18, 10**18 - 10**12, 5]):
        made = [uuids.uuid7() for _ in range(3)]
    assert made == sorted(made)
    several: list[list[uuid.UUID]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda own=own: own.extend(uuids.uuid7() for _ in range(3000))) for own in several
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(own == sorted(own) for own in several)
    assert len(set().union(*several)) == 12_000


# Queueing -------------------------------------------------------------------------------------------------------------


def test_enqueue_and_the_defaults(store: Store) -> None:
    job = store.jobs.enqueue("sync", meta={"path": "src"})
    assert (job.type, job.status, job.progress, job.processed_items, job.meta) == (
        "sync",
        "pending",
        0,
        0,
        {"path": "src"},
    )
    assert (job.total_items, job.result, job.error, job.started_at, job.completed_at) == (None,) * 5
    assert isinstance(job.id, str) and uuid.UUID(job.id).version == 7
    for key in (job, job.id, uuid.UUID(job.id), job.id.upper()):
        assert store.jobs.get(key).id == job.id
    assert job.to_dict()["id"] == job.id
    assert (store.jobs.find(NOBODY), store.jobs.find(job).id) == (None, job.id)
    assert store.check() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": " "}, "type is ' '"),
        ({"type": 3}, "type is 3"),
        ({"meta": [1]}, "meta is"),
        ({"meta": {"x": float("nan")}}, "cannot be stored as JSON"),
        ({"meta": {"x": object()}}, "cannot be stored as JSON"),
        ({"unique": ""}, "unique is ''"),
        ({"exclusive_group": ""}, "exclusive_group is ''"),
        ({"priority": 1.5}, "priority is 1.5"),
        ({"priority": True}, "priority is True"),
        ({"priority": 2**40}, "priority is"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"run_at": "tomorrow"}, "run_at is 'tomorrow'"),
        ({"run_at": datetime(2026, 1, 1)}, "has no time zone"),
        ({"scenes": "abc"}, "scenes is 'abc'"),
        ({"scenes": [3]}, "3 is not a scene"),
        ({"parent": "abc"}, "'abc' is not a job"),
    ],
)
def test_what_cannot_be_enqueued(store: Store, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        store.jobs.enqueue(**{"type": "work", **options})
    assert store.jobs.list() == []


def test_a_job_is_enqueued_with_its_scenes_or_not_at_all(store: Store) -> None:
    scenes = [Scene.create(id=str(n), title=f"T{n}") for n in range(3)]
    with pytest.raises(NotFound, match="no scene 8, 9;"):
        store.jobs.enqueue("work", scenes=["0", "8", "9"])
    with pytest.raises(NotFound, match=f"no job {NOBODY}"):
        store.jobs.enqueue("work", parent=NOBODY)
    assert store.jobs.list() == []
    first = store.jobs.enqueue("work", scenes=[scenes[0], "1", "1"])
    second = store.jobs.enqueue("work", scenes=["1"])
    assert [scene.title for scene in first.scenes] == ["T0", "T1"]
    assert [job.id for job in store.jobs.list(scene="1")] == [second.id, first.id]
    assert [job.id for job in store.jobs.list(scene=scenes[0], limit=1)] == [first.id]
    scenes[1].delete_instance()
    assert store.jobs.list(scene="1") == [] and [scene.id for scene in first.scenes] == ["0"]
    assert store.check() == []


def test_unique_while_it_is_not_over(store: Store) -> None:
    job = store.jobs.enqueue("sync", unique="nightly")
    assert store.jobs.enqueue("sync", unique="nightly", meta={"other": 1}).id == job.id
    assert store.jobs.find(unique="nightly").id == job.id and store.jobs.find(unique="weekly") is None
    with pytest.raises(Conflict, match="'nightly' is that of job .*, of type 'sync'"):
        store.jobs.enqueue("report", unique="nightly")
    row = store.jobs.claim()[0]
    assert store.jobs.enqueue("sync", unique="nightly").status == "running"
    store.jobs.cancel(row)
    assert store.jobs.enqueue("sync", unique="nightly").status == "cancelling"
    row.mark_completed()
    again = store.jobs.enqueue("sync", unique="nightly")
    assert again.id != job.id
    with pytest.raises(Conflict, match=f"while job {again.id} has its unique key 'nightly'"):
        store.jobs.retry(job)
    store.jobs.start(again).mark_completed()
    assert store.jobs.retry(job)[0].status == "pending"
    assert store.check() == []


def test_unique_across_processes(db_path: Path) -> None:
    code = """
        input_, = sys.argv[2:]
        while time.time() < float(input_):
            pass
        for n in range(100):
            print(store.jobs.enqueue("sync", unique=str(n)).id)
    """
    with Store(db_path) as store:
        when = str(time.time() + 1.5)
        outs = [p.communicate()[0].split() for p in [process(db_path, code, when) for _ in range(2)]]
        assert outs[0] == outs[1] and len(set(outs[0])) == 100
        assert len(store.jobs.list()) == 100


def test_enqueue_is_part_of_the_callers_transaction(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.jobs.enqueue("work", unique="x")
        raise ZeroDivisionError
    assert store.jobs.list() == [] and store.jobs.find(unique="x") is None


# Claiming -------------------------------------------------------------------------------------------------------------


def test_the_most_pressing_is_claimed_first_and_then_the_oldest(store: Store) -> None:
    made = {name: store.jobs.enqueue(name, priority=n) for name, n in (("a", 0), ("b", 5), ("c", 5), ("d", -1))}
    assert made["b"].priority == 5
    assert [job.type for job in store.jobs.claim(limit=3)] == ["b", "c", "a"]
    assert [job.type for job in store.jobs.claim()] == ["d"]
    assert store.jobs.claim() == []


def test_only_types_and_queues_that_were_asked_for(store: Store) -> None:
    for name in ("a", "b", "c"):
        store.jobs.enqueue(name)
    store.jobs.enqueue("b", queue="slow")
    assert [job.type for job in store.jobs.claim(["b", "x"], limit=9)] == ["b"]
    assert store.jobs.claim("b") == []
    assert [job.type for job in store.jobs.claim(limit=9)] == ["a", "c"]
    assert [job.queue for job in store.jobs.claim("b", queue="slow")] == ["slow"]
    for bad in ({"scope": [""]}, {"limit": 0}, {"lease": 0}, {"worker": " "}, {"queue": ""}):
        with pytest.raises(InvalidArgument):
            store.jobs.claim(**bad)


def test_run_at(store: Store) -> None:
    later = utcnow() + timedelta(hours=1)
    job = store.jobs.enqueue("work", run_at=later)
    past = store.jobs.enqueue("work", run_at=utcnow() - timedelta(hours=1))
    assert [row.id for row in store.jobs.claim(limit=5)] == [past.id]
    with pytest.raises(IllegalMove, match="waits until"):
        store.jobs.start(job)
    assert store.jobs.state()[:6] == (0, 1, 1, 0, 0, 0)
    with mock.patch("scanstore.leases.engine.utcnow", lambda: later + timedelta(seconds=1)):
        assert [row.id for row in store.jobs.claim()] == [job.id]


def test_run_at_is_never_moved_forward_by_a_clock_that_is_set_back(store: Store) -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    with mock.patch("scanstore.leases.engine.utcnow") as clock, mock.patch("scanstore.jobs.jobs.utcnow") as other:
        clock.return_value = other.return_value = noon
        job = store.jobs.enqueue("work", run_at=noon + timedelta(hours=1))
        failed = store.jobs.start(store.jobs.enqueue("work"))
        failed.mark_failed("x")
        clock.return_value = other.return_value = noon - timedelta(days=1)
        assert store.jobs.claim() == []
        clock.return_value = other.return_value = noon - timedelta(days=1) + timedelta(minutes=5)
        assert [row.id for row in store.jobs.claim(limit=5)] == [failed.id]  # its retry moved with the clock
        clock.return_value = noon + timedelta(minutes=59)
        store.jobs.claim(limit=5)
        assert store.jobs.get(job).status == "pending"
        clock.return_value = noon + timedelta(minutes=61)
        assert job.id in [row.id for row in store.jobs.claim(limit=5)]


def test_one_of_an_exclusive_group_runs_at_a_time(store: Store) -> None:
    jobs = [store.jobs.enqueue("work", exclusive_group="disk") for _ in range(3)]
    other = store.jobs.enqueue("work", exclusive_group="net")
    free = store.jobs.enqueue("work")
    assert [row.id for row in store.jobs.claim(limit=9)] == [jobs[0].id, other.id, free.id]
    with pytest.raises(IllegalMove, match="waits for another of group 'disk'"):
        store.jobs.start(jobs[1])
    store.jobs.cancel(jobs[0])  # it goes on until its worker lets it go
    assert store.jobs.claim() == []
    store.jobs.release(jobs[0])
    assert [row.id for row in store.jobs.claim(limit=9)] == [jobs[1].id]
    store.jobs.complete(jobs[1])
    assert [row.id for row in store.jobs.claim(limit=9)] == [jobs[2].id]


def test_a_claim_reads_no_job_that_it_passes_over(store: Store) -> None:
    sql = engine._claim_one(engine.JOBS, engine.UNLIMITED, "1", "NULL")
    values = dict.fromkeys(("worker", "process", "until", "clock", "now", "scope", "types", "only"))
    plan = [row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert "SEARCH jobs USING COVERING INDEX ix_jobs_ready (queue=?)" in plan
    assert not any(step.startswith("SCAN jobs") for step in plan)
    query = Job.select().where(Job.id.in_(JobScene.select(JobScene.job).where(JobScene.scene == "1")))
    plan = [row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {query.sql()[0]}", ("1",))]
    assert any("ix_job_scenes_scene_id" in step for step in plan) and not any("SCAN t" in step for step in plan)


# What an owner does ---------------------------------------------------------------------------------------------------


def test_tick(store: Store) -> None:
    job = one(store)
    before = job.lease_until
    assert job.update_progress(30, message="reading", lease=3600) is True
    row = store.jobs.get(job)
    assert (row.progress, row.message) == (job.progress, job.message) == (30, "reading")
    assert row.lease_until == job.lease_until > before + timedelta(minutes=30)
    job.update_progress(20.9)
    assert (job.progress, store.jobs.get(job).progress) == (30, 30)  # it never goes back
    job.update_progress(processed=3, total=4)
    row = store.jobs.get(job)
    assert (row.progress, row.processed_items, row.total_items) == (75, 3, 4)
    assert store.jobs.heartbeat(job.id, processed=9) and store.jobs.get(job).progress == 100
    job.mark_failed("x")
    with mock.patch("scanstore.leases.engine.utcnow", lambda: utcnow() + timedelta(minutes=1)):
        (again,) = store.jobs.claim()
    assert (again.id, again.attempt, again.progress, again.processed_items, again.message) == (job.id, 2, 0, 0, "")
    assert store.check() == []


@pytest.mark.parametrize(
    "options",
    [
        {"progress": 130}, {"progress": -1}, {"progress": "50"}, {"progress": True}, {"progress": float("nan")},
        {"processed": -1}, {"processed": 1.5}, {"total": -1}, {"message": 3}, {"lease": -1}, {"worker": ""},
    ],
)  # fmt: skip
def test_ticks_that_are_refused(store: Store, options: dict[str, Any]) -> None:
    job = one(store)
    with pytest.raises(InvalidArgument):
        store.jobs.heartbeat(job, **options)
    assert store.jobs.get(job).to_dict() == job.to_dict()


def test_the_methods_of_a_row(store: Store, tmp_path: Path) -> None:
    job = one(store)
    assert job.mark_completed({"rows": 3}).status == "completed"
    row = store.jobs.get(job)
    assert (row.status, row.progress, row.result, row.over) == ("completed", 100, {"rows": 3}, True)
    assert (job.status, job.progress, job.result, job.over) == ("completed", 100, {"rows": 3}, True)
    assert row.completed_at >= row.started_at and row.lease_until is None
    assert job.mark_completed({"rows": 4}).status == "completed"  # twice is harmless
    assert store.jobs.get(job).result == {"rows": 3}
    with Store(tmp_path / "other.db"), pytest.raises(WrongStore):
        job.update_progress()
    failed = one(store)
    with pytest.raises(InvalidArgument, match="cannot be stored as JSON"):
        failed.mark_completed({1, 2})
    assert failed.mark_failed(KeyError("x"), retry=False).status == "failed"
    assert store.jobs.get(failed).error == "KeyError: 'x'"


def test_the_methods_of_a_row_outside_any_store(db_path: Path) -> None:
    with Store(db_path) as store:
        job = one(store)
    with pytest.raises(NoStore):
        job.update_progress()
    with pytest.raises(NoStore):
        job.mark_completed()


def test_a_failure_is_tried_again_and_then_is_final(store: Store) -> None:
    job = store.jobs.enqueue("work", max_retries=2)
    now = utcnow()
    waits = []
    for status in ("pending", "pending", "failed"):
        with mock.patch("scanstore.leases.engine.utcnow", return_value=now):
            (row,) = store.jobs.claim()
            assert store.jobs.fail(row, "no luck").status == status == row.status
        row = store.jobs.get(job)
        waits.append(None if row.next_retry_at is None else round((row.next_retry_at - now).total_seconds()))
        now += timedelta(seconds=60)
    assert waits == [2, 4, None]
    assert (row.status, row.retry_count, row.attempt, row.error) == ("failed", 2, 3, "no luck")
    assert row.completed_at is not None
    (again,) = store.jobs.retry(job)
    assert (again.status, again.retry_count, again.error, again.completed_at) == ("pending", 0, None, None)
    assert store.check() == []


@pytest.mark.parametrize("worker", ["bob", None])
def test_a_late_owner_changes_nothing(store: Store, worker: str | None) -> None:
    job = one(store)
    over_lease(store, job)
    (later,) = store.jobs.claim(worker=worker)  # by another, or by the same once more
    before = store.jobs.get(job).to_dict()
    for late in (
        lambda: job.update_progress(50), lambda: job.mark_completed(1), lambda: job.mark_failed("x"),
        lambda: store.jobs.release(job), lambda: store.jobs.complete(job.id, worker="eve"),
    ):  # fmt: skip
        with pytest.raises(LeaseLost):
            late()
    assert store.jobs.get(job).to_dict() == before
    assert later.mark_completed().status == "completed"
    with pytest.raises(LeaseLost):
        job.mark_completed()
    assert store.check() == []


def test_a_job_that_is_given_up_too_often_has_failed(store: Store) -> None:
    job = store.jobs.enqueue("work", max_retries=0, max_lost=1)
    for _ in range(2):
        (row,) = store.jobs.claim(worker="bob")
        over_lease(store, row)
    assert store.jobs.claim() == []
    row = store.jobs.get(job)
    assert (row.status, row.completed_at is not None, row.retry_count, row.lost_count) == ("failed", True, 0, 2)
    assert row.error == "given up after 2 lost leases; the last worker was bob: its lease ran out"
    assert store.jobs.state().lost == 2
    assert store.jobs.retry(job)[0].lost_count == 0
    assert store.check() == []


# Every state and every move -------------------------------------------------------------------------------------------


def put(store: Store, status: str) -> Job:
    """A job in a status, as its last owner holds it."""
    job = store.jobs.enqueue("work")
    if status == "pending":
        return job
    job = store.jobs.start(job)
    if status in ("cancelling", "cancelled"):
        store.jobs.cancel(job)
    if status in ("completed", "cancelled"):
        job.mark_completed()
    if status == "failed":
        job.mark_failed("x", retry=False)
    return job


MOVES: dict[str, Callable[[Store, Job], Any]] = {
    "start": lambda store, job: store.jobs.start(job),
    "complete": lambda store, job: store.jobs.complete(job),
    "fail": lambda store, job: store.jobs.fail(job, "x", retry=False),
    "release": lambda store, job: store.jobs.release(job),
    "tick": lambda store, job: store.jobs.heartbeat(job, progress=1),
    "cancel": lambda store, job: store.jobs.cancel(job),
    "retry": lambda store, job: store.jobs.retry(job),
}
LEGAL = {
    ("pending", "start"): "running", ("pending", "cancel"): "cancelled",
    ("running", "complete"): "completed", ("running", "fail"): "failed", ("running", "release"): "pending",
    ("running", "tick"): "running", ("running", "cancel"): "cancelling",
    ("cancelling", "complete"): "cancelled", ("cancelling", "fail"): "cancelled",
    ("cancelling", "release"): "cancelled",
    ("cancelling", "tick"): "cancelling", ("cancelling", "cancel"): "cancelling",
    ("completed", "complete"): "completed",  # doing it twice is harmless
    ("cancelled", "complete"): "cancelled", ("cancelled", "fail"): "cancelled", ("cancelled", "release"): "cancelled",
    ("cancelled", "tick"): "cancelled", ("cancelled", "retry"): "pending", ("failed", "retry"): "pending",
}  # fmt: skip


@pytest.mark.parametrize("action", MOVES)
@pytest.mark.parametrize("status", JOB_STATUSES)
def test_every_move(store: Store, status: str, action: str) -> None:
    job = put(store, status)
    before = store.jobs.get(job).to_dict()
    assert before["status"] == status
    wanted = LEGAL.get((status, action))
    if wanted is None:
        with pytest.raises(IllegalMove, match=f"job {job.id} .*; .{{10}}"):  # what it is, and what to do
            MOVES[action](store, job)
        assert store.jobs.get(job).to_dict() == before
    else:
        MOVES[action](store, job)
        after = store.jobs.get(job).to_dict()
        assert after["status"] == wanted
        if before["status"] in ("completed", "cancelled") and wanted == status:
            assert after == before
    for missing in (NOBODY, uuid.UUID(NOBODY)):
        with pytest.raises(NotFound, match=NOBODY):
            MOVES[action](store, missing)  # type: ignore[arg-type]
    for bad in ("x", 3, None):
        with pytest.raises(InvalidArgument, match="is not a job"):
            MOVES[action](store, bad)  # type: ignore[arg-type]
    assert store.check() == []


def test_the_database_itself_keeps_what_is_over(store: Store) -> None:
    done, failed = put(store, "completed"), put(store, "failed")
    for job, status in (
        (done, "pending"),
        (done, "running"),
        (done, "failed"),
        (failed, "running"),
        (failed, "completed"),
    ):
        with pytest.raises(Conflict, match="stays over"):
            change_rows(Job, status=status, completed_at=None).where(Job.id == job.id).execute()
    with pytest.raises(Conflict):
        change_rows(Job, progress=130).where(Job.id == done.id).execute()


# Cancelling -----------------------------------------------------------------------------------------------------------


def test_cancelling_what_runs(store: Store) -> None:
    job = one(store)
    assert store.jobs.cancel(job).status == "cancelling"
    assert job.update_progress(40, message="stopping") is False
    assert store.jobs.get(job).progress == 40
    assert job.mark_completed([1]).status == "cancelled"
    row = store.jobs.get(job)
    assert (row.status, row.result, row.progress, row.completed_at is not None) == ("cancelled", [1], 40, True)
    assert job.update_progress(50) is False
    other = one(store)
    store.jobs.cancel(other)
    assert other.mark_failed("late").status == "cancelled" and store.jobs.get(other).error == "late"
    assert store.check() == []


def test_cancelling_takes_the_parts_along(store: Store) -> None:
    top = store.jobs.enqueue("top")
    parts = [store.jobs.enqueue("part", parent=top) for _ in range(3)]
    deep = store.jobs.enqueue("deep", parent=parts[2])
    store.jobs.start(parts[0]).mark_completed()
    running = store.jobs.start(parts[1])
    store.jobs.start(top).mark_completed()
    assert store.jobs.cancel(top).status == "completed"  # of it, parts were left
    assert [row.status for row in store.jobs.children(top)] == ["completed", "cancelling", "cancelled"]
    assert store.jobs.get(deep).status == "cancelled"
    for parent in (running, deep):
        with pytest.raises(IllegalMove, match="gets no more parts"):
            store.jobs.enqueue("part", parent=parent)
    running.mark_completed()
    with pytest.raises(IllegalMove, match="it and all its parts are finished"):
        store.jobs.cancel(top)
    assert store.check() == []


def test_a_retry_revives_the_parts_that_were_cancelled_with_the_job(store: Store) -> None:
    top = store.jobs.enqueue("top")
    waiting, running, failing, alone, failed = (store.jobs.enqueue("part", parent=top) for _ in range(5))
    deep = store.jobs.enqueue("deep", parent=waiting)
    store.jobs.start(failed).mark_failed("broken", retry=False)
    store.jobs.cancel(alone)
    taken = [store.jobs.start(each) for each in (running, failing)]
    store.jobs.cancel(top)
    assert store.jobs.get(waiting).error == store.jobs.get(deep).error == f"cancelled with job {top.id}"
    with pytest.raises(IllegalMove, match=f"cannot be retried while its part {running.id} is cancelling"):
        store.jobs.retry(top)
    assert store.jobs.get(top).status == "cancelled"
    taken[0].mark_completed("done")
    assert taken[1].mark_failed("late").error == f"cancelled with job {top.id}: late"
    assert store.jobs.get(top).progress == 100
    (row,) = store.jobs.retry(top)
    assert (row.id, row.status, row.progress, row.error) == (top.id, "pending", 40, None)
    assert [each.status for each in store.jobs.children(top)] == ["pending"] * 3 + ["cancelled", "failed"]
    revived = store.jobs.get(running)
    assert (revived.result, revived.error, store.jobs.get(deep).status) == (None, None, "pending")
    assert store.jobs.run_worker({name: lambda job: None for name in ("top", "part", "deep")}, until_empty=True)[0] == 5
    assert store.check() == []


def test_a_retry_of_a_part_or_of_several(store: Store) -> None:
    top = store.jobs.enqueue("top")
    part = store.jobs.enqueue("part", parent=top, unique="p")
    deep = store.jobs.enqueue("deep", parent=part)
    store.jobs.cancel(top)
    assert [row.status for row in store.jobs.retry(part)] == ["pending"]
    assert [store.jobs.get(each).status for each in (top, part, deep)] == ["cancelled", "pending", "pending"]
    store.jobs.cancel(part)
    assert store.jobs.retry(top)[0].status == "pending" and store.jobs.get(part).status == "cancelled"
    store.jobs.retry(part)
    store.jobs.cancel(top)
    assert [row.id for row in store.jobs.retry(top, deep, part)] == [top.id, deep.id, part.id]
    store.jobs.cancel(top)
    other = store.jobs.enqueue("part", unique="p")
    with pytest.raises(Conflict, match=f"job {part.id} cannot be retried while job {other.id} has its unique key 'p'"):
        store.jobs.retry(top)
    assert {store.jobs.get(each).status for each in (top, part, deep)} == {"cancelled"}
    assert store.check() == []


def test_the_status_of_a_failed_job_says_whether_it_is_retried(store: Store) -> None:
    assert one(store, max_retries=1).mark_failed("x").status == "pending"
    assert one(store, max_retries=0).mark_failed("x").status == "failed"
    assert one(store).mark_failed("x", retry=False).status == "failed"
    assert "may be retried" in str(Job.mark_failed.__doc__)


def test_what_is_cancelled_ends_with_its_worker(store: Store, db_path: Path) -> None:
    job = store.jobs.enqueue("work", exclusive_group="g")
    worker = process(db_path, "print(store.jobs.claim()[0].id, flush=True); time.sleep(60)")
    assert worker.stdout is not None and worker.stdout.readline().strip() == job.id
    assert store.jobs.cancel(job).status == "cancelling"
    worker.kill()
    worker.wait()
    with Store(db_path):  # opening is enough
        pass
    assert store.jobs.get(job).status == "cancelled"
    for end in (lambda row: store.jobs.cancel(row), lambda row: store.jobs.claim(), lambda row: store.jobs.recover()):
        row = one(store)
        store.jobs.cancel(row)
        over_lease(store, row)
        end(row)
        assert store.jobs.get(row).status == "cancelled"
    assert store.check() == []


def test_cancelling_races_with_completing(db_path: Path) -> None:
    code = """
        def work(job):
            job.update_progress(50)
            return 1
        print(*store.jobs.run_worker({"work": work}, until_empty=True)[:5])
    """
    with Store(db_path, durability="normal") as store:
        with store.transaction():
            jobs = [store.jobs.enqueue("work") for _ in range(300)]
        workers = [process(db_path, code) for _ in range(2)]
        refused = 0
        random.seed(4)
        random.shuffle(jobs)
        until(lambda: store.jobs.state().done > 10)
        for job in jobs:
            try:
                store.jobs.cancel(job)
            except IllegalMove:
                refused += 1
        counts = [Worked(*map(int, worker.communicate()[0].split())) for worker in workers]
        ended = Counter(row.status for row in store.jobs.list())
        assert ended == {"completed": refused, "cancelled": 300 - refused}
        assert sum(each.completed for each in counts) == refused
        assert all(each.lost == each.failed == each.waiting == 0 for each in counts)
        assert store.check() == []


# Parents --------------------------------------------------------------------------------------------------------------


def test_progress_of_a_parent(store: Store) -> None:
    top = store.jobs.enqueue("top")
    assert store.jobs.get(top).progress == 0
    parts = [store.jobs.enqueue("part", parent=top) for _ in range(4)]
    store.jobs.start(parts[0]).update_progress(50)
    store.jobs.start(parts[1]).mark_failed("x", retry=False)
    assert store.jobs.get(top).progress == 37
    store.jobs.start(top).update_progress(90)  # its own word does not count
    assert [row.progress for row in store.jobs.list()] == [0, 0, 0, 50, 37]
    store.jobs.cancel(top)
    for row in (parts[0], top):
        store.jobs.complete(row)
    assert store.jobs.get(top).progress == 100


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_progress_of_any_tree(data: st.DataObject) -> None:
    with Store(":memory:") as store:
        with store.transaction():
            jobs: list[Job] = []
            children: dict[str, list[Job]] = {}
            for n in range(data.draw(st.integers(1, 12))):
                parent = data.draw(st.sampled_from([None, *jobs])) if n else None
                jobs.append(store.jobs.enqueue("work", parent=parent))
                children.setdefault(parent.id if parent else "", []).append(jobs[-1])
            own: dict[str, int] = {}
            for job in jobs:
                row = store.jobs.start(job)
                own[job.id] = data.draw(st.integers(0, 100))
                row.update_progress(own[job.id])
                if data.draw(st.booleans()):
                    row.mark_failed("x", retry=False)
        over = {row.id: row.over for row in store.jobs.list()}

        def share(key: str) -> float:
            parts = children.get(key)
            if not parts:
                return 100 if over[key] else own[key]
            return sum(share(part.id) for part in parts) / len(parts)

        for row in store.jobs.list():
            wanted = share(row.id) if row.id in children else own[row.id]
            assert row.progress == int(wanted + 1e-6)


def test_parents_make_no_circle(store: Store) -> None:
    top = store.jobs.enqueue("work")
    part = store.jobs.enqueue("work", parent=top)
    for parent in (part, top):
        with pytest.raises(Conflict):
            change_rows(Job, parent=parent.id).where(Job.id == top.id).execute()
    with pytest.raises(Conflict):
        Job.create(id=NOBODY, type="work", parent=NOBODY)
    assert store.jobs.get(top).parent_id is None
    assert store.check() == []


# Keeping and removing -------------------------------------------------------------------------------------------------


def aged(store: Store, job: Job, days: int) -> None:
    when = utcnow() - timedelta(days=days)
    change_rows(Job, completed_at=when).where(Job.id == job.id).execute()


def test_prune_removes_whole_trees_that_are_over(store: Store) -> None:
    old, new, live, half = (store.jobs.enqueue(name) for name in ("old", "new", "live", "half"))
    part = store.jobs.enqueue("part", parent=old)
    left = store.jobs.enqueue("part", parent=half)
    for job in (old, part, new, half):
        store.jobs.start(job).mark_completed()
        aged(store, job, 5)
    aged(store, new, 1)
    with pytest.raises(InvalidArgument, match="older_than="):
        store.jobs.prune()
    for bad in (
        {"older_than": 3}, {"older_than": timedelta(days=-1)}, {"older_than": "soon"}, {"keep_last": -1},
        {"keep_last": True}, {"keep_last": 2**63}, {"keep_last": 0, "dry_run": "no"},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            store.jobs.prune(**bad)  # type: ignore[arg-type]
    assert store.jobs.prune(older_than=timedelta(days=3)) == store.jobs.prune(older_than="3d") == 2
    assert store.jobs.prune(older_than="30d") == 0
    assert len(store.jobs.list()) == 6
    assert store.jobs.prune(older_than=timedelta(days=3), keep_last=2, dry_run=False) == 0
    assert store.jobs.prune(older_than=timedelta.max, dry_run=False) == 0
    assert store.jobs.prune(older_than=timedelta(days=3), dry_run=False) == 2
    assert [row.id for row in store.jobs.list()] == [left.id, half.id, live.id, new.id]
    assert store.jobs.prune(keep_last=1, dry_run=False) == 0
    store.jobs.start(left).mark_completed()
    assert store.jobs.prune(older_than=timedelta(days=1), dry_run=False) == 1  # one part is younger than the rest
    assert store.jobs.prune(keep_last=0, dry_run=False) == 2
    assert [row.id for row in store.jobs.list()] == [live.id]
    assert store.check() == []


def test_prune_of_a_very_long_chain(store: Store) -> None:
    with store.transaction():
        job = top = store.jobs.enqueue("work")
        for _ in range(1500):
            job = store.jobs.enqueue("work", parent=job)
    assert store.jobs.get(top).progress == 0
    assert store.jobs.cancel(top).status == "cancelled"
    assert store.jobs.get(top).progress == 100
    assert store.jobs.prune(keep_last=0, dry_run=False) == 1501
    assert store.jobs.list() == []


def test_list_and_state(store: Store) -> None:
    jobs = {status: put(store, status) for status in JOB_STATUSES}
    assert [row.status for row in store.jobs.list()] == list(JOB_STATUSES)[::-1]
    for status, job in jobs.items():
        assert [row.id for row in store.jobs.list(status=status.upper())] == [job.id]
    assert (
        len(store.jobs.list(type="work", limit=2)) == 2
        and store.jobs.list(type="x") == store.jobs.list(queue="x") == []
    )
    assert [row.status for row in store.jobs.list(sort="id", limit=2, offset=1)] == list(JOB_STATUSES)[1:3]
    for bad in (
        {"status": "late"}, {"limit": -1}, {"limit": True}, {"offset": 2**63}, {"offset": None}, {"sort": "result"},
        {"parent": "x"}, {"scene": 3}, {"type": ""}, {"type": 3}, {"queue": " "},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            store.jobs.list(**bad)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        store.jobs.children(NOBODY)
    for bad in ({"limit": -1}, {"offset": "1"}):
        with pytest.raises(InvalidArgument):
            store.jobs.children(NOBODY, **bad)  # type: ignore[arg-type]
    state = store.jobs.state()
    assert (state.ready, state.delayed, state.leased, state.done, state.failed, state.skipped) == (1, 0, 2, 1, 1, 1)
    assert not state.finished and state.next_at is not None
    assert store.jobs.state(queue="x").finished


def test_a_list_of_jobs_reads_no_results(store: Store) -> None:
    top = store.jobs.enqueue("top")
    for _ in range(3):
        store.jobs.start(store.jobs.enqueue("part", parent=top)).mark_completed({"text": "x" * 100_000})
    seen: list[Any] = []
    real = type(store.database).execute_sql

    def watch(database: Any, sql: str, params: Any = None) -> Any:
        seen.append(sql)
        return real(database, sql, params)

    with mock.patch.object(type(store.database), "execute_sql", watch):
        rows, parts = store.jobs.list(limit=50), store.jobs.children(top, limit=2, offset=1)
    assert seen and not any("result" in sql for sql in seen)
    assert [row.id for row in parts] == [row.id for row in rows[1::-1]]
    assert all("result" not in row.to_dict() and row.to_dict()["status"] for row in rows)
    first = rows[0]
    assert first.result == {"text": "x" * 100_000} == store.jobs.get(first).result
    assert first.to_dict()["result"] == first.result and rows[-1].result is None
    late = store.jobs.list(limit=2)[1]
    Job.delete().where(Job.id == late.id).execute()
    assert late.result is None
    late = store.jobs.list(limit=1)[0]
    late.message = "seen"
    late.save()  # writes no result that was not read
    assert store.jobs.get(late).result == first.result
    with Store(":memory:"), pytest.raises(WrongStore):
        store.jobs.list(limit=1)[0].result  # noqa: B018
    assert Job(type="x").result is None


def test_find_by_id_or_by_unique_key(store: Store) -> None:
    job = store.jobs.enqueue("work", unique="x")
    assert store.jobs.find(job).id == store.jobs.find(job.id).id == store.jobs.find(unique="x").id == job.id
    store.jobs.cancel(job)
    assert store.jobs.find(unique="x") is None and store.jobs.find(job).status == "cancelled"
    for arguments, options in (
        ((), {}), ((job,), {"unique": "x"}), ((), {"unique": ""}), ((), {"unique": 3}), ((3,), {}), ((True,), {}),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            store.jobs.find(*arguments, **options)  # type: ignore[arg-type]


# Workers --------------------------------------------------------------------------------------------------------------


def test_how_jobs_of_a_worker_end(store: Store) -> None:
    def settled(job: Job) -> None:
        job.mark_failed("never mind", retry=False)

    def settled_and_raised(job: Job) -> None:
        job.mark_failed("first", retry=False)
        raise ValueError("second")

    def cancelled(job: Job) -> str:
        store.jobs.cancel(job)
        return "result" if job.update_progress() is False else "went on"

    def lost(job: Job) -> None:
        over_lease(store, job)
        store.jobs.start(job, worker="bob")

    handlers: dict[str, Callable[[Job], Any]] = {
        "good": lambda job: {"meta": job.meta, "store": job.store is store},
        "bad": lambda job: 1 / 0,
        "set": lambda job: {1},
        "settled": settled,
        "settled_and_raised": settled_and_raised,
        "cancelled": cancelled,
        "lost": lost,
    }
    jobs = {name: store.jobs.enqueue(name, meta={"n": name}) for name in (*handlers, "nobody's")}
    seen: list[tuple[str, str]] = []
    worked = store.jobs.run_worker(
        handlers, until_empty=True, ended=lambda job: seen.append((job.type, job.status)), worker="ann"
    )
    assert worked == Worked(completed=1, waiting=1, failed=3, cancelled=1, lost=1)
    rows = {name: store.jobs.get(job) for name, job in jobs.items()}
    assert {name: row.status for name, row in rows.items()} == {
        "good": "completed", "bad": "pending", "set": "failed", "settled": "failed", "settled_and_raised": "failed",
        "cancelled": "cancelled", "lost": "running", "nobody's": "pending",
    }  # fmt: skip
    assert rows["good"].result == {"meta": {"n": "good"}, "store": True}
    assert rows["bad"].error == "ZeroDivisionError: division by zero"
    assert "its handler returned set" in rows["set"].error
    assert rows["settled_and_raised"].error == "first"
    assert rows["cancelled"].result == "result"
    assert dict(seen)["good"] == "completed" and len(seen) == 7
    assert store.check() == []


def test_workers_that_are_refused(store: Store) -> None:
    def handle(job: Job) -> None: ...

    for bad in (
        {"handlers": {}}, {"handlers": {"x": 3}}, {"handlers": {"": handle}}, {"handlers": [handle]},
        {"types": ["y"]}, {"types": []}, {"poll": 0}, {"lease": 0}, {"worker": ""},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            store.jobs.run_worker(**{"handlers": {"x": handle}, "until_empty": True, **bad})  # type: ignore[arg-type]


def test_a_worker_that_is_told_to_stop(store: Store) -> None:
    stop = threading.Event()
    store.jobs.enqueue("work")
    done = store.jobs.enqueue("work", run_at=utcnow() + timedelta(seconds=0.3))
    third = store.jobs.enqueue("work", run_at=utcnow() + timedelta(hours=1))
    seen: list[str] = []

    def handle(job: Job) -> None:
        seen.append(job.id)
        if job.id == done.id:
            stop.set()

    thread = threading.Thread(
        target=store.jobs.run_worker, args=({"work": handle},), kwargs={"stop": stop, "poll": 0.05}
    )
    thread.start()
    assert store.jobs.wait(done, timeout=20).status == "completed"
    thread.join(10)
    assert not thread.is_alive() and len(seen) == 2
    assert store.jobs.wait(third, timeout=0).status == "pending"
    with pytest.raises(IllegalMove, match="a transaction is open"), store.transaction():
        store.jobs.wait(third)


def test_an_interrupted_handler_gives_its_job_back(store: Store) -> None:
    job = store.jobs.enqueue("work")

    def interrupted(_: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.jobs.run_worker({"work": interrupted})
    row = store.jobs.get(job)
    assert (row.status, row.retry_count) == ("pending", 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert threading.active_count() == 1


def test_a_slow_handler_keeps_its_lease(store: Store, db_path: Path) -> None:
    job = store.jobs.enqueue("work")
    code = """
        print("ready", flush=True)
        while True:
            for job in store.jobs.claim(worker="thief"):
                print(job.id)
            time.sleep(0.02)
    """
    thieves = []

    def slow(_: Job) -> None:
        thieves.append(thief := process(db_path, code))
        assert thief.stdout is not None and thief.stdout.readline() == "ready\n"
        time.sleep(2.5)

    worked = store.jobs.run_worker({"work": slow}, lease=1.5, until_empty=True)
    thieves[0].kill()
    assert thieves[0].communicate()[0] == ""
    assert worked.completed == 1, worked
    assert store.jobs.get(job).attempt == 1


def test_a_busy_store_undoes_no_work(db_path: Path) -> None:
    code = """
        with store.transaction():
            print("locked", flush=True)
            time.sleep(1)
    """
    with Store(db_path, timeout=0.1) as store:
        job = store.jobs.enqueue("work")
        runs = []

        def handle(job: Job) -> str:
            runs.append(job.attempt)
            locker = process(db_path, code)
            assert locker.stdout is not None and locker.stdout.readline() == "locked\n"
            return "done"

        assert store.jobs.run_worker({"work": handle}, until_empty=True).completed == 1
        assert (runs, store.jobs.get(job).result) == ([1], "done")
        with pytest.raises(IllegalMove, match="a transaction is open"), store.transaction():
            store.jobs.run_worker({"work": handle}, until_empty=True)


WORKER = """
    import pathlib
    def work(job):
        pathlib.Path(sys.argv[2], job.id).write_text(str(job.attempt))
        while not pathlib.Path(sys.argv[2], "go").exists():
            time.sleep(0.01)
    print("done", *store.jobs.run_worker({"work": work}), flush=True)
"""


@needs.signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_current_job_finish(store: Store, db_path: Path, tmp_path: Path, number: int) -> None:
    first, second = (store.jobs.enqueue("work") for _ in range(2))
    worker = process(db_path, WORKER, str(tmp_path))
    until(lambda: (tmp_path / first.id).exists())
    os.kill(worker.pid, number)
    time.sleep(0.2)
    assert worker.poll() is None
    (tmp_path / "go").touch()
    assert worker.communicate()[0].split() == [
        "done", "1", "0", "0", "0", "0", str(number == signal.SIGINT)
    ]  # fmt: skip
    assert [store.jobs.get(job).status for job in (first, second)] == ["completed", "pending"]
    idle = process(db_path, WORKER, str(tmp_path))
    assert store.jobs.wait(second, timeout=20).status == "completed"
    time.sleep(0.2)
    os.kill(idle.pid, number)
    assert idle.communicate(timeout=20)[0].startswith("done")


@needs.signals
def test_the_same_signal_again_gives_the_job_up(store: Store, db_path: Path, tmp_path: Path) -> None:
    job = store.jobs.enqueue("work")
    worker = process(db_path, WORKER + "    ", str(tmp_path))
    until(lambda: (tmp_path / job.id).exists())
    os.kill(worker.pid, signal.SIGINT)
    time.sleep(0.2)
    os.kill(worker.pid, signal.SIGINT)
    worker.communicate(timeout=20)
    assert worker.returncode != 0
    row = store.jobs.get(job)
    assert (row.status, row.retry_count) == ("pending", 0)


def test_kill_in_the_middle_of_a_job(store: Store, db_path: Path, tmp_path: Path) -> None:
    job = store.jobs.enqueue("work", exclusive_group="g")
    for attempt in (1, 2):
        worker = process(db_path, WORKER, str(tmp_path))
        until(lambda a=attempt: (tmp_path / job.id).exists() and (tmp_path / job.id).read_text() == str(a))
        worker.kill()
        worker.wait()
    seen: list[int] = []
    assert store.jobs.run_worker({"work": lambda job: seen.append(job.attempt)}, until_empty=True).completed == 1
    assert seen == [3]
    row = store.jobs.get(job)
    assert (row.status, row.retry_count, row.lost_count) == ("completed", 0, 2)
    lost = store.jobs.enqueue("work")
    worker = process(db_path, "store.jobs.claim(); os.kill(os.getpid(), 9)")
    worker.wait()
    with Store(db_path) as again:  # opening is enough
        assert again.recovered == (1, 0)
    assert store.jobs.get(lost).status == "pending"
    assert store.recover() == (0, 0)
    assert store.check() == []


@pytest.mark.no_cover
def test_two_workers_and_no_job_twice(db_path: Path) -> None:
    code = """
        seen = []
        worked = store.jobs.run_worker({"work": lambda job: seen.append(job.meta["n"])}, until_empty=True)
        print(worked.completed, *seen)
    """
    with Store(db_path, durability="normal") as store:
        with store.transaction():
            for n in range(2000):
                store.jobs.enqueue("work", meta={"n": n})
        workers = [process(db_path, code) for _ in range(2)]
        outs = [[int(word) for word in worker.communicate()[0].split()] for worker in workers]
        assert sorted(n for _, *seen in outs for n in seen) == list(range(2000))
        assert [count for count, *_ in outs] == [len(seen) for _, *seen in outs]
        state = store.jobs.state()
        assert (state.done, state.finished) == (2000, True)
        assert store.check() == []


@pytest.mark.parametrize("types", [None, "work", ["work", "other"]])
def test_work_is_of_one_queue(store: Store, types: Any) -> None:
    for queue in ("default", "slow"):
        for name in ("work", "other"):
            store.jobs.enqueue(name, queue=queue)
    wanted = 2 if types != "work" else 1
    for options in ({}, {"queue": "slow"}):
        done = []
        for job in store.jobs.work(types, **options):  # ends although jobs of the other queue wait
            done.append(job.queue)
            store.jobs.complete(job)
        assert done == [options.get("queue", "default")] * wanted
    state = store.jobs.state("work", queue="slow")
    assert (state.ready, state.done, store.jobs.state(queue="slow").done) == (0, 1, wanted)
    assert store.jobs.state(["other", "work"], queue="none").finished
    for bad in ({"queue": ""}, {"queue": 3}, {"wait": 1}, {"lease": 0}, {"worker": " "}, {"scope": 5}):
        with pytest.raises(InvalidArgument):
            next(store.jobs.work(**bad))  # type: ignore[arg-type]


def test_recover_of_types_in_a_queue(store: Store) -> None:
    jobs = [store.jobs.enqueue(name, queue=queue) for queue in ("a", "b") for name in ("x", "y")]
    for job in jobs:
        store.jobs.start(job)
    store.database.execute_sql("UPDATE jobs SET process = 'elsewhere:7@1', lease_until = '2020-01-01T00:00:00.000Z'")
    assert store.jobs.state("x", queue="a").ready == 1
    assert store.jobs.recover("x", queue="a") == (1, 0)
    assert [store.jobs.get(job).status for job in jobs] == ["pending", "running", "running", "running"]
    assert store.jobs.recover(["x", "y"], queue="b") == (2, 0)


def test_a_transaction_longer_than_the_lease_is_logged_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def slow(job: Job) -> None:
        with store.transaction():
            store.settings.set("x", 1)
            time.sleep(1.2)
        time.sleep(0.5)

    def quick(job: Job) -> None:
        time.sleep(0.6)  # longer than the lease, which heartbeats extend

    first, second = store.jobs.enqueue("slow"), store.jobs.enqueue("quick")
    caplog.set_level("WARNING", "scanstore.jobs")
    assert store.jobs.run_worker({"slow": slow, "quick": quick}, until_empty=True, lease=0.3).completed == 2
    (record,) = caplog.records
    said = record.getMessage()
    assert f"job {first.id} of type slow kept a transaction open for longer than its lease of 0.3 s" in said
    assert second.id not in said


def test_bad_times_to_wait(store: Store) -> None:
    job = store.jobs.enqueue("work")
    for bad in ({"timeout": -1}, {"timeout": "1"}, {"timeout": float("nan")}, {"poll": 0}, {"poll": True}, {"stop": 1}):
        with pytest.raises(InvalidArgument):
            store.jobs.wait(job, **bad)  # type: ignore[arg-type]
    assert store.jobs.wait(job, timeout=0).id == job.id
    with pytest.raises(InvalidArgument, match="until_empty"):
        store.jobs.run_worker({"work": print}, until_empty="yes")  # type: ignore[arg-type]
