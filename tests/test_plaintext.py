"""Whatever strangers wrote, nothing of it acts on a terminal: every way to one goes by `plain_text`."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import scanstore
from scanstore import Store, dependencies
from scanstore.cli import main, output, progress
from scanstore.db import logs
from scanstore.db.plain_text import BLANKS, plain_text

PACKAGE = Path(scanstore.__file__).parent
FORMAT = "".join(chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) == "Cf")
TAGS = "".join(map(chr, range(0xE0000, 0xE0080)))
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))
#: One of each kind, with letters around, short enough for any column.
EVIL = "a\x1b[31m\x07\x9b2J\u202e\u2066\u061c\u00ad\u200b\ufeff\u2028\U000e0041\U000e0001\x7fz"
KINDS = (FORMAT, TAGS, CONTROLS, "\ud800\udfff", "\ue000\U000f0000\ufffe")
FORBIDDEN = set("".join(KINDS)) - {"\n"}


@pytest.mark.parametrize("kind", KINDS, ids=["format", "tags", "controls", "surrogates", "private and unassigned"])
def test_every_character_that_acts_is_spelled(kind: str) -> None:
    for char in kind:
        spelled = plain_text(f"a{char}b")
        assert spelled.isascii() and spelled.isprintable() and spelled[0] + spelled[-1] == "ab" and "\\" in spelled
    assert plain_text(plain_text(kind)) == plain_text(kind)


def test_what_can_be_read_stays() -> None:
    for text in ("", "plain", "größe 中文 😀 e\u0301 ❤\ufe0f", "\\x1b"):
        assert plain_text(text) == text
    assert plain_text("a\n\tb\xa0\x1b", keep="\n\t" + BLANKS) == "a\n\tb\xa0\\x1b"
    assert plain_text(EVIL).startswith(r"a\x1b[31m\x07\x9b2J\u202e\u2066\u061c\xad\u200b\ufeff\u2028\U000e0041")


# Each way to a terminal


@pytest.fixture
def evil_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose names, code and errors are as bad as a file system allows."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"t{EVIL}"
    folder.mkdir()
    (folder / f"m{EVIL}.py").write_text(
        f'"""{EVIL}"""\nimport os\nX = "{EVIL}"\n\n\ndef f(a="{EVIL}"):\n    """{EVIL}"""\n    return os.sep, g()\n\n\n'
        "def g():\n    pass\n"
    )
    (folder / f"bad{EVIL}.py").write_text("def (:\n")
    (folder / f"bin{EVIL}.dat").write_bytes(b"\0" * 9)
    return folder


def run(*args: str, codes: tuple[int, ...] = (0,)) -> Result:
    told = CliRunner().invoke(main, list(args))
    assert told.exit_code in codes, (args, told.output)
    text = told.stdout_bytes.decode() + told.stderr_bytes.decode()
    acting = set(text) & FORBIDDEN - {"\t"}  # a tab separates the cells of a list; cells have none of their own
    assert not acting, (args, [hex(ord(c)) for c in acting])
    return told


def every(document: Any) -> Iterator[str]:
    """All texts of a JSON document."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from every(value)
    elif isinstance(document, list):
        for value in document:
            yield from every(value)
    elif isinstance(document, str):
        yield document


QUESTIONS = [
    ("scans", "list"), ("scans", "show", "1"), ("symbols", "find", "f"), ("symbols", "show", "f"),
    ("symbols", "callers", "g"), ("symbols", "unused"), ("symbols", "edges"), ("symbols", "refs", "g"),
    ("findings", "list"), ("findings", "show", "1"), ("search", "a"), ("sarif", "dump"), ("report",),
    ("models", "list"), ("models", "show", "m"), ("users", "list"), ("jobs", "list"), ("settings", "list"),
    ("stats",), ("check",), ("audits", "list"), ("sessions", "list"),
]  # fmt: skip


@pytest.fixture
def evil_store(evil_tree: Path) -> Path:
    """A store full of such texts, in the current folder."""
    run("scan", evil_tree.name)
    told = {
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": EVIL, "rules": [{"id": EVIL, "shortDescription": {"text": EVIL}}]}},
            "results": [{
                "ruleId": EVIL, "level": "error", "message": {"text": EVIL},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": "m.py"}, "region": {"startLine": 1, "snippet": {"text": EVIL}},
                }}],
            }],
        }],
    }  # fmt: skip
    Path("in.sarif").write_text(json.dumps(told))
    with Store("scanstore.db") as store:
        store.sarif.load("in.sarif", target=store.scans.latest().target)
        store.llm.add("m", analysis_prompt_template=EVIL)
        store.database.execute_sql("UPDATE model_configs SET base_url = ?", (EVIL,))
        store.accounts.add("ada@example.org", full_name="Ada")
        store.database.execute_sql("UPDATE users SET full_name = ?, role = ?", (EVIL, EVIL[:40]))
        store.jobs.enqueue("sync", meta={EVIL: EVIL})
        store.settings["note"] = EVIL
        assert store.findings.list()
    return Path("scanstore.db")


def test_no_command_prints_what_acts(evil_store: Path) -> None:
    for args in QUESTIONS:
        run(*args)
        if args not in (("sarif", "dump"),):
            told = run(*args, "--json").stdout
            try:
                documents = [json.loads(told)]
            except ValueError:
                documents = [json.loads(line) for line in told.splitlines()]
            assert told.isascii() and documents
    assert any(EVIL in text for text in every(json.loads(run("settings", "list", "--json").stdout)))
    for form in ("text", "markdown", "csv", "html", "json"):
        run("report", "--format", form)
    for form in ("dot", "mermaid", "graphml"):
        run("symbols", "graph", "--format", form)


