"""Reports: what they count, what they tell of an older scan, and that nothing that was reported acts anywhere."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from scanstore.cli import main
from scanstore.cli.groups import Root
from scanstore.cli.report import report as report_command
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import utcnow
from scanstore.errors import Ambiguous, InvalidArgument, NotFound
from scanstore.findings import tracking
from scanstore.findings.identity import traits_of
from scanstore.findings.triage import Triage
from scanstore.models import Finding, Scan, Suppression, ToolRun
from scanstore.report.chart import _scale
from scanstore.report.document import CHANGES, Item, Report
from scanstore.report.gather import FORMATS, gather, render
from scanstore.store import Store

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EVIL = "<script>alert(1)</script>"
HOSTILE = (
    EVIL, "\"><img src=x onerror=alert(1)>", "' onmouseover='alert(1)", "</script><script>alert(1)//", "=1+1", "-->",
    "@SUM(A1)", "+1", "-1", "\t=1", "\uff1d1", "  =1", "a|b\nc", "**bold** _x_ [x](javascript:alert(1)) `c` #1 @ana",
    "\x1b[31mred\x1b[0m\x07", "\u202eright to left", "]]>&amp;<![CDATA[", "{{7*7}}${7*7}", "\ud83d\ude00".encode(
        "utf-16", "surrogatepass").decode("utf-16"),
)  # fmt: skip
FLOW = {
    "code_flows": [
        {"threadFlows": [{"locations": [
            {"location": {"physicalLocation": {"artifactLocation": {"uri": "a.py"}, "region": {"startLine": 3}},
                          "message": {"text": f"taken from {EVIL}"}}},
            {"location": {"physicalLocation": {"artifactLocation": {"uri": 7}, "region": []}}},
            "nonsense",
        ]}]},
        {"threadFlows": 3},
    ]
}  # fmt: skip
Run = Callable[..., Result]


def seen(title: str = "Weak hash", line: int = 10, **keys: Any) -> tracking.Incoming:
    """A finding of a tool; what it is recognised by is its rule, file and line."""
    values = {"tool": "t", "rule_id": "r1", "severity": "high", "file_path": "a.py", "snippet": "md5(x)", **keys}
    told = {"message": values.pop("message", title), "vulnerability_type": values["rule_id"]}
    place = {name: values[name] for name in ("tool", "file_path")}
    traits = traits_of(
        None, tool=place["tool"], rule=values["rule_id"], path=place["file_path"], line=line, message=f"at {line}",
        snippet=f"line {line}",
    )  # fmt: skip
    return tracking.Incoming(title=title, traits=traits, line_number=line, **told, **values)


def looked(store: Store, *items: tracking.Incoming, target: str = "shop", close: Sequence[str] = ("t",)) -> Scan:
    """A scan that saw these, and nothing else of the tools that are closed."""
    scan = store.scans.finish(store.scans.add(target))
    with store.transaction():
        tracking.record(store.database, scan.id, items)
        for tool in close:
            ToolRun.create(scan=scan, tool=tool, digest=tool)
            tracking.close(store.database, scan.id, tool=tool)
    return scan


def by_title(report: Report) -> dict[str, Item]:
    return {item.title: item for item in report.items}


def page(store: Store, format: str, **options: Any) -> str:
    return "".join(render(store.database, format=format, **options))


@pytest.fixture
def triage(store: Store) -> Iterator[Triage]:
    yield Triage(store.database)
    assert store.check() == []


# What is told


def test_changes_since_the_baseline(store: Store) -> None:
    first = looked(store, seen("stays", 1), seen("goes", 2), seen("comes back", 3), seen("grows", 4, severity="low"),
                   seen("of another", 5, tool="u"))  # fmt: skip
    second = looked(store, seen("stays", 1), seen("goes", 2), seen("grows", 4, severity="low"))
    third = looked(store, seen("stays", 1), seen("comes back", 3), seen("grown", 4, severity="critical"),
                   seen("fresh", 6, severity="medium"))  # fmt: skip
    found = gather(store.database)
    assert (found.scan.id, found.baseline and found.baseline.id, found.target) == (third.id, second.id, "shop")
    assert {title: item.change for title, item in by_title(found).items()} == {
        "stays": "unchanged", "goes": "fixed", "comes back": "reopened", "grown": "updated", "fresh": "new",
        "of another": "not_checked",
    }  # fmt: skip
    assert found.changes == dict.fromkeys(CHANGES, 1)
    assert found.open == {"critical": 1, "high": 3, "medium": 1, "low": 0, "info": 0}
    assert [item.severity for item in found.items] == sorted((i.severity for i in found.items), key=SEVERITIES.index)
    assert [point.scan for point in found.trend] == [first.id, second.id, third.id]
    assert [sum(point.counts) for point in found.trend] == [5, 4, 5]
    assert found.trend[-1].counts == tuple(found.open.values())
    earlier = gather(store.database, third, first)
    assert by_title(earlier)["comes back"].change == "unchanged" and earlier.changes["new"] == 1
    assert store.check() == []


@pytest.mark.parametrize("baseline", [1, 2, 3])
def test_changes_are_those_of_the_diff(store: Store, baseline: int) -> None:
    sees = [(1, 2, 3), (2, 4), (1, 2, 4, 5), (3, 5)]
    for number, lines in enumerate(sees):
        items = [seen(f"n{line}", line, severity="low" if number < 2 else "high") for line in lines]
        looked(store, *items, close=() if number == 1 else ("t",))
    found = gather(store.database, 4, baseline)
    diff = store.findings.diff(baseline, 4)._asdict()
    for change in CHANGES:
        assert {i.id for i in found.items if i.change == change} == {row.id for row in diff[change]}, change


def test_the_first_scan_has_nothing_to_compare_with(store: Store) -> None:
    looked(store, seen())
    found = gather(store.database)
    assert found.baseline is None and found.changes["new"] == 1
    assert "First scan" in page(store, "text")


def test_an_older_scan_is_told_as_it_was(store: Store) -> None:
    first = looked(store, seen("before", 1, severity="low", detail=FLOW), seen("gone later", 2))
    looked(store, seen("after", 1, severity="critical", file_path="a.py"))
    old, now = gather(store.database, first), gather(store.database)
    assert {(i.title, i.severity, i.change, i.status, bool(i.flows)) for i in old.items} == {
        ("before", "low", "new", "open", True), ("gone later", "high", "new", "open", False),
    }  # fmt: skip
    assert old.open["high"] == 1 and [point.scan for point in old.trend] == [first.id]
    assert all(not item.events for item in old.items)
    told = by_title(now)
    assert told["after"].flows == [] and told["gone later"].status == "fixed"
    assert [event.to_status for event in told["gone later"].events] == ["fixed"]
    assert (told["gone later"].first_scan, told["gone later"].last_scan) == (first.id, first.id)


def test_decisions_of_people(store: Store, triage: Triage) -> None:
    looked(store, *(seen(name, n) for n, name in enumerate(("a", "b", "c", "d", "e", "f"), 1)))
    ids = {row.title: row.id for row in Finding.select()}
    triage.triage(ids["a"], "confirmed", by="ana", reason="looked at it")
    triage.triage(ids["b"], "false_positive", by="ana")
    triage.triage(ids["c"], "fixed", by="ben")
    triage.suppress(ids["d"], reason="tests only", by="ben", expires=utcnow() + timedelta(days=30))
    late = triage.suppress(ids["e"], reason="until June", by="ben", expires=utcnow() + timedelta(days=1))
    Suppression.update(expires_at=utcnow() - timedelta(days=1)).where(Suppression.id == late.id).execute()
    found = gather(store.database)
    items = by_title(found)
    assert {title for title, item in items.items() if item.counts} == {"a", "e", "f"}
    assert found.open["high"] == 3 and sum(found.trend[-1].counts) == 3
    assert found.set_aside == {"suppressed": 1, "false_positive": 1, "ignored": 0, "fixed": 1} and found.expired == 1
    assert items["a"].events[0].note == "looked at it" and items["a"].status == "confirmed"
    assert items["d"].suppressed and not items["e"].suppressed
    for format in ("text", "markdown", "html"):
        told = page(store, format)
        assert "suppression expired" in told and "1 suppressed, 1 false positive, 1 fixed" in told
        assert "1 counts again, its suppression has expired" in told
    rows = {row["title"]: row for row in csv.DictReader(io.StringIO(page(store, "csv")))}
    assert [rows[name]["suppression"] for name in "def"] == ["active", "expired", ""]
    assert rows["d"]["justification"] == "tests only" and rows["a"]["note"] == "looked at it"


def test_suppressed_by_rule_in_some_paths(store: Store, triage: Triage) -> None:
    looked(store, seen("here", 1, file_path="tests/a.py"), seen("there", 2, file_path="src/a.py"))
    triage.suppress(rule="r1", path="tests/", target="shop", reason="tests", by="ana")
    assert {i.title: i.suppressed for i in gather(store.database).items} == {"here": True, "there": False}
    assert "rule r1 in tests/" in page(store, "html")


def test_a_published_finding_is_told_with_what_its_voters_said(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.py").write_text("x = 1\n")
    store.llm.add("m1")
    scan = store.scans.analyze(store.scans.record(tmp_path / "tree", jobs=1))
    draft = {"title": "T", "vulnerability_type": "sqli", "severity": "high", "file_path": "a.py", "line_number": 1}
    row = store.drafts.add(scan, [draft])[0]
    vote = {"model": "m1", "decision": "verified", "confidence": 77, "attack_vector": "by mail", "data_flow": "a to b"}
    verified = store.drafts.record_votes(row, [vote]).verified_id
    assert verified is not None
    store.findings.publish(verified, vulnerability_details="why", references=["https://a.example/x", "javascript:1"])
    (item,) = gather(store.database).items
    assert (item.attack_vector, item.data_flow, item.details, item.kind) == ("by mail", "a to b", "why", "sqli")
    told = page(store, "html")
    assert '<a href="https://a.example/x" rel="noopener noreferrer">' in told and 'href="javascript' not in told
    assert gather(store.database).tools == ["scanstore"]


def test_which_scan(store: Store) -> None:
    with pytest.raises(NotFound):
        gather(store.database)
    mine = looked(store, seen())
    other = looked(store, seen(), target="other")
    clean = looked(store, target="other", close=())
    with pytest.raises(Ambiguous, match="2 targets"):
        gather(store.database)
    assert gather(store.database, target="other").scan.id == other.id  # that one looked at nothing
    found = gather(store.database, clean)
    assert found.scan.id == clean.id and found.changes["not_checked"] == 1
    ToolRun.create(scan=clean, tool="t", digest="0")  # that it found nothing is something
    latest = gather(store.database, target="other")
    assert latest.scan.id == clean.id and latest.tools == ["t"]
    assert [point.scan for point in latest.trend] == [other.id, clean.id]
    for baseline, said in ((mine.id, "compare scans of one target"), (clean.id, "give an earlier scan")):
        with pytest.raises(InvalidArgument, match=said):
            gather(store.database, other, baseline)
    with pytest.raises(NotFound, match="no scan 99"):
        render(store.database, 99)
    for format in ("pdf", "", None, 3):
        with pytest.raises(InvalidArgument, match="text, json, csv, markdown, html"):
            render(store.database, format=format)  # type: ignore[arg-type]


def test_statements_do_not_grow_with_findings(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looked(store, *(seen(f"n{n}", n) for n in range(1, 300)))
    asked = []
    run = store.database.execute_sql
    monkeypatch.setattr(store.database, "execute_sql", lambda sql, *args: asked.append(sql) or run(sql, *args))
    assert len(gather(store.database).items) == 299
    assert len(asked) < 25


@pytest.mark.parametrize("name", ["ITEMS", "EVENTS", "MOVES", "LATEST", "LOOKED", "TOOLS"])
def test_statements_run_on_indexes(store: Store, name: str) -> None:
    from scanstore.findings import findings
    from scanstore.report import gather as report

    sql: str = getattr(findings if name == "LATEST" else report, name)
    values = {"scan": 2, "baseline": 1, "lineage": 1, "hidden": "[]", "target": None, "before": 2}
    plan = store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", values if ":" in sql else (1,) * sql.count("?"))
    steps = [row[3] for row in plan.fetchall()]
    assert not [step for step in steps if re.match(r"SCAN (f|g|n|b|e|r|tool_runs)\b", step)], steps


def test_a_report_needs_no_store_once_it_is_begun(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db") as store:
        looked(store, seen())
        pieces = render(store.database, format="json")
    assert json.loads("".join(pieces))["findings"][0]["title"] == "Weak hash"


def test_a_read_only_store_is_reported_on(store: Store) -> None:
    looked(store, seen())
    with Store(store.path, read_only=True) as other:
        assert len(gather(other.database).items) == 1


# How it is written


@pytest.fixture
def hostile(store: Store) -> Store:
    """A store in which every text tries something."""
    items = []
    for line, text in enumerate(HOSTILE, 1):
        more = dict.fromkeys(("vulnerability_details", "proof_of_concept", "remediation_steps", "references"), text)
        items.append(
            seen(text, line, message=f"{text} {text}", snippet=f"{text}\n  x", file_path=f"src/{text}.py", cwe=text,
                 symbol=text, rule_id=text, detail=FLOW, more=more)
        )  # fmt: skip
    looked(store, *items, target=EVIL)
    triage = Triage(store.database)
    for row in Finding.select():
        triage.comment(row, row.title, by=f"{row.title} ana")
        triage.suppress(row, reason=row.title, by=row.title)
    return store


class Tags(HTMLParser):
    """Elements with their attributes, and the text outside of script and style."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside = ""
        self.code: dict[str, str] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            self.code[self.inside] = self.code.get(self.inside, "") + data
        else:
            self.text.append(data)


