"""`with` blocks that are undone even when an interrupt keeps their `__exit__` from running.

Python may raise KeyboardInterrupt after a block has ended and before the first line of its `__exit__` has run. No code
in `__exit__`, and no `finally`, can prevent that. But a `with` statement looks up `__exit__` before it enters the
block, holds the result, and releases it however the block is left. :func:`ending` makes that a callable which nothing
else refers to, so its life is the life of the block: a block whose callable is gone, and whose `__exit__` has not
finished, was abandoned. :class:`Block` is a weak reference to that callable: the next use finds it dead, and a callback
may run at the moment when it dies. An `__exit__` that has done its work drops its Block.

A context manager that is entered by hand, or by an ExitStack, gives no sign: such a block goes on until it is left.

Everything rests on reference counts, as CPython has them. Change here: how the end of a block is noticed.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial, wraps

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Generic, ParamSpec, Protocol, TypeVar

    class _Closable(Protocol):
        def close(self) -> object: ...

    class _Manager(Protocol):
        _block: Block | None

    class _Ending(_Manager, Protocol):
        @property
        def _abandoned(self) -> Callable[[Block], object] | None: ...

    _C = TypeVar("_C", bound=type)
    _P = ParamSpec("_P")
    _T = TypeVar("_T")
    _Thing = TypeVar("_Thing", bound=_Closable)
else:

    class Generic:
        """Stands for ``typing.Generic`` at run time."""

        def __class_getitem__(cls, _):
            return cls

    _T = None

_local = threading.local()


class Block(weakref.ref["Callable[..., object]"]):
    """One `with` block that a manager was entered for: dead, as weak references are, once the block was left."""

    __slots__ = ()


class _Exit:
    """`__exit__` as a descriptor: each look-up gives another callable, which the frames of the call do not hold."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __get__(self, instance: _Ending | None, owner: object = None) -> Callable[..., object]:
        if instance is None:
            return self.function
        end = partial(self.function, instance)
        instance._block = Block(end, instance._abandoned)
        return end


def ending(kind: _C) -> _C:
    """Let a class of context managers know when a block is abandoned.

    When a `with` statement has looked `__exit__` up, `_block` is its :class:`Block`; without a `with` statement it
    stays None or dead. `_abandoned` is called with one argument whenever a block is left, also the ordinary way, unless
    its Block is gone by then.
    """
    kind.__exit__ = _Exit(kind.__exit__)  # type: ignore[attr-defined]
    return kind


class Shared:
    """Mixed into a manager that several threads may enter at once: `_block` is that of this thread."""

    @property
    def _block(self) -> Block | None:
        manager, block = getattr(_local, "newest", (None, None))
        return block if manager == id(self) else None

    @_block.setter
    def _block(self, block: Block | None) -> None:
        _local.newest = id(self), block


def taken(manager: _Manager) -> Block | None:
    """Return the block for which a manager is being entered, None when that is done by hand; asked for once."""
    block: Block | None = manager._block
    if block is not None:
        manager._block = None
        if block() is None:
            return None
    return block


def abandoned(block: Block | None) -> bool:
    """Tell whether a block that was not ended yet was left."""
    return block is not None and block() is None


@ending
class Scope(Generic[_T]):
    """A block with something to undo: `begin` is called on entry, and `undo` at the end, however the block is left.

    `undo` is registered before `begin` is called. So it may be called before, in the middle of or after `begin`, and
    more than once; it must not mind.
    """

    _block: Block | None = None

    def __init__(self, begin: Callable[[], _T], undo: Callable[[], object]) -> None:
        self._begin, self._undo = begin, undo

    def __enter__(self) -> _T:
        try:
            return self._begin()
        except BaseException:
            self._undo()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._undo()
        except Exception:  # the caller hears of it, once
            self._block = None
            raise
        self._block = None

    def _abandoned(self, _: object) -> None:
        self._undo()


def closing(thing: _Thing) -> Scope[_Thing]:
    """Return a context manager that closes something, as :func:`contextlib.closing` does, after interrupts too."""
    return Scope(lambda: thing, thing.close)


@ending
class _Steps(Generic[_T]):
    _block: Block | None = None

    def __init__(self, manager: contextlib._GeneratorContextManager[_T]) -> None:
        self._manager = manager

    def __enter__(self) -> _T:
        return self._manager.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        suppressed = self._manager.__exit__(kind, error, trace)
        self._block = None
        return suppressed

    def _abandoned(self, _: object) -> None:
        self._manager.gen.close()


def contextmanager(function: Callable[_P, Iterator[_T]]) -> Callable[_P, _Steps[_T]]:
    """Make a context manager of a generator function as :func:`contextlib.contextmanager` does; when the block is
    abandoned, the generator is closed at once and not when the traceback is forgotten."""
    make = contextlib.contextmanager(function)

    @wraps(function)
    def manager(*args: _P.args, **options: _P.kwargs) -> _Steps[_T]:
        return _Steps(make(*args, **options))

    return manager
