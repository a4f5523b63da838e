"""Store: one file, its connections, and the domains that work on it.

The one class that scripts begin with. It composes; it holds no SQL and no rules. A new domain is one property
here, imported when it is first asked for, so that opening a store stays cheap.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from scanstore.binding import Bound
from scanstore.database import MEMORY, Database
from scanstore.errors import IllegalMove, InvalidArgument

if TYPE_CHECKING:
    import peewee

    from scanstore.chunks import Chunks
    from scanstore.drafts import Drafts
    from scanstore.findings import Findings, Verified
    from scanstore.jobs import Jobs
    from scanstore.leases import Recovered
    from scanstore.library import Library
    from scanstore.llm import Models
    from scanstore.maintenance import Problem, Stats
    from scanstore.migrating import Names, Step
    from scanstore.plans import Plans
    from scanstore.sarif import Sarif
    from scanstore.scans import Scan, Scans
    from scanstore.schedules import Schedules
    from scanstore.search import Search
    from scanstore.settings import Settings
    from scanstore.symbols import Symbols


class Store:
    """A scanstore file, opened: created with mode 0600 and migrated when that is needed.

    Usable from any thread and, after a fork, in the child. `with store:` makes it the current store of this
    thread or task; leaving the outermost such block closes it. Without `with`, call `close()`.

    `path` defaults to $SCANSTORE_DB, else `scanstore.db`; ":memory:" is a private temporary store. `timeout`
    is in seconds, and is how long a writer waits for another. `durability` "full" survives a power cut after
    every commit, "normal" may lose the last commits then, never the file. With `read_only` nothing is
    written, not even beside the file; with `migrate=False` a file of an older schema is refused.

    Raises OpenRefused, StorageError or NotFound, and then leaves the file as it was.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = 30,
        durability: str = "full",
        read_only: bool = False,
        migrate: bool = True,
    ) -> None:
        if path is None:
            path = os.environ.get("SCANSTORE_DB") or "scanstore.db"
        text = os.fspath(path)
        if not isinstance(text, str):
            raise InvalidArgument(f"{path!r} is not a path in text; use os.fsdecode")
        self._database = Database(text, timeout=timeout, durability=durability, read_only=read_only)
        self._entered = 0
        self._lock = threading.Lock()
        self.recovered: Recovered | None = None  #: what opening has freed, see recover()
        try:
            self._database.open(migrate=migrate)
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
    def scans(self) -> Scans:
        """Snapshots of source trees."""
        from scanstore.scans import Scans

        return Scans(self)

    @cached_property
    def symbols(self) -> Symbols:
        """Symbols, references and imports of the snapshots."""
        from scanstore.symbols import Symbols

        return Symbols(self)

    @cached_property
    def llm(self) -> Models:
        """Language models: their settings, places, calls, costs and answers."""
        from scanstore.llm import Models

        return Models(self)

    @cached_property
    def chunks(self) -> Chunks:
        """Pieces of files that are handed out for review."""
        from scanstore.chunks import Chunks

        return Chunks(self)

    @cached_property
    def drafts(self) -> Drafts:
        """What reviewers reported and others vote on."""
        import scanstore.findings  # noqa: F401  drafts lead to them
        from scanstore.drafts import Drafts

        return Drafts(self)

    @cached_property
    def verified(self) -> Verified:
        """Drafts that the vote confirmed, to be enriched and published."""
        from scanstore.findings import Verified

        return Verified(self)

    @cached_property
    def findings(self) -> Findings:
        """What is to be fixed."""
        import scanstore.sightings
        import scanstore.triage  # noqa: F401  findings lead to both
        from scanstore.findings import Findings

        return Findings(self)

    @cached_property
    def sarif(self) -> Sarif:
        """Reports of other tools, and those for them."""
        from scanstore.sarif import Sarif

        return Sarif(self)

    @cached_property
    def search(self) -> Search:
        """Findings and symbols by their words: ``store.search("sql injection login")``."""
        from scanstore.search import Search

        return Search(self)

    @cached_property
    def library(self) -> Library:
        """Scenes, performers, tags and studios of a media library, as they were synced."""
        import scanstore.plans  # noqa: F401  scenes lead to their changes
        from scanstore.library import Library

        return Library(self)

    @cached_property
    def plans(self) -> Plans:
        """Changes that were proposed, to be reviewed, applied and taken back."""
        from scanstore.plans import Plans

        return Plans(self)

    @cached_property
    def jobs(self) -> Jobs:
        """Work in the background: queued, leased, watched, cancelled."""
        from scanstore.jobs import Jobs

        return Jobs(self)

    @cached_property
    def schedules(self) -> Schedules:
        """Jobs that are due again and again."""
        from scanstore.schedules import Schedules

        return Schedules(self)

    @cached_property
    def settings(self) -> Settings:
        """Values by name: ``store.settings["page_size"]``."""
        from scanstore.settings import Settings

        return Settings(self)

    def report(
        self, scan: Scan | int | None = None, *, format: str = "text", baseline: Scan | int | None = None
    ) -> str:
        """A report of what is to be fixed, as "text", "json", "csv", "markdown" or "html" (one file by itself).

        It is about a scan (default: the latest that looked for findings) and what changed since ``baseline`` (default:
        the one before of the same target). Raises NotFound, InvalidArgument.
        """
        from scanstore.report import render

        return "".join(render(self, scan, format, baseline))

    # Being current

    def __enter__(self) -> Self:
        Bound(self._database).__enter__()
        with self._lock:
            self._entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        Bound(self._database).__exit__()
        with self._lock:
            self._entered -= 1
            last = self._entered == 0
        if last:
            self.close()

    def bound(self) -> Bound:
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
        """Free the work, the places and the calls of processes that died, and leases that ran out; return how many
        pieces of work wait again and how many have failed for good.

        Opening a store does it too.
        """
        from scanstore import calls, slots

        with self.bound(), self._database.atomic():
            works = (self.chunks, self.drafts, self.verified, self.jobs)
            found = [work.recover() for work in works]
            slots.recover(self._database)
            calls.recover(self._database)
        kinds = zip(*found, strict=True)
        return type(found[0])(*(sum(each) for each in kinds))

    def _recover_what_is_lost(self) -> None:
        from scanstore.errors import Busy
        from scanstore.leases import lost

        if lost(self._database):
            try:
                self.recovered = self.recover()
            except Busy:  # claims recover what they need
                return

    # Health

    def check(self) -> list[Problem]:
        """Look for damage and broken promises; return one problem per kind, an empty list when all is well."""
        from scanstore import maintenance

        with self.bound():
            return maintenance.check(self._database)

    def stats(self) -> Stats:
        """Count rows and bytes, per table."""
        from scanstore import maintenance

        with self.bound():
            return maintenance.stats(self._database)

    # Migrations

    def migrate_up(self, to: str | int | None = None) -> Names:
        """Apply pending migrations, up to and including `to`; return their names; atomic."""
        return self._migrating("up", to=to)  # type: ignore[no-any-return]

    def migrate_down(self, to: str | int | None = None, *, steps: int = 1) -> Names:
        """Roll back the last `steps` migrations, or all after `to`; return their names; atomic."""
        return self._migrating("down", to=to, steps=steps)  # type: ignore[no-any-return]

    def migrate_status(self) -> list[Step]:
        """Return every known migration and when it was applied."""
        from scanstore import migrating

        return migrating.status(self._database.file, name=self._database.name)

    def _migrating(self, what: str, **options: Any) -> Any:
        from scanstore import migrating

        database = self._database
        with Bound(database):
            if database.in_sqlite_transaction():
                raise IllegalMove(f"{database.name} is inside a transaction; leave it before migrating")
        options.update(name=database.name, timeout=database.timeout)
        return getattr(migrating, what)(database.file, **options)
