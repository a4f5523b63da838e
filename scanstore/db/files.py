"""The file itself, before anything is asked of it: making it, naming it to SQLite, telling whose it is."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache

from scanstore.db import open_files, paths
from scanstore.db.blocks import contextmanager
from scanstore.errors import (
    Busy,
    DiskFull,
    InvalidArgument,
    MissingFolder,
    NotAScanstore,
    NotFound,
    ReadOnly,
    ReadTimeout,
    ScanstoreError,
    StorageError,
    shown,
)

APPLICATION_ID = 0x5343414E  # "SCAN"
SCHEMA_VERSION = 10  #: the number of the newest file in migrations/, moves with it
MEMORY = ":memory:"
GIVE_ANOTHER = "give the path of a scanstore file or a new one"
#: Options to read a file as it lies there, without its log, its locks or a file beside it. Without the mode, SQLite
#: creates a file that is missing.
ALONE = "mode=ro&immutable=1"
FULL_SYNC = "; PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON"
SECONDS = 30.0  #: that reading a file of others may take
_NO_FULL_SYNC = frozenset((errno.EINVAL, errno.ENOTTY, errno.ENOTSUP, errno.EOPNOTSUPP))  # of a network disk, say
_QUOTED = [
    chr(byte) if byte < 128 and (chr(byte).isalnum() or byte in b"/._-") else f"%{byte:02x}" for byte in range(256)
]
STEPS = 5000  #: of SQLite's machine from one look at the clock to the next


def uri(file: str, options: str, *, windows: bool | None = None) -> str:
    """Return the URI by which SQLite opens exactly this absolute path, whatever bytes are in it."""
    path = os.fsencode(paths.uri_path(file, windows=windows))
    quoted = "".join(map(_QUOTED.__getitem__, path))
    if path[2:3] == b":":  # SQLite wants the colon of a drive as it is
        quoted = quoted.replace(_QUOTED[ord(":")], ":", 1)
    return "file://" + quoted + "?" + options


def quoted(name: str) -> str:
    """Return a name of a table, column, index or trigger as SQL takes it; one of the user's own may be any text."""
    return '"' + name.replace('"', '""') + '"'


def careful(make: Callable[[str], sqlite3.Connection]) -> str:
    """Return the pragmas of every connection of a driver: what a schema calls is not trusted, and a cell that reaches
    out of its page is damage. On macOS a commit waits for the disk, as :func:`flush` does.
    """
    return _distrusting(make) + (FULL_SYNC if paths.MACOS else "")


@lru_cache
def _distrusting(make: Callable[[str], sqlite3.Connection]) -> str:
    """Return the pragmas for files of strangers.

    SQLite before 3.41 takes its own JSON functions for untrusted ones, which the CHECK constraints of our tables call.
    There a schema stays trusted; nothing is registered with our connections that it could call.
    """
    pragmas = "PRAGMA cell_size_check=ON"
    probe = make(":memory:")
    try:
        probe.executescript("PRAGMA trusted_schema=OFF; CREATE TABLE t (x CHECK (json_valid(x)))")
        pragmas += "; PRAGMA trusted_schema=OFF"
    except Exception as error:  # each driver has a class of its own
        if "unsafe" not in str(error):
            raise
    finally:
        probe.close()
    return pragmas


