"""A store's file that stands still while it is copied, at the pace at which the system copies files.

SQLite's own backup takes every page through two caches, which costs twice what copying the file does. But who begins
to read when all of the log has been carried over into the file reads the file alone, and until that ends nobody may
write into it: writers go on in the log. (See WAL_READ_LOCK(0) in SQLite's description of its log's index, at
sqlite.org/walformat.html.) That moment is made here by holding the write lock for as long as it takes to see that the
log has been carried over and to begin to read. Where it cannot be made at once, nothing is waited for.

The file is read by another process: one that closes a file loses all locks that it has on it, those of SQLite too.

Change here: when it is worth it, and how the file is read.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from scanstore.blocks import closing
from scanstore.connections import connect
from scanstore.files import size_of
from scanstore.interpreter import isolated

LEAST = 24_000_000  # bytes; for less, a process costs more than it saves
TICK = 0.02  # seconds in which two changes may leave a file with the same time of change
PAGE = 4096

CODE = """
import os, sys
with open(sys.argv[1], "rb", 0) as source, open(sys.argv[2], "r+b", 1 << 20) as target:
    while block := source.read(1 << 20):
        target.write(block)
    target.flush()
    try:
        import fcntl
        fcntl.fcntl(target, fcntl.F_FULLFSYNC)
    except (ImportError, AttributeError, OSError):  # not macOS, or a disk that does not know it
        os.fsync(target.fileno())
"""


def copy(file: str, target: str, key: str | None, progress: Callable[[int, int], object] | None) -> bool:
    """Copy a store, as it is at one moment, into a file that is there and empty; False, and nothing done, when it
    cannot be had this way: its file is small or may not be written, somebody writes, or reads what is older.
    """
    command = isolated(CODE, file, target)
    if os.name != "posix" or command is None or size_of(file) < LEAST:
        return False
    try:
        with closing(connect(file, "mode=rw", key=key, timeout=0)) as reader:
            if _freeze(reader, file, key):
                time.sleep(TICK)
                before = os.stat(file)
                if _copied(command, target, before.st_size, progress):
                    after = os.stat(file)
                    if (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns):
                        return True
    except (sqlite3.Error, OSError):  # whatever it is, the other way meets it too
        pass
    with suppress(OSError):  # what was copied of it
        os.truncate(target, 0)
    return False


def _freeze(reader: sqlite3.Connection, file: str, key: str | None) -> bool:
    """Keep everybody from writing into the file for as long as this connection reads; tell whether that came about."""
    reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # most of it, while others may write
    with closing(connect(file, "mode=rw", key=key, timeout=0)) as guard:
        guard.execute("BEGIN IMMEDIATE")
        busy, frames, carried = reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if busy or not 0 <= frames == carried:
            return False
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return True


def _copied(command: list[str], target: str, size: int, progress: Callable[[int, int], object] | None) -> bool:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            while progress is not None:
                try:
                    process.wait(0.05)
                    break
                except subprocess.TimeoutExpired:
                    progress(min(size_of(target), size - 1) // PAGE, size // PAGE)
            done = process.wait() == 0 and size_of(target) == size
        except BaseException:
            process.kill()
            raise
    if done and progress is not None:
        progress(size // PAGE, size // PAGE)
    return done
