"""`scanstore symbols rename`: the places that a rename changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore.cli.absence import gap_of
from scanstore.cli.base import common, open_store, rows_options
from scanstore.cli.output import Column, Columns, count, listing, note, place_column
from scanstore.cli.symbols import pick_symbol

if TYPE_CHECKING:
    from scanstore.symbols.renames import RenamePlace


@click.command()
@click.argument("old")
@click.argument("new_name", metavar="NEW")
@rows_options("place", "change", "kind", "trust", "text")
@common
def rename(old: str, new_name: str, scan: str | None) -> None:
    """List the places that spell a name, as a preview of a rename. No file is changed.

    OLD is a name, a qualified name or an id; NEW is a name without dots. The places that must change come first: the
    definition, and the trusted references. Others may have to change: guesses, unresolved references, strings and
    comments. Strings and comments are read from files that have not changed since the scan.

    \b
    Example:
      scanstore symbols rename json.decoder.JSONDecoder Decoder
    """
    with open_store() as store:
        row = pick_symbol(store, old, scan)
        found = store.symbols.rename_preview(row, new_name)
        where = store.scans.get(row.scan_id)
        columns: Columns[RenamePlace] = (
            place_column(where, "file_path", "line"),
            Column("change", lambda each: "must" if each.sure else "may", key=lambda each: not each.sure),
            "kind",
            Column("trust", "resolution"),
            "text",
        )
        listing(found, columns)
        sure = sum(each.sure for each in found)
        files = len({each.file_path for each in found if each.sure})
        unseen = gap_of(store, where, "references", path=row.file_path)
        note(
            unseen.after(
                f"{count(sure, 'place')} in {count(files, 'file')} must change, {len(found) - sure:,} may have to;"
                " nothing was changed"
            )
        )


COMMANDS = (rename,)
