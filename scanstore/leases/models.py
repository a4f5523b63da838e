"""The columns of a lease, for the models of every queue. :mod:`scanstore.leases.engine` explains them."""

from __future__ import annotations

import peewee

from scanstore.db.fields import Base, Identified, Timestamped, UTCField
from scanstore.leases.queue import LEASE, MOST_LOST, MOST_RETRIES


class Claimable(Base):
    """Base of models whose rows are claimed; a claimed row carries the terms of its claim."""

    lease: float = LEASE  #: seconds that it was claimed for, and that a heartbeat extends its lease by
    claimed: bool = False  #: whether a claim returned this instance
    ahead: object = None  #: of a row that a loop handed out: the loop


class LeasedRow(Claimable, Timestamped):
    """Base of models whose rows are leased."""

    rank = peewee.IntegerField(default=0)
    retry_count = peewee.IntegerField(default=0)
    lost_count = peewee.IntegerField(default=0)
    attempt = peewee.IntegerField(default=0)
    worker = peewee.TextField(null=True)
    process = peewee.TextField(null=True)
    lease_until = UTCField(null=True)
    lease_clock = peewee.FloatField(null=True)
    next_retry_at = UTCField(null=True)


class LeasedTask(Identified, LeasedRow):
    """Base of models whose rows are leased and have their own limits and times."""

    max_retries = peewee.IntegerField(default=MOST_RETRIES)
    max_lost = peewee.IntegerField(default=MOST_LOST)
    started_at = UTCField(null=True)
    completed_at = UTCField(null=True)

    class Meta:
        column_order = (
            *(..., "rank", "retry_count", "max_retries", "lost_count", "max_lost", "attempt", "worker", "process"),
            *("lease_until", "lease_clock", "next_retry_at", "error_message", "started_at", "completed_at"),
            *("created_at", "updated_at"),
        )

    @property
    def priority(self) -> int:
        """The priority: rows with the highest are claimed first."""
        return -int(self.rank)
