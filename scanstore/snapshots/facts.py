"""The tables below the views: the facts of files, stored once per file version.

These models are not public: read through ``Symbol``, ``SymbolReference``, ``ImportRelation`` and ``ScanFileChunk``. The
layout is explained in ``migrations/001_snapshot.py``; a test keeps these models equal to the migrated schema. Texts are
interned in ``names``. Rows refer to them without a foreign key, because checking it would cost more than the rows.
:mod:`scanstore.snapshots.names` removes unused names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import peewee
from peewee import SQL, CompositeKey

from scanstore.db.fields import Base, HashField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.generic_fields import JsonValue
from scanstore.db.values import utcnow

FACT_TABLES = ("symbol_facts", "reference_facts", "import_facts", "chunk_facts")


class Name(Numbered):
    __shown__ = ": text"
    text = peewee.TextField(unique=True)

    class Meta:
        table_name = "names"


class FileVersion(Numbered):
    __shown__ = ": module, path, size | line_count, error"
    path = peewee.TextField()
    content_hash = HashField()
    indexer = peewee.TextField()
    module = peewee.TextField(default="", constraints=[SQL("DEFAULT ''")])
    size = peewee.IntegerField(default=0, constraints=[SQL("DEFAULT 0")])
    line_count = peewee.IntegerField(default=0, constraints=[SQL("DEFAULT 0")])
    error = peewee.TextField(null=True)
    interface = peewee.BlobField(null=True)
    mentions = peewee.BlobField(null=True)
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "file_versions"
        indexes = ((("path", "content_hash", "indexer", "module"), True),)


class SymbolFact(Base):
    __shown__ = "symbol_type: version, ordinal, name, start_line"
    if TYPE_CHECKING:
        version_id = peewee.IntegerField()
        name_id = peewee.IntegerField()
        qualified_name_id = peewee.IntegerField()

    version = peewee.ForeignKeyField(FileVersion, on_delete="CASCADE", backref="+", index=False)
    ordinal = peewee.IntegerField()
    name = peewee.ForeignKeyField(Name, backref="+", index=True)
    qualified_name = peewee.ForeignKeyField(Name, backref="+", index=True)
    symbol_type = peewee.TextField()
    start_line = peewee.IntegerField()
    end_line = peewee.IntegerField()
    metadata: JSONField[JsonValue] = JSONField(null=True)
    body_hash = peewee.IntegerField(null=True)

    class Meta:
        table_name = "symbol_facts"
        primary_key = False
        indexes = ((("version", "ordinal"), True),)


class ReferenceFact(Base):
    __shown__ = "reference_type: version, ordinal, name, line"
    if TYPE_CHECKING:
        version_id = peewee.IntegerField()
        name_id = peewee.IntegerField()
        path_id = peewee.IntegerField(null=True)

    version = peewee.ForeignKeyField(FileVersion, on_delete="CASCADE", backref="+", index=False)
    ordinal = peewee.IntegerField()
    line = peewee.IntegerField()
    from_ordinal = peewee.IntegerField(null=True)
    reference_type = peewee.TextField()
    name = peewee.ForeignKeyField(Name, backref="+", index=False)
    path = peewee.ForeignKeyField(Name, backref="+", null=True, index=True)
    symbol_ordinal = peewee.IntegerField(null=True)
    resolution = peewee.TextField()
    confidence = peewee.IntegerField()

    class Meta:
        table_name = "reference_facts"
        primary_key = CompositeKey("version", "ordinal")
        without_rowid = True
        indexes = ((("version", "symbol_ordinal"), False), (("version", "from_ordinal"), False))


class ImportFact(Base):
    __shown__ = ": version, ordinal, module, line"
    if TYPE_CHECKING:
        version_id = peewee.IntegerField()
        module_id = peewee.IntegerField()
        path_id = peewee.IntegerField(null=True)

    version = peewee.ForeignKeyField(FileVersion, on_delete="CASCADE", backref="+", index=False)
    ordinal = peewee.IntegerField()
    line = peewee.IntegerField()
    module = peewee.ForeignKeyField(Name, backref="+", index=False)
    path = peewee.ForeignKeyField(Name, backref="+", null=True, index=True)
    imported_names: JSONField[list[str]] = JSONField()

    class Meta:
        table_name = "import_facts"
        primary_key = CompositeKey("version", "ordinal")
        without_rowid = True


class ChunkFact(Base):
    __shown__ = "chunk_type: version, symbol_name, start_line-end_line"
    if TYPE_CHECKING:
        version_id = peewee.IntegerField()

    version = peewee.ForeignKeyField(FileVersion, on_delete="CASCADE", backref="+", index=False)
    chunk_index = peewee.IntegerField()
    chunk_type = peewee.TextField()
    symbol_name = peewee.TextField(null=True)
    start_line = peewee.IntegerField()
    end_line = peewee.IntegerField()
    content_hash = HashField(index=True)

    class Meta:
        table_name = "chunk_facts"
        primary_key = CompositeKey("version", "chunk_index")
        without_rowid = True


class Lineage(Numbered, Timestamped):
    __shown__ = ": target"
    target = peewee.TextField(unique=True)

    class Meta:
        table_name = "lineages"


class Binding(Base):
    __shown__ = "resolution: lineage, path, nth, version, ordinal"
    if TYPE_CHECKING:
        lineage_id = peewee.IntegerField()
        path_id = peewee.IntegerField()
        version_id = peewee.IntegerField(null=True)

    lineage = peewee.ForeignKeyField(Lineage, on_delete="CASCADE", backref="+", index=False)
    path = peewee.ForeignKeyField(Name, backref="+", index=False)
    since = peewee.IntegerField()
    until = peewee.IntegerField(null=True)
    nth = peewee.IntegerField(default=0)
    version = peewee.ForeignKeyField(FileVersion, backref="+", null=True, index=False)
    ordinal = peewee.IntegerField(null=True)
    resolution = peewee.TextField()
    confidence = peewee.IntegerField()

    class Meta:
        table_name = "bindings"
        primary_key = CompositeKey("lineage", "path", "since", "nth")
        without_rowid = True
        indexes = ((("version", "ordinal"), False),)
