"""Applying and reverting a plan: one change after another, in short transactions.

The applying process holds a lease of the plan. Another process takes over when that process has ended, or when it is on
another machine and its lease has expired. Every transaction checks that the lease is still held, reads the change and
the current value, and sets the status of the plan. A crash at any moment therefore leaves the plan consistent.

Without a handler, several changes share a transaction, to save waits for the disk. With a handler, each change has two
transactions, and the handler is called between them: the first counts the attempt, the second records the outcome. The
second ignores decisions that were made during the call, because the change has already happened.

Change here: how a change is applied or reverted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from scanstore.db.arguments import check_bool
from scanstore.db.blocks import Scope
from scanstore.db.clocks import over
from scanstore.db.notebooks import described
from scanstore.db.processes import alive, gone, me
from scanstore.db.progress import Meter
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NotFound, StorageError, shown
from scanstore.leases.engine import LAST_ERROR, check_lease
from scanstore.plans.changes import FIELDS, Effect, Field, backward, forward, read, write
from scanstore.plans.models import PlanChange, settle

if TYPE_CHECKING:
    from scanstore.db.database import Database
    from scanstore.db.progress import ProgressCallback
    from scanstore.plans.models import AnalysisPlan

Handler = Callable[[PlanChange], object]
SHORT = 0.05  #: maximum seconds of a transaction over several changes
_running: set[tuple[str, int]] = set()  # the plans that this process applies or reverts: (file, plan)


class PlanLookup(Protocol):
    """The methods of :class:`scanstore.plans.plans.Plans` that applying uses."""

    db: Database

    def _open(self, plan: AnalysisPlan | int, statuses: tuple[str, ...], what: str) -> AnalysisPlan: ...
    def _check_ids(self, plan_id: int, keys: list[int], statuses: tuple[str, ...], to: str) -> None: ...


@described
class Applied(NamedTuple):
    """The number of changes that were applied, skipped because their value is in conflict, and failed."""

    applied: int = 0
    skipped: int = 0
    failed: int = 0


@described
class Reverted(NamedTuple):
    """The number of changes that were reverted, kept because the value has changed since, and failed."""

    reverted: int = 0
    kept: int = 0
    failed: int = 0


class _Row(NamedTuple):
    """A change as it is applied."""

    id: int
    status: str
    target: str
    target_key: str
    finding_id: int | None
    field: str
    action: str
    current: str | None
    proposed: str | None
    found: str | None
    reviewer: str | None


ROW = """
SELECT id, status, target, target_key, finding_id, field, action, current_value, proposed_value, found_value, reviewer
  FROM plan_changes WHERE id = ? AND plan_id = ?
"""
# Times of changes to the same value always increase, even if the clock is set back, because reverting sorts by them.
APPLIED = """
UPDATE plan_changes SET status = 'applied', found_value = :found, conflict = :conflict, error = NULL,
       scene_id = CASE target WHEN 'scene' THEN target_key END, tries = tries + :tries, updated_at = :now,
       applied_at = max(:now, coalesce(
           (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', max(o.applied_at), '+0.001 seconds') FROM plan_changes AS o
             WHERE o.plan_id = plan_changes.plan_id AND o.target = plan_changes.target
               AND o.target_key = plan_changes.target_key AND o.field = plan_changes.field), :now))
 WHERE id = :id
"""
REFUSED = """
UPDATE plan_changes SET status = ?, found_value = ?, conflict = ?, error = ?, tries = tries + ?, updated_at = ?
 WHERE id = ?
