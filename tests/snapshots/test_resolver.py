"""Resolution of trees that no one would write: cycles of every kind, and chains longer than the stack."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from random import Random

import pytest

from scanstore.indexing.files import index
from scanstore.indexing.python.indexer import PythonIndexer
from scanstore.snapshots import resolver as resolve
from scanstore.snapshots.c3 import merged
from scanstore.snapshots.interfaces import Found
from scanstore.snapshots.resolver import BoundTarget, Module, Resolver, Targets

NAMES = ["a", "b", "c", "A", "B", "C"]
#: Lines of a module; N, O and P are replaced by names, I and J by the numbers of modules.
LINES = [
    *["from mI import *\n", "from mI import N\n", "from mI import N as O\n", "import mI\n", "from p import *\n"],
    "from p.mI import N\n",
    "try:\n    from mI import N\nexcept ImportError:\n    from mJ import N\n",
    "class N(O, P):\n    pass\n",
    "class N(mI.O, mJ.P):\n    def a(self) -> O: return O()\n    def b(self): return self.c\n",
    "class N(O):\n    def __init__(self):\n        self.a = O()\n        self.b = self.a.c\n        self.c = P().a\n",
    "class N:\n    def __call__(self) -> O: ...\n    def __getitem__(self, key) -> P: ...\n    def a(self): pass\n",
    "class N:\n    def __iter__(self) -> list[O]: ...\n    def b(self) -> P: ...\n",
    "class N(O):\n    class A(P): pass\n    @property\n    def b(self) -> O: ...\n",
    "class N(O.A, P.B):\n    def c(self): return super().c()\n",
    *["def N() -> O: ...\n", "def N():\n    return O()\n", "def N():\n    return O\n", "def N() -> list[O]: ...\n"],
    *["N = O\n", "N = O()\n", "N = O.P\n", "N = O[0]\n", "N = [O]\n", "N = {1: O()}\n", "N = O()().P\n", "N = mI.O\n"],
    "for N in O: pass\n",
    "def use():\n    N().O()\n    O[0].P()\n    mI.N.O.P()\n    for x in N():\n        x.O()\n",
    "def a():\n    with N() as x:\n        x.b()\n        x().c()\n",
]


def hostile(random: Random, count: int, most: int = 4) -> dict[str, str]:
    """The modules of a tree that is mostly cycles, by dotted name; `most` imports and definitions in each."""

    def text() -> str:
        imports = random.choices(LINES[:7], k=random.randint(1, most))
        module = "".join(imports + random.choices(LINES[7:], k=random.randint(1, most)))
        for letter in "NOP":
            while f"{letter}" in module.replace("None", ""):
                place = module.index(letter)
                module = module[:place] + random.choice(NAMES) + module[place + 1 :]
        for letter in "IJ":
            while (place := module.find(f"m{letter}")) >= 0:
                module = f"{module[:place]}m{random.randrange(count)}{module[place + 2 :]}"
        return module + "a()\nb.c()\nA().a()\nB().b.c()\n"

    tree = {f"m{n}": text() for n in range(count)}
    tree["p"] = "from .m0 import *\nfrom .m1 import A\nfrom m0 import *\n"
    tree.update({f"p.m{n}": "from . import *\nfrom p import B\n" + text() for n in range(2)})
    return tree


def read(tree: dict[str, str]) -> tuple[dict[str, Module], list[str]]:
    """The interfaces of a tree, and the paths in it."""
    modules: dict[str, Module] = {}
    paths: set[str] = set()
    for version, (name, text) in enumerate(tree.items()):
        file = name.replace(".", "/") + ("/__init__.py" if name == "p" else ".py")
        facts = index(PythonIndexer(), text.encode(), path=file, module=name)
        assert facts.error is None, text
        modules[name] = Module(version, facts.interface or b"")
        paths.update(facts.strings[r[4]] for r in facts.references if r[4] is not None)
        paths.update(facts.strings[r[3]] for r in facts.imports if r[3] is not None)
    return modules, sorted(paths)


def answers(modules: dict[str, Module], paths: list[str]) -> dict[str, Targets]:
    resolver = Resolver(modules)
    return {path: resolver.target(path) for path in paths}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many steps were evaluated since the last call."""
    counted = 0
    real = Resolver.step

    def step(resolver: Resolver, path: str) -> Found:
        nonlocal counted
        counted += 1
        return real(resolver, path)

    def since() -> int:
        nonlocal counted
        before, counted = counted, 0
        return before

    monkeypatch.setattr(Resolver, "step", step)
    return since


def stars(count: int) -> dict[str, str]:
    return {
        f"m{n}": f"from m{(n + 1) % count} import *\nfrom m{(n * 7 + 3) % count} import *\n"
        f"def f{n}():\n    thing()\n    f{n * 3 % count}()\n"
        for n in range(count)
    }


def classes(count: int) -> dict[str, str]:
    """Each inherits from all others."""
    others = {n: [m for m in range(count) if m != n] for n in range(count)}
    return {
        f"m{n}": "".join(f"from m{m} import C{m}\n" for m in others[n])
        + f"class C{n}({', '.join(f'C{m}' for m in others[n])}):\n"
        f"    def own{n}(self):\n        self.missing()\n        self.own{(n + 1) % count}()\n"
        for n in range(count)
    }


