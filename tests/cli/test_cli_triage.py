"""Deciding about findings on the command line: what is decided, in whose name, and what is shown of it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scanstore import Store
from scanstore.cli import main
from scanstore.db import state_machine
from scanstore.db.rules import insert_row
from scanstore.models import Finding, FindingEvent, Sighting, Suppression

Run = Callable[..., Result]
EVIL = "pasted\x1b[31m\nfrom\u202e input\x07\t."


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command line beside a store with three findings of the target src."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    monkeypatch.setenv("SCANSTORE_USER", "ann")
    (tmp_path / "src").mkdir()
    with Store() as store:
        scan = store.scans.finish(store.scans.add(str(tmp_path / "src"), root=tmp_path / "src"))
        for path, severity in (("a.py", "high"), ("tests/b.py", "low"), ("c.py", "info")):
            Finding.create(
                lineage=scan.lineage_id, scan=scan, first_scan=scan, rule_id="R1", tool="T", title="Bad",
                vulnerability_type="bad", severity=severity, file_path=path, line_number=3,
            )  # fmt: skip

    def invoke(*args: str, code: int | None = 0, **options: Any) -> Result:
        result = CliRunner().invoke(main, args, prog_name="scanstore", **options)
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


def test_triage(run: Run) -> None:
    assert run("findings", "triage", "1", "3", "1", "confirmed", "--reason", "seen").stdout.splitlines() == [
        "1\topen -> confirmed\tBad", "3\topen -> confirmed\tBad"
    ]  # fmt: skip
    again = run("findings", "triage", "1", "2", "CONFIRMED", "--reason", "lost", "--by", "bob")
    assert again.stdout == "2\topen -> confirmed\tBad\n"
    assert again.stderr.startswith("finding 1 is confirmed already, and the reason was not kept; ")
    (row,) = data(run("findings", "triage", "2", "ignored", "--json"))
    assert (row["id"], row["status"]) == (2, "ignored")
    said = run("findings", "history", "2").stdout.splitlines()
    assert [line.split("\t", 1)[1] for line in said] == ["bob\topen -> confirmed\tlost", "ann\tconfirmed -> ignored\t"]
    assert [(e["by"], e["to_status"], e["note"]) for e in data(run("findings", "history", "1", "--json"))] == [
        ("ann", "confirmed", "seen")
    ]


def test_triage_of_several_is_all_or_nothing(run: Run) -> None:
    run("findings", "triage", "2", "ignored")
    failed = run("findings", "triage", "1", "2", "fixed", code=1)
    assert "finding 2 is ignored and cannot become fixed; open it again first" in failed.stderr
    assert "no finding 9" in run("findings", "triage", "1", "9", "fixed", code=1).stderr
    assert data(run("findings", "history", "1", "--json")) == []
    assert run("findings", "history", "1").stderr == "nothing was decided about finding 1 yet\n"


def test_who_decides(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def last() -> str:
        return str(data(run("findings", "history", "1", "--json"))[-1]["by"])

    run("findings", "comment", "1", "x", "--by", "bob")
    assert last() == "bob"
    run("findings", "comment", "1", "x")
    assert last() == "ann"
    monkeypatch.setenv("SCANSTORE_USER", "")
    monkeypatch.setenv("LOGNAME", "login")
    run("findings", "comment", "1", "x")
    assert last() == "login"
    assert "by is ''" in run("findings", "comment", "1", "x", "--by", "", code=1).stderr

    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", nobody)
    assert "give the author with --by NAME" in run("findings", "comment", "1", "x", code=2).stderr
    assert data(run("findings", "comment", "1", "y", "--by", "eve", "--json"))["note"] == "y"


def test_suppressing_findings(run: Run) -> None:
    made = run("findings", "suppress", "1", "3", "-r", "rewrite", "--expires", "2999-01-31").stdout.splitlines()
    assert made == [f"{n}\tactive\tfinding {key}\tuntil 2999-01-31T23:59:59.999Z\tann\trewrite"
                    for n, key in ((1, 1), (2, 3))]  # fmt: skip
    lines = run("findings", "list").stdout.splitlines()
    assert lines[0].endswith("\tBad\tsuppressed until 2999-01-31T23:59:59.999Z: rewrite")
    assert lines[1].startswith("2\t") and lines[1].endswith("\tBad\t") and "suppressed" in lines[2]
    assert [row["suppression"] and row["suppression"]["id"] for row in data(run("findings", "list", "--json"))] == [
        1, None, 2
    ]  # fmt: skip
    assert "suppressed until 2999" in run("findings", "show", "1").stdout
    with Store():
        Suppression.update(expires_at=datetime(2020, 1, 1, tzinfo=UTC)).where(Suppression.id == 1).execute()
    assert "suppression 1 expired 2020-01-01T00:00:00.000Z: rewrite" in run("findings", "list").stdout
    assert "suppression 1 expired 2020" in run("findings", "show", "1").stdout
    assert data(run("findings", "show", "1", "--json"))["suppression"]["state"] == "expired"
    assert [line.split()[:2] for line in run("findings", "suppressions").stdout.splitlines()] == [
        ["1", "expired"], ["2", "active"]
    ]  # fmt: skip
    assert "lifted" in run("findings", "unsuppress", "1", "2", "--by", "bob").stdout
    assert run("findings", "suppressions").stderr == "nothing is suppressed\n"
    assert [row["lifted_by"] for row in data(run("findings", "suppressions", "--all", "--json"))] == ["bob"] * 2
    assert "suppress" not in run("findings", "list").stdout
    assert [e["action"] for e in data(run("findings", "history", "1", "--json"))] == ["suppress", "unsuppress"]


def test_suppressing_rules(run: Run, tmp_path: Path) -> None:
    made = run("findings", "suppress", "--rule", "R1", "--tool", "T", "--path", "tests/", "-r", "j", "--target", "src")
    assert made.stdout == "1\tactive\tT: R1 in tests/\tfor good\tann\tj\n"
    assert made.stderr == "1 finding hidden by it now\n"
    assert (
        "2 findings hidden by it now" in run("findings", "suppress", "--rule", "R1", "-r", "j").stderr
    )  # the other already is
    assert "0 findings hidden by it now" in run("findings", "suppress", "--rule", "typo", "-r", "j").stderr
    assert len(data(run("findings", "suppressions", "--target", "src", "--json"))) == 3
    assert len(data(run("findings", "suppressions", "--target", str(tmp_path / "src"), "--json"))) == 3
    assert "there is no target 'lib'" in run("findings", "suppressions", "--target", "lib", code=1).stderr
    assert data(run("findings", "unsuppress", "3", "--json"))[0]["state"] == "lifted"


@pytest.mark.parametrize(("given", "span"), [("30d", 30.0), ("12h", 0.5), ("4w", 28.0)])
def test_a_span_of_time(run: Run, given: str, span: float) -> None:
    (made,) = data(run("findings", "suppress", "1", "-r", "j", "--expires", given, "--json"))
    wanted = datetime.now(UTC) + timedelta(days=span)
    assert abs(datetime.fromisoformat(made["expires_at"]) - wanted) < timedelta(minutes=1)


def test_an_exact_time(run: Run) -> None:
    (made,) = data(run("findings", "suppress", "1", "-r", "j", "--expires", "2999-01-31T12:00:00+02:00", "--json"))
    assert made["expires_at"] == "2999-01-31T10:00:00.000Z"


@pytest.mark.parametrize(
    "args",
    [
        ("triage", "open"), ("triage", "1"), ("triage", "1", "closed"), ("triage", "x", "open"), ("comment", "1"),
        ("suppress", "-r", "j"), ("suppress", "1"), ("suppress", "1", "--rule", "R1", "-r", "j"),
        ("suppress", "1", "--tool", "T", "-r", "j"), ("suppress", "1", "--path", "*", "-r", "j"),
        ("suppress", "1", "--target", "src", "-r", "j"), ("suppress", "--tool", "T", "-r", "j"),
        ("suppress", "1", "-r", "j", "--expires", "soon"), ("suppress", "1", "-r", "j", "--expires", "2999-01-31T12"),
        ("suppress", "1", "-r", "j", "--expires", "-3d"), ("suppress", "1", "-r", "j", "--expires", "2999-02-30"),
        ("unsuppress",), ("unsuppress", "x"), ("history",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_2(run: Run, args: tuple[str, ...]) -> None:
    result = run("findings", *args, code=2)
    assert result.stdout == "" and "Error: " in result.stderr
    with Store():
        assert (FindingEvent.select().count(), Suppression.select().count()) == (0, 0)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("comment", "9", "x"), "no finding 9"), (("comment", "1", " "), "comment is empty"),
        (("history", "9"), "no finding 9"), (("unsuppress", "9"), "no suppression 9"),
        (("suppress", "1", "9", "-r", "j"), "no finding 9"), (("suppress", "1", "-r", " "), "reason is empty"),
        (("suppress", "1", "-r", "j", "--expires", "2020-01-31"), "is in the past"),
        (("suppress", "1", "-r", "j", "--expires", "0d"), "is in the past"),
        (("suppress", "--rule", "R1", "--path", "!", "-r", "j"), "no pattern"),
        (("suppress", "--rule", "R1", "--target", "lib", "-r", "j"), "there is no target 'lib'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(run: Run, args: tuple[str, ...], said: str) -> None:
    result = run("findings", *args, code=1)
    assert said in result.stderr and result.stderr.count("\n") == 1 and result.stdout == ""
    with Store():
        assert (FindingEvent.select().count(), Suppression.select().count()) == (0, 0)


@pytest.mark.parametrize(
    "args",
    [
        ("triage", "1", "open"), ("comment", "1", "x"), ("history", "1"), ("suppress", "1", "-r", "j"),
        ("unsuppress", "1"), ("suppressions",), ("diff",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_store_is_one_line_and_makes_none(run: Run, tmp_path: Path, args: tuple[str, ...]) -> None:
    assert "no store at none.db; make one with" in run("findings", *args, "--db", "none.db", code=1).stderr
    assert not (tmp_path / "none.db").exists()


def test_nothing_that_was_said_is_obeyed_by_the_terminal(run: Run) -> None:
    for args in (
        ("triage", "1", "confirmed", "--reason", EVIL, "--by", EVIL), ("comment", "1", EVIL, "--by", EVIL),
        ("suppress", "1", "-r", EVIL, "--by", EVIL), ("suppress", "--rule", EVIL, "--path", "a\x1bb", "-r", EVIL),
        ("history", "1"), ("suppressions",), ("list",), ("show", "1"), ("unsuppress", "1", "--by", EVIL),
        ("suppressions", "--all"), ("suppress", "--rule", "r", "--target", EVIL, "-r", "j"),
    ):  # fmt: skip
        output = run("findings", *args, code=None).output
        assert not set(output) & set("\x1b\x07\x9b\u202e\r"), args
        assert "input\\x07\t." not in output, args


def test_a_finding_whose_scan_is_gone(run: Run) -> None:
    run("findings", "triage", "1", "ignored")
    with Store() as store:
        store.scans.finish(store.scans.add(store.scans.latest().target))
        store.scans.remove(1)
    text = run("findings", "show", "1").stdout
    assert "a.py:3" in text and "ignored" in text and "in scan" not in text


# Over time


def test_findings_over_time(run: Run, tmp_path: Path) -> None:
    assert "scan 1 is the first of" in run("findings", "diff", code=1).stderr
    with Store() as store:
        second = store.scans.finish(store.scans.add(str(tmp_path / "src"), root=tmp_path / "src"))
        first = Finding.get_by_id(1)
        made = Finding.create(
            lineage=second.lineage_id, scan=second, first_scan=second, rule_id="R2", tool="U", title="Worse",
            vulnerability_type="worse", severity="critical", file_path="d.py",
        )  # fmt: skip
        for finding, state in ((first, "fixed"), (2, "unchanged")):
            insert_row(Sighting, scan=second, finding=finding, state=state, file_path="d.py")
        store.scans.finish(store.scans.add(str(tmp_path / "src")))  # nobody has looked for findings in it
    run("findings", "suppress", str(made.id), "-r", "known")
    for args in ((), ("1",), ("1", "2")):
        shown = run("findings", "diff", *args)
        assert shown.stdout.splitlines() == [
            "4\tnew\tsrc/d.py\tcritical\topen\tworse\tWorse\tsuppressed: known",
            "1\tfixed\tsrc/a.py:3\thigh\topen\tbad\tBad\t",
        ]
        assert shown.stderr.endswith(
            "from scan 1 to scan 2: 1 new, 1 fixed, 0 reopened, 0 updated, 1 unchanged, 1 not checked\n"
        )
    found = data(run("findings", "diff", "--json", "--change", "not_checked", "--change", "new", "--sort", "id"))
    assert [(row["id"], row["change"]) for row in found] == [(3, "not_checked"), (4, "new")]
    mild = run("findings", "diff", "--sort", "severity", "--columns", "id").stdout
    assert mild == "1\n4\n"  # by how severe they are, not by letters

    def listed(*args: str) -> list[tuple[int, str]]:
        return [(row["id"], row["state"]) for row in data(run("findings", "list", *args, "--json"))]

    assert listed("--scan", "2") == [(4, "new"), (2, "unchanged")]
    assert listed() == listed("--scan", "src") == [(4, "new"), (2, "unchanged"), (3, "not_checked")]
    assert listed("--state", "not_checked") == [(3, "not_checked")]
    assert listed("--state", "fixed") == [(1, "fixed")]
    assert listed("--tool", "U") == listed("--suppressed") == [(4, "new")]
    assert listed("--scan", "2", "--not-suppressed") == [(2, "unchanged")]
    assert listed("--rule", "R2") == [(4, "new")] and listed("--rule", "R1", "--cwe", "79") == []
    assert listed("--scan", "3") == []
    idle = "not an all-clear: no tool has looked for findings in scan 3\n"
    assert run("findings", "list", "--scan", "3").stderr.endswith(f"{idle}no findings in scan 3\n")
    none = f"no findings like that in scan 2 or before, of {tmp_path / 'src'}\n"
    assert run("findings", "list", "--severity", "low", "--status", "fixed").stderr.endswith(none)
    for words in (("--tool", "V"), ("--tool", "V", "--json")):
        refused = run("findings", "list", *words, code=1).stderr
        assert "the tool 'V' has not run for" in refused and "its tools are: T, U, scanstore" in refused
    assert "no scan of" in run("findings", "list", "--file", "nope.py", "--json", code=1).stderr


def test_words_are_those_of_the_store() -> None:
    commands = importlib.import_module("scanstore.cli.findings")
    assert commands.STATES == state_machine.SIGHTINGS and commands.STATUSES == state_machine.FINDING_STATUSES
