"""Peewee's transactions, made safe against Ctrl-C, a full disk, a fork and a second task.

Peewee keeps a stack of transactions in addition to SQLite's state. The two must stay consistent: after any exception,
at any point, the connection is out of the transaction and the stack is empty.

Each transaction and savepoint is put on the stack before it begins, and removed after it has ended. So a block whose
exit was interrupted (see :mod:`scanstore.db.blocks`) is still on the stack. It is rolled back immediately or, if a
second interrupt prevents that, before the next statement, BEGIN, COMMIT or close of the connection. Blocks inside it
are rolled back with it; the blocks around it continue. Blocks that are entered by hand, sessions (`session_start`) and
transactions started with `execute_sql("BEGIN")` must be ended by the caller.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable

import peewee

from scanstore.db.blocks import Block, Shared, ending, taken
from scanstore.errors import StorageError

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from scanstore.db.cursors import Cursor


class _OnStack:
    """An entry on the stack of a connection. Without a `with` block, `block` is None."""

    db: Transactional
    block: Block | None = None
    _block: Block | None = None
    _generation = 0

    def place(self) -> int:
        """Return the position on this thread's stack, or -1."""
        for place, each in enumerate(self.db._state.transactions):
            if each is self:
                return place
        return -1

    def ready(self, well: bool) -> bool:
        """End nested transactions that are still open. Return whether this one is on the stack and can be ended."""
        if self._generation != self.db.generation:  # a child that was forked inside the block
            return False
        place = self.place()
        if place < 0 and well:
            raise StorageError(
                f"the transaction of {self.db.name} was rolled back before its block ended, because the block around it"
                " was left first; run the block again"
            )
        if place >= 0:
            unwind(self.db, place + 1)
        return self.place() >= 0

    def drop(self) -> None:
        """Roll back this transaction and all nested ones, if it is on the stack."""
        place = self.place()
        if place >= 0:
            unwind(self.db, place)

    def _abandoned(self, _: object) -> None:
        settle(self.db)


@ending
class Transaction(_OnStack, peewee._transaction):
    """The outermost transaction: commits on exit, rolls back on any exception, Ctrl-C included.

    In a child that was forked inside the block, the exit has no effect, because the transaction belongs to the parent.
    """

    def __enter__(self) -> Transaction:
        settle(self.db)
        return self.enter(taken(self))

    def enter(self, block: Block | None) -> Transaction:
        """Begin for a block."""
        db = self.db
        state = db._state
        self._generation = db.generation
        self.block = block
        if state.transactions:
            db.push_transaction(self)
            return self
        ours = not db.raw_transaction()
        try:
            if ours:
                if state.closed:  # a new connection has a new stack
                    db.connect()
                db.push_transaction(self)
            args, kwargs = self._begin_args  # type: ignore[attr-defined]
            db.begin(*args, **kwargs)
        except BaseException:
            if ours:
                db.roll_back()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.leave(exc_type is None)
        self._block = None

    def leave(self, well: bool) -> None:
        """Commit if there was no error and this is the outermost transaction; otherwise roll back."""
        db = self.db
        stack = db._state.transactions
        if not stack or stack[-1] is not self or self._generation != db.generation:
            if not self.ready(well):
                return
        if len(stack) > 1:
            stack.pop()
        elif well:
            try:
                db.commit()
                stack.clear()
                if db._state.commit_callbacks:
                    db._run_commit_callbacks()  # type: ignore[attr-defined]
            except BaseException:
                db.roll_back()
                raise
        else:
            db.roll_back()
        self.block = None


@ending
class Savepoint(_OnStack, peewee._savepoint):
    """A nested transaction; does nothing on exit when SQLite has already rolled the outermost one back."""

    def __init__(self, db: Transactional) -> None:
        super().__init__(db, "scanstore")

    def __enter__(self) -> Savepoint:
        settle(self.db)
        return self.enter(taken(self))

    def enter(self, block: Block | None) -> Savepoint:
        """Begin for a block."""
        db = self.db
        self._generation, self.block = db.generation, block
        if db._state.closed:
            db.connect()
        # reusing names keeps the number of different statements small
        self.quoted_sid = f'"scanstore{len(db._state.transactions)}"'
        db.push_transaction(self)
        try:
            self._begin()  # type: ignore[attr-defined]
        except BaseException:
            self.drop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.leave(exc_type is None)
        self._block = None

    def leave(self, well: bool) -> None:
        """Release the savepoint if there was no error; otherwise roll back to it."""
        stack = self.db._state.transactions
        if not stack or stack[-1] is not self or self._generation != self.db.generation:
            if not self.ready(well):
                return
        if well:
            try:
                self.commit(begin=False)
            except BaseException:
                self.drop()
                raise
            stack.pop()
            if not stack:
                self.db._run_commit_callbacks()  # type: ignore[attr-defined]
        else:
            self.drop()
        self.block = None

    def undo(self) -> None:
        """Undo all changes since the savepoint. If this fails, roll back the whole transaction."""
        if not self.db.raw_transaction():
            return
        link = self.db._state.conn
        try:
            link.execute(f"ROLLBACK TO {self.quoted_sid}")
            link.execute(f"RELEASE {self.quoted_sid}")
        except sqlite3.Error as error:
            if "no such savepoint" not in str(error):  # otherwise the savepoint has not begun or has ended
                self.db.roll_back()


