"""Copies of a store: made while others write, verified, rotated and restored.

SQLite's own backup copies the pages, from a connection that holds one read transaction for all of its steps: the copy
is the store at one moment, writers go on meanwhile, and none of them makes it start again. The copy grows under a name
of its own beside the destination, is verified, reaches the disk, and only then gets the name that was asked for. A
killed backup leaves that other file, which the next copy into the folder removes.

Putting back writes into the file that is there, in one transaction under an exclusive lock. Replacing the file would
be quicker and wrong: a process that has just opened the old one would write its log beside the new one. Only a file
that SQLite cannot open for its damage is replaced.

Change here: how copies are named, what a copy is verified for.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from scanstore.db import atomic_files, open_files
from scanstore.db.arguments import check_path
from scanstore.db.atomic_files import BESIDE, STAMP
from scanstore.db.blocks import closing, contextmanager
from scanstore.db.connections import connect
from scanstore.db.database import MEMORY, SCHEMA_VERSION, Database
from scanstore.db.file_identity import refuse_foreign_log, renew, renew_file
from scanstore.db.files import (
    ALONE,
    flush,
    free_space,
    identify,
    limited,
    real_path,
    refused,
    refusing,
    seconds_for,
    size_of,
)
from scanstore.db.opening import refuse
from scanstore.db.paths import same_file
from scanstore.db.progress import Meter
from scanstore.db.sqlite_errors import TROUBLE, translated
from scanstore.db.values import format_time, utcnow
from scanstore.errors import (
    Busy,
    Damaged,
    DiskFull,
    InvalidArgument,
    MissingFolder,
    NewerSchema,
    NotAScanstore,
    NotFound,
    StorageError,
)
from scanstore.errors import shown as shown_value

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback

_PAGES = 2000  # of one step


class Backup(NamedTuple):
    """A copy that was made: where, its bytes, the seconds it took to copy and to verify, which older ones it replaced
    in the rotation.
    """

    path: str
    bytes: int
    seconds: float
    verifying: float
    removed: list[str]


class Restored(NamedTuple):
    """A store that was put back: where, its bytes and seconds, and the path of the file as it was before, if any."""

    path: str
    bytes: int
    seconds: float
    kept: str | None


# What a caller asks for


def backup(
    db: Database,
    path: str | os.PathLike[str] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    keep: int | None = None,
    verify: bool = True,
    progress: ProgressCallback | None = None,
) -> Backup:
    """Copy the committed content of the store to `path`, or to a name with the time in it, in `folder` or beside the
    store.

    Works while others read and write; the copy is the store at one moment, readable by its owner only, and stands under
    its name whole or not at all. It replaces an earlier copy of that name, never another file. With `keep`, for names
    with the time in them, only so many of these remain: the oldest are removed, and no other file is. Copies of stores
    of one name want a folder each. `verify` reads the copy again and checks its structure, which takes longer than
    copying. `progress` is called in this thread with the copied pages and all pages; an exception of it cancels the
    backup.

    Raises InvalidArgument, MissingFolder, ReadOnly, DiskFull, and Damaged when the copy is not sound, which then the
    store itself is not; no copy is left then.
    """
    Meter(progress)  # refuses anything but a function
    target, shown = _target(db, path, folder, keep)
    if os.path.lexists(target):
        _refuse_others(target, shown, db)
    needed = size_of(db.file)
    _refuse_without_room(target, needed, shown)
    with atomic_files.beside(target, shown) as partial, refusing(shown):
        db.verify_file()
        start = time.perf_counter()
        with _reading(db.file, db.name, db.key) as source:
            _copy(source, partial, shown, progress, db.key)
        renew_file(partial, shown, db.key)
        atomic_files.sync(partial, shown)
        db.verify_file()
        copied = time.perf_counter()
        if verify:
            with _reading(partial, shown, db.key) as copy:
                _verify(copy, f"the copy of {db.name}", seconds_for(partial), quick=True)
        verified = time.perf_counter()
        atomic_files.publish(partial, target, shown)
        size = size_of(target)  # before another backup may remove it in its rotation
    removed = [] if keep is None else _rotate(db.file, target, keep)
    return Backup(target, size, copied - start, verified - copied, removed)


def backups(file: str, folder: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the paths of the copies that were made of a store under names with the time in them, oldest first.

    There are none in a folder that does not exist. Raises StorageError for one that cannot be read.
    """
    place, name = os.path.split(file)
    place = place if folder is None else os.path.realpath(folder)
    try:
        found = os.listdir(place)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refused(error, place, "read") from error
    return [os.path.join(place, n) for n in sorted(found) if n.startswith(name) and STAMP.fullmatch(n, len(name))]


def verify(path: str | os.PathLike[str], *, key: str | None = None, timeout: float | None = None) -> int:
    """Read a whole file and return its schema version when it is a sound scanstore that this version can use.

    Reading may take `timeout` seconds, by default 30 and one for each megabyte. Raises NotFound, NotAScanstore,
    NewerSchema, ForeignSchema, ReadTimeout, Damaged; changes nothing.
    """
    shown = check_path(path, "path")
    file = real_path(shown)
    seconds = seconds_for(file, timeout)
    with _reading(file, shown, key) as connection:
        return _verify(connection, shown, seconds)


