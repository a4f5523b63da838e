"""Every model in one place: ``from scanstore.models import Scan, Symbol``."""

from __future__ import annotations

from scanstore.answers import Analyzer, CachedAnswer
from scanstore.calls import ModelCall
from scanstore.drafts import DraftFinding, Vote
from scanstore.findings import Finding, VerifiedFinding
from scanstore.llm import ModelConfig
from scanstore.scans import Scan, ScanConfig, ScanFile, ScanFileChunk
from scanstore.symbols import ImportRelation, Symbol, SymbolReference

__all__ = [
    "Analyzer", "CachedAnswer", "DraftFinding", "Finding", "ImportRelation", "ModelCall", "ModelConfig", "Scan",
    "ScanConfig", "ScanFile", "ScanFileChunk", "Symbol", "SymbolReference", "VerifiedFinding", "Vote",
]  # fmt: skip