def test_html_is_one_page_in_which_nothing_acts(hostile: Store) -> None:
    told = page(hostile, "html")
    found = Tags(told)
    names = [tag for tag, _ in found.tags]
    assert names.count("script") == names.count("style") == 1
    assert not {"img", "link", "iframe", "object", "embed", "form", "base"} & set(names)
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "srcdoc")], tag
        assert tag != "a" or (attributes["href"] or "").startswith("https://")
    assert not re.search(r"@import|url\(|https?://", found.code["style"] + found.code["script"])
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found.code[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    text = "".join(found.text)
    for title in HOSTILE[:4]:
        assert title in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", told)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_csv_has_no_formulas(hostile: Store) -> None:
    rows = list(csv.reader(io.StringIO(page(hostile, "csv"))))
    assert len(rows) == len(HOSTILE) + 1 and {len(row) for row in rows} == {len(rows[0])}
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.lstrip(" \n").startswith(("=", "+", "-", "@", "\t", "\uff1d"))]
    assert {"'=1+1", "'+1", "'-1", "'@SUM(A1)", "'  =1", "'\t=1", "'-->", "'\uff1d1"} <= set(cells)


def test_markdown_formats_nothing_of_it(hostile: Store) -> None:
    lines = page(hostile, "markdown").splitlines()
    rows = [line for line in lines if line.startswith("| ") and line.count("---") < 3]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert cells == {3, 7}  # severities, findings
    told = "\n".join(lines)
    assert "<" not in told and "&lt;script&gt;" in told
    assert r"\*\*bold\*\* \_x\_ \[x\](javascript\:alert(1)) \`c\` \#1 &#64;ana" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("format", ["text", "markdown", "csv", "json"])
