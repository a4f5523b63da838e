"""The command line, command by command: what it prints for people and for programs, and how it ends."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from scanstore import Store, __version__
from scanstore.cli import main
from scanstore.cli.groups import Root
from scanstore.cli.output import aligned, count, plain_text, size

TREE = {
    "pkg/__init__.py": "from .core import parse\n",
    "pkg/core.py": '''\
class Base:
    def run(self):
        return parse("x")


class Child(Base):
    """A child."""


def helper(text):
    return text


@decorated
def parse(text: str, /, *rest, strict=False, depth: int = 1, **more) -> int:
    """Parse a text.

    Twice.
    """
    return helper(text)
''',
    "pkg/user.py": "from pkg.core import parse\nfrom pkg.gone import x\n\n\ndef use():\n    return parse(1)\n",
    "pkg/left.py": "import pkg.right\n\n\ndef lonely():\n    pass\n\n\ndef run():\n    pass\n",
    "pkg/right.py": "import pkg.left\n",
    "pkg/bad.py": "x = (\n",
    "notes.txt": "hello\n",
    "blob.bin": "\0\0\0",
}

Run = Callable[..., Result]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line in an empty folder, as a new user would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(*args: str, code: int | None = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, args, prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if code is not None:
            assert result.exit_code == code, result.output
        return result

    yield invoke
    for path in tmp_path.glob("*.db"):
        with Store(path) as store:
            assert store.check() == []


@pytest.fixture
def scanned(run: Run, tmp_path: Path) -> Run:
    """The same, after `scanstore scan src`."""
    write(tmp_path / "src", TREE)
    run("scan", "src")
    return run


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def said(result: Result) -> str:
    """What was said on stderr, but for which scan was asked (see test_targets.py)."""
    return re.sub(r"(?m)^(\{\"note\": \")?scan \d+ of .*, [-\d]+ [:\d]+ UTC.*\n", "", result.stderr)


def one_line(result: Result) -> str:
    assert said(result).count("\n") == 1, result.stderr
    assert "Traceback" not in result.output
    return said(result).strip()


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


# Help


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_help_says_what_it_does_and_gives_an_example(run: Run, path: tuple[str, ...]) -> None:
    text = run(*path, "--help").stdout
    assert "Example:\n" in text
    assert f"  scanstore {' '.join(path)}" in text.partition("Example:")[2]
    assert "--db" in text or path[0] == "completion"
    assert "--json" in text or path == ("completion", "show")
    assert max(map(len, text.splitlines())) <= 120


def test_examples_use_options_that_exist() -> None:
    for path, command in commands():
        known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
        lines = [line for line in (command.help or "").splitlines() if line.strip().startswith("scanstore ")]
        for word in " ".join(lines).split():
            if word.startswith("--"):
                assert word in known, (path, word)


def test_root_help_names_every_command_and_the_completion(run: Run) -> None:
    text = run("--help").stdout
    for name in main.commands:
        assert f"\n  {name} " in text
    assert "scanstore completion install" in text
    assert "..." not in text.partition("Scan and ask:")[2].partition("Start here")[0]  # no summary is cut off
    assert isinstance(main, Root)
    assert sorted(name for names in main.sections.values() for name in names) == sorted(main.commands)


def test_every_command_is_there() -> None:
    wanted = {
        "scan": (), "search": (), "report": (), "check": (), "stats": (), "init": (), "recover": (),
        "prune": (), "rekey": (),
        "backup": (), "restore": (), "vacuum": (), "optimize": (), "repair": (),
        "seed": (), "health": (), "drop": (), "dump": (), "load": (), "merge": (),
        "plans": ("create", "list", "show", "preview", "review", "apply", "retry", "revert", "submit", "cancel",
                  "remove", "changes"),
        "library": ("sync", "list", "stats"),
        "jobs": ("add", "list", "show", "cancel", "retry", "work", "prune"),
        "schedules": ("add", "list", "run-due", "enable", "disable", "remove"),
        "settings": ("get", "set", "list", "unset"),
        "config": ("show",),
        "users": ("add", "list", "passwd", "deactivate", "activate", "remove"),
        "prompts": ("list", "show", "save", "restore", "default"),
        "sessions": ("list", "show", "files", "tasks", "results", "remove"),
        "completion": ("install", "show", "remove"),
        "audits": ("list", "show", "review", "trail"),
        "migrate": ("status", "up", "down"),
        "scans": ("list", "show", "diff", "remove", "analyze", "progress", "pause", "resume", "cancel", "rerun",
                  "risk"),
        "chunks": ("state", "list", "retry"), "drafts": ("list", "show"),
        "findings": ("list", "show", "triage", "comment", "history", "suppress", "unsuppress", "suppressions",
                     "diff", "search"),
        "sarif": ("load", "dump"), "targets": ("rename",),
        "models": ("add", "list", "show", "update", "remove"), "llm": ("usage",),
        "symbols": ("find", "show", "refs", "callers", "callees", "impact", "subclasses", "bases", "imports",
                    "importers", "cycles", "tests-of", "rename", "unused", "unresolved", "edges", "diff", "graph"),
    }  # fmt: skip
    have = {
        name: tuple(command.commands) if isinstance(command, click.Group) else ()
        for name, command in main.commands.items()
    }
    assert {name: set(verbs) for name, verbs in have.items()} == {name: set(verbs) for name, verbs in wanted.items()}


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"scanstore {__version__}\n"


def test_shell_completion_script(run: Run) -> None:
    assert "_SCANSTORE_COMPLETE" in run(env={"_SCANSTORE_COMPLETE": "bash_source"}).stdout


# Which store


READING = [
    ("check",), ("stats",), ("scans", "list"), ("scans", "show"), ("scans", "diff"), ("scans", "remove", "1"),
    ("symbols", "find", "x"), ("symbols", "show", "x"), ("symbols", "refs", "x"), ("symbols", "callers", "x"),
    ("symbols", "cycles"), ("symbols", "imports", "x"), ("symbols", "edges"), ("symbols", "diff"),
    ("migrate", "status"), ("migrate", "up"), ("migrate", "down"), ("drop", "--yes"), ("settings", "list"),
    ("settings", "get", "x"), ("settings", "unset", "x"), ("schedules", "list"), ("schedules", "run-due"),
    ("schedules", "enable", "x"), ("schedules", "remove", "x"), ("library", "list"), ("library", "stats"),
    ("plans", "list"), ("plans", "show", "1"), ("plans", "apply", "1"), ("jobs", "list"), ("jobs", "show", "x"),
]  # fmt: skip


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_no_store_is_one_line_and_makes_none(run: Run, tmp_path: Path, args: tuple[str, ...]) -> None:
    result = run(*args, code=1)
    assert one_line(result) == "Error: no store at scanstore.db; make one with: scanstore scan PATH"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "args", [("--db", "a.db", "scans", "list"), ("scans", "--db", "a.db", "list"), ("scans", "list", "--db", "a.db")]
)
def test_db_stands_at_any_level(run: Run, args: tuple[str, ...]) -> None:
    assert "no store at a.db" in one_line(run(*args, code=1))
    run("init", "--db", "a.db")
    run(*args)


def test_db_beats_the_environment(run: Run, tmp_path: Path) -> None:
    run("init", env={"SCANSTORE_DB": "env.db"})
    run("init", "--db", "option.db", env={"SCANSTORE_DB": "env2.db"})
    run("--db", "outer.db", "init", "--db", "inner.db")
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["env.db", "inner.db", "option.db"]


def test_bad_stores_are_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 9)
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE t (x)").connection.close()
    for db in ("text", "other.sqlite", ".", "", "missing/a.db"):
        for args in (("init",), ("scan", "."), ("scans", "list")):
            assert one_line(run(*args, "--db", db, code=1 if db else 2)).startswith("Error: ")
    assert one_line(run("scans", "list", "--db", "a\nb\x1b[31m.db", code=1)).startswith(
        r"Error: no store at a\nb\x1b[31m"
    )


def test_init(run: Run, tmp_path: Path) -> None:
    assert data(run("init", "--json")) == {"store": str(tmp_path / "scanstore.db"), "created": True}
    assert run("init").stdout == f"Exists already: {tmp_path / 'scanstore.db'}\n"
    assert data(run("init", "--json"))["created"] is False


def test_an_older_store_is_migrated_and_said_so(scanned: Run) -> None:
    scanned("migrate", "down", "--to", "0")
    result = scanned("scans", "list", "--json")
    assert data(result) == []
    assert "Migrated scanstore.db: 001_snapshot" in one_line(result)
    assert scanned("scans", "list", "--json").stderr == ""


def test_a_read_only_store_is_read(scanned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode, **more: mode != os.W_OK and real(path, mode, **more))
        assert len(data(scanned("scans", "list", "--json"))) == 1
        assert "may not be written" in one_line(scanned("scans", "remove", "1", code=1))
        assert "may not be written" in one_line(scanned("scan", "src", code=1))


# scan


def test_scan_says_what_it_saw(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "src", TREE)
    result = run("scan", "src")
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"Scanned {tmp_path / 'src'} as scan 1 in ")
    assert any(line.split()[:2] == ["files", "8"] and "1 skipped, 1 with errors" in line for line in lines)
    assert any(line.split()[0] == "references" and " imported" in line for line in lines)
    assert "skipped: 1 binary" in lines
    assert any(line.strip().startswith("pkg/bad.py  syntax error") for line in lines)
    assert not any("since scan" in line for line in lines)
    assert f"store: {tmp_path / 'scanstore.db'}, " in result.stdout


def test_the_hint_of_a_scan_means_the_same_store(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hint(*args: str) -> str:
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / "a.py").write_text(f"def f{len(list(tmp_path.iterdir()))}(): pass\n")
        lines = run("scan", str(tmp_path / "tree"), *args).stdout.splitlines()
        return next(line.removeprefix("next: ") for line in lines if line.startswith("next: "))

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    assert hint() == "scanstore symbols find NAME"
    assert hint("--db", "scanstore.db") == "scanstore symbols diff 1 2"
    assert hint("--db", "my store.db") == "scanstore symbols find NAME --db 'my store.db'"
    monkeypatch.setenv("SCANSTORE_DB", str(tmp_path / "env.db"))
    assert hint() == "scanstore symbols find NAME"
    assert hint("--db", "my store.db") == "scanstore symbols diff 1 2 --db 'my store.db'"


def test_scan_again_says_what_changed(scanned: Run, tmp_path: Path) -> None:
    assert "since scan 1: no file changed" in scanned("scan", "src").stdout
    (tmp_path / "src/pkg/user.py").write_text("def use():\n    pass\n")
    (tmp_path / "src/new.py").write_text("y = 1\n")
    result = scanned("scan", "src", "--name", "third")
    assert "since scan 2: 1 added, 1 changed" in result.stdout
    assert "2 read, 6 known before" in result.stdout
    assert "scanstore symbols diff 2 3" in result.stdout


def test_scan_json(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "src", TREE)
    first = data(run("scan", "src", "--json", "--target", "mine"))
    assert set(first) == {"store", "scan", "summary", "seconds", "since", "ctags"}
    assert first["scan"]["target"] == "mine" and first["scan"]["status"] == "completed"
    assert first["scan"]["started_at"].endswith("Z")
    assert first["summary"]["files"] == 8 and first["since"] is None and first["ctags"] is None
    assert first["summary"]["skipped_files"] == [{"path": "blob.bin", "reason": "binary"}]
    (tmp_path / "src/notes.txt").rename(tmp_path / "src/moved.txt")
    again = data(run("scan", "src", "--json", "--target", "mine"))
    moved = [{"from": "notes.txt", "to": "moved.txt"}]
    assert again["since"] == {"scan": 1, "added": [], "removed": [], "changed": [], "moved": moved}


def test_scan_options_reach_the_walk(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "src", TREE)
    args = ("--include", "*.py", "--exclude", "bad.py", "--max-size", "100", "--jobs", "1", "--json")
    summary = data(run("scan", "src", *args))["summary"]
    assert summary["failed"] == 0
    assert [file["path"] for file in summary["skipped_files"]] == ["pkg/core.py"]
    assert data(run("scan", "src", "--max-size", "0.1k", "--json"))["scan"]["options"]["max_size"] == 100
    assert data(run("scan", "src", "--max-size", "2MB", "--json"))["scan"]["options"]["max_size"] == 2_000_000
    assert data(run("scan", "src", "--max-size", "none", "--json"))["scan"]["options"]["max_size"] is None


@pytest.mark.parametrize("size", ["big", "-1", "5 parsecs", ""])
def test_scan_bad_usage_ends_with_2(run: Run, tmp_path: Path, size: str) -> None:
    assert "is not a size" in run("scan", ".", "--max-size", size, code=2).stderr
    assert run("scan", code=2).stderr.endswith("Error: Missing argument 'PATH'.\n")
    run("scan", ".", "--jobs", "0", code=2)
    assert os.listdir(tmp_path) == []


def test_scan_of_nothing_is_one_line_and_makes_no_store(run: Run, tmp_path: Path) -> None:
    assert one_line(run("scan", "no\nwhere", code=2)) == r"Error: there is no folder or file 'no\nwhere'"
    assert one_line(run("scan", ".", "--ctags", "no.json", code=2)) == "Error: there is no ctags file 'no.json'"
    assert os.listdir(tmp_path) == []


def test_scan_of_an_empty_tree_and_of_one_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert data(run("scan", "empty", "--json"))["summary"]["files"] == 0
    (tmp_path / "one.py").write_text("def only():\n    pass\n")
    run("scan", "one.py")
    found = run("symbols", "find", "only", "--target", "one.py").stdout
    assert found.split("\t")[1:] == ["one.py:1", "function", "one.only\n"]


def test_scan_names_ten_files_in_trouble_and_with_verbose_all(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "src", {f"bad{n:02}.py": "x = (\n" for n in range(14)})
    short = run("scan", "src").stdout
    assert "bad09.py" in short and "bad10.py" not in short and "and 4 more" in short
    full = run("scan", "src", "--verbose").stdout
    assert "bad13.py" in full and "more; --verbose" not in full


def test_scan_with_ctags(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "src", {"a.c": "int add(void) { return 1; }\n"})
    tag = {"_type": "tag", "name": "add", "path": "a.c", "line": 1, "kind": "function", "end": 1}
    broken = "".join(f"{{broken {n}\n" for n in range(12))
    (tmp_path / "tags.json").write_text(json.dumps(tag) + "\n" + broken)
    result = run("scan", "src", "--ctags", "tags.json")
    assert "ctags: 1 symbol in 1 file added" in result.stdout
    assert "ctags lines that could not be used: 12" in result.stdout
    assert "line 11  not JSON" in result.stdout and "line 12 " not in result.stdout and "and 2 more" in result.stdout
    assert run("symbols", "find", "add").stdout.split("\t")[1:] == ["src/a.c:1", "function", "add\n"]
    loaded = data(run("scan", "src", "--ctags", "tags.json", "--json"))["ctags"]
    assert loaded["symbols"] == 1 and loaded["broken"][0]["line"] == 2
    (tmp_path / "tags").write_text("!_TAG_FILE_FORMAT\t2\n")
    assert "ctags' own format" in one_line(run("scan", "src", "--ctags", "tags", code=1))


# scans


def test_scans_list(scanned: Run) -> None:
    scanned("scan", "src/pkg", "--target", "other", "--name", "inner")
    lines = scanned("scans", "list").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["2", "completed"], ["1", "completed"]]
    assert "inner" in lines[0] and "other" in lines[0]
    assert [scan["id"] for scan in data(scanned("scans", "list", "--target", "other", "--json"))] == [2]
    assert [scan["id"] for scan in data(scanned("scans", "list", "--limit", "1", "--json"))] == [2]
    empty = scanned("scans", "list", "--status", "failed")
    assert empty.stdout == "" and one_line(empty) == "no scans like that"


def test_scans_show(scanned: Run, tmp_path: Path) -> None:
    text = scanned("scans", "show").stdout
    assert text.startswith("Scan 1\n") and "completed" in text and "pkg/bad.py" in text
    for given in ("1", "src", str(tmp_path / "src")):
        shown = data(scanned("scans", "show", given, "--json"))
        assert shown["scan"]["id"] == 1 and shown["summary"]["files"] == 8


@pytest.mark.parametrize("args", [("scans", "show", "7"), ("scans", "show", "nope"), ("scans", "diff", "1", "7"),
                                  ("scans", "remove", "7"), ("symbols", "find", "x", "--scan", "7"),
                                  ("symbols", "diff", "7"), ("symbols", "cycles", "--scan", "nope")])  # fmt: skip
def test_unknown_scans_are_one_line(scanned: Run, args: tuple[str, ...]) -> None:
    assert "scanstore scans list" in one_line(scanned(*args, code=1))


def test_scans_diff(scanned: Run, tmp_path: Path) -> None:
    assert "is the only one" in one_line(scanned("scans", "diff", code=1))
    src = tmp_path / "src"
    (src / "notes.txt").rename(src / "moved.txt")
    (src / "pkg/left.py").unlink()
    (src / "pkg/user.py").write_text("pass\n")
    (src / "new.py").write_text("y = 1\n")
    scanned("scan", "src")
    for args in ((), ("1",), ("1", "2"), ("1", "src")):
        result = scanned("scans", "diff", *args)
        assert result.stdout == "added\tnew.py\t\nremoved\tpkg/left.py\t\nchanged\tpkg/user.py\t\n" + (
            "moved\tmoved.txt\tnotes.txt\n"
        )
        assert one_line(result) == "from scan 1 to scan 2: 1 added, 1 removed, 1 changed, 1 moved"
    found = data(scanned("scans", "diff", "--json", "--sort", "-file", "--limit", "3"))
    assert [list(row.values()) for row in found] == [
        ["changed", "pkg/user.py", None], ["removed", "pkg/left.py", None], ["added", "new.py", None]
    ]  # fmt: skip
    assert "no file changed" in one_line(scanned("scans", "diff", "2", "2"))


def test_targets_rename(scanned: Run, tmp_path: Path) -> None:
    old = str(tmp_path / "src")
    assert scanned("targets", "rename", "src", " shop ").stdout == f"Renamed target {old} to shop\n"
    assert {row["target"] for row in data(scanned("scans", "list", "--json"))} == {"shop"}
    assert scanned("symbols", "find", "helper", "--target", "shop").stdout
    scanned("scan", "src", "--target", "shop")
    assert data(scanned("scans", "show", "shop", "--json"))["scan"]["revision"] == 2
    scanned("scan", "src")  # the default is the path
    assert "there is a target 'shop' already" in one_line(scanned("targets", "rename", old, "shop", code=1))
    assert "there is no target 'nope'" in one_line(scanned("targets", "rename", "nope", "new", code=1))
    assert "is not empty" in one_line(scanned("targets", "rename", "shop", " ", code=1))
    renamed = data(scanned("targets", "rename", "shop", "shop", "--json"))
    assert renamed["target"] == "shop" and renamed["root"] == old
    assert {row["target"] for row in data(scanned("scans", "list", "--json"))} == {"shop", old}


def test_scans_remove_is_all_or_nothing(scanned: Run) -> None:
    scanned("scan", "src")
    assert "no scan 9" in one_line(scanned("scans", "remove", "1", "9", code=1))
    assert len(data(scanned("scans", "list", "--json"))) == 2
    removed = data(scanned("scans", "remove", "1", "1", "--json"))
    assert [gone["scan"] for gone in removed] == [1] and "file_versions" not in removed[0]["removed"]
    assert scanned("scans", "remove", "2").stdout.startswith("Removed scan 2: 8 files and 7 versions")
    scanned("scans", "remove", code=2)


# symbols


def test_find(scanned: Run) -> None:
    line = scanned("symbols", "find", "parse").stdout.splitlines()[0].split("\t")
    assert line[0].isdigit() and line[1:] == ["src/pkg/core.py:15", "function", "pkg.core.parse"]
    assert [s["name"] for s in data(scanned("symbols", "find", "pars", "--prefix", "--json"))] == ["parse"]
    assert [s["name"] for s in data(scanned("symbols", "find", "HELP", "--contains", "--json"))] == ["helper"]
    assert [s["symbol_type"] for s in data(scanned("symbols", "find", "run", "--json"))] == ["function", "method"]
    assert len(data(scanned("symbols", "find", "run", "--limit", "1", "--json"))) == 1
    assert len(data(scanned("symbols", "find", "run", "--type", "method", "--json"))) == 1
    for file in ("pkg/left.py", "src/pkg/left.py"):
        assert len(data(scanned("symbols", "find", "run", "--file", file, "--scan", "1", "--json"))) == 1


def test_find_nothing(scanned: Run) -> None:
    result = scanned("symbols", "find", "pars", "--json", code=1)
    assert data(result) == [] and "1 name contains it: add --contains" in one_line(result)
    assert "add --contains" not in one_line(scanned("symbols", "find", "zzz", code=1))


def test_places_are_seen_from_the_current_folder(scanned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scanned("symbols", "find", "helper").stdout.split("\t")[1] == "src/pkg/core.py:10"
    db = str(tmp_path / "scanstore.db")
    for folder, shown in (
        (tmp_path / "src", "pkg/core.py:10"),
        (Path("/"), f"{tmp_path}/src/pkg/core.py:10".lstrip("/")),
    ):
        monkeypatch.chdir(folder)
        assert scanned("symbols", "find", "helper", "--db", db).stdout.split("\t")[1] == shown
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert scanned("symbols", "find", "helper", "--db", db).stdout.split("\t")[1] == "pkg/core.py:10"


def test_show(scanned: Run) -> None:
    text = scanned("symbols", "show", "parse").stdout
    assert text.startswith(
        "@decorated\ndef pkg.core.parse(text: str, /, *rest, strict=False, depth: int = 1, **more) -> int\n"
    )
    assert "src/pkg/core.py:15-20" in text and "2 calls" in text and "\n  Parse a text.\n\n  Twice.\n" in text
    assert scanned("symbols", "show", "Child").stdout.startswith("class pkg.core.Child(Base)\n")
    shown = data(scanned("symbols", "show", "pkg.core.parse", "--json"))
    assert shown["references"]["by_type"]["call"] == 2
    assert data(scanned("symbols", "show", str(shown["id"]), "--json")) == shown


def test_a_name_of_several_gives_the_candidates(scanned: Run) -> None:
    result = scanned("symbols", "callers", "run", code=1)
    *lines, error = said(result).splitlines()
    assert result.stdout == "" and error.startswith("Error: 2 symbols are called run; repeat with the id")
    assert sorted(line.split()[2] for line in lines) == ["pkg.core.Base.run", "pkg.left.run"]
    for line in lines:
        scanned("symbols", "callers", line.split()[3])


@pytest.mark.parametrize("verb", ["show", "refs", "callers", "callees", "impact", "subclasses", "bases"])
@pytest.mark.parametrize("symbol", ["nope", "987654321", "a\nb"])
def test_unknown_symbols_are_one_line(scanned: Run, verb: str, symbol: str) -> None:
    assert one_line(scanned("symbols", verb, symbol, code=1)).startswith("Error: no symbol ")


def test_refs(scanned: Run) -> None:
    lines = [
        line.split() for line in scanned("symbols", "refs", "pkg.core.parse", "--type", "call").stdout.splitlines()
    ]
    assert lines == [
        ["src/pkg/core.py:3", "call", "exact", "parse", "in", "pkg.core.Base.run"],
        ["src/pkg/user.py:6", "call", "imported", "parse", "in", "pkg.user.use"],
    ]
    found = data(scanned("symbols", "refs", "pkg.core.parse", "--json"))
    assert {reference["reference_type"] for reference in found} == {"call", "import"}
    nothing = scanned("symbols", "refs", "lonely")
    assert nothing.stdout == "" and "nothing" in one_line(nothing)


def names(result: Result) -> list[tuple[str, int]]:
    return [(row["qualified_name"], row["distance"]) for row in data(result)]


def test_following_references(scanned: Run) -> None:
    ask = ("symbols", "callers", "helper", "--json")
    assert names(scanned(*ask)) == [("pkg.core.parse", 1)]
    assert names(scanned(*ask, "--depth", "2")) == [
        ("pkg.core.parse", 1), ("pkg.core.Base.run", 2), ("pkg.user.use", 2)
    ]  # fmt: skip
    assert len(names(scanned(*ask, "--depth", "all"))) == 3
    assert names(scanned("symbols", "callees", "use", "--depth", "all", "--json")) == [
        ("pkg.core.parse", 1), ("pkg.core.helper", 2)
    ]  # fmt: skip
    assert len(names(scanned("symbols", "impact", "helper", "--json"))) == 3
    assert names(scanned("symbols", "subclasses", "Base", "--json")) == [("pkg.core.Child", 1)]
    assert names(scanned("symbols", "bases", "Child", "--json")) == [("pkg.core.Base", 1)]
    line = scanned("symbols", "subclasses", "Base").stdout.split()
    assert line == ["src/pkg/core.py:6", "6", "1", "class", "pkg.core.Child"]
    assert "no class that was found inherits from pkg.core.Child" in one_line(scanned("symbols", "subclasses", "Child"))


@pytest.mark.parametrize("depth", ["0", "-1", "many", "1.5", "²"])
def test_bad_depth(scanned: Run, depth: str) -> None:
    assert "is not a number of steps" in scanned("symbols", "callers", "helper", f"--depth={depth}", code=2).stderr


def test_guesses(run: Run, tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "class A:\n    def only_here(self):\n        pass\n\n\ndef f(x):\n    x.only_here()\n"})
    run("scan", ".")
    ask = ("symbols", "callers", "only_here")
    nothing = run(*ask)
    assert nothing.stdout == "" and "--guesses finds some" in one_line(nothing)
    assert run(*ask, "--guesses").stdout.split() == ["a.py:6", "7", "1", "function", "a.f", "guessed"]
    assert "guessed" in run("symbols", "refs", "only_here").stdout
    assert run("symbols", "refs", "only_here", "--no-guesses").stdout == ""


def test_imports_of_files(scanned: Run) -> None:
    for file in ("pkg/user.py", "src/pkg/user.py"):
        lines = [line.split() for line in scanned("symbols", "imports", file).stdout.splitlines()]
        assert lines[0] == ["src/pkg/user.py:1", "imported", "pkg.core", "parse", "->", "src/pkg/core.py"]
        assert lines[1][:3] == ["src/pkg/user.py:2", "unresolved", "pkg.gone"]
    assert scanned("symbols", "importers", "pkg/core.py").stdout == "src/pkg/__init__.py\nsrc/pkg/user.py\n"
    assert data(scanned("symbols", "importers", "pkg/core.py", "--json")) == ["pkg/__init__.py", "pkg/user.py"]
    assert "imports nothing" in one_line(scanned("symbols", "imports", "pkg/core.py"))
    assert "has no file 'nope.py'" in one_line(scanned("symbols", "importers", "nope.py", code=1))
    assert len(data(scanned("symbols", "imports", "pkg/user.py", "--json"))) == 2


def test_questions_about_a_whole_scan(scanned: Run) -> None:
    assert scanned("symbols", "cycles").stdout.split("\t") == [
        "1", "runtime", "2", "src/pkg/left.py, src/pkg/right.py", "src/pkg/right.py:1",
        "import pkg.left -> src/pkg/left.py\n",
    ]  # fmt: skip
    (cycle,) = data(scanned("symbols", "cycles", "--json"))
    assert cycle["files"] == ["pkg/left.py", "pkg/right.py"] and cycle["kind"] == "runtime"
    assert "pkg.gone" in scanned("symbols", "unresolved").stdout
    assert [row["imported_module"] for row in data(scanned("symbols", "unresolved", "--json"))] == ["pkg.gone"]
    assert "pkg.left.lonely" in scanned("symbols", "unused").stdout
    assert [s["name"] for s in data(scanned("symbols", "unused", "--type", "class", "--json"))] == ["Child"]


def test_edges_are_streamed_as_json_lines(scanned: Run) -> None:
    text = scanned("symbols", "edges", "--json", "--type", "call").stdout
    edges = [json.loads(line) for line in text.splitlines()]
    assert {"from_file": "pkg/user.py", "from_line": 6, "from_symbol": "pkg.user.use", "reference_type": "call",
            "name": "parse", "resolution": "imported", "confidence": 1.0, "target": "pkg.core.parse",
            "target_file": "pkg/core.py", "target_line": 15} in edges  # fmt: skip
    assert "src/pkg/core.py:6\tinherit\tpkg.core.Child -> pkg.core.Base\texact" in scanned("symbols", "edges").stdout


def test_symbols_diff(scanned: Run, tmp_path: Path) -> None:
    src = tmp_path / "src"
    (src / "pkg/core.py").write_text(TREE["pkg/core.py"].replace("return text", "return text * 2"))
    (src / "pkg/left.py").write_text("import pkg.right\n\n\ndef run():\n    pass\n\n\ndef fresh():\n    return 1\n")
    scanned("scan", "src")
    result = scanned("symbols", "diff")
    lines = [line.split("\t")[:5] for line in result.stdout.splitlines()]
    assert ["added", "", "src/pkg/left.py:8", "function", "pkg.left.fresh"] in lines
    assert ["removed", "", "src/pkg/left.py:4", "function", "pkg.left.lonely"] in lines
    assert ["changed", "body", "src/pkg/core.py:10", "function", "pkg.core.helper"] in lines
    assert said(result).startswith("from scan 1 to scan 2: 1 added, 1 removed, 1 changed\n")
    assert "not read: 1 with errors" in said(result)
    found = data(scanned("symbols", "diff", "1", "2", "--json"))
    assert {row["qualified_name"] for row in found if row["change"] == "changed"} >= {"pkg.core.helper"}


# Upkeep


def test_check_ends_with_1_on_a_problem(scanned: Run, tmp_path: Path) -> None:
    assert one_line(scanned("check")) == f"{tmp_path / 'scanstore.db'}: no problems"
    assert data(scanned("check", "--json")) == []
    connection = sqlite3.connect(tmp_path / "scanstore.db")
    connection.execute("UPDATE scans SET revision = NULL")
    connection.commit()
    try:
        assert "completed scans without a revision" in scanned("check", code=1).stdout
        assert set(data(scanned("check", "--json", code=1))[0]) == {"what", "remedy", "fixed"}
    finally:
        connection.execute("UPDATE scans SET revision = 1")
        connection.commit()
        connection.close()


def test_stats(scanned: Run) -> None:
    text = scanned("stats").stdout
    assert "1 scan, " in text and "symbol_facts" in text and "bytes per line" in text
    found = data(scanned("stats", "--json"))
    assert found["scans"] == 1 and {table["name"] for table in found["tables"]} >= {"names", "scans"}
    told = scanned("stats", "--tsv", "--sort", "-rows", "--limit", "3").stdout
    rows = [line.split("\t") for line in told.splitlines()]
    assert rows[0] == ["name", "rows", "bytes"] and len(rows) == 4 and int(rows[1][1]) >= int(rows[2][1])
    assert len(data(scanned("stats", "--limit", "2", "--json"))["tables"]) == 2


def test_migrate(scanned: Run, tmp_path: Path) -> None:
    steps = data(scanned("migrate", "status", "--json"))
    assert steps[0]["name"] == "001_snapshot" and steps[0]["applied_at"].endswith("Z")
    assert "nothing to do" in one_line(scanned("migrate", "up"))
    assert "there is no migration 77" in one_line(scanned("migrate", "up", "--to", "77", code=1))
    down = data(scanned("migrate", "down", "--to", "0", "--json"))
    assert down["migrations"] == [step["name"] for step in reversed(steps)] and Path(down["backup"]).is_file()
    assert "pending" in scanned("migrate", "status").stdout
    assert scanned("migrate", "up").stdout.startswith("applied 001_snapshot\n")
    text = scanned("migrate", "down").stdout
    assert text.startswith("rolled back ") and "the file as it was: " in text
    scanned("migrate", "up")


# What strangers wrote


def test_nothing_of_a_stranger_is_obeyed_by_the_terminal(run: Run, tmp_path: Path) -> None:
    evil = "a\x1b]0;owned\x07\nb\u202e.py"
    write(
        tmp_path / "src", {evil: 'def f(x="\x1b[2J"):\n    """Doc \x1b[31mred\x9b\n\ttab"""\n', f"bad{evil}": "x = (\n"}
    )
    for args in (("scan", "src"), ("symbols", "find", "f"), ("symbols", "show", "f"), ("symbols", "edges"),
                 ("symbols", "unused"), ("scans", "show"), ("symbols", "imports", f"src/{evil}"),
                 ("symbols", "find", evil), ("symbols", "refs", "f")):  # fmt: skip
        output = run(*args, code=None).output
        assert not set(output) & set("\x1b\x07\x9b\u202e\r"), args
    assert r"src/a\x1b]0;owned\x07\nb\u202e.py:1" in run("symbols", "find", "f").stdout


def test_plain_text() -> None:
    assert plain_text("größe 中 \\x") == "größe 中 \\x"
    assert plain_text("a\n\x00\x7f\x9b\u2028\udcff") == r"a\n\x00\x7f\x9b\u2028\udcff"


def test_columns_are_aligned_and_not_cut() -> None:
    rows = [("a", 1, "x" * 200), ("b" * 90, 22, ""), ("c", 333, "y")]
    assert list(aligned(rows, right=(1,), indent=" ")) == [
        f" {'a':60}    1  {'x' * 200}", f" {'b' * 90}   22", f" {'c':60}  333  y"
    ]  # fmt: skip
    assert list(aligned([])) == []


def test_counts_and_sizes() -> None:
    assert [count(n, "file") for n in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]
    assert [size(n) for n in (0, 999, 1000, 999_949, 999_950, 30_200_000, 5_000_000_000)] == [
        "0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "30.2 MB", "5.0 GB"
    ]  # fmt: skip
