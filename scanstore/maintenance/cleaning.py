"""Removing the foreign parts of a schema from a file that is not opened for them (see
:mod:`scanstore.db.foreign_schema`).

Nothing of the file is run. The rows of ``sqlite_master`` are deleted, which SQLite allows while its schema is writable:
DROP would walk through the pages of a table, which may lead in circles, and call the module of a virtual table. The
pages that nothing leads to any more go with a VACUUM, which copies rows and runs no view and no trigger.

Our own parts that were replaced are made anew: a table is empty then. A table of ours that was altered gets its
statement back where its rows are stored as that says.

Change here: which parts are recreated, and how.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import suppress

from scanstore.db import routed, schema
from scanstore.db.arguments import check_path
from scanstore.db.connections import connect
from scanstore.db.files import identify, limited, quoted, real_path, seconds_for
from scanstore.db.fingerprints import WHOLE
from scanstore.db.foreign_schema import HISTORY, OBJECTS, SEARCH, ForeignPart, Object, foreign
from scanstore.db.sqlite_errors import TROUBLE, translated
from scanstore.db.values import format_time, utcnow
from scanstore.errors import Damaged, NewerSchema, NotFound
from scanstore.maintenance.derived import SEARCHES
from scanstore.maintenance.fixes import REPAIRS
from scanstore.maintenance.invariants import IDENTITY

MOST = 100  #: malformed rows of a schema that are removed one by one
MALFORMED = "malformed database schema ("
Wanted = dict[str, tuple[str, str, str, str]]  #: our parts by name: type, name, table and statement


def drop_foreign(path: str | os.PathLike[str], *, key: str | None = None, timeout: float | None = None) -> list[str]:
    """Remove the foreign parts of a file's schema; return the action for each, by name.

    Nothing of the file is run. Atomic, except that the pages of dropped parts are given back afterwards. A table of
    ours that was altered so that its rows are stored in another way stays, and the file is still refused. Reading may
    take `timeout` seconds, by default 30 and one for each megabyte. Raises NotFound, NotAScanstore, NewerSchema,
    WrongKey, Damaged, ReadTimeout, and Busy when the file is in use.
    """
    shown = check_path(path, "path")
    file = real_path(shown)
    if not os.path.isfile(file):
        raise NotFound(f"{shown} does not exist; give the path of a scanstore file")
    seconds = seconds_for(file, timeout)
    connection = connect(file, "mode=rw", key=key)
    try:
        with limited(connection, shown, seconds):
            connection.execute("BEGIN IMMEDIATE")
            cleaning = _Cleaning(connection, shown, _version(connection, shown))
            cleaning.run()
            connection.execute("COMMIT" if cleaning.done else "ROLLBACK")
        if cleaning.loose:
            with limited(connection, shown, seconds):
                connection.execute("VACUUM")
    except TROUBLE as error:
        if key is not None and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
            from scanstore.db.encryption import wrong_key  # the library is an extra

            raise wrong_key(file, shown) from error
        raise translated(error, shown) from error
    finally:
        connection.close()
    return cleaning.done


def _version(connection: sqlite3.Connection, shown: str) -> int:
    version = identify(connection, shown)
    if version not in WHOLE:
        raise NewerSchema(f"{shown} has schema {version}, and this scanstore knows up to {max(WHOLE)}")
    with suppress(sqlite3.Error):  # the schema may be malformed
        found = routed.changed(connection, version)
        return version if found is None else found
    return version


class _Cleaning:
    """One transaction: the actions ``done``, and whether unreachable pages are left ``loose``."""

    def __init__(self, connection: sqlite3.Connection, shown: str, version: int) -> None:
        self.connection, self.shown, self.version = connection, shown, version
        self.wanted: Wanted = {row[1].lower(): row for row in schema.made(version)[1]}
        self.done: list[str] = []
        self.loose = False
        self._gone: set[str] = set()
        self._altered: list[str] = []

    def run(self) -> None:
        """Remove foreign parts and recreate replaced ones."""
        self.connection.execute("PRAGMA writable_schema=ON")  # also, to read what is malformed
        for part in foreign(self.connection, self.version):
            self._remove(part)
        self._remove_malformed()
        if not self.done:
            return
        (cookie,) = self.connection.execute("PRAGMA schema_version").fetchone()
        self.connection.execute(f"PRAGMA schema_version={cookie + 1}")  # others read the schema again
        self._recreate()
        for name in self._altered:
            self.connection.execute(f"REINDEX {quoted(name)}")

    def _objects(self) -> list[Object]:
        return self.connection.execute(OBJECTS.format("main")).fetchall()

    # Removing

    def _remove(self, part: ForeignPart) -> None:
        key = part.name.lower()
        wanted = self.wanted.get(key)
        stored = part.type == "table" and self._has_pages(part.rowid)
        if stored and wanted is not None and wanted[0] == "table" and not re.match(SEARCH, key):
            if self._stored_alike(part.name, wanted[3]):
                self.connection.execute(
                    "UPDATE main.sqlite_master SET sql = ? WHERE rowid = ?", (wanted[3], part.rowid)
                )
                self._altered.append(wanted[1])
                self.done.append(f"{part}: its statement was set right")
            return
        self._delete(part.rowid)
        if wanted is not None:
            self._gone.add(key)
        self.loose |= wanted is not None or key.startswith("sqlite_")  # what was there before may have pages left
        if part.type in ("table", "view"):
            self._delete_those_of(key)
        if wanted is not None and (found := re.match(SEARCH, key)):  # a full-text index is of one piece
            for _, name, _, _, rowid in self._objects():
                if name.lower() in self.wanted and name.lower().startswith(found[0]):
                    self._delete(rowid)
                    self._delete_those_of(name.lower())
            self._gone.add(found[0])
        self.done.append(f"{part}: dropped")

    def _delete_those_of(self, key: str) -> None:
        """Delete the indexes and triggers of a table or view."""
        for kind, _, table, _, rowid in self._objects():
            if kind in ("index", "trigger") and table.lower() == key:
                self._delete(rowid)

    def _delete(self, rowid: int) -> None:
        self.loose |= self._has_pages(rowid)
        self.connection.execute("DELETE FROM main.sqlite_master WHERE rowid = ?", (rowid,))

    def _has_pages(self, rowid: int) -> bool:
        """Whether a part keeps rows; a view does not, nor does a virtual table itself."""
        sql = "SELECT 1 FROM main.sqlite_master WHERE rowid = ? AND rootpage > 0"
        return self.connection.execute(sql, (rowid,)).fetchone() is not None

    def _remove_malformed(self) -> None:
        """Remove rows that SQLite does not understand, or that contradict their statement, until it reads the rest."""
        for _ in range(MOST):
            try:
                self.connection.execute("PRAGMA writable_schema=RESET")
                self.connection.execute("SELECT 1 FROM main.sqlite_master").fetchone()
                return
            except sqlite3.DatabaseError as error:
                text = str(error)
                self.connection.execute("PRAGMA writable_schema=ON")
                bad = [row for row in self._objects() if text.startswith(f"{MALFORMED}{row[1]})")]
                if not bad or any(row[1].lower() in self.wanted and row[0] == "table" for row in bad):
                    raise
                for kind, name, *_, rowid in bad:
                    self._delete(rowid)
                    self.done.append(f"the {ascii(kind)[1:-1]} {ascii(name)[1:-1]} is malformed: dropped")
        raise Damaged(f"{self.shown} has a schema of which too much is malformed; restore a backup")

    # Making anew

    def _recreate(self) -> None:
        there = {row[1].lower() for row in self._objects()}
        if "sqlite_sequence" not in there and any("AUTOINCREMENT" in row[3] for row in self.wanted.values()):
            self.connection.execute("CREATE TABLE scanstore_counts (id INTEGER PRIMARY KEY AUTOINCREMENT)")
            self.connection.execute("DROP TABLE scanstore_counts")
        for key, (kind, name, table, sql) in self.wanted.items():
            # What was missing before stays so, but for what follows from our tables.
            if key in there or not (key in self._gone or kind == "view" or table.lower() in there):
                continue
            try:
                self.connection.execute(sql)
            except sqlite3.IntegrityError:
                continue  # its table has rows that the index forbids; `check` reports it
            there = {row[1].lower() for row in self._objects()}
            if kind == "table":
                self.done.append(f"the table {name} was made anew, empty")
            for index in SEARCHES:
                if name == index.table:
                    self.connection.execute(index.setting)
            if name == HISTORY:
                self._record_history()
            elif name == "file_identity":
                self._record_identity()

    def _record_history(self) -> None:
        """Write down again which migrations a file of this version has had."""
        from scanstore.db import migrations  # start-up: loads the migrator

        now = format_time(utcnow())
        steps = migrations._names(migrations.default_folder())[: self.version]
        self.connection.executemany(
            f"INSERT INTO {HISTORY} (name, migrated_at) VALUES (?, ?)", [(step, now) for step in steps]
        )

    def _record_identity(self) -> None:
        """Give the file an id again: it is a new one, as the old one is lost."""
        for sql in REPAIRS[IDENTITY]:
            self.connection.execute(sql)

    # Comparing

    def _stored_alike(self, name: str, sql: str) -> bool:
        """Whether the rows of a table are stored as they would be in the one that our statement makes."""
        fresh = sqlite3.connect(":memory:")
        try:
            fresh.execute(sql)
            columns, whole, keys = _stored(fresh, name)
        finally:
            fresh.close()
        theirs, without_rowids, their_keys = _stored(self.connection, name)
        return (
            theirs[: len(columns)] == columns
            and without_rowids == whole
            and their_keys == keys
            and not (whole and len(theirs) > len(columns))
        )


def _stored(connection: sqlite3.Connection, name: str) -> tuple[list[tuple[str, int]], bool, list[object]]:
    """The stored columns of a table with their places in its key, whether it has no rowids, and the indexes of its
    constraints.
    """
    table = quoted(name)
    rows = connection.execute(f"PRAGMA main.table_xinfo({table})").fetchall()
    columns = [(row[1].lower(), row[5]) for row in rows if row[6] != 2]
    without = [bool(row[4]) for row in connection.execute(f"PRAGMA main.table_list({table})") if row[0] == "main"]
    keys: list[object] = []
    for _, index, _, origin, _ in sorted(connection.execute(f"PRAGMA main.index_list({table})"), key=lambda r: r[1]):
        if origin != "c":
            info = connection.execute(f"PRAGMA main.index_info({quoted(index)})").fetchall()
            keys.append((origin, [row[2].lower() for row in info]))
    return columns, without == [True], keys
