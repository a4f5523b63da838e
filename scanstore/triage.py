"""Triage: what people decided about findings, why, and until when; kept whatever later scans say.

Every change of a status, every comment and suppression is an event that stays. A suppression is about one finding, or
about a rule, in some paths or everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peewee

from scanstore.facts import Lineage
from scanstore.fields import Base, EnumField, UTCField, utcnow
from scanstore.findings import Finding
from scanstore.scans import Scan
from scanstore.states import FINDING_STATUSES

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
