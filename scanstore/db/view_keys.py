"""Ids of rows of a view: one integer that combines the file of a scan and the position of the row in the file.

``id = scan_files.id << 24 | ordinal``. Such an id is unique over all scans, never changes, and needs no column. SQLite
cannot use an index for the expression, so a comparison with one of these fields is rewritten as a comparison of the two
parts, which are indexed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypeVar, Unpack, cast, overload

import peewee

from scanstore.db.generic_fields import ForeignKey, Integer, KeyOptions, Options

_V = TypeVar("_V")
_M = TypeVar("_M", bound=peewee.Model)

SHIFT = 24
MASK = (1 << SHIFT) - 1
MOST_PER_FILE = MASK  #: rows of one kind that one file can have


def split(value: int) -> tuple[int, int]:
    """Split an id into ``(scan file id, ordinal)``."""
    return value >> SHIFT, value & MASK


def join(file_id: int, ordinal: int) -> int:
    return file_id << SHIFT | ordinal


#: A column, or an expression on one.
_Column: TypeAlias = "peewee.Field[int] | peewee.Expression"


class _Parts:
    """Comparison by parts, for the field classes below. They name their two columns in ``parts``."""

    parts: tuple[str, str]
    model: type[peewee.Model]

    def _columns(self) -> tuple[_Column, _Column]:
        first, second = (self.model._meta.combined[part] for part in self.parts)
        if isinstance(self, peewee.FieldAlias):
            return getattr(self.source, first.name), getattr(self.source, second.name)
        return first, second

    def __eq__(self, other: object) -> peewee.Expression:  # type: ignore[override]
        file_id, ordinal = self._columns()
        if isinstance(other, _Parts):
            theirs = other._columns()
            return (peewee.Field.__eq__(file_id, theirs[0])) & (peewee.Field.__eq__(ordinal, theirs[1]))
        if isinstance(other, peewee.Model):
            other = cast(Any, other)._pk
        if isinstance(other, str) and other.isdigit():
            other = int(other)
        if isinstance(other, int):
            value = split(other)
            return (peewee.Field.__eq__(file_id, value[0])) & (peewee.Field.__eq__(ordinal, value[1]))
        return peewee.Field.__eq__(cast("peewee.Field[object]", self), other)

    def in_(self, other: object) -> peewee.Expression:
        if isinstance(other, Iterable) and not isinstance(other, peewee.Node):
            ids = [split(int(cast(Any, v)._pk if isinstance(v, peewee.Model) else v)) for v in other]
            rows = ", ".join(f"({file_id}, {ordinal})" for file_id, ordinal in ids) or "(NULL, NULL)"
            file_column, ordinal_column = self._columns()
            pairs = peewee.NodeList(
                (peewee.EnclosedNodeList((file_column, ordinal_column)), peewee.SQL(f"IN (VALUES {rows})"))
            )
            # Redundant, but SQLite can use an index for this half.
            return peewee.Expression(file_column.in_(sorted({file_id for file_id, _ in ids})), peewee.OP.AND, pairs)
        return peewee.Field.in_(cast("peewee.Field[object]", self), other)


class RowId(_Parts, Integer[_V]):
    """The primary key of a model on a view."""

    def __init__(self: RowId[int], file_column: str, ordinal_column: str, **options: Unpack[Options]) -> None:
        self.parts = (file_column, ordinal_column)
        super().__init__(primary_key=True, **options)

    __hash__ = peewee.Field.__hash__


class RowKey(_Parts, ForeignKey[_V]):
    """A foreign key to such a model."""

    @overload
    def __init__(
        self: RowKey[_M | None], model: type[_M], file_column: str, ordinal_column: str, *, null: Literal[True],
        **options: Unpack[KeyOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: RowKey[_M], model: type[_M], file_column: str, ordinal_column: str, *, null: Literal[False] = False,
        **options: Unpack[KeyOptions],
    ) -> None: ...  # fmt: skip
    def __init__(
        self, model: type[peewee.Model], file_column: str, ordinal_column: str, *, null: bool = False,
        **options: Unpack[KeyOptions],
    ) -> None:  # fmt: skip
        self.parts = (file_column, ordinal_column)
        super().__init__(model, null=null, **options)

    __hash__ = peewee.Field.__hash__


class WholeKey(_Parts, ForeignKey[_V]):
    """A foreign key to such a model in one column of a table. Two values are compared directly. When it is compared
    with a row of a view, its parts are extracted, so that the view is looked up by its indexes.
    """

    @overload
    def __init__(
        self: WholeKey[_M | None], model: type[_M], *, null: Literal[True], **options: Unpack[KeyOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: WholeKey[_M], model: type[_M], *, null: Literal[False] = False, **options: Unpack[KeyOptions]
    ) -> None: ...
    def __init__(self, model: type[peewee.Model], *, null: bool = False, **options: Unpack[KeyOptions]) -> None:
        super().__init__(model, null=null, **options)

    def _columns(self) -> tuple[_Column, _Column]:
        return peewee.Expression(self, ">>", SHIFT), peewee.Expression(self, "&", MASK)

    def __eq__(self, other: object) -> peewee.Expression:  # type: ignore[override]
        return _Parts.__eq__(self, other) if isinstance(other, _Parts) else peewee.Field.__eq__(self, other)

    def in_(self, other: object) -> peewee.Expression:
        return peewee.Field.in_(self, other)

    __hash__ = peewee.Field.__hash__
