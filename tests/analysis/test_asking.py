"""One worker asks a question of a model, and the others wait for its answer: threads, processes, kill -9, asyncio."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore import AsyncStore
from scanstore.analysis import asking
from scanstore.db import clocks
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NoSlot
from scanstore.models import ModelCall, ScanFileChunk
from scanstore.store import Store

SCAN = 1
DEADLINE = 30.0


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
    return found


@pytest.fixture
def chunks(store: Store, tmp_path: Path) -> list[ScanFileChunk]:
    """Four chunks with one text, of a scan that is analysed; the model takes as many calls at once."""
    (tmp_path / "tree").mkdir()
    for name in "abcd":
        (tmp_path / "tree" / f"{name}.py").write_text("x = 1\n")
    store.llm.add("m", max_concurrent=4)
    store.scans.analyze(store.scans.record(tmp_path / "tree", jobs=1))
    return store.chunks.list(SCAN)


def claims(store: Store) -> int:
    return int(store.database.execute_sql("SELECT count(*) FROM answer_claims").fetchone()[0])


def slots(store: Store) -> int:
    return int(store.database.execute_sql("SELECT count(*) FROM model_slots").fetchone()[0])


class Waiting:
    """How many calls wait for another one's answer: each looks how long it may, again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: set[int] = set()
        real = asking.Patience.left

        def left(patience: asking.Patience, process: str) -> float:
            self.seen.add(id(patience))
            return real(patience, process)

        monkeypatch.setattr(asking.Patience, "left", left)


def test_threads_that_ask_the_same_pay_once(
    store: Store, chunks: list[ScanFileChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, waiting, asked = store.llm.analyzer("m"), Waiting(monkeypatch), []

    def function() -> tuple[str, dict[str, Any]]:
        asked.append(1)
        until(lambda: len(waiting.seen) == 3)
        assert (claims(store), slots(store)) == (1, 1)  # who waits holds no slot
        return "paid", {"cost": 1.0}

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda chunk: store.llm.ask(way, chunk.id, function), chunks))
    assert found == ["paid"] * 4 and len(asked) == 1
    (usage,) = store.llm.usage(SCAN)
    assert (usage.calls, usage.cost) == (1, 1.0)
    assert (claims(store), slots(store)) == (0, 0) and store.check() == []


def test_other_questions_do_not_wait(store: Store, chunks: list[ScanFileChunk]) -> None:
    one, two = store.llm.analyzer("m"), store.llm.analyzer("m", prompt="another")
    assert store.llm.ask(one, chunks[0], lambda: store.llm.ask(two, chunks[0], lambda: "inner") + " outer") == (
        "inner outer"
    )


