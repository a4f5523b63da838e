"""Places of a model: never too many, first come first served, free again as soon as their holder is gone.

The stand-in for a model is a folder of files, as many as it takes calls: a call locks one of them (the kernel unlocks
it when the process dies), and one that finds all locked says so.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import needs
import pytest
from stressing import Program

from scanstore.db.processes import me
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NoSlot, NotFound
from scanstore.llm import slots
from scanstore.store import Store

CALL = """
import os, sys, time
def enter(folder):
    import fcntl
    names = sorted(n for n in os.listdir(folder) if n.startswith("place"))
    for name in names:
        file = open(os.path.join(folder, name))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note(folder, "in", name)
            return file
        except BlockingIOError:
            file.close()
    note(folder, "OVERRUN")
def note(folder, *words):
    log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, (" ".join(words) + "\\n").encode())
    os.close(log)
def work(store, folder, seconds, **options):
    with store.llm.slot("m", **options):
        place = enter(folder)
        time.sleep(seconds)
        if place is not None:
            place.close()
"""
scope: dict[str, Any] = {}
exec(CALL, scope)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    return folder


def places(server: Path, count: int) -> None:
    for number in range(count):
        (server / f"place{number}").touch()


def log(server: Path) -> list[str]:
    return (server / "log").read_text().splitlines() if (server / "log").exists() else []


def start(db: Path, server: Path, body: str) -> subprocess.Popen[str]:
    needs.module("fcntl").flock  # noqa: B018  skips without it
    code = f"""{CALL}
import random
from scanstore.store import Store
folder = {str(server)!r}
with Store({str(db)!r}, timeout=60, durability="normal") as store:
{textwrap.indent(textwrap.dedent(body), "    ")}
"""
    return Program(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def tickets(store: Store) -> int:
    return int(store.database.execute_sql("SELECT count(*) FROM model_slots").fetchone()[0])


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextmanager
def held(db: Path, server: Path, body: str = "", count: int = 1) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that hold a place each until they are killed."""
    body = body or "with store.llm.slot('m'): print('held', flush=True); time.sleep(60)"
    found = [start(db, server, body) for _ in range(count)]
    try:
        for process in found:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield found
    finally:
        for process in found:
            process.kill()
            process.communicate()


def test_processes_are_never_too_many_and_leave_nothing_behind(store: Store, db_path: Path, server: Path) -> None:
    store.llm.add("m")
    places(server, 2)
    body = "for _ in range(12): work(store, folder, random.random() / 100)"
    workers = [start(db_path, server, body) for _ in range(5)]
    for worker in workers:
        _, err = worker.communicate(timeout=60)
        assert worker.returncode == 0, err
    lines = log(server)
    assert len(lines) == 60 and "OVERRUN" not in lines
    assert set(lines) == {"in place0", "in place1"}  # both were used
    assert tickets(store) == 0 and store.check() == []


@pytest.mark.slow
def test_kills_at_any_moment_neither_block_nor_overrun(store: Store, db_path: Path, server: Path) -> None:
    store.llm.add("m", max_concurrent=2)
    places(server, 2)
    body = "while True: work(store, folder, random.random() / 50)"
    chance = random.Random(5)
    workers = [start(db_path, server, body) for _ in range(5)]
    try:
        for _ in range(12):
            time.sleep(chance.random() / 5)
            victim = workers.pop(chance.randrange(len(workers)))
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            workers.append(start(db_path, server, body))
        before = len(log(server))
        until(lambda: len(log(server)) > before + 20)
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.communicate()
    assert "OVERRUN" not in log(server)
    with store.llm.slot("m", timeout=0), store.llm.slot("m", timeout=0):
        assert slots.taken(store.database, store.llm.get("m").id) == (2, 0)
    assert tickets(store) == 0 and store.check() == []


