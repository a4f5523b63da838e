"""The hooks by which notebooks show rows and results as tables. :mod:`scanstore.db.html` is loaded by the first one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from scanstore.db.labels import brief

_C = TypeVar("_C", bound=type)


def described(kind: _C) -> _C:
    """Class decorator for named tuples: a `repr` without long lists, and a table in notebooks."""
    kind.__repr__ = brief  # type: ignore[assignment]
    kind._repr_html_ = card  # type: ignore[attr-defined]
    return kind


def card(value: object) -> str:
    """Return a row or a named tuple as HTML."""
    return _html("card")(value)


def table(rows: Sequence[object], kind: type | None) -> str:
    """Return rows as an HTML table."""
    return _html("table")(rows, kind)


def _html(name: str) -> Callable[..., str]:
    from scanstore.db import html  # start-up: only notebooks need it

    found: Callable[..., str] = getattr(html, name)
    return found
