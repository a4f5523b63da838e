"""The progress display of long commands, and the option that hides it."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main
from scanstore.cli import progress as progress_module
from scanstore.cli.progress import BYTES, Display, is_shown, progress
from scanstore.cli.streams import is_terminal

Run = Callable[..., Result]


class Terminal(io.StringIO):
    """A standard error stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(progress_module, "errors", lambda: stream)
    monkeypatch.setattr(progress_module, "is_terminal", lambda _: True)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stream


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "DELAY", 0)
    monkeypatch.setattr(progress_module, "PAUSE", 0.005)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(*args: str, code: int | None = 0) -> Result:
        result = CliRunner().invoke(main, args, prog_name="scanstore")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code is None or result.exit_code == code, result.output
        return result

    return invoke


def until(terminal: Terminal, text: str) -> None:
    end = time.monotonic() + 10
    while text not in terminal.getvalue():
        assert time.monotonic() < end, terminal.getvalue()
        time.sleep(0.002)


# The display


@pytest.mark.usefixtures("at_once")
def test_a_display_shows_counts_rate_and_time_and_is_wiped_away(terminal: Terminal) -> None:
    with progress("Loading a\x1b[31m[b]x[/b]", "rows") as display:
        assert display is not None
        for done in range(0, 5000, 100):
            display(done, 1_000_000)
            time.sleep(0.004)
        until(terminal, " left")
    shown = terminal.getvalue()
    assert "Loading a\\x1b[31m[b]x[/b]" in shown  # neither the terminal nor rich obeys a name
    assert " of 1,000,000 rows, " in shown and "/s, " in shown and "━" in shown
    assert shown.endswith("\x1b[2K") and "\x1b[?25" not in shown  # the cursor was never hidden
    assert "scanstore-progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("at_once")
