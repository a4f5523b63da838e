"""Paths as Windows, macOS and Linux spell them: opened, stored, compared, and left alone where they must be."""

from __future__ import annotations

import ast
import errno
import hashlib
import os
import sqlite3
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import scanstore
from scanstore import NotFound, Store
from scanstore.db import atomic_files, files, paths
from scanstore.db.paths import below, escape_path, ordinary, spelled, unescape_path, uri_path
from scanstore.indexing.ctags import read as read_tags
from scanstore.indexing.walk import walk
from scanstore.sarif.format.uris import Outside, Places, address
from scanstore.snapshots import tree_scan

CODE = "def parse():\n    return 1\n"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="simulates another system on Linux")
NFC, NFD = (unicodedata.normalize(form, "café.py") for form in ("NFC", "NFD"))
EXTENDED = "\\\\?\\"


def seen(store: Store, scan: Any) -> dict[str, str | None]:
    """The files of a scan, each with the reason why it was skipped."""
    rows = store.database.execute_sql("SELECT file_path, error FROM scan_files WHERE scan_id = ?", (scan.id,))
    return dict(rows.fetchall())


def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(paths, "MACOS", True)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", -1, raising=False)  # which Linux refuses


# -- opening


@on_linux
@pytest.mark.parametrize(
    ("file", "address"),
    [
        (r"C:\Users\me\scan.db", "file:///C:/Users/me/scan.db"),
        (r"c:\x86\50% #1?\ü.db", "file:///c:/x86/50%25%20%231%3f/%c3%bc.db"),
        ("D:/a.db", "file:///D:/a.db"),
        (r"\\server\share\a.db", "file:////server/share/a.db"),
        (EXTENDED + r"C:\Users\a.db", "file:///C:/Users/a.db"),
        (EXTENDED + r"UNC\server\share\a.db", "file:////server/share/a.db"),
        (EXTENDED + r"unc\server\share\a.db", "file:////server/share/a.db"),
    ],
)
def test_every_windows_path_has_a_uri_that_sqlite_takes(file: str, address: str) -> None:
    assert files.uri(file, "mode=ro", windows=True) == address + "?mode=ro"
    with pytest.raises(sqlite3.OperationalError, match="^unable to open"):  # and not: invalid uri authority
        sqlite3.connect(files.uri(file, "mode=ro", windows=True), uri=True)


@on_linux
def test_names_of_linux_are_opened_as_they_are(tmp_path: Path) -> None:
    file = os.fsencode(tmp_path) + b"/C:\\x 50%?#\xff.db"
    with sqlite3.connect(files.uri(os.fsdecode(file), "mode=rwc", windows=False), uri=True) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert os.listdir(os.fsencode(tmp_path)) == [os.path.basename(file)]


def test_paths_are_put_into_uris_and_made_relative_in_one_place() -> None:
    """`file:` without `files.uri`, and what raises ValueError between two drives."""
    for path in sorted(Path(scanstore.__file__).parent.rglob("*.py")):
        text = path.read_text("utf-8")
        if not any(word in text for word in ("file:/", "relpath", "commonpath")):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith("file:/") or path.name == "files.py", path
            assert not (isinstance(node, ast.Attribute) and node.attr in ("relpath", "commonpath")), path


# -- what is stored


names = st.text(st.one_of(st.sampled_from("\\x5ced8a0b"), st.characters(exclude_characters="\0/")), max_size=30)


@on_linux
@given(st.lists(st.one_of(names, st.binary(max_size=6).map(os.fsdecode), st.just("\\xe9"))).map("".join))
@example("\\x5c")
@example("\\x5cxe9\udce9")
def test_each_name_of_linux_comes_back_from_what_is_stored(name: str) -> None:
    try:
        content = os.fsencode(name)
    except UnicodeEncodeError:  # half a character, which no name on Linux has
        return
    stored = escape_path(os.fsdecode(content), windows=False)
    assert os.fsencode(unescape_path(stored.encode().decode(), windows=False)) == content


@given(st.lists(st.one_of(names, st.characters(categories=["Cs"]), st.sampled_from(["\\xed\\xa0\\x80", "\\x5c"]))))
@example(["C:\\x5c", "\\xed\\xa0\\x80"])
@example(["C:\\x5cx5c"])
def test_each_name_of_windows_comes_back_from_what_is_stored(parts: list[str]) -> None:
    name = "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    stored = escape_path(name, windows=True)
    assert ascii(unescape_path(stored.encode().decode(), windows=True)) == ascii(name)


def test_folders_of_windows_are_stored_as_they_are() -> None:
    for root in (r"C:\x86\app", r"C:\out\x64", r"\\server\xe9\xff", r"C:\xedit\xa0"):
        assert escape_path(root, windows=True) == root == unescape_path(root, windows=True)
    assert escape_path("C:\\\ud800", windows=True) == r"C:\\xed\xa0\x80"


