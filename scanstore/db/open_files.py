"""Replacing, renaming and deleting files that may be open in another program.

POSIX systems let a file be replaced while it is open. Windows refuses, and an antivirus, a sync client or an indexer
opens a new file just after it was written, mostly for less than a second. So on Windows each of these calls is retried
for two seconds, and then raises the PermissionError that `files.refused` explains. Close scanstore's own connections
and handles before, because retrying does not help against them. Other modules delete and rename files only through this
one.

Change here: how long Windows calls are retried, and for which errors.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")


WINDOWS = os.name == "nt"
SECONDS = 2.0  #: the time for which a call on a held file is retried
DENIED = 5  #: ERROR_ACCESS_DENIED: no permission, or the file to replace is open
SHARED = (32, 33)  #: ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
_PAUSE = 0.02


def held(error: OSError) -> bool:
    """Return whether Windows refused because another program may have the file open; ``open`` does not report the
    reason.
    """
    return WINDOWS and isinstance(error, PermissionError) and _code(error) in (None, DENIED, *SHARED)


def certainly_held(error: OSError) -> bool:
    """Return whether Windows refused because the file is open, and not because of missing permissions."""
    return WINDOWS and _code(error) in SHARED


def _code(error: OSError) -> int | None:
    return getattr(error, "winerror", None)


def patiently(act: Callable[[], _T]) -> _T:
    """Retry a function while Windows reports that its file is held, for up to `SECONDS`. Then raise its last error."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return act()
        except PermissionError as error:
            if not held(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def replace(source: str, target: str, check: Callable[[], None] | None = None) -> None:
    """Replace a file by another one. `check` is called before each attempt."""

    def act() -> None:
        if check is not None:
            check()
        os.replace(source, target)

    patiently(act)


def rename(source: str, target: str) -> None:
    """Rename a file."""
    patiently(lambda: os.rename(source, target))


def unlink(path: str) -> None:
    """Delete a file."""
    patiently(lambda: os.unlink(path))


def descriptor(path: str, flags: int) -> int:
    """Open a file that another program may have open, like ``os.open``."""
    return patiently(lambda: os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)))


def is_free(path: str) -> bool:
    """Return whether Windows would allow a file to be replaced now. Always true on other systems."""
    if not WINDOWS:
        return True
    try:
        rename(path, path)  # fails for an open file, and otherwise changes nothing
    except PermissionError as error:
        if not held(error):
            raise
        return False
    return True
