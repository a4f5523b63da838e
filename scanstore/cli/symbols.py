"""`scanstore symbols find|show|refs|unused|edges|diff`: by name, by place, over a whole scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from scanstore import parts
from scanstore.cli.absence import gap_of, known_file, limits
from scanstore.cli.base import (
    Failure,
    Misuse,
    basic_options,
    chosen_target,
    common,
    configuration,
    find_pair,
    find_scan,
    json_lines_option,
    note_scan,
    open_store,
    recorded_path,
    rows_options,
    scan_option,
    store_option,
    target_option,
)
from scanstore.cli.output import (
    Column,
    Columns,
    Fact,
    card,
    count,
    listing,
    note,
    place_column,
    places,
    plain_text,
    row_limit,
    say,
    table,
    wants_json,
)
from scanstore.cli.provenance import recorded_scans

if TYPE_CHECKING:
    from scanstore.db.words import NameMatch, ReferenceType, Resolution, SymbolChangeFilter, SymbolType
    from scanstore.indexing.languages import Gap
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store
    from scanstore.symbols.breaking import Breakage
    from scanstore.symbols.comparison import SymbolDiff
    from scanstore.symbols.graph import Edge
    from scanstore.symbols.models import Symbol, SymbolReference

TYPES = ("class", "function", "method", "variable", "module")
REFERENCES = ("call", "import", "inherit", "use")
CHANGES = (
    "added", "removed", "changed", "moved", "signature", "body", "decorator", "docstring", "formatting", "members",
    "text", "unknown",
)  # fmt: skip
CANDIDATES = 20
SYMBOLS = ("id", "place", "type", "name")  # the columns of a symbol


def pick_symbol(store: Store, given: str, scan: str | None) -> Symbol:
    """The symbol meant by an id or a name; fails with the candidates when a name fits several.

    An id has its scan, unless another one was asked for.
    """

    if given.isascii() and given.isdecimal():
        asked = scan is not None or chosen_target() is not None
        row = store.symbols.get(int(given), scan=find_scan(store, scan) if asked else None)
        note_scan(store, recorded_scans(store).get(row.scan_id))
        return row
    where = find_scan(store, scan)
    try:
        return store.symbols.get(given, scan=where)
    except parts.errors.Ambiguous as error:
        found = [each for each in error.candidates if isinstance(each, parts.models.Symbol)]
        for line in table(found[:CANDIDATES], symbol_columns(where)):
            note(line)
        if len(found) > CANDIDATES:
            note(f"and {len(found) - CANDIDATES} more: scanstore symbols find {given}")
        what = f"{len(found)} symbols are called {given}"
        raise Failure(f"{what}; repeat with the id or the qualified name of one") from None


def symbol_columns(scan: Scan) -> Columns[Symbol]:
    """Return `file:line  type  qualified name  id`."""
    return (place_column(scan), Column("type", "symbol_type"), Column("name", "qualified_name"), "id")


@click.command()
@click.argument("name")
@click.option("--prefix", "match", flag_value="prefix", help="Match the beginning of names.")
@click.option("--contains", "match", flag_value="contains", help="Match any part of names, ignoring case.")
@click.option("--type", "symbol_type", type=click.Choice(TYPES), help="Only symbols of this type.")
@click.option("--file", metavar="FILE", help="Only symbols in this file of the scan.")
@rows_options(*SYMBOLS)
@common
def find(
    name: str, match: NameMatch | None, symbol_type: SymbolType | None, file: str | None, scan: str | None
) -> None:
    """Find symbols by name or qualified name.

    Prints id, file:line, type and qualified name. The exit code is 1 if no symbol matches.

    \b
    Example:
      scanstore symbols find parse --contains --type function
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = None if file is None else recorded_path(where, file)
        find = partial(store.symbols.find, name, scan=where, symbol_type=symbol_type, file=path)
        found = find(match=match or "exact", limit=row_limit())
        listing(found, symbol_columns(where))
        if not found:
            known_file(store, where, path)
            near = 0 if match == "contains" else len(find(match="contains"))
            hint = f"; {count(near, 'name contains', 'names contain')} it: add --contains" if near else ""
            unseen = gap_of(store, where, "symbols", path=path)
            raise Failure(unseen.after(f"no symbol {name!r} in scan {where.id} of {where.target}{hint}"))


@click.command()
@click.argument("symbol")
@common
def show(symbol: str, scan: str | None) -> None:
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
        metadata: dict[str, Any] = dict(row.metadata or {})
        docstring = metadata.get("docstring")
        if not wants_json():
            say(plain_text(f"@{decorator}") for decorator in metadata.get("decorators") or ())
        card(
            {**row.to_dict(), "references": {"by_type": dict(kinds), "by_resolution": dict(known)}},
            signature(row, metadata),
            _facts(row, store.scans.get(row.scan_id), kinds, known, None if kinds else unseen),
            ("", docstring.strip() if isinstance(docstring, str) else ""),
        )


