"""Symbols that universal-ctags found, on their way into a scan.

The whole file is read and checked before anything is written. Tags go to files that the scan has and that no indexer
found symbols in; a file keeps its content hash, its chunk and, if it could not be parsed, its error.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.arguments import a_path
from scanstore.errors import InvalidArgument
from scanstore.fields import format_time, utcnow
from scanstore.files import refused
from scanstore.indexing.given import facts_of
from scanstore.interchange.ctags import Broken, read

if TYPE_CHECKING:
    from scanstore.database import Database
    from scanstore.recording import Recorder

FILE = """
SELECT f.file_hash, f.version_id, v.line_count, v.error, v.size,
       EXISTS (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = f.version_id)
  FROM scan_files AS f LEFT JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = ? AND f.file_path = ?
"""
CHUNKS = """
SELECT chunk_type, symbol_name, start_line, end_line, content_hash FROM chunk_facts WHERE version_id = ?
 ORDER BY chunk_index
"""


class Loaded(NamedTuple):
    """What came of a tags file: files and symbols added, files it names that the scan does not have, and the lines
    that could not be used as ``(line number, reason)``."""

    files: int
    symbols: int
    outside: list[str]
    broken: list[tuple[int, str]]


class Tags:
    """The tags of one file, by the source file they are in. Raises NotFound, or InvalidArgument for another format."""

    def __init__(self, file: str | os.PathLike[str], root: str | None) -> None:
        self.groups: dict[str, list[dict[str, Any]]] = {}
        self.broken: list[tuple[int, str]] = []
        try:
            with open(a_path(file, "file"), "rb") as lines:
                for item in read(lines, root=root):
                    if isinstance(item, Broken):
                        self.broken.append((item.line_number, item.reason))
                    else:
                        self.groups.setdefault(item.path, []).append(item._asdict())
        except OSError as error:
            raise refused(error, os.fspath(file), "read") from error
        if self.broken and not self.groups:
            line, reason = self.broken[0]
            raise InvalidArgument(
                f"{os.fspath(file)} has no line that is a tag (line {line}: {reason});"
                " make it with: ctags --output-format=json --fields='*'"
            )

    def record_into(self, db: Database, recorder: Recorder, *, walked: bool) -> Loaded:
        """Write the tags. Files that the scan does not have are added, unless it ``walked`` a tree to find its own."""
        files = symbols = 0
        outside = []
        for path in sorted(self.groups):
            row = db.execute_sql(FILE, (recorder.scan_id, path)).fetchone()
            if row is None and walked:
                outside.append(path)
                continue
            if row is None or not row[5]:
                symbols += self._record_file(db, recorder, path, row or (None, None, 0, None, 0, 0))
                files += 1
        return Loaded(files, symbols, outside, self.broken)

    def _record_file(self, db: Database, recorder: Recorder, path: str, row: tuple[Any, ...]) -> int:
        from scanstore.recording import Content

        digest, version, line_count, error, size, _ = row
        tags = sorted(self.groups[path], key=lambda tag: (tag["start_line"], tag["name"]))
        mark = hashlib.sha256(repr(tags).encode()).digest()
        facts = facts_of(tags, (), (), (), line_count=line_count or 0)
        if version is not None:
            strings = list(facts.strings)
            chunks = []
            for kind, name, first, last, content in db.execute_sql(CHUNKS, (version,)).fetchall():
                if name is not None:
                    strings.append(name)
                chunks.append((kind, None if name is None else len(strings) - 1, first, last, content))
            facts = facts._replace(strings=strings, chunks=chunks, error=error)
        content_key = Content(path, digest if digest is not None else mark, f"ctags/1:{mark.hex()[:16]}")
        recorder.record([(content_key, size or 0, facts)], format_time(utcnow()))
        return len(tags)
