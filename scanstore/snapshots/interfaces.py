"""The interface of one file, the only part that resolution reads, and the kinds of its entries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from scanstore.indexing.facts import BUILTIN_CLASSES, PLAIN_BUILTINS, interface_text
from scanstore.snapshots.c3 import Class

Value = tuple[Any, ...] | None
Found = tuple[Value, bool, bool]  #: a value, whether it was reached through a base class, whether it is a guess
Order = tuple[list[Class], bool, bool]  #: a class and its ancestors, is one outside the tree, is one its own ancestor
Bases = tuple[list[Class], bool]  #: the direct bases of a class, and whether one lies outside the tree

#: A module, class or function outside the tree. Its attributes are outside too; what a call returns is unknown.
EXTERNAL: Value = ("x",)
#: An attribute that a class of the tree has from a base class outside: the attribute is outside, all else unknown.
INHERITED: Value = ("x", ".")
#: A string, a number or a file. All that comes from it is outside.
PLAIN: Value = ("x", "=")
PLAIN_TYPE: Value = ("x", "=()")  # a builtin that returns one
BUILTIN_TYPE: Value = ("x", "()")  # another builtin class: the methods of its instances are outside, not the results
MOST_MEMBERS = 8  # of a union


class Module:
    """One importable file: its file version, its interface, unpacked when it is first looked at, and its path."""

    __slots__ = ("_names", "_stars", "_text", "packed", "path", "version")

    def __init__(self, version: int, packed: bytes, path: str = "") -> None:
        self.version = version
        self.path = path
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


Targets = tuple[BoundTarget, ...]  #: of one path, each once; none: outside the tree
UNRESOLVED: Targets = (BoundTarget(None, None, "unresolved", 0),)
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

    def only(self, name: str) -> Targets:
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
        return (BoundTarget(*places[0], "guessed", 30),)


def _methods(module: Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Return the methods of a module's classes, with their locations."""
    for qual, line in module.names.items():
        if line[0] == "f" and "." in qual:
            owner, _, method = qual.rpartition(".")
            if not owner.endswith("<locals>"):
                yield method, (module.version, line[1])


def builtin(name: str) -> Value:
    """Return the value of a builtin name, or of the type of a literal."""
    return PLAIN_TYPE if name in PLAIN_BUILTINS else BUILTIN_TYPE if name in BUILTIN_CLASSES else EXTERNAL


def is_external(value: Value) -> bool:
    return value is not None and value[0] == "x"


def is_own(value: Value) -> bool:
    """Whether a value is a method that the class of its receiver defines itself."""
    if value is None or value[0] != "f" or value[3] is None or value[3][0] not in "ic":
        return False
    return bool(value[3][1] == value[1] and value[3][2] == value[2].rpartition(".")[0])


def external_attribute(value: Value) -> Value:
    """Return an attribute of something outside the tree."""
    return None if value == INHERITED else PLAIN if value in (PLAIN, PLAIN_TYPE) else EXTERNAL


def external_result(value: Value) -> Value:
    """Return the result of calling something outside the tree: unknown, because it may be an object of the tree."""
    return PLAIN if value in (PLAIN, PLAIN_TYPE) else EXTERNAL if value == BUILTIN_TYPE else None


def union(values: Iterable[Value]) -> Value:
    """Return the value that is one of several: those in the tree, if there are any."""
    given = list(values)
    known: dict[Value, None] = {}
    for value in given:
        if value is not None and value[0] != "x":
            known.update(dict.fromkeys(value[1] if value[0] == "|" else [value]))
    if not known:
        if not given or None in given:
            return None
        return given[0] if len(set(given)) == 1 else INHERITED
    return next(iter(known)) if len(known) == 1 else ("|", tuple(known)[:MOST_MEMBERS])


def union_found(found: Iterable[Found]) -> Found:
    """Return the union of found values; it is inherited, or a guess, if one of them is."""
    each = list(found)
    return union(value for value, _, _ in each), any(f[1] for f in each), any(f[2] for f in each)


def leads_nowhere(path: str, found: Found) -> bool:
    """Whether a path has no value, or only the variable that it names."""
    value, inherited, guessed = found
    if inherited or guessed:
        return False
    return value is None or value[0] == "v" and f"{value[1]}:.{value[2]}" == path


def certainty(value: Value) -> int:
    """Return how much is known about a value, or about the items of a container."""
    while value is not None and value[0] in "*%wk":
        value = value[1]
    if value is None:
        return 0
    return 1 if value[0] == "x" else 2 if value[0] == "v" else 3
