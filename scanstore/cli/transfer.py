"""`scanstore dump|load|merge`: write a store as text, load such a text, and merge two stores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from scanstore.cli.base import (
    Failure,
    basic_options,
    existing_store_path,
    named_store_path,
    open_store,
)
from scanstore.cli.destination import check_ending, output_argument
from scanstore.cli.interrupts import keep, kept
from scanstore.cli.output import (
    aligned,
    caution,
    count,
    json_stream,
    note,
    plain_text,
    shortened,
    size,
    spoken,
    tell,
    wants_json,
)
from scanstore.cli.progress import BYTES, progress
from scanstore.cli.streams import binary_input, flush, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanstore.db.user_schema import LeftOut
    from scanstore.maintenance.dump import Loaded
    from scanstore.maintenance.merge.merge import MergeResult


@click.command()
@output_argument
@click.option("--include-secrets", is_flag=True, help="Include API keys of models and password hashes.")
@click.option("--table", "tables", multiple=True, metavar="NAME", help="Only this table; repeatable.")
@basic_options
@kept("no file was written")
def dump(file: str | None, include_secrets: bool, tables: tuple[str, ...]) -> None:
    """Write the whole store as JSON Lines.

    The dump is written to FILE, or to the standard output. Equal stores give equal bytes. Only you can read the file.
    A dump of some tables only cannot be loaded.

    \b
    Example:
      scanstore dump store.jsonl
      scanstore dump --table findings | jq -c 'select(.[11] == "open")'
    """
    if wants_json() and file is None:
        raise click.UsageError("--json needs a file for the dump: give FILE")
    check_ending(file, "JSON Lines", (".jsonl", ".ndjson", ".json", ".txt"), "write to the standard output")
    if file == "-":
        keep("the output is not complete")
    with open_store() as store:
        flush()
        target = json_stream() if file is None else file
        alone = file is not None or not is_terminal("stdout")
        with progress(f"Writing {spoken(file or '-', 'output')}", "rows", alone=alone) as display:
            told = store.dump(target, include_secrets=include_secrets, tables=tables or None, progress=display)
    tell(told, [] if file is None else f"{file}: {count(told.rows, 'row')}, {size(told.bytes)}")
    _note_left_out(told.own_left_out)


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--no-accounts", is_flag=True, help="Leave out accounts, and the sessions, prompts and audits of users.")
@basic_options
@kept("nothing was loaded")
def load(file: str, no_accounts: bool) -> None:
    """Create a store from a dump.

    FILE may be - for the standard input. The whole dump is loaded, or nothing. Creates the store if it is missing. An
    existing store must be empty, and named with --db if it is above the current folder. A dump of an older scanstore
    is migrated. Accounts with their roles, and scans of folders outside the current one, are listed: check them if
    the dump is not your own.

    \b
    Example:
      scanstore load store.jsonl --db copy.db
      scanstore load store.jsonl --no-accounts
    """
    path = named_store_path(creates=True)
    with open_store(create=True) as store:
        source = binary_input() if file == "-" else file
        with progress(f"Loading {spoken(file)}", BYTES) as display:
            told = store.load(source, accounts=not no_accounts, progress=display)
    tell(told, _loaded_lines(path, told))
    _note_left_out(told.own_left_out)


def _note_left_out(left_out: list[LeftOut]) -> None:
    """Name the tables, views and triggers of the user that are not carried."""
    for line in shortened((f"left out: the {part.kind} {part.name}; {part.reason}" for part in left_out), "part"):
        caution(line)


def _loaded_lines(path: str, told: Loaded) -> Iterator[str]:
    """Return the lines about a loaded dump: its rows, its accounts, and its folders outside the current one."""
    yield plain_text(f"{path}: {count(told.rows, 'row')} in {count(sum(map(bool, told.tables.values())), 'table')}")
    if told.accounts:
        yield "accounts, with their roles (leave them out with --no-accounts):"
        rows = ((each.email, each.role, "" if each.active else "deactivated") for each in told.accounts)
        yield from shortened(aligned(rows, indent="  "), "account", "  ")
    if told.roots:
        yield "scans of folders outside the current one:"
        yield from shortened((f"  {plain_text(root)}" for root in told.roots), "folder", "  ")
    if told.left_out:
        yield plain_text(f"left out: {', '.join(f'{number:,} {table}' for table, number in told.left_out.items())}")


@click.command()
@click.argument("other", metavar="OTHER")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Give up after this time. [default: 30, and 1 per MB of OTHER]",
)
@basic_options
@kept()
def merge(other: str, timeout: float | None) -> None:
    """Merge another store into this one. OTHER stays unchanged.

    If a row differs between the stores, this store keeps its own and lists the conflict. Merging again changes nothing.

    \b
    Example:
      scanstore merge laptop.db
    """
    path = existing_store_path()
    if not os.path.exists(other):
        raise Failure(f"no store at {other}; give the path of the store to merge")
    with open_store(write=True) as store:
        with progress(f"Merging {other}", "rows") as display:
            found = store.merge(other, timeout=timeout, progress=display)
    tell(found, _merged_lines(path, found))


def _merged_lines(path: str, found: MergeResult) -> Iterator[str]:
    for line in shortened((f"{each.table} {each.key}: {each.what}" for each in found.conflicts), "conflict"):
        note(line)
    for what, why in found.skipped.items():
        note(f"left out: {what}; {why}")
    yield plain_text(f"{path}: {count(found.added, 'row')} added, {count(len(found.conflicts), 'conflict')}")
    rows = (
        (name, f"{table.added:,}", "added", f"{table.same:,}", "the same")
        for name, table in found.tables.items()
        if table.added or table.same
    )
    yield from aligned(rows, right=(1, 3), indent="  ")


COMMANDS = (dump, load, merge)
