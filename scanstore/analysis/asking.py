"""Asking a model: one worker asks a question, and the others wait for its answer.

A worker that finds no answer claims the question, a row of ``answer_claims``, and asks. Workers with the same question
at that moment, in other threads and processes, wait and poll the store for the answer. They hold no slot of the model
and no transaction. When the asker fails, the next waiting worker claims the question and asks.

A claim is free again when the asker's process has ended or its lease has expired. The lease matters for an asker that
hangs or runs on another machine. It restarts when the asker gets its slot. Sleeps and clock jumps do not use it up, see
:mod:`scanstore.db.clocks`. An asker whose claim was taken over may still finish; its answer is stored like any other.

A worker that waits with a leased chunk, draft or verified finding stops when that lease is about to expire: the call
raises LeaseLost without calling the model. Asking in parallel would pay twice, and the worker could not complete the
row in time. When the row is claimed again, the answer is in the cache.

Change here: how long workers wait for each other.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.analysis import calls
from scanstore.analysis.answer_cache import MEASURES, PURPOSES, Subject, answer, content_key, identify
from scanstore.analysis.models import Analyzer, DraftFinding, VerifiedFinding
from scanstore.db.clocks import clock, kept_until, over
from scanstore.db.database import Database
from scanstore.db.processes import gone, me
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NoSlot
from scanstore.leases import engine
from scanstore.leases.engine import Queue
from scanstore.llm.configs import Configs
from scanstore.snapshots.models import ScanFileChunk

if TYPE_CHECKING:
    from scanstore.analysis.calls import Call
    from scanstore.leases.queue import Stop

SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  #: seconds between two checks for the answer
LEASE_LEFT = 0.1  #: a worker stops waiting this many seconds before its lease expires
QUEUE_OF = {"chunk": engine.CHUNKS, "draft": engine.DRAFTS, "verified": engine.VERIFIED}

Answer = str | tuple[str, Mapping[str, object]]  #: the result of a function that asks a model


def ask(
    db: Database,
    analyzer: Analyzer | int,
    subject: object,
    function: Callable[[], Answer],
    *,
    purpose: str | None,
    timeout: float | None,
    keep: bool,
    lease: float,
    stop: Stop | None,
) -> str:
    """See ``store.llm.ask``. While the function runs, the caller's current store is current."""
    engine.check_lease(None, lease)
    configs = Configs(db)
    with db.bound():
        row = identify(analyzer)
        configs.slot(row.model, timeout=timeout)  # rejects an invalid timeout first
        about = content_key(db, subject)
        known = answer(db, row.id, about.content)
        if known is not None:
            return known
        if db.in_sqlite_transaction():
            raise IllegalMove(
                f"a transaction is open, and asking {row.model!r} would keep all writers out; leave it first"
            )
    question = Question(db, row, about, lease)
    patience = Patience(db, about, subject, timeout, stop)
    chunk, draft = (about.id, None) if about.kind == "chunk" else (None, subject)
    while True:
        try:
            known = question.claimed_or_answered(patience)
            if known is not None:
                return known
            with configs.slot(row.model, timeout=patience.rest(), lease=lease):
                known = answer(db, row.id, about.content)  # another worker may have the answer meanwhile
                if known is not None:
                    return known
                if not question.renew():  # the call took longer than the lease, and another worker asks now
                    continue
                with db.bound():
                    call = calls.begin(
                        db, row.model, purpose=PURPOSES[about.kind] if purpose is None else purpose, analyzer=row,
                        keep=keep, chunk=chunk, draft=draft,
                    )  # fmt: skip
                with call as present:
                    _take(present, function())
            return str(present.response)
        finally:
            question.give_back()


def _take(call: Call, given: Any) -> None:
    measures: Mapping[str, object] = {}
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        given, measures = given
    call.response = given  # save it first, because the next steps may fail
    if not isinstance(given, str):
        raise InvalidArgument(f"the function returned {type(given).__name__} where the response as text was expected")
    for name, value in measures.items():
        if name not in MEASURES:
            raise InvalidArgument(f"{name!r} cannot be recorded of a call; give any of: {', '.join(MEASURES)}")
        setattr(call, name, value)


# The question


class Asker(NamedTuple):
    """The worker that asks a question."""

    token: str
    process: str
    lease_until: str
    lease_clock: float

    @property
    def dead(self) -> bool:
        """Whether its process has ended or its lease has expired."""
        now = utcnow()
        end = kept_until(self.process, self.lease_until, self.lease_clock, now)
        return gone(self.process) or over(self.process, end, now)


ASKER = "SELECT token, process, lease_until, lease_clock FROM answer_claims WHERE analyzer_id = ? AND content_hash = ?"
CLAIM = """
INSERT INTO answer_claims (analyzer_id, content_hash, token, process, lease_until, lease_clock)
VALUES (?, ?, ?, ?, ?, ?)
"""


