"""The imports between the modules of the package: at load, inside functions, and for type checkers only."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import scanstore

PACKAGE = Path(scanstore.__file__).parent

#: Packages, and modules beside them, from the ground up. Each may import those of the lines before its own.
STEPS = (
    ("errors", "version"),
    ("db",),
    ("settings",),
    ("accounts", "indexing", "leases", "library", "llm"),
    ("snapshots",),
    ("audits", "findings", "jobs", "sessions", "symbols"),
    ("analysis", "plans", "sarif", "search"),
    ("policies", "report"),
    ("models",),
    ("maintenance",),
    ("parts",),
    ("store",),
    ("aio", "provisioning"),
    ("cli", "dependencies"),
    ("__init__", "__main__"),
)
RANK = {name: number for number, names in enumerate(STEPS) for name in names}


def room(module: str) -> str:
    """The package, or the module beside the packages, that a module belongs to."""
    return (module.split(".") + ["__init__"])[1]


class Edge(NamedTuple):
    """One import: ``names`` is empty when the module itself is imported. ``kind`` is "load", "lazy" or "type"."""

    names: tuple[str, ...]
    kind: str

    def __str__(self) -> str:
        return f"{', '.join(self.names) or 'the module'} ({self.kind})"


Graph = dict[str, dict[str, list[Edge]]]


@cache
def own_modules() -> dict[str, Path]:
    """The modules of the package with their files; a package goes by its own name, without ``__init__``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("scanstore", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return dict(sorted(found.items()))


@cache
def graph() -> Graph:
    """Who imports what from whom, of every module."""
    modules = own_modules()
    return {name: edges_of(name, ast.parse(path.read_text()), modules, path.stem) for name, path in modules.items()}


def edges_of(module: str, tree: ast.Module, modules: dict[str, Path], stem: str = "") -> dict[str, list[Edge]]:
    """What one module imports from the others."""
    package = module if stem == "__init__" else module.rpartition(".")[0]
    edges: dict[str, list[Edge]] = defaultdict(list)
    for node, kind in imports_in(tree, "load"):
        named: dict[str, list[str]] = defaultdict(list)
        if isinstance(node, ast.Import):
            for alias in node.names:
                named[alias.name]
        else:
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in modules:
                    named[inner]
                else:
                    named[base].append(alias.name)
        for target, names in named.items():
            if target in modules and target != module:
                edges[target].append(Edge(tuple(names), kind))
    return dict(edges)


def imports_in(node: ast.AST, kind: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """The imports below a node, each with its kind."""
    for child in ast.iter_child_nodes(node):
        inner = kind
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and kind == "load":
            inner = "lazy"
        elif isinstance(node, ast.If) and child in node.body and "TYPE_CHECKING" in ast.unparse(node.test):
            inner = "type"
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inner
        else:
            yield from imports_in(child, inner)


def circles(edges: Graph) -> list[list[str]]:
    """The groups of modules that reach each other (strongly connected components of two or more), the largest first.

    Tarjan, "Depth-first search and linear graph algorithms", 1972.
    """
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in edges.get(name, ()):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in order:
            visit(name)
    return sorted(found, key=lambda group: (-len(group), group))


def described(group: list[str], edges: Graph) -> str:
    """A circle as text: its members, and each import that stays inside it."""
    inside = set(group)
    lines = [f"{len(group)} modules import each other in a circle: {', '.join(group)}"]
    for name in group:
        for target, found in sorted(edges[name].items()):
            if target in inside:
                lines.append(f"  {name} imports from {target}: {'; '.join(map(str, found))}")
    return "\n".join(lines)
