"""Splitting a file into chunks, the units of review.

The chunks of a file partition it: every line is in exactly one chunk. A top-level function or class is a separate chunk
(``function``, ``class``), a class longer than :data:`LONG_CLASS` lines becomes one chunk per method. Lines between
definitions (imports, constants, comments) belong to the definition that follows them, those after the last one to the
last. A file without definitions, or of at most :data:`SHORT_FILE` lines, is one ``full_file`` chunk. A chunk's hash
covers only its own lines, so a change elsewhere in the file does not change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

SHORT_FILE = 40
LONG_CLASS = 400

#: (type, symbol name, first line, last line)
Span = tuple[str, str | None, int, int]


def content_hash(data: bytes) -> bytes:
    """Return the hash of a chunk: BLAKE2b (RFC 7693) of its bytes, 16 bytes long."""
    return blake2b(data, digest_size=16).digest()


def body_hash(lines: Sequence[str]) -> int:
    """Return a signed 64-bit hash of a symbol's lines without blank ends and common indentation, so that it survives a
    move.
    """
    first = lines[0] if lines else ""
    cut = len(first) - len(first.lstrip())
    text = "\n".join(line[cut:] if line[:cut].isspace() else line for line in lines) if cut else "\n".join(lines)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True)


def partition(spans: Sequence[Span], line_count: int) -> list[Span]:
    """Stretch non-overlapping definition spans, given in order, until they cover lines 1 to ``line_count``."""
    if not spans or line_count <= SHORT_FILE:
        return [("full_file", None, 1, max(line_count, 1))]
    out: list[Span] = []
    start = 1
    for kind, name, _, last in spans:
        if last < start:  # a second definition on the same line
            continue
        out.append((kind, name, start, last))
        start = last + 1
    if start <= line_count and out:
        kind, name, first, _ = out[-1]
        out[-1] = (kind, name, first, line_count)
    return out


def hashed(spans: Sequence[Span], lines: Sequence[str]) -> list[tuple[str, str | None, int, int, bytes]]:
    """Return the spans with the hash of their text. ``lines`` are the file's lines without line ends."""
    out = []
    for kind, name, first, last in spans:
        text = "\n".join(lines[first - 1 : last])
        out.append((kind, name, first, last, content_hash(text.encode("utf-8", "surrogatepass"))))
    return out


def whole(content: bytes) -> tuple[int, tuple[str, None, int, int, bytes]]:
    """Return ``(line_count, chunk)`` for a file with one chunk."""
    count = content.count(b"\n") + (0 if content.endswith(b"\n") or not content else 1)
    return count, ("full_file", None, 1, max(count, 1), content_hash(content))
