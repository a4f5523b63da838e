"""Who is working: the identity of a process, and whether it is still there.

A lease frees work some minutes after its worker has died. On one machine it can be known at once, by asking for the
process. Process ids are used again, so the identity holds when the process started too, where the system tells
(``/proc``). What cannot be known is left to the lease.
"""

from __future__ import annotations

import os

_own: tuple[int, str] = (0, "")


def me() -> str:
    """The identity of this process: ``host:pid@start``, or ``host:pid`` where its start cannot be known."""
    global _own
    process = os.getpid()
    if _own[0] != process:  # a fork
        start = _started(process)
        _own = process, f"{_host()}:{process}" + (f"@{start}" if start else "")
    return _own[1]


def gone(process: str | None) -> bool:
    """Whether that process was one of this machine and has certainly ended."""
    host, number, start = _parse(process)
    if host != _host() or number == 0:
        return False
    if not _exists(number):
        return True
    now = _started(number)
    return bool(start and now and start != now)


def alive(process: str | None) -> bool:
    """Whether that process is one of this machine and certainly still runs."""
    host, number, start = _parse(process)
    return host == _host() and number > 0 and start != "" and _started(number) == start


def _parse(process: str | None) -> tuple[str, int, str]:
    host, _, rest = (process or "").rpartition(":")
    number, _, start = rest.partition("@")
    return host, int(number) if number.isascii() and number.isdigit() else 0, start


def _host() -> str:
    import platform

    return platform.node()


def _started(process: int) -> str:
    """When a process of this machine started, in a form that two calls agree on; empty when it cannot be known."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return "ended" if fields[:1] in ([b"Z"], [b"X"]) else ""
    return fields[19].decode("ascii", "replace")


def _exists(process: int) -> bool:
    """Whether a process of this machine exists; where that cannot be asked without harm, it is taken to."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
