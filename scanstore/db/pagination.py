"""Pages of rows, and counts by group, of any model, for lists in a user interface.

A page can be sorted only by a key or an indexed column, and the order is deterministic. Columns with long texts are not
read unless you ask for them. Change here: which columns are long (``HEAVY``), and how big a page may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import peewee

from scanstore.db.arguments import check_integer
from scanstore.db.current import Bound
from scanstore.db.database import Database
from scanstore.db.fields import Base, JSONField
from scanstore.db.notebooks import described
from scanstore.db.rows import Rows
from scanstore.db.view_keys import join
from scanstore.db.views import View, used
from scanstore.errors import InvalidArgument, shown

if TYPE_CHECKING:
    from pandas import DataFrame

_T = TypeVar("_T")
_M = TypeVar("_M", bound=peewee.Model)
_B = TypeVar("_B", bound=Base)

HEAVY = frozenset(
    "analysis_prompt_template attack_vector body data_flow description detail details docstring prompt prompt_content"
    " proof_of_concept reason references remediation remediation_steps response result_content snippet"
    " verification_prompt_template vulnerability_details".split()
)  #: long texts; all JSON and blob columns are heavy too
MOST = 1000  #: rows of a page


@described
class Page(NamedTuple, Generic[_M]):
    """One page of ``total`` rows: page number ``page`` of ``pages``, from 1."""

    items: Rows[_M]
    total: int
    page: int
    pages: int

    def to_pandas(self) -> DataFrame:
        """Return the rows of this page as a DataFrame, see :meth:`scanstore.db.rows.Rows.to_pandas`."""
        return self.items.to_pandas()


def paged(query: peewee.ModelSelect[_M], *, page: int, per_page: int) -> Page[_M]:
    """Return one page of a sorted query, with two statements: one counts all rows, one reads the page.

    ``page`` and ``per_page`` are whole numbers from 1, ``per_page`` at most 1,000. A page after the last one is empty.
    """
    check_page(page, per_page)
    counted = query.clone().columns(peewee.fn.COUNT(peewee.SQL("*"))).order_by()
    total = int(counted.tuples().scalar())
    skipped = (page - 1) * per_page
    items = Rows(query.limit(per_page).offset(skipped) if skipped < total else (), query.model)
    return Page(items, total, page, -(-total // per_page))


def check_page(page: int, per_page: int) -> None:
    """Raise InvalidArgument unless both numbers are valid for a page."""
    for name, value, most in (("page", page, 2**53), ("per_page", per_page, MOST)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            limit = "at least 1" if name == "page" else f"from 1 to {MOST:,}"
            raise InvalidArgument(f"{name} is {shown(value)}; give a whole number, {limit}")


def listed(
    query: peewee.ModelSelect[_B], *, limit: int | None = None, offset: int = 0, sort: str | None = None
) -> Rows[_B]:
    """Return the rows of a query, which every ``list`` of a domain does with its options.

    ``sort`` replaces the order of the query: a column as for :meth:`scanstore.store.Store.page`.
    """
    check_window(limit, offset)
    if sort is not None:
        query = query.order_by(*_order(query.model, sort))
    if limit is not None or offset:
        query = query.limit(-1 if limit is None else limit).offset(offset)
    return Rows(query, query.model)


def arranged(
    model: type[_B], rows: Iterable[_B], *, limit: int | None = None, offset: int = 0, sort: str | None = None
) -> Rows[_B]:
    """Return rows that were computed, not queried, with the options of :func:`listed`."""
    found = list(rows)
    if sort is not None:
        names = [field.name for field in _sorted_by(model, sort)]
        found.sort(key=lambda row: [_comparable(row.__data__[name]) for name in names], reverse=sort.startswith("-"))
    return Rows(windowed(found, limit, offset), model)


def windowed(rows: Sequence[_T], limit: int | None, offset: int) -> list[_T]:
    """Return the rows that ``limit`` and ``offset`` select. Raises InvalidArgument as :func:`check_window` does."""
    check_window(limit, offset)
    return list(rows[offset : None if limit is None else offset + limit])


def _comparable(value: Any) -> tuple[bool, Any]:
    return value is not None, value  # a missing value comes first, as in SQLite


def check_window(limit: int | None, offset: int) -> None:
    """Raise InvalidArgument unless ``limit`` is None or a whole number from 0, and ``offset`` such a number."""
    for name, value in (("limit", limit), ("offset", offset)):
        if value is not None or name == "offset":
            check_integer(value, name, most=2**63 - 1)


def page_of(
    db: Database,
    model: type[_B],
    where: tuple[object, ...],
    *,
    sort: str | None,
    page: int,
    per_page: int,
    heavy: bool,
) -> Page[_B]:
    """See :meth:`scanstore.store.Store.page`."""
    order = _order(_checked(model), sort)
    _check_conditions(where)
    check_page(page, per_page)
    columns = light(model, heavy=heavy)
    with Bound(db):
        rows = None if model.__view__ is None else _Reading(db, model, model.__view__, where)
        if rows is None or not rows.able:
            query = _where(model.select(*columns), where).order_by(*order)
            return paged(query, page=page, per_page=per_page)
        total = sum(rows.counts().values())
        skipped = (page - 1) * per_page
        items = Rows(rows.page(order, columns, per_page, skipped) if skipped < total else (), model)
        return Page(items, total, page, -(-total // per_page))


class _Reading(Generic[_B]):
    """The rows of a view's model that match conditions."""

    def __init__(self, db: Database, model: type[_B], view: View, where: tuple[object, ...]) -> None:
        self.db = db
        self.model = model
        self.view = view
        self.where = where
        self.columns = used(*where)

    @property
    def able(self) -> bool:
        """Whether the tables are a better source than the view."""
        return self.columns is not None and self.columns <= self.view.columns.keys() - {*self.view.searched}

    def counts(self, by: peewee.Field[object] | None = None) -> dict[object, int]:
        """Return the number of rows by the values of a column, in their order, or of all rows."""
        columns = {*(self.columns or ()), *([] if by is None else [by.column_name])}
        group = [] if by is None else [by]
        source = self.view.counts(columns)
        number = peewee.fn.COUNT(peewee.SQL("*")) if source is None else peewee.fn.SUM(peewee.SQL("number"))
        query = self._select(*group, number).group_by(*group).order_by(*group)
        rows = self._read(query, source or self.view.rows(columns))
        if by is None:
            return {None: rows[0][0] or 0}
        return {cast(Any, by).python_value(value): count for value, count in rows}

    def page(
        self, order: Sequence[object], columns: Iterable[peewee.Field[object]], limit: int, offset: int
    ) -> list[_B]:
        """Return rows in an order: first the keys of all that is skipped or read, then the read rows by their keys."""
        fields = self.model._meta.combined
        file, place = (fields[part] for part in self.view.key)
        by: list[object] = []
        for each in order:
            assert isinstance(each, peewee.Ordering)
            parts = (file, place) if each.node is self.model._meta.primary_key else (each.node,)
            by += [peewee.Ordering(part, each.direction) for part in parts]
        query = self._select(file, place).order_by(*by).limit(limit).offset(offset)
        keys = [join(*key) for key in self._read(query, self.view.rows({*(self.columns or ()), *(used(*by) or ())}))]
        return list(self.model.raw(self.view.of_keys(column.column_name for column in columns), str(keys)))

    def _select(self, *columns: object) -> peewee.ModelSelect[_B]:
        query = self.model.select(*columns)
        return query.where(*self.where) if self.where else query

    def _read(self, query: peewee.ModelSelect[_B], source: str) -> list[tuple[Any, ...]]:
        """Run a query of the view with another source of its rows."""
        sql, values = query.sql()
        return self.db.execute_sql(f'WITH "{self.model._meta.table_name}" AS ({source}) {sql}', values).fetchall()


