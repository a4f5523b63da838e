"""UUIDs that sort by the time at which they were made: version 7 of RFC 9562.

The 12 bits after the version hold the fraction of the millisecond, as its section 6.2 (method 3) has it, and within a
process each id is later than the one before even when the clock is not: they sort by the time when they were made.
"""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0  # 48 bits of milliseconds and 12 of their fraction


def uuid7() -> uuid.UUID:
    """Return a new UUID, greater than every one that this process has made before."""
    global _last
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    now = milliseconds << 12 | rest * 4096 // 1_000_000
    # One line, so that no tracer's exception can come between it and the release of the lock.
    with _lock: _last = stamp = max(now, _last + 1)  # noqa: E701  # fmt: skip
    random = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
    return uuid.UUID(int=(stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 2 << 62 | random)


def uuid7s(count: int) -> list[str]:
    """Return so many new ones as text, each greater than the one before: for rows that are written together.

    They are one UUID, counted up at its random end (section 6.2, method 2).
    """
    first = str(uuid7())
    start = int(first[24:], 16) & (1 << 47) - 1  # room to count up
    return [f"{first[:24]}{number:012x}" for number in range(start, start + count)]


def _forked() -> None:
    """The parent's lock may have been held by a thread that the child does not have."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
