"""Which target a question is about when a store has several, and which scan the command line says that it asked."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sampling import sampled
from stressing import LONG

from scanstore import AsyncStore, Store
from scanstore.cli import main
from scanstore.errors import Ambiguous, InvalidArgument, NotFound
from scanstore.findings import findings
from scanstore.snapshots import freshness, scans

Run = Callable[..., Result]
OLD = 1_600_000_000


def sarif(rule: str, file: str = "mod.py", tool: str = "tool") -> dict[str, Any]:
    place = {"physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": 1}}}
    result = {"ruleId": rule, "level": "error", "message": {"text": f"found {rule}"}, "locations": [place]}
    return {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": tool}}, "results": [result]}]}


def tree(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mod.py").write_text(f"def {name}():\n    return helper()\n\n\ndef helper():\n    pass\n")
    os.utime(folder / "mod.py", (OLD, OLD))
    return folder


def load(store: Store, folder: Path, report: dict[str, Any], **options: Any) -> Any:
    path = folder / "report.sarif"
    path.write_text(json.dumps(report))
    try:
        return store.sarif.load(path, **options)
    finally:
        path.unlink()


@pytest.fixture
def two(tmp_path: Path, db_path: Path) -> Iterator[Store]:
    """A store with two trees: `a`, and `b`, which was scanned last."""
    with Store(db_path) as store:
        for name in "ab":
            folder = tree(tmp_path / name, f"only_in_{name}")
            store.scans.record(folder)
            load(store, tmp_path, sarif(f"rule_{name}"), target=str(folder), root=str(folder))
        yield store
        assert store.check() == []


@pytest.fixture
def run(two: Store, db_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line on that store, in a folder."""
    monkeypatch.setenv("SCANSTORE_DB", str(db_path))

    def invoke(folder: Path, *args: str, code: int = 0) -> Result:
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(main, args, prog_name="scanstore")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return invoke


# The API

QUESTIONS: dict[str, Callable[..., Any]] = {
    "symbols.find": lambda s, **o: s.symbols.find("helper", **o),
    "symbols.get": lambda s, **o: s.symbols.get("helper", **o),
    "symbols.list": lambda s, **o: s.symbols.list(**o),
    "symbols.references": lambda s, **o: s.symbols.references("helper", **o),
    "symbols.callers": lambda s, **o: s.symbols.callers("helper", **o),
    "symbols.callees": lambda s, **o: s.symbols.callees("helper", **o),
    "symbols.impact": lambda s, **o: s.symbols.impact("helper", **o),
    "symbols.subclasses": lambda s, **o: s.symbols.subclasses("helper", **o),
    "symbols.bases": lambda s, **o: s.symbols.bases("helper", **o),
    "symbols.edges": lambda s, **o: list(s.symbols.edges(**o)),
    "symbols.export": lambda s, **o: list(s.symbols.export("dot", **o)),
    "symbols.export root": lambda s, **o: list(s.symbols.export("dot", root="helper", **o)),
    "symbols.export imports": lambda s, **o: list(s.symbols.export("dot", imports=True, **o)),
    "symbols.imports": lambda s, **o: s.symbols.imports("mod.py", **o),
    "symbols.importers": lambda s, **o: s.symbols.importers("mod.py", **o),
    "symbols.import_cycles": lambda s, **o: s.symbols.import_cycles(**o),
    "symbols.unresolved_imports": lambda s, **o: s.symbols.unresolved_imports(**o),
    "symbols.unreferenced": lambda s, **o: s.symbols.unreferenced(**o),
    "scans.summary": lambda s, **o: s.scans.summary(**o),
    "scans.progress": lambda s, **o: s.scans.progress(**o),
    "scans.analyze": lambda s, **o: s.scans.analyze(**o),
    "scans.pick": lambda s, scan=None, target=None: scans.pick(s.database, scan, target),
    "findings.list": lambda s, **o: s.findings.list(**o),
    "findings.troubles": lambda s, **o: s.findings.troubles(**o),
    "findings.pick": lambda s, scan=None, target=None: findings.pick(s.database, scan, target),
    "report": lambda s, **o: s.report(**o),
    "sarif.dump": lambda s, scan=None, **o: s.sarif.dump(scan, io.BytesIO(), **o),
}


