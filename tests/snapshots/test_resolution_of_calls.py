"""The targets of calls: the smallest input of each kind."""

from __future__ import annotations

import textwrap

import pytest

from scanstore.indexing.facts import EXTERNAL
from scanstore.indexing.files import index
from scanstore.indexing.python.indexer import PythonIndexer
from scanstore.snapshots.resolver import Module, Resolver


def called(main: str, **others: str) -> set[str]:
    """What the last call in a module may mean: qualified names, or ``external`` or ``unresolved``.

    Names after a question mark are guesses.
    """
    modules: dict[str, Module] = {}
    names: dict[str, list[str]] = {}
    for version, (name, text) in enumerate({**others, "main": main}.items()):
        facts = index(PythonIndexer(), textwrap.dedent(text).encode(), path=name + ".py", module=name)
        assert facts.error is None, facts.error
        modules[name] = Module(version, facts.interface or b"")
        names[name] = [facts.strings[symbol[1]] for symbol in facts.symbols]
    calls = [row for row in facts.references if row[2] == "call"]
    _, _, _, _, path, ordinal, resolution, _ = max(calls, key=lambda row: row[0])
    if ordinal is not None:
        return {names["main"][ordinal]}
    if path is None:
        return {"external" if resolution == EXTERNAL else "unresolved"}
    resolver = Resolver(modules)
    targets = resolver.target(facts.strings[path])
    if not targets:
        return {"external"}
    target = targets[0]
    if target.version is None or target.ordinal is None:
        return {"unresolved"}
    if facts.strings[path].startswith("*."):
        return {"?" + names[list(modules)[target.version]][target.ordinal]}
    value, _, guessed = resolver.evaluate(facts.strings[path])
    assert value is not None
    members = value[1] if value[0] == "|" else [value]
    return {f"{'?' if guessed else ''}{each[1]}.{each[2]}" for each in members}


OUTSIDE = {
    "import json\njson.loads('1')": "external",
    "import json\njson.loads('1').get(1)": "unresolved",
    "import copy\nclass A:\n    def go(self): ...\ncopy.copy(A()).go(1)": "unresolved",
    "class A:\n    def go(self): ...\nmax([A()]).go(1)": "?main.A.go",
    "import copy as c\nc.copy(1).get(1)": "unresolved",
    "def f(items):\n    max(items).append(1)": "unresolved",
    "from ext import Registry\nr = Registry()\nr.get('x')()": "unresolved",
    "from ext import registry\nregistry['x']()": "unresolved",
    "from ext import registry\nregistry.get('x')()": "unresolved",
    "def f(x: dict):\n    x['a'].append()": "unresolved",
    "[].append(1)": "external",
    "[].pop()()": "unresolved",
    "''.join([]).strip().upper()": "external",
    "open('x').read().strip()": "external",
    "repr(1).strip()": "external",
    "with open('x') as f:\n    for line in f:\n        line.strip().upper()": "external",
    "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(1, 2)": "external",
    "import ext\nclass T(ext.Base):\n    def test(self):\n        self.client.get(1)": "unresolved",
    "from typing import TypeVar\nT = TypeVar('T')\ndef f(x: T):\n    x.append(1)": "unresolved",
    "def f(x: object):\n    x.go()": "unresolved",
    "def f(x: Exception):\n    x.go(x.with_traceback())": "unresolved",
    "def f(x: Exception):\n    x.with_traceback(1)": "external",
    "from star import *\nlist().append(1)": "external",
    "from star import *\nstr().strip().upper()": "external",
    "from star import *\nmax([]).append()": "unresolved",
}


@pytest.mark.parametrize("main", OUTSIDE)
def test_external_is_what_is_proven_to_be_outside(main: str) -> None:
    assert called(main, star="") == {OUTSIDE[main]}


BOTH = {"a": "class X:\n    def go(self): ...\ndef f(): ...\n", "b": "class X:\n    def go(self): ...\ndef f(): ...\n"}


