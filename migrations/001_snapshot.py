"""Snapshots of source trees: scans, files, chunks, symbols, references, imports, and the models that review them.

Frozen. What a file contains is kept once per file version in the ``*_facts`` tables; ``scan_files`` says which
version a scan saw; the views ``symbols``, ``symbol_references``, ``import_relations`` and ``scan_file_chunks`` join
the two, so that each row has its scan. A row's id in a view is ``scan_files.id << 24 | ordinal``. Joining two views in
SQL runs on indexes by file and ordinal: ``ON s.file_id = r.symbol_file_id AND s.ordinal = r.symbol_ordinal``.

What a reference means depends on other files too. That part is kept per line of scans of one target (``lineages``)
in ``bindings``, each valid for the revisions ``since <= revision < until``: a new scan writes only what changed.

The checks of the large tables are spelled with OR: SQLite builds a list for IN anew for every row that is inserted,
which doubled the time of the whole insert.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

TABLES = [
    """
    CREATE TABLE lineages (
        id INTEGER NOT NULL CONSTRAINT pk_lineages PRIMARY KEY,
        target TEXT NOT NULL,                 -- what is scanned again and again: a folder, a repository
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_lineages_target UNIQUE (target)
    )
    """,
    """
    CREATE TABLE scans (
        id INTEGER NOT NULL CONSTRAINT pk_scans PRIMARY KEY AUTOINCREMENT,
        lineage_id INTEGER NOT NULL,
        target TEXT NOT NULL,
        name TEXT NOT NULL,
        root TEXT,                            -- folder that was walked; file paths are relative to it
        status TEXT NOT NULL DEFAULT 'queued',
        phase TEXT NOT NULL DEFAULT 'queued',
        revision INTEGER,                     -- place in its lineage; set when the scan completes
        worker TEXT,                          -- host:pid that runs it
        error TEXT,
        options TEXT NOT NULL DEFAULT '{}',   -- JSON: include, exclude, max_size
        started_at TEXT,
        completed_at TEXT,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT fk_scans_lineage_id FOREIGN KEY (lineage_id) REFERENCES lineages (id) ON DELETE RESTRICT,
        CONSTRAINT uq_scans_lineage_id_revision UNIQUE (lineage_id, revision),
        CONSTRAINT ck_scans_status CHECK (status IN
            ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
        CONSTRAINT ck_scans_phase CHECK (phase IN ('queued', 'ingestion', 'indexing', 'chunking', 'scanning',
            'verifying', 'enriching', 'completed')),
        CONSTRAINT ck_scans_options CHECK (json_valid(options))
    )
    """,
    """
    CREATE TABLE model_configs (
        id INTEGER NOT NULL CONSTRAINT pk_model_configs PRIMARY KEY,
        name TEXT NOT NULL,
        base_url TEXT NOT NULL DEFAULT '',
        api_key TEXT NOT NULL DEFAULT '',     -- 'env:NAME' is read from the environment when used
        max_tokens INTEGER NOT NULL DEFAULT 4096,
        max_concurrent INTEGER NOT NULL DEFAULT 2,
        votes INTEGER NOT NULL DEFAULT 1,
        is_analyzer INTEGER NOT NULL DEFAULT 0,
        is_verifier INTEGER NOT NULL DEFAULT 0,
        analysis_prompt_template TEXT NOT NULL DEFAULT '',
        verification_prompt_template TEXT NOT NULL DEFAULT '',
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_model_configs_name UNIQUE (name),
        CONSTRAINT ck_model_configs_max_tokens CHECK (max_tokens > 0),
        CONSTRAINT ck_model_configs_max_concurrent CHECK (max_concurrent > 0),
        CONSTRAINT ck_model_configs_votes CHECK (votes > 0)
    )
    """,
    """
    CREATE TABLE scan_configs (
        id INTEGER NOT NULL CONSTRAINT pk_scan_configs PRIMARY KEY,
        scan_id INTEGER NOT NULL,
        analysis_mode TEXT NOT NULL DEFAULT 'primary_verifiers',
        primary_analyzer_id INTEGER,
        scope TEXT NOT NULL DEFAULT 'full',
        scanner_concurrency INTEGER NOT NULL DEFAULT 20,
        verifier_concurrency INTEGER NOT NULL DEFAULT 10,
        enricher_concurrency INTEGER NOT NULL DEFAULT 5,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_scan_configs_scan_id UNIQUE (scan_id),
        CONSTRAINT fk_scan_configs_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
        CONSTRAINT fk_scan_configs_primary_analyzer_id FOREIGN KEY (primary_analyzer_id)
            REFERENCES model_configs (id) ON DELETE SET NULL,
        CONSTRAINT ck_scan_configs_scanner_concurrency CHECK (scanner_concurrency > 0),
        CONSTRAINT ck_scan_configs_verifier_concurrency CHECK (verifier_concurrency > 0),
        CONSTRAINT ck_scan_configs_enricher_concurrency CHECK (enricher_concurrency > 0)
    )
    """,
    """
    CREATE TABLE names (
        id INTEGER NOT NULL CONSTRAINT pk_names PRIMARY KEY,
        text TEXT NOT NULL,                   -- each identifier, qualified name and path once
        CONSTRAINT uq_names_text UNIQUE (text)
    )
    """,
    """
    CREATE TABLE file_versions (
        id INTEGER NOT NULL CONSTRAINT pk_file_versions PRIMARY KEY,
        path TEXT NOT NULL,
        content_hash BLOB NOT NULL,           -- SHA-256, or what the scanner that recorded the file gave
        indexer TEXT NOT NULL,                -- who read it, with its version
        module TEXT NOT NULL DEFAULT '',      -- the name other files import it by
        size INTEGER NOT NULL DEFAULT 0,
        line_count INTEGER NOT NULL DEFAULT 0,
        error TEXT,                           -- why it could not be parsed
        interface BLOB,                       -- zlib JSON: what the resolver needs to know of it
        mentions BLOB,                        -- zlib text: identifiers used other than by calling them
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_file_versions_path_content_hash_indexer_module UNIQUE (path, content_hash, indexer, module)
    )
    """,
    """
    CREATE TABLE scan_files (
        id INTEGER NOT NULL CONSTRAINT pk_scan_files PRIMARY KEY AUTOINCREMENT,
        scan_id INTEGER NOT NULL,
        version_id INTEGER,                   -- none: nothing of it was recorded
        file_path TEXT NOT NULL,
        file_hash BLOB,
        risk_level TEXT NOT NULL DEFAULT 'normal',
        status TEXT NOT NULL DEFAULT 'pending',
        error TEXT,                           -- why it failed or was skipped
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT fk_scan_files_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
        CONSTRAINT fk_scan_files_version_id FOREIGN KEY (version_id) REFERENCES file_versions (id) ON DELETE RESTRICT,
        CONSTRAINT ck_scan_files_risk_level CHECK (risk_level IN ('high', 'normal', 'low')),
        CONSTRAINT ck_scan_files_status CHECK (status IN ('pending', 'running', 'done', 'failed', 'skipped'))
    )
    """,
    "CREATE UNIQUE INDEX uq_scan_files_scan_id_file_path ON scan_files (scan_id, file_path)",
    "CREATE INDEX ix_scan_files_file_path ON scan_files (file_path)",
    "CREATE INDEX ix_scan_files_version_id_scan_id ON scan_files (version_id, scan_id)",
    """
    CREATE TABLE symbol_facts (
        version_id INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,             -- place in the file; 0 is the module itself
        name_id INTEGER NOT NULL,
        qualified_name_id INTEGER NOT NULL,
        symbol_type TEXT NOT NULL,
        start_line INTEGER NOT NULL,
        end_line INTEGER NOT NULL,
        metadata TEXT,                        -- JSON: params, return_type, decorators, docstring
        body_hash INTEGER,                    -- of its text: tells a changed symbol from a moved one
        CONSTRAINT uq_symbol_facts_version_id_ordinal UNIQUE (version_id, ordinal),
        CONSTRAINT fk_symbol_facts_version_id FOREIGN KEY (version_id) REFERENCES file_versions (id) ON DELETE CASCADE,
        CONSTRAINT ck_symbol_facts_symbol_type CHECK (symbol_type = 'method' OR symbol_type = 'variable'
            OR symbol_type = 'function' OR symbol_type = 'class' OR symbol_type = 'module')
    )
    """,
    "CREATE INDEX ix_symbol_facts_name_id ON symbol_facts (name_id)",
    "CREATE INDEX ix_symbol_facts_qualified_name_id ON symbol_facts (qualified_name_id)",
    """
    CREATE TABLE reference_facts (
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
        CONSTRAINT ck_reference_facts_reference_type CHECK (reference_type = 'call' OR reference_type = 'import'
            OR reference_type = 'inherit'),
        CONSTRAINT ck_reference_facts_resolution CHECK (resolution = 'unresolved' OR resolution = 'external'
            OR resolution = 'exact' OR resolution = 'guessed' OR resolution = 'imported' OR resolution = 'inherited')
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_reference_facts_path_id ON reference_facts (path_id) WHERE path_id IS NOT NULL",
    """
    CREATE INDEX ix_reference_facts_version_id_symbol_ordinal ON reference_facts (version_id, symbol_ordinal)
        WHERE symbol_ordinal IS NOT NULL
    """,
    "CREATE INDEX ix_reference_facts_version_id_from_ordinal ON reference_facts (version_id, from_ordinal)",
    """
    CREATE TABLE import_facts (
        version_id INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        line INTEGER NOT NULL,
        module_id INTEGER NOT NULL,           -- as written
        path_id INTEGER,
        imported_names TEXT NOT NULL,         -- JSON
        CONSTRAINT pk_import_facts PRIMARY KEY (version_id, ordinal),
        CONSTRAINT fk_import_facts_version_id FOREIGN KEY (version_id) REFERENCES file_versions (id) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_import_facts_path_id ON import_facts (path_id) WHERE path_id IS NOT NULL",
    """
    CREATE TABLE chunk_facts (
        version_id INTEGER NOT NULL,
        chunk_index INTEGER NOT NULL,
        chunk_type TEXT NOT NULL,
        symbol_name TEXT,
        start_line INTEGER NOT NULL,
        end_line INTEGER NOT NULL,
        content_hash BLOB NOT NULL,           -- BLAKE2b, 16 bytes, or what the scanner gave
        CONSTRAINT pk_chunk_facts PRIMARY KEY (version_id, chunk_index),
        CONSTRAINT fk_chunk_facts_version_id FOREIGN KEY (version_id) REFERENCES file_versions (id) ON DELETE CASCADE,
        CONSTRAINT ck_chunk_facts_chunk_type CHECK (chunk_type = 'function' OR chunk_type = 'class'
            OR chunk_type = 'full_file')
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_chunk_facts_content_hash ON chunk_facts (content_hash)",
    """
    CREATE TABLE chunk_states (
        scan_file_id INTEGER NOT NULL,        -- a chunk without a row here is pending
        chunk_index INTEGER NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        retry_count INTEGER NOT NULL DEFAULT 0,
        CONSTRAINT pk_chunk_states PRIMARY KEY (scan_file_id, chunk_index),
        CONSTRAINT fk_chunk_states_scan_file_id FOREIGN KEY (scan_file_id) REFERENCES scan_files (id) ON DELETE CASCADE,
        CONSTRAINT ck_chunk_states_status CHECK (status IN ('pending', 'running', 'done', 'failed', 'skipped')),
        CONSTRAINT ck_chunk_states_retry_count CHECK (retry_count >= 0)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE bindings (
        lineage_id INTEGER NOT NULL,
        path_id INTEGER NOT NULL,
        since INTEGER NOT NULL,               -- valid for revisions since <= revision < until
        until INTEGER,                        -- none: still valid
        version_id INTEGER,                   -- none: not in the tree
        ordinal INTEGER,
        resolution TEXT NOT NULL,
        confidence INTEGER NOT NULL,
        CONSTRAINT pk_bindings PRIMARY KEY (lineage_id, path_id, since),
        CONSTRAINT fk_bindings_lineage_id FOREIGN KEY (lineage_id) REFERENCES lineages (id) ON DELETE CASCADE,
        CONSTRAINT ck_bindings_resolution CHECK (resolution = 'imported' OR resolution = 'inherited'
            OR resolution = 'guessed' OR resolution = 'unresolved' OR resolution = 'exact' OR resolution = 'external'),
        CONSTRAINT ck_bindings_until CHECK (until > since)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_bindings_version_id_ordinal ON bindings (version_id, ordinal) WHERE version_id IS NOT NULL",
]

VIEWS = [
    """
    CREATE VIEW symbols AS
    SELECT f.id << 24 | s.ordinal AS id, f.scan_id, n.text AS name, q.text AS qualified_name, s.symbol_type,
           f.file_path, s.start_line, s.end_line, s.metadata, f.id AS file_id, s.ordinal
      FROM symbol_facts AS s
      JOIN scan_files AS f ON f.version_id = s.version_id
      JOIN names AS n ON n.id = s.name_id
      JOIN names AS q ON q.id = s.qualified_name_id
    """,
    # Three kinds of references, so that each can be looked up by its target: decided in the file, bound, open.
    """
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
      JOIN bindings AS b ON b.lineage_id = c.lineage_id AND b.path_id = r.path_id
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
                        WHERE b.lineage_id = c.lineage_id AND b.path_id = r.path_id
                          AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision))
    """,
    """
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
      LEFT JOIN bindings AS b ON b.lineage_id = c.lineage_id AND b.path_id = i.path_id
                             AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision)
      LEFT JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
    """,
    """
    CREATE VIEW scan_file_chunks AS
    SELECT f.id << 24 | c.chunk_index AS id, f.id AS scan_file_id, c.chunk_index, c.chunk_type, c.symbol_name,
           c.start_line, c.end_line, c.content_hash, coalesce(w.status, 'pending') AS status,
           coalesce(w.retry_count, 0) AS retry_count, f.scan_id
      FROM chunk_facts AS c
      JOIN scan_files AS f ON f.version_id = c.version_id
      LEFT JOIN chunk_states AS w ON w.scan_file_id = f.id AND w.chunk_index = c.chunk_index
    """,
]

TRIGGERS = [
    *(
        f"""
        CREATE TRIGGER tr_{table}_updated_at AFTER UPDATE ON {table} WHEN NEW.updated_at IS OLD.updated_at
        BEGIN UPDATE {table} SET updated_at = {NOW} WHERE id = NEW.id; END
        """
        for table in ("lineages", "scans", "model_configs", "scan_configs", "scan_files")
    ),
    # A symbol added by hand goes to a version of its file that belongs to this scan alone: facts that an indexer
    # recorded are shared between scans and stay as they are.
    """
    CREATE TRIGGER tr_symbols_insert INSTEAD OF INSERT ON symbols
    BEGIN
        SELECT RAISE(ABORT, 'an indexer recorded this file, its symbols are shared between scans; use record_file')
         WHERE EXISTS (SELECT 1 FROM scan_files AS f JOIN file_versions AS v ON v.id = f.version_id
                        WHERE f.scan_id = NEW.scan_id AND f.file_path = NEW.file_path
                          AND v.indexer <> 'scan:' || NEW.scan_id);
        INSERT OR IGNORE INTO file_versions (path, content_hash, indexer)
        VALUES (NEW.file_path, x'', 'scan:' || NEW.scan_id);
        INSERT INTO scan_files (scan_id, file_path, version_id, status)
        SELECT NEW.scan_id, NEW.file_path, v.id, 'done' FROM file_versions AS v
         WHERE v.path = NEW.file_path AND v.content_hash = x'' AND v.indexer = 'scan:' || NEW.scan_id
           AND v.module = ''
            ON CONFLICT (scan_id, file_path) DO UPDATE SET version_id = excluded.version_id, status = 'done';
        INSERT OR IGNORE INTO names (text) VALUES (NEW.name), (coalesce(NEW.qualified_name, NEW.name));
        INSERT INTO symbol_facts (version_id, ordinal, name_id, qualified_name_id, symbol_type, start_line, end_line,
                                  metadata)
        SELECT f.version_id,
               (SELECT coalesce(max(ordinal), 0) + 1 FROM symbol_facts AS s WHERE s.version_id = f.version_id),
               (SELECT id FROM names WHERE text = NEW.name),
               (SELECT id FROM names WHERE text = coalesce(NEW.qualified_name, NEW.name)),
               NEW.symbol_type, coalesce(NEW.start_line, 1), coalesce(NEW.end_line, NEW.start_line, 1), NEW.metadata
          FROM scan_files AS f WHERE f.scan_id = NEW.scan_id AND f.file_path = NEW.file_path;
    END
    """,
    """
    CREATE TRIGGER tr_scan_file_chunks_update INSTEAD OF UPDATE OF status, retry_count ON scan_file_chunks
    BEGIN
        INSERT INTO chunk_states (scan_file_id, chunk_index, status, retry_count)
        VALUES (OLD.scan_file_id, OLD.chunk_index, NEW.status, NEW.retry_count)
            ON CONFLICT (scan_file_id, chunk_index)
            DO UPDATE SET status = excluded.status, retry_count = excluded.retry_count;
    END
    """,
]


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for statement in (*TABLES, *VIEWS, *TRIGGERS):
        migrator.sql(statement.replace("{NOW}", NOW).strip())


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for view in ("scan_file_chunks", "import_relations", "symbol_references", "symbols"):
        migrator.sql(f"DROP VIEW {view}")
    for table in (
        "bindings",
        "chunk_states",
        "chunk_facts",
        "import_facts",
        "reference_facts",
        "symbol_facts",
        "scan_files",
        "file_versions",
        "names",
        "scan_configs",
        "model_configs",
        "scans",
        "lineages",
    ):
        migrator.sql(f"DROP TABLE {table}")
