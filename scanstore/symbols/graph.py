"""Queries that follow references, as SQL over the tables of facts.

A node is ``(version id, ordinal)`` inside one scan; statements take nodes as a JSON array of such pairs, each packed
into one integer like an id. One step finds the neighbours of a whole frontier at once. CROSS JOIN makes SQLite join in
the written order, so every statement uses indexes from the frontier outwards, independent of the planner's estimates.
The tests check the query plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

from scanstore.db.database import Database
from scanstore.db.notebooks import described
from scanstore.db.view_keys import join
from scanstore.errors import InvalidArgument, shown
from scanstore.snapshots.names import CANDIDATES

if TYPE_CHECKING:
    from scanstore.db.words import ReachedBy, ReferenceType, Resolution, SymbolType
    from scanstore.snapshots.models import Scan

Node = tuple[int, int]

TRUSTED = ("exact", "imported", "inherited")

VALID = "b.lineage_id = {lineage} AND b.since <= {revision} AND (b.until IS NULL OR b.until > {revision})"

# References to the given nodes: inside their own file, then through bindings.
INCOMING = """
SELECT w.value >> 24, w.value & 16777215, r.version_id, r.from_ordinal, r.ordinal, r.resolution
  FROM json_each(?1) AS w
  CROSS JOIN reference_facts AS r ON r.version_id = (w.value >> 24) AND r.symbol_ordinal = (w.value & 16777215)
 WHERE r.reference_type IN ({kinds})
UNION ALL
SELECT w.value >> 24, w.value & 16777215, r.version_id, r.from_ordinal, r.ordinal, b.resolution
  FROM json_each(?1) AS w
  CROSS JOIN bindings AS b ON b.version_id = (w.value >> 24) AND b.ordinal = (w.value & 16777215) AND {valid}
  CROSS JOIN reference_facts AS r ON r.path_id = b.path_id
  CROSS JOIN scan_files AS f ON f.version_id = r.version_id AND f.scan_id = {scan}
 WHERE r.symbol_ordinal IS NULL AND r.reference_type IN ({kinds})
"""

# References from the given nodes.
OUTGOING = """
SELECT w.value >> 24, w.value & 16777215, r.version_id, r.symbol_ordinal, r.ordinal, r.resolution
  FROM json_each(?1) AS w
  CROSS JOIN reference_facts AS r ON r.version_id = (w.value >> 24) AND r.from_ordinal = (w.value & 16777215)
 WHERE r.symbol_ordinal IS NOT NULL AND r.reference_type IN ({kinds})
UNION ALL
SELECT w.value >> 24, w.value & 16777215, b.version_id, b.ordinal, r.ordinal, b.resolution
  FROM json_each(?1) AS w
  CROSS JOIN reference_facts AS r ON r.version_id = (w.value >> 24) AND r.from_ordinal = (w.value & 16777215)
  CROSS JOIN bindings AS b ON b.path_id = r.path_id AND {valid}
  CROSS JOIN scan_files AS f ON f.version_id = b.version_id AND f.scan_id = {scan}
 WHERE r.symbol_ordinal IS NULL AND b.ordinal IS NOT NULL AND r.reference_type IN ({kinds})
"""

EDGES = """
SELECT f.file_path, r.line, o.text, r.reference_type, n.text,
       CASE WHEN r.symbol_ordinal IS NOT NULL OR r.path_id IS NULL THEN r.resolution
            WHEN b.path_id IS NULL THEN 'external'
            WHEN b.resolution = 'imported' AND b.version_id = r.version_id THEN 'exact' ELSE b.resolution END,
       CASE WHEN r.symbol_ordinal IS NOT NULL OR r.path_id IS NULL THEN r.confidence
            WHEN b.path_id IS NULL THEN 100 ELSE b.confidence END / 100.0,
       q.text, t.file_path, s.start_line
  FROM scan_files AS f
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id
  CROSS JOIN names AS n ON n.id = r.name_id
  LEFT JOIN symbol_facts AS w ON w.version_id = r.version_id AND w.ordinal = r.from_ordinal
  LEFT JOIN names AS o ON o.id = w.qualified_name_id
  LEFT JOIN bindings AS b ON r.symbol_ordinal IS NULL AND b.path_id = r.path_id AND {valid}
  LEFT JOIN scan_files AS t ON t.scan_id = f.scan_id
        AND t.version_id = CASE WHEN r.symbol_ordinal IS NULL THEN b.version_id ELSE r.version_id END
  LEFT JOIN symbol_facts AS s ON s.version_id = t.version_id AND s.ordinal = coalesce(r.symbol_ordinal, b.ordinal)
  LEFT JOIN names AS q ON q.id = s.qualified_name_id
 WHERE f.scan_id = {scan} AND r.reference_type IN ({kinds})
 ORDER BY f.file_path, r.line, r.ordinal, b.nth
