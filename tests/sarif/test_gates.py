"""Gates: exit code 0 and "fixed" are said only after looking, and every list says the same of a finding."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sampling import sampled
from stressing import LONG
from test_sarif import Document, dumped, load, packed, report, result, results, rows, series

from scanstore.cli import main
from scanstore.db.values import utcnow
from scanstore.errors import InvalidArgument
from scanstore.models import Finding, Suppression, ToolRun
from scanstore.report.gather import gather, render
from scanstore.store import Store

Run = Callable[..., Result]
TOOL = {"driver": {"name": "Demo"}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in an empty folder; ``input`` may be a document."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCANSTORE_DB", "gate.db")

    def invoke(*words: str, code: int = 0, input: Any = None) -> Result:
        data = input if isinstance(input, bytes) else None if input is None else json.dumps(input).encode()
        done = CliRunner().invoke(main, words, prog_name="scanstore", input=data)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return invoke


def loaded(run: Run, document: Any, *words: str, code: int = 0) -> Result:
    return run("sarif", "load", "-", "--target", "t", *words, input=document, code=code)


def failing(*found: Any, **invocation: Any) -> Document:
    return report(*found, invocations=[{"executionSuccessful": True, **invocation}])


def noted(level: str = "error", **more: Any) -> dict[str, Any]:
    return {"level": level, "message": {"text": "it broke"}, **more}


def at(uri: Any) -> list[Any]:
    return [{"physicalLocation": {"artifactLocation": {"uri": uri}}}]


def first_run(**members: Any) -> Document:
    return {"version": "2.1.0", "runs": [{"tool": TOOL, "results": [], **members}]}


def without(name: str) -> Document:
    document = first_run()
    del document["runs"][0][name]
    return document


# What is no all-clear

NOT_CLEAR = {
    "all results are left out": report(42, {"ruleId": 7}, {"message": {}}),
    "one result of two is left out": report(result(1, level="none"), 42),
    "the rule cannot be used": report(result(1, ruleIndex=99)),
    "results are a number": first_run(results=42),
    "results are an object": first_run(results={}),
    "results are null": first_run(results=None),
    "results are missing": without("results"),
    "runs are empty": {"version": "2.1.0", "runs": []},
    "a run is null": {"version": "2.1.0", "runs": [None]},
    "a run is text": {"version": "2.1.0", "runs": ["x"]},
    "the tool is missing": without("tool"),
    "the tool has no name": first_run(tool={"driver": {"name": ""}}),
    "one run of two cannot be used": {"version": "2.1.0", "runs": [*first_run()["runs"], 3]},
    "not successful": failing(executionSuccessful=False),
    "one of two invocations was not successful": report(
        invocations=[{"executionSuccessful": True}, {"executionSuccessful": False}]
    ),
    "success is text": failing(executionSuccessful="true"),
    "success is null and the code is 2": failing(executionSuccessful=None, exitCode=2),
    "the code is 2 and success is missing": report(invocations=[{"exitCode": 2}]),
    "ended by a signal": failing(exitSignalName="SIGKILL"),
    "ended by a number": failing(exitSignalNumber=9),
    "did not start": failing(processStartFailureMessage="no such file"),
    "an error": failing(toolExecutionNotifications=[noted()]),
    "an error in capitals": failing(toolExecutionNotifications=[noted("ERROR")]),
    "an error of the configuration": failing(toolConfigurationNotifications=[noted()]),
    "an error about a file": failing(toolExecutionNotifications=[noted(locations=at("src/x.py"))]),
    "an error about a rule": failing(toolExecutionNotifications=[noted(associatedRule={"id": "R1"})]),
    "an error about a file without an address": failing(toolExecutionNotifications=[noted(locations=at(7))]),
    "an error about a file outside": failing(toolExecutionNotifications=[noted(locations=at("file:///else/x.py"))]),
    "notifications are text": failing(toolExecutionNotifications="x"),
    "a notification is a number": failing(toolExecutionNotifications=[4]),
    "invocations are text": report(invocations="x"),
    "an invocation is a number": report(invocations=[4]),
    "the converter failed": report(conversion={"tool": TOOL, "invocation": {"executionSuccessful": False}}),
    "overrides are text": failing(ruleConfigurationOverrides="x"),
    "an override names no rule": failing(ruleConfigurationOverrides=[{"configuration": {"enabled": False}}]),
    "results are in another file": first_run(externalPropertyFileReferences={"results": [{"location": {"uri": "x"}}]}),
    "results are inline elsewhere": {**first_run(), "inlineExternalProperties": [{"results": [result(1)]}]},
    "artifacts are a number": report(artifacts=7),
    "rules are text": first_run(tool={"driver": {"name": "Demo", "rules": "x"}}),
    "extensions are text": first_run(tool={"driver": {"name": "Demo"}, "extensions": "x"}),
}  # fmt: skip
REFUSED = {
    "runs are missing": {"version": "2.1.0"},
    "runs are a number": {"version": "2.1.0", "runs": 42},
    "runs are an object": {"version": "2.1.0", "runs": {}},
    "runs are null": {"version": "2.1.0", "runs": None},
    "runs are minus one": {"version": "2.1.0", "runs": -1},
    "no SARIF": {"results": []},
    "no object": [1, 2],
    "truncated": json.dumps(report(result(1), result(2))).encode()[:-30],
    "empty": b"",
    "no JSON": b"Traceback (most recent call last):\n",
}
CLEAR = {
    "nothing found": report(),
    "successful": failing(),
    "successful with the code of findings": failing(exitCode=1),
    "silent": report(invocations=[{}]),
    "a warning": failing(toolExecutionNotifications=[noted("warning")], toolConfigurationNotifications=[noted("note")]),
    "a notification without level": failing(toolExecutionNotifications=[{"message": {"text": "x"}}]),
    "results that pass": report(result(1, kind="pass"), result(2, baselineState="absent")),
    "nulls for what is optional": report(invocations=None, artifacts=None, conversion=None),
}


@pytest.mark.parametrize(("number", "document"), list(enumerate(NOT_CLEAR.values())), ids=NOT_CLEAR)
def test_a_report_that_was_not_read_whole_never_passes(run: Run, number: int, document: Any, tmp_path: Path) -> None:
    loaded(run, report(result(5), result(6)))
    done = loaded(run, document, "--fail-on", "any-critical", code=1)
    assert "not everything was checked" in done.stderr and "not an all-clear" in done.stderr
    # Ever after, for the scan and for the target, in every form; by default a part of these takes its turn.
    asked: tuple[tuple[str, ...], ...] = ((), ("--scan", "2"), ("--scan", "t"))
    for words in asked if LONG else asked[number % 3 :][:1]:
        run("report", *words, "--fail-on", ("any-critical", "new-critical")[number % 2], code=1)
        if LONG:
            run("report", *words, "--fail-on", ("new-critical", "any-critical")[number % 2], code=1)
        for form in range(6) if LONG else (number % 6, (number + number // 6 + 1) % 6):
            if form == 0:
                assert "Not an all-clear" in run("report", *words).stdout
            elif form == 1:
                assert "not an all-clear" in run("findings", "list", *words).stderr
            elif form == 2:
                done = run("report", *words, "--format", "csv")
                assert "not an all-clear" in done.stderr and "all-clear" not in done.stdout
            elif form == 3:
                assert json.loads(run("report", *words, "--json").stdout)["troubles"]
            else:
                assert "Not an all-clear" in run("report", *words, "--format", ("html", "markdown")[form - 4]).stdout
    # It is told when it is written, too: who reads that does not take it for an all-clear either.
    with Store("gate.db") as store:
        assert store.findings.troubles() and store.findings.troubles(scan=2) and not store.findings.troubles(scan=1)
        copied = dumped(store, 2)
    with Store(tmp_path / "copy.db") as other:
        load(other, report(result(5)), target="t")
        again = load(other, copied, target="t")
        assert again.troubles and again.fixed == 0


@pytest.mark.parametrize("document", sampled(NOT_CLEAR.values(), 3, ids=NOT_CLEAR))
def test_strict_refuses_and_writes_nothing(run: Run, document: Any) -> None:
    loaded(run, report(result(1)))
    with Store("gate.db") as store:
        before = rows(store)
    assert "nothing was written" in loaded(run, document, "--strict", code=1).stderr
    with Store("gate.db") as store:
        assert rows(store) == before
        with pytest.raises(InvalidArgument, match="strict"):
            store.sarif.load(packed(document), target="t", strict=True)
        found = load(store, document)
        assert found.scan and found.troubles
        with pytest.raises(InvalidArgument, match="strict"):  # the same again is as bad
            store.sarif.load(packed(document), target="t", strict=True)
        assert ToolRun.select().where(ToolRun.repeats > 0).count() == 0
        assert load(store, document) == (*found[:0], *_again(found))


def _again(found: Any) -> Any:
    return type(found)(found.scan, again=True, troubles=found.troubles)


@pytest.mark.parametrize("document", sampled(NOT_CLEAR.values(), ids=NOT_CLEAR))
def test_a_run_that_failed_fixes_nothing_it_did_not_look_for(store: Store, document: Any) -> None:
    load(store, report(result(1), result(2, uri="src/x.py", rule="R2")))
    found = load(store, document)
    gone = {(one.rule_id, one.file_path) for one in store.findings.list(state="fixed")}
    assert len(gone) == found.fixed
    if document is NOT_CLEAR["an error about a file"]:  # it says so, and has looked at the others
        assert gone == {("R1", "src/a.py")}
    else:
        assert gone == set() or (document is NOT_CLEAR["an error about a rule"] and gone == {("R2", "src/x.py")})
    # The next good run says what is gone.
    load(store, ruled(rules=[{"id": "R1"}, {"id": "R2"}], invocations=[{"executionSuccessful": True}]))
    assert store.findings.list() == [] and store.findings.troubles() == []


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED)
def test_what_is_no_report_is_refused_and_ends_with_1(run: Run, document: Any) -> None:
    loaded(run, report(result(1)))
    with Store("gate.db") as store:
        before = rows(store)
    for words in ((), ("--fail-on", "any-low"), ("--strict",)):
        assert "Error" in loaded(run, document, *words, code=1).stderr
    with Store("gate.db") as store:
        assert rows(store) == before


@pytest.mark.parametrize("document", CLEAR.values(), ids=CLEAR)
def test_a_report_of_a_tool_that_looked_passes(run: Run, document: Any) -> None:
    loaded(run, report(result(1)))
    done = loaded(run, document, "--fail-on", "any-info", "--strict")
    assert "1 fixed" in done.stdout and "all-clear" not in done.output
    for words in ((), ("--scan", "2")):
        assert "all-clear" not in run("report", *words, "--fail-on", "any-info").output
        assert "all-clear" not in run("findings", "list", *words).output


def test_a_good_run_ends_the_trouble_of_its_own_tool_only(run: Run) -> None:
    loaded(run, report(result(1), tool="A"))
    loaded(run, report(42, tool="A"))
    loaded(run, report(tool="B"), "--fail-on", "any-critical")  # this report is fine
    assert "A 1, scan 2: 1 of 1 results" in run("report", "--fail-on", "any-critical", code=1).stderr
    run("report", "--scan", "3", "--fail-on", "any-critical")
    loaded(run, series("x", tool_name="A"))  # speaks of its own category, and A has none
    run("report", "--fail-on", "any-critical")
    loaded(run, {"version": "2.1.0", "runs": []})
    run("report", "--fail-on", "any-critical", code=1)
    loaded(run, report(result(2), tool="A"))
    run("report", "--fail-on", "any-critical", code=1)  # it may have been the other one
    loaded(run, report(tool="B", invocations=[]))
    run("report", "--fail-on", "any-critical")


@pytest.mark.parametrize("options", [("--exclude", "*"), ("--max-size", "2")])
def test_an_analysis_that_had_nothing_to_look_at_is_no_all_clear(
    run: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.py").write_text("x = 1\n")
    run("scan", "tree", *options)
    run("scans", "analyze", "1")
    assert "had nothing to look at" in run("report", "--fail-on", "any-low", code=1).stderr
    assert "had nothing to look at" in run("findings", "list").stderr


def test_an_analysis_that_left_large_files_out_is_no_all_clear(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.py").write_text("x = 1\n")
    (tmp_path / "tree/b.py").write_text("x = 1\n" * 9)
    (tmp_path / "tree/c.bin").write_bytes(b"\0")
    for size, told in (("20", "did not look at 1 file that is too large"), ("99", "")):
        run("scan", "tree", "--max-size", size)
        with Store("gate.db") as store:
            scan = store.scans.analyze(store.scans.latest())
            for chunk in store.chunks.work(scan, worker="w"):
                store.chunks.complete(chunk)
        assert told in run("report", "--fail-on", "any-low", code=1 if told else 0).stderr


def test_a_report_that_comes_again_is_judged_with_what_other_tools_found_since(run: Run) -> None:
    loaded(run, report(tool="A"), "--fail-on", "any-low")
    loaded(run, report(result(1), tool="B"))
    for gate in ("any-low", "new-low"):
        done = loaded(run, report(tool="A"), "--fail-on", gate, code=1)
        assert "was loaded before, as scan 1" in done.stderr
        run("report", "--fail-on", gate, code=1)


def test_a_place_that_cannot_be_used_does_not_make_its_finding_a_fixed_one(store: Store) -> None:
    load(store, report(result(1), result(2, rule="R2")))
    found = load(store, report(result(1, uri="../../elsewhere.py", line=77)))
    assert (found.troubles, found.new, found.fixed, found.not_checked) == ([], 1, 1, 1)
    assert [one.rule_id for one in store.findings.list(state="fixed")] == ["R2"]
    with pytest.raises(InvalidArgument, match="leaves the scanned tree"):
        store.sarif.load(packed(report(result(1, uri="../x"))), target="t", strict=True)


def test_nothing_passes_when_nothing_has_looked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.py").write_text("x = 1\n")
    run("scan", "tree")
    done = run("report", "--fail-on", "any-low", code=1)
    assert "no tool has looked" in done.stderr and "Not an all-clear" in done.stdout
    with Store("gate.db") as store:
        store.llm.add("m")
        store.scans.analyze(store.scans.latest())
        assert "queued" in store.findings.troubles()[0] or "running" in store.findings.troubles()[0]
    run("report", "--fail-on", "any-low", code=1)


# Which rules ran


def ruled(*found: Document, rules: Any, **members: Any) -> Document:
    return first_run(tool={"driver": {"name": "Demo", "rules": rules}}, results=list(found), **members)


OFF = {"id": "R1", "defaultConfiguration": {"enabled": False}}
OTHER = {"id": "R2"}


def overriding(enabled: Any, **descriptor: Any) -> dict[str, Any]:
    override = {"descriptor": descriptor, "configuration": {"enabled": enabled}}
    return {"invocations": [{"executionSuccessful": True, "ruleConfigurationOverrides": [override]}]}


@pytest.mark.parametrize(
    ("then", "now", "fixed"),
    [
        pytest.param(ruled(result(1), result(2), rules=[OFF]), ruled(result(2), rules=[OFF]), 1, id="it has a result"),
        pytest.param(ruled(result(1), rules=[OFF]), ruled(result(9, kind="pass"), rules=[OFF]), 1, id="it passed"),
        pytest.param(ruled(result(1), rules=[OFF]), ruled(rules=[OFF]), 1, id="selected before, and listed again"),
        pytest.param(ruled(result(1), rules=[OFF]), ruled(rules=[]), 1, id="only rules with results are listed"),
        pytest.param(ruled(result(1), rules=[]), ruled(rules=[OFF]), 0, id="nothing says that it was selected"),
        pytest.param(ruled(result(1), rules=[{"id": "R1"}]), ruled(rules=[OFF]), 0, id="it was on by default before"),
        pytest.param(
            ruled(result(1), rules=[OFF], invocations=[{"executionSuccessful": True, "arguments": ["--all"]}]),
            ruled(rules=[OFF], invocations=[{"executionSuccessful": True, "arguments": ["--few"]}]),
            0, id="other arguments",
        ),
        pytest.param(
            ruled(result(1), rules=[OFF], invocations=[{"executionSuccessful": True, "commandLine": "x --all"}]),
            ruled(rules=[OFF], invocations=[{"executionSuccessful": True, "commandLine": "x --all"}]),
            1, id="the same command line",
        ),
        pytest.param(ruled(result(1), rules=[OFF]), ruled(rules=[OTHER]), 0, id="it is not listed and others are"),
        pytest.param(ruled(result(1), rules=[OTHER]), ruled(rules=[{"id": "R1"}, OTHER]), 1, id="on by default"),
        pytest.param(ruled(result(1), rules=[{"id": "R1"}]),
                     ruled(rules=[{"id": "R1"}], **overriding(False, id="R1")), 0, id="switched off by id"),
        pytest.param(ruled(result(1), rules=[{"id": "R1"}]),
                     ruled(rules=[OTHER, {"id": "R1"}], **overriding(False, index=1)), 0, id="switched off by index"),
        pytest.param(ruled(result(1), rules=[{"id": "R1", "guid": "g"}]),
                     ruled(rules=[{"id": "R1", "guid": "g"}], **overriding(False, guid="g")), 0, id="off by guid"),
        pytest.param(ruled(result(1), rules=[]), ruled(rules=[], **overriding(False, id="R1")), 0,
                     id="off, and not described"),
        pytest.param(ruled(result(1), rules=[OFF]), ruled(rules=[OFF], **overriding(True, id="R1")), 1,
                     id="switched on"),
        pytest.param(ruled(result(1), rules=[]), ruled(rules=[OFF], **overriding(True, index=0)), 1,
                     id="switched on, and unknown before"),
        pytest.param(ruled(result(1), result(2), rules=[{"id": "R1"}]),
                     ruled(result(2), rules=[{"id": "R1"}], **overriding(False, id="R1")), 1,
                     id="switched off, and yet with a result"),
        pytest.param(ruled(result(1, rule="R1/a"), rules=[{"id": "R1"}, OTHER]),
                     ruled(rules=[{"id": "R1"}, OTHER]), 1, id="a case of a rule that is listed"),
        pytest.param(ruled(result(1, rule="R1/a"), rules=[{"id": "R1"}]),
                     ruled(rules=[{"id": "R1"}, OTHER], **overriding(False, id="R1")), 0, id="a case of one off"),
        pytest.param(
            ruled(result(1), rules=[]),
            ruled(rules=[], invocations=[{"executionSuccessful": True, "toolExecutionNotifications": [
                noted(associatedRule={"id": "R1"})]}]), 0, id="the tool failed on the rule"),
    ],
)  # fmt: skip
def test_fixed_is_what_a_rule_that_ran_does_not_name(store: Store, then: Document, now: Document, fixed: int) -> None:
    before = load(store, then)
    found = load(store, now)
    assert (found.fixed, found.not_checked) == (fixed, before.new - fixed - found.unchanged)


def test_a_rule_that_ran_every_time_is_fixed_in_the_end(store: Store) -> None:
    """As ruff writes it: the rule is described only while it has results, as off by default."""
    for found, fixed in (((1, 2, 3), 0), ((1, 2), 1), ((1,), 1), ((), 1)):
        document = ruled(*(result(n) for n in found), rules=[OFF] if found else [])
        assert load(store, document).fixed == fixed
    assert store.findings.list() == []


def test_the_level_of_a_rule_is_the_one_that_the_run_has_set(store: Store) -> None:
    override = {"descriptor": {"id": "R1"}, "configuration": {"level": "error"}}
    invocations = [{"executionSuccessful": True, "ruleConfigurationOverrides": [override]}]
    rules = [{"id": "R1", "defaultConfiguration": {"level": "note"}}]
    load(store, ruled(result(1), result(2, level="note"), rules=rules, invocations=invocations))
    assert sorted(one.severity for one in store.findings.list()) == ["high", "low"]
    again = dumped(store)
    assert sorted(one["level"] for one in results(again)) == ["error", "note"]
    assert again["runs"][0]["tool"]["driver"]["rules"][0]["defaultConfiguration"] == {"level": "note"}


# The same report again


def test_a_report_is_a_repetition_of_the_latest_one_only(run: Run) -> None:
    high = {"properties": {"security-severity": "8"}}
    a, b = report(result(1, **high)), report()
    loaded(run, a, "--fail-on", "new-high", code=1)
    done = loaded(run, a, "--fail-on", "new-high", code=1)  # what failed once fails again
    assert "loaded before, as scan 1" in done.stderr
    assert "1 fixed" in loaded(run, b, "--fail-on", "any-low").stdout
    done = loaded(run, a, "--fail-on", "new-high", code=1)
    assert "scan 3" in done.stdout and "1 reopened" in done.stdout
    assert [row["status"] for row in json.loads(run("findings", "list", "--json").stdout)] == ["open"]
    loaded(run, a)
    loaded(run, a)
    told = json.loads(run("report", "--json").stdout)["runs"]
    assert [(one["scan"], one["repeats"], one["repeated_at"] > one["loaded_at"]) for one in told] == [(3, 2, True)]
    assert "same report again 2 times, last 20" in run("report").stdout
    assert "same report again 2 times" in run("report", "--format", "html").stdout


def test_what_makes_the_same_report_a_new_scan(store: Store) -> None:
    a = report(result(1), result(2))
    first = load(store, a)
    assert load(store, a).again
    load(store, report(result(7), tool="Other"))
    assert load(store, a) == (type(first))(first.scan, again=True)  # another tool is another matter
    load(store, series("x", result(1)))
    back = load(store, a)  # whoever names no category speaks of all
    assert not back.again and back.scan == 4
    ours, theirs = series("ci/a", result(1)), series("ci/b", result(2))
    for document in (ours, theirs, ours, theirs):
        load(store, document, target="u")
    assert ToolRun.select().where(ToolRun.repeats == 1).count() == 2  # of each category
    scoped = load(store, a, scope=["src/"])
    assert not scoped.again and load(store, a, scope=["src/"]).again
    assert not load(store, a).again
    # What somebody marked as fixed and is still there.
    one, *_ = store.findings.list(target="t")
    store.findings.triage(one, "fixed", by="ann")
    again = load(store, a)
    assert (again.again, again.reopened) == (False, 1) and store.findings.get(one).status == "open"


def test_runs_of_several_tools_in_one_report_are_repeated_together(store: Store) -> None:
    both = {"version": "2.1.0", "runs": [*report(tool="A")["runs"], *report(result(1), tool="B")["runs"]]}
    load(store, both)
    assert load(store, both).again
    load(store, report(result(2), tool="B"))
    assert not load(store, both).again


# One state everywhere

HIGH = {"properties": {"security-severity": "8"}}
WORSE = {"properties": {"security-severity": "9.5"}}
LOW = {"properties": {"security-severity": "1"}}


def marked(status: str) -> Callable[[Store], None]:
    return lambda store: (
        store.findings.triage(Finding.get(), status, by="ann"),  # type: ignore[return-value]
        None,
    )[1]


def expired(store: Store) -> None:
    made = store.findings.suppress(Finding.get(), reason="later", by="ann", expires=utcnow() + timedelta(days=1))
    load(store, report(result(1, **HIGH), invocations=[]))
    Suppression.update(expires_at=utcnow()).where(Suppression.id == made.id).execute()


def judged_and_taken_back(store: Store) -> None:
    store.findings.triage(Finding.get(), "false_positive", by="ann")
    load(store, report(result(1, **HIGH), invocations=[]))
    store.findings.triage(Finding.get(), "open", by="ann")


def hidden_then(document: Document) -> Callable[[Store], None]:
    return lambda store: load(store, document) and None


KEPT = report(result(1, **HIGH, suppressions=[{"kind": "inSource"}]), invocations=[])
# Name: what is in the first report, what happens then, the last report; its state, in SARIF, the status, and the gates.
STATES = {
    "new": (report(), None, report(result(1, **HIGH), artifacts=[]), "new", "new", "open", (1, 1)),
    "unchanged": (report(result(1, **HIGH)), None, None, "unchanged", "unchanged", "open", (0, 1)),
    "more severe": (report(result(1, **HIGH)), None, report(result(1, **WORSE)), "updated", "updated", "open", (1, 1)),
    "less severe": (report(result(1, **WORSE)), None, report(result(1, **HIGH)), "updated", "updated", "open", (0, 1)),
    "fixed": (report(result(1, **HIGH)), None, report(), "fixed", "absent", "fixed", (0, 0)),
    "back by itself": (
        report(result(1, **HIGH)), hidden_then(report()), None, "reopened", "new", "open", (1, 1)),
    "marked fixed and back": (report(result(1, **HIGH)), marked("fixed"), None, "reopened", "new", "open", (1, 1)),
    "false positive": (
        report(result(1, **HIGH)), marked("false_positive"), None, "unchanged", "unchanged", "false_positive", (0, 0)),
    "false positive and more severe": (report(result(1, **HIGH)), marked("false_positive"), report(result(1, **WORSE)),
                                       "updated", "updated", "false_positive", (0, 0)),
    "ignored": (report(result(1, **HIGH)), marked("ignored"), None, "unchanged", "unchanged", "ignored", (0, 0)),
    "confirmed": (report(result(1, **HIGH)), marked("confirmed"), None, "unchanged", "unchanged", "confirmed", (0, 1)),
    "suppression expired": (report(result(1, **HIGH)), expired, None, "unchanged", "unchanged", "open", (1, 1)),
    "judgement taken back": (
        report(result(1, **HIGH)), judged_and_taken_back, None, "unchanged", "unchanged", "open", (1, 1)),
    "suppressed in the source": (report(result(1, **HIGH)), None, KEPT, "unchanged", "unchanged", "open", (0, 0)),
    "suppression in the source removed": (
        report(result(1, **HIGH)), hidden_then(KEPT), None, "unchanged", "unchanged", "open", (1, 1)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("first", "then", "last", "state", "baseline_state", "status", "gates"), STATES.values(), ids=STATES
)
def test_a_finding_has_one_state_everywhere(
    run: Run, first: Document, then: Any, last: Document | None, state: str, baseline_state: str, status: str,
    gates: tuple[int, int],
) -> None:  # fmt: skip
    last = {**copy.deepcopy(last or report(result(1, **HIGH, suppressions=[]))), "properties": {"last": True}}
    with Store("gate.db") as store:
        load(store, first)
        if then is not None:
            then(store)
        found = load(store, last)._asdict()
        assert [name for name in ("new", "unchanged", "updated", "reopened", "fixed") if found[name]] == [state]
        scan = found["scan"]
        assert [(one.state, one.status) for one in store.findings.list(state=state)] == [(state, status)]
        assert [one.state for one in store.findings.list(scan, state=state)] == [state]
        before = store.findings.baseline(scan)
        assert before is not None and before.id == scan - 1
        diff = store.findings.diff(before, scan)._asdict()
        assert [name for name, told in diff.items() if told] == [state]
        (item,) = gather(store.database).items
        assert (item.change, item.status) == (state, status)
        for where in (None, scan):
            (one,) = results(dumped(store, where))
            assert one["baselineState"] == baseline_state
            assert one.get("properties", {}).get("scanstore/state") == ("reopened" if state == "reopened" else None)
        for format in ("text", "markdown", "html", "csv"):
            told = "".join(render(store.database, format=format))
            assert (state in told) or state == "unchanged", format
    assert [row["change"] for row in json.loads(run("report", "--json").stdout)["findings"]] == [state]
    (row,) = json.loads(run("findings", "list", "--state", state, "--json").stdout)
    assert (row["state"], row["status"]) == (state, status)
    rows = json.loads(run("findings", "diff", "--change", state, "--json").stdout)
    assert [row["change"] for row in rows] == [state]
    for rule, code in zip(("new-high", "any-high"), gates, strict=True):
        run("report", "--fail-on", rule, code=code)
        run("report", "--scan", str(scan), "--fail-on", rule, code=code)
        loaded(run, last, "--fail-on", rule, code=code)  # the same again


def test_more_severe_counts_from_where_it_gets_too_severe(run: Run) -> None:
    loaded(run, report(result(1, **LOW)))
    done = loaded(run, report(result(1, **HIGH)), "--fail-on", "new-high", code=1)
    assert "high, updated, was low" in done.stderr and "was low" in run("report").stdout
    loaded(run, report(result(1, **HIGH), artifacts=[]), "--fail-on", "new-high")


def test_a_state_of_ours_does_not_stay_when_a_report_comes_in_again(store: Store, tmp_path: Path) -> None:
    for document in (report(result(1)), report(), report(result(1), artifacts=[])):
        load(store, document)
    written = dumped(store)
    assert results(written)[0]["properties"] == {"scanstore/state": "reopened"}
    with Store(tmp_path / "other.db") as other:
        load(other, written)
        assert "properties" not in results(dumped(other))[0]


# Several tools, one target


def test_all_findings_of_a_target_are_listed_whichever_tool_ran_last(run: Run) -> None:
    loaded(run, report(result(1, **HIGH), tool="A"))
    loaded(run, report(result(2), tool="B"))
    loaded(run, report(result(3)), "--target", "other")

    def listed(*words: str) -> list[tuple[int, str]]:
        return sorted((row["id"], row["state"]) for row in json.loads(run("findings", "list", *words, "--json").stdout))

    def reported(*words: str) -> list[tuple[int, str]]:
        told = json.loads(run("report", *words, "--json").stdout)["findings"]
        return sorted((row["id"], row["change"]) for row in told if row["change"] != "fixed")

    def written(*words: str) -> int:
        return len(results(json.loads(run("sarif", "dump", *words).stdout)))

    for words, wanted in (
        (("--scan", "t"), [(1, "new"), (2, "new")]), (("--scan", "1"), [(1, "new")]), (("--scan", "2"), [(2, "new")]),
        (("--scan", "other"), [(3, "new")]), (("--scan", "3"), [(3, "new")]),
    ):  # fmt: skip
        assert listed(*words) == reported(*words) == wanted, words
        assert written(*words) == len(wanted)
    assert "1 of the target, which this scan did not see" in run("report", "--scan", "2").stdout
    run("report", "--scan", "t", "--fail-on", "new-high", code=1)  # of the tool that ran before
    run("report", "--scan", "2", "--fail-on", "any-high")
    loaded(run, report(result(1, **HIGH), tool="A", artifacts=[]))
    loaded(run, report(result(2), result(4, **HIGH), tool="B"))
    assert listed("--scan", "t") == reported("--scan", "t") == [(1, "unchanged"), (2, "unchanged"), (4, "new")]
    loaded(run, report(result(1, **HIGH), tool="A", invocations=[]))
    run("report", "--scan", "t", "--fail-on", "new-high", code=1)  # though A ran after B, which found it
    loaded(run, report(tool="B"))
    assert listed("--scan", "t") == reported("--scan", "t") == [(1, "unchanged")]
    with Store("gate.db") as store:
        assert [row.id for row in store.findings.list(target="t", state="fixed")] == [4, 2]
        assert store.findings.list(target="t", tool="A", status="open", severity="high", file="src/a.py", limit=1)
        assert store.findings.list(target="t", limit=0) == store.findings.list(target="t", severity="low") == []
        states = sorted(one["baselineState"] for one in results(json.loads(run("sarif", "dump", "--scan", "t").stdout)))
        assert states == ["absent", "absent", "unchanged"]
        for wrong in ({"scan": 1, "target": "t"}, {"scan": 1, "state": "not_checked"}, {"state": "gone"}):
            with pytest.raises(InvalidArgument):
                store.findings.list(**wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            store.sarif.dump(1, io.BytesIO(), target="t")


def test_what_the_last_run_did_not_look_for_is_still_listed(store: Store) -> None:
    load(store, report(result(1), result(2, uri="lib/b.py"), tool="A"))
    load(store, report(result(3), tool="B"))
    load(store, report(result(1), tool="A"), scope=["src/"])
    states = {(one.file_path, one.state) for one in store.findings.list()}
    assert states == {("src/a.py", "unchanged"), ("lib/b.py", "not_checked"), ("src/a.py", "new")}
    assert sorted(item.change for item in gather(store.database).items) == ["new", "not_checked", "unchanged"]
    told = results(dumped(store))
    written = {(one["baselineState"], one.get("properties", {}).get("scanstore/state")) for one in told}
    assert written == {("unchanged", None), ("unchanged", "not_checked"), ("new", None)}
    assert len(results(dumped(store, only=["not_checked"]))) == 1
    assert dumped(store) == dumped(store)


def test_a_tool_that_is_new_in_a_target_does_not_make_the_others_findings_new(run: Run) -> None:
    for note in range(3):
        loaded(run, report(result(1, **HIGH), tool="A", properties={"n": note}))
    loaded(run, report(tool="B"))
    run("report", "--fail-on", "new-high")
    assert json.loads(run("report", "--json").stdout)["changes"]["unchanged"] == 1


# Flows


def step(line: Any, uri: str | None = "src/a b.py") -> dict[str, Any]:
    place: dict[str, Any] = {"region": {"startLine": line}}
    return {"location": {"physicalLocation": {**place, **({} if uri is None else {"artifactLocation": {"uri": uri}})}}}


@pytest.mark.parametrize("own", [10, None, 1])
def test_steps_of_flows_have_their_own_lines(store: Store, own: int | None) -> None:
    def flowing(by: int) -> Document:
        steps = [step(2 + by), step(10 + by), step(1 + by), step(0), step(-3), step("x"), step(7, "lib/c.py")]
        region = {} if own is None else {"startLine": own + by}
        place = {"artifactLocation": {"uri": "src/a%20b.py"}, "region": region}
        steps[0]["location"]["physicalLocation"]["artifactLocation"]["uri"] = "src/a%20b.py"
        return report({
            "ruleId": "R1", "message": {"text": "flows"}, "locations": [{"physicalLocation": place}],
            "codeFlows": [{"threadFlows": [{"locations": steps}]}],
        })  # fmt: skip

    lines = [2, 10, 1, None, None, None, 7]
    load(store, flowing(0))
    old = [[(s.file_path, s.line_number) for s in flow] for flow in gather(store.database).items[0].flows]
    assert old == [[("src/a b.py", line) for line in lines[:-1]] + [("lib/c.py", 7)]]
    load(store, flowing(5))
    (item,) = gather(store.database).items
    assert [s.line_number for s in item.flows[0]] == [7, 15, 6, None, None, None, 7]
    told = json.loads("".join(render(store.database, format="json")))["findings"][0]["flows"][0]
    assert [s["line_number"] for s in told] == [7, 15, 6, None, None, None, 7]
    page = "".join(render(store.database, format="html"))
    assert "src/a b.py:15</span>" in page and ":-" not in page.partition("<main>")[2].partition("<script>")[0]
    assert [s.line_number for s in gather(store.database, 1).items[0].flows[0]] == lines


# The schema


def test_runs_of_the_schema_before_keep_their_rows(db_path: Path) -> None:
    from scanstore.db import migrations

    with Store(db_path) as store:
        load(store, series("ci/linux", result(1)))
        load(store, report(42, result(1)))
    kept = "SELECT id, tool, digest, rules, complete, successful, files, scope, hex(detail) FROM tool_runs"
    with Store(db_path) as store:
        before = store.database.execute_sql(kept).fetchall()
        told = [(one.category, one.troubles, one.left_out) for one in ToolRun.select()]
        assert [one[0] for one in told] == ["ci/linux", ""]
    migrations.down(db_path, to=7)
    with Store(db_path) as store:
        assert store.check() == []
        assert store.database.execute_sql(kept).fetchall() == before
        found = [(one.category, bool(one.troubles), one.left_out, one.repeats) for one in ToolRun.select()]
        assert found == [("ci/linux", False, 0, 0), ("", True, None, 0)]
        assert "could not be used" in store.findings.troubles()[0]


QUESTIONS = {
    "findings.looks": ("LOOKS", "RUNS", "ANALYSIS", "UNPUBLISHED"),
    "findings.listing": ("STOOD", "CURRENT"),
    "findings.coverage": ("RUNS", "RULES"),
    "sarif.repeats": ("KNOWN", "RUNS", "LATER", "MARKED", "COUNT"),
    "sarif.exporting": ("RESULTS", "REST", "SEEN_BY"),
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in QUESTIONS for name in QUESTIONS[module]])
def test_questions_go_by_indexes(store: Store, module: str, name: str) -> None:
    import importlib
    import re

    sql: str = getattr(importlib.import_module(f"scanstore.{module}"), name)
    values = dict.fromkeys(re.findall(r":(\w+)", sql), 1) or (1,) * sql.count("?")
    if isinstance(values, dict):
        values.update({name: "[]" for name in ("ids", "states") if name in values})
    plan = [row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()]
    assert not [line for line in plan if re.match(r"SCAN (?!i\b|json_each|\(subquery|CONSTANT)", line)], plan
