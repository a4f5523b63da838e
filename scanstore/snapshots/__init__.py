"""Snapshots of a source tree: the files of a scan, their facts, and name resolution across files.

Facts of a file (``facts``) are stored once per content and written by ``recorder``. ``bindings`` stores the resolved
names of a scan, which ``resolution`` and ``resolver`` compute. ``scans`` has the public methods, ``tree_scan`` records
a folder, ``ctags_import`` a tags file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.snapshots.ctags_import import LoadedTags
    from scanstore.snapshots.freshness import Changes
    from scanstore.snapshots.models import SetAside
    from scanstore.snapshots.recorder import Recorder
    from scanstore.snapshots.scans import FileDiff, FileNote, Scans, Summary, Target
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "ctags_import": ("LoadedTags",),
            "freshness": ("Changes",),
            "models": ("SetAside",),
            "recorder": ("Recorder",),
            "scans": ("FileDiff", "FileNote", "Scans", "Summary", "Target"),
        },
    )

__all__ = ["Changes", "FileDiff", "FileNote", "LoadedTags", "Recorder", "Scans", "SetAside", "Summary", "Target"]
