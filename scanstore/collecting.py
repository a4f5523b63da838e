"""Garbage while very much is written beside an event loop.

A full collection looks at every object of the process and lets no thread run meanwhile: with the rows of a large write
in memory, the loop would stand still for some tenths of a second. So full ones are put off until the write is over,
and the one that is due then waits until as many objects more were made as it takes for one. The younger objects are
collected as ever, and nothing is put off for longer than ``MOST``. Change here: for how long.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

MOST = 60.0  #: seconds between two full collections, however much is written
NEVER = 1_000_000  # of the middle generation, before a full one

_lock = threading.Lock()
_running: list[tuple[int, int, int]] = []  # the thresholds before, once for each write that goes on
_last = (0, 0.0)  # full collections so far, and when that was noted


def unhurried(function: Callable[[], Any]) -> Any:
    """Call a function, without a full collection meanwhile."""
    with _lock:
        before = _running[0] if _running else gc.get_threshold()
        _running.append(before)
        gc.set_threshold(*before[:2], NEVER)
    try:
        return function()
    finally:
        with _lock:
            _running.pop()
            if not _running:
                if gc.get_count()[2] > before[2] and _may_wait():
                    gc.freeze()  # both take no time: all objects are counted as old, none is looked at
                    gc.unfreeze()
                gc.set_threshold(*before)


def _may_wait() -> bool:
    """Whether the last full collection is not long ago; where objects were frozen by somebody, they are left alone."""
    global _last
    now, done = time.monotonic(), gc.get_stats()[2]["collections"]
    if done != _last[0]:
        _last = (done, now)
    return now - _last[1] < MOST and not gc.get_freeze_count()
