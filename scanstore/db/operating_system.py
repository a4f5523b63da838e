"""Identity of the machine and its processes, as reported by the operating system.

All values are read from files or from the C library; no program is run. A value that the system does not provide, or
that a Python without ``ctypes`` cannot read, is an empty text, and the lease decides.

psutil would answer most of this. It is not used: its import takes 24 ms, half as long as importing scanstore and
opening a store, and its start times on Linux are times of the wall clock, which differ between two calls when the clock
is set. Here Linux reads ``/proc``, and macOS and Windows import ``ctypes`` (2 ms) when a process is first asked for.

- Machine: ``/etc/machine-id``; on macOS the host UUID; on Windows the MachineGuid of the registry. Container images
  contain a machine-id, so in a container the location of its files is added: it differs between containers, and stays
  the same when the machine restarts. A time namespace counts as a separate machine, because start times and the running
  time differ there.
- Boot: ``boot_id`` on Linux, the boot session on macOS. The boot time is not used, because it moves when the clock is
  set. Windows has no boot id. There and on macOS the start time of a process is absolute, so it identifies processes of
  an earlier boot.
- Start of a process: ``/proc/PID/stat`` on Linux, unless ``/proc`` shows another pid namespace. On macOS
  ``sysctl(KERN_PROC_PID)``: unlike ``proc_pidinfo`` it also answers about processes of other users and zombies. On
  Windows ``GetProcessTimes``.

Change here: support for another operating system.
"""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

SYSTEM: str = sys.platform
MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MOUNTS = "/proc/self/mountinfo"
FIRST_NAMESPACE = "pid:[4026531836]"  # the initial namespace of every Linux machine
FIRST_TIME = "time:[4026531834]"

# macOS: <sys/sysctl.h> and <sys/proc.h>, whose layout is the same on all 64-bit systems
CTL_KERN, KERN_PROC, KERN_PROC_PID = 1, 14, 1
START, STATE, NUMBER, KNOWN = 0, 36, 40, 44  # offsets in a kinfo_proc, and how much of it is needed
ZOMBIE = 5
# Windows: <winnt.h>, <winerror.h>
QUERY_LIMITED_INFORMATION = 0x1000
INVALID_PARAMETER = 87
STILL_ACTIVE = 259


def machine() -> str:
    """Return an id of this machine that survives a restart, or an empty text."""
    if SYSTEM == "win32":
        return _windows_machine()
    if SYSTEM == "darwin":
        return _mac_machine()
    for path in MACHINE_IDS:
        found = _content(path)
        if found and found != "uninitialized":  # the value that systemd uses during the first boot
            return found + _container() + _other_time()
    return ""


def boot() -> str:
    """Return an id of the current boot of this machine, or an empty text."""
    return _mac_boot() if SYSTEM == "darwin" else _content(BOOT_ID)


def namespace() -> str:
    """Return the pid namespace, or an empty text if the system has no namespaces."""
    return _link("/proc/self/ns/pid")


def started(process: int) -> str | None:
    """Return the start time of a process, in a form that never varies between calls, or None if there is no such
    process.

    A zombie counts as ended. Returns an empty text if the process exists, or may exist, but its start time is unknown.
    """
    if SYSTEM == "win32":
        return _windows_started(process)
    if SYSTEM == "darwin":
        return _mac_started(process)
    try:
        if _link("/proc/self") != str(os.getpid()):  # the /proc of another namespace, with other process numbers
            return _exists(process)
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return _exists(process)
    if fields[:1] in ([b"Z"], [b"X"]):
        return None
    return fields[19].decode("ascii", "replace") if len(fields) > 19 else ""