@given(st.text())
def test_nothing_but_escapes_is_undone(text: str) -> None:
    """A stored path may be a stranger's: no slash, dot or NUL character comes out of letters and digits."""
    assert unescape_path(r"\x2e\x2e\x2fetc\x00" + text).startswith(r"\x2e\x2e\x2fetc\x00")
    assert sum(map(unescape_path(text).count, "/.\0")) == sum(map(text.count, "/.\0"))


# -- files that are read again


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder and files whose names are no Unicode, or look like what is stored for such names."""
    root = tmp_path / os.fsdecode(b"tr\xe9e \\x86")
    root.mkdir()
    for name in (b"caf\xe9.py", b"caf\\xe9.py", b"C:\\x86\\app.py"):
        (root / os.fsdecode(name)).write_text(CODE + f"# {name!r}\n")
    (root / os.fsdecode(b"s\xff.rs")).write_text("fn parse() {\n    1\n}\n")
    return root


def tags_of(root: Path, name: str, end: int = 3) -> list[bytes]:
    return [b'{"_type":"tag","name":"parse","path":"%s","kind":"function","line":1,"end":%d}' % (name.encode(), end)]


@on_linux
def test_files_with_odd_names_are_read_again(store: Store, odd: Path, tmp_path: Path) -> None:
    (odd / "a\\xaab.rs").write_text("fn parse() {\n    1\n}\n")
    tags = tmp_path / "tags.json"
    tags.write_bytes(tags_of(odd, "a\\\\xaab.rs")[0])
    scan = store.scans.record(odd, ctags=tags)
    assert scan.root == scan.target == escape_path(os.fsdecode(odd))
    python = [symbol for symbol in store.symbols.find("parse") if symbol.file_path.endswith(".py")]
    assert sorted(symbol.file_path for symbol in python) == ["C:\\x5cx86\\app.py", "caf\\x5cxe9.py", "caf\\xe9.py"]
    (rust,) = [symbol for symbol in store.symbols.find("parse") if symbol.file_path.endswith(".rs")]
    assert rust.file_path == "a\\x5cxaab.rs"
    store.scans.analyze(scan)
    for chunk in store.chunks.list(scan):
        text, given = store.chunks.text(chunk), store.chunks.text(chunk, root=odd)
        assert text == given
        assert "parse" in text or text.startswith("# b'")
    assert len(store.chunks.list(scan)) >= 5
    assert scan.options["ctags"]["outside"] == []
    assert {s.file_path for s in store.symbols.find("parse", file=os.fsdecode(b"caf\xe9.py"))} == {"caf\\xe9.py"}
    assert store.check() == []


@on_linux
def test_the_text_of_a_symbol_with_an_odd_name_is_compared(store: Store, odd: Path, tmp_path: Path) -> None:
    """Symbols of ctags are hashed by their lines, which are read from the file again."""
    file, tags = odd / "a\\xaab.rs", tmp_path / "tags.json"
    tags.write_bytes(tags_of(odd, "a\\\\xaab.rs")[0])
    scans = []
    for content in ("fn parse() {\n    1\n}\n", "fn parse() {\n    2\n}\n"):
        file.write_text(content)
        scans.append(store.scans.record(odd, ctags=tags))
    changed = store.symbols.diff(*scans)
    assert [change.qualified_name for change in changed.changed] == ["parse"]


@on_linux
def test_a_report_about_an_odd_name_names_the_file_of_the_scan(store: Store, odd: Path, tmp_path: Path) -> None:
    import io
    import json

    scan = store.scans.record(odd)
    uri = "file://" + quote(os.fsencode(odd))
    results = [
        {"ruleId": "R", "message": {"text": f"no {n}"}, "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": one}, "region": {"startLine": 1}}}]}
        for n, one in enumerate(("caf%E9.py", uri + "/caf%E9.py", "caf%5Cxe9.py"))
    ]  # fmt: skip
    report = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": results}]}
    found = store.sarif.load(io.BytesIO(json.dumps(report).encode()), target=scan.target, root=odd)
    assert found.problems == []
    told = store.findings.list(target=scan.target)
    assert sorted(each.file_path for each in told) == ["caf\\x5cxe9.py", "caf\\xe9.py", "caf\\xe9.py"]
    assert {each.symbol for each in told} == {"caf\\xe9.parse", "caf\\x5cxe9.parse"}
    out = io.BytesIO()
    store.sarif.dump(found.scan, out)
    written = [
        one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for one in json.loads(out.getvalue())["runs"][0]["results"]
    ]
    assert sorted(written) == ["caf%5Cxe9.py", "caf%E9.py", "caf%E9.py"]


@on_linux
def test_the_lines_of_a_finding_are_those_of_the_odd_file(store: Store, odd: Path) -> None:
    from scanstore.analysis.publishing import _lines_of

    scan = store.scans.record(odd)
    for path in ("caf\\xe9.py", "caf\\x5cxe9.py"):
        given = {"title": path, "vulnerability_type": "v", "severity": "low", "file_path": path, "line_number": 1}
        lines = _lines_of(store.database, store.drafts.get(store.drafts.add(scan, [given])[0]))
        assert lines is not None and lines[2] == f"# {os.fsencode(unescape_path(path))!r}"


@on_linux
def test_an_odd_folder_is_known_as_the_current_one(
    store: Store, odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from scanstore.cli import base, output, provenance
    from scanstore.snapshots.freshness import changes_since

    scan = store.scans.record(odd)
    monkeypatch.chdir(odd)
    assert provenance.target_here(store, output.here(), trees=True) == scan.target
    assert base.recorded_path(scan, os.fsdecode(b"caf\xe9.py")) == "caf\\xe9.py"
    assert changes_since(store.database, scan) == (0, True)
    lines = io.BytesIO()
    store.dump(lines)
    loaded = Store(tmp_path / "other.db")
    lines.seek(0)
    with loaded:
        assert loaded.load(lines).roots == []  # it is the current folder
    monkeypatch.chdir(tmp_path)
    assert output.places(scan)("a.py", 1) == f"{escape_path(odd.name)}/a.py:1"


@on_linux
def test_what_is_kept_of_an_odd_folder_leads_there(store: Store, odd: Path, tmp_path: Path) -> None:
    import io
    import json

    from scanstore.findings.coverage import Coverage
    from scanstore.sarif.sources import Sources

    scan = store.scans.record(odd)
    assert not Sources(str(odd)).missing("s\\xff.rs") and Sources(str(odd)).missing("s\\xfe.rs")
    covered = Coverage(store.database, scan.id, "t", [])
    covered.include = covered.exclude = None
    assert not covered._gone("s\\xff.rs") and covered._gone("s\\xfe.rs")
    place = {"artifactLocation": {"uri": "caf%E9.py"}, "region": {"startLine": 1}}
    result = {"ruleId": "R", "message": {"text": "x"}, "locations": [{"physicalLocation": place}]}
    report = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [result]}]}
    store.sarif.load(io.BytesIO(json.dumps(report).encode()), scan=scan)
    (finding,) = store.findings.list(target=scan.target)
    assert finding.symbol == "caf\\xe9.parse"
    out = io.BytesIO()
    store.sarif.dump(scan, out)
    (written,) = json.loads(out.getvalue())["runs"][0]["results"]
    assert "primaryLocationLineHash" in written["partialFingerprints"]
    started = store.scans.add("mine", root=odd)
    assert started.root == scan.root
    (tmp_path / "report").write_text(json.dumps(report))
    from click.testing import CliRunner

    from scanstore.cli import main

    command = ["--db", store.path, "sarif", "load", str(tmp_path / "report"), "--target", os.fsdecode(odd)]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert {each.target for each in store.scans.targets()} == {scan.target, "mine"}


@on_linux
def test_tags_with_absolute_paths_are_for_a_folder_with_escapes(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "C:\\x86"
    root.mkdir()
    (root / "a.rs").write_text("fn parse() {\n    1\n}\n")
    scan = store.scans.record(root)
    assert scan.root == f"{tmp_path}/C:\\x5cx86"
    (tmp_path / "tags").write_bytes(tags_of(root, f"{tmp_path}/C:\\\\x86/a.rs")[0])
    loaded = store.symbols.load_ctags(scan, tmp_path / "tags")
    assert (loaded.files, loaded.broken) == (1, [])


def test_a_stored_path_does_not_lead_out_of_its_tree(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "secret").write_text("x")
    (top / "link").symlink_to(tmp_path / "secret")
    assert paths.file_in(str(top), "a.py") == str(top / "a.py")
    for path in ("../secret", "link", "a/../../secret", "/etc/passwd"):
        assert paths.file_in(str(top), path) is None


# -- comparing


@pytest.mark.parametrize(
    ("path", "folder", "inside"),
    [
        (r"C:\Proj\src\a.py", r"c:\proj", "src/a.py"),
        (r"C:\Proj", r"C:\proj", ""),
        (r"D:\Proj\a.py", r"C:\Proj", None),
        (r"C:\Project\a.py", r"C:\Proj", None),
        (r"C:\a.py", "C:\\", "a.py"),
        (EXTENDED + r"C:\Proj\a.py", r"C:\Proj", "a.py"),
        (EXTENDED + r"UNC\server\share\a.py", r"\\SERVER\share", "a.py"),
        (r"\\server\share\a.py", r"\\server\other", None),
        (r"\\server\share\a.py", r"C:\server\share", None),
    ],
)
def test_windows_paths_below_a_folder(path: str, folder: str, inside: str | None) -> None:
    assert below(path, folder, windows=True) == inside


def test_linux_tells_upper_from_lower_case() -> None:
    assert below("/a/B/c", "/a/B", windows=False) == "c"
    assert below("/a/b/c", "/a/B", windows=False) is None
    assert below("/a", "/", windows=False) == "a"


@on_linux
def test_a_path_on_another_drive_is_left_as_it_was_given(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanstore.cli import base, output

    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(CODE)
    scan = store.scans.record(tmp_path / "src")
    monkeypatch.chdir(tmp_path)
    assert base.recorded_path(scan, os.path.join("src", "a.py")) == "a.py"
    assert output.places(scan)("a.py", 1) == "src/a.py:1"
    monkeypatch.setattr(base, "tree_folder", lambda scan: "D:\\src")
    monkeypatch.setattr(output, "tree_folder", lambda scan: "D:\\src")
    monkeypatch.setattr(paths, "WINDOWS", True)
    assert base.recorded_path(scan, str(tmp_path / "src" / "a.py")) == str(tmp_path / "src" / "a.py")
    assert output.places(scan)("a.py", 1) == "a.py:1"


# -- addresses in reports


@on_linux
@pytest.mark.parametrize("root", [r"C:\Proj\x86", r"c:\proj\x86", EXTENDED + r"C:\Proj\x86"])
@pytest.mark.parametrize(
    "uri",
    [
        "file:///C:/Proj/x86/src/A%20b.py",
        "file:///c:/proj/x86/src/A%20b.py",
        "file:///c%3A/Proj/x86/src/A%20b.py",
        "file:///C%3a%5CProj%5Cx86%5Csrc%5CA%20b.py",
        "file:/C:/Proj/x86/src/A%20b.py",
        "file://C:/Proj/x86/src/A%20b.py",
        "file://localhost/C:/Proj/x86/src/A%20b.py",
        "C:\\Proj\\x86\\src\\A b.py",
        EXTENDED + "C:\\Proj\\x86\\src\\A b.py",
        "c%3A/Proj/x86/src/A%20b.py",
        "src\\A b.py",
        "src/./x/../A%20b.py",
    ],
)
def test_addresses_below_a_drive(root: str, uri: str) -> None:
    assert Places({}, root, windows=True).path(uri) == "src/A b.py"


@on_linux
@pytest.mark.parametrize("root", [r"\\server\share\Proj", EXTENDED + r"UNC\SERVER\Share\Proj"])
@pytest.mark.parametrize(
    "uri",
    [
        "file://server/share/Proj/src/a.py",
        "file://SERVER/share/proj/src/a.py",
        "file:////server/share/Proj/src/a.py",
        "file://///server/share/Proj/src/a.py",
        "file:////server/share/Proj/../Proj/src/a.py",
        "//server/share/Proj/src/a.py",
        "\\\\server\\share\\Proj\\src\\a.py",
        EXTENDED + "UNC\\server\\share\\Proj\\src\\a.py",
    ],
)
def test_addresses_below_a_share(root: str, uri: str) -> None:
    assert Places({}, root, windows=True).path(uri) == "src/a.py"


@on_linux
@pytest.mark.parametrize(
    ("root", "uri"),
    [
        (r"C:\Proj", "file:///D:/Proj/a.py"),
        (r"C:\Proj", "file:///C:/Project/a.py"),
        (r"C:\Proj", "file://C/Proj/a.py"),
        (r"C:\Proj", "D%3A/Proj/a.py"),
        (r"C:\Proj", "file:///C:/Proj/../a.py"),
        (r"C:\Proj", "src%5C..%5C..%5Ca.py"),
        (r"\\server\share\Proj", "file://server/share/a.py"),
        (r"\\server\share\Proj", "file://other/share/Proj/a.py"),
        (r"\\server\share\Proj", "file:///server/share/Proj/a.py"),
        (r"\\server\share\Proj", "file://server/share/Proj/../../a.py"),
    ],
)
def test_addresses_outside_of_a_windows_root(root: str, uri: str) -> None:
    with pytest.raises(Outside):
        Places({}, root, windows=True).path(uri)


def test_bases_of_a_windows_report_are_read_anywhere() -> None:
    for base in ("file:///C:/Proj/", "file:///c%3A/Proj/", "file://server/Proj/"):
        places = Places({"SRCROOT": {"uri": base}})
        assert places.path(base.lower() + "src/a.py") == places.path("src/a.py", "SRCROOT") == "src/a.py"
    with pytest.raises(Outside):
        Places({}, "/work/tree", windows=False).path("file:///WORK/tree/a.py")
    with pytest.raises(Outside, match="another machine"):
        Places({"SRCROOT": {"uri": "file:///C:/Proj/"}}).path("file://server/Proj/a.py")


@on_linux
def test_an_address_is_made_of_the_bytes_of_the_name() -> None:
    assert address("caf\\xe9/ü b.py") == "caf%E9/%C3%BC%20b.py"
    assert Places({}).path("caf%E9/%C3%BC%20b.py") == "caf\\xe9/ü b.py"


@on_linux
def test_half_a_character_is_no_address() -> None:
    with pytest.raises(Outside, match="not Unicode"):
        Places({}).path("a\ud800.py")


def test_tags_below_a_folder_are_found_whatever_its_prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tag,) = read_tags(tags_of(tmp_path, f"{tmp_path}/x/../src/a.rs"), root=tmp_path)
    assert tag.path == "src/a.rs"  # type: ignore[union-attr]
    (tag,) = read_tags(tags_of(tmp_path, f"{tmp_path}/a\\\\xaab.rs"), root=tmp_path)
    assert tag.path == ("a/xaab.rs" if os.name == "nt" else "a\\x5cxaab.rs")  # type: ignore[union-attr]


# -- what is not entered and not read


class Fake:
    """A folder's entry with a `stat` result of another system."""

    def __init__(self, entry: os.DirEntry[str], told: dict[str, dict[str, int]]) -> None:
        self._entry, self._told = entry, told.get(entry.name, {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        status = self._entry.stat(follow_symlinks=follow_symlinks)
        known = {name: getattr(status, name) for name in ("st_mode", "st_size", "st_mtime_ns", "st_ino", "st_dev")}
        return SimpleNamespace(**{**known, **self._told})


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, dict[str, int]]], None]:
    scandir = os.scandir

    class Listing:
        def __init__(self, folder: Any, told: dict[str, dict[str, int]]) -> None:
            self._listing, self._told = scandir(folder), told

        def __enter__(self) -> Iterator[Fake]:
            return (Fake(entry, self._told) for entry in self._listing.__enter__())

        def __exit__(self, *error: object) -> None:
            self._listing.close()

    def tell(told: dict[str, dict[str, int]]) -> None:
        monkeypatch.setattr(paths, "TELLING", True)
        monkeypatch.setattr(os, "scandir", lambda folder: Listing(folder, told))

    return tell


