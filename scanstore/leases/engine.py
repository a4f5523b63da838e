"""Leases: one mechanism for all work queues, for any number of processes that may die at any point.

A row is pending, leased to a worker until a certain time, or finished. A leased row becomes free in three cases: its
owner ends the lease (:func:`settle`, :func:`fail`, :func:`release`), the lease expires, or the owner's process ends.
The next claim then takes it, or :func:`recover` frees it without a claim.

The attempt number is a fencing token: ``attempt`` grows with every claim of a row and identifies the claim. An expired
lease only frees the row for other workers. Until one of them claims it, its owner may still heartbeat, complete, fail
or release it. A worker whose row was claimed again, settled or cancelled by another one gets LeaseLost and changes
nothing. This holds even if the worker claimed the row again itself.

Failures and lost leases are counted separately. ``retry_count`` grows when an owner fails a row, and ``max_retries``
limits it. ``lost_count`` grows when a lease is lost, and ``max_lost`` limits it: a row that kills its workers
eventually fails, and a row that never failed survives ``MOST_LOST`` crashes.

A process keeps its rows when the machine sleeps or the wall clock jumps, see :mod:`scanstore.db.clocks`.

The cost of a claim does not depend on the number of finished or delayed rows: it reads partial indexes of only the
ready rows and only the leased rows. Delayed rows become ready when their retry is due.

After the clock was set back, times in the future are moved by the difference.

To use leases, a table needs the columns of ``LEASE`` in ``migrations/002_analysis.py`` and a :class:`Queue`. Its keys
and scopes are numbers or text. All functions run in the caller's transaction, or in a new one that takes the write lock
first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from scanstore.db.clocks import clock, kept_until
from scanstore.db.database import Database
from scanstore.db.processes import gone, me
from scanstore.db.values import dump_json, format_time, later, read_time, utcnow
from scanstore.errors import InvalidArgument, LeaseLost, NotFound, shown
from scanstore.leases.checks import check_lease as check_lease
from scanstore.leases.checks import describe_error as describe_error
from scanstore.leases.queue import AUDIT_TASKS as AUDIT_TASKS
from scanstore.leases.queue import CHUNKS as CHUNKS
from scanstore.leases.queue import DRAFTS as DRAFTS
from scanstore.leases.queue import JOBS as JOBS
from scanstore.leases.queue import LEASE as LEASE
from scanstore.leases.queue import MOST_LOST as MOST_LOST
from scanstore.leases.queue import MOST_RETRIES as MOST_RETRIES
from scanstore.leases.queue import QUEUES as QUEUES
from scanstore.leases.queue import SESSION_TASKS as SESSION_TASKS
from scanstore.leases.queue import VERIFIED as VERIFIED
from scanstore.leases.queue import Key as Key
from scanstore.leases.queue import Queue as Queue
from scanstore.leases.queue import Recovered as Recovered
from scanstore.leases.queue import Scope as Scope
from scanstore.leases.queue import State as State

RETRY_DELAY = 2.0  #: seconds before the first retry; doubles with each
LONGEST_DELAY = 3600.0
LAST_ERROR = 4000  #: characters of an error that are kept
UNLIMITED = "9e18"  #: more rows than are ever leased at once
Values = Mapping[str, object]
NO_VALUES: Values = {}


# Claiming


def claim_one(
    db: Database,
    queue: Queue,
    scope: Scope,
    *,
    worker: str,
    lease: float,
    most: str = UNLIMITED,
    guard: str = "1",
    more: str = "NULL",
    values: Values = NO_VALUES,
) -> tuple[Any, ...] | None:
    """Lease the first row in one statement; return its id, attempt, retries, end of lease, and ``more``.

    None, and nothing is changed, unless ``guard`` and the queue's own guard hold, fewer than ``most`` rows are leased
    (expressions over ``:scope`` and the ``values``), and no lease has expired and no retry is due: :func:`claim` looks
    after those first. ``more`` is an expression over the row.
    """
    taking = {**_taking(scope, utcnow(), worker, lease), **values}
    rows = db.execute_sql(_claim_one(queue, most, guard, more), taking).fetchall()
    return rows[0] if rows else None


@lru_cache
def _claim_one(queue: Queue, most: str, guard: str, more: str) -> str:
    waits = f"{queue.scope} = :scope AND status = '{queue.waiting}' AND next_retry_at IS NOT NULL"
    return (
        f"UPDATE {queue.table} SET {_taken(queue)}"
        f" WHERE id = (SELECT id FROM {queue.table} INDEXED BY {queue.on('ready')}"
        f" WHERE {queue.scope} = :scope AND status = '{queue.waiting}' AND next_retry_at IS NULL AND {guard}"
        f" AND {queue.guard} AND (SELECT count(*) < {most} AND min(lease_until) > :now IS NOT FALSE"
        f" AND max(updated_at) <= :now IS NOT FALSE FROM {queue.table} INDEXED BY {queue.on('leased')}"
        f" WHERE {queue.scope} = :scope AND status = '{queue.leased}')"
        f" AND NOT EXISTS (SELECT 1 FROM {queue.table} INDEXED BY {queue.on('delayed')}"
        f" WHERE {waits} AND next_retry_at <= :now)"
        f" AND NOT EXISTS (SELECT 1 FROM {queue.table} INDEXED BY {queue.on('touched')}"
        f" WHERE {waits} AND updated_at > :now)"
        f" ORDER BY rank, id LIMIT 1) RETURNING id, attempt, retry_count, lease_until, {more}"
    )


_TAKEN = (
    "status = '{leased}', attempt = attempt + 1, worker = :worker, process = :process, lease_until = :until,"
    " lease_clock = :clock, updated_at = :now, {error} = NULL"
)


def _taken(queue: Queue) -> str:
    return _TAKEN.format(leased=queue.leased, error=queue.error) + (f", {queue.taken}" if queue.taken else "")


def _taking(scope: Scope, now: datetime, worker: str, lease: float) -> dict[str, Any]:
    return {
        "worker": worker,
        "process": me(),
        "until": _after(now, lease),
        "clock": clock(now),
        "now": format_time(now),
        "scope": scope,
    }


def claim(
    db: Database,
    queue: Queue,
    scope: Scope,
    *,
    worker: str,
    limit: int,
    lease: float,
    most: int | None = None,
    max_lost: int = MOST_LOST,
    values: Values = NO_VALUES,
) -> dict[Any, int]:
    """Lease the first ``limit`` rows for ``lease`` seconds. Return their ids, in order, and their attempts.

    At most ``most`` rows of the scope are leased at once. Runs inside the caller's immediate transaction.
    """
    now = utcnow()

    def take(limit: int) -> dict[Any, int]:
        if not queue.one_by_one:
            return _take(db, queue, scope, now, worker, limit, lease, most, values)
        taken: dict[Any, int] = {}
        while len(taken) < limit and (
            row := claim_one(db, queue, scope, worker=worker, lease=lease, values=values)
        ):  # fmt: skip
            taken[row[0]] = row[1]
        return taken

    free_expired(db, queue, scope, max_lost=max_lost, now=now)
    found = take(limit)
    if len(found) < limit and any(_fail_exhausted(db, queue, scope, now, max_lost)):
        found |= take(limit - len(found))
        ranks = f"SELECT id FROM {queue.table} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY rank, id"
        found = {key: found[key] for (key,) in db.execute_sql(ranks, (dump_json(list(found)),)).fetchall()}
    return found


def _take(
    db: Database,
    queue: Queue,
    scope: Scope,
    now: datetime,
    worker: str,
    limit: int,
    lease: float,
    most: int | None,
    values: Values,
) -> dict[Any, int]:
    rows = db.execute_sql(
        f"UPDATE {queue.table} SET {_taken(queue)}"
        f" WHERE id IN (SELECT id FROM {queue.table} INDEXED BY {queue.on('ready')}"
        f" WHERE {queue.scope} = :scope AND status = '{queue.waiting}' AND next_retry_at IS NULL"
        f" AND {queue.guard} ORDER BY rank, id LIMIT {_room(queue, most)}) RETURNING rank, id, attempt",
        {**_taking(scope, now, worker, lease), **values, "limit": min(limit, 2**31), "most": most},
    ).fetchall()
    return {key: attempt for _, key, attempt in sorted(rows)}


def _room(queue: Queue, most: int | None) -> str:
    """Return the number of rows that can still be leased, as an SQL expression."""
    if most is None:
        return ":limit"
    leased = (
        f"SELECT count(*) FROM {queue.table} INDEXED BY {queue.on('leased')}"
        f" WHERE {queue.scope} = :scope AND status = '{queue.leased}'"
    )
    return f"max(0, min(:limit, :most - ({leased})))"


class Standing(NamedTuple):
    """The times of a queue: for leased rows, the first expiry and the latest heartbeat; for delayed rows, the first due
    time and the latest update.
    """

    until: str | None
    leased_at: str | None
    due: str | None
    delayed_at: str | None


def _standing(db: Database, queue: Queue, scope: Scope) -> Standing:
    leased = f"{queue.scope} = :scope AND status = '{queue.leased}'"
    waits = f"{queue.scope} = :scope AND status = '{queue.waiting}' AND next_retry_at IS NOT NULL"
    row = db.execute_sql(
        "SELECT min(lease_until), max(updated_at),"
        f" (SELECT min(next_retry_at) FROM {queue.table} INDEXED BY {queue.on('delayed')} WHERE {waits}),"
        f" (SELECT max(updated_at) FROM {queue.table} INDEXED BY {queue.on('touched')} WHERE {waits})"
        f" FROM {queue.table} INDEXED BY {queue.on('leased')} WHERE {leased}",
        {"scope": scope},
    ).fetchone()
    return Standing(*(None if time is None else str(time) for time in row))  # SQLite sorts bytes after any time


def free_expired(
    db: Database, queue: Queue, scope: Scope, *, max_lost: int = MOST_LOST, now: datetime | None = None
) -> None:
    """Free expired leases and make due rows ready, inside the caller's transaction, before a claim."""
    now = now if now is not None else utcnow()
    text = format_time(now)
    standing = _standing(db, queue, scope)
    if max(standing.leased_at or "", standing.delayed_at or "") > text:
        _follow_the_clock(db, queue, scope, "leased", "lease_until", now)
        _follow_the_clock(db, queue, scope, "delayed", "next_retry_at", now)
        standing = _standing(db, queue, scope)
    if standing.until is not None and standing.until <= text:
        _expire(db, queue, scope, now, max_lost)
    if standing.due is not None and standing.due <= text:
        db.execute_sql(
            f"UPDATE {queue.table} SET next_retry_at = NULL, updated_at = ?"
            f" WHERE {queue.scope} = ? AND status = '{queue.waiting}' AND next_retry_at <= ?",
            (text, scope, text),
        )