"""


# A file imports another if a statement names its module, or imports the module from a package.
IMPORTS = """
SELECT DISTINCT f.file_path, t.file_path
  FROM scan_files AS f
  CROSS JOIN import_facts AS i ON i.version_id = f.version_id
  CROSS JOIN bindings AS b ON b.path_id = i.path_id AND {valid}
  CROSS JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
 WHERE f.scan_id = {scan} AND t.id <> f.id
UNION
SELECT f.file_path, t.file_path
  FROM scan_files AS f
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id AND r.reference_type = 'import'
  CROSS JOIN bindings AS b ON b.path_id = r.path_id AND b.ordinal = 0 AND {valid}
  CROSS JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
 WHERE f.scan_id = {scan} AND t.id <> f.id
 ORDER BY 1, 2
"""
IMPORTERS = """
SELECT f.file_path FROM bindings AS b
  CROSS JOIN import_facts AS i ON i.path_id = b.path_id
  CROSS JOIN scan_files AS f ON f.version_id = i.version_id AND f.scan_id = {scan}
 WHERE b.version_id = {version} AND {valid}
UNION
SELECT f.file_path FROM bindings AS b
  CROSS JOIN reference_facts AS r ON r.path_id = b.path_id AND r.reference_type = 'import'
  CROSS JOIN scan_files AS f ON f.version_id = r.version_id AND f.scan_id = {scan}
 WHERE b.version_id = {version} AND b.ordinal = 0 AND {valid}
 ORDER BY 1
"""


# Ids of symbols by name: ?1 the text, ?2 the scan, ?3 a type, ?4 a file, ?5 the limit, ?6 the offset, ?7 trigrams.
_BY_NAME = """
SELECT f.id << 24 | s.ordinal AS id, s.symbol_type, f.file_path, s.start_line
  FROM {names}
  CROSS JOIN symbol_facts AS s ON s.{column} = n.id
  CROSS JOIN scan_files AS f ON f.version_id = s.version_id AND f.scan_id = ?2
 WHERE {condition} AND (?3 IS NULL OR s.symbol_type = ?3) AND (?4 IS NULL OR f.file_path = ?4)
"""
_FOUND = """
SELECT id FROM ({found})
 ORDER BY instr('class,function,method,variable,module', symbol_type), file_path, start_line, id LIMIT ?5 OFFSET ?6
"""


def _finding(condition: str, *columns: str, names: str = "names AS n") -> str:
    parts = [_BY_NAME.format(column=column, condition=condition, names=names) for column in columns]
    return _FOUND.format(found=" UNION ".join(parts))


FIND = {
    "exact": _finding("n.text = ?1", "name_id", "qualified_name_id"),
    "prefix": _finding("n.text >= ?1 AND n.text < ?1 || char(1114111)", "name_id", "qualified_name_id"),
    "contains": _finding("instr(lower(n.text), lower(?1)) > 0", "qualified_name_id"),
}
CONTAINS = _finding(
    "instr(lower(n.text), lower(?1)) > 0",
    "qualified_name_id",
    names=f"({CANDIDATES}) AS m CROSS JOIN names AS n ON n.id = m.id",
)

# The columns of Symbol for given ids, and those of SymbolReference for a target: its id, version and ordinal.
SYMBOLS = """
SELECT f.id << 24 | s.ordinal AS id, f.scan_id, n.text AS name, q.text AS qualified_name, s.symbol_type,
       f.file_path, s.start_line, s.end_line, s.metadata, f.id AS file_id, s.ordinal
  FROM json_each(?1) AS w
  CROSS JOIN scan_files AS f ON f.id = (w.value >> 24)
  CROSS JOIN symbol_facts AS s ON s.version_id = f.version_id AND s.ordinal = (w.value & 16777215)
  CROSS JOIN names AS n ON n.id = s.name_id
  CROSS JOIN names AS q ON q.id = s.qualified_name_id
"""
REFERENCES = """
SELECT f.id << 24 | r.ordinal AS id, f.scan_id, ?1 AS symbol_id, f.file_path AS from_file, r.line AS from_line,
       f.id << 24 | r.from_ordinal AS from_symbol_id, r.reference_type, n.text AS name, r.resolution,
       r.confidence / 100.0 AS confidence, f.id AS file_id, r.ordinal, r.from_ordinal,
       ?1 >> 24 AS symbol_file_id, ?3 AS symbol_ordinal
  FROM reference_facts AS r
  CROSS JOIN scan_files AS f ON f.version_id = r.version_id AND f.scan_id = {scan}
  CROSS JOIN names AS n ON n.id = r.name_id
 WHERE r.version_id = ?2 AND r.symbol_ordinal = ?3