@on_linux
def test_junctions_are_not_entered(
    store: Store, tmp_path: Path, telling: Callable[[dict[str, dict[str, int]]], None]
) -> None:
    root = tmp_path / "root"
    for name in ("src", "mount", "cloud_folder", "kept"):
        (root / name).mkdir(parents=True)
        (root / name / "a.py").write_text(CODE)
    (root / ".gitignore").write_text("kept/\n")
    telling(
        {
            "mount": {"st_reparse_tag": 0xA0000003, "st_file_attributes": 0x410},
            "cloud_folder": {"st_reparse_tag": 0x9000601A, "st_file_attributes": 0x410},  # a folder of OneDrive, here
            "kept": {"st_reparse_tag": 0xA0000003},
        }
    )
    scan = store.scans.record(root)
    told = seen(store, scan)
    assert told["mount/"] == "junction"  # its target is in the tree
    assert sorted(told) == [".gitignore", "cloud_folder/a.py", "mount/", "src/a.py"]
    assert told["src/a.py"] is told["cloud_folder/a.py"] is None


def test_uploads_do_not_enter_junctions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scanstore.sessions import uploads

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    monkeypatch.setattr(uploads, "is_junction", lambda status: status.st_ino == (tmp_path / "b").stat().st_ino)
    assert list(uploads._below(str(tmp_path))) == ["a/x"]


