"""`scanstore search` and `scanstore findings search`: what has these words, the best first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scanstore.cli.absence import gap_of
from scanstore.cli.base import common, find_scan, open_store
from scanstore.cli.output import columns, note, plain_text, say, say_json

if TYPE_CHECKING:
    from scanstore.scans import Scan
    from scanstore.search import Hit
    from scanstore.store import Store

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_ON, _OFF = "\ue000", "\ue001"  # no text of anybody's has these


def _asking(command: _Decorated) -> _Decorated:
    for add in (
        common,
        click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most this many."),
        click.option("--target", metavar="TARGET", help="Only in this target."),
        click.argument("text", nargs=-1, required=True),
    ):
        command = add(command)
    return command


@click.command()
@click.option("--kind", type=click.Choice(("finding", "symbol"), case_sensitive=False), help="Only these.")
@_asking
def search(
    text: tuple[str, ...], kind: str | None, target: str | None, limit: int, scan: str | None, as_json: bool
) -> None:
    """Find findings and symbols by their words.

    The best come first: where, what, id. All words have to be there; if nothing has them all, any of them. 'inj*' is
    how a word begins, '"two words"' stand side by side, and after -- what has -word is left out. Findings are those of
    all scans, symbols those of the latest scan of each target, unless --scan or --target says otherwise.

    \b
    Example:
      scanstore search sql injection login
      scanstore search --kind symbol parse http
    """
    _show(text, kind, target, limit, scan, as_json)


@click.command("search")
@_asking
def search_findings(text: tuple[str, ...], target: str | None, limit: int, scan: str | None, as_json: bool) -> None:
    """Find findings by their words and the notes on them.

    The best come first: where, what, id. See scanstore search --help for what the words may be.

    \b
    Example:
      scanstore findings search sql injection login
    """
    _show(text, "finding", target, limit, scan, as_json)


def _show(
    text: tuple[str, ...], kind: str | None, target: str | None, limit: int, scan: str | None, as_json: bool
) -> None:
    with open_store() as store:
        where = None if scan is None else find_scan(store, scan)
        marks = {} if as_json else {"marks": (_ON, _OFF)}
        found = store.search(" ".join(text), kind=kind, scan=where, target=target, limit=limit, **marks)
        if as_json:
            say_json(found)
        elif found:
            say(_lines(found))
        if not found:
            note("; ".join([f"nothing has the words {' '.join(text)!r:.100}", *_unseen(store, kind, where, target)]))


def _unseen(store: Store, kind: str | None, scan: Scan | None, target: str | None) -> Iterator[str]:
    """What was not looked at in the scans whose symbols were searched."""
    if kind == "finding":
        return
    scans = [scan] if scan is not None else store.scans.list(target=target, status="completed")
    seen = set()
    for row in scans:  # the newest first
        if row.kind == "source" and row.target not in seen:
            seen.add(row.target)
            text = gap_of(store, row, "symbols").text
            if text:
                yield f"scan {row.id} of {row.target}: {text}"


def _lines(found: list[Hit]) -> Iterator[str]:
    heads = columns((hit.place, hit.kind, hit.title, str(hit.id)) for hit in found)
    for hit, head in zip(found, heads, strict=True):
        yield head
        if hit.snippet:
            yield "    " + _lit(hit.snippet)


def _lit(snippet: str) -> str:
    """The snippet with what was found in bold."""
    first, *rest = snippet.split(_ON)
    parts = [plain_text(first)]
    for each in rest:
        inside, _, after = each.partition(_OFF)
        parts += (click.style(plain_text(inside), bold=True), plain_text(after))
    return "".join(parts)
