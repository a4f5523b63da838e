"""The database of a store: connections, pragmas, transactions and binding.

A `Database` is Peewee's SqliteDatabase for one store. Each thread has one connection, which is opened on first use and
closed when the thread ends or the store is closed. There is no global database: ``current`` decides which store is
current.

`:memory:` is a private temporary file, in shared memory if the system has it, never synced, and removed on close.
SQLite's own `:memory:` belongs to a single connection, and its shared cache ignores the busy timeout. With a file,
threads and forks work as in every other store.

The application id identifies a file as a store. It is written in the same transaction as the first schema. WAL mode is
turned on after that.

Change here: pragmas. The checks before a file is opened are in ``opening``, the translation of SQLite's errors in
``sqlite_errors``. This module is imported at every start, so keep its imports few.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
import weakref
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from functools import lru_cache

import peewee

from scanstore.db import current as binding
from scanstore.db import file_identity, filesystems, forks, opening, paths, waiting
from scanstore.db.connections import connect
from scanstore.db.current import Bound
from scanstore.db.cursors import Connection as Connection
from scanstore.db.cursors import Cursor as Cursor
from scanstore.db.cursors import Fetched, numbered
from scanstore.db.file_identity import Holder
from scanstore.db.files import ALONE, create_file, identify, real_path, size_of, use_log
from scanstore.db.files import MEMORY as MEMORY
from scanstore.db.files import SCHEMA_VERSION as SCHEMA_VERSION
from scanstore.db.opening import refuse
from scanstore.db.sqlite_errors import TROUBLE, code_of, translated
from scanstore.db.transactions import Transactional, running_task, settle
from scanstore.errors import InvalidArgument, NotAScanstore, NotFound, ReadOnly, StoreClosed, WrongTask, shown

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import Any

    from scanstore.db.words import Durability

RECENT = 0.005  # seconds during which the file is not checked again inside a transaction
_queries = logging.getLogger("peewee")
_WRITE = (  # compiled by the first statement
    r"(?i)\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|ALTER|REINDEX|ANALYZE|COMMIT|END"
    r"|WITH\b[\s\S]*?\b(INSERT|UPDATE|DELETE|REPLACE\s+INTO))\b"
)


@lru_cache(maxsize=1024)
def _writes(sql: str) -> bool:
    """Return whether a statement may change the file."""
    return not sql.startswith("SELECT") and re.match(_WRITE, sql) is not None


def current() -> Database | None:
    """Return the database of the store that is current in this thread or task."""
    found: Any = binding.current()
    return found  # type: ignore[no-any-return]


# The database of one store


class Database(Transactional):
    """Peewee's database for one store file: `open()` it, use it from any thread, `shut()` it.

    Inside a transaction the connection belongs to the task that began it. Statements of another task of the same thread
    raise WrongTask.

    A fork closes the idle connections of the forking thread first; parent and child open new ones when they need them.
    If any other thread has a connection, idle or not, or the forking thread is inside a transaction or a query, the
    child refuses the file with StorageError.

    Writes raise FileReplaced if the file at the path is no longer the opened one. Each transaction and each single
    statement checks this before it begins and after its commit. Nothing is written to the new file. Reads return the
    rows of the opened file.
    """

    _state: Any
    _lock: Any
    _timeout: float

    def __init__(
        self,
        path: str,
        *,
        timeout: float = 30.0,
        durability: Durability = "full",
        read_only: bool = False,
        brief: bool = False,
        key: str | None = None,
        slow_ms: float | None = None,
    ) -> None:
        if durability not in ("full", "normal"):
            raise InvalidArgument(f"durability is {shown(durability)}; it must be 'full' or 'normal'")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < 2**31 / 1000:
            raise InvalidArgument(f"timeout is {shown(timeout)}; it must be a number of seconds, from 0 to 2,147,483")
        if not path or "\0" in path:
            raise InvalidArgument(f"{path!r} is not a path")
        self.name = path if path.isprintable() else ascii(path)
        self.read_only = read_only
        self.key = key
        self.slow: float | None = None  # seconds
        if slow_ms is not None or "SCANSTORE_SLOW_MS" in os.environ:
            from scanstore.db.logs import threshold  # start-up: only when queries are timed

            self.slow = threshold(slow_ms)
        if key is not None:
            from scanstore.db.encryption import check_key  # the library is an extra

            check_key(key)
        self.generation = 0
        self.sweeps = 0  # the number of removals of interned names through this object
        self.shut_down = False
        self.created = False  #: whether this object has created the file
        self._connections: dict[int, Connection] = {}
        self._options = "mode=ro" if read_only else "mode=rw"
        self._synchronous = durability.upper()
        folder = None
        if path == MEMORY:
            if read_only:
                raise InvalidArgument(
                    ":memory: is a new, empty store each time, so there is nothing to read in it; name a file,"
                    " such as scanstore.db"
                )
            folder, self._synchronous = opening.memory_folder(path), "OFF"
            path = os.path.join(folder, "memory.db")
        self.file = real_path(path)
        if brief and not all(os.path.exists(self.file + end) for end in ("-wal", "-shm")):
            self._options = ALONE  # no process has it open, and to read it as others do would leave files beside it
        super().__init__(self.file, timeout=timeout)
        self._lock = nullcontext()  # Peewee's lock is not needed, because its state is per thread
        # Set when the file is open, except for a store in memory, whose file is private.
        self._watch: file_identity.Watch | None = None
        self._files: list[file_identity.Watch] = []  # the same, for the finalizer
        self._finalizer = weakref.finalize(self, _release, self._connections, folder, os.getpid(), self._files)
        forks.databases.add(self)

    def __repr__(self) -> str:
        return f"<Database {self.name}{' closed' if self.shut_down else ''}>"

    # Opening and closing

    def open(self, *, migrate: bool = True) -> None:
        """Open the file. Create and migrate it if necessary and allowed.

        Safe in many threads and processes at once: a migration runs once. Raises OpenRefused or StorageError, and then
        leaves the file unchanged.
        """
        opening.check_sqlite()
        try:
            if opening.exists(self.file, self.name, read_only=self.read_only):
                if size_of(self.file) and self.key is None:  # with a key, files of other programs cannot be read
                    opening.refuse_foreign(self.file, self.name, self.key)
                file_identity.refuse_foreign_log(self.file, self.name, self.key, read_only=self.read_only)
            elif self.read_only or not migrate:
                raise NotFound(f"{self.name} does not exist; open it without read_only and with migrate=True")
            else:
                self.created = create_file(self.file, self.name)
            self._open(migrate)
        except (*TROUBLE, NotAScanstore) as error:
            if self.key is not None and (isinstance(error, NotAScanstore) or code_of(error) == sqlite3.SQLITE_NOTADB):
                from scanstore.db.encryption import wrong_key  # the library is an extra

                raise wrong_key(self.file, self.name) from None
            if isinstance(error, NotAScanstore):
                raise
            raise translated(error, self.name) from error

    def _open(self, migrate: bool) -> None:
        watch = None
        if self.name != MEMORY:
            watch = file_identity.Watch(self.file, self.name, self.key, read_only=self.read_only)
        connection, version = self._identified()
        try:
            migrate = migrate and not self.read_only
            if not opening.refuse_version(version, SCHEMA_VERSION, self.name, migrate=migrate):
                version = refuse(connection, version, self.name)
            if opening.refuse_version(version, SCHEMA_VERSION, self.name, migrate=migrate):
                connection.close()
                from scanstore.db import migrations  # start-up: loads the migrator

                migrations.up(self.file, timeout=self._timeout, name=self.name, key=self.key)
                connection, version = self._identified()
                refuse(connection, version, self.name)
            self._configure(connection)
            if watch is not None:
                watch.identify(connection)
                watch.note_log()
                watch.look()
                self._watch = watch
                self._files.append(watch)
        except BaseException:
            file_identity.close(connection, watch)
            raise
        self._adopt(connection)
        if watch is not None and not self.read_only:
            filesystems.warn(self.file, self.name)

    def verify_file(self) -> None:
        """Raise FileReplaced unless the opened file is still at its path.

        Writes of this object do this automatically. Call it before opening the path in another way.
        """
        if (watch := self._watch) is not None:
            watch.look()

    def identify(self) -> None:
        """Watch the current id of the file, after a migration that may have changed it."""
        if (watch := self._watch) is not None:
            self.connect(reuse_if_open=True)
            watch.identify(self._state.conn)

    def _identified(self) -> tuple[Connection, int]:
        """Return a new connection and the schema version that it sees, 0 for an empty file."""
        connection = self._plain()
        try:
            return connection, identify(connection, self.name, take_over=True)
        except sqlite3.OperationalError as error:
            connection.close()
            if not self.read_only or self._options != "mode=ro":
                raise
            # SQLite writes an index to read a log, so a file in a read-only place must not have a log.
            if size_of(self.file + "-wal"):
                raise ReadOnly(
                    f"{self.name} lies in a read-only place and has changes waiting in its -wal file; "
                    "open it once where it can be written, or copy both files there"
                ) from error
            self._options = ALONE
            return self._identified()
        except BaseException:
            connection.close()
            raise

    def _plain(self) -> Connection:
        if self.shut_down:
            raise StoreClosed(f"{self.name} was closed; open it again")
        connection: Any = connect(
            self.file,
            self._options,
            key=self.key,
            timeout=self._timeout,
            check_same_thread=False,
            factory=Connection,
            cached_statements=256,
        )
        connection.name = self.name
        return connection  # type: ignore[no-any-return]

    def _connect(self) -> Connection:
        watch = self._watch
        try:
            if watch is not None:
                watch.look()
            connection = self._plain()
            try:
                self._configure(connection)
                if watch is not None:
                    watch.look()
                    watch.note_log()
            except BaseException:
                file_identity.close(connection, watch)
                raise
        except TROUBLE as error:
            raise translated(error, self.name) from error
        return connection

    def _configure(self, connection: Connection) -> None:
        connection.executescript(
            f"PRAGMA foreign_keys=ON; PRAGMA synchronous={self._synchronous}; PRAGMA temp_store=MEMORY;"
            "PRAGMA cache_size=-32000; PRAGMA journal_size_limit=67108864"
        )
        if self._synchronous != "FULL" and paths.MACOS:
            connection.executescript("PRAGMA fullfsync=OFF; PRAGMA checkpoint_fullfsync=OFF")
        if not self.read_only:
            use_log(connection, self._timeout)
        connection.execute(f"PRAGMA busy_timeout={waiting.patience(self._timeout)}")
        forks.pin(connection)
        self._add_conn_hooks(connection)  # type: ignore[attr-defined]

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open this thread's connection. This is optional, because the first statement opens it."""
        if not self._state.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        self._adopt(self._connect())
        return True

    def _adopt(self, connection: Connection) -> None:
        try:
            self._connections[id(connection)] = connection
            if self.shut_down:  # another thread shut the store meanwhile, and may not have seen this connection
                raise StoreClosed(f"{self.name} was closed; open it again")
            self._state.set_connection(connection)
            self._state.holder = Holder(connection, self._connections, self._watch)
        except BaseException:
            self._state.reset()
            self._close(connection)
            raise

    def _close(self, conn: Connection) -> None:
        if conn is self._state.conn:
            self._state.reset()  # do it first, so that a closed connection is never used again
        self._connections.pop(id(conn), None)
        file_identity.close(conn, self._watch)

    def shut(self) -> None:
        """Close the connections of all threads permanently. Idempotent.

        Uncommitted changes are rolled back. Every later use raises StoreClosed. Raises FileReplaced, after everything
        is closed, if a replaced file was not detected before.
        """
        self.shut_down = True
        binding.disuse(self)
        self._state.reset()
        watch, known = self._watch, True
        if watch is not None and self._finalizer.alive:
            known = watch.lost
        self._finalizer()
        if watch is not None and not known and watch.lost:
            watch.look()  # raises

    def in_any_transaction(self) -> bool:
        """Return whether the connection of any thread has an open transaction."""
        for each in list(self._connections.values()):
            with suppress(sqlite3.Error):  # another thread has closed it
                if each.in_transaction:
                    return True
        return False

    # Statements

    def cursor(self, named_cursor: object = None) -> Cursor:
        """Return a cursor of this thread's connection. Its `execute` raises SQLite's errors."""
        state = self._state
        for each in state.transactions:
            if each.block is not None and each.block() is None:  # settle(), inlined for speed
                settle(self)
                break
        if state.transactions and state.owner is not running_task():
            raise WrongTask(
                f"another task of this thread is inside a transaction of {self.name}; "
                "leave the transaction before awaiting, or use the store in a thread of its own"
            )
        if state.closed:
            self.connect()
        try:
            cursor: Cursor = state.conn.cursor() if self.slow is None else self._timed(state.conn)
            return cursor
        except sqlite3.ProgrammingError as error:  # another thread shut the store
            raise translated(error, self.name) from error

    def _timed(self, connection: Connection) -> Cursor:
        from scanstore.db.logs import timed  # start-up: only when queries are timed

        return timed(connection, self.name, self.slow or 0.0)

    # Peewee's execute_sql is not called, because some libraries patch it for the whole process.
    def execute_sql(self, sql: str, params: object = None) -> Cursor:
        """Execute one statement and return its cursor. Raises scanstore's errors."""
        return self._run(sql, params, many=False)

    def executemany(self, sql: str, rows: Iterable[object]) -> Cursor:
        """Execute one statement for each row of values. It is prepared once, and `rows` is streamed. Atomic."""
        if self.in_sqlite_transaction():
            return self._run(sql, rows, many=True)
        with self.atomic():
            return self._run(sql, rows, many=True)

    def _run(self, sql: str, params: object, *, many: bool) -> Cursor:
        if self.query_hooks or _queries.isEnabledFor(logging.DEBUG):
            return self._watched(sql, params, many)
        try:
            return self._executed(sql, params, many)
        except TROUBLE as error:
            raise self._translated(error, () if many else params) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise InvalidArgument(f"a value cannot be stored in {self.name}: {error}") from error

    def _translated(self, error: sqlite3.Error | UnicodeDecodeError, values: object = ()) -> Exception:
        if code_of(error) == sqlite3.SQLITE_ERROR and self.name != MEMORY:
            from scanstore.db.schema import damage  # start-up: only after an error

            if (trouble := damage(self)) is not None:
                return trouble
        if isinstance(error, sqlite3.DataError) and hasattr(self._state.conn, "getlimit"):
            most = self._state.conn.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
            return translated(error, self.name, values, most)
        return translated(error, self.name, values)

    def _executed(self, sql: str, params: object, many: bool) -> Cursor:
        cursor = self.cursor()
        watch = self._watch
        if watch is None or self.read_only or not _writes(sql):
            return self._execute(cursor, sql, params, many)
        connection = self._state.conn
        if not connection.in_transaction:
            watch.look()
            if watch.touch_needed:
                with self.atomic():  # the transaction writes the id to the log
                    pass
        done = self._execute(cursor, sql, params, many)
        if not connection.in_transaction:
            watch.look()
        return done

    def _execute(self, cursor: Cursor, sql: str, params: Any, many: bool) -> Cursor:
        try:
            sql, params = numbered(sql, params or (), many=many)
            if many:
                return cursor.executemany(sql, params)
            waiting.execute(cursor, sql, params, self._timeout)
            if "RETURNING" in sql:
                fetched: Any = Fetched(cursor)  # has all used methods of a cursor
                return fetched  # type: ignore[no-any-return]
            return cursor
        except BaseException:
            cursor.close()
            raise

    def _watched(self, sql: str, params: object, many: bool) -> Cursor:
        """Run a statement and log or time it. Secrets are never logged."""
        secret = "api_key" in sql or "hashed_password" in sql
        shown = None if many else ("…",) if secret else params
        self._log_query(sql, "…" if many else shown)  # type: ignore[attr-defined]
        start = time.perf_counter()
        failure: Exception | None = None
        try:
            return self._executed(sql, params, many)
        except TROUBLE as error:
            failure = self._translated(error, () if many else params)
            raise failure from error
        except (OverflowError, UnicodeEncodeError) as error:
            failure = InvalidArgument(f"a value cannot be stored in {self.name}: {error}")
            raise failure from error
        finally:
            if self.query_hooks:
                self._notify_hooks(sql, shown, start, failure)  # type: ignore[attr-defined]

    # Transactions

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction, IMMEDIATE by default, so that it gets the write lock at the start."""
        lock_type = lock_type or ("DEFERRED" if self.read_only else "IMMEDIATE")
        self.execute_sql(f"BEGIN {lock_type}")
        watch = self._watch
        if watch is None:
            return
        try:
            watch.look()  # check while the lock is held
        except BaseException:
            self.roll_back()
            raise
        self._state.looked, self._state.touching = time.monotonic(), None
        if lock_type != "DEFERRED" and watch.touch_needed:
            self.execute_sql(file_identity.TOUCH)
            self._state.touching = watch.seen

    def commit(self) -> None:
        """Commit, unless the file was replaced meanwhile.

        Raises FileReplaced. If the transaction was already committed, the old file contains it.
        """
        watch = self._watch
        state = self._state
        # A checkpoint may follow the commit, so an overwritten file must be detected before, not only afterwards.
        if watch is not None and time.monotonic() - getattr(state, "looked", 0) > RECENT:
            watch.look()
        self.execute_sql("COMMIT")
        if watch is not None and (touched := getattr(state, "touching", None)) is not None:
            watch.touched, state.touching = touched, None

    def rollback(self) -> None:
        self.execute_sql("ROLLBACK")

    # Binding

    def bound(self) -> Bound[Database]:
        """Return a context manager that makes this store the current one, only for this thread or task."""
        return Bound(self)

    # Forks

    def before_fork(self) -> None:
        """Close this thread's connection if it is idle, and the one that reads the id of the file."""
        if (watch := self._watch) is not None:
            watch.release()
        state = self._state
        if not state.closed and not self.in_transaction() and forks.is_idle(state.conn):
            self._close(state.conn)
            state.reset()

    def after_fork(self) -> None:
        """Drop, in a child, everything that belongs to the parent."""
        self._connections.clear()  # each connection refers to itself, so this closes none
        self.generation += 1
        self._state = type(self._state)()
        if (watch := self._watch) is not None:
            watch.after_fork()


def _release(
    connections: dict[int, Connection], folder: str | None, pid: int, files: list[file_identity.Watch]
) -> None:
    watch = files[0] if files else None
    while connections:
        try:
            file_identity.close(connections.popitem()[1], watch)
        except (KeyError, sqlite3.Error):
            continue
    if watch is not None:
        watch.release()
    if folder is not None and pid == os.getpid():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
