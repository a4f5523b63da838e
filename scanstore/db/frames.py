"""Rows as a pandas DataFrame. pandas is an extra, which is loaded when a frame is made.

The columns are those of ``to_dict()``, or the fields of a named tuple, also without rows. Their types follow from the
model, not from the values: times are ``datetime64[ms, UTC]``, whole numbers ``int64``, and ``Int64`` where a value may
be missing. Keys are plain columns; the index counts from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import peewee

from scanstore.db.generic_fields import Json
from scanstore.errors import InvalidArgument

if TYPE_CHECKING:
    from pandas import DataFrame

#: The column types of values, without and with missing ones.
TYPES = {"int": ("int64", "Int64"), "bool": ("bool", "boolean"), "float": ("float64", "float64")}
OTHERS = {"datetime": "datetime64[ms, UTC]", "str": "str", "object": "object"}
FIELDS = (
    (peewee.IntegerField, "int"), (peewee.BooleanField, "bool"), (peewee.FloatField, "float"),
    (peewee.DecimalField, "float"), (peewee.DateTimeField, "datetime"),
)  # fmt: skip


def frame(rows: Sequence[object], kind: type | None) -> DataFrame:
    """Return rows of one kind as a DataFrame. Raises InvalidArgument if pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise InvalidArgument(
            "to_pandas() needs pandas, which is not installed; pip install 'scanstore[notebooks]',"
            " or use [row.to_dict() for row in rows]"
        ) from None
    kind = type(rows[0]) if kind is None and rows else kind
    words = {} if kind is None else column_types(kind)
    records = [_record(row) for row in rows]
    names = dict.fromkeys(words) | dict.fromkeys(name for record in records for name in record)
    index = pandas.RangeIndex(len(records))
    columns = {}
    for name in names:
        values = [record.get(name) for record in records]
        columns[name] = pandas.Series(values, index=index, dtype=_dtype(words.get(name, ""), values))
    return pandas.DataFrame(columns, index=index, columns=list(names))


def column_types(kind: type) -> dict[str, str]:
    """Return the columns of a model or named tuple with their types in words: ``int``, ``int | None``, ``datetime``."""
    if issubclass(kind, peewee.Model):
        fields: Mapping[str, Any] = kind._meta.fields
        blank: Any = kind(__no_default__=True)
        return {name: _word(fields[name]) if name in fields else "" for name in blank.to_dict()}
    annotations = {name: getattr(each, "__forward_arg__", each) for name, each in _annotations(kind).items()}
    return {name: str(annotations.get(name, "")) for name in getattr(kind, "_fields", ())}


def _annotations(kind: type) -> dict[str, Any]:
    return dict(getattr(kind, "__annotations__", {}))


def _word(field: Any) -> str:
    missing = " | None" if field.null else ""
    while isinstance(field, peewee.ForeignKeyField):
        field = field.rel_field
    if isinstance(field, Json):
        return "object"
    return next((word + missing for class_, word in FIELDS if isinstance(field, class_)), "str")


def _dtype(word: str, values: Sequence[object]) -> str | None:
    """Return the type of a column; None lets pandas decide."""
    word, _, missing = word.partition(" | ")
    if word in TYPES:
        return TYPES[word][bool(missing) or any(value is None for value in values)]
    return OTHERS.get(word, None if values else "object")


def _record(row: Any) -> dict[str, object]:
    if isinstance(row, peewee.Model):
        found: dict[str, object] = row.to_dict()  # type: ignore[attr-defined]
        return found
    if hasattr(row, "_asdict"):
        return {name: _plain(each) for name, each in row._asdict().items()}
    return {"value": row}


def _plain(value: Any) -> object:
    """Return rows inside a value as dictionaries."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "_asdict"):
        return _record(value)
    return [_plain(each) for each in value] if isinstance(value, list) else value
