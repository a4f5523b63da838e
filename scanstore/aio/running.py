"""The part of an asynchronous store that opens and closes it, and runs functions in its threads.

Read-only calls run in parallel in a few threads. Other calls run one after another, in the order of the calls, in one
thread that also holds the transactions. Long calls and calls with callbacks get a thread each. Threads own the
connections, not an event loop, so you can use a store from any event loop, and from several in turn.

The marks ``@reads`` and ``@long`` of :mod:`scanstore.db.domain` say which calls only read and which take long; a method
without a mark runs in order. Change here: how calls are spread over threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from functools import cached_property
from typing import TYPE_CHECKING, ParamSpec, Self, TypedDict, TypeGuard, TypeVar, Unpack

from scanstore import parts
from scanstore.aio.lanes import Lane, complete
from scanstore.db.domain import LONG, READS
from scanstore.errors import InvalidArgument, StoreClosed, shown
from scanstore.store import Store

if TYPE_CHECKING:
    from scanstore.db.words import Durability
    from scanstore.leases.engine import Recovered
    from scanstore.leases.queue import Stop

_T = TypeVar("_T")
_P = ParamSpec("_P")


class _Options(TypedDict, total=False):
    """The options of Store, without the path."""

    timeout: float
    durability: Durability
    read_only: bool
    migrate: bool
    key: str | None
    slow_ms: float | None


class Running:
    """An AsyncStore without its calls: opening, closing, and the threads."""

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, readers: int = 4, **options: Unpack[_Options]
    ) -> None:
        if isinstance(readers, bool) or not isinstance(readers, int) or readers < 1:
            raise InvalidArgument(f"readers is {readers!r}; give a whole number of at least 1")
        self._make: Callable[[], Store] = lambda: Store(path, **options)
        self._store: Store | None = None
        self._closing: Future[None] | None = None
        self._process = os.getpid()
        self._going: dict[Future[object], Going] = {}  # long calls
        self._order = Lane("scanstore-order")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="scanstore-read")

    # Opening and closing

    async def open(self) -> Self:
        """Open the file, in a thread. Idempotent. Raises the errors of Store."""
        if self._closing is not None or self._store is None:
            self._usable()
            await result(self._order.submit(self._open))
        return self

    def _open(self) -> None:
        if self._store is None:
            self._store = self._make()
            for part in parts_of(Store).values():
                class_of(part)  # loaded here, and not in the thread of the event loop when a call is made

    async def close(self) -> None:
        """Wait for all running calls and close the store. Idempotent.

        Workers are stopped, and callback coroutines are cancelled. Cancelling this call does not stop the closing.
        """
        if self._process == os.getpid():
            await asyncio.shield(result(self.shut()))

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

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run your own function, in order with the other writing calls and with this store as the current one.

        For queries on the models: ``await store.run(lambda: list(Scan.select()))``.
        """
        if is_coroutine_function(function):
            raise InvalidArgument(f"{shown(function)} is a coroutine function; give a plain one, or await it yourself")
        store = self._opened()

        def inside() -> _T:
            with store.bound():
                return function(*args, **kwargs)

        return await result(self._order.submit(inside))

    def _submit(self, lane: str | None, function: Callable[[], object], going: Going) -> Future[object]:
        """Run a function in the thread for calls with this mark. All calls of a transaction run in its thread."""
        if not self._order.inside():
            if lane == LONG:
                return self._alone(function, going)
            if lane == READS:
                return self._readers.submit(function)
        return self._order.submit(function)

    def _alone(self, function: Callable[[], object], going: Going) -> Future[object]:
        future: Future[object] = Future()
        self._going[future] = going
        future.add_done_callback(lambda done: self._going.pop(done, None))
        threading.Thread(target=complete, args=(future, function), name="scanstore-long", daemon=True).start()
        return future


class Going:
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


async def result(future: Future[_T]) -> _T:
    return await asyncio.wrap_future(future)


def is_coroutine_function(value: object) -> TypeGuard[Callable[..., Coroutine[object, object, object]]]:
    """Whether a callback is to be awaited. Methods of an asynchronous store are, too."""
    called = inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(vars(type(value)).get("__call__"))
    return called or getattr(value, "awaitable", None) is True


def parts_of(class_: type) -> dict[str, cached_property[object]]:
    """Return the domains of a store, or those inside another domain, by name."""
    return {name: part for name, part in vars(class_).items() if isinstance(part, cached_property)}


def class_of(part: cached_property[object]) -> type:
    """The class of a part of the store, by the annotation of its property; its modules are loaded with it."""
    name = part.func.__annotations__["return"]
    found: type = part.func.__globals__.get(name) or getattr(parts, name)
    return found
