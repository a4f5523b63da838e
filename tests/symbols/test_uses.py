"""Uses: each place that names a symbol without calling it is a reference, with its line and the symbol around it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scanstore import Store

Places = list[tuple[str, int, str]]


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(":memory:") as opened:
        yield opened
        assert opened.check() == []


@pytest.fixture
def uses(store: Store, tmp_path: Path) -> Callable[..., Places]:
    """Record files and return the file, line and resolution of each use of a symbol."""

    def record(symbol: str, **files: str) -> Places:
        for name, text in files.items():
            path = tmp_path / "tree" / (name + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        store.scans.record(tmp_path / "tree", jobs=1)
        found = store.symbols.references(symbol, reference_type="use")
        return [(row.from_file, row.from_line, row.resolution) for row in found]

    return record


DEFINED = """\
    def job(): ...


    class Task:
        limit = 3

        @property
        def name(self): return self._name

        def run(self): ...


    TABLE = {}
"""
#: A line that uses a symbol, and the symbol.
USES = {
    "map(job, [])": "job",
    "handlers = {'a': job}": "job",
    "sorted([], key=job)": "job",
    "later = job": "job",
    "[job for _ in ()]": "job",
    "(lambda: job)()": "job",
    "isinstance(1, Task)": "Task",
    "try: pass\nexcept Task: pass": "Task",
    "def f(t: Task) -> None: ...": "Task",
    "def f(t: 'list[Task] | None') -> None: ...": "Task",
    "def f(t: list['Task']) -> None: ...": "Task",
    "task: Task": "Task",
    "Task().name": "Task.name",
    "Task().limit": "Task.limit",
    "Task.limit = 4": "Task.limit",
    "call = Task().run": "Task.run",
    "call(Task.run)": "Task.run",
    "TABLE['a'] = 1": "TABLE",
    "print(TABLE)": "TABLE",
    "__all__ = ['job']": "job",
}


@pytest.mark.parametrize("line", USES)
def test_a_use_in_another_file_is_a_reference(line: str, uses: Callable[..., Places]) -> None:
    user = "from defined import Task, TABLE, job\n\n" + line + "\n"
    number = next(n for n, text in enumerate(user.splitlines(), 1) if n > 1 and USES[line].split(".")[-1] in text)
    found = uses(f"defined.{USES[line]}", defined=DEFINED, user=user)
    assert [(file, where) for file, where, _ in found] == [("user.py", number)]
    assert found[0][2] in ("imported", "inherited")


@pytest.mark.parametrize("line", USES)
def test_a_use_in_the_same_file_is_exact(line: str, uses: Callable[..., Places]) -> None:
    text = textwrap.dedent(DEFINED) + "\n" + line + "\n"
    found = uses(f"defined.{USES[line]}", defined=text)
    below = [resolution for _, where, resolution in found if where > DEFINED.count("\n")]
    assert below == ["exact"] or "Task()" in line and below[0] in ("exact", "inherited")


def test_a_use_by_the_name_of_the_module_and_through_another_module(uses: Callable[..., Places]) -> None:
    found = uses(
        "pack.core.job",
        **{
            "pack/__init__": "from .core import job\n",
            "pack/core": "def job(): ...\n",
            "user": "import pack.core\nimport pack\nprint(pack.core.job)\nprint(pack.job)\n",
        },
    )
    assert [(file, line) for file, line, _ in found] == [("user.py", 3), ("user.py", 4)]


def test_a_variable_with_a_value_from_outside_is_in_the_tree(store: Store, uses: Callable[..., Places]) -> None:
    found = uses("m.request", m="import ext\nrequest = ext.Proxy()\n", n="from m import request\nprint(request.args)\n")
    assert found == [("n.py", 2, "imported")]
    (imported,) = store.symbols.references("m.request", reference_type="import")
    assert imported.resolution == "imported"


def test_an_inherited_property_is_used_although_a_subclass_assigns_it(uses: Callable[..., Places]) -> None:
    found = uses(
        "base.App.debug",
        base="""\
            class App:
                @property
                def debug(self): return self._debug
                @debug.setter
                def debug(self, value): self._debug = value
        """,
        flask="""\
            from base import App
            class Flask(App):
                def run(self):
                    self.debug = True
                    print(self.debug)
        """,
    )
    assert {(file, line) for file, line, _ in found} >= {("flask.py", 4), ("flask.py", 5)}


def test_local_variables_and_attributes_of_instances_are_no_uses(store: Store, uses: Callable[..., Places]) -> None:
    text = """\
        def job(job): return job
        class A:
            def __init__(self, size): self.size = size
            def grow(self):
                size = self.size
                return size
    """
    assert uses("m.job", m=text) == []
    assert {edge.name for edge in store.symbols.edges(reference_type="use")} == set()


def test_uses_count_for_impact_and_against_unused_but_not_as_calls(store: Store, uses: Callable[..., Places]) -> None:
    defined = "def job(): ...\ndef lonely(): ...\n"
    uses("m.job", m=defined, n="from m import job\ndef plan():\n    return {'a': job}\n")
    assert [row.qualified_name for row in store.symbols.impact("m.job")] == ["n.plan"]
    assert store.symbols.callers("m.job") == []
    assert "m.job" not in {row.qualified_name for row in store.symbols.unreferenced()}
    assert "m.lonely" in {row.qualified_name for row in store.symbols.unreferenced()}


def test_a_local_name_does_not_keep_a_symbol_of_that_name_in_use(store: Store, uses: Callable[..., Places]) -> None:
    uses("m.value", m="def value(): ...\n", n="def f(value):\n    return value\n")
    assert "m.value" in {row.qualified_name for row in store.symbols.unreferenced()}


def test_the_line_of_an_import_is_that_of_the_name(store: Store, uses: Callable[..., Places]) -> None:
    uses("m.b", m="def a(): ...\ndef b(): ...\n", n="from m import (\n    a,\n    b,\n)\n")
    assert [row.from_line for row in store.symbols.references("m.b")] == [3]


TYPED = {
    "async with Client() as c: c.go()": (
        "class Client:\n    async def __aenter__(self) -> 'Client': ...\n    def go(self): ..."
    ),
    "with managed() as c: c.go()": (
        "from contextlib import AbstractContextManager\n"
        "class Client:\n    def go(self): ...\ndef managed() -> AbstractContextManager[Client]: ..."
    ),
    "with Client() as c: c.go()": (
        "from typing import TypeVar\nT = TypeVar('T')\n"
        "class Client:\n    def __enter__(self: T) -> T: ...\n    def go(self): ..."
    ),
    "c, n = pair(); c.go()": "class Client:\n    def go(self): ...\ndef pair() -> tuple[Client, int]: ...",
    "pair()[0].go()": "class Client:\n    def go(self): ...\ndef pair() -> tuple[Client, int]: ...",
    "for c, n in pairs(): c.go()": "class Client:\n    def go(self): ...\ndef pairs() -> list[tuple[Client, int]]: ...",
    "Holder().client.go()": (
        "import ext\nclass Client:\n    def go(self): ...\n"
        "class Holder:\n    def __init__(self):\n        self.client = ext.old()\n        self.client = Client()"
    ),
}


@pytest.mark.parametrize("line", TYPED)
def test_a_method_is_found_by_the_type_of_its_object(line: str, store: Store, uses: Callable[..., Places]) -> None:
    uses("m.Client.go", m=TYPED[line] + "\n", n=f"from m import *\nasync def main():\n    {line}\n")
    (call,) = store.symbols.references("m.Client.go", reference_type="call")
    assert (call.from_file, call.from_line, call.resolution) == ("n.py", 3, "imported")


def test_members_of_a_union_are_found_if_they_agree(store: Store, uses: Callable[..., Places]) -> None:
    text = "class A:\n    def go(self): ...\nclass B(A): ...\nclass C(A): ...\n"
    uses("m.A.go", m=text, n="from m import *\ndef main(x: B | C | None):\n    x.go()\n")
    (call,) = store.symbols.references("m.A.go", reference_type="call")
    assert (call.from_line, call.resolution) == (3, "inherited")


def test_many_uses_of_one_name_and_odd_annotations_are_recorded(store: Store, tmp_path: Path) -> None:
    lines = ["class A: ...", "X = 1", *["X"] * 20_000, "def f(a: 'not a type(', b: '" + "[" * 500 + "'): ..."]
    lines += ["U = " + "A | " * 300 + "A", "def g(x: " + "A | " * 300 + "A): x.go()", "class B(B): ..."]
    lines += ["t: tuple['t'] = t"]
    (tmp_path / "m.py").write_text("\n".join(lines), encoding="utf-8")
    scan = store.scans.record(tmp_path, jobs=1)
    assert store.scans.summary(scan).failed == 0
    assert len(store.symbols.references("m.X", reference_type="use")) == 20_000
