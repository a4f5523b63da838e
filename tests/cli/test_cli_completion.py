"""Completion: what a shell may offer for each parameter, and the scripts that are installed."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import needs
import pytest
from click.shell_completion import ShellComplete, get_completion_class
from click.testing import CliRunner, Result
from test_cli_lists import CODE, commands, fill

from scanstore import Store
from scanstore.cli import candidates, main

completion = importlib.import_module("scanstore.cli.completion")
#: Parameters of which nothing is known beforehand: numbers, texts, patterns and names that are made up.
FREE = {
    "api_key", "base_url", "columns", "config", "cron", "description", "email", "enricher_concurrency", "exclude",
    "exclusive_group", "expires", "handler", "include", "interval", "jobs", "keep", "keep_last",
    "lease", "limit", "max_concurrent", "max_lost", "max_retries", "max_size", "max_tokens", "meta", "min_confidence",
    "name", "new", "new_name", "older_than", "path", "pattern", "pause_after", "place", "poll", "priority", "reason",
    "retry_delay", "run_at", "scanner_concurrency", "scope", "sort", "steps", "text", "timeout", "to", "unique",
    "value", "verifier_concurrency", "votes", "depth",
}  # fmt: skip
CALL = "from scanstore.cli import main; main(prog_name='scanstore')"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with rows of each kind; the current folder is the one that it is in."""
    folder = tmp_path_factory.mktemp("full")
    before = Path.cwd()
    os.chdir(folder)
    (folder / "src").mkdir()
    (folder / "src/a.py").write_text(CODE)
    with Store("scanstore.db") as made:
        fill(made, folder)
        assert made.check() == []
    yield folder / "scanstore.db"
    os.chdir(before)