def test_nothing_acts_on_a_terminal(hostile: Store, format: str) -> None:
    told = page(hostile, format)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", told)
    assert re.search(r"\\(x|u00)1b\\?\[31mred", told)


def test_json_says_everything(hostile: Store) -> None:
    told = json.loads(page(hostile, "json"))
    assert {row["title"] for row in told["findings"]} == set(HOSTILE)
    assert told["set_aside"]["suppressed"] == len(HOSTILE) and told["open"] == dict.fromkeys(SEVERITIES, 0)
    flow = told["findings"][0]["flows"][0]
    assert flow[0] == {"file_path": "a.py", "line_number": 3, "text": f"taken from {EVIL}"}
    assert told["trend"][-1]["scan"] == told["scan"]["id"] and told["findings"][0]["suppression"]["by"]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_of_every_size(store: Store, format: str) -> None:
    """Nothing found; then more scans than are drawn, of a finding without a place."""
    scan = store.scans.finish(store.scans.add("shop"))
    assert page(store, format, scan=scan)
    for _ in range(45):
        looked(store, seen("somewhere", 1, file_path=""))
    told = page(store, format)
    assert "somewhere" in told
    assert told.replace(gather(store.database).made_at, "") and page(store, format.upper(), baseline=3)
    if format == "json":
        assert len(json.loads(told)["trend"]) == 45
    if format == "html":
        assert told.count("<g><title>") == 40 and "the latest 40" in told


