"""What callers give: a row or its id, a text, a number; refused in one sentence before anything is done.

Change here: what is accepted of a kind of argument wherever it is given, and the words for what is not.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

import peewee

from scanstore.errors import InvalidArgument, shown
from scanstore.workers import me

if TYPE_CHECKING:
    from scanstore.fields import Base


def uuid_of(row: Any, what: str, *models: type[Base]) -> str:
    """The id of what is given as a row of one of these models: a row, or an id. Looks nothing up."""
    if isinstance(row, models):
        row.check_home()
        return str(row.id)
    try:
        return str(row if isinstance(row, uuid.UUID) else uuid.UUID(row))
    except (ValueError, AttributeError, TypeError):
        raise InvalidArgument(f"{shown(row)} is not {what}; give a row or its id, a UUID") from None


def owner_of(row: Any, worker: str | None, what: str, *models: type[Base]) -> tuple[str, str, int | None]:
    """The id of a leased row, who acts on it, and for which attempt, where the row says so."""
    key = uuid_of(row, what, *models)
    if isinstance(row, models) and worker in (None, (leased := cast("Any", row)).worker):
        # The attempt that a row carries counts only for the worker that it was claimed by.
        return key, leased.worker or me(), leased.attempt if leased.worker else None
    return key, worker or me(), None


def bring_up_to_date(row: Any, **columns: Any) -> None:
    """What was written of a row, in the object that was given for it, if it was one."""
    if isinstance(row, peewee.Model):
        row.__data__.update(columns)


def a_text(value: Any, what: str, most: int = 2**30) -> str:
    """A text that says something, stripped, of a length that fits."""
    kept = value.strip() if isinstance(value, str) else ""
    if not kept or "\0" in kept:
        raise InvalidArgument(f"{what} is {shown(value)}; give a text that is not empty")
    if len(kept) > most:
        raise InvalidArgument(f"{what} has {len(kept)} characters; give at most {most}")
    return encodable(kept, what)


def a_text_or_none(value: Any, what: str, most: int = 2**30) -> str | None:
    return None if value is None else a_text(value, what, most)


def encodable(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is {text!r:.80}, which is no valid Unicode") from None
    return text


def a_whole(value: Any, what: str, *, least: int = 0, most: int = 2**31 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"{what} is {shown(value)}; give a whole number from {least:,} to {most:,}")
    return value
