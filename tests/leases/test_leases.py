"""Leases: what their docstrings promise, against a plain model with a clock of its own, and with real processes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from leased_work import Kind, kind
from stressing import Program

from scanstore.db import operating_system as processes
from scanstore.db import processes as workers
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NotFound, ReadOnly, WrongStore
from scanstore.leases import queue as queues
from scanstore.leases import under_way
from scanstore.models import ScanFileChunk
from scanstore.store import Store

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CLOCKS = (
    "leases.engine",
    "analysis.lifecycle",
    "leases.work",
    "analysis.chunks",
)


class Clock:
    """Wall time in whole seconds, which goes on only when told to, and the running time of the machine, which does not
    go on while the machine sleeps or the wall clock is set."""

    def __init__(self) -> None:
        self.wall = 100_000
        self.jumped = 0

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self.wall)

    def jump(self, seconds: int) -> None:
        """The wall clock is set, or the machine sleeps: the running time stands still."""
        self.wall += seconds
        self.jumped += seconds

    def running(self) -> float:
        return float(self.wall - self.jumped)

    def patches(self) -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        for room in CLOCKS:
            stack.enter_context(mock.patch(f"scanstore.{room}.utcnow", self))
        stack.enter_context(mock.patch("scanstore.db.clocks.monotonic", self.running))
        return stack


@pytest.fixture
def clock() -> Iterator[Clock]:
    own = Clock()
    with own.patches():
        yield own


def tree(root: Path, count: int) -> Path:
    """Files of one chunk each, no two alike."""
    root.mkdir()
    for n in range(count):
        (root / f"f{n:03}.py").write_text(f"x = {n}\n")
    return root


def begun(store: Store, root: Path, **config: Any) -> int:
    scan = store.scans.record(root, jobs=1)
    store.scans.analyze(scan, **{"pause_after": None, **config})
    return int(scan.id)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one scan of eight chunks, whose analysis was begun."""
    root = tmp_path_factory.mktemp("leases")
    with Store(root / "scan.db", durability="normal") as store:
        assert begun(store, tree(root / "tree", 8)) == 1
    return root / "scan.db"


