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
    """A kind of leased work: how it is claimed, and what its owner says."""

    claim: Callable[..., list[Any]]
    heartbeat: Callable[..., Any]
    complete: Callable[[Any], Any]
    fail: Callable[[Any], Any]
    release: Callable[[Any], Any]
    recover: Callable[[], Any]
    get: Callable[[Any], Any]
    state: Callable[[], Any]
    process: str  #: the table


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
        return Kind(
            lambda **given: stage.claim(scan, **given), stage.heartbeat, complete, lambda row: stage.fail(row, "no"),
            stage.release, stage.recover, stage.get, lambda: stage.state(scan), stage.queue.table,
        )  # fmt: skip
    if name == "jobs":
        for _ in range(count):
            store.jobs.enqueue("one")
        jobs = store.jobs
        return Kind(
            jobs.claim, jobs.tick, jobs.complete, lambda row: jobs.fail(row, "no"), jobs.release, jobs.recover,
            jobs.get, jobs.state, "jobs",
        )  # fmt: skip
    user = store.accounts.add("ann@x.org")
    if name == "tasks":
        session = store.sessions.create(user, "s")
        for _ in range(count):
            store.sessions.add_task(session, "summary")
        tasks = store.sessions
        return Kind(
            lambda **given: tasks.claim(session, **given), tasks.tick, tasks.complete_task,
            lambda row: tasks.fail_task(row, "no"), tasks.release_task, tasks.recover, tasks.get_task,
            lambda: tasks.state(session), "analysis_tasks",
        )  # fmt: skip
    for n in range(count):
        store.audits.add(user, f"{n}.pdf", 10)
    audits = store.audits
    return Kind(
        audits.claim, audits.heartbeat, lambda row: audits.complete(row, **FOUND), lambda row: audits.fail(row, "no"),
        audits.release, audits.recover, audits.get, audits.state, "audit_tasks",
    )  # fmt: skip
