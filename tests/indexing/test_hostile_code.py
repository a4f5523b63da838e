"""Unusual code is recorded, and twice as much of it takes twice the work.

Work is counted in calls of functions, as a profiler sees them, because times depend on the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sampling import sampled

from scanstore import Store
from scanstore.indexing import pool
from scanstore.models import ScanFile

A = "class A:\n    def go(self): pass\n"


def lines(count: int, form: str, *, step: int = 1) -> str:
    """Repeat a line. ``{i}`` is its number, ``{j}`` the next number, ``{k}`` another one; both start again at 0."""
    return "".join(form.format(i=i, j=(i + step) % count, k=i * 7 % count) + "\n" for i in range(count))


def joined(count: int, form: str, separator: str = ", ") -> str:
    return separator.join(form.format(i=i) for i in range(count))


def nested(count: int) -> str:
    """Blocks of isinstance inside each other, as deep as Python compiles them."""
    deep = 90
    blocks = "".join(f"{' ' * (i + 1)}if isinstance(x, A):\n" for i in range(deep)) + " " * (deep + 1) + "x.go()\n"
    return A + "".join(f"def f{i}(x):\n{blocks}" for i in range(count // deep + 1))


SHAPES: dict[str, Callable[[int], str]] = {
    "uses of one name": lambda n: "def f(): pass\n" + lines(n, "print(f)"),
    "uses of one name in a function": lambda n: "def f(): pass\ndef g():\n" + lines(n, "    print(f)"),
    "uses of one name in a list": lambda n: "def f(): pass\nx = [" + joined(n, "f") + "]\n",
    "calls of one method": lambda n: A + "a = A()\n" + lines(n, "a.go()"),
    "a variable made of itself": lambda n: "class Q:\n def m(self) -> 'Q': pass\nq = Q()\n" + lines(n, "q = q.m()"),
    "a local variable made of itself": lambda n: A + "def f(q):\n q = A()\n" + lines(n, " q = q.go()"),
    "a local variable bound in many branches": lambda n: (
        A + "def f(x, y):\n if x == 0: y = A()\n" + lines(n, " elif x == {i}: y = A(); y.go()") + " y.go()\n"
    ),
    "a local variable bound in many loops": lambda n: (
        A + "def f(x, y):\n" + lines(n, " for z in x:\n  y.go()\n  y = A() if z else y")
    ),
    "many local variables": lambda n: (
        A + "def f(x):\n" + lines(n, " v{i} = A()") + lines(n, " v{i} = x") + lines(n, " v{i}.go()")
    ),
    "unions of each other": lambda n: (
        "from typing import Union\n"
        + lines(n, 'A{i} = Union["A{j}", "A{k}", int]')
        + lines(n, "def f{i}(x: A{i}): x.go()")
    ),
    "a union of itself": lambda n: (
        'from typing import Union\nA = Union["A", "B"]\nB = Union["B", "A"]\n' + lines(n, "def f{i}(x: A): x.go()")
    ),
    "a chain of aliases": lambda n: (
        "".join(f"A{i} = A{i + 1}\n" for i in range(n))
        + f"class A{n}:\n def go(self): pass\n"
        + lines(n, "A{i}().go()")
    ),
    "classes that are their own bases": lambda n: lines(n, "class C{i}(C{i}):\n def f(self): self.g(); super().g()"),
    "classes in a circle": lambda n: lines(n, "class C{i}(C{j}):\n def f{i}(self): self.g(); super().h()"),
    "methods of one name": lambda n: "class A:\n" + lines(n, " def m(self): return self.m()"),
    "functions of one name": lambda n: lines(n, "def m(): return m()"),
    "annotations that do not parse": lambda n: lines(n, "def f{i}(x: 'a b [', y: '((((') -> 'lambda': x.go(); y.a()"),
    "a deep chain of attributes": lambda n: "import os\nos" + ".a" * n + "\n",
    "a chain of an attribute that is its owner": lambda n: (
        "class A:\n def __init__(self): self.a = self\nz = A()\nz" + ".a" * n + ".go()\n"
    ),
    "a union of many": lambda n: (
        lines(n, "class C{i}:\n def go(self): pass") + f"def f(x: {joined(n, 'C{i}', ' | ')}):\n x.go()\n"
    ),
    "a union of many, used often": lambda n: (
        lines(n, "class C{i}:\n def go(self): pass")
        + f"def f(x: 'Union[{joined(n, 'C{i}')}]'):\n"
        + lines(n, " x.go()")
    ),
    "isinstance, one after the other": lambda n: A + "def f(x):\n" + lines(n, " if isinstance(x, A): x.go()"),
    "isinstance, one else of the other": lambda n: (
        A + "def f(x):\n if x: pass\n" + lines(n, " elif isinstance(x, A): x.go()")
    ),
    "isinstance, one inside the other": nested,
    "isinstance of many": lambda n: (
        lines(n, "class C{i}:\n def go(self): pass")
        + f"def f(x):\n if isinstance(x, ({joined(n, 'C{i}')})):\n"
        + lines(n, "  x.go()")
    ),
    "overloads of one function": lambda n: (
        "from typing import overload\n" + lines(n, "@overload\ndef f(x: int) -> int: ...") + "def f(x): pass\nf(1)\n"
    ),
    "many exported names": lambda n: lines(n, "def f{i}(): pass") + f"__all__ = [{joined(n, repr('f{i}'))}]\n",
    "exported names, one at a time": lambda n: (
        "__all__ = []\n" + lines(n, "def f{i}(): pass\n__all__ += ['f{i}']")
    ),
    "exported names that nothing defines": lambda n: f"__all__ = [{joined(n, repr('f{i}'))}]\n",
    "a variable of many classes": lambda n: (
        lines(n, "class C{i}:\n def go(self): pass") + "def f():\n" + lines(n, " x = C{i}()\n x.go()")
    ),
    "an attribute of many classes": lambda n: (
        lines(n, "class C{i}:\n def go(self): pass")
        + "class K:\n"
        + lines(n, " def m{i}(self):\n  self.x = C{i}()\n  self.x.go()")
    ),
    "results of results": lambda n: (
        A + f"def f{n}(): return A()\n" + "".join(f"def f{i}(): return f{i + 1}()\n" for i in range(n)) + "f0().go()\n"
    ),
    "results in a circle": lambda n: lines(n, "def f{i}(): return f{j}()") + lines(n, "f{i}().go()"),
    "many returns": lambda n: A + "def f(x):\n" + lines(n, " if x: return A()") + lines(n, "f(1).go()"),
    "many decorators": lambda n: "def d(f): return f\n" + lines(n, "@d") + "def g(): pass\ng()\n",
    "many operands": lambda n: A + f"x = {joined(n, 'A()', ' or ')}\nx.go()\n",
    "many variables at once": lambda n: (
        A + f"{joined(n, 'a{i}')} = {joined(n, 'A()')}\n" + lines(n, "a{i}.go()")
    ),
    "a large table": lambda n: A + f"d = {{{joined(n, '{i}: A()')}}}\n" + lines(n, "d[{i}].go()"),
    "many alternatives of an import": lambda n: (
        lines(n, "try:\n from a{i} import f\nexcept ImportError:\n def f(): pass") + lines(n, "f()")
    ),
}  # fmt: skip

OTHER = "from m import *\nimport m\nm.f()\nf0()\nC0().go()\n"


def record(store: Store, folder: Path, text: str) -> None:
    """Record a module with a text, and one that imports it; nothing is refused."""
    folder.mkdir()
    (folder / "m.py").write_text(text, encoding="utf-8")
    (folder / "u.py").write_text(OTHER, encoding="utf-8")
    scan = store.scans.record(folder, jobs=1)
    assert [row.error for row in ScanFile.select().where(ScanFile.scan == scan)] == [None, None]


def work(store: Store, folder: Path, text: str) -> int:
    """Return how many functions are called to record a text."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" or event == "c_call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        record(store, folder, text)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("shape", sampled(SHAPES, 5, ids=SHAPES))
