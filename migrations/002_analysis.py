"""The analysis of a scan: leased work, model calls and their answers, drafts, votes, verified and final findings.

Frozen. A chunk has a row in ``chunk_work`` once its scan is analysed; without one it is pending. Its id is the one of
``scan_file_chunks``: ``scan_files.id << 24 | chunk_index``.

Work is waiting (``pending``), leased (``running``, ``verifying``, ``enriching``: exactly then ``lease_until`` is set)
or over. ``attempt`` counts the claims of a row: it tells a late owner from the present one. Waiting rows with a
``next_retry_at`` are kept out of the index that claims read, and leased ones have an index of their own, so that a
claim costs the same however many rows are over. ``work_counts`` holds how many rows are in which status,
``call_counts`` what the calls came to; triggers keep both.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

# What every table that is worked through has, below its status.
LEASE = """
        rank INTEGER NOT NULL DEFAULT {rank},      -- 0 first
        retry_count INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,   -- claims so far
        worker TEXT,                          -- who has it, or had it last
        process TEXT,                         -- host:pid@start of that worker
        lease_until TEXT,                     -- set while it is leased
        next_retry_at TEXT,                   -- set while it waits for another try
        error TEXT,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
"""

TABLES = [
    """
    CREATE TABLE work_counts (
        scan_id INTEGER NOT NULL,
        kind TEXT NOT NULL,                   -- chunk, draft, verified
        status TEXT NOT NULL,
        count INTEGER NOT NULL,
        CONSTRAINT pk_work_counts PRIMARY KEY (scan_id, kind, status),
        CONSTRAINT fk_work_counts_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE chunk_work (
        id INTEGER NOT NULL CONSTRAINT pk_chunk_work PRIMARY KEY,
        scan_file_id INTEGER NOT NULL,
        scan_id INTEGER NOT NULL,             -- of that file
        status TEXT NOT NULL DEFAULT 'pending',
        {LEASE:1}
        CONSTRAINT fk_chunk_work_scan_file_id FOREIGN KEY (scan_file_id) REFERENCES scan_files (id) ON DELETE CASCADE,
        CONSTRAINT ck_chunk_work_status CHECK (status = 'done' OR status = 'pending' OR status = 'running'
            OR status = 'failed' OR status = 'skipped'),
        CONSTRAINT ck_chunk_work_lease_until CHECK ((lease_until IS NOT NULL) = (status = 'running')),
        CONSTRAINT ck_chunk_work_id CHECK (id >> 24 = scan_file_id),
        CONSTRAINT ck_chunk_work_retry_count CHECK (retry_count >= 0)
    )
    """,
    "CREATE INDEX ix_chunk_work_scan_file_id ON chunk_work (scan_file_id)",
    """
    CREATE TABLE analyzers (
        id INTEGER NOT NULL CONSTRAINT pk_analyzers PRIMARY KEY,
        key TEXT NOT NULL,                    -- SHA-256 of what follows, in hexadecimal
        model TEXT NOT NULL,                  -- name of the model
        prompt_hash TEXT NOT NULL,            -- SHA-256 of the prompt template
        parameters TEXT NOT NULL DEFAULT '{}',
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_analyzers_key UNIQUE (key),
        CONSTRAINT ck_analyzers_parameters CHECK (json_valid(parameters))
    )
    """,
    """
    CREATE TABLE analysis_cache (
        id INTEGER NOT NULL CONSTRAINT pk_analysis_cache PRIMARY KEY,
        analyzer_id INTEGER NOT NULL,
        content_hash BLOB NOT NULL,           -- of what was asked about
        response BLOB,                        -- zlib: the model's answer as it came
        drafts TEXT,                          -- JSON: what came of it, lines counted from the start of the content
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_analysis_cache_analyzer_id_content_hash UNIQUE (analyzer_id, content_hash),
        CONSTRAINT fk_analysis_cache_analyzer_id FOREIGN KEY (analyzer_id) REFERENCES analyzers (id) ON DELETE CASCADE,
        CONSTRAINT ck_analysis_cache_drafts CHECK (drafts IS NULL OR json_valid(drafts))
    )
    """,
    """
    CREATE TABLE draft_findings (
        id INTEGER NOT NULL CONSTRAINT pk_draft_findings PRIMARY KEY,
        scan_id INTEGER NOT NULL,
        chunk_id INTEGER,                     -- none: of no chunk, such as one of a static rule
        file_path TEXT NOT NULL,
        title TEXT NOT NULL,
        title_key TEXT NOT NULL,              -- folded: tells whether two titles say the same
        vulnerability_type TEXT NOT NULL,
        severity TEXT NOT NULL,
        line_number INTEGER,
        end_line INTEGER,
        snippet TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL DEFAULT '',
        cwe TEXT,
        confidence INTEGER,                   -- per cent
        auto_detected INTEGER NOT NULL DEFAULT 0,
        source_models TEXT NOT NULL DEFAULT '[]',   -- JSON: who reported it, each once
        vote_count INTEGER NOT NULL DEFAULT 1,
        round INTEGER NOT NULL DEFAULT 1,     -- of verification
        status TEXT NOT NULL DEFAULT 'pending',
        {LEASE:2}
        CONSTRAINT fk_draft_findings_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
        CONSTRAINT fk_draft_findings_chunk_id FOREIGN KEY (chunk_id) REFERENCES chunk_work (id) ON DELETE SET NULL,
        CONSTRAINT ck_draft_findings_severity CHECK (severity IN ('critical', 'high', 'medium', 'low', 'info')),
        CONSTRAINT ck_draft_findings_confidence CHECK (confidence BETWEEN 0 AND 100),
        CONSTRAINT ck_draft_findings_line_number CHECK (line_number > 0 AND end_line >= line_number),
        CONSTRAINT ck_draft_findings_round CHECK (round > 0),
        CONSTRAINT ck_draft_findings_source_models CHECK (json_valid(source_models)),
        CONSTRAINT ck_draft_findings_status CHECK (status IN
            ('pending', 'verifying', 'verified', 'rejected', 'weakness', 'skipped', 'failed')),
        CONSTRAINT ck_draft_findings_lease_until CHECK ((lease_until IS NOT NULL) = (status = 'verifying'))
    )
    """,
    """
    CREATE UNIQUE INDEX uq_draft_findings_scan_id_file_path_vulnerability_type_title_key_line_number
        ON draft_findings (scan_id, file_path, vulnerability_type, title_key, line_number)
    """,
    "CREATE INDEX ix_draft_findings_chunk_id ON draft_findings (chunk_id)",
    """
    CREATE TABLE votes (
        id INTEGER NOT NULL CONSTRAINT pk_votes PRIMARY KEY,
        draft_id INTEGER NOT NULL,
        model_config_id INTEGER NOT NULL,
        round INTEGER NOT NULL DEFAULT 1,
        decision TEXT NOT NULL,
        confidence INTEGER,                   -- per cent
        severity TEXT,                        -- what the voter thinks it is
        reason TEXT NOT NULL DEFAULT '',
        attack_vector TEXT NOT NULL DEFAULT '',
        data_flow TEXT NOT NULL DEFAULT '',
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT uq_votes_draft_id_model_config_id_round UNIQUE (draft_id, model_config_id, round),
        CONSTRAINT fk_votes_draft_id FOREIGN KEY (draft_id) REFERENCES draft_findings (id) ON DELETE CASCADE,
        CONSTRAINT fk_votes_model_config_id FOREIGN KEY (model_config_id)
            REFERENCES model_configs (id) ON DELETE RESTRICT,
        CONSTRAINT ck_votes_decision CHECK (decision IN ('verified', 'rejected', 'weakness', 'abstain')),
        CONSTRAINT ck_votes_severity CHECK (severity IN ('critical', 'high', 'medium', 'low', 'info')),
        CONSTRAINT ck_votes_confidence CHECK (confidence BETWEEN 0 AND 100)
    )
    """,
    "CREATE INDEX ix_votes_model_config_id ON votes (model_config_id)",
    """
    CREATE TABLE verified_findings (
        id INTEGER NOT NULL CONSTRAINT pk_verified_findings PRIMARY KEY,
        draft_id INTEGER NOT NULL,
        scan_id INTEGER NOT NULL,
        title TEXT NOT NULL,
        confidence INTEGER NOT NULL,          -- per cent
        attack_vector TEXT NOT NULL DEFAULT '',
        data_flow TEXT NOT NULL DEFAULT '',
        adjusted_severity TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        {LEASE:2}
        CONSTRAINT uq_verified_findings_draft_id UNIQUE (draft_id),
        CONSTRAINT fk_verified_findings_draft_id FOREIGN KEY (draft_id)
            REFERENCES draft_findings (id) ON DELETE CASCADE,
        CONSTRAINT fk_verified_findings_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
        CONSTRAINT ck_verified_findings_confidence CHECK (confidence BETWEEN 0 AND 100),
        CONSTRAINT ck_verified_findings_adjusted_severity CHECK (adjusted_severity IN
            ('critical', 'high', 'medium', 'low', 'info')),
        CONSTRAINT ck_verified_findings_status CHECK (status IN ('pending', 'enriching', 'complete', 'failed')),
        CONSTRAINT ck_verified_findings_lease_until CHECK ((lease_until IS NOT NULL) = (status = 'enriching'))
    )
    """,
    "CREATE INDEX ix_verified_findings_scan_id ON verified_findings (scan_id)",
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
        CONSTRAINT ck_findings_severity CHECK (severity IN ('critical', 'high', 'medium', 'low', 'info')),
        CONSTRAINT ck_findings_status CHECK (status IN
            ('open', 'confirmed', 'false_positive', 'ignored', 'fixed')),
        CONSTRAINT ck_findings_confidence CHECK (confidence BETWEEN 0 AND 100),
        CONSTRAINT ck_findings_line_number CHECK (line_number > 0 AND end_line >= line_number),
        CONSTRAINT ck_findings_cvss_score CHECK (cvss_score BETWEEN 0 AND 10)
    )
    """,
    "CREATE INDEX ix_findings_scan_id_file_path ON findings (scan_id, file_path)",
    """
    CREATE TABLE model_slots (
        id INTEGER NOT NULL CONSTRAINT pk_model_slots PRIMARY KEY AUTOINCREMENT,  -- a ticket: the lowest hold places
        model_config_id INTEGER NOT NULL,
        process TEXT NOT NULL,
        lease_until TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT fk_model_slots_model_config_id FOREIGN KEY (model_config_id)
            REFERENCES model_configs (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_model_slots_model_config_id ON model_slots (model_config_id)",
    """
    CREATE TABLE model_calls (
        id INTEGER NOT NULL CONSTRAINT pk_model_calls PRIMARY KEY,
        scan_id INTEGER,
        model_config_id INTEGER,
        model TEXT NOT NULL,                  -- its name, which outlives the configuration
        purpose TEXT NOT NULL,
        chunk_id INTEGER,
        draft_id INTEGER,
        analyzer_id INTEGER,
        process TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'running',
        started_at TEXT NOT NULL,
        ended_at TEXT,
        latency_ms INTEGER,
        prompt_tokens INTEGER NOT NULL DEFAULT 0,
        completion_tokens INTEGER NOT NULL DEFAULT 0,
        cost REAL NOT NULL DEFAULT 0,         -- in whatever money the caller counts
        error TEXT,
        prompt BLOB,                          -- zlib
        response BLOB,                        -- zlib
        CONSTRAINT fk_model_calls_scan_id FOREIGN KEY (scan_id) REFERENCES scans (id) ON DELETE CASCADE,
        CONSTRAINT fk_model_calls_model_config_id FOREIGN KEY (model_config_id)
            REFERENCES model_configs (id) ON DELETE SET NULL,
        CONSTRAINT fk_model_calls_chunk_id FOREIGN KEY (chunk_id) REFERENCES chunk_work (id) ON DELETE SET NULL,
        CONSTRAINT fk_model_calls_draft_id FOREIGN KEY (draft_id) REFERENCES draft_findings (id) ON DELETE SET NULL,
        CONSTRAINT fk_model_calls_analyzer_id FOREIGN KEY (analyzer_id) REFERENCES analyzers (id) ON DELETE SET NULL,
        CONSTRAINT ck_model_calls_status CHECK (status IN ('running', 'answered', 'failed', 'abandoned')),
        CONSTRAINT ck_model_calls_ended_at CHECK ((ended_at IS NULL) = (status = 'running')),
        CONSTRAINT ck_model_calls_prompt_tokens CHECK (prompt_tokens >= 0 AND completion_tokens >= 0),
        CONSTRAINT ck_model_calls_cost CHECK (cost >= 0)
    )
    """,
    """
    CREATE TABLE call_counts (
        scan_id INTEGER NOT NULL,             -- 0: of no scan
        model TEXT NOT NULL,
        purpose TEXT NOT NULL,
        status TEXT NOT NULL,
        calls INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost REAL NOT NULL,
        latency_ms INTEGER NOT NULL,
        CONSTRAINT pk_call_counts PRIMARY KEY (scan_id, model, purpose, status)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_model_calls_scan_id_model_purpose ON model_calls (scan_id, model, purpose)",
    "CREATE INDEX ix_model_calls_model_config_id ON model_calls (model_config_id)",
    "CREATE INDEX ix_model_calls_chunk_id ON model_calls (chunk_id) WHERE chunk_id IS NOT NULL",
    "CREATE INDEX ix_model_calls_draft_id ON model_calls (draft_id) WHERE draft_id IS NOT NULL",
    "CREATE INDEX ix_model_calls_analyzer_id ON model_calls (analyzer_id) WHERE analyzer_id IS NOT NULL",
    "CREATE INDEX ix_model_calls_status ON model_calls (status) WHERE status = 'running'",
]

COLUMNS = {
    "scans": {
        "errors_in_a_row": "INTEGER NOT NULL DEFAULT 0",
        "active_since": "TEXT",  # when its analysis was begun or resumed; none: it has none
        "analyzed_at": "TEXT",  # when nothing was left to do
    },
    "scan_configs": {
        "max_retries": "INTEGER NOT NULL DEFAULT 3 CONSTRAINT ck_scan_configs_max_retries CHECK (max_retries >= 0)",
        "retry_delay": "REAL NOT NULL DEFAULT 2 CONSTRAINT ck_scan_configs_retry_delay CHECK (retry_delay >= 0)",
        "pause_after": "INTEGER DEFAULT 10 CONSTRAINT ck_scan_configs_pause_after CHECK (pause_after > 0)",
    },
}

# kind, table, leased status, statuses that mean it was done
WORK = (
    ("chunk", "chunk_work", "running", "'done'"),
    ("draft", "draft_findings", "verifying", "'verified', 'rejected', 'weakness'"),
    ("verified", "verified_findings", "enriching", "'complete'"),
)

VIEW = """
    CREATE VIEW scan_file_chunks AS
    SELECT f.id << 24 | c.chunk_index AS id, f.id AS scan_file_id, c.chunk_index, c.chunk_type, c.symbol_name,
           c.start_line, c.end_line, c.content_hash, coalesce(w.status, 'pending') AS status,
           coalesce(w.retry_count, 0) AS retry_count, f.scan_id, f.file_path, f.risk_level,
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
                next_retry_at = NULL, updated_at = {NOW};
    END
"""
TRIGGERS = [
    # Another content has other chunks.
    """
    CREATE TRIGGER tr_scan_files_version_id AFTER UPDATE OF version_id ON scan_files
    WHEN NEW.version_id IS NOT OLD.version_id
    BEGIN DELETE FROM chunk_work WHERE scan_file_id = OLD.id; END
    """,
    """
    CREATE TRIGGER tr_scan_files_risk_level AFTER UPDATE OF risk_level ON scan_files
    WHEN NEW.risk_level <> OLD.risk_level
    BEGIN
        UPDATE chunk_work SET rank = CASE NEW.risk_level WHEN 'high' THEN 0 WHEN 'low' THEN 2 ELSE 1 END
         WHERE scan_file_id = NEW.id;
    END
    """,
    *(
        f"""
        CREATE TRIGGER tr_{table}_updated_at AFTER UPDATE ON {table} WHEN NEW.updated_at IS OLD.updated_at
        BEGIN UPDATE {table} SET updated_at = {{NOW}} WHERE id = NEW.id; END
        """
        for table in ("analysis_cache", "draft_findings", "votes", "verified_findings", "findings")
    ),
]


def _calls() -> list[str]:
    sums = ("prompt_tokens", "completion_tokens", "cost", "latency_ms")
    values = ", ".join(f"coalesce(NEW.{column}, 0)" for column in sums)
    count = (
        f"INSERT INTO call_counts (scan_id, model, purpose, status, calls, {', '.join(sums)})"
        f" VALUES (coalesce(NEW.scan_id, 0), NEW.model, NEW.purpose, NEW.status, 1, {values})"
        " ON CONFLICT (scan_id, model, purpose, status) DO UPDATE SET calls = calls + 1, "
        + ", ".join(f"{column} = {column} + excluded.{column}" for column in sums)
        + ";"
    )
    these = "scan_id = coalesce(OLD.scan_id, 0) AND model = OLD.model AND purpose = OLD.purpose AND status = OLD.status"
    discount = (
        "UPDATE call_counts SET calls = calls - 1, "
        + ", ".join(f"{column} = {column} - coalesce(OLD.{column}, 0)" for column in sums)
        + f" WHERE {these}; DELETE FROM call_counts WHERE {these} AND calls = 0;"
    )
    watched = ", ".join(("scan_id", "model", "purpose", "status", *sums))
    return [
        f"CREATE TRIGGER tr_model_calls_insert AFTER INSERT ON model_calls BEGIN {count} END",
        f"CREATE TRIGGER tr_model_calls_update AFTER UPDATE OF {watched} ON model_calls BEGIN {discount} {count} END",
        f"CREATE TRIGGER tr_model_calls_delete AFTER DELETE ON model_calls BEGIN {discount} END",
    ]


def _work(kind: str, table: str, leased: str, done: str) -> list[str]:
    count = (
        f"INSERT INTO work_counts (scan_id, kind, status, count) VALUES (NEW.scan_id, '{kind}', NEW.status, 1)"
        " ON CONFLICT (scan_id, kind, status) DO UPDATE SET count = count + 1;"
    )
    discount = (
        "UPDATE work_counts SET count = count - 1"
        f" WHERE scan_id = OLD.scan_id AND kind = '{kind}' AND status = OLD.status;"
    )
    return [
        f"CREATE INDEX ix_{table}_ready ON {table} (scan_id, rank, id)"
        " WHERE status = 'pending' AND next_retry_at IS NULL",
        f"CREATE INDEX ix_{table}_delayed ON {table} (scan_id, next_retry_at)"
        " WHERE status = 'pending' AND next_retry_at IS NOT NULL",
        f"CREATE INDEX ix_{table}_touched ON {table} (scan_id, updated_at)"
        " WHERE status = 'pending' AND next_retry_at IS NOT NULL",
        f"CREATE INDEX ix_{table}_leased ON {table} (scan_id, lease_until, updated_at) WHERE status = '{leased}'",
        f"CREATE INDEX ix_{table}_done ON {table} (scan_id, updated_at) WHERE status IN ({done})",
        f"CREATE INDEX ix_{table}_failed ON {table} (scan_id) WHERE status = 'failed'",
        f"CREATE TRIGGER tr_{table}_insert AFTER INSERT ON {table} BEGIN {count} END",
        f"CREATE TRIGGER tr_{table}_status AFTER UPDATE OF status ON {table} WHEN NEW.status <> OLD.status"
        f" BEGIN {discount} {count} END",
        f"CREATE TRIGGER tr_{table}_delete AFTER DELETE ON {table} BEGIN {discount} END",
    ]


def _filled(statement: str) -> str:
    for rank in "12":
        statement = statement.replace(f"{{LEASE:{rank}}}", LEASE.strip().replace("{rank}", rank))
    return statement.replace("{NOW}", NOW).strip()


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("DROP VIEW scan_file_chunks")
    for statement in TABLES:
        migrator.sql(_filled(statement))
    for table, columns in COLUMNS.items():
        for column, declared in columns.items():
            migrator.sql(f"ALTER TABLE {table} ADD COLUMN {column} {declared}")
    for work in WORK:
        for statement in _work(*work):
            migrator.sql(statement)
    for statement in _calls():
        migrator.sql(statement)
    migrator.sql(
        f"""
        INSERT INTO chunk_work (id, scan_file_id, scan_id, rank, status, retry_count, lease_until)
        SELECT c.scan_file_id << 24 | c.chunk_index, c.scan_file_id, f.scan_id,
               CASE f.risk_level WHEN 'high' THEN 0 WHEN 'low' THEN 2 ELSE 1 END, c.status, c.retry_count,
               CASE c.status WHEN 'running' THEN {NOW} END
          FROM chunk_states AS c JOIN scan_files AS f ON f.id = c.scan_file_id
        """
    )
    migrator.sql("DROP TABLE chunk_states")
    for statement in (VIEW, VIEW_TRIGGER, *TRIGGERS):
        migrator.sql(_filled(statement))


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("DROP VIEW scan_file_chunks")
    migrator.sql(
        """
        CREATE TABLE chunk_states (
            scan_file_id INTEGER NOT NULL,
            chunk_index INTEGER NOT NULL,
            status TEXT NOT NULL DEFAULT 'pending',
            retry_count INTEGER NOT NULL DEFAULT 0,
            CONSTRAINT pk_chunk_states PRIMARY KEY (scan_file_id, chunk_index),
            CONSTRAINT fk_chunk_states_scan_file_id FOREIGN KEY (scan_file_id)
                REFERENCES scan_files (id) ON DELETE CASCADE,
            CONSTRAINT ck_chunk_states_status CHECK (status IN ('pending', 'running', 'done', 'failed', 'skipped')),
            CONSTRAINT ck_chunk_states_retry_count CHECK (retry_count >= 0)
        ) WITHOUT ROWID
        """
    )
    migrator.sql(
        "INSERT INTO chunk_states SELECT scan_file_id, id & 16777215, status, retry_count FROM chunk_work"
        " WHERE status <> 'pending' OR retry_count > 0"
    )
    for trigger in ("tr_scan_files_version_id", "tr_scan_files_risk_level"):
        migrator.sql(f"DROP TRIGGER {trigger}")
    for table in (
        "model_calls", "call_counts", "model_slots", "findings", "verified_findings", "votes", "draft_findings",
        "analysis_cache", "analyzers", "chunk_work", "work_counts",
    ):  # fmt: skip
        migrator.sql(f"DROP TABLE {table}")
    # An analysis that was not over leaves a scan that was recorded.
    migrator.sql("UPDATE scans SET status = 'completed', phase = 'completed' WHERE revision IS NOT NULL")
    for table, columns in COLUMNS.items():
        for column in columns:
            migrator.sql(f"ALTER TABLE {table} DROP COLUMN {column}")
    migrator.sql(
        """
        CREATE VIEW scan_file_chunks AS
        SELECT f.id << 24 | c.chunk_index AS id, f.id AS scan_file_id, c.chunk_index, c.chunk_type, c.symbol_name,
               c.start_line, c.end_line, c.content_hash, coalesce(w.status, 'pending') AS status,
               coalesce(w.retry_count, 0) AS retry_count, f.scan_id
          FROM chunk_facts AS c
          JOIN scan_files AS f ON f.version_id = c.version_id
          LEFT JOIN chunk_states AS w ON w.scan_file_id = f.id AND w.chunk_index = c.chunk_index
        """
    )
    migrator.sql(
        """
        CREATE TRIGGER tr_scan_file_chunks_update INSTEAD OF UPDATE OF status, retry_count ON scan_file_chunks
        BEGIN
            INSERT INTO chunk_states (scan_file_id, chunk_index, status, retry_count)
            VALUES (OLD.scan_file_id, OLD.chunk_index, NEW.status, NEW.retry_count)
                ON CONFLICT (scan_file_id, chunk_index)
                DO UPDATE SET status = excluded.status, retry_count = excluded.retry_count;
        END
        """
    )
