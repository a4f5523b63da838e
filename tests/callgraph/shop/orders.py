"""Inheritance across files: single, diamond, and through a module attribute."""

# ruff: noqa
# fmt: off
from __future__ import annotations

from . import models
from .models import History, Item as Thing, Record
from .pricing import rules
from .pricing.rules import discount as cut


class Priced:
    """A mixin without a base; its `save` is nobody else's."""

    rate: float = 1.0

    def save(self) -> Record:
        raise NotImplementedError

    def quote(self) -> float:
        return rules.discount(self.rate)  # -> shop.pricing.rules.discount imported


class Order(models.Record):
    def __init__(self, name: str, *things: Thing) -> None:
        super().__init__(name)  # super().__init__ -> shop.models.Record.__init__ inherited; super -> none
        self.things = list(things)  # -> none

    def total(self) -> float:
        return sum(cut(thing.price) for thing in self.things)  # sum -> none; cut -> shop.pricing.rules.discount imported

    def add(self, thing: Thing) -> Order:
        self.things.append(thing)  # -> none
        thing.rename("sold")  # -> shop.models.Item.rename imported
        thing.save()  # -> shop.models.Record.save inherited
        return self

    def copy(self) -> Order:
        other = Order(self.name)  # -> shop.orders.Order exact
        other.touch()  # -> shop.models.Record.touch inherited
        other.add(Thing("pen", 5))  # other.add -> shop.orders.Order.add exact; Thing -> shop.models.Item imported
        return other


class BigOrder(Priced, Order):
    """`save` comes from the mixin, because it is named first; `touch` only the far base has."""

    def total(self) -> float:
        self.quote()  # -> shop.orders.Priced.quote inherited
        self.save()  # -> shop.orders.Priced.save inherited
        self.touch()  # -> shop.models.Record.touch inherited
        return super().total()  # super().total -> shop.orders.Order.total inherited; super -> none

    @classmethod
    def make(cls) -> Record:
        return cls.build("big")  # -> shop.models.Record.build inherited


class Bulk(BigOrder):
    def add(self, thing: Thing) -> Order:
        super(Bulk, self).add(thing)  # super().add -> shop.orders.Order.add inherited; super -> none
        return BigOrder.add(self, thing)  # -> shop.orders.Order.add inherited


def process(order: Order, log: History, maybe: Order | None = None, raw=None) -> None:
    order.add(models.Item("ink", 9))  # order.add -> shop.orders.Order.add exact; models.Item -> shop.models.Item imported
    log.add("ink")  # -> shop.models.History.add imported
    raw.add("ink")  # -> none
    if maybe:
        maybe.total()  # ~> shop.orders.Order.total
    order.add(Thing("cap", 1)).total()  # order.add -> shop.orders.Order.add exact; Thing -> shop.models.Item imported; order.add().total ~> shop.orders.Order.total
    for each in [order]:
        each.total()  # ~> shop.orders.Order.total
