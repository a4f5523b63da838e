"""Name resolution inside one file: scopes, their bindings, and the path (see :mod:`.indexer`) of an expression.

Names are looked up as Python does: function scopes outwards, class scopes only from their own body, then the module,
its star imports, and builtins. The type of a local variable, parameter or ``self`` attribute is known if the code
states it: by a constructor call, an annotation, or another known name.
"""

from __future__ import annotations

import ast
import builtins
import sys
from hashlib import blake2b
from typing import TypeAlias

from scanstore.indexing.facts import BUILTIN_CLASSES, BUILTINS, EXACT, GUESSED, PLAIN_BUILTINS
from scanstore.indexing.python.annotations import LONGEST_UNION, Several, annotation_path
from scanstore.indexing.python.containers import PASSING, is_alias, literal_path, one_path, passed_on
from scanstore.indexing.python.flow import Flow
from scanstore.indexing.python.source import LONGEST_CHAIN, LONGEST_TEXT, is_none

LONGEST_TUPLE = 20  # items; longer tuples are data
DEEPEST = 40  # names that refer to other names; longer chains occur only in generated code
NESTED = 30  # nested expressions, likewise
MOST_ARGUMENTS = 3  # of a call, of those that a path keeps
MOST_RIVALS = 4  # bindings of one imported or defined name

_LITERALS: dict[type, str] = {
    ast.JoinedStr: "str",
    ast.List: "list",
    ast.Dict: "dict",
    ast.Set: "set",
    ast.Tuple: "tuple",
    ast.ListComp: "list",
    ast.DictComp: "dict",
    ast.SetComp: "set",
    ast.Lambda: "function",
}


#: The value of a binding; for a name in a tuple, the value that is unpacked, the place, and the kind of its binding.
Unpacked: TypeAlias = "ast.expr | tuple[Unpacked, int, str]"
Binding = tuple[str, object, "NameScope"]  # a binding of a name: the kind, a node or path, and the scope


class NameScope:
    """A module, class or function, with the bindings of its names, each a list of ``(kind, node-or-path, scope)``."""

    __slots__ = (
        "binds",
        "cache",
        "class_scope",
        "foreign",
        "kind",
        "ordinal",
        "parent",
        "qual",
        "self_name",
        "static",
        "transparent",
    )

    def __init__(self, kind: str, qual: str, parent: NameScope | None, ordinal: int) -> None:
        self.kind = kind
        self.qual = qual
        self.parent = parent
        self.ordinal = ordinal
        self.binds: dict[str, list[Binding]] = {}
        self.foreign: dict[str, NameScope | None] = {}  # names declared global or nonlocal
        self.cache: dict[str, str | None] = {}
        self.class_scope: NameScope | None = None  # for a method: its class
        self.self_name: str | None = None
        self.static = ""
        self.transparent = False  # a comprehension: := inside binds in the outer scope

    def closure(self) -> NameScope:
        """Return the scope of a lambda or comprehension in this scope. Its code belongs to this scope."""
        inner = NameScope("function", self.qual, self, self.ordinal)
        if self.kind == "function":
            inner.class_scope, inner.self_name = self.class_scope, self.self_name
        return inner

    def home(self, name: str) -> NameScope:
        """Return the scope of a name used here: another one if it is declared global or nonlocal."""
        return self.foreign.get(name) or self if self.foreign else self

    def bind(self, name: str, kind: str, value: object, scope: NameScope) -> None:
        home = self.home(name)
        entry = home.binds.get(name)
        if entry is None:
            home.binds[name] = [(kind, value, scope)]
        else:
            entry.append((kind, value, scope))


def qualified(scope: NameScope, name: str) -> str:
    """Return the qualified name of a definition in a scope, like Python's ``__qualname__``."""
    if scope.kind == "function":
        return f"{scope.qual}.<locals>.{name}"
    return f"{scope.qual}.{name}" if scope.qual else name


def has_rivals(binds: list[Binding]) -> bool:
    """Whether a defined name has other bindings too, except to None."""
    return any(
        kind not in ("def", "class", "symbol", "annotated", "value") and not (kind == "assign" and is_none(value))
        for kind, value, _ in binds
    )


def proven_outside(path: str) -> bool:
    """Whether a path from a builtin leads outside the tree. The result of most builtins may be an object of the tree,
    and so may an item of a container.
    """
    name, called, steps = path.removeprefix("builtins.").partition("()")
    if name.partition(".")[0] in PLAIN_BUILTINS or not called:
        return "[" not in name and "~" not in name
    attribute = steps[1:]  # one that a subclass in the tree adds is not outside
    return name in BUILTIN_CLASSES and hasattr(getattr(builtins, name, object), attribute)


