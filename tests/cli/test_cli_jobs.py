"""Jobs on the command line: what is said of them, and a worker in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import needs
import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main
from scanstore.db.state_machine import JOB_STATUSES

Run = Callable[..., Result]
EVIL = "pasted\x1b[31m\nfrom\u202e input"
TASKS = """
import pathlib, time

def sync(job):
    job.update_progress(processed=1, total=2, message="reading")
    return {"scenes": len(job.store.library.list()) if job.meta.get("count") else 0}

def fail(job):
    job.mark_failed("no luck\\nat all", retry=False)

def broken(job):
    raise ValueError("try again")

def slow(job):
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)

handlers = {"sync": sync, "fail": fail, "broken": broken, "slow": slow}
class settings:
    mine = {"sync": sync}
number = 3
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line in a folder with a module of handlers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mytasks", "badtasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "mytasks.py").write_text(TASKS)
    (tmp_path / "badtasks.py").write_text("1 / 0\n")

    def invoke(*args: str, code: int | None = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, ("jobs", *args), prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if code is not None:
            assert result.exit_code == code, result.output
        return result

    yield invoke
    if (tmp_path / "scanstore.db").exists():
        with Store() as store:
            assert store.check() == []


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def add(run: Run, *args: str) -> str:
    return str(data(run("add", *args, "--json"))["id"])


def test_an_empty_store_says_what_to_do(run: Run) -> None:
    assert "no store at scanstore.db" in run("list", code=1).stderr
    Store().close()
    assert run("list").stderr == "no jobs here; add one with: scanstore jobs add TYPE\n"
    assert run("list", "--status", "failed").stderr == "no jobs like that\n"
    assert data(run("list", "--json")) == []
    assert run("prune", "--keep-last", "0").stdout == "No jobs to remove\n"


def test_add_and_show(run: Run) -> None:
    said = run("add", "sync", "--unique", "nightly", "--meta", '{"path": "src"}', "--priority", "3").stdout
    top = said.removeprefix("Job ").partition(":")[0]
    assert said == f"Job {top}: sync, pending\n"
    assert add(run, "sync", "--unique", "nightly") == top
    part = add(run, "part", "--parent", top, "--at", "2099-01-01T00:00:00Z", "--group", "disk")
    shown = run("show", top).stdout
    assert shown.startswith("sync, pending, 0 %\n")
    for line in (f"  id          {top}", "  unique key  nightly", "  priority    3", '  "path": "src"', "parts:"):
        assert line in shown
    assert f"pending  0 %  part  {part}  waits until 2099-01-01T00:00:00.000Z" in shown
    row = data(run("show", part, "--json"))
    assert (row["parent"], row["exclusive_group"], row["children"], row["scenes"]) == (top, "disk", [], [])
    assert run("list", "--parent", top).stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["add", "sync", "--meta", "{"], 2, "not JSON"),
        (["add", "sync", "--meta", "[1]"], 2, "give a JSON object"),
        (["add", "sync", "--at", "tomorrow"], 2, "is no time with its zone"),
        (["add", "sync", "--at", "2099-01-01"], 2, "is no time with its zone"),
        (["add", "sync", "--parent", "x"], 1, "'x' is not a job"),
        (["add", "sync", "--scene", "7"], 1, "no scene 7"),
        (["add", " "], 1, "type is ' '"),
        (["show", "00000000-0000-0000-0000-000000000007"], 1, "no job 00000000-0000-0000-0000-000000000007"),
        (["cancel"], 2, "Missing argument"),
        (["prune"], 2, "give --older-than, --keep-last or both"),
        (["prune", "--older-than", "soon"], 2, "is no span of time"),
        (["work"], 2, "Missing option '--import'"),
        (["work", "--import", ":x"], 2, "names no module"),
        (["work", "--import", "nowhere"], 1, "module nowhere cannot be imported: ModuleNotFoundError"),
        (["work", "--import", "badtasks"], 1, "cannot be imported: ZeroDivisionError: division by zero"),
        (["work", "--import", "mytasks:nothing"], 1, "module mytasks has no nothing"),
        (["work", "--import", "mytasks:number"], 1, "is not a mapping"),
        (["work", "--import", "mytasks:settings.mine", "--type", "x"], 1, "no handler for 'x'; there are: sync"),
    ],
)  # fmt: skip
def test_what_is_refused(run: Run, args: list[str], code: int, message: str) -> None:
    Store().close()
    result = run(*args, code=code)
    assert message in result.stderr
    assert "Traceback" not in result.output
    with Store() as store:
        assert store.jobs.list() == []


