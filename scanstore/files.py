"""The file itself, before anything is asked of it: making it, naming it to SQLite, telling whose it is."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any, cast

from scanstore.errors import DiskFull, NotAScanstore, ReadOnly, StorageError

APPLICATION_ID = 0x5343414E  # "SCAN"
GIVE_ANOTHER = "give the path of a scanstore file or a new one"


def uri(file: str, options: str) -> str:
    """Return the URI by which SQLite opens exactly this absolute path, whatever bytes are in it."""
    return "file://" + "".join(map(_quoted, os.fsencode(file))) + "?" + options


def _quoted(byte: int) -> str:
    return chr(byte) if byte in b"/._-" or chr(byte).isalnum() and byte < 128 else f"%{byte:02x}"


def connect(file: str, options: str, *, key: str | None = None, **more: Any) -> sqlite3.Connection:
    """Open exactly this absolute path, with a key when it is encrypted; nothing of it is read yet."""
    if key is not None:
        from scanstore import encryption

        return encryption.connect(file, options, key, isolation_level=None, **more)
    return cast(sqlite3.Connection, sqlite3.connect(uri(file, options), uri=True, isolation_level=None, **more))


def create_file(file: str, name: str) -> None:
    """Create an empty file that only its owner may read, unless something is there already."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
    except FileExistsError:
        pass
    except PermissionError as error:
        raise ReadOnly(f"{name} cannot be created: {error.strerror}; choose another folder") from error
    except OSError as error:
        import errno

        kinds: dict[int | None, type[StorageError]] = {errno.ENOSPC: DiskFull, errno.EROFS: ReadOnly}
        kind = kinds.get(error.errno, StorageError)
        raise kind(f"{name} cannot be created: {error.strerror}") from error


def size_of(file: str) -> int:
    """Return the size of a file in bytes, 0 when there is none."""
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
        os.fsync(handle)
    finally:
        os.close(handle)


def identify(connection: sqlite3.Connection, name: str) -> int:
    """Return the schema version of a scanstore, 0 for an empty one; raise NotAScanstore for anything else."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        (count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application or version or count:
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
