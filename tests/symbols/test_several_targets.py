"""Several targets of one reference: a value that is one of several types, a name with several definitions."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comparing import assert_same, rows, shown

from scanstore import Store
from scanstore.db import migrations

KINDS = """\
class X:
    def go(self): ...
class Y:
    def go(self): ...
class Z(Y): ...
"""
BOTH = [("kinds.X.go", "imported"), ("kinds.Y.go", "imported")]
CASES: dict[str, list[tuple[str, str]]] = {
    "def f(v: X | Y):\n    v.go()": BOTH,
    "def f(v: X | None | Y):\n    v.go()": BOTH,
    "def f(v: X | int | Y):\n    v.go()": BOTH,
    "def f(v: Y | X):\n    v.go()": BOTH[::-1],
    "def f(v: X | X):\n    v.go()": BOTH[:1],
    "def f(v: X | Z):\n    v.go()": [("kinds.X.go", "imported"), ("kinds.Y.go", "inherited")],
    "def f(v: Y | Z):\n    v.go()": [("kinds.Y.go", "imported")],
    "from typing import Optional, Union\nV = Union[X, Optional[Y]]\ndef f(v: V):\n    v.go()": BOTH,
    "def f(vs: list[X | Y]):\n    for v in vs:\n        v.go()": BOTH,
    "def f(c):\n    (X() if c else Y()).go()": BOTH,
    "class W:\n    v: X\n    def __init__(self):\n        self.v = Y()\n    def f(self):\n        self.v.go()": BOTH,
    "def f(v: X | None):\n    v.go()": BOTH[:1],
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / (name + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "scan.db") as opened:
        yield opened
        assert opened.check() == []


@pytest.fixture
def record(store: Store, tmp_path: Path) -> Callable[..., int]:
    def record(**files: str) -> int:
        return store.scans.record(plant(tmp_path / "tree", files), jobs=1).id

    return record


def targets(store: Store, file: str = "main.py", name: str | None = None) -> list[tuple[str | None, str]]:
    """The targets of the last call of a file."""
    calls = [e for e in store.symbols.edges(reference_type="call") if e.from_file == file and name in (None, e.name)]
    last = max(e.from_line for e in calls)
    return [(e.target, e.resolution) for e in calls if e.from_line == last and e.name not in ("X", "Y")]


@pytest.mark.parametrize("main", CASES)
def test_each_type_of_a_value_gives_a_target(store: Store, record: Callable[..., int], main: str) -> None:
    record(kinds=KINDS, main="from kinds import X, Y, Z\n" + main)
    assert targets(store) == CASES[main]


def test_a_value_that_may_be_one_of_the_tree_or_not_has_the_targets_of_the_tree(
    store: Store, record: Callable[..., int]
) -> None:
    record(kinds=KINDS, main="import pathlib\nfrom kinds import X, Y\ndef f(v: X | pathlib.Path | Y):\n    v.go()")
    assert targets(store) == BOTH


def test_an_import_with_a_fallback_has_both_targets(store: Store, record: Callable[..., int]) -> None:
    main = "try:\n    from a import f\nexcept ImportError:\n    from b import f\nf()\n"
    record(a="def f(): ...", b="def f(): ...", main=main)
    assert targets(store) == [("a.f", "imported"), ("b.f", "imported")]
    main = "if flag:\n    import a as m\nelse:\n    import b as m\nm.f()\n"
    record(main=main)
    assert targets(store) == [("a.f", "imported"), ("b.f", "imported")]


def test_functions_of_several_branches_are_targets(store: Store, record: Callable[..., int]) -> None:
    text = "if flag:\n    def f(): ...\nelse:\n    def f(): ...\n"
    record(m=text, main="from m import f\nf()\n", own=text + "f()\n")

    def lines(file: str) -> list[tuple[str | None, int | None, str]]:
        edges = store.symbols.edges(reference_type="call")
        return [(e.target, e.target_line, e.resolution) for e in edges if e.from_file == file]

    assert sorted(lines("main.py")) == [("m.f", 2, "imported"), ("m.f", 4, "imported")]
    assert sorted(lines("own.py")) == [("own.f", 2, "exact"), ("own.f", 4, "exact")]
    record(m="def f(): ...\n")
    assert lines("main.py") == [("m.f", 1, "imported")]
    assert store.symbols.unreferenced() == []


def test_of_a_guess_all_targets_are_guesses(store: Store, record: Callable[..., int]) -> None:
    both = "try:\n    from a import f\nexcept ImportError:\n    from b import f\n"
    b = "def f(): ...\nfor f in []: ...\n"
    record(a="def f(): ...", b=b, both=both, main="from both import f\nf()\n")
    assert targets(store) == [("a.f", "guessed"), ("b.f", "guessed")]
    assert store.symbols.callers("a.f") == [] and len(store.symbols.callers("b.f", guesses=True)) == 1


def test_a_path_has_at_most_eight_targets(store: Store, record: Callable[..., int]) -> None:
    classes = "".join(f"class C{n}:\n    def go(self): ...\n" for n in range(12))
    unions = [" | ".join(f"C{n}" for n in range(start, start + 6)) for start in (0, 6)]
    record(main=f"{classes}V = {unions[0]}\nW = {unions[1]}\ndef f(v: V | W):\n    v.go()\n")
    assert targets(store) == [(f"main.C{n}.go", "exact") for n in range(8)]


USE = "from kinds import X, Y\ndef f(v: X | Y):\n    v.go()\ndef g(v: X | Y):\n    f(v)\n"


def test_questions_find_all_targets(store: Store, record: Callable[..., int]) -> None:
    scan = record(kinds=KINDS, main=USE)
    ask = store.symbols
    for method in ("kinds.X.go", "kinds.Y.go"):
        (reference,) = [(r.from_file, r.from_line, r.resolution) for r in ask.references(method)]
        assert reference == ("main.py", 3, "imported")
        assert [r.symbol_id for r in ask.references(method)] == [ask.get(method).id]
        assert [c.qualified_name for c in ask.callers(method)] == ["main.f"]
        assert {(c.qualified_name, c.distance) for c in ask.impact(method)} == {("main.f", 1), ("main.g", 2)}
    assert [c.qualified_name for c in ask.callees("main.f")] == ["kinds.X.go", "kinds.Y.go"]
    assert not {"kinds.X.go", "kinds.Y.go"} & {s.qualified_name for s in ask.unreferenced()}
    assert sum("->" in line for line in ask.export("dot", root="main.f", depth=1)) == 2
    # The view of references has one row for each, with its first target.
    found = store.database.execute_sql(
        "SELECT r.id, r.symbol_id FROM symbol_references AS r WHERE r.scan_id = ? AND r.name = 'v.go'", (scan,)
    ).fetchall()
    assert len(found) == 1 and found[0][1] == ask.get("kinds.X.go").id
    all_targets = store.database.execute_sql(
        "SELECT t.nth, s.qualified_name, t.resolution, t.confidence FROM reference_targets AS t"
        " JOIN symbols AS s ON s.id = t.symbol_id WHERE t.reference_id = ? ORDER BY t.nth",
        (found[0][0],),
    ).fetchall()
    assert all_targets == [(0, "kinds.X.go", "imported", 1.0), (1, "kinds.Y.go", "imported", 1.0)]


def bindings(store: Store, scan: int) -> list[Any]:
    """The bindings that a scan sees, free of ids."""
    return store.database.execute_sql(
        "SELECT n.text, b.nth, v.path, b.ordinal, b.resolution, b.confidence FROM scans AS c"
        " JOIN bindings AS b ON b.lineage_id = c.lineage_id AND b.since <= c.revision"
        "  AND (b.until IS NULL OR b.until > c.revision)"
        " JOIN names AS n ON n.id = b.path_id LEFT JOIN file_versions AS v ON v.id = b.version_id"
        " WHERE c.id = ? ORDER BY 1, 2",
        (scan,),
    ).fetchall()


MEMBERS = [
    KINDS,
    KINDS.replace("class Y:\n    def go(self): ...", "class Y:\n    def stay(self): ..."),
    KINDS,
    KINDS.replace("class X:\n", "class X:\n    def other(self): ...\n"),
    "class Y:\n    def go(self): ...\n",
    "class X(Y):\n    pass\n" + KINDS[KINDS.index("class Y") :],
    "",
    KINDS,
]


def test_incremental_scans_equal_clean_ones_when_a_member_comes_and_goes(
    store: Store, record: Callable[..., int], tmp_path: Path
) -> None:
    for n, kinds in enumerate(MEMBERS):
        scan = record(kinds=kinds, main=USE, **{f"m{k}": "def f(): ..." for k in range(5)})
        with Store(tmp_path / f"clean{n}.db") as clean:
            again = clean.scans.record(tmp_path / "tree", jobs=1).id
            assert bindings(store, scan) == bindings(clean, again), n
            assert_same(shown(store, scan), shown(clean, again), f"edit {n}")
        assert store.check() == []


def test_an_earlier_scan_keeps_its_targets(store: Store, record: Callable[..., int]) -> None:
    scans = [record(kinds=kinds, main=USE) for kinds in MEMBERS]
    found = {scan: bindings(store, scan) for scan in scans}
    for scan in scans[2::2]:
        store.scans.remove(scan)
        del found[scan]
        assert {each: bindings(store, each) for each in found} == found
        assert store.check() == []


def test_bindings_come_through_the_thirteenth_migration_and_back(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with Store(path) as store:
        root = plant(tmp_path / "tree", {"kinds": KINDS, "main": USE})
        store.scans.record(root, jobs=1)
        plant(tmp_path / "tree", {"kinds": MEMBERS[1]})
        store.scans.record(root, jobs=1)
        several = store.database.execute_sql("SELECT count(*) FROM bindings WHERE nth > 0").fetchone()[0]
        full = rows_of(store)
        assert several == 1
    migrations.down(path, to=12, backup=False)
    with_one = rows(path)["bindings"]
    assert len(with_one) == len([row for row in full if row[4] == 0])
    assert len([row for row in with_one if "'guessed'" in row]) == 1  # one of two is not sure
    with Store(path) as store:
        assert store.check() == []
        carried = rows_of(store)
        assert [row[4] for row in carried] == [0] * len(with_one)
        unsure = [row for row in full if row[4] == 0 and row not in carried]
        assert len(unsure) == 1 and unsure[0][7:] == ("imported", 100)
        plant(tmp_path / "tree", {"kinds": KINDS})
        store.scans.record(root, jobs=1)
        assert [c.qualified_name for c in store.symbols.callees("main.f")] == ["kinds.X.go", "kinds.Y.go"]
        assert store.check() == []


def rows_of(store: Store) -> list[Any]:
    return store.database.execute_sql(
        "SELECT lineage_id, path_id, since, until, nth, version_id, ordinal, resolution, confidence FROM bindings"
        " ORDER BY 1, 2, 3, 5"
    ).fetchall()


def test_targets_come_through_a_dump_and_a_merge(store: Store, record: Callable[..., int], tmp_path: Path) -> None:
    scan = record(kinds=KINDS, main=USE)
    with Store(tmp_path / "other.db") as other:
        other.merge(tmp_path / "scan.db")
        (merged,) = other.scans.list()
        assert bindings(other, merged.id) == bindings(store, scan)
        assert [c.qualified_name for c in other.symbols.callees("main.f")] == ["kinds.X.go", "kinds.Y.go"]
        assert other.check() == []
