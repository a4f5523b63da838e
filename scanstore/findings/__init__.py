"""Findings: recognised from scan to scan, listed, compared and decided about.

``identity`` decides whether two reports are about the same finding, ``tracking`` writes the outcome of a scan,
``coverage`` and ``looks`` know the examined files and rules, ``triage`` holds decisions, ``removal`` forgets a scan. A
new column of findings belongs into ``models``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.findings.findings import Findings
    from scanstore.findings.listing import FindingDiff
    from scanstore.findings.triage import Triage
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"findings": ("Findings",), "listing": ("FindingDiff",), "triage": ("Triage",)},
    )

__all__ = ["FindingDiff", "Findings", "Triage"]
