"""The call graph of a small tree, call by call.

Every call in `callgraph/` says in a comment what it must resolve to:

    f()  # -> shop.models.load imported         must be bound to this, in this way
    f()  # -> shop.models.load                  the way is left open
    f()  # ~> shop.models.load                  may stay unbound, but must not be bound to anything else
    f()  # -> shop.a.f|shop.b.f imported        must be bound to both
    f()  # -> none                              must not be bound: outside the tree, or nobody can tell
    f(g())  # f -> shop.a.f; g -> none          one for each call, by the name as written

Bound means an edge called exact, imported or inherited whose target is in the tree; a class may be met at its
constructor. The comments are held against mypy too, so that a wrong expectation fails on its own account.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[1]
TREE = HERE / "callgraph"
BENCHMARKS = HERE.parent / "benchmarks"
BOUND = ("exact", "imported", "inherited")
EXPECTATION = re.compile(r"^(?:(?P<written>\S+) )?(?P<must>->|~>) (?P<target>\S+)(?: (?P<kind>\w+))?$")


@dataclass(frozen=True)
class Expected:
    """What one comment says about one call."""

    file: str
    line: int
    written: str
    must: bool
    target: str | None
    kind: str | None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.written}"


def written_name(func: ast.expr) -> str:
    """Spell a callee as the code does; `?` stands for a receiver that has no name."""
    if isinstance(func, ast.Name):
        return func.id
    if isinstance(func, ast.Attribute):
        return f"{written_name(func.value)}.{func.attr}"
    if isinstance(func, ast.Call):
        return f"{written_name(func.func)}()"
    return "?"


def comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and re.search(r"[-~]> ", token.string):
            yield token.start[0], token.string.rpartition("#")[2].strip()


def calls_by_line(text: str) -> dict[int, list[str]]:
    calls: dict[int, list[str]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            calls.setdefault(node.lineno, []).append(written_name(node.func))
    return calls


@cache
def expectations() -> tuple[Expected, ...]:
    found: list[Expected] = []
    for path in sorted(TREE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        calls = calls_by_line(text)
        for line, comment in comments(text):
            for part in comment.split(";"):
                match = EXPECTATION.match(part.strip())
                assert match, f"{path}:{line}: cannot read {part!r}"
                written = match["written"]
                if written is None:
                    assert len(calls[line]) == 1, f"{path}:{line}: several calls, name them"
                    written = calls[line][0]
                target = None if match["target"] == "none" else match["target"]
                file = path.relative_to(TREE).as_posix()
                found.append(Expected(file, line, written, match["must"] == "->", target, match["kind"]))
    return tuple(found)


def test_every_call_of_the_tree_says_what_it_expects() -> None:
    said = sorted((each.file, each.line, each.written) for each in expectations())
    made = sorted(
        (path.relative_to(TREE).as_posix(), line, written)
        for path in TREE.rglob("*.py")
        for line, names in calls_by_line(path.read_text(encoding="utf-8")).items()
        for written in names
    )
    assert said == made
    assert len(said) > 150


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], list[Any]]:
    """Every call edge of the recorded tree, by file and line."""
    scanstore = pytest.importorskip("scanstore")
    found: dict[tuple[str, int], list[Any]] = {}
    with scanstore.Store(tmp_path_factory.mktemp("accuracy") / "scan.db") as store:
        scan = store.scans.record(TREE)
        for edge in store.symbols.edges(scan, reference_type="call"):
            found.setdefault((edge.from_file, edge.from_line), []).append(edge)
    return found


def how(edge: Any) -> str:
    return str(getattr(edge.resolution, "value", edge.resolution))


def plain(name: str | None) -> str | None:
    return None if name is None else name.replace(".<locals>", "")


def is_expected(target: str | None, wanted: str) -> bool:
    return plain(target) in (wanted, f"{wanted}.__init__")


@pytest.mark.parametrize("expected", expectations(), ids=str)
def test_call_is_bound_as_the_comment_says(expected: Expected, edges: dict[tuple[str, int], list[Any]]) -> None:
    told = [edge for edge in edges.get((expected.file, expected.line), []) if edge.name == expected.written]
    bound = [edge for edge in told if how(edge) in BOUND and edge.target_file is not None]
    said = [(how(edge), edge.target) for edge in bound]
    if expected.target is None:
        assert not bound, f"must not be bound, is {said}"
        return
    each = expected.target.split("|")
    wrong = [edge.target for edge in bound if not any(is_expected(edge.target, target) for target in each)]
    assert not wrong, f"expected {expected.target}, is {said}"
    if expected.must:
        missed = [target for target in each if not any(is_expected(edge.target, target) for edge in bound)]
        assert not missed, f"expected {expected.target}, is {[(how(e), e.target) for e in told]}"
        if expected.kind is not None:
            assert {how(edge) for edge in bound} == {expected.kind}


@pytest.fixture(scope="module")
def truth() -> Any:
    """What mypy knows about the same tree."""
    pytest.importorskip("mypy")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return pytest.importorskip("truth").collect(TREE)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.no_cover
def test_the_type_checker_agrees_with_the_comments(truth: Any) -> None:
    sites = {(site.file, site.line, site.written): site for site in truth.sites}
    agreed = 0
    for expected in expectations():
        site = sites.get((expected.file, expected.line, expected.written))
        if site is None:
            continue  # the checker does not know
        if expected.target is None:
            assert site.kind != "project", f"{expected}: none? mypy says {site.callee}"
        elif site.kind == "project":
            names = {qualified(target.file, target.qualified_name) for target in site.targets}
            assert set(expected.target.split("|")) <= names, f"{expected}: mypy says {site.callee}"
            agreed += 1
        else:
            assert not expected.must, f"{expected}: mypy says {site.kind} {site.callee}"
    assert agreed > 80


def qualified(file: str, name: str) -> str:
    return f"{file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}.{name}"


@pytest.fixture(scope="module")
def accuracy() -> Any:
    """The benchmark, whose own arithmetic must see a wrong edge, or its numbers mean nothing."""
    pytest.importorskip("mypy")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return pytest.importorskip("accuracy")
    finally:
        sys.path.remove(str(BENCHMARKS))


def claims_of(accuracy: Any, truth: Any, *, shift: int = 0, drop: int = 0) -> list[Any]:
    made = []
    for site in [site for site in truth.sites if site.kind == "project"][drop:]:
        target = site.targets[0]
        name = qualified(target.file, target.qualified_name) if not shift else "somebody.else"
        line = min(target.lines) + shift
        made.append(accuracy.Claim(site.file, site.line, site.written, "imported", name, target.file, line))
    return made


def test_perfect_edges_score_one(accuracy: Any, truth: Any) -> None:
    score = accuracy.compare(truth, claims_of(accuracy, truth))
    assert (score.precision, score.recall) == (1.0, 1.0)


def test_wrong_targets_score_zero(accuracy: Any, truth: Any) -> None:
    score = accuracy.compare(truth, claims_of(accuracy, truth, shift=10_000))
    assert (score.precision, score.recall) == (0.0, 0.0)


def test_missing_edges_cost_recall_only(accuracy: Any, truth: Any) -> None:
    score = accuracy.compare(truth, claims_of(accuracy, truth, drop=30))
    assert score.precision == 1.0
    assert 0.0 < score.recall < 1.0


def test_binding_by_bare_name_is_caught(accuracy: Any, truth: Any) -> None:
    by_name = {claim.written.rpartition(".")[2]: claim for claim in claims_of(accuracy, truth)}
    made = []
    for site in truth.sites:
        claim = by_name.get(site.written.rpartition(".")[2])
        if claim is not None:
            made.append(
                accuracy.Claim(
                    site.file,
                    site.line,
                    site.written,
                    "exact",
                    claim.target,
                    claim.target_file,
                    claim.target_line,
                )
            )
    score = accuracy.compare(truth, made)
    assert score.precision < 0.9
