"""The store for asyncio: the same calls and results, reads side by side, writes in order, what cancelling leaves."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import needs
import pytest

import scanstore
from scanstore import AsyncStore, Store
from scanstore.aio import running
from scanstore.aio.domains import NOT_HERE
from scanstore.db.domain import LONG, READS
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, LeaseLost, NotFound, StoreClosed
from scanstore.models import Job, Scan, Setting

SHOP = "def price(item):\n    return item.cost\n\n\ndef total(items):\n    return sum(price(i) for i in items)\n"
TICK = 0.005  # seconds between two looks of what waits here


@pytest.fixture
def path(tmp_path: Path, new_file: Path) -> Path:
    shutil.copy(new_file, tmp_path / "scan.db")
    return tmp_path / "scan.db"


@pytest.fixture
def shop(path: Path, tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text(SHOP)
    with Store(path) as store:
        store.scans.record(tmp_path / "src")
    return path


def run(path: Path, main: Callable[[AsyncStore], Awaitable[Any]], **options: Any) -> Any:
    """Run a coroutine function on a store of its own; what it leaves must be sound."""

    async def inside() -> Any:
        async with AsyncStore(path, **options) as store:
            return await asyncio.wait_for(main(store), 60)

    result = asyncio.run(inside())
    with Store(path) as store:
        assert store.check() == []
    return result


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        await asyncio.sleep(TICK)


@asynccontextmanager
async def busy(store: AsyncStore) -> AsyncIterator[threading.Event]:
    """Keep the thread that writes busy until the event is set."""
    entered, go_on = threading.Event(), threading.Event()
    blocker = asyncio.ensure_future(store.run(lambda: (entered.set(), go_on.wait(30))))
    await until(entered.is_set)
    try:
        yield go_on
    finally:
        go_on.set()
        await blocker


# The same store


def test_results_and_errors_are_those_of_the_store(shop: Path) -> None:
    async def main(store: AsyncStore) -> tuple[Any, ...]:
        (found,) = await store.symbols.find("price")
        with pytest.raises(NotFound) as missing:
            await store.symbols.get(10**9)
        with pytest.raises(InvalidArgument) as wrong:
            await store.symbols.find("x", match="sort of")
        callers = [one.qualified_name for one in await store.symbols.callers(found)]
        return found, callers, await store.scans.summary(), str(missing.value), str(wrong.value), await store.stats()

    found, callers, summary, missing, wrong, stats = run(shop, main)
    with Store(shop) as store:
        assert store.symbols.find("price") == [found]
        assert callers == [one.qualified_name for one in store.symbols.callers(found)] == ["shop.total"]
        assert summary == store.scans.summary()
        assert stats._fields == store.stats()._fields
        with pytest.raises(NotFound, match=missing[-20:]):
            store.symbols.get(10**9)
        with pytest.raises(InvalidArgument) as same:
            store.symbols.find("x", match="sort of")
        assert str(same.value) == wrong


def test_it_is_exported_and_takes_the_options_of_a_store(path: Path) -> None:
    assert scanstore.AsyncStore is AsyncStore

    async def main(store: AsyncStore) -> None:
        assert store.path == str(path)
        assert not store.closed
        assert store.recovered is None
        with pytest.raises(scanstore.ReadOnly):
            await store.settings.set("a", 1)

    run(path, main, read_only=True, timeout=1)


def public_methods() -> dict[str, dict[str, Any]]:
    """The methods of a store and of its domains, by domain."""
    found: dict[str, dict[str, Any]] = {"": {}}
    with Store(":memory:") as store:
        for name, member in vars(Store).items():
            if isinstance(member, cached_property):
                kind = type(getattr(store, name))
                special = ("__call__", "__getitem__", "__iter__")
                found[name] = {
                    n: getattr(kind, n)
                    for n in dir(kind)
                    if (not n.startswith("_") or n in special) and inspect.isfunction(getattr(kind, n))
                }
            elif inspect.isfunction(member) and not name.startswith("_"):
                found[""][name] = member
    return found


METHODS = public_methods()


def lane(method: Callable[..., Any]) -> str | None:
    return getattr(method, "lane", None)


def test_marks_survive_binding() -> None:
    assert {lane(method) for methods in METHODS.values() for method in methods.values()} == {READS, LONG, None}
    assert (lane(METHODS["symbols"]["find"]), lane(METHODS["chunks"]["work"])) == (READS, LONG)
    assert not NOT_HERE - set(METHODS[""])


def test_whatever_calls_back_or_waits_takes_a_thread_of_its_own() -> None:
    """A parameter that is a function, or something to stop, tells: one of these would keep all that write waiting."""
    telling = {"stop", "handlers", "handler", "poll"}
    for methods in METHODS.values():
        for name, method in methods.items():
            parameters = set(inspect.signature(method).parameters)
            assert not parameters & telling or lane(method) == LONG, name


def test_every_call_of_the_store_can_be_made(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        for domain, methods in METHODS.items():
            for name in methods:
                if name in NOT_HERE or name.startswith("__"):
                    continue
                assert callable(getattr(getattr(store, domain) if domain else store, name))
        assert set(dir(store)) >= (set(METHODS) | set(METHODS[""])) - NOT_HERE - {""}
        with pytest.raises(AttributeError, match="no attribute 'bound'"):
            store.bound  # noqa: B018
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            store.nothing  # noqa: B018
        with pytest.raises(AttributeError, match="nothing"):
            await store.symbols.nothing()
        with pytest.raises(AttributeError, match="'AsyncChunks' object has no attribute 'queue'"):
            await store.chunks.queue()

    run(path, main)


#: what a call that only reads is called with where that is not nothing at all; "S": the latest scan
GIVEN: dict[str, tuple[Any, ...]] = {
    "llm.answer": (1, "text"), "llm.get": ("none",), "llm.get_call": (1,), "chunks.get": (1,), "chunks.list": ("S",),
    "chunks.state": ("S",), "chunks.text": (1,), "drafts.get": (1,), "drafts.list": ("S",), "drafts.state": ("S",),
    "drafts.votes": (1,), "findings.diff": ("S",), "findings.get": (1,), "findings.history": (1,),
    "findings.sightings": (1,), "findings.suppressed": ([],), "jobs.children": ("J",), "jobs.find": ("J",),
    "jobs.get": ("J",), "library.find": ("scene", "x"),
    "library.get": ("scene", "1"), "library.names": ("tag",), "plans.changes": (1,),
    "plans.find": ("x",), "plans.get": (1,), "plans.preview": (1,), "scans.diff": ("S",), "scans.get": ("S",),
    "scans.find": (1,), "findings.find": (1,), "llm.find": ("none",),
    "schedules.find": ("x",), "schedules.get": ("x",), "settings.__getitem__": ("x",),
    "settings.get": ("x",), "symbols.bases": ("price",), "symbols.callees": ("price",), "symbols.callers": ("price",),
    "symbols.diff": ("S",), "symbols.export": ("dot",), "symbols.find": ("x",), "symbols.get": ("price",),
    "symbols.impact": ("price",), "symbols.importers": ("shop.py",), "symbols.imports": ("shop.py",),
    "symbols.references": ("price",), "symbols.subclasses": ("price",), "verified.get": (1,), "verified.list": ("S",),
    "verified.state": ("S",), "counts": (Job, "status"), "page": (Job,),
    "accounts.get": ("a@b.c",), "accounts.find": ("a@b.c",),
}  # fmt: skip
READING = sorted(
    f"{d}.{n}" if d else n for d, methods in METHODS.items() for n, method in methods.items() if lane(method) == READS
)


@pytest.fixture(scope="module")
def read(new_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store that is only read, and the ids of its scan and its job."""
    folder = tmp_path_factory.mktemp("read")
    (folder / "src").mkdir()
    (folder / "src" / "shop.py").write_text(SHOP)
    shutil.copy(new_file, folder / "scan.db")
    with Store(folder / "scan.db") as store:
        return folder / "scan.db", {"S": store.scans.record(folder / "src").id, "J": store.jobs.enqueue("any").id}


