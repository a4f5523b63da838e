"""What leased work costs: processes that drain a queue together, a claim among many rows that are over, progress.

    python benchmarks/claims.py                  20,000 chunks by 8 processes, 200,000 for what must not grow; minutes
    python benchmarks/claims.py --quick          a tenth of both, one round
    python benchmarks/claims.py --chunks N --processes N
    python benchmarks/claims.py --json           one JSON object

Ours is the loop of docs/analysis.md, which completes a chunk and claims the next in one transaction; beside it
stand claim() and complete() as two calls. The rival is what a careful person writes by hand: one UPDATE … RETURNING
takes a row and stamps who has it and until when, a second one marks it done if it still is theirs, each committed by
itself. It works on a copy of the same file, through the same indexes and triggers, with the same pragmas and as many
processes, and takes turns with us. It reads no chunk, limits no concurrency, frees nothing that was lost and knows no
scan.

Everything runs in processes of its own (see `_common.py`); medians are reported. Exits with 1 when a bar is missed.
What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, Clock, median, part, percentile, serve, show  # noqa: E402
from snapshot import PRAGMAS  # noqa: E402

if TYPE_CHECKING:
    from threading import Barrier

    from scanstore import Store

PER_FILE = 50
LEFT = 1000  # chunks that wait beside those that are done
LEASE = 600.0


# Material


def record(store: Store, chunks: int) -> int:
    """Record a scan of so many chunks and return its id; no text is the same as another."""
    scan = store.scans.add("bench")
    with store.transaction():
        for number in range(-(-chunks // PER_FILE)):
            path = f"package_{number % 40}/module_{number}.py"
            pieces = [
                {"start_line": 1 + 20 * n, "end_line": 20 + 20 * n, "chunk_type": "function", "symbol_name": f"f{n}",
                 "content_hash": f"{number * PER_FILE + n:032x}"}
                for n in range(min(PER_FILE, chunks - number * PER_FILE))
            ]  # fmt: skip
            store.symbols.record_file(scan, path, f"{number:064x}", chunks=pieces, line_count=20 * len(pieces))
    return int(store.scans.finish(scan).id)


@part
def prepare(db: str, chunks: int, done: int) -> dict[str, Any]:
    """Make a store with one scan under analysis, of whose chunks the first are done; seconds that `analyze` took."""
    from scanstore import Store

    with Store(db) as store:
        scan = record(store, chunks)
        clock = Clock()
        store.scans.analyze(scan, scanner_concurrency=1000, pause_after=None)
        spent = clock.stop()
        store.database.execute_sql(
            "UPDATE chunk_work SET status = 'done', worker = 'bench',"
            " updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
            " WHERE id IN (SELECT id FROM chunk_work WHERE scan_id = ? ORDER BY rank, id LIMIT ?)",
            (scan, done),
        )
    return {"scan": scan, **spent}


# Many processes drain one queue

Claim = Callable[[], list[Any]]
Complete = Callable[[Any], object]


@contextmanager
def by_us(db: str, scan: int, limit: int) -> Iterator[tuple[Claim, Complete]]:
    from scanstore import Store

    with Store(db) as store:
        chunks = store.chunks
        assert store.drafts and store.llm.usage(scan) == []  # imported when first asked for
        yield lambda: chunks.claim(scan, limit=limit, lease=LEASE), chunks.complete


@contextmanager
def by_loop(db: str, scan: int, limit: int) -> Iterator[tuple[Claim, Complete]]:
    from scanstore import Store

    with Store(db) as store:
        assert store.drafts and store.llm.usage(scan) == []
        loop = store.chunks.work(scan, lease=LEASE, wait=False)
        yield lambda: list(islice(loop, limit)), store.chunks.complete


TAKE = """
UPDATE chunk_work SET status = 'running', worker = ?, lease_until = ?, updated_at = ?
 WHERE id IN (SELECT id FROM chunk_work WHERE scan_id = ? AND status = 'pending' AND next_retry_at IS NULL
               ORDER BY rank, id LIMIT ?)
RETURNING id
"""
MARK = """
UPDATE chunk_work SET status = 'done', lease_until = NULL, updated_at = ?
 WHERE id = ? AND status = 'running' AND worker = ?
