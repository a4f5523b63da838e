"""Domains: the classes that a store is composed of. Their methods run with their own store as the current one.

Change here: which methods of a domain run with its store as the current one, and the marks that say how the
asynchronous store may run a method.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from types import FunctionType

from scanstore.db.current import Bound, Closing, current

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import TypeVar

    from scanstore.db.database import Database

    _Steps = Generator[object, None, object]
    _F = TypeVar("_F", bound=Callable[..., object])

#: Special methods that are public calls of a domain, such as ``store.search("...")`` and ``store.settings["..."]``.
SPECIAL = frozenset({"__call__", "__contains__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__"})
READS, LONG = "reads", "long"
#: Attributes of domains that `dir()` leaves out.
INTERNAL = frozenset({"db", "store"})
#: `list`, for annotations in classes with a method of that name.
List = list


class Domain:
    """Base of the classes that a store is composed of. A domain holds only the database.

    Every public method of a subclass runs with the domain's own store as the current one. For a generator method this
    holds during each step; between steps the caller's store is current.

    A domain that needs another domain creates it, as in ``Scans(self.db).get(scan)``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    def __dir__(self) -> list[str]:
        """Return the names of the calls and values, without those for internal use."""
        kind = type(self)
        inner = [name for name in dir(kind) if not name.startswith("_") and not _is_public(getattr(kind, name))]
        return sorted({*super().__dir__()}.difference(inner, INTERNAL))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, member in list(vars(cls).items()):
            if isinstance(member, FunctionType) and (name in SPECIAL or not name.startswith("_")):
                setattr(cls, name, _bind_steps(member) if _is_generator(member) else _bind(member))


def reads(method: _F) -> _F:
    """Mark a method that neither writes nor waits for writers. The asynchronous store runs it in parallel."""
    method.lane = READS  # type: ignore[attr-defined]
    return method


def long(method: _F) -> _F:
    """Mark a method that takes long, waits or calls back. The asynchronous store runs it in a separate thread.

    Such a method keeps no transaction open while it waits for its caller.
    """
    method.lane = LONG  # type: ignore[attr-defined]
    return method


def _is_public(member: object) -> bool:
    """Whether a member of a class is a call or computed value of its instances."""
    return isinstance(member, FunctionType | property) or hasattr(member, "__set_name__")


def _is_generator(function: FunctionType) -> bool:
    return bool(function.__code__.co_flags & 0x20)  # inspect.CO_GENERATOR; inspect takes long to import


def _bind(method: Callable[..., object]) -> Callable[..., object]:
    @wraps(method)
    def call(self: Domain, *args: object, **kwargs: object) -> object:
        if current() is self.db and not self.db.shut_down:
            return method(self, *args, **kwargs)
        with Bound(self.db):
            return method(self, *args, **kwargs)

    return call


def _bind_steps(method: Callable[..., _Steps]) -> Callable[..., _Steps]:
    @wraps(method)
    def stream(self: Domain, *args: object, **kwargs: object) -> _Steps:
        steps = method(self, *args, **kwargs)
        try:
            while True:
                with Bound(self.db):
                    try:
                        item = next(steps)
                    except StopIteration as end:
                        return end.value
                yield item
        finally:
            with Closing(self.db):
                steps.close()

    return stream
