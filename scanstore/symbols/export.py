"""Selecting the part of a graph to draw: the whole graph, or the surroundings of a symbol or a file.

:class:`scanstore.symbols.symbols.Symbols` finds the reachable symbols; one more statement here finds the calls between
them, each pair once. Nodes are numbered by path and position in the file, so that the same tree gives the same text in
every store. :mod:`scanstore.symbols.graph_formats` writes the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from scanstore.db.database import Database
from scanstore.db.rows import Rows
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.snapshots.scans import Scans, pick
from scanstore.symbols.graph import TRUSTED, Graph, Reached, check_depth
from scanstore.symbols.graph_formats import FORMATS, Link, Node, write

if TYPE_CHECKING:
    from scanstore.db.words import GraphDirection, GraphFormat
    from scanstore.snapshots.models import Scan
    from scanstore.symbols.models import Symbol, SymbolLike

DIRECTIONS: tuple[GraphDirection, ...] = ("callers", "callees", "both")

# Calls inside one file, then calls through bindings. The index for the callers is given explicitly, because the planner
# would read the files of all scans, or all references of a file.
CALLS = """
SELECT source, target, max(confidence), min(resolution = 'guessed') FROM (
  SELECT f.id << 24 | r.from_ordinal AS source, f.id << 24 | r.symbol_ordinal AS target, r.confidence, r.resolution
    FROM {callers}
   WHERE f.scan_id = {scan} AND r.reference_type = 'call' AND r.from_ordinal IS NOT NULL
     AND r.symbol_ordinal IS NOT NULL AND r.resolution IN ({known})
  UNION ALL
  SELECT f.id << 24 | r.from_ordinal, t.id << 24 | b.ordinal, b.confidence, b.resolution
    FROM {callers}
    CROSS JOIN bindings AS b ON b.path_id = r.path_id AND {valid}
    CROSS JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
   WHERE f.scan_id = {scan} AND r.reference_type = 'call' AND r.from_ordinal IS NOT NULL
     AND r.symbol_ordinal IS NULL AND b.ordinal IS NOT NULL AND b.resolution IN ({known})
) GROUP BY source, target
"""
ALL = """
    scan_files AS f INDEXED BY uq_scan_files_scan_id_file_path
    CROSS JOIN reference_facts AS r ON r.version_id = f.version_id
"""
THESE = """
    json_each(?1) AS w
    CROSS JOIN scan_files AS f ON f.id = (w.value >> 24)
    CROSS JOIN reference_facts AS r INDEXED BY ix_reference_facts_version_id_from_ordinal
      ON r.version_id = f.version_id AND r.from_ordinal = (w.value & 16777215)
"""
FILES = "SELECT id FROM scan_files WHERE scan_id = ? ORDER BY file_path"
NODES = """
SELECT w.value, q.text, s.symbol_type, f.file_path, s.start_line
  FROM json_each(?1) AS w
  CROSS JOIN scan_files AS f ON f.id = (w.value >> 24)
  CROSS JOIN symbol_facts AS s ON s.version_id = f.version_id AND s.ordinal = (w.value & 16777215)
  CROSS JOIN names AS q ON q.id = s.qualified_name_id
