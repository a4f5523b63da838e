"""`with` blocks that are cleaned up even if an interrupt prevents their `__exit__` from running.

Python may raise KeyboardInterrupt after a block has ended and before the first line of its `__exit__` has run. No code
in `__exit__`, and no `finally`, can prevent that. But a `with` statement looks up `__exit__` before it enters the
block, holds the result, and releases it however the block is left. :func:`ending` makes that a callable which nothing
else refers to, so its life is the life of the block: a block whose callable is gone, and whose `__exit__` has not
finished, was abandoned. :class:`Block` is a weak reference to that callable: the next use finds it dead, and a callback
may run at the moment when it dies. An `__exit__` that has done its work drops its Block.

The end of a block cannot be detected if it is entered by hand or by an ExitStack: it stays open until it is left.

This relies on the reference counts of CPython. Change here: how the end of a block is detected.
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
    """One `with` block of a manager, as a weak reference that is dead once the block was left."""

    __slots__ = ()


class _Exit:
    """`__exit__` as a descriptor: each look-up returns a new callable, which no frame of the call refers to."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __get__(self, instance: _Ending | None, owner: object = None) -> Callable[..., object]:
        if instance is None:
            return self.function
        end = partial(self.function, instance)
        instance._block = Block(end, instance._abandoned)
        return end


def ending(kind: _C) -> _C:
    """Class decorator: notify context managers when a block is abandoned.

    After a `with` statement has looked up `__exit__`, `_block` is its :class:`Block`; without a `with` statement it
    stays None or dead. `_abandoned` is called with one argument whenever a block is left, also normally, unless its
    Block was dropped.
    """
    kind.__exit__ = _Exit(kind.__exit__)  # type: ignore[attr-defined]
    return kind


class Shared:
    """Mixin for managers that several threads may enter at once: `_block` is per thread."""

    @property
    def _block(self) -> Block | None:
        manager, block = getattr(_local, "newest", (None, None))
        return block if manager == id(self) else None

    @_block.setter
    def _block(self, block: Block | None) -> None:
        _local.newest = id(self), block


def taken(manager: _Manager) -> Block | None:
    """Return the block for which a manager is being entered, or None if it is entered by hand. Call it once."""
    block: Block | None = manager._block
    if block is not None:
        manager._block = None
        if block() is None:
            return None
    return block


def abandoned(block: Block | None) -> bool:
    """Return whether a block was left without its `__exit__` having finished."""
    return block is not None and block() is None


@ending
class Scope(Generic[_T]):
    """A block with a cleanup: `begin` is called on entry, and `undo` at the end, however the block is left.

    `undo` is registered before `begin` is called. It must therefore tolerate being called before, during or after
    `begin`, and more than once.
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
        except Exception:  # the error is reported to the caller, once
            self._block = None
            raise
        self._block = None

    def _abandoned(self, _: object) -> None:
        self._undo()


def closing(thing: _Thing) -> Scope[_Thing]:
    """Return a context manager that closes an object, like :func:`contextlib.closing`, but also after interrupts."""
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
    """Make a context manager from a generator function, like :func:`contextlib.contextmanager`. If the block is
    abandoned, the generator is closed immediately, not when the traceback is released.
    """
    make = contextlib.contextmanager(function)

    @wraps(function)
    def manager(*args: _P.args, **options: _P.kwargs) -> _Steps[_T]:
        return _Steps(make(*args, **options))

    return manager
