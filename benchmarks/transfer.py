"""What it costs to dump a store, to load the dump, and to merge two stores: per row, and in memory.

    python benchmarks/transfer.py                a store of some 80,000 rows, and one of four times as many
    python benchmarks/transfer.py --quick        a tenth of the rows
    python benchmarks/transfer.py --rows N       rows of the smaller one, about
    python benchmarks/transfer.py --json         one JSON object

The stores hold synthetic files, each with symbols, references and names of its own, and findings of a tool. Merged is
the smaller store into one that has other files of the same target. Linear is measured as the time of a row in the
larger store against that in the smaller one; the median of the rounds counts. Memory is measured in rounds of their
own, with a page cache of 2 MB, since the usual one of 32 MB is not full before a store is much larger than that.

Everything runs in processes of its own (see `_common.py`). Exits with 1 when a bar is missed.
What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, Clock, median, part, peak_memory, serve, show  # noqa: E402

ROWS_PER_FILE = 100
TIMES = 4
ROUNDS = 3


@part
def fill(db: str, files: int, first: int) -> None:
    """Make a store with so many files, from a number on."""
    from scanstore import Store

    with Store(db, durability="normal") as store:
        scan = store.scans.add("bench")
        with store.transaction():
            for number in range(first, first + files):
                names = [f"name_{number}_{n}" for n in range(25)]
                store.symbols.record_file(
                    scan,
                    f"package_{number % 40}/module_{number}.x",
                    f"{number:064x}",
                    symbols=[{"name": name, "start_line": 10 * n + 1} for n, name in enumerate(names)],
                    references=[
                        {"name": names[n % 25], "line": n + 1, "from_symbol": names[n % 7], "target": names[n % 25]}
                        for n in range(50)
                    ],
                )
        row = store.scans.finish(scan)
        store.database.executemany(
            "INSERT INTO findings (lineage_id, scan_id, first_scan_id, rule_id, title, vulnerability_type, severity,"
            " file_path, line_number) VALUES (?, ?, ?, 'r', ?, 'x', 'low', ?, 1)",
            ((row.lineage_id, row.id, row.id, f"t{n}", f"f{n}") for n in range(first, first + 5 * files)),
        )
        store.database.execute_sql(
            "INSERT INTO sightings (scan_id, finding_id, state, file_path, line_number)"
            " SELECT scan_id, id, 'new', file_path, 1 FROM findings"
        ).fetchall()


@part
def dumping(db: str, file: str, cache: int = 32) -> dict[str, Any]:
    from scanstore import Store

    with Store(db) as store:
        store.database.execute_sql(f"PRAGMA cache_size = -{cache}000").fetchall()
        clock = Clock()
        told = store.dump(file)
        return {**clock.stop(), "rows": told.rows, "bytes": told.bytes, "memory": peak_memory()}


@part
def loading(db: str, file: str, cache: int = 32) -> dict[str, Any]:
    from scanstore import Store

    Path(db).unlink(missing_ok=True)
    with Store(db) as store:
        store.database.execute_sql(f"PRAGMA cache_size = -{cache}000").fetchall()
        clock = Clock()
        told = store.load(file)
        return {**clock.stop(), "rows": told.rows, "memory": peak_memory()}


@part
def merging(db: str, other: str) -> dict[str, Any]:
    import shutil

    from scanstore import Store

    shutil.copy(db, f"{db}.copy")
    with Store(f"{db}.copy") as store:
        clock = Clock()
        found = store.merge(other)
        spent = clock.stop()
        again = Clock()
        assert store.merge(other).added == 0
        return {**spent, "rows": found.added, "again": again.stop()["wall"], "memory": peak_memory()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--rows", type=int, help="rows of the smaller store [default: 80,000]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    rows = options.rows if options.rows is not None else 8_000 if options.quick else 80_000
    if rows < ROWS_PER_FILE:
        parser.error(f"--rows must be at least {ROWS_PER_FILE}")
    files = rows // ROWS_PER_FILE
    with tempfile.TemporaryDirectory(prefix="scanstore-transfer-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        small, large, other = (str(work / f"{name}.db") for name in ("small", "large", "other"))
        bench.run(fill, db=small, files=files, first=0)
        bench.run(fill, db=large, files=TIMES * files, first=0)
        bench.run(fill, db=other, files=files, first=10**6)
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(ROUNDS):
            for size, db in (("small", small), ("large", large)):
                file = f"{db}.jsonl"
                found.setdefault(f"dump {size}", []).append(bench.run(dumping, db=db, file=file))
                found.setdefault(f"load {size}", []).append(bench.run(loading, db=f"{db}.loaded", file=file))
            found.setdefault("merge", []).append(bench.run(merging, db=small, other=other))
        memory: dict[str, float] = {}
        for size, db in (("small", small), ("large", large)):
            memory[f"dump {size}"] = bench.run(dumping, db=db, file=f"{db}.jsonl", cache=2)["memory"]
            memory[f"load {size}"] = bench.run(loading, db=f"{db}.loaded", file=f"{db}.jsonl", cache=2)["memory"]

        def per_row(name: str) -> float:
            return median(each["wall"] for each in found[name]) / found[name][0]["rows"]

        count = found["dump large"][0]["rows"]
        for name in ("dump", "load"):
            bench.at_most(
                f"{name}: time of a row, {TIMES} x the rows", 1.5,
                per_row(f"{name} large") / per_row(f"{name} small"), " x",
                f"{1 / per_row(f'{name} large'):,.0f} rows/s of {count:,} rows",
            )  # fmt: skip
            bench.at_most(
                f"{name}: memory, {TIMES} x the rows", 1.25, memory[f"{name} large"] / memory[f"{name} small"], " x",
                f"{memory[f'{name} small']:.0f} MB and {memory[f'{name} large']:.0f} MB",
            )  # fmt: skip
        bench.at_least(
            "merge: rows/s against load", 0.5, per_row("load small") / per_row("merge"), " x",
            f"{1 / per_row('merge'):,.0f} rows/s of {found['merge'][0]['rows']:,} rows;"
            f" again {median(each['again'] for each in found['merge']):.2f} s;"
            f" {median(each['memory'] for each in found['merge']):.0f} MB",
        )  # fmt: skip
    facts = {"rows": count, "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
