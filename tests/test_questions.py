"""Questions: what the store answers about names, edges, files and differences, on a tree to know by heart."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from scanstore.errors import Ambiguous, InvalidArgument, NotFound, ScanstoreError
from scanstore.models import Scan, ScanFile, Symbol
from scanstore.store import Store

SHOP = {
    "shop/__init__.py": """
        from .core import Base, work
        from . import util
    """,
    "shop/core.py": """
        import os
        from .util import helper
        from .missing import gone
        from outside import thing

        LIMIT = 10

        class Base:
            size: int = 1
            def __init__(self, name):
                self.name = name
            def run(self):
                return self.step()
            def step(self):
                return helper()
            def unused_method(self):
                pass

        class Derived(Base):
            def step(self):
                return super().step()

        class Leaf(Derived):
            pass

        def work():
            return Leaf("x").run()

        def lonely():
            pass
    """,
    "shop/util.py": """
        def helper():
            return deep()

        def deep():
            return 1

        def recursive(n):
            return recursive(n - 1)
    """,
    "shop/loop_a.py": "from . import loop_b\n",
    "shop/loop_b.py": "from .loop_a import loop_b\n",
    "main.py": """
        import shop
        from shop import work as go

        def start():
            go()
            shop.util.helper()
            start.nothing.like_this()
            unknown_name()

        start()
    """,
    "tests/test_shop.py": """
        from shop.core import work
        def test_work():
            assert work()
    """,
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(textwrap.dedent(text).lstrip("\n"))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "tree", SHOP)


@pytest.fixture
def scan(store: Store, root: Path) -> Scan:
    return store.scans.record(root, jobs=1)


def names(rows: Any) -> list[str]:
    return [row.qualified_name for row in rows]


def reached(rows: Any) -> dict[str, int]:
    assert [r.distance for r in rows] == sorted(r.distance for r in rows)
    return {row.qualified_name: row.distance for row in rows}


# -- by name -------------------------------------------------------------------------------------------------


def test_find_by_name_and_qualified_name(store: Store, scan: Scan) -> None:
    assert names(store.symbols.find("step")) == ["shop.core.Base.step", "shop.core.Derived.step"]
    assert names(store.symbols.find("shop.core.Base.step")) == ["shop.core.Base.step"]
    assert store.symbols.find("Step") == store.symbols.find("ste") == store.symbols.find("Base.step") == []
    (base,) = store.symbols.find("Base")
    assert (base.symbol_type, base.file_path, base.start_line, base.end_line) == ("class", "shop/core.py", 8, 17)


def test_find_by_prefix_of_either(store: Store, scan: Scan) -> None:
    assert set(names(store.symbols.find("work", match="prefix"))) == {"shop.core.work"}
    assert set(names(store.symbols.find("shop.core.Base.", match="prefix"))) == {
        "shop.core.Base.size",
        "shop.core.Base.__init__",
        "shop.core.Base.run",
        "shop.core.Base.step",
        "shop.core.Base.unused_method",
    }
    assert store.symbols.find("WORK", match="prefix") == []
    assert store.symbols.find("%", match="prefix") == []


def test_find_what_contains_in_any_case_and_takes_wildcards_literally(store: Store, scan: Scan) -> None:
    assert set(names(store.symbols.find("DERIVED", match="contains"))) == {
        "shop.core.Derived",
        "shop.core.Derived.step",
    }
    assert names(store.symbols.find("_method", match="contains")) == ["shop.core.Base.unused_method"]
    assert store.symbols.find("r_n", match="contains") == store.symbols.find("%", match="contains") == []
    assert store.symbols.find("\\", match="contains") == []


def test_find_takes_names_for_data(store: Store, scan: Scan) -> None:
    for name in ("' OR 1=1 --", '"', "?", "x" * 10_000):
        for match in ("exact", "prefix", "contains"):
            assert store.symbols.find(name, match=match) == []


@pytest.mark.parametrize("name", ["\0", "x" * 100_000])
def test_find_takes_any_text(store: Store, scan: Scan, name: str) -> None:
    for match in ("exact", "prefix", "contains"):
        assert store.symbols.find(name, match=match) == []


def test_find_filters_and_limits(store: Store, scan: Scan) -> None:
    assert [s.symbol_type for s in store.symbols.find("shop", match="contains")] == sorted(
        (s.symbol_type for s in store.symbols.find("shop", match="contains")),
        key=["class", "function", "method", "variable", "module"].index,
    )
    assert names(store.symbols.find("shop", match="contains", symbol_type="CLASS")) == [
        "shop.core.Base",
        "shop.core.Derived",
        "shop.core.Leaf",
    ]
    assert names(store.symbols.find("shop", match="contains", limit=2)) == ["shop.core.Base", "shop.core.Derived"]
    assert names(store.symbols.find("helper", file="shop/util.py")) == ["shop.util.helper"]
    assert store.symbols.find("helper", file="main.py") == []
    for wrong in ({"match": "regex"}, {"symbol_type": "gadget"}):
        with pytest.raises(InvalidArgument):
            store.symbols.find("x", **wrong)
    with pytest.raises(InvalidArgument):
        store.symbols.find("")


def test_get_takes_ids_rows_and_names_and_says_what_it_does_not_know(store: Store, scan: Scan) -> None:
    work = store.symbols.get("shop.core.work")
    assert store.symbols.get(work.id).qualified_name == store.symbols.get("work").qualified_name == "shop.core.work"
    (caller,) = store.symbols.callers("helper", guesses=False)[:1]
    assert store.symbols.get(caller).id == caller.id
    with pytest.raises(InvalidArgument, match=r"2 symbols are called 'step': .*shop\.core\.Base\.step"):
        store.symbols.get("step")
    with pytest.raises(NotFound, match="nobody"):
        store.symbols.get("nobody")
    with pytest.raises(NotFound):
        store.symbols.get(1 << 50)
    for nonsense in (None, 1.5, True, object()):
        with pytest.raises(InvalidArgument):
            store.symbols.get(nonsense)


@pytest.mark.parametrize("number", [-1, -(1 << 40), 1 << 62])
def test_get_of_an_impossible_id_is_not_found(store: Store, scan: Scan, number: int) -> None:
    with pytest.raises(NotFound):
        store.symbols.get(number)


@pytest.mark.parametrize("number", [1 << 63, 1 << 90])
def test_get_of_an_id_that_no_integer_of_sqlite_holds_is_refused(store: Store, scan: Scan, number: int) -> None:
    with pytest.raises((NotFound, InvalidArgument)):
        store.symbols.get(number)
    with pytest.raises((NotFound, InvalidArgument)):
        store.scans.get(number)


def test_list_is_in_the_order_of_the_lines(store: Store, scan: Scan) -> None:
    rows = store.symbols.list(file="shop/util.py")
    assert names(rows) == ["shop.util", "shop.util.helper", "shop.util.deep", "shop.util.recursive"]
    assert names(store.symbols.list(symbol_type="class")) == ["shop.core.Base", "shop.core.Derived", "shop.core.Leaf"]
    everything = store.symbols.list()
    assert len(everything) == store.scans.summary().symbols
    assert [s.file_path for s in everything] == sorted(s.file_path for s in everything)


# -- by reference --------------------------------------------------------------------------------------------


def test_references_with_how_each_is_known(store: Store, scan: Scan) -> None:
    assert [(r.from_file, r.from_line, r.reference_type, r.resolution) for r in store.symbols.references("helper")] == [
        ("main.py", 6, "call", "imported"),
        ("shop/core.py", 2, "import", "imported"),
        ("shop/core.py", 15, "call", "imported"),
    ]
    assert [r.from_symbol.qualified_name for r in store.symbols.references("helper", reference_type="call")] == [
        "main.start",
        "shop.core.Base.step",
    ]
    (inherits,) = store.symbols.references("Base", reference_type="inherit")
    assert (inherits.from_symbol.qualified_name, inherits.confidence) == ("shop.core.Derived", 1.0)
    assert store.symbols.references("lonely") == []
    with pytest.raises(InvalidArgument):
        store.symbols.references("helper", reference_type="hint")


def test_callers_and_callees_by_depth(store: Store, scan: Scan) -> None:
    assert reached(store.symbols.callers("deep")) == {"shop.util.helper": 1}
    assert reached(store.symbols.callers("deep", depth=2)) == {
        "shop.util.helper": 1,
        "main.start": 2,
        "shop.core.Base.step": 2,
    }
    everybody = reached(store.symbols.callers("deep", depth=None))
    assert everybody["main"] == 3 and everybody["shop.core.Derived.step"] == 3
    assert reached(store.symbols.callees("start")) == {"shop.core.work": 1, "shop.util.helper": 1}
    assert reached(store.symbols.callees("start", depth=2))["shop.util.deep"] == 2
    assert reached(store.symbols.callers("recursive", depth=None)) == {}
    for wrong in (0, -1, "2", 1.5):
        with pytest.raises(InvalidArgument):
            store.symbols.callers("deep", depth=wrong)  # type: ignore[arg-type]


def test_impact_is_everything_that_depends_on_it_directly_or_not(store: Store, scan: Scan) -> None:
    found = store.symbols.impact("shop.core.Base")
    assert {"shop.core.Derived", "shop.core.Leaf"} <= set(names(found))
    assert reached(found)["shop.core.Leaf"] == 2
    assert reached(store.symbols.impact("shop.core.Base", depth=1)) == {"shop.core.Derived": 1}
    through = reached(store.symbols.impact("shop.util.deep"))
    assert through["shop.util.helper"] == 1 and through["main.start"] == 2 and through["main"] == 3
    assert all(r.exact for r in store.symbols.impact("shop.util.deep", guesses=False))
    assert "shop.core.lonely" not in through
    assert store.symbols.impact("lonely") == []


def test_impact_of_a_constructor_passes_to_its_class(store: Store, scan: Scan) -> None:
    assert "shop.core.Derived" in reached(store.symbols.impact("shop.core.Base.__init__"))


def test_impact_ends_in_cycles_and_says_where_a_guess_was_needed(store: Store, tmp_path: Path) -> None:
    store.scans.record(
        plant(
            tmp_path / "t",
            {
                "a.py": "def one():\n    two()\ndef two():\n    three()\ndef three():\n    one()\n",
                "b.py": "class Only:\n    def very_rare_name(self):\n        pass\n",
                "c.py": "def sure(x):\n    x.very_rare_name()\ndef above(x):\n    sure(x)\n",
            },
        )
    )
    assert reached(store.symbols.impact("one")) == {"a.three": 1, "a.two": 2}
    found = {r.qualified_name: (r.distance, r.exact) for r in store.symbols.impact("very_rare_name")}
    assert found == {"c.sure": (1, False), "c.above": (2, False)}
    assert store.symbols.impact("very_rare_name", guesses=False) == []
    assert store.symbols.callers("very_rare_name") == []
    assert reached(store.symbols.callers("very_rare_name", guesses=True)) == {"c.sure": 1}
    (guess,) = store.symbols.references("very_rare_name")
    assert guess.resolution == "guessed" and 0 < guess.confidence < 1
    assert store.symbols.references("very_rare_name", guesses=False) == []


def test_subclasses_and_bases(store: Store, scan: Scan) -> None:
    assert reached(store.symbols.subclasses("Base")) == {"shop.core.Derived": 1, "shop.core.Leaf": 2}
    assert reached(store.symbols.subclasses("Base", depth=1)) == {"shop.core.Derived": 1}
    assert reached(store.symbols.bases("Leaf")) == {"shop.core.Derived": 1, "shop.core.Base": 2}


def test_edges_stream_every_reference_with_its_meaning(store: Store, scan: Scan) -> None:
    edges = list(store.symbols.edges())
    assert len(edges) == store.scans.summary().references
    assert [(e.from_file, e.from_line) for e in edges] == sorted((e.from_file, e.from_line) for e in edges)
    known = {(e.from_file, e.from_line, e.name): e for e in edges if e.reference_type == "call"}
    assert known["main.py", 5, "go"].target == "shop.core.work"
    assert known["main.py", 5, "go"].from_symbol == "main.start"
    assert known["main.py", 10, "start"].resolution == "exact"
    assert known["main.py", 8, "unknown_name"].resolution == "unresolved"
    assert known["shop/core.py", 13, "self.step"].target == "shop.core.Base.step"
    assert known["shop/core.py", 21, "super().step"][5:8] == ("inherited", 0.95, "shop.core.Base.step")
    for edge in edges:
        assert 0 <= edge.confidence <= 1
        assert (edge.target is None) == (edge.target_file is None)
        if edge.resolution in ("external", "unresolved"):
            assert edge.target is None
    assert {e.reference_type for e in store.symbols.edges(reference_type="inherit")} == {"inherit"}
    with pytest.raises(InvalidArgument):
        list(store.symbols.edges(reference_type="nonsense"))


def test_edges_may_be_left_half_read(store: Store, scan: Scan) -> None:
    stream = store.symbols.edges()
    next(stream)
    del stream
    store.scans.remove(scan)
    assert store.check() == []


# -- imports and files ---------------------------------------------------------------------------------------


def test_imports_of_a_file_and_who_imports_it(store: Store, scan: Scan) -> None:
    rows = store.symbols.imports("shop/core.py")
    assert [(i.line, i.imported_module, i.imported_names, i.resolved_file, i.resolution) for i in rows] == [
        (1, "os", [], None, "external"),
        (2, ".util", ["helper"], "shop/util.py", "imported"),
        (3, ".missing", ["gone"], None, "unresolved"),
        (4, "outside", ["thing"], None, "external"),
    ]
    assert "shop/core.py" in store.symbols.importers("shop/util.py")
    assert store.symbols.importers("shop/core.py") == ["shop/__init__.py", "tests/test_shop.py"]
    assert store.symbols.importers("main.py") == []
    for question in (store.symbols.imports, store.symbols.importers):
        with pytest.raises(NotFound, match=r"no/such\.py"):
            question("no/such.py")


def test_a_package_imports_its_own_modules(store: Store, scan: Scan, tmp_path: Path) -> None:
    assert store.symbols.importers("shop/util.py") == ["shop/__init__.py", "shop/core.py"]
    root = plant(tmp_path / "t", {"p/__init__.py": "from . import a\n", "p/a.py": "import p\n"})
    (cycle,) = store.symbols.import_cycles(scan=store.scans.record(root))
    assert cycle.files == ["p/__init__.py", "p/a.py"] and cycle.kind == "runtime"


def test_import_cycles_and_unresolved_imports(store: Store, scan: Scan) -> None:
    assert ["shop/loop_a.py", "shop/loop_b.py"] in [
        [path for path in cycle.files if "loop" in path] for cycle in store.symbols.import_cycles()
    ]
    assert [(i.importer_file, i.imported_module) for i in store.symbols.unresolved_imports()] == [
        ("shop/core.py", ".missing")
    ]


def test_a_source_comes_before_its_stub_and_a_package_before_its_module(store: Store, tmp_path: Path) -> None:
    store.scans.record(
        plant(
            tmp_path / "t",
            {
                "b.py": "def f(): pass\n",
                "b.pyi": "def f() -> int: ...\n",
                "c.py": "def g(): pass\n",
                "c/__init__.py": "def g(): pass\n",
                "use.py": "from b import f\nfrom c import g\nf()\ng()\n",
            },
        )
    )
    targets = {e.name: e.target_file for e in store.symbols.edges(reference_type="call") if e.from_file == "use.py"}
    assert targets == {"f": "b.py", "g": "c/__init__.py"}


def test_unreferenced_names_what_nothing_mentions(store: Store, scan: Scan) -> None:
    found = set(names(store.symbols.unreferenced()))
    assert {"shop.core.lonely", "shop.core.Base.unused_method", "shop.util.recursive"} <= found
    assert not found & {
        "shop.util.helper",
        "shop.core.Leaf",
        "shop.core.Base.__init__",
        "tests.test_shop.test_work",
        "shop.core.work",
    }
    assert {s.symbol_type for s in store.symbols.unreferenced(symbol_types=["function"])} == {"function"}
    with pytest.raises(InvalidArgument):
        store.symbols.unreferenced(symbol_types=["gadget"])


# -- between scans -------------------------------------------------------------------------------------------


def test_questions_are_about_the_latest_completed_scan_unless_told(store: Store, scan: Scan, root: Path) -> None:
    (root / "shop/util.py").write_text("def helper(): pass\n")
    second = store.scans.record(root)
    store.scans.add("unfinished")
    assert store.symbols.find("deep") == []
    assert (
        names(store.symbols.find("deep", scan=scan))
        == names(store.symbols.find("deep", scan=scan.id))
        == ["shop.util.deep"]
    )
    assert reached(store.symbols.callers("deep", scan=scan)) == {"shop.util.helper": 1}
    assert store.scans.latest().id == second.id
    deep = store.symbols.get("deep", scan=scan)
    assert store.symbols.callers(deep)[0].qualified_name == "shop.util.helper"  # a row belongs to its own scan
    helper = store.symbols.get("helper", scan=scan)
    assert store.symbols.get(helper, scan=second).id != helper.id
    with pytest.raises(NotFound):
        store.symbols.find("x", scan=999)
    for nonsense in ("latest", True, 1.5):
        with pytest.raises(InvalidArgument):
            store.symbols.find("x", scan=nonsense)  # type: ignore[arg-type]


def test_a_store_without_a_scan_says_what_to_do(store: Store) -> None:
    for question in (
        lambda: store.symbols.list(),
        lambda: list(store.symbols.edges()),
        lambda: store.scans.summary(),
        lambda: store.scans.latest(),
        lambda: store.symbols.import_cycles(),
        lambda: store.symbols.get("x"),
    ):
        with pytest.raises(NotFound, match="scanstore scan"):
            question()
    assert store.scans.list() == []


def test_targets_are_kept_apart(store: Store, scan: Scan, tmp_path: Path) -> None:
    other = store.scans.record(plant(tmp_path / "other", {"x.py": "def helper(): pass\n"}), target="other")
    assert store.scans.latest("other").id == other.id == store.scans.latest().id
    assert store.scans.latest(scan.target).id == scan.id
    assert [s.id for s in store.scans.list(target="other")] == [other.id]
    assert [s.id for s in store.scans.list()] == [other.id, scan.id]
    assert [s.id for s in store.scans.list(limit=1)] == [other.id]
    assert other.revision == scan.revision == 1
    with pytest.raises(Ambiguous, match="2 targets"):
        store.symbols.find("helper")
    assert names(store.symbols.find("helper", target="other")) == ["x.helper"]
    with pytest.raises(NotFound, match="elsewhere"):
        store.scans.latest("elsewhere")
    store.scans.remove(scan)
    assert names(store.symbols.find("helper")) == ["x.helper"]
    assert store.check() == []


def test_symbols_diff_tells_added_removed_changed_and_moved(store: Store, scan: Scan, root: Path) -> None:
    assert store.symbols.diff(scan) == ([], [], [], [])
    util = (root / "shop/util.py").read_text()
    (root / "shop/util.py").write_text(
        "# a line more\n" + util.replace("return 1", "return 2").split("def recursive")[0]
    )
    (root / "shop/more.py").write_text("def recursive(n):\n    return recursive(n - 1)\n\n\ndef fresh():\n    pass\n")
    second = store.scans.record(root)
    found = store.symbols.diff(scan, second)
    assert found == store.symbols.diff(scan)
    assert [s.qualified_name for s in found.added] == ["shop.more.fresh"]
    assert found.removed == []
    assert [(c.qualified_name, c.old_line, c.new_line) for c in found.changed] == [("shop.util.deep", 4, 5)]
    assert [(c.qualified_name, c.old_file, c.new_file) for c in found.moved] == [
        ("shop.more.recursive", "shop/util.py", "shop/more.py")
    ]
    back = store.symbols.diff(second, scan)
    assert [s.qualified_name for s in back.removed] == ["shop.more.fresh"]
    assert [c.new_file for c in back.moved] == ["shop/util.py"]


def test_renaming_a_file_moves_its_symbols(store: Store, scan: Scan, root: Path) -> None:
    (root / "shop/util.py").rename(root / "shop/tools.py")
    store.scans.record(root)
    assert store.scans.diff(scan) == ([], [], [], [("shop/util.py", "shop/tools.py")])
    found = store.symbols.diff(scan)
    assert (found.added, found.removed, found.changed) == ([], [], [])
    assert sorted(c.qualified_name for c in found.moved) == [
        "shop.tools.deep",
        "shop.tools.helper",
        "shop.tools.recursive",
    ]


def test_a_renamed_function_with_the_same_body_is_told(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"a.py": "def one():\n    return 1\n"})
    first = store.scans.record(root)
    (root / "a.py").write_text("def two():\n    return 1\n")
    store.scans.record(root)
    found = store.symbols.diff(first)
    assert len(found.added) == len(found.removed) == 1 or len(found.moved) == 1


def test_files_diff(store: Store, scan: Scan, root: Path) -> None:
    (root / "main.py").write_text("x = 1\n")
    (root / "new.py").write_text("y = 1\n")
    (root / "shop/loop_a.py").unlink()
    (root / "shop/util.py").rename(root / "shop/tools.py")
    (root / "copy.py").write_text((root / "tests/test_shop.py").read_text())
    store.scans.record(root)
    assert store.scans.diff(scan) == (
        ["copy.py", "new.py"],
        ["shop/loop_a.py"],
        ["main.py"],
        [("shop/util.py", "shop/tools.py")],
    )
    assert store.scans.diff(scan, scan) == ([], [], [], [])


def test_diff_of_empty_files_pairs_each_once(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"a.py": "", "b.py": ""})
    first = store.scans.record(root)
    (root / "a.py").unlink()
    (root / "b.py").unlink()
    plant(root, {"c.py": "", "d.py": "", "e.py": ""})
    store.scans.record(root)
    assert store.scans.diff(first) == (["e.py"], [], [], [("a.py", "c.py"), ("b.py", "d.py")])


def test_diff_of_a_missing_scan(store: Store, scan: Scan) -> None:
    for question in (store.scans.diff, store.symbols.diff):
        with pytest.raises(NotFound, match="99"):
            question(99)
        with pytest.raises(NotFound, match="99"):
            question(scan, 99)


# -- removing and summary ------------------------------------------------------------------------------------


def test_remove_counts_what_went_and_the_rest_answers_as_before(store: Store, scan: Scan, root: Path) -> None:
    before = list(store.symbols.edges(scan))
    (root / "extra.py").write_text("from shop import work\n\ndef very_special():\n    work()\n")
    second = store.scans.record(root)
    gone = store.scans.remove(second)
    assert gone.pop("names") > 0
    assert gone == {
        "scans": 1, "scan_files": len(SHOP) + 1, "file_versions": 1, "symbol_facts": 2, "reference_facts": 2,
        "import_facts": 1, "chunk_facts": 1,
    }  # fmt: skip
    assert list(store.symbols.edges(scan)) == before
    assert store.scans.latest().id == scan.id
    with pytest.raises(NotFound, match=str(second.id)):
        store.scans.remove(second)
    assert store.check() == []


def test_ids_of_removed_scans_never_come_back(store: Store, scan: Scan, root: Path) -> None:
    work = store.symbols.get("work")
    store.scans.remove(scan)
    again = store.scans.record(root)
    assert again.id != scan.id
    with pytest.raises(NotFound):
        store.symbols.get(work.id)
    with pytest.raises(ScanstoreError):
        store.symbols.callers(work)


def test_a_running_scan_can_be_removed(store: Store, scan: Scan) -> None:
    running = store.scans.add("other")
    store.symbols.record_file(running, "a.c", "1", symbols=[{"name": "f"}])
    assert store.scans.remove(running)["file_versions"] == 1
    with pytest.raises(NotFound):
        store.scans.finish(running)
    assert store.check() == []


def test_summary_counts_what_is_there(store: Store, scan: Scan, root: Path) -> None:
    summary = store.scans.summary()
    assert (summary.scan, summary.target, summary.status) == (scan.id, str(root), "completed")
    assert (summary.files, summary.indexed, summary.reused, summary.skipped, summary.failed) == (
        len(SHOP),
        len(SHOP),
        0,
        0,
        0,
    )
    assert summary.lines == sum(len(path.read_text(encoding="utf-8").splitlines()) for path in root.rglob("*.py"))
    assert summary.symbols == Symbol.select().where(Symbol.scan == scan).count()
    assert sum(summary.resolutions.values()) == summary.references == len(list(store.symbols.edges()))
    assert summary.imports == sum(len(store.symbols.imports(f.file_path)) for f in ScanFile.select())
    store.scans.record(root)
    assert store.scans.summary() == summary._replace(scan=scan.id + 1, indexed=0, reused=len(SHOP))
    assert store.scans.summary(scan) == summary


def test_find_by_the_name_that_code_imports_it_by(store: Store, tmp_path: Path) -> None:
    root = plant(
        tmp_path / "alias",
        {"pkg/__init__.py": "from .impl import Thing\n", "pkg/impl.py": "class Thing:\n    def go(self): pass\n",
         "use.py": "import pkg\nfrom pkg import Thing\npkg.Thing.go(None)\n"},
    )  # fmt: skip
    store.scans.record(root)
    assert [s.qualified_name for s in store.symbols.find("pkg.Thing")] == ["pkg.impl.Thing"]
    assert store.symbols.get("pkg.Thing.go").qualified_name == "pkg.impl.Thing.go"
    assert store.symbols.find("pkg.Nothing") == []


def test_what_each_of_several_imports_brings_is_a_target(store: Store, tmp_path: Path) -> None:
    """Through a package, as a module, and as a name."""
    root = plant(
        tmp_path / "doubt",
        {
            "pkg/__init__.py": "try:\n    from .fast import f\nexcept ImportError:\n    from .slow import f\n",
            "pkg/fast.py": "def f(): pass\n",
            "pkg/slow.py": "def f(): pass\n",
            "plat.py": "if windows:\n    import pkg.fast as impl\nelse:\n    import pkg.slow as impl\n",
            "use.py": "from pkg import f\nimport plat\nf()\nplat.impl.f()\n",
        },
    )
    store.scans.record(root)
    edges = [e for e in store.symbols.edges() if e.from_file == "use.py" and e.name in ("f", "plat.impl.f", "pkg.f")]
    assert [(e.name, e.resolution, e.target) for e in edges] == [
        (name, "imported", target) for name in ("pkg.f", "f", "plat.impl.f") for target in ("pkg.fast.f", "pkg.slow.f")
    ]
    for function in ("pkg.fast.f", "pkg.slow.f"):
        assert [c.qualified_name for c in store.symbols.callers(function)] == ["use"]
    assert store.symbols.unresolved_imports() == []


def test_find_scan_by_an_impossible_id(store: Store) -> None:
    for key in (0, -1, 2**63, 10**20):
        with pytest.raises(InvalidArgument, match=f"{key} is not a scan"):
            store.scans.get(key)
