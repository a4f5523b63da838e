"""The invariants that the database does not enforce, as queries whose result should be 0: `store.check()` runs them
all.

Add one for every promise about stored rows that no constraint keeps, and to tests/maintenance/test_health.py what
breaks it: to `BROKEN` if a repair can change or delete the broken rows, else to `DANGLING`. Tables that follow from
others are described in :mod:`scanstore.maintenance.derived`. What helps, other than a fix, a backup or another scan, is
said in `REMEDIES`."""

from __future__ import annotations

from typing import NamedTuple

from scanstore.maintenance.derived import DERIVED


class BrokenRows(NamedTuple):
    """Rows that break a promise. A repair makes the ``change``, or deletes the rows if there is none.

    `check --fix` does the same if that is ``safe``.
    """

    what: str
    table: str
    condition: str
    change: str = ""
    safe: bool = False

    @property
    def repair(self) -> str:
        change = f"UPDATE OR IGNORE {self.table} SET {self.change}" if self.change else f"DELETE FROM {self.table}"
        return f"{change} WHERE {self.condition}"


IDENTITY = "missing or malformed id of the file"
SYMBOLS, REFERENCES, IMPORTS = (f"{kind} without a name" for kind in ("symbols", "references", "imports"))
ORDINALS = "references from or to a symbol that their file does not have"
BINDINGS = "bindings to a symbol that is not there"
UNSEEN = "bindings that no scan sees"
CHUNKS = "pieces of work for chunks that their file does not have"
UNKNOWN_RUN = "library rows that were seen by a sync run which is not there"
WAITING = "tasks and audits that wait for a time though they do not wait"
FOLDED = "users whose address does not match its folded form"
JSON = "values that are not JSON"
# NULL is not in an empty list, so it is excluded first.
NO_NAME = "{0} IS NOT NULL AND {0} NOT IN (SELECT id FROM names)"
NO_RUN = "run_id IS NOT NULL AND run_id NOT IN (SELECT id FROM sync_runs)"
NO_SYMBOL = (
    "{1} AND NOT EXISTS (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = {0}.version_id AND s.ordinal = {2})"
)
TARGET, SOURCE = (
    NO_SYMBOL.format("reference_facts", f"{column} IS NOT NULL", column)
    for column in ("symbol_ordinal", "from_ordinal")
)
BOUND = NO_SYMBOL.format("bindings", "version_id IS NOT NULL", "bindings.ordinal")
UNRESOLVED = "resolution = 'unresolved', confidence = 0"
DUE, NOT_DUE = "next_retry_at IS NOT NULL AND status <> '{}'", "next_retry_at = NULL"

BROKEN = (
    BrokenRows(SYMBOLS, "symbol_facts", NO_NAME.format("name_id")),
    BrokenRows(SYMBOLS, "symbol_facts", NO_NAME.format("qualified_name_id")),
    BrokenRows(REFERENCES, "reference_facts", NO_NAME.format("name_id")),
    BrokenRows(REFERENCES, "reference_facts", NO_NAME.format("path_id"), "path_id = NULL"),
    BrokenRows(IMPORTS, "import_facts", NO_NAME.format("module_id")),
    BrokenRows(IMPORTS, "import_facts", NO_NAME.format("path_id"), "path_id = NULL"),
    BrokenRows("bindings without a name", "bindings", NO_NAME.format("path_id")),
    BrokenRows(ORDINALS, "reference_facts", TARGET, f"symbol_ordinal = NULL, {UNRESOLVED}"),
    BrokenRows(ORDINALS, "reference_facts", SOURCE, "from_ordinal = NULL"),
    BrokenRows(BINDINGS, "bindings", f"nth > 0 AND {BOUND}"),
    BrokenRows(BINDINGS, "bindings", BOUND, f"version_id = NULL, ordinal = NULL, {UNRESOLVED}"),
    BrokenRows("bindings that overlap", "bindings", """EXISTS (SELECT 1 FROM bindings AS b
        WHERE b.lineage_id = bindings.lineage_id AND b.path_id = bindings.path_id AND b.nth = bindings.nth
          AND b.since < bindings.since AND (b.until IS NULL OR b.until > bindings.since))"""),
    BrokenRows(UNSEEN, "bindings", """NOT EXISTS (SELECT 1 FROM scans AS s WHERE s.lineage_id = bindings.lineage_id
           AND s.revision >= since AND (until IS NULL OR s.revision < until))"""),
    BrokenRows("files marked done without anything recorded", "scan_files", "status = 'done' AND version_id IS NULL",
           "status = 'failed', error = 'its recorded content is lost'"),
    BrokenRows("file versions that no scan uses", "file_versions",
           """NOT EXISTS (SELECT 1 FROM scan_files WHERE version_id = file_versions.id)
          AND NOT EXISTS (SELECT 1 FROM bindings WHERE version_id = file_versions.id)""", safe=True),
    BrokenRows(CHUNKS, "chunk_work", """NOT EXISTS (SELECT 1 FROM scan_files AS f JOIN chunk_facts AS c
            ON c.version_id = f.version_id AND c.chunk_index = chunk_work.id & 16777215
         WHERE f.id = chunk_work.scan_file_id AND f.scan_id = chunk_work.scan_id)"""),
    BrokenRows("calls about something of another scan", "model_calls",
           """scan_id <> coalesce((SELECT scan_id FROM chunk_work WHERE id = chunk_id),
           (SELECT scan_id FROM draft_findings WHERE id = draft_id))""", "chunk_id = NULL, draft_id = NULL"),
    *(
        BrokenRows(UNKNOWN_RUN, table, NO_RUN, "run_id = NULL", safe=True)
        for table in ("scenes", "performers", "tags", "studios")
    ),
    BrokenRows("jobs that wait for a time though they do not wait", "jobs", DUE.format("pending"), NOT_DUE, safe=True),
    BrokenRows(WAITING, "analysis_tasks", DUE.format("pending"), NOT_DUE, safe=True),
    BrokenRows(WAITING, "audit_tasks", DUE.format("queued"), NOT_DUE, safe=True),
    # One that another user has already stays, and is listed.
    BrokenRows(FOLDED, "users", "email NOT GLOB '*[^ -~]*' AND lower(email) <> email_key", "email_key = lower(email)",
           safe=True),
    BrokenRows(JSON, "symbol_facts", "metadata IS NOT NULL AND NOT json_valid(metadata)"),
    BrokenRows(JSON, "import_facts", "NOT json_valid(imported_names)"),
)  # fmt: skip


