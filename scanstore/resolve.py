"""What a path means in a snapshot: the cross-file half of resolution, as a pure function.

:mod:`scanstore.indexing.python` spells what a file alone knows of a name as a *path* (the notation is in its
docstring). :class:`Resolver` evaluates paths against the interfaces of all files of one snapshot: it follows imports
and re-exports, star imports, base classes in Python's method resolution order (C3, Barrett et al. 1996), constructor
calls and annotated returns.

The answer depends on the interfaces and the path only, never on what was asked before: results met inside a cycle of
imports are not remembered. So resolving a snapshot after a change gives what resolving it from scratch gives.

A chain of imports or classes may be longer than Python's stack is deep. What lies deeper than ``DEEPEST`` steps is
evaluated first, by itself, in the place where it was met; then the question is asked again.
"""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

from scanstore.indexing import interface_text

Value = tuple[Any, ...] | None

EXTERNAL: Value = ("x",)

#: Names that a step looks up without spelling them.
IMPLICIT = frozenset(("__call__", "__getitem__", "__iter__"))
#: Of a class with more ancestors the farthest are taken to lie outside the tree.
LONGEST_ORDER = 250
#: Steps inside each other; a step takes up to seven frames of Python's stack.
DEEPEST = 30
#: For so many paths a table of all methods pays.
MANY = 500
_OBJECT = frozenset(dir(object))
_BUILTINS = frozenset(dir(builtins))
_ITEM_METHODS = frozenset(("pop", "popleft", "__next__"))
_VALUE_METHODS = frozenset(("get", "pop", "setdefault"))


class Module:
    """One importable file: its file version and its interface, unpacked when it is first looked at."""

    __slots__ = ("_names", "_stars", "_text", "packed", "version")

    def __init__(self, version: int, packed: bytes) -> None:
        self.version = version
        self.packed = packed
        self._text: str | None = None
        self._names: dict[str, list[Any]] | None = None
        self._stars: list[str] = []

    @property
    def text(self) -> str:
        """The interface as JSON."""
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


class Target(NamedTuple):
    """``version`` and ``ordinal`` of the symbol that is meant (None: known, but not in the tree)."""

    version: int | None
    ordinal: int | None
    resolution: str
    confidence: int


UNRESOLVED = Target(None, None, "unresolved", 0)


Context = frozenset[str]  #: the paths and classes in whose evaluation something is met
Key = str | tuple[str, str]  #: a path, or a class whose order is asked for


class _Deeper(Exception):
    """What is met here lies too deep in the stack."""

    def __init__(self, key: Key, context: Context) -> None:
        super().__init__(key)
        self.key, self.context = key, context


