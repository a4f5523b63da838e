"""Impact, callers and the tests of a symbol follow overrides, decorators, fixtures and definitions of one name."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scanstore import Store
from scanstore.cli import main
from scanstore.errors import InvalidArgument
from scanstore.symbols.frameworks import RULES
from scanstore.symbols.reach import LINKS

Record = Callable[[dict[str, str]], Store]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with Store(":memory:") as store:

        def write(files: dict[str, str]) -> Store:
            for name, text in files.items():
                path = tmp_path / "tree" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(textwrap.dedent(text), encoding="utf-8")
            store.scans.record(tmp_path / "tree", jobs=1)
            return store

        yield write
        assert store.check() == []


def reached(rows: Any) -> dict[str, int]:
    return {row.qualified_name: row.distance for row in rows}


SHAPES = """\
    class Shape:
        def area(self): ...

        def __init__(self): ...

        def __secret(self): ...


    class Square(Shape):
        def area(self): ...

        def __init__(self): ...

        def __secret(self): ...


    class Tile(Square):
        def area(self): ...


    class Plain(Shape): ...


    class Fast:
        def area(self): ...


    class FastPlain(Fast, Plain): ...


    def of_shape(shape: Shape):
        shape.area()
        return 1 + shape.area()


    def of_tile(tile: Tile): tile.area()
"""


def test_callers_through_overrides(record: Record) -> None:
    store = record({"s.py": SHAPES})
    assert reached(store.symbols.callers("s.Square.area")) == {}
    for each in ("Shape", "Square"):
        found = store.symbols.callers(f"s.{each}.area", overrides=True)
        assert {row.qualified_name: row.through for row in found} == {
            "s.of_shape": "s.Shape.area", "s.of_tile": "s.Tile.area"
        }  # fmt: skip
    assert reached(store.symbols.callers("s.Fast.area", overrides=True)) == {"s.of_shape": 1}  # a FastPlain is a Shape
    assert reached(store.symbols.callers("s.Shape.area")) == {"s.of_shape": 1}


def test_impact_follows_overrides_up_and_down_but_not_to_siblings(record: Record) -> None:
    more = "\n\nclass Other(Shape):\n    def area(self): ...\n"
    store = record({"s.py": textwrap.dedent(SHAPES) + more})
    down = store.symbols.impact("s.Shape.area", depth=1)
    assert reached(down).keys() == {
        "s.Square.area", "s.Tile.area", "s.Fast.area", "s.Other.area", "s.of_shape"
    }  # fmt: skip
    assert {row.link for row in down} == {"override", "call"} and all(row.exact for row in down)
    up = reached(store.symbols.impact("s.Other.area"))
    assert up == {"s.Shape.area": 1, "s.of_shape": 2}
    assert reached(store.symbols.impact("s.Other.area", overrides=False)) == {}
    # No call through a base class reaches a constructor or a private name.
    assert "s.Square.__init__" not in reached(store.symbols.impact("s.Shape.__init__"))
    assert reached(store.symbols.impact("s.Shape.__secret")) == {}


def test_a_method_that_no_class_finds_first_overrides_nothing(record: Record) -> None:
    store = record({
        "m.py": """\
            class A:
                def go(self): ...


            class B:
                def go(self): ...


            class Both(A, B):
                def go(self): ...
        """
    })  # fmt: skip
    assert reached(store.symbols.impact("m.A.go")) == {"m.Both.go": 1}
    assert reached(store.symbols.impact("m.Both.go")) == {"m.A.go": 1, "m.B.go": 1}


def test_overrides_end_in_circles_and_are_quick(record: Record) -> None:
    classes = "\n".join(f"class C{n}(C{n - 1}):\n    def go(self): ..." for n in range(1, 2000))
    store = record({
        "loop.py": "".join(f"class {each}:\n    def go(self): ...\n" for each in ("A(B)", "B(A)", "C(C)")),
        "deep.py": "class C0:\n    def go(self): ...\n" + classes,
    })  # fmt: skip
    store.symbols.impact("loop.A.go")
    assert reached(store.symbols.callers("loop.C.go", overrides=True)) == {}
    begin = time.perf_counter()
    assert len(store.symbols.impact("deep.C1000.go")) == 1999
    assert time.perf_counter() - begin < 5


DECORATED = """\
    import functools
    from typing import overload


    def deco(fn): return fn


    def factory(n): return deco


    class Task: ...


    LIMIT = 3


    @deco
    def one(): ...


    @functools.cache
    @factory(
        LIMIT
    )
    # between
    @deco
    class Two: ...


    deco(one)


    def three(task: Task, limit=LIMIT) -> None: ...


    class Holder:
        @deco
        def four(self): ...
