"""Drafts as models write them: what is understood, what is set aside, and that nothing else of an answer is lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanstore.analysis.model_drafts import MOST_TITLE, sort_drafts
from scanstore.analysis.payloads import DRAFT_KEYS, check_drafts
from scanstore.errors import InvalidArgument
from scanstore.models import Scan, ScanFileChunk
from scanstore.store import Store

GOOD: dict[str, Any] = {"title": "SQL injection", "vulnerability_type": "sqli", "severity": "high"}


class Here:
    file_path, start_line = "src/a.py", 1


def taken(**keys: Any) -> dict[str, Any]:
    """The one draft with these values, in its stored form."""
    kept, aside = sort_drafts([{**GOOD, **keys}], chunk=Here)
    assert aside == []
    return dict(kept[0])


@pytest.fixture
def scan(store: Store, tmp_path: Path) -> Scan:
    """A recorded scan of one chunk, whose analysis was begun, and a model."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.py").write_text("x = 1\n")
    store.llm.add("m")
    return store.scans.analyze(store.scans.record(tmp_path / "tree", jobs=1))


@pytest.mark.parametrize(
    ("key", "said", "kept"),
    [
        *(("severity", said, "high") for said in ("**High**", "HIGH ", "High (8.1)", "severity: high", "`high`")),
        ("severity", "Informational", "info"), ("severity", "moderate", "medium"),
        *(("line_number", said, None) for said in (0, -3, None, "unknown", "", True, 10**30, float("nan"), 2.5, [3])),
        *(("line_number", said, 42) for said in (42, 42.0, "42", "L42", "line 42, column 7", "42-45")),
        *(("confidence", said, 90) for said in (90, 90.0, "90%", "90", " 90 % ", 0.9, "0.9", "9/10", "90/100")),
        *(("confidence", said, None) for said in ("high", 101, -1, "", None, True, float("inf"), [90])),
        ("confidence", 1, 1), ("confidence", "1%", 1), ("confidence", 1.0, 100), ("confidence", 0, 0),
        *(("cwe", said, "CWE-79") for said in ("CWE-79", "CWE-79: Cross-site scripting", "cwe 79", 79, ["CWE-79", 20])),
        *(("cwe", said, None) for said in ("none", "", 0, -1, [], True, "CWE-12345678")),
        ("title", "**SQL injection**", "SQL injection"), ("title", "## SQL injection ", "SQL injection"),
        ("title", "__init__ is public", "__init__ is public"),
        ("snippet", ["a", "b"], "a\nb"), ("reason", {"why": 1}, '{"why":1}'), ("reason", None, ""),
        *(("file_path", said, "src/a.py") for said in ("src/a.py", "./src/a.py", "a.py", "/home/me/src/a.py", None)),
        ("auto_detected", "yes", True), ("auto_detected", "no", False), ("source", 5, None),
    ],
)  # fmt: skip
def test_a_value_that_can_be_read_is_converted(key: str, said: Any, kept: Any) -> None:
    assert taken(**{key: said})[key] == kept


def test_votes_of_models_are_converted_but_no_decision_is_guessed(store: Store, scan: Scan) -> None:
    (draft,) = store.drafts.add(scan, [{**GOOD, "file_path": "a.py"}])
    said = {"model": "m", "Decision": "**Verified**.", "confidence": "90%", "severity": "unsure", "why": "extra"}
    with pytest.raises(InvalidArgument, match="vote 0 has no key"):
        store.drafts.record_votes(draft, [said])
    for unclear in ("not verified", "verified or rejected", None, "", 1):
        with pytest.raises(InvalidArgument, match="vote 0: decision is"):
            store.drafts.record_votes(draft, [{**said, "Decision": unclear}], strict=False)
    for wrong in ("text", 5):
        with pytest.raises(InvalidArgument, match="votes? "):
            store.drafts.record_votes(draft, [wrong], strict=False)  # type: ignore[list-item]
    store.drafts.record_votes(draft, [said], strict=False)
    (vote,) = store.drafts.votes(draft)
    assert (vote.decision, vote.confidence, vote.severity) == ("verified", 90, None) and store.check() == []


def test_lines_keys_and_long_titles() -> None:
    assert taken(line_number="42-45")["end_line"] == 45 and taken(line_number=4, end_line="6")["end_line"] == 6
    assert taken(line_number=9, end_line=3)["end_line"] is None and taken(line_number=0, end_line=3)["end_line"] is None
    assert set(taken(exploitability="high", fix="none")) == set(DRAFT_KEYS)
    assert sort_drafts([{"Title": "t", "Vulnerability Type": "x", "SEVERITY": "low"}], chunk=Here)[0][0]["title"] == "t"
    title = "x" * 5000
    long = taken(title=title, reason="because")
    assert len(long["title"]) == MOST_TITLE and long["title"].endswith("x…")
    assert long["reason"] == f"{title}\n\nbecause"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({**GOOD, "title": None}, "title is None"), ({**GOOD, "title": " "}, "title is empty"),
        ({"severity": "high"}, "title is None"), ("a text", "it is 'a text'; it must be a map"), (None, "it is None"),
        ({**GOOD, "severity": "unknown"}, "severity is 'unknown'; it must be one of"),
        ({**GOOD, "severity": "medium to high"}, "severity is 'medium to high'"),
        ({**GOOD, "severity": "not high"}, "severity is 'not high'"), ({**GOOD, "severity": None}, "severity is None"),
        ({**GOOD, "file_path": "other.py"}, "its chunk is of 'src/a.py'"), ({**GOOD, "reason": {1: {2}}}, ""),
    ],
)  # fmt: skip
def test_a_draft_that_cannot_be_stored_is_set_aside_with_the_reason(bad: Any, why: str) -> None:
    kept, aside = sort_drafts([GOOD, bad, GOOD], chunk=Here)
    assert len(kept) == 2 and [(each.number, each.draft) for each in aside] == [(1, bad)] and why in aside[0].reason


