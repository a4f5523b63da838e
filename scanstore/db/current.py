"""The current store of a thread, a task or a `with` block.

The current database is kept in a ContextVar, so that each thread, task and nested block has its own. A model looks it
up every time it is used. Without a current store, a model uses AMBIENT, which can build SQL but not run it.

There is no global database unless a program asks for one: ``store.use()`` sets the default of the process, which
applies only where no block has made a store current. Notebooks need it. A kernel runs each cell with ``await`` as a
task of its own, so a value that such a cell sets in a ContextVar is gone in the next cell, and threads start without
it.

Change here: how a store becomes current.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import peewee

from scanstore.db.blocks import Block, ending, taken
from scanstore.errors import NoStore, StoreClosed

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import Generic, TypeAlias, TypeVar

    from scanstore.db.cursors import Cursor
    from scanstore.db.transactions import Transactional

    _D = TypeVar("_D", bound="Transactional")
    #: The current database, the previous frame, and its span.
    _Frame: TypeAlias = "tuple[Transactional, _Frame | None, Span]"
else:
    from scanstore.db.blocks import Generic

    _D = None


_current: ContextVar[_Frame | None] = ContextVar("scanstore", default=None)


_default: Transactional | None = None  # the database of the store that is in use, see ``Store.use``


def current() -> Transactional | None:
    """Return the database of the store that is current in this thread or task, else of the store that is in use."""
    frame = _going()
    return _default if frame is None else frame[0]


def use(database: Transactional) -> None:
    """Make a database the default of this process, instead of the previous one."""
    global _default
    _default = database


def disuse(database: Transactional) -> None:
    """Remove the default of this process, if it is this database."""
    global _default
    if _default is database:
        _default = None


def _going() -> _Frame | None:
    """Return the current frame, without abandoned blocks."""
    frame = _current.get()
    while frame is not None and frame[2].abandoned():
        frame = frame[1]
    return frame


class Span:
    """The time in which a database is current: until the end of a block, and longer in tasks that were started inside
    it.
    """

    __slots__ = ("block",)

    def __init__(self, block: Block | None) -> None:
        self.block = block

    def abandoned(self) -> bool:
        return self.block is not None and self.block() is None


def bind(database: Transactional, span: Span) -> None:
    """Make a database current."""
    _current.set((database, _going(), span))


def unbind(database: Transactional) -> Span | None:
    """Make the previous database current again, and return the span of this one, if it was current."""
    top = frame = _going()
    while frame is not None and frame[0] is not database:
        frame = frame[1]
    if frame is None:
        return None
    _current.set(_without(top, database))
    frame[2].block = None
    return frame[2]


def _without(frame: _Frame | None, database: Transactional) -> _Frame | None:
    if frame is None:
        return None
    return frame[1] if frame[0] is database else (frame[0], _without(frame[1], database), frame[2])


@ending
class Bound(Generic[_D]):
    """Makes a database current on entry and restores the previous one on exit. Blocks may end in any order."""

    _block: Block | None = None
    _abandoned = None

    def __init__(self, database: _D) -> None:
        self.database = database

    def __enter__(self) -> _D:
        if self.database.shut_down:
            raise StoreClosed(f"{self.database.name} was closed; open it again")
        bind(self.database, Span(taken(self)))
        return self.database

    def __exit__(self, *_: object) -> None:
        unbind(self.database)


class Closing(Bound[_D]):
    """Like Bound, for an abandoned generator, which can be closed after its store."""

    def __enter__(self) -> _D:
        bind(self.database, Span(taken(self)))
        return self.database


def no_store() -> NoStore:
    """Return the error for the use of a model without a store."""
    return NoStore(
        "no store is current here; use 'with Store(path):', store.bound() in a thread, or store.use() in a notebook"
    )


class _Ambient(peewee.SqliteDatabase):
    """The database of a model without a current store. It builds SQL, which runs in the store that is current at
    execution.
    """

    def __init__(self) -> None:
        super().__init__(None)

    def execute_sql(self, sql: str, params: object = None) -> Cursor:
        return self._here().execute_sql(sql, params)

    @staticmethod
    def _here() -> Transactional:
        database = current()
        if database is None:
            raise no_store()
        return database


def _delegate(name: str) -> Callable[..., object]:
    def method(self: _Ambient, *args: object, **kwargs: object) -> object:
        return getattr(self._here(), name)(*args, **kwargs)

    return method


for _name in (
    *("connect", "connection", "cursor", "close", "connection_context", "__enter__", "__exit__"),
    *("atomic", "transaction", "savepoint", "manual_commit", "begin", "commit", "rollback", "in_transaction"),
    *("session_start", "session_commit", "session_rollback", "transaction_depth", "top_transaction"),
    *("push_transaction", "pop_transaction", "after_commit", "batch_commit"),
):
    setattr(_Ambient, _name, _delegate(_name))

AMBIENT = _Ambient()
