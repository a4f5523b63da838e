"""SARIF in and out, as pure mapping: what is read from good and bad documents, what is written, and that both agree.

The shape of what is written is checked by `valid`, which holds the essential constraints of the format by hand. With
the path of the official schema in the environment variable SARIF_SCHEMA it is checked against that, too.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import needs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanstore.errors import InvalidArgument
from scanstore.sarif.format import jsonstream
from scanstore.sarif.format import reader as sarif_in
from scanstore.sarif.format import writer as sarif_out
from scanstore.sarif.format.line_hashes import line_hashes
from scanstore.sarif.format.reader import read
from scanstore.sarif.format.uris import Outside, Places, address
from scanstore.sarif.format.vocabulary import Artifact, Result, Rule, Run, SarifProblem, cwe_in, severity_of
from scanstore.sarif.format.writer import Left, OutRun, write
from scanstore.snapshots.git import Vcs

# -- making documents


def at(uri: str | None = "src/a.py", line: int | None = 3, **more: Any) -> dict[str, Any]:
    region = {} if line is None else {"region": {"startLine": line}}
    return {"physicalLocation": {"artifactLocation": {} if uri is None else {"uri": uri}, **region, **more}}


def result(name: str | None = "R1", text: str = "bad", *locations: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"message": {"text": text}, "locations": list(locations or [at()]), **more}
    return found if name is None else {"ruleId": name, **found}


def run(*results: Any, rules: Any = (), driver: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    tool = {"driver": {"name": "tool", "rules": list(rules), **(driver or {})}}
    return {"tool": tool, "results": list(results), **more}


def document(*runs: Any, **more: Any) -> bytes:
    return json.dumps({"version": "2.1.0", "runs": list(runs), **more}).encode()


def reading(data: bytes, **options: Any) -> tuple[list[Run], list[Result], list[SarifProblem]]:
    problems: list[SarifProblem] = []
    items = list(read(io.BytesIO(data), problems=problems, **options))
    return [i for i in items if isinstance(i, Run)], [i for i in items if isinstance(i, Result)], problems


def one(raw: dict[str, Any], **of_run: Any) -> Result:
    """The only result of a document that has no problems."""
    _, results, problems = reading(document(run(raw, **of_run)))
    assert problems == []
    return results[0]


def refused(raw: Any, **of_run: Any) -> SarifProblem:
    """The only problem of a document whose second result is good and is read all the same."""
    _, results, problems = reading(document(run(raw, result("good"), **of_run)))
    assert [r.rule_id for r in results] == ["good"]
    assert len(problems) == 1
    return problems[0]


def again(data: bytes, **options: Any) -> bytes:
    """A document read and written."""
    runs, results, problems = reading(data)
    assert problems == []
    return written(
        [
            OutRun(
                r.tool,
                [x for x in results if x.run_index == r.run_index],
                r.tool_version,
                r.rules.values(),
                baselined=any(x.baseline_state for x in results),
                vcs=r.vcs,
                automation_id=r.automation_id,
                artifacts=r.artifacts,
                properties=r.properties,
            )
            for r in runs
        ],
        **options,
    )


def written(runs: Iterable[OutRun], **options: Any) -> bytes:
    file = io.BytesIO()
    write(file, runs, **options)
    return file.getvalue()


# -- the hash of a line


def test_line_hashes_have_their_published_values() -> None:
    assert line_hashes("") == ["c129715d7a2bc9a3:1"]
    assert line_hashes(" a\nb\n  \t\tc\n d") == [
        "271789c17abda88f:1",
        "54703d4cd895b18:1",
        "180aee12dab6264:1",
        "a23a3dc5e078b07b:1",
    ]


def hashed_slowly(text: str) -> list[str]:
    """The algorithm as it is described: a ring of 100 units, one at a time."""
    units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H").tolist()
    ring, lines, hashes = [0] * 100, [False] * 100, []
    seen: dict[int, int] = {}
    value, slot, begins, after_cr = 0, 0, True, False

    def push(unit: int, first: bool) -> None:
        nonlocal value, slot
        if lines[slot]:
            seen[value] = seen.get(value, 0) + 1
            hashes.append(f"{value:x}:{seen[value]}")
        lines[slot] = first
        value = (37 * value + unit - 37**100 * ring[slot]) % 2**64
        ring[slot] = unit
        slot = (slot + 1) % 100

    for unit in [*units, 65535]:
        if unit in (9, 32) or (after_cr and unit == 10):
            after_cr = False
            continue
        after_cr = unit == 13
        unit = 10 if after_cr else unit
        push(unit, begins)
        begins = unit == 10
    for _ in range(100):
        push(0, False)
    return hashes


SOURCE = st.text(st.sampled_from("ab \t\n\n\r\U0001f600\uffff\ud800é{"), max_size=400)


@given(SOURCE)
@settings(max_examples=50)
def test_line_hashes_are_those_of_the_description(text: str) -> None:
    assert line_hashes(text) == hashed_slowly(text)


@given(SOURCE, SOURCE, SOURCE)
@settings(max_examples=40)
def test_a_line_out_of_reach_of_an_edit_keeps_its_hash(before: str, edited: str, after: str) -> None:
    kept = "\n" + "x" * 101 + "\n" + "y" * 101 + "\n"
    one, two = (
        [value.split(":")[0] for value in line_hashes(start + kept + after.replace("\r", "\n"))]
        for start in (before + "z", edited + "z")
    )
    tail = after.replace("\r", "\n").count("\n") + 3
    assert one[-tail:] == two[-tail:]
    heads = [line_hashes("first\n" + kept + end)[0].split(":")[0] for end in (before, edited)]
    assert heads[0] == heads[1]


# -- what is read


def test_run_and_result_are_read() -> None:
    rule = {
        "id": "R1",
        "name": "Injection",
        "shortDescription": {"text": "short"},
        "fullDescription": {"text": "full"},
        "help": {"text": "help", "markdown": "*help*"},
        "helpUri": "https://example.org/r1",
        "defaultConfiguration": {"level": "error", "enabled": False},
        "relationships": [{"target": {"id": "89", "toolComponent": {"name": "CWE"}}}],
        "properties": {"tags": ["security", "external/cwe/cwe-079"], "security-severity": "9.1", "precision": "high"},
    }
    region = {"startLine": 3, "startColumn": 2, "endLine": 4, "endColumn": 9, "snippet": {"text": "x = 1\n"}}
    raw = result(
        "R1",
        "bad",
        {"physicalLocation": {"artifactLocation": {"uri": "src/a%20b.py", "uriBaseId": "SRCROOT"}, "region": region}},
        ruleIndex=0,
        level="warning",
        guid="11111111-1111-4111-8111-111111111111",
        partialFingerprints={"primaryLocationLineHash": "ab:1"},
        fingerprints={"v1": "xyz"},
        baselineState="unchanged",
        suppressions=[{"kind": "inSource", "status": "accepted", "justification": "known"}],
        rank=7.5,
        properties={"mine": 1},
    )
    runs, results, problems = reading(
        document(
            run(
                raw,
                rules=[rule, {"id": "R2"}],
                driver={"semanticVersion": "1.2.3", "organization": "us"},
                automationDetails={"id": "nightly/1"},
                versionControlProvenance=[{"repositoryUri": "https://x/y", "revisionId": "abc", "branch": "main"}],
                artifacts=[{"location": {"uri": "src/a.py"}, "roles": ["analysisTarget"], "hashes": {"sha-256": "AB"}}],
                invocations=[
                    {
                        "executionSuccessful": False,
                        "toolExecutionNotifications": [
                            {"level": "error", "message": {"text": "no"}, "locations": [at("src/b.py", None)]},
                            {"level": "note", "message": {"text": "no"}, "locations": [at("src/c.py", None)]},
                        ],
                    }
                ],
                columnKind="utf16CodeUnits",
                mine=5,
            )
        )
    )
    assert problems == []
    (r,) = runs
    assert (r.run_index, r.tool, r.tool_version, r.results, r.complete, r.successful) == (
        0,
        "tool",
        "1.2.3",
        1,
        True,
        False,
    )
    assert (r.failed_files, r.automation_id, r.vcs) == (["src/b.py"], "nightly/1", Vcs("https://x/y", "abc", "main"))
    assert r.artifacts == [Artifact("src/a.py", ["analysisTarget"], "sha-256:ab")]
    assert r.properties["columnKind"] == "utf16CodeUnits" and r.properties["properties"] == {"mine": 5}
    assert r.properties["tool"] == {"driver": {"organization": "us", "semanticVersion": "1.2.3"}}
    assert list(r.rules) == ["R1", "R2"]
    assert r.rules["R1"] == Rule(
        "R1",
        "Injection",
        "short",
        "full",
        "help",
        "https://example.org/r1",
        "error",
        9.1,
        ["security", "external/cwe/cwe-079"],
        ["CWE-79", "CWE-89"],
        False,
        {
            "relationships": rule["relationships"],
            "help": {"markdown": "*help*"},
            "properties": {"precision": "high"},
        },
    )
    assert results == [
        Result(
            rule_id="R1",
            message="bad",
            severity="critical",
            level="warning",
            uri="src/a b.py",
            start_line=3,
            start_column=2,
            end_line=4,
            end_column=9,
            snippet="x = 1\n",
            fingerprints={"v1": "xyz"},
            partial_fingerprints={"primaryLocationLineHash": "ab:1"},
            guid="11111111-1111-4111-8111-111111111111",
            cwe=["CWE-79", "CWE-89"],
            code_flows=[],
            related=[],
            locations=[],
            suppressions=[{"kind": "inSource", "status": "accepted", "justification": "known"}],
            baseline_state="unchanged",
            properties={"rank": 7.5, "properties": {"mine": 1}},
            path="$.runs[0].results[0]",
        )
    ]


def test_results_before_their_tool_are_read_with_it() -> None:
    raw = {
        "ruleIndex": 0,
        "message": {"id": "m"},
        "locations": [{"physicalLocation": {"artifactLocation": {"index": 0}}}],
    }
    late = {
        "results": [raw],
        "artifacts": [{"location": {"uri": "a.py", "uriBaseId": "GEN"}}],
        "originalUriBaseIds": {"GEN": {"uri": "gen/", "uriBaseId": "SRCROOT"}},
        "tool": {"driver": {"rules": [{"id": "R", "messageStrings": {"m": {"text": "hello"}}}], "name": "late"}},
    }
    (r,), (found,), problems = reading(b'{"runs":[' + json.dumps(late).encode() + b'],"version":"2.1.0"}')
    assert problems == [] and r.tool == "late" and not r.complete
    assert (found.rule_id, found.uri, found.message) == ("R", "gen/a.py", "hello")


@pytest.mark.parametrize(
    ("level", "scores", "severity"),
    [
        ("note", (9.0,), "critical"),
        ("note", (7,), "high"),
        ("error", (6.9,), "medium"),
        ("error", (0.1,), "low"),
        ("error", (0.0,), "high"),
        ("error", (None, 4.0), "medium"),
        ("warning", (), "medium"),
        ("note", (None,), "low"),
        ("none", (), "info"),
    ],
)
def test_severity(level: str, scores: tuple[float | None, ...], severity: str) -> None:
    assert severity_of(level, *scores) == severity


def test_level_comes_from_the_result_its_kind_or_its_rule() -> None:
    rules = [{"id": "R1", "defaultConfiguration": {"level": "note"}}]
    assert one(result("R1"), rules=rules).level == "note"
    assert one(result("R1", level="ERROR"), rules=rules).level == "error"
    assert one(result("R1", kind="pass"), rules=rules).level == "none"
    assert one(result("R2"), rules=rules).level == "warning"
    assert one(result("R1", properties={"security-severity": 9.9}), rules=rules).severity == "critical"


SAID = [("x", "low"), (-1, "low"), ("NaN", "low"), ("inf", "low"), ([], "low"), (11, "critical"), ("High", "high"),
        ("moderate ", "medium")]  # fmt: skip


@pytest.mark.parametrize(("said", "severity"), SAID)
def test_a_score_that_cannot_be_read_is_told(said: Any, severity: str) -> None:
    rule = {"id": "R1", "defaultConfiguration": {"level": "note"}}
    for own, of_rule in ((said, None), (None, said)):
        raw = result("R1", properties={"security-severity": own})
        rules = [{**rule, "properties": {"security-severity": of_rule}}]
        _, [found], problems = reading(document(run(raw, rules=rules)))
        assert found.severity == severity
        assert len(problems) == (severity == "low") and all("security-severity" in one.path for one in problems)


def test_rules_are_found_by_index_by_stem_and_in_extensions() -> None:
    tool = {
        "driver": {"name": "t", "rules": [{"id": "A"}], "globalMessageStrings": {"g": {"text": "global {0}"}}},
        "extensions": [
            {
                "name": "pack",
                "rules": [
                    {
                        "id": "B",
                        "properties": {"tags": ["CWE-22: path"]},
                        "messageStrings": {"m": {"text": "{{{1}}} of {0}"}},
                    }
                ],
            }
        ],
    }
    ref = {"index": 0, "toolComponent": {"index": 0}}
    raws = [
        {"rule": ref, "message": {"id": "m", "arguments": ["x", "y"]}},
        {"ruleId": "B/sub", "message": {"id": "m", "arguments": ["x", "y"]}},
        {"ruleId": "A", "ruleIndex": -1, "message": {"id": "g", "arguments": ["z"]}},
        {"message": {"text": "{0} and {{"}},
    ]
    (r,), results, problems = reading(document({"tool": tool, "results": raws}))
    assert problems == [] and not r.complete
    assert [(x.rule_id, x.message) for x in results] == [
        ("B", "{y} of x"),
        ("B/sub", "{y} of x"),
        ("A", "global z"),
        (None, "{0} and {{"),
    ]
    assert results[0].cwe == results[1].cwe == ["CWE-22"] and results[2].cwe == []


def test_weaknesses_are_recognised_however_they_are_named() -> None:
    words = ["external/cwe/cwe-079", "CWE-89: SQL", "cwe:22", "CWE798", "security", "cwe-79", "xcwe-5", 3]
    assert cwe_in(words) == ["CWE-79", "CWE-89", "CWE-22", "CWE-798"]
    taxonomies = [{"name": "CWE", "taxa": [{"id": "352"}]}]
    raw = result(taxa=[{"index": 0, "toolComponent": {"index": 0}}], properties={"cwe": ["CWE-1", 2]})
    assert one(raw, taxonomies=taxonomies).cwe == ["CWE-1", "CWE-2", "CWE-352"]


def test_what_points_into_the_run_is_put_in_its_place() -> None:
    step = {"location": at(None, 7, artifactLocation={"index": 0}), "importance": "essential"}
    raw = result(
        "R",
        "bad",
        at(),
        at("b.py", 0),
        codeFlows=[{"threadFlows": [{"locations": [{"index": 0, "nestingLevel": 1}]}]}],
        relatedLocations=[{**at("../../x"), "logicalLocations": [{"index": 0}], "message": {"id": "gone"}}],
    )
    strings = {"gone": {"text": "there"}}
    _, (found,), problems = reading(
        document(
            run(
                raw,
                driver={"globalMessageStrings": strings},
                artifacts=[{"location": {"uri": "file.py"}}],
                threadFlowLocations=[step],
                logicalLocations=[{"name": "f", "parentIndex": 3}],
            )
        )
    )
    flow = found.code_flows[0]["threadFlows"][0]["locations"][0]
    assert flow["location"]["physicalLocation"]["artifactLocation"] == {"uri": "file.py", "uriBaseId": "SRCROOT"}
    assert (flow["nestingLevel"], flow["importance"], "index" in flow) == (1, "essential", False)
    assert found.related[0]["logicalLocations"] == [{"name": "f"}]
    assert found.related[0]["message"] == {"text": "there"}
    assert found.related[0]["physicalLocation"]["artifactLocation"] == {}
    assert [p.path for p in problems] == ["$.runs[0].results[0]"] and "leaves the scanned tree" in problems[0].reason
    assert len(found.locations) == 2 and "region" not in found.locations[1]["physicalLocation"]


def test_unknown_members_become_properties() -> None:
    found = one(result(mine=1, stacks=[{"frames": []}], properties={"mine": 2, "yours": 3}))
    assert found.properties == {"stacks": [{"frames": []}], "properties": {"mine": 2, "yours": 3}}


def test_missing_things_are_none() -> None:
    found = one({"message": {"text": "x"}})
    assert (found.rule_id, found.uri, found.start_line, found.snippet, found.suppressions) == (None,) * 5
    assert one(result(None, "x", at("a", 0))).start_line is None
    found = one({"message": {"markdown": "*x*"}})
    assert (found.message, found.properties) == ("*x*", {"message": {"markdown": "*x*"}})
    assert one(result(suppressions=[])).suppressions == []


def test_nothing_to_yield() -> None:
    assert reading(document()) == ([], [], [])
    (r,), _, problems = reading(document({"tool": {"driver": {"name": "t", "rules": [{"id": "R"}]}}}))
    assert (r.results, r.complete, problems) == (None, True, [])
    assert reading(document({"tool": {"driver": {"name": "t"}}, "results": None}))[0][0].results is None
    assert reading(document(run()))[0][0].results == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str) -> None:
    text = document(run(result(text="PLACE"))).decode().replace("PLACE", "ünïcödé \U0001f600")
    _, (found,), problems = reading(text.encode(encoding))
    assert found.message == "ünïcödé \U0001f600" and problems == []


def test_a_path_a_file_and_a_pipe_are_read(tmp_path: Path) -> None:
    data = document(run(result()))
    (tmp_path / "a.sarif").write_bytes(data)
    assert [type(i) for i in read(tmp_path / "a.sarif", problems=[])] == [Run, Result]
    with open(tmp_path / "a.sarif", "rb") as file:
        assert len(list(read(file, problems=[]))) == 2
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert len(list(read(pipe, problems=[]))) == 2
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read(tmp_path / "none.sarif", problems=[])
    with open(tmp_path / "a.sarif") as text, pytest.raises(InvalidArgument, match="binary"):
        read(text, problems=[])  # type: ignore[arg-type]


@given(st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_windows_of_any_size_read_the_same(block: int, seed: int) -> None:
    big = [result(f"R{n}", 'ü\\"\U0001f600' * n, rank=n * 123.5, level="note") for n in range(seed + 3)]
    data = document(run(*big, mine=[1, 22, 333, -4.5e3, True, None]))
    whole = reading(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonstream, "_BLOCK", block)
        assert reading(data) == whole


HALVES = st.lists(
    st.sampled_from(["\\\\", "\\ud83d", "\\ude00", "\\uD83D", "\\uDE00", "ud83d", "x", "ü", "[{"]), max_size=9
)


@given(st.lists(HALVES.map("".join), min_size=1, max_size=6), st.sampled_from([0, jsonstream._BLOCK]))
@settings(max_examples=150, deadline=None)
def test_halves_of_characters_are_told_from_whole_ones(texts: list[str], block: int) -> None:
    data = document(run(*(result(f"R{n}", f"HERE{n}") for n in range(len(texts)))))
    for n, text in enumerate(texts):
        data = data.replace(b"HERE%d" % n, text.encode())
    whole = {n: json.loads(f'"{text}"') for n, text in enumerate(texts)}
    good = {n: text for n, text in whole.items() if not any("\ud800" <= mark <= "\udfff" for mark in text)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sarif_in, "SMALL", block)
        _, results, problems = reading(data)
    assert {found.number: found.message for found in results} == good
    assert [p.path for p in problems] == [f"$.runs[0].results[{n}]" for n in whole.keys() - good.keys()]
    assert all("half a character" in p.reason for p in problems)


def test_a_document_held_and_one_read_twice_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = {"threadFlows": [{"locations": [{"location": at("a.py", n)} for n in range(30)]}]}
    odd = [5, result(properties={"x": float("nan")}), result(properties={"x": json.loads(nested(60))}), result(3)]  # type: ignore[arg-type]
    mixed = [result("R1", f"{n}", *[at(f"{n}.py", n)] * (n % 3), codeFlows=[flow] * (n % 2)) for n in range(40)]
    data = document(run(*mixed[:9], *odd, *mixed[9:]), run(), 7, run(*odd, result("last")))
    held = reading(data)
    assert (len(held[0]), len(held[1]), len(held[2])) == (3, 41, 9)
    assert [found.number for found in held[1]] == [*range(9), *range(13, 44), 4]
    monkeypatch.setattr(sarif_in, "SMALL", 0)
    assert reading(data) == held
    assert reading(json.dumps(json.loads(data), indent=3).encode()) == held


# -- paths


BASES = {
    "SRCROOT": {"uri": "file:///home/me/proj/"},
    "GEN": {"uri": "gen/", "uriBaseId": "SRCROOT"},
    "TESTS": {"uri": "file:///home/me/proj/tests/"},
    "LIB": {"uri": "file:///usr/lib/"},
    "LOOP": {"uri": "a/", "uriBaseId": "LOOP2"},
    "LOOP2": {"uri": "b/", "uriBaseId": "LOOP"},
    "UP": {"uri": "../", "uriBaseId": "GEN"},
}


@pytest.mark.parametrize(
    ("uri", "base", "path"),
    [
        ("src/a.py", None, "src/a.py"),
        ("./src//b/../a.py", None, "src/a.py"),
        ("a%20b%C3%A9.py", "SRCROOT", "a bé.py"),
        ("src\\win\\a.cs", None, "src/win/a.cs"),
        ("a.py#L3", None, "a.py"),
        ("file:///home/me/proj/src/a.py", None, "src/a.py"),
        ("file://localhost/home/me/proj/a.py", "LIB", "a.py"),
        ("/home/me/proj/a.py", None, "a.py"),
        ("a.py", "GEN", "gen/a.py"),
        ("a.py", "UP", "a.py"),
        ("a.py", "TESTS", "tests/a.py"),
        ("a.py", "UNHEARD", "a.py"),
        ("/work/tree/x/a.py", None, "x/a.py"),
        ("%252e%252e/a.py", None, "%2e%2e/a.py"),
        ("...", None, "..."),
        ("caf%E9.py", None, r"caf\xe9.py"),
        ("file:////work/tree//x/a.py", None, "x/a.py"),
    ],
)
def test_addresses_become_paths(uri: str, base: str | None, path: str) -> None:
    assert Places(BASES, "/work/tree").path(uri, base) == path


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("../../etc/passwd", None),
        ("src/../../a.py", None),
        ("%2e%2e/%2E%2E/etc/passwd", None),
        ("..%5c..%5cetc", None),
        ("..\\..\\etc", None),
        ("a%2f..%2f..%2fb", None),
        ("%2Fetc/passwd", None),
        ("file:///etc/passwd", None),
        ("file:/etc/passwd", None),
        ("file:///home/me/proj/../../../etc/passwd", None),
        ("file:///home/me/project2/a.py", None),
        ("file:etc/../../passwd", None),
        ("/etc/passwd", None),
        ("//server/share/a.py", None),
        ("file://server/share/a.py", None),
        ("C:\\Windows\\system.ini", None),
        ("https://example.org/a.py", None),
        ("a.py", "LIB"),
        ("a.py", "LOOP"),
        ("../../a.py", "UP"),
        ("a%00b", None),
        ("", None),
        (".", None),
    ],
)
def test_addresses_outside_are_no_paths(uri: str, base: str | None) -> None:
    with pytest.raises(Outside):
        Places(BASES, "/work/tree").path(uri, base)
    raw = result(None, "x", at(None, 1, artifactLocation={"uri": uri, **({"uriBaseId": base} if base else {})}))
    _, (found,), (problem,) = reading(document(run(raw, originalUriBaseIds=BASES)), root="/work/tree")
    assert found.uri is None
    assert problem.path == "$.runs[0].results[0].locations[0].physicalLocation.artifactLocation.uri"


@given(st.text(max_size=40), st.sampled_from([None, *BASES]))
def test_no_address_leaves_the_tree(uri: str, base: str | None) -> None:
    try:
        path = Places(BASES, "/work/tree").path(uri, base)
    except Outside:
        return
    assert path and not path.startswith("/") and "\0" not in path
    assert not {"", ".", ".."} & set(path.split("/")) and ".." not in re.split(r"[/\\]", path)


@given(st.lists(st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_a_path_comes_back_from_its_address(parts: list[str]) -> None:
    path = "/".join(part for part in parts if part not in (".", "..")) or "x"
    assert Places({}).path(address(path)) == path


# -- bad input


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"]}" * (levels // 2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"   ", "not JSON"),
        (b"hello", "not JSON"),
        (b"[]", "holds no object"),
        (b"42", "holds no object"),
        (b"{}", "version is null or missing"),
        (b'{"version": 2.1, "runs": []}', "version is 2.1"),
        (b'{"version": "1.0.0", "runs": []}', "SARIF 1.0.0"),
        (b'{"version": "2.1.0"}', "runs is missing"),
        (b'{"version": "2.1.0", "runs": null}', "runs is no array"),
        (b'{"version": "2.1.0", "runs": 42}', "runs is no array"),
        (b'{"version": "2.1.0", "runs": [], "runs": []}', "runs twice"),
        (b'{"version": "2.1.0", "runs": [{"results": [], "results": []}]}', r"runs\[0\].results twice"),
        (b'{"version": "2.1.0", "runs": []} x', "something follows"),
        (b'{"version": "2.1.0", "runs": [],}', "name in double quotes"),
        (b'{"version" "2.1.0"}', "':' was expected"),
        (b'{"version": "2.1.0", "runs": [tru]}', "not JSON"),
        (b'{"version": "2.1.0", "runs": ["\n"]}', "not JSON"),
        (b"\xff\xfe{\x00}", "UTF-16"),
        (nested(100_000), "version is null or missing"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
    ],
)
def test_documents_that_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        read(io.BytesIO(data), problems=[])


def test_a_document_that_breaks_off_yields_nothing() -> None:
    data = document(run(result(), result("R2", "ü"), mine=1.5))
    for end in range(len(data)):
        with pytest.raises(InvalidArgument):
            read(io.BytesIO(data[:end]), problems=[])


@pytest.mark.parametrize(
    ("raw", "path", "reason"),
    [
        (42, "", "is 42"),
        (None, "", "null"),
        ([], "", "an array"),
        ({"ruleId": "R"}, ".message", "missing"),
        ({"message": 5}, ".message", "no text"),
        ({"message": {}}, ".message", "no text"),
        ({"message": {"text": 5}}, ".message", "no text"),
        ({"message": {"id": "unheard"}}, ".message.id", "does not define"),
        ({"message": {"text": "{1}", "arguments": ["x"]}}, ".message.arguments", "has 1 of them"),
        (result(5), ".ruleId", "is 5"),  # type: ignore[arg-type]
        (result([]), ".ruleId", "an array"),  # type: ignore[arg-type]
        (result(ruleIndex=1), ".ruleIndex", "has 1 rules"),
        (result(ruleIndex=-2), ".ruleIndex", "is -2"),
        (result(ruleIndex="0"), ".ruleIndex", "no number"),
        (result(ruleIndex=True), ".ruleIndex", "no number"),
        (result(rule=5), ".rule", "is 5"),
        (result(rule={"toolComponent": {"index": 4}}), ".rule.toolComponent.index", "is 4"),
        (result(fingerprints={"a": {"b": 1}}), ".fingerprints['a']", "an object"),
        (result(partialFingerprints=["a"]), ".partialFingerprints", "an array"),
        (result(level="bad"), ".level", "'bad'"),
        (result(level=[]), ".level", "an array"),
        (result(kind="bad"), ".kind", "'bad'"),
        (result(kind=[]), ".kind", "an array"),
        (result(baselineState={}), ".baselineState", "an object"),
        (result(suppressions=[5]), ".suppressions", "no array of objects"),
        (result(codeFlows={}), ".codeFlows", "an object"),
        (result(relatedLocations=[5]), ".relatedLocations", "no object"),
        (result(properties=[]), ".properties", "an array"),
        ({"message": {"text": "x"}, "locations": {"a": 1}}, ".locations", "no array"),
        ({"message": {"text": "x"}, "locations": [5]}, ".locations", "no array"),
        (result("R", "x", {"physicalLocation": 5}), ".locations[0].physicalLocation", "is 5"),
        (result("R", "x", at("a", "3")), ".locations[0].physicalLocation.region.startLine", "'3'"),  # type: ignore[arg-type]
        (result("R", "x", at("a", 2**40)), ".locations[0].physicalLocation.region.startLine", "number from 1"),
        (result("R", "x", at("a", True)), ".locations[0].physicalLocation.region.startLine", "True"),
        (
            result("R", "x", at(None, 1, artifactLocation={"index": 9})),
            ".locations[0].physicalLocation.artifactLocation.index",
            "has 0 artifacts",
        ),
        (
            result("R", "x", at(None, 1, artifactLocation={"uri": []})),
            ".locations[0].physicalLocation.artifactLocation",
            "no text",
        ),
        (result(codeFlows=[{"threadFlows": [{"locations": [{"index": 3}]}]}]), "", "threadFlowLocations[3]"),
    ],
)
def test_one_bad_result_is_left_out(raw: Any, path: str, reason: str) -> None:
    problem = refused(raw, rules=[{"id": "R1"}])
    assert problem.path == "$.runs[0].results[0]" + path and reason in problem.reason


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (nested(50), "40 levels"),
        (nested(100_000), "40 levels"),
        (b"NaN", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"1e999", "1e999"),
        (b"[" + b"9" * 5000 + b"]", "too many digits"),
        (b'"\xff\xfe"', "not UTF-8"),
        (b'"\\ud800"', "lone surrogate"),
    ],
    ids=range(8),
)
def test_one_result_that_cannot_be_kept_is_left_out(inner: bytes, reason: str) -> None:
    data = document(run(result(properties={"x": "HERE"}), result("good"))).replace(b'"HERE"', inner)
    _, results, problems = reading(data)
    assert [r.rule_id for r in results] == ["good"]
    assert [p.path for p in problems] == ["$.runs[0].results[0]"] and reason in problems[0].reason
    header = document(run(result(), mine="HERE")).replace(b'"HERE"', inner)
    _, results, problems = reading(header)
    assert len(results) == 1 and [p.path for p in problems] == ["$.runs[0].mine"]


def test_depth_is_counted_and_brackets_in_text_are_not() -> None:
    levels: Any = 1
    for _ in range(36):
        levels = [levels]
    found = one(result(text="[{" * 500, properties={"x": levels}, mine=[{}] * 100))
    assert found.message == "[{" * 500
    assert one(result(text="\\ud800 \U0001f600")).message == "\\ud800 \U0001f600"


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        (42, "$.runs[0]"),
        (None, "$.runs[0]"),
        ({}, "$.runs[0].tool.driver.name"),
        ({"tool": None, "results": []}, "$.runs[0].tool.driver.name"),
        ({"tool": {"driver": {"name": None}}, "results": [result()]}, "$.runs[0].tool.driver.name"),
        ({"tool": {"driver": {"name": " "}}, "results": [result()]}, "$.runs[0].tool.driver.name"),
        ({"tool": {"driver": {"name": "t"}}, "results": 42}, "$.runs[0].results"),
        ({"tool": {"driver": {"name": "t"}}, "results": {}}, "$.runs[0].results"),
    ],
)
def test_one_bad_run_is_left_out(bad: Any, path: str) -> None:
    runs, results, problems = reading(document(bad, run(result())))
    assert [r.run_index for r in runs] == [1] and [r.path for r in results] == ["$.runs[1].results[0]"]
    assert path in [p.path for p in problems]


def test_a_run_with_bad_parts_is_read_without_them() -> None:
    (r,), results, problems = reading(
        document(
            {
                "tool": {"driver": {"name": "t", "rules": [5, {"id": None}, {"id": "R"}]}, "extensions": 5},
                "results": [result("R", ruleIndex=2)],
                "artifacts": 7,
                "invocations": "x",
                "originalUriBaseIds": [],
                "externalPropertyFileReferences": {"results": [{}]},
                "versionControlProvenance": [5],
            },
            inlineExternalProperties=[{}],
        )
    )
    assert list(r.rules) == ["R"] and len(results) == 1 and r.vcs is None
    assert {p.path for p in problems} == {
        "$.inlineExternalProperties",
        "$.runs[0].externalPropertyFileReferences",
        "$.runs[0].artifacts",
        "$.runs[0].tool.driver.rules[0]",
        "$.runs[0].tool.driver.rules[1]",
    }


NAMES = """
    tool driver name rules id results ruleId ruleIndex rule message text arguments locations physicalLocation uri
    artifactLocation uriBaseId index region startLine snippet codeFlows threadFlows location properties taxa help tags
    toolComponent invocations toolExecutionNotifications level suppressions artifacts hashes roles originalUriBaseIds
    logicalLocations threadFlowLocations messageStrings extensions relationships target automationDetails cwe markdown
    versionControlProvenance taxonomies
