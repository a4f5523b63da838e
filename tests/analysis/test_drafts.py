"""Drafts: what may be reported, what is merged, and how votes judge it, by many processes too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stressing import Program

from scanstore.analysis.draft_merge import pair
from scanstore.analysis.payloads import DRAFT_KEYS, absolute, check_drafts, check_votes, relative, title_key
from scanstore.analysis.policies import Majority, MinimumConfidence, Verdict, Weighted
from scanstore.db.rules import change_rows, save_row
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import utcnow
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NotFound
from scanstore.models import DraftFinding, Finding, Scan, ScanFileChunk, VerifiedFinding, Vote
from scanstore.store import Store

GOOD = {"title": "SQL injection", "vulnerability_type": "sqli", "severity": "high", "file_path": "a.py"}


def draft(line: int | None = 3, **keys: Any) -> dict[str, Any]:
    return {**GOOD, "line_number": line, **keys}


def vote(model: Any, decision: str = "verified", **keys: Any) -> dict[str, Any]:
    return {"model": model, "decision": decision, **keys}


@pytest.fixture
def scan(store: Store, tmp_path: Path) -> Scan:
    """A recorded scan whose analysis was begun, and three models."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.py").write_text("".join(f"def f{n}():\n    return {n}\n\n\n" for n in range(5)))
    (root / "b.py").write_text("x = 1\n")
    for name in ("m1", "m2", "m3"):
        store.llm.add(name, votes=2 if name == "m2" else 1)
    return store.scans.analyze(store.scans.record(root, jobs=1))


def finish_chunks(store: Store, scan: Scan) -> None:
    for chunk in store.chunks.claim(scan, limit=100):
        store.chunks.complete(chunk)


def one(store: Store, scan: Scan, **keys: Any) -> DraftFinding:
    return store.drafts.add(scan, [draft(**keys)])[0]


# -- what may be reported ------------------------------------------------------------------------------------


def test_a_draft_is_normalised_and_may_be_checked_again() -> None:
    given = {
        "title": " Hard-coded key ", "vulnerability_type": "secret", "severity": "HIGH", "file_path": "a.py",
        "line_number": 3.0, "end_line": 4, "cwe": "cwe-0798", "confidence": 90.0, "snippet": None,
    }  # fmt: skip
    (checked,) = check_drafts([given])
    assert tuple(checked) == DRAFT_KEYS
    assert checked == {
        "title": "Hard-coded key", "vulnerability_type": "secret", "severity": "high", "file_path": "a.py",
        "line_number": 3, "end_line": 4, "cwe": "CWE-798", "confidence": 90, "snippet": "", "reason": "",
        "auto_detected": False, "source": None,
    }  # fmt: skip
    assert check_drafts([checked]) == [checked]
    assert [check_drafts([draft(cwe=cwe)])[0]["cwe"] for cwe in (79, "79", "CWE-79", "cwe 79", None, "")] == [
        *["CWE-79"] * 4, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"severity": "urgent"}, "draft 1: severity is 'urgent'; it must be one of: critical, high, medium, low, info"),
        ({"severity": None}, "draft 1: severity is None"),
        ({"severity": 3}, "draft 1: severity is 3"),
        ({"title": ""}, "draft 1: title is empty"),
        ({"title": " \n"}, "draft 1: title is empty"),
        ({"title": None}, "draft 1: title is None"),
        ({"title": b"x"}, "draft 1: title is b'x'"),
        ({"vulnerability_type": " "}, "draft 1: vulnerability_type is empty"),
        ({"confidence": 101}, "draft 1: confidence is 101; it must be a whole number from 0 to 100"),
        ({"confidence": -1}, "draft 1: confidence is -1"),
        ({"confidence": 0.9}, "draft 1: confidence is 0.9"),
        ({"confidence": True}, "draft 1: confidence is True"),
        ({"confidence": float("nan")}, "draft 1: confidence is nan"),
        ({"confidence": float("inf")}, "draft 1: confidence is inf"),
        ({"confidence": "90"}, "draft 1: confidence is '90'"),
        ({"line_number": 0}, "draft 1: line_number is 0"),
        ({"line_number": -5}, "draft 1: line_number is -5"),
        ({"line_number": 2**70}, "draft 1: line_number is"),
        ({"line_number": "3"}, "draft 1: line_number is '3'"),
        ({"line_number": 5, "end_line": 4}, "draft 1: end_line is 4 and line_number 5"),
        ({"line_number": None, "end_line": 4}, "draft 1: end_line is 4 and line_number None"),
        ({"cwe": "XSS"}, "draft 1: cwe is 'XSS'; write it like CWE-79"),
        ({"cwe": 0}, "draft 1: cwe is 0"),
        ({"cwe": True}, "draft 1: cwe is True"),
        ({"cwe": 79.0}, "draft 1: cwe is 79.0"),
        ({"cwe": "9" * 5000}, "draft 1: cwe is"),
        ({"auto_detected": 1}, "draft 1: auto_detected is 1"),
        ({"snippet": 5}, "draft 1: snippet is 5"),
        ({"source": ""}, "draft 1: source is empty"),
        ({"file_path": None}, "draft 1: file_path is None"),
        ({"file_path": ""}, "draft 1: file_path is ''"),
        ({"file_path": "a\0b"}, "draft 1: file_path is"),
        ({"sev": "high", "x": 1}, "draft 1 has no key 'sev', 'x'; there are: title,"),
    ],
)
def test_a_bad_draft_is_refused_and_nothing_is_written(
    store: Store, scan: Scan, keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgument) as error:
        store.drafts.add(scan, [draft(), draft(**{**{"line_number": 3}, **keys})])
    assert said in str(error.value) and "\n" not in str(error.value)
    assert store.drafts.list(scan) == [] == store.check()


