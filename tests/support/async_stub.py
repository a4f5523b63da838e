"""Writes ``scanstore/aio/store.pyi``: the signatures of an asynchronous store, from the source of ``Store``.

Run it after a change of a public method: ``python tests/support/async_stub.py``. Methods become coroutine functions,
generators become asynchronous generators, and context managers asynchronous ones. Callbacks of ``@long`` methods may be
coroutine functions.
"""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from scanstore.aio import store
from scanstore.aio.domains import NOT_HERE, SPECIAL
from scanstore.aio.running import Running, class_of
from scanstore.aio.store import AsyncStore
from scanstore.db.domain import LONG, Domain
from scanstore.store import Store

TARGET = Path(inspect.getfile(Running)).with_name("store.pyi")
HEAD = f'''"""{{doc}}"""

# Written by {Path(__file__).parent.parent.name}/support/{Path(__file__).name}; do not edit.
'''
Types = Mapping[str, ast.expr]  # what stands for the type variables of a generic class


class Source:
    """The names of one module: which it defines, and which it imports."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.defined: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, tuple[str, str]] = {}  # the module and the name there, or "" for the module itself
        module = importlib.import_module(name)
        self.tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        for node in statements(self.tree.body):
            match node:
                case ast.ImportFrom(module=str(home), names=names):
                    self.imported |= {each.asname or each.name: (home, each.name) for each in names}
                case ast.Import(names=names):
                    self.imported |= {each.asname or each.name: (each.name, "") for each in names}
                case ast.ClassDef(name=word) | ast.FunctionDef(name=word):
                    self.defined.setdefault(word, []).append(node)
                case ast.Assign(targets=[ast.Name(id=word)]) | ast.AnnAssign(target=ast.Name(id=word)):
                    self.defined.setdefault(word, []).append(node)

    def class_named(self, word: str) -> ast.ClassDef:
        return next(node for node in self.defined[word] if isinstance(node, ast.ClassDef))


@cache
def source(name: str) -> Source:
    return Source(name)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module or class, with those inside ``if`` and ``else``."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from statements(node.body)
            yield from statements(node.orelse)


def home_of(word: str, module: str) -> tuple[str, str]:
    """Return the module of the package that defines a name, and its name there."""
    while module.startswith("scanstore") and word in source(module).imported and word not in source(module).defined:
        home, there = source(module).imported[word]
        if not there or not home.startswith("scanstore"):
            return home, there
        module, word = home, there
    return module, word


def value_of(word: str, module: str) -> ast.expr | None:
    """Return the value of an alias or type variable of the package, or None for other names."""
    home, there = home_of(word, module)
    if home.startswith("scanstore") and there:
        for node in source(home).defined.get(there, ()):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                return node.value
    return None


def called(node: ast.expr | None, *names: str) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in names


def union(*parts: ast.expr) -> ast.expr:
    whole = parts[0]
    for each in parts[1:]:
        whole = ast.BinOp(whole, ast.BitOr(), each)
    return whole


def documented(thing: object) -> list[ast.stmt]:
    """Return the body of a definition in the stub: its documentation alone."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    return [ast.Expr(ast.Constant(doc + "\n" * ("\n" in doc) if doc else ...))]


def subscript(word: str, *parts: ast.expr) -> ast.expr:
    return ast.Subscript(ast.Name(word), parts[0] if len(parts) == 1 else ast.Tuple(list(parts)))


