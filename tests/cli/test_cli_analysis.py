"""The commands of an analysis: what they print for people and for programs, how they end, and what they never show."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import needs
import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.analysis import lifecycle
from scanstore.cli import analysis, main
from scanstore.cli.chunks import STATUSES as CHUNK_STATUSES
from scanstore.cli.drafts import SEVERITIES
from scanstore.cli.drafts import STATUSES as DRAFT_STATUSES
from scanstore.cli.findings import STATUSES as FINDING_STATUSES
from scanstore.db import state_machine

pty = needs.module("pty")

SECRET = "sk-very-secret-4711"
EVIL = "Query \x1b[31mpasted\nfrom\u202e input"
COMMAND = [sys.executable, "-m", "scanstore"]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line in a folder with a small tree, and see afterwards that the store is well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    (tmp_path / "src/auth").mkdir(parents=True)
    (tmp_path / "src/auth/login.py").write_text("def login(user):\n    return query(user)\n")
    (tmp_path / "src/util.py").write_text("x = 1\n")

    def invoke(*args: str, code: int | None = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, args, prog_name="scanstore", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if code is not None:
            assert result.exit_code == code, result.output
        assert SECRET not in result.output
        return result

    yield invoke
    for path in tmp_path.glob("*.db"):
        with Store(path) as store:
            assert store.check() == []


@pytest.fixture
def scanned(run: Run) -> Run:
    """The same, after `scanstore scan src`."""
    run("scan", "src")
    return run


@pytest.fixture
def begun(scanned: Run) -> Run:
    """The same, with an analysis that was begun."""
    scanned("scans", "analyze")
    return scanned


@pytest.fixture
def done(begun: Run) -> Run:
    """The same, when models have looked at everything: one finding, with text that nobody should obey."""
    begun("models", "add", "seeker", "--api-key-stdin", input=SECRET)
    begun("models", "add", "judge")
    with Store() as store:
        for chunk in store.chunks.work(1):
            with store.llm.call("seeker", purpose="analysis", chunk=chunk) as call:
                call.response, call.prompt_tokens, call.completion_tokens, call.cost = "answer", 1200, 34, 0.0125
            report = {
                "title": EVIL, "vulnerability_type": "sqli", "severity": "high", "line_number": 1, "end_line": 2,
                "snippet": "def login(user):\n\tpass\x1b]0;owned\x07", "reason": f"because\n{EVIL}", "cwe": 89,
                "confidence": 90,
            }  # fmt: skip
            found = [report] if chunk.file_path == "auth/login.py" else []
            store.chunks.complete(chunk, drafts=found, source="seeker")
        for draft in store.drafts.work(1):
            vote = {"model": "judge", "decision": "verified", "confidence": 80, "severity": "critical", "reason": EVIL}
            store.drafts.record_votes(draft, [{**vote, "attack_vector": "the web", "data_flow": "a -> b"}])
        for verified in store.verified.work(1):
            store.findings.publish(
                verified, vulnerability_details=EVIL, proof_of_concept="curl", remediation_steps="1. bind\n2. test",
                references=["https://example.org/1", "https://example.org/2"], cvss_score=9.8,
            )  # fmt: skip
    return begun


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def said(result: Result) -> str:
    """What was said on stderr, but for which scan was asked (see test_targets.py)."""
    return re.sub(r"(?m)^scan \d+ of .*, [-\d]+ [:\d]+ UTC.*\n", "", result.stderr)


def one_line(result: Result) -> str:
    assert said(result).count("\n") == 1, result.stderr
    assert "Traceback" not in result.output
    return said(result).strip()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\t", "  ").split("  ") if cell.strip()]


def test_words_are_those_of_the_store() -> None:
    assert CHUNK_STATUSES == state_machine.CHUNK_STATUSES and DRAFT_STATUSES == state_machine.DRAFT_STATUSES
    assert FINDING_STATUSES == state_machine.FINDING_STATUSES and SEVERITIES == state_machine.SEVERITIES
    assert (analysis.MODES, analysis.SCOPES, analysis.STEPS) == (
        lifecycle.MODES,
        lifecycle.SCOPES,
        tuple(lifecycle.STEPS),
    )
    assert set(analysis.RISKS) == set(state_machine.RISKS) and set(analysis.OVER) < set(state_machine.SCAN_STATUSES)


READING = [
    ("chunks", "state"), ("chunks", "list"), ("chunks", "retry"), ("drafts", "list"), ("drafts", "show", "1"),
    ("findings", "list"), ("findings", "show", "1"), ("models", "list"), ("models", "show", "m"),
    ("models", "update", "m", "--votes", "2"), ("models", "remove", "m"), ("llm", "usage"), ("scans", "analyze"),
    ("scans", "progress"), ("scans", "progress", "--watch"), ("scans", "pause", "1"), ("scans", "resume", "1"),
    ("scans", "cancel", "1"), ("scans", "rerun", "1", "--to", "scan"), ("scans", "risk", "1", "high", "*"),
    ("recover",),
]  # fmt: skip


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_no_store_is_one_line_and_makes_none(run: Run, tmp_path: Path, args: tuple[str, ...]) -> None:
    assert "no store at scanstore.db; make one with" in one_line(run(*args, code=1))
    assert os.listdir(tmp_path) == ["src"]


@pytest.mark.parametrize(
    "args",
    [
        ("chunks", "list", "--status", "sleeping"), ("chunks", "list", "--limit", "0"), ("chunks", "retry", "x"),
        ("drafts", "list", "--status", "done"), ("drafts", "list", "--severity", "urgent"), ("drafts", "show", "x"),
        ("drafts", "show"), ("findings", "list", "--status", "closed"), ("findings", "list", "--severity", "bad"),
        ("findings", "show", "-1"), ("models", "add"), ("models", "add", "m", "--max-tokens", "0"),
        ("models", "add", "m", "--votes", "many"), ("models", "add", "m", "--analysis-prompt", "nowhere.txt"),
        ("models", "update", "m"), ("scans", "analyze", "--mode", "fast"), ("scans", "analyze", "--scope", "some"),
        ("scans", "analyze", "--pause-after", "0"), ("scans", "analyze", "--pause-after", "often"),
        ("scans", "analyze", "--max-retries", "-1"), ("scans", "analyze", "--concurrency", "0"), ("scans", "pause"),
        ("scans", "progress", "--interval", "nan"), ("scans", "progress", "--interval", "0"), ("scans", "cancel"),
        ("scans", "rerun", "1"), ("scans", "rerun", "1", "--to", "begin"), ("scans", "risk", "1", "high"),
        ("scans", "risk", "1", "grave", "*"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_2(scanned: Run, args: tuple[str, ...]) -> None:
    result = scanned(*args, code=2)
    assert result.stdout == "" and "Error: " in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("chunks", "state"), "was not begun; begin it with: scanstore scans analyze 1"),
        (("scans", "progress"), "was not begun; begin it with: scanstore scans analyze 1"),
        (("scans", "progress", "--watch"), "was not begun; begin it with: scanstore scans analyze 1"),
        (("scans", "pause", "1"), "scan 1 is completed and cannot become paused"),
        (("scans", "resume", "1"), "scan 1 is completed and has no analysis"),
        (("scans", "cancel", "1"), "scan 1 is completed and cannot become cancelled"),
        (("scans", "rerun", "1", "--to", "scan"), "scan 1 is completed and has no analysis"),
        (("scans", "risk", "1", "high", "nope/"), "no file of scan 1 matches nope/"),
        (("scans", "analyze", "9"), "no scan 9"),
        (("scans", "progress", "nowhere"), "no completed scan of 'nowhere'"),
        (("chunks", "retry", "5"), "no chunk 5"),
        (("drafts", "show", "7"), "no draft 7"),
        (("drafts", "show", "9" * 30), "is not a draft"),
        (("findings", "show", "7"), "no finding 7"),
        (("models", "show", "m\x1b"), r"no model 'm\x1b'"),
        (("models", "update", "m", "--votes", "2"), "no model 'm'"),
        (("models", "remove", "m"), "no model 'm'"),
        (("models", "add", " "), "a model needs a name"),
        (("models", "add", "m", "--api-key", "env:a-b"), "write env:MY_KEY"),
        (("llm", "usage", "--scan", "9"), "no scan 9"),
    ],
)
def test_what_cannot_be_done_is_one_line(scanned: Run, args: tuple[str, ...], said: str) -> None:
    result = scanned(*args, code=1)
    assert said in one_line(result) and result.stdout == ""


# chunks


def test_chunks_state(begun: Run) -> None:
    lines = begun("chunks", "state").stdout.splitlines()
    assert lines[0] == "Scan 1, queued" and cells(lines[1]) == ["ready", "2"] and lines[-1] == "not finished"
    with Store() as store:
        store.scans.analyze(1, retry_delay=0.5)
        held, failing = store.chunks.claim(1, limit=2, worker="w")
        store.chunks.fail(failing, "no luck")
        found = data(begun("chunks", "state", "--json"))
        assert found.pop("next_at").endswith("Z")
        assert found == {
            "scan": 1, "ready": 0, "delayed": 1, "leased": 1, "done": 0, "failed": 0, "skipped": 0, "finished": False,
            "lost": 0,
        }  # fmt: skip
        assert "next due: 2" in begun("chunks", "state").stdout
        store.chunks.complete(held)
        for failing in store.chunks.work(1):
            store.chunks.fail(failing, "no luck", retry=False)
    assert begun("chunks", "state", "--scan", "1").stdout.endswith("\nfinished\n")


def test_chunks_list_and_retry(begun: Run) -> None:
    lines = [cells(line) for line in begun("chunks", "list").stdout.splitlines()]
    first, second = (line[0] for line in lines)
    assert lines == [
        [first, "src/auth/login.py:1", "full_file", "pending"], [second, "src/util.py:1", "full_file", "pending"]
    ]  # fmt: skip
    for file in ("util.py", "src/util.py"):
        assert [row["id"] for row in data(begun("chunks", "list", "--file", file, "--json"))] == [int(second)]
    assert len(data(begun("chunks", "list", "--limit", "1", "--json"))) == 1
    assert "no chunks like that in scan 1" in one_line(begun("chunks", "list", "--status", "failed"))
    assert "no chunk of scan 1 has failed" in one_line(begun("chunks", "retry"))
    begun("scans", "risk", "1", "high", "util.py")
    with Store() as store:
        for chunk in store.chunks.claim(1, limit=2):
            store.chunks.fail(chunk, "no\nluck", retry=False)
    assert begun("chunks", "list", "--status", "FAILED").stdout.splitlines()[1].endswith(r"high risk, no\nluck")
    assert begun("chunks", "retry", first).stdout == "1 chunk waits again\n"
    assert "cannot become pending" in one_line(begun("chunks", "retry", first, code=1))
    assert data(begun("chunks", "retry", "--scan", "src", "--json")) == {"waiting": 1}


# models and their keys


def test_models(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ask.txt").write_text("Look at\n\x1b[31m{code}\n")
    line = run(
        "models", "add", "gpt", "--api-key", "env:GPT_KEY", "--base-url", "http://x", "--analyzer",
        "--max-tokens", "99", "--max-concurrent", "4", "--votes", "3", "--analysis-prompt", "ask.txt",
    ).stdout  # fmt: skip
    assert line == "Added model gpt: analyzer, 4 calls at once, 99 tokens an answer\n"
    assert "there is already a model 'gpt'" in one_line(run("models", "add", "gpt", code=1))
    assert data(run("models", "add", "plain", "--json"))["max_concurrent"] == 2
    assert [cells(line) for line in run("models", "list").stdout.splitlines()] == [
        ["gpt", "analyzer", "4 calls at once, 99 tokens an answer", "key env:GPT_KEY", "http://x"],
        ["plain", "no role", "2 calls at once, 4,096 tokens an answer", "key (none)"],
    ]
    shown = run("models", "show", "gpt").stdout
    assert "analysis prompt:\n  Look at\n  \\x1b[31m{code}\n" in shown and "env:GPT_KEY" in shown
    run("models", "update", "gpt", "--no-analyzer", "--verifier", "--max-concurrent", "1")
    with Store() as store, store.llm.slot("gpt"):
        assert "places    1 of 1 taken" in cells_of(run("models", "show", "gpt").stdout)
        found = data(run("models", "show", "gpt", "--json"))
    assert found["places"] == {"held": 1, "waiting": 0} and found["api_key"] == "env:GPT_KEY"
    assert (found["is_analyzer"], found["is_verifier"], found["votes"]) == (False, True, 3)
    assert data(run("models", "update", "gpt", "--api-key", "none", "--json"))["api_key"] == "(none)"
    assert data(run("models", "remove", "plain", "--json")) == {"removed": "plain"}
    assert run("models", "remove", "gpt").stdout == "Removed model gpt\n"
    assert "no models here; add one with: scanstore models add NAME" in one_line(run("models", "list"))


def cells_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_a_key_on_the_command_line_is_refused_and_not_repeated(run: Run, tmp_path: Path) -> None:
    for verb in ("add", "update"):
        for spelling in (("--api-key", SECRET), (f"--api-key={SECRET}",), ("--api-key", f" env:{SECRET}")):
            assert "does not belong on the command line" in run("models", verb, "m", *spelling, code=2).stderr
    assert os.listdir(tmp_path) == ["src"]
    both = run("models", "add", "m", "--api-key", "env:KEY", "--api-key-stdin", input=SECRET, code=2)
    assert "one of --api-key and --api-key-stdin" in one_line(both)


def test_a_key_from_stdin_is_kept_and_never_shown(run: Run) -> None:
    for bad, said in (("", "input has no key"), (" \n", "input has no key"), ("a\nb", "several lines")):
        assert said in one_line(run("models", "add", "m", "--api-key-stdin", input=bad, code=2))
    run("models", "add", "m", "--api-key-stdin", "--json", input=f"{SECRET}\n")
    for args in (("list",), ("show", "m"), ("update", "m", "--votes", "2")):
        assert data(run("models", *args, "--json")) and "(set)" in run("models", *args, "--json").stdout
        run("models", *args)
    with Store() as store:
        assert store.llm.get("m").resolved_api_key() == SECRET


def test_a_prompt_that_is_not_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ask.bin").write_bytes(b"\xff\xfe")
    result = run("models", "add", "m", "--verification-prompt", "ask.bin", code=2)
    assert one_line(result) == "Error: ask.bin cannot be read: it is not UTF-8 text"


# What was found


def test_drafts(done: Run) -> None:
    row = ["1", "src/auth/login.py:1", "high", "verified", "sqli", r"Query \x1b[31mpasted\nfrom\u202e input"]
    assert done("drafts", "list").stdout == "\t".join(row) + "\n"
    for option in (("--status", "Verified"), ("--severity", "HIGH"), ("--file", "src/auth/login.py"), ("--limit", "1")):
        assert len(data(done("drafts", "list", *option, "--json"))) == 1
    for option in (("--status", "pending"), ("--severity", "low"), ("--file", "util.py")):
        assert data(done("drafts", "list", *option, "--json")) == []
        assert "no drafts like that in scan 1" in one_line(done("drafts", "list", *option))
    text = done("drafts", "show", "1").stdout
    for part in (
        "src/auth/login.py:1-2", "CWE-89", "90%", "reported by  seeker", "\n\nreason:\n  because\n  Query \\x1b",
        "snippet:\n  def login(user):\n          pass\\x1b]0;owned\\x07\n", "1 vote:\n  round 1  judge  verified  80%",
        "verified finding 1: complete, 80% sure, published as finding 1 (open)",
    ):  # fmt: skip
        assert part in text
    found = data(done("drafts", "show", "1", "--json"))
    assert found["title"] == EVIL and found["votes"][0]["model"] == "judge"
    assert found["verified"]["draft"] == 1 and found["finding"]["verified"] == 1


def test_a_draft_that_nobody_has_voted_on(begun: Run) -> None:
    assert "no drafts in scan 1; its analysis is queued" in one_line(begun("drafts", "list"))
    with Store() as store:
        report = {"title": "T", "vulnerability_type": "x", "severity": "low", "file_path": "gone.py"}
        store.drafts.add(1, [{**report, "auto_detected": True}], source="rule")
    assert "gone.py" in done_text(begun("drafts", "show", "1"), "rule (a rule)")
    found = data(begun("drafts", "show", "1", "--json"))
    assert found["votes"] == [] and found["verified"] is None and found["finding"] is None


def done_text(result: Result, part: str) -> str:
    assert part in result.stdout
    return result.stdout


def test_findings(done: Run) -> None:
    row = ["1", "src/auth/login.py:1", "critical", "open", "sqli", r"Query \x1b[31mpasted\nfrom\u202e input", ""]
    assert done("findings", "list").stdout == "\t".join(row) + "\n"
    for option in (("--status", "open"), ("--severity", "critical"), ("--file", "auth/login.py"), ("--scan", "src")):
        assert len(data(done("findings", "list", *option, "--json"))) == 1
    assert "no findings like that in scan 1" in one_line(done("findings", "list", "--status", "fixed"))
    text = done("findings", "show", "1").stdout
    for part in (
        "src/auth/login.py:1-2", "CWE-89", "9.8", "details:\n  Query \\x1b[31mpasted\n  from\\u202e input\n",
        "proof of concept:\n  curl\n", "remediation:\n  1. bind\n  2. test\n",
        "references:\n  https://example.org/1\n  https://example.org/2\n", "attack vector:\n  the web\n",
        "data flow:\n  a -> b\n", "from draft 1, reported by seeker\n", "judge  verified  80%  critical",
    ):  # fmt: skip
        assert part in text
    found = data(done("findings", "show", "1", "--json"))
    assert found["draft"]["id"] == 1 and found["verified"]["id"] == 1 and found["votes"][0]["model"] == "judge"
    assert found["references"] == "https://example.org/1\nhttps://example.org/2"


def test_nothing_of_a_model_is_obeyed_by_the_terminal(done: Run) -> None:
    with Store() as store:
        store.scans.rerun(1, to="scan")
        store.chunks.fail(store.chunks.claim(1, worker=EVIL)[0], EVIL, retry=False)
        store.scans.pause(1, reason=EVIL)
    for args in (("drafts", "list"), ("drafts", "show", "1"), ("findings", "list"), ("findings", "show", "1"),
                 ("chunks", "list"), ("scans", "progress"), ("scans", "progress", "--watch"), ("scans", "list"),
                 ("models", "remove", EVIL), ("scans", "risk", "1", "high", EVIL)):  # fmt: skip
        output = done(*args, code=None).output
        assert not set(output) & set("\x1b\x07\x9b\u202e\r"), args


def test_findings_of_an_empty_analysis(begun: Run) -> None:
    _, *told = begun("findings", "list").stderr.splitlines()
    assert "not all of it was looked at" in told[0] and told[1].startswith("no findings in scan 1")
    assert data(begun("findings", "list", "--json")) == []


def test_usage(done: Run) -> None:
    with Store() as store, store.llm.call("judge", purpose="verification") as call:
        call.response, call.cost = "no", 1.5
    told = done("llm", "usage")
    assert [line.split("\t")[:-1] for line in told.stdout.splitlines()] == [
        ["judge", "verification", "1", "1", "0", "0", "0", "0", "1.5000"],
        ["seeker", "analysis", "2", "2", "0", "0", "2,400", "68", "0.0250"],
    ]
    total = "total: calls 3, answered 3, failed 0, running 0, tokens in 2,400, tokens out 68, cost 1.5250, seconds "
    assert told.stderr.startswith(total)
    (found,) = data(done("llm", "usage", "--scan", "1", "--json"))
    assert (found["model"], found["calls"], found["cost"]) == ("seeker", 2, 0.025)
    assert "total" not in done("llm", "usage", "--scan", "src").output
    dearest = done("llm", "usage", "--sort", "-cost", "--columns", "model,tokens in", "--json")
    assert data(dearest) == [{"model": "judge", "tokens in": 0}, {"model": "seeker", "tokens in": 2400}]


def test_usage_of_nothing(scanned: Run) -> None:
    assert one_line(scanned("llm", "usage")) == "no model was called"
    assert one_line(scanned("llm", "usage", "--scan", "1")) == "no model was called for scan 1"
    assert data(scanned("llm", "usage", "--json")) == []


# The life of an analysis


def test_analyze(scanned: Run, tmp_path: Path) -> None:
    result = scanned("scans", "analyze", "src", "--concurrency", "3", "--pause-after", "none", "--max-retries", "0")
    assert result.stdout == f"Analysis of scan 1 of {tmp_path / 'src'}: queued, chunks: 2 pending\n"
    assert "store.chunks.work(1)" in one_line(result)
    options = ("--mode", "primary_only", "--verifiers", "4", "--enrichers", "6", "--scope", "full")
    assert data(scanned("scans", "analyze", *options, "--json"))["active_since"].endswith("Z")
    with Store() as store:
        (config,) = store.scans.get(1).configs
        assert (config.scanner_concurrency, config.pause_after, config.max_retries) == (3, None, 0)
        assert (config.analysis_mode, config.verifier_concurrency, config.enricher_concurrency) == (
            "primary_only", 4, 6
        )  # fmt: skip
        for chunk in store.chunks.work(1):
            store.chunks.complete(chunk)
    scanned("scan", "src")
    again = scanned("scans", "analyze", "--scope", "changed")
    assert again.stdout.endswith(": completed, chunks: 2 skipped\n") and said(again) == ""


def test_life(begun: Run, tmp_path: Path) -> None:
    where = f"Scan 1 of {tmp_path / 'src'}"
    assert begun("scans", "pause", "1", "--reason", "tea").stdout == f"{where} is paused\n"
    assert "scan 1 is paused and cannot become paused" in one_line(begun("scans", "pause", "src", code=1))
    assert "reason    tea" in cells_of(begun("scans", "progress").stdout)
    assert begun("scans", "resume", "1").stdout == f"{where} is running\n"
    assert "scan 1 is running; pause it first" in one_line(begun("scans", "rerun", "1", "--to", "scan", code=1))
    assert data(begun("scans", "cancel", "1", "--json", "--reason", "enough"))["error"] == "enough"
    assert data(begun("scans", "resume", "src", "--json"))["status"] == "running"
    with Store() as store:
        for chunk in store.chunks.claim(1, limit=2):
            store.chunks.complete(chunk)
    assert begun("scans", "rerun", "1", "--to", "scan", "--failed-only").stdout == "Scan 1: nothing waits again\n"
    assert begun("scans", "rerun", "1", "--to", "scan").stdout == "Scan 1: 2 chunks wait again\n"
    begun("scans", "pause", "1")
    assert data(begun("scans", "rerun", "1", "--to", "verify", "--json")) == {
        "scan": 1, "chunks": 0, "drafts": 0, "verified": 0
    }  # fmt: skip


def test_risk(begun: Run) -> None:
    assert begun("scans", "risk", "1", "high", "auth/").stdout == "1 file of scan 1 has high risk now\n"
    assert begun("scans", "risk", "src", "low", "*.py").stdout == "2 files of scan 1 have low risk now\n"
    assert data(begun("scans", "risk", "1", "normal", "util.py", "--json")) == {"scan": 1, "risk": "normal", "files": 1}
    assert data(begun("scans", "risk", "1", "high", "no.py", "--json", code=1))["files"] == 0
    assert "low risk" in begun("chunks", "list").stdout


def test_progress(done: Run, tmp_path: Path) -> None:
    assert cells_of(done("scans", "progress").stdout) == [
        f"Scan 1 of {tmp_path / 'src'}: completed", "chunks    2 of 2 (2 done)", "drafts    1 of 1 (1 verified)",
        "verified  1 of 1 (1 complete)", "findings  1", "models    2 calls, 2,468 tokens, cost 0.0250",
    ]  # fmt: skip
    found = data(done("scans", "progress", "src", "--json"))
    assert found["chunks"] == {"done": 2} and found["tokens"] == 2468 and found["status"] == "completed"
    done("scans", "rerun", "1", "--to", "scan")
    with Store() as store:
        store.chunks.complete(store.chunks.claim(1)[0])
        store.chunks.claim(1)
        lines = cells_of(done("scans", "progress").stdout)
    assert lines[0].endswith(": running, scanning") and lines[1] == "chunks    1 of 2 (1 running, 1 done)"
    assert any(line.startswith("rate") and " a minute, about " in line for line in lines)


def test_durations() -> None:
    shown = [analysis._duration(seconds) for seconds in (0.2, 89, 90, 3569, 3600, 90061)]
    assert shown == ["0 s", "89 s", "2 min", "59 min", "1 h 0 min", "25 h 1 min"]


def test_progress_of_drafts_alone_needs_no_analysis(scanned: Run) -> None:
    with Store() as store:
        report = {"title": "T", "vulnerability_type": "x", "severity": "low", "file_path": "util.py"}
        store.drafts.add(1, [report], source="rule")
    assert "drafts    0 of 1 (1 pending)" in cells_of(scanned("scans", "progress").stdout)


def test_remove_says_what_went_with_the_analysis(done: Run) -> None:
    line = done("scans", "remove", "1").stdout
    assert line.endswith(", 1 draft, 1 vote, 1 sighting, 1 finding, 2 model calls\n")


def test_recover_frees_what_a_dead_process_held(begun: Run, tmp_path: Path) -> None:
    assert begun("recover").stdout == "Nothing was lost\n"
    claim = "import os; from scanstore import Store; s = Store(); s.chunks.claim(1, limit={}); os.kill(os.getpid(), 9)"
    for number, args, said in (
        (2, (), "2 pieces of work wait again, 0 failed for good\n"),
        (1, ("--json",), '{\n  "waiting": 1,\n  "failed": 0\n}\n'),
    ):
        killed = subprocess.run([sys.executable, "-c", claim.format(number)], env=environment(), timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert begun("recover", *args).stdout == said
    with Store() as store:
        assert store.chunks.state(1).ready == 2


# Watching


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color", **more}


def test_watching_in_a_pipe_is_a_line_for_each_change(begun: Run) -> None:
    for as_json in (False, True):
        more = ["--json"] if as_json else []
        process = subprocess.Popen(
            [*COMMAND, "scans", "progress", "--watch", "--interval", "0.05", *more],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.3)  # several looks at nothing new
        with Store() as store:
            for chunk in store.chunks.work(1):
                store.chunks.complete(chunk)
        rest, errors = process.communicate(timeout=60)
        noted = json.loads(errors)["note"] if as_json else errors.rstrip("\n")
        assert process.returncode == 0 and re.fullmatch(r"scan 1 of .* UTC; no file has changed since", noted)
        lines = [first.rstrip("\n"), *rest.splitlines()]
        assert len(lines) == len(set(lines)) and 2 <= len(lines) <= 6
        if as_json:
            assert [json.loads(line)["status"] for line in (lines[0], lines[-1])] == ["queued", "completed"]
        else:
            assert lines[0] == "queued scanning  chunks 0/2, drafts 0/0, verified 0/0, 0 findings"
            assert lines[-1] == "completed completed  chunks 2/2, drafts 0/0, verified 0/0, 0 findings"
            begun("scans", "rerun", "1", "--to", "scan")


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_watching_ends_with_1_when_it_was_stopped(begun: Run, verb: str) -> None:
    begun("scans", verb, "1", "--reason", "tea")
    assert begun("scans", "progress", "--watch", code=1).stdout.endswith("0 findings: tea\n")


def in_terminal(*args: str, at: bytes, then: Callable[[int], None], **more: str) -> tuple[int, str]:
    """Run in a terminal of its own; once these bytes are on the screen, do something with it."""
    child, screen = pty.fork()
    if child == 0:
        os.execve(sys.executable, [*COMMAND, *args], environment(**more))
    shown = b""
    acted = False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([screen], [], [], 0.05)[0]:
            try:
                block = os.read(screen, 65536)
            except OSError as error:  # how Linux says that the other end is closed
                assert error.errno == errno.EIO
                break
            if not block:
                break
            shown += block
        if not acted and at in shown:
            acted = True
            threading.Thread(target=then, args=(screen,)).start()
    else:
        os.kill(child, signal.SIGKILL)
    os.close(screen)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


def test_watching_on_a_terminal_is_redrawn_in_place(begun: Run) -> None:
    def work(_: int) -> None:
        with Store() as store:
            for chunk in store.chunks.work(1):
                store.chunks.complete(chunk)

    watch = ("scans", "progress", "--watch", "--interval", "0.1")
    code, shown = in_terminal(*watch, at=b"2 pending", then=work, COLUMNS="300")
    assert code == 0 and "\x1b[1A" in shown and "queued, scanning" in shown  # the cursor goes up again
    last = shown.rpartition("Scan 1 of ")[2]
    assert ": completed" in last and "2 of 2 (2 done)" in last and "2 pending" not in last
    assert "\x1b[?25h" in last  # the cursor is visible again


def test_ctrl_c_ends_watching_with_130(begun: Run) -> None:
    def press(screen: int) -> None:
        os.write(screen, b"\x03")

    code, shown = in_terminal("scans", "progress", "--watch", at=b"2 pending", then=press, NO_COLOR="1")
    assert code == 130 and shown.rstrip().endswith("Interrupted.") and "Traceback" not in shown


def test_a_key_typed_on_a_terminal_is_not_shown(run: Run) -> None:
    def type_key(screen: int) -> None:
        time.sleep(0.3)  # the prompt is there before the echo is off
        os.write(screen, f"{SECRET}\n".encode())

    code, shown = in_terminal("models", "add", "m", "--api-key-stdin", at=b"API key: ", then=type_key)
    assert code == 0 and SECRET not in shown and "Added model m" in shown
    with Store() as store:
        assert store.llm.get("m").resolved_api_key() == SECRET


def test_watching_loads_rich_and_nothing_else_does(begun: Run) -> None:
    code = """
import sys
from scanstore.cli import main
try:
    main({!r})
except SystemExit:
    pass
print("loaded:", sorted({{"rich", "pathspec", "peewee_migrate"}} & set(sys.modules)))
"""
    for args in (["scans", "progress"], ["chunks", "list"], ["findings", "list"], ["models", "list"]):
        found = subprocess.run([sys.executable, "-c", code.format(args)], env=environment(), capture_output=True)
        assert found.stdout.endswith(b"loaded: []\n"), found.stdout


def test_every_command_is_here() -> None:
    wanted = {
        "chunks": {"state", "list", "retry"}, "drafts": {"list", "show"}, "findings": {"list", "show"},
        "models": {"add", "list", "show", "update", "remove"}, "llm": {"usage"},
        "scans": {"analyze", "progress", "pause", "resume", "cancel", "rerun", "risk"},
    }  # fmt: skip
    for name, verbs in wanted.items():
        group = main.commands[name]
        assert isinstance(group, click.Group) and verbs <= set(group.commands)
    assert "recover" in main.commands


def test_a_broken_pattern_is_one_line(begun: Run) -> None:
    done = begun("scans", "risk", "1", "high", "!", code=1)
    assert done.stdout == "" and "'!', which is no pattern" in done.stderr
