"""Short texts for people: the `repr` of rows and results, and the columns that tables show.

A model declares in ``__shown__`` which columns describe a row, with the punctuation between them::

    __shown__ = "severity status: title, file_path:line_number | rule_id, tool"

``<Finding 7 high open: SQL injection, app.py:12>`` is made from the part before the bar. Tables have the columns of
both parts. A missing value is left out with the punctuation before it. ``name!r`` is quoted. Secrets, prompts and the
input of jobs are never named there.

A `repr` makes no query, never raises, is one line and has at most 120 characters.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, Protocol

import peewee

from scanstore.db.plain_text import plain_text

LONGEST = 120  #: characters of a row's `repr`
MOST = 60  #: characters of one value
FEW = 3  #: items of a list in the `repr` of a result
NAMES = ("qualified_name", "name", "title", "file_path", "path")  #: for models that declare nothing
_TOKEN = re.compile(r"([^A-Za-z_]*)([A-Za-z_]\w*)(!r)?")


class Token(NamedTuple):
    """A column of a declaration, with the punctuation before it."""

    before: str
    name: str
    quoted: bool


class _Record(Protocol):
    """A named tuple."""

    def _asdict(self) -> dict[str, object]: ...


@cache
def tokens(shown: str) -> tuple[Token, ...]:
    """Return the columns of a declaration, or of a part of one."""
    return tuple(Token(before, name, bool(quoted)) for before, name, quoted in _TOKEN.findall(shown))


def row_label(row: peewee.Model) -> str:
    """Return the `repr` of a row, also of one that is unsaved or partly read."""
    model: Any = type(row)
    data = vars(row).get("__data__") or {}
    meta = model._meta
    key = meta.primary_key
    parts = [model.__name__]
    if isinstance(key, peewee.Field) and not isinstance(key, peewee.CompositeKey):
        if _filled(model, data, key.name):
            parts.append(f" {plain_text(short(data[key.name], key.name))}")
    if model.__shown__:
        wanted = tokens(model.__shown__.partition("|")[0])
    else:
        wanted = tokens(next((f"{name}!r" for name in NAMES if _filled(model, data, name)), ""))
    for place, token in enumerate(wanted):
        if _filled(model, data, token.name):
            before = token.before if place and token.before else token.before or " "
            value = _value(data[token.name], token, meta.fields.get(token.name))
            parts.append(before + plain_text(value))
    text = "".join(parts)
    return f"<{text if len(text) <= LONGEST - 2 else text[: LONGEST - 3] + '…'}>"


def _filled(model: Any, data: dict[str, object], name: str) -> bool:
    return name not in model.__secret__ and data.get(name) not in (None, "")


def _value(value: object, token: Token, field: object) -> str:
    """Return the text of one column. Numbers and ids of other rows include the name of the column."""
    name = token.name
    if token.quoted:
        return short(value, name, quoted=True)
    if value is True or value is False:
        return f"{'' if value else 'not '}{name.removeprefix('is_')}"
    glued = bool(token.before) and not token.before.endswith(" ")  # a line number after its file
    number = isinstance(value, int | float) or isinstance(field, peewee.DecimalField)
    if isinstance(field, peewee.ForeignKeyField) or name == "by" or (number and not glued):
        return f"{name} {short(value, name)}"
    return short(value, name)


def short(value: object, name: str = "", *, quoted: bool = False, most: int = MOST) -> str:
    """Return a value as a text of at most ``most`` characters. Of a path, the end is kept."""
    try:
        if isinstance(value, datetime):
            return value.isoformat(" ", "minutes")[:16]
        if isinstance(value, str):
            if len(value) > most and ("path" in name or name in ("target", "root")):
                value = f"…{value[1 - most :]}"
            elif len(value) > most:
                value = f"{value[: most - 1]}…"
            return repr(value) if quoted else value
        if isinstance(value, bytes | bytearray | memoryview):
            return f"{len(value):,} bytes"
        if isinstance(value, list | tuple | dict | set) and len(value) > 20:
            return f"{len(value):,} items"
        text = repr(value) if quoted else str(value)
    except Exception:  # values of an unsaved row can be anything, and a `repr` must not fail
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def brief(self: _Record) -> str:
    """Return the `repr` of a named tuple, with the lengths of long lists instead of their items."""
    parts = [f"{name}={_counted(value)}" for name, value in self._asdict().items()]
    return f"{type(self).__name__}({', '.join(parts)})"


def _counted(value: object) -> str:
    if isinstance(value, list | tuple) and len(value) > FEW and not hasattr(value, "_fields"):
        return f"[{len(value):,} items]"
    return repr(value)
