"""Bad input: whatever lies in a tree is recorded or skipped with the reason, and the scan completes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import needs
import pytest
from stressing import LONG

from scanstore.errors import InvalidArgument, NotFound
from scanstore.models import Scan, ScanFile, ScanFileChunk, Symbol
from scanstore.store import Store

resource = needs.module("resource")

GOOD = b"def good():\n    return 1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with one good file, so that every test also sees the rest survive."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good.py").write_bytes(GOOD)
    return tree


def record(store: Store, root: Path, **options: Any) -> dict[str, ScanFile]:
    """Scan, make sure that it completed and the good file is whole; returns the files by path."""
    options.setdefault("jobs", 1)
    scan = store.scans.record(root, **options)
    assert scan.status == "completed" and scan.revision
    assert store.check() == []
    files = {file.file_path: file for file in ScanFile.select().where(ScanFile.scan == scan)}
    if "good.py" in files:
        assert [s.name for s in store.symbols.find("good", scan=scan, symbol_type="function")] == ["good"]
        assert files["good.py"].status == "done" and files["good.py"].error is None
    return files


def symbols(path: str) -> list[str]:
    return [s.name for s in Symbol.select().where(Symbol.file_path == path) if s.symbol_type != "module"]


def chunks(path: str) -> list[tuple[str, int, int]]:
    file = ScanFile.get(ScanFile.file_path == path)
    query = ScanFileChunk.select().where(ScanFileChunk.scan_file == file).order_by(ScanFileChunk.chunk_index)
    return [(c.chunk_type, c.start_line, c.end_line) for c in query]


# -- content that is no Python -------------------------------------------------------------------------------

UNPARSABLE = {
    "undecodable": (b"x = '\xff\xfe'\ny = 2\n", "not utf-8"),
    "wrong coding line": (b"# -*- coding: klingon -*-\nx = 1\n", "unknown encoding: klingon"),
    "coding that is no text": (b"# coding: zlib\nx = 1\n", ""),
    "coding that always fails": (b"# coding: undefined\nx = 1\n", ""),
    "coding that does not fit": (b"# coding: ascii\nx = '\xe9'\n", "not ascii"),
    "syntax error": (b"x = 1\ndef broken(:\n    pass\n", "syntax error: .*line 2"),
    "bad indentation": (b"def f():\npass\n", "syntax error"),
    "tabs and spaces": (b"if 1:\n        x = 1\n\ty = 2\n", "syntax error"),
    "unclosed": (b"x = (1,\n", "syntax error"),
    "null byte": (b"x = 1\0\ny = 2\n", "null bytes"),
    "only null bytes": (b"\0" * 5000, "null bytes"),
    "python 2": (b"print 'hello'\nexec 'x'\n", "syntax error"),
    "merge conflict": (b"<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n", "syntax error"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ""),
    "utf-16": ("x = 1\n".encode("utf-16"), ""),
    "cut in a character": ("s = 'é".encode()[:-1], "not utf-8"),
}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_is_no_python_is_recorded_with_its_error_and_one_chunk(store: Store, root: Path, jobs: int) -> None:
    for number, (content, _) in enumerate(UNPARSABLE.values()):
        (root / f"bad{number}.py").write_bytes(content)
    files = record(store, root, jobs=jobs)
    for number, (what, (content, reason)) in enumerate(UNPARSABLE.items()):
        path = f"bad{number}.py"
        file = files[path]
        assert file.status == "failed" and file.error, what
        assert re.search(reason, file.error), f"{what}: {file.error}"
        assert (
            file.file_hash == hashlib.sha256(content).digest() or file.file_hash == hashlib.sha256(content).hexdigest()
        )
        assert symbols(path) == [], what
        lines = content.count(b"\n") + (not content.endswith(b"\n"))
        assert chunks(path) == [("full_file", 1, max(lines, 1))], what
    summary = store.scans.summary()
    assert summary.failed == len(UNPARSABLE) == len(summary.failed_files)
    assert all(note.reason and "\n" not in note.reason for note in summary.failed_files)


def test_a_mended_file_is_read_again_and_a_broken_one_is_not(store: Store, root: Path) -> None:
    (root / "bad.py").write_text("def f(:\n")
    record(store, root)
    assert record(store, root)["bad.py"].status == "failed"
    assert store.scans.summary().indexed == 0
    (root / "bad.py").write_text("def f(): pass\n")
    assert record(store, root)["bad.py"].status == "done"
    assert [s.name for s in store.symbols.find("f")] == ["f"]


ODD = {
    "empty": (b"", []),
    "only comments": (b"# nothing\n# here\n", []),
    "only blank lines": (b"\n\n\n", []),
    "no last newline": (b"def f(): pass", ["f"]),
    "crlf": (b"def f():\r\n    '''one\r\n    two'''\r\n    return 1\r\n\r\ndef g():\r\n    pass\r\n", ["f", "g"]),
    "cr": (b"def f():\r    return 1\r\rdef g():\r    pass\r", ["f", "g"]),
    "form feed": (b"def f():\n    pass\n\x0c\ndef g():\n    pass\n\x0c", ["f", "g"]),
    "vertical tab and nel in a string": ("s = '\x0b \x85 \u2028'\ndef f(): pass\n".encode(), ["s", "f"]),
    "bom": (b"\xef\xbb\xbfdef f(): pass\n", ["f"]),
    "bom and cookie": (b"\xef\xbb\xbf# coding: utf-8\ndef f(): pass\n", ["f"]),
    "latin-1": ("# -*- coding: latin-1 -*-\ndef f(): return 'é'\n".encode("latin-1"), ["f"]),
    "latin-1 on line two": ("#!/usr/bin/python\n# vim: set fileencoding=latin-1 :\né = 'ü'\n".encode("latin-1"), ["é"]),
    "cookie in line three is none": ("\n\n# coding: latin-1\nx = 'é'\n".encode(), ["x"]),
    "utf-7": (b"# coding: utf-7\nx = '+AOk-'\n", ["x"]),
    "unicode identifiers": (
        "def größe(): pass\nclass Ünïcode:\n    def ﬁ(self): pass\n".encode(),
        ["größe", "Ünïcode", "fi"],
    ),
    "surrogates in strings": (b"def f(x='\\ud800'):\n    '''\\udc80 and \\ud83d'''\ns = '\\udfff'\n", ["f", "s"]),
    "surrogates in annotations": (b"x: '\\ud800' = 1\ndef f(a: '\\udc80') -> '\\ud800': pass\n", ["x", "f"]),
    "surrogates in all": (b"__all__ = ['\\ud800', 'f']\ndef f(): pass\n", ["__all__", "f"]),
    "null in a string": (b"def f():\n    'a\\0b'\ns = '\\0'\n", ["f", "s"]),
    "huge line": (b"x = [" + b"1, " * 60_000 + b"]\ndef f(): pass\n", ["x", "f"]),
    "huge string": (b"x = '" + b"a" * 2_000_000 + b"'\n", ["x"]),
    "huge name": (b"a" * 100_000 + b" = 1\n", ["a" * 100_000]),
    "huge docstring": (b"def f():\n    '''" + b"word " * 50_000 + b"'''\n", ["f"]),
    "huge number": (b"x = " + b"1" * 4000 + b"\n", ["x"]),
    "many lines": (b"x = 1\n" * 20_000 + b"def f(): pass\n", ["x", "f"]),
    "only a docstring": (b"'''hello'''\n", []),
    "semicolons": (b"def f(): pass\ndef g(): pass; x = 1\nclass A: pass; y = 2\n", ["f", "g", "A", "y"]),
    "same name often": (b"def f(): pass\n" * 3, ["f", "f", "f"]),
    "escapes in a regex": (b"import re\ndef f(): return re.compile('\\d')\n", ["f"]),
}


@pytest.mark.parametrize("jobs", [1, 2])
def test_odd_but_valid_files_are_read(store: Store, root: Path, jobs: int) -> None:
    for number, (content, _) in enumerate(ODD.values()):
        (root / f"odd{number}.py").write_bytes(content)
    files = record(store, root, jobs=jobs)
    for number, (what, (_, names)) in enumerate(ODD.items()):
        path = f"odd{number}.py"
        assert (files[path].status, files[path].error) == ("done", None), what
        assert symbols(path) == names, what
        spans = chunks(path)
        assert spans[0][1] == 1, what
        for (_, _, end), (_, start, _) in zip(spans, spans[1:], strict=False):
            assert start == end + 1, what


def test_what_is_recorded_can_be_printed(store: Store, root: Path) -> None:
    (root / "odd.py").write_bytes(ODD["surrogates in strings"][0])
    (root / "odder.py").write_bytes(ODD["surrogates in annotations"][0])
    record(store, root)
    json.dumps([s.to_dict() for s in Symbol.select()], ensure_ascii=False).encode()


# -- nesting -------------------------------------------------------------------------------------------------

DEEP = {
    "parentheses": "x = " + "(" * 10_000 + ")" * 10_000 + "\n",
    "calls": "x = " + "f(" * 10_000 + ")" * 10_000 + "\n",
    "lists": "x = " + "[" * 10_000 + "]" * 10_000 + "\n",
    "dicts": "x = " + "{1: " * 10_000 + "1" + "}" * 10_000 + "\n",
    "subscripts": "x = y" + "[0]" * 10_000 + "\n",
    "unary minus": "x = " + "-" * 10_000 + "1\n",
    "unary not": "x = " + "not " * 10_000 + "1\n",
    "attributes": "x = y" + ".a" * 10_000 + "\n",
    "attribute calls": "y" + ".a()" * 10_000 + "\n",
    "call results": "y" + "()" * 10_000 + "\n",
    "sum": "x = " + " + ".join(["1"] * 5_000) + "\n",
    "sum of calls": "x = " + " + ".join(["f()"] * 10_000) + "\n",
    "power": "x = " + " ** ".join(["1"] * 10_000) + "\n",
    "text": "x = " + " 'a'" * 10_000 + "\n",
    "bool": "x = " + " and ".join(["a"] * 10_000) + "\n",
    "mixed bool": "x = " + " or b and ".join(["a"] * 10_000) + "\n",
    "comparison": "x = " + " < ".join(["a"] * 10_000) + "\n",
    "conditional": "x = " + "1 if a else " * 10_000 + "2\n",
    "elif": "if a == 0:\n    pass\n" + "".join(f"elif a == {n}:\n    f({n})\n" for n in range(10_000)),
    "lambdas": "x = " + "lambda: " * 10_000 + "1\n",
    "await": "async def f():\n    return " + "await " * 10_000 + "x\n",
    "blocks": "".join(" " * n + "if x:\n" for n in range(1_500)) + " " * 1_500 + "pass\n",
    "blocks within limits": "".join(" " * n + "if x:\n" for n in range(90)) + " " * 90 + "f()\n",
    "functions within limits": "".join(" " * n + f"def f{n}():\n" for n in range(90)) + " " * 90 + "f0()\n",
    "classes within limits": "".join(" " * n + f"class C{n}:\n" for n in range(90)) + " " * 90 + "pass\n",
    "decorators": "@d\n" * 10_000 + "def f(): pass\n",
    "targets": "x = " * 10_000 + "1\n",
    "annotation": "x: " + "list[" * 10_000 + "int" + "]" * 10_000 + "\n",
    "annotation in text": "x: '"
    + "list[" * 5_000
    + "int"
    + "]" * 5_000
    + "'\ndef f(a: '"
    + "-" * 20_000
    + "1'): pass\n",
    "unions": "x: " + " | ".join(["int"] * 10_000) + "\n",
    "f-strings": "x = " + "f'{" * 10_000 + "1" + "}'" * 10_000 + "\n",
    "with": "with " + ", ".join(["a"] * 10_000) + ": pass\n",
    "comprehension": "x = [a " + "for a in b " * 10_000 + "]\n",
    "pattern": "match x:\n    case " + "[" * 10_000 + "]" * 10_000 + ": pass\n",
    "starred": "x = [" + "*" * 10_000 + "a]\n",
    "chain of assignments": "a0 = A()\n" + "".join(f"a{n + 1} = a{n}\n" for n in range(3_000)) + "a3000.run()\n",
    "chain of classes": "class C0: pass\n"
    + "".join(f"class C{n + 1}(C{n}): pass\n" for n in range(2_000))
    + "C2000().run()\n",
    "chain of calls": "".join(f"def f{n}(): return f{n + 1}()\n" for n in range(2_000)),
    "chain of types": "".join(f"def f{n}() -> 'type(f{n + 1}())': ...\nx{n} = x{n + 1}\n" for n in range(2_000))
    + "x0.run()\n",
}


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_nesting_stops_a_scan(store: Store, root: Path, jobs: int) -> None:
    deep = DEEP if LONG else dict(list(DEEP.items())[jobs - 1 :: 2])  # by default, half of them each way
    for number, text in enumerate(deep.values()):
        (root / f"deep{number}.py").write_text(text)
    files = record(store, root, jobs=jobs)
    for number, what in enumerate(deep):
        file = files[f"deep{number}.py"]
        assert file.status in ("done", "failed") and bool(file.error) == (file.status == "failed"), what
        assert chunks(file.file_path), what
        assert "within limits" not in what or file.status == "done", f"{what}: {file.error}"
    list(store.symbols.edges())


def test_what_a_chain_means_does_not_depend_on_the_stack_of_the_caller(store: Store, root: Path) -> None:
    """The same tree must give the same graph from a script's top level and from deep inside a program."""
    (root / "chain.py").write_text(DEEP["chain of classes"])
    for n in range(300):
        (root / f"m{n}.py").write_text(f"from m{n + 1} import thing\n" if n < 299 else "def thing(): pass\n")
    (root / "use.py").write_text("from m0 import thing\nthing()\n")
    flat = store.scans.record(root, target="flat", jobs=1)

    def deeper(steps: int) -> Scan:
        return deeper(steps - 1) if steps else store.scans.record(root, target="deep", jobs=1)

    deep = deeper(600)
    assert list(store.symbols.edges(flat)) == list(store.symbols.edges(deep))


