"""Reports into the store and out of it: recognised, never half loaded, told again as they were."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import pytest

from scanstore.db.rules import insert_row, save_row
from scanstore.errors import InvalidArgument, MissingFolder, NotFound
from scanstore.sarif.format.line_hashes import line_hashes
from scanstore.sarif.sarif import ImportResult
from scanstore.sarif.sources import MAX_SIZE, Sources
from scanstore.snapshots.git import provenance
from scanstore.store import Store

Document = dict[str, Any]


def result(n: int = 1, *, rule: str = "R1", line: int | None = None, uri: str = "src/a.py", **more: Any) -> Document:
    region = {"startLine": line or 10 * n, "startColumn": 5, "snippet": {"text": f"call_{n}(x)"}}
    return {
        "ruleId": rule,
        "message": {"text": f"danger of kind {chr(64 + n)}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}],
        **more,
    }


def report(*results: Any, tool: str = "Demo", **run: Any) -> Document:
    driver = {"name": tool, "version": "1", "rules": [{"id": "R1", "shortDescription": {"text": "Danger"}}]}
    return {"version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": list(results), **run}]}


def packed(document: Any) -> io.BytesIO:
    return io.BytesIO(document if isinstance(document, bytes) else json.dumps(document).encode())


def load(store: Store, document: Any, **options: Any) -> ImportResult:
    found = store.sarif.load(packed(document), **{"target": None if "scan" in options else "t", **options})
    assert store.check() == []
    return found


def dumped(store: Store, scan: Any = None, **options: Any) -> Document:
    file = io.BytesIO()
    store.sarif.dump(scan, file, **options)
    document: Document = json.loads(file.getvalue())
    return document


def results(document: Document) -> list[Document]:
    return [one for run in document["runs"] for one in run["results"]]


def rows(store: Store) -> dict[str, int]:
    tables = ("scans", "lineages", "findings", "sightings", "tool_runs", "finding_events", "suppressions", "scan_files")
    return {table: store.database.execute_sql(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


# Over time


def test_a_report_is_a_scan_of_its_target(store: Store) -> None:
    first = load(store, report(result(1), result(2)))
    assert (first.runs, first.results, first.new, first.problems, first.again) == (1, 2, 2, [], False)
    scan = store.scans.get(first.scan)
    assert (scan.kind, scan.target, scan.status, scan.phase) == ("results", "t", "completed", "completed")
    found = store.findings.list(scan)
    assert [(one.tool, one.rule_id, one.title, one.severity, one.file_path, one.line_number) for one in found] == [
        ("Demo", "R1", "Danger", "medium", "src/a.py", 10), ("Demo", "R1", "Danger", "medium", "src/a.py", 20)
    ]  # fmt: skip


def test_what_is_new_fixed_and_back(store: Store) -> None:
    load(store, report(result(1), result(2), result(3)))
    second = load(store, report(result(1), result(2, line=25), result(4)))
    assert (second.new, second.unchanged, second.updated, second.fixed, second.not_checked) == (1, 2, 0, 1, 0)
    third = load(store, report(result(1), result(2), result(3), result(4)))
    assert (third.new, third.unchanged, third.reopened, third.fixed) == (0, 3, 1, 0)


def test_the_same_file_again_changes_nothing(store: Store) -> None:
    document = report(result(1), result(2), result(3, suppressions=[{"kind": "inSource"}]))
    first = load(store, document)
    before = rows(store)
    again = load(store, document)
    assert again == ImportResult(first.scan, again=True)
    assert rows(store) == before
    elsewhere = load(store, document, target="u")
    assert (elsewhere.again, elsewhere.new) == (False, 3)
    # Within a scan of one's own it is recorded once, and changes nothing after that.
    load(store, report(result(1)))
    scan = store.scans.finish(store.scans.add("t"))
    assert load(store, document, scan=scan).reopened == 2
    assert load(store, document, scan=scan).again


def test_another_tool_fixes_nothing(store: Store) -> None:
    load(store, report(result(1)))
    other = load(store, report(result(1), tool="Other"))
    assert (other.new, other.fixed, other.not_checked) == (1, 0, 0)
    assert load(store, report(tool="Other")).fixed == 1


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(report(result(1), 42), id="a result was not usable"),
        pytest.param(report(result(1), invocations=[{"executionSuccessful": False}]), id="the tool failed"),
        pytest.param(
            report(
                result(1),
                invocations=[{
                    "executionSuccessful": True,
                    "toolExecutionNotifications": [{
                        "level": "error", "message": {"text": "no"},
                        "locations": [{"physicalLocation": {"artifactLocation": {"uri": "src/b.py"}}}],
                    }],
                }],
            ),
            id="the tool failed on that file",
        ),
        pytest.param(
            report(result(1), artifacts=[{"location": {"uri": "src/a.py"}, "roles": ["analysisTarget"]}]),
            id="only other files were looked at",
        ),
        pytest.param({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "Demo"}}}]}, id="no list of results"),
        pytest.param(
            {
                "version": "2.1.0",
                "runs": [{"tool": {"driver": {"name": "Demo", "rules": [{"id": "R0"}]}}, "results": []}],
            },
            id="the rule did not run",
        ),
    ],
)  # fmt: skip
def test_what_was_not_looked_for_is_not_fixed(store: Store, document: Document) -> None:
    load(store, report(result(1), result(2, uri="src/b.py")))
    found = load(store, document)
    assert found.fixed == 0
    assert found.not_checked == 2 - found.unchanged > 0


def test_scope_says_what_was_looked_at(store: Store) -> None:
    load(store, report(result(1), result(2, uri="lib/b.py"), result(3, uri="lib/c/d.py")))
    part = load(store, report(), scope=["lib/", "!lib/c/"])
    assert (part.fixed, part.not_checked) == (1, 2)
    assert load(store, report(invocations=[])).fixed == 2


def series(name: str | None, *found: Document, day: int = 1, tool_name: str = "Demo") -> Document:
    """A report of one series of analyses, or of none."""
    details = {} if name is None else {"automationDetails": {"id": f"{name}/{day}"}}
    return report(*found, tool=tool_name, **details)


def test_series_of_analyses_say_nothing_of_each_other(store: Store) -> None:
    assert load(store, series("ci/linux", result(1), result(2))).new == 2
    found = load(store, series("ci/windows", result(1), result(3)))
    assert (found.new, found.fixed, found.not_checked) == (2, 0, 2)  # the same place there is another finding
    found = load(store, series("ci/linux", result(1), day=2))
    assert (found.new, found.unchanged, found.fixed, found.not_checked) == (0, 1, 1, 2)
    found = load(store, series("ci/windows", result(1), result(2), day=2))
    assert (found.new, found.unchanged, found.fixed) == (1, 1, 1)  # what is fixed in one is not back in the other
    found = load(store, series("ci/linux", result(2), day=3))
    assert (found.reopened, found.fixed) == (1, 1)
    assert {f.status for f in store.findings.list(scan=found.scan, state="fixed")} == {"fixed"}


def test_a_report_of_no_series_speaks_of_all_and_so_does_an_id_without_a_slash(store: Store) -> None:
    load(store, series("ci", result(1), result(2)))
    found = load(store, series(None, result(1)))
    assert (found.new, found.unchanged, found.fixed) == (0, 1, 1)
    found = load(store, report(result(1), result(2), automationDetails={"id": "nightly"}))
    assert (found.unchanged, found.reopened) == (1, 1)
    assert load(store, series("other", result(1), result(2))).unchanged == 2


def test_runs_of_one_tool_are_matched_together(store: Store) -> None:
    def runs(*parts: list[Document], **details: Any) -> Document:
        return {"version": "2.1.0", "runs": [run for part in parts for run in report(*part, **details)["runs"]]}

    moved = result(1, line=12, uri="src/b.py")
    assert load(store, runs([result(1)], [result(1, uri="src/b.py")])).new == 2
    # The first run's result resembles a finding that the second one's is: that one is surer.
    found = load(store, runs([result(1, line=12)], [result(1), moved]))
    assert (found.new, found.unchanged, found.fixed) == (1, 2, 0)
    places = {f.state: (f.file_path, f.line_number) for f in store.findings.list(scan=found.scan)}
    assert places["new"] == ("src/a.py", 12)
    assert len(results(dumped(store, found.scan))) == 3
    assert [len(run["results"]) for run in dumped(store, found.scan)["runs"]] == [1, 2]


def test_series_within_one_report_stay_apart(store: Store) -> None:
    def both(*parts: Document) -> Document:
        return {"version": "2.1.0", "runs": [run for part in parts for run in part["runs"]]}

    load(store, both(series("a", result(1), result(2)), series("b", result(1))))
    found = load(store, both(series("b", result(1), result(2)), series("a", result(1))))
    assert (found.new, found.unchanged, found.fixed) == (1, 2, 1)


def test_what_two_reports_of_a_scan_say_alike_is_one_finding(store: Store) -> None:
    first = load(store, report(result(1), result(1), result(2)))
    scan = first.scan
    found = load(store, report(result(1), result(1), result(1), result(2), result(3)), scan=scan)
    assert found.results == 5 and len(store.findings.list(scan=scan)) == 5  # one more of the first, and the third
    moved = load(store, report(result(2, line=21)), scan=scan)
    assert moved.new == 1 and len(store.findings.list(scan=scan)) == 6  # at another place it is another one
    load(store, series("a", result(3)), scan=scan)
    load(store, series("b", result(3)), scan=scan)
    assert len(store.findings.list(scan=scan)) == 8
    load(store, report(result(3), tool="Other"), scan=scan)
    assert len(store.findings.list(scan=scan)) == 9
    assert len(results(dumped(store, scan))) == 9
    # And they are recognised in the next one, each once.
    again = load(store, report(result(2), result(1), result(1)))
    assert (again.new, again.unchanged) == (0, 3)
    again = load(store, report(result(3), result(2), result(1), result(1), result(1)), scan=again.scan)
    assert (again.new, again.unchanged) == (0, 5)
    assert len([f for f in store.findings.list(scan=again.scan) if f.tool == "Demo"]) == 5


def test_results_that_are_fine_are_no_findings(store: Store) -> None:
    found = load(store, report(result(1), result(2, kind="pass"), result(3, baselineState="absent")))
    assert (found.results, found.passed, found.skipped) == (1, 2, 0)


def test_a_scan_of_reports_does_not_answer_for_the_tree(store: Store, tmp_path: Path) -> None:
    load(store, report(result(1)))
    assert store.scans.latest("t").kind == "results"
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.py").write_text("def f():\n    pass\n\n\ndef g():\n    f()\n")
    one = store.scans.record(tree, target="t", jobs=1)
    after = load(store, report(result(2)))
    assert store.scans.latest("t") == one
    assert [symbol.name for symbol in store.symbols.find("f")] == ["f"]
    two = store.scans.record(tree, target="t", jobs=1)
    assert (one.revision, two.revision) == (1, 2)
    first, second = (sorted(map(repr, store.symbols.edges(scan=scan))) for scan in (one, two))
    assert len(first) == len(second) == 1
    store.scans.remove(one)
    store.scans.remove(after.scan)
    assert store.check() == []


# With the source


def write(folder: Path, name: str, *lines: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def bare(line: int, uri: str = "src/a.py", text: str = "danger") -> Document:
    place = {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}
    return {"ruleId": "R1", "message": {"text": text}, "locations": [{"physicalLocation": place}]}


def test_lines_of_the_source_tell_equal_results_apart(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "src/a.py", "import os", "def f():", "    eval(a)", "def g():", "    eval(b)")
    store.scans.record(tmp_path, target="t", jobs=1)
    load(store, report(bare(3), bare(5)), root=tmp_path)
    first, second = store.findings.list(store.findings.latest())
    assert (first.symbol, second.symbol) == ("a.f", "a.g")
    # The first is gone, and the second stands where the first has been.
    write(tmp_path, "src/a.py", "import os", "def g():", "    eval(b)")
    found = load(store, report(bare(3)), root=tmp_path)
    assert (found.unchanged, found.new, found.fixed) == (1, 0, 1)
    assert store.findings.get(second).line_number == 3
    assert store.findings.get(first).status == "fixed"


def test_a_renamed_file_is_known_by_its_content(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "src/a.py", "x", "eval(a)", "y")
    write(tmp_path, "src/copy.py", "x", "eval(a)", "y")
    load(store, report(bare(2)), root=tmp_path)
    # A copy with a finding is no renamed file.
    copied = load(store, report(bare(2, "src/copy.py")), root=tmp_path)
    assert (copied.new, copied.fixed) == (1, 1)
    (tmp_path / "src/copy.py").rename(tmp_path / "src/other.py")
    moved = load(store, report(bare(2, "src/other.py")), root=tmp_path)
    assert (moved.new, moved.unchanged, moved.fixed) == (0, 1, 0)


def test_nothing_outside_of_the_root_is_read(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    write(root, "a.py", "x = 1")
    write(tmp_path, "secret.py", "password = 1")
    (root / "link.py").symlink_to(tmp_path / "secret.py")
    os.mkfifo(root / "pipe.py")
    (root / "folder.py").mkdir()
    outside = ["../secret.py", "a/../../secret.py", "%2e%2e/secret.py", f"file://{tmp_path}/secret.py", "/etc/passwd"]
    inside = ["link.py", "pipe.py", "folder.py", "gone.py"]
    opened: list[str] = []
    monkeypatch.setattr(os, "open", _noting(opened, os.open))
    found = load(store, report(*(bare(1, uri, uri) for uri in (*outside, *inside, "a.py"))), root=root)
    assert found.results == 10
    assert [problem.path for problem in found.problems] == [
        f"$.runs[0].results[{n}].locations[0].physicalLocation.artifactLocation.uri" for n in range(len(outside))
    ]
    assert not any("secret" in path or "passwd" in path for path in opened)
    known = {one.file_path for one in store.findings.list(store.findings.latest()) if one.line_hash is not None}
    assert known == {"a.py"}
    large = root / "large.py"
    with open(large, "wb") as file:
        file.truncate(MAX_SIZE + 1)
    assert Sources(str(root)).get("large.py") is None
    assert Sources(None).get("a.py") is None


def _noting(paths: list[str], function: Callable[..., int]) -> Callable[..., int]:
    def noting(path: Any, *args: Any, **options: Any) -> int:
        paths.append(os.fsdecode(path) if not isinstance(path, int) else "")
        return function(path, *args, **options)

    return noting


def test_into_a_scan_of_the_tree(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "src/a.py", "def f():", "    eval(a)")
    scan = store.scans.record(tmp_path, target="t", jobs=1)
    assert load(store, report(bare(2)), scan=scan).scan == scan.id
    (one,) = store.findings.list(scan)
    assert one.symbol == "a.f"
    hashed = line_hashes("def f():\n    eval(a)\n")[1]
    assert results(dumped(store, scan))[0]["partialFingerprints"] == {"primaryLocationLineHash": hashed}
    # The tree is not what was scanned any more: its lines say nothing.
    write(tmp_path, "src/a.py", "", "", "    eval(a)")
    assert "partialFingerprints" not in results(dumped(store, scan))[0]
    assert load(store, report(bare(2), bare(1)), scan=scan).new >= 1


# Suppressions


def test_suppressions_of_reports_come_and_go_and_a_persons_word_stays(store: Store) -> None:
    held = {"suppressions": [{"kind": "inSource", "justification": "nosec: tested"}]}
    load(store, report(result(1, **held), result(2, suppressions=[])))
    one, two = store.findings.list(store.findings.latest())
    assert {key: (row.by, row.justification) for key, row in store.findings.suppressed([one, two]).items()} == {
        one.id: ("sarif", "nosec: tested")
    }
    assert (one.status, [event.action for event in store.findings.history(one)]) == ("open", ["suppress"])
    load(store, report(result(1, **held), result(2, suppressions=[]), invocations=[]))
    assert rows(store)["suppressions"] == 1
    load(store, report(result(1, suppressions=[]), result(2, suppressions=[])))
    assert store.findings.suppressed([one, two]) == {}
    load(store, report(result(1, **held), result(2)))
    (again,) = store.findings.suppressed([one]).values()
    store.findings.unsuppress(again, by="ann")
    load(store, report(result(1, **held), result(2), artifacts=[]))
    assert store.findings.suppressed([one]) == {}
    assert all(not found.get("suppressions") for found in results(dumped(store)))


@pytest.mark.parametrize("status", ["underReview", "rejected", "UNDERREVIEW", "bogus", 7])
def test_a_suppression_that_does_not_hold_is_only_told(store: Store, status: str) -> None:
    told = [{"kind": "external", "status": status, "justification": "wait"}]
    load(store, report(result(1, suppressions=told)))
    assert rows(store)["suppressions"] == 0
    assert results(dumped(store))[0]["suppressions"] == told


def test_decisions_are_told_and_kept(store: Store) -> None:
    load(store, report(result(1), result(2), result(3)))
    one, two, three = store.findings.list(store.findings.latest())
    store.findings.triage(one, "false_positive", by="ann", reason="a test")
    store.findings.suppress(two, reason="later", by="bob")
    found = load(store, report(result(1), result(2), result(3), invocations=[]))
    assert found.unchanged == 3
    assert store.findings.get(one).status == "false_positive"
    assert [each["suppressions"] for each in results(dumped(store))] == [
        [{"kind": "external", "status": "accepted", "justification": "false positive: a test"}],
        [{"kind": "external", "status": "accepted", "justification": "later"}],
        [],
    ]


# Out


RICH = report(
    result(
        1,
        level="error",
        guid="11111111-2222-4333-8444-555555555555",
        fingerprints={"id/v1": "abc"},
        partialFingerprints={"primaryLocationLineHash": "39fa2ee980eb94b0:1"},
        codeFlows=[{"threadFlows": [{"locations": [{"location": {"physicalLocation": {
            "artifactLocation": {"uri": "src/a.py"}, "region": {"startLine": 3}}}}, {"location": {"physicalLocation": {
                "artifactLocation": {"uri": "src/b.py"}, "region": {"startLine": 4}}}}]}]}],
        relatedLocations=[{"id": 1, "physicalLocation": {"artifactLocation": {"uri": "src/a.py"},
                                                         "region": {"startLine": 7, "endLine": 8}}}],
        properties={"tags": ["CWE-89", "external/cwe/cwe-79"], "odd": [1, {"x": None}]},
        rank=3.5,
        suppressions=[{"kind": "inSource", "status": "accepted", "justification": "known"}],
    ),
    result(2, suppressions=[], properties={"security-severity": "9.8"}),
    result(2, suppressions=[]),
    result(3, kind="review", suppressions=[], rule="R9/sub"),
    {"message": {"text": "of no file"}, "suppressions": []},
    {"message": {"text": "\u00fc \ud83d\ude00 <script>"}, "ruleId": "R2", "suppressions": [], "locations": [
        {"physicalLocation": {"artifactLocation": {"uri": "a%20b/%C3%BC.py"}}}]},
    automationDetails={"id": "nightly/"},
    properties={"whatever": {"deep": [1, 2]}},
)  # fmt: skip


def test_a_report_comes_out_as_it_went_in(store: Store, tmp_path: Path) -> None:
    load(store, RICH)
    first = dumped(store)
    assert first["runs"][0]["properties"] == {"whatever": {"deep": [1, 2]}}
    assert first["runs"][0]["automationDetails"] == {"id": "nightly/"}
    flow = results(first)[2]["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [step["location"]["physicalLocation"]["region"]["startLine"] for step in flow] == [3, 4]
    assert results(first)[2]["relatedLocations"][0]["physicalLocation"]["region"] == {"startLine": 7, "endLine": 8}
    assert results(first)[2]["properties"]["odd"] == [1, {"x": None}]
    with Store(tmp_path / "other.db") as other:
        assert load(other, first).problems == []
        assert dumped(other) == first
    assert dumped(store) == first


def test_the_pipelines_own_findings_come_out_and_in_again(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "tree/a.py", "def f():", "    eval(a)")
    scan = store.scans.record(tmp_path / "tree", target="t", jobs=1)
    draft = {
        "title": "Eval of input", "vulnerability_type": "code injection", "severity": "critical", "file_path": "a.py",
        "line_number": 2, "snippet": "eval(a)",
    }  # fmt: skip
    finding = _published(store, scan, draft)
    assert finding.tool == "scanstore"
    first = dumped(store, scan)
    (one,) = results(first)
    assert one["ruleId"] == "code injection"
    assert one["properties"]["scanstore"]["remediation_steps"] == "do not"
    with Store(tmp_path / "other.db") as other:
        load(other, first)
        (copy,) = other.findings.list(other.findings.latest())
        assert (copy.severity, copy.cwe) == ("critical", "CWE-95")
        assert results(dumped(other)) == results(first)


def _published(store: Store, scan: Any, draft: Document) -> Any:
    from scanstore.analysis.models import DraftFinding, VerifiedFinding

    (key,) = store.drafts.add(scan, [draft])[:1]
    row = DraftFinding.get_by_id(getattr(key, "id", key))
    row.status = "verified"
    save_row(row)
    verified = insert_row(
        VerifiedFinding, draft=row, scan=scan, title=row.title, confidence=90, adjusted_severity="critical", rank=0
    )
    return store.findings.publish(verified, cwe="CWE-95", remediation_steps="do not")


def test_an_older_scan_is_told_as_it_was(store: Store) -> None:
    first = load(store, report(result(1), result(2)))
    before = dumped(store, first.scan)
    second = load(store, report(result(1, line=77, level="error")))
    assert dumped(store, first.scan) == before
    found = {one["baselineState"]: one for one in results(dumped(store, second.scan))}
    assert found.keys() == {"updated", "absent"}
    assert found["updated"]["locations"][0]["physicalLocation"]["region"]["startLine"] == 77
    assert [one["baselineState"] for one in results(dumped(store, only=["fixed"]))] == ["absent"]
    assert [one["baselineState"] for one in results(dumped(store, github=True))] == ["updated"]
    third = load(store, report(result(1, line=77, level="error"), result(2)))
    assert sorted(one["baselineState"] for one in results(dumped(store, third.scan))) == ["new", "unchanged"]


def test_lines_above_a_finding_do_not_change_it(store: Store) -> None:
    def flow(line: int) -> Document:
        place = {"artifactLocation": {"uri": "src/a.py"}, "region": {"startLine": line}}
        return {"codeFlows": [{"threadFlows": [{"locations": [{"location": {"physicalLocation": place}}]}]}]}

    load(store, report(result(1, line=10, **flow(4))))
    assert load(store, report(result(1, line=15, **flow(9)))).unchanged == 1
    assert store.database.execute_sql("SELECT count(*) FROM finding_contents").fetchone()[0] == 0
    steps = results(dumped(store))[0]["codeFlows"][0]["threadFlows"][0]["locations"]
    assert steps[0]["location"]["physicalLocation"]["region"]["startLine"] == 9


def test_dump_goes_to_a_path_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    load(store, report(result(1)))
    told = store.sarif.dump(None, tmp_path / "out.sarif")
    assert (told.runs, told.results, told.left_out) == (1, 1, 0)
    assert json.loads((tmp_path / "out.sarif").read_bytes())["version"] == "2.1.0"
    with pytest.raises(MissingFolder, match="cannot be written"):
        store.sarif.dump(None, tmp_path / "no" / "out.sarif")
    with pytest.raises(InvalidArgument, match="only is"):
        store.sarif.dump(None, tmp_path / "other", only=["gone"])
    with pytest.raises(InvalidArgument, match="binary"):
        store.sarif.dump(None, io.StringIO())  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        store.sarif.dump(99, tmp_path / "other")
    assert {name for name in os.listdir(tmp_path) if not name.startswith("scan.db")} == {"out.sarif"}


def test_the_checkout_of_a_tree(tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")

    def run(*words: str) -> str:
        return subprocess.run(
            [git, *settings, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    run("init", "-q", "-b", "main/x")
    write(tmp_path, "a.py", "x")
    run("add", ".")
    run("commit", "-qm", "one")
    assert provenance(str(tmp_path)) is None  # of nowhere
    run("remote", "add", "origin", "https://joe:secret@example.org/a/b.git")
    revision = run("rev-parse", "HEAD")
    expected = ("https://example.org/a/b.git", revision, "main/x")
    assert provenance(str(tmp_path)) == expected
    run("pack-refs", "--all")
    assert provenance(str(tmp_path)) == expected
    run("remote", "set-url", "origin", "git@example.org:a/b.git")
    run("checkout", "-q", "--detach")
    assert provenance(str(tmp_path)) == ("ssh://example.org/a/b.git", revision, None)
    assert provenance(str(tmp_path / "nowhere")) is None
    assert provenance(None) is None


# For real


VULNERABLE = """\
import subprocess
import pickle


