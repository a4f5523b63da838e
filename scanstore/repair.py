"""Saving what can be saved of a damaged store into a new one, and saying what is lost.

The damaged file is read page by page (see salvage.py) and is not changed. Its rows go into a new store of the same
schema, whose own rules decide which of them make sense: a row that breaks one is dropped. Pages that nothing leads to
any more are given to the table whose rows they can be, where one of that shape has lost its way to some. Then the
rows are mended: what points at something that is gone goes too or stops pointing, counters are counted again, and the
full-text indexes are made anew by the next search.

What is lost is known exactly where an index of the table survived, because an index has an entry for each row;
otherwise it is a lower bound. Change here: MENDING, whenever a table gets a promise that rows of another can break.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from scanstore import publishing
from scanstore.arguments import a_path
from scanstore.database import SCHEMA_VERSION, Database
from scanstore.errors import (
    Damaged,
    InvalidArgument,
    MissingFolder,
    NewerSchema,
    NotAScanstore,
    NotFound,
    StorageError,
)
from scanstore.facts import FACT_TABLES
from scanstore.files import APPLICATION_ID, connect, real_path
from scanstore.salvage import INDEX_LEAF, TABLE_LEAF, Nonsense, Pages, Row, Value
from scanstore.troubles import translated

if TYPE_CHECKING:
    from scanstore.deciphering import Cipher
    from scanstore.maintenance import Problem

# Tables whose rows follow from those of others, or belong to processes that are gone.
DERIVED = ("work_counts", "call_counts", "plan_counts", "model_slots", "search_changes", "migratehistory")
_ROUNDS = 20  # of mending: each is a step of rows that point at rows
_SEARCH = ("finding_search", "symbol_search")

# Statements that make rows fit together again, where some are missing. They run until none finds anything.
MENDING = (
    "DELETE FROM file_versions WHERE NOT EXISTS (SELECT 1 FROM scan_files WHERE version_id = file_versions.id)"
    " AND NOT EXISTS (SELECT 1 FROM bindings WHERE version_id = file_versions.id)",
    "UPDATE scan_files SET status = 'failed', error = 'what was recorded of it is lost'"
    " WHERE status = 'done' AND version_id IS NULL",
    "DELETE FROM symbol_facts WHERE name_id NOT IN (SELECT id FROM names)"
    " OR qualified_name_id NOT IN (SELECT id FROM names) OR NOT json_valid(coalesce(metadata, 'null'))",
    "DELETE FROM reference_facts WHERE name_id NOT IN (SELECT id FROM names)",
    "UPDATE reference_facts SET path_id = NULL WHERE path_id IS NOT NULL AND path_id NOT IN (SELECT id FROM names)",
    "DELETE FROM import_facts WHERE module_id NOT IN (SELECT id FROM names) OR NOT json_valid(imported_names)",
    "UPDATE import_facts SET path_id = NULL WHERE path_id IS NOT NULL AND path_id NOT IN (SELECT id FROM names)",
    "UPDATE reference_facts SET symbol_ordinal = NULL, resolution = 'unresolved', confidence = 0"
    " WHERE symbol_ordinal IS NOT NULL AND NOT EXISTS (SELECT 1 FROM symbol_facts AS s"
    " WHERE s.version_id = reference_facts.version_id AND s.ordinal = symbol_ordinal)",
    "UPDATE reference_facts SET from_ordinal = NULL WHERE from_ordinal IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = reference_facts.version_id AND s.ordinal = from_ordinal)",
    "UPDATE bindings SET version_id = NULL, ordinal = NULL, resolution = 'unresolved', confidence = 0"
    " WHERE version_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM symbol_facts AS s"
    " WHERE s.version_id = bindings.version_id AND s.ordinal = bindings.ordinal)",
    "DELETE FROM bindings WHERE NOT EXISTS (SELECT 1 FROM scans AS s WHERE s.lineage_id = bindings.lineage_id"
    " AND s.revision >= since AND (until IS NULL OR s.revision < until))",
    "DELETE FROM bindings WHERE path_id NOT IN (SELECT id FROM names)",
    "DELETE FROM bindings WHERE EXISTS (SELECT 1 FROM bindings AS b WHERE b.lineage_id = bindings.lineage_id"
    " AND b.path_id = bindings.path_id AND b.since < bindings.since AND (b.until IS NULL OR b.until > bindings.since))",
    "DELETE FROM chunk_work WHERE NOT EXISTS (SELECT 1 FROM scan_files AS f JOIN chunk_facts AS c"
    " ON c.version_id = f.version_id AND c.chunk_index = chunk_work.id & 16777215"
    " WHERE f.id = chunk_work.scan_file_id AND f.scan_id = chunk_work.scan_id)",
    "UPDATE draft_findings SET status = 'skipped', lease_until = NULL, next_retry_at = NULL WHERE status = 'verified'"
    " AND id NOT IN (SELECT draft_id FROM verified_findings)",
    "UPDATE verified_findings SET status = 'failed', error = 'its finding is lost' WHERE status = 'complete'"
    " AND NOT EXISTS (SELECT 1 FROM sightings WHERE verified_id = verified_findings.id)",
    "DELETE FROM findings WHERE id NOT IN (SELECT finding_id FROM sightings)"
    " AND id NOT IN (SELECT finding_id FROM finding_events)",
    "UPDATE model_calls SET chunk_id = NULL, draft_id = NULL WHERE scan_id <> coalesce("
    "(SELECT scan_id FROM chunk_work WHERE id = chunk_id), (SELECT scan_id FROM draft_findings WHERE id = draft_id))",
    *(
        f"UPDATE {table} SET run_id = NULL WHERE run_id IS NOT NULL AND run_id NOT IN (SELECT id FROM sync_runs)"
        for table in ("scenes", "performers", "tags", "studios")
    ),
)
OF_FILES = ("scans", "lineages", "scan_files", "file_versions", "names", "bindings", *FACT_TABLES)
# Nobody can say of which file versions some facts are lost, nor of which scans some meanings: no scan to come takes
# them over, files are read anew.
OUTDATED = (
    "UPDATE file_versions SET indexer = indexer || ' (repaired)' WHERE indexer NOT LIKE 'scan:%'",
    "UPDATE scans SET options = json_set(options, '$.unfinished', json('true')) WHERE revision IS NOT NULL",
)
COUNTING = (
    "DELETE FROM work_counts",
    "INSERT INTO work_counts (scan_id, kind, status, count)"
    " SELECT scan_id, 'chunk', status, count(*) FROM chunk_work GROUP BY 1, 3"
    " UNION ALL SELECT scan_id, 'draft', status, count(*) FROM draft_findings GROUP BY 1, 3"
    " UNION ALL SELECT scan_id, 'verified', status, count(*) FROM verified_findings GROUP BY 1, 3",
    "DELETE FROM call_counts",
    "INSERT INTO call_counts (scan_id, model, purpose, status, calls, prompt_tokens, completion_tokens, cost,"
    " latency_ms) SELECT coalesce(scan_id, 0), model, purpose, status, count(*), total(prompt_tokens),"
    " total(completion_tokens), total(cost), total(latency_ms) FROM model_calls GROUP BY 1, 2, 3, 4",
    "DELETE FROM plan_counts",
    "INSERT INTO plan_counts (plan_id, status, count) SELECT plan_id, status, count(*) FROM plan_changes GROUP BY 1, 2",
    "UPDATE analysis_sessions SET (total_files, processed_files) = (SELECT count(*),"
    " count(*) FILTER (WHERE upload_status IN ('completed', 'error')) FROM file_uploads AS u"
    " WHERE u.analysis_session_id = analysis_sessions.id)",
)


class Saved(NamedTuple):
    """What became of a table: rows saved, rows lost (at least), pages of it that made no sense."""

    table: str
    rows: int
    lost: int
    bad_pages: int


class Repaired(NamedTuple):
    """A new store made from a damaged one: where, each table of it that has or had rows, and what `check` still says.

    `whole` tells whether nothing of the file was found missing.
    """

    path: str
    tables: list[Saved]
    problems: list[Problem]
    seconds: float

    @property
    def whole(self) -> bool:
        return not self.problems and not any(table.lost or table.bad_pages for table in self.tables)


def repair(damaged: str | os.PathLike[str], new: str | os.PathLike[str], *, key: str | None = None) -> Repaired:
    """Save what can be read of a damaged store, and of its log, into a new one at `new`; say what is lost.

    Scans to come take over nothing of what was saved of files, unless all of it was: they read these anew.
    The damaged file is not changed and should be closed everywhere. The new one has the newest schema, and stands under
    its name whole or not at all. An encrypted store needs its `key`, which the new one has too: nothing is written
    plain on the way; reading takes some seconds per 10 MB then. Raises NotFound, InvalidArgument when `new` exists,
    MissingFolder, StorageError, NewerSchema, NotAScanstore for another program's database, WrongKey, and Damaged when
    nothing of a store is left.
    """
    start = time.perf_counter()
    shown, named = a_path(damaged, "damaged"), a_path(new, "new")
    file, target = real_path(shown), real_path(named)
    if not os.path.exists(file):
        raise NotFound(f"{shown} does not exist; give the path of the damaged file")
    if not os.path.isfile(file):
        raise NotAScanstore(f"{shown} is no file; give the path of the damaged one")
    if os.path.lexists(new):
        raise InvalidArgument(f"{os.fspath(new)} exists; give a path where nothing is yet")
    if not os.path.isdir(os.path.dirname(target)):
        raise MissingFolder(f"{os.fspath(new)} needs the folder {os.path.dirname(target)}; create it")
    try:
        pages = Pages(file, None if key is None else _cipher(file, key))
    except OSError as error:
        raise StorageError(f"{shown} cannot be read: {error.strerror}; check its permissions and its disk") from error
    try:
        _refuse_wrong_key(pages, file, shown, key)
        version = _version(pages, shown)
        with publishing.beside(target, os.fspath(new)) as partial:
            try:
                saved = _Saving(pages, partial, version, key).run()
            except sqlite3.Error as error:
                raise translated(error, os.fspath(new)) from error
            if not any(table.rows for table in saved):
                key_too = "" if pages.sound else ", or give its key if it is encrypted"
                raise Damaged(f"{shown} has nothing left that could be saved; restore a backup{key_too}")
            problems = _check(partial, key)
            publishing.sync(partial, os.fspath(new))
            publishing.publish(partial, target, os.fspath(new))
    finally:
        pages.close()
    return Repaired(target, saved, problems, time.perf_counter() - start)


def _cipher(file: str, key: str) -> Cipher:
    from scanstore import encryption
    from scanstore.deciphering import SALT, Cipher

    encryption.check_key(key)
    with open(file, "rb") as handle:
        return Cipher(key, handle.read(SALT))


def _refuse_wrong_key(pages: Pages, file: str, shown: str, key: str | None) -> None:
    """Raise WrongKey unless the key opens a page, whichever."""
    if key is None or not pages.count or any(map(pages.readable, range(1, pages.count + 1))):
        return
    from scanstore.encryption import wrong_key

    raise wrong_key(file, shown, ", or restore a backup if that is the one")


def _version(pages: Pages, shown: str) -> int:
    """The schema version that the first page tells, or the newest when there is nothing to tell."""
    try:
        head = pages.page(1)
    except Nonsense as error:
        if pages.count > 1:
            return SCHEMA_VERSION
        raise NotAScanstore(f"{shown} is shorter than a page; there is nothing to be saved in it") from error
    application, version = (int.from_bytes(head[at : at + 4], "big") for at in (68, 60))
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise NewerSchema(f"{shown} has schema {version}, and this scanstore knows up to {SCHEMA_VERSION}")
    if pages.sound and application not in (APPLICATION_ID, 0):
        raise NotAScanstore(f"{shown} is another program's database; give the path of a scanstore file")
    return version if application == APPLICATION_ID and version else SCHEMA_VERSION


def _check(file: str, key: str | None) -> list[Problem]:
    from scanstore.maintenance import check

    db = Database(file, durability="normal", key=key)
    try:
        db.open()
        with db.bound():
            return check(db)
    finally:
        db.shut()


# Saving


class _Table:
    """A table of the new store, and what is known of the one in the damaged file."""

    def __init__(self, run: sqlite3.Connection, name: str, sql: str) -> None:
        self.name = name
        self.keyed = "WITHOUT ROWID" in sql.upper()
        columns = [c for c in run.execute(f'PRAGMA table_xinfo("{name}")').fetchall() if c[6] == 0]
        keys = sorted((c for c in columns if c[5]), key=lambda c: c[5])
        # A table without rowids is stored with its key in front.
        self.columns = [*keys, *(c for c in columns if not c[5])] if self.keyed else columns
        alone = len(keys) == 1 and keys[0][2].upper() == "INTEGER" and not self.keyed
        self.rowid = self.columns.index(keys[0]) if alone else None
        self.defaults = [run.execute(f"SELECT {c[4] or 'NULL'}").fetchone()[0] for c in self.columns]
        names = ", ".join(f'"{c[1]}"' for c in self.columns)
        self.insert = f'INSERT OR IGNORE INTO "{name}" ({names}) VALUES ({", ".join("?" * len(self.columns))})'
        self.root: int | None = None
        self.known = 0  # rows that an index has
        self.bad = 0

    def values(self, row: Row) -> list[Value]:
        """The row as it is to be inserted; columns that were added later have their default."""
        values = [*row.values, *self.defaults[len(row.values) :]]
        if self.rowid is not None:
            values[self.rowid] = row.rowid
        return values

    def fits(self, row: Row) -> bool:
        """Whether the row could be one of this table."""
        if (row.rowid is None) != self.keyed or len(row.values) != len(self.columns):
            return False
        for place, (column, value) in enumerate(zip(self.columns, row.values, strict=True)):
            if place == self.rowid:
                if value is not None:
                    return False
            elif value is None:
                if column[3]:
                    return False
            elif not isinstance(value, _KINDS.get(column[2].upper().partition("(")[0], object)):
                return False
        return True


_KINDS: dict[str, type | tuple[type, ...]] = {
    "INTEGER": int, "INT": int, "TEXT": str, "VARCHAR": str, "BLOB": bytes, "REAL": (int, float),
}  # fmt: skip


class _Saving:
    """One run: the rows of the damaged pages into a new file."""

    def __init__(self, pages: Pages, file: str, version: int, key: str | None) -> None:
        from scanstore import migrating

        self.pages, self.file, self.key = pages, file, key
        migrating.up(file, to=version, backup=False, key=key)
        self.run_sql = connect(file, "mode=rw", key=key)

    def run(self) -> list[Saved]:
        from scanstore import migrating

        connection = self.run_sql
        try:
            connection.executescript("PRAGMA foreign_keys=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-64000")
            connection.execute("BEGIN IMMEDIATE")
            self.tables = {
                name: _Table(connection, name, sql)
                for name, sql in connection.execute(
                    "SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY rootpage"
                ).fetchall()
                if name not in DERIVED and not name.startswith((*_SEARCH, "sqlite_"))
            }
            with _without_triggers(connection):
                self._find_roots()
                self._take_all()
                before = self._rows()
                _until_settled(connection, _foreign_keys(connection))
            connection.execute("COMMIT")
            migrating.up(self.file, backup=False, key=self.key)
            connection.execute("BEGIN IMMEDIATE")
            with _without_triggers(connection):
                _until_settled(connection, (*_garbled(), *MENDING, *_foreign_keys(connection)))
                for sql in COUNTING:
                    connection.execute(sql)
                saved = list(self._saved(before, self._rows()))
                if any((table.lost or table.bad_pages) and table.table in OF_FILES for table in saved):
                    for sql in OUTDATED:
                        connection.execute(sql)
            connection.execute("PRAGMA analysis_limit = 400").fetchall()
            connection.execute("ANALYZE")
            connection.execute("COMMIT")
        finally:
            connection.close()
        return saved

    def _rows(self) -> dict[str, int]:
        there = {name for (name,) in self.run_sql.execute("SELECT name FROM sqlite_schema")}
        names = (name for name in self.tables if name in there)
        return {name: self.run_sql.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}

    def _saved(self, before: dict[str, int], after: dict[str, int]) -> Iterator[Saved]:
        for name, table in sorted(self.tables.items()):
            known, kept = max(before[name], table.known), after.get(name, before[name])
            if known or table.bad:
                yield Saved(name, kept, max(known - kept, 0), table.bad)

    def _find_roots(self) -> None:
        """Read the damaged file's own list of tables, wherever it is left, and count what the indexes have."""
        partial = {
            name
            for (name,) in self.run_sql.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql LIKE '% WHERE %'"
            )
        }
        listed = list(self.pages.rows(1))
        if self.pages.bad:
            pieces = (rows for _, rows in self.pages.loose(TABLE_LEAF) if all(map(_is_schema, rows)))
            listed.extend(row for rows in pieces for row in rows)
        indexes: list[tuple[int, _Table | None]] = []
        for row in filter(_is_schema, listed):
            kind, name, of, root, _ = map(str, row.values)
            if name in self.tables:
                self.tables[name].root = self.tables[name].root or int(root)
            elif kind == "index":
                indexes.append((int(root), None if name in partial else self.tables.get(of)))
            elif name == "sqlite_sequence":
                self._take_sequence(int(root))
            elif kind == "table" and int(root):
                indexes.append((int(root), None))  # derived: of no use but to know its pages
        for root_page, table in indexes:
            entries = self.pages.entries(root_page)
            if table is not None:
                table.known = max(table.known, entries)

    def _take_sequence(self, root: int) -> None:
        """Ids that were given stay given, though their rows may be lost."""
        for row in self.pages.rows(root):
            if len(row.values) == 2 and row.values[0] in self.tables and isinstance(row.values[1], int):
                self.run_sql.execute("DELETE FROM sqlite_sequence WHERE name = ?", row.values[:1])
                self.run_sql.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", row.values)

    def _take_all(self) -> None:
        for table in self.tables.values():
            if table.root is not None:
                known = len(self.pages.bad)
                self._take(table, self.pages.rows(table.root))
                table.bad = len(self.pages.bad) - known
        astray = [table for table in self.tables.values() if table.bad or table.root is None]
        for kind in (TABLE_LEAF, INDEX_LEAF) if astray else ():
            for _, rows in self.pages.loose(kind):
                homes = [table for table in astray if all(map(table.fits, rows))]
                if len(homes) == 1:
                    self._take(homes[0], rows)

    def _take(self, table: _Table, rows: Iterable[Row]) -> None:
        width = len(table.columns)
        fitting = (row for row in rows if len(row.values) <= width and (row.rowid is None) == table.keyed)
        values = map(table.values, fitting)
        while True:
            try:
                self.run_sql.executemany(table.insert, values)
                return
            except (sqlite3.IntegrityError, OverflowError):
                continue  # this row is dropped; the iterator stands behind it


