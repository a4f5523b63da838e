"""The clock: it jumps forward and is set back, again and again, while all that has a lease or a time is worked with.

Nothing is lost, nothing is done twice, nothing is handed out while somebody's lease holds, and nobody waits for a time
that the clock was at by mistake. The clock of these tests is one that all rooms look at; it moves when it is told to.
A jump, forward as by a sleep of the machine or back, takes nothing from a process that lives: its leases go by the
running time.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from stressing import ROOT, chance, rounds

from scanstore import LeaseLost, NoSlot, Store
from scanstore.db import clocks, values
from scanstore.jobs import schedules

LEASE = 60
AWAY = (3600.0, 86_400.0, 30 * 86_400.0, 400 * 86_400.0)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = START


class Clock:
    """`running` is the running time of the machine, in seconds, which stands still when the clock jumps."""

    def __init__(self) -> None:
        self.running = 0.0
        self.jumps = 0

    def move(self, seconds: float) -> None:
        """Time passes; from a certain length on, it is a jump."""
        values.NOW += timedelta(seconds=seconds)  # type: ignore[attr-defined]
        if abs(seconds) >= AWAY[0]:
            self.jumps += 1
        else:
            self.running += seconds


def moment() -> datetime:
    return NOW


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that every room looks at, whenever it was imported."""
    monkeypatch.setattr(values, "NOW", START, raising=False)
    monkeypatch.setattr(values.utcnow, "__code__", moment.__code__)
    own = Clock()
    monkeypatch.setattr(clocks, "monotonic", lambda: own.running)
    return own


@pytest.fixture
def store(tmp_path: Path, new_file: Path, clock: Clock) -> Any:
    shutil.copy(new_file, tmp_path / "scan.db")
    with Store(tmp_path / "scan.db", durability="normal") as opened:
        # The triggers of the schema look at it too.
        opened.database.connection().create_function("strftime", 2, lambda *_: values.format_time(values.utcnow()))
        yield opened


# Work that is leased --------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """A queue: how a row of it is claimed and completed, how it fails, and whether all of it is over."""

    claim: Callable[..., list[Any]]
    complete: Callable[[Any], object]
    fail: Callable[[Any], object]
    over: Callable[[], bool]


class Held(NamedTuple):
    row: Any
    since: float  #: the running time when it was claimed


def lines(store: Store) -> dict[str, Line]:
    """All that can be worked on, and rows in each."""
    scan = store.scans.record(ROOT / "callgraph" / "shop", jobs=1)
    scan = store.scans.analyze(scan, max_retries=1000, max_lost=1000, pause_after=None)
    store.llm.add("m")
    user = store.accounts.add("ann@x.org")
    session = store.sessions.add(user, "s")
    for n in range(10):
        store.jobs.enqueue("one", max_retries=1000, max_lost=1000)
        store.sessions.tasks.add(session, "summary", max_retries=1000, max_lost=1000)
        store.audits.add(user, f"{n}.pdf", 10, max_retries=1000, max_lost=1000)
    draft = {"title": "t", "vulnerability_type": "x", "severity": "low", "line_number": 1}
    found = {"analysis": {"equipment_type": "p", "test_type": "x"}}
    votes = [{"model": "m", "decision": "verified"}]

    def of_scan(stage: Any, complete: Callable[[Any], object]) -> Line:
        return Line(
            lambda **given: stage.claim(scan, **given), complete, lambda row: stage.fail(row, "bad"),
            lambda: stage.state(scan).finished,
        )  # fmt: skip

    return {
        "chunks": of_scan(
            store.chunks,
            lambda row: store.chunks.complete(row, drafts=[{**draft, "title": f"t{row.id}"}] if row.id % 2 else []),
        ),
        "drafts": of_scan(store.drafts, lambda row: store.drafts.record_votes(row, votes)),
        "verified": of_scan(store.verified, store.findings.publish),
        "jobs": Line(
            lambda **given: store.jobs.claim("one", **given), store.jobs.complete,
            lambda row: store.jobs.fail(row, "bad"), lambda: store.jobs.state().finished,
        ),
        "tasks": Line(
            lambda **given: store.sessions.tasks.claim(session, **given), store.sessions.tasks.complete,
            lambda row: store.sessions.tasks.fail(row, "bad"), lambda: store.sessions.tasks.state(session).finished,
        ),
        "audits": Line(
            store.audits.claim, lambda row: store.audits.complete(row, **found),
            lambda row: store.audits.fail(row, "bad"), lambda: store.audits.state().finished,
        ),
    }  # fmt: skip


