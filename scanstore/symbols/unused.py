"""Symbols that seem unused: no reference resolves to them, and no file mentions their name."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable

from scanstore.db.database import Database
from scanstore.db.view_keys import join
from scanstore.indexing.facts import unpack_words
from scanstore.indexing.languages import CTAGS, REFERENCES, coverage, language_of
from scanstore.snapshots.figures import groups
from scanstore.symbols.frameworks import Patterns, called_by_framework
from scanstore.symbols.graph import Graph, Node, packed
from scanstore.symbols.overrides import Hierarchy

# Decorators that do not register the function elsewhere.
_KEEPING = frozenset(
    "property staticmethod classmethod abstractmethod cached_property overload override final cache lru_cache"
    " contextmanager asynccontextmanager wraps dataclass total_ordering".split()
)

CANDIDATES = """
SELECT f.id, s.version_id, s.ordinal, n.text, q.text, s.symbol_type, s.metadata, f.file_path
  FROM scan_files AS f
  JOIN file_versions AS v ON v.id = f.version_id AND v.error IS NULL AND v.indexer NOT LIKE '{ctags}%'
  JOIN symbol_facts AS s ON s.version_id = f.version_id
  JOIN names AS n ON n.id = s.name_id JOIN names AS q ON q.id = s.qualified_name_id
 WHERE f.scan_id = {scan} AND s.symbol_type IN ({kinds}) AND f.file_path NOT LIKE '%.pyi'
   AND NOT EXISTS (SELECT 1 FROM reference_facts AS r WHERE r.version_id = s.version_id AND r.symbol_ordinal = s.ordinal
                      AND r.from_ordinal IS NOT s.ordinal)
   AND NOT EXISTS (SELECT 1 FROM bindings AS b WHERE b.version_id = s.version_id AND b.ordinal = s.ordinal AND {valid})
"""
MENTIONS = """
SELECT v.mentions FROM scan_files AS f JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = {scan} AND v.mentions IS NOT NULL
"""
# Calls of unknown objects: every symbol with their last name may be the target.
OPEN_CALLS = """
SELECT DISTINCT n.text FROM scan_files AS f
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id AND r.symbol_ordinal IS NULL
  JOIN names AS n ON n.id = r.name_id
 WHERE f.scan_id = {scan}
   AND NOT EXISTS (SELECT 1 FROM bindings AS b WHERE b.path_id = r.path_id AND {valid} AND b.ordinal IS NOT NULL)
"""
# Base classes as written, of each class.
BASES = """
SELECT s.version_id, s.ordinal, q.text, n.text FROM scan_files AS f
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id AND r.reference_type = 'inherit'
  JOIN symbol_facts AS s ON s.version_id = r.version_id AND s.ordinal = r.from_ordinal
  JOIN names AS q ON q.id = s.qualified_name_id
  JOIN names AS n ON n.id = r.name_id
 WHERE f.scan_id = {scan}
"""
# Those that are classes: a variable may hold a class from outside the tree.
REAL = """
SELECT s.version_id, s.ordinal
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
        AND s.symbol_type = 'class'
"""
# Other definitions of the same name in the same file that are used: ?1 versions and ordinals.
USED_PEERS = """
SELECT s.version_id, s.ordinal
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
 WHERE EXISTS (
   SELECT 1 FROM symbol_facts AS p
    WHERE p.qualified_name_id = s.qualified_name_id AND p.version_id = s.version_id AND p.ordinal <> s.ordinal
      AND p.symbol_type <> 'module'
      AND (EXISTS (SELECT 1 FROM reference_facts AS r WHERE r.version_id = p.version_id
                      AND r.symbol_ordinal = p.ordinal AND r.from_ordinal IS NOT p.ordinal
                      AND r.from_ordinal IS NOT s.ordinal)
        OR EXISTS (SELECT 1 FROM bindings AS b WHERE b.version_id = p.version_id AND b.ordinal = p.ordinal AND {valid}))
 )
