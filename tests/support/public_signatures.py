"""The annotations that users of the package meet: of its public functions, methods and attributes, and of the classes
that these name.

Everything is read from the source, so that overloads, aliases and imports for type checkers count too.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache, cached_property
from typing import NamedTuple

import import_graph

from scanstore import parts
from scanstore.store import Store


class Annotation(NamedTuple):
    """One annotation: ``where`` is the module and the line, ``owner`` what it belongs to."""

    where: str
    owner: str
    name: str
    given: ast.expr

    def __str__(self) -> str:
        return f"{self.where} {self.owner} {self.name}: {ast.unparse(self.given)}"


class Module:
    """The top of a module: what it defines, and what it imports under which name."""

    def __init__(self, name: str) -> None:
        self.name = name
        tree = ast.parse(import_graph.own_modules()[name].read_text(encoding="utf-8"))
        self.defined: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        for node in statements(tree.body):
            for word in names_of(node):
                self.defined.setdefault(word, []).append(node)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scanstore"):
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = (node.module or "", alias.name)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module or class, with those inside ``if``, ``else`` and ``try``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from statements(node.body)
            yield from statements(node.orelse)


def names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=targets):
            return [each.id for each in targets if isinstance(each, ast.Name)]
    return []


@cache
def module(name: str) -> Module:
    return Module(name)


def starts() -> list[tuple[str, str]]:
    """The public names: of packages, of the modules that users import, and of the parts of a store."""
    found = []
    for name, path in import_graph.own_modules().items():
        if path.name == "__init__.py" and not name.startswith(("scanstore.cli", "scanstore.migrations")):
            found += [(name, word) for word in getattr(importlib.import_module(name), "__all__", ())]
    for name in ("scanstore.models", "scanstore.policies"):
        found += [(name, word) for word in importlib.import_module(name).__all__]
    for name in ("scanstore.errors", "scanstore.dependencies"):
        found += [(name, word) for word in module(name).defined if not word.startswith("_")]
    for member in vars(Store).values():
        if isinstance(member, cached_property):
            found.append(("scanstore.parts", member.func.__annotations__["return"]))
    assert len(found) > 100 and parts.__all__
    return found


def annotations() -> list[Annotation]:
    """All that can be reached from the public names."""
    found: list[Annotation] = []
    seen: set[tuple[str, str]] = set()
    waiting = starts()
    while waiting:
        key = waiting.pop()
        if key in seen or key[0] not in import_graph.own_modules():
            continue
        seen.add(key)
        home, word = key
        if word in module(home).imported:
            waiting.append(module(home).imported[word])
        for node in seen_by_callers(module(home).defined.get(word, [])):
            some = list(of_statement(home, word, node))
            found += some
            for each in some:
                waiting += [(home, name) for name in words(each.given)]
            if isinstance(node, ast.ClassDef):
                waiting += [(home, name) for base in node.bases for name in words(base)]
    return sorted(found, key=str)


def seen_by_callers(same: list[ast.stmt]) -> list[ast.stmt]:
    """The definitions of one name, without the function that its overloads stand for."""
    overloads = [
        node
        for node in same
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)
    ]
    return overloads or same


def words(given: ast.expr) -> set[str]:
    """The names in an annotation, also where it is text."""
    found = set()
    for node in ast.walk(given):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                found |= words(ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                pass  # a word of a Literal
    return found


def of_statement(home: str, owner: str, node: ast.stmt) -> Iterator[Annotation]:
    where = f"{home}:{node.lineno}"
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            args = node.args
            for arg in (*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg):
                if arg is not None and arg.annotation is not None:
                    yield Annotation(where, owner, arg.arg, arg.annotation)
            if node.returns is not None:
                yield Annotation(where, owner, "return", node.returns)
        case ast.ClassDef():
            members: dict[str, list[ast.stmt]] = {}
            for inner in statements(node.body):
                for name in names_of(inner):
                    members.setdefault(name, []).append(inner)
            for name, same in members.items():
                if not name.startswith("_") or name.endswith("__"):
                    for each in seen_by_callers(same):
                        yield from of_statement(home, f"{owner}.{name}", each)
        case ast.AnnAssign(annotation=annotation):
            yield Annotation(where, owner, "", annotation)
            if ast.unparse(annotation).endswith("TypeAlias") and node.value is not None:
                yield Annotation(where, owner, "", node.value)
        case ast.Assign(value=ast.Subscript() | ast.BinOp() as value) if "." not in owner:
            yield Annotation(where, owner, "", value)  # an alias, such as Callable[[int], str] or int | str
