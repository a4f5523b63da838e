"""`scanstore symbols callers|callees|impact|subclasses|bases`: follow references from a symbol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from scanstore.cli.base import common, open_store
from scanstore.cli.output import columns, note, places, say, say_json
from scanstore.cli.symbols import chosen_scan, pick_symbol

if TYPE_CHECKING:
    from scanstore.graph import Reached


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
    @common
    def ask(symbol: str, depth: int | None, guesses: bool, scan: str | None, as_json: bool) -> None:
        with open_store() as store:
            row = pick_symbol(store, symbol, chosen_scan(store, scan))
            follow: Callable[..., list[Reached]] = getattr(store.symbols, verb)
            found = follow(row, depth=depth, guesses=guesses)
            if as_json:
                say_json(found)
                return
            place = places(store.scans.get(row.scan_id))
            say(
                columns(
                    (
                        (place(r.file_path, r.start_line), r.distance, r.symbol_type, r.qualified_name,
                         "" if r.exact else "guessed")
                        for r in found
                    ),
                    right=(1,),
                )
            )  # fmt: skip
            if not found:
                more = "" if guesses or not follow(row, depth=depth, guesses=True) else "; --guesses finds some"
                note(f"{nothing.format(row.qualified_name)}{more}")

    return ask


COMMANDS = (
    _question(
        "callers",
        """List what calls a symbol, nearest first: file:line, steps away, type, name.

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
        """List what a symbol calls in the tree, nearest first.

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
        """List everything that depends on a symbol by calls and base classes, directly or not.

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
)