@pytest.mark.parametrize("drafts", [None, 7, "text", GOOD, ["text"], [None], [[1]]])
def test_what_is_no_list_of_mappings_is_refused(drafts: Any) -> None:
    with pytest.raises(InvalidArgument, match="draft"):
        check_drafts(drafts)


def test_odd_characters_are_kept_safely(store: Store, scan: Scan) -> None:
    odd = "a\0b\ud83d c\n\t\u202e é 漢"
    row = one(store, scan, title=odd, reason=odd, snippet=odd, source="s\0")
    assert row.title == row.reason == row.snippet == "a\ufffdb\ufffd c\n\t\u202e é 漢"
    assert one(store, scan, title=odd).id == row.id
    assert store.check() == []


def test_a_file_that_is_not_the_chunks_is_refused(store: Store, scan: Scan) -> None:
    chunk = store.chunks.list(scan, file="b.py")[0]
    assert check_drafts([draft(file_path="b.py")], chunk=chunk)[0]["file_path"] == "b.py"
    assert check_drafts([draft(file_path=None)], chunk=chunk)[0]["file_path"] == "b.py"
    with pytest.raises(InvalidArgument, match="draft 0: file_path is 'a.py' and its chunk is of 'b.py'"):
        check_drafts([draft()], chunk=chunk)


@given(st.lists(st.tuples(st.none() | st.integers(1, 50), st.integers(0, 9)), max_size=4), st.integers(1, 40))
def test_drafts_move_with_their_text(lines: list[tuple[int | None, int]], start: int) -> None:
    class Chunk:
        file_path, start_line = "old.py", start

    class Other:
        file_path, start_line = "new.py", start + 7

    given_drafts = [
        {**draft(line, end_line=None if line is None else line + more), "file_path": "old.py"} for line, more in lines
    ]
    checked = check_drafts(given_drafts)
    kept = json.loads(json.dumps(relative(checked, Chunk)))
    assert absolute(kept, Chunk) == checked
    moved = absolute(kept, Other)
    assert [d["file_path"] for d in moved] == ["new.py"] * len(lines)
    assert [d["line_number"] for d in moved] == [None if line is None else line + 7 for line, _ in lines]


def test_a_line_above_the_top_is_none() -> None:
    class Chunk:
        file_path, start_line = "a.py", 10

    class Top:
        file_path, start_line = "a.py", 1

    kept = relative(check_drafts([draft(5, end_line=6)]), Chunk)
    assert absolute(kept, Chunk)[0]["line_number"] == 5
    assert (absolute(kept, Top)[0]["line_number"], absolute(kept, Top)[0]["end_line"]) == (None, None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SQL injection", "sql-Injection!"),
        ("SQL  injection.", "\tSQL injection"),
        ("Straße", "STRASSE"),
        ("\ufb01le", "FILE"),
        ("cafe\u0301", "CAFÉ"),
    ],
)
def test_titles_that_say_the_same(one: str, other: str) -> None:
    assert title_key(one) == title_key(other)


@given(st.text(min_size=1))
def test_a_folded_title_stays_as_it_is(title: str) -> None:
    assert title_key(title_key(title)) == title_key(title)
    assert title_key(title) or not title.strip()


# -- merging -------------------------------------------------------------------------------------------------


def test_reports_of_the_same_thing_are_one_draft(store: Store, scan: Scan) -> None:
    first = store.drafts.add(scan, [draft(10, severity="low", confidence=40)], source="m1")[0]
    second = store.drafts.add(
        scan,
        [draft(14, title="sql INJECTION", vulnerability_type="SQLi", severity="critical", confidence=30, reason="why",
               cwe=89, end_line=15)],
        source=store.llm.get("m2"),
    )[0]  # fmt: skip
    assert second.id == first.id
    assert (second.title, second.vulnerability_type, second.line_number) == ("SQL injection", "sqli", 10)
    assert (second.severity, second.rank, second.confidence) == ("critical", 0, 40)
    assert (second.reason, second.cwe, second.end_line) == ("why", "CWE-89", 15)
    assert second.source_models == ["m1", "m2"]
    assert second.vote_count == 3  # m2 has two votes
    assert store.check() == []


