"""Removing a scan: its analysis, its sightings of findings, and the facts that no other scan uses.

Change here: which rows are removed with a scan.
"""

from __future__ import annotations

from typing import NamedTuple

from scanstore.db.database import Database
from scanstore.db.domain import Domain
from scanstore.findings.removal import forget
from scanstore.snapshots import bindings
from scanstore.snapshots.models import Scan
from scanstore.snapshots.names import sweep_names
from scanstore.snapshots.scans import Scans


class Removed(NamedTuple):
    """The removed rows: those of the scan, and the facts that no other scan uses."""

    files: int
    versions: int
    symbols: int
    references: int
    imports: int
    chunks: int
    names: int
    drafts: int
    votes: int
    verified: int
    findings: int
    calls: int


class Removal(Domain):
    """Remove scans; part of ``store.scans``."""

    def remove(self, scan: Scan | int) -> Removed:
        """Remove a scan, its analysis, and exactly the facts that no remaining scan uses, in one transaction.

        Cached answers stay, and an analysis of the same content reuses them. Unused interned names are removed
        afterwards, which reads all facts; to remove many scans, use ``store.prune``, which does this only once. Raises
        NotFound.
        """
        with self.db.atomic():
            removed = remove_scan(self.db, Scans(self.db).get(scan))
        return removed._replace(names=sweep_names(self.db)) if removed.versions else removed


def remove_scan(db: Database, scan: Scan) -> Removed:
    """Remove a scan like ``remove``, but keep unused interned names. Inside a transaction."""
    run, key = db.execute_sql, (scan.id,)
    versions = [version for (version,) in run(VERSIONS, key).fetchall()]
    # From the leaves up, so that SQLite finds no child rows for the foreign keys.
    votes = run(DROP_VOTES, key).rowcount
    findings = forget(db, scan.id)
    calls, verified, drafts = (run(f"DELETE FROM {table} WHERE scan_id = ?", key).rowcount for table in ANALYSIS_TABLES)
    run(DROP_WORK, key)
    files = run("DELETE FROM scan_files WHERE scan_id = ?", key).rowcount
    run("DELETE FROM scans WHERE id = ?", key)
    swept = bindings.sweep(db, scan.lineage_id, versions)
    run(DROP_LINEAGE, (scan.lineage_id,))
    return Removed(files, *swept, 0, drafts, votes, verified, findings, calls)


VERSIONS = """
SELECT version_id FROM scan_files INDEXED BY uq_scan_files_scan_id_file_path
 WHERE scan_id = ? AND version_id IS NOT NULL
"""
ANALYSIS_TABLES = ("model_calls", "verified_findings", "draft_findings")
DROP_VOTES = "DELETE FROM votes WHERE draft_id IN (SELECT id FROM draft_findings WHERE scan_id = ?)"
DROP_WORK = "DELETE FROM chunk_work WHERE scan_file_id IN (SELECT id FROM scan_files WHERE scan_id = ?)"
DROP_LINEAGE = "DELETE FROM lineages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM scans WHERE lineage_id = ?1)"