def counts(db: Database, model: type[Base], by: str, where: tuple[object, ...]) -> dict[object, int]:
    """See :meth:`scanstore.store.Store.counts`."""
    meta = _checked(model)._meta
    field = meta.combined.get(by)
    if field is None or is_heavy(field) or field.name in model.__secret__:
        known = ", ".join(f.name for f in light(model))
        raise InvalidArgument(f"{model.__name__} cannot be counted by {shown(by)}; it can by: {known}")
    _check_conditions(where)
    with Bound(db):
        rows = None if model.__view__ is None else _Reading(db, model, model.__view__, where)
        if rows is not None and rows.able and field.column_name not in rows.view.searched:
            return rows.counts(field)
        found: Any = _where(model.select(field, peewee.fn.COUNT(peewee.SQL("*"))), where).group_by(field)
        return dict(found.order_by(field).tuples())


def sorts(model: type[Base], *, nullable: bool = True) -> list[str]:
    """Return the names of the columns by which pages of a model can be sorted: its key and its indexed columns.

    Without ``nullable``, only those that always have a value; a text may be empty, unless it is the key.
    """
    meta: Any = _checked(model)._meta
    indexed = [f for index in meta.fields_to_index() for f in index._expressions if isinstance(f, peewee.Field)]
    found = [f for f in (*meta.get_primary_keys(), *indexed) if not is_heavy(f) and (nullable or _is_full(f))]
    return list(dict.fromkeys(f.name for f in found))


