"""The changes of symbols between two scans.

All definitions of one name and type in a file are one symbol: the signatures of an overloaded function, the accessors
of a property, the branches of a condition. Definitions with equal text are paired first, the others in their order.
Change here: which part of a symbol counts as changed.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.db.database import Database
from scanstore.db.notebooks import described
from scanstore.db.rows import Rows

if TYPE_CHECKING:
    from scanstore.db.words import ChangeKind, SymbolType
    from scanstore.snapshots.models import Scan

# Symbols in the files of a scan whose content is not in the other scan at the same path.
ONLY_HERE = """
SELECT q.text, s.symbol_type, f.file_path, s.start_line, s.body_hash, n.text, s.metadata, v.indexer
  FROM scan_files AS f JOIN symbol_facts AS s ON s.version_id = f.version_id
  JOIN file_versions AS v ON v.id = f.version_id
  JOIN names AS q ON q.id = s.qualified_name_id JOIN names AS n ON n.id = s.name_id
 WHERE f.scan_id = ?1 AND s.symbol_type <> 'module'
   AND NOT EXISTS (SELECT 1 FROM scan_files AS o WHERE o.version_id = f.version_id AND o.scan_id = ?2)
   AND NOT EXISTS (SELECT 1 FROM scan_files AS o WHERE o.scan_id = ?2 AND o.file_path = f.file_path
                      AND o.file_hash = f.file_hash
                      AND EXISTS (SELECT 1 FROM symbol_facts AS e WHERE e.version_id = o.version_id))
 ORDER BY f.file_path, s.ordinal