def _may_be_generic(path: str, plain: set[str]) -> bool:
    """Whether the result of the called path may have the type of an argument; known for functions of this file."""
    name = path.rpartition(".")[2]
    if name[:1].isupper() or path.startswith("builtins.") or path.replace("()", "") in plain:
        return False
    return path.partition(":")[0].partition(".")[0] not in sys.stdlib_module_names


class Meanings:
    """The paths of one file's names. ``here`` is the file's own module as a path, ``stars`` the modules of its star
    imports."""

    def __init__(self, here: str) -> None:
        self.here = here
        self.stars: list[str] = []
        self.several: dict[str, list[object]] = {}  # entries of the interface for tuples and unions
        self.locals: dict[tuple[NameScope, str], tuple[int, bool] | None] = {}
        self.me: str | None = None  # what ``@`` stands for: an instance of the class around the current method
        self.firm: dict[str, int] = {}  # how often the module defines or imports a name without a condition
        self.doubled: set[str] = set()  # names of functions that the module defines in several branches
        self.plain: set[str] = set()  # the functions of this file whose result depends on no argument
        self.inner: dict[ast.AST, NameScope] = {}  # the scopes of comprehensions
        self.bodies: dict[NameScope, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.flows: dict[NameScope, Flow[NameScope]] = {}
        self.led: dict[tuple[NameScope, str], bool] = {}  # whether a variable may lead into the tree
        self.depth = 0
        self.nested = 0

    def together(self, kind: Several, paths: list[str]) -> str:
        """Return the path of a tuple of values, or of a value that is one of several.

        It is an entry of the interface whose name, which is no identifier, depends on the paths only.
        """
        if any(path.startswith(("@", "$")) for path in paths):  # an entry of the interface has no receiver
            plain = [path if path[:1] not in "@$" or not path else self.plain_self(path) for path in paths]
            paths = plain if kind == "t" else list(dict.fromkeys(filter(None, plain)))
        name = f"0{kind}{blake2b(' '.join(paths).encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"
        self.several[name] = [kind, -1, paths]
        return f"{self.here}{name}"

    def plain_self(self, path: str) -> str:
        """Return a path that begins with ``@`` without it; the class around the method stands for the receiver."""
        return self.me + path[1:] if self.me and path[0] == "@" else ""

    def spell(self, node: object, scope: NameScope) -> str | None:
        """Return the path of an expression's value, or None if the code does not determine it."""
        if self.nested >= NESTED + self.depth:  # each followed name adds one expression
            return None
        self.nested += 1
        path = self._spell(node, scope)
        self.nested -= 1
        return path

    def _spell(self, node: object, scope: NameScope) -> str | None:
        steps: list[str] = []
        given: dict[int, ast.Call] = {}  # calls with arguments that may decide about the result, by their step
        while len(steps) < LONGEST_CHAIN:
            if isinstance(node, ast.Attribute):
                steps.append("." + node.attr)
                node = node.value
            elif isinstance(node, ast.Call):
                if type(node.func) is ast.Name and node.func.id == "super":
                    root = self.super_path(scope) if not node.args else self.spell(node.args[0], scope)
                    root = root + "^" if root else None
                    break
                if type(node.func) is ast.Name and node.func.id == "type" and len(node.args) == 1:
                    root = self.spell(node.args[0], scope) if self.home("type", scope) is None else None
                    root = root + ".__class__" if root else None
                    break
                if type(node.func) is ast.Name and node.func.id in PASSING and self.home(node.func.id, scope) is None:
                    root = passed_on(node.func.id, node, lambda part: self.spell(part, scope), self.together)
                    if root is not None:
                        break
                tail = node.func.attr if type(node.func) is ast.Attribute else getattr(node.func, "id", "")
                if tail in ("partial", "partialmethod") and node.args:
                    if self.spell(node.func, scope) == f"functools:.{tail}":  # it is called like its first argument
                        node = node.args[0]
                        continue
                if tail == "TypeVar":  # a value of its type has the type of its bound
                    bound = next((keyword.value for keyword in node.keywords if keyword.arg == "bound"), None)
                    above = self.annotation(bound, scope) if bound is not None else None
                    if above and above.endswith("()"):
                        root = above[:-2]
                        break
                if tail[:1].islower() and any(type(arg) is not ast.Constant for arg in node.args):
                    given[len(steps)] = node
                steps.append("()")
                node = node.func
            elif isinstance(node, ast.Name):
                root = self.lookup(node.id, scope) or self.flowing(node, scope)
                break
            elif isinstance(node, ast.Subscript):
                if isinstance(node.slice, ast.Slice):  # it keeps the container
                    node = node.value
                    steps.append("~*")
                    continue
                place = node.slice.value if isinstance(node.slice, ast.Constant) else None
                steps.append(f"[{place}]" if type(place) is int and 0 <= place < LONGEST_TUPLE else "[]")
                node = node.value
            elif isinstance(node, (ast.Await, ast.NamedExpr)):
                node = node.value
            elif isinstance(node, (ast.IfExp, ast.BoolOp)):
                options = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values
                if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
                    options = options[-1:]  # the others only if they are false
                root = one_path(options, lambda part: self.spell(part, scope), self.together)
                break
            elif isinstance(node, ast.Tuple) and 0 < len(node.elts) < LONGEST_TUPLE:
                root = self.tuple_of(node.elts, scope)
                break
            elif type(node) in _LITERALS:
                known: str | None = None
                if isinstance(node, (ast.List, ast.Set, ast.Dict)):
                    known = literal_path(node, lambda part: self.spell(part, scope), self.together)
                elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp)) and node in self.inner:
                    known = self.comprehension(node)
                root = known or "builtins." + _LITERALS[type(node)] + "()"
                break
            elif isinstance(node, ast.GeneratorExp) and node in self.inner:
                root = self.comprehension(node)
                break
            elif isinstance(node, ast.Constant) and node.value is not None and node.value is not ...:
                root = f"builtins.{type(node.value).__name__}()"
                break
            else:
                return None
        else:
            return None
        if root is None:
            return None
        if root.startswith("builtins."):
            steps = [step for step in steps if step != "~*"]
        path = root + "".join(reversed(steps))
        if given and not root.startswith("builtins."):
            path = self.with_arguments(root, steps, given, scope)
        return path if len(path) <= LONGEST_TEXT else None

    def with_arguments(self, root: str, steps: list[str], given: dict[int, ast.Call], scope: NameScope) -> str:
        """Return a path in which calls carry the paths of their arguments, if a result may have the type of one."""
        path = root
        for place in range(len(steps) - 1, -1, -1):
            paths: list[str] = []
            if place in given and _may_be_generic(path, self.plain):
                for argument in given[place].args[:MOST_ARGUMENTS]:
                    known = None if isinstance(argument, ast.Starred) else self.spell(argument, scope)
                    paths.append("" if known is None or known.startswith(("?", "@", "builtins.")) else known)
            text = ",".join(paths).rstrip(",")
            path += f"({text})" if text and len(path) + len(text) < LONGEST_TEXT else steps[place]
        return path

    def tuple_of(self, items: list[ast.expr], scope: NameScope) -> str:
        """Return the path of a tuple whose items are these expressions."""
        paths = [None if isinstance(item, ast.Starred) else self.spell(item, scope) for item in items]
        if any(isinstance(item, ast.Starred) for item in items) or not any(paths):
            return "builtins.tuple()"
        return self.together("t", [path or "" for path in paths])

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> str | None:
        """Return the path of what a comprehension gives."""
        inner = self.inner[node]
        path = self.spell(node.value if isinstance(node, ast.DictComp) else node.elt, inner)
        if path is None or path.startswith(("builtins.", "?", "@")):
            return None
        return path + ("%" if isinstance(node, ast.DictComp) else "*")

    def super_path(self, scope: NameScope) -> str | None:
        owner = scope.class_scope
        return self.itself(owner) if owner is not None else None

    @staticmethod
    def home(name: str, scope: NameScope) -> NameScope | None:
        """Return the scope that binds a name used in another one; None if no scope of this file does."""
        current: NameScope | None = scope
        while current is not None:
            if current.foreign and name in current.foreign:
                current = current.foreign[name] or current
            if name in current.binds and (current.kind != "class" or current is scope):
                return current
            current = current.parent
        return None

    def lookup(self, name: str, scope: NameScope) -> str | None:
        """Return the path of a bare name in a scope."""
        home = self.home(name, scope)
        if home is not None:
            return self.meaning(name, home)
        if self.stars:
            return f"{self.here}{name}"  # a star import may define it; the resolver falls back to builtins
        return "builtins." + name if name in BUILTINS else None

    def meaning(self, name: str, scope: NameScope) -> str | None:
        cache = scope.cache
        if name in cache:
            return cache[name]
        cache[name] = None  # a name that refers to itself is unknown
        if self.depth < DEEPEST:
            self.depth += 1
            cache[name] = self.settle(name, scope)
            self.depth -= 1
        return cache[name]

    def settle(self, name: str, scope: NameScope) -> str | None:
        binds = scope.binds[name]
        qual = qualified(scope, name)
        defined = [b for b in binds if b[0] in ("def", "class")]
        imported = [b for b in binds if b[0] == "import"]
        if defined:
            path = self.here + qual
            if not has_rivals(binds):
                return path
            rivals = self.rivals(name, binds, scope)
            if not rivals:
                return "?" + path
            return self.together("u", [path, *rivals]) if scope.kind == "function" else path
        if imported:
            targets = self.rivals(name, imported, scope)
            if not targets:
                first = next((b[1] for b in imported if isinstance(b[1], str) and b[1]), None)
                return first and "?" + first
            if len(binds) > len(imported):
                other = self.others([b for b in binds if b[0] in ("assign", "other")])
                if other is None:
                    return "?" + targets[0]
                targets += [path for path in other if path not in targets]
            return targets[0] if len(targets) == 1 else self.together("u", targets)
        if scope.kind != "function" and any(b[0] == "symbol" for b in binds):
            return self.here + qual  # a variable: the resolver looks its type up in the interface
        return self.typed(binds)

    def rivals(self, name: str, binds: list[Binding], home: NameScope) -> list[str] | None:
        """Return the other values that a defined or imported name may hold; None if one is unknown, or too many.

        Of an import that fails, and of a branch for another version of Python, the file cannot tell which one holds.
        If a name is defined or imported several times without a condition, they replace each other.
        """
        if home.kind == "module" and self.firm.get(name, 0) > 1:
            paths = self.others(binds)
            single = paths is not None and len(paths) == 1 and all(b[0] == "import" for b in binds)
            return paths if single else None
        for _, value, _ in binds:
            if type(value) is NameScope:
                cache = home.cache
                before, cache[name] = cache.get(name), f"{self.here}{value.qual}!"  # for ``f = decorator(f)``
                paths = self.others(binds)
                if before is None:
                    del cache[name]
                else:
                    cache[name] = before
                return paths
        return self.others(binds)

    def others(self, binds: list[Binding]) -> list[str] | None:
        paths: dict[str, None] = {}
        for kind, value, scope in binds:
            if kind in ("def", "class", "symbol", "annotated", "value") or kind == "assign" and is_none(value):
                continue
            path = value if kind == "import" else self.bound(kind, value, scope)
            if not isinstance(path, str) or path.startswith(("?", "@")):
                return None
            paths[path] = None
        return list(paths) if len(paths) <= MOST_RIVALS else None

    def itself(self, scope: NameScope) -> str:
        """Return the path of a class scope as seen from inside, where later bindings of its name do not count."""
        name = scope.qual.rpartition(".")[2]
        home = scope.parent.home(name) if scope.parent is not None else None
        mark = "!" if home is not None and has_rivals(home.binds.get(name, [])) else ""
        return f"{self.here}{scope.qual}{mark}"

    def flowing(self, node: ast.Name, scope: NameScope) -> str | None:
        """Return the path of a local variable whose bindings disagree, by those that may hold at this place."""
        home = self.home(node.id, scope)
        if home is None or len(home.binds[node.id]) < 2 or home not in self.bodies or self.depth >= DEEPEST:
            return None
        if not self.worthwhile(node.id, home):
            return None
        flow = self.flows.get(home)
        if flow is None:
            flow = self.flows[home] = Flow(self.bodies[home], home.binds, home)
        paths: dict[str, None] = {}
        for number in sorted(flow.reaching.get(id(node), ())):
            if number < 0:
                return None
            kind, value, where = flow.bindings[number]
            if number in flow.active or kind == "assign" and is_none(value):  # made of itself, in a loop
                continue
            if number not in flow.paths:
                self.depth += 1
                flow.active.add(number)
                flow.paths[number] = self.bound(kind, value, where)
                flow.active.remove(number)
                self.depth -= 1
            path = flow.paths[number]
            if path is None:
                return None
            paths[path] = None
        known = list(paths)
        if len(known) == 1:
            return known[0]
        if not known or len(known) > LONGEST_UNION or any(path.startswith(("?", "@", "*")) for path in known):
            return None
        return self.together("u", known)

    def worthwhile(self, name: str, home: NameScope) -> bool:
        """Whether a binding of a local variable may lead into the tree."""
        known = self.led.get((home, name))
        if known is None:
            self.led[home, name] = False  # a binding made of the variable itself does not count
            paths = (self.bound(kind, value, where) for kind, value, where in home.binds[name])
            known = self.led[home, name] = any(path is not None and not path.startswith("builtins.") for path in paths)
        return known

    def typed(self, binds: list[Binding]) -> str | None:
        """Return the type in which all bindings of a variable agree, or None."""
        for kind, value, scope in binds:
            if kind == "annotated":
                return self.declared(self.annotation(value, scope), binds)
        found: str | None = None
        for kind, value, scope in binds:
            if kind == "symbol" or is_none(value) and kind == "assign":
                continue
            path = self.bound(kind, value, scope)
            if path is None or (found is not None and found != path):
                return None
            found = path
        return found

    def declared(self, path: str | None, binds: list[Binding]) -> str | None:
        """Return the declared type of a variable, in a union with the results of calls that are assigned to it.

        ``x: Base = Derived()`` is a ``Base`` for those who look for uses of ``Base``, and more precisely a ``Derived``.
        """
        if path is None or path.startswith(("?", "@", "builtins.")) or not path.endswith("()"):
            return path
        paths = {path: None}
        for kind, value, scope in binds:
            if kind not in ("annotated", "symbol") and not is_none(value):
                if type(value) is not ast.Call:
                    return path
                more = self.spell(value, scope)
                if more is not None and not more.startswith(("?", "@", "builtins.")):
                    paths[more] = None
        return path if not 1 < len(paths) <= LONGEST_UNION else self.together("u", list(paths))

    def one_of(self, binds: list[Binding]) -> str | None:
        """Return the types that the bindings of an attribute or a variable of a module show; a union if they differ.

        Bindings to values that the file does not determine are left out.
        """
        for kind, value, scope in binds:
            if kind == "annotated":
                return self.declared(self.annotation(value, scope), binds)
        paths: dict[str, None] = {}
        for kind, value, scope in binds:
            if kind != "symbol" and not (kind == "assign" and is_none(value)):
                path = self.bound(kind, value, scope)
                if path is not None:
                    paths[path] = None
        known = [path for path in paths if not path.startswith(("?", "@"))]
        if len(known) != len(paths) or len(known) > LONGEST_UNION:
            return None
        return None if not known else known[0] if len(known) == 1 else self.together("u", known)

    def bound(self, kind: str, value: object, scope: NameScope) -> str | None:
        if kind == "assign":
            if is_alias(value):
                path = self.annotation(value, scope)
                return path and self.together("k", [path])
            return self.spell(value, scope)
        if kind == "self":
            return self.annotation(value, scope) or None
        if kind == "param":
            return self.annotation(value, scope) if value is not None else None
        if kind == "params" or kind == "kwparams":
            item = self.annotation(value, scope) if value is not None else None
            return item and item + ("*" if kind == "params" else "%")
        if kind == "unpack" and isinstance(value, tuple):
            source, place, how = value
            path = self.bound(how, source, scope)
            return path and f"{path}[{place}]"
        if kind == "iterate":
            path = self.spell(value, scope)
            return path and path + "~"
        if kind in ("enter", "aenter"):
            path = self.spell(value, scope)
            return path and f"{path}.__{kind}__()"
        if kind == "except" and value is not None and type(value) is not ast.Tuple:
            path = self.spell(value, scope)
            return path and path + "()"
        return None

    def annotation(self, node: object, scope: NameScope) -> str | None:
        if node is None:
            return None
        return annotation_path(node, lambda expr: self.spell(expr, scope), self.together)

    def local(self, name: str, scope: NameScope) -> tuple[int, bool] | None:
        """Return the function or class of this file that a bare name refers to, and whether it is the only binding."""
        home = self.home(name, scope)
        if home is None:
            return None
        key = (home, name)
        if key not in self.locals:
            binds = home.binds[name]
            defined = [b[1] for b in binds if isinstance(b[1], NameScope)]  # of functions and classes
            rivals = bool(defined) and has_rivals(binds)
            known = not (rivals and self.rivals(name, binds, home))  # else the resolver looks at all of them
            known = known and not (home.kind == "module" and name in self.doubled)
            self.locals[key] = (defined[-1].ordinal, not rivals) if defined and known else None
        return self.locals[key]


def how_sure(sure: bool) -> tuple[int, int]:
    """Return the resolution and confidence of a name of the same file, by whether it has one binding."""
    return (EXACT, 100) if sure else (GUESSED, 50)
