"""`scanstore search` and `scanstore findings search`: full-text search, best matches first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore.cli.absence import gap_of
from scanstore.cli.base import (
    Decorated,
    Misuse,
    chosen_target,
    common,
    find_scan,
    find_target,
    note_scan,
    open_store,
    rows_options,
)
from scanstore.cli.drawing import OFF, ON
from scanstore.cli.output import Column, Columns, listing, note, row_limit, wants_json
from scanstore.cli.progress import progress

if TYPE_CHECKING:
    from scanstore.db.words import SearchKind
    from scanstore.search import Hit
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store



def _asking(command: Decorated) -> Decorated:
    for add in (
        common,
        rows_options("id", "place", "kind", "title", "snippet", "target", limit=20),
        click.option("--all", "everywhere", is_flag=True, help="Search all targets."),
        click.argument("text", nargs=-1, required=True),
    ):
        command = add(command)
    return command


@click.command()
@click.option("--kind", type=click.Choice(("finding", "symbol"), case_sensitive=False), help="Only rows of this kind.")
@_asking
def search(text: tuple[str, ...], kind: SearchKind | None, everywhere: bool, scan: str | None) -> None:
    """Find findings and symbols by their words.

    The best matches come first. A match has all words; without such a match, rows with any of the words are listed.
    'inj*' matches the beginning of a word, '"two words"' a phrase; after --, -word excludes a word. The search covers
    the findings of all scans of the target of the current folder, and the symbols of its latest scan. --all searches
    all targets, and names them.

    \b
    Example:
      scanstore search sql injection login
      scanstore search --kind symbol parse http
    """
    _show(text, kind, everywhere, scan)


@click.command("search")
@_asking
def search_findings(text: tuple[str, ...], everywhere: bool, scan: str | None) -> None:
    """Find findings by their words and the notes on them.

    The best matches come first. `scanstore search --help` explains the words.

    \b
    Example:
      scanstore findings search sql injection login
    """
    _show(text, "finding", everywhere, scan)


def _show(text: tuple[str, ...], kind: SearchKind | None, everywhere: bool, scan: str | None) -> None:
    if everywhere and (scan is not None or chosen_target() is not None):
        raise Misuse("--all searches all targets: leave out --scan and --target")
    with open_store() as store:
        where = None if scan is None else find_scan(store, scan)
        target = None if where is not None or everywhere else find_target(store)
        if target is not None:
            note_scan(store, store.scans.latest(target))
        marks = {} if wants_json() else {"marks": (ON, OFF)}
        with progress("Indexing", "findings and files") as display:
            found = store.search(
                " ".join(text), kind=kind, scan=where, target=target, limit=row_limit(), progress=display, **marks
            )
        columns: Columns[Hit] = (
            "id",
            Column("place", key=_place),
            "kind",
            "title",
            Column("snippet", marked=True),
            Column("target", extra=not everywhere),
        )
        listing(found, columns)
        if not found:
            note("; ".join([f"no row has the words {' '.join(text)!r:.100}", *_unseen(store, kind, where, target)]))


def _unseen(store: Store, kind: SearchKind | None, scan: Scan | None, target: str | None) -> Iterator[str]:
    """Return the gaps of the scans whose symbols were searched."""
    if kind != "symbol":
        asked = [target] if target is not None else sorted({each.target for each in store.scans.targets()})
        for name in asked if scan is None else ():
            yield from (f"{name}: {trouble}" for trouble in store.findings.troubles(name))
        if scan is not None:
            yield from store.findings.troubles(scan=scan)
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


def _place(hit: Hit) -> tuple[str, int]:
    """Lines compare as numbers."""
    path, _, line = hit.place.rpartition(":")
    return (path, int(line)) if line.isascii() and line.isdecimal() else (hit.place, 0)
