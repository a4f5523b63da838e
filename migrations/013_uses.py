"""References of the type ``use``: names that are read without being called; and paths with several targets.

Frozen. SQLite cannot change a CHECK or a primary key, so the tables are copied. Files are read again by the next scan,
because the indexer of Python has another version since.

A path such as ``v.go``, where ``v`` is an ``X`` or a ``Y``, has a binding for each target, numbered by ``nth``. The
view ``symbol_references`` keeps one row for each reference, with its first target; ``reference_targets`` has all.
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

BINDINGS = """
    CREATE TABLE new_bindings (
        lineage_id INTEGER NOT NULL,
        path_id INTEGER NOT NULL,
        since INTEGER NOT NULL,               -- valid for revisions since <= revision < until
        until INTEGER,                        -- none: still valid{nth}
        version_id INTEGER,                   -- none: not in the tree
        ordinal INTEGER,
        resolution TEXT NOT NULL,
        confidence INTEGER NOT NULL,
        CONSTRAINT pk_bindings PRIMARY KEY ({key}),
        CONSTRAINT fk_bindings_lineage_id FOREIGN KEY (lineage_id) REFERENCES lineages (id) ON DELETE CASCADE,
        CONSTRAINT ck_bindings_resolution CHECK (resolution = 'imported' OR resolution = 'inherited'
            OR resolution = 'guessed' OR resolution = 'unresolved' OR resolution = 'exact' OR resolution = 'external'),
        CONSTRAINT ck_bindings_until CHECK (until > since){check}
    ) WITHOUT ROWID
"""
NTH = """
        nth INTEGER NOT NULL DEFAULT 0,       -- the place in the list of targets of a path"""
NTH_CHECK = """,
        CONSTRAINT ck_bindings_nth CHECK (nth >= 0 AND nth < 8)"""
BINDING = "lineage_id, path_id, since, until, version_id, ordinal, resolution, confidence"
BOUND = "CREATE INDEX ix_bindings_version_id_ordinal ON bindings (version_id, ordinal) WHERE version_id IS NOT NULL"
# Of references with several targets: a schema without a place for them has one, and cannot be sure of it.
ONE_OF_SEVERAL = """EXISTS (SELECT 1 FROM bindings AS o WHERE o.lineage_id = b.lineage_id AND o.path_id = b.path_id
    AND o.nth > 0 AND (b.until IS NULL OR o.since < b.until) AND (o.until IS NULL OR o.until > b.since))"""

# Three kinds of references, so that each can be looked up by its target: decided in the file, bound, open.
REFERENCES = """
    CREATE VIEW symbol_references AS
    SELECT f.id << 24 | r.ordinal AS id, f.scan_id, f.id << 24 | r.symbol_ordinal AS symbol_id,
           f.file_path AS from_file, r.line AS from_line, f.id << 24 | r.from_ordinal AS from_symbol_id,
           r.reference_type, n.text AS name, r.resolution, r.confidence / 100.0 AS confidence,
           f.id AS file_id, r.ordinal, r.from_ordinal, f.id AS symbol_file_id, r.symbol_ordinal
      FROM reference_facts AS r
      JOIN scan_files AS f ON f.version_id = r.version_id
      JOIN names AS n ON n.id = r.name_id
     WHERE r.symbol_ordinal IS NOT NULL
    UNION ALL
    SELECT f.id << 24 | r.ordinal, f.scan_id, t.id << 24 | b.ordinal,
           f.file_path, r.line, f.id << 24 | r.from_ordinal,
           r.reference_type, n.text,
           CASE WHEN b.resolution = 'imported' AND b.version_id = r.version_id THEN 'exact' ELSE b.resolution END,
           b.confidence / 100.0, f.id, r.ordinal, r.from_ordinal, t.id, b.ordinal
      FROM reference_facts AS r
      JOIN scan_files AS f ON f.version_id = r.version_id
      JOIN scans AS c ON c.id = f.scan_id
      JOIN bindings AS b ON b.lineage_id = c.lineage_id AND b.path_id = r.path_id{first}
                        AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision)
      JOIN names AS n ON n.id = r.name_id
      LEFT JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
     WHERE r.symbol_ordinal IS NULL
    UNION ALL
    SELECT f.id << 24 | r.ordinal, f.scan_id, NULL,
           f.file_path, r.line, f.id << 24 | r.from_ordinal,
           r.reference_type, n.text,
           CASE WHEN r.path_id IS NULL OR c.revision IS NULL THEN r.resolution ELSE 'external' END,
           CASE WHEN r.path_id IS NULL OR c.revision IS NULL THEN r.confidence / 100.0 ELSE 1.0 END,
           f.id, r.ordinal, r.from_ordinal, NULL, NULL
      FROM reference_facts AS r
      JOIN scan_files AS f ON f.version_id = r.version_id
      JOIN scans AS c ON c.id = f.scan_id
      JOIN names AS n ON n.id = r.name_id
     WHERE r.symbol_ordinal IS NULL
       AND NOT EXISTS (SELECT 1 FROM bindings AS b
                        WHERE b.lineage_id = c.lineage_id AND b.path_id = r.path_id{first}
                          AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision))
