"""The health of a store: its problems, and its size.

A check that finds nothing returns an empty list. Add one here for every promise about stored rows that the database
itself does not enforce.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import deque
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import peewee

from scanstore.db import schema, user_schema
from scanstore.db.database import SCHEMA_VERSION, Database
from scanstore.db.files import limited, quoted, seconds_for
from scanstore.db.foreign_schema import names
from scanstore.db.notebooks import described
from scanstore.db.progress import Meter
from scanstore.db.rows import Rows
from scanstore.errors import Damaged, ReadOnly, ReadTimeout, StorageError
from scanstore.maintenance import fixes
from scanstore.maintenance.compaction import bytes_of
from scanstore.maintenance.derived import SEARCHES, is_part, missing_tables
from scanstore.maintenance.fixes import FIXABLE
from scanstore.maintenance.invariants import DANGLING, REMEDIES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from scanstore.db.progress import ProgressCallback


@described
class Problem(NamedTuple):
    """Something that should not be, and what to do about it."""

    what: str
    remedy: str
    fixed: bool = False


class TableStats(NamedTuple):
    """Tuples of a table and bytes with its indexes (None where SQLite was built without ``dbstat``)."""

    name: str
    rows: int
    bytes: int | None


class Growth(NamedTuple):
    """What a scan brought that the store did not know: files and their lines; ``bytes`` as these take on average."""

    scan: int
    target: str
    at: str
    files: int
    lines: int
    bytes: int


@described
class Stats(NamedTuple):
    """A store in figures; ``bytes`` is the file with its log, ``free`` what of it a vacuum would give back, ``growth``
    what the latest scans brought, the newest first.
    """

    path: str
    bytes: int
    scans: int
    lines: int
    tables: Rows[TableStats]
    free: int
    growth: Rows[Growth]


AGAIN = "restore a backup, or remove the scans concerned and record them again"
BY_SQL = "restore a backup, or delete these rows by SQL; PRAGMA foreign_key_check({}) lists them"
SAVE = "restore a backup, or save the readable part with: scanstore repair FILE NEW"
SAFE = "put it right with: scanstore check --fix"
SMALL = 4 << 20  #: bytes, up to which SQLite's check is over before another connection has read the schema

Tuples = list[tuple[Any, ...]]


def check(
    db: Database,
    *,
    fix: bool = False,
    recover: Callable[[], int] | None = None,
    progress: ProgressCallback | None = None,
) -> Rows[Problem]:
    """Look for damage: SQLite's own integrity, foreign keys, the schema, and what the schema cannot enforce.

    Takes the write lock while it looks at the search indexes, about a second for 60 MB of these, unless the store is
    read-only; changes nothing without ``fix``. With it, what follows from other rows is made anew and what nothing uses
    is removed; ``recover`` is called to free lost work. ``progress`` is called with the finished and all checks.

    Returns one problem per kind, those that are ``fixed`` first; an empty list for a healthy store.
    """
    meter = Meter(progress)
    db.verify_file()
    problems = list(_problems(db, meter))
    db.verify_file()
    if not fix:
        meter.end()
        return Rows((problem for _, problem in problems), Problem)
    if db.read_only:
        raise ReadOnly(f"{db.name} is open read-only and cannot be put right; open it without read_only")
    if any("index" in problem.what and what == INTEGRITY for what, problem in problems):
        fixes.rebuild_indexes(db)
    if any(what == SCHEMA for what, _ in problems):
        fixes.recreate(db)
        schema.complete(db)
    for index in SEARCHES:
        if any(what == index.table for what, _ in problems):
            fixes.rebuild_search(db, index)
    fixes.repair(db, [what for what, _ in problems])
    left = list(_problems(db, meter))
    found = {problem.what for _, problem in left}
    fixed = [problem._replace(fixed=True) for _, problem in problems if problem.what not in found]
    if not left:  # what counts as unused is certain in a store that is well
        if swept := fixes.sweep_names(db):
            fixed.append(Problem(f"{swept} interned names that nothing uses", "nothing is to be done", True))
        if recover is not None and (works := recover()):
            fixed.append(Problem(f"{works} pieces of lost work", "nothing is to be done", True))
    meter.end()
    return Rows([*fixed, *(problem for _, problem in left)], Problem)


INTEGRITY, SCHEMA = "integrity", "schema"  # names of problems that are not of CHECKS
Found = tuple[str, Problem]


def _problems(db: Database, meter: Meter) -> Iterator[Found]:
    """Problems, with the name of the check that found each."""
    told: set[Problem] = set()
    # Besides these, the foreign keys, and SQLite's own check of the file.
    meter.expect(2 + len(SEARCHES) + len(DANGLING) + len(schema.texts()) + len(schema.times()))
    with _aside(db, "PRAGMA integrity_check(20)") as integrity:
        others = list(_others(db, meter))
        for found in (*_integrity(integrity), *others):
            if found[1] not in told:
                told.add(found[1])
                yield found
    meter.at(meter.total)


def _integrity(rows: Callable[[], Tuples]) -> Iterator[Found]:
    try:
        for (text,) in rows():
            if text != "ok":
                yield INTEGRITY, Problem(f"the file is damaged: {text}", SAVE)
    except (peewee.DatabaseError, sqlite3.DatabaseError) as error:
        yield from _damage(error)


@contextmanager
def _aside(db: Database, sql: str) -> Iterator[Callable[[], Tuples]]:
    """Run a statement in a thread with a connection of its own, meanwhile; inside of a transaction, when it is asked
    for, as in a small store. Gives a function that waits for the rows, or raises what the statement raised.
    """

    def rows() -> Tuples:
        with _limited(db):
            return db.execute_sql(sql).fetchall()

    if db.in_sqlite_transaction() or bytes_of(db) <= SMALL:
        yield rows
        return
    came: list[Tuples | BaseException] = []
    connections: list[sqlite3.Connection] = []

    def work() -> None:
        try:
            connections.append(db.connection())  # type: ignore[no-untyped-call]
            came.append(rows())
        except BaseException as error:
            came.append(error)

    def wait() -> Tuples:
        thread.join()
        if isinstance(came[0], BaseException):
            raise came[0]
        return came[0]

    thread = threading.Thread(target=work, name="scanstore-check", daemon=True)
    thread.start()
    try:
        yield wait
    except BaseException:
        for connection in connections:
            with suppress(sqlite3.ProgrammingError):  # it was quicker
                connection.interrupt()
        raise
    finally:
        thread.join()


def _limited(db: Database) -> AbstractContextManager[None]:
    """Bound the time of reading, as the pages of a hostile file may lead in circles for ever."""
    connection = db.connection()  # type: ignore[no-untyped-call]
    return limited(connection, db.name, seconds_for(db.file))


def _damage(error: Exception) -> Iterator[Found]:
    """What an error says of the file; one that says nothing of it is raised again."""
    if isinstance(error, ReadTimeout):
        yield "", Problem(f"a check of the file was given up: {error}", SAVE)
        return
    if isinstance(error, StorageError) and not isinstance(error, Damaged):
        raise error  # its disk or its rights are the trouble, or another writer
    yield "", Problem(f"the file is damaged: {error.__cause__ or error}", SAVE)


def _others(db: Database, meter: Meter) -> Iterator[Found]:
    try:
        with _limited(db):
            yield from _promises(db, meter)
    except (peewee.DatabaseError, sqlite3.DatabaseError) as error:
        yield from _damage(error)


def _promises(db: Database, meter: Meter) -> Iterator[Found]:
    orphans: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in db.execute_sql("PRAGMA foreign_key_check").fetchall():
        orphans[table, parent] = orphans.get((table, parent), 0) + 1
    for (table, parent), count in sorted(orphans.items()):
        remedy = AGAIN if _is_of_scans(db, table) else BY_SQL.format(quoted(table))
        yield "", Problem(f"{count} rows of {table} point at rows of {parent} that are gone", remedy)
    meter.add()
    there = {name for (name,) in db.execute_sql("SELECT name FROM sqlite_schema").fetchall()}
    missing = {name for kind, name in schema.expected() if kind == "table" and name not in there}
    derived = {name for name in missing for table, _ in missing_tables(there) if is_part(name, table)}
    for what, remedy in schema.differences(db):
        yield SCHEMA, Problem(what, SAFE if what in {f"the table {name} is missing" for name in derived} else remedy)
    yield from _searches(db, missing, meter)
    for what, sql in DANGLING.items():
        meter.add()
        if lacking := sorted(name for name in missing if re.search(rf"\b{name}\b", sql)):
            remedy = SAFE if derived.issuperset(lacking) else SAVE
            yield (
                SCHEMA,
                Problem(
                    f"{what}: not looked for, as {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing",
                    remedy,
                ),
            )
            continue
        count = db.execute_sql(sql).fetchone()[0]
        if count:
            remedy = REMEDIES.get(what, SAFE if what in FIXABLE else AGAIN)
            yield what, Problem(f"{count} {what}", remedy)
    yield from _texts(db, missing, meter)
    yield from _times(db, missing, meter)


def _is_of_scans(db: Database, table: str) -> bool:
    """Whether rows of a table go with a scan."""
    columns = {row[1] for row in db.execute_sql(f"PRAGMA main.table_xinfo({quoted(table)})").fetchall()}
    return table in names(SCHEMA_VERSION) and not columns.isdisjoint(("scan_id", "version_id", "scan_file_id"))


def _searches(db: Database, missing: Collection[str], meter: Meter) -> Iterator[Found]:
    """Compare the full-text indexes with the text that they are of; SQLite takes that for a write."""
    if db.read_only:
        return
    for table in (index.table for index in SEARCHES if not any(is_part(name, index.table) for name in missing)):
        try:
            with db.atomic():
                db.execute_sql(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)").fetchall()
        except ReadOnly:  # the file or its log, for this process
            return
        except Damaged:
            yield table, Problem(f"{table} is not the index of its text", SAFE)
        meter.add()


def _texts(db: Database, missing: Collection[str], meter: Meter) -> Iterator[Found]:
    """Read all texts: SQLite stores any bytes as text, and reading a row with bytes other than UTF-8 fails."""
    raw = cast("sqlite3.Connection", db.connection())  # type: ignore[no-untyped-call]
    own = list(_own_columns(db))
    meter.expect(len(own))
    for table, columns in (*schema.texts().items(), *own):
        meter.add()
        if table in missing:
            continue
        cursor = raw.cursor(sqlite3.Cursor)
        try:
            cursor.execute(f"SELECT {', '.join(columns)} FROM {quoted(table)}")
            deque(cursor, maxlen=0)
        except sqlite3.OperationalError as error:
            if not str(error).startswith("Could not decode"):
                raise
            for column in columns:
                cursor.execute(f"SELECT CAST({column} AS BLOB) FROM {quoted(table)} WHERE typeof({column}) = 'text'")
                if count := sum(not _is_text(value) for (value,) in cursor):
                    yield "", Problem(f"{count} values of {column} in {table} are not text in UTF-8", SAVE)
        finally:
            cursor.close()


def _own_columns(db: Database) -> Iterator[tuple[str, list[str]]]:
    """The quoted columns of each table of the user's own, but for those that are computed."""
    for part in user_schema.parts(lambda sql: db.execute_sql(sql).fetchall(), SCHEMA_VERSION):
        if part.kind == "table" and not part.virtual:
            rows = db.execute_sql(f"PRAGMA main.table_xinfo({quoted(part.name)})").fetchall()
            yield part.name, [quoted(row[1]) for row in rows if not row[6]]


