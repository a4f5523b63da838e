"""The tables of a new store that receive the rows of a damaged file, and the counts of pages.

Change here: which rows are taken for rows of a table.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, islice
from typing import NamedTuple

from scanstore.db.files import quoted as quoted
from scanstore.db.progress import Meter
from scanstore.db.user_schema import LeftOut as LeftOut
from scanstore.maintenance.repair.sqlite_pages import Orphan, Pages, PageTree, Row, Value

_KINDS: dict[str, type | tuple[type, ...]] = {
    "INTEGER": int, "INT": int, "TEXT": str, "VARCHAR": str, "BLOB": bytes, "REAL": (int, float),
}  # fmt: skip
BATCH = 500  #: rows between two reports of progress
_LITERAL = re.compile(r"[-+]?\d[\w.+-]*|[xX]?'(?:[^']|'')*'|NULL|TRUE|FALSE", re.IGNORECASE)


class Saved(NamedTuple):
    """What became of a table: rows saved, rows lost (at least), pages of it that made no sense."""

    table: str
    rows: int
    lost: int
    bad_pages: int


class UnreadPage(NamedTuple):
    """A page that could not be read or that nothing leads to, and the table or index that it is part of, if known."""

    page: int
    part_of: str | None


class Account:
    """Unread pages, and the tables that may be `affected`."""

    def __init__(self, pages: Pages, meter: Meter) -> None:
        self.pages, self.meter = pages, meter
        self.affected: set[str] = set()
        self.left_out: list[LeftOut] = []
        self.warnings: list[str] = []
        self.sequences: dict[str, int] = {}  # the greatest id that each table ever gave
        self._parts: dict[int, str | None] = dict.fromkeys(pages.bad_free, "free pages")

    def note(self, tree: PageTree, name: str) -> None:
        """Note the bad pages of a tree that was read."""
        self._parts.update(dict.fromkeys(tree.bad, name))
        self.report()

    def report(self) -> None:
        """Report the number of pages that were read."""
        self.meter.at(min(len(self.pages.seen), self.pages.count))

    def adopt(self, orphan: Orphan, name: str) -> None:
        """Count a page that nothing leads to as read."""
        self.pages.seen |= orphan.pages
        self._parts.update(dict.fromkeys(orphan.bad, name))

    def leave_out(self, kind: str, name: str, reason: str) -> None:
        self.left_out.append(LeftOut(kind, name, reason))

    def unread(self) -> list[UnreadPage]:
        """The pages that could not be read, or that nothing leads to."""
        parts = {**dict.fromkeys(self.pages.unaccounted()), **self._parts}
        return [UnreadPage(*part) for part in sorted(parts.items())]


class SalvagedTable:
    """A table of the new store, with the shape of the one in the damaged file.

    Rows of a user's `own` table keep their rowids.
    """

    def __init__(
        self, run: sqlite3.Connection, name: str, sql: str, *, root: int | None = None, own: bool = False
    ) -> None:
        self.run, self.name, self.root = run, name, root
        self.keyed = bool(re.search(r"\bWITHOUT\s+ROWID\b", sql.rpartition(")")[2], re.IGNORECASE))
        columns = [c for c in run.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall() if c[6] in (0, 3)]
        keys = sorted((c for c in columns if c[5]), key=lambda c: c[5])
        # A table without rowids is stored with its key in front.
        self.columns = [*keys, *(c for c in columns if not c[5])] if self.keyed else columns
        alone = len(keys) == 1 and keys[0][2].upper() == "INTEGER" and not self.keyed
        self.rowid = self.columns.index(keys[0]) if alone else None
        self.defaults = [
            run.execute(f"SELECT {c[4]}").fetchone()[0] if c[4] and _LITERAL.fullmatch(c[4]) else None
            for c in self.columns
        ]
        self.given = [place for place, column in enumerate(self.columns) if column[6] == 0]
        names = [quoted(self.columns[place][1]) for place in self.given]
        taken = {column[1].lower() for column in self.columns}
        free = [word for word in ("rowid", "_rowid_", "oid") if word not in taken]
        self.numbered = own and not self.keyed and self.rowid is None and bool(free)
        if self.numbered:
            names.append(free[0])
        self.insert = (
            f"INSERT OR IGNORE INTO {quoted(name)} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        )
        self.parents = [
            (place, key[2], key[4])
            for key in run.execute(f"PRAGMA foreign_key_list({quoted(name)})").fetchall()
            for place, column in enumerate(self.columns)
            if column[1] == key[3] and key[4]
        ]
        self.extra = 0  # columns that the file has after these
        self.known = 0  # rows that an index has
        self.counts: set[int] = set()  # rows that those indexes have that were read completely
        self.read = 0  # rows that its own pages have, those that make no sense too
        self.bad: set[int] = set()

    @property
    def astray(self) -> bool:
        """Whether some of its pages may be among those that nothing leads to."""
        return bool(self.bad) or self.root is None

    @property
    def doubtful(self) -> bool:
        """Whether something of it may be missing, or its indexes do not agree with it."""
        return self.astray or bool(self.counts - {self.read})

    def count(self) -> int:
        """How many rows the new table has."""
        return int(self.run.execute(f"SELECT count(*) FROM {quoted(self.name)}").fetchone()[0])

    def compare(self, index: PageTree) -> None:
        """Take what an index that was read knows of the rows: it has an entry for each."""
        self.known = max(self.known, index.entries + index.broken)
        if not index.bad and not index.broken:
            self.counts.add(index.entries)

    def values(self, row: Row) -> list[Value]:
        """The row as it is to be inserted; columns that were added later have their default."""
        values = [*row.values, *self.defaults[len(row.values) :]]
        if self.rowid is not None:
            values[self.rowid] = row.rowid
        values = [values[place] for place in self.given]
        return [*values, row.rowid] if self.numbered else values

    def fits(self, row: Row) -> bool:
        """Whether the row could be one of this table."""
        if (row.rowid is None) != self.keyed or len(row.values) != len(self.columns) + self.extra:
            return False
        for place, (column, value) in enumerate(zip(self.columns, row.values, strict=False)):
            if place == self.rowid:
                if value is not None:
                    return False
            elif value is None:
                if column[3]:
                    return False
            elif not isinstance(value, _KINDS.get(column[2].upper().partition("(")[0], object)):
                return False
        return True

    def leads_nowhere(self, row: Row, tables: dict[str, SalvagedTable]) -> bool:
        """Whether the row points at something that was never there: its parent table is complete, and has it not."""
        return any(
            row.values[place] is not None
            and (table := tables.get(parent)) is not None
            and not table.astray
            and not self.run.execute(
                f"SELECT 1 FROM {quoted(parent)} WHERE {quoted(column)} = ?", (row.values[place],)
            ).fetchone()
            for place, parent, column in self.parents
        )

    def take_tree(self, account: Account) -> None:
        """Insert the rows that its root leads to, and note what of its pages makes no sense."""
        assert self.root is not None
        tree = PageTree(account.pages, self.root)
        self.take(tree.rows(), account)
        self.bad |= tree.bad
        self.read += tree.entries + tree.broken
        account.note(tree, self.name)

    def take(self, rows: Iterable[Row], account: Account) -> None:
        """Insert rows; one that breaks a rule of the table is dropped."""
        width = len(self.columns) + self.extra
        fitting = (row for row in rows if len(row.values) <= width and (row.rowid is None) == self.keyed)
        values = map(self.values, fitting)
        while (first := next(values, None)) is not None:
            # A refused row is dropped, and the iterator stands behind it.
            with suppress(sqlite3.IntegrityError, OverflowError):
                self.run.executemany(self.insert, chain([first], islice(values, BATCH)))
            account.report()

    def saved(self, known: int = 0, kept: int | None = None) -> Saved | None:
        """What became of it, if it has or had rows; `kept` is how many it has now if not all of them."""
        kept = self.count() if kept is None else kept
        known = max(known, kept, self.known, self.read)
        return Saved(self.name, kept, known - kept, len(self.bad)) if known or self.bad else None


def take_orphans(tables: list[SalvagedTable], account: Account) -> None:
    """Give pages that nothing leads to to the only table of these that has lost its way to some and whose rows they
    can be. Where there are several, those count whose rows point at rows that are there; if there are still several,
    all of them may have lost rows.
    """
    astray, names = [table for table in tables if table.astray], {table.name: table for table in tables}
    for orphan in account.pages.loose(account.pages.unaccounted()):
        homes = [table for table in astray if all(map(table.fits, orphan.rows))]
        if len(homes) > 1:
            homes = [t for t in homes if not any(t.leads_nowhere(row, names) for row in orphan.rows)] or homes
        if len(homes) == 1:
            account.adopt(orphan, homes[0].name)
            homes[0].take(orphan.rows, account)
            homes[0].bad |= orphan.bad
        else:
            homes = homes or [table for table in tables if all(map(table.fits, orphan.rows))]
            account.affected.update(table.name for table in homes)