def attributes(count: int) -> dict[str, str]:
    """Attributes and calls of each are typed by two others."""
    return {
        f"m{n}": f"import m{(n + 1) % count}\nimport m{(n * 7 + 3) % count}\nclass A:\n    def __init__(self):\n"
        f"        self.x = m{(n + 1) % count}.A().y\n        self.y = m{(n * 7 + 3) % count}.A().x\n"
        f"    def __call__(self) -> m{(n + 1) % count}.A: ...\n"
        f"    def z(self):\n        self.x.run()\n        self.y.x.z()\n        self().y.z()\n"
        for n in range(count)
    }


@pytest.mark.parametrize("tree", [stars(60), classes(40), attributes(60)], ids=["stars", "classes", "attributes"])
def test_trees_of_cycles_take_polynomial_time(tree: dict[str, str], steps: Callable[[], int]) -> None:
    modules, paths = read(tree)
    answers(modules, paths)
    assert steps() < 40 * len(modules) * len(paths)


def test_no_kind_of_cycle_takes_exponential_time(steps: Callable[[], int]) -> None:
    for seed in range(12):
        random = Random(seed)
        count = random.randint(20, 40)
        modules, paths = read(hostile(random, count, random.choice((4, 10, 20))))
        resolver = Resolver(modules)
        for path in paths:
            resolver.target(path)
            assert steps() < 100 * count, (seed, path)


def test_names_are_found_through_cycles() -> None:
    modules, paths = read(stars(20))
    found = answers(modules, paths)
    versions = {module.version for module in modules.values()}
    for n in range(20):
        (at,) = found[f"m{n}:.f{n * 3 % 20}"] if n * 3 % 20 != n else [BoundTarget(n, 1, "", 0)]
        assert at.version == modules[f"m{n * 3 % 20}"].version in versions
        assert found[f"m{n}:.thing"] == resolve.UNRESOLVED
    modules, paths = read(classes(6))
    found = answers(modules, paths)
    for n in range(6):
        (inherited,) = found[f"m{n}:.C{n}().own{(n + 1) % 6}"]
        assert (inherited.version, inherited.resolution) == ((n + 1) % 6, "inherited")


def test_a_value_beyond_a_cut_is_found_in_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the way to ``a:.X``, ``b:.X`` is met, which leads back and so is unknown. In the end it is the same class."""
    modules, paths = read(
        {
            "a": "from h import *\nfrom b import *\n",
            "b": "from a import *\n",
            "h": "import b\nclass X:\n    def make(self) -> b.X: ...\n    def go(self): ...\n",
            "use": "import a\na.X().make().go()\n",
        }
    )
    path = "a:.X().make().go"
    (target,) = Resolver(modules).target(path)
    assert path in paths and target == BoundTarget(modules["h"].version, modules["h"].names["X.go"][1], "imported", 90)
    monkeypatch.setattr(resolve, "MOST_ROUNDS", 1)
    assert Resolver(modules).target(path) == resolve.UNRESOLVED


def test_how_deep_the_stack_may_be_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(25):
        random = Random(seed)
        modules, paths = read(hostile(random, random.randint(2, 9), random.choice((3, 8))))
        expected = answers(modules, paths)
        for deepest in (1, 2, 3):
            monkeypatch.setattr(resolve, "DEEPEST", deepest)
            assert answers(modules, paths) == expected, seed
        monkeypatch.undo()


def test_a_long_chain_takes_little_memory() -> None:
    lines = "".join(f"a{n + 1} = a{n}\n" for n in range(20_000))
    modules, _ = read({"m": f"class A:\n    def run(self): pass\na0 = A()\n{lines}a20000.run()\n"})
    assert modules["m"].names
    tracemalloc.start()
    (target,) = Resolver(modules).target("m:.a20000.run")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert target.version == 0
    assert peak < 20_000_000


def test_a_class_with_many_long_orders_is_merged_at_once() -> None:
    chains = [[(f"m{n}", "C"), *[("m", f"C{m}") for m in range(249)]] for n in range(400)]
    start = time.process_time()
    order = merged([*chains, [chain[0] for chain in chains]], 250)
    assert time.process_time() - start < 2
    assert order == [chain[0] for chain in chains][:250]


def test_orders_are_those_of_python() -> None:
    class A: ...

    class B(A): ...

    class C(A): ...

    class D(C, B): ...

    class E(B): ...

    class F(D, E): ...

    def named(kind: type) -> list[tuple[str, str]]:
        return [("m", each.__name__) for each in kind.__mro__[:-1]]

    for kind in (B, D, E, F):
        bases = [named(base) for base in kind.__bases__]
        assert merged([*bases, [base[0] for base in bases]], 250) == named(kind)[1:]
    assert merged([named(A), named(B), [("m", "A"), ("m", "B")]], 250) == [("m", "A"), ("m", "B")]  # Python refuses it
