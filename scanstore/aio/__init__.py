"""The store for asyncio: every call of :class:`scanstore.store.Store`, awaited.

``lanes`` are the threads that run the calls; ``store`` decides which call runs in which of them.
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