def _exists(process: int) -> str | None:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except (OSError, AttributeError):  # the process belongs to another user, or cannot be read
        pass
    return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except (OSError, AttributeError):
        return ""


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(200).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _container() -> str:
    """Return the location of this container's files, or an empty text outside containers."""
    if namespace() in ("", FIRST_NAMESPACE):
        return ""
    found = ""
    try:
        with open(MOUNTS, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 4 and fields[4] == "/":  # the last mount is the visible one
                    upper = [option for option in fields[-1].split(",") if option.startswith("upperdir=")]
                    found = " ".join([*(() if fields[3] == "/" else (fields[3],)), *upper])
    except OSError:
        pass
    return found


def _other_time() -> str:
    """Return the time namespace, or an empty text in the initial one. Start times differ between time namespaces."""
    found = _link("/proc/self/ns/time")
    return "" if found in ("", FIRST_TIME) else found


# macOS


@lru_cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None)


def _mac_machine() -> str:
    try:
        import ctypes

        found, wait = ctypes.create_string_buffer(16), (ctypes.c_long * 2)(1, 0)
        return found.raw.hex() if _libc().gethostuuid(found, wait) == 0 else ""
    except (OSError, AttributeError, ImportError):
        return ""


def _mac_boot() -> str:
    try:
        import ctypes

        found = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(len(found))
        failed = _libc().sysctlbyname(b"kern.bootsessionuuid", found, ctypes.byref(size), None, ctypes.c_size_t(0))
    except (OSError, AttributeError, ImportError):
        return ""
    return "" if failed else found.value.decode("ascii", "replace")


def _mac_started(process: int) -> str | None:
    import struct

    try:
        import ctypes

        request = (ctypes.c_int * 4)(CTL_KERN, KERN_PROC, KERN_PROC_PID, process)
        found = ctypes.create_string_buffer(1024)
        size = ctypes.c_size_t(len(found))
        failed = _libc().sysctl(request, 4, found, ctypes.byref(size), None, ctypes.c_size_t(0))
    except (OSError, AttributeError, ImportError):
        return _exists(process)
    # The number occurs twice, which verifies the expected layout.
    if failed or size.value < KNOWN or struct.unpack_from("=i", found, NUMBER)[0] != process:
        return _exists(process)
    if found.raw[STATE] == ZOMBIE:
        return None
    seconds, microseconds = struct.unpack_from("=qi", found, START)
    return f"{seconds}.{microseconds:06}"


# Windows


def _windows_machine() -> str:
    try:
        import winreg as registry

        winreg: Any = registry  # type checkers know this module only on Windows
        with winreg.OpenKey(
            winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography", 0,
            winreg.KEY_READ | winreg.KEY_WOW64_64KEY,
        ) as key:  # fmt: skip
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    except (OSError, ImportError):
        return ""


@lru_cache
def _kernel32() -> Any:
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.GetExitCodeProcess.argtypes = (wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD))
    kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    kernel.QueryUnbiasedInterruptTime.argtypes = (ctypes.POINTER(ctypes.c_ulonglong),)
    return kernel


def _windows_started(process: int) -> str | None:
    try:
        import ctypes
        from ctypes import wintypes

        kernel = _kernel32()
    except (OSError, AttributeError, ImportError):
        return ""
    handle = kernel.OpenProcess(QUERY_LIMITED_INFORMATION, False, process)
    if not handle:  # no such process, or it belongs to another user
        return None if ctypes.get_last_error() == INVALID_PARAMETER else ""  # type: ignore[attr-defined,unused-ignore]
    try:
        code = wintypes.DWORD()
        if kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value != STILL_ACTIVE:
            return None  # the process has ended, but another process holds a handle to it
        created, *others = (wintypes.FILETIME() for _ in range(4))
        if not kernel.GetProcessTimes(handle, *(ctypes.byref(time) for time in (created, *others))):
            return ""
        return str(created.dwHighDateTime << 32 | created.dwLowDateTime)
    finally:
        kernel.CloseHandle(handle)


def windows_running_time() -> float:
    """Return the running time of this machine in seconds. Unlike ``time.monotonic()``, it stops while the machine
    sleeps.
    """
    try:
        import ctypes

        ticks = ctypes.c_ulonglong()
        _kernel32().QueryUnbiasedInterruptTime(ctypes.byref(ticks))
        return ticks.value / 10_000_000
    except (OSError, AttributeError, ImportError):
        return time.monotonic()
