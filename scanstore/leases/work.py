"""Leased work: the calls that chunks, drafts, verified findings, jobs, session tasks and audits have in common.

A domain of leased work says which queue it works through, what a scope of it is (a scan, a session, a queue, a job
type), and what else happens when a row is claimed or settled. The statements are in :mod:`scanstore.leases.engine`.

Change here: the calls of a worker. ``tests/leases/test_contract.py`` runs the same promises for every kind of work.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from scanstore.db.arguments import check_bool, uuid_of
from scanstore.db.domain import Domain, long, reads
from scanstore.db.processes import me
from scanstore.db.rows import Rows, read_keys
from scanstore.db.state_machine import Machine, move
from scanstore.db.values import format_time, utcnow
from scanstore.errors import NotFound, ScanstoreError
from scanstore.leases import engine
from scanstore.leases.checks import check_stop
from scanstore.leases.engine import LEASE, NO_VALUES, Queue, Recovered, State, Values, check_lease, describe_error
from scanstore.leases.models import Claimable
from scanstore.leases.queue import Key, Scope, Stop

Row = TypeVar("Row", bound=Claimable)
Id = TypeVar("Id", int, str | uuid.UUID)
ScopeT = TypeVar("ScopeT")
IDLE = 0.25  #: seconds between two looks for work that others hold
Columns = dict[str, object]


class Loop:
    """One loop over work: its scope and terms, and rows that it has claimed already and not yet handed out."""

    __slots__ = ("lease", "rows", "scope", "watch", "worker")

    def __init__(self, scope: Scope | None, worker: str, lease: float) -> None:
        self.scope, self.worker, self.lease = scope, worker, lease
        self.rows: list[Any] = []  # of the kind of work that the loop is over
        self.watch: object = None  # of the kind of work, while the loop waits


class LeasedWork(Domain, Generic[Row, Id, ScopeT]):
    """Work of one kind: claimed by workers, then completed, failed or released by them, or freed when they die.

    Wherever a row is expected its id does too. A claimed row carries its ``worker``, its ``attempt`` and its ``lease``;
    give it back to the methods below. The end of a lease alone takes nothing from its owner: only the next claim does.
    """

    queue: ClassVar[Queue]
    model: type[Row]
    life: ClassVar[Machine]
    anew: ClassVar[Columns] = {}  # what trying a row again sets besides the columns of its lease

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(
        self, scope: ScopeT | None = None, *, worker: str | None = None, limit: int = 1, lease: float = LEASE
    ) -> Rows[Row]:
        """Lease up to ``limit`` rows of a scope, or of all, for ``lease`` seconds; one transaction.

        Rows of a higher priority come first, then older ones. An empty list means that nothing can be claimed now, not
        that all is done: see :meth:`state`. Each row is leased to one worker (default: this process), and when that
        process ends or the time is up, to the next. Raises InvalidArgument, and NotFound for an unknown scope.
        """
        worker = check_lease(worker, lease, limit)
        return self._claim(self._claim_scope(scope), worker, limit, lease)

    @long
    def work(
        self,
        scope: ScopeT | None = None,
        *,
        worker: str | None = None,
        lease: float = LEASE,
        wait: bool = True,
        stop: Stop | None = None,
    ) -> Iterator[Row]:
        """Claim one row after the other until nothing is left to do or ``stop`` is set (a ``threading.Event``).

        Waits while others hold the last rows or a retry is not due, since those may become free; with ``wait=False`` it
        yields the available rows and ends. The loop's body completes or fails each row; a row that it has not settled
        is released when the loop is left.
        """
        yield from self._work(self._scope(scope), worker=worker, lease=lease, wait=wait, stop=stop)

    def _work(
        self, scope: Scope | None, *, worker: str | None, lease: float, wait: bool, stop: Stop | None
    ) -> Iterator[Row]:
        check_bool(wait, "wait")
        check_stop(stop)
        loop: Loop = Loop(scope, check_lease(worker, lease), lease)
        while stop is None or not stop.is_set():
            rows: list[Row] = [loop.rows.pop()] if loop.rows else self._claim(loop.scope, loop.worker, 1, loop.lease)
            if rows:
                loop.watch = None
                rows[0].ahead = loop  # completing the row may claim the next one
                try:
                    yield rows[0]
                except GeneratorExit:
                    for row in (rows[0], *loop.rows):
                        self._drop(row)
                    raise
                continue
            state = self._left(loop.scope)
            if not wait or state.finished or self._halted(loop, state):
                return
            due = IDLE if state.next_at is None else (state.next_at - utcnow()).total_seconds()
            time.sleep(min(max(due, 0.01), IDLE))
        for row in loop.rows:
            self._drop(row)

    def _drop(self, row: Row) -> None:
        with contextlib.suppress(ScanstoreError):  # settled already, or lost
            self.release(row)

    # -- what an owner does ----------------------------------------------------------------------------------------

    def heartbeat(self, item: Row | Id, *, worker: str | None = None, lease: float | None = None) -> Row:
        """Extend the lease to ``lease`` seconds from now (default: as claimed); return the row.

        Raises LeaseLost when the row is not leased to the worker any more, and NotFound.
        """
        key, owner, attempt = self._owner(item, worker)
        lease = (item.lease if isinstance(item, Claimable) else LEASE) if lease is None else lease
        check_lease(worker, lease)
        with self.db.atomic():
            engine.heartbeat(self.db, self.queue, key, worker=owner, attempt=attempt, lease=lease)
            return self._reread(item, key)

    def fail(self, item: Row | Id, error: str | BaseException, *, retry: bool = True, worker: str | None = None) -> Row:
        """Give a leased row back with an error; return it: it waits for its next try, or has failed. One transaction.

        The next try is due after two seconds, doubled with each retry; when the retries are used up, or with
        ``retry=False``, the row fails for good. Raises InvalidArgument, LeaseLost, NotFound.
        """
        key, owner, attempt = self._owner(item, worker)
        text, retry = describe_error(error), check_bool(retry, "retry")
        with self.db.atomic():
            self._fail(key, text, owner, attempt, retry)
            return self._reread(item, key)

    def release(self, item: Row | Id, *, worker: str | None = None) -> Row:
        """Give a leased row back unchanged, to be claimed by anyone; return it. Raises LeaseLost, NotFound."""
        key, owner, attempt = self._owner(item, worker)
        with self.db.atomic():
            self._release(key, owner, attempt)
            return self._reread(item, key)

    # -- looking after the whole -----------------------------------------------------------------------------------

    def retry(self, *items: Row | Id) -> Rows[Row]:
        """Let rows that failed for good wait again, with all their tries; return them. One transaction.

        Raises NotFound, and IllegalMove for a row that did not fail; nothing is changed then.
        """
        keys = [self._id(item) for item in items]
        with self.db.atomic():
            for key in keys:
                self._row(key)  # NotFound for one that is missing
                self._retry(key)
            return self._rows(keys)

    def recover(self, scope: ScopeT | None = None) -> Recovered:
        """Free leases that expired or whose process ended, of one scope or of all; return how many there were.

        Claims do it too when they need it, as does opening a store. A row that lost too many leases fails.
        """
        key = self._scope(scope)
        with self.db.atomic():
            return self._recover(key)

    @reads
    def state(self, scope: ScopeT | None = None) -> State:
        """Return how many rows are ready, delayed, leased, done, failed, and skipped or cancelled.

        Of one scope or of all, with the time at which the next row is due. Rows whose lease has expired count as ready.
        ``state().finished`` says that nothing is left to do, which an empty claim does not. Raises NotFound for an
        unknown scope.
        """
        return self._state(self._scope(scope))

    @reads
    def get(self, item: Row | Id) -> Row:
        """Return the current row. Raises NotFound, and InvalidArgument for a value that is not an id."""
        return self._row(self._id(item))

    @reads
    def find(self, item: Row | Id) -> Row | None:
        """Return the current row, or None if it is missing."""
        rows = self._rows([self._id(item)])
        return rows[0] if rows else None

    # -- what differs from kind to kind ----------------------------------------------------------------------------

    def _scope(self, scope: ScopeT | None) -> Scope | None:
        """Return the key of a scope. Raises InvalidArgument, and NotFound for an unknown scope."""
        raise NotImplementedError

    def _claim_scope(self, scope: ScopeT | None) -> Scope | None:
        """Return the key of a scope for a claim, which may find out by itself that the scope is missing."""
        return self._scope(scope)

    def _scopes(self) -> list[Scope]:
        """Return the scopes that may have rows to claim, in the order in which a claim looks at them."""
        raise NotImplementedError

    def _unknown(self, key: Key) -> NotFound:
        raise NotImplementedError

    def _id(self, item: Row | Id) -> Key:
        noun = self.queue.noun
        return uuid_of(item, f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}", self.model)

    def _claim(
        self, scope: Scope | None, worker: str, limit: int, lease: float, values: Values = NO_VALUES
    ) -> Rows[Row]:
        found: dict[Any, int] = {}
        with self.db.atomic():
            for each in self._scopes() if scope is None else [scope]:
                found |= self._take(each, worker, limit - len(found), lease, values)
                if len(found) == limit:
                    break
        return self._claimed(found, lease)

    def _take(self, scope: Scope, worker: str, limit: int, lease: float, values: Values) -> dict[Any, int]:
        """Lease rows of one scope, in the claim's transaction; return their ids and attempts."""
        return engine.claim(self.db, self.queue, scope, worker=worker, limit=limit, lease=lease, values=values)

    def _claimed(self, found: dict[Any, int], lease: float) -> Rows[Row]:
        # Read after the transaction, when others may write again; a row that was lost meanwhile is left out.
        kept = (row for row in self._rows(list(found)) if row.__data__["attempt"] == found[row.__data__["id"]])
        rows = Rows(kept, self.model)
        for row in rows:
            row.lease, row.claimed = lease, True
        return rows

    def _halted(self, loop: Loop, state: State) -> bool:
        """Whether a loop ends although work is left."""
        return False

    def _fail(self, key: Key, error: str, owner: str, attempt: int | None, retry: bool) -> str:
        return engine.fail(self.db, self.queue, key, error, worker=owner, attempt=attempt, retry=retry)

    def _release(self, key: Key, owner: str, attempt: int | None) -> None:
        engine.release(self.db, self.queue, key, worker=owner, attempt=attempt)

    def _retry(self, key: Key) -> None:
        move(self.db, self.life, key, self.queue.waiting, **self._fresh(), updated_at=format_time(utcnow()))

    def _fresh(self) -> Columns:
        """Return the columns of a row that waits with all its tries."""
        anew = {"retry_count": 0, "lost_count": 0, "next_retry_at": None, "lease_clock": None, self.queue.error: None}
        return anew | self.anew

    def _recover(self, scope: Scope | None) -> Recovered:
        return engine.recover(self.db, self.queue, scope)

    def _state(self, scope: Scope | None) -> State:
        return engine.state(self.db, self.queue, scope)

    def _left(self, scope: Scope | None) -> State:
        """Return the state of a scope without its finished rows, for a loop that waits."""
        return engine.state(self.db, self.queue, scope, finished=False)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _rows(self, keys: Sequence[Key]) -> Rows[Row]:
        """Return the rows with these ids, in this order."""
        return read_keys(self.db, self.model, keys)

    def _row(self, key: Key) -> Row:
        rows = self._rows([key])
        if not rows:
            raise self._unknown(key)
        return rows[0]

    def _owner(self, item: Row | Id, worker: str | None) -> tuple[Key, str, int | None]:
        """Return the id of a row, the worker that acts, and its attempt if the row carries one."""
        check_lease(worker, LEASE)
        key = self._id(item)
        carried = item.__data__.get("worker") if isinstance(item, Claimable) else None
        # The attempt that a row carries counts only for the worker that it was claimed by.
        if carried and isinstance(item, Claimable) and worker in (None, carried):
            return key, carried, item.__data__.get("attempt")
        return key, worker or me(), None

    def _acts_as_owner(self, item: Row | Id, worker: str | None) -> bool:
        """Whether the caller settles a row as one that it has claimed."""
        if isinstance(item, Claimable):
            return worker is not None or item.claimed or item.__data__.get("status") == self.queue.leased
        return worker is not None

    def _reread(self, item: Row | Id, key: Key) -> Row:
        """Return the row as it is in this transaction. A row of the caller is brought up to date and returned."""
        row = self._row(key)
        if not isinstance(item, self.model):
            return row
        item.__data__ = row.__data__
        return item
