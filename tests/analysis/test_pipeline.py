"""The promise of the whole: an analysis whose workers are killed at any moment loses nothing that was paid for, does
nothing twice, and never exceeds a model's places.

Real processes, real SIGKILL. What the workers saw, and what the stand-in model was asked, stands in a journal outside
the store. SCANSTORE_KILLS sets how often to kill, SCANSTORE_SEED repeats a run.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import needs
import pytest

from scanstore.analysis.policies import Majority
from scanstore.models import DraftFinding, Finding, ModelCall, ScanFileChunk, VerifiedFinding, Vote
from scanstore.store import Store

fcntl = needs.module("fcntl")

KILLS = int(os.environ.get("SCANSTORE_KILLS", "30"))
SEED = int(os.environ.get("SCANSTORE_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
A_ROUND = 80  #: kills, after which the workers are left in peace to finish
FILES = 90
PLACES = {"analyst": 2, "judge-1": 1, "judge-2": 2, "judge-3": 3, "writer": 2}
JUDGES = ("judge-1", "judge-2", "judge-3")
SCAN = 1

processes: Any = multiprocessing.get_context("fork") if hasattr(os, "fork") else needs.Missing("os.fork")


class Journal:
    """What happened, in order, by all processes. A line that was written survives its writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, *rest: Any) -> None:
        os.write(self.file, (json.dumps([what, *rest]) + "\n").encode())
        os.fsync(self.file)

    def read(self) -> list[list[Any]]:
        return [json.loads(line) for line in (self.folder / "journal").read_text().splitlines()]


class Refused(Exception):
    """The model would not answer."""


