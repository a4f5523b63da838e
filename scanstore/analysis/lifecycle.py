"""The life cycle of an analysis: start, pause, resume, cancel, rerun, and progress.

A recorded scan has the status ``completed``. Starting its analysis makes it ``queued``, and the first claim
``running``. When no chunk, draft or verified finding is left to work on, it is ``completed`` again. ``phase`` is the
first of scanning, verifying and enriching that has work left; all three may run at the same time. A paused or cancelled
scan leases no more rows. Rows that are already leased can still be completed, so that no paid answer is lost.

:func:`advance` and :func:`count_error` are called whenever a chunk, draft or verified finding is settled, inside the
same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

from scanstore.analysis.models import ScanConfig
from scanstore.db.arguments import check_string
from scanstore.db.database import Database
from scanstore.db.domain import Domain, reads
from scanstore.db.notebooks import described
from scanstore.db.state_machine import RISKS, SCANS, move
from scanstore.db.values import format_time, read_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, NotFound, shown
from scanstore.findings.looks import UPHELD
from scanstore.findings.tracking import close
from scanstore.leases import engine
from scanstore.llm.configs import Configs
from scanstore.snapshots.models import Scan
from scanstore.snapshots.scans import Scans, pick

if TYPE_CHECKING:
    from scanstore.db.words import AnalysisMode, AnalysisScope, AnalysisStep, Phase, Risk, ScanStatus
    from scanstore.llm.models import ModelConfig

MODES: tuple[AnalysisMode, ...] = ("primary_verifiers", "primary_only")
SCOPES: tuple[AnalysisScope, ...] = ("full", "changed")
STEPS: dict[AnalysisStep, str] = {"scan": "scanning", "verify": "verifying", "enrich": "enriching"}
CONCURRENCY = {"chunk": "scanner_concurrency", "draft": "verifier_concurrency", "verified": "enricher_concurrency"}
RECENT = 200  #: finished rows from which the rate is computed


class Gate(NamedTuple):
    """Whether a scan leases rows of one kind, and with which limits.

    ``recorded``: the scan was recorded completely; ``begun``: its analysis was started.
    """

    status: str
    recorded: bool
    begun: bool
    concurrency: int
    max_retries: int
    retry_delay: float
    max_lost: int

    @property
    def open(self) -> bool:
        return self.status not in ("paused", "cancelled", "failed")


@described
class Progress(NamedTuple):
    """The progress of an analysis. ``rate`` is the number of rows of the current phase that are finished per minute,
    measured by the latest ones. ``eta`` is the estimated number of seconds until the phase ends, and ``cost`` the total
    of its model calls.
    """

    scan: int
    status: ScanStatus
    phase: Phase
    chunks: dict[str, int]
    drafts: dict[str, int]
    verified: dict[str, int]
    findings: int
    rate: float | None
    eta: float | None
    calls: int
    tokens: int
    cost: float
    error: str | None


@described
class Rerun(NamedTuple):
    """The number of rows that are pending again."""

    chunks: int
    drafts: int
    verified: int


GATE = """
SELECT s.status, s.revision IS NOT NULL, s.active_since IS NOT NULL, coalesce(c.{concurrency}, {default}),
       coalesce(c.max_retries, 3), coalesce(c.retry_delay, 2.0), coalesce(c.max_lost, 10)
  FROM scans AS s LEFT JOIN scan_configs AS c ON c.scan_id = s.id WHERE s.id = ?
"""
DEFAULTS = {"chunk": 20, "draft": 10, "verified": 5}
# The second term as an SQL expression.
MOST = {
    kind: f"coalesce((SELECT {column} FROM scan_configs WHERE scan_id = :scope), {DEFAULTS[kind]})"
    for kind, column in CONCURRENCY.items()
}
# Usually this reads only one or two counters.
STANDING = """
SELECT s.status, s.phase, s.active_since, s.errors_in_a_row,
       CASE WHEN {chunk} THEN 'scanning'
            WHEN (SELECT analysis_mode FROM scan_configs WHERE scan_id = s.id) = 'primary_only' THEN 'completed'
            WHEN {draft} THEN 'verifying' WHEN {verified} THEN 'enriching' ELSE 'completed' END,
       s.status = 'completed' AND ({draft} OR {verified}) IS NOT TRUE
       AND (SELECT analysis_mode FROM scan_configs WHERE scan_id = s.id) = 'primary_only'
  FROM scans AS s WHERE s.id = ?
