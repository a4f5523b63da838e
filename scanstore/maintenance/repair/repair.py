"""Saving the readable part of a damaged store into a new one, and reporting every loss.

The damaged file is read page by page (see sqlite_pages.py) and is not changed. Its rows go into a new store of the same
schema, whose own rules decide which of them make sense: a row that breaks one is dropped. Pages that nothing leads to
any more are given to the table whose rows they can be, where one of that shape has lost its way to some. Then the
rows are mended (see mending.py), and the full-text indexes are made anew by the next search. Tables of the user's own
are carried as they are (see user_tables.py).

A store is whole only after everything was looked at: each page of the file was read as part of one tree, overflow
chain or list of free pages; each table of the schema was found; each table has as many rows as its indexes and
counters say; nothing had to be dropped, mended or left out. How many rows are lost is known exactly where an index of
the table survived; otherwise it is a lower bound.

Change here: what counts as evidence that something is missing.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db import atomic_files
from scanstore.db.arguments import check_path
from scanstore.db.connections import connect
from scanstore.db.database import SCHEMA_VERSION, Database
from scanstore.db.files import APPLICATION_ID, real_path, size_of
from scanstore.db.notebooks import described
from scanstore.db.progress import Meter
from scanstore.db.sqlite_errors import translated
from scanstore.errors import Damaged, InvalidArgument, MissingFolder, NewerSchema, NotAScanstore, NotFound, StorageError
from scanstore.maintenance.compaction import ESTIMATE
from scanstore.maintenance.derived import COLUMNS, COUNTERS, OF_FILE, OF_PROCESSES, TABLES, is_part
from scanstore.maintenance.health import check
from scanstore.maintenance.repair import mending
from scanstore.maintenance.repair.salvaged_tables import (
    Account,
    LeftOut,
    SalvagedTable,
    Saved,
    UnreadPage,
    take_orphans,
)
from scanstore.maintenance.repair.sqlite_pages import Nonsense, Pages, PageTree, Row
from scanstore.maintenance.repair.user_tables import UserTables
from scanstore.maintenance.repair.write_ahead_log import Log, is_log

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback
    from scanstore.maintenance.health import Problem
    from scanstore.maintenance.repair.sqlcipher_pages import Cipher
    from scanstore.maintenance.repair.user_tables import UserTables

# Tables whose rows follow from those of others, or belong to processes that are gone, or to the file itself.
DERIVED = (*TABLES, *OF_PROCESSES, *OF_FILE)
COUNTED = {each.table: each for each in (*COUNTERS, *COLUMNS)}


@described
class Repaired(NamedTuple):
    """A new store made from a damaged one: where, each table of it that has or had rows, and what `check` still says.

    `unread` are the pages that could not be read, `affected` the tables that may have lost rows, `left_out` what of
    the file was not carried over, `warnings` what else was wrong. `whole` tells whether every page was read, every
    table found, and nothing is missing.
    """

    path: str
    tables: list[Saved]
    problems: list[Problem]
    seconds: float
    unread: list[UnreadPage]
    affected: list[str]
    left_out: list[LeftOut]
    warnings: list[str]

    @property
    def whole(self) -> bool:
        lost = any(table.lost or table.bad_pages for table in self.tables)
        return not (lost or self.problems or self.unread or self.affected or self.left_out or self.warnings)


def repair(
    damaged: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    key: str | None = None,
    progress: ProgressCallback | None = None,
) -> Repaired:
    """Save what can be read of a damaged store, and of its log, into a new one at `new`; report every loss.

    Of the log `DAMAGED-wal` the committed transactions are read, as SQLite would; it is enough when the file itself is
    empty or missing, and so is one that was set aside as `DAMAGED-wal.orphaned`. A log can also be given by itself. To
    lay one that was set aside over the file that it belongs to, rename it to that file's name and `-wal`.

    Later scans reuse no saved facts of files, unless all facts were saved: they read these anew. The damaged file is
    not changed and should be closed everywhere. The new one has the newest schema, and stands under its name whole or
    not at all. An encrypted store needs its `key`, which the new one has too: nothing is written plain on the way;
    reading takes some seconds per 10 MB then. `progress` is called with the pages that were read and all pages; an
    exception of it cancels the work, and nothing is left at `new`. Raises NotFound, InvalidArgument when `new` exists,
    MissingFolder, StorageError, NewerSchema, NotAScanstore for another program's database, WrongKey, and Damaged when
    nothing of a store is left.
    """
    start = time.perf_counter()
    meter = Meter(progress)
    shown, named = check_path(damaged, "damaged"), check_path(new, "new")
    file, target = real_path(shown), real_path(named)
    _refuse(shown, file, named, target)
    log, pages = None, None
    try:
        alone = os.path.exists(file) and is_log(file)
        log = Log(file if alone else _log_of(file, shown))
        pages = Pages(None if alone else file, None if key is None else _cipher(None if alone else file, log, key), log)
    except OSError as error:
        raise StorageError(f"{shown} cannot be read: {error.strerror}; check its permissions and its disk") from error
    finally:
        if log is not None and pages is None:
            log.close()
    try:
        _refuse_wrong_key(pages, file, shown, key)
        version = _version(pages, shown)
        with atomic_files.beside(target, named) as partial:
            try:
                meter.total = pages.count
                run = _Saving(pages, partial, version, key, meter)
                saved = run.run()
            except sqlite3.Error as error:
                raise translated(error, named) from error
            if run.account.affected and not any(table.rows for table in saved):
                key_too = "" if pages.sound else ", or give its key if it is encrypted"
                raise Damaged(f"{shown} has nothing left that could be saved; restore a backup{key_too}")
            problems = _check(partial, key)
            meter.end()
            atomic_files.sync(partial, named)
            atomic_files.publish(partial, target, named)
    finally:
        pages.close()
    seconds = time.perf_counter() - start
    account = run.account
    if _has_journal(file):
        account.warnings.append(
            f"{shown}-journal was not read: a transaction was never finished; make a copy of both files, open the copy"
            " once so that SQLite takes the transaction back, and repair that"
        )
    return Repaired(
        target, saved, problems, seconds, account.unread(), sorted(account.affected), account.left_out,
        pages.wrong + account.warnings,
    )  # fmt: skip


def _refuse(shown: str, file: str, new: str, target: str) -> None:
    """Raise unless there is something to read, and a place for the new store."""
    if not os.path.exists(file) and not os.path.exists(_log_of(file, shown)):
        raise NotFound(f"{shown} does not exist; give the path of the damaged file")
    if os.path.exists(file) and not os.path.isfile(file):
        raise NotAScanstore(f"{shown} is no file; give the path of the damaged one")
    if os.path.lexists(new):
        raise InvalidArgument(f"{new} exists; give a path where nothing is yet")
    if not os.path.isdir(os.path.dirname(target)):
        raise MissingFolder(f"{new} needs the folder {os.path.dirname(target)}; create it")


def _log_of(file: str, shown: str) -> str:
    """The path of a file's log; where there is neither, that of the one that was set aside."""
    log = f"{file}-wal"
    if size_of(file) or size_of(log):
        return log
    folder, name = os.path.split(f"{log}.orphaned")
    pattern = re.compile(rf"{re.escape(name)}(-\d+)?")
    try:
        others = os.listdir(folder)
    except OSError:
        others = []
    found = sorted(os.path.join(folder, other) for other in others if pattern.fullmatch(other))
    if len(found) > 1:
        raise InvalidArgument(f"{shown} is gone and several of its logs were set aside; give one: {', '.join(found)}")
    return found[0] if found else log