def _times(db: Database, missing: Collection[str], meter: Meter) -> Iterator[Found]:
    remedy = "restore a backup, or set them right by SQL; a time is written like 2026-11-22T01:46:31.123Z"
    for table, columns in schema.times().items():
        meter.add()
        if table in missing:
            continue
        counts = ", ".join(f"total({column} NOT GLOB '{schema.TIME}')" for column in columns)
        found = db.execute_sql(f"SELECT {counts} FROM {table}").fetchone()
        for column, count in zip(columns, found, strict=True):
            if count:
                yield "", Problem(f"{count:.0f} values of {column} in {table} are no times", remedy)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def stats(db: Database) -> Stats:
    """Count rows and bytes, largest tables first."""
    tables = [
        name for (name,) in db.execute_sql(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            " AND (rootpage > 0 OR name IN ('finding_search', 'symbol_search'))"  # what others compute is not counted
        ).fetchall()
    ]  # fmt: skip
    sizes = _sizes(db)
    rows = [
        TableStats(
            name,
            db.execute_sql(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0],
            sizes.get(name) if sizes else None,
        )
        for name in tables
    ]
    rows.sort(key=lambda t: (-(t.bytes or 0), -t.rows, t.name))
    run = db.execute_sql
    total = bytes_of(db)
    lines = run("SELECT coalesce(sum(line_count), 0) FROM file_versions").fetchone()[0]
    facts = sum(table.bytes or 0 for table in rows if table.name in OF_LINES) if sizes else total
    per_line = facts / lines if lines else 0
    growth = [
        Growth(scan, target, at, files, new, round(new * per_line))
        for scan, target, at, files, new in run(GROWTH, (LATEST,)).fetchall()
    ]
    free = run("PRAGMA freelist_count").fetchone()[0] * int(run("PRAGMA page_size").fetchone()[0])
    return Stats(
        path=db.name,
        bytes=total,
        scans=run("SELECT count(*) FROM scans").fetchone()[0],
        lines=lines,
        tables=Rows(rows, TableStats),
        free=free,
        growth=Rows(growth, Growth),
    )


