"""The slots of a model: at most ``max_concurrent`` calls at once, over all processes, in order of arrival.

To get a slot, a worker inserts a ticket, a row of ``model_slots``. Ids only grow, so they give the order of arrival.
The ``max_concurrent`` lowest tickets hold the slots. A ticket only moves up, when an earlier one is deleted. So a plain
read shows whether a ticket has a slot, and a waiting worker writes only heartbeats.

A ticket expires when its process has ended, or when its time is over and its process is not known to be alive. It
counts until a waiting worker has deleted it, so a holder that was considered dead cannot come back. On one machine the
clock is not used: a slow call keeps its slot, and a dead process loses it immediately. The clock is used only for
processes of other machines, and on systems that do not report the start time of a process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType

from scanstore.db.blocks import Block, ending
from scanstore.db.clocks import LONGEST_LEASE
from scanstore.db.database import Database
from scanstore.db.processes import alive, gone, me
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NoSlot, NotFound, shown
from scanstore.llm.models import ModelConfig

WAITING_LEASE = 10.0  #: seconds after which a waiting ticket without a heartbeat expires
SIGN_OF_LIFE = 3.0  #: seconds between two heartbeats
SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  #: seconds between two polls


@ending
class Slot:
    """A slot of a model, held inside its ``with`` block; see ``store.llm.slot``."""

    _block: Block | None = None

    def __init__(self, db: Database, model: ModelConfig, *, timeout: float | None, lease: float) -> None:
        if timeout is not None and not (_is_number(timeout) and timeout >= 0):
            raise InvalidArgument(f"timeout is {shown(timeout)}; give seconds, 0 for not at all, None for ever")
        self._db = db
        self._timeout = timeout
        self._lease = _checked(lease)
        # id, process, created_at: SQLite reuses ids that were rolled back
        self._ticket: tuple[int, str, str] | None = None
        self.model = str(model.name)
        self._model_id = int(model.id)

    def __repr__(self) -> str:
        return f"<Slot of {self.model!r}{'' if self._ticket is None else f', ticket {self._ticket[0]}'}>"

    def __enter__(self) -> Slot:
        if self._ticket is not None:
            raise IllegalMove(f"this slot of model {self.model!r} is in use; ask store.llm.slot for another")
        if self._db.in_sqlite_transaction():
            raise IllegalMove(
                f"a transaction is open, and waiting for model {self.model!r} would keep all writers out; "
                "leave the transaction first"
            )
        try:
            self._wait()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        self._block = None

    def _abandoned(self, _: object) -> None:
        """Release the slot if an interrupt prevented the block from doing so, because this process is alive."""
        with suppress(Exception):
            self._give_back()

    def heartbeat(self, *, lease: float = 600.0) -> None:
        """Hold the slot for ``lease`` seconds from now on. Raises LeaseLost if another worker has got it."""
        if not self._renew(_checked(lease)):
            raise LeaseLost(
                f"the place at model {self.model!r} was lost, its lease had run out; take a longer lease, or call "
                "heartbeat() more often"
            )

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        began = time.monotonic()
        if self._draw():
            return
        signed, pause = time.monotonic(), SHORTEST_PAUSE
        while True:
            holders = self._holders()
            if any(self._ticket is not None and key == self._ticket[0] for key, _, _ in holders):
                if self._renew(self._lease):
                    return
                holders = []
            now = time.monotonic()
            if not holders or (now - signed > SIGN_OF_LIFE and not self._renew(WAITING_LEASE)):
                # The ticket was deleted while this process was stopped, or with the model: go to the end of the queue.
                if self._draw():
                    return
                signed = now
            elif now - signed > SIGN_OF_LIFE:
                signed = now
            elif lapsed(holders):
                with self._db.atomic():
                    _sweep(self._db, self._holders())
                continue
            rest = math.inf if self._timeout is None else began + self._timeout - now
            if rest <= 0:
                raise self._refusal()
            time.sleep(min(pause, rest))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _draw(self) -> bool:
        """Insert a ticket and return whether it has a slot. Without time to wait, insert it only if it gets a slot."""
        now = utcnow()
        with self._db.atomic():
            limit = self._db.execute_sql(
                "SELECT max_concurrent FROM model_configs WHERE id = ?", (self._model_id,)
            ).fetchone()
            if limit is None:
                raise NotFound(f"model {self.model!r} was removed; store.llm.list() shows the known ones")
            _sweep(self._db, _tickets(self._db, self._model_id))
            before = _tickets(self._db, self._model_id)
            free: bool = len(before) < limit[0]
            if not free and self._timeout == 0:
                raise self._refusal()
            until = now + timedelta(seconds=self._lease if free else WAITING_LEASE)
            ticket = (me(), format_time(now))
            key = self._db.execute_sql(
                "INSERT INTO model_slots (model_config_id, process, created_at, lease_until) VALUES (?, ?, ?, ?)",
                (self._model_id, *ticket, format_time(until)),
            ).lastrowid
            self._ticket = (int(key or 0), *ticket)
        return free

    def _holders(self) -> list[tuple[int, str, str]]:
        return self._db.execute_sql(HOLDERS, (self._model_id, self._model_id)).fetchall()

    def _renew(self, lease: float) -> bool:
        until = format_time(utcnow() + timedelta(seconds=lease))
        return self._ticket is not None and bool(
            self._db.execute_sql(
                "UPDATE model_slots SET lease_until = ? WHERE id = ? AND process = ? AND created_at = ?",
                (until, *self._ticket),
            ).rowcount
        )

    def _refusal(self) -> NoSlot:
        holders = self._holders()
        who = ", ".join(dict.fromkeys(str(process) for _, process, _ in holders[:5]))
        return NoSlot(
            f"model {self.model!r} has all {len(holders)} of its places taken (by {who}); "
            "wait longer or raise max_concurrent"
        )

    def _give_back(self) -> None:
        if self._ticket is not None and self._ticket[1] == me():  # a forked child does not release its parent's slot
            statement = "DELETE FROM model_slots WHERE id = ? AND process = ? AND created_at = ?"
            self._db.execute_sql(statement, self._ticket)
        self._ticket = None


HOLDERS = """
SELECT id, process, lease_until FROM model_slots WHERE model_config_id = ? ORDER BY id
 LIMIT coalesce((SELECT max_concurrent FROM model_configs WHERE id = ?), 0)
