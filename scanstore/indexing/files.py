"""Reading and indexing of one file, so that no content can stop a scan."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import traceback

from scanstore.indexing.chunking import content_hash, whole
from scanstore.indexing.facts import FileFacts, Indexer, Strings

BLOCK = 1 << 18
NO_TERMINAL = getattr(os, "O_NOCTTY", 0)
#: The prefix of a file's error that is caused by a bug in the indexer.
INDEXER_ERROR = "indexer error"


def opened(full: str) -> int:
    """Open a regular file for reading. Raises OSError for anything else.

    A pipe or a device may have replaced the file since it was listed. Opening it must not block.
    """
    number = os.open(full, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | NO_TERMINAL)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    raise OSError(errno.EINVAL, "not a regular file", full)


def load(full: str) -> tuple[bytes, bytes]:
    """Return the content and SHA-256 of a file. Raises OSError."""
    with os.fdopen(opened(full), "rb") as file:
        content = file.read()
    return content, hashlib.sha256(content).digest()


def fingerprint(full: str) -> tuple[bytes, bytes]:
    """Return the SHA-256 of a file and its first bytes, in constant memory. Raises OSError."""
    file = opened(full)
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
    """Return the facts of a file. If it cannot be decoded or parsed, return the reason and one chunk of the
    whole file.
    """
    try:
        facts: object = indexer.index(content, path=path, module=module)
        if isinstance(facts, FileFacts):
            return facts
        reason = f"{INDEXER_ERROR}: {type(indexer).__name__} returned {type(facts).__name__}, not FileFacts"
    except SyntaxError as error:
        where = f" (line {error.lineno})" if error.lineno else ""
        reason = f"syntax error: {error.msg}{where}"
    except UnicodeDecodeError as error:
        reason = f"not {error.encoding}: {error.reason} at byte {error.start}"
    except MemoryError:
        reason = "too large or nested too deeply to be parsed"
    except Exception as error:
        # An exception of an indexer affects only this file.
        if isinstance(error, RecursionError) and not _frames(error)[-1][0].startswith("scanstore."):
            reason = "nested too deeply to be parsed"
        else:
            reason = f"{INDEXER_ERROR}: {type(error).__name__}: {error}"[:500] + f" ({_place(error, indexer)})"
    return unparsed(content, reason)


def _frames(error: Exception) -> list[tuple[str, int]]:
    """Return module and line of each call that led to an error, the innermost last."""
    return [(str(frame.f_globals.get("__name__")), line) for frame, line in traceback.walk_tb(error.__traceback__)]


def _place(error: Exception, indexer: Indexer) -> str:
    """Return the innermost location in the indexer's own package, not in the libraries that it calls."""
    frames = _frames(error)
    package = type(indexer).__module__.partition(".")[0]
    own = [frame for frame in frames[1:] if frame[0].partition(".")[0] == package]
    module, line = (own or frames)[-1]
    return f"{module}, line {line}"


def unparsed(content: bytes, error: str | None = None) -> FileFacts:
    """Return the facts of a file whose language is unknown, or that its indexer could not read."""
    if error is not None:
        error = error.encode("utf-8", "replace").decode()
    count, chunk = whole(content)
    return FileFacts(error=error, line_count=count, strings=Strings().list(), chunks=[chunk])


def chunk_text(full: str, first: int, last: int, chunk: object, file: object) -> str | None:
    """Return lines ``first`` to ``last`` of a file, if the file or at least this chunk is unchanged, or None.

    ``chunk`` and ``file`` are the recorded hashes. Undecodable bytes are replaced. Raises OSError.
    """
    from scanstore.indexing.python.source import decode  # start-up: loads ast

    content, digest = load(full)
    try:
        text = decode(content)
    except (SyntaxError, UnicodeDecodeError):
        text = content.decode("utf-8", "replace")
    piece = "\n".join(text.split("\n")[first - 1 : last])
    same = digest == file or chunk in (content_hash(content), content_hash(piece.encode("utf-8", "surrogatepass")))
    return piece if same else None
