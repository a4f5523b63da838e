"""The store for asyncio: every method of :class:`scanstore.store.Store` as a coroutine.

``lanes`` has the threads that run the calls; ``running`` opens the store and chooses the thread of each call. ``calls``
has the calls, and ``domains`` makes them from the methods of the synchronous store. ``store`` has the public classes,
and ``store.pyi`` their signatures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.aio.store import AsyncCall, AsyncDomain, AsyncStore
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"store": ("AsyncDomain", "AsyncStore", "AsyncCall")},
    )

__all__ = ["AsyncDomain", "AsyncStore", "AsyncCall"]
