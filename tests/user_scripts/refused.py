"""Mistakes that type checkers find. Each comment states an error; an unused comment fails the check."""

from __future__ import annotations

from scanstore import AsyncStore, Store
from scanstore.models import Job


async def asynchronous(store: AsyncStore) -> None:
    await store.findings.list(severity="hihg")  # type: ignore[arg-type]
    await store.jobs.list(status="done")  # type: ignore[arg-type]
    await store.symbols.fnid("x")  # type: ignore[attr-defined]
    await store.symbol.find("x")  # type: ignore[attr-defined]
    await store.symbols.find("x", match="sort of")  # type: ignore[arg-type]
    await store.sessions.tasks.list("1", status="done")  # type: ignore[arg-type]
    await store.report(format="pdf")  # type: ignore[arg-type]
    await store.library.names("scene")  # type: ignore[arg-type]
    print(await store.settings.get("n", 1, type=int) + 1)
    print((await store.settings.get("n", 1, type=int)) + "1")  # type: ignore[operator]
    with store.transaction():  # type: ignore[attr-defined]
        pass
    for _ in store.symbols.edges():  # type: ignore[attr-defined]
        pass
    store.chunks.queue  # type: ignore[attr-defined]  # noqa: B018
    store.bound()  # type: ignore[attr-defined]
    found: list[Job] = store.jobs.list()  # type: ignore[assignment]
    print(found)

    async def later(value: object) -> object:
        return value

    number: int = await store.settings.update("n", later, default=0, type=int)  # type: ignore[arg-type]
    print(number)


def plain(store: Store) -> None:
    store.findings.list(severity="hihg")  # type: ignore[arg-type]
    store.plans.propose(1, "1", "titel", "set", proposed="A")  # type: ignore[arg-type]
    store.symbols.fnid("x")  # type: ignore[attr-defined]
    Store(durability="fast")  # type: ignore[arg-type]
