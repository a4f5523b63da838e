"""The stages of a scan side by side: a stage is finished only when those before it are, and a loop waits for them."""

from __future__ import annotations

import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore.analysis import stage as stages
from scanstore.errors import IllegalMove
from scanstore.leases.engine import CHUNKS, DRAFTS, State
from scanstore.store import Store

SCAN = 1
DEADLINE = 60.0
DRAFT = {"title": "t", "vulnerability_type": "sqli", "severity": "high", "line_number": 1}


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
    return found


@pytest.fixture
def three(store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store with three chunks to be reviewed."""
    (tmp_path / "tree").mkdir()
    for n in range(3):
        (tmp_path / "tree" / f"f{n}.py").write_text(f"x = {n}\n")
    store.llm.add("m")
    store.scans.analyze(store.scans.record(tmp_path / "tree", jobs=1), pause_after=None)
    yield store
    assert store.check() == []


def votes(store: Store, draft: Any) -> None:
    store.drafts.record_votes(draft, [{"model": "m", "decision": "verified"}])


def test_a_stage_is_finished_only_when_those_before_it_are(three: Store) -> None:
    work = (three.chunks, three.drafts, three.verified)

    def finished() -> list[bool]:
        return [stage.state(SCAN).finished for stage in work]

    assert finished() == [False] * 3
    assert [stage.state(SCAN).before for stage in work] == [0, 3, 3]
    for n, chunk in enumerate(three.chunks.claim(SCAN, limit=3)):
        assert finished() == [False] * 3
        if n == 2:
            three.chunks.fail(chunk, "broken", retry=False)  # that is over too
        else:
            three.chunks.complete(chunk, drafts=[DRAFT] if n == 0 else ())
    assert finished() == [True, False, False] and three.verified.state(SCAN).before == 1
    (draft,) = three.drafts.claim(SCAN)
    assert finished() == [True, False, False]
    votes(three, draft)
    assert finished() == [True, True, False]
    three.findings.publish(three.verified.claim(SCAN)[0])
    assert finished() == [True] * 3
    assert len(three.chunks.retry(*three.chunks.list(SCAN, status="failed"))) == 1
    assert finished() == [False] * 3


def test_rows_without_an_analysis_wait_for_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    scan = store.scans.record(tmp_path / "a.py", jobs=1)
    assert store.drafts.state(scan).finished and list(store.drafts.work(scan)) == []
    store.drafts.add(scan, [{**DRAFT, "file_path": "a.py"}])
    assert not store.verified.state(scan).finished
    for draft in store.drafts.work(scan):
        store.drafts.skip(draft, "no") if draft.status == "pending" else store.drafts.fail(draft, "no", retry=False)
    assert store.verified.state(scan).finished


def test_without_waiting_a_loop_takes_what_is_there(three: Store) -> None:
    assert list(three.drafts.work(SCAN, wait=False)) == []
    assert list(three.verified.work(SCAN, wait=False)) == []
    (chunk,) = three.chunks.claim(SCAN)
    three.chunks.complete(chunk, drafts=[DRAFT])
    seen = []
    for draft in three.drafts.work(SCAN, wait=False):
        seen.append(draft.title)
        votes(three, draft)
    assert seen == ["t"]


@pytest.mark.parametrize("meanwhile", ["leased", "delayed"])
def test_a_loop_waits_for_the_stage_before_it(three: Store, meanwhile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "PATIENCE", 0.0)
    first, *others = three.chunks.claim(SCAN, limit=3, lease=600)
    for chunk in others:
        three.chunks.complete(chunk)
    if meanwhile == "delayed":
        three.scans.analyze(SCAN, retry_delay=600)
        assert three.chunks.fail(first, "later").status == "pending"
    looked: list[int] = []
    real = stages.Standstill.look

    def look(self: stages.Standstill, scan_id: int, states: Any) -> None:
        looked.append(scan_id)
        real(self, scan_id, states)

    monkeypatch.setattr(stages.Standstill, "look", look)
    seen: list[str] = []

    def verify() -> None:
        with Store(three.path) as own:
            for draft in own.drafts.work(SCAN):
                seen.append(draft.title)
                votes(own, draft)

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(verify)
        until(lambda: len(looked) >= 3 or worker.done())
        assert not worker.done() and seen == []
        if meanwhile == "delayed":
            three.database.execute_sql("UPDATE chunk_work SET next_retry_at = NULL WHERE status = 'pending'")
            (first,) = three.chunks.claim(SCAN)
        three.chunks.complete(first, drafts=[DRAFT])
        worker.result(DEADLINE)
    assert seen == ["t"]


def test_a_stage_that_nobody_works_on_is_named(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "PATIENCE", 0.1)
    with pytest.raises(
        IllegalMove, match=r"scan 1 has 3 ready chunks, and no worker .*store.chunks.work\(1\).*wait=False"
    ):
        next(iter(three.drafts.work(SCAN)))
    (chunk,) = three.chunks.claim(SCAN)
    three.chunks.complete(chunk, drafts=[DRAFT])
    with pytest.raises(IllegalMove, match=r"2 ready chunks and 1 ready draft.*chunks.work\(1\) and store.drafts.work"):
        next(iter(three.verified.work(SCAN)))
    for chunk in three.chunks.work(SCAN):
        three.chunks.complete(chunk)
    with pytest.raises(IllegalMove, match="1 ready draft, and no worker"):
        next(iter(three.verified.work(SCAN)))
    for draft in three.drafts.work(SCAN):
        votes(three, draft)
    assert len([three.findings.publish(row) for row in three.verified.work(SCAN)]) == 1
    assert three.scans.get(SCAN).status == "completed"


def test_the_death_of_the_only_worker_is_noticed(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease is not waited for."""
    monkeypatch.setattr(stages, "PATIENCE", 0.1)
    code = """
        import sys, time
        from scanstore import Store
        store = Store(sys.argv[1])
        store.chunks.claim(1, limit=3, lease=3600)
        print("held", flush=True)
        time.sleep(60)
    """
    child = Program(textwrap.dedent(code), three.path, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    child.kill()
    child.communicate()
    with pytest.raises(IllegalMove, match="3 ready chunks"):
        next(iter(three.drafts.work(SCAN)))
    assert three.chunks.state(SCAN).lost == 3


def test_who_claims_and_completes_in_two_steps_is_seen_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two claims a worker holds nothing; what counts is whether anything moves."""
    now = 100.0
    monkeypatch.setattr(stages.time, "monotonic", lambda: now)

    def states(ready: int, leased: int, done: int, delayed: int = 0) -> list[Any]:
        return [(CHUNKS, State(ready, delayed, leased, done, 0, 0, None)), (DRAFTS, State(0, 0, 0, 0, 0, 0, None))]

    watch = stages.Standstill()
    watch.look(1, states(9, 0, 0))
    for done in range(1, 4):
        now += stages.PATIENCE
        watch.look(1, states(9 - done, 0, done))
    now += 1000
    watch.look(1, states(5, 1, 3))
    now += stages.PATIENCE - 0.1
    watch.look(1, states(6, 0, 3))  # given back
    now += stages.PATIENCE
    with pytest.raises(IllegalMove):
        watch.look(1, states(6, 0, 3))
    for _ in range(3):
        watch.look(1, states(0, 0, 3, delayed=2))
        now += 1000


def test_a_loop_that_waits_for_another_stage_can_be_stopped(three: Store) -> None:
    stop = threading.Event()
    three.chunks.claim(SCAN)
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(lambda: list(three.drafts.work(SCAN, stop=stop)))
        stop.set()
        assert worker.result(DEADLINE) == []
        worker = pool.submit(lambda: list(three.drafts.work(SCAN)))
        three.scans.pause(SCAN)
        assert worker.result(DEADLINE) == []


STAGES = {
    "verified": "for row in store.verified.work(1): store.findings.publish(row); print(row.id)",
    "drafts": """
for row in store.drafts.work(1):
    store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
    print(row.id)
""",
    "chunks": """
for row in store.chunks.work(1):
    time.sleep(0.02)
    draft = {"title": row.file_path, "vulnerability_type": "x", "severity": "low", "line_number": 1}
    store.chunks.complete(row, drafts=[draft])
    print(row.id)
""",
}


def test_stages_in_parallel_drain_a_scan_whichever_is_started_first(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for n in range(30):
        (tmp_path / "tree" / f"f{n}.py").write_text(f"x = {n}\n")
    store.llm.add("m")
    store.scans.analyze(store.scans.record(tmp_path / "tree", jobs=1), pause_after=None)
    head = "import sys, time\nfrom scanstore import Store\nfrom scanstore.analysis import stage\nstage.PATIENCE = 60\n"
    head += "store = Store(sys.argv[1], durability='normal')\n"
    children = [
        Program(head + code, store.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in ("verified", "drafts", "chunks") for code in [STAGES[name]]
    ]  # fmt: skip
    for child in children:
        out, err = child.communicate(timeout=DEADLINE)
        assert child.returncode == 0, err
        assert len(out.split()) == 30
    assert store.scans.get(SCAN).status == "completed" and store.check() == []
