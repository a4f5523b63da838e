"""Resolution of trees that no one would write: cycles of every kind, and chains longer than the stack."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from random import Random

import pytest

from scanstore import resolve
from scanstore.indexing.python import PythonIndexer
from scanstore.indexing.reading import index
from scanstore.resolve import Module, Resolver, Target

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
        lines = random.choices(LINES[:7], k=random.randint(1, most)) + random.choices(LINES[7:], k=random.randint(1, most))
        module = "".join(lines)
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
