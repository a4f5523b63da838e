"""Interrupts: a KeyboardInterrupt at any line of a call that writes leaves the store usable and nothing half-done.

A trace function raises it, so no line is left to chance: not the first of an `__exit__`, not those of a `finally`.
Right after it, while its traceback is alive, nothing is open on the connection, another connection gets the write lock,
and what the same thread writes next is there for others. A call that is atomic has done all of its work or nothing.
"""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from interrupting import Place, Tracer, fingerprint, outside, places, usable
from stressing import LONG, SEED, chance, fill, report

from scanstore import Store
from scanstore.maintenance import backup as backups
from scanstore.models import Finding, Job, ScanFileChunk, Scene, User

# An interrupt in a generator that is being closed has nowhere to go: Python says so and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DAY = 86400
SHORT = 3  # places of each call in the short form
OFTEN = 40  # interrupts between two checks of the whole store
Ready = Callable[[Store], Callable[[], object]]


class Case(NamedTuple):
    """`prepare` fills the store and gives what makes the call ready; `steps` says that it may be done in part."""

    prepare: Callable[[Store, Path], Ready]
    steps: bool


CASES: dict[str, Case] = {}
FRESH = {"load"}  # calls that want a store without rows, in which nothing was written to see whether it is usable
THEN: dict[str, Callable[[Store, Path], object]] = {}  # what must go well after an interrupt


def case(prepare: Callable[[Store, Path], Ready], *, steps: bool = False) -> Any:
    CASES[prepare.__name__] = Case(prepare, steps)
    return prepare


def then(name: str) -> Callable[[Callable[[Store, Path], object]], object]:
    return partial(THEN.__setitem__, name)


in_steps = partial(case, steps=True)


# Calls ----------------------------------------------------------------------------------------------------------------


@case
def set_a_setting(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.settings.__setitem__, "name", 1)


@case
def change_a_setting(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.settings.update, "page_size", lambda size: size + 1, default=0)


@case
def a_transaction_with_others_inside(store: Store, root: Path) -> Ready:
    def call(store: Store) -> None:
        with store.transaction():
            store.settings["one"] = 1
            with store.transaction():
                store.settings["two"] = 2
                with store.database.savepoint():
                    store.settings["three"] = 3
            store.settings["four"] = 4

    return lambda store: partial(call, store)


@case
def peewees_own_blocks(store: Store, root: Path) -> Ready:
    def call(store: Store) -> None:
        with store.database:
            with store.database.transaction(), store.database.atomic():
                store.settings["one"] = 1
            store.database.atomic()(store.settings.__setitem__)("two", 2)

    return lambda store: partial(call, store)


@case
def a_model_row(store: Store, root: Path) -> Ready:
    def call(store: Store) -> None:
        with store.bound():
            Scene.create(id="sc-new", title="New")

    return lambda store: partial(call, store)


@case
def jobs_enqueue(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.jobs.enqueue, "sync", scenes=["sc-1"])


@case
def jobs_claim(store: Store, root: Path) -> Ready:
    store.jobs.enqueue("claimed")
    return lambda store: partial(store.jobs.claim, "claimed", lease=DAY)


@case
def jobs_complete(store: Store, root: Path) -> Ready:
    job = store.jobs.enqueue("done")
    store.jobs.claim("done", lease=DAY)
    return lambda store: partial(store.jobs.complete, store.jobs.get(job.id), result={"n": 1})


@in_steps
def jobs_run_worker(store: Store, root: Path) -> Ready:
    for _ in range(2):
        store.jobs.enqueue("handled")

    def ready(store: Store) -> Callable[[], object]:
        return partial(store.jobs.run_worker, {"handled": lambda job: 1}, until_empty=True, lease=DAY)

    return ready


@then("jobs_run_worker")
def no_job_is_kept(store: Store, root: Path) -> None:
    assert not [thread.name for thread in threading.enumerate() if thread.name == "scanstore-jobs"]
    with store.bound():
        assert {job.status for job in Job.select().where(Job.type == "handled")} <= {"completed", "pending", "running"}


@case
def chunks_claim(store: Store, root: Path) -> Ready:
    scan = analysed(store, root)
    return lambda store: partial(store.chunks.claim, scan, limit=2, lease=DAY)


