"""`scanstore schedules`: what it prints for people and for programs, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main
from scanstore.db.rules import change_rows
from scanstore.models import Job, ScheduledTask

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


def make_due() -> None:
    with Store("scanstore.db"):
        change_rows(ScheduledTask, next_run=datetime(2026, 1, 1, tzinfo=UTC)).execute()


def test_add_and_list(run: Run) -> None:
    run("init")
    assert (
        one_line(run("schedules", "list")) == "no schedules here; add one with: scanstore schedules add NAME TYPE CRON"
    )
    added = run("schedules", "add", "nightly", "sync", "0 3 * * *", "--timezone", "Europe/Berlin").stdout
    assert added.startswith("Added schedule nightly: next ") and added.endswith((" 03:00 CEST\n", " 03:00 CET\n"))
    config = '{"model": "local"}'
    task = data(run("schedules", "add", "rare", "analysis", "0 0 1 1 *", "--config", config, "--disabled", "--json"))
    assert (task["config"], task["enabled"], task["next_run"]) == ({"model": "local"}, False, None)
    first, second = run("schedules", "list").stdout.splitlines()
    assert first.split()[:8] == ["nightly", "sync", "0", "3", "*", "*", "*", "Europe/Berlin"]
    assert first.endswith("never ran") and second.split()[-3:] == ["disabled", "never", "ran"]
    assert [task["name"] for task in data(run("schedules", "list", "--json"))] == ["nightly", "rare"]


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (("x", "sync", "0 3 * *"), 1, "schedule is '0 3 * *'; write five fields"),
        (("x", "sync", "0 99 * * *"), 1, "bad hour"),
        (("x", "sync", "0 0 31 2 *"), 1, "bad day-of-month"),
        (("x", "sync", "0 3 * * *", "--timezone", "Mars\nX"), 1, "timezone is"),
        (("x", "sync", "0 3 * * *", "--config", "{"), 2, "--config is not JSON"),
        (("x", "sync", "0 3 * * *", "--config", "[1]"), 1, "config is [1]; give a dictionary"),
        (("", "sync", "0 3 * * *"), 1, "name is ''; give a text that is not empty"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, args: tuple[str, ...], code: int, why: str) -> None:
    run("init")
    assert why in one_line(run("schedules", "add", *args, code=code))
    assert data(run("schedules", "list", "--json")) == []


def test_run_due(run: Run) -> None:
    run("schedules", "add", "nightly", "sync", "0 3 * * *", "--config", '{"full": true}')
    assert "nothing is due; 1 task enabled" in one_line(run("schedules", "run-due"))
    assert data(run("schedules", "run-due", "--json")) == []
    make_due()
    line = run("schedules", "run-due").stdout
    with Store("scanstore.db"):
        job = Job.get()
    assert line == f"nightly: job {job.id}\n" and job.meta == {"full": True}
    assert f", job {job.id}\n" in run("schedules", "list").stdout
    make_due()
    assert run("schedules", "run-due").stdout == f"nightly: left out, job {job.id} is not over yet\n"
    make_due()
    (again,) = data(run("schedules", "run-due", "--json"))
    assert (again["task"]["name"], again["job"]["id"], again["started"]) == ("nightly", job.id, False)


def test_a_run_that_another_job_keeps_from_starting_is_an_error(run: Run) -> None:
    run("schedules", "add", "nightly", "sync", "0 3 * * *")
    run("schedules", "add", "other", "sync", "0 3 * * *")
    make_due()
    with Store("scanstore.db") as store:
        holder = store.jobs.enqueue("report", unique="nightly").id
    result = run("schedules", "run-due", code=1)
    assert result.stdout.startswith("other: job ") and result.stdout.count("\n") == 1
    assert (
        f"Error: schedule 'nightly' cannot enqueue its job of type 'sync': its name is the unique key of job {holder}"
        in (one_line(result))
    )
    (found,) = data(run("schedules", "run-due", "--json", code=1))
    assert (found["started"], found["job"]["id"]) == (False, holder) and "nightly" in found["error"]


def test_enable_disable_remove(run: Run) -> None:
    run("schedules", "add", "nightly", "sync", "0 3 * * *")
    assert run("schedules", "disable", "nightly").stdout == "Schedule nightly: disabled\n"
    assert data(run("schedules", "disable", "nightly", "--json"))["next_run"] is None
    assert run("schedules", "enable", "nightly").stdout.startswith("Schedule nightly: next ")
    assert data(run("schedules", "enable", "nightly", "--json"))["enabled"] is True
    assert "there is already a schedule 'nightly'" in one_line(
        run("schedules", "add", "nightly", "sync", "0 3 * * *", code=1)
    )
    assert run("schedules", "remove", "nightly").stdout == "Removed schedule nightly\n"
    for verb in ("enable", "disable", "remove"):
        assert "no schedule 'nightly'; " in one_line(run("schedules", verb, "nightly", code=1))


def test_a_zone_that_only_another_machine_knows_is_listed(run: Run) -> None:
    run("schedules", "add", "nightly", "sync", "0 3 * * *")
    with Store("scanstore.db"):
        change_rows(ScheduledTask, timezone="Mars/Olympus").execute()
    assert " 03:00 UTC\tnever ran" in run("schedules", "list").stdout


def test_nothing_of_a_stranger_is_obeyed_by_the_terminal(run: Run) -> None:
    run("schedules", "add", "a\x1b[2Jb\nc", "sy\x9bnc", "0 3 * * *")
    make_due()
    for args in (("list",), ("run-due",), ("disable", "a\x1b[2Jb\nc"), ("remove", "a\x1b[2Jb\nc")):
        assert not set(run("schedules", *args).output) & set("\x1b\x9b")
