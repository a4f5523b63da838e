"""Which methods override which, over the classes of one scan.

A method overrides another if some class finds it first: both classes are in the method resolution order of that class,
and the other one is later. The order is that of Python for classes with consistent bases: depth first, from left to
right, a class before its bases. Only trusted references to base classes count. Constructors and private names
(``__x``) are left out, because no call through a base class reaches them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from scanstore.symbols.graph import INCOMING, OUTGOING, TRUSTED, packed

if TYPE_CHECKING:
    from scanstore.symbols.graph import Graph, Node

# The class around each node, and its own name.
CONTAINERS = """
SELECT w.value >> 24, w.value & 16777215, c.ordinal, m.text
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
        AND s.symbol_type IN ('method', 'variable')
  CROSS JOIN names AS m ON m.id = s.name_id
  CROSS JOIN names AS q ON q.id = s.qualified_name_id
  CROSS JOIN names AS o ON o.text = substr(q.text, 1, length(q.text) - length(m.text) - 1)
  CROSS JOIN symbol_facts AS c ON c.qualified_name_id = o.id AND c.version_id = s.version_id AND c.symbol_type = 'class'
        AND s.start_line BETWEEN c.start_line AND c.end_line
"""
# The members of classes, given as a JSON array of [version, ordinal, name].
MEMBERS = """
SELECT c.version_id, c.ordinal, w.value ->> 2, m.ordinal
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS c ON c.version_id = (w.value ->> 0) AND c.ordinal = (w.value ->> 1)
  CROSS JOIN names AS q ON q.id = c.qualified_name_id
  CROSS JOIN names AS o ON o.text = q.text || '.' || (w.value ->> 2)
  CROSS JOIN symbol_facts AS m ON m.qualified_name_id = o.id AND m.version_id = c.version_id
        AND m.symbol_type IN ('method', 'variable') AND m.start_line BETWEEN c.start_line AND c.end_line
"""
CONSTRUCTORS = frozenset(("__init__", "__new__", "__post_init__", "__init_subclass__"))


class Hierarchy:
    """The base classes and subclasses of classes, read when they are asked for."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.bases: dict[Node, list[Node]] = {}
        self.subclasses: dict[Node, list[Node]] = {}

    def load(self, classes: Iterable[Node]) -> None:
        """Read all subclasses of these classes, direct or not, and all base classes of any of them."""
        known = set(classes)
        frontier = [each for each in known if each not in self.subclasses]
        while frontier:
            self.subclasses.update((each, []) for each in frontier)
            for v, n, version, ordinal, _, resolution in self.graph.steps(INCOMING, frontier, ("inherit",)):
                if resolution in TRUSTED and ordinal is not None and (version, ordinal) != (v, n):
                    self.subclasses[v, n].append((version, ordinal))
            frontier = list({sub for each in frontier for sub in self.subclasses[each]} - self.subclasses.keys())
        frontier = [each for each in self.below(known) | known if each not in self.bases]
        while frontier:
            self.bases.update((each, []) for each in frontier)
            rows = self.graph.steps(OUTGOING, frontier, ("inherit",))
            rows.sort(key=lambda row: row[4])  # as written
            for v, n, version, ordinal, _, resolution in rows:
                if resolution in TRUSTED and ordinal is not None and (version, ordinal) != (v, n):
                    self.bases[v, n].append((version, ordinal))
            frontier = list({base for each in frontier for base in self.bases[each]} - self.bases.keys())

    def below(self, classes: Iterable[Node]) -> set[Node]:
        """Return the loaded subclasses of these classes, direct or not, without the classes themselves."""
        return _closure(classes, self.subclasses)

    def above(self, classes: Iterable[Node]) -> set[Node]:
        """Return the loaded base classes of these classes, direct or not."""
        return _closure(classes, self.bases)

    def order(self, start: Node) -> list[Node]:
        """Return a class and its base classes in the order in which names are looked up."""
        done: list[Node] = []
        seen = {start}
        stack = [(start, iter(self.bases.get(start, ())[::-1]))]
        while stack:
            node, rest = stack[-1]
            for base in rest:
                if base not in seen:
                    seen.add(base)
                    stack.append((base, iter(self.bases.get(base, ())[::-1])))
                    break
            else:
                done.append(node)
                stack.pop()
        return done[::-1]

    def overrides(self, nodes: Sequence[Node]) -> dict[Node, list[Node]]:
        """Return what each of these methods overrides, and what overrides it, sorted. Other symbols are left out."""
        places = {
            (v, n): ((v, owner), name)
            for v, n, owner, name in self.graph.db.execute_sql(CONTAINERS, (packed(nodes),)).fetchall()
            if name not in CONSTRUCTORS and not (name.startswith("__") and not name.endswith("__"))
        }
        self.load({owner for owner, _ in places.values()})
        related: dict[Node, tuple[set[Node], set[Node]]] = {}
        asked: set[tuple[int, int, str]] = set()
        for owner, name in places.values():
            if owner not in related:
                below = self.below((owner,))
                related[owner] = (below, self.above(below | {owner}) | below)
            asked.update((*each, name) for each in related[owner][1])
        members: dict[str, dict[Node, list[Node]]] = {}  # by name and class
        for v, n, name, member in self.graph.db.execute_sql(MEMBERS, (json.dumps(sorted(asked)),)).fetchall():
            members.setdefault(name, {}).setdefault((v, n), []).append((v, member))
        found = {}
        shared: dict[tuple[Node, str], list[Node]] = {}  # one list for all definitions of a name in a class
        for node, (owner, name) in places.items():
            if (owner, name) not in shared:
                defined = members.get(name, {})
                classes = self._related(owner, related[owner][0], defined.keys() | {owner})
                shared[owner, name] = sorted({m for c in classes if c != owner for m in defined.get(c, ())})
            found[node] = shared[owner, name]
        return {node: others for node, others in found.items() if others}

    def _related(self, owner: Node, below: set[Node], definers: set[Node]) -> set[Node]:
        """Return the classes whose member is overridden by that of ``owner``, or overrides it."""
        found = {each for each in self.order(owner) if each in definers}
        for each in below:
            if each in definers:
                found.add(each)
            elif len(self.bases.get(each, ())) > 1:
                order = [c for c in self.order(each) if c in definers]
                # A class with several bases may find another base's member first, or hide the other's by this one.
                found.update(order if order[:1] == [owner] else order[:1] if owner in order else ())
        return found


def _closure(start: Iterable[Node], links: dict[Node, list[Node]]) -> set[Node]:
    origin = set(start)
    seen: set[Node] = set()
    frontier = origin
    while frontier:
        frontier = {end for node in frontier for end in links.get(node, ())} - seen
        seen |= frontier
    return seen