@pytest.fixture
def eight(template: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copy(template, tmp_path / "eight.db")
    with Store(tmp_path / "eight.db", durability="normal", timeout=5) as store:
        yield store
        assert store.check() == []


SCAN = 1

# The model ------------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    rank: int = 1
    status: str = "pending"
    retries: int = 0
    lost: int = 0
    attempt: int = 0
    worker: str | None = None
    process: str = ""
    freed: bool = False  # it lost its lease, and nobody has claimed it since
    until: int | None = None  # of a lease, or of the wait for a retry
    touched: int = 0
    offset: int = 0  # of the wall clock against the running time, when its owner was heard of last


@dataclass
class Claimed:
    """What a worker holds in its hand, for ever: most of them are late."""

    row: ScanFileChunk
    key: int
    worker: str
    attempt: int


WORKERS = ("ann", "bob", "cy")
SECONDS = st.sampled_from([1, 2, 3, 7, 20, 60])


class LeaseMachine(RuleBasedStateMachine):
    """Chunks in the hands of three workers that die, come late and disagree, under a clock that jumps while the machine
    sleeps or is set."""

    template: Path
    folder: Path

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.stack = contextlib.ExitStack()
        path = self.folder / "machine.db"
        for left in self.folder.glob("machine.db*"):
            left.unlink()
        shutil.copy(self.template, path)
        self.store = self.stack.enter_context(Store(path, durability="normal", timeout=5))
        self.stack.enter_context(self.clock.patches())
        self.acting = ""
        self.lives = dict.fromkeys(WORKERS, 1)
        self.stack.enter_context(mock.patch("scanstore.leases.engine.me", lambda: self.process(self.acting)))
        self.stack.enter_context(mock.patch("scanstore.leases.engine.gone", self.gone))
        self.stack.enter_context(mock.patch("scanstore.db.clocks.shares_clock", lambda process: not self.gone(process)))
        self.chunks = self.store.chunks
        self.most, self.max_retries, self.max_lost, self.delay = 20, 3, 10, 2
        self.work = {row.id: Work() for row in self.chunks.list(SCAN)}
        self.claims: list[Claimed] = []

    def process(self, worker: str) -> str:
        return f"here:{worker}@{self.lives[worker]}"

    def gone(self, process: str | None) -> bool:
        return process is not None and process not in {self.process(worker) for worker in WORKERS}

    def rows(self) -> dict[int, tuple[Any, ...]]:
        columns = "id, status, retry_count, lost_count, attempt, rank, worker, lease_until, next_retry_at"
        return {
            row[0]: row[1:] for row in self.store.database.execute_sql(f"SELECT {columns} FROM chunk_work").fetchall()
        }

    # -- what the docstrings say

    def touch(self, work: Work) -> None:
        work.touched, work.offset = self.clock.wall, self.clock.jumped

    def free(self, work: Work) -> None:
        work.lost += 1
        failed = work.lost > self.max_lost
        work.status, work.freed, work.until = ("failed", False, None) if failed else ("pending", True, None)
        work.touched = self.clock.wall

    def leased(self) -> int:
        return sum(work.status == "running" for work in self.work.values())

    def kept(self, work: Work) -> int:
        """Until when a lease holds that has expired by the wall clock: whose process lives does not lose the time for
        which the machine slept."""
        assert work.until is not None
        slept = max(self.clock.jumped - work.offset, 0)
        return work.until if self.gone(work.process) else work.until + slept

    def take(self, worker: str, count: int, lease: int) -> list[int]:
        ready = [key for key, work in self.work.items() if work.status == "pending" and work.until is None]
        ready.sort(key=lambda key: (self.work[key].rank, key))
        taken = ready[: max(count, 0)]
        for key in taken:
            work = self.work[key]
            work.status, work.worker, work.process, work.freed = "running", worker, self.process(worker), False
            work.attempt, work.until = work.attempt + 1, self.clock.wall + lease
            self.touch(work)
        return taken

    def follow(self) -> None:
        """What was touched in what is now the future counts from now."""
        for work in self.work.values():
            if work.until is not None and work.touched > self.clock.wall:
                work.until = self.clock.wall + work.until - work.touched
                self.touch(work)

    def expire(self) -> None:
        for work in self.work.values():
            if work.status == "running" and work.until is not None and work.until <= self.clock.wall:
                if self.kept(work) > self.clock.wall:
                    work.until = self.kept(work)
                    self.touch(work)
                else:
                    self.free(work)

    def wake(self) -> None:
        for work in self.work.values():
            if work.status == "pending" and work.until is not None and work.until <= self.clock.wall:
                work.until = None

    def bury(self) -> None:
        for work in self.work.values():
            if work.status == "running" and self.gone(work.process):
                self.free(work)

    # -- rules

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 4), lease=SECONDS)
    def claim(self, worker: str, limit: int, lease: int) -> None:
        self.acting = worker
        rows = self.chunks.claim(SCAN, worker=worker, limit=limit, lease=float(lease))
        self.follow()
        self.expire()
        self.wake()
        want = self.take(worker, min(limit, self.most - self.leased()), lease)
        if len(want) < limit:
            self.bury()
            want += self.take(worker, min(limit - len(want), self.most - self.leased()), lease)
        assert [row.id for row in rows] == sorted(want, key=lambda key: (self.work[key].rank, key))
        for row in rows:
            work = self.work[row.id]
            assert (row.worker, row.attempt, row.status) == (worker, work.attempt, "running")
            assert row.lease_until == self.clock() + timedelta(seconds=lease)
            self.claims.append(Claimed(row, row.id, worker, row.attempt))

    def attempted(self, claimed: Claimed, worker: str, by_row: bool, action: Callable[[Any], Any]) -> bool | None:
        """Do it as that worker; True when it was accepted and the work was the worker's, False when it was refused,
        None when it had been done before. Asserts that this is what was to be expected."""
        work, self.acting = self.work[claimed.key], worker
        mine = work.worker == worker and (work.status == "running" or work.freed)
        mine = mine and not (by_row and worker == claimed.worker and work.attempt != claimed.attempt)
        before = self.rows()
        try:
            action(claimed.row if by_row else claimed.key)
        except LeaseLost as error:
            assert not mine, f"the owner was refused: {error}"
            assert self.rows() == before
            assert f"chunk {claimed.key} is " in str(error) and worker in str(error)
            remedy = {"done": "nothing is left to do", "failed": "store.chunks.retry"}.get(work.status, ".claim")
            assert remedy in str(error)
            return False
        if mine:
            return True
        assert work.status == "done" and work.worker == worker, f"{worker} had no right to {work}"
        assert self.rows() == before
        return None

    anybody = {"data": st.data(), "worker": st.sampled_from(("its own", *WORKERS)), "by_row": st.booleans()}

    def hand(self, data: Any, worker: str) -> tuple[Claimed, str]:
        # The latest are the likeliest to be good.
        back = data.draw(st.integers(1, len(self.claims)).map(lambda n: min(n, len(self.claims))))
        claimed = self.claims[-back]
        return claimed, claimed.worker if worker == "its own" else worker

    @precondition(lambda self: self.claims)
    @rule(**anybody)
    def complete(self, data: Any, worker: str, by_row: bool) -> None:
        claimed, worker = self.hand(data, worker)
        if self.attempted(claimed, worker, by_row, lambda item: self.chunks.complete(item, worker=worker)):
            work = self.work[claimed.key]
            work.status, work.until, work.freed = "done", None, False

    @precondition(lambda self: self.claims)
    @rule(**anybody, retry=st.booleans())
    def fail(self, data: Any, worker: str, by_row: bool, retry: bool) -> None:
        claimed, worker = self.hand(data, worker)
        work, told = self.work[claimed.key], []
        done = self.attempted(
            claimed, worker, by_row, lambda i: told.append(self.chunks.fail(i, "no", worker=worker, retry=retry).status)
        )
        assert done is not None, "only completing twice is harmless"
        if done:
            work.until, work.status, work.freed = None, "failed", False
            self.touch(work)
            if retry and work.retries < self.max_retries:
                wait = self.delay * 2**work.retries
                work.status, work.retries = "pending", work.retries + 1
                work.until = self.clock.wall + wait if wait else None
            assert told == [work.status]

    @precondition(lambda self: self.claims)
    @rule(**anybody)
    def release(self, data: Any, worker: str, by_row: bool) -> None:
        claimed, worker = self.hand(data, worker)
        done = self.attempted(claimed, worker, by_row, lambda item: self.chunks.release(item, worker=worker))
        assert done is not None
        if done:
            work = self.work[claimed.key]
            work.status, work.until, work.freed = "pending", None, False

    @precondition(lambda self: self.claims)
    @rule(**anybody, lease=SECONDS)
    def heartbeat(self, data: Any, worker: str, by_row: bool, lease: int) -> None:
        claimed, worker = self.hand(data, worker)
        told: list[datetime] = []
        done = self.attempted(
            claimed,
            worker,
            by_row,
            lambda i: told.append(self.chunks.heartbeat(i, worker=worker, lease=lease).lease_until),
        )
        assert done is not None
        if done:
            work = self.work[claimed.key]
            work.lost = max(work.lost - work.freed, 0)
            work.status, work.freed = "running", False
            work.until, work.process = self.clock.wall + lease, self.process(worker)
            self.touch(work)
            assert told == [self.clock() + timedelta(seconds=lease)]

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: int) -> None:
        self.clock.wall += seconds

    @rule(seconds=st.sampled_from([5, 60, 3600, 90_000]))
    def the_machine_sleeps(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule(seconds=st.sampled_from([1, 5, 60, 3600, 90_000]))
    def clock_is_set_back(self, seconds: int) -> None:
        self.clock.jump(-seconds)

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        self.lives[worker] += 1

    @rule()
    def recover(self) -> None:
        before = {key: work.status for key, work in self.work.items()}
        found = self.chunks.recover(SCAN)
        self.expire()
        self.bury()
        freed = [work.status for key, work in self.work.items() if before[key] == "running" != work.status]
        assert tuple(found) == (freed.count("pending"), freed.count("failed"))

    @rule(one=st.none() | st.integers(0, 7))
    def retry(self, one: int | None) -> None:
        keys = list(self.work) if one is None else [sorted(self.work)[one]]
        failed = [key for key in keys if self.work[key].status == "failed"]
        if len(failed) < len(keys):
            with pytest.raises(IllegalMove):
                self.chunks.retry(*keys)
        assert [row.id for row in self.chunks.retry(*failed)] == failed
        for work in map(self.work.__getitem__, failed):
            work.status, work.retries, work.lost = "pending", 0, 0

    @rule(
        most=st.integers(1, 5), max_retries=st.integers(0, 4), max_lost=st.integers(0, 4),
        delay=st.sampled_from([0, 2, 5]),
    )  # fmt: skip
    def configure(self, most: int, max_retries: int, max_lost: int, delay: int) -> None:
        self.most, self.max_retries, self.max_lost, self.delay = most, max_retries, max_lost, delay
        self.store.scans.analyze(
            SCAN, scanner_concurrency=most, max_retries=max_retries, max_lost=max_lost, retry_delay=delay
        )

    @rule(one=st.integers(0, 7), risk=st.sampled_from(["high", "normal", "low"]))
    def set_risk(self, one: int, risk: str) -> None:
        assert self.store.scans.set_risk(SCAN, risk, [f"f{one:03}.py"]) == 1
        self.work[sorted(self.work)[one]].rank = ("high", "normal", "low").index(risk)

    @invariant()
    def rows_are_as_in_the_model(self) -> None:
        for key, (status, retries, lost, attempt, rank, worker, lease_until, next_retry_at) in self.rows().items():
            work = self.work[key]
            assert (status, retries, lost, attempt, rank) == (
                work.status, work.retries, work.lost, work.attempt, work.rank,
            )  # fmt: skip
            if status == "running":
                assert worker == work.worker
            time = lease_until or next_retry_at
            assert (time is None) == (work.until is None)
            if work.until is not None:
                assert (datetime.fromisoformat(time) - START).total_seconds() == work.until

    @invariant()
    def state_counts_them(self) -> None:
        state, wall = self.chunks.state(SCAN), self.clock.wall
        works = list(self.work.values())
        for status, count in (("done", state.done), ("failed", state.failed), ("skipped", state.skipped)):
            assert count == sum(work.status == status for work in works)
        waiting = sum(work.status in ("pending", "running") for work in works)
        assert state.ready + state.delayed + state.leased == waiting
        assert state.finished == (waiting == 0)
        assert (state.lost, state.before) == (sum(work.lost for work in works), 0)
        delayed = [work.until for work in works if work.status == "pending" and (work.until or wall) > wall]
        running = [work for work in works if work.status == "running" and work.until is not None]
        ends = [work.until if (work.until or 0) > wall else self.kept(work) for work in running]
        leases = [until for until in ends if until is not None and until > wall]
        assert (state.delayed, state.leased) == (len(delayed), len(leases))
        first = min((until for until in (*delayed, *leases) if until is not None), default=None)
        assert state.next_at == (None if first is None else START + timedelta(seconds=first))

    def teardown(self) -> None:
        try:
            assert self.store.check() == []
        finally:
            self.stack.close()


@pytest.mark.no_cover
def test_leases_are_as_promised(template: Path, tmp_path: Path) -> None:
    LeaseMachine.template, LeaseMachine.folder = template, tmp_path
    run = LeaseMachine.TestCase
    run.settings = settings(
        max_examples=int(os.environ.get("SCANSTORE_EXAMPLES", "15")),
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run("runTest").runTest()


# One by one -----------------------------------------------------------------------------------------------------------


def test_late_completion_is_refused_and_changes_nothing(eight: Store, clock: Clock) -> None:
    (late,) = eight.chunks.claim(SCAN, worker="ann", lease=10)
    clock.wall += 10
    draft = {"title": "late", "vulnerability_type": "sqli", "severity": "high"}
    (now,) = eight.chunks.claim(SCAN, worker="bob", lease=10)
    assert (now.id, now.attempt, now.retry_count, now.lost_count) == (late.id, 2, 0, 1)
    with pytest.raises(LeaseLost, match=rf"chunk {late.id} is leased to bob, so ann cannot settle it; claim it with"):
        eight.chunks.complete(late, drafts=[draft])
    for refused in (eight.chunks.release, eight.chunks.heartbeat, lambda item: eight.chunks.fail(item, "no")):
        with pytest.raises(LeaseLost):
            refused(late)
    assert eight.drafts.list(SCAN) == []
    assert eight.chunks.complete(now, drafts=[draft]).status == "done"
    with pytest.raises(LeaseLost, match=f"chunk {late.id} is done.*nothing is left to do"):
        eight.chunks.complete(late, drafts=[{**draft, "title": "too late"}])
    assert [row.title for row in eight.drafts.list(SCAN)] == ["late"]


@pytest.mark.parametrize("freed", [False, True])
def test_the_end_of_a_lease_takes_nothing_from_its_owner(eight: Store, clock: Clock, freed: bool) -> None:
    """Until somebody else claims the row, whether or not it waits again."""
    first, second, third, fourth = eight.chunks.claim(SCAN, worker="ann", lease=10, limit=4)
    clock.wall += 3600
    if freed:
        assert eight.chunks.recover(SCAN) == (4, 0)
        assert {row.status for row in eight.chunks.list(SCAN)} == {"pending"}
    draft = {"title": "late", "vulnerability_type": "sqli", "severity": "high"}
    eight.chunks.complete(first, drafts=[draft])
    assert len(eight.drafts.list(SCAN, chunk=first)) == 1
    assert eight.chunks.fail(second, "no").status == "pending"
    eight.chunks.release(third)
    assert eight.chunks.heartbeat(fourth, lease=10).lease_until == clock() + timedelta(seconds=10)
    kept = eight.chunks.get(fourth)
    assert (kept.status, kept.attempt, kept.lost_count) == ("running", 1, 0)
    with pytest.raises(LeaseLost, match="is waiting"):  # its owner has given it back
        eight.chunks.complete(second)
    with pytest.raises(LeaseLost, match="is waiting"):
        eight.chunks.complete(third)
    assert len(eight.chunks.claim(SCAN, worker="bob", limit=8)) == 5
    eight.chunks.complete(fourth)
    assert eight.chunks.state(SCAN).done == 2


def test_what_was_decided_about_a_lost_row_binds_its_owner_too(eight: Store, clock: Clock) -> None:
    """Freed, then done again from the start: the row is not that of the claim before any more."""
    (late,) = eight.chunks.claim(SCAN, worker="ann", lease=10)
    clock.wall += 3600
    eight.chunks.recover(SCAN)
    eight.scans.pause(SCAN)
    eight.database.execute_sql("UPDATE chunk_work SET status = 'done' WHERE id = ?", (late.id,))
    eight.scans.rerun(SCAN)
    with pytest.raises(LeaseLost, match="is waiting"):
        eight.chunks.complete(late)


def test_a_live_process_keeps_its_rows_through_a_sleep_and_loses_them_when_it_hangs(eight: Store, clock: Clock) -> None:
    (chunk,) = eight.chunks.claim(SCAN, worker="ann", lease=600)
    for _ in range(3):
        clock.jump(8 * 3600)
        state = eight.chunks.state(SCAN)
        assert (state.ready, state.leased, state.next_at) == (7, 1, clock() + timedelta(seconds=600))
        assert eight.chunks.recover(SCAN) == (0, 0)
        others = eight.chunks.claim(SCAN, worker="bob", limit=8)
        assert len(others) == 7
        for row in others:
            eight.chunks.release(row)
    clock.wall += 599
    assert len(eight.chunks.claim(SCAN, worker="bob", limit=8)) == 7
    clock.wall += 1
    assert [row.id for row in eight.chunks.claim(SCAN, worker="cy")] == [chunk.id]
    with pytest.raises(LeaseLost, match="leased to cy"):
        eight.chunks.complete(chunk)


def test_a_process_of_another_machine_is_judged_by_the_wall_clock(eight: Store, clock: Clock) -> None:
    ours, theirs = eight.chunks.claim(SCAN, worker="ann", limit=2, lease=600)
    dead(eight, [theirs], "elsewhere:7@1")
    clock.jump(3600)
    assert theirs.id in {row.id for row in eight.chunks.claim(SCAN, worker="bob", limit=8)}
    assert eight.chunks.get(theirs).lost_count == 1 and eight.chunks.get(ours).attempt == 1


def test_the_remedy_of_a_lost_lease_is_true_of_the_row(eight: Store) -> None:
    done, failed, waiting = eight.chunks.claim(SCAN, worker="ann", limit=3)
    eight.chunks.complete(done)
    eight.chunks.fail(failed, "no", retry=False)
    eight.chunks.release(waiting)
    for row, words in (
        (done, r"is done, so bob cannot settle it; nothing is left to do about it$"),
        (failed, r"is failed, so bob cannot settle it; .*store.chunks.retry\(chunk\)$"),
        (waiting, r"is waiting, so bob cannot settle it; claim it with store.chunks.claim"),
    ):
        with pytest.raises(LeaseLost, match=words):
            eight.chunks.complete(row.id, worker="bob")


def test_a_worker_is_late_against_itself(eight: Store, clock: Clock) -> None:
    (first,) = eight.chunks.claim(SCAN, worker="ann", lease=10)
    clock.wall += 10
    (second,) = eight.chunks.claim(SCAN, worker="ann", lease=10)
    assert (second.id, second.attempt) == (first.id, 2)
    with pytest.raises(LeaseLost, match="leased to a later claim of yours"):
        eight.chunks.complete(first)
    eight.chunks.complete(second)
    with pytest.raises(LeaseLost):
        eight.chunks.complete(first)


def test_completing_twice_is_harmless_for_the_same_worker_only(eight: Store) -> None:
    (chunk,) = eight.chunks.claim(SCAN, worker="ann")
    draft = {"title": "t", "vulnerability_type": "xss", "severity": "low", "line_number": 1}
    eight.chunks.complete(chunk, drafts=[draft])
    before = [row.to_dict() for row in eight.drafts.list(SCAN)]
    assert eight.chunks.complete(chunk, drafts=[draft]) is chunk
    assert eight.chunks.complete(chunk.id, worker="ann", drafts=[draft]) == chunk
    for other in ("bob", None):
        with pytest.raises(LeaseLost, match="is done"):
            eight.chunks.complete(chunk.id, worker=other, drafts=[draft])
    with pytest.raises(LeaseLost):
        eight.chunks.fail(chunk, "after all")
    assert [row.to_dict() for row in eight.drafts.list(SCAN)] == before
    assert eight.chunks.state(SCAN).done == 1


def test_only_its_owner_may_settle_a_live_lease(eight: Store) -> None:
    (chunk,) = eight.chunks.claim(SCAN, worker="ann")
    for item in (chunk, chunk.id):
        for refused in (
            lambda item: eight.chunks.complete(item, worker="bob"),
            lambda item: eight.chunks.fail(item, "no", worker="bob"),
            lambda item: eight.chunks.release(item, worker="bob"),
            lambda item: eight.chunks.heartbeat(item, worker="bob"),
        ):
            with pytest.raises(LeaseLost, match=f"chunk {chunk.id} is leased to ann, so bob cannot settle it"):
                refused(item)
    with pytest.raises(LeaseLost):
        eight.chunks.complete(chunk.id)  # by id it is this process that asks, not ann
    assert eight.chunks.get(chunk.id).to_dict() == chunk.to_dict()
    eight.chunks.complete(chunk.id, worker="ann")


def test_clock_set_back(eight: Store, clock: Clock) -> None:
    ann = eight.chunks.claim(SCAN, worker="ann", lease=60, limit=4)
    eight.chunks.fail(ann[3], "later")  # due in two seconds
    clock.jump(-50_000)
    eight.chunks.complete(ann[0])
    assert eight.chunks.heartbeat(ann[1], lease=60).lease_until == clock() + timedelta(seconds=60)
    bob = eight.chunks.claim(SCAN, worker="bob", limit=8)
    assert not {row.id for row in ann} & {row.id for row in bob} and len(bob) == 4
    clock.wall += 2
    assert [row.id for row in eight.chunks.claim(SCAN, worker="cy")] == [ann[3].id]
    clock.wall += 57
    eight.chunks.complete(ann[1])
    assert not eight.chunks.claim(SCAN, worker="cy")
    clock.wall += 1
    assert [row.id for row in eight.chunks.claim(SCAN, worker="cy")] == [ann[2].id]
    with pytest.raises(LeaseLost):
        eight.chunks.complete(ann[2])
    assert eight.chunks.get(ann[2]).lost_count == 1


def test_no_retry_waits_longer_than_its_delay_after_the_clock_was_set_back(eight: Store, clock: Clock) -> None:
    first, second = eight.chunks.claim(SCAN, worker="ann", limit=2)
    eight.chunks.fail(first, "no")  # due at 2
    clock.wall += 1
    eight.chunks.fail(second, "no")  # due at 3
    clock.jump(-1)  # so it should be due at 2
    eight.chunks.claim(SCAN, worker="bob", limit=6)
    clock.wall += 2
    assert [row.id for row in eight.chunks.claim(SCAN, worker="bob", limit=8)] == [first.id, second.id]


def test_clock_jumps_forward(eight: Store, clock: Clock) -> None:
    (chunk,) = eight.chunks.claim(SCAN, worker="ann", lease=60)
    failed = eight.chunks.claim(SCAN, worker="ann")[0]
    eight.chunks.fail(failed, "no")
    clock.wall += 10**8
    state = eight.chunks.state(SCAN)
    assert (state.ready, state.delayed, state.leased) == (8, 0, 0)
    assert len(eight.chunks.claim(SCAN, worker="bob", limit=8)) == 8
    with pytest.raises(LeaseLost):
        eight.chunks.complete(chunk)


def test_freed_chunks_come_in_order(eight: Store) -> None:
    eight.scans.set_risk(SCAN, "high", ["f007.py"])
    dead(eight, eight.chunks.claim(SCAN, worker="gone"))
    rows = eight.chunks.claim(SCAN, worker="bob", limit=8)
    assert [row.file_path for row in rows] == ["f007.py", *(f"f{n:03}.py" for n in range(7))]


def dead(store: Store, rows: list[ScanFileChunk], process: str | None = None) -> None:
    """Make rows look as if a process that has ended had claimed them."""
    if process is None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        start = processes.started(ended.pid)
        ended.wait()
        process = f"{workers.me().partition(':')[0]}:{ended.pid}@{start}"
    for row in rows:
        store.database.execute_sql("UPDATE chunk_work SET process = ? WHERE id = ?", (process, row.id))


def test_the_same_process_id_with_another_start_is_another_process(eight: Store) -> None:
    place, _, rest = workers.me().rpartition(":")
    process, start = rest.split("@")
    (mine, reused, elsewhere) = eight.chunks.claim(SCAN, worker="ann", limit=3)
    dead(eight, [reused], f"{place}:{process}@{int(start) - 1}")
    dead(eight, [elsewhere], f"{place[::-1]}:{2**30}@1")
    assert eight.chunks.recover(SCAN) == (1, 0)
    eight.chunks.complete(mine)
    assert eight.chunks.get(reused.id).status == "pending"
    eight.chunks.complete(elsewhere)  # nothing is known of the processes of other machines


def test_a_live_process_loses_its_lease_when_it_runs_out(eight: Store, clock: Clock) -> None:
    (chunk,) = eight.chunks.claim(SCAN, worker="ann", lease=10)
    others = eight.chunks.claim(SCAN, worker="bob", limit=8)
    assert len(others) == 7
    clock.wall += 11
    assert [row.id for row in eight.chunks.claim(SCAN, worker="bob")] == [chunk.id]


def test_heartbeat_keeps_a_lease(eight: Store, clock: Clock) -> None:
    (chunk,) = eight.chunks.claim(SCAN, worker="ann", lease=10)
    for _ in range(5):
        clock.wall += 9
        assert eight.chunks.heartbeat(chunk, lease=10).lease_until == clock() + timedelta(seconds=10)
    assert len(eight.chunks.claim(SCAN, worker="bob", limit=8)) == 7
    eight.chunks.complete(chunk)


def test_backoff_doubles_and_ends(eight: Store, clock: Clock) -> None:
    key = eight.chunks.claim(SCAN, worker="ann")[0].id
    eight.chunks.claim(SCAN, worker="other", limit=7, lease=10**6)
    waits = []
    while eight.chunks.fail(key, f"error {len(waits)}", worker="ann").status == "pending":
        row, began = eight.chunks.get(key), clock.wall
        assert row.error == f"error {len(waits)}" and row.retry_count == len(waits) + 1
        assert eight.chunks.state(SCAN).next_at == row.next_retry_at
        while not eight.chunks.claim(SCAN, worker="ann", lease=3600):
            clock.wall += 1
        waits.append(clock.wall - began)
    assert waits == [2, 4, 8]
    assert (eight.chunks.get(key).status, eight.chunks.get(key).error) == ("failed", "error 3")
    assert [row.status for row in eight.chunks.retry(key)] == ["pending"]
    assert eight.chunks.claim(SCAN, worker="ann")[0].retry_count == 0
    eight.scans.analyze(SCAN, max_retries=0)
    assert eight.chunks.fail(key, ValueError("for good"), worker="ann").status == "failed"
    assert eight.chunks.get(key).error == "ValueError: for good"


def test_a_row_of_another_store_is_refused(eight: Store, template: Path, tmp_path: Path) -> None:
    shutil.copy(template, tmp_path / "other.db")
    with Store(tmp_path / "other.db", durability="normal") as other:
        mine, his = eight.chunks.claim(SCAN, worker="ann"), other.chunks.claim(SCAN, worker="ann")
        assert mine[0].id == his[0].id
        draft = {"title": "t", "vulnerability_type": "v", "severity": "info"}
        his_own = other.chunks
        for refused in (his_own.complete, his_own.release, his_own.heartbeat, lambda row: his_own.fail(row, "x")):
            with pytest.raises(WrongStore):
                refused(mine[0])
        eight.chunks.complete(mine[0], drafts=[draft])
        assert (eight.chunks.state(SCAN).done, other.chunks.state(SCAN).done) == (1, 0)
        assert other.drafts.list(SCAN) == [] and len(eight.drafts.list(SCAN)) == 1
        assert len(other.chunks.claim(SCAN, limit=20)) == 7
        assert eight.chunks.state(SCAN).ready == 7
        assert other.check() == []


def test_threads_may_share_the_default_name(eight: Store) -> None:
    seen: list[int] = []

    def drain() -> None:
        for chunk in eight.chunks.work(SCAN):
            seen.append(chunk.id)
            eight.chunks.complete(chunk)

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(row.id for row in eight.chunks.list(SCAN)) and len(set(seen)) == 8
    assert {row.worker for row in eight.chunks.list(SCAN)} == {workers.me()}


def test_what_a_loop_leaves_is_released(eight: Store) -> None:
    work = eight.chunks.work(SCAN)
    chunk = next(work)
    work.close()  # type: ignore[attr-defined]
    row = eight.chunks.get(chunk.id)
    assert (row.status, row.retry_count, row.attempt) == ("pending", 0, 1)
    with pytest.raises(KeyError):
        for _ in eight.chunks.work(SCAN):
            raise KeyError
    assert eight.chunks.state(SCAN).leased == 0


def test_asking_for_what_cannot_be(eight: Store) -> None:
    (chunk,) = eight.chunks.claim(SCAN, worker="ann")
    unclaimed = eight.chunks.list(SCAN, status="pending")[0]
    with pytest.raises(LeaseLost, match=rf"chunk {unclaimed.id} is waiting.*claim it with store.chunks.claim"):
        eight.chunks.complete(unclaimed.id)
    with pytest.raises(LeaseLost, match=f"chunk {unclaimed.id} is waiting"):
        eight.chunks.complete(unclaimed)
    for call in (eight.chunks.complete, eight.chunks.release, eight.chunks.heartbeat, eight.chunks.get):
        with pytest.raises(NotFound):
            call(5)
    with pytest.raises(NotFound):
        eight.chunks.fail(5, "no")
    for wrong in (0, -1, 2**63, 2**80, True, "7", None, 1.0, object()):
        for call in (eight.chunks.complete, eight.chunks.release, eight.chunks.heartbeat, eight.chunks.get):
            with pytest.raises(InvalidArgument):
                call(wrong)  # type: ignore[arg-type]
    for lease in (0, -1, float("nan"), float("inf"), True, "600", None, 10**9):
        with pytest.raises(InvalidArgument, match="lease is"):
            eight.chunks.claim(SCAN, lease=lease)  # type: ignore[arg-type]
        if lease is not None:
            with pytest.raises(InvalidArgument, match="lease is"):
                eight.chunks.heartbeat(chunk, lease=lease)  # type: ignore[arg-type]
    for limit in (0, -1, True, 1.5, None):
        with pytest.raises(InvalidArgument, match="limit is"):
            eight.chunks.claim(SCAN, limit=limit)  # type: ignore[arg-type]
    for worker in ("", "  ", 7, b"ann"):
        with pytest.raises(InvalidArgument, match="worker is"):
            eight.chunks.claim(SCAN, worker=worker)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="worker is"):
            eight.chunks.complete(chunk, worker=worker)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="error is"):
        eight.chunks.fail(chunk, 7)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        eight.chunks.claim(99)
    with pytest.raises(NotFound):
        eight.chunks.state(99)
    assert eight.chunks.state(SCAN)[:3] == (7, 0, 1)


