"""Rows of another store besides scans: a library with its plans, jobs, schedules, settings, and users with their work.

Rows that have a name of their own everywhere, such as the foreign system's id, an email or a UUID, are the same by it.
What belongs to one of them comes with it when it is new here, and is compared by count when it is not.

Left out, since it would be wrong here: jobs that are not over, which would be done twice, and runs of syncs, by which
the next one would take our library for newer than it is.
"""

from __future__ import annotations

from scanstore.maintenance.merge.rows import STAYS, UNLEASED, Merge, is_new, ours

OVER = "o.status IN ('completed', 'failed', 'cancelled')"
# The last state of a task that was being worked on, where it waits again.
PROCESSING = "iif(o.status = 'processing', '{}', o.status)"


def _same_ids(merge: Merge, table: str, key: str, *, but: tuple[str, ...] = (), **values: str) -> None:
    """Rows whose ids mean the same in both stores."""
    merge.map(table, "TEXT", by="id")
    merge.compare(table, key, but=but, values=values)


def merge_library(merge: Merge) -> None:
    """Studios, performers, tags and scenes by their ids in the foreign system."""
    unseen = {"run_id": "NULL"}
    for table in ("studios", "performers"):
        _same_ids(merge, table, "o.id", but=("last_synced", "run_id"))
        merge.add(table, unseen, own=True)
    _same_ids(merge, "tags", "o.id", but=("last_synced", "run_id"))
    taken = "EXISTS (SELECT 1 FROM main.tags AS m WHERE m.name = o.name AND m.id <> o.id)"
    for key, name in merge.run(
        f"SELECT o.id, o.name FROM other.tags AS o WHERE {taken} AND o.id NOT IN (SELECT theirs FROM temp.m_tags)"
    ):
        merge.conflict("tags", key, f"the name {name} belongs to another tag here; it is left out")
    merge.add("tags", unseen, where=f"NOT {taken}", own=True)
    studio = ours("studios", "studio_id")
    _same_ids(merge, "scenes", "o.id", but=("last_synced", "run_id"), studio_id=studio)
    for table, column, parent in (("scene_performers", "performer_id", "performers"), ("scene_tags", "tag_id", "tags")):
        links = (
            "SELECT json_group_array(k) FROM"
            f" (SELECT {column} AS k FROM {{}}.{table} WHERE scene_id = x.{{}} ORDER BY 1)"
        )
        for (key,) in merge.run(
            f"SELECT x.ours FROM temp.m_scenes AS x WHERE NOT x.new"
            f" AND ({links.format('main', 'ours')}) <> ({links.format('other', 'theirs')}) ORDER BY 1"
        ):
            merge.conflict("scenes", key, f"{parent} differ; {STAYS}")
    merge.add("scenes", {**unseen, "studio_id": studio}, own=True)
    for table, column, parent in (("scene_performers", "performer_id", "performers"), ("scene_tags", "tag_id", "tags")):
        link = ours(parent, column)
        merge.copy(table, {column: link}, where=f"{is_new('scenes', 'scene_id')} AND {link} IS NOT NULL")
    merge.skip(merge.number("SELECT count(*) FROM other.sync_runs"), "sync runs", "the next sync is to ask for all")


def merge_plans(merge: Merge) -> None:
    """Plans by their keys, with all of their changes; those of findings point at ours."""
    merge.map("analysis_plans", by="key")
    idle = ("process", "lease_until")
    merge.compare("analysis_plans", "o.name", but=idle)
    merge.compare_counts("analysis_plans", "o.name", "plan_changes", "plan_id")
    merge.add("analysis_plans", dict.fromkeys(idle, "NULL"))
    finding, scene = ours("findings", "finding_id"), "(SELECT id FROM main.scenes WHERE id = o.scene_id)"
    gone = "'-' || o.target_key"  # a number of theirs, that must not be taken for one of ours
    merge.copy(
        "plan_changes",
        {
            "id": "NULL",
            "plan_id": ours("analysis_plans", "plan_id"),
            "scene_id": scene,
            "finding_id": finding,
            "target_key": f"iif(o.target = 'finding', coalesce(CAST({finding} AS TEXT), {gone}), o.target_key)",
        },
        where=f"{is_new('analysis_plans', 'plan_id')} ORDER BY o.id",
    )


def merge_jobs(merge: Merge) -> None:
    """Jobs that are over, schedules and settings."""
    merge.map("jobs", "TEXT")
    merge.match("jobs", {"id": "o.id"}, where=OVER)
    merge.compare("jobs", "o.id", but=("parent_id",))
    waiting = f"SELECT count(*) FROM other.jobs AS o WHERE NOT {OVER}"
    merge.skip(merge.number(waiting), "jobs that are not over", "finish or cancel them there")
    parent = f"(SELECT p.id FROM other.jobs AS p WHERE p.id = o.parent_id AND {OVER.replace('o.', 'p.')})"
    merge.add("jobs", {"parent_id": parent}, where=OVER, own=True)
    scene = "o.scene_id IN (SELECT id FROM main.scenes)"
    merge.copy("job_scenes", {}, where=f"{is_new('jobs', 'job_id')} AND {scene}")
    merge.map("scheduled_tasks", by="name")
    merge.compare("scheduled_tasks", "o.name", but=("last_run", "next_run", "last_job_id"))
    merge.add("scheduled_tasks", {"last_job_id": ours("jobs", "last_job_id")})
    for (key,) in merge.run(
        "SELECT o.key FROM other.settings AS o JOIN main.settings AS m ON m.key = o.key"
        " WHERE (m.value, m.description) IS NOT (o.value, o.description) ORDER BY 1"
    ):
        merge.conflict("settings", key, f"value differ; {STAYS}")
    same = merge.number("SELECT count(*) FROM other.settings WHERE key IN (SELECT key FROM main.settings)")
    merge.copy("settings", {}, where="o.key NOT IN (SELECT key FROM main.settings)")
    merge.tables["settings"] = merge.tables["settings"]._replace(same=same)


