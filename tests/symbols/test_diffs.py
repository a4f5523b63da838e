"""Which part of a symbol has changed between two scans, and what importers notice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scanstore import Store, errors
from scanstore.cli import main
from scanstore.db.words import BreakageKind
from scanstore.indexing.python.hashes import code_of
from scanstore.symbols import SymbolDiff

Run = Callable[..., Result]


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(":memory:") as opened:
        yield opened
        assert opened.check() == []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def ask(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, words)
        assert result.exit_code == code, result.output
        return result

    return ask


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


OLD = '''\
import functools


@functools.lru_cache
def price(net: int, rate: float = 0.2) -> float:
    """Return the gross price."""
    # the tax comes last
    total = net * (1 + rate)
    text = """
    # no comment
    """
    return total
'''


def diff(store: Store, tmp_path: Path, before: str, after: str, path: str = "m.py") -> SymbolDiff:
    first = store.scans.record(plant(tmp_path / "t", {path: before}))
    store.scans.record(plant(tmp_path / "t", {path: after}))
    return store.symbols.diff(first)


@pytest.mark.parametrize(
    "old, new, kinds",
    [
        ("gross price", "full price", {"docstring"}),
        ('    """Return the gross price."""\n', "", {"docstring"}),
        ("rate: float", "rate: int", {"signature"}),
        (" -> float", "", {"signature"}),
        ("def price", "async def price", {"signature"}),
        ("lru_cache", "lru_cache(None)", {"decorator"}),
        ("@functools.lru_cache\n", "", {"decorator"}),
        ("return total", "return total + 1", {"body"}),
        ("# no comment", "# a string", {"body"}),
        ("# the tax comes last", "# tax", {"formatting"}),
        ("    total", "\n\n    total", {"formatting"}),
        ("rate)\n", "rate)  # done\n", {"formatting"}),
        ("net: int, ", "net: int,\n    ", {"formatting"}),
        ("import functools\n", "import functools\n\n\n\n", set()),
    ],
)
def test_the_part_that_has_changed(store: Store, tmp_path: Path, old: str, new: str, kinds: set[str]) -> None:
    assert old in OLD
    found = diff(store, tmp_path, OLD, OLD.replace(old, new))
    assert [set(row.kinds) for row in found.changed] == ([kinds] if kinds else [])
    assert (found.added, found.removed, found.moved) == ([], [], [])


def test_several_parts(store: Store, tmp_path: Path) -> None:
    new = OLD.replace("gross", "full").replace("return total", "return 0").replace("0.2", "0.3")
    (row,) = diff(store, tmp_path, OLD, new).changed
    assert row.kinds == {"docstring", "body", "signature"}


def test_indentation_is_no_change_and_another_file_is_a_move(store: Store, tmp_path: Path) -> None:
    code = "def f():\n    if x:\n        return 1\n"
    inner = "if True:\n" + "".join(f"    {line}\n" for line in code.splitlines())
    assert diff(store, tmp_path, code, inner).changed == []
    inner = code.replace("        return", "    return").replace("if x:", "if x: pass")
    (row,) = diff(store, tmp_path, code, inner).changed
    assert row.kinds == {"body"}
    root = tmp_path / "t"
    (root / "m.py").unlink()
    plant(root, {"other.py": inner.replace("f():", 'f():\n    """Say more."""')})
    scan = store.scans.latest()
    store.scans.record(root)
    (row,) = store.symbols.diff(scan).moved
    assert row.kinds == {"moved", "docstring"} and (row.old_file, row.new_file) == ("m.py", "other.py")


def test_a_class_has_members_and_code_of_its_own(store: Store, tmp_path: Path) -> None:
    code = 'class A(B):\n    """Doc."""\n    x = 1\n    def f(self):\n        return 1\n    if T:\n        y = 2\n'
    found = diff(store, tmp_path, code, code.replace("return 1", "return 2"))
    assert {row.qualified_name: set(row.kinds) for row in found.changed} == {"m.A": {"members"}, "m.A.f": {"body"}}
    for old, new, kinds in (
        ("class A(B)", "class A(C)", {"signature"}),
        ("class A(B)", "class A(B, metaclass=M)", {"signature"}),
        ("Doc", "Text", {"docstring"}),
        ("if T", "if U", {"body"}),
        ("    if T", "    x = 3\n    if T", {"body"}),
    ):
        rows = diff(store, tmp_path, code, code.replace(old, new)).changed
        assert [(row.qualified_name, set(row.kinds)) for row in rows] == [("m.A", kinds)]


def test_values_over_several_lines_and_annotations_of_variables(store: Store, tmp_path: Path) -> None:
    code = "a: int = 1\nb = [\n    1,\n    2,  # two\n]\nc = d = 0; e = 5\n"
    for old, new, found in (
        ("    2,", "    3,", {"m.b": {"body"}}),
        ("# two", "# 2", {"m.b": {"formatting"}}),
        ("a: int", "a: float", {"m.a": {"signature"}}),
        ("e = 5", "e = 6  # five", {"m.e": {"body"}}),
    ):
        rows = diff(store, tmp_path, code, code.replace(old, new)).changed
        assert {row.qualified_name: set(row.kinds) for row in rows} == found


OVERLOADS = """\
from typing import overload


