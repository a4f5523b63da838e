"""Store: one file, its connections, and the domains that work on it.

`Store` is the entry point for scripts. It contains no SQL and no business rules. Each domain is one property, imported
on first use, so that opening a store stays cheap.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from functools import cached_property, partial

from scanstore import parts
from scanstore.db.arguments import check_path
from scanstore.db.blocks import Shared, ending, taken
from scanstore.db.current import Bound, Span, bind, unbind, use
from scanstore.db.database import MEMORY, Database
from scanstore.db.domain import long, reads
from scanstore.db.files import limited
from scanstore.db.locations import default_path
from scanstore.errors import Busy, Damaged, IllegalMove, InvalidArgument, StoreClosed
from scanstore.leases.under_way import lost

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import Self, TypeVar

    import peewee

    from scanstore.accounts.accounts import Accounts
    from scanstore.analysis.chunks import Chunks
    from scanstore.analysis.drafts import Drafts
    from scanstore.analysis.llm_calls import Models
    from scanstore.analysis.publishing import StoreFindings
    from scanstore.analysis.scans import StoreScans
    from scanstore.analysis.verified import Verified
    from scanstore.audits.audits import Audits
    from scanstore.db.fields import Base
    from scanstore.db.migrations import MigrationNames, Step
    from scanstore.db.pagination import Page
    from scanstore.db.progress import ProgressCallback
    from scanstore.db.rows import Rows
    from scanstore.db.words import Durability, PruneKind, ReportFormat
    from scanstore.jobs.jobs import Jobs
    from scanstore.jobs.schedules import Schedules
    from scanstore.leases.engine import Recovered
    from scanstore.library.library import Library
    from scanstore.maintenance.backup import Backup, Restored
    from scanstore.maintenance.compaction import Compacted
    from scanstore.maintenance.dump import File, Loaded, Transferred
    from scanstore.maintenance.health import Problem, Stats
    from scanstore.maintenance.merge.merge import MergeResult
    from scanstore.maintenance.pruning import Pruned
    from scanstore.maintenance.repair.repair import Repaired
    from scanstore.plans.plans import Plans
    from scanstore.sarif.sarif import Sarif
    from scanstore.search import Search
    from scanstore.sessions.sessions import Sessions
    from scanstore.settings import Settings
    from scanstore.snapshots.models import Scan
    from scanstore.symbols.symbols import Symbols

    _Row = TypeVar("_Row", bound=Base)

_log = logging.getLogger("scanstore.store")


@ending
class Store(Shared):
    """An open store file. It is created with mode 0600 and migrated if necessary.

    You can use it from any thread and, after a fork, in the child. `with store:` makes it the current store of this
    thread or task; leaving the outermost such block closes it. Without `with`, call `close()`.

    `path` is used as it is: `~` and URLs mean nothing in it. It defaults to $SCANSTORE_DB, else to the path of
    $DATABASE_URL (`sqlite:///scan.db`), else to `scanstore.db` in the current folder; in both variables `~` is the home
    folder. ":memory:" is a private temporary store. `timeout` is the number of seconds that a writer waits for another.
    With `durability` "full", every commit survives a power cut; with "normal", the last commits may be lost, but the
    file stays intact. With `read_only` the store is never changed, and can be in a read-only folder. With
    `migrate=False` a file with an older schema is refused. With a `key` (default: $SCANSTORE_KEY, if set) the file is
    encrypted, and a new file is created encrypted; this needs `scanstore[encryption]`. Statements that take longer than
    `slow_ms` milliseconds (default: $SCANSTORE_SLOW_MS, else never) are logged by `scanstore.slow`.

    Raises OpenRefused, StorageError or NotFound, and then leaves the file unchanged. Raises InvalidArgument for a wrong
    option, and for a $DATABASE_URL of another database.
    """

    _brief = False  # whether it is only open for a moment, to read, and must leave no file beside it

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = 30,
        durability: Durability = "full",
        read_only: bool = False,
        migrate: bool = True,
        key: str | None = None,
        slow_ms: float | None = None,
    ) -> None:
        text = _default(path)
        if isinstance(text, bytes):
            raise InvalidArgument(f"{path!r} is not a path in text; use os.fsdecode")
        text = check_path(text, "path")
        if key is None and text != MEMORY:
            key = os.environ.get("SCANSTORE_KEY") or None
        self._database = Database(
            text, timeout=timeout, durability=durability, read_only=read_only, brief=self._brief, key=key,
            slow_ms=slow_ms,
        )  # fmt: skip
        self._spans: list[Span] = []  # the spans of active `with store:` blocks
        self.recovered: Recovered | None = None  #: the rows that opening has freed, see recover()
        try:
            self._database.open(migrate=migrate)
            _log.debug("opened %s", self._database.name)
            if not read_only:
                self._recover_what_is_lost()
        except BaseException:
            self._database.shut()
            raise

    @property
    def path(self) -> str:
        """The absolute path of the file, or ":memory:"."""
        return MEMORY if self._database.name == MEMORY else self._database.file

    @property
    def database(self) -> Database:
        """The Peewee database of this store."""
        return self._database

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._database.shut_down

    def __repr__(self) -> str:
        return f"<Store {self._database.name}{' closed' if self.closed else ''}>"

    # Domains

    @cached_property
    def scans(self) -> StoreScans:
        """Snapshots of source trees."""
        return parts.StoreScans(self._database)

    @cached_property
    def symbols(self) -> Symbols:
        """Symbols, references and imports of the snapshots."""
        return parts.Symbols(self._database)

    @cached_property
    def llm(self) -> Models:
        """Language models: configurations, slots, calls, costs and cached answers."""
        return parts.Models(self._database)

    @cached_property
    def chunks(self) -> Chunks:
        """Chunks of files, the units of review."""
        return parts.Chunks(self._database)

    @cached_property
    def drafts(self) -> Drafts:
        """Reported drafts, and the votes on them."""
        return parts.Drafts(self._database)

    @cached_property
    def verified(self) -> Verified:
        """Drafts that the votes confirmed, before they are published."""
        return parts.Verified(self._database)

    @cached_property
    def findings(self) -> StoreFindings:
        """Findings: tracked across scans, listed, compared and triaged."""
        return parts.StoreFindings(self._database)

    @cached_property
    def sarif(self) -> Sarif:
        """SARIF: load reports of other tools, and write findings for them."""
        return parts.Sarif(self._database)

    @cached_property
    def search(self) -> Search:
        """Search findings and symbols by words: ``store.search("sql injection login")``."""
        return parts.Search(self._database)

    @cached_property
    def library(self) -> Library:
        """Scenes, performers, tags and studios of a synced media library."""
        return parts.Library(self._database)

    @cached_property
    def plans(self) -> Plans:
        """Proposed changes, which are reviewed, applied and reverted."""
        return parts.Plans(self._database)

    @cached_property
    def jobs(self) -> Jobs:
        """Background jobs: add, claim, watch and cancel them."""
        return parts.Jobs(self._database, self)

    @cached_property
    def schedules(self) -> Schedules:
        """Scheduled jobs, by cron expressions."""
        return parts.Schedules(self._database)

    @cached_property
    def settings(self) -> Settings:
        """Values by name: ``store.settings["page_size"]``."""
        return parts.Settings(self._database)

    @cached_property
    def accounts(self) -> Accounts:
        """Users: accounts with logins, and the owners of rows."""
        return parts.Accounts(self._database)

    @cached_property
    def sessions(self) -> Sessions:
        """Analysis sessions: their files, prompts, tasks and results."""
        return parts.Sessions(self._database)

    @cached_property
    def audits(self) -> Audits:
        """Audits of documents: findings with evidence, verdicts, and an append-only trail."""
        return parts.Audits(self._database)

    @reads
    def report(
        self,
        scan: Scan | int | None = None,
        *,
        target: str | None = None,
        format: ReportFormat = "text",
        baseline: Scan | int | None = None,
    ) -> str:
        """Return a report of findings as "text", "json", "csv", "markdown" or "html" (one self-contained file).

        It covers a scan (default: the latest of ``target`` in which a tool ran) and the changes since ``baseline``
        (default: the previous one of the same target). The target can be omitted if the store has only one. Raises
        NotFound, Ambiguous, InvalidArgument.
        """
        return "".join(parts.gather.render(self._database, scan, format, baseline, target=target))

    # Pages and figures

    @reads
    def page(
        self,
        model: type[_Row],
        *where: peewee.Node,
        sort: str | None = None,
        page: int = 1,
        per_page: int = 50,
        heavy: bool = False,
    ) -> Page[_Row]:
        """Return a page of the rows that match all conditions: ``store.page(Finding, Finding.severity == "high")``.

        Sorted by the key, the newest first, or by an indexed column: ``sort="created_at"``, or ``sort="-created_at"``
        for descending order. The order of equal rows is stable. Large columns, such as texts and JSON, are None unless
        ``heavy``; secrets always are. Raises InvalidArgument.
        """
        return parts.pagination.page_of(
            self._database, model, where, sort=sort, page=page, per_page=per_page, heavy=heavy
        )

    @reads
    def counts(self, model: type[Base], by: str, *where: peewee.Node) -> dict[object, int]:
        """Return the number of rows for each value of a column: ``store.counts(Job, "status")``.

        Sorted by value. Raises InvalidArgument.
        """
        return parts.pagination.counts(self._database, model, by, where)

    # Being current

    def __enter__(self) -> Self:
        if self.closed:
            raise StoreClosed(f"{self._database.name} was closed; open it again")
        span = Span(taken(self))
        self._spans.append(span)
        bind(self._database, span)
        return self

    def __exit__(self, *_: object) -> None:
        span = unbind(self._database)
        if span in self._spans:
            self._spans.remove(span)
        elif self._spans:  # the block was entered in another thread or task
            self._spans.pop()
        if all(other.abandoned() for other in self._spans):
            self.close()

    _abandoned = None  # the next block that ends closes the store

    def bound(self) -> Bound[Database]:
        """Return a context manager that makes this store current without closing it, for threads of a pool."""
        return self._database.bound()

    def use(self) -> Self:
        """Make this store the default of the process, for notebooks and the interactive Python. Return the store.

        The default applies to models and queries where no store is current, in every thread and task. A block, such as
        ``with other.bound():``, takes precedence. It ends when another store is used or this one is closed. Raises
        StoreClosed.
        """
        if self.closed:
            raise StoreClosed(f"{self._database.name} was closed; open it again")
        use(self._database)
        return self

    def transaction(self) -> peewee._atomic:
        """Return a context manager for one transaction, which commits on exit and rolls back on any exception.

        The outermost transaction takes the write lock immediately and waits up to the store's timeout (then Busy).
        Nested ones are savepoints. All statements inside must run in this thread and task.
        """
        return self._database.atomic()

    def close(self) -> None:
        """Close the connections of all threads. Idempotent. Every later use raises StoreClosed."""
        self._database.shut()

    # Crashes

    def recover(self) -> Recovered:
        """Free the rows, slots, model calls and pending questions of dead processes, and expired leases. Return the
        number of rows that are pending again, and of rows that failed because they lost too many leases.

        A scan whose process died while it recorded files is marked as failed, one hour after its last file. Opening a
        store calls this if anything was lost.
        """
        with self.bound(), self._database.atomic():
            works = (self.chunks, self.drafts, self.verified, self.jobs, self.sessions.tasks, self.audits)
            found = [work.recover() for work in works]
            parts.slots.recover(self._database)
            parts.calls.recover(self._database)
            parts.asking.recover(self._database)
            parts.scans.recover(self._database)
        kinds = zip(*found, strict=True)
        return type(found[0])(*(sum(each) for each in kinds))

    def _recover_what_is_lost(self) -> None:
        try:
            connection = self._database.connection()  # type: ignore[no-untyped-call]
            with limited(connection, self._database.name):
                found = lost(self._database)
            if found:
                self.recovered = self.recover()
                _log.info("%s: freed lost work, %d wait again, %d failed", self._database.name, *self.recovered)
        except Busy:  # claims recover what they need
            return
        except Damaged as error:
            if not isinstance(error.__cause__, sqlite3.OperationalError):
                raise  # otherwise the schema is incomplete, and the store must be open so that check() can repair it

    # Health

    @long
    def check(self, *, fix: bool = False, progress: ProgressCallback | None = None) -> Rows[Problem]:
        """Look for damage and inconsistent rows. Return one problem per kind, or an empty list.

        With ``fix``, counters and search indexes are rebuilt, unused rows are removed, and lost rows are freed.
        Repaired problems are listed as ``fixed``. Recorded facts and decisions are never changed. ``progress`` is
        called in this thread with the finished and all checks; with ``fix``, the checks after the repair are added to
        the total. Raises ReadOnly.
        """
        with self.bound():
            return parts.health.check(self._database, fix=fix, recover=lambda: sum(self.recover()), progress=progress)

    @reads
    def stats(self) -> Stats:
        """Return the number of rows and bytes per table, and the growth by the latest scans."""
        with self.bound():
            return parts.health.stats(self._database)

    def prune(
        self,
        *,
        older_than: timedelta | str | None = None,
        keep_last: int | None = None,
        dry_run: bool = True,
        what: PruneKind | Iterable[PruneKind] = ("scans", "jobs"),
        progress: ProgressCallback | None = None,
    ) -> Pruned:
        """Remove old rows. With ``dry_run``, only return the rows that the same call without it would remove.

        ``what`` selects any of: "scans" (finished scans with the facts that no other scan uses), "jobs" (finished
        jobs), "calls" (prompts and responses of model calls; their costs stay) and "answers" (cached answers). Only
        rows finished longer than ``older_than`` ago are removed (a timedelta, or text such as "90d"). The newest
        ``keep_last`` scans of each target, and jobs, stay. The latest scan of a target always stays, and so do findings
        with decisions of people.

        Each scan is removed in its own transaction, so that others can write, and unused names at the end. Idempotent.
        ``progress`` is called in this thread, between transactions, with the removed rows (scans, jobs, calls, answers)
        and all that are to be removed. An exception of it cancels the rest.

        Raises InvalidArgument, also if neither ``older_than`` nor ``keep_last`` is given.
        """
        with self.bound():
            return parts.pruning.prune(
                self._database, older_than=older_than, keep_last=keep_last, dry_run=dry_run, what=what,
                progress=progress,
            )  # fmt: skip

    def rekey(self, key: str | None) -> None:
        """Encrypt the store with another key, or decrypt it, and close it. Open it again with the new key.

        Needs `scanstore[encryption]` and free space for a copy. Atomic. Raises Busy while the store is open elsewhere,
        IllegalMove inside a transaction, InvalidArgument, DiskFull, Damaged.
        """
        database = self._database
        if database.name == MEMORY:
            raise InvalidArgument(":memory: goes with this process and needs no other key")
        with self.bound():
            if database.in_sqlite_transaction():
                raise IllegalMove(f"{database.name} is inside a transaction; leave it before its key is changed")
        if key is not None:
            parts.encryption.check_key(key)
        self.close()
        parts.rekeying.rekey(database.file, database.name, database.key, key, timeout=database._timeout)

    # From store to store

    @long
    def dump(
        self,
        file: File,
        *,
        include_secrets: bool = False,
        tables: Iterable[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> Transferred:
        """Write all rows as JSON Lines to a path or an open binary file. The same content gives the same bytes.

        The dump is a consistent snapshot, even while others write. Memory stays constant. API keys and password hashes
        are null unless ``include_secrets``. ``progress`` is called in this thread, between batches, with the written
        rows and all rows, which are counted before. An exception of it cancels the dump, and no file is written. Raises
        InvalidArgument, MissingFolder, StorageError.
        """
        with self.bound():
            return parts.dump.dump(
                self._database, file, include_secrets=include_secrets, tables=tables, progress=progress
            )

    @long
    def load(self, file: File, *, accounts: bool = True, progress: ProgressCallback | None = None) -> Loaded:
        """Fill this empty store with a dump of this or an older schema. Atomic.

        The result lists the accounts with their roles, and the scanned folders outside the current folder: check them
        before you trust the dump. With ``accounts=False``, accounts and the rows that belong to them are skipped and
        counted.

        ``progress`` is called in this thread, between batches, with the bytes that were read and all bytes. The total
        is 0 for a pipe; a dump of an older schema is read twice, and counts twice. An exception of it cancels the work,
        and nothing is loaded. It must not write to this store, which is locked.

        Raises InvalidArgument, which names the line, NewerSchema, NotFound, and IllegalMove if the store has rows.
        """
        with self.bound():
            return parts.dump.load(self._database, file, accounts=accounts, progress=progress)

    @long
    def merge(
        self,
        other: Store | Database | str | os.PathLike[str],
        *,
        timeout: float | None = None,
        progress: ProgressCallback | None = None,
    ) -> MergeResult:
        """Merge another store into this one. Atomic and idempotent. The other store stays unchanged.

        If both stores have different values for the same row, this store keeps its value and the conflict is listed.
        The other store's scans of a common target come after this store's. ``timeout`` limits the time in seconds, by
        default 30 plus one per megabyte of the other store. ``progress`` is called in this thread, after each table,
        with the merged rows and all rows of the other store. An exception of it cancels the work, and nothing is
        merged. It must not write to this store, which is locked. Raises OutdatedSchema, ReadTimeout and the errors of
        opening a store.
        """
        theirs = other._database if isinstance(other, Store) else other
        with self.bound():
            return parts.merge.merge(self._database, theirs, timeout=timeout, progress=progress)

    # Copies

    @long
    def backup(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        keep: int | None = None,
        verify: bool = True,
        progress: ProgressCallback | None = None,
    ) -> Backup:
        """Copy the committed content, while others read and write, to `path`, or to a file with a timestamp in its
        name, in `folder` or beside the store.

        The copy gets its name only when it is complete and verified. Only its owner may read it. With `keep`, only the
        newest `keep` copies with timestamps remain. `progress` is called in this thread with the copied pages and all
        pages; an exception of it cancels the backup, and no copy is left. Raises InvalidArgument, StorageError; see
        :func:`scanstore.maintenance.backup.backup`.
        """
        return parts.backup.backup(self._database, path, folder=folder, keep=keep, verify=verify, progress=progress)

    @staticmethod
    def restore(
        backup: str | os.PathLike[str],
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = 5,
        key: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Restored:
        """Restore the store at `path` (default: as for opening) from a copy. The replaced file is kept beside it.

        Verifies the copy first. Atomic. `progress` is called in this thread with the copied pages and all pages; an
        exception of it, unless all are copied, cancels the work, and the old store stays. Raises Busy while the store
        is open; see :func:`scanstore.maintenance.backup.restore`.
        """
        return parts.backup.restore(backup, _default(path), timeout=timeout, key=key, progress=progress)

    @staticmethod
    def repair(
        damaged: str | os.PathLike[str],
        new: str | os.PathLike[str],
        *,
        key: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Repaired:
        """Save the readable rows of a damaged store, or of its log alone, into a new store; see
        :func:`scanstore.maintenance.repair.repair.repair`. The result is `whole` only if every page was read and
        nothing is missing; otherwise it lists the pages and tables. With a `key`, the new store is encrypted too.
        `progress` is called in this thread with the pages that were read and all pages; an exception of it cancels the
        work, and nothing is left at `new`.
        """
        return parts.repair.repair(damaged, new, key=key, progress=progress)

    @long
    def vacuum(self, *, progress: ProgressCallback | None = None) -> Compacted:
        """Rewrite the file without its free pages. Needs free space of twice its size. Atomic.

        ``progress`` is called in this thread with 0 and all pages before SQLite writes them, since it does not say how
        far it is, and with all pages afterwards. Raises DiskFull, Busy.
        """
        return parts.compaction.vacuum(self._database, progress=progress)

    @long
    def optimize(self, *, progress: ProgressCallback | None = None) -> Compacted:
        """Optimize the full-text indexes, update SQLite's statistics, and empty the log. Others can write meanwhile.

        ``progress`` is called in this thread with the finished and all steps. An exception of it cancels the rest.
        Raises Busy.
        """
        return parts.compaction.optimize(self._database, progress=progress)

    # Migrations

    def migrate_up(self, to: str | int | None = None) -> MigrationNames:
        """Apply pending migrations, up to and including `to`. Return their names. Atomic."""
        return self._migrated(partial(parts.migrations.up, to=to))

    def migrate_down(self, to: str | int | None = None, *, steps: int = 1) -> MigrationNames:
        """Roll back the last `steps` migrations, or all after `to`. Return their names. Atomic."""
        return self._migrated(partial(parts.migrations.down, to=to, steps=steps))

    @reads
    def migrate_status(self) -> Rows[Step]:
        """Return every known migration and when it was applied."""
        database = self._database
        found = parts.migrations.status(database.file, name=database.name, key=database.key)
        return parts.rows.Rows(found, parts.migrations.Step)

    def _migrated(self, migrate: Callable[..., MigrationNames]) -> MigrationNames:
        database = self._database
        with Bound(database):
            if database.in_sqlite_transaction():
                raise IllegalMove(f"{database.name} is inside a transaction; leave it before migrating")
        database.verify_file()
        done = migrate(database.file, name=database.name, timeout=database.timeout, key=database.key)
        database.identify()
        return done


open = Store


def _default(path: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    return default_path() if path is None else path
