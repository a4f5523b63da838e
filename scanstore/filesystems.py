"""Where a store must not live: file systems between machines, and folders that another program synchronises.

SQLite's write-ahead log needs memory that all its users share, and locks that all of them see. Neither reaches from one
machine to another, and a program that synchronises a folder copies the file and its log at different moments. What can
be told from the mount table and from well-known folder names gets a warning, once a folder.

Change here: which file systems and folders are known.
"""

from __future__ import annotations

import os
import re
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
SYNCHRONISED = re.compile(
    r"(?i)/(Library/Mobile Documents|Library/CloudStorage|iCloud ?Drive|OneDrive( - [^/]+)?|Dropbox( \([^/]+\))?"
    r"|Google ?Drive|My Drive|Nextcloud|ownCloud|pCloud ?Drive|MEGAsync|Syncthing)/"
)

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
    """Say what is wrong with a folder as the place of a store; None when nothing is known against it."""
    found = SYNCHRONISED.search(folder.replace(os.sep, "/") + "/")
    if found:
        return f"in a folder that {found[1]} synchronises, which copies the file and its log at different moments"
    if re.match(r"(\\\\|//)(?![?.][\\/])|\\\\\?\\UNC\\", folder):
        return "on a network share, where locks and the log do not work between machines"
    kind = file_system(folder)
    if kind in NETWORK or kind.startswith("fuse.") and kind[5:] not in LOCAL_FUSE:
        return f"on a {kind} file system, where locks and the log do not work between machines"
    return None


def file_system(folder: str) -> str:
    """Return the type of the file system of an absolute path, as the mount table calls it; "" where there is none."""
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
            point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes((int(octal[1], 8),)), fields.split(b" ")[4])
            point = point.rstrip(b"/") + b"/"
            if wanted.startswith(point) and len(point) >= len(best):  # the later of two mounts hides the earlier
                best, kind = point, rest.split(b" ")[0]
        except (IndexError, ValueError):
            continue
    return kind.decode("ascii", "replace")
