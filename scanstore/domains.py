"""The two domains of a store to which several packages contribute: its scans and its findings."""

from __future__ import annotations

from scanstore.analysis.lifecycle import Lifecycle, renew
from scanstore.analysis.publishing import Publishing
from scanstore.findings import findings
from scanstore.maintenance.removal import Removal
from scanstore.snapshots import scans


class Scans(scans.Scans, Lifecycle, Removal):
    """Record, analyse, list, compare and remove scans."""

    def _completed(self, scan_id: int) -> None:
        renew(self.db, scan_id)


class Findings(findings.Findings, Publishing):
    """Publish, list and compare findings, and decide about them."""
