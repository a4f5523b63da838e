"""Leases: one mechanism for every table that is worked through, by any number of processes that may die at any point.

A row waits, is leased to a worker until a certain time, or is over. Only three things free a leased row:
its owner (:func:`settle`, :func:`fail`, :func:`release`), its lease running out, and the end of its owner's process.
The next claim then takes it, or :func:`recover` does without claiming. ``attempt`` grows with every claim of a row; an
owner that comes too late is told apart by it, even from itself, and is refused with LeaseLost.

A claim costs the same however many rows are over or wait for another try: it reads partial indexes that hold only the
rows that are ready, and only those that are leased. Rows that wait for a retry are moved among the ready ones when
their time has come.

The clock may be set back. A row that was touched in what is now the future has its times moved by the difference.

A table that wants this has the columns of ``LEASE`` in ``migrations/002_analysis.py`` and a :class:`Queue`. Its keys,
and what it is divided by, are numbers or text. Everything here runs in the caller's transaction or in one of its own,
which takes the write lock first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from scanstore.arguments import a_whole, some_list
from scanstore.database import Database
from scanstore.errors import InvalidArgument, LeaseLost, NotFound, shown
from scanstore.fields import dump_json, format_time, read_time, utcnow
from scanstore.queues import AUDIT_TASKS as AUDIT_TASKS
from scanstore.queues import CHUNKS as CHUNKS
from scanstore.queues import DRAFTS as DRAFTS
from scanstore.queues import JOBS as JOBS
from scanstore.queues import QUEUES as QUEUES
from scanstore.queues import SESSION_TASKS as SESSION_TASKS
from scanstore.queues import VERIFIED as VERIFIED
from scanstore.queues import Key as Key
from scanstore.queues import Queue as Queue
from scanstore.queues import Scope as Scope
from scanstore.workers import gone, me

LEASE = 600.0  #: seconds that a claim holds unless told otherwise
MOST_RETRIES = 3
RETRY_DELAY = 2.0  #: seconds before the first retry; doubles with each
LONGEST_DELAY = 3600.0
LAST_ERROR = 4000  #: characters of an error that are kept


class Recovered(NamedTuple):
    """Leases that had run out or whose process had ended: rows that wait again, and rows that failed for good."""

    waiting: int
    failed: int


class State(NamedTuple):
    """Where a queue stands. ``ready`` may be claimed now (leases that ran out among them), ``delayed`` wait for their
    next try, the first of which is due at ``next_at``, as is the first lease to run out."""

    ready: int
    delayed: int
    leased: int
    done: int
    failed: int
    skipped: int
    next_at: datetime | None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: nothing ready, nothing delayed, nothing in anybody's hands."""
        return not (self.ready or self.delayed or self.leased)


# Claiming


def claim_one(
    db: Database,
    queue: Queue,
    scope: Scope,
    *,
    worker: str,
    lease: float,
    most: str,
    guard: str,
    more: str,
    values: Mapping[str, Any] | None = None,
) -> tuple[Any, ...] | None:
    """Lease the first row in one statement; return its id, attempt, retries, end of lease, and ``more``.

    Only while ``guard`` holds, fewer than ``most`` are leased (expressions over ``:scope`` and what ``values`` names;
    ``guard`` is also one over the row), and there is nothing to tend first; otherwise nothing is done, and
    :func:`claim` knows why. ``more`` is an expression over the row.
    """
    taking = {**_taking(scope, utcnow(), worker, lease), **(values or {})}
    rows = db.execute_sql(_claim_one(queue, most, guard, more), taking).fetchall()
    return rows[0] if rows else None


@lru_cache
def _claim_one(queue: Queue, most: str, guard: str, more: str) -> str:
    waits = f"{queue.scope} = :scope AND status = '{queue.waiting}' AND next_retry_at IS NOT NULL"
    return (
        f"UPDATE {queue.table} SET {_taken(queue)}"
        f" WHERE id = (SELECT id FROM {queue.table} INDEXED BY {queue.on('ready')}"
        f" WHERE {queue.scope} = :scope AND status = '{queue.waiting}' AND next_retry_at IS NULL AND {guard}"
        f" AND (SELECT count(*) < {most} AND min(lease_until) > :now IS NOT FALSE"
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
    " updated_at = :now, {error} = NULL"
)