"""

CHANGE_KINDS: tuple[ChangeKind, ...] = (
    "signature", "body", "decorator", "docstring", "formatting", "members", "text", "unknown", "moved",
)  # fmt: skip

#: Indexers whose hashes have two halves (:mod:`scanstore.indexing.python.hashes`).
HALVES = re.compile(r"python/\d+")
DESCRIBED = frozenset(("docstring", "decorators", "value"))  # metadata that is no part of the signature
NO_CODE = int.from_bytes(blake2b(b"", digest_size=4).digest(), "big")
CUT = "…"  # the end of a recorded text that was too long


class Definition(NamedTuple):
    """A symbol as recorded. ``halves`` says whether ``body`` has two halves."""

    qualified: str
    kind: SymbolType
    path: str
    line: int
    body: int | None
    name: str
    metadata: str | None
    indexer: str

    @property
    def halves(self) -> bool:
        return HALVES.fullmatch(self.indexer) is not None

    @property
    def code(self) -> int | None:
        """The hash of the code, without signature, docstring and comments; None if only the text was hashed."""
        return self.body & 0xFFFFFFFF if self.body is not None and self.halves else None

    @property
    def facts(self) -> dict[str, Any]:
        found = json.loads(self.metadata) if self.metadata else None
        return found if isinstance(found, dict) else {}

    @property
    def decorators(self) -> list[str]:
        found = self.facts.get("decorators")
        return [str(each) for each in found] if isinstance(found, list) else []

    @property
    def role(self) -> str:
        """The part that a definition has in its symbol: ``overload``, ``setter``, ``deleter`` or ``main``."""
        if self.metadata is None or "decorators" not in self.metadata:
            return "main"
        for each in self.decorators:
            last = each.partition("(")[0].rpartition(".")[2]
            if last in ("overload", "setter", "deleter"):
                return last
        return "main"


Key = tuple[str, "SymbolType", str]
Symbols = dict[Key, list[Definition]]


class SymbolChange(NamedTuple):
    """One symbol on both sides of a diff. ``kinds`` names the parts that have changed, and ``moved``.

    ``unknown``: the text of one side was not recorded, so the symbol may have changed.
    """

    qualified_name: str
    symbol_type: SymbolType
    old_file: str
    old_line: int
    new_file: str
    new_line: int
    kinds: frozenset[ChangeKind] = frozenset()


class SymbolPlace(NamedTuple):
    """A symbol on one side of a diff."""

    qualified_name: str
    symbol_type: SymbolType
    file_path: str
    line: int


@described
class SymbolDiff(NamedTuple):
    """Changes of symbols between two scans. A ``changed`` symbol has another text, or ``unknown`` in its ``kinds``. A
    ``moved`` symbol has equal code under another name or in another file."""

    added: Rows[SymbolPlace]
    removed: Rows[SymbolPlace]
    changed: Rows[SymbolChange]
    moved: Rows[SymbolChange]


Wanted = Callable[[str, "SymbolType", str], bool]  #: whether a qualified name, type and file are asked for


def compared(
    db: Database, first: Scan, second: Scan, wanted: Wanted | None = None, kinds: frozenset[str] = frozenset()
) -> SymbolDiff:
    """Return the changes of symbols from the first scan to the second.

    ``kinds`` limits them: ``added``, ``removed``, ``changed``, or a kind of change. Empty: all.
    """
    old, new = (_grouped(only_here(db, x, y)) for x, y in ((first, second), (second, first)))
    gone = {key: group for key, group in old.items() if key not in new}
    fresh = {key: group for key, group in new.items() if key not in old}
    changed = [each for each in (change(old[key], new[key]) for key in old if key in new) if each is not None]
    changed = _members(changed, {key[0] for key in (*gone, *fresh)})
    moved = _moved(gone, fresh)

    def chosen(rows: Iterable[SymbolChange]) -> Rows[SymbolChange]:
        return Rows(sorted((row for row in rows if kept(row)), key=lambda row: row[:6]), SymbolChange)

    def kept(row: SymbolChange) -> bool:
        if kinds and not kinds & row.kinds and not ("changed" in kinds and "moved" not in row.kinds):
            return False
        return (
            wanted is None
            or wanted(row.qualified_name, row.symbol_type, row.new_file)
            or wanted(row.qualified_name, row.symbol_type, row.old_file)
        )

    def places(what: str, groups: Symbols) -> Rows[SymbolPlace]:
        rows = [SymbolPlace(*key, place_of(group).line) for key, group in groups.items()]
        if kinds and what not in kinds:
            rows = []
        return Rows(sorted(row for row in rows if wanted is None or wanted(*row[:3])), SymbolPlace)

    return SymbolDiff(places("added", fresh), places("removed", gone), chosen(changed), chosen(moved))


def only_here(db: Database, scan: Scan, other: Scan) -> list[Definition]:
    """Return the symbols of a scan in files that the other scan does not have with the same content."""
    return [Definition(*row) for row in db.execute_sql(ONLY_HERE, (scan.id, other.id)).fetchall()]


def _grouped(symbols: Iterable[Definition]) -> Symbols:
    found: Symbols = {}
    for symbol in symbols:
        found.setdefault((symbol.qualified, symbol.kind, symbol.path), []).append(symbol)
    return found


def place_of(group: Sequence[Definition]) -> Definition:
    """Return the definition that stands for a symbol: the implementation of overloads, the getter of a property."""
    return next((each for each in group if each.role == "main"), group[0])


def change(old: Sequence[Definition], new: Sequence[Definition]) -> SymbolChange | None:
    """Return how a symbol with these definitions has changed, or None."""
    left, right = _unequal(old, new)
    if not left and not right:
        return None
    kinds: set[ChangeKind] = set()
    first: tuple[Definition, Definition] | None = None
    for role in ("main", "overload", "setter", "deleter"):
        before, after = ([each for each in side if each.role == role] for side in (left, right))
        for a, b in zip(before, after, strict=False):
            found = differences(a, b)
            if found and role == "main" and first is None:
                first = a, b
            kinds |= found
        if len(before) != len(after):
            kinds.add("body" if role == "main" else "signature")
    if not kinds:
        return None
    a, b = first or (place_of(old), place_of(new))
    return SymbolChange(b.qualified, b.kind, a.path, a.line, b.path, b.line, frozenset(kinds))


def _unequal(old: Sequence[Definition], new: Sequence[Definition]) -> tuple[list[Definition], list[Definition]]:
    """Return the definitions without an equal one on the other side."""
    had = Counter(_identity(each) for each in old if each.body is not None)
    has = Counter(_identity(each) for each in new if each.body is not None)
    same = had & has
    sides = []
    for side in (old, new):
        rest, count = [], same.copy()
        for each in side:
            mark = _identity(each)
            if each.body is not None and count[mark] > 0:
                count[mark] -= 1
            else:
                rest.append(each)
        sides.append(rest)
    return sides[0], sides[1]


def _identity(symbol: Definition) -> tuple[object, ...]:
    return symbol.body, symbol.metadata, symbol.halves


def differences(old: Definition, new: Definition) -> set[ChangeKind]:
    """Return which parts of a definition differ."""
    a, b = old.facts, new.facts
    found: set[ChangeKind] = set()
    if _signature(a) != _signature(b):
        found.add("signature")
    if (a.get("decorators") or []) != (b.get("decorators") or []):
        found.add("decorator")
    if a.get("docstring") != b.get("docstring"):
        found.add("docstring")
    if old.body is None or new.body is None or old.halves != new.halves:
        return found | {"unknown"}
    if old.body == new.body:
        return found
    if old.code is None:
        return found | {"text"}
    if old.code != new.code:
        found.add("body")
    if not found:
        # The recorded text of a long signature or decorator is cut, so the difference may be behind the cut.
        cut = any(CUT in f"{_signature(facts)}{facts.get('decorators')}" for facts in (a, b))
        found.add("text" if cut else "formatting")
    return found


def _signature(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in DESCRIBED}


def _members(changed: list[SymbolChange], others: set[str]) -> list[SymbolChange]:
    """Say ``members`` of classes of which only symbols inside have changed."""
    inside = set()
    for name in (*others, *(each.qualified_name for each in changed)):
        owner = name.rpartition(".")[0]
        while owner and owner not in inside:
            inside.add(owner)
            owner = owner.rpartition(".")[0]
    return [
        each._replace(kinds=each.kinds - {"formatting"} | {"members"})
        if each.symbol_type == "class" and each.kinds <= {"formatting", "text"} and each.qualified_name in inside
        and "formatting" in each.kinds
        else each
        for each in changed
    ]  # fmt: skip


def _moved(gone: Symbols, fresh: Symbols) -> list[SymbolChange]:
    """Take the symbols out of ``gone`` and ``fresh`` that have the same text, or else the same code, in both."""
    found = []
    for mark in (_text_mark, _code_mark):
        waiting: dict[object, list[Key]] = defaultdict(list)
        for key, group in gone.items():
            label = mark(group)
            if label is not None:
                waiting[label].append(key)
        for keys in waiting.values():
            keys.reverse()
        for key, group in list(fresh.items()):
            label = mark(group)
            if label is None or not waiting.get(label):
                continue
            before, after = gone.pop(waiting[label].pop()), fresh.pop(key)
            changes = change(before, after)
            kinds: frozenset[ChangeKind] = changes.kinds if changes is not None else frozenset()
            a, b = place_of(before), place_of(after)
            row = SymbolChange(b.qualified, b.kind, a.path, a.line, b.path, b.line, kinds | {"moved"})
            found.append(row)
    return found


def _text_mark(group: Sequence[Definition]) -> object:
    if any(each.body is None for each in group):
        return None
    return group[0].kind, group[0].name, group[0].halves, tuple(each.body for each in group)


def _code_mark(group: Sequence[Definition]) -> object:
    """Return what a function with another signature or docstring is recognised by, if its code says enough."""
    codes = tuple(each.code for each in group)
    if None in codes or group[0].kind not in ("function", "method") or NO_CODE in codes:
        return None
    return group[0].kind, group[0].name, codes
