"""The rows of findings: what each scan saw of them, and what people decided.

A finding is as its latest sighting saw it. When its content changes, the content before goes to ``finding_contents``,
once, and the sightings that saw that point there.

Every change of a status, every comment and suppression is an event that stays, whatever later scans say. A suppression
is about one finding, or about a rule, in some paths or everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peewee

from scanstore.db.fields import Base, EnumField, HashField, JSONField, LaterForeignKey, UTCField
from scanstore.db.state_machine import FINDING_STATUSES, SEVERITIES, SIGHTINGS
from scanstore.db.values import utcnow
from scanstore.snapshots.facts import Lineage
from scanstore.snapshots.models import Scan


class Finding(Base):
    """What is to be fixed: one row for all scans of its target that saw it, as the last of them did.

    ``status`` is what people decided, everything else what was reported. ``scan`` saw it last, ``first_scan`` first;
    ``rule_id`` is the rule of ``tool``. What it is recognised by is explained in :mod:`scanstore.findings.identity`.
    """

    if TYPE_CHECKING:
        id: Any
        lineage_id: Any
        scan_id: Any
        first_scan_id: Any
        verified_id: Any

    lineage = peewee.ForeignKeyField(Lineage, on_delete="CASCADE", backref="+", index=False)
    scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="findings")
    first_scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="first_findings")
    verified: Any = LaterForeignKey("VerifiedFinding", on_delete="SET NULL", null=True, unique=True, backref="findings")
    tool: Any = peewee.TextField(default="scanstore")
    rule_id: Any = peewee.TextField()
    title: Any = peewee.TextField()
    message: Any = peewee.TextField(default="")
    vulnerability_type: Any = peewee.TextField()
    severity: Any = EnumField(SEVERITIES)
    status: Any = EnumField(FINDING_STATUSES, default="open")
    file_path: Any = peewee.TextField()
    line_number: Any = peewee.IntegerField(null=True)
    end_line: Any = peewee.IntegerField(null=True)
    start_column: Any = peewee.IntegerField(null=True)
    end_column: Any = peewee.IntegerField(null=True)
    snippet: Any = peewee.TextField(default="")
    cwe: Any = peewee.TextField(null=True)
    confidence: Any = peewee.IntegerField(null=True)
    vulnerability_details: Any = peewee.TextField(default="")
    proof_of_concept: Any = peewee.TextField(default="")
    remediation_steps: Any = peewee.TextField(default="")
    references: Any = peewee.TextField(default="")
    cvss_score: Any = peewee.FloatField(null=True)
    cvss_vector: Any = peewee.TextField(null=True)
    symbol: Any = peewee.TextField(null=True)
    line_hash: Any = HashField(null=True)
    context_hash: Any = HashField(null=True)
    message_key: Any = peewee.TextField(default="")
    fingerprints: Any = JSONField(default=dict)
    detail: Any = peewee.BlobField(null=True)
    created_at = UTCField(default=utcnow)
    updated_at = UTCField(default=utcnow)

    state: str | None = None  #: what the scan said of it for which it was listed

    class Meta:
        table_name = "findings"
        indexes = ((("lineage", "tool", "rule_id"), False), (("lineage", "file_path"), False))


class ToolRun(Base):
    """A report that was loaded: which tool, which rules, what it looked at.

    ``troubles`` are the reasons why a check must not pass by it; ``left_out`` counts its results that could not be used
    (None: unknown). The same report that came again is counted in ``repeats``.
    """

    if TYPE_CHECKING:
        id: Any
        scan_id: Any

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="runs", index=False)
    tool: Any = peewee.TextField()
    tool_version: Any = peewee.TextField(default="")
    digest: Any = peewee.TextField(index=True)
    rules: Any = JSONField(default=list)
    complete: Any = peewee.BooleanField(default=False)
    successful: Any = peewee.BooleanField(default=True)
    files: Any = JSONField(null=True)
    failed_files: Any = JSONField(default=list)
    scope: Any = JSONField(null=True)
    detail: Any = peewee.BlobField(null=True)
    created_at = UTCField(default=utcnow)
    category: Any = peewee.TextField(default="")
    troubles: Any = JSONField(default=list)
    left_out: Any = peewee.IntegerField(null=True, default=0)
    repeats: Any = peewee.IntegerField(default=0)
    repeated_at: Any = UTCField(null=True)

    class Meta:
        table_name = "tool_runs"
        indexes = ((("scan", "digest"), True),)


class FindingContent(Base):
    """Columns of a finding as they were before they changed: zlib of JSON."""

    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", backref="contents")
    body: Any = peewee.BlobField()

    class Meta:
        table_name = "finding_contents"


class Sighting(Base):
    """A finding as one scan saw it, or, ``fixed``, saw it no more. ``content``: none, as the finding is now."""

    if TYPE_CHECKING:
        scan_id: Any
        finding_id: Any
        run_id: Any
        verified_id: Any
        content_id: Any

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="sightings", index=False)
    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", backref="sightings", index=False)
    run = peewee.ForeignKeyField(ToolRun, on_delete="CASCADE", null=True, backref="sightings", index=False)
    verified: Any = LaterForeignKey("VerifiedFinding", on_delete="SET NULL", null=True, unique=True, backref="+")
    state: Any = EnumField(SIGHTINGS)
    file_path: Any = peewee.TextField(default="")
    line_number: Any = peewee.IntegerField(null=True)
    end_line: Any = peewee.IntegerField(null=True)
    start_column: Any = peewee.IntegerField(null=True)
    end_column: Any = peewee.IntegerField(null=True)
    content = peewee.ForeignKeyField(FindingContent, on_delete="NO ACTION", null=True, backref="+", index=False)

    class Meta:
        table_name = "sightings"
        primary_key = peewee.CompositeKey("scan", "finding")
        without_rowid = True
        indexes = ((("finding", "scan"), False),)


ACTIONS = ("status", "comment", "suppress", "unsuppress")


class FindingEvent(Base):
    """Something that happened to a finding; ``by`` is a person, or what did it by itself."""

    if TYPE_CHECKING:
        id: Any
        finding_id: Any
        scan_id: Any

    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", backref="events")
    scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="+", index=False)
    action: Any = EnumField(ACTIONS)
    by: Any = peewee.TextField()
    from_status: Any = EnumField(FINDING_STATUSES, null=True)
    to_status: Any = EnumField(FINDING_STATUSES, null=True)
    note: Any = peewee.TextField(default="")
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "finding_events"


class Suppression(Base):
    """A decision not to be told of a finding, or of a rule; one that has expired or was lifted hides nothing."""

    if TYPE_CHECKING:
        id: Any
        lineage_id: Any
        finding_id: Any

    lineage = peewee.ForeignKeyField(Lineage, on_delete="CASCADE", backref="+")
    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", null=True, backref="suppressions")
    tool: Any = peewee.TextField(null=True)
    rule_id: Any = peewee.TextField(null=True)
    path_pattern: Any = peewee.TextField(null=True)
    justification: Any = peewee.TextField()
    by: Any = peewee.TextField()
    expires_at: Any = UTCField(null=True)
    lifted_at: Any = UTCField(null=True)
    lifted_by: Any = peewee.TextField(null=True)
    created_at = UTCField(default=utcnow)
    updated_at = UTCField(default=utcnow)

    class Meta:
        table_name = "suppressions"

    @property
    def expired(self) -> bool:
        """Whether its time is over. What it hid is to be seen again, with a word that it was hidden."""
        return self.expires_at is not None and bool(self.expires_at <= utcnow())

    @property
    def state(self) -> str:
        """``active``: it hides what it is about; ``expired``; or ``lifted``, by a person."""
        if self.lifted_at is not None:
            return "lifted"
        return "expired" if self.expired else "active"

    def to_dict(self, *, secrets: bool = False) -> dict[str, Any]:
        """The row as plain values, and its state at this moment."""
        return {**super().to_dict(secrets=secrets), "state": self.state}
