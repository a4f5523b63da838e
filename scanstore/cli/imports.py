"""`scanstore symbols imports|importers|cycles|unresolved`: how files import each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore.cli.absence import limits, nothing_in
from scanstore.cli.base import common, find_scan, open_store, recorded_path, rows_options
from scanstore.cli.output import Column, Columns, listing, place_column, places, row_limit

if TYPE_CHECKING:
    from scanstore.db.words import CycleKind
    from scanstore.snapshots.models import Scan
    from scanstore.symbols.cycles import ImportCycle
    from scanstore.symbols.models import ImportRelation

IMPORTS = ("place", "resolution", "module", "names", "file")  # the columns of import statements


@click.command()
@click.argument("file")
@rows_options(*IMPORTS)
@common
def imports(file: str, scan: str | None) -> None:
    """List the import statements of FILE, with the file of the tree that each one resolves to.

    \b
    Example:
      scanstore symbols imports json/decoder.py
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = recorded_path(where, file)
        found = store.symbols.imports(path, scan=where, limit=row_limit())
        listing(found, _import_columns(where))
        if not found:
            nothing_in(store, where, path, f"{file} imports nothing")


def _import_columns(scan: Scan) -> Columns[ImportRelation]:
    place = places(scan)
    return (
        place_column(scan, "importer_file", "line"),
        "resolution",
        Column("module", "imported_module"),
        Column("names", lambda row: ", ".join(map(str, row.imported_names or ()))),
        Column("file", lambda row: f"-> {place(row.resolved_file, None)}" if row.resolved_file else ""),
    )


@click.command()
@click.argument("file")
@rows_options("file")
@common
def importers(file: str, scan: str | None) -> None:
    """List the files that import FILE.

    \b
    Example:
      scanstore symbols importers json/decoder.py
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = recorded_path(where, file)
        found = store.symbols.importers(path, scan=where, limit=row_limit())
        place = places(where)
        listing(found, [Column("file", lambda path: place(path, None))])
        if not found:
            limits(store, where, "imports", f"no file of scan {where.id} imports {file}", path=path)


@click.command()
@click.option(
    "--kind", type=click.Choice(("runtime", "lazy", "typing")),
    help="Only cycles of module-level imports, or those that need an import inside a function or under TYPE_CHECKING.",
)  # fmt: skip
@rows_options("number", "kind", "files", "names", "closed", "module")
@common
def cycles(kind: CycleKind | None, scan: str | None) -> None:
    """List groups of files that import each other, largest first, with the import that closes each.

    A `lazy` cycle needs an import inside a function, a `typing` cycle one under `if TYPE_CHECKING`.

    \b
    Example:
      scanstore symbols cycles --kind runtime
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.import_cycles(scan=where, only=kind, limit=row_limit())
        place = places(where)
        columns: Columns[tuple[int, ImportCycle]] = (
            Column("number", lambda row: row[0], right=True),
            Column("kind", lambda row: row[1].kind),
            Column("files", lambda row: len(row[1].files), right=True),
            Column("names", lambda row: ", ".join(place(path, None) for path in row[1].files)),
            Column("closed", lambda row: place(row[1].from_file, row[1].line),
                   key=lambda row: (row[1].from_file, row[1].line)),
            Column("module", lambda row: f"import {row[1].module} -> {place(row[1].to_file, None)}"),
        )  # fmt: skip
        listing(enumerate(found, 1), columns, data=lambda row: row[1]._asdict())
        message = f"no files of scan {where.id} import each other{f' by {kind} imports' if kind else ''}"
        limits(store, where, "imports", "" if found else message)


@click.command()
@rows_options(*IMPORTS)
@common
def unresolved(scan: str | None) -> None:
    """List imports of modules that are missing from this tree.

    Imports of modules outside the tree are not listed.

    \b
    Example:
      scanstore symbols unresolved
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.unresolved_imports(scan=where, limit=row_limit())
        listing(found, _import_columns(where))
        message = f"every import of scan {where.id} that means this tree was found in it"
        limits(store, where, "imports", "" if found else message)


COMMANDS = (imports, importers, cycles, unresolved)
