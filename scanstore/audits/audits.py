"""Audits: documents checked against rules by a machine and, if it is not sure, by a person.

An audit is queued, then leased to a worker (:mod:`scanstore.leases.engine`), then finished. Its result, an analysis
with findings and a verdict (:mod:`scanstore.audits.policies`), is written in the transaction that finishes it.

Every step is recorded as an event with its author and subject. The events form the trail. The database refuses to
change or remove an event; events are removed only together with their audit.

The machine verdict ``review`` asks for a person. The person's verdict then counts, and the machine's is kept beside it.
A person can change the verdict of a person. An audit that the machine approved or rejected is final.

Change here: the steps, and the queries about audits. The rows are in :mod:`scanstore.audits.models`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.accounts.models import UserKey, given_user, of_user, user_key
from scanstore.audits.models import QUEUE, STATUSES, UNKNOWN, analysis_columns, check_findings
from scanstore.audits.models import Analysis as Analysis
from scanstore.audits.models import AnalysisFinding as AnalysisFinding
from scanstore.audits.models import AuditEvent as AuditEvent
from scanstore.audits.models import Task as Task
from scanstore.audits.policies import SEVERITIES, STANDARD, VERDICTS, AuditPolicy, judged
from scanstore.db.arguments import (
    check_by,
    check_choice,
    check_integer,
    check_list,
    check_optional_text,
    check_text,
    uuid_of,
)
from scanstore.db.database import Database
from scanstore.db.domain import List, reads
from scanstore.db.notebooks import described
from scanstore.db.pagination import check_page, listed, paged
from scanstore.db.processes import me
from scanstore.db.rows import Removed, Rows, read, remove
from scanstore.db.state_machine import Machine, move
from scanstore.db.uuids import uuid7s
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import IllegalMove, NotFound
from scanstore.leases import engine
from scanstore.leases.engine import MOST_LOST, MOST_RETRIES, Values
from scanstore.leases.queue import Key, Scope
from scanstore.leases.work import LeasedWork

if TYPE_CHECKING:
    from scanstore.db.pagination import Page
    from scanstore.db.words import AuditSeverity, AuditStatus, AuditVerdict, ReviewVerdict


AuditId = Task | str | uuid.UUID
ResultId = Analysis | Task | str | uuid.UUID

LIFE = Machine(
    "audit_tasks",
    "audit",
    {"queued": ("failed",), "cancelled": ("queued", "processing")},
    {
        "queued": "it waits to be claimed",
        "processing": "wait until it is finished, or cancel it: store.audits.cancel(audit)",
        "completed": "add the document again for another audit: store.audits.add",
        "failed": "retry it first: store.audits.retry(audit)",
        "cancelled": "add the document again: store.audits.add",
    },
)
# Queues that have audits to claim.
QUEUES = """
WITH RECURSIVE ready (queue) AS (  -- from one name to the next, however many audits each queue has
    SELECT min(queue) FROM audit_tasks INDEXED BY ix_audit_tasks_ready WHERE status = 'queued' AND next_retry_at IS NULL
     UNION ALL
    SELECT (SELECT min(queue) FROM audit_tasks INDEXED BY ix_audit_tasks_ready
             WHERE status = 'queued' AND next_retry_at IS NULL AND queue > ready.queue)
      FROM ready WHERE queue IS NOT NULL
)
SELECT queue FROM ready WHERE queue IS NOT NULL
 UNION
SELECT queue FROM audit_tasks INDEXED BY ix_audit_tasks_delayed WHERE status = 'queued' AND next_retry_at IS NOT NULL
 UNION
SELECT queue FROM audit_tasks INDEXED BY ix_audit_tasks_leased WHERE status = 'processing'
 ORDER BY queue
