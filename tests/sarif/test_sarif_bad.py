"""Reports that are broken, hostile or odd: refused or the one result left out, and never half loaded."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_sarif import dumped, load, report, result, results, rows

from scanstore.errors import IllegalMove, InvalidArgument, NotFound
from scanstore.sarif.sarif import ImportResult
from scanstore.store import Store


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({**report(result(1)), "version": "1.0.0"}, id="SARIF 1.0"),
        pytest.param(json.dumps(report(result(1), result(2))).encode()[:-9], id="truncated"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe\xfa{", id="no text"),
        pytest.param([], id="an array"),
        pytest.param({"version": "2.1.0"}, id="no runs"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_report_is_refused(store: Store, document: Any) -> None:
    with pytest.raises(InvalidArgument):
        load(store, document)
    assert rows(store)["scans"] == rows(store)["lineages"] == 0


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("document", "path", "results"),  # results None: the run cannot be used, which is recorded
    [
        (report(result(1), {"ruleId": "R1"}), "$.runs[0].results[1].message", 1),
        (report(result(1), result(2, partialFingerprints={"a": {}})),
         "$.runs[0].results[1].partialFingerprints['a']", 1),
        (report(result(1), result(2, ruleIndex=7)), "$.runs[0].results[1].ruleIndex", 1),
        (report(result(1), 42), "$.runs[0].results[1]", 1),
        (report(result(1, uri="../../etc/passwd")),
         "$.runs[0].results[0].locations[0].physicalLocation.artifactLocation.uri", 1),
        ({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": 42}]}, "$.runs[0].results", None),
        ({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": None}}, "results": []}]},
         "$.runs[0].tool.driver.name", None),
    ],
)  # fmt: skip
def test_each_problem_has_its_path(store: Store, document: Any, path: str, results: int | None) -> None:
    found = load(store, document)
    assert path in [problem.path for problem in found.problems]
    assert all(problem.reason for problem in found.problems)
    if results is None:
        assert (found.results, rows(store)["findings"], rows(store)["tool_runs"]) == (0, 0, 1)
        assert found.troubles and store.findings.troubles(scan=found.scan)
    else:
        assert (found.results, rows(store)["findings"]) == (results, results)


def test_odd_reports_that_are_fine(store: Store) -> None:
    nothing = load(store, {"version": "2.1.0", "runs": []})
    assert nothing == ImportResult(1, runs=1, troubles=["unnamed tool: the report holds no run"])
    assert load(store, b"\xef\xbb\xbf" + json.dumps(report(result(1))).encode()).new == 1
    deep = load(store, report(result(1), result(2, properties={"deep": nested(50)})))
    assert (deep.results, deep.skipped, [each.path for each in deep.problems]) == (1, 1, ["$.runs[0].results[1]"])
    halves = json.dumps(report({"ruleId": "\0", "message": {"text": "\0"}}, result(2, rule="\ud800"))).encode()
    assert load(store, halves)[2:4] == (1, 1)
    assert results(dumped(store))[0]["message"] == {"text": "\0"}
    odd = {"message": {"text": ""}, "locations": [{"physicalLocation": {
        "artifactLocation": {"uri": "x"}, "region": {"startLine": 9, "endLine": 3}}}]}  # fmt: skip
    assert load(store, report(odd)).new == 1


def test_bad_arguments(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "r.sarif"
    path.write_text(json.dumps(report(result(1))))
    failed = store.scans.add("t")
    store.database.execute_sql("UPDATE scans SET status = 'failed' WHERE id = ?", (failed.id,))
    before = rows(store)
    for options in (
        {}, {"target": ""}, {"target": 3}, {"target": "t", "root": tmp_path / "no"}, {"target": "t", "scope": "src"},
        {"target": "t", "scope": []}, {"target": "t", "scope": [3]}, {"target": "u", "scan": store.scans.add("v")},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            store.sarif.load(path, **options)  # type: ignore[arg-type]
    for file in (tmp_path / "none", tmp_path, io.StringIO("{}"), 3):
        with pytest.raises(InvalidArgument):
            store.sarif.load(file, target="t")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        store.sarif.load(path, scan=99)
    with pytest.raises(IllegalMove):
        store.sarif.load(path, scan=failed)
    assert {**rows(store), "scans": 0, "lineages": 0} == {**before, "scans": 0, "lineages": 0}


def test_an_error_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from scanstore.findings import tracking

    load(store, report(result(1)))
    before = rows(store)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(tracking, "close", broken)
    with pytest.raises(RuntimeError):
        load(store, report(result(2)))
    assert rows(store) == before


def test_a_pipe_is_read_too(store: Store) -> None:
    reading, writing = os.pipe()
    os.write(writing, json.dumps(report(result(1))).encode())
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert store.sarif.load(pipe, target="t").new == 1


def with_run(document: Any, **members: Any) -> Any:
    document["runs"][0].update(members)
    return document


STRINGS = {"tool": {"driver": {"name": "x", "globalMessageStrings": {"m": {"text": "{0}" * 1000}}}}}
FLOW = {"codeFlows": [{"threadFlows": [{"locations": [{"index": 0}] * 1000}]}]}


@pytest.mark.parametrize(
    "document",
    [
        with_run(report(result(1, message={"id": "m", "arguments": ["y" * 100_000]})), **STRINGS),
        with_run(report(result(1, **FLOW)), threadFlowLocations=[{"location": {"message": {"text": "y" * 100_000}}}]),
        with_run(report(result(1, **FLOW)), threadFlowLocations=[{"locations": [{"index": 0}, {"index": 0}]}]),
    ],
    ids=["arguments", "one long text named often", "an object that names itself"],
)
def test_references_cannot_make_a_small_report_large(store: Store, document: Any) -> None:
    found = load(store, document)
    assert (found.results, len(found.problems)) == (0, 1)


def test_a_long_chain_of_bases_is_reported(store: Store) -> None:
    bases = {f"B{n}": {"uri": "a/", "uriBaseId": f"B{n + 1}"} for n in range(5_000)}
    place = {"physicalLocation": {"artifactLocation": {"uri": "x.py", "uriBaseId": "B0"}}}
    found = load(store, with_run(report(result(1, locations=[place])), originalUriBaseIds=bases))
    assert "behind more than" in found.problems[0].reason