def test_self_is_the_class_around_it_whatever_its_name_holds_later() -> None:
    text = "class Base:\n    def b(self): ...\n    @classmethod\n    def c(cls): ...\n"
    later = "from ext import deco\nfor C in deco: ...\n" + text + "class C(Base):\n"
    assert called(f"{later}    def b(self): ...\n    def a(self):\n        self.b()") == {"main.C.b"}
    assert called(f"{later}    def b(self): ...\n    def a(self):\n        super().b()") == {"main.Base.b"}
    assert called(f"{later}    @classmethod\n    def a(cls):\n        cls.c()") == {"main.Base.c"}
    assert called(f"{later}    def b(self): ...\nC().b()") == {"?main.C.b"}


CANDIDATES = {
    "if TYPE_CHECKING:\n    from a import X\nelse:\n    X = None\nX().go()": {"a.X.go"},
    "if TYPE_CHECKING:\n    from a import X\nelse:\n    from b import X\nX().go()": {"a.X.go", "b.X.go"},
    "try:\n    import a as x\nexcept ImportError:\n    import b as x\nx.f()": {"a.f", "b.f"},
    "try:\n    import ext as x\nexcept ImportError:\n    import b as x\nx.f()": {"b.f"},
    "try:\n    from a import f\nexcept ImportError:\n    def f(): ...\nf()": {"a.f", "main.f"},
    "try:\n    from ext import f\nexcept ImportError:\n    def f(): ...\nf()": {"main.f"},
    "def main():\n    try:\n        from a import f\n    except ImportError:\n        def f(): ...\n    f()": {
        "a.f",
        "main.main.<locals>.f",
    },
    "def main():\n    if 1:\n        from a import f\n    else:\n        from b import f\n    f()": {"a.f", "b.f"},
    "from both import f\nf()": {"a.f", "both.f"},
    "import both\nboth.f()": {"a.f", "both.f"},
    "from both import g\ng()": {"a.f", "b.f"},
    "import both\nboth.m.X().go()": {"a.X.go", "b.X.go"},
    "if 1:\n    def f(): return A()\nelse:\n    def f(): return B()\nf()": {"main.f", "main.0@1f"},
    "from both import two\ntwo().go()": {"a.X.go", "b.X.go"},
    "if 1:\n    @overload\n    def f(): ...\n    @overload\n    def f(): ...\n    def f(): ...\nf()": {"main.f"},
    "def f(): ...\ndef f(): ...\nf()": {"main.f"},
    "def f(): ...\nif 1:\n    def f(): ...\nf()": {"main.f", "main.0@1f"},
    "if 1:\n    def f(): ...\ndef f(): ...\nf()": {"main.f"},
    "from both import guess\nguess()": {"?both.guess"},
}


@pytest.mark.parametrize("main", CANDIDATES)
def test_a_name_with_several_bindings_may_be_each(main: str) -> None:
    both = (
        "try:\n    from a import f, f as g\n    import a as m\nexcept ImportError:\n    def f(): ...\n"
        "    from b import f as g\n    import b as m\n"
        "def guess(): ...\nfor guess in []: ...\n"
        "import a, b\nif 1:\n    def two(): return a.X()\nelse:\n    def two(): return b.X()\n"
    )
    assert called(main, both=both, **BOTH) == CANDIDATES[main]


def test_modules_that_import_each_other_in_both_branches_are_resolved() -> None:
    text = "try:\n    from m{} import f\nexcept ImportError:\n    from m{} import f\nf()\n"
    modules = {f"m{n}": text.format((n + 1) % 200, (n * 7 + 3) % 200) for n in range(200)}
    modules["m150"] = "def f(): ..."
    interfaces: dict[str, Module] = {}
    for version, (name, source) in enumerate(modules.items()):
        facts = index(PythonIndexer(), source.encode(), path=name + ".py", module=name)
        interfaces[name] = Module(version, facts.interface or b"")
    for path in ("m0:.f", "=m0:.f"):
        (target,) = Resolver(interfaces).target(path)
        assert (target.version, target.resolution) == (150, "imported")
    del interfaces["m150"]
    for path in ("m0:.f", "=m0:.f"):
        targets = Resolver(interfaces).target(path)
        assert not targets or targets[0].version is None


