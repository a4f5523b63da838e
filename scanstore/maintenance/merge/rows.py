"""The statements of a merge: match rows of two attached stores, and copy the missing ones.

Inside, ``other`` is the attached store that is read. For each table of which rows are pointed at, ``temp.m_<table>``
says which of our rows is which of theirs, and whether it is ``new`` here. Expressions are about ``o``, a row of
theirs; :func:`ours` is the expression for our row instead of theirs. All is done by statements over whole tables, so
that nothing but these maps is in memory.

Change here: how rows are matched, numbered, copied and compared. What makes two rows the same is said by the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scanstore.db.database import Database
from scanstore.db.progress import Meter

STAYS = "ours stays"
TIMES = ("created_at", "updated_at")
#: Leases are not taken over: no process works on these rows here.
UNLEASED = {"process": "NULL", "lease_until": "NULL", "worker": "iif(o.lease_until IS NULL, o.worker, NULL)"}


class MergeConflict(NamedTuple):
    """Something that both stores have and say differently, and what became of it; ``key`` names it."""

    table: str
    key: str
    what: str


class Merged(NamedTuple):
    """How many rows of a table were ``added`` and how many both had: the ``same``, conflicts among them."""

    added: int
    same: int


def ours(table: str, column: str) -> str:
    """Our id for a column of theirs that points at a row of a table."""
    return f"(SELECT ours FROM temp.m_{table} WHERE theirs = o.{column})"


def is_new(table: str, column: str) -> str:
    """Whether the row of theirs that a column points at is new here."""
    return f"coalesce((SELECT new FROM temp.m_{table} WHERE theirs = o.{column}), 0)"


class Merge:
    """One merge that is under way: its statements, and its result so far."""

    def __init__(self, db: Database, meter: Meter) -> None:
        self.db = db
        self.meter = meter
        self.left: dict[str, int] = {}  # rows of their tables that are not copied yet, if they are counted
        self.tables: dict[str, Merged] = {}
        self.conflicts: list[MergeConflict] = []
        self.skipped: dict[str, str] = {}
        self.maps: list[str] = []

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Run one statement to its end and return its rows."""
        return self.db.execute_sql(sql).fetchall()

    def number(self, sql: str) -> int:
        """The one number that a query finds."""
        found = self.db.execute_sql(sql).fetchall()
        return int(found[0][0] or 0) if found else 0

    def table(self, name: str, columns: str) -> None:
        """Make a table of the merge, to be gone with it."""
        self.run(f"CREATE TEMP TABLE {name} ({columns})")
        self.maps.append(name)

    def done(self) -> None:
        """Forget the maps."""
        for name in self.maps:
            self.run(f"DROP TABLE temp.{name}")

    def columns(self, table: str) -> list[str]:
        """Columns that are stored."""
        return [str(row[1]) for row in self.run(f'PRAGMA main.table_xinfo("{table}")') if not row[6]]

    # Matching

    def map(self, table: str, kind: str = "INTEGER", *, by: str = "") -> None:
        """Begin the map of a table; rows with an equal column ``by`` are the same."""
        self.table(f"m_{table}", f"theirs {kind} PRIMARY KEY, ours {kind} UNIQUE, new INTEGER NOT NULL")
        if by:
            self.match(table, {by: f"o.{by}"})

    def match(
        self, table: str, key: Mapping[str, str], *, where: str = "1", mine: str = "1", several: bool = False
    ) -> None:
        """Take rows for the same whose ``key`` is: our columns by expressions for theirs.

        ``several`` says that more rows may have one key: then the first of theirs is the first of ours, and so on.
        ``where`` and ``mine`` bound theirs and ours.
        """
        free = f"{where} AND o.id NOT IN (SELECT theirs FROM temp.m_{table})"
        if not several:
            equal = " AND ".join(f"m.{column} IS {value}" for column, value in key.items())
            self.run(
                f"INSERT OR IGNORE INTO temp.m_{table} (theirs, ours, new) SELECT o.id, m.id, 0"
                f" FROM other.{table} AS o CROSS JOIN main.{table} AS m ON {equal} WHERE {free} AND {mine}"
            )
            return
        sides = (
            ("theirs", f"other.{table} AS o", key.values(), free),
            ("ours", f"main.{table} AS m", (f"m.{column}" for column in key),
             f"{mine} AND m.id NOT IN (SELECT ours FROM temp.m_{table})"),
        )  # fmt: skip
        for name, source, values, bound in sides:
            self.table(f"k_{name}", "key TEXT, n INTEGER, id, PRIMARY KEY (key, n)")
            letter = source[-1]
            self.run(
                f"INSERT INTO temp.k_{name} SELECT key, row_number() OVER (PARTITION BY key ORDER BY id), id FROM"
                f" (SELECT {text_of(values)} AS key, {letter}.id AS id FROM {source} WHERE {bound})"
            )
        self.run(
            f"INSERT OR IGNORE INTO temp.m_{table} (theirs, ours, new)"
            " SELECT t.id, u.id, 0 FROM temp.k_theirs AS t JOIN temp.k_ours AS u USING (key, n)"
        )
        for name in ("k_theirs", "k_ours"):
            self.run(f"DROP TABLE temp.{name}")
            self.maps.remove(name)

    # Copying

    def add(
        self,
        table: str,
        values: Mapping[str, str] | None = None,
        *,
        where: str = "1",
        own: bool = False,
    ) -> None:
        """Add the rows of theirs that have no partner, with ``values`` for some columns.

        They get the next numbers in the order of theirs, or keep their ``own`` ids.
        """
        number = "o.id"
        if not own:
            base = self.number(
                f"SELECT max(coalesce((SELECT max(id) FROM main.{table}), 0),"
                f" coalesce((SELECT seq FROM main.sqlite_sequence WHERE name = '{table}'), 0))"
            )
            number = f"{base} + row_number() OVER (ORDER BY o.id)"
        self.run(
            f"INSERT INTO temp.m_{table} (theirs, ours, new) SELECT o.id, {number}, 1 FROM other.{table} AS o"
            f" WHERE {where} AND o.id NOT IN (SELECT theirs FROM temp.m_{table})"
        )
        self.copy(table, {"id": "x.ours", **(values or {})}, f"JOIN temp.m_{table} AS x ON x.theirs = o.id AND x.new")
        self.count_same(table)

    def copy(self, table: str, values: Mapping[str, str], join: str = "", where: str = "1") -> None:
        """Copy rows of theirs, with ``values`` for some columns."""
        columns = self.columns(table)
        chosen = ", ".join(values.get(column, f'o."{column}"') for column in columns)
        names = ", ".join(f'"{column}"' for column in columns)
        cursor = self.db.execute_sql(
            f'INSERT INTO main."{table}" ({names}) SELECT {chosen} FROM other."{table}" AS o {join} WHERE {where}'
        )
        before = self.tables.get(table, Merged(0, 0))
        self.tables[table] = before._replace(added=before.added + max(cursor.rowcount, 0))
        cursor.close()
        if rows := self.left.pop(table, 0):
            self.meter.add(rows)

    # Comparing

    def compare(
        self,
        table: str,
        key: str,
        *,
        but: Sequence[str] = (),
        values: Mapping[str, str] | None = None,
        where: str = "1",
    ) -> None:
        """List, by the expression ``key``, the rows of the map whose columns differ, ``but`` for some."""
        values = values or {}
        looked = [c for c in self.columns(table) if c not in ("id", *TIMES, *but)]
        differ = " || ".join(
            "iif(m.\"{0}\" IS {1}, '', ', {0}')".format(column, values.get(column, f'o."{column}"'))
            for column in looked
        )
        for name, what in self.run(
            f"SELECT * FROM (SELECT {key} AS name, {differ} AS what FROM temp.m_{table} AS x"
            f" JOIN other.{table} AS o ON o.id = x.theirs JOIN main.{table} AS m ON m.id = x.ours"
            f" WHERE NOT x.new AND {where}) WHERE what <> '' ORDER BY name"
        ):
            self.conflict(table, name, f"{str(what)[2:]} differ; {STAYS}")

    def compare_counts(self, table: str, key: str, child: str, column: str, where: str = "1") -> None:
        """List, by the expression ``key``, the rows of the map with more or fewer rows of ``child`` in one store."""
        for name, mine, theirs in self.run(
            f"SELECT * FROM (SELECT {key},"
            f" (SELECT count(*) FROM main.{child} WHERE {column} = x.ours AND {where}) AS mine,"
            f" (SELECT count(*) FROM other.{child} WHERE {column} = x.theirs AND {where}) AS theirs"
            f" FROM temp.m_{table} AS x JOIN other.{table} AS o ON o.id = x.theirs WHERE NOT x.new)"
            " WHERE mine <> theirs"
        ):
            self.conflict(table, name, f"{mine} {child} here and {theirs} there; {STAYS}")

    def count_same(self, table: str) -> None:
        """Count the rows of the map that both stores have."""
        same = self.number(f"SELECT count(*) FROM temp.m_{table} WHERE NOT new")
        self.tables[table] = self.tables[table]._replace(same=same)

    def conflict(self, table: str, key: object, what: str) -> None:
        """List something that could not become one."""
        self.conflicts.append(MergeConflict(table, str(key), what))

    def skip(self, count: int, what: str, why: str) -> None:
        """Name omitted rows, if there are any."""
        if count:
            self.skipped[f"{count} {what}"] = why


def text_of(values: object) -> str:
    """One text of several values, the same if and only if all of them are."""
    return " || '|' || ".join(f"quote({value})" for value in values)  # type: ignore[attr-defined]