def merge_accounts(merge: Merge) -> None:
    """Users by email; their sessions, prompts and audits by UUID."""
    merge.map("users", "TEXT", by="email_key")
    logins = ("failed_logins", "locked_until", "last_login_at")
    merge.compare("users", "o.email", but=logins)
    _refuse_costly_hashes(merge)
    merge.add("users", own=True)
    user = {"user_id": ours("users", "user_id")}
    _prompts(merge, user)
    _same_ids(merge, "analysis_sessions", "o.id", but=("user_id",))
    session = {"analysis_session_id": ours("analysis_sessions", "analysis_session_id")}
    children = ("file_uploads", "analysis_tasks", "analysis_results")
    for table in children:
        merge.compare_counts("analysis_sessions", "o.id", table, "analysis_session_id")
    merge.add("analysis_sessions", user, own=True)
    here = is_new("analysis_sessions", "analysis_session_id")
    merge.copy("file_uploads", session, where=here)
    merge.map("analysis_tasks", "TEXT")
    taken = "EXISTS (SELECT 1 FROM main.analysis_tasks AS m WHERE m.task_id = o.task_id)"
    for (key,) in merge.run(f"SELECT o.task_id FROM other.analysis_tasks AS o WHERE {here} AND {taken}"):
        merge.conflict("analysis_tasks", key, "another session has this task_id here; it is left out")
    status = {**UNLEASED, "status": PROCESSING.format("pending")}
    merge.add("analysis_tasks", {**session, **status}, where=f"{here} AND NOT {taken}", own=True)
    merge.copy(
        "analysis_results",
        {
            **session,
            "configuration_id": ours("configurations", "configuration_id"),
            "analysis_task_id": ours("analysis_tasks", "analysis_task_id"),
        },
        where=here,
    )
    _audits(merge, user)


def _refuse_costly_hashes(merge: Merge) -> None:
    """Refuse hashes of their users that would take more than the limits to verify."""
    from scanstore.accounts.passwords import refuse_excess  # start-up: hashes are rarely needed

    theirs = "SELECT email, hashed_password FROM other.users WHERE id NOT IN (SELECT theirs FROM temp.m_users)"
    for email, hashed in merge.run(theirs):
        refuse_excess(hashed, f"the password hash of user {email!r} in the other store")


def _prompts(merge: Merge, user: dict[str, str]) -> None:
    """Versions of prompts: the same by id or by content; others come after ours."""
    merge.map("configurations", "TEXT", by="id")
    said = {**user, "config_type": "o.config_type", "version": "o.version", "prompt_content": "o.prompt_content"}
    merge.match("configurations", said)
    merge.compare("configurations", "o.id", but=("user_id", "version", "is_default"))
    ours_of = f"main.configurations AS m WHERE m.user_id = {user['user_id']} AND m.config_type = o.config_type"
    later = (
        f"max(o.version, coalesce((SELECT max(m.version) FROM {ours_of}), 0) + (SELECT count(*)"
        " FROM other.configurations AS c JOIN temp.m_configurations AS y ON y.theirs = c.id AND y.new"
        " WHERE c.user_id = o.user_id AND c.config_type = o.config_type AND c.version <= o.version))"
    )
    default = f"iif(EXISTS (SELECT 1 FROM {ours_of} AND m.is_default), 0, o.is_default)"
    # Numbered before any is added: what is read must not be what is written.
    merge.run(
        "INSERT INTO temp.m_configurations (theirs, ours, new) SELECT o.id, o.id, 1 FROM other.configurations AS o"
        " WHERE o.id NOT IN (SELECT theirs FROM temp.m_configurations)"
    )
    merge.table("versions", "id TEXT PRIMARY KEY, version INTEGER, is_default INTEGER")
    merge.run(
        f"INSERT INTO temp.versions SELECT o.id, {later}, {default} FROM other.configurations AS o"
        " JOIN temp.m_configurations AS x ON x.theirs = o.id AND x.new"
    )
    numbered = {name: f"(SELECT {name} FROM temp.versions WHERE id = o.id)" for name in ("version", "is_default")}
    merge.copy("configurations", {**user, **numbered}, where=is_new("configurations", "id"))
    merge.count_same("configurations")


def _audits(merge: Merge, user: dict[str, str]) -> None:
    leased = ("status", "process", "lease_until", "worker")
    _same_ids(merge, "audit_tasks", "o.original_filename || ' ' || o.id", but=("user_id", *leased))
    merge.map("audit_analyses", "TEXT", by="id")
    merge.compare("audit_analyses", "o.id")
    for table in ("audit_analyses", "audit_events"):
        merge.compare_counts("audit_tasks", "o.id", table, "task_id")
    merge.add("audit_tasks", {**user, **UNLEASED, "status": PROCESSING.format("queued")}, own=True)
    merge.add("audit_analyses", where=is_new("audit_tasks", "task_id"), own=True)
    merge.copy("audit_findings", {}, where=is_new("audit_analyses", "analysis_id"))
    merge.copy("audit_events", {"id": "NULL"}, where=f"{is_new('audit_tasks', 'task_id')} ORDER BY o.id")
