"""Notebooks: the store in use, the page, and the example in a real kernel."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scanstore import NoStore, Store, StoreClosed, WrongStore
from scanstore.aio.store import AsyncStore
from scanstore.db.database import current
from scanstore.models import Scan

ROOT = Path(__file__).parents[1]
KERNEL = ("ipykernel", "nbclient", "pandas", "nbformat")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two stores, each with one scan, which is named like its store."""
    stores = Store(tmp_path / "a.db"), Store(tmp_path / "b.db")
    for name, store in zip("ab", stores, strict=True):
        store.scans.add(name)
    yield stores
    for store in stores:
        assert store.closed or store.check() == []
        store.close()


def targets() -> str:
    return "".join(scan.target for scan in Scan.select())


def in_thread(function: Callable[[], object]) -> object:
    """Return what a function returns in a new thread, or its error."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


# The store in use


def test_a_model_outside_a_store_still_raises(two: tuple[Store, Store]) -> None:
    with pytest.raises(NoStore, match=r"store\.use\(\)"):
        targets()
    assert isinstance(in_thread(targets), NoStore)


def test_the_store_in_use_is_the_default_of_threads_and_tasks(two: tuple[Store, Store]) -> None:
    a, b = two
    assert a.use() is a and targets() == "a" and in_thread(targets) == "a"

    async def cell() -> str:
        return await asyncio.to_thread(targets) + await asyncio.create_task(task()) + targets()

    async def task() -> str:
        return targets()

    assert asyncio.run(cell()) == "aaa"

    async def using() -> None:
        b.use()  # a task has its own context, and what it sets there is lost when it ends

    asyncio.run(using())
    assert targets() == "b" and in_thread(targets) == "b"
    b.close()
    for found in (in_thread(targets), in_thread(lambda: Scan.create(target="x"))):
        assert isinstance(found, NoStore)
    assert current() is None


def test_a_block_goes_before_the_store_in_use(two: tuple[Store, Store]) -> None:
    a, b = two
    a.use()
    with b.bound():
        assert targets() == "b" and in_thread(targets) == "a"
        b.use()
        with a.bound():
            assert targets() == "a"
    assert targets() == "b"
    inside, go = threading.Event(), threading.Event()

    def other() -> str:
        with a.bound():
            inside.set()
            go.wait(10)
            return targets()

    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(other()))
    thread.start()
    assert inside.wait(10) and targets() == "b"
    b.use()
    go.set()
    thread.join()
    assert found == ["a"] and targets() == "b"
    assert [scan.target for scan in a.scans.list()] == ["a"] and targets() == "b"  # calls read their own store


def test_closing_another_store_keeps_the_default(two: tuple[Store, Store], tmp_path: Path) -> None:
    a, _ = two
    a.use()
    third = Store(tmp_path / "c.db")
    third.close()
    with pytest.raises(StoreClosed):
        third.use()
    assert targets() == "a"
    with Store(tmp_path / "c.db"):
        assert targets() == ""
    assert targets() == "a"


def test_rows_and_queries_keep_to_their_store(two: tuple[Store, Store]) -> None:
    a, b = two
    a.use()
    query, row = Scan.select(), a.scans.list()[0]
    b.use()
    assert [scan.target for scan in query] == ["a"] and targets() == "b"
    for use in (lambda: row.files.count(), row.save, lambda: b.scans.summary(row)):
        row.name = "other"
        with pytest.raises(WrongStore, match=r"use it inside 'with store.bound\(\):' of its own store"):
            use()
    with a.bound():
        row.save()
        assert row.files.count() == 0
    assert a.scans.get(row.id).name == "other"


def test_an_asynchronous_store_is_not_used_by_models() -> None:
    assert not hasattr(AsyncStore, "use")


# The page and the example


CELLS = """
from scanstore import AsyncStore, Store
from scanstore.models import Scan
import asyncio, threading
store = Store("a.db").use()
store.scans.add("a")
---
store.scans.list()
---
print(Scan.select().count())
---
await asyncio.sleep(0)
other = (await asyncio.to_thread(Store, "b.db")).use()
---
print(Scan.select().count(), await asyncio.to_thread(Scan.select().count))
---
thread = threading.Thread(target=lambda: print(Scan.select().count()))
thread.start()
thread.join()
with store.bound():
    print(Scan.select().count())
---
other.close()
print(len(store.scans.list().to_pandas()))
Scan.select().count()
---
asynchronous = await AsyncStore("a.db").open()
await asynchronous.scans.list()
---
await asynchronous.close()
store.close()
"""


def kernel() -> Any:
    """Return the module nbformat, or skip the test if it, or anything else that a kernel needs, is missing."""
    found = [pytest.importorskip(name, reason=f"needs {name}") for name in KERNEL]
    return found[-1]


def run_notebook(book: Any, folder: Path) -> list[list[Any]]:
    """Run a notebook in a kernel, and return the outputs of its cells of code. Errors are outputs too."""
    nbclient: Any = pytest.importorskip("nbclient", reason="needs nbclient")
    client = nbclient.NotebookClient(
        book, timeout=60, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return [cell.outputs for cell in book.cells if cell.cell_type == "code"]


@pytest.mark.extras
@pytest.mark.filterwarnings("default")  # those of the kernel's own packages
def test_a_kernel_keeps_the_store_in_use_in_all_cells(tmp_path: Path) -> None:
    nbformat = kernel()
    cells = [nbformat.v4.new_code_cell(each.strip()) for each in CELLS.split("---\n")]
    told = run_notebook(nbformat.v4.new_notebook(cells=cells), tmp_path)
    printed = ["".join(each.text for each in cell if each.output_type == "stream") for cell in told]
    assert printed == ["", "", "1\n", "", "0 0\n", "0\n1\n", "1\n", "", ""]
    for place in (1, 7):
        (shown,) = told[place]
        assert shown.data["text/plain"] == "[<Scan 1 running: a>]" and "<table" in shown.data["text/html"]
    assert [each.ename for cell in told for each in cell if each.output_type == "error"] == ["NoStore"]


@pytest.mark.extras
@pytest.mark.filterwarnings("default")
def test_the_example_runs_in_a_kernel(tmp_path: Path) -> None:
    nbformat = kernel()
    text = (ROOT / "examples" / "explore.ipynb").read_text(encoding="utf-8")
    told = run_notebook(nbformat.reads(text, json.loads(text)["nbformat"]), tmp_path)
    assert not [each.evalue for cell in told for each in cell if each.output_type == "error"]
    assert sum("<table" in each.get("data", {}).get("text/html", "") for cell in told for each in cell) >= 4
