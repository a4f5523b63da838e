"""What the stress tests share: how long they go on, chance that can be repeated, processes to be killed, a full store.

They run in a short form with all other tests. SCANSTORE_LONG=1 makes them long, another number is how many rounds to
go, SCANSTORE_SEED is where chance begins; ``-s`` shows the figures they print.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from scanstore import Store, seed_db

ROOT = Path(__file__).parents[1]
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
LONG = int(os.environ.get("SCANSTORE_LONG") or 0)
SEED = int(os.environ.get("SCANSTORE_SEED") or 1)

RAW = f"x'{'5a' * 32}'"  # a key that SQLCipher takes as it is: to derive one takes longer than most tests

Tell = Callable[[Any], None]


def rounds(short: int, long: int) -> int:
    """How many: `short` by default, `long` when asked for, or the number that was asked for."""
    return short if LONG == 0 else long if LONG == 1 else LONG


def chance(*salt: object) -> random.Random:
    """Chance that is the same in every run with the same seed."""
    return random.Random(f"{SEED} {salt}")


class Hung(AssertionError):
    """A process did not end in its time."""


class Child:
    """A forked process that does some work and tells what it has done, which outlives it.

    `work` is called with a function that notes a JSON value. What it raises is noted as a text under "raised". Whatever
    becomes of the test, it ends after `limit` seconds.
    """

    pid = 0

    def __init__(self, work: Callable[[Tell], object], *, limit: int = 60) -> None:
        fork = os.fork  # first: where there is none, nothing is left behind
        self._notes = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed by end()
        self.status: int | None = None
        self.pid = fork()
        if self.pid:
            return
        code = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(limit)
            work(self._note)
            code = 0
        except BaseException:
            self._note({"raised": traceback.format_exc()})
        finally:
            os._exit(code)

    def __del__(self) -> None:
        if self.pid and self.status is None:
            os.kill(self.pid, KILL)
            os.waitpid(self.pid, 0)

    def _note(self, value: Any) -> None:
        os.write(self._notes.fileno(), json.dumps(value).encode() + b"\n")

    def kill(self, number: int = KILL) -> list[Any]:
        """Send a signal, wait for the end, and return what it told."""
        if self.status is None:
            os.kill(self.pid, number)
        return self.end(20)

    def end(self, seconds: float) -> list[Any]:
        """Wait for the end and return what it told; a process that takes longer is killed, and Hung raised."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(self.pid, KILL)
                self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                raise Hung(f"still running after {seconds:g} s; it told {self.told()[-3:]}")
            else:
                time.sleep(0.002)
        told = self.told()
        self._notes.close()
        return told

    def first(self, seconds: float = 20) -> Any:
        """Wait for the first thing it tells, and return that."""
        deadline = time.monotonic() + seconds
        while not (told := self.told()):
            assert time.monotonic() < deadline, "it tells nothing"
            time.sleep(0.002)
        assert not (isinstance(told[0], dict) and "raised" in told[0]), told[0]["raised"]
        return told[0]

    def told(self) -> list[Any]:
        """What it has told until now."""
        size = os.fstat(self._notes.fileno()).st_size
        return [json.loads(line) for line in os.pread(self._notes.fileno(), size, 0).splitlines()]


def done(work: Callable[[Tell], object], *, seconds: float = 60) -> list[Any]:
    """Run some work in a process of its own to its end; what it raised, or a signal that ended it, fails the test."""
    child = Child(work, limit=int(seconds) + 10)
    told = child.end(seconds)
    raised = [each["raised"] for each in told if isinstance(each, dict) and "raised" in each]
    assert child.status == 0 and not raised, f"ended with {child.status}: {raised}"
    return told


class Program(subprocess.Popen[str]):
    """Like ``subprocess.Popen([sys.executable, "-c", code, *args], text=True)``, but forked: nothing is imported again.

    For code whose start is not what is tested. As in any fork, at its end nothing is called that waits for an exit.
    """

    def __init__(self, code: str, *args: object, **options: Any) -> None:
        super().__init__([code, *map(str, args)], text=True, **options)

    def _execute_child(self, args: Any, *options: Any) -> None:  # type: ignore[override]
        cwd, pipes = options[4], options[9:15]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or both processes would write it
        with warnings.catch_warnings(action="ignore"):  # the threads of this process do nothing for the other one
            self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._run(*args, cwd=cwd, pipes=pipes))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _run(self, code: str, *args: str, cwd: Any, pipes: Any) -> int:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            theirs, ours = (pipes[0], pipes[3], pipes[5]), (pipes[1], pipes[2], pipes[4])
            for number, end in enumerate(theirs):
                if end != -1:
                    os.dup2(end, number)
            for end in {*ours, *theirs} - {-1, 0, 1, 2}:
                os.close(end)
            if cwd is not None:
                os.chdir(cwd)
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", 1)  # noqa: SIM115
            sys.argv = ["-c", *args]
            exec(compile(code, "<string>", "exec", dont_inherit=True), {"__name__": "__main__"})
            return 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()