class Question:
    """A question to an analyzer. One call at a time may ask it."""

    def __init__(self, db: Database, analyzer: Analyzer, about: Subject, lease: float) -> None:
        self._db, self._key, self._lease = db, (int(analyzer.id), about.content), lease
        self._token = uuid.uuid4().hex
        self._claimed = False
        self._began = 0.0

    def asker(self) -> Asker | None:
        row = self._db.execute_sql(ASKER, self._key).fetchone()
        return None if row is None else Asker(*row)

    def claimed_or_answered(self, patience: Patience) -> str | None:
        """Claim the question, or wait for the answer of the worker that has claimed it, and return the answer."""
        pause = SHORTEST_PAUSE
        while True:
            known = answer(self._db, *self._key)
            if known is not None:
                return known
            asker = self.asker()
            if asker is None or asker.dead:
                if self._claim():
                    return None
                continue
            time.sleep(min(pause, patience.left(asker.process)))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _claim(self) -> bool:
        with self._db.atomic():
            asker = self.asker()
            if answer(self._db, *self._key) is not None or (asker is not None and not asker.dead):
                return False
            if asker is not None:
                self._db.execute_sql("DELETE FROM answer_claims WHERE token = ?", (asker.token,))
            self._claimed = True  # set it first, so that a claim is released after an interrupt
            self._began = time.monotonic()
            self._db.execute_sql(CLAIM, (*self._key, self._token, me(), *self._until()))
        return True

    def renew(self) -> bool:
        """Restart the lease if a part of it is used up. Return False if another worker has taken over the question."""
        if time.monotonic() - self._began < self._lease / 10:
            return True
        sql = "UPDATE answer_claims SET lease_until = ?, lease_clock = ? WHERE token = ? AND process = ?"
        return bool(self._db.execute_sql(sql, (*self._until(), self._token, me())).rowcount)

    def give_back(self) -> None:
        """End the claim, if there is one. A forked child does not end its parent's claim."""
        if not self._claimed:
            return
        sql, values = "DELETE FROM answer_claims WHERE token = ? AND process = ?", (self._token, me())
        try:
            self._db.execute_sql(sql, values)
        except KeyboardInterrupt:  # try again: this process stays alive, so others would wait for its claim
            self._db.execute_sql(sql, values)
            raise
        self._claimed = False

    def _until(self) -> tuple[str, float]:
        now = utcnow()
        return format_time(now + timedelta(seconds=self._lease)), clock(now)


# Waiting for its answer

HELD = (
    "SELECT lease_until, lease_clock, process FROM {table} WHERE id = ? AND status = ? AND worker = ? AND attempt = ?"
)
MINE = "SELECT id, worker, attempt FROM {table} WHERE id = ? AND status = ? AND process = ?"


class Patience:
    """The time limit of a waiting call: ``timeout`` seconds in all, and at most until the lease of its row expires."""

    def __init__(self, db: Database, about: Subject, subject: object, timeout: float | None, stop: Stop | None) -> None:
        self._db, self._timeout, self._stop = db, timeout, stop
        self._began = time.monotonic()
        self._queue: Queue = QUEUE_OF[about.kind]
        self._row = self._held(about, subject)

    def _held(self, about: Subject, subject: object) -> tuple[int, str, int] | None:
        """Return the leased row of the caller as (id, worker, attempt), or None."""
        if isinstance(subject, ScanFileChunk | DraftFinding | VerifiedFinding):
            row = subject
            return (row.id, row.worker, row.attempt) if row.status == self._queue.leased and row.worker else None
        sql = MINE.format(table=self._queue.table)
        found = self._db.execute_sql(sql, (about.id, self._queue.leased, me())).fetchone()
        return None if found is None else (found[0], found[1], found[2])

    def rest(self) -> float | None:
        """The remaining seconds of the timeout; None means no limit."""
        return None if self._timeout is None else max(0.0, self._began + self._timeout - time.monotonic())

    def left(self, process: str) -> float:
        """Return the number of seconds to continue waiting for the answer of another worker.

        Raises NoSlot after the timeout or when ``stop`` is set, and LeaseLost at the end of the caller's own lease.
        """
        if self._stop is not None and self._stop.is_set():
            raise NoSlot(f"stopped waiting for an answer that {process} is asking for; ask again to get it")
        rest = self.rest()
        if rest is not None and rest <= 0:
            raise NoSlot(f"{process} is asking the same question and has no answer yet; wait longer: timeout=")
        lease = self._lease_left()
        if lease <= LEASE_LEFT:
            raise self._over(process)
        return lease - LEASE_LEFT if rest is None else min(rest, lease - LEASE_LEFT)

    def _lease_left(self) -> float:
        if self._row is None:
            return LONGEST_PAUSE + LEASE_LEFT
        key, worker, attempt = self._row
        found = self._db.execute_sql(
            HELD.format(table=self._queue.table), (key, self._queue.leased, worker, attempt)
        ).fetchone()
        if found is None:  # raises, unless the lease has only expired
            engine.held(self._db, self._queue, key, worker=worker, attempt=attempt)
            return 0.0
        until, before, holder = found
        now = utcnow()
        return (kept_until(holder, until, before, now) - now).total_seconds()

    def _over(self, process: str) -> LeaseLost:
        assert self._row is not None
        noun, methods = self._queue.noun, self._queue.methods
        return LeaseLost(
            f"the lease of {noun} {self._row[0]} ends while {process} is still asking the same question, so nothing was"
            f" asked; claim it again with {methods}.claim and a longer lease, and ask again: the answer will be there"
        )


def recover(db: Database) -> int:
    """Delete the claims of dead askers and return their number. Writes only if there are any."""
    rows = db.execute_sql("SELECT token, process, lease_until, lease_clock FROM answer_claims").fetchall()
    dead = [(asker.token,) for asker in (Asker(*row) for row in rows) if asker.dead]
    return db.executemany("DELETE FROM answer_claims WHERE token = ?", dead).rowcount if dead else 0
