"""The changes between two scans that an importer notices.

The rules are those of griffe (https://mkdocstrings.github.io/griffe/guide/users/checking/), with these differences: a
renamed parameter is one change, a function that becomes asynchronous or a property counts, and so does another return
annotation, another type or literal value of a variable, or a removed overload. A name that can still be imported from
its old module is not removed. For languages whose signatures are one text, that text is compared.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.db.database import Database
from scanstore.indexing.languages import OTHER, language_of
from scanstore.symbols.comparison import Definition, Wanted, only_here, place_of
from scanstore.symbols.public import Names, Place, is_public_name, last_name

if TYPE_CHECKING:
    from scanstore.db.words import BreakageKind, SymbolType
    from scanstore.snapshots.models import Scan

# Files of the first scan that cannot be compared with the same file of the second, although their contents differ.
UNREAD = """
SELECT f.file_path, f.status, n.status, f.file_path NOT IN (SELECT file_path FROM scan_files WHERE scan_id = ?2),
       EXISTS (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = f.version_id),
       EXISTS (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = n.version_id)
  FROM scan_files AS f LEFT JOIN scan_files AS n ON n.scan_id = ?2 AND n.file_path = f.file_path
 WHERE f.scan_id = ?1 AND (n.file_hash IS NULL OR f.file_hash IS NULL OR n.file_hash <> f.file_hash)
 ORDER BY f.file_path
"""

BREAKAGE_KINDS: tuple[BreakageKind, ...] = (
    "removed", "kind_changed", "async_changed", "base_removed", "value_changed", "type_changed", "signature_changed",
    "overload_removed", "setter_removed", "parameter_removed", "parameter_renamed", "parameter_moved",
    "parameter_kind_changed", "parameter_default_changed", "parameter_became_required", "parameter_added_required",
    "return_changed", "not_compared",
)  # fmt: skip


class Breakage(NamedTuple):
    """One change that an importer notices. ``name`` is the name under which the symbol is imported.

    ``old`` and ``new`` are the texts that differ; a missing or unrecorded text is empty. ``not_compared`` is a file
    that could not be compared; ``new`` is the reason.
    """

    kind: BreakageKind
    name: str
    symbol_type: SymbolType
    old: str
    new: str
    old_file: str
    old_line: int
    new_file: str | None
    new_line: int | None


def breakages(db: Database, first: Scan, second: Scan, wanted: Wanted) -> list[Breakage]:
    """Return what breaks for importers of the first scan's tree in the second, by name."""
    old, new = Names(db, first), Names(db, second)
    found = [
        *_once(_of_modules(old, new, wanted)),
        *_of_others(only_here(db, first, second), new, wanted),
        *_unread(db, first, second, wanted),
    ]
    return sorted(set(found), key=lambda row: (row.kind == "not_compared", row.name, row.kind, row.old))


def _once(rows: Iterable[Breakage]) -> Iterator[Breakage]:
    """Leave one row of each removed definition: the one with the shortest name, of its own class before subclasses."""
    removed: dict[tuple[str, int], list[Breakage]] = {}
    for row in rows:
        if row.kind == "removed":
            removed.setdefault((row.old_file, row.old_line), []).append(row)
        else:
            yield row
    for group in removed.values():
        yield min(group, key=lambda row: (row.name.count("."), len(row.name), row.name))


def _of_modules(old: Names, new: Names, wanted: Wanted) -> Iterator[Breakage]:
    lost: set[Place] = set()  # names whose members need no mention
    judged: set[tuple[Place, Place]] = set()
    for shown, place in old.public():
        module, name = shown
        owner = name.rpartition(".")[0]
        symbols = old.definitions(place)
        if (module, owner) in lost or (module, "") in lost or not symbols:
            if name and ((module, owner) in lost or (module, "") in lost):
                lost.add(shown)
            continue
        symbol = place_of(symbols)
        if not wanted(symbol.qualified, symbol.kind, symbol.path):
            continue
        full = f"{module}.{name}" if name else module
        exists, target = (module in new.modules, (module, "")) if not name else _lookup(new, module, name)
        if not exists:
            lost.add(shown)
            if not any((part, "") in lost for part in _parents(module)):
                yield _row("removed", full, symbol, _text(symbols), "", None)
            continue
        if target is None or not name or (place, target) in judged:
            continue
        judged.add((place, target))
        others = new.definitions(target)
        if not others:
            continue
        kinds = _kind(symbols), _kind(others)
        if kinds[0] != kinds[1]:
            lost.add(shown)
            yield _row("kind_changed", full, symbol, kinds[0], kinds[1], place_of(others))
        elif kinds[0] == "class":
            yield from _bases(full, old, place, symbol, new, target, place_of(others))
        elif [each.metadata for each in symbols] != [each.metadata for each in others]:
            if kinds[0] == "function":
                yield from _functions(full, symbols, others)
            else:
                yield from _attributes(full, symbols, others)
        elif symbol.kind == "variable" and symbol.body != place_of(others).body and not _is_private(full):
            yield from _attributes(full, symbols, others)


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _is_private(name: str) -> bool:
    return name.rpartition(".")[2].startswith("_")


