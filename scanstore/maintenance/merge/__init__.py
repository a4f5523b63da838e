"""Merging another store into this one: ``scans``, ``findings``, ``others`` and ``user_tables`` each merge their tables
with the statements of ``rows``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.maintenance.merge.merge import MergeResult
    from scanstore.maintenance.merge.rows import MergeConflict, Merged
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"merge": ("MergeResult",), "rows": ("MergeConflict", "Merged")},
    )

__all__ = ["MergeConflict", "MergeResult", "Merged"]
