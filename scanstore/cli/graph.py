"""`scanstore symbols callers|callees|impact|subclasses|bases|tests-of|graph`: follow references from a symbol."""

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
    from scanstore.symbols.tests_of import ReachingTest

DEFAULT = click.core.ParameterSource.DEFAULT


FILES = click.option(
    "--file", multiple=True, metavar="PATTERN", help="Only rows in files that match, such as 'tests/**'; repeatable."
)


def _steps(_: click.Context, __: click.Parameter, value: str) -> int | None:
    """The number of steps, None for `all`."""
    if value == "all":
        return None
    if not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise click.BadParameter(f"{value!r} is not a number of steps; give 1 or more, or all")
    return int(value)


def _line(row: Reached) -> str:
    """Return the line of the first reference, and how many more there are: `9 +2`."""
    more = f" +{row.references - 1}" if row.references > 1 else ""
    return "" if row.line is None else f"{row.line}{more}"


def _question(
    verb: str, text: str, nothing: str, *, depth: str, guesses: bool, files: bool = False, overrides: bool | None = None
) -> click.Command:
    """Make the command that asks `store.symbols.<verb>`."""
    options = [
        click.option(
            "--depth", callback=_steps, default=depth, show_default=True, metavar="N|all", help="Steps to follow."
        ),
        click.option(
            "--guesses/--no-guesses", default=guesses, show_default=True, help="Follow guessed references too."
        ),
    ]
    if overrides is not None:
        options.append(
            click.option(
                "--overrides/--no-overrides", default=overrides, show_default=True,
                help="Follow the methods that a method overrides, and those that override it.",
            )
        )  # fmt: skip
    if files:
        options.append(FILES)

    @rows_options("place", "line", "steps", "type", "name", "trust")
    @common
    def ask(
        symbol: str, depth: int | None, guesses: bool, scan: str | None, file: tuple[str, ...] = (), **more: bool
    ) -> None:
        narrowed: dict[str, object] = {**more, "file": file} if file else {**more}
        with open_store() as store:
            row = pick_symbol(store, symbol, scan)
            follow: Callable[..., list[Reached]] = getattr(store.symbols, verb)
            found = follow(row, depth=depth, guesses=guesses, **narrowed)
            where = store.scans.get(row.scan_id)
            columns: Columns[Reached] = (
                place_column(where),
                Column("line", _line, right=True, key=lambda row: row.line or 0),
                Column("steps", "distance", right=True),
                Column("type", "symbol_type"),
                Column("name", "qualified_name"),
                Column("trust", lambda row: "" if row.exact else "guessed"),
            )
            listing(found, columns)
            if not found:
                more_found = not guesses and follow(row, depth=depth, guesses=True, **narrowed)
                hint = "; --guesses finds some" if more_found else ""
                kept = f" in {' or '.join(file)}" if file else ""
                message = f"{nothing.format(row.qualified_name)}{kept}{hint}"
                limits(store, where, "references", message, path=row.file_path)

    command: Callable[..., None] = ask
    for option in reversed(options):
        command = option(command)
    return click.command(verb, help=text)(click.argument("symbol")(command))


@click.command("tests-of")
@click.argument("symbol")
@click.option("--depth", callback=_steps, default="all", show_default=True, metavar="N|all", help="Steps to follow.")
@click.option("--guesses/--no-guesses", default=True, show_default=True, help="Follow guessed references too.")
@FILES
@rows_options("place", "steps", "name", "trust", "path")
@common
def tests_of(symbol: str, depth: int | None, guesses: bool, file: tuple[str, ...], scan: str | None) -> None:
    """List the tests that reach a symbol, nearest first, each with its path to the symbol.

    Tests are the functions and methods that pytest and unittest find. A path follows calls, uses, base classes,
    overrides, fixtures and set-up methods. A row is marked `guessed` when its path contains a guess.

    \b
    Example:
      scanstore symbols tests-of json.loads --limit 5
    """
    with open_store() as store:
        row = pick_symbol(store, symbol, scan)
        found = store.symbols.tests_of(row, depth=depth, guesses=guesses, file=file or None)
        where = store.scans.get(row.scan_id)
        columns: Columns[ReachingTest] = (
            place_column(where),
            Column("steps", "distance", right=True),
            Column("name", "qualified_name"),
            Column("trust", lambda row: "" if row.exact else "guessed"),
            Column("path", lambda row: " -> ".join(row.path[1:])),  # it begins with the name
        )
        listing(found, columns)
        if not found:
            kept = f" in {' or '.join(file)}" if file else ""
            message = f"no test{kept} that was found reaches {row.qualified_name}"
            limits(store, where, "references", message, path=row.file_path)


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
        """List the callers of a symbol, nearest first: file:line, line of the call, steps away, type, name.

        The line of a caller with several calls is that of the first, with the number of the others: `9 +2`.

        \b
        Example:
          scanstore symbols callers json.loads --depth 2 --file 'tests/**'
        """,
        "nothing that was found calls {}",
        depth="1",
        guesses=False,
        files=True,
        overrides=False,
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
        files=True,
    ),
    _question(
        "impact",
        """List everything that depends on a symbol by calls, uses, base classes and overrides, directly or not.

        A row is marked `guessed` when the shortest way to it contains a guess.

        \b
        Example:
          scanstore symbols impact json.decoder.scanstring --depth 3
        """,
        "nothing that was found depends on {}",
        depth="all",
        guesses=True,
        files=True,
        overrides=True,
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
    tests_of,
    draw,
)