"""


@contextmanager
def by_hand(db: str, scan: int, limit: int) -> Iterator[tuple[Claim, Complete]]:
    connection = sqlite3.connect(db, timeout=30, isolation_level=None)
    for name, value in PRAGMAS.items():
        connection.execute(f"PRAGMA {name}={value}").fetchall()
    worker = f"worker {multiprocessing.current_process().pid}"

    def claim() -> list[Any]:
        now = datetime.now(UTC)
        values = (worker, written(now + timedelta(seconds=LEASE)), written(now), scan, limit)
        return connection.execute(TAKE, values).fetchall()

    def complete(row: tuple[int]) -> None:
        if connection.execute(MARK, (written(datetime.now(UTC)), row[0], worker)).rowcount != 1:
            raise SystemExit(f"chunk {row[0]} was lost")

    try:
        yield claim, complete
    finally:
        connection.close()


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


DRAINERS = {"loop": by_loop, "us": by_us, "hand": by_hand}
_meeting: list[Barrier] = []


def meet(barrier: Barrier) -> None:
    _meeting.append(barrier)


def share(rival: str, db: str, scan: int, limit: int) -> dict[str, Any]:
    """Be one of the processes: take and complete until there is nothing to take."""
    taken: list[int] = []
    waits: list[float] = []
    locked = 0
    with DRAINERS[rival](db, scan, limit) as (claim, complete):
        _meeting[0].wait(120)
        used, start = cpu(), time.monotonic()
        while True:
            clock = time.perf_counter()
            try:
                rows = claim()
            except Exception as error:
                locked += refused(error)
                continue
            if not rows:
                break
            waits.append(1000 * (time.perf_counter() - clock))
            for row in rows:
                while True:
                    try:
                        complete(row)
                    except Exception as error:
                        locked += refused(error)
                        continue
                    break
                taken.append(row[0] if rival == "hand" else row.id)
        return {
            "taken": taken, "waits": waits, "locked": locked, "cpu": cpu() - used,
            "start": start, "end": time.monotonic(),
        }  # fmt: skip


def refused(error: Exception) -> int:
    """Count an error that says that the file was locked; raise any other."""
    if "locked" not in str(error):
        raise error
    return 1


def cpu() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


@part
def drain(template: str, work: str, scan: int, rival: str, limit: int, processes: int) -> dict[str, Any]:
    """Let processes drain a copy of the template, and look at what they left."""
    db = str(Path(work, "drain.db"))
    shutil.copy(template, db)
    context = multiprocessing.get_context("spawn")
    meeting = context.Barrier(processes)
    # Each waits for all the others, so that each of them gets one share.
    with ProcessPoolExecutor(processes, context, meet, (meeting,)) as pool:
        shares = [each.result() for each in [pool.submit(share, rival, db, scan, limit) for _ in range(processes)]]
    connection = sqlite3.connect(db)
    done, all_of_them = connection.execute("SELECT sum(status = 'done'), count(*) FROM chunk_work").fetchone()
    connection.close()
    for end in ("", "-wal", "-shm"):
        Path(db + end).unlink(missing_ok=True)
    taken = [key for each in shares for key in each["taken"]]
    waits = [wait for each in shares for wait in each["waits"]]
    return {
        "wall": max(each["end"] for each in shares) - min(each["start"] for each in shares),
        "cpu": sum(each["cpu"] for each in shares),
        "locked": sum(each["locked"] for each in shares),
        "wrong": abs(all_of_them - len(taken)) + len(taken) - len(set(taken)) + all_of_them - done,
        "p50": percentile(waits, 50), "p99": percentile(waits, 99), "most": max(waits),
        "least": min(len(each["taken"]) for each in shares), "largest": max(len(each["taken"]) for each in shares),
    }  # fmt: skip


def draining(bench: Bench, template: str, scan: int, work: Path, chunks: int, processes: int, rounds: int) -> None:
    """Compare the contenders, who take turns."""
    contenders = {
        "loop": ("loop", 1), "hand": ("hand", 1), "us": ("us", 1), "us, ten": ("us", 10), "hand, ten": ("hand", 10),
    }  # fmt: skip
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (rival, limit) in contenders.items():
            runs[name].append(
                bench.run(
                    drain, template=template, work=str(work), scan=scan, rival=rival, limit=limit, processes=processes
                )
            )

    def of(name: str, what: str) -> float:
        return median(run[what] for run in runs[name])

    def ratios(name: str, rival: str, what: str) -> list[float]:
        return [a[what] / b[what] for a, b in zip(runs[name], runs[rival], strict=True)]

    def ratio(name: str, rival: str, what: str) -> float:
        return median(ratios(name, rival, what))

    rounds_of_it = ", ".join(f"{each:.2f}" for each in ratios("hand", "loop", "wall"))

    ours = runs["loop"] + runs["us"] + runs["us, ten"]
    what = f"{processes} processes"
    bench.at_most(f"{what}: chunks not done exactly once", 0, sum(run["wrong"] for run in ours), "")
    bench.at_most(f"{what}: 'database is locked'", 0, sum(run["locked"] for run in ours), "")
    bench.at_least(
        f"{what}: chunks a second, against sqlite3 by hand", 0.6, 1 / ratio("loop", "hand", "wall"), " x",
        f"for chunk in work(): complete(chunk); {chunks / of('loop', 'wall'):,.0f} against"
        f" {chunks / of('hand', 'wall'):,.0f} a second;"
        f" rounds {rounds_of_it}; CPU {ratio('loop', 'hand', 'cpu'):.2f} x; a process did {of('loop', 'least'):,.0f} to"
        f" {of('loop', 'largest'):,.0f}, by hand {of('hand', 'least'):,.0f} to {of('hand', 'largest'):,.0f}",
    )  # fmt: skip
    bench.row(
        f"{what}: the same by claim() and complete()", "", f"{1 / ratio('us', 'hand', 'wall'):.2f} x", None,
        f"{chunks / of('us', 'wall'):,.0f} a second; CPU {ratio('us', 'hand', 'cpu'):.2f} x",
    )  # fmt: skip
    bench.row(
        f"{what}: the same, ten at a time", "", f"{1 / ratio('us, ten', 'hand, ten', 'wall'):.2f} x", None,
        f"{chunks / of('us, ten', 'wall'):,.0f} against {chunks / of('hand, ten', 'wall'):,.0f} a second;"
        f" CPU {ratio('us, ten', 'hand, ten', 'cpu'):.2f} x",
    )  # fmt: skip
    for name, label in (("us", f"{what}: a claim"), ("hand", f"{what}: a claim, sqlite3 by hand")):
        bench.row(
            label, "", f"{of(name, 'p50'):.2f} ms", None,
            f"median; p99 {of(name, 'p99'):.1f} ms, longest {of(name, 'most'):,.0f} ms",
        )  # fmt: skip


# A claim among many rows that are over


@part
def growing(small: str, large: str, scan: int, count: int) -> dict[str, Any]:
    """Claim and complete in two stores in turn; medians in milliseconds. Without fsync: it is the same for both."""
    from scanstore import Store

    stores = [Store(path, durability="normal") for path in (small, large)]
    times: list[dict[str, list[float]]] = [{"claim": [], "complete": [], "release": []} for _ in stores]
    for number in range(-count // 10, count):
        for store, spent in zip(stores, times, strict=True):
            clock = time.perf_counter()
            (chunk,) = store.chunks.claim(scan)
            store.chunks.release(chunk)
            released = time.perf_counter()
            (chunk,) = store.chunks.claim(scan)
            claimed = time.perf_counter()
            store.chunks.complete(chunk)
            completed = time.perf_counter()
            if number >= 0:
                spent["release"].append(1000 * (released - clock))
                spent["claim"].append(1000 * (claimed - released))
                spent["complete"].append(1000 * (completed - claimed))
    for store in stores:
        store.close()
    return {name: [median(spent[name]) for spent in times] for name in ("claim", "complete", "release")}


# Progress

CALLS = """
INSERT INTO model_calls (scan_id, model, purpose, chunk_id, process, status, started_at, ended_at, latency_ms,
                         prompt_tokens, completion_tokens, cost)