@pytest.fixture(autouse=True)
def as_if_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without a store of the environment; the loggers that -v changes are put back."""
    for name in ("SCANSTORE_DB", "SCANSTORE_KEY"):
        monkeypatch.delenv(name, raising=False)
    loggers = [logging.getLogger(name) for name in ("scanstore", "peewee")]
    before = [(each.level, each.propagate, [*each.handlers]) for each in loggers]
    yield
    for each, (level, propagate, handlers) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.propagate, each.handlers = propagate, handlers


def offered(*words: str, shell: str = "fish") -> dict[str, str | None]:
    """Return the values that a shell would be told for the last word, each with its help text."""
    kind = get_completion_class(shell)
    assert kind is not None
    found = kind(main, {}, "scanstore", "_SCANSTORE_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return {item.value: item.help for item in found}


def test_every_parameter_has_values_or_is_known_to_have_none() -> None:
    """A new parameter is named in `completion`, or here."""
    for path, command in commands():
        for parameter in command.params:
            names = {f"{path} {parameter.name}", str(parameter.name)}
            closed = isinstance(parameter.type, click.Choice | click.Path | click.File)
            flag = isinstance(parameter, click.Option) and (parameter.is_flag or parameter.flag_value is not None)
            known = names & {*completion.FINDS, *completion.PATHS}
            assert closed or flag or parameter.name == "verbose" or known or names & FREE, names


def test_no_name_of_a_parameter_is_stale() -> None:
    have = {name for path, command in commands() for each in command.params
            for name in (each.name, f"{path} {each.name}")}  # fmt: skip
    assert {*completion.FINDS, *completion.PATHS, *FREE} <= have


@pytest.mark.parametrize(
    ("words", "value", "about"),
    [
        (("scans", "show", ""), "2", "running"),
        (("scans", "remove", "1"), "1", "completed"),
        (("scans", "list", "--status", "comp"), "completed", None),
        (("symbols", "show", "hel"), "helper", "function a.py:9"),
        (("symbols", "show", "a.h"), "a.helper", "function a.py:9"),
        (("symbols", "show", "--scan", "1", "a.he"), "a.helper", "function"),
        (("symbols", "imports", ""), "b.py", None),
        (("chunks", "list", "--file", "a"), "a.py", None),
        (("findings", "show", ""), "3", "bad"),
        (("findings", "triage", "1", ""), "2", "open: "),
        (("findings", "triage", "1", "2", "conf"), None, None),
        (("findings", "list", "--tool", ""), "T", None),
        (("findings", "list", "--severity", "cr"), "critical", None),
        (("findings", "suppress", "--rule", "r1"), "r10", "T"),
        (("findings", "unsuppress", ""), "1", "active: known"),
        (("drafts", "show", ""), "1", "bad"),
        (("plans", "show", ""), "1", "tidy"),
        (("plans", "review", "1", "--id", ""), "1", "set title"),
        (("jobs", "list", "--type", "s"), "sync", None),
        (("schedules", "enable", ""), "nightly", "sync, 0 3 * * *"),
        (("schedules", "add", "--timezone", "Europe/Ber"), "Europe/Berlin", None),
        (("models", "show", ""), "judge", None),
        (("settings", "get", "page"), "page_size", None),
        (("users", "passwd", "ada"), "ada@example.org", None),
        (("prompts", "show", "ada@example.org", ""), "summary", None),
        (("prompts", "show", "ada@example.org", "summary", "--version", ""), "1", "say it"),
        (("prompts", "restore", "ada@example.org", "summary", ""), "1", "say it"),
        (("library", "list", "--tag", "out"), "outdoor", "t1"),
        (("plans", "show", "1", "--scene", ""), "s1", "One"),
        (("dump", "--table", "find"), "findings", None),
        (("jobs", "list", "--columns", "id,st"), "id,status", None),
        (("jobs", "list", "--sort", "prog"), "progress", None),
        (("completion", "install", "b"), "bash", None),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_values_come_from_the_store(store: Path, words: tuple[str, ...], value: str | None, about: str | None) -> None:
    found = offered(*words)
    assert (value in found) if value else not found, found
    assert about is None or about in str(found[str(value)])


def test_ids_and_targets(store: Path) -> None:
    for words in (("jobs", "show"), ("jobs", "cancel"), ("sessions", "files"), ("audits", "show")):
        found = offered(*words, "")
        assert found and all(len(value) == 36 for value in found), words
        first = next(iter(found))
        assert first in offered(*words, first[:30]) and not offered(*words, "x")
    assert list(offered("scans", "list", "--target", "")) == [str(store.parent / "src")]
    assert set(offered("findings", "diff", "")) == {"1", "2", str(store.parent / "src")}


def test_the_store_of_the_line_counts(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "other.db") as other:
        other.settings["elsewhere"] = 1
    name = str(tmp_path / "other.db")
    assert list(offered("--db", name, "settings", "get", "")) == ["elsewhere"]
    assert list(offered("settings", "--db", name, "get", "")) == ["elsewhere"]
    assert list(offered("settings", "get", "--db", name, "")) == ["elsewhere"]
    monkeypatch.setenv("SCANSTORE_DB", name)
    assert list(offered("settings", "get", "")) == ["elsewhere"]


def test_an_encrypted_store_is_read_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.module("sqlcipher3")
    with Store(tmp_path / "secret.db", key="a key of some length") as other:
        other.settings["hidden"] = 1
    words = ("--db", str(tmp_path / "secret.db"), "settings", "get", "")
    assert offered(*words) == {}
    monkeypatch.setenv("SCANSTORE_KEY", "a key of some length")
    assert list(offered(*words)) == ["hidden"]


def test_nothing_is_offered_where_nothing_can_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.db").write_text("this is no store" * 1000)
    (tmp_path / "empty.db").touch()
    names = [str(tmp_path / name) for name in ("none.db", "text.db", "empty.db", "")]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.db")
        names.append(str(tmp_path / "pipe.db"))
    before = sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert offered("-vv", "--db", name, "settings", "get", "") == {}, name
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert capfd.readouterr() == ("", "")


def test_an_older_store_is_not_migrated(store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old.db"
    shutil.copy(store, old)
    assert CliRunner().invoke(main, ["migrate", "down", "--db", str(old)]).exit_code == 0
    before, names = old.read_bytes(), sorted(os.listdir(tmp_path))
    assert offered("--db", str(old), "settings", "get", "") == {}
    assert old.read_bytes() == before and sorted(os.listdir(tmp_path)) == names
    assert capfd.readouterr() == ("", "")


def test_a_completion_leaves_no_trace(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store.parent.iterdir()}
    assert offered("-vv", "settings", "get", "") and capfd.readouterr() == ("", "")
    assert {path.name: path.stat().st_mtime_ns for path in store.parent.iterdir()} == before


def test_what_others_write_now_is_offered(tmp_path: Path) -> None:
    with Store(tmp_path / "busy.db") as other:
        other.settings["first"] = 1
        with other.transaction():
            other.settings["second"] = 2
            assert list(offered("--db", other.path, "settings", "get", "")) == ["first"]
        assert list(offered("--db", other.path, "settings", "get", "")) == ["first", "second"]


def test_a_long_search_is_given_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(made: Store, _: click.Context, __: str) -> Any:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        made.database.execute_sql(f"{numbers} SELECT max(i) FROM n")

    begun = time.monotonic()
    assert candidates.offered(endless, click.Context(main), "") == []
    assert time.monotonic() - begun < 5


def test_a_failure_or_a_warning_is_not_seen(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> Any:
        warnings.warn("look out", stacklevel=1)
        sys.stderr.write("oh")
        raise ZeroDivisionError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert candidates.offered(broken, click.Context(main), "") == []
    assert capfd.readouterr() == ("", "")


def test_names_that_cannot_be_typed_are_left_out() -> None:
    context = click.Context(main)
    names = ["good", "a\x1b[2J", "b\nc", "\u202ed", "-x", "", "two words", "good"]

    def find(*_: object) -> list[tuple[str, str]]:
        return [(name, "help\n\x1b[2J " + "x" * 100) for name in names]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_opened", lambda: memoryview(b""))  # a context that opens nothing
        found = candidates.offered(find, context, "")
        many = candidates.offered(lambda *_: ((n, None) for n in range(1000)), context, "1")
    assert [item.value for item in found] == ["good", "two words"]
    assert all(len(str(item.help)) <= candidates.LONGEST and str(item.help).isprintable() for item in found)
    assert len(many) == candidates.MOST and all(item.value.startswith("1") for item in many)


def test_files_are_offered_by_the_shell() -> None:
    kind = get_completion_class("fish")
    assert kind is not None
    made: ShellComplete = kind(main, {}, "scanstore", "_SCANSTORE_COMPLETE")
    for words, wanted in (
        (["--db"], "file"), (["dump"], "file"), (["sarif", "dump", "-o"], "file"), (["backup", "--folder"], "dir"),
        (["sarif", "load"], "file"), (["scan"], "file"), (["check"], "file"),
    ):  # fmt: skip
        assert [item.type for item in made.get_completions(words, "x")] == [wanted], words


# The scripts


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    return tmp_path


def run(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["completion", *words])
    assert done.exit_code == code, (done.output, done.exception)
    return done


PLACES = {
    "bash": ".local/share/bash-completion/completions/scanstore",
    "zsh": ".local/share/zsh/site-functions/_scanstore",
    "fish": ".config/fish/completions/scanstore.fish",
}


@pytest.mark.parametrize("shell", PLACES)
def test_a_script_is_installed_and_removed(home: Path, shell: str) -> None:
    path = home / PLACES[shell]
    first = run("install", shell).stdout.splitlines()
    assert first[0] == f"Wrote {path}" and first[1].startswith("To use it, ")
    assert path.read_text() == run("show", shell).stdout
    assert run("install", shell).stdout.startswith(f"Exists already: {path}")
    path.write_text(path.read_text() + "# of an older version\n")
    assert run("install", shell).stdout.startswith(f"Updated {path}") and "older" not in path.read_text()
    assert run("remove", shell).stdout == f"Removed {path}\n" and not path.exists()
    assert run("remove", shell).stdout == f"Nothing to remove at {path}\n"


def test_a_file_of_somebody_else_is_left_alone(home: Path) -> None:
    path = home / PLACES["bash"]
    path.parent.mkdir(parents=True)
    for content in (b"complete -F mine scanstore\n", b"\xff"):
        path.write_bytes(content)
        for verb in ("install", "remove"):
            assert f"{path} is not a script of this command" in run(verb, "bash", code=1).stderr
        assert path.read_bytes() == content


def test_the_shell_is_that_of_the_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("install")
    assert (home / PLACES["fish"]).exists()
    for login in ("/bin/dash", ""):
        monkeypatch.setenv("SHELL", login)
        assert "name the shell: bash, zsh, fish" in run("install", code=2).stderr
    run("install", "csh", code=2)


def test_folders_of_the_environment_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data here"))
    told = run("install", "zsh").stdout
    assert (home / "data here/zsh/site-functions/_scanstore").exists() and "fpath+=('" in told
    assert run("show", "zsh").stdout.startswith("#compdef scanstore\n")  # zsh looks at the first line only
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert run("install", "zsh").stdout.startswith(f"Wrote {home / PLACES['zsh']}")


def test_bash_completes(store: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real bash, with the script that was installed: names with spaces and colons too."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    with Store(store) as made:
        made.settings["two words"] = made.settings["space:one"] = made.settings["$(touch evil)"] = 1
    run("install", "bash")
    bin_folder = home / "bin"
    bin_folder.mkdir()
    (bin_folder / "scanstore").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{CALL}" "$@"\n')
    (bin_folder / "scanstore").chmod(0o755)
    script = f"""
source '{home / PLACES["bash"]}'
complete -p scanstore
ask() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _scanstore_completion scanstore
    printf '<%s>' "${{COMPREPLY[@]}}"; echo
}}
ask scanstore settings get page
ask scanstore settings get ''
ask scanstore settings get space : o
ask scanstore settings g
"""
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([bash, "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == [
        "<page_size>", "<\\$\\(touch\\ evil\\)><page_size><space:one><two\\ words>", "<one>", "<get>"
    ]  # fmt: skip


def test_help_names_the_completion() -> None:
    assert "scanstore completion install" in CliRunner().invoke(main, ["--help"]).stdout
