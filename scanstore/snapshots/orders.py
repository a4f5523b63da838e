"""The method resolution orders of the classes of a snapshot, and their bases, for a resolver."""

from __future__ import annotations

from typing import Protocol

from scanstore.snapshots.c3 import Class, merged
from scanstore.snapshots.interfaces import NO_BASES, Bases, Found, Module, Order

#: If a class has more ancestors, the farthest count as outside the tree.
LONGEST_ORDER = 250


class Deeper(Exception):
    """Raised when a path, or the order of a class, is needed too deep in the stack."""

    def __init__(self, key: str | Class) -> None:
        super().__init__(key)
        self.key = key


class _Resolver(Protocol):
    """The part of a resolver that evaluates the bases of classes."""

    modules: dict[str, Module]
    orders: dict[Class, Order]
    bases: dict[Class, Bases]
    active: dict[str | Class, None]
    most: int
    cyclic: bool
    orders_now: dict[Class, Order]
    bases_now: dict[str, Bases]
    bases_before: dict[str, Bases]
    cut: set[str]

    def evaluate(self, path: str) -> Found: ...

    def settled(self, key: str | Class, outer: bool) -> bool: ...


def order_of(resolver: _Resolver, key: Class) -> Order:
    """Return the method resolution order of a class. Python rejects classes that are their own ancestors; for these
    and their subclasses, return the ancestors depth first, each once.
    """
    known = resolver.orders.get(key)
    if known is not None:
        return known
    known = resolver.orders_now.get(key)
    if known is not None:
        resolver.cyclic = True
        return known
    if key in resolver.active:
        resolver.cyclic = True
        return _ancestors(resolver, key), True, True
    if len(resolver.active) >= resolver.most:
        raise Deeper(key)
    resolver.active[key] = None
    outer, resolver.cyclic = resolver.cyclic, False
    bases, outside = _bases_of(resolver, key)
    orders = []
    looped = False
    for base in bases:
        if base in resolver.active:
            resolver.cyclic = looped = True
            break
        order, beyond, looped = order_of(resolver, base)
        if looped:
            break
        outside = outside or beyond
        orders.append(order)
    result: Order
    if looped:
        result = _ancestors(resolver, key), True, True
    else:
        above = merged([*orders, bases], LONGEST_ORDER) if len(orders) > 1 else orders[0] if orders else []
        result = [key, *above[: LONGEST_ORDER - 1]], outside or len(above) >= LONGEST_ORDER, False
    settled = resolver.settled(key, outer)
    if looped and all(each in resolver.bases for each in result[0]):
        settled = True  # the same from each class of the circle, or each would walk around it for all others
    (resolver.orders if settled else resolver.orders_now)[key] = result
    return result


def _ancestors(resolver: _Resolver, key: Class) -> list[Class]:
    """Yield a class and its ancestors, depth first."""
    found: dict[Class, None] = {}
    rest = [key]
    while rest and len(found) < LONGEST_ORDER:
        each = rest.pop()
        if each not in found:
            found[each] = None
            rest.extend(reversed(_bases_of(resolver, each)[0]))
    return list(found)


def _bases_of(resolver: _Resolver, key: Class) -> Bases:
    """Return the bases of a class. A base that resolves to the class itself is actually another, unknown class."""
    known = resolver.bases.get(key)
    if known is not None:
        return known
    mark = f"{key[0]}:{key[1]}"
    if mark in resolver.active:
        resolver.cyclic = True
        resolver.cut.add(mark)
        return resolver.bases_before.get(mark, NO_BASES)
    known = resolver.bases_now.get(mark)
    if known is not None:
        resolver.cyclic = True
        return known
    resolver.active[mark] = None
    outer, resolver.cyclic = resolver.cyclic, False
    outside = False
    bases: dict[Class, None] = {}
    for path in resolver.modules[key[0]].names[key[1]][2]:
        if path[0] == "@":  # the metaclass
            continue
        value = resolver.evaluate(path)[0]
        if value is not None and value[0] == "c" and value[1:] != key:
            bases[value[1], value[2]] = None
        elif path != "builtins.object":
            outside = True
    result = list(bases), outside
    if resolver.settled(mark, outer):
        resolver.bases[key] = result
    else:
        resolver.bases_now[mark] = result
    return result
