"""Kill: whatever is killed while it writes, all that it was told is done is there, and nothing is half-done.

Two processes at a time work on one store and are killed at any moment; what they had noted before is looked for after
each round, and the store is checked. The same file lives through all rounds. Real processes, real SIGKILL.
"""

from __future__ import annotations

import itertools
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stressing import Child, Tell, chance, copied, done, fill, rounds, sound

from scanstore import Store, backups, migrating
from scanstore.database import SCHEMA_VERSION
from scanstore.indexing import tree
from scanstore.models import AnalysisTask, Finding, Job, PlanChange, Scan, ScanFileChunk, Scene

FILES = 12
Role = Callable[[Store, Path, Tell, random.Random], Iterator[object]]


# What is done until the kill: each step of a role ends with a note of what must be there from now on -----------------


def records(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    tree.FACTS_PER_COMMIT = 40  # several commits a scan
    while True:
        yield tell(["scan", store.scans.record(root / "tree", jobs=1, target=some.choice(("kept", "old"))).id])


def reviews(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        scan = store.scans.analyze(store.scans.record(root / "tree", jobs=1, target=f"review {some.random()}"))
        for chunk in store.chunks.work(scan, wait=False):
            draft = {"title": f"t{chunk.id}", "vulnerability_type": "x", "severity": "low", "line_number": 1}
            store.chunks.complete(chunk, drafts=[draft] if chunk.id % 3 == 0 else [])
            yield tell(["chunk", chunk.id])
        for row in store.drafts.work(scan, wait=False):
            store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
        for verified in store.verified.work(scan, wait=False):
            yield tell(["finding", store.findings.publish(verified).id])


def applies(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        scene, name = f"s{some.randrange(10**9)}", f"title {some.random()}"
        scenes = [{"id": f"{scene}-{n}", "title": "untitled"} for n in range(8)]
        store.library.upsert_scenes(scenes)
        yield tell(["scenes", [each["id"] for each in scenes]])
        plan = store.plans.create(name)
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
            store.jobs.tick(claimed, progress=50)
            store.jobs.complete(claimed, result={"n": 2})
            yield tell(["completed", str(claimed.id)])


def answers(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    user = store.accounts.find("ann@x.org") or store.accounts.add("ann@x.org")
    session = store.sessions.create(user, f"session {some.random()}")
    while True:
        store.sessions.add_task(session, "summary")
        for task in store.sessions.claim(session):
            store.sessions.complete_task(task, result={"result_content": "fine"})
            yield tell(["task", str(task.id)])


def copies(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        yield tell(["backup", backups.backup(store.database, folder=root / "copies", keep=3).path])


def prunes(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    while True:
        tell(["pruning"])
        yield store.jobs.prune(keep_last=some.randrange(4), dry_run=False)
        for scan in store.scans.list(target="old")[1:]:
            if scan.status != "running":
                yield store.scans.remove(scan)
        yield store.scans.record(root / "tree", jobs=1, target="old")


def tidies(store: Store, root: Path, tell: Tell, some: random.Random) -> Iterator[object]:
    from scanstore import compaction

    while True:
        yield compaction.optimize(store.database)
        yield store.search("t")


ROLES: dict[str, Role] = {
    role.__name__: role for role in (records, reviews, applies, works, answers, copies, prunes, tidies)
}


# What must be there --------------------------------------------------------------------------------------------------


class Ledger:
    """All that was acknowledged."""

    def __init__(self) -> None:
        self.notes: dict[str, list[Any]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, told: list[Any]) -> None:
        for kind, *note in told:
            self.notes.setdefault(kind, []).append(note)
            self.counts[kind] += 1

    def of(self, kind: str) -> set[Any]:
        return {note[0] for note in self.notes.get(kind, ())}

    def verify(self, store: Store) -> None:
        """Look for everything; what a round of pruning was to remove need not be there any more."""
        assert store.check() == []
        statuses = {scan.id: scan.status for scan in store.scans.list()}
        if self.notes.pop("pruning", None):
            self.notes["scan"] = [note for note in self.notes.get("scan", ()) if note[0] in statuses]
            self.notes["completed"] = []
        assert {statuses[scan] for scan in self.of("scan")} <= {"completed"}
        assert there(ScanFileChunk, self.of("chunk"), ScanFileChunk.status == "done") == self.of("chunk")
        assert there(Finding, self.of("finding")) == self.of("finding")
        assert there(AnalysisTask, self.of("task"), AnalysisTask.status == "completed") == self.of("task")
        assert there(Job, self.of("completed"), Job.status == "completed") == self.of("completed")
        if "completed" in self.notes and self.notes["completed"]:
            assert there(Job, self.of("job")) == self.of("job")
        else:  # pruned, if it was over
            self.notes["job"] = [[job] for job in there(Job, self.of("job"))]
        for (scenes,) in self.notes.get("scenes", ()):
            assert there(Scene, set(scenes)) == set(scenes)
        reverting = self.of("reverting")
        for plan, scene, name in self.notes.get("plan", ()):
            titles = {row.title for row in Scene.select().where(Scene.id.startswith(f"{scene}-"))}
            if plan not in reverting:
                assert store.plans.get(plan).status == "applied" and titles == {name}
        for plan in store.plans.list():  # half-applied ones too: a value and what the plan says of it are one
            for change in PlanChange.select().where(PlanChange.plan == plan):
                scene = Scene.get_by_id(change.scene_id)
                assert (scene.title == change.proposed_value) == (change.status == "applied"), (plan.id, change.id)

    def __str__(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))


def there(model: Any, keys: set[Any], *where: Any) -> set[Any]:
    """Those of the keys whose rows are there."""
    keyed = sorted(keys)
    found: set[Any] = set()
    for n in range(0, len(keyed), 500):
        rows = model.select(model.id).where(model.id.in_(keyed[n : n + 500]), *where)
        found |= {type(keyed[0])(row.id) for row in rows}
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small tree and an empty folder for copies."""
    root = tmp_path_factory.mktemp("kill")
    (root / "tree").mkdir()
    (root / "copies").mkdir()
    for n in range(FILES):
        body = "".join(f"def f{k}(x):\n    return f{k + 1}(x)\n\n\n" for k in range(5))
        (root / f"tree/m{n}.py").write_text(f"from m{(n + 1) % FILES} import f0\n\n\n{body}")
    return root


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full store; to make it imports what the processes need, so that they come to their work."""
    path = tmp_path_factory.mktemp("kill-full") / "full.db"
    fill(path)
    return path


def test_what_was_acknowledged_survives_any_kill(root: Path, full: Path) -> None:
    some, path, ledger = chance("kill"), root / "scan.db", Ledger()
    kills, worst = 0, 0.0
    with Store(path) as store:
        store.llm.add("m")
    pairs = itertools.cycle(some.sample(sorted(itertools.combinations(ROLES, 2)), 28))
    for number in range(rounds(10, 150)):
        children = [Child(worker(ROLES[name], path, root, number)) for name in next(pairs)]
        for child in children:
            if some.random() < 0.6:  # in the midst of its work; else it may be opening the store
                wait_for(child)
            time.sleep(some.random() * 0.1)
            told = child.kill()
            assert child.status == -9, told[-1]  # none of them ends by itself
            ledger.add(told)
            kills += 1
        assert not [name for name in root.glob("copies/*") if "partial" not in name.name and not is_sound(name)]
        began = time.perf_counter()
        with Store(path, timeout=5) as store:
            worst = max(worst, time.perf_counter() - began)
            ledger.verify(store)
        sound(path)
    newest = max(ledger.of("backup"), default=None)
    assert newest is None or Path(newest).exists()
    with Store(path) as store:
        backups.backup(store.database, folder=root / "copies", keep=3)
    assert not list(root.glob("copies/*partial*")), "what the dead have left is swept by the next copy"
    assert ledger.counts
    print(f"\n{kills} kills, reopened in {worst * 1000:.0f} ms at most; acknowledged and found: {ledger}")


def wait_for(child: Child, seconds: float = 0.5) -> None:
    """Wait until it has told something, but not for long: it may be waiting for the other."""
    deadline = time.monotonic() + seconds
    while not child.told() and time.monotonic() < deadline:
        time.sleep(0.002)


def worker(role: Role, path: Path, root: Path, number: int) -> Callable[[Tell], object]:
    def work(tell: Tell) -> None:
        with Store(path, timeout=30) as store:
            for _ in role(store, root, tell, chance(role.__name__, number)):
                pass

    return work


def is_sound(copy: Path) -> bool:
    return 0 < backups.verify(copy) <= SCHEMA_VERSION


# One at a time: those that want the store for themselves --------------------------------------------------------------


def test_a_migration_that_is_killed_leaves_the_old_schema_or_the_new_one(full: Path, tmp_path: Path) -> None:
    """At any moment; tests of single statements are in stress_migration."""
    some, found = chance("migrate"), Counter[int]()
    times = rounds(8, 60)
    for number in range(times):
        schema = some.randrange(1, SCHEMA_VERSION)
        old = tmp_path / f"{schema}.db"
        if not old.exists():
            migrating.down(copied(full, old), to=schema, backup=False)
        path = tmp_path / "now" / "scan.db"
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        shutil.copy(old, path)

        def work(tell: Tell, path: Path = path) -> None:
            Store(path).close()
            tell("migrated")

        child = Child(work)
        time.sleep(some.random() * 0.4 * (number + 1) / times)
        told = child.kill()
        sound(path)
        version = migrated_to(path)
        assert version == SCHEMA_VERSION or version == schema and not told
        found[version] += 1
        for copy in path.parent.glob("*.backup-*Z"):
            sound(copy)
        with Store(path) as store:
            assert store.check() == []
    print(f"\n{times} migrations killed; schema afterwards: {dict(sorted(found.items()))}")


def migrated_to(path: Path) -> int:
    return sum(step.applied for step in migrating.status(path))


def test_a_restore_that_is_killed_leaves_the_old_store_or_the_new_one(full: Path, tmp_path: Path) -> None:
    some, found = chance("restore"), Counter[str]()
    copy = copied(full, tmp_path / "copy.db")
    with Store(tmp_path / "other.db") as store:
        for n in range(400):
            store.settings.set(f"key {n}", "x" * 1000)
    original = (tmp_path / "other.db").read_bytes()
    path = tmp_path / "now" / "scan.db"
    for _ in range(rounds(5, 60)):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        path.write_bytes(original)
        child = Child(lambda tell: (backups.restore(copy, path), tell("restored")))
        time.sleep(some.random() * 0.12)
        told = child.kill()
        with Store(path) as store:
            assert store.check() == []
            old, new = len(store.settings) == 400, Scan.select().count() > 0
        assert old != new and (new or not told)
        found["new" if new else "old"] += 1
        for kept in path.parent.glob("*.before-restore-*"):
            if "partial" not in kept.name:
                sound(kept)
    print(f"\nrestores killed; the store afterwards: {dict(found)}")


def test_a_killed_process_holds_nothing(full: Path, tmp_path: Path) -> None:
    """A place of a model, a lease, the write lock: all free for the next one at once."""
    path = copied(full, tmp_path / "scan.db")

    def hold(tell: Tell) -> None:
        with Store(path) as store:
            store.llm.add("own", max_concurrent=1)
            job = store.jobs.enqueue("held", max_retries=5)
            with store.llm.slot("own", lease=600):
                (claimed,) = store.jobs.claim("held", lease=600)
                assert claimed.id == job.id
                with store.transaction():
                    store.settings["half"] = True
                    tell(str(job.id))
                    time.sleep(60)

    child = Child(hold)
    job = child.first()
    child.kill()

    def take(tell: Tell) -> None:
        with Store(path, timeout=2) as store:
            assert "half" not in store.settings
            with store.llm.slot("own", timeout=2):
                tell([str(claimed.id) for claimed in store.jobs.claim("held")])
            assert store.check() == []

    assert done(take, seconds=20) == [[job]]
