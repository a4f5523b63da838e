"""Migrations, with peewee_migrate, which only this module imports. It is loaded only if a migration is pending.

A run is one transaction on a separate connection. The write lock is taken before pending migrations are looked up, so
that exactly one of many processes that open a new file migrates it. Foreign keys are off, because a table is changed by
rebuilding it, and dropping the old table would otherwise delete all rows that cascade from it. SQLite ignores this
pragma inside a transaction, so it is set before. All foreign keys are checked before the commit. Version and
application id are set by the same transaction: a crash at any moment leaves the old schema or the new one, whole.

peewee_migrate's router keeps its history model global, and replays old migrations under a patch of Peewee that every
thread of the process would see. `Router` below has its own history model and replays on a database that discards
statements, so nothing leaves this connection.

A migration must not commit, and cannot drop a table or column that a view still uses. A rebuilt table loses its
triggers, so recreate them. A released migration is never edited. The newest one's number is `database.SCHEMA_VERSION`.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import peewee
from peewee_migrate import Migrator
from peewee_migrate.models import MigrateHistory
from peewee_migrate.router import Router as _Router

from scanstore.db import atomic_files, open_files, routed
from scanstore.db.arguments import check_path
from scanstore.db.blocks import Scope, contextmanager
from scanstore.db.connections import connect
from scanstore.db.file_identity import refuse_foreign_log, refuse_missing, renew
from scanstore.db.files import APPLICATION_ID, MEMORY, create_file, identify, limited, real_path, refusing, use_log
from scanstore.db.foreign_schema import HISTORY
from scanstore.db.opening import refuse
from scanstore.db.routed import default_folder as default_folder
from scanstore.db.sqlite_errors import translated
from scanstore.db.values import format_time, utcnow
from scanstore.errors import InvalidArgument, MigrationFailed, NotAScanstore, NotFound, ScanstoreError, StorageError

logger = logging.getLogger("scanstore.migrate")
logger.addHandler(logging.NullHandler())


class Step(NamedTuple):
    """A migration, and the time at which it was applied (text in UTC with its zone), or None."""

    name: str
    applied: bool
    applied_at: str | None


class MigrationNames(list[str]):
    """The names of the migrations that were run, in order, and the path of the backup that was made before."""

    backup: str | None = None


# Public functions


def up(
    path: str | os.PathLike[str],
    *,
    to: str | int | None = None,
    folder: str | os.PathLike[str] | None = None,
    backup: bool = True,
    timeout: float = 30,
    name: str | None = None,
    key: str | None = None,
) -> MigrationNames:
    """Apply every pending migration, up to and including `to` (a full name or its number), and return their
    names.

    Atomic. Creates the file if it is missing. A store with rows is first copied to `<path>.backup-<version>-<time>`,
    unless `backup` is false. Raises MigrationFailed, NotFound for an unknown `to`, NotAScanstore for another program's
    file. Nothing is changed then.
    """
    with _run(path, folder, timeout, name, key, create=True) as run:
        pending = run.router.diff
        if to is not None:
            last = run.find(to)
            pending = [step for step in pending if step <= last]
        return run.go(pending, backup, downgrade=False)


def down(
    path: str | os.PathLike[str],
    *,
    to: str | int | None = None,
    steps: int = 1,
    folder: str | os.PathLike[str] | None = None,
    backup: bool = True,
    timeout: float = 30,
    name: str | None = None,
    key: str | None = None,
) -> MigrationNames:
    """Roll back the last `steps` migrations, or every one after `to` (0 for all), and return their names.

    Atomic. Rows of dropped tables are lost, so a store with rows is first copied, as in `up`. Raises the same errors as
    `up`.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InvalidArgument(f"steps is {steps!r:.80}; it must be 0 or more")
    with _run(path, folder, timeout, name, key) as run:
        done = run.router.done[::-1]
        if to is None:
            done = done[:steps]
        else:
            last = "" if str(to).isdecimal() and int(to) == 0 else run.find(to)
            done = [step for step in done if step > last]
        return run.go(done, backup, downgrade=True)


