"""Findings: list them, and compare them between scans.

Change here: which scan a query reads. Listing is in ``listing``, decisions are in ``triage``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.arguments import check_bool, check_choice, check_cwe, check_string, stored_path
from scanstore.db.domain import List, reads
from scanstore.db.pagination import arranged, check_window, listed
from scanstore.db.rows import Rows
from scanstore.db.state_machine import FINDING_STATES, FINDING_STATUSES, SEVERITIES
from scanstore.errors import InvalidArgument, NotFound
from scanstore.findings import listing
from scanstore.findings.listing import FindingDiff
from scanstore.findings.looks import Looks
from scanstore.findings.models import Finding, Sighting
from scanstore.findings.triage import Triage
from scanstore.snapshots import scans
from scanstore.snapshots.models import Scan
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.db.database import Database
    from scanstore.db.words import FindingState, FindingStatus, Severity


class Findings(Triage):
    """List, compare and triage findings."""

    @reads
    def list(
        self,
        scan: Scan | int | None = None,
        *,
        status: FindingStatus | None = None,
        severity: Severity | None = None,
        file: str | None = None,
        state: FindingState | None = None,
        tool: str | None = None,
        rule: str | None = None,
        cwe: str | int | None = None,
        suppressed: bool | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Finding]:
        """List the findings of a target, of all tools, or only those of one scan with the values of that scan.

        The target can be omitted if the store has only one. Findings are sorted by severity, file and line. The
        ``state`` of each compares it with the previous run of its tools (:meth:`baseline`), or is its state in the
        scan: ``new``, ``unchanged``, ``updated``, ``reopened``, ``fixed``, and, without a scan, ``not_checked``. Fixed
        findings are listed only with ``state="fixed"``. Filter by status, severity, file, state, tool, rule or CWE
        (``"CWE-79"`` or 79); ``suppressed`` selects only findings with, or without, an active suppression. Raises
        InvalidArgument for an unknown word, Ambiguous without scan and target if the store has several targets,
        NotFound.
        """
        check_window(limit, offset)
        if scan is not None and state == "not_checked":
            raise InvalidArgument("a scan lists only its own sightings; leave it out to list not_checked findings")
        severity = None if severity is None else check_choice(severity, "severity", SEVERITIES)
        status = None if status is None else check_choice(status, "status", FINDING_STATUSES)
        state = None if state is None else check_choice(state, "state", FINDING_STATES)
        file = None if file is None else stored_path(file, "file")
        tool = None if tool is None else check_string(tool, "tool")
        rule = None if rule is None else check_string(rule, "rule")
        cwe = check_cwe(cwe, "cwe")
        suppressed = None if suppressed is None else check_bool(suppressed, "suppressed")
        whole = any(each is not None for each in (rule, cwe, suppressed, sort)) or limit is None
        some = None if whole or limit is None else min(limit + offset, 2**63 - 1)
        row = pick(self.db, scan, target)
        if scan is None:
            before = self.baseline(row)
            found = listing.current(
                self.db, row.lineage_id, row.id, 0 if before is None else before.id, status=status, severity=severity,
                file=file, state=state, tool=tool, limit=some,
            )  # fmt: skip
        else:
            found = listing.listed(
                self.db, row.id, status=status, severity=severity, file=file, state=state,
                tool=tool, limit=some,
            )  # fmt: skip
        if rule is not None or cwe is not None:
            found = [each for each in found if rule in (None, each.rule_id) and cwe in (None, each.cwe)]
        if suppressed is not None:
            hidden = {key for key, why in self.suppressed(found).items() if not why.expired}
            found = [each for each in found if (each.id in hidden) is suppressed]
        return arranged(Finding, found, limit=limit, offset=offset, sort=sort)

    @reads
    def sightings(
        self, finding: Finding | int, *, limit: int | None = None, offset: int = 0, sort: str | None = None
    ) -> Rows[Sighting]:
        """List the sightings of a finding, the oldest scan first. Raises NotFound."""
        check_window(limit, offset)
        query = Sighting.select().where(Sighting.finding == self.get(finding).id).order_by(Sighting.scan)
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def diff(self, a: Scan | int, b: Scan | int | None = None) -> FindingDiff:
        """Compare the findings of a target between scan ``a`` and scan ``b`` (default: :meth:`latest` of the target).

        All scans up to ``b`` are taken into account. ``not_checked`` findings existed in ``a`` and are not known to be
        fixed, because ``b`` did not check for them. The most severe come first. Raises InvalidArgument for scans of
        different targets.
        """
        first = Scans(self.db).get(a)
        second = self.latest(first.target) if b is None else Scans(self.db).get(b)
        if first.lineage_id != second.lineage_id:
            raise InvalidArgument(
                f"scan {first.id} is of {first.target} and scan {second.id} of {second.target};"
                " compare scans of one target"
            )
        return listing.diff(self.db, first.lineage_id, first.id, second.id)

    def baseline(self, scan: Scan | int) -> Scan | None:
        """Return the scan to compare this one with: the latest before the last run of the target's tools.

        Searches back from the scan to the first repeated tool, so that new findings do not depend on which tool ran
        last. Returns None if no tool has run twice. Raises NotFound.
        """
        row = Scans(self.db).get(scan)
        found = Looks(self.db, row.lineage_id, row.id).baseline
        return None if found is None else Scans(self.db).get(found)

    def troubles(self, target: str | None = None, *, scan: Scan | int | None = None) -> List[str]:
        """Return the reasons why findings may be missing, such as failed tools or skipped results.

        Uses the latest run of each tool of a target (default: the only target), or the runs of one scan. Empty if the
        tools report complete runs. Raises NotFound, Ambiguous.
        """
        row = pick(self.db, scan, target)
        return Looks(self.db, row.lineage_id, row.id).troubles(None if scan is None else row.id)

    @reads
    def latest(self, target: str | None = None, *, before: Scan | int | None = None) -> Scan:
        """Return the latest scan in which a tool ran, or else the latest completed scan, of one target or of all.

        With ``before``, a scan, return the latest earlier scan of its target in which a tool ran. Raises NotFound if
        there is no such scan. Lists, diffs and reports without a target do not use the latest scan of all
        targets: they raise Ambiguous if the store has several.
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


def pick(db: Database, scan: Scan | int | None, target: str | None = None) -> Scan:
    """Return the scan that a query about findings reads: the given one, or the latest one of a target.

    Without a target, the store must have only one. Raises Ambiguous (with the names of the targets as ``candidates``)
    when it has several, NotFound, and InvalidArgument when both are given.
    """
    if scan is not None:
        return scans.pick(db, scan, target)
    return Findings(db).latest(scans.sole_target(db) if target is None else target)


# A completed scan without findings still counts as the latest result.
LOOKS = """(s.analyzed_at IS NOT NULL OR EXISTS (SELECT 1 FROM sightings AS g WHERE g.scan_id = s.id)
        OR EXISTS (SELECT 1 FROM tool_runs AS r WHERE r.scan_id = s.id))"""
LATEST = f"""
SELECT s.id FROM scans AS s
 WHERE (:target IS NULL OR s.lineage_id = (SELECT id FROM lineages WHERE target = :target))
   AND (:before IS NULL OR s.id < :before) AND {LOOKS}
 ORDER BY s.id DESC LIMIT 1
"""
