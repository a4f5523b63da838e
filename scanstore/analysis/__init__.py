"""The review of a scan by language models: review chunks, vote on drafts, publish verified findings.

The three stages share ``stage`` (claim, complete, fail, release) and ``lifecycle`` (the phases and the end of an
analysis). ``payloads`` checks reported findings, ``draft_merge`` merges equal ones, ``policies`` count votes,
``publishing`` makes findings. ``calls``, ``answer_cache`` and ``asking`` keep the calls of models and their answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.analysis.calls import Call, Usage
    from scanstore.analysis.chunks import Chunks
    from scanstore.analysis.drafts import AddedDrafts, DraftJudgement, Drafts
    from scanstore.analysis.lifecycle import AnalysisConfig, Lifecycle, Progress, Rerun
    from scanstore.analysis.llm_calls import Models
    from scanstore.analysis.policies import Ballot, Majority, MinimumConfidence, Policy, Unanimous, Verdict, Weighted
    from scanstore.analysis.publishing import StoreFindings
    from scanstore.analysis.scans import StoreScans
    from scanstore.analysis.stage import Stage
    from scanstore.analysis.verified import Verified
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "calls": ("Call", "Usage"),
            "chunks": ("Chunks",),
            "drafts": ("AddedDrafts", "Drafts", "DraftJudgement"),
            "lifecycle": ("AnalysisConfig", "Lifecycle", "Progress", "Rerun"),
            "llm_calls": ("Models",),
            "policies": ("Ballot", "Majority", "MinimumConfidence", "Policy", "Unanimous", "Verdict", "Weighted"),
            "publishing": ("StoreFindings",),
            "scans": ("StoreScans",),
            "stage": ("Stage",),
            "verified": ("Verified",),
        },
    )

__all__ = [
    "AddedDrafts",
    "AnalysisConfig",
    "Ballot",
    "Call",
    "Chunks",
    "Drafts",
    "DraftJudgement",
    "Lifecycle",
    "Majority",
    "MinimumConfidence",
    "Models",
    "Policy",
    "Progress",
    "StoreFindings",
    "Rerun",
    "StoreScans",
    "Stage",
    "Unanimous",
    "Usage",
    "Verdict",
    "Verified",
    "Weighted",
]