@pytest.mark.parametrize("question", sampled(QUESTIONS.values(), ids=QUESTIONS))
def test_a_question_without_a_target_is_refused_when_there_are_several(
    two: Store, tmp_path: Path, question: Callable[..., Any]
) -> None:
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(Ambiguous) as caught:
        question(two)
    assert caught.value.candidates == names
    assert all(repr(name) in str(caught.value) for name in names) and "target=" in str(caught.value)
    question(two, target=names[0])
    question(two, scan=two.scans.latest(names[0]))
    with pytest.raises(InvalidArgument, match="both given"):
        question(two, scan=two.scans.latest(names[0]), target=names[0])
    with pytest.raises(NotFound):
        question(two, target="nowhere")


def test_a_target_decides_which_tree_answers(two: Store, tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert [s.name for s in two.symbols.find("only_in_a", target=a)] == ["only_in_a"]
    assert two.symbols.find("only_in_b", target=a) == []
    assert two.symbols.get("only_in_b", target=b).name == "only_in_b"
    assert [r.qualified_name for r in two.symbols.callers("mod.helper", target=a)] == ["mod.only_in_a"]
    helper = two.symbols.get("mod.helper", target=b)
    assert two.symbols.get(helper, target=a).id != helper.id == two.symbols.get(helper.id).id
    assert [r.qualified_name for r in two.symbols.callers(helper)] == ["mod.only_in_b"]  # a row has its scan
    assert [row.rule_id for row in two.findings.list(target=a)] == ["rule_a"]
    assert "rule_a" in two.report(target=a, format="json") and "rule_b" not in two.report(target=a, format="json")
    assert {hit.target for hit in two.search("helper")} == {a, b}
    assert {hit.target for hit in two.search("found")} == {a, b}


def test_a_single_target_is_taken(store: Store, tmp_path: Path) -> None:
    assert store.symbols.find("f") == []
    with pytest.raises(NotFound, match="scanstore scan PATH"):
        store.symbols.get("f")
    scan = store.scans.record(tree(tmp_path / "a", "f"))
    assert store.symbols.find("f")[0].scan_id == scan.id == findings.pick(store.database, None).id
    assert store.scans.targets() == [(str(tmp_path / "a"), str(tmp_path / "a"), True, True)]


def test_a_target_without_a_completed_scan_answers_nothing(store: Store, tmp_path: Path) -> None:
    store.scans.add("a")
    store.scans.add("c")
    assert store.symbols.find("f") == []
    with pytest.raises(NotFound, match="scanstore scan PATH"):
        store.symbols.list()
    store.scans.record(tree(tmp_path / "b", "f"))
    assert store.symbols.find("f")
    assert [(each.target, each.completed) for each in store.scans.targets()][-2:] == [("a", False), ("c", False)]
    with pytest.raises(NotFound, match="no completed scan of 'a'"):
        store.symbols.find("f", target="a")


def test_a_target_of_reports_alone_has_no_symbols_to_ask_for(store: Store, tmp_path: Path) -> None:
    scan = store.scans.record(tree(tmp_path / "a", "f"))
    load(store, tmp_path, sarif("r"), target="somewhere")
    assert store.symbols.find("f")[0].scan_id == scan.id
    with pytest.raises(Ambiguous):  # no tool has looked at the tree: this is not a reason to take the other one
        store.findings.list()
    store.scans.remove(scan)
    assert [row.rule_id for row in store.findings.list()] == ["r"] and store.symbols.list() == []


def test_removing_a_target_leaves_the_other_one_alone(two: Store, tmp_path: Path) -> None:
    for scan in two.scans.list(target=str(tmp_path / "b")):
        two.scans.remove(scan)
    assert two.symbols.find("only_in_a") and [row.rule_id for row in two.findings.list()] == ["rule_a"]


def test_the_asynchronous_store_asks_too(two: Store, tmp_path: Path, db_path: Path) -> None:
    import asyncio

    async def ask() -> None:
        async with AsyncStore(db_path) as store:
            with pytest.raises(Ambiguous) as caught:
                await store.symbols.find("helper")
            assert caught.value.candidates == [each.target for each in await store.scans.targets()]
            assert len(await store.symbols.find("helper", target=str(tmp_path / "a"))) == 1

    asyncio.run(ask())


# The command line

COMMANDS = [
    "symbols find helper", "symbols show mod.helper", "symbols refs mod.helper", "symbols unused", "symbols edges",
    "symbols callers mod.helper", "symbols callees mod.helper", "symbols impact mod.helper",
    "symbols subclasses mod.helper", "symbols bases mod.helper", "symbols graph", "symbols graph --root mod.helper",
    "symbols graph --imports --root mod.py", "symbols imports mod.py", "symbols importers mod.py", "symbols cycles",
    "symbols unresolved", "scans show", "findings list", "report", "sarif dump", "search helper",
    "findings search found", "chunks list", "drafts list", "scans analyze",
]  # fmt: skip


@pytest.mark.parametrize("command", sampled(COMMANDS))
def test_a_command_is_about_the_target_of_the_current_folder(run: Run, tmp_path: Path, command: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "a" / "sub").mkdir()
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    words, turn = command.split(), COMMANDS.index(command)
    ways: list[tuple[Path, tuple[str, ...], str]] = [
        (tmp_path / "a" / "sub", (), a), (tmp_path / "b", (), b), (tmp_path / "b", ("--target", a), a),
        (outside, ("--target", "../a"), a), (outside, ("--scan", a), a),
    ]  # fmt: skip
    for folder, options, target in ways if LONG else (ways[turn % 2], ways[2 + turn % 3]):
        said = run(folder, *words, *options)
        assert f" of {target}, 20" in said.stderr, said.stderr
        assert str({a: b, b: a}[target]) not in said.output
    refused = run(outside, *words, code=2)
    assert refused.stdout == "" and "--target" in refused.stderr and a in refused.stderr and b in refused.stderr
    assert run(outside, *words, "--scan", "1", "--target", a, code=2).stderr
    assert "no target 'c'" in run(outside, *words, "--target", "c", code=1).stderr


def test_the_symbol_of_another_tree_is_not_found(run: Run, two: Store, tmp_path: Path) -> None:
    said = run(tmp_path / "a", "symbols", "find", "only_in_b", code=1)
    assert said.stdout == "" and "no symbol 'only_in_b' in scan" in said.stderr
    assert "only_in_a" in run(tmp_path / "a", "symbols", "find", "only_in_a").stdout
    found = json.loads(run(tmp_path / "b", "symbols", "find", "only_in_b", "--json").stdout)
    assert run(tmp_path, "symbols", "show", str(found[0]["id"])).stdout.startswith("def mod.only_in_b()")


@pytest.mark.parametrize("group", ["symbols", "scans", "findings"])
def test_a_diff_compares_scans_of_one_target(run: Run, two: Store, tmp_path: Path, group: str) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        two.scans.record(folder)
        load(two, tmp_path, sarif("other"), target=str(folder), root=str(folder))
    assert "2 targets" in run(tmp_path, group, "diff", code=2).stderr
    for folder, options in ((a, ()), (tmp_path, ("--target", "a"))):
        said = run(folder, group, "diff", *options, "--json")
        ends = re.findall(r"from scan (\d+) to scan (\d+)", said.stderr)[0]
        assert {two.scans.get(int(end)).target for end in ends} == {str(a)}
        assert said.stderr.count(f" of {a}, 20") == 2
    assert "leave out" in run(tmp_path, group, "diff", "1", "--target", "a", code=2).stderr


def test_all_targets_are_searched_when_asked_for(run: Run, two: Store, tmp_path: Path) -> None:
    said = run(tmp_path, "search", "helper", "--all").stdout
    assert str(tmp_path / "a") in said and str(tmp_path / "b") in said
    assert "leave out" in run(tmp_path, "search", "helper", "--all", "--target", "a", code=2).stderr


def test_a_suppressed_rule_is_one_of_the_target_of_the_folder(run: Run, two: Store, tmp_path: Path) -> None:
    words = ("findings", "suppress", "--rule", "rule_a", "-r", "known", "--by", "me")
    run(tmp_path, *words, code=2)
    run(tmp_path / "a", *words)
    assert len(two.findings.suppressions(str(tmp_path / "a"))) == 1


def test_the_innermost_root_counts(run: Run, two: Store, tmp_path: Path) -> None:
    inner = tree(tmp_path / "a" / "inner", "only_inside")
    two.scans.record(inner)
    assert "only_inside" in run(inner, "symbols", "find", "only_inside").stdout
    run(inner, "symbols", "find", "only_in_a", code=1)
    assert "only_in_a" in run(tmp_path / "a", "symbols", "find", "only_in_a").stdout
    (tmp_path / "ab").mkdir()  # begins like a, and is another folder
    run(tmp_path / "ab", "symbols", "find", "only_in_a", code=2)


def test_two_targets_of_one_folder_have_to_be_told_apart(run: Run, two: Store, tmp_path: Path) -> None:
    two.scans.record(tmp_path / "a", target="again")
    said = run(tmp_path / "a", "symbols", "find", "only_in_a", code=2)
    assert "again" in said.stderr and str(tmp_path / "a") in said.stderr and str(tmp_path / "b") not in said.stderr
    assert " of again, " in run(tmp_path / "a", "symbols", "find", "only_in_a", "--target", "again").stderr


def test_a_folder_with_a_tree_and_reports_of_another_name(run: Run, two: Store, tmp_path: Path) -> None:
    load(two, tmp_path, sarif("r"), target="repository", root=str(tmp_path / "a"))
    assert "only_in_a" in run(tmp_path / "a", "symbols", "find", "only_in_a").stdout
    assert "repository" in run(tmp_path / "a", "findings", "list", code=2).stderr


def test_reports_without_a_root_belong_to_the_folder_that_they_are_named_after(
    run: Run, two: Store, tmp_path: Path
) -> None:
    (tmp_path / "c").mkdir()
    load(two, tmp_path, sarif("rule_c"), target=str(tmp_path / "c"))
    load(two, tmp_path, sarif("rule_d"), target="d")
    said = run(tmp_path / "c", "findings", "list")
    assert "rule_c" in said.stdout and "rule_a" not in said.stdout
    run(tmp_path / "c", "symbols", "find", "only_in_a", code=1)  # nothing is known of the symbols of c


def test_links_lead_to_the_real_folder(run: Run, two: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert "only_in_a" in run(tmp_path / "link", "symbols", "find", "only_in_a").stdout
    (tmp_path / "b").rename(tmp_path / "moved")
    (tmp_path / "b").symlink_to(tmp_path / "moved")  # the recorded root is a link now
    assert "only_in_b" in run(tmp_path / "moved", "symbols", "find", "only_in_b").stdout


def test_a_moved_tree_is_asked_for(run: Run, two: Store, tmp_path: Path) -> None:
    (tmp_path / "a").rename(tmp_path / "c")
    assert "--target" in run(tmp_path / "c", "symbols", "find", "only_in_a", code=2).stderr
    said = run(tmp_path / "c", "symbols", "find", "only_in_a", "--target", str(tmp_path / "a"))
    assert "its folder is not here" in said.stderr


def test_a_relative_root_contains_no_folder(run: Run, two: Store, tmp_path: Path) -> None:
    two.scans.finish(two.scans.add("custom", root="."))
    assert "--target" in run(tmp_path, "symbols", "find", "x", code=2).stderr


def test_a_tree_without_a_completed_scan_is_not_answered_from_another_one(run: Run, two: Store, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    two.scans.add(str(tmp_path / "c"), root=tmp_path / "c")
    assert "no completed scan of" in run(tmp_path / "c", "symbols", "find", "only_in_b", code=1).stderr


def test_the_current_folder_may_be_gone(run: Run, two: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for args, code in ((("--target", str(tmp_path / "a")), 0), (("--scan", "1", "--file", "mod.py"), 0), ((), 2)):
        said = CliRunner().invoke(main, ["symbols", "find", "only_in_a", *args])
        assert (said.exit_code, bool(said.stdout)) == (code, code == 0), said.output
    said = CliRunner().invoke(main, ["symbols", "find", "only_in_a", "--target", "elsewhere"])
    assert said.exit_code == 1 and "the current folder was deleted" in said.stderr


def test_the_root_of_the_latest_scan_is_that_of_a_target(run: Run, two: Store, tmp_path: Path) -> None:
    two.scans.record(tree(tmp_path / "one", "f"), target="t")
    two.scans.record(tree(tmp_path / "two", "g"), target="t")
    assert "def" not in run(tmp_path / "one", "symbols", "find", "g", code=2).stdout
    assert "mod.g" in run(tmp_path / "two", "symbols", "find", "g").stdout


# How many files have changed since


def said_of(run: Run, folder: Path) -> str:
    line = str(json.loads(run(folder, "scans", "show", "--json").stderr)["note"])
    return line.partition("UTC; ")[2]


def test_changed_files_are_counted_on_stderr(run: Run, two: Store, tmp_path: Path) -> None:
    a = tmp_path / "a"
    assert said_of(run, a) == "no file has changed since"
    (a / "mod.py").write_text("")
    os.utime(a / "mod.py", (OLD, OLD))
    assert said_of(run, a) == "1 file has changed since"  # by its size
    (a / "new.py").write_text("")
    (a / "node_modules").mkdir()
    (a / "node_modules" / "x.js").write_text("")  # no scan looks there
    assert said_of(run, a) == "2 files have changed since"
    (a / "mod.py").unlink()
    assert said_of(run, a) == "2 files have changed since"


def test_a_file_of_the_same_size_counts_by_its_time(run: Run, two: Store, tmp_path: Path) -> None:
    path = tmp_path / "a" / "mod.py"
    path.write_text(path.read_text(encoding="utf-8").replace("helper", "leaper"))
    later = path.stat().st_mtime + 3600
    os.utime(path, (later, later))
    assert said_of(run, tmp_path / "a") == "1 file has changed since"


def test_what_the_scan_skipped_and_the_store_itself_are_no_changes(run: Run, tmp_path: Path, db_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "blob.bin").write_bytes(b"\0\0")
    (folder / "big.txt").write_text("x" * 100)
    (folder / "bad.py").write_text("x = (\n")
    (folder / "link").symlink_to("big.txt")
    for path in folder.iterdir():
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    inside = folder / "scan.db"
    assert run(folder, "scan", ".", "--max-size", "50", "--db", str(inside)).exit_code == 0
    said = run(folder, "scans", "show", "--db", str(inside)).stderr
    assert said.endswith("; no file has changed since\n")


def test_the_ctags_file_of_a_scan_is_no_change(run: Run, tmp_path: Path) -> None:
    folder = tree(tmp_path / "c", "f")
    (folder / "main.go").write_text("package main\n\nfunc run() {}\n")
    tag = {"_type": "tag", "name": "run", "path": "main.go", "line": 3, "kind": "func", "language": "Go"}
    (folder / "tags.json").write_text(json.dumps(tag) + "\n")
    run(folder, "scan", ".", "--ctags", "tags.json")
    assert said_of(run, folder) == "no file has changed since"


def test_counting_ends_somewhere(run: Run, two: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = tmp_path / "a"
    for number in range(5):
        (a / f"new{number}.py").write_text("")
    monkeypatch.setattr(freshness, "MOST", 3)
    assert said_of(run, a) == "at least 3 files have changed since"
    monkeypatch.setattr(freshness, "MOST", 100)
    monkeypatch.setattr(freshness, "COMPARED", 1)
    assert said_of(run, a) == "not all of its files were compared with it"
    monkeypatch.setattr(freshness, "COMPARED", 100)
    (a / "sub").mkdir()
    monkeypatch.setattr(freshness, "SECONDS", -1.0)
    assert said_of(run, a) == "not all of its files were compared with it"


def test_the_files_of_a_parser_and_of_reports_are_compared_alone(run: Run, two: Store, tmp_path: Path) -> None:
    folder = tree(tmp_path / "c", "f")
    (folder / "other.py").write_text("")
    scan = two.scans.add("custom", root=folder)
    two.symbols.record_file(scan, "mod.py", "ab" * 16)
    two.scans.finish(scan)
    assert said_of(run, folder) == "no file has changed since"
    (folder / "mod.py").unlink()
    assert said_of(run, folder) == "1 file has changed since"


def test_a_single_file_is_compared(run: Run, two: Store, tmp_path: Path) -> None:
    two.scans.record(tmp_path / "a" / "mod.py", target="one")
    show = ("scans", "show", "--target", "one")
    assert run(tmp_path, *show).stderr.endswith("; no file has changed since\n")
    (tmp_path / "a" / "mod.py").write_text("x = 1\n")
    assert run(tmp_path, *show).stderr.endswith("; 1 file has changed since\n")


def test_the_remark_is_no_part_of_the_data(run: Run, two: Store, tmp_path: Path) -> None:
    for words in ("symbols find helper --json", "report --json", "sarif dump", "symbols graph", "findings list --json"):
        said = run(tmp_path / "a", *words.split())
        assert "UTC" in said.stderr and " UTC" not in said.stdout
        if "graph" not in words:
            json.loads(said.stdout)


def test_the_next_command_that_a_scan_names_works_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCANSTORE_DB", "s.db")
    for number, name in enumerate("ab", 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.py").write_text(f"def of_{name}():\n    pass\n")
        told = CliRunner().invoke(main, ["scan", name], prog_name="scanstore").stdout
        words = told.splitlines()[-1].partition("next: scanstore ")[2].replace("NAME", f"of_{name}").split()
        assert words[2:] == [f"of_{name}", *(["--scan", "2"] if number == 2 else [])]
        assert f"m.of_{name}" in CliRunner().invoke(main, words, prog_name="scanstore").stdout
