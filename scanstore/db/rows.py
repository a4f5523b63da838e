"""Lists of rows, and rows of a model by a condition in SQL.

SQL is used because building a query from the model takes longer than the query itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, SupportsIndex, TypeVar, overload

from scanstore.db import frames, notebooks
from scanstore.db.files import quoted
from scanstore.db.values import dump_json

if TYPE_CHECKING:
    from pandas import DataFrame

    from scanstore.db.database import Database
    from scanstore.db.fields import Base

    class _Printer(Protocol):
        def pretty(self, value: object) -> object: ...
        def text(self, text: str) -> object: ...


_Row = TypeVar("_Row", bound="Base")
_T = TypeVar("_T")


class Rows(list[_T]):
    """A list of rows or results of one kind. Slices and copies are ``Rows`` too.

    Notebooks show it as a table of the first 50 rows. ``to_pandas`` returns all rows as a DataFrame.
    """

    def __init__(self, rows: Iterable[_T] = (), kind: type[_T] | None = None) -> None:
        """Make a list of ``rows``; ``kind`` is their class, which an empty list needs to know its columns."""
        super().__init__(rows)
        self._kind = kind

    def to_pandas(self) -> DataFrame:
        """Return a pandas DataFrame with the columns of ``to_dict()``, or the fields of a named tuple.

        The index counts from 0. Times are ``datetime64[ms, UTC]``. An empty list has the same columns. Raises
        InvalidArgument without ``scanstore[notebooks]``.
        """
        return frames.frame(self, self._kind)

    def copy(self) -> Rows[_T]:
        """Return a copy of the list, with the same rows."""
        return Rows(self, self._kind)

    @overload
    def __getitem__(self, index: SupportsIndex) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Rows[_T]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> _T | Rows[_T]:
        if isinstance(index, slice):
            return Rows(super().__getitem__(index), self._kind)
        return super().__getitem__(index)

    def __repr__(self) -> str:
        if len(self) <= SHOWN:
            return super().__repr__()
        return f"{str(list(self[:SHOWN]))[:-1]}, … {len(self) - SHOWN:,} more]"

    def _repr_html_(self) -> str:
        return notebooks.table(self, self._kind)

    def _repr_pretty_(self, printer: _Printer, cycle: bool) -> None:
        printer.pretty(list(self[:SHOWN]))  # one row per line
        if len(self) > SHOWN:
            printer.text(f" and {len(self) - SHOWN:,} more")


SHOWN = 50  #: rows in the `repr` of a list


def read(db: Database, model: type[_Row], where: str, values: Sequence[object]) -> Rows[_Row]:
    """Return the rows that fulfil a condition, in any order."""
    return _read(db, model, f"FROM {model._meta.table_name} WHERE {where}", values)


def read_keys(db: Database, model: type[_Row], keys: Iterable[int | str]) -> Rows[_Row]:
    """Return the rows with these keys, in this order. Missing rows are left out."""
    source = f"FROM json_each(?) AS i CROSS JOIN {model._meta.table_name} AS t ON t.id = i.value"
    return _read(db, model, source, (dump_json(list(keys)),), prefix="t.")


def _read(db: Database, model: type[_Row], source: str, values: Sequence[object], prefix: str = "") -> Rows[_Row]:
    fields = model._meta.sorted_fields
    names = ", ".join(prefix + field.column_name for field in fields)
    rows: Rows[_Row] = Rows(kind=model)
    for found in db.execute_sql(f"SELECT {names} {source}", values).fetchall():
        row = model(__no_default__=True)
        row.__data__ = {field.name: field.python_value(value) for field, value in zip(fields, found, strict=True)}
        rows.append(row)
    return rows


class Removed(dict[str, int]):
    """The number of removed rows by table, in the order of removal; only tables that lost rows are listed."""

    @property
    def total(self) -> int:
        """The number of removed rows of all tables."""
        return sum(self.values())


CHILDREN = """
SELECT m.name, f."from" FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f
 WHERE m.type = 'table' AND f.on_delete = 'CASCADE' AND f."table" = ? COLLATE NOCASE
"""


def remove(db: Database, table: str, where: str, values: Sequence[object]) -> Removed:
    """Delete rows, and count all deleted rows by table. Call it inside a transaction.

    Foreign keys that are declared ``ON DELETE CASCADE`` decide which other rows are deleted too.
    """
    found = Removed()
    _count(db, table, where, values, found, ())
    if found:
        db.execute_sql(f"DELETE FROM {table} WHERE {where}", values)
    return found


def _count(
    db: Database, table: str, where: str, values: Sequence[object], found: Removed, above: tuple[str, ...]
) -> None:
    (number,) = db.execute_sql(f"SELECT count(*) FROM {quoted(table)} WHERE {where}", values).fetchone()
    if not number:
        return
    found[table] = found.get(table, 0) + number
    for child, column in db.execute_sql(CHILDREN, (table,)).fetchall():
        if child not in (table, *above):
            within = f"{quoted(column)} IN (SELECT id FROM {quoted(table)} WHERE {where})"
            _count(db, child, within, values, found, (table, *above))
