"""The stages of a scan's analysis: chunks, drafts and verified findings as leased work.

The calls are those of :mod:`scanstore.leases.work`, the scan's part is in :mod:`scanstore.analysis.lifecycle`. A stage
adds what completing one of its rows means.

The three stages of a scan run side by side. A stage is finished only when the stages before it are, since each chunk
may add drafts, and each draft a verified finding. :meth:`Stage.work` waits for earlier stages as long as some worker is
active in them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from scanstore.analysis import lifecycle
from scanstore.db.arguments import number_of
from scanstore.db.rows import Rows
from scanstore.errors import IllegalMove, NotFound
from scanstore.leases import engine
from scanstore.leases.engine import QUEUES, Queue, Recovered, State
from scanstore.leases.work import LeasedWork, Loop
from scanstore.snapshots.models import Scan, ScanFileChunk
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.analysis.models import Leased
    from scanstore.db.database import Database
    from scanstore.leases.engine import Values
    from scanstore.leases.queue import Key, Scope

Row = TypeVar("Row", bound="ScanFileChunk | Leased")
PATIENCE = 5.0  #: seconds for which an earlier stage may stand still with ready rows and no worker

BEFORE = {
    queue.kind: " + ".join(
        f"coalesce((SELECT sum(count) FROM work_counts WHERE (:scan IS NULL OR scan_id = :scan)"
        f" AND kind = '{earlier.kind}' AND (status = '{earlier.waiting}' OR status = '{earlier.leased}')), 0)"
        for earlier in QUEUES[: QUEUES.index(queue)]
    )
    for queue in QUEUES
}
# Scans that hand out work of a kind.
WITH_WORK = """
SELECT s.id FROM scans AS s INDEXED BY ix_scans_active
 WHERE (s.status = 'queued' OR s.status = 'running') AND s.active_since IS NOT NULL AND EXISTS (
       SELECT 1 FROM work_counts WHERE scan_id = s.id AND kind = ? AND status IN (?, ?) AND count > 0)
 ORDER BY s.id
