"""The shared methods of the three stages (chunks, drafts, verified findings): claim, complete, fail, release, work.

Leasing is in :mod:`scanstore.leases.engine`, the status of the scan in :mod:`scanstore.analysis.lifecycle`. Each stage
defines how one of its rows is completed.

The three stages of a scan can run in parallel. A stage is finished only when the stages before it are, because each
chunk may add drafts, and each draft a verified finding. :meth:`Stage.work` waits for earlier stages as long as some
worker is active in them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from scanstore.analysis import lifecycle
from scanstore.db.database import Database
from scanstore.db.domain import Domain, long, reads
from scanstore.db.processes import me
from scanstore.db.values import dump_json, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, NotFound, ScanstoreError, shown
from scanstore.leases import engine
from scanstore.leases.engine import LEASE, QUEUES, Queue, Recovered, State, check_lease
from scanstore.snapshots.models import Scan, ScanFileChunk
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.analysis.models import Leased
    from scanstore.leases.queue import Stop

Row = TypeVar("Row", bound="ScanFileChunk | Leased")
IDLE = 0.25  #: seconds between two checks for rows that others hold
PATIENCE = 5.0  #: seconds for which an earlier stage may have ready rows and no worker

BEFORE = {
    queue.kind: " + ".join(
        f"coalesce((SELECT sum(count) FROM work_counts WHERE scan_id = :scan AND kind = '{earlier.kind}'"
        f" AND (status = '{earlier.waiting}' OR status = '{earlier.leased}')), 0)"
        for earlier in QUEUES[: QUEUES.index(queue)]
    )
    for queue in QUEUES
}


class Ahead:
    """Rows that a loop over work has claimed in advance."""

    __slots__ = ("lease", "rows", "scan_id", "worker")

    def __init__(self, scan_id: int, worker: str, lease: float) -> None:
        self.scan_id, self.worker, self.lease = scan_id, worker, lease
        self.rows: list[Any] = []


class Standstill:
    """Detects whether any worker is active in the stages that a loop waits for."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since = 0.0

    def look(self, scan_id: int, states: Sequence[tuple[Queue, State]]) -> None:
        """Raise IllegalMove if rows of a stage have been ready for a while and no worker claimed one.

        A worker holds no row between two claims and just after its start, so one check is not enough.
        """
        figures = [state[:6] for _, state in states]
        moving = figures != self._seen or any(state.leased for _, state in states)
        self._seen = figures
        if moving:
            self._since = time.monotonic()
            return
        ready = [(queue, state.ready) for queue, state in states if state.ready]
        if ready and time.monotonic() - self._since >= PATIENCE:
            what = " and ".join(f"{count} ready {queue.noun}{'s' if count > 1 else ''}" for queue, count in ready)
            loops = " and ".join(f"{queue.methods}.work({scan_id})" for queue, _ in ready)
            raise IllegalMove(
                f"scan {scan_id} has {what}, and no worker is active in them; start {loops} beside this loop"
                " or before it, or take the available ones with wait=False"
            )


