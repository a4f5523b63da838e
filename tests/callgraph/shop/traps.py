"""Calls that look like something in this tree and are not, or that nobody can tell."""

# ruff: noqa
# fmt: off
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import absent
from absent.deep import discount, gone
from .models import History, Item, load
from .pricing.rules import helper


def open(path: str) -> str:
    return path


class Shelf:
    def load(self) -> None:
        load("{}")  # -> shop.models.load imported

    def helper(self) -> None:
        helper(1.0)  # -> shop.pricing.rules.helper imported

    def bare(self) -> None:
        open("x")  # -> shop.traps.open exact
        save()  # type: ignore[name-defined]  # -> none
        rename("x")  # type: ignore[name-defined]  # -> none


def parameter(load: Callable[[str], Any], helper: Any) -> None:
    load("{}")  # -> none
    helper(1.0)  # -> none


def local() -> None:
    helper = make()  # -> shop.traps.make exact
    helper.save()  # -> none
    load: Any = os.environ.get("load")  # -> none
    load("{}")  # -> none


def late_local(flag: bool) -> None:
    if flag:
        helper(1.0)  # type: ignore  # -> none
    helper = len
    helper("x")  # -> none


def elsewhere(text: str, anything: Any, path: os.PathLike[str]) -> None:
    discount(1.0)  # -> none
    gone()  # -> none
    absent.helper(1.0)  # -> none
    os.path.join("a", "b")  # -> none
    os.remove("a")  # -> none
    text.rename("x")  # type: ignore  # -> none
    anything.dump()  # -> none
    anything.history.add("x")  # -> none
    getattr(anything, "save")()  # getattr -> none; getattr() -> none
    {"save": load}["save"]("{}")  # -> none
    [].append(load)  # -> none
    path.add("x")  # type: ignore  # -> none


def rebound(flag: bool) -> None:
    thing: Any = Item("a", 1)  # -> shop.models.Item imported
    if flag:
        thing = os
    thing.rename("x")  # -> none


def two_classes(flag: bool) -> None:
    either: Item | History = Item("a", 1)  # -> shop.models.Item imported
    if flag:
        either = History(None)  # -> shop.models.History imported
    either.save()  # -> shop.models.Record.save|shop.models.History.save


def deleted() -> None:
    for helper in (len, repr):
        helper("x")  # -> none
    try:
        pass
    except Exception as load:
        load()  # type: ignore  # -> none


def comprehension(functions: list[Any]) -> list[Any]:
    return [load("x") for load in functions]  # -> none


def walrus(functions: list[Any]) -> None:
    if helper := functions[0]:
        helper()  # -> none


def class_scope() -> None:
    class Box:
        def load(self) -> str:
            return "box"

        value = load(None)  # type: ignore  # -> shop.traps.class_scope.Box.load exact

        def again(self) -> None:
            load("{}")  # -> shop.models.load imported
            self.load()  # -> shop.traps.class_scope.Box.load exact

    Box().again()  # Box -> shop.traps.class_scope.Box exact; Box().again ~> shop.traps.class_scope.Box.again


def make() -> Any:
    return None


class Unknown(absent.Base):
    """Its base is not in the tree: whatever the class itself has not, nobody knows."""

    def own(self) -> None:
        self.helper()  # -> none
        self.own()  # -> shop.traps.Unknown.own exact
        super().save()  # super().save -> none; super -> none


class Instance:
    def __init__(self, dump: Callable[[], str], load: Callable[[str], Any]) -> None:
        self.dump = dump
        self.load = load

    def run(self) -> None:
        self.dump()  # -> none
        self.load("{}")  # -> none
