"""Trees of other languages: what is recorded of each, and that no answer claims absence that was not looked for."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scanstore import NotFound, Store
from scanstore.cli import main
from scanstore.indexing.languages import ENDINGS, Language, gap, language_of

GO = {
    "command.go": """\
package cobra

import "os"

type Command struct {
	Use string
}

func (c *Command) Execute() error {
	return run(os.Args)
}

func run(args []string) error {
	return nil
}
""",
    "main.go": 'package cobra\n\nfunc main() {\n\tc := Command{Use: "x"}\n\tc.Execute()\n}\n',
}
TYPESCRIPT = {
    "src/app.ts": 'import { greet } from "./greet";\n\nexport class App {\n  start(): void {\n    greet();\n  }\n}\n',
    "src/greet.ts": "export function greet(): void {\n  console.log(1);\n}\n",
}
JAVA = {
    "shop/Main.java": "package shop;\n\nimport java.util.List;\n\nclass Main extends Base {\n    void go() {\n"
    "        help();\n    }\n\n    void help() {\n    }\n}\n",
    "shop/Base.java": "package shop;\n\nclass Base {\n}\n",
}
PYTHON = {"tool.py": "def used():\n    pass\n\n\ndef lonely():\n    used()\n"}
SYMBOLS = {
    "Go": ("command.go", "cobra.Command.Execute", "method"),
    "TypeScript": ("src/greet.ts", "greet", "function"),
    "Java": ("shop/Base.java", "Base", "class"),
}
TREES = {"Go": GO, "TypeScript": TYPESCRIPT, "Java": JAVA}

Run = Callable[..., Result]


def plant(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def tags(language: str, place: Path) -> Path:
    """One symbol of the language, as ctags writes it."""
    path, qualified, kind = SYMBOLS[language]
    scope, _, name = qualified.rpartition(".")
    tag = {"_type": "tag", "name": name, "path": path, "line": 1, "end": 2, "kind": kind, "scope": scope}
    place.write_text(json.dumps(tag) + "\n")
    return place


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(*args: str, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, args, prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield invoke
    for path in tmp_path.glob("*.db"):
        with Store(path) as store:
            assert store.check() == []


def row(store: Store, language: str) -> Language:
    (found,) = [each for each in store.symbols.coverage() if each.language == language]
    return found


# -- which language -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a.go", "Go"), ("a/b.TS", "TypeScript"), ("x.tsx", "TypeScript"), ("X.java", "Java"), ("a.b/c.py", "Python"),
        ("Makefile", "other"), ("go", "other"), ("a.go/README", "other"), ("x.unknown", "other"),
        ("notes.txt", "other"),
        ("x.c", "C"), ("x.cpp", "C++"), (".go", "Go"),
    ],
)  # fmt: skip
def test_the_ending_tells_the_language(path: str, language: str) -> None:
    assert language_of(path) == language


def test_the_endings_are_as_they_are_looked_up() -> None:
    assert all(ending == ending.lower() and "." not in ending for ending in ENDINGS)


# -- coverage -------------------------------------------------------------------------------------------------


def test_coverage_says_what_was_looked_for(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {**GO, **TYPESCRIPT, **PYTHON, "notes.txt": "x\n", "bad.py": "def ("})
    (root / "big.py").write_text("#" * 3000)
    (root / "blob.bin").write_bytes(b"\0")
    scan = store.scans.record(root, ctags=tags("Go", tmp_path / "tags"), max_size=2000)
    found = store.symbols.coverage(scan=scan)
    assert [each.language for each in found] == ["Python", "Go", "TypeScript", "other"]
    assert row(store, "Python") == Language("Python", 3, 1, 1, 1, 3, 1, 0, ("symbols", "references", "imports"))
    assert row(store, "Go") == Language("Go", 2, 1, 0, 0, 1, 0, 0, ("symbols",))
    assert row(store, "TypeScript") == Language("TypeScript", 2, 0, 0, 0, 0, 0, 0, ())
    assert row(store, "other") == Language("other", 2, 0, 0, 1, 0, 0, 0, ())
    summary = store.scans.summary(scan)
    assert summary.languages == found
    assert (summary.symbols, summary.references, summary.imports) == (4, 1, 0)


def test_an_indexer_of_one_s_own_counts_for_what_it_records(store: Store) -> None:
    scan = store.scans.add("own")
    store.symbols.record_file(scan, "a.lua", "1", symbols=[{"name": "f"}])
    store.scans.finish(scan)
    assert row(store, "Lua").recorded == ("symbols",)
    assert store.symbols.unreferenced() == []
    store.symbols.record_file(
        scan, "b.lua", "2", symbols=[{"name": "g"}], references=[{"name": "g", "line": 1, "target": "g"}]
    )
    store.scans.finish(scan)
    assert row(store, "Lua").recorded == ("symbols", "references")
    assert [symbol.name for symbol in store.symbols.unreferenced()] == ["f"]


def test_python_without_any_reference_was_looked_at(store: Store, tmp_path: Path) -> None:
    store.scans.record(plant(tmp_path / "t", {"a.py": "def f():\n    pass\n"}))
    assert not row(store, "Python").lacks("references")
    assert gap(store.symbols.coverage(), "references") == ([], False, "")
    assert [symbol.name for symbol in store.symbols.unreferenced()] == ["f"]


def test_files_of_no_known_language_expect_no_references(store: Store, tmp_path: Path) -> None:
    store.scans.record(plant(tmp_path / "t", {**PYTHON, "README": "x\n"}))
    assert gap(store.symbols.coverage(), "references").text == ""
    assert "unknown languages" in gap(store.symbols.coverage(), "references", only="other").text


ASKED = ("unused", "cycles", "unresolved", "edges", "graph", "unused --json", "edges --json")


@pytest.mark.parametrize(
    ("files", "options", "why"),
    [
        ({}, (), "it has no files"),
        ({"a.py": "def f():\n    pass\n"}, ("--exclude", "*.py"), "it has no files"),
        ({"a.py": "def f(:\n"}, (), "1 with errors"),
        ({"a.py": "def f():\n    pass\n"}, ("--max-size", "2"), "1 skipped"),
        ({"README": "hello\n"}, (), "files of unknown languages"),
    ],
)
def test_nothing_is_answered_where_no_file_was_looked_at(
    run: Run, tmp_path: Path, files: dict[str, str], options: tuple[str, ...], why: str
) -> None:
    (tmp_path / "t").mkdir()
    plant(tmp_path / "t", files)
    run("scan", "t", *options)
    for words in ASKED:
        assert why in run("symbols", *words.split(), code=1).stderr, words
    assert why in run("symbols", "find", "f", code=1).stderr
    assert why in run("search", "absent").stderr
    assert "no tool has looked" in run("findings", "search", "f").stderr
    assert "no findings in the examined files" in run("report").stdout


def test_files_that_were_not_looked_at_are_told_beside_what_was_found(run: Run, tmp_path: Path) -> None:
    plant(tmp_path / "t", {"a.py": "def f():\n    pass\n", "b.py": "from a import f\nf(\n"})
    run("scan", "t")
    done = run("symbols", "unused")
    assert "a.f" in done.stdout and "1 file of the scan was not read" in done.stderr


def test_a_tree_that_was_not_recorded_whole_answers_for_what_is_there_only(run: Run, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {"a.py": "def f():\n    pass\n"})
    run("scan", "t")
    with Store("scanstore.db") as store:
        half = store.scans.add(str(root), root=root)
        store.symbols.record_file(half, "b.py", "1", symbols=[{"name": "g"}])
        store.scans.cancel(half)
    part = "scan 2 is cancelled, and not all of its tree was recorded"
    for words in ASKED:
        assert part in run("symbols", *words.split(), "--scan", "2", code=1).stderr, words
    assert part in run("symbols", "find", "f", "--scan", "2", code=1).stderr
    assert "it is cancelled, and not all" in run("symbols", "find", "g", "--scan", "2").stderr
    done = run("symbols", "find", "f")
    assert "scan 1 of" in done.stderr and "; scan 2 after it is cancelled, and not all" in done.stderr


def test_what_is_not_there_to_be_asked_about_is_no_empty_answer(run: Run, tmp_path: Path) -> None:
    plant(tmp_path / "t", {"a.py": "def f():\n    pass\n"})
    run("scan", "t")
    for words in ("symbols find f", "chunks list", "drafts list", "chunks list --json", "drafts list --json"):
        assert "has no file 'nope.py'" in run(*words.split(), "--file", "nope.py", code=1).stderr
    assert "there is no target 'nope'" in run("scans", "list", "--target", "nope", code=1).stderr
    report = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "T"}}, "results": []}]}
    run("sarif", "load", "-", "--target", "t", input=json.dumps(report))
    assert "is of reports and has no symbols" in run("symbols", "diff", "1", "2", code=1).stderr
    assert "compare two of a kind" in run("scans", "diff", "1", "2", code=1).stderr


def test_unused_leaves_out_what_nobody_could_know(store: Store, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {**GO, **PYTHON, "broken.py": "def ("})
    both = tmp_path / "tags"
    tags("Go", both)
    broken = {"_type": "tag", "name": "half", "path": "broken.py", "line": 1, "kind": "function"}
    both.write_text(both.read_text() + json.dumps(broken) + "\n")
    store.scans.record(root, ctags=both)
    assert {symbol.name for symbol in store.symbols.list()} >= {"Execute", "half"}
    assert [symbol.qualified_name for symbol in store.symbols.unreferenced()] == ["tool.lonely"]


def test_an_unknown_symbol_may_be_in_a_file_that_was_not_indexed(store: Store, tmp_path: Path) -> None:
    store.scans.record(plant(tmp_path / "t", {**GO, "bad.py": "def ("}))
    with pytest.raises(
        NotFound, match=r"no symbols are recorded for Go \(2 files\) .*--ctags.* 1 file .* not read"
    ):
        store.symbols.callers("Execute")


# -- the command line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", TREES)
def test_a_tree_without_an_indexer(run: Run, tmp_path: Path, language: str) -> None:
    plant(tmp_path / "t", TREES[language])
    told = run("scan", "t").stdout
    assert told.partition("languages:\n")[2].splitlines()[0] == f"  {language}  2 files  not indexed: try --ctags"
    (listed,) = json.loads(run("scan", "t", "--json").stdout)["summary"]["languages"]
    assert (listed["language"], listed["files"], listed["recorded"]) == (language, 2, [])
    path, qualified, _ = SYMBOLS[language]
    none = f"no symbols are recorded for {language} (2 files)"
    for command in ("find", "callers", "callees", "refs", "impact", "subclasses", "show"):
        assert none in run("symbols", command, qualified, code=1).stderr
    for command in ("diff", ["search", "x"]):
        words = ["symbols", command] if isinstance(command, str) else command
        assert none in run(*words, code=0 if words[0] == "search" else 1).stderr
    for command in ("imports", "importers"):
        assert (
            f"no imports are recorded for {language} (2 files)" in run("symbols", command, f"t/{path}", code=1).stderr
        )
    for command, kind in (("unused", "references"), ("edges", "references"), ("graph", "references"),
                          ("cycles", "imports"), ("unresolved", "imports")):  # fmt: skip
        assert f"no {kind} are recorded for {language} (2 files)" in run("symbols", command, code=1).stderr
    assert "no imports are recorded" in run("symbols", "graph", "--imports", code=1).stderr


@pytest.mark.parametrize("language", TREES)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_tree_with_tags_has_symbols_and_nothing_else(run: Run, tmp_path: Path, language: str, as_json: bool) -> None:
    plant(tmp_path / "t", TREES[language])
    tags(language, tmp_path / "tags")
    told = run("scan", "t", "--ctags", "tags").stdout
    assert f"{language}  2 files  1 symbol, no references recorded" in told
    option = ["--json"] if as_json else []
    qualified = SYMBOLS[language][1]
    for command in ("callers", "callees", "refs", "impact", "subclasses", "bases"):
        result = run("symbols", command, qualified, *option, code=1)
        assert f"no references are recorded for {language} (2 files)" in result.stderr
        assert "nothing that was found" not in result.output
        assert result.stdout == ("[]\n" if as_json else "")
    result = run("symbols", "unused", *option, code=1)
    assert "no references are recorded" in result.stderr and result.stdout == ("[]\n" if as_json else "")
    assert "unknown: no references" in run("symbols", "show", qualified).stdout
    result = run("symbols", "graph", "--root", qualified, code=1)
    assert "no references are recorded" in result.stderr


def test_a_mixed_tree_answers_in_the_language_that_was_asked_about(run: Run, tmp_path: Path) -> None:
    plant(tmp_path / "t", {**GO, **PYTHON})
    tags("Go", tmp_path / "tags")
    run("scan", "t", "--ctags", "tags")
    assert run("symbols", "callers", "lonely").stderr.endswith("nothing that was found calls tool.lonely\n")
    assert run("symbols", "imports", "t/tool.py").stderr.endswith("t/tool.py imports nothing\n")
    assert "recorded for Go" in run("symbols", "callers", "cobra.Command.Execute", code=1).stderr
    unused = run("symbols", "unused")
    assert "tool.lonely" in unused.stdout and "Execute" not in unused.stdout
    assert "not included: no references are recorded for Go (2 files)" in unused.stderr
    cycles = run("symbols", "cycles").stderr
    assert "\nno files of scan 1 import each other; no imports are recorded for Go (2 files)" in cycles


def test_an_empty_answer_counts_the_files_that_were_not_looked_at(run: Run, tmp_path: Path) -> None:
    root = plant(tmp_path / "t", {**PYTHON, "bad.py": "def (", "big.py": "#" * 3000})
    (root / "blob.bin").write_bytes(b"\0")
    run("scan", "t", "--max-size", "2000")
    unseen = "3 files of the scan were not read: 1 with errors, 2 skipped"
    assert run("symbols", "callers", "lonely").stderr.endswith(f"nothing that was found calls tool.lonely; {unseen}\n")
    for words in (["callees", "tool.used"], ["refs", "lonely"], ["impact", "lonely"], ["cycles"], ["unresolved"],
                  ["importers", "t/tool.py"], ["subclasses", "lonely"]):  # fmt: skip
        assert unseen in run("symbols", *words).stderr
    assert unseen in run("symbols", "find", "nowhere", code=1).stderr
    assert unseen in run("symbols", "show", "lonely").stdout
    assert unseen in run("search", "nowhere").stderr
    assert "big.py was not read in scan 1: larger than" in run("symbols", "imports", "t/big.py", code=1).stderr
    assert "bad.py was not read in scan 1: syntax error" in run("symbols", "imports", "t/bad.py", code=1).stderr


# -- ctags itself ---------------------------------------------------------------------------------------------


def real_ctags() -> bool:
    program = shutil.which("ctags")
    if program is None:
        return False
    return "json" in subprocess.run([program, "--list-features"], capture_output=True, text=True).stdout


COMMAND = [
    "ctags",
    "--options=NONE",
    "-R",
    "--links=no",
    "--output-format=json",
    "--fields=*",
    "--extras=+p",
    "-f",
    "-",
    ".",
]


@pytest.mark.skipif(not real_ctags(), reason="universal-ctags with JSON output is not installed")
def test_the_command_of_the_documentation_again_and_again(run: Run, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scanning.md").read_text(encoding="utf-8")
    assert " ".join(COMMAND).replace("--fields=*", "--fields='*'") + " | scanstore scan . --ctags -" in page
    plant(tmp_path / "outside", {"far.go": "package far\n\nfunc Far() {\n}\n"})
    root = plant(tmp_path / "t", {**GO, **TYPESCRIPT, **JAVA})
    (root / "link.go").symlink_to("main.go")
    (root / "far").symlink_to(tmp_path / "outside")

    def scan() -> str:
        made = subprocess.run(COMMAND, cwd=root, capture_output=True, check=True)
        return run("scan", "t", "--ctags", "-", input=made.stdout).stdout

    assert "cobra" not in scan().partition("languages:")[0]
    before = sorted(path.name for path in root.iterdir())
    scan()
    assert "no symbol changed" in run("symbols", "diff").stderr
    assert sorted(path.name for path in root.iterdir()) == before
    for name, old, new in (("command.go", "return nil", "return err"), ("src/greet.ts", "log(1)", "log(2)"),
                           ("shop/Main.java", "help();", "help(); help();")):  # fmt: skip
        (root / name).write_text((root / name).read_text().replace(old, new, 1))
    scan()
    changed = run("symbols", "diff").stdout
    for qualified in ("cobra.run", "greet", "Main.go"):
        assert f"\t{qualified}\t" in changed
    assert "cobra.main" not in changed and "Base" not in changed
    with Store("scanstore.db") as store:
        files = {symbol.file_path for symbol in store.symbols.list()}
    assert files == {*GO, *TYPESCRIPT, *JAVA}
