"""Rekeying: write the content of a store with another key, and replace the file."""

from __future__ import annotations

import os
import sqlite3

from scanstore.db import atomic_files, open_files
from scanstore.db.blocks import Scope
from scanstore.db.encryption import check_key, connect, connect_plain, quoted_key, wrong_key
from scanstore.db.file_identity import refuse_foreign_log
from scanstore.db.files import free_space, identify, refusing, size_of, uri
from scanstore.db.opening import refuse
from scanstore.db.sqlite_errors import translated
from scanstore.errors import Busy, Damaged, DiskFull, ScanstoreError, StorageError


def rekey(file: str, name: str, old: str | None, new: str | None, *, timeout: float = 5.0) -> None:
    """Encrypt a store with another key; ``None`` means no key, so that a plain store is encrypted, or an encrypted one
    becomes plain.

    Takes free space for another copy: the content is written into a new file, which then replaces the old one. Atomic:
    a killed process leaves a store with the old key or with the new one. Raises Busy when the store is open anywhere,
    WrongKey, DiskFull, and Damaged, when nothing was changed.
    """
    if new is not None:
        check_key(new)
    refuse_foreign_log(file, name, old, read_only=False)
    _refuse_without_room(file, name)
    try:
        _rekey(file, name, old, new, timeout)
    except sqlite3.Error as error:
        trouble = translated(error, name)
        if not isinstance(trouble, ScanstoreError):  # sqlcipher_export() passes on the words without the code
            trouble = StorageError(f"the key of {name} was not changed ({error}); check the disk and try again")
        raise trouble from error


def _rekey(file: str, name: str, old: str | None, new: str | None, timeout: float) -> None:
    # Without a key SQLCipher reads plain files.
    connection = (
        connect(file, "mode=rw", old, timeout=timeout, isolation_level=None) if old else connect_plain(file, timeout)
    )
    with Scope(lambda: None, connection.close):
        version = _alone(connection, file, name)
        atomic_files.sweep(os.path.dirname(file))
        if connection.execute("PRAGMA cipher_integrity_check").fetchall():
            raise Damaged(
                f"{name} is damaged; restore a backup, or save the readable part with: scanstore repair FILE NEW"
            )
        # "PRAGMA rekey" would change the key in place, but it does not report a commit that the disk refused.
        with atomic_files.beside(file, name) as partial:
            _export(connection, partial, version, new)
            atomic_files.sync(partial, name)
            if not open_files.WINDOWS:
                atomic_files.publish(partial, file, name)  # while nobody else can read or write the one that was there
            else:
                _publish_closed(connection, partial, file, name)


def _publish_closed(connection: sqlite3.Connection, partial: str, file: str, name: str) -> None:
    """Replace the file where the system replaces no file that is open: the lock goes first.

    The content is compared again before each attempt, so that nothing is lost of what another process has written
    since. Raises Busy then, and when another process keeps the file open.
    """
    with refusing(name, "read"):
        before = open_files.patiently(lambda: _head(file))
    connection.close()

    def check() -> None:
        if os.path.exists(file + "-wal") or _head(file) != before:
            raise Busy(f"{name} was opened by another process meanwhile; close it there, and try again")

    atomic_files.publish(partial, file, name, check)


def _head(file: str) -> tuple[int, bytes]:
    """The size of a file and the beginning of its first page, which every transaction changes."""
    with open(file, "rb") as handle:
        return size_of(file), handle.read(100)


def _export(connection: sqlite3.Connection, partial: str, version: int, key: str | None) -> None:
    """Copy all content into another file, with that key."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    connection.execute(f"ATTACH ? AS fresh KEY {quoted_key(key or '')}", (uri(partial, "mode=rw"),))
    # Nobody else sees this file, and nothing of it is worth a rollback.
    connection.execute("PRAGMA fresh.journal_mode=OFF").fetchall()
    connection.execute("PRAGMA fresh.synchronous=OFF").fetchall()
    connection.execute("SELECT sqlcipher_export('fresh')").fetchall()
    connection.execute(f"PRAGMA fresh.application_id={application}")
    connection.execute(f"PRAGMA fresh.user_version={version}")
    verdict = connection.execute("PRAGMA fresh.quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"the new file is not sound: {verdict}")
    connection.execute("DETACH fresh")


def _alone(connection: sqlite3.Connection, file: str, name: str) -> int:
    """Fold the log into the file and keep everybody else out of it, until the connection is closed; return the version
    of its schema, with which nothing is wrong.
    """
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        version = identify(connection, name)
        refuse(connection, version, name)
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        return version
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
            raise wrong_key(file, name) from error
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise Busy(f"{name} is open in this or another process; close it there, and try again") from error
        raise


def _refuse_without_room(file: str, name: str) -> None:
    needed, free = 2 * size_of(file), free_space(file, name)
    if free < needed:
        raise DiskFull(f"{name} needs about {needed:,} bytes for that, and {free:,} are free; free some space")
