"""A call of an asynchronous store: awaited, run as a task, iterated over or entered.

No method is implemented twice: a call is looked up on the synchronous store and run in a thread. Change here: what you
can do with a call.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import partial, wraps
from itertools import islice
from types import TracebackType
from typing import Any, ParamSpec, Self

from scanstore.aio.lanes import Lane, Mark, here
from scanstore.aio.running import Going, Running, is_coroutine_function, result
from scanstore.db.domain import LONG
from scanstore.errors import InvalidArgument, shown
from scanstore.store import Store

_P = ParamSpec("_P")
_Raised = type[BaseException] | BaseException
_Error = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

BATCH = 256  #: rows that a stream fetches at once


class AsyncCall(Coroutine[Any, Any, Any]):
    """A call of a method of the store. Await it, iterate over it or enter it, depending on the method.

    It is a coroutine, so ``asyncio.create_task(store.symbols.find("x"))`` works.
    """

    _inside: _Transaction | _Block
    _coroutine: Coroutine[Any, Any, Any] | None = None  # when it runs as a task
    _stream: AsyncGenerator[Any, None] | None = None

    def __init__(
        self,
        store: Running,
        find: Callable[[Store], Callable[..., object]],
        method: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> None:
        self.__name__, self.__qualname__, self.__wrapped__ = method.__name__, method.__qualname__, method
        self._store, self._name, self._find = store, method.__name__, find
        self._lane: str | None = getattr(method, "lane", None)
        self._args, self._kwargs, self._used = args, kwargs, False

    def __repr__(self) -> str:
        return f"<{self.__qualname__}() of {self._store!r}>"

    def __del__(self) -> None:
        if not getattr(self, "_used", True):
            warnings.warn(f"{self._name}() was never awaited, so nothing was done", RuntimeWarning, stacklevel=2)

    # As a coroutine, for tasks

    def send(self, value: object, /) -> object:
        return self._started().send(value)

    def throw(self, kind: _Raised, value: object = None, trace: TracebackType | None = None, /) -> object:
        started = self._started()
        self._used = True  # a task may be cancelled before its first step
        return started.throw(_error(kind, value, trace))

    def close(self) -> None:
        self._used = True
        if self._coroutine is not None:
            self._coroutine.close()

    def _started(self) -> Coroutine[Any, Any, Any]:
        if self._coroutine is None:
            self._coroutine = self._awaited()
        return self._coroutine

    # As an asynchronous generator

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        return self._streamed().__anext__()

    def asend(self, value: None) -> Coroutine[object, None, object]:
        return self._streamed().asend(value)

    def athrow(
        self, kind: _Raised, value: object = None, trace: TracebackType | None = None, /
    ) -> Coroutine[object, None, object]:
        return self._streamed().athrow(_error(kind, value, trace))

    async def aclose(self) -> None:
        """Close the stream, and wait until a row that is not settled was released. Idempotent."""
        self._used = True
        if self._stream is not None:
            await self._stream.aclose()

    def _streamed(self) -> AsyncGenerator[Any, None]:
        if self._stream is None:
            self._stream = _rows(self._store, self._lane, self._ready(), self._going)
        return self._stream

    # Running it

    def _ready(self) -> Callable[[], Any]:
        """Prepare the call for a thread. Coroutine functions run in the event loop of the caller."""
        if self._used:
            raise RuntimeError(f"{self._name}() was awaited already; call it again")
        self._used = True
        find, going, store = self._find, Going(), self._store._opened()
        self._going = going
        args = [self._plain(each) for each in self._args]
        kwargs: dict[str, Any] = {name: self._plain(each) for name, each in self._kwargs.items()}
        if self._lane != LONG:
            return lambda: find(store)(*args, **kwargs)

        def call() -> object:
            method = find(store)
            if "stop" in inspect.signature(method).parameters:
                going.given, kwargs["stop"] = kwargs.get("stop"), going
            return method(*args, **kwargs)

        return call

    def _plain(self, value: object) -> object:
        """Convert an argument to that of the synchronous store."""
        if isinstance(value, _Inside):
            return value._value
        if isinstance(value, dict) and any(map(is_coroutine_function, value.values())):
            return {key: self._plain(each) for key, each in value.items()}
        if not is_coroutine_function(value):
            return value
        if self._lane != LONG:
            raise InvalidArgument(
                f"{self._name}() would keep the store waiting for {shown(value)}, which may wait for the store; "
                "give a plain function"
            )
        if self._store._order.inside():
            raise InvalidArgument(
                f"inside a transaction {self._name}() cannot wait for {shown(value)}; leave the transaction first"
            )
        return self._going.calling(value, asyncio.get_running_loop(), copy_context())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> object:
        ready = self._ready()
        try:
            made = await result(self._store._submit(self._lane, ready, self._going))
        except asyncio.CancelledError:
            self._going.cancel()
            raise
        if inspect.isgenerator(made):
            raise TypeError(f"{self._name}() gives its rows one by one; read them with: async for")
        return made

    async def __aenter__(self) -> Any:
        if self._name == "transaction":
            self._ready()
            self._inside = _Transaction(self._store._order, self._store._opened())
        else:
            self._inside = _Block(self._store, self._ready())
        return await self._inside.enter()

    async def __aexit__(self, *error: *_Error) -> bool | None:
        return await self._inside.exit(*error)


class _Block:
    """A ``with`` block of the store. Its entry and exit may block, so they run in a separate thread, or in the
    transaction's thread inside a transaction.
    """

    def __init__(self, store: Running, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._store, self._make = store, make
        self._own = not store._order.inside()
        self._lane = Lane("scanstore-block") if self._own else store._order

    async def enter(self) -> _Inside:
        begun = self._lane.submit(self._enter)
        try:
            return _Inside(self._store, await asyncio.shield(result(begun)))
        except BaseException as error:  # the block may be entered after the caller has stopped waiting
            begun.cancel()
            self._lane.submit(partial(self._leave, begun, error), last=self._own)
            raise

    def _enter(self) -> object:
        self._manager = self._make()
        return self._manager.__enter__()

    def _leave(self, begun: Future[object], error: BaseException) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._manager.__exit__(type(error), error, error.__traceback__)

    async def exit(self, *error: *_Error) -> bool | None:
        return await asyncio.shield(result(self._lane.submit(lambda: self._manager.__exit__(*error), last=self._own)))


class _Inside:
    """The object that a ``with`` block of the store returned, with awaitable methods and unchanged values."""

    def __init__(self, store: Running, value: object) -> None:
        self.__dict__.update(_store=store, _value=value)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._value, name)
        if not inspect.ismethod(found):
            return found

        @wraps(found)
        def call(*args: object, **kwargs: object) -> AsyncCall:
            return AsyncCall(self._store, lambda _: found, found, args, kwargs)

        return awaitable(call)

    def __dir__(self) -> list[str]:
        return dir(self._value)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._value, name, value)

    def __repr__(self) -> str:
        return repr(self._value)


class _Transaction:
    """A transaction of one task and the tasks that it starts. Calls of other tasks wait until it ends."""

    def __init__(self, lane: Lane, store: Store) -> None:
        self._lane, self._store = lane, store

    async def enter(self) -> None:
        self._mark = Mark(self._lane, here.get())
        begun = self._lane.submit(self._enter)
        try:
            await asyncio.shield(result(begun))
        except BaseException as error:
            if not begun.cancel():
                self._lane.submit(partial(self._leave, begun, error), mark=self._mark)
            raise
        here.set(self._mark)

    def _enter(self) -> None:
        self._manager = self._store.transaction()
        self._manager.__enter__()
        self._lane.begin(self._mark)

    def _leave(self, begun: Future[None], error: BaseException) -> None:
        if begun.exception() is None:
            self._exit(type(error), error, error.__traceback__)

    def _exit(self, *error: *_Error) -> None:
        try:
            self._manager.__exit__(*error)
        finally:
            self._lane.end(self._mark)

    async def exit(self, *error: *_Error) -> None:
        if here.get() is self._mark:
            here.set(self._mark.outer)
        await asyncio.shield(result(self._lane.submit(lambda: self._exit(*error), mark=self._mark)))


async def _rows(
    store: Running, marked: str | None, ready: Callable[[], Any], going: Going
) -> AsyncGenerator[Any, None]:
    """Stream the rows of a call. It keeps no reference to the call, so that the end of a loop closes it."""
    own = not store._order.inside()
    lane = Lane("scanstore-stream") if own else store._order
    count = 1 if marked == LONG else BATCH  # rows are claimed only when they are requested
    rows: Iterator[object] = iter(())
    try:
        rows = iter(await result(lane.submit(ready)))
        error = None
        while error is None:
            batch, error = await result(lane.submit(lambda: _some(rows, count)))
            for row in batch:
                yield row
            if not batch and error is None:
                return
        raise error
    except asyncio.CancelledError:
        going.cancel()
        raise
    finally:
        await asyncio.shield(result(lane.submit(getattr(rows, "close", lambda: None), last=own)))


def _error(kind: _Raised, value: object, trace: TracebackType | None) -> BaseException:
    """Return the error that the arguments of ``throw`` describe; callers of old versions of Python give three."""
    error = value if isinstance(value, BaseException) else kind
    if isinstance(error, type):
        error = error() if value is None else error(value)
    return error if trace is None else error.with_traceback(trace)


def _some(rows: Iterator[object], count: int) -> tuple[list[object], Exception | None]:
    """Return the next rows, and the error that ended them."""
    batch: list[object] = []
    try:
        batch.extend(islice(rows, count))
    except Exception as error:
        return batch, error
    return batch, None


def awaitable(call: Callable[_P, AsyncCall]) -> Callable[_P, AsyncCall]:
    """Mark a function that returns a call, so that it can be a callback, too."""
    vars(call)["awaitable"] = True
    return call
