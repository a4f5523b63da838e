"""The six kinds of leased work, each behind the same calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from scanstore import Store
from scanstore.db import values

ROOT = Path(__file__).parents[1]
NIGHT = timedelta(hours=8)
NOW = datetime.min


def moment() -> datetime:
    return NOW


class Night:
    """The clock: it goes on only when told to."""

    @staticmethod
    def sleep(time: timedelta = NIGHT) -> None:
        values.NOW += time  # type: ignore[attr-defined]


class Kind(NamedTuple):
    """A kind of leased work: its calls, a scope that has rows, and how a row is completed."""

    calls: Any
    scope: Any
    complete: Callable[[Any], Any]

    @property
    def table(self) -> str:
        name: str = self.calls.queue.table
        return name

    def claim(self, **given: Any) -> list[Any]:
        rows: list[Any] = self.calls.claim(self.scope, **given)
        return rows

    def state(self) -> Any:
        return self.calls.state(self.scope)

    def fail(self, row: Any) -> Any:
        return self.calls.fail(row, "no")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.calls, name)  # get, heartbeat, release, recover, retry


FOUND = {"analysis": {"equipment_type": "p", "test_type": "x"}}
DRAFT = {"title": "t", "vulnerability_type": "x", "severity": "low", "file_path": "models.py"}
KINDS = ("chunks", "drafts", "verified", "jobs", "tasks", "audits")


def kind(store: Store, name: str, count: int = 3) -> Kind:
    """Work of that kind, with so many rows."""
    if name in ("chunks", "drafts", "verified"):
        scan = store.scans.record(ROOT / "callgraph" / "shop", jobs=1)
        store.scans.analyze(scan, pause_after=None)
        store.llm.add("m")
        votes = [{"model": "m", "decision": "verified"}]
        if name != "chunks":
            for chunk in store.chunks.work(scan):
                store.chunks.complete(chunk)
            store.drafts.add(scan, [{**DRAFT, "title": f"t{n}", "line_number": n * 50 + 1} for n in range(count)])
        if name == "verified":
            for draft in store.drafts.claim(scan, limit=1000):
                store.drafts.record_votes(draft, votes)
        stage: Any = getattr(store, name)
        complete = {
            "chunks": store.chunks.complete,
            "drafts": lambda row: store.drafts.record_votes(row, votes),
            "verified": store.findings.publish,
        }[name]
        return Kind(stage, scan, complete)
    if name == "jobs":
        for _ in range(count):
            store.jobs.enqueue("one")
        return Kind(store.jobs, None, store.jobs.complete)
    user = store.accounts.add("ann@x.org")
    if name == "tasks":
        session = store.sessions.add(user, "s")
        for _ in range(count):
            store.sessions.tasks.add(session, "summary")
        return Kind(store.sessions.tasks, session, store.sessions.tasks.complete)
    for n in range(count):
        store.audits.add(user, f"{n}.pdf", 10)
    return Kind(store.audits, None, lambda row: store.audits.complete(row, **FOUND))