def _taken(queue: Queue) -> str:
    return _TAKEN.format(leased=queue.leased, error=queue.error) + (f", {queue.taken}" if queue.taken else "")


def _taking(scope: Scope, now: datetime, worker: str, lease: float) -> dict[str, Any]:
    return {
        "worker": worker,
        "process": me(),
        "until": _after(now, lease),
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
    max_retries: int = MOST_RETRIES,
) -> dict[Any, int]:
    """Lease up to ``limit`` rows for ``lease`` seconds, the first in order; return ids, in order, and their attempts.

    No more than ``most`` rows of the scope are leased at once. Runs inside the caller's immediate transaction.
    """
    now = utcnow()
    tend(db, queue, scope, max_retries=max_retries, now=now)
    found = _take(db, queue, scope, now, worker, limit, lease, most)
    if len(found) < limit and any(_bury(db, queue, scope, now, max_retries)):
        found |= _take(db, queue, scope, now, worker, limit - len(found), lease, most)
        ranks = f"SELECT id FROM {queue.table} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY rank, id"
        found = {key: found[key] for (key,) in db.execute_sql(ranks, (dump_json(list(found)),)).fetchall()}
    return found


def _take(
    db: Database, queue: Queue, scope: Scope, now: datetime, worker: str, limit: int, lease: float, most: int | None
) -> dict[Any, int]:
    rows = db.execute_sql(
        f"UPDATE {queue.table} SET {_taken(queue)}"
        f" WHERE id IN (SELECT id FROM {queue.table} INDEXED BY {queue.on('ready')}"
        f" WHERE {queue.scope} = :scope AND status = '{queue.waiting}' AND next_retry_at IS NULL"
        f" ORDER BY rank, id LIMIT {_room(queue, most)}) RETURNING rank, id, attempt",
        {**_taking(scope, now, worker, lease), "limit": min(limit, 2**31), "most": most},
    ).fetchall()
    return {key: attempt for _, key, attempt in sorted(rows)}


def _room(queue: Queue, most: int | None) -> str:
    """How many rows may be leased more, as an expression."""
    if most is None:
        return ":limit"
    leased = (
        f"SELECT count(*) FROM {queue.table} INDEXED BY {queue.on('leased')}"
        f" WHERE {queue.scope} = :scope AND status = '{queue.leased}'"
    )
    return f"max(0, min(:limit, :most - ({leased})))"


class Standing(NamedTuple):
    """Of what is leased: when the first runs out, and when the latest was touched; of what waits for its retry: when
    the first is due, and when the latest was touched."""

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
    return Standing(*row)


def tend(
    db: Database, queue: Queue, scope: Scope, *, max_retries: int = MOST_RETRIES, now: datetime | None = None
) -> None:
    """Free what ran out and wake what is due, inside the caller's transaction, before a claim."""
    now = now if now is not None else utcnow()
    text = format_time(now)
    standing = _standing(db, queue, scope)
    if max(standing.leased_at or "", standing.delayed_at or "") > text:
        _follow_the_clock(db, queue, scope, "leased", "lease_until", now)
        _follow_the_clock(db, queue, scope, "delayed", "next_retry_at", now)
        standing = _standing(db, queue, scope)
    if standing.until is not None and standing.until <= text:
        _free(
            db, queue, f"{queue.scope} = ? AND lease_until <= ?", (scope, text), "its lease ran out", now, max_retries
        )
    if standing.due is not None and standing.due <= text:
        db.execute_sql(
            f"UPDATE {queue.table} SET next_retry_at = NULL, updated_at = ?"
            f" WHERE {queue.scope} = ? AND status = '{queue.waiting}' AND next_retry_at <= ?",
            (text, scope, text),
        )


def _follow_the_clock(db: Database, queue: Queue, scope: Scope, index: str, column: str, now: datetime) -> None:
    """The clock was set back: what was timed before counts from now."""
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
        moved = format_time(_later(now, max(rest, timedelta(0))))
        changes.append((max(moved, earliest or ""), format_time(now), key))
    db.executemany(f"UPDATE {queue.table} SET {column} = ?, updated_at = ? WHERE id = ?", changes)