def test_what_a_chain_means_does_not_depend_on_earlier_scans(store: Store, root: Path) -> None:
    length = 500
    for n in range(length):
        (root / f"m{n:03}.py").write_text(
            f"from m{n + 1:03} import thing\n" if n < length - 1 else "def thing(): pass\n"
        )
    (root / "a.py").write_text("from m000 import thing\nthing()\n")
    store.scans.record(root, exclude=["m0*.py", "m1*.py", "m2*.py", "a.py"], jobs=1)
    later = store.scans.record(root, jobs=1)
    with Store(":memory:") as other:
        clean = list(other.symbols.edges(other.scans.record(root, jobs=1)))
    assert list(store.symbols.edges(later)) == clean


@pytest.mark.parametrize("length", [100, 600])
def test_a_long_chain_of_re_exports_ends_somewhere(store: Store, root: Path, length: int) -> None:
    for n in range(length):
        (root / f"m{n}.py").write_text(f"from m{n + 1} import thing\n" if n < length - 1 else "def thing(): pass\n")
    (root / "use.py").write_text("from m0 import thing\nthing()\n")
    record(store, root)
    (edge,) = store.symbols.edges(reference_type="call")
    if length == 100:
        assert (edge.resolution, edge.target_file) == ("imported", "m99.py")
    else:
        assert edge.resolution in ("imported", "unresolved")


