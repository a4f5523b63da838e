"""The result of a function without a return annotation, from its ``return`` and ``yield``.

All results count that the file determines; if they differ, the result is one of them. Results that the file does not
determine are left out, as for attributes. A generator gives a container of the yielded values.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from scanstore.indexing.python.annotations import LONGEST_UNION
from scanstore.indexing.python.scopes import Meanings, NameScope

MOST_RETURNS = 40  # of one function; more occur only in tables written as code

#: The values that a function returns, or its ``yield`` expressions.
Results = Sequence[ast.expr]


def result_path(meanings: Meanings, function: NameScope, results: Results) -> str | None:
    """Return the path of a function's result. In a method it begins with ``@`` if it depends on the receiver."""
    if len(results) > MOST_RETURNS:
        return None
    yields = [each for each in results if isinstance(each, (ast.Yield, ast.YieldFrom))]
    paths: dict[str, None] = {}
    for each in yields or _options(results):
        value = each.value if isinstance(each, (ast.Yield, ast.YieldFrom)) else each
        path = _relative(meanings, function, value)
        if path and isinstance(each, ast.YieldFrom):
            path += "~"
        if path and not path.startswith(("?", "builtins.")) and path != f"{meanings.here}{function.qual}()":
            paths[path] = None
    if not paths or len(paths) > LONGEST_UNION:
        return None
    path = next(iter(paths)) if len(paths) == 1 else meanings.together("u", list(paths))
    return path + "*" if yields else path


def _options(values: Results) -> Iterator[ast.expr]:
    """Yield the values, and the branches of conditional ones."""
    rest = list(reversed(values))
    while rest:
        value = rest.pop()
        if isinstance(value, ast.IfExp):
            rest += [value.orelse, value.body]
        elif isinstance(value, ast.BoolOp):
            rest += reversed(value.values if isinstance(value.op, ast.Or) else value.values[-1:])
        else:
            yield value


def _relative(meanings: Meanings, function: NameScope, value: ast.expr | None) -> str | None:
    """Return the path of a value. ``@`` stands for ``self``, and ``@.__class__`` for ``cls``."""
    path = meanings.spell(value, function)
    name = function.self_name
    mine = function.cache.get(name) if name is not None else None
    if path is None or name is None or not mine or not path.startswith(mine):
        return path
    usual, function.cache = function.cache, {name: "@" if mine.endswith("()") else "@.__class__"}
    path = meanings.spell(value, function)
    function.cache = usual
    return "@" + path[len("@.__class__()") :] if path and path.startswith("@.__class__()") else path
