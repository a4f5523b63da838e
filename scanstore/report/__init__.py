"""Reports of a scan's findings: ``gather`` asks the store, ``document`` is the result, the other modules write it.

To add a format, write a function from a ``Report`` to text and register it in ``gather``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.report.document import Report
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"document": ("Report",)},
    )

__all__ = ["Report"]