""".split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "R1", "../x", "fail", "error", "{0}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)


@given(JSON, JSON, JSON)
@settings(max_examples=80, deadline=None)
def test_anything_in_any_place_is_read_or_reported(inner: Any, other: Any, third: Any) -> None:
    raw = {**result("R1", "x"), **(inner if isinstance(inner, dict) else {"locations": inner})}
    base = run(raw, result(codeFlows=[third]), other, rules=[other, {"id": "R1", "messageStrings": third}])
    more = other if isinstance(other, dict) else {"invocations": other, "artifacts": inner}
    data = document({**base, **{k: v for k, v in more.items() if k not in ("tool", "results")}})
    runs, results, problems = reading(data)
    assert len(runs) + len(problems) >= 1
    written([OutRun(r.tool, results, rules=r.rules.values(), properties=r.properties) for r in runs])
    written([OutRun(r.tool, results, rules=r.rules.values(), properties=r.properties) for r in runs], github=True)


# -- what is written

ALLOWED = {
    "log": "$schema version runs",
    "run": "tool results originalUriBaseIds versionControlProvenance automationDetails artifacts invocations columnKind"
    " properties language",
    "driver": "name version rules organization semanticVersion informationUri",
    "rule": "id name shortDescription fullDescription help helpUri defaultConfiguration properties relationships"
    " messageStrings",
    "result": "ruleId ruleIndex kind level message locations guid partialFingerprints fingerprints codeFlows"
    " relatedLocations suppressions baselineState rank properties stacks",
    "region": "startLine startColumn endLine endColumn snippet charOffset",
}


def valid(data: bytes) -> dict[str, Any]:
    """The document, after a look at what every reader relies on."""
    log: dict[str, Any] = json.loads(data)

    def known(kind: str, thing: dict[str, Any], *needed: str) -> None:
        assert set(needed) <= set(thing) <= set(ALLOWED[kind].split()), (kind, thing)

    known("log", log, "version", "runs")
    assert log["version"] == "2.1.0"
    for r in log["runs"]:
        known("run", r, "tool")
        driver = r["tool"]["driver"]
        known("driver", driver, "name", "rules")
        rules = driver["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        for rule in rules:
            known("rule", rule, "id", "shortDescription", "fullDescription", "help")
            assert len(rule["shortDescription"]["text"]) <= 1024 and len(rule["fullDescription"]["text"]) <= 1024
            bag = rule.get("properties", {})
            assert len(bag.get("tags", ())) <= 10 and len(set(bag.get("tags", ()))) == len(bag.get("tags", ()))
            assert re.fullmatch(r"\d+\.\d+", bag.get("security-severity", "1.0"))
            assert rule.get("defaultConfiguration", {}).get("level", "none") in ("none", "note", "warning", "error")
        states = {"baselineState" in x for x in r.get("results", ())}
        assert len(states) <= 1
        for x in r.get("results", ()):
            known("result", x, "message", "level")
            assert isinstance(x["message"]["text"], str)
            assert "ruleIndex" not in x or x["ruleId"].startswith(rules[x["ruleIndex"]]["id"])
            assert x["level"] in ("none", "note", "warning", "error")
            for location in x.get("locations", ()):
                place = location["physicalLocation"]
                uri = place["artifactLocation"].get("uri", "x")
                assert not uri.startswith(("/", "..")) and ":" not in uri and " " not in uri
                if "region" in place:
                    known("region", place["region"])
                    assert {"startLine", "charOffset"} & set(place["region"])
                    assert all(v >= 1 for k, v in place["region"].items() if k.endswith(("Line", "Column")))
            for suppression in x.get("suppressions", ()):
                assert suppression["kind"] in ("inSource", "external")
                assert suppression.get("status", "accepted") in ("accepted", "underReview", "rejected")
            for flow in x.get("codeFlows", ()):
                assert flow["threadFlows"] and all(thread["locations"] for thread in flow["threadFlows"])
        for invocation in r.get("invocations", ()):
            assert isinstance(invocation["executionSuccessful"], bool)
    official = os.environ.get("SARIF_SCHEMA")
    if official:
        import jsonschema

        jsonschema.Draft4Validator(json.loads(Path(official).read_text())).validate(log)
    return log


FULL = Result(
    rule_id="R1",
    message="<b>ü",
    severity="high",
    level="warning",
    uri="src/a b[1].py",
    start_line=3,
    start_column=2,
    end_line=4,
    end_column=9,
    snippet="x\n",
    fingerprints={"v1": "x"},
    partial_fingerprints={"z": "y"},
    line_hash="ab:1",
    guid="11111111-1111-4111-8111-111111111111",
    cwe=["CWE-79", "CWE-89"],
    code_flows=[{"threadFlows": [{"locations": [{"location": at("a.py", 1)}]}]}],
    related=[{**at("b.py", 1), "message": {"text": "from"}}],
    suppressions=[{"status": "accepted", "justification": "ok"}],
    baseline_state="new",
    properties={"rank": 5.0, "properties": {"mine": 1}},
)
RULE = Rule(
    "R1", "Name", "s" * 2000, None, None, "https://x/y", "error", 7.25, [f"t{n}" for n in range(12)], ["CWE-79"]
)


def full_run(**more: Any) -> OutRun:
    given = {
        "tool": "scan",
        "results": [FULL, Result("R2", "plain", "info", baseline_state="unchanged", uri="b.py", start_line=1)],
        "version": "1.0",
        "rules": [Rule("R2"), RULE],
        "baselined": True,
        "base_uri": "file:///home/me/",
        "vcs": Vcs("https://x/y.git", "abc", "main"),
        "automation_id": "nightly/",
        "successful": True,
        "failed_files": ["bad.py"],
        "artifacts": [Artifact("src/a b[1].py", ["analysisTarget"], "sha-256:ab")],
        "properties": {"columnKind": "unicodeCodePoints", "tool": {"driver": {"organization": "us"}}},
    }
    return OutRun(**{**given, **more})


def test_a_run_is_written() -> None:
    log = valid(written([full_run()]))
    r = log["runs"][0]
    driver = r["tool"]["driver"]
    assert (driver["name"], driver["version"], driver["organization"]) == ("scan", "1.0", "us")
    first = driver["rules"][0]
    assert first["properties"]["security-severity"] == "7.25"
    assert first["properties"]["tags"][0] == "external/cwe/cwe-79" and len(first["properties"]["tags"]) == 10
    assert first["fullDescription"]["text"] == first["shortDescription"]["text"] and first["help"]["text"] == "s" * 2000
    assert r["originalUriBaseIds"] == {"SRCROOT": {"uri": "file:///home/me/"}}
    assert r["versionControlProvenance"] == [
        {
            "repositoryUri": "https://x/y.git",
            "revisionId": "abc",
            "branch": "main",
            "mappedTo": {"uriBaseId": "SRCROOT"},
        }
    ]
    assert r["automationDetails"] == {"id": "nightly/"} and r["columnKind"] == "unicodeCodePoints"
    assert r["invocations"][0]["executionSuccessful"] is True
    x, plain = r["results"]
    assert (x["ruleId"], x["ruleIndex"], x["level"], x["baselineState"]) == ("R1", 0, "warning", "new")
    assert x["partialFingerprints"] == {"z": "y", "primaryLocationLineHash": "ab:1"}
    assert x["suppressions"] == [{"kind": "external", "status": "accepted", "justification": "ok"}]
    assert x["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "src/a%20b%5B1%5D.py", "uriBaseId": "SRCROOT"},
                "region": {"startLine": 3, "startColumn": 2, "endLine": 4, "endColumn": 9, "snippet": {"text": "x\n"}},
            }
        }
    ]
    assert x["properties"] == {"mine": 1, "cwe": ["CWE-89"]} and x["rank"] == 5.0
    assert plain["level"] == "note" and plain["properties"] == {"scanstore/severity": "info"}


def test_what_is_written_is_read_as_it_was_and_written_the_same() -> None:
    data = written([full_run(), OutRun("other", None), OutRun("third", [])])
    runs, results, problems = reading(data)
    assert problems == [] and [r.results for r in runs] == [2, None, 0]
    assert (runs[0].successful, runs[0].failed_files, runs[0].automation_id) == (True, ["bad.py"], "nightly/")
    found = results[0]._replace(run_index=0, number=0, path="")
    assert found == FULL._replace(
        partial_fingerprints={"z": "y", "primaryLocationLineHash": "ab:1"},
        line_hash=None,
        suppressions=[{"kind": "external", "status": "accepted", "justification": "ok"}],
        properties={"rank": 5.0, "properties": {"mine": 1, "cwe": ["CWE-89"]}},
        code_flows=results[0].code_flows,
        related=results[0].related,
        locations=[],
    )
    assert results[1].severity == "info" and results[1].properties == {}
    once = again(data)
    valid(once)
    assert json.loads(once)["runs"][0]["results"] == json.loads(again(once))["runs"][0]["results"]
    assert again(once) == once


def test_a_foreign_report_is_written_the_same_again() -> None:
    raw = result(
        "P/1",
        "x",
        {**at("a.py", 5, contextRegion={"startLine": 1}), "logicalLocations": [{"name": "f"}]},
        at("b.py", 0),
        level="error",
        unheard={"of": 1},
        stacks=[{"message": {"text": "s"}, "frames": [{"location": at("c.py", 2)}]}],
        codeFlows=[{"threadFlows": [{"locations": [{"location": at("a.py", 1)}]}]}],
        message={"text": "x", "markdown": "**x**"},
    )
    data = document(
        run(raw, rules=[{"id": "P", "unheard": 3, "properties": {"q": 1}}], unheard=4, columnKind="utf16CodeUnits")
    )
    once = again(data)
    x = valid(once)["runs"][0]["results"][0]
    assert x["message"] == {"text": "x", "markdown": "**x**"} and x["properties"] == {"unheard": {"of": 1}}
    assert x["locations"][0]["logicalLocations"] == [{"name": "f"}] and len(x["locations"]) == 2
    assert again(once) == once


LINES = st.none() | st.integers(1, 2**31 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "rule_id": st.sampled_from(["R1", "R2", "R3", "R1/x"]),
    "message": WORDS,
    "severity": st.sampled_from(["critical", "high", "medium", "low", "info"]),
    "level": st.sampled_from([None, "error", "warning", "note", "none"]),
    "uri": st.none() | st.sampled_from(["a.py", "ü b/c:d.py", "x%41.py"]),
    "start_line": LINES,
    "end_line": LINES,
    "start_column": LINES,
    "snippet": st.none() | WORDS,
    "fingerprints": st.dictionaries(WORDS, WORDS, max_size=2),
    "partial_fingerprints": st.dictionaries(WORDS, WORDS, max_size=2),
    "line_hash": st.sampled_from([None, "ab:1"]),
    "cwe": st.sampled_from([[], ["CWE-79"], ["CWE-22", "CWE-79"]]),
    "suppressions": st.sampled_from([None, [], [{"kind": "inSource"}]]),
}
RESULTS = st.fixed_dictionaries(FIELDS).map(lambda fields: Result(**fields))


@given(st.lists(RESULTS, max_size=5))
@settings(max_examples=50, deadline=None)
def test_results_survive_the_way_out_and_in(results: list[Result]) -> None:
    data = written([OutRun("t", results, rules=[RULE, Rule("R2", level="note")])])
    valid(data)
    _, found, problems = reading(data)
    assert problems == []
    for old, new in zip(results, found, strict=True):
        assert (*new[:3], new.uri, new.suppressions) == (*old[:3], old.uri, old.suppressions)
        assert set(old.cwe) <= set(new.cwe)
        if old.uri and old.start_line:
            assert new[6:11] == old[6:11]
        line_hash = {"primaryLocationLineHash": old.line_hash} if old.line_hash else {}
        assert new.partial_fingerprints == {**line_hash, **old.partial_fingerprints}
    assert again(data) == again(again(data))


def test_baseline_state_is_on_all_or_none(tmp_path: Path) -> None:
    stateless = FULL._replace(baseline_state=None)
    assert "baselineState" not in valid(written([full_run(baselined=False)]))["runs"][0]["results"][0]
    (tmp_path / "a.sarif").write_text("as it was")
    with pytest.raises(InvalidArgument, match="R1 in src/a b"):
        write(tmp_path / "a.sarif", [full_run(results=[FULL, stateless])])
    assert (tmp_path / "a.sarif").read_text() == "as it was" and len(list(tmp_path.iterdir())) == 1
    write(tmp_path / "a.sarif", [full_run()])
    valid((tmp_path / "a.sarif").read_bytes())
    with pytest.raises(InvalidArgument, match="tool name"):
        written([OutRun("", [])])


# -- limits of a host


def test_the_most_severe_come_first_and_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif_out, "MAX_RESULTS", 5)
    monkeypatch.setattr(sarif_out, "MAX_SHOWN", 4)
    monkeypatch.setattr(sarif_out, "MAX_RUNS", 2)
    order = ["info", "low", "medium", "high", "critical", "low", "high"]
    results = [Result("R", str(n), severity) for n, severity in enumerate(order)]
    file = io.BytesIO()
    left = write(file, [OutRun("a", iter(results)), OutRun("b", []), OutRun("c", iter(results))], github=True)
    assert left == Left(results=2 + 7, runs=1, hidden=1)
    log = valid(file.getvalue())
    assert [x["message"]["text"] for x in log["runs"][0]["results"]] == ["4", "3", "6", "2", "1"]
    file = io.BytesIO()
    assert write(file, [OutRun("a", iter(results))]) == Left()
    assert [x["message"]["text"] for x in valid(file.getvalue())["runs"][0]["results"]] == list("0123456")


def test_locations_and_steps_are_limited() -> None:
    def flow(*lengths: int) -> dict[str, Any]:
        return {
            "threadFlows": [{"locations": [{"location": at("a.py", n + 1)} for n in range(one)]} for one in lengths]
        }

    big = FULL._replace(
        code_flows=[flow(600, 300), flow(200, 5), flow(1)], locations=[at("x.py", n + 1) for n in range(130)]
    )
    file = io.BytesIO()
    assert write(file, [full_run(results=[big])], github=True) == Left(locations=30, flow_locations=106)
    x = valid(file.getvalue())["runs"][0]["results"][0]
    assert len(x["locations"]) == 100
    assert [[len(t["locations"]) for t in f["threadFlows"]] for f in x["codeFlows"]] == [[600, 300], [100]]


def test_the_zipped_document_stays_in_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(7)
    results = [Result("R", noise.randbytes(500).hex()) for _ in range(1500)]
    monkeypatch.setattr(sarif_out, "MAX_ZIPPED", 400_000)
    file = io.BytesIO()
    left = write(file, [OutRun("a", results), OutRun("b", results[:3])], github=True)
    log = valid(file.getvalue())
    count = len(log["runs"][0]["results"])
    assert 0 < count < 1500 and left.results == 1500 - count + 3 and left.runs == 1 and left.bytes_over == 0
    assert len(gzip.compress(file.getvalue(), 6)) <= 400_000
    monkeypatch.setattr(sarif_out, "MAX_ZIPPED", 100)
    assert write(io.BytesIO(), [], github=True).bytes_over > 0


# -- at length


@pytest.mark.no_cover
def test_memory_does_not_grow_with_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonstream, "_BLOCK", 2**14)  # so that both are larger than a window
    monkeypatch.setattr(sarif_in, "SMALL", 2**14)

    def peaks(count: int) -> tuple[int, int]:
        data = document(run(*(result("R1", f"number {n}", at(f"f{n % 50}.py", n + 1)) for n in range(count))))
        tracemalloc.start()
        try:
            assert sum(1 for _ in read(io.BytesIO(data), problems=[])) == count + 1
            reading_took = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            with open(tmp_path / "sink", "wb") as sink:
                write(sink, [OutRun("t", (Result("R", str(n)) for n in range(count)))])
            return reading_took, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    for small, large in zip(peaks(500), peaks(2_000), strict=True):
        assert large < small * 1.2 + 100_000


def test_a_value_too_large_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonstream, "MAX_VALUE", 300_000)
    with pytest.raises(InvalidArgument, match="more than 300,000 characters"):
        read(io.BytesIO(document(run(result(text="x" * 2_000_000)))), problems=[])


# -- a tool of the world


def test_a_report_of_bandit_is_read(tmp_path: Path) -> None:
    needs.package("bandit", "test")
    needs.package("sarif_om", "test")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("import pickle\n\n\ndef load(x):\n    return pickle.loads(x)\n")
    (tmp_path / "pkg" / "b c.py").write_text("def f(x):\n    assert x\n    return eval(x)\n")
    subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "pkg", "-f", "sarif", "-o", "out.sarif"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )
    problems: list[SarifProblem] = []
    (r, *found) = list(read(tmp_path / "out.sarif", problems=problems, root=tmp_path))
    assert problems == [] and isinstance(r, Run) and r.tool == "Bandit" and r.successful is True and not r.complete
    results = [x for x in found if isinstance(x, Result)]
    assert sorted((x.rule_id, x.uri, x.start_line, x.severity) for x in results) == [
        ("B101", "pkg/b c.py", 2, "low"),
        ("B301", "pkg/a.py", 5, "medium"),
        ("B307", "pkg/b c.py", 3, "medium"),
        ("B403", "pkg/a.py", 1, "low"),
    ]
    pickle = next(x for x in results if x.rule_id == "B301")
    assert pickle.cwe == ["CWE-502"] and pickle.snippet is not None and "pickle.loads(x)" in pickle.snippet
    once = again((tmp_path / "out.sarif").read_bytes())
    assert again(once) == once
    if os.environ.get("SARIF_SCHEMA"):
        import jsonschema

        jsonschema.Draft4Validator(json.loads(Path(os.environ["SARIF_SCHEMA"]).read_text())).validate(json.loads(once))