def test_errors_name_things_without_obeying_them(evil_store: Path) -> None:
    run("symbols", "show", EVIL, codes=(1, 2))
    run("scan", EVIL, codes=(1, 2))
    run("scans", "show", EVIL, codes=(1, 2))
    run(EVIL, codes=(1, 2))
    run(f"--{EVIL}", codes=(1, 2))
    run("stats", EVIL, codes=(1, 2))
    run("stats", "--db", EVIL, codes=(1, 2))
    run("load", EVIL, "--db", "new.db", codes=(1, 2))
    told = run("jobs", "cancel", EVIL, f"{EVIL}\nError: forged", codes=(1, 2))
    assert "\nError: forged" not in told.stderr
    told = run("stats", f"{EVIL}\nError: forged", codes=(1, 2))
    assert "\nError: forged" not in told.stderr and "Usage: " in told.stderr


def test_help_for_a_missing_command_keeps_its_lines() -> None:
    told = CliRunner().invoke(main, ["scans"])
    assert "Usage: " in told.output and len(told.output.splitlines()) > 5


def test_a_defect_is_printed_without_being_obeyed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Store("scanstore.db").close()

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"{EVIL}\nError: forged")

    monkeypatch.setattr(Store, "check", broken)
    told = run("check", codes=(1, 2))
    assert "RuntimeError: a\\x1b[31m" in told.stderr and "Traceback" in told.stderr
    with pytest.raises(RuntimeError):
        main(["check"], standalone_mode=False)


def test_logs_are_escaped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for handler in (logs._Stderr(), logging.StreamHandler(io.StringIO())):
        handler.setFormatter(logs.PlainFormatter("%(message)s"))
        handler.emit(logging.makeLogRecord({"msg": "%s", "args": (EVIL,)}))
    assert capsys.readouterr().err == plain_text(EVIL) + "\n"
    monkeypatch.setenv("DEBUG", "true")
    dependencies._echo_if_debugging()
    try:
        assert all(isinstance(handler.formatter, logs.PlainFormatter) for handler in dependencies._echo)
    finally:
        dependencies.close_all()


def test_json_for_a_terminal_is_the_same_document() -> None:
    document = {"a": EVIL, "é": ["😀", "\U000e0041", "\x7f", "\\u0041"], "n": 1.5}
    text = json.dumps(document, ensure_ascii=False, indent=2)
    for size in (1, 3, 7, 10_000):  # a character may be cut in two
        stream = io.BytesIO()
        ascii_only = output._AsciiJson(stream)
        data = text.encode()
        for start in range(0, len(data), size):
            ascii_only.write(data[start : start + size])
        ascii_only.flush()
        told = stream.getvalue().decode("ascii")
        assert json.loads(told) == document and not set(told) & FORBIDDEN


def test_dumps_to_a_terminal_are_ascii(evil_store: Path) -> None:
    pty = pytest.importorskip("pty")
    root = str(PACKAGE.parent)
    for args in (["dump", "-"], ["sarif", "dump"]):
        ours, theirs = pty.openpty()
        shown = b""
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "scanstore", *args],
            stdout=theirs, env={**os.environ, "PYTHONPATH": root, "NO_COLOR": "1"},
        ) as process:  # fmt: skip
            os.close(theirs)
            try:
                while block := os.read(ours, 65536):
                    shown += block
            except OSError:  # how Linux says that the other end is closed
                pass
        os.close(ours)
        assert process.returncode == 0
        text = shown.decode("ascii").replace("\r\n", "\n")
        assert not set(text) & FORBIDDEN
        documents = [json.loads(text)] if args[0] == "sarif" else [json.loads(line) for line in text.splitlines()]
        assert any(EVIL in each for each in every(documents))


def test_a_dump_to_a_pipe_or_a_file_stays_as_it_is(evil_store: Path) -> None:
    run("dump", "out.jsonl")
    told = CliRunner().invoke(main, ["dump", "-"])
    assert told.stdout_bytes == Path("out.jsonl").read_bytes() and EVIL.encode() in Path("scanstore.db").read_bytes()


def test_progress_bars_show_escaped_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import rich.progress

    shown: list[tuple[str, str]] = []

    def update(self: Any, *args: Any, **fields: Any) -> None:
        shown.append((fields["description"], fields["detail"]))

    monkeypatch.setattr(rich.progress.Progress, "update", update)
    display = progress.Display(EVIL, "rows")
    display.detail = EVIL
    display._over.set()
    display._draw()
    assert shown == [(plain_text(EVIL), plain_text(EVIL[-40:]))]


def test_one_function_escapes_and_one_module_prints() -> None:
    """Whoever adds another way to the terminal sends it through `plain_text`."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        where = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value == "unicode_escape":
                found.setdefault("unicode_escape", set()).add(where)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.setdefault("print", set()).add(where)
            if isinstance(node, ast.Attribute) and node.attr in ("echo", "secho", "echo_via_pager"):
                found.setdefault("echo", set()).add(where)
    assert found == {
        # In graphs for XML, which cannot hold some characters; in errors for the values in messages.
        "unicode_escape": {"db/plain_text.py", "errors.py", "symbols/graph_formats.py"},
        "print": {"db/logs.py", "db/schema.py"},
        "echo": {"cli/output.py", "cli/report.py"},  # a report is escaped by its writer, for where it puts each text
    }
    assert click.echo