def test_the_time_that_is_left_is_shown_on_a_terminal_of_80_columns(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with progress("Writing the standard output", "rows") as display:
        assert display is not None
        for done in range(400_000, 470_000, 1000):
            display(done, 480_012)
            time.sleep(0.004)
        until(terminal, " left")
    assert "of 480,012 rows, " in terminal.getvalue()


@pytest.mark.usefixtures("at_once")
def test_work_of_an_unknown_length_shows_a_count_and_the_time(terminal: Terminal) -> None:
    with progress("Loading", BYTES) as display:
        assert display is not None
        display(12_300_000, 0)
        until(terminal, "12.3 MB")
    assert "12.3 MB of" not in terminal.getvalue() and "0:00" in terminal.getvalue()


@pytest.mark.usefixtures("at_once")
def test_work_that_reports_nothing_shows_the_time(terminal: Terminal) -> None:
    with progress("Shrinking a.db") as display:
        assert display is not None
        until(terminal, "0:00")
    assert "Shrinking a.db" in terminal.getvalue()


@pytest.mark.usefixtures("at_once")
def test_colours_are_left_out_when_they_are_not_wanted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with progress("Loading", "rows") as display:
        assert display is not None
        display(1, 10)
        until(terminal, "of 10 rows")
    assert not [part for part in terminal.getvalue().split("\x1b[")[1:] if part.startswith(("3", "9"))]


def test_figures_are_those_of_the_unit() -> None:
    display = Display("x", "rows")
    assert display.figures() == "0:00"
    display(1234, 0)
    assert display.figures() == "1,234 rows, 0:00"
    display(1234, 5000)
    assert display.figures(100) == "1,234 of 5,000 rows, 100/s, 0:37 left"
    assert display.figures(0.5) == "1,234 of 5,000 rows, 0.5/s, 2:05:32 left"
    display(5000, 5000)
    assert display.figures(100) == "5,000 of 5,000 rows, 0:00"
    display.unit = BYTES
    display(12_000_000, 45_600_000)
    assert display.figures(5e6) == "12.0 MB of 45.6 MB, 5.0 MB/s, 0:06 left"


def test_short_work_does_not_flicker(terminal: Terminal) -> None:
    with progress("Loading", "rows") as display:
        assert display is not None
        display(1, 2)
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("at_once")
def test_the_display_ends_with_its_block_even_when_it_is_interrupted_twice(terminal: Terminal) -> None:
    display = Display("Loading", "rows")
    display.start()
    until(terminal, "Loading")
    join, times = display._thread.join, []

    def interrupted(timeout: float | None = None) -> None:
        times.append(1)
        if len(times) < 3:
            raise KeyboardInterrupt
        join(timeout)

    display._thread.join = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        display.stop()
    assert not display._thread.is_alive() and terminal.getvalue().endswith("\x1b[2K")


@pytest.mark.usefixtures("at_once")
def test_a_terminal_that_is_gone_does_not_end_the_work(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(terminal, "write", gone)
    with progress("Loading") as display:
        assert display is not None
        display._thread.join(10)
        display(1, 2)


@pytest.mark.parametrize("what", ["json", "quiet", "logged", "dumb", "piped", "data"])
def test_nothing_is_shown_where_nobody_looks(what: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    context: AbstractContextManager[Any] = nullcontext()
    if what in ("json", "quiet", "logged"):
        made = click.Context(click.Command("x"))
        made.meta[f"scanstore.cli.{what}"] = True
        context = made.scope()
    elif what == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    elif what == "piped":
        monkeypatch.setattr(progress_module, "is_terminal", is_terminal)
    with context, progress("Loading", alone=what != "data") as display:
        assert display is None
        assert is_shown() is (what == "data")
    assert terminal.getvalue() == ""


# The commands


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[tuple[int, int]]]]:
    """The displays of commands, by description, with their calls."""
    found: dict[str, list[tuple[int, int]]] = {}

    class Recorded(Display):
        def __call__(self, done: int, total: int) -> None:
            found.setdefault(self.what, []).append((done, total))

        def start(self) -> None:
            found.setdefault(self.what, [])

        def stop(self) -> None:
            pass

    monkeypatch.setattr(progress_module, "Display", Recorded)
    monkeypatch.setattr(progress_module, "is_shown", lambda: True)
    yield found


def test_every_long_command_shows_its_progress(
    run: Run, tmp_path: Path, shown: dict[str, list[tuple[int, int]]]
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("def f():\n    return 1\n")
    result = {"ruleId": "r", "message": {"text": "m"}}
    (tmp_path / "r.sarif").write_text(
        json.dumps({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [result]}]})
    )
    (tmp_path / "scenes.jsonl").write_text('{"id": "1", "title": "a"}\n')
    (tmp_path / "plan.jsonl").write_text('{"scene": "1", "field": "title", "action": "set", "proposed": "b"}\n')
    for command in (
        "scan src", "scan src", "sarif load r.sarif --target t", "search f --all", "sarif dump o.sarif --target t",
        "dump d.jsonl", "load d.jsonl --db b.db", "merge b.db", "check", "vacuum", "optimize", "backup copy.db",
        "restore copy.db --db c.db", "repair copy.db saved.db", "prune --keep-last 0 --yes",
        "library sync scenes.jsonl", "plans create p plan.jsonl", "plans review 1 approve", "plans apply 1",
        "plans revert 1", "migrate up",
    ):  # fmt: skip
        run(*command.split())
    counted = {
        "resolving", "Loading r.sarif", "Indexing", "Writing o.sarif", "Writing d.jsonl", "Loading d.jsonl",
        "Merging b.db", "Checking scanstore.db", "Optimizing scanstore.db", "Copying scanstore.db", "Restoring c.db",
        "Saving copy.db", "Removing", "Syncing scenes.jsonl", "Applying plan 1", "Reverting plan 1",
    }  # fmt: skip
    ended = {what for what, calls in shown.items() if calls and calls[-1][0] == calls[-1][1] > 0}
    assert counted <= ended
    assert {"Shrinking scanstore.db", "Migrating scanstore.db"} <= set(shown)
    for path in tmp_path.glob("*.db"):
        with Store(path) as store:
            assert store.check() == []


# --quiet


@pytest.mark.parametrize("where", [0, 1, 2, 3])
def test_quiet_may_stand_anywhere(run: Run, where: int, tmp_path: Path) -> None:
    run("jobs", "add", "other")
    (tmp_path / "mytasks.py").write_text("handlers = {'sync': print}\n")
    words = ["jobs", "work", "--import", "mytasks"]
    for option in ("-q", "--quiet"):
        given = [*words[:where], option, *words[where:]] if where < 3 else [*words, option]
        result = run(*given, "--until-empty")
        assert "Ctrl-C stops" not in result.stderr
        assert "left: 1 other" in result.stderr
    assert "Ctrl-C stops" in run(*words, "--until-empty").stderr


def test_quiet_hides_remarks_and_no_results_warnings_and_errors(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    pass\n")
    loud, quiet = run("scan", "a.py"), run("-q", "scan", "a.py", "--target", "other")
    assert "next: " in loud.stdout and "next: " not in quiet.stdout and "Scanned" in quiet.stdout
    asked = ("symbols", "find", "f", "--target")
    name = loud.stdout.split()[1]
    assert "no file has changed" in run(*asked, name).stderr and run(*asked, name, "-q").stderr == ""
    (tmp_path / "a.py").write_text("def g():\n    pass\n")
    assert "1 file has changed since" in run(*asked, name, "-q").stderr  # a warning
    assert run("-q", "symbols", "find", "f", "--target", "nowhere", code=1).stderr.startswith("Error: ")
    (tmp_path / "bad.jsonl").write_text('{"id": ""}\n')
    assert "rejected: " in run("library", "sync", "bad.jsonl", "-q").stderr
