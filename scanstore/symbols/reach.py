"""Searching the references of a scan breadth first: which symbols are reached from one, nearest first, and how.

Several definitions of one name in a file are one symbol here: the signatures of an overloaded function, the getter and
setter of a property, and the definitions in the branches of an ``if`` or ``try``. A function that is registered with
``singledispatch`` belongs to the dispatching one.

A reference in the head of a definition (its decorators, defaults and annotations) is in the scope around it. ``heads``
assigns it to the defined symbol, which depends on it. This needs no guess: no other code of that scope can be on the
lines of a definition, and its decorators are found by their calls.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.view_keys import join
from scanstore.symbols.graph import INCOMING, OUTGOING, TRUSTED, Graph, Node, Reached, packed
from scanstore.symbols.overrides import Hierarchy

if TYPE_CHECKING:
    from scanstore.db.words import ReachedBy, SymbolType

LINKS: tuple[ReachedBy, ...] = ("call", "import", "inherit", "use", "constructor", "override", "fixture", "setup")

DETAILS = """
SELECT w.value >> 24, w.value & 16777215, f.id, n.text, q.text, s.symbol_type, f.file_path, s.start_line, s.end_line
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
  CROSS JOIN scan_files AS f ON f.version_id = (w.value >> 24) AND f.scan_id = {scan}
  CROSS JOIN names AS n ON n.id = s.name_id CROSS JOIN names AS q ON q.id = s.qualified_name_id
"""
OWNERS = """
SELECT w.value >> 24, w.value & 16777215, c.ordinal
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
  CROSS JOIN names AS m ON m.id = s.name_id AND m.text IN ('__init__', '__new__', '__post_init__')
  CROSS JOIN names AS q ON q.id = s.qualified_name_id
  CROSS JOIN names AS o ON o.text = substr(q.text, 1, length(q.text) - length(m.text) - 1)
  CROSS JOIN symbol_facts AS c ON c.qualified_name_id = o.id AND c.version_id = s.version_id AND c.symbol_type = 'class'
"""
# Other definitions of the same name in the same file.
PEERS = """
SELECT s.version_id, s.ordinal, p.ordinal
  FROM (SELECT s.version_id, min(s.ordinal) AS ordinal, s.qualified_name_id
          FROM json_each(?1) AS w
          CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
          CROSS JOIN names AS n ON n.id = s.name_id AND n.text <> '_'
         GROUP BY s.version_id, s.qualified_name_id) AS s
  CROSS JOIN symbol_facts AS p ON p.qualified_name_id = s.qualified_name_id AND p.version_id = s.version_id
        AND p.ordinal <> s.ordinal AND p.symbol_type <> 'module'
"""
# The decorators of functions that are registered somewhere: `@serialize.register`.
REGISTERED = """
SELECT s.version_id, s.ordinal, s.start_line, s.metadata ->> '$.decorators'
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
 WHERE s.metadata LIKE '%.register%'
"""
# Dispatching functions of these names above these lines: ?1 a JSON array of [version, line, name, ordinal].
DISPATCHERS = """
SELECT w.value ->> 0, w.value ->> 3, s.version_id, s.ordinal
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value ->> 0)
  CROSS JOIN names AS n ON n.id = s.name_id AND n.text = (w.value ->> 2)
 WHERE s.start_line < (w.value ->> 1) AND s.metadata LIKE '%singledispatch%'
"""
# The lines of references, and the types of the symbols around them.
LINES = """
SELECT r.version_id, r.ordinal, r.line, r.reference_type, s.symbol_type
  FROM json_each(?1) AS w
  CROSS JOIN reference_facts AS r ON r.version_id = (w.value >> 24) AND r.ordinal = (w.value & 16777215)
  LEFT JOIN symbol_facts AS s ON s.version_id = r.version_id AND s.ordinal = r.from_ordinal