"""


def _tickets(db: Database, model_id: int) -> list[tuple[int, str, str]]:
    return db.execute_sql(
        "SELECT id, process, lease_until FROM model_slots WHERE model_config_id = ? ORDER BY id", (model_id,)
    ).fetchall()


def lapsed(tickets: Sequence[tuple[int, str, str]]) -> list[int]:
    """Return the ids of the tickets (id, process, lease until) whose holders are dead."""
    now = utcnow()
    first, last = format_time(now), format_time(now + LONGEST_LEASE)
    ended: dict[str, bool] = {}
    found = []
    for key, process, until in tickets:
        if process not in ended:
            ended[process] = gone(process)
        held = first < str(until) <= last or isinstance(until, bytes)
        if ended[process] or (not held and not alive(process)):
            found.append(key)
    return found


def _sweep(db: Database, tickets: Sequence[tuple[int, str, str]]) -> int:
    dead = lapsed(tickets)
    if dead:
        db.executemany("DELETE FROM model_slots WHERE id = ?", [(key,) for key in dead])
    return len(dead)


def recover(db: Database) -> int:
    """Delete the tickets of dead holders and return their number. Writes only if there are any."""
    tickets = db.execute_sql("SELECT id, process, lease_until FROM model_slots").fetchall()
    if not lapsed(tickets):
        return 0
    with db.atomic():
        tickets = db.execute_sql("SELECT id, process, lease_until FROM model_slots").fetchall()
        return _sweep(db, tickets)


def taken(db: Database, model_id: int) -> tuple[int, int]:
    """Return the number of held slots of a model, and of waiting workers. Expired tickets are not counted."""
    row = db.execute_sql("SELECT max_concurrent FROM model_configs WHERE id = ?", (model_id,)).fetchone()
    tickets = _tickets(db, model_id)
    live = len(tickets) - len(lapsed(tickets))
    held = min(live, row[0] if row else 0)
    return held, live - held


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


def _checked(lease: float) -> float:
    if not _is_number(lease) or not 0 < lease <= 30 * 86400:
        raise InvalidArgument(f"lease is {shown(lease)}; give seconds, more than 0 and at most 30 days")
    return lease