@overload
def f(x: int) -> int: ...
@overload
def f(x: str) -> str: ...
def f(x):
    return x


class P:
    @property
    def v(self) -> int:
        return 1

    @v.setter
    def v(self, value):
        pass
"""


def test_overloads_and_accessors_are_one_symbol(store: Store, tmp_path: Path) -> None:
    (row,) = diff(store, tmp_path, OVERLOADS, OVERLOADS.replace("x: str", "x: bytes")).changed
    assert (row.qualified_name, row.kinds, row.new_line) == ("m.f", {"signature"}, 8)
    (row,) = diff(store, tmp_path, OVERLOADS, OVERLOADS.replace("@overload\ndef f(x: str) -> str: ...\n", "")).changed
    assert row.kinds == {"signature"}
    new = OVERLOADS.replace("    @v.setter\n    def v(self, value):\n        pass\n", "")
    found = {row.qualified_name: row.kinds for row in diff(store, tmp_path, OVERLOADS, new).changed}
    assert found == {"m.P": {"members"}, "m.P.v": {"signature"}}
    assert [row.kind for row in store.symbols.breaking(store.scans.list()[1])] == ["setter_removed"]


def test_symbols_of_ctags_have_text_and_a_signature(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "t"
    for number in range(2):
        plant(root, {"a.zig": f"fn f() {{ {number} }}\n"})
        tag = {"_type": "tag", "name": "f", "path": "a.zig", "line": 1, "end": 1, "kind": "function", "signature": "()"}
        (tmp_path / "tags").write_text(json.dumps(tag) + "\n")
        store.scans.record(root, ctags=tmp_path / "tags")
    assert [row.kinds for row in store.symbols.diff(1, 2).changed] == [{"text"}]
    plant(root, {"a.zig": "fn f(x) { 1 }\n"})
    (tmp_path / "tags").write_text(json.dumps({**tag, "signature": "(x)"}) + "\n")
    store.scans.record(root, ctags=tmp_path / "tags")
    (row,) = store.symbols.diff(2, 3).changed
    assert "signature" in row.kinds
    (broken,) = store.symbols.breaking(2, 3)
    assert (broken.kind, broken.old, broken.new) == ("signature_changed", "()", "(x)")


def test_symbols_without_text_are_unknown(store: Store) -> None:
    scans = []
    for number in range(2):
        scan = store.scans.add("hand")
        symbols = [{"name": "f"}, {"name": "g", "text": "one"}, {"name": "h", "text": f"{number}"}]
        store.symbols.record_file(scan, "a.c", f"{number}", symbols=symbols)
        scans.append(store.scans.finish(scan))
    found = {row.qualified_name: row.kinds for row in store.symbols.diff(*scans).changed}
    assert found == {"f": {"unknown"}, "h": {"text"}}
    assert store.symbols.breaking(*scans) == []


def test_filters(store: Store, tmp_path: Path) -> None:
    first = store.scans.record(plant(tmp_path / "t", {
        "p/__init__.py": "from ._a import Shown\n__all__ = ['Shown']\n",
        "p/_a.py": "class Shown:\n    def f(self): return 1\n    def _g(self): return 1\ndef hidden(): return 1\n",
        "q.py": "def open_(): return 1\n_x = 1\n",
    }))  # fmt: skip
    root = tmp_path / "t"
    for path in ("p/_a.py", "q.py"):
        (root / path).write_text((root / path).read_text().replace("1", "2"))
    store.scans.record(root)
    ask = store.symbols.diff
    assert {row.qualified_name for row in ask(first, public=True).changed} == {
        "p._a.Shown", "p._a.Shown.f", "q.open_"}  # fmt: skip
    assert {row.qualified_name for row in ask(first, paths=["q.py"]).changed} == {"q.open_", "q._x"}
    assert {row.qualified_name for row in ask(first, paths=["p/**"], symbol_types=["function"]).changed} == {
        "p._a.hidden"}  # fmt: skip
    assert {row.qualified_name for row in ask(first, changes=["members"]).changed} == {"p._a.Shown"}
    assert ask(first, changes=["added"]) == ([], [], [], [])
    for wrong in ({"changes": ["x"]}, {"symbol_types": ["x"]}, {"public": 1}, {"paths": [3]}):
        with pytest.raises(errors.InvalidArgument):
            ask(first, **wrong)  # type: ignore[arg-type]
    for compare in (store.symbols.diff, store.symbols.breaking):
        for paths in (["t/q.py"], ["q.py", "none/**"]):
            with pytest.raises(errors.InvalidArgument, match="matches .*; patterns are relative to the root"):
                compare(first, paths=paths)


CASES: list[tuple[str, str, list[tuple[BreakageKind, str, str, str]]]] = [
    ("def f(a): ...", "def g(a): ...", [("removed", "m.f", "(a)", "")]),
    ("def f(a): ...", "def f(b): ...", [("parameter_renamed", "m.f(a)", "a", "b")]),
    ("def f(a): ...", "def f(): ...", [("parameter_removed", "m.f(a)", "a", "")]),
    ("def f(a): ...", "def f(*args, **kw): ...", []),
    ("def f(*, a=1): ...", "def f(**kw): ...", []),
    ("def f(a): ...", "def f(a, b): ...", [("parameter_added_required", "m.f(b)", "", "b")]),
    ("def f(a): ...", "def f(a, b=1, *c, **d): ...", []),
    ("def f(a=1): ...", "def f(a): ...", [("parameter_became_required", "m.f(a)", "a=1", "a")]),
    ("def f(a=1): ...", "def f(a=2): ...", [("parameter_default_changed", "m.f(a)", "a=1", "a=2")]),
    ("def f(a='x'): ...", 'def f(a="x"): ...', []),
    ("def f(a, b): ...", "def f(b, a): ...", [
        ("parameter_moved", "m.f(a)", "a at place 1", "a at place 2"),
        ("parameter_moved", "m.f(b)", "b at place 2", "b at place 1")]),
    ("def f(a): ...", "def f(*, a): ...", [
        ("parameter_kind_changed", "m.f(a)", "a (positional or keyword)", "a (keyword only)")]),
    ("def f(a, /): ...", "def f(a): ...", []),
    ("def f() -> int: ...", "def f() -> str: ...", [("return_changed", "m.f", "int", "str")]),
    ("def f() -> Optional['A']: ...", "def f() -> A | None: ...", []),
    ("def f() -> t.List[int]: ...", "def f() -> list[int]: ...", []),
    ("def f(): ...", "async def f(): ...", [("async_changed", "m.f", "def", "async def")]),
    ("class A: ...", "def A(): ...", [("kind_changed", "m.A", "class", "function")]),
    ("class A:\n    @property\n    def v(self): ...", "class A:\n    def v(self): ...", [
        ("kind_changed", "m.A.v", "attribute", "function")]),
    ("class A(B, C): ...", "class A(C): ...", [("base_removed", "m.A", "B", "C")]),
    ("class B: ...\nclass A(B): ...", "class B: ...\nclass C(B): ...\nclass A(C): ...", []),
    ("class A:\n    def f(self): ...", "class B:\n    def f(self): ...\nclass A(B): ...", []),
    ("class A:\n    def f(self): ...", "class A: ...", [("removed", "m.A.f", "(self)", "")]),
    ("class A:\n    def f(self): ...", "x = 1", [("removed", "m.A", "", "")]),
    ("LIMIT = 1", "LIMIT = 2", [("value_changed", "m.LIMIT", "1", "2")]),
    ("LIMIT: int = 1", "LIMIT: str = 1", [("type_changed", "m.LIMIT", "int", "str")]),
    ("def _f(a): ...\n_x = 1", "y = 1", []),
    ("__all__ = ['g']\ndef g(): ...\ndef f(): ...", "__all__ = ['g']\ndef g(): ...", []),
    ("__all__ = ['g']\n__all__ += ['f']\ndef g(): ...\ndef f(): ...", "__all__ = ['g']\ndef g(): ...", [
        ("removed", "m.f", "()", "")]),
    ("def f(a): ...", "from other import f", []),
    ("def f(a):\n    return 1", "def f(a):\n    'Doc.'\n    return 2", []),
]  # fmt: skip


@pytest.mark.parametrize("old, new, found", CASES)
def test_what_importers_notice(
    store: Store, tmp_path: Path, old: str, new: str, found: list[tuple[BreakageKind, str, str, str]]
) -> None:
    diff(store, tmp_path, old + "\n", new + "\n")
    rows = store.symbols.breaking(1)
    assert [(row.kind, row.name, row.old, row.new) for row in rows] == found
    assert store.symbols.breaking(1, 1) == []


def test_a_moved_function_that_is_imported_where_it_was_breaks_nothing(store: Store, tmp_path: Path) -> None:
    code = "def f(a):\n    return a\n"
    root = plant(tmp_path / "t", {"p/__init__.py": "from .one import f\n", "p/one.py": code, "p/two.py": ""})
    first = store.scans.record(root)
    plant(root, {"p/__init__.py": "from .two import f\n", "p/one.py": "from .two import *\n", "p/two.py": code})
    second = store.scans.record(root)
    assert [row.qualified_name for row in store.symbols.diff(first).moved] == ["p.two.f"]
    assert store.symbols.breaking(first) == []
    plant(root, {"p/__init__.py": "from .two import f\n", "p/one.py": "", "p/two.py": code.replace("(a)", "(a, b)")})
    store.scans.record(root)
    assert [(row.kind, row.name) for row in store.symbols.breaking(second)] == [
        ("parameter_added_required", "p.f(b)")]  # fmt: skip
    assert ("removed", "p.one.f") in [(row.kind, row.name) for row in store.symbols.breaking(first)]


def test_circles_of_imports_and_bases(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {
        "p/__init__.py": "from .a import *\nfrom .a import x, A\n", "p/a.py": "from .b import *\nfrom .b import x, A\n",
        "p/b.py": "from .a import *\nfrom .a import x\nclass A(A): ...\nclass B(C): ...\nclass C(B):\n    D = B\n",
    })  # fmt: skip
    store.scans.record(root)
    plant(root, {"p/b.py": "from .a import *\nfrom .a import x\nclass A(A): ...\nclass B(C): ...\nclass C(B): ...\n"})
    store.scans.record(root)
    assert [(row.kind, row.name) for row in store.symbols.breaking(1)][:1] == [("removed", "p.B.D")]


def test_the_gate(run: Run, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"m.py": "def f(a):\n    return 1\n", "n.py": "def g(): ...\n"})
    run("scan", "t")
    plant(root, {"m.py": "def f(a):\n    return 2\n"})
    run("scan", "t")
    assert "no breaking change" in run("symbols", "diff", "--breaking").stderr
    assert run("symbols", "diff").stdout.split("\t")[:2] == ["changed", "body"]
    plant(root, {"m.py": "def f(b):\n    return 2\n"})
    run("scan", "t")
    result = run("symbols", "diff", "--breaking", "--json", code=1)
    assert [(row["kind"], row["old"], row["new_line"]) for row in json.loads(result.stdout)] == [
        ("parameter_renamed", "a", 1)]  # fmt: skip
    assert "1 breaking change" in result.stderr
    assert "no breaking change" in run("symbols", "diff", "--breaking", "--path", "n.py").stderr
    plant(root, {"m.py": "def f(b:\n"})
    run("scan", "t")
    result = run("symbols", "diff", "--breaking", code=1)
    assert "cannot be decided, because 1 file could not be compared" in result.stderr
    assert "not compared" in result.stdout
    assert run("symbols", "diff", "--breaking", "--change", "body", code=2)


def test_comments_are_told_from_strings() -> None:
    assert code_of(["x = '#'  # a"]) == "x = '#'"
    assert code_of(["    x = 1", "", "    # a", "    if x:", "        y = 2  "]) == "x = 1\nif x:\n    y = 2"
    assert code_of(["x = '''a # b", "", " ''' # c"]) == "x = '''a # b\0\0 '''"
    assert code_of(['x = f"{a["b # c"]}" # d']) == 'x = f"{a["b # c"]}" # d'  # unclear without a parser
    assert code_of(["x = " + "\"'" * 50_000 + "#"])  # linear