def test_twice_as_much_is_twice_the_work(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(pool, "LARGE", 1 << 40)  # nothing goes to a worker, whose work is not seen
    form = SHAPES[shape]
    record(store, tmp_path / "first", form(5))  # fills the caches
    least = work(store, tmp_path / "none", "")
    once, twice = (work(store, tmp_path / str(count), form(count)) - least for count in (300, 600))
    assert twice <= 2.4 * once, f"{once} calls, and {twice} for twice as much"
    assert store.check() == []


LARGEST = {
    "uses of one name": 100_000,
    "unions of each other": 5_000,
    "classes in a circle": 2_000,
    "classes that are their own bases": 5_000,
    "methods of one name": 5_000,
    "a deep chain of attributes": 2_000,
    "a union of many": 1_000,
    "isinstance, one inside the other": 2_000,
    "isinstance, one after the other": 5_000,
    "overloads of one function": 10_000,
    "many exported names": 50_000,
}


@pytest.mark.extras
@pytest.mark.parametrize("shape", LARGEST)
def test_a_large_file_is_recorded(store: Store, tmp_path: Path, shape: str) -> None:
    record(store, tmp_path / "tree", SHAPES[shape](LARGEST[shape]))
    assert store.check() == []


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos" + ".a" * 50_000 + "\n",
        "x = " + "(" * 2_000 + "1" + ")" * 2_000 + "\n",
        "def f(x):\n" + "".join(" " * (i + 1) + "if isinstance(x, int):\n" for i in range(2_000)) + " " * 2_001 + "x\n",
    ],
    ids=["attributes", "parentheses", "blocks"],
)
def test_what_python_cannot_parse_is_reported(store: Store, tmp_path: Path, text: str) -> None:
    (tmp_path / "m.py").write_text(text)
    (tmp_path / "u.py").write_text(OTHER)
    scan = store.scans.record(tmp_path, jobs=1)
    errors = {row.file_path: row.error for row in ScanFile.select().where(ScanFile.scan == scan)}
    assert errors["u.py"] is None and "\n" not in errors["m.py"]
    assert store.symbols.find("m", scan=scan) == [] and store.check() == []