"""
DEFINITIONS = """
SELECT s.ordinal, q.text, s.start_line, s.end_line, s.symbol_type, s.metadata ->> '$.decorators'
  FROM symbol_facts AS s CROSS JOIN names AS q ON q.id = s.qualified_name_id
 WHERE s.version_id = ? AND s.symbol_type IN ('module', 'class', 'function', 'method') ORDER BY s.start_line, s.ordinal
"""
CALLS_OF_SCOPE = """
SELECT r.line, n.text FROM reference_facts AS r CROSS JOIN names AS n ON n.id = r.name_id
 WHERE r.version_id = ? AND r.from_ordinal = ? AND r.reference_type = 'call' ORDER BY r.line
"""


class Way(NamedTuple):
    """How a node was reached: over which link, from which node, and by which references."""

    distance: int
    exact: bool
    link: ReachedBy
    origin: Node | None = None
    line: int | None = None
    references: int = 0


class FoundLink(NamedTuple):
    """A connection that no reference records, such as that of a fixture: from a node of the frontier to another one."""

    source: Node
    node: Node
    link: ReachedBy
    exact: bool
    line: int | None = None


class _Definition(NamedTuple):
    ordinal: int
    start: int
    end: int
    decorators: list[str]


class Heads:
    """The symbols whose heads contain given lines of files."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._scopes: dict[int, dict[int, list[_Definition]]] = {}
        self._calls: dict[Node, list[tuple[int, str]]] = {}

    def owner(self, scope: Node, line: int) -> int | None:
        """Return the symbol directly inside a scope whose head contains a line; None if the scope itself does."""
        version, ordinal = scope
        if version not in self._scopes:
            self._scopes[version] = self._read(version)
        inside = self._scopes[version].get(ordinal, [])
        place = bisect_right(inside, line, key=lambda each: each.start)
        if place and inside[place - 1].end >= line:
            return inside[place - 1].ordinal
        following = inside[place : place + 1]
        last = inside[place - 1].end if place else 0
        if following and following[0].decorators and self._first_line(scope, following[0], last) <= line:
            return following[0].ordinal
        return None

    def _read(self, version: int) -> dict[int, list[_Definition]]:
        scopes: dict[int, list[_Definition]] = {}
        rows = self.graph.db.execute_sql(DEFINITIONS, (version,)).fetchall()
        places: dict[str, list[tuple[int, int, int]]] = {}
        for ordinal, name, start, end, kind, _ in rows:
            if kind in ("module", "class"):
                places.setdefault(name, []).append((start, end, ordinal))
        for ordinal, name, start, end, kind, decorators in rows:
            if kind != "module":
                for first, last, scope in places.get(name.rpartition(".")[0], places.get("", ())):
                    if first <= start <= last and scope != ordinal:
                        made = _Definition(ordinal, start, end, json.loads(decorators) if decorators else [])
                        scopes.setdefault(scope, []).append(made)
        return scopes

    def _first_line(self, scope: Node, definition: _Definition, after: int) -> int:
        """Return the line of the first decorator of a definition that is known by its call, after a line."""
        if scope not in self._calls:
            self._calls[scope] = self.graph.db.execute_sql(CALLS_OF_SCOPE, scope).fetchall()
        calls = self._calls[scope]
        first = definition.start
        for text in reversed(definition.decorators):
            head = str(text).partition("(")[0].strip()
            place = bisect_right(calls, first - 1, key=lambda call: call[0])
            while place and calls[place - 1][0] > after and calls[place - 1][1] != head:
                place -= 1
            if not place or calls[place - 1][0] <= after:
                break
            first = calls[place - 1][0]
        return first