def test_the_axis_ends_at_a_round_number() -> None:
    for most in (*range(0, 300), 999, 12_345, 10**9):
        top, step = _scale(most)
        assert top >= most and top % step == 0 and 1 <= top // step <= 5 and str(step).rstrip("0") in "125"


# The command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    root = Root("scanstore", commands={"report": report_command})

    def invoke(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(root, ("report", "--db", "scan.db", *args))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_command_writes_what_is_asked_for(run: Run, store: Store, tmp_path: Path) -> None:
    looked(store, seen())
    looked(store, seen(), seen("more", 2))
    assert run().stdout.startswith("shop: scan 2 of ")
    assert json.loads(run("--format", "json", "--scan", "1").stdout)["scan"]["id"] == 1
    assert json.loads(run("--format", "JSON", "--scan", "shop", "-o", "-").stdout)["scan"]["id"] == 2
    for ending, begins in ((".html", "<!DOCTYPE html>"), (".md", "# shop"), (".csv", "id,"), (".txt", "shop:")):
        done = run("-o", f"out{ending}")
        assert done.stdout == "" and f"out{ending}: 2 findings of scan 2" in done.stderr
        assert (tmp_path / f"out{ending}").read_text(encoding="utf-8").startswith(begins)
    assert sorted(path.suffix for path in tmp_path.glob("out*")) == [".csv", ".html", ".md", ".txt"]
    assert "no completed scan of 'nope'" in run("--scan", "nope", code=1).stderr
    assert "give an earlier scan" in run("--baseline", "2", code=1).stderr
    run("--format", "pdf", code=2)


@pytest.mark.parametrize(("file", "remedy"), [
    ("out.sarif", "scanstore sarif dump out.sarif"), ("OUT.SARIF", "scanstore sarif dump OUT.SARIF"),
    ("a b/c.sarif.json", "scanstore sarif dump 'a b/c.sarif.json'"), ("out.jsonl", "scanstore dump out.jsonl"),
    ("out.db", "scanstore backup out.db"), ("out.tsv", "scanstore findings list --tsv > out.tsv"),
    ("out.pdf", "no command writes PDF"), ("out.xlsx", "give another ending"),
])  # fmt: skip
def test_an_ending_of_another_format_is_refused(
    run: Run, store: Store, tmp_path: Path, file: str, remedy: str
) -> None:
    looked(store, seen())
    before = set(tmp_path.rglob("*"))
    told = run(file, code=2).stderr
    assert remedy in told and told.count("\n") == 1 and "or add --format text" in told
    assert run("-o", file, code=2).stderr == told
    assert set(tmp_path.rglob("*")) == before
    if "/" not in file:
        run(file, "--format", "csv")
        assert (tmp_path / file).read_text().startswith("id,")
        (tmp_path / file).unlink()


@pytest.mark.parametrize(("command", "file", "remedy"), [
    ("sarif dump", "out.html", "scanstore report out.html"), ("sarif dump", "out.csv", "scanstore report out.csv"),
    ("sarif dump", "out.jsonl", "scanstore dump out.jsonl"), ("dump", "out.sarif", "scanstore sarif dump out.sarif"),
    ("dump", "out.md", "scanstore report out.md"), ("dump", "out.sqlite", "scanstore backup out.sqlite"),
    ("backup", "out.jsonl", "scanstore dump out.jsonl"), ("backup", "out.sarif", "scanstore sarif dump out.sarif"),
])  # fmt: skip
def test_other_commands_refuse_such_an_ending_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, file: str, remedy: str
) -> None:
    looked(store, seen())
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*command.split(), file, "--db", "scan.db"])
    assert done.exit_code == 2 and f"run: {remedy} --db scan.db; or " in done.stderr, done.output
    assert not Path(file).exists()


