"""Verified findings and what is published of them.

A draft that the vote confirmed has one verified finding, which is claimed to be enriched; publishing that makes or
updates its one finding. A finding's status is a person's decision: publishing again brings everything else up to date.

Change here: what a verdict does to what came of earlier ones, and what a finding takes over from its draft.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import peewee

from scanstore import leases, life
from scanstore.cvss import rated
from scanstore.database import Database, Domain, bound
from scanstore.drafts import DraftFinding, Leased, Vote
from scanstore.errors import InvalidArgument, NotFound
from scanstore.facts import Lineage
from scanstore.fields import Base, EnumField, HashField, JSONField, UTCField, utcnow
from scanstore.reports import cwe as checked_cwe
from scanstore.reports import text, whole, word
from scanstore.scans import Scan
from scanstore.stages import Stage
from scanstore.states import FINDING_STATUSES, SEVERITIES, VERIFIED_STATUSES, Machine, move


class VerifiedFinding(Leased):
    """A draft that was verified, with what its voters know about it; one per draft."""

    if TYPE_CHECKING:
        draft_id: Any
        scan_id: Any

    draft = peewee.ForeignKeyField(DraftFinding, on_delete="CASCADE", unique=True, backref="verified")
    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="verified")
    title: Any = peewee.TextField()
    confidence: Any = peewee.IntegerField()
    attack_vector = peewee.TextField(default="")
    data_flow = peewee.TextField(default="")
    adjusted_severity: Any = EnumField(SEVERITIES)
    status: Any = EnumField(VERIFIED_STATUSES, default="pending")

    class Meta:
        table_name = "verified_findings"


class Finding(Base):
    """What is to be fixed: one row for all scans of its target that saw it, as the last of them did.

    ``status`` is what people decided, everything else what was reported. ``scan`` saw it last, ``first_scan`` first;
    ``rule_id`` is the rule of ``tool``. What it is recognised by is explained in :mod:`scanstore.identity`.
    """

    if TYPE_CHECKING:
        id: Any
        lineage_id: Any
        scan_id: Any
        first_scan_id: Any
        verified_id: Any

    lineage = peewee.ForeignKeyField(Lineage, on_delete="CASCADE", backref="+", index=False)
    scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="findings")
    first_scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="first_findings")
    verified = peewee.ForeignKeyField(VerifiedFinding, on_delete="SET NULL", null=True, unique=True, backref="findings")
    tool: Any = peewee.TextField(default="scanstore")
    rule_id: Any = peewee.TextField()
    title: Any = peewee.TextField()
    message: Any = peewee.TextField(default="")
    vulnerability_type: Any = peewee.TextField()
    severity: Any = EnumField(SEVERITIES)
    status: Any = EnumField(FINDING_STATUSES, default="open")
    file_path: Any = peewee.TextField()
    line_number: Any = peewee.IntegerField(null=True)
    end_line: Any = peewee.IntegerField(null=True)
    start_column: Any = peewee.IntegerField(null=True)
    end_column: Any = peewee.IntegerField(null=True)
    snippet: Any = peewee.TextField(default="")
    cwe: Any = peewee.TextField(null=True)
    confidence: Any = peewee.IntegerField(null=True)
    vulnerability_details: Any = peewee.TextField(default="")
    proof_of_concept: Any = peewee.TextField(default="")
    remediation_steps: Any = peewee.TextField(default="")
    references: Any = peewee.TextField(default="")
    cvss_score: Any = peewee.FloatField(null=True)
    cvss_vector: Any = peewee.TextField(null=True)
    symbol: Any = peewee.TextField(null=True)
    line_hash: Any = HashField(null=True)
    context_hash: Any = HashField(null=True)
    message_key: Any = peewee.TextField(default="")
    fingerprints: Any = JSONField(default=dict)
    detail: Any = peewee.BlobField(null=True)
    created_at = UTCField(default=utcnow)
    updated_at = UTCField(default=utcnow)

    class Meta:
        table_name = "findings"
        indexes = ((("lineage", "tool", "rule_id"), False), (("lineage", "file_path"), False))


# Moves of a verified finding that nobody has leased; leases.py makes the others.
UNLEASED = Machine(
    "verified_findings",
    "verified finding",
    {"complete": ("pending", "complete")},
    {
        "enriching": "its worker has to complete or release it first",
        "failed": "let it wait again first: store.verified.retry(scan)",
    },
)

CONFIRM = """
INSERT INTO verified_findings
       (draft_id, scan_id, title, confidence, attack_vector, data_flow, adjusted_severity, rank)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (draft_id) DO UPDATE SET title = excluded.title, confidence = excluded.confidence,
       attack_vector = excluded.attack_vector, data_flow = excluded.data_flow,
       adjusted_severity = excluded.adjusted_severity, rank = excluded.rank,
       status = 'pending', retry_count = 0, lease_until = NULL, next_retry_at = NULL, error = NULL