def killed(work: Callable[[Tell], object], after: float) -> list[Any]:
    """Run some work in a process that is killed after so many seconds, if it is not over by then; what it told.

    Work that ended by itself must have ended well.
    """
    child = Child(work)
    time.sleep(after)
    told = child.kill()
    assert child.status in (0, -signal.SIGKILL), told
    return told


def seconds(work: Callable[[Tell], object]) -> float:
    """How long some work takes in a process of its own."""
    start = time.perf_counter()
    done(work)
    return time.perf_counter() - start


def sound(path: Path) -> None:
    """SQLite itself finds nothing wrong with a file."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    finally:
        connection.close()


def tables(path: Path) -> dict[str, int]:
    """How many rows each table has."""
    connection = sqlite3.connect(path)
    try:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}
    finally:
        connection.close()


def report(message: str = "Do not evaluate", lines: tuple[int, ...] = (3, 7)) -> dict[str, Any]:
    """A report of another tool."""
    results = [
        {
            "ruleId": "R1",
            "level": "error",
            "message": {"text": f"{message} {line}."},
            "partialFingerprints": {"primaryLocationLineHash": f"{line}:1"},
            "properties": {"tags": ["security"]},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": "shop/models.py"},
                        "region": {"startLine": line, "snippet": {"text": "eval(x)"}},
                    }
                }
            ],
        }
        for line in lines
    ]
    driver = {"name": "probe", "version": "1", "rules": [{"id": "R1", "name": "NoEval"}]}
    return {"version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def fill(path: Path) -> None:
    """Make a new store with rows in every table."""
    path.touch(mode=0o600)
    path.write_bytes(_full())


@cache
def _full() -> bytes:
    """Its content, made once; to make it imports what works on stores, so that forked processes come to their work."""
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder, "full.db"))
        return Path(folder, "full.db").read_bytes()


def _fill(path: Path) -> None:
    with Store(path, durability="normal") as store:
        seed_db(store)
        for _ in range(2):
            scan = store.scans.record(ROOT / "callgraph" / "shop", jobs=1)
        model = store.llm.ensure("m", api_key="env:KEY")
        scan = store.scans.analyze(scan, primary_analyzer=model)
        analyzer = store.llm.analyzer("m", prompt="What is wrong here?")
        for n, chunk in enumerate(store.chunks.claim(scan, limit=4)):
            store.llm.ask(analyzer, chunk, lambda: "[]")
            draft = {
                "title": f"Flaw {n}",
                "vulnerability_type": "x",
                "severity": "low",
                "line_number": chunk.start_line,
            }
            store.chunks.complete(chunk, drafts=[draft], analyzer=analyzer)
        for row in store.drafts.claim(scan, limit=3):
            store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
        findings = [store.findings.publish(verified) for verified in store.verified.claim(scan, limit=2)]
        store.findings.suppress(findings[1], reason="known", by="ann")
        store.scans.pause(scan)
        for message in ("Do not evaluate", "Never evaluate"):
            store.sarif.load(io.BytesIO(json.dumps(report(message)).encode()), target="elsewhere")
        assert store.search("Flaw")
        store.findings.triage(findings[0], "confirmed", by="ann", reason="seen")  # for the search to catch up with
        with store.library.sync("scene") as run:
            store.library.upsert_scenes(
                [{"id": "sc-9", "title": "Nine", "tags": [{"id": "t9", "name": "new"}]}], run=run
            )
        plan = store.plans.add("tidy")
        store.plans.propose(plan, "sc-2", "title", "set", proposed="A talk")
        store.jobs.enqueue("sync", scenes=["sc-1"], parent=store.jobs.enqueue("all"))
        user = store.accounts.add(
            "ada@example.org", hashed_password="$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"
        )
        session = store.sessions.add(user, "first")
        store.sessions.uploads.add(session, [{"file_path": "a.py", "file_size": 1, "file_type": "text/x-python"}])
        prompt = store.sessions.prompts.add(user, "summary", "Summarise.")
        store.sessions.tasks.add(session, "summary")
        (task,) = store.sessions.tasks.claim(session)
        store.sessions.tasks.complete(task, result={"result_content": "Fine.", "score": 99.5, "configuration": prompt})
        audit = store.audits.add(user, "report.pdf", 10)
        evidence = {"severity": "minor", "rule_id": "GND-01", "message": "too high", "evidence": {"ohm": 12}}
        store.audits.complete(audit, analysis={"equipment_type": "panel", "test_type": "x"}, findings=[evidence])
        assert store.check() == []
        file = path.with_name("asking.db")  # as it is while a question is being asked and a place is taken
        store.llm.ask(analyzer, store.chunks.list(scan)[-1], lambda: "[]" if copied(path, file) else "")
    os.replace(file, path)
    Path(f"{path}-wal").unlink(missing_ok=True)
    Path(f"{path}-shm").unlink(missing_ok=True)
    assert [name for name, count in tables(path).items() if not count] == []


def copied(path: Path, to: Path) -> Path:
    """Copy what is committed in a store, by SQLite alone."""
    source, target = sqlite3.connect(path), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()
    return to
