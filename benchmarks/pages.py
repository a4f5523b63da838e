"""What lists on a screen cost, against the least that SQLite needs for them.

    python benchmarks/pages.py                  173,000 symbols, 536,000 references, 100,000 scenes, 250,000 changes
    python benchmarks/pages.py --quick          a tenth of them
    python benchmarks/pages.py --scale 0.5      another share of them
    python benchmarks/pages.py --json           one JSON object

The rows are written in bulk: one scan whose files have 80 symbols and 250 references each, a library, and a plan. A
page is compared with `count(*)` and the first 50 rows of its base table, counts with a GROUP BY on a covering index
that exists only here, a summary with reading the scan, and a search by name with the same search in a table of names
that has an index of its own, or a trigram index with positions. The scan is completed, so its figures are kept; its
bindings are written by hand, and the figures are counted once more after that. The two sides take turns, and the
medians of their CPU are compared.

Everything runs in processes of its own (see `_common.py`). Exits with 1 when a bar is missed.
What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, median, part, serve, show  # noqa: E402

SYMBOLS, REFERENCES, SCENES, CHANGES = 173_000, 536_000, 100_000, 250_000
PER_FILE = 250  # references
ROUNDS = 9
VERBS = "read write open close find send merge parse build check load store start stop move list".split()
NOUNS = "user order basket invoice report session token buffer header payload queue folder price".split()
KINDS = ("class", "method", "method", "function", "method", "variable", "method", "function")


@part
def build(db: str, scale: float) -> dict[str, Any]:
    """Write the rows, and return how many there are and how long it took."""
    from scanstore import Store
    from scanstore.snapshots import figures

    began = time.process_time()
    with Store(db, durability="normal") as store:
        scan = store.scans.add("synthetic", root="/synthetic")
        run, many = store.database.execute_sql, store.database.executemany
        files = max(int(REFERENCES * scale) // PER_FILE, 4)
        symbols = int(SYMBOLS * scale) // files
        with store.database.atomic():
            names: dict[str, int] = {}
            many(
                "INSERT INTO file_versions (id, path, content_hash, indexer, module, line_count)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                ((f, path_of(f), f"{f:032x}".encode(), "python/1", module_of(f), 170) for f in range(1, files + 1)),
            )
            many(
                "INSERT INTO scan_files (scan_id, version_id, file_path, file_hash, status)"
                " VALUES (?, ?, ?, ?, 'done')",
                ((scan.id, f, path_of(f), f"{f:032x}".encode()) for f in range(1, files + 1)),
            )
            many(
                "INSERT INTO symbol_facts (version_id, ordinal, name_id, qualified_name_id, symbol_type, start_line,"
                " end_line) VALUES (?, ?, ?, ?, ?, ?, ?)",
                symbol_rows(files, symbols, names),
            )
            many(
                "INSERT INTO reference_facts (version_id, ordinal, line, from_ordinal, reference_type, name_id,"
                " path_id, symbol_ordinal, resolution, confidence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                reference_rows(files, symbols, names),
            )
            many("INSERT INTO names (text, id) VALUES (?, ?)", names.items())
        store.scans.finish(scan)
        with store.database.atomic():
            many(
                "INSERT INTO bindings (lineage_id, path_id, since, version_id, ordinal, resolution, confidence)"
                " VALUES (?, ?, 1, ?, ?, 'imported', 100) ON CONFLICT DO NOTHING",
                bound_rows(scan.lineage_id, files, symbols, names),
            )
            many(
                "INSERT INTO scenes (id, title, paths, details, scene_date, scene_date_precision)"
                " VALUES (?, ?, '[]', ?, ?, 'day')",
                (
                    (str(n), f"{NOUNS[n % 13].title()} {n * 7919 % 100_003}", "A sentence or two of text. " * 6,
                     f"20{n % 26:02}-{n % 12 + 1:02}-{n % 28 + 1:02}T00:00:00.000Z")
                    for n in range(int(SCENES * scale))
                ),
            )  # fmt: skip
        plan = store.plans.add("synthetic")
        with store.database.atomic():
            many(
                "INSERT INTO plan_changes (plan_id, target_key, scene_id, field, action, proposed_value, proposed_hash,"
                " confidence) VALUES (?, ?, ?, ?, 'set', ?, ?, ?)",
                (
                    (plan.id, key, key, ("title", "details", "date", "studio", "organized")[n % 5],
                     '"A new value, as long as they usually are"', n.to_bytes(32, "big"), n * 31 % 101 / 100)
                    for n in range(int(CHANGES * scale)) for key in [str(n % int(SCENES * scale))]
                ),
            )  # fmt: skip
        run("PRAGMA analysis_limit = 400")
        run("ANALYZE")
        figures.keep(store.database, scan.id)
        store.symbols.find("nothing like it", match="contains")
        return {
            "files": files, "symbols": files * symbols, "references": files * PER_FILE, "names": len(names),
            "scenes": int(SCENES * scale), "changes": int(CHANGES * scale), "cpu": time.process_time() - began,
        }  # fmt: skip


def path_of(file: int) -> str:
    return f"package{file % 40}/{NOUNS[file % 13]}_{file}.py"


def module_of(file: int) -> str:
    return path_of(file)[:-3].replace("/", ".")


def name_of(symbol: int) -> str:
    return f"{VERBS[symbol % 16]}_{NOUNS[symbol * 7 % 13]}_{symbol % 400}"


def _id(names: dict[str, int], text: str) -> int:
    return names.setdefault(text, len(names) + 1)


def symbol_rows(files: int, symbols: int, names: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    for file in range(1, files + 1):
        module = module_of(file)
        yield file, 0, _id(names, module.rpartition(".")[2]), _id(names, module), "module", 1, 170
        for n in range(1, symbols):
            name = name_of(file * 31 + n)
            qualified = _id(names, f"{module}.{name}")
            yield file, n, _id(names, name), qualified, KINDS[n % 8], 2 * n, 2 * n + 1


def reference_rows(files: int, symbols: int, names: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    """A third is decided in the file, a third is bound, a third is open."""
    for file in range(1, files + 1):
        for n in range(PER_FILE):
            other = (file * 17 + n) % files + 1
            target = (file + n) % (symbols - 1) + 1
            name = name_of((file if n % 3 == 0 else other) * 31 + target)
            path = _id(names, f"{module_of(other)}.{name}") if n % 3 == 1 else None
            where = target if n % 3 == 0 else None
            kind = "import" if n % 10 == 0 else "call"
            resolution = "exact" if n % 3 == 0 else "unresolved"
            yield file, n, n // 2 + 1, n % symbols, kind, _id(names, name), path, where, resolution, 100 * (n % 3 < 2)


def bound_rows(lineage: int, files: int, symbols: int, names: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    for file in range(1, files + 1):
        for n in range(1, symbols, 2):
            path = names.get(f"{module_of(file)}.{name_of(file * 31 + n)}")
            if path is not None:
                yield lineage, path, file, n


# By hand

INDEXES = """
CREATE INDEX hand_symbol_type ON symbol_facts (symbol_type);
CREATE INDEX hand_reference_type ON reference_facts (reference_type);
CREATE INDEX hand_resolution ON reference_facts (resolution);
CREATE INDEX hand_field ON plan_changes (field);
CREATE TABLE hand_names (id INTEGER PRIMARY KEY, text TEXT);
INSERT INTO hand_names SELECT id, text FROM names;
CREATE INDEX hand_text ON hand_names (text);
CREATE VIRTUAL TABLE hand_trigrams USING fts5 (text, content='hand_names', content_rowid='id', tokenize='trigram');
INSERT INTO hand_trigrams (hand_trigrams) VALUES ('rebuild');
"""
FOUND = """
SELECT s.version_id, s.ordinal, n.text, q.text, s.symbol_type, f.file_path, s.start_line, s.end_line
  FROM ({names}) AS w
 CROSS JOIN symbol_facts AS s ON s.qualified_name_id = w.id
 CROSS JOIN scan_files AS f ON f.version_id = s.version_id AND f.scan_id = 1
 CROSS JOIN names AS n ON n.id = s.name_id CROSS JOIN names AS q ON q.id = s.qualified_name_id
 ORDER BY s.symbol_type, f.file_path, s.start_line LIMIT 20
