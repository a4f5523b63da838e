"""`scanstore llm`: the usage and cost of language models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore.cli.base import basic_options, find_scan, group, open_store, rows_options
from scanstore.cli.output import Column, aside, listing

if TYPE_CHECKING:
    from scanstore.analysis.calls import Usage


@group
def llm() -> None:
    """Show model usage and cost."""


@llm.command()
@click.option("--scan", metavar="SCAN", help="Only calls for this scan: its id, or a target. [default: all calls]")
@rows_options(
    "model", "purpose", "calls", "answered", "failed", "running", "tokens in", "tokens out", "cost", "seconds"
)
@basic_options
def usage(scan: str | None) -> None:
    """Show calls, tokens, cost and seconds by model and purpose, and the total.

    Cost is in the currency in which it was recorded.

    \b
    Example:
      scanstore llm usage --scan 3
    """
    with open_store() as store:
        where = None if scan is None else find_scan(store, scan)
        found = store.llm.usage(where)
        empty = "no model was called" + ("" if where is None else f" for scan {where.id}")
        listing(found, COLUMNS, empty)
        if len(found) > 1:
            total = [sum(numbers) for numbers in list(zip(*found, strict=True))[2:]]
            row = type(found[0])("", "", *total)
            figures = ", ".join(f"{column.name} {column.cell(row)}" for column in COLUMNS[2:])
            aside(f"total: {figures}")


def _figure(name: str, field: str = "", form: str = ",") -> Column[Usage]:
    key = field or name
    return Column(name, lambda row: format(getattr(row, key), form), right=True, key=key)


COLUMNS: tuple[Column[Usage], ...] = (
    Column("model"),
    Column("purpose"),
    _figure("calls"),
    _figure("answered"),
    _figure("failed"),
    _figure("running"),
    _figure("tokens in", "prompt_tokens"),
    _figure("tokens out", "completion_tokens"),
    _figure("cost", form=",.4f"),
    _figure("seconds", form=",.1f"),
)