def test_what_differs_stays_apart(store: Store, scan: Scan) -> None:
    rows = [
        one(store, scan, line=10),
        one(store, scan, line=16),
        one(store, scan, line=None),
        one(store, scan, line=10, title="Another"),
        one(store, scan, line=10, vulnerability_type="xss"),
        one(store, scan, line=10, file_path="b.py"),
    ]
    assert len({row.id for row in rows}) == 6
    assert one(store, scan, line=None).id == rows[2].id
    assert one(store, scan, line=13).id == rows[0].id  # as near to the other: the upper one
    assert one(store, scan, line=14).id == rows[1].id
    assert store.drafts.add(scan, [draft(11)], window=0)[0].id not in {row.id for row in rows}
    other = store.scans.analyze(store.scans.record(store.scans.get(scan).root, jobs=1))
    assert one(store, other, line=10).scan_id == other.id
    assert store.check() == []


def test_one_answer_tells_its_findings_apart_by_their_lines(store: Store, scan: Scan) -> None:
    rows = store.drafts.add(scan, [draft(10), draft(12), draft(10, severity="critical")], source="m1")
    assert rows[0].id != rows[1].id and rows[0].id == rows[2].id
    assert rows[0].severity == "critical" and rows[0].source_models == ["m1"] and rows[0].vote_count == 1
    again = store.drafts.add(scan, [draft(12), draft(11)], source="m2")
    assert [row.id for row in again] == [rows[1].id, rows[0].id]
    crowd = store.drafts.add(scan, [draft(11), draft(12), draft(13)], source="m3")
    assert {row.id for row in crowd} > {row.id for row in rows[:2]} and len({row.id for row in crowd}) == 3


def test_reporting_again_changes_nothing(store: Store, scan: Scan) -> None:
    reports = [draft(n, severity=SEVERITIES[n % 5], confidence=n) for n in (3, 4, 5, 9, 3)] + [draft(None)]
    first = store.drafts.add(scan, reports, source="m1")
    store.database.execute_sql("UPDATE draft_findings SET updated_at = '2020-01-01T00:00:00.000Z'")
    before = [row.to_dict() for row in store.drafts.list(scan)]
    assert [row.id for row in store.drafts.add(scan, reports, source="m1")] == [row.id for row in first]
    assert [row.to_dict() for row in store.drafts.list(scan)] == before


def test_merging_never_brings_a_draft_back(store: Store, scan: Scan) -> None:
    row = one(store, scan)
    store.drafts.record_votes(row, [vote("m1", "rejected")])
    again = store.drafts.add(scan, [draft(severity="critical")], source="m3")[0]
    assert (again.id, again.status, again.source_models) == (row.id, "rejected", ["m3"])


def test_a_rule_needs_no_chunk_and_a_chunk_is_of_its_scan(store: Store, scan: Scan) -> None:
    chunk = store.chunks.list(scan, file="a.py")[0]
    rule = one(store, scan, auto_detected=True)
    assert rule.chunk_id is None and rule.auto_detected
    found = store.drafts.add(scan, [draft(file_path=None)], chunk=chunk.id, source="m1")[0]
    assert (found.id, found.chunk_id, found.auto_detected) == (rule.id, chunk.id, True)
    assert found.chunk.file_path == "a.py"
    assert [d.id for d in chunk.drafts] == [rule.id]
    other = store.scans.record(store.scans.get(scan).root, jobs=1)
    with pytest.raises(InvalidArgument, match=f"is of scan {scan.id}, not of scan {other.id}"):
        store.drafts.add(other, [draft(file_path=None)], chunk=chunk)
    early = ScanFileChunk.select().where(ScanFileChunk.scan == other).first()
    with pytest.raises(IllegalMove, match="store.scans.analyze"):
        store.drafts.add(other, [draft(file_path=None)], chunk=early)
    assert store.drafts.list(other) == [] == store.check()


def test_bad_arguments_are_refused_before_anything_is_written(store: Store, scan: Scan) -> None:
    for options in ({"window": -1}, {"window": None}, {"window": 1.5}, {"window": True}, {"source": ""}, {"source": 7}):
        with pytest.raises(InvalidArgument):
            store.drafts.add(scan, [draft()], **options)
    for key in (True, "1", None, 1.0, 0, -1, 2**63, 2**80):
        with pytest.raises(InvalidArgument):
            store.drafts.get(key)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="store.drafts.list"):
        store.drafts.get(99)
    with pytest.raises(NotFound):
        store.drafts.votes(99)
    with pytest.raises(NotFound):
        store.drafts.add(99, [draft()])
    for wrong in ({"status": "nope"}, {"severity": "urgent"}, {"limit": -1}):
        with pytest.raises(InvalidArgument):
            store.drafts.list(scan, **wrong)
    assert store.drafts.list(scan) == []


