"""Verified findings and what is published of them.

A draft that the vote confirmed has one verified finding, which is claimed to be enriched; publishing that makes or
updates its one finding. A finding's status is a person's decision: publishing again brings everything else up to date,
and takes back only what votes alone had decided.

Change here: what a verdict does to what came of earlier ones, and what a finding takes over from its draft.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import peewee

from scanstore import leases, life, paths
from scanstore.arguments import some_text, stored_path
from scanstore.cvss import rated
from scanstore.database import Database, bound
from scanstore.decisions import VOTED, Triage
from scanstore.drafts import DraftFinding, Leased, Vote
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.facts import Lineage
from scanstore.fields import Base, EnumField, HashField, JSONField, UTCField, format_time, utcnow
from scanstore.identity import Traits, traits_of
from scanstore.reports import cwe as checked_cwe
from scanstore.reports import text, whole, word
from scanstore.scans import Scan, Scans
from scanstore.stages import Stage
from scanstore.states import FINDING_STATUSES, SEVERITIES, SIGHTINGS, VERIFIED_STATUSES, Machine, move

if TYPE_CHECKING:
    from scanstore.seen import FindingDiff
    from scanstore.sightings import Sighting


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

    state: str | None = None  #: what the scan said of it for which it was listed

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
       status = 'pending', retry_count = 0, lost_count = 0, lease_until = NULL, lease_clock = NULL,
       next_retry_at = NULL, error = NULL
RETURNING id
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
        "SELECT v.id, s.finding_id FROM verified_findings AS v LEFT JOIN sightings AS s ON s.verified_id = v.id"
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
        "UPDATE verified_findings SET status = 'failed', lease_until = NULL, lease_clock = NULL, next_retry_at = NULL,"
        " error = ?"
        " WHERE id = ?",
        (f"{outcome} in round {draft.round}", verified),
    )
    _turn(db, OPEN, finding, draft.scan_id, ("open", "false_positive"), f"{outcome} in round {draft.round}")
    return int(verified)


# Whether votes of this scan have a say: a later one that saw it knows better, and so does a person.
OPEN = """
SELECT 1 FROM findings AS f WHERE f.id = ?1 AND f.status = 'open'
   AND NOT EXISTS (SELECT 1 FROM sightings WHERE finding_id = f.id AND scan_id > ?2 AND state <> 'fixed')
"""
WITHDRAWN = f"""
{VOTED.replace("?", "?1")} AND coalesce(e.scan_id, 0) <= ?2
   AND EXISTS (SELECT 1 FROM findings WHERE id = ?1 AND status = 'false_positive')
