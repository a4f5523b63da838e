"""The clock of leases, which tolerates a changed wall clock and a sleeping machine.

A lease expires at a wall-clock time, because processes of different machines can compare only that. On one machine, the
running time (``time.monotonic()``) is more reliable: it advances steadily, cannot be set, and stops while the machine
sleeps. (On Windows Python's counter does not stop, so another one is used.) A lease therefore also records
:func:`clock`, the wall clock minus the running time. This value changes only when the wall clock is set or the machine
sleeps, and by exactly that amount.

If a lease has expired by the wall clock and its process may run on this machine, the lease is extended by the change of
:func:`clock`. Such a process keeps its rows when the machine sleeps or the clock jumps, even in another pid namespace.
A process that hangs still loses its rows when the running time of its lease is over. For processes of other machines,
only the wall clock counts.

Scans, syncs and model calls have no lease, only the time at which their process last wrote to them. They count as lost
when their process has ended, or when it cannot be checked and has not written for an hour.

Change here: how the time of a lease is measured, and how long a process may go without a write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from scanstore.db import operating_system
from scanstore.db.processes import alive, gone, shares_clock
from scanstore.db.values import read_time

SILENCE = timedelta(hours=1)  #: without a write, after which a process that cannot be checked counts as dead
SIGN_OF_LIFE = SILENCE / 12  #: the shortest time between two heartbeats
LONGEST_LEASE = timedelta(days=30)  #: a lease with a later end was taken before the clock was set back
LONGEST_JUMP = 100 * 366 * 86400.0  #: seconds; a larger change of the clock is ignored

monotonic: Callable[[], float] = (
    operating_system.windows_running_time if operating_system.SYSTEM == "win32" else time.monotonic
)


def clock(now: datetime) -> float:
    """Return the wall clock minus the running time of this machine, in seconds."""
    return now.timestamp() - monotonic()


def kept_until(process: str | None, until: str, before: float | None, now: datetime) -> datetime:
    """Return the end of a lease that was taken when :func:`clock` was ``before``.

    This is ``until``, or later if the clock has changed since: see the module docstring.
    """
    end = read_time(until)
    if before is None or end > now:
        return end
    moved = end + timedelta(seconds=max(min(clock(now) - before, LONGEST_JUMP), 0.0))
    return moved if moved > now and shares_clock(process) else end


def over(process: str | None, end: datetime, now: datetime) -> bool:
    """Whether a lease with this end has expired, or was taken before the clock was set back and its owner may
    be dead.
    """
    return end <= now or (end - now > LONGEST_LEASE and not alive(process))


def silent(process: str | None, heard: str, now: datetime) -> bool:
    """Whether a process that last wrote a row at ``heard`` has ended, or counts as dead.

    A clock that is wrong by more than an hour, in either direction, cannot block a row forever.
    """
    return gone(process) or (abs(now - read_time(heard)) > SILENCE and not alive(process))
