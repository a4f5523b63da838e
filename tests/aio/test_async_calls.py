"""Methods of the asynchronous store, as tools see them, and its calls, as asyncio sees them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pydoc
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from scanstore import AsyncStore, Store
from scanstore.aio.domains import NOT_HERE, SPECIAL
from scanstore.aio.running import Running
from scanstore.db.domain import Domain
from scanstore.errors import NotFound


@pytest.fixture
def path(tmp_path: Path, new_file: Path) -> Path:
    shutil.copy(new_file, tmp_path / "scan.db")
    return tmp_path / "scan.db"


def run(path: Path, main: Callable[[AsyncStore], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        async with AsyncStore(path) as store:
            return await asyncio.wait_for(main(store), 60)

    return asyncio.run(inside())


def pairs(plain: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a store and its asynchronous counterpart, and so for each of their domains."""
    yield plain, other
    for name in dir(type(plain)):
        if isinstance(inspect.getattr_static(type(plain), name), cached_property):
            yield from pairs(getattr(plain, name), getattr(other, name))


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


# Methods


def test_names_signatures_and_documentation_are_those_of_the_store() -> None:
    count = 0
    with Store(":memory:") as plain:
        for own, other in pairs(plain, AsyncStore(":memory:")):
            if own is plain:
                assert public(own) - public(other) == NOT_HERE | {"database"}
                assert public(other) - public(own) == public(Running) - public(plain)
            else:
                assert public(own) == public(other), own
                assert other.__doc__ == own.__doc__
            for name in public(own) & public(other):
                if name in ("path", "closed", "recovered", "close"):
                    continue
                method, call = getattr(own, name), getattr(other, name)
                if inspect.isroutine(method):
                    count += 1
                    assert inspect.signature(call) == inspect.signature(method)
                    assert call.__doc__ == method.__doc__ and call.__name__ == name
                    assert f"{name}(" in pydoc.plain(pydoc.render_doc(call))
    assert count > 150, count


def test_help_of_a_domain_lists_its_methods() -> None:
    store = AsyncStore(":memory:")
    told = pydoc.plain(pydoc.render_doc(store.symbols))
    assert "class AsyncSymbols" in told and "find(self, name: 'str'" in told
    assert type(store.symbols) is type(store.symbols)
    assert "symbols" in repr(store.symbols) and "Symbols.find" in repr(store.symbols.find)


def test_special_methods_are_there_only_where_the_domain_has_them() -> None:
    store = AsyncStore(":memory:")
    assert callable(store.search) and not callable(store.symbols)
    assert hasattr(store.settings, "__aiter__") and not hasattr(store.symbols, "__aiter__")
    with pytest.raises(TypeError, match="not subscriptable"):
        store.symbols["x"]  # type: ignore[index]
    assert set(SPECIAL) < {"__call__", "__getitem__", "__iter__", "__len__"}


def test_completion_of_a_domain_shows_no_internal_names() -> None:
    with Store(":memory:") as store:
        for own, _ in pairs(store, AsyncStore(":memory:")):
            if isinstance(own, Domain):
                values = {name for name in public(own) if not callable(getattr(own, name))}
                assert not {name for name in values if not isinstance(getattr(own, name), Domain)}, own
        assert {"kind", "since", "id", "prune_unseen"} <= public(store.library.sync("scene"))
        assert "db" not in dir(store.chunks) and store.chunks.db is store.database


# Calls


def test_calls_are_tasks(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.settings.set("a", 1)
        call: object = store.settings.keys()
        assert isinstance(call, Coroutine) and asyncio.iscoroutine(call)
        call.close()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(store.settings.keys())
            second = group.create_task(store.settings.set("b", 2), name="set")
        assert first.result() in (["a"], ["a", "b"]) and second.get_name() == "set"
        third = asyncio.create_task(store.settings.keys())
        assert "Settings.keys()" in repr(third)
        assert await third == ["a", "b"]
        assert list(await asyncio.gather(store.settings["a"], store.settings["b"])) == [1, 2]
        assert await asyncio.wait_for(store.settings.keys(), 5) == ["a", "b"]
        failing = asyncio.create_task(store.settings["c"])
        with pytest.raises(NotFound):
            await failing

    run(path, main)


def test_a_task_is_in_the_transaction_that_starts_it(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        with pytest.raises(LookupError):
            async with store.transaction():
                await asyncio.create_task(store.settings.set("a", 1))
                raise LookupError
        assert await store.settings.keys() == []

    run(path, main)


def test_a_task_that_is_cancelled_before_it_starts_does_nothing(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        task = asyncio.create_task(store.settings.set("a", 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.settings.set("a", 1).close()
        gc.collect()
        assert await store.settings.keys() == []

    run(path, main)


def test_a_call_can_be_run_by_hand(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        call = store.settings.keys()
        call.send(None)
        call.close()
        with pytest.raises(RuntimeError, match="awaited already"):
            await call
        call = store.settings.keys()
        with pytest.raises(LookupError, match="other"):
            call.throw(LookupError, LookupError("other"), None)
        call = store.settings.keys()
        with pytest.raises(KeyError):
            call.throw(KeyError)

    run(path, main)


def test_streams_are_asynchronous_generators(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.library.upsert_scenes([{"id": str(number)} for number in range(3)])
        async with aclosing(store.library.records()) as rows:
            assert (await anext(rows))["id"] == "0"
            assert [row["id"] async for row in rows][-1:] == ["2"]
        rows = store.library.records()
        assert (await anext(rows))["id"] == "0"
        assert (await rows.asend(None))["id"] == "1"
        with pytest.raises(LookupError):
            await rows.athrow(LookupError())
        await rows.aclose()
        assert await anext(rows, None) is None
        unread = store.library.records()
        await unread.aclose()

    run(path, main)


def test_leaving_a_closing_block_releases_the_row(path: Path, tmp_path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.jobs.enqueue("any")
        async with aclosing(store.jobs.work()) as jobs:
            async for job in jobs:
                assert (await store.jobs.get(job)).status == "running"
                break
        assert (await store.jobs.get(job)).status == "pending"

    run(path, main)


def test_methods_of_an_asynchronous_store_are_callbacks(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        await store.jobs.enqueue("any")
        done = await store.jobs.run_worker({"any": store.jobs.heartbeat}, until_empty=True)
        assert (done.completed, done.failed) == (0, 1)  # a row is no result in JSON, but the call was awaited

    run(path, main)


def test_objects_of_blocks_are_documented(path: Path) -> None:
    async def main(store: AsyncStore) -> None:
        async with store.library.sync("scene") as sync:
            assert {"kind", "prune_unseen"} <= set(dir(sync)) and "db" not in dir(sync)
            assert inspect.signature(sync.prune_unseen).parameters.keys() == {"dry_run"}
            assert "did not see" in (sync.prune_unseen.__doc__ or "")

    run(path, main)
