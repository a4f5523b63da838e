"""The file of a store before it is opened: create it, build its URI for SQLite, and recognise stores."""

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
SCHEMA_VERSION = 13  #: the number of the newest file in migrations/
MEMORY = ":memory:"
GIVE_ANOTHER = "give the path of a scanstore file or a new one"
#: Options to read a file without its log, without locks and without creating files beside it. Without the mode, SQLite
#: would create a missing file.
ALONE = "mode=ro&immutable=1"
FULL_SYNC = "; PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON"
SECONDS = 30.0  #: the time limit for reading an untrusted file
# for example of a network disk
_NO_FULL_SYNC = frozenset((errno.EINVAL, errno.ENOTTY, errno.ENOTSUP, errno.EOPNOTSUPP))
_QUOTED = [
    chr(byte) if byte < 128 and (chr(byte).isalnum() or byte in b"/._-") else f"%{byte:02x}" for byte in range(256)
]
STEPS = 5000  #: steps of SQLite's virtual machine between two checks of the clock


def uri(file: str, options: str, *, windows: bool | None = None) -> str:
    """Return the URI with which SQLite opens exactly this absolute path, whatever characters it contains."""
    path = os.fsencode(paths.uri_path(file, windows=windows))
    quoted = "".join(map(_QUOTED.__getitem__, path))
    if path[2:3] == b":":  # SQLite requires the colon of a drive unescaped
        quoted = quoted.replace(_QUOTED[ord(":")], ":", 1)
    return "file://" + quoted + "?" + options


def quoted(name: str) -> str:
    """Return a quoted name of a table, column, index or trigger. A user's name may be any text."""
    return '"' + name.replace('"', '""') + '"'


def careful(make: Callable[[str], sqlite3.Connection]) -> str:
    """Return the pragmas of every connection of a driver: functions in a schema are not trusted, and a cell outside its
    page is reported as damage. On macOS a commit waits for the disk, as in :func:`flush`.
    """
    return _distrusting(make) + (FULL_SYNC if paths.MACOS else "")


@lru_cache
def _distrusting(make: Callable[[str], sqlite3.Connection]) -> str:
    """Return the pragmas for untrusted files.

    SQLite before 3.41 treats its own JSON functions as untrusted, and the CHECK constraints of our tables call them.
    With these versions the schema stays trusted; our connections register no functions that it could call.
    """
    pragmas = "PRAGMA cell_size_check=ON"
    probe = make(":memory:")
    try:
        probe.executescript("PRAGMA trusted_schema=OFF; CREATE TABLE t (x CHECK (json_valid(x)))")
        pragmas += "; PRAGMA trusted_schema=OFF"
    except Exception as error:  # each driver has its own class
        if "unsafe" not in str(error):
            raise
    finally:
        probe.close()
    return pragmas


@contextmanager
def limited(connection: sqlite3.Connection, name: str, seconds: float | None = None) -> Iterator[None]:
    """Raise ReadTimeout if the statements of a connection take more than this number of seconds, by default 30."""
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
                # A signal handler ran inside ours, and SQLite swallowed its exception.
                raise KeyboardInterrupt from error
        raise
    finally:
        with suppress(sqlite3.ProgrammingError):  # the connection was closed
            connection.set_progress_handler(None, 0)


def too_slow(name: str, seconds: float) -> ReadTimeout:
    """Return the error for a file that could not be read in time."""
    return ReadTimeout(
        f"{name} could not be read in {seconds:g} seconds; it may have been made to take for ever: if you trust it, "
        "give it more with timeout="
    )


def seconds_for(file: str, timeout: float | None = None) -> float:
    """Return the time limit for reading a whole file: the timeout, or 30 seconds plus one per megabyte.

    Raises InvalidArgument for a timeout that is not a number of seconds.
    """
    if timeout is None:
        return SECONDS + (size_of(file) + size_of(file + "-wal")) / 1e6
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < 2**31 / 1000:
        raise InvalidArgument(f"timeout is {shown(timeout)}; it must be a number of seconds, from 0 to 2,147,483")
    return timeout


def refused(error: OSError, name: str, done: str = "written") -> ScanstoreError:
    """Return the error, with this one as its cause, for a file that the system does not allow to be read or written.

    `done` is the participle in the message, such as ``read`` or ``written``.
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
    """Convert an OSError of the block to scanstore's error. A BrokenPipeError is passed through."""
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


def create_file(file: str, name: str, mode: int = 0o600) -> bool:
    """Create an empty file if the path does not exist, and return whether it was created. By default only its owner
    may read it.
    """
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), mode))
        return True
    except FileExistsError:
        return False
    except OSError as error:
        raise refused(error, name, "created") from error


def real_path(path: str) -> str:
    """Return the absolute path of the target of a path."""
    with refusing(path, "read"):  # the current folder may be missing
        return os.path.realpath(path)


def free_space(file: str, name: str) -> int:
    """Return the free bytes on the disk of an existing or future file."""
    import shutil

    with refusing(name):
        try:
            return shutil.disk_usage(os.path.dirname(file)).free
        except AttributeError:  # not available on this system
            return sys.maxsize


def size_of(file: str) -> int:
    """Return the size of a file in bytes, 0 when it is missing."""
    try:
        return os.path.getsize(file)
    except OSError:
        return 0


def sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on the disk, so that creating, renaming or deleting a file survives a power
    cut.
    """
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # the folder may be writable but not readable
        os.sync()
        return
    try:
        flush(handle)
    finally:
        os.close(handle)


def flush(handle: int) -> None:
    """Wait until all writes to an open file or folder are on the disk.

    On macOS `fsync` returns when the drive has received the data, which a power cut may lose; F_FULLFSYNC waits for the
    disk.
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


def identify(connection: sqlite3.Connection, name: str, *, take_over: bool = False) -> int:
    """Return the schema version of a store, or 0 for an empty file. Raises NotAScanstore for other files.

    With `take_over`, a file that peewee_migrate created with scanstore's migrations has version 0 too.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        with limited(connection, name):
            (there,) = connection.execute("SELECT EXISTS (SELECT 1 FROM main.sqlite_master)").fetchone()
        if application or version or there and not (take_over and _routed(connection, name)):
            raise NotAScanstore(f"{name} is another program's database; {GIVE_ANOTHER}")
    return int(version)


def _routed(connection: sqlite3.Connection, name: str) -> bool:
    from scanstore.db import routed  # start-up: only for a file without the application id

    with limited(connection, name):
        return routed.created(connection) is not None


def use_log(connection: sqlite3.Connection, timeout: float) -> None:
    """Switch the file to WAL mode if necessary. Waits for other processes up to the timeout."""
    deadline = time.monotonic() + timeout
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait for this lock.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
