"""`scanstore symbols callers|callees|impact|subclasses|bases|graph`: follow references from a symbol, or draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from scanstore.cli.absence import limits
from scanstore.cli.base import (
    Misuse,
    common,
    find_scan,
    open_store,
    recorded_path,
    rows_options,
    scan_option,
    store_option,
)
from scanstore.cli.output import Column, Columns, listing, place_column, say
from scanstore.cli.symbols import pick_symbol

if TYPE_CHECKING:
    from scanstore.db.words import GraphDirection, GraphFormat
    from scanstore.symbols.graph import Reached
    from scanstore.symbols.models import Symbol

DEFAULT = click.core.ParameterSource.DEFAULT


def _steps(_: click.Context, __: click.Parameter, value: str) -> int | None:
    """The number of steps, None for `all`."""
    if value == "all":
        return None
    if not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise click.BadParameter(f"{value!r} is not a number of steps; give 1 or more, or all")
    return int(value)


def _question(verb: str, text: str, nothing: str, *, depth: str, guesses: bool) -> click.Command:
    """Make the command that asks `store.symbols.<verb>`."""

    @click.command(verb, help=text)
    @click.argument("symbol")
    @click.option(
        "--depth", callback=_steps, default=depth, show_default=True, metavar="N|all", help="Steps to follow."
    )
    @click.option("--guesses/--no-guesses", default=guesses, show_default=True, help="Follow guessed references too.")
    @rows_options("place", "steps", "type", "name", "trust")
    @common
    def ask(symbol: str, depth: int | None, guesses: bool, scan: str | None) -> None:
        with open_store() as store:
            row = pick_symbol(store, symbol, scan)
            follow: Callable[..., list[Reached]] = getattr(store.symbols, verb)
            found = follow(row, depth=depth, guesses=guesses)
            where = store.scans.get(row.scan_id)
            columns: Columns[Reached] = (
                place_column(where),
                Column("steps", "distance", right=True),
                Column("type", "symbol_type"),
                Column("name", "qualified_name"),
                Column("trust", lambda row: "" if row.exact else "guessed"),
            )
            listing(found, columns)
            if not found:
                more = "" if guesses or not follow(row, depth=depth, guesses=True) else "; --guesses finds some"
                message = f"{nothing.format(row.qualified_name)}{more}"
                limits(store, where, "references", message, path=row.file_path)

    return ask


@click.command("graph")
@click.option(
    "--format",
    "form",
    type=click.Choice(("dot", "graphml", "mermaid")),
    default="dot",
    show_default=True,
    help="dot for Graphviz; graphml for yEd, Gephi and networkx; mermaid for Markdown.",
)
@click.option("--root", metavar="SYMBOL", help="Only the part around this symbol; with --imports, around this file.")
@click.option("--depth", callback=_steps, default="2", show_default=True, metavar="N|all", help="Steps from --root.")
@click.option(
    "--direction",
    type=click.Choice(("callers", "callees", "both")),
    default="callees",
    show_default=True,
    help="Direction of the steps from --root.",
)
@click.option(
    "--guesses/--no-guesses", default=False, show_default=True,
    help="Include guessed calls, as dashed lines.",
)  # fmt: skip
@click.option("--imports", is_flag=True, help="Print the imports between files instead of calls.")
@scan_option
@store_option
@click.pass_context
def draw(
    context: click.Context,
    form: GraphFormat,
    root: str | None,
    depth: int | None,
    direction: GraphDirection,
    guesses: bool,
    imports: bool,
    scan: str | None,
) -> None:
    """Print the call graph or the import graph as DOT, GraphML or Mermaid.

    Mermaid viewers refuse more than 500 arrows; --root reduces the graph. `scanstore symbols edges --json` prints
    each reference as data.

    \b
    Example:
      scanstore symbols graph --root json.loads | dot -Tsvg > calls.svg
    """
    given = {name for name in ("depth", "direction") if context.get_parameter_source(name) is not DEFAULT}
    if root is None and given:
        raise Misuse(f"--{min(given)} needs a start: add --root SYMBOL")
    with open_store() as store:
        start: Symbol | str | None = None
        if root is not None and not imports:
            start = pick_symbol(store, root, scan)
            where = store.scans.get(start.scan_id)
        else:
            where = find_scan(store, scan)
            start = None if root is None else recorded_path(where, root)
        say(
            store.symbols.export(
                form, root=start, depth=depth, direction=direction, guesses=guesses, imports=imports, scan=where
            )
        )
        path = start if start is None or isinstance(start, str) else str(start.file_path)
        limits(store, find_scan(store, scan), "imports" if imports else "references", path=path)


COMMANDS = (
    _question(
        "callers",
        """List the callers of a symbol, nearest first: file:line, steps away, type, name.

        \b
        Example:
          scanstore symbols callers json.loads --depth 2
        """,
        "nothing that was found calls {}",
        depth="1",
        guesses=False,
    ),
    _question(
        "callees",
        """List the symbols of the tree that a symbol calls, nearest first.

        \b
        Example:
          scanstore symbols callees json.loads --depth all
        """,
        "{} calls nothing that was found in the tree",
        depth="1",
        guesses=False,
    ),
    _question(
        "impact",
        """List everything that depends on a symbol by calls, uses and base classes, directly or not.

        A row is marked `guessed` when the shortest way to it contains a guess.

        \b
        Example:
          scanstore symbols impact json.decoder.scanstring --depth 3
        """,
        "nothing that was found depends on {}",
        depth="all",
        guesses=True,
    ),
    _question(
        "subclasses",
        """List the classes that inherit from a class, directly or not.

        \b
        Example:
          scanstore symbols subclasses io.IOBase
        """,
        "no class that was found inherits from {}",
        depth="all",
        guesses=False,
    ),
    _question(
        "bases",
        """List the classes of the tree that a class inherits from, directly or not.

        \b
        Example:
          scanstore symbols bases http.client.HTTPSConnection
        """,
        "{} inherits from no class of the tree",
        depth="all",
        guesses=False,
    ),
    draw,
)
