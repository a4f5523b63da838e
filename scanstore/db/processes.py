"""The identity of a process, and whether that process is still alive.

A lease frees the rows of a dead worker only after some minutes. On the same machine, scanstore can check the process
and free them immediately. The identity of a process is ``MACHINE-BOOT-NAMESPACE:PID@START``. The first three parts are
short hashes of the values that :mod:`scanstore.db.operating_system` reads, so that the identity fits into file names
and reveals nothing about the user. ``0`` stands for a value that the system does not provide.

- A process of another machine, or of another pid namespace (a container), cannot be checked, so its lease decides. Host
  names are not used: they change with the network, and containers share them. Only a machine with neither an id nor a
  boot id is identified by its host name.
- If the boot differs, the machine was restarted, and all earlier processes have ended.
- Otherwise the process is looked up. Process ids are reused, so the start time must match too. If the start time is
  unknown, a process with that id counts as the same one until its lease expires.
- For an identity in another form, such as the ``host:pid@start`` of earlier versions, the lease decides.

Change here: the parts of an identity. The time of a lease is in :mod:`scanstore.db.clocks`.
"""

from __future__ import annotations

import os

NOBODY = ("--", 0, "")
_own: tuple[int, str, str] = (0, "", "")  # the process, its place, its identity


def me() -> str:
    """Return the identity of this process."""
    return _me()[2]


def gone(process: str | None) -> bool:
    """Whether this process has certainly ended."""
    place, number, start = _parse(process)
    here = _me()[1]
    if place != here:
        (machine, boot, _), (own, now, _) = place.split("-"), here.split("-")
        return machine == own and boot != now and "0" not in (boot, now)
    found = _started(number)
    return found is None or bool(found and start and found != start)


def alive(process: str | None) -> bool:
    """Whether this process is certainly running."""
    place, number, start = _parse(process)
    return place == _me()[1] and start != "" and _started(number) == start


def shares_clock(process: str | None) -> bool:
    """Whether a process has the running time of this machine, and may still be running."""
    (machine, boot, _), (own, now, _) = _parse(process)[0].split("-"), _me()[1].split("-")
    same = machine == own and boot == now != "0"
    return (same and not gone(process)) or alive(process)


def is_identity(text: str) -> bool:
    """Whether a text is the identity of a process, in the current or an earlier form."""
    place, _, rest = text.rpartition(":")
    return place != "" and _number(rest.partition("@")[0]) > 0


def _me() -> tuple[int, str, str]:
    global _own
    number = os.getpid()
    if _own[0] != number:
        place, start = _place(), _started(number)
        _own = number, place, f"{place}:{number}" + (f"@{start}" if start else "")
    return _own


def _forget() -> None:
    """A child may have the pid of its parent, in a separate pid namespace."""
    global _own
    _own = 0, "", ""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _place() -> str:
    from scanstore.db import operating_system  # start-up: only when a process is checked

    machine, boot, namespace = operating_system.machine(), operating_system.boot(), operating_system.namespace()
    if not machine:
        # Two machines may have the same host name, so it does not identify a restart.
        machine = boot or f"host {_host()}"
    return f"{_short('machine', machine, 8)}-{_short('boot', boot, 6)}-{_short('namespace', namespace, 6)}"


def _started(process: int) -> str | None:
    from scanstore.db import operating_system  # not needed to open a store

    return operating_system.started(process)


def _short(what: str, text: str, length: int) -> str:
    import hashlib

    return hashlib.sha256(f"scanstore {what} {text}".encode()).hexdigest()[:length] if text else "0"


def _host() -> str:
    import platform

    return platform.node()


def _parse(process: str | None) -> tuple[str, int, str]:
    # A damaged or untrusted file may contain bytes or invalid characters here.
    place, _, rest = (process if isinstance(process, str) else "").partition(":")
    number, _, start = rest.partition("@")
    return (place, _number(number), start) if place.count("-") == 2 and _number(number) else NOBODY


def _number(text: str) -> int:
    """Return a process id as a number, or 0 for any other text, because files may be untrusted."""
    return int(text) if len(text) <= 10 and text.isascii() and text.isdigit() and int(text) < 2**31 else 0
