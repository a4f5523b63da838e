"""Local variables that are bound several times: what holds at the place of a call."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from scanstore import Store
from scanstore.models import SymbolReference

CLASSES = """
class A:
    def go(self): ...
    def turn(self) -> "B": ...
class B:
    def go(self): ...
    def turn(self) -> "A": ...
def read(x): ...
"""

# In each text, the call of ``go`` or ``turn`` that ``#!`` marks has the named targets; none: unresolved.
TEXTS = {
    "one after the other": ("t = A()\nt.go()\nt = B()\nt.go()  #! B.go", "t = A()\nt.go()  #! A.go\nt = B()"),
    "made of itself": (
        "t = A()\nt = t.turn()\nt.go()  #! B.go",
        "t = A()\nt = t.turn()\nt = t.turn()\nt.go()  #! A.go",
    ),
    "a parameter": ("def f(t):\n    t = A()\n    t.go()  #! A.go", "def f(t):\n    t.go()  #! -\n    t = A()"),
    "an annotated parameter": (
        "def f(t: A):\n    t = t.turn()\n    t.go()  #! B.go",
        "def f(t: A):\n    t.go()  #! A.go\n    t = B()",
    ),
    "branches": (
        "if x:\n    t = A()\n    t.go()  #! A.go\nelse:\n    t = B()",
        "if x:\n    t = A()\nelse:\n    t = B()\n    t.go()  #! B.go",
        "if x:\n    t = A()\nelif y:\n    t = y\nelse:\n    t = B()\nt.go()  #! -",
        "t = A()\nif x:\n    t = B()\n    return\nt.go()  #! A.go",
        "t = A()\nif x:\n    t = read(1)\n    raise t\nt.go()  #! A.go",
    ),
    "loops": (
        "t = read(0)\nfor x in y:\n    t = A()\n    t.go()  #! A.go\n    t = B()",
        "t = A()\nfor x in y:\n    t.go()  #! -\n    t = x",
        "for t in [A()]:\n    pass\nt = B()\nt.go()  #! B.go",
        "t = A()\nwhile x:\n    t = x\n    if x:\n        break\nt.go()  #! -",
    ),
    "errors": (
        "try:\n    t = A()\nexcept ValueError:\n    t = B()\n    t.go()  #! B.go",
        "try:\n    t = A()\nexcept ValueError:\n    t = x\nt.go()  #! -",
        "try:\n    t = A()\nexcept ValueError:\n    t = B()\n    raise\nt.go()  #! A.go",
        "t = A()\ntry:\n    t = x\nfinally:\n    t.go()  #! -",
    ),
    "other ways to bind": (
        "with open(x) as t:\n    pass\nt = A()\nt.go()  #! A.go",
        "t, u = A(), B()\nt.go()  #! A.go\nt = u",
        "t, u = A(), B()\nt = u\nt.go()  #! B.go",
        "t = B()\nif (t := A()):\n    pass\nt = A()\nt.go()  #! A.go",
        "match x:\n    case [t]:\n        pass\nt = A()\nt.go()  #! A.go",
    ),
    "not followed": (
        "t = A()\ndef inner():\n    nonlocal t\n    t = B()\nt.go()  #! -",
        "t = A()\ndef inner():\n    t.go()  #! -\nt = B()\ninner()",
    ),
}


def targets(store: Store, root: Path, body: str) -> tuple[str, str]:
    """Return the wanted target of the marked call in a function body, and the recorded ones."""
    if not body.startswith("def f"):
        body = "def f(x, y):\n" + textwrap.indent(body, "    ")
    text = CLASSES + body + "\n"
    (number,) = (n for n, line in enumerate(text.splitlines(), 1) if "#!" in line)
    wanted = text.splitlines()[number - 1].partition("#! ")[2]
    root.mkdir()
    (root / "m.py").write_text(text, encoding="utf-8")
    scan = store.scans.record(root)
    calls = SymbolReference.select().where(
        SymbolReference.scan == scan, SymbolReference.from_line == number, SymbolReference.reference_type == "call"
    )
    trusted = [
        row.symbol.qualified_name.removeprefix("m.")
        for row in calls
        if row.symbol is not None and row.resolution in ("exact", "imported", "inherited")
    ]
    return wanted, "".join(trusted) or "-"


@pytest.mark.parametrize("kind", TEXTS)
def test_the_binding_that_holds_decides(store: Store, tmp_path: Path, kind: str) -> None:
    for number, body in enumerate(TEXTS[kind]):
        wanted, found = targets(store, tmp_path / str(number), body)
        assert found == wanted, body
    assert store.check() == []