def _lookup(names: Names, module: str, name: str) -> tuple[bool, Place | None]:
    """Return whether a name can still be reached, and its definition. What lies outside the tree may have it."""
    if module not in names.modules:
        return False, None
    top, *rest = name.split(".")
    exists, place = names.find(module, top)
    for step in rest:
        if not exists or place is None:
            break
        if not names.is_class(place):
            return True, None  # such as a class that is a variable now, which is told of itself
        inner = names.member(place, step)
        if inner is None:
            return False, None
        place = inner
    return exists, place


def _kind(symbols: Sequence[Definition]) -> str:
    symbol = place_of(symbols)
    if symbol.kind in ("function", "method"):
        names = {each.partition("(")[0].rpartition(".")[2] for each in symbol.decorators}
        return "attribute" if any(name.endswith("property") for name in names) else "function"
    return "attribute" if symbol.kind == "variable" else symbol.kind


def _row(
    kind: BreakageKind, name: str, symbol: Definition, old: object, new: object, other: Definition | None
) -> Breakage:
    path, line = (None, None) if other is None else (other.path, other.line)
    return Breakage(kind, name, symbol.kind, str(old or ""), str(new or ""), symbol.path, symbol.line, path, line)


def _text(symbols: Sequence[Definition]) -> str:
    symbol = place_of(symbols)
    if symbol.kind in ("function", "method"):
        return signature(symbol.facts)
    return ", ".join(str(base) for base in symbol.facts.get("bases") or ())


# -- classes and attributes ---------------------------------------------------------------------------------------


def _bases(
    name: str, old: Names, place: Place, symbol: Definition, new: Names, target: Place, other: Definition
) -> Iterator[Breakage]:
    before = [str(base) for base in symbol.facts.get("bases") or ()]
    after = [str(base) for base in other.facts.get("bases") or ()]
    if before == after:
        return
    kept = new.ancestors(target)[1]
    for base in before:
        if last_name(base) not in kept and last_name(base) not in ("object", "Generic"):
            yield _row("base_removed", name, symbol, base, ", ".join(after), other)


def _attributes(name: str, old: Sequence[Definition], new: Sequence[Definition]) -> Iterator[Breakage]:
    a, b = place_of(old), place_of(new)
    before, after = a.facts, b.facts
    roles = {each.role for each in new}
    for each in old:
        if each.role in ("setter", "deleter") and each.role not in roles and b.kind != "variable":
            yield _row("setter_removed", name, a, f"{each.role} of {a.name}", "", b)
    types = [facts.get("annotation") or facts.get("return_type") for facts in (before, after)]
    if types[0] and types[1] and not same_type(str(types[0]), str(types[1])):
        yield _row("type_changed", name, a, types[0], types[1], b)
    values = [str(facts.get("value") or "") for facts in (before, after)]
    if a.kind == b.kind == "variable" and a.code != b.code and values[0] and not _is_private(name):
        yield _row("value_changed", name, a, values[0], values[1], b)


# -- functions ----------------------------------------------------------------------------------------------------


def _functions(name: str, old: Sequence[Definition], new: Sequence[Definition]) -> Iterator[Breakage]:
    a, b = place_of(old), place_of(new)
    stubs = [[each for each in side if each.role == "overload"] for side in (old, new)]
    if a.role == b.role == "main":
        yield from _signatures(name, a, b)
    before, after = (_distinct(side) for side in stubs)
    gone = [each for text, each in before.items() if text not in after]
    fresh = [each for text, each in after.items() if text not in before]
    for place, each in enumerate(gone):
        if len(gone) == len(fresh) and len(before) == len(after):
            yield from _signatures(name, each, fresh[place])
        else:
            yield _row("overload_removed", name, each, signature(each.facts), "", b)


