"""What chunks, drafts and verified findings have in common: the public face of leased work.

The mechanism is in :mod:`scanstore.leases.engine`, the scan's part in :mod:`scanstore.analysis.lifecycle`. A stage adds
what completing one of its rows means.

The three stages of a scan run side by side. A stage is finished only when the stages before it are, since each chunk
may add drafts, and each draft a verified finding. :meth:`Stage.work` waits for earlier stages as long as some worker is
active in them.
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
IDLE = 0.25  #: seconds between two looks for work that others hold
PATIENCE = 5.0  #: seconds for which an earlier stage may stand still with ready rows and no worker

BEFORE = {
    queue.kind: " + ".join(
        f"coalesce((SELECT sum(count) FROM work_counts WHERE scan_id = :scan AND kind = '{earlier.kind}'"
        f" AND (status = '{earlier.waiting}' OR status = '{earlier.leased}')), 0)"
        for earlier in QUEUES[: QUEUES.index(queue)]
    )
    for queue in QUEUES
}


class Ahead:
    """What a loop over work will do next, when that was claimed already."""

    __slots__ = ("lease", "rows", "scan_id", "worker")

    def __init__(self, scan_id: int, worker: str, lease: float) -> None:
        self.scan_id, self.worker, self.lease = scan_id, worker, lease
        self.rows: list[Any] = []


class Standstill:
    """Whether anybody works on the stages that a loop waits for."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since = 0.0

    def look(self, scan_id: int, states: Sequence[tuple[Queue, State]]) -> None:
        """Raise IllegalMove when rows have been ready in a stage for a while and no worker took one.

        Between two claims a worker holds nothing, and one that was just started does not yet: so it takes more than
        one look.
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
    """Work of one kind, scan by scan: claimed, then completed, failed or released by its worker."""

    queue: ClassVar[Queue]
    model: type[Row]

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(self, scan: Scan | int, *, worker: str | None = None, limit: int = 1, lease: float = LEASE) -> list[Row]:
        """Lease up to ``limit`` rows for ``lease`` seconds, the most pressing and then the oldest; one transaction.

        An empty list says that there is nothing to claim now, not that all is done: see :meth:`state`. No more are
        leased at once, by all processes together, than the scan's configuration allows. Each row is leased to one
        worker (default: this process), and when that process ends or the time is up, to the next. A row carries its
        ``worker`` and ``attempt``; give it back to :meth:`fail`, :meth:`release` or what completes it.
        """
        worker = check_lease(worker, lease, limit)
        if isinstance(scan, Scan):
            scan.check_home()
        scan_id = scan.id if isinstance(scan, Scan) else self._scan(scan) if type(scan) is not int else scan
        if limit == 1:  # mostly: one statement
            one = engine.claim_one(
                self.db, self.queue, scan_id,
                worker=worker, lease=lease, most=lifecycle.MOST[self.queue.kind], guard=lifecycle.RUNNING,
                more=self._more,
            )  # fmt: skip
            if one is not None:
                return self._claimed(one, worker)
        found = self._claim(scan_id, worker, limit, lease)
        # Read when the others may write again; one that was lost meanwhile is somebody else's.
        rows = self._rows(list(found)) if found else []
        return [row for row in rows if row.attempt == found[row.id]]

    _more: ClassVar[str] = "NULL"  # what a single claim reads of a row besides its lease

    def _claimed(self, one: tuple[Any, ...], worker: str) -> list[Row]:
        """The row of a single claim."""
        rows = self._rows([one[0]])
        return [row for row in rows if row.attempt == one[1]]

    def _claim(self, scan_id: int, worker: str, limit: int, lease: float) -> dict[int, int]:
        """With all that may be to do before, and after: the last freed row may have failed."""
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
        """Claim one row after the other until nothing is left to do, ``stop`` is set (a ``threading.Event``), or the
        scan is paused or cancelled.

        Waits while others hold the last rows or a retry is not due, since those may come free, and while earlier stages
        have leased or delayed rows, since those may add rows to this one. Raises IllegalMove, naming the stage, when an
        earlier stage has ready rows and no worker has held a lease on it for ``PATIENCE`` seconds: it would wait for
        ever. With ``wait=False`` it yields the available rows and ends. The loop's body completes or fails each row;
        one that it neither completed, failed nor released when the loop is left is released.
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
        """Claim the next row for the loop that an item comes from, in the transaction that settles it: one commit
        for both. Nothing outside such a loop."""
        ahead: Ahead | None = getattr(item, "ahead", None)
        if ahead is None or ahead.rows or ahead.worker != worker:
            return None
        return engine.claim_one(
            self.db, self.queue, ahead.scan_id,
            worker=worker, lease=ahead.lease, most=lifecycle.MOST[self.queue.kind], guard=lifecycle.RUNNING,
            more=self._more,
        )  # fmt: skip

    def _drop(self, row: Row) -> None:
        with contextlib.suppress(ScanstoreError):  # settled already, or lost
            self.release(row)

    def _open(self, scan_id: int) -> bool:
        return lifecycle.terms(self.db, scan_id, self.queue.kind).open

    # -- what an owner does ----------------------------------------------------------------------------------------

    def heartbeat(self, item: Row | int, *, worker: str | None = None, lease: float = LEASE) -> datetime:
        """Extend the lease to ``lease`` seconds from now and return when it ends. Raises LeaseLost, NotFound."""
        check_lease(worker, lease)
        key, owner, attempt = self._owner(item, worker)
        return engine.heartbeat(self.db, self.queue, key, worker=owner, attempt=attempt, lease=lease)

    def fail(
        self, item: Row | int, error: str | BaseException, *, worker: str | None = None, retry: bool = True
    ) -> str:
        """Give a leased row back with an error; one transaction. Returns its status: ``pending`` or ``failed``.

        It is tried again after ``retry_delay`` seconds, doubled with each retry, until ``max_retries`` (both of the
        scan's configuration) are used up; ``retry=False`` gives up at once. Too many errors in a row pause the scan.
        Raises LeaseLost, NotFound.
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
        """Give a leased row back untouched, to be claimed by anyone. Raises LeaseLost, NotFound."""
        check_lease(worker, LEASE)
        key, owner, attempt = self._owner(item, worker)
        engine.release(self.db, self.queue, key, worker=owner, attempt=attempt)

    def _settle(self, item: Row | int, to: str, *, worker: str | None, **columns: object) -> bool:
        """Settle a leased row and tell the scan, inside the caller's transaction; False when it was so already."""
        key, owner, attempt = self._owner(item, worker)
        moved = engine.settle(self.db, self.queue, key, to, worker=owner, attempt=attempt, **columns)
        if moved:
            scan_id = self._scan_of(key)
            lifecycle.advance(self.db, scan_id, steady=True)
        return moved

    # -- the whole -------------------------------------------------------------------------------------------------

    @reads
    def state(self, scan: Scan | int) -> State:
        """How many rows are ready, delayed, leased, done, failed, skipped, and when the next one is due.

        ``state(scan).finished`` says that nothing is left, here and in the stages before; an empty claim does not.
        """
        scan_id = self._scan(scan)
        # Counted first: what an earlier stage adds meanwhile is then among the rows of this one.
        before = BEFORE[self.queue.kind]
        rows = self.db.execute_sql(f"SELECT {before}", {"scan": scan_id}).fetchone()[0] if before else 0
        return engine.state(self.db, self.queue, scan_id)._replace(before=rows)

    def _earlier(self, scan_id: int) -> list[tuple[Queue, State]]:
        """The stages before this one and where they stand, once the leases of dead workers are freed."""
        earlier = QUEUES[: QUEUES.index(self.queue)]
        for queue in earlier:
            if engine.any_lost(self.db, queue, scan_id):
                _recover(self.db, queue, scan_id)
        return [(queue, engine.state(self.db, queue, scan_id)) for queue in earlier]

    def recover(self, scan: Scan | int | None = None) -> Recovered:
        """Free leases that expired or whose process ended, of one scan or all. Claims do it too, when they need it.

        A row that has lost more than ``max_lost`` leases (of the scan's configuration) fails.
        """
        return _recover(self.db, self.queue, None if scan is None else self._scan(scan))

    def retry(self, scan: Scan | int, *, ids: Sequence[int] | None = None) -> int:
        """Let rows that failed wait again, all of a scan or those of ``ids``, with all their tries; how many did."""
        scan_id = self._scan(scan)
        with self.db.atomic():
            count = engine.retry(self.db, self.queue, scan_id, ids=ids)
            if count:
                lifecycle.advance(self.db, scan_id)
        return count

    # -- rows ------------------------------------------------------------------------------------------------------

    @reads
    def get(self, item: Row | int) -> Row:
        """The row with that id, read anew. Raises NotFound."""
        key = self._key(item)[0]
        rows = self._rows([key]) if 0 < key < 2**63 else []
        if not rows:
            command = self.queue.methods.replace("store.", "scanstore ") + " list"
            listed = f"{self.queue.methods}.list(scan)" + ("" if "verified" in command else f" ({command})")
            raise NotFound(f"no {self.queue.noun} {shown(key)}; {listed} shows those of a scan")
        return rows[0]

    def _rows(self, ids: Sequence[int]) -> list[Row]:
        """The rows with these ids, in this order."""
        table = self.model._meta.table_name
        sql = f"SELECT t.* FROM json_each(?) AS i CROSS JOIN {table} AS t ON t.id = i.value"
        found = {row.id: row for row in self.model.raw(sql, dump_json(list(ids)))}
        return [found[each] for each in ids if each in found]

    def _key(self, item: Row | int) -> tuple[int, str | None, int | None]:
        """Id, and of a row also the worker and the attempt that it carries."""
        if isinstance(item, self.model):
            item.check_home()
            return item.id, item.worker, item.attempt
        if isinstance(item, bool) or not isinstance(item, int):
            raise InvalidArgument(f"{shown(item)} is not a {self.queue.noun}; give a row or its id")
        return item, None, None

    def _owner(self, item: Row | int, worker: str | None) -> tuple[int, str, int | None]:
        key, carried, attempt = self._key(item)
        # The attempt that a row carries counts only for the worker that it was claimed by.
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