@pytest.mark.parametrize("file", ["out", "out.txt", "out.log", "out.2026-01-01", ".sarif/out.markdown", "v1.2"])
def test_other_endings_are_written(run: Run, store: Store, tmp_path: Path, file: str) -> None:
    looked(store, seen())
    (tmp_path / ".sarif").mkdir()
    run(file)
    assert (tmp_path / file).read_text().startswith("# shop" if file.endswith("markdown") else "shop:")


def test_command_leaves_what_it_cannot_replace(run: Run, store: Store, tmp_path: Path) -> None:
    looked(store, seen())
    (tmp_path / "folder").mkdir()
    assert "folder cannot be written" in run("-o", "folder", code=1).stderr
    assert "cannot be written" in run("-o", "missing/out.html", code=1).stderr
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    run("-o", "pipe")
    assert os.read(reader, 5) == b"shop:" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    run("-o", "link.txt")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text().startswith("shop:")
    assert not list(tmp_path.glob("*.part"))


def test_command_fails_on_what_it_is_told_to(run: Run, store: Store) -> None:
    looked(store, seen("old", 1, severity="critical"))
    looked(store, seen("old", 1, severity="critical"), seen("fresh", 2, severity="medium"), seen("came", 3))
    assert "high, new: came (a.py:3, finding" in run("--fail-on", "new-high", code=1).stderr
    assert "new-medium: 2 findings" in run("--fail-on", "new-medium", code=1).stderr
    assert "new-critical" not in run("--fail-on", "new-critical").stderr
    assert "old" in run("--fail-on", "any-critical", code=1).stderr
    triage = Triage(store.database)
    ids = {row.title: row.id for row in Finding.select()}
    triage.triage(ids["old"], "ignored", by="ana")
    triage.suppress(ids["came"], reason="known", by="ana")
    run("--fail-on", "any-high")
    assert "any-info: 1 finding\n" in run("--fail-on", "any-info", code=1).stderr
    run("--fail-on", "sometimes", code=2)


