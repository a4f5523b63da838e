"""The scans of a store: record, analyse and remove them. This is ``store.scans``."""

from __future__ import annotations

from scanstore.analysis.lifecycle import Lifecycle, renew
from scanstore.analysis.removal import Removal
from scanstore.snapshots import scans


class StoreScans(scans.Scans, Lifecycle, Removal):
    """Record, analyse, list, compare and remove scans."""

    def _completed(self, scan_id: int) -> None:
        renew(self.db, scan_id)
