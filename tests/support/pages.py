"""Run the blocks of a page as a reader would: in one folder that starts empty, from top to bottom, and then again.

A comment above a block says how it is run:

- ``<!-- file: NAME -->``: the block is written to that file. The text above it shows the name.
- ``<!-- continues -->``: the Python block goes on with the names of the one before it; otherwise it starts without any.
- ``<!-- once: REASON -->``: the block is left out when the page is run again in the same folder.
- ``<!-- needs: NAME -->``: without this program or module the block is skipped. Above no block, it is for the page. A
  name that is typed as a command must be a program.
- ``<!-- not run: REASON -->``: the block is not run at all. `tests/test_pages.py` counts these.

Kinds of blocks:

- ``python`` is executed. It prints the ``text`` block that follows, or nothing. A text after a paragraph that begins
  with "Run it again" is the output of the second time.
- ``console`` has commands after ``$`` with the output of each. They are run by bash and see a terminal of 120 columns.
  A command goes on in the next line after a backslash, inside quotes, and in a here-document (lines that begin with
  ``> ``). A command that fails shows an error message, or is followed by ``$ echo $?``.
- ``sql`` is a query in the store that the page has made. The text that follows has its rows as the sqlite3 shell
  prints them: ``|`` between the columns.
- Any other block is a file or is not run.

In all output ``…`` stands for any text, or as a line for any lines. ``/home/me/demo`` is the folder, ``/home/me`` the
home of the reader, and ``/home/me/scanstore`` the checkout of the project. In the output of commands, these match any
of their kind: durations (``4.2 s``), sizes (``26.4 MB``), moments (``2026-01-31 09:30 UTC``, ``2026-01-31T09:30:00Z``,
``20260131T093000000Z``) and UUIDs. A UUID that was shown may be used in later commands. Two or more spaces match any
number of them. The line on stderr that names the scan (``scan 1 of /home/me/demo/app, …``) may be left out.

``PYTHONPATH=.:tests/support python tests/test_pages.py PAGE`` writes the output of a page again. With
``--keep FOLDER`` the page is run once, and what it makes is kept in FOLDER/me/demo.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import pkgutil
import re
import runpy
import shlex
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^(?P<fence>`{3,})(?P<kind>[^\n]*)\n(?P<body>.*?)^(?P=fence) *$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- (file|needs|once|not run|continues)(?:: (.+?))? -->$", re.MULTILINE)
AGAIN = re.compile(r"\s*Run it again[^`]*\s*")
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
#: What differs from run to run: a part of a line is matched by the pattern that it matches itself.
VARIABLE = {
    "any": "…",
    "uuid": UUID,
    "moment": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00| [A-Z]{3,4}\b)?",
    "stamp": r"\d{8}T\d{9}Z",
    "duration": r"\b\d[\d,]*(?:\.\d+)? (?:ms|s)\b",
    "size": r"\b\d[\d,]*(?:\.\d+)? (?:bytes?|kB|MB|GB)\b",
    "gap": " {2,}",
}
NOTE = re.compile(r"^scan \d+ of .* UTC(?:; .* since)?\n", re.MULTILINE)
PARTS = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in VARIABLE.items()))
PLAIN = re.compile(r"""(?:[\w@%+=:,./-]|'[^']*'|"[^"$`\\!]*"|[ \t])+?(?P<comment>\s+#.*)?""", re.DOTALL)
ASSIGNED = re.compile(r"\w+=")
SECONDS = 60
NOWHERE = (0, 0)  # the output of a block that shows none

WRAPPER = """\
#!{python}
import os, sys
sys.path.insert(0, {root!r})
out = os.fstat(1)
if os.environ.get("PAGE_OUTPUT") == f"{{out.st_dev}}:{{out.st_ino}}":
    sys.stdout.isatty = lambda: True
from scanstore.cli import main
main(prog_name="scanstore")
"""


class Untrue(AssertionError):
    """A page says something else than what happens."""


@dataclass(frozen=True)
class Command:
    """A command of a console block, with the output that the page shows and where that begins and ends in the page."""

    line: str
    output: str
    start: int
    end: int
    asked: bool = False  # whether the next command prints the exit code


