"""What a call may mean if the code chooses between values, or keeps them in containers."""

from __future__ import annotations

import pytest

from scanstore.indexing.files import index
from scanstore.indexing.python.indexer import PythonIndexer
from scanstore.snapshots.resolver import Module, Resolver

A = "class A:\n    def go(self): ...\nclass B:\n    def go(self): ...\n"
VALUES = {
    "def f(c):\n    x = A() if c else B()\n    x.go()": {"A.go", "B.go"},
    "def f(y):\n    x = y or A()\n    x.go()": {"A.go"},
    "def f(a: A, b: B):\n    (a and b).go()": {"B.go"},
    "def f(a: A):\n    return a and B()\nf(A()).go()": {"B.go"},
    "for q in [A(), A()]:\n    q.go()": {"A.go"},
    "for q in [A(), B()]:\n    q.go()": {"A.go", "B.go"},
    "{'a': A()}['a'].go()": {"A.go"},
    "def f(y):\n    [A() for x in y][0].go()": {"A.go"},
    "def f(y):\n    {x: A() for x in y}['a'].go()": {"A.go"},
    "def f(z):\n    for a in (A() for _ in z):\n        a.go()": {"A.go"},
    "def f(xs: list[A]):\n    for n, a in enumerate(xs):\n        a.go()": {"A.go"},
    "def f(xs: list[A], ys: list[B]):\n    for a, b in zip(xs, ys):\n        b.go()": {"B.go"},
    "def f(xs: list[A]):\n    for a in reversed(sorted(list(xs))):\n        a.go()": {"A.go"},
    "def f(xs: list[A]):\n    next(iter(xs)).go()": {"A.go"},
    "def f(xs: list[A]):\n    for a in filter(None, xs):\n        a.go()": {"A.go"},
    "def f(d: dict[str, A]):\n    for k, a in d.items():\n        a.go()": {"A.go"},
    "def f(d: dict[str, list[A]]):\n    d['a'][0].go()": {"A.go"},
    "def f(xs: list[A]):\n    for a in xs[1:]:\n        a.go()": {"A.go"},
    "from typing import Union\nAB = Union[A, B]\ndef f(x: AB):\n    x.go()": {"A.go", "B.go"},
    "AB = A | B\ndef f(x: AB):\n    x.go()": {"A.go", "B.go"},
    "from typing import Union\nAB = Union[A, 'AB']\ndef f(x: AB):\n    x.go()": {"A.go"},
    "[1, 2][0].go()": set(),
    "def f(y):\n    [y][0].go()": set(),
}


@pytest.mark.parametrize("main", VALUES)
def test_a_value_that_is_chosen_or_kept_in_a_container(main: str) -> None:
    facts = index(PythonIndexer(), (A + main).encode(), path="main.py", module="main")
    assert facts.error is None
    path = max((row for row in facts.references if row[2] == "call"), key=lambda row: row[0])[4]
    value = None
    if path is not None and not facts.strings[path].startswith("*."):
        value, _, guessed = Resolver({"main": Module(0, facts.interface or b"")}).evaluate(facts.strings[path])
        assert not guessed
    members = [] if value is None or value[0] == "x" else value[1] if value[0] == "|" else [value]
    assert {each[2] for each in members} == VALUES[main]
