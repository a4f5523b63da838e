"""Every model in one place: ``from scanstore.models import Scan, Symbol``."""

from __future__ import annotations

from scanstore.answers import Analyzer, CachedAnswer
from scanstore.calls import ModelCall
from scanstore.drafts import DraftFinding, Vote
from scanstore.findings import Finding, VerifiedFinding
from scanstore.llm import ModelConfig
from scanstore.scans import Scan, ScanConfig, ScanFile, ScanFileChunk
from scanstore.sightings import FindingContent, Sighting, ToolRun
from scanstore.symbols import ImportRelation, Symbol, SymbolReference
from scanstore.triage import FindingEvent, Suppression

__all__ = [
    "Analyzer", "CachedAnswer", "DraftFinding", "Finding", "FindingContent", "FindingEvent", "ImportRelation",
    "ModelCall", "ModelConfig", "Scan", "ScanConfig", "ScanFile", "ScanFileChunk", "Sighting", "Suppression", "Symbol",
    "SymbolReference", "ToolRun", "VerifiedFinding", "Vote",
]  # fmt: skip
