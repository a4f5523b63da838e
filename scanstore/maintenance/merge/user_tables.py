"""The user's own tables in another store: copied if this store has no table of that name.

The foreign keys of such a table decide what its columns mean. One that points at a row of scanstore's gets our number
of that row. Other columns stay as they are, so that a number which no foreign key declares keeps the other store's
meaning. A table that both stores have is compared: where ours lacks some of their rows it is named, since nothing says
which rows of a user's own are the same.

Change here: which tables of a user's own can be taken over.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

import peewee

from scanstore.db import foreign_schema, user_schema
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.files import quoted
from scanstore.db.user_schema import UserPart
from scanstore.errors import Conflict
from scanstore.maintenance.merge.rows import Merge, Merged, ours
from scanstore.maintenance.ownership import OwnerLink, links_of, remove_dangling


class _Plan(NamedTuple):
    """How the rows of a table are read: each stored column by an expression, and which rows can come."""

    columns: dict[str, str]
    where: str


def merge_user_tables(merge: Merge) -> None:
    """Tables of the user's own that this store lacks, with their indexes; omitted parts are named."""
    theirs = user_schema.parts(merge.run, SCHEMA_VERSION, "other")
    for part in user_schema.left_out(theirs):
        merge.skipped[f"the {part.kind} {part.name}"] = part.reason
    tables = {part.name.lower(): part for part in theirs if part.kind == "table" and not part.virtual}
    if tables or theirs:
        _UserTables(merge, tables).take(theirs)