def _follow_the_clock(db: Database, queue: Queue, scope: Scope, index: str, column: str, now: datetime) -> None:
    """Adjust times in the future after the clock was set back."""
    status = queue.leased if index == "leased" else queue.waiting
    floor = queue.not_before if index == "delayed" and queue.not_before else "NULL"
    rows = db.execute_sql(
        f"SELECT id, {column}, updated_at, {floor} FROM {queue.table} INDEXED BY {queue.on(index)}"
        f" WHERE {queue.scope} = ? AND status = '{status}' AND {column} IS NOT NULL AND updated_at > ?",
        (scope, format_time(now)),
    ).fetchall()
    changes = []
    for key, until, touched, earliest in rows:
        rest = read_time(until) - read_time(touched)
        moved = format_time(later(now, max(rest, timedelta(0))))
        changes.append((max(moved, earliest or ""), format_time(now), clock(now), key))
    db.executemany(
        f"UPDATE {queue.table} SET {column} = ?, updated_at = ?,"
        " lease_clock = CASE WHEN lease_clock IS NOT NULL THEN ? END WHERE id = ?",
        changes,
    )


def _outlived(
    db: Database, queue: Queue, scope: Scope | None, now: datetime, index: str = "leased"
) -> list[tuple[datetime, Any]]:
    """Return the leases that have expired by the wall clock but are still valid, with their real end and row."""
    where, values = ("1", ()) if scope is None else (f"{queue.scope} = ?", (scope,))
    rows = db.execute_sql(
        f"SELECT id, process, lease_until, lease_clock FROM {queue.table} INDEXED BY {queue.on(index)}"
        f" WHERE {where} AND status = '{queue.leased}' AND lease_until <= ?",
        (*values, format_time(now)),
    ).fetchall()
    found = [(kept_until(process, until, before, now), key) for key, process, until, before in rows]
    return [(until, key) for until, key in found if until > now]


