"""Replacing, renaming and deleting files that are open somewhere.

POSIX systems let a file be replaced while it is open. Windows refuses, and an antivirus, a sync client or an indexer
opens a new file just after it was written, mostly for less than a second. So on Windows each of these calls is tried
again for two seconds, and then raises the PermissionError that `files.refused` explains. Our own connections and
handles must be closed before: waiting does not help against them. No other module deletes or renames a file itself.

Change here: how long Windows is asked again, and for which of its errors.
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
SECONDS = 2.0  #: for which a file that is held is tried again
DENIED = 5  #: ERROR_ACCESS_DENIED: no permission, or a file that is open and was to be replaced
SHARED = (32, 33)  #: ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
_PAUSE = 0.02


def held(error: OSError) -> bool:
    """Tell whether Windows refused because another program may have the file open; ``open`` does not say why."""
    return WINDOWS and isinstance(error, PermissionError) and _code(error) in (None, DENIED, *SHARED)


def certainly_held(error: OSError) -> bool:
    """Tell whether Windows refused for that, and not for want of permission."""
    return WINDOWS and _code(error) in SHARED


def _code(error: OSError) -> int | None:
    return getattr(error, "winerror", None)


def patiently(act: Callable[[], _T]) -> _T:
    """Call a function again while Windows says that its file is held, for up to `SECONDS`; then raise its last
    error."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return act()
        except PermissionError as error:
            if not held(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def replace(source: str, target: str, check: Callable[[], None] | None = None) -> None:
    """Give a file the name of another one, which is gone then; `check` is called before each attempt."""

    def act() -> None:
        if check is not None:
            check()
        os.replace(source, target)

    patiently(act)


def rename(source: str, target: str) -> None:
    """Give a file another name."""
    patiently(lambda: os.rename(source, target))


def unlink(path: str) -> None:
    """Delete a file."""
    patiently(lambda: os.unlink(path))


def descriptor(path: str, flags: int) -> int:
    """Open a file that another program may be looking at, as ``os.open`` does."""
    return patiently(lambda: os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)))


def is_free(path: str) -> bool:
    """Tell whether Windows would let a file be replaced now; elsewhere any may be."""
    if not WINDOWS:
        return True
    try:
        rename(path, path)  # refused for a file that is open, and changes nothing
    except PermissionError as error:
        if not held(error):
            raise
        return False
    return True