@contextmanager
def limited(connection: sqlite3.Connection, name: str, seconds: float | None = None) -> Iterator[None]:
    """Raise ReadTimeout when the statements of a connection are not over after so many seconds, by default 30."""
    limit = SECONDS if seconds is None else seconds
    deadline, late = time.monotonic() + limit, []

    def over() -> bool:
        if time.monotonic() > deadline:
            late.append(True)
        return bool(late)

    connection.set_progress_handler(over, STEPS)
    try:
        yield
    except Exception as error:
        if late:
            raise too_slow(name, limit) from error
        for each in (error, error.__cause__):
            if getattr(each, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                # A signal's handler ran inside ours, and SQLite has swallowed what it raised.
                raise KeyboardInterrupt from error
        raise
    finally:
        with suppress(sqlite3.ProgrammingError):  # it was closed
            connection.set_progress_handler(None, 0)


def too_slow(name: str, seconds: float) -> ReadTimeout:
    """Return the error to raise when a file could not be read in time."""
    return ReadTimeout(
        f"{name} could not be read in {seconds:g} seconds; it may have been made to take for ever: if you trust it, "
        "give it more with timeout="
    )


def seconds_for(file: str, timeout: float | None = None) -> float:
    """Return how long reading all of a file may take: the timeout, or 30 seconds and one for each megabyte of it.

    Raises InvalidArgument for a timeout that is no number of seconds.
    """
    if timeout is None:
        return SECONDS + (size_of(file) + size_of(file + "-wal")) / 1e6
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < 2**31 / 1000:
        raise InvalidArgument(f"timeout is {shown(timeout)}; it must be a number of seconds, from 0 to 2,147,483")
    return timeout


def refused(error: OSError, name: str, done: str = "written") -> ScanstoreError:
    """Return the error to raise, from this one, for a file that the system does not let be read or written.

    `done` is the participle of the message: ``read``, or what else it cannot be.
    """
    kind, remedy = (_READING if done == "read" else _WRITING).get(error.errno, (StorageError, "check its disk"))
    if open_files.held(error):
        close = "close it there, or exclude its folder from the antivirus or the sync client, and try again"
        if open_files.certainly_held(error):
            kind, remedy = Busy, f"another program has it open; {close}"
        else:
            remedy += f"; if another program has it open, {close}"
    return kind(f"{name} cannot be {done}: {error.strerror or error}; {remedy}")


@contextmanager
def refusing(name: str, done: str = "written") -> Iterator[None]:
    """Turn whatever OSError comes out of the block into ours; a reader that has gone away stays a BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refused(error, name, done) from error


_Kinds = dict[int | None, tuple[type[ScanstoreError], str]]
_ALWAYS: _Kinds = {
    errno.ENOSPC: (DiskFull, "free some space and try again"),
    errno.EDQUOT: (DiskFull, "free some space within your quota and try again"),
    errno.EISDIR: (StorageError, "give the path of a file"),
    errno.ENAMETOOLONG: (StorageError, "choose a shorter name"),
    errno.EMFILE: (StorageError, "close some of the files that this process has open"),
    errno.ENFILE: (StorageError, "close some of the files that this machine has open"),
}
_WRITING: _Kinds = _ALWAYS | {
    errno.EACCES: (ReadOnly, "check its permissions and those of its folder, or choose another folder"),
    errno.EPERM: (ReadOnly, "check its permissions and those of its folder, or choose another folder"),
    errno.EROFS: (ReadOnly, "choose a place that may be written"),
    errno.ENOENT: (MissingFolder, "create its folder"),
    errno.ENOTDIR: (MissingFolder, "choose a folder that is one"),
}
_READING: _Kinds = _ALWAYS | {
    errno.EACCES: (StorageError, "check its permissions"),
    errno.EPERM: (StorageError, "check its permissions"),
    errno.ENOENT: (NotFound, "check the path"),
    errno.ENOTDIR: (NotFound, "check the path"),
}


def create_file(file: str, name: str, mode: int = 0o600) -> None:
    """Create an empty file, that only its owner may read unless told otherwise, if nothing is there already."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), mode))
    except FileExistsError:
        pass
    except OSError as error:
        raise refused(error, name, "created") from error


def real_path(path: str) -> str:
    """Return the absolute path of what a path leads to."""
    with refusing(path, "read"):  # the current folder may be gone
        return os.path.realpath(path)


def free_space(file: str, name: str) -> int:
    """Return the bytes that are free on the disk of a file that is, or is to be, there."""
    import shutil

    with refusing(name):
        try:
            return shutil.disk_usage(os.path.dirname(file)).free
        except AttributeError:  # this system does not tell
            return sys.maxsize


def size_of(file: str) -> int:
    """Return the size of a file in bytes, 0 when it is missing."""
    try:
        return os.path.getsize(file)
    except OSError:
        return 0


def sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on the disk: a file that was made, renamed or deleted there stays so."""
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written and not read
        os.sync()
        return
    try:
        flush(handle)
    finally:
        os.close(handle)


def flush(handle: int) -> None:
    """Wait until all writes to an open file or folder are on the disk.

    On macOS `fsync` ends when the drive has it, which may lose it in a power cut; F_FULLFSYNC waits for the disk.
    """
    if paths.MACOS:
        import fcntl

        try:
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
            return
        except OSError as error:
            if error.errno not in _NO_FULL_SYNC:
                raise
    os.fsync(handle)


def identify(connection: sqlite3.Connection, name: str) -> int:
    """Return the schema version of a scanstore, 0 for an empty one; raise NotAScanstore for anything else."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        with limited(connection, name):
            (there,) = connection.execute("SELECT EXISTS (SELECT 1 FROM main.sqlite_master)").fetchone()
        if application or version or there:
            raise NotAScanstore(f"{name} is another program's database; {GIVE_ANOTHER}")
    return int(version)


def use_log(connection: sqlite3.Connection, timeout: float) -> None:
    """Switch the file to a write-ahead log if it has none yet, waiting for others up to the timeout."""
    deadline = time.monotonic() + timeout
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait for this lock by itself.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
