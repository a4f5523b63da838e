"""Where a store must not live: file systems between machines, and folders that another program synchronises.

SQLite's write-ahead log needs memory that all its users share, and locks that all of them see. Neither reaches from one
machine to another, and a program that synchronises a folder copies the file and its log at different moments. What can
be told from the mount table and from well-known folder names gets a warning, once a folder.

Change here: which file systems and folders are known.
"""

from __future__ import annotations

import os
import warnings

MOUNTS = "/proc/self/mountinfo"
NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
     "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs")
)  # fmt: skip
#: Under FUSE, these keep their files on the same machine; any other file system is taken for a remote one.
LOCAL_FUSE = frozenset(
    ("bindfs", "cryfs", "encfs", "exfat", "ext2", "fuse-overlayfs", "gocryptfs", "mergerfs", "ntfs", "ntfs-3g",
     "securefs", "zfs")
)  # fmt: skip
#: Names of folders, in lower case; some have a name in parentheses or after a dash behind them.
SYNCHRONISED = frozenset(
    ("dropbox", "google drive", "googledrive", "icloud drive", "iclouddrive", "megasync", "my drive", "nextcloud",
     "onedrive", "owncloud", "pcloud drive", "pclouddrive", "syncthing")
)  # fmt: skip
APPLE = frozenset(("mobile documents", "cloudstorage"))  #: the same, in a folder Library

_looked_at: set[str] = set()


class PlaceWarning(UserWarning):
    """A store lies where SQLite cannot keep its promises."""


def warn(file: str, name: str) -> None:
    """Warn, once a folder, about a store that lies on a network file system or in a synchronised folder."""
    folder = os.path.dirname(file)
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    if (reason := describe(folder)) is not None:
        warnings.warn(f"{name} lies {reason}; keep the store on a local disk", PlaceWarning, stacklevel=5)


def describe(folder: str) -> str | None:
    """Describe why a folder is a bad place for a store; None when nothing is known against it."""
    if (found := _synchronised(folder.replace(os.sep, "/").split("/"))) is not None:
        return f"in a folder that {found} synchronises, which copies the file and its log at different moments"
    share = folder[:2] in ("\\\\", "//") and folder[2:4] not in ("?\\", ".\\", "?/", "./")
    if share or folder.startswith("\\\\?\\UNC\\"):
        return "on a network share, where locks and the log do not work between machines"
    kind = file_system(folder)
    if kind in NETWORK or kind.startswith("fuse.") and kind[5:] not in LOCAL_FUSE:
        return f"on a {kind} file system, where locks and the log do not work between machines"
    return None


def _synchronised(names: list[str]) -> str | None:
    """Return the first of the names on a path that a program which synchronises gives its folder."""
    above = ""
    for name in names:
        low = name.lower()
        if above == "library" and low in APPLE:
            return name
        if low in SYNCHRONISED or low.startswith("onedrive - ") or low.startswith("dropbox (") and low.endswith(")"):
            return name
        above = low
    return None


def file_system(folder: str) -> str:
    """Return the type of the file system of an absolute path, as the mount table calls it; "" where it is unknown."""
    try:
        with open(MOUNTS, "rb") as table:
            lines = table.read().splitlines()
    except OSError:
        return ""
    best, kind = b"", b""
    wanted = os.fsencode(folder).rstrip(b"/") + b"/"
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        try:
            point = _unescaped(fields.split(b" ")[4]).rstrip(b"/") + b"/"
            if wanted.startswith(point) and len(point) >= len(best):  # the later of two mounts hides the earlier
                best, kind = point, rest.split(b" ")[0]
        except (IndexError, ValueError):
            continue
    return kind.decode("ascii", "replace")


def _unescaped(point: bytes) -> bytes:
    """Return the path in a field of the mount table, where a blank, a tab and a backslash are octal numbers."""
    first, *rest = point.split(b"\\")
    return first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)
