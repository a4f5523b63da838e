"""The store for asyncio: every method of :class:`~scanstore.store.Store` as a coroutine.

No method is implemented twice: a call is looked up on the synchronous store and run in a thread. Read-only calls run in
parallel in a few threads. Other calls run one after another, in the order of the calls, in one thread that also holds
the transactions. Long calls and calls with callbacks get a thread each. Threads own the connections, not an event loop,
so you can use a store from any event loop, and from several in turn.

The marks ``@reads`` and ``@long`` of :mod:`scanstore.db.domain` say which calls only read and which take long; a method
without a mark runs in order. Change here: how calls are spread over threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from functools import cached_property, partial, wraps
from itertools import islice
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypedDict, TypeGuard, TypeVar, Unpack

from scanstore import parts
from scanstore.aio.lanes import Lane, Mark, complete, here
from scanstore.db.domain import LONG, READS
from scanstore.errors import InvalidArgument, StoreClosed, shown
from scanstore.store import Store

if TYPE_CHECKING:
    from scanstore.db.words import Durability
    from scanstore.leases.engine import Recovered
    from scanstore.leases.queue import Stop

_T = TypeVar("_T")
_P = ParamSpec("_P")
_Error = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

NOT_HERE = frozenset({"bound"})  #: tied to a thread, which the caller does not have; use run() instead
BATCH = 256  #: rows that a stream fetches at once


class _Options(TypedDict, total=False):
    """The options of Store, without the path."""

    timeout: float
    durability: Durability
    read_only: bool
    migrate: bool
    key: str | None
    slow_ms: float | None


class AsyncStore:
    """A :class:`~scanstore.store.Store` for asyncio, with the same options.

    ``async with AsyncStore("scan.db") as store:`` opens and closes it. Await the methods, as in ``await
    store.symbols.find("x")``. Read streams with ``async for``, and enter blocks such as ``store.transaction()`` with
    ``async with``. Names, results and errors are those of Store. Callbacks that may run long, such as the handlers of
    ``store.jobs.run_worker``, may be coroutine functions.

    Up to ``readers`` calls read at the same time. A cancelled call that has not started never runs. A started call is
    finished before the next one, so no call is half-written. Cancelling a worker, or another call that works item by
    item, stops it after the current item and cancels the coroutine that it awaits. A cancelled transaction is rolled
    back. Returned rows do not load related rows; query these through the store.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, readers: int = 4, **options: Unpack[_Options]
    ) -> None:
        if isinstance(readers, bool) or not isinstance(readers, int) or readers < 1:
            raise InvalidArgument(f"readers is {readers!r}; give a whole number of at least 1")
        self._make: Callable[[], Store] = lambda: Store(path, **options)
        self._store: Store | None = None
        self._closing: Future[None] | None = None
        self._process = os.getpid()
        self._going: dict[Future[object], _Going] = {}  # long calls
        self._order = Lane("scanstore-order")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="scanstore-read")

    # Opening and closing

    async def open(self) -> Self:
        """Open the file, in a thread. Idempotent. Raises the errors of Store."""
        if self._closing is not None or self._store is None:
            self._usable()
            await _result(self._order.submit(self._open))
        return self

    def _open(self) -> None:
        if self._store is None:
            self._store = self._make()
            for part in vars(Store).values():
                if isinstance(part, cached_property):
                    _class_of(part)  # loaded here, and not in the thread of the event loop when a call is made

    async def close(self) -> None:
        """Wait for all running calls and close the store. Idempotent.

        Workers are stopped, and callback coroutines are cancelled. Cancelling this call does not stop the closing.
        """
        if self._process == os.getpid():
            await asyncio.shield(_result(self.shut()))

    def shut(self) -> Future[None]:
        """Start closing the store, from a thread without an event loop. The future is done when the store is closed."""
        if self._closing is None:
            self._closing = self._order.submit(self._close, last=True)
        return self._closing

    def _close(self) -> None:
        for going in list(self._going.values()):
            going.cancel()
        concurrent.futures.wait(list(self._going))
        self._readers.shutdown(wait=True)
        if self._store is not None:
            self._store.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        order = self.__dict__.get("_order")
        if order is not None and order.running and self._closing is None and self._process == os.getpid():
            order.submit((lambda: None) if self._store is None else self._store.close, last=True)

    def __repr__(self) -> str:
        return f"<AsyncStore {'not open' if self._store is None else self._store!r}>"

    @property
    def path(self) -> str:
        """The absolute path of the file, or ":memory:"."""
        return self._opened().path

    @property
    def recovered(self) -> Recovered | None:
        """The rows that opening has freed, see ``Store.recover``."""
        return self._opened().recovered

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._closing is not None

    def _usable(self) -> None:
        if self._closing is not None:
            raise StoreClosed("the store was closed; make another one")
        if self._process != os.getpid():
            raise StoreClosed(f"the store belongs to process {self._process}, with its threads; make another one here")

    def _opened(self) -> Store:
        self._usable()
        if self._store is None:
            raise StoreClosed("the store is not open; use: async with AsyncStore(path)")
        return self._store

    # Calls

    def __getattr__(self, name: str) -> Any:
        known = None if name.startswith("_") or name in NOT_HERE else Store.__dict__.get(name)
        if isinstance(known, cached_property):
            return AsyncDomain(self, name, _class_of(known))
        if inspect.isfunction(known):
            return AsyncCall(self, name, lambda store: getattr(store, name), getattr(known, "lane", None))
        raise AttributeError(f"a store has no {name!r} to be awaited")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(n for n in vars(Store) if not n.startswith("_") and n not in NOT_HERE)})

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run your own function, in order with the other writing calls and with this store as the current one.

        For queries on the models: ``await store.run(lambda: list(Scan.select()))``.
        """
        if _is_coroutine_function(function):
            raise InvalidArgument(f"{shown(function)} is a coroutine function; give a plain one, or await it yourself")
        store = self._opened()

        def inside() -> _T:
            with store.bound():
                return function(*args, **kwargs)

        return await _result(self._order.submit(inside))

    def _submit(self, lane: str | None, function: Callable[[], object], going: _Going) -> Future[object]:
        """Run a function in the thread for calls with this mark. All calls of a transaction run in its thread."""
        if not self._order.inside():
            if lane == LONG:
                return self._alone(function, going)
            if lane == READS:
                return self._readers.submit(function)
        return self._order.submit(function)

    def _alone(self, function: Callable[[], object], going: _Going) -> Future[object]:
        future: Future[object] = Future()
        self._going[future] = going
        future.add_done_callback(lambda done: self._going.pop(done, None))
        threading.Thread(target=complete, args=(future, function), name="scanstore-long", daemon=True).start()
        return future


def _in_a_thread(function: Callable[..., object]) -> Callable[..., object]:
    @wraps(function)
    async def call(*args: object, **kwargs: object) -> object:
        return await asyncio.to_thread(function, *args, **kwargs)

    return call


for _name, _member in vars(Store).items():
    # static methods work on files that are not open
    if isinstance(_member, staticmethod) and not _name.startswith("_"):
        setattr(AsyncStore, _name, staticmethod(_in_a_thread(_member.__func__)))


class AsyncDomain:
    """A domain of the store, such as ``store.symbols``, with awaitable methods."""

    __contains__ = None  # otherwise Python would iterate over items forever
    __iter__ = None

    def __init__(self, store: AsyncStore, name: str, class_: type) -> None:
        self._store, self._name, self._class = store, name, class_

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        part = getattr(self._class, name, None)
        if isinstance(part, cached_property):
            return AsyncDomain(self._store, f"{self._name}.{name}", _class_of(part))
        return self._bound(name)

    def __dir__(self) -> list[str]:
        calls = inspect.getmembers(
            self._class, lambda each: inspect.isfunction(each) or isinstance(each, cached_property)
        )
        return sorted({*super().__dir__(), *(name for name, _ in calls if not name.startswith("_"))})

    def _bound(self, name: str) -> AsyncCall:
        method = getattr(self._class, name, None)
        if not inspect.isfunction(method):
            raise AttributeError(f"{self._name} has no method {name!r}; dir(store.{self._name}) lists them")
        find = attrgetter(f"{self._name}.{name}")
        return AsyncCall(self._store, name, find, getattr(method, "lane", None))

    def __call__(self, *args: object, **kwargs: object) -> AsyncCall:
        return self._bound("__call__")(*args, **kwargs)

    def __getitem__(self, key: object) -> AsyncCall:
        return self._bound("__getitem__")(key)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._bound("__iter__")().__aiter__()

    def __repr__(self) -> str:
        return f"<{self._name} of {self._store!r}>"


def _class_of(part: cached_property[object]) -> type:
    """The class of a part of the store, by the annotation of its property; its modules are loaded with it."""
    name = part.func.__annotations__["return"]
    found: type = part.func.__globals__.get(name) or getattr(parts, name)
    return found


class AsyncCall:
    """A method of the store. Its result can be awaited, iterated or entered, depending on the method."""

    __slots__ = ("_args", "_find", "_going", "_inside", "_kwargs", "_lane", "_name", "_store", "_used")

    _args: tuple[object, ...]
    _kwargs: dict[str, object]
    _inside: _Transaction | _Block

    def __init__(
        self, store: AsyncStore, name: str, find: Callable[[Store], Callable[..., object]], lane: str | None
    ) -> None:
        self._store, self._name, self._find, self._lane = store, name, find, lane
        self._used = True

    def __call__(self, *args: object, **kwargs: object) -> AsyncCall:
        made = AsyncCall(self._store, self._name, self._find, self._lane)
        made._args, made._kwargs, made._used = args, kwargs, False
        return made

    def __repr__(self) -> str:
        return f"<{self._name} of {self._store!r}>"

    def __del__(self) -> None:
        if not getattr(self, "_used", True):
            warnings.warn(f"{self._name}() was never awaited, so nothing was done", RuntimeWarning, stacklevel=2)

    def _ready(self) -> Callable[[], Any]:
        """Prepare the call for a thread. Coroutine functions run in the event loop of the caller."""
        if self._used:
            raise RuntimeError(f"{self!r} was not called, or was awaited already; call it again")
        self._used = True
        find, going, store = self._find, _Going(), self._store._opened()
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
        if isinstance(value, dict) and any(map(_is_coroutine_function, value.values())):
            return {key: self._plain(each) for key, each in value.items()}
        if not _is_coroutine_function(value):
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
            made = await _result(self._store._submit(self._lane, ready, self._going))
        except asyncio.CancelledError:
            self._going.cancel()
            raise
        if inspect.isgenerator(made):
            raise TypeError(f"{self._name}() gives its rows one by one; read them with: async for")
        return made

    async def __aiter__(self) -> AsyncIterator[Any]:
        ready = self._ready()
        own = not self._store._order.inside()
        lane = Lane("scanstore-stream") if own else self._store._order
        count = 1 if self._lane == LONG else BATCH  # rows are claimed only when they are requested
        rows: Iterator[object] = iter(())
        try:
            rows = iter(await _result(lane.submit(ready)))
            error = None
            while error is None:
                batch, error = await _result(lane.submit(lambda: _some(rows, count)))
                for row in batch:
                    yield row
                if not batch and error is None:
                    return
            raise error
        except asyncio.CancelledError:
            self._going.cancel()
            raise
        finally:
            await asyncio.shield(_result(lane.submit(getattr(rows, "close", lambda: None), last=own)))

    async def __aenter__(self) -> Any:
        if self._name == "transaction":
            self._ready()
            self._inside = _Transaction(self._store._order, self._store._opened())
        else:
            self._inside = _Block(self._store, self._ready())
        return await self._inside.enter()

    async def __aexit__(self, *error: *_Error) -> bool | None:
        return await self._inside.exit(*error)


class _Going:
    """A running long call: its stop signal, and the coroutines that it waits for.

    It is passed to the call as ``stop``. A ``stop`` that the caller has ``given`` is checked too.
    """

    def __init__(self) -> None:
        self.given: Stop | None = None
        self._cancelled = threading.Event()
        self._called: set[Future[object]] = set()

    def is_set(self) -> bool:
        return self._cancelled.is_set() or (self.given is not None and bool(self.given.is_set()))

    def wait(self, timeout: float | None = None) -> bool:
        self._cancelled.wait(timeout)
        return self.is_set()

    def cancel(self) -> None:
        """Stop the call, and cancel the coroutine that it awaits."""
        self._cancelled.set()
        for future in list(self._called):
            future.cancel()

    def calling(
        self,
        function: Callable[_P, Coroutine[object, object, object]],
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> Callable[_P, object]:
        """Return a plain function that runs a coroutine function in an event loop, with its result or error."""

        def called(*args: _P.args, **kwargs: _P.kwargs) -> object:
            if self._cancelled.is_set() or loop.is_closed():
                raise asyncio.CancelledError
            future = context.copy().run(asyncio.run_coroutine_threadsafe, function(*args, **kwargs), loop)
            self._called.add(future)
            try:
                if self._cancelled.is_set():
                    future.cancel()
                while not concurrent.futures.wait((future,), 1).done:
                    if loop.is_closed():
                        raise asyncio.CancelledError
                return future.result()
            except concurrent.futures.CancelledError:
                raise asyncio.CancelledError from None  # a cancellation, not an error, so that the row is released
            finally:
                self._called.discard(future)

        return called


class _Block:
    """A ``with`` block of the store. Its entry and exit may block, so they run in a separate thread, or in the
    transaction's thread inside a transaction.
    """

    def __init__(self, store: AsyncStore, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._store, self._make = store, make
        self._own = not store._order.inside()
        self._lane = Lane("scanstore-block") if self._own else store._order

    async def enter(self) -> _Inside:
        begun = self._lane.submit(self._enter)
        try:
            return _Inside(self._store, await asyncio.shield(_result(begun)))
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
        return await asyncio.shield(_result(self._lane.submit(lambda: self._manager.__exit__(*error), last=self._own)))


class _Inside:
    """The object that a ``with`` block of the store returned, with awaitable methods and unchanged values."""

    def __init__(self, store: AsyncStore, value: object) -> None:
        self.__dict__.update(_store=store, _value=value)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._value, name)
        if not inspect.ismethod(found):
            return found
        return AsyncCall(self._store, name, lambda _: found, getattr(found, "lane", None))

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
            await asyncio.shield(_result(begun))
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
        await asyncio.shield(_result(self._lane.submit(lambda: self._exit(*error), mark=self._mark)))


async def _result(future: Future[_T]) -> _T:
    return await asyncio.wrap_future(future)


def _some(rows: Iterator[object], count: int) -> tuple[list[object], Exception | None]:
    """Return the next rows, and the error that ended them."""
    batch: list[object] = []
    try:
        batch.extend(islice(rows, count))
    except Exception as error:
        return batch, error
    return batch, None


def _is_coroutine_function(value: object) -> TypeGuard[Callable[..., Coroutine[object, object, object]]]:
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(vars(type(value)).get("__call__"))
