"""`scanstore audits`: what it prints for people and for programs, and what it refuses."""

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
from scanstore.models import User

Run = Callable[..., Result]
NOBODY = "00000000-0000-0000-0000-000000000007"
ANALYSIS = {"equipment_type": "panel", "test_type": "grounding", "equipment_tag": "PNL-01", "confidence_score": 0.9}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    monkeypatch.setenv("SCANSTORE_USER", "ann")

    def invoke(*args: str, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, ["audits", *args], prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield invoke
    with Store("scanstore.db") as store:
        assert store.check() == []


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.output, result.stderr
    return result.stderr.strip()


@pytest.fixture
def made(run: Run) -> list[str]:
    """One audit that waits for a person, and one that waits for a worker."""
    with Store("scanstore.db") as store:
        user = User.create(email="bob@example.org", email_key="bob@example.org")
        first, second = store.audits.add(user, "report.pdf", 12_300), store.audits.add(user, "later.pdf", 1)
        found = {"severity": "major", "rule_id": "GND-01", "message": "too much\nresistance", "evidence": {"page": 3}}
        more = {"severity": "info", "rule_id": "CAL-02", "message": "old", "remediation": "calibrate"}
        store.audits.complete(first, analysis=ANALYSIS, findings=[found, more])
        return [first.id, second.id]


def test_list(run: Run, made: list[str]) -> None:
    second, first = run("list").stdout.splitlines()
    assert first.split() == [made[0], "completed", "review", "90", "report.pdf"]
    assert second.split() == [made[1], "queued", "later.pdf"]
    assert run("list", "--verdict", "review").stdout.split() == first.split()
    assert run("list", "--status", "queued", "--user", "BOB@example.org", "--limit", "1").stdout.split()[0] == made[1]
    waiting, over = data(run("list", "--json"))
    assert (waiting["id"], waiting["analysis"], over["analysis"]["compliance_score"]) == (made[1], None, 90.0)
    assert one_line(run("list", "--status", "failed")) == "no audits like that"
    assert "eve@example.org" in one_line(run("list", "--user", "eve@example.org", code=1))


def test_show(run: Run, made: list[str]) -> None:
    shown = run("show", made[0]).stdout
    assert shown.startswith("report.pdf, 12.3 kB: completed\n")
    texts = ("     too much\n     resistance\n", '     evidence: {"page": 3}\n', "     to do: calibrate\n")
    for part in ("panel PNL-01", "grounding", "review by deductions", "2 findings:", "  1  major     GND-01", *texts):
        assert part in shown, part
    document = data(run("show", made[0], "--json"))
    assert document["analysis"]["verdict"] == "review" and len(document["findings"]) == 2
    assert data(run("show", document["analysis"]["id"], "--json")) == document
    assert "later.pdf, 1 B: queued\n" in run("show", made[1]).stdout
    assert (data(run("show", made[1], "--json"))["analysis"], data(run("show", made[1], "--json"))["findings"]) == (
        None,
        [],
    )
    assert one_line(run("show", NOBODY, code=1)).startswith(f"Error: no audit {NOBODY}; ")
    assert "'x' is not an audit; give a row or its id" in one_line(run("show", "x", code=1))


def test_review(run: Run, made: list[str]) -> None:
    line = run("review", made[0], "approved", "--reason", "measured again").stdout
    assert line == f"Audit {made[0]}: approved by ann; the machine verdict is review\n"
    row = data(run("review", made[0], "REJECTED", "-r", "wrong device", "--by", "eve", "--json"))
    assert (row["verdict"], row["machine_verdict"], row["reviewed_by"]) == ("rejected", "review", "eve")
    shown = run("show", made[0]).stdout
    assert "rejected by eve, " in shown and ": wrong device" in shown
    assert run("review", made[0], "approved", code=2).stderr.strip().endswith("Missing option '--reason' / '-r'.")
    run("review", made[0], "review", "--reason", "x", code=2)
    assert "reason is ' '" in one_line(run("review", made[0], "approved", "--reason", " ", code=1))
    assert "is queued and has no analysis" in one_line(run("review", made[1], "approved", "--reason", "x", code=1))
    assert data(run("show", made[0], "--json"))["analysis"]["reviewed_by"] == "eve"


def test_trail(run: Run, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run("review", made[0], "approved", "--reason", "measured again")
    created, completed, reviewed = run("trail", made[0]).stdout.splitlines()
    assert created.split()[1:3] == ["ann", "created"] and "file_size 12300" in created
    assert "verdict review, compliance_score 90.0, policy deductions, findings 2" in completed
    assert reviewed.split()[1:3] == ["ann", "reviewed"] and "from review, to approved" in reviewed
    last = run("trail", made[0], "--sort", "-time", "--limit", "1")
    assert last.stdout.split() == reviewed.split()
    assert [row["action"] for row in data(run("trail", made[0], "--json"))] == ["created", "completed", "reviewed"]
    monkeypatch.setattr(importlib.import_module("scanstore.cli.audits"), "PER_PAGE", 2)
    assert len(run("trail", made[0]).stdout.splitlines()) == 3
    assert one_line(run("trail", NOBODY, code=1)).startswith(f"Error: no audit {NOBODY}; ")


def test_nothing_of_a_stranger_is_obeyed_by_the_terminal(run: Run) -> None:
    evil = "a\x1b[2Jb\nc\x9b"
    with Store("scanstore.db") as store:
        user = User.create(email="bob@example.org", email_key="bob@example.org")
        task = store.audits.add(user, evil, 1, by=evil)
        found = {"severity": "info", "rule_id": evil, "message": evil, "evidence": {evil: evil}, "remediation": evil}
        store.audits.complete(
            task, analysis=ANALYSIS | {"equipment_tag": evil, "confidence_score": None}, findings=[found]
        )
    for args in (("list",), ("show", task.id), ("trail", task.id), ("review", task.id, "approved", "-r", evil)):
        assert not set(run(*args).output) & set("\x1b\x9b"), args
