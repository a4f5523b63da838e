"""`scanstore settings` and `scanstore init|seed|health|drop`: what they print, and how they end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main

Run = Callable[..., Result]


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


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.output, result.stderr
    return result.stderr.strip()


# settings


@pytest.mark.parametrize(
    ("given", "kept", "shown"),
    [
        ("50", 50, "50"), ("true", True, "true"), ("null", None, "null"), ("hello", "hello", "hello"),
        ('"hi"', "hi", "hi"), ('["a", 1]', ["a", 1], '["a", 1]'), ("{x", "{x", "{x"), ("007", "007", "007"),
        ("größe", "größe", "größe"), ("", "", ""), ("a\nb\x1b[2J", "a\nb\x1b[2J", r"a\nb\x1b[2J"),
    ],
)  # fmt: skip
def test_set_and_get(run: Run, given: str, kept: Any, shown: str) -> None:
    assert run("settings", "set", "x", given).stdout == f"x = {shown}\n"
    assert run("settings", "get", "x").stdout == f"{shown}\n"
    assert data(run("settings", "get", "x", "--json")) == kept
    assert data(run("settings", "set", "x", given, "--json")) == {"key": "x", "value": kept}


def test_text_is_kept_as_text(run: Run) -> None:
    run("settings", "set", "x", "50", "--text")
    assert data(run("settings", "get", "x", "--json")) == "50"


def test_list_and_unset(run: Run) -> None:
    run("init")
    assert one_line(run("settings", "list")) == "no settings here; set one with: scanstore settings set KEY VALUE"
    run("settings", "set", "page_size", "50", "--description", "Rows of a page")
    run("settings", "set", "colours", '["red"]')
    run("settings", "set", "page_size", "60")
    assert run("settings", "list").stdout == 'colours\t["red"]\t\npage_size\t60\tRows of a page\n'
    assert [(row["key"], row["value"]) for row in data(run("settings", "list", "--json"))] == [
        ("colours", ["red"]), ("page_size", 60)
    ]  # fmt: skip
    assert run("settings", "unset", "colours").stdout == "Unset colours\n"
    assert data(run("settings", "unset", "page_size", "--json")) == {"unset": "page_size"}
    for verb in ("get", "unset"):
        assert "no setting 'colours'; set it first" in one_line(run("settings", verb, "colours", code=1))


@pytest.mark.parametrize(("key", "value"), [("", "1"), (" ", "1"), ("x", "NaN"), ("x", "[Infinity]")])
def test_bad_settings_are_one_line(run: Run, key: str, value: str) -> None:
    run("init")
    assert one_line(run("settings", "set", key, value, code=1)).startswith("Error: ")
    assert data(run("settings", "list", "--json")) == []


# seed


def test_seed(run: Run, tmp_path: Path) -> None:
    assert run("seed").stdout == ("Added 2 settings, 1 studio, 2 performers, 2 tags, 2 scenes, 1 model, 1 schedule\n")
    assert one_line(run("seed")) == "nothing to add: all rows exist already"
    (tmp_path / "first.json").write_text(json.dumps({"settings": {"a": 1}, "tags": []}))
    assert data(run("seed", "first.json", "--json", "--db", "other.db")) == {"settings": 1, "tags": 0}
    (tmp_path / "bad.toml").write_text("[tagz]")
    assert "has a section 'tagz'; there may be: settings, " in one_line(run("seed", "bad.toml", code=1))
    assert "there is no file 'none.toml'" in one_line(run("seed", "none.toml", code=1))


# health


def test_health(run: Run, tmp_path: Path) -> None:
    assert run("health", code=1).stdout == "scanstore.db does not exist; make it with init_db (scanstore init)\n"
    assert os.listdir(tmp_path) == []
    run("init")
    text = run("health").stdout
    assert text.startswith(f"{tmp_path / 'scanstore.db'}: no problems found (schema ") and "writable, SQLite 3." in text
    found = data(run("health", "--json", "--thorough"))
    assert found["ok"] is True and found["problems"] == []
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 9)
    assert "is not a SQLite database" in run("health", "--db", "text", code=1).stdout
    assert data(run("health", "--db", "text", "--json", code=1))["ok"] is False
    with Store("scanstore.db") as store:
        store.schedules.add("x", "sync", "* * * * *")
        store.database.execute_sql("UPDATE scheduled_tasks SET next_run = NULL")
    run("health")
    assert "without a next run" in run("health", "--thorough", code=1).stdout
    with Store("scanstore.db") as store:
        store.schedules.remove("x")


# drop


def test_drop_asks(run: Run, tmp_path: Path) -> None:
    run("init")
    for answer in ("n\n", "\n"):
        result = run("drop", input=answer, code=1)
        assert "Delete scanstore.db, " in result.stderr and "Nothing was deleted.\n" in result.stderr
    run("drop", input="", code=1)
    assert os.listdir(tmp_path) == ["scanstore.db"]
    assert run("drop", input="y\n").stdout == f"Deleted {tmp_path / 'scanstore.db'}\n"
    assert os.listdir(tmp_path) == []
    run("init")
    assert data(run("drop", "--yes", "--json")) == {"dropped": str(tmp_path / "scanstore.db")}
    assert os.listdir(tmp_path) == []


def test_drop_refuses(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanstore.provisioning.PATIENCE", 0.05)
    assert "no store at scanstore.db" in one_line(run("drop", "--yes", code=1))
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 9)
    assert "is not a scanstore, or needs its key" in one_line(run("drop", "--yes", "--db", "text", code=1))
    run("init")
    with Store("scanstore.db"):
        assert "is in use, so it is not dropped" in one_line(run("drop", "--yes", code=1))
    assert sorted(os.listdir(tmp_path)) == ["scanstore.db", "text"]
