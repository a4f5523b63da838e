"""What a type checker knows about the call sites of a source tree.

The accuracy benchmark needs a judge that shares no code and no habit with the indexer it judges. mypy is
run in this process over a whole tree; then every call expression is asked whom it calls, and only what the
checker is certain of becomes a `Site`. An `Any`, a union whose members disagree, an attribute that a plugin
invented: no site, rather than a doubtful one. Three kinds of certainty are told apart:

- `project`: the callee is defined in the tree. These sites measure recall and precision.
- `external`: the callee is defined outside of it. An edge into the tree is wrong here.
- `value`: what is called is held by a variable or parameter. Nobody can tell which function that is, so an
  edge to some function that merely has the same name is wrong here; nothing is missed when there is no
  edge.

A doubtful rule belongs in `_Judge`; keep it on the side of "not known". Definitions are located by Python's
own `ast`, so a target is a file and the lines where its definition starts, however a tool chooses to name
it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mypy import nodes, types
from mypy.build import BuildResult, build
from mypy.modulefinder import BuildSource
from mypy.options import Options

Kind = Literal["project", "external", "value"]
Position = tuple[int, int, int, int]


@dataclass(frozen=True)
class Definition:
    """A function or class of the tree; `lines` holds its first lines: decorators, `def`, every overload."""

    file: str
    qualified_name: str
    lines: frozenset[int]


@dataclass(frozen=True)
class Site:
    """One call expression, and whom it calls.

    `callee` is the checker's name for it. `targets` are the definitions that are right: the first is the
    callee, the others count as right too (the constructor of a class, say). `via` says how the call is spelt.
    `alternatives` groups the targets of a call that may go to several, as with a union. `overridable` has the
    callees as `Class.method`: an edge to an override of one of them is more precise, and no mistake.
    """

    file: str
    line: int
    written: str
    kind: Kind
    via: str
    callee: str
    targets: tuple[Definition, ...] = ()
    alternatives: tuple[tuple[Definition, ...], ...] = ()
    overridable: frozenset[str] = frozenset()


@dataclass
class Truth:
    """Every site of one tree, with the number of calls that were looked at."""

    sites: list[Site] = field(default_factory=list)
    calls: int = 0
    files: int = 0
    lines: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def written_name(func: ast.expr) -> str:
    """Spell a callee the way the code does: `a.b.c`, `f().g`; `?` stands for any other receiver."""
    if isinstance(func, ast.Name):
        return func.id
    if isinstance(func, ast.Attribute):
        return f"{written_name(func.value)}.{func.attr}"
    if isinstance(func, ast.Call):
        return f"{written_name(func.func)}()"
    return "?"


class SourceFile:
    """One parsed file: its definitions by name and line, its call expressions by position."""

    def __init__(self, path: Path, relative: str) -> None:
        self.relative = relative
        text = path.read_bytes()
        self.line_count = text.count(b"\n")
        self.aliases: dict[int, ast.expr] = {}  # by line: the name that a plain assignment gives another name
        self.bare_parameters: set[tuple[int, str]] = set()  # by line and name: those without an annotation
        self._by_line: dict[tuple[str, int], str] = {}
        self._heads: dict[str, set[int]] = {}
        self._heads_at: dict[tuple[int, int], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = {}
        self._lines = [line.decode(errors="replace") for line in text.splitlines()]
        self.calls: dict[Position, ast.Call] = {}
        self.doubtful: set[Position] = set()
        tree = ast.parse(text, filename=str(path))
        self._collect(tree, "", frozenset())

    def _collect(self, node: ast.AST, prefix: str, local: frozenset[str]) -> None:
        for child in ast.iter_child_nodes(node):
            inner, names = prefix, local
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                head = self._lines[child.lineno - 1]
                column = re.search(rf"\b(?:def|class)\s+({re.escape(child.name)})\b", head[child.col_offset :])
                if column is not None:
                    self._heads_at[child.lineno, child.col_offset + column.start(1)] = child
                for line in (child.lineno, *(decorator.lineno for decorator in child.decorator_list)):
                    self._by_line[child.name, line] = name
                    self._heads.setdefault(name, set()).add(line)
                inner = f"{name}."
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self._read_parameters(child, method=isinstance(node, ast.ClassDef))
                names = (local | _bound_names(child)) - _global_names(child)
            elif isinstance(child, ast.Call):
                end = (child.end_lineno or 0, child.end_col_offset or 0)
                position = (child.lineno, child.col_offset, *end)
                self.calls[position] = child
                if isinstance(child.func, ast.Name) and child.func.id in local:
                    self.doubtful.add(position)
            elif isinstance(child, ast.Assign) and isinstance(child.value, ast.Name | ast.Attribute):
                self.aliases[child.lineno] = child.value
            self._collect(child, inner, names)

    def _read_parameters(self, function: ast.FunctionDef | ast.AsyncFunctionDef, *, method: bool) -> None:
        arguments = function.args
        for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs][method:]:
            if each.annotation is None:
                self.bare_parameters.add((each.lineno, each.arg))

    def definition(self, name: str, line: int) -> Definition | None:
        """Find the definition of a bare name that starts at a line, together with its same-named siblings."""
        qualified = self._by_line.get((name, line))
        if qualified is None:
            return None
        return Definition(self.relative, qualified, frozenset(self._heads[qualified]))

    def callable_at(self, line: int, column: int) -> Definition | None:
        """Find the function or class whose name stands at a place; a property is no callable."""
        found = self._heads_at.get((line, column))
        if found is None or any("property" in ast.unparse(each) for each in found.decorator_list):
            return None
        return self.definition(found.name, line)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield a function's nodes without those of the functions and classes inside it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _own_nodes(child)


def _bound_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    names: set[str] = set()
    for node in _own_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _global_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {name for node in _own_nodes(function) if isinstance(node, ast.Global) for name in node.names}


_ELSEWHERE = frozenset({"node", "info", "original_def", "expanded", "impl_of", "final_value"})
"""Attributes that lead from a node to other parts of the program rather than down into its own code."""

_attributes: dict[type, tuple[str, ...]] = {}


def _attribute_names(cls: type) -> tuple[str, ...]:
    names = _attributes.get(cls)
    if names is None:
        slots = (getattr(base, "__slots__", ()) for base in cls.__mro__)
        found = {name for group in (getattr(cls, "__mypyc_attrs__", ()), *slots) for name in group}
        found -= _ELSEWHERE
        names = _attributes[cls] = tuple(sorted(name for name in found if not name.startswith("__")))
    return names


def _walk(tree: nodes.MypyFile) -> Iterator[nodes.Node]:
    """Yield every node of one module's code (mypy's own visitors cannot be subclassed from plain Python)."""
    seen: set[int] = set()
    waiting: list[object] = list(tree.defs)
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, nodes.Node) and id(item) not in seen:
            if isinstance(item, nodes.MypyFile | nodes.TypeInfo | nodes.Var | nodes.TypeAlias):
                continue
            seen.add(id(item))
            yield item
            waiting.extend(getattr(item, name, None) for name in _attribute_names(type(item)))


@dataclass(frozen=True)
class _Verdict:
    kind: Kind
    via: str
    callee: str
    targets: tuple[Definition, ...] = ()


class _Judge:
    """Answers whom a call expression calls, or None when the checker is not certain."""

    def __init__(self, result: BuildResult, sources: dict[str, SourceFile]) -> None:
        self._types = result.types
        self._sources = sources  # by module name
        self._file_of: dict[nodes.FuncDef, SourceFile] = {}

    def learn(self, function: nodes.FuncDef, source: SourceFile) -> None:
        """Remember where a function was seen: a local function's name does not say it."""
        self._file_of[function] = source

    def verdict(self, callee: nodes.Expression) -> _Verdict | None:
        if isinstance(callee, nodes.NameExpr):
            return self._named(callee, callee.node, "name")
        if isinstance(callee, nodes.MemberExpr):
            if callee.node is not None:
                on_class = isinstance(callee.expr, nodes.RefExpr) and isinstance(callee.expr.node, nodes.TypeInfo)
                return self._named(callee, callee.node, "Class.attribute" if on_class else "module.attribute")
            return self._member(callee)
        if isinstance(callee, nodes.SuperExpr):
            return self._super(callee)
        if isinstance(callee, nodes.IndexExpr) and isinstance(callee.base, nodes.RefExpr):
            if isinstance(callee.base.node, nodes.TypeInfo):
                return self._class(callee.base.node, "Class[...]")
        return None

    def _named(self, expr: nodes.RefExpr, node: nodes.SymbolNode | None, via: str) -> _Verdict | None:
        if isinstance(node, nodes.FuncDef | nodes.OverloadedFuncDef | nodes.Decorator):
            return self._function(expr, node, via)
        if isinstance(node, nodes.TypeInfo):
            return self._class(node, f"{via} of a class" if via == "name" else via)
        if isinstance(node, nodes.TypeAlias):
            target = types.get_proper_type(node.target)
            if node.module not in self._sources or not isinstance(target, types.Instance):
                return None
            verdict = self._class(target.type, "alias of a class")
            if verdict is None or verdict.kind != "project":
                return verdict
            alias = Definition(self._sources[node.module].relative, node.name, frozenset({node.line}))
            return _Verdict("project", verdict.via, verdict.callee, (*verdict.targets, alias))
        if isinstance(node, nodes.Var):
            return self._variable(expr, node, via)
        return None

    def _function(
        self,
        expr: nodes.Expression,
        node: nodes.FuncDef | nodes.OverloadedFuncDef | nodes.Decorator,
        via: str,
    ) -> _Verdict | None:
        if _is_property(node):
            return self._held(expr, node, via)
        first = _first_function(node)
        if first is None:
            return None
        source = self._file_of.get(first)
        if source is None:
            # A function of the tree that was not met while walking it was made by the checker or a plugin.
            if first.line <= 0 or _module_of(first, self._sources) is not None:
                return None
            return _Verdict("external", via, first.fullname)
        found = source.definition(first.name, first.line) or source.definition(first.name, node.line)
        return None if found is None else _Verdict("project", via, f"{found.file}:{found.qualified_name}", (found,))

    def _class(self, info: nodes.TypeInfo, via: str) -> _Verdict | None:
        source = self._sources.get(info.module_name)
        if source is None:
            return _Verdict("external", via, info.fullname)
        found = source.definition(info.name, info.defn.line)
        if found is None:
            return None
        also = [
            target
            for name in ("__init__", "__new__")
            for verdict in [self._on_class(info, name, via, info)]
            if verdict is not None
            for target in verdict.targets
        ]
        return _Verdict("project", via, info.fullname, (found, *also))

    def _variable(self, expr: nodes.Expression, var: nodes.Var, via: str) -> _Verdict | None:
        if var.is_cls:
            held = types.get_proper_type(self._types.get(expr))
            infos = _class_objects(held)
            return self._class(infos[0], "cls()") if len(infos) == 1 else None
        if "." in var.fullname and _module_of(var, self._sources) is None:
            return _Verdict("external", via, var.fullname)
        return self._held(expr, var, via)

    def _held(self, expr: nodes.Expression, holder: nodes.SymbolNode, via: str) -> _Verdict | None:
        """Judge the call of a value: an instance has its `__call__`, anything else may be any function.

        Right is whoever names the holder itself, or the one function that the checker saw go into it.
        """
        held = types.get_proper_type(self._types.get(expr))
        if isinstance(held, types.Instance):
            return self._on_class(held.type, "__call__", f"{via}, __call__", held.type)
        if isinstance(held, types.CallableType | types.Overloaded):
            items = held.items if isinstance(held, types.Overloaded) else [held]
            if any(item.is_ellipsis_args and item.definition is None for item in items):
                return None
            right: list[Definition] = []
            if isinstance(holder, nodes.Var) and holder.line > 0:
                module = _module_of(holder, self._sources)
                if module is not None:
                    lines = frozenset({holder.line})
                    right.append(Definition(self._sources[module].relative, holder.name, lines))
            for item in items:
                verdict: _Verdict | None = None
                if item.is_type_obj():
                    verdict = self._class(item.type_object(), via)
                elif isinstance(item.definition, nodes.FuncDef | nodes.OverloadedFuncDef | nodes.Decorator):
                    if not _is_property(item.definition):
                        verdict = self._function(expr, item.definition, via)
                right.extend(verdict.targets if verdict else ())
            return _Verdict("value", via, f"the value of {holder.name}", tuple(right))
        return None

    def _member(self, callee: nodes.MemberExpr) -> _Verdict | None:
        receiver = types.get_proper_type(self._types.get(callee.expr))
        via = _spelling(callee.expr)
        if receiver is None:
            return None
        verdicts = {self._on_type(receiver, part, callee, via) for part in _parts(receiver)}
        return verdicts.pop() if len(verdicts) == 1 else None

    def _on_type(
        self, whole: types.ProperType, part: types.ProperType, callee: nodes.MemberExpr, via: str
    ) -> _Verdict | None:
        infos = _class_objects(part)
        if infos:
            if len(infos) != 1:
                return None
            return self._on_class(infos[0], callee.name, "class object" if via == "variable" else via, callee)
        info = _instance_class(part)
        if info is None:
            return None
        # A union has one type for the whole attribute, which says nothing about this member's share.
        expr: nodes.Expression | nodes.TypeInfo = info if isinstance(whole, types.UnionType) else callee
        return self._on_class(info, callee.name, via, expr)

    def _on_class(
        self, info: nodes.TypeInfo, name: str, via: str, expr: nodes.Expression | nodes.TypeInfo
    ) -> _Verdict | None:
        for index, base in enumerate(info.mro):
            if name in base.names:
                if index and info.fallback_to_any:
                    return None  # a base that nobody knows may come first
                return self._attribute(base.names[name].node, via, expr)
        return None

    def _attribute(
        self, node: nodes.SymbolNode | None, via: str, expr: nodes.Expression | nodes.TypeInfo
    ) -> _Verdict | None:
        if isinstance(node, nodes.FuncDef | nodes.OverloadedFuncDef | nodes.Decorator):
            if isinstance(expr, nodes.TypeInfo):
                return None if _is_property(node) else self._function(nodes.EllipsisExpr(), node, via)
            return self._function(expr, node, via)
        if isinstance(node, nodes.TypeInfo):
            return self._class(node, via)
        if isinstance(node, nodes.Var) and not isinstance(expr, nodes.TypeInfo):
            if _module_of(node, self._sources) is None:
                return _Verdict("external", via, node.fullname)
            return self._held(expr, node, via)
        return None

    def _super(self, callee: nodes.SuperExpr) -> _Verdict | None:
        info = callee.info
        if info is None or info.fallback_to_any:
            return None
        if callee.call.args:
            first = callee.call.args[0]
            if not isinstance(first, nodes.RefExpr) or first.node is not info:
                return None
        for base in info.mro[1:]:
            if callee.name in base.names:
                return self._attribute(base.names[callee.name].node, "super()", callee)
        return None


