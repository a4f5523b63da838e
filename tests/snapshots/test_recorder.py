"""Recording: what is written once, what is written again, and what a scanner with its own parser may hand over."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scanstore.db.rules import change_rows
from scanstore.errors import IllegalMove, InvalidArgument, NotFound
from scanstore.indexing import FileFacts, facts_of
from scanstore.models import ImportRelation, Scan, ScanFile, ScanFileChunk, Symbol, SymbolReference
from scanstore.store import Store

TABLES = (
    "lineages",
    "scans",
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


def rows(store: Store) -> dict[str, int]:
    return {t: store.database.execute_sql(f"SELECT count(*) FROM {t}").fetchone()[0] for t in TABLES}


def written(store: Store, before: dict[str, int]) -> dict[str, int]:
    return {table: count - before[table] for table, count in rows(store).items() if count != before[table]}


def plant(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(textwrap.dedent(text))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {f"p/m{n}.py": f"from .m{n + 1} import f\n\ndef f():\n    return f()\n" for n in range(30)}
    return plant(tmp_path / "tree", {"p/__init__.py": "from .m0 import f\n", "notes.md": "# Notes\n", **files})


def paths(scan: Scan) -> list[str]:
    return [f.file_path for f in ScanFile.select().where(ScanFile.scan == scan).order_by(ScanFile.file_path)]


# -- trees ---------------------------------------------------------------------------------------------------


def test_an_unchanged_tree_costs_one_row_a_file(store: Store, root: Path) -> None:
    store.scans.record(root)
    before = rows(store)
    scan = store.scans.record(root)
    assert written(store, before) == {"scans": 1, "scan_files": 32}
    assert (store.scans.summary(scan).indexed, store.scans.summary(scan).reused) == (0, 32)


def test_a_changed_file_costs_its_own_facts(store: Store, root: Path) -> None:
    store.scans.record(root)
    before = rows(store)
    (root / "p/m7.py").write_text("from .m8 import f\n\ndef f():\n    return f()\n\ndef extra():\n    pass\n")
    scan = store.scans.record(root)
    cost = written(store, before)
    assert cost.pop("bindings", 0) <= 10 and cost.pop("names") == 2
    assert cost == {
        "scans": 1,
        "scan_files": 32,
        "file_versions": 1,
        "symbol_facts": 3,
        "reference_facts": 2,
        "import_facts": 1,
        "chunk_facts": 1,
    }
    assert store.scans.summary(scan).indexed == 1


def test_going_back_costs_no_facts(store: Store, root: Path) -> None:
    text = (root / "p/m7.py").read_text()
    store.scans.record(root)
    (root / "p/m7.py").write_text("x = 1\n")
    store.scans.record(root)
    (root / "p/m7.py").write_text(text)
    before = rows(store)
    store.scans.record(root)
    cost = written(store, before)
    assert cost.pop("bindings", 0) <= 10
    assert cost == {"scans": 1, "scan_files": 32}


def test_a_file_that_is_only_touched_is_not_read_again(store: Store, root: Path) -> None:
    store.scans.record(root)
    os.utime(root / "p/m7.py", (1, 1))
    assert store.scans.summary(store.scans.record(root)).indexed == 0


def test_two_targets_share_facts_and_nothing_else(store: Store, root: Path) -> None:
    one = store.scans.record(root)
    before = rows(store)
    other = store.scans.record(root, target="elsewhere", name="Else")
    cost = written(store, before)
    assert cost.pop("bindings") > 0
    assert cost == {"lineages": 1, "scans": 1, "scan_files": 32}
    assert (other.target, other.name, other.revision) == ("elsewhere", "Else", 1)
    assert one.target == str(root) and one.name == "tree" and one.root == other.root == str(root)
    assert list(store.symbols.edges(one)) == list(store.symbols.edges(other))


def test_the_same_content_under_two_paths_is_two_files(store: Store, tmp_path: Path) -> None:
    text = "def f():\n    return f()\n"
    scan = store.scans.record(plant(tmp_path / "t", {"a.py": text, "b.py": text, "c/a.py": text}))
    assert [s.qualified_name for s in store.symbols.list(scan=scan, symbol_type="function")] == ["a.f", "b.f", "c.a.f"]
    assert [e.target for e in store.symbols.edges(scan)] == ["a.f", "b.f", "c.a.f"]
    assert len({f.file_hash for f in ScanFile.select()}) == 1
    assert len({c.content_hash for c in ScanFileChunk.select()}) == 1


def test_a_file_that_becomes_part_of_a_package_gets_its_new_name(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"p/a.py": "def f(): pass\n", "src/r/b.py": "x = 1\n"})
    store.scans.record(root)
    assert [s.qualified_name for s in store.symbols.find("f")] == ["p.a.f"]
    plant(root, {"p/__init__.py": "", "__init__.py": ""})
    store.scans.record(root)
    assert [s.qualified_name for s in store.symbols.find("f")] == ["t.p.a.f"]


@pytest.mark.parametrize(
    ("files", "where", "expected"),
    [
        ({"pkg/__init__.py": "", "pkg/a.py": "def f(): pass\n"}, "pkg", "pkg.a.f"),
        (
            {"pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/sub/a.py": "def f(): pass\n"},
            "pkg/sub",
            "pkg.sub.a.f",
        ),
        ({"src/pkg/__init__.py": "", "src/pkg/a.py": "def f(): pass\n"}, ".", "pkg.a.f"),
        ({"src/a.py": "def f(): pass\n"}, ".", "a.f"),
        ({"deep/er/pkg/__init__.py": "", "deep/er/pkg/a.py": "def f(): pass\n"}, ".", "pkg.a.f"),
        ({"tools/a.py": "def f(): pass\n"}, ".", "tools.a.f"),
        ({"pkg/__init__.py": "def f(): pass\n"}, ".", "pkg.f"),
        ({"pkg/__init__.pyi": "", "pkg/a.pyi": "def f(): ...\n"}, ".", "pkg.a.f"),
        ({"script.pyw": "def f(): pass\n"}, ".", "script.f"),
    ],
)
def test_qualified_names_are_those_that_python_would_import(
    store: Store, tmp_path: Path, files: dict[str, str], where: str, expected: str
) -> None:
    store.scans.record(plant(tmp_path / "root", files) / where)
    assert [s.qualified_name for s in store.symbols.find("f", symbol_type="function")] == [expected]


def test_imports_are_resolved_in_a_src_layout_and_below_a_package_root(store: Store, tmp_path: Path) -> None:
    files = {
        "src/pkg/__init__.py": "",
        "src/pkg/a.py": "def f(): pass\n",
        "src/pkg/b.py": "from pkg.a import f\nfrom . import a\nf()\na.f()\n",
    }
    root = plant(tmp_path / "t", {**files, "tests/test_a.py": "import pkg.a\npkg.a.f()\n"})
    for where in (root, root / "src/pkg"):
        scan = store.scans.record(where)
        found = {
            (e.from_line, e.resolution)
            for e in store.symbols.edges(scan, reference_type="call")
            if e.target == "pkg.a.f"
        }
        assert {(3, "imported"), (4, "imported")} <= found


def test_one_file_can_be_the_tree(store: Store, root: Path) -> None:
    scan = store.scans.record(root / "p/m3.py")
    assert paths(scan) == ["m3.py"] and scan.name == "m3.py" and scan.target == str(root / "p/m3.py")
    assert len(store.symbols.find("f", scan=scan)) == 1


def test_include_and_exclude_say_what_belongs_to_the_scan(store: Store, root: Path) -> None:
    assert paths(store.scans.record(root, include=["*.md"])) == ["notes.md"]
    assert paths(store.scans.record(root, include=["p/m1*.py"], exclude=["m11.py"])) == [
        "p/m1.py",
        *(f"p/m{n}.py" for n in (10, *range(12, 20))),
    ]
    scan = store.scans.record(root, exclude=["p/"])
    assert paths(scan) == ["notes.md"] and scan.options["exclude"] == ["p/"]
    (root / ".gitignore").write_text("m*.py\n")
    assert paths(store.scans.record(root)) == [".gitignore", "notes.md", "p/__init__.py"]


def test_the_store_in_the_tree_is_no_part_of_it(tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"a.py": "x = 1\n"})
    with Store(root / "scan.db") as store:
        for _ in range(2):
            assert paths(store.scans.record(root)) == ["a.py"]


def test_progress_counts_every_file_once(store: Store, root: Path) -> None:
    for jobs in (1, 2):
        told: list[tuple[int, int, str]] = []
        (root / "new.py").write_text(f"x = {jobs}\n")
        store.scans.record(root, jobs=jobs, progress=lambda *args, told=told: told.append(args))
        counts = [done for done, _, _ in told]
        assert counts == sorted(counts) and counts[-1] == 33 and {total for _, total, _ in told} == {33}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_the_number_of_processes_changes_nothing(store: Store, root: Path, jobs: int) -> None:
    scan = store.scans.record(root, jobs=jobs)
    with Store(":memory:") as other:
        alone = other.scans.record(root, jobs=1)
        expected = list(other.symbols.edges(alone)), other.scans.summary(alone)
    assert (list(store.symbols.edges(scan)), store.scans.summary(scan)) == expected


@pytest.mark.parametrize("jobs", [0, -1, "two", 1.5])
def test_a_senseless_number_of_processes_is_refused(store: Store, root: Path, jobs: Any) -> None:
    with pytest.raises(InvalidArgument):
        store.scans.record(root, jobs=jobs)
    assert store.scans.list() == []


class Words:
    """An indexer for a language of one word a line: each line defines it."""

    name = "words/1"
    endings = (".words", ".w.txt")

    def index(self, content: bytes, *, path: str, module: str) -> FileFacts:
        words = content.decode().split()
        symbols = [(n, n, "function", n + 1, n + 1, None, None) for n in range(len(words))]
        return FileFacts(line_count=len(words), strings=words, symbols=symbols)


def test_an_indexer_of_ones_own_reads_its_files(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"a.words": "one\ntwo\n", "b.w.txt": "three\n", "c.txt": "four\n", "d.py": "x = 1\n"})
    scan = store.scans.record(root, indexers=[Words()])
    assert [(s.name, s.file_path, s.start_line) for s in store.symbols.list(scan=scan, symbol_type="function")] == [
        ("one", "a.words", 1),
        ("two", "a.words", 2),
        ("three", "b.w.txt", 1),
    ]
    assert store.scans.summary(store.scans.record(root, indexers=[Words()])).indexed == 0
    changed = Words()
    changed.name = "words/2"
    assert store.scans.summary(store.scans.record(root, indexers=[changed])).indexed == 2
    assert store.check() == []


class Calls:
    """An indexer that gives its facts as rows: each line `a b` is a function `a` that calls `b`."""

    name = "calls/1"
    endings = (".calls",)

    def index(self, content: bytes, *, path: str, module: str) -> FileFacts:
        lines = [line.split() for line in content.decode().splitlines()]
        symbols = [{"name": name, "start_line": n} for n, (name, _) in enumerate(lines, 1)]
        references = [{"name": to, "target": to, "from_symbol": a, "line": n} for n, (a, to) in enumerate(lines, 1)]
        return facts_of(symbols, references, line_count=len(lines))


def test_an_indexer_gives_its_facts_as_rows(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"a.calls": "one two\ntwo one\n", "b.calls": "three one\n", "c.calls": "bad\n"})
    scan = store.scans.record(root, indexers=[Calls()])
    edges = {(edge.from_symbol, edge.target): edge.resolution for edge in store.symbols.edges(scan)}
    assert edges == {("one", "two"): "exact", ("two", "one"): "exact", ("three", "one"): "imported"}
    assert store.scans.summary(scan).lines == 4 and store.check() == []
    with pytest.raises(InvalidArgument, match="symbol 1 has no name"):
        facts_of([{"name": "a"}, {}])


def test_an_indexer_of_ones_own_goes_before_the_built_in_one(store: Store, tmp_path: Path) -> None:
    class Mine(Words):
        endings = (".py",)

    store.scans.record(plant(tmp_path / "t", {"a.py": "hello\n"}), indexers=[Mine()])
    assert [s.name for s in store.symbols.find("hello")] == ["hello"]


# -- record_file ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Given:
    name: str
    qualified_name: str
    start_line: int = 1


class Tuple(NamedTuple):
    name: str
    line: int
    from_symbol: str | None = None
    target: str | None = None


@pytest.fixture
def scan(store: Store) -> Scan:
    return store.scans.add("repository")


def test_start_gives_a_running_scan(store: Store, scan: Scan) -> None:
    assert (scan.status, scan.phase, scan.revision, scan.target) == ("running", "indexing", None, "repository")
    with pytest.raises(NotFound):
        store.scans.latest()
    for target in ("", "  "):
        with pytest.raises(InvalidArgument):
            store.scans.add(target)


def test_rows_of_any_shape_are_recorded(store: Store, scan: Scan) -> None:
    def symbols() -> Iterator[Any]:
        yield Given("main", "m.main", 3)
        yield {"name": "Thing", "symbol_type": "CLASS", "start_line": 5, "end_line": 9, "metadata": {"k": [1, "ä"]}}

    file = store.symbols.record_file(
        scan,
        "src/a.c",
        "abc123",
        symbols=symbols(),
        references=(Tuple("main", 7, "Thing", "m.main") for _ in range(2)),
        imports=iter([{"module": "stdio.h", "names": ["printf"], "line": 1}]),
        chunks=[{"start_line": 1, "end_line": 9, "text": "…", "chunk_type": "function", "symbol_name": "main"}],
        line_count=20,
    )
    assert (file.file_path, file.status) == ("src/a.c", "done")
    assert [(s.name, s.qualified_name, s.symbol_type, s.start_line, s.end_line, s.metadata) for s in file.symbols] == [
        ("main", "m.main", "function", 3, 3, None),
        ("Thing", "Thing", "class", 5, 9, {"k": [1, "ä"]}),
    ]
    assert [(r.symbol.name, r.from_symbol.name, r.resolution, r.confidence) for r in file.references] == [
        ("main", "Thing", "exact", 1.0)
    ] * 2
    assert [(i.imported_module, i.imported_names, i.line) for i in file.imports] == [("stdio.h", ["printf"], 1)]
    assert [(c.chunk_type, c.symbol_name, c.start_line, c.end_line) for c in file.chunks] == [
        ("function", "main", 1, 9)
    ]
    assert store.scans.summary(scan).lines == 20
    assert store.check() == []


def test_recording_a_file_twice_is_recording_it_once(store: Store, scan: Scan) -> None:
    def never() -> Iterator[Any]:
        raise AssertionError("rows of known content are read again")
        yield

    first = store.symbols.record_file(scan, "a.c", "1", symbols=[{"name": "f"}], references=[{"name": "f", "line": 1}])
    before = rows(store)
    again = store.symbols.record_file(
        scan, "a.c", "1", symbols=never(), references=never(), imports=never(), chunks=never()
    )
    assert again == first and written(store, before) == {}
    second = store.scans.add("repository")
    store.symbols.record_file(second, "a.c", "1", symbols=never())
    assert written(store, before) == {"scans": 1, "scan_files": 1}
    changed = store.symbols.record_file(scan, "a.c", "2", symbols=[{"name": "g"}])
    assert [s.name for s in changed.symbols] == ["g"] and changed.id == first.id
    assert [s.name for s in Symbol.select().where(Symbol.scan == second)] == ["f"]
    other = store.symbols.record_file(scan, "a.c", "2", symbols=[{"name": "h"}], indexer="better/2")
    assert [s.name for s in other.symbols] == ["h"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"symbols": [{"start_line": 1}]}, "symbol 0 has no name"),
    "empty name": ({"symbols": [{"name": ""}]}, "symbol 0 has no name"),
    "a number for a name": ({"symbols": [{"name": 7}]}, "name of symbol 0 is 7"),
    "a mistyped field": ({"symbols": [{"name": "f"}, {"name": "g", "lien": 3}]}, "symbol 1 has unknown fields lien"),
    "unknown type": ({"symbols": [{"name": "f", "symbol_type": "gadget"}]}, "one of: module"),
    "line 0": ({"symbols": [{"name": "f", "start_line": 0}]}, "lines count from 1"),
    "line true": ({"symbols": [{"name": "f", "start_line": True}]}, "lines count from 1"),
    "line too large": ({"symbols": [{"name": "f", "start_line": 2**40}]}, "lines count from 1"),
    "end before start": ({"symbols": [{"name": "f", "start_line": 5, "end_line": 4}]}, "ends on line 4"),
    "half a character": ({"symbols": [{"name": "\ud800"}]}, "not valid Unicode"),
    "metadata not finite": ({"symbols": [{"name": "f", "metadata": {"x": float("inf")}}]}, ""),
    "metadata no json": ({"symbols": [{"name": "f", "metadata": {"x": object()}}]}, ""),
    "a string for a row": ({"symbols": ["f"]}, "symbol 0 is 'f'"),
    "none for a row": ({"symbols": [None]}, "symbol 0 is None"),
    "not even iterable": ({"symbols": 5}, ""),
    "reference without a line": ({"references": [{"name": "f"}]}, ""),
    "reference from nowhere": (
        {"references": [{"name": "f", "line": 1, "from_symbol": "x"}]},
        "no symbol of this file",
    ),
    "reference of no kind": ({"references": [{"name": "f", "line": 1, "reference_type": "hint"}]}, "one of: call"),
    "import without module": ({"imports": [{"names": []}]}, "import 0 has no module"),
    "import of a number": ({"imports": [{"module": "m", "names": 5}]}, ""),
    "import of text": ({"imports": [{"module": "m", "names": "abc"}]}, ""),
    "import of objects": ({"imports": [{"module": "m", "names": [object()]}]}, ""),
    "chunk without content": ({"chunks": [{"start_line": 1, "end_line": 2}]}, "content_hash or its text"),
    "chunk of no kind": ({"chunks": [{"text": "", "chunk_type": "paragraph"}]}, "one of: function"),
    "chunk text with half a character": ({"chunks": [{"text": "\ud800"}]}, "not valid Unicode"),
    "hash of the wrong type": ({"chunks": [{"content_hash": 5}]}, ""),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_rows_are_refused_by_name_and_nothing_is_written(store: Store, scan: Scan, what: str) -> None:
    given, message = BAD[what]
    before = rows(store)
    good = {"symbols": [{"name": "good"}], "chunks": [{"text": "x", "start_line": 1}]}
    with pytest.raises(InvalidArgument, match=message or None):
        store.symbols.record_file(scan, "a.c", "1", **{**good, **given})
    assert written(store, before) == {}
    store.symbols.record_file(scan, "a.c", "1", **good)
    assert Symbol.select().count() == 1


def test_a_generator_that_fails_leaves_nothing(store: Store, scan: Scan) -> None:
    def rows_then_trouble() -> Iterator[Any]:
        yield {"name": "f"}
        raise OSError("the parser died")

    before = rows(store)
    with pytest.raises(OSError, match="the parser died"):
        store.symbols.record_file(scan, "a.c", "1", symbols=rows_then_trouble())
    assert written(store, before) == {}


def test_a_generator_may_use_the_store_and_holds_no_lock(store: Store, scan: Scan, db_path: Path) -> None:
    def asking() -> Iterator[Any]:
        with Store(db_path, timeout=0.2) as other:
            other.llm.add("somebody else writes meanwhile")
        yield {"name": f"f{len(store.scans.list())}"}

    store.symbols.record_file(scan, "a.c", "1", symbols=asking())
    assert [s.name for s in Symbol.select()] == ["f1"]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../../b", None, 5, b"a"])
def test_a_path_out_of_the_tree_is_refused(store: Store, scan: Scan, path: Any) -> None:
    with pytest.raises(InvalidArgument):
        store.symbols.record_file(scan, path, "1")
    with pytest.raises(InvalidArgument):
        store.symbols.record_file(scan, "a.c", "")


def test_references_by_target_are_bound_at_finish(store: Store, scan: Scan) -> None:
    wanted = ["lib.f", "lib.twice", "lib.missing", "lib.later"]
    store.symbols.record_file(
        scan,
        "a.c",
        "1",
        symbols=[{"name": "main"}],
        references=[
            {"name": "x", "line": n + 1, "target": target, "from_symbol": "main"} for n, target in enumerate(wanted)
        ],
    )
    twice = {"name": "twice", "qualified_name": "lib.twice"}
    store.symbols.record_file(scan, "b.c", "1", symbols=[{"name": "f", "qualified_name": "lib.f"}, twice])
    store.symbols.record_file(scan, "c.c", "1", symbols=[twice])
    assert {r.resolution for r in SymbolReference.select()} == {"unresolved"}
    done = store.scans.finish(scan)
    assert (done.status, done.phase, done.revision) == ("completed", "completed", 1) and done.completed_at
    assert [(e.resolution, e.target, e.target_file) for e in store.symbols.edges(scan)] == [
        ("imported", "lib.f", "b.c"),
        ("guessed", "lib.twice", "b.c"),
        ("unresolved", None, None),
        ("unresolved", None, None),
    ]
    assert [c.name for c in store.symbols.callers("lib.f")] == ["main"]
    guessed = store.symbols.find("lib.twice", file="b.c")[0]
    assert store.symbols.callers(guessed) == [] and [c.name for c in store.symbols.callers(guessed, guesses=True)] == [
        "main"
    ]
    # More files, then finish once more.
    store.symbols.record_file(scan, "d.c", "1", symbols=[{"name": "later", "qualified_name": "lib.later"}])
    again = store.scans.finish(scan)
    assert [e.target for e in store.symbols.edges(scan)][3] == "lib.later"
    assert again.status == "completed" and store.scans.latest().id == scan.id
    before = rows(store)
    store.scans.finish(scan)
    store.scans.finish(scan.id)
    assert written(store, before) == {}
    assert store.check() == []


def test_the_next_scan_binds_anew_what_is_shared(store: Store, scan: Scan) -> None:
    main = {
        "symbols": [{"name": "main"}],
        "references": [{"name": "f", "line": 2, "target": "f", "from_symbol": "main"}],
    }
    store.symbols.record_file(scan, "a.c", "1", **main)
    store.symbols.record_file(scan, "b.c", "1", symbols=[{"name": "f"}])
    store.scans.finish(scan)
    second = store.scans.add("repository")
    store.symbols.record_file(second, "a.c", "1", **main)
    store.symbols.record_file(second, "c.c", "1", symbols=[{"name": "f"}])
    store.scans.finish(second)
    assert [e.target_file for e in store.symbols.edges(scan)] == ["b.c"]
    assert [e.target_file for e in store.symbols.edges(second)] == ["c.c"]
    assert second.id == store.scans.latest().id


def test_an_import_by_target_is_resolved_to_its_file(store: Store, scan: Scan) -> None:
    store.symbols.record_file(
        scan, "a.js", "1", imports=[{"module": "./b", "target": "b"}, {"module": "x", "target": "x"}]
    )
    store.symbols.record_file(scan, "b.js", "1", symbols=[{"name": "b", "symbol_type": "module"}])
    store.scans.finish(scan)
    assert [(i.imported_module, i.resolved_file, i.resolution) for i in store.symbols.imports("a.js")] == [
        ("./b", "b.js", "imported"),
        ("x", None, "unresolved"),
    ]
    assert store.symbols.importers("b.js") == ["a.js"]
    assert ImportRelation.select().count() == 2


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_scan_that_ended_badly_takes_nothing_more(store: Store, scan: Scan, status: str) -> None:
    change_rows(Scan, status=status).where(Scan.id == scan.id).execute()
    with pytest.raises(IllegalMove, match=f"scan {scan.id} is {status}"):
        store.scans.finish(scan)
    with pytest.raises(IllegalMove, match=status):
        store.symbols.record_file(scan, "a.c", "1")
    with pytest.raises(NotFound):
        store.scans.finish(999)
    assert store.scans.get(scan).status == status


def test_a_file_that_leaves_a_scan_s_version_behind_leaves_no_garbage(store: Store, scan: Scan) -> None:
    """Recorded again with other content before the end, the first content belongs to no scan; removing cleans up."""
    for content in "123":
        store.symbols.record_file(scan, "a.c", content, symbols=[{"name": f"f{content}"}])
    store.scans.finish(scan)
    assert [s.name for s in store.symbols.list()] == ["f3"]
    store.scans.remove(scan)
    assert {table: count for table, count in rows(store).items() if count} == {}
    assert store.check() == []


def test_loading_tags_leaves_no_garbage(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"a.c": "int main() {}\n"})
    (tmp_path / "tags").write_text('{"_type": "tag", "name": "main", "path": "a.c", "line": 1, "kind": "function"}\n')
    scan = store.scans.record(root)
    assert store.symbols.load_ctags(scan, tmp_path / "tags").symbols == 1
    store.scans.finish(scan)
    assert [s.name for s in store.symbols.find("main")] == ["main"]
    store.scans.remove(scan)
    assert {table: count for table, count in rows(store).items() if count} == {}


def test_hashes_are_taken_as_text_or_bytes(store: Store, scan: Scan) -> None:
    one = store.symbols.record_file(scan, "a.c", "ab" * 32, symbols=[{"name": "f"}])
    two = store.symbols.record_file(scan, "a.c", bytes.fromhex("ab" * 32))
    assert one.id == two.id and one.file_hash == two.file_hash and [s.name for s in two.symbols] == ["f"]
    odd = store.symbols.record_file(scan, "b.c", "v1.2-dirty", symbols=[{"name": "g"}])
    assert odd.file_hash == "v1.2-dirty"
    with pytest.raises(InvalidArgument):
        store.symbols.record_file(scan, "c.c", 5)  # type: ignore[arg-type]


@pytest.mark.no_cover
def test_many_rows_of_one_file(store: Store, scan: Scan) -> None:
    count = 30_000
    store.symbols.record_file(
        scan,
        "big.c",
        "1",
        symbols=({"name": f"f{n}", "start_line": n + 1} for n in range(count)),
        references=({"name": f"f{n}", "line": n + 1, "target": f"f{n}"} for n in range(count)),
    )
    store.scans.finish(scan)
    assert Symbol.select().count() == SymbolReference.select().count() == count
    assert store.symbols.references(f"f{count - 1}")[0].from_line == count
    assert store.check() == []


def test_a_recorder_survives_a_rollback_and_a_sweep(store: Store, tmp_path: Path) -> None:
    """Ids of names that were given out are void when their transaction is rolled back, or the names are swept."""
    from scanstore.snapshots.recorder import Content

    other = store.scans.add("other")
    store.symbols.record_file(other, "b.x", "2", symbols=[{"name": "swept"}])
    scan = store.scans.add("t")
    recorder = store.scans.recorder(scan)
    now = "2026-01-01T00:00:00.000Z"

    def record(path: str, name: str) -> None:
        recorder.record([(Content(path, b"1", "c/1"), 0, facts_of([{"name": name}], (), (), ()))], now)

    with pytest.raises(ZeroDivisionError), store.transaction():
        record("a.x", "zed")
        raise ZeroDivisionError
    record("a.x", "zed")
    record("c.x", "swept")
    store.symbols.record_file(scan, "c.x", "3")
    store.scans.remove(other)
    record("d.x", "swept")
    store.scans.finish(scan)
    assert [s.file_path for s in store.symbols.find("zed")] == ["a.x"]
    assert [s.file_path for s in store.symbols.find("swept")] == ["d.x"]
    assert store.check() == []


def test_a_file_that_is_no_ctags_file_is_refused_before_the_scan(store: Store, root: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("hello there\n")
    with pytest.raises(InvalidArgument, match="no line that is a tag"):
        store.scans.record(root, ctags=text)
    assert store.scans.list() == []


@pytest.mark.parametrize("times", [1, 3, 6])
def test_others_that_complete_meanwhile_change_nothing(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Each time the scan is about to be compared, another scan of the target completes first, as often as it can."""
    from scanstore.snapshots import bindings

    store.scans.record(root, jobs=1)
    real, left = bindings.since, [times]

    def since(*args: Any) -> Any:
        if left[0] and not store.database.in_transaction():
            left[0] -= 1
            keep = left[0]
            left[0] = 0
            (root / "more.py").write_text(f"def more{keep}(): pass\n")
            store.scans.record(root, jobs=1)
            left[0] = keep
        return real(*args)

    (root / "mine.py").write_text("from more import *\ndef mine(): mine()\n")
    monkeypatch.setattr(bindings, "since", since)
    scan = store.scans.record(root, jobs=1)
    assert scan.status == "completed" and scan.id < store.scans.list()[0].id
    assert store.check() == []
    with Store(":memory:") as clean:
        (root / "more.py").unlink()
        first = [e for e in clean.symbols.edges(clean.scans.record(root, jobs=1)) if e.from_file == "mine.py"]
    assert [e for e in store.symbols.edges(scan) if e.from_file == "mine.py"] == first


def test_a_file_that_is_left_out_after_all_leaves_no_garbage(store: Store, scan: Scan) -> None:
    store.symbols.record_file(scan, "a.x", "1", symbols=[{"name": "f"}])
    store.scans.recorder(scan).leave_out([("a.x", "skipped", "vanished", None, "2026-01-01T00:00:00.000Z")])
    store.scans.finish(scan)
    assert store.database.execute_sql("SELECT count(*) FROM file_versions").fetchone() == (0,)
    assert store.check() == []