RETURNING id
"""
PUBLISHED = (
    "lineage_id", "scan_id", "first_scan_id", "verified_id", "rule_id", "title", "vulnerability_type", "severity", "file_path", "line_number", "end_line",
    "snippet", "cwe", "confidence", "vulnerability_details", "proof_of_concept", "remediation_steps", "references",
    "cvss_score", "cvss_vector",
)  # fmt: skip
PUBLISH = "INSERT INTO findings ({}) VALUES ({}) ON CONFLICT (verified_id) DO UPDATE SET {} RETURNING id".format(
    ", ".join(f'"{column}"' for column in PUBLISHED),
    ", ".join("?" * len(PUBLISHED)),
    ", ".join(f'"{column}" = excluded."{column}"' for column in PUBLISHED if column != "first_scan_id"),
)


SEEN = """
INSERT INTO sightings (scan_id, finding_id, verified_id, state, file_path, line_number, end_line)
SELECT scan_id, id, verified_id, 'new', file_path, line_number, end_line FROM findings WHERE id = ?
    ON CONFLICT (scan_id, finding_id) DO UPDATE SET verified_id = excluded.verified_id,
       file_path = excluded.file_path, line_number = excluded.line_number, end_line = excluded.end_line
"""


# What a verdict on a draft does, inside the transaction that records it


def confirm(db: Database, draft: DraftFinding, votes: Sequence[Vote], confidence: int) -> int:
    """Make the verified finding of a draft, or bring it up to date and let it wait again; return its id.

    The severity is what most agreeing votes say, the worse one in a tie; the texts are those of the surest vote.
    """
    agreeing = [vote for vote in votes if vote.decision == "verified"]
    agreeing.sort(key=lambda vote: -1 if vote.confidence is None else vote.confidence, reverse=True)
    said = Counter(vote.severity for vote in agreeing if vote.severity is not None)
    severity = min(said, key=lambda word: (-said[word], SEVERITIES.index(word)), default=draft.severity)
    texts = (
        next((vote.attack_vector for vote in agreeing if vote.attack_vector), ""),
        next((vote.data_flow for vote in agreeing if vote.data_flow), ""),
    )
    values = (draft.id, draft.scan_id, draft.title, confidence, *texts, severity, SEVERITIES.index(severity))
    return int(db.execute_sql(CONFIRM, values).fetchall()[0][0])


def withdraw(db: Database, draft: DraftFinding, outcome: str) -> int | None:
    """Take back what an earlier round verified: delete it, or fail it when a finding came of it; return its id then."""
    found = db.execute_sql(
        "SELECT v.id, f.id FROM verified_findings AS v LEFT JOIN findings AS f ON f.verified_id = v.id"
        " WHERE v.draft_id = ?",
        (draft.id,),
    ).fetchall()
    if not found:
        return None
    verified, finding = found[0]
    if finding is None:
        db.execute_sql("DELETE FROM verified_findings WHERE id = ?", (verified,))
        return None
    db.execute_sql(
        "UPDATE verified_findings SET status = 'failed', lease_until = NULL, next_retry_at = NULL, error = ?"
        " WHERE id = ?",
        (f"{outcome} in round {draft.round}", verified),
    )
    db.execute_sql("UPDATE findings SET status = 'false_positive' WHERE id = ? AND status = 'open'", (finding,))
    return int(verified)


List = list  # the classes below have a method of that name


class Verified(Stage[VerifiedFinding]):
    """Verified findings: claimed to be enriched, completed by :meth:`Findings.publish`."""

    queue = leases.VERIFIED
    model = VerifiedFinding

    @bound
    def list(self, scan: Scan | int, *, status: str | None = None, limit: int | None = None) -> List[VerifiedFinding]:
        """Verified findings of a scan, the most severe first and then the oldest; of one status if given.

        Raises InvalidArgument for a status that there is not.
        """
        query = VerifiedFinding.select().where(VerifiedFinding.scan == self._scan(scan))
        if status is not None:
            query = query.where(VerifiedFinding.status == status)
        query = query.order_by(VerifiedFinding.rank, VerifiedFinding.id)
        return list(query.limit(whole("limit", limit, 0, 2**31)))


class Findings(Domain):
    """Findings: published from verified ones, listed."""

    @bound
    def publish(
        self,
        verified: VerifiedFinding | int,
        *,
        worker: str | None = None,
        title: str | None = None,
        severity: str | None = None,
        cwe: str | int | None = None,
        vulnerability_details: str = "",
        proof_of_concept: str = "",
        remediation_steps: str = "",
        references: str | Iterable[str] = "",
        cvss_score: float | None = None,
        cvss_vector: str | None = None,
    ) -> Finding:
        """Publish a verified finding as its one finding and complete it; one transaction. Returns the finding.

        File, lines, snippet, type and, unless given, title, CWE and severity are those of the draft and its votes.
        ``references`` may be a list, kept a line each. ``cvss_score`` is 0 to 10, and by default the base score of
        ``cvss_vector``, of which versions 2, 3 and 4 are known (needs ``scanstore[cvss]``).

        Published again, the finding is what it was published as last, and keeps its ``status``. A verified finding that
        waits unclaimed may be published directly. Raises LeaseLost when it was claimed and is leased to the worker no
        more, IllegalMove for one that has failed or is leased to somebody, NotFound, InvalidArgument.
        """
        leases.check_lease(worker, leases.LEASE)
        texts = {
            "vulnerability_details": text("vulnerability_details", vulnerability_details),
            "proof_of_concept": text("proof_of_concept", proof_of_concept),
            "remediation_steps": text("remediation_steps", remediation_steps),
            "references": _lines(references),
        }
        given = {
            "title": None if title is None else text("title", title, needed=True),
            "severity": None if severity is None else word("severity", severity, SEVERITIES),
            "cwe": checked_cwe("cwe", cwe),
        }
        score, vector = rated(cvss_score, cvss_vector)
        stage = self.store.verified
        key = stage._key(verified)[0]
        leased = stage.queue.leased
        claimed = worker is not None or (isinstance(verified, VerifiedFinding) and verified.status == leased)
        with self.db.atomic():
            row = stage.get(key)
            draft: DraftFinding = row.draft
            values = {
                **{name: getattr(draft, name) for name in DRAFTED},
                **{"scan_id": row.scan_id, "first_scan_id": row.scan_id, "lineage_id": row.scan.lineage_id},
                **{"verified_id": key, "rule_id": draft.vulnerability_type, "confidence": row.confidence},
                **{"title": row.title, "severity": row.adjusted_severity, "cwe": draft.cwe},
                **{name: value for name, value in given.items() if value is not None},
                **texts,
                **{"cvss_score": score, "cvss_vector": vector},
            }
            found = self.db.execute_sql(PUBLISH, [values[column] for column in PUBLISHED]).fetchall()
            self.db.execute_sql(SEEN, (found[0][0],))
            if claimed or row.status == leased:
                stage._settle(verified, "complete", worker=worker)
            else:
                move(self.db, UNLEASED, key, "complete", error=None, next_retry_at=None)
                life.advance(self.db, row.scan_id)
            return self.get(found[0][0])

    @bound
    def get(self, finding: Finding | int) -> Finding:
        """The finding with that id, read anew. Raises NotFound."""
        key: Any = finding
        if isinstance(finding, Finding):
            finding.check_home()
            key = finding.id or 0
        if isinstance(key, bool) or not isinstance(key, int):
            raise InvalidArgument(f"{finding!r} is not a finding; give a Finding or its id")
        found: Finding | None = Finding.get_or_none(Finding.id == key) if 0 < key < 2**63 else None
        if found is None:
            raise NotFound(f"no finding {key}; store.findings.list() (scanstore findings list) shows the known ones")
        return found

    @bound
    def list(
        self,
        scan: Scan | int | None = None,
        *,
        status: str | None = None,
        severity: str | None = None,
        file: str | None = None,
        limit: int | None = None,
    ) -> List[Finding]:
        """Findings of a scan (default: the latest), the most severe first and then by file and line.

        Of one status, severity or file if given. Raises InvalidArgument for a status or severity that there is not.
        """
        query = Finding.select().where(Finding.scan == self.store.scans.pick(scan))
        if status is not None:
            query = query.where(Finding.status == status)
        if severity is not None:
            query = query.where(Finding.severity == severity)
        if file is not None:
            query = query.where(Finding.file_path == file)
        rank = peewee.Case(Finding.severity, [(word, n) for n, word in enumerate(SEVERITIES)])
        query = query.order_by(rank, Finding.file_path, Finding.line_number, Finding.id)
        return list(query.limit(whole("limit", limit, 0, 2**31)))


DRAFTED = ("vulnerability_type", "file_path", "line_number", "end_line", "snippet")


def _lines(references: Any) -> str:
    if references is None or isinstance(references, str):
        return text("references", references)
    if not isinstance(references, Iterable) or isinstance(references, bytes):
        raise InvalidArgument(f"references is {references!r:.80}; give a text or a list of texts")
    return "\n".join(text(f"references[{n}]", each, needed=True) for n, each in enumerate(references))