class ReferenceSearch:
    """A search from a symbol. The options say which links it follows besides the references of ``kinds``.

    ``constructors`` goes from a constructor to its class, ``heads`` assigns the head of a definition to it, and
    ``overrides`` follows overridden and overriding methods: as results (``"listed"``), or only for what refers to them
    (``"followed"``). ``more`` finds further links, and a node for which ``ends`` is true is not searched further.
    """

    def __init__(
        self,
        graph: Graph,
        sql: str,
        kinds: Sequence[str],
        *,
        guesses: bool,
        constructors: bool = False,
        heads: bool = False,
        overrides: str = "",
        more: Callable[[Sequence[Node]], Iterable[FoundLink]] | None = None,
        ends: Callable[[Sequence[Node]], set[Node]] | None = None,
    ) -> None:
        self.graph, self.sql, self.kinds, self.guesses = graph, sql, kinds, guesses
        self.constructors, self.overrides = constructors, overrides
        self.more, self.ends = more, ends
        self.heads = Heads(graph) if heads else None
        self.hierarchy = Hierarchy(graph)
        self.found: dict[Node, Way] = {}
        self._by: dict[Node, Way] = {}  # every node that was reached, also those that are not listed
        self._overridable: set[Node] = set()  # reached by a reference, so that their overrides matter

    def run(self, start: Node, depth: int | None) -> dict[Node, Way]:
        """Return the reached nodes, and how each was reached."""
        self._by[start] = Way(0, True, "call")
        group = self._peers([start])
        self._by.update((node, Way(0, True, "call", start)) for node, _ in group)
        frontier = [start, *(node for node, _ in group)]
        self._overridable.update(frontier)
        distance = 0
        while frontier and (depth is None or distance < depth):
            distance += 1
            frontier = self._step(frontier, distance)
        return self.found

    def path(self, node: Node) -> list[Node]:
        """Return the nodes from one that was reached to the start."""
        path = [node]
        while (origin := self._by[path[-1]].origin) is not None:
            path.append(origin)
        return path

    def details(self, nodes: Iterable[Node] | None = None) -> list[Reached]:
        """Return rows for these nodes (default: all that were reached), nearest first."""
        found = self.found if nodes is None else {node: self.found[node] for node in nodes}
        names = described(self.graph, {*found, *(way.origin for way in found.values() if way.origin is not None)})
        rows = []
        for node, (distance, exact, link, origin, line, references) in found.items():
            if node in names:
                through = names[origin][2] if origin in names else None
                rows.append(Reached(*names[node], distance, exact, link, line, references, through))
        rows.sort(key=lambda r: (r.distance, r.file_path, r.start_line, r.id))
        return rows

    def _step(self, frontier: list[Node], distance: int) -> list[Node]:
        sources = list(frontier)
        reached: list[Node] = []
        if self.constructors:
            for v, n, owner in self.graph.db.execute_sql(OWNERS, (packed(frontier),)).fetchall():
                if (v, owner) not in self._by:
                    self._list((v, owner), Way(distance - 1 or 1, self._by[v, n].exact, "constructor", (v, n)))
                    sources.append((v, owner))
        if self.overrides:
            asked = [node for node in frontier if node in self._overridable]
            done: set[int] = set()
            for node, others in self.hierarchy.overrides(asked).items():
                if id(others) in done:
                    continue
                done.add(id(others))
                for other in others:
                    if other in self._by:
                        continue
                    way = Way(distance, self._by[node].exact, "override", node)
                    if self.overrides == "listed":
                        self._list(other, way)
                        reached.append(other)
                    else:
                        self._by[other] = way
                        sources.append(other)
        for node, way in self._referring(sources, distance):
            if node in self._by:
                if self._by[node].link == "override" and node not in self._overridable:
                    self._overridable.add(node)
                    reached.append(node)
                    if node not in self.found:
                        self._list(node, way)
                continue
            self._list(node, way)
            self._overridable.add(node)
            reached.append(node)
        for link in () if self.more is None else self.more(sources):
            sure = link.exact and self._by[link.source].exact
            if link.node not in self._by and (sure or self.guesses):
                number = int(link.line is not None)
                self._list(link.node, Way(distance, sure, link.link, link.source, link.line, number))
                reached.append(link.node)
        if self.ends is not None and reached:
            last = self.ends(reached)
            reached = [node for node in reached if node not in last]
        for node, peer in self._peers(reached):
            if node not in self._by:
                self._by[node] = self._by[peer]._replace(origin=peer)
                reached.append(node)
        return reached

    def _list(self, node: Node, way: Way) -> None:
        self._by[node] = self.found[node] = way

    def _referring(self, sources: Sequence[Node], distance: int) -> Iterator[tuple[Node, Way]]:
        """Yield the nodes that refer to one of the sources, or to which they refer, each once."""
        incoming = self.sql != OUTGOING
        rows = []
        for v, n, version, ordinal, reference, resolution in self.graph.steps(self.sql, sources, self.kinds):
            if ordinal is not None and (resolution in TRUSTED or self.guesses):  # None: code outside all symbols
                sure = resolution in TRUSTED and self._by[v, n].exact
                rows.append(((v, n), (version, ordinal), (version if incoming else v, reference), sure))
        lines: dict[Node, tuple[int, ReachedBy, SymbolType | None]] = {}
        asked = {where for _, node, where, _ in rows if self.heads is not None or node not in self.found}
        for v, n, line, kind, around in self.graph.db.execute_sql(LINES, (packed(sorted(asked)),)).fetchall():
            lines[v, n] = (line, kind, around)
        ways: dict[Node, list[tuple[bool, int, ReachedBy, Node, Node]]] = {}
        for source, node, where, sure in rows:
            if where not in lines:
                continue
            line, kind, around = lines[where]
            if self.heads is not None and kind != "inherit" and around in ("module", "class"):
                owner = self.heads.owner(node, line)
                if owner is not None:
                    node = (node[0], owner)
            if node != source:
                ways.setdefault(node, []).append((not sure, line, kind, source, where))
        for node, found in ways.items():
            found.sort()
            unsure, line, kind, source, _ = found[0]
            number = len({where for guess, _, _, _, where in found if guess == unsure})
            yield node, Way(distance, not unsure, kind, source, line, number)

    def _peers(self, nodes: Sequence[Node]) -> list[tuple[Node, Node]]:
        return same_symbol(self.graph, nodes, dispatched=self.sql == INCOMING)