@dataclass(frozen=True)
class Block:
    """A block of a page. `output` and `again` are the places of the texts below it."""

    kind: str
    body: str
    start: int
    line: int
    marks: dict[str, str]
    above: str  # the text between the block before and this one, without marks
    output: tuple[int, int] | None = None
    again: tuple[int, int] | None = None


@dataclass
class Page:
    """The blocks of a page, in their order."""

    text: str
    blocks: list[Block] = field(default_factory=list)
    needs: str = ""

    def __post_init__(self) -> None:
        found = list(BLOCK.finditer(self.text))
        assert len(re.findall(r"^\s*```", self.text, re.MULTILINE)) == 2 * len(found), "a block is indented or open"
        end, waiting = 0, False
        for match in found:
            between = self.text[end : match.start()]
            above = re.search(r"(?:<!--[^\n]*-->\s*)*\Z", between)
            assert above is not None
            marks = {name: value or "" for name, value in MARK.findall(above[0])}
            before = MARK.findall(between[: above.start()])
            self.needs += "".join(f"{value} " for name, value in before if name == "needs")
            body, kind, end = match.span("body"), match["kind"].strip(), match.end()
            last = self.blocks[-1] if self.blocks else None
            if kind == "text" and not marks and last and waiting and not between.strip():
                self.blocks[-1] = Block(**{**vars(last), "output": body})
            elif kind == "text" and not marks and last and last.output and AGAIN.fullmatch(between):
                self.blocks[-1] = Block(**{**vars(last), "again": body})
            else:
                line = self.text.count("\n", 0, match.start()) + 1
                self.blocks.append(Block(kind, match["body"], body[0], line, marks, between[: above.start()]))
            waiting = self.blocks[-1].kind in ("python", "sql") and self.blocks[-1].output is None

    def not_run(self) -> list[str]:
        """Return why blocks of this page are not run."""
        return [block.marks["not run"] for block in self.blocks if "not run" in block.marks]


def scripts(path: Path) -> list[str]:
    """Return the Python blocks of a page that use scanstore, with those that they continue: what type checkers read."""
    found: list[str] = []
    for block in Page(path.read_text(encoding="utf-8")).blocks:
        if block.kind != "python" or ("file" in block.marks and "scanstore" not in block.body):
            continue
        if "continues" in block.marks:
            found[-1] += block.body
        else:
            found.append(block.body)
    return found


def commands(block: Block) -> list[Command]:
    """Return the commands of a console block."""
    found: list[Command] = []
    place, lines = block.start, block.body.splitlines(keepends=True)
    while lines:
        line = lines.pop(0)
        place += len(line)
        if not line.startswith("$ "):
            raise Untrue(f"line {block.line}: a console block starts with `$ `, not with {line!r}")
        command = line[2:].rstrip("\n")
        while unfinished(command, lines):
            more = lines.pop(0)
            place += len(more)
            command += "\n" + more.rstrip("\n").removeprefix("> ").removeprefix(">")
        start, output = place, ""
        while lines and not lines[0].startswith("$ "):
            output += lines[0]
            place += len(lines.pop(0))
        asked = bool(lines) and lines[0].startswith("$ echo $?")
        found.append(Command(command.replace("\\\n", " "), output, start, place, asked))
    return found


def unfinished(command: str, lines: list[str]) -> bool:
    """Tell whether a command goes on in the next line."""
    if not lines:
        return False
    if command.endswith("\\"):
        return True
    if (document := re.search(r"<<-?\s*['\"]?(\w+)", command)) is not None:
        return document[1] not in command.splitlines()[1:] and lines[0].startswith(">")
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return lines[0].startswith(">")
    return False


def lacks(names: str, body: str = "", missing: Collection[str] = ()) -> list[str]:
    """Return those of some modules and programs that this system does not have."""
    found: list[str] = []
    for name in names.replace(",", " ").split():
        typed = re.search(rf"^\$ (?:.*[;&|] *)?{re.escape(name)} ", body, re.MULTILINE)
        if name in missing or (not runs(name) and (typed or importlib.util.find_spec(name) is None)):
            found.append(name)
    return found


