"""What of a tree is walked, in which order, under which names; and what the files are called as modules."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import needs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanstore.errors import InvalidArgument, NotFound
from scanstore.indexing import walk as walk_module
from scanstore.indexing.walk import Entry, escape_path, is_binary, module_names, root_package, unescape_path, walk

POSIX = os.name == "posix"


def plant(root: Path, *paths: str, **texts: str) -> None:
    """Make files (`a/b.py`) and folders (`a/b/`)."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(texts.get(path, "x = 1\n"))


def ignore(folder: Path, *lines: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("\n".join(lines) + "\n")


def paths(root: Path, **options: object) -> list[str]:
    """The paths that a walk yields as files to read, without the ignore files themselves."""
    entries = walk(root, **options)  # type: ignore[arg-type]
    return [e.path for e in entries if e.skipped is None and not e.path.endswith(".gitignore")]


def skips(root: Path, **options: object) -> dict[str, str]:
    return {e.path: e.skipped for e in walk(root, **options) if e.skipped}  # type: ignore[arg-type]


# -- order and shape ----------------------------------------------------------------------------------


def test_entries_come_sorted_by_whole_path_with_size_and_time(tmp_path: Path) -> None:
    plant(tmp_path, "a/z.py", "a-b/c.py", "a.py", "b/a/deep.py", "b/a.py", "Z.py")
    os.utime(tmp_path / "a.py", ns=(5, 1_700_000_000_123_456_789))
    entries = list(walk(tmp_path))
    names = [e.path for e in entries]
    assert names == ["Z.py", "a-b/c.py", "a.py", "a/z.py", "b/a.py", "b/a/deep.py"]
    assert names == sorted(names)
    entry = entries[2]
    assert entry == Entry("a.py", str(tmp_path / "a.py"), 6, os.stat(tmp_path / "a.py").st_mtime_ns, None)
    assert Path(entry.full).read_text() == "x = 1\n"


def test_full_paths_are_absolute_for_a_relative_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "tree/a.py")
    monkeypatch.chdir(tmp_path)
    (entry,) = walk("tree")
    assert (entry.path, entry.full) == ("a.py", str(tmp_path / "tree" / "a.py"))


def test_an_empty_tree_is_empty(tmp_path: Path) -> None:
    assert list(walk(tmp_path)) == []


def test_a_missing_root_is_refused_at_the_call_and_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        walk(tmp_path / "nowhere")
    plant(tmp_path, "file.py")
    with pytest.raises(NotFound, match=r"file\.py/below"):
        walk(tmp_path / "file.py" / "below")


def test_a_root_that_is_a_file_is_the_tree(tmp_path: Path) -> None:
    plant(tmp_path, "one.py", "two.py")
    (entry,) = walk(tmp_path / "one.py")
    assert (entry.path, entry.size, entry.skipped) == ("one.py", 6, None)
    assert skips(tmp_path / "one.py", max_size=2) == {"one.py": "larger than 2 bytes"}
    assert list(walk(tmp_path / "one.py", exclude=["one.*"])) == []
    assert list(walk(tmp_path / "one.py", include=["*.c"])) == []
    assert list(walk(tmp_path / "one.py", omit=[tmp_path / "one.py"])) == []


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    plant(tmp_path, "real/a.py")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "self.py").symlink_to(tmp_path / "real" / "a.py")
    assert paths(tmp_path / "alias") == ["a.py"]
    assert skips(tmp_path / "alias") == {"self.py": "link"}


