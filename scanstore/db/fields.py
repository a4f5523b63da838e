"""The base model and the field types of all tables.

A model has no fixed database: its metadata returns the current store. A row remembers its store. Saving it, deleting it
or following its relations while another store is current raises WrongStore.

Each field type defines one storage format for the whole schema: times are fixed-width UTC text that sorts, JSON is
compact text, statuses are lower case, hashes are raw bytes. All fields reject a bad value before any SQL runs. Add a
field type here when a second table needs it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeVar, Unpack, overload

import peewee

from scanstore.db.arguments import number_of
from scanstore.db.current import AMBIENT, current
from scanstore.db.database import Database
from scanstore.db.generic_fields import DateTime, Field, Json, Options, Text, TextUUID
from scanstore.db.labels import row_label
from scanstore.db.notebooks import card
from scanstore.db.rules import Ruled
from scanstore.db.uuids import uuid7
from scanstore.db.values import dump_json, format_time, pack_hash, utcnow
from scanstore.errors import BindRefused, Damaged, InvalidArgument, NotFound, WrongStore, shown

if TYPE_CHECKING:
    from scanstore.db.views import View

_V = TypeVar("_V")  #: the value of a column in a row
_W = TypeVar("_W", bound=str)
_N = TypeVar("_N", bound="Numbered")
_LAST = 2**32  #: greater than the number of any field

# The base model


class StoreMetadata(peewee.Metadata):
    """Model metadata whose database is that of the current store, looked up at every use.

    Peewee sorts columns by the creation of their fields, so inherited ones come first. Set ``column_order`` in ``Meta``
    to place columns by name: those before ``...`` come first, those after it last. Subclasses inherit it.
    """

    _table: peewee.Table | None
    column_order: tuple[object, ...] = (...,)

    @property
    def database(self) -> object:
        return current() or AMBIENT

    # Peewee passes the database of its base to every new class: the one that is current at that moment.
    @database.setter
    def database(self, database: object) -> None:
        if not (database is None or database is AMBIENT or isinstance(database, Database)):
            _refuse_binding(self.model)

    @property
    def table(self) -> peewee.Table:
        # Peewee caches this permanently, so it must not refer to a store.
        if self._table is None:
            columns = [field.column_name for field in self.sorted_fields]
            self._table = peewee.Table(
                self.table_name, columns, schema=self.schema, _model=self.model, _database=AMBIENT
            )
        return self._table

    @table.setter
    def table(self, value: object) -> None:
        raise AttributeError("the table of a model cannot be set")

    @table.deleter
    def table(self) -> None:
        self._table = None

    def set_database(self, database: object) -> None:
        _refuse_binding(self.model)

    def add_field(self, field_name: str, field: peewee.Field[_V], set_attribute: bool = True) -> None:
        """Add a field, at the place that ``column_order`` gives it."""
        if field_name in self.column_order:
            place = self.column_order.index(field_name) - self.column_order.index(...)
            order = place if place < 0 else _LAST + place
            vars(field).update(_order=order, _sort_key=(1 if field.primary_key else 2, order))
        super().add_field(field_name, field, set_attribute)

    def get_default_dict(self) -> dict[str, object]:
        """Return the defaults of a new row. All its default times are the same instant."""
        now = utcnow()
        return {
            field.name: now if default is utcnow else default() if callable(default) else default
            for field, default in self.defaults.items()
        }


def _refuse_binding(model: type[peewee.Model]) -> NoReturn:
    name = model.__name__
    raise BindRefused(f"{name} follows the current store and cannot be bound; use 'with store:'")


class Base(Ruled, peewee.Model):
    """Base of every model: `to_dict()`, a short `repr`, `save()` of changed fields, no binding by hand."""

    __secret__: ClassVar[frozenset[str]] = frozenset()
    __shown__: ClassVar[str] = ""  #: the columns that describe a row, see :mod:`scanstore.db.labels`
    __view__: ClassVar[View | None] = None  #: how a model of a view is made of tables

    if TYPE_CHECKING:
        id: Any

    class Meta:
        model_metadata_class = StoreMetadata
        legacy_table_names = False
        only_save_dirty = True

    @classmethod
    def validate_model(cls) -> None:
        """Guard the foreign keys of a new model class and keep scanstore's repr. Peewee calls this once."""
        super().validate_model()
        if getattr(cls.__dict__.get("__repr__"), "__module__", "") == "peewee":
            del cls.__repr__
        for field in cls._meta.refs:
            _guard(cls, field)

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        """Return the row as plain values that `json` can write, without a query. Foreign keys are ids.

        Fields listed in `__secret__` are left out unless `secrets` is true.
        """
        return {
            name: _plain(self.__data__.get(name))
            for name in self._meta.sorted_field_names
            if secrets or name not in self.__secret__
        }

    def __repr__(self) -> str:
        return row_label(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return card(self)

    def check_home(self) -> None:
        """Raise WrongStore if the current store is not the store of this row."""
        database = current()
        if self._home is not None and database is not None and database.file != self._home:
            raise WrongStore(
                f"{self!r} is of {self._home} and {database.name} is current; use it inside 'with store.bound():' of"
                " its own store"
            )

    @classmethod
    def bind(cls, *_: object, **__: object) -> bool:
        """Raise BindRefused: a bound model would write rows of one store to the file of another."""
        _refuse_binding(cls)

    @classmethod
    def bind_ctx(cls, *_: object, **__: object) -> NoReturn:
        """Raise BindRefused, as `bind` does."""
        _refuse_binding(cls)


def _guard(model: type[Base], field: peewee.ForeignKeyField) -> None:
    setattr(model, field.name, _Related(model, field, field.name))
    if field.backref not in ("+", "!"):
        setattr(field.rel_model, field.backref, _Backref(field))


class LaterForeignKey(peewee.DeferredForeignKey):
    """A foreign key to a model of a higher package, which imports the module of this model."""

    def __deepcopy__(self, memo: object = None) -> LaterForeignKey:
        return type(self)(self.rel_model_name, **self.field_kwargs)

    def set_model(self, rel_model: object) -> None:
        """Become the foreign key when Peewee finds the model with this name."""
        super().set_model(rel_model)
        _guard(self.model, self.model._meta.fields[self.name])


class _Related(peewee.ForeignKeyAccessor):
    """Follows a foreign key, in the row's own store only."""

    def get_rel_instance(self, instance: Base) -> object:
        if self.name not in instance.__rel__:
            instance.check_home()
        return super().get_rel_instance(instance)  # type: ignore[no-untyped-call]


class _Backref(peewee.BackrefAccessor):
    """Follows a foreign key backwards, in the row's own store only."""

    def __get__(self, instance: Base | None, instance_type: object = None) -> object:
        if instance is not None:
            instance.check_home()
        return super().__get__(instance, instance_type)  # type: ignore[no-untyped-call]


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else value


# Time


def _unreadable(field: peewee.Field[_V], value: object, kind: str) -> Damaged:
    return Damaged(
        f"{field.model.__name__}.{field.name} is {value!r} in the file, which is no {kind}; restore a backup"
    )


class UTCField(DateTime[_V]):
    """An aware time, stored and returned in UTC with milliseconds. ISO 8601 text with a time zone is accepted too."""

    @overload
    def __init__(self: UTCField[datetime | None], *, null: Literal[True], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self: UTCField[datetime], *, null: Literal[False] = False, **options: Unpack[Options]) -> None: ...
    def __init__(self, *, null: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(null=null, **options)

    field_type = "TEXT"

    def db_value(self, value: object) -> object:
        if value is None or isinstance(value, peewee.Node):
            return value
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise InvalidArgument(f"{self.name} is {value!r}; write 2026-11-22T01:46:31Z") from None
        if not isinstance(value, datetime):
            raise InvalidArgument(f"{self.name} is {value!r}; it must be an aware datetime")
        return format_time(value)

    def python_value(self, value: object) -> object:
        try:
            if isinstance(value, bytes):
                raise ValueError(value)
            return datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            raise _unreadable(self, value, "time") from None

    def adapt(self, value: object) -> object:
        return value


# Values


class JSONField(Json[_V]):
    """Any JSON value, as compact UTF-8 text. NaN, Infinity and values without a JSON form raise InvalidArgument.

    Change one key with `Model.update(meta=Model.meta["key"].set(value))`; an in-place change of the value that was read
    is not saved.
    """

    def __init__(self, *, null: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(json_dumps=dump_json, json_loads=json.loads, null=null, **options)

    if TYPE_CHECKING:

        def __getitem__(self, key: str | int) -> peewee.JSONPath: ...

    def db_value(self, value: object) -> object:
        return value if value is None or isinstance(value, peewee.Node) else dump_json(value)


class EnumField(Text[_V]):
    """One of a fixed list of words, in any case, stored in lower case. Other words raise InvalidArgument with
    the list.
    """

    @overload
    def __init__(
        self: EnumField[_W | None], choices: Iterable[_W], *, null: Literal[True], **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(
        self: EnumField[_W], choices: Iterable[_W], *, null: Literal[False] = False, **options: Unpack[Options]
    ) -> None: ...
    def __init__(self, choices: Iterable[str], *, null: bool = False, **options: Unpack[Options]) -> None:
        self.words = tuple(str(getattr(choice, "value", choice)).lower() for choice in choices)
        super().__init__(choices=[(word, word) for word in self.words], null=null, **options)

    def db_value(self, value: object) -> Any:
        if value is None or isinstance(value, peewee.Node):
            return value
        word = getattr(value, "value", value)
        if not isinstance(word, str) or word.lower() not in self.words:
            raise InvalidArgument(f"{self.name} is {shown(word)}; it must be one of: {', '.join(self.words)}")
        return word.lower()

    def adapt(self, value: object) -> Any:
        return value


class _UUIDText(TextUUID[_V]):
    """A UUID, passed as `uuid.UUID` or text, stored as text of 36 characters."""

    field_type = "TEXT"

    def db_value(self, value: object) -> object:
        if value is None or isinstance(value, peewee.Node):
            return value
        if isinstance(value, uuid.UUID):
            return str(value)
        try:
            if not isinstance(value, str):
                raise ValueError(value)
            return str(uuid.UUID(value))
        except ValueError:
            raise InvalidArgument(f"{self.name} is {value!r}; it must be a UUID") from None


class UUIDField(_UUIDText[_V]):
    """A UUID that is returned as `uuid.UUID`."""

    @overload
    def __init__(self: UUIDField[uuid.UUID | None], *, null: Literal[True], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self: UUIDField[uuid.UUID], *, null: Literal[False] = False, **options: Unpack[Options]) -> None: ...
    def __init__(self, *, null: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(null=null, **options)

    def python_value(self, value: object) -> Any:
        try:
            return uuid.UUID(value) if isinstance(value, str) else value
        except ValueError:
            raise _unreadable(self, value, "UUID") from None


class IdField(_UUIDText[_V]):
    """A UUID that is returned as text."""

    @overload
    def __init__(self: IdField[str | None], *, null: Literal[True], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self: IdField[str], *, null: Literal[False] = False, **options: Unpack[Options]) -> None: ...
    def __init__(self, *, null: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(null=null, **options)

    def python_value(self, value: object) -> Any:
        return value


class HashField(Field[_V]):
    """A content hash: hexadecimal text in Python, raw bytes in the database. Any other text is stored unchanged.

    The value is returned as passed, except that hexadecimal digits become lower case and bytes become hexadecimal text.
    """

    @overload
    def __init__(self: HashField[str | None], *, null: Literal[True], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self: HashField[str], *, null: Literal[False] = False, **options: Unpack[Options]) -> None: ...
    def __init__(self, *, null: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(null=null, **options)

    field_type = "BLOB"

    def db_value(self, value: object) -> object:
        if value is None or isinstance(value, peewee.Node):
            return value
        return pack_hash(value)

    def python_value(self, value: object) -> object:
        return value.hex() if isinstance(value, bytes) else value


class PersonField(Field[_V]):
    """The name of a person, or None if no name was given. The column is NOT NULL: None is stored as an empty text."""

    field_type = "TEXT"

    def __init__(self: PersonField[str | None], **options: Unpack[Options]) -> None:
        super().__init__(**options)

    def db_value(self, value: object) -> object:
        return "" if value is None else value

    def python_value(self, value: object) -> object:
        return value or None


# Columns that many models have


class Numbered(Base):
    """Base of models whose key is a number from SQLite."""

    id: peewee.AutoField[int] = peewee.AutoField()


def read_row(model: type[_N], row: _N | int, noun: str, remedy: str) -> _N:
    """Read a row, given as the row or its id. Raises NotFound with the remedy, InvalidArgument, WrongStore."""
    found = find_row(model, row, noun, remedy)
    if found is None:
        raise NotFound(f"no {noun} {shown(row.id if isinstance(row, model) else row)}; {remedy}")
    return found


def find_row(model: type[_N], row: _N | int, noun: str, remedy: str) -> _N | None:
    """Read a row like :func:`read_row`, or return None if it is missing."""
    key = number_of(row, f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}", model, remedy)
    found: _N | None = model.get_or_none(model.id == key)
    return found


class Timestamped(Base):
    """Base of models that keep the times of a row's creation and of its last change."""

    created_at = UTCField(default=utcnow)
    updated_at = UTCField(default=utcnow)

    class Meta:
        column_order = (..., "created_at", "updated_at")


class Identified(Timestamped):
    """Base of models whose key is a UUID that sorts by time, as text."""

    id = IdField(primary_key=True, default=lambda: str(uuid7()))
