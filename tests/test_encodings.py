"""Text in and out where UTF-8 is not the default: Windows' console (test_cli_terminal.py has the C locale)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import scanstore
from scanstore import Store, seed_db
from scanstore.cli import main

PACKAGE = Path(scanstore.__file__).parent
ODD = "größe → 中 🎉 \u202e ⇄"
LASTING = {"work", "watch", "drop", "shell"}  # commands that wait, or leave nothing for the others


def leaves(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command


LEAVES = list(leaves(main))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose names and texts are in no code page."""
    folder = tmp_path_factory.mktemp("odd")
    path = folder / "scan.db"
    seed_db(path)
    (folder / "größe 中").mkdir()
    (folder / "größe 中/größe.py").write_text(f'def größe():\n    """{ODD}"""\n    return 中()\n', encoding="utf-8")
    with Store(path) as store:
        store.scans.record(folder / "größe 中")
        store.settings["odd"] = ODD
        store.jobs.enqueue("work", unique=ODD)
    return path


def test_every_command_can_print(full: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the encoding does not have is spelled out; nothing raises, and nothing breaks in one column."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1")
    monkeypatch.setenv("SCANSTORE_DB", str(full))
    runner, shown, tried = CliRunner(charset="cp1252"), "", 0
    for path, command in LEAVES:
        if path[-1] in LASTING or any(isinstance(p, click.Argument) and p.required for p in command.params):
            continue
        done = runner.invoke(main, path)
        assert done.exception is None or isinstance(done.exception, SystemExit), (path, done.exception)
        shown += done.stdout_bytes.decode("cp1252")
        tried += 1
    assert tried > 40
    for path in (("settings", "get", "odd"), ("symbols", "find", "größe"), ("symbols", "show", "größe")):
        done = runner.invoke(main, path)
        assert done.exit_code == 0, done.output
        shown += done.stdout_bytes.decode("cp1252")
    assert "\\u4e2d" in shown and "größe" in shown


def test_every_text_file_names_its_encoding() -> None:
    """The default is a code page on Windows, so each call that reads or writes text says ``encoding=``."""
    found, seen = [], 0
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "migrations").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _is_text(node):
                seen += 1
                if not any(word.arg in ("encoding", None) for word in node.keywords):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == [] and seen > 0


def _is_text(call: ast.Call) -> bool:
    function, words = call.func, {word.arg: word.value for word in call.keywords}
    name = getattr(function, "attr", getattr(function, "id", ""))
    owner = getattr(getattr(function, "value", None), "id", "")
    if name in ("read_text", "write_text", "TextIOWrapper", "getreader"):
        return len(call.args) < (2 if name == "write_text" else 1) or name in ("TextIOWrapper", "getreader")
    if name in ("run", "Popen", "check_output", "check_call", "call") and owner == "subprocess":
        return bool({"text", "universal_newlines"} & set(words))
    if name == "open" and owner in ("", "io", "gzip", "bz2", "lzma"):
        if isinstance(function, ast.Attribute) and owner == "":
            return False  # the method of some object
        mode = words.get("mode", call.args[1] if len(call.args) > 1 else None)
        return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
    if name in ("NamedTemporaryFile", "TemporaryFile", "fdopen"):
        at = int(name == "fdopen")
        mode = words.get("mode", call.args[at] if len(call.args) > at else None)
        return isinstance(mode, ast.Constant) and "b" not in str(mode.value)
    return False
