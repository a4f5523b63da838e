"""Reading one file and indexing it so that nothing it contains can stop a scan."""

from __future__ import annotations

import hashlib
import os

from scanstore.indexing import FileFacts, Indexer, Strings
from scanstore.indexing.chunks import content_hash, whole

BLOCK = 1 << 18


def load(full: str) -> tuple[bytes, bytes]:
    """Content and SHA-256 of a file; raises OSError."""
    with open(full, "rb") as file:
        content = file.read()
    return content, hashlib.sha256(content).digest()


def fingerprint(full: str) -> tuple[bytes, bytes]:
    """SHA-256 of a file and its first bytes, in constant memory; raises OSError."""
    file = os.open(full, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        head = block = os.read(file, BLOCK)
        digest = hashlib.sha256(block)
        while block:
            block = os.read(file, BLOCK)
            digest.update(block)
    finally:
        os.close(file)
    return digest.digest(), head


def index(indexer: Indexer, content: bytes, *, path: str, module: str) -> FileFacts:
    """The facts of a file; of one that cannot be decoded or parsed, the reason and one chunk of all of it."""
    try:
        return indexer.index(content, path=path, module=module)
    except SyntaxError as error:
        where = f" (line {error.lineno})" if error.lineno else ""
        reason = f"syntax error: {error.msg}{where}"
    except UnicodeDecodeError as error:
        reason = f"not {error.encoding}: {error.reason} at byte {error.start}"
    except RecursionError:
        reason = "nested too deeply to be parsed"
    except MemoryError:
        reason = "too large or nested too deeply to be parsed"
    except Exception as error:
        # Whatever an indexer trips over concerns this one file.
        reason = f"{type(error).__name__}: {error}"[:500]
    return unparsed(content, reason)


def unparsed(content: bytes, error: str | None = None) -> FileFacts:
    """The facts of a file whose language nobody knows, or that its indexer could not read."""
    if error is not None:
        error = error.encode("utf-8", "replace").decode()
    count, chunk = whole(content)
    return FileFacts(error=error, line_count=count, strings=Strings().list(), chunks=[chunk])


def chunk_text(full: str, first: int, last: int, chunk: object, file: object) -> str | None:
    """Lines ``first`` to ``last`` of a file, if it is as it was recorded, or at least this chunk of it is; else None.

    ``chunk`` and ``file`` are the recorded hashes. What cannot be decoded is replaced. Raises OSError.
    """
    from scanstore.indexing.pytext import decode

    content, digest = load(full)
    try:
        text = decode(content)
    except (SyntaxError, UnicodeDecodeError):
        text = content.decode("utf-8", "replace")
    piece = "\n".join(text.split("\n")[first - 1 : last])
    same = digest == file or chunk in (content_hash(content), content_hash(piece.encode("utf-8", "surrogatepass")))
    return piece if same else None