"""
REVERTED = "UPDATE plan_changes SET status = 'reverted', conflict = 0, error = NULL, updated_at = ? WHERE id = ?"
KEPT = "UPDATE plan_changes SET conflict = ?, error = ?, updated_at = ? WHERE id = ?"


def apply(
    plans: PlanLookup,
    plan: AnalysisPlan | int,
    ids: list[int] | None,
    handler: Handler | None,
    *,
    force: bool,
    lease: float,
    progress: ProgressCallback | None,
) -> Applied:
    """See :meth:`scanstore.plans.plans.Plans.apply`."""

    def chosen(plan_id: int) -> list[int]:
        if ids is None:
            sql = "SELECT id FROM plan_changes WHERE plan_id = ? AND status = 'approved' ORDER BY id"
            return [key for (key,) in plans.db.execute_sql(sql, (plan_id,)).fetchall()]
        plans._check_ids(plan_id, ids, ("approved", "applied", "failed", "skipped"), "applied")
        return ids

    run = _Run(plans, handler, force, lease, progress, undo=False)
    count = run.all(plan, ("reviewing",), "be applied", chosen)
    return Applied(*(count.get(outcome, 0) for outcome in Applied._fields))


def revert(
    plans: PlanLookup,
    plan: AnalysisPlan | int,
    handler: Handler | None,
    *,
    force: bool,
    lease: float,
    progress: ProgressCallback | None,
) -> Reverted:
    """See :meth:`scanstore.plans.plans.Plans.revert`."""

    def chosen(plan_id: int) -> list[int]:
        sql = "SELECT id FROM plan_changes WHERE plan_id = ? AND status = 'applied' ORDER BY applied_at DESC, id DESC"
        keys = [key for (key,) in plans.db.execute_sql(sql, (plan_id,)).fetchall()]
        if not keys:
            raise IllegalMove(f"nothing of plan {plan_id} is applied; there is nothing to revert")
        return keys

    run = _Run(plans, handler, force, lease, progress, undo=True)
    count = run.all(plan, ("reviewing", "applied"), "be reverted", chosen)
    return Reverted(*(count.get(outcome, 0) for outcome in Reverted._fields))


def check_idle(db: Database, plan: AnalysisPlan) -> None:
    """Raise IllegalMove while a plan is being applied or reverted."""
    if plan.lease_until is None or gone(plan.process):
        return
    here = plan.process == me()
    if (db.file, plan.id) in _running if here else _held(plan.process, plan.lease_until):
        raise IllegalMove(f"plan {plan.id} is being applied or reverted by {plan.process}; wait until that is done")


def _held(process: str | None, until: datetime) -> bool:
    return alive(process) or not over(process, until, utcnow())


class _Run:
    """One run of applying or reverting a plan."""

    def __init__(
        self,
        plans: PlanLookup,
        handler: Handler | None,
        force: bool,
        lease: float,
        progress: ProgressCallback | None,
        *,
        undo: bool,
    ) -> None:
        if handler is not None and not callable(handler):
            raise InvalidArgument(f"handler is {shown(handler)}; give a function that takes a change, or None")
        self.meter = Meter(progress)
        check_lease(None, lease)
        if handler is not None and plans.db.in_sqlite_transaction():
            raise IllegalMove("a transaction is open, and a handler would keep all writers out; leave it first")
        self.plans, self.db, self.handler = plans, plans.db, handler
        self.force, self.lease, self.undo = check_bool(force, "force"), lease, undo
        self.plan: Any = None
        self.until = ""
        self.renew_at = math.inf

    # -- the lease ---------------------------------------------------------------------------------------------------

    def _begin(self, plan: AnalysisPlan | int, statuses: tuple[str, ...], what: str) -> None:
        """Take the lease of a plan, inside a transaction."""
        row = self.plans._open(plan, statuses, what)
        check_idle(self.db, row)
        self.plan = row
        self._extend(row.process, None if row.lease_until is None else format_time(row.lease_until))
        _running.add((self.db.file, row.id))

    def _extend(self, process: str | None, until: str | None) -> None:
        now = utcnow()
        new = format_time(now + timedelta(seconds=self.lease))
        done = self.db.execute_sql(
            "UPDATE analysis_plans SET process = ?, lease_until = ? WHERE id = ? AND process IS ? AND lease_until IS ?",
            (me(), new, self.plan.id, process, until),
        )
        if not done.rowcount:
            raise LeaseLost(f"plan {self.plan.id} was taken over by another process, or removed; look at it again")
        self.until, self.renew_at = new, now.timestamp() + self.lease / 2

    def _hold(self) -> None:
        """Check the lease, inside each transaction."""
        now = utcnow().timestamp()
        if now >= self.renew_at or now < self.renew_at - self.lease:
            self._extend(me(), self.until)
            return
        sql = "SELECT 1 FROM analysis_plans WHERE id = ? AND process = ? AND lease_until = ?"
        if not self.db.execute_sql(sql, (self.plan.id, me(), self.until)).fetchall():
            self._extend(me(), self.until)  # raises

    def _end(self) -> None:
        if self.plan is None:
            return
        try:
            self.db.execute_sql(
                "UPDATE analysis_plans SET process = NULL, lease_until = NULL WHERE id = ? AND process = ?",
                (self.plan.id, me()),
            )
        except StorageError:  # the lease ends with the process
            pass
        finally:
            _running.discard((self.db.file, self.plan.id))

    # -- the changes -------------------------------------------------------------------------------------------------

    def all(
        self, plan: AnalysisPlan | int, statuses: tuple[str, ...], what: str, chosen: Callable[[int], list[int]]
    ) -> dict[str | None, int]:
        """Process all selected changes under the lease. Return their number by outcome."""
        count: dict[str | None, int] = {}
        with Scope(lambda: None, self._end):
            with self.db.atomic():
                self._begin(plan, statuses, what)
                keys = chosen(self.plan.id)
            self.meter.total = len(keys)
            left = iter(keys)
            while outcomes := self._some(left) if self.handler is None else self._one(left, self.handler):
                for outcome in outcomes:
                    count[outcome] = count.get(outcome, 0) + 1
                self.meter.add(len(outcomes))
        return count

    def _some(self, keys: Iterator[int]) -> list[str | None]:
        """Process as many changes as fit into one short transaction."""
        done: list[str | None] = []
        with self.db.atomic():
            self._hold()
            end = time.perf_counter() + SHORT
            for key in keys:
                row = self._read(key)
                done.append(
                    None if row is None or self._late(row) else self._record(row, self._look(row), called=False)
                )
                if time.perf_counter() > end:
                    break
            settle(self.db, self.plan.id)
        return done

    def _one(self, keys: Iterator[int], handler: Handler) -> list[str | None]:
        """Process the next change, with its handler between two transactions."""
        key = next(keys, None)
        if key is None:
            return []
        with self.db.atomic():
            self._hold()
            row = self._read(key)
            if row is None or self._late(row):
                return [None]
            looked = self._look(row)
            if isinstance(looked, str) or (looked[1].conflict and not self.force):
                outcome = self._record(row, looked, called=False)
                settle(self.db, self.plan.id)
                return [outcome]
            if not self.undo:
                self.db.execute_sql("UPDATE plan_changes SET tries = tries + 1 WHERE id = ?", (key,))
            change: PlanChange = PlanChange.get_by_id(key)
        change.plan, change.value, change.undoing = self.plan, looked[1].value, self.undo
        error = self._call(handler, change)
        with self.db.atomic():
            self._hold()
            row = self._read(key)
            if row is None:
                return [None]
            outcome = self._record(row, error or self._look(row), called=True)
            settle(self.db, self.plan.id)
            return [outcome]

    def _late(self, row: _Row) -> bool:
        """Whether the decision about a change has changed meanwhile."""
        return row.status != ("applied" if self.undo else "approved")

    @staticmethod
    def _call(handler: Handler, change: PlanChange) -> str | None:
        """Call the handler. Return its error, or None."""
        try:
            answer = handler(change)
        except Exception as error:
            return _words(error)
        if hasattr(answer, "__await__"):
            if hasattr(answer, "close"):
                answer.close()
            raise InvalidArgument("handler is a coroutine function; give a plain function")
        return None

    def _read(self, key: int) -> _Row | None:
        found = self.db.execute_sql(ROW, (key, self.plan.id)).fetchall()
        return _Row(*found[0]) if found else None

    def _look(self, row: _Row) -> tuple[object, Effect] | str:
        """Return the current value and the effect of the change, or the reason why the change is impossible."""
        key = row.target_key if row.target == "scene" else row.finding_id
        values = read(self.db, row.target, [key], [row.field]) if row.field in FIELDS else {}
        if key not in values:
            return f"{row.target} {row.target_key} is gone"
        now = values[key][row.field]
        field, proposed = FIELDS[row.field], _loaded(row.proposed)
        if self.undo:
            return now, backward(field, row.action, now, _loaded(row.found), proposed)
        return now, forward(field, row.action, now, _loaded(row.current), proposed)

    def _record(self, row: _Row, looked: tuple[object, Effect] | str, *, called: bool) -> str:
        """Write the value, if possible, and the outcome. Return the outcome."""
        if isinstance(looked, str):
            return self._refuse(row, "failed", None, looked, called)
        now, effect = looked
        # The handler has already changed the other system, so the outcome is recorded in any case.
        if effect.conflict and not self.force and not called:
            found = dump_json(now)
            why = f"{row.field} is now {found:.200}, which is neither the expected nor the proposed value"
            return self._refuse(row, "skipped", found, why, called)
        return self._write(row, now, effect, called)

    def _write(self, row: _Row, now: object, effect: Effect, called: bool) -> str:
        field: Field = FIELDS[row.field]
        key = row.target_key if row.target == "scene" else row.finding_id
        who = row.reviewer or f"plan {self.plan.id}"
        note = f"change {row.id} of plan {self.plan.id}{' taken back' if self.undo else ''}"
        try:
            write(self.db, field, key, now, effect.value, by=who, note=note, undo=self.undo)
        except (NotFound, IllegalMove) as error:
            return self._refuse(row, "failed", dump_json(now), str(error), called)
        text = format_time(utcnow())
        if self.undo:
            self.db.execute_sql(REVERTED, (text, row.id))
            return "reverted"
        self.db.execute_sql(
            APPLIED,
            {"found": dump_json(now), "conflict": effect.conflict, "tries": not called, "now": text, "id": row.id},
        )
        return "applied"

    def _refuse(self, row: _Row, outcome: str, found: str | None, error: str, called: bool) -> str:
        now = format_time(utcnow())
        error = error.encode("utf-8", "backslashreplace").decode()[:LAST_ERROR]
        conflict = outcome == "skipped"
        if self.undo:
            self.db.execute_sql(KEPT, (conflict, error, now, row.id))
            return "kept" if conflict else outcome
        self.db.execute_sql(REFUSED, (outcome, found, conflict, error, not called, now, row.id))
        return outcome


def _loaded(value: str | None) -> Any:
    return None if value is None else json.loads(value)


def _words(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
