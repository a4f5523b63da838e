"""A quick count of the files of a tree that have changed since a scan.

A scan records the size of each file and its own start time. A file counts as changed if its size differs, if its
modification time is after the start of the scan, if it is missing, or if it is new. No file is opened. So a file that
was only touched counts, and a changed file with the same size and an old time does not. The check stops after a number
of files or a fraction of a second; the count is then a lower bound.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.db.paths import stored_root, unescape_path
from scanstore.errors import ScanstoreError
from scanstore.indexing.walk import Entry, walk

if TYPE_CHECKING:
    from datetime import datetime

    from scanstore.db.database import Database
    from scanstore.snapshots.models import Scan

MOST = 100  #: maximum number of counted changes
COMPARED = 10_000  #: maximum number of compared files
SECONDS = 0.5  #: the time limit of a check

FILES = """
SELECT f.file_path, f.status, v.size FROM scan_files AS f INDEXED BY uq_scan_files_scan_id_file_path
  LEFT JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = ? ORDER BY f.file_path LIMIT ?
"""


class Changes(NamedTuple):
    """The number of files that have changed since a scan. If ``complete`` is false, not all files were compared, and
    ``files`` is a lower bound.
    """

    files: int
    complete: bool


class _File(NamedTuple):
    """A file as a scan recorded it. An unknown size is None or 0."""

    path: str
    status: str
    size: int | None

    def differs(self, size: int, mtime_ns: int, since: int) -> bool:
        return mtime_ns > since or bool(self.size and self.size != size)


class _Enough(Exception):
    """Raised when the time limit is reached."""


def place_of(root: str | None) -> str | None:
    """Return the folder or file of a scan, or None if it is unknown or not on this machine."""
    if root is None or not os.path.isabs(root):  # a relative path was relative to an unknown folder
        return None
    place = stored_root(root)
    return place if os.path.exists(place) else None


def changes_since(db: Database, scan: Scan) -> Changes | None:
    """Count the files of a scan's tree that have changed since the scan. Return None if the tree is missing."""
    place = place_of(scan.root)
    began: datetime | None = scan.started_at or scan.created_at
    if place is None or began is None:
        return None
    end = time.monotonic() + SECONDS

    def look_up(_: str) -> None:
        if time.monotonic() > end:
            raise _Enough

    files = 0
    try:
        for number, changed in enumerate(_compared(db, scan, place, _nanoseconds(began), look_up), 1):
            files += changed
            if files >= MOST or number >= COMPARED:
                return Changes(files, False)
            if not number % 100:
                look_up(place)
    except _Enough:
        return Changes(files, False)
    except (ScanstoreError, OSError):  # the tree, or a part of it, was removed during the check
        return Changes(files, False)
    return Changes(files, True)


def _compared(db: Database, scan: Scan, place: str, since: int, look_up: Callable[[str], object]) -> Iterator[bool]:
    """Whether each file has changed."""
    known = (_File(*row) for row in db.execute_sql(FILES, (scan.id, COMPARED + 1)).fetchall())
    options: dict[str, Any] = scan.options or {}
    if scan.kind != "source" or "max_size" not in options:  # the options that selected its files are unknown
        folder = place if os.path.isdir(place) else os.path.dirname(place)
        return (_changed(file, folder, since) for file in known)
    entries = walk(
        place, include=options.get("include") or (), exclude=options.get("exclude") or (),
        max_size=options["max_size"], omit=(db.file, *map(unescape_path, options.get("omit") or ())),
        visit=look_up,
    )  # fmt: skip
    return _merged(known, entries, since)


def _changed(file: _File, folder: str, since: int) -> bool:
    try:
        found = os.lstat(os.path.join(folder, unescape_path(file.path)))
    except (OSError, ValueError):
        return True
    return file.differs(found.st_size, found.st_mtime_ns, since)


def _merged(known: Iterator[_File], entries: Iterator[Entry], since: int) -> Iterator[bool]:
    """Compare two lists of files, both sorted by path."""
    file = next(known, None)
    for entry in entries:
        while file is not None and file.path < entry.path:
            yield file.status != "skipped"
            file = next(known, None)
        if file is None or file.path != entry.path:
            yield entry.skipped is None
            continue
        if entry.skipped is not None:
            yield file.status != "skipped"
        else:
            yield file.differs(entry.size, entry.mtime_ns, since)
        file = next(known, None)
    while file is not None:
        yield file.status != "skipped"
        file = next(known, None)


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
