"""Times and dates of records. The date of a scene is a day, a month such as ``2006-08``, or a year such as ``2014``.

A month or year is stored as its first moment and a precision, so that dates sort, and is given back as it came.

Change here: the accepted forms of times and dates.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from scanstore.db.values import format_time
from scanstore.errors import InvalidArgument, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from scanstore.db.words import DatePrecision

_T = TypeVar("_T")

PARTIAL = re.compile(r"[0-9]{4}(-[0-9]{2})?")
LENGTHS = {"year": 4, "month": 7}  # of the text of a partial date
#: The date of the scene in the row ``t``, in the form of `written_date`.
WRITTEN = """CASE t.scene_date_precision WHEN 'year' THEN substr(t.scene_date, 1, 4)
 WHEN 'month' THEN substr(t.scene_date, 1, 7) ELSE t.scene_date END"""


def read_time(value: object) -> str | None:
    """Return the stored form of a time: an aware datetime, a day, ISO text of either, or None. Raises
    InvalidArgument.
    """
    return None if value is None else _read(value, _utc, "2026-11-22T01:46:31Z, or 2026-11-22")


def read_date(value: object) -> tuple[str | None, DatePrecision | None]:
    """Return the stored form of the date of a scene, and its precision. Text like 2014 and 2006-08 is accepted too.

    Raises InvalidArgument.
    """
    if value is None:
        return None, None
    return _read(value, _dated, "2026-11-22T01:46:31Z, 2026-11-22, 2026-11 or 2026")


def written_date(stored: str | None, precision: str | None) -> str | None:
    """Return the date of a scene as `read_date` takes it: 2014, 2006-08, or a time."""
    return None if stored is None else stored[: LENGTHS.get(precision or "day")]


def is_partial(value: object) -> bool:
    """Whether a value is text like 2014 or 2006-08 that names a year or month of the calendar. Raises ValueError for a
    month or year that the calendar lacks.
    """
    if not isinstance(value, str) or not PARTIAL.fullmatch(value):
        return False
    _dated(value)
    return True


def _read(value: object, read: Callable[[Any], _T], forms: str) -> _T:
    try:
        return read(value)
    except InvalidArgument:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"{shown(value)} is not a time; write {forms}") from error


@lru_cache(1 << 12)
def _utc(value: str | date) -> str:
    if isinstance(value, str):
        value = (date if len(value) <= 10 else datetime).fromisoformat(value)
    return format_time(value if isinstance(value, datetime) else datetime.combine(value, time(), UTC))


@lru_cache(1 << 12)
def _dated(value: str | date) -> tuple[str, DatePrecision]:
    if isinstance(value, str) and PARTIAL.fullmatch(value):
        return (_utc(f"{value}-01"), "month") if len(value) == 7 else (_utc(f"{value}-01-01"), "year")
    return _utc(value), "day"