def keep(db: Database, queue: Queue, scope: Scope | None, now: datetime, index: str = "leased") -> None:
    """Extend the leases of live processes of this machine by the jump of the wall clock since they were taken."""
    db.executemany(
        f"UPDATE {queue.table} SET lease_until = ?, lease_clock = ?, updated_at = ? WHERE id = ?",
        [
            (format_time(until), clock(now), format_time(now), key)
            for until, key in _outlived(db, queue, scope, now, index)
        ],
    )


def _expire(db: Database, queue: Queue, scope: Scope | None, now: datetime, max_lost: int) -> Recovered:
    """Free the expired leases, except those that live processes of this machine keep."""
    keep(db, queue, scope, now)
    where, values = ("1", ()) if scope is None else (f"{queue.scope} = ?", (scope,))
    text = format_time(now)
    # A lease that was updated in the future has not expired: the clock was set back.
    where += " AND lease_until <= ? AND updated_at <= ?"
    return _free(db, queue, where, (*values, text, text), "its lease ran out", now, max_lost)


def _fail_exhausted(db: Database, queue: Queue, scope: Scope | None, now: datetime, max_lost: int) -> Recovered:
    """Free the rows of dead processes of this machine."""
    where, values = ("1", ()) if scope is None else (f"{queue.scope} = ?", (scope,))
    holders = db.execute_sql(
        f"SELECT DISTINCT process FROM {queue.table} INDEXED BY {queue.on('leased')}"
        f" WHERE {where} AND status = '{queue.leased}'",
        values,
    ).fetchall()
    freed = Recovered(0, 0)
    for (process,) in holders:
        if gone(process):
            more = _free(db, queue, f"{where} AND process IS ?", (*values, process), "its process ended", now, max_lost)
            freed = Recovered(freed.waiting + more.waiting, freed.failed + more.failed)
    return freed


