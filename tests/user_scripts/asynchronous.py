"""A web service: one asynchronous store, workers that are coroutine functions, streams, blocks and tasks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from scanstore import AsyncStore, NotFound
from scanstore.models import Finding, Job, Symbol

if TYPE_CHECKING:
    from scanstore.aio.store import AsyncSymbols


async def names(symbols: AsyncSymbols) -> list[str]:
    found: list[Symbol] = await symbols.list(symbol_type="function")
    return sorted(symbol.name for symbol in found)


async def work(store: AsyncStore) -> int:
    async def sync(job: Job) -> str:
        await store.jobs.heartbeat(job, progress=50)
        return "done"

    def plain(job: Job) -> None:
        print(job.id)

    async with store.transaction():
        await store.settings.set("page_size", 50)
        await store.jobs.enqueue("sync")
    await store.jobs.run_worker({"sync": sync, "plain": plain}, until_empty=True)
    page = await store.page(Job, Job.status == "completed", sort="-id")
    size: int = await store.settings.get("page_size", 20, type=int)
    return page.total + size + len(page.items)


async def read(store: AsyncStore) -> None:
    Path("shop").mkdir(exist_ok=True)
    Path("shop/prices.py").write_text("def discount(price):\n    return price\n\n\ndiscount(1)\n")
    await store.scans.record("shop")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(store.symbols.find("discount"))
        second = group.create_task(names(store.symbols))
    third = asyncio.create_task(store.findings.list(severity="high"))
    lists: tuple[list[Symbol], list[str], list[Finding]] = (first.result(), second.result(), await third)
    print(lists)
    async for edge in store.symbols.edges():
        print(edge)
    async with aclosing(store.symbols.export("dot")) as lines:
        print(await anext(lines))
    print([key async for key in store.settings], await store.settings["page_size"], len(await store.search("discount")))


async def blocks(store: AsyncStore) -> None:
    async with store.library.sync("scene") as sync:
        await store.library.upsert_scenes([{"id": "1", "title": "A"}], run=sync)
        gone: list[str] = await sync.prune_unseen()
        print(gone, sync.id, sync.kind)
    scenes = [scene["title"] async for scene in store.library.records()]
    print(scenes)
    await store.llm.add("small")
    async with store.llm.slot("small", timeout=1) as slot, store.llm.call("small", purpose="analysis") as call:
        await slot.heartbeat()
        call.response, call.cost = "fine", 0.5
    print(await store.sessions.stats(), await store.run(lambda: Job.select().count()))
    try:
        await store.sessions.tasks.get("00000000-0000-7000-8000-000000000000")
    except NotFound as error:
        print(error)


async def main() -> None:
    async with AsyncStore("web.db", durability="normal", readers=2) as store:
        print(await work(store))
        await read(store)
        await blocks(store)
    print(await AsyncStore.repair("web.db", "new.db"))


if __name__ == "__main__":
    asyncio.run(main())
