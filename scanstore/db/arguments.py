"""Checks of arguments: a row or its id, a text, a number. A bad value raises a one-line error before anything is done.

Change here: how each kind of argument is checked, and the error messages.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress

import peewee

from scanstore.db.paths import composed, escape_path
from scanstore.errors import InvalidArgument, shown

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _T = TypeVar("_T")
    _W = TypeVar("_W", bound=str)


def uuid_of(row: object, what: str, *models: type[peewee.Model], remedy: str = "") -> str:
    """Return the id of a row, given as the row or its id, without a query."""
    if isinstance(row, models):
        held: Any = row
        held.check_home()
        return str(held.id)
    if isinstance(row, uuid.UUID):
        return str(row)
    if isinstance(row, str):
        with suppress(ValueError):
            return str(uuid.UUID(row))
    raise InvalidArgument(f"{shown(row)} is not {what}; give a row or its id, a UUID{remedy}") from None


def number_of(row: object, what: str, model: type[peewee.Model], remedy: str = "") -> int:
    """Return the id of a row, given as the row or its id, a whole number of at least 1. Looks nothing up."""
    key = row
    if isinstance(row, model):
        held: Any = row
        held.check_home()
        key = held.id
    if isinstance(key, bool) or not isinstance(key, int) or not 0 < key < 2**63:
        raise InvalidArgument(f"{shown(row)} is not {what}; give a row or its id{remedy and f'; {remedy}'}")
    return key


def check_text(value: object, what: str, most: int = 2**30) -> str:
    """Return a non-empty text, stripped, within the maximum length."""
    kept = value.strip() if isinstance(value, str) else ""
    if not kept or "\0" in kept:
        raise InvalidArgument(f"{what} is {shown(value)}; give a text that is not empty")
    if len(kept) > most:
        raise InvalidArgument(f"{what} has {len(kept)} characters; give at most {most}")
    return encodable(kept, what)


def check_optional_text(value: object, what: str, most: int = 2**30) -> str | None:
    return None if value is None else check_text(value, what, most)


def encodable(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is {shown(text)}, which is no valid Unicode") from None
    return text


def check_by(by: object) -> str | None:
    """Return the name of the person who acts: the given one, else that of $SCANSTORE_USER, else None."""
    return check_optional_text(os.environ.get("SCANSTORE_USER") or None if by is None else by, "by", 255)


def check_bool(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{what} is {shown(value)}; it must be True or False")
    return value


def check_string(value: object, what: str) -> str:
    """Return a text to search for, which may be empty or contain characters that no name contains."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} is {shown(value)}; give a text")
    return value


def stored_path(value: object, what: str) -> str:
    """Return the path of a file in its stored form. A name that is not Unicode may be passed unescaped."""
    path = composed(check_string(value, what))
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        return encodable(escape_path(path), what)
    return path


def check_iterable(values: Iterable[_T], what: str) -> Iterable[_T]:
    """Return an iterable unchanged. Rejects text, bytes and mappings."""
    given: object = values
    if isinstance(given, str | bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        raise InvalidArgument(f"{what} is {shown(given)}; give a list")
    return values


def check_list(values: Iterable[_T], what: str) -> list[_T]:
    return list(check_iterable(values, what))


def check_progress(value: object) -> int:
    """Per cent from 0 to 100, as a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise InvalidArgument(f"progress is {shown(value)}; give per cent, from 0 to 100")
    return int(value)


def check_path(value: object, what: str) -> str:
    """Return the path of a file or folder as text that is valid for the system."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path == "":
        raise InvalidArgument(f"{what} is '', which is not a path; give that of a file or folder")
    if not isinstance(path, str) or "\0" in path:
        raise InvalidArgument(
            f"{what} is {shown(value)}, which is not a path; give one in text, without NUL characters"
        )
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is {shown(value)}, which no file can be called; give another path") from None
    return path


def check_integer(value: object, what: str, *, least: int = 0, most: int = 2**31 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"{what} is {shown(value)}; give a whole number from {least:,} to {most:,}")
    return value


UNSTORABLE = "[\0\ud800-\udfff]"  # this pattern and the next are compiled on first use
_CWE = r"(?i)(?:cwe[- ]?)?0*([1-9][0-9]{0,5})"


def clean_text(value: object, where: str, *, needed: bool = False) -> str:
    """Return a text that can be stored; None becomes an empty text. If ``needed``, it is stripped and must not be
    empty.
    """
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise InvalidArgument(f"{where} is {shown(value)}; it must be text")
    kept = re.sub(UNSTORABLE, "\ufffd", value)
    if needed and not (kept := kept.strip()):
        raise InvalidArgument(f"{where} is empty; it is needed")
    return kept


def check_choice(value: object, where: str, words: tuple[_W, ...]) -> _W:
    """Return one of a list of words, given in any case."""
    found = value.strip().lower() if isinstance(value, str) else ""
    for word in words:
        if word == found:
            return word
    raise InvalidArgument(f"{where} is {shown(value)}; it must be one of: {', '.join(words)}")


def check_optional_integer(value: object, where: str, least: int, most: int) -> int | None:
    """Return a whole number within bounds, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most or value % 1:
        raise InvalidArgument(f"{where} is {shown(value)}; it must be a whole number from {least} to {most}, or None")
    return int(value)


def check_cwe(value: object, where: str) -> str | None:
    """Return a CWE as ``CWE-79``, given in this form or as its number."""
    if value is None or value == "":
        return None
    found = None
    if isinstance(value, str) or isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        found = re.fullmatch(_CWE, str(value)[:20].strip())
    if found is None:
        raise InvalidArgument(f"{where} is {shown(value)}; write it like CWE-79, or 79")
    return f"CWE-{found[1]}"