UNION ALL
SELECT f.id << 24 | r.ordinal, f.scan_id, ?1, f.file_path, r.line,
       f.id << 24 | r.from_ordinal, r.reference_type, n.text,
       CASE WHEN b.resolution = 'imported' AND b.version_id = r.version_id THEN 'exact' ELSE b.resolution END,
       b.confidence / 100.0, f.id, r.ordinal, r.from_ordinal, ?1 >> 24, ?3
  FROM bindings AS b
  CROSS JOIN reference_facts AS r ON r.path_id = b.path_id
  CROSS JOIN scan_files AS f ON f.version_id = r.version_id AND f.scan_id = {scan}
  CROSS JOIN names AS n ON n.id = r.name_id
 WHERE b.version_id = ?2 AND b.ordinal = ?3 AND {valid} AND r.symbol_ordinal IS NULL
"""


class Edge(NamedTuple):
    """One reference, or one of its targets: place, user, text, target and resolution (``confidence`` 0 to 1)."""

    from_file: str
    from_line: int
    from_symbol: str | None
    reference_type: ReferenceType
    name: str
    resolution: Resolution
    confidence: float
    target: str | None
    target_file: str | None
    target_line: int | None


@described
class Reached(NamedTuple):
    """A symbol found by following references; ``distance`` is their number, and ``exact`` means that none is a
    guess.

    ``link`` says what connects it with ``through``, the qualified name of the symbol one step nearer. ``line`` is that
    of the first such reference, and ``references`` their number. The line is in the file of the calling symbol: of this
    one, or of ``through`` for ``callees`` and ``bases``. Overrides and constructors have no line.
    """

    id: int
    name: str
    qualified_name: str
    symbol_type: SymbolType
    file_path: str
    start_line: int
    end_line: int
    distance: int
    exact: bool
    link: ReachedBy = "call"
    line: int | None = None
    references: int = 0
    through: str | None = None


class Graph:
    """The references of one completed scan."""

    def __init__(self, db: Database, scan: int, lineage: int, revision: int | None) -> None:
        self.db = db
        self.scan = scan
        self.valid = VALID.format(lineage=int(lineage), revision=int(revision or 0))

    @classmethod
    def of(cls, db: Database, scan: Scan) -> Self:
        """Return the graph of a scan, given as its row."""
        return cls(db, scan.id, scan.lineage_id, scan.revision)

    def steps(
        self, sql: str, nodes: Sequence[Node], kinds: Sequence[str]
    ) -> list[tuple[int, int, int, int | None, int, str]]:
        marks = ", ".join(f"'{kind}'" for kind in kinds)
        return self.db.execute_sql(
            sql.format(kinds=marks, valid=self.valid, scan=self.scan), (packed(nodes),)
        ).fetchall()

    def references(self) -> str:
        """Return the statement for the references of one symbol, with the columns of ``SymbolReference``."""
        return REFERENCES.format(scan=self.scan, valid=self.valid)

    def imports(self) -> list[tuple[str, str]]:
        """Return pairs of files, the first of which imports the second."""
        return self.db.execute_sql(IMPORTS.format(scan=self.scan, valid=self.valid)).fetchall()

    def importers(self, version: int | None) -> list[str]:
        """Return the paths of the files that import a file version."""
        if version is None:
            return []
        sql = IMPORTERS.format(scan=self.scan, valid=self.valid, version=int(version))
        return [path for (path,) in self.db.execute_sql(sql)]

    def edges(self, kinds: Sequence[str]) -> Iterator[Edge]:
        marks = ", ".join(f"'{kind}'" for kind in kinds)
        for row in self.db.execute_sql(EDGES.format(valid=self.valid, scan=self.scan, kinds=marks)):
            yield Edge(*row)


def check_depth(depth: object) -> None:
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
        raise InvalidArgument(f"depth is {shown(depth)}; give a number of steps of at least 1, or None for all")


def packed(nodes: Sequence[Node]) -> str:
    """Return nodes as a JSON array of integers. SQLite assumes that such a list is short, and so builds no Bloom
    filter.
    """
    return f"[{','.join(str(join(v, n)) for v, n in nodes)}]"


def cycles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (or a node with an edge to itself), by Tarjan's
    algorithm (SIAM J. Comput. 1(2), 1972), without recursion. Each is sorted, the longest first.
    """
    targets: dict[str, list[str]] = {}
    for a, b in edges:
        targets.setdefault(a, []).append(b)
        targets.setdefault(b, [])
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    found: list[list[str]] = []
    for root in targets:
        if root in index:
            continue
        work = [(root, iter(targets[root]))]
        index[root] = low[root] = len(index)
        path.append(root)
        on_path.add(root)
        while work:
            node, rest = work[-1]
            for onward in rest:
                if onward not in index:
                    index[onward] = low[onward] = len(index)
                    path.append(onward)
                    on_path.add(onward)
                    work.append((onward, iter(targets[onward])))
                    break
                if onward in on_path:
                    low[node] = min(low[node], index[onward])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = path.pop()
                        on_path.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    if len(component) > 1 or node in targets[node]:
                        found.append(sorted(component))
    return sorted(found, key=lambda c: (-len(c), c))
