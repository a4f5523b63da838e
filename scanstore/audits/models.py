"""The models of audits, and the types of their arguments.

Change here: the columns of audits, and their accepted values. The methods are in :mod:`scanstore.audits.audits`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import peewee

from scanstore.accounts.models import User
from scanstore.audits.policies import SEVERITIES, VERDICTS
from scanstore.db.arguments import check_choice, check_optional_text, check_text
from scanstore.db.fields import EnumField, Identified, JSONField, Numbered, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.rules import LEASE_COLUMNS, Rules, columns, insert_row
from scanstore.db.values import dump_json, utcnow
from scanstore.errors import InvalidArgument, shown
from scanstore.leases.models import LeasedTask

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref
    from scanstore.db.words import AuditStatus

STATUSES: tuple[AuditStatus, ...] = ("queued", "processing", "completed", "failed", "cancelled")
QUEUE = "default"
UNKNOWN = "unknown"  #: the author of an event if no name was given; the table requires one


class Task(LeasedTask):
    """One document to audit. It is leased to a worker, see :mod:`scanstore.leases.engine`."""

    __shown__ = "status: original_filename, queue | file_size, created_at, completed_at"
    __rules__ = Rules(
        state={
            "status": "call store.audits.complete, fail, cancel, release or retry",
            **columns("call store.audits.claim, complete, fail, release or retry", *LEASE_COLUMNS, "error_message"),
        },
    )

    if TYPE_CHECKING:
        user_id = peewee.TextField()
        events = Backref["AuditEvent"]()

    user = peewee.ForeignKeyField(User, on_delete="RESTRICT", backref="tasks", index=False)
    queue = peewee.TextField(default=QUEUE)
    status = EnumField(STATUSES, default="queued")
    original_filename = peewee.TextField()
    file_path = peewee.TextField(null=True)
    file_size = peewee.BigIntegerField()
    error_message = peewee.TextField(null=True)

    class Meta:
        table_name = "audit_tasks"
        indexes = ((("user", "created_at"), False), (("queue", "status"), False))

    def _finish(self, names: set[str], *, new: bool) -> None:
        """Begin the trail of a new audit."""
        if new:
            detail = {"original_filename": self.original_filename, "file_size": self.file_size}
            insert_row(AuditEvent, task=self.id, action="created", by=self.user.email, detail=detail)

    @property
    def analysis(self) -> Analysis | None:
        """The result of the audit, or None before it is completed."""
        self.check_home()
        return Analysis.get_or_none(Analysis.task == self.id)


_COMPLETE = "call store.audits.complete(audit, ...)"


class Analysis(Identified):
    """The result of an audit. ``verdict`` is the person's, or the machine's if no person has decided;
    ``machine_verdict`` stays.
    """

    __shown__ = "verdict: equipment_type, test_type, equipment_tag | compliance_score, reviewed_by, reviewed_at"
    __rules__ = Rules(
        create=_COMPLETE, delete="call store.audits.remove(audit)", frozen="call store.audits.review or complete"
    )

    if TYPE_CHECKING:
        task_id = peewee.TextField()
        findings = Backref["AnalysisFinding"]()
        events = Backref["AuditEvent"]()

    task = peewee.ForeignKeyField(Task, on_delete="CASCADE", backref="+", unique=True)
    equipment_type = peewee.TextField()
    test_type = peewee.TextField()
    equipment_tag = peewee.TextField(null=True)
    verdict = EnumField(VERDICTS, null=True)
    machine_verdict = EnumField(VERDICTS, null=True)
    compliance_score = peewee.FloatField(null=True)
    confidence_score = peewee.FloatField(null=True)
    extraction_result: JSONField[JsonValue] = JSONField(null=True)
    validation_result: JSONField[JsonValue] = JSONField(null=True)
    policy = peewee.TextField(null=True)
    reviewed_by = peewee.TextField(null=True)
    reviewed_at = UTCField(null=True)
    review_reason = peewee.TextField(null=True)

    class Meta:
        table_name = "audit_analyses"
        indexes = ((("verdict", "created_at"), False), (("compliance_score", "id"), False))


class AnalysisFinding(Identified):
    """One finding of an audit; ``ordinal`` is its position in the given list, from 1."""

    __shown__ = "severity: rule_id, message | analysis"
    __rules__ = Rules(fixed=columns(_COMPLETE, "analysis", "ordinal"))

    if TYPE_CHECKING:
        analysis_id = peewee.TextField()

    analysis = peewee.ForeignKeyField(Analysis, on_delete="CASCADE", backref="findings", index=False)
    ordinal = peewee.IntegerField()
    severity = EnumField(SEVERITIES)
    rule_id = peewee.TextField()
    message = peewee.TextField()
    evidence: JSONField[JsonValue] = JSONField(null=True)
    remediation = peewee.TextField(null=True)

    class Meta:
        table_name = "audit_findings"
        indexes = ((("analysis", "ordinal"), True),)

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if new and self.__data__.get("ordinal") is None:
            mine = AnalysisFinding.select(peewee.fn.max(AnalysisFinding.ordinal))
            self.ordinal = 1 + (mine.where(AnalysisFinding.analysis == self.analysis_id).scalar() or 0)
            names.add("ordinal")


class AuditEvent(Numbered):
    """An event of an audit. It cannot be changed. ``by`` is a person or a program, or "unknown"."""

    __shown__ = "action by: task, analysis | created_at"

    if TYPE_CHECKING:
        task_id = peewee.TextField()
        analysis_id = peewee.TextField(null=True)

    task = peewee.ForeignKeyField(Task, on_delete="CASCADE", backref="events", index=False)
    analysis = peewee.ForeignKeyField(Analysis, on_delete="NO ACTION", null=True, backref="events", index=False)
    action = peewee.TextField()
    by = peewee.TextField()
    detail: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "audit_events"
        indexes = ((("task", "id"), False),)

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new or self.analysis_id is None:
            return
        about = Analysis.get_or_none(Analysis.id == self.analysis_id)
        if about is not None and self.__data__.get("task") is None:
            self.task = about.task
            names.add("task")
        if about is None or about.task_id != self.task_id:
            raise InvalidArgument(f"analysis {self.analysis_id} is not that of audit {self.task_id}; leave it out")


# Arguments


def _json(value: object, what: str) -> str | None:
    try:
        return None if value is None else dump_json(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from error.__cause__


def analysis_columns(given: object) -> dict[str, Any]:
    """Return the columns of an analysis in their stored form, from a mapping."""
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"analysis is {shown(given)}; give a mapping with equipment_type, test_type and so on")
    if not given.keys() <= _ANALYSIS:
        _refuse_others(given, _ANALYSIS, "analysis")
    confidence = given.get("confidence_score")
    if confidence is not None and (
        isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1
    ):
        raise InvalidArgument(f"confidence_score is {shown(confidence)}; it must be a number from 0 to 1, or None")
    return {
        "equipment_type": check_text(given.get("equipment_type"), "equipment_type", 50),
        "test_type": check_text(given.get("test_type"), "test_type", 50),
        "equipment_tag": check_optional_text(given.get("equipment_tag"), "equipment_tag", 100),
        "confidence_score": None if confidence is None else float(confidence),
        "extraction_result": _json(given.get("extraction_result"), "extraction_result"),
        "validation_result": _json(given.get("validation_result"), "validation_result"),
    }


def check_findings(given: object) -> tuple[list[dict[str, Any]], list[str | None]]:
    """Return checked findings for a policy, and their evidence in its stored form, from mappings."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InvalidArgument(f"findings is {shown(given)}; give a list of mappings")
    found: list[dict[str, object]] = []
    for number, each in enumerate(given, 1):
        if not isinstance(each, Mapping):
            raise InvalidArgument(f"finding {number} is {shown(each)}; give a mapping with severity, rule_id, message")
        try:
            if not each.keys() <= _FINDING:
                _refuse_others(each, _FINDING, "it")
            get = each.get
            severity, remediation = get("severity"), get("remediation")
            found.append(
                {
                    "severity": severity if severity in SEVERITIES else check_choice(severity, "severity", SEVERITIES),
                    "rule_id": check_text(get("rule_id"), "rule_id", 100),
                    "message": check_text(get("message"), "message"),
                    "evidence": get("evidence"),
                    "remediation": None if remediation is None else check_text(remediation, "remediation"),
                }
            )
        except InvalidArgument as error:
            raise InvalidArgument(f"finding {number}: {error}") from None
    return found, _texts([each["evidence"] for each in found])