def _has_journal(file: str) -> bool:
    """Whether SQLite would take back what a rollback journal lists; a log needs none."""
    try:
        with open(f"{file}-journal", "rb") as handle:
            return any(handle.read(8))
    except OSError:
        return False


def _cipher(file: str | None, log: Log, key: str) -> Cipher:
    """The cipher of a key, and of the bytes that the first page begins with; what opens nothing when they are gone."""
    from scanstore.db import encryption  # the library is an extra
    from scanstore.maintenance.repair.sqlcipher_pages import SALT, Cipher  # the library is an extra

    encryption.check_key(key)
    if first := log.page(1):
        return Cipher(key, first[:SALT])
    if file is None or not os.path.exists(file):
        return Cipher(key, b"")
    with open(file, "rb") as handle:
        return Cipher(key, handle.read(SALT))


def _refuse_wrong_key(pages: Pages, file: str, shown: str, key: str | None) -> None:
    """Raise WrongKey unless the key opens a page, whichever."""
    if key is None or not pages.count or any(map(pages.readable, range(1, pages.count + 1))):
        return
    from scanstore.db.encryption import wrong_key  # the library is an extra

    if 1 not in pages.log and not pages.length:
        raise Damaged(f"{shown} cannot be read: its first page, which every key needs, is lost; restore a backup")
    raise wrong_key(file, shown, ", or restore a backup if that is the one")