A = "class A:\n    def go(self): ...\n    def me(self): return self\nclass B:\n    def go(self): ...\n"
RESULTS = {
    "def make(): return A()\nmake().go()": {"A.go"},
    "def make():\n    a = A()\n    return a\nmake().go()": {"A.go"},
    "def make(x):\n    if x: return A()\n    return B()\nmake(1).go()": {"A.go", "B.go"},
    "def make(x):\n    if x: return None\n    if not x: return\n    return A()\nmake(1).go()": {"A.go"},
    "def make(x):\n    return x.go()\nmake(1).go()": {"unresolved"},
    "def make(n):\n    return make(n - 1) if n else A()\nmake(1).go()": {"A.go"},
    "def make(n):\n    if n: return make(n - 1)\n    return A()\nmake(1).go()": {"A.go"},
    "def odd(n): return even(n - 1)\ndef even(n):\n    return odd(n)\nodd(1).go()": {"unresolved"},
    "async def make(): return A()\nasync def main():\n    (await make()).go()": {"A.go"},
    "def items(): yield A()\nfor a in items():\n    a.go()": {"A.go"},
    "def items():\n    yield A()\n    return B()\nfor a in items():\n    a.go()": {"A.go"},
    "def items(): yield A()\ndef more(): yield from items()\nfor a in more():\n    a.go()": {"A.go"},
    "def items(): yield A()\nitems().go()": {"external"},
    "def make():\n    def inner(): return A()\n    return inner\nmake()().go()": {"A.go"},
    "def pair(): return A(), 1\npair()[0].go()": {"A.go"},
    "A().me().me().go()": {"A.go"},
    "class C(A): \n    def only(self): ...\nC().me().only()": {"C.only"},
    "class C(A):\n    @property\n    def x(self): return B()\nC().x.go()": {"B.go"},
    "import functools\nclass C(A):\n    @functools.cached_property\n    def x(self): return B()\nC().x.go()": {"B.go"},
    "class C(A):\n    @classmethod\n    def make(cls): return cls()\n"
    "class D(C):\n    def go(self): ...\nD.make().go()": {"D.go"},
    "class C(A):\n    @classmethod\n    def a(cls): return cls.b()\n    @classmethod\n    def b(cls): return cls()\n"
    "class D(C):\n    def go(self): ...\nD.a().go()": {"D.go"},
    "class C(A):\n    def copy(self): return type(self)()\n"
    "class D(C):\n    def go(self): ...\nD().copy().go()": {"D.go"},
    "class C(A):\n    def part(self): return self.own()\n    def own(self): return A()\n"
    "class D(C):\n    def own(self): return B()\nD().part().go()": {"B.go"},
    "class C(A):\n    def pair(self): return self, 1\nC().pair()[0].go()": {"A.go"},
    "class C(A):\n    def either(self, x): return self if x else B()\nC().either(1).go()": {"A.go", "B.go"},
    "import functools\n@functools.lru_cache(maxsize=None)\ndef make(): return A()\nmake().go()": {"A.go"},
    "from contextlib import contextmanager\n@contextmanager\ndef opened(): yield A()\n"
    "with opened() as a:\n    a.go()": {"A.go"},
    "from contextlib import asynccontextmanager\n@asynccontextmanager\nasync def opened(): yield A()\n"
    "async def main():\n    async with opened() as a:\n        a.go()": {"A.go"},
    "from typing import *\nfrom contextlib import *\n@contextmanager\ndef opened() -> Generator[A, None, None]: ...\n"
    "with opened() as a:\n    a.go()": {"A.go"},
}


@pytest.mark.parametrize("main", RESULTS)
def test_the_result_of_a_function_without_annotation(main: str) -> None:
    for found in (called(A + main), called("from lib import A, B\n" + main, lib=A)):
        assert {name.removeprefix("main.").removeprefix("lib.") for name in found} == RESULTS[main]