class Resolver:
    """Evaluates paths against ``modules`` (dotted name to :class:`Module`)."""

    def __init__(self, modules: dict[str, Module]) -> None:
        self.modules = modules
        self.packages: set[str] = set()
        for name in modules:
            while name and name not in self.packages:
                self.packages.add(name)
                name = name.rpartition(".")[0]
        self.loose: dict[str, list[str]] = {}
        for name in modules:
            folder, _, stem = name.rpartition(".")
            if folder and folder not in modules:
                self.loose.setdefault(stem, []).append(name)
        self.memo: dict[str, tuple[Value, bool, bool]] = {}
        self.orders: dict[tuple[str, str], tuple[list[tuple[str, str]], bool]] = {}
        self.active: set[str] = set()
        self.cyclic = False
        self.depth = 0
        self.deeper: dict[tuple[Key, Context], tuple[Any, bool]] = {}  # results, and whether they met a cycle
        self.by_method: dict[str, list[tuple[int, int]]] | None = None

    def resolve(self, paths: Iterable[str]) -> dict[str, Target]:
        """The target of each path that has one; what is missing from the result lies outside the tree."""
        paths = list(paths)
        if len(paths) > MANY:
            self.by_method = {}
            for module in self.modules.values():
                for name, place in _methods(module):
                    self.by_method.setdefault(name, []).append(place)
        found: dict[str, Target] = {}
        for path in paths:
            target = self.target(path)
            if target is not None:
                found[path] = target
        return found

    def target(self, path: str) -> Target | None:
        if path.startswith("*."):
            return self.guess_method(path[2:])
        try:
            while True:
                self.active, self.cyclic, self.depth = set(), False, 0
                try:
                    return self.found(path)
                except _Deeper as met:
                    self.go_deeper(met)
        finally:
            self.deeper.clear()

    def go_deeper(self, first: _Deeper) -> None:
        """Evaluate what was met too deep in the stack, and what is met in the course of it, the deepest first."""
        waiting = [first]
        while waiting:
            key, context = waiting[-1].key, waiting[-1].context
            self.active, self.cyclic, self.depth = set(context), False, 0
            try:
                result = self.evaluate(key) if isinstance(key, str) else self.order(*key)
            except _Deeper as met:
                waiting.append(met)
                continue
            self.deeper[key, context] = result, self.cyclic
            waiting.pop()

    def found(self, path: str) -> Target | None:
        definition = path.startswith("=")
        value, inherited, guessed = self.evaluate(path[1:] if definition else path)
        if definition and value is not None and value[0] not in "xm":
            value, inherited, guessed = self.definition(path[1:])
        if value is None:
            return UNRESOLVED
        kind = value[0]
        if kind == "i" and not definition:  # calling an instance
            value, inherited = self.member(value[1], value[2], "__call__", value)[:2]
            if value is None:
                return UNRESOLVED
            kind = value[0]
        if kind == "x" or kind in "*%wk":
            return None
        if kind == "m":
            module = self.modules.get(value[1])
            version, ordinal = (module.version, 0) if module is not None else (None, None)
            return Target(version, ordinal, "guessed" if guessed else "imported", 50 if guessed else 100)
        if kind not in "cfv":
            return UNRESOLVED
        module = self.modules[value[1]]
        ordinal = module.names[value[2]][1]
        inferred = "()" in path or "[" in path or "~" in path
        if guessed:
            return Target(module.version, ordinal, "guessed", 50)
        if inherited:
            return Target(module.version, ordinal, "inherited", 90 if inferred else 95)
        return Target(module.version, ordinal, "imported", 90 if inferred else 100)

    # -- evaluation: (value, reached through a base class, a guess) -------------------------------------------------
    #
    # ("m", module)  ("c", module, class)  ("i", module, class) an instance  ("f", module, function, receiver)
    # ("v", module, variable) of unknown type  ("s", module, class) super()  ("n", module, function) its locals
    # ("*", item)  ("%", value)  ("w", value) a context manager  ("k", result) a callable  ("x",) external  None unknown

    def evaluate(self, path: str) -> tuple[Value, bool, bool]:
        memo = self.memo
        known = memo.get(path)
        if known is not None:
            return known
        if path in self.active:
            self.cyclic = True
            return None, False, False
        if self.depth == DEEPEST:
            result = self.known_deeper(path)
            return cast("tuple[Value, bool, bool]", result)
        self.active.add(path)
        outer, self.cyclic = self.cyclic, False
        self.depth += 1
        result = self.step(path)
        self.depth -= 1
        self.active.discard(path)
        if not self.cyclic:
            memo[path] = result
        self.cyclic = self.cyclic or outer
        return result

    def known_deeper(self, key: Key) -> Any:
        """What :meth:`go_deeper` has found for what is met here; raises _Deeper when it is not known yet."""
        context = frozenset(self.active)
        if (key, context) not in self.deeper:
            raise _Deeper(key, context)
        result, cyclic = self.deeper[key, context]
        self.cyclic = self.cyclic or cyclic
        return result

    def step(self, path: str) -> tuple[Value, bool, bool]:
        last = path[-1]
        if last == ")":
            value, _, guessed = self.evaluate(path[:-2])
            return self.call(value), False, guessed
        if last == "]":
            value, _, guessed = self.evaluate(path[:-2])
            return self.item(value), False, guessed
        if last == "~":
            value, _, guessed = self.evaluate(path[:-1])
            return self.iterate(value), False, guessed
        if last == "*" or last == "%":
            value, _, guessed = self.evaluate(path[:-1])
            return (last, value), False, guessed
        if last == "^":
            value, _, guessed = self.evaluate(path[:-1])
            return (("s", value[1], value[2]) if value and value[0] == "c" else None), False, guessed
        if path[0] == "?":
            value, inherited, _ = self.evaluate(path[1:])
            return value, inherited, True
        if last == ":":
            name = path[:-1].removesuffix(".__init__")
            if name in self.packages:
                return ("m", name), False, False
            head, _, tail = name.rpartition(".")
            if head in self.modules:  # a module under a second name, as os.path
                value = self.evaluate(f"{head}:.{tail}")[0]
                return (value if value is not None and value[0] == "m" else None), False, False
            return self.beside(name)
        head, _, name = path.rpartition(".")
        if not head:
            return EXTERNAL, False, False
        value, _, guessed = self.evaluate(head)
        found, inherited, also = self.attribute(value, name)
        return found, inherited, guessed or also

    def beside(self, name: str) -> tuple[Value, bool, bool]:
        """A module that is not importable from a root of the tree. A script's folder is on Python's path when it runs,
        so the one module of that name in a folder that is no package may be meant: a guess."""
        top = name.partition(".")[0]
        if top in self.packages:
            return None, False, False
        found = self.loose.get(top, ())
        if len(found) == 1 and top == name and top not in sys.stdlib_module_names:
            return ("m", found[0]), False, True
        return EXTERNAL, False, False

    def attribute(self, value: Value, name: str) -> tuple[Value, bool, bool]:
        if value is None:
            return None, False, False
        kind = value[0]
        if kind == "m":
            return self.module_attribute(value[1], name)
        if kind == "i" or kind == "c":
            return self.member(value[1], value[2], name, value)
        if kind == "s":
            return self.member(value[1], value[2], name, ("i", value[1], value[2]), skip=1)
        if kind == "f" and name == "<locals>":
            return ("n", value[1], value[2] + ".<locals>"), False, False
        if kind == "n":
            return self.entry(value[1], f"{value[2]}.{name}", None)
        if kind == "*":
            return (
                (("k", value[1]) if name in _ITEM_METHODS else ("k", value) if name == "copy" else EXTERNAL),
                False,
                False,
            )
        if kind == "%":
            if name in _VALUE_METHODS:
                return ("k", value[1]), False, False
            return (("k", ("*", value[1])) if name == "values" else EXTERNAL), False, False
        if kind == "w":
            inner = value[1]
            if name in ("__enter__", "__aenter__") and inner is not None and inner[0] == "*":
                return ("k", inner[1]), False, False
            return None, False, False
        return (EXTERNAL if kind == "x" else None), False, False

    def module_attribute(self, module: str, name: str, follow: bool = True) -> tuple[Value, bool, bool]:
        known = self.modules.get(module)
        dotted = f"{module}.{name}"
        if known is not None:
            if name in known.names:
                entry = known.names[name]
                if entry[0] == "i" and entry[2] == f"{module}:.{name}" and dotted in self.packages:
                    return ("m", dotted), False, False
                return self.entry(module, name, None, follow)
            if dotted in self.packages:
                return ("m", dotted), False, False
            outside = False
            for star in reversed(known.stars):
                base = self.evaluate(star)[0]
                if base is None or base[0] != "m":
                    outside = outside or base is EXTERNAL
                    continue
                if name.startswith("_"):
                    continue
                value, inherited, guessed = (
                    self.evaluate(f"{star}.{name}") if follow else self.module_attribute(base[1], name, False)
                )
                if value is not None and value is not EXTERNAL:
                    return value, inherited, guessed
            if name in _BUILTINS or outside:
                return EXTERNAL, False, False
            return None, False, False
        return (("m", dotted) if dotted in self.packages else None), False, False

    def entry(self, module: str, qual: str, receiver: Value, follow: bool = True) -> tuple[Value, bool, bool]:
        """The value of one line of a module's interface."""
        known = self.modules.get(module)
        line = known.names.get(qual) if known is not None else None
        if line is None:
            return None, False, False
        kind = line[0]
        guessed = line[-1] == "?"
        if kind == "c":
            return ("c", module, qual), False, guessed
        if kind == "f":
            if "p" in line[3]:
                return self.typed(line[2], module, qual, receiver), False, guessed
            return ("f", module, qual, receiver), False, guessed
        if kind == "i":
            if line[2] is None:
                return None, False, False
            return self.evaluate(line[2])
        if kind == "v":
            if not follow:
                return ("v", module, qual), False, guessed
            if line[2] is None:
                return ("v", module, qual), False, guessed
            value, _, unsure = self.evaluate(line[2]) if line[2][0] != "@" else (None, False, False)
            return (value if value is not None else ("v", module, qual)), False, guessed or unsure
        return self.typed(line[2], module, qual, receiver), False, guessed

    def definition(self, path: str) -> tuple[Value, bool, bool]:
        """Like :meth:`evaluate`, but a variable stays itself: what an import brings in, not what it holds."""
        head, _, name = path.rpartition(".")
        value, _, guessed = self.evaluate(head) if head else (None, False, False)
        if value is not None and value[0] == "m":
            module, seen = value[1], set()
            while (module, name) not in seen:
                seen.add((module, name))
                known = self.modules.get(module)
                line = known.names.get(name) if known is not None else None
                if line is None or line[0] != "i" or not line[2]:
                    found, inherited, also = self.module_attribute(module, name, follow=False)
                    return found, inherited, guessed or also
                onward = line[2].lstrip("?")
                guessed = guessed or onward != line[2]
                if onward.endswith(":"):
                    found, inherited, also = self.evaluate(onward)
                    return found, inherited, guessed or also
                onward, _, name_there = onward.rpartition(".")
                there, _, also = self.evaluate(onward) if onward else (None, False, False)
                if there is None or there[0] != "m":
                    break
                module, name, guessed = there[1], name_there, guessed or also
        return self.evaluate(path)

    def member(self, module: str, owner: str, name: str, receiver: Value, *, skip: int = 0) -> tuple[Value, bool, bool]:
        """An attribute of a class or of its instances, looked up along the method resolution order."""
        order, outside = self.order(module, owner)
        instance = receiver is not None and receiver[0] == "i"
        for place, (where, qual) in enumerate(order[skip:]):
            names = self.modules[where].names
            key = f"{qual}.{name}"
            line = names.get(key)
            inherited = place + skip > 0
            if instance and (line is None or line[0] == "v"):
                own = f"{qual}().{name}"
                if own in names:
                    return self.entry(where, own, receiver)[0], inherited, False
            if line is not None:
                value, _, guessed = self.entry(where, key, receiver)
                return value, inherited, guessed
        return (EXTERNAL if outside or name in _OBJECT else None), False, False

    def order(self, module: str, owner: str) -> tuple[list[tuple[str, str]], bool]:
        """The method resolution order of a class, and whether a base of it lies outside the tree."""
        key = (module, owner)
        known = self.orders.get(key)
        if known is not None:
            return known
        mark = f"{module}:{owner}"
        if mark in self.active:
            self.cyclic = True
            return [key], True
        if self.depth == DEEPEST:
            return cast("tuple[list[tuple[str, str]], bool]", self.known_deeper(key))
        self.active.add(mark)
        self.depth += 1
        outer, self.cyclic = self.cyclic, False
        outside = False
        bases: list[tuple[str, str]] = []
        for path in self.modules[module].names[owner][2]:
            value = self.evaluate(path)[0]
            if value is not None and value[0] == "c":
                bases.append((value[1], value[2]))
            elif path != "builtins.object":
                outside = True
        orders = []
        for base in bases:
            order, beyond = self.order(*base)
            outside = outside or beyond
            orders.append(order)
        above = orders[0] if len(orders) == 1 else _merge([*orders, bases])
        result = [key, *above[: LONGEST_ORDER - 1]], outside or len(above) >= LONGEST_ORDER
        self.depth -= 1
        self.active.discard(mark)
        if not self.cyclic:
            self.orders[key] = result
        self.cyclic = self.cyclic or outer
        return result

    def call(self, value: Value) -> Value:
        if value is None:
            return None
        kind = value[0]
        if kind == "c":
            return ("i", value[1], value[2])
        if kind == "f":
            line = self.modules[value[1]].names[value[2]]
            result = self.typed(line[2], value[1], value[2], value[3])
            return ("w", result) if "w" in line[3] else result
        if kind == "k":
            found: Value = value[1]
            return found
        if kind == "i":
            method = self.member(value[1], value[2], "__call__", value)[0]
            return self.call(method) if method is not None and method[0] == "f" else None
        return EXTERNAL if kind == "x" else None

    def item(self, value: Value) -> Value:
        if value is not None and value[0] in "*%":
            found: Value = value[1]
            return found
        if value is not None and value[0] == "i":
            method = self.member(value[1], value[2], "__getitem__", value)[0]
            return self.call(method) if method is not None and method[0] == "f" else None
        return EXTERNAL if value is EXTERNAL else None

    def iterate(self, value: Value) -> Value:
        if value is not None and value[0] == "*":
            found: Value = value[1]
            return found
        if value is not None and value[0] == "i":
            method = self.member(value[1], value[2], "__iter__", value)[0]
            got = self.call(method) if method is not None and method[0] == "f" else None
            return self.iterate(got) if got is not None and got[0] == "*" else None
        return EXTERNAL if value is EXTERNAL else None

    def typed(self, path: str | None, module: str, qual: str, receiver: Value) -> Value:
        """The value of a type path; ``@`` in it is the receiver, or an instance of the class that ``qual`` is in."""
        if path is None:
            return None
        if path[0] != "@":
            return self.evaluate(path)[0]
        me: Value
        if receiver is not None and receiver[0] in "ic":
            me = ("i", receiver[1], receiver[2])
        else:
            owner = qual.rpartition(".")[0]
            line = self.modules[module].names.get(owner)
            me = ("i", module, owner) if line is not None and line[0] == "c" else None
        for mark in path[1:]:
            me = (mark, me) if mark in "*%" else None
        return me

    def guess_method(self, name: str) -> Target:
        """The one method of that name in the tree: a guess, and only if there is no second."""
        if name in _COMMON:
            return UNRESOLVED
        if self.by_method is not None:
            places = self.by_method.get(name, [])
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
        return Target(*places[0], "guessed", 30)


def _methods(module: Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """The methods of a module's classes, each with its place."""
    for qual, line in module.names.items():
        if line[0] == "f" and "." in qual:
            owner, _, method = qual.rpartition(".")
            if not owner.endswith("<locals>"):
                yield method, (module.version, line[1])


# Methods of the built-in containers, strings and files: a tree that happens to define one of them once is no evidence.
_COMMON = frozenset(n for t in (str, bytes, list, dict, set, int, float, tuple) for n in dir(t)) | frozenset(
    "read write close open flush seek readline readlines writelines send recv connect execute fetchone fetchall"
    " commit rollback run start stop wait group groups match search sub findall acquire release put info debug warning"
    " error".split()
)


def _merge(sequences: list[list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """C3 merge; where the bases have no consistent order, depth first, as they come."""
    result: list[tuple[str, str]] = []
    rest = [list(s) for s in sequences if s]
    while rest:
        for sequence in rest:
            head = sequence[0]
            if not any(head in other[1:] for other in rest):
                break
        else:
            flat = [item for sequence in rest for item in sequence]
            return result + [item for place, item in enumerate(flat) if item not in flat[:place]]
        result.append(head)
        rest = [trimmed for s in rest if (trimmed := [item for item in s if item != head])]
    return result
