"""Peewee's fields as generic classes, to derive field types from: ``class HashField(Field[_V])``.

Peewee's stubs declare its fields generic in the value of the column, so that type checkers know the attributes of a
row. At run time Peewee's classes do not support subscripts; the classes here do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypedDict, TypeVar, overload

import peewee
from playhouse import sqlite_ext

#: The types of JSON values.
JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"

if TYPE_CHECKING:
    from peewee import DateTimeField as DateTime
    from peewee import DecimalField as Number
    from peewee import Field
    from peewee import Field as Json
    from peewee import ForeignKeyField as ForeignKey
    from peewee import IntegerField as Integer
    from peewee import TextField as Text
    from peewee import UUIDField as TextUUID
else:

    def _generic(field):
        return type(field.__name__, (field,), {"__class_getitem__": classmethod(lambda cls, _: cls)})

    Field, Text, TextUUID = map(_generic, (peewee.Field, peewee.TextField, peewee.UUIDField))
    DateTime, ForeignKey = map(_generic, (peewee.DateTimeField, peewee.ForeignKeyField))
    Integer, Json = map(_generic, (peewee.IntegerField, sqlite_ext.JSONField))
    Number = _generic(peewee.DecimalField)


__all__ = [
    "Backref", "DateTime", "Field", "ForeignKey", "Integer", "Json", "JsonValue", "KeyOptions", "Number", "Options",
    "Text", "TextUUID",
]  # fmt: skip


class Options(TypedDict, total=False):
    """The options of every field."""

    index: bool
    unique: bool
    primary_key: bool
    column_name: str
    default: object


class KeyOptions(Options, total=False):
    """The further options of a foreign key."""

    backref: str
    on_delete: str


if TYPE_CHECKING:
    _Model = TypeVar("_Model", bound=peewee.Model)

    class Backref(Generic[_Model]):
        """The rows that refer to a row: declares the attribute that Peewee adds for ``backref`` to type checkers."""

        @overload
        def __get__(self, instance: None, owner: object) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: object) -> peewee.ModelSelect[_Model]: ...
        def __get__(self, instance: object, owner: object) -> object: ...
