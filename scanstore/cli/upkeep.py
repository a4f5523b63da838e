"""`scanstore check|stats`: is the store well, how large is it."""

from __future__ import annotations

import click

from scanstore.cli.base import json_option, open_store, store_option
from scanstore.cli.output import columns, count, plain_text, say, say_json, size


@click.command()
@json_option
@store_option
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    """Look for damage and broken promises in the store. Ends with 1 when there are any.

    \b
    Example:
      scanstore check && echo well
    """
    with open_store() as store:
        problems = store.check()
        if as_json:
            say_json(problems)
        elif problems:
            say(plain_text(f"{problem.what}: {problem.remedy}") for problem in problems)
        else:
            say([plain_text(f"{store.path}: no problems")])
    context.exit(1 if problems else 0)


@click.command()
@json_option
@store_option
def stats(as_json: bool) -> None:
    """Show how large the store and its tables are.

    \b
    Example:
      scanstore stats
    """
    with open_store() as store:
        found = store.stats()
        if as_json:
            say_json(found)
            return
        per_line = f", {found.bytes / found.lines:.0f} bytes per line" if found.lines else ""
        say([plain_text(found.path)])
        say([f"{size(found.bytes)}, {count(found.scans, 'scan')}, {count(found.lines, 'line')} of source{per_line}"])
        rows = (
            (table.name, f"{table.rows:,}", "rows", "" if table.bytes is None else size(table.bytes))
            for table in found.tables
        )
        say(columns(rows, right=(1, 3), indent="  "))


COMMANDS = (check, stats)
