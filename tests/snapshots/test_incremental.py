"""Incremental equals clean: whatever the way to a tree, a scan of it shows what a first scan of it would show.

Random edits are made to a small tree of packages, each followed by a scan into one store. After every step the new
snapshot is compared with a clean one, in a store of its own, and every older snapshot with what it showed when it was
made. Scans are removed, completed again and repeated in between; in the end all are removed and nothing may be left.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from comparing import assert_same, shown
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from scanstore.indexing.files import index
from scanstore.indexing.python.indexer import PythonIndexer
from scanstore.indexing.walk import module_names
from scanstore.snapshots.resolver import Module, Resolver
from scanstore.snapshots.tree_scan import Tree
from scanstore.store import Store

# What a scan shows ---------------------------------------------------------------------------------------------------


# The four views, each with what its ids stand for.


def leftovers(store: Store) -> dict[str, int]:
    tables = (
        "scans",
        "lineages",
        "scan_files",
        "file_versions",
        "names",
        "symbol_facts",
        "reference_facts",
        "import_facts",
        "chunk_facts",
        "chunk_work",
        "bindings",
    )
    counts = {t: store.database.execute_sql(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}
    return {table: count for table, count in counts.items() if count}


# The trees -----------------------------------------------------------------------------------------------------------

PATHS = (
    "a.py",
    "b.py",
    "p/a.py",
    "p/b.py",
    "p/q/a.py",
    "p/q/c.py",
    "p/__init__.py",
    "p/q/__init__.py",
    "__init__.py",
    "a/__init__.py",
    "a/c.py",
    "src/r/__init__.py",
    "src/r/b.py",
    "b.pyi",
    "notes.txt",
    "n/s/x.py",
    "n/s/y.py",
    "m/s/x.py",
    "m/x.py",
)

#: Imports and definitions that meet, miss and shadow each other when files come, go and move.
FRAGMENTS = (
    "def f():\n    return g()\n",
    "def f(x):\n    return h(x)\n",
    "def g():\n    return f()\n",
    "def h(x: 'Base') -> 'Base':\n    x.run()\n    return x\n",
    "class Base:\n    def run(self):\n        return self.step()\n    def step(self):\n        return f()\n",
    "class Base:\n    def step(self):\n        return g()\n",
    "class Derived(Base):\n    def step(self):\n        return super().step()\n",
    "class Derived(Base):\n    def other(self):\n        return self.run()\n",
    "class Third(Derived, Base):\n    pass\n",
    "Derived().run()\n",
    "Third().step()\nh(Derived()).step()\n",
    "limit = 3\nmade = Base()\n",
    "made.run()\n",
    "f()\ng()\nunique_method_holder.only_here()\n",
    "class Holder:\n    def only_here(self):\n        pass\n",
    "import a\na.f()\na.Base().run()\n",
    "import b\nb.g()\nb.made.run()\n",
    "import p\np.f()\np.a.f()\np.q.a.Base().step()\n",
    "import p.a\np.a.g()\n",
    "import p.q.a as deep\ndeep.h(1).run()\n",
    "import a.c\na.c.f()\n",
    "import r.b\nr.b.f()\n",
    "from a import f\n",
    "from a import *\n",
    "from b import Base, g\n",
    "from b import *\n",
    "from p import *\n",
    "from p import a, Base as Basis\na.f()\nBasis().run()\n",
    "from p.a import f as g\n",
    "from p.q.a import Base\n",
    "from p.q import *\n",
    "from . import a\na.f()\n",
    "from .a import Base, f\n",
    "from .a import *\n",
    "from .b import Derived\n",
    "from .q import a as q_a\nq_a.f()\n",
    "from .q.a import *\n",
    "from .. import b\nb.f()\n",
    "from ..a import Derived as Base\n",
    "from r import f\nfrom r.b import Base\n",
    "import os.path\nos.path.join('a', 'b')\nfrom collections import OrderedDict\n",
    "try:\n    from a import f\nexcept ImportError:\n    from p.a import f\n",
    "try:\n    import b\nexcept ImportError:\n    b = None\n",
    "__all__ = ['f', 'Base']\n",
    "def use():\n    from p.q.a import g\n    return g()\n",
    "def g():\n    return Base()\n",
    "def g(x: T) -> T: ...\n",
    "from typing import TypeVar\nT = TypeVar('T')\n",
    "g(Base()).step()\nmade: Base = Derived()\n",
    "try:\n    from a import g\nexcept ImportError:\n    def g(): return Derived()\n",
    "g().step()\nfor x in g(): x.step()\n",
    "class Base(metaclass=Derived):\n    def step(self):\n        return self\n    def __next__(self): return f()\n",
    "class Derived(Base):\n    def __iter__(self): return self.step()\n"
    "    @classmethod\n    def f(cls): return cls()\n",
    "Derived.f().run()\nBase.step().run()\n",
    "if f:\n    Base = Derived(Base)\n",
    "def u(x: 'Base | Derived | Third'):\n    x.step()\n    x.run()\n",
    "if u:\n    def f(): ...\nelse:\n    def f(): ...\nu(f())\n",
    # modules below source roots
    "from s.x import f\nf()\n",
    "import s.y\ns.y.g()\n",
    "from s.y import Base\nBase().step()\n",
    "from s import x\nx.f()\n",
    "import x\nx.g()\n",
    "from ..x import f\nf()\n",
)
ROOTED = range(len(FRAGMENTS) - 6, len(FRAGMENTS))
BROKEN = "def broken(:\n"

place = st.integers(0, 255)
FILE = st.sampled_from(PATHS)
TEXT = st.lists(st.integers(0, len(FRAGMENTS) - 1), max_size=4)
EDITS = st.one_of(
    st.tuples(st.just("write"), FILE, TEXT),
    st.tuples(st.just("write"), FILE, TEXT),
    st.tuples(st.just("add"), place, st.integers(0, len(FRAGMENTS) - 1)),
    st.tuples(st.just("cut"), place, place),
    st.tuples(st.just("shift"), place),
    st.tuples(st.just("rename"), place, FILE),
    st.tuples(st.just("copy"), place, FILE),
    st.tuples(st.just("delete"), place),
    st.tuples(st.just("break"), place),
    st.tuples(st.just("mend"), place),
    st.tuples(st.just("return"), place),
    st.tuples(st.just("empty")),
    st.tuples(st.just("part"), FILE),
    st.tuples(st.just("again"), place),
    st.tuples(st.just("late"), place, FILE, TEXT),
    st.tuples(st.just("remove"), place),
    st.tuples(st.just("remove"), place),
)

FIRST = {
    "a.py": (4, 0),
    "b.py": (22, 5, 2),
    "p/__init__.py": (32, 35),
    "p/a.py": (22, 4, 0),
    "p/b.py": (32, 6, 9),
    "p/q/__init__.py": (33,),
    "p/q/a.py": (24, 7, 3),
    "notes.txt": (0,),
}


class World:
    """A tree on disk, the store that follows it, and what each of its scans showed when it was made."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self.folder = folder
        self.empty = empty
        self.root = folder / "tree"
        self.root.mkdir()
        shutil.copy(empty, folder / "scan.db")
        self.store = Store(folder / "scan.db", durability="normal")
        self.files: dict[str, tuple[Any, ...]] = dict(FIRST)
        self.history: list[dict[str, tuple[Any, ...]]] = []
        self.on_disk: dict[str, str] = {}
        self.seen: dict[int, dict[str, Any]] = {}

    def text(self, path: str) -> str:
        return "".join(BROKEN if n == -1 else "# moved down\n" if n == -2 else FRAGMENTS[n] for n in self.files[path])

    def write(self) -> None:
        for path in [p for p in self.on_disk if p not in self.files]:
            (self.root / path).unlink()
            del self.on_disk[path]
        for path in self.files:
            text = self.text(path)
            if self.on_disk.get(path) != text:
                (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                (self.root / path).write_text(text)
                self.on_disk[path] = text

    def pick(self, number: int) -> str | None:
        paths = sorted(self.files)
        return paths[number % len(paths)] if paths else None

    def edit(self, edit: tuple[Any, ...]) -> dict[str, Any]:
        """Change the tree; returns options for the next scan."""
        kind, *rest = edit
        path = self.pick(rest[0]) if rest and isinstance(rest[0], int) else None
        if kind == "write":
            self.files[rest[0]] = tuple(rest[1])
        elif kind == "part":
            return {"exclude": ["/" + rest[0]]}
        elif kind == "empty":
            self.files = {}
        elif kind == "return" and self.history:
            self.files = dict(self.history[rest[0] % len(self.history)])
        elif path is not None and kind == "add":
            self.files[path] = (*self.files[path], rest[1])
        elif path is not None and kind == "cut" and self.files[path]:
            parts = list(self.files[path])
            del parts[rest[1] % len(parts)]
            self.files[path] = tuple(parts)
        elif path is not None and kind == "shift":
            self.files[path] = (-2, *self.files[path])
        elif path is not None and kind == "rename":
            self.files[rest[1]] = self.files.pop(path)
        elif path is not None and kind == "copy":
            self.files[rest[1]] = self.files[path]
        elif path is not None and kind == "delete":
            del self.files[path]
        elif path is not None and kind == "break":
            self.files[path] = (*self.files[path], -1)
        elif path is not None and kind == "mend":
            self.files[path] = tuple(n for n in self.files[path] if n != -1)
        return {}

    def scan(self, **options: Any) -> None:
        self.write()
        self.history.append(dict(self.files))
        scan = self.store.scans.record(self.root, jobs=1, **options)
        now = shown(self.store, scan.id)
        with tempfile.TemporaryDirectory(dir=self.folder) as clean:
            shutil.copy(self.empty, os.path.join(clean, "scan.db"))
            with Store(os.path.join(clean, "scan.db"), durability="normal") as other:
                first = shown(other, other.scans.record(self.root, jobs=1, **options).id)
        assert_same(now, first, "the new scan and a clean one")
        self.seen[scan.id] = now

    def record_into(self, scan: int) -> None:
        """Files are recorded into a scan that was completed, and nobody finishes it again."""
        self.write()
        tree = Tree(self.root, include=[], exclude=[], max_size=10**6, indexers=(), omit=self.store.path)
        tree.record_into(self.store.scans.recorder(scan), jobs=1, progress=None)
        del self.seen[scan]

    def check(self, *, questions: bool = False) -> None:
        for scan, before in self.seen.items():
            assert_same(shown(self.store, scan, questions=questions), before, f"scan {scan} now and when it was made")
        assert self.store.check() == []

    def run(self, edits: list[tuple[Any, ...]]) -> None:
        self.scan()
        for edit in edits:
            kind = edit[0]
            ids = sorted(self.seen)
            if kind == "remove":
                if ids:
                    scan = ids[edit[1] % len(ids)]
                    self.store.scans.remove(scan)
                    del self.seen[scan]
            elif kind == "again":
                if ids:
                    self.store.scans.finish(ids[edit[1] % len(ids)])
            elif kind == "late":
                if ids:
                    self.edit(("write", *edit[2:]))
                    self.record_into(ids[edit[1] % len(ids)])
            else:
                self.scan(**self.edit(edit))
            self.check()
        self.check(questions=True)
        for scan in sorted((scan.id for scan in self.store.scans.list()), key=lambda s: (s * 7) % 5):
            self.store.scans.remove(scan)
            self.seen.pop(scan, None)
            self.check()
        assert leftovers(self.store) == {}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store without scans, to be copied: opening a new one costs more than a scan."""
    path = tmp_path_factory.mktemp("empty") / "scan.db"
    Store(path).close()
    yield path


def run(empty: Path, edits: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(prefix="incremental-") as folder:
        world = World(Path(folder), empty)
        try:
            with world.store:
                world.run(edits)
        finally:
            world.store.close()


FEW = settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@FEW
@given(edits=st.lists(EDITS, min_size=1, max_size=7))
@example(edits=[("delete", 3), ("remove", 1), ("return", 0)])  # bindings that ended are carried on
@example(edits=[("delete", 3), ("remove", 1), ("return", 0), ("add", 0, 21)])
@example(edits=[("delete", 3), ("return", 0), ("remove", 1), ("remove", 1), ("add", 0, 9)])
@example(edits=[("delete", 1), ("write", "b.py", [2]), ("return", 0)])
@example(edits=[("rename", 3, "p/q/c.py"), ("remove", 0), ("break", 2), ("mend", 2)])
@example(edits=[("shift", 0), ("remove", 1), ("shift", 0), ("again", 0)])
@example(edits=[("write", "__init__.py", []), ("delete", 0), ("return", 1), ("remove", 1)])
@example(edits=[("late", 0, "p/b.py", [32, 6, 9, 22, 5, 7]), ("shift", 0)])
@example(edits=[("write", "n/s/x.py", [0]), ("write", "a.py", [ROOTED[0]]), ("write", "b.py", [ROOTED[3]])])
@example(edits=[("write", "n/s/y.py", [2]), ("write", "a.py", [*ROOTED[:3]]), ("write", "n/s/x.py", [0, 4])])
@example(edits=[("write", "n/s/x.py", [0]), ("write", "a.py", [ROOTED[0]]), ("write", "m/s/x.py", [ROOTED[5]])])
@example(edits=[("write", "m/x.py", [0]), ("write", "a.py", [ROOTED[4]]), ("write", "m/x.py", [2])])
@example(edits=[("shift", 0), ("late", 1, "b.py", [4]), ("late", 0, "a.py", [0]), ("again", 0)])
def test_every_step_equals_a_clean_scan_and_leaves_the_older_ones_alone(
    empty: Path, edits: list[tuple[Any, ...]]
) -> None:
    run(empty, edits)


@pytest.mark.slow
@pytest.mark.skipif("SCANSTORE_LONG" not in os.environ, reason="set SCANSTORE_LONG=1 for the long search")
@settings(FEW, max_examples=int(os.environ.get("SCANSTORE_EXAMPLES", "600")), phases=[Phase.generate, Phase.shrink])
@given(edits=st.lists(EDITS, min_size=4, max_size=25))
def test_every_step_equals_a_clean_scan_for_long(empty: Path, edits: list[tuple[Any, ...]]) -> None:
    run(empty, edits)


CYCLIC = [n for n, text in enumerate(FRAGMENTS) if "import" in text or "class" in text or "def" in text]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tree=st.dictionaries(FILE, st.lists(st.sampled_from(CYCLIC), min_size=1, max_size=5), min_size=2, max_size=7),
    order=st.randoms(use_true_random=False),
)
@example(tree={"p/q/a.py": [27], "p/__init__.py": [29, 30, 33]}, order=Random(1))  # a cycle of star imports
def test_what_a_path_means_does_not_depend_on_what_was_asked_before(tree: dict[str, list[int]], order: Any) -> None:
    """In one scan names come in the order of their ids, which tells of the scans before."""
    names = module_names([path for path in tree if path.endswith((".py", ".pyi"))])
    modules: dict[str, Module] = {}
    paths: set[str] = set()
    for version, (path, module) in enumerate(sorted(names.items())):
        text = "".join(FRAGMENTS[n] for n in tree[path]).encode()
        facts = index(PythonIndexer(), text, path=path, module=module)
        modules[module] = Module(version, facts.interface or b"", path)
        paths.update(facts.strings[r[4]] for r in facts.references if r[4] is not None)
    alone = {path: Resolver(modules).target(path) for path in sorted(paths)}
    mixed = sorted(paths)
    order.shuffle(mixed)
    for asked in (mixed, mixed[::-1], sorted(paths), sorted(paths, reverse=True)):
        together = Resolver(modules)
        assert {path: together.target(path) for path in asked} == alone


# The same by hand, where the reason should be readable ----------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "p").mkdir(parents=True)
    (root / "p/__init__.py").write_text("from .core import work\n")
    (root / "p/core.py").write_text("def work():\n    return 1\n")
    (root / "main.py").write_text(
        "import p\nfrom p import work\nfrom late import arrive\n\nwork()\np.work()\narrive()\n"
    )
    return root


def calls(store: Store, scan: Any = None) -> dict[tuple[str, int], tuple[str, str | None]]:
    return {
        (e.from_file, e.from_line): (e.resolution, e.target_file)
        for e in store.symbols.edges(scan, reference_type="call")
    }


def test_a_file_that_appears_resolves_those_that_waited_and_one_that_goes_unresolves_them(
    store: Store, tree: Path
) -> None:
    before = store.scans.record(tree)
    assert calls(store, before)["main.py", 7] == ("external", None)
    (tree / "late.py").write_text("def arrive(): pass\n")
    with_it = store.scans.record(tree)
    assert calls(store, with_it)["main.py", 7] == ("imported", "late.py")
    assert store.scans.summary(with_it).indexed == 1  # main.py was not read again
    (tree / "late.py").unlink()
    after = store.scans.record(tree)
    assert store.scans.summary(after).indexed == 0
    assert calls(store, after)["main.py", 7] == ("external", None)
    assert calls(store, with_it)["main.py", 7] == ("imported", "late.py")
    assert calls(store, before)["main.py", 7] == ("external", None)


def test_a_definition_that_moves_behind_a_re_export_is_followed(store: Store, tree: Path) -> None:
    first = store.scans.record(tree)
    assert calls(store, first)["main.py", 5] == ("imported", "p/core.py")
    (tree / "p/other.py").write_text((tree / "p/core.py").read_text(encoding="utf-8"))
    (tree / "p/core.py").write_text("from .other import work\n")
    second = store.scans.record(tree)
    assert calls(store, second)["main.py", 5] == calls(store, second)["main.py", 6] == ("imported", "p/other.py")
    assert calls(store, first)["main.py", 5] == ("imported", "p/core.py")
    (tree / "p/other.py").write_text("def work(:\n")
    third = store.scans.record(tree)
    assert calls(store, third)["main.py", 5][0] == "unresolved"
    assert [note.path for note in store.scans.summary(third).failed_files] == ["p/other.py"]


def test_a_base_class_that_changes_changes_what_its_subclasses_mean(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "base.py").write_text("class Base:\n    def go(self): pass\n")
    (root / "use.py").write_text("from base import Base\n\nclass Mine(Base):\n    pass\n\nMine().go()\n")
    first = store.scans.record(root)
    assert [e[5:8:2] for e in store.symbols.edges(first) if e.name == "Mine().go"] == [("inherited", "base.Base.go")]
    (root / "base.py").write_text("class Root:\n    def go(self): pass\n\nclass Base(Root):\n    pass\n")
    second = store.scans.record(root)
    assert [e[5:8:2] for e in store.symbols.edges(second) if e.name == "Mine().go"] == [("inherited", "base.Root.go")]
    assert store.scans.summary(second).indexed == 1


def test_removing_the_middle_scan_keeps_both_neighbours(store: Store, tree: Path) -> None:
    first = store.scans.record(tree)
    (tree / "p/core.py").write_text("def idle():\n    pass\n")
    second = store.scans.record(tree)
    (tree / "p/core.py").write_text("def work():\n    return 1\n")
    third = store.scans.record(tree)
    kept = {scan.id: shown(store, scan.id) for scan in (first, third)}
    gone = store.scans.remove(second)
    assert gone["file_versions"] == 1 and gone["symbol_facts"] == 2
    assert {scan: shown(store, scan) for scan in kept} == kept
    assert not store.database.execute_sql("SELECT 1 FROM names WHERE text = 'idle'").fetchone()
    assert store.check() == []


def test_removing_everything_leaves_nothing(store: Store, tree: Path) -> None:
    for n in range(3):
        (tree / f"m{n}.py").write_text(f"import m{n - 1}\n\ndef f{n}(): pass\n")
        store.scans.record(tree)
    store.scans.record(tree, target="another")
    for scan in store.scans.list():
        store.scans.remove(scan)
    assert leftovers(store) == {}
