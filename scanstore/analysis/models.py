"""The models of an analysis: configurations, drafts, votes, verified findings, model calls and their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import peewee

from scanstore.analysis.payloads import title_key
from scanstore.db.fields import EnumField, HashField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.state_machine import CALL_STATUSES, DRAFT_STATUSES, SEVERITIES, VERIFIED_STATUSES, VOTES
from scanstore.db.values import unpack, utcnow
from scanstore.db.view_keys import WholeKey
from scanstore.findings.models import Finding  # noqa: F401  its foreign key to VerifiedFinding is made here
from scanstore.leases.models import LeasedRow
from scanstore.llm.models import ModelConfig
from scanstore.snapshots.models import Scan, ScanFileChunk


class ScanConfig(Numbered, Timestamped):
    """The configuration of an analysis, one per scan. ``store.scans.analyze`` sets it and documents the columns."""

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()
        primary_analyzer_id = peewee.IntegerField(null=True)

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="configs", unique=True)
    analysis_mode = peewee.TextField(default="primary_verifiers")
    primary_analyzer = peewee.ForeignKeyField(ModelConfig, on_delete="SET NULL", null=True, backref="+")
    scope = peewee.TextField(default="full")
    scanner_concurrency = peewee.IntegerField(default=20)
    verifier_concurrency = peewee.IntegerField(default=10)
    enricher_concurrency = peewee.IntegerField(default=5)
    max_retries = peewee.IntegerField(default=3)
    max_lost = peewee.IntegerField(default=10)
    retry_delay = peewee.FloatField(default=2.0)
    pause_after = peewee.IntegerField(null=True, default=10)

    class Meta:
        table_name = "scan_configs"
        column_order = (..., "created_at", "updated_at", "max_retries", "max_lost", "retry_delay", "pause_after")


class Leased(Numbered, LeasedRow):
    """Base of the models of the later stages; the columns of the lease come first."""

    rank = peewee.IntegerField(default=2)
    error = peewee.TextField(null=True)

    class Meta:
        column_order = (
            *("rank", "retry_count", "lost_count", "attempt", "worker", "process", "lease_until", "lease_clock"),
            *("next_retry_at", "error", "created_at", "updated_at", ...),
        )


class DraftFinding(Leased):
    """A reported problem that has not been verified yet. ``source_models`` lists the models that reported it, and
    ``vote_count`` is the sum of their configured votes. ``round`` counts its verifications. ``error`` is the reason why
    it failed or was skipped.
    """

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()
        chunk_id = peewee.IntegerField(null=True)

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="drafts", index=False)
    chunk = WholeKey(ScanFileChunk, on_delete="SET NULL", null=True, backref="drafts")
    file_path = peewee.TextField()
    title = peewee.TextField()
    title_key = peewee.TextField()
    vulnerability_type = peewee.TextField()
    severity = EnumField(SEVERITIES)
    line_number = peewee.IntegerField(null=True)
    end_line = peewee.IntegerField(null=True)
    snippet = peewee.TextField(default="")
    reason = peewee.TextField(default="")
    cwe = peewee.TextField(null=True)
    confidence = peewee.IntegerField(null=True)
    auto_detected = peewee.BooleanField(default=False)
    source_models: JSONField[list[str]] = JSONField(default=list)
    vote_count = peewee.IntegerField(default=1)
    round = peewee.IntegerField(default=1)
    status = EnumField(DRAFT_STATUSES, default="pending")

    class Meta:
        table_name = "draft_findings"
        indexes = ((("scan", "file_path", "vulnerability_type", "title_key", "line_number"), True),)

    def save(self, force_insert: bool = False, only: object = None) -> int:
        """Write the changed fields. For a new row, derived fields are computed."""
        if only is None and (force_insert or self.id is None):
            given: dict[str, object] = self.__data__
            if given.get("title_key") is None and isinstance(given.get("title"), str):
                self.title_key = title_key(self.title)
            if given.get("file_path") is None and self.chunk is not None:
                self.file_path = self.chunk.file_path
            if isinstance(given.get("severity"), str) and self.severity.lower() in SEVERITIES:
                self.rank = SEVERITIES.index(self.severity.lower())
        return super().save(force_insert=force_insert, only=only)


class Vote(Numbered, Timestamped):
    """The decision of one model about a draft, in one round of its verification."""

    if TYPE_CHECKING:
        draft_id = peewee.IntegerField()
        model_config_id = peewee.IntegerField()

    draft = peewee.ForeignKeyField(DraftFinding, on_delete="CASCADE", backref="votes", index=False)
    model_config = peewee.ForeignKeyField(ModelConfig, on_delete="RESTRICT", backref="cast_votes")
    round = peewee.IntegerField(default=1)
    decision = EnumField(VOTES)
    confidence = peewee.IntegerField(null=True)
    severity = EnumField(SEVERITIES, null=True)
    reason = peewee.TextField(default="")
    attack_vector = peewee.TextField(default="")
    data_flow = peewee.TextField(default="")

    class Meta:
        table_name = "votes"
        indexes = ((("draft", "model_config", "round"), True),)


class VerifiedFinding(Leased):
    """A verified draft, with details from its votes; one per draft."""

    if TYPE_CHECKING:
        draft_id = peewee.IntegerField()
        scan_id = peewee.IntegerField()

    draft = peewee.ForeignKeyField(DraftFinding, on_delete="CASCADE", unique=True, backref="verified")
    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="verified")
    title = peewee.TextField()
    confidence = peewee.IntegerField()
    attack_vector = peewee.TextField(default="")
    data_flow = peewee.TextField(default="")
    adjusted_severity = EnumField(SEVERITIES)
    status = EnumField(VERIFIED_STATUSES, default="pending")

    class Meta:
        table_name = "verified_findings"


class Analyzer(Numbered):
    """A model with one prompt and one set of parameters. ``key`` identifies the combination and is the same in every
    store.
    """

    key = peewee.TextField(unique=True)
    model = peewee.TextField()
    prompt_hash = peewee.TextField()
    parameters: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "analyzers"


class CachedAnswer(Numbered, Timestamped):
    """The answer of one analyzer about one content."""

    if TYPE_CHECKING:
        analyzer_id = peewee.IntegerField()

    analyzer = peewee.ForeignKeyField(Analyzer, on_delete="CASCADE", backref="answers", index=False)
    content_hash = HashField()
    response = peewee.BlobField(null=True)
    drafts: JSONField[list[dict[str, JsonValue]] | None] = JSONField(null=True)

    class Meta:
        table_name = "analysis_cache"
        indexes = ((("analyzer", "content_hash"), True),)

    @property
    def response_text(self) -> str | None:
        """The response, or None."""
        return None if self.response is None else unpack(self.response)

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        return {**super().to_dict(secrets=secrets), "response": self.response_text}


class ModelCall(Numbered):
    """One call of a model. ``cost`` is in the caller's currency, ``latency_ms`` from a monotonic clock.

    Statuses: ``running``; ``answered``: a response arrived; ``failed``: no response; ``abandoned``: the process ended
    first.
    """

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField(null=True)
        model_config_id = peewee.IntegerField(null=True)
        chunk_id = peewee.IntegerField(null=True)
        draft_id = peewee.IntegerField(null=True)
        analyzer_id = peewee.IntegerField(null=True)

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", null=True, backref="calls", index=False)
    model_config = peewee.ForeignKeyField(ModelConfig, on_delete="SET NULL", null=True, backref="calls")
    model = peewee.TextField()
    purpose = peewee.TextField()
    chunk = WholeKey(ScanFileChunk, on_delete="SET NULL", null=True, backref="calls", index=False)
    draft = peewee.ForeignKeyField(DraftFinding, on_delete="SET NULL", null=True, backref="calls", index=False)
    analyzer = peewee.ForeignKeyField(Analyzer, on_delete="SET NULL", null=True, backref="calls", index=False)
    process = peewee.TextField()
    status = EnumField(CALL_STATUSES, default="running")
    started_at = UTCField(default=utcnow)
    ended_at = UTCField(null=True)
    latency_ms = peewee.IntegerField(null=True)
    prompt_tokens = peewee.IntegerField(default=0)
    completion_tokens = peewee.IntegerField(default=0)
    cost = peewee.FloatField(default=0.0)
    error = peewee.TextField(null=True)
    prompt = peewee.BlobField(null=True)
    response = peewee.BlobField(null=True)

    class Meta:
        table_name = "model_calls"
        indexes = ((("scan", "model", "purpose"), False),)

    @property
    def prompt_text(self) -> str | None:
        """The prompt, if it was stored and loaded."""
        return None if self.prompt is None else unpack(self.prompt)

    @property
    def response_text(self) -> str | None:
        """The response, if it was stored and loaded."""
        return None if self.response is None else unpack(self.response)

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        return {**super().to_dict(secrets=secrets), "prompt": self.prompt_text, "response": self.response_text}
