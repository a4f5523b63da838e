"""Resolution of paths across the files of a snapshot, as a pure function.

:mod:`scanstore.indexing.python.indexer` writes each reference of a file as a *path* (the notation is in its docstring).
:class:`Resolver` evaluates paths against the interfaces of all files of one snapshot: it follows imports and
re-exports, star imports, base classes in Python's method resolution order (C3, Barrett et al. 1996), constructor calls
and annotated returns.

The result depends only on the interfaces and the path, never on earlier calls. So incremental resolution gives the same
result as resolution from scratch.

Trees may contain cycles: modules that star-import from each other, classes that inherit from each other. A path that
occurs inside its own evaluation is cut there: it counts as unknown, and results that depend on this are cached only for
the current round of the current call. If the round finds no target in the tree, and a cut path did get a value, the
next round uses that value. There are at most ``MOST_ROUNDS``, and a round evaluates each path once, so the time is
polynomial for every tree. Without cycles there is one round.

A chain of imports or classes may be longer than Python's recursion limit. A path deeper than ``DEEPEST`` steps is
evaluated first, from an empty stack; then the original call is repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from scanstore.snapshots.arguments import argument_path, split_call
from scanstore.snapshots.c3 import Class
from scanstore.snapshots.interfaces import (
    EXTERNAL,
    INHERITED,
    MOST_MEMBERS,
    NO_BASES,
    PLAIN,
    UNKNOWN,
    UNRESOLVED,
    Bases,
    BoundTarget,
    Found,
    Methods,
    Module,
    Order,
    Targets,
    Value,
    builtin,
    certainty,
    external_attribute,
    external_result,
    is_own,
    leads_nowhere,
    union,
    union_found,
)
from scanstore.snapshots.module_names import ModuleNames
from scanstore.snapshots.orders import Deeper, order_of
from scanstore.snapshots.source_roots import SourceRoots, Spelled

__all__ = ["DEEPEST", "IMPLICIT", "UNRESOLVED", "Module", "Resolver", "BoundTarget", "Targets"]

#: Names that a step looks up although the path does not contain them.
IMPLICIT = frozenset(("__call__", "__getitem__", "__iter__", "__next__", "__aiter__", "__anext__"))
#: The limit of nested steps; a step takes up to seven frames of Python's stack.
DEEPEST = 30
#: The limit of rounds of one call.
MOST_ROUNDS = 10
#: From this number of paths on, a table of all methods is faster.
MANY = 500
_VALUES = frozenset(")]~*%&^!:")  # the last character of a path that names no variable
_OBJECT = frozenset(dir(object))
_ITEM_METHODS = frozenset(("pop", "popleft", "__next__"))
_VALUE_METHODS = frozenset(("get", "pop", "setdefault"))


class Resolver:
    """Evaluates paths against ``modules`` (dotted name to :class:`Module`). ``spelled`` gives the imports of the tree
    by their first names.
    """

    def __init__(self, modules: dict[str, Module], spelled: Spelled = lambda top: ()) -> None:
        self.modules = modules
        self.spelled = spelled
        self.packages: set[str] = set()
        for name in modules:
            while name and name not in self.packages:
                self.packages.add(name)
                name = name.rpartition(".")[0]
        self.memo: dict[str, Found] = {}
        self.orders: dict[Class, Order] = {}
        self.bases: dict[Class, Bases] = {}
        # For the current call: the paths being evaluated, outermost first; the bases of a class as ``module:class``.
        self.active: dict[str | Class, None] = {}
        self.most = DEEPEST  # the limit of nested paths before the stack is too deep
        self.cyclic = False  # whether the current evaluation has met a cycle
        # For the current round: the results that depend on a cycle, and the paths where cycles were cut.
        self.paths_now: dict[str, Found] = {}
        self.orders_now: dict[Class, Order] = {}
        self.bases_now: dict[str, Bases] = {}
        self.cut: set[str] = set()
        # For the previous rounds: cut paths with a value.
        self.paths_before: dict[str, Found] = {}
        self.bases_before: dict[str, Bases] = {}
        self.methods = Methods(modules)
        self.names = ModuleNames(self)

    @cached_property
    def roots(self) -> SourceRoots:
        return SourceRoots(self.modules, self.spelled)

    def resolve(self, paths: Iterable[str]) -> dict[str, Targets]:
        """Return the targets of each path. Paths without an entry lead outside the tree."""
        paths = list(paths)
        if len(paths) > MANY:
            self.methods.gather()
        found: dict[str, Targets] = {}
        for path in paths:
            targets = self.target(path)
            if targets:
                found[path] = targets
        return found

    def target(self, path: str) -> Targets:
        """Return the targets of one path, none if it leads outside the tree."""
        if path.startswith("*."):
            return self.methods.only(path[2:])
        try:
            targets = self.found(path)
        except Deeper as met:
            targets = self.go_deeper(path, met)
        return self.next_rounds(path, targets) if self.cyclic else targets

    def go_deeper(self, path: str, first: Deeper) -> Targets:
        """Run a call whose evaluation is too deep for the stack."""
        waiting: list[tuple[str | Class | None, int]] = [(None, 0), (first.key, len(self.active))]
        while True:
            key, outside = waiting[-1]
            while len(self.active) > outside:
                self.active.popitem()
            self.most, self.cyclic = outside + DEEPEST, False
            try:
                if key is None:  # the original call; all deeper paths are known now
                    return self.found(path)
                if isinstance(key, str):
                    self.evaluate(key)
                else:
                    self.order(*key)
                waiting.pop()
            except Deeper as met:
                waiting.append((met.key, len(self.active)))

    def next_rounds(self, path: str, targets: Targets) -> Targets:
        """Repeat a call while it has no target in the tree and a path cut in the previous round has a value."""
        rounds = 1
        more = self.learn()
        if not self.orders_now and all(leads_nowhere(each, found) for each, found in self.paths_now.items()):
            self.memo.update(self.paths_now)  # no path in these cycles has a target, in any order of evaluation
            more = False
        while more and rounds < MOST_ROUNDS and (not targets or targets[0].version is None):
            self.forget_round()
            rounds += 1
            try:
                targets = self.found(path)
            except Deeper as met:
                targets = self.go_deeper(path, met)
            more = self.learn()
        self.forget_round()
        self.paths_before, self.bases_before = {}, {}
        return targets

    def forget_round(self) -> None:
        self.paths_now, self.orders_now, self.bases_now, self.cut, self.cyclic = {}, {}, {}, set(), False

    def learn(self) -> bool:
        """Keep the values of cut paths for the next round. Return whether there are new ones."""
        more = False
        for key in self.cut:
            if key in self.paths_now:
                found = self.paths_now[key]
                if certainty(found[0]) > certainty(self.paths_before.get(key, UNKNOWN)[0]):
                    self.paths_before[key], more = found, True
            elif len(self.bases_now[key][0]) > len(self.bases_before.get(key, NO_BASES)[0]):
                self.bases_before[key], more = self.bases_now[key], True
        return more

    def found(self, path: str) -> Targets:
        definition = path.startswith("=")
        value, inherited, guessed = self.definition(path[1:]) if definition else self.evaluate(path)
        if value is None:
            return UNRESOLVED
        if value[0] != "|":
            return self.place(value, path, inherited, guessed)
        each: dict[tuple[int | None, int | None], BoundTarget] = {}
        places = [
            target
            for member in value[1]
            for target in self.place(member, path, inherited and not is_own(member), guessed)
        ]
        for target in places:
            if target.version is not None:  # members outside the tree, or unknown, are left out
                each.setdefault(target[:2], target)
        return tuple(each.values())[:MOST_MEMBERS] or tuple(places[:1])

    def place(self, value: tuple[Any, ...], path: str, inherited: bool, guessed: bool) -> Targets:
        """Return the symbols that a path means if its value is this one."""
        kind = value[0]
        if kind == "i" and path[0] != "=":  # calling an instance
            found, inherited, _ = self.member(value[1], value[2], "__call__", value)
            if found is None:
                return UNRESOLVED
            value, kind = found, found[0]
        if kind == "x" or kind in "*%wkt":
            return ()
        if kind == "m":
            module = self.modules.get(value[1])
            version, ordinal = (module.version, 0) if module is not None else (None, None)
            return (BoundTarget(version, ordinal, "guessed" if guessed else "imported", 50 if guessed else 100),)
        if kind not in "cfv":
            return UNRESOLVED
        module = self.modules[value[1]]
        ordinal = module.names[value[2]][1]
        inferred = "()" in path or "[" in path or "~" in path
        if guessed:
            return (BoundTarget(module.version, ordinal, "guessed", 50),)
        if inherited:
            return (BoundTarget(module.version, ordinal, "inherited", 90 if inferred else 95),)
        return (BoundTarget(module.version, ordinal, "imported", 90 if inferred else 100),)

    # -- evaluation: (value, reached through a base class, a guess) -------------------------------------------------
    #
    # ("m", module)  ("c", module, class)  ("i", module, class) an instance  ("f", module, function, receiver)
    # ("v", module, variable) of unknown type  ("s", module, class) super()  ("n", module, function) its locals
    # ("*", item)  ("%", value)  ("w", value) a context manager  ("k", result) a callable  ("x",) external  None unknown

    def evaluate(self, path: str) -> Found:
        known = self.memo.get(path)
        if known is not None:
            return known
        if path in self.active:
            self.cyclic = True
            self.cut.add(path)
            return self.paths_before.get(path, UNKNOWN)
        known = self.paths_now.get(path)
        if known is not None:
            self.cyclic = True
            return known
        if len(self.active) >= self.most:
            raise Deeper(path)
        self.active[path] = None
        outer, self.cyclic = self.cyclic, False
        result = self.step(path)
        (self.memo if self.settled(path, outer) else self.paths_now)[path] = result
        return result

    def settled(self, key: str | Class, outer: bool) -> bool:
        """End a step; tell whether its result holds for good, since it did not depend on a step around it."""
        del self.active[key]
        if self.cyclic:
            return False
        self.cyclic = outer
        return True

    def step(self, path: str) -> Found:
        last = path[-1]
        if path[0] == "=":
            return self.definition(path[1:])
        if last == ")":
            head, arguments = (path[:-2], "") if path[-2] == "(" else split_call(path)
            value, _, guessed = self.evaluate(head)
            return self.call(value, arguments), False, guessed
        if last == "]":
            head, _, place = path[:-1].rpartition("[")
            value, _, guessed = self.evaluate(head)
            return self.item(value, place), False, guessed
        if last == "~":
            value, _, guessed = self.evaluate(path[:-1])
            return self.iterate(value), False, guessed
        if last in "*%&":
            value, _, guessed = self.evaluate(path[:-1])
            return (("w", ("*", value)) if last == "&" else (last, value)), False, guessed
        if last == "^":
            value, _, guessed = self.evaluate(path[:-1])
            return (("s", value[1], value[2]) if value and value[0] == "c" else None), False, guessed
        if last == "!":
            module, _, qual = path[:-1].partition(":.")
            known = self.modules.get(module)
            line = known.names.get(qual) if known is not None else None
            if line is None or line[0] not in "cf":
                return UNKNOWN
            return self.holding(module, qual, line, None, True)[:2] + (False,)
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
            return self.below_root(name)
        head, _, name = path.rpartition(".")
        if not head:
            return EXTERNAL, False, False
        if head == "builtins":
            return builtin(name), False, False
        value, _, guessed = self.evaluate(head)
        found, inherited, also = self.attribute(value, name)
        return found, inherited, guessed or also

    def below_root(self, name: str) -> Found:
        """Resolve a module that has no module of its name, but may be found below a source root."""
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return (None if top in self.packages else EXTERNAL), False, False
        found = self.roots.find(name)
        if found is not None:
            return ("m", found.name), False, found.guessed
        known = top in self.packages or top.startswith("/") or self.roots.is_ambiguous(top)
        return (None if known else EXTERNAL), False, False

    def attribute(self, value: Value, name: str) -> Found:
        if value is None:
            return None, False, False
        kind = value[0]
        if kind == "|":
            return union_found(self.attribute(each, name) for each in value[1])
        if kind == "m":
            return self.names.attribute(value[1], name)
        if kind == "i" and name == "__class__":
            return ("c", value[1], value[2]), False, False
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
                (("k", value[1]) if name in _ITEM_METHODS else ("k", value) if name == "copy" else INHERITED),
                False,
                False,
            )
        if kind == "%":
            if name in _VALUE_METHODS:
                return ("k", value[1]), False, False
            if name == "items":
                return ("k", ("*", ("t", (None, value[1])))), False, False
            return (("k", ("*", value[1])) if name == "values" else INHERITED), False, False
        if kind == "w":
            inner = value[1]
            if name in ("__enter__", "__aenter__") and inner is not None and inner[0] == "*":
                return ("k", inner[1]), False, False
            return None, False, False
        return (external_attribute(value) if kind == "x" else None), False, False

    def entry(self, module: str, qual: str, receiver: Value, follow: bool = True) -> Found:
        """Return the value of one entry of a module's interface."""
        known = self.modules.get(module)
        line = known.names.get(qual) if known is not None else None
        if known is None or line is None:
            return None, False, False
        if line[-1] == "|":
            paths = known.names[f"0|.{qual}"][2]
            others = [self.evaluate(path) if follow else self.not_followed(path) for path in paths]
            unsure = any(other[0] is None and path[-1] in _VALUES for other, path in zip(others, paths, strict=True))
            value, inherited, guessed = union_found([self.holding(module, qual, line, receiver, follow), *others])
            return value, inherited, guessed or unsure
        return self.holding(module, qual, line, receiver, follow)

    def holding(self, module: str, qual: str, line: list[Any], receiver: Value, follow: bool) -> Found:
        """Return the value of one entry, without the other bindings of its name."""
        kind = line[0]
        guessed = line[-1] == "?"
        if kind == "c":
            return ("c", module, qual), False, guessed
        if kind == "f":
            if follow and "p" in line[3]:
                return self.typed(line[2], module, qual, receiver), False, guessed
            return ("f", module, qual, receiver), False, guessed
        if kind == "i":
            if line[2] is None:
                return None, False, False
            return self.evaluate(line[2])
        if kind == "u" and not follow:
            return union_found(map(self.not_followed, line[2]))
        if kind == "k":
            instance = self.evaluate(line[2][0])[0]
            return (("k", instance) if instance is not None else None), False, False
        if kind in ("t", "u"):
            each = [self.evaluate(path) if path else UNKNOWN for path in line[2]]
            if kind == "t":
                return ("t", tuple(value for value, _, _ in each)), False, False
            return union_found(each)[0], False, any(guess for _, _, guess in each)
        if kind == "v":
            if not follow:
                return ("v", module, qual), False, guessed
            if line[2] is None:
                return ("v", module, qual), False, guessed
            value, _, unsure = self.evaluate(line[2]) if line[2][0] != "@" else (None, False, False)
            if value is None and line[2].endswith(".TypeVar()"):
                return UNKNOWN
            return (value if value is not None else ("v", module, qual)), False, guessed or unsure
        return self.typed(line[2], module, qual, receiver), False, guessed

    def not_followed(self, path: str) -> Found:
        """Evaluate a member of a union; a variable or a property is not followed to its value."""
        return self.evaluate(path if path[-1] in _VALUES else "=" + path)

    def definition(self, path: str) -> Found:
        """Like :meth:`evaluate`, but return a variable or a property itself, not its value."""
        head, _, name = path.rpartition(".")
        if not head or path.endswith(":"):
            return self.evaluate(path)
        value, _, guessed = self.evaluate(head)
        found = self.itself(value, name)
        if found is None:
            return self.evaluate(path)
        return found[0], found[1], guessed or found[2]

    def itself(self, value: Value, name: str) -> Found | None:
        """Return the variable, property or other definition that is an attribute of a value."""
        if value is None:
            return None
        kind = value[0]
        if kind == "m":
            return self.names.defined(value[1], name)
        if kind in ("i", "c", "s"):
            return self.member(value[1], value[2], name, value, skip=int(kind == "s"), follow=False)
        if kind == "|":
            return union_found(self.itself(each, name) or UNKNOWN for each in value[1])
        return None

    def member(
        self, module: str, owner: str, name: str, receiver: Value, *, skip: int = 0, follow: bool = True
    ) -> Found:
        """Look up an attribute of a class or of its instances along the method resolution order. Without ``follow``,
        return a variable or a property itself, and nothing for an attribute that only instances have.
        """
        order, outside, _ = self.order(module, owner)
        instance = receiver is not None and receiver[0] == "i"
        only = False  # whether instances have it
        for place, (where, qual) in enumerate(order[skip:]):
            names = self.modules[where].names
            key = f"{qual}.{name}"
            line = names.get(key)
            inherited = place + skip > 0
            if instance and (line is None or line[0] == "v"):
                own = f"{qual}().{name}"
                if own in names and follow:
                    value = self.entry(where, own, receiver)[0]
                    declared = self.entry(where, key, receiver)[0] if line is not None and line[2] else None
                    if declared is not None and declared[0] != "v":
                        value = union((declared, value))
                    return value, inherited, False
                only = only or own in names
            if line is not None:
                value, _, guessed = self.entry(where, key, receiver, follow)
                return value, inherited, guessed
        if receiver is not None and receiver[0] == "c":
            found = self.of_metaclass(order[skip:], name, follow)
            if found is not None:
                return found
        return (INHERITED if not only and (outside or name in _OBJECT) else None), False, False

    def of_metaclass(self, order: list[Class], name: str, follow: bool) -> Found | None:
        """Return an attribute of the metaclass of a class with this order."""
        for where, qual in order:
            for path in self.modules[where].names[qual][2]:
                meta = self.evaluate(path[1:])[0] if path[0] == "@" else None
                if meta is not None and meta[0] == "c":
                    return self.member(meta[1], meta[2], name, ("i", meta[1], meta[2]), follow=follow)
        return None

    def order(self, module: str, owner: str) -> Order:
        """Return the method resolution order of a class."""
        return order_of(self, (module, owner))

    def call(self, value: Value, arguments: str = "") -> Value:
        if value is None:
            return None
        kind = value[0]
        if kind == "|":
            return union(self.call(each, arguments) for each in value[1])
        if kind == "c":
            return ("i", value[1], value[2])
        if kind == "f":
            line = self.modules[value[1]].names[value[2]]
            if line[2] and line[2][0] == "$":
                path = argument_path(line[2], arguments)
                return self.evaluate(path)[0] if path else None
            result = self.typed(line[2], value[1], value[2], value[3])
            return ("w", result) if "w" in line[3] else result
        if kind == "k":
            found: Value = value[1]
            return found
        if kind == "i":
            method = self.member(value[1], value[2], "__call__", value)[0]
            return self.call(method) if method is not None and method[0] == "f" else None
        return external_result(value) if kind == "x" else None

    def item(self, value: Value, place: str = "") -> Value:
        if value is not None and value[0] == "|":
            return union(self.item(each, place) for each in value[1])
        if value is not None and value[0] == "t":
            return value[1][int(place)] if place and int(place) < len(value[1]) else None
        if value is not None and value[0] in "*%":
            found: Value = value[1]
            return found
        if value is not None and value[0] == "c":  # a generic class with its parameter
            return value
        if value is not None and value[0] == "i":
            return self.result_of(value, "__getitem__")
        return PLAIN if value == PLAIN else None

    def result_of(self, value: tuple[Any, ...], name: str) -> Value:
        """Return the result of a method of an instance."""
        method = self.member(value[1], value[2], name, value)[0]
        return self.call(method) if method is not None and method[0] == "f" else None

    def iterate(self, value: Value) -> Value:
        if value is not None and value[0] == "|":
            return union(map(self.iterate, value[1]))
        if value is not None and value[0] == "t":
            return union(value[1])
        if value is not None and value[0] == "*":
            found: Value = value[1]
            return found
        if value is not None and value[0] == "i":
            for first, then in (("__iter__", "__next__"), ("__aiter__", "__anext__")):
                method = self.member(value[1], value[2], first, value)[0]
                if method is not None and method[0] == "f":
                    got = self.call(method)
                    members = got[1] if got is not None and got[0] == "|" else [got]
                    return union(self.result_of(m, then) if m and m[0] == "i" else self.iterate(m) for m in members)
            return self.result_of(value, "__getitem__")
        return PLAIN if value == PLAIN else None

    def typed(self, path: str | None, module: str, qual: str, receiver: Value) -> Value:
        """Return the value of a type path. ``@`` in it is the receiver, or an instance of the class that contains
        ``qual``.
        """
        if path is None or path[0] == "$":
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
        if me is not None and path[1:2] == ".":
            return self.evaluate(f"{me[1]}:.{me[2]}!(){path[1:]}")[0]
        for mark in path[1:]:
            me = (mark, me) if mark in "*%" else None
        return me
