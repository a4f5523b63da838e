"""Every model in one place: ``from scanstore.models import Scan, Symbol``."""

from __future__ import annotations

from scanstore.account_rows import User
from scanstore.analysis_rows import Analyzer, CachedAnswer, DraftFinding, ModelCall, ScanConfig, VerifiedFinding, Vote
from scanstore.audit_rows import Analysis, AnalysisFinding, AuditEvent, Task
from scanstore.finding_rows import Finding, FindingContent, FindingEvent, Sighting, Suppression, ToolRun
from scanstore.job_rows import Job, JobScene, ScheduledTask
from scanstore.library_rows import Performer, Scene, ScenePerformer, SceneTag, Studio, SyncRun, Tag
from scanstore.llm_rows import ModelConfig
from scanstore.plan_rows import AnalysisPlan, PlanChange
from scanstore.scan_rows import Scan, ScanFile, ScanFileChunk
from scanstore.session_rows import AnalysisResult, AnalysisSession, AnalysisTask, Configuration, FileUpload
from scanstore.settings import Setting
from scanstore.symbol_rows import ImportRelation, Symbol, SymbolReference

__all__ = [
    "Analysis", "AnalysisFinding", "AnalysisPlan", "AnalysisResult", "AnalysisSession", "AnalysisTask", "Analyzer",
    "AuditEvent", "CachedAnswer", "Configuration", "DraftFinding", "FileUpload", "Finding", "FindingContent",
    "FindingEvent", "ImportRelation", "Job", "JobScene", "ModelCall", "ModelConfig", "Performer", "PlanChange", "Scan",
    "ScanConfig", "ScanFile", "ScanFileChunk", "Scene", "ScenePerformer", "SceneTag", "ScheduledTask", "Setting",
    "Sighting", "Studio", "Suppression", "Symbol", "SymbolReference", "SyncRun", "Tag", "Task", "ToolRun", "User",
    "VerifiedFinding", "Vote",
]  # fmt: skip