def _bury(db: Database, queue: Queue, scope: Scope | None, now: datetime, max_retries: int) -> Recovered:
    """Free what processes of this machine held that are no more."""
    where, values = ("1", ()) if scope is None else (f"{queue.scope} = ?", (scope,))
    holders = db.execute_sql(
        f"SELECT DISTINCT process FROM {queue.table} INDEXED BY {queue.on('leased')}"
        f" WHERE {where} AND status = '{queue.leased}'",
        values,
    ).fetchall()
    freed = Recovered(0, 0)
    for (process,) in holders:
        if gone(process):
            more = _free(
                db, queue, f"{where} AND process IS ?", (*values, process), "its process ended", now, max_retries
            )
            freed = Recovered(freed.waiting + more.waiting, freed.failed + more.failed)
    return freed


def _free(
    db: Database, queue: Queue, where: str, values: Sequence[Any], why: str, now: datetime, max_retries: int
) -> Recovered:
    """End leases that nobody will end; a row that was given up too often has failed."""
    most = queue.most_retries or str(int(max_retries))
    ended = f" {queue.ended} = CASE WHEN retry_count >= {most} THEN ?1 END," if queue.ended else ""
    rows = db.execute_sql(
        f"UPDATE {queue.table} SET status = CASE WHEN retry_count >= {most} THEN 'failed' ELSE '{queue.waiting}' END,"
        f" {queue.error} = CASE WHEN retry_count >= {most} THEN"
        "   'given up after ' || (retry_count + 1) || ' tries; the last worker was ' || coalesce(worker, 'unknown')"
        f"   || ': ' || ?2 END,{ended}"
        f" retry_count = min(retry_count + 1, max(retry_count, {most})), lease_until = NULL, updated_at = ?1"
        f" WHERE status = '{queue.leased}' AND {where} RETURNING id, status",
        (format_time(now), why, *values),
    ).fetchall()
    if rows and queue.freed is not None:
        queue.freed(db, rows, why)
    failed = sum(status == "failed" for _, status in rows)
    return Recovered(len(rows) - failed, failed)


# What an owner does


def settle(
    db: Database, queue: Queue, key: Key, to: str, *, worker: str, attempt: int | None = None, **columns: Any
) -> bool:
    """Move a leased row to a status that ends its work, with other columns, inside the caller's transaction.

    False when the same worker has settled it like that already: doing it twice is harmless. Raises LeaseLost when the
    row is not leased to this worker, or its lease ran out, and NotFound.
    """
    now = format_time(utcnow())
    assignments = "".join(f", {column} = ?" for column in columns)
    done = db.execute_sql(
        f"UPDATE {queue.table} SET status = ?, lease_until = NULL, {queue.error} = NULL, updated_at = ?{assignments}"
        f" WHERE id = ? AND {_owned(queue, attempt)}",
        (to, now, *columns.values(), key, *_owner(worker, now, attempt)),
    )
    if done.rowcount:
        return True
    row = _look(db, queue, key)
    if row["status"] == to and row["worker"] == worker and attempt in (None, row["attempt"]):
        return False
    raise _lost(queue, key, row, worker, now)


def settle_one(
    db: Database, queue: Queue, key: Key, to: str, *, scope: Scope, worker: str, attempt: int | None, guard: str
) -> bool:
    """Settle a row in one statement, while others of its scope are ready and ``guard`` holds, a condition on ``?``.

    False, and nothing is changed, when that is not so: :func:`settle` says why.
    """
    now = format_time(utcnow())
    values = (to, now, key, *_owner(worker, now, attempt), scope, scope)
    return bool(db.execute_sql(_settle_one(queue, attempt is None, guard), values).rowcount)