@pytest.mark.skipif(os.name != "nt", reason="only Windows has junctions")
def test_a_real_junction_is_not_entered(store: Store, tmp_path: Path) -> None:
    import _winapi

    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text(CODE)
    for target, name in ((root / "src", "in"), (tmp_path, "out")):
        _winapi.CreateJunction(str(target), str(root / name))  # type: ignore[attr-defined]
    told = seen(store, store.scans.record(root))
    assert told == {"in/": "junction", "out/": "junction out of the tree", "src/a.py": None}


def test_only_what_stands_for_another_folder_is_a_junction() -> None:
    def told(mode: int, tag: int) -> Any:
        return SimpleNamespace(st_mode=mode, st_reparse_tag=tag)

    assert paths.is_junction(told(stat.S_IFDIR, 0xA0000003))
    assert not paths.is_junction(told(stat.S_IFDIR, 0))
    assert not paths.is_junction(told(stat.S_IFDIR, 0x9000001A))
    assert not paths.is_junction(told(stat.S_IFREG, 0x80000013))
    assert not paths.is_junction(os.lstat(os.curdir))


@on_linux
@pytest.mark.parametrize(
    "attribute",
    [{"st_file_attributes": bit} for bit in (0x400000, 0x40000, 0x1000)] + [{"st_flags": 0x40000000}],
    ids=["on access", "on open", "offline", "dataless"],
)
def test_files_in_the_cloud_are_not_read(
    store: Store,
    tmp_path: Path,
    attribute: dict[str, int],
    telling: Callable[[dict[str, dict[str, int]]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("here.py", "away.py", ".gitignore"):
        (tmp_path / name).write_text(CODE)
    read: list[str] = []
    fingerprint = tree_scan.fingerprint

    def noted(full: str) -> tuple[bytes, bytes]:
        read.append(os.path.basename(full))
        return fingerprint(full)

    monkeypatch.setattr(tree_scan, "fingerprint", noted)
    monkeypatch.setattr("scanstore.indexing.walk._ignore_file", lambda full: read.append(full))
    telling({"away.py": attribute, ".gitignore": attribute})
    scan = store.scans.record(tmp_path)
    told = seen(store, scan)
    assert told["away.py"] == told[".gitignore"] == paths.IN_CLOUD
    assert read == ["here.py"]
    assert store.symbols.find("parse")[0].file_path == "here.py"


@on_linux
def test_folders_without_a_listing_are_not_entered(
    store: Store, tmp_path: Path, telling: Callable[[dict[str, dict[str, int]]], None]
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text(CODE)
    telling({"a": {"st_flags": 0x40000000}, "b": {"st_file_attributes": 0x40010}, "c": {"st_file_attributes": 0x1010}})
    told = seen(store, store.scans.record(tmp_path))
    assert told == {"a/": paths.IN_CLOUD, "b/": paths.IN_CLOUD, "c/x.py": None}


def test_a_file_that_went_to_the_cloud_is_not_fetched_for_its_text(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text(CODE)
    scan = store.scans.record(tmp_path)
    store.scans.analyze(scan)
    chunk = store.chunks.list(scan)[0]
    monkeypatch.setattr("scanstore.db.paths.kept_in_cloud", lambda full: True)
    with pytest.raises(NotFound, match="a.py is in the cloud, not on this disk; download it"):
        store.chunks.text(chunk)


def test_nothing_else_fetches_a_file_from_the_cloud(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanstore.analysis.publishing import _lines_of
    from scanstore.sarif.sources import Sources
    from scanstore.sessions import uploads
    from scanstore.snapshots import ctags_import as tags

    (tmp_path / "a.py").write_text(CODE)
    scan = store.scans.record(tmp_path)
    given = {"title": "t", "vulnerability_type": "v", "severity": "low", "file_path": "a.py", "line_number": 1}
    draft = store.drafts.get(store.drafts.add(scan, [given])[0])
    digest = hashlib.sha256((tmp_path / "a.py").read_bytes()).digest()
    known = (
        lambda: Sources(str(tmp_path)).get("a.py"),
        lambda: _lines_of(store.database, draft),
        lambda: tags._lines(str(tmp_path), "a.py", digest),
    )
    assert all(read() is not None for read in known)
    assert uploads._measured(str(tmp_path), "a.py")["sha256"] == digest
    monkeypatch.setattr(paths, "TELLING", True)
    monkeypatch.setattr(paths, "is_in_cloud", lambda status: True)
    assert all(read() is None for read in known)
    with pytest.raises(scanstore.InvalidArgument, match="in the cloud, not on this disk; download it"):
        uploads._measured(str(tmp_path), "a.py")


# -- macOS


@on_linux
def test_a_sync_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    asked: list[int] = []
    plain: list[int] = []
    refusal: list[int] = []

    def told(handle: int, command: int) -> int:
        if refusal:
            raise OSError(refusal[0], "refused")
        asked.append(command)
        return 0

    monkeypatch.setattr(paths, "MACOS", True)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", told)
    monkeypatch.setattr(os, "fsync", plain.append)
    file = tmp_path / "a"
    with atomic_files.writing(file) as stream:
        stream.write(b"x")
    atomic_files.sync(str(file), "a")
    assert asked == [51, 51, 51] and plain == []  # the file, its folder, the file again
    for number in (errno.ENOTSUP, errno.EINVAL):
        refusal[:] = [number]
        files.sync_folder(str(tmp_path))
    assert len(plain) == 2
    refusal[:] = [errno.EIO]
    with pytest.raises(OSError, match="refused"):
        files.sync_folder(str(tmp_path))
    assert len(plain) == 2


@on_linux
@pytest.mark.parametrize(("durability", "full"), [("full", 1), ("normal", 0)])
def test_commits_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str, full: int) -> None:
    mac(monkeypatch)
    with Store(tmp_path / "s.db", durability=durability) as store:  # type: ignore[arg-type]
        assert [store.database.pragma(name) for name in ("fullfsync", "checkpoint_fullfsync")] == [full, full]
    monkeypatch.setattr(paths, "MACOS", False)
    with Store(tmp_path / "s.db", durability=durability) as store:  # type: ignore[arg-type]
        assert store.database.pragma("fullfsync") == 0


@pytest.fixture
def one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which upper and lower case are one."""
    top = tmp_path / "disk"
    top.mkdir()
    listdir = os.listdir

    def alike(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    def real(path: Any) -> Any:
        if not isinstance(path, str) or not path.startswith(f"{top}/"):
            return path
        found = str(top)
        for name in path.removeprefix(f"{top}/").split("/"):
            try:
                names = listdir(found)
            except OSError:
                return path
            found = os.path.join(found, next((each for each in names if alike(each) == alike(name)), name))
        return found

    def patched(plain: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path=os.curdir, *more, **named: plain(real(path), *more, **named)

    for name in ("stat", "lstat", "scandir", "listdir", "readlink"):
        monkeypatch.setattr(os, name, patched(getattr(os, name)))
    return top


@on_linux
def test_two_spellings_of_a_folder_are_one_target(one_case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = one_case / "Work" / "Proj"
    root.mkdir(parents=True)
    (root / "a.py").write_text(CODE)
    other = one_case / "WORK" / "proj"
    assert spelled(str(other)) == str(root)
    with Store(root / "scan.db") as store:
        first, second = store.scans.record(root), store.scans.record(other)
        assert first.target == second.target == second.root == str(root)
        assert list(seen(store, second)) == ["a.py"]  # and not the store


def test_this_disk_has_one_spelling_for_a_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "Proj").mkdir()
    (tmp_path / "Proj" / "a.py").write_text(CODE)
    if not (tmp_path / "proj").exists():
        pytest.skip("upper and lower case are two names on this disk")
    scans = [store.scans.record(tmp_path / name) for name in ("Proj", "proj", "PROJ")]
    assert {os.path.basename(scan.target) for scan in scans} == {"Proj"}


@on_linux
def test_a_folder_is_not_listed_where_case_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Proj", "proj"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(os, "listdir", lambda folder: pytest.fail("listed"))
    for name in ("Proj", "proj", "missing"):
        assert spelled(str(tmp_path / name)) == str(tmp_path / name)


@on_linux
def test_macos_is_asked_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    (tmp_path / "Proj").mkdir()
    (tmp_path / "proj").symlink_to("Proj")
    told = {"answer": str(tmp_path / "PROJ")}
    monkeypatch.setattr(paths, "MACOS", True)
    monkeypatch.setattr(fcntl, "F_GETPATH", 50, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda handle, command, buffer: os.fsencode(told["answer"]).ljust(1024, b"\0"))
    (tmp_path / "PROJ").symlink_to("Proj")
    assert spelled(str(tmp_path / "proj")) == str(tmp_path / "PROJ")
    (tmp_path / "alias").symlink_to("Proj")
    (tmp_path / "x" / "Proj").mkdir(parents=True)
    for other in (tmp_path, tmp_path / "alias", tmp_path / "x" / "Proj"):  # not its name: the folders are listed
        told["answer"] = str(other)
        assert spelled(str(tmp_path / "proj")) == str(tmp_path / "Proj")


@on_linux
def test_a_file_is_not_opened_to_know_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To close a database ends every lock that the process has on it."""
    (tmp_path / "A.db").touch()
    mac(monkeypatch)
    opened: list[str] = []
    plain = os.open
    monkeypatch.setattr(os, "open", lambda path, *more, **named: opened.append(path) or plain(path, *more, **named))
    assert spelled(str(tmp_path / "A.db")) == str(tmp_path / "A.db")
    assert opened == [str(tmp_path)]


@on_linux
def test_a_name_that_a_folder_lists_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "B").touch()
    for name in ("b", "C"):
        os.link(tmp_path / "B", tmp_path / name)
    mac(monkeypatch)
    for name in ("B", "b", "C"):
        assert paths.name_in(str(tmp_path), name) == str(tmp_path / name)


@on_linux
def test_what_is_omitted_is_so_by_every_spelling(one_case: Path) -> None:
    (one_case / "Src").mkdir()
    for name in ("a.py", "Tags.json"):
        (one_case / "Src" / name).write_text(CODE)
    for name in ("src/tags.json", "SRC/Tags.json"):
        assert [entry.path for entry in walk(one_case, omit=[one_case / name])] == ["Src/a.py"]


@on_linux
def test_commands_know_a_target_by_every_spelling(one_case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scanstore.cli import base, output, provenance

    (one_case / "Proj").mkdir()
    (one_case / "Proj" / "a.py").write_text(CODE)
    with Store(one_case / "scan.db") as store:
        scan = store.scans.record(one_case / "Proj")
        assert base.named_target(store, str(one_case / "proj")) == scan.target
        monkeypatch.setattr(os, "getcwd", lambda: str(one_case / "PROJ"))
        assert output.here() == scan.target
        (one_case / "link").symlink_to("Proj")
        store.scans.finish(store.scans.add("linked", root=one_case / "LINK"))
        assert provenance._root(store.scans.targets()[1]) == Path(scan.target)


@on_linux
def test_composed_and_decomposed_letters_are_one_name_on_macos(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac(monkeypatch)
    (tmp_path / NFD).write_text(CODE)
    scan = store.scans.record(tmp_path)
    assert list(seen(store, scan)) == [NFC]
    for name in (NFC, NFD):
        assert [symbol.file_path for symbol in store.symbols.find("parse", file=name)] == [NFC]
        assert Places({}).path(address(name)) == Places({}, tmp_path).path(address(name)) == NFC
        assert [tag.path for tag in read_tags(tags_of(tmp_path, name))] == [NFC]  # type: ignore[union-attr]
        assert [entry.path for entry in walk(tmp_path, include=[name])] == [NFC]
        (tmp_path / ".gitignore").write_text(f"{name}\n")
        assert NFC not in [entry.path for entry in walk(tmp_path)]
        (tmp_path / ".gitignore").unlink()
    store.scans.analyze(scan)
    (chunk,) = store.chunks.list(scan, file=NFD)
    assert store.chunks.text(chunk) == CODE.rstrip()
    (draft,) = store.drafts.add(
        scan, [{"title": "t", "vulnerability_type": "v", "severity": "low", "file_path": NFD, "line_number": 1}]
    )
    assert store.drafts.get(draft).file_path == NFC
    assert store.symbols.record_file(store.scans.add("mine"), NFD, "a" * 64).file_path == NFC


@on_linux
def test_composed_and_decomposed_letters_are_two_names_elsewhere(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (NFC, NFD):
        (tmp_path / name).write_text(f"# {name}\n")
    scan = store.scans.record(tmp_path)
    assert set(seen(store, scan)) == {NFC, NFD}
    assert Places({}, tmp_path).path(address(NFD)) == NFD
    mac(monkeypatch)  # a disk that keeps them apart keeps both
    again = store.scans.record(tmp_path)
    assert set(seen(store, again)) == {NFC, NFD}


@on_linux
def test_a_report_is_spelled_as_its_files_are(one_case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one_case / "Src").mkdir()
    (one_case / "Src" / "A.py").write_text(CODE)
    monkeypatch.setattr(paths, "MACOS", True)
    places = Places({}, one_case)
    assert places.path("src/a.PY") == "Src/A.py"
    assert places.path("src/b.py") == "src/b.py"  # is not there
    monkeypatch.setattr(paths, "MACOS", False)
    assert Places({}, one_case).path("src/a.PY") == "src/a.PY"


@on_linux
def test_the_store_is_not_overwritten_by_another_name_for_it(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"x")
    os.link(tmp_path / "s.db", tmp_path / "S.DB")
    with (
        pytest.raises(scanstore.InvalidArgument, match="is the store itself"),
        atomic_files.writing(tmp_path / "S.DB", store=str(tmp_path / "s.db")),
    ):
        pass


@on_linux
def test_an_open_store_is_not_replaced_by_another_name_for_it(store: Store) -> None:
    from scanstore.maintenance.backup import _refuse_locked

    os.link(store.path, store.path + "2")
    with pytest.raises(scanstore.Busy):
        _refuse_locked(store.path + "2", "it")


def test_prefixes_of_windows() -> None:
    assert ordinary(EXTENDED + "C:\\a") == "C:\\a" == ordinary("C:\\a")
    assert ordinary(EXTENDED + "Volume{1}\\a") == EXTENDED + "Volume{1}\\a"
    assert uri_path("/a\\b", windows=False) == "/a\\b"


def test_a_log_that_vanishes_while_a_store_is_opened_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last connection of another process removes it when it closes."""
    path = tmp_path / "scan.db"
    Store(path).close()
    access = os.access

    def gone(name: str, mode: int) -> bool:
        if str(name).endswith(("-wal", "-shm")):
            os.unlink(name)
            return False
        return access(name, mode)

    monkeypatch.setattr(os, "access", gone)
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").touch()
    with Store(path) as store:
        assert store.check() == []
