"""Modules in folders without ``__init__.py``, found by how the tree imports them, or by given roots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from scanstore import Store
from scanstore.cli import main
from scanstore.errors import InvalidArgument
from scanstore.snapshots.interfaces import Module
from scanstore.snapshots.source_roots import MOST_ROOTS, SourceRoots, place_of

Edges = dict[tuple[str, int], tuple[str, str | None]]
Scan = Callable[..., Edges]


@pytest.fixture
def scan(store: Store, tmp_path: Path) -> Scan:
    """Write a tree, record it, and return the calls: place to resolution and target."""

    def record(tree: dict[str, str], *, roots: tuple[str, ...] = (), jobs: int = 1) -> Edges:
        root = tmp_path / "tree"
        for path, text in tree.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        recorded = store.scans.record(root, roots=roots, jobs=jobs)
        edges = store.symbols.edges(recorded, reference_type="call")
        return {(e.from_file, e.from_line): (e.resolution, e.target) for e in edges}

    return record


SERVICES = {"api/services/x.py": "def y(): pass\n", "api/services/z.py": "def w(): pass\n"}


@pytest.mark.parametrize(
    "text",
    [
        "from services.x import y\ny()\n",
        "import services.x\nservices.x.y()\n",
        "from services import x\nx.y()\n",
        "import services.x as deep\ndeep.y()\n",
        "from api.services.x import y\ny()\n",
    ],
)
def test_a_folder_is_a_root_if_the_imports_spell_it_so(scan: Scan, text: str) -> None:
    assert scan({**SERVICES, "api/app.py": text}) == {("api/app.py", 2): ("imported", "api.services.x.y")}


def test_packages_below_a_folder_without_init_are_found_by_both_spellings(scan: Scan) -> None:
    tree = {
        "api/core/app/__init__.py": "",
        "api/core/app/m.py": "from ..x import y\ny()\n",
        "api/core/x.py": "def y(): pass\n",
        "a.py": "from core.app.m import y\ny()\n",
        "b.py": "import api.core.app.m\napi.core.app.m.y()\n",
    }
    target = "imported", "api.core.x.y"
    assert scan(tree) == {("api/core/app/m.py", 2): target, ("a.py", 2): target, ("b.py", 2): target}


def test_src_as_a_part_of_the_name(scan: Scan) -> None:
    tree = {"src/models.py": "def f(): pass\n", "train.py": "from src.models import f\nf()\n"}
    assert scan(tree) == {("train.py", 2): ("imported", "models.f")}


def test_one_namespace_in_two_packages_of_a_monorepo(scan: Scan) -> None:
    tree = {
        "packages/a/src/common/x.py": "def f(): pass\n",
        "packages/b/src/common/y.py": "def g(): pass\n",
        "use.py": "import common.x, common.y\ncommon.x.f()\ncommon.y.g()\n",
    }
    assert scan(tree) == {
        ("use.py", 2): ("imported", "packages.a.src.common.x.f"),
        ("use.py", 3): ("imported", "packages.b.src.common.y.g"),
    }


def test_a_name_that_several_folders_have_is_a_guess(scan: Scan) -> None:
    tree = {"two/services/x.py": "def y(): pass\n", "use.py": "from services.x import y\ny()\n"}
    assert scan({**SERVICES, **tree}) == {("use.py", 2): ("guessed", "api.services.x.y")}


def test_a_module_inside_a_package_may_be_meant_too(scan: Scan) -> None:
    tree = {
        "one/helper.py": "def f(): pass\n", "p/__init__.py": "", "p/helper.py": "def f(): pass\n",
        "use.py": "import helper\nhelper.f()\n",
    }  # fmt: skip
    assert scan(tree) == {("use.py", 2): ("guessed", "one.helper.f")}


def test_an_installed_package_of_the_same_name(scan: Scan) -> None:
    tree = {
        "examples/celery/tasks.py": "def add(): pass\n",
        "use.py": "from celery import Celery\nfrom celery.tasks import add\nCelery()\nadd()\n",
    }
    assert scan(tree) == {
        ("use.py", 3): ("external", None),  # a folder without __init__.py has no such attribute
        ("use.py", 4): ("guessed", "examples.celery.tasks.add"),
    }


def test_modules_of_the_standard_library_are_never_below_a_root(scan: Scan) -> None:
    tree = {"api/logging/handlers.py": "def f(): pass\n", "use.py": "from logging.handlers import f\nf()\n"}
    assert scan(tree) == {("use.py", 2): ("external", None)}


def test_a_module_beside_a_script_needs_an_attribute_that_fits(scan: Scan) -> None:
    tree = {"tools/helper.py": "def f(): pass\n", "tools/run.py": "import helper\nhelper.f()\n"}
    assert scan(tree) == {("tools/run.py", 2): ("imported", "tools.helper.f")}
    tree = {"use.py": "import helper\nhelper.other()\n"}
    assert scan(tree)["tools/run.py", 2] == ("guessed", "tools.helper.f")


def test_trust_changes_with_the_other_imports_of_the_tree(scan: Scan, store: Store) -> None:
    tree = {**SERVICES, "a.py": "from services.x import y\ny()\n", "b.py": "from services.x import y\n"}
    assert scan(tree)["a.py", 2][0] == "imported"
    assert scan({"b.py": "from services.other import y\n"})["a.py", 2][0] == "guessed"
    assert scan({"b.py": ""})["a.py", 2][0] == "imported"
    assert scan({"api/services/x.py": "def q(): pass\n"})["a.py", 2] == ("unresolved", None)
    assert store.check() == []


def test_relative_imports_that_leave_the_top_package_are_places_of_the_tree(scan: Scan, store: Store) -> None:
    tree = {
        "x.py": "def y(): pass\n", "a/p/__init__.py": "", "a/p/m.py": "from ..x import y\ny()\n",
        "a/q.py": "from . import z\nz.f()\nfrom ...far import g\ng()\n",
    }  # fmt: skip
    # Not x.py of the root, which has the module's name.
    assert scan(tree)["a/p/m.py", 2] == ("unresolved", None)
    assert {row.imported_module for row in store.symbols.unresolved_imports()} == {"..x", "...far"}
    assert scan({"a/x.py": "def y(): pass\n", "a/z.py": "def f(): pass\n"}) == {
        ("a/p/m.py", 2): ("imported", "a.x.y"), ("a/q.py", 2): ("imported", "a.z.f"),
        ("a/q.py", 4): ("unresolved", None),
    }  # fmt: skip


def test_find_knows_the_name_by_which_code_imports_a_symbol(scan: Scan, store: Store) -> None:
    scan({**SERVICES, "api/app.py": "from services.x import y\ny()\n"})
    assert [found.qualified_name for found in store.symbols.find("services.x.y")] == ["api.services.x.y"]


# Given roots


def test_given_roots_name_the_modules(scan: Scan, store: Store) -> None:
    tree = {**SERVICES, "api/__init__.py": "", "api/app.py": "from services.x import y\ny()\n", "other.py": "y = 1\n"}
    assert scan(tree, roots=("api",)) == {("api/app.py", 2): ("imported", "services.x.y")}
    recorded = store.scans.latest()
    assert recorded.options["roots"] == ["api"]
    names = [s.qualified_name for s in store.symbols.list(symbol_type="module")]
    assert names == ["api", "app", "services.x", "services.z", "other"]


def test_only_files_whose_module_is_renamed_are_read_again(scan: Scan, store: Store) -> None:
    scan({**SERVICES, "main.py": "def f(): pass\n"})
    scan({}, roots=("api",))
    assert store.scans.summary().indexed == 2
    scan({})
    assert store.scans.summary().indexed == 0


def test_the_first_root_keeps_a_name(scan: Scan) -> None:
    tree = {
        **SERVICES, "two/services/x.py": "def y(): pass\n", "use.py": "from services.x import y\ny()\n",
        "api/use.py": "from two.services.x import y\ny()\n",
    }  # fmt: skip
    found = scan(tree, roots=("api", "two"))
    assert found["use.py", 2] == ("imported", "services.x.y")
    assert found["api/use.py", 2] == ("imported", "two.services.x.y")
    assert scan(tree, roots=("two", "api"))["api/use.py", 2] == ("imported", "services.x.y")


@pytest.mark.parametrize("root", ["", ".."])
def test_roots_outside_the_tree_are_refused(scan: Scan, store: Store, root: str) -> None:
    with pytest.raises(InvalidArgument):
        scan(SERVICES, roots=(root,))
    with pytest.raises(InvalidArgument, match="roots has 'gone', which is no folder of"):
        scan(SERVICES, roots=("gone",))
    with pytest.raises(InvalidArgument, match="roots has 'api/services/x.py'"):
        scan(SERVICES, roots=("api/services/x.py",))
    assert not store.scans.list()


def test_the_tree_itself_and_absolute_folders_are_roots(scan: Scan, store: Store, tmp_path: Path) -> None:
    tree = {"src/m.py": "def f(): pass\n", "use.py": "from src.m import f\nf()\n"}
    assert scan(tree, roots=(".",)) == {("use.py", 2): ("imported", "src.m.f")}
    assert scan(tree, roots=(str(tmp_path / "tree/src"),)) == {("use.py", 2): ("imported", "m.f")}


# Bad input


def test_many_folders_of_one_name_are_not_searched() -> None:
    modules = {f"f{n}.util": Module(n, b"", f"f{n}/util.py") for n in range(MOST_ROOTS + 1)}
    roots = SourceRoots(modules, lambda top: ["util:.f"])
    assert roots.find("util") is None and roots.is_ambiguous("util")
    assert not roots.is_trusted("util")


def test_places() -> None:
    assert place_of("__init__.py") == ("", True)
    assert place_of("a b/c.d.pyi") == ("a b.c.d", False)


# The command line


def test_roots_of_the_command_and_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in {**SERVICES, "other/x.py": ""}.items():
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scanstore.toml").write_text('source-roots = ["tree/api", "elsewhere"]\n')

    def names(*arguments: str) -> list[str]:
        result = CliRunner().invoke(main, ["scan", *arguments, "--db", "x.db", "--target", "t"])
        assert result.exit_code == 0, result.output
        with Store("x.db") as store:
            return [s.qualified_name for s in store.symbols.list(symbol_type="module", target="t")]

    assert names("tree") == ["services.x", "services.z", "other.x"]
    assert names("tree/api") == ["services.x", "services.z"]
    assert names("tree/other") == ["x"]
    assert names("tree", "--root", "api/services", "--root", "other") == ["x", "z", "other.x"]
    result = CliRunner().invoke(main, ["scan", "tree", "--root", "gone", "--db", "x.db"])
    assert result.exit_code == 1 and "roots has 'gone', which is no folder of" in result.output
    (tmp_path / "scanstore.toml").write_text('source-roots = [".."]\n')
    result = CliRunner().invoke(main, ["scan", "tree", "--db", "x.db"])
    assert result.exit_code == 2 and "source-roots[0] is '..'" in result.output