class Annotations(ast.NodeTransformer):
    """Converts annotations of one module to those of the stub."""

    def __init__(
        self, stub: Stub, module: str, types: Types, members: set[str], *, argument: bool = False, calling: bool = False
    ) -> None:
        self.stub, self.module, self.types, self.members = stub, module, types, members
        self.argument, self.calling = argument, calling

    def converted(self, node: ast.expr) -> ast.expr:
        found: ast.expr = self.visit(copy.deepcopy(node))
        return found

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str):
            return self.converted(ast.parse(node.value, mode="eval").body)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        word = node.value.id if isinstance(node.value, ast.Name) else ""
        if word == "Literal":
            node.value = self.visit(node.value)
            return node
        self.generic_visit(node)
        if word == "Callable" and self.calling and isinstance(node.slice, ast.Tuple):
            result = node.slice.elts[1]
            if ast.unparse(result) != "object":
                any_ = ast.Name(self.stub.name("Any", "typing"))
                made = subscript(self.stub.name("Coroutine", "collections.abc"), any_, any_, result)
                node.slice.elts[1] = union(result, made)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        parts: dict[str, ast.expr] = {}
        waiting: list[ast.expr] = [node]
        while waiting:
            each = waiting.pop()
            if isinstance(each, ast.BinOp):
                waiting += [each.right, each.left]
            else:
                parts.setdefault(ast.unparse(each), each)
        return union(*parts.values())

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.types:
            return copy.deepcopy(self.types[node.id])
        home, there = home_of(node.id, self.module)
        if (home, there) == ("scanstore.db.domain", "List"):
            home, there = "builtins", "list"
        alias = value_of(node.id, self.module)
        if self.calling and alias is not None and "Callable" in ast.unparse(alias):
            return Annotations(self.stub, home, {}, self.members, calling=True).converted(alias)
        if self.argument and alias is not None and self._names_a_block(alias, home):
            return Annotations(self.stub, home, {}, self.members, argument=True).converted(alias)
        if there and home.startswith("scanstore") and there not in source(home).defined:
            home = "builtins"
        if home == "builtins":
            return ast.Name(f"{self.stub.name('', 'builtins')}.{there}" if there in self.members else there)
        made = ast.Name(self.stub.name(there, home))
        if self.argument and (home, there) in self.stub.blocks:
            return union(made, ast.Name(f"_Async{there}"))
        return made

    def _names_a_block(self, alias: ast.expr, module: str) -> bool:
        return any(
            isinstance(node, ast.Name) and home_of(node.id, module) in self.stub.blocks for node in ast.walk(alias)
        )


