"""scanstore: keep the results of your scanners, and your decisions about them, in one SQLite file."""

from __future__ import annotations

from scanstore.db.exports import lazy

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from scanstore.aio.store import AsyncStore
    from scanstore.errors import (
        Ambiguous,
        BindRefused,
        Busy,
        Conflict,
        Damaged,
        DiskFull,
        FileReplaced,
        ForeignSchema,
        IllegalMove,
        InvalidArgument,
        LeaseLost,
        MigrationFailed,
        MissingFolder,
        NewerSchema,
        NoSlot,
        NoStore,
        NotAScanstore,
        NotFound,
        OpenRefused,
        OutdatedSchema,
        ReadOnly,
        ReadTimeout,
        ScanstoreError,
        SqliteTooOld,
        StorageError,
        StoreClosed,
        WrongKey,
        WrongStore,
        WrongTask,
    )
    from scanstore.provisioning import check_db_health, drop_db, init_db, seed_db
    from scanstore.store import Store
    from scanstore.store import Store as open  # noqa: A004
    from scanstore.version import __version__

__all__ = [
    "AsyncStore", "Store", "open", "__version__", "check_db_health", "drop_db", "init_db", "seed_db", "Ambiguous",
    "BindRefused", "Busy", "Conflict", "Damaged", "DiskFull", "FileReplaced", "ForeignSchema", "IllegalMove",
    "InvalidArgument", "LeaseLost", "MigrationFailed", "MissingFolder", "NewerSchema", "NoSlot", "NoStore",
    "NotAScanstore", "NotFound", "OpenRefused", "OutdatedSchema", "ReadOnly", "ReadTimeout", "ScanstoreError",
    "SqliteTooOld", "StorageError", "StoreClosed", "WrongKey", "WrongStore", "WrongTask",
]  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "aio.store": ("AsyncStore",),
            "errors": __all__[8:],
            "provisioning": ("check_db_health", "drop_db", "init_db", "seed_db"),
            "store": ("Store", "open"),
            "version": ("__version__",),
        },
    )