"""


def test_impact_of_a_decorator_is_what_it_decorates(record: Record) -> None:
    store = record({"d.py": DECORATED})
    found = store.symbols.impact("d.deco", depth=1)
    assert {row.qualified_name: row.line for row in found} == {
        "d.one": 17, "d.factory": 8, "d.Two": 26, "d": 30, "d.Holder.four": 37
    }  # fmt: skip
    assert reached(store.symbols.impact("d.factory", depth=1)) == {"d.Two": 1}
    assert reached(store.symbols.callers("d.deco")).keys() == {"d", "d.Holder"}  # the code that runs it


def test_the_head_of_a_definition_depends_on_what_it_names(record: Record) -> None:
    store = record({"d.py": DECORATED})
    assert reached(store.symbols.impact("d.Task")) == {"d.three": 1}
    assert reached(store.symbols.impact("d.LIMIT", depth=1)) == {"d.Two": 1, "d.three": 1}


def test_impact_of_a_class_and_of_a_variable(record: Record) -> None:
    store = record({"a.py": "X = 1\nclass A: ...\nclass B(A): ...\ndef read(): return X\n",
                    "b.py": "from a import X, B\ndef more(): return X\ndef make(): return B()\n"})  # fmt: skip
    assert reached(store.symbols.impact("a.X")) == {"a.read": 1, "b.more": 1}
    assert reached(store.symbols.impact("a.A")) == {"a.B": 1, "b.make": 2}


ONE_NAME = {
    "overload": """\
        from typing import overload


        @overload
        def f(x: int) -> int: ...
        @overload
        def f(x: str) -> str: ...
        def f(x): return x
    """,
    "branches": """\
        import sys

        if sys.platform == "win32":
            def f(x): return 1
        else:
            def f(x): return 2
    """,
    "try": """\
        try:
            import fast
            def f(x): return fast.f(x)
        except ImportError:
            def f(x): return 2
    """,
}


@pytest.mark.parametrize("how", ONE_NAME)
def test_several_definitions_of_one_name_are_one_symbol(how: str, record: Record) -> None:
    store = record({"m.py": ONE_NAME[how], "use.py": "from m import f\n\n\ndef go(): return f(1)\n"})
    every = store.symbols.find("m.f")
    assert len(every) > 1
    for each in every:
        assert [row.from_line for row in store.symbols.references(each)] == [1, 4]
        assert reached(store.symbols.callers(each, guesses=True)) == {"use.go": 1}
        assert reached(store.symbols.impact(each)) == {"use.go": 1}
    assert "m.f" not in {row.qualified_name for row in store.symbols.unreferenced()}


def test_one_unused_name_is_listed_once(record: Record) -> None:
    store = record({"m.py": ONE_NAME["overload"]})
    assert [(row.qualified_name, row.start_line) for row in store.symbols.unreferenced()] == [("m.f", 8)]


def test_properties_and_registered_functions_are_one_symbol(record: Record) -> None:
    store = record({
        "p.py": """\
            from functools import singledispatch


            class Box:
                @property
                def size(self): return 1

                @size.setter
                def size(self, value): ...

                @size.deleter
                def size(self): ...


            def read(box: Box): return box.size


            @singledispatch
            def show(x): ...


            @show.register
            def show_int(x: int): ...


            def shown(): show(3)
        """
    })  # fmt: skip
    for each in store.symbols.find("p.Box.size"):
        assert reached(store.symbols.impact(each)) == {"p.read": 1}
    assert reached(store.symbols.callers("p.show_int")) == {"p.shown": 1}
    unused = {row.qualified_name for row in store.symbols.unreferenced()}
    assert unused == {"p.read", "p.shown"}


def test_the_line_of_the_call_and_the_number_of_calls(record: Record) -> None:
    store = record({"s.py": SHAPES})
    (row,) = store.symbols.callers("s.Shape.area")
    assert (row.line, row.references, row.link, row.through) == (32, 2, "call", "s.Shape.area")
    (row,) = store.symbols.callees("s.of_tile")
    assert (row.qualified_name, row.line, row.through) == ("s.Tile.area", 36, "s.of_tile")
    assert {row.link for row in store.symbols.impact("s.Shape")} <= set(LINKS)


FILES = {
    "lib.py": "def f(): ...\n",
    "app/a.py": "from lib import f\n\n\ndef a(): f()\n",
    "tests/test_a.py": "from lib import f\n\n\ndef test_a(): f()\n",
}


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("tests/**", ["tests.test_a.test_a"]),
        (["tests/**", "app/"], ["app.a.a", "tests.test_a.test_a"]),
        ("*_a.py", ["tests.test_a.test_a"]),
        ("nowhere/**", []),
    ],
)
def test_rows_of_some_files(file: Any, wanted: list[str], record: Record) -> None:
    store = record(FILES)
    for ask in (store.symbols.callers, store.symbols.impact):
        assert [row.qualified_name for row in ask("lib.f", file=file)] == wanted
    for wrong in (3, [b"x"], "a\\"):
        with pytest.raises(InvalidArgument):
            store.symbols.callers("lib.f", file=wrong)  # type: ignore[arg-type]


# -- tests ---------------------------------------------------------------------------------------------------------

TESTED = {
    "shop.py": """\
        class Shop:
            def total(self): return price()

        class Bazaar(Shop):
            def total(self): return 2

        def price(): return 1

        def lonely(): ...
    """,
    "tests/conftest.py": """\
        import pytest
        from shop import Shop

        @pytest.fixture
        def shop(): return Shop().total()

        @pytest.fixture(name="named", autouse=False)
        def _named(shop): return shop

        def test_in_conftest(shop): ...
    """,
    "tests/test_shop.py": """\
        import pytest
        from shop import price, Shop

        def helper(): return price()

        def test_direct(): price()

        def test_by_helper(): helper()

        def test_by_fixture(shop): ...

        def test_by_named_fixture(named): ...

        @pytest.mark.usefixtures("shop")
        def test_by_mark(): ...

        @pytest.mark.parametrize("shop", [1])
        def test_of_a_value(shop): ...

        @pytest.mark.parametrize("function", [price])
        def test_of_a_parameter(function): function()

        class TestShop:
            def test_method(self): price()

        class Helper:
            def test_not(self): price()

        def outer():
            def test_inner(): price()
    """,
    "other/test_other.py": """\
        def test_elsewhere(shop): ...
    """,
    "units.py": """\
        import unittest
        from shop import price

        class Case(unittest.TestCase):
            def setUp(self): price()

            def test_after_set_up(self): ...

        class More(Case):
            def test_inherited_set_up(self): ...
    """,
}


def test_the_tests_of_a_symbol_with_their_paths(record: Record) -> None:
    store = record(TESTED)
    found = {row.name: row for row in store.symbols.tests_of("shop.price")}
    sure = {name for name, row in found.items() if row.exact}
    assert sure == {
        "test_direct", "test_by_helper", "test_by_fixture", "test_by_named_fixture", "test_by_mark",
        "test_of_a_parameter", "test_method", "test_after_set_up", "test_inherited_set_up",
    }  # fmt: skip
    assert found.keys() - sure == {"test_elsewhere"}  # its fixture is in a conftest.py that it does not see
    assert found["test_direct"].path == ["tests.test_shop.test_direct", "shop.price"]
    assert found["test_direct"].distance == 1 and found["test_direct"].line == 6
    assert found["test_by_named_fixture"].path == [
        "tests.test_shop.test_by_named_fixture", "tests.conftest._named", "tests.conftest.shop",
        "shop.Shop.total", "shop.price",
    ]  # fmt: skip
    assert found["test_inherited_set_up"].path == [
        "units.More.test_inherited_set_up", "units.Case.setUp", "shop.price"
    ]  # fmt: skip
    distances = [row.distance for row in store.symbols.tests_of("shop.price")]
    assert distances == sorted(distances)
    assert store.symbols.tests_of("shop.lonely") == []
    assert len(store.symbols.tests_of("shop.price", guesses=False)) == len(sure)
    assert {row.file_path for row in store.symbols.tests_of("shop.price", file="tests/**")} == {"tests/test_shop.py"}
    assert len(store.symbols.tests_of("shop.price", limit=2)) == 2


def test_tests_are_reached_through_overrides(record: Record) -> None:
    store = record(TESTED)
    found = {row.name: row.path for row in store.symbols.tests_of("shop.Bazaar.total", guesses=False)}
    assert found["test_by_fixture"] == [
        "tests.test_shop.test_by_fixture", "tests.conftest.shop", "shop.Shop.total", "shop.Bazaar.total"
    ]  # fmt: skip


def test_two_visible_fixtures_of_one_name_are_a_guess(record: Record) -> None:
    fixture = "import pytest\nfrom lib import f\n@pytest.fixture\ndef thing(): return f()\n"
    store = record({"lib.py": "def f(): ...\n", "conftest.py": fixture,
                    "t/conftest.py": "import pytest\n@pytest.fixture\ndef thing(): ...\n",
                    "t/test_a.py": "def test_a(thing): ...\n", "test_b.py": "def test_b(thing): ...\n"})  # fmt: skip
    assert {row.name: row.exact for row in store.symbols.tests_of("lib.f")} == {"test_a": False, "test_b": True}


def test_autouse_fixtures_reach_all_tests_that_see_them(record: Record) -> None:
    store = record({
        "lib.py": "def f(): ...\n",
        "t/conftest.py": "import pytest\nfrom lib import f\n@pytest.fixture(autouse=True)\ndef thing(): return f()\n",
        "t/test_a.py": "def test_a(): ...\n", "u/test_b.py": "def test_b(): ...\n",
    })  # fmt: skip
    assert [row.name for row in store.symbols.tests_of("lib.f")] == ["test_a"]


# -- cycles --------------------------------------------------------------------------------------------------------


def test_cycles_have_a_kind_and_a_closing_import(record: Record) -> None:
    store = record({
        "a.py": "import b\n", "b.py": "import sys\nfrom a import x\n",
        "l1.py": "import l2\n", "l2.py": "def f():\n    import l1\n",
        "t1.py": "from t2 import T\nclass U: ...\n",
        "t2.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sys\n    from t1 import U\nT = 1\n",
        "n1.py": "import typing as t\nif not t.TYPE_CHECKING:\n    import n2\n", "n2.py": "import n1\n",
        "c.py": "import a\n", "x.py": "import y\n", "y.py": "x = 1\n",
    })  # fmt: skip
    found = {tuple(each.files): each for each in store.symbols.import_cycles()}
    assert {files: each.kind for files, each in found.items()} == {
        ("a.py", "b.py"): "runtime", ("l1.py", "l2.py"): "lazy", ("t1.py", "t2.py"): "typing",
        ("n1.py", "n2.py"): "runtime",
    }  # fmt: skip
    closing = found["a.py", "b.py"]
    assert (closing.from_file, closing.line, closing.module, closing.to_file) == ("b.py", 2, "a", "a.py")
    closing = found["t1.py", "t2.py"]
    assert (closing.from_file, closing.line, closing.to_file) == ("t2.py", 4, "t1.py")
    for kind in ("runtime", "lazy", "typing"):
        rows = store.symbols.import_cycles(only=kind)  # type: ignore[arg-type]
        assert {row.kind for row in rows} == {kind}
    with pytest.raises(InvalidArgument, match="runtime, lazy, typing"):
        store.symbols.import_cycles(only="eager")  # type: ignore[arg-type]


def test_a_larger_group_that_lazy_imports_make_is_listed_beside_the_smaller(record: Record) -> None:
    store = record({"a.py": "import b\n", "b.py": "import a\n\ndef f():\n    import c\n", "c.py": "import a\n"})
    found = [(each.files, each.kind) for each in store.symbols.import_cycles()]
    assert found == [(["a.py", "b.py", "c.py"], "lazy"), (["a.py", "b.py"], "runtime")]


# -- unused --------------------------------------------------------------------------------------------------------

FRAMEWORKS = """\
    import ast
    import logging
    import threading
    import unittest
    import enum
    from abc import ABC
    from http.server import BaseHTTPRequestHandler
    from mod import Base as Outside

    Alias = logging.Handler


    class Visitor(ast.NodeVisitor):
        def visit_Name(self, node): ...

    class Own:
        def visit_Name(self, node): ...
        def dead_one(self): ...

    class Case(unittest.TestCase):
        def setUp(self): ...

    class Worker(threading.Thread):
        def run(self): ...

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self): ...

    class Log(Alias):
        def handleError(self, record): ...

    class Other(Outside):
        def hook(self): ...

    class Stream:
        def readable(self): return True

    class Color(enum.Enum):
        RED = 1

    class Plain(ABC):
        def dead_two(self): ...
        def used(self): ...

    class Derived(Plain):
        def used(self): ...
        def dead_three(self): ...

    class Form:
        class Meta: ...

    def pytest_configure(config): ...
    def by_text(): ...
    def on_click(): ...
    def dead_four(): ...

    def go(plain: Plain, own: Own):
        plain.used()
        getattr(own, "by_text")()

    for each in (Visitor, Own, Case, Worker, Handler, Log, Other, Stream, Color, Plain, Derived, Form, go): ...
