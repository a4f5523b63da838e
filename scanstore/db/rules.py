"""The rules of models: columns and rows that only a call of the store may write, and how a row is saved.

A status has a life, and many rows follow from others. Writing them through a model would leave a decision without its
history, or work without its lease. Each model names such columns in its :class:`Rules`, with the call that writes
them. `create`, `save`, `update` and `delete_instance` then refuse with this call; `insert_row`, `save_row` and
`change_rows` are for the calls themselves.

Change here: what every model checks, completes and reads back when a row is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar

import peewee

from scanstore.db.current import current
from scanstore.db.values import utcnow
from scanstore.errors import Conflict, InvalidArgument, NotFound, ScanstoreError, shown

if TYPE_CHECKING:
    _Model = peewee.Model
else:
    _Model = object  # Peewee would make a table of each of its subclasses

_M = TypeVar("_M", bound="Ruled")

#: The columns of a lease, which belong to its engine.
LEASE_COLUMNS = (
    *("retry_count", "lost_count", "attempt", "worker", "process", "lease_until", "lease_clock", "next_retry_at"),
    *("started_at", "completed_at"),
)


class Rules(NamedTuple):
    """The calls that write in the place of a model. Each is advice that begins with a verb, such as "call ..."."""

    create: str = ""  #: for new rows
    delete: str = ""  #: for removing rows
    held: str = ""  #: if other rows refer to the row
    frozen: str = ""  #: for every column that is not in ``free``
    free: frozenset[str] = frozenset()
    state: Mapping[str, str] = {}  #: for columns that begin with their default
    fixed: Mapping[str, str] = {}  #: for columns that are given once

    def changing(self, column: str) -> str:
        """Return the call that changes this column, or an empty text if the model may."""
        return self.state.get(column) or self.fixed.get(column) or ("" if column in self.free else self.frozen)


def columns(advice: str, *names: str) -> dict[str, str]:
    """Return the same advice for each of these columns."""
    return dict.fromkeys(names, advice)


class Insert(peewee.ModelInsert):
    """An insert whose default times are all the same instant."""

    def get_default_data(self) -> dict[object, object]:
        now = utcnow()
        defaults: dict[object, object] = self.model._meta.defaults
        return {field: now if default is utcnow else default for field, default in defaults.items()}


class Ruled(_Model):
    """The part of every model that writes rows, by the rules of the model."""

    __rules__: ClassVar[Rules] = Rules()

    _home: str | None
    _fresh: bool  # whether the row is new and its key is the default
    _given: frozenset[str]  # the columns that a new row was made with

    def __init__(self, *args: object, **kwargs: object) -> None:
        read = "__no_default__" in kwargs
        if not read:
            _check_names(type(self), kwargs)
        super().__init__(*args, **kwargs)
        key = self._meta.primary_key
        self._given = frozenset() if read else frozenset(kwargs)
        derived = isinstance(key, peewee.Field) and key in self._meta.defaults and key.name not in kwargs
        self._fresh = not read and derived
        database = current()
        self._home = None if database is None else database.file

    if TYPE_CHECKING:
        _dirty: set[str]

        def check_home(self) -> None: ...
        def _populate_unsaved_relations(self, data: dict[str, Any]) -> None: ...
        def _pk_expr(self) -> peewee.Expression: ...

    # Hooks of models

    def _prepare(self, names: set[str], *, new: bool) -> None:
        """Check and complete the row before it is written, in the same transaction.

        `names` are the fields that will be written; add those that are set here.
        """

    def _finish(self, names: set[str], *, new: bool) -> None:
        """Write the rows that follow from this one, in the same transaction."""

    @classmethod
    def _prepare_update(cls, values: dict[str, Any]) -> None:
        """Check and complete the values of an `update` query, by field."""

    # Writing

    @classmethod
    def create(cls, **query: object) -> Self:
        """Add a row, and return it as it is stored. Raises InvalidArgument for an unknown column."""
        row = cls(**query)
        row.save(force_insert=True)
        return row

    def save(self, force_insert: bool = False, only: object = None) -> int:
        """Write the changed fields, and read the row back. Return the number of rows written.

        Raises InvalidArgument, with the call to use, for a column that the model does not write, and NotFound if the
        row is missing in the store.
        """
        return self._save(force_insert, only, ruled=True)

    def _save(self, force: bool, only: Any, *, ruled: bool) -> int:
        self.check_home()
        key = self._meta.primary_key
        pk = None if key is False else self._pk
        new = force or key is False or self._fresh or pk is None
        if only is not None:
            names = {self._meta.combined[each].name if isinstance(each, str) else each.name for each in only}
        else:
            names = set(self.__data__) if force else set(self._dirty)
        if not names and not force:
            return 0
        with self._meta.database.atomic(), _plain_mistakes(type(self)):
            if ruled:
                names = self._checked(names, new=new)
                self._prepare(names, new=new)
            written = self._write(names, key, pk, new=new)
            if ruled and written:
                self._finish(names, new=new)
            if written:
                self._read_back()
        self._fresh = False
        if self._home is None:
            database = current()
            self._home = None if database is None else database.file
        return written

    def _write(self, names: set[str], key: Any, pk: object, *, new: bool) -> int:
        model: Any = type(self)
        data = {name: self.__data__[name] for name in names if name in self.__data__}
        self._populate_unsaved_relations(data)
        if new:
            if self._meta.auto_increment and pk is None:
                data.pop(key.name, None)
            made = Insert(model, model._normalize_data(None, data)).execute()
            if key is not False and made is not None and (self._meta.auto_increment or pk is None):
                self._pk = made
                self._dirty.discard(key.name)
        else:
            for part in key.field_names if self._meta.composite_key else (key.name,):
                data.pop(part, None)
            if not data:
                return 0
            peewee.ModelUpdate(model, model._normalize_data(None, data)).where(self._pk_expr()).execute()
            self._dirty.difference_update(self._key_names())
        self._dirty.difference_update(data)
        return 1

    def _key_names(self) -> tuple[str, ...]:
        key: Any = self._meta.primary_key
        return tuple(key.field_names) if self._meta.composite_key else (key.name,)

    def _read_back(self) -> None:
        """Read the stored row. Triggers, defaults and the formats of fields may have changed values."""
        if self._meta.primary_key is False:
            return
        fields = [field for field in self._meta.sorted_fields if field.name not in self._dirty]
        found = type(self).select(*fields).where(self._pk_expr()).tuples().first()
        if found is None:
            raise _missing(self)
        for field, value in zip(fields, found, strict=True):
            self.__data__[field.name] = value
            related = self.__rel__.get(field.name)
            if related is not None and related._pk != value:
                del self.__rel__[field.name]

    def _checked(self, names: set[str], *, new: bool) -> set[str]:
        """Return the fields to write. Raises InvalidArgument for one that the model may not write."""
        rules, model = self.__rules__, type(self)
        if new:
            if rules.create:
                raise InvalidArgument(f"a row of {model.__name__} is not made by hand; {rules.create}")
            for name in names & rules.state.keys():
                _check_initial(model, name, self.__data__.get(name))
            return names
        guarded = [self._meta.fields[name] for name in sorted(names) if rules.changing(name)]
        if not guarded:
            return names
        stored = model.select(*guarded).where(self._pk_expr()).tuples().first()
        if stored is None:
            raise _missing(self)
        for field, value in zip(guarded, stored, strict=True):
            if field.db_value(value) != field.db_value(self.__data__.get(field.name)):
                raise refused(model, field.name)
            self._dirty.discard(field.name)
            self.__data__[field.name] = value
        return names - {field.name for field in guarded}

    def delete_instance(self, recursive: bool = False, delete_nullable: bool = False) -> int:
        """Delete this row and its dependent rows. Return the number of rows deleted.

        Raises Conflict, which names the rows that refer to this one, if a foreign key forbids the deletion, and
        InvalidArgument, with the call to use, if the model does not delete rows.
        """
        self.check_home()
        try:
            with self._meta.database.atomic():
                if recursive:
                    self._delete_others(delete_nullable)
                return int(super().delete_instance())
        except Conflict as error:
            counts = {
                other._meta.table_name: other.select().where(field == self).count()
                for field, other in self._meta.backrefs.items()
                if field.on_delete in ("RESTRICT", "NO ACTION", None)
            }
            rows = " and ".join(f"{count} rows of {table}" for table, count in sorted(counts.items()) if count)
            if not rows:
                raise
            remedy = f"remove these first{self.__rules__.held and f', or {self.__rules__.held}'}"
            raise Conflict(f"{self!r} cannot be deleted: {rows} point at it; {remedy}") from error

    def _delete_others(self, delete_nullable: bool) -> None:
        """Delete the rows that refer to this one, except those that the database deletes or changes itself."""
        found: Any = self.dependencies(exclude_null_children=not delete_nullable)
        for query, key in list(found):
            if key.on_delete in ("CASCADE", "SET NULL", "NO ACTION"):
                continue
            if key.null and not delete_nullable:
                key.model.update(**{key.name: None}).where(query).execute()
            else:
                key.model.delete().where(query).execute()

    # Queries

    @classmethod
    def insert(cls, data: object = None, /, **insert: object) -> peewee.ModelInsert:
        """Return a query that inserts one row as it is given."""
        values = _normalized(cls, data, insert)
        _check_creating(cls)
        for field, value in values.items() if isinstance(values, dict) else ():
            if getattr(field, "name", None) in cls.__rules__.state:
                _check_initial(cls, field.name, value)
        return Insert(cls, values)

    @classmethod
    def insert_many(cls, rows: object, fields: object = None) -> peewee.ModelInsert:
        """Return a query that inserts rows as they are given. All default times are the same instant."""
        _check_creating(cls)
        return Insert(cls, insert=rows, columns=fields)

    @classmethod
    def update(cls, data: object = None, /, **update: object) -> peewee.ModelUpdate:
        """Return a query that changes rows. Raises InvalidArgument, with the call to use, for a column that the model
        does not write.
        """
        values = _normalized(cls, data, update)
        if isinstance(values, dict):
            by_name = {getattr(field, "name", None): value for field, value in values.items()}
            for name in by_name:
                if name is not None and cls.__rules__.changing(name):
                    raise refused(cls, name)
            named = {name: value for name, value in by_name.items() if name is not None}
            cls._prepare_update(named)
            values = {key: value for key, value in values.items() if not getattr(key, "name", None)} | {
                cls._meta.fields[name]: value for name, value in named.items()
            }
        return peewee.ModelUpdate(cls, values)

    @classmethod
    def delete(cls) -> peewee.ModelDelete:
        """Return a query that deletes rows. Raises InvalidArgument, with the call to use, if the model does not."""
        if cls.__rules__.delete:
            raise InvalidArgument(f"rows of {cls.__name__} are not deleted by hand; {cls.__rules__.delete}")
        return super().delete()


# Errors


def refused(model: type[Ruled], name: str) -> InvalidArgument:
    """Return the error for a column that a model does not change."""
    return InvalidArgument(f"{name} of {model.__name__} is not set by hand; {model.__rules__.changing(name)}")


def _missing(row: Ruled) -> NotFound:
    name = type(row).__name__
    return NotFound(f"{row!r} is not in the store; add it with {name}.create(...) or save(force_insert=True)")


def _check_creating(model: type[Ruled]) -> None:
    if model.__rules__.create:
        raise InvalidArgument(f"a row of {model.__name__} is not made by hand; {model.__rules__.create}")


def _check_initial(model: type[Ruled], name: str, value: Any) -> None:
    field: Any = model._meta.fields[name]
    default = model._meta.defaults.get(field)
    default = default() if callable(default) else default
    if value is not None and field.db_value(value) != field.db_value(default):
        raise refused(model, name)


def _check_names(model: type[Ruled], given: Mapping[str, object]) -> None:
    for name in given:
        if name not in model._meta.combined and not hasattr(model, name):
            known = ", ".join(model._meta.sorted_field_names)
            raise InvalidArgument(f"{model.__name__} has no column {shown(name)}; it has {known}")


def _normalized(model: Any, data: object, more: Mapping[str, object]) -> Any:
    try:
        return model._normalize_data(data, more)
    except (ValueError, KeyError) as error:
        raise InvalidArgument(f"{model.__name__}: {error}") from None


class _plain_mistakes:
    """Raises InvalidArgument for a value that Peewee cannot convert, such as text for a number."""

    def __init__(self, model: type[Ruled]) -> None:
        self.model = model

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        mistake = isinstance(error, ValueError | TypeError | OverflowError | peewee.DataError)
        if mistake and not isinstance(error, ScanstoreError):
            raise InvalidArgument(f"{self.model.__name__}: {error}") from error


# For models, and for the calls that keep the rules themselves


def above(model: Ruled, module: str, name: str) -> Any:
    """Return a function of a module in the package of a model. Such modules import the model, so it cannot import them
    when it is loaded.
    """
    return getattr(import_module(f"{type(model).__module__.rpartition('.')[0]}.{module}"), name)


def insert_row(model: type[_M], **given: object) -> _M:
    """Add a row as it is given, without the rules of its model, and return it."""
    row = model(**given)
    row._save(True, None, ruled=False)
    return row


def insert_query(model: type[Ruled], /, **given: object) -> peewee.ModelInsert:
    """Return a query that inserts a row as it is given, without the rules of its model."""
    return Insert(model, _normalized(model, None, given))


def save_row(row: Ruled) -> None:
    """Write the changed fields of a row, without the rules of its model."""
    row._save(False, None, ruled=False)


def change_rows(model: type[Ruled], data: object = None, /, **given: object) -> peewee.ModelUpdate:
    """Return a query that changes rows, without the rules of the model."""
    return peewee.ModelUpdate(model, _normalized(model, data, given))
