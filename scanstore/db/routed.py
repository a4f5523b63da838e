"""Files that ``pw_migrate`` or peewee_migrate's Router has migrated, and that scanstore accepts as stores.

Such a file has scanstore's tables, but its id and version are missing or out of date. Only the history of migrations
says which version it is. It is believed if it names exactly the first migrations of scanstore and if the schema is
exactly that of this version. Nothing but the table of the history is read before, and only if it is a plain table.

Change here: which of these files are taken over.
"""

from __future__ import annotations

import os
import re
import sqlite3
from functools import lru_cache
from pathlib import Path

from scanstore.db.fingerprints import PARTS, WHOLE
from scanstore.db.foreign_schema import HISTORY, OBJECTS, PLAIN, SHADOWS, digest, digests
from scanstore.db.schema_digest import INTERNAL, OURS, digested, schema_text
from scanstore.errors import MigrationFailed

PEEWEES = OURS.replace("TEXT", "DATETIME")  #: the statement of the history in a file that peewee_migrate created
FILE = re.compile(r"\d{3}_\w+\.py")  #: the file of a migration


def default_folder() -> Path:
    """Return the folder of the shipped migrations: in the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here / "migrations", here.parent / "migrations"):
        if folder.is_dir():
            return folder
    raise MigrationFailed(f"scanstore's migrations are missing beside {here}; install scanstore again")


def created(connection: sqlite3.Connection) -> int | None:
    """Return the version of a file that peewee_migrate created with scanstore's migrations, or None for any other file.

    The file must have no other tables, indexes, views or triggers.
    """
    version = _applied(connection)
    return version if version and _exact(connection, version, alone=True) else None


def changed(connection: sqlite3.Connection, version: int) -> int | None:
    """Return the version of a store that peewee_migrate migrated or rolled back from this version, or None if it is
    unchanged. The store may have tables of the user.
    """
    found = _applied(connection)
    return found if found is not None and found != version and _exact(connection, found, alone=False) else None


def take_over(connection: sqlite3.Connection) -> None:
    """Replace the history of peewee_migrate by that of scanstore, with the same rows. Inside a transaction."""
    rows = connection.execute(
        "SELECT id, name, coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', migrated_at), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"
        f" FROM main.{HISTORY} ORDER BY id"
    ).fetchall()
    connection.execute(f"DROP TABLE main.{HISTORY}")
    connection.execute(OURS)
    connection.executemany(f"INSERT INTO {HISTORY} (id, name, migrated_at) VALUES (?, ?, ?)", rows)


@lru_cache
def _steps() -> list[bytes]:
    return sorted(name[:-3].encode() for name in os.listdir(default_folder()) if FILE.fullmatch(name))


def _applied(connection: sqlite3.Connection) -> int | None:
    """Return the number of migrations in the history, or None if they are not exactly the first of scanstore's."""
    sql = f"SELECT type, CAST(sql AS TEXT) FROM main.sqlite_master WHERE lower(name) = '{HISTORY}'"
    if connection.execute(sql).fetchall() not in ([("table", OURS)], [("table", PEEWEES)]):
        return None
    steps = _steps()
    sql = f"SELECT CAST(substr(name, 1, 99) AS BLOB) FROM main.{HISTORY} ORDER BY id LIMIT {len(steps) + 1}"
    applied = [name for (name,) in connection.execute(sql)]
    return len(applied) if applied == steps[: len(applied)] and len(applied) in WHOLE else None


def _exact(connection: sqlite3.Connection, version: int, *, alone: bool) -> bool:
    """Return whether a file has exactly scanstore's schema of a version, and with `alone` nothing else."""
    if digested(schema_text(connection, "main").replace(PEEWEES, OURS, 1)) == WHOLE[version]:
        return True
    found = set()
    for kind, name, table, sql, _ in connection.execute(OBJECTS.format("main")):
        key = name.lower()
        if sql is None or INTERNAL.get(key) == sql:
            if sql is None and kind != "index":
                return False
        elif key not in PARTS:
            if alone:
                return False
        else:
            found.add(key)
            plain = kind == "table" and re.fullmatch(SHADOWS, name) and re.fullmatch(PLAIN, sql)
            if key != HISTORY and digest(kind, name, table, sql) not in digests(key, version) and not plain:
                return False
    return found == {name for name in PARTS if digests(name, version)}
