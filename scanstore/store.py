"""Store: one file, its connections, and the domains that work on it.

The one class that scripts begin with. It composes; it holds no SQL and no rules. A new domain is one property
here, imported when it is first asked for, so that opening a store stays cheap.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from functools import cached_property, partial

from scanstore import parts
from scanstore.db.arguments import check_path
from scanstore.db.blocks import Shared, ending, taken
from scanstore.db.current import Bound, Span, bind, unbind
from scanstore.db.database import MEMORY, Database
from scanstore.db.domain import long, reads
from scanstore.db.files import limited
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
    from scanstore.db.words import Durability, PruneKind, ReportFormat
    from scanstore.jobs.jobs import Jobs
    from scanstore.jobs.schedules import Schedules
    from scanstore.leases.engine import Recovered
    from scanstore.library.library import Library
    from scanstore.maintenance.backup import Backup, Progress, Restored
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
    """A scanstore file, opened: created with mode 0600 and migrated when that is needed.

    Usable from any thread and, after a fork, in the child. `with store:` makes it the current store of this
    thread or task; leaving the outermost such block closes it. Without `with`, call `close()`.

    `path` defaults to $SCANSTORE_DB, else `scanstore.db`; ":memory:" is a private temporary store. `timeout`
    is in seconds, and is how long a writer waits for another. `durability` "full" survives a power cut after
    every commit, "normal" may lose the last commits then, never the file. With `read_only` the store is
    not changed, wherever it lies; with `migrate=False` a file of an older schema is refused. With a `key`
    (default: $SCANSTORE_KEY, if set) the file is encrypted, or is to be made so; that needs `scanstore[encryption]`.
    Statements that take longer than `slow_ms` milliseconds (default: $SCANSTORE_SLOW_MS, else never) are logged by
    `scanstore.slow`.

    Raises OpenRefused, StorageError or NotFound, and then leaves the file as it was.
    """

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
            text, timeout=timeout, durability=durability, read_only=read_only, key=key, slow_ms=slow_ms
        )
        self._spans: list[Span] = []  # of those who are inside `with store:`
        self.recovered: Recovered | None = None  #: what opening has freed, see recover()
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
        """Language models: their settings, places, calls, costs and answers."""
        return parts.Models(self._database)

    @cached_property
    def chunks(self) -> Chunks:
        """Pieces of files that are handed out for review."""
        return parts.Chunks(self._database)

    @cached_property
    def drafts(self) -> Drafts:
        """What reviewers reported and others vote on."""
        return parts.Drafts(self._database)

    @cached_property
    def verified(self) -> Verified:
        """Drafts that the vote confirmed, to be enriched and published."""
        return parts.Verified(self._database)

    @cached_property
    def findings(self) -> StoreFindings:
        """Findings: recognised from scan to scan, and decided about."""
        return parts.StoreFindings(self._database)

    @cached_property
    def sarif(self) -> Sarif:
        """Reports of other tools, and those for them."""
        return parts.Sarif(self._database)

    @cached_property
    def search(self) -> Search:
        """Findings and symbols by their words: ``store.search("sql injection login")``."""
        return parts.Search(self._database)

    @cached_property
    def library(self) -> Library:
        """Scenes, performers, tags and studios of a media library, as they were synced."""
        return parts.Library(self._database)

    @cached_property
    def plans(self) -> Plans:
        """Changes that were proposed, to be reviewed, applied and taken back."""
        return parts.Plans(self._database)

    @cached_property
    def jobs(self) -> Jobs:
        """Work in the background: queued, leased, watched, cancelled."""
        return parts.Jobs(self._database, self)

    @cached_property
    def schedules(self) -> Schedules:
        """Jobs that are due again and again."""
        return parts.Schedules(self._database)

    @cached_property
    def settings(self) -> Settings:
        """Values by name: ``store.settings["page_size"]``."""
        return parts.Settings(self._database)

    @cached_property
    def accounts(self) -> Accounts:
        """Users: who may log in, and the owners of rows."""
        return parts.Accounts(self._database)

    @cached_property
    def sessions(self) -> Sessions:
        """Analysis sessions: their files, prompts, tasks and results."""
        return parts.Sessions(self._database)

    @cached_property
    def audits(self) -> Audits:
        """Audits of documents: findings with evidence, verdicts, and a trail that only grows."""
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
        """Return a report of findings, as "text", "json", "csv", "markdown" or "html" (one file by itself).

        It is about a scan (default: the latest of ``target`` that looked for findings) and what changed since
        ``baseline`` (default: the one before of the same target). The target may be left out when the store has one.
        Raises NotFound, Ambiguous, InvalidArgument.
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
        """A page of the rows for which all of ``where`` holds: ``store.page(Finding, Finding.severity == "high")``.

        Sorted by the key, the newest first, or by a column that is indexed: ``sort="created_at"``, or
        ``sort="-created_at"`` for the other way. Rows that are equal there keep their order. Columns that may hold
        much, such as texts and JSON, are None unless ``heavy``; secrets always are. Raises InvalidArgument.
        """
        return parts.pagination.page_of(
            self._database, model, where, sort=sort, page=page, per_page=per_page, heavy=heavy
        )

    @reads
    def counts(self, model: type[Base], by: str, *where: peewee.Node) -> dict[object, int]:
        """How many rows of a model there are for each value of a column: ``store.counts(Job, "status")``.

        Counted by SQLite, in the order of the values. Raises InvalidArgument.
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
        elif self._spans:  # entered in another thread or task
            self._spans.pop()
        if all(other.abandoned() for other in self._spans):
            self.close()

    _abandoned = None  # the next block that ends closes the store

    def bound(self) -> Bound[Database]:
        """Return a context manager that makes this store current and does not close it; for threads of a pool."""
        return self._database.bound()

    def transaction(self) -> peewee._atomic:
        """Return a context manager: one transaction that commits on exit and is rolled back by any exception.

        The outermost takes the write lock at once, waiting up to the store's timeout (Busy); nested ones are
        savepoints. Everything inside must happen in this thread, and in this task.
        """
        return self._database.atomic()

    def close(self) -> None:
        """Close the connections of all threads; harmless when repeated. Every later use raises StoreClosed."""
        self._database.shut()

    # Crashes

    def recover(self) -> Recovered:
        """Free the work, places, calls and questions of processes that died, and leases that expired; return how many
        pieces of work wait again and how many have failed because they lost too many leases.

        A scan fails when its process died while it recorded files, an hour after the last one. Opening a store does all
        this when work, a place, a call or a question was lost.
        """
        with self.bound(), self._database.atomic():
            works = (self.chunks, self.drafts, self.verified, self.jobs, self.sessions, self.audits)
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
                raise  # else it is the schema that is not whole, and the store must be open to make it so: check()

    # Health

    @long
    def check(self, *, fix: bool = False) -> list[Problem]:
        """Look for damage and broken promises; return one problem per kind, an empty list when all is well.

        With ``fix``, counters and search indexes are made anew, what nothing uses is removed, lost work is freed;
        problems that went by that are listed as ``fixed``. Nothing that was recorded or decided is ever changed.
        Raises ReadOnly.
        """
        with self.bound():
            return parts.health.check(self._database, fix=fix, recover=lambda: sum(self.recover()))

    @reads
    def stats(self) -> Stats:
        """Count rows and bytes, per table, and what the latest scans brought."""
        with self.bound():
            return parts.health.stats(self._database)

    def prune(
        self,
        *,
        older_than: timedelta | str | None = None,
        keep_last: int | None = None,
        dry_run: bool = True,
        what: PruneKind | Iterable[PruneKind] = ("scans", "jobs"),
    ) -> Pruned:
        """Remove old rows; with ``dry_run`` say what would go, and the same call without it removes exactly that.

        ``what`` are any of: "scans" that are over, with the facts that no other scan uses; "jobs" that are over;
        "calls": prompts and responses of model calls, whose costs stay; "answers" that are kept to avoid paying twice.
        Only rows finished longer than ``older_than`` ago are removed (a timedelta, or text such as "90d"), and the
        newest ``keep_last`` scans of each target, and jobs, stay. The latest scan of a target always stays, as do
        findings that people decided about, whatever scan saw them.

        Each scan goes in a transaction of its own, so that others can write, and what names nothing uses any more at
        the end. Idempotent. Raises InvalidArgument, also when nothing says how much is to stay.
        """
        with self.bound():
            return parts.pruning.prune(
                self._database, older_than=older_than, keep_last=keep_last, dry_run=dry_run, what=what
            )

    def rekey(self, key: str | None) -> None:
        """Encrypt the store with another key, or with none any more, and close it: open it again with that key.

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
    def dump(self, file: File, *, include_secrets: bool = False, tables: Iterable[str] | None = None) -> Transferred:
        """Write all rows as JSON Lines to a path or an open binary file: the same bytes for the same content.

        The dump shows the store at one moment, while others write to it; memory stays flat. Keys of models and hashes
        of passwords are null unless ``include_secrets``. Raises InvalidArgument, MissingFolder, StorageError.
        """
        with self.bound():
            return parts.dump.dump(self._database, file, include_secrets=include_secrets, tables=tables)

    @long
    def load(self, file: File, *, accounts: bool = True) -> Loaded:
        """Fill this empty store with a dump, of this or an older schema; atomic.

        The result lists the accounts with their roles, and the folders of scans that lie outside the current folder:
        look at them before you trust the dump. With ``accounts=False``, accounts are left out together with the rows
        that need one, which are counted.

        Raises InvalidArgument that names the line, NewerSchema, NotFound, and IllegalMove when the store has rows.
        """
        with self.bound():
            return parts.dump.load(self._database, file, accounts=accounts)

    @long
    def merge(self, other: Store | Database | str | os.PathLike[str], *, timeout: float | None = None) -> MergeResult:
        """Take over what another store has and this one has not; atomic, and idempotent. The other stays as it is.

        Where both have the same thing and say it differently, this store's row stays and the conflict is listed. The
        scans of a target that both have come after this store's. All of it may take ``timeout`` seconds, by default 30
        and one for each megabyte of the other store. Raises OutdatedSchema, ReadTimeout and whatever opening raises.
        """
        theirs = other._database if isinstance(other, Store) else other
        with self.bound():
            return parts.merge.merge(self._database, theirs, timeout=timeout)

    # Copies

    @long
    def backup(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        keep: int | None = None,
        verify: bool = True,
        progress: Progress | None = None,
    ) -> Backup:
        """Copy the committed content, while others read and write, to `path`, or to a name with the time in it, in
        `folder` or beside the store.

        The copy stands under its name whole and verified, or not at all, and its owner alone may read it. With `keep`
        only so many copies under names with the time remain. Raises InvalidArgument, StorageError; see
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
    ) -> Restored:
        """Make the store at `path` (default: as for opening) what a copy is; the former file is kept beside it.

        Verifies first. Atomic. Raises Busy while anybody has the store open; see
        :func:`scanstore.maintenance.backup.restore`."""
        return parts.backup.restore(backup, _default(path), timeout=timeout, key=key)

    @staticmethod
    def repair(damaged: str | os.PathLike[str], new: str | os.PathLike[str], *, key: str | None = None) -> Repaired:
        """Save what can be read of a damaged store, or of its log alone, into a new one; see
        :func:`scanstore.maintenance.repair.repair.repair`. The result is `whole` only if every page was read and
        nothing is missing; otherwise it names the pages and tables. A store encrypted with a `key` is encrypted
        again."""
        return parts.repair.repair(damaged, new, key=key)

    @long
    def vacuum(self) -> Compacted:
        """Write the file anew without its free pages; needs free space, twice its size. Raises DiskFull, Busy."""
        return parts.compaction.vacuum(self._database)

    @long
    def optimize(self) -> Compacted:
        """Tidy up the indexes, what SQLite knows of them, and the log; other writers get their turn. Raises Busy."""
        return parts.compaction.optimize(self._database)

    # Migrations

    def migrate_up(self, to: str | int | None = None) -> MigrationNames:
        """Apply pending migrations, up to and including `to`; return their names; atomic."""
        return self._migrated(partial(parts.migrations.up, to=to))

    def migrate_down(self, to: str | int | None = None, *, steps: int = 1) -> MigrationNames:
        """Roll back the last `steps` migrations, or all after `to`; return their names; atomic."""
        return self._migrated(partial(parts.migrations.down, to=to, steps=steps))

    @reads
    def migrate_status(self) -> list[Step]:
        """Return every known migration and when it was applied."""
        return parts.migrations.status(self._database.file, name=self._database.name, key=self._database.key)

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
    return os.environ.get("SCANSTORE_DB") or "scanstore.db" if path is None else path
