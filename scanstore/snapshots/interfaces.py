"""The interface of one file, the only part that resolution reads, and the kinds of its entries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from scanstore.indexing.facts import interface_text
from scanstore.snapshots.c3 import Class

Value = tuple[Any, ...] | None
Found = tuple[Value, bool, bool]  #: a value, whether it was reached through a base class, whether it is a guess
Order = tuple[list[Class], bool, bool]  #: a class and its ancestors, is one outside the tree, is one its own ancestor
Bases = tuple[list[Class], bool]  #: the direct bases of a class, and whether one lies outside the tree

EXTERNAL: Value = ("x",)
MOST_MEMBERS = 8  # of a union


class Module:
    """One importable file: its file version and its interface, unpacked when it is first looked at."""

    __slots__ = ("_names", "_stars", "_text", "packed", "version")

    def __init__(self, version: int, packed: bytes) -> None:
        self.version = version
        self.packed = packed
        self._text: str | None = None
        self._names: dict[str, list[object]] | None = None
        self._stars: list[str] = []

    @property
    def text(self) -> str:
        """Return the interface as JSON."""
        if self._text is None:
            self._text = interface_text(self.packed)
        return self._text

    @property
    def names(self) -> dict[str, list[Any]]:
        if self._names is None:
            interface = json.loads(self.text)
            self._stars = interface["stars"]
            self._names = interface["names"]
        return self._names

    @property
    def stars(self) -> list[str]:
        return self._stars if self.names is not None else []


class BoundTarget(NamedTuple):
    """The ``version`` and ``ordinal`` of the target symbol (None: known, but outside the tree)."""

    version: int | None
    ordinal: int | None
    resolution: str
    confidence: int


UNRESOLVED = BoundTarget(None, None, "unresolved", 0)
UNKNOWN: Found = (None, False, False)
NO_BASES: Bases = ([], True)

# Methods of the built-in containers, strings and files: a single definition in the tree is no evidence for these names.
COMMON = frozenset(n for t in (str, bytes, list, dict, set, int, float, tuple) for n in dir(t)) | frozenset(
    "read write close open flush seek readline readlines writelines send recv connect execute fetchone fetchall"
    " commit rollback run start stop wait group groups match search sub findall acquire release put info debug warning"
    " error".split()
)


class Methods:
    """The methods of all classes by name, for calls on objects of unknown type."""

    def __init__(self, modules: dict[str, Module]) -> None:
        self.modules = modules
        self._by_name: dict[str, list[tuple[int, int]]] | None = None

    def gather(self) -> None:
        """Read all modules once, which is faster if many names are looked up."""
        self._by_name = {}
        for module in self.modules.values():
            for name, place in _methods(module):
                self._by_name.setdefault(name, []).append(place)

    def only(self, name: str) -> BoundTarget:
        """Return the only method with this name in the tree, as a guess, or None if there are several."""
        if name in COMMON:
            return UNRESOLVED
        if self._by_name is not None:
            places = self._by_name.get(name, [])
        else:
            mark = f".{json.dumps(name)[1:]}:"
            places = [
                place
                for module in self.modules.values()
                if mark in module.text
                for method, place in _methods(module)
                if method == name
            ]
        if len(places) != 1:
            return UNRESOLVED
        return BoundTarget(*places[0], "guessed", 30)


def _methods(module: Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Return the methods of a module's classes, with their locations."""
    for qual, line in module.names.items():
        if line[0] == "f" and "." in qual:
            owner, _, method = qual.rpartition(".")
            if not owner.endswith("<locals>"):
                yield method, (module.version, line[1])


def union(values: Iterable[Value]) -> Value:
    """Return the value that is one of several: those in the tree, if there are any."""
    given = list(values)
    known: dict[Value, None] = {}
    for value in given:
        if value is not None and value is not EXTERNAL:
            known.update(dict.fromkeys(value[1] if value[0] == "|" else [value]))
    if not known:
        return EXTERNAL if given and all(value is EXTERNAL for value in given) else None
    return next(iter(known)) if len(known) == 1 else ("|", tuple(known)[:MOST_MEMBERS])


def union_found(found: Iterable[Found]) -> Found:
    """Return the union of found values; it is inherited, or a guess, if one of them is."""
    each = list(found)
    return union(value for value, _, _ in each), any(f[1] for f in each), any(f[2] for f in each)


def certainty(value: Value) -> int:
    """Return how much is known about a value, or about the items of a container."""
    while value is not None and value[0] in "*%wk":
        value = value[1]
    if value is None:
        return 0
    return 1 if value is EXTERNAL else 2 if value[0] == "v" else 3
