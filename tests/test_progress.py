"""Every long call reports its progress, and an exception of the function that it reports to cancels the work."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scanstore import AsyncStore, Store
from scanstore.db.progress import Meter
from scanstore.errors import InvalidArgument
from scanstore.maintenance import dump as dumping
from scanstore.sarif import sarif

Told = list[tuple[int, int]]
Tell = Callable[[int, int], object]
RESULTS, FILES = 30, 12


class Stopped(Exception):
    """Raised by a progress function."""


class Case(NamedTuple):
    """A call with `progress`, the total that it should end with, and whether it leaves the file as it was."""

    call: Callable[[Store, Path, Tell | None], object]
    total: Callable[[Store, Path], int] | None = None
    atomic: bool = True


def report(results: int = RESULTS) -> str:
    one: dict[str, Any] = {"ruleId": "r", "locations": [{"physicalLocation": {"artifactLocation": {"uri": "a.py"}}}]}
    found = [{**one, "message": {"text": f"message {number}"}} for number in range(results)]
    return json.dumps({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": found}]})


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, new_file: Path) -> Path:
    """A folder with a store that has something for each call, its dump, a copy, and reports."""
    folder = tmp_path_factory.mktemp("filled")
    (folder / "src").mkdir()
    for number in range(FILES):
        (folder / "src" / f"m{number}.py").write_text(f"def f{number}():\n    return {number}\n")
    (folder / "first.sarif").write_text(report(3))
    (folder / "r.sarif").write_text(report())
    shutil.copy(new_file, folder / "a.db")
    with Store(folder / "a.db", durability="normal") as store:
        for _ in range(3):
            store.scans.record(folder / "src", jobs=1)
        store.sarif.load(folder / "first.sarif", target="t")
        for number in range(5):
            job = store.jobs.start(store.jobs.enqueue("one"))
            store.jobs.complete(job)
            store.library.upsert_scenes([{"id": str(number), "title": "a"}])
        plan = store.plans.add("p")
        store.plans.propose_many(plan, [
            {"scene": str(number), "field": "title", "action": "set", "proposed": "b"} for number in range(5)
        ])  # fmt: skip
        store.plans.submit(plan)
        store.plans.review(plan, "approve")
        store.dump(folder / "d.jsonl")
        store.backup(folder / "copy.db")
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumping, "BATCH", 10)
    monkeypatch.setattr(sarif, "BATCH", 10)
    monkeypatch.setattr("scanstore.sarif.exporting.BATCH", 10)
    monkeypatch.setattr("scanstore.search.AT_ONCE", {"finding": 2, "symbol": 5})
    monkeypatch.setattr("scanstore.maintenance.backup._PAGES", 20)
    monkeypatch.setattr("scanstore.plans.applying.SHORT", 0)


def _other(folder: Path) -> Store:
    return Store(folder / "other.db", durability="normal")


def _load(_: Store, folder: Path, tell: Tell | None) -> None:
    with _other(folder) as empty:
        try:
            empty.load(folder / "d.jsonl", progress=tell)
        finally:
            assert empty.check() == []
            if tell is not None and not empty.scans.list():
                assert empty.library.list() == [] and empty.jobs.list() == []


def _merge(store: Store, folder: Path, tell: Tell | None) -> None:
    with _other(folder) as empty:
        try:
            empty.merge(store, progress=tell)
        finally:
            assert empty.check() == []
            if not empty.scans.list():
                assert empty.library.list() == [] and empty.jobs.list() == []


def _repair(store: Store, folder: Path, tell: Tell | None) -> None:
    try:
        Store.repair(folder / "copy.db", folder / "saved.db", progress=tell)
    except Stopped:
        assert not (folder / "saved.db").exists()
        raise


def _restore(store: Store, folder: Path, tell: Tell | None) -> None:
    told_all = [False]

    def all_or_some(done: int, total: int) -> None:
        told_all[0] = done == total
        if tell is not None:
            tell(done, total)

    shutil.copy(folder / "copy.db", folder / "old.db")
    with Store(folder / "old.db") as old:
        old.settings["mine"] = 1
    try:
        Store.restore(folder / "copy.db", folder / "old.db", progress=all_or_some if callable(tell) else tell)
    finally:
        with Store(folder / "old.db") as old:
            # SQLite commits the last pages before it reports them.
            assert ("mine" in old.settings) is (tell is not None and not told_all[0]) and old.check() == []


def _backup(store: Store, folder: Path, tell: Tell | None) -> None:
    before = set(os.listdir(folder))
    try:
        store.backup(folder / "new.db", progress=tell)
    except Stopped:
        assert set(os.listdir(folder)) == before
        raise


def _dump(store: Store, folder: Path, tell: Tell | None) -> None:
    try:
        store.dump(folder / "new.jsonl", progress=tell)
    except Stopped:
        assert not (folder / "new.jsonl").exists()
        raise


def _revert(store: Store, folder: Path, tell: Tell | None) -> None:
    plan = store.plans.list()[0]
    if plan.counts.approved:
        store.plans.apply(plan)
    store.plans.revert(plan, progress=tell)


def pages(path: Path) -> int:
    return path.stat().st_size // 4096


def _prune(store: Store, _: Path, tell: Tell | None) -> None:
    store.prune(keep_last=0, dry_run=False, progress=tell)


CASES = {
    "dump": Case(_dump, lambda store, folder: store.dump(folder / "again.jsonl").rows),
    "load": Case(_load, lambda _, folder: (folder / "d.jsonl").stat().st_size),
    "merge": Case(_merge),
    "repair": Case(_repair, lambda _, folder: pages(folder / "copy.db")),
    "restore": Case(_restore, lambda _, folder: pages(folder / "copy.db")),
    "backup": Case(_backup),
    "check": Case(lambda store, _, tell: store.check(progress=tell)),
    "check --fix": Case(lambda store, _, tell: store.check(fix=True, progress=tell), atomic=False),
    "vacuum": Case(lambda store, _, tell: store.vacuum(progress=tell), atomic=False),
    "optimize": Case(lambda store, _, tell: store.optimize(progress=tell), atomic=False),
    "prune": Case(_prune, lambda *_: 2 + 5, atomic=False),
    "search": Case(
        lambda store, _, tell: store.search("f1", progress=tell), lambda *_: 3 + FILES, atomic=False
    ),
    "sarif.load": Case(
        lambda store, folder, tell: store.sarif.load(folder / "r.sarif", target="u", progress=tell),
        lambda *_: 2 * RESULTS,
    ),
    "sarif.dump": Case(
        lambda store, folder, tell: store.sarif.dump(None, folder / "o.sarif", target="t", progress=tell), lambda *_: 3
    ),
    "plans.apply": Case(
        lambda store, _, tell: store.plans.apply(store.plans.list()[0], progress=tell), lambda *_: 5, atomic=False
    ),
    "plans.revert": Case(_revert, lambda *_: 5, atomic=False),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_progress_increases_and_ends_at_the_total(name: str, folder: Path) -> None:
    case, told = CASES[name], Told()
    with Store(folder / "a.db", durability="normal") as store:
        total = None if case.total is None else case.total(store, folder)
        case.call(store, folder, lambda done, total: told.append((done, total)))
        assert store.check() == []
    assert len(told) > 1
    for before, after in zip(told, told[1:], strict=False):
        assert before[0] <= after[0] and before[1] <= after[1]
    assert all(done <= total for done, total in told)
    assert told[-1][0] == told[-1][1] > 0
    if total is not None:
        assert told[-1] == (total, total)
    if name in ("dump", "load", "restore", "plans.apply", "prune", "check", "sarif.load"):  # in several steps
        assert len({done for done, _ in told}) > 2


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("name", CASES)
def test_an_exception_cancels_and_leaves_nothing_half_written(name: str, last: bool, folder: Path) -> None:
    case = CASES[name]

    def stop(done: int, total: int) -> None:
        if not last or total and done == total:
            raise Stopped

    with Store(folder / "a.db", durability="normal") as store:
        before = store.dump(folder / "before.jsonl")
        with pytest.raises(Stopped):
            case.call(store, folder, stop)
        assert not store.database.in_sqlite_transaction()
        assert store.check() == []
        after = store.dump(folder / "after.jsonl")
        if case.atomic:
            assert after == before
            assert (folder / "after.jsonl").read_bytes() == (folder / "before.jsonl").read_bytes()
        if not (name.startswith("plans.") and last):
            case.call(store, folder, None)  # the work can be continued
        assert store.check() == []


def test_a_dump_of_an_older_schema_counts_twice(folder: Path) -> None:
    from scanstore.db import migrations

    told = Told()
    older = migrations.status(str(folder / "a.db"))[-2].name
    with Store(folder / "old.db") as old:
        old.settings["a"] = 1
    migrations.down(str(folder / "old.db"), to=older, backup=False)
    import sqlite3

    connection = sqlite3.connect(folder / "old.db")
    schema = connection.execute("PRAGMA user_version").fetchone()[0]
    (folder / "old.jsonl").write_bytes(b"".join(dumping.lines(connection.execute, schema, {})))
    connection.close()
    size = (folder / "old.jsonl").stat().st_size
    with _other(folder) as empty:
        empty.load(folder / "old.jsonl", progress=lambda done, total: told.append((done, total)))
        assert empty.settings["a"] == 1 and empty.check() == []
    assert told[-1] == (2 * size, 2 * size) and {total for _, total in told} == {2 * size}
    assert told == sorted(told)


def test_the_total_of_a_pipe_is_unknown_until_the_end(folder: Path) -> None:
    told = Told()
    with (folder / "d.jsonl").open("rb") as file, _other(folder) as empty:

        class Pipe:
            def readline(self, size: int = -1) -> bytes:
                return file.readline(size)

        empty.load(Pipe(), progress=lambda done, total: told.append((done, total)))  # type: ignore[arg-type]
        assert empty.check() == []
    size = (folder / "d.jsonl").stat().st_size
    assert {total for _, total in told[:-1]} == {0} and told[-1] == (size, size) and told[0][0] < size


@pytest.mark.parametrize("name", CASES)
def test_progress_that_is_no_function_is_refused_first(name: str, folder: Path) -> None:
    wrong: Any = "soon"
    with Store(folder / "a.db", durability="normal") as store:
        if name == "plans.revert":
            store.plans.apply(store.plans.list()[0])
        before = store.dump(folder / "before.jsonl")
        with pytest.raises(InvalidArgument, match="progress is 'soon'"):
            CASES[name].call(store, folder, wrong)
        assert store.dump(folder / "after.jsonl") == before
        assert store.check() == []


def test_an_asynchronous_store_passes_progress_on(folder: Path) -> None:
    told: dict[str, Told] = {"dump": [], "load": [], "search": [], "awaited": []}
    asyncio.run(_all_calls(folder, told))
    assert all(calls and calls[-1][0] == calls[-1][1] for calls in told.values())


async def _all_calls(folder: Path, told: dict[str, Told]) -> None:
    async with AsyncStore(folder / "a.db", durability="normal") as store:
        await store.dump(folder / "x.jsonl", progress=lambda *counts: told["dump"].append(counts))
        await store.search("f1", progress=lambda *counts: told["search"].append(counts))

        async def awaited(done: int, total: int) -> None:
            told["awaited"].append((done, total))

        await store.check(progress=awaited)
        assert await store.check() == []
    async with AsyncStore(folder / "new.db", durability="normal") as other:
        await other.load(folder / "x.jsonl", progress=lambda *counts: told["load"].append(counts))
        assert await other.check() == []


def test_a_meter_counts_upwards() -> None:
    told = Told()
    meter = Meter(lambda done, total: told.append((done, total)))
    meter.add(3)  # of an unknown total
    meter.expect(5)
    meter.at(2)
    meter.add(4)  # more than expected
    meter.expect(1)
    meter.end()
    assert told == [(3, 0), (3, 5), (7, 7), (7, 8), (8, 8)]
    silent = Meter(None)
    silent.add()
    silent.end()
    assert not silent and meter


def test_nothing_is_counted_beforehand_when_nobody_listens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(folder / "a.db", durability="normal") as store:
        run, counted = store.database.execute_sql, []

        def watched(sql: str, *args: Any, **options: Any) -> Any:
            if sql.startswith("SELECT count(*) FROM main."):
                counted.append(sql)
            return run(sql, *args, **options)

        monkeypatch.setattr(store.database, "execute_sql", watched)
        store.dump(folder / "x.jsonl")
        assert not counted
        store.dump(folder / "x.jsonl", progress=lambda *_: None)
        assert counted
