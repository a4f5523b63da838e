"""Laptops sleep: every kind of lease, a scan, a slot and a sync go on after the wall clock has jumped by a night.

The clock of these tests is one that all modules look at. It jumps when it is told to, and the running time of the
machine, which nobody touches, does not: that is what a sleep looks like to a process.
"""

from __future__ import annotations

import platform
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from leased_work import KINDS, Night, kind

from scanstore.db import clocks, processes, values
from scanstore.errors import IllegalMove, LeaseLost, NoSlot
from scanstore.jobs import worker as job_worker
from scanstore.models import Job
from scanstore.store import Store

ROOT = Path(__file__).parents[1]
LEASE = 60.0


@pytest.fixture
def store(night_store: Store) -> Store:
    return night_store


@pytest.mark.parametrize("name", KINDS)
def test_three_sleeps_in_each_handler_lose_nothing_and_run_nothing_twice(store: Store, night: Night, name: str) -> None:
    """Two workers, and one of them looks for work after each sleep of the other one."""
    work, done, held = kind(store, name), Counter[Any](), Counter[Any]()

    def handle(worker: str, other: str | None) -> bool:
        rows = work.claim(worker=worker, lease=LEASE)
        for row in rows:
            held[row.id] += 1
            for _ in range(3):
                night.sleep()
                assert work.recover() == (0, 0)
                if other is not None:
                    handle(other, None)
            work.complete(row)
            done[row.id] += 1
        return bool(rows)

    while handle("ann", "bob"):
        pass
    state = work.state()
    assert state.finished and state.lost == 0 and state.failed == 0
    assert set(done.values()) == {1} and done == held and len(done) >= 3


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("freed", [False, True])
def test_an_owner_may_say_anything_after_the_end_of_its_lease(
    store: Store, night: Night, name: str, freed: bool
) -> None:
    """Also where nobody can tell that it lives: a process of another machine, or of a system that does not say."""
    work = kind(store, name, count=4)
    rows = work.claim(worker="ann", lease=LEASE, limit=4)
    assert len(rows) == 4
    store.database.execute_sql(f"UPDATE {work.table} SET process = 'elsewhere:7@1' WHERE lease_until IS NOT NULL")
    night.sleep()
    if freed:
        assert work.recover().waiting == 4
        assert work.get(rows[0]).status in ("pending", "queued")
        assert work.get(rows[0]).lost_count == 1
    completed, failed, released, kept = rows
    work.complete(completed)
    work.fail(failed)
    work.release(released)
    assert work.heartbeat(kept, lease=LEASE)
    row = work.get(kept)
    assert (row.attempt, row.worker, row.lost_count) == (1, "ann", 0) and row.lease_until > values.utcnow()
    for over in (failed, released):
        with pytest.raises(IllegalMove):
            work.complete(over)
    work.complete(kept)
    assert work.state().done == 2


