"""The identity of an open file: detects that the file at the path of a store was replaced.

SQLite finds a write-ahead log by its name and a database by its descriptor. When the file of an open store is replaced,
moved or overwritten, later writes go to the old file, and the old log is applied to the new one. Two values detect
this: the device and inode of the path, and a random id in the table `file_identity` of every file (every backup gets a
new id). The inode is compared around each transaction. The id is read from the file itself, without the log, whenever
the file has changed since the last check, which is once per checkpoint. Before a file with a log is opened, its id is
compared with the id in that log. For this, the first transaction of each new log writes the page with the id
(`Watch.touch_needed`). A log belongs to the file whose id it holds.

If the ids differ, all writes are refused, the log is renamed to ``NAME-wal.orphaned``, and the connections are closed
without SQLite's final checkpoint.

A plain copy of an older state of the same store has the same id, so it cannot be detected.

Change here: how a file is identified, and how a log without its file is handled.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from scanstore.db import open_files
from scanstore.db.connections import connect
from scanstore.db.cursors import Connection
from scanstore.db.files import ALONE, limited, refusing, size_of
from scanstore.db.sqlite_errors import TROUBLE, translated
from scanstore.errors import Damaged, FileReplaced, ReadTimeout, StorageError

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import NoReturn

Place = tuple[int, int]  # device and inode

READ = "SELECT file FROM file_identity"
TOUCH = "UPDATE file_identity SET logs = logs + 1"
RENEW = "UPDATE file_identity SET file = 'scanstore:file:' || lower(hex(randomblob(16)))"
_stat = os.stat
UNSETTLED = 2.0  # seconds after a write during which a checkpoint may be running
_ID = "scanstore:file:"  # and 32 hexadecimal digits
_NO_STORE = _UNREADABLE = ""  # an id that is never used


class Watch:
    """Watches the file of one open store. All threads of the store share it."""

    def __init__(self, file: str, name: str, key: str | None, *, read_only: bool) -> None:
        self.file, self.name, self.read_only = file, name, read_only
        self._key = key
        self._lock = threading.RLock()
        self._reader: sqlite3.Connection | None = None
        self._lost: str | None = None
        self._log: Place | None = None
        self._index: Place | None = None
        self._seen_on_file = False
        self.id: str | None = None  #: None if the file has no readable id
        with refusing(name, "read"):  # the file may be missing by now
            now = os.stat(file)
        self._device, self._inode = self.place = (now.st_dev, now.st_ino)
        self._size, self._mtime = now.st_size, now.st_mtime_ns
        # : the value of `seen` when a transaction with the page of the id was committed
        self.touched: tuple[int, int] | None = None

    @property
    def seen(self) -> tuple[int, int]:
        """Size and time of the file when its id was last compared."""
        return self._size, self._mtime

    @property
    def lost(self) -> bool:
        """Whether the file is known to be replaced."""
        return self._lost is not None

    def identify(self, connection: sqlite3.Connection) -> None:
        """Watch the id that a connection of the store reads."""
        try:
            row = connection.execute(READ).fetchone()
        except sqlite3.Error:  # an older schema, or damage that later statements will report
            row = None
        self.id = _id_in(row)
        self._seen_on_file = False

    def note_log(self) -> None:
        """Record which log belongs to the open connections."""
        self._log, self._index = _place(self.file + "-wal"), _place(self.file + "-shm")

    @property
    def touch_needed(self) -> bool:
        """Whether the log may be new and lack the id: the file has changed since the id was written."""
        return self.touched != (self._size, self._mtime) and self.id is not None

    def look(self) -> None:
        """Raise FileReplaced unless the opened file is still at its path, with its content."""
        try:
            now = _stat(self.file)
            if now.st_mtime_ns == self._mtime and now.st_ino == self._inode and now.st_size == self._size:
                if now.st_dev == self._device and self._lost is None:
                    return
        except (FileNotFoundError, NotADirectoryError):
            self._lose(None)
        except OSError as error:
            raise StorageError(f"{self.name} cannot be looked at: {error.strerror}; check its folder") from error
        if self._lost is not None:
            raise FileReplaced(self._lost)
        if (now.st_dev, now.st_ino) != self.place:
            self._lose(now)
        if self.id is not None:
            self._compare(now)

    def _compare(self, now: os.stat_result) -> None:
        """Compare the id in the file with that of the store, because the file has changed since the last comparison."""
        deadline = time.monotonic() + UNSETTLED
        while True:
            found = self._read(now)
            if found == self.id:
                self._seen_on_file = True
                self._size, self._mtime = now.st_size, now.st_mtime_ns
                return
            if found:
                break
            # Unreadable: another program may be writing the file now, as a checkpoint or a copy.
            if time.monotonic() > deadline or abs(time.time() - now.st_mtime) > UNSETTLED:
                if found is None:
                    return  # for example after a killed checkpoint; the log has the missing pages
                break
            time.sleep(0.01)
            try:
                now = os.stat(self.file)
            except OSError:
                self._lose(None)
        self._lose(now, found)

    def _read(self, now: os.stat_result) -> str | None:
        """Return the id in the file, without its log, or None if it cannot be read."""
        if not now.st_size:
            return _NO_STORE
        with self._lock:
            try:
                if self._reader is None:
                    self._reader = _reader(self.file, self._key)
                row = _ask(self._reader, self.name)
            except (ReadTimeout, sqlite3.Error, UnicodeDecodeError) as error:
                self.release()
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                no_table = code == sqlite3.SQLITE_ERROR and self._seen_on_file
                foreign = isinstance(error, ReadTimeout) or code == sqlite3.SQLITE_NOTADB or no_table
                return _NO_STORE if foreign else None
        return _id_in(row)

    def release(self) -> None:
        """Close the connection that reads the id. The next comparison reopens it."""
        with self._lock:
            reader, self._reader = self._reader, None
            if reader is not None:
                with suppress(sqlite3.Error):
                    reader.close()

    def after_fork(self) -> None:
        """Drop, in a child, everything that belongs to the parent. Its connection was closed before the fork if
        possible.
        """
        self._lock = threading.RLock()
        self._reader = None

    def _lose(self, now: os.stat_result | None, found: str | None = None) -> NoReturn:
        with self._lock:
            if self._lost is None:
                state = self._state(now, found)
                log = None
                if not self.read_only and self._log is not None and _place(self.file + "-wal") == self._log:
                    log = set_aside(self.file, self._index)
                self._lost = (
                    f"{self.name} {state}; nothing more is written"
                    + (f", and the log of the open file is kept as {ascii(log)}" if log else "")
                    + "; open the store again to use the file that is there now"
                )
        self.release()
        raise FileReplaced(self._lost)

    def _state(self, now: os.stat_result | None, found: str | None) -> str:
        """Describe both files, the open one and the one at the path."""
        device, inode = self.place
        ours = f"the open file is inode {inode} on device {device}" + (f", id {_short(self.id)}" if self.id else "")
        if now is None:
            return f"was moved or removed while it was open ({ours}; there is no file at the path)"
        there = f"inode {now.st_ino} on device {now.st_dev}, {now.st_size:,} bytes"
        if (now.st_dev, now.st_ino) != self.place:
            return f"was replaced while it was open ({ours}; the file at the path is {there})"
        what = f"id {_short(found)}" if found else "not a scanstore"
        return f"was overwritten while it was open ({ours}; the file at the path is {there}, {what})"


def close(connection: sqlite3.Connection, watch: Watch | None) -> None:
    """Close a connection. If its file was replaced, do not apply the log to the new file."""
    if watch is not None and not watch.lost:
        with suppress(StorageError):
            watch.look()
    if watch is not None and watch.lost:
        # SQLite checks this flag during the checkpoint of the last close, and skips the checkpoint.
        setconfig = getattr(connection, "setconfig", None)
        with suppress(sqlite3.Error):
            if setconfig is not None:  # Python 3.12
                setconfig(getattr(sqlite3, "SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE"), True)  # noqa: B009
            connection.interrupt()
    connection.close()


def refuse_missing(file: str, name: str) -> None:
    """Raise Damaged if a file is empty or missing but its log is not: the log contains the remaining rows of
    the store.
    """
    if not size_of(file) and (waiting := size_of(file + "-wal")):
        state = "is empty" if os.path.exists(file) else "is missing"
        raise Damaged(
            f"{name} {state} and its log {ascii(file + '-wal')} has {waiting:,} bytes; restore a backup, or save what"
            f" the log holds with: scanstore repair {ascii(file)} NEW. To begin a new store, move the log away"
        )


def refuse_foreign_log(file: str, name: str, key: str | None, *, read_only: bool) -> None:
    """Raise FileReplaced if the log beside a file belongs to another file, and set the log aside.

    Otherwise SQLite would apply the log to the file. A log without an id, such as one of another program, counts as the
    file's own.
    """
    if not size_of(file) or not size_of(file + "-wal"):
        return
    try:
        reader = _reader(file, key)
        try:
            row = _ask(reader, name)
        finally:
            reader.close()
    except (ReadTimeout, sqlite3.Error, UnicodeDecodeError):  # an older schema, or unreadable without its log
        return
    if row is None or not isinstance(row[0], str):
        return
    foreign = _foreign_id(file + "-wal", row[0]) if key is None else _foreign_id_in(file, key, row[0])
    if foreign is None:
        return
    log = set_aside(file, _place(file + "-shm")) if foreign and not read_only else None
    remedy = f"the log is now {ascii(log)}, open the store again" if log else f"move {ascii(file + '-wal')} away"
    raise FileReplaced(
        f"{name} (id {_short(row[0])}) lies beside the log of another file (id {_short(foreign) or 'unreadable'}): it"
        f" was replaced or overwritten while that log had changes of the old file. Nothing was changed in it; {remedy}"
    )


def set_aside(file: str, index: Place | None) -> str | None:
    """Rename the log of a file so that SQLite does not find it; return its new path."""
    target, number = f"{file}-wal.orphaned", 1
    while os.path.lexists(target):
        number += 1
        target = f"{file}-wal.orphaned-{number}"
    try:
        open_files.rename(file + "-wal", target)
        if index is not None and _place(file + "-shm") == index:
            open_files.unlink(file + "-shm")
    except OSError:
        return target if os.path.lexists(target) else None
    return target


def renew(connection: sqlite3.Connection) -> None:
    """Give the file of a connection a new id, if its schema has ids."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'file_identity'").fetchone():
        connection.execute(RENEW)


