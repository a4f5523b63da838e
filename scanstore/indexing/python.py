"""Python by the standard library's ``ast``: symbols, references, imports, chunks and the interface of one file.

One pass over the tree collects what every scope binds and which calls it makes; then, all bindings known, each call,
import and base class is spelled as a *path*: what the file alone knows of its meaning. A path is a module's absolute
name, a colon, and steps, in the little language that :mod:`scanstore.resolve` evaluates against the whole snapshot:

======== ==================================================================
``m:``    the module ``m``
``p.a``   attribute ``a`` of what ``p`` means
``p()``   the result of calling it; an instance, if it is a class
``p[]``   its item by subscription; ``p~`` what iterating over it yields
``p*``    a container whose items are ``p``; ``p%`` a mapping whose values are
``p^``    ``super()`` as seen from class ``p``
``?p``    the file cannot tell which of several bindings holds: a guess
``*.a``   an attribute ``a`` of something unknown
``=p``    ``p`` itself, not what it holds: what an import brings in
======== ==================================================================

Names are looked up as Python does: function scopes outwards, class scopes only from their own body, then the module,
its star imports, and builtins. The type of a local variable, parameter or ``self`` attribute is followed where the
code says it: a constructor call, an annotation, or another name that is known.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import warnings
from typing import Any

from scanstore.indexing import EXACT, EXTERNAL, GUESSED, UNRESOLVED, FileFacts, Strings, pack_interface, pack_words
from scanstore.indexing.chunks import LONG_CLASS, Span, body_hash, hashed, partition
from scanstore.indexing.pytypes import annotation_path

BUILTINS = frozenset(dir(builtins))
LONGEST_CHAIN = 40  # steps of one expression that are followed; more is generated code
LONGEST_TEXT = 240

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")

# Which fields of a node may hold calls, for each node type that is not handled by name below.
_CHILDREN: dict[type, tuple[str, ...]] = {}


def _children(kind: type[ast.AST]) -> tuple[str, ...]:
    skip = ("ctx", "op", "ops", "kind", "type_comment", "type_ignores", "name", "attr", "id", "arg", "rest", "type_params")
    fields = tuple(f for f in kind._fields if f not in skip or kind is ast.keyword and f == "value")
    _CHILDREN[kind] = fields
    return fields


class Scope:
    """A module, class or function: what its names are bound to, each a list of ``(kind, node-or-path, scope)``."""

    __slots__ = ("binds", "cache", "class_scope", "foreign", "kind", "ordinal", "parent", "qual", "self_name", "static")

    def __init__(self, kind: str, qual: str, parent: Scope | None, ordinal: int) -> None:
        self.kind = kind
        self.qual = qual
        self.parent = parent
        self.ordinal = ordinal
        self.binds: dict[str, list[tuple[str, Any, Scope]]] = {}
        self.foreign: dict[str, Scope | None] = {}  # names declared global or nonlocal
        self.cache: dict[str, str | None] = {}
        self.class_scope: Scope | None = None  # of a method: its class
        self.self_name: str | None = None
        self.static = ""

    def bind(self, name: str, kind: str, value: Any, scope: Scope) -> None:
        home: Scope = self
        if self.foreign and name in self.foreign:
            home = self.foreign[name] or self
        entry = home.binds.get(name)
        if entry is None:
            home.binds[name] = [(kind, value, scope)]
        else:
            entry.append((kind, value, scope))


class PythonIndexer:
    name = "python/1"
    endings = (".py", ".pyi", ".pyw")

    def index(self, content: bytes, *, path: str, module: str) -> FileFacts:
        text = decode(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
        return _Reader(text, tree, module, path.endswith(("__init__.py", "__init__.pyi"))).facts()


def decode(content: bytes) -> str:
    """The source text, by its coding line, with line ends as ``\\n``; raises ``SyntaxError`` or ``UnicodeDecodeError``."""
    encoding = "utf-8-sig"
    for line in content.split(b"\n", 2)[:2]:
        match = _CODING.match(line)
        if match and not content.startswith(b"\xef\xbb\xbf"):
            encoding = match[1].decode("ascii")
            break
    try:
        text = content.decode(encoding)
    except LookupError:
        raise SyntaxError(f"unknown encoding: {encoding}") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


class _Reader:
    def __init__(self, text: str, tree: ast.Module, module: str, package: bool) -> None:
        self.text = text
        self.tree = tree
        self.lines = text.split("\n")
        if self.lines and not self.lines[-1]:
            self.lines.pop()
        self.ascii = text.isascii()
        self.module = module
        self.package = module if package else module.rpartition(".")[0]
        self.prefix = module + "." if module else ""  # of qualified names
        self.here = module + ":."  # of paths
        self.strings = Strings()
        self.symbols: list[tuple[int, int, str, int, int, str | None, int | None]] = []
        self.calls: list[tuple[Scope, ast.expr, int]] = []
        self.references: list[tuple[int, int | None, str, int, int | None, int | None, int, int]] = []
        self.imports: list[tuple[int, int, str, int | None]] = []
        self.bases: list[tuple[Scope, Scope, ast.ClassDef]] = []
        self.functions: list[tuple[Scope, Scope, ast.FunctionDef | ast.AsyncFunctionDef]] = []
        self.self_types: dict[tuple[str, str], list[tuple[str, Any, Scope]]] = {}
        self.stars: list[str] = []
        self.interface: dict[str, list[Any]] = {}
        self.spans: list[Span] = []
        self.mentions: set[str] = set()
        self.top = Scope("module", "", None, 0)

    # -- collecting ------------------------------------------------------------------------------------------------

    def facts(self) -> FileFacts:
        short = self.module.rpartition(".")[2]
        doc = ast.get_docstring(self.tree) if self.tree.body else None
        self.symbol(short, self.module, "module", 1, max(len(self.lines), 1), {"docstring": doc} if doc else None)
        self.body(self.tree.body, self.top)
        self.reference_bases()
        self.describe()
        for scope, func, line in self.calls:
            self.reference(scope, func, line)
        interface = pack_interface({"names": self.interface, "stars": self.stars}) if self.module else None
        chunks = [
            (kind, None if name is None else self.strings(name), first, last, digest)
            for kind, name, first, last, digest in hashed(partition(self.spans, len(self.lines)), self.lines)
        ]
        return FileFacts(
            None, len(self.lines), self.strings.list(), self.symbols, self.references, self.imports, chunks, interface,
            pack_words(self.mentions),
        )  # fmt: skip

    def symbol(self, name: str, qualified: str, kind: str, start: int, end: int, metadata: Any) -> int:
        packed = _dump(metadata) if metadata else None
        if packed is not None and not packed.isascii():
            packed = packed.encode("utf-8", "backslashreplace").decode("utf-8")
        body = body_hash(self.lines[start - 1 : end]) if kind != "module" else None
        self.symbols.append((self.strings(name), self.strings(qualified), kind, start, end, packed, body))
        return len(self.symbols) - 1

    def body(self, nodes: list[Any], scope: Scope) -> None:
        """Walk statements and expressions of one scope; definitions inside open scopes of their own."""
        stack = nodes[::-1]
        push = stack.append
        mention = self.mentions.add
        children = _CHILDREN
        while stack:
            node = stack.pop()
            kind = type(node)
            if kind is ast.Constant or kind is ast.Name:
                if kind is ast.Name:
                    if type(node.ctx) is ast.Store:
                        scope.bind(node.id, "other", None, scope)
                    else:
                        mention(node.id)
                continue
            if kind is ast.Call:
                self.calls.append((scope, node.func, node.lineno))
                func = node.func
                if type(func) is ast.Attribute:
                    push(func.value)
                elif type(func) is not ast.Name:
                    push(func)
                for arg in node.args:
                    push(arg)
                for keyword in node.keywords:
                    push(keyword.value)
                continue
            if kind is ast.Attribute:
                mention(node.attr)
                push(node.value)
                continue
            handler = _HANDLERS.get(kind)
            if handler is not None:
                handler(self, node, scope, push)
                continue
            for field in children.get(kind) or _children(kind):
                value = getattr(node, field)
                if type(value) is list:
                    for item in reversed(value):
                        if item is not None:
                            push(item)
                elif value is not None and isinstance(value, ast.AST):
                    push(value)

    def bind_target(self, target: Any, scope: Scope, kind: str, value: Any, push: Any) -> None:
        shape = type(target)
        if shape is ast.Name:
            scope.bind(target.id, kind, value, scope)
            if scope.kind != "function" and scope.binds[target.id] and kind in ("assign", "annotated"):
                self.variable(target, scope, value if kind == "annotated" else None)
        elif shape is ast.Attribute:
            owner = target.value
            if type(owner) is ast.Name and owner.id == scope.self_name and scope.class_scope is not None:
                key = (scope.class_scope.qual, target.attr)
                self.self_types.setdefault(key, []).append((kind, value, scope))
            push(owner)
        elif shape is ast.Tuple or shape is ast.List:
            pairs: Any = None
            if kind == "assign" and type(value) in (ast.Tuple, ast.List) and len(value.elts) == len(target.elts):
                pairs = value.elts
            for place, item in enumerate(target.elts):
                if pairs is not None:
                    self.bind_target(item, scope, "assign", pairs[place], push)
                else:
                    self.bind_target(item, scope, "other", None, push)
        elif shape is ast.Starred:
            self.bind_target(target.value, scope, "other", None, push)
        else:
            push(target)

    def variable(self, target: ast.Name, scope: Scope, annotation: Any) -> None:
        """A module or class variable becomes a symbol where it is first bound."""
        if any(kind == "symbol" for kind, _, _ in scope.binds[target.id]):
            return
        if any(kind in ("def", "class") for kind, _, _ in scope.binds[target.id]):
            return
        qual = f"{scope.qual}.{target.id}" if scope.qual else target.id
        metadata = {"annotation": self.source(annotation)} if annotation is not None else None
        end = target.end_lineno or target.lineno
        ordinal = self.symbol(target.id, self.prefix + qual, "variable", target.lineno, end, metadata)
        scope.binds[target.id].append(("symbol", ordinal, scope))

    def on_assign(self, node: ast.Assign, scope: Scope, push: Any) -> None:
        push(node.value)
        for target in node.targets:
            self.bind_target(target, scope, "assign", node.value, push)
            if type(target) is ast.Name and target.id == "__all__" and isinstance(node.value, (ast.List, ast.Tuple)):
                exported = (e.value for e in node.value.elts if isinstance(e, ast.Constant))
                self.mentions.update(e for e in exported if isinstance(e, str) and e.isidentifier())

    def on_annotated(self, node: ast.AnnAssign, scope: Scope, push: Any) -> None:
        if node.value is not None:
            push(node.value)
        self.bind_target(node.target, scope, "annotated", node.annotation, push)

    def on_augmented(self, node: ast.AugAssign, scope: Scope, push: Any) -> None:
        push(node.value)
        if type(node.target) is not ast.Name:
            push(node.target)

    def on_walrus(self, node: ast.NamedExpr, scope: Scope, push: Any) -> None:
        push(node.value)
        self.bind_target(node.target, scope, "assign" if scope.kind == "function" else "other", node.value, push)

    def on_for(self, node: ast.For | ast.AsyncFor, scope: Scope, push: Any) -> None:
        for statement in reversed(node.body + node.orelse):
            push(statement)
        push(node.iter)
        self.bind_target(node.target, scope, "iterate", node.iter, push)

    def on_comprehension(self, node: ast.comprehension, scope: Scope, push: Any) -> None:
        push(node.iter)
        for test in node.ifs:
            push(test)
        self.bind_target(node.target, scope, "iterate", node.iter, push)

    def on_with(self, node: ast.With | ast.AsyncWith, scope: Scope, push: Any) -> None:
        for statement in reversed(node.body):
            push(statement)
        for item in reversed(node.items):
            push(item.context_expr)
            if item.optional_vars is not None:
                self.bind_target(item.optional_vars, scope, "enter", item.context_expr, push)

    def on_handler(self, node: ast.ExceptHandler, scope: Scope, push: Any) -> None:
        for statement in reversed(node.body):
            push(statement)
        if node.type is not None:
            push(node.type)
        if node.name:
            scope.bind(node.name, "except", node.type, scope)

    def on_global(self, node: ast.Global, scope: Scope, push: Any) -> None:
        for name in node.names:
            scope.foreign[name] = self.top

    def on_nonlocal(self, node: ast.Nonlocal, scope: Scope, push: Any) -> None:
        for name in node.names:
            outer = scope.parent
            while outer is not None and (outer.kind != "function" or name not in outer.binds):
                outer = outer.parent
            scope.foreign[name] = outer

    def on_lambda(self, node: ast.Lambda, scope: Scope, push: Any) -> None:
        push(node.body)
        arguments = node.args
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                push(default)
        for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if arg is not None:
                scope.bind(arg.arg, "other", None, scope)

    def on_match_name(self, node: Any, scope: Scope, push: Any) -> None:
        name = node.rest if type(node) is ast.MatchMapping else node.name
        if name:
            scope.bind(name, "other", None, scope)
        for field in ("pattern", "patterns", "keys"):
            value = getattr(node, field, None)
            if isinstance(value, list):
                for item in value:
                    push(item)
            elif value is not None:
                push(value)

    def on_import(self, node: ast.Import, scope: Scope, push: Any) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            if alias.asname:
                scope.bind(alias.asname, "import", alias.name + ":", scope)
            else:
                scope.bind(top, "import", top + ":", scope)
            written, place = self.strings(alias.name), self.strings(alias.name + ":")
            names = _dump([f"* as {alias.asname}"] if alias.asname else [])
            self.imports.append((node.lineno, written, names, place))
            self.references.append((node.lineno, scope.ordinal, "import", written, place, None, UNRESOLVED, 0))

    def on_from(self, node: ast.ImportFrom, scope: Scope, push: Any) -> None:
        written = "." * node.level + (node.module or "")
        base = self.absolute(node.level, node.module)
        names = [f"{a.name} as {a.asname}" if a.asname else a.name for a in node.names]
        path = self.strings(base + ":") if base else None
        packed = _dump(names)
        self.imports.append((node.lineno, self.strings(written), packed, path))
        if written == "__future__":
            return
        for alias in node.names:
            if alias.name == "*":
                if base:
                    self.stars.append(base + ":")
                    self.references.append(
                        (node.lineno, scope.ordinal, "import", self.strings(written), path, None, UNRESOLVED, 0)
                    )
                continue
            target = f"{base}:.{alias.name}" if base else None
            scope.bind(alias.asname or alias.name, "import", target, scope)
            shown = self.strings(f"{written}{'' if written.endswith('.') else '.'}{alias.name}")
            place = self.strings("=" + target) if target else None
            self.references.append((node.lineno, scope.ordinal, "import", shown, place, None, UNRESOLVED, 0))

    def absolute(self, level: int, module: str | None) -> str | None:
        """The absolute name of what a ``from`` statement names, None when it leaves the top package."""
        if level == 0:
            return module
        parts = self.package.split(".") if self.package else []
        if level - 1 > len(parts) or (level > 1 and not parts):
            return None
        parts = parts[: len(parts) - (level - 1)]
        return ".".join([*parts, module] if module else parts) or None

    def on_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, push: Any) -> None:
        qual = self.inner(scope, node.name)
        kind = "method" if scope.kind == "class" else "function"
        args = node.args
        metadata: dict[str, Any] = {"params": self.params(args)}
        if node.returns is not None:
            metadata["return_type"] = self.source(node.returns)
        if node.decorator_list:
            metadata["decorators"] = [self.source(d) for d in node.decorator_list]
        doc = docstring(node)
        if doc:
            metadata["docstring"] = doc
        if type(node) is ast.AsyncFunctionDef:
            metadata["async"] = True
        end = node.end_lineno or node.lineno
        ordinal = self.symbol(node.name, self.prefix + qual, kind, node.lineno, end, metadata)
        inner = Scope("function", qual, scope, ordinal)
        scope.bind(node.name, "def", inner, scope)
        decorators = {self.written(d) for d in node.decorator_list}
        positional = [*args.posonlyargs, *args.args]
        if scope.kind == "class":
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
            is_self = first and scope.kind == "class" and inner.static != "static"
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
        self.decorated(node.decorator_list, scope, push)
        self.functions.append((inner, scope, node))
        if scope is self.top:
            self.spans.append(("function", qual, *span(node)))
        self.body(node.body, inner)

    def on_class(self, node: ast.ClassDef, scope: Scope, push: Any) -> None:
        qual = self.inner(scope, node.name)
        metadata: dict[str, Any] = {}
        if node.bases:
            metadata["bases"] = [self.source(b) for b in node.bases]
        if node.decorator_list:
            metadata["decorators"] = [self.source(d) for d in node.decorator_list]
        doc = docstring(node)
        if doc:
            metadata["docstring"] = doc
        end = node.end_lineno or node.lineno
        ordinal = self.symbol(node.name, self.prefix + qual, "class", node.lineno, end, metadata)
        inner = Scope("class", qual, scope, ordinal)
        scope.bind(node.name, "class", inner, scope)
        self.bases.append((inner, scope, node))
        for expr in (*node.bases, *(k.value for k in node.keywords)):
            if type(expr) is not ast.Name:
                push(expr)
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

    def decorated(self, decorators: list[ast.expr], scope: Scope, push: Any) -> None:
        """``@name`` calls ``name``: it is recorded as the call it is."""
        for decorator in decorators:
            if type(decorator) is ast.Call:
                push(decorator)
            else:
                self.calls.append((scope, decorator, decorator.lineno))

    @staticmethod
    def inner(scope: Scope, name: str) -> str:
        if scope.kind == "function":
            return f"{scope.qual}.<locals>.{name}"
        return f"{scope.qual}.{name}" if scope.qual else name

    # -- text ------------------------------------------------------------------------------------------------------

    def source(self, node: ast.AST | None) -> str:
        """The text of a node, on one line and not longer than :data:`LONGEST_TEXT`."""
        if node is None:
            return ""
        if type(node) is ast.Name:
            return node.id
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1  # type: ignore[attr-defined]
        start, end = node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
        try:
            if first == last:
                line = self.lines[first]
                text = line[start:end] if self.ascii else line.encode()[start:end].decode()
            else:
                parts = [part if self.ascii else part.encode() for part in self.lines[first : last + 1]]
                parts[0], parts[-1] = parts[0][start:], parts[-1][:end]
                text = " ".join((p if isinstance(p, str) else p.decode()).strip() for p in parts)
        except (IndexError, UnicodeError):
            return ""
        return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

    def params(self, args: ast.arguments) -> list[dict[str, str]]:
        out: list[dict[str, str]] = []
        positional = [(a, "positional" if n < len(args.posonlyargs) else "") for n, a in
                      enumerate([*args.posonlyargs, *args.args])]
        missing = len(positional) - len(args.defaults)
        for place, (arg, kind) in enumerate(positional):
            default = args.defaults[place - missing] if place >= missing else None
            out.append(self.param(arg, kind, default))
        if args.vararg is not None:
            out.append(self.param(args.vararg, "*", None))
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            out.append(self.param(arg, "keyword", default))
        if args.kwarg is not None:
            out.append(self.param(args.kwarg, "**", None))
        return out

    def param(self, arg: ast.arg, kind: str, default: ast.expr | None) -> dict[str, str]:
        out = {"name": arg.arg}
        if kind:
            out["kind"] = kind
        if arg.annotation is not None:
            out["annotation"] = self.source(arg.annotation)
        if default is not None:
            out["default"] = self.source(default)
        return out

    def written(self, node: ast.expr) -> str:
        """``a.b().c`` as written, for any expression that is called or decorated with."""
        parts: list[str] = []
        current: Any = node
        while len(parts) < LONGEST_CHAIN:
            kind = type(current)
            if kind is ast.Attribute:
                parts.append("." + current.attr)
                current = current.value
            elif kind is ast.Name:
                parts.append(current.id)
                break
            elif kind is ast.Call:
                parts.append("()")
                current = current.func
            elif kind is ast.Subscript:
                parts.append("[]")
                current = current.value
            elif kind is ast.Await:
                current = current.value
            else:
                parts.append("''" if kind in (ast.Constant, ast.JoinedStr) else "…")
                break
        else:
            parts.append("…")
        return "".join(reversed(parts))[-LONGEST_TEXT:]

    # -- meaning ---------------------------------------------------------------------------------------------------

    def spell(self, node: Any, scope: Scope) -> str | None:
        """The path of an expression's value, None where the code does not say."""
        steps: list[str] = []
        while len(steps) < LONGEST_CHAIN:
            kind = type(node)
            if kind is ast.Attribute:
                steps.append("." + node.attr)
                node = node.value
            elif kind is ast.Call:
                if type(node.func) is ast.Name and node.func.id == "super" and not node.args:
                    root = self.super_path(scope)
                    break
                steps.append("()")
                node = node.func
            elif kind is ast.Name:
                root = self.lookup(node.id, scope)
                break
            elif kind is ast.Subscript:
                steps.append("[]")
                node = node.value
            elif kind is ast.Await or kind is ast.NamedExpr:
                node = node.value
            elif kind is ast.IfExp or kind is ast.BoolOp:
                options = [node.body, node.orelse] if kind is ast.IfExp else node.values
                found = {p for p in (self.spell(o, scope) for o in options if type(o) is not ast.Constant) if p}
                root = found.pop() if len(found) == 1 else None
                break
            elif kind in _LITERALS:
                root = "builtins." + _LITERALS[kind] + "()"
                break
            elif kind is ast.Constant and node.value is not None and node.value is not ...:
                root = f"builtins.{type(node.value).__name__}()"
                break
            else:
                return None
        else:
            return None
        if root is None:
            return None
        path = root + "".join(reversed(steps))
        return path if len(path) <= LONGEST_TEXT else None

    def super_path(self, scope: Scope) -> str | None:
        owner = scope.class_scope
        return f"{self.here}{owner.qual}^" if owner is not None else None

    def lookup(self, name: str, scope: Scope) -> str | None:
        """The path a bare name stands for, seen from a scope."""
        current: Scope | None = scope
        while current is not None:
            if current.foreign and name in current.foreign:
                current = current.foreign[name] or current
            if name in current.binds and (current.kind != "class" or current is scope):
                return self.meaning(name, current)
            current = current.parent
        if self.stars:
            return f"{self.here}{name}"  # a star import may bring it; the resolver falls back on builtins
        return "builtins." + name if name in BUILTINS else None

    def meaning(self, name: str, scope: Scope) -> str | None:
        cache = scope.cache
        if name in cache:
            return cache[name]
        cache[name] = None  # what refers to itself has no known meaning
        path = cache[name] = self.settle(name, scope)
        return path

    def settle(self, name: str, scope: Scope) -> str | None:
        binds = scope.binds[name]
        qual = self.inner(scope, name)
        defined = [b for b in binds if b[0] in ("def", "class")]
        imported = [b for b in binds if b[0] == "import"]
        if defined:
            path = self.here + qual
            return "?" + path if imported and not path.startswith("?") else path
        if imported:
            targets = {b[1] for b in imported if b[1]}
            if not targets:
                return None
            target: str = next(b[1] for b in imported if b[1])
            other = [b for b in binds if b[0] in ("assign", "other") and not is_none(b[1])]
            return "?" + target if len(targets) > 1 or other else target
        if scope.kind != "function" and any(b[0] == "symbol" for b in binds):
            return self.here + qual  # a variable: the resolver looks its type up in the interface
        return self.typed(binds)

    def typed(self, binds: list[tuple[str, Any, Scope]]) -> str | None:
        """The one type that a variable's bindings agree on."""
        for kind, value, scope in binds:
            if kind == "annotated":
                return self.annotation(value, scope)
        found: str | None = None
        for kind, value, scope in binds:
            if kind == "symbol" or is_none(value) and kind == "assign":
                continue
            path = self.bound(kind, value, scope)
            if path is None or (found is not None and found != path):
                return None
            found = path
        return found

    def bound(self, kind: str, value: Any, scope: Scope) -> str | None:
        if kind == "assign":
            return self.spell(value, scope)
        if kind == "self":
            method = value and self.annotation(value, scope)
            return method or None
        if kind == "param":
            return self.annotation(value, scope) if value is not None else None
        if kind == "params" or kind == "kwparams":
            item = self.annotation(value, scope) if value is not None else None
            return item and item + ("*" if kind == "params" else "%")
        if kind == "iterate":
            path = self.spell(value, scope)
            return path and path + "~"
        if kind == "enter":
            path = self.spell(value, scope)
            return path and path + ".__enter__()"
        if kind == "except" and value is not None and type(value) is not ast.Tuple:
            path = self.spell(value, scope)
            return path and path + "()"
        return None

    def annotation(self, node: ast.expr | None, scope: Scope) -> str | None:
        if node is None:
            return None
        owner: Scope | None = scope
        while owner is not None and owner.kind != "class":
            owner = owner.parent
        me = f"{self.here}{owner.qual}()" if owner is not None else None
        return annotation_path(node, lambda expr: self.spell(expr, scope), me)

    # -- references and the interface ----------------------------------------------------------------------------

    def reference(self, scope: Scope, func: ast.expr, line: int) -> None:
        written = self.strings(self.written(func))
        if type(func) is ast.Name:
            local = self.local(func.id, scope)
            if local is not None:
                ordinal, sure = local
                self.references.append(
                    (line, scope.ordinal, "call", written, None, ordinal, EXACT if sure else GUESSED, 100 if sure else 50)
                )
                return
            if func.id == "super" and func.id not in self.top.binds:
                path: str | None = "builtins.super"
            else:
                path = self.lookup(func.id, scope)
        else:
            path = self.spell(func, scope)
        if path is None and type(func) is ast.Attribute:
            path = "*." + func.attr
        if path is not None and path.startswith("builtins.") and not self.stars:
            self.references.append((line, scope.ordinal, "call", written, None, None, EXTERNAL, 100))
            return
        place = None if path is None else self.strings(path)
        self.references.append((line, scope.ordinal, "call", written, place, None, UNRESOLVED, 0))

    def local(self, name: str, scope: Scope) -> tuple[int, bool] | None:
        """The function or class of this file that a bare name means, and whether nothing else binds the name."""
        current: Scope | None = scope
        while current is not None:
            if current.foreign and name in current.foreign:
                current = current.foreign[name] or current
            if name in current.binds and (current.kind != "class" or current is scope):
                binds = current.binds[name]
                defined = [b[1] for b in binds if b[0] in ("def", "class")]
                if not defined:
                    return None
                return defined[-1].ordinal, not any(b[0] == "import" for b in binds)
            current = current.parent
        return None

    def reference_bases(self) -> None:
        for inner, scope, node in self.bases:
            paths: list[str] = []
            for base in node.bases:
                plain = base.value if type(base) is ast.Subscript else base
                written = self.strings(self.written(plain))
                local = self.local(plain.id, scope) if type(plain) is ast.Name else None
                path = self.spell(plain, scope)
                if path:
                    paths.append(path)
                if local is not None:
                    row = (base.lineno, inner.ordinal, "inherit", written, None, local[0], EXACT if local[1] else GUESSED,
                           100 if local[1] else 50)
                elif path is not None and path.startswith("builtins.") and not self.stars:
                    row = (base.lineno, inner.ordinal, "inherit", written, None, None, EXTERNAL, 100)
                else:
                    place = self.strings(path) if path else None
                    row = (base.lineno, inner.ordinal, "inherit", written, place, None, UNRESOLVED, 0)
                self.references.append(row)
            decorated = [self.written(d).rpartition(".")[2] for d in node.decorator_list]
            self.interface[inner.qual] = ["c", inner.ordinal, paths, int("dataclass" in decorated)]

    def describe(self) -> None:
        """Fill the interface: what each name of the module and of its classes is, for the resolver."""
        for inner, scope, node in self.functions:
            if scope.kind == "class":
                for arg in [*node.args.posonlyargs, *node.args.args][:1]:
                    if inner.static != "static":
                        inner.cache[arg.arg] = f"{self.here}{scope.qual}" + ("" if inner.static == "class" else "()")
        for inner, scope, node in self.functions:
            returns = self.annotation(node.returns, scope)
            names = [self.written(d).rpartition(".")[2] for d in node.decorator_list]
            flags = ""
            if "property" in names or "cached_property" in names or any(n in ("setter", "getter") for n in names):
                flags += "p"
            if "contextmanager" in names or "asynccontextmanager" in names:
                flags += "w"
            elif any(n not in _TRANSPARENT for n in names):
                returns = None if "p" not in flags else returns
            if returns is None and inner.self_name and node.returns is None and returns_self(node, inner.self_name):
                returns = "@"
            known = self.interface.get(inner.qual)
            if known is not None and known[0] == "f" and "p" in known[3] and "p" in flags:
                continue  # the getter speaks for the property, its setter comes later
            self.interface[inner.qual] = ["f", inner.ordinal, returns, flags]
        for scope in [self.top, *(inner for inner, _, _ in self.bases)]:
            for name, binds in scope.binds.items():
                qual = self.inner(scope, name)
                symbols = [b[1] for b in binds if b[0] == "symbol"]
                if any(b[0] in ("def", "class") for b in binds):
                    if any(b[0] == "import" for b in binds) and qual in self.interface:
                        self.interface[qual] = [*self.interface[qual][:4], "?"]
                elif any(b[0] == "import" for b in binds):
                    self.interface[qual] = ["i", -1, self.meaning(name, scope)]
                elif symbols:
                    self.interface[qual] = ["v", symbols[0], self.typed([b for b in binds if b[0] != "symbol"])]
        for (owner, attribute), binds in self.self_types.items():
            path = self.typed(binds)
            if path is not None:
                self.interface[f"{owner}().{attribute}"] = ["a", -1, path]


