"""Pruning of old data: snapshots, jobs, texts of model calls, and cached answers.

What goes is decided first, by one question per kind, and a dry run ends there. A scan stays, however old, when the
present would be another without it: the latest of a target, the latest that was analysed, the latest report of each
tool, and the last one that saw a finding which is not fixed. What people decided stays with its finding.

Scans go one by one, each with its facts in one transaction; the names that nothing uses any more go at the end, for all
of them at once. Who is killed before leaves some of these: they take space until a scan is removed the next time.

Change here: what may go, and what protects it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from scanstore.analysis.removal import remove_scan
from scanstore.db.arguments import check_list
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.notebooks import described
from scanstore.db.progress import Meter
from scanstore.db.spans import check_span
from scanstore.db.user_schema import holding
from scanstore.db.values import format_time, utcnow
from scanstore.errors import Conflict, InvalidArgument, shown
from scanstore.jobs.jobs import Jobs
from scanstore.snapshots.names import sweep_names
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.db.database import Database
    from scanstore.db.progress import ProgressCallback

KINDS = ("scans", "jobs", "calls", "answers")
AT_ONCE = 1000  # rows in one transaction, so that other writers get their turn

SCANS = """
WITH all_scans AS (
    SELECT id, lineage_id, kind, target, name, status, coalesce(analyzed_at, completed_at, updated_at) AS ended_at,
           coalesce(sum(revision IS NOT NULL) OVER newer, 0) AS newer,
           coalesce(sum(revision IS NOT NULL AND active_since IS NOT NULL AND status = 'completed') OVER newer, 0)
               AS newer_analysed,
           revision IS NULL AS broken, active_since IS NOT NULL AND status = 'completed' AS analysed,
           row_number() OVER (PARTITION BY lineage_id ORDER BY revision IS NULL, id DESC) AS place
      FROM scans
    WINDOW newer AS (PARTITION BY lineage_id, kind ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
)
SELECT s.id, s.target, s.name, s.status, s.ended_at FROM all_scans AS s
 WHERE s.status IN ('completed', 'failed', 'cancelled') AND s.ended_at <= :before AND s.newer >= :keep
   AND s.place > 1 AND (s.broken OR s.newer > 0) AND NOT (s.analysed AND s.newer_analysed = 0)
   AND s.id NOT IN (SELECT max(t.scan_id) FROM tool_runs AS t JOIN scans AS c ON c.id = t.scan_id
                     GROUP BY c.lineage_id, t.tool)
   AND NOT EXISTS (SELECT 1 FROM findings AS f WHERE f.scan_id = s.id AND NOT EXISTS (
           SELECT 1 FROM sightings AS g WHERE g.finding_id = f.id AND g.scan_id > s.id))
 ORDER BY s.id
"""
#: Tables whose rows go with their scan.
OF_SCANS = (
    "scan_configs", "scan_files", "chunk_work", "draft_findings", "verified_findings", "findings", "sightings",
    "model_calls", "tool_runs",
)  # fmt: skip
STILL = "SELECT 1 FROM scans WHERE id = ? AND status IN ('completed', 'failed', 'cancelled')"
# Tables with the ids of what may go, and what is done to those.
ROWS = {
    "calls": (
        "FROM model_calls WHERE status <> 'running' AND (prompt IS NOT NULL OR response IS NOT NULL) AND ended_at <= ?",
        "UPDATE model_calls SET prompt = NULL, response = NULL WHERE id = ?",
    ),
    "answers": ("FROM analysis_cache WHERE updated_at <= ?", "DELETE FROM analysis_cache WHERE id = ?"),
}


class OldScan(NamedTuple):
    """A scan that goes; ``ended_at`` is when it was over."""

    id: int
    target: str
    name: str
    status: str
    ended_at: str


@described
class Pruned(NamedTuple):
    """What would go, or has gone: scans, and how many jobs, texts of calls and answers.

    ``held`` are scans that are kept because rows of the user's own tables point at them or their contents; it says
    which table that is.
    """

    dry_run: bool
    scans: list[OldScan]
    jobs: int
    calls: int
    answers: int
    held: dict[int, str]


def prune(
    db: Database,
    *,
    older_than: timedelta | str | None,
    keep_last: int | None,
    dry_run: bool,
    what: Iterable[str],
    progress: ProgressCallback | None = None,
) -> Pruned:
    """See ``store.prune``."""
    meter = Meter(progress)
    kinds = _kinds(what)
    if older_than is None and keep_last is None:
        raise InvalidArgument("nothing says how much is to stay; give older_than=, keep_last= or both")
    if older_than is not None:
        older_than = check_span(older_than, "older_than")
    if keep_last is not None and (isinstance(keep_last, bool) or not isinstance(keep_last, int) or keep_last < 0):
        raise InvalidArgument(f"keep_last is {shown(keep_last)}; give a whole number, 0 or more")
    if older_than is None and (rest := [kind for kind in kinds if kind in ROWS]):
        raise InvalidArgument(f"{' and '.join(rest)} go by their age alone; give older_than= (--older-than)")
    try:
        before = format_time(utcnow() - (older_than or timedelta(0)))
    except OverflowError:
        before = ""
    found: list[OldScan] = []
    held: dict[int, str] = {}
    if "scans" in kinds:
        rows = db.execute_sql(SCANS, {"before": before, "keep": keep_last or 0}).fetchall()
        tables = _held(db) if rows else {}
        held = {row[0]: tables[row[0]] for row in rows if row[0] in tables}
        found = [OldScan(*row) for row in rows if row[0] not in held]
    prune_jobs = partial(Jobs(db).prune, older_than=older_than, keep_last=keep_last)
    if meter and not dry_run:
        counted = sum(_count(db, kind, before) for kind in ROWS if kind in kinds)
        meter.expect(len(found) + counted + (prune_jobs(dry_run=True) if "jobs" in kinds else 0))
    if not dry_run:
        found = _remove(db, found, held, meter)
    jobs = 0
    if "jobs" in kinds:
        jobs = prune_jobs(dry_run=dry_run)
        meter.add(0 if dry_run else jobs)
    counts = {kind: _rows(db, kind, before, dry_run, meter) if kind in kinds else 0 for kind in ROWS}
    meter.end()
    return Pruned(dry_run, found, jobs, **counts, held=held)


def _kinds(what: Iterable[str]) -> tuple[str, ...]:
    kinds = (what,) if isinstance(what, str) else tuple(check_list(what, "what"))
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong or not kinds:
        given = shown(wrong[0]) if wrong else "nothing"
        raise InvalidArgument(f"{given} is not what can be removed; give any of: {', '.join(KINDS)}")
    return kinds


def _held(db: Database) -> dict[int, str]:
    """Return the scans that the user's own rows point at, or whose contents they point at, each with the table of these
    rows."""
    found: dict[int, str] = {}
    for table, column in (("scans", "id"), *((table, "scan_id") for table in OF_SCANS)):
        found.update(holding(lambda sql: db.execute_sql(sql).fetchall(), SCHEMA_VERSION, table, column))
    return found


def _remove(db: Database, chosen: list[OldScan], held: dict[int, str], meter: Meter) -> list[OldScan]:
    """Remove scans one by one, unless they were removed or run again since they were chosen."""
    gone: list[OldScan] = []
    for scan in chosen:
        try:
            with db.atomic():
                there = db.execute_sql(STILL, (scan.id,)).fetchall()
                if there:
                    remove_scan(db, Scans(db).get(scan.id))
            gone += [scan] if there else []
        except Conflict:  # of a row that was added meanwhile, or that points at what is below a scan's rows
            held[scan.id] = "a table of your own"
        meter.add()
    if gone:  # once for all of them: it reads all that is left
        sweep_names(db)
    return gone


def _count(db: Database, kind: str, before: str) -> int:
    return int(db.execute_sql(f"SELECT count(*) {ROWS[kind][0]}", (before,)).fetchone()[0])


def _rows(db: Database, kind: str, before: str, dry_run: bool, meter: Meter) -> int:
    chosen, change = ROWS[kind]
    if dry_run:
        return _count(db, kind, before)
    last, done = 0, 0
    while True:
        with db.atomic():
            some = f"SELECT id {chosen} AND id > ? ORDER BY id LIMIT {AT_ONCE}"
            ids = db.execute_sql(some, (before, last)).fetchall()
            if not ids:
                return done
            db.executemany(change, ids)
        last, done = ids[-1][0], done + len(ids)
        meter.add(len(ids))
