"""`scanstore llm`: what the calls of language models came to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore.cli.base import Group, find_scan, json_option, open_store, store_option
from scanstore.cli.output import columns, note, say, say_json

if TYPE_CHECKING:
    from scanstore.analysis.calls import Usage

HEAD = ("model", "purpose", "calls", "answered", "failed", "running", "tokens in", "tokens out", "cost", "seconds")


@click.group(cls=Group)
@store_option
def llm() -> None:
    """Show model usage and cost."""


@llm.command()
@click.option("--scan", metavar="SCAN", help="Only calls for this scan: its id, or a target. [default: all calls]")
@json_option
@store_option
def usage(scan: str | None, as_json: bool) -> None:
    """Show calls, tokens, cost and seconds by model and purpose, and the total.

    Cost is in whatever money it was recorded in.

    \b
    Example:
      scanstore llm usage --scan 3
    """
    with open_store() as store:
        where = None if scan is None else find_scan(store, scan)
        found = store.llm.usage(where)
        if as_json:
            say_json(found)
        elif found:
            say(columns(_table(found), right=range(2, len(HEAD))))
        else:
            note("no model was called" + ("" if where is None else f" for scan {where.id}"))


def _table(found: list[Usage]) -> Iterator[tuple[str, ...]]:
    yield HEAD
    for row in found:
        yield (row.model, row.purpose, *_figures(row[2:]))
    if len(found) > 1:
        yield ("total", "", *_figures(tuple(map(sum, list(zip(*found, strict=True))[2:]))))


def _figures(numbers: tuple[float, ...]) -> Iterator[str]:
    *counts, cost, seconds = numbers
    yield from (f"{number:,}" for number in counts)
    yield from (f"{cost:,.4f}", f"{seconds:,.1f}")