def test_a_very_large_limit_is_all_there_is(eight: Store) -> None:
    eight.scans.analyze(SCAN, scanner_concurrency=3)
    assert len(eight.chunks.claim(SCAN, limit=2**62)) == 3
    assert eight.chunks.claim(SCAN, limit=2**63 - 1) == []


def test_claiming_from_a_scan_that_was_not_begun(store: Store, tmp_path: Path) -> None:
    scan = store.scans.record(tree(tmp_path / "tree", 1), jobs=1)
    with pytest.raises(IllegalMove, match=rf"not begun; call store.scans.analyze\({scan.id}\)"):
        store.chunks.claim(scan)
    with pytest.raises(NotFound, match="was never claimed"):
        store.chunks.complete(store.chunks.list(scan)[0])
    assert store.check() == []


def test_a_read_only_store_hands_nothing_out(eight: Store) -> None:
    with Store(eight.path, read_only=True) as other:
        with pytest.raises(ReadOnly):
            other.chunks.claim(SCAN)
        assert other.chunks.state(SCAN).ready == 8


@pytest.mark.parametrize("analyzed", [False, True])
def test_claims_run_on_their_indexes(eight: Store, monkeypatch: pytest.MonkeyPatch, analyzed: bool) -> None:
    database = eight.database
    if analyzed:
        database.execute_sql("ANALYZE")
    real, said = type(database).execute_sql, []

    def watched(self: Any, sql: str, params: Any = None) -> Any:
        said.append((sql, params))
        return real(self, sql, params)

    failed = eight.chunks.claim(SCAN)[0]
    eight.chunks.fail(failed, "no")
    monkeypatch.setattr(type(database), "execute_sql", watched)
    chunk = eight.chunks.claim(SCAN, limit=2)[0]
    eight.chunks.state(SCAN)
    eight.chunks.complete(chunk)
    eight.chunks.recover(SCAN)
    monkeypatch.undo()
    plans = []
    for sql, params in said:
        if re.match(r"\s*(SELECT|UPDATE|INSERT|DELETE|WITH)", sql):
            rows = real(database, "EXPLAIN QUERY PLAN " + sql, params).fetchall()
            plans += [(row[-1], sql) for row in rows]
    assert any("USING INDEX ix_chunk_work_ready" in plan for plan, _ in plans)
    assert any("ix_chunk_work_leased" in plan for plan, _ in plans)
    for plan, sql in plans:
        assert not re.match(r"SCAN (chunk_work|scan_file|chunk_facts)", plan), (plan, sql)
        # What is leased is few, and its holders are fewer.
        assert "TEMP B-TREE" not in plan or "DISTINCT process" in sql or "FROM work_counts" in sql, (plan, sql)