@contextlib.contextmanager
def place(folder: Path, model: str) -> Iterator[bool]:
    """Whether there is room at the model, as the model sees it; the system frees the places of the dead."""
    for number in range(PLACES[model]):
        file = os.open(folder / f"{model}.{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        try:
            yield True
        finally:
            os.close(file)
        return
    yield False


def defects(number: int) -> list[dict[str, Any]]:
    """What is to be found in a file; the same every time."""
    kinds = ("sqli", "xss", "ssrf")[: number % 3]
    return [
        {
            "title": f"{kind} in file {number}",
            "vulnerability_type": kind,
            "severity": ("high", "low")[number % 2],
            "line_number": 1,
        }
        for kind in kinds
    ]


def verdict(path: str) -> str:
    return "rejected" if int(path[1:4]) % 4 == 1 else "verified"


class Worker:
    """Does whatever there is to do, as a script would."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.journal = Journal(folder)
        self.store = Store(folder / "scan.db", durability="normal", timeout=60)
        self.ways = {name: self.store.llm.analyzer(name, prompt=f"as {name}") for name in PLACES}

    def model(self, name: str, key: str, says: str) -> tuple[str, dict[str, Any]]:
        with place(self.folder, name) as free:
            self.journal.write("asked" if free else "crowded", name, key)
            time.sleep(self.random.uniform(0, 0.004))
            if self.random.random() < 0.03:
                raise Refused(name)
        return says, {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.5}

    def ask(self, name: str, subject: Any, key: str, says: str) -> str:
        answer = self.store.llm.ask(self.ways[name], subject, lambda: self.model(name, key, says))
        assert answer == says
        self.journal.write("answered", name, key)
        return answer

    def scan(self, chunk: ScanFileChunk) -> None:
        text = self.store.chunks.text(chunk)
        says = json.dumps(defects(int(text.split()[2])))
        drafts = json.loads(self.ask("analyst", chunk, chunk.file_path, says))
        self.store.chunks.complete(chunk, drafts=drafts, analyzer=self.ways["analyst"])
        ids = [draft.id for draft in self.store.drafts.list(chunk.scan_id, chunk=chunk)]
        self.journal.write("completed", chunk.id, ids)

    def verify(self, draft: DraftFinding) -> None:
        key, says = f"{draft.file_path} {draft.title}", verdict(draft.file_path)
        for number, name in enumerate(JUDGES):
            vote = {"model": name, "decision": self.ask(name, draft, key, says), "confidence": 90}
            judged = self.store.drafts.record_votes(draft, [vote], policy=Majority(3))
            self.journal.write("voted", draft.id, name, judged.outcome, judged.verified_id)
            if judged.outcome != "undecided":
                assert number == 1 and judged.outcome == says
                return

    def enrich(self, verified: VerifiedFinding) -> None:
        details = self.ask("writer", verified, verified.title, f"about {verified.title}")
        finding = self.store.findings.publish(verified, vulnerability_details=details, cvss_score=5.0)
        self.journal.write("published", verified.id, finding.id)

    def run(self) -> None:
        work = ((self.store.chunks, self.scan), (self.store.drafts, self.verify), (self.store.verified, self.enrich))
        while True:
            idle = True
            for stage, do in self.random.sample(work, 3):
                for row in stage.claim(SCAN, limit=self.random.choice((1, 1, 3))):
                    idle = False
                    self.journal.write("claimed", stage.queue.kind, row.id, row.attempt)
                    try:
                        do(row)  # type: ignore[operator]
                    except Refused as error:
                        stage.fail(row, error)
            if idle:
                if self.store.scans.get(SCAN).status == "completed":
                    return
                time.sleep(0.005)


def work(folder: Path, seed: int) -> None:
    journal = Journal(folder)
    try:
        Worker(folder, seed).run()
        journal.write("went home")
    except BaseException as error:
        import traceback

        journal.write("broke", repr(error), traceback.format_exc())
        raise


def begin(folder: Path) -> None:
    (folder / "tree").mkdir(parents=True)
    for n in range(FILES):
        (folder / f"tree/f{n:03}.py").write_text(f"x = {n}\n")
    with Store(folder / "scan.db", durability="normal") as store:
        assert store.scans.record(folder / "tree", jobs=1).id == SCAN
        for name, places in PLACES.items():
            store.llm.add(name, max_concurrent=places)
        store.scans.analyze(SCAN, max_retries=40, retry_delay=0.01, pause_after=None)


def hunt(folder: Path, chance: random.Random, most: int) -> int:
    """Kill workers and hire others, until there were enough kills or all work is done; return how many."""
    kills = 0
    hired: list[Any] = []
    try:
        while kills < most:
            while len(hired) < 4:
                worker = processes.Process(target=work, args=(folder, chance.randrange(2**32)))
                worker.start()
                hired.append(worker)
            time.sleep(chance.uniform(0, 0.04))
            victim = hired.pop(chance.randrange(4))
            victim.kill()
            victim.join()
            kills += victim.exitcode == -9
            if victim.exitcode == 0:
                break
    finally:
        for worker in hired:
            worker.kill()
            worker.join()
            kills += worker.exitcode == -9
    return kills


def finish(folder: Path, chance: random.Random) -> None:
    hired = [processes.Process(target=work, args=(folder, chance.randrange(2**32))) for _ in range(3)]
    for worker in hired:
        worker.start()
    for worker in hired:
        worker.join(60)
        stuck = worker.is_alive()
        if stuck:
            worker.kill()
        assert not stuck and worker.exitcode == 0, [line for line in Journal(folder).read() if line[0] == "broke"]


def judge(folder: Path) -> Counter[str]:
    """Everything that must be so in the end, by the journal and by the rows."""
    lines = Journal(folder).read()
    count = Counter(str(line[0]) for line in lines)
    assert [line for line in lines if line[0] == "broke"] == []
    assert [line for line in lines if line[0] == "crowded"] == [], "a model had more calls than it has places"
    known = set()
    for what, *rest in lines:
        if what == "answered":
            known.add(tuple(rest))
        assert what != "asked" or tuple(rest) not in known, f"{rest} was answered before"
    holders: dict[tuple[str, int], int] = {}
    for what, *rest in lines:
        if what == "claimed":
            kind, key, attempt = rest
            assert attempt not in (holders.get((kind, key)),), "two have claimed the same attempt"
            holders[kind, key] = attempt

    with Store(folder / "scan.db") as store:
        assert store.check() == []
        store.recover()
        scan, progress = store.scans.get(SCAN), store.scans.progress(SCAN)
        assert (scan.status, scan.phase, scan.error) == ("completed", "completed", None) and scan.analyzed_at
        chunks = {row.id: row for row in store.chunks.list(SCAN)}
        assert len(chunks) == FILES and {row.status for row in chunks.values()} <= {"done", "failed"}
        drafts = {row.id: row for row in DraftFinding.select()}
        verified = {row.id: row for row in VerifiedFinding.select()}
        findings = {row.id: row for row in Finding.select()}

        # Nothing that was acknowledged is missing.
        for what, *rest in lines:
            if what == "completed":
                assert chunks[rest[0]].status == "done"
                assert sorted(drafts[key].title for key in rest[1]) == sorted(
                    draft["title"] for draft in defects(int(chunks[rest[0]].file_path[1:4]))
                )
            elif what == "voted":
                draft, name, outcome, key = rest
                assert outcome == "undecided" or drafts[draft].status == outcome
                assert key is None or verified[key].draft_id == draft
                assert Vote.select().where(Vote.draft == draft, Vote.model_config == store.llm.get(name)).count() == 1
            elif what == "published":
                assert findings[rest[1]].verified_id == rest[0] and verified[rest[0]].status == "complete"
        for name, key in sorted(known):
            assert any(line[0] == "asked" and line[1:] == [name, key] for line in lines), (
                "an answer that nobody was asked for"
            )

        # Nothing is there twice, and nothing is there that was not found.
        wanted = sorted(
            (row.file_path, draft["title"])
            for row in chunks.values()
            if row.status == "done"
            for draft in defects(int(row.file_path[1:4]))
        )
        assert sorted((row.file_path, row.title) for row in drafts.values()) == wanted
        assert {row.status for row in drafts.values()} <= {"verified", "rejected", "failed"}
        assert all(row.source_models == ["analyst"] and row.vote_count == 1 for row in drafts.values())
        votes = Counter((vote.draft_id, vote.model_config_id, vote.round) for vote in Vote.select())
        assert set(votes.values()) <= {1}
        assert all(row.round == 1 for row in drafts.values())
        for row in drafts.values():
            assert row.status == "failed" or row.status == verdict(row.file_path)
        upheld = sorted(key for key, row in drafts.items() if row.status == "verified")
        assert sorted(row.draft_id for row in verified.values()) == upheld
        published = sorted(key for key, row in verified.items() if row.status == "complete")
        assert sorted(row.verified_id for row in findings.values()) == published
        assert all(row.vulnerability_details == f"about {row.title}" for row in findings.values())

        # Every call has its row, none is left open, and no place is taken.
        calls = Counter(call.status for call in ModelCall.select(ModelCall.status))
        assert calls["running"] == 0 and sum(calls.values()) >= count["asked"]
        assert calls["answered"] >= len(known)
        assert progress.calls == sum(calls.values()) and progress.cost == 0.5 * calls["answered"]
        assert store.database.execute_sql("SELECT count(*) FROM model_slots").fetchone() == (0,)
        assert store.check() == []
    count["done"] = sum(row.status == "done" for row in chunks.values())
    return count


@pytest.mark.no_cover
def test_workers_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    print(f"SCANSTORE_SEED={SEED}")
    chance = random.Random(SEED)
    kills = rounds = done = 0
    while kills < KILLS:
        folder = tmp_path / f"round-{rounds}"
        begin(folder)
        kills += hunt(folder, chance, min(A_ROUND, KILLS - kills))
        with contextlib.closing(sqlite3.connect(folder / "scan.db")) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with Store(folder / "scan.db") as store:
            assert store.check() == []
        finish(folder, chance)
        done += judge(folder)["done"]
        rounds += 1
    # Killed so often that chunks failed is well; that all of them did would be no test.
    assert done > FILES * rounds * 0.8


@pytest.mark.parametrize("what", ["slot", "call"])
def test_opening_a_store_frees_what_the_dead_have_left_behind(store: Store, what: str) -> None:
    """Also when they had no work in their hands."""
    store.llm.add("m", max_concurrent=1)

    def hold() -> None:
        with Store(store.path) as own, own.llm.slot("m") if what == "slot" else own.llm.call("m", purpose="chat"):
            os.write(said, b"!")
            time.sleep(60)

    heard, said = os.pipe()
    worker = processes.Process(target=hold)
    worker.start()
    os.read(heard, 1)
    worker.kill()
    worker.join()
    with Store(store.path):
        table, where = ("model_slots", "1") if what == "slot" else ("model_calls", "status = 'running'")
        assert store.database.execute_sql(f"SELECT count(*) FROM {table} WHERE {where}").fetchone() == (0,)


def test_two_who_want_the_same_answer_pay_for_it_once(store: Store, tmp_path: Path) -> None:
    """The second has seen no answer when it begins to ask; it waits for that of the first."""
    (tmp_path / "tree").mkdir()
    for name in "ab":
        (tmp_path / f"tree/{name}.py").write_text("x = 1\n")
    store.llm.add("m", max_concurrent=1)
    store.scans.analyze(store.scans.record(tmp_path / "tree", jobs=1))
    way, journal = store.llm.analyzer("m"), Journal(tmp_path)

    def ask(name: str) -> None:
        with Store(store.path) as own:
            (chunk,) = own.chunks.list(SCAN, file=name)

            def answer() -> str:
                journal.write("asked", name)
                deadline = time.monotonic() + 20  # until the other one has come too
                while sum(line[0] == "begun" for line in journal.read()) < 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.002)
                return "paid"

            assert own.llm.answer(way, chunk) is None
            journal.write("begun", name)
            journal.write(own.llm.ask(way, chunk, answer))

    workers = [processes.Process(target=ask, args=(f"{name}.py",)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(line[0] for line in journal.read()) == ["asked", "begun", "begun", "paid", "paid"]
    assert ModelCall.select().count() == 1
    assert store.check() == []