_TRANSPARENT = frozenset(
    "property cached_property setter getter deleter staticmethod classmethod abstractmethod overload override final"
    " lru_cache cache wraps no_type_check".split()
)
_LITERALS: dict[type, str] = {
    ast.JoinedStr: "str", ast.List: "list", ast.Dict: "dict", ast.Set: "set", ast.Tuple: "tuple",
    ast.ListComp: "list", ast.DictComp: "dict", ast.SetComp: "set", ast.Lambda: "function",
}
_HANDLERS: dict[type, Any] = {
    ast.Assign: _Reader.on_assign, ast.AnnAssign: _Reader.on_annotated, ast.AugAssign: _Reader.on_augmented,
    ast.NamedExpr: _Reader.on_walrus, ast.For: _Reader.on_for, ast.AsyncFor: _Reader.on_for,
    ast.comprehension: _Reader.on_comprehension, ast.With: _Reader.on_with, ast.AsyncWith: _Reader.on_with,
    ast.ExceptHandler: _Reader.on_handler, ast.Global: _Reader.on_global, ast.Nonlocal: _Reader.on_nonlocal,
    ast.Lambda: _Reader.on_lambda, ast.Import: _Reader.on_import, ast.ImportFrom: _Reader.on_from,
    ast.FunctionDef: _Reader.on_function, ast.AsyncFunctionDef: _Reader.on_function, ast.ClassDef: _Reader.on_class,
    ast.MatchAs: _Reader.on_match_name, ast.MatchStar: _Reader.on_match_name, ast.MatchMapping: _Reader.on_match_name,
}


def is_none(node: Any) -> bool:
    return type(node) is ast.Constant and node.value is None


def docstring(node: Any) -> str | None:
    body = node.body
    if body and type(body[0]) is ast.Expr and type(body[0].value) is ast.Constant and type(body[0].value.value) is str:
        return ast.get_docstring(node)
    return None


def span(node: Any) -> tuple[int, int]:
    """First line (of the first decorator) and last line of a definition."""
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return first, node.end_lineno or node.lineno


def returns_self(node: ast.FunctionDef | ast.AsyncFunctionDef, self_name: str) -> bool:
    """Whether the last statement is ``return self``, as in fluent interfaces and ``__enter__``."""
    last = node.body[-1]
    return type(last) is ast.Return and type(last.value) is ast.Name and last.value.id == self_name