def _is_property(node: nodes.FuncDef | nodes.OverloadedFuncDef | nodes.Decorator) -> bool:
    if isinstance(node, nodes.Decorator):
        return node.var.is_property or node.func.is_property
    return bool(node.is_property)


def _first_function(node: nodes.FuncDef | nodes.OverloadedFuncDef | nodes.Decorator) -> nodes.FuncDef | None:
    if isinstance(node, nodes.FuncDef):
        return node
    if isinstance(node, nodes.Decorator):
        return node.func
    return _first_function(node.items[0]) if node.items else None


def _module_of(node: nodes.FuncDef | nodes.Var, sources: dict[str, SourceFile]) -> str | None:
    if node.info:
        return node.info.module_name if node.info.module_name in sources else None
    module = node.fullname
    while module:
        if module in sources:
            return module
        module = module.rpartition(".")[0]
    return None


def _parts(held: types.ProperType) -> Iterator[types.ProperType]:
    """Yield the members of a union, without the None that every optional value carries."""
    if isinstance(held, types.UnionType):
        for item in held.items:
            proper = types.get_proper_type(item)
            if not isinstance(proper, types.NoneType):
                yield from _parts(proper)
    elif isinstance(held, types.TypeVarType):
        yield from _parts(types.get_proper_type(held.upper_bound))
    else:
        yield held