def _free(
    db: Database, queue: Queue, where: str, values: Sequence[object], why: str, now: datetime, max_lost: int
) -> Recovered:
    """Free leased rows whose owner is lost. Until the next claim, the owner may still complete the row. A row that has
    lost too many leases fails.
    """
    failed = f"CASE WHEN lost_count >= {queue.most_lost or str(int(max_lost))} THEN"
    ended, time = (f" {queue.ended} = {failed} ? END,", [format_time(now)]) if queue.ended else ("", [])
    rows = db.execute_sql(
        f"UPDATE {queue.table} SET status = {failed} 'failed' ELSE '{queue.waiting}' END,"
        f" {queue.error} = {failed} 'given up after ' || (lost_count + 1)"
        "   || ' lost leases; the last worker was ' || coalesce(worker, 'unknown') || ': ' || ? END,"
        f"{ended} lease_clock = {failed} NULL ELSE coalesce(lease_clock, 0) END,"
        " lost_count = lost_count + 1, lease_until = NULL, updated_at = ?"
        f" WHERE status = '{queue.leased}' AND {where} RETURNING id, status",
        (why, *time, format_time(now), *values),
    ).fetchall()
    if rows and queue.freed is not None:
        queue.freed(db, rows, why)
    over = sum(status == "failed" for _, status in rows)
    return Recovered(len(rows) - over, over)


# Functions for the owner of a lease