def _facts(
    row: Symbol, scan: Scan, kinds: Counter[ReferenceType], known: Counter[Resolution], unseen: Gap | None
) -> Iterator[Fact]:
    yield "where", f"{places(scan)(row.file_path, row.start_line)}-{row.end_line}"
    yield from (("type", row.symbol_type), ("id", f"{row.id} in scan {row.scan_id}"))
    shown = {"params", "return_type", "decorators", "docstring", "bases", "async", "annotation", "signature",
             "type_checking"}  # fmt: skip
    for key, value in dict(row.metadata or {}).items():
        if key not in shown:
            yield key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    uses = ", ".join(count(number, kind) for kind, number in kinds.most_common())
    if unseen is not None:
        uses = f"unknown: {unseen.text}" if unseen.whole else unseen.after("nothing that was found")
    yield "used by", uses
    yield "of these", ", ".join(f"{number:,} {resolution}" for resolution, number in known.most_common())


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
@click.option("--guesses/--no-guesses", default=True, show_default=True, help="Include guessed references.")
@rows_options("place", "type", "trust", "name", "within")
@common
def refs(symbol: str, reference_type: ReferenceType | None, guesses: bool, scan: str | None) -> None:
    """List the references to a symbol, and how each was resolved.

    \b
    Example:
      scanstore symbols refs json.loads --type call
    """
    with open_store() as store:
        row = pick_symbol(store, symbol, scan)
        found = store.symbols.references(row, reference_type=reference_type, guesses=guesses, limit=row_limit())
        where = store.scans.get(row.scan_id)
        listing(found, _reference_columns(found, store, where))
        if not found:
            message = f"nothing that was found refers to {row.qualified_name}"
            limits(store, where, "references", message, path=row.file_path)


def _reference_columns(found: list[SymbolReference], store: Store, scan: Scan) -> Columns[SymbolReference]:
    users = {number: store.symbols.get(number) for number in {r.from_symbol_id for r in found} if number is not None}

    def within(reference: SymbolReference) -> str:
        user = None if reference.from_symbol_id is None else users.get(reference.from_symbol_id)
        return f"in {user.qualified_name}" if user is not None else ""

    place = place_column(scan, "from_file", "from_line")
    return (place, Column("type", "reference_type"), Column("trust", trust), "name", Column("within", within))


def trust(reference: SymbolReference | Edge) -> str:
    """Return `exact`, or `guessed 50%`."""
    known, confidence = reference.resolution, reference.confidence
    return known if confidence >= 1 or known == "unresolved" else f"{known} {confidence:.0%}"


@click.command()
@click.option(
    "--type", "types", multiple=True, type=click.Choice(TYPES), default=("class", "function", "method"),
    show_default=True, help="Symbols of this type; repeatable.",
)  # fmt: skip
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Names to leave out, such as 'visit*'; repeatable.")
@rows_options(*SYMBOLS)
@common
def unused(types: tuple[SymbolType, ...], ignore: tuple[str, ...], scan: str | None) -> None:
    """List symbols that seem to be unused: a hint, not a proof.

    Names that frameworks call are left out, and so are those that match an --ignore, or a pattern of `unused-ignore` in
    the configuration. Symbols of languages whose references are not recorded are left out too.

    \b
    Example:
      scanstore symbols unused --type function --ignore 'handle*'
    """
    with open_store() as store:
        where = find_scan(store, scan)
        patterns = (*configuration().unused_ignore, *ignore)
        found = store.symbols.unreferenced(scan=where, symbol_types=types, ignore=patterns, limit=row_limit())
        listing(found, symbol_columns(where))
        message = f"every {' or '.join(types)} of scan {where.id} seems to be used"
        limits(store, where, "references", "" if found else message)


