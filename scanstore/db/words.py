"""The words that calls take, as types: ``Severity`` is "critical", "high" and so on.

Only type checkers load this module, and whoever annotates functions with it. At run time the words are tuples, such as
``SEVERITIES`` in :mod:`scanstore.db.state_machine`, and a test compares each type with its tuple.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

# The store
Durability: TypeAlias = Literal["full", "normal"]
PruneKind: TypeAlias = Literal["scans", "jobs", "calls", "answers"]

# Scans and their symbols
ScanStatus: TypeAlias = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
ScanKind: TypeAlias = Literal["source", "results"]
Phase: TypeAlias = Literal[
    "queued", "ingestion", "indexing", "chunking", "scanning", "verifying", "enriching", "completed"
]
SymbolType: TypeAlias = Literal["module", "class", "function", "method", "variable"]
ReferenceType: TypeAlias = Literal["call", "import", "inherit", "use"]
Resolution: TypeAlias = Literal["unresolved", "external", "guessed", "inherited", "imported", "exact"]
ChangeKind: TypeAlias = Literal[
    "signature", "body", "decorator", "docstring", "formatting", "members", "text", "unknown", "moved"
]
SymbolChangeFilter: TypeAlias = Literal["added", "removed", "changed", ChangeKind]
BreakageKind: TypeAlias = Literal[
    "removed", "kind_changed", "async_changed", "base_removed", "value_changed", "type_changed", "signature_changed",
    "overload_removed", "setter_removed", "parameter_removed", "parameter_renamed", "parameter_moved",
    "parameter_kind_changed", "parameter_default_changed", "parameter_became_required", "parameter_added_required",
    "return_changed", "not_compared",
]  # fmt: skip
NameMatch: TypeAlias = Literal["exact", "prefix", "contains"]
GraphFormat: TypeAlias = Literal["dot", "graphml", "mermaid"]
GraphDirection: TypeAlias = Literal["callers", "callees", "both"]
ReachedBy: TypeAlias = Literal["call", "import", "inherit", "use", "constructor", "override", "fixture", "setup"]
RenameKind: TypeAlias = Literal[
    "definition", "override", "call", "import", "inherit", "use", "base", "attribute", "keyword", "string", "comment",
    "text",
]  # fmt: skip
CycleKind: TypeAlias = Literal["runtime", "lazy", "typing"]

# The analysis of scans
Risk: TypeAlias = Literal["high", "normal", "low"]
ChunkStatus: TypeAlias = Literal["pending", "running", "done", "failed", "skipped"]
DraftStatus: TypeAlias = Literal["pending", "verifying", "verified", "rejected", "weakness", "skipped", "failed"]
VerifiedStatus: TypeAlias = Literal["pending", "enriching", "complete", "failed"]
VoteDecision: TypeAlias = Literal["verified", "rejected", "weakness", "abstain"]
Outcome: TypeAlias = Literal["verified", "rejected", "weakness", "undecided"]
AnalysisMode: TypeAlias = Literal["primary_verifiers", "primary_only"]
AnalysisScope: TypeAlias = Literal["full", "changed"]
AnalysisStep: TypeAlias = Literal["scan", "verify", "enrich"]
CallStatus: TypeAlias = Literal["running", "answered", "failed", "abandoned"]

# Findings
Severity: TypeAlias = Literal["critical", "high", "medium", "low", "info"]
FindingStatus: TypeAlias = Literal["open", "confirmed", "false_positive", "ignored", "fixed"]
SightingState: TypeAlias = Literal["new", "unchanged", "updated", "reopened", "fixed"]
FindingState: TypeAlias = Literal[SightingState, "not_checked"]
ReportFormat: TypeAlias = Literal["text", "json", "csv", "markdown", "html"]
SearchKind: TypeAlias = Literal["finding", "symbol"]

# The library and plans
LibraryKind: TypeAlias = Literal["scene", "performer", "tag", "studio"]
NamedKind: TypeAlias = Literal["performer", "tag", "studio"]
DatePrecision: TypeAlias = Literal["day", "month", "year"]
PlanStatus: TypeAlias = Literal["pending", "draft", "reviewing", "applied", "cancelled", "reverted"]
PlanDecision: TypeAlias = Literal["approve", "reject", "reset"]
ChangeStatus: TypeAlias = Literal["pending", "approved", "rejected", "applied", "failed", "skipped", "reverted"]
ChangeAction: TypeAlias = Literal["add", "remove", "update", "set"]
ChangeField: TypeAlias = Literal[
    "performers", "tags", "studio", "title", "details", "date", "organized", "severity", "status", "remediation"
]

# Jobs, sessions and audits
JobStatus: TypeAlias = Literal["pending", "running", "cancelling", "completed", "failed", "cancelled"]
SessionStatus: TypeAlias = Literal["created", "processing", "completed", "failed", "cancelled"]
SessionTaskStatus: TypeAlias = Literal["pending", "processing", "completed", "failed", "cancelled"]
UploadStatus: TypeAlias = Literal["uploaded", "processing", "completed", "error"]
UploadMark: TypeAlias = Literal["processing", "completed", "error"]
ResultStatus: TypeAlias = Literal["pending", "completed", "failed"]
AuditStatus: TypeAlias = Literal["queued", "processing", "completed", "failed", "cancelled"]
AuditVerdict: TypeAlias = Literal["approved", "review", "rejected"]
ReviewVerdict: TypeAlias = Literal["approved", "rejected"]
AuditSeverity: TypeAlias = Literal["critical", "major", "minor", "info"]