"""


def unreferenced(db: Database, graph: Graph, kinds: set[str], ignore: Iterable[str] = ()) -> list[int]:
    """Return the ids of the symbols of these types that seem unused, without names that match ``ignore``."""
    options = {
        "scan": graph.scan,
        "valid": graph.valid,
        "kinds": ", ".join(f"'{kind}'" for kind in sorted(kinds)),
        "ctags": CTAGS,
    }
    # Only files with recorded references can prove that a symbol is unused.
    able = {row.language for row in coverage(groups(db, graph.scan)) if REFERENCES in row.recorded}
    used: set[str] = set()
    for (blob,) in db.execute_sql(MENTIONS.format(**options)):
        used.update(unpack_words(blob))
    for (written,) in db.execute_sql(OPEN_CALLS.format(**options)):
        used.add(written.rpartition(".")[2])
    classes = _Classes(graph, db.execute_sql(BASES.format(**options)).fetchall())
    ignored = Patterns(ignore)
    found: dict[Node, int] = {}
    inherited: list[Node] = []
    rows = db.execute_sql(CANDIDATES.format(**options)).fetchall()
    for file_id, version, ordinal, name, qualified, kind, metadata, path in rows:
        if language_of(path) not in able or name in used or name == "_" or ignored(name) or ignored(qualified):
            continue
        around = (version, qualified.rpartition(".")[0])
        if kind == "method" and not classes.known(around):
            continue  # it may override a method of a base class and be called through it
        if called_by_framework(name, kind, classes.written(around)):
            continue
        file = path.rpartition("/")[2]
        if name.lower().startswith("test") or file.startswith(("test_", "conftest.")) or file.endswith("_test.py"):
            continue
        decorators = json.loads(metadata).get("decorators", []) if metadata else []
        if any(d.partition("(")[0].rpartition(".")[2] not in _KEEPING for d in decorators):
            continue
        found[version, ordinal] = join(file_id, ordinal)
        if kind in ("method", "variable"):
            inherited.append((version, ordinal))
    for node in db.execute_sql(USED_PEERS.format(**options), (packed(list(found)),)).fetchall():
        del found[node]
    related = classes.hierarchy.overrides([node for node in inherited if node in found])
    # A method is used if one that it overrides, or that overrides it, is used.
    waiting = [node for node, others in related.items() if any(each not in found for each in others)]
    done: set[int] = set()
    while waiting:
        node = waiting.pop()
        if found.pop(node, None) is not None and id(related[node]) not in done:
            done.add(id(related[node]))
            waiting += [each for each in related[node] if each in related]
    # Several definitions of one name in a file are one symbol: the last one.
    last: dict[tuple[int, str], Node] = {}
    for _, version, ordinal, _, qualified, *_ in rows:
        if (version, ordinal) in found:
            last[version, qualified] = max((version, ordinal), last.get((version, qualified), (0, 0)))
    return [found[node] for node in last.values()]


#: Base classes outside the tree that call no methods of their subclasses by name.
_NEUTRAL = frozenset(
    {"object", "ABC", "Generic", "Protocol", "NamedTuple", "TypedDict"}
    | {name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, BaseException)}
)


class _Classes:
    """The classes of a scan: which of them have bases that are not known."""

    def __init__(self, graph: Graph, rows: Iterable[tuple[int, int, str, str]]) -> None:
        self.hierarchy = Hierarchy(graph)
        self._bases: dict[Node, list[str]] = {}
        self._nodes: dict[tuple[int, str], list[Node]] = {}
        for version, ordinal, qualified, written in rows:
            self._bases.setdefault((version, ordinal), []).append(written)
            nodes = self._nodes.setdefault((version, qualified), [])
            if (version, ordinal) not in nodes:
                nodes.append((version, ordinal))
        self.hierarchy.load(self._bases)
        bases = {base for found in self.hierarchy.bases.values() for base in found}
        self._real = set(graph.db.execute_sql(REAL, (packed(sorted(bases)),)).fetchall())

    def written(self, place: tuple[int, str]) -> set[str]:
        """Return the names of the base classes of a class, direct or not, as written."""
        nodes = set(self._nodes.get(place, ()))
        return {base for each in nodes | self.hierarchy.above(nodes) for base in self._bases.get(each, ())}

    def known(self, place: tuple[int, str]) -> bool:
        """Whether every base class of a class, direct or not, is in the tree or calls nothing by name."""
        nodes = set(self._nodes.get(place, ()))
        for each in nodes | self.hierarchy.above(nodes):
            written = self._bases.get(each, ())
            outside = [base for base in written if base.rpartition(".")[2] not in _NEUTRAL]
            if len(outside) > len(self._real.intersection(self.hierarchy.bases.get(each, ()))):
                return False
        return True
