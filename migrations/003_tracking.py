"""Findings over time: one row for what is to be fixed, recognised in scan after scan of its target, with its triage.

Frozen. A finding belongs to a line of scans (``lineages``) and is what a person decides about; ``sightings`` says
what each scan saw of it and where. The content of a finding is the one of its latest sighting; when that changes, the
content before is kept once in ``finding_contents`` and the sightings that saw it point there. What a finding is
recognised by stands in columns of its own. ``tool_runs`` are the reports that were loaded, ``finding_events`` the
history that nothing overwrites.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
SEVERITIES = "('critical', 'high', 'medium', 'low', 'info')"

FINDINGS = """
    CREATE TABLE findings (
        id INTEGER NOT NULL CONSTRAINT pk_findings PRIMARY KEY AUTOINCREMENT,
        lineage_id INTEGER NOT NULL,
        scan_id INTEGER,                      -- that saw it last
        first_scan_id INTEGER,
        verified_id INTEGER,                  -- one finding for each
        tool TEXT NOT NULL DEFAULT 'scanstore',
        rule_id TEXT NOT NULL,                -- of the tool; of our own findings, their vulnerability type
        title TEXT NOT NULL,
        message TEXT NOT NULL DEFAULT '',
        vulnerability_type TEXT NOT NULL,
        severity TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'open',
        file_path TEXT NOT NULL,              -- '': of no file
        line_number INTEGER,
        end_line INTEGER,
        start_column INTEGER,
        end_column INTEGER,
        snippet TEXT NOT NULL DEFAULT '',
        cwe TEXT,
        confidence INTEGER,                   -- per cent
        vulnerability_details TEXT NOT NULL DEFAULT '',
        proof_of_concept TEXT NOT NULL DEFAULT '',
        remediation_steps TEXT NOT NULL DEFAULT '',
        "references" TEXT NOT NULL DEFAULT '',
        cvss_score REAL,
        cvss_vector TEXT,
        symbol TEXT,                          -- qualified name of what it is in
        line_hash BLOB,                       -- of the text of its line
        context_hash BLOB,                    -- of the lines around it
        message_key TEXT NOT NULL DEFAULT '', -- the message without its own numbers
        fingerprints TEXT NOT NULL DEFAULT '{}',    -- JSON: those that the tool gave
        detail BLOB,                          -- zlib JSON: code flows and whatever else the tool said
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_findings_verified_id UNIQUE (verified_id),
        CONSTRAINT fk_findings_lineage_id FOREIGN KEY (lineage_id) REFERENCES lineages (id) ON DELETE CASCADE,
        CONSTRAINT fk_findings_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE SET NULL,
        CONSTRAINT fk_findings_first_scan_id FOREIGN KEY (first_scan_id) REFERENCES scans (id) ON DELETE SET NULL,
        CONSTRAINT fk_findings_verified_id FOREIGN KEY (verified_id)
            REFERENCES verified_findings (id) ON DELETE SET NULL,
        -- OR: a list of words would be built anew for every row, which trebled the time of the insert.
        CONSTRAINT ck_findings_severity CHECK (severity = 'medium' OR severity = 'high' OR severity = 'low'
            OR severity = 'critical' OR severity = 'info'),
        CONSTRAINT ck_findings_status CHECK (status = 'open' OR status = 'confirmed' OR status = 'false_positive'
            OR status = 'ignored' OR status = 'fixed'),
        CONSTRAINT ck_findings_confidence CHECK (confidence BETWEEN 0 AND 100),
        CONSTRAINT ck_findings_line_number CHECK (line_number > 0 AND end_line >= line_number),
        CONSTRAINT ck_findings_cvss_score CHECK (cvss_score BETWEEN 0 AND 10),
        CONSTRAINT ck_findings_fingerprints CHECK (json_valid(fingerprints))
    )