class Work:
    """Workers on all queues, and what they may expect of a lease."""

    def __init__(self, store: Store, clock: Clock, some: random.Random) -> None:
        self.lines, self.clock, self.some = lines(store), clock, some
        self.held: dict[tuple[str, Any], Held] = {}
        self.late: list[tuple[str, Held]] = []  # whose rows others have by now
        self.done: Counter[tuple[str, Any]] = Counter()
        self.told: Counter[str] = Counter()

    def claim(self, name: str) -> bool:
        claimed = self.lines[name].claim(worker=f"w{self.some.randrange(4)}", lease=LEASE)
        for row in claimed:
            key, before = (name, row.id), self.held.get((name, row.id))
            assert not self.done[key], f"{key} is handed out and was completed"
            if before is not None:
                assert self.clock.running - before.since >= LEASE, f"{key} is handed out while it is held"
                self.late.append((name, before))
                self.told["freed"] += 1
            self.held[key] = Held(row, self.clock.running)
            self.told["claimed"] += 1
        return bool(claimed)

    def settle(self, key: tuple[str, Any], how: str) -> None:
        """However late its owner comes: nobody has claimed the row since."""
        held = self.held.pop(key)
        getattr(self.lines[key[0]], how)(held.row)
        self.told["late"] += self.clock.running - held.since >= LEASE
        self.done[key] += how == "complete"
        self.told[f"{how}d" if how == "complete" else "failed"] += 1

    def too_late(self) -> None:
        """Who comes late, after somebody else had the row, is refused, unless he says what has been said already."""
        name, before = self.late.pop()
        try:
            self.lines[name].complete(before.row)
        except LeaseLost:
            self.told["refused"] += 1
        else:
            assert self.done[name, before.row.id], f"{name}, {before.row.id} is completed by one who lost it"

    def step(self) -> None:
        some = self.some
        what = some.choices(("pass", "jump", "claim", "complete", "fail", "late"), (3, 1, 8, 4, 2, 1))[0]
        if what == "pass":
            self.clock.move(some.random() * LEASE / 2)
        elif what == "jump":
            self.clock.move(some.choice((-1, 1)) * some.choice(AWAY))
        elif what == "claim":
            self.claim(some.choice(sorted(self.lines)))
        elif what == "late" and self.late:
            self.too_late()
        elif what in ("complete", "fail") and self.held:
            self.settle(some.choice(sorted(self.held, key=str)), what)

    def drain(self) -> None:
        """No more jumps: whatever the clock was before, all is over in time."""
        for _ in range(60):
            for name in self.lines:
                while self.claim(name):
                    pass
            for key in sorted(self.held, key=str):
                self.settle(key, "complete")
            if all(line.over() for line in self.lines.values()):
                return
            self.clock.move(LEASE + 1)
        raise AssertionError("something is never handed out again")


@pytest.mark.parametrize("number", range(rounds(2, 60)))
def test_leases_under_a_clock_that_jumps(store: Store, clock: Clock, number: int) -> None:
    work = Work(store, clock, chance("clock", number))
    for _ in range(250):
        work.step()
    assert store.check() == []
    work.drain()
    assert set(work.done.values()) == {1}, "each is completed once"
    assert {name for name, _ in work.done} == set(work.lines)
    assert store.check() == []
    print(f"\n{clock.jumps} jumps; {dict(work.told)}")


def test_places_are_kept_whatever_the_clock_says(store: Store, clock: Clock) -> None:
    """A place of a process that lives is not given to another."""
    store.llm.add("own", max_concurrent=1)
    for seconds in (400 * 86_400, -800 * 86_400, 1000 * 86_400):
        with store.llm.slot("own", lease=LEASE):
            clock.move(seconds)
            with pytest.raises(NoSlot), store.llm.slot("own", timeout=0):
                pass
            store.recover()
            with pytest.raises(NoSlot), store.llm.slot("own", timeout=0):
                pass
        with store.llm.slot("own", timeout=0):
            pass
    assert store.check() == []


# Schedules ------------------------------------------------------------------------------------------------------------


def test_schedules_under_a_clock_that_jumps(store: Store, clock: Clock) -> None:
    """However far it jumps, what was missed is one run; and nobody waits for a time that was a mistake."""
    some, runs = chance("schedules"), Counter[str]()
    plans = {"minutes": ("*/10 * * * *", 600), "hours": ("0 * * * *", 3600), "days": ("30 3 * * *", 86_400)}
    for name, (expression, _) in plans.items():
        store.schedules.add(name, name, expression)

    def look() -> list[str]:
        started = store.schedules.run_due()
        assert all(run.started for run in started)
        for job in store.jobs.claim(limit=10):
            store.jobs.complete(job)
        names = [run.task.name for run in started]
        assert len(names) == len(set(names)), "what was missed counts as one"
        assert store.schedules.run_due() == [], "once each"
        runs.update(names)
        return names

    for _ in range(rounds(20, 500)):
        seconds = some.choice((-1, 1)) * some.choice(AWAY)
        clock.move(seconds)
        names = look()
        assert seconds < 0 or seconds < 86_400 or set(names) == set(plans), "what is due after a jump runs"
        for name, (_, every) in plans.items():
            wait = store.schedules.get(name).next_run - values.utcnow()
            assert wait <= timedelta(seconds=every) + schedules.MISTAKE, (name, seconds)
    clock.move(schedules.MISTAKE.total_seconds())
    look()
    began = dict(runs)
    for _ in range(24 * 6 + 1):  # a day, looked at every ten minutes
        clock.move(600)
        look()
    for name, (_, every) in plans.items():
        assert abs(runs[name] - began[name] - 86_400 / every) <= 1, name
    assert store.check() == []
    print(f"\n{clock.jumps} jumps; runs of schedules: {dict(runs)}")
