"""Removing a scan: its analysis, its sightings of findings, and the facts that no other scan uses.

Change here: which rows are removed with a scan.
"""

from __future__ import annotations

from scanstore.db.database import Database
from scanstore.db.domain import Domain
from scanstore.db.rows import Removed
from scanstore.findings.removal import forget
from scanstore.snapshots import bindings
from scanstore.snapshots.models import Scan
from scanstore.snapshots.names import sweep_names
from scanstore.snapshots.scans import Scans


class Removal(Domain):
    """Remove scans; part of ``store.scans``."""

    def remove(self, scan: Scan | int) -> Removed:
        """Remove a scan, its analysis, and exactly the facts that no remaining scan uses, in one transaction.

        Return the number of removed rows by table. Cached answers stay, and an analysis of the same content reuses
        them. Unused interned names are removed afterwards, which reads all facts; to remove many scans, use
        ``store.prune``, which does this only once. Raises NotFound, InvalidArgument.
        """
        with self.db.atomic():
            removed = remove_scan(self.db, Scans(self.db).get(scan))
        if removed.get("file_versions") and (names := sweep_names(self.db)):
            removed["names"] = names
        return removed


def remove_scan(db: Database, scan: Scan) -> Removed:
    """Remove a scan like ``remove``, but keep unused interned names. Inside a transaction."""
    run, key = db.execute_sql, (scan.id,)
    versions = [version for (version,) in run(VERSIONS, key).fetchall()]
    # From the leaves up, so that SQLite finds no child rows for the foreign keys.
    counts = {"votes": run(DROP_VOTES, key).rowcount, **forget(db, scan.id)}
    for table in ANALYSIS_TABLES:
        counts[table] = run(f"DELETE FROM {table} WHERE scan_id = ?", key).rowcount
    counts["chunk_work"] = run(DROP_WORK, key).rowcount
    for table in SCAN_TABLES:
        counts[table] = run(f"DELETE FROM {table} WHERE scan_id = ?", key).rowcount
    counts["scans"] = run("DELETE FROM scans WHERE id = ?", key).rowcount
    counts |= bindings.sweep(db, scan.lineage_id, versions)
    counts["lineages"] = run(DROP_LINEAGE, (scan.lineage_id,)).rowcount
    return Removed({table: count for table, count in counts.items() if count})


VERSIONS = """
SELECT version_id FROM scan_files INDEXED BY uq_scan_files_scan_id_file_path
 WHERE scan_id = ? AND version_id IS NOT NULL
"""
ANALYSIS_TABLES = ("model_calls", "verified_findings", "draft_findings")
SCAN_TABLES = ("tool_runs", "scan_configs", "scan_files")
DROP_VOTES = "DELETE FROM votes WHERE draft_id IN (SELECT id FROM draft_findings WHERE scan_id = ?)"
DROP_WORK = "DELETE FROM chunk_work WHERE scan_file_id IN (SELECT id FROM scan_files WHERE scan_id = ?)"
DROP_LINEAGE = "DELETE FROM lineages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM scans WHERE lineage_id = ?1)"
