"""A random id of the file itself, so that a store notices when another file lies where its own was.

Frozen. The id is new in every copy that a backup makes. ``logs`` is counted up in each new write-ahead log, so that the
log holds the page with the id and it can be told which file the log belongs to. Nothing points at this row, and dumps
and merges leave it out.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

TABLE = """
    CREATE TABLE file_identity (
        id INTEGER NOT NULL CONSTRAINT pk_file_identity PRIMARY KEY CONSTRAINT ck_file_identity_id CHECK (id = 1),
        file TEXT NOT NULL,
        logs INTEGER NOT NULL
    )
"""
ROW = "INSERT INTO file_identity (id, file, logs) VALUES (1, 'scanstore:file:' || lower(hex(randomblob(16))), 0)"


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql(TABLE.strip())
    migrator.sql(ROW)


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("DROP TABLE file_identity")
