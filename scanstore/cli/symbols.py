"""`scanstore symbols find|show|refs|unused|edges|diff`: by name, by place, over a whole scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from scanstore import parts
from scanstore.cli.absence import gap_of, incomplete, known_file, nothing
from scanstore.cli.base import (
    Failure,
    chosen_target,
    common,
    find_pair,
    find_scan,
    json_option,
    note_scan,
    open_store,
    recorded_path,
    scan_option,
    store_option,
    target_option,
)
from scanstore.cli.output import columns, count, json_lines, note, places, plain_text, say, say_json
from scanstore.cli.scans import marked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scanstore.indexing.languages import Gap
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store
    from scanstore.symbols.models import Symbol, SymbolReference

TYPES = ("class", "function", "method", "variable", "module")
REFERENCES = ("call", "import", "inherit")
CANDIDATES = 20


def pick_symbol(store: Store, given: str, scan: str | None) -> Symbol:
    """The symbol meant by an id or a name; fails with the candidates when a name fits several.

    An id has its scan, unless another one was asked for.
    """

    if given.isascii() and given.isdecimal():
        asked = scan is not None or chosen_target() is not None
        row = store.symbols.get(int(given), scan=find_scan(store, scan) if asked else None)
        note_scan(store, store.scans.get(row.scan_id))
        return row
    where = find_scan(store, scan)
    try:
        return store.symbols.get(given, scan=where)
    except parts.errors.Ambiguous as error:
        found = [each for each in error.candidates if isinstance(each, parts.models.Symbol)]
        note(f"{len(found)} symbols are called {given}; repeat with the id or the qualified name of one:")
        lines = list(symbol_lines(found[:CANDIDATES], store))
        for line in lines:
            note(line)
        if len(found) > CANDIDATES:
            note(f"and {len(found) - CANDIDATES} more: scanstore symbols find {given}")
        raise SystemExit(1) from None


def symbol_lines(symbols: Iterable[Symbol], store: Store) -> Iterator[str]:
    """`file:line  type  qualified name  id`."""
    found = list(symbols)
    if not found:
        return iter(())
    place = places(store.scans.get(found[0].scan_id))
    return columns((place(s.file_path, s.start_line), s.symbol_type, s.qualified_name, str(s.id)) for s in found)


@click.command()
@click.argument("name")
@click.option("--prefix", "match", flag_value="prefix", help="Names that begin like this.")
@click.option("--contains", "match", flag_value="contains", help="Names with this in them, in any case.")
@click.option("--type", "symbol_type", type=click.Choice(TYPES), help="Only symbols of this type.")
@click.option("--file", metavar="FILE", help="Only those in this file of the scan.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@common
def find(
    name: str,
    match: str | None,
    symbol_type: str | None,
    file: str | None,
    limit: int | None,
    scan: str | None,
    as_json: bool,
) -> None:
    """Find symbols by name or qualified name.

    Prints file:line, type, qualified name and id. Ends with 1 when there are none.

    \b
    Example:
      scanstore symbols find parse --contains --type function
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = None if file is None else recorded_path(where, file)
        find = partial(store.symbols.find, name, scan=where, symbol_type=symbol_type, file=path)
        found = find(match=match or "exact", limit=limit)
        if as_json:
            say_json(found)
        else:
            say(symbol_lines(found, store))
        if not found:
            known_file(store, where, path)
            near = 0 if match == "contains" else len(find(match="contains"))
            hint = f"; {count(near, 'name contains', 'names contain')} it: add --contains" if near else ""
            unseen = gap_of(store, where, "symbols", path=path)
            raise Failure(unseen.after(f"no symbol {name!r} in scan {where.id} of {where.target}{hint}"))


@click.command()
@click.argument("symbol")
@common
def show(symbol: str, scan: str | None, as_json: bool) -> None:
    """Show a symbol: its place, signature, docstring, container and number of uses.

    SYMBOL is a name, a qualified name or an id.

    \b
    Example:
      scanstore symbols show json.decoder.JSONDecoder
    """
    with open_store() as store:
        row = pick_symbol(store, symbol, scan)
        references = store.symbols.references(row)
        kinds = Counter(reference.reference_type for reference in references)
        known = Counter(reference.resolution for reference in references)
        unseen = gap_of(store, store.scans.get(row.scan_id), "references", path=row.file_path)
        if as_json:
            say_json({**row.to_dict(), "references": {"by_type": dict(kinds), "by_resolution": dict(known)}})
            return
        say(_card(row, store, kinds, known, None if kinds else unseen))