@case
def chunks_complete(store: Store, root: Path) -> Ready:
    (chunk,) = store.chunks.claim(analysed(store, root), limit=1, lease=DAY)
    draft = {"title": "Flaw", "vulnerability_type": "x", "severity": "low", "line_number": 1}

    def ready(store: Store) -> Callable[[], object]:
        with store.bound():
            return partial(store.chunks.complete, ScanFileChunk.get_by_id(chunk.id), drafts=[draft, draft])

    return ready


@case
def drafts_record_votes(store: Store, root: Path) -> Ready:
    scan = drafted(store, root)
    (draft,) = store.drafts.claim(scan, limit=1, lease=DAY)

    def ready(store: Store) -> Callable[[], object]:
        with store.bound():
            row = type(draft).get_by_id(draft.id)
        return partial(store.drafts.record_votes, row, [{"model": "m", "decision": "verified"}])

    return ready


@case
def findings_publish(store: Store, root: Path) -> Ready:
    scan = drafted(store, root)
    for draft in store.drafts.claim(scan, limit=1, lease=DAY):
        store.drafts.record_votes(draft, [{"model": "m", "decision": "verified"}])
    (verified,) = store.verified.claim(scan, limit=1, lease=DAY)

    def ready(store: Store) -> Callable[[], object]:
        with store.bound():
            return partial(store.findings.publish, type(verified).get_by_id(verified.id))

    return ready


@case
def findings_triage(store: Store, root: Path) -> Ready:
    with store.bound():
        finding = Finding.select().where(Finding.status == "open").first()
    return lambda store: partial(store.findings.triage, finding.id, "ignored", by="ann", reason="no")


@case
def sarif_load(store: Store, root: Path) -> Ready:
    content = json.dumps(report(lines=(2, 4, 8))).encode()
    return lambda store: partial(store.sarif.load, io.BytesIO(content), target="reports")


@case
def library_upsert_scenes(store: Store, root: Path) -> Ready:
    scenes = [{"id": f"n{n}", "title": "New", "tags": [{"id": "t-new", "name": "newer"}]} for n in range(3)]
    return lambda store: partial(store.library.upsert_scenes, scenes)


@in_steps
def library_sync(store: Store, root: Path) -> Ready:
    return lambda store: partial(sync, store)


def sync(store: Store) -> None:
    with store.library.sync("scene") as run:
        store.library.upsert_scenes([{"id": "n1", "title": "New"}], run=run)


@then("library_sync")
def the_next_run_begins(store: Store, root: Path) -> None:
    sync(store)


@case
def plans_propose(store: Store, root: Path) -> Ready:
    plan = store.plans.add("titles").id
    proposals = [{"scene": "sc-1", "field": "title", "action": "set", "proposed": "Another"}]
    return lambda store: partial(store.plans.propose_many, plan, proposals)


@in_steps
def plans_apply(store: Store, root: Path) -> Ready:
    plan = store.plans.add("applied")
    for scene in ("sc-1", "sc-2"):
        store.plans.propose(plan, scene, "title", "set", proposed="Applied")
    store.plans.submit(plan)
    store.plans.review(plan, "approve")
    return lambda store: partial(store.plans.apply, store.plans.find("applied").id)


@then("plans_apply")
def the_rest_is_applied(store: Store, root: Path) -> None:
    plan = store.plans.find("applied")
    assert plan is not None
    if plan.status != "applied":
        store.plans.apply(plan)
    with store.bound():
        assert {row.title for row in Scene.select().where(Scene.id.in_(["sc-1", "sc-2"]))} == {"Applied"}


@case
def schedules_add(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.schedules.add, "each night", "sync", "0 3 * * *")


@case
def accounts_add(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.accounts.add, "new@example.org")


@case
def sessions_complete_task(store: Store, root: Path) -> Ready:
    session = store.sessions.add(someone(store), "second")
    store.sessions.tasks.add(session, "summary")
    (task,) = store.sessions.tasks.claim(session, lease=DAY)
    result = {"result_content": "fine"}
    return lambda store: partial(store.sessions.tasks.complete, store.sessions.tasks.get(task.id), result=result)


