"""The command line as a real process: terminals, pipes, locales, Ctrl-C, and what it costs to start."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import needs
import pytest
from sampling import sampled

import scanstore.cli
from scanstore import Store
from scanstore.cli import main

pty = needs.module("pty")

COMMAND = [sys.executable, "-m", "scanstore"]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which `python -m scanstore` is this checkout, whatever the folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("SCANSTORE_DB", "NO_COLOR", "COLUMNS", "PYTHONIOENCODING", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color"}


def run(environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *args], env=environment, capture_output=True, timeout=60)


def told(errors: bytes) -> bytes:
    """What a command says on stderr, but for the line that names the scan."""
    lines = errors.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith((b"scan 1 of ", b'{"note": "scan 1 of ')))


def tree(folder: Path, files: int, functions: int = 1) -> None:
    folder.mkdir()
    for number in range(files):
        body = "".join(f"def f{number}_{n}(x):\n    return f{number}_0(x)\n\n\n" for n in range(functions))
        (folder / f"m{number:04}.py").write_text(body)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of which there is more to say than a pipe holds."""
    folder = tmp_path_factory.mktemp("large")
    tree(folder / "src", 100, functions=30)
    with Store(folder / "scanstore.db", durability="normal") as store:
        store.scans.record(folder / "src", jobs=1)
    return folder / "scanstore.db"


AT_ONCE = [sys.executable, "-c", "from scanstore.cli import main, progress; progress.DELAY = 0; main()"]


def in_terminal(
    environment: dict[str, str], *args: str, interrupt_at: bytes | None = None, command: list[str] = COMMAND
) -> tuple[int, bytes]:
    """Run in a terminal of its own, pressing Ctrl-C once these bytes are on the screen."""
    child, screen = pty.fork()
    if child == 0:
        os.execve(sys.executable, [*command, *args], environment)
    shown = b""
    pressed = False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([screen], [], [], 0.05)[0]:
            try:
                block = os.read(screen, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not block:
                break
            shown += block
        if interrupt_at is not None and not pressed and interrupt_at in shown:
            os.write(screen, b"\x03")
            pressed = True
    else:
        os.kill(child, signal.SIGKILL)
    os.close(screen)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(environment: dict[str, str], tmp_path: Path) -> None:
    tree(tmp_path / "src", 400, functions=20)
    code, shown = in_terminal(environment, "scan", "src", "--jobs", "1", command=AT_ONCE)
    assert code == 0 and b" of 400 files" in shown and b"reading" in shown
    assert b"\x1b[?25l" not in shown  # the cursor is not hidden, so a kill leaves it as it was
    assert shown.rpartition(b"\x1b[2K")[2].lstrip().startswith(b"Scanned ")  # the bar is wiped away
    piped = run(environment, "scan", "src")
    assert piped.returncode == 0 and piped.stderr == b"" and b"\x1b" not in piped.stdout


def test_no_color(environment: dict[str, str], tmp_path: Path) -> None:
    tree(tmp_path / "src", 1)
    run(environment, "scan", "src")
    assert b"\x1b[1m" in in_terminal(environment, "symbols", "show", "f0_0")[1]
    assert b"\x1b" not in in_terminal({**environment, "NO_COLOR": "1"}, "symbols", "show", "f0_0")[1]


def test_ctrl_c_is_one_line_and_the_next_scan_carries_on(environment: dict[str, str], tmp_path: Path) -> None:
    tree(tmp_path / "src", 400, functions=30)
    code, shown = in_terminal(environment, "scan", "src", "--jobs", "2", interrupt_at=b"reading", command=AT_ONCE)
    assert code == 130
    last = shown.decode().rstrip().rpartition("\n")[2]
    assert "Interrupted: scan 1 is cancelled" in last and "Traceback" not in shown.decode()
    with Store(tmp_path / "scanstore.db") as store:
        assert store.scans.get(1).status == "cancelled"
        assert store.check() == []
    again = json.loads(run(environment, "scan", "src", "--json").stdout)
    assert again["scan"]["status"] == "completed" and again["summary"]["files"] == 400


def test_ctrl_c_wipes_the_display_and_leaves_no_new_store(environment: dict[str, str], tmp_path: Path) -> None:
    with Store(tmp_path / "a.db", durability="normal") as store:
        store.settings["key"] = 1
        store.dump(tmp_path / "one.jsonl")
    lines = (tmp_path / "one.jsonl").read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith('["key",'))
    lines[place : place + 1] = [lines[place].replace("key", f"key{number}") for number in range(150_000)]
    lines[-1] = json.dumps({"end": json.loads(lines[-1])["end"] + 149_999})
    (tmp_path / "d.jsonl").write_text("\n".join(lines) + "\n")
    load = ("load", "d.jsonl", "--db", "b.db")
    code, shown = in_terminal(environment, *load, interrupt_at=b"Loading d.jsonl", command=AT_ONCE)
    text = shown.decode()
    assert code == 130 and "Traceback" not in text and "\x1b[?25l" not in text
    assert text.rpartition("\x1b[2K")[2].strip() == "Interrupted: nothing was loaded."
    assert not list(tmp_path.glob("b.db*"))