@click.command()
@click.option("--type", "reference_type", type=click.Choice(REFERENCES), help="Only references of this type.")
@rows_options("place", "type", "edge", "trust")
@json_lines_option
@scan_option
@store_option
def edges(reference_type: ReferenceType | None, scan: str | None) -> None:
    """Stream every reference: place, kind, text, target, resolution.

    \b
    Example:
      scanstore symbols edges --type call --json | jq -r .target
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.edges(where, reference_type=reference_type)
        columns: Columns[Edge] = (
            place_column(where, "from_file", "from_line"),
            Column("type", "reference_type"),
            Column("edge", lambda edge: f"{edge.from_symbol or '?'} -> {edge.target or edge.name}"),
            Column("trust", trust),
        )
        listing(found, columns, stream=True)
        limits(store, where, "references")


@click.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option("--breaking", is_flag=True, help="List what importers notice; exit with 1 if anything breaks.")
@click.option("--public", is_flag=True, help="Only names that importers use: no leading underscore, or exported.")
@click.option("--path", "paths", multiple=True, metavar="PATTERN",
              help="Only symbols in files that match, such as 'src/**'; repeatable.")  # fmt: skip
@click.option("--kind", "--type", "kinds", multiple=True, type=click.Choice(TYPES),
              help="Only symbols of this type; repeatable.")  # fmt: skip
@click.option("--change", "changes", multiple=True, type=click.Choice(CHANGES),
              help="Only changes of this kind; repeatable.")  # fmt: skip
@rows_options("change", "kinds", "place", "type", "name", "before")
@target_option
@basic_options
@click.pass_context
def diff(
    context: click.Context,
    a: str | None,
    b: str | None,
    breaking: bool,
    public: bool,
    paths: tuple[str, ...],
    kinds: tuple[SymbolType, ...],
    changes: tuple[SymbolChangeFilter, ...],
) -> None:
    """List the symbols that differ between scans A and B: added, removed, changed, moved.

    B is by default the latest scan of A's target. Without A, the latest scan of the target is compared with the one
    before it.

    \b
    Example:
      scanstore symbols diff 1 2 --breaking --path 'src/**'
    """
    if breaking and changes:
        raise Misuse("--breaking lists other changes than --change; give one of them")
    with open_store() as store:
        before, after = find_pair(store, a, b)
        if breaking:
            broken = store.symbols.breaking(before, after, paths=paths, symbol_types=kinds)
            listing(broken, _breakage_columns(before, after))
            _judge(context, store, broken, before, after)
            return
        found = store.symbols.diff(before, after, public=public, paths=paths, symbol_types=kinds, changes=changes)
        listing(_changes(found), _change_columns(before, after), data=lambda row: row.data)
        parts = ", ".join(f"{len(items):,} {what}" for what, items in found._asdict().items() if items)
        nothing = "no symbol changed like that" if public or paths or kinds or changes else "no symbol changed"
        message = f"from scan {before.id} to scan {after.id}: {parts or nothing}"
        if parts:
            note(message)
        unknown = sum("unknown" in row.kinds for row in found.changed)
        if unknown:
            note(f"{count(unknown, 'symbol')} compared by name only, because the text was not recorded")
        limits(store, after, "symbols", "" if parts else message)


def _judge(context: click.Context, store: Store, rows: Sequence[Breakage], before: Scan, after: Scan) -> None:
    """Report what breaks, and end with 1 if anything does or may."""
    unread = [row for row in rows if row.kind == "not_compared"]
    number = len(rows) - len(unread)
    message = f"from scan {before.id} to scan {after.id}: "
    message += f"{count(number, 'breaking change')}" if number else "no breaking change"
    if unread:
        message += f"; cannot be decided, because {count(len(unread), 'file')} could not be compared"
    if rows:
        note(message)
        context.exit(1)
    limits(store, after, "symbols", message)


class ChangedSymbol(NamedTuple):
    """A symbol that differs between two scans, and its places on the sides that have it."""

    change: str
    kinds: str
    name: str
    type: SymbolType
    old: tuple[str, int] | None
    new: tuple[str, int] | None
    data: dict[str, object]


def _changes(found: SymbolDiff) -> Iterator[ChangedSymbol]:
    for what, symbols in (("added", found.added), ("removed", found.removed)):
        for row in symbols:
            place = row.file_path, row.line
            old, new = (None, place) if what == "added" else (place, None)
            data = {"change": what, **row._asdict(), "kinds": []}
            yield ChangedSymbol(what, "", row.qualified_name, row.symbol_type, old, new, data)
    for what, changes in (("changed", found.changed), ("moved", found.moved)):
        for each in changes:
            before, after = (each.old_file, each.old_line), (each.new_file, each.new_line)
            parts = [kind for kind in CHANGES if kind in each.kinds]
            data = {"change": what, **each._asdict(), "kinds": parts}
            shown = ", ".join(part for part in parts if part != what)
            yield ChangedSymbol(what, shown, each.qualified_name, each.symbol_type, before, after, data)


def _change_columns(first: Scan, second: Scan) -> Columns[ChangedSymbol]:
    old, new = places(first), places(second)
    return (
        "change",
        "kinds",
        Column(
            "place",
            lambda row: old(*row.old) if row.new is None and row.old else new(*row.new or ("", None)),
            key=lambda row: row.new or row.old,
        ),
        "type",
        "name",
        Column("before", lambda row: old(*row.old) if row.old and row.new else None, key="old"),
    )


def _breakage_columns(first: Scan, second: Scan) -> Columns[Breakage]:
    old, new = places(first), places(second)

    def place(row: Breakage) -> str | None:
        if row.new_file is not None:
            return new(row.new_file, row.new_line)
        return old(row.old_file, row.old_line) if row.old_file else None

    return (
        Column("change", lambda row: row.kind.replace("_", " "), key="kind"),
        Column("place", place, key=lambda row: (row.new_file or row.old_file, row.new_line or row.old_line)),
        Column("type", "symbol_type"),
        "name",
        "old",
        "new",
    )


COMMANDS = (find, show, refs, unused, edges, diff)
