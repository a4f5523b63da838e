"""References of the type ``use``: names that are read without being called.

Frozen. SQLite cannot change a CHECK, so the table is copied. Files are read again by the next scan, because the indexer
of Python has another version since.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

TABLE = """
    CREATE TABLE new_reference_facts (
        version_id INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        line INTEGER NOT NULL,
        from_ordinal INTEGER,                 -- the symbol of this file that refers
        reference_type TEXT NOT NULL,
        name_id INTEGER NOT NULL,             -- as written
        path_id INTEGER,                      -- what the file knows of its meaning; bindings say the rest
        symbol_ordinal INTEGER,               -- the symbol of this file that is meant
        resolution TEXT NOT NULL,
        confidence INTEGER NOT NULL,          -- per cent
        CONSTRAINT pk_reference_facts PRIMARY KEY (version_id, ordinal),
        CONSTRAINT fk_reference_facts_version_id FOREIGN KEY (version_id)
            REFERENCES file_versions (id) ON DELETE CASCADE,
        CONSTRAINT ck_reference_facts_reference_type CHECK ({types}),
        CONSTRAINT ck_reference_facts_resolution CHECK (resolution = 'unresolved' OR resolution = 'external'
            OR resolution = 'exact' OR resolution = 'guessed' OR resolution = 'imported' OR resolution = 'inherited')
    ) WITHOUT ROWID
"""
COLUMNS = (
    "version_id, ordinal, line, from_ordinal, reference_type, name_id, path_id, symbol_ordinal, resolution, confidence"
)
INDEXES = [
    "CREATE INDEX ix_reference_facts_path_id ON reference_facts (path_id) WHERE path_id IS NOT NULL",
    """
    CREATE INDEX ix_reference_facts_version_id_symbol_ordinal ON reference_facts (version_id, symbol_ordinal)
        WHERE symbol_ordinal IS NOT NULL
    """,
    "CREATE INDEX ix_reference_facts_version_id_from_ordinal ON reference_facts (version_id, from_ordinal)",
]
OLD = ("call", "import", "inherit")
NEW = (*OLD, "use")


def _copy(migrator: Migrator, types: tuple[str, ...]) -> None:
    """Replace the table by one whose CHECK allows these types. Rows of other types are left out."""
    check = " OR ".join(f"reference_type = '{each}'" for each in types)
    migrator.sql(TABLE.replace("{types}", check).strip())
    migrator.sql(
        f"INSERT INTO new_reference_facts ({COLUMNS}) SELECT {COLUMNS} FROM reference_facts"
        f" WHERE {check} ORDER BY version_id, ordinal"
    )
    migrator.sql("DROP TABLE reference_facts")
    migrator.sql("PRAGMA legacy_alter_table = ON")  # or views of the table would be refused until it is back
    migrator.sql("ALTER TABLE new_reference_facts RENAME TO reference_facts")
    migrator.sql("PRAGMA legacy_alter_table = OFF")
    for index in INDEXES:
        migrator.sql(index.strip())


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    _copy(migrator, NEW)


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    _copy(migrator, OLD)
    # Files whose uses are gone must be read again after the next migration, so they get the name of no indexer.
    migrator.sql(
        "UPDATE file_versions SET indexer = 'python/3-' || lower(hex(randomblob(4))) WHERE indexer = 'python/3'"
    )
    for table in ("scan_figures", "scan_counts", "scan_groups"):  # they count the rows that are gone
        migrator.sql(f"DELETE FROM {table}")
