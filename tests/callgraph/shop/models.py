"""Classes, class methods, properties, and the attributes of self."""

# ruff: noqa
# fmt: off
from __future__ import annotations

import json
from typing import Any


class Record:
    """The base of everything here."""

    registry: dict[str, type[Record]] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.touch()  # -> shop.models.Record.touch exact

    @classmethod
    def build(cls, name: str) -> Record:
        cls.check(name)  # -> shop.models.Record.check exact
        return cls(name)  # ~> shop.models.Record

    @staticmethod
    def check(name: str) -> None:
        if not name:
            raise ShopError(name)  # -> shop.models.ShopError exact

    def touch(self) -> None:
        self.dump()  # -> shop.models.Record.dump exact

    def dump(self) -> str:
        return json.dumps(vars(self))  # json.dumps -> none; vars -> none

    def save(self) -> Record:
        return self


class ShopError(Exception):
    pass


class Item(Record):
    def __init__(self, name: str, cents: int) -> None:
        super().__init__(name)  # super().__init__ -> shop.models.Record.__init__ inherited; super -> none
        self.cents = cents
        self.history = History(self)  # -> shop.models.History exact
        self.listener: History = History(None)  # -> shop.models.History exact

    @property
    def price(self) -> float:
        return self.as_float()  # -> shop.models.Item.as_float exact

    def as_float(self) -> float:
        return float(self.cents)  # -> none

    def dump(self) -> str:
        text = super().dump()  # super().dump -> shop.models.Record.dump inherited; super -> none
        return text.upper()  # -> none

    def rename(self, name: str) -> None:
        Record.check(name)  # -> shop.models.Record.check exact
        self.check(name)  # -> shop.models.Record.check inherited
        self.history.add(name)  # -> shop.models.History.add exact
        self.listener.add(name)  # -> shop.models.History.add exact
        self.save()  # -> shop.models.Record.save inherited

    @staticmethod
    def compare(left: Item, right: Item) -> bool:
        return left.as_float() < right.as_float()  # left.as_float -> shop.models.Item.as_float exact; right.as_float -> shop.models.Item.as_float exact


class History:
    """`add`, `save` and `dump` exist elsewhere too: nothing but the receiver tells them apart."""

    def __init__(self, item: Item | None) -> None:
        self.item = item
        self.names: list[str] = []

    def add(self, name: str) -> None:
        self.names.append(name)  # -> none
        if self.item is not None:
            self.item.dump()  # ~> shop.models.Item.dump

    def save(self) -> None:
        def save(deep: bool) -> None:
            if deep:
                save(False)  # -> shop.models.History.save.save exact

        save(True)  # -> shop.models.History.save.save exact

    class Entry:
        def show(self) -> str:
            return self.label()  # -> shop.models.History.Entry.label exact

        def label(self) -> str:
            return "entry"

    def first(self) -> str:
        return self.Entry().show()  # self.Entry ~> shop.models.History.Entry; self.Entry().show ~> shop.models.History.Entry.show


def load(text: str) -> Any:
    return json.loads(text)  # -> none
