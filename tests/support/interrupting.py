"""What the interrupt tests share: a KeyboardInterrupt at a chosen place of a call, and what must hold after it."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import peewee

import scanstore
from scanstore import Store
from scanstore.db.database import current

PACKAGE = os.path.dirname(scanstore.__file__) + os.sep
OURS_IN_PEEWEE = ("_transaction.", "_savepoint.", "_atomic.", "_manual.", "Database.", "_callable_context_manager.")


class Place(NamedTuple):
    """The `nth` time that something happens at a line, or at an instruction when the event is an opcode."""

    code: CodeType
    at: int
    event: str
    nth: int

    def __str__(self) -> str:
        file = os.path.basename(self.code.co_filename)
        return f"{file}:{self.code.co_name} {self.event} {self.at} ({self.nth})"


def traced(code: CodeType) -> bool:
    file = code.co_filename
    return file.startswith(PACKAGE) or (file == peewee.__file__ and code.co_qualname.startswith(OURS_IN_PEEWEE))


class Tracer:
    """Sees every line of a call that runs in scanstore, or in Peewee's transactions; interrupts it at a place."""

    def __init__(self, place: Place | None = None, opcodes: tuple[str, ...] = ()) -> None:
        self.place, self.opcodes = place, opcodes
        self.seen: Counter[tuple[CodeType, int, str]] = Counter()
        self.struck = False

    def run(self, call: Callable[[], object]) -> None:
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            call()
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, event: str, _: Any) -> Any:
        if not traced(frame.f_code):
            return None
        if frame.f_code.co_filename.endswith(self.opcodes) and self.opcodes:
            frame.f_trace_opcodes = True
        self._note(frame, event)
        return self._traced

    def _traced(self, frame: FrameType, event: str, _: Any) -> Any:
        if event != "exception":
            self._note(frame, event)
        return self._traced

    def _note(self, frame: FrameType, event: str) -> None:
        key = (frame.f_code, frame.f_lasti if event == "opcode" else frame.f_lineno, event)
        self.seen[key] += 1
        if self.place is not None and not self.struck and key == self.place[:3] and self.seen[key] == self.place.nth:
            self.struck = True
            raise KeyboardInterrupt


def places(call: Callable[[], object], opcodes: tuple[str, ...] = ()) -> Iterator[Place]:
    """Run a call; each place that it comes by, the first time and the last."""
    tracer = Tracer(opcodes=opcodes)
    tracer.run(call)
    for (code, at, event), count in tracer.seen.items():
        if not opcodes or event == "opcode":
            for nth in sorted({1, count}):
                yield Place(code, at, event, nth)


def outside() -> tuple[Any, ...]:
    """What of the process no call may leave changed."""
    return (
        gc.isenabled(), gc.get_threshold(), sys.getrecursionlimit(), signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM), current(),
    )  # fmt: skip


def usable(store: Store, value: int) -> None:
    """Right after an interrupt, while its traceback is alive: nothing is open, others can write, and so can we."""
    link = store.database._state.conn
    if not store.database._state.closed:
        assert not link.in_transaction, "a transaction is open"
        assert {name for _, name, _ in link.execute("PRAGMA database_list")} <= {"main", "temp"}, "still attached"
        assert link.execute("SELECT name FROM temp.sqlite_schema").fetchall() == [], "temporary tables are left"
    other = sqlite3.connect(store.path, timeout=0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        store.settings["after"] = value
        assert not store.database.in_transaction() and not store.database.in_sqlite_transaction()
        sql = "SELECT value FROM settings WHERE key = 'after'"
        assert other.execute(sql).fetchone() == (str(value),), "a write was acknowledged and is not there"
    finally:
        other.close()


def fingerprint(path: Path) -> dict[str, Any]:
    """How many rows each table has, and of which status; without what these tests write themselves."""
    connection = sqlite3.connect(path)
    found: dict[str, Any] = {}
    try:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1").fetchall()
        for (name,) in names:
            if name.startswith(("finding_search", "symbol_search", "sqlite_")):
                continue
            columns = {row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')}
            by = [c for c in ("status", "attempt", "retry_count", "progress", "result_status", "title") if c in columns]
            group = ", ".join(by) or "1"
            where = "key <> 'after'" if name == "settings" else "1"
            sql = f'SELECT {group}, count(*) FROM "{name}" WHERE {where} GROUP BY {group} ORDER BY {group}'
            found[name] = connection.execute(sql).fetchall()
    finally:
        connection.close()
    return found
