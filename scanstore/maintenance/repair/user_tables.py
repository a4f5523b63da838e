"""The user's own tables in a damaged store: copied into the new one with their rows and indexes.

The file may be a stranger's. Of its schema only CREATE TABLE and CREATE INDEX are run, and nothing that selects;
triggers and views, which would run by themselves later, are left out by name, as is anything that cannot be carried.

Change here: what of a user's own is carried.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

from scanstore.db import schema
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.foreign_schema import foreign
from scanstore.db.user_schema import AGAIN, TAKEN, VIRTUAL, allows, create, defines, shadowed
from scanstore.maintenance.repair.salvaged_tables import Account, SalvagedTable, Saved, quoted, take_orphans
from scanstore.maintenance.repair.sqlite_pages import PageTree, Row


class UserTables:
    """What the damaged file has beside scanstore's own schema (`ours`: the statement of each thing, by type and name).

    `add` and `compare` each row of the file's list of tables, then `reserve`, then `carry`.
    """

    def __init__(self, account: Account, ours: dict[tuple[str, str], str | None]) -> None:
        self.account, self.ours = account, ours
        self._tables: dict[str, tuple[int, str]] = {}
        self._indexes: list[tuple[str, str, int, str | None]] = []
        self._pages: dict[str, set[int]] = {}
        self._trees: dict[str, PageTree] = {}

    def add(self, row: Row) -> None:
        """Take something that is not of scanstore's schema."""
        kind, name, of, root, sql = row.values
        assert isinstance(name, str) and isinstance(root, int)
        text = sql if isinstance(sql, str) else ""
        if kind == "table" and name not in self._tables:
            self._tables[name] = (root, text)
        elif kind == "index":
            self._indexes.append((name, str(of), root, text or None))
        elif kind in AGAIN:
            self.account.leave_out(str(kind), name, AGAIN[str(kind)])

    def compare(self, row: Row, tables: dict[str, SalvagedTable]) -> None:
        """Look whether something that scanstore has too is the same in the file."""
        kind, name, _, _, sql = row.values
        mine = self.ours.get((str(kind), str(name)))
        if mine is None or not isinstance(sql, str) or sql.split() == mine.split():
            return
        if kind in AGAIN:
            self.account.leave_out(str(kind), str(name), "it is not scanstore's own of that name")
        elif kind == "table" and name in tables:
            table = tables[str(name)]
            added = _columns(str(name), sql)[len(table.columns) :]
            table.extra = len(added)
            for column in added:
                reason = "columns added to scanstore's tables are not carried"
                self.account.leave_out("column", f"{name}.{column}", reason)

    def reserve(self) -> None:
        """Visit all pages of the tables and indexes, so that they are not taken for lost pages of another table."""
        pages = self.account.pages
        for name, (root, _) in self._tables.items():
            before = set(pages.seen)
            tree = PageTree(pages, root).skim() if root else None
            if tree is not None:
                self._pages[name] = pages.seen - before
                self.account.note(tree, name)
        for name, _, root, _ in self._indexes:
            self._trees[name] = PageTree(pages, root).skim()
            self.account.note(self._trees[name], name)

    def carry(self, run: sqlite3.Connection) -> Iterator[Saved]:
        """Create the tables and take their rows; return what became of them."""
        # Rows are kept as they are; what a stranger would have checked does not run.
        run.execute("PRAGMA ignore_check_constraints=ON")
        virtual = {name for name, (root, _) in self._tables.items() if not root}
        carried = []
        for name, (root, sql) in sorted(self._tables.items()):
            if name in virtual:
                reason: str | None = VIRTUAL
            elif of := shadowed(name, virtual):
                reason = f"it is a part of the virtual table {of}"
            elif name.startswith("sqlite_") or any(other == name for _, other in schema.expected()):
                reason = TAKEN
            else:
                reason = self._define(run, "table", name, sql)
            if reason is not None:
                self.account.leave_out("table", name, reason)
                continue
            table = SalvagedTable(run, name, sql, root=root, own=True)
            for index, of, _, text in self._indexes:
                if of == name and not re.search(r"\bWHERE\b", text or "", re.IGNORECASE):
                    table.compare(self._trees[index])
            self.account.pages.seen -= self._pages[name]
            table.take_tree(self.account)
            carried.append(table)
        if carried:
            take_orphans(carried, self.account)
        for index, of, _, text in self._indexes:
            if text and (reason := self._define(run, "index", index, text)):
                self.account.leave_out("index", f"{index} of {of}", reason)
        run.execute("PRAGMA ignore_check_constraints=OFF")
        for table in carried:
            if (last := self.account.sequences.get(table.name)) is not None:
                run.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
                run.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))
            if table.doubtful:
                self.account.affected.add(table.name)
            if saved := table.saved():
                yield saved

    def _define(self, run: sqlite3.Connection, kind: str, name: str, sql: str) -> str | None:
        """Create a table or an index; return why that could not be, or why a store with it would not be opened."""
        error = create(run, kind, name, sql)
        if error is None:
            error = next((f"it {part.why}" for part in foreign(run, SCHEMA_VERSION) if part.name == name), None)
            if error is not None:
                run.execute(f"DROP {kind} {quoted(name)}")
        return error


def _columns(name: str, sql: str) -> list[str]:
    """The stored columns that a statement gives a table; none if it is no such statement."""
    scratch = sqlite3.connect(":memory:")
    try:
        if not re.match(r"CREATE\s+TABLE\s", sql, re.IGNORECASE):
            return []
        scratch.set_authorizer(defines)
        scratch.execute(sql)
        scratch.set_authorizer(allows)
        return [c[1] for c in scratch.execute(f"PRAGMA table_xinfo({quoted(name)})") if c[6] in (0, 3)]
    except sqlite3.Error:
        return []
    finally:
        scratch.close()