@ending
class Atomic(peewee._atomic):
    """The result of `db.atomic()`: a transaction, or a savepoint inside one."""

    db: Transactional
    _block: Block | None = None
    _helper: Transaction | Savepoint

    def __enter__(self) -> Transaction | Savepoint:
        return self.enter(taken(self))

    def enter(self, block: Block | None) -> Transaction | Savepoint:
        """Begin for a block."""
        db = self.db
        stack = db._state.transactions
        if stack:
            settle(db)
            stack = db._state.transactions
        if not stack:
            args, kwargs = self._transaction_args  # type: ignore[attr-defined]
            self._helper = Transaction(db, *args, **kwargs)
        elif isinstance(stack[-1], peewee._manual):
            raise ValueError("Cannot enter atomic commit block while in manual commit mode.")
        else:
            self._helper = Savepoint(db)
        return self._helper.enter(block)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._helper.leave(exc_type is None)
        self._block = None

    def _abandoned(self, _: object) -> None:
        settle(self.db)


@ending
class Manual(_OnStack, peewee._manual):
    """A block in which the caller begins and ends transactions. A transaction that an exception leaves open is rolled
    back.
    """

    def __enter__(self) -> None:
        db = self.db
        settle(db)
        self._generation, self.block = db.generation, taken(self)
        if db._state.closed:
            db.connect()
        super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if not self.ready(exc_type is None):
            return
        stack = self.db._state.transactions
        if exc_type is None:
            stack.pop()
        else:
            unwind(self.db, len(stack) - 1)
        self.block = None


# The database


@ending
class Transactional(Shared, peewee.SqliteDatabase):
    """The transaction methods of a Peewee database, besides `begin`, `commit` and `rollback`."""

    _state: Any
    name: str  #: the name of the store, for messages
    file: str  #: the absolute path of the store
    shut_down: bool
    generation: int

    if TYPE_CHECKING:

        def execute_sql(self, sql: str, params: object = None) -> Cursor: ...

    def atomic(self, *args: object, **kwargs: object) -> Atomic:
        return Atomic(self, *args, **kwargs)

    def transaction(self, *args: object, **kwargs: object) -> Transaction:
        return Transaction(self, *args, **kwargs)

    def savepoint(self) -> Savepoint:
        return Savepoint(self)

    def manual_commit(self) -> Manual:
        return Manual(self)

    def __enter__(self) -> Self:
        if self.is_closed():
            self.connect()
        atomic = self.atomic()
        atomic.enter(taken(self))
        self._state.ctx.append(atomic)
        return self

    def __exit__(self, *error: object) -> None:
        atomic = self._state.ctx.pop()
        try:
            atomic.__exit__(*error)
        except BaseException:
            if (helper := getattr(atomic, "_helper", None)) is not None:
                helper.drop()  # otherwise closing would fail and hide the error
            raise
        finally:
            if not self._state.ctx:
                self.close()

    def push_transaction(self, transaction: object) -> None:
        state = self._state
        if not state.transactions:
            state.owner = running_task()
        elif state.owner is not running_task():
            self.cursor()  # type: ignore[no-untyped-call]  # raises
        state.transactions.append(transaction)

    def transaction_depth(self) -> int:
        settle(self)
        return len(self._state.transactions)

    def in_transaction(self) -> bool:
        return self.transaction_depth() > 0

    def top_transaction(self) -> object:
        return self._state.transactions[-1] if self.transaction_depth() else None

    def session_commit(self) -> bool:
        return self._end_session(lambda session, begin: session.commit(begin))

    def session_rollback(self) -> bool:
        return self._end_session(lambda session, begin: session.rollback(begin))

    def _end_session(self, end: Callable[[Transaction | Savepoint, bool], object]) -> bool:
        """End the transaction before it is removed from the stack, because settle() finds open transactions there."""
        depth = self.transaction_depth()
        if depth:
            try:
                end(self._state.transactions[-1], depth > 1)
                self.pop_transaction()  # type: ignore[no-untyped-call]
            except BaseException:
                self.roll_back()
                raise
        return depth > 0

    def _abandoned(self, _: object) -> None:
        settle(self)

    def in_sqlite_transaction(self) -> bool:
        """Return whether this thread's connection has an open transaction, including one begun in SQL."""
        settle(self)
        return self.raw_transaction()

    def raw_transaction(self) -> bool:
        """Return whether SQLite has an open transaction, including that of an abandoned block."""
        state = self._state
        try:
            return not state.closed and bool(state.conn.in_transaction)
        except sqlite3.Error:
            return False

    def roll_back(self) -> None:
        """Roll back the open transaction of this thread's connection. Never raises, so that the original error stays
        visible.
        """
        self._state.commit_callbacks.clear()
        if self.raw_transaction():
            try:
                self._state.conn.execute("ROLLBACK")
            except sqlite3.Error:
                self._close(self._state.conn)  # type: ignore[attr-defined]
                self._state.reset()
        self._state.transactions.clear()


# Abandoned blocks


def settle(db: Transactional) -> None:
    """Roll back the abandoned blocks of this thread's connection."""
    for each in db._state.transactions:
        if each.block is not None and each.block() is None:
            unwind(db, each.place())
            return


def unwind(db: Transactional, place: int) -> None:
    """Roll back the transactions of all blocks from this position of the stack on, and remove them."""
    state = db._state
    if place >= len(state.transactions):
        return
    going = state.transactions[place:]
    first = next((each for each in going if isinstance(each, Savepoint)), None)
    if not place and first is not going[0]:
        db.roll_back()
    elif first is not None:
        first.undo()
    del state.transactions[place:]
    state.ctx[:] = [each for each in state.ctx if getattr(each, "_helper", None) not in going]


def running_task() -> object:
    """Return the running asyncio task of this thread, if there is one."""
    asyncio = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio is not None else None
    return None if asyncio is None or loop is None else asyncio.current_task(loop)
