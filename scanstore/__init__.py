"""scanstore: one SQLite file that remembers what your scanners saw, and what you decided about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanstore.aio import AsyncStore
    from scanstore.errors import *  # noqa: F403
    from scanstore.provisioning import check_db_health, drop_db, init_db, seed_db  # noqa: F401
    from scanstore.store import Store
    from scanstore.store import Store as open  # noqa: A004
    from scanstore.version import __version__

_ERRORS = (
    "Ambiguous", "BindRefused", "Busy", "Conflict", "Damaged", "DiskFull", "FileReplaced", "ForeignSchema",
    "IllegalMove", "InvalidArgument", "LeaseLost", "MigrationFailed", "MissingFolder", "NewerSchema", "NoSlot",
    "NoStore", "NotAScanstore", "NotFound", "OpenRefused", "OutdatedSchema", "ReadOnly", "ReadTimeout",
    "ScanstoreError", "SqliteTooOld", "StorageError", "StoreClosed", "WrongKey", "WrongStore", "WrongTask",
)  # fmt: skip
_PROVISIONING = ("check_db_health", "drop_db", "init_db", "seed_db")

__all__ = ["AsyncStore", "Store", "open", "__version__", *_PROVISIONING, *_ERRORS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: the indexing workers import this package and need no database.
    if name in ("Store", "open"):
        from scanstore.store import Store

        globals().update(Store=Store, open=Store)
        return Store
    if name == "AsyncStore":
        from scanstore.aio import AsyncStore

        return globals().setdefault(name, AsyncStore)
    if name == "__version__":
        from scanstore.version import __version__

        return globals().setdefault(name, __version__)
    if name in _PROVISIONING:
        from scanstore import provisioning

        return globals().setdefault(name, getattr(provisioning, name))
    if name in _ERRORS:
        from scanstore import errors

        return globals().setdefault(name, getattr(errors, name))
    raise AttributeError(f"module 'scanstore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
