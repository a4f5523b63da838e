"""The library, plans for it, jobs and their schedules, settings.

Frozen. A plan's change is about one scene or one finding and outlives it: ``target`` and ``target_key`` say which it
was, ``scene_id`` or ``finding_id`` only while that is there. ``plan_counts`` holds how many changes of a plan are in
which status; triggers keep it. ``applied`` is computed from the status.

Jobs are leased like all work, see ``002_analysis.py``: within one ``queue``, by ``rank`` (the negated priority) and
then by id, which is a UUID that begins with the time. A job that is to run later waits as for a retry. One that is
``cancelling`` keeps its lease until its worker, or the end of its lease, lets it go.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
TIMES = """created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),"""

TABLES = [
    """
    CREATE TABLE sync_runs (
        id INTEGER NOT NULL CONSTRAINT pk_sync_runs PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,                   -- what is synced
        status TEXT NOT NULL DEFAULT 'running',
        since TEXT,                           -- start of the last run of this kind that succeeded before
        started_at TEXT NOT NULL DEFAULT ({NOW}),
        ended_at TEXT,
        created INTEGER NOT NULL DEFAULT 0,
        updated INTEGER NOT NULL DEFAULT 0,
        unchanged INTEGER NOT NULL DEFAULT 0,
        links_added INTEGER NOT NULL DEFAULT 0,
        links_removed INTEGER NOT NULL DEFAULT 0,
        pruned INTEGER NOT NULL DEFAULT 0,
        process TEXT NOT NULL,                -- host:pid@start of who runs it
        error TEXT,
        {TIMES}
        CONSTRAINT ck_sync_runs_kind CHECK (kind IN ('scene', 'performer', 'tag', 'studio')),
        CONSTRAINT ck_sync_runs_status CHECK (status IN ('running', 'completed', 'failed')),
        CONSTRAINT ck_sync_runs_ended_at CHECK ((ended_at IS NULL) = (status = 'running'))
    )
    """,
    "CREATE INDEX ix_sync_runs_kind_status ON sync_runs (kind, status, started_at)",
    *(
        f"""
    CREATE TABLE {table} (
        id TEXT NOT NULL CONSTRAINT pk_{table} PRIMARY KEY,   -- of the foreign system
        name TEXT NOT NULL,
        last_synced TEXT NOT NULL DEFAULT ({{NOW}}),
        run_id INTEGER,                       -- of sync_runs: the last that saw it
        {{TIMES}}
        CONSTRAINT ck_{table}_id CHECK (id <> ''),
        CONSTRAINT ck_{table}_name CHECK (name <> ''){unique}
    ) WITHOUT ROWID
    """
        for table, unique in (
            ("studios", ""),
            ("performers", ""),
            ("tags", ",\n        CONSTRAINT uq_tags_name UNIQUE (name)"),
        )
    ),
    "CREATE INDEX ix_studios_name ON studios (name)",
    "CREATE INDEX ix_performers_name ON performers (name)",
    """
    CREATE TABLE scenes (
        id TEXT NOT NULL CONSTRAINT pk_scenes PRIMARY KEY,    -- of the foreign system
        title TEXT NOT NULL DEFAULT '',
        paths TEXT NOT NULL DEFAULT '[]',     -- JSON
        organized INTEGER NOT NULL DEFAULT 0,
        details TEXT,
        created_date TEXT NOT NULL DEFAULT ({NOW}),           -- in the foreign system
        scene_date TEXT,
        studio_id TEXT,
        last_synced TEXT NOT NULL DEFAULT ({NOW}),
        run_id INTEGER,                       -- of sync_runs: the last that saw it
        {TIMES}
        CONSTRAINT fk_scenes_studio_id FOREIGN KEY (studio_id) REFERENCES studios (id) ON DELETE SET NULL,
        CONSTRAINT ck_scenes_id CHECK (id <> ''),
        CONSTRAINT ck_scenes_paths CHECK (json_valid(paths)),
        CONSTRAINT ck_scenes_organized CHECK (organized = 0 OR organized = 1)
    )
    """,
    "CREATE INDEX ix_scenes_studio_id ON scenes (studio_id)",
    *(
        f"""
    CREATE TABLE scene_{what}s (
        scene_id TEXT NOT NULL,
        {what}_id TEXT NOT NULL,
        CONSTRAINT pk_scene_{what}s PRIMARY KEY (scene_id, {what}_id),
        CONSTRAINT fk_scene_{what}s_scene_id FOREIGN KEY (scene_id) REFERENCES scenes (id) ON DELETE CASCADE,
        CONSTRAINT fk_scene_{what}s_{what}_id FOREIGN KEY ({what}_id) REFERENCES {what}s (id) ON DELETE CASCADE
    ) WITHOUT ROWID
    """
        for what in ("performer", "tag")
    ),
    "CREATE INDEX ix_scene_performers_performer_id ON scene_performers (performer_id)",
    "CREATE INDEX ix_scene_tags_tag_id ON scene_tags (tag_id)",
    """
    CREATE TABLE analysis_plans (
        id INTEGER NOT NULL CONSTRAINT pk_analysis_plans PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL,                    -- UUID: names its changes to other systems
        name TEXT NOT NULL,
        description TEXT,
        metadata TEXT NOT NULL DEFAULT '{}',  -- JSON: settings used, figures
        status TEXT NOT NULL DEFAULT 'pending',
        process TEXT,                         -- host:pid@start of who applies or reverts it now
        lease_until TEXT,                     -- as long as it does
        submitted_at TEXT,
        applied_at TEXT,
        reverted_at TEXT,
        {TIMES}
        CONSTRAINT uq_analysis_plans_key UNIQUE (key),
        CONSTRAINT ck_analysis_plans_name CHECK (name <> ''),
        CONSTRAINT ck_analysis_plans_metadata CHECK (json_valid(metadata)),
        CONSTRAINT ck_analysis_plans_status CHECK
            (status IN ('pending', 'draft', 'reviewing', 'applied', 'cancelled', 'reverted'))
    )
    """,
    "CREATE INDEX ix_analysis_plans_status ON analysis_plans (status)",
    """
    CREATE TABLE plan_changes (
        id INTEGER NOT NULL CONSTRAINT pk_plan_changes PRIMARY KEY AUTOINCREMENT,
        plan_id INTEGER NOT NULL,
        target TEXT NOT NULL DEFAULT 'scene',
        target_key TEXT NOT NULL,             -- its id, also when it is gone
        scene_id TEXT,
        finding_id INTEGER,
        field TEXT NOT NULL,
        action TEXT NOT NULL,
        current_value TEXT,                   -- JSON: when it was proposed
        proposed_value TEXT,                  -- JSON
        proposed_hash BLOB NOT NULL,          -- of that, in a form of its own
        confidence REAL,
        status TEXT NOT NULL DEFAULT 'pending',
        applied INTEGER GENERATED ALWAYS AS (status = 'applied') VIRTUAL,
        applied_at TEXT,
        reviewer TEXT,
        reviewed_at TEXT,
        found_value TEXT,                     -- JSON: when it was applied, or refused
        conflict INTEGER NOT NULL DEFAULT 0,  -- what was found is not what was proposed to be changed
        tries INTEGER NOT NULL DEFAULT 0,     -- how often its application was begun
        error TEXT,
        {TIMES}
        CONSTRAINT fk_plan_changes_plan_id FOREIGN KEY (plan_id) REFERENCES analysis_plans (id) ON DELETE CASCADE,
        CONSTRAINT fk_plan_changes_scene_id FOREIGN KEY (scene_id) REFERENCES scenes (id) ON DELETE SET NULL,
        CONSTRAINT fk_plan_changes_finding_id FOREIGN KEY (finding_id) REFERENCES findings (id) ON DELETE SET NULL,
        CONSTRAINT ck_plan_changes_target CHECK (
            target = 'scene' AND finding_id IS NULL AND (scene_id IS NULL OR scene_id = target_key)
            OR target = 'finding' AND scene_id IS NULL
               AND (finding_id IS NULL OR CAST(finding_id AS TEXT) = target_key)),
        CONSTRAINT ck_plan_changes_action CHECK
            (action = 'add' OR action = 'remove' OR action = 'update' OR action = 'set'),
        CONSTRAINT ck_plan_changes_values CHECK (json_valid(coalesce(current_value, 'null'))
            AND json_valid(coalesce(proposed_value, 'null')) AND json_valid(coalesce(found_value, 'null'))),
        CONSTRAINT ck_plan_changes_confidence CHECK (confidence BETWEEN 0 AND 1),
        CONSTRAINT ck_plan_changes_status CHECK (status = 'pending' OR status = 'approved' OR status = 'rejected'
            OR status = 'applied' OR status = 'failed' OR status = 'skipped' OR status = 'reverted'),
        CONSTRAINT ck_plan_changes_applied_at CHECK
            ((applied_at IS NOT NULL) = (status = 'applied' OR status = 'reverted')),
        CONSTRAINT ck_plan_changes_conflict CHECK (conflict = 0 OR conflict = 1)
    )
    """,
    """
    CREATE UNIQUE INDEX uq_plan_changes_plan_id_target_target_key_field_action_proposed_hash
        ON plan_changes (plan_id, target, target_key, field, action, proposed_hash)
    """,
    "CREATE INDEX ix_plan_changes_plan_id_status ON plan_changes (plan_id, status)",
    "CREATE INDEX ix_plan_changes_scene_id ON plan_changes (scene_id) WHERE scene_id IS NOT NULL",
    "CREATE INDEX ix_plan_changes_finding_id ON plan_changes (finding_id) WHERE finding_id IS NOT NULL",
    """
    CREATE TABLE plan_counts (
        plan_id INTEGER NOT NULL,
        status TEXT NOT NULL,
        count INTEGER NOT NULL,
        CONSTRAINT pk_plan_counts PRIMARY KEY (plan_id, status),
        CONSTRAINT fk_plan_counts_plan_id FOREIGN KEY (plan_id) REFERENCES analysis_plans (id) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE jobs (
        id TEXT NOT NULL CONSTRAINT pk_jobs PRIMARY KEY,      -- UUID, version 7: sorts by age
        type TEXT NOT NULL,
        queue TEXT NOT NULL DEFAULT 'default',
        status TEXT NOT NULL DEFAULT 'pending',
        progress INTEGER NOT NULL DEFAULT 0,  -- per cent
        total_items INTEGER,
        processed_items INTEGER NOT NULL DEFAULT 0,
        message TEXT NOT NULL DEFAULT '',     -- what it is at
        meta TEXT NOT NULL DEFAULT '{}',      -- JSON: its input
        result TEXT,                          -- JSON
        parent_id TEXT,
        unique_key TEXT,                      -- no two that are not over have the same
        exclusive_group TEXT,                 -- no two that run have the same
        run_at TEXT,                          -- not before
        max_retries INTEGER NOT NULL DEFAULT 3,
        rank INTEGER NOT NULL DEFAULT 0,      -- lowest first
        retry_count INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,   -- claims so far
        worker TEXT,                          -- who has it, or had it last
        process TEXT,                         -- host:pid@start of that worker
        lease_until TEXT,                     -- set while it is leased
        next_retry_at TEXT,                   -- set while it waits for its time or another try
        error TEXT,
        started_at TEXT,
        completed_at TEXT,                    -- when it was over, well or not
        {TIMES}
        CONSTRAINT fk_jobs_parent_id FOREIGN KEY (parent_id) REFERENCES jobs (id) ON DELETE CASCADE,
        CONSTRAINT ck_jobs_id CHECK (length(id) = 36),
        CONSTRAINT ck_jobs_type CHECK (type <> ''),
        CONSTRAINT ck_jobs_status CHECK (status = 'pending' OR status = 'running' OR status = 'cancelling'
            OR status = 'completed' OR status = 'failed' OR status = 'cancelled'),
        CONSTRAINT ck_jobs_progress CHECK (progress BETWEEN 0 AND 100),
        CONSTRAINT ck_jobs_total_items CHECK (total_items >= 0 AND processed_items >= 0),
        CONSTRAINT ck_jobs_meta CHECK (json_valid(meta) AND json_valid(coalesce(result, 'null'))),
        CONSTRAINT ck_jobs_parent_id CHECK (parent_id <> id),
        CONSTRAINT ck_jobs_retry_count CHECK (retry_count >= 0 AND max_retries >= 0),
        CONSTRAINT ck_jobs_lease_until CHECK ((lease_until IS NOT NULL)
            = (status = 'running' OR status = 'cancelling')),
        CONSTRAINT ck_jobs_completed_at CHECK ((completed_at IS NOT NULL)
            = (status = 'completed' OR status = 'failed' OR status = 'cancelled'))
    ) WITHOUT ROWID
    """,
    # With all that decides whether a worker takes a job: what it passes over is not read.
    """
    CREATE INDEX ix_jobs_ready ON jobs (queue, rank, id, type, exclusive_group, status, next_retry_at)
     WHERE status = 'pending' AND next_retry_at IS NULL
    """,
    "CREATE INDEX ix_jobs_status ON jobs (status)",
    *(
        f"CREATE INDEX ix_jobs_{what} ON jobs (queue, {column}) WHERE status = 'pending' AND next_retry_at IS NOT NULL"
        for what, column in (("delayed", "next_retry_at"), ("touched", "updated_at"))
    ),
    "CREATE INDEX ix_jobs_leased ON jobs (queue, lease_until, updated_at, process) WHERE status = 'running'",
    "CREATE INDEX ix_jobs_cancelling ON jobs (lease_until, process) WHERE status = 'cancelling'",
    "CREATE INDEX ix_jobs_failed ON jobs (queue) WHERE status = 'failed'",
    "CREATE INDEX ix_jobs_completed_at ON jobs (completed_at) WHERE completed_at IS NOT NULL",
    "CREATE INDEX ix_jobs_parent_id ON jobs (parent_id) WHERE parent_id IS NOT NULL",
    """
    CREATE INDEX ix_jobs_exclusive_group ON jobs (exclusive_group)
     WHERE exclusive_group IS NOT NULL AND (status = 'running' OR status = 'cancelling')
    """,
    """
    CREATE UNIQUE INDEX uq_jobs_unique_key ON jobs (unique_key)
     WHERE unique_key IS NOT NULL AND (status = 'pending' OR status = 'running' OR status = 'cancelling')
    """,
    """
    CREATE TABLE job_scenes (
        job_id TEXT NOT NULL,
        scene_id TEXT NOT NULL,
        CONSTRAINT pk_job_scenes PRIMARY KEY (job_id, scene_id),
        CONSTRAINT fk_job_scenes_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
        CONSTRAINT fk_job_scenes_scene_id FOREIGN KEY (scene_id) REFERENCES scenes (id) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_job_scenes_scene_id ON job_scenes (scene_id)",
    """
    CREATE TABLE scheduled_tasks (
        id INTEGER NOT NULL CONSTRAINT pk_scheduled_tasks PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        task_type TEXT NOT NULL,
        schedule TEXT NOT NULL,               -- cron expression
        timezone TEXT NOT NULL DEFAULT 'UTC',
        config TEXT NOT NULL DEFAULT '{}',    -- JSON
        enabled INTEGER NOT NULL DEFAULT 1,
        last_run TEXT,
        next_run TEXT,
        last_job_id TEXT,
        {TIMES}
        CONSTRAINT uq_scheduled_tasks_name UNIQUE (name),
        CONSTRAINT fk_scheduled_tasks_last_job_id FOREIGN KEY (last_job_id) REFERENCES jobs (id) ON DELETE SET NULL,
        CONSTRAINT ck_scheduled_tasks_name CHECK (name <> ''),
        CONSTRAINT ck_scheduled_tasks_task_type CHECK (task_type <> ''),
        CONSTRAINT ck_scheduled_tasks_config CHECK (json_valid(config)),
        CONSTRAINT ck_scheduled_tasks_enabled CHECK (enabled IN (0, 1))
    )
    """,
    "CREATE INDEX ix_scheduled_tasks_next_run ON scheduled_tasks (next_run) WHERE enabled = 1",
    "CREATE INDEX ix_scheduled_tasks_last_job_id ON scheduled_tasks (last_job_id) WHERE last_job_id IS NOT NULL",
    """
    CREATE TABLE settings (
        key TEXT NOT NULL CONSTRAINT pk_settings PRIMARY KEY,
        value TEXT NOT NULL,                  -- JSON
        description TEXT,
        {TIMES}
        CONSTRAINT ck_settings_key CHECK (key <> ''),
        CONSTRAINT ck_settings_value CHECK (json_valid(value))
    ) WITHOUT ROWID
    """,
]

KEYS = {
    "sync_runs": "id", "studios": "id", "performers": "id", "tags": "id", "scenes": "id", "analysis_plans": "id",
    "plan_changes": "id", "jobs": "id", "scheduled_tasks": "id", "settings": "key",
}  # fmt: skip
# To be seen again by a sync changes nothing.
CONTENT = {
    **dict.fromkeys(("studios", "performers", "tags"), " OF name"),
    "scenes": " OF title, paths, organized, details, created_date, scene_date, studio_id",
}
COUNT = """
        INSERT INTO plan_counts (plan_id, status, count) VALUES ({row}.plan_id, {row}.status, {n})
            ON CONFLICT (plan_id, status) DO UPDATE SET count = count + {n};
"""
TRIGGERS = [
    *(
        f"""
    CREATE TRIGGER tr_{table}_updated_at AFTER UPDATE{CONTENT.get(table, "")} ON {table}
    WHEN NEW.updated_at IS OLD.updated_at
    BEGIN UPDATE {table} SET updated_at = {{NOW}} WHERE {key} = NEW.{key}; END
    """
        for table, key in KEYS.items()
    ),
    f"""
    CREATE TRIGGER tr_plan_changes_count_insert AFTER INSERT ON plan_changes
    BEGIN {COUNT.format(row="NEW", n="1")} END
    """,
    f"""
    CREATE TRIGGER tr_plan_changes_count_update AFTER UPDATE OF status, plan_id ON plan_changes
    WHEN NEW.status <> OLD.status OR NEW.plan_id <> OLD.plan_id
    BEGIN {COUNT.format(row="OLD", n="-1")} {COUNT.format(row="NEW", n="1")} END
    """,
    # With its plan go its counts.
    """
    CREATE TRIGGER tr_plan_changes_count_delete AFTER DELETE ON plan_changes
    BEGIN UPDATE plan_counts SET count = count - 1 WHERE plan_id = OLD.plan_id AND status = OLD.status; END
    """,
    # A parent that is there before its children, and stays the same, can make no circle.
    """
    CREATE TRIGGER tr_jobs_parent_id BEFORE UPDATE OF parent_id ON jobs
    WHEN NEW.parent_id IS NOT NULL AND NEW.parent_id IS NOT OLD.parent_id
    BEGIN SELECT RAISE(ABORT, 'the parent of a job cannot be changed'); END
    """,
    # What is over stays over, whoever writes: only a failed or cancelled job may be tried again.
    """
    CREATE TRIGGER tr_jobs_status BEFORE UPDATE OF status ON jobs
    WHEN OLD.status = 'completed' AND NEW.status <> 'completed'
      OR OLD.status IN ('failed', 'cancelled') AND NEW.status NOT IN (OLD.status, 'pending')
    BEGIN SELECT RAISE(ABORT, 'a job that is over stays over'); END
    """,
]


def _filled(statement: str) -> str:
    return statement.replace("{TIMES}", TIMES).replace("{NOW}", NOW).strip()


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for statement in (*TABLES, *TRIGGERS):
        migrator.sql(_filled(statement))


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for table in (
        "settings", "scheduled_tasks", "job_scenes", "jobs", "plan_counts", "plan_changes", "analysis_plans",
        "scene_tags", "scene_performers", "scenes", "tags", "performers", "studios", "sync_runs",
    ):  # fmt: skip
        migrator.sql(f"DROP TABLE {table}")