def status(
    path: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    name: str | None = None,
    key: str | None = None,
) -> list[Step]:
    """Return every known migration in order. Does not change or create the file."""
    file = real_path(check_path(path, "path"))
    applied: dict[str, str] = {}
    if os.path.exists(file):
        shown = name or os.fspath(path)
        try:
            connection = connect(file, "mode=ro", key=key)
        except sqlite3.Error as error:
            raise NotAScanstore(f"{shown} cannot be opened; give the path of a scanstore file") from error
        try:
            version = identify(connection, shown, take_over=True)
            if version or not _routed(connection, shown):
                refuse(connection, _vouched(version, folder), shown)
            with limited(connection, shown):
                if connection.execute("SELECT 1 FROM main.sqlite_master WHERE name = ?", (HISTORY,)).fetchone():
                    applied = dict(connection.execute(f"SELECT name, migrated_at FROM {HISTORY} ORDER BY id"))
        except sqlite3.Error as error:
            raise translated(error, shown) from error
        finally:
            connection.close()
    names = sorted({*_names(default_folder() if folder is None else Path(folder)), *applied})
    return [Step(step, step in applied, applied.get(step)) for step in names]


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise MigrationFailed(f"{folder} is not a folder; migrations are files in a folder")
    with refusing(str(folder), "read"):
        return sorted(file.stem for file in folder.iterdir() if routed.FILE.fullmatch(file.name))


def _vouched(version: int, folder: str | os.PathLike[str] | None) -> int:
    """Return the version whose schema a file must have, or an unknown version for other migrations than scanstore's."""
    ours = folder is None or os.path.realpath(folder) == os.path.realpath(default_folder())
    return version if ours else -1


def _routed(connection: sqlite3.Connection, shown: str) -> bool:
    """Return whether peewee_migrate created this file, which has no application id yet."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    with limited(connection, shown):
        return application != APPLICATION_ID and routed.created(connection) is not None


def _take_over(connection: sqlite3.Connection, shown: str) -> int:
    """Make a file of peewee_migrate a store, and return its version."""
    with limited(connection, shown):
        version = routed.created(connection) or 0
        routed.take_over(connection)
    _mark(connection, version)
    return version


def _mark(connection: sqlite3.Connection, version: int) -> None:
    """Set the application id and the schema version of a file."""
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={version}")


# One run


class _Connection(peewee.SqliteDatabase):
    """The plain connection of one run; while `replaying`, statements vanish and queries find nothing."""

    replaying = False
    _state: Any
    _timeout: float

    def __init__(self, file: str, timeout: float, key: str | None = None) -> None:
        super().__init__(file, timeout=timeout)
        self.key = key
        self._nothing = sqlite3.connect(MEMORY)

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self.database, "mode=rw", key=self.key, timeout=self._timeout)
        try:
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute("PRAGMA synchronous=FULL")
            self._add_conn_hooks(connection)  # type: ignore[attr-defined]
        except BaseException:
            connection.close()
            raise
        return connection

    def link(self) -> sqlite3.Connection:
        """Return SQLite's connection, and open it if necessary."""
        return cast(sqlite3.Connection, self.connection())  # type: ignore[no-untyped-call]

    def shut(self) -> None:
        """Close the connection. An open transaction is rolled back. Idempotent."""
        link = self._state.conn
        self._state.reset()
        if link is not None:
            link.close()
        self._nothing.close()

    def execute_sql(self, sql: str, params: object = None) -> sqlite3.Cursor:
        if self.replaying:
            return self._nothing.execute("SELECT NULL WHERE 0")
        cursor: sqlite3.Cursor = self._execute_cursor(sql, params)  # type: ignore[attr-defined]
        return cursor


