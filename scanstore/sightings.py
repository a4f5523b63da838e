"""What each scan saw of a finding: the tables between findings and scans.

A finding is as its latest sighting saw it. When its content changes, the content before goes to ``finding_contents``,
once, and the sightings that saw that point there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peewee

from scanstore.fields import Base, EnumField, JSONField, UTCField, utcnow
from scanstore.findings import Finding, VerifiedFinding
from scanstore.scans import Scan
from scanstore.states import SIGHTINGS


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
    verified = peewee.ForeignKeyField(VerifiedFinding, on_delete="SET NULL", null=True, unique=True, backref="+")
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