def settle(
    db: Database, queue: Queue, key: Key, to: str, *, worker: str, attempt: int | None = None, **columns: object
) -> bool:
    """Move a leased row to a final status and set other columns, inside the caller's transaction.

    Returns False if the same worker has already settled it in this way, so repeating the call is harmless. Raises
    LeaseLost if the row is not leased to this worker, and NotFound.
    """
    now = format_time(utcnow())
    assignments = "".join(f", {column} = ?" for column in columns)
    done = db.execute_sql(
        f"UPDATE {queue.table} SET status = ?, lease_until = NULL, lease_clock = NULL, {queue.error} = NULL,"
        f" updated_at = ?{assignments} WHERE id = ? AND {_owned(queue, attempt)}",
        (to, now, *columns.values(), key, *_owner(worker, attempt)),
    )
    if done.rowcount:
        return True
    row = _look(db, queue, key)
    if row["status"] == to and row["worker"] == worker and attempt in (None, row["attempt"]):
        return False
    raise _lost(queue, key, row, worker)


def settle_one(
    db: Database, queue: Queue, key: Key, to: str, *, scope: Scope, worker: str, attempt: int | None, guard: str
) -> bool:
    """Settle a row in one statement, if other rows of its scope are ready and ``guard``, a condition on ``?``, holds.

    Otherwise returns False and changes nothing; call :func:`settle` instead.
    """
    now = format_time(utcnow())
    values = (to, now, key, *_owner(worker, attempt), scope, scope)
    return bool(db.execute_sql(_settle_one(queue, attempt is None, guard), values).rowcount)


@lru_cache
def _settle_one(queue: Queue, any_attempt: bool, guard: str) -> str:
    return (
        f"UPDATE {queue.table} SET status = ?, lease_until = NULL, lease_clock = NULL, {queue.error} = NULL,"
        f" updated_at = ? WHERE id = ? AND status = '{queue.leased}' AND {_owned(queue, None if any_attempt else 0)}"
        f" AND EXISTS (SELECT 1 FROM {queue.table} INDEXED BY {queue.on('ready')}"
        f" WHERE {queue.scope} = ? AND status = '{queue.waiting}' AND next_retry_at IS NULL) AND {guard}"
    )


def fail(
    db: Database,
    queue: Queue,
    key: Key,
    error: str,
    *,
    worker: str,
    attempt: int | None = None,
    max_retries: int = MOST_RETRIES,
    delay: float = RETRY_DELAY,
    retry: bool = True,
) -> str:
    """Fail a leased row with an error. Return its status: pending with a retry time, or ``failed``.

    The retry is due after ``delay`` seconds, doubled with each retry, at most an hour. After ``max_retries``, or with
    ``retry=False``, the row fails. If the rows of a queue have their own limit, that one counts. Raises LeaseLost and
    NotFound.
    """
    now = utcnow()
    if not isinstance(retry, bool):
        raise InvalidArgument(f"retry is {shown(retry)}; it must be True or False")
    text = format_time(now)
    with db.atomic():
        row = _look(db, queue, key)
        again = retry and row["retry_count"] < row.get("most_retries", max_retries)
        wait = min(delay * 2 ** min(row["retry_count"], 30), LONGEST_DELAY)
        done = db.execute_sql(
            f"UPDATE {queue.table} SET status = ?, lease_until = NULL, lease_clock = NULL, next_retry_at = ?,"
            f" retry_count = retry_count + ?, {queue.error} = ?, updated_at = ?"
            f"{f', {queue.ended} = ?' if queue.ended else ''}"
            f" WHERE id = ? AND {_owned(queue, attempt)}",
            (
                queue.waiting if again else "failed",
                _after(now, wait) if again and wait else None,
                int(again),
                error[:LAST_ERROR],
                text,
                *((None if again else text,) if queue.ended else ()),
                key,
                *_owner(worker, attempt),
            ),
        )
        if not done.rowcount:
            raise _lost(queue, key, row, worker)
    return queue.waiting if again else "failed"