class Router(_Router):
    """peewee_migrate's router for one file, without state that other files or threads share.

    It runs inside the transaction of its caller.
    """

    database: _Connection

    def __init__(self, database: _Connection, folder: Path) -> None:
        super().__init__(database, folder, migrate_table=HISTORY, logger=logger)

    @cached_property
    def model(self) -> type[MigrateHistory]:
        class History(MigrateHistory):
            migrated_at = peewee.TextField()  # type: ignore[assignment]

            class Meta:
                database = self.database
                table_name = self.migrate_table

        History.create_table(safe=True)
        return History

    @property
    def todo(self) -> list[str]:
        return _names(self.migrate_dir)

    def read(self, name: str) -> tuple[Callable[..., object], Callable[..., object] | None]:
        """Return the two functions of a migration, from the file with this name."""
        path = self.migrate_dir / f"{name}.py"
        if not path.is_file():
            raise MigrationFailed(f"migration {name} was applied and is missing in {self.migrate_dir}")
        scope: dict[str, Any] = {"__name__": name, "__file__": str(path)}
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), scope)
        if "migrate" not in scope:
            raise MigrationFailed(f"{path} has no function migrate(); see its neighbours")
        return scope["migrate"], scope.get("rollback")

    def run_one(
        self,
        name: str,
        migrator: Migrator,
        *,
        fake: bool = True,
        downgrade: bool = False,
        force: bool = False,
    ) -> str:
        """Run one migration, or replay it so that `migrator.orm` contains its models."""
        migrate, rollback = self.read(name)
        if fake:
            self.database.replaying = True
            try:
                migrate(migrator, self.database, fake=True)
            finally:
                self.database.replaying = False
                migrator.__ops__ = []
            return name
        run = rollback if downgrade else migrate
        if run is None:
            raise MigrationFailed(f"migration {name} has no rollback(); restore a backup instead")
        run(migrator, self.database, fake=False)
        migrator()
        if downgrade:
            self.model.delete().where(self.model.name == name).execute()
        else:
            self.model.create(name=name, migrated_at=format_time(utcnow()))
        logger.info("%s %s", "rolled back" if downgrade else "applied", name)
        return name


class _Run:
    """One locked transaction, in which names are looked up, migrations run and the result is checked."""

    def __init__(self, router: Router, file: str, shown: str, version: int) -> None:
        self.router, self.file, self.shown, self.version = router, file, shown, version
        self.database = router.database
        self.result = MigrationNames()
        self.copy: Scope[str] | None = None  # the backup of the file, under a temporary name until it is published
        self.partial = self.published = ""

    def find(self, wanted: str | int) -> str:
        """Return the full name of a migration given by name or number."""
        names = sorted({*self.router.todo, *self.router.done})
        number = f"{int(wanted):03}_" if str(wanted).isdecimal() else None
        for name in names:
            if name == wanted or (number is not None and name.startswith(number)):
                return name
        raise NotFound(f"there is no migration {wanted}; there are: {', '.join(names) or 'none'}")

    def go(self, names: list[str], backup: bool, *, downgrade: bool) -> MigrationNames:
        """Run the named migrations. They are committed when the enclosing block ends."""
        if not names:
            return self.result
        if backup and self.version:
            self.result.backup = self._back_up()
        before = self._violations()
        step = "the history"
        try:
            for step in names:
                self.router.run_one(step, self.router.migrator, fake=False, downgrade=downgrade)
                self.result.append(step)
                if not self.database.link().in_transaction:
                    raise MigrationFailed(f"{self.shown}: migration {step} committed; restore a backup")
        except (ScanstoreError, KeyboardInterrupt):
            raise
        except Exception as error:
            cause = _first(error)
            trouble = translated(cause, self.shown) if isinstance(cause, sqlite3.Error) else None
            if isinstance(trouble, StorageError):
                raise trouble from cause
            message = f"{self.shown}: migration {step} failed ({error}); nothing was changed"
            raise MigrationFailed(message) from error
        broken = self._violations() - before
        if broken:
            table, row, parent = sorted(broken, key=str)[0]
            raise MigrationFailed(
                f"{self.shown}: after migration {step}, row {row} of {table} points at nothing in {parent} "
                f"({len(broken)} such rows); nothing was changed"
            )
        newest = max((int(name[:3]) for name in self.router.done), default=0)
        _mark(self.database.link(), newest)
        return self.result

    def _back_up(self) -> str:
        """Copy the file and return the final name of the copy."""
        stamp = re.sub(r"[-:.]", "", format_time(utcnow()))
        target = f"{self.file}.backup-{self.version}-{stamp}"
        while os.path.exists(target):
            target += "x"
        self.copy = atomic_files.beside(target, target)
        self.partial = self.copy.__enter__()
        _copy(self.file, self.partial, target, self.shown, self.database.key)
        return target

    def publish(self) -> None:
        """Rename the copy to its final name, if there is a copy."""
        if self.result.backup is not None:
            self.published = self.result.backup
            atomic_files.publish(self.partial, self.published, self.published)

    def tidy(self) -> None:
        """Remove the copy unless it was published."""
        if self.copy is not None:
            self.copy.__exit__(None, None, None)

    def _violations(self) -> set[tuple[str, int, str]]:
        return {row[:3] for row in self.database.execute_sql("PRAGMA foreign_key_check")}


