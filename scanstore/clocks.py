"""Leases and the clock: wall clocks are set, and laptops sleep.

A lease ends at a time of the wall clock, which all processes of all machines can compare. The running time of a machine
(``time.monotonic()``) is the better judge on that machine alone: it goes on steadily, cannot be set, and stands still
while the machine sleeps. So a lease also records :func:`clock`, the wall clock less the running time. It stays the same
until the wall clock is set or the machine sleeps, and then changes by just that much.

When a lease has expired by the wall clock, and its process is provably alive on this machine, the lease is extended by
as much as :func:`clock` has changed since. Such a process keeps its rows through a sleep and a jump; one that hangs
still loses them after as many seconds of running time as its lease had. A process of another machine, or of a system
that does not tell when a process started, is judged by the wall clock alone.

Change here: what a lease is measured by.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from time import monotonic

from scanstore.fields import read_time
from scanstore.workers import alive

LONGEST_JUMP = 100 * 366 * 86400.0  #: seconds by which a clock is believed to have moved


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
    return moved if moved > now and alive(process) else end
