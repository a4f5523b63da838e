"""Lost leases are counted apart from failures, and one worker asks a question for all.

Frozen. ``lost_count`` counts the leases of a row that ended without their owner; with more than ``max_lost`` the row
fails. ``lease_clock`` is the wall clock less the running time of the machine (``time.monotonic()``), in seconds, at the
owner's last sign of life. It changes by as much as the wall clock was set or the machine slept. It is set from the
claim until the owner gives the row back or somebody else decides about it: a waiting row that has one lost its lease
and may be settled by its last owner.

``answer_claims`` holds the questions that are being asked of a model right now, each by one process.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
# table, scope
WORK = (
    ("chunk_work", "scan_id"),
    ("draft_findings", "scan_id"),
    ("verified_findings", "scan_id"),
    ("jobs", "queue"),
    ("analysis_tasks", "analysis_session_id"),
    ("audit_tasks", "queue"),
)
LIMITED = ("scan_configs", "jobs", "analysis_tasks", "audit_tasks")

CLAIMS = f"""
    CREATE TABLE answer_claims (
        id INTEGER NOT NULL CONSTRAINT pk_answer_claims PRIMARY KEY,
        analyzer_id INTEGER NOT NULL,
        content_hash BLOB NOT NULL,           -- of what is asked about
        token TEXT NOT NULL,                  -- of the one call that asks
        process TEXT NOT NULL,                -- host:pid@start of who asks
        lease_until TEXT NOT NULL,
        lease_clock REAL NOT NULL,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_answer_claims_analyzer_id_content_hash UNIQUE (analyzer_id, content_hash),
        CONSTRAINT fk_answer_claims_analyzer_id FOREIGN KEY (analyzer_id) REFERENCES analyzers (id) ON DELETE CASCADE
    )
"""

VIEW = """
    CREATE VIEW scan_file_chunks AS
    SELECT f.id << 24 | c.chunk_index AS id, f.id AS scan_file_id, c.chunk_index, c.chunk_type, c.symbol_name,
           c.start_line, c.end_line, c.content_hash, coalesce(w.status, 'pending') AS status,
           coalesce(w.retry_count, 0) AS retry_count,{lost} f.scan_id, f.file_path, f.risk_level,
           coalesce(w.attempt, 0) AS attempt, w.worker, w.lease_until, w.next_retry_at, w.error
      FROM chunk_facts AS c
      JOIN scan_files AS f ON f.version_id = c.version_id
      LEFT JOIN chunk_work AS w ON w.id = (f.id << 24 | c.chunk_index)
"""
# By hand. A chunk that is set to running has a lease that ran out: nobody is known to work on it.
VIEW_TRIGGER = """
    CREATE TRIGGER tr_scan_file_chunks_update INSTEAD OF UPDATE OF status, retry_count ON scan_file_chunks
    BEGIN
        INSERT INTO chunk_work (id, scan_file_id, scan_id, rank, status, retry_count, lease_until)
        VALUES (OLD.id, OLD.scan_file_id, OLD.scan_id,
                CASE OLD.risk_level WHEN 'high' THEN 0 WHEN 'low' THEN 2 ELSE 1 END, NEW.status, NEW.retry_count,
                CASE NEW.status WHEN 'running' THEN {NOW} END)
            ON CONFLICT (id) DO UPDATE SET status = excluded.status, retry_count = excluded.retry_count,
                lease_until = CASE excluded.status WHEN 'running' THEN coalesce(lease_until, {NOW}) END,
                next_retry_at = NULL,{clock} updated_at = {NOW};
    END
"""


def _view(migrator: Migrator, *, lost: str, clock: str) -> None:
    migrator.sql(VIEW.replace("{lost}", lost).strip())
    migrator.sql(VIEW_TRIGGER.replace("{clock}", clock).replace("{NOW}", NOW).strip())


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("DROP VIEW scan_file_chunks")
    for table, scope in WORK:
        lost = f"CONSTRAINT ck_{table}_lost_count CHECK (lost_count >= 0)"
        migrator.sql(f"ALTER TABLE {table} ADD COLUMN lost_count INTEGER NOT NULL DEFAULT 0 {lost}")
        migrator.sql(f"ALTER TABLE {table} ADD COLUMN lease_clock REAL")
        migrator.sql(f"CREATE INDEX ix_{table}_lost ON {table} ({scope}, lost_count) WHERE lost_count > 0")
    for table in LIMITED:
        limit = f"CONSTRAINT ck_{table}_max_lost CHECK (max_lost >= 0)"
        migrator.sql(f"ALTER TABLE {table} ADD COLUMN max_lost INTEGER NOT NULL DEFAULT 10 {limit}")
    migrator.sql(CLAIMS.strip())
    _view(
        migrator,
        lost=" coalesce(w.lost_count, 0) AS lost_count,",
        clock="\n                lease_clock = CASE excluded.status WHEN 'running' THEN lease_clock END,",
    )


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("DROP VIEW scan_file_chunks")
    migrator.sql("DROP TABLE answer_claims")
    for table in LIMITED:
        migrator.sql(f"ALTER TABLE {table} DROP COLUMN max_lost")
    for table, _ in WORK:
        migrator.sql(f"DROP INDEX ix_{table}_lost")
        for column in ("lease_clock", "lost_count"):
            migrator.sql(f"ALTER TABLE {table} DROP COLUMN {column}")
    _view(migrator, lost="", clock="")