class Stage(Domain, Generic[Row]):
    """The rows of one stage: a worker claims them, then completes, fails or releases them."""

    queue: ClassVar[Queue]
    model: type[Row]

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(self, scan: Scan | int, *, worker: str | None = None, limit: int = 1, lease: float = LEASE) -> list[Row]:
        """Lease up to ``limit`` rows for ``lease`` seconds, by priority and then age. Atomic.

        An empty list means that no row is ready now, not that all are done: see :meth:`state`. The scan's configuration
        limits the number of leased rows over all processes. Each row is leased to one worker (default: this process).
        When that process ends or the lease expires, the next worker gets it. A row carries its ``worker`` and
        ``attempt``; pass it to :meth:`fail`, :meth:`release` or the completing method.
        """
        worker = check_lease(worker, lease, limit)
        if isinstance(scan, Scan):
            scan.check_home()
        scan_id = scan.id if isinstance(scan, Scan) else self._scan(scan) if type(scan) is not int else scan
        if limit == 1:  # the usual case: one statement
            one = engine.claim_one(
                self.db, self.queue, scan_id,
                worker=worker, lease=lease, most=lifecycle.MOST[self.queue.kind], guard=lifecycle.RUNNING,
                more=self._more,
            )  # fmt: skip
            if one is not None:
                return self._claimed(one, worker)
        found = self._claim(scan_id, worker, limit, lease)
        # Read outside the transaction, so that others can write. A row that was lost meanwhile belongs to another
        # worker.
        rows = self._rows(list(found)) if found else []
        return [row for row in rows if row.attempt == found[row.id]]

    _more: ClassVar[str] = "NULL"  # the columns that a single claim reads besides the lease

    def _claimed(self, one: tuple[Any, ...], worker: str) -> list[Row]:
        """Build the row of a single claim."""
        rows = self._rows([one[0]])
        return [row for row in rows if row.attempt == one[1]]

    def _claim(self, scan_id: int, worker: str, limit: int, lease: float) -> dict[int, int]:
        """Claim rows, after freeing expired ones and before updating the scan: the last freed row may have failed."""
        with self.db.atomic():
            gate = lifecycle.gate(self.db, scan_id, self.queue.kind)
            if not gate.open:
                return {}
            found = engine.claim(
                self.db, self.queue, scan_id,
                worker=worker, limit=limit, lease=lease, most=gate.concurrency, max_lost=gate.max_lost,
            )  # fmt: skip
            if not found:
                lifecycle.advance(self.db, scan_id)
            return found

    @long
    def work(
        self,
        scan: Scan | int,
        *,
        worker: str | None = None,
        lease: float = LEASE,
        wait: bool = True,
        stop: Stop | None = None,
    ) -> Iterator[Row]:
        """Claim one row after another until all are finished, ``stop`` (a ``threading.Event``) is set, or the scan is
        paused or cancelled.

        Waits while other workers hold the last rows or a retry is not due, because these rows may become free. Also
        waits while earlier stages have leased or delayed rows, because these may add rows to this stage. Raises
        IllegalMove, which names the stage, if an earlier stage has ready rows and no worker has held a lease on it for
        ``PATIENCE`` seconds. With ``wait=False`` it yields the ready rows and ends. The loop's body must complete or
        fail each row. A row that is still leased when the loop is left is released.
        """
        scan_id = self._scan(scan)
        ahead = Ahead(scan_id, check_lease(worker, lease), lease)
        standstill = Standstill()
        while stop is None or not stop.is_set():
            rows: list[Any] = [ahead.rows.pop()] if ahead.rows else self.claim(scan_id, worker=worker, lease=lease)
            if rows:
                standstill = Standstill()
                rows[0].ahead = ahead
                try:
                    yield rows[0]
                except GeneratorExit:
                    for row in (rows[0], *ahead.rows):
                        self._drop(row)
                    raise
                continue
            state = self.state(scan_id)
            if not wait or state.finished or not self._open(scan_id):
                return
            if state.ready or state.delayed or state.leased:
                standstill = Standstill()
            else:
                standstill.look(scan_id, self._earlier(scan_id))
            due = IDLE if state.next_at is None else (state.next_at - utcnow()).total_seconds()
            time.sleep(min(max(due, 0.01), IDLE))
        for row in ahead.rows:
            self._drop(row)

    def _next(self, item: Row | int, worker: str) -> tuple[object, ...] | None:
        """Claim the next row of a ``work`` loop in the transaction that settles its current item, so that both need one
        commit. Does nothing outside such a loop.
        """
        ahead: Ahead | None = getattr(item, "ahead", None)
        if ahead is None or ahead.rows or ahead.worker != worker:
            return None
        return engine.claim_one(
            self.db, self.queue, ahead.scan_id,
            worker=worker, lease=ahead.lease, most=lifecycle.MOST[self.queue.kind], guard=lifecycle.RUNNING,
            more=self._more,
        )  # fmt: skip

    def _drop(self, row: Row) -> None:
        with contextlib.suppress(ScanstoreError):  # already settled, or lost
            self.release(row)

    def _open(self, scan_id: int) -> bool:
        return lifecycle.terms(self.db, scan_id, self.queue.kind).open

    # -- methods for the owner of a lease
    # ----------------------------------------------------------------------------------------

    def heartbeat(self, item: Row | int, *, worker: str | None = None, lease: float = LEASE) -> datetime:
        """Extend the lease to ``lease`` seconds from now and return its end. Raises LeaseLost, NotFound."""
        check_lease(worker, lease)
        key, owner, attempt = self._owner(item, worker)
        return engine.heartbeat(self.db, self.queue, key, worker=owner, attempt=attempt, lease=lease)

    def fail(
        self, item: Row | int, error: str | BaseException, *, worker: str | None = None, retry: bool = True
    ) -> str:
        """Fail a leased row with an error. Atomic. Return its status: ``pending`` or ``failed``.

        The row is retried after ``retry_delay`` seconds, doubled with each retry, up to ``max_retries`` times (both of
        the scan's configuration). With ``retry=False`` it fails immediately. Too many consecutive errors pause the
        scan. Raises LeaseLost, NotFound.
        """
        check_lease(worker, LEASE)
        text = (str(error) or type(error).__name__) if isinstance(error, BaseException) else error
        if not isinstance(text, str):
            raise InvalidArgument(f"error is {shown(error)}; give a text or an exception")
        key, owner, attempt = self._owner(item, worker)
        with self.db.atomic():
            scan_id = self._scan_of(key)
            gate = lifecycle.terms(self.db, scan_id, self.queue.kind)
            status = engine.fail(
                self.db, self.queue, key, text,
                worker=owner, attempt=attempt, max_retries=gate.max_retries, delay=gate.retry_delay, retry=retry,
            )  # fmt: skip
            lifecycle.count_error(self.db, scan_id, text)
            if status == "failed":
                lifecycle.advance(self.db, scan_id)
        return status

    def release(self, item: Row | int, *, worker: str | None = None) -> None:
        """Release a leased row unchanged, so that any worker can claim it. Raises LeaseLost, NotFound."""
        check_lease(worker, LEASE)
        key, owner, attempt = self._owner(item, worker)
        engine.release(self.db, self.queue, key, worker=owner, attempt=attempt)

    def _settle(self, item: Row | int, to: str, *, worker: str | None, **columns: object) -> bool:
        """Settle a leased row and update the scan, inside the caller's transaction. Return False if it was already
        settled.
        """
        key, owner, attempt = self._owner(item, worker)
        moved = engine.settle(self.db, self.queue, key, to, worker=owner, attempt=attempt, **columns)
        if moved:
            scan_id = self._scan_of(key)
            lifecycle.advance(self.db, scan_id, steady=True)
        return moved

    # -- the queue -------------------------------------------------------------------------------------------------

    @reads
    def state(self, scan: Scan | int) -> State:
        """Return the number of rows that are ready, delayed, leased, done, failed and skipped, and the next due time.

        ``state(scan).finished`` is true if no row is left in this stage and the stages before. An empty claim does not
        show this.
        """
        scan_id = self._scan(scan)
        # Counted first, so that rows which an earlier stage adds meanwhile are counted in this one.
        before = BEFORE[self.queue.kind]
        rows = self.db.execute_sql(f"SELECT {before}", {"scan": scan_id}).fetchone()[0] if before else 0
        return engine.state(self.db, self.queue, scan_id)._replace(before=rows)

    def _earlier(self, scan_id: int) -> list[tuple[Queue, State]]:
        """Return the earlier stages with their states, after freeing the rows of dead workers."""
        earlier = QUEUES[: QUEUES.index(self.queue)]
        for queue in earlier:
            if engine.any_lost(self.db, queue, scan_id):
                _recover(self.db, queue, scan_id)
        return [(queue, engine.state(self.db, queue, scan_id)) for queue in earlier]

    def recover(self, scan: Scan | int | None = None) -> Recovered:
        """Free the rows of expired leases and dead processes, of one scan or all. Claims do this too, if necessary.

        A row that has lost more than ``max_lost`` leases (of the scan's configuration) fails.
        """
        return _recover(self.db, self.queue, None if scan is None else self._scan(scan))

    def retry(self, scan: Scan | int, *, ids: Sequence[int] | None = None) -> int:
        """Reset failed rows to pending with all their retries, all of a scan or those of ``ids``. Return their
        number.
        """
        scan_id = self._scan(scan)
        with self.db.atomic():
            count = engine.retry(self.db, self.queue, scan_id, ids=ids)
            if count:
                lifecycle.advance(self.db, scan_id)
        return count

    # -- rows ------------------------------------------------------------------------------------------------------

    @reads
    def get(self, item: Row | int) -> Row:
        """Read the row with this id. Raises NotFound."""
        key = self._key(item)[0]
        rows = self._rows([key]) if 0 < key < 2**63 else []
        if not rows:
            command = self.queue.methods.replace("store.", "scanstore ") + " list"
            listed = f"{self.queue.methods}.list(scan)" + ("" if "verified" in command else f" ({command})")
            raise NotFound(f"no {self.queue.noun} {shown(key)}; {listed} shows those of a scan")
        return rows[0]

    def _rows(self, ids: Sequence[int]) -> list[Row]:
        """Return the rows with these ids, in this order."""
        table = self.model._meta.table_name
        sql = f"SELECT t.* FROM json_each(?) AS i CROSS JOIN {table} AS t ON t.id = i.value"
        found = {row.id: row for row in self.model.raw(sql, dump_json(list(ids)))}
        return [found[each] for each in ids if each in found]

    def _key(self, item: Row | int) -> tuple[int, str | None, int | None]:
        """Return the id, and for a row also its worker and attempt."""
        if isinstance(item, self.model):
            item.check_home()
            return item.id, item.worker, item.attempt
        if isinstance(item, bool) or not isinstance(item, int):
            raise InvalidArgument(f"{shown(item)} is not a {self.queue.noun}; give a row or its id")
        return item, None, None

    def _owner(self, item: Row | int, worker: str | None) -> tuple[int, str, int | None]:
        key, carried, attempt = self._key(item)
        # The attempt of a row is valid only for the worker that claimed it.
        if worker is None or worker == carried:
            return key, carried or me(), attempt if carried else None
        return key, worker, None

    def _scan(self, scan: Scan | int) -> int:
        return int(Scans(self.db).get(scan).id)

    def _scan_of(self, key: int) -> int:
        row = self.db.execute_sql(f"SELECT scan_id FROM {self.queue.table} WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise NotFound(
                f"{self.queue.noun} {key} is not there, or was never claimed; claim one with {self.queue.methods}.claim"
            )
        return int(row[0])


def _recover(db: Database, queue: Queue, scan_id: int | None) -> Recovered:
    where = "" if scan_id is None else " AND scan_id = ?"
    waiting = failed = 0
    with db.atomic():
        scans = db.execute_sql(
            f"SELECT DISTINCT scan_id FROM {queue.table} INDEXED BY {queue.on('leased')}"
            f" WHERE status = '{queue.leased}'{where}",
            () if scan_id is None else (scan_id,),
        ).fetchall()
        for (each,) in scans:
            found = engine.recover(db, queue, each, max_lost=lifecycle.terms(db, each, queue.kind).max_lost)
            lifecycle.advance(db, each)
            waiting, failed = waiting + found.waiting, failed + found.failed
    return Recovered(waiting, failed)
