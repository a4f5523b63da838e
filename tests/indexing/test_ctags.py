"""Lines of universal-ctags become tags in the store's words, or say why they cannot."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scanstore import Store
from scanstore.errors import InvalidArgument
from scanstore.indexing import ctags
from scanstore.indexing.ctags import Broken, CtagsTag, read

# What universal-ctags 5.9 wrote (--fields='*' --extras=+pqrf) for a few lines of C++, Go and Python.
REAL = """\
{"_type": "ptag", "name": "JSON_OUTPUT_VERSION", "path": "0.0", "pattern": "in development"}
{"_type": "tag", "name": "A", "path": "k.py", "pattern": "/^class A(dict):$/", "language": "Python", \
"line": 3, "kind": "class", "inherits": "dict", "access": "public", "roles": "def", "end": 8}
{"_type": "tag", "name": "A.m", "path": "k.py", "pattern": "/^    def m(self, x: int = 2) -> int:$/", \
"language": "Python", "line": 5, "kind": "member", "signature": "(self, x: int = 2)", "scope": "A", \
"scopeKind": "class", "roles": "def", "extras": "qualified", "end": 8}
{"_type": "tag", "name": "Sub", "path": "./m.cpp", "pattern": "/^class Sub : public Base {$/", "file": true, \
"language": "C++", "line": 3, "kind": "class", "inherits": "Base,Map<K,V>", "scope": "geo", \
"scopeKind": "namespace", "roles": "def", "extras": "fileScope", "end": 9}
{"_type": "tag", "name": "g", "path": "m.cpp", "pattern": "/^    void g() {}$/", "file": true, \
"language": "C++", "line": 4, "typeref": "typename:void", "kind": "function", "access": "public", \
"signature": "()", "scope": "geo::Sub::In", "scopeKind": "struct", "roles": "def", "extras": "fileScope"}
{"_type": "tag", "name": "k.py", "path": "k.py", "pattern": false, "language": "Python", "line": 1, \
"kind": "file", "roles": "def", "extras": "inputFile", "end": 9, "epoch": 1795312899}
{"_type": "tag", "name": "M", "path": "t.go", "pattern": "/^func (s *S) M(a int) error {$/", \
"language": "Go", "line": 3, "typeref": "typename:error", "kind": "func", "signature": "(a int)", \
"scope": "t.S", "scopeKind": "struct", "roles": "def", "end": 3}
{"_type": "tag", "name": "os", "path": "k.py", "pattern": "/^import os$/", "language": "Python", "line": 1, \
"kind": "module", "roles": "imported", "extras": "reference"}
"""


def tag(**fields: object) -> str:
    return json.dumps({"_type": "tag", "name": "f", "path": "a.c", "line": 1, "kind": "function"} | fields)


def one(**fields: object) -> CtagsTag:
    (found,) = read([tag(**fields)])
    assert isinstance(found, CtagsTag), found
    return found


def reason(line: str | bytes, root: str | None = None) -> str:
    (found,) = read([line], root=root)
    assert isinstance(found, Broken), found
    assert found.line_number == 1
    return found.reason


def test_what_ctags_writes_is_read() -> None:
    assert list(read(REAL.splitlines())) == [
        CtagsTag(
            "k.py", "A", "A", "class", 3, 8,
            {"kind": "class", "language": "Python", "access": "public", "inherits": ["dict"]},
        ),
        CtagsTag(
            "m.cpp", "Sub", "geo.Sub", "class", 3, 9,
            {
                "kind": "class", "language": "C++", "scope_kind": "namespace",
                "inherits": ["Base", "Map<K,V>"], "extras": ["fileScope"],
            },
        ),
        CtagsTag(
            "m.cpp", "g", "geo.Sub.In.g", "method", 4, 4,
            {
                "kind": "function", "language": "C++", "signature": "()", "access": "public",
                "typeref": "typename:void", "scope_kind": "struct", "extras": ["fileScope"],
            },
        ),
        CtagsTag(
            "t.go", "M", "t.S.M", "method", 3, 3,
            {
                "kind": "func", "language": "Go", "signature": "(a int)", "typeref": "typename:error",
                "scope_kind": "struct",
            },
        ),
    ]  # fmt: skip


def test_text_files_binary_files_and_lists_read_alike(tmp_path: Path) -> None:
    (tmp_path / "tags.json").write_text("\ufeff" + REAL.replace("\n", "\r\n"), encoding="utf-8")
    with open(tmp_path / "tags.json") as text, open(tmp_path / "tags.json", "rb") as binary:
        assert list(read(text)) == list(read(binary)) == list(read(REAL.splitlines()))
    assert list(read([])) == []
    assert list(read(["", "  \n", b"\n"])) == []


@pytest.mark.parametrize(
    ("kind", "scope_kind", "language", "expected"),
    [
        ("function", None, "C", "function"),
        ("function", "class", "C++", "method"),
        ("function", "interface", "TypeScript", "method"),
        ("function", "namespace", "C++", "function"),
        ("function", "typedef", "C", "function"),
        ("func", "package", "Go", "function"),
        ("prototype", None, "C", "function"),
        ("subroutine", "module", "Fortran", "function"),
        ("method", None, "JavaScript", "method"),
        ("singletonMethod", "class", "Ruby", "method"),
        ("member", "class", "Python", "method"),
        ("member", "struct", "C", "variable"),
        ("member", "struct", None, "variable"),
        ("field", "class", "Java", "variable"),
        ("enumerator", "enum", "C", "variable"),
        ("macro", None, "C", "variable"),
        ("constant", None, "Ruby", "variable"),
        ("namespace", None, "C++", "variable"),
        ("struct", None, "C", "class"),
        ("enum", None, "C", "class"),
        ("union", None, "C", "class"),
        ("interface", None, "Java", "class"),
        ("trait", None, "PHP", "class"),
        ("typedef", None, "C", "class"),
        ("chapter", None, "Markdown", "variable"),
        ("", None, None, "variable"),
    ],
)
def test_kinds_become_the_four_symbol_types(
    kind: str, scope_kind: str | None, language: str | None, expected: str
) -> None:
    found = one(kind=kind, scopeKind=scope_kind, language=language)
    assert found.symbol_type == expected
    assert found.metadata["kind"] == kind


def test_a_member_with_a_signature_is_a_method_in_any_language() -> None:
    assert one(kind="member", signature="(self)").symbol_type == "method"


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (None, "f"),
        ("", "f"),
        ("A", "A.f"),
        ("a::B::c", "a.B.c.f"),
        ("::A", "A.f"),
        (r"App\Model\User", "App.Model.User.f"),
        ("p.q.C", "p.q.C.f"),
    ],
)
def test_scopes_are_joined_with_dots(scope: str | None, expected: str) -> None:
    assert one(scope=scope).qualified_name == expected


def test_optional_fields_that_do_not_apply_are_left_out() -> None:
    found = one(inherits=False, access=None, signature=False, pattern=False, scope=False)
    assert found.metadata == {"kind": "function"}
    assert one(inherits="Generic[K, V], Base").metadata["inherits"] == ["Generic[K, V]", "Base"]
    assert one(inherits=["A", "B"], extras=["fileScope"]).metadata["inherits"] == ["A", "B"]


@pytest.mark.parametrize("line", [
    tag(_type="ptag"),
    tag(_type="something new"),
    tag(extras="qualified"),
    tag(extras="fileScope,reference"),
    tag(extras=["inputFile"]),
    tag(roles="imported"),
])  # fmt: skip
def test_what_defines_nothing_yields_nothing(line: str) -> None:
    assert list(read([line, tag(name="next")]))[0][1] == "next"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "not JSON: "),
        ("garbage", "not JSON: "),
        (b"\xff\xfe\x00", "not JSON: "),
        ("[" * 100_000, "not JSON: nested too deeply"),
        ('{"line": ' + "9" * 5000 + "}", "not JSON: "),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        (tag(_type=3), "_type is not text"),
        (tag(name=None), "no name"),
        (tag(name=""), "no name"),
        (tag(name=["f"]), "name is an array, not text"),
        (tag(path=None), "no path"),
        (tag(path=7), "path is 7, not text"),
        (tag(path="."), "path '.' names no file"),
        (tag(path="a\0.c"), "the path holds a NUL character"),
        (tag(line=None), "no line number; run ctags with --fields='*'"),
        (tag(line="3"), 'line is "3", not a whole number'),
        (tag(line=True), "line is true, not a whole number"),
        (tag(line=1.5), "line is 1.5, not a whole number"),
        (tag(line=0), "line is 0; lines count from 1"),
        (tag(line=-4), "line is -4; lines count from 1"),
        (tag(line=2**63), f"line is {2**63}; lines count from 1"),
        (tag(line=5, end=4), "end 4 is before line 5"),
        (tag(end=-1), "end is -1; lines count from 1"),
        (tag(scope={"a": 1}), "scope is an object, not text"),
        (tag(signature="x" * ctags.MAX_LINE), "the line is longer than 1,000,000 characters"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(line: str | bytes, expected: str) -> None:
    assert reason(line).startswith(expected)


def test_a_broken_line_does_not_stop_the_others() -> None:
    lines = [tag(), "{", b"", tag(line=-1), b"\x80" + tag().encode(), tag(name="last")]
    found = list(read(lines))
    assert [f.line_number if isinstance(f, Broken) else f.name for f in found] == ["f", 2, 4, 5, "last"]


def test_paths_are_made_relative_to_the_root_or_refused(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (tmp_path / "alias").symlink_to(root)

    def path(written: object, *, root: Path | None = root) -> str:
        (found,) = read([tag(path=str(written))], root=root)
        return found.path if isinstance(found, CtagsTag) else found.reason

    assert path("a/b.c") == path("./a//b.c") == path("a/x/../b.c") == "a/b.c"
    assert path(root / "a" / "b.c") == "a/b.c"
    assert path(f"{root}/x/../b.c") == "b.c"
    # Whether the root or the path goes through a link, it is the same file.
    assert path(root / "b.c", root=tmp_path / "alias") == "b.c"
    assert path(tmp_path / "alias" / "b.c", root=tmp_path / "alias") == "b.c"
    assert path("../b.c") == "path '../b.c' leaves the tree"
    assert path("a/../../tree/b.c").endswith("leaves the tree")
    assert "is outside" in path(f"{root}/../b.c")
    assert "is outside" in path(f"{root}-twin/b.c")
    assert "is outside" in path("/etc/passwd")
    assert "no root" in path(root / "b.c", root=None)
    assert path("/b.c", root=Path("/")) == "b.c"


def test_text_that_no_database_takes_is_replaced() -> None:
    found = one(name="half \ud800", signature="(é)")
    assert found.name == "half ?"
    assert found.metadata["signature"] == "(é)"
    (from_bytes,) = read([tag(name="NAME").encode().replace(b"NAME", b"caf\xe9")])
    assert isinstance(from_bytes, CtagsTag)
    assert from_bytes.name == "caf\ufffd"


@pytest.mark.parametrize("first", ["!_TAG_FILE_FORMAT\t2\t/extended/\n", b"!_TAG_FILE_SORTED\t1\n"])
def test_a_tags_file_of_the_classic_format_is_refused_with_the_option(first: str | bytes) -> None:
    with pytest.raises(InvalidArgument, match="--output-format=json"):
        list(read([first, 'main\tmain.c\t/^int main$/;"\tf\n']))


def test_reading_streams() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield tag()

    assert isinstance(next(read(endless())), CtagsTag)


def test_an_overlong_line_of_a_file_is_not_held_in_memory(tmp_path: Path) -> None:
    with open(tmp_path / "tags.json", "wb") as file:
        file.write(b'{"name": "')
        file.truncate(60_000_000)
        file.seek(0, io.SEEK_END)
        file.write(b"\n" + tag(name="after").encode())
    tracemalloc.start()
    try:
        with open(tmp_path / "tags.json", "rb") as file:
            broken, after = read(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert broken == Broken(1, "the line is longer than 1,000,000 characters")
    assert isinstance(after, CtagsTag)
    assert after.name == "after"
    assert peak < 8_000_000


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4)
KEYS = st.sampled_from("name path line end kind scope scopeKind signature inherits roles extras".split())


@pytest.mark.no_cover
@given(st.lists(st.dictionaries(KEYS, JSON).map(json.dumps) | st.text() | st.binary()))
def test_no_input_raises_and_every_tag_is_storable(lines: list[str | bytes]) -> None:
    assume(not (lines and lines[0][:6] in ("!_TAG_", b"!_TAG_")))  # the one file that is refused, see above
    for found in read(lines, root="/tree"):
        if isinstance(found, CtagsTag):
            assert 1 <= found.start_line <= found.end_line
            assert found.symbol_type in {"function", "class", "method", "variable"}
            "\n".join([found.path, found.name, found.qualified_name]).encode()
            json.dumps(found.metadata, allow_nan=False).encode()
        else:
            assert 1 <= found.line_number <= len(lines)
            found.reason.encode()


def _has_json_ctags() -> bool:
    program = shutil.which("ctags")
    if program is None:
        return False
    features = subprocess.run([program, "--list-features"], capture_output=True, text=True).stdout
    return "json" in features


@pytest.mark.skipif(not _has_json_ctags(), reason="universal-ctags with JSON output is not installed")
def test_the_real_tool(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("struct p { int x; };\nint area(struct p *q)\n{\n    return q->x;\n}\n")
    (tmp_path / "b.py").write_text("class B(dict):\n    size = 1\n    def m(self, x):\n        return x\n")
    made = subprocess.run(
        ["ctags", "--output-format=json", "--fields=*", "--extras=+pqr", "-R", "-f", "-", str(tmp_path)],
        capture_output=True,
        check=True,
    )
    found = list(read(io.BytesIO(made.stdout), root=tmp_path))
    assert not [f for f in found if isinstance(f, Broken)]
    tags = [f for f in found if isinstance(f, CtagsTag)]
    rows = {(f.path, f.qualified_name, f.symbol_type, f.start_line, f.end_line) for f in tags}
    assert rows >= {
        ("a.c", "p", "class", 1, 1),
        ("a.c", "area", "function", 2, 5),
        ("b.py", "B", "class", 1, 4),
        ("b.py", "B.m", "method", 3, 4),
        ("b.py", "B.size", "variable", 2, 2),
    }
    assert ("a.c", "p.x", "variable") in {row[:3] for row in rows}


# -- on their way into a scan ----------------------------------------------------------------------------------


def written(place: Path, *tags: dict[str, object]) -> Path:
    place.write_text("".join(tag(**each) + "\n" for each in tags))
    return place


def test_the_tags_file_itself_is_not_recorded(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int f() {}\n")
    made = written(tmp_path / "tags.json", {})
    scan = store.scans.record(tmp_path, ctags=made, exclude=["scan.db*"])
    assert [file.file_path for file in scan.files] == ["a.c"]


def test_what_the_scan_skipped_or_could_not_read_stays_so(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.c").write_text("int f() {}\n")
    (root / "big.c").write_text("//" + "x" * 500)
    (root / "blob.c").write_bytes(b"\0")
    (root / "link.c").symlink_to("a.c")
    names = ("a.c", "big.c", "blob.c", "link.c")
    made = written(tmp_path / "tags", *({"path": name} for name in names))
    scan = store.scans.record(root, ctags=made, max_size=100)
    assert scan.options["ctags"]["outside"] == ["big.c", "blob.c", "link.c"]
    assert [symbol.file_path for symbol in store.symbols.list()] == ["a.c"]
    assert {file.file_path: file.status for file in scan.files} == {
        "a.c": "done", "big.c": "skipped", "blob.c": "skipped", "link.c": "skipped",
    }  # fmt: skip
    assert store.check() == []


@pytest.mark.parametrize("ends", [True, False])
def test_a_symbol_whose_text_changes_is_changed(store: Store, tmp_path: Path, ends: bool) -> None:
    root = tmp_path / "tree"
    root.mkdir()

    def record(text: str) -> None:
        (root / "a.rs").write_text(text)
        end = [{"end": 3}, {"end": 6}] if ends else [{}, {}]
        made = written(tmp_path / "tags", {"path": "a.rs", "name": "one", **end[0]},
                       {"path": "a.rs", "name": "two", "line": 4, **end[1]})  # fmt: skip
        store.scans.record(root, ctags=made)

    record("fn one() {\n  1\n}\nfn two() {\n  2\n}\n")
    record("fn one() {\n  1\n}\nfn two() {\n  3\n}\n")
    assert [change.qualified_name for change in store.symbols.diff(1, 2).changed] == ["two"]
    record("fn one() {\n  0\n}\nfn two() {\n  3\n}\n")
    assert [change.qualified_name for change in store.symbols.diff(2, 3).changed] == ["one"]
    assert store.check() == []


def test_tags_of_a_file_that_changed_meanwhile_have_no_text(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.c").write_text("int f() {\n}\n")
    scan = store.scans.record(root)
    (root / "a.c").write_text("int f() {\n  other();\n}\n")
    store.symbols.load_ctags(scan, written(tmp_path / "tags", {"end": 2}))
    store.scans.finish(scan)
    assert store.database.execute_sql("SELECT body_hash FROM symbol_facts").fetchall() == [(None,)]


def test_an_open_file_is_read_and_an_empty_one_refused(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.c").write_text("int f() {}\n")
    with pytest.raises(InvalidArgument, match="is empty; check that ctags is universal-ctags"):
        store.scans.record(root, ctags=io.BytesIO(b""))
    assert store.scans.list() == []
    store.scans.record(root, ctags=io.BytesIO(b'{"_type": "ptag", "name": "JSON_OUTPUT_VERSION"}\n'))
    store.scans.record(root, ctags=io.BytesIO(tag().encode()))
    assert [symbol.name for symbol in store.symbols.list()] == ["f"]


def test_many_tags_that_each_claim_a_whole_file_are_no_work(store: Store, tmp_path: Path) -> None:
    from scanstore.snapshots.ctags_import import LINES_PER_LINE, _add_texts

    lines = ["x"] * 1000
    tags = [
        {"start_line": 1, "end_line": 10**9, "symbol_type": "class", "qualified_name": f"c{n}"} for n in range(1000)
    ]
    _add_texts(tags, lines)
    assert sum("text" in each for each in tags) < LINES_PER_LINE