def _is_full(field: Any) -> bool:
    return bool(field.primary_key or not field.null and type(field) is not peewee.TextField)


def light(model: type[Base], *, heavy: bool = False) -> list[peewee.Field[object]]:
    """Return the columns that a page of a model reads, without secrets, and with heavy columns only on request."""
    meta = model._meta
    return [f for f in meta.sorted_fields if f.name not in model.__secret__ and (heavy or not is_heavy(f))]


def is_heavy(field: peewee.Field[object]) -> bool:
    """Whether a column may contain large values."""
    return field.name in HEAVY or isinstance(field, JSONField | peewee.BlobField)


def _checked(model: object) -> type[Base]:
    if not (isinstance(model, type) and issubclass(model, Base) and model is not Base):
        raise InvalidArgument(f"{shown(model)} is no model; import one from scanstore.models")
    return model


def _where(query: peewee.ModelSelect[_B], where: tuple[object, ...]) -> peewee.ModelSelect[_B]:
    """Add conditions. Without any, SQLite counts the rows of a table without reading them."""
    return query.where(*where) if where else query


def _check_conditions(where: tuple[object, ...]) -> None:
    for each in where:
        if not isinstance(each, peewee.Node):
            raise InvalidArgument(f"{shown(each)} is no condition; write one on the model: Finding.severity == 'high'")


def _order(model: type[Base], sort: str | None) -> list[object]:
    """Return the order of a page: the column, then the key, so that the order of equal rows is stable."""
    meta: Any = model._meta
    keys = list(meta.get_primary_keys())
    if sort is None:  # the newest first, if keys grow
        grows = isinstance(keys[0], peewee.AutoField | peewee.IntegerField | peewee.UUIDField)
        return [key.desc() if grows else key.asc() for key in keys]
    return [each.desc() if sort.startswith("-") else each.asc() for each in _sorted_by(model, sort)]


def _sorted_by(model: type[Base], sort: object) -> list[peewee.Field[object]]:
    """Return the column that ``sort`` names and the key. Raises InvalidArgument for a column that is not indexed."""
    meta: Any = model._meta
    name = sort.removeprefix("-") if isinstance(sort, str) else None
    known = sorts(model)
    if name not in known:
        raise InvalidArgument(
            f"{model.__name__} cannot be sorted by {shown(sort)}; it can by: {', '.join(known)},"
            " each also with - before it"
        )
    return [meta.fields[name], *(key for key in meta.get_primary_keys() if key.name != name)]