@cache
def runs(name: str) -> bool:
    """Tell whether a program is there. Only universal-ctags, which is called ctags, writes JSON."""
    if name == "universal-ctags":
        return runs("ctags") and b"json" in subprocess.run(["ctags", "--list-features"], capture_output=True).stdout
    return shutil.which(name) is not None


# Output


def pattern(expected: str, known: dict[str, str], *, exact: bool) -> re.Pattern[str]:
    """Return the pattern of an output that a page shows."""
    lines = []
    for line in expected.splitlines():
        if line.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
            continue
        made, end = "", 0
        for part in PARTS.finditer(line):
            made += re.escape(line[end : part.start()])
            kind, end = part.lastgroup or "", part.end()
            if kind == "any":
                made += r"[^\n]*?"
            elif exact:
                made += re.escape(part[0])
            else:
                made += f"({UUID})" if kind == "uuid" and part[0] not in known else VARIABLE[kind]
                if kind == "uuid" and part[0] in known:
                    made = made[: -len(UUID)] + known[part[0]]
        lines.append(made + re.escape(line[end:]) + r"\n")
    return re.compile("".join(lines))


def tidy(text: str) -> str:
    """Return a text without spaces at the ends of its lines, and with a line break at its end."""
    return "".join(f"{line.rstrip()}\n" for line in text.split("\n")).rstrip("\n") + "\n" if text.strip() else ""


# The reader


@cache
def imported() -> None:
    """Import what commands use when they are called, so that a fork of this process has it."""

    import scanstore as package

    for module in pkgutil.walk_packages(package.__path__, "scanstore."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)


