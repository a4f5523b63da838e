"""The schema that a store should have: what the migrations make, kept once per process and compared with what is there.

Tables, indexes and triggers of the user's own are left alone. Change here: what counts as a difference.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import peewee

from scanstore.database import MEMORY, Database
from scanstore.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = """
SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid
"""
HARMLESS = ("index", "trigger", "view")  # they hold no rows, and are made anew from what is there


@lru_cache(maxsize=1)
def expected() -> dict[tuple[str, str], str]:
    """The statement of each table, index, view and trigger, by type and name, in the order of their making."""
    fresh = Database(MEMORY)
    try:
        fresh.open()
        return _schema(fresh)
    finally:
        fresh.shut()


@lru_cache(maxsize=1)
def texts() -> dict[str, list[str]]:
    """The quoted columns of each table that hold text of any kind; of the others a constraint lists the values."""
    found: dict[str, list[str]] = {}
    for (kind, table), sql in expected().items():
        if kind == "table" and not sql.startswith("CREATE VIRTUAL"):
            columns = re.findall(r"^\s*\"?(\w+)\"? TEXT\b", sql, re.MULTILINE)
            free = [f'"{column}"' for column in columns if not re.search(rf"CHECK \({column} (IN \(|= ')", sql)]
            if free:
                found[table] = free
    return found


def differences(db: Database) -> Iterator[tuple[str, str]]:
    """Yield what is missing or other than it should be, each with its remedy."""
    there = _schema(db)
    for (kind, name), sql in expected().items():
        remedy = "put it right with: scanstore check --fix"
        if (kind, name) not in there:
            yield f"the {kind} {name} is missing", remedy if kind in HARMLESS else "restore a backup"
        elif there[kind, name] != sql and _words(there[kind, name]) != _words(sql):
            yield f"the {kind} {name} is not as it should be", remedy if kind in HARMLESS else "restore a backup"


TIME = "[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z"  # for GLOB
OF_TIMES = re.compile(r'(_at|_until|_run|_synced)"$')


def times() -> dict[str, list[str]]:
    """Those of the columns of `texts` whose texts are times."""
    found = {table: [column for column in columns if OF_TIMES.search(column)] for table, columns in texts().items()}
    return {table: columns for table, columns in found.items() if columns}


def damage(db: Database) -> Damaged | None:
    """Return the error to raise when SQLite does not understand a statement because the schema is not as it should be;
    None when it is, and so the statement is wrong.
    """
    for what, remedy in differences(db):
        return Damaged(f"{db.name} is damaged: {what}; {remedy}")
    return None


def complete(db: Database) -> None:
    """Make anew the indexes, views and triggers that are missing or other than they should be, where that can be done;
    one transaction.
    """
    with db.atomic():
        for _ in range(2):  # the triggers of a view go with it
            there = _schema(db)
            for (kind, name), sql in expected().items():
                if kind in HARMLESS and _words(there.get((kind, name), "")) != _words(sql):
                    try:
                        with db.atomic():
                            db.execute_sql(f'DROP {kind} IF EXISTS "{name}"')
                            db.execute_sql(sql)
                    except peewee.DatabaseError:
                        continue  # its table is missing too, or has rows that it forbids: it is told again


def _schema(db: Database) -> dict[tuple[str, str], str]:
    return {(kind, name): sql for kind, name, sql in db.execute_sql(SCHEMA).fetchall()}


def _words(sql: str) -> list[str]:
    return sql.split()