def _class_objects(held: types.ProperType | None) -> list[nodes.TypeInfo]:
    """List the classes that a class object may be; empty when the value is not a class object."""
    if isinstance(held, types.TypeType):
        infos = [_instance_class(part) for part in _parts(held.item)]
        return [info for info in infos if info is not None]
    if isinstance(held, types.CallableType) and held.is_type_obj():
        return [held.type_object()]
    if isinstance(held, types.Overloaded) and held.is_type_obj():
        return [held.type_object()]
    return []


def _instance_class(held: types.ProperType) -> nodes.TypeInfo | None:
    if isinstance(held, types.Instance):
        return held.type
    if isinstance(held, types.TupleType):
        return held.partial_fallback.type
    if isinstance(held, types.LiteralType | types.TypedDictType):
        return held.fallback.type
    return None


def _spelling(receiver: nodes.Expression) -> str:
    """Say how the code spells the receiver of a method call, for the table of what is found."""
    if isinstance(receiver, nodes.NameExpr):
        if isinstance(receiver.node, nodes.Var):
            if receiver.node.is_self:
                return "self"
            if receiver.node.is_cls:
                return "cls"
            return "variable"
        return "Class.attribute" if isinstance(receiver.node, nodes.TypeInfo) else "name.attribute"
    if isinstance(receiver, nodes.MemberExpr):
        return "self.attribute" if _spelling(receiver.expr) == "self" else "dotted attribute"
    if isinstance(receiver, nodes.CallExpr):
        return "result of a call"
    return "other expression"