"""


def _turn(db: Database, may: str, finding: int, scan_id: int, move: tuple[str, str], note: str) -> None:
    """Change a status as the votes of a scan have it, where they may."""
    from scanstore.tracking import set_status

    if db.execute_sql(may, (finding, scan_id)).fetchall():
        set_status(db, scan_id, [(finding, *move)], format_time(utcnow()), note)


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
            query = query.where(VerifiedFinding.status == VerifiedFinding.status.db_value(status))
        query = query.order_by(VerifiedFinding.rank, VerifiedFinding.id)
        return list(query.limit(whole("limit", limit, 0, 2**31)))

    @bound
    def retry(self, scan: Scan | int, *, ids: Sequence[int] | None = None) -> int:
        """Let rows that failed wait again, all of a scan or those of ``ids``, with all their tries; how many did.

        Those that later votes took back stay as they are.
        """
        sql = f"SELECT id FROM verified_findings WHERE scan_id = ? AND status = 'failed' AND {life.UPHELD}"
        known = {key for (key,) in self.db.execute_sql(sql, (self._scan(scan),))}
        return super().retry(scan, ids=sorted(known if ids is None else known.intersection(leases.row_ids(ids))))


class Findings(Triage):
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

        What an earlier scan of the target published is recognised and brought up to date (:mod:`scanstore.tracking`).
        Published again, the finding is what it was published as last, and keeps its ``status``, except that a false
        positive by votes alone, not by a person's word, is open again. A verified finding that waits unclaimed may be
        published directly. Raises LeaseLost when it was claimed and is leased to the worker no more,
        IllegalMove for one that has failed or is leased to somebody, NotFound, InvalidArgument.
        """
        from scanstore import tracking

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
        stage = Verified(self.db)
        key = stage._key(verified)[0]
        leased = stage.queue.leased
        claimed = worker is not None or (isinstance(verified, VerifiedFinding) and verified.status == leased)
        draft: DraftFinding = stage.get(key).draft
        lines = _lines_of(self.db, draft)
        with self.db.atomic():
            row = stage.get(key)
            draft = row.draft
            found = tracking.publish(
                self.db, row.scan_id,
                tracking.Incoming(
                    tool="scanstore", rule_id=draft.vulnerability_type, title=given["title"] or row.title, message="",
                    vulnerability_type=draft.vulnerability_type, severity=given["severity"] or row.adjusted_severity,
                    file_path=draft.file_path, traits=_traits(self.db, draft, lines),
                    line_number=draft.line_number, end_line=draft.end_line, snippet=draft.snippet,
                    cwe=given["cwe"] or draft.cwe, confidence=row.confidence, verified_id=key,
                    more={**texts, "cvss_score": score, "cvss_vector": vector},
                ),
                others=[_traits(self.db, other, lines) for other in _siblings(draft)],
            )  # fmt: skip
            _turn(self.db, WITHDRAWN, found, row.scan_id, ("false_positive", "open"), "verified again")
            if claimed or row.status == leased:
                stage._settle(verified, "complete", worker=worker)
            else:
                move(self.db, UNLEASED, key, "complete", error=None, next_retry_at=None, lease_clock=None)
                life.advance(self.db, row.scan_id)
            return self.get(found)

    @bound
    def list(
        self,
        scan: Scan | int | None = None,
        *,
        status: str | None = None,
        severity: str | None = None,
        file: str | None = None,
        state: str | None = None,
        tool: str | None = None,
        suppressed: bool | None = None,
        limit: int | None = None,
        target: str | None = None,
    ) -> List[Finding]:
        """Findings of a target, whichever tool saw them last, or only those that one scan saw, as it saw them.

        The target may be left out when the store has one. The most severe come first, then by file and line. Each
        says in ``state`` what became of it since the tools ran before (:meth:`baseline`), or in that scan: ``new``,
        ``unchanged``, ``updated``, ``reopened``, ``fixed``, and, without a scan, ``not_checked``; those that are fixed
        are listed when ``state`` asks for them. Of one status, severity, file, state or tool if given; ``suppressed``
        lists only those that are hidden by a suppression that counts, or only the others. Raises InvalidArgument for an
        unknown word, Ambiguous without scan and target when the store has several targets, NotFound.
        """
        from scanstore import seen

        if scan is not None and state == "not_checked":
            raise InvalidArgument("a scan lists what it saw; leave it out to list what was not_checked")
        severity = None if severity is None else word("severity", severity, SEVERITIES)
        status = None if status is None else word("status", status, FINDING_STATUSES)
        state = None if state is None else word("state", state, (*SIGHTINGS, "not_checked"))
        file = None if file is None else stored_path(file, "file")
        tool = None if tool is None else some_text(tool, "tool")
        most = whole("limit", limit, 0, 2**31)
        some = most if suppressed is None else None
        row = self.pick(scan, target)
        if scan is None:
            before = self.baseline(row)
            found = seen.current(
                self.db, row.lineage_id, row.id, 0 if before is None else before.id, status=status, severity=severity,
                file=file, state=state, tool=tool, limit=some,
            )  # fmt: skip
        else:
            found = seen.listed(
                self.db, row.id, status=status, severity=severity, file=file, state=state,
                tool=tool, limit=some,
            )  # fmt: skip
        if suppressed is not None:
            hidden = {key for key, why in self.suppressed(found).items() if not why.expired}
            found = [each for each in found if (each.id in hidden) is suppressed][:most]
        return found

    @bound
    def sightings(self, finding: Finding | int) -> List[Sighting]:
        """What each scan saw of a finding, the oldest first. Raises NotFound."""
        from scanstore.sightings import Sighting

        key = self.get(finding).id
        return list(Sighting.select().where(Sighting.finding == key).order_by(Sighting.scan))

    @bound
    def diff(self, a: Scan | int, b: Scan | int | None = None) -> FindingDiff:
        """What became of the findings of a target from scan ``a`` to scan ``b`` (default: :meth:`latest` of it).

        Goes by what the scans from the first to ``b`` said. ``not_checked`` ones were there in ``a`` and are not known
        to be fixed, as ``b`` did not look for them. The most severe first. Raises InvalidArgument for scans of
        different targets.
        """
        from scanstore import seen

        first = Scans(self.db).get(a)
        second = self.latest(first.target) if b is None else Scans(self.db).get(b)
        if first.lineage_id != second.lineage_id:
            raise InvalidArgument(
                f"scan {first.id} is of {first.target} and scan {second.id} of {second.target};"
                " compare scans of one target"
            )
        return seen.diff(self.db, first.lineage_id, first.id, second.id)

    @bound
    def baseline(self, scan: Scan | int) -> Scan | None:
        """The scan with which this one is compared: the latest before the tools of the target ran last.

        Goes back from the scan to where a tool repeats, so that what is new does not depend on which tool ran last.
        None when no tool has run twice. Raises NotFound.
        """
        from scanstore.looks import Looks

        row = Scans(self.db).get(scan)
        found = Looks(self.db, row.lineage_id, row.id).baseline
        return None if found is None else Scans(self.db).get(found)

    @bound
    def troubles(self, target: str | None = None, *, scan: Scan | int | None = None) -> List[str]:
        """Why nothing is to be concluded from what was not found: tools that failed, results that were left out.

        By the latest run of each tool of a target (default: the only one), or by the runs of one scan. Empty when
        everything was looked at, as far as the tools say. Raises NotFound, Ambiguous.
        """
        from scanstore.looks import Looks

        row = self.pick(scan, target)
        return Looks(self.db, row.lineage_id, row.id).troubles(None if scan is None else row.id)

    @bound
    def pick(self, scan: Scan | int | None, target: str | None = None) -> Scan:
        """Return the scan that a question about findings is about: the given one, else :meth:`latest` of a target.

        Without a target, the store must have only one. Raises Ambiguous (with the names of the targets as
        ``candidates``) when it has several, NotFound, and InvalidArgument when both are given.
        """
        if scan is not None:
            return Scans(self.db).pick(scan, target)
        return self.latest(Scans(self.db).sole_target() if target is None else target)

    @bound
    def latest(self, target: str | None = None, *, before: Scan | int | None = None) -> Scan:
        """The latest scan that looked for findings, else the latest completed one; of one target or else of all.

        With ``before``, a scan, the latest of its target that is earlier and looked for findings. Raises NotFound when
        there is none. Lists, diffs and reports do not take the latest of all targets, see :meth:`pick`.
        """
        first = None if before is None else Scans(self.db).get(before)
        if first is not None:
            target = first.target
        found = self.db.execute_sql(LATEST, {"target": target, "before": first and first.id}).fetchall()
        if found:
            return Scans(self.db).get(found[0][0])
        if first is not None:
            raise NotFound(
                f"scan {first.id} is the first of {target} that looked for findings; scan it again to compare"
            )
        return Scans(self.db).latest(target)