@case
def audits_complete(store: Store, root: Path) -> Ready:
    store.audits.add(someone(store), "other.pdf", 10)
    (audit,) = store.audits.claim(lease=DAY)
    found = {"severity": "minor", "rule_id": "R", "message": "m", "evidence": {"ohm": 12}}
    analysis = {"equipment_type": "panel", "test_type": "x"}

    def ready(store: Store) -> Callable[[], object]:
        return partial(store.audits.complete, store.audits.get(audit.id), analysis=analysis, findings=[found])

    return ready


@in_steps
def scans_record(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.scans.record, root / "tree", jobs=1, target="recorded")


@then("scans_record")
def the_next_scan_is_whole(store: Store, root: Path) -> None:
    scan = store.scans.record(root / "tree", jobs=1, target="recorded")
    assert scan.status == "completed" and len(store.symbols.find("f", scan=scan)) == 2


@case
def scans_analyze(store: Store, root: Path) -> Ready:
    scan = store.scans.record(root / "tree", jobs=1, target="analysed").id
    return lambda store: partial(store.scans.analyze, scan)


@in_steps
def a_call_in_a_place(store: Store, root: Path) -> Ready:
    store.llm.add("one at a time", max_concurrent=1)
    return lambda store: partial(ask, store)


def ask(store: Store) -> None:
    with store.llm.slot("one at a time", timeout=0):
        with store.llm.call("one at a time", purpose="analysis") as going:
            going.response = "[]"


@then("a_call_in_a_place")
def the_place_is_free(store: Store, root: Path) -> None:
    ask(store)
    mine = [each for each in store.llm.calls() if each.model == "one at a time"]
    assert mine and [each.id for each in mine if each.status == "running"] == []


@case
def merge(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.merge, root / "other.db")


@then("merge")
def the_next_merge_goes_well(store: Store, root: Path) -> None:
    store.merge(root / "other.db")


@case
def load(store: Store, root: Path) -> Ready:
    store.close()
    Path(store.path).unlink()
    Store(store.path).close()
    return lambda store: partial(store.load, root / "other.jsonl")


@case
def dump(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.dump, root / "copies/dump.jsonl")


@then("dump")
def nothing_half_written_is_left(store: Store, root: Path) -> None:
    assert not [file for file in (root / "copies").iterdir() if "partial" in file.name]


@case
def backup(store: Store, root: Path) -> Ready:
    return lambda store: partial(store.backup, folder=root / "copies")


@then("backup")
def every_copy_is_whole(store: Store, root: Path) -> None:
    for file in (root / "copies").glob("*.backup-*"):
        assert "partial" not in file.name
        backups.verify(file)
        file.unlink()


@in_steps
def prune(store: Store, root: Path) -> Ready:
    for _ in range(2):
        store.scans.record(root / "tree", jobs=1, target="pruned")
    return lambda store: partial(store.prune, keep_last=1, dry_run=False)


@case
def optimize(store: Store, root: Path) -> Ready:
    return lambda store: store.optimize


@case
def vacuum(store: Store, root: Path) -> Ready:
    return lambda store: store.vacuum


@in_steps
def check_and_fix(store: Store, root: Path) -> Ready:
    store.database.execute_sql("UPDATE work_counts SET count = count + 1")
    return lambda store: partial(store.check, fix=True)


@then("check_and_fix")
def the_rest_is_fixed(store: Store, root: Path) -> None:
    store.check(fix=True)


@in_steps
def open_a_second_store(store: Store, root: Path) -> Ready:
    return lambda store: partial(open_second, root)


def open_second(root: Path) -> None:
    with Store(root / "second.db") as second:
        second.settings["one"] = 1


@then("open_a_second_store")
def it_is_there_and_whole(store: Store, root: Path) -> None:
    open_second(root)
    with Store(root / "second.db") as second:
        assert second.check() == []


def analysed(store: Store, root: Path) -> int:
    scan = store.scans.record(root / "tree", jobs=1, target="analysed")
    return int(store.scans.analyze(scan).id)


def drafted(store: Store, root: Path) -> int:
    scan = analysed(store, root)
    (chunk,) = store.chunks.claim(scan, limit=1, lease=DAY)
    draft = {"title": "Flaw", "vulnerability_type": "x", "severity": "low", "line_number": 1}
    store.chunks.complete(chunk, drafts=[draft])
    return scan


