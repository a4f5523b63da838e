"""The user's part of a schema: tables, indexes, views and triggers that are not scanstore's.

Tables and indexes are copied between files with their SQL statements. A statement may be untrusted, so only CREATE
TABLE and CREATE INDEX without a SELECT are run. Views and triggers, which would run later, and virtual tables, whose
rows belong to a module, are not copied, and their names are reported.

Change here: which of the user's objects are copied, and which statements are allowed.
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
    """A table, index, view or trigger of the user, with its table and its statement."""

    kind: str
    name: str
    table: str
    sql: str

    @property
    def virtual(self) -> bool:
        return re.match(r"CREATE\s+VIRTUAL\s", self.sql, re.IGNORECASE) is not None


class LeftOut(NamedTuple):
    """A table, column, view, trigger or index of the old file that is not copied to the new one, and the reason."""

    kind: str
    name: str
    reason: str


def parts(query: Query, version: int, schema: str = "main") -> list[UserPart]:
    """Return the user's parts of a schema of this version: tables first, then indexes, views and triggers."""
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
    """Return the virtual table to which a table belongs by its name, or None."""
    match = SHADOW.search(name)
    return name[: match.start()] if match and name[: match.start()] in virtual else None


def left_out(found: Iterable[UserPart]) -> list[LeftOut]:
    """Return the parts that are never copied."""
    return [
        LeftOut(part.kind, part.name, AGAIN.get(part.kind, VIRTUAL))
        for part in found
        if part.kind in AGAIN or part.virtual
    ]


def create(connection: sqlite3.Connection, kind: str, name: str, sql: str) -> str | None:
    """Create a table or an index, or return why this failed. Never runs any other statement."""
    if not re.match(rf"CREATE\s+(UNIQUE\s+)?{kind}\s", sql, re.IGNORECASE):
        return "its definition cannot be read"
    connection.execute("SAVEPOINT user_table")
    connection.set_authorizer(defines)
    try:
        connection.execute(sql)
        error = None
    except sqlite3.Error as found:
        if getattr(found, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise  # the time limit is reached, which ends the transaction
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
    """Create the tables and indexes among these parts in a file of this version. Return the parts that failed.

    Existing tables and indexes stay unchanged. A part that would be refused when the file is opened is dropped again.
    Inside a transaction.
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
    """Return the values of a column for the rows of one of scanstore's tables that cannot be deleted because rows of
    the user's tables refer to them. Each value is returned with the user's table.
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
                    continue  # SQLite rejects every row of this table
                same = " AND ".join(f"p.{quoted(theirs)} = o.{quoted(own)}" for own, theirs in pairs)
                sql = f"SELECT DISTINCT p.{quoted(column)} FROM {quoted(part.name)} AS o JOIN {parent} AS p ON {same}"
                held.update((value, part.name) for (value,) in query(sql))
    return held


def defines(action: int, *_: object) -> int:
    """Allow only the actions that define a table or an index; for `set_authorizer`."""
    return sqlite3.SQLITE_OK if action in _DEFINING else sqlite3.SQLITE_DENY


def allows(*_: object) -> int:
    """Allow everything again; for `set_authorizer`."""
    return sqlite3.SQLITE_OK
