"""What keeping a store healthy costs: copies, checks, repairs, and look-ups when it has ten times the rows.

    python benchmarks/maintenance.py                 the standard library, and ten others like it; some minutes
    python benchmarks/maintenance.py --quick         only its `asyncio` and `email`
    python benchmarks/maintenance.py --copies 65     about 1 GB
    python benchmarks/maintenance.py --search        with all symbols in the full-text search
    python benchmarks/maintenance.py --corpus PATH   another tree
    python benchmarks/maintenance.py --json          one JSON object

The large store has the tree once more for each copy, every file of it with a line of its own at the end, so that no
fact is shared: it is what another target with the same names, or a history in which every file has changed, costs.

- a copy against `cp` of the same file, both until they are on the disk; verifying the copy stands in a row of its own;
- a check against `PRAGMA integrity_check` of the same file on a bare connection;
- look-ups of the same symbols in the small store and in the large one.

Everything runs in processes of its own (see `_common.py`), rivals alternate, medians are reported. Exits with 1 when a
bar is missed. What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, Clock, median, part, peak_memory, serve, show, stdlib  # noqa: E402

ROUNDS = 5
QUICK = ("asyncio", "email")
QUESTIONS = 300


def tree(corpus: Path, names: tuple[str, ...], target: Path, number: int) -> None:
    """A copy of the .py files; from the second on, each has a line of its own."""
    for path in sorted(file for name in names or (".",) for file in (corpus / name).rglob("*.py")):
        inside = path.relative_to(corpus)
        if {"test", "site-packages", "__pycache__"} & set(inside.parts):
            continue
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        (target / inside).write_bytes(path.read_bytes() + (f"\n# copy {number}\n".encode() if number else b""))


@part
def record(db: str, corpus: str, names: list[str], first: int, last: int, search: bool) -> dict[str, Any]:
    """Record copies of the tree as targets of their own."""
    from scanstore import Store

    with Store(db, durability="normal") as store:
        for number in range(first, last):
            with tempfile.TemporaryDirectory(prefix="scanstore-copy-") as folder:
                tree(Path(corpus), tuple(names), Path(folder), number)
                store.scans.record(folder)
        if search:
            store.search("nothing", kind="symbol")
        store.optimize()
        rows = sum(table.rows for table in store.stats().tables if not table.name.startswith("sqlite_"))
        return {"rows": rows, "bytes": os.path.getsize(db)}


@part
def copy(db: str, target: str) -> dict[str, Any]:
    """Seconds of copying, until it is on the disk, and of verifying."""
    from scanstore import Store

    with Store(db) as store:
        done = store.backup(target)
    os.unlink(target)
    return {"copying": done.seconds, "verifying": done.verifying, "memory": peak_memory()}


def by_cp(db: str, target: str) -> float:
    start = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", db, target], check=True)
    with open(target, "r+b") as file:
        os.fsync(file.fileno())
    spent = time.perf_counter() - start
    os.unlink(target)
    return spent


@part
def check(db: str) -> dict[str, Any]:
    from scanstore import Store

    with Store(db) as store:
        clock = Clock()
        problems = store.check()
        return {**clock.stop(), "problems": [problem.what for problem in problems], "memory": peak_memory()}


@part
def integrity(db: str) -> dict[str, Any]:
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA cache_size=-32000")
    clock = Clock()
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return clock.stop()


@part
def tidy(db: str, what: str) -> dict[str, Any]:
    from scanstore import Store

    with Store(db) as store:
        done = getattr(store, what)()
        return {**done._asdict(), "memory": peak_memory()}


@part
def mend(db: str, target: str) -> dict[str, Any]:
    """Repair a copy that has lost every hundredth page."""
    from scanstore import Store

    shutil.copy(db, target)
    count = os.path.getsize(target) // 4096
    with open(target, "r+b") as file:
        for page in random.Random(5).sample(range(1, count), max(count // 100, 1)):
            file.seek(page * 4096)
            file.write(b"\0" * 4096)
    done = Store.repair(target, target + ".new")
    return {
        "seconds": done.seconds,
        "rows": sum(table.rows for table in done.tables),
        "lost": sum(table.lost for table in done.tables),
        "problems": len(done.problems),
        "memory": peak_memory(),
    }


@part
def look_up(db: str, count: int) -> dict[str, Any]:
    """Median milliseconds of CPU of each question about random symbols of the first scan."""
    from scanstore import Store

    with Store(db, read_only=True) as store:
        everything = [s for s in store.symbols.list(scan=1) if s.symbol_type in ("function", "class", "method")]
        chosen = random.Random(7).choices(everything, k=count)
        asked: dict[str, Callable[[Any], Any]] = {
            "by name": lambda symbol: store.symbols.find(symbol.name, scan=1),
            "by qualified name": lambda symbol: store.symbols.find(symbol.qualified_name, scan=1),
            "references": lambda symbol: store.symbols.references(symbol),
            "callers": lambda symbol: store.symbols.callers(symbol),
            "impact, depth 3": lambda symbol: store.symbols.impact(symbol, depth=3),
        }
        spent: dict[str, Any] = {}
        for name, ask in asked.items():
            for symbol in chosen[:20]:
                ask(symbol)
            times = []
            for symbol in chosen:
                start = time.thread_time()
                ask(symbol)
                times.append(1000 * (time.thread_time() - start))
            spent[name] = median(times)
        return spent


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small tree, fewer rounds")
    parser.add_argument("--copies", type=int, default=10, help="how often the large store has the tree [default: 10]")
    parser.add_argument("--search", action="store_true", help="take all symbols up into the full-text search")
    parser.add_argument("--corpus", type=Path, help="the tree [default: the standard library]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    if options.copies < 2:
        parser.error("--copies must be at least 2")
    corpus: Path = options.corpus or stdlib()
    if not corpus.is_dir():
        parser.error(f"{corpus} is not a folder")
    names = list(QUICK) if options.quick and options.corpus is None else []
    rounds = 3 if options.quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="scanstore-maintenance-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        small, large, target = (str(work / name) for name in ("small.db", "large.db", "target.db"))
        few = bench.run(record, db=small, corpus=str(corpus), names=names, first=0, last=1, search=options.search)
        shutil.copy(small, large)
        many = bench.run(
            record, db=large, corpus=str(corpus), names=names, first=1, last=options.copies, search=options.search
        )
        measure(bench, small, large, target, rounds, many)
    facts = {
        "corpus": str(corpus), "rows": few["rows"], "rows of the large store": many["rows"],
        "bytes of the large store": many["bytes"], "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version,
    }  # fmt: skip
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


def measure(bench: Bench, small: str, large: str, target: str, rounds: int, many: dict[str, Any]) -> None:
    megabytes = many["bytes"] / 1e6
    copies, plain = [], []
    for _ in range(rounds):
        plain.append(by_cp(large, target))
        copies.append(bench.run(copy, db=large, target=target))
    copying, verifying = (median(run[name] for run in copies) for name in ("copying", "verifying"))
    bench.at_least(
        "backup, speed against cp", 0.5, median(plain) / copying, " x",
        f"{copying:.2f} s against {median(plain):.2f} s for {megabytes:.0f} MB; peak {copies[0]['memory']:.0f} MB",
    )  # fmt: skip
    bench.row("verifying the copy", "", f"{verifying:.2f} s", None, f"{median(plain) / (copying + verifying):.2f} x cp")
    checks, bare = [], []
    for _ in range(rounds):
        bare.append(bench.run(integrity, db=large))
        checks.append(bench.run(check, db=large))
    spent, alone = (median(run["own"] for run in runs) for runs in (checks, bare))
    bench.at_most(
        "check, time against integrity_check", 2, spent / alone, " x",
        f"{spent:.2f} s against {alone:.2f} s of CPU; {len(checks[0]['problems'])} problems;"
        f" peak {checks[0]['memory']:.0f} MB",
    )  # fmt: skip
    spent, alone = (median(run["wall"] for run in runs) for runs in (checks, bare))
    bench.row("… on the wall", "", f"{spent / alone:.2f} x", None, f"{spent:.2f} s against {alone:.2f} s")
    answers = [(bench.run(look_up, db=small, count=QUESTIONS), bench.run(look_up, db=large, count=QUESTIONS))]
    answers += [
        (bench.run(look_up, db=small, count=QUESTIONS), bench.run(look_up, db=large, count=QUESTIONS))
        for _ in range(rounds - 1)
    ]
    for name in answers[0][0]:
        before, after = (median(pair[side][name] for pair in answers) for side in (0, 1))
        bench.at_most(
            f"look-up {name}, {many['rows']:,} rows", 1.5, after / before, " x", f"{before:.3f} ms, {after:.3f} ms"
        )
    for what in ("optimize", "vacuum"):
        done = bench.run(tidy, db=large, what=what)
        bench.row(
            what, "", f"{done['seconds']:.2f} s", None,
            f"{done['before'] / 1e6:.0f} MB, then {done['after'] / 1e6:.0f} MB; peak {done['memory']:.0f} MB",
        )  # fmt: skip
    done = bench.run(mend, db=large, target=target)
    bench.row(
        "repair, every hundredth page lost", "", f"{megabytes / done['seconds']:.1f} MB/s", None,
        f"{done['rows']:,} rows saved, {done['lost']:,} lost, {done['problems']} problems;"
        f" peak {done['memory']:.0f} MB",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
