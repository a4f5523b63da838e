"""Every model in one place: ``from scanstore.models import Scan, Symbol``."""

from __future__ import annotations

from scanstore.accounts import User
from scanstore.analysis_rows import Analyzer, CachedAnswer, DraftFinding, ModelCall, ScanConfig, VerifiedFinding, Vote
from scanstore.audits import Analysis, AnalysisFinding, AuditEvent, Task
from scanstore.finding_rows import Finding, FindingContent, FindingEvent, Sighting, Suppression, ToolRun
from scanstore.jobs import Job, JobScene
from scanstore.library_rows import Performer, Scene, ScenePerformer, SceneTag, Studio, SyncRun, Tag
from scanstore.llm_rows import ModelConfig
from scanstore.plan_rows import AnalysisPlan, PlanChange
from scanstore.prompts import Configuration
from scanstore.scan_rows import Scan, ScanFile, ScanFileChunk
from scanstore.schedules import ScheduledTask
from scanstore.sessions import AnalysisResult, AnalysisSession, AnalysisTask, FileUpload
from scanstore.settings import Setting
from scanstore.symbols import ImportRelation, Symbol, SymbolReference

__all__ = [
    "Analysis", "AnalysisFinding", "AnalysisPlan", "AnalysisResult", "AnalysisSession", "AnalysisTask", "Analyzer",
    "AuditEvent", "CachedAnswer", "Configuration", "DraftFinding", "FileUpload", "Finding", "FindingContent",
    "FindingEvent", "ImportRelation", "Job", "JobScene", "ModelCall", "ModelConfig", "Performer", "PlanChange", "Scan",
    "ScanConfig", "ScanFile", "ScanFileChunk", "Scene", "ScenePerformer", "SceneTag", "ScheduledTask", "Setting",
    "Sighting", "Studio", "Suppression", "Symbol", "SymbolReference", "SyncRun", "Tag", "Task", "ToolRun", "User",
    "VerifiedFinding", "Vote",
]  # fmt: skip
