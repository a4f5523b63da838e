"""The store for asyncio: every method of :class:`~scanstore.store.Store` as a coroutine.

Type checkers read ``store.pyi`` instead of this file. It has the signature of every method, and is written from the
source of ``Store`` and its domains by ``tests/support/async_stub.py``. Run that after a change of a public method.
"""

from __future__ import annotations

from scanstore.aio.calls import AsyncCall
from scanstore.aio.domains import AsyncDomain, asynchronous, complete
from scanstore.aio.running import Running, class_of, parts_of
from scanstore.store import Store

__all__ = ["AsyncCall", "AsyncDomain", "AsyncStore"]


class AsyncStore(Running):
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


complete(AsyncStore)


def __getattr__(name: str) -> type[AsyncDomain]:
    """Return the class of a domain, such as ``AsyncSymbols``, for annotations."""
    waiting = [*parts_of(Store).values()]
    while name.startswith("Async") and waiting:
        class_ = class_of(waiting.pop())
        if name == f"Async{class_.__name__}":
            return asynchronous(class_)
        waiting += parts_of(class_).values()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