PROTOCOLS = {
    "class D:\n    async def __aenter__(self): return A()\n"
    "async def f():\n    async with D() as d:\n        d.go()": "A",
    "class D(A):\n    async def __aenter__(self): return self\n"
    "async def f():\n    async with D() as d:\n        d.go()": "A",
    "class D(A):\n    def __enter__(self: 'T') -> 'T': ...\ndef f():\n    with D() as d:\n        d.go()": "A",
    "class D(A):\n    def __enter__(self) -> 'Self': ...\ndef f():\n    with D() as d:\n        d.go()": "A",
    "class D(A):\n    @classmethod\n    def make(cls: type[T]) -> T: ...\nclass E(D):\n    go = B.go\n"
    "def f():\n    D.make().go()": "A",
    "class D:\n    def __iter__(self): return self\n    def __next__(self): return A()\nfor d in D():\n    d.go()": "A",
    "class D:\n    def __iter__(self) -> 'E': ...\nclass E:\n    def __next__(self) -> A: ...\n"
    "for d in D():\n    d.go()": "A",
    "class D:\n    def __iter__(self):\n        yield A()\nfor d in D():\n    d.go()": "A",
    "class D:\n    def __getitem__(self, n): return A()\nfor d in D():\n    d.go()": "A",
    "class D:\n    def __aiter__(self): return self\n    async def __anext__(self): return A()\n"
    "async def f():\n    async for d in D():\n        d.go()": "A",
    "async def items():\n    yield A()\nasync def f():\n    async for d in items():\n        d.go()": "A",
    "class D:\n    async def __aiter__(self):\n        yield A()\n"
    "async def f():\n    async for d in D():\n        d.go()": "A",
    "class D:\n    def __iter__(self) -> 'D | E': ...\n    def __next__(self) -> A: ...\nclass E(D): ...\n"
    "for d in D():\n    d.go()": "A",
    "async def make() -> A: ...\nasync def f():\n    a = await make()\n    a.go()": "A",
}


@pytest.mark.parametrize("main", PROTOCOLS)
def test_with_and_for_ask_the_methods_of_their_protocol(main: str) -> None:
    assert called(A + main) == {f"main.{PROTOCOLS[main]}.go"}


DECLARED = {
    "class H:\n    def __init__(self):\n        self.x: A = C()\nH().x.go()": {"A", "C"},
    "class H:\n    x: A\n    def __init__(self):\n        self.x = C()\nH().x.go()": {"A", "C"},
    "class H:\n    x: A = C()\nH().x.go()": {"A", "C"},
    "class H:\n    def __init__(self):\n        self.x: 'A | None' = None\n"
    "        self.x = C()\nH().x.go()": {"A", "C"},
    "x: A = C()\nx.go()": {"A", "C"},
    "x: A = A()\nx.go()": {"A"},
    "x: A = outside()\nx.go()": {"A"},
    "x: Outside = C()\nx.go()": {"C"},
    "x: A = C()\nx = outside\nx.go()": {"A"},
    "x: list[A] = []\nx[0].go()": {"A"},
    "def f():\n    x: A = C()\n    x.go()": {"A", "C"},
    "def f():\n    x: A = make()\n    x.go()\ndef make(): return C()\nf()\ndef g(x: A = C()):\n    x.go()": {"A"},
}


@pytest.mark.parametrize("main", DECLARED)
def test_a_declared_type_and_the_assigned_one_both_count(main: str) -> None:
    text = "from ext import outside, Outside\n" + A + "class C(A):\n    def go(self): ...\n"
    assert called(text + main) == {f"main.{name}.go" for name in DECLARED[main]}