def restore(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    timeout: float = 5,
    progress: ProgressCallback | None = None,
    key: str | None = None,
) -> Restored:
    """Make the store at `path` what the copy `backup` is; the file that was there is kept under
    ``<path>.before-restore-<time>``.

    The copy is verified first, and is not changed. Atomic: a killed process leaves the old store or the new one. An
    older schema is migrated by the next opening. Raises Busy when a connection of this or another process has the store
    open (it asks for SQLite's exclusive lock, for `timeout` seconds), and what `verify` raises; nothing was changed
    then. A `timeout` that is longer than what `verify` allows for reading is for that too. `progress` is called in this
    thread with the copied pages and all pages; an exception of it, unless all are copied, cancels the work, and the old
    store stays.
    """
    Meter(progress)  # refuses anything but a function
    given, shown = check_path(backup, "backup"), check_path(path, "path")
    source, file = real_path(given), real_path(shown)
    if os.path.exists(file) and os.path.exists(source) and os.path.samefile(source, file):
        raise InvalidArgument(f"{shown} is the copy itself; give the path of the store to be restored")
    start = time.perf_counter()
    allowed = max(seconds_for(source), seconds_for(source, timeout))
    with refusing(shown), _reading(source, given, key) as copy:
        _verify(copy, given, allowed)
        _refuse_without_room(file, size_of(source) + 2 * size_of(file), shown)
        kept = None
        if size_of(file):
            kept = f"{file}.before-restore-{_stamp()}"
            try:
                with _alone(file, shown, timeout, key) as connection:
                    with atomic_files.beside(kept, kept) as partial:
                        _copy(connection, partial, kept, None, key)
                        atomic_files.sync(partial, kept)
                        atomic_files.publish(partial, kept, kept)
                    _pour(copy, connection, progress)
                    # The copy asks for a log; left behind by a kill, with the new id in it, it would seem foreign.
                    connection.execute("PRAGMA journal_mode=DELETE").fetchall()
                    renew(connection)
            except (Damaged, NotAScanstore) as error:
                if error.__cause__ is None:  # another program's, and sound
                    raise
                _replace(copy, file, shown, kept, progress, key)
        else:
            _replace(copy, file, shown, None, progress, key)
    return Restored(file, size_of(file), time.perf_counter() - start, kept)


# Copying


def _copy(
    source: sqlite3.Connection, file: str, shown: str, progress: ProgressCallback | None, key: str | None
) -> None:
    target = connect(file, "mode=rw", key=key)
    try:
        # Nobody else sees this file, nothing of it is worth a rollback, and each page is written once.
        target.executescript(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=10"
        )
        _pour(source, target, progress)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise translated(error, shown) from error
        raise
    finally:
        target.close()


def _pour(source: sqlite3.Connection, target: sqlite3.Connection, progress: ProgressCallback | None) -> None:
    def step(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    source.backup(target, pages=_PAGES, progress=step)


@contextmanager
def _reading(file: str, shown: str, key: str | None) -> Iterator[sqlite3.Connection]:
    """A connection of its own that sees the file as it is now, to the end of the block, and changes nothing of it."""
    if not os.path.isfile(file):
        raise NotFound(f"{shown} does not exist; give the path of a scanstore file")
    # A file that is in use has a log; one without is read as it lies there, and nothing comes to stand beside it.
    refuse_foreign_log(file, shown, key, read_only=True)
    options = "mode=ro" if os.path.exists(file + "-wal") else ALONE
    try:
        with closing(connect(file, options, key=key)) as connection:
            connection.execute("BEGIN")
            identify(connection, shown)
            yield connection
    except TROUBLE as error:
        raise translated(error, shown) from error


def _verify(connection: sqlite3.Connection, shown: str, seconds: float, *, quick: bool = False) -> int:
    version = identify(connection, shown)
    if not version:
        raise NotAScanstore(f"{shown} is empty; give the path of a scanstore file")
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"{shown} has schema {version}, and this scanstore knows up to {SCHEMA_VERSION}; install a newer scanstore"
        )
    refuse(connection, version, shown)
    remedy = "save what can be read with: scanstore repair"
    try:
        with limited(connection, shown, seconds):
            verdict = connection.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check(1)").fetchone()[0]
            steps = connection.execute("SELECT count(*) FROM migratehistory").fetchone()[0]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise Damaged(f"{shown} is damaged ({error}); {remedy}") from error
    if verdict != "ok" or steps != version:
        raise Damaged(f"{shown} is damaged ({verdict if verdict != 'ok' else 'its schema is not whole'}); {remedy}")
    return version


# Files


