"""Audits: documents checked against rules, with findings, a verdict and an append-only trail.

``models`` has the rows and their checks, ``policies`` the verdicts, ``audits`` the methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.audits.audits import Audits, AuditStats
    from scanstore.audits.policies import AuditJudgement, AuditPolicy, Deductions
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"audits": ("AuditStats", "Audits"), "policies": ("Deductions", "AuditJudgement", "AuditPolicy")},
    )

__all__ = ["AuditStats", "Audits", "Deductions", "AuditJudgement", "AuditPolicy"]
