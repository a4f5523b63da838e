"""The changes of symbols between two scans."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.database import Database
from scanstore.db.notebooks import described
from scanstore.db.rows import Rows

if TYPE_CHECKING:
    from scanstore.db.words import SymbolType
    from scanstore.snapshots.models import Scan

# Symbols in the files of a scan whose version is not in the other scan. The last field counts symbols of equal name.
ONLY_HERE = """
SELECT q.text, s.symbol_type, f.file_path, s.start_line, s.body_hash, n.text,
       row_number() OVER (PARTITION BY s.qualified_name_id, s.symbol_type, f.id ORDER BY s.ordinal)
  FROM scan_files AS f JOIN symbol_facts AS s ON s.version_id = f.version_id
  JOIN names AS q ON q.id = s.qualified_name_id JOIN names AS n ON n.id = s.name_id
 WHERE f.scan_id = ?1 AND s.symbol_type <> 'module'
   AND NOT EXISTS (SELECT 1 FROM scan_files AS o WHERE o.version_id = f.version_id AND o.scan_id = ?2)
 ORDER BY f.file_path, s.ordinal
"""

_Row = tuple[str, "SymbolType", str, int, "bytes | None", str, int]


class SymbolChange(NamedTuple):
    """One symbol on both sides of a diff."""

    qualified_name: str
    symbol_type: SymbolType
    old_file: str
    old_line: int
    new_file: str
    new_line: int


class SymbolPlace(NamedTuple):
    """A symbol on one side of a diff."""

    qualified_name: str
    symbol_type: SymbolType
    file_path: str
    line: int


@described
class SymbolDiff(NamedTuple):
    """Changes of symbols between two scans. A ``changed`` symbol has another text. A ``moved`` symbol has equal text
    under another name or in another file. Symbols that were recorded without their text are compared by name only."""

    added: Rows[SymbolPlace]
    removed: Rows[SymbolPlace]
    changed: Rows[SymbolChange]
    moved: Rows[SymbolChange]


def compared(db: Database, first: Scan, second: Scan) -> SymbolDiff:
    """Return the changes of symbols from the first scan to the second."""
    old, new = (_only(db, x, y) for x, y in ((first, second), (second, first)))
    changed, moved = [], []
    gone: dict[tuple[str, bytes | None, str], list[_Row]] = {}
    keys = {(s[0], s[1], s[2], s[6]) for s in new}
    before = {(s[0], s[1], s[2], s[6]): s for s in old}
    for symbol in old:
        if (symbol[0], symbol[1], symbol[2], symbol[6]) not in keys:
            gone.setdefault((symbol[1], symbol[4], symbol[5]), []).append(symbol)
    added = []
    for symbol in new:
        qualified, kind, path, line, body, name, _ = symbol
        match = before.get((qualified, kind, path, symbol[6]))
        if match is not None:
            if match[4] != body and None not in (match[4], body):
                changed.append(SymbolChange(qualified, kind, match[2], match[3], path, line))
        elif body is not None and gone.get((kind, body, name)):
            match = gone[kind, body, name].pop(0)
            moved.append(SymbolChange(qualified, kind, match[2], match[3], path, line))
        else:
            added.append(SymbolPlace(qualified, kind, path, line))
    removed = [SymbolPlace(s[0], s[1], s[2], s[3]) for group in gone.values() for s in group]
    return SymbolDiff(
        Rows(sorted(added), SymbolPlace),
        Rows(sorted(removed), SymbolPlace),
        Rows(sorted(changed), SymbolChange),
        Rows(sorted(moved), SymbolChange),
    )


def _only(db: Database, scan: Scan, other: Scan) -> list[_Row]:
    return db.execute_sql(ONLY_HERE, (scan.id, other.id)).fetchall()
