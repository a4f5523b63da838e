"""The bindings of a local variable that may hold at a place.

These are reaching definitions (Aho, Lam, Sethi, Ullman: *Compilers*, 2nd edition, section 9.2.4), computed over
Python's nested statements.

It is asked only for variables of a function whose bindings disagree, such as ``t = A(); t.a(); t = B(); t.b()``.
"""

from __future__ import annotations

import ast
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scanstore.indexing.python.scopes import Binding, NameScope

MOST_NAMES = 40  # of one function
MOST_BINDINGS = 16  # that may hold at one place
_TOO_MANY = frozenset((-1,))

Function = ast.FunctionDef | ast.AsyncFunctionDef
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_PARAMETERS = frozenset(("param", "params", "kwparams", "self"))
_OTHERS = frozenset(("def", "class", "import", "annotated"))

#: The numbers of the bindings that may hold, by name. None: this place is not reached.
State = dict[str, frozenset[int]]


class Flow:
    """What may hold at each place of one function."""

    def __init__(self, node: Function, scope: NameScope) -> None:
        self.bindings: list[Binding] = []
        self.reaching: dict[int, frozenset[int]] = {}  # by the identity of the node of a name
        self.paths: dict[int, str | None] = {}  # by binding, as far as they are known
        self.active: set[int] = set()  # bindings whose paths are being found
        self.numbers: dict[int, int] = {}  # by the identity of the node that binds
        self.places: list[tuple[int, int]] = []  # of the bindings
        self.breaks: list[list[State | None]] = []
        self.continues: list[list[State | None]] = []
        self.names = self._tracked(node, scope)
        if self.names:
            start = {name: frozenset((n,)) for n, name in enumerate(self._parameters) if name in self.names}
            self._block(node.body, start)

    def _tracked(self, node: Function, scope: NameScope) -> frozenset[str]:
        """Return the names to look at, and number their bindings in the order of the text."""
        wanted = [
            name
            for name, binds in scope.binds.items()
            if len(binds) > 1 and not any(kind in _OTHERS for kind, _, _ in binds)
        ][:MOST_NAMES]
        found: list[tuple[tuple[int, int], ast.expr | ast.excepthandler | ast.pattern, str, str, object]] = []
        for each in _nodes(node.body):
            for target, name, kind, value in _bound(each):
                found.append(((target.lineno, target.col_offset), target, name, kind, value))
        found.sort(key=lambda item: item[0])
        counts: dict[str, int] = {}
        for _, _, name, _, _ in found:
            counts[name] = counts.get(name, 0) + 1
        given = [name for name, binds in scope.binds.items() if binds[0][0] in _PARAMETERS]
        for name in given:
            counts[name] = counts.get(name, 0) + 1
        # Otherwise it is also bound elsewhere, such as in a function inside this one.
        tracked = frozenset(name for name in wanted if counts.get(name) == len(scope.binds[name]))
        self._parameters = [name for name in given if name in tracked]
        for name in self._parameters:
            self.bindings.append(scope.binds[name][0])
            self.places.append((0, 0))
        for place, target, name, kind, value in found:
            if name in tracked:
                self.numbers[id(target)] = len(self.bindings)
                self.bindings.append((kind, value, scope))
                self.places.append(place)
        self._named = dict(enumerate(self._parameters))
        for _, target, name, _, _ in found:
            if name in tracked:
                self._named[self.numbers[id(target)]] = name
        return tracked

    # -- statements --------------------------------------------------------------------------------------------------

    def _block(self, statements: Sequence[ast.stmt], state: State | None) -> State | None:
        for statement in statements:
            if state is None:
                return None
            state = self._statement(statement, state)
        return state

    def _statement(self, node: ast.stmt, state: State) -> State | None:
        if isinstance(node, ast.If):
            return self._if(node, state)
        if isinstance(node, _LOOPS):
            return self._loop(node, state)
        if isinstance(node, (ast.Try, ast.TryStar)):
            return self._try(node, state)
        if isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                self._expressions([item], state)
            return self._block(node.body, state)
        if isinstance(node, ast.Match):
            self._expressions([node.subject], state)
            after: State | None = state
            for case in node.cases:
                inner = dict(state)
                self._expressions([case.pattern, *([case.guard] if case.guard else ())], inner)
                after = _joined(after, self._block(case.body, inner))
            return after
        if isinstance(node, _NESTED):
            self._expressions([*node.decorator_list], state)
            return state
        self._expressions([node], state)
        if isinstance(node, (ast.Return, ast.Raise)):
            return None
        if isinstance(node, (ast.Break, ast.Continue)):
            stack = self.breaks if isinstance(node, ast.Break) else self.continues
            if stack:
                stack[-1].append(state)
            return None
        return state

    def _if(self, node: ast.If, state: State) -> State | None:
        """Follow all branches; ``elif`` is not nested, for chains of any length."""
        after: State | None = None
        while True:
            self._expressions([node.test], state)
            after = _joined(after, self._block(node.body, dict(state)))
            if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
                node = node.orelse[0]
                continue
            return _joined(after, self._block(node.orelse, state))

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, state: State) -> State | None:
        if not isinstance(node, ast.While):
            self._expressions([node.iter], state)
        before = dict(state)
        state = self._with_all(state, node)
        if isinstance(node, ast.While):
            self._expressions([node.test], state)
        else:
            self._expressions([node.target], state)
        self.breaks.append([])
        self.continues.append([])
        after = self._block(node.body, state)
        broken, continued = self.breaks.pop(), self.continues.pop()
        done: State | None = before
        for each in (after, *continued):
            done = _joined(done, each)
        done = self._block(node.orelse, done)
        for each in broken:
            done = _joined(done, each)
        return done

    def _try(self, node: ast.Try | ast.TryStar, state: State) -> State | None:
        before = dict(state)
        failed = self._with_all(before, *node.body)
        after = self._block(node.orelse, self._block(node.body, state))
        for handler in node.handlers:
            inner = dict(failed)
            if handler.type is not None:
                self._expressions([handler.type], inner)
            self._bind(handler, inner)
            after = _joined(after, self._block(handler.body, inner))
        if node.finalbody:
            # It also runs after an error, but what follows it does not.
            whole = self._with_all(before, node)
            self._block(node.finalbody, whole)
            if after is not None:
                self._rebind(node.finalbody, after)
        return after

    def _rebind(self, statements: Sequence[ast.stmt], state: State) -> None:
        """Add the bindings of statements that were followed already."""
        for name, numbers in self._within(statements).items():
            state[name] = _both(state.get(name, frozenset()), numbers)

    def _with_all(self, state: State, *nodes: ast.stmt) -> State:
        """Return a state in which any binding inside the nodes may hold too."""
        result = dict(state)
        for name, numbers in self._within(nodes).items():
            result[name] = _both(result.get(name, frozenset()), numbers)
        return result

    def _within(self, nodes: Sequence[ast.stmt]) -> dict[str, frozenset[int]]:
        found: dict[str, set[int]] = {}
        if nodes:
            first, last = nodes[0], nodes[-1]
            begin = bisect_left(self.places, (first.lineno, first.col_offset))
            end = bisect_right(self.places, (last.end_lineno or last.lineno, last.end_col_offset or 0))
            for number in range(begin, end):
                found.setdefault(self._named[number], set()).add(number)
        return {name: frozenset(numbers) for name, numbers in found.items()}

    # -- expressions -------------------------------------------------------------------------------------------------

    def _expressions(self, nodes: Collection[ast.AST], state: State) -> None:
        """Note what holds at each name that is read, then bind those that are bound."""
        bound: list[ast.AST] = []
        for node in _nodes(nodes):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                if node.id in self.names:
                    self.reaching[id(node)] = state.get(node.id, frozenset())
            elif isinstance(node, ast.NamedExpr):  # what follows in the same expression sees it too
                self.reaching_after(node, state)
            elif id(node) in self.numbers:
                bound.append(node)
        for node in bound:
            self._bind(node, state)

    def reaching_after(self, node: ast.NamedExpr, state: State) -> None:
        number = self.numbers.get(id(node.target))
        if number is not None:
            state[node.target.id] = _both(state.get(node.target.id, frozenset()), frozenset((number,)))

    def _bind(self, node: ast.AST, state: State) -> None:
        number = self.numbers.get(id(node))
        if number is not None:
            state[self._named[number]] = frozenset((number,))