def test_listing(store: Store, scan: Scan) -> None:
    store.drafts.add(scan, [draft(9, severity="low"), draft(8, title="b"), draft(7, file_path="b.py", severity="info")])
    assert [d.line_number for d in store.drafts.list(scan)] == [8, 9, 7]
    assert [d.line_number for d in store.drafts.list(scan, severity="LOW")] == [9]
    assert [d.line_number for d in store.drafts.list(scan, file="b.py", status="pending")] == [7]
    assert [d.line_number for d in store.drafts.list(scan, limit=1)] == [8]
    assert store.drafts.list(scan, status="verified") == store.drafts.list(scan, limit=0) == []


def test_a_model_row_fills_in_what_follows(store: Store, scan: Scan) -> None:
    chunk = store.chunks.list(scan, file="a.py")[0]
    row = DraftFinding.create(
        scan=scan, chunk=chunk, title="A B", vulnerability_type="x", severity="Low", line_number=2
    )
    kept = store.drafts.get(row)
    assert (kept.title_key, kept.file_path, kept.rank, kept.status, kept.severity) == (
        "a b",
        "a.py",
        3,
        "pending",
        "low",
    )
    assert store.drafts.add(scan, [draft(3, title="a-b", vulnerability_type="X")])[0].id == row.id


@pytest.mark.no_cover
def test_thousands_of_reports_in_one_file(store: Store, scan: Scan) -> None:
    reports = [draft(n + 1, auto_detected=True) for n in range(6_000)]
    rows = store.drafts.add(scan, reports, source="rule")
    assert [row.line_number for row in rows] == list(range(1, 6_001))
    again = store.drafts.add(scan, reports, source="other")
    assert [row.id for row in again] == [row.id for row in rows]
    assert store.database.execute_sql("SELECT count(*), min(vote_count) FROM draft_findings").fetchall() == [(6_000, 2)]
    assert store.drafts.state(scan).ready == 6_000
    assert store.check() == []


def test_known_drafts_are_looked_up_by_the_index(store: Store) -> None:
    from scanstore.analysis.draft_merge import PLACES

    plan = store.database.execute_sql(f"EXPLAIN QUERY PLAN {PLACES}", (1, "a.py")).fetchall()
    assert "COVERING INDEX uq_draft_findings" in plan[0][3] and "file_path=?" in plan[0][3]


reports = st.lists(
    st.builds(
        draft,
        st.none() | st.integers(1, 14),
        title=st.sampled_from(("A b", "a-B", "Other")),
        vulnerability_type=st.sampled_from(("x", "X")),
        severity=st.sampled_from(SEVERITIES),
        file_path=st.sampled_from(("a.py", "b.py")),
        confidence=st.none() | st.integers(0, 100),
        reason=st.sampled_from(("", "r1", "r2")),
        source=st.sampled_from((None, "m1", "m2", "rule")),
    ),
    max_size=6,
)


