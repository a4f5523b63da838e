"""The interface of a file: the names that other files can see, with the paths of their values.

The interface maps qualified names to entries, which :mod:`scanstore.snapshots.resolver` reads:

===== ==============================================================================================================
``c`` a class: its ordinal, the paths of its bases and, after ``@``, its metaclass, and whether it is a dataclass
``f`` a function: its ordinal, the path of its result, and flags: ``p`` property, ``w`` context manager
``v`` a variable: its ordinal, and the path of its value
``i`` an import: -1, and the path of the target
``a`` an attribute that only instances have, as ``C().name``: -1, and the path of its value
``t`` a tuple: -1, and the paths of its items, empty if unknown; its name is no identifier
``k`` an alias of a type: -1, and the path of an instance; its name is no identifier
``u`` a value that is one of several: -1, and their paths; its name is no identifier
===== ==============================================================================================================

A path is None if the file does not determine it. A final ``?`` means that the name has other bindings too. A final
``|`` means that the file determines them: for a name ``f`` they are the entry ``0|.f``, of the kind ``u``. An earlier
function ``f`` in another branch is the entry ``0@7f``, where 7 is its ordinal.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from scanstore.indexing.python.generics import Variables, generic_result, variables_of
from scanstore.indexing.python.returns import result_path
from scanstore.indexing.python.scopes import MOST_RIVALS, Binding, Meanings, NameScope, has_rivals, qualified
from scanstore.indexing.python.source import as_written, returns_self, returns_type_of_self

_TRANSPARENT = frozenset(
    "property cached_property setter getter deleter staticmethod classmethod abstractmethod overload override final"
    " lru_cache cache wraps no_type_check".split()
)


def describe(
    meanings: Meanings,
    interface: dict[str, list[object]],
    top: NameScope,
    functions: Sequence[tuple[NameScope, NameScope, ast.FunctionDef | ast.AsyncFunctionDef]],
    classes: Sequence[NameScope],
    self_types: dict[tuple[str, str], list[Binding]],
    results: dict[NameScope, list[ast.expr]],
) -> None:
    """Add an entry to ``interface`` for each name of the module and of its classes.

    ``functions`` are the scopes of all functions, the scopes that contain them, and their nodes; ``classes`` the scopes
    of all classes, which have their entries; ``self_types`` the bindings of attributes of ``self``, by class and name;
    ``results`` the values that functions return, and their ``yield`` expressions.
    """
    before: dict[str, list[str]] = {}  # the decorators of the latest function of a name
    others: dict[str, list[str]] = {}  # the earlier functions of a name
    generic: dict[NameScope, Variables] = {}
    for inner, scope, node in functions:
        variables = variables_of(node, inner.class_scope is scope and inner.static != "static", meanings, scope)
        if variables:
            generic[inner] = variables
        else:
            meanings.plain.add(f"{meanings.here}{inner.qual}")
        if inner.class_scope is scope:
            for arg in [*node.args.posonlyargs, *node.args.args][:1]:
                if inner.static != "static":
                    inner.cache[arg.arg] = meanings.itself(scope) + ("" if inner.static == "class" else "()")
    for inner, scope, node in functions:
        variables = generic.get(inner, {})
        meanings.me = f"{meanings.here}{scope.qual}()" if inner.class_scope is scope else None
        if node.returns is None:
            returns = result_path(meanings, inner, results[inner]) if inner in results else None
        elif variables:
            returns = generic_result(node, variables, meanings, scope)
        else:
            returns = meanings.annotation(node.returns, scope)
        names = [as_written(d).removesuffix("()").rpartition(".")[2] for d in node.decorator_list]
        flags = ""
        if "property" in names or "cached_property" in names or any(n in ("setter", "getter") for n in names):
            flags += "p"
        if "contextmanager" in names or "asynccontextmanager" in names:
            flags += "w"
        elif any(n not in _TRANSPARENT for n in names):
            returns = None if "p" not in flags else returns
        if inner.class_scope is scope and returns_type_of_self(node):
            returns = "@"
        elif returns is None and inner.self_name and node.returns is None and returns_self(node, inner.self_name):
            returns = "@"
        known = interface.get(inner.qual)
        if known is not None and known[0] == "f" and "p" in str(known[3]) and "p" in flags:
            continue  # the getter defines the property; its setter comes later
        if known is not None and known[0] == "f" and scope is top and "overload" not in names + before[inner.qual]:
            if node.col_offset:  # in the branch of a condition
                earlier = f"0@{known[1]}{node.name}"
                interface[earlier] = known[:4]
                others.setdefault(inner.qual, []).append(f"{meanings.here}{earlier}")
                meanings.doubled.add(node.name)
        before[inner.qual] = names
        interface[inner.qual] = ["f", inner.ordinal, returns, flags]
    meanings.me = None
    for scope in [top, *classes]:
        for name, binds in scope.binds.items():
            qual = qualified(scope, name)
            symbols = [b[1] for b in binds if b[0] == "symbol"]
            if qual in others:
                more = meanings.rivals(name, binds, scope) if has_rivals(binds) else []
                interface[qual] = [*interface[qual][:4], "|" if more is not None else "?"]
                interface[f"0|.{qual}"] = ["u", -1, (more or []) + others[qual][-MOST_RIVALS:]]
            elif any(b[0] in ("def", "class") for b in binds):
                if has_rivals(binds) and qual in interface:
                    rivals = meanings.rivals(name, binds, scope)
                    interface[qual] = [*interface[qual][:4], "|" if rivals else "?"]
                    if rivals:
                        interface[f"0|.{qual}"] = ["u", -1, rivals]
            elif any(b[0] == "import" for b in binds):
                interface[qual] = ["i", -1, meanings.meaning(name, scope)]
            elif symbols:
                interface[qual] = [
                    "v",
                    symbols[0],
                    meanings.typed([b for b in binds if b[0] != "symbol"]),
                ]
    for (owner, attribute), binds in self_types.items():
        path = meanings.one_of(binds)
        if path is not None:
            interface[f"{owner}().{attribute}"] = ["a", -1, path]
