"""The checks before a file is opened as a store: the SQLite library, the path, the application id, the schema.

Until the file is recognised as a store, it is read without locks and in read-only mode, so that another program's
database does not even get a `-wal` file.

Change here: which files are not opened, and why.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time

from scanstore.db import file_identity
from scanstore.db.connections import connect
from scanstore.db.files import ALONE, APPLICATION_ID, GIVE_ANOTHER, identify, limited, size_of
from scanstore.db.fingerprints import WHOLE
from scanstore.db.schema_digest import digested, schema_text
from scanstore.db.sqlite_errors import TROUBLE, translated
from scanstore.errors import (
    ForeignSchema,
    MissingFolder,
    NewerSchema,
    NotAScanstore,
    OutdatedSchema,
    ReadOnly,
    SqliteTooOld,
    StorageError,
)

SQLITE_FLOOR = (3, 38, 0)


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise SqliteTooOld unless this version of the SQLite library is supported."""
    if version < SQLITE_FLOOR:
        have, need = (".".join(map(str, numbers)) for numbers in (version, SQLITE_FLOOR))
        raise SqliteTooOld(f"this Python has SQLite {have} and scanstore needs {need}; use a newer Python")


def exists(file: str, name: str, *, read_only: bool) -> bool:
    """Return whether the file exists. Raise an error if it is not a file or cannot be opened."""
    file_identity.refuse_missing(file, name)
    try:
        mode = os.stat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):
        folder = os.path.dirname(file)
        if not os.path.isdir(folder):
            raise MissingFolder(f"{name} needs the folder {ascii(folder)}; create it") from None
        return False
    except OSError as error:
        raise StorageError(f"{name} cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise NotAScanstore(f"{name} is a folder; give the path of a file, such as one in it")
    if not stat.S_ISREG(mode):
        raise NotAScanstore(f"{name} is not a regular file; {GIVE_ANOTHER}")
    if not os.access(file, os.R_OK):
        raise StorageError(f"{name} may not be read by you; check its permissions")
    if not read_only and not os.access(file, os.W_OK):
        raise ReadOnly(f"{name} may not be written by you; open it with read_only=True")
    if not read_only and not os.access(os.path.dirname(file), os.W_OK):
        raise ReadOnly(f"the folder of {name} may not be written by you; use read_only=True")
    if not read_only:
        _refuse_closed_log(file, name, mode)
    return True


def _refuse_closed_log(file: str, name: str, mode: int) -> None:
    """Make a log writable that was created while the file was read-only."""
    for beside in (file + "-wal", file + "-shm"):
        if os.path.exists(beside) and not os.access(beside, os.W_OK):
            try:
                os.chmod(beside, stat.S_IMODE(mode))
            except FileNotFoundError:  # the last connection of another process has just closed
                continue
            except OSError:
                raise ReadOnly(
                    f"{ascii(os.path.basename(beside))} of {name} may not be written by you; "
                    "check its permissions, or use read_only=True"
                ) from None


def refuse_foreign(file: str, name: str, key: str | None) -> None:
    """Raise NotAScanstore for another program's file, without locking it or creating a file beside it."""
    if size_of(file) == 1:  # SQLite would treat it as an empty file
        raise NotAScanstore(f"{name} is not a SQLite database; {GIVE_ANOTHER}")
    for again in (True, False):
        connection = connect(file, ALONE, key=key)
        try:
            # A checkpoint writes the first page, with the new size, before the pages at the end. During a checkpoint,
            # or after a killed one, SQLite reports the file as damaged unless it is told to use the actual size.
            connection.execute("PRAGMA writable_schema=ON")
            identify(connection, name, take_over=True)
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID and size_of(file + "-wal"):
                # A store gets its application id before it has a log, so the main file is sufficient.
                _refuse_log(file, name, key)
            return
        except (NotAScanstore, sqlite3.Error):
            # Without locks, a schema that is being committed may be visible in part.
            if os.path.exists(file + "-journal"):
                return
            if not again:
                raise
            time.sleep(0.02)
        finally:
            connection.close()


def _refuse_log(file: str, name: str, key: str | None) -> None:
    """Raise NotAScanstore for a file with a log, unless it is in use and peewee_migrate has created it."""
    if size_of(file + "-shm"):
        connection = connect(file, "mode=ro", key=key)
        try:
            (there,) = connection.execute("SELECT EXISTS (SELECT 1 FROM main.sqlite_master)").fetchone()
            if there and identify(connection, name, take_over=True) == 0:
                return
        finally:
            connection.close()
    raise NotAScanstore(f"{name} is another program's database; {GIVE_ANOTHER}")


def refuse_version(version: int, known: int, name: str, *, migrate: bool) -> bool:
    """Return whether a file of this schema version needs migrations. Raise an error if it cannot be opened or
    migrated.
    """
    if version > known:
        raise NewerSchema(
            f"{name} has schema {version}, and this scanstore knows up to {known}; install a newer scanstore"
        )
    if version < known and not migrate:
        raise OutdatedSchema(
            f"{name} has schema {version} and this scanstore needs {known}; "
            "open it once without read_only and migrate=False, or run 'scanstore migrate up'"
        )
    return version < known


def memory_folder(name: str) -> str:
    """Create the folder of a store in memory, in shared memory if possible."""
    import tempfile

    from scanstore.db.atomic_files import own_folder  # start-up: only for a store in memory

    shared = "/dev/shm"
    usable = os.path.isdir(shared) and os.access(shared, os.W_OK | os.X_OK)
    return own_folder(shared if usable else tempfile.gettempdir(), name)


# Checks of the schema. Most files have exactly the schema of the migrations, and are recognised by its digest.

_fine: set[tuple[int, str]] = set()  #: versions and digests of checked schemas
_latest: tuple[int, str] | None = None  #: version and text of the last recognised schema


def refuse(
    connection: sqlite3.Connection, version: int, shown: str, *, schema: str = "main", seconds: float | None = None
) -> int:
    """Raise ForeignSchema unless the schema of a file is that of its version, without foreign parts that could run.

    Returns the version. It is another one if peewee_migrate migrated or rolled back the file.
    """
    global _latest
    try:
        with limited(connection, shown, seconds):
            text = schema_text(connection, schema)
            if (version, text) == _latest:
                return version
            fingerprint = digested(text)
            if fingerprint != WHOLE.get(version) and version in WHOLE and schema == "main":
                version = _changed(connection, version)
            known = fingerprint == WHOLE.get(version) or (version, fingerprint) in _fine
            found = [] if known else _foreign(connection, version, schema)
    except sqlite3.DataError as error:
        raise ForeignSchema(shown, ["its statements are longer than a gigabyte"]) from error
    except TROUBLE as error:
        raise translated(error, shown) from error
    if found:
        raise ForeignSchema(shown, [str(part) for part in found])
    _fine.add((version, fingerprint))
    if fingerprint == WHOLE.get(version):
        _latest = version, text
    return version


def _changed(connection: sqlite3.Connection, version: int) -> int:
    from scanstore.db.routed import changed  # start-up: most schemas are recognised

    found = changed(connection, version)
    return version if found is None else found


def _foreign(connection: sqlite3.Connection, version: int, schema: str) -> list[object]:
    from scanstore.db.foreign_schema import foreign  # start-up: most schemas are recognised

    return list(foreign(connection, version, schema))
