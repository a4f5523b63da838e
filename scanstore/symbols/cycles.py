"""Groups of files that import each other, and the import that closes each.

Imports are of three kinds: ``runtime`` ones run when the file is loaded, ``lazy`` ones are inside functions, ``typing``
ones are under ``if TYPE_CHECKING``. Groups are found three times: by runtime imports only, with lazy ones, with all. A
group has the first kind that makes it. The closing import is the first one that leads back to a file that is still
being loaded, if the first file of the group is loaded first.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.notebooks import described
from scanstore.symbols.graph import cycles

if TYPE_CHECKING:
    from scanstore.db.words import CycleKind
    from scanstore.symbols.graph import Graph

CYCLE_KINDS: tuple[CycleKind, ...] = ("runtime", "lazy", "typing")

# The imports of some files, as in IMPORTS of the module graph, with their lines and texts.
STATEMENTS = """
SELECT f.file_path, t.file_path, i.line, m.text
  FROM json_each(?1) AS w
  CROSS JOIN scan_files AS f ON f.scan_id = {scan} AND f.file_path = w.value
  CROSS JOIN import_facts AS i ON i.version_id = f.version_id
  CROSS JOIN names AS m ON m.id = i.module_id
  CROSS JOIN bindings AS b ON b.path_id = i.path_id AND {valid}
  CROSS JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
 WHERE t.id <> f.id
UNION
SELECT f.file_path, t.file_path, r.line, n.text
  FROM json_each(?1) AS w
  CROSS JOIN scan_files AS f ON f.scan_id = {scan} AND f.file_path = w.value
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id AND r.reference_type = 'import'
  CROSS JOIN names AS n ON n.id = r.name_id
  CROSS JOIN bindings AS b ON b.path_id = r.path_id AND b.ordinal = 0 AND {valid}
  CROSS JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id
 WHERE t.id <> f.id
 ORDER BY 1, 3, 4, 2
"""
# The lines of functions, and those that only type checkers read (in the metadata of the module).
RANGES = """
SELECT f.file_path, s.symbol_type, s.start_line, s.end_line, s.metadata ->> '$.type_checking'
  FROM json_each(?1) AS w
  CROSS JOIN scan_files AS f ON f.scan_id = {scan} AND f.file_path = w.value
  CROSS JOIN symbol_facts AS s ON s.version_id = f.version_id AND s.symbol_type IN ('module', 'function', 'method')
"""


@described
class ImportCycle(NamedTuple):
    """Files that import each other; ``module`` is imported in line ``line`` of ``from_file``, and means ``to_file``."""

    files: list[str]
    kind: CycleKind
    from_file: str
    line: int
    module: str
    to_file: str


class _Import(NamedTuple):
    source: str
    target: str
    line: int
    module: str
    kind: CycleKind


def import_cycles(graph: Graph) -> list[ImportCycle]:
    """Return the groups, largest first; of the same files only the first kind."""
    files = sorted({file for group in cycles(graph.imports()) for file in group})
    if not files:
        return []
    imports = _imports(graph, files)
    found: dict[tuple[str, ...], ImportCycle] = {}
    for place, kind in enumerate(CYCLE_KINDS):
        usable = [each for each in imports if each.kind in CYCLE_KINDS[: place + 1]]
        groups = [group for group in cycles((a, b) for a, b, *_ in usable) if tuple(group) not in found]
        number = {file: place for place, group in enumerate(groups) for file in group}
        inside: list[list[_Import]] = [[] for _ in groups]
        for each in usable:
            if each.source in number and number[each.source] == number.get(each.target):
                inside[number[each.source]].append(each)
        for group, edges in zip(groups, inside, strict=True):
            close = _closing(group[0], edges)
            found[tuple(group)] = ImportCycle(group, kind, close.source, close.line, close.module, close.target)
    return sorted(found.values(), key=lambda each: (-len(each.files), each.files))


def _imports(graph: Graph, files: list[str]) -> list[_Import]:
    asked = (json.dumps(files),)
    lazy: dict[str, list[tuple[int, int]]] = {}
    typing: dict[str, list[tuple[int, int]]] = {}
    for path, symbol_type, start, end, ranges in graph.db.execute_sql(RANGES.format(scan=graph.scan), asked).fetchall():
        if symbol_type != "module":
            lazy.setdefault(path, []).append((start, end))
        elif ranges:
            typing.setdefault(path, []).extend((first, last) for first, last in json.loads(ranges))
    rows = graph.db.execute_sql(STATEMENTS.format(scan=graph.scan, valid=graph.valid), asked).fetchall()
    inside_lazy = {path: _Lines(ranges) for path, ranges in lazy.items()}
    inside_typing = {path: _Lines(ranges) for path, ranges in typing.items()}
    found = []
    for source, target, line, module in rows:
        kind: CycleKind = "runtime"
        if source in inside_typing and line in inside_typing[source]:
            kind = "typing"
        elif source in inside_lazy and line in inside_lazy[source]:
            kind = "lazy"
        found.append(_Import(source, target, line, module, kind))
    return found


class _Lines:
    """Ranges of lines; ``in`` says whether a line is in one of them."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        for start, end in sorted(ranges):
            if self.starts and start <= self.ends[-1]:
                self.ends[-1] = max(self.ends[-1], end)
            else:
                self.starts.append(start)
                self.ends.append(end)

    def __contains__(self, line: int) -> bool:
        place = bisect_right(self.starts, line)
        return place > 0 and line <= self.ends[place - 1]


def _closing(first: str, imports: list[_Import]) -> _Import:
    """Return the first import, in the order of loading, of a file that is still being loaded."""
    by_file: dict[str, list[_Import]] = {}
    for each in imports:
        by_file.setdefault(each.source, []).append(each)
    loading = {first}
    seen = {first}
    stack = [(first, iter(by_file.get(first, ())))]
    while stack:
        file, rest = stack[-1]
        for each in rest:
            if each.target in loading:
                return each
            if each.target not in seen:
                seen.add(each.target)
                loading.add(each.target)
                stack.append((each.target, iter(by_file.get(each.target, ()))))
                break
        else:
            loading.discard(file)
            stack.pop()
    return imports[0]  # not reached: in a group, every file leads back to the first