"""
TABLES = [
    """
    CREATE TABLE tool_runs (
        id INTEGER NOT NULL CONSTRAINT pk_tool_runs PRIMARY KEY,
        scan_id INTEGER NOT NULL,
        tool TEXT NOT NULL,
        tool_version TEXT NOT NULL DEFAULT '',
        digest TEXT NOT NULL,                 -- SHA-256 of the report, and which run of it
        rules TEXT NOT NULL DEFAULT '[]',     -- JSON: what the report says of each rule
        complete INTEGER NOT NULL DEFAULT 0,  -- whether it names rules that found nothing, so probably all that ran
        successful INTEGER NOT NULL DEFAULT 1,
        files TEXT,                           -- JSON: paths that were looked at; none: all of the scan
        failed_files TEXT NOT NULL DEFAULT '[]',    -- JSON: paths that could not be looked at
        scope TEXT,                           -- JSON: patterns of paths that were looked at; none: all
        detail BLOB,                          -- zlib JSON: whatever else the report says of the run
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_tool_runs_scan_id_digest UNIQUE (scan_id, digest),
        CONSTRAINT fk_tool_runs_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
        CONSTRAINT ck_tool_runs_rules CHECK (json_valid(rules)),
        CONSTRAINT ck_tool_runs_files CHECK (files IS NULL OR json_valid(files)),
        CONSTRAINT ck_tool_runs_failed_files CHECK (json_valid(failed_files)),
        CONSTRAINT ck_tool_runs_scope CHECK (scope IS NULL OR json_valid(scope))
    )
    """,
    "CREATE INDEX ix_tool_runs_digest ON tool_runs (digest)",
    """
    CREATE TABLE finding_contents (
        id INTEGER NOT NULL CONSTRAINT pk_finding_contents PRIMARY KEY,
        finding_id INTEGER NOT NULL,
        body BLOB NOT NULL,                   -- zlib JSON: columns as they were
        CONSTRAINT fk_finding_contents_finding_id FOREIGN KEY (finding_id) REFERENCES findings (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_finding_contents_finding_id ON finding_contents (finding_id)",
    """
    CREATE TABLE sightings (
        scan_id INTEGER NOT NULL,
        finding_id INTEGER NOT NULL,
        run_id INTEGER,                       -- the report it came with
        verified_id INTEGER,                  -- or the verified finding that was published
        state TEXT NOT NULL,                  -- fixed: not seen any more, though it was looked for
        file_path TEXT NOT NULL DEFAULT '',
        line_number INTEGER,
        end_line INTEGER,
        start_column INTEGER,
        end_column INTEGER,
        content_id INTEGER,                   -- none: as the finding is now
        CONSTRAINT pk_sightings PRIMARY KEY (scan_id, finding_id),
        CONSTRAINT fk_sightings_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
        CONSTRAINT fk_sightings_finding_id FOREIGN KEY (finding_id) REFERENCES findings (id) ON DELETE CASCADE,
        CONSTRAINT fk_sightings_run_id FOREIGN KEY (run_id) REFERENCES tool_runs (id) ON DELETE CASCADE,
        CONSTRAINT fk_sightings_verified_id FOREIGN KEY (verified_id)
            REFERENCES verified_findings (id) ON DELETE SET NULL,
        CONSTRAINT fk_sightings_content_id FOREIGN KEY (content_id)
            REFERENCES finding_contents (id) ON DELETE NO ACTION,
        CONSTRAINT ck_sightings_state CHECK (state = 'unchanged' OR state = 'new' OR state = 'updated'
            OR state = 'fixed' OR state = 'reopened')
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_sightings_finding_id ON sightings (finding_id, scan_id)",
    "CREATE UNIQUE INDEX uq_sightings_verified_id ON sightings (verified_id)",
    "CREATE INDEX ix_sightings_run_id ON sightings (run_id) WHERE run_id IS NOT NULL",
    "CREATE INDEX ix_sightings_content_id ON sightings (content_id) WHERE content_id IS NOT NULL",
    """
    CREATE TABLE finding_events (
        id INTEGER NOT NULL CONSTRAINT pk_finding_events PRIMARY KEY AUTOINCREMENT,
        finding_id INTEGER NOT NULL,
        scan_id INTEGER,                      -- in which it came about, if a scan brought it
        action TEXT NOT NULL,
        by TEXT NOT NULL,                     -- a person, or what did it by itself
        from_status TEXT,
        to_status TEXT,
        note TEXT NOT NULL DEFAULT '',
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT fk_finding_events_finding_id FOREIGN KEY (finding_id) REFERENCES findings (id) ON DELETE CASCADE,
        CONSTRAINT fk_finding_events_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE SET NULL,
        CONSTRAINT ck_finding_events_action CHECK (action IN ('status', 'comment', 'suppress', 'unsuppress'))
    )
    """,
    "CREATE INDEX ix_finding_events_finding_id ON finding_events (finding_id)",
    "CREATE INDEX ix_finding_events_scan_id ON finding_events (scan_id) WHERE scan_id IS NOT NULL",
    """
    CREATE TABLE suppressions (
        id INTEGER NOT NULL CONSTRAINT pk_suppressions PRIMARY KEY,
        lineage_id INTEGER NOT NULL,
        finding_id INTEGER,                   -- either this one,
        tool TEXT,                            -- or all of a rule, by any tool if none is named,
        rule_id TEXT,
        path_pattern TEXT,                    -- in these paths if any are named
        justification TEXT NOT NULL,
        by TEXT NOT NULL,
        expires_at TEXT,
        lifted_at TEXT,
        lifted_by TEXT,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT fk_suppressions_lineage_id FOREIGN KEY (lineage_id) REFERENCES lineages (id) ON DELETE CASCADE,
        CONSTRAINT fk_suppressions_finding_id FOREIGN KEY (finding_id) REFERENCES findings (id) ON DELETE CASCADE,
        CONSTRAINT ck_suppressions_finding_id CHECK ((finding_id IS NULL) <> (rule_id IS NULL)),
        CONSTRAINT ck_suppressions_justification CHECK (justification <> '')
    )
    """,
    "CREATE INDEX ix_suppressions_lineage_id ON suppressions (lineage_id)",
    "CREATE INDEX ix_suppressions_finding_id ON suppressions (finding_id)",
]
INDEXES = [
    "CREATE INDEX ix_findings_lineage_id_tool_rule_id ON findings (lineage_id, tool, rule_id)",
    "CREATE INDEX ix_findings_lineage_id_file_path ON findings (lineage_id, file_path)",
    "CREATE INDEX ix_findings_scan_id ON findings (scan_id)",
    "CREATE INDEX ix_findings_first_scan_id ON findings (first_scan_id)",
]
TRIGGERS = [
    f"""
    CREATE TRIGGER tr_{table}_updated_at AFTER UPDATE ON {table} WHEN NEW.updated_at IS OLD.updated_at
    BEGIN UPDATE {table} SET updated_at = {{NOW}} WHERE id = NEW.id; END
    """
    for table in ("findings", "suppressions")
]
KEPT = (
    "verified_id", "title", "vulnerability_type", "severity", "status", "file_path", "line_number", "end_line",
    "snippet", "cwe", "confidence", "vulnerability_details", "proof_of_concept", "remediation_steps", '"references"',
    "cvss_score", "cvss_vector", "created_at", "updated_at",
)  # fmt: skip


def _filled(statement: str) -> str:
    return statement.replace("{NOW}", NOW).replace("{SEVERITIES}", SEVERITIES).strip()


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql(
        "ALTER TABLE scans ADD COLUMN kind TEXT NOT NULL DEFAULT 'source'"
        " CONSTRAINT ck_scans_kind CHECK (kind IN ('source', 'results'))"
    )
    migrator.sql("ALTER TABLE findings RENAME TO findings_before")
    migrator.sql(_filled(FINDINGS))
    migrator.sql(
        f"INSERT INTO findings (id, lineage_id, scan_id, first_scan_id, rule_id, {', '.join(KEPT)})"
        f" SELECT f.id, s.lineage_id, s.id, s.id, f.vulnerability_type, {', '.join(f'f.{name}' for name in KEPT)}"
        " FROM findings_before AS f JOIN scans AS s ON s.id = f.scan_id"
    )
    migrator.sql("DROP TABLE findings_before")
    for statement in (*INDEXES, *TABLES, *TRIGGERS):
        migrator.sql(_filled(statement))
    migrator.sql(
        "INSERT INTO sightings (scan_id, finding_id, verified_id, state, file_path, line_number, end_line)"
        " SELECT scan_id, id, verified_id, 'new', file_path, line_number, end_line FROM findings"
    )


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for table in ("suppressions", "finding_events", "sightings", "finding_contents", "tool_runs"):
        migrator.sql(f"DROP TABLE {table}")
    migrator.sql("ALTER TABLE findings RENAME TO findings_after")
    for name in (
        "lineage_id_tool_rule_id", "lineage_id_file_path", "scan_id", "first_scan_id",
    ):  # fmt: skip
        migrator.sql(f"DROP INDEX ix_findings_{name}")
    migrator.sql("DROP TRIGGER tr_findings_updated_at")
    migrator.sql(
        _filled(
            """
        CREATE TABLE findings (
            id INTEGER NOT NULL CONSTRAINT pk_findings PRIMARY KEY,
            scan_id INTEGER NOT NULL,
            verified_id INTEGER,                  -- one finding for each
            title TEXT NOT NULL,
            vulnerability_type TEXT NOT NULL,
            severity TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'open',
            file_path TEXT NOT NULL,
            line_number INTEGER,
            end_line INTEGER,
            snippet TEXT NOT NULL DEFAULT '',
            cwe TEXT,
            confidence INTEGER,                   -- per cent
            vulnerability_details TEXT NOT NULL DEFAULT '',
            proof_of_concept TEXT NOT NULL DEFAULT '',
            remediation_steps TEXT NOT NULL DEFAULT '',
            "references" TEXT NOT NULL DEFAULT '',
            cvss_score REAL,
            cvss_vector TEXT,
            created_at TEXT NOT NULL DEFAULT ({NOW}),
            updated_at TEXT NOT NULL DEFAULT ({NOW}),
            CONSTRAINT uq_findings_verified_id UNIQUE (verified_id),
            CONSTRAINT fk_findings_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
            CONSTRAINT fk_findings_verified_id FOREIGN KEY (verified_id)
                REFERENCES verified_findings (id) ON DELETE SET NULL,
            CONSTRAINT ck_findings_severity CHECK (severity IN {SEVERITIES}),
            CONSTRAINT ck_findings_status CHECK (status IN
                ('open', 'confirmed', 'false_positive', 'ignored', 'fixed')),
            CONSTRAINT ck_findings_confidence CHECK (confidence BETWEEN 0 AND 100),
            CONSTRAINT ck_findings_line_number CHECK (line_number > 0 AND end_line >= line_number),
            CONSTRAINT ck_findings_cvss_score CHECK (cvss_score BETWEEN 0 AND 10)
        )
        """
        )
    )
    columns = ", ".join(KEPT)
    migrator.sql(
        f"INSERT INTO findings (id, scan_id, {columns}) SELECT id, scan_id, {columns} FROM findings_after"
        " WHERE scan_id IS NOT NULL"
    )
    migrator.sql("DROP TABLE findings_after")
    migrator.sql("CREATE INDEX ix_findings_scan_id_file_path ON findings (scan_id, file_path)")
    migrator.sql(
        _filled(
            """
        CREATE TRIGGER tr_findings_updated_at AFTER UPDATE ON findings WHEN NEW.updated_at IS OLD.updated_at
        BEGIN UPDATE findings SET updated_at = {NOW} WHERE id = NEW.id; END
        """
        )
    )
    migrator.sql("ALTER TABLE scans DROP COLUMN kind")