OTHERS = {
    "class M(type):\n    def go(cls): ...\nclass C(metaclass=M): ...\nC.go()": "M.go",
    "class M(type):\n    def go(cls): ...\nclass C(A, metaclass=M): ...\nC.go()": "A.go",
    "class M(type):\n    def make(cls) -> A: ...\nclass C(metaclass=M): ...\nclass D(C): ...\nD.make().go()": "A.go",
    "class M(type):\n    def go(cls): ...\nclass C(metaclass=M): ...\nC().go()": None,
    "class M(type):\n    def f(cls):\n        cls.g()\n    def g(cls): ...\nclass C(metaclass=M): ...\nC.f()": "M.f",
    "from functools import partial\np = partial(A, 1)\np().go()": "A.go",
    "import functools\ndef f(): ...\nfunctools.partial(f, 1)()": "f",
    "import functools\nclass C(A):\n    run = functools.partialmethod(A.go)\nC().run()": "A.go",
    "def partial(f): return A()\npartial(B).go()": "A.go",
    "from functools import partial\nclass C:\n    def __init__(self):\n        self.f = partial(self.run, 1)\n"
    "    def run(self): ...\n    def main(self):\n        self.f()": "C.run",
}


@pytest.mark.parametrize("main", OTHERS)
def test_metaclasses_and_partial(main: str) -> None:
    expected = OTHERS[main]
    assert called(A + main) == {f"main.{expected}" if expected else "unresolved"}


GENERIC = {
    "V = TypeVar('V', bound=A)\ndef f(x: V, n: type[V]) -> V: ...\ndef g(x: V):\n    x.go()": {"A.go"},
    "V = TypeVar('V', bound='A')\ndef f(x: V, n: type[V]) -> V: ...\ndef g(n: type[V]):\n    n().go()": {"A.go"},
    "def f(n: type[T]):\n    n()": {"unresolved"},
    "class Box(A, Generic[T]): ...\nBox[int]().go()": {"A.go"},
    "def ident(x: T) -> T: ...\nident(A()).go()": {"A.go"},
    "def ident(x: 'T') -> 'T': ...\nident(A()).go()": {"A.go"},
    "def ident(x: T | None = None) -> T: ...\na = A()\nident(a).go()": {"A.go"},
    "def first(xs: list[T]) -> T: ...\ndef f(xs: list[A]):\n    first(xs).go()": {"A.go"},
    "def new(n: int, kind: type[T]) -> T: ...\nnew(1, A).go()": {"A.go"},
    "def run(f: Callable[[], T]) -> T: ...\ndef make(): return A()\nrun(make).go()": {"A.go"},
    "def items(x: T) -> list[T]: ...\nfor a in items(A()):\n    a.go()": {"A.go"},
    "def value(d: dict[str, T]) -> Optional[T]: ...\ndef f(d: dict[str, A]):\n    value(d).go()": {"A.go"},
    "def ident(x: T) -> T: ...\nident(ident(ident(A()))).go()": {"A.go"},
    "def ident(x: T) -> T: ...\ndef wrap(x: T) -> T: return ident(x)\nwrap(A()).go()": {"A.go"},
    "class S:\n    def get(self, kind: type[T]) -> T: ...\nclass U:\n    def __init__(self):\n        self.s = S()\n"
    "    def f(self):\n        self.s.get(A).go()": {"A.go"},
    "def ident(x: T) -> T: ...\ndef f(x):\n    ident(x).go()": {"unresolved"},
    "def ident(x: T) -> T: ...\nident().go()": {"unresolved"},
    "def ident(x: T) -> T: ...\nident(*A()).go()": {"unresolved"},
    "def other(x: T) -> A: ...\nother(B()).go()": {"A.go"},
    "def pair(x: T) -> tuple[T, A]: ...\npair(B())[1].go()": {"A.go"},
    "def ident(x: T) -> T: ...\nC = ident(A)\nC().go()": {"A.go"},
    "def deco(f: T) -> T: ...\ndef f() -> A: return 1\nf = deco(f)\nf().go()": {"A.go"},
}


@pytest.mark.parametrize("main", GENERIC)
def test_the_result_has_the_type_of_an_argument(main: str) -> None:
    text = "from typing import *\nT = TypeVar('T')\n" + A
    functions, _, rest = main.rpartition("...\n") if "->" in main else ("", "", main)
    for found in (called(text + main), called("from lib import *\n" + rest, lib=text + functions + "...\n")):
        assert {name.removeprefix("main.").removeprefix("lib.") for name in found} == GENERIC[main]
