"""Leases and the clock: wall clocks are set, and laptops sleep.

A lease ends at a time of the wall clock, which all processes of all machines can compare. The running time of a machine
(``time.monotonic()``) is the better judge on that machine alone: it goes on steadily, cannot be set, and stands still
while the machine sleeps; on Windows, where Python's does not stand still, another counter does. So a lease also records
:func:`clock`, the wall clock less the running time. It stays the same until the wall clock is set or the machine
sleeps, and then changes by just that much.

When a lease has expired by the wall clock, and its process may run on this machine, the lease is extended by as much as
:func:`clock` has changed since. Such a process keeps its rows through a sleep and a jump, in another pid namespace too;
one that hangs still loses them after as many seconds of running time as its lease had. A process of another machine is
judged by the wall clock alone.

Some rows have no lease, only the time at which their process last wrote to them: scans, syncs and calls of models. They
are taken for lost when their process has ended, or when it cannot be asked about and was silent for an hour.

Change here: what a lease is measured by, and how long a process may be silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from scanstore.db import operating_system
from scanstore.db.processes import alive, gone, shares_clock
from scanstore.db.values import read_time

SILENCE = timedelta(hours=1)  #: without a sign of life, after which a process that cannot be asked about has ended
SIGN_OF_LIFE = SILENCE / 12  #: at least between two of them
LONGEST_LEASE = timedelta(days=30)  #: that anybody may take; one that ends later is from before the clock was set back
LONGEST_JUMP = 100 * 366 * 86400.0  #: seconds by which a clock is believed to have moved

monotonic: Callable[[], float] = (
    operating_system.windows_running_time if operating_system.SYSTEM == "win32" else time.monotonic
)


def clock(now: datetime) -> float:
    """Return the wall clock less the running time of this machine, in seconds."""
    return now.timestamp() - monotonic()


def kept_until(process: str | None, until: str, before: float | None, now: datetime) -> datetime:
    """Return until when a lease holds that a process took when :func:`clock` was ``before``.

    That is ``until`` or, once this is over, perhaps later: see above.
    """
    end = read_time(until)
    if before is None or end > now:
        return end
    moved = end + timedelta(seconds=max(min(clock(now) - before, LONGEST_JUMP), 0.0))
    return moved if moved > now and shares_clock(process) else end


def over(process: str | None, end: datetime, now: datetime) -> bool:
    """Whether a lease that ends then is over, or is from a time that has not come yet and its owner may be dead."""
    return end <= now or (end - now > LONGEST_LEASE and not alive(process))


def silent(process: str | None, heard: str, now: datetime) -> bool:
    """Whether a process that wrote a row last at ``heard`` has ended, or must be taken for ended.

    A clock that is wrong by more than an hour, either way, cannot keep a row for ever.
    """
    return gone(process) or (abs(now - read_time(heard)) > SILENCE and not alive(process))