def _is_schema(row: Row) -> bool:
    values = row.values
    return (
        len(values) == 5
        and values[0] in ("table", "index", "view", "trigger")
        and all(isinstance(value, str) for value in values[1:3])
        and isinstance(values[3], int)
        and values[3] >= 0
    )


# Rows that fit together


@contextmanager
def _without_triggers(connection: sqlite3.Connection) -> Iterator[None]:
    """Rows are written as they are, for the time of the block."""
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f'DROP TRIGGER "{name}"')
    yield
    for _, sql in triggers:
        connection.execute(sql)


def _garbled() -> Iterator[str]:
    """Statements that remove rows with a time that has NUL or other bytes in it: they go on on a page that is lost. A
    time that somebody wrote in another way stays, and `check` tells of it.
    """
    from scanstore import schema

    for table, columns in schema.times().items():
        yield f"DELETE FROM {table} WHERE " + " OR ".join(f"length({c}) <> length(CAST({c} AS BLOB))" for c in columns)


def _foreign_keys(connection: sqlite3.Connection) -> Iterator[str]:
    """Statements that remove what points at nothing, or let it point at nothing openly where it may."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").fetchall()
    for (table,) in tables:
        nullable = {c[1] for c in connection.execute(f'PRAGMA table_info("{table}")') if not c[3] and not c[5]}
        for key in connection.execute(f'PRAGMA foreign_key_list("{table}")').fetchall():
            _, _, parent, column, there, _, on_delete, _ = key
            lost = (
                f'"{column}" IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "{parent}" AS parent'
                f' WHERE parent."{there}" = "{table}"."{column}")'
            )
            if column in nullable and on_delete != "CASCADE":
                yield f'UPDATE OR IGNORE "{table}" SET "{column}" = NULL WHERE {lost}'
            yield f'DELETE FROM "{table}" WHERE {lost}'


def _until_settled(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    """Run the statements again and again until none of them changes anything."""
    again = list(statements)
    for _ in range(_ROUNDS):
        before = connection.total_changes
        for sql in again:
            connection.execute(sql)
        if connection.total_changes == before:
            return