def test_command_is_documented() -> None:
    told = report_command.get_help(click.Context(report_command))
    assert "--fail-on" in told and "scanstore report" in told


# In a browser


def browse(tmp_path: Path, file: Path, *flags: str, fragment: str = "") -> str:
    """What the page has become, after its script; fails when the console says anything."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip("needs Chromium or Chrome: apt install chromium")
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         "--window-size=1200,1600", f"--user-data-dir={tmp_path / 'profile'}", *flags, f"{file.as_uri()}{fragment}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not console
    return done.stdout




def opened(dom: str) -> dict[int, dict[str, str | None]]:
    """The attributes of each finding, by its id."""
    return {
        int(attributes["data-id"] or 0): attributes
        for tag, attributes in Tags(dom).tags
        if tag == "details" and "data-id" in attributes
    }


@pytest.mark.extras
def test_the_page_works_in_a_browser(store: Store, tmp_path: Path) -> None:
    looked(store, seen("gone", 1), seen(EVIL, 2, severity="critical"))
    looked(store, seen(EVIL, 2, severity="critical", file_path="a.py"), seen("low one", 3, severity="low"))
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(page(store, "html"))
    dom = browse(tmp_path, file, "--dump-dom", f"--screenshot={picture}", fragment="#f1")
    found = opened(dom)
    assert "open" in found[1] and "hidden" not in found[1]  # fixed, so hidden, but asked for
    assert f'<span class="title">{EVIL.replace("<", "&lt;").replace(">", "&gt;")}</span>' in dom
    assert "Showing 3 of 3 findings" in dom
    dom = browse(tmp_path, file, "--dump-dom")
    assert "hidden" in opened(dom)[1] and "Showing 2 of 3 findings" in dom
    assert 'class="scripted"' in dom
    browse(tmp_path, file, f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


@pytest.mark.extras
def test_nothing_hostile_runs_in_a_browser(hostile: Store, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(hostile, "html"))
    dom = browse(tmp_path, file, "--dump-dom")
    assert len(opened(dom)) == len(HOSTILE)
    assert len(re.findall("<script", dom)) == 1 and "<img" not in dom


DRIVER = """
const set = (id, value) => { const e = document.querySelector(id); e.value = value;
  e.dispatchEvent(new Event("change")); };
