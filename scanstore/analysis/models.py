"""The models of an analysis: configurations, drafts, votes, verified findings, model calls and their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peewee

from scanstore.analysis.payloads import title_key
from scanstore.db.fields import EnumField, HashField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.rules import LEASE_COLUMNS, Rules, above, columns
from scanstore.db.state_machine import CALL_STATUSES, DRAFT_STATUSES, SEVERITIES, VERIFIED_STATUSES, VOTES
from scanstore.db.values import unpack, utcnow
from scanstore.db.view_keys import WholeKey
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, NotFound
from scanstore.findings.models import Finding  # noqa: F401  its foreign key to VerifiedFinding is made here
from scanstore.leases.models import LeasedRow
from scanstore.llm.models import ModelConfig
from scanstore.snapshots.models import Scan, ScanFileChunk


class ScanConfig(Numbered, Timestamped):
    """The configuration of an analysis, one per scan. ``store.scans.analyze`` sets it and documents the columns."""

    __shown__ = "scan: analysis_mode, scope | primary_analyzer, max_retries, pause_after"
    __rules__ = Rules(
        delete="call store.scans.analyze(scan, ...) to change it",
        fixed=columns("call store.scans.analyze(scan, ...)", "scan", "analysis_mode", "scope"),
    )

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


def _rank(row: Any, column: str, names: set[str]) -> None:
    """Set the rank of a row by its severity, so that the worst are claimed first."""
    if column in names:
        row.rank = SEVERITIES.index(type(row)._meta.fields[column].db_value(row.__data__.get(column)))
        names.add("rank")


def _rank_values(model: Any, column: str, values: dict[str, Any]) -> None:
    if column in values and not isinstance(values[column], peewee.Node):
        values["rank"] = SEVERITIES.index(model._meta.fields[column].db_value(values[column]))


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

    __shown__ = "severity status: title, file_path:line_number | vulnerability_type, confidence, vote_count, round"
    __rules__ = Rules(
        delete="call store.drafts.skip(draft, reason)",
        state={
            "status": "call store.drafts.record_votes, skip, fail, release or retry",
            **columns("call store.drafts.claim, fail, release or retry", *LEASE_COLUMNS[:8], "error", "round"),
            "rank": "it follows from the severity; set that",
        },
        fixed=columns(
            "skip the draft and add another one: store.drafts.add(scan, drafts)",
            *("scan", "chunk", "file_path", "title", "title_key", "vulnerability_type", "line_number"),
        ),
    )

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

    def _prepare(self, names: set[str], *, new: bool) -> None:
        _rank(self, "severity", names)
        if not new:
            return
        if self.chunk_id is not None:
            self._follow_chunk()
        if isinstance(self.__data__.get("title"), str):
            self.title_key = title_key(self.title)
        names |= {"title_key", "file_path", "scan"}
        kind, line = self.__data__.get("vulnerability_type"), self.line_number
        same = DraftFinding.get_or_none(
            DraftFinding.scan == self.scan_id,
            DraftFinding.file_path == self.__data__.get("file_path"),
            peewee.fn.lower(DraftFinding.vulnerability_type) == (kind.lower() if isinstance(kind, str) else None),
            DraftFinding.title_key == self.__data__.get("title_key"),
            DraftFinding.line_number.is_null() if line is None else DraftFinding.line_number == line,
        )
        if same is not None:
            raise Conflict(f"draft {same.id} is the same; call store.drafts.add(scan, drafts), which merges the two")

    def _follow_chunk(self) -> None:
        chunk = ScanFileChunk.get_or_none(ScanFileChunk.id == self.chunk_id)
        if chunk is None:
            raise NotFound(f"no chunk {self.chunk_id}; store.chunks.list(scan) shows the known ones")
        if self.__data__.get("scan") is None:
            self.scan = chunk.scan
        if self.__data__.get("file_path") is None:
            self.file_path = chunk.file_path
        if (chunk.scan_id, chunk.file_path) != (self.scan_id, self.file_path):
            raise InvalidArgument(
                f"chunk {chunk.id} is of {chunk.file_path!r} in scan {chunk.scan_id}, and the draft is of"
                f" {self.file_path!r} in scan {self.scan_id}; give a chunk of its own"
            )
        sql = "SELECT 1 FROM chunk_work WHERE id = ?"
        if not self._meta.database.execute_sql(sql, (chunk.id,)).fetchall():
            raise IllegalMove(
                f"chunk {chunk.id} waits for the analysis of its scan; call store.scans.analyze({chunk.scan_id}) first"
            )

    def _finish(self, names: set[str], *, new: bool) -> None:
        """Continue the analysis of the scan, which has new work."""
        if new:
            above(self, "lifecycle", "advance")(self._meta.database, self.scan_id)

    @classmethod
    def _prepare_update(cls, values: dict[str, Any]) -> None:
        _rank_values(cls, "severity", values)


_VOTES = "call store.drafts.record_votes(draft, votes)"


class Vote(Numbered, Timestamped):
    """The decision of one model about a draft, in one round of its verification."""

    __shown__ = "decision: draft, model_config, confidence | severity, round, created_at"
    __rules__ = Rules(create=_VOTES, delete="votes are kept; call store.scans.rerun(scan, to='verify')", frozen=_VOTES)

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

    __shown__ = "adjusted_severity status: title, draft | confidence"
    __rules__ = Rules(
        create=_VOTES,
        delete="call store.scans.rerun(scan, to='verify')",
        state={
            "status": "call store.findings.publish(verified), or store.verified.fail, release or retry",
            **columns("call store.verified.claim, fail, release or retry", *LEASE_COLUMNS[:8], "error"),
            "rank": "it follows from the severity; set that",
        },
        fixed=columns(_VOTES, "draft", "scan"),
    )

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

    def _prepare(self, names: set[str], *, new: bool) -> None:
        _rank(self, "adjusted_severity", names)

    @classmethod
    def _prepare_update(cls, values: dict[str, Any]) -> None:
        _rank_values(cls, "adjusted_severity", values)


_ANALYZER = "call store.llm.analyzer(model, ...)"
_ANSWER = "call store.chunks.complete or store.llm.ask with an analyzer"
_CALL = "use a block: with store.llm.call(model, purpose):"


class Analyzer(Numbered):
    """A model with one prompt and one set of parameters. ``key`` identifies the combination and is the same in every
    store.
    """

    __shown__ = ": model | created_at"
    __rules__ = Rules(create=_ANALYZER, frozen=_ANALYZER)

    key = peewee.TextField(unique=True)
    model = peewee.TextField()
    prompt_hash = peewee.TextField()
    parameters: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "analyzers"


class CachedAnswer(Numbered, Timestamped):
    """The answer of one analyzer about one content."""

    __shown__ = ": analyzer | created_at"
    __rules__ = Rules(create=_ANSWER, frozen=_ANSWER)

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

    __shown__ = "status: purpose, model, scan | prompt_tokens, completion_tokens, cost, latency_ms, started_at"
    __rules__ = Rules(create=_CALL, frozen=_CALL)

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
