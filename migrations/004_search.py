"""Full-text search: findings with the notes on them, and symbols by the words of their names and their docstrings.

Frozen. The two indexes keep the words that they were given and are filled by whoever searches, so that recording scans
and loading reports costs next to nothing: an index that is written to row by row from a trigger made 25,000 findings
seven times as slow, and in one go it takes them in well under a second.

``finding_search`` has a row for each finding, ``symbol_search`` one for each symbol of the file versions that were ever
searched, ``rowid = version_id << 24 | ordinal``. What changed since is noted in ``search_changes`` by triggers:
findings that are new, other or gone, and file versions that were in the index and are gone or got a symbol by hand.

Tables that end in ``_data``, ``_idx``, ``_content``, ``_docsize`` and ``_config`` belong to the two.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

TOKENS = "tokenize = 'porter unicode61 remove_diacritics 2'"
TEXTS = ("title", "message", "vulnerability_details", "remediation_steps", "snippet")
# Asked for first: within a trigger, how the statement outside treats conflicts counts, whatever is said here.
NOTE = (
    "INSERT INTO search_changes (kind, id) SELECT '{0}', {1}"
    " WHERE NOT EXISTS (SELECT 1 FROM search_changes WHERE kind = '{0}' AND id = {1})"
)

TABLES = [
    """
    CREATE TABLE search_changes (
        kind TEXT NOT NULL,
        id INTEGER NOT NULL,                  -- of a finding; for symbols of a file version
        CONSTRAINT pk_search_changes PRIMARY KEY (kind, id),
        CONSTRAINT ck_search_changes_kind CHECK (kind = 'finding' OR kind = 'symbol')
    ) WITHOUT ROWID
    """,
    f"CREATE VIRTUAL TABLE finding_search USING fts5 ({', '.join(TEXTS)}, notes, {TOKENS})",
    f"CREATE VIRTUAL TABLE symbol_search USING fts5 (name, scope, docstring, {TOKENS})",
    # How much a word counts in each of the columns.
    "INSERT INTO finding_search (finding_search, rank) VALUES ('rank', 'bm25(8.0, 4.0, 2.0, 1.0, 2.0, 2.0)')",
    "INSERT INTO symbol_search (symbol_search, rank) VALUES ('rank', 'bm25(8.0, 3.0, 1.0)')",
    "INSERT INTO search_changes (kind, id) SELECT 'finding', id FROM findings",
]

TRIGGERS = {
    "tr_findings_search_insert": f"""
    AFTER INSERT ON findings
    BEGIN {NOTE.format("finding", "NEW.id")}; END
    """,
    "tr_findings_search_update": f"""
    AFTER UPDATE OF {", ".join(TEXTS)} ON findings
    WHEN {" OR ".join(f"NEW.{name} <> OLD.{name}" for name in TEXTS)}
    BEGIN {NOTE.format("finding", "NEW.id")}; END
    """,
    "tr_findings_search_delete": f"""
    AFTER DELETE ON findings
    BEGIN {NOTE.format("finding", "OLD.id")}; END
    """,
    "tr_finding_events_search_insert": f"""
    AFTER INSERT ON finding_events WHEN NEW.note <> ''
    BEGIN {NOTE.format("finding", "NEW.finding_id")}; END
    """,
    "tr_finding_events_search_update": f"""
    AFTER UPDATE OF finding_id, note ON finding_events
    BEGIN {NOTE.format("finding", "OLD.finding_id")}; {NOTE.format("finding", "NEW.finding_id")}; END
    """,
    "tr_finding_events_search_delete": f"""
    AFTER DELETE ON finding_events WHEN OLD.note <> ''
    BEGIN {NOTE.format("finding", "OLD.finding_id")}; END
    """,
    "tr_file_versions_search": f"""
    AFTER DELETE ON file_versions
    WHEN EXISTS (SELECT 1 FROM symbol_search_docsize WHERE id >= OLD.id << 24 AND id < (OLD.id + 1) << 24)
    BEGIN {NOTE.format("symbol", "OLD.id")}; END
    """,
    "tr_symbols_search": """
    INSTEAD OF INSERT ON symbols
    BEGIN
        INSERT INTO search_changes (kind, id)
        SELECT 'symbol', v.id FROM file_versions AS v
         WHERE v.path = NEW.file_path AND v.content_hash = x'' AND v.indexer = 'scan:' || NEW.scan_id
           AND v.module = '' AND NOT EXISTS (SELECT 1 FROM search_changes WHERE kind = 'symbol' AND id = v.id)
           AND EXISTS (SELECT 1 FROM symbol_search_docsize WHERE id >= v.id << 24 AND id < (v.id + 1) << 24);
    END
    """,
}


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for statement in TABLES:
        migrator.sql(statement.strip())
    for name, rest in TRIGGERS.items():
        migrator.sql(f"CREATE TRIGGER {name} {rest.strip()}")


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for name in TRIGGERS:
        migrator.sql(f"DROP TRIGGER {name}")
    for table in ("finding_search", "symbol_search", "search_changes"):
        migrator.sql(f"DROP TABLE {table}")
