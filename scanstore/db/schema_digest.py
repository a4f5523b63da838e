"""The digest of a schema, which identifies its version when a file is opened."""

from __future__ import annotations

import sqlite3
from hashlib import sha256

# SQLite rejects a row whose type and names differ from its statement, so the statements define the schema. They are
# joined by a separator that no statement contains. A row without a statement is the index of a constraint.
TEXT = "SELECT group_concat(sql, char(1)) FROM {}.sqlite_master"
# The history of migrations. It is the first table, or the last in a file that was taken over from peewee_migrate.
OURS = (
    'CREATE TABLE "migratehistory" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, '
    '"migrated_at" TEXT NOT NULL)'
)
INTERNAL = {
    "sqlite_sequence": "CREATE TABLE sqlite_sequence(name,seq)",
    "sqlite_stat1": "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "sqlite_stat4": "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}


def whole(connection: sqlite3.Connection, schema: str = "main") -> str:
    """Return the digest of a whole schema, without the tables that ANALYZE adds at the end."""
    return digested(schema_text(connection, schema))


def schema_text(connection: sqlite3.Connection, schema: str) -> str:
    (text,) = connection.execute(TEXT.format(schema)).fetchone()
    text = text or ""
    for table in ("sqlite_stat4", "sqlite_stat1"):
        text = text.removesuffix("\1" + INTERNAL[table])
    if text.endswith("\1" + OURS):
        text = OURS + "\1" + text.removesuffix("\1" + OURS)
    return str(text)


def digested(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
