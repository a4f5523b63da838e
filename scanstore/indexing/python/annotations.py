"""Type annotations as paths: ``Foo`` is ``mod.Foo()``, ``list[Foo]`` is ``mod.Foo()*`` (see :mod:`.indexer`)."""

from __future__ import annotations

import ast
from collections.abc import Callable

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
DEEPEST = 6  # nested containers; deeper nesting occurs only in generated code
_SELF = frozenset(("Self",))


def annotation_path(node: object, spell: Callable[[object], str | None], most: int = DEEPEST) -> str | None:
    """Return the path of a value annotated with ``node``. ``Self`` is ``@``, which the resolver replaces."""
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
            sides = [s for s in (node.left, node.right) if not (type(s) is ast.Constant and s.value is None)]
            if len(sides) != 1:
                return None
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
                    return None
                node = options[0]
                continue
            if tail in _CLASSES:
                path = annotation_path(first, spell, most - 1)
                return path[:-2] if path and path.endswith("()") else None
            if tail in ("tuple", "Tuple"):
                same = type(inner) is ast.Tuple and len(inner.elts) == 2 and type(inner.elts[1]) is ast.Constant
                path = annotation_path(first, spell, most - 1) if same else None
                return path and path + "*"
            if tail in _MANAGERS:
                path = annotation_path(first, spell, most - 1)
                return path and path + "&"
            if tail in _CONTAINERS:
                path = annotation_path(first, spell, most - 1)
                return path and path + "*"
            if tail in _MAPPINGS:
                if type(inner) is not ast.Tuple or len(inner.elts) != 2:
                    return None
                path = annotation_path(inner.elts[1], spell, most - 1)
                return path and path + "%"
            path = spell(head)  # a user-defined generic class: Box[int] is a Box
            return path and path + "()"
        return None
    return None