def run(word):
    return subprocess.call(word, shell=True)


def load(blob):
    return pickle.loads(blob)


def twice(word):
    return eval(word)
"""


@pytest.mark.slow
def test_bandit_over_two_versions_of_a_tree(store: Store, tmp_path: Path) -> None:
    needs.package("bandit", "test")
    needs.package("sarif_om", "test")
    tree = tmp_path / "tree"

    def bandit(name: str) -> ImportResult:
        out = tmp_path / name
        subprocess.run(
            [sys.executable, "-m", "bandit", "-q", "-r", ".", "-f", "sarif", "-o", str(out)],
            cwd=tree, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        found = store.sarif.load(out, target="t", root=tree)
        assert store.check() == []
        return found

    write(tree, "app.py", *VULNERABLE.splitlines())
    write(tree, "old.py", "import random", "key = random.random()")
    first = bandit("1.sarif")
    assert first.problems == [] and first.new == first.results >= 5
    scan = store.scans.get(first.scan)
    before = {one.rule_id: one for one in store.findings.list(scan)}
    assert {"B602", "B301", "B307", "B311"} <= before.keys()
    assert before["B602"].cwe == "CWE-78"
    # Lines come above, one finding is mended, one file is renamed, one finding is added.
    edited = VULNERABLE.replace("import pickle", "import pickle\nimport hashlib\n\nWORDS = {}").replace(
        "eval(word)", "int(word)"
    )
    write(tree, "app.py", *edited.splitlines(), "", "", "def weak(x):", "    return hashlib.md5(x)")
    (tree / "old.py").rename(tree / "renamed.py")
    second = bandit("2.sarif")
    after = {one.rule_id: one for one in store.findings.list(second.scan)}
    assert (second.new, second.fixed, second.unchanged + second.updated) == (1, 1, first.results - 1)
    assert after["B324"].first_scan_id == second.scan
    assert store.findings.get(before["B307"]).status == "fixed"
    assert after["B311"].id == before["B311"].id and after["B311"].file_path == "renamed.py"
    assert after["B602"].id == before["B602"].id and after["B602"].line_number == before["B602"].line_number + 3


@pytest.mark.no_cover
@pytest.mark.slow
def test_memory_grows_with_what_is_found_not_with_what_is_said(store: Store, tmp_path: Path) -> None:
    """Twenty times the size of a report, in texts that are only kept, takes little more memory."""

    def peak(name: str, said: int) -> int:
        path = tmp_path / name
        with open(path, "w") as file:
            file.write(
                '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "Demo"}}, "unknown": 1, "results": ['
            )
            for n in range(2000):
                one = result(1 + n % 20, line=n + 1, uri=f"src/{n % 100}.py", kind="pass" if n % 20 else "fail")
                one["properties"] = {"said": "x" * said}
                file.write(("," if n else "") + json.dumps(one))
            file.write("]}]}")
        tracemalloc.start()
        store.sarif.load(path, target=name)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    small, large = peak("small", 500), peak("large", 10_000)
    assert large < small + 6_000_000


# The command line


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from click.testing import CliRunner

    from scanstore.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANSTORE_DB", raising=False)

    def invoke(*words: str, code: int = 0, **options: Any) -> Any:
        done = CliRunner().invoke(main, words, prog_name="scanstore", **options)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return invoke


def test_the_command_line(run: Callable[..., Any], tmp_path: Path) -> None:
    assert "give the target of the report" in run("sarif", "load", "one.sarif", code=2).stderr
    assert "there is no such file" in run("sarif", "load", "one.sarif", "--target", "t", code=1).stderr
    assert not (tmp_path / "scanstore.db").exists()
    (tmp_path / "one.sarif").write_text(json.dumps(report(result(1), result(2), 42)))
    done = run("sarif", "load", "one.sarif", "--target", "t")
    assert done.stdout == "scan 1: 2 results in 1 run: 2 new, 1 result left out\n"
    assert done.stderr.startswith("$.runs[0].results[2] ")
    assert "was loaded before" in run("sarif", "load", "one.sarif", "--target", "t").stderr
    two = json.dumps(report(result(1), result(3, properties={"security-severity": "9.9"})))
    done = run("sarif", "load", "-", "--target", "t", "--fail-on", "new-high", "--json", input=two, code=1)
    assert json.loads(done.stdout)["fixed"] == 1
    assert "critical" in done.stderr
    done = run("sarif", "load", "-", "--target", "t", "--fail-on", "new-high", input=two + " ")
    assert done.stdout == "scan 3: 2 results in 1 run: 2 unchanged\n"
    assert len(json.loads(run("sarif", "dump").stdout)["runs"][0]["results"]) == 2
    states = ["new", "absent", "unchanged"]
    for words, wanted in (((), states), (("--only", "new"), states[:1]), (("--github",), ["new", "unchanged"])):
        document = json.loads(run("sarif", "dump", "--scan", "2", *words).stdout)
        assert sorted(one["baselineState"] for one in results(document)) == sorted(wanted)
    done = run("sarif", "dump", "out.sarif", "--scan", "t", "--json")
    assert json.loads(done.stdout)["results"] == len(results(json.loads((tmp_path / "out.sarif").read_bytes()))) == 2
    for words, code in (
        (("load", "one.sarif"), 2), (("load", "no.sarif", "--target", "t"), 1),
        (("dump", "--scan", "9"), 1), (("dump", "--scan", "u"), 1), (("dump", "--json"), 2), (("dump", "9"), 2),
        (("dump", "t"), 2), (("dump", "a", "-o", "b"), 2), (("load", "one.sarif", "--target", "t", "--root", "no"), 1),
    ):  # fmt: skip
        assert "Traceback" not in run("sarif", *words, code=code).output
