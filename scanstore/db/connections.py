"""Opening of connections to a file, with its key if it is encrypted."""

from __future__ import annotations

import sqlite3

from scanstore.db import forks
from scanstore.db.cursors import Tracked
from scanstore.db.files import careful, uri

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from typing import TypedDict, Unpack

    class Driving(TypedDict, total=False):
        """The further options of a driver."""

        timeout: float
        check_same_thread: bool
        cached_statements: int
        factory: type[sqlite3.Connection]


def connect(file: str, options: str, *, key: str | None = None, **more: Unpack[Driving]) -> sqlite3.Connection:
    """Open exactly this absolute path, with a key if it is encrypted. The file is not read yet.

    Raises StorageError in a forked child that must not open this file (see :mod:`scanstore.db.forks`).
    """
    forks.refuse_inherited(file)
    if key is not None:
        from scanstore.db import encryption  # the library is an extra

        return encryption.connect(file, options, key, isolation_level=None, **more)
    more.setdefault("factory", Tracked)
    connection: sqlite3.Connection = sqlite3.connect(uri(file, options), uri=True, isolation_level=None, **more)
    forks.opened(connection, file)
    try:
        connection.executescript(careful(sqlite3.connect))
    except BaseException:
        connection.close()
        raise
    return connection