"""
AT_ONCE = 1000


class SymbolLookup(Protocol):
    """The methods of :class:`scanstore.symbols.symbols.Symbols` that the export uses."""

    db: Database

    def get(self, symbol: SymbolLike, *, scan: Scan | int | None = None) -> Symbol: ...
    def callers(self, symbol: SymbolLike, *, depth: int | None = 1, guesses: bool = False) -> Rows[Reached]: ...
    def callees(self, symbol: SymbolLike, *, depth: int | None = 1, guesses: bool = False) -> Rows[Reached]: ...
    def importers(self, file: str, *, scan: Scan | int | None = None) -> list[str]: ...


def export(
    symbols: SymbolLookup,
    form: GraphFormat,
    *,
    root: SymbolLike | None,
    depth: int | None,
    direction: GraphDirection,
    guesses: bool,
    imports: bool,
    scan: Scan | int | None,
) -> Iterator[str]:
    """Return the lines of :meth:`scanstore.symbols.symbols.Symbols.export`. Errors are raised immediately."""
    for what, given, known in (("format", form, FORMATS), ("direction", direction, DIRECTIONS)):
        if given not in known:
            raise InvalidArgument(f"{what} is {shown(given)}; it must be one of: {', '.join(known)}")
    check_depth(depth)
    if imports:
        return write(form, *_imports(symbols, root, depth, direction, scan))
    return write(form, *_calls(symbols, root, depth, direction, guesses, scan))


# Calls


def _calls(
    symbols: SymbolLookup,
    root: SymbolLike | None,
    depth: int | None,
    direction: GraphDirection,
    guesses: bool,
    scan: Scan | int | None,
) -> tuple[Iterator[Node], Iterator[Link]]:
    known = (*TRUSTED, "guessed") if guesses else TRUSTED
    ids: set[int] | None = None
    if root is None:
        owner = pick(symbols.db, scan)
    else:
        row = symbols.get(root, scan=scan)
        owner = Scans(symbols.db).get(row.scan_id)
        ids = {row.id}
        for way, ask in (("callers", symbols.callers), ("callees", symbols.callees)):
            if direction in (way, "both"):
                ids.update(found.id for found in ask(row, depth=depth, guesses=guesses))
    sql = CALLS.format(
        callers=ALL if ids is None else THESE,
        scan=int(owner.id),
        known=", ".join(f"'{resolution}'" for resolution in known),
        valid=Graph.of(symbols.db, owner).valid,
    )
    found = [
        row
        for row in symbols.db.execute_sql(sql, () if ids is None else (_packed(ids),))
        if ids is None or row[1] in ids
    ]
    if ids is None:
        ids = {end for source, target, *_ in found for end in (source, target)}
    files = {file: place for place, (file,) in enumerate(symbols.db.execute_sql(FILES, (owner.id,)).fetchall())}
    order = sorted(ids, key=lambda key: (files.get(key >> 24, 0), key))
    number = {key: place for place, key in enumerate(order, 1)}
    found = sorted((number[source], number[target], *how) for source, target, *how in found)
    links = (Link(source, target, "call", sure / 100, bool(guessed)) for source, target, sure, guessed in found)
    return _details(symbols.db, order, owner.id), links


def _details(db: Database, ids: list[int], scan: int) -> Iterator[Node]:
    """Yield numbered nodes in the order of the ids, looked up on demand."""
    for start in range(0, len(ids), AT_ONCE):
        batch = ids[start : start + AT_ONCE]
        rows = {row[0]: row[1:] for row in db.execute_sql(NODES, (_packed(batch),)).fetchall()}
        if len(rows) < len(batch):
            raise NotFound(f"scan {scan} was removed while its graph was read; the output is incomplete")
        for number, key in enumerate(batch, start + 1):
            yield Node(number, *rows[key])


def _packed(ids: Iterable[int]) -> str:
    return f"[{','.join(map(str, ids))}]"


# Imports


def _imports(
    symbols: SymbolLookup, root: SymbolLike | None, depth: int | None, direction: str, scan: Scan | int | None
) -> tuple[Iterator[Node], Iterator[Link]]:
    owner = pick(symbols.db, scan)
    path = getattr(root, "file_path", root)
    if path is not None and not isinstance(path, str):
        raise InvalidArgument(f"{root!r} is not a file to draw imports around; give its path relative to the tree")
    if path is not None:
        symbols.importers(path, scan=owner)  # raises NotFound for an unknown file
    pairs = Graph.of(symbols.db, owner).imports()
    if path is None:
        files = {end for pair in pairs for end in pair}
    else:
        files = {path}
        for way, links in (("callers", [(b, a) for a, b in pairs]), ("callees", pairs)):
            if direction in (way, "both"):
                files |= _reached(path, links, depth)
    number = {file: place for place, file in enumerate(sorted(files), 1)}
    nodes = (Node(place, file, "file", file) for file, place in number.items())
    found = sorted((number[a], number[b]) for a, b in pairs if a in files and b in files)
    return nodes, (Link(a, b, "import") for a, b in found)


def _reached(start: str, links: Iterable[tuple[str, str]], depth: int | None) -> set[str]:
    """Return the files that can be reached from ``start`` in so many steps."""
    targets: dict[str, list[str]] = {}
    for a, b in links:
        targets.setdefault(a, []).append(b)
    seen = frontier = {start}
    while frontier and depth != 0:
        frontier = {end for file in frontier for end in targets.get(file, ())} - seen
        seen = seen | frontier
        depth = None if depth is None else depth - 1
    return seen
