"""The models of scans, their files and the chunks of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import peewee

from scanstore.db.fields import EnumField, HashField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.state_machine import CHUNK_STATUSES, FILE_STATUSES, PHASES, RISKS, SCAN_KINDS, SCAN_STATUSES
from scanstore.db.view_keys import RowId
from scanstore.db.views import View
from scanstore.leases.models import Claimable
from scanstore.snapshots.facts import FileVersion, Lineage

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref


class Scan(Numbered, Timestamped):
    """One snapshot of a target, and its analysis. ``revision`` counts the completed snapshots of the target.
    ``active_since`` is the start of the analysis, ``analyzed_at`` its end.
    """

    if TYPE_CHECKING:
        lineage_id = peewee.IntegerField()
        files = Backref["ScanFile"]()
        chunks = Backref["ScanFileChunk"]()

    lineage = peewee.ForeignKeyField(Lineage, on_delete="RESTRICT", backref="+", index=False)
    target = peewee.TextField()
    name = peewee.TextField()
    root = peewee.TextField(null=True)
    status = EnumField(SCAN_STATUSES, default="queued")
    phase = EnumField(PHASES, default="queued")
    kind = EnumField(SCAN_KINDS, default="source")
    revision = peewee.IntegerField(null=True)
    worker = peewee.TextField(null=True)
    error = peewee.TextField(null=True)
    options: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    started_at = UTCField(null=True)
    completed_at = UTCField(null=True)
    errors_in_a_row = peewee.IntegerField(default=0)
    active_since = UTCField(null=True)
    analyzed_at = UTCField(null=True)

    class Meta:
        table_name = "scans"
        column_order = (..., "created_at", "updated_at", "errors_in_a_row", "active_since", "analyzed_at")
        indexes = ((("lineage", "revision"), True),)


class ScanFile(Numbered, Timestamped):
    """A file of one scan. Statuses: ``done``: recorded; ``failed`` and ``skipped``: ``error`` has the reason."""

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()
        version_id = peewee.IntegerField(null=True)

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="files", index=False)
    version = peewee.ForeignKeyField(FileVersion, on_delete="RESTRICT", null=True, backref="+", index=False)
    file_path = peewee.TextField(index=True)
    file_hash = HashField(null=True)
    risk_level = EnumField(RISKS, default="normal")
    status = EnumField(FILE_STATUSES, default="pending")
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "scan_files"
        indexes = ((("scan", "file_path"), True), (("version", "scan"), False))


class SetAside(NamedTuple):
    """A draft of an answer that could not be stored: its number in the answer, from 0, the draft, and the reason."""

    number: int
    draft: object
    reason: str


class ScanFileChunk(Claimable):
    """A chunk of a file, the unit of review. The chunks of a file partition it. Only the status of a chunk can change.

    ``worker``, ``attempt`` and the times belong to its lease, see :mod:`scanstore.leases.engine`. After
    ``store.chunks.complete``, ``set_aside`` has the drafts that could not be stored.
    """

    set_aside: tuple[SetAside, ...] = ()

    if TYPE_CHECKING:
        scan_file_id = peewee.IntegerField()
        scan_id = peewee.IntegerField()

    id = RowId("scan_file_id", "chunk_index")
    scan_file = peewee.ForeignKeyField(ScanFile, backref="chunks")
    chunk_index = peewee.IntegerField()
    chunk_type = EnumField(("function", "class", "full_file"))
    symbol_name = peewee.TextField(null=True)
    start_line = peewee.IntegerField()
    end_line = peewee.IntegerField()
    content_hash = HashField()
    status = EnumField(CHUNK_STATUSES, default="pending")
    retry_count = peewee.IntegerField(default=0)
    lost_count = peewee.IntegerField(default=0)
    scan = peewee.ForeignKeyField(Scan, backref="chunks")
    file_path = peewee.TextField()
    risk_level = EnumField(RISKS)
    attempt = peewee.IntegerField(default=0)
    worker = peewee.TextField(null=True)
    lease_until = UTCField(null=True)
    next_retry_at = UTCField(null=True)
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "scan_file_chunks"

    __view__ = View(
        "chunk_facts",
        ("scan_file_id", "chunk_index"),
        {"w": "LEFT JOIN chunk_work AS w ON w.id = (f.id << 24 | x.chunk_index)"},
        {
            "id": "f.id << 24 | x.chunk_index",
            "scan_file_id": "f.id",
            **{name: f"x.{name}" for name in ("chunk_index", "chunk_type", "symbol_name", "start_line", "end_line")},
            "content_hash": "x.content_hash",
            "status": "coalesce(w.status, 'pending')",
            **{name: f"coalesce(w.{name}, 0)" for name in ("retry_count", "lost_count", "attempt")},
            **{name: f"f.{name}" for name in ("scan_id", "file_path", "risk_level")},
            **{name: f"w.{name}" for name in ("worker", "lease_until", "next_retry_at", "error")},
        },
        ordinal="chunk_index",
        searched=("content_hash",),
    )