@needs.signals
def test_interrupt_of_any_other_command_ends_with_130(environment: dict[str, str], tmp_path: Path, large: Path) -> None:
    shutil.copy(large, tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "symbols", "edges", "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()  # it is streaming, and soon waits for the full pipe
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and json.loads(told(errors)) == {"error": "Interrupted.", "exit_code": 130}


@pytest.mark.parametrize("options", [("edges",), ("unused", "--json")], ids=" ".join)
def test_a_closed_pipe_is_silent(
    environment: dict[str, str], tmp_path: Path, large: Path, options: tuple[str, ...]
) -> None:
    shutil.copy(large, tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "symbols", *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert told(process.stderr.read()) == b""
    process.wait(timeout=60)


@pytest.mark.parametrize(
    "locale",
    sampled(
        [
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"LC_ALL": "C"},
            {"PYTHONIOENCODING": "latin-1"},
        ],
        3,
    ),
    ids=str,
)
def test_any_locale_will_do(environment: dict[str, str], tmp_path: Path, locale: dict[str, str]) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "größe.py").write_text('def f():\n    """Ü 🎉 中"""\n', encoding="utf-8")
    (tmp_path / "src" / os.fsdecode(b"no\xff.py")).write_text("x = (\n")
    asked = ("symbols", "find", "f") if "PYTHONUTF8" in locale else ("symbols", "show", "f")
    for args in (("scan", "src"), asked, ("symbols", "show", "f", "--json")):
        done = run({**environment, **locale}, *args)
        assert done.returncode == 0 and told(done.stderr) == b"", done.stderr
        assert b"\xff" not in done.stdout
    assert json.loads(done.stdout)["metadata"]["docstring"] == "Ü 🎉 中"


def test_a_full_disk_under_the_output_is_one_line(environment: dict[str, str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    run(environment, "init")
    for word in ("stats", "--help"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([*COMMAND, word], env=environment, stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"No space left" in done.stderr


@pytest.mark.parametrize("missing", [("stdin",), ("stdout",), ("stderr",), ("stdin", "stdout", "stderr")])
def test_commands_do_without_the_streams_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: tuple[str, ...]
) -> None:
    """Python has None for a stream that was closed before it started, and for all of them in pythonw."""
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "src", 1)
    for name in missing:
        monkeypatch.setattr(sys, name, None)

    def code(*words: str) -> object:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return ended.value.code

    for words in (("scan", "src"), ("check",), ("backup", "copy.db"), ("restore", "copy.db")):
        assert code(*words) == 0, words
    assert code("dump", "-") == (2 if "stdout" in missing else 0)
    if "stdin" in missing:
        assert code("library", "sync", "-") == code("load", "-", "--db", "new.db") == 2
        assert not Path("new.db").exists()


def test_the_streams_are_used_in_one_place() -> None:
    folder = Path(scanstore.cli.__file__).parent
    named = re.compile(r"\bsys\.std(?:in|out|err)\b")
    assert {path.name for path in folder.glob("*.py") if named.search(path.read_text())} == {"streams.py"}


def test_help_loads_no_database(environment: dict[str, str]) -> None:
    for args in (["--help"], ["symbols", "callers", "--help"], ["scan"]):
        code = f"""
import sys
from scanstore.cli import main
try:
    main({args!r})
except SystemExit:
    pass
heavy = {{"peewee", "playhouse", "peewee_migrate", "rich", "pathspec", "sqlite3", "multiprocessing", "json"}}
print("loaded:", sorted(heavy & set(sys.modules)))
"""
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
        assert done.stdout.endswith(b"loaded: []\n"), done.stdout


def test_questions_load_neither_migrator_nor_progress_bar(environment: dict[str, str]) -> None:
    run(environment, "init")
    code = """
import sys
from scanstore.cli import main
try:
    main(["scans", "list"])
except SystemExit:
    pass
print("loaded:", sorted({"peewee_migrate", "rich", "pathspec", "multiprocessing"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    assert done.stdout.endswith(b"loaded: []\n"), done.stdout + done.stderr
