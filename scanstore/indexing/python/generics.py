"""Functions whose result has the type of an argument: ``def first(items: list[T]) -> T``.

The interface has ``$0`` for the value of the first argument at the place of the call, with the steps that lead from it
to the result: ``$0~`` for the function above.
"""

from __future__ import annotations

import ast
import re

from scanstore.indexing.python.annotations import _CLASSES, _CONTAINERS, _MAPPINGS, _TRANSPARENT, annotation_path
from scanstore.indexing.python.scopes import MOST_ARGUMENTS, Meanings, NameScope

DEEPEST = 4  # nested brackets of a parameter's annotation
#: How type variables are called, for those that are imported.
_USUAL = re.compile(r"_?[A-Z][A-Z0-9]?|\w*_?T(?:_co|_contra)?|T_\w+")

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: The names of the type variables of a function, with the place of the argument and the steps from its value.
Variables = dict[str, tuple[int, str]]


def variables_of(node: Function, method: bool, meanings: Meanings, scope: NameScope) -> Variables:
    """Return the type variables in a function's return annotation that the type of an argument determines."""
    if node.returns is None or isinstance(node.returns, ast.Constant) and not isinstance(node.returns.value, str):
        return {}
    own = {parameter.name for parameter in getattr(node, "type_params", ())}
    found: Variables = {}
    arguments = [*node.args.posonlyargs, *node.args.args][int(method) :]
    for place, argument in enumerate(arguments[:MOST_ARGUMENTS]):
        name, steps = _variable(argument.annotation, DEEPEST)
        if name and name not in found and (name in own or _is_variable(name, meanings, scope)):
            found[name] = (place, steps)
    return found


def generic_result(node: Function, variables: Variables, meanings: Meanings, scope: NameScope) -> str | None:
    """Return the path of a result whose annotation may name these type variables."""

    def spell(expression: object) -> str | None:
        if isinstance(expression, ast.Name) and expression.id in variables:
            return f"${variables[expression.id][0]}"
        return meanings.spell(expression, scope)

    path = annotation_path(node.returns, spell, meanings.together)
    if path is None or not path.startswith("$"):
        return path
    place = int(path[1])
    steps = next(steps for at, steps in variables.values() if at == place)
    return f"${place}{steps}{path[4:]}" if path[2:4] == "()" else None


def _variable(annotation: ast.expr | None, most: int) -> tuple[str, str]:
    """Return the name inside an annotation, and the steps that lead from a value of that type to the name."""
    if not most or annotation is None:
        return "", ""
    if isinstance(annotation, ast.Name):
        return annotation.id, ""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return (annotation.value, "") if annotation.value.isidentifier() else ("", "")
    if isinstance(annotation, ast.BinOp):
        sides = [side for side in (annotation.left, annotation.right) if not isinstance(side, ast.Constant)]
        return _variable(sides[0], most - 1) if len(sides) == 1 else ("", "")
    if not isinstance(annotation, ast.Subscript):
        return "", ""
    head = annotation.value
    tail = head.id if isinstance(head, ast.Name) else head.attr if isinstance(head, ast.Attribute) else ""
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    if not inner:
        return "", ""
    step, part = "", inner[0]
    if tail in _CLASSES:
        step = "()"
    elif tail == "Callable":
        step, part = "()", inner[-1]
    elif tail in _MAPPINGS:
        step, part = "[]", inner[-1]
    elif tail in _CONTAINERS or tail in ("tuple", "Tuple"):
        step = "~"
    elif tail not in _TRANSPARENT:
        return "", ""
    name, steps = _variable(part, most - 1)
    return name, step + steps


def _is_variable(name: str, meanings: Meanings, scope: NameScope) -> bool:
    home = meanings.home(name, scope)
    if home is None:
        return bool(meanings.stars) and _USUAL.fullmatch(name) is not None
    for kind, value, _ in home.binds[name]:
        if kind == "import":
            return _USUAL.fullmatch(name) is not None
        if kind == "assign" and isinstance(value, ast.Call):
            tail = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
            return tail == "TypeVar"
    return False
