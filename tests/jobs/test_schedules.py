"""Schedules: when a task is next, also where clocks change, and that every run is somebody's and nobody's twice."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanstore import Busy, Conflict, InvalidArgument, NotFound, Store
from scanstore.db.rules import change_rows
from scanstore.jobs.jobs import Job
from scanstore.jobs.models import ScheduledTask
from scanstore.jobs.schedules import next_run

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
FUTURE = datetime(2199, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def following(schedule: str, timezone: str, after: str, number: int) -> list[str]:
    """The next times of a schedule, each counted from the one before."""
    moment, found = at(after), []
    for _ in range(number):
        moment = next_run(schedule, timezone=timezone, after=moment)
        found.append(f"{moment:%d %H:%M}")
    return found


# When


@pytest.mark.parametrize(
    ("schedule", "timezone", "after", "times"),
    [
        ("0 3 * * *", "UTC", "2026-06-01T03:00", ["02 03:00", "03 03:00"]),
        ("0 3 * * *", "UTC", "2026-06-01T02:59:59.999", ["01 03:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-06-01T12:00", ["02 01:00"]),
        ("*/20 8-9 * * MON-FRI", "UTC", "2026-06-05T09:20", ["05 09:40", "08 08:00"]),
        ("0 0 L * *", "UTC", "2026-02-03T00:00", ["28 00:00", "31 00:00"]),
        # Berlin, 29 March, 01:00Z: 02:00 becomes 03:00. A fixed time in between comes at once after it.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 01:00", "30 00:30"]),
        ("15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 01:00", "30 00:15"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", ["29 00:00", "29 01:00", "29 02:00"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["30 00:00", "30 00:30"]),
        # Berlin, 25 October, 01:00Z: 03:00 becomes 02:00. A fixed time comes the first time only.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25 00:30", "26 01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15", ["26 01:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", ["25 00:00", "25 01:00", "25 02:00"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25 00:00", "25 00:30", "25 01:00", "25 01:30"]),
        # Lord Howe moves by half an hour: 3 October, 15:30Z: 02:00 becomes 02:30.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["03 15:30", "04 15:15"]),
        ("*/30 * * * *", "Australia/Lord_Howe", "2026-10-03T14:45", ["03 15:00", "03 15:30", "03 16:00"]),
        # 4 April, 15:00Z: 02:00 becomes 01:30.
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["04 14:45", "05 15:15"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T15:05", ["05 15:15"]),
        ("0 * * * *", "Australia/Lord_Howe", "2026-04-04T13:30", ["04 14:00", "04 15:30", "04 16:30"]),
    ],
)
def test_next_times(schedule: str, timezone: str, after: str, times: list[str]) -> None:
    assert following(schedule, timezone, after, len(times)) == times


CHANGES = {"Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"), "America/New_York": ("2026-03-08T07:00",)}
MOMENTS = [(zone, at(change)) for zone, changes in CHANGES.items() for change in changes]


@given(st.sampled_from(MOMENTS), st.integers(-6 * 3600, 6 * 3600), st.sampled_from(["*/7 * * * *", "*/20 2,3 * * *"]))
def test_around_a_change_every_minute_on_the_wall_counts(
    where: tuple[str, datetime], seconds: int, schedule: str
) -> None:
    zone, after = ZoneInfo(where[0]), where[1] + timedelta(seconds=seconds)
    minute, hours = after.replace(second=0), {2, 3} if "2,3" in schedule else set(range(24))
    step = 7 if "7" in schedule else 20
    while True:
        minute += timedelta(minutes=1)
        local = minute.astimezone(zone)
        if local.minute % step == 0 and local.hour in hours:
            break
    assert next_run(schedule, timezone=where[0], after=after) == minute


@given(st.sampled_from(MOMENTS), st.integers(-6 * 3600, 6 * 3600), st.integers(0, 5), st.integers(0, 59))
def test_around_a_change_a_fixed_time_comes_once_a_day(
    where: tuple[str, datetime], seconds: int, hour: int, minute: int
) -> None:
    zone, after = ZoneInfo(where[0]), where[1] + timedelta(seconds=seconds)
    first = next_run(f"{minute} {hour} * * *", timezone=where[0], after=after)
    second = next_run(f"{minute} {hour} * * *", timezone=where[0], after=first)
    assert after < first <= after + timedelta(hours=26)
    assert second.astimezone(zone).date() - first.astimezone(zone).date() == timedelta(days=1)


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("", "write five fields"), ("* * * *", "write five fields"), ("* * * * * *", "write five fields"),
        ("61 * * * *", "bad minute; write five"), ("* * * JANUARY *", "bad month"), ("every day at 3 pm", "bad minute"),
        ("*/0 * * * *", "bad minute"), ("5-1 * * * *", "bad minute"), ("¹ * * * *", "bad minute"),
        ("0 0 31 2 *", "bad day-of-month"), ("0 0 31 2,4 *", "bad day"), ("* * */20 * 1L", "never comes"),
        (None, "write five"), (5, "write five"), ("@daily", "write five"),
    ],
)  # fmt: skip
def test_bad_expressions_are_refused(store: Store, schedule: Any, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        store.schedules.add("x", "sync", schedule)
    assert repr(schedule) in str(caught.value)
    assert store.schedules.list() == []


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", None, 5, "Europe", "a\0b"])
def test_unknown_zones_are_refused(store: Store, zone: Any) -> None:
    with pytest.raises(InvalidArgument, match="which this machine does not know; write a name like 'Europe/Berlin'"):
        store.schedules.add("x", "sync", "* * * * *", timezone=zone)
    assert store.schedules.list() == []


# Tasks


def test_add_get_list_remove(store: Store) -> None:
    task = store.schedules.add("nightly", "sync", "0 3 * * *", timezone="Europe/Berlin", config={"full": True})
    assert (task.name, task.task_type, task.schedule, task.timezone) == (
        "nightly",
        "sync",
        "0 3 * * *",
        "Europe/Berlin",
    )
    assert task.config == {"full": True} and task.enabled is True and task.last_run is None
    assert task.next_run == next_run("0 3 * * *", timezone="Europe/Berlin")
    other = store.schedules.add("hourly", "sync", "0 * * * *", enabled=False)
    assert other.next_run is None and other.config == {} and other.timezone == "UTC"
    assert [t.name for t in store.schedules.list()] == ["hourly", "nightly"]
    assert [t.name for t in store.schedules.list(enabled=True)] == ["nightly"]
    for key in ("nightly", task.id, task):
        assert store.schedules.get(key) == task == store.schedules.find(key)
    with pytest.raises(Conflict, match="there is already a schedule 'nightly'; change it with"):
        store.schedules.add("nightly", "sync", "0 3 * * *")
    assert [t.name for t in store.schedules.list(limit=1, offset=1)] == ["nightly"]
    assert [t.name for t in store.schedules.list(sort="-id")] == ["hourly", "nightly"]
    for options in ({"enabled": 1}, {"limit": -1}, {"offset": "1"}, {"sort": "config"}):
        with pytest.raises(InvalidArgument):
            store.schedules.list(**options)  # type: ignore[arg-type]
    assert store.schedules.remove("nightly") == {"scheduled_tasks": 1}
    calls: list[Any] = [store.schedules.get, store.schedules.remove, store.schedules.enable, store.schedules.update]
    for key in ("nightly", 1, 2**63 - 1):
        assert store.schedules.find(key) is None
        for call in calls:
            with pytest.raises(NotFound, match="no schedule .*scanstore schedules list"):
                call(key)
    for bad in (True, 0, -1, 2**63, 1.0, None, "", " ", "\0"):
        for call in (*calls, store.schedules.find):
            with pytest.raises(InvalidArgument):
                call(bad)
    assert store.check() == []


@pytest.mark.parametrize(
    "columns",
    [{"name": ""}, {"name": 5}, {"task_type": " "}, {"config": [1]}, {"config": {"a": object}}, {"enabled": 1}],
    ids=str,
)
def test_bad_columns_are_refused(store: Store, columns: dict[str, Any]) -> None:
    good = {"name": "x", "task_type": "sync", "schedule": "* * * * *"}
    with pytest.raises(InvalidArgument):
        store.schedules.add(**{**good, **columns})
    task = store.schedules.add(**good)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        store.schedules.update("x", **columns)
    assert store.schedules.get("x").to_dict() == task.to_dict()


def test_update_changes_what_is_given(store: Store) -> None:
    store.schedules.add("a", "sync", "0 3 * * *", config={"x": 1})
    store.schedules.add("b", "sync", "0 3 * * *")
    task = store.schedules.update("a", name="c", config={}, task_type="analysis")
    assert (task.name, task.config, task.task_type, task.schedule) == ("c", {}, "analysis", "0 3 * * *")
    task = store.schedules.update(task, schedule="30 4 * * *")
    assert task.next_run == next_run("30 4 * * *")
    task = store.schedules.update(task.id, timezone="Asia/Tokyo")
    assert task.next_run == next_run("30 4 * * *", timezone="Asia/Tokyo")
    assert store.schedules.update("c").to_dict() == task.to_dict()
    with pytest.raises(Conflict, match="'b'"):
        store.schedules.update("c", name="b")
    with pytest.raises(InvalidArgument, match="bad minute"):
        store.schedules.update("c", schedule="x * * * *", name="d")
    with pytest.raises(NotFound):
        store.schedules.update("d", enabled=False)
    assert store.schedules.get("c").to_dict() == task.to_dict()


def overdue(store: Store, name: str = "x", **columns: Any) -> ScheduledTask:
    """A task every minute that should have run at NOON."""
    store.schedules.add(name, "sync", "* * * * *", **columns)
    change_rows(ScheduledTask, next_run=NOON).where(ScheduledTask.name == name).execute()
    return store.schedules.get(name)


def test_a_disabled_task_is_never_due_and_makes_up_for_nothing(store: Store) -> None:
    overdue(store)
    task = store.schedules.disable("x")
    assert task.enabled is False and task.next_run is None
    assert store.schedules.due(now=FUTURE) == [] and store.schedules.run_due(now=FUTURE) == []
    assert store.schedules.disable("x").to_dict() == task.to_dict()
    task = store.schedules.enable("x")
    assert task.enabled is True and task.next_run > datetime.now(UTC)
    assert store.schedules.due() == []
    store.schedules.update("x", name="y")
    assert store.schedules.enable("y").next_run == task.next_run
    assert store.check() == []


# What is due


def test_due_takes_each_run_once_and_missed_ones_as_one(store: Store) -> None:
    overdue(store, "b")
    overdue(store, "a")
    change_rows(ScheduledTask, next_run=NOON - timedelta(days=3)).where(ScheduledTask.name == "a").execute()
    assert store.schedules.due(now=NOON - timedelta(days=9)) == []
    now = NOON + timedelta(hours=5, seconds=10)
    taken = store.schedules.due(now=now)
    assert [task.name for task in taken] == ["a", "b"]
    assert {task.next_run for task in taken} == {NOON + timedelta(hours=5, minutes=1)}
    assert {task.last_run for task in taken} == {now}
    assert store.schedules.due(now=now) == []
    assert len(store.schedules.due(now=now + timedelta(minutes=1))) == 2


def test_a_run_at_the_second_hour_of_the_day_is_not_a_second_run(store: Store) -> None:
    """The clocks went back, and nobody asked before the hour came again."""
    store.schedules.add("x", "sync", "30 2 * * *", timezone="Europe/Berlin")
    change_rows(ScheduledTask, next_run=at("2026-10-25T00:30")).execute()
    assert len(store.schedules.due(now=at("2026-10-25T01:15"))) == 1
    assert store.schedules.due(now=at("2026-10-25T01:45")) == []


def test_run_due_enqueues_a_job_with_the_config(store: Store) -> None:
    overdue(store, config={"full": True})
    now = NOON + timedelta(minutes=3)
    (run,) = store.schedules.run_due(now=now)
    assert run.started is True
    assert (run.job.type, run.job.status, run.job.meta) == ("sync", "pending", {"full": True})
    assert (run.task.last_run, run.task.next_run) == (now, now + timedelta(minutes=1))
    assert run.task.last_job_id == run.job.id and run.task.last_job == run.job
    assert store.schedules.run_due(now=now) == []
    assert store.check() == []


def test_a_run_whose_job_is_not_over_is_left_out(store: Store) -> None:
    overdue(store)
    (first,) = store.schedules.run_due(now=NOON)
    (second,) = store.schedules.run_due(now=NOON + timedelta(minutes=1))
    assert second.started is False and second.job.id == first.job.id
    assert second.task.last_run == NOON and second.task.next_run == NOON + timedelta(minutes=2)
    store.jobs.cancel(first.job)
    (third,) = store.schedules.run_due(now=NOON + timedelta(minutes=2))
    assert third.started is True and third.job.id != first.job.id
    assert Job.select().count() == 2


def test_a_run_is_not_lost_to_another_job_with_the_name_as_its_key(store: Store) -> None:
    overdue(store, "x", config={"full": True})
    overdue(store, "y")
    other = store.jobs.enqueue("report", unique="x")
    for _ in range(2):
        found = {run.task.name: run for run in store.schedules.run_due(now=NOON)}
        run = found["x"]
        assert (run.started, run.job.id) == (False, other.id)
        assert run.error is not None and "schedule 'x' cannot enqueue its job of type 'sync'" in run.error
        assert f"is the unique key of job {other.id}, of type 'report'" in run.error
        assert (run.task.next_run, run.task.last_run, run.task.last_job_id) == (NOON, None, None)
    store.jobs.cancel(other)
    same_type = store.jobs.enqueue("sync", unique="x", meta={"full": False})
    assert [run.job.id for run in store.schedules.run_due(now=NOON) if run.error] == [same_type.id]
    store.jobs.cancel(same_type)
    (run,) = store.schedules.run_due(now=NOON)
    assert (run.started, run.error, run.job.type) == (True, None, "sync")
    store.schedules.update("x", task_type="later")
    (left_out,) = (run for run in store.schedules.run_due(now=NOON + timedelta(minutes=1)) if run.task.name == "x")
    assert (left_out.started, left_out.error) == (False, None)  # its own previous job, though the task was changed
    assert store.check() == []


def test_a_job_of_the_task_is_its_own_after_the_task_was_added_again(store: Store) -> None:
    overdue(store)
    (first,) = store.schedules.run_due(now=NOON)
    store.schedules.remove("x")
    overdue(store)
    (second,) = store.schedules.run_due(now=NOON)
    assert (second.started, second.error, second.job.id) == (False, None, first.job.id)


def test_a_job_that_is_removed_leaves_its_task(store: Store) -> None:
    overdue(store)
    (run,) = store.schedules.run_due(now=NOON)
    Job.delete().where(Job.id == run.job.id).execute()
    assert store.schedules.get("x").last_job_id is None
    assert store.schedules.get("x").last_run == NOON
    store.schedules.remove("x")
    assert store.check() == []


def test_a_run_that_cannot_be_enqueued_stays_due(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    task = overdue(store)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(type(store.jobs), "enqueue", refuse)
        store.schedules.run_due(now=NOON)
    assert store.schedules.get("x").to_dict() == task.to_dict()
    assert len(store.schedules.run_due(now=NOON)) == 1


def test_a_zone_that_this_machine_does_not_know_stops_nobody_else(store: Store) -> None:
    overdue(store, "lost")
    change_rows(ScheduledTask, timezone="Mars/Olympus", next_run=NOON - timedelta(days=1)).execute()
    overdue(store, "x")
    assert [run.task.name for run in store.schedules.run_due(now=NOON)] == ["x"]
    with pytest.raises(InvalidArgument, match="Mars/Olympus"):
        store.schedules.run_due(now=NOON)
    assert store.schedules.get("lost").next_run == NOON - timedelta(days=1)


@pytest.mark.parametrize("now", ["2026-06-01T12:00:00Z", 5, datetime(2026, 6, 1)])
def test_a_now_that_is_no_aware_time_is_refused(store: Store, now: Any) -> None:
    overdue(store)
    with pytest.raises(InvalidArgument):
        store.schedules.due(now=now)


def test_due_inside_a_transaction_is_taken_back_with_it(store: Store) -> None:
    overdue(store)
    with pytest.raises(RuntimeError), store.transaction():
        assert len(store.schedules.run_due(now=NOON)) == 1
        raise RuntimeError
    assert Job.select().count() == 0
    assert len(store.schedules.run_due(now=NOON)) == 1


ROUNDS, TASKS, PROCESSES = 8, 10, 2


def _ask(path: str, how: str, barrier: Any, results: Any) -> None:
    with Store(path) as store:
        taken = []
        for number in range(ROUNDS):
            barrier.wait(60)
            found = getattr(store.schedules, how)(now=NOON + timedelta(minutes=number))
            taken += [(number, each.name if how == "due" else each.task.name) for each in found]
        results.put(taken)


@pytest.mark.parametrize("how", ["due", "run_due"])
def test_no_two_processes_run_the_same(db_path: Path, how: str) -> None:
    with Store(db_path) as store:
        for number in range(TASKS):
            overdue(store, f"task {number}")
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(PROCESSES), context.Queue()
    processes = [context.Process(target=_ask, args=(str(db_path), how, barrier, results)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    taken = [each for _ in processes for each in results.get(timeout=60)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(taken) == [(n, f"task {t}") for n in range(ROUNDS) for t in range(TASKS)]
    with Store(db_path) as store:
        assert Job.select().count() == (TASKS if how == "run_due" else 0)
        assert store.check() == []


def test_what_is_due_is_found_by_index(store: Store) -> None:
    from scanstore.jobs.schedules import DUE

    plan = " ".join(row[3] for row in store.database.execute_sql("EXPLAIN QUERY PLAN " + DUE, ("x",)))
    assert "ix_scheduled_tasks_next_run" in plan and "TEMP B-TREE" not in plan


def test_what_was_taken_is_handed_out_though_the_next_is_locked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    overdue(store, "a")
    overdue(store, "b")
    find = store.schedules.find

    def locked(task: Any) -> Any:
        if task == 2:
            raise Busy("locked by another writer")
        return find(task)

    with monkeypatch.context() as patch:
        patch.setattr(store.schedules, "find", locked)
        assert [task.name for task in store.schedules.due(now=NOON)] == ["a"]
        with pytest.raises(Busy):
            store.schedules.due(now=NOON)
    assert [task.name for task in store.schedules.due(now=NOON)] == ["b"]
