"""Domains: the classes that a store is composed of, whose methods run in their own store."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import TYPE_CHECKING, TypeVar, cast

from scanstore.db.current import Bound, Closing, current

if TYPE_CHECKING:
    from scanstore.db.database import Database

    _Steps = Generator[object, None, object]

_F = TypeVar("_F", bound=Callable[..., object])


class Domain:
    """Base of the classes that a store is composed of: it holds the database and nothing else.

    A domain that needs another one makes it on the spot, as in ``Scans(self.db).get(scan)``.
    """

    def __init__(self, db: Database) -> None:
        self.db = db


def bound(method: _F) -> _F:
    """Run a domain's method with its own store current; for a generator method that means each of its steps.

    Between the steps of a generator the caller's own store is current again.
    """
    if method.__code__.co_flags & 0x20:  # a generator function
        return cast(_F, _bound_steps(cast("Callable[..., _Steps]", method)))  # as the flag says

    @wraps(method)
    def call(self: Domain, *args: object, **kwargs: object) -> object:
        if current() is self.db and not self.db.shut_down:
            return method(self, *args, **kwargs)
        with Bound(self.db):
            return method(self, *args, **kwargs)

    return cast(_F, call)


def _bound_steps(method: Callable[..., _Steps]) -> Callable[..., _Steps]:
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
