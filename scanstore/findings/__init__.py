"""Findings: match them across scans, list, compare and triage them.

``identity`` decides whether two reports are about the same finding, ``tracking`` writes the outcome of a scan,
``coverage`` and ``looks`` determine the examined files and rules, ``triage`` records decisions, ``removal`` handles
removed scans. Add a new column of findings to ``models``.
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
