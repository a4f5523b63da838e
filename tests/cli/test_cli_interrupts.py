"""Ctrl-C ends any command with exit code 130 and one true line about the kept work."""

from __future__ import annotations

import inspect
import json
import signal
import sqlite3
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore import __main__ as entry
from scanstore.cli import main
from scanstore.cli import progress as progress_module
from scanstore.cli.interrupts import declared
from scanstore.cli.progress import Display
from scanstore.maintenance import unfilled
from scanstore.models import Job

Run = Callable[..., Result]
#: Commands that write something without `open_store(write=True)`.
WRITE_FILES = {"backup", "restore", "repair", "dump", "sarif dump", "drop", "rekey", "migrate up", "migrate down"}


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name in command.commands:
            yield from commands(command.commands[name], (*path, name))
    else:
        yield " ".join(path), command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(line: str, code: int | None = 0, end: str | None = None) -> Result:
        result = CliRunner().invoke(main, line.split(), prog_name="scanstore")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code is None or result.exit_code == code, result.output
        if end is not None:
            assert result.stderr.splitlines()[-1] == end and "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], None]]:
    """A function that lets commands be interrupted at a number of finished units; at the last one for None."""
    chosen: list[int | None] = []

    class Interrupted(Display):
        def __call__(self, done: int, total: int) -> None:
            if chosen and (done == chosen[0] or chosen[0] is None and done == total > 0):
                raise KeyboardInterrupt

        def start(self) -> None:
            pass

        def stop(self) -> None:
            pass

    monkeypatch.setattr(progress_module, "Display", Interrupted)
    monkeypatch.setattr(progress_module, "is_shown", lambda: True)

    def choose(at: int | None) -> None:
        chosen[:] = [at]

    yield choose


@pytest.fixture
def filled(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("def f():\n    return 1\n")
    found = {"ruleId": "r", "message": {"text": "m"}}
    report = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [found]}]}
    (tmp_path / "r.sarif").write_text(json.dumps(report))
    (tmp_path / "scenes.jsonl").write_text("".join(f'{{"id": "{n}", "title": "a"}}\n' for n in range(3)))
    proposal = '{{"scene": "{}", "field": "title", "action": "set", "proposed": "b"}}\n'
    (tmp_path / "plan.jsonl").write_text("".join(map(proposal.format, range(3))))
    for line in (
        "scan src", "scan src", "scan src", "library sync scenes.jsonl", "plans create p plan.jsonl",
        "plans review 1 approve", "dump d.jsonl", "backup copy.db",
    ):  # fmt: skip
        run(line)
    return tmp_path


def content(folder: Path) -> bytes:
    with Store(folder / "scanstore.db") as store:
        assert store.check() == []
        store.dump(folder / "content.jsonl")
    return (folder / "content.jsonl").read_bytes()


# What each command declares


def test_every_command_that_writes_declares_what_it_keeps() -> None:
    seen = set()
    for path, command in commands():
        assert command.callback is not None
        source = inspect.getsource(inspect.unwrap(command.callback))
        if "write=" in source or "create=" in source or path in WRITE_FILES:
            seen.add(path)
            sentence = declared(command)
            assert sentence, path
            assert sentence[0].islower() and not sentence.endswith("."), path
    assert len(seen) > 50 and seen > WRITE_FILES


# At their last report, when the work is about to be committed


@pytest.mark.parametrize(("line", "told"), [
    ("load d.jsonl --db new.db", "nothing was loaded"),
    ("sarif load r.sarif --target t", "nothing was loaded"),
    ("merge other.db", "nothing was changed"),
    ("dump new.jsonl", "no file was written"),
    ("backup new.db", "an unfinished copy was removed"),
    ("repair copy.db new.db", "no new store was written"),
    ("restore copy.db", "the store is restored"),
    ("check", "nothing was changed"),
    ("check --fix", "finished repairs are kept; check it again"),
    ("optimize", "finished steps are kept; optimize it again"),
])  # fmt: skip
def test_what_is_said_is_true(
    line: str, told: str, filled: Path, run: Run, interrupt: Callable[[int | None], None]
) -> None:
    with Store(filled / "other.db") as other:
        other.settings["theirs"] = 1
    before = content(filled)
    interrupt(None)
    run(line, 130, f"Interrupted: {told}.")
    assert not (filled / "new.db").exists() and not (filled / "new.jsonl").exists()
    assert line == "optimize" or content(filled) == before


def test_a_search_that_is_interrupted_is_continued_by_the_next(
    filled: Path, run: Run, interrupt: Callable[[int | None], None]
) -> None:
    interrupt(0)
    assert run("search f", 130).stderr.endswith("\nInterrupted.\n")
    interrupt(-1)
    assert "a.py:1" in run("search f").stdout
    content(filled)