class _UserTables:
    """One merge of a user's own tables: those that were ``made``, and those that stay ``apart``."""

    def __init__(self, merge: Merge, tables: dict[str, UserPart]) -> None:
        self.merge, self.tables = merge, tables
        self.ours = foreign_schema.names(SCHEMA_VERSION)
        self.here = {
            str(name).lower(): (str(kind), str(name))
            for kind, name in merge.run("SELECT type, name FROM main.sqlite_master")
        }
        self.made: list[str] = []
        self.apart: set[str] = set()
        self.parents = {
            key: {str(row[2]).lower() for row in merge.run(f"PRAGMA other.foreign_key_list({quoted(part.name)})")}
            for key, part in tables.items()
        }

    def take(self, theirs: list[UserPart]) -> None:
        """Take over the tables, parents first, and then the indexes."""
        order: list[UserPart] = []
        seen: set[str] = set()
        for start in self.tables:
            stack = [(start, False)]
            while stack:
                key, is_after_parents = stack.pop()
                if is_after_parents:
                    order.append(self.tables[key])
                elif key not in seen:
                    seen.add(key)
                    stack.append((key, True))
                    stack += [(parent, False) for parent in sorted(self.parents[key]) if parent in self.tables]
        for part in order:
            self._table(part)
        # Only now, since tables may point at each other in a circle.
        made = set(self.made)
        for part in order:
            if part.name in made:
                self._copy(part)
        self._remove_dangling()
        for part in theirs:
            if part.kind == "index":
                self._index(part)

    def _leave(self, part: UserPart, why: str) -> None:
        self.apart.add(part.name.lower())
        rows = self.merge.number(f"SELECT count(*) FROM other.{quoted(part.name)}")
        self.merge.skipped[f"the table {part.name} ({rows} rows)"] = why

    def _table(self, part: UserPart) -> None:
        plan = self._plan(part)
        if isinstance(plan, str):
            self._leave(part, f"{plan}; write its rows with: {_dump(part)}")
        elif part.name.lower() in self.here:
            self._compare(part, plan)
        else:
            connection = self.merge.db.connection()  # type: ignore[no-untyped-call]
            if error := user_schema.create(connection, "table", part.name, part.sql):
                return self._leave(part, f"{error}; create it here and copy its rows")
            self.here[part.name.lower()] = ("table", part.name)
            self.made.append(part.name)

    def _plan(self, part: UserPart) -> _Plan | str:
        """How to read the rows of a table; or why that cannot be."""
        rows = self.merge.run(f"PRAGMA other.table_xinfo({quoted(part.name)})")
        columns = {str(row[1]): f"o.{quoted(str(row[1]))}" for row in rows if not row[6]}
        spelled = {column.lower(): column for column in columns}
        conditions, changed = [], set()
        keys: dict[object, list[tuple[object, ...]]] = {}
        for row in self.merge.run(f"PRAGMA other.foreign_key_list({quoted(part.name)})"):
            keys.setdefault(row[0], []).append(row)
        for key in keys.values():
            parent, own = str(key[0][2]).lower(), [str(row[3]) for row in key]
            if parent not in self.ours:
                if parent in self.apart:
                    return f"it points at {key[0][2]}, which is left out"
                continue
            pointed = [None if row[4] is None else str(row[4]).lower() for row in key]
            kinds = {str(r[1]).lower(): (str(r[2]).upper(), r[5]) for r in self._columns(parent)}
            pointed = [name or next((c for c, (_, pk) in kinds.items() if pk == 1), "") for name in pointed]
            if pointed == ["id"] and f"m_{parent}" in self.merge.maps:
                column = spelled.get(own[0].lower())
                if column is None or column in changed:
                    return f"its column {own[0]} points at {parent} and cannot get other numbers"
                changed.add(column)
                columns[column] = ours(parent, quoted(column))
                conditions.append(f"(o.{quoted(column)} IS NULL OR {columns[column]} IS NOT NULL)")
            elif any(kinds.get(str(name), ("INTEGER", 0))[0] != "TEXT" for name in pointed):
                return f"it points at rows of {parent}, which get other numbers here"
            else:  # a name is the same everywhere, if it is here
                has = " OR ".join(f"o.{quoted(column)} IS NULL" for column in own)
                same = " AND ".join(
                    f"p.{quoted(str(name))} = o.{quoted(column)}" for column, name in zip(own, pointed, strict=True)
                )
                conditions.append(f"({has} OR EXISTS (SELECT 1 FROM main.{quoted(parent)} AS p WHERE {same}))")
        return _Plan(columns, " AND ".join(conditions) or "1")

    def _columns(self, table: str) -> list[tuple[object, ...]]:
        return self.merge.run(f"PRAGMA main.table_xinfo({quoted(table)})")

    def _copy(self, part: UserPart) -> None:
        """Take the rows of a table that was made; or drop it again."""
        name, merge, plan = quoted(part.name), self.merge, self._plan(part)
        if isinstance(plan, str):  # a table that it points at was dropped again
            return self._drop(part, plan)
        names = ", ".join(map(quoted, plan.columns))
        try:
            with merge.db.atomic():
                merge.run(
                    f"INSERT INTO main.{name} ({names}) SELECT {', '.join(plan.columns.values())}"
                    f" FROM other.{name} AS o WHERE {plan.where}"
                )
        except (Conflict, peewee.OperationalError) as error:
            if str(error) == "interrupted":
                raise
            return self._drop(part, str(error))
        for (last,) in merge.run(f"SELECT seq FROM other.sqlite_sequence WHERE name = {_text(part.name)}"):
            merge.run(f"DELETE FROM main.sqlite_sequence WHERE name = {_text(part.name)}")
            merge.run(f"INSERT INTO main.sqlite_sequence (name, seq) VALUES ({_text(part.name)}, {_number(last)})")

    def _drop(self, part: UserPart, why: str) -> None:
        self.merge.run(f"DROP TABLE main.{quoted(part.name)}")
        del self.here[part.name.lower()]
        self.made.remove(part.name)
        self._leave(part, f"{why}; write its rows with: {_dump(part)}")

    def _settle(self, part: UserPart, done: Merged) -> None:
        """Report the outcome for a table, and for rows that point at unmerged rows."""
        self.merge.tables[part.name] = done
        rows = self.merge.number(f"SELECT count(*) FROM other.{quoted(part.name)}")
        why = f"they point at rows that were not merged; write them with: {_dump(part)}"
        self.merge.skip(rows - done.added - done.same, f"rows of {part.name}", why)

    def _compare(self, part: UserPart, plan: _Plan) -> None:
        """Look whether ours has all rows of a table that both have."""
        kind, name = self.here[part.name.lower()]
        mine = {str(row[1]).lower() for row in self._columns(name)} if kind == "table" else set()
        if kind != "table":
            return self._leave(part, f"{name} is a {kind} here; rename one of them")
        if not {column.lower() for column in plan.columns} <= mine:
            return self._leave(part, f"both stores have it, with other columns; write its rows with: {_dump(part)}")
        theirs = [f"{value} COLLATE BINARY" for value in plan.columns.values()]
        own = [f"o.{quoted(column)} COLLATE BINARY" for column in plan.columns]
        places = ", ".join(str(n) for n in range(1, len(own) + 1))
        lacking = self.merge.number(
            f"SELECT count(*) FROM (SELECT {', '.join(theirs)}, count(*) FROM other.{quoted(part.name)} AS o"
            f" WHERE {plan.where} GROUP BY {places} EXCEPT"
            f" SELECT {', '.join(own)}, count(*) FROM main.{quoted(name)} AS o GROUP BY {places})"
        )
        if lacking:
            why = f"both stores have it, and {lacking} of its rows are only there; write them with: {_dump(part)}"
            return self._leave(part, why)
        same = self.merge.number(f"SELECT count(*) FROM other.{quoted(part.name)} AS o WHERE {plan.where}")
        self._settle(part, Merged(0, same))

    def _remove_dangling(self) -> None:
        """Remove rows that were copied and point at others that were not."""
        keys: dict[str, list[str]] = {}
        for kind, name in self.here.values():
            if kind == "table" and not name.startswith("sqlite_"):
                rows = sorted((row for row in self._columns(name) if row[5]), key=lambda row: int(str(row[5])))
                keys[name] = [str(row[1]) for row in rows]
        run = self.merge.db.execute_sql
        links: dict[str, list[OwnerLink]] = {name: links_of(run, name, keys) for name in self.made}
        remove_dangling(run, links)
        for name in self.made:
            added = self.merge.number(f"SELECT count(*) FROM main.{quoted(name)}")
            self._settle(self.tables[name.lower()], Merged(added, 0))

    def _index(self, part: UserPart) -> None:
        """Make an index of a table that was made, or of one of scanstore's."""
        if part.name.lower() in self.here or part.table not in self.made and part.table.lower() not in self.ours:
            return
        connection = self.merge.db.connection()  # type: ignore[no-untyped-call]
        if error := user_schema.create(connection, "index", part.name, part.sql):
            self.merge.skipped[f"the index {part.name}"] = error


def _dump(part: UserPart) -> str:
    return f"scanstore dump FILE --table {shlex.quote(part.name)} --db OTHER"


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