class Naive:
    """What merging promises, said without any thought of speed."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.known: list[dict[str, Any]] = []

    def add(self, batch: list[dict[str, Any]]) -> list[int]:
        def identity(d: dict[str, Any]) -> tuple[Any, ...]:
            return d["file_path"], d["vulnerability_type"].lower(), d["title"].lower().replace("-", " ")

        def distance(a: dict[str, Any], b: dict[str, Any]) -> int | None:
            if identity(a) != identity(b) or (a["line_number"] is None) != (b["line_number"] is None):
                return None
            far = 0 if a["line_number"] is None else abs(a["line_number"] - b["line_number"])
            return far if far <= self.window else None

        homes: dict[tuple[Any, ...], dict[str, Any]] = {}
        places = {(identity(d), d["line_number"]): d for d in batch}
        old = list(self.known)
        while True:
            best = min(
                (
                    (far, place[1] or 0, row["line_number"] or 0, n, place)
                    for place, d in places.items()
                    for n, row in enumerate(old)
                    if place not in homes
                    and not any(row is home for home in homes.values())
                    and (far := distance(d, row)) is not None
                ),
                default=None,
                key=lambda found: found[:4],
            )
            if best is None:
                break
            homes[best[4]] = old[best[3]]
        ids = []
        for d in batch:
            place = identity(d), d["line_number"]
            if place not in homes:
                homes[place] = {**d, "source_models": [], "vote_count": 0}
                self.known.append(homes[place])
            row = homes[place]
            row["severity"] = min(row["severity"], d["severity"], key=SEVERITIES.index)
            sure = [c for c in (row["confidence"], d["confidence"]) if c is not None]
            row["confidence"] = max(sure, default=None)
            row["reason"] = row["reason"] or d["reason"]
            if d["source"] and d["source"] not in row["source_models"]:
                row["source_models"] = row["source_models"] + [d["source"]]
                row["vote_count"] += 2 if d["source"] == "m2" else 1
            row["vote_count"] = max(row["vote_count"], 1)
            ids.append(next(n for n, each in enumerate(self.known) if each is row))
        return ids


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(reports, max_size=4), st.sampled_from((0, 2, 5)))
def test_merging_equals_a_naive_model(store: Store, scan: Scan, batches: list[Any], window: int) -> None:
    store.database.execute_sql("DELETE FROM draft_findings")
    naive = Naive(window)
    seen: dict[int, int] = {}  # of the naive model's row, the id
    for batch in batches:
        for _ in range(2):  # the second time changes nothing
            wanted = naive.add(batch) if _ == 0 else wanted  # noqa: F821
            rows = store.drafts.add(scan, batch, window=window)
            assert len(rows) == len(wanted)
            for row, number in zip(rows, wanted, strict=True):
                assert seen.setdefault(number, row.id) == row.id
    assert len(set(seen.values())) == len(naive.known) == DraftFinding.select().count()
    for number, key in seen.items():
        row = store.drafts.get(key)
        for column in ("line_number", "severity", "confidence", "reason", "source_models", "vote_count", "title"):
            assert getattr(row, column) == naive.known[number][column], column


@given(
    st.lists(st.none() | st.integers(1, 30), unique=True, max_size=8),
    st.lists(st.none() | st.integers(1, 30), max_size=8),
    st.integers(0, 40),
)
def test_pairs_are_one_to_one_and_near(lines: list[Any], known: list[Any], window: int) -> None:
    old = [(line, n + 1) for n, line in enumerate(known)]
    found = pair(lines, old, window)
    assert len(set(found.values())) == len(found)
    assert pair(lines[::-1], old[::-1], window) == found
    for line, each in found.items():
        other = known[each - 1]
        assert (line is None) == (other is None) and (line is None or abs(line - other) <= window)
    for line in set(lines) & set(known):
        assert known[found[line] - 1] == line


# -- judging -------------------------------------------------------------------------------------------------


def test_a_verdict_makes_the_one_verified_finding(store: Store, scan: Scan) -> None:
    row = one(store, scan, severity="low")
    first = store.drafts.record_votes(row, [vote("m1", confidence=80, severity="HIGH")], policy=Majority(3))
    assert (first.outcome, first.missing, first.votes, first.verified_id) == ("undecided", "2 more votes of 3", 1, None)
    assert store.drafts.get(row).status == "pending"
    votes = [
        vote("m2", confidence=91, severity="medium", attack_vector="net", data_flow=""),
        vote(store.llm.get("m3"), "rejected", confidence=99, severity="critical", data_flow="never"),
        vote("m1", confidence=80, severity="high", attack_vector="less sure", data_flow="a -> b"),
    ]
    done = store.drafts.record_votes(row.id, votes, policy=Majority(3))
    assert (done.outcome, done.confidence, done.votes, done.draft_id) == ("verified", 86, 3, row.id)
    verified = VerifiedFinding.get_by_id(done.verified_id)
    assert (verified.title, verified.confidence, verified.adjusted_severity) == ("SQL injection", 86, "high")
    assert (verified.attack_vector, verified.data_flow, verified.rank) == ("net", "a -> b", 1)
    assert (verified.status, verified.scan_id) == ("pending", scan.id)
    assert store.drafts.get(row).status == "verified"
    assert [v.id for v in store.drafts.get(row).verified] == [verified.id]
    assert store.drafts.record_votes(row, votes, policy=Majority(3)) == done
    assert VerifiedFinding.select().count() == 1 and Vote.select().count() == 3
    assert store.check() == []


@pytest.mark.parametrize(
    ("votes", "outcome", "sure"),
    [
        ([vote("m1"), vote("m2"), vote("m3", "rejected")], "verified", 67),
        ([vote("m1", "rejected", confidence=50), vote("m2", "rejected")], "rejected", 50),
        ([vote("m1", "weakness"), vote("m2", "verified")], "weakness", 100),
        ([vote("m1", "abstain"), vote("m2", "verified")], "undecided", None),
        ([], "undecided", None),
    ],
)
def test_outcomes_are_kept(store: Store, scan: Scan, votes: Any, outcome: str, sure: int | None) -> None:
    row = one(store, scan)
    judged = store.drafts.record_votes(row, votes)
    assert (judged.outcome, judged.confidence) == (outcome, sure)
    assert store.drafts.get(row).status == (outcome if outcome != "undecided" else "pending")
    assert (judged.verified_id is not None) == (outcome == "verified")
    assert store.drafts.record_votes(row, votes) == judged
    assert store.check() == []


def test_the_severity_without_any_said_is_the_drafts_and_a_tie_goes_to_the_worse(store: Store, scan: Scan) -> None:
    plain = store.drafts.record_votes(one(store, scan, severity="info"), [vote("m1")])
    tie = store.drafts.record_votes(
        one(store, scan, title="t"), [vote("m1", severity="low"), vote("m2", severity="critical")]
    )
    assert [VerifiedFinding.get_by_id(j.verified_id).adjusted_severity for j in (plain, tie)] == ["info", "critical"]


def test_the_severity_is_what_most_agreeing_voters_say(store: Store, scan: Scan) -> None:
    votes = [vote("m1", severity="low"), vote("m2", severity="critical"), vote("m3", severity="low")]
    judged = store.drafts.record_votes(one(store, scan), votes)
    assert VerifiedFinding.get_by_id(judged.verified_id).adjusted_severity == "low"


def test_a_completed_scan_goes_on_when_something_is_reported(store: Store, scan: Scan) -> None:
    finish_chunks(store, scan)
    assert store.scans.get(scan).status == "completed"
    row = one(store, scan)
    assert (store.scans.get(scan).status, store.scans.get(scan).phase) == ("queued", "verifying")
    store.drafts.skip(row, "not ours")
    assert store.scans.get(scan).status == "completed"


def test_a_model_may_change_its_vote_until_the_verdict(store: Store, scan: Scan) -> None:
    row = one(store, scan)
    store.drafts.record_votes(row, [vote("m1", "rejected", reason="no")], policy=Majority(3))
    store.drafts.record_votes(row, [vote("m1", "verified", reason="yes")], policy=Majority(3))
    (kept,) = store.drafts.votes(row)
    assert (kept.decision, kept.reason, kept.round, kept.model_config.name) == ("verified", "yes", 1, "m1")


def test_weights_are_the_models_votes(store: Store, scan: Scan) -> None:
    judged = store.drafts.record_votes(one(store, scan), [vote("m2"), vote("m1", "rejected")], policy=Weighted())
    assert judged.outcome == "verified"
    unsure = store.drafts.record_votes(
        one(store, scan, title="u"), [vote("m1", confidence=10)], policy=MinimumConfidence(50)
    )
    assert unsure.missing == "any vote at all (1 vote does not count: below 50)"


def test_a_claimed_draft_is_judged_by_its_worker(store: Store, scan: Scan) -> None:
    finish_chunks(store, scan)
    one(store, scan)
    (mine,) = store.drafts.claim(scan, worker="w1")
    for late in ({"worker": "w2"}, {}):
        with pytest.raises(LeaseLost, match="leased to w1"):
            store.drafts.record_votes(mine.id, [vote("m1")], **late)
    assert Vote.select().count() == 0
    assert store.drafts.record_votes(mine, [vote("m1")], policy=Majority(2)).outcome == "undecided"
    assert store.drafts.get(mine).status == "verifying"
    judged = store.drafts.record_votes(mine, [vote("m2")], policy=Majority(2))
    assert judged.outcome == "verified"
    assert store.drafts.record_votes(mine, [vote("m2")], policy=Majority(2)) == judged
    kept = store.drafts.get(mine)
    assert (kept.status, kept.worker, kept.lease_until) == ("verified", "w1", None)
    assert store.scans.get(scan).phase == "enriching"
    assert store.check() == []


def test_a_draft_that_was_claimed_again_takes_no_votes_of_its_former_owner(store: Store, scan: Scan) -> None:
    finish_chunks(store, scan)
    row = one(store, scan)
    (late,) = store.drafts.claim(scan, worker="w1")
    past = utcnow() - timedelta(hours=1)
    change_rows(DraftFinding, lease_until=past, updated_at=past).where(DraftFinding.id == row.id).execute()
    store.drafts.recover(scan)
    (now,) = store.drafts.claim(scan, worker="w1")
    with pytest.raises(LeaseLost, match="later claim"):
        store.drafts.record_votes(late, [vote("m1")])
    assert Vote.select().count() == 0
    store.drafts.record_votes(now, [vote("m1", "rejected")])
    with pytest.raises(LeaseLost):
        store.drafts.record_votes(late, [vote("m1")])
    assert [v.decision for v in store.drafts.votes(row)] == ["rejected"]
    assert store.check() == []


@pytest.mark.parametrize("freed", [False, True])
def test_a_lease_that_ran_out_takes_the_votes_of_its_owner(store: Store, scan: Scan, freed: bool) -> None:
    finish_chunks(store, scan)
    row = one(store, scan)
    (late,) = store.drafts.claim(scan, worker="w1")
    past = utcnow() - timedelta(hours=1)
    change_rows(DraftFinding, lease_until=past, updated_at=past).where(DraftFinding.id == row.id).execute()
    if freed:
        assert store.drafts.recover(scan) == (1, 0)
    assert store.drafts.record_votes(late, [vote("m1", "rejected")]).outcome == "rejected"
    assert store.drafts.get(row).lease_clock is None
    assert store.check() == []


def test_votes_for_what_is_over_are_refused_with_a_remedy(store: Store, scan: Scan) -> None:
    finish_chunks(store, scan)
    row = one(store, scan)
    store.drafts.record_votes(row, [vote("m1", "rejected")])
    with pytest.raises(IllegalMove, match=rf"draft {row.id} is rejected; .*store.scans.rerun\(scan, to='verify'\)"):
        store.drafts.record_votes(row, [vote("m2")])
    with pytest.raises(IllegalMove):
        store.drafts.record_votes(row, [vote("m1")])
    skipped = store.drafts.skip(one(store, scan, title="s"), "test code")
    assert (skipped.status, skipped.error) == ("skipped", "test code")
    assert store.drafts.skip(skipped, "again").error == "test code"
    with pytest.raises(IllegalMove, match="is skipped; to take that back"):
        store.drafts.record_votes(skipped, [vote("m1")])
    one(store, scan, title="f")
    (claimed,) = store.drafts.claim(scan)
    with pytest.raises(IllegalMove, match="is verifying and cannot become skipped"):
        store.drafts.skip(claimed, "no")
    store.drafts.fail(claimed, "broken", retry=False)
    with pytest.raises(IllegalMove, match=r"is failed; .*store.drafts.retry\(draft\)"):
        store.drafts.record_votes(claimed.id, [vote("m1")])
    with pytest.raises(LeaseLost):
        store.drafts.record_votes(claimed, [vote("m1")])
    with pytest.raises(InvalidArgument):
        store.drafts.skip(row, " ")
    with pytest.raises(IllegalMove, match="is rejected and cannot become skipped"):
        store.drafts.skip(row, "late")
    assert Vote.select().count() == 1
    skipped.status = "pending"
    save_row(skipped)
    assert store.drafts.record_votes(skipped, [vote("m1")]).outcome == "verified"
    assert store.check() == []


@pytest.mark.parametrize(
    "votes",
    [
        None, "verified", [None], {"model": "m1", "decision": "verified"},
        [vote("m1", "maybe")], [vote("m1", None)], [{"decision": "verified"}], [{"model": "m1"}],
        [vote(True)], [vote(None)], [vote("m1", confidence=101)], [vote("m1", confidence=True)],
        [vote("m1", confidence=float("nan"))], [vote("m1", severity="urgent")], [vote("m1", reason=7)],
        [vote("m1", why="x")], [vote("m1"), vote("m1")], [vote("m1"), vote("m1", "rejected")],
    ],
)  # fmt: skip
def test_bad_votes_are_refused(store: Store, scan: Scan, votes: Any) -> None:
    row = one(store, scan)
    with pytest.raises(InvalidArgument):
        store.drafts.record_votes(row, votes)
    with pytest.raises(InvalidArgument):
        store.drafts.record_votes(row, [vote("m2"), *votes] if isinstance(votes, list) else votes)
    assert Vote.select().count() == 0


def test_unknown_models_drafts_policies_and_workers(store: Store, scan: Scan) -> None:
    row = one(store, scan)
    for wrong in ([vote("nobody")], [vote("m1"), vote(99)]):
        with pytest.raises(NotFound, match="no model"):
            store.drafts.record_votes(row, wrong)
    with pytest.raises(NotFound, match="no draft 99"):
        store.drafts.record_votes(99, [vote("m1")])
    with pytest.raises(InvalidArgument, match="worker"):
        store.drafts.record_votes(row, [vote("m1")], worker=" ")

    def broken(ballots: Any) -> Verdict:
        raise ZeroDivisionError

    no_policies: list[tuple[Any, type[Exception]]] = [
        (7, InvalidArgument), (Majority(0), InvalidArgument), (lambda _: None, InvalidArgument),
        (broken, ZeroDivisionError),
    ]  # fmt: skip
    for policy, error in no_policies:
        with pytest.raises(error):
            store.drafts.record_votes(row, [vote("m1")], policy=policy)
    assert Vote.select().count() == 0 and store.drafts.get(row).status == "pending"
    assert check_votes([vote("m1", "VERIFIED")])[0]["decision"] == "verified"


def again(store: Store, scan: Scan) -> None:
    store.scans.rerun(scan, to="verify")


def test_verified_again_is_the_same_verified_finding_brought_up_to_date(store: Store, scan: Scan) -> None:
    finish_chunks(store, scan)
    row = one(store, scan)
    first = store.drafts.record_votes(row, [vote("m1", confidence=60)])
    finding = store.findings.publish(first.verified_id, remediation_steps="x")
    finding.status = "confirmed"
    save_row(finding)
    assert store.scans.get(scan).status == "completed"
    again(store, scan)
    assert store.drafts.get(row).round == 2
    second = store.drafts.record_votes(row, [vote("m1", confidence=90, severity="critical")])
    assert second.verified_id == first.verified_id and second.votes == 1
    verified = store.verified.get(first.verified_id)
    assert (verified.status, verified.confidence, verified.adjusted_severity) == ("pending", 90, "critical")
    assert [v.round for v in store.drafts.votes(row)] == [1, 2]
    assert [v.round for v in store.drafts.votes(row, round=2)] == [2]
    published = store.findings.publish(verified)
    assert (published.id, published.status, published.severity) == (finding.id, "confirmed", "critical")
    assert store.scans.get(scan).status == "completed"
    assert store.check() == []


@pytest.mark.parametrize("outcome", ["rejected", "weakness"])
@pytest.mark.parametrize("status", [None, "open", "confirmed"])
def test_not_verified_any_more(store: Store, scan: Scan, outcome: str, status: str | None) -> None:
    finish_chunks(store, scan)
    row = one(store, scan)
    first = store.drafts.record_votes(row, [vote("m1")])
    finding = None
    if status is not None:
        finding = store.findings.publish(first.verified_id)
        change_rows(Finding, status=status).execute()
    else:
        store.verified.claim(scan, worker="enricher")
    store.scans.pause(scan) if store.scans.get(scan).status == "running" else None
    again(store, scan)
    second = store.drafts.record_votes(row, [vote("m1", outcome)])
    assert second.outcome == outcome == store.drafts.get(row).status
    if finding is None:
        assert second.verified_id is None and VerifiedFinding.select().count() == 0
    else:
        verified = store.verified.get(first.verified_id)
        assert (verified.status, verified.error) == ("failed", f"{outcome} in round 2")
        assert store.findings.get(finding).status == ("false_positive" if status == "open" else "confirmed")
        with pytest.raises(IllegalMove, match="is failed and cannot become complete"):
            store.findings.publish(verified)
    assert store.check() == []


VOTER = """
import sys
from scanstore import Store
from scanstore.analysis.policies import Majority
with Store(sys.argv[1]) as store:
    for key in map(int, sys.argv[2].split(",")):
        votes = [{"model": m, "decision": "verified", "confidence": 70} for m in ("m1", "m2", "m3")]
        print(store.drafts.record_votes(key, votes, policy=Majority(3)).verified_id)