def _distinct(stubs: Iterable[Definition]) -> dict[str, Definition]:
    return {signature(each.facts): each for each in stubs}


def _signatures(name: str, a: Definition, b: Definition) -> Iterator[Breakage]:
    before, after = a.facts, b.facts
    if bool(before.get("async")) != bool(after.get("async")):
        words = ["async def" if facts.get("async") else "def" for facts in (before, after)]
        yield _row("async_changed", name, a, words[0], words[1], b)
    for kind, parameter, old, new in parameters(_params(before), _params(after)):
        yield _row(kind, f"{name}({parameter})", a, old, new, b)
    returns = [facts.get("return_type") for facts in (before, after)]
    if returns[0] and returns[0] != "None" and returns[1] and not same_type(str(returns[0]), str(returns[1])):
        yield _row("return_changed", name, a, returns[0], returns[1], b)


def _params(facts: dict[str, Any]) -> list[dict[str, str]]:
    found = facts.get("params")
    return [each for each in found if isinstance(each, dict) and "name" in each] if isinstance(found, list) else []


POSITIONAL = ("", "positional")
VARIADIC = ("*", "**")


def parameters(
    old: Sequence[dict[str, str]], new: Sequence[dict[str, str]]
) -> Iterator[tuple[BreakageKind, str, str, str]]:
    """Yield ``(kind, parameter, old text, new text)`` of each incompatible parameter."""
    after = {each["name"]: (place, each) for place, each in reversed(list(enumerate(new)))}
    before = {each["name"] for each in old}
    kinds = {each.get("kind", "") for each in new}
    renamed: set[str] = set()
    for place, a in enumerate(old):
        kind, text = a.get("kind", ""), shown(a)
        if a["name"] not in after:
            if kind in VARIADIC and kind in kinds:
                continue  # callers cannot use the name of *args
            twin = new[place] if place < len(new) else None
            if (
                twin is not None and kind in POSITIONAL and twin["name"] not in before
                and twin.get("kind", "") == kind and ("default" in twin or "default" not in a)
            ):  # fmt: skip
                renamed.add(twin["name"])
                if kind != "positional":
                    yield "parameter_renamed", a["name"], text, shown(twin)
                continue
            swallowed = (
                (kind == "keyword" and "**" in kinds)
                or (kind == "positional" and "*" in kinds)
                or (kind == "" and {"*", "**"} <= kinds)
            )
            if not swallowed:
                yield "parameter_removed", a["name"], text, ""
            continue
        index, b = after[a["name"]]
        other = b.get("kind", "")
        if "default" in a and "default" not in b and other not in VARIADIC:
            yield "parameter_became_required", a["name"], text, shown(b)
        if kind in POSITIONAL and other in POSITIONAL and place != index:
            yield "parameter_moved", a["name"], f"{text} at place {place + 1}", f"{shown(b)} at place {index + 1}"
        if kind != other and (
            (kind, other) in (("positional", "keyword"), ("keyword", "positional"), ("", "positional"), ("", "keyword"))
            or (other == "**" and kind != "keyword" and "*" not in kinds)
            or (other == "*" and kind != "positional" and "**" not in kinds)
        ):
            yield "parameter_kind_changed", a["name"], f"{text} ({_way(kind)})", f"{shown(b)} ({_way(other)})"
        if "default" in a and "default" in b and not same_code(a["default"], b["default"]):
            yield "parameter_default_changed", a["name"], text, shown(b)
    for b in new:
        is_required = "default" not in b and b.get("kind", "") not in VARIADIC
        if b["name"] not in before and b["name"] not in renamed and is_required:
            yield "parameter_added_required", b["name"], "", shown(b)


def _way(kind: str) -> str:
    words = {"": "positional or keyword", "positional": "positional only", "keyword": "keyword only"}
    return words.get(kind, "variadic")


def shown(parameter: dict[str, str]) -> str:
    """Return a parameter as Python code."""
    kind = parameter.get("kind", "")
    text = f"{kind if kind in VARIADIC else ''}{parameter['name']}"
    if "annotation" in parameter:
        text += f": {parameter['annotation']}"
    if "default" in parameter:
        text += f" = {parameter['default']}" if "annotation" in parameter else f"={parameter['default']}"
    return text


