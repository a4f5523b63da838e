"""Peewee's transactions, made to survive Ctrl-C, a full disk, a fork and a second task.

Peewee keeps a stack of its own beside SQLite's state. The two must not part: after any exception, wherever it
strikes, the connection is out of the transaction and the stack is empty.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import peewee

if TYPE_CHECKING:
    from types import TracebackType

    from scanstore.database import Database


class Transaction(peewee._transaction):
    """The outermost transaction: commits on exit, rolls back on any exception, Ctrl-C included.

    A child that is forked inside the block leaves it without effect: the transaction is its parent's.
    """

    db: Database

    def __enter__(self) -> Transaction:
        self._generation = self.db.generation
        if self.db.transaction_depth():
            self.db.push_transaction(self)
            return self
        ours = not self.db.in_sqlite_transaction()
        try:
            self._begin()  # type: ignore[attr-defined]
            self.db.push_transaction(self)
        except BaseException:
            if ours:
                self.db.roll_back()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._generation != self.db.generation:
            return
        outermost = self.db.transaction_depth() == 1
        try:
            self.db.pop_transaction()  # type: ignore[no-untyped-call]
            if outermost and exc_type is None:
                self.commit(False)
        except BaseException:
            if outermost:
                self.db.roll_back()
            raise
        if outermost and exc_type is not None:
            self.db.roll_back()


class Savepoint(peewee._savepoint):
    """A nested transaction; does nothing on exit when SQLite has already rolled the outermost one back."""

    db: Database

    def __enter__(self) -> Savepoint:
        self._generation = self.db.generation
        super().__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._generation != self.db.generation:
            return
        if exc_type is None or self.db.in_sqlite_transaction():
            super().__exit__(exc_type, exc_val, exc_tb)


def running_task() -> Any:
    """Return the running asyncio task of this thread, if there is one."""
    asyncio = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio is not None else None
    return None if asyncio is None or loop is None else asyncio.current_task(loop)