SELECT scan_id, 'bench', 'analysis', id, 'bench', 'answered', updated_at, updated_at, 900, 1800, 250, 0.002
  FROM chunk_work WHERE scan_id = ?
"""


@part
def progressing(db: str, scan: int, count: int) -> dict[str, Any]:
    """Ask how far the scan is, and count its work by hand, in turn; then again when every chunk has a model call."""
    from scanstore import Store

    with Store(db, durability="normal") as store:
        result: dict[str, Any] = {}
        for name in ("few calls", "many calls"):
            if name == "many calls":
                store.database.execute_sql(CALLS, (scan,))
            asked, counted = [], []
            for _ in range(count):
                clock = time.perf_counter()
                seen = store.scans.progress(scan)
                asked.append(1000 * (time.perf_counter() - clock))
                clock = time.perf_counter()
                rows = store.database.execute_sql(
                    "SELECT status, count(*) FROM chunk_work WHERE scan_id = ? GROUP BY status", (scan,)
                ).fetchall()
                counted.append(1000 * (time.perf_counter() - clock))
                if dict(rows) != seen.chunks:
                    raise SystemExit(f"progress says {seen.chunks} and the rows say {dict(rows)}")
            result[name] = {"asked": median(asked), "first": asked[0], "counted": median(counted), "calls": seen.calls}
    return result


# Work that need not be done


@part
def reusing(template: str, work: str, scan: int, chunks: int, count: int) -> dict[str, Any]:
    """Complete chunks one by one, then the same chunks of another copy from the cache; seconds for each chunk."""
    from scanstore import Store

    result = {}
    db = str(Path(work, "reuse.db"))
    for name in ("claimed", "reused"):
        shutil.copy(template, db)
        with Store(db) as store:
            store.llm.add("bench")
            analyzer = store.llm.analyzer("bench")
            store.database.execute_sql(
                "INSERT INTO analysis_cache (analyzer_id, content_hash, drafts)"
                " SELECT ?, content_hash, '[]' FROM chunk_facts",
                (analyzer.id,),
            )
            clock = time.perf_counter()
            if name == "reused":
                done = store.chunks.reuse(scan, analyzer)
                if done != chunks:
                    raise SystemExit(f"{done} of {chunks} chunks were found in the cache")
            else:
                done = count
                for _ in range(count):
                    store.chunks.complete(store.chunks.claim(scan)[0])
            result[name] = (time.perf_counter() - clock) / done
    return result


@part
def opening(small: str, large: str, count: int) -> list[float]:
    """Open two stores in turn, without anything to recover; medians in milliseconds."""
    from scanstore import Store

    times: list[list[float]] = [[], []]
    for _ in range(count):
        for path, spent in zip((small, large), times, strict=True):
            clock = time.perf_counter()
            store = Store(path)
            spent.append(1000 * (time.perf_counter() - clock))
            store.close()
    return [median(spent) for spent in times]


# All of it


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what leased work costs, as ratios in one run.")
    parser.add_argument("--chunks", type=int, help="chunks to drain; ten times as many for what must not grow")
    parser.add_argument("--processes", type=int, default=8, help="processes that drain (default: 8)")
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the chunks")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    chunks = options.chunks if options.chunks is not None else 2_000 if options.quick else 20_000
    if chunks < 1 or options.processes < 1:
        parser.error("there must be at least one chunk and one process")
    rounds, left = 1 if options.quick else 3, min(chunks, LEFT)
    with tempfile.TemporaryDirectory(prefix="scanstore-bench-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        template, small, large = (str(work / f"{name}.db") for name in ("template", "small", "large"))
        fresh = bench.run(prepare, db=template, chunks=chunks, done=0)
        draining(bench, template, fresh["scan"], work, chunks, options.processes, rounds)

        bench.run(prepare, db=small, chunks=chunks + left, done=chunks)
        grown = bench.run(prepare, db=large, chunks=10 * chunks + left, done=10 * chunks)
        found = bench.run(growing, small=small, large=large, scan=grown["scan"], count=left * 8 // 10)
        for name, label in (("claim", "a claim"), ("release", "a claim and its release"), ("complete", "a completion")):
            few, many = found[name]
            measure = f"{label} with {10 * chunks:,} rows done, against {chunks:,}"
            detail = f"{many:.3f} ms against {few:.3f} ms, one process, durability normal"
            if name == "complete":
                bench.row(measure, "", f"{many / few:.2f} x", None, detail)
            else:
                bench.at_most(measure, 1.3, many / few, " x", detail)

        little, much = bench.run(opening, small=small, large=large, count=10 if options.quick else 40)
        asked = bench.run(progressing, db=large, scan=grown["scan"], count=10 if options.quick else 40)
        for name, seen in asked.items():
            bench.at_most(
                f"progress() of {10 * chunks + left:,} chunks, {name}", 20, seen["asked"], " ms",
                f"{seen['asked'] / seen['counted']:.2f} x a grouped count of chunk_work ({seen['counted']:.1f} ms);"
                f" first {seen['first']:.1f} ms; {seen['calls']:,} model calls",
            )  # fmt: skip

        for name, spent, rows in (("", fresh, chunks), (", ten times larger", grown, 10 * chunks + left)):
            bench.row(f"analyze(){name}", "", f"{rows / spent['wall']:,.0f} rows/s", None, f"{rows:,} chunks")
        spent = bench.run(
            reusing, template=template, work=str(work), scan=fresh["scan"], chunks=chunks, count=min(chunks, 2000)
        )
        bench.row(
            "reuse() against claim + complete", "", f"{spent['claimed'] / spent['reused']:.1f} x", None,
            f"{1 / spent['reused']:,.0f} against {1 / spent['claimed']:,.0f} chunks a second, one process",
        )  # fmt: skip
        bench.row(
            "opening, ten times as many chunks", "", f"{much / little:.2f} x", None, f"{much:.2f} ms; {little:.2f} ms"
        )
    facts = {
        "chunks": chunks, "processes": options.processes, "rounds": rounds,
        "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version,
    }  # fmt: skip
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