""".format(
    **{
        queue.kind: " OR ".join(
            "(SELECT count FROM work_counts"
            f" WHERE scan_id = s.id AND kind = '{queue.kind}' AND status = '{status}') > 0"
            for status in ("pending", queue.leased)
        )
        for queue in engine.QUEUES
    }
)
# While this holds and chunks are ready, completing a chunk does not change the status of its scan.
STEADY = "EXISTS (SELECT 1 FROM scans WHERE id = ? AND errors_in_a_row = 0 AND phase = 'scanning')"
# While this holds, the scan leases rows.
RUNNING = "EXISTS (SELECT 1 FROM scans WHERE id = :scope AND status = 'running' AND revision > 0)"
# A chunk with the same text, in the file of the same path, of the previous scan.
FILL = """
INSERT OR IGNORE INTO chunk_work (id, scan_file_id, scan_id, rank, status)
SELECT f.id << 24 | c.chunk_index, f.id, f.scan_id,
       CASE f.risk_level WHEN 'high' THEN 0 WHEN 'low' THEN 2 ELSE 1 END,
       CASE WHEN :before IS NOT NULL AND EXISTS (
            SELECT 1 FROM scan_files AS g CROSS JOIN chunk_facts AS d ON d.version_id = g.version_id
             WHERE g.scan_id = :before AND g.file_path = f.file_path AND d.content_hash = c.content_hash)
            THEN 'skipped' ELSE 'pending' END
  FROM scan_files AS f INDEXED BY uq_scan_files_scan_id_file_path
 CROSS JOIN chunk_facts AS c ON c.version_id = f.version_id
 WHERE f.scan_id = :scan ORDER BY f.file_path, c.chunk_index
"""
BEFORE = """
SELECT b.id FROM scans AS s JOIN scans AS b ON b.lineage_id = s.lineage_id AND b.revision < s.revision
 WHERE s.id = ? ORDER BY b.revision DESC LIMIT 1