class Reader:
    """A person who types what a page says: a folder, an environment and the last exit code."""

    def __init__(self, folder: Path) -> None:
        imported()
        folder = folder.resolve()
        self.home = folder / "me"
        self.here = self.home / "demo"
        self.here.mkdir(parents=True)
        (self.home / "scanstore").symlink_to(ROOT)
        self.state, self.sink, shims = folder / "state", folder / "output", folder / "bin"
        shims.mkdir()
        self.shim(shims / "scanstore", WRAPPER.format(python=sys.executable, root=str(ROOT)))
        for name in ("python", "python3"):
            self.shim(shims / name, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        self.output = os.open(self.sink, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        place = os.fstat(self.output)
        left_out = ("SCANSTORE", "XDG", "PYTEST", "COV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        self.environment = kept | {
            "PATH": os.pathsep.join((str(shims), os.path.dirname(sys.executable), os.environ["PATH"])),
            "PAGE_OUTPUT": f"{place.st_dev}:{place.st_ino}",
            "PAGE_STATE": str(self.state),
            **{"HOME": str(self.home), "LOGNAME": "me", "USER": "me", "TZ": "UTC", "COLUMNS": "120", "LINES": "40"},
            **{"NO_COLOR": "1", "TERM": "xterm", "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8"},
        }
        self.status = 0
        self.known: dict[str, str] = {}  # UUIDs: as the page shows them, and as they are
        self.script: Script | None = None

    @staticmethod
    def shim(path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def close(self) -> None:
        self.stop()
        os.close(self.output)

    def stop(self) -> None:
        """End the last Python block."""
        if self.script is not None:
            self.script.close()
            self.script = None

    @contextlib.contextmanager
    def told(self, into: list[str]) -> Iterator[None]:
        """Collect what is written in a block."""
        start = os.fstat(self.output).st_size
        yield
        text = os.pread(self.output, os.fstat(self.output).st_size - start, start).decode(errors="replace")
        into.append(tidy(text.replace(str(self.home), "/home/me")))

    def python(self, code: str, name: str, *, continues: bool) -> None:
        """Execute a block."""
        if self.script is None or not continues:
            self.stop()
            self.script = Script(self)
        self.status = self.script.run(code, name)

    def type(self, line: str) -> None:
        """Run a command: quickly, in a fork of this process, if it is one command of scanstore or a script."""
        for shown, real in self.known.items():
            line = line.replace(shown, real)
        words, plain = [], PLAIN.fullmatch(line)
        if plain is not None:
            words = shlex.split(line[: plain.start("comment")] if plain["comment"] else line)
        given: dict[str, str] = {}
        while words and ASSIGNED.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            given[name] = value
        if words[:1] == ["scanstore"]:
            self.status = self.fork(lambda: scanstore(words), given)
        elif words[:1] in (["python"], ["python3"]) and words[1:2] and words[1].endswith(".py"):
            self.status = self.fork(lambda: script(words[1:]), given)
        else:
            self.bash(line)

    def bash(self, line: str) -> None:
        keep = "trap '__status=$?; { pwd -P; env -0; } >\"$PAGE_STATE\"; exit $__status' EXIT"
        ended = subprocess.run(
            ["bash", "-c", f"{keep}\n(exit {self.status})\n{line}"],
            cwd=self.here,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            timeout=SECONDS,
        )
        self.status = ended.returncode
        folder, _, variables = self.state.read_text(encoding="utf-8").partition("\n")
        self.here = Path(folder)
        self.environment = dict(each.split("=", 1) for each in variables.split("\0") if each)

    def fork(self, work: Callable[[], object], given: dict[str, str] | None = None) -> int:
        """Run some work in a process with this folder and environment; return its exit code."""
        with warnings.catch_warnings(action="ignore"):  # the threads of this process do nothing for the other one
            pid = os.fork()
        if pid == 0:
            os._exit(self.inside(work, given or {}))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def inside(self, work: Callable[[], object], given: dict[str, str]) -> int:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(self.output, 1)
            os.dup2(self.output, 2)
            os.chdir(self.here)
            for file in self.here.glob("*.py"):  # another test may have imported a module of that name
                sys.modules.pop(file.stem, None)
            os.environ.clear()
            os.environ.update(self.environment | given)
            time.tzset()
            logging.getLogger().handlers.clear()
            sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
            sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            return ended(work)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()


def ended(work: Callable[[], object]) -> int:
    """Do some work as Python would; return the exit code."""
    try:
        work()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def scanstore(words: list[str]) -> None:
    """Run a command of scanstore, on a terminal."""
    from scanstore.cli import main

    sys.stdout.isatty = lambda: True  # type: ignore[method-assign]
    sys.argv = words
    main(words[1:], prog_name="scanstore")


def script(words: list[str]) -> None:
    """Run a script."""
    sys.argv = words
    sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
    runpy.run_path(words[0], run_name="__main__")


def execute(code: str, name: str, names: dict[str, Any]) -> None:
    """Execute a block."""
    exec(compile(code, name, "exec", dont_inherit=True), names)


class Script:
    """A process that executes Python blocks, one after another, with the same names."""

    def __init__(self, reader: Reader) -> None:
        asked, ask = os.pipe()
        answer, answered = os.pipe()
        with warnings.catch_warnings(action="ignore"):
            self.pid = os.fork()
        if self.pid == 0:
            os.close(ask)
            os.close(answer)
            os._exit(reader.inside(lambda: self.answers(asked, answered), {}))
        os.close(asked)
        os.close(answered)
        self.ask, self.answer = os.fdopen(ask, "w"), os.fdopen(answer)

    @staticmethod
    def answers(asked: int, answered: int) -> None:
        names: dict[str, Any] = {"__name__": "__main__"}
        with os.fdopen(asked) as questions:
            for question in questions:
                signal.alarm(SECONDS)
                code, name = json.loads(question)
                status = ended(partial(execute, code, name, names))
                sys.stdout.flush()
                os.write(answered, f"{status}\n".encode())

    def run(self, code: str, name: str) -> int:
        self.ask.write(json.dumps([code, name]) + "\n")
        self.ask.flush()
        return int(self.answer.readline() or 1)

    def close(self) -> None:
        self.ask.close()
        os.waitpid(self.pid, 0)
        self.answer.close()


# The page


class Run:
    """A page that is run, once or again. `changed` has the texts that a page should show, by their places."""

    def __init__(self, page: Page, folder: Path, *, strict: bool = True) -> None:
        self.page, self.strict = page, strict
        self.reader = Reader(folder)
        self.first: dict[int, int] = {}  # exit codes of the first time, by the place of the output
        self.changed: dict[tuple[int, int], str] = {}
        self.skipped: list[str] = []
        self.missing: set[str] = set()  # what an earlier block did not find

    def __call__(self, times: int = 2) -> None:
        """Run the page so many times in the same folder. Raises Untrue."""
        try:
            for again in range(times):
                for block in self.page.blocks:
                    self.block(block, again > 0)
                self.reader.stop()
        finally:
            self.reader.close()

    def block(self, block: Block, again: bool) -> None:
        if "not run" in block.marks or block.kind.startswith("{") or (again and "once" in block.marks):
            return
        if missing := lacks(block.marks.get("needs", ""), block.body, self.missing):
            self.missing.update(missing)
            self.skipped += [] if again else [f"line {block.line} needs {', '.join(missing)}"]
        elif "file" in block.marks:
            path = self.reader.here / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        elif block.kind == "console":
            for command in commands(block):
                self.command(command, block, again)
        elif block.kind in ("python", "sql"):
            told: list[str] = []
            with self.reader.told(told):
                if block.kind == "python":
                    self.reader.python(block.body, f"<line {block.line}>", continues="continues" in block.marks)
                else:
                    os.write(self.reader.output, rows(block.body, self.reader.here).encode())
            if self.reader.status:
                raise Untrue(f"line {block.line}: the block failed:\n{told[0]}")
            place = block.again if again else block.output or NOWHERE
            if place is not None:
                self.compare(place, told[0], f"line {block.line}", exact=True)
        else:
            raise Untrue(f"line {block.line}: a block of kind {block.kind!r} is neither run nor marked")

    def command(self, command: Command, block: Block, again: bool) -> None:
        told: list[str] = []
        with self.reader.told(told):
            self.reader.type(command.line)
        status, what = self.reader.status, f"line {block.line}: $ {command.line}"
        if again:
            if status not in (0, self.first[command.start]):
                raise Untrue(f"{what}\nends with {status} the second time:\n{told[0]}")
            return
        self.first[command.start] = status
        self.compare((command.start, command.end), told[0], what, exact=False)
        if status and not command.asked and not re.search("^(Error|Usage)", told[0], re.MULTILINE):
            raise Untrue(f"{what}\nends with {status}, and the page does not say so:\n{told[0]}")

    def compare(self, place: tuple[int, int], told: str, what: str, *, exact: bool) -> None:
        expected = tidy(self.page.text[slice(*place)])
        told = told if NOTE.search(expected) else NOTE.sub("", told)
        match = pattern(expected, self.reader.known, exact=exact).fullmatch(told)
        if match is None:
            if self.strict or place == NOWHERE:
                raise Untrue(f"{what}\nprints:\n{told}\nand not:\n{expected}")
            self.changed[place] = told
        elif not exact:
            shown = [uuid for uuid in re.findall(UUID, expected) if uuid not in self.reader.known]
            self.reader.known.update(zip(shown, match.groups(), strict=True))


def rows(query: str, folder: Path) -> str:
    """Run queries in the store of a folder; return the rows as the sqlite3 shell prints them."""
    path = folder / "scanstore.db"
    connection = sqlite3.connect(path if path.exists() else folder / "scan.db")
    out, statement = io.StringIO(), ""
    try:
        for line in query.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                for row in connection.execute(statement):
                    print("|".join("" if cell is None else str(cell) for cell in row), file=out)
                statement = ""
        if statement.strip():
            raise Untrue(f"a query ends with `;`: {statement}")
    finally:
        connection.close()
    return out.getvalue()


def rewritten(page: Page, folder: Path, times: int = 2) -> str:
    """Return the text of a page with the output as it is."""
    run = Run(page, folder, strict=False)
    try:
        run(times)
    except Untrue as error:
        print(error, file=sys.stderr)
    text = page.text
    for (start, end), told in sorted(run.changed.items(), reverse=True):
        text = text[:start] + told + text[end:]
    return text
