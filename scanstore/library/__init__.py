"""A media library: scenes with performers, tags and studios, synced from another system.

``models`` has the rows, ``upserts`` writes many of them at once, ``sync`` finds rows that a full listing no longer
contains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.library.library import Library, LibraryStats
    from scanstore.library.models import NamedRecord, Rejection, SceneRecord, StoredName, StoredScene, SyncCounts
    from scanstore.library.sync import Sync
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "library": ("Library", "LibraryStats"),
            "models": ("NamedRecord", "Rejection", "SceneRecord", "StoredName", "StoredScene", "SyncCounts"),
            "sync": ("Sync",),
        },
    )

__all__ = [
    "NamedRecord", "Rejection", "SceneRecord", "StoredName", "StoredScene", "SyncCounts", "Library", "LibraryStats",
    "Sync",
]  # fmt: skip