"""


def test_names_that_frameworks_call_are_not_unused(record: Record) -> None:
    store = record({"f.py": FRAMEWORKS, "stub.pyi": "def declared() -> int: ...\n"})
    found = store.symbols.unreferenced(symbol_types=["class", "function", "method", "variable"], ignore=["on_*"])
    assert {row.name for row in found} == {"dead_one", "dead_two", "dead_three", "dead_four"}
    found = store.symbols.unreferenced(ignore=["f.Own.*", "dead_[tf]*"])
    assert [row.name for row in found] == ["on_click"]
    for wrong in (3, [3], [""]):
        with pytest.raises(InvalidArgument):
            store.symbols.unreferenced(ignore=wrong)  # type: ignore[arg-type]


def test_every_rule_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/symbols.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"| {rule.why} |" in page, rule.why


# -- the commands --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    for name, text in {**TESTED, "s.py": SHAPES}.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with Store("scanstore.db") as store:
        store.scans.record("tree", jobs=1)

    def invoke(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["symbols", *words])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 and result.stdout else result.output

    return invoke


def test_commands_show_lines_overrides_and_files(run: Callable[..., str]) -> None:
    lines = run("callers", "s.Square.area", "--overrides", "--file", "s.py", "--columns", "line,name").splitlines()
    assert lines[0] == "32 +1\ts.of_shape"
    nothing = run("callers", "s.Shape.area", "--file", "tests/**")
    assert "nothing that was found calls s.Shape.area in tests/**" in nothing
    assert "s.Tile.area" in run("impact", "s.Shape.area", "--depth", "1")
    assert "s.Tile.area" not in run("impact", "s.Shape.area", "--depth", "1", "--no-overrides")


def test_the_command_for_tests(run: Callable[..., str]) -> None:
    lines = run("tests-of", "shop.price", "--limit", "1", "--columns", "name,path").splitlines()
    assert lines == ["tests.test_shop.test_direct\tshop.price"]
    assert "no test that was found reaches shop.lonely" in run("tests-of", "shop.lonely")


def test_patterns_to_ignore_come_from_options_and_the_configuration(run: Callable[..., str]) -> None:
    assert "shop.lonely" in run("unused", "--columns", "name")
    assert "shop.lonely" not in run("unused", "--columns", "name", "--ignore", "lone*")
    Path("scanstore.toml").write_text('unused-ignore = ["shop.lone?y"]\n')
    assert "shop.lonely" not in run("unused", "--columns", "name")
    Path("scanstore.toml").write_text("unused-ignore = [3]\n")
    assert "unused-ignore[0] is 3" in run("unused", code=2)
