"""The classes of an asynchronous store and of its domains, made from the synchronous ones.

Every public method becomes one that makes a call, with the same name, signature and documentation. Change here: how
methods are converted.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import cache, cached_property, wraps
from operator import attrgetter
from types import FunctionType

from scanstore.aio.calls import AsyncCall, awaitable
from scanstore.aio.running import Running, class_of
from scanstore.store import Store

NOT_HERE = frozenset({"bound", "use"})  #: for models in the caller's thread; use run() instead


class AsyncDomain:
    """A domain of the store, such as ``store.symbols``, with awaitable methods."""

    __contains__ = None  # otherwise Python would iterate over items forever
    __iter__ = None

    def __init__(self, store: Running, name: str) -> None:
        self._store, self._name = store, name

    def __repr__(self) -> str:
        return f"<{self._name} of {self._store!r}>"


#: Special methods of domains, and the names of their asynchronous counterparts.
SPECIAL = {"__call__": "__call__", "__getitem__": "__getitem__", "__iter__": "__aiter__"}


def _awaitable(name: str, method: FunctionType) -> Callable[..., AsyncCall]:
    """Return the method of a domain that makes a call of this one. It keeps the signature and the documentation."""

    @wraps(method)
    def call(self: AsyncDomain, /, *args: object, **kwargs: object) -> AsyncCall:
        return AsyncCall(self._store, attrgetter(f"{self._name}.{name}"), method, args, kwargs)

    return awaitable(call)


def _of_store(name: str, method: FunctionType) -> Callable[..., AsyncCall]:
    @wraps(method)
    def call(self: Running, /, *args: object, **kwargs: object) -> AsyncCall:
        return AsyncCall(self, attrgetter(name), method, args, kwargs)

    return awaitable(call)


def _iterated(call: Callable[..., AsyncCall]) -> Callable[[AsyncDomain], AsyncCall]:
    return lambda self: call(self)


@cache
def asynchronous(class_: type) -> type[AsyncDomain]:
    """Return the class with the awaitable methods of a domain: ``AsyncSymbols`` for ``Symbols``."""
    members: dict[str, object] = {"__doc__": class_.__doc__, "__module__": "scanstore.aio.store"}
    for name in dir(class_):
        member = inspect.getattr_static(class_, name)
        if isinstance(member, cached_property):
            members[name] = _part(name, member)
        elif isinstance(member, FunctionType) and (name in SPECIAL or not name.startswith("_")):
            call = _awaitable(name, member)
            members[SPECIAL.get(name, name)] = _iterated(call) if name == "__iter__" else call
    return type(f"Async{class_.__name__}", (AsyncDomain,), members)


def _part(name: str, part: cached_property[object]) -> property:
    """Return the property for a domain, of a store or of another domain."""

    def domain(self: Running | AsyncDomain) -> AsyncDomain:
        """Stands for the documentation of the property."""
        if isinstance(self, AsyncDomain):
            return asynchronous(class_of(part))(self._store, f"{self._name}.{name}")
        return asynchronous(class_of(part))(self, name)

    return property(domain, doc=part.__doc__)


def _in_a_thread(function: Callable[..., object]) -> Callable[..., object]:
    @wraps(function)
    async def call(*args: object, **kwargs: object) -> object:
        return await asyncio.to_thread(function, *args, **kwargs)

    return call


def complete(class_: type[Running]) -> None:
    """Add the calls and domains of ``Store`` to a class, except those that it defines."""
    for name, member in vars(Store).items():
        if name.startswith("_") or name in NOT_HERE or hasattr(class_, name):
            continue
        if isinstance(member, staticmethod):  # these work on files that are not open
            setattr(class_, name, staticmethod(_in_a_thread(member.__func__)))
        elif isinstance(member, cached_property):
            setattr(class_, name, _part(name, member))
        elif isinstance(member, FunctionType):
            setattr(class_, name, _of_store(name, member))