@pytest.mark.parametrize("call", READING)
def test_what_only_reads_waits_for_no_writer(read: tuple[Path, dict[str, Any]], call: str) -> None:
    """Somebody else holds the write lock: whatever would write, or begin to, raises Busy at once."""
    path, known = read
    lock = sqlite3.connect(path, isolation_level=None)
    with Store(path, timeout=0) as store:
        lock.execute("BEGIN IMMEDIATE")
        domain, _, name = call.rpartition(".")
        method = getattr(getattr(store, domain) if domain else store, name)
        arguments = GIVEN.get(call)
        if arguments is None:  # whatever is refused is refused before it could write
            needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
            arguments = tuple("00000000-0000-7000-8000-000000000000" for p in needed if p.kind < p.VAR_POSITIONAL)
        try:
            made = method(*[known.get(a, a) if isinstance(a, str) else a for a in arguments])
            if inspect.isgenerator(made):
                list(made)
        except (NotFound, InvalidArgument):
            assert call not in ("symbols.find", "scans.latest", "stats", "page")
        finally:
            lock.execute("ROLLBACK")
            lock.close()


def test_calls_about_closed_files_need_no_store(path: Path, tmp_path: Path) -> None:
    static = [name for name, member in vars(Store).items() if isinstance(member, staticmethod)]
    for name in static:
        assert inspect.iscoroutinefunction(getattr(AsyncStore, name)) == (not name.startswith("_"))
    if "restore" in static:
        with pytest.raises(NotFound):
            asyncio.run(AsyncStore.restore(tmp_path / "nowhere.db", path))  # type: ignore[attr-defined]