def signature(facts: dict[str, Any]) -> str:
    """Return a signature as Python code, without the name."""
    if isinstance(facts.get("signature"), str):
        return str(facts["signature"])
    parts: list[str] = []
    last = ""
    for each in _params(facts):
        kind = each.get("kind", "")
        if last == "positional" and kind != last:
            parts.append("/")
        if kind == "keyword" and last not in ("*", "keyword"):
            parts.append("*")
        parts.append(shown(each))
        last = kind
    if last == "positional":
        parts.append("/")
    arrow = f" -> {facts['return_type']}" if facts.get("return_type") else ""
    return f"({', '.join(parts)}){arrow}"


# -- texts --------------------------------------------------------------------------------------------------------

LONGEST_CODE = 1000


def same_code(a: str, b: str) -> bool:
    """Whether two expressions differ in nothing but their spelling, such as quotes and spaces."""
    return a == b or (_parsed(a) is not None and _dumped(a) == _dumped(b))


def same_type(a: str, b: str) -> bool:
    """Whether two annotations mean the same: quoted or not, ``Optional[X]`` or ``X | None``, ``t.List`` or ``list``."""
    return same_code(a, b) or (_parsed(a) is not None and _type(_parsed(a)) == _type(_parsed(b)))


def _parsed(text: str) -> ast.expr | None:
    if len(text) > LONGEST_CODE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _dumped(text: str) -> str:
    found = _parsed(text)
    return text if found is None else ast.dump(found)


def _type(node: ast.expr | None) -> object:
    """Return an annotation in a form that is equal for equal types."""
    if isinstance(node, ast.Constant):
        return _type(_parsed(node.value)) if isinstance(node.value, str) else repr(node.value)
    if isinstance(node, ast.Attribute):
        return _spelled(node.attr)
    if isinstance(node, ast.Name):
        return _spelled(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union(_type(node.left), _type(node.right))
    if isinstance(node, ast.Subscript):
        outer = _type(node.value)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer == "literal":
            return outer, tuple(ast.dump(item) for item in items)
        inner = [_type(item) for item in items]
        if outer == "optional":
            return _union(*inner, "None")
        return _union(*inner) if outer == "union" else (outer, tuple(inner))
    return None if node is None else ast.dump(node)


_BUILT_IN = frozenset("List Dict Set FrozenSet Tuple Type Optional Union Literal".split())


def _spelled(name: str) -> str:
    return name.lower() if name in _BUILT_IN else name


def _union(*members: object) -> object:
    found: set[object] = set()
    for each in members:
        found |= each if isinstance(each, frozenset) else {each}
    return frozenset(found)


# -- other languages, and files that were not read -----------------------------------------------------------------


def _of_others(symbols: Iterable[Definition], new: Names, wanted: Wanted) -> Iterator[Breakage]:
    seen: set[tuple[str, str]] = set()
    for symbol in symbols:
        key = (symbol.path, symbol.qualified)
        if symbol.halves or key in seen or not wanted(symbol.qualified, symbol.kind, symbol.path):
            continue
        seen.add(key)
        if not all(is_public_name(part) for part in symbol.qualified.split(".")):
            continue
        others = new.everywhere.get(key, [])
        facts = symbol.facts
        if not others:
            yield _row("removed", symbol.qualified, symbol, facts.get("signature"), "", None)
        elif all(each.kind != symbol.kind for each in others):
            yield _row("kind_changed", symbol.qualified, symbol, symbol.kind, others[0].kind, others[0])
        else:
            texts = [each.facts.get("signature") for each in others]
            if facts.get("signature") is not None and facts["signature"] not in texts:
                yield _row("signature_changed", symbol.qualified, symbol, facts["signature"], texts[0], others[0])


def _unread(db: Database, first: Scan, second: Scan, wanted: Wanted) -> Iterator[Breakage]:
    for path, old, new, is_gone, had, has in db.execute_sql(UNREAD, (first.id, second.id)).fetchall():
        if language_of(path) == OTHER or not wanted("", "module", path):
            continue
        reason = ""
        if old != "done" or not had:
            reason = f"no symbols were recorded in scan {first.id}"
        elif not is_gone and (new != "done" or not has):
            reason = f"no symbols were recorded in scan {second.id}"
        if reason:
            there = (None, None) if is_gone else (path, 1)
            yield Breakage("not_compared", path, "module", "", reason, path, 1, *there)
    for scan in (first, second):
        if scan.revision is None:
            reason = f"scan {scan.id} is {scan.status}; not all of its tree was recorded"
            yield Breakage("not_compared", scan.target, "module", "", reason, "", 1, None, None)