def test_threads_are_never_too_many(store: Store, server: Path) -> None:
    needs.module("fcntl").flock  # noqa: B018  skips without it
    store.llm.add("m", max_concurrent=3)
    places(server, 3)
    threads = [
        threading.Thread(target=lambda: [scope["work"](store, str(server), 0.002) for _ in range(10)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log(server)) == 80 and "OVERRUN" not in log(server) and tickets(store) == 0


def test_first_come_first_served(store: Store, db_path: Path, server: Path) -> None:
    store.llm.add("m", max_concurrent=1)
    waiting = []
    with store.llm.slot("m"):
        for number in range(5):
            waiting.append(start(db_path, server, f"with store.llm.slot('m'): note(folder, 'got', '{number}')"))
            until(lambda number=number: tickets(store) == number + 2)  # type: ignore[misc]
        assert slots.taken(store.database, store.llm.get("m").id) == (1, 5)
        waiting[1].kill()
        waiting[1].communicate()  # whoever waited behind it moves up
    for worker in waiting:
        worker.communicate(timeout=30)
    assert log(server) == ["got 0", "got 2", "got 3", "got 4"]
    assert slots.recover(store.database) in (0, 1) and tickets(store) == 0


def test_a_killed_holder_frees_its_place_at_once(store: Store, db_path: Path, server: Path) -> None:
    store.llm.add("m", max_concurrent=2)
    with held(db_path, server, count=2) as (first, _):
        with pytest.raises(NoSlot), store.llm.slot("m", timeout=0):
            pass
        first.kill()
        first.wait()
        with store.llm.slot("m", timeout=0):
            pass
    assert slots.recover(store.database) == 1 and tickets(store) == 0
    assert slots.recover(store.database) == 0


def test_whoever_waits_notices_a_holder_that_is_killed(store: Store, db_path: Path, server: Path) -> None:
    store.llm.add("m", max_concurrent=1)
    with held(db_path, server) as (holder,):
        threading.Timer(0.3, holder.kill).start()
        began = time.monotonic()
        with store.llm.slot("m", timeout=20):
            assert 0.2 < time.monotonic() - began < 10
    assert tickets(store) == 0


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_a_timeout_says_who_holds_the_places(store: Store, timeout: float) -> None:
    store.llm.add("m")
    with store.llm.slot("m"), store.llm.slot("m"):
        began = time.monotonic()
        with pytest.raises(NoSlot, match="model 'm' has all 2 of its places taken .*raise max_concurrent") as refused:
            store.llm.slot("m", timeout=timeout).__enter__()
        assert timeout <= time.monotonic() - began < timeout + 5 and me() in str(refused.value)
        assert tickets(store) == 2
        with store.llm.slot(store.llm.add("other"), timeout=0):
            pass
    assert tickets(store) == 0


def test_waiting_writes_nothing(store: Store, db_path: Path) -> None:
    store.llm.add("m", max_concurrent=1)
    with store.llm.slot("m"):
        waiter = threading.Thread(target=lambda: store.llm.slot("m").__enter__().__exit__(None, None, None))
        waiter.start()
        until(lambda: tickets(store) == 2)
        before = store.database.execute_sql("PRAGMA data_version").fetchone()
        time.sleep(0.5)
        assert store.database.execute_sql("PRAGMA data_version").fetchone() == before
    waiter.join()
    assert tickets(store) == 0


def test_a_long_wait_gives_signs_of_life(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.llm.add("m", max_concurrent=1)
    monkeypatch.setattr(slots, "SIGN_OF_LIFE", 0.05)
    with store.llm.slot("m"):
        waiter = threading.Thread(target=lambda: store.llm.slot("m").__enter__().__exit__(None, None, None))
        waiter.start()
        until(lambda: tickets(store) == 2)
        query = "SELECT lease_until FROM model_slots ORDER BY id DESC LIMIT 1"
        before = store.database.execute_sql(query).fetchone()
        until(lambda: store.database.execute_sql(query).fetchone() > before)
    waiter.join()


def test_max_concurrent_may_change_while_others_wait(store: Store) -> None:
    store.llm.add("m", max_concurrent=1)
    got = threading.Event()
    leave = threading.Event()

    def wait() -> None:
        with store.llm.slot("m"):
            got.set()
            leave.wait(20)

    with store.llm.slot("m"):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not got.wait(0.3)
        store.llm.update("m", max_concurrent=2)
        assert got.wait(10)
        store.llm.update("m", max_concurrent=1)
        leave.set()
        waiter.join()
        with pytest.raises(NoSlot), store.llm.slot("m", timeout=0):
            pass


def test_a_model_that_is_removed_sends_the_waiting_away(store: Store) -> None:
    store.llm.add("m", max_concurrent=1)
    told: list[BaseException] = []

    def wait() -> None:
        try:
            with store.llm.slot("m", timeout=20):
                pass
        except NotFound as error:
            told.append(error)

    with store.llm.slot("m") as slot:
        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: tickets(store) == 2)
        store.llm.remove("m")
        waiter.join(20)
        assert len(told) == 1 and "'m' was removed" in str(told[0])
        with pytest.raises(LeaseLost):
            slot.heartbeat()


def test_a_place_is_given_back_whatever_happens(store: Store) -> None:
    store.llm.add("m", max_concurrent=1)
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), store.llm.slot("m", timeout=0):
            raise error
    with store.llm.slot("m") as slot:
        store.database.execute_sql("DELETE FROM model_slots")
        with pytest.raises(LeaseLost, match="longer lease"):
            slot.heartbeat()
    assert tickets(store) == 0


@needs.signals
def test_ctrl_c_while_waiting_gives_the_ticket_back(store: Store, db_path: Path, server: Path) -> None:
    store.llm.add("m", max_concurrent=1)
    body = """
    try:
        with store.llm.slot("m"): pass
    except KeyboardInterrupt:
        print(store.database.execute_sql("SELECT count(*) FROM model_slots").fetchone()[0])
    """
    with store.llm.slot("m"):
        waiter = start(db_path, server, body)
        until(lambda: tickets(store) == 2)
        time.sleep(0.1)
        waiter.send_signal(signal.SIGINT)
        assert waiter.communicate(timeout=20)[0] == "1\n"


def test_a_slot_is_refused_inside_a_transaction_and_in_itself(store: Store) -> None:
    store.llm.add("m")
    with store.transaction(), pytest.raises(IllegalMove, match="leave the transaction first"):
        store.llm.slot("m").__enter__()
    with store.llm.slot("m") as slot, pytest.raises(IllegalMove, match="another"):
        slot.__enter__()
    with slot:  # again, one after the other
        assert tickets(store) == 1
    assert tickets(store) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"timeout": -1}, {"timeout": float("nan")}, {"timeout": True}, {"timeout": "3"}, {"lease": 0},
     {"lease": float("inf")}, {"lease": True}, {"lease": None}],
)  # fmt: skip
def test_unfit_times_are_refused(store: Store, wrong: dict[str, Any]) -> None:
    store.llm.add("m")
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        store.llm.slot("m", **wrong)
    with store.llm.slot("m") as slot, pytest.raises(InvalidArgument, match="lease"):
        slot.heartbeat(lease=-1)
    with pytest.raises(NotFound):
        store.llm.slot("nobody")