def test_an_interrupted_scan_is_named(filled: Path, run: Run, interrupt: Callable[[int | None], None]) -> None:
    (filled / "src" / "b.py").write_text("x = 1\n")
    interrupt(None)
    kept = "recorded files are kept, and the next scan continues"
    run("scan src", 130, f"Interrupted: scan 4 is cancelled; {kept}.")
    interrupt(-1)
    assert "as scan 5" in run("scan src").stdout
    content(filled)


def test_a_recorded_scan_is_named_when_its_summary_is_interrupted(
    filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["scanstore.cli.scan"], "previous", interrupted)
    run("scan src", 130, "Interrupted: scan 4 is completed, and all recorded files are kept.")
    content(filled)


def test_an_interrupted_plan_says_how_far_it_got(
    filled: Path, run: Run, interrupt: Callable[[int | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanstore.plans.applying.SHORT", 0)
    interrupt(2)
    told = "2 changes of plan 1 processed; continue with: scanstore plans {0} 1."
    run("plans apply 1", 130, f"Interrupted: {told.format('apply')}")
    with Store("scanstore.db") as store:
        assert store.plans.get(1).counts.applied == 2
    interrupt(-1)
    run("plans apply 1")
    interrupt(2)
    run("plans revert 1 --db ./scanstore.db", 130, f"Interrupted: {told.format('revert')}")
    interrupt(-1)
    run("plans revert 1")
    content(filled)


def test_an_interrupted_prune_says_how_much_is_gone(
    filled: Path, run: Run, interrupt: Callable[[int | None], None]
) -> None:
    before = content(filled)
    interrupt(0)
    line = "prune --keep-last 0 --yes"
    run(line, 130, "Interrupted: nothing was changed.")
    assert content(filled) == before
    interrupt(1)
    run(line, 130, "Interrupted: 1 of 2 scans and jobs were removed; the same command removes the rest.")
    interrupt(-1)
    assert run(line).stdout.endswith("Removed 1 scan\n")
    content(filled)


def test_a_synced_record_is_kept(filled: Path, run: Run, interrupt: Callable[[int | None], None]) -> None:
    interrupt(None)
    kept = "written records are kept, and the next sync continues"
    run("library sync scenes.jsonl", 130, f"Interrupted: {kept}.")
    interrupt(-1)
    assert "3 scenes" in run("library sync scenes.jsonl").stdout
    content(filled)


# At other moments


def test_while_it_waits_for_a_lock(filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with Store(filled / "scanstore.db") as store:
        with store.transaction():
            store.settings["held"] = 1
            monkeypatch.setattr("scanstore.db.waiting.time.sleep", interrupted)
            run("settings set other 1", 130, "Interrupted: nothing was changed.")
        assert "other" not in store.settings


def test_when_the_work_is_done_and_only_the_answer_is_missing(
    filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scanstore.cli.transfer.tell", interrupted)
    run("load d.jsonl --db new.db", 130, "Interrupted: the work was done, and only its result was not printed.")
    with Store("new.db") as store:
        assert len(store.scans.list()) == 3 and store.check() == []


def test_a_load_that_fails_leaves_a_store_that_was_filled_meanwhile(
    filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object, **__: object) -> None:
        with Store("new.db") as other:  # as another process would
            other.settings["theirs"] = 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "load", slow)
    run("load d.jsonl --db new.db", 130, "Interrupted: nothing was loaded.")
    with Store("new.db") as store:
        assert store.settings["theirs"] == 1 and store.check() == []
    with Store("open.db") as store:  # open elsewhere
        unfilled.remove_unfilled("open.db")
        assert store.check() == [] and Path("open.db").exists()
    unfilled.remove_unfilled("open.db")
    assert not Path("open.db").exists()


# A new store


CREATING = [  # commands that create a store, with values that are refused after it is open
    "schedules add nightly sync nonsense", "schedules add nightly sync 0*3*** --timezone Nowhere/Land",
    "users add nonsense", "jobs add sync --parent nobody",
    "users add a@example.org --role " + "r" * 51, "seed bad.toml",
    "sarif load bad.sarif --target t", "load bad.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("line", CREATING)
def test_a_command_that_is_refused_leaves_no_new_store(line: str, filled: Path, run: Run) -> None:
    for name in ("bad.toml", "bad.sarif", "bad.jsonl"):
        (filled / name).write_text("[[nonsense")
    before = set(filled.iterdir())
    assert run(f"{line} --db new.db", None).exit_code in (1, 2)
    assert set(filled.iterdir()) == before


def test_a_store_that_existed_is_never_removed(filled: Path, run: Run) -> None:
    run("init --db new.db")
    run("schedules add nightly sync nonsense --db new.db", 1)
    assert Path("new.db").exists()
    Path("empty.db").touch()
    run("schedules add nightly sync nonsense --db empty.db", 1)
    assert Path("empty.db").exists()


@pytest.mark.parametrize("there", ["created", "open", "filled"])
def test_a_store_that_another_process_uses_meanwhile_is_kept(
    filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    others: list[Store] = []
    opened = Store.__init__

    def create(self: Store, path: Any = None, **options: Any) -> None:
        monkeypatch.setattr(Store, "__init__", opened)
        if there == "created":
            Store(path).close()
        opened(self, path, **options)
        if there != "created":
            others.append(Store(path))
        if there == "filled":
            others[0].settings["theirs"] = 1
            others.pop().close()

    monkeypatch.setattr(Store, "__init__", create)
    run("schedules add nightly sync nonsense --db new.db", 1)
    for other in others:
        other.settings["theirs"] = 1  # its file is still there
        other.close()
    with Store("new.db", read_only=True) as store:
        assert store.check() == []
        assert there == "created" or store.settings["theirs"] == 1


def test_a_file_of_another_program_is_not_taken_for_an_unfilled_store(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "theirs.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    unfilled.remove_unfilled(str(tmp_path / "theirs.db"))
    assert (tmp_path / "theirs.db").exists()


@pytest.mark.parametrize("place", ["Store.__init__", "scans.record", "migrations.up"])
def test_a_scan_that_is_interrupted_at_its_start_leaves_no_new_store(
    filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if place == "Store.__init__":
        monkeypatch.setattr(Store, "_recover_what_is_lost", interrupted)
    elif place == "migrations.up":
        monkeypatch.setattr("scanstore.db.migrations.up", interrupted)
    else:
        monkeypatch.setattr("scanstore.snapshots.tree_scan.Tree.__init__", interrupted)
    before = set(filled.iterdir())
    run("scan src --db new.db", 130, "Interrupted: no scan was begun.")
    assert set(filled.iterdir()) == before


def test_a_command_that_reads_says_no_more(filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scanstore.cli.upkeep.tell", interrupted)
    run("stats", 130, "Interrupted.")
    content(filled)


@pytest.mark.parametrize(("line", "function", "told"), [
    (["drop"], "visible_prompt_func", "Interrupted: nothing was deleted."),
    (["users", "add", "a@x.org", "--password"], "hidden_prompt_func", "Interrupted: nothing was changed."),
])  # fmt: skip
def test_in_a_prompt(
    line: list[str], function: str, told: str, filled: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = content(filled)
    for error, code, last in ((KeyboardInterrupt, 130, told), (EOFError, 1, "Aborted!")):

        def typed(*_: object, error: type[BaseException] = error) -> str:
            raise error

        monkeypatch.setattr(f"click.termui.{function}", typed)
        with pytest.raises(SystemExit) as ended:
            main(line)
        assert ended.value.code == code and capsys.readouterr().err.splitlines()[-1] == last
    assert content(filled) == before


def test_while_the_words_of_the_command_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> click.Context:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "make_context", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["stats"])
    assert ended.value.code == 130 and capsys.readouterr().err == "Interrupted.\n"


def test_while_the_command_line_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    handlers: list[object] = []
    monkeypatch.setattr("signal.signal", lambda *given: handlers.append(given))
    monkeypatch.setitem(sys.modules, "scanstore.cli", Loading("scanstore.cli"))
    with pytest.raises(SystemExit) as ended:
        entry.run()
    assert ended.value.code == 130 and capsys.readouterr().err == "Interrupted.\n"
    assert handlers == [(signal.SIGINT, signal.SIG_DFL)]  # a further one has no traceback either


# Jobs


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_says_how_many_jobs_it_did(times: int, filled: Path, run: Run) -> None:
    (filled / "mytasks.py").write_text(
        "import signal\n"
        "done = []\n"
        "def one(job):\n"
        "    done.append(job)\n"
        "    if len(done) == 2:\n"
        f"        for _ in range({times}):\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "handlers = {'one': one}\n"
    )
    for _ in range(3):
        run("jobs add one")
    sys.modules.pop("mytasks", None)
    result = run("jobs work --import mytasks --until-empty", 130)
    sys.modules.pop("mytasks", None)
    if times == 1:  # the running job was finished
        assert "Interrupted: 2 completed; the others wait." in result.stderr.splitlines()
    else:
        last = "Interrupted: 1 completed; the running job was released."
        assert result.stderr.splitlines()[-1] == last
    with Store("scanstore.db") as store:
        assert store.counts(Job, "status") == {"completed": 3 - times, "pending": times}
    content(filled)