def question(what: str) -> str:
    """Return the query that counts the broken rows, each once."""
    conditions: dict[str, list[str]] = {}
    for broken in BROKEN:
        if broken.what == what:
            conditions.setdefault(broken.table, []).append(f"({broken.condition})")
    counts = (f"(SELECT count(*) FROM {table} WHERE {' OR '.join(some)})" for table, some in conditions.items())
    return f"SELECT {' + '.join(counts)}"


DANGLING = {
    **{each.what: each.check for each in DERIVED},
    **{broken.what: question(broken.what) for broken in BROKEN},
    IDENTITY: """
        SELECT NOT EXISTS (SELECT 1 FROM file_identity WHERE file GLOB 'scanstore:file:*' AND length(file) = 47)""",
    # Where the symbols of a file are numbered without gaps, as they are written, their number is all there is to ask.
    ORDINALS: f"""
        SELECT CASE WHEN NOT EXISTS (
            SELECT 1 FROM (
                SELECT version_id, max(symbol_ordinal) AS last, max(from_ordinal) AS last_from,
                       min(symbol_ordinal) AS first, min(from_ordinal) AS first_from
                  FROM reference_facts GROUP BY version_id) AS r
              LEFT JOIN (SELECT version_id, count(*) AS n, min(ordinal) AS first, max(ordinal) AS last
                           FROM symbol_facts GROUP BY version_id) AS s ON s.version_id = r.version_id
             WHERE s.first IS NOT 0 OR s.last <> s.n - 1 OR r.last > s.last OR r.last_from > s.last
                OR r.first < 0 OR r.first_from < 0)
        THEN 0 ELSE ({question(ORDINALS)}) END""",
    "completed scans without a revision, or analysed ones": """
        SELECT count(*) FROM scans WHERE revision IS NULL AND (status = 'completed' OR active_since IS NOT NULL)""",
    "analyses that are over with work left, or not over without": """
        SELECT count(*) FROM scans AS s WHERE active_since IS NOT NULL AND status IN ('completed', 'queued', 'running')
           AND (status = 'completed') = EXISTS (SELECT 1 FROM work_counts AS w
                LEFT JOIN scan_configs AS c ON c.scan_id = w.scan_id
                WHERE w.scan_id = s.id AND w.count > 0 AND w.status IN ('pending', 'running', 'verifying', 'enriching')
                  AND (w.kind = 'chunk' OR c.analysis_mode IS NOT 'primary_only'))""",
    "drafts in a chunk of another scan or file": """
        SELECT count(*) FROM draft_findings AS d JOIN chunk_work AS w ON w.id = d.chunk_id
          JOIN scan_files AS f ON f.id = w.scan_file_id WHERE w.scan_id <> d.scan_id OR f.file_path <> d.file_path""",
    "drafts of the same thing at the same line": """
        SELECT count(*) FROM (SELECT 1 FROM draft_findings GROUP BY scan_id, file_path, lower(vulnerability_type),
            title_key, line_number HAVING count(*) > 1)""",
    "verified drafts without a verified finding, or others with one": """
        SELECT count(*) FROM draft_findings AS d LEFT JOIN verified_findings AS v ON v.draft_id = d.id
         WHERE (d.status = 'verified' AND v.id IS NULL) OR v.scan_id <> d.scan_id
            OR (v.status = 'enriching' AND d.status IN ('rejected', 'weakness'))""",
    "suppressions of a finding of another target": """
        SELECT count(*) FROM suppressions AS s JOIN findings AS f ON f.id = s.finding_id
         WHERE f.lineage_id <> s.lineage_id""",
    "completed verified findings that were not published": """
        SELECT count(*) FROM verified_findings AS v LEFT JOIN sightings AS s ON s.verified_id = v.id
         WHERE (v.status = 'complete' AND s.scan_id IS NULL) OR s.scan_id <> v.scan_id""",
    "findings that no scan has seen, and sightings of another target": """
        SELECT (SELECT count(*) FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id
                  JOIN scans AS c ON c.id = s.scan_id WHERE c.lineage_id <> f.lineage_id)
             + (SELECT count(*) FROM findings AS f WHERE NOT EXISTS (SELECT 1 FROM sightings WHERE finding_id = f.id)
                   AND NOT EXISTS (SELECT 1 FROM finding_events AS e WHERE e.finding_id = f.id))""",
    "votes of a round that has not begun": """
        SELECT count(*) FROM votes AS v JOIN draft_findings AS d ON d.id = v.draft_id WHERE v.round > d.round""",
    "sync runs of one kind that run at once": """
        SELECT count(*) FROM (SELECT 1 FROM sync_runs WHERE status = 'running' GROUP BY kind HAVING count(*) > 1)""",
    "plans whose status is not what their changes say": """
        SELECT count(*) FROM (
            SELECT p.status, coalesce(sum(c.count) FILTER (WHERE c.status = 'applied'), 0) AS applied,
                   coalesce(sum(c.count) FILTER (WHERE c.status IN ('pending', 'approved')), 0) AS left_over,
                   coalesce(sum(c.count) FILTER (WHERE c.status = 'reverted'), 0) AS reverted
              FROM analysis_plans AS p LEFT JOIN plan_counts AS c ON c.plan_id = p.id GROUP BY p.id)
         WHERE (status IN ('draft', 'reviewing', 'applied', 'reverted') OR applied > 0)
           AND ((status = 'applied') <> (applied > 0 AND left_over = 0)
                OR (status = 'reverted') <> (applied = 0 AND reverted > 0))""",
    "schedules that are enabled without a next run, or disabled with one": """
        SELECT count(*) FROM scheduled_tasks WHERE (next_run IS NOT NULL) <> enabled""",
    "results of a task of another session": """
        SELECT count(*) FROM analysis_results AS r JOIN analysis_tasks AS t ON t.id = r.analysis_task_id
         WHERE t.analysis_session_id <> r.analysis_session_id""",
    "sessions that are completed with tasks left": """
        SELECT count(*) FROM analysis_sessions AS s WHERE status = 'completed' AND EXISTS (SELECT 1
            FROM analysis_tasks WHERE analysis_session_id = s.id AND status IN ('pending', 'processing'))""",
    "audits that are completed without an analysis, or not completed with one": """
        SELECT count(*) FROM audit_tasks AS t
         WHERE (status = 'completed') <> EXISTS (SELECT 1 FROM audit_analyses WHERE task_id = t.id)""",
    "events about the analysis of another audit": """
        SELECT count(*) FROM audit_events AS e JOIN audit_analyses AS a ON a.id = e.analysis_id
         WHERE a.task_id <> e.task_id""",
}

SCHEDULES = "schedules that are enabled without a next run, or disabled with one"
SESSIONS = "restore a backup, or remove the sessions concerned with: scanstore sessions remove SESSION"
AUDITS = "restore a backup, or remove the audits concerned with: store.audits.remove(audit)"
#: What to do about what a check of that name has found.
REMEDIES = {
    SCHEDULES: (
        "put it right with: scanstore check --fix; a schedule whose time zone is not known here needs another one:"
        " store.schedules.update(name, timezone=...)"
    ),
    "suppressions of a finding of another target": (
        "lift them with: scanstore findings unsuppress ID, and suppress the finding of the right target"
    ),
    "sync runs of one kind that run at once": (
        "end them with the next sync: scanstore library sync --take-over, or store.library.sync(kind, take_over=True)"
    ),
    "plans whose status is not what their changes say": (
        "restore a backup, or remove the plans concerned with: scanstore plans remove PLAN"
    ),
    "results of a task of another session": SESSIONS,
    "sessions that are completed with tasks left": SESSIONS,
    "audits that are completed without an analysis, or not completed with one": AUDITS,
    "events about the analysis of another audit": AUDITS,
}