"""
IMPORTS = """
    CREATE VIEW import_relations AS
    SELECT f.id << 24 | i.ordinal AS id, f.scan_id, f.file_path AS importer_file, m.text AS imported_module,
           i.imported_names, t.file_path AS resolved_file, i.line,
           CASE WHEN b.path_id IS NOT NULL THEN b.resolution
                WHEN c.revision IS NULL OR i.path_id IS NULL THEN 'unresolved' ELSE 'external' END AS resolution,
           f.id AS file_id, i.ordinal
      FROM import_facts AS i
      JOIN scan_files AS f ON f.version_id = i.version_id
      JOIN scans AS c ON c.id = f.scan_id
      JOIN names AS m ON m.id = i.module_id
      LEFT JOIN bindings AS b ON b.lineage_id = c.lineage_id AND b.path_id = i.path_id{first}
                             AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision)
      LEFT JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
"""
TARGETS = """
    CREATE VIEW reference_targets AS
    SELECT f.id << 24 | r.ordinal AS reference_id, f.scan_id, 0 AS nth, f.id << 24 | r.symbol_ordinal AS symbol_id,
           r.resolution, r.confidence / 100.0 AS confidence,
           f.id AS file_id, r.ordinal, f.id AS symbol_file_id, r.symbol_ordinal
      FROM reference_facts AS r
      JOIN scan_files AS f ON f.version_id = r.version_id
     WHERE r.symbol_ordinal IS NOT NULL
    UNION ALL
    SELECT f.id << 24 | r.ordinal, f.scan_id, b.nth, t.id << 24 | b.ordinal,
           CASE WHEN b.resolution = 'imported' AND b.version_id = r.version_id THEN 'exact' ELSE b.resolution END,
           b.confidence / 100.0, f.id, r.ordinal, t.id, b.ordinal
      FROM reference_facts AS r
      JOIN scan_files AS f ON f.version_id = r.version_id
      JOIN scans AS c ON c.id = f.scan_id
      JOIN bindings AS b ON b.lineage_id = c.lineage_id AND b.path_id = r.path_id
                        AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision)
      JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
     WHERE r.symbol_ordinal IS NULL AND b.ordinal IS NOT NULL
"""


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


def _copy_bindings(migrator: Migrator, nth: str, key: str, check: str, source: str) -> None:
    """Replace the table of bindings by one with this key."""
    migrator.sql(BINDINGS.replace("{nth}", nth).replace("{key}", key).replace("{check}", check).strip())
    migrator.sql(f"INSERT INTO new_bindings ({BINDING}) {source}")
    migrator.sql("DROP TABLE bindings")
    migrator.sql("PRAGMA legacy_alter_table = ON")
    migrator.sql("ALTER TABLE new_bindings RENAME TO bindings")
    migrator.sql("PRAGMA legacy_alter_table = OFF")
    migrator.sql(BOUND)


def _views(migrator: Migrator, first: str) -> None:
    """Create the views of bindings anew, of which they read the ``first`` of a path."""
    for name, view in (("symbol_references", REFERENCES), ("import_relations", IMPORTS)):
        migrator.sql(f"DROP VIEW {name}")
        migrator.sql(view.replace("{first}", first).strip())


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    _copy(migrator, NEW)
    source = f"SELECT {BINDING} FROM bindings ORDER BY lineage_id, path_id, since"
    _copy_bindings(migrator, NTH, "lineage_id, path_id, since, nth", NTH_CHECK, source)
    _views(migrator, " AND b.nth = 0")
    migrator.sql(TARGETS.strip())


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    _copy(migrator, OLD)
    migrator.sql("DROP VIEW reference_targets")
    source = (
        "SELECT lineage_id, path_id, since, until, version_id, ordinal,"
        f" iif({ONE_OF_SEVERAL}, 'guessed', resolution), iif({ONE_OF_SEVERAL}, min(50, confidence), confidence)"
        " FROM bindings AS b WHERE nth = 0 ORDER BY lineage_id, path_id, since"
    )
    _copy_bindings(migrator, "", "lineage_id, path_id, since", "", source)
    _views(migrator, "")
    # Files whose uses are gone must be read again after the next migration, so they get the name of no indexer.
    migrator.sql(
        "UPDATE file_versions SET indexer = indexer || '-' || lower(hex(randomblob(4)))"
        " WHERE indexer = 'python/3'"
    )
    for table in ("scan_figures", "scan_counts", "scan_groups"):  # they count the rows that are gone
        migrator.sql(f"DELETE FROM {table}")