def release(db: Database, queue: Queue, key: Key, *, worker: str, attempt: int | None = None) -> None:
    """Release a leased row unchanged: it is ready immediately and no retry is counted. Raises LeaseLost, NotFound."""
    now = format_time(utcnow())
    done = db.execute_sql(
        f"UPDATE {queue.table} SET status = '{queue.waiting}', lease_until = NULL, lease_clock = NULL, updated_at = ?"
        f" WHERE id = ? AND {_owned(queue, attempt)}",
        (now, key, *_owner(worker, attempt)),
    )
    if not done.rowcount:
        raise _lost(queue, key, _look(db, queue, key), worker)


def heartbeat(
    db: Database,
    queue: Queue,
    key: Key,
    *,
    worker: str,
    attempt: int | None = None,
    lease: float = LEASE,
    **columns: object,
) -> datetime:
    """Extend a lease to ``lease`` seconds from now, set other columns, and return the new end.

    A row that lost its lease and was not claimed since is leased to its owner again, even beyond the limit of
    concurrency. Raises LeaseLost, NotFound.
    """
    now = utcnow()
    until = _after(now, lease)
    set_to = "".join(f", {column} = ?" for column in columns)
    values = (until, clock(now), me(), format_time(now), *columns.values(), key, *_owner(worker, attempt))
    back = f", status = '{queue.leased}', lost_count = max(0, lost_count - 1)"
    for status, again in ((queue.leased, ""), (queue.waiting, back)):
        if db.execute_sql(
            f"UPDATE {queue.table} SET lease_until = ?, lease_clock = ?, process = ?, updated_at = ?{set_to}{again}"
            f" WHERE id = ? AND {_owned(queue, attempt)} AND status = '{status}'"
            f"{f' AND {queue.again}' if again and queue.again else ''}",
            values,
        ).rowcount:
            return read_time(until)
    raise _lost(queue, key, _look(db, queue, key), worker)


def held(db: Database, queue: Queue, key: Key, *, worker: str, attempt: int | None = None) -> None:
    """Raise LeaseLost unless the row is leased to this worker. Raises NotFound. Changes nothing."""
    sql = f"SELECT 1 FROM {queue.table} WHERE id = ? AND {_owned(queue, attempt)}"
    if not db.execute_sql(sql, (key, *_owner(worker, attempt))).fetchall():
        raise _lost(queue, key, _look(db, queue, key), worker)


def _owned(queue: Queue, attempt: int | None) -> str:
    # An expired lease still belongs to its owner, until the next claim or the owner's own report.
    mine = f"worker = ? AND (status = '{queue.leased}' OR status = '{queue.waiting}' AND lease_clock IS NOT NULL)"
    return mine if attempt is None else mine + " AND attempt = ?"


def _owner(worker: str, attempt: int | None) -> tuple[Any, ...]:
    return (worker,) if attempt is None else (worker, attempt)


