"""Findings: published from verified ones, listed, compared.

A draft that the vote confirmed has one verified finding, which is claimed to be enriched; publishing that makes or
updates its one finding. A finding's status is a person's decision: publishing again brings everything else up to date,
and takes back only what votes alone had decided.

Change here: what a finding takes over from its draft.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from scanstore import leases, life, paths, seen, tracking
from scanstore.analysis_rows import DraftFinding, VerifiedFinding
from scanstore.arguments import cwe as checked_cwe
from scanstore.arguments import some_text, stored_path, text, whole, word
from scanstore.cvss import rated
from scanstore.database import Database
from scanstore.decisions import Triage
from scanstore.domain import bound
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.finding_rows import Finding, Sighting
from scanstore.identity import Traits, traits_of
from scanstore.looks import Looks
from scanstore.scan_rows import Scan
from scanstore.scans import Scans
from scanstore.seen import FindingDiff
from scanstore.states import FINDING_STATUSES, SEVERITIES, SIGHTINGS, move
from scanstore.verified import UNLEASED, WITHDRAWN, Verified, _turn

List = list  # the classes below have a method of that name


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
        key = self.get(finding).id
        return list(Sighting.select().where(Sighting.finding == key).order_by(Sighting.scan))

    @bound
    def diff(self, a: Scan | int, b: Scan | int | None = None) -> FindingDiff:
        """What became of the findings of a target from scan ``a`` to scan ``b`` (default: :meth:`latest` of it).

        Goes by what the scans from the first to ``b`` said. ``not_checked`` ones were there in ``a`` and are not known
        to be fixed, as ``b`` did not look for them. The most severe first. Raises InvalidArgument for scans of
        different targets.
        """
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
        row = Scans(self.db).get(scan)
        found = Looks(self.db, row.lineage_id, row.id).baseline
        return None if found is None else Scans(self.db).get(found)

    @bound
    def troubles(self, target: str | None = None, *, scan: Scan | int | None = None) -> List[str]:
        """Why nothing is to be concluded from what was not found: tools that failed, results that were left out.

        By the latest run of each tool of a target (default: the only one), or by the runs of one scan. Empty when
        everything was looked at, as far as the tools say. Raises NotFound, Ambiguous.
        """
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
