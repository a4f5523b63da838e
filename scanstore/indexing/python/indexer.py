"""Python by the standard library's ``ast``: symbols, references, imports, chunks and the interface of one file.

One pass over the tree collects the bindings and calls of every scope. Then each call, import and base class is written
as a *path*: its target, as far as the file alone determines it. A path is a module's absolute name, a colon, and steps.
:mod:`scanstore.snapshots.resolver` evaluates it against the whole snapshot:

======== ==================================================================
``m:``    the module ``m``
``p.a``   attribute ``a`` of what ``p`` means
``p()``   the result of calling it; an instance, if it is a class; ``p(a,b)`` with arguments that may decide about it
``p[]``   its item by subscription, ``p[0]`` the item at a place; ``p~`` an item by iteration
``p*``    a container whose items are ``p``; ``p%`` a mapping whose values are
``p&``    a context manager that gives ``p``
``p^``    ``super()`` as seen from class ``p``; ``p!`` the class or function of this name, whatever else it holds
``?p``    the file cannot tell which of several bindings holds: a guess
``*.a``   an attribute ``a`` of something unknown
``=p``    ``p`` itself, not what it holds: what an import brings in
======== ==================================================================

How a name gets its path is in :mod:`.scopes`.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from scanstore.indexing.chunking import LONG_CLASS, Span, hashed, partition
from scanstore.indexing.facts import (
    EXTERNAL,
    UNRESOLVED,
    ChunkRow,
    FileFacts,
    ImportRow,
    ReferenceRow,
    Strings,
    SymbolRow,
    pack_interface,
    pack_words,
)
from scanstore.indexing.python.annotations import type_checking
from scanstore.indexing.python.binder import Binder
from scanstore.indexing.python.hashes import definition_hash, shown_value, variable_hash
from scanstore.indexing.python.interface import describe
from scanstore.indexing.python.scopes import Binding, Meanings, NameScope, Unpacked, how_sure, proven_outside, qualified
from scanstore.indexing.python.source import (
    CHILDREN,
    Source,
    absolute_module,
    as_written,
    children_of,
    decode,
    docstring,
    span,
)  # fmt: skip
from scanstore.indexing.python.uses import BY_NAME, Use, UseReader, named_in, parts_of

IDENTIFIERS = re.compile(r"[^\W\d]\w*")

# Looked up for every node of every tree.
Attribute, Call, Constant, Name, Store = ast.Attribute, ast.Call, ast.Constant, ast.Name, ast.Store

_Push = Callable[[ast.AST], object]  # pushes a node on the stack of the walk

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class PythonIndexer:
    name = "python/3"
    endings = (".py", ".pyi", ".pyw")

    def index(self, content: bytes, *, path: str, module: str) -> FileFacts:
        text = decode(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tree = ast.parse(text)
            except ValueError as error:  # such as a NUL character or a lone surrogate
                raise SyntaxError(str(error)) from None
        return _Reader(text, tree, module, path).facts()


class _Reader(Binder):
    def __init__(self, text: str, tree: ast.Module, module: str, path: str) -> None:
        self.tree = tree
        self.source = Source(text)
        self.meanings = Meanings(module + ":.")
        self.module = module
        self.path = path
        self.package = module if path.endswith(("__init__.py", "__init__.pyi")) else module.rpartition(".")[0]
        self.prefix = module + "." if module else ""  # the prefix of qualified names
        self.strings = Strings()
        self.symbols: list[SymbolRow] = []
        self.uses: list[Use] = []
        self.calls: list[tuple[NameScope, ast.expr, int]] = []
        self.references: list[ReferenceRow] = []
        self.imports: list[ImportRow] = []
        self.bases: list[tuple[NameScope, NameScope, ast.ClassDef]] = []
        self.functions: list[tuple[NameScope, NameScope, ast.FunctionDef | ast.AsyncFunctionDef]] = []
        self.self_types: dict[tuple[str, str], list[Binding]] = {}
        self.results: dict[NameScope, list[ast.expr]] = {}  # of functions without a return annotation
        self.interface: dict[str, list[object]] = {}
        self.spans: list[Span] = []
        self.mentions: set[str] = set()
        self.pending: list[tuple[list[ast.AST], NameScope]] = []  # lambdas and comprehensions, with their scopes
        self.top = NameScope("module", "", None, 0)
        self.settled: set[tuple[NameScope, str]] = set()  # names that have a symbol
        self.value: ast.AST | None = None
        self.value_hash: tuple[ast.AST | None, str, int] | None = None  # many variables may share one long value

    # -- collecting ------------------------------------------------------------------------------------------------

    def facts(self) -> FileFacts:
        short = self.module.rpartition(".")[2]
        doc = ast.get_docstring(self.tree) if self.tree.body else None
        metadata: dict[str, object] = {"docstring": doc} if doc else {}
        if ranges := type_checking(self.tree):
            metadata["type_checking"] = ranges
        self.symbol(short, self.module, "module", 1, max(len(self.source.lines), 1), metadata)
        self.body(self.tree.body, self.top)
        while self.pending:
            self.body(*self.pending.pop())
        self.calls.sort(key=lambda call: call[2])
        self.reference_bases()
        classes = [inner for inner, _, _ in self.bases]
        describe(self.meanings, self.interface, self.top, self.functions, classes, self.self_types, self.results)
        for scope, func, line in self.calls:
            self.reference(scope, func, line)
        reader = UseReader(self.meanings, self.interface, self.self_types, self.strings)
        self.references += reader.references(self.uses)
        self.mentions |= reader.mentions
        self.interface.update(self.meanings.several)
        interface = pack_interface({"names": self.interface, "stars": self.meanings.stars}) if self.module else None
        lines = self.source.lines
        chunks: list[ChunkRow] = [
            (kind, None if name is None else self.strings(name), first, last, digest)
            for kind, name, first, last, digest in hashed(partition(self.spans, len(lines)), lines)
        ]
        return FileFacts(
            line_count=len(lines),
            strings=self.strings.list(),
            symbols=self.symbols,
            references=self.references,
            imports=self.imports,
            chunks=chunks,
            interface=interface,
            mentions=pack_words(self.mentions),
        )

    def symbol(
        self, name: str, qualified: str, kind: str, start: int, end: int, metadata: object, body: int | None = None
    ) -> int:
        packed = _dump(metadata) if metadata else None
        if packed is not None and not packed.isascii():
            packed = packed.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # without lone surrogates
        self.symbols.append((self.strings(name), self.strings(qualified), kind, start, end, packed, body))
        return len(self.symbols) - 1

    def body(self, nodes: Sequence[ast.AST], scope: NameScope) -> None:
        """Walk the statements and expressions of one scope. Nested definitions open new scopes."""
        stack: list[Any] = [*reversed(nodes)]  # the type of a node is computed once, for speed
        push, pop = stack.append, stack.pop
        use = self.uses.append
        children, handlers = CHILDREN, _HANDLERS
        while stack:
            node = pop()
            kind = type(node)
            if kind is Name:
                if type(node.ctx) is Store:
                    scope.bind(node.id, "other", None, scope)
                else:
                    use((scope, node))
            elif kind is Call:
                func = node.func
                self.calls.append((scope, func, node.lineno))
                if type(func) is Attribute:
                    push(func.value)
                    if func.attr in BY_NAME:
                        self.mentions.update(named_in(node.args))
                elif type(func) is not Name:
                    push(func)
                elif func.id in BY_NAME:
                    self.mentions.update(named_in(node.args))
                for arg in node.args:
                    if type(arg) is Name:
                        use((scope, arg))
                    elif type(arg) is not Constant:
                        push(arg)
                for keyword in node.keywords:
                    push(keyword.value)
            elif kind is Attribute:
                use((scope, node))
                push(node.value)
            elif kind in handlers:
                handlers[kind](self, node, scope, push)
            elif kind is not Constant:
                for field in children.get(kind) or children_of(kind):
                    value = getattr(node, field)
                    if type(value) is list:
                        for item in reversed(value):
                            if type(item) is not Constant and item is not None:
                                push(item)
                    elif type(value) is not Constant and value is not None:
                        push(value)

    def bind_target(self, target: ast.expr, scope: NameScope, kind: str, value: Unpacked | None, push: _Push) -> None:
        if isinstance(target, ast.Name):
            scope.bind(target.id, kind, value, scope)
            home = scope.home(target.id)
            if scope.kind != "function" and home.kind != "function" and kind in ("assign", "annotated", "unpack"):
                self.variable(target, home, value if kind == "annotated" and not isinstance(value, tuple) else None)
        elif isinstance(target, ast.Attribute):
            owner = target.value
            if type(owner) is ast.Name and owner.id == scope.self_name and scope.class_scope is not None:
                key = (scope.class_scope.qual, target.attr)
                self.self_types.setdefault(key, []).append((kind, value, scope))
            self.uses.append((scope, target))
            push(owner)
        elif isinstance(target, (ast.Tuple, ast.List)):
            pairs: list[ast.expr] | None = None
            if kind == "assign" and isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
                pairs = value.elts
            starred = False
            for place, item in enumerate(target.elts):
                starred = starred or isinstance(item, ast.Starred)
                if pairs is not None:
                    self.bind_target(item, scope, "assign", pairs[place], push)
                elif kind in ("assign", "iterate", "enter", "aenter", "unpack") and value is not None and not starred:
                    self.bind_target(item, scope, "unpack", (value, place, kind), push)
                else:
                    self.bind_target(item, scope, "unpack" if kind in ("assign", "unpack") else "other", None, push)
        elif isinstance(target, ast.Starred):
            self.bind_target(target.value, scope, "unpack" if kind in ("assign", "unpack") else "other", None, push)
        else:
            push(target)

    def variable(self, target: ast.Name, scope: NameScope, annotation: ast.expr | None) -> None:
        """Record a module or class variable as a symbol at its first binding."""
        if (scope, target.id) in self.settled:
            return
        self.settled.add((scope, target.id))
        qual = f"{scope.qual}.{target.id}" if scope.qual else target.id
        metadata: dict[str, object] = {"annotation": self.source.cut(annotation)} if annotation is not None else {}
        value, written = self.value, "" if annotation is None else self.source.text(annotation)
        if self.value_hash is None or self.value_hash[0] is not value or self.value_hash[1] != written:
            self.value_hash = (value, written, variable_hash(value, written, self.source))
        shown = shown_value(target.id, value, self.source)
        if shown is not None:
            metadata["value"] = shown
        end = target.end_lineno or target.lineno
        place, body = (target.lineno, end), self.value_hash[2]
        ordinal = self.symbol(target.id, self.prefix + qual, "variable", *place, metadata, body)
        scope.binds[target.id].append(("symbol", ordinal, scope))

    def on_assign(self, node: ast.Assign, scope: NameScope, push: _Push) -> None:
        push(node.value)
        for target in node.targets:
            self.value = node.value if type(target) is Name else node
            self.bind_target(target, scope, "assign", node.value, push)
            if type(target) is ast.Name and target.id == "__all__" and isinstance(node.value, (ast.List, ast.Tuple)):
                for each in node.value.elts:
                    if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.isidentifier():
                        self.uses.append((scope, ast.Name(each.value, ast.Load(), lineno=each.lineno)))

    def on_annotated(self, node: ast.AnnAssign, scope: NameScope, push: _Push) -> None:
        if node.value is not None:
            push(node.value)
        self.annotated(node.annotation, push)
        self.value = node.value
        self.bind_target(node.target, scope, "annotated", node.annotation, push)
        if type(node.value) is Call:
            target = node.target
            if type(target) is Name:
                scope.bind(target.id, "value", node.value, scope)
            elif type(target) is Attribute and type(target.value) is Name and scope.class_scope is not None:
                known = self.self_types.get((scope.class_scope.qual, target.attr), ())
                if known and known[-1][1] is node.annotation:
                    known.append(("value", node.value, scope))

    def annotated(self, annotation: ast.expr | None, push: _Push) -> None:
        """Walk an annotation, quoted or not."""
        for part in parts_of(annotation):
            if isinstance(part, str):
                self.mentions.update(IDENTIFIERS.findall(part))
            else:
                push(part)

    def on_return(self, node: ast.Return | ast.Yield | ast.YieldFrom, scope: NameScope, push: _Push) -> None:
        value = node.value
        if value is not None and type(value) is not Constant:
            self.results.setdefault(scope, []).append(value if isinstance(node, ast.Return) else node)
            push(value)

    def on_import(self, node: ast.Import, scope: NameScope, push: _Push) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            if alias.asname:
                self.define(alias.asname, "import", alias.name + ":", scope, node)
            else:
                self.define(top, "import", top + ":", scope, node)
            written, place = self.strings(alias.name), self.strings(alias.name + ":")
            names = _dump([f"* as {alias.asname}"] if alias.asname else [])
            self.imports.append((node.lineno, written, names, place))
            self.references.append((alias.lineno, scope.ordinal, "import", written, place, None, UNRESOLVED, 0))

    def on_from(self, node: ast.ImportFrom, scope: NameScope, push: object) -> None:
        written = "." * node.level + (node.module or "")
        base = absolute_module(self.package, node.level, node.module, self.path)
        names = [f"{a.name} as {a.asname}" if a.asname else a.name for a in node.names]
        path = self.strings(base + ":") if base else None
        packed = _dump(names)
        self.imports.append((node.lineno, self.strings(written), packed, path))
        if written == "__future__":
            return
        for alias in node.names:
            if alias.name == "*":
                if base:
                    self.meanings.stars.append(base + ":")
                    shown = self.strings(written)
                    self.references.append((alias.lineno, scope.ordinal, "import", shown, path, None, UNRESOLVED, 0))
                continue
            target = f"{base}:.{alias.name}" if base else None
            if scope is not self.top or target != f"{self.meanings.here}{alias.asname or alias.name}":
                self.define(alias.asname or alias.name, "import", target, scope, node)
            shown = self.strings(f"{written}{'' if written.endswith('.') else '.'}{alias.name}")
            place = self.strings("=" + target) if target else None
            self.references.append((alias.lineno, scope.ordinal, "import", shown, place, None, UNRESOLVED, 0))

    def define(self, name: str, kind: str, value: object, scope: NameScope, node: ast.stmt) -> None:
        """Bind an imported or defined name, and count the bindings of the module that depend on no condition."""
        scope.bind(name, kind, value, scope)
        if not node.col_offset:
            self.meanings.firm[name] = self.meanings.firm.get(name, 0) + 1

    def on_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: NameScope, push: _Push) -> None:
        home = scope.home(node.name)
        qual = qualified(home, node.name)
        kind = "method" if home.kind == "class" else "function"
        args = node.args
        metadata: dict[str, object] = {"params": self.source.params(args)}
        if node.returns is not None:
            metadata["return_type"] = self.source.cut(node.returns)
        if node.decorator_list:
            metadata["decorators"] = [self.source.cut(d) for d in node.decorator_list]
        doc = docstring(node)
        if doc:
            metadata["docstring"] = doc
        if type(node) is ast.AsyncFunctionDef:
            metadata["async"] = True
        end = node.end_lineno or node.lineno
        if params := getattr(node, "type_params", None):
            metadata["type_params"] = [self.source.cut(each) for each in params]
        body = definition_hash(node, self.source)
        ordinal = self.symbol(node.name, self.prefix + qual, kind, node.lineno, end, metadata, body)
        inner = NameScope("function", qual, scope, ordinal)
        self.meanings.bodies[inner] = node
        self.define(node.name, "def", inner, scope, node)
        self.settled.add((home, node.name))
        decorators = {as_written(d) for d in node.decorator_list}
        positional = [*args.posonlyargs, *args.args]
        if home.kind == "class":
            inner.class_scope = scope
            if "staticmethod" in decorators or node.name == "__new__":
                inner.static = "static"
            elif "classmethod" in decorators or node.name in ("__init_subclass__", "__class_getitem__"):
                inner.static = "class"
            if positional and inner.static != "static":
                inner.self_name = positional[0].arg
        elif scope.kind == "function" and scope.class_scope is not None:
            inner.class_scope = scope.class_scope  # a closure in a method sees its self
            taken = {arg.arg for arg in (*positional, *args.kwonlyargs)}
            inner.self_name = scope.self_name if scope.self_name not in taken else None
        first = True
        for arg in positional:
            is_self = first and home.kind == "class" and inner.static != "static"
            first = False
            inner.bind(arg.arg, "self" if is_self else "param", arg.annotation, scope)
        for arg in args.kwonlyargs:
            inner.bind(arg.arg, "param", arg.annotation, scope)
        if args.vararg is not None:
            inner.bind(args.vararg.arg, "params", args.vararg.annotation, scope)
        if args.kwarg is not None:
            inner.bind(args.kwarg.arg, "kwparams", args.kwarg.annotation, scope)
        for default in [*args.defaults, *args.kw_defaults]:
            if default is not None:
                push(default)
        for each in (*positional, *args.kwonlyargs, args.vararg, args.kwarg):
            if each is not None:
                self.annotated(each.annotation, push)
        self.annotated(node.returns, push)
        self.decorated(node.decorator_list, scope, push)
        self.functions.append((inner, scope, node))
        if scope is self.top:
            self.spans.append(("function", qual, *span(node)))
        self.body(node.body, inner)

    def on_class(self, node: ast.ClassDef, scope: NameScope, push: _Push) -> None:
        qual = qualified(scope.home(node.name), node.name)
        metadata: dict[str, object] = {}
        if node.bases:
            metadata["bases"] = [self.source.cut(b) for b in node.bases]
        if node.decorator_list:
            metadata["decorators"] = [self.source.cut(d) for d in node.decorator_list]
        doc = docstring(node)
        if doc:
            metadata["docstring"] = doc
        if node.keywords:
            metadata["keywords"] = [self.source.cut(each) for each in node.keywords]
        if params := getattr(node, "type_params", None):
            metadata["type_params"] = [self.source.cut(each) for each in params]
        end = node.end_lineno or node.lineno
        body = definition_hash(node, self.source)
        ordinal = self.symbol(node.name, self.prefix + qual, "class", node.lineno, end, metadata, body)
        inner = NameScope("class", qual, scope, ordinal)
        self.define(node.name, "class", inner, scope, node)
        self.settled.add((scope.home(node.name), node.name))
        self.bases.append((inner, scope, node))
        for expr in node.bases:
            # The base has its own reference. The names before its last dot and in its brackets are uses.
            plain = expr.value if type(expr) is ast.Subscript else expr
            if type(plain) is Attribute:
                push(plain.value)
            elif type(plain) is not Name:
                push(plain)
            if type(expr) is ast.Subscript:
                self.annotated(expr.slice, push)
        for keyword in node.keywords:
            push(keyword.value)
        self.decorated(node.decorator_list, scope, push)
        if scope is self.top:
            first, last = span(node)
            methods = [n for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
            if last - first >= LONG_CLASS and methods:
                self.spans += [("function", f"{qual}.{m.name}", *span(m)) for m in methods]
                kind, name, start, _ = self.spans[-1]
                self.spans[-1] = (kind, name, start, last)
            else:
                self.spans.append(("class", qual, first, last))
        self.body(node.body, inner)

    def decorated(self, decorators: list[ast.expr], scope: NameScope, push: _Push) -> None:
        """Record a decorator ``@name`` as a call of ``name``."""
        for decorator in decorators:
            if type(decorator) is ast.Call:
                push(decorator)
            else:
                self.calls.append((scope, decorator, decorator.lineno))
                if type(decorator) is Attribute:
                    push(decorator.value)

    # -- references and the interface ----------------------------------------------------------------------------

    def reference(self, scope: NameScope, func: ast.expr, line: int) -> None:
        written = self.strings(as_written(func))
        if type(func) is ast.Name:
            local = self.meanings.local(func.id, scope)
            if local is not None:
                row = (line, scope.ordinal, "call", written, None, local[0], *how_sure(local[1]))
                self.references.append(row)
                return
            if func.id == "super" and func.id not in self.top.binds:
                path: str | None = "builtins.super"
            else:
                path = self.meanings.lookup(func.id, scope)
        else:
            path = self.meanings.spell(func, scope)
        if path is not None and path.startswith("builtins.") and not self.meanings.stars:
            if proven_outside(path):
                self.references.append((line, scope.ordinal, "call", written, None, None, EXTERNAL, 100))
                return
            path = None
        if path is None and type(func) is ast.Attribute:
            path = "*." + func.attr
        place = None if path is None else self.strings(path)
        self.references.append((line, scope.ordinal, "call", written, place, None, UNRESOLVED, 0))

    def reference_bases(self) -> None:
        for inner, scope, node in self.bases:
            paths: list[str] = []
            for base in node.bases:
                plain = base.value if type(base) is ast.Subscript else base
                written = self.strings(as_written(plain))
                local = self.meanings.local(plain.id, scope) if type(plain) is ast.Name else None
                path = self.meanings.spell(plain, scope)
                if path:
                    paths.append(path)
                line, origin = base.lineno, inner.ordinal
                row: ReferenceRow
                if local is not None:
                    row = (line, origin, "inherit", written, None, local[0], *how_sure(local[1]))
                elif path and path.startswith("builtins.") and proven_outside(path) and not self.meanings.stars:
                    row = (line, origin, "inherit", written, None, None, EXTERNAL, 100)
                else:
                    row = (line, origin, "inherit", written, self.strings(path) if path else None, None, UNRESOLVED, 0)
                self.references.append(row)
            for keyword in node.keywords:
                meta = self.meanings.spell(keyword.value, scope) if keyword.arg == "metaclass" else None
                if meta and meta != "abc:.ABCMeta":
                    paths.append("@" + meta)
            decorated = [as_written(d).rpartition(".")[2] for d in node.decorator_list]
            self.interface[inner.qual] = ["c", inner.ordinal, paths, int("dataclass" in decorated)]


_HANDLERS: dict[type, Callable[..., None]] = {
    ast.Assign: _Reader.on_assign,
    ast.AnnAssign: _Reader.on_annotated,
    ast.AugAssign: _Reader.on_augmented,
    ast.NamedExpr: _Reader.on_walrus,
    ast.For: _Reader.on_for,
    ast.AsyncFor: _Reader.on_for,
    ast.ListComp: _Reader.on_comprehension,
    ast.SetComp: _Reader.on_comprehension,
    ast.DictComp: _Reader.on_comprehension,
    ast.GeneratorExp: _Reader.on_comprehension,
    ast.With: _Reader.on_with,
    ast.AsyncWith: _Reader.on_with,
    ast.ExceptHandler: _Reader.on_handler,
    ast.Global: _Reader.on_global,
    ast.Nonlocal: _Reader.on_nonlocal,
    ast.Lambda: _Reader.on_lambda,
    ast.Return: _Reader.on_return,
    ast.Yield: _Reader.on_return,
    ast.YieldFrom: _Reader.on_return,
    ast.Import: _Reader.on_import,
    ast.ImportFrom: _Reader.on_from,
    ast.FunctionDef: _Reader.on_function,
    ast.AsyncFunctionDef: _Reader.on_function,
    ast.ClassDef: _Reader.on_class,
    ast.MatchAs: _Reader.on_match_name,
    ast.MatchStar: _Reader.on_match_name,
    ast.MatchMapping: _Reader.on_match_name,
}
