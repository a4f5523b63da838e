"""The models of scans, their files and the chunks of the files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import peewee

from scanstore.db.arguments import check_text
from scanstore.db.fields import EnumField, HashField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.rules import Rules, columns
from scanstore.db.state_machine import CHUNK_STATUSES, FILE_STATUSES, PHASES, RISKS, SCAN_KINDS, SCAN_STATUSES
from scanstore.db.view_keys import RowId
from scanstore.db.views import View
from scanstore.errors import InvalidArgument
from scanstore.leases.models import Claimable
from scanstore.snapshots.facts import FileVersion, Lineage

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref


_RECORD = "call store.symbols.record_file(scan, path, ...)"
_REMOVE = "call store.scans.remove(scan)"


class Scan(Numbered, Timestamped):
    """One snapshot of a target, and its analysis. ``revision`` counts the completed snapshots of the target.
    ``active_since`` is the start of the analysis, ``analyzed_at`` its end.
    """

    __shown__ = "status: target | name, phase, kind, started_at, completed_at"
    __rules__ = Rules(
        delete=_REMOVE,
        state={
            "status": "call store.scans.finish, pause, resume, cancel or rerun",
            **columns("call store.scans.add, analyze or rerun", "phase", "worker", "started_at", "active_since"),
            **columns("call store.scans.finish", "revision", "completed_at", "analyzed_at", "errors_in_a_row"),
        },
        fixed=columns("add another scan: store.scans.add(target)", "lineage", "target", "kind"),
    )

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

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new:
            return
        target = check_text(self.__data__.get("target"), "target")
        if self.__data__.get("lineage") is None:
            Lineage.insert(target=target).on_conflict_ignore().execute()
            self.lineage = Lineage.get(Lineage.target == target)
        if self.__data__.get("name") is None:
            self.name = os.path.basename(target) or target
        names |= {"lineage", "name"}
        if Lineage.get_or_none(Lineage.id == self.lineage_id, Lineage.target == target) is None:
            raise InvalidArgument(f"lineage {self.lineage_id} is not that of target {target!r}; leave it out")


class ScanFile(Numbered, Timestamped):
    """A file of one scan. Statuses: ``done``: recorded; ``failed`` and ``skipped``: ``error`` has the reason."""

    __shown__ = "status: file_path, scan, error | risk_level"
    __rules__ = Rules(
        delete=_REMOVE,
        state=columns(_RECORD, "version", "status", "error"),
        fixed=columns(_RECORD, "scan", "file_path", "file_hash"),
    )

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


_CHUNKS = "call store.chunks.complete, fail, release or retry"
#: Analyses that are finished with work left, or that continue without work.
_ASTRAY = """
SELECT s.id FROM scans AS s WHERE active_since IS NOT NULL AND status IN ('completed', 'queued', 'running')
   AND (status = 'completed') = EXISTS (SELECT 1 FROM work_counts AS w
        LEFT JOIN scan_configs AS c ON c.scan_id = w.scan_id
        WHERE w.scan_id = s.id AND w.count > 0 AND w.status IN ('pending', 'running', 'verifying', 'enriching')
          AND (w.kind = 'chunk' OR c.analysis_mode IS NOT 'primary_only')) LIMIT 1
"""


def _check_analyses(database: Any) -> None:
    found = database.execute_sql(_ASTRAY).fetchone()
    if found is not None:
        raise InvalidArgument(f"status of chunks is not set by hand in the analysis of scan {found[0]}; {_CHUNKS}")


class _ChunkUpdate(peewee.ModelUpdate):
    """An update that leaves no analysis with the wrong status."""

    def execute(self, database: Any = None) -> Any:
        database = database or ScanFileChunk._meta.database
        with database.atomic():
            done = super().execute(database)
            _check_analyses(database)
        return done


class ScanFileChunk(Claimable):
    """A chunk of a file, the unit of review. The chunks of a file partition it. Only the status of a chunk can change.

    ``worker``, ``attempt`` and the times belong to its lease, see :mod:`scanstore.leases.engine`. After
    ``store.chunks.complete``, ``set_aside`` has the drafts that could not be stored.
    """

    __shown__ = "status: file_path:start_line-end_line, chunk_type, symbol_name | scan, risk_level"
    __rules__ = Rules(create=_RECORD, delete=_REMOVE, frozen=_CHUNKS, free=frozenset({"status", "retry_count"}))

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

    @classmethod
    def update(cls, data: object = None, /, **update: object) -> peewee.ModelUpdate:
        """Return a query that changes the status of chunks. It raises InvalidArgument where an analysis would be left
        with the wrong status.
        """
        super().update(data, **update)
        return _ChunkUpdate(cls, cls._normalize_data(data, update))  # type: ignore[attr-defined]

    def _finish(self, names: set[str], *, new: bool) -> None:
        _check_analyses(self._meta.database)
