"""Load: many processes write and read one store at once; nobody is told that it is locked, nobody sees half a change.

Each writer keeps a sum that must be zero at any moment, and hands out work that must be done once; each reader looks at
both. Every call is timed.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stressing import LONG, Child, Tell, chance

from scanstore import Store

WRITERS = READERS = 8
SECONDS = 60.0 if LONG == 1 else float(LONG or 1.5)
PLACES = 8


class Clocked:
    """Times of calls, by kind, in seconds."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.times: dict[str, list[float]] = {}

    def __call__(self, kind: str, function: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = function()
        self.times.setdefault(kind, []).append(round(time.perf_counter() - start, 5))
        return result


def writes(store: Store, clocked: Clocked, some: random.Random, number: int) -> None:
    def move() -> None:
        amount, (a, b) = some.randrange(1, 100), some.sample(range(PLACES), 2)
        with store.transaction():
            store.settings.set(f"place {a}", store.settings[f"place {a}"] - amount)
            store.settings.set(f"place {b}", store.settings[f"place {b}"] + amount)

    def work() -> None:
        store.jobs.enqueue("sum", meta={"by": number})
        for job in store.jobs.claim("sum"):
            store.settings.update("done", lambda value: value + 1)
            store.jobs.complete(job)

    def sync() -> None:
        title = f"by {number}, {some.random()}"
        store.library.upsert_scenes([{"id": f"s{n}", "title": title} for n in range(20)])

    for kind, action in some.choices([("transfer", move), ("job", work), ("sync", sync)], k=5):
        clocked(kind, action)


def reads(store: Store, clocked: Clocked, some: random.Random, number: int) -> None:
    def consistent() -> None:
        """Several questions inside one transaction see one moment."""
        run = store.database.execute_sql
        with store.transaction():
            places = [store.settings[f"place {n}"] for n in range(PLACES)]
            titles = run("SELECT count(DISTINCT title), count(*) FROM scenes").fetchone()
            again = [store.settings[f"place {n}"] for n in range(PLACES)]
        assert sum(places) == 0 and places == again, places
        assert titles in ((0, 0), (1, 20)), titles

    def single() -> None:
        values = store.settings.to_dict()
        assert sum(values[f"place {n}"] for n in range(PLACES)) == 0
        titles = {scene.title for scene in store.library.list()}
        assert len(titles) <= 1, titles
        store.jobs.state()

    clocked("read", consistent if number % 2 else single)


def test_many_processes_write_and_read_at_once(db_path: Path) -> None:
    with Store(db_path) as store:
        for n in range(PLACES):
            store.settings.set(f"place {n}", 0)
        store.settings.set("done", 0)
        store.library.upsert_scenes([{"id": "s0", "title": "x"}])  # what the processes need is imported by now
        store.library.remove("scene", "s0")
        store.jobs.prune(keep_last=0, dry_run=True)

    def process(role: Callable[..., None], number: int, begin: float) -> Callable[[Tell], object]:
        def work(tell: Tell) -> None:
            some, clocked = chance(role.__name__, number), Clocked(tell)
            # Those that only look may do so in a transaction of their own, which keeps nobody out.
            with Store(db_path, read_only=role is reads and number % 2 == 1) as store:
                time.sleep(max(begin - time.monotonic(), 0))
                while time.monotonic() < begin + SECONDS:
                    role(store, clocked, some, number)
            tell(clocked.times)

        return work

    begin, limit = time.monotonic() + 0.3, int(SECONDS) + 60
    children = [Child(process(writes, n, begin), limit=limit) for n in range(WRITERS)]
    children += [Child(process(reads, n, begin), limit=limit) for n in range(READERS)]
    times: dict[str, list[float]] = {}
    calls: Counter[str] = Counter()
    for child in children:
        told = child.end(limit)
        assert child.status == 0, told[-1]
        for kind, found in told[0].items():
            times.setdefault(kind, []).extend(found)
            calls[kind] += len(found)
    with Store(db_path) as store:
        assert store.check() == []
        values = store.settings.to_dict()
        assert sum(values[f"place {n}"] for n in range(PLACES)) == 0
        jobs = store.jobs.state()
        assert values["done"] == jobs.done == calls["job"], "each job is done once"
    assert all(calls[kind] for kind in ("transfer", "job", "sync", "read"))
    print(f"\n{WRITERS} writers, {READERS} readers, {SECONDS:g} s; milliseconds of a call:")
    for kind, found in times.items():
        found.sort()
        p50, p99 = (1000 * found[int(len(found) * part)] for part in (0.5, 0.99))
        print(f"  {kind:9} {len(found):6} calls  p50 {p50:7.1f}  p99 {p99:7.1f}  max {1000 * found[-1]:7.1f}")