def test_a_tree_deeper_than_the_interpreter_recurses(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 200
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("leaf.py", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    # Reached, or (past the system's longest path) reported: but never an exception.
    (entry,) = walk(tmp_path)
    assert entry.path.startswith("d/d/")
    assert entry.path.endswith("/leaf.py") or entry.skipped is not None
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


# -- ignore files and patterns ------------------------------------------------------------------------


def test_ignore_files_nest_negate_anchor_and_tell_folders_from_files(tmp_path: Path) -> None:
    plant(
        tmp_path, "a.log", "keep.log", "top.txt", "sub/top.txt", "sub/a.log", "sub/keep.log",
        "sub/special.log", "build/x.py", "sub/build/y.py", "other/build", "sub/only.py", "only.py",
    )  # fmt: skip
    ignore(tmp_path, "*.log", "!keep.log", "/top.txt", "build/", "# a comment", "")
    ignore(tmp_path / "sub", "!special.log", "/only.py")
    assert paths(tmp_path) == [
        "keep.log",
        "only.py",
        "other/build",
        "sub/keep.log",
        "sub/special.log",
        "sub/top.txt",
    ]
    assert skips(tmp_path) == {}


def test_an_ignored_folder_is_not_entered_whatever_it_says_inside(tmp_path: Path) -> None:
    plant(tmp_path, "gone/wanted.py", "kept.py")
    ignore(tmp_path, "gone/", "!gone/wanted.py")
    ignore(tmp_path / "gone", "!wanted.py")
    assert paths(tmp_path) == ["kept.py"]


def test_ignore_files_can_be_others_or_none(tmp_path: Path) -> None:
    plant(tmp_path, "a.py", "b.py")
    ignore(tmp_path, "a.py")
    (tmp_path / ".scanignore").write_text("b.py\n")
    assert paths(tmp_path, ignore_files=()) == [".scanignore", "a.py", "b.py"]
    assert paths(tmp_path, ignore_files=[".gitignore", ".scanignore"]) == [".scanignore"]
    assert paths(tmp_path, ignore_files=".scanignore") == [".scanignore", "a.py"]


def test_a_broken_ignore_file_spoils_only_its_broken_lines(tmp_path: Path) -> None:
    plant(tmp_path, "a.py", "b.py", "café.py", "deep/c.py")
    lines = b"\xef\xbb\xbfa.py\r\n!\n\xff\xfe\n///\n[z-a\n" + "café.py\n".encode()
    (tmp_path / ".gitignore").write_bytes(lines)
    (tmp_path / "deep" / ".gitignore").mkdir()
    assert paths(tmp_path) == ["b.py", "deep/c.py"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_ignoring_is_what_git_does(tmp_path: Path) -> None:
    plant(
        tmp_path, "src/a.py", "src/gen/b.py", "src/gen/keep.py", "docs/a.md", "docs/_build/x.html",
        "lib/a.py", "lib/deep/er/a.py", "lib/deep/er/a.c", "x y.py", "!odd.py", "#hash.py", "a/b/c/d.tmp",
        "a/b/keep/d.tmp",
    )  # fmt: skip
    ignore(tmp_path, "/*", "!/src/", "!/lib", "!/a", "!/docs/", "\\!odd.py", "**/_build/")
    ignore(tmp_path / "lib", "*.c", "!\\#hash.py")
    ignore(tmp_path / "src", "gen/*", "!gen/keep.py")
    ignore(tmp_path / "a", "**/*.tmp", "!b/keep/*.tmp")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    listed = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "-o", "-z", "--exclude-per-directory=.gitignore"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    expected = sorted(path for path in listed.stdout.split("\0") if path)
    assert len(expected) > 5
    assert [e.path for e in walk(tmp_path)] == expected


def test_include_keeps_only_what_matches_and_exclude_wins(tmp_path: Path) -> None:
    plant(tmp_path, "a.py", "a.c", "sub/b.py", "sub/b.h", "test/t.py")
    assert paths(tmp_path, include=["*.py"]) == ["a.py", "sub/b.py", "test/t.py"]
    assert paths(tmp_path, include=["sub/"]) == ["sub/b.h", "sub/b.py"]
    assert paths(tmp_path, include="/a.*", exclude="*.c") == ["a.py"]
    assert paths(tmp_path, exclude=["test/", "*.h"]) == ["a.c", "a.py", "sub/b.py"]


def test_exclude_brings_back_what_defaults_and_ignore_files_leave_out(tmp_path: Path) -> None:
    plant(tmp_path, "node_modules/m/i.js", "a.log", "b.log", ".tox/x.py")
    ignore(tmp_path, "*.log")
    assert paths(tmp_path) == []
    assert paths(tmp_path, exclude=["!node_modules/", "!a.log"]) == ["a.log", "node_modules/m/i.js"]


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_is_none_is_refused_by_name(tmp_path: Path, option: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"{option} has '!'"):
        walk(tmp_path, **{option: ["*.py", "!"]})  # type: ignore[arg-type]


def test_what_nobody_wants_is_left_out_by_default(tmp_path: Path) -> None:
    for name in sorted(walk_module.EXCLUDED_NAMES):
        plant(tmp_path, f"{name}/a.py", f"sub/{name}/a.py")
    plant(tmp_path, "a.pyc", "old.pyo", "keep.py", "env/pyvenv.cfg", "env/lib/a.py", "worktree/.git")
    assert paths(tmp_path) == ["keep.py"]
    # The root itself was asked for, whatever it is.
    assert paths(tmp_path / "env") == ["lib/a.py", "pyvenv.cfg"]
    assert paths(tmp_path / "node_modules") == ["a.py"]


def test_without_patterns_the_pattern_library_is_not_imported(tmp_path: Path) -> None:
    plant(tmp_path, "a.py")
    code = (
        "import sys; from scanstore.indexing.walk import walk; "
        f"assert len(list(walk({str(tmp_path)!r}))) == 1; sys.exit('pathspec' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_omitted_files_never_come_nor_do_their_siblings(tmp_path: Path) -> None:
    plant(
        tmp_path, "s/scan.db", "s/scan.db-wal", "s/scan.db-shm", "s/scan.db-journal", "s/scan.db.backup-001",
        "s/scan.db.md", "s/scan.dbx", "scan.db", "link/",
    )  # fmt: skip
    (tmp_path / "link" / "to.db").symlink_to(tmp_path / "scan.db")
    assert paths(tmp_path, omit=[tmp_path / "s" / "scan.db", "/elsewhere/x.db"]) == [
        "s/scan.db.md",
        "s/scan.dbx",
        "scan.db",
    ]
    # Named through a link, both the link and the file behind it are the store.
    entries = [e.path for e in walk(tmp_path, omit=[tmp_path / "link" / "to.db"])]
    assert "scan.db" not in entries
    assert "link/to.db" not in entries


# -- skipped, with the reason -------------------------------------------------------------------------


def test_larger_files_are_skipped_with_the_limit(tmp_path: Path) -> None:
    (tmp_path / "big.bin").touch()
    os.truncate(tmp_path / "big.bin", 100_000_000)
    (tmp_path / "edge.bin").touch()
    os.truncate(tmp_path / "edge.bin", 5_000_000)
    by_path = {e.path: e for e in walk(tmp_path)}
    assert by_path["big.bin"].skipped == "larger than 5 MB"
    assert by_path["big.bin"].size == 100_000_000
    assert by_path["edge.bin"].skipped is None
    assert skips(tmp_path, max_size=None) == {}
    assert set(skips(tmp_path, max_size=1_500).values()) == {"larger than 1.5 kB"}
    with pytest.raises(InvalidArgument, match="max_size is -1"):
        walk(tmp_path, max_size=-1)


@pytest.mark.skipif(not POSIX, reason="needs symbolic links")
def test_links_are_reported_and_never_followed(tmp_path: Path) -> None:
    plant(tmp_path, "tree/pkg/a.py", "outside/secret.py", "tree-twin/b.py")
    root = tmp_path / "tree"
    (root / "inside.py").symlink_to("pkg/a.py")
    (root / "inside_folder").symlink_to("pkg")
    (root / "up").symlink_to("..")
    (root / "secret.py").symlink_to(tmp_path / "outside" / "secret.py")
    (root / "twin").symlink_to(tmp_path / "tree-twin")
    (root / "broken").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "pkg" / "root").symlink_to(root)
    assert paths(root) == ["pkg/a.py"]
    assert skips(root) == {
        "broken": "broken link",
        "inside.py": "link",
        "inside_folder": "link",
        "loop": "broken link",
        "pkg/root": "link",
        "secret.py": "link out of the tree",
        "twin": "link out of the tree",
        "up": "link out of the tree",
    }


@pytest.mark.skipif(not POSIX, reason="needs pipes and sockets")
def test_what_is_not_a_regular_file_is_reported_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    os.mkfifo(tmp_path / ".gitignore")  # opening it would hang
    short = tempfile.mkdtemp(dir="/tmp")
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{short}/s")
            assert skips(Path(short)) == {"s": "not a regular file"}
    finally:
        shutil.rmtree(short)
    assert skips(tmp_path) == {".gitignore": "not a regular file", "pipe.py": "not a regular file"}
    assert skips(tmp_path / "pipe.py") == {"pipe.py": "not a regular file"}


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """A folder that an ordinary user may use, as that user: root may read everything."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    switch = needs.is_root()
    try:
        yield folder
    finally:
        if switch:
            os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.skipif(not POSIX, reason="needs permissions")
def test_a_folder_without_permission_is_one_skipped_entry(tmp_path: Path) -> None:
    with ordinary_user() as root:
        plant(root, "a/x.py", "b-closed/y.py", "c/z.py")
        (root / "b-closed").chmod(0)
        if needs.is_root():
            os.seteuid(65534)
        assert [(e.path, e.skipped) for e in walk(root)] == [
            ("a/x.py", None),
            ("b-closed/", "permission denied"),
            ("c/z.py", None),
        ]
        with pytest.raises(InvalidArgument, match="b-closed.*permission denied"):
            walk(root / "b-closed")


def test_what_vanishes_during_the_walk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.py", "b.py", "c/d.py", "e/f.py")
    scandir = os.scandir

    @contextmanager
    def scandir_then_remove(path: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as listing:
            found = list(listing)
        (tmp_path / "b.py").unlink(missing_ok=True)
        yield found

    monkeypatch.setattr(os, "scandir", scandir_then_remove)
    walking = walk(tmp_path)
    shutil.rmtree(tmp_path / "c")
    assert [(e.path, e.skipped) for e in walking] == [
        ("a.py", None),
        ("b.py", "vanished"),
        ("c/", "vanished"),
        ("e/f.py", None),
    ]


# -- names --------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_any_name_is_storable_unique_and_opens(tmp_path: Path) -> None:
    raw = [b"a b.py", b"new\nline.py", b"caf\xc3\xa9.py", b"caf\xe9.py", b"\xff"]
    raw += [rb"caf\xe9.py", rb"back\slash.py"]
    folder = os.fsencode(tmp_path)
    os.mkdir(folder + b"/d\xfe")
    for name in [*raw, b"d\xfe/in.py"]:
        with open(folder + b"/" + name, "wb") as file:
            file.write(name)
    ignore(tmp_path, "nothing")
    entries = [e for e in walk(tmp_path) if e.path != ".gitignore"]
    names = [e.path for e in entries]
    assert len(set(names)) == len(raw) + 1
    assert names == sorted(names)
    for entry in entries:
        entry.path.encode("utf-8")
        with open(entry.full, "rb") as file:
            content = file.read()
        assert os.fsencode(unescape_path(entry.path)) == content
    assert {"a b.py", "new\nline.py", "café.py", r"back\slash.py"} < set(names)
    assert {r"caf\xe9.py", r"caf\x5cxe9.py"} < set(names)
    assert r"d\xfe/in.py" in names


PIECES = st.sampled_from([b"\\", b"x", b"5c", b"ff", b"\xff", b"a"])


@given(st.binary(max_size=30) | st.lists(PIECES).map(b"".join))
def test_escaping_is_reversible(raw: bytes) -> None:
    name = raw.decode("utf-8", "surrogateescape")
    escaped = escape_path(name)
    escaped.encode("utf-8")
    assert unescape_path(escaped) == name


# -- binary -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "binary"),
    [
        (b"", False),
        (b"text \xff\xe9", False),
        (b"\x7fELF\0\0", True),
        (b"a" * 8191 + b"\0", True),
        (b"a" * 8192 + b"\0", False),
        ("wide text".encode("utf-16"), False),
        ("wide 𝄞 text".encode("utf-16-be").join([b"\xfe\xff", b""]), False),
        ("wide text".encode("utf-32"), False),
        ("𝄞".encode("utf-16")[:-1], False),
        (b"\xff\xfe\x00\xdc\x00\xdc" + b"\0" * 20, True),
        ("no mark".encode("utf-16-le"), True),
    ],
)
def test_binary_is_a_nul_byte_in_the_head_unless_marked_as_wide_text(head: bytes, binary: bool) -> None:
    assert is_binary(head) is binary


# -- module names -------------------------------------------------------------------------------------


def test_module_names_of_packages_scripts_and_stubs() -> None:
    names = module_names(
        [
            "setup.py", "README.md", "noext", "src/pkg/__init__.py", "src/pkg/a.py", "src/pkg/a.pyi",
            "src/pkg/sub/__init__.py", "src/pkg/sub/b.py", "src/pkg/data/c.py",
            "src/pkg/data/deep/__init__.py", "src/script.py", "lib/x/y.py", "examples/a/main.py",
            "backend/app/__init__.py", "backend/app/m.py", "top/__init__.pyi", "top/z.pyi",
            "a-b/c d.py", "x.lib/src/e.py",
        ]
    )  # fmt: skip
    assert names == {
        "setup.py": "setup",
        "src/pkg/__init__.py": "pkg",
        "src/pkg/a.py": "pkg.a",
        "src/pkg/a.pyi": "pkg.a",
        "src/pkg/sub/__init__.py": "pkg.sub",
        "src/pkg/sub/b.py": "pkg.sub.b",
        "src/pkg/data/c.py": "pkg.data.c",
        "src/pkg/data/deep/__init__.py": "pkg.data.deep",
        "src/script.py": "script",
        "lib/x/y.py": "x.y",
        "examples/a/main.py": "examples.a.main",
        "backend/app/__init__.py": "app",
        "backend/app/m.py": "app.m",
        "top/__init__.pyi": "top",
        "top/z.pyi": "top.z",
        "a-b/c d.py": "a-b.c d",
        "x.lib/src/e.py": "x.lib.src.e",
    }


def test_module_names_where_src_or_the_root_is_a_package() -> None:
    assert module_names(["src/__init__.py", "src/a.py"]) == {"src/__init__.py": "src", "src/a.py": "src.a"}
    assert module_names(["__init__.py", "store.py", "cli/__init__.py", "cli/run.py", "lib/x.py"], "p.q") == {
        "__init__.py": "p.q",
        "store.py": "p.q.store",
        "cli/__init__.py": "p.q.cli",
        "cli/run.py": "p.q.cli.run",
        "lib/x.py": "p.q.lib.x",
    }
    assert module_names(["__init__.py", "a.py"]) == {"__init__.py": "__init__", "a.py": "a"}
    assert module_names([]) == {}


def test_root_package_climbs_from_the_real_folder(tmp_path: Path) -> None:
    plant(tmp_path, "repo/src/pkg/__init__.py", "repo/src/pkg/sub/__init__.py", "repo/src/pkg/plain/x.py")
    (tmp_path / "alias").symlink_to(tmp_path / "repo" / "src" / "pkg" / "sub")
    source = tmp_path / "repo" / "src"
    assert root_package(source) == ""
    assert root_package(source / "pkg") == "pkg"
    assert root_package(source / "pkg" / "sub") == "pkg.sub"
    assert root_package(source / "pkg" / "sub" / "__init__.py") == "pkg.sub"
    assert root_package(source / "pkg" / "plain") == ""
    assert root_package(tmp_path / "alias") == "pkg.sub"
    assert module_names(["b.py"], root_package(tmp_path / "alias")) == {"b.py": "pkg.sub.b"}


def test_module_names_that_two_places_would_share_are_told_apart_by_path() -> None:
    names = module_names(
        ["a/tests/__init__.py", "a/tests/x.py", "b/tests/__init__.py", "b/tests/y.py", "src/m.py", "m.py", "m.pyi"]
    )
    assert names == {
        "a/tests/__init__.py": "a.tests",
        "a/tests/x.py": "a.tests.x",
        "b/tests/__init__.py": "b.tests",
        "b/tests/y.py": "b.tests.y",
        "m.py": "m",
        "m.pyi": "m",
        "src/m.py": "src.m",
    }
