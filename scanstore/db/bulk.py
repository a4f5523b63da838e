"""The writer for many rows, used by all bulk inserts.

``Model.insert_many`` builds SQL text for each batch and converts every value; here the statement is built once and
rows stream through ``executemany``. Values go through a field's conversion only where the field changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import peewee

from scanstore.db.database import Database
from scanstore.errors import InvalidArgument

_PLAIN = (peewee.IntegerField, peewee.TextField, peewee.FloatField, peewee.BlobField, peewee.AutoField)


class Writer:
    """Inserts rows, given as tuples in the order of ``columns``, into one model's table.

    With ``converted=True`` the values are already in the form that SQLite stores. Atomic only inside a transaction. A
    row of the wrong length, or one that violates a constraint, stops the insert and raises the error of that row.
    """

    def __init__(
        self,
        db: Database,
        model: type[peewee.Model],
        columns: Sequence[str],
        *,
        converted: bool = False,
    ) -> None:
        meta = model._meta
        unknown = [c for c in columns if c not in meta.combined]
        if unknown:
            raise InvalidArgument(f"{model.__name__} has no column {', '.join(unknown)}")
        fields = [meta.combined[c] for c in columns]
        self.db = db
        names = ", ".join(f'"{field.column_name}"' for field in fields)
        self.sql = f'INSERT INTO "{meta.table_name}" ({names}) VALUES ({", ".join("?" * len(fields))})'
        self.converters: list[tuple[int, Callable[[object], object]]] = []
        if not converted:
            self.converters = [(n, f.db_value) for n, f in enumerate(fields) if not _is_plain(f)]

    def write(self, rows: Iterable[Sequence[object]]) -> int:
        """Insert the rows and return their number."""
        return self.db.executemany(self.sql, self._convert(rows) if self.converters else rows).rowcount

    def _convert(self, rows: Iterable[Sequence[object]]) -> Iterator[list[object]]:
        for row in rows:
            values = list(row)
            for place, convert in self.converters:
                values[place] = convert(values[place])
            yield values


def _is_plain(field: peewee.Field[object]) -> bool:
    """Whether a field stores values unchanged: its ``db_value`` is Peewee's, whose conversion SQLite performs
    anyway.
    """
    return type(field) in _PLAIN
