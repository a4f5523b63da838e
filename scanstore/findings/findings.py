"""Findings: listed and compared, from one scan to the next.

Change here: which scan a question about findings is about. Listing is in ``listing``, deciding in ``triage``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.arguments import check_choice, check_optional_integer, check_string, stored_path
from scanstore.db.domain import List, reads
from scanstore.db.state_machine import FINDING_STATES, FINDING_STATUSES, SEVERITIES
from scanstore.errors import InvalidArgument, NotFound
from scanstore.findings import listing
from scanstore.findings.listing import FindingDiff
from scanstore.findings.looks import Looks
from scanstore.findings.models import Finding, Sighting
from scanstore.findings.triage import Triage
from scanstore.snapshots.models import Scan
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.db.words import FindingState, FindingStatus, Severity


class Findings(Triage):
    """List and compare findings, and decide about them."""

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
            raise InvalidArgument("a scan lists only its own sightings; leave it out to list not_checked findings")
        severity = None if severity is None else check_choice(severity, "severity", SEVERITIES)
        status = None if status is None else check_choice(status, "status", FINDING_STATUSES)
        state = None if state is None else check_choice(state, "state", FINDING_STATES)
        file = None if file is None else stored_path(file, "file")
        tool = None if tool is None else check_string(tool, "tool")
        most = check_optional_integer(limit, "limit", 0, 2**31)
        some = most if suppressed is None else None
        row = self.pick(scan, target)
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
        if suppressed is not None:
            hidden = {key for key, why in self.suppressed(found).items() if not why.expired}
            found = [each for each in found if (each.id in hidden) is suppressed][:most]
        return found

    @reads
    def sightings(self, finding: Finding | int) -> List[Sighting]:
        """What each scan saw of a finding, the oldest first. Raises NotFound."""
        key = self.get(finding).id
        return list(Sighting.select().where(Sighting.finding == key).order_by(Sighting.scan))

    @reads
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
        return listing.diff(self.db, first.lineage_id, first.id, second.id)

    def baseline(self, scan: Scan | int) -> Scan | None:
        """The scan with which this one is compared: the latest before the tools of the target ran last.

        Goes back from the scan to where a tool repeats, so that new findings do not depend on which tool ran last. None
        when no tool has run twice. Raises NotFound.
        """
        row = Scans(self.db).get(scan)
        found = Looks(self.db, row.lineage_id, row.id).baseline
        return None if found is None else Scans(self.db).get(found)

    def troubles(self, target: str | None = None, *, scan: Scan | int | None = None) -> List[str]:
        """Return why the absence of findings proves nothing: tools that failed, results that were left out.

        By the latest run of each tool of a target (default: the only one), or by the runs of one scan. Empty when
        everything was looked at, as far as the tools say. Raises NotFound, Ambiguous.
        """
        row = self.pick(scan, target)
        return Looks(self.db, row.lineage_id, row.id).troubles(None if scan is None else row.id)

    @reads
    def pick(self, scan: Scan | int | None, target: str | None = None) -> Scan:
        """Return the scan that a question about findings is about: the given one, else :meth:`latest` of a target.

        Without a target, the store must have only one. Raises Ambiguous (with the names of the targets as
        ``candidates``) when it has several, NotFound, and InvalidArgument when both are given.
        """
        if scan is not None:
            return Scans(self.db).pick(scan, target)
        return self.latest(Scans(self.db).sole_target() if target is None else target)

    @reads
    def latest(self, target: str | None = None, *, before: Scan | int | None = None) -> Scan:
        """The latest scan that looked for findings, else the latest completed one; of one target or else of all.

        With ``before``, a scan, the latest of its target that is earlier and looked for findings. Raises NotFound
        without such a scan. Lists, diffs and reports do not take the latest of all targets, see :meth:`pick`.
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