def test_modules_that_import_each_other_end_somewhere(store: Store, root: Path) -> None:
    (root / "a.py").write_text("from b import *\nfrom b import x as y\nclass A(B): pass\n")
    (root / "b.py").write_text("from a import *\nfrom a import y as x\nclass B(A): pass\nx()\ny()\nB().go()\n")
    (root / "c.py").write_text("from c import c\nfrom c import *\nclass D(D): pass\nc()\nq = q\nq()\n")
    record(store, root)
    found = [cycle.files for cycle in store.symbols.import_cycles()]
    assert found in ([["a.py", "b.py"], ["c.py"]], [["a.py", "b.py"]])
    list(store.symbols.edges())


# -- files that change or vanish meanwhile -------------------------------------------------------------------


class Vandal:
    """An indexer that does something to the tree when it meets the first file."""

    name = "vandal/1"
    endings = (".vandal",)

    def __init__(self, deed: Any) -> None:
        self.deed = deed

    def index(self, content: bytes, *, path: str, module: str) -> Any:
        from scanstore.indexing.facts import FileFacts

        self.deed()
        return FileFacts(line_count=1)


def test_a_file_that_vanishes_between_listing_and_reading_is_skipped(store: Store, root: Path) -> None:
    (root / "a.vandal").write_text("x\n")
    (root / "b.vandal").write_text("x\n")
    (root / "zz.vandal").write_text("x\n")
    files = record(store, root, indexers=[Vandal(lambda: (root / "zz.vandal").unlink(missing_ok=True))])
    assert (files["zz.vandal"].status, files["zz.vandal"].error) == ("skipped", "vanished")
    assert store.scans.summary().skipped_files == [("zz.vandal", "vanished")]