"""


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return Program(code, *arguments, stdout=subprocess.PIPE, cwd=root)


def test_two_processes_record_the_same_votes(store: Store, scan: Scan) -> None:
    rows = store.drafts.add(scan, [draft(n * 10 + 1) for n in range(40)])
    keys = ",".join(str(row.id) for row in rows)
    voters = [run(VOTER, store.path, keys) for _ in range(3)]
    told = [voter.communicate(timeout=60)[0].split() for voter in voters]
    assert [voter.returncode for voter in voters] == [0, 0, 0]
    assert told[0] == told[1] == told[2] and len(set(told[0])) == 40
    assert VerifiedFinding.select().count() == 40 and Vote.select().count() == 120
    assert store.check() == []


REPORTER = """
import sys
from scanstore import Store
with Store(sys.argv[1]) as store:
    for n in range(60):
        store.drafts.add(1, [dict(title="t", vulnerability_type="x", severity="low", file_path="a.py",
                                  line_number=n * 10 + 1)], source=sys.argv[2])
"""


def test_processes_that_report_the_same_make_one_draft(store: Store, scan: Scan) -> None:
    assert scan.id == 1
    reporters = [run(REPORTER, store.path, name) for name in ("m1", "m2", "m3")]
    assert [reporter.wait(timeout=60) for reporter in reporters] == [0, 0, 0]
    rows = store.drafts.list(scan)
    assert len(rows) == 60
    assert {tuple(sorted(row.source_models)) for row in rows} == {("m1", "m2", "m3")}
    assert {row.vote_count for row in rows} == {4}
    assert store.check() == []


def test_an_error_leaves_nothing_of_the_votes(store: Store, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    from scanstore.analysis import lifecycle

    row = one(store, scan)
    broken: Callable[..., Any] = lambda *_: 1 / 0  # noqa: E731
    monkeypatch.setattr(lifecycle, "advance", broken)
    with pytest.raises(ZeroDivisionError):
        store.drafts.record_votes(row, [vote("m1")])
    assert Vote.select().count() == VerifiedFinding.select().count() == 0
    assert store.drafts.get(row).status == "pending"
