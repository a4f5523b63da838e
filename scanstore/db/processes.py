"""Who is working: the identity of a process, and whether that process is still there.

A lease frees work some minutes after its worker has died. Often this is known at once, by asking for the process. The
identity of a process, ``MACHINE-BOOT-NAMESPACE:PID@START``, tells who can be asked. The first three are short hashes of
what :mod:`scanstore.db.operating_system` reads, so that the identity fits into the names of files and says nothing
about its user; ``0`` stands for what the system does not tell.

- A process of another machine, or of another pid namespace (a container), is never known to have ended, and never known
  to live. Its lease decides. Host names play no part: they change with the network, and containers share them. Only a
  machine with neither an id nor a boot id is known by its host name.
- When the boot differs, the machine was restarted, and all that ran before has ended.
- Otherwise the process is looked up. Process ids are used again, so the start must be the same. Where the start is not
  known, a process with that id is taken for the same one, until its lease ends.
- An identity of any other form, such as the ``host:pid@start`` of earlier versions, is left to its lease.

Change here: what an identity consists of. What a lease is measured by is in :mod:`scanstore.db.clocks`.
"""

from __future__ import annotations

import os

NOBODY = ("--", 0, "")
_own: tuple[int, str, str] = (0, "", "")  # the process, its place, its identity


def me() -> str:
    """Return the identity of this process."""
    return _me()[2]


def gone(process: str | None) -> bool:
    """Whether that process has certainly ended."""
    place, number, start = _parse(process)
    here = _me()[1]
    if place != here:
        (machine, boot, _), (own, now, _) = place.split("-"), here.split("-")
        return machine == own and boot != now and "0" not in (boot, now)
    found = _started(number)
    return found is None or bool(found and start and found != start)


def alive(process: str | None) -> bool:
    """Whether that process certainly still runs."""
    place, number, start = _parse(process)
    return place == _me()[1] and start != "" and _started(number) == start


def shares_clock(process: str | None) -> bool:
    """Whether the running time of this machine is also that of a process, which may still run."""
    (machine, boot, _), (own, now, _) = _parse(process)[0].split("-"), _me()[1].split("-")
    same = machine == own and boot == now != "0"
    return (same and not gone(process)) or alive(process)


def is_identity(text: str) -> bool:
    """Whether a text is the identity of a process, of today's form or of that of earlier versions."""
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
    """A child may have the number of its parent, in a pid namespace of its own."""
    global _own
    _own = 0, "", ""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _place() -> str:
    from scanstore.db import operating_system  # start-up: only when a process is asked for

    machine, boot, namespace = operating_system.machine(), operating_system.boot(), operating_system.namespace()
    if not machine:
        # Two machines may have the same host name, so this one alone tells nothing of a restart.
        machine = boot or f"host {_host()}"
    return f"{_short('machine', machine, 8)}-{_short('boot', boot, 6)}-{_short('namespace', namespace, 6)}"


def _started(process: int) -> str | None:
    from scanstore.db import operating_system  # not when a store is merely opened

    return operating_system.started(process)


def _short(what: str, text: str, length: int) -> str:
    import hashlib

    return hashlib.sha256(f"scanstore {what} {text}".encode()).hexdigest()[:length] if text else "0"


def _host() -> str:
    import platform

    return platform.node()


def _parse(process: str | None) -> tuple[str, int, str]:
    # A damaged or foreign file may hold bytes here, or what is no character.
    place, _, rest = (process if isinstance(process, str) else "").partition(":")
    number, _, start = rest.partition("@")
    return (place, _number(number), start) if place.count("-") == 2 and _number(number) else NOBODY


def _number(text: str) -> int:
    """A process id as a number; 0 for any other text. Files come from strangers, too."""
    return int(text) if len(text) <= 10 and text.isascii() and text.isdigit() and int(text) < 2**31 else 0
