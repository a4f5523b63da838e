"""Type annotations as paths: ``Foo`` is ``mod.Foo()``, ``list[Foo]`` is ``mod.Foo()*`` (see :mod:`.indexer`)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Literal, TypeAlias

_CONTAINERS = frozenset(
    "list List Sequence MutableSequence Iterable Iterator Collection Set set frozenset FrozenSet AbstractSet deque"
    " Deque Generator AsyncIterator AsyncIterable AsyncGenerator Reversible KeysView ValuesView".split()
)
_MAPPINGS = frozenset("dict Dict Mapping MutableMapping defaultdict DefaultDict OrderedDict ChainMap".split())
_MANAGERS = frozenset(
    "AbstractContextManager ContextManager AbstractAsyncContextManager AsyncContextManager".split()
)
_TRANSPARENT = frozenset("Optional Annotated Final ClassVar Required NotRequired ReadOnly Awaitable Coroutine".split())
_CLASSES = frozenset(("type", "Type"))
LONGEST_TUPLE = 20  # items
LONGEST_UNION = 8
DEEPEST = 6  # nested containers; deeper nesting occurs only in generated code
_SELF = frozenset(("Self",))


Several: TypeAlias = Literal["t", "u", "k"]  # a tuple, a union, an alias of a type


def annotation_path(
    node: object,
    spell: Callable[[object], str | None],
    together: Callable[[Several, list[str]], str],
    most: int = DEEPEST,
) -> str | None:
    """Return the path of a value annotated with ``node``. ``Self`` is ``@``, which the resolver replaces.

    ``together`` gives the path of a tuple or a union of paths.
    """

    def inside(part: object) -> str | None:
        return annotation_path(part, spell, together, most - 1)

    def one_of(parts: list[ast.expr]) -> str | None:
        paths = [inside(part) for part in parts]
        if not parts or len(parts) > LONGEST_UNION:
            return None
        known = [path for path in dict.fromkeys(paths) if path]
        if None in paths or any(path.startswith("@") for path in known):
            return None
        return known[0] if len(known) == 1 else together("u", known)

    if not most:
        return None
    for _ in range(8):  # a string in a string in an Optional …
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, str) or len(node.value) > 200:
                return None
            try:
                node = ast.parse(node.value.strip(), mode="eval").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return None
            continue
        if isinstance(node, ast.BinOp) and type(node.op) is ast.BitOr:
            sides = _sides(node)
            if len(sides) != 1:
                return one_of(sides)
            node = sides[0]
            continue
        if isinstance(node, (ast.Name, ast.Attribute)):
            tail = node.id if isinstance(node, ast.Name) else node.attr
            if tail in _SELF:
                return "@"
            path = spell(node)
            return path and path + "()"
        if isinstance(node, ast.Subscript):
            head = node.value
            tail = head.id if type(head) is ast.Name else head.attr if type(head) is ast.Attribute else ""
            inner = node.slice
            first = inner.elts[0] if type(inner) is ast.Tuple and inner.elts else inner
            if tail in _TRANSPARENT:
                node = inner.elts[-1] if tail == "Coroutine" and type(inner) is ast.Tuple and inner.elts else first
                continue
            if tail == "Union":
                options = inner.elts if type(inner) is ast.Tuple else [inner]
                options = [o for o in options if not (type(o) is ast.Constant and o.value is None)]
                if len(options) != 1:
                    return one_of(options)
                node = options[0]
                continue
            if tail in _CLASSES:
                path = inside(first)
                return path[:-2] if path and path.endswith("()") else None
            if tail in ("tuple", "Tuple"):
                same = type(inner) is ast.Tuple and len(inner.elts) == 2 and type(inner.elts[1]) is ast.Constant
                if not same:
                    items = inner.elts if type(inner) is ast.Tuple else [inner]
                    paths = [inside(item) for item in items] if len(items) < LONGEST_TUPLE else []
                    return together("t", [path or "" for path in paths]) if any(paths) else None
                path = inside(first)
                return path and path + "*"
            if tail in _MANAGERS:
                path = inside(first)
                return path and path + "&"
            if tail in _CONTAINERS:
                path = inside(first)
                return path and path + "*"
            if tail in _MAPPINGS:
                if type(inner) is not ast.Tuple or len(inner.elts) != 2:
                    return None
                path = inside(inner.elts[1])
                return path and path + "%"
            path = spell(head)  # a user-defined generic class: Box[int] is a Box
            return path and path + "()"
        return None
    return None


def _sides(node: ast.BinOp) -> list[ast.expr]:
    """Return the members of a union ``A | B | None``, without None; none of them if there are too many."""
    found: list[ast.expr] = []
    rest: list[ast.expr] = [node]
    while rest:
        each = rest.pop()
        if isinstance(each, ast.BinOp) and type(each.op) is ast.BitOr:
            rest += [each.right, each.left]
        elif not (type(each) is ast.Constant and each.value is None):
            found.append(each)
    return found if len(found) <= LONGEST_UNION else []


def type_checking(module: ast.Module) -> list[list[int]]:
    """Return the first and last lines of the branches of a module that only type checkers read."""
    found = []
    for node in module.body:
        if isinstance(node, ast.If):
            test, branch = node.test, node.body
            if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
                test, branch = test.operand, node.orelse
            name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
            if name == "TYPE_CHECKING" and branch:
                found.append([branch[0].lineno, branch[-1].end_lineno or branch[-1].lineno])
    return found
