"""All models: ``from scanstore.models import Scan, Symbol``."""

from __future__ import annotations

from scanstore.accounts.models import User
from scanstore.analysis.models import Analyzer, CachedAnswer, DraftFinding, ModelCall, ScanConfig, VerifiedFinding, Vote
from scanstore.audits.models import Analysis, AnalysisFinding, AuditEvent, Task
from scanstore.findings.models import Finding, FindingContent, FindingEvent, Sighting, Suppression, ToolRun
from scanstore.jobs.models import Job, JobScene, ScheduledTask
from scanstore.library.models import Performer, Scene, ScenePerformer, SceneTag, Studio, SyncRun, Tag
from scanstore.llm.models import ModelConfig
from scanstore.plans.models import AnalysisPlan, PlanChange
from scanstore.sessions.models import AnalysisResult, AnalysisSession, AnalysisTask, Configuration, FileUpload
from scanstore.settings import Setting
from scanstore.snapshots.models import Scan, ScanFile, ScanFileChunk
from scanstore.symbols.models import ImportRelation, Symbol, SymbolReference

__all__ = [
    "Analysis", "AnalysisFinding", "AnalysisPlan", "AnalysisResult", "AnalysisSession", "AnalysisTask", "Analyzer",
    "AuditEvent", "CachedAnswer", "Configuration", "DraftFinding", "FileUpload", "Finding", "FindingContent",
    "FindingEvent", "ImportRelation", "Job", "JobScene", "ModelCall", "ModelConfig", "Performer", "PlanChange", "Scan",
    "ScanConfig", "ScanFile", "ScanFileChunk", "Scene", "ScenePerformer", "SceneTag", "ScheduledTask", "Setting",
    "Sighting", "Studio", "Suppression", "Symbol", "SymbolReference", "SyncRun", "Tag", "Task", "ToolRun", "User",
    "VerifiedFinding", "Vote",
]  # fmt: skip
