"""The user's own part of a schema: tables, indexes, views and triggers that scanstore did not make.

Tables and indexes are carried from file to file by their statements. A statement may be a stranger's, so only
CREATE TABLE and CREATE INDEX are run, and nothing that selects. Views and triggers, which would run by themselves
later, and virtual tables, whose rows belong to a module, are left out by name.

Change here: what of a user's own is carried, and what a statement of theirs may do.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from scanstore.db import foreign_schema
from scanstore.db.files import quoted
from scanstore.db.fingerprints import WHOLE

Query = Callable[[str], list[Any]]  #: a statement -> its rows

_DEFINING = {
    sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_READ, sqlite3.SQLITE_REINDEX, sqlite3.SQLITE_FUNCTION,
}  # fmt: skip
SHADOW = re.compile(r"_(data|idx|content|docsize|config|segments|segdir|stat|node|parent|rowid|vocab)$")
AGAIN = {
    "view": "views are not carried; create it again",
    "trigger": "triggers are not carried; create it again",
}
VIRTUAL = "virtual tables are not carried; create it again and fill it"
TAKEN = "scanstore uses this name now"
KINDS = ("table", "index", "view", "trigger")


class UserPart(NamedTuple):
    """A table, index, view or trigger of the user's own, its table and its statement."""

    kind: str
    name: str
    table: str
    sql: str

    @property
    def virtual(self) -> bool:
        return re.match(r"CREATE\s+VIRTUAL\s", self.sql, re.IGNORECASE) is not None


class LeftOut(NamedTuple):
    """Something of the file that the new one does not have: a table, column, view, trigger or index; and why."""

    kind: str
    name: str
    reason: str


def parts(query: Query, version: int, schema: str = "main") -> list[UserPart]:
    """Return the user's own parts of a schema of this version: tables first, then indexes, views and triggers."""
    known = foreign_schema.names(version)
    rows = query(
        f"SELECT type, name, tbl_name, sql FROM {schema}.sqlite_master"
        " WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    found = [UserPart(*row) for row in rows if row[0] in KINDS and row[1].lower() not in known]
    virtual = {part.name for part in found if part.virtual}
    shadows = {row[1] for row in query(f"PRAGMA {schema}.table_list") if row[2] == "shadow"}
    found = [part for part in found if part.table not in shadows and shadowed(part.table, virtual) is None]
    return sorted(found, key=lambda part: (KINDS.index(part.kind), part.name))


def shadowed(name: str, virtual: Iterable[str]) -> str | None:
    """Return the virtual table that a table belongs to by its name, if it does."""
    match = SHADOW.search(name)
    return name[: match.start()] if match and name[: match.start()] in virtual else None


def left_out(found: Iterable[UserPart]) -> list[LeftOut]:
    """Return those of these parts that are never carried."""
    return [
        LeftOut(part.kind, part.name, AGAIN.get(part.kind, VIRTUAL))
        for part in found
        if part.kind in AGAIN or part.virtual
    ]


def create(connection: sqlite3.Connection, kind: str, name: str, sql: str) -> str | None:
    """Create a table or an index; return why that could not be. Runs nothing else, whatever the statement says."""
    if not re.match(rf"CREATE\s+(UNIQUE\s+)?{kind}\s", sql, re.IGNORECASE):
        return "its definition cannot be read"
    connection.execute("SAVEPOINT user_table")
    connection.set_authorizer(defines)
    try:
        connection.execute(sql)
        error = None
    except sqlite3.Error as found:
        if getattr(found, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise  # its time is over, and with it the transaction
        error = str(found)
    finally:
        connection.set_authorizer(allows)
    sql = "SELECT 1 FROM main.sqlite_master WHERE type = ? AND name = ?"
    if error is None and connection.execute(sql, (kind, name)).fetchone() is None:
        error = "its definition has another name"
    if error is not None:
        connection.execute("ROLLBACK TO user_table")
    connection.execute("RELEASE user_table")
    return error


def recreate(connection: sqlite3.Connection, found: Iterable[UserPart], version: int) -> list[LeftOut]:
    """Create the tables and indexes among these parts in a file of this version; return what could not be.

    A table or index that is there already stays as it is. What would be refused when the file is opened is dropped
    again. Inside a transaction.
    """
    wanted = list(found)
    missing = left_out(wanted)
    sql = "SELECT lower(name) FROM main.sqlite_master"
    there = {name for (name,) in connection.execute(sql).fetchall()}
    taken = foreign_schema.names(max(WHOLE))
    made: set[tuple[str, str]] = set()
    for part in wanted:
        if part.kind in AGAIN or part.virtual:
            continue
        reason = TAKEN if part.name.lower() in taken else None
        if reason is None and part.name.lower() not in there:
            reason = create(connection, part.kind, part.name, part.sql)
            if reason is None:
                made.add((part.kind, part.name))
        if reason is not None:
            missing.append(LeftOut(part.kind, part.name, reason))
    for bad in foreign_schema.foreign(connection, version) if made else ():
        if (bad.type, bad.name) in made:
            connection.execute(f"DROP {bad.type} main.{quoted(bad.name)}")
            missing.append(LeftOut(bad.type, bad.name, f"it {bad.why}"))
    return missing


def holding(query: Query, version: int, parent: str, column: str) -> dict[Any, str]:
    """Return the values of a column in those rows of one of scanstore's tables that may not be deleted, as rows of the
    user's own point at them, each with the table of the user's own.
    """
    held: dict[Any, str] = {}
    rows = query(f"PRAGMA main.table_xinfo({quoted(parent)})")
    primary = [row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5]]
    columns = {row[1].lower() for row in rows}
    for part in parts(query, version):
        if part.kind != "table" or part.virtual:
            continue
        never = {row[1].lower() for row in query(f"PRAGMA main.table_xinfo({quoted(part.name)})") if row[3]}
        keys: dict[int, list[tuple[Any, ...]]] = {}
        for row in query(f"PRAGMA main.foreign_key_list({quoted(part.name)})"):
            if row[2].lower() == parent:
                keys.setdefault(row[0], []).append(row)
        for key in keys.values():
            action = key[0][6]
            if action in ("NO ACTION", "RESTRICT") or action == "SET NULL" and any(r[3].lower() in never for r in key):
                pairs = [(row[3], row[4] or (primary + [""] * len(key))[row[1]]) for row in key]
                if any(theirs.lower() not in columns for _, theirs in pairs):
                    continue  # SQLite refuses every row of it
                same = " AND ".join(f"p.{quoted(theirs)} = o.{quoted(own)}" for own, theirs in pairs)
                sql = f"SELECT DISTINCT p.{quoted(column)} FROM {quoted(part.name)} AS o JOIN {parent} AS p ON {same}"
                held.update((value, part.name) for (value,) in query(sql))
    return held


def defines(action: int, *_: object) -> int:
    """Allow only what defines a table or an index; for `set_authorizer`."""
    return sqlite3.SQLITE_OK if action in _DEFINING else sqlite3.SQLITE_DENY


def allows(*_: object) -> int:
    """Allow everything again; for `set_authorizer`."""
    return sqlite3.SQLITE_OK
