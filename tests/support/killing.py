"""What the kill tests do until they are killed, and what must be there afterwards.

A role works on an open store for ever, and after each step notes what must be there from now on. The ledger collects
the notes and looks for all of it. A new role wants its check there, and has to leave the other roles' rows alone.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stressing import Tell, report

from scanstore import Store
from scanstore.maintenance import backup
from scanstore.models import (
    AnalysisTask,
    AuditEvent,
    Finding,
    FindingEvent,
    Job,
    PlanChange,
    ScanFileChunk,
    Scene,
    Task,
)
from scanstore.snapshots import tree_scan

Role = Callable[[Store, Path, Tell, random.Random], Iterator[object]]


# Roles ----------------------------------------------------------------------------------------------------------------


def records(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    tree_scan.FACTS_PER_COMMIT = 40  # several commits a scan
    while True:
        target = some.choice(("kept", "old"))
        yield tell(["scan", store.scans.record(root / "tree", jobs=1, target=target).id, target])


def reviews(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    store.llm.ensure("m")
    while True:
        scan = store.scans.analyze(store.scans.record(root / "tree", jobs=1, target=f"review {some.random()}"))
        for chunk in store.chunks.work(scan, wait=False):
            draft = {"title": f"t{chunk.id}", "vulnerability_type": "x", "severity": "low", "line_number": 1}
            with store.llm.slot("m"):
                store.chunks.complete(chunk, drafts=[draft] if chunk.id % 3 == 0 else [])
            yield tell(["chunk", chunk.id])
        for row in store.drafts.work(scan, wait=False):
            store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
        for verified in store.verified.work(scan, wait=False):
            yield tell(["finding", store.findings.publish(verified).id])
        yield  # where the disk fails, there may be nothing to review


def reports(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        lines = tuple(some.sample(range(1, 90), 3))
        content = io.BytesIO(json.dumps(report(lines=lines)).encode())
        scan = store.sarif.load(content, target="reports").scan
        tell(["scan", scan, "reports"])
        for finding in store.findings.list(scan):
            note, status = f"note {some.random()}", "confirmed" if finding.status == "open" else "open"
            store.findings.triage(finding, status, by="ann", reason=note)
            # Another process may have decided the same before: then nothing was to be written.
            if any(event.note == note for event in store.findings.history(finding)):
                tell(["decision", note])
            store.findings.comment(finding, f"said {note}", by="ann")
            yield tell(["decision", f"said {note}"])


def applies(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        scene, name = f"s{some.randrange(10**9)}", f"title {some.random()}"
        scenes = [{"id": f"{scene}-{n}", "title": "untitled"} for n in range(8)]
        store.library.upsert_scenes(scenes)
        tell(["scenes", [each["id"] for each in scenes]])
        plan = store.plans.add(name)
        for each in scenes:
            store.plans.propose(plan, each["id"], "title", "set", proposed=name)
        store.plans.submit(plan)
        store.plans.review(plan, "approve")
        store.plans.apply(plan)
        yield tell(["plan", plan.id, scene, name])
        if some.random() < 0.3:
            tell(["reverting", plan.id])
            store.plans.revert(plan)


def works(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        job = store.jobs.enqueue("sync", meta={"n": 1}, priority=some.randrange(3))
        yield tell(["job", str(job.id)])
        for claimed in store.jobs.claim("sync", limit=some.randrange(1, 3)):
            store.jobs.heartbeat(claimed, progress=50)
            store.jobs.complete(claimed, result={"n": 2})
            yield tell(["completed", str(claimed.id)])


def answers(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    user = store.accounts.find("ann@x.org") or store.accounts.add("ann@x.org")
    session = store.sessions.add(user, f"session {some.random()}")
    while True:
        store.sessions.tasks.add(session, "summary")
        for task in store.sessions.tasks.claim(session):
            store.sessions.tasks.complete(task, result={"result_content": "fine"})
            yield tell(["task", str(task.id)])


def audits(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    user = store.accounts.find("bob@x.org") or store.accounts.add("bob@x.org")
    found = {"severity": "minor", "rule_id": "R", "message": "m", "evidence": {"ohm": 12}}
    while True:
        store.audits.add(user, "report.pdf", 10)
        for task in store.audits.claim():
            store.audits.complete(task, analysis={"equipment_type": "p", "test_type": "x"}, findings=[found])
            yield tell(["audit", str(task.id)])


def counts(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        with store.transaction():
            for name in ("one", "two"):
                store.settings.update(name, lambda value: (value or 0) + 1, default=0)
        yield tell(["counted"])


def merges(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    """What another store has, which is like this one and has something more each time."""
    while True:
        target, scenes = f"merged {some.random()}", [{"id": f"m{some.random()}", "title": "x"} for _ in range(3)]
        path = root / f"others/{some.randrange(10**9)}.db"
        shutil.copy(root / "full.db", path)
        with Store(path) as other:
            other.scans.record(root / "tree", jobs=1, target=target)
            other.library.upsert_scenes(scenes)
        store.merge(path)
        tell(["merged", target])
        yield tell(["scenes", [each["id"] for each in scenes]])


def copies(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        yield tell(["backup", backup.backup(store.database, folder=root / "copies", keep=3).path])


def dumps(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        yield tell(["dump", store.dump(root / "copies/dump.jsonl").rows])


def prunes(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        tell(["pruning"])
        gone = store.prune(keep_last=some.randrange(3), dry_run=False)
        yield tell(["gone", [scan.id for scan in gone.scans]])
        yield store.scans.record(root / "tree", jobs=1, target="old")


def vacuums(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        yield tell(["vacuum", store.vacuum().after])


def tidies(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        store.optimize()
        store.search("t")
        yield tell(["tidied"])


ROLES: dict[str, Role] = {
    role.__name__: role
    for role in (
        records, reviews, reports, applies, works, answers, audits, counts, merges, copies, dumps, prunes, vacuums,
        tidies,
    )
}  # fmt: skip


# What must be there ---------------------------------------------------------------------------------------------------


class Ledger:
    """All that was acknowledged."""

    def __init__(self) -> None:
        self.notes: dict[str, list[Any]] = {}
        self.counts: Counter[str] = Counter()
        self.kills = 0

    def add(self, told: list[Any]) -> None:
        self.kills += 1
        for kind, *note in told:
            self.notes.setdefault(kind, []).append(note)
            self.counts[kind] += 1

    def of(self, kind: str) -> set[Any]:
        return {note[0] for note in self.notes.get(kind, ())}

    def verify(self, store: Store) -> None:
        """Look for everything; what a round of pruning was to remove need not be there any more."""
        problems = store.check()
        assert problems == [], problems
        pruned = bool(self.notes.pop("pruning", None))
        self._scans(store, pruned)
        self._jobs(pruned)
        self._plans(store)
        assert there(ScanFileChunk, self.of("chunk"), ScanFileChunk.status == "done") == self.of("chunk")
        assert there(Finding, self.of("finding")) == self.of("finding")
        assert there(FindingEvent, self.of("decision"), by=FindingEvent.note) == self.of("decision")
        assert there(AnalysisTask, self.of("task"), AnalysisTask.status == "completed") == self.of("task")
        assert there(Task, self.of("audit"), Task.status == "completed") == self.of("audit")
        ends = there(AuditEvent, self.of("audit"), AuditEvent.action == "completed", by=AuditEvent.task)
        assert ends == self.of("audit")
        for (scenes,) in self.notes.get("scenes", ()):
            assert there(Scene, set(scenes)) == set(scenes)
        counted = self.counts["counted"]
        one, two = (store.settings.get(name, 0) for name in ("one", "two"))
        assert one == two and counted <= one <= counted + self.kills, (one, two, counted)

    def _scans(self, store: Store, pruned: bool) -> None:
        listed = {scan.id: scan for scan in store.scans.list()}
        newest = {scan.target: scan.id for scan in sorted(listed.values(), key=lambda scan: scan.id)}
        assert {listed[scan].status for scan, _ in self.notes.get("scan", ()) if scan in listed} <= {"completed"}
        for scan, target in self.notes.get("scan", ()):
            assert scan in listed or pruned and newest.get(target, 0) > scan, (scan, target)
        self.notes["scan"] = [note for note in self.notes.get("scan", ()) if note[0] in listed]
        assert self.of("merged") <= {scan.target for scan in listed.values()}
        for (gone,) in self.notes.get("gone", ()):
            assert not set(gone) & set(listed)

    def _jobs(self, pruned: bool) -> None:
        if pruned:  # what was over may be gone
            self.notes["completed"] = []
            self.notes["job"] = [[job] for job in there(Job, self.of("job"))]
        assert there(Job, self.of("completed"), Job.status == "completed") == self.of("completed")
        assert there(Job, self.of("job")) == self.of("job")

    def _plans(self, store: Store) -> None:
        reverting = self.of("reverting")
        for plan, scene, name in self.notes.get("plan", ()):
            titles = {row.title for row in Scene.select().where(Scene.id.startswith(f"{scene}-"))}
            if plan not in reverting:
                assert store.plans.get(plan).status == "applied" and titles == {name}
        for plan in store.plans.list():  # half-applied ones too: a value and what the plan says of it are one
            for change in PlanChange.select().where(PlanChange.plan == plan):
                title = Scene.get_by_id(change.scene_id).title
                assert (title == change.proposed_value) == (change.status == "applied"), (plan.id, change.id)

    def __str__(self) -> str:
        kinds = [f"{count} {kind}" for kind, count in sorted(self.counts.items())]
        return f"{self.counts.total()}: {', '.join(kinds)}"


def there(model: Any, keys: set[Any], *where: Any, by: Any = None) -> set[Any]:
    """Those of the keys whose rows are there."""
    column, keyed = model.id if by is None else by, sorted(keys)
    found: set[Any] = set()
    for n in range(0, len(keyed), 500):
        rows = model.select(column).where(column.in_(keyed[n : n + 500]), *where).tuples()
        found |= {type(keyed[0])(value) for (value,) in rows}
    return found
