"""Uses: names that are read or written without being called.

A use is recorded if the file alone shows that a symbol may be meant: a name of this module, an imported name, or an
attribute of something whose path is known. Local variables, builtins, and attributes that only instances have are not
symbols, so they are left out. An attribute of something unknown is no reference either: its name is returned as a
mention, which keeps :mod:`scanstore.symbols.unused` from calling a symbol of that name unused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from scanstore.indexing.facts import UNRESOLVED, ReferenceRow, Strings
from scanstore.indexing.python.scopes import Binding, Meanings, NameScope, how_sure, proven_outside, qualified
from scanstore.indexing.python.source import as_written

#: Functions that take the names of attributes as texts.
BY_NAME = frozenset("getattr setattr hasattr delattr attrgetter methodcaller getattr_static patch object".split())
LONGEST_NAME = 200
LONGEST_QUOTED = 1000
DEEPEST = 20  # nested strings in an annotation

#: A name or an attribute that is used, and the scope of the code around it.
Use = tuple[NameScope, "ast.Name | ast.Attribute"]
#: The symbol of this file, and whether it is the only binding; or a path.
_Target = tuple[int, bool] | str


class UseReader:
    """Finds the targets of the uses of one file, after all its names are bound and its interface is described."""

    def __init__(
        self,
        meanings: Meanings,
        interface: Mapping[str, Sequence[object]],
        self_types: Mapping[tuple[str, str], list[Binding]],
        strings: Strings,
    ) -> None:
        self.meanings = meanings
        self.interface = interface
        self.self_types = self_types
        self.strings = strings
        self.mentions: set[str] = set()
        self.names: dict[tuple[NameScope, str], _Target | None] = {}

    def references(self, uses: Sequence[Use]) -> list[ReferenceRow]:
        """Return a reference for each line, user and target, in the order of the lines."""
        seen: set[tuple[int, int, _Target]] = set()
        rows: list[ReferenceRow] = []
        for scope, node in uses:
            if isinstance(node, ast.Name):
                key = (scope, node.id)
                if key in self.names:
                    target = self.names[key]
                else:
                    target = self.names[key] = self.name(node.id, scope)
            else:
                target = self.attribute(node, scope)
            if target is None:
                continue
            place = (node.lineno, scope.ordinal, target)
            if place in seen:
                continue
            seen.add(place)
            written = self.strings(node.id if isinstance(node, ast.Name) else node.attr)
            row: ReferenceRow
            if isinstance(target, str):
                row = (node.lineno, scope.ordinal, "use", written, self.strings(target), None, UNRESOLVED, 0)
            else:
                row = (node.lineno, scope.ordinal, "use", written, None, target[0], *how_sure(target[1]))
            rows.append(row)
        rows.sort(key=lambda row: row[0])
        return rows

    def name(self, name: str, scope: NameScope) -> _Target | None:
        """Return the target of a bare name; None for a local variable, a module or a builtin."""
        home = self.meanings.home(name, scope)
        if home is None:
            return f"={self.meanings.here}{name}" if self.meanings.stars else None
        known = self.symbol(qualified(home, name))
        if known is not None:
            return known
        if any(kind == "import" for kind, _, _ in home.binds[name]) or f"0|.{qualified(home, name)}" in self.interface:
            path = self.meanings.meaning(name, home)
            return None if path is None or path.endswith(":") else "=" + path
        return None

    def attribute(self, node: ast.Attribute, scope: NameScope) -> _Target | None:
        """Return the target of an attribute; None if it is no symbol, or a mention."""
        path = self.meanings.spell(node.value, scope)
        if path is None:
            self.mentions.add(node.attr)
            return None
        if path.startswith("builtins."):
            if not proven_outside(f"{path}.{node.attr}"):
                self.mentions.add(node.attr)
            return None
        here = self.meanings.here
        if path.startswith(here):
            owner = path[len(here) :]
            instance = owner.endswith("()")
            owner = owner.removesuffix("()")
            described = self.interface.get(owner)
            if described is not None and described[0] == "c":
                known = self.symbol(f"{owner}.{node.attr}")
                if known is not None:
                    return known
                if instance and self.is_own(owner, node.attr, bool(described[2])):
                    return None
        return f"={path}.{node.attr}"

    def is_own(self, owner: str, attribute: str, derived: bool) -> bool:
        """Whether only instances of a class have an attribute.

        An attribute that a derived class assigns only outside of its constructor may be a property of a base class.
        """
        binds = self.self_types.get((owner, attribute), ())
        return any(not derived or scope.qual == f"{owner}.__init__" for _, _, scope in binds)

    def symbol(self, qual: str) -> tuple[int, bool] | None:
        """Return a function, class or variable of this file, and whether it is the only binding of its name."""
        entry = self.interface.get(qual)
        if entry is None or entry[0] not in ("c", "f", "v") or entry[-1] == "|":
            return None
        ordinal = entry[1]
        return (ordinal, entry[-1] != "?") if isinstance(ordinal, int) else None


def named_in(args: Sequence[ast.expr]) -> Iterator[str]:
    """Yield the names in the texts among arguments: `getattr(x, "name")`, `patch("package.name")`."""
    for arg in args:
        if isinstance(arg, ast.Constant) and isinstance(arg.value, str) and len(arg.value) < LONGEST_NAME:
            yield from (name for name in arg.value.split(".") if name.isidentifier())


def parts_of(annotation: ast.expr | None) -> Iterator[ast.expr | str]:
    """Yield the expressions in an annotation, those in quotes too, and each quoted text that cannot be parsed.

    The texts of ``Literal`` and the metadata of ``Annotated`` are values, not annotations.
    """
    rest: list[tuple[ast.expr | None, int]] = [(annotation, DEEPEST)]
    while rest:
        node, deepest = rest.pop()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                quoted = _parsed(node.value, node.lineno) if deepest else None
                if quoted is None:
                    yield node.value
                else:
                    rest.append((quoted, deepest - 1))
        elif isinstance(node, ast.Subscript):
            yield node.value
            tail = as_written(node.value).rpartition(".")[2]
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            kept = 0 if tail == "Literal" else 1 if tail == "Annotated" else len(inner)
            rest += [(each, deepest) for each in reversed(inner[:kept])]
            yield from inner[kept:]
        elif isinstance(node, ast.BinOp):
            rest += [(node.right, deepest), (node.left, deepest)]
        elif isinstance(node, (ast.List, ast.Tuple)):
            rest += [(each, deepest) for each in reversed(node.elts)]
        elif node is not None:
            yield node


def _parsed(text: str, line: int) -> ast.expr | None:
    """Parse a quoted annotation; its nodes are on the line of the quote."""
    if len(text) > LONGEST_QUOTED:
        return None
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for part in ast.walk(expression):
        if isinstance(part, ast.expr):
            part.lineno = line
    return expression