# That a scan saw nothing is something, once it was looked.
LOOKS = """(s.analyzed_at IS NOT NULL OR EXISTS (SELECT 1 FROM sightings AS g WHERE g.scan_id = s.id)
        OR EXISTS (SELECT 1 FROM tool_runs AS r WHERE r.scan_id = s.id))"""
LATEST = f"""
SELECT s.id FROM scans AS s
 WHERE (:target IS NULL OR s.lineage_id = (SELECT id FROM lineages WHERE target = :target))
   AND (:before IS NULL OR s.id < :before) AND {LOOKS}
 ORDER BY s.id DESC LIMIT 1
"""


def _lines(references: Any) -> str:
    if references is None or isinstance(references, str):
        return text("references", references)
    if not isinstance(references, Iterable) or isinstance(references, bytes):
        raise InvalidArgument(f"references is {shown(references)}; give a text or a list of texts")
    return "\n".join(text(f"references[{n}]", each, needed=True) for n, each in enumerate(references))


# Functions and classes around a line, the innermost first.
AROUND = """
SELECT qualified_name FROM symbols
 WHERE scan_id = ? AND file_path = ? AND start_line <= ? AND end_line >= ?
   AND symbol_type IN ('function', 'method', 'class')
 ORDER BY start_line DESC, end_line LIMIT 1
"""


# What else of a kind was reported in a file and may still be published.
SIBLINGS = """
SELECT d.* FROM draft_findings AS d
  LEFT JOIN verified_findings AS v ON v.draft_id = d.id LEFT JOIN sightings AS s ON s.verified_id = v.id
 WHERE d.scan_id = ? AND d.file_path = ? AND d.vulnerability_type = ? AND d.id <> ?
   AND d.status IN ('pending', 'verifying', 'verified') AND s.scan_id IS NULL
 ORDER BY d.id
"""


def _siblings(draft: DraftFinding) -> List[DraftFinding]:
    return list(DraftFinding.raw(SIBLINGS, draft.scan_id, draft.file_path, draft.vulnerability_type, draft.id))


def _lines_of(db: Database, draft: DraftFinding) -> Sequence[str] | None:
    """The lines of a draft's file, if the tree is there and the file is as it was scanned."""
    from scanstore.indexing.pytext import decode
    from scanstore.indexing.reading import load

    row = db.execute_sql(
        "SELECT s.root, g.file_hash FROM scans AS s JOIN scan_files AS g ON g.scan_id = s.id"
        " WHERE s.id = ? AND g.file_path = ?",
        (draft.scan_id, draft.file_path),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    full = paths.file_in(paths.stored_root(row[0]), draft.file_path)
    if full is None or paths.kept_in_cloud(full):
        return None
    try:
        content, digest = load(full)
        return decode(content).split("\n") if digest == row[1] else None
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def _traits(db: Database, draft: DraftFinding, lines: Sequence[str] | None) -> Traits:
    """What a draft is recognised by in later scans."""
    where = (draft.scan_id, draft.file_path)
    line = draft.line_number
    around = db.execute_sql(AROUND, (*where, line, line)).fetchone() if line else None
    file = db.execute_sql("SELECT file_hash FROM scan_files WHERE scan_id = ? AND file_path = ?", where).fetchone()
    return traits_of(
        lines,
        tool="scanstore",
        rule=draft.vulnerability_type,
        path=draft.file_path,
        line=line,
        snippet=draft.snippet,
        symbol=around and around[0],
        file_hash=file and file[0],
    )
