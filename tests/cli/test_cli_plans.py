"""Plans on the command line: made from a file, shown, reviewed, applied and taken back."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main
from scanstore.db.state_machine import CHANGE_STATUSES, PLAN_STATUSES
from scanstore.library.models import Scene, SceneTag, Tag

Run = Callable[..., Result]
module = importlib.import_module("scanstore.cli.plans")
EVIL = "pasted\x1b[31m\nfrom\u202e input"
LINES = [
    {"scene": "1", "field": "title", "action": "set", "proposed": "Uno", "confidence": 0.9},
    {"scene": "1", "field": "tags", "action": "add", "proposed": ["t2"], "confidence": 0.5},
    {"scene": "1", "field": "tags", "action": "remove", "proposed": ["t1"]},
    {"scene": "2", "field": "title", "action": "set", "proposed": "Zwei", "current": "Another"},
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line beside a store with two scenes, in a folder with a file of proposals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    monkeypatch.setenv("SCANSTORE_USER", "ann")
    with Store() as store:
        for key, title in (("1", "One"), ("2", EVIL)):
            Scene.create(id=key, title=title)
            Tag.create(id=f"t{key}", name=f"tag {key}")
        SceneTag.create(scene="1", tag="t1")
    Path("new.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES) + "\n")

    def invoke(*args: str, code: int | None = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, ("plans", *args), prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if code is not None:
            assert result.exit_code == code, result.output
        return result

    yield invoke
    with Store() as store:
        assert store.check() == []


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def titles() -> list[str]:
    with Store() as store, store.bound():
        return [row.title for row in Scene.select().order_by(Scene.id)]


def test_from_a_file_and_back(run: Run) -> None:
    before = titles()
    assert run("create", "tidy", "new.jsonl").stdout == "Plan 1 'tidy' is draft: 4 pending\n"
    assert run("list").stdout.split() == ["1", "draft", "tidy", "4", "pending"]
    shown = run("preview", "1").stdout.splitlines()
    assert shown == [
        "scene 1  One",
        '  title  "One" -> "Uno"',
        "  tags   + tag 2, - tag 1",
        "scene 2  pasted\\x1b[31m\\nfrom\\u202e input",
        "  title  as it is  (conflict: change 4 was proposed for another value)",
    ]
    done = run("review", "1", "approve", "--min-confidence", "0.6")
    assert done.stdout == "1 change approved\nPlan 1 'tidy' is reviewing: 3 pending, 1 approved\n"
    run("review", "1", "APPROVE", "--id", "2", "--id", "4", "--by", "bob")
    run("review", "1", "reject", "--scene", "1", "--field", "tag", "--id", "3")
    applied = run("apply", "1", code=1)
    assert applied.stdout == (
        "2 applied, 1 skipped, 0 failed\nPlan 1 'tidy' is applied: 1 rejected, 2 applied, 1 skipped\n"
    )
    assert applied.stderr == "see why with: scanstore plans show 1\n"
    assert titles() == ["Uno", EVIL]
    card = run("show", "1").stdout.splitlines()
    assert card[0] == "tidy" and card[1].split() == ["status", "applied"]
    assert card[-4].split() == ["1", "applied", "scene", "1", "title", "set", '"Uno"', "0.90", "ann"]
    assert "bob" in card[-1] and "title is now" in card[-1]
    (skipped,) = data(run("show", "1", "--status", "skipped", "--json"))["changes"]
    assert (skipped["id"], skipped["found_value"], skipped["reviewer"]) == (4, EVIL, "bob")
    assert run("retry", "1").stdout.startswith("1 change approved again\nPlan 1 ")
    assert data(run("apply", "1", "--force", "--json")) == {"applied": 1, "skipped": 0, "failed": 0}
    assert titles() == ["Uno", "Zwei"]
    assert run("revert", "1").stdout.startswith("3 reverted, 0 kept, 0 failed\nPlan 1 'tidy' is reverted: ")
    assert titles() == before
    assert run("remove", "1").stdout == "Removed plan 1\n"
    assert run("list").stderr.startswith("no plans here; make one with: scanstore plans create NAME FILE")


def test_handlers(run: Run) -> None:
    run("create", "tidy", "-", input=json.dumps(LINES[0]))
    run("review", "1", "approve")
    Path("remote_of_this_test.py").write_text(
        "def push(change):\n    with open('calls', 'a') as calls:\n"
        "        calls.write(f'{change.target_key} {change.field} {change.value}\\n')\n"
        "def refuse(change):\n    raise OSError('no')\nnothing = 5\n"
    )
    assert run("apply", "1", "--handler", "remote_of_this_test:refuse", code=1).stdout.startswith("0 applied, 0 skip")
    assert data(run("show", "1", "--json"))["changes"][0]["error"] == "OSError: no"
    run("retry", "1", "--id", "1")
    run("apply", "1", "--id", "1", "--handler", "remote_of_this_test:push")
    run("revert", "1", "--handler", "remote_of_this_test:push")
    assert Path("calls").read_text() == "1 title Uno\n1 title One\n"
    for given, code, message in (
        ("push", 2, "names no function; give MODULE:FUNCTION"),
        ("nowhere_at_all:push", 1, "cannot be imported: ModuleNotFoundError"),
        ("remote_of_this_test:pull", 1, "cannot be imported: AttributeError"),
        ("remote_of_this_test:nothing", 1, "is not a function"),
    ):
        assert message in run("apply", "1", "--handler", given, code=code).stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "new.jsonl line 2 is not JSON"),
        ("[1]", "new.jsonl line 2 is not a JSON object"),
        ('{"scene": "1"}', "proposal 1: proposed is missing"),
        ('{"scene": "9", "field": "title", "action": "set", "proposed": "x"}', "no scene '9'"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_bad_file_leaves_nothing(run: Run, content: str, message: str) -> None:
    text = json.dumps(LINES[0]) + "\n" + content
    Path("new.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    error = run("create", "tidy", "new.jsonl", code=1).stderr
    assert message in error and error.count("\n") == 1
    assert data(run("list", "--json")) == []


def test_submit_and_cancel(run: Run) -> None:
    with Store() as store:
        store.plans.add("by a script", description="why\nnot")
    assert run("review", "1", "approve", code=1).stderr == (
        "Error: plan 1 is pending and cannot be reviewed; submit it first: store.plans.submit(plan)"
        " (scanstore plans submit PLAN)\n"
    )
    assert run("submit", "1").stdout == "Plan 1 'by a script' is draft: no changes\n"
    assert data(run("cancel", "1", "--json"))["status"] == "cancelled"
    assert "cancelled" in run("cancel", "1", code=1).stderr
    assert run("show", "1").stdout.splitlines()[-4:] == ["", "description:", "  why", "  not"]
    assert run("preview", "1").stderr.startswith("plan 1 has nothing left to apply")
    assert "no plan 7; " in run("apply", "7", code=1).stderr
    assert run("review", "1", "maybe", code=2).stderr


def test_show_is_limited(run: Run) -> None:
    run("create", "tidy", "new.jsonl")
    shown = run("show", "1", "--limit", "2")
    assert shown.stderr == "the first 2 changes; see all with: scanstore plans changes 1\n"
    assert len(data(run("show", "1", "--limit", "2", "--scene", "1", "--json"))["changes"]) == 2
    assert len(data(run("list", "--status", "draft", "--limit", "1", "--json"))) == 1
    Path("long.jsonl").write_text(json.dumps({**LINES[0], "proposed": "x" * 500}))
    run("create", "long", "long.jsonl")
    assert max(map(len, run("show", "2").stdout.splitlines())) < 130


def test_words_are_those_of_the_api() -> None:
    assert module.STATUSES == PLAN_STATUSES and module.CHANGE_STATUSES == CHANGE_STATUSES


def test_every_command_has_an_example_and_the_options_of_all() -> None:
    for name, command in module.plans.commands.items():
        assert command.help and f"scanstore plans {name}" in command.help, name
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--db"} <= options, name
        assert "..." not in command.get_short_help_str(65), name