@lru_cache
def _settle_one(queue: Queue, any_attempt: bool, guard: str) -> str:
    return (
        f"UPDATE {queue.table} SET status = ?, lease_until = NULL, {queue.error} = NULL, updated_at = ?"
        f" WHERE id = ? AND {_owned(queue, None if any_attempt else 0)}"
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
    """Give a leased row back with an error; return its status: it waits, with a next try, or has ``failed``.

    The next try is due after ``delay`` seconds, doubled with each retry, at most an hour; after ``max_retries``, or
    with ``retry=False``, there is none. A queue whose rows have a number of their own goes by that. Raises LeaseLost
    and NotFound.
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
            f"UPDATE {queue.table} SET status = ?, lease_until = NULL, next_retry_at = ?,"
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
                *_owner(worker, text, attempt),
            ),
        )
        if not done.rowcount:
            raise _lost(queue, key, row, worker, text)
    return queue.waiting if again else "failed"


def release(db: Database, queue: Queue, key: Key, *, worker: str, attempt: int | None = None) -> None:
    """Give a leased row back untouched: it is ready at once and no retry is counted. Raises LeaseLost, NotFound."""
    now = format_time(utcnow())
    done = db.execute_sql(
        f"UPDATE {queue.table} SET status = '{queue.waiting}', lease_until = NULL, updated_at = ?"
        f" WHERE id = ? AND {_owned(queue, attempt)}",
        (now, key, *_owner(worker, now, attempt)),
    )
    if not done.rowcount:
        raise _lost(queue, key, _look(db, queue, key), worker, now)


def heartbeat(
    db: Database,
    queue: Queue,
    key: Key,
    *,
    worker: str,
    attempt: int | None = None,
    lease: float = LEASE,
    **columns: Any,
) -> datetime:
    """Extend a lease to ``lease`` seconds from now, set other columns, and return when it will run out.

    Raises LeaseLost, NotFound.
    """
    now = utcnow()
    until, text = _after(now, lease), format_time(now)
    assignments = "".join(f", {column} = ?" for column in columns)
    done = db.execute_sql(
        f"UPDATE {queue.table} SET lease_until = ?, process = ?, updated_at = ?{assignments}"
        f" WHERE id = ? AND {_owned(queue, attempt)}",
        (until, me(), text, *columns.values(), key, *_owner(worker, text, attempt)),
    )
    if not done.rowcount:
        raise _lost(queue, key, _look(db, queue, key), worker, text)
    return read_time(until)


def held(db: Database, queue: Queue, key: Key, *, worker: str, attempt: int | None = None) -> None:
    """Raise LeaseLost unless the row is leased to this worker now, and NotFound; changes nothing."""
    now = format_time(utcnow())
    sql = f"SELECT 1 FROM {queue.table} WHERE id = ? AND {_owned(queue, attempt)}"
    if not db.execute_sql(sql, (key, *_owner(worker, now, attempt))).fetchall():
        raise _lost(queue, key, _look(db, queue, key), worker, now)


def _owned(queue: Queue, attempt: int | None) -> str:
    # A lease that was touched in what is now the future was not outlived: the clock was set back.
    mine = f"status = '{queue.leased}' AND worker = ? AND (lease_until > ? OR updated_at > ?)"
    return mine if attempt is None else mine + " AND attempt = ?"


def _owner(worker: str, now: str, attempt: int | None) -> tuple[Any, ...]:
    return (worker, now, now) if attempt is None else (worker, now, now, attempt)


def _look(db: Database, queue: Queue, key: Key) -> dict[str, Any]:
    columns = {name: name for name in ("status", "worker", "attempt", "retry_count", "lease_until", "next_retry_at")}
    if queue.most_retries:
        columns["most_retries"] = queue.most_retries
    row = db.execute_sql(f"SELECT {', '.join(columns.values())} FROM {queue.table} WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise NotFound(f"{queue.noun} {key} is not there, or was never claimed; claim one with {queue.methods}.claim")
    return dict(zip(columns, row, strict=True))


def _lost(queue: Queue, key: Key, row: dict[str, Any], worker: str, now: str) -> LeaseLost:
    status = row["status"]
    if status == queue.waiting:
        state = "waiting"
    elif status != queue.leased:
        state = status
    elif row["worker"] != worker:
        state = f"leased to {row['worker']}"
    elif row["lease_until"] <= now:
        state = "yours no more: the lease ran out"
    else:
        state = "leased to a later claim of yours"
    return LeaseLost(
        f"{queue.noun} {key} is {state}, so {worker} cannot settle it; claim it with {queue.methods}.claim,"
        " and for longer work with a longer lease or a heartbeat"
    )


# Looking after the whole


def recover(db: Database, queue: Queue, scope: Scope | None = None, *, max_retries: int = MOST_RETRIES) -> Recovered:
    """Free the leases that ran out and those whose process has ended, of one scope or of all. One transaction."""
    now = utcnow()
    where, values = ("1", ()) if scope is None else (f"{queue.scope} = ?", (scope,))
    with db.atomic():
        late = _free(
            db,
            queue,
            f"{where} AND lease_until <= ? AND updated_at <= ?",
            (*values, format_time(now), format_time(now)),
            "its lease ran out",
            now,
            max_retries,
        )
        dead = _bury(db, queue, scope, now, max_retries)
    return Recovered(late.waiting + dead.waiting, late.failed + dead.failed)


def state(db: Database, queue: Queue, scope: Scope | None) -> State:
    """Where the queue stands, one scope or, where rows are counted one by one, all of them (None).

    Otherwise it reads counters, and of the rows only those that are leased or delayed.
    """
    now = format_time(utcnow())
    where, values = ("?2 IS NULL", (now, None)) if scope is None else (f"{queue.scope} = ?2", (now, scope))
    sql = (
        "SELECT status, count FROM work_counts WHERE scan_id = ? AND kind = ?"
        if queue.kind
        else f"SELECT status, count(*) FROM {queue.table} WHERE {where} GROUP BY status"
    )
    counts = dict(db.execute_sql(sql, (scope, queue.kind) if queue.kind else values).fetchall())
    first, out = db.execute_sql(
        "SELECT min(lease_until) FILTER (WHERE lease_until > ?1), coalesce(sum(lease_until <= ?1), 0)"
        f" FROM {queue.table} INDEXED BY {queue.on('leased')} WHERE {where} AND status = '{queue.leased}'",
        values,
    ).fetchone()
    due, waiting = db.execute_sql(
        f"SELECT min(next_retry_at), count(*) FROM {queue.table} INDEXED BY {queue.on('delayed')}"
        f" WHERE {where} AND status = '{queue.waiting}' AND next_retry_at > ?1",
        values,
    ).fetchone()
    following = [time for time in (due, first) if time is not None and time > now]
    return State(
        ready=counts.get(queue.waiting, 0) - waiting + out,
        delayed=waiting,
        leased=counts.get(queue.leased, 0) - out,
        done=sum(counts.get(status, 0) for status in queue.done),
        failed=counts.get("failed", 0),
        skipped=counts.get("skipped", 0) + counts.get("cancelled", 0),
        next_at=read_time(min(following)) if following else None,
    )


def row_ids(ids: Any) -> list[int]:
    """Ids of rows that are given as a list of whole numbers."""
    return [a_whole(each, "an id", most=2**63 - 1) for each in some_list(ids, "ids")]


def retry(db: Database, queue: Queue, scope: int, *, ids: Sequence[int] | None = None) -> int:
    """Let rows that failed for good wait again, with all their tries; return how many."""
    where = "" if ids is None else " AND id IN (SELECT value FROM json_each(?))"
    values = () if ids is None else (dump_json(row_ids(ids)),)
    return db.execute_sql(
        f"UPDATE {queue.table} SET status = '{queue.waiting}', retry_count = 0, next_retry_at = NULL, updated_at = ?"
        f" WHERE {queue.scope} = ? AND status = 'failed'{where}",
        (format_time(utcnow()), scope, *values),
    ).rowcount


def check_lease(worker: str | None, lease: float, limit: int = 1) -> str:
    """Return the name of the worker, by default this process; raise InvalidArgument for what makes no lease."""
    if worker is not None and (not isinstance(worker, str) or not worker.strip()):
        raise InvalidArgument(f"worker is {shown(worker)}; give a name, or leave it out for the name of this process")
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 0 < lease <= 30 * 86400:
        raise InvalidArgument(f"lease is {shown(lease)}; give seconds, more than 0 and at most 30 days")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidArgument(f"limit is {shown(limit)}; give a whole number of at least 1")
    return worker if worker is not None else me()


def _later(now: datetime, span: timedelta) -> datetime:
    """So much later, or as late as a time can be: times that are in the file may be of any year."""
    try:
        return now + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _after(now: datetime, seconds: float) -> str:
    return format_time(now + timedelta(seconds=seconds))
