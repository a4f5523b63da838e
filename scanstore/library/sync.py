"""Runs of a sync: the watermark, the rows that the run saw, and those it no longer saw.

A successful run advances the watermark of its kind to the time of its start. A run that raised, or whose process died,
does not change the watermark, and neither does one that rejected records. Only one run of a kind can be active. A run
whose process cannot be checked, because it is on another machine or in another container, counts as dead after an hour
without a write or heartbeat.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Self

from scanstore.db.arguments import number_of
from scanstore.db.blocks import Block, ending
from scanstore.db.clocks import silent
from scanstore.db.current import Bound
from scanstore.db.database import Database
from scanstore.db.domain import Domain
from scanstore.db.processes import gone, me
from scanstore.db.state_machine import Machine, move
from scanstore.db.values import format_time, read_time, utcnow
from scanstore.errors import IllegalMove, NotFound, ScanstoreError, WrongStore
from scanstore.library.models import SyncRun

if TYPE_CHECKING:
    from scanstore.db.words import LibraryKind
    from scanstore.library.models import SyncCounts


SYNCS = Machine(
    "sync_runs",
    "sync run",
    {"completed": ("running",), "failed": ("running",)},
    dict.fromkeys(("completed", "failed"), "start another with store.library.sync(...)"),
)

RUNNING = "SELECT id, process, started_at, updated_at FROM sync_runs WHERE kind = ? AND status = 'running'"
# A run that set records aside does not count: a listing of later changes would not contain them again.
SINCE = "SELECT max(started_at) FROM sync_runs WHERE kind = ? AND status = 'completed' AND rejected = 0"
BEGIN = "INSERT INTO sync_runs (kind, since, started_at, process) VALUES (?, ?, ?, ?) RETURNING id"
COUNTED = """
UPDATE sync_runs SET created = created + ?, updated = updated + ?, unchanged = unchanged + ?,
       links_added = links_added + ?, links_removed = links_removed + ?, rejected = rejected + ?, updated_at = ?
 WHERE id = ? AND status = 'running'
