"""The models of symbols, references and imports, which are views over the facts of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

import peewee

from scanstore.db.fields import Base, EnumField, JSONField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.rules import Rules
from scanstore.db.view_keys import RowId, RowKey, join
from scanstore.db.views import View
from scanstore.errors import InvalidArgument
from scanstore.indexing.facts import LARGEST_LINE, REFERENCE_TYPES, RESOLUTIONS, SYMBOL_TYPES
from scanstore.snapshots.models import Scan, ScanFile

# Of the first binding ``b`` of a path in the scan ``c``, and of a reference ``x`` whose meaning depends on no binding.
VALID = (
    "b.lineage_id = c.lineage_id AND b.nth = 0"
    " AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision)"
)
DECIDED = "x.symbol_ordinal IS NOT NULL OR x.path_id IS NULL OR c.revision IS NULL"


class HasId(Protocol):
    """A row with the id of a symbol: a :class:`Symbol`, or a result of a query about symbols."""

    @property
    def id(self) -> int: ...


SymbolLike: TypeAlias = HasId | int | str  #: a row, its id, or a qualified or plain name


_RECORD = "call store.symbols.record_file(scan, path, ...)"
_REMOVE = "call store.scans.remove(scan)"


class Symbol(Base):
    """A named definition in a file. ``metadata`` has params, return_type, decorators and docstring if known."""

    __shown__ = "symbol_type: qualified_name, file_path:start_line | end_line"
    __rules__ = Rules(delete=_REMOVE, frozen=_RECORD)

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()
        file_id = peewee.IntegerField(null=True)

    id = RowId("file_id", "ordinal", default=None)
    scan = peewee.ForeignKeyField(Scan, backref="symbols")
    name = peewee.TextField()
    qualified_name = peewee.TextField(null=True)
    symbol_type = EnumField(SYMBOL_TYPES)
    file_path = peewee.TextField()
    start_line = peewee.IntegerField(default=1)
    end_line = peewee.IntegerField(null=True)
    metadata: JSONField[dict[str, JsonValue] | None] = JSONField(null=True)
    file = peewee.ForeignKeyField(ScanFile, backref="symbols", null=True)
    ordinal = peewee.IntegerField(null=True)

    class Meta:
        table_name = "symbols"

    __view__ = View(
        "symbol_facts",
        ("file_id", "ordinal"),
        {"n": "JOIN names AS n ON n.id = x.name_id", "q": "JOIN names AS q ON q.id = x.qualified_name_id"},
        {
            "id": "f.id << 24 | x.ordinal",
            "scan_id": "f.scan_id",
            "name": "n.text",
            "qualified_name": "q.text",
            "symbol_type": "x.symbol_type",
            "file_path": "f.file_path",
            "start_line": "x.start_line",
            "end_line": "x.end_line",
            "metadata": "x.metadata",
            "file_id": "f.id",
            "ordinal": "x.ordinal",
        },
        names=("n", "q"),
        figures="symbol_type",
        counted=("symbol_type",),
    )

    def _prepare(self, names: set[str], *, new: bool) -> None:
        start, end = self.start_line, self.end_line
        for line in (start, start if end is None else end):
            if not isinstance(line, int) or isinstance(line, bool) or not 1 <= line <= LARGEST_LINE:
                raise InvalidArgument(f"line {line!r} of symbol {self.name!r} is not a number of at least 1")
        if end is not None and end < start:
            raise InvalidArgument(f"symbol {self.name!r} ends on line {end}, before it starts on line {start}")

    def _finish(self, names: set[str], *, new: bool) -> None:
        """Set the id, which follows from the place of the symbol in its file."""
        found = self._meta.database.execute_sql(
            "SELECT f.id, max(s.ordinal) FROM scan_files AS f JOIN symbol_facts AS s ON s.version_id = f.version_id"
            " WHERE f.scan_id = ? AND f.file_path = ?",
            (self.scan_id, self.file_path),
        ).fetchone()
        self.id = join(*found)
        self._dirty.discard("id")


class SymbolReference(Base):
    """A reference to a symbol: ``name`` as written, the resolved ``symbol`` (the first of several, or None), and
    the ``resolution``.
    """

    __shown__ = "reference_type: name, from_file:from_line | resolution, confidence"
    __rules__ = Rules(create=_RECORD, delete=_REMOVE, frozen=_RECORD)

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()
        symbol_id = peewee.IntegerField(null=True)
        from_symbol_id = peewee.IntegerField(null=True)
        file_id = peewee.IntegerField()
        symbol_file_id = peewee.IntegerField(null=True)

    id = RowId("file_id", "ordinal")
    scan = peewee.ForeignKeyField(Scan, backref="references")
    symbol = RowKey(Symbol, "symbol_file_id", "symbol_ordinal", backref="references", null=True)
    from_file = peewee.TextField()
    from_line = peewee.IntegerField()
    from_symbol = RowKey(Symbol, "file_id", "from_ordinal", backref="made_references", null=True)
    reference_type = EnumField(REFERENCE_TYPES)
    name = peewee.TextField()
    resolution = EnumField(RESOLUTIONS)
    confidence = peewee.FloatField()
    file = peewee.ForeignKeyField(ScanFile, backref="references")
    ordinal = peewee.IntegerField()
    from_ordinal = peewee.IntegerField(null=True)
    symbol_file = peewee.ForeignKeyField(ScanFile, backref="+", null=True)
    symbol_ordinal = peewee.IntegerField(null=True)

    class Meta:
        table_name = "symbol_references"

    __view__ = View(
        "reference_facts",
        ("file_id", "ordinal"),
        {
            "n": "JOIN names AS n ON n.id = x.name_id",
            "c": "JOIN scans AS c ON c.id = f.scan_id",
            "b": f"LEFT JOIN bindings AS b ON x.symbol_ordinal IS NULL AND b.path_id = x.path_id AND {VALID}",
            "t": "LEFT JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id",
        },
        {
            "id": "f.id << 24 | x.ordinal",
            "scan_id": "f.scan_id",
            "symbol_id": "CASE WHEN x.symbol_ordinal IS NULL THEN t.id << 24 | b.ordinal"
            " ELSE f.id << 24 | x.symbol_ordinal END",
            "from_file": "f.file_path",
            "from_line": "x.line",
            "from_symbol_id": "f.id << 24 | x.from_ordinal",
            "reference_type": "x.reference_type",
            "name": "n.text",
            "resolution": f"CASE WHEN {DECIDED} THEN x.resolution WHEN b.path_id IS NULL THEN 'external'"
            " WHEN b.resolution = 'imported' AND b.version_id = x.version_id THEN 'exact' ELSE b.resolution END",
            "confidence": f"CASE WHEN {DECIDED} THEN x.confidence / 100.0 WHEN b.path_id IS NULL THEN 1.0"
            " ELSE b.confidence / 100.0 END",
            "file_id": "f.id",
            "ordinal": "x.ordinal",
            "from_ordinal": "x.from_ordinal",
            "symbol_file_id": "CASE WHEN x.symbol_ordinal IS NULL THEN t.id ELSE f.id END",
            "symbol_ordinal": "coalesce(x.symbol_ordinal, b.ordinal)",
        },
        names=("n",),
        searched=("symbol_id", "symbol_file_id", "symbol_ordinal"),
        figures="reference_type",
        counted=("reference_type", "resolution"),
    )


class ImportRelation(Base):
    """An import statement: ``imported_names`` as written, ``resolved_file`` if the module is in the tree."""

    __shown__ = ": importer_file:line, imported_module → resolved_file | resolution"
    __rules__ = Rules(create=_RECORD, delete=_REMOVE, frozen=_RECORD)

    if TYPE_CHECKING:
        scan_id = peewee.IntegerField()
        file_id = peewee.IntegerField()

    id = RowId("file_id", "ordinal")
    scan = peewee.ForeignKeyField(Scan, backref="imports")
    importer_file = peewee.TextField()
    imported_module = peewee.TextField()
    imported_names: JSONField[list[str]] = JSONField()
    resolved_file = peewee.TextField(null=True)
    line = peewee.IntegerField()
    resolution = EnumField(RESOLUTIONS)
    file = peewee.ForeignKeyField(ScanFile, backref="imports")
    ordinal = peewee.IntegerField()

    class Meta:
        table_name = "import_relations"

    __view__ = View(
        "import_facts",
        ("file_id", "ordinal"),
        {
            "m": "JOIN names AS m ON m.id = x.module_id",
            "c": "JOIN scans AS c ON c.id = f.scan_id",
            "b": f"LEFT JOIN bindings AS b ON b.path_id = x.path_id AND {VALID}",
            "t": "LEFT JOIN scan_files AS t ON t.version_id = b.version_id AND t.scan_id = f.scan_id",
        },
        {
            "id": "f.id << 24 | x.ordinal",
            "scan_id": "f.scan_id",
            "importer_file": "f.file_path",
            "imported_module": "m.text",
            "imported_names": "x.imported_names",
            "resolved_file": "t.file_path",
            "line": "x.line",
            "resolution": "CASE WHEN b.path_id IS NOT NULL THEN b.resolution"
            " WHEN c.revision IS NULL OR x.path_id IS NULL THEN 'unresolved' ELSE 'external' END",
            "file_id": "f.id",
            "ordinal": "x.ordinal",
        },
        names=("m",),
    )