"""


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


class Stage(LeasedWork[Row, int, "Scan | int"]):
    """Work of one kind, scan by scan.

    No more rows of a scan are leased at once, by all processes together, than its configuration allows. A failed row is
    tried again after the configuration's ``retry_delay`` seconds, doubled with each retry, until its ``max_retries``
    are used up; a row that has lost more than ``max_lost`` leases fails. Too many errors in a row pause the scan.

    :meth:`work` also waits while earlier stages have rows left, since those may add rows to this one, and ends when the
    scan is paused or cancelled. It raises IllegalMove, naming the stage, when an earlier stage has ready rows and no
    worker has held a lease on it for ``PATIENCE`` seconds: it would wait for ever.
    """

    _more: ClassVar[str] = "NULL"  # what a single claim reads of a row besides its lease

    # -- claiming --------------------------------------------------------------------------------------------------

    def _claim(
        self, scope: Scope | None, worker: str, limit: int, lease: float, values: Values = engine.NO_VALUES
    ) -> Rows[Row]:
        if limit == 1 and scope is not None:  # mostly: one statement
            one = self._claim_one(scope, worker, lease)
            if one is not None:
                return self._claimed_one(one, worker, lease)
        return super()._claim(scope, worker, limit, lease, values)

    def _claim_one(self, scope: Scope, worker: str, lease: float) -> tuple[Any, ...] | None:
        return engine.claim_one(
            self.db, self.queue, scope,
            worker=worker, lease=lease, most=lifecycle.MOST[self.queue.kind], guard=lifecycle.RUNNING, more=self._more,
        )  # fmt: skip

    def _claimed_one(self, one: tuple[Any, ...], worker: str, lease: float) -> Rows[Row]:
        """The row of a single claim."""
        return self._claimed({one[0]: one[1]}, lease)

    def _take(self, scope: Scope, worker: str, limit: int, lease: float, values: Values) -> dict[Any, int]:
        gate = lifecycle.gate(self.db, int(scope), self.queue.kind)
        if not gate.open:
            return {}
        found = engine.claim(
            self.db, self.queue, scope,
            worker=worker, limit=limit, lease=lease, most=gate.concurrency, max_lost=gate.max_lost,
        )  # fmt: skip
        if not found:  # the last row that was freed may have failed
            lifecycle.advance(self.db, int(scope))
        return found

    def _halted(self, loop: Loop, state: State) -> bool:
        scope = loop.scope
        if scope is None:
            return not self._scopes() and not state.before
        if not lifecycle.terms(self.db, int(scope), self.queue.kind).open:
            return True
        if state.ready or state.delayed or state.leased:
            loop.watch = None
        else:
            loop.watch = watch = loop.watch if isinstance(loop.watch, Standstill) else Standstill()
            watch.look(int(scope), self._earlier(int(scope)))
        return False

    def _earlier(self, scan_id: int) -> list[tuple[Queue, State]]:
        """The stages before this one and where they stand, once the leases of dead workers are freed."""
        earlier = QUEUES[: QUEUES.index(self.queue)]
        for queue in earlier:
            if engine.any_lost(self.db, queue, scan_id):
                _recover(self.db, queue, scan_id)
        return [(queue, engine.state(self.db, queue, scan_id)) for queue in earlier]

    # -- what an owner does ----------------------------------------------------------------------------------------

    def _fail(self, key: Key, error: str, owner: str, attempt: int | None, retry: bool) -> str:
        scan_id = self._scan_of(key)
        gate = lifecycle.terms(self.db, scan_id, self.queue.kind)
        status = engine.fail(
            self.db, self.queue, key, error,
            worker=owner, attempt=attempt, max_retries=gate.max_retries, delay=gate.retry_delay, retry=retry,
        )  # fmt: skip
        lifecycle.count_error(self.db, scan_id, error)
        if status == "failed":
            lifecycle.advance(self.db, scan_id)
        return status

    def _settle(self, item: Row | int, to: str, *, worker: str | None, **columns: object) -> bool:
        """Settle a leased row and tell the scan, inside the caller's transaction; False when it was so already."""
        key, owner, attempt = self._owner(item, worker)
        moved = engine.settle(self.db, self.queue, key, to, worker=owner, attempt=attempt, **columns)
        if moved:
            lifecycle.advance(self.db, self._scan_of(key), steady=True)
        return moved

    def _retry(self, key: Key) -> None:
        super()._retry(key)
        lifecycle.advance(self.db, self._scan_of(key))

    # -- the whole -------------------------------------------------------------------------------------------------

    def _state(self, scope: Scope | None) -> State:
        # Counted first: what an earlier stage adds meanwhile is then among the rows of this one.
        before = BEFORE[self.queue.kind]
        rows = self.db.execute_sql(f"SELECT {before}", {"scan": scope}).fetchone()[0] if before else 0
        return engine.state(self.db, self.queue, scope)._replace(before=rows)

    def _left(self, scope: Scope | None) -> State:
        return self._state(scope)  # from counters

    def _recover(self, scope: Scope | None) -> Recovered:
        return _recover(self.db, self.queue, scope)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _scope(self, scope: Scan | int | None) -> int | None:
        return None if scope is None else self._scan(scope)

    def _claim_scope(self, scope: Scan | int | None) -> int | None:
        return None if scope is None else number_of(scope, "a scan", Scan)

    def _scopes(self) -> list[Scope]:
        words = (self.queue.kind, self.queue.waiting, self.queue.leased)
        return [key for (key,) in self.db.execute_sql(WITH_WORK, words).fetchall()]

    def _unknown(self, key: Key) -> NotFound:
        command = self.queue.methods.replace("store.", "scanstore ") + " list"
        listed = f"{self.queue.methods}.list(scan)" + ("" if "verified" in command else f" ({command})")
        return NotFound(f"no {self.queue.noun} {key}; {listed} shows those of a scan")

    def _id(self, item: Row | int) -> int:
        return number_of(item, f"a {self.queue.noun}", self.model)

    def _scan(self, scan: Scan | int) -> int:
        return int(Scans(self.db).get(scan).id)

    def _scan_of(self, key: Key) -> int:
        row = self.db.execute_sql(f"SELECT scan_id FROM {self.queue.table} WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise NotFound(
                f"{self.queue.noun} {key} is not there, or was never claimed; claim one with {self.queue.methods}.claim"
            )
        return int(row[0])


def _recover(db: Database, queue: Queue, scan_id: Scope | None) -> Recovered:
    where = "" if scan_id is None else " AND scan_id = ?"
    waiting = failed = 0
    scans = db.execute_sql(
        f"SELECT DISTINCT scan_id FROM {queue.table} INDEXED BY {queue.on('leased')}"
        f" WHERE status = '{queue.leased}'{where}",
        () if scan_id is None else (scan_id,),
    ).fetchall()
    for (each,) in scans:
        with db.atomic():
            found = engine.recover(db, queue, each, max_lost=lifecycle.terms(db, each, queue.kind).max_lost)
            lifecycle.advance(db, each)
        waiting, failed = waiting + found.waiting, failed + found.failed
    return Recovered(waiting, failed)