def someone(store: Store) -> Any:
    with store.bound():
        return User.select().first()


# The test -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small tree, a full store, another one to be merged, a dump of it, and room for copies."""
    root = tmp_path_factory.mktemp("interrupts")
    for folder in ("tree", "copies"):
        (root / folder).mkdir()
    for n in range(2):
        (root / f"tree/m{n}.py").write_text(f"from m{1 - n} import f\n\n\ndef f(x):\n    return f(x)\n")
    fill(root / "full.db")
    with Store(root / "other.db") as other:
        other.scans.record(root / "tree", jobs=1, target="theirs")
        other.library.upsert_scenes([{"id": "their", "title": "Theirs"}])
        other.jobs.enqueue("theirs")
        other.dump(root / "other.jsonl")
    return root


class Trial:
    """One call, interrupted again and again on stores that are alike."""

    def __init__(self, name: str, root: Path) -> None:
        self.case, self.then, self.root = CASES[name], THEN.get(name), root
        self.changes = self.then is not None or name in FRESH
        self.path, self.base = root / "scan.db", root / "base.db"
        self.clear(self.path)
        shutil.copy(root / "full.db", self.path)
        with Store(self.path) as store:
            self.ready = self.case.prepare(store, root)
        shutil.copy(self.path, self.base)
        self.store = self.fresh()
        self.before = fingerprint(self.path)
        self.ready(self.store)()  # imports what it needs
        self.after = fingerprint(self.path)

    def clear(self, path: Path) -> None:
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)

    def fresh(self) -> Store:
        self.clear(self.path)
        self.clear(self.root / "second.db")
        shutil.copy(self.base, self.path)
        return Store(self.path, timeout=2)

    def again(self) -> None:
        self.store.close()
        self.store = self.fresh()

    def places(self, opcodes: tuple[str, ...] = ()) -> list[Place]:
        self.again()
        return list(places(self.ready(self.store), opcodes))

    def strike(self, place: Place, number: int, opcodes: tuple[str, ...]) -> bool:
        """Interrupt the call at a place; tell whether it came by there."""
        call, tracer, around = self.ready(self.store), Tracer(place, opcodes), outside()
        try:
            tracer.run(call)
        except KeyboardInterrupt:
            usable(self.store, number)  # with the traceback alive
            self.whole(acknowledged=False)
        else:
            self.whole(acknowledged=True)
        assert outside() == around, "something of the process is not as it was"
        if not self.changes:
            usable(self.store, -number)
        return tracer.struck

    def whole(self, acknowledged: bool) -> None:
        now = fingerprint(self.path)
        if not self.case.steps:
            assert now == self.after or (now == self.before and not acknowledged), "half of it is there"
        if self.then is not None:
            self.then(self.store, self.root)
        if self.changes or now != self.before:
            self.check()
            self.again()

    def check(self) -> None:
        problems = self.store.check()
        assert problems == [], problems


@pytest.mark.parametrize("name", CASES)
def test_an_interrupt_at_any_line(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strikes(name, root, (), capsys)


@pytest.mark.parametrize("name", ["a_transaction_with_others_inside", "peewees_own_blocks"])
def test_an_interrupt_at_any_instruction_of_a_transaction(
    name: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strikes(name, root, ("transactions.py", "database.py", "blocks.py"), capsys)


def strikes(name: str, root: Path, opcodes: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial(name, root)
    found = trial.places(opcodes)
    trial.again()
    chosen = found if LONG else chance("interrupts", name, opcodes).sample(found, min(len(found), SHORT))
    struck, violations = 0, []
    for number, place in enumerate(chosen, 1):
        try:
            struck += trial.strike(place, number, opcodes)
            if not trial.changes and (number % OFTEN == 0 or number == len(chosen)):
                trial.check()
        except BaseException as error:
            violations.append(f"{place}: {type(error).__name__}: {error}")
            trial.again()
    trial.store.close()
    lines = len({place[:2] for place in found})
    with capsys.disabled():
        if LONG:
            print(f"\n{name}: {lines} places, {struck} interrupts, {len(violations)} violations")
    assert violations == [], f"SCANSTORE_SEED={SEED} repeats this: {violations[:20]}"