def module_name(relative: str) -> str:
    """Turn the path of a file inside the tree into the name it is imported by."""
    parts = relative.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def collect(root: Path) -> Truth:
    """Run mypy over every `.py` file under `root` and return what it knows for sure about the calls.

    `root` is the folder from which the files are imported: it holds packages, it is not one itself. Files
    that do not parse are named in `failures`. Raises `mypy.errors.CompileError` when the checker gives up.
    """
    started = time.perf_counter()
    truth = Truth()
    by_module: dict[str, SourceFile] = {}
    builds: list[BuildSource] = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        try:
            source = SourceFile(path, relative)
        except SyntaxError as error:
            truth.failures.append(f"{relative}: {error}")
            continue
        truth.files += 1
        truth.lines += source.line_count
        truth.calls += len(source.calls)
        by_module[module_name(relative)] = source
        builds.append(BuildSource(str(path), module_name(relative), base_dir=str(root)))

    options = Options()
    options.export_types = True
    options.preserve_asts = True
    options.incremental = False
    options.cache_dir = os.devnull
    options.check_untyped_defs = True
    options.ignore_missing_imports = True
    options.follow_imports = "normal"
    options.python_executable = sys.executable
    options.mypy_path = [str(root)]
    result = build(builds, options, flush_errors=lambda *_: None)

    judge = _Judge(result, by_module)
    gathered: list[tuple[SourceFile, list[nodes.CallExpr]]] = []
    for module, source in by_module.items():
        tree = result.files.get(module)
        if tree is None:
            truth.failures.append(f"{source.relative}: not checked")
            continue
        calls: list[nodes.CallExpr] = []
        for node in _walk(tree):
            if isinstance(node, nodes.CallExpr):
                calls.append(node)
            elif isinstance(node, nodes.FuncDef):
                judge.learn(node, source)
        gathered.append((source, calls))
    for source, calls in gathered:
        seen: set[Position] = set()
        for call in calls:
            position = (call.line, call.column, call.end_line or 0, call.end_column or 0)
            written = source.calls.get(position)
            if written is None or position in seen:
                continue
            seen.add(position)
            # mypy takes a local name that is bound further down for the global one of that name.
            if position in source.doubtful and getattr(call.callee, "kind", None) == nodes.GDEF:
                continue
            verdict = judge.verdict(call.callee)
            if verdict is not None:
                truth.sites.append(
                    Site(
                        source.relative,
                        written.lineno,
                        written_name(written.func),
                        verdict.kind,
                        verdict.via,
                        verdict.callee,
                        verdict.targets,
                    )
                )
    truth.seconds = time.perf_counter() - started
    return truth
