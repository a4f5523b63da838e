"""Previews of renames: the places that change with the name of a symbol. No file is changed.

A place must change if a definition or a trusted reference is there: the definition itself, other definitions that count
as the same symbol (overloads, setters, the stub of a module), methods that it overrides or that override it, and their
references that spell the name. A reference under another name, as after ``import f as g``, stays.

Other places may need the change: guesses, unresolved references with the same last name, base classes outside the tree
that may define the method, and what :mod:`scanstore.symbols.spellings` finds in the text of the files.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.arguments import check_string
from scanstore.db.notebooks import described as in_notebooks
from scanstore.errors import InvalidArgument, shown
from scanstore.indexing.languages import language_of
from scanstore.symbols.graph import TRUSTED, Graph, Node, packed
from scanstore.symbols.models import SymbolReference
from scanstore.symbols.overrides import CONTAINERS, MEMBERS, Hierarchy
from scanstore.symbols.reach import described, same_symbol
from scanstore.symbols.spellings import Spellings
from scanstore.symbols.unused import NEUTRAL

if TYPE_CHECKING:
    from scanstore.db.words import ReferenceType, RenameKind, Resolution, SymbolType
    from scanstore.symbols.models import Symbol

KINDS: tuple[RenameKind, ...] = (
    "definition", "override", "call", "import", "inherit", "use", "base", "attribute", "keyword", "string", "comment",
    "text",
)  # fmt: skip

# The same symbols in the stubs, or the sources, of their files.
TWINS = """
SELECT f.file_path, o.version_id, o.ordinal, g.file_path
  FROM json_each(?1) AS w
  CROSS JOIN symbol_facts AS s ON s.version_id = (w.value >> 24) AND s.ordinal = (w.value & 16777215)
  CROSS JOIN scan_files AS f ON f.version_id = s.version_id AND f.scan_id = {scan}
  CROSS JOIN symbol_facts AS o ON o.qualified_name_id = s.qualified_name_id AND o.version_id <> s.version_id
  CROSS JOIN scan_files AS g ON g.version_id = o.version_id AND g.scan_id = {scan}
"""
# References whose written name ends with ?1, with their resolution.
NAMED = """
SELECT f.file_path, r.line, r.reference_type, n.text,
       CASE WHEN r.symbol_ordinal IS NOT NULL OR r.path_id IS NULL THEN r.resolution
            WHEN b.path_id IS NULL THEN 'external' ELSE b.resolution END
  FROM scan_files AS f
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id
  CROSS JOIN names AS n ON n.id = r.name_id
  LEFT JOIN bindings AS b ON r.symbol_ordinal IS NULL AND b.path_id = r.path_id AND {valid}
 WHERE f.scan_id = {scan}
   AND r.name_id IN (SELECT id FROM names WHERE text = ?1 OR substr(text, -length(?1) - 1) = '.' || ?1)
"""
# Base classes that are not in the tree, of the given classes.
OUTSIDE = """
SELECT f.file_path, r.line, n.text,
       CASE WHEN r.path_id IS NULL THEN r.resolution WHEN b.path_id IS NULL THEN 'external' ELSE b.resolution END
  FROM json_each(?1) AS w
  CROSS JOIN reference_facts AS r ON r.version_id = (w.value >> 24) AND r.from_ordinal = (w.value & 16777215)
        AND r.reference_type = 'inherit' AND r.symbol_ordinal IS NULL
  CROSS JOIN scan_files AS f ON f.version_id = r.version_id AND f.scan_id = {scan}
  CROSS JOIN names AS n ON n.id = r.name_id
  LEFT JOIN bindings AS b ON b.path_id = r.path_id AND {valid}
 WHERE b.ordinal IS NULL
"""
# Symbols with these qualified names, given as a JSON array of [version, name].
TAKEN = """
SELECT f.file_path, s.start_line, q.text
  FROM json_each(?1) AS w
  CROSS JOIN names AS q ON q.text = w.value ->> 1
  CROSS JOIN symbol_facts AS s ON s.qualified_name_id = q.id AND s.version_id = w.value ->> 0
  CROSS JOIN scan_files AS f ON f.version_id = s.version_id AND f.scan_id = {scan}
 ORDER BY 1, 2
