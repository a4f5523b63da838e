"""Spans of time, given as a timedelta or as text such as ``12h``, ``30d`` or ``8w``.

Change here: the accepted units.
"""

from __future__ import annotations

import re
from datetime import timedelta

from scanstore.errors import InvalidArgument, shown

UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def span(text: str) -> timedelta:
    """Return the span of time that a text such as ``12h``, ``90d`` or ``8w`` names. Raises InvalidArgument."""
    found = re.fullmatch(r"([0-9]{1,4})([hdw])", text.strip())
    if found is None:
        raise InvalidArgument(f"{shown(text)} is no span of time; write 12h, 90d or 8w")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def check_span(value: object, what: str) -> timedelta:
    """Return a span of time that is not negative, given as a timedelta or as text. Raises InvalidArgument."""
    if isinstance(value, str):
        return span(value)
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise InvalidArgument(f"{what} is {shown(value)}; give a timedelta, or text such as '30d'")
    return value
