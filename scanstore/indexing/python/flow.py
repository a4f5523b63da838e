"""The bindings of a local variable that may hold at a place.

These are reaching definitions (Aho, Lam, Sethi, Ullman: *Compilers*, 2nd edition, section 9.2.4), computed over
Python's nested statements.

It is asked only for variables of a function whose bindings disagree, such as ``t = A(); t.a(); t = B(); t.b()``.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from scanstore.indexing.python.source import CHILDREN, children_of

MOST_NAMES = 40  # of one function
MOST_BINDINGS = 16  # that may hold at one place
_TOO_MANY = frozenset((-1,))

Function = ast.FunctionDef | ast.AsyncFunctionDef
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
#: Nodes whose children are not read.
_LEAVES = frozenset((*_NESTED, ast.Constant, ast.Name, ast.Global, ast.Nonlocal, ast.Import, ast.ImportFrom))
_BINDING = frozenset(
    (ast.Assign, ast.NamedExpr, ast.For, ast.AsyncFor, ast.With, ast.AsyncWith, ast.ExceptHandler, ast.MatchAs)
    + (ast.MatchStar, ast.MatchMapping)
)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_PARAMETERS = frozenset(("param", "params", "kwparams", "self"))
_OTHERS = frozenset(("def", "class", "import", "annotated"))

_Target = ast.expr | ast.excepthandler | ast.pattern
_Node = ast.stmt | ast.expr | ast.excepthandler | ast.pattern
_Place = tuple[int, int]

#: The numbers of the bindings that may hold, by name. None: this place is not reached.
State = dict[str, frozenset[int]]


_S = TypeVar("_S")  # a scope


class Flow(Generic[_S]):
    """What may hold at each place of one function."""

    def __init__(self, node: Function, binds: Mapping[str, list[tuple[str, object, _S]]], scope: _S) -> None:
        self.bindings: list[tuple[str, object, _S]] = []
        self.named: list[str] = []  # by the number of a binding
        self.reaching: dict[int, frozenset[int]] = {}  # by the identity of the node of a name
        self.paths: dict[int, str | None] = {}  # by the number of a binding, as far as they are known
        self.inline: set[int] = set()  # bindings inside expressions, by ``:=``
        self.active: set[int] = set()  # bindings whose paths are being found
        self.breaks: list[list[State | None]] = []
        self.continues: list[list[State | None]] = []
        # The names that are read (number None), and the bindings, in the order of the text.
        self.places: list[tuple[int, int]] = []
        self.events: list[tuple[ast.AST, int | None]] = []
        start = self._number(node, binds, scope)
        if self.events:
            self._block(node.body, start)

    def _number(self, node: Function, binds: Mapping[str, list[tuple[str, object, _S]]], scope: _S) -> State:
        """Number the bindings of the names to look at. Return what holds at the start of the function."""
        wanted = {
            name
            for name, bound_to in binds.items()
            if len(bound_to) > 1 and not any(kind in _OTHERS for kind, _, _ in bound_to)
        }
        read: list[ast.Name] = []
        bound: list[tuple[_Target, str, str, object]] = []
        inline: set[int] = set()
        for each in _nodes(node.body):
            if type(each) is not ast.Name:
                bound += [item for item in _bound(each) if item[1] in wanted]
                if type(each) is ast.NamedExpr:
                    inline.add(id(each.target))
            elif each.id in wanted and type(each.ctx) is ast.Load:
                read.append(each)
        counts = Counter(name for _, name, _, _ in bound)
        given = [name for name in wanted if binds[name][0][0] in _PARAMETERS]
        counts.update(given)
        # Otherwise it is also bound elsewhere, such as in a function inside this one.
        tracked = {*sorted(name for name in wanted if counts[name] == len(binds[name]))[:MOST_NAMES]}
        start: State = {name: self._new(name, binds[name][0]) for name in sorted(tracked.intersection(given))}
        found: list[tuple[_Place, ast.AST, int | None]] = [
            ((each.lineno, each.col_offset), each, None) for each in read if each.id in tracked
        ]
        for target, name, kind, value in sorted(bound, key=lambda item: (item[0].lineno, item[0].col_offset)):
            if name in tracked:
                found.append(((target.lineno, target.col_offset), target, len(self.named)))
                if id(target) in inline:
                    self.inline.add(len(self.named))
                self._new(name, (kind, value, scope))
        found.sort(key=lambda event: event[0])
        self.places = [place for place, _, _ in found]
        self.events = [(each, number) for _, each, number in found]
        return start

    def _new(self, name: str, binding: tuple[str, object, _S]) -> frozenset[int]:
        self.bindings.append(binding)
        self.named.append(name)
        return frozenset((len(self.named) - 1,))

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
                self._expressions(item.context_expr, item.optional_vars or item.context_expr, state)
            return self._block(node.body, state)
        if isinstance(node, ast.Match):
            self._expressions(node.subject, node.subject, state)
            after: State | None = state
            for case in node.cases:
                inner = dict(state)
                self._expressions(case.pattern, case.guard or case.pattern, inner)
                after = _joined(after, self._block(case.body, inner))
            return after
        if isinstance(node, _NESTED):
            return state
        self._expressions(node, node, state)
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
            self._expressions(node.test, node.test, state)
            after = _joined(after, self._block(node.body, dict(state)))
            if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
                node = node.orelse[0]
                continue
            return _joined(after, self._block(node.orelse, state))

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, state: State) -> State | None:
        if not isinstance(node, ast.While):
            self._expressions(node.iter, node.iter, state)
        before = dict(state)
        state = self._with_all(state, node)
        if isinstance(node, ast.While):
            self._expressions(node.test, node.test, state)
        else:
            self._expressions(node.target, node.target, state)
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
                self._expressions(handler, handler.type, inner)
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

    def _range(self, first: _Node, last: _Node) -> range:
        begin = bisect_left(self.places, (first.lineno, first.col_offset))
        return range(begin, bisect_left(self.places, (last.end_lineno or last.lineno, last.end_col_offset or 0)))

    def _within(self, nodes: Sequence[ast.stmt]) -> dict[str, frozenset[int]]:
        """Return all bindings inside statements that follow each other, by name."""
        found: dict[str, set[int]] = {}
        for place in self._range(nodes[0], nodes[-1]) if nodes else ():
            number = self.events[place][1]
            if number is not None:
                found.setdefault(self.named[number], set()).add(number)
        return {name: frozenset(numbers) for name, numbers in found.items()}

    # -- expressions -------------------------------------------------------------------------------------------------

    def _expressions(self, first: _Node, last: _Node, state: State) -> None:
        """Note what holds at each name that is read, then bind the names that are bound."""
        bound: list[int] = []
        for place in self._range(first, last):
            node, number = self.events[place]
            if number is not None:
                bound.append(number)
                if number in self.inline:  # what follows in the expression may see it
                    name = self.named[number]
                    state[name] = _both(state.get(name, frozenset()), frozenset((number,)))
            elif isinstance(node, ast.Name):
                self.reaching[id(node)] = state.get(node.id, frozenset())
        for number in bound:
            state[self.named[number]] = frozenset((number,))


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


def _nodes(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Return the nodes below statements that may read or bind names, without functions and classes inside."""
    stack: list[ast.AST] = [*nodes]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is ast.Name or kind in _BINDING:
            yield node
        if kind in _LEAVES:
            continue
        for field in CHILDREN.get(kind) or children_of(kind):
            value = getattr(node, field)
            if type(value) is list:
                stack += [item for item in value if item is not None]
            elif isinstance(value, ast.AST):
                stack.append(value)


def _bound(node: ast.AST) -> Iterator[tuple[_Target, str, str, object]]:
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