class Stub:
    """The stub: its imports and its classes."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[str, str]] = {}
        self.blocks: dict[tuple[str, str], type] = {}  # the classes whose objects an ``async with`` gives
        self.classes: dict[str, ast.ClassDef] = {}

    def name(self, word: str, module: str) -> str:
        """Import a name, or a module if the name is empty. Return the name for it in the stub."""
        local = word or module
        while self.names.setdefault(local, (module, word)) != (module, word):
            local = f"{local}_{module.rpartition('.')[2]}"
        return local

    def written(self) -> str:
        for class_ in self._with_parts(Store):
            for _, home, node, _ in self.methods(class_):
                block = self._block(node, home)
                if block is not None and any(self.methods(block)):
                    self.blocks[block.__module__, block.__name__] = block
        for block in self.blocks.values():
            made = self._class(block, f"_Async{block.__name__}", None)
            made.body[1:1] = self._attributes(block)
        for class_ in self._with_parts(Store):
            if class_ is not Store:
                self._class(class_, f"Async{class_.__name__}", self.name("AsyncDomain", "scanstore.aio.domains"))
        self._class(Store, "AsyncStore", self.name("Running", "scanstore.aio.running"))
        self.classes["AsyncStore"].body[0] = documented(AsyncStore)[0]
        call = self.name("AsyncCall", "scanstore.aio.calls")
        lines = [HEAD.format(doc=(store.__doc__ or "").splitlines()[0])]
        for local, (module, word) in sorted(self.names.items()):
            again = f" as {local}" if local != word or word in ("AsyncDomain", call) else ""
            lines.append(f"from {module} import {word}{again}" if word else f"import {module}")
        lines += [ast.unparse(ast.fix_missing_locations(each)) for each in self.classes.values()]
        return tidy("\n".join(lines))

    def _with_parts(self, class_: type) -> Iterator[type]:
        for name in vars(class_):
            part = inspect.getattr_static(class_, name)
            if isinstance(part, cached_property):
                yield from self._with_parts(class_of(part))
        yield class_

    def methods(self, class_: type) -> Iterator[tuple[str, str, ast.FunctionDef, Types]]:
        """Yield the public methods of a class: the name, the module, and the definitions that callers see."""
        seen: set[str] = set()
        for base, types in self._bases(class_):
            body = statements(source(base.__module__).class_named(base.__name__).body)
            found: dict[str, list[ast.FunctionDef]] = {}
            for node in body:
                if isinstance(node, ast.FunctionDef) and (node.name in SPECIAL or not node.name.startswith("_")):
                    if not {"cached_property", "property"} & {ast.unparse(each) for each in node.decorator_list}:
                        found.setdefault(node.name, []).append(node)
            for name, same in found.items():
                if name not in seen:
                    seen.add(name)
                    for node in same[:-1] or same:  # the last of several is what the overloads stand for
                        yield name, base.__module__, node, types

    def _bases(self, class_: type) -> Iterator[tuple[type, Types]]:
        """Yield a class and its bases in the package, in order, with the types that their type variables stand for."""
        known: dict[type, Types] = {class_: {}}
        for each in class_.__mro__:
            if each is Domain or not each.__module__.startswith("scanstore") or each.__name__ == "Shared":
                continue
            types = known.setdefault(each, {})
            for base in source(each.__module__).class_named(each.__name__).bases:
                if isinstance(base, ast.Subscript) and isinstance(base.value, ast.Name) and base.value.id != "Generic":
                    module, word = home_of(base.value.id, each.__module__)
                    parts = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
                    members = {name for name in dir(class_) if not name.startswith("_")}
                    converter = Annotations(self, each.__module__, types, members)
                    given = [converter.converted(part) for part in parts]
                    inner = getattr(importlib.import_module(module), word)
                    known[inner] = dict(zip(_variables(module, word), given, strict=True))
            yield each, types

    def _block(self, node: ast.FunctionDef, home: str) -> type | None:
        """Return the class of the objects that the context manager of a method gives."""
        found = self._entered(node, home)
        if isinstance(found, ast.Name):
            module, word = home_of(found.id, home)
            if module.startswith("scanstore"):
                block: type = getattr(importlib.import_module(module), word)
                return block
        return None

    def _entered(self, node: ast.FunctionDef, home: str) -> ast.expr | None:
        """Return the type that the context manager of a method gives, or None for other methods."""
        returns = node.returns
        match returns:
            case ast.Subscript(value=ast.Name(id="AbstractContextManager"), slice=inner):
                return inner
            case ast.Attribute(attr="_atomic"):
                return ast.Constant(None)
            case ast.Name(id=word):
                module, there = home_of(word, home)
                if module.startswith("scanstore") and there in source(module).defined:
                    found = getattr(importlib.import_module(module), there, None)
                    if isinstance(found, type) and hasattr(found, "__enter__"):
                        return returns
        return None

    def _class(self, class_: type, name: str, base: str | None) -> ast.ClassDef:
        skipped = set(dir(Running)) | NOT_HERE if class_ is Store else set()
        found = [each for each in self.methods(class_) if each[0] not in skipped]
        members = {each[0] for each in found}
        body = documented(class_)
        for part_name in vars(class_):
            part = inspect.getattr_static(class_, part_name)
            if isinstance(part, cached_property):
                body.append(_property(part_name, f"Async{class_of(part).__name__}", part))
        body += [self._method(*each, members, getattr(class_, each[0])) for each in found]
        bases: list[ast.expr] = [ast.Name(base)] if base else []
        made = ast.ClassDef(name, bases, [], body, [])
        self.classes[name] = made
        return made

    def _attributes(self, class_: type) -> Iterator[ast.stmt]:
        """Yield the public attributes that ``__init__`` sets, with their types."""
        home = class_.__module__
        init = next(node for node in source(home).class_named(class_.__name__).body if _named(node, "__init__"))
        assert isinstance(init, ast.FunctionDef)
        given = {each.arg: each.annotation for each in (*init.args.args, *init.args.kwonlyargs)}
        for node in init.body:
            match node:
                case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=kind):
                    pass
                case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Name(id=word)) if given.get(word):
                    kind = given[word] or ast.Constant(None)
                case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Constant(value=value)):
                    kind = ast.Name(type(value).__name__)
                case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Call(func=ast.Name(id=word))):
                    if word in vars(builtins):
                        kind = ast.Name(word)
                    else:
                        module, there = home_of(word, home)
                        (made,) = source(module).defined[there]
                        assert isinstance(made, ast.FunctionDef) and made.returns is not None
                        if not name.startswith("_"):
                            kind = Annotations(self, module, {}, set()).converted(made.returns)
                            yield ast.AnnAssign(ast.Name(name), kind, simple=1)
                        continue
                case _:
                    continue
            if not name.startswith("_"):
                yield ast.AnnAssign(ast.Name(name), Annotations(self, home, {}, set()).converted(kind), simple=1)

    def _method(
        self, name: str, home: str, node: ast.FunctionDef, types: Types, members: set[str], method: Any
    ) -> ast.stmt:
        long = getattr(method, "lane", None) == LONG
        taken = Annotations(self, home, types, members, argument=True, calling=long)
        given = Annotations(self, home, types, members)
        args = copy.deepcopy(node.args)
        for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
            if arg is not None and arg.annotation is not None:
                arg.annotation = taken.converted(arg.annotation)
        args.defaults = [_default(each, home) for each in args.defaults]
        args.kw_defaults = [each and _default(each, home) for each in args.kw_defaults]
        assert node.returns is not None
        entered = self._entered(node, home)
        row = _row(node)
        made: ast.FunctionDef | ast.AsyncFunctionDef
        if entered is not None:
            inner = given.converted(entered)
            block = self._block(node, home)
            if block is not None and (block.__module__, block.__name__) in self.blocks:
                inner = ast.Name(f"_Async{block.__name__}")
            returns = subscript(self.name("AbstractAsyncContextManager", "contextlib"), inner)
            made = ast.FunctionDef(name, args, [], [], returns)
        elif row is not None:
            generator = self.name("AsyncGenerator", "collections.abc")
            returns = subscript(generator, given.converted(row))
            made = ast.FunctionDef(SPECIAL.get(name, name), args, [], [], returns)
        else:
            made = ast.AsyncFunctionDef(SPECIAL.get(name, name), args, [], [], given.converted(node.returns))
        for each in node.decorator_list:
            if ast.unparse(each) in ("overload", "staticmethod"):
                word = ast.unparse(each)
                made.decorator_list.append(ast.Name(self.name(word, "typing") if word == "overload" else word))
        made.body = documented(method)
        return made


def _variables(module: str, word: str) -> list[str]:
    """Return the type variables of a generic class, in order."""
    found: list[str] = []
    for base in source(module).class_named(word).bases:
        if isinstance(base, ast.Subscript):
            for node in ast.walk(base.slice):
                if isinstance(node, ast.Name) and called(value_of(node.id, module), "TypeVar"):
                    found += [node.id] * (node.id not in found)
    return found


def _named(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


def _property(name: str, kind: str, part: object) -> ast.stmt:
    made = ast.parse(f"@property\ndef {name}(self) -> {kind}: ...").body[0]
    assert isinstance(made, ast.FunctionDef)
    made.body = documented(part)
    return made


def _row(node: ast.FunctionDef) -> ast.expr | None:
    """Return the type of the rows of a method that yields them."""
    match node.returns:
        case ast.Subscript(value=ast.Name(id="Iterator"), slice=row):
            return row
        case ast.Subscript(value=ast.Name(id="Generator"), slice=ast.Tuple(elts=[row, *_])):
            return row
    return None


def _default(node: ast.expr, module: str) -> ast.expr:
    """Return a default as callers see it: numbers, texts and words by their values, all else as ``...``."""
    if isinstance(node, ast.Name):
        value = getattr(importlib.import_module(module), node.id, ...)
        return ast.Constant(value) if isinstance(value, int | float | str) else ast.Constant(...)
    try:
        ast.literal_eval(node)
    except ValueError:
        return ast.Constant(...)
    return node


def tidy(text: str) -> str:
    for command in (["check", "--select", "I,F401", "--fix"], ["format"]):
        command = [sys.executable, "-m", "ruff", *command, "-q", "--stdin-filename", str(TARGET), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    TARGET.write_text(Stub().written(), encoding="utf-8")