"""


# For workers


def terms(db: Database, scan_id: int, kind: str) -> Gate:
    """Return the conditions under which a scan leases rows. Raises NotFound."""
    sql = GATE.format(concurrency=CONCURRENCY[kind], default=DEFAULTS[kind])
    row = db.execute_sql(sql, (scan_id,)).fetchone()
    if row is None:
        raise NotFound(f"no scan {scan_id}; store.scans.list() (scanstore scans list) shows the known ones")
    return Gate(*row)


def gate(db: Database, scan_id: int, kind: str) -> Gate:
    """Like :func:`terms`, before a claim: changes a queued scan to running. Inside a transaction.

    Raises NotFound, and IllegalMove for chunks of a scan whose analysis was not started.
    """
    found = terms(db, scan_id, kind)
    if not found.begun and not found.recorded:
        raise IllegalMove(f"scan {scan_id} is {found.status} and was not recorded whole; record its target again")
    if not found.begun and kind == "chunk":
        raise IllegalMove(
            f"the analysis of scan {scan_id} was not begun; call store.scans.analyze({scan_id})"
            f" (scanstore scans analyze {scan_id}) first"
        )
    if found.status == "queued":
        move(db, SCANS, scan_id, "running")
    return found


def renew(db: Database, scan_id: int) -> None:
    """Add the chunks that are not queued yet, if an analysis was started. Inside a transaction."""
    row = db.execute_sql(
        "SELECT c.scope FROM scans AS s JOIN scan_configs AS c ON c.scan_id = s.id"
        " WHERE s.id = ? AND s.active_since IS NOT NULL",
        (scan_id,),
    ).fetchone()
    if row is None:
        return
    before = db.execute_sql(BEFORE, (scan_id,)).fetchone() if row[0] == "changed" else None
    db.execute_sql(FILL, {"scan": scan_id, "before": before[0] if before else None})
    advance(db, scan_id)


def advance(db: Database, scan_id: int, *, steady: bool = False) -> None:
    """Set the phase by the remaining work, and complete the scan if none remains. Inside a transaction.

    If the analysis does not wait for drafts, the states of earlier findings are updated once the last draft is judged.
    ``steady`` means that a row succeeded: the count of consecutive errors is reset.
    """
    row = db.execute_sql(STANDING, (scan_id,)).fetchone()
    if row is None:
        return
    status, phase, since, errors, due, judged = row
    if steady and errors:
        db.execute_sql("UPDATE scans SET errors_in_a_row = 0 WHERE id = ?", (scan_id,))
    if since is None or (due == phase and (due == "completed") == (status == "completed") and not judged):
        return
    if judged and due == "completed":
        _close(db, scan_id)
    elif due == "completed" and status in ("queued", "running", "paused"):
        now = format_time(utcnow())
        db.execute_sql(
            "UPDATE scans SET phase = 'completed', status = 'completed', analyzed_at = ?, error = NULL WHERE id = ?",
            (now, scan_id),
        )
        _close(db, scan_id)
    elif status == "completed":  # new work was added meanwhile
        db.execute_sql("UPDATE scans SET phase = ?, status = 'queued', analyzed_at = NULL WHERE id = ?", (due, scan_id))
    else:
        db.execute_sql("UPDATE scans SET phase = ? WHERE id = ?", (due, scan_id))


def _close(db: Database, scan_id: int) -> None:
    close(db, scan_id, tool="scanstore")


def count_error(db: Database, scan_id: int, error: str) -> bool:
    """Count an error, and pause the scan after too many consecutive ones. Return whether it paused. In a
    transaction.
    """
    in_a_row, pause_after = db.execute_sql(
        "UPDATE scans SET errors_in_a_row = errors_in_a_row + 1 WHERE id = ? RETURNING errors_in_a_row,"
        " (SELECT pause_after FROM scan_configs WHERE scan_id = scans.id)",
        (scan_id,),
    ).fetchall()[0]
    if pause_after is None or in_a_row < pause_after:
        return False
    why = f"paused after {in_a_row} errors in a row, the last: {error[:500]}"
    return bool(
        db.execute_sql(
            "UPDATE scans SET status = 'paused', error = ? WHERE id = ? AND status IN ('queued', 'running')",
            (why, scan_id),
        ).rowcount
    )


class AnalysisConfig(TypedDict, total=False):
    """How a scan is analysed, see :meth:`Lifecycle.analyze`."""

    analysis_mode: AnalysisMode
    primary_analyzer: ModelConfig | str | int | None
    scope: AnalysisScope
    scanner_concurrency: int
    verifier_concurrency: int
    enricher_concurrency: int
    max_retries: int
    max_lost: int
    retry_delay: float
    pause_after: int | None


class Lifecycle(Domain):
    """Start, pause, resume, cancel and rerun the analysis of a scan; part of ``store.scans``."""

    def analyze(
        self, scan: Scan | int | None = None, *, target: str | None = None, **config: Unpack[AnalysisConfig]
    ) -> Scan:
        """Start the analysis of a recorded scan (default: the latest of the target), so that its chunks can be claimed.

        One transaction.

        ``config`` holds columns of ScanConfig: ``analysis_mode`` (``primary_verifiers``, or ``primary_only``: the scan
        completes without waiting for drafts), ``primary_analyzer`` (a model), ``scope`` (``full``, or ``changed``:
        chunks of the target's previous scan are skipped), ``scanner_concurrency``, ``verifier_concurrency``,
        ``enricher_concurrency``, ``max_retries``, ``retry_delay`` (seconds), ``max_lost`` (leases that a row may lose
        without failing), ``pause_after`` (consecutive errors; None: never). Every process of a pipeline may call this:
        a started analysis takes the given settings and keeps the others. Raises IllegalMove for an incomplete scan.
        """
        with self.db.atomic():
            row = pick(self.db, scan, target)
            if row.revision is None:
                raise IllegalMove(
                    f"scan {row.id} is {row.status} and was not recorded whole; record {row.target} again first"
                )
            values = self._checked(row.id, config)
            self._configure(row.id, values)
            if row.active_since is None:
                now = format_time(utcnow())
                move(self.db, SCANS, row.id, "queued", phase="scanning", active_since=now, error=None)
            renew(self.db, row.id)
        return Scans(self.db).get(row.id)

    def _checked(self, scan_id: int, config: Mapping[str, Any]) -> dict[str, object]:
        known = set(ScanConfig._meta.combined) - {"id", "scan", "scan_id", "created_at", "updated_at"}
        unknown = set(config) - known
        if unknown:
            names = ", ".join(sorted(known - {"primary_analyzer_id"}))
            raise InvalidArgument(f"an analysis has no setting {', '.join(sorted(unknown))}; there are {names}")
        values: dict[str, object] = {}
        for name, value in config.items():
            if name.startswith("primary_analyzer"):
                name, value = "primary_analyzer_id", None if value is None else Configs(self.db).get(value).id
            elif name in ("analysis_mode", "scope"):
                words = MODES if name == "analysis_mode" else SCOPES
                if not isinstance(value, str) or value.lower() not in words:
                    raise InvalidArgument(f"{name} is {value!r}; it must be one of: {', '.join(words)}")
                value = value.lower()
            elif name == "retry_delay":
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86400:
                    raise InvalidArgument(f"retry_delay is {value!r}; give seconds, from 0 to a day")
            elif not (name == "pause_after" and value is None):
                least = 0 if name in ("max_retries", "max_lost") else 1
                if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
                    raise InvalidArgument(f"{name} is {value!r}; give a whole number of at least {least}")
            values[name] = value
        return values

    def _configure(self, scan_id: int, values: dict[str, object]) -> None:
        names = "".join(f", {name}" for name in values)
        sets = ", ".join(f"{name} = excluded.{name}" for name in values)
        action = f"UPDATE SET {sets}" if values else "NOTHING"
        self.db.execute_sql(
            f"INSERT INTO scan_configs (scan_id{names}) VALUES (?{', ?' * len(values)})"
            f" ON CONFLICT (scan_id) DO {action}",
            (scan_id, *values.values()),
        )

    def pause(self, scan: Scan | int, *, reason: str | None = None) -> Scan:
        """Lease no more rows until :meth:`resume`. Leased rows can still be completed. Raises IllegalMove."""
        return self._turn(scan, "paused", error=None if reason is None else check_string(reason, "reason"))

    def resume(self, scan: Scan | int) -> Scan:
        """Resume a paused analysis, or a cancelled or failed one of a recorded scan. Raises IllegalMove."""
        with self.db.atomic():
            row = self._begun(scan)
            if row.status in ("cancelled", "failed"):
                move(self.db, SCANS, row.id, "queued")
            move(
                self.db, SCANS, row.id, "running",
                error=None, errors_in_a_row=0, active_since=format_time(utcnow()),
            )  # fmt: skip
            advance(self.db, row.id)
        return Scans(self.db).get(row.id)

    def cancel(self, scan: Scan | int, *, reason: str | None = None) -> Scan:
        """Cancel an analysis. Leased rows can still be completed. Raises IllegalMove."""
        return self._turn(scan, "cancelled", error=None if reason is None else check_string(reason, "reason"))

    def _turn(self, scan: Scan | int, status: str, **columns: object) -> Scan:
        row = Scans(self.db).get(scan)
        if row.revision is None and status == "paused":
            raise IllegalMove(f"scan {row.id} is being recorded; only an analysis can be {status}")
        move(self.db, SCANS, row.id, status, **columns)
        return Scans(self.db).get(row.id)

    def _begun(self, scan: Scan | int) -> Scan:
        row = Scans(self.db).get(scan)
        if row.active_since is None:
            remedy = f"begin one (scanstore scans analyze {row.id})" if row.revision else "record its target again"
            raise IllegalMove(f"scan {row.id} is {row.status} and has no analysis; {remedy}")
        return row

    def rerun(self, scan: Scan | int, *, to: AnalysisStep = "scan", failed_only: bool = False) -> Rerun:
        """Run a step of an analysis and the steps after it again. Atomic. Return the number of rows that are pending
        again.

        ``to`` is ``scan`` (all chunks), ``verify`` (all judged drafts, in a new round; earlier votes are kept) or
        ``enrich`` (all verified findings except those that later votes revoked). ``failed_only`` selects only failed
        rows. No rows are deleted: repeated drafts are merged, and a finding that is published again is updated and
        keeps its status. Cached answers are reused. Leased rows stay with their workers. Raises IllegalMove while the
        scan is running.
        """
        if not isinstance(to, str) or to not in STEPS:
            raise InvalidArgument(f"to is {shown(to)}; it must be one of: {', '.join(STEPS)}")
        queue = dict(zip(STEPS, engine.QUEUES, strict=True))[to]
        over = ("failed",) if failed_only else ("failed", *queue.done)
        with self.db.atomic():
            row = self._begun(scan)
            if row.status == "running":
                raise IllegalMove(f"scan {row.id} is running; pause it first (scanstore scans pause {row.id})")
            more = ", round = round + 1" if to == "verify" else ""
            upheld = f" AND {UPHELD}" if to == "enrich" else ""
            waiting = self.db.execute_sql(
                f"UPDATE {queue.table} SET status = 'pending', retry_count = 0, lost_count = 0, next_retry_at = NULL,"
                f" lease_clock = NULL, error = NULL{more}, updated_at = ? WHERE scan_id = ?"
                f" AND status IN ({', '.join('?' * len(over))})"
                f"{upheld}",
                (format_time(utcnow()), row.id, *over),
            ).rowcount
            if row.status != "queued":
                move(self.db, SCANS, row.id, "queued")
            now = format_time(utcnow())
            self.db.execute_sql(
                "UPDATE scans SET error = NULL, errors_in_a_row = 0, active_since = ?, phase = ? WHERE id = ?",
                (now, STEPS[to], row.id),
            )
            advance(self.db, row.id)
        counts = dict.fromkeys(STEPS, 0) | {to: waiting}
        return Rerun(*counts.values())

    def set_risk(self, scan: Scan | int, risk: Risk, patterns: Iterable[str]) -> int:
        """Set the risk of the files that match patterns in the syntax of ``.gitignore``. Return their number.

        Chunks of ``high`` files are claimed first, those of ``low`` files last. Atomic.
        """
        if not isinstance(risk, str) or risk.lower() not in RISKS:
            raise InvalidArgument(f"risk is {shown(risk)}; it must be one of: {', '.join(RISKS)}")
        from scanstore.indexing.walk import patterns as compiled  # start-up: loads pathspec

        spec = compiled("patterns", patterns)
        if spec is None:
            return 0
        with self.db.atomic():
            row = Scans(self.db).get(scan)
            files = self.db.execute_sql("SELECT id, file_path FROM scan_files WHERE scan_id = ?", (row.id,)).fetchall()
            hits = [(risk.lower(), key) for key, path in files if spec.match_file(path)]
            self.db.executemany("UPDATE scan_files SET risk_level = ? WHERE id = ?", hits)
        return len(hits)

    @reads
    def progress(self, scan: Scan | int | None = None, *, target: str | None = None) -> Progress:
        """Return the progress of the analysis of a scan (default: the latest of the target).

        The cost does not depend on the size of the scan.
        """
        run = self.db.execute_sql
        row = pick(self.db, scan, target)
        counts: dict[str, dict[str, int]] = {queue.kind: {} for queue in engine.QUEUES}
        for kind, status, count in run(
            "SELECT kind, status, count FROM work_counts WHERE scan_id = ? AND count > 0 ORDER BY kind, status",
            (row.id,),
        ):
            counts[kind][status] = count
        (findings,) = run("SELECT count(*) FROM sightings WHERE scan_id = ? AND state <> 'fixed'", (row.id,)).fetchone()
        calls, tokens, cost = run(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(prompt_tokens + completion_tokens), 0),"
            " coalesce(sum(cost), 0.0) FROM call_counts WHERE scan_id = ?",
            (row.id,),
        ).fetchone()
        rate = eta = None
        for queue, phase in zip(engine.QUEUES, STEPS.values(), strict=True):
            if phase == row.phase and row.active_since is not None:
                rate = _rate(self.db, queue, row.id, row.active_since)
                left = sum(counts[queue.kind].get(status, 0) for status in ("pending", queue.leased))
                eta = left * 60 / rate if rate else None
        return Progress(
            row.id, row.status, row.phase, counts["chunk"], counts["draft"], counts["verified"], findings,
            rate, eta, calls, tokens, cost, row.error,
        )  # fmt: skip


def _rate(db: Database, queue: engine.Queue, scan_id: int, since: datetime) -> float | None:
    """Return the finished rows per minute, from the latest ones since the analysis was started or resumed."""
    done = ", ".join(f"'{status}'" for status in queue.done)
    count, first = db.execute_sql(
        f"SELECT count(*), min(updated_at) FROM (SELECT updated_at FROM {queue.table} INDEXED BY {queue.on('done')}"
        f" WHERE scan_id = ? AND status IN ({done}) AND updated_at >= ? ORDER BY updated_at DESC LIMIT {RECENT})",
        (scan_id, format_time(since)),
    ).fetchone()
    if not count:
        return None
    start = read_time(first) if count == RECENT else since
    seconds = max((utcnow() - start).total_seconds(), 0.001)
    return float(count * 60 / seconds)