def _card(row: Symbol, store: Store, kinds: Counter[str], known: Counter[str], unseen: Gap | None) -> Iterator[str]:
    metadata: dict[str, Any] = dict(row.metadata or {})
    for decorator in metadata.get("decorators") or ():
        yield plain_text(f"@{decorator}")
    yield click.style(plain_text(signature(row, metadata)), bold=True)
    facts = [("where", f"{places(store.scans.get(row.scan_id))(row.file_path, row.start_line)}-{row.end_line}")]
    facts += [("type", row.symbol_type), ("id", f"{row.id} in scan {row.scan_id}")]
    shown = {"params", "return_type", "decorators", "docstring", "bases", "async", "annotation", "signature"}
    facts += [
        (key, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for key, value in metadata.items() if key not in shown
    ]  # fmt: skip
    uses = ", ".join(count(number, kind) for kind, number in kinds.most_common())
    trust = ", ".join(f"{number:,} {resolution}" for resolution, number in known.most_common())
    if unseen is not None:
        uses = f"unknown: {unseen.text}" if unseen.whole else unseen.after("nothing that was found")
    facts.append(("used by", uses))
    if trust:
        facts.append(("of these", trust))
    yield from columns(facts, indent="  ")
    docstring = metadata.get("docstring")
    if isinstance(docstring, str) and docstring.strip():
        yield ""
        for line in docstring.strip().splitlines():
            yield f"  {plain_text(line.expandtabs())}".rstrip()


def signature(row: Symbol, metadata: dict[str, Any]) -> str:
    """Return the declaration of a symbol, rebuilt from its metadata."""
    name = str(row.qualified_name)
    if isinstance(metadata.get("signature"), str):
        return f"{name}{metadata['signature']}"
    if row.symbol_type == "class":
        bases = metadata.get("bases")
        return f"class {name}" + (f"({', '.join(map(str, bases))})" if bases else "")
    if row.symbol_type in ("function", "method") and isinstance(metadata.get("params"), list):
        begin = "async def" if metadata.get("async") else "def"
        returns = f" -> {metadata['return_type']}" if metadata.get("return_type") else ""
        return f"{begin} {name}({', '.join(_params(metadata['params']))}){returns}"
    if metadata.get("annotation"):
        return f"{name}: {metadata['annotation']}"
    return name


def _params(params: list[dict[str, Any]]) -> Iterator[str]:
    before = ""
    starred = False
    for param in params:
        kind = param.get("kind", "")
        if before == "positional" and kind != "positional":
            yield "/"
        if kind == "keyword" and not starred:
            yield "*"
        starred = starred or kind in ("*", "keyword")
        text = f"{kind if kind in ('*', '**') else ''}{param['name']}"
        if param.get("annotation"):
            text += f": {param['annotation']}"
        if param.get("default") is not None:
            text += f" = {param['default']}" if param.get("annotation") else f"={param['default']}"
        yield text
        before = kind
    if before == "positional":
        yield "/"


@click.command()
@click.argument("symbol")
@click.option("--type", "reference_type", type=click.Choice(REFERENCES), help="Only references of this type.")
@click.option("--guesses/--no-guesses", default=True, show_default=True, help="Guessed ones too.")
@common
def refs(symbol: str, reference_type: str | None, guesses: bool, scan: str | None, as_json: bool) -> None:
    """List every place that refers to a symbol, with how that is known.

    \b
    Example:
      scanstore symbols refs json.loads --type call
    """
    with open_store() as store:
        row = pick_symbol(store, symbol, scan)
        found = store.symbols.references(row, reference_type=reference_type, guesses=guesses)
        where = store.scans.get(row.scan_id)
        if as_json:
            say_json(found)
        elif found:
            say(_reference_lines(found, store, where))
        if not found:
            message = f"nothing that was found refers to {row.qualified_name}"
            nothing(store, where, message, "references", path=row.file_path)


def _reference_lines(found: list[SymbolReference], store: Store, scan: Scan) -> Iterator[str]:
    place = places(scan)
    users = {number: store.symbols.get(number) for number in {r.from_symbol_id for r in found} if number is not None}

    def within(reference: SymbolReference) -> str:
        user = None if reference.from_symbol_id is None else users.get(reference.from_symbol_id)
        return f"in {user.qualified_name}" if user is not None else ""

    return columns(
        (place(r.from_file, r.from_line), r.reference_type, trusted(r.resolution, r.confidence), r.name, within(r))
        for r in found
    )


def trusted(resolution: str, confidence: float) -> str:
    """`exact`, or `guessed 50%`."""
    return resolution if confidence >= 1 or resolution == "unresolved" else f"{resolution} {confidence:.0%}"


@click.command()
@click.option(
    "--type", "types", multiple=True, type=click.Choice(TYPES), default=("class", "function", "method"),
    show_default=True, help="Symbols of this type; repeatable.",
)  # fmt: skip
@common
def unused(types: tuple[str, ...], scan: str | None, as_json: bool) -> None:
    """List symbols that nothing in the tree seems to use: a hint, not a proof.

    Symbols of languages whose references are not recorded are left out.

    \b
    Example:
      scanstore symbols unused --type function
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.unreferenced(scan=where, symbol_types=types)
        if as_json:
            say_json(found)
        elif found:
            say(symbol_lines(found, store))
        if found:
            incomplete(store, where, "references")
        else:
            nothing(store, where, f"every {' or '.join(types)} of scan {where.id} seems to be used", "references")


@click.command()
@click.option("--type", "reference_type", type=click.Choice(REFERENCES), help="Only references of this type.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line instead.")
@scan_option
@store_option
def edges(reference_type: str | None, as_json: bool, scan: str | None) -> None:
    """Stream every reference: place, kind, text, target, resolution.

    \b
    Example:
      scanstore symbols edges --type call --json | jq -r .target
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.edges(where, reference_type=reference_type)
        if as_json:
            say(json_lines(found))
            incomplete(store, where, "references")
            return
        place = places(where)
        for_people = (
            f"{place(e.from_file, e.from_line)}  {e.reference_type}  {e.from_symbol or '?'} -> {e.target or e.name}"
            f"  {trusted(e.resolution, e.confidence)}"
            for e in found
        )
        say(map(plain_text, for_people))
        incomplete(store, where, "references")


@click.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@target_option
@json_option
@store_option
def diff(a: str | None, b: str | None, as_json: bool) -> None:
    """Show which symbols differ between scans A and B, as + added, - removed, ~ changed, > moved.

    B is by default the latest scan of A's target; without A, a target's latest scan is compared with the one before.

    \b
    Example:
      scanstore symbols diff 1 2
    """
    with open_store() as store:
        first, second = find_pair(store, a, b)
        found = store.symbols.diff(first, second)
        if as_json:
            say_json({"a": first.id, "b": second.id, **found._asdict()})
            incomplete(store, second, "symbols")
            return
        old, new = places(first), places(second)
        for what, places_then, place in (("added", found.added, new), ("removed", found.removed, old)):
            lines = columns((place(s.file_path, s.line), s.symbol_type, s.qualified_name) for s in places_then)
            say(marked(what, line) for line in lines)
        for what, changes in (("changed", found.changed), ("moved", found.moved)):
            lines = columns(
                (new(c.new_file, c.new_line), c.symbol_type, c.qualified_name, f"from {old(c.old_file, c.old_line)}")
                for c in changes
            )
            say(marked(what, line) for line in lines)
        parts = ", ".join(f"{len(items):,} {what}" for what, items in found._asdict().items() if items)
        message = f"from scan {first.id} to scan {second.id}: {parts or 'no symbol changed'}"
        if parts:
            note(message)
            incomplete(store, second, "symbols")
        else:
            nothing(store, second, message, "symbols")


COMMANDS = (find, show, refs, unused, edges, diff)
