"""The models of plans and changes, and the counts of changes by status."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import peewee

from scanstore.db.arguments import clean_text
from scanstore.db.database import Database
from scanstore.db.fields import EnumField, HashField, JSONField, Numbered, Timestamped, UTCField, UUIDField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.notebooks import described
from scanstore.db.rules import Rules, above, columns
from scanstore.db.state_machine import CHANGE_ACTIONS, CHANGE_STATUSES, CHANGE_TARGETS, PLAN_STATUSES, Machine, move
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, NotFound
from scanstore.findings.models import Finding
from scanstore.library.models import Scene

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref


@described
class ChangeCounts(NamedTuple):
    """The number of changes of a plan by status."""

    pending: int = 0
    approved: int = 0
    rejected: int = 0
    applied: int = 0
    failed: int = 0
    skipped: int = 0
    reverted: int = 0

    @property
    def total(self) -> int:
        return sum(self)


class AnalysisPlan(Numbered, Timestamped):
    """A plan, a set of changes. ``metadata`` holds arbitrary data of its creator, such as the settings used."""

    __shown__ = "status: name | created_at, submitted_at, applied_at, reverted_at"
    __rules__ = Rules(
        delete="call store.plans.remove(plan)",
        state=columns(
            "call store.plans.submit, review, apply, revert or cancel",
            *("status", "process", "lease_until", "submitted_at", "applied_at", "reverted_at"),
        ),
    )

    if TYPE_CHECKING:
        changes = Backref["PlanChange"]()

    key = UUIDField(default=uuid.uuid4, unique=True)
    name = peewee.TextField()
    description = peewee.TextField(null=True)
    metadata: JSONField[dict[str, JsonValue]] = JSONField(default=dict)
    status = EnumField(PLAN_STATUSES, default="pending", index=True)
    process = peewee.TextField(null=True)
    lease_until = UTCField(null=True)
    submitted_at = UTCField(null=True)
    applied_at = UTCField(null=True)
    reverted_at = UTCField(null=True)

    tally: str = "{}"  # the counts as JSON
    counts: ChangeCounts | None = None  #: the counts of its changes, if it was read by ``store.plans``

    class Meta:
        table_name = "analysis_plans"

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if new or "name" in names:
            self.name = clean_text(self.__data__.get("name"), "name", needed=True)

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        """Return the row as plain values, with its counts if they were read."""
        more = {} if self.counts is None else {"counts": self.counts._asdict()}
        return {**super().to_dict(secrets=secrets), **more}


_PROPOSED = (
    *("plan", "target", "target_key", "scene", "finding", "field", "action", "current_value", "proposed_value"),
    "proposed_hash",
)
_PROPOSE = "propose another one: store.plans.propose(plan, ...)"
BUILDING = ("pending", "draft", "reviewing")  #: the statuses of a plan that takes proposals


class PlanChange(Numbered, Timestamped):
    """One change to one field of a scene or a finding. ``target_key`` is the target's id, even after the target was
    removed.

    ``current_value`` is the value at the time of the proposal, ``found_value`` the value when it was applied or
    refused, ``conflict`` whether they differ. ``applied`` is computed by the database.
    """

    __shown__ = (
        "status: target target_key action field current_value!r → proposed_value!r"
        " | confidence, reviewer, conflict"
    )
    __rules__ = Rules(
        delete="reject it: store.plans.review(plan, 'reject', ids=[change])",
        state={
            "status": "call store.plans.review, apply, retry or revert",
            "applied": "it is computed from the status; call store.plans.apply(plan)",
            **columns(
                "call store.plans.review, apply, retry or revert",
                *("applied_at", "reviewer", "reviewed_at", "found_value", "conflict", "tries", "error"),
            ),
        },
        fixed=columns(_PROPOSE, *_PROPOSED),
    )

    if TYPE_CHECKING:
        plan_id = peewee.IntegerField()
        scene_id = peewee.TextField(null=True)
        finding_id = peewee.IntegerField(null=True)

    plan = peewee.ForeignKeyField(AnalysisPlan, on_delete="CASCADE", backref="changes", index=False)
    target = EnumField(CHANGE_TARGETS, default="scene")
    target_key = peewee.TextField()
    scene = peewee.ForeignKeyField(Scene, on_delete="SET NULL", null=True, backref="plan_changes")
    finding = peewee.ForeignKeyField(Finding, on_delete="SET NULL", null=True, backref="plan_changes")
    field = peewee.TextField(index=True)
    action = EnumField(CHANGE_ACTIONS)
    current_value: JSONField[JsonValue] = JSONField(null=True)
    proposed_value: JSONField[JsonValue] = JSONField(null=True)
    proposed_hash = HashField()
    confidence = peewee.FloatField(null=True, index=True)
    status = EnumField(CHANGE_STATUSES, default="pending")
    applied = peewee.BooleanField(null=True)
    applied_at = UTCField(null=True)
    reviewer = peewee.TextField(null=True)
    reviewed_at = UTCField(null=True)
    found_value: JSONField[JsonValue] = JSONField(null=True)
    conflict = peewee.BooleanField(default=False)
    tries = peewee.IntegerField(default=0)
    error = peewee.TextField(null=True)

    value: JsonValue = None  #: for a handler: the new value of the field
    undoing: bool = False  #: for a handler: whether the change is being reverted

    class Meta:
        table_name = "plan_changes"
        indexes = (
            (("plan", "target", "target_key", "field", "action", "proposed_hash"), True),
            (("plan", "status"), False),
            (("plan", "field"), False),
            (("plan", "confidence"), False),
        )

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new:
            return
        plan = AnalysisPlan.get_or_none(AnalysisPlan.id == self.plan_id)
        if plan is None:
            raise NotFound(f"no plan {self.plan_id}; store.plans.list() (scanstore plans list) shows the known ones")
        if plan.status not in BUILDING:
            raise IllegalMove(f"plan {plan.id} is {plan.status} and takes no proposals; {PLANS.remedies[plan.status]}")
        given = self.__data__
        current = given["current_value"] if "current_value" in self._given else ...
        one = (
            self._proposed_target(),
            given.get("field"),
            given.get("action"),
            given.get("proposed_value"),
            current,
            self.confidence,
        )
        for column, value in above(self, "proposals", "stored")(self._meta.database, plan.id, *one).items():
            field: Any = self._meta.combined[column]
            if field.name != "plan":
                setattr(self, field.name, field.python_value(value))
                names.add(field.name)

    def _proposed_target(self) -> object:
        """Return the scene or the finding, whichever is given."""
        found = [each for each in (self.scene_id, self.finding_id) if each is not None]
        if not found and self.__data__.get("target_key") is not None:
            key: Any = self.target_key
            found = [int(key) if self.target == "finding" and str(key).isdecimal() else key]
        target = PlanChange.target.db_value(self.target)
        if "target" in self._given and target != ("scene" if self.finding_id is None and self.scene_id else "finding"):
            if self.scene_id is not None or self.finding_id is not None:
                raise InvalidArgument(f"target is {target!r} and the change is of another one; leave it out")
        if len(found) != 1:
            raise InvalidArgument("a change is of one scene or one finding; give scene= or finding=")
        return found[0]

    @property
    def key(self) -> str:
        """An idempotency key, the same at each attempt, so that another system can ignore a repeated call."""
        return f"{self.plan.key}:{self.id}{':revert' if self.undoing else ''}"


_ANEW = "make a new plan: store.plans.add(name)"
PLANS = Machine(
    "analysis_plans",
    "plan",
    {
        "draft": ("pending",),
        "reviewing": ("draft", "applied"),  # in review again, when failed changes are retried
        "applied": ("reviewing",),
        "cancelled": ("pending", "draft", "reviewing"),
        "reverted": ("reviewing", "applied"),
    },
    {
        "pending": "submit it first: store.plans.submit(plan) (scanstore plans submit PLAN)",
        "draft": "review it first: store.plans.review(plan, 'approve') (scanstore plans review PLAN approve)",
        "reviewing": "approve changes of it first: store.plans.review(plan, 'approve')",
        "applied": "revert it first: store.plans.revert(plan) (scanstore plans revert PLAN)",
        "cancelled": _ANEW,
        "reverted": _ANEW,
    },
)
CHANGES = Machine(
    "plan_changes",
    "change",
    {
        "pending": ("approved", "rejected"),
        "approved": ("pending", "rejected", "failed", "skipped"),
        "rejected": ("pending", "approved"),
        "applied": ("approved",),
        "failed": ("approved",),
        "skipped": ("approved",),
        "reverted": ("applied",),
    },
    {
        "applied": "revert the plan first: store.plans.revert(plan)",
        "failed": "retry it first: store.plans.retry(plan)",
        "skipped": "retry it first: store.plans.retry(plan)",
        "reverted": "propose it in a new plan",
    },
)
STANDING = """
SELECT p.status, c.status, c.count FROM analysis_plans AS p LEFT JOIN plan_counts AS c ON c.plan_id = p.id
 WHERE p.id = ?
"""


def settle(db: Database, plan_id: int) -> str:
    """Set the status of a submitted plan by its changes, and return it. Inside a transaction."""
    rows = db.execute_sql(STANDING, (plan_id,)).fetchall()
    status: str = rows[0][0]
    count = {each: number for _, each, number in rows if number}
    if not count.get("applied") and count.get("reverted"):
        due = "reverted"
    elif count.get("applied") and not count.get("pending") and not count.get("approved"):
        due = "applied"
    else:
        due = "draft" if status == "draft" and set(count) <= {"pending"} else "reviewing"
    if due != status:
        when = {f"{due}_at": format_time(utcnow())} if due in ("applied", "reverted") else {}
        move(db, PLANS, plan_id, due, **when)
    return due
