"""The voting policies for drafts: ``from scanstore.policies import Majority``."""

from __future__ import annotations

from scanstore.analysis.policies import Ballot, Majority, MinimumConfidence, Policy, Unanimous, Verdict, Weighted

__all__ = ["Ballot", "Majority", "MinimumConfidence", "Policy", "Unanimous", "Verdict", "Weighted"]