LATEST = 10  # scans whose growth is told
OF_LINES = (
    "names", "file_versions", "symbol_facts", "reference_facts", "import_facts", "chunk_facts", "bindings",
)  # fmt: skip
# A file version came with the first scan that has it.
GROWTH = """
SELECT s.id, s.target, s.created_at, count(v.id), coalesce(sum(v.line_count), 0)
  FROM (SELECT id, target, created_at FROM scans ORDER BY id DESC LIMIT ?) AS s
  LEFT JOIN (SELECT version_id, min(scan_id) AS scan_id FROM scan_files WHERE version_id IS NOT NULL
              GROUP BY version_id) AS f ON f.scan_id = s.id
  LEFT JOIN file_versions AS v ON v.id = f.version_id
 GROUP BY s.id ORDER BY s.id DESC
"""


def _sizes(db: Database) -> dict[str, int]:
    """Bytes per table, indexes included; empty where SQLite cannot say."""
    try:
        return dict(
            db.execute_sql(
                "SELECT s.tbl_name, sum(d.pgsize) FROM dbstat AS d JOIN sqlite_schema AS s ON s.name = d.name"
                " WHERE d.aggregate = 1 GROUP BY s.tbl_name"
            ).fetchall()
        )
    except peewee.PeeweeException:
        return {}