def same_symbol(graph: Graph, nodes: Sequence[Node], *, dispatched: bool = True) -> list[tuple[Node, Node]]:
    """Return pairs of a node that counts as the same symbol, and the given node."""
    found = [((v, peer), (v, n)) for v, n, peer in graph.db.execute_sql(PEERS, (packed(nodes),)).fetchall()]
    return [*found, *_dispatchers(graph, nodes)] if dispatched else found


def _dispatchers(graph: Graph, nodes: Sequence[Node]) -> list[tuple[Node, Node]]:
    """Return pairs of a dispatching function of the same file and a function that is registered with it."""
    asked = []
    for v, n, line, decorators in graph.db.execute_sql(REGISTERED, (packed(nodes),)).fetchall():
        for text in json.loads(decorators) if decorators else ():
            name, dot, rest = str(text).partition("(")[0].rpartition(".")
            if dot and rest == "register":
                asked.append((v, line, name.rpartition(".")[2], n))
    if not asked:
        return []
    rows = graph.db.execute_sql(DISPATCHERS, (json.dumps(asked),)).fetchall()
    return [((v, found), (v, n)) for v, n, _, found in rows]


def described(graph: Graph, nodes: Iterable[Node]) -> dict[Node, tuple[int, str, str, SymbolType, str, int, int]]:
    """Return the columns of :class:`Reached` for nodes: id, name, qualified name, type, file and lines."""
    rows = graph.db.execute_sql(DETAILS.format(scan=graph.scan), (packed(list(nodes)),)).fetchall()
    return {(v, n): (join(file_id, n), *rest) for v, n, file_id, *rest in rows}
