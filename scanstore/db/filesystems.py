"""Detection of unsafe places for a store: network file systems and synchronised folders.

SQLite's write-ahead log needs shared memory and locks that all its users see. Neither works across machines, and a
program that synchronises a folder copies the file and its log at different moments. Places that the mount table or a
well-known folder name reveals get a warning, once per folder.

Change here: the list of file systems and folders.
"""

from __future__ import annotations

import os
import warnings

MOUNTS = "/proc/self/mountinfo"
NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
     "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs")
)  # fmt: skip
#: These FUSE file systems are local; all others count as remote.
LOCAL_FUSE = frozenset(
    ("bindfs", "cryfs", "encfs", "exfat", "ext2", "fuse-overlayfs", "gocryptfs", "mergerfs", "ntfs", "ntfs-3g",
     "securefs", "zfs")
)  # fmt: skip
#: Names of folders, in lower case. Some are followed by a name in parentheses or after a dash.
SYNCHRONISED = frozenset(
    ("dropbox", "google drive", "googledrive", "icloud drive", "iclouddrive", "megasync", "my drive", "nextcloud",
     "onedrive", "owncloud", "pcloud drive", "pclouddrive", "syncthing")
)  # fmt: skip
APPLE = frozenset(("mobile documents", "cloudstorage"))  #: the same, inside a folder Library

_looked_at: set[str] = set()


class PlaceWarning(UserWarning):
    """A store is in a place where SQLite cannot guarantee the integrity of the file."""


def warn(file: str, name: str) -> None:
    """Warn, once per folder, about a store on a network file system or in a synchronised folder."""
    folder = os.path.dirname(file)
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    if (reason := describe(folder)) is not None:
        warnings.warn(f"{name} lies {reason}; keep the store on a local disk", PlaceWarning, stacklevel=5)


def describe(folder: str) -> str | None:
    """Return why a folder is unsafe for a store, or None."""
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
    """Return the first name in a path that is the folder of a synchronising program."""
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
    """Return the type of the file system of an absolute path, from the mount table, or "" if unknown."""
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
            if wanted.startswith(point) and len(point) >= len(best):  # the later of two mounts hides the earlier one
                best, kind = point, rest.split(b" ")[0]
        except (IndexError, ValueError):
            continue
    return kind.decode("ascii", "replace")


def _unescaped(point: bytes) -> bytes:
    """Return the path in a field of the mount table, in which blanks, tabs and backslashes are octal escapes."""
    first, *rest = point.split(b"\\")
    return first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)
