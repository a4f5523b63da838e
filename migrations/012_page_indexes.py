"""Indexes for the orders of pages, for the states of queues and for parts of names, and the figures of a scan.

Frozen. Lists on a screen are sorted by title, date, score, field and confidence. An index of a table whose key is text
ends with the key, because equal rows are sorted by it.

A completed scan has a row in ``scan_figures``, and its counts in ``scan_counts`` and ``scan_groups``. A change of its
files or bindings removes all of them, until it is completed again. Facts of a file version never change, except for
symbols that are added by hand. Scans that were completed before this migration have no figures; their rows are counted
each time.

``name_search`` finds the names with given trigrams. Completing a scan takes up all names above the highest known id: a
new name always gets a higher id than every other. It has no positions, which would triple its size.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

INDEXES = {
    "ix_scenes_title": "scenes (title, id)",
    "ix_analysis_results_score": "analysis_results (score, id)",
    "ix_audit_analyses_compliance_score": "audit_analyses (compliance_score, id)",
    "ix_plan_changes_field": "plan_changes (field)",
    "ix_plan_changes_confidence": "plan_changes (confidence)",
    "ix_plan_changes_plan_id_field": "plan_changes (plan_id, field)",
    "ix_plan_changes_plan_id_confidence": "plan_changes (plan_id, confidence)",
    "ix_scan_configs_primary_analyzer_id": "scan_configs (primary_analyzer_id) WHERE primary_analyzer_id IS NOT NULL",
    "ix_scans_active": "scans (lineage_id) WHERE status = 'queued' OR status = 'running'",
    "ix_jobs_type": "jobs (type, queue, status)",
    "ix_audit_tasks_queue": "audit_tasks (queue, status)",
}
FIGURES = ("scan_figures", "scan_counts", "scan_groups")
TABLES = [
    """
    CREATE TABLE scan_figures (
        scan_id INTEGER NOT NULL CONSTRAINT pk_scan_figures PRIMARY KEY,
        reused INTEGER NOT NULL,              -- files that an earlier scan had read when this one was completed
        CONSTRAINT fk_scan_figures_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE scan_counts (
        scan_id INTEGER NOT NULL,
        kind TEXT NOT NULL,                   -- column of a view
        value TEXT NOT NULL,
        count INTEGER NOT NULL,
        CONSTRAINT pk_scan_counts PRIMARY KEY (scan_id, kind, value),
        CONSTRAINT fk_scan_counts_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE scan_groups (
        scan_id INTEGER NOT NULL,
        ending TEXT NOT NULL,                 -- of the paths, without the dot
        indexer TEXT NOT NULL,                -- empty: none
        status TEXT NOT NULL,
        broken INTEGER NOT NULL,              -- 1: with an error
        files INTEGER NOT NULL,
        lines INTEGER NOT NULL,
        symbols INTEGER NOT NULL,
        refs INTEGER NOT NULL,
        imports INTEGER NOT NULL,
        chunks INTEGER NOT NULL,
        CONSTRAINT pk_scan_groups PRIMARY KEY (scan_id, ending, indexer, status, broken),
        CONSTRAINT fk_scan_groups_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    """
    CREATE VIRTUAL TABLE name_search
     USING fts5 (text, content = 'names', content_rowid = 'id', tokenize = 'trigram', detail = 'none')
    """,
]
# FTS5 must be given the text of a row that it is to forget, and only of a row that it has.
FORGET = """
    CREATE TRIGGER tr_names_search AFTER DELETE ON names
    WHEN EXISTS (SELECT 1 FROM name_search_docsize WHERE id = OLD.id)
    BEGIN INSERT INTO name_search (name_search, rowid, text) VALUES ('delete', OLD.id, OLD.text); END
"""
TRIGGERS = {
    "tr_scan_files_figures_insert": ("AFTER INSERT ON scan_files", "NEW.scan_id"),
    "tr_scan_files_figures_update": (
        "AFTER UPDATE OF scan_id, version_id, file_path, status, error ON scan_files",
        "OLD.scan_id",
    ),
    "tr_scan_files_figures_delete": ("AFTER DELETE ON scan_files", "OLD.scan_id"),
    "tr_scans_figures": ("AFTER UPDATE OF revision ON scans WHEN NEW.revision IS NOT OLD.revision", "NEW.id"),
    "tr_symbols_figures": ("INSTEAD OF INSERT ON symbols", "NEW.scan_id"),
}


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for name, columns in INDEXES.items():
        migrator.sql(f"CREATE INDEX {name} ON {columns}")
    for table in TABLES:
        migrator.sql(table.strip())
    migrator.sql(FORGET.strip())
    for name, (event, scan) in TRIGGERS.items():
        removal = " ".join(f"DELETE FROM {table} WHERE scan_id = {scan};" for table in FIGURES)
        if "scan_files" in event:  # mostly there are no figures yet
            event += f" WHEN EXISTS (SELECT 1 FROM scan_figures WHERE scan_id = {scan})"
        migrator.sql(f"CREATE TRIGGER {name} {event} BEGIN {removal} END")


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for name in TRIGGERS:
        migrator.sql(f"DROP TRIGGER {name}")
    migrator.sql("DROP TRIGGER tr_names_search")
    for table in ("name_search", *FIGURES):
        migrator.sql(f"DROP TABLE {table}")
    for name in INDEXES:
        migrator.sql(f"DROP INDEX {name}")