def _target(
    db: Database, path: str | os.PathLike[str] | None, folder: str | os.PathLike[str] | None, keep: int | None
) -> tuple[str, str]:
    """The file to write, and its name for people."""
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
        raise InvalidArgument(f"keep is {shown_value(keep)}; it must be a number of copies, 1 or more")
    if path is not None:
        if folder is not None or keep is not None:
            raise InvalidArgument("folder and keep are for copies with the time in their names; leave path out")
        text = check_path(path, "path")
        if os.path.isdir(text):
            raise InvalidArgument(f"{text} is a folder; give it as folder, or the path of a file in it")
        target = real_path(text)
    else:
        if db.name == MEMORY and folder is None:
            raise InvalidArgument(":memory: goes with this process; give the path of a file to keep")
        place = os.path.dirname(db.file) if folder is None else real_path(check_path(folder, "folder"))
        stem = os.path.join(place, os.path.basename(db.file))
        while os.path.lexists(target := f"{stem}.backup-{_stamp()}"):
            time.sleep(0.001)
        text = target
    if not os.path.isdir(os.path.dirname(target)):
        raise MissingFolder(f"{text} needs the folder {ascii(os.path.dirname(target))}; create it")
    return target, text


def _stamp() -> str:
    return re.sub(r"[-:.]", "", format_time(utcnow()))


def _refuse_others(target: str, shown: str, db: Database) -> None:
    """Raise InvalidArgument unless the existing file is an earlier copy."""
    if os.path.samefile(target, db.file):
        raise InvalidArgument(f"{shown} is the store itself; give another path")
    try:
        with _reading(target, shown, db.key):
            pass
    except (NotAScanstore, Damaged) as error:
        other = ", or it has another key" if db.key is not None else ""
        raise InvalidArgument(f"{shown} is there and is not a copy of a store{other}; give another path") from error
    if any(size_of(target + end) for end in BESIDE):
        raise InvalidArgument(f"{shown} is a store that is open, or was not closed; give another path")


def _refuse_without_room(target: str, needed: int, shown: str) -> None:
    free = free_space(target, shown)
    if free < needed:
        raise DiskFull(f"{shown} needs about {needed:,} bytes and {free:,} are free there; free some space")


def _rotate(file: str, newest: str, keep: int) -> list[str]:
    """Remove the oldest copies; another backup may be doing the same, and its copy is newer and not touched."""
    found = backups(file, os.path.dirname(newest))
    now = newest[: -len(_stamp())] + _stamp()
    # A name from the future is of a time when the clock was wrong.
    others = [path for path in found if path < newest or path > now]
    removed = []
    for path in others[: max(len(found) - keep, 0)]:
        try:
            open_files.unlink(path)
        except FileNotFoundError:  # by the other one
            continue
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(
                f"{newest} was made, but {path} cannot be removed: {reason}; remove it yourself"
            ) from error
        removed.append(path)
    return removed


# Putting back


@contextmanager
def _alone(file: str, shown: str, timeout: float, key: str | None) -> Iterator[sqlite3.Connection]:
    """The only connection to a store, for the time of the block; its log is folded into the file first."""
    refuse_foreign_log(file, shown, key, read_only=False)
    try:
        with closing(connect(file, "mode=rw", key=key, timeout=timeout)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            identify(connection, shown)
            # Leaving the log takes a lock that nobody gets while another connection is open, however idle it is.
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            yield connection
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            _refuse_in_use(shown)
        raise translated(error, shown) from error


def _refuse_in_use(shown: str) -> NoReturn:
    raise Busy(f"{shown} is open in this or another process; close it there, and try again")


def _replace(
    copy: sqlite3.Connection,
    file: str,
    shown: str,
    kept: str | None,
    progress: ProgressCallback | None,
    key: str | None,
) -> None:
    """Put a new file in the place of one that cannot be opened, or of none."""
    with atomic_files.beside(file, shown) as partial:
        _copy(copy, partial, shown, progress, key)
        renew_file(partial, shown, key)
        atomic_files.sync(partial, shown)
        if kept is not None:
            _refuse_locked(file, shown)
            _set_aside(file, kept)
        for end in BESIDE:
            if os.path.exists(file + end):
                open_files.unlink(file + end)
        atomic_files.publish(partial, file, shown)


def _set_aside(file: str, kept: str) -> None:
    """Keep a damaged file with its log, so that `repair` can read both."""
    import shutil

    for end in ("", "-wal"):
        if not os.path.exists(file + end) or os.path.exists(kept + end):
            continue
        try:
            os.link(file + end, kept + end)
        except (OSError, AttributeError):  # there are systems without links
            shutil.copy2(file + end, kept + end)
            with open(kept + end, "r+b") as copy:  # the damaged file is replaced next
                flush(copy.fileno())


def _refuse_locked(file: str, shown: str) -> None:
    """Raise Busy when some other process has the file open, by the lock that SQLite keeps on it meanwhile."""
    from scanstore.db.forks import databases  # only on Windows

    if any(isinstance(db, Database) and same_file(db.file, file) and not db.shut_down for db in list(databases)):
        _refuse_in_use(shown)
    if not open_files.is_free(file):
        _refuse_in_use(shown)
    try:
        import fcntl
    except ImportError:  # there SQLite's lock is not needed to know it
        return
    with open(file, "r+b") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
        except OSError:
            _refuse_in_use(shown)
