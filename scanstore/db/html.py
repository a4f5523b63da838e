"""Rows and results as small HTML tables, for notebooks.

Every text is escaped and stands between tags. The tables have inline styles only, without scripts, links and external
resources. Their colours work on light and dark backgrounds: text and lines have the colour of the page, and the
background of a severity is dark enough for white text.

Change here: how a value and a table look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeGuard

import peewee

from scanstore.db.generic_fields import Json
from scanstore.db.labels import short, tokens
from scanstore.db.plain_text import plain_text

MOST = 50  #: rows of a table
FEW = 10  #: rows of a table inside another one
WIDEST = 80  #: characters of a cell
COLUMNS = 8  #: columns of a model that does not declare any
COLOURS = {
    "critical": "#8b1a1a", "high": "#b3261e", "major": "#b3261e", "medium": "#8a5300", "minor": "#8a5300",
    "low": "#1f5fa8", "info": "#57606a", "observation": "#57606a",
}  # fmt: skip
#: The ends of the names of numbers that do not count anything.
PLAIN = ("id", "line", "line_number", "ordinal", "version", "scan")
_LINE = "border-bottom:1px solid rgba(128,128,128,.35);padding:2px 8px;vertical-align:top;"
_TABLE = '<table style="border-collapse:collapse;margin:2px 0">'


def card(value: object) -> str:
    """Return a row, or a named tuple, as a table with one line per value. Lists of rows follow as tables."""
    return "".join(_card(value))


def _card(value: object) -> Iterator[str]:
    values = _values(value)
    lists: dict[str, Sequence[object]] = {name: each for name, each in values.items() if _is_list(each) and each}
    yield f"<div><b>{_text(type(value).__name__)}</b>{_TABLE}"
    for name, each in values.items():
        if name not in lists:
            yield f"<tr>{_cell('th', _text(_words(name)), 'left')}{_value(name, each, 'left')}</tr>"
    yield "</table>"
    for name, rows in lists.items():
        yield f"<div><b>{_text(_words(name))}</b>: {len(rows):,}</div>"
        yield from _table(rows, None, FEW)
    yield "</div>"


def table(rows: Sequence[object], kind: type | None) -> str:
    """Return rows as a table of the first 50, with the number of all. Without rows, it has the columns of ``kind``."""
    return "".join(("<div>", *_table(rows, kind, MOST), f"<div>{_count(rows)}</div></div>"))


def _count(rows: Sequence[object]) -> str:
    total = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    return total if len(rows) <= MOST else f"the first {MOST} of {total}"


def _table(rows: Sequence[object], kind: type | None, most: int) -> Iterator[str]:
    kind = type(rows[0]) if kind is None and rows else kind
    names = _columns(kind, rows)
    yield f"{_TABLE}<thead><tr>"
    yield from (_cell("th", _text(_words(name)), "left") for name in names)
    yield "</tr></thead><tbody>"
    for row in rows[:most]:
        values = _values(row)
        yield f"<tr>{''.join(_value(name, values.get(name)) for name in names)}</tr>"
    yield "</tbody></table>"
    if len(rows) > most and most == FEW:
        yield f"<div>and {len(rows) - most:,} more</div>"


def _columns(kind: type | None, rows: Sequence[object]) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, peewee.Model):
        return _shown(kind)
    fields: Sequence[str] = getattr(kind, "_fields", ())
    return list(fields) or (list(_values(rows[0])) if rows else [])


def _shown(model: Any) -> list[str]:
    """Return the key and the declared columns of a model."""
    fields = model._meta.sorted_fields
    if not model.__shown__:
        names = [field.name for field in fields if not isinstance(field, Json | peewee.BlobField)]
        return [name for name in names if name not in model.__secret__][:COLUMNS]
    keys = [key.name for key in model._meta.get_primary_keys()]
    names = [token.name for token in tokens(model.__shown__)]
    return [name for name in dict.fromkeys((*keys, *names)) if name not in model.__secret__]


def _values(value: object) -> dict[str, object]:
    if isinstance(value, peewee.Model):
        data = vars(value).get("__data__") or {}
        found = {name: data.get(name) for name in _shown(type(value))}
        for name, field in type(value)._meta.fields.items():
            if isinstance(field, peewee.ForeignKeyField) and isinstance(found.get(name), int):
                found[name] = short(found[name])  # an id, which is not a count
        more = {name: vars(value).get(name) for name in ("state", "counts")}  # the attributes that lists add to rows
        return found | {name: each for name, each in more.items() if each is not None}
    return dict(value._asdict()) if _is_named(value) else {"value": value}


def _is_named(value: object) -> TypeGuard[Any]:
    return isinstance(value, tuple) and hasattr(value, "_asdict")


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple) and not hasattr(value, "_fields")


def _value(name: str, value: object, side: str = "") -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    side = side or ("right" if number else "left")
    if isinstance(value, str) and "severity" in name and value in COLOURS:
        style = f"background:{COLOURS[value]};color:#fff;border-radius:3px;padding:0 6px"
        return _cell("td", f'<span style="{style}">{value}</span>', side)
    try:
        text = _plain(name, value)
    except Exception:  # values of an unsaved row can be anything
        text = short(value, name)
    return _cell("td", _text(text), side)


def _plain(name: str, value: object) -> str:
    """Return the text of a value inside a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and not name.endswith(PLAIN):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return f"{short(value)} UTC"
    if isinstance(value, Mapping) and all(isinstance(each, int) for each in value.values()):
        return ", ".join(f"{key} {number:,}" for key, number in value.items()) or "none"
    if _is_named(value):
        numbers = value._asdict().items()
        return ", ".join(f"{_words(key)} {number}" for key, number in numbers if number not in (None, 0))
    if _is_list(value):
        return ", ".join(short(each) for each in value[:FEW]) if value else "none"
    return short(value, name, most=WIDEST)


def _cell(tag: str, inside: str, side: str) -> str:
    return f'<{tag} style="{_LINE}text-align:{side}">{inside}</{tag}>'


def _text(text: str) -> str:
    text = plain_text(text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _words(name: str) -> str:
    return name.replace("_", " ")
