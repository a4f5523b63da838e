"""Containers that an expression builds: literals, comprehensions, and the builtins that pass on the items of one."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from scanstore.indexing.python.annotations import LONGEST_UNION, Several

MOST_ITEMS = 20  # of a literal; longer ones are data
_SAME_ITEMS = frozenset("reversed sorted list tuple set frozenset iter".split())

_Spell = Callable[[object], "str | None"]
_Together = Callable[[Several, list[str]], str]


def one_path(nodes: Sequence[ast.expr | None], spell: _Spell, together: _Together) -> str | None:
    """Return the path of a value that is one of several expressions. Those that the code does not determine, and
    builtin values, are left out.
    """
    paths: dict[str, None] = {}
    for node in nodes[:MOST_ITEMS]:
        path = spell(node) if node is not None and type(node) is not ast.Constant else None
        if path and not path.startswith("builtins."):
            paths[path] = None
    known = list(paths)
    if len(known) == 1:
        return known[0]
    if not known or len(known) > LONGEST_UNION or any(path.startswith(("?", "@", "*")) for path in known):
        return None
    return together("u", known)


def literal_path(node: ast.List | ast.Set | ast.Dict, spell: _Spell, together: _Together) -> str | None:
    """Return the path of a list, set or dictionary whose items are known."""
    if isinstance(node, ast.Dict):
        path = one_path(node.values, spell, together) if None not in node.keys else None
        return path and path + "%"
    items: list[ast.expr | None] = [item for item in node.elts if not isinstance(item, ast.Starred)]
    path = one_path(items, spell, together)
    return path and path + "*"


def passed_on(name: str, node: ast.Call, spell: _Spell, together: _Together) -> str | None:
    """Return the path of what a builtin makes of the items of its arguments."""
    count = 2 if name == "filter" else 1
    if not node.args or name != "zip" and name != "next" and len(node.args) < count:
        return None
    items: list[str] = []
    for argument in node.args[:MOST_ITEMS]:
        path = None if isinstance(argument, ast.Starred) else spell(argument)
        plain = path is None or path.startswith(("builtins.", "?", "@"))
        items.append("" if plain else f"{path}~")
    if name == "zip":
        return together("t", items) + "*" if any(items) else None
    first = items[count - 1]
    if not first:
        return None
    if name == "enumerate":
        return together("t", ["", first]) + "*"
    if name == "next":
        return first
    return first + "*" if name in _SAME_ITEMS or name == "filter" else None


#: The builtins that :func:`passed_on` knows.
PASSING = _SAME_ITEMS | {"enumerate", "zip", "next", "filter"}


def is_alias(node: object) -> bool:
    """Whether an assigned expression is a union of types, as in ``Number = Union[Whole, Part]``."""
    if isinstance(node, ast.Subscript):
        head = node.value
        return (head.id if isinstance(head, ast.Name) else getattr(head, "attr", "")) in ("Union", "Optional")
    while isinstance(node, ast.BinOp) and type(node.op) is ast.BitOr:
        right = node.right
        name = right.id if isinstance(right, ast.Name) else right.attr if isinstance(right, ast.Attribute) else ""
        if not name[:1].isupper() and not (isinstance(right, ast.Constant) and right.value is None):
            return False
        node = node.left
        if isinstance(node, ast.Name):
            return node.id[:1].isupper()
    return False
