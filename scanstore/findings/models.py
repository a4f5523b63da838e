"""The models of findings, their sightings in each scan, and the decisions of people.

The row of a finding has the values of its latest sighting. When its content changes, the old content is stored once in
``finding_contents``, and the earlier sightings refer to it.

Every change of status, comment and suppression is an event, which later scans never change. A suppression applies to
one finding, or to a rule, in some paths or everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import peewee

from scanstore.db.fields import (
    Base,
    EnumField,
    HashField,
    JSONField,
    LaterForeignKey,
    Numbered,
    PersonField,
    Timestamped,
    UTCField,
)
from scanstore.db.rules import Rules, columns, insert_row
from scanstore.db.state_machine import FINDING_STATUSES, SEVERITIES, SIGHTINGS
from scanstore.db.values import utcnow
from scanstore.errors import InvalidArgument, NotFound
from scanstore.snapshots.facts import Lineage
from scanstore.snapshots.models import Scan

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref, Field
    from scanstore.db.words import FindingState


_REPORT = "load a report: store.sarif.load(file)"
_SCAN = "call store.scans.remove(scan)"


class Finding(Numbered, Timestamped):
    """A finding: one row for all scans of its target that reported it, with the values of the last one.

    People decide the ``status``; all other values come from reports. ``first_scan`` and ``scan`` are the first and last
    scan that reported it; ``rule_id`` is a rule of ``tool``. :mod:`scanstore.findings.identity` explains how it is
    recognised.
    """

    __shown__ = "severity status: title, file_path:line_number | rule_id, tool, cwe"
    __rules__ = Rules(
        state={
            "status": "call store.findings.triage(finding, status, by=...)",
            "verified": "call store.findings.publish(verified)",
        },
        fixed=columns(_REPORT, "lineage", "scan", "first_scan", "tool", "rule_id"),
    )

    if TYPE_CHECKING:
        lineage_id = peewee.IntegerField()
        scan_id = peewee.IntegerField(null=True)
        first_scan_id = peewee.IntegerField(null=True)
        sightings = Backref["Sighting"]()
        events = Backref["FindingEvent"]()
        contents = Backref["FindingContent"]()
        suppressions = Backref["Suppression"]()
        verified_id = peewee.IntegerField(null=True)

    lineage = peewee.ForeignKeyField(Lineage, on_delete="CASCADE", backref="+", index=False)
    scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="findings")
    first_scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="first_findings")
    verified: Field[Base | None] = LaterForeignKey(
        "VerifiedFinding", on_delete="SET NULL", null=True, unique=True, backref="findings"
    )
    tool = peewee.TextField(default="scanstore")
    rule_id = peewee.TextField()
    title = peewee.TextField()
    message = peewee.TextField(default="")
    vulnerability_type = peewee.TextField()
    severity = EnumField(SEVERITIES)
    status = EnumField(FINDING_STATUSES, default="open")
    file_path = peewee.TextField()
    line_number = peewee.IntegerField(null=True)
    end_line = peewee.IntegerField(null=True)
    start_column = peewee.IntegerField(null=True)
    end_column = peewee.IntegerField(null=True)
    snippet = peewee.TextField(default="")
    cwe = peewee.TextField(null=True)
    confidence = peewee.IntegerField(null=True)
    vulnerability_details = peewee.TextField(default="")
    proof_of_concept = peewee.TextField(default="")
    remediation_steps = peewee.TextField(default="")
    references = peewee.TextField(default="")
    cvss_score = peewee.FloatField(null=True)
    cvss_vector = peewee.TextField(null=True)
    symbol = peewee.TextField(null=True)
    line_hash = HashField(null=True)
    context_hash = HashField(null=True)
    message_key = peewee.TextField(default="")
    fingerprints: JSONField[dict[str, str]] = JSONField(default=dict)
    detail = peewee.BlobField(null=True)

    state: FindingState | None = None  #: the state in the scan or target for which it was listed

    class Meta:
        table_name = "findings"
        column_order = (..., "created_at", "updated_at", "verified")
        indexes = ((("lineage", "tool", "rule_id"), False), (("lineage", "file_path"), False))

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new:
            return
        if self.scan_id is None:
            raise InvalidArgument(f"a new finding has no scan; give scan=, or {_REPORT}")
        scan = Scan.get_or_none(Scan.id == self.scan_id)
        if scan is None:
            raise NotFound(f"no scan {self.scan_id}; store.scans.list() (scanstore scans list) shows the known ones")
        if self.lineage_id not in (None, scan.lineage_id):
            raise InvalidArgument(f"lineage {self.lineage_id} is not that of scan {scan.id}; leave it out")
        if self.first_scan_id not in (None, scan.id):
            raise InvalidArgument(f"first_scan is {self.first_scan_id}; a new finding begins with its scan, {scan.id}")
        self.lineage, self.first_scan = scan.lineage, scan
        names |= {"lineage", "first_scan"}
        if self.__data__.get("vulnerability_type") is None:
            self.vulnerability_type = self.rule_id
            names.add("vulnerability_type")

    def _finish(self, names: set[str], *, new: bool) -> None:
        """Add the sighting of a new finding in its scan."""
        if new:
            place = ("file_path", "line_number", "end_line", "start_column", "end_column")
            columns = {name: self.__data__.get(name) for name in place}
            insert_row(Sighting, scan=self.scan_id, finding=self.id, state="new", **columns)


class ToolRun(Numbered):
    """A report that was loaded: its tool, rules and coverage.

    ``troubles`` are the reasons why a gate must not pass because of it. ``left_out`` counts the results that could not
    be used (None: unknown). ``repeats`` counts how often the same report was loaded again.
    """

    __shown__ = "tool tool_version: scan, category | complete, successful, left_out, created_at"
    __rules__ = Rules(delete=_SCAN, fixed=columns(_REPORT, "scan", "tool", "digest"))

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="runs", index=False)
    tool = peewee.TextField()
    tool_version = peewee.TextField(default="")
    digest = peewee.TextField(index=True)
    rules: JSONField[list[str]] = JSONField(default=list)
    complete = peewee.BooleanField(default=False)
    successful = peewee.BooleanField(default=True)
    files: JSONField[list[str] | None] = JSONField(null=True)
    failed_files: JSONField[list[str]] = JSONField(default=list)
    scope: JSONField[list[str] | None] = JSONField(null=True)
    detail = peewee.BlobField(null=True)
    created_at = UTCField(default=utcnow)
    category = peewee.TextField(default="")
    troubles: JSONField[list[str]] = JSONField(default=list)
    left_out = peewee.IntegerField(null=True, default=0)
    repeats = peewee.IntegerField(default=0)
    repeated_at = UTCField(null=True)

    class Meta:
        table_name = "tool_runs"
        indexes = ((("scan", "digest"), True),)


class FindingContent(Numbered):
    """Columns of a finding as they were before they changed: zlib of JSON."""

    __shown__ = ": finding"
    __rules__ = Rules(create=_REPORT, delete=_SCAN, frozen=_REPORT)

    if TYPE_CHECKING:
        finding_id = peewee.IntegerField()

    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", backref="contents")
    body = peewee.BlobField()

    class Meta:
        table_name = "finding_contents"


class Sighting(Base):
    """A finding as one scan reported it or, if ``fixed``, no longer reported it. Without ``content``, the content is
    that of the finding's row.
    """

    __shown__ = "scan finding state: file_path:line_number"
    __rules__ = Rules(create=_REPORT, delete=_SCAN, frozen=_REPORT)

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()
        finding_id = peewee.IntegerField()
        run_id = peewee.IntegerField(null=True)
        content_id = peewee.IntegerField(null=True)
        verified_id = peewee.IntegerField(null=True)

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="sightings", index=False)
    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", backref="sightings", index=False)
    run = peewee.ForeignKeyField(ToolRun, on_delete="CASCADE", null=True, backref="sightings", index=False)
    verified: Field[Base | None] = LaterForeignKey(
        "VerifiedFinding", on_delete="SET NULL", null=True, unique=True, backref="+"
    )
    state = EnumField(SIGHTINGS)
    file_path = peewee.TextField(default="")
    line_number = peewee.IntegerField(null=True)
    end_line = peewee.IntegerField(null=True)
    start_column = peewee.IntegerField(null=True)
    end_column = peewee.IntegerField(null=True)
    content = peewee.ForeignKeyField(FindingContent, on_delete="NO ACTION", null=True, backref="+", index=False)

    class Meta:
        table_name = "sightings"
        primary_key = peewee.CompositeKey("scan", "finding")
        without_rowid = True
        indexes = ((("finding", "scan"), False),)


ACTIONS = ("status", "comment", "suppress", "unsuppress")


class FindingEvent(Numbered):
    """An event of a finding; ``by`` is a person, a program, or None if no name was given."""

    __shown__ = "action: from_status → to_status, finding, by, note | created_at"
    __rules__ = Rules(
        delete="the history of a finding is kept; call store.scans.remove(scan) to remove all of a scan",
        frozen="the history of a finding is kept; call store.findings.comment(finding, text, by=...)",
    )

    if TYPE_CHECKING:
        finding_id = peewee.IntegerField()
        scan_id = peewee.IntegerField(null=True)

    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", backref="events")
    scan = peewee.ForeignKeyField(Scan, on_delete="SET NULL", null=True, backref="+", index=False)
    action = EnumField(ACTIONS)
    by = PersonField()
    from_status = EnumField(FINDING_STATUSES, null=True)
    to_status = EnumField(FINDING_STATUSES, null=True)
    note = peewee.TextField(default="")
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "finding_events"

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if FindingEvent.action.db_value(self.__data__.get("action")) != "comment":
            raise InvalidArgument(
                f"action is {self.action!r}, which changes a finding;"
                " call store.findings.triage, suppress or unsuppress"
            )


class Suppression(Numbered, Timestamped):
    """A decision to hide a finding or the findings of a rule. An expired or lifted suppression hides nothing."""

    __shown__ = ": finding, tool, rule_id, path_pattern, by, justification | expires_at, lifted_at"
    __rules__ = Rules(
        create="call store.findings.suppress(finding, ...)",
        delete="call store.findings.unsuppress(suppression, ...)",
        frozen="call store.findings.suppress again, or store.findings.unsuppress(suppression, ...)",
        free=frozenset({"expires_at", "justification"}),
    )

    if TYPE_CHECKING:
        lineage_id = peewee.IntegerField()
        finding_id = peewee.IntegerField(null=True)

    lineage = peewee.ForeignKeyField(Lineage, on_delete="CASCADE", backref="+")
    finding = peewee.ForeignKeyField(Finding, on_delete="CASCADE", null=True, backref="suppressions")
    tool = peewee.TextField(null=True)
    rule_id = peewee.TextField(null=True)
    path_pattern = peewee.TextField(null=True)
    justification = peewee.TextField()
    by = PersonField()
    expires_at = UTCField(null=True)
    lifted_at = UTCField(null=True)
    lifted_by = peewee.TextField(null=True)

    class Meta:
        table_name = "suppressions"

    @property
    def expired(self) -> bool:
        """Whether its end date has passed. Its findings are shown again, with a note."""
        return self.expires_at is not None and bool(self.expires_at <= utcnow())

    @property
    def state(self) -> str:
        """``active`` (it hides its findings), ``expired``, or ``lifted`` by a person."""
        if self.lifted_at is not None:
            return "lifted"
        return "expired" if self.expired else "active"

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        """Return the row as plain values, with its current state."""
        return {**super().to_dict(secrets=secrets), "state": self.state}
