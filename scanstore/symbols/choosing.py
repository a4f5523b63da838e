"""The filters of a diff of symbols: files, types, and public names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, get_args

from scanstore.db.arguments import check_bool, check_choice, check_list, check_text
from scanstore.db.database import Database
from scanstore.db.words import ChangeKind
from scanstore.errors import InvalidArgument
from scanstore.indexing.facts import SYMBOL_TYPES
from scanstore.symbols.public import Names, is_public_name

if TYPE_CHECKING:
    from scanstore.db.words import SymbolChangeFilter, SymbolType
    from scanstore.snapshots.models import Scan
    from scanstore.symbols.comparison import Wanted

CHANGES: tuple[SymbolChangeFilter, ...] = ("added", "removed", "changed", *get_args(ChangeKind))
LONGEST_PATTERN = 1000
MOST_STARS = 10  # of a pattern, which may each be tried at every place of a path


def pattern(glob: str) -> re.Pattern[str]:
    """Return the expression of a pattern of paths: ``*`` and ``?`` within a folder, ``**`` across folders.

    A pattern without a slash fits the names of files. A folder fits all files in it.
    """
    text = check_text(glob, "path", LONGEST_PATTERN).removeprefix("./").rstrip("/") or "**"
    if text.count("*") > 2 * MOST_STARS:
        raise InvalidArgument(f"pattern {glob!r} has too many stars; give at most {2 * MOST_STARS}")
    parts = re.split(r"(\*\*/|\*+|\?)", text)
    meaning = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
    regex = "".join(meaning.get(each, ".*" if each.startswith("**") else re.escape(each)) for each in parts)
    return re.compile(f"{'' if '/' in text or text == '**' else '(?:.*/)?'}{regex}(?:/.*)?", re.DOTALL)


def chooser(
    db: Database,
    scans: Iterable[Scan],
    *,
    public: bool,
    paths: Iterable[str],
    symbol_types: Iterable[SymbolType],
) -> Wanted:
    """Return a function that says whether a qualified name, type and file pass the filters."""
    patterns = [pattern(each) for each in check_list(paths, "paths")]
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
        if patterns and not any(each.fullmatch(path) for each in patterns):
            return False
        if published is None or not name:
            return True
        return name in published if path in modules else all(map(is_public_name, name.split(".")))

    return wanted