"""
HUMAN: tuple[ReviewVerdict, ...] = ("approved", "rejected")  # the verdicts of a person

EVENT = "INSERT INTO audit_events (task_id, analysis_id, action, by, detail, created_at) VALUES (?, ?, ?, ?, ?, ?)"
FINDING = """
INSERT INTO audit_findings
       (id, analysis_id, ordinal, severity, rule_id, message, evidence, remediation, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
REVIEW = """
UPDATE audit_analyses SET verdict = ?, reviewed_by = ?, review_reason = ?, reviewed_at = ?, updated_at = ? WHERE id = ?
"""


@described
class AuditStats(NamedTuple):
    """The number of audits by status, of analyses by verdict and of findings by severity, with zeros. Also the number
    of analyses that a person decided, and the mean compliance score (None without analyses).
    """

    tasks: dict[str, int]
    verdicts: dict[str, int]
    findings: dict[str, int]
    reviewed: int
    compliance_score: float | None


def _on_the_trail(db: Database, rows: Sequence[tuple[object, str]], why: str) -> None:
    """Record leases that expired or were lost."""
    now = format_time(utcnow())
    for key, status in rows:
        (worker,) = db.execute_sql("SELECT worker FROM audit_tasks WHERE id = ?", (key,)).fetchone()
        detail = dump_json({"error": why, "worker": worker, "status": status})
        db.execute_sql(EVENT, (key, None, "failed" if status == "failed" else "lost", me(), detail, now))


AUDITS = engine.AUDIT_TASKS._replace(freed=_on_the_trail)


class Audits(LeasedWork[Task, str | uuid.UUID, str]):
    """Audits of documents: queued, worked on, judged, reviewed, and their trail. A scope is the name of a queue."""

    queue = AUDITS
    model = Task
    life = LIFE
    anew = {"completed_at": None}

    # -- adding and removing ------------------------------------------------------------------------------------------

    def add(
        self,
        user: UserKey,
        original_filename: str,
        file_size: int,
        *,
        file_path: str | None = None,
        priority: int = 0,
        max_retries: int = MOST_RETRIES,
        max_lost: int = MOST_LOST,
        queue: str = QUEUE,
        by: str | None = None,
    ) -> Task:
        """Queue a document of a user for an audit. ``file_size`` is in bytes, ``file_path`` its location.

        Audits with a higher ``priority`` are claimed first. An audit fails after ``max_retries`` failures, or when more
        than ``max_lost`` leases are lost because workers die or hang. ``by`` is the author of the event (default:
        $SCANSTORE_USER, else the address of the user). Atomic. Raises InvalidArgument, NotFound.
        """
        (key,) = uuid7s(1)
        given_user(user)  # a wrong type is refused before the transaction
        row: dict[str, object] = {
            "id": key,
            "queue": check_text(queue, "queue"),
            "original_filename": check_text(original_filename, "original_filename", 255),
            "file_path": check_optional_text(file_path, "file_path", 500),
            "file_size": check_integer(file_size, "file_size", most=2**63 - 1),
            "rank": -check_integer(priority, "priority", least=-(2**31) + 1),
            "max_retries": check_integer(max_retries, "max_retries"),
            "max_lost": check_integer(max_lost, "max_lost"),
        }
        by = check_by(by)
        with self.db.atomic():
            row["user_id"] = owner = user_key(self.db, user)
            if by is None:
                by = self.db.execute_sql("SELECT email FROM users WHERE id = ?", (owner,)).fetchone()[0]
            now = format_time(utcnow())
            row["created_at"] = row["updated_at"] = now
            self.db.execute_sql(
                f"INSERT INTO audit_tasks ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )
            self._tell(key, "created", by, now, original_filename=row["original_filename"], file_size=row["file_size"])
            return self._row(key)

    def remove(self, audit: AuditId) -> Removed:
        """Remove an audit with its analysis, its findings and its trail. Atomic.

        Returns the number of removed rows by table. Raises NotFound, and IllegalMove while the audit is leased.
        """
        key = uuid_of(audit, "an audit", Task)
        with self.db.atomic():
            row = self._row(key)
            if row.status == "processing":
                raise IllegalMove(f"audit {key} is processing and cannot be removed; {LIFE.remedies['processing']}")
            return remove(self.db, "audit_tasks", "id = ?", (key,))

    def cancel(self, audit: AuditId, *, by: str | None = None, reason: str | None = None) -> Task:
        """Cancel a queued or leased audit, and return it. The next call of its worker raises LeaseLost.

        ``by`` is the author of the event (default: $SCANSTORE_USER, else "unknown"). Raises NotFound, and IllegalMove
        if the audit is finished.
        """
        key, reason = uuid_of(audit, "an audit", Task), check_optional_text(reason, "reason")
        by = check_by(by) or UNKNOWN
        with self.db.atomic():
            now = format_time(utcnow())
            move(
                self.db, LIFE, key, "cancelled",
                lease_until=None, next_retry_at=None, completed_at=now, updated_at=now,
            )  # fmt: skip
            self._tell(key, "cancelled", by, now, **({} if reason is None else {"reason": reason}))
            return self._row(key)

    # -- working ---------------------------------------------------------------------------------------------------

    def _take(self, scope: Scope, worker: str, limit: int, lease: float, values: Values) -> dict[Any, int]:
        found = super()._take(scope, worker, limit, lease, values)
        now = format_time(utcnow())
        for key, attempt in found.items():
            self._tell(key, "claimed", worker, now, attempt=attempt)
        return found

    def _release(self, key: Key, owner: str, attempt: int | None) -> None:
        super()._release(key, owner, attempt)
        self._tell(key, "released", owner, format_time(utcnow()))

    def _fail(self, key: Key, error: str, owner: str, attempt: int | None, retry: bool) -> str:
        status = super()._fail(key, error, owner, attempt, retry)
        now = format_time(utcnow())
        self._tell(key, "failed", owner, now, error=error[: engine.LAST_ERROR], status=status)
        return status

    def retry(self, *items: AuditId, by: str | None = None) -> Rows[Task]:
        """Let audits that failed for good wait again, with all their tries; return them. One transaction.

        ``by`` is the author of the event (default: $SCANSTORE_USER, else "unknown"). Raises NotFound, and IllegalMove
        for an audit that did not fail; nothing is changed then.
        """
        by = check_by(by) or UNKNOWN
        with self.db.atomic():
            errors = {self._id(item): self.get(item).error_message for item in items}
            rows = super().retry(*items)
            for key, error in errors.items():
                self._tell(key, "retried", by, format_time(utcnow()), error=error)
        return rows

    # -- judging ---------------------------------------------------------------------------------------------------

    def complete(
        self,
        audit: AuditId,
        *,
        analysis: Mapping[str, object],
        findings: Iterable[Mapping[str, object]] = (),
        policy: AuditPolicy = STANDARD,
        worker: str | None = None,
    ) -> Task:
        """Complete an audit with its analysis, its findings and the verdict of ``policy``. Atomic.

        Returns the audit; the result is ``audit.analysis``.

        ``analysis`` has ``equipment_type`` and ``test_type`` and may have ``equipment_tag``, ``confidence_score``
        (0 to 1), ``extraction_result`` and ``validation_result`` (any JSON). Each finding has ``severity`` (critical,
        major, minor, info), ``rule_id`` and ``message``, and may have ``evidence`` (any JSON) and ``remediation``.

        Only the worker with the lease can complete an audit; an unclaimed audit can be completed directly. Repeating
        the call with the same values is harmless. Raises InvalidArgument, NotFound, LeaseLost, and IllegalMove if the
        audit has a different analysis, has failed or was cancelled. Nothing is changed then.
        """
        columns = analysis_columns(analysis)
        found, evidence = check_findings(findings)
        judgement, name = judged(policy, found, columns["confidence_score"])
        key, owner, attempt = self._owner(audit, worker)
        new, *ids = uuid7s(len(found) + 1)
        with self.db.atomic():
            before = self._task_state(key)
            if before[0] == "completed":
                self._check_analysis(key, columns, found, evidence)
                return self._reread(audit, key)
            now = format_time(utcnow())
            self._end(key, before, owner, attempt, now, unclaimed=attempt is None and worker is None)
            row = {
                "id": new, "task_id": key, **columns,
                "verdict": judgement.verdict, "machine_verdict": judgement.verdict,
                "compliance_score": judgement.compliance_score, "policy": name, "created_at": now, "updated_at": now,
            }  # fmt: skip
            self.db.execute_sql(
                f"INSERT INTO audit_analyses ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                tuple(row.values()),
            )
            self.db.executemany(
                FINDING,
                [
                    (id, new, n, f["severity"], f["rule_id"], f["message"], text, f["remediation"], now, now)
                    for n, (id, f, text) in enumerate(zip(ids, found, evidence, strict=True), 1)
                ],
            )
            self._tell(
                key, "completed", owner, now, new,
                verdict=judgement.verdict, compliance_score=judgement.compliance_score, policy=name,
                findings=len(found),
            )  # fmt: skip
            return self._reread(audit, key)

    def _end(
        self, key: Key, before: tuple[object, ...], owner: str, attempt: int | None, now: str, *, unclaimed: bool
    ) -> None:
        status, claims = before
        if status in ("failed", "cancelled"):
            raise IllegalMove(f"audit {key} is {status} and cannot be completed; {LIFE.remedies[status]}")
        if status == "queued" and claims == 0 and unclaimed:
            self.db.execute_sql(
                "UPDATE audit_tasks SET status = 'completed', started_at = ?, completed_at = ?, next_retry_at = NULL,"
                " updated_at = ? WHERE id = ?",
                (now, now, now, key),
            )
        else:
            engine.settle(self.db, AUDITS, key, "completed", worker=owner, attempt=attempt, completed_at=now)

    def _check_analysis(
        self, key: Key, columns: dict[str, object], found: Sequence[dict[str, object]], evidence: Sequence[str | None]
    ) -> None:
        """Raise IllegalMove unless a completed audit is reported with the same analysis again."""
        row: Analysis = Analysis.get(Analysis.task == key)
        given = [
            (f["severity"], f["rule_id"], f["message"], _sorted(text), f["remediation"])
            for f, text in zip(found, evidence, strict=True)
        ]
        rules = "SELECT severity, rule_id, message, evidence, remediation FROM audit_findings WHERE analysis_id = ?"
        there = self.db.execute_sql(f"{rules} ORDER BY ordinal", (row.id,)).fetchall()
        names = ", ".join(columns)
        values = self.db.execute_sql(f"SELECT {names} FROM audit_analyses WHERE id = ?", (row.id,)).fetchone()
        if (
            [(s, r, m, _sorted(text), how) for s, r, m, text, how in there] != given
            or list(map(_sorted_json, columns, values)) != list(map(_sorted_json, columns, columns.values()))
        ):  # fmt: skip
            raise IllegalMove(f"audit {key} has a different analysis already, {row.id}; {LIFE.remedies['completed']}")

    def review(self, analysis: ResultId, verdict: ReviewVerdict, *, reason: str, by: str | None = None) -> Analysis:
        """Record a person's decision about an analysis, ``approved`` or ``rejected``, with a reason. Return the
        analysis.

        ``by`` is the person (default: $SCANSTORE_USER, else "unknown"). This requires the machine verdict ``review``,
        and can be repeated to change the decision. ``machine_verdict`` stays. Repeating the same decision by the same
        person changes nothing. Atomic. Raises NotFound, InvalidArgument,
        and IllegalMove if the machine approved or rejected the audit.
        """
        key = uuid_of(analysis, "an analysis", Analysis, Task)
        verdict, by = check_choice(verdict, "verdict", HUMAN), check_by(by) or UNKNOWN
        reason = check_text(reason, "reason")
        with self.db.atomic():
            row = self._analysis(key)
            if row.machine_verdict not in ("review", None):
                raise IllegalMove(
                    f"analysis {row.id} was {row.machine_verdict} by policy {row.policy} and cannot be"
                    " reviewed; to get another verdict, add the document again and complete it with another policy"
                )
            if (row.verdict, row.reviewed_by, row.review_reason) == (verdict, by, reason):
                return row
            now = format_time(utcnow())
            self.db.execute_sql(REVIEW, (verdict, by, reason, now, now, row.id))
            told = {"from": row.verdict, "to": verdict, "machine": row.machine_verdict, "reason": reason}
            self._tell(row.task_id, "reviewed", by, now, row.id, **told)
            return self._analysis(row.id)

    # -- queries ----------------------------------------------------------------------------------------------------

    @reads
    def list(
        self,
        *,
        user: UserKey | None = None,
        status: AuditStatus | None = None,
        verdict: AuditVerdict | None = None,
        queue: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Task]:
        """List audits, the newest first, optionally of a user, status, verdict or queue.

        Raises NotFound for an unknown user, InvalidArgument.
        """
        query = Task.select()
        if user is not None:
            query = query.where(of_user(Task.user, user))
        if status is not None:
            query = query.where(Task.status == check_choice(status, "status", STATUSES))
        if verdict is not None:
            of = Analysis.select(Analysis.task).where(Analysis.verdict == check_choice(verdict, "verdict", VERDICTS))
            query = query.where(Task.id.in_(of))
        if queue is not None:
            query = query.where(Task.queue == check_text(queue, "queue"))
        query = query.order_by(*(() if user is None else (Task.created_at.desc(),)), Task.id.desc())
        rows = listed(query, limit=limit, offset=offset, sort=sort)
        if user is not None and not rows:
            user_key(self.db, user)  # raises NotFound
        return rows

    @reads
    def analysis(self, audit: ResultId) -> Analysis:
        """Return the analysis, given the audit or the analysis. Raises NotFound."""
        return self._analysis(uuid_of(audit, "an audit", Analysis, Task))

    @reads
    def analyses(self, audits: Iterable[AuditId]) -> dict[str, Analysis]:
        """Return the analyses of several audits by audit id. Audits without an analysis are left out."""
        keys = dump_json([uuid_of(audit, "an audit", Task) for audit in check_list(audits, "audits")])
        found = read(self.db, Analysis, "task_id IN (SELECT value FROM json_each(?))", (keys,))
        return {str(row.task_id): row for row in found}

    @reads
    def findings(
        self,
        audit: ResultId,
        *,
        severity: AuditSeverity | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisFinding]:
        """List the findings of an audit in their original order, all or of one severity.

        Raises NotFound, InvalidArgument.
        """
        key = uuid_of(audit, "an audit", Analysis, Task)
        of = Analysis.select(Analysis.id).where((Analysis.id == key) | (Analysis.task == key))
        query = AnalysisFinding.select().where(AnalysisFinding.analysis == of)
        if severity is not None:
            query = query.where(AnalysisFinding.severity == check_choice(severity, "severity", SEVERITIES))
        rows = listed(query.order_by(AnalysisFinding.ordinal), limit=limit, offset=offset, sort=sort)
        if not rows:
            self._analysis(key)  # raises NotFound
        return rows

    @reads
    def trail(self, audit: ResultId, *, page: int = 1, per_page: int = 50) -> Page[AuditEvent]:
        """Return a page of the events of an audit, the oldest first, with their total. Raises NotFound."""
        check_page(page, per_page)
        key = uuid_of(audit, "an audit", Analysis, Task)
        with self.db.atomic("DEFERRED"):  # reads only
            row = Analysis.get_or_none(Analysis.id == key)
            events = AuditEvent.select().where(AuditEvent.task == (self._row(key).id if row is None else row.task_id))
            return paged(events.order_by(AuditEvent.id), page=page, per_page=per_page)

    @reads
    def stats(self, *, user: UserKey | None = None) -> AuditStats:
        """Return counts of audits, of all users or one. Raises NotFound."""
        key = None if user is None else user_key(self.db, user)
        mine = "" if key is None else " WHERE t.user_id = ?"
        run, values = self.db.execute_sql, () if key is None else (key,)
        joined = "" if key is None else " JOIN audit_tasks AS t ON t.id = a.task_id"
        with self.db.atomic("DEFERRED"):  # reads only, from one snapshot
            tasks = dict(run(f"SELECT status, count(*) FROM audit_tasks AS t{mine} GROUP BY status", values).fetchall())
            analyses = run(
                "SELECT verdict, count(*), count(reviewed_at), sum(compliance_score), count(compliance_score)"
                f" FROM audit_analyses AS a{joined}{mine} GROUP BY verdict",
                values,
            ).fetchall()
            of = f" JOIN audit_analyses AS a ON a.id = f.analysis_id{joined}{mine}" if key else ""
            findings = dict(
                run(f"SELECT severity, count(*) FROM audit_findings AS f{of} GROUP BY severity", values).fetchall()
            )
        scored = sum(row[4] for row in analyses)
        verdicts = {row[0]: row[1] for row in analyses}
        return AuditStats(
            tasks={status: tasks.get(status, 0) for status in STATUSES},
            verdicts={verdict: verdicts.get(verdict, 0) for verdict in VERDICTS},
            findings={severity: findings.get(severity, 0) for severity in SEVERITIES},
            reviewed=sum(row[2] for row in analyses),
            compliance_score=sum(row[3] or 0 for row in analyses) / scored if scored else None,
        )

    # -- rows ------------------------------------------------------------------------------------------------------

    def _scope(self, scope: str | None) -> str | None:
        return None if scope is None else check_text(scope, "queue")

    def _scopes(self) -> List[Scope]:
        return [key for (key,) in self.db.execute_sql(QUEUES).fetchall()]

    def _unknown(self, key: Key) -> NotFound:
        return _unknown(key)

    def _task_state(self, key: Key) -> tuple[str, int]:
        row = self.db.execute_sql("SELECT status, attempt FROM audit_tasks WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise _unknown(key)
        return row[0], row[1]

    def _analysis(self, key: str) -> Analysis:
        rows = read(self.db, Analysis, "id = ?1 OR task_id = ?1", (key,))
        if not rows:
            task = self._row(key)
            raise NotFound(f"audit {key} is {task.status} and has no analysis; complete it with store.audits.complete")
        return rows[0]

    def _tell(self, key: Key, action: str, by: str, now: str, analysis: str | None = None, **detail: object) -> None:
        self.db.execute_sql(EVENT, (key, analysis, action, by, dump_json(detail), now))


def _unknown(key: object) -> NotFound:
    return NotFound(f"no audit {key}; store.audits.list() (scanstore audits list) lists all audits")


def _sorted(text: str | None) -> str | None:
    """Return canonical JSON text, so that equal values are equal."""
    return None if text is None else json.dumps(json.loads(text), sort_keys=True)


def _sorted_json(column: str, value: Any) -> Any:
    return _sorted(value) if column in ("extraction_result", "validation_result") else value
