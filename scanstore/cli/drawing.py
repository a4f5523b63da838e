"""A list on a terminal: a table that fits its width. On a narrow terminal, each row is a block of lines.

`scanstore.cli.output` escapes the cells. Long cells are wrapped, never cut off. Change here: the colours, and the
least readable width of a table.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: The style of a word in the columns of words.
STYLES = {
    "critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "dim", "failed": "red",
    "cancelled": "dim", "running": "cyan", "processing": "cyan", "completed": "green", "open": "yellow",
    "confirmed": "red", "fixed": "green", "rejected": "red", "approved": "green", "new": "bold", "added": "green",
    "removed": "red", "changed": "yellow", "updated": "yellow", "moved": "cyan", "reopened": "red",
}  # fmt: skip
WORDS = frozenset(("severity", "status", "state", "verdict", "change"))  # columns in which words are coloured
WHOLE = 14  # a column of words or numbers up to this width is not wrapped
TIME = r"\d{4}-\d\d-\d\dT[\d:.]+Z"  # a column of times is not wrapped
LEAST = 8  # a column of texts that is narrower than this is hard to read
NARROWEST = 20  # the width of a terminal that is narrower, or unknown
ON, OFF = "\ue000", "\ue001"  # around emphasised text in a cell of a marked column
GAP = 2
AT_ONCE = 200  # rows drawn together


class Heading(NamedTuple):
    """The header of a column: its name, whether its cells are aligned right, and whether they contain marks."""

    name: str
    right: bool
    marked: bool


def drawn(heads: Sequence[Heading], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table with a header, none wider than the terminal. Yields nothing without rows."""
    from rich.console import Console

    every = [[_text(head, cell) for head, cell in zip(heads, row, strict=True)] for row in rows]
    if not every:
        return
    width = max(shutil.get_terminal_size().columns, NARROWEST)
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(width=width, color_system=colours, highlight=False, markup=False, emoji=False)
    least = [_least(head, [row[n] for row in every]) for n, head in enumerate(heads)]
    if sum(least) + GAP * (len(heads) - 1) <= width:
        widths = _widths(heads, every, least, width)
        draw = partial(_table, console, heads, widths)
    else:
        draw = partial(_blocks, console, heads)
    for start in range(0, len(every), AT_ONCE):  # the first lines of a long list come at once
        with console.capture() as captured:
            draw(every[start : start + AT_ONCE], first=start == 0)
        yield from (line.rstrip() for line in captured.get().splitlines())


def _text(head: Heading, cell: str) -> Text:
    from rich.text import Text

    text = Text(style=STYLES.get(cell, "") if head.name in WORDS else "")
    first, *rest = cell.split(ON) if head.marked else [cell]
    text.append(first)
    for each in rest:
        inside, _, after = each.partition(OFF)
        text.append(inside, "bold")
        text.append(after)
    return text


def _least(head: Heading, cells: Sequence[Text]) -> int:
    """Return the least width at which a column is readable."""
    width = _wide(head, cells)
    whole = head.name == "id" or width <= WHOLE or all(re.fullmatch(TIME, cell.plain) for cell in cells if cell.plain)
    return width if whole else LEAST


def _wide(head: Heading, cells: Sequence[Text]) -> int:
    """Return the width at which no cell of a column is wrapped."""
    return max([len(head.name), *(cell.cell_len for cell in cells)])


def _widths(
    heads: Sequence[Heading], rows: Sequence[Sequence[Text]], least: Sequence[int], width: int
) -> Sequence[int]:
    """Return the widths of columns that fit the terminal together."""
    room = width - GAP * (len(heads) - 1)
    widths = [min(_wide(head, [row[n] for row in rows]), room) for n, head in enumerate(heads)]
    while sum(widths) > room:  # take from the widest of those that may be wrapped
        widest = max((n for n in range(len(heads)) if widths[n] > least[n]), key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


def _table(
    console: Console, heads: Sequence[Heading], widths: Sequence[int], rows: Sequence[Sequence[Text]], first: bool
) -> None:
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=first)
    for head, width in zip(heads, widths, strict=True):
        drawn.add_column(head.name.upper(), justify="right" if head.right else "left", width=width, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


def _blocks(console: Console, heads: Sequence[Heading], rows: Sequence[Sequence[Text]], first: bool) -> None:
    """Print the name and the cell of each column below each other; cells without text are left out."""
    from rich.table import Table

    left = max(len(head.name) for head in heads)
    for number, row in enumerate(rows):
        block = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=False)
        block.add_column(width=left, style="bold")
        block.add_column(width=max(console.width - left - GAP, 2), overflow="fold")
        for head, cell in zip(heads, row, strict=True):
            if cell.plain:
                block.add_row(head.name.upper(), cell)
        if number or not first:
            console.print()
        console.print(block)
