"""The log messages of a store, through `logging`.

    scanstore.store      opening a store, and the rows that opening freed; migrations log to scanstore.migrate
    scanstore.slow       statements that took longer than ``Store(slow_ms=…)``, or ``$SCANSTORE_SLOW_MS``
    peewee               every statement, at DEBUG; values of statements that touch a secret are left out

Statements are logged without their values, because these are the user's data. Change here: how slow statements are
timed.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self, cast

from scanstore.db.cursors import Connection, Cursor
from scanstore.db.plain_text import plain_text
from scanstore.errors import InvalidArgument, shown

if TYPE_CHECKING:
    _Base = sqlite3.Cursor
else:
    _Base = object

LONGEST = 400  # characters of a statement that are shown
VARIABLE = "SCANSTORE_SLOW_MS"
slow = logging.getLogger("scanstore.slow")


def threshold(given: float | None) -> float | None:
    """Convert milliseconds, by default those of the environment, to the seconds above which a statement is slow, or
    None.

    Raises InvalidArgument.
    """
    value = os.environ.get(VARIABLE) if given is None else given
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number < float("inf") or isinstance(value, bool):
        what = VARIABLE if given is None else "slow_ms"
        raise InvalidArgument(f"{what} is {shown(value)}; it must be a number of milliseconds, 0 or more")
    return number / 1000


def one_line(sql: str) -> str:
    """Return a statement on one line, truncated if it is very long."""
    text = " ".join(sql.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


class Timed(_Base):
    """Mixin for a cursor class: adds up the time SQLite takes until the last row is read, and logs slow statements."""

    name = ""
    limit = float("inf")
    _sql = ""
    _seconds = 0.0
    _rows = 0

    def execute(self, sql: str, parameters: Any = ()) -> Self:
        self._begin(sql)
        start = time.perf_counter()
        try:
            super().execute(sql, parameters)
        finally:
            self._seconds += time.perf_counter() - start
            if self.description is None:
                self.tell()
        return self

    def executemany(self, sql: str, parameters: Iterable[Any]) -> Self:
        self._begin(sql)
        start = time.perf_counter()
        try:
            super().executemany(sql, parameters)
        finally:
            self._seconds += time.perf_counter() - start
            self.tell()
        return self

    def fetchone(self) -> Any:
        start = time.perf_counter()
        row = super().fetchone()
        self._add(start, row is not None, row is None)
        return row

    def fetchmany(self, size: int | None = 100) -> list[Any]:
        start = time.perf_counter()
        rows = super().fetchmany(size)
        self._add(start, len(rows), not rows)
        return rows

    def fetchall(self) -> list[Any]:
        start = time.perf_counter()
        rows = super().fetchall()
        self._add(start, len(rows), True)
        return rows

    def __next__(self) -> Any:
        start = time.perf_counter()
        try:
            row = super().__next__()
        except StopIteration:
            self._add(start, 0, True)
            raise
        self._add(start, 1, False)
        return row

    def _begin(self, sql: str) -> None:
        self.tell()
        self._sql, self._seconds, self._rows = sql, 0.0, 0

    def _add(self, start: float, rows: int, over: bool) -> None:
        self._seconds += time.perf_counter() - start
        self._rows += rows
        if over:
            self.tell()

    def tell(self) -> None:
        """Log the statement if it was slow, once."""
        if self._sql and self._seconds >= self.limit:
            rows = f", {self._rows} rows" if self._rows else ""
            slow.warning("%s: %.1f ms%s: %s", self.name, self._seconds * 1000, rows, one_line(self._sql))
        self._sql = ""

    def __del__(self) -> None:
        if self._sql and not sys.is_finalizing():  # its rows were not all read
            self.tell()


def timed(connection: Connection, name: str, limit: float) -> Cursor:
    """Return a cursor that logs statements which take longer than this number of seconds."""
    cursor = connection.cursor(_timed_cursor())
    cursor.name, cursor.limit = name, limit
    return cast("Cursor", cursor)


@lru_cache(maxsize=1)
def _timed_cursor() -> type[Cursor]:
    return type("TimedCursor", (Timed, Cursor), {})


class PlainFormatter(logging.Formatter):
    """One line for each record, with unprintable characters escaped, because names are untrusted."""

    def format(self, record: logging.LogRecord) -> str:
        return plain_text(" ".join(super().format(record).split("\n")))


class _Stderr(logging.Handler):
    """Writes to the current ``sys.stderr``."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr)
        except (OSError, ValueError):
            return  # stderr is closed


def to_stderr(level: int) -> None:
    """Print scanstore's log on stderr, from a level on. With DEBUG, every statement is printed. Repeated calls only set
    the level.
    """
    for name in ("scanstore", "peewee"):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        if not any(isinstance(handler.formatter, PlainFormatter) for handler in logger.handlers):
            handler = _Stderr()
            handler.setFormatter(PlainFormatter("%(asctime)s %(name)s: %(message)s"))
            logger.addHandler(handler)
            logger.propagate = False
