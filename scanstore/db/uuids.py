"""UUIDs that sort by their creation time: version 7 of RFC 9562.

The 12 bits after the version hold the fraction of the millisecond, as in section 6.2 (method 3) of the RFC. Within a
process each id is greater than the one before, even if the clock was set back.
"""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0  # 48 bits of milliseconds and 12 bits of their fraction


def uuid7() -> uuid.UUID:
    """Return a new UUID, greater than all previous ones of this process."""
    global _last
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    now = milliseconds << 12 | rest * 4096 // 1_000_000
    # One line, so that a tracer's exception cannot occur between this and the release of the lock.
    with _lock: _last = stamp = max(now, _last + 1)  # noqa: E701  # fmt: skip
    random = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
    return uuid.UUID(int=(stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 2 << 62 | random)


def uuid7s(count: int) -> list[str]:
    """Return a number of new UUIDs as text, each greater than the one before, for rows that are written together.

    They are one UUID whose random part is incremented (section 6.2, method 2).
    """
    first = str(uuid7())
    start = int(first[24:], 16) & (1 << 47) - 1  # room to increment
    return [f"{first[:24]}{number:012x}" for number in range(start, start + count)]


def _forked() -> None:
    """Replace the lock: a thread of the parent, which the child does not have, may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
