"""The database layer: the file, its connections and transactions, fields, the schema, and the operating system.

This package does not depend on scans or findings. ``database`` opens a file, ``domain`` has the base class of all
domains, ``fields`` the base of all models, ``state_machine`` the transitions of all statuses, ``migrations`` and
``schema`` the tables.
"""

from __future__ import annotations

from scanstore.db.exports import lazy

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from scanstore.db.database import Database
    from scanstore.db.domain import Domain
    from scanstore.db.fields import Base, EnumField, HashField, IdField, JSONField, UTCField, UUIDField
    from scanstore.db.filesystems import PlaceWarning
    from scanstore.db.migrations import Step
    from scanstore.db.pagination import Page
    from scanstore.db.rows import Rows
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "database": ("Database",),
            "domain": ("Domain",),
            "fields": ("Base", "EnumField", "HashField", "IdField", "JSONField", "UTCField", "UUIDField"),
            "filesystems": ("PlaceWarning",),
            "migrations": ("Step",),
            "pagination": ("Page",),
            "rows": ("Rows",),
        },
    )

__all__ = [
    "Base",
    "Database",
    "Domain",
    "EnumField",
    "HashField",
    "IdField",
    "JSONField",
    "Page",
    "PlaceWarning",
    "Rows",
    "Step",
    "UTCField",
    "UUIDField",
]