"""
# A row that another writer has seen since the run began exists, even if the run's listing does not contain it.
UNSEEN = "SELECT id FROM {}s WHERE run_id IS NOT ? AND last_synced < ? ORDER BY id"


@ending
class Sync(Domain):
    """A run as a context manager: starts on entry, completes on exit, and fails on an exception, which is re-raised."""

    _block: Block | None = None

    def __init__(self, db: Database, kind: LibraryKind, *, take_over: bool = False) -> None:
        super().__init__(db)
        self.kind = kind
        self.take_over = take_over
        self.id = 0
        self.since: datetime | None = None  #: the start of the last run that wrote every record
        self.started_at = utcnow()

    def __repr__(self) -> str:
        return f"<Sync {self.id or 'not begun'} of {self.kind}s>"

    def __enter__(self) -> Self:
        with self.db.atomic():
            self.started_at = utcnow()
            for key, process, started, heard in self.db.execute_sql(RUNNING, (self.kind,)).fetchall():
                self._end_another(key, process, started, heard)
            since = self.db.execute_sql(SINCE, (self.kind,)).fetchone()[0]
            self.since = None if since is None else read_time(since)
            values = (self.kind, since, format_time(self.started_at), me())
            self.id = self.db.execute_sql(BEGIN, values).fetchall()[0][0]
        return self

    def _end_another(self, key: int, process: str, started: str, heard: str) -> None:
        """End another unfinished run of the kind. Raises IllegalMove if it is active."""
        if self.take_over:
            why = "taken over"
        elif gone(process):
            why = f"its process {process} ended"
        elif silent(process, heard, self.started_at):
            why = f"its process {process} gave no sign of life since {heard}"
        else:
            raise IllegalMove(
                f"sync run {key} of {self.kind}s is running since {started} in {process}; wait for it, or, when that is"
                " known to be dead, begin with take_over=True (scanstore library sync --take-over)"
            )
        self._fail(key, why)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            move(self.db, SYNCS, self.id, "completed", ended_at=format_time(utcnow()))
        else:
            # The run may have been taken over, or the file may be unreachable; the first error is raised.
            with suppress(ScanstoreError):
                self._fail(self.id, f"{type(error).__name__}: {error}".removesuffix(": "))
        self._block = None

    def _abandoned(self, _: object) -> None:
        """Fail the run if an interrupt prevented its block from ending, because its process is alive."""
        with suppress(Exception), Bound(self.db):
            self._fail(self.id, "KeyboardInterrupt: the end of the block was interrupted")

    def _fail(self, key: int, error: str) -> None:
        move(self.db, SYNCS, key, "failed", ended_at=format_time(utcnow()), error=error)

    def heartbeat(self) -> None:
        """Show that the run is active. Each write with ``run=`` does this too, so call it only if there is none for an
        hour.

        Raises IllegalMove if the run has ended, for example because another process took it over.
        """
        _hear(self.db, self.id, "UPDATE sync_runs SET updated_at = ? WHERE id = ? AND status = 'running'")

    def prune_unseen(self, *, dry_run: bool = True) -> list[str]:
        """Remove the rows that this run did not see, with their links, unless ``dry_run``. Return their ids, in order.
        Atomic.

        Call this only after a full listing, because a listing of changes does not contain the unchanged rows. Rows that
        others wrote since the run began count as seen, and so do the rows of rejected records that have an id. Changes
        that were proposed for a removed scene stay. Raises IllegalMove if the run saw no row, or has ended.
        """
        with self.db.atomic():
            sql = "SELECT status, created + updated + unchanged FROM sync_runs WHERE id = ?"
            status, seen = self.db.execute_sql(sql, (self.id,)).fetchone() or ("not begun", 0)
            if status != "running":
                raise IllegalMove(f"{self!r} is {status}; prune inside 'with store.library.sync(...)'")
            if not seen:
                raise IllegalMove(
                    f"sync run {self.id} has seen no {self.kind}s, so all would go; write a full listing with run=run"
                )
            found = self.db.execute_sql(UNSEEN.format(self.kind), (self.id, format_time(self.started_at))).fetchall()
            if not dry_run:
                self.db.executemany(f"DELETE FROM {self.kind}s WHERE id = ?", found)
                self.db.execute_sql("UPDATE sync_runs SET pruned = pruned + ? WHERE id = ?", (len(found), self.id))
        return [key for (key,) in found]


def count(domain: Domain, run: int, counts: SyncCounts) -> None:
    """Add to the counts of a run, inside the writing transaction. Raises IllegalMove if the run has ended."""
    _hear(domain.db, run, COUNTED, *counts[:6])


def _hear(db: Database, run: int, statement: str, *values: int) -> None:
    if db.execute_sql(statement, (*values, format_time(utcnow()), run)).rowcount == 0:
        row = SyncRun.get_or_none(SyncRun.id == run)
        raise IllegalMove(
            f"sync run {run} is {'not begun' if row is None else row.status}; begin another with"
            " store.library.sync(...)"
        )


def identified(domain: Domain, run: Sync | SyncRun | int, kind: str) -> int:
    """Return the id of a run of this kind. Raises NotFound, IllegalMove for another kind, WrongStore,
    InvalidArgument.
    """
    if isinstance(run, Sync):
        if run.db.file != domain.db.file:
            raise WrongStore(f"{run!r} is of {run.db.name}, not of {domain.db.name}; use it in its own")
        key = run.id
    else:
        key = number_of(run, "a sync run", SyncRun, "store.library.sync(...) returns one")
    row = SyncRun.get_or_none(SyncRun.id == key)
    if row is None:
        raise NotFound(f"no sync run {key}; begin one with store.library.sync({kind!r})")
    if row.kind != kind:
        raise IllegalMove(f"sync run {key} is of {row.kind}s; {kind}s want one of their own, or none")
    return key
