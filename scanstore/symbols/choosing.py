"""The filters of a diff of symbols: files, types, and public names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from scanstore.db.arguments import check_bool, check_choice, check_list
from scanstore.db.database import Database
from scanstore.errors import InvalidArgument, shown
from scanstore.indexing.facts import SYMBOL_TYPES
from scanstore.indexing.walk import patterns
from scanstore.symbols.comparison import CHANGE_KINDS
from scanstore.symbols.public import Names, is_public_name

if TYPE_CHECKING:
    from scanstore.db.words import SymbolChangeFilter, SymbolType
    from scanstore.snapshots.models import Scan
    from scanstore.symbols.comparison import Wanted

CHANGES: tuple[SymbolChangeFilter, ...] = ("added", "removed", "changed", *CHANGE_KINDS)


FILES = "SELECT file_path FROM scan_files WHERE scan_id = ? UNION SELECT file_path FROM scan_files WHERE scan_id = ?"


def chooser(
    db: Database,
    scans: tuple[Scan, Scan],
    *,
    public: bool,
    paths: Iterable[str],
    symbol_types: Iterable[SymbolType],
) -> Wanted:
    """Return a function that says whether a qualified name, type and file pass the filters.

    Raises InvalidArgument if a pattern matches no file of either scan: nothing would have been compared for it.
    """
    given = [paths] if isinstance(paths, str) else check_list(paths, "paths")
    matcher = patterns("paths", given)
    files = [path for (path,) in db.execute_sql(FILES, [scan.id for scan in scans])] if given else []
    for pattern in given:
        alone = patterns("paths", [pattern])
        if alone is None or not pattern.startswith("!") and not any(map(alone.match_file, files)):
            raise InvalidArgument(
                f"no file of scan {scans[0].id} or {scans[1].id} matches {shown(pattern)}; patterns are relative to the"
                " root of the tree, such as 'pkg/**'"
            )
    types = {check_choice(each, "symbol_types", SYMBOL_TYPES) for each in check_list(symbol_types, "symbol_types")}
    published: set[str] | None = None
    modules: set[str] = set()
    if check_bool(public, "public"):
        published = set()
        for scan in scans:
            names = Names(db, scan)
            modules.update(module.path for module in names.modules.values())
            published.update(".".join(filter(None, place)) for _, place in names.public())

    def wanted(name: str, kind: SymbolType, path: str) -> bool:
        if types and name and kind not in types:
            return False
        if matcher is not None and not matcher.match_file(path):
            return False
        if published is None or not name:
            return True
        return name in published if path in modules else all(map(is_public_name, name.split(".")))

    return wanted