def test_a_file_that_vanishes_before_it_is_hashed_is_skipped(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanstore.snapshots import tree_scan as tree

    (root / "gone.py").write_text("x = 1\n")
    real = tree.fingerprint

    def fingerprint(full: str) -> Any:
        if full.endswith("gone.py"):
            os.unlink(full)
        return real(full)

    monkeypatch.setattr(tree, "fingerprint", fingerprint)
    files = record(store, root)
    assert (files["gone.py"].status, files["gone.py"].error) == ("skipped", "vanished")


def test_a_file_that_vanishes_under_the_workers_is_skipped(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanstore.indexing import pool

    for n in range(6):
        (root / f"f{n}.py").write_text(f"def f{n}(): pass\n")
    real = pool.run

    def run(tasks: Any, jobs: int) -> Any:
        (root / "f3.py").unlink()
        return real(tasks, jobs)

    monkeypatch.setattr(pool, "run", run)
    files = record(store, root, jobs=2)
    assert (files["f3.py"].status, files["f3.py"].error) == ("skipped", "vanished")
    assert {path for path, file in files.items() if file.status == "done"} == {
        "good.py",
        *(f"f{n}.py" for n in (0, 1, 2, 4, 5)),
    }


def test_a_file_that_changes_between_hashing_and_reading_is_recorded_under_what_was_read(
    store: Store, root: Path
) -> None:
    (root / "a.vandal").write_text("x\n")
    (root / "later.py").write_text("def old(): pass\n")
    files = record(store, root, indexers=[Vandal(lambda: (root / "later.py").write_text("def new(): pass\n"))])
    assert symbols("later.py") == ["new"]
    assert files["later.py"].file_hash in (
        hashlib.sha256(b"def new(): pass\n").digest(),
        hashlib.sha256(b"def new(): pass\n").hexdigest(),
    )
    record(store, root)
    assert store.scans.summary().indexed == 1  # the vandal's file, now nobody's; later.py is known as it is


def test_an_indexer_that_raises_costs_its_files_only(store: Store, root: Path) -> None:
    def fail() -> None:
        raise ValueError("I do not like this\nat all")

    def exhaust() -> None:
        raise RecursionError

    (root / "a.vandal").write_text("x\n")
    assert "I do not like this" in str(record(store, root, indexers=[Vandal(fail)])["a.vandal"].error)
    (root / "a.vandal").write_text("y\n")
    assert record(store, root, indexers=[Vandal(exhaust)])["a.vandal"].error == "nested too deeply to be parsed"


def test_an_indexer_that_returns_nonsense_costs_its_files_only(store: Store, root: Path) -> None:
    class Nonsense:
        name, endings = "nonsense/1", (".no",)

        def index(self, content: bytes, *, path: str, module: str) -> Any:
            return None

    (root / "a.no").write_text("x\n")
    assert record(store, root, indexers=[Nonsense()])["a.no"].status == "failed"


# -- names and links -----------------------------------------------------------------------------------------


def test_odd_names_are_recorded(store: Store, root: Path) -> None:
    names = [
        b"with space.py",
        b"new\nline.py",
        b"tab\t.py",
        b"quote'\".py",
        b"caf\xe9.py",
        "größe.py".encode(),
        b"a;b.py",
        b"-rf.py",
        b"%s{}.py",
        b"back\\slash.py",
        b"trailing .py",
        b".hidden.py",
        b"import.py",
        b"1.py",
        b"a.b.py",
    ]
    for name in names:
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(b"def f(): pass\n")
    files = record(store, root)
    assert len(files) == len(names) + 1
    assert all(file.status == "done" for file in files.values())
    for path in files:
        path.encode()  # storable, printable
        assert Symbol.select().where(Symbol.file_path == path).count() == 2
    assert any("caf" in path for path in files)
    record(store, root)
    assert store.scans.summary().indexed == 0


def test_a_root_with_an_odd_name(store: Store, tmp_path: Path) -> None:
    root = os.path.join(os.fsencode(tmp_path), b"odd \n caf\xe9")
    os.mkdir(root)
    with open(os.path.join(root, b"good.py"), "wb") as file:
        file.write(GOOD)
    scan = store.scans.record(os.fsdecode(root), jobs=1)
    assert scan.status == "completed"
    assert len(store.symbols.find("good", symbol_type="function")) == 1
    again = store.scans.record(os.fsdecode(root), jobs=1)
    assert store.scans.get(again).target == store.scans.get(scan).target
    scan.target.encode()


def test_links_are_skipped_with_the_reason(store: Store, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("def outside(): pass\n")
    (root / "folder").mkdir()
    (root / "broken.py").symlink_to("nothing")
    (root / "out.py").symlink_to(tmp_path / "outside.py")
    (root / "inside.py").symlink_to("good.py")
    (root / "loop.py").symlink_to("loop.py")
    (root / "folder/up").symlink_to("..")
    (root / "folder/one").symlink_to("two")
    (root / "folder/two").symlink_to("one")
    files = record(store, root)
    assert {path: file.error for path, file in files.items() if file.status == "skipped"} == {
        "broken.py": "broken link",
        "out.py": "link out of the tree",
        "inside.py": "link",
        "loop.py": "broken link",
        "folder/up": "link",
        "folder/one": "broken link",
        "folder/two": "broken link",
    }
    assert store.symbols.find("outside") == []


def test_pipes_and_sockets_are_not_opened(store: Store, root: Path) -> None:
    os.mkfifo(root / "pipe.py")
    assert record(store, root)["pipe.py"].status == "skipped"


@pytest.mark.skipif(not needs.is_root(), reason="needs root to become somebody else; see the next test")
def test_what_may_not_be_read_is_reported(root: Path, tmp_path: Path) -> None:
    (root / "closed").mkdir()
    (root / "closed/a.py").write_text("x = 1\n")
    (root / "secret.py").write_text("x = 1\n")
    os.chmod(root / "closed", 0)
    os.chmod(root / "secret.py", 0)
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own folders are private
        if folder != Path("/") and not os.stat(folder).st_mode & 0o001:
            os.chmod(folder, 0o711)
    work = tmp_path / "work"
    work.mkdir()
    os.chown(work, 65534, 65534)
    script = f"""
        import json, os, sys
        from scanstore.store import Store
        with Store(":memory:") as store:  # whatever is imported on the way is imported now
            store.scans.record({os.fspath(root / "good.py")!r}, jobs=1)
        os.setgid(65534); os.setuid(65534)
        with Store({os.fspath(work / "scan.db")!r}) as store:
            scan = store.scans.record({os.fspath(root)!r}, jobs=1)
            s = store.scans.summary(scan)
            print(json.dumps([scan.status, sorted(map(list, [*s.skipped_files, *s.failed_files])), s.symbols]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    os.chmod(root / "closed", 0o700)
    if "Permission" in done.stderr and "site-packages" in done.stderr:
        pytest.skip("another user may not read this environment")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "completed",
        [["closed/", "permission denied"], ["secret.py", "permission denied"]],
        2,
    ]


@pytest.mark.skipif(needs.is_root(), reason="root may read everything; see the test before")
def test_what_i_may_not_read_is_reported(store: Store, root: Path) -> None:
    (root / "closed").mkdir()
    (root / "secret.py").write_text("x = 1\n")
    os.chmod(root / "closed", 0)
    os.chmod(root / "secret.py", 0)
    files = record(store, root)
    os.chmod(root / "closed", 0o700)
    assert files["closed/"].error == files["secret.py"].error == "permission denied"


# -- nothing, and too much -----------------------------------------------------------------------------------


def test_an_empty_tree_and_one_without_python(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    scan = store.scans.record(tmp_path / "empty")
    assert scan.status == "completed"
    summary = store.scans.summary(scan)
    assert (summary.files, summary.lines, summary.chunks, summary.symbols, summary.resolutions) == (0, 0, 0, 0, {})
    assert (
        list(store.symbols.edges(scan))
        == store.symbols.import_cycles(scan=scan)
        == store.symbols.find("x", scan=scan)
        == []
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.txt").write_text("one\ntwo\n")
    (tmp_path / "other/b.js").write_text("function f() {}\n")
    (tmp_path / "other/c.bin").write_bytes(b"a\0b")
    (tmp_path / "other/d.md").write_text("")
    scan = store.scans.record(tmp_path / "other")
    summary = store.scans.summary(scan)
    assert (summary.files, summary.lines, summary.chunks, summary.symbols) == (4, 3, 3, 0)
    assert summary.skipped_files == [("c.bin", "binary")]
    assert chunks("a.txt") == [("full_file", 1, 2)] and chunks("d.md") == [("full_file", 1, 1)]
    assert store.check() == []


def test_a_missing_path_is_refused_and_no_scan_is_begun(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        store.scans.record(tmp_path / "nowhere")
    with pytest.raises(InvalidArgument):
        store.scans.record(tmp_path, include=["!"])
    with pytest.raises(InvalidArgument):
        store.scans.record(tmp_path, max_size=-1)
    assert store.scans.list() == []


def test_an_empty_path_is_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((NotFound, InvalidArgument)):
        store.scans.record("")


def test_large_files_are_skipped_unless_asked_for(store: Store, root: Path) -> None:
    (root / "large.py").write_bytes(b"# " + b"x" * 5_000_000 + b"\n")
    assert record(store, root)["large.py"].error == "larger than 5 MB"
    assert record(store, root, max_size=100)["large.py"].error == "larger than 100 bytes"
    assert record(store, root, max_size=None)["large.py"].status == "done"
    assert record(store, root)["large.py"].status == "skipped"


def test_a_hundred_megabytes_are_skipped_or_hashed_in_little_memory(db_path: Path, root: Path) -> None:
    with open(root / "sparse.bin", "wb") as file:
        file.truncate(100_000_000)
    script = f"""
        import resource, sys
        from scanstore.store import Store
        with Store({os.fspath(db_path)!r}) as store:
            store.scans.record({os.fspath(root)!r}, jobs=1)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(store.scans.summary().skipped_files)
            store.scans.record({os.fspath(root)!r}, jobs=1, max_size=None)
            print(store.scans.summary().skipped_files)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    first, second, grown = done.stdout.splitlines()
    assert "larger than 5 MB" in first
    assert "binary" in second
    assert int(grown) < 20_000, f"{grown} kB more for a file that is only hashed"


@pytest.mark.slow
def test_a_hundred_megabytes_of_text_are_recorded_if_asked_for(store: Store, root: Path) -> None:
    with open(root / "log.txt", "wb") as file:
        for _ in range(100):
            file.write(b"0123456789abcde\n" * 62_500)
    files = record(store, root, max_size=None)
    assert files["log.txt"].status == "done"
    assert chunks("log.txt") == [("full_file", 1, 6_250_000)]
    assert store.scans.summary().lines == 6_250_002
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_000_000


def test_one_file_as_the_tree(store: Store, root: Path) -> None:
    scan = store.scans.record(root / "good.py")
    assert [(f.file_path, f.status) for f in ScanFile.select().where(ScanFile.scan == scan)] == [("good.py", "done")]
    (root / "bad.py").write_text("def (")
    scan = store.scans.record(root / "bad.py")
    assert store.scans.summary(scan).failed == 1


# -- ctags ---------------------------------------------------------------------------------------------------


def test_broken_lines_of_ctags_are_reported_and_the_others_used(store: Store, root: Path, tmp_path: Path) -> None:
    (root / "a.c").write_text("int main() {}\n")
    (root / "b").mkdir()
    (root / "b/new.c").write_text("\n" * 6 + "int last() {}\n")
    lines = [
        b'{"_type": "ptag", "name": "JSON_OUTPUT_VERSION", "path": "0.0"}',
        b'{"_type": "tag", "name": "main", "path": "a.c", "line": 1, "kind": "function"}',
        b"not json",
        b"",
        b'{"_type": "tag", "name": "cut", "path": "a.c"',
        b'{"_type": "tag", "path": "a.c", "line": 1, "kind": "function"}',
        b'{"_type": "tag", "name": "x", "path": "a.c", "line": 0, "kind": "function"}',
        b'{"_type": "tag", "name": "x", "path": "a.c", "line": "1", "kind": "function"}',
        b'{"_type": "tag", "name": "x", "path": "../a.c", "line": 1, "kind": "function"}',
        b'{"_type": "tag", "name": "x", "path": "/etc/passwd", "line": 1, "kind": "function"}',
        b"[1, 2]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{" * 2_000_000,
        b'{"_type": "tag", "name": "\\ud800", "path": "a.c", "line": 1, "kind": "variable"}',
        b'{"_type": "tag", "name": "last", "path": "b/new.c", "line": 7, "kind": "function"}',
    ]
    (tmp_path / "tags").write_bytes(b"\n".join(lines))
    scan = store.scans.record(root)
    loaded = store.symbols.load_ctags(scan, tmp_path / "tags")
    store.scans.finish(scan)
    assert loaded.files == 2
    assert {s.name for s in store.symbols.list(scan=scan)} >= {"main", "last"}
    numbers = [number for number, _ in loaded.broken]
    assert set(numbers) >= {3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15}
    assert all(reason for _, reason in loaded.broken)
    assert store.check() == []
    again = store.symbols.load_ctags(scan, tmp_path / "tags")
    assert again.symbols == 0 and store.check() == []
    with pytest.raises(NotFound, match="nowhere"):
        store.symbols.load_ctags(scan, tmp_path / "nowhere")
    (tmp_path / "old").write_text("!_TAG_FILE_FORMAT\t2\nmain\ta.c\t/^int/\n")
    with pytest.raises(InvalidArgument, match="json"):
        store.symbols.load_ctags(scan, tmp_path / "old")
