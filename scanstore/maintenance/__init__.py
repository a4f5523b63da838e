"""Maintenance of a store: checks and repairs of rows, size, pruning, copies, merging, and repair of damaged files.

``invariants`` lists what every store must satisfy, and ``fixes`` restores derived rows. ``health`` asks all questions,
``compaction`` and ``pruning`` make the file smaller, ``backup`` and ``dump`` copy a store,
``merge`` takes over another store, ``repair`` saves a damaged file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.maintenance.backup import Backup, Restored
    from scanstore.maintenance.compaction import Compacted
    from scanstore.maintenance.dump import Loaded, Transferred
    from scanstore.maintenance.health import Problem, Stats, TableStats
    from scanstore.maintenance.pruning import OldScan, Pruned
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "backup": ("Backup", "Restored"),
            "compaction": ("Compacted",),
            "dump": ("Loaded", "Transferred"),
            "health": ("Problem", "Stats", "TableStats"),
            "pruning": ("OldScan", "Pruned"),
        },
    )

__all__ = [
    "Backup",
    "Compacted",
    "Loaded",
    "OldScan",
    "Problem",
    "Pruned",
    "Restored",
    "Stats",
    "TableStats",
    "Transferred",
]
