"""`scanstore symbols imports|importers|cycles|unresolved`: how files import each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore.cli.base import common, find_scan, open_store, recorded_path
from scanstore.cli.output import columns, note, places, plain_text, say, say_json

if TYPE_CHECKING:
    from scanstore.scans import Scan
    from scanstore.symbols import ImportRelation


@click.command()
@click.argument("file")
@common
def imports(file: str, scan: str | None, as_json: bool) -> None:
    """List the import statements of FILE, with the file of the tree that each one means.

    \b
    Example:
      scanstore symbols imports json/decoder.py
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.imports(recorded_path(where, file), scan=where)
        if as_json:
            say_json(found)
        elif found:
            say(_import_lines(found, where))
        else:
            note(f"{file} imports nothing")


def _import_lines(found: list[ImportRelation], scan: Scan) -> Iterator[str]:
    place = places(scan)
    return columns(
        (
            place(row.importer_file, row.line),
            row.resolution,
            row.imported_module,
            ", ".join(map(str, row.imported_names or ())),
            f"-> {place(row.resolved_file, None)}" if row.resolved_file else "",
        )
        for row in found
    )


@click.command()
@click.argument("file")
@common
def importers(file: str, scan: str | None, as_json: bool) -> None:
    """List the files that import FILE.

    \b
    Example:
      scanstore symbols importers json/decoder.py
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.importers(recorded_path(where, file), scan=where)
        if as_json:
            say_json(found)
        elif found:
            place = places(where)
            say(plain_text(place(path, None)) for path in found)
        else:
            note(f"no file of scan {where.id} imports {file}")


@click.command()
@common
def cycles(scan: str | None, as_json: bool) -> None:
    """List groups of files that import each other, largest first.

    \b
    Example:
      scanstore symbols cycles
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.import_cycles(scan=where)
        if as_json:
            say_json(found)
            return
        place = places(where)
        for number, group in enumerate(found, 1):
            say([f"cycle {number}: {len(group)} files", *(f"  {plain_text(place(path, None))}" for path in group)])
        if not found:
            note(f"no files of scan {where.id} import each other")


@click.command()
@common
def unresolved(scan: str | None, as_json: bool) -> None:
    """List imports that name a module of this tree which is not there.

    Modules from outside the tree are not meant.

    \b
    Example:
      scanstore symbols unresolved
    """
    with open_store() as store:
        where = find_scan(store, scan)
        found = store.symbols.unresolved_imports(scan=where)
        if as_json:
            say_json(found)
        elif found:
            say(_import_lines(found, where))
        else:
            note(f"every import of scan {where.id} that means this tree was found in it")


COMMANDS = (imports, importers, cycles, unresolved)