@pytest.mark.parametrize("days", [-1, 1])
def test_the_clock_decides_nothing_among_processes_of_one_machine(
    store: Store, db_path: Path, server: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    store.llm.add("m", max_concurrent=1)
    with held(db_path, server):
        monkeypatch.setattr(slots, "utcnow", lambda: utcnow() + timedelta(days=days))
        with pytest.raises(NoSlot), store.llm.slot("m", timeout=0.3):
            pass
        assert slots.recover(store.database) == 0 and tickets(store) == 1
        assert slots.taken(store.database, store.llm.get("m").id) == (1, 0)
    with store.llm.slot("m", timeout=0):  # and a dead one is gone whatever the clock says
        pass


def test_another_machine_is_judged_by_its_lease(store: Store) -> None:
    model = store.llm.add("m", max_concurrent=1)
    sql = "INSERT INTO model_slots (model_config_id, process, lease_until) VALUES (?, 'elsewhere:1@1', ?)"
    store.database.execute_sql(sql, (model.id, format_time(utcnow() + timedelta(seconds=0.6))))
    assert slots.taken(store.database, model.id) == (1, 0)
    with pytest.raises(NoSlot, match="elsewhere:1@1"), store.llm.slot("m", timeout=0.1):
        pass
    with store.llm.slot("m", timeout=20):
        assert tickets(store) == 1


def test_heartbeat_extends_the_lease(store: Store) -> None:
    store.llm.add("m")
    with store.llm.slot("m", lease=5) as slot:
        query = "SELECT lease_until FROM model_slots"
        before = store.database.execute_sql(query).fetchone()[0]
        slot.heartbeat()
        after = store.database.execute_sql(query).fetchone()[0]
        assert (
            before
            < format_time(utcnow() + timedelta(seconds=6))
            < format_time(utcnow() + timedelta(seconds=500))
            < after
        )


def test_a_forked_child_takes_places_of_its_own_and_leaves_its_parents(store: Store) -> None:
    store.llm.add("m", max_concurrent=2)
    with store.llm.slot("m") as slot:
        child = os.fork()
        if not child:
            code = 1
            try:
                slot.__exit__(None, None, None)
                with store.llm.slot("m", timeout=5):
                    code = 0 if tickets(store) == 2 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert tickets(store) == 1
    assert tickets(store) == 0


def test_polls_read_an_index(store: Store) -> None:
    plan = " ".join(row[3] for row in store.database.execute_sql("EXPLAIN QUERY PLAN " + slots.HOLDERS, (1, 1)))
    assert "ix_model_slots_model_config_id" in plan and "SCAN" not in plan and "TEMP" not in plan
