"""What `await` costs, and how long a loop waits while another thread writes.

    python benchmarks/async_face.py               200 queries at once; 50,000 scenes written
    python benchmarks/async_face.py --quick       a tenth of the scenes, one round
    python benchmarks/async_face.py --rows N
    python benchmarks/async_face.py --json        one JSON object

The queries are each one performer by its id: first one after the other on a Store, then all at once on an AsyncStore,
both warm, in one process; the medians of many turns are compared. While the scenes are written by one call, the loop
does nothing but sleep for a millisecond, again and again; the delay is what it slept beyond that, and the worst one of
the write counts. The same is measured of a loop that has nothing beside it, and of one beside a thread that
does nothing but count, which is as polite as a thread of Python can be. On a machine that does other things too these
are late as well; the median of several rounds counts, and all are printed.

Everything runs in processes of its own (see `_common.py`). Exits with 1 when a bar is missed.
What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, median, part, serve, show  # noqa: E402

QUERIES, PERFORMERS, TURNS, ROUNDS = 200, 5_000, 25, 5
NAP, IDLE = 0.001, 2.0  # seconds


@part
def queries(db: str) -> dict[str, Any]:
    """Seconds of the queries in sequence and at once."""
    from scanstore import AsyncStore, Store

    keys = [f"p{n}" for n in range(0, PERFORMERS, PERFORMERS // QUERIES)]
    with Store(db) as store:
        store.library.upsert_performers({"id": f"p{n}", "name": f"Performer {n}"} for n in range(PERFORMERS))

    def in_sequence(store: Store) -> float:
        began = time.perf_counter()
        for key in keys:
            store.library.get("performer", key)
        return time.perf_counter() - began

    async def at_once(store: AsyncStore) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(store.library.get("performer", key) for key in keys))
        return time.perf_counter() - began

    async def both() -> dict[str, Any]:
        found: dict[str, list[float]] = {"sequence": [], "at_once": []}
        with Store(db) as plain:
            async with AsyncStore(db) as awaited:
                for turn in range(TURNS + 2):
                    one, all_ = in_sequence(plain), await at_once(awaited)
                    if turn > 1:  # threads and connections are there by then
                        found["sequence"].append(one)
                        found["at_once"].append(all_)
        return {name: median(values) for name, values in found.items()}

    return asyncio.run(both())


def records(scenes: int) -> Iterator[dict[str, Any]]:
    for n in range(scenes):
        yield {
            "id": str(n),
            "title": f"Scene {n}",
            "paths": [f"/media/library/{n % 100}/scene_{n}.mp4"],
            "details": "What happens in it, in a sentence or two of text. " * 3,
            "studio": {"id": f"s{n % 100}", "name": f"Studio {n % 100}"},
            "performers": [{"id": f"p{(n + k) % 2_000}", "name": f"Performer {(n + k) % 2_000}"} for k in range(3)],
            "tags": [{"id": f"t{(n + k) % 400}", "name": f"Tag {(n + k) % 400}"} for k in range(5)],
        }


def count_for(seconds: float) -> int:
    end, n = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        n += 1
    return n


@part
def writing(db: str, scenes: int) -> dict[str, Any]:
    """The worst delay of a loop, in seconds: beside a write, and beside nothing before and after it."""
    from scanstore import AsyncStore

    async def worst_beside(work: Awaitable[Any]) -> tuple[float, float]:
        worst = 0.0
        task = asyncio.ensure_future(work)
        began = time.perf_counter()
        while not task.done():
            before = time.perf_counter()
            await asyncio.sleep(NAP)
            worst = max(worst, time.perf_counter() - before - NAP)
        await task
        return worst, time.perf_counter() - began

    async def main() -> dict[str, Any]:
        async with AsyncStore(db) as store:
            await store.library.upsert_scenes(records(100))  # what is imported, is imported
            given = list(records(scenes))
            gc.collect()
            before, _ = await worst_beside(asyncio.sleep(IDLE))
            write, took = await worst_beside(store.library.upsert_scenes(given))
            after, _ = await worst_beside(asyncio.sleep(IDLE))
            counting, _ = await worst_beside(asyncio.to_thread(count_for, IDLE))
            began = time.perf_counter()
            gc.collect()
            collection = time.perf_counter() - began
            count = (await store.library.stats()).scenes
        return {
            "idle": max(before, after), "counting": counting, "write": write, "took": took,
            "collection": collection, "scenes": count,
        }  # fmt: skip

    return asyncio.run(main())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the scenes, one round")
    parser.add_argument("--rows", type=int, help="scenes [default: 50,000]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    scenes = options.rows if options.rows is not None else 5_000 if options.quick else 50_000
    if scenes < 100:
        parser.error("--rows must be at least 100")
    rounds = 1 if options.quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="scanstore-async-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        asked = [bench.run(queries, db=str(work / f"queries{number}.db")) for number in range(rounds)]
        best = min(asked, key=lambda run: run["at_once"] / run["sequence"])
        ratios = sorted(run["at_once"] / run["sequence"] for run in asked)
        bench.at_most(
            f"{QUERIES} queries at once, against in sequence", 2.5, median(ratios), " x",
            f"{best['at_once'] * 1e3:.1f} ms against {best['sequence'] * 1e3:.1f} ms; all rounds: "
            + ", ".join(f"{ratio:.2f}" for ratio in ratios),
        )  # fmt: skip
        written = [bench.run(writing, db=str(work / f"write{number}.db"), scenes=scenes) for number in range(rounds)]
        delays = {name: sorted(run[name] * 1e3 for run in written) for name in ("write", "counting", "idle")}
        least = min(written, key=lambda run: run["write"])
        rest = {name: "worst of each round: " + ", ".join(f"{ms:.0f}" for ms in each) for name, each in delays.items()}
        bench.at_most(
            f"the loop's delay while {scenes:,} scenes are written", 20, median(delays["write"]), " ms",
            f"{least['took']:.2f} s; {rest['write']}",
        )  # fmt: skip
        for name, beside in (("counting", "a thread that counts"), ("idle", "nothing")):
            bench.row(f"the loop's delay beside {beside}", "", f"{median(delays[name]):.2f} ms", None, rest[name])
        bench.row(
            "a full garbage collection of that program", "", f"{least['collection'] * 1e3:.0f} ms", None,
            "it stops the loop when it falls into the write",
        )  # fmt: skip
    facts = {"scenes": scenes, "rounds": rounds, "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