def _texts(evidence: list[object]) -> list[str | None]:
    """Return each value as JSON text. All are encoded at once, which takes a third of the time, and split at a random
    mark.
    """
    mark = uuid.uuid4().hex
    try:
        whole = dump_json([part for each in evidence for part in (each, mark)])
    except InvalidArgument:
        return [_json(each, f"finding {number}: evidence") for number, each in enumerate(evidence, 1)]
    texts = whole[1:-1].removesuffix(f',"{mark}"').split(f',"{mark}",')
    return [None if each is None else text for each, text in zip(evidence, texts, strict=bool(evidence))]


_ANALYSIS = frozenset(
    ("equipment_type", "test_type", "equipment_tag", "confidence_score", "extraction_result", "validation_result")
)  # fmt: skip
_FINDING = frozenset(("severity", "rule_id", "message", "evidence", "remediation"))
_DECIDED = ("verdict", "machine_verdict", "compliance_score")


def _refuse_others(given: Mapping[object, object], known: frozenset[str], what: str) -> NoReturn:
    name = sorted(map(str, given.keys() - known))[0]
    if name in _DECIDED:
        raise InvalidArgument(f"{name} is set by the policy; leave it out, or give another policy: policy=")
    raise InvalidArgument(f"{what} has a key {shown(name)}; it may have {', '.join(sorted(known))}")
