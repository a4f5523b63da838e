"""Stores for a web application: from the environment, one for the process, and injected by FastAPI."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import needs
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient

from scanstore import AsyncStore, Store
from scanstore.dependencies import async_session_factory, close_all, get_async_session, get_db, get_db_context, location
from scanstore.errors import InvalidArgument, NoStore, NotFound
from scanstore.models import Job, Setting

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The environment names a store; whatever a test has opened is closed."""
    for name in ("DATABASE_URL", "DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCANSTORE_DB", str(tmp_path / "web.db"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "web.db"
    close_all()


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)


# Where it is


@pytest.mark.parametrize(
    ("own", "url", "found"),
    [
        ("a.db", "sqlite:///b.db", "a.db"),
        ("", "sqlite:///b.db", "b.db"),
        (None, "sqlite:///folder/b.db", "folder/b.db"),
        (None, "sqlite:////b.db", "/b.db"),
        (None, "sqlite+aiosqlite:///b.db", "b.db"),
        (None, "", "scanstore.db"),
        (None, None, "scanstore.db"),
        (None, "sqlite://", ":memory:"),
        (None, "sqlite:///:memory:", ":memory:"),
        (":memory:", None, ":memory:"),
    ],
)
def test_the_environment_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str | None, url: str | None, found: str
) -> None:
    for name, value in (("SCANSTORE_DB", own), ("DATABASE_URL", url)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert location() == (found if found == ":memory:" else str(tmp_path / found))


@pytest.mark.parametrize(
    "url",
    ["postgresql+asyncpg://admin:hid/den@host:5432/web", "mysql://host/web", "web.db", "sqlite:/b.db",
     "sqlite:///b.db?mode=ro"],
)  # fmt: skip
def test_a_url_of_anything_else_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("SCANSTORE_DB")
    monkeypatch.setenv("DATABASE_URL", url)
    for ask in (
        location,
        lambda: next(get_db()),
        async_session_factory,
        lambda: asyncio.run(anext(get_async_session())),
    ):
        with pytest.raises(InvalidArgument, match="DATABASE_URL is") as refused:
            ask()
        assert "hid" not in str(refused.value)
        assert url.split(":")[0] in str(refused.value)


# In a script


def test_a_block_has_the_store_current_and_leaves_it_open(place: Path) -> None:
    with get_db_context() as store:
        assert isinstance(store, Store)
        Setting.create(key="a", value=1)
    with pytest.raises(NoStore):
        Setting.get()
    with get_db_context() as again:
        assert again is store
        assert again.settings["a"] == 1
        assert again.check() == []
    assert not store.closed
    assert store.path == str(place)


def test_what_is_raised_in_a_block_goes_on(place: Path) -> None:
    with pytest.raises(LookupError), get_db_context():
        raise LookupError
    with pytest.raises(NoStore):
        Setting.get()


def test_all_threads_share_one_store_that_was_opened_once() -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> tuple[int, int]:
        barrier.wait()
        for store in get_db():
            store.settings.set(f"k{threading.get_ident()}", 1)
            return id(store), len(store.settings)
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len({store for store, _ in found}) == 1
    assert max(count for _, count in found) == 8


def test_another_place_is_another_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with get_db_context() as first:
        monkeypatch.setenv("SCANSTORE_DB", str(tmp_path / "other.db"))
        with get_db_context() as second:
            assert second is not first
            Setting.create(key="where", value="other")
    assert (len(first.settings), len(second.settings)) == (0, 1)


def test_closing_all_and_asking_again() -> None:
    with get_db_context() as store:
        pass
    close_all()
    close_all()
    assert store.closed
    with get_db_context() as again:
        assert again is not store
        again.close()
    with get_db_context() as third:  # somebody closed it
        assert not third.closed


# In coroutines


async def session() -> AsyncStore:
    async for store in get_async_session():
        return store
    raise AssertionError


def test_tasks_and_loops_share_one_store(place: Path) -> None:
    async def several() -> set[AsyncStore]:
        stores = await asyncio.gather(*(session() for _ in range(20)))
        await asyncio.gather(*(stores[0].settings.set(f"k{n}", n) for n in range(20)))
        return set(stores)

    first, second = asyncio.run(several()), asyncio.run(several())
    assert len(first | second) == 1
    (store,) = first
    assert store.path == str(place)
    close_all()
    assert store.closed
    assert asyncio.run(session()) is not store
    with get_db_context() as plain:
        assert len(plain.settings) == 20


def test_a_session_of_ones_own() -> None:
    async def main() -> None:
        async with async_session_factory() as store:
            assert store is not await session()
            await store.settings.set("a", 1)
            assert await (await session()).settings.get("a") == 1
        assert store.closed
        assert not (await session()).closed
        await asyncio.to_thread(close_all)

    asyncio.run(main())


def test_a_process_that_ends_closes_what_it_opened(place: Path) -> None:
    """What is closed leaves no log behind."""
    code = """
import asyncio
from scanstore.dependencies import get_async_session, get_db_context

async def main():
    async for store in get_async_session():
        await store.settings.set("a", 1)

with get_db_context() as store:
    store.settings.set("b", 1)
asyncio.run(main())
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in place.parent.iterdir()] == ["web.db"]
    with Store(place) as store:
        assert sorted(store.settings) == ["a", "b"]
        assert store.check() == []


@needs.fork
def test_a_forked_process_refuses_the_file_that_an_async_store_has_open(place: Path) -> None:
    """Its threads have connections, which a child cannot share; servers fork before they open a store."""
    code = """
import asyncio, os, warnings
from scanstore import StorageError
from scanstore.dependencies import get_async_session

async def main(key):
    async for store in get_async_session():
        await store.settings.set(key, 1)

asyncio.run(main("parent"))
warnings.simplefilter("ignore", DeprecationWarning)  # this is about a fork with threads
child = os.fork()
if child == 0:
    try:
        asyncio.run(main("child"))
    except StorageError as error:
        os._exit(0 if "when this process was forked" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
asyncio.run(main("again"))
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")
    with Store(place) as store:
        assert sorted(store.settings) == ["again", "parent"]


@pytest.mark.parametrize(
    ("value", "echoed"), [("true", True), ("True", True), ("", False), ("1", False), (None, False)]
)
def test_statements_are_shown_only_when_debugging(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], value: str | None, echoed: bool
) -> None:
    if value is not None:
        monkeypatch.setenv("DEBUG", value)
    with get_db_context() as store:
        store.settings.set("a", 1)
        store.llm.add("small", api_key="hidden-key")
    asyncio.run(session())
    close_all()
    with Store(os.environ["SCANSTORE_DB"]) as store:
        store.settings.set("quiet", 1)
    shown = capfd.readouterr().err
    assert ("INSERT INTO settings" in shown or 'INSERT INTO "settings"' in shown) == echoed
    assert "hidden-key" not in shown and "quiet" not in shown
    assert not logging.getLogger("peewee").isEnabledFor(logging.DEBUG)


# FastAPI

Plain = Annotated[Store, Depends(get_db)]
Awaited = Annotated[AsyncStore, Depends(get_async_session)]


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/jobs/{kind}")
    async def enqueue(kind: str, store: Awaited) -> dict[str, Any]:
        return (await store.jobs.enqueue(kind)).to_dict()

    @app.get("/jobs/{job}")
    async def job(job: str, store: Awaited) -> dict[str, Any]:
        try:
            return (await store.jobs.get(job)).to_dict()
        except NotFound as error:
            raise HTTPException(404, str(error)) from error

    @app.get("/jobs")
    async def jobs(store: Awaited, page: int = 1) -> dict[str, Any]:
        found = await store.page(Job, page=page, per_page=10)
        return {"total": found.total, "items": [row.id for row in found.items]}

    @app.post("/count/{key}")
    async def count(key: str, store: Awaited) -> int:
        async with store.transaction():
            value = int(await store.settings.get(key, default=0)) + 1
            await asyncio.sleep(0)
            await store.settings.set(key, value)
        return value

    @app.get("/plain/{key}")
    def plain(key: str, store: Plain) -> Any:
        with store.bound():
            assert Setting.get_by_id(key).value == store.settings[key]
        return store.settings[key]

    return app


def test_an_application_answers_many_requests_at_once(place: Path) -> None:
    with TestClient(application()) as client, ThreadPoolExecutor(12) as pool:
        counted = list(pool.map(lambda _: client.post("/count/visits").json(), range(60)))
        assert sorted(counted) == list(range(1, 61))
        assert set(pool.map(lambda _: client.get("/plain/visits").json(), range(20))) == {60}
        made = [row["id"] for row in pool.map(lambda n: client.post(f"/jobs/kind{n % 3}").json(), range(25))]
        found = list(pool.map(lambda key: client.get(f"/jobs/{key}").json(), made))
        assert [row["id"] for row in found] == made
        last = client.get("/jobs", params={"page": 3}).json()
        assert (last["total"], len(last["items"])) == (25, 5)
        assert client.get("/jobs/00000000-0000-7000-8000-000000000000").status_code == 404
    close_all()
    with Store(place) as store:
        assert store.check() == []


def test_an_application_after_the_other_uses_the_same_store(place: Path) -> None:
    """Each has a loop of its own."""
    for n in (1, 2, 3):
        with TestClient(application()) as client:
            assert client.post("/count/visits").json() == n