const shown = () => [...document.querySelectorAll(".finding")].filter((f) => !f.hidden).map((f) => f.dataset.id);
const said = {};
said.start = shown();
set("#state", ""); said.all = shown();
set("#severity", "high+"); said.severe = shown();
set("#severity", "low"); said.low = shown();
document.querySelector("#reset").click(); said.reset = shown();
document.querySelector('.tile[data-change="fixed"]').click(); said.fixed = shown();
document.querySelector('.tile[data-severity="low"]').click(); said.tile = shown();
document.querySelector("#reset").click();
set("#order", "change"); said.change = shown();
set("#order", "file"); said.file = shown();
document.querySelector("#text").value = "B.PY zeta";
document.querySelector("#text").dispatchEvent(new Event("input"));
document.querySelector("#unfold").click();
setTimeout(() => {
  said.text = shown();
  document.body.dataset.said = JSON.stringify(said);
}, 500);
"""


@pytest.mark.extras
def test_filters_and_orders_in_a_browser(store: Store, tmp_path: Path) -> None:
    def items(*more: tracking.Incoming) -> list[tracking.Incoming]:
        return [seen("alpha", 9, severity="high"), seen("beta", 1, severity="low", file_path="b.py"), *more]

    looked(store, *items(seen("gone", 3), seen("worst gone", 1, severity="critical", file_path="c.py")))
    looked(store, *items(seen("zeta", 5, severity="medium", file_path="b.py"), seen("dot", 2, severity="low")))
    ids = {row.title: str(row.id) for row in Finding.select()}
    names = {key: title for title, key in ids.items()}
    told = re.sub(r"<meta http-equiv[^>]*>", "", page(store, "html"))
    file = tmp_path / "report.html"
    file.write_text(told.replace("</body>", f"<script>{DRIVER}</script></body>"))
    dom = browse(tmp_path, file, "--dump-dom", "--virtual-time-budget=5000")
    said = next(attributes["data-said"] for tag, attributes in Tags(dom).tags if tag == "body")
    found = {step: [names[key] for key in shown] for step, shown in json.loads(said or "{}").items()}
    assert found["start"] == ["alpha", "dot", "zeta", "beta"]
    assert sorted(found["all"]) == sorted(ids) and found["all"][0] == "worst gone"  # files are ordered by what shows
    assert sorted(found["severe"]) == ["alpha", "gone", "worst gone"]
    assert sorted(found["low"]) == sorted(found["tile"]) == ["beta", "dot"]
    assert sorted(found["reset"]) == ["alpha", "beta", "dot", "zeta"]
    assert found["fixed"] == ["worst gone", "gone"] and found["text"] == ["zeta"]
    assert found["change"] == ["dot", "alpha", "zeta", "beta"]
    assert found["file"] == ["dot", "alpha", "beta", "zeta"]


def test_the_script_parses(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node to check the syntax with")
    script = Path(__file__).parents[2] / "scanstore/report/page.js"
    assert subprocess.run([node, "--check", str(script)], capture_output=True).returncode == 0