"""
# The imports of files, given as a JSON array of paths: their own module, version and imported names.
IMPORTED = """
SELECT f.file_path, f.version_id, q.text, i.line, i.imported_names
  FROM json_each(?1) AS w
  CROSS JOIN scan_files AS f ON f.scan_id = {scan} AND f.file_path = w.value
  CROSS JOIN import_facts AS i ON i.version_id = f.version_id
  CROSS JOIN symbol_facts AS s ON s.version_id = f.version_id AND s.ordinal = 0
  CROSS JOIN names AS q ON q.id = s.qualified_name_id
 ORDER BY 1, 4
"""
FILES = "SELECT file_path, file_hash FROM scan_files WHERE scan_id = ? AND version_id IS NOT NULL ORDER BY file_path"


@in_notebooks
class RenamePlace(NamedTuple):
    """A place that spells the name of a symbol. If ``sure``, a rename must change it, else it may have to.

    ``text`` is the name as written or, for a place that was found in the text of a file, the line.
    """

    file_path: str
    line: int
    kind: RenameKind
    text: str
    resolution: Resolution
    sure: bool


Details = tuple[int, str, str, "SymbolType", str, int, int]  # of `described`


class _Named(NamedTuple):
    """A symbol to rename, and all that is renamed with it."""

    old: str
    nodes: list[Node]
    overrides: set[Node]
    owners: set[Node]  # the classes of the nodes
    hierarchy: Hierarchy


def places(graph: Graph, symbol: Symbol, start: Node, new: str, root: str | None) -> list[RenamePlace]:
    """Return the places that a rename must change, then those that it may have to change, by file and line.

    ``root`` is the folder of the tree, or None without one. Raises InvalidArgument if the symbol cannot have the name.
    """
    _check_name(symbol, new)
    named = _together(graph, symbol.name, start)
    rows = described(graph, named.nodes)
    references = list(_references(graph, named, rows))
    imported = {each.file_path for each in references if each.kind == "import" and each.sure}
    _check_free(graph, named, symbol, new, rows, imported)
    found: dict[RenamePlace, None] = {}
    for node in named.nodes:
        path, line = rows[node][4:6]
        if node in named.overrides:
            found[RenamePlace(path, line, "override", symbol.name, "inherited", True)] = None
        else:
            found[RenamePlace(path, line, "definition", symbol.name, "exact", True)] = None
    found.update(dict.fromkeys(references))
    sure = {(each.file_path, each.line) for each in found if each.sure}
    alike = _named(graph, symbol.name)
    unsure = [RenamePlace(*each, False) for each in alike if each[4] == "unresolved"]
    unsure += _outside(graph, named)
    if root is not None:
        spelled = Spellings(symbol.name, keywords=symbol.symbol_type == "variable" and bool(named.owners))
        explained = {each[:2] for each in alike}
        for path, digest in graph.db.execute_sql(FILES, (graph.scan,)).fetchall():
            for line, kind, text in spelled.of_file(root, path, digest):
                if kind != "attribute" or (path, line) not in explained:
                    unsure.append(RenamePlace(path, line, kind, text, "unresolved", False))
    found.update(dict.fromkeys(each for each in unsure if (each.file_path, each.line) not in sure))
    return sorted(found, key=lambda each: (not each.sure, each.file_path, each.line, KINDS.index(each.kind)))


def _check_name(symbol: Symbol, new: str) -> None:
    old, which = symbol.name, f"{symbol.symbol_type} {symbol.qualified_name}"
    check_string(new, "new")
    if symbol.symbol_type == "module":
        raise InvalidArgument(
            f"{which} is a file, and renaming files is not previewed; symbols importers lists the files that import it"
        )
    python = language_of(symbol.file_path) == "Python"
    if python and keyword.iskeyword(new):
        raise InvalidArgument(f"{which} cannot be called {shown(new)}, which is a keyword of Python; give another name")
    if not (new.isidentifier() if python else new and not any(map(str.isspace, new))):
        raise InvalidArgument(f"{which} cannot be called {shown(new)}, which is not an identifier; give a single name")
    if new == old:
        raise InvalidArgument(f"{which} is called {new!r} already; give another name")
    if symbol.symbol_type == "method" and python and old.startswith("__") and old.endswith("__"):
        raise InvalidArgument(f"{which} cannot be renamed, because Python itself calls it by this name")


def _together(graph: Graph, old: str, start: Node) -> _Named:
    """Return all definitions that have to keep the same name."""
    hierarchy = Hierarchy(graph)
    own = _same(graph, {start})
    nodes = set(own)
    frontier = sorted(own)
    while frontier:
        related = {each for others in hierarchy.overrides(frontier).values() for each in others} - nodes
        found = _same(graph, related) - nodes
        nodes |= found
        frontier = sorted(found)
    owners = {(v, owner) for v, _, owner, _ in graph.db.execute_sql(CONTAINERS, (packed(sorted(nodes)),)).fetchall()}
    hierarchy.load(owners)
    return _Named(old, sorted(nodes), nodes - own, owners, hierarchy)


def _same(graph: Graph, nodes: set[Node]) -> set[Node]:
    """Return nodes with the other definitions that count as the same symbols."""
    found = set(nodes)
    frontier = sorted(nodes)
    while frontier:
        same = {node for node, _ in same_symbol(graph, frontier, dispatched=False)}
        rows = graph.db.execute_sql(TWINS.format(scan=graph.scan), (packed(frontier),)).fetchall()
        same |= {(v, n) for path, v, n, other in rows if _stem(path) == _stem(other)}
        frontier = sorted(same - found)
        found |= same
    return found


def _stem(path: str) -> str:
    return path.rpartition(".")[0]


def _references(graph: Graph, named: _Named, rows: dict[Node, Details]) -> Iterator[RenamePlace]:
    """Yield the references to the symbols that spell the name."""
    for version, ordinal in named.nodes:
        key = rows[version, ordinal][0]
        for each in SymbolReference.raw(graph.references(), key, version, ordinal):
            if _last(each.name) == named.old:
                sure = each.resolution in TRUSTED
                yield RenamePlace(
                    each.from_file, each.from_line, each.reference_type, each.name, each.resolution, sure
                )


def _last(written: str) -> str:
    return written.rpartition(".")[2]


def _named(graph: Graph, name: str) -> list[tuple[str, int, ReferenceType, str, Resolution]]:
    """Return file, line, type, text and resolution of all references whose text ends with this name."""
    sql = NAMED.format(scan=graph.scan, valid=graph.valid)
    return graph.db.execute_sql(sql, (name,)).fetchall()


def _outside(graph: Graph, named: _Named) -> Iterator[RenamePlace]:
    """Yield the base classes outside the tree, which may define a method of this name."""
    classes = named.owners | named.hierarchy.above(named.owners)
    sql = OUTSIDE.format(scan=graph.scan, valid=graph.valid)
    for path, line, written, resolution in graph.db.execute_sql(sql, (packed(sorted(classes)),)).fetchall():
        if _last(written) not in NEUTRAL:
            yield RenamePlace(path, line, "base", written, resolution, False)


def _check_free(
    graph: Graph, named: _Named, symbol: Symbol, new: str, rows: dict[Node, Details], imported: Iterable[str]
) -> None:
    """Raise InvalidArgument if the new name already means something where the old one is defined or imported."""
    wanted = []
    for (version, _), (_, name, qualified, *_) in rows.items():
        wanted.append((version, f"{qualified[: len(qualified) - len(name)]}{new}"))
    taken = _taken(graph, wanted)
    hierarchy = named.hierarchy
    related = hierarchy.below(named.owners) | named.owners
    related |= hierarchy.above(related)
    asked = json.dumps([(*each, new) for each in sorted(related)])
    members = [(v, n) for v, _, _, n in graph.db.execute_sql(MEMBERS, (asked,)).fetchall()]
    taken += [(path, line, qualified) for _, _, qualified, _, path, line, _ in described(graph, members).values()]
    # Files that import the old name without an alias.
    imports: dict[tuple[str, int, str], list[tuple[int, list[str]]]] = {}
    sql = IMPORTED.format(scan=graph.scan)
    found = graph.db.execute_sql(sql, (json.dumps(sorted(set(imported))),)).fetchall()
    for path, version, module, line, names in found:
        imports.setdefault((path, version, module), []).append((line, json.loads(names)))
    for (path, version, module), each in imports.items():
        if any(named.old in names for _, names in each):
            taken += [
                (path, line, f"{module}.{new}")
                for line, names in each
                if any(name == new or name.endswith(f" as {new}") for name in names)
            ]
            taken += _taken(graph, [(version, f"{module}.{new}")])
    if taken:
        path, line, qualified = min(taken)
        raise InvalidArgument(
            f"{symbol.symbol_type} {symbol.qualified_name} cannot be called {new!r}, because {path}, line {line}, has"
            f" {qualified} already; choose another name, or rename that first"
        )


def _taken(graph: Graph, wanted: list[tuple[int, str]]) -> list[tuple[str, int, str]]:
    return graph.db.execute_sql(TAKEN.format(scan=graph.scan), (json.dumps(wanted),)).fetchall()