def _both(one: frozenset[int], other: frozenset[int]) -> frozenset[int]:
    if one is other or not other:
        return one
    found = one | other
    return _TOO_MANY if len(found) > MOST_BINDINGS or -1 in found else found


def _joined(one: State | None, other: State | None) -> State | None:
    """Return what may hold after either of two ways."""
    if one is None or other is None:
        return other if one is None else one
    result = dict(one)
    for name, numbers in other.items():
        result[name] = _both(result.get(name, frozenset()), numbers)
    return result


def _nodes(nodes: Collection[ast.AST]) -> Iterator[ast.AST]:
    """Return nodes and all below them in the order of the text, without the bodies of functions and classes."""
    stack = [*reversed([*nodes])]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, _NESTED):
            stack.extend(reversed([*ast.iter_child_nodes(node)]))


def _bound(node: ast.AST) -> Iterator[tuple[ast.expr | ast.excepthandler | ast.pattern, str, str, object]]:
    """Return the names that a node binds itself: the binding node, the name, the kind and the value."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _targets(target, "assign", node.value)
    elif isinstance(node, ast.NamedExpr):
        yield node.target, node.target.id, "assign", node.value
    elif isinstance(node, (ast.For, ast.AsyncFor)):
        yield from _targets(node.target, "iterate", node.iter)
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            if item.optional_vars is not None:
                kind = "enter" if isinstance(node, ast.With) else "aenter"
                yield from _targets(item.optional_vars, kind, item.context_expr)
    elif isinstance(node, ast.ExceptHandler):
        if node.name:
            yield node, node.name, "except", node.type
    elif isinstance(node, (ast.MatchAs, ast.MatchStar)):
        if node.name:
            yield node, node.name, "other", None
    elif isinstance(node, ast.MatchMapping):
        if node.rest:
            yield node, node.rest, "other", None


def _targets(target: ast.expr, kind: str, value: object) -> Iterator[tuple[ast.expr, str, str, object]]:
    stack: list[tuple[ast.expr, str, object]] = [(target, kind, value)]
    while stack:
        target, kind, value = stack.pop()
        if isinstance(target, ast.Name):
            yield target, target.id, kind, value
        elif isinstance(target, ast.Starred):
            stack.append((target.value, "other", None))
        elif isinstance(target, (ast.Tuple, ast.List)):
            pairs = value.elts if kind == "assign" and isinstance(value, (ast.Tuple, ast.List)) else []
            starred = False
            for place, item in enumerate(target.elts):
                starred = starred or isinstance(item, ast.Starred)
                if len(pairs) == len(target.elts):
                    stack.append((item, "assign", pairs[place]))
                elif starred or value is None:
                    stack.append((item, "other", None))
                else:
                    stack.append((item, "unpack", (value, place, kind)))
