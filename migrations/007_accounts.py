"""Accounts; analysis sessions with uploads, prompts, results and tasks; audits with findings, verdicts and a trail.

Frozen. ``total_files`` and ``processed_files`` of a session are kept by triggers. Prompts (``configurations``) are
versions that never change; one of each user and type may be the default. Tasks are leased like all work, see
``002_analysis.py``. ``audit_events`` can only be added to; they go with their task and in no other way.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
TIMES = """created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),"""
LEASE = """rank INTEGER NOT NULL DEFAULT 0,      -- lowest first
        retry_count INTEGER NOT NULL DEFAULT 0,
        max_retries INTEGER NOT NULL DEFAULT 3,
        attempt INTEGER NOT NULL DEFAULT 0,   -- claims so far
        worker TEXT,                          -- who has it, or had it last
        process TEXT,                         -- host:pid@start of that worker
        lease_until TEXT,                     -- set while it is leased
        next_retry_at TEXT,                   -- set while it waits for another try
        error_message TEXT,
        started_at TEXT,
        completed_at TEXT,                    -- when it was over, well or not"""

TABLES = [
    """
    CREATE TABLE users (
        id TEXT NOT NULL CONSTRAINT pk_users PRIMARY KEY,     -- UUID
        email TEXT NOT NULL,
        email_key TEXT NOT NULL,              -- folded: tells whether two are the same
        hashed_password TEXT NOT NULL,        -- empty: nobody can log in as this user
        full_name TEXT,
        role TEXT NOT NULL DEFAULT 'user',
        is_active INTEGER NOT NULL DEFAULT 1,
        failed_logins INTEGER NOT NULL DEFAULT 0,             -- since the last that went well
        locked_until TEXT,
        last_login_at TEXT,
        {TIMES}
        CONSTRAINT uq_users_email_key UNIQUE (email_key),
        CONSTRAINT ck_users_email CHECK (length(email) BETWEEN 3 AND 255),
        CONSTRAINT ck_users_hashed_password CHECK (length(hashed_password) <= 255),
        CONSTRAINT ck_users_full_name CHECK (length(full_name) <= 255),
        CONSTRAINT ck_users_role CHECK (length(role) BETWEEN 1 AND 50),
        CONSTRAINT ck_users_is_active CHECK (is_active IN (0, 1))
    )
    """,
    """
    CREATE TABLE analysis_sessions (
        id TEXT NOT NULL CONSTRAINT pk_analysis_sessions PRIMARY KEY,
        user_id TEXT NOT NULL,
        session_name TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'created',
        completed_at TEXT,
        total_files INTEGER NOT NULL DEFAULT 0,               -- of its uploads
        processed_files INTEGER NOT NULL DEFAULT 0,           -- those that are completed or have an error
        {TIMES}
        CONSTRAINT fk_analysis_sessions_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT ck_analysis_sessions_session_name CHECK (length(session_name) BETWEEN 1 AND 255),
        CONSTRAINT ck_analysis_sessions_status CHECK
            (status IN ('created', 'processing', 'completed', 'failed', 'cancelled')),
        CONSTRAINT ck_analysis_sessions_completed_at CHECK ((completed_at IS NOT NULL) = (status = 'completed')),
        CONSTRAINT ck_analysis_sessions_total_files CHECK (processed_files BETWEEN 0 AND total_files)
    )
    """,
    "CREATE INDEX ix_analysis_sessions_user_id ON analysis_sessions (user_id, created_at)",
    "CREATE INDEX ix_analysis_sessions_status ON analysis_sessions (status, created_at)",
    """
    CREATE TABLE configurations (
        id TEXT NOT NULL CONSTRAINT pk_configurations PRIMARY KEY,
        user_id TEXT NOT NULL,
        config_type TEXT NOT NULL,
        prompt_content TEXT NOT NULL,
        is_default INTEGER NOT NULL DEFAULT 0,
        version INTEGER NOT NULL DEFAULT 1,
        {TIMES}
        CONSTRAINT uq_configurations_user_id_config_type_version UNIQUE (user_id, config_type, version),
        CONSTRAINT fk_configurations_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT ck_configurations_config_type CHECK (length(config_type) BETWEEN 1 AND 50),
        CONSTRAINT ck_configurations_is_default CHECK (is_default IN (0, 1)),
        CONSTRAINT ck_configurations_version CHECK (version > 0)
    )
    """,
    """
    CREATE UNIQUE INDEX uq_configurations_is_default ON configurations (user_id, config_type) WHERE is_default = 1
    """,
    """
    CREATE TABLE file_uploads (
        id TEXT NOT NULL CONSTRAINT pk_file_uploads PRIMARY KEY,
        analysis_session_id TEXT NOT NULL,
        file_name TEXT NOT NULL,
        file_path TEXT NOT NULL,              -- relative, with slashes
        file_size INTEGER NOT NULL,           -- bytes
        file_type TEXT NOT NULL,
        sha256 BLOB,
        upload_status TEXT NOT NULL DEFAULT 'uploaded',
        error_message TEXT,
        {TIMES}
        CONSTRAINT uq_file_uploads_analysis_session_id_file_path UNIQUE (analysis_session_id, file_path),
        CONSTRAINT fk_file_uploads_analysis_session_id FOREIGN KEY (analysis_session_id)
            REFERENCES analysis_sessions (id) ON DELETE CASCADE,
        CONSTRAINT ck_file_uploads_file_name CHECK (length(file_name) BETWEEN 1 AND 255),
        CONSTRAINT ck_file_uploads_file_path CHECK (length(file_path) BETWEEN 1 AND 500),
        CONSTRAINT ck_file_uploads_file_size CHECK (file_size >= 0),
        CONSTRAINT ck_file_uploads_file_type CHECK (length(file_type) BETWEEN 1 AND 100),
        CONSTRAINT ck_file_uploads_upload_status CHECK (upload_status = 'uploaded' OR upload_status = 'processing'
            OR upload_status = 'completed' OR upload_status = 'error')
    )
    """,
    """
    CREATE TABLE analysis_tasks (
        id TEXT NOT NULL CONSTRAINT pk_analysis_tasks PRIMARY KEY,            -- UUID, version 7: sorts by age
        analysis_session_id TEXT NOT NULL,
        task_id TEXT NOT NULL,                -- of whoever runs it
        task_type TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        progress INTEGER NOT NULL DEFAULT 0,  -- per cent
        {LEASE}
        {TIMES}
        CONSTRAINT uq_analysis_tasks_task_id UNIQUE (task_id),
        CONSTRAINT fk_analysis_tasks_analysis_session_id FOREIGN KEY (analysis_session_id)
            REFERENCES analysis_sessions (id) ON DELETE CASCADE,
        CONSTRAINT ck_analysis_tasks_task_id CHECK (length(task_id) BETWEEN 1 AND 255),
        CONSTRAINT ck_analysis_tasks_task_type CHECK (length(task_type) BETWEEN 1 AND 50),
        CONSTRAINT ck_analysis_tasks_status CHECK (status = 'pending' OR status = 'processing' OR status = 'completed'
            OR status = 'failed' OR status = 'cancelled'),
        CONSTRAINT ck_analysis_tasks_progress CHECK (progress BETWEEN 0 AND 100),
        CONSTRAINT ck_analysis_tasks_lease_until CHECK ((lease_until IS NOT NULL) = (status = 'processing'))
    )
    """,
    """
    CREATE TABLE analysis_results (
        id TEXT NOT NULL CONSTRAINT pk_analysis_results PRIMARY KEY,
        analysis_session_id TEXT NOT NULL,
        configuration_id TEXT,                -- the very version of the prompt
        analysis_task_id TEXT,                -- what it is the result of
        analysis_type TEXT NOT NULL,
        file_name TEXT,
        result_content TEXT NOT NULL,
        score NUMERIC,                        -- 0 to 100, two decimals
        status TEXT NOT NULL DEFAULT 'pending',
        {TIMES}
        CONSTRAINT uq_analysis_results_analysis_task_id UNIQUE (analysis_task_id),
        CONSTRAINT fk_analysis_results_analysis_session_id FOREIGN KEY (analysis_session_id)
            REFERENCES analysis_sessions (id) ON DELETE CASCADE,
        CONSTRAINT fk_analysis_results_configuration_id FOREIGN KEY (configuration_id)
            REFERENCES configurations (id) ON DELETE RESTRICT,
        CONSTRAINT fk_analysis_results_analysis_task_id FOREIGN KEY (analysis_task_id)
            REFERENCES analysis_tasks (id) ON DELETE SET NULL,
        CONSTRAINT ck_analysis_results_analysis_type CHECK (length(analysis_type) BETWEEN 1 AND 50),
        CONSTRAINT ck_analysis_results_file_name CHECK (length(file_name) <= 255),
        CONSTRAINT ck_analysis_results_score CHECK (score BETWEEN 0 AND 100 AND round(score, 2) = score),
        CONSTRAINT ck_analysis_results_status CHECK (status IN ('pending', 'completed', 'failed'))
    )
    """,
    "CREATE INDEX ix_analysis_results_analysis_session_id ON analysis_results (analysis_session_id, created_at)",
    "CREATE INDEX ix_analysis_results_configuration_id ON analysis_results (configuration_id)",
    """
    CREATE TABLE audit_tasks (
        id TEXT NOT NULL CONSTRAINT pk_audit_tasks PRIMARY KEY,               -- UUID, version 7: sorts by age
        user_id TEXT NOT NULL,
        queue TEXT NOT NULL DEFAULT 'default',
        status TEXT NOT NULL DEFAULT 'queued',
        original_filename TEXT NOT NULL,
        file_path TEXT,                       -- where it is kept
        file_size INTEGER NOT NULL,           -- bytes
        {LEASE}
        {TIMES}
        CONSTRAINT fk_audit_tasks_user_id FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT ck_audit_tasks_status CHECK (status = 'queued' OR status = 'processing' OR status = 'completed'
            OR status = 'failed' OR status = 'cancelled'),
        CONSTRAINT ck_audit_tasks_original_filename CHECK (length(original_filename) BETWEEN 1 AND 255),
        CONSTRAINT ck_audit_tasks_file_path CHECK (length(file_path) <= 500),
        CONSTRAINT ck_audit_tasks_file_size CHECK (file_size >= 0),
        CONSTRAINT ck_audit_tasks_lease_until CHECK ((lease_until IS NOT NULL) = (status = 'processing'))
    )
    """,
    "CREATE INDEX ix_audit_tasks_user_id ON audit_tasks (user_id, created_at)",
    """
    CREATE TABLE audit_analyses (
        id TEXT NOT NULL CONSTRAINT pk_audit_analyses PRIMARY KEY,
        task_id TEXT NOT NULL,
        equipment_type TEXT NOT NULL,
        test_type TEXT NOT NULL,
        equipment_tag TEXT,
        verdict TEXT,                         -- the person's, else the machine's
        machine_verdict TEXT,
        compliance_score REAL,                -- 0 to 100
        confidence_score REAL,                -- 0 to 1
        extraction_result TEXT,               -- JSON
        validation_result TEXT,               -- JSON
        policy TEXT,                          -- by which the machine judged
        reviewed_by TEXT,
        reviewed_at TEXT,
        review_reason TEXT,
        {TIMES}
        CONSTRAINT uq_audit_analyses_task_id UNIQUE (task_id),
        CONSTRAINT fk_audit_analyses_task_id FOREIGN KEY (task_id) REFERENCES audit_tasks (id) ON DELETE CASCADE,
        CONSTRAINT ck_audit_analyses_equipment_type CHECK (length(equipment_type) BETWEEN 1 AND 50),
        CONSTRAINT ck_audit_analyses_test_type CHECK (length(test_type) BETWEEN 1 AND 50),
        CONSTRAINT ck_audit_analyses_equipment_tag CHECK (length(equipment_tag) <= 100),
        CONSTRAINT ck_audit_analyses_verdict CHECK (verdict IN ('approved', 'review', 'rejected')),
        CONSTRAINT ck_audit_analyses_machine_verdict CHECK (machine_verdict IN ('approved', 'review', 'rejected')),
        CONSTRAINT ck_audit_analyses_compliance_score CHECK (compliance_score BETWEEN 0 AND 100),
        CONSTRAINT ck_audit_analyses_confidence_score CHECK (confidence_score BETWEEN 0 AND 1),
        CONSTRAINT ck_audit_analyses_results CHECK (json_valid(coalesce(extraction_result, 'null'))
            AND json_valid(coalesce(validation_result, 'null'))),
        CONSTRAINT ck_audit_analyses_review CHECK ((reviewed_at IS NULL) = (reviewed_by IS NULL)
            AND (reviewed_at IS NULL OR review_reason <> '')
            AND (reviewed_at IS NOT NULL OR verdict IS machine_verdict))
    )
    """,
    "CREATE INDEX ix_audit_analyses_verdict ON audit_analyses (verdict, created_at)",
    """
    CREATE TABLE audit_findings (
        id TEXT NOT NULL CONSTRAINT pk_audit_findings PRIMARY KEY,
        analysis_id TEXT NOT NULL,
        ordinal INTEGER NOT NULL,             -- as they came, from 1
        severity TEXT NOT NULL,
        rule_id TEXT NOT NULL,
        message TEXT NOT NULL,
        evidence TEXT,                        -- JSON
        remediation TEXT,
        {TIMES}
        CONSTRAINT uq_audit_findings_analysis_id_ordinal UNIQUE (analysis_id, ordinal),
        CONSTRAINT fk_audit_findings_analysis_id FOREIGN KEY (analysis_id)
            REFERENCES audit_analyses (id) ON DELETE CASCADE,
        CONSTRAINT ck_audit_findings_severity CHECK (severity = 'critical' OR severity = 'major'
            OR severity = 'minor' OR severity = 'info'),
        CONSTRAINT ck_audit_findings_rule_id CHECK (length(rule_id) BETWEEN 1 AND 100),
        CONSTRAINT ck_audit_findings_evidence CHECK (evidence IS NULL OR json_valid(evidence))
    )
    """,
    """
    CREATE TABLE audit_events (
        id INTEGER NOT NULL CONSTRAINT pk_audit_events PRIMARY KEY AUTOINCREMENT,
        task_id TEXT NOT NULL,
        analysis_id TEXT,                     -- none: before there was one
        action TEXT NOT NULL,
        by TEXT NOT NULL,                     -- a person, or what did it by itself
        detail TEXT NOT NULL DEFAULT '{}',    -- JSON
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT fk_audit_events_task_id FOREIGN KEY (task_id) REFERENCES audit_tasks (id) ON DELETE CASCADE,
        CONSTRAINT fk_audit_events_analysis_id FOREIGN KEY (analysis_id)
            REFERENCES audit_analyses (id) ON DELETE NO ACTION,
        CONSTRAINT ck_audit_events_action CHECK (action <> ''),
        CONSTRAINT ck_audit_events_by CHECK (by <> ''),
        CONSTRAINT ck_audit_events_detail CHECK (json_valid(detail))
    )
    """,
    "CREATE INDEX ix_audit_events_task_id ON audit_events (task_id, id)",
    "CREATE INDEX ix_audit_events_analysis_id ON audit_events (analysis_id, id) WHERE analysis_id IS NOT NULL",
]

# table, scope, waiting
WORK = (("analysis_tasks", "analysis_session_id", "pending"), ("audit_tasks", "queue", "queued"))
INDEXES = [
    statement
    for table, scope, waiting in WORK
    for statement in (
        f"CREATE INDEX ix_{table}_ready ON {table} ({scope}, rank, id)"
        f" WHERE status = '{waiting}' AND next_retry_at IS NULL",
        f"CREATE INDEX ix_{table}_delayed ON {table} ({scope}, next_retry_at)"
        f" WHERE status = '{waiting}' AND next_retry_at IS NOT NULL",
        f"CREATE INDEX ix_{table}_touched ON {table} ({scope}, updated_at)"
        f" WHERE status = '{waiting}' AND next_retry_at IS NOT NULL",
        f"CREATE INDEX ix_{table}_leased ON {table} ({scope}, lease_until, updated_at, process)"
        " WHERE status = 'processing'",
        f"CREATE INDEX ix_{table}_failed ON {table} ({scope}) WHERE status = 'failed'",
    )
] + ["CREATE INDEX ix_analysis_tasks_analysis_session_id ON analysis_tasks (analysis_session_id, status)"]

KEPT = (
    "users", "analysis_sessions", "configurations", "file_uploads", "analysis_tasks", "analysis_results",
    "audit_tasks", "audit_analyses", "audit_findings",
)  # fmt: skip
TAKEN = """EXISTS (SELECT 1 FROM file_uploads WHERE {but} (id = NEW.id
        OR analysis_session_id = NEW.analysis_session_id AND file_path = NEW.file_path))"""
REPLACED = "an upload of that path is there already; remove it first"
OVER = "({row}.upload_status IN ('completed', 'error'))"
TRIGGERS = [
    *(
        f"""
    CREATE TRIGGER tr_{table}_updated_at AFTER UPDATE ON {table} WHEN NEW.updated_at IS OLD.updated_at
    BEGIN UPDATE {table} SET updated_at = {{NOW}} WHERE id = NEW.id; END
    """
        for table in KEPT
    ),
    f"""
    CREATE TRIGGER tr_file_uploads_count_insert AFTER INSERT ON file_uploads
    BEGIN
        UPDATE analysis_sessions SET total_files = total_files + 1,
               processed_files = processed_files + {OVER.format(row="NEW")} WHERE id = NEW.analysis_session_id;
    END
    """,
    f"""
    CREATE TRIGGER tr_file_uploads_count_delete AFTER DELETE ON file_uploads
    BEGIN
        UPDATE analysis_sessions SET total_files = total_files - 1,
               processed_files = processed_files - {OVER.format(row="OLD")} WHERE id = OLD.analysis_session_id;
    END
    """,
    f"""
    CREATE TRIGGER tr_file_uploads_count_update AFTER UPDATE OF upload_status, analysis_session_id ON file_uploads
    WHEN NEW.upload_status <> OLD.upload_status OR NEW.analysis_session_id <> OLD.analysis_session_id
    BEGIN
        UPDATE analysis_sessions SET total_files = total_files - 1,
               processed_files = processed_files - {OVER.format(row="OLD")} WHERE id = OLD.analysis_session_id;
        UPDATE analysis_sessions SET total_files = total_files + 1,
               processed_files = processed_files + {OVER.format(row="NEW")} WHERE id = NEW.analysis_session_id;
    END
    """,
    # A row that takes the place of another is deleted without a word to any trigger: the counts would be wrong.
    f"""
    CREATE TRIGGER tr_file_uploads_insert BEFORE INSERT ON file_uploads
    WHEN {TAKEN.format(but="")}
    BEGIN SELECT RAISE(ABORT, '{REPLACED}'); END
    """,
    f"""
    CREATE TRIGGER tr_file_uploads_update BEFORE UPDATE OF id, analysis_session_id, file_path ON file_uploads
    WHEN {TAKEN.format(but="rowid <> OLD.rowid AND")}
    BEGIN SELECT RAISE(ABORT, '{REPLACED}'); END
    """,
    """
    CREATE TRIGGER tr_analysis_sessions_insert AFTER INSERT ON analysis_sessions
    WHEN NEW.total_files <> 0 OR NEW.processed_files <> 0
    BEGIN UPDATE analysis_sessions SET total_files = 0, processed_files = 0 WHERE id = NEW.id; END
    """,
    """
    CREATE TRIGGER tr_configurations_frozen BEFORE UPDATE OF id, user_id, config_type, prompt_content, version
    ON configurations
    BEGIN SELECT RAISE(ABORT, 'a version of a prompt cannot be changed; save a new one'); END
    """,
    """
    CREATE TRIGGER tr_audit_tasks_insert BEFORE INSERT ON audit_tasks
    WHEN EXISTS (SELECT 1 FROM audit_tasks WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'an audit cannot be replaced: its events would go with it'); END
    """,
    """
    CREATE TRIGGER tr_audit_tasks_id BEFORE UPDATE OF id ON audit_tasks WHEN NEW.id <> OLD.id
    BEGIN SELECT RAISE(ABORT, 'the id of an audit cannot be changed'); END
    """,
    """
    CREATE TRIGGER tr_audit_events_insert BEFORE INSERT ON audit_events
    WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'events of an audit cannot be replaced'); END
    """,
    """
    CREATE TRIGGER tr_audit_events_update BEFORE UPDATE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'events of an audit cannot be changed'); END
    """,
    """
    CREATE TRIGGER tr_audit_events_delete BEFORE DELETE ON audit_events
    WHEN EXISTS (SELECT 1 FROM audit_tasks WHERE id = OLD.task_id)
    BEGIN SELECT RAISE(ABORT, 'events of an audit go only with its task'); END
    """,
]


def _filled(statement: str) -> str:
    return statement.replace("{LEASE}", LEASE).replace("{TIMES}", TIMES).replace("{NOW}", NOW).strip()


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for statement in (*TABLES, *INDEXES, *TRIGGERS):
        migrator.sql(_filled(statement))


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for table in ("audit_events", "audit_findings", "audit_analyses", "audit_tasks", "analysis_results"):
        migrator.sql(f"DROP TABLE {table}")
    for table in ("analysis_tasks", "file_uploads", "configurations", "analysis_sessions", "users"):
        migrator.sql(f"DROP TABLE {table}")
