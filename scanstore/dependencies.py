"""Stores for dependency injection in web applications: one of each kind per process, at the path from the environment.

The path is ``$SCANSTORE_DB``; else that of ``$DATABASE_URL``, such as ``sqlite:///scan.db``; else ``scanstore.db`` in
the current folder (:mod:`scanstore.db.locations`).
With ``DEBUG=true`` every statement is logged to standard error. A store is opened on first use, shared by all threads
and tasks, and closed when the process ends, or by :func:`close_all`.

Change here: which stores are shared. The environment is not read when this module is imported.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager

from scanstore.aio.store import AsyncStore
from scanstore.db.database import MEMORY
from scanstore.db.locations import default_path
from scanstore.db.logs import PlainFormatter
from scanstore.store import Store

_lock = threading.Lock()
_stores: dict[str, Store] = {}
_async_stores: dict[tuple[str, int], AsyncStore] = {}  # threads do not survive a fork, so each process has its own
_echo: list[logging.Handler] = []


def get_db() -> Generator[Store]:
    """Yield the store of the process and make it current; for ``Depends(get_db)`` of FastAPI and similar frameworks.

    If the framework runs the endpoint in another thread, use ``with db.bound():`` to make it current there; only
    queries on the models need this. Raises InvalidArgument for a URL of another database, and the errors of Store.
    """
    store = _shared()
    with store.bound():
        yield store


@contextmanager
def get_db_context() -> Generator[Store]:
    """Return a context manager with the store of the process, which is current inside. The store stays open
    afterwards.
    """
    yield from get_db()


async def get_async_session() -> AsyncGenerator[AsyncStore]:
    """Yield the asynchronous store of the process; for ``Depends(get_async_session)``. Raises the same errors as
    get_db.
    """
    path = location()
    with _lock:
        store = _async_stores.get((path, os.getpid()))
        if store is None or store.closed:
            store = _async_stores[path, os.getpid()] = async_session_factory()
    yield await store.open()


def async_session_factory() -> AsyncStore:
    """Return a new store at the path from the environment. ``async with`` opens and closes it.

    Raises InvalidArgument for a URL of another database.
    """
    _echo_if_debugging()
    return AsyncStore(location())


def location() -> str:
    """Return the absolute path of the store from the environment, or ":memory:". Raises InvalidArgument."""
    path = default_path()
    return path if path == MEMORY else os.path.abspath(path)


def close_all() -> None:
    """Close the stores of this process. The next use opens them again. Idempotent.

    Waits for running calls. In a coroutine, use ``await asyncio.to_thread(close_all)``.
    """
    with _lock:
        stores, awaited = list(_stores.values()), [s for (_, pid), s in _async_stores.items() if pid == os.getpid()]
        _stores.clear()
        _async_stores.clear()
        while _echo:
            logging.getLogger("peewee").removeHandler(_echo.pop())
            logging.getLogger("peewee").setLevel(logging.NOTSET)
    for each in awaited:
        each.shut().result()
    for store in stores:
        store.close()


atexit.register(close_all)


def _shared() -> Store:
    path = location()
    with _lock:
        store = _stores.get(path)
        if store is None or store.closed:
            _echo_if_debugging()
            store = _stores[path] = Store(path)
        return store


def _echo_if_debugging() -> None:
    """Log statements if the environment has DEBUG=true. Configured once."""
    if os.environ.get("DEBUG", "").strip().lower() == "true" and not _echo:
        handler = logging.StreamHandler()
        handler.setFormatter(PlainFormatter("%(asctime)s %(message)s"))
        _echo.append(handler)
        log = logging.getLogger("peewee")
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
