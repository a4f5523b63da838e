"""Publishing of verified findings as findings.

A confirmed draft has one verified finding, which a worker claims to enrich. Publishing it creates or updates its
finding. People decide the status of a finding, so publishing again updates everything else and changes a status only if
votes alone had set it.

Change here: which values of the draft a finding gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from scanstore.analysis import lifecycle
from scanstore.analysis.models import DraftFinding, VerifiedFinding
from scanstore.analysis.verified import UNLEASED, WITHDRAWN, Verified, _turn
from scanstore.db import paths
from scanstore.db.arguments import check_choice, check_cwe, clean_text
from scanstore.db.database import Database
from scanstore.db.state_machine import SEVERITIES, move
from scanstore.errors import InvalidArgument, shown
from scanstore.findings import findings, tracking
from scanstore.findings.cvss import rated
from scanstore.findings.identity import Traits, traits_of
from scanstore.findings.models import Finding
from scanstore.leases import engine

if TYPE_CHECKING:
    from scanstore.db.words import Severity


class StoreFindings(findings.Findings):
    """Publish, list, compare and triage findings. This is ``store.findings``."""

    def publish(
        self,
        verified: VerifiedFinding | int,
        *,
        worker: str | None = None,
        title: str | None = None,
        severity: Severity | None = None,
        cwe: str | int | None = None,
        vulnerability_details: str = "",
        proof_of_concept: str = "",
        remediation_steps: str = "",
        references: str | Iterable[str] = "",
        cvss_score: float | None = None,
        cvss_vector: str | None = None,
    ) -> Finding:
        """Publish a verified finding as a finding and complete it, in one transaction. Return the finding.

        File, lines, snippet and type come from the draft and its votes, as do title, CWE and severity unless given.
        ``references`` may be a list, which is stored one per line. ``cvss_score`` is 0 to 10, by default the base score
        of ``cvss_vector`` (version 2, 3 or 4; needs ``scanstore[cvss]``).

        A finding of an earlier scan of the target is recognised and updated (:mod:`scanstore.findings.tracking`).
        Publishing again updates the finding and keeps its ``status``, except that a false positive set by votes alone,
        not by a person, is reopened. A pending verified finding can be published without a claim. Raises LeaseLost if
        the worker's lease is lost, IllegalMove if the verified finding has failed or is leased to another worker,
        NotFound, InvalidArgument.
        """
        engine.check_lease(worker, engine.LEASE)
        texts = {
            "vulnerability_details": clean_text(vulnerability_details, "vulnerability_details"),
            "proof_of_concept": clean_text(proof_of_concept, "proof_of_concept"),
            "remediation_steps": clean_text(remediation_steps, "remediation_steps"),
            "references": _lines(references),
        }
        given = {
            "title": None if title is None else clean_text(title, "title", needed=True),
            "severity": None if severity is None else check_choice(severity, "severity", SEVERITIES),
            "cwe": check_cwe(cwe, "cwe"),
        }
        score, vector = rated(cvss_score, cvss_vector)
        stage = Verified(self.db)
        key = stage._id(verified)
        leased = stage.queue.leased
        claimed = stage._acts_as_owner(verified, worker)
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
                lifecycle.advance(self.db, row.scan_id)
            return self.get(found)


def _lines(references: object) -> str:
    if references is None or isinstance(references, str):
        return clean_text(references, "references")
    if not isinstance(references, Iterable) or isinstance(references, bytes):
        raise InvalidArgument(f"references is {shown(references)}; give a text or a list of texts")
    return "\n".join(clean_text(each, f"references[{n}]", needed=True) for n, each in enumerate(references))


# Functions and classes around a line, the innermost first.
AROUND = """
SELECT qualified_name FROM symbols
 WHERE scan_id = ? AND file_path = ? AND start_line <= ? AND end_line >= ?
   AND symbol_type IN ('function', 'method', 'class')
 ORDER BY start_line DESC, end_line LIMIT 1
"""


# Other drafts of the same type in a file that may still be published.
SIBLINGS = """
SELECT d.* FROM draft_findings AS d
  LEFT JOIN verified_findings AS v ON v.draft_id = d.id LEFT JOIN sightings AS s ON s.verified_id = v.id
 WHERE d.scan_id = ? AND d.file_path = ? AND d.vulnerability_type = ? AND d.id <> ?
   AND d.status IN ('pending', 'verifying', 'verified') AND s.scan_id IS NULL
 ORDER BY d.id
"""


def _siblings(draft: DraftFinding) -> list[DraftFinding]:
    return list(DraftFinding.raw(SIBLINGS, draft.scan_id, draft.file_path, draft.vulnerability_type, draft.id))


def _lines_of(db: Database, draft: DraftFinding) -> Sequence[str] | None:
    """Return the lines of a draft's file, if the file exists and has not changed since the scan."""
    from scanstore.indexing.files import load  # start-up: loads ast
    from scanstore.indexing.python.source import decode  # start-up: loads ast

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
    """Return the traits that identify a draft in later scans."""
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