@pytest.mark.parametrize("name", KINDS)
def test_who_hangs_loses_the_row_to_the_next_claim(
    store: Store, night: Night, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = kind(store, name, count=1)
    (row,) = work.claim(worker="ann", lease=LEASE)
    rest = work.claim(worker="other", lease=10**6, limit=1000)  # chunks: there are more
    night.sleep()
    assert work.claim(worker="bob") == []
    began = clocks.monotonic()
    monkeypatch.setattr(clocks, "monotonic", lambda: began + LEASE)
    night.sleep(timedelta(seconds=LEASE))
    (again,) = work.claim(worker="bob")
    assert (again.id, again.attempt, again.lost_count, again.retry_count) == (row.id, 2, 1, 0)
    for late in (work.complete, work.fail, work.release, work.heartbeat):
        with pytest.raises(LeaseLost, match="leased to bob"):
            late(row)
    work.complete(again)
    for each in rest:
        work.complete(each)


@pytest.mark.parametrize("name", KINDS)
def test_lost_leases_do_not_use_up_the_retries(store: Store, night: Night, name: str) -> None:
    work = kind(store, name, count=1)

    def lose(attempt: int) -> None:
        rows = work.claim(worker="doomed", lease=LEASE, limit=1000)
        assert {row.attempt for row in rows} == {attempt}
        store.database.execute_sql(f"UPDATE {work.table} SET process = 'elsewhere:7@1' WHERE lease_until IS NOT NULL")
        night.sleep()
        work.recover()

    for attempt in range(1, 11):
        lose(attempt)
    (row, *_) = work.claim(worker="ann", limit=1000)
    assert (row.retry_count, row.lost_count, row.to_dict()["lost_count"]) == (0, 10, 10)
    work.fail(row)
    assert (work.get(row).status, work.get(row).retry_count) in (("pending", 1), ("queued", 1))
    store.database.execute_sql(f"UPDATE {work.table} SET next_retry_at = NULL")
    (row, *_) = work.claim(worker="ann", limit=1000)
    store.database.execute_sql(f"UPDATE {work.table} SET process = 'elsewhere:7@1' WHERE lease_until IS NOT NULL")
    night.sleep()
    assert work.recover().failed >= 1
    failed = work.get(row)
    error = failed.to_dict().get("error") or failed.to_dict().get("error_message")
    assert failed.status == "failed" and error == (
        "given up after 11 lost leases; the last worker was ann: its lease ran out"
    )
    with pytest.raises(IllegalMove, match="retry"):
        work.complete(row)


# Jobs -----------------------------------------------------------------------------------------------------------------


def test_the_handlers_of_a_worker_may_sleep_through_the_night(store: Store, night: Night) -> None:
    for _ in range(3):
        store.jobs.enqueue("one")
    runs: Counter[str] = Counter()

    def handler(job: Job) -> str:
        runs[str(job.id)] += 1
        for _ in range(3):
            night.sleep()
            with Store(store.path, durability="normal") as own:  # opening frees what is lost
                for row in own.jobs.claim(worker="other", limit=9):
                    assert row.id != job.id
                    own.jobs.release(row)
        return "slept"

    worked = store.jobs.run_worker({"one": handler}, until_empty=True, lease=LEASE)
    assert (worked.completed, worked.lost) == (3, 0)
    assert set(runs.values()) == {1} and store.jobs.state().lost == 0


def test_the_pulse_extends_first_after_a_sleep(store: Store, night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait of the thread stood still with the machine: it goes by the wall clock, and looks at it often."""
    monkeypatch.setattr(job_worker, "AWAKE", 0.01)
    store.jobs.enqueue("one")
    ticks = threading.Semaphore(0)
    real = type(store.jobs).heartbeat

    def heartbeat(self: Any, job: Any, **given: Any) -> Any:
        row = real(self, job, **given)
        ticks.release()
        return row

    monkeypatch.setattr(type(store.jobs), "heartbeat", heartbeat)

    def handler(job: Job) -> None:
        store.database.execute_sql("UPDATE jobs SET process = 'elsewhere:7@1'")  # nobody can tell that it lives
        night.sleep()
        assert ticks.acquire(timeout=20)
        assert store.jobs.get(job).lease_until == values.utcnow() + timedelta(seconds=3600)
        assert store.jobs.recover() == (0, 0)

    assert store.jobs.run_worker({"one": handler}, until_empty=True, lease=3600).completed == 1


def test_a_job_that_lost_its_lease_does_not_run_beside_another_of_its_group(store: Store, night: Night) -> None:
    first, second = (store.jobs.enqueue("one", exclusive_group="disk") for _ in range(2))
    late = store.jobs.start(first, worker="ann", lease=LEASE)
    store.database.execute_sql("UPDATE jobs SET process = 'elsewhere:7@1' WHERE status = 'running'")
    night.sleep()
    assert store.jobs.recover() == (1, 0)
    other = store.jobs.start(second, worker="bob")
    with pytest.raises(LeaseLost, match="is waiting"):
        store.jobs.heartbeat(late)
    assert store.jobs.complete(other).status == "completed"
    assert store.jobs.heartbeat(late) and store.jobs.get(late).status == "running"
    assert store.jobs.complete(late).status == "completed"


def test_a_cancelled_job_keeps_the_result_of_its_sleeping_worker(store: Store, night: Night) -> None:
    store.jobs.enqueue("one")
    (job,) = store.jobs.claim(worker="ann", lease=LEASE)
    store.jobs.cancel(job)
    night.sleep()
    store.jobs.recover()
    assert store.jobs.get(job).status == "cancelling"
    assert store.jobs.complete(job, result="so far").status == "cancelled"
    assert store.jobs.get(job).result == "so far"


# A slot, a sync, a scan, a call, a question, a plan -------------------------------------------------------------------


def test_a_slot_is_kept_through_the_night(store: Store, night: Night) -> None:
    store.llm.add("m", max_concurrent=1)
    with store.llm.slot("m", lease=LEASE) as slot:
        for _ in range(3):
            night.sleep()
            store.recover()
            with pytest.raises(NoSlot), store.llm.slot("m", timeout=0):
                pass
        slot.heartbeat(lease=LEASE)
    with store.llm.slot("m", timeout=0):
        pass


def test_a_sync_goes_on_after_the_night(store: Store, night: Night) -> None:
    with store.library.sync("scene") as run:
        for number in range(3):
            store.library.upsert_scenes([{"id": str(number), "title": "a"}], run=run)
            night.sleep()
            store.recover()
            with pytest.raises(IllegalMove, match="is running"), store.library.sync("scene"):
                pass
        store.library.upsert_scenes([{"id": "3", "title": "b"}], run=run)
    assert store.library.sync("scene").__enter__().since is not None


def test_a_scan_goes_on_after_the_night(store: Store, night: Night) -> None:
    def progress(*_: object) -> None:
        night.sleep()
        with Store(store.path, durability="normal") as own:
            own.recover()
            own.scans.record(ROOT / "callgraph" / "shop" / "models.py", target=str(shop), jobs=1)

    shop = ROOT / "callgraph" / "shop"
    scan = store.scans.record(shop, jobs=1, progress=progress)
    assert store.scans.get(scan).status == "completed"


def test_a_call_goes_on_after_the_night(store: Store, night: Night) -> None:
    store.llm.add("m")
    with store.llm.call("m", purpose="talk") as call:
        for _ in range(3):
            night.sleep()
            store.recover()
        assert [row.status for row in store.llm.calls()] == ["running"]
        call.response = "morning"
    assert [row.status for row in store.llm.calls()] == ["answered"]


def test_an_asker_keeps_its_question_through_the_night(store: Store, night: Night) -> None:
    scan = store.scans.record(ROOT / "callgraph" / "shop", jobs=1)
    store.llm.add("m")
    store.scans.analyze(scan)
    way, chunk = store.llm.analyzer("m"), store.chunks.list(scan)[0]

    def function() -> str:
        for _ in range(3):
            night.sleep()
            store.recover()
            with pytest.raises(NoSlot, match="is asking the same question"):
                store.llm.ask(way, chunk, lambda: "paid twice", timeout=0)
        return "paid"

    assert store.llm.ask(way, chunk, function, lease=LEASE) == "paid"


def test_a_plan_is_applied_through_the_night(store: Store, night: Night) -> None:
    store.library.upsert_scenes([{"id": "1", "title": "a"}])
    plan = store.plans.add("p")
    store.plans.propose(plan, "1", "title", "set", proposed="b")
    store.plans.submit(plan)
    store.plans.review(plan, "approve")

    def handler(change: Any) -> None:
        for _ in range(3):
            night.sleep()
            with Store(store.path, durability="normal") as own, pytest.raises(IllegalMove, match="being applied"):
                own.plans.revert(plan.id)

    assert store.plans.apply(plan, handler=handler, lease=LEASE).applied == 1


# Nobody can ask about a process --------------------------------------------------------------------------------------

OF_BEFORE = f"{platform.node()}:{2**30}@1"  # as earlier versions called a process, one that has ended


@pytest.fixture
def strangers(store: Store) -> Callable[[], None]:
    """What makes all that is under way the work of a process that nobody can ask about."""

    def work_of_strangers() -> None:
        for table in (*TABLES, "model_calls", "model_slots", "answer_claims", "sync_runs", "analysis_plans"):
            done = store.database.execute_sql(f"UPDATE {table} SET process = ? WHERE process IS NOT NULL", (OF_BEFORE,))
            assert done.rowcount, table
        store.database.execute_sql("UPDATE scans SET worker = ? WHERE worker IS NOT NULL", (OF_BEFORE,))

    return work_of_strangers


TABLES = ("chunk_work", "draft_findings", "jobs", "analysis_tasks", "audit_tasks")


def test_rows_of_earlier_versions_wait_for_their_lease(
    store: Store, night: Night, strangers: Callable[[], None]
) -> None:
    """They are neither freed at once nor kept for ever, whatever kind of work they are."""
    works = [kind(store, name, count=1) for name in ("drafts", "jobs", "tasks")]
    store.audits.add(store.accounts.list()[0], "a.pdf", 10)
    model = store.llm.add("n", max_concurrent=1)
    again = store.scans.record(ROOT / "callgraph" / "shop" / "models.py", jobs=1, target="again")
    store.scans.analyze(again)
    rows = [*(work.claim(worker="ann", lease=LEASE) for work in works), store.audits.claim(worker="ann", lease=LEASE)]
    (chunk, *_) = store.chunks.claim(again, worker="ann", lease=LEASE)
    assert all(len(found) == 1 for found in rows)
    recording = store.scans.add("a parser's", name="x")
    run = store.library.sync("scene").__enter__()
    store.library.upsert_scenes([{"id": "1", "title": "a"}], run=run)
    plan = store.plans.add("p")
    store.plans.propose(plan, "1", "title", "set", proposed="b")
    store.plans.submit(plan)
    store.plans.review(plan, "approve")
    asked: list[int] = []

    def ask(text: str) -> str:
        asked.append(1)
        return text

    trouble: list[Exception] = []  # for the error of a handler is that of its change

    def handler(_: object) -> None:
        try:
            everything_is_theirs()
        except Exception as error:
            trouble.append(error)

    def everything_is_theirs() -> None:
        strangers()
        for jump in (timedelta(), timedelta(seconds=LEASE - 1)):
            night.sleep(jump)
            with Store(store.path, durability="normal") as other:
                assert other.recovered is None and other.recover() == (0, 0)
                assert other.jobs.claim(worker="bob") == [] and other.chunks.get(chunk).worker == "ann"
                with pytest.raises(NoSlot), other.llm.slot(model.name, timeout=0):
                    pass
                with pytest.raises(NoSlot):
                    other.llm.ask(way.id, chunk.id, lambda: ask("twice"), timeout=0)
                with pytest.raises(IllegalMove, match="being applied"):
                    other.plans.apply(plan.id)
        night.sleep(timedelta(seconds=2))
        with Store(store.path, durability="normal") as other:
            assert other.recovered is not None and other.recovered.waiting == 5
            assert len(other.jobs.claim(worker="bob")) == 1
            with other.llm.slot(model.name, timeout=0):
                pass
            assert other.llm.ask(way.id, chunk.id, lambda: ask("once"), timeout=0) == "once"
            assert other.llm.calls()[-1].status == "running" and other.scans.get(recording.id).status == "running"
            with pytest.raises(IllegalMove, match="is running"), other.library.sync("scene"):
                pass
            assert other.plans.apply(plan.id).applied == 1
        store.database.execute_sql("UPDATE sync_runs SET updated_at = ?", (values.format_time(values.utcnow()),))
        night.sleep(timedelta(minutes=59))
        with pytest.raises(IllegalMove, match="is running"), store.library.sync("scene"):
            pass
        run.heartbeat()
        night.sleep(timedelta(minutes=59))
        with pytest.raises(IllegalMove, match="is running"), store.library.sync("scene"):
            pass
        assert store.scans.get(recording).status == "running" or store.recover()
        night.sleep(timedelta(minutes=2))
        with Store(store.path, durability="normal") as other:
            assert other.llm.calls()[-1].status == "abandoned"
            assert "nothing since" in other.scans.get(recording.id).error
            with other.library.sync("scene"):
                pass
            assert "no sign of life since" in other.library.runs()[1].error

    way = store.llm.analyzer(model.name)

    def function() -> str:
        store.plans.apply(plan, handler=handler, lease=LEASE)
        return "too late"

    with pytest.raises(LeaseLost):
        store.llm.ask(way, chunk.id, function, lease=LEASE)
    for error in trouble:
        raise error
    assert asked == [1]
    with pytest.raises(IllegalMove, match="is failed"):
        run.heartbeat()
    assert store.llm.calls()[-1].status == "failed"  # the word of its own process comes last


def test_a_clock_that_was_years_ahead_keeps_nothing_for_years(store: Store, night: Night) -> None:
    """No lease is longer than 30 days: what ends later is of a process that nobody can ask about, or of one here."""
    scan = store.scans.record(ROOT / "callgraph" / "shop" / "models.py", jobs=1)
    store.scans.analyze(scan)
    store.llm.add("m", max_concurrent=1)
    model, chunk = store.llm.add("n"), store.chunks.list(scan)[0]
    store.library.upsert_scenes([{"id": "1", "title": "a"}])
    plan = store.plans.add("p")
    store.plans.propose(plan, "1", "title", "set", proposed="b")
    store.plans.submit(plan)
    store.plans.review(plan, "approve")
    job = store.jobs.enqueue("one")
    years = timedelta(days=3650)
    night.sleep(years)
    end = values.format_time(values.utcnow() + timedelta(days=30))
    store.jobs.claim(worker="ann", lease=30 * 86400)
    store.jobs.cancel(job)
    slot = store.llm.slot("m", lease=30 * 86400)
    slot.__enter__()
    run = store.database.execute_sql
    run("UPDATE analysis_plans SET process = ?, lease_until = ?", (processes.me(), end))
    way = store.llm.analyzer(model.name)

    def still_held() -> None:
        assert store.recover() == (0, 0) and store.jobs.get(job).status == "cancelling"
        with pytest.raises(NoSlot), store.llm.slot("m", timeout=0):
            pass
        with pytest.raises(NoSlot, match="the same question"):
            store.llm.ask(way, chunk, lambda: "twice", timeout=0)

    def ask() -> str:
        still_held()
        night.sleep(-years)
        still_held()
        for table in ("jobs", "model_slots", "answer_claims", "analysis_plans"):
            assert run(f"UPDATE {table} SET process = ?", (OF_BEFORE,)).rowcount, table
        assert store.plans.apply(plan).applied == 1
        with store.llm.slot("m", timeout=0):
            pass
        assert store.llm.ask(way, chunk, lambda: "once", timeout=0) == "once"
        store.recover()
        assert store.jobs.get(job).status == "cancelled"
        return "late"

    assert store.llm.ask(way, chunk, ask, lease=30 * 86400) == "late"


def test_a_scan_shows_that_it_goes_on(store: Store, night: Night) -> None:
    """Each file that a parser records is a sign of life, some minutes after the last one."""
    scan = store.scans.add("a parser's", name="x")
    store.database.execute_sql("UPDATE scans SET worker = ?", (OF_BEFORE,))
    for number in range(4):
        night.sleep(timedelta(minutes=40))
        store.recover()
        store.symbols.record_file(scan, f"f{number}.py", f"{number:064x}")
    assert store.scans.finish(scan).status == "completed"