def test_when_the_asker_fails_the_next_one_asks(
    store: Store, chunks: list[ScanFileChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, waiting, lock, asked = store.llm.analyzer("m"), Waiting(monkeypatch), threading.Lock(), []

    def function() -> str:
        with lock:
            asked.append(1)
            number = len(asked)
        until(lambda: len(waiting.seen) >= 3 or number > 1)
        if number < 3:
            raise RuntimeError(f"refused {number}")
        return "third"

    def ask(chunk: ScanFileChunk) -> str:
        try:
            return store.llm.ask(way, chunk, function)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(ask, chunks))
    assert found == ["refused 1", "refused 2", "third", "third"]
    assert sorted(call.status for call in store.llm.calls(SCAN)) == ["answered", "failed", "failed"]
    assert claims(store) == 0 and store.check() == []


# Processes ------------------------------------------------------------------------------------------------------------

ASK = """
import sys, time
from scanstore.store import Store
store = Store(sys.argv[1], durability="normal")
way, chunk = store.llm.analyzer("m"), int(sys.argv[2])

def function():
    with open(sys.argv[3], "a") as file:
        file.write("asked\\n")
    {body}
    return "paid"

print("ready", flush=True)
print(store.llm.ask(way, chunk, function{options}), flush=True)
"""


def start(store: Store, chunk: ScanFileChunk, log: Path, body: str = "", options: str = "") -> subprocess.Popen[str]:
    code = ASK.format(body=body or "time.sleep(0.2)", options=options)
    process = Program(code, store.path, chunk.id, log, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def said(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    return out.strip()


def times_asked(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_processes_that_ask_the_same_pay_once(store: Store, chunks: list[ScanFileChunk], tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    body = f"import os\n    while not os.path.exists({str(go)!r}): time.sleep(0.002)"
    workers = [start(store, chunk, log, body) for chunk in chunks]
    until(lambda: times_asked(log) == 1)
    go.touch()
    assert [said(worker) for worker in workers] == ["paid"] * 4
    assert times_asked(log) == 1 and ModelCall.select().count() == 1
    assert claims(store) == 0 and store.check() == []


def test_when_the_asker_is_killed_another_one_takes_over(
    store: Store, chunks: list[ScanFileChunk], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    asker = start(store, chunks[0], log, "time.sleep(60)")
    until(lambda: times_asked(log) == 1)
    others = [start(store, chunk, log) for chunk in chunks[1:]]
    asker.send_signal(signal.SIGKILL)
    asker.communicate()
    assert [said(worker) for worker in others] == ["paid"] * 3
    assert times_asked(log) == 2  # the killed one, and one of the three
    assert claims(store) == 0
    store.recover()
    assert sorted(call.status for call in store.llm.calls(SCAN)) == ["abandoned", "answered"]
    assert store.check() == []


def test_the_claim_of_a_killed_asker_is_swept(store: Store, chunks: list[ScanFileChunk], tmp_path: Path) -> None:
    asker = start(store, chunks[0], tmp_path / "log", "time.sleep(60)")
    until(lambda: times_asked(tmp_path / "log") == 1)
    store.recover()
    assert claims(store) == 1  # it lives
    asker.kill()
    asker.communicate()
    Store(store.path).close()  # opening does it too
    assert claims(store) == 0


# The ends of waiting --------------------------------------------------------------------------------------------------


class Elsewhere:
    """Somebody else who asks the question: a claim that no thread of this test gives back."""

    def __init__(self, store: Store, way: Any, chunk: ScanFileChunk, *, process: str, lease: float = 600.0) -> None:
        question = asking.Question(store.database, way, asking.content_key(store.database, chunk), lease)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asking, "me", lambda: process)
            assert question.claimed_or_answered(None) is None  # type: ignore[arg-type]


def test_a_claim_of_another_machine_ends_with_its_lease(store: Store, chunks: list[ScanFileChunk]) -> None:
    way = store.llm.analyzer("m")
    Elsewhere(store, way, chunks[0], process="elsewhere:7@1", lease=0.3)
    assert store.llm.ask(way, chunks[0], lambda: "taken over") == "taken over"
    assert claims(store) == 0


def test_a_hung_asker_loses_its_claim_and_a_sleeping_one_keeps_it(
    store: Store, chunks: list[ScanFileChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    way = store.llm.analyzer("m")
    Elsewhere(store, way, chunks[0], process=asking.me(), lease=600)
    now, running = asking.utcnow(), clocks.monotonic()
    monkeypatch.setattr(asking, "utcnow", lambda: now + 8 * asking.timedelta(hours=1))
    with pytest.raises(NoSlot, match="is asking the same question"):
        store.llm.ask(way, chunks[1], lambda: "twice", timeout=0)
    monkeypatch.setattr(clocks, "monotonic", lambda: running + 8 * 3600)
    assert store.llm.ask(way, chunks[1], lambda: "taken over", timeout=0) == "taken over"


def test_who_waits_stops_when_the_time_or_its_lease_is_over(store: Store, chunks: list[ScanFileChunk]) -> None:
    way, calls = store.llm.analyzer("m"), []
    Elsewhere(store, way, chunks[0], process="elsewhere:7@1")

    def function() -> str:
        calls.append(1)
        return "paid twice"

    for timeout in (0, 0.05):
        with pytest.raises(NoSlot, match=r"elsewhere:7@1 is asking the same question.*timeout="):
            store.llm.ask(way, chunks[1], function, timeout=timeout)
    stop = threading.Event()
    stop.set()
    with pytest.raises(NoSlot, match="stopped waiting"):
        store.llm.ask(way, chunks[1], function, stop=stop)
    (mine,) = store.chunks.claim(SCAN, lease=0.4)
    for subject in (mine, mine.id):
        with pytest.raises(LeaseLost, match=rf"the lease of chunk {mine.id} ends while elsewhere:7@1 is still asking"):
            store.llm.ask(way, subject, function)
        assert store.chunks.heartbeat(mine, lease=0.4)  # it still has the chunk
    store.chunks.release(mine.id)  # the row that was claimed does not know of it
    other = store.chunks.claim(SCAN, worker="bob")
    assert [row.id for row in other] == [mine.id]
    with pytest.raises(LeaseLost, match="leased to bob"):
        store.llm.ask(way, mine, function)
    with pytest.raises(InvalidArgument, match="timeout is"):
        store.llm.ask(way, chunks[1], function, timeout=-1)
    with pytest.raises(InvalidArgument, match="lease is"):
        store.llm.ask(way, chunks[1], function, lease=0)
    with store.transaction(), pytest.raises(IllegalMove, match="a transaction is open"):
        store.llm.ask(way, chunks[1], function)
    assert calls == [] and slots(store) == 0 and claims(store) == 1


def test_an_asker_that_was_taken_over_while_it_waited_for_a_slot_waits_for_the_answer(
    store: Store, chunks: list[ScanFileChunk]
) -> None:
    store.llm.update("m", max_concurrent=1)
    way = store.llm.analyzer("m")
    with ThreadPoolExecutor(1) as pool:
        with store.llm.slot("m"):
            asker = pool.submit(lambda: store.llm.ask(way, chunks[0], lambda: "paid twice", lease=0.2))
            until(lambda: slots(store) == 2)
            time.sleep(0.2)  # its lease, while it queues
            store.database.execute_sql("DELETE FROM answer_claims")
            Elsewhere(store, way, chunks[0], process="elsewhere:7@1")
        until(lambda: slots(store) == 0)
        asking_now = store.llm.call("m", purpose="analysis", chunk=chunks[0], analyzer=way)
        with asking_now as call:
            call.response = "theirs"
        assert asker.result(DEADLINE) == "theirs"
    assert store.check() == []


def test_an_interrupt_leaves_no_claim(store: Store, chunks: list[ScanFileChunk]) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.llm.ask(store.llm.analyzer("m"), chunks[0], interrupted)
    assert (claims(store), slots(store)) == (0, 0)


# asyncio --------------------------------------------------------------------------------------------------------------


def test_tasks_that_ask_the_same_pay_once_and_may_be_cancelled(
    store: Store, chunks: list[ScanFileChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, waiting = [], Waiting(monkeypatch)
    key = store.llm.analyzer("m").id

    async def main() -> list[str]:
        async with AsyncStore(store.path) as own:
            go = asyncio.Event()

            async def function() -> str:
                asked.append(1)
                await go.wait()
                return "paid"

            tasks = [asyncio.ensure_future(_ask(own, key, chunk.id, function)) for chunk in chunks]
            while len(waiting.seen) < 3:
                await asyncio.sleep(0.005)
            cancelled = next(task for task in tasks[1:] if not task.done())
            cancelled.cancel()
            with pytest.raises((asyncio.CancelledError, NoSlot)):
                await cancelled
            go.set()
            return [await task for task in tasks if task is not cancelled]

    found = asyncio.run(asyncio.wait_for(main(), DEADLINE))
    assert found[0] == "paid" and len(found) == 3
    assert claims(store) == 0


async def _ask(own: AsyncStore, way: int, chunk: int, function: Callable[[], Any]) -> str:
    return str(await own.llm.ask(way, chunk, function))
