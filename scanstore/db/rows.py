"""Rows of a model by a condition in SQL: building a query from the model takes longer than the query itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from scanstore.db.fields import Base
from scanstore.db.files import quoted
from scanstore.db.values import dump_json

if TYPE_CHECKING:
    from scanstore.db.database import Database

_Row = TypeVar("_Row", bound=Base)


def read(db: Database, model: type[_Row], where: str, values: Sequence[object]) -> list[_Row]:
    """The rows for which a condition holds, in any order."""
    return _read(db, model, f"FROM {model._meta.table_name} WHERE {where}", values)


def read_keys(db: Database, model: type[_Row], keys: Iterable[int | str]) -> list[_Row]:
    """The rows with these keys, in this order, without those that are missing."""
    source = f"FROM json_each(?) AS i CROSS JOIN {model._meta.table_name} AS t ON t.id = i.value"
    return _read(db, model, source, (dump_json(list(keys)),), prefix="t.")


def _read(db: Database, model: type[_Row], source: str, values: Sequence[object], prefix: str = "") -> list[_Row]:
    fields = model._meta.sorted_fields
    names = ", ".join(prefix + field.column_name for field in fields)
    rows = []
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
    """Delete rows, and count them and the rows that are deleted with them, by table. Inside a transaction.

    The foreign keys of the file that are declared ``ON DELETE CASCADE`` say which rows are deleted with them.
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