def test_cancel_and_retry_are_all_or_nothing(run: Run) -> None:
    first, second = add(run, "a"), add(run, "b")
    assert run("cancel", first).stdout == f"{first}\ta\tcancelled\n"
    assert "is cancelled and cannot be cancelled" in run("cancel", second, first, code=1).stderr
    assert [row["status"] for row in data(run("list", "--json"))] == ["pending", "cancelled"]
    assert f"job {second} is pending and cannot become pending" in run("retry", first, second, code=1).stderr
    (row,) = data(run("retry", first, "--json"))
    assert (row["id"], row["status"]) == (first, "pending")
    assert [row["status"] for row in data(run("cancel", first, second, "--json"))] == ["cancelled"] * 2


def test_list_shows_every_state_and_obeys_nothing(run: Run) -> None:
    with Store() as store:
        store.jobs.start(store.jobs.enqueue("a")).update_progress(40, message=EVIL)
        store.jobs.start(store.jobs.enqueue("b")).mark_failed(EVIL, retry=False)
        store.jobs.start(store.jobs.enqueue("c" + EVIL, meta={"x": EVIL})).mark_failed("first\nsecond")
        ids = [row.id for row in store.jobs.list()]
    said = run("list").stdout
    assert [line.split("\t")[1] for line in said.splitlines()] == ["pending", "failed", "running"]
    assert "40 %" in said and "then another try: first" in said and "second" not in said
    shown = [run("show", each).stdout for each in ids]
    assert "first\n  second\n" in shown[0]
    for text in (said, *shown):
        assert "\x1b[31m" not in text and "\u202e" not in text
    assert {row["status"] for status in JOB_STATUSES for row in data(run("list", "--status", status, "--json"))} == {
        "pending", "failed", "running"
    }  # fmt: skip


def test_work(run: Run) -> None:
    ids = {name: add(run, name) for name in ("sync", "fail", "broken", "other")}
    result = run("work", "--import", "mytasks", "--until-empty", code=1)
    assert result.stdout.splitlines() == [
        f"completed  sync  {ids['sync']}",
        f"failed  fail  {ids['fail']}  no luck",
        f"pending  broken  {ids['broken']}  ValueError: try again",
    ]
    assert result.stderr.splitlines() == [
        "working on sync, fail, broken, slow; Ctrl-C stops", "1 completed, 1 waiting, 1 failed",
        "left: 1 broken; not claimed yet, not due yet, or held elsewhere", "left: 1 other; not worked on here",
    ]  # fmt: skip
    shown = run("show", ids["sync"]).stdout
    assert "  items    1 of 2" in shown and '"scenes": 0' in shown
    add(run, "sync")
    found = data(run("work", "--import", "mytasks:settings.mine", "--until-empty", "--json"))
    assert found == {"completed": 1, "waiting": 0, "failed": 0, "cancelled": 0, "lost": 0, "interrupted": False}
    assert run("work", "--import", "mytasks", "--type", "sync", "--until-empty").stderr.splitlines()[1:] == [
        "no jobs that could be claimed", "left: 1 broken, 1 other; not worked on here"
    ]  # fmt: skip
    assert run("prune", "--keep-last", "1").stdout == "2 jobs would be removed; remove with: --yes\n"
    assert run("prune", "--older-than", "1d", "--yes").stdout == "No jobs to remove\n"
    assert data(run("prune", "--keep-last", "1", "--yes", "--json")) == {"jobs": 2, "removed": True}
    assert len(data(run("list", "--json"))) == 3


@needs.signals
def test_a_worker_finishes_its_job_when_it_is_interrupted(run: Run, tmp_path: Path) -> None:
    job, later = add(run, "slow"), add(run, "slow")
    here = str(Path(__file__).parents[2])
    worker = subprocess.Popen(
        [sys.executable, "-m", "scanstore", "jobs", "work", "--import", "mytasks"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": here}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 20
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end and worker.poll() is None
        time.sleep(0.01)
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    (tmp_path / "go").touch()
    out, err = worker.communicate(timeout=20)
    assert (worker.returncode, out) == (0, f"completed  slow  {job}\n")
    assert err.splitlines()[-2:] == ["1 completed", "left: 1 slow; not claimed yet, not due yet, or held elsewhere"]
    assert data(run("show", later, "--json"))["status"] == "pending"
