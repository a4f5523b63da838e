"""Every model in one place: ``from scanstore.models import Scan, Symbol``."""

from __future__ import annotations

from scanstore.llm import ModelConfig
from scanstore.scans import Scan, ScanConfig, ScanFile, ScanFileChunk
from scanstore.symbols import ImportRelation, Symbol, SymbolReference

__all__ = [
    "ImportRelation", "ModelConfig", "Scan", "ScanConfig", "ScanFile", "ScanFileChunk", "Symbol", "SymbolReference",
]  # fmt: skip
