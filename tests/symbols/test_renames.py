"""Previews of renames: the places that must change, those that may have to, and the names that are refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scanstore import Store
from scanstore.cli import main
from scanstore.errors import InvalidArgument
from scanstore.symbols.renames import RenamePlace

Record = Callable[[dict[str, str]], Store]

SHOP = {
    "shop.py": """\
from typing import overload
import threading
__all__ = ["price", "Shop"]
@overload
def price(a: int) -> int: ...
@overload
def price(a: str) -> str: ...
def price(a):
    return a
class Shop:
    limit = 3
    # the total of it, see `total`
    def total(self):
        return price(self.limit)
class Big(Shop, threading.Thread):
    def total(self):
        return super().total()
class Bigger(Big):
    def total(self):
        return 1
class Other:
    def total(self): pass
def f(x):
    return x.total(limit=3)
""",
    "use.py": """\
from shop import price as p, Shop
from shop import price
import shop
p(1)
price(2)
shop.price(3)
Shop().total()
getattr(shop, "price")
print("the price is")
print("call price() here", 1)
Shop(limit=4).limit
""",
    "pyproject.toml": '[project.scripts]\nx = "shop:price"\n',
    "README.md": "The price.\nSee `price` and shop.price.\n",
}


@pytest.fixture
def record(store: Store, tmp_path: Path) -> Record:
    def write(tree: dict[str, str]) -> Store:
        root = tmp_path / "tree"
        for path, text in tree.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        store.scans.record(root, jobs=1)
        return store

    return write


def shown(places: list[RenamePlace], *, sure: bool) -> list[tuple[str, int, str, str]]:
    return [(p.file_path, p.line, p.kind, p.resolution) for p in places if p.sure is sure]


def test_all_places_that_spell_a_function(record: Record) -> None:
    found = record(SHOP).symbols.rename_preview("shop.price", "cost")
    assert shown(found, sure=True) == [
        ("pyproject.toml", 2, "use", "imported"),
        ("shop.py", 3, "use", "exact"),
        ("shop.py", 5, "definition", "exact"),
        ("shop.py", 7, "definition", "exact"),
        ("shop.py", 8, "definition", "exact"),
        ("shop.py", 14, "call", "exact"),
        ("use.py", 1, "import", "imported"),
        ("use.py", 2, "import", "imported"),
        ("use.py", 5, "call", "imported"),
        ("use.py", 6, "call", "imported"),
    ]  # not line 4, which calls it by another name
    assert shown(found, sure=False) == [
        ("README.md", 2, "text", "unresolved"),
        ("use.py", 8, "string", "unresolved"),
        ("use.py", 10, "string", "unresolved"),
    ]
    assert [p.text for p in found if p.line == 8 and p.file_path == "use.py"] == ['getattr(shop, "price")']
    assert [p.sure for p in found] == sorted((p.sure for p in found), reverse=True)


def test_the_stub_of_a_module_is_renamed_with_it(record: Record) -> None:
    stub = "def f(): ...\n"
    tree = {"a.py": "def f(): pass\n", "a.pyi": stub, "b/a.pyi": stub, "use.py": "import a\na.f()\n"}
    store = record(tree)
    for file in ("a.py", "a.pyi"):
        (symbol,) = store.symbols.find("a.f", file=file)
        assert shown(store.symbols.rename_preview(symbol, "g"), sure=True) == [
            ("a.py", 1, "definition", "exact"), ("a.pyi", 1, "definition", "exact"), ("use.py", 2, "call", "imported"),
        ]  # fmt: skip


@pytest.mark.parametrize("start", ["shop.Shop.total", "shop.Big.total", "shop.Bigger.total"])
def test_a_method_is_renamed_with_all_that_it_overrides_and_that_override_it(record: Record, start: str) -> None:
    found = record(SHOP).symbols.rename_preview(start, "amount")
    places = [(path, line) for path, line, _, _ in shown(found, sure=True)]
    assert places == [("shop.py", 13), ("shop.py", 16), ("shop.py", 17), ("shop.py", 19), ("use.py", 7)]
    kinds = {p.line: p.kind for p in found if p.kind in ("definition", "override")}
    assert sorted(kinds.values()) == ["definition", "override", "override"]
    assert shown(found, sure=False) == [
        ("shop.py", 12, "comment", "unresolved"),
        ("shop.py", 15, "base", "external"),  # threading.Thread may have such a method
        ("shop.py", 24, "call", "unresolved"),
    ]


def test_a_variable_of_a_class_may_be_named_by_keywords(record: Record) -> None:
    found = record(SHOP).symbols.rename_preview("shop.Shop.limit", "most")
    assert shown(found, sure=True) == [("shop.py", 11, "definition", "exact"), ("shop.py", 14, "use", "exact"),
                                       ("use.py", 11, "use", "imported")]  # fmt: skip
    assert ("shop.py", 24, "keyword", "unresolved") in shown(found, sure=False)


def test_attributes_of_unknown_objects_may_be_meant(record: Record) -> None:
    tree = {
        "a.py": "def unique_name(): pass\n", "b.py": "import a\ndef f(x):\n    return x.unique_name\n",
        "c.py": "class C:\n    unique_name = 1\nC.unique_name\nunique_name = 2\nprint(unique_name)\n",
    }  # fmt: skip
    found = record(tree).symbols.rename_preview("a.unique_name", "other")
    assert shown(found, sure=False) == [("b.py", 3, "attribute", "unresolved")]


def test_guesses_are_places_that_may_change(record: Record) -> None:
    tree = {
        "a.py": "def f(): pass\n", "one/m.py": "def go(): pass\n", "two/m.py": "def go(): pass\n",
        "use.py": "from m import go\ngo()\n",
    }  # fmt: skip
    found = record(tree).symbols.rename_preview("one.m.go", "run")
    assert shown(found, sure=True) == [("one/m.py", 1, "definition", "exact")]
    assert shown(found, sure=False) == [("use.py", 1, "import", "guessed"), ("use.py", 2, "call", "guessed")]


@pytest.mark.parametrize(
    ("symbol", "new", "message"),
    [
        ("shop.price", "class", "which is a keyword of Python"),
        ("shop.price", "a.b", "which is not an identifier"),
        ("shop.price", "", "which is not an identifier"),
        ("shop.price", "price", "is called 'price' already"),
        ("shop.price", "Shop", "because shop.py, line 10, has shop.Shop already"),
        ("shop.price", "p", "because use.py, line 1, has use.p already"),
        ("shop.Shop.total", "limit", "has shop.Shop.limit already"),
        ("shop.Bigger.total", "limit", "has shop.Shop.limit already"),  # of a base class
        ("shop", "store", "is a file, and renaming files is not previewed"),
    ],
)
def test_names_that_cannot_be_given(record: Record, symbol: str, new: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        record(SHOP).symbols.rename_preview(symbol, new)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_python_calls_special_methods_by_name(record: Record) -> None:
    store = record({"a.py": "class A:\n    def __len__(self): return 1\n"})
    with pytest.raises(InvalidArgument, match="Python itself calls it"):
        store.symbols.rename_preview("a.A.__len__", "size")


def test_a_name_of_a_file_that_imports_it_is_taken(record: Record) -> None:
    store = record({"a.py": "def f(): pass\n", "b.py": "from a import f\ndef g(): f()\n", "c.py": "g = 1\n"})
    with pytest.raises(InvalidArgument, match=r"because b.py, line 2, has b.g already"):
        store.symbols.rename_preview("a.f", "g")
    assert store.symbols.rename_preview("a.f", "h")


def test_no_file_changes_and_changed_files_are_not_searched(record: Record, tmp_path: Path) -> None:
    store = record(SHOP)
    before = {path: (tmp_path / "tree" / path).read_text() for path in SHOP}
    (tmp_path / "tree/README.md").write_text("`price` twice\n`price`\n")
    found = store.symbols.rename_preview("shop.price", "cost")
    assert "README.md" not in {p.file_path for p in found}
    assert len(store.symbols.rename_preview("shop.price", "cost", limit=2, offset=1)) == 2
    assert {path: (tmp_path / "tree" / path).read_text() for path in SHOP} == {
        **before, "README.md": "`price` twice\n`price`\n",
    }  # fmt: skip


def test_the_command(record: Record, tmp_path: Path, monkeypatch: Any) -> None:
    store = record(SHOP)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["symbols", "rename", "shop.Shop.total", "amount", "--db", str(store.path)])
    assert result.exit_code == 0
    assert "tree/shop.py:13\tmust\tdefinition\texact\ttotal" in result.stdout
    assert "5 places in 2 files must change, 3 may have to; nothing was changed" in result.stderr
    result = CliRunner().invoke(main, ["symbols", "rename", "shop.price", "Shop", "--db", str(store.path)])
    assert result.exit_code == 1 and "cannot be called 'Shop'" in result.stderr


@pytest.mark.parametrize("text", ['"' * 200_000, "'" * 200_001, "(" * 200_000 + ")" * 200_000, '# "' * 60_000,
                                  '"\\' * 100_000, "'''" * 50_001, "f (" * 60_000, ".f " * 60_000])  # fmt: skip
def test_text_is_searched_in_linear_time(record: Record, text: str) -> None:
    store = record({"a.py": "class C:\n    f = 1\n", "b.py": text, "c.txt": text})
    begun = time.perf_counter()
    store.symbols.rename_preview("a.C.f", "g")
    assert time.perf_counter() - begun < 5
