"""Sources: the text of the files in a report, read only from inside a folder.

Reports are untrusted: a path may point anywhere, and the file may be a pipe or huge. A file that cannot be read as a
regular file of the tree counts as unknown. Change here: which files are readable.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

from scanstore.db import paths
from scanstore.db.database import Database

MAX_SIZE = 16 << 20  # maximum size of a file in bytes
ROOM = 32 << 20  # maximum number of cached characters

RECORDED = "SELECT id, file_hash, version_id FROM scan_files WHERE scan_id = ? AND file_path = ?"
SYMBOLS = """
SELECT s.start_line, s.end_line, n.text FROM symbol_facts AS s JOIN names AS n ON n.id = s.qualified_name_id
 WHERE s.version_id = ? AND s.symbol_type <> 'module'
 ORDER BY s.start_line, s.end_line DESC
"""
SOURCE_SCAN = """
SELECT max(id) FROM scans WHERE lineage_id = ? AND kind = 'source' AND revision IS NOT NULL
"""


class SourceText(NamedTuple):
    """The current state of a file: its text, its lines and the SHA-256 of its bytes."""

    text: str
    lines: list[str]
    digest: bytes


class Sources:
    """The files below a folder. Without a folder, all files are unknown. Texts are cached up to a limit.

    With ``recorded`` hashes, a file that has changed since it was recorded is unknown.
    """

    def __init__(self, root: str | None, recorded: Mapping[str, bytes | None] | None = None) -> None:
        self._top = None if root is None else os.path.realpath(root)
        self._recorded = recorded
        self._kept: OrderedDict[str, SourceText | None] = OrderedDict()
        self._size = 0
        self.digests: dict[str, bytes] = {}  #: the SHA-256 of each read file

    def get(self, path: str) -> SourceText | None:
        """Return the file at a relative path, or None if it is missing, outside the folder, not a file or too large."""
        if self._top is None:
            return None
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        content = self._read(path)
        source = None
        digest = b"" if content is None else hashlib.sha256(content).digest()
        if content is not None and (self._recorded is None or self._recorded.get(path) == digest):
            text = _decoded(content)
            source = SourceText(text, re.split("\r\n|\r|\n", text), digest)
            self.digests[path] = digest
            self._size += len(text)
        self._kept[path] = source
        while self._size > ROOM and len(self._kept) > 1:
            left = self._kept.popitem(last=False)[1]
            self._size -= 0 if left is None else len(left.text)
        return source

    def missing(self, path: str) -> bool:
        """Whether there is a folder, but no file at this path."""
        if self._top is None or not path:
            return False
        if os.path.isfile(self._top):
            return not self._is_root(path)
        return not os.path.lexists(os.path.join(self._top, paths.unescape_path(path)))

    def _is_root(self, path: str) -> bool:
        return self._top is not None and paths.composed(os.path.basename(self._top)) == paths.unescape_path(path)

    def _read(self, path: str) -> bytes | None:
        if self._top is None or not path or "\0" in path:
            return None
        try:
            if os.path.isfile(self._top) and not self._is_root(path):
                return None
            full = paths.file_in(self._top, path)
            if full is None or paths.kept_in_cloud(full):
                return None
            # Do not wait for the other end of a pipe.
            number = os.open(full, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            with os.fdopen(number, "rb") as file:
                known = os.fstat(number)
                if not stat.S_ISREG(known.st_mode) or known.st_size > MAX_SIZE:
                    return None
                return file.read(MAX_SIZE)
        except (OSError, ValueError):
            return None


def recorded(db: Database, scan_id: int) -> dict[str, bytes | None]:
    """Return the hash of each file of a scan."""
    return dict(db.execute_sql("SELECT file_path, file_hash FROM scan_files WHERE scan_id = ?", (scan_id,)).fetchall())


class Enclosing:
    """The enclosing symbol of a line, from the latest snapshot of a target, for files that have not changed since."""

    def __init__(self, db: Database, lineage_id: int) -> None:
        self._db = db
        self._scan: int | None = db.execute_sql(SOURCE_SCAN, (lineage_id,)).fetchone()[0]
        self._files: dict[tuple[str, bytes], list[tuple[int, int, int, str]]] = {}

    def name(self, path: str, digest: bytes, line: int) -> str | None:
        """Return the qualified name of the innermost symbol around a line."""
        if self._scan is None:
            return None
        symbols = self._files.get((path, digest))
        if symbols is None:
            symbols = self._files[path, digest] = self._read(path, digest)
        for at in range(bisect_right(symbols, line, key=lambda symbol: symbol[0]) - 1, -1, -1):
            _, end, last, name = symbols[at]
            if end >= line:
                return name
            if last < line:
                break
        return None

    def _read(self, path: str, digest: bytes) -> list[tuple[int, int, int, str]]:
        """Return the first and last line of each symbol, the maximum last line so far, and its name."""
        rows = self._db.execute_sql(RECORDED, (self._scan, path)).fetchall()
        if not rows or rows[0][1] != digest or rows[0][2] is None:
            return []
        found = self._db.execute_sql(SYMBOLS, (rows[0][2],)).fetchall()
        reach = accumulate((end for _, end, _ in found), max)
        return [(start, end, last, name) for (start, end, name), last in zip(found, reach, strict=True)]


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace")
