"""What full-text search costs: queries over many findings and symbols, and the first search, which takes all up.

    python benchmarks/search.py                  100,000 rows: half findings, half symbols; 400 queries
    python benchmarks/search.py --quick          a tenth of the rows
    python benchmarks/search.py --rows N
    python benchmarks/search.py --json           one JSON object

The words are those of the running interpreter's own docstrings, as often as they are there, so that some are in a third
of all rows and most in a few. A query is one to three of them, drawn from the texts: a common word is asked for as
often as it is written. Both kinds are searched at once, twenty hits with snippets, in a store that was opened as
usual; the first search, which takes up what is new, is measured apart.

Everything runs in processes of its own (see `_common.py`). Exits with 1 when a bar is missed.
What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, Clock, median, part, percentile, serve, show, stdlib  # noqa: E402

PER_FILE = 40
QUERIES = 400
COLUMNS = ("lineage_id", "scan_id", "first_scan_id", "rule_id", "title", "message", "vulnerability_type", "severity",
           "file_path", "line_number", "snippet")  # fmt: skip
INSERT = f"INSERT INTO findings ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def vocabulary() -> list[str]:
    """The words of the standard library's docstrings, each as often as it is written there."""
    words: list[str] = []
    for path in sorted(stdlib().glob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                words += re.findall(r"[A-Za-z]{2,}", ast.get_docstring(node) or "")
    return words


@part
def fill(db: str, rows: int) -> dict[str, Any]:
    """Make a store with so many findings and symbols, and what to ask it."""
    from scanstore import Store

    chosen = random.Random(4)
    words = vocabulary()

    def some(least: int, most: int) -> str:
        return " ".join(chosen.choices(words, k=chosen.randint(least, most)))

    with Store(db, durability="normal") as store:
        scan = store.scans.add("bench")
        with store.transaction():
            for number in range(rows // 2 // PER_FILE):
                symbols = [
                    {"name": "_".join(chosen.choices(words, k=2)).lower(), "symbol_type": "function",
                     "start_line": 1 + 9 * n, "end_line": 9 + 9 * n, "metadata": {"docstring": some(5, 40)}}
                    for n in range(PER_FILE)
                ]  # fmt: skip
                path = f"package_{number % 40}/module_{number}.py"
                store.symbols.record_file(scan, path, f"{number:064x}", symbols=symbols)
        row = store.scans.finish(scan)
        findings = [
            (row.lineage_id, row.id, row.id, f"rule_{n % 60}", some(3, 8), some(10, 30), "x", "high",
             f"package_{n % 40}/module_{n % 900}.py", n % 900 + 1, some(5, 15))
            for n in range(rows // 2)
        ]  # fmt: skip
        with store.transaction():
            store.database.executemany(INSERT, findings).fetchall()
    queries = [" ".join(chosen.choices(words, k=1 + n % 3)) for n in range(QUERIES)]
    return {"queries": queries}


@part
def first(db: str) -> dict[str, Any]:
    """The first search, which takes everything up."""
    from scanstore import Store

    with Store(db, durability="normal") as store:
        clock = Clock()
        store.search("first")
        spent = clock.stop()
        run = store.database.execute_sql
        rows = [
            run(f"SELECT count(*) FROM {table}_docsize").fetchone()[0] for table in ("finding_search", "symbol_search")
        ]
        return {**spent, "findings": rows[0], "symbols": rows[1]}


@part
def ask(db: str, queries: list[str]) -> dict[str, Any]:
    """Milliseconds of each query, and how many hits it had."""
    from scanstore import Store

    with Store(db) as store:
        store.search(queries[0])
        spent, hits = [], 0
        for query in queries:
            clock = Clock()
            hits += len(store.search(query))
            spent.append(clock.stop()["wall"] * 1000)
    return {"spent": spent, "hits": hits}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--rows", type=int, help="findings and symbols together [default: 100,000]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    rows = options.rows if options.rows is not None else 10_000 if options.quick else 100_000
    if rows < 2 * PER_FILE:
        parser.error(f"--rows must be at least {2 * PER_FILE}")
    with tempfile.TemporaryDirectory(prefix="scanstore-search-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        db = str(work / "search.db")
        made = bench.run(fill, db=db, rows=rows)
        taken = bench.run(first, db=db)
        asked = bench.run(ask, db=db, queries=made["queries"])
        count = taken["findings"] + taken["symbols"]
        bench.at_most(
            f"search over {count:,} rows, p95", 30, percentile(asked["spent"], 95), " ms",
            f"median {median(asked['spent']):.2f} ms, longest {max(asked['spent']):.2f} ms;"
            f" {len(asked['spent'])} queries, {asked['hits']:,} hits",
        )  # fmt: skip
        bench.row(
            "first search, which takes all up", "", f"{taken['wall']:.2f} s", None,
            f"{taken['findings']:,} findings, {taken['symbols']:,} symbols; {count / taken['wall']:,.0f} rows/s",
        )  # fmt: skip
    facts = {"searched_rows": count, "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