# Streams, blocks, items


def test_what_streams_is_iterated(shop: Path) -> None:
    async def main(store: AsyncStore) -> None:
        edges = [edge async for edge in store.symbols.edges()]
        assert edges and [edge async for edge in store.symbols.edges(reference_type="call")] <= edges
        assert [row.name async for row in store.symbols.list()] == [row.name for row in await store.symbols.list()]
        with pytest.raises(TypeError, match="async for"):
            await store.symbols.edges()
        await store.settings.set("a", 1)
        assert await store.settings["a"] == 1
        assert [key async for key in store.settings] == ["a"]
        with pytest.raises(TypeError):
            "a" in store.settings  # noqa: B015
        with pytest.raises(TypeError):
            list(store.settings)
        assert "shop.price" in str(await store.search("price"))

    run(shop, main)


def test_rows_before_an_error_arrive_and_then_the_error(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.library.upsert_scenes([{"id": str(n)} for n in range(3)])

        def ids() -> Any:
            yield from "012"
            raise LookupError("no more")

        seen = []
        with pytest.raises(LookupError, match="no more"):
            async for record in store.library.records(ids()):
                seen.append(record["id"])
        assert seen in ([], ["0", "1", "2"])  # they are read many at a time

    run(path, main)


def test_a_stream_that_is_left_gives_back_what_it_holds(shop: Path) -> None:
    async def main(store: AsyncStore) -> None:
        scan = await store.scans.latest()
        await store.scans.analyze(scan)
        async for _ in store.chunks.work(scan):
            assert (await store.chunks.state(scan)).leased == 1
            break
        for _ in range(400):
            if (await store.chunks.state(scan)).leased == 0:
                return
            await asyncio.sleep(TICK)
        raise AssertionError("a chunk is still leased")

    run(shop, main)


def test_cancelling_who_waits_for_work_ends_the_waiting(shop: Path) -> None:
    async def main(store: AsyncStore) -> None:
        scan = await store.scans.latest()
        await store.scans.analyze(scan)
        while await store.chunks.claim(scan, worker="somebody else"):
            pass

        async def work() -> None:
            async for _ in store.chunks.work(scan):
                raise AssertionError("nothing is free")

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        await until(lambda: not [t for t in threading.enumerate() if t.name == "scanstore-stream"])

    run(shop, main)


def test_blocks_are_entered_and_hand_on_what_they_gave(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        async with store.library.sync("scene") as sync:
            await store.library.upsert_scenes([{"id": "1"}, {"id": "2"}], run=sync)
            assert await sync.prune_unseen() == []
            assert sync.kind == "scene"
        assert [run.status for run in await store.library.runs()] == ["completed"]
        with pytest.raises(LookupError):
            async with store.library.sync("scene"):
                raise LookupError("the source is gone")
        assert (await store.library.runs())[0].error == "LookupError: the source is gone"
        await store.llm.add("small", max_concurrent=1)
        async with store.llm.call("small", purpose="analysis") as call:
            call.response, call.cost = "fine", 0.5
        assert (await store.llm.get_call(call.id)).cost == 0.5

    run(path, main)


def test_places_of_a_model_are_waited_for_without_blocking_the_loop(path: Path) -> None:
    async def main(store: AsyncStore) -> list[str]:
        await store.llm.add("small", max_concurrent=1)
        order: list[str] = []

        async def one(name: str) -> None:
            async with store.llm.slot("small"):
                order.append(f"+{name}")
                await asyncio.sleep(0.02)
                order.append(f"-{name}")

        await asyncio.gather(*(one(name) for name in "abc"))
        return order

    order = run(path, main)
    assert [each[0] for each in order] == ["+", "-"] * 3
    assert all(order[n][1] == order[n + 1][1] for n in (0, 2, 4))


def test_cancelling_who_waits_for_a_place_leaves_it_to_others(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.llm.add("small", max_concurrent=1)
        inside = asyncio.Event()

        async def wait() -> None:
            async with store.llm.slot("small"):
                inside.set()

        async with store.llm.slot("small"):
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait_for(wait(), 20)
        assert inside.is_set()

    run(path, main)


# Order


def test_reads_run_side_by_side_while_a_write_goes_on(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.settings.set("a", 1)
        async with busy(store):
            assert await asyncio.wait_for(asyncio.gather(*(store.settings.get("a") for _ in range(20))), 10) == [1] * 20
            written = asyncio.ensure_future(store.settings.set("a", 2))
            await asyncio.sleep(0.05)
            assert not written.done()
        await written
        assert await store.settings.get("a") == 2

    run(path, main)


def test_reads_run_in_several_threads_and_no_more_than_said(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.settings.set("a", 1)
        threads = {thread.name for thread in threading.enumerate()}
        await asyncio.gather(*(store.settings.get("a") for _ in range(50)))
        new = {thread.name for thread in threading.enumerate()} - threads
        assert 1 <= len([name for name in new if name.startswith("scanstore-read")]) <= 2

    run(path, main, readers=2)


def test_writes_are_done_in_the_order_in_which_they_were_asked_for(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        done: list[int] = []
        await asyncio.gather(*(store.run(done.append, n) for n in range(100)))
        assert done == list(range(100))
        await store.settings.set("n", 0)
        await asyncio.gather(*(store.settings.update("n", lambda value: value + 1) for _ in range(50)))
        assert await store.settings.get("n") == 50

    run(path, main)


def test_your_own_functions_see_the_store(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.run(Setting.create, key="a", value=3)
        assert await store.run(lambda: [row.value for row in Setting.select()]) == [3]
        with pytest.raises(Conflict):
            await store.run(Setting.create, key="a", value=3)

        async def wrong() -> None: ...

        with pytest.raises(InvalidArgument, match="coroutine function"):
            await store.run(wrong)

    run(path, main)


def test_a_hundred_tasks_of_every_kind(shop: Path) -> None:
    async def main(store: AsyncStore) -> None:
        scan = await store.scans.latest()
        await store.settings.set("n", 0)

        async def one(n: int) -> None:
            if n % 5 == 0:
                await store.settings.update("n", lambda value: value + 1)
            elif n % 5 == 1:
                async with store.transaction():
                    value = await store.settings.get("n")
                    await asyncio.sleep(0)
                    await store.settings.set("n", value + 1)
            elif n % 5 == 2:
                assert len(await store.symbols.find("price")) == 1
            elif n % 5 == 3:
                job = await store.jobs.enqueue("sum", meta={"n": n})
                assert (await store.jobs.get(job)).meta == {"n": n}
            else:
                assert [row async for row in store.symbols.edges(scan)]

        tasks = [asyncio.ensure_future(one(n)) for n in range(100)]
        for n in (12, 37, 62, 87):  # those that look for symbols
            tasks[n].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        assert await store.settings.get("n") == 40
        assert (await store.page(Job)).total == 20

    run(shop, main)


# Transactions


def test_a_transaction_is_all_or_nothing_and_sees_what_it_wrote(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        async with store.transaction():
            await store.settings.set("a", 1)
            assert await store.settings.get("a") == 1
        with pytest.raises(LookupError):
            async with store.transaction():
                await store.settings.set("a", 2)
                raise LookupError
        assert await store.settings.get("a") == 1

    run(path, main)


def test_nobody_else_gets_into_a_transaction(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        began, done = asyncio.Event(), asyncio.Event()

        async def other() -> None:
            await began.wait()
            assert await store.settings.get("a", default=None) is None  # reads what is committed
            writing = asyncio.ensure_future(store.settings.set("b", 1))
            await asyncio.sleep(0.05)
            assert not writing.done()
            done.set()
            await writing

        task = asyncio.ensure_future(other())
        with pytest.raises(LookupError):
            async with store.transaction():
                await store.settings.set("a", 1)
                began.set()
                await done.wait()
                raise LookupError
        await task
        assert (await store.settings.get("a", default=None), await store.settings.get("b")) == (None, 1)

    run(path, main)


def test_tasks_that_a_transaction_starts_are_in_it(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        with pytest.raises(LookupError):
            async with store.transaction():
                await asyncio.gather(*(store.settings.set(f"k{n}", n) for n in range(20)))
                assert len(await store.settings.list()) == 20
                raise LookupError
        assert await store.settings.list() == []

    run(path, main)


def test_nested_transactions_of_tasks_do_not_mix(path: Path) -> None:
    """Each is rolled back by itself, and what another task writes meanwhile is not in it."""

    async def main(store: AsyncStore) -> None:
        async def one(n: int) -> None:
            try:
                async with store.transaction():
                    await store.settings.set(f"k{n}", n)
                    await asyncio.sleep(TICK)
                    if n % 2:
                        raise LookupError
                    await store.settings.set(f"m{n}", n)
            except LookupError:
                pass

        async with store.transaction():
            await asyncio.gather(*(one(n) for n in range(8)), *(store.settings.set(f"s{n}", n) for n in range(8)))
        keys = {row.key for row in await store.settings.list()}
        assert keys == {f"{c}{n}" for c in "km" for n in (0, 2, 4, 6)} | {f"s{n}" for n in range(8)}

    run(path, main)


def test_transactions_of_two_stores_at_once(path: Path, tmp_path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        async with AsyncStore(tmp_path / "other.db") as other, store.transaction(), other.transaction():
            await store.settings.set("a", 1)
            await other.settings.set("a", 2)
            assert await store.settings.get("a") == 1
            async with store.transaction():
                await other.settings.set("b", 2)
            assert await other.settings.get("b") == 2

    run(path, main)


def test_a_task_that_outlives_its_transaction_goes_on_by_itself(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        go = asyncio.Event()

        async def late() -> None:
            await go.wait()
            await store.settings.set("late", 1)
            async with store.transaction():
                await store.settings.set("later", 1)

        async with store.transaction():
            task = asyncio.ensure_future(late())
        go.set()
        await task
        async with store.transaction():
            assert await store.settings.get("later") == 1

    run(path, main)


@pytest.mark.parametrize("when", ["inside", "waiting", "leaving"])
def test_a_cancelled_transaction_is_rolled_back_and_the_lock_is_free(path: Path, when: str) -> None:
    async def main(store: AsyncStore) -> None:
        inside = asyncio.Event()

        async def transaction() -> None:
            async with store.transaction():
                await store.settings.set("half", 1)
                inside.set()
                if when == "inside":
                    await asyncio.sleep(60)

        if when == "waiting":
            async with busy(store):
                task = asyncio.ensure_future(transaction())
                await asyncio.sleep(0.02)
                task.cancel()
                await asyncio.wait([task], timeout=5)
        else:
            task = asyncio.ensure_future(transaction())
            await inside.wait()
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.settings.set("own", 1)
        lock = sqlite3.connect(path, timeout=0, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")  # nobody holds it
        keys = {key for (key,) in lock.execute("SELECT key FROM settings")}
        lock.execute("ROLLBACK")
        lock.close()
        assert keys - ({"half"} if when == "leaving" else set()) == {"own"}  # a commit that had begun is finished

    run(path, main)


# Cancelling


def test_a_cancelled_write_that_had_not_begun_never_runs(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        async with busy(store):
            writes = [asyncio.ensure_future(store.settings.set(f"k{n}", n)) for n in range(5)]
            await asyncio.sleep(0.02)
            for task in writes[1:]:
                task.cancel()
            await asyncio.wait(writes[1:], timeout=5)
        await writes[0]
        assert [row.key for row in await store.settings.list()] == ["k0"]

    run(path, main)


def test_a_cancelled_write_that_had_begun_is_finished_before_the_next(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def records() -> Any:
            for n in range(3000):
                if n == 1500:
                    begun.set()
                    go_on.wait(30)
                yield {"id": str(n)}

        writing = asyncio.ensure_future(store.library.upsert_scenes(records()))
        await until(begun.is_set)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        after = asyncio.ensure_future(store.library.stats())
        go_on.set()
        await after
        await store.settings.set("next", 1)
        assert (await store.library.stats()).scenes == 3000

    run(path, main)


# Coroutine functions, workers


def test_handlers_may_be_coroutine_functions(path: Path) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")

    async def main(store: AsyncStore) -> None:
        loop = asyncio.get_running_loop()
        for n in range(3):
            await store.jobs.enqueue("double", meta={"n": n})
        await store.jobs.enqueue("broken")
        request.set("mine")

        async def double(job: Job) -> dict[str, Any]:
            assert asyncio.get_running_loop() is loop
            await store.jobs.heartbeat(job, message=request.get())
            return {"n": job.meta["n"] * 2}

        async def broken(job: Job) -> None:
            raise LookupError("no source")

        worked = await store.jobs.run_worker({"double": double, "broken": broken}, until_empty=True)
        assert (worked.completed, worked.waiting) == (3, 1)
        jobs = await store.jobs.list(type="double")
        assert sorted([(await store.jobs.get(job)).result["n"] for job in jobs]) == [0, 2, 4]
        assert {job.message for job in jobs} == {"mine"}

    run(path, main)


def test_an_object_that_is_called_may_be_a_coroutine_too(path: Path) -> None:
    class Handler:
        async def __call__(self, job: Job) -> str:
            await asyncio.sleep(0)
            return "done"

    async def main(store: AsyncStore) -> None:
        await store.jobs.enqueue("any")
        assert (await store.jobs.run_worker({"any": Handler()}, until_empty=True)).completed == 1
        (job,) = await store.jobs.list()
        assert (await store.jobs.get(job)).result == "done"

    run(path, main)


def test_a_model_is_asked_by_a_coroutine(shop: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.llm.add("small")
        (chunk,) = await store.chunks.list(await store.scans.latest())
        analyzer = await store.llm.analyzer("small", prompt="Look.")

        async def ask() -> tuple[str, dict[str, Any]]:
            await asyncio.sleep(0)
            return "fine", {"cost": 0.25}

        assert await store.llm.ask(analyzer, chunk, ask) == "fine"
        assert [call.cost for call in await store.llm.calls()] == [0.25]

    run(shop, main)


def test_a_coroutine_function_is_refused_where_it_would_wait_for_itself(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        async def add(value: int) -> int:
            return value + 1

        await store.settings.set("n", 1)
        with pytest.raises(InvalidArgument, match="plain function"):
            await store.settings.update("n", add)
        with pytest.raises(InvalidArgument, match="leave the transaction"):
            async with store.transaction():
                await store.jobs.run_worker({"any": add})
        assert await store.settings.get("n") == 1

    run(path, main)


@pytest.mark.parametrize("handler", ["coroutine", "function"])
def test_cancelling_a_worker_stops_it(path: Path, handler: str) -> None:
    async def main(store: AsyncStore) -> None:
        await store.jobs.enqueue("long")
        await store.jobs.enqueue("long")
        began, go_on = threading.Event(), threading.Event()

        async def coroutine(job: Job) -> None:
            began.set()
            await asyncio.sleep(60)

        def function(job: Job) -> None:
            began.set()
            go_on.wait(30)

        worker = asyncio.ensure_future(
            store.jobs.run_worker({"long": coroutine if handler == "coroutine" else function})
        )
        await until(began.is_set)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        go_on.set()
        await until(lambda: not [t for t in threading.enumerate() if t.name == "scanstore-long"])
        counts = await store.counts(Job, "status")
        assert counts == ({"pending": 2} if handler == "coroutine" else {"completed": 1, "pending": 1})

    run(path, main)


def test_a_worker_that_waits_is_stopped_by_closing(path: Path) -> None:
    async def main() -> None:
        async with AsyncStore(path) as store:
            worker = asyncio.ensure_future(store.jobs.run_worker({"any": print}))
            waiting = asyncio.ensure_future(store.jobs.wait(await store.jobs.enqueue("other")))
            await asyncio.sleep(0.1)
        assert (await asyncio.wait_for(worker, 5)).completed == 0
        assert (await asyncio.wait_for(waiting, 5)).status == "pending"

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("kind", [asyncio.Event, threading.Event])
def test_a_worker_stops_when_its_own_event_says_so(path: Path, kind: Any) -> None:
    async def main(store: AsyncStore) -> None:
        stop = kind()
        await store.jobs.enqueue("any")

        async def handle(job: Job) -> None:
            stop.set()
            await asyncio.sleep(0.05)  # what runs is not cancelled by that

        assert (await store.jobs.run_worker({"any": handle}, stop=stop)).completed == 1

    run(path, main)


# Beginning and end


def test_one_loop_after_the_other(path: Path) -> None:
    store = AsyncStore(path)

    async def first() -> None:
        await store.open()
        await store.open()
        await store.settings.set("a", 1)

    async def second() -> Any:
        async with store.transaction():
            return await store.settings.get("a")

    asyncio.run(first())
    assert asyncio.run(second()) == 1
    asyncio.run(store.close())
    asyncio.run(store.close())
    with pytest.raises(StoreClosed, match="was closed"):
        asyncio.run(second())


def test_loops_in_two_threads_at_once(path: Path) -> None:
    store = AsyncStore(path)
    asyncio.run(store.open())
    asyncio.run(store.settings.set("n", 0)._awaited())

    async def many() -> None:
        for _ in range(25):
            async with store.transaction():
                await store.settings.set("n", await store.settings.get("n") + 1)

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    async def end() -> Any:
        found = await store.settings.get("n")
        await store.close()
        return found

    assert asyncio.run(end()) == 50


def test_a_store_that_is_not_open_or_closed_says_so(path: Path) -> None:
    async def main() -> None:
        store = AsyncStore(path)
        assert "not open" in repr(store)
        with pytest.raises(StoreClosed, match="async with AsyncStore"):
            await store.settings.get("a")
        async with store:
            assert str(path) in repr(store)
        for use in (store.settings.get("a"), store.open(), store.run(print)):
            with pytest.raises(StoreClosed, match="make another one"):
                await use
        assert store.closed

    asyncio.run(main())


def test_opening_raises_what_the_store_raises(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(scanstore.MissingFolder):
            async with AsyncStore(tmp_path / "no" / "scan.db"):
                raise AssertionError
        with pytest.raises(InvalidArgument, match="readers is 0"):
            AsyncStore(readers=0)
        with pytest.raises(TypeError):
            await AsyncStore(tmp_path / "scan.db", nothing=1).open()

    before = set(threading.enumerate())
    asyncio.run(main())
    end = time.monotonic() + 20
    while set(threading.enumerate()) - before and time.monotonic() < end:
        gc.collect()
        time.sleep(TICK)
    assert not set(threading.enumerate()) - before


def test_closing_waits_for_what_was_asked_and_ends_what_comes_later(path: Path) -> None:
    async def main() -> None:
        store = await AsyncStore(path).open()
        writes = [asyncio.ensure_future(store.settings.set(f"k{n}", n)) for n in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*writes)

    asyncio.run(main())
    with Store(path) as store:
        assert len(store.settings) == 20


def test_closing_under_a_transaction_rolls_it_back_and_leaves_nobody_waiting(path: Path) -> None:
    async def main() -> None:
        store = await AsyncStore(path).open()
        inside = asyncio.Event()

        async def transaction() -> None:
            async with store.transaction():
                await store.settings.set("half", 1)
                inside.set()
                await asyncio.sleep(0.2)

        task = asyncio.ensure_future(transaction())
        await inside.wait()
        waiting = asyncio.ensure_future(store.settings.set("b", 1))
        await asyncio.sleep(0.02)
        await store.close()
        results = await asyncio.wait_for(asyncio.gather(task, waiting, return_exceptions=True), 10)
        assert [type(result) for result in results] == [StoreClosed, StoreClosed]

    asyncio.run(main())
    with Store(path) as store:
        assert len(store.settings) == 0
        assert store.check() == []


def test_a_store_that_is_forgotten_is_closed(path: Path) -> None:
    async def main() -> None:
        store = await AsyncStore(path).open()
        await store.settings.set("a", 1)
        inner = store._store
        del store
        gc.collect()
        await until(lambda: inner.closed)

    asyncio.run(main())


def test_a_call_that_nobody_awaits_does_nothing_and_says_so(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store.settings.set("a", 1)
            gc.collect()
        assert [str(each.message) for each in caught] == ["set() was never awaited, so nothing was done"]
        assert await store.settings.list() == []
        call = store.settings.list()
        await call
        with pytest.raises(RuntimeError, match="awaited already"):
            await call

    run(path, main)


@needs.fork
def test_a_forked_child_is_told_that_it_needs_its_own(path: Path) -> None:
    code = """
import asyncio, os, sys, warnings
from scanstore import AsyncStore, StoreClosed

async def use(store):
    await store.settings.set("a", 1)

store = AsyncStore(sys.argv[1])
asyncio.run(store.open())
asyncio.run(use(store))
warnings.simplefilter("ignore", DeprecationWarning)  # this is about a fork with threads
child = os.fork()
if child == 0:
    try:
        asyncio.run(use(store))
    except StoreClosed as error:
        asyncio.run(store.close())
        os._exit(7 if "make another one here" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
asyncio.run(use(store))
asyncio.run(store.close())
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_is_killed_leaves_whole_calls(path: Path) -> None:
    """Each write is one transaction, from whatever thread; what was awaited is there."""
    code = """
import asyncio, sys
from scanstore import AsyncStore

async def main():
    async with AsyncStore(sys.argv[1]) as store:
        for n in range(100000):
            async with store.transaction():
                await asyncio.gather(*(store.settings.set(f"{c}{n}", n) for c in "ab"))
            print(n, flush=True)

asyncio.run(main())
"""
    child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(10)]
    child.kill()
    told += [int(line) for line in child.stdout.read().splitlines()]
    child.wait()
    child.stdout.close()
    with Store(path) as store:
        keys = {row.key for row in store.settings.list()}
        assert {f"{c}{n}" for n in told for c in "ab"} <= keys
        assert len([key for key in keys if key[0] == "a"]) == len([key for key in keys if key[0] == "b"])
        assert store.check() == []


# The loop


@pytest.mark.no_cover
def test_the_loop_goes_on_while_much_is_written(path: Path) -> None:
    """Counted loosely; benchmarks/async_face.py measures."""

    async def main(store: AsyncStore) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        began = time.monotonic()
        await store.library.upsert_scenes([{"id": str(n), "title": f"Scene {n}"} for n in range(50_000)])
        took = time.monotonic() - began
        ticking.cancel()
        assert (await store.library.stats()).scenes == 50_000
        assert ticks > took / 0.1

    run(path, main)


def test_what_a_thread_raises_is_raised_here(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        job = await store.jobs.enqueue("any")
        with pytest.raises(LeaseLost):
            await store.jobs.complete(job, worker="nobody")
        with pytest.raises(IllegalMove):
            await store.jobs.retry(job)
        with pytest.raises(TypeError, match="nothing"):
            await store.jobs.enqueue("any", nothing=1)
        assert os.getpid() == store._process

    run(path, main)


def test_rows_are_plain(shop: Path) -> None:
    async def main(store: AsyncStore) -> None:
        (found,) = await store.symbols.find("price")
        assert found.to_dict()["name"] == "price"
        with pytest.raises(scanstore.NoStore):
            found.scan  # noqa: B018
        assert (await store.run(lambda: found.scan.id)) == found.scan_id
        assert isinstance(await store.scans.get(found.scan_id), Scan)

    run(shop, main)


def test_the_asynchronous_store_takes_the_options_of_the_other() -> None:
    options = inspect.signature(Store.__init__).parameters
    theirs = {name: each.annotation for name, each in options.items() if each.kind == each.KEYWORD_ONLY}
    assert running._Options.__annotations__.keys() == theirs.keys()
    for name, given in running._Options.__annotations__.items():
        assert getattr(given, "__forward_arg__", given) == theirs[name], name