def _look(db: Database, queue: Queue, key: Key) -> dict[str, Any]:
    columns = {name: name for name in ("status", "worker", "attempt", "retry_count", "lease_until", "next_retry_at")}
    if queue.most_retries:
        columns["most_retries"] = queue.most_retries
    row = db.execute_sql(f"SELECT {', '.join(columns.values())} FROM {queue.table} WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise NotFound(f"{queue.noun} {key} is not there, or was never claimed; claim one with {queue.methods}.claim")
    return dict(zip(columns, row, strict=True))


def _lost(queue: Queue, key: Key, row: dict[str, object], worker: str) -> LeaseLost:
    """Return the error for a worker that does not own the row, with the remedy for the row's status."""
    status = state = row["status"]
    remedy = f"claim it with {queue.methods}.claim, and for longer work with a longer lease or a heartbeat"
    if status == queue.waiting:
        state = "waiting"
    elif status == queue.leased:
        state = "leased to a later claim of yours" if row["worker"] == worker else f"leased to {row['worker']}"
    elif status in ("failed", "cancelled"):
        remedy = f"to have it done after all, let it wait again: {queue.retry}"
        if status == "cancelled" and queue.table == "audit_tasks":
            remedy = "to have it done after all, add the document again: store.audits.add"
    else:
        remedy = "nothing is left to do about it"
    return LeaseLost(f"{queue.noun} {key} is {state}, so {worker} cannot settle it; {remedy}")


# Functions for a whole queue


def any_lost(db: Database, queue: Queue, scope: Scope | None) -> bool:
    """Whether :func:`recover` may have something to free, in a scope or in all; only reads."""
    now = format_time(utcnow())
    where, values = ("1", ()) if scope is None else (f"{queue.scope} = ?", (scope,))
    holders = db.execute_sql(
        f"SELECT process, min(lease_until) FROM {queue.table} INDEXED BY {queue.on('leased')}"
        f" WHERE {where} AND status = '{queue.leased}' GROUP BY process",
        values,
    ).fetchall()
    return any(str(until) <= now or gone(process) for process, until in holders)


def recover(db: Database, queue: Queue, scope: Scope | None = None, *, max_lost: int = MOST_LOST) -> Recovered:
    """Free the expired leases and those of dead processes, of one scope or of all. Atomic."""
    now = utcnow()
    with db.atomic():
        late = _expire(db, queue, scope, now, max_lost)
        dead = _fail_exhausted(db, queue, scope, now, max_lost)
    return Recovered(late.waiting + dead.waiting, late.failed + dead.failed)


def state(db: Database, queue: Queue, scope: Scope | None, *, finished: bool = True) -> State:
    """Return the state of a queue, in one scope or in all (None).

    It reads counters where they are kept, and of the rows only those that are leased, delayed or have lost leases.
    Without counters it counts all rows. With ``finished=False`` it leaves out finished rows and their lost leases, and
    reads only the partial indexes of the others: a loop that waits asks several times a second.
    """
    moment = utcnow()
    now = format_time(moment)
    where, values = ("?2 IS NULL", (now, None)) if scope is None else (f"{queue.scope} = ?2", (now, scope))
    counted = f"work_counts WHERE kind = '{queue.kind}' AND" if queue.kind else f"{queue.table} WHERE"
    number = "sum(count)" if queue.kind else "count(*)"
    sql = f"SELECT status, {number} FROM {counted} {where} GROUP BY status"
    if not finished and not queue.kind:
        waits = f"status = '{queue.waiting}' AND next_retry_at IS"
        parts = {"ready": f"{waits} NULL", "delayed": f"{waits} NOT NULL", "leased": f"status = '{queue.leased}'"}
        sql = " UNION ALL ".join(
            f"SELECT status, count(*) FROM {queue.table} INDEXED BY {queue.on(part)} WHERE {where} AND {its} GROUP BY 1"
            for part, its in parts.items()
        )
    counts: Counter[str] = Counter()
    for status, count in db.execute_sql(sql, values).fetchall():
        counts[status] += count
    lost_leases = f"{queue.table} INDEXED BY {queue.on('lost')} WHERE {where} AND lost_count > 0"
    first, out, lost = db.execute_sql(
        "SELECT min(lease_until) FILTER (WHERE lease_until > ?1), coalesce(sum(lease_until <= ?1), 0),"
        f" {f'(SELECT coalesce(sum(lost_count), 0) FROM {lost_leases})' if finished else 0}"
        f" FROM {queue.table} INDEXED BY {queue.on('leased')} WHERE {where} AND status = '{queue.leased}'",
        values,
    ).fetchone()
    due, waiting = db.execute_sql(
        f"SELECT min(next_retry_at), count(*) FROM {queue.table} INDEXED BY {queue.on('delayed')}"
        f" WHERE {where} AND status = '{queue.waiting}' AND next_retry_at > ?1",
        values,
    ).fetchone()
    following = [time for time in (due, first) if time is not None and time > now]
    if out:
        kept = [format_time(until) for until, _ in _outlived(db, queue, scope, moment)]
        out, following = out - len(kept), following + kept
    return State(
        ready=counts[queue.waiting] - waiting + out,
        delayed=waiting,
        leased=counts[queue.leased] - out,
        done=sum(counts[status] for status in queue.done),
        failed=counts["failed"],
        skipped=counts["skipped"] + counts["cancelled"],
        next_at=read_time(min(following)) if following else None,
        lost=lost,
    )


def _after(now: datetime, seconds: float) -> str:
    return format_time(now + timedelta(seconds=seconds))