def _first(error: BaseException | None) -> BaseException | None:
    """Return SQLite's first error: after a failed commit, a rollback may fail because there is no transaction."""
    found = None
    while error is not None:
        found = error if isinstance(error, sqlite3.Error) else found
        error = error.__context__
    return found


class _NothingToDo(Exception):
    """Rolls back a run without pending migrations, so that even an empty file is not written to."""


@contextmanager
def _run(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None,
    timeout: float,
    name: str | None,
    key: str | None = None,
    *,
    create: bool = False,
) -> Iterator[_Run]:
    given = check_path(path, "path")
    file, shown = real_path(given), name or given
    steps = default_folder() if folder is None else Path(folder)
    _names(steps)
    refuse_missing(file, shown)
    if not os.path.exists(file):
        if not create:
            raise NotFound(f"{shown} does not exist; give the path of a scanstore file")
        create_file(file, shown)
    refuse_foreign_log(file, shown, key, read_only=False)
    database = _Connection(file, timeout, key)
    run: _Run | None = None

    def tidy() -> None:
        if run is not None:
            run.tidy()
        database.shut()

    with Scope(lambda: None, tidy):
        try:
            connection = database.link()
            with database.atomic("IMMEDIATE"):
                version = identify(connection, shown, take_over=True)
                taken = _routed(connection, shown)
                if taken:
                    if _vouched(0, folder) < 0:
                        raise NotAScanstore(f"{shown} has scanstore's migrations; open it with Store first")
                    version = _take_over(connection, shown)
                elif (found := refuse(connection, _vouched(version, folder), shown)) != version and found >= 0:
                    _mark(connection, found)
                    version, taken = found, True
                run = _Run(Router(database, steps), file, shown, version)
                with limited(connection, shown):
                    _ = run.router.done  # the file may be untrusted, so this has a time limit
                yield run
                if not run.result and not taken:
                    raise _NothingToDo
                # Publish it only now, so that a process that is killed before leaves no backup of a migration that was
                # not applied.
                run.publish()
        except _NothingToDo:
            pass
        except BaseException as error:
            if run is not None and run.published:
                with suppress(OSError):
                    open_files.unlink(run.published)
            if isinstance(error, peewee.PeeweeException) and not isinstance(error, ScanstoreError):
                cause = _first(error)
                if isinstance(cause, sqlite3.Error):
                    raise translated(cause, shown) from cause
            if isinstance(error, sqlite3.Error):
                raise translated(error, shown) from error
            raise
        else:
            try:
                use_log(connection, timeout)
                # so that the file itself contains its id
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.OperationalError:
                logger.debug("%s gets its write-ahead log when it is opened next", shown)


# Backups


def _copy(file: str, partial: str, target: str, shown: str, key: str | None) -> None:
    """Copy the committed content of a store to a new file for the target, and verify the copy.

    Works while others read and write. The copy has the same encryption as the store.
    """
    source = connect(file, "mode=ro", key=key)
    copy = connect(partial, "mode=rw", key=key)
    try:
        source.backup(copy)
        if _routed(copy, shown):
            with copy:
                copy.execute("BEGIN")
                _take_over(copy, shown)
        renew(copy)
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise translated(error, shown) from error
    finally:
        source.close()
        copy.close()
    if verdict != "ok":
        raise MigrationFailed(f"{shown} is not migrated: its backup is damaged ({verdict})")
    atomic_files.sync(partial, target)
