"""Every model in one place: ``from scanstore.models import Scan, Symbol``."""

from __future__ import annotations

from scanstore.accounts import User
from scanstore.answers import Analyzer, CachedAnswer
from scanstore.audits import Analysis, AnalysisFinding, AuditEvent, Task
from scanstore.calls import ModelCall
from scanstore.drafts import DraftFinding, Vote
from scanstore.findings import Finding, VerifiedFinding
from scanstore.jobs import Job, JobScene
from scanstore.library_rows import Performer, Scene, ScenePerformer, SceneTag, Studio, SyncRun, Tag
from scanstore.llm import ModelConfig
from scanstore.plan_rows import AnalysisPlan, PlanChange
from scanstore.prompts import Configuration
from scanstore.scans import Scan, ScanConfig, ScanFile, ScanFileChunk
from scanstore.schedules import ScheduledTask
from scanstore.sessions import AnalysisResult, AnalysisSession, AnalysisTask, FileUpload
from scanstore.settings import Setting
from scanstore.sightings import FindingContent, Sighting, ToolRun
from scanstore.symbols import ImportRelation, Symbol, SymbolReference
from scanstore.triage import FindingEvent, Suppression

__all__ = [
    "Analysis", "AnalysisFinding", "AnalysisPlan", "AnalysisResult", "AnalysisSession", "AnalysisTask", "Analyzer",
    "AuditEvent", "CachedAnswer", "Configuration", "DraftFinding", "FileUpload", "Finding", "FindingContent",
    "FindingEvent", "ImportRelation", "Job", "JobScene", "ModelCall", "ModelConfig", "Performer", "PlanChange", "Scan",
    "ScanConfig", "ScanFile", "ScanFileChunk", "Scene", "ScenePerformer", "SceneTag", "ScheduledTask", "Setting",
    "Sighting", "Studio", "Suppression", "Symbol", "SymbolReference", "SyncRun", "Tag", "Task", "ToolRun", "User",
    "VerifiedFinding", "Vote",
]  # fmt: skip