def _version(pages: Pages, shown: str) -> int:
    """The schema version that the first page tells, or the newest when there is nothing to tell."""
    try:
        head = pages.page(1)
    except Nonsense as error:
        if pages.count > 1:
            return SCHEMA_VERSION
        wrong = "".join(f"; {what}" for what in pages.wrong)
        raise NotAScanstore(f"{shown} is shorter than a page; there is nothing to be saved in it{wrong}") from error
    application, version = (int.from_bytes(head[at : at + 4], "big") for at in (68, 60))
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise NewerSchema(f"{shown} has schema {version}, and this scanstore knows up to {SCHEMA_VERSION}")
    if pages.sound and application not in (APPLICATION_ID, 0):
        raise NotAScanstore(f"{shown} is another program's database; give the path of a scanstore file")
    return version if application == APPLICATION_ID and version else SCHEMA_VERSION


def _check(file: str, key: str | None) -> list[Problem]:
    db = Database(file, durability="normal", key=key)
    try:
        db.open()
        with db.bound():
            return check(db)
    finally:
        db.shut()


# Saving


class _Saving:
    """One run: the rows of the damaged pages into a new file.

    Afterwards the `account` names unread pages, and tables that may have lost rows.
    """

    def __init__(self, pages: Pages, file: str, version: int, key: str | None, meter: Meter) -> None:
        self.pages, self.file, self.key = pages, file, key
        self.account = Account(pages, meter)
        self.counters: dict[str, mending.Rows] = {}
        self._migrate(version)
        self.run_sql = connect(file, "mode=rw", key=key)

    def _migrate(self, version: int | None) -> None:
        """Migrate the new store up to a version, or to the newest."""
        from scanstore.db import migrations  # start-up: loads the migrator

        migrations.up(self.file, to=version, backup=False, key=self.key)

    def run(self) -> list[Saved]:
        connection = self.run_sql
        try:
            connection.executescript("PRAGMA foreign_keys=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-64000")
            connection.execute("BEGIN IMMEDIATE")
            ours = {
                (kind, name): sql
                for kind, name, sql in connection.execute(
                    "SELECT type, name, sql FROM sqlite_schema ORDER BY rootpage"
                ).fetchall()
            }
            self.tables = {
                name: SalvagedTable(connection, name, sql)
                for (kind, name), sql in ours.items()
                if kind == "table" and not name.startswith("sqlite_") and not any(is_part(name, of) for of in DERIVED)
            }
            with mending.without_triggers(connection):
                own = self._find_roots(ours)
                self._take_all()
                self._read_columns()
                before = self._rows()
                changed = mending.until_settled(connection, mending.foreign_keys(connection))
            connection.execute("COMMIT")
            self._migrate(None)
            connection.execute("BEGIN IMMEDIATE")
            with mending.without_triggers(connection):
                statements = (*mending.unreadable(connection), *mending.MENDING, *mending.foreign_keys(connection))
                changed += mending.until_settled(connection, statements)
                self.account.warnings.extend(mending.rewrite_times(connection))
                mending.count(connection)
                self._compare_counters()
                saved = [*self._saved(before, self._rows()), *own.carry(connection)]
                self._judge(saved, changed)
                if self.account.affected & set(mending.OF_FILES):
                    for sql in mending.OUTDATED:
                        connection.execute(sql)
            for sql in ESTIMATE:
                connection.execute(sql).fetchall()
            connection.execute("COMMIT")
        finally:
            connection.close()
        return sorted(saved)

    def _rows(self) -> dict[str, int]:
        there = {name for (name,) in self.run_sql.execute("SELECT name FROM sqlite_schema")}
        names = (name for name in self.tables if name in there)
        return {name: self.run_sql.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}

    def _saved(self, before: dict[str, int], after: dict[str, int]) -> Iterator[Saved]:
        for name, table in sorted(self.tables.items()):
            if saved := table.saved(before[name], after.get(name, before[name])):
                yield saved

    def _judge(self, saved: list[Saved], changed: Counter[str]) -> None:
        """Add to the affected tables those of which something is missing, does not fit or was changed."""
        self.account.affected.update(table.table for table in saved if table.lost or table.bad_pages)
        self.account.affected.update(changed)
        self.account.affected.update(table.name for table in self.tables.values() if table.doubtful)

    # What the file says of itself

    def _find_roots(self, ours: dict[tuple[str, str], str | None]) -> UserTables:
        """Read the damaged file's own list of tables, wherever it is left, and count what the indexes have."""
        tree = PageTree(self.pages, 1)
        listed = list(filter(_is_schema, tree.rows()))
        if tree.bad or tree.broken:
            self.account.note(tree, "sqlite_schema")
            self.account.warnings.append("the list of tables is damaged: tables of your own may be missing too")
            for orphan in self.pages.loose(self.pages.unaccounted()):
                if all(map(_is_schema, orphan.rows)):
                    listed.extend(orphan.rows)
                    self.account.adopt(orphan, "sqlite_schema")
        partial = {name for (kind, name), sql in ours.items() if kind == "index" and sql and " WHERE " in sql}
        indexes: list[tuple[str, int, SalvagedTable | None]] = []
        own = UserTables(self.account, ours)
        for row in listed:
            kind, name, of, root = str(row.values[0]), str(row.values[1]), str(row.values[2]), row.values[3]
            assert isinstance(root, int)
            if kind == "table" and root and name in self.tables and self.tables[name].root is None:
                self.tables[name].root = root
                own.compare(row, self.tables)
            elif name == "sqlite_sequence":
                self._take_sequence(root)
            elif kind == "table" and name in COUNTED and name not in self.tables:
                self._take_counters(name, root)
            elif (kind, name) in ours or name.startswith("sqlite_"):
                if root:  # of what is not in self.tables it is enough to know the pages
                    known = kind == "index" and name not in partial
                    indexes.append((name, root, self.tables.get(of) if known else None))
                own.compare(row, self.tables)
            else:
                own.add(row)
        for name, root, table in indexes:
            tree = PageTree(self.pages, root).skim()
            self.account.note(tree, name)
            if table is not None:
                table.compare(tree)
        own.reserve()
        for each in COUNTERS:
            if ("table", each.table) in ours and each.table not in self.counters:
                counted = ", ".join(each.sources.values())
                self.account.warnings.append(f"{each.table} is missing: no counter shows lost rows of {counted}")
        return own

    def _take_sequence(self, root: int) -> None:
        """Ids that were given stay given, though their rows may be lost."""
        tree = PageTree(self.pages, root)
        for row in tree.rows():
            if len(row.values) != 2 or not isinstance(row.values[1], int):
                continue
            self.account.sequences[str(row.values[0])] = row.values[1]
            if row.values[0] in self.tables:
                self.run_sql.execute("DELETE FROM sqlite_sequence WHERE name = ?", row.values[:1])
                self.run_sql.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", row.values)
        self.account.note(tree, "sqlite_sequence")

    def _take_counters(self, name: str, root: int) -> None:
        tree = PageTree(self.pages, root)
        columns = [column[1] for column in self.run_sql.execute(f'PRAGMA table_info("{name}")')]
        rows = [dict(zip(columns, row.values, strict=False)) for row in tree.rows()]
        self.counters[name] = [row for row in rows if len(row) == len(columns)]
        self.account.note(tree, name)

    def _read_columns(self) -> None:
        """Keep the counted columns of the saved rows, to be compared with the rows that they count."""
        for each in COLUMNS:
            if each.table in self.tables:
                self.counters[each.table] = self._rows_of(each.table)

    def _rows_of(self, name: str) -> mending.Rows:
        columns = [column[1] for column in self.run_sql.execute(f'PRAGMA table_info("{name}")')]
        return [dict(zip(columns, row, strict=True)) for row in self.run_sql.execute(f'SELECT * FROM "{name}"')]

    def _compare_counters(self) -> None:
        """A counter that says more than there is shows that rows are lost."""
        for name, before in self.counters.items():
            now = self._rows_of(name)
            for table, missing in mending.deficits(COUNTED[name], before, now).items():
                self.account.affected.add(table)
                if table in self.tables:
                    self.tables[table].known = max(self.tables[table].known, self.tables[table].count() + missing)

    def _take_all(self) -> None:
        for table in self.tables.values():
            if table.root is not None:
                table.take_tree(self.account)
        take_orphans(list(self.tables.values()), self.account)


def _is_schema(row: Row) -> bool:
    values = row.values
    return (
        len(values) == 5
        and values[0] in ("table", "index", "view", "trigger")
        and all(isinstance(value, str) for value in values[1:3])
        and isinstance(values[3], int)
        and values[3] >= 0
    )
