"""Import of the symbols that universal-ctags found into a scan.

The whole file is read and checked before the first write. Tags are added to files that the scan recorded, did not skip,
and that have no symbols or references of an indexer. A file keeps its content hash, its chunk and, if it could not be
parsed, its error.

A symbol's text is hashed, so that a diff shows when it changes. The text is read from the file if the file has not
changed since the scan. If ctags gives no end line, as for Rust and TypeScript, a function or class is assumed to end
before the next symbol that is not part of it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from scanstore.db.arguments import check_path
from scanstore.db.files import refused
from scanstore.db.paths import file_in, kept_in_cloud, stored_root
from scanstore.db.values import format_time, utcnow
from scanstore.errors import InvalidArgument
from scanstore.indexing.ctags import Broken, read
from scanstore.indexing.files import load
from scanstore.indexing.languages import CTAGS
from scanstore.indexing.records import facts_of
from scanstore.snapshots.recorder import Content

if TYPE_CHECKING:
    from scanstore.db.database import Database
    from scanstore.snapshots.recorder import Recorder

FILE = """
SELECT f.file_hash, f.version_id, v.line_count, v.error, v.size,
       EXISTS (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = f.version_id)
       OR EXISTS (SELECT 1 FROM reference_facts AS r WHERE r.version_id = f.version_id)
  FROM scan_files AS f LEFT JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = ? AND f.file_path = ?
"""
CHUNKS = """
SELECT chunk_type, symbol_name, start_line, end_line, content_hash FROM chunk_facts WHERE version_id = ?
 ORDER BY chunk_index
"""


#: How often each line of a file can be part of a symbol's text.
LINES_PER_LINE = 50


class LoadedTags(NamedTuple):
    """The result of importing a tags file: the added files and symbols, the files that the scan does not have or
    skipped, and the unusable lines as ``(line number, reason)``.
    """

    files: int
    symbols: int
    outside: list[str]
    broken: list[tuple[int, str]]


class Tags:
    """The tags of one tags file, grouped by source file. An open file, such as a pipe, is read to its end.

    Raises NotFound, or InvalidArgument for another format or an empty pipe.
    """

    def __init__(self, file: str | os.PathLike[str] | BinaryIO, root: str | None) -> None:
        self.groups: dict[str, list[dict[str, object]]] = {}
        self.broken: list[tuple[int, str]] = []
        name = os.fspath(file) if isinstance(file, (str, os.PathLike)) else "the open file of tags"
        try:
            stream = None if isinstance(file, (str, os.PathLike)) or not hasattr(file, "readline") else file
            with open(check_path(file, "file"), "rb") if stream is None else nullcontext(stream) as lines:
                piped = _Piped(lines)
                for item in read(cast(Any, piped), root=None if root is None else stored_root(root)):
                    if isinstance(item, Broken):
                        self.broken.append((item.line_number, item.reason))
                    else:
                        self.groups.setdefault(item.path, []).append(item._asdict())
        except OSError as error:
            raise refused(error, name, "read") from error
        if self.broken and not self.groups:
            line, reason = self.broken[0]
            raise InvalidArgument(
                f"{name} has no line that is a tag (line {line}: {reason});"
                " make it with: ctags --output-format=json --fields='*'"
            )
        if file is lines and not piped.any:
            raise InvalidArgument(
                f"{name} is empty; check that ctags is universal-ctags, with json in: ctags --list-features"
            )

    def record_into(self, db: Database, recorder: Recorder, *, root: str | None) -> LoadedTags:
        """Write the tags. Files that the scan does not have are added, unless the scan walked a tree at ``root``: then
        they are reported as outside, like skipped and unreadable files.
        """
        files = symbols = 0
        outside = []
        for path in sorted(self.groups):
            row = db.execute_sql(FILE, (recorder.scan_id, path)).fetchone()
            if root is not None and (row is None or row[1] is None):
                outside.append(path)
                continue
            if row is None or not row[5]:
                symbols += self._record_file(db, recorder, path, row or (None, None, 0, None, 0, 0), root)
                files += 1
        return LoadedTags(files, symbols, outside, self.broken)

    def _record_file(self, db: Database, recorder: Recorder, path: str, row: tuple[Any, ...], root: str | None) -> int:
        digest, version, line_count, error, size, _ = row
        tags = sorted(self.groups[path], key=lambda tag: (tag["start_line"], tag["name"]))
        mark = hashlib.sha256(repr(tags).encode()).digest()
        lines = None if root is None else _lines(root, path, digest)
        if lines is not None:
            _add_texts(tags, lines)
        facts = facts_of(tags, (), (), (), line_count=line_count or 0)
        if version is not None:
            strings = list(facts.strings)
            chunks = []
            for kind, name, first, last, content in db.execute_sql(CHUNKS, (version,)).fetchall():
                if name is not None:
                    strings.append(name)
                chunks.append((kind, None if name is None else len(strings) - 1, first, last, content))
            facts = facts._replace(strings=strings, chunks=chunks, error=error)
        indexer = f"{CTAGS}2:{mark.hex()[:16]}{'' if lines is not None else ' without text'}"
        content_key = Content(path, digest if digest is not None else mark, indexer)
        recorder.record([(content_key, size or 0, facts)], format_time(utcnow()))
        return len(tags)


class _Piped:
    """An open file that records whether any data was read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.any = False

    def readline(self, size: int) -> bytes:
        line = self.file.readline(size)
        self.any = self.any or bool(line)
        return line


def _lines(root: str, path: str, digest: bytes | None) -> list[str] | None:
    """Return the lines of a file of the tree, or None if its content has changed."""
    try:
        full = file_in(stored_root(root), path)
        if full is None or kept_in_cloud(full):
            return None
        content, found = load(full)
    except (OSError, ValueError):
        return None
    # The text is only compared with another version of the file, so any encoding that preserves all bytes is
    # sufficient.
    return content.decode("latin-1").split("\n") if found == digest else None


def _add_texts(tags: list[dict[str, Any]], lines: list[str]) -> None:
    """Add the text of its symbol to each tag, in line order."""
    budget = LINES_PER_LINE * len(lines)  # limits tags that each span a whole long file
    ends = any(tag["end_line"] > tag["start_line"] for tag in tags)
    for place, tag in enumerate(tags):
        first, last = tag["start_line"], tag["end_line"]
        if not ends and tag["symbol_type"] != "variable":
            inside = tag["qualified_name"] + "."
            others = (t["start_line"] for t in tags[place + 1 : place + LINES_PER_LINE]
                      if t["start_line"] > first and not t["qualified_name"].startswith(inside))  # fmt: skip
            last = next(others, len(lines) + 1) - 1
        budget -= min(last, len(lines)) - first + 1
        if first <= len(lines) and budget > 0:
            tag["text"] = "\n".join(lines[first - 1 : last])