"""
PREFIX = "SELECT id FROM hand_names WHERE text >= '{0}' AND text < '{0}~'"
CONTAINS = "SELECT rowid AS id FROM hand_trigrams WHERE hand_trigrams MATCH '\"{0}\"'"


def page_by_hand(table: str, order: str = "rowid DESC") -> tuple[str, ...]:
    return f"SELECT count(*) FROM {table}", f"SELECT * FROM {table} ORDER BY {order} LIMIT 50"


@part
def measure(db: str, rounds: int) -> list[tuple[str, float, float, float]]:
    """Return each measure with its bar, and the median CPU of a call and of what it is compared with."""
    from scanstore import Store
    from scanstore.models import PlanChange, Scan, Scene, Symbol, SymbolReference

    prefix, contains = "package7.invoice_", "_order_39"
    with Store(db) as store, sqlite3.connect(f"{db}.hand") as hand:

        def sql(*statements: str) -> Callable[[], None]:
            return lambda: [hand.execute(statement).fetchall() for statement in statements] and None

        plan = store.plans.list()[0]
        facts = "version_id DESC, ordinal DESC"
        cases: list[tuple[str, float, Callable[[], object], Callable[[], object]]] = [
            ("page(SymbolReference)", 3, lambda: store.page(SymbolReference),
             sql(*page_by_hand("reference_facts", facts))),
            ("page(SymbolReference), of a scan", 0, lambda: store.page(SymbolReference, SymbolReference.scan == 1),
             sql(*page_by_hand("reference_facts", facts))),
            ("page(SymbolReference), of a resolution", 0,
             lambda: store.page(SymbolReference, SymbolReference.resolution == "exact"),
             sql(*page_by_hand("reference_facts", facts))),
            ("page(Symbol)", 3, lambda: store.page(Symbol), sql(*page_by_hand("symbol_facts", facts))),
            ("page(Symbol), by a name", 0, lambda: store.page(Symbol, Symbol.name == "send_buffer_21"),
             sql(*page_by_hand("symbol_facts", facts))),
            ("page(PlanChange) by field", 3, lambda: store.page(PlanChange, sort="field"),
             sql(*page_by_hand("plan_changes", "field, id"))),
            ("page(PlanChange) of a plan by confidence", 0,
             lambda: store.page(PlanChange, PlanChange.plan == plan, sort="-confidence"),
             sql(*page_by_hand("plan_changes", "field, id"))),
            ("page(Scene) by title", 0, lambda: store.page(Scene, sort="title"), sql(*page_by_hand("scenes", "rowid"))),
            ("counts(Symbol, 'symbol_type')", 1.5, lambda: store.counts(Symbol, "symbol_type"),
             sql("SELECT symbol_type, count(*) FROM symbol_facts GROUP BY 1")),
            ("counts(SymbolReference, 'resolution')", 1.5, lambda: store.counts(SymbolReference, "resolution"),
             sql("SELECT resolution, count(*) FROM reference_facts GROUP BY 1")),
            ("counts(SymbolReference, 'reference_type')", 1.5, lambda: store.counts(SymbolReference, "reference_type"),
             sql("SELECT reference_type, count(*) FROM reference_facts GROUP BY 1")),
            ("counts(PlanChange, 'field')", 1.5, lambda: store.counts(PlanChange, "field"),
             sql("SELECT field, count(*) FROM plan_changes GROUP BY 1")),
            ("scans.summary", 5, lambda: store.scans.summary(1), lambda: Scan.get_by_id(1)),
            ("symbols.find, prefix", 5, lambda: store.symbols.find(prefix, match="prefix", limit=20),
             sql(FOUND.format(names=PREFIX.format(prefix)))),
            ("symbols.find, contains", 5, lambda: store.symbols.find(contains, match="contains", limit=20),
             sql(FOUND.format(names=CONTAINS.format(contains)))),
        ]  # fmt: skip
        with store:
            return [(name, bar, *alternately(ours, theirs, rounds)) for name, bar, ours, theirs in cases]


def alternately(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median CPU of each, called in turn after one call that warms up."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for call, times in zip((ours, theirs), spent, strict=True):
            began = time.process_time()
            call()
            if number:
                times.append(time.process_time() - began)
    return median(spent[0]), median(spent[1])


@part
def prepare(db: str) -> None:
    """Copy the file, and give the copy the indexes by hand."""
    with sqlite3.connect(db) as source, sqlite3.connect(f"{db}.hand") as copy:
        source.backup(copy)
        copy.executescript(INDEXES)
        copy.execute("ANALYZE")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--scale", type=float, help="the share of the rows [default: 1]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    scale = options.scale if options.scale is not None else 0.1 if options.quick else 1.0
    if not 0.001 <= scale <= 100:
        parser.error("--scale must be from 0.001 to 100")
    with tempfile.TemporaryDirectory(prefix="scanstore-pages-") as folder:
        bench = Bench(__file__, Path(folder))
        db = str(Path(folder) / "pages.db")
        built = bench.run(build, db=db, scale=scale)
        bench.run(prepare, db=db)
        for name, bar, ours, theirs in bench.run(measure, db=db, rounds=ROUNDS):
            detail = f"{ours * 1e3:.2f} ms against {theirs * 1e3:.2f} ms of CPU"
            if bar:
                bench.at_most(name, bar, ours / theirs, " x", detail)
            else:
                bench.row(name, "", f"{ours / theirs:.2f} x", None, detail)
    facts = {**built, "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