def renew_file(file: str, name: str, key: str | None = None) -> None:
    """Give a file that is not open elsewhere a new id. The caller syncs the file.

    Raises errors about `name`.
    """
    connection = connect(file, "mode=rw", key=key)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("PRAGMA synchronous=OFF")
        renew(connection)
    except TROUBLE as error:
        raise translated(error, name) from error
    finally:
        connection.close()


# Reading


def _reader(file: str, key: str | None) -> sqlite3.Connection:
    """Return a connection that reads the file without its log, and caches no page between queries.

    SQLite opens and closes the descriptor, so this process loses no lock.
    """
    reader = connect(file, ALONE, key=key, check_same_thread=False)
    try:
        reader.execute("PRAGMA cache_size=0").fetchall()
    except BaseException:
        reader.close()
        raise
    return reader


def _ask(connection: sqlite3.Connection, name: str) -> tuple[object, ...] | None:
    """Read the id, with a time limit of a few seconds, because the file may be untrusted."""
    with limited(connection, name, UNSETTLED):
        row: tuple[object, ...] | None = connection.execute(READ).fetchone()
        return row


def _id_in(row: tuple[object, ...] | None) -> str | None:
    """Return the id in a row, or None if it is missing or invalid."""
    found = row[0] if row is not None else None
    if isinstance(found, str) and found.startswith(_ID) and len(found) == len(_ID) + 32:
        return found if not found[len(_ID) :].strip("0123456789abcdef") else None
    return None


