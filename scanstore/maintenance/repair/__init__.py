"""Repair of a damaged file: pages are read one by one, rows are written to a new store, and every loss is listed.

``sqlite_pages`` reads pages and ``sqlcipher_pages`` encrypted ones, ``write_ahead_log`` reads the log,
``salvaged_tables`` writes rows, ``mending`` makes them agree with each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.maintenance.repair.repair import Repaired
    from scanstore.maintenance.repair.salvaged_tables import UnreadPage
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"repair": ("Repaired",), "salvaged_tables": ("UnreadPage",)},
    )

__all__ = ["Repaired", "UnreadPage"]
