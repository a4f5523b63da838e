"""Sort the rows of a list by the values of columns, not by the texts of their cells.

Change here: the comparison of values of different kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from numbers import Number
from typing import NamedTuple, TypeVar

from scanstore import parts

_Row = TypeVar("_Row")


class Order(NamedTuple):
    """One name of `--sort`: a column, and whether its order is reversed by a `-`."""

    name: str
    descending: bool


def orders(given: str) -> list[Order]:
    """Read the value of `--sort`, such as `severity,-created`."""
    names = [name.strip() for name in given.split(",")]
    return [Order(name.removeprefix("-"), name.startswith("-")) for name in names]


def ordered(rows: Iterable[_Row], by: Sequence[tuple[Callable[[_Row], object], bool]]) -> list[_Row]:
    """Return rows sorted by values, each ascending or, with True beside it, descending.

    Rows without a value come last in both directions. Equal rows keep their order.
    """
    found = list(rows)
    for value, descending in reversed(by):
        keyed = [(_comparable(value(row)), row) for row in found]
        present = [(key, row) for key, row in keyed if key is not None]
        present.sort(key=lambda each: each[0], reverse=descending)
        found = [row for _, row in present] + [row for key, row in keyed if key is None]
    return found


def rank(severity: object) -> object:
    """Return the rank of a severity: `--sort -severity` puts critical rows first."""
    known = parts.state_machine.SEVERITIES
    return -known.index(severity) if severity in known else severity


def _comparable(value: object) -> tuple[int, object] | None:
    """Return a key that compares with the keys of all other values, or None for a missing value."""
    if value is None or value == "":
        return None
    if isinstance(value, Number):
        return 0, value
    if isinstance(value, datetime):
        return 1, value
    if isinstance(value, (list, tuple)):
        return 3, [_comparable(each) or (-1, 0) for each in value]
    return 2, str(value)