def steps(work: Kind, database: Any) -> int:
    """How many instructions of SQLite a loop takes that finds nothing to do."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    connection = database.connection()
    connection.set_progress_handler(step, 1)
    try:
        loop = work.calls.work("one", queue="default") if work.table == "jobs" else work.calls.work(work.scope)
        assert list(loop) == []
    finally:
        connection.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("name", ["jobs", "tasks", "audits"])
def test_a_loop_that_waits_reads_no_finished_row(tmp_path: Path, new_file: Path, name: str) -> None:
    def after(finished: int) -> int:
        path = Path(shutil.copy(new_file, tmp_path / f"{finished}.db"))
        with Store(path, durability="normal") as store:
            work = kind(store, name, finished)
            for row in work.claim(limit=finished):
                work.complete(row)
            return steps(work, store.database)

    few = after(5)
    assert few > 50 and after(200) < few + 50


# Real processes -------------------------------------------------------------------------------------------------------


def start(store: Store, code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process with a store of its own, that says something and then waits to be killed, or ends."""
    script = "import sys, time\nfrom scanstore.store import Store\n" + textwrap.dedent(code)
    return Program(script, store.path, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def outputs(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    found = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and err == "", err
        found.append(out.split())
    return found


HOLD = """
    store = Store(sys.argv[1])
    print(*[row.id for row in store.chunks.claim(1, limit=int(sys.argv[2]), lease=3600)], flush=True)
    time.sleep(60)
"""


def kill(process: subprocess.Popen[str]) -> list[int]:
    """Kill a process that has said which chunks it holds."""
    assert process.stdout is not None
    held = [int(key) for key in process.stdout.readline().split()]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return held


@pytest.mark.parametrize("how", ["claim", "recover", "open"])
def test_the_work_of_a_killed_process_is_free_at_once(eight: Store, how: str) -> None:
    held = kill(start(eight, HOLD, 3))
    assert len(held) == 3 and eight.chunks.state(SCAN).leased == 3
    if how == "claim":
        rows = eight.chunks.claim(SCAN, limit=8)
        assert len(rows) == 8
        assert [(row.retry_count, row.lost_count) for row in rows if row.id in held] == [(0, 1)] * 3
        return
    if how == "recover":
        assert eight.recover() == (3, 0)
    else:
        Store(eight.path).close()
    assert eight.chunks.state(SCAN)[:3] == (8, 0, 0)
    assert eight.recover() == (0, 0)


def test_a_chunk_that_kills_its_workers_fails_in_the_end(eight: Store) -> None:
    eight.scans.analyze(SCAN, max_retries=0, max_lost=2)
    for chunk in eight.chunks.claim(SCAN, limit=7, worker="me"):
        eight.chunks.complete(chunk)
    for _ in range(3):
        assert len(kill(start(eight, HOLD, 1))) == 1
    assert eight.chunks.claim(SCAN) == []
    (poison,) = eight.chunks.list(SCAN, status="failed")
    assert "given up after 3 lost leases" in str(poison.error) and "its process ended" in str(poison.error)
    assert (poison.retry_count, poison.lost_count) == (0, 3)
    assert eight.chunks.state(SCAN).lost == 3
    assert eight.scans.get(SCAN).status == "completed"
    assert eight.chunks.state(SCAN).finished


DRAIN = """
    store = Store(sys.argv[1], durability="normal", timeout=30)
    mine = []
    for chunk in store.chunks.work(1):
        mine.append(chunk.id)
        store.chunks.complete(chunk)
    print(*mine)
"""


def test_processes_drain_a_scan_together(tmp_path: Path) -> None:
    with Store(tmp_path / "scan.db", durability="normal") as store:
        begun(store, tree(tmp_path / "tree", 600))
        found = outputs([start(store, DRAIN) for _ in range(6)])
        claimed = [int(key) for each in found for key in each]
        assert sorted(claimed) == sorted(row.id for row in store.chunks.list(SCAN)) and len(claimed) == 600
        assert {row.attempt for row in store.chunks.list(SCAN)} == {1}
        assert store.chunks.state(SCAN)[:5] == (0, 0, 0, 600, 0)
        assert store.scans.get(SCAN).status == "completed"
        assert store.check() == []


LIMITED = """
    store = Store(sys.argv[1], durability="normal", timeout=30)
    most = 0
    for chunk in store.chunks.work(1):
        state = store.chunks.state(1)
        most = max(most, state.leased)
        time.sleep(0.002)
        store.chunks.complete(chunk)
    print(most)
"""


def test_no_more_are_leased_than_the_configuration_allows(tmp_path: Path) -> None:
    with Store(tmp_path / "scan.db", durability="normal") as store:
        begun(store, tree(tmp_path / "tree", 60), scanner_concurrency=2)
        found = outputs([start(store, LIMITED) for _ in range(4)])
        assert max(int(each[0]) for each in found) == 2
        assert store.chunks.state(SCAN).done == 60
        assert store.check() == []


# The loop


def leased(store: Store) -> int:
    return store.chunks.state(SCAN).leased


def test_the_loop_claims_the_next_chunk_with_the_completion_of_one(eight: Store) -> None:
    loop = eight.chunks.work(SCAN, worker="ann")
    first = next(loop)
    assert leased(eight) == 1
    eight.chunks.complete(first)
    assert (leased(eight), eight.chunks.state(SCAN).done) == (1, 1)  # the next one, in the same transaction
    second = next(loop)
    assert leased(eight) == 1 and (second.worker, second.attempt) == ("ann", 1) and second.id != first.id
    assert second.to_dict() == eight.chunks.get(second).to_dict()


def test_a_loop_that_is_left_holds_nothing(eight: Store) -> None:
    for chunk in eight.chunks.work(SCAN, worker="ann"):
        eight.chunks.complete(chunk)
        break
    assert (leased(eight), eight.chunks.state(SCAN).ready) == (0, 7)
    with pytest.raises(RuntimeError):
        for _ in eight.chunks.work(SCAN, worker="ann"):
            raise RuntimeError
    assert leased(eight) == 0 and eight.check() == []


def test_nothing_is_claimed_ahead_in_a_transaction_that_may_be_rolled_back(eight: Store) -> None:
    loop = eight.chunks.work(SCAN, worker="ann")
    chunk = next(loop)
    with pytest.raises(RuntimeError), eight.transaction():
        eight.chunks.complete(chunk)
        raise RuntimeError
    assert (leased(eight), eight.chunks.state(SCAN).done) == (1, 0)
    eight.chunks.complete(chunk)
    assert [row.id for row in loop if eight.chunks.complete(row) is row] and eight.chunks.state(SCAN).done == 8
    assert eight.chunks.state(SCAN).finished and eight.check() == []


def test_a_loop_ends_when_its_scan_is_paused_and_keeps_to_the_limit(eight: Store) -> None:
    eight.scans.analyze(SCAN, scanner_concurrency=1)
    seen = []
    for chunk in eight.chunks.work(SCAN, worker="ann"):
        assert leased(eight) == 1 and eight.chunks.claim(SCAN, worker="bob") == []
        eight.chunks.complete(chunk)
        assert eight.chunks.claim(SCAN, worker="bob") == []
        seen.append(chunk.id)
        if len(seen) == 3:
            eight.scans.pause(SCAN)
    assert len(seen) == 4  # the fourth was in hand already
    assert (leased(eight), eight.scans.get(SCAN).status) == (0, "paused") and eight.check() == []


def test_an_opening_looks_at_every_queue() -> None:
    """What an opening asks is written out, so that it need not import the queues; it must not forget one."""
    all_queues = (*queues.QUEUES, queues.JOBS, queues.AUDIT_TASKS, queues.SESSION_TASKS)
    wanted = {(queue.table, queue.on("leased"), queue.leased) for queue in all_queues}
    assert set(under_way.LEASED) == wanted | {("jobs", queues.JOBS.on("cancelling"), "cancelling")}
    assert all(isinstance(queue, queues.Queue) for queue in all_queues)
    assert {id(value) for value in vars(queues).values() if isinstance(value, queues.Queue)} == set(map(id, all_queues))
