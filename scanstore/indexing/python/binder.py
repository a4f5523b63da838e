"""The statements and expressions that bind names, other than definitions and imports."""

from __future__ import annotations

import ast
from collections.abc import Callable

from scanstore.indexing.python.scopes import Meanings, NameScope, Unpacked

_Push = Callable[[ast.AST], object]  # pushes a node on the stack of the walk


class Binder:
    """The part of a reader that binds names. A method pushes the nodes that are to be read next, the last first."""

    meanings: Meanings
    top: NameScope
    value: ast.AST | None  #: what the targets of the present statement are bound to
    pending: list[tuple[list[ast.AST], NameScope]]  #: lambdas and comprehensions, with their scopes

    def bind_target(self, target: ast.expr, scope: NameScope, kind: str, value: Unpacked | None, push: _Push) -> None:
        raise NotImplementedError

    def on_augmented(self, node: ast.AugAssign, scope: NameScope, push: _Push) -> None:
        push(node.value)
        if type(node.target) is not ast.Name:
            push(node.target)

    def on_walrus(self, node: ast.NamedExpr, scope: NameScope, push: _Push) -> None:
        push(node.value)
        home: NameScope = scope
        while home.transparent and home.parent is not None:
            home = home.parent
        home.bind(node.target.id, "assign" if home.kind == "function" else "other", node.value, scope)

    def on_for(self, node: ast.For | ast.AsyncFor, scope: NameScope, push: _Push) -> None:
        for statement in reversed(node.body + node.orelse):
            push(statement)
        push(node.iter)
        self.value = node.iter
        self.bind_target(node.target, scope, "iterate", node.iter, push)

    def on_comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, scope: NameScope, push: _Push
    ) -> None:
        inner = scope.closure()
        inner.transparent = True
        self.meanings.inner[node] = inner
        inside: list[ast.AST] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for place, part in enumerate(node.generators):
            inside += part.ifs
            if place == 0:
                push(part.iter)
            else:
                inside.append(part.iter)
            self.bind_target(part.target, inner, "iterate", part.iter, inside.append)
        self.pending.append((inside, inner))

    def on_with(self, node: ast.With | ast.AsyncWith, scope: NameScope, push: _Push) -> None:
        for statement in reversed(node.body):
            push(statement)
        kind = "enter" if type(node) is ast.With else "aenter"
        for item in reversed(node.items):
            push(item.context_expr)
            if item.optional_vars is not None:
                self.value = item.context_expr
                self.bind_target(item.optional_vars, scope, kind, item.context_expr, push)

    def on_handler(self, node: ast.ExceptHandler, scope: NameScope, push: _Push) -> None:
        for statement in reversed(node.body):
            push(statement)
        if node.type is not None:
            push(node.type)
        if node.name:
            scope.bind(node.name, "except", node.type, scope)

    def on_global(self, node: ast.Global, scope: NameScope, push: object) -> None:
        for name in node.names:
            scope.foreign[name] = self.top

    def on_nonlocal(self, node: ast.Nonlocal, scope: NameScope, push: object) -> None:
        for name in node.names:
            outer = scope.parent
            while outer is not None and (outer.kind != "function" or name not in outer.binds):
                outer = outer.parent
            scope.foreign[name] = outer

    def on_lambda(self, node: ast.Lambda, scope: NameScope, push: _Push) -> None:
        inner = scope.closure()
        arguments = node.args
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                push(default)
        for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if arg is not None:
                inner.bind(arg.arg, "other", None, inner)
        self.pending.append(([node.body], inner))

    def on_match_name(
        self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping, scope: NameScope, push: _Push
    ) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name:
            scope.bind(name, "other", None, scope)
        for field in ("pattern", "patterns", "keys"):
            value = getattr(node, field, None)
            if isinstance(value, list):
                for item in value:
                    push(item)
            elif value is not None:
                push(value)
