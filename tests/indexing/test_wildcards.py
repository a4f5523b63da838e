"""Ignore patterns match what pathspec says they match, and no pattern takes long."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from scanstore import Store
from scanstore.indexing.walk import UNHEEDED
from scanstore.indexing.wildcards import linear, spec

HOSTILE = ["*a" * 30 + "*b", "/a" + "**" * 40 + "b", "/".join(["**/a"] * 30) + "/**/b", "a*/**/" * 20 + "b"]
PIECES = ["a", "b", "*", "**", "/", "**/", "/**", "?", "[ab]", ".", "\\*", "x*y"]
NAME = st.text(alphabet="abxy.*", min_size=1, max_size=5)
PATH = st.lists(NAME, min_size=1, max_size=5).map("/".join)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join), st.lists(PATH, min_size=1, max_size=8))
@settings(max_examples=300)
def test_the_linear_expression_matches_the_same_paths(pattern: str, paths: list[str]) -> None:
    try:
        (made,) = GitIgnoreSpec.from_lines([pattern]).patterns
    except ValueError:
        assume(False)
    theirs = made.regex
    assume(theirs is not None)
    ours = re.compile(linear(theirs.pattern))
    for path in paths:
        for each in (path, path + "/"):
            found, wanted = ours.search(each), theirs.search(each)
            assert (found and (found.span(), found.groupdict())) == (wanted and (wanted.span(), wanted.groupdict()))


@pytest.mark.parametrize(
    "lines", [["*.py", "!keep.py"], ["build/", "/docs/**/*.html"], ["**/__pycache__/**", ".*.sw?", "[Bb]in"]]
)
def test_a_whole_file_of_patterns_ignores_the_same(lines: list[str]) -> None:
    paths = ["a.py", "keep.py", "x/keep.py", "build/x", "x/build/y", "docs/a/b/c.html", "docs/c.html", "a/docs/c.html",
             "a/__pycache__/x.pyc", "__pycache__/x", ".x.swp", "d/.y.swo", "bin/x", "Bin", "cabin"]  # fmt: skip
    theirs = GitIgnoreSpec.from_lines(lines)
    assert [path for path in paths if spec(lines).match_file(path)] == [p for p in paths if theirs.match_file(p)]


def test_a_class_never_matches_a_slash() -> None:
    """As in Git; pathspec lets `[!a]` match one."""
    assert spec(["/x[!a]y"]).match_file("xby") and not spec(["/x[!a]y"]).match_file("x/y")


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("path", ["a" * 200 + ".py", "/".join(["a"] * 1500) + "/c"], ids=["long name", "deep path"])
def test_no_pattern_takes_long(pattern: str, path: str) -> None:
    """Tried at every place, these would take for ever."""
    assert not spec([pattern]).match_file(path)


def test_a_hostile_ignore_file_does_not_hang_a_scan(store: Store, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / ".gitignore").write_text("\n".join([*HOSTILE, "left.py"]) + "\n")
    for name in ("a" * 200 + ".py", "left.py"):
        (tree / name).write_text("x = 1\n")
    scan = store.scans.record(tree, jobs=1, exclude=HOSTILE)
    assert sorted(file.file_path for file in scan.files) == [".gitignore", "a" * 200 + ".py"]


@pytest.mark.parametrize("text", ["#\n" * 20_000, "#" * 2_000_000], ids=["lines", "bytes"])
def test_an_ignore_file_that_is_too_long_is_reported_and_not_heeded(store: Store, tmp_path: Path, text: str) -> None:
    (tmp_path / ".gitignore").write_text("x.py\n" + text)
    (tmp_path / "x.py").write_text("x = 1\n")
    told = {file.file_path: (file.status, file.error) for file in store.scans.record(tmp_path).files}
    assert told == {".gitignore": ("skipped", UNHEEDED), "x.py": ("done", None)}


def test_a_pattern_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spec(["[[:alpha:]]x"]).patterns