def _foreign_id(log: str, own: str) -> str | None:
    """Return the id of another file in a log that does not contain the given id. Return None if the log may be the
    file's own.
    """
    wanted, other = own.encode(), None
    try:
        with open(log, "rb") as handle:
            head = handle.read(32)
            size = int.from_bytes(head[8:12]) if len(head) == 32 else 0
            if size < 512:
                return None
            while len(frame := handle.read(24 + size)) == 24 + size and frame[8:16] == head[16:24]:
                for found in re.findall(_ID.encode() + b"[0-9a-f]{32}", frame[24:]):
                    if found == wanted:
                        return None
                    other = found
    except OSError:
        return None
    return None if other is None else other.decode()


def _foreign_id_in(file: str, key: str, own: str) -> str | None:
    """Return the foreign id in the log of an encrypted store, or an empty id if the pages in the log cannot be read
    with the file's key.
    """
    try:
        connection = connect(file, "mode=ro", key=key)
        try:
            row = _ask(connection, file)
        finally:
            connection.close()
    except (ReadTimeout, sqlite3.Error, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return _UNREADABLE if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) else None
    return None if row is None or row[0] == own else str(row[0])


def _place(path: str) -> Place | None:
    try:
        now = os.stat(path)
    except OSError:
        return None
    return now.st_dev, now.st_ino


def _short(file_id: str | None) -> str:
    return (file_id or "").removeprefix("scanstore:file:")[:8]


class Holder:
    """Closes a thread's connection when the thread ends: it lives in that thread's storage only."""

    __slots__ = ("connection", "connections", "pid", "watch")

    def __init__(self, connection: Connection, connections: dict[int, Connection], watch: Watch | None) -> None:
        self.connection, self.connections, self.watch, self.pid = connection, connections, watch, os.getpid()

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if self.pid == getpid() and self.connections.pop(id(self.connection), None) is not None:
            close(self.connection, self.watch)