def test_drafts_that_are_no_list_are_refused() -> None:
    for wrong in ("text", GOOD, 5, None):
        with pytest.raises(InvalidArgument, match="drafts is"):
            sort_drafts(wrong, chunk=Here)  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from([*DRAFT_KEYS, "extra"]), json_values) | json_values, max_size=4))
def test_any_json_is_stored_or_set_aside(drafts: list[Any]) -> None:
    kept, aside = sort_drafts(drafts, chunk=Here)
    assert len(kept) + len(aside) == len(drafts)
    assert check_drafts([{**each} for each in kept], chunk=Here) == kept


ANSWER = [
    {**GOOD, "severity": "**High**", "line_number": 0, "confidence": "90%", "exploit": "easy"},
    {**GOOD, "title": "No severity", "severity": "dunno"},
    {**GOOD, "title": "x" * 5000, "line_number": 1},
]


def test_a_bad_draft_does_not_lose_the_answer(store: Store, scan: Scan, caplog: pytest.LogCaptureFixture) -> None:
    analyzer = store.llm.analyzer("m", prompt="p")
    (chunk,) = store.chunks.claim(scan)
    answer = store.llm.ask(analyzer, chunk, lambda: json.dumps(ANSWER))
    with caplog.at_level(logging.WARNING, "scanstore"):
        done = store.chunks.complete(chunk, drafts=json.loads(answer), analyzer=analyzer)
    assert done.status == "done" and [(each.number, each.draft) for each in done.set_aside] == [(1, ANSWER[1])]
    assert "1 of 3 drafts set aside: draft 1: severity is 'dunno'" in caplog.text
    kept = store.drafts.list(scan)
    assert [(row.severity, row.confidence, row.line_number) for row in kept] == [("high", 90, None), ("high", None, 1)]
    (call,) = store.llm.calls(scan)
    assert call.status == "answered" and "draft 1: severity is 'dunno'" in (call.error or "")
    assert json.loads(store.llm.answer(analyzer, chunk) or "") == ANSWER
    again = store.scans.analyze(store.scans.record(scan.root or "", jobs=1))
    assert store.chunks.reuse(again, analyzer) == 1 and len(store.drafts.list(again)) == 2
    assert store.check() == []


@pytest.mark.parametrize("keep", [False, True])
def test_a_call_keeps_the_answer_of_which_a_draft_was_set_aside(store: Store, scan: Scan, keep: bool) -> None:
    (chunk,) = store.chunks.claim(scan)
    with store.llm.call("m", purpose="analysis", chunk=chunk, keep=keep) as call:
        call.response = json.dumps(ANSWER)
        done = store.chunks.complete(chunk.id, drafts=ANSWER, call=call, worker=chunk.worker)
    assert isinstance(done, ScanFileChunk) and len(done.set_aside) == 1
    row = store.llm.get_call(call.id)
    assert row.status == "answered" and "1 of 3 drafts set aside" in (row.error or "")
    assert json.loads(row.response_text or "") == ANSWER and store.check() == []


def test_a_call_of_good_drafts_has_no_note(store: Store, scan: Scan) -> None:
    (chunk,) = store.chunks.claim(scan)
    with store.llm.call("m", purpose="analysis", chunk=chunk) as call:
        call.response = "paid"
        assert store.chunks.complete(chunk, drafts=ANSWER[:1], call=call).set_aside == ()
    row = store.llm.get_call(call.id)
    assert (row.status, row.error, row.response) == ("answered", None, None)


def test_strict_refuses_the_whole_answer(store: Store, scan: Scan) -> None:
    analyzer = store.llm.analyzer("m")
    (chunk,) = store.chunks.claim(scan)
    for options in ({"analyzer": analyzer, "strict": True}, {}):
        with pytest.raises(InvalidArgument, match=r"draft 0: line_number is 0|draft 0 has no key"):
            store.chunks.complete(chunk, drafts=ANSWER, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="strict is 1"):
        store.chunks.complete(chunk, drafts=ANSWER, strict=1)  # type: ignore[arg-type]
    assert store.drafts.list(scan) == [] and store.chunks.get(chunk).status == "running"
    assert len(store.chunks.complete(chunk, drafts=ANSWER, strict=False).set_aside) == 1


def test_drafts_are_added_leniently_on_request(store: Store, scan: Scan, caplog: pytest.LogCaptureFixture) -> None:
    drafts = [{**each, "file_path": "a.py"} for each in ANSWER]
    with pytest.raises(InvalidArgument, match="draft 0 has no key 'exploit'"):
        store.drafts.add(scan, drafts)
    added = store.drafts.add(scan, drafts, strict=False)
    assert len(added) == 2 and [each.number for each in added.set_aside] == [1] and "draft 1" in caplog.text
    assert store.drafts.add(scan, drafts[:1], strict=False) == added[:1]
