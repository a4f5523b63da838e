"""What a snapshot costs: recording, re-scanning, asking, starting, each as a ratio measured in one run.

    python benchmarks/snapshot.py                  the running interpreter's standard library; some minutes
    python benchmarks/snapshot.py --quick          fewer rounds and rows
    python benchmarks/snapshot.py --corpus PATH    another tree
    python benchmarks/snapshot.py --json           one JSON object

Every part runs in a process of its own (see `_common.py`), rivals alternate, and medians are reported. Beside a
ratio of wall times stands that of CPU times, which suffers less from whoever else uses the machine. The rivals:

- a first scan against `ast.parse` over the same .py files, sources already in memory: reading them is not counted;
- the bulk writer against `executemany` by hand, `Model.insert_many` and SQLAlchemy, all into the real
  `reference_facts` with its indexes and foreign keys, with the same pragmas, in one transaction;
- importing scanstore and opening a store against importing peewee and connecting to the same file;
- whole processes of `scanstore --help` and `scanstore symbols find` against one that imports click, peewee and sqlite3.

Exits with 1 when a bar is missed. What may be changed here: the parts, the bars, the edits of `edited`.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import (  # noqa: E402
    STDLIB_EXCLUDES,
    Bench,
    Clock,
    median,
    part,
    peak_memory,
    percentile,
    serve,
    show,
    stdlib,
    store_size,
)

PRAGMAS = {
    "foreign_keys": "ON", "synchronous": "FULL", "temp_store": "MEMORY", "cache_size": -32000,
    "journal_size_limit": 67108864, "journal_mode": "WAL",
}  # fmt: skip
FACTS_PER_VERSION = 500


# Recording


@part
def parse(corpus: str, exclude: list[str]) -> dict[str, Any]:
    """`ast.parse` over the .py files that a scan would read."""
    from scanstore.indexing.walk import walk

    entries = [e for e in walk(corpus, exclude=exclude) if e.skipped is None and e.path.endswith(".py")]
    sources = [Path(e.full).read_bytes() for e in entries]
    clock = Clock()
    for source in sources:
        try:
            ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return {**clock.stop(), "files": len(sources), "lines": sum(s.count(b"\n") for s in sources)}


@part
def record(corpus: str, exclude: list[str], db: str) -> dict[str, Any]:
    """One `record()` into a store, which is new at the first scan."""
    from scanstore.store import Store

    before = rows_in(db)
    store = Store(db)
    clock = Clock()
    scan = store.scans.record(corpus, exclude=exclude)
    spent: dict[str, Any] = clock.stop()
    spent["memory"] = peak_memory()
    seen = store.scans.summary(scan)
    store.close()
    for name in ("files", "indexed", "reused", "skipped", "failed", "lines", "symbols", "references", "chunks"):
        spent[name] = getattr(seen, name)
    return {**spent, "rows": rows_in(db) - before, "size": store_size(Path(db))}


def rows_in(db: str) -> int:
    """Count the rows of all tables; 0 for a file that is not there yet."""
    if not Path(db).exists():
        return 0
    connection = sqlite3.connect(db)
    try:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables)
    finally:
        connection.close()


def scanning(bench: Bench, corpus: str, exclude: list[str], work: Path, rounds: int) -> dict[str, Any]:
    """Measure first scans and re-scans; leaves the store of the first round behind as `scan-0.db`."""
    wall, cpu, again_wall, again_cpu = [], [], [], []
    for number in range(rounds):
        db = str(work / f"scan-{number}.db")
        parsed = bench.run(parse, corpus=corpus, exclude=exclude)
        first = bench.run(record, corpus=corpus, exclude=exclude, db=db)
        again = bench.run(record, corpus=corpus, exclude=exclude, db=db)
        wall.append(first["wall"] / parsed["wall"])
        cpu.append((first["own"] + first["children"]) / parsed["own"])
        again_wall.append(100 * again["wall"] / first["wall"])
        again_cpu.append(100 * (again["own"] + again["children"]) / (first["own"] + first["children"]))
    lines = max(first["lines"], 1)
    bench.at_most(
        "first record(), wall, against ast.parse", 2.0, median(wall), " x",
        f"CPU {median(cpu):.2f} x; last round: parse {parsed['wall']:.2f} s, record {first['wall']:.2f} s wall,"
        f" {first['own']:.2f} s CPU here and {first['children']:.2f} s in workers",
    )  # fmt: skip
    bench.at_most(
        "file size after it, per source line",
        70,
        first["size"] / lines,
        " B",
        f"{first['size']:,} bytes; per .py line {first['size'] / max(parsed['lines'], 1):.1f} B",
    )
    bench.at_most("re-scan, nothing changed, time", 6, median(again_wall), " %", f"CPU {median(again_cpu):.2f} %")
    bench.at_most(
        "re-scan, nothing changed, rows per file", 2, again["rows"] / max(again["files"], 1), "",
        f"{again['rows']:,} rows",
    )  # fmt: skip
    growth = 100 * (again["size"] - first["size"]) / first["size"]
    bench.at_most("re-scan, nothing changed, file grows", 2, growth, " %", f"{again['size'] - first['size']:,} bytes")
    bench.at_most("peak memory of the first scan, parent", 250, first["memory"], " MB")
    return {
        "files": first["files"], "lines": first["lines"],
        "python_files": parsed["files"], "python_lines": parsed["lines"],
        "not_parsed": first["failed"], "skipped": first["skipped"], "symbols": first["symbols"],
        "references": first["references"], "chunks": first["chunks"],
    }  # fmt: skip


# One file changed


def edited(text: str, mark: int) -> str | None:
    """Return a source with the function nearest its middle changed and a new one before it; None without a function."""
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    tops = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    functions = [
        (abs(node.lineno - len(lines) // 2), node.lineno, node, top)
        for top in tops
        for node in ast.walk(top)
        if isinstance(node, ast.FunctionDef) and lines[node.body[-1].lineno - 1][: node.body[-1].col_offset].isspace()
    ]
    if not functions:
        return None
    _, _, function, top = min(functions, key=lambda f: f[:2])
    last = function.body[-1]
    lines.insert(last.lineno - 1, f"{' ' * last.col_offset}changed_{mark} = len(str({mark}))\n")
    first = min([top.lineno, *(d.lineno for d in top.decorator_list)])
    lines.insert(first - 1, f"def added_{mark}(value):\n    return len(str(value)) + {mark}\n\n\n")
    return "".join(lines)


def hub_and_leaf(db: str) -> Iterator[tuple[str, str]]:
    """Yield the file that most others import and one that nothing imports, of those that `edited` can change."""
    connection = sqlite3.connect(db)
    scan, root = connection.execute("SELECT id, root FROM scans ORDER BY id DESC").fetchone()
    ranked = connection.execute(
        "SELECT f.file_path, count(DISTINCT i.importer_file) AS importers FROM scan_files AS f"
        " LEFT JOIN import_relations AS i ON i.resolved_file = f.file_path AND i.scan_id = f.scan_id"
        " WHERE f.scan_id = ? AND f.status = 'done' AND f.file_path LIKE '%.py' GROUP BY f.file_path"
        " ORDER BY importers DESC, f.file_path",
        (scan,),
    ).fetchall()
    connection.close()
    for kind, paths in (("hub", ranked), ("leaf", [r for r in ranked if not r[1]][::-1])):
        for path, _ in paths:
            try:
                text = Path(root, path).read_bytes().decode()
            except UnicodeDecodeError:
                continue
            if "\r" not in text and "\f" not in text and edited(text, 0) is not None:
                yield kind, path
                break


def changing(bench: Bench, corpus: str, exclude: list[str], work: Path, rounds: int) -> None:
    """Measure re-scans of a copy of the corpus in which one file was edited; the worst file counts."""
    from scanstore.indexing.walk import walk

    copy = work / "copy"
    for entry in walk(corpus, exclude=exclude):
        if entry.skipped is None:
            (copy / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.full, copy / entry.path)
    db = str(work / "changing.db")
    first = bench.run(record, corpus=str(copy), exclude=exclude, db=db)
    worst: tuple[float, str] = (0.0, "no file could be edited")
    details = []
    for kind, path in hub_and_leaf(db):
        times, cpus, rows = [], [], 0
        for number in range(1, rounds + 1):
            file = copy / path
            file.write_bytes((edited(file.read_bytes().decode(), number) or "").encode())
            again = bench.run(record, corpus=str(copy), exclude=exclude, db=db)
            if again["indexed"] != 1:
                raise SystemExit(f"{again['indexed']} files were indexed after {path} alone was edited")
            times.append(100 * again["wall"] / first["wall"])
            cpus.append(100 * (again["own"] + again["children"]) / (first["own"] + first["children"]))
            rows = again["rows"]
        details.append(f"{kind} {path}: {median(times):.1f} % (CPU {median(cpus):.1f} %), {rows:,} rows")
        worst = max(worst, (median(times), path))
    bench.at_most("re-scan, one file changed, time", 8, worst[0], " %", "; ".join(details) or worst[1])


# The bulk writer

COLUMNS = (
    "version_id", "ordinal", "line", "from_ordinal", "reference_type", "name_id", "path_id", "symbol_ordinal",
    "resolution", "confidence",
)  # fmt: skip


def facts(count: int) -> list[tuple[Any, ...]]:
    """References as a scan writes them: by file and place, half of them known inside their file."""
    dice = random.Random(7)
    rows: list[tuple[Any, ...]] = []
    for number in range(count):
        version, ordinal = divmod(number, FACTS_PER_VERSION)
        local = dice.random() < 0.4
        rows.append((
            version + 1, ordinal, ordinal * 3 + 1, dice.randrange(60), "call", dice.randrange(60_000),
            None if local else dice.randrange(60_000), dice.randrange(60) if local else None,
            "exact" if local else "unresolved", 100 if local else 0,
        ))  # fmt: skip
    return rows


@part
def bulk(template: str, work: str, count: int, rival: str) -> dict[str, Any]:
    """Write the rows once, into a copy of the template, in the way that is named."""
    db = str(Path(work, f"bulk-{rival}.db"))
    shutil.copyfile(template, db)
    rows = facts(count)
    write = WRITERS[rival](db, rows)
    if write is None:
        return {}
    clock = Clock()
    write()
    spent = clock.stop()
    check = sqlite3.connect(db)
    written = check.execute("SELECT count(*) FROM reference_facts").fetchone()[0]
    check.close()
    if written != count:
        raise SystemExit(f"{rival} wrote {written} of {count} rows")
    for end in ("", "-wal", "-shm"):
        Path(db + end).unlink(missing_ok=True)
    return spent


Rows = list[tuple[Any, ...]]


def by_writer(db: str, rows: Rows, *, converted: bool = True) -> Callable[[], object]:
    from scanstore.db.bulk import Writer
    from scanstore.snapshots.facts import ReferenceFact
    from scanstore.store import Store

    store = Store(db)

    def write() -> None:
        with store.bound(), store.transaction():
            Writer(store.database, ReferenceFact, COLUMNS, converted=converted).write(rows)

    return write


def by_converting_writer(db: str, rows: Rows) -> Callable[[], object]:
    return by_writer(db, rows, converted=False)


def by_hand(db: str, rows: Rows) -> Callable[[], object]:
    connection = sqlite3.connect(db, isolation_level=None)
    for name, value in PRAGMAS.items():
        connection.execute(f"PRAGMA {name}={value}")
    sql = f"INSERT INTO reference_facts ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"

    def write() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql, rows)
        connection.execute("COMMIT")

    return write


def by_insert_many(db: str, rows: Rows) -> Callable[[], object]:
    import peewee

    from scanstore.snapshots.facts import ReferenceFact
    from scanstore.store import Store

    store = Store(db)
    fields = [ReferenceFact._meta.combined[name] for name in COLUMNS]  # type: ignore[attr-defined]

    def write() -> None:
        with store.bound(), store.transaction():
            for batch in peewee.chunked(rows, 1000):
                ReferenceFact.insert_many(batch, fields=fields).execute()

    return write


def by_sqlalchemy(db: str, rows: Rows) -> Callable[[], object] | None:
    try:
        import sqlalchemy as sa
    except ImportError:
        return None
    engine = sa.create_engine(f"sqlite:///{db}")

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        for name, value in PRAGMAS.items():
            connection.execute(f"PRAGMA {name}={value}")

    types = {name: sa.Text if name in ("reference_type", "resolution") else sa.Integer for name in COLUMNS}
    table = sa.Table("reference_facts", sa.MetaData(), *(sa.Column(name, kind) for name, kind in types.items()))
    dicts = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    engine.connect().close()

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(sa.insert(table), dicts)

    return write


WRITERS: dict[str, Callable[[str, Rows], Callable[[], object] | None]] = {
    "writer": by_writer, "hand": by_hand, "converting": by_converting_writer, "insert_many": by_insert_many,
    "sqlalchemy": by_sqlalchemy,
}  # fmt: skip


def writing(bench: Bench, work: Path, count: int, rounds: int) -> None:
    """Compare the ways to write many rows into one table of a real store."""
    from scanstore.store import Store

    template = work / "template.db"
    with Store(template) as store:
        versions = range(1, -(-count // FACTS_PER_VERSION) + 1)
        store.database.executemany(
            "INSERT INTO file_versions (id, path, content_hash, indexer) VALUES (?, ?, ?, 'bench/1')",
            ((n, f"{n}.py", n.to_bytes(32, "big")) for n in versions),
        )
    walls: dict[str, list[float]] = {name: [] for name in WRITERS}
    cpus: dict[str, list[float]] = {name: [] for name in WRITERS}
    for _ in range(rounds):
        for name in WRITERS:
            spent = bench.run(bulk, template=str(template), work=str(work), count=count, rival=name)
            if spent:
                walls[name].append(spent["wall"])
                cpus[name].append(spent["own"])

    def faster(rival: str) -> tuple[float, str]:
        wall = median(theirs / ours for theirs, ours in zip(walls[rival], walls["writer"], strict=True))
        cpu = median(theirs / ours for theirs, ours in zip(cpus[rival], cpus["writer"], strict=True))
        return wall, f"rows/s; CPU {cpu:.2f} x; {count / median(walls[rival]):,.0f} rows/s by the rival"

    bench.at_least("bulk writer against executemany by hand", 0.85, *_unit(*faster("hand")))
    bench.at_least("bulk writer against Model.insert_many", 2.5, *_unit(*faster("insert_many")))
    if walls["sqlalchemy"]:
        wall, detail = faster("sqlalchemy")
        bench.row("bulk writer against SQLAlchemy insert()", "", f"{wall:.2f} x", None, detail)
    else:
        bench.row("bulk writer against SQLAlchemy insert()", "", "not installed", None, "pip install scanstore[bench]")
    wall, detail = faster("converting")
    bench.row("bulk writer against itself with converters", "", f"{wall:.2f} x", None, detail)


def _unit(value: float, detail: str) -> tuple[float, str, str]:
    return value, " x", detail


# Questions


@part
def questions(db: str, count: int) -> dict[str, Any]:
    """Ask about random functions, classes and methods; milliseconds of wall and CPU of every call."""
    from scanstore.store import Store

    with Store(db, read_only=True) as store:
        everything = [s for s in store.symbols.list() if s.symbol_type in ("function", "class", "method")]
        chosen = random.Random(7).choices(everything, k=count)
        asked: dict[str, Callable[[Any], Any]] = {
            "references": store.symbols.references,
            "impact": lambda symbol: store.symbols.impact(symbol, depth=3),
            "find": lambda symbol: store.symbols.find(symbol.name),
            "find qualified": lambda symbol: store.symbols.find(symbol.qualified_name),
        }
        results: dict[str, Any] = {}
        for name, ask in asked.items():
            ask(chosen[0])
            times, most = [], 0
            for symbol in chosen:
                cpu, wall = time.thread_time(), time.perf_counter()
                answer = ask(symbol)
                times.append((1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu), len(answer)))
                most = max(most, len(answer))
            results[name] = {"times": times, "rows": most}
    return results


def asking(bench: Bench, db: str, count: int) -> None:
    """Report the 95th percentile of the questions."""
    answers = bench.run(questions, db=db, count=count)
    labels = {
        "references": ("references of a symbol, p95", 1.0),
        "impact": ("impact, depth 3, p95", 5.0),
        "find": ("look-up by name, p95", None),
        "find qualified": ("look-up by qualified name, p95", None),
    }
    for name, (label, bar) in labels.items():
        wall, cpu, sizes = zip(*answers[name]["times"], strict=True)
        value = percentile(wall, 95)
        detail = (
            f"median {median(wall):.2f} ms, CPU p95 {percentile(cpu, 95):.2f} ms;"
            f" answers: median {median(sizes):.0f}, p95 {percentile(sizes, 95)}, most {max(sizes):,} rows"
        )
        if bar is None:
            bench.row(label, "", f"{value:.2f} ms", None, detail)
        else:
            bench.at_most(label, bar, value, " ms", detail)


# Starting

OURS = """
import time
start, used = time.perf_counter(), time.process_time()
import scanstore
store = scanstore.Store({db!r})
print(time.perf_counter() - start, time.process_time() - used)
"""
THEIRS = """
import time
start, used = time.perf_counter(), time.process_time()
import peewee
database = peewee.SqliteDatabase({db!r}, pragmas={pragmas!r})
database.connect()
print(time.perf_counter() - start, time.process_time() - used)
"""


def starting(bench: Bench, db: str, rounds: int) -> None:
    """Compare importing and opening with importing peewee and connecting, in alternating fresh processes."""
    pragmas = {name: value.lower() if isinstance(value, str) else value for name, value in PRAGMAS.items()}
    programs = [text.format(db=db, pragmas=pragmas) for text in (OURS, THEIRS)]
    runs: list[list[tuple[float, float, float]]] = [[], []]
    for number in range(rounds + 1):
        for place, program in enumerate(programs):
            clock = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", program], stdout=subprocess.PIPE, env=bench.environment, check=True, text=True
            )
            wall, cpu = map(float, done.stdout.split())
            if number:  # the first one may have to compile
                runs[place].append((wall, cpu, time.perf_counter() - clock))
    ours, theirs = ([median(column) for column in zip(*run, strict=True)] for run in runs)
    bench.at_most(
        "import scanstore + open, against peewee", 1.2, ours[0] / theirs[0], " x",
        f"{1000 * ours[0]:.0f} ms against {1000 * theirs[0]:.0f} ms; CPU {ours[1] / theirs[1]:.2f} x;"
        f" whole process {ours[2] / theirs[2]:.2f} x",
    )  # fmt: skip


LIBRARIES = "import click, peewee, sqlite3"


def answering(bench: Bench, db: str, rounds: int) -> None:
    """Compare whole processes of the command line with one that only imports its libraries, in alternation."""
    connection = sqlite3.connect(db)
    (name,) = connection.execute("SELECT name FROM symbols WHERE symbol_type = 'function' LIMIT 1").fetchone()
    connection.close()
    programs = {
        "import": ["-c", LIBRARIES],
        "help": ["-m", "scanstore", "--help"],
        "find": ["-m", "scanstore", "symbols", "find", name, "--db", db],
    }
    runs: dict[str, list[float]] = {label: [] for label in programs}
    for number in range(rounds + 1):
        for label, words in programs.items():
            clock = time.perf_counter()
            subprocess.run(
                [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=bench.environment,
                check=True,
            )  # fmt: skip
            if number:  # the first one may have to compile
                runs[label].append(time.perf_counter() - clock)
    spent = {label: median(times) for label, times in runs.items()}
    for label, command, limit in (("help", "--help", 1.5), ("find", "symbols find NAME", 3.0)):
        bench.at_most(
            f"`scanstore {command}`, against importing its libraries", limit, spent[label] / spent["import"], " x",
            f"{1000 * spent[label]:.0f} ms against {1000 * spent['import']:.0f} ms; whole processes",
        )  # fmt: skip


# All of it


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what a snapshot costs, as ratios in one run.")
    parser.add_argument("--corpus", type=Path, help="tree to record (default: the standard library, without its tests)")
    parser.add_argument("--exclude", action="append", help="pattern to leave out; with --corpus the default is none")
    parser.add_argument("--quick", action="store_true", help="one round, fewer rows and questions")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    corpus = str(options.corpus.resolve()) if options.corpus else str(stdlib())
    exclude = options.exclude or ([] if options.corpus else list(STDLIB_EXCLUDES))
    if not Path(corpus).is_dir():
        parser.error(f"{corpus} is not a folder")
    rounds = 1 if options.quick else 3
    with tempfile.TemporaryDirectory(prefix="scanstore-bench-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        numbers = scanning(bench, corpus, exclude, work, rounds)
        changing(bench, corpus, exclude, work, rounds)
        writing(bench, work, 20_000 if options.quick else 200_000, rounds)
        asking(bench, str(work / "scan-0.db"), 100 if options.quick else 1000)
        starting(bench, str(work / "scan-0.db"), 3 if options.quick else 15)
        answering(bench, str(work / "scan-0.db"), 3 if options.quick else 15)
    facts = {
        "corpus": f"{corpus} without {', '.join(exclude)}" if exclude else corpus,
        "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version, **numbers,
    }  # fmt: skip
    show(bench.rows, facts, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
