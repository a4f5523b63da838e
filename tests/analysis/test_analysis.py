"""The life of an analysis: begun, paused, cancelled, run again; its phases and figures; chunks and answers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore.db.rules import change_rows
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NotFound
from scanstore.models import DraftFinding, Finding, Scan, ScanConfig, ScanFileChunk, VerifiedFinding
from scanstore.store import Store

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DRAFT = {"title": "Query from input", "vulnerability_type": "sqli", "severity": "high", "line_number": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four files of one chunk each."""
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.py").write_text(f"import os\n{name} = os.environ\n")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "scan.db", durability="normal", timeout=5) as opened:
        for name in ("m", "n"):
            opened.llm.add(name)
        yield opened
        assert opened.check() == []


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    for room in ("lifecycle", "stage", "chunks", "drafts", "verified"):
        monkeypatch.setattr(f"scanstore.analysis.{room}.utcnow", own, raising=False)
    monkeypatch.setattr("scanstore.leases.engine.utcnow", own)
    monkeypatch.setattr("scanstore.snapshots.scans.utcnow", own)
    return own


def record(store: Store, root: Path) -> Scan:
    return store.scans.record(root, jobs=1)


def begin(store: Store, root: Path, **config: Any) -> Scan:
    return store.scans.analyze(record(store, root), **config)


def scan_all(store: Store, scan: Scan, *, drafts: int = 1, **options: Any) -> list[int]:
    """Complete every chunk that can be claimed, the first few with a draft each; return the drafts' ids."""
    found: list[int] = []
    for chunk in store.chunks.work(scan, wait=False):
        store.chunks.complete(chunk, drafts=[DRAFT] if len(found) < drafts else [], **options)
        found += [draft.id for draft in store.drafts.list(scan, chunk=chunk)]
    return found


def verify_all(store: Store, scan: Scan, decision: str = "verified") -> None:
    for draft in store.drafts.work(scan, wait=False):
        store.drafts.record_votes(draft, [{"model": "m", "decision": decision}])


def enrich_all(store: Store, scan: Scan, **texts: Any) -> None:
    for verified in store.verified.work(scan, wait=False):
        store.findings.publish(verified, **texts)


def where(store: Store, scan: Scan) -> tuple[str, str]:
    row = store.scans.get(scan)
    return row.status, row.phase


def paths(rows: list[ScanFileChunk]) -> list[str]:
    return [row.file_path for row in rows]


# Beginning ---------------------------------------------------------------------------------------------------------


def test_an_analysis_goes_through_its_phases(store: Store, root: Path, clock: Clock) -> None:
    scan = record(store, root)
    assert where(store, scan) == ("completed", "completed") and scan.active_since is None
    scan = store.scans.analyze(scan)
    assert where(store, scan) == ("queued", "scanning") and scan.active_since == clock()
    chunk = store.chunks.claim(scan)[0]
    assert where(store, scan) == ("running", "scanning")
    store.chunks.complete(chunk, drafts=[DRAFT])
    assert where(store, scan) == ("running", "scanning")
    scan_all(store, scan, drafts=1)
    assert where(store, scan) == ("running", "verifying")
    verify_all(store, scan)
    assert where(store, scan) == ("running", "enriching")
    assert store.scans.get(scan).analyzed_at is None
    clock.seconds += 60
    enrich_all(store, scan)
    assert where(store, scan) == ("completed", "completed")
    assert store.scans.get(scan).analyzed_at == clock()
    assert [stage.state(scan).finished for stage in (store.chunks, store.drafts, store.verified)] == [True] * 3
    store.drafts.add(scan, [{**DRAFT, "file_path": "a.py", "title": "By a rule"}])  # more work has come up
    assert where(store, scan) == ("queued", "verifying") and store.scans.get(scan).analyzed_at is None


def test_what_finds_nothing_is_over_after_the_chunks(store: Store, root: Path) -> None:
    scan = begin(store, root)
    scan_all(store, scan, drafts=0)
    assert where(store, scan) == ("completed", "completed")


def test_an_empty_tree_is_over_at_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    scan = begin(store, tmp_path / "empty")
    assert where(store, scan) == ("completed", "completed") and scan.analyzed_at
    assert store.chunks.claim(scan) == []


def test_beginning_again_goes_on(store: Store, root: Path) -> None:
    scan = begin(store, root, max_retries=7, scope="full")
    since = scan.active_since
    chunk = store.chunks.claim(scan)[0]
    again = store.scans.analyze(scan, scanner_concurrency=1)
    assert again.active_since == since and again.status == "running"
    config = ScanConfig.get(ScanConfig.scan == scan)
    assert (config.max_retries, config.scanner_concurrency, config.verifier_concurrency) == (7, 1, 10)
    assert store.chunks.get(chunk).status == "running" and store.chunks.claim(scan) == []
    store.chunks.complete(chunk)
    scan_all(store, scan, drafts=0)
    store.scans.analyze(scan)
    assert where(store, scan) == ("completed", "completed") and store.chunks.state(scan).done == 4


BEGIN = """
import sys
from scanstore.store import Store
with Store(sys.argv[1], timeout=30) as store:
    for _ in range(5):
        store.scans.analyze(1, max_retries=5)
    print(store.chunks.state(1).ready)
"""


def test_every_process_may_begin_it(store: Store, root: Path) -> None:
    record(store, root)
    workers = [Program(BEGIN, store.path, stdout=subprocess.PIPE) for _ in range(4)]
    assert [worker.communicate(timeout=30)[0].strip() for worker in workers] == ["4"] * 4
    assert len(store.chunks.list(1)) == 4


def test_what_cannot_be_analysed_or_configured(store: Store, root: Path) -> None:
    unfinished = store.scans.add("by hand")
    with pytest.raises(IllegalMove, match="was not recorded whole; record by hand again"):
        store.scans.analyze(unfinished)
    scan = record(store, root)
    for config, match in (
        ({"speed": 3}, "no setting speed; there are .*scope"),
        ({"scope": "half"}, "scope is 'half'.*full, changed"),
        ({"scope": None}, "scope is None"),
        ({"analysis_mode": "fast"}, "analysis_mode is 'fast'"),
        ({"scanner_concurrency": 0}, "scanner_concurrency is 0"),
        ({"verifier_concurrency": True}, "verifier_concurrency is True"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"max_retries": None}, "max_retries is None"),
        ({"retry_delay": float("nan")}, "retry_delay is nan"),
        ({"retry_delay": -1}, "retry_delay is -1"),
        ({"pause_after": 0}, "pause_after is 0"),
        ({"id": 7}, "no setting id"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            store.scans.analyze(scan, **config)
    with pytest.raises(NotFound, match="no model 'x'"):
        store.scans.analyze(scan, primary_analyzer="x")
    with pytest.raises(NotFound):
        store.scans.analyze(99)
    assert store.scans.get(scan).active_since is None and ScanConfig.select().count() == 0
    store.scans.analyze(scan, primary_analyzer="m", scope="CHANGED", analysis_mode="Primary_Only", pause_after=None)
    config = ScanConfig.get()
    assert (config.primary_analyzer.name, config.scope, config.analysis_mode) == ("m", "changed", "primary_only")


def test_only_what_has_changed(store: Store, root: Path) -> None:
    first = begin(store, root, scope="changed")  # there is none before: all of it
    assert store.chunks.state(first).ready == 4
    (root / "b.py").write_text("b = 'new'\n")
    (root / "e.py").write_text("e = 'more'\n")
    second = begin(store, root, scope="changed")
    state = store.chunks.state(second)
    assert (state.ready, state.skipped) == (2, 3)
    assert paths(store.chunks.claim(second, limit=9)) == ["b.py", "e.py"]
    third = begin(store, root, scope="changed")
    assert where(store, third) == ("completed", "completed") and store.chunks.state(third).skipped == 5


def test_primary_only_does_not_wait_for_drafts(store: Store, root: Path) -> None:
    scan = begin(store, root, analysis_mode="primary_only")
    assert len(scan_all(store, scan)) == 1
    assert where(store, scan) == ("completed", "completed")
    assert store.drafts.state(scan).ready == 1


def test_the_last_draft_says_what_became_of_earlier_findings(store: Store, root: Path) -> None:
    through(store, root)
    (finding,) = Finding.select()
    scan = begin(store, root, analysis_mode="primary_only")
    scan_all(store, scan)
    other = store.drafts.add(scan, [{**DRAFT, "file_path": finding.file_path, "title": "Other"}])[0]
    assert where(store, scan) == ("completed", "completed")
    assert [row.id for row in store.findings.diff(1, scan).not_checked] == [finding.id]
    verify_all(store, scan, "rejected")
    assert store.drafts.get(other).status == "rejected" and where(store, scan) == ("completed", "completed")
    assert [row.id for row in store.findings.diff(1, scan).fixed] == [finding.id]
    assert store.findings.get(finding).status == "fixed"


def test_what_is_published_after_the_end_of_a_scan_is_seen_by_it(store: Store, root: Path) -> None:
    first = through(store, root)
    drafts = store.drafts.add(first, [{**DRAFT, "file_path": "a.py", "title": title} for title in ("Two", "Three")])
    verify_all(store, first)
    enrich_all(store, first)
    scan = begin(store, root, analysis_mode="primary_only")
    scan_all(store, scan)
    verify_all(store, scan)
    assert len(store.findings.diff(first, scan).not_checked) == 1 + len(drafts)
    enrich_all(store, scan)
    diff = store.findings.diff(first, scan)
    assert (len(diff.unchanged), len(diff.fixed), len(diff.not_checked)) == (1, 2, 0)


# The order of work -------------------------------------------------------------------------------------------------


def test_risk_comes_first(store: Store, root: Path) -> None:
    scan = record(store, root)
    assert store.scans.set_risk(scan, "HIGH", ["c.py"]) == 1
    store.scans.analyze(scan)
    assert store.scans.set_risk(scan, "low", ["a.*", "!d.py"]) == 1
    rows = store.chunks.claim(scan, limit=4)
    assert paths(rows) == ["c.py", "b.py", "d.py", "a.py"]
    assert [row.risk_level for row in rows] == ["high", "normal", "normal", "low"]
    for row in rows:
        store.chunks.release(row)
    store.scans.set_risk(scan, "high", ["d.py"])
    store.scans.set_risk(scan, "normal", ["c.py"])
    assert paths(store.chunks.claim(scan, limit=4)) == ["d.py", "b.py", "c.py", "a.py"]
    for risk, patterns in (("urgent", ["a.py"]), (None, ["a.py"]), ("high", [7])):
        with pytest.raises(InvalidArgument):
            store.scans.set_risk(scan, risk, patterns)  # type: ignore[arg-type]


def test_drafts_and_verified_findings_by_severity(store: Store, root: Path) -> None:
    scan = begin(store, root)
    for severity in ("low", "critical", "info", "medium"):
        store.drafts.add(scan, [{**DRAFT, "file_path": "a.py", "title": severity, "severity": severity}])
    rows = store.drafts.claim(scan, limit=4)
    assert [row.severity for row in rows] == ["critical", "medium", "low", "info"]
    for row in rows:
        vote = {"model": "m", "decision": "verified", "severity": "high" if row.severity == "info" else row.severity}
        store.drafts.record_votes(row, [vote])
    assert [row.adjusted_severity for row in store.verified.claim(scan, limit=4)] == [
        "critical",
        "high",
        "medium",
        "low",
    ]


# Stopping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["pause", "cancel"])
def test_what_is_out_may_still_come_in(store: Store, root: Path, how: str) -> None:
    scan = begin(store, root)
    first, second, third = store.chunks.claim(scan, limit=3)
    stopped = getattr(store.scans, how)(scan, reason="lunch")
    assert (stopped.status, stopped.error) == ({"pause": "paused", "cancel": "cancelled"}[how], "lunch")
    assert store.chunks.claim(scan) == [] and not store.chunks.state(scan).finished
    assert list(store.chunks.work(scan)) == []
    store.chunks.complete(first, drafts=[DRAFT])
    (draft,) = store.drafts.list(scan, chunk=first)
    store.chunks.heartbeat(second)
    assert store.chunks.fail(second, "no").status == "pending"
    store.chunks.release(third)
    assert where(store, scan)[0] == stopped.status
    assert store.drafts.claim(scan) == []
    with pytest.raises(LeaseLost):
        store.chunks.complete(third)
    resumed = store.scans.resume(scan)
    assert (resumed.status, resumed.error) == ("running", None)
    assert store.drafts.claim(scan)[0].id == draft.id and store.chunks.claim(scan)


def test_a_paused_scan_whose_last_work_comes_in_is_complete(store: Store, root: Path) -> None:
    scan = begin(store, root)
    rows = store.chunks.claim(scan, limit=4)
    store.scans.pause(scan)
    for row in rows:
        store.chunks.complete(row)
    assert where(store, scan) == ("completed", "completed")
    other = store.scans.rerun(scan)
    assert other.chunks == 4
    rows = store.chunks.claim(scan, limit=4)
    store.scans.cancel(scan)
    for row in rows:
        store.chunks.complete(row)
    assert store.scans.get(scan).status == "cancelled"
    assert store.scans.resume(scan).status == "completed"


MOVES = ("pause", "resume", "cancel", "rerun")
LEGAL = {
    "queued": ("pause", "resume", "cancel", "rerun"),
    "running": ("pause", "cancel"),
    "paused": ("resume", "cancel", "rerun"),
    "cancelled": ("resume", "rerun"),
    "completed": ("rerun",),
}


@pytest.mark.parametrize("status", LEGAL)
@pytest.mark.parametrize("action", MOVES)
def test_legal_and_illegal_moves(store: Store, root: Path, status: str, action: str) -> None:
    scan = begin(store, root)
    if status in ("running", "completed"):
        store.chunks.release(store.chunks.claim(scan)[0])
    if status == "completed":
        scan_all(store, scan, drafts=0)
    if status in ("paused", "cancelled"):
        getattr(store.scans, {"paused": "pause", "cancelled": "cancel"}[status])(scan)
    assert store.scans.get(scan).status == status
    if action in LEGAL[status]:
        getattr(store.scans, action)(scan)
        return
    before = store.scans.get(scan).to_dict()
    with pytest.raises(IllegalMove, match=rf"scan {scan.id} is {status}\b.*; \w+"):
        getattr(store.scans, action)(scan)
    assert store.scans.get(scan).to_dict() == before


@pytest.mark.parametrize("action", MOVES)
def test_a_scan_without_an_analysis(store: Store, root: Path, action: str) -> None:
    scan = record(store, root)
    with pytest.raises(IllegalMove):
        getattr(store.scans, action)(scan)
    recording = store.scans.add("by hand")
    if action != "cancel":
        with pytest.raises(IllegalMove):
            getattr(store.scans, action)(recording)
    with pytest.raises(NotFound):
        getattr(store.scans, action)(99)
    assert where(store, scan) == ("completed", "completed")


@pytest.mark.parametrize("after", [1, 3])
def test_errors_in_a_row_pause_the_scan(store: Store, root: Path, after: int) -> None:
    scan = begin(store, root, pause_after=after, retry_delay=0, max_retries=100)
    for _ in range(after - 1):
        store.chunks.fail(store.chunks.claim(scan)[0], "no key")
    if after > 1:
        store.chunks.complete(store.chunks.claim(scan)[0])  # and all is forgiven
    for number in range(after):
        assert store.scans.get(scan).status != "paused"
        store.chunks.fail(store.chunks.claim(scan)[0], f"no key {number}")
    row = store.scans.get(scan)
    assert row.status == "paused"
    assert f"paused after {after} errors in a row, the last: no key {after - 1}" in str(row.error)
    assert store.chunks.claim(scan) == []
    store.scans.resume(scan)
    assert store.scans.get(scan).errors_in_a_row == 0 and store.chunks.claim(scan)


def test_errors_never_pause_a_scan_that_is_to_go_on(store: Store, root: Path) -> None:
    scan = begin(store, root, pause_after=None, retry_delay=0, max_retries=3)
    fails = 0
    for chunk in store.chunks.work(scan):
        store.chunks.fail(chunk, "no")
        fails += 1
    assert fails == 16 and where(store, scan) == ("completed", "completed")
    assert store.chunks.state(scan).failed == 4
    assert len(store.chunks.retry(*store.chunks.list(scan, status="failed"))) == 4
    assert where(store, scan) == ("queued", "scanning")


# Again -------------------------------------------------------------------------------------------------------------


def through(store: Store, root: Path, decision: str = "verified") -> Scan:
    scan = begin(store, root)
    scan_all(store, scan)
    verify_all(store, scan, decision)
    enrich_all(store, scan, vulnerability_details="first")
    assert where(store, scan) == ("completed", "completed")
    return scan


def test_scanning_again_merges(store: Store, root: Path) -> None:
    scan = through(store, root)
    before = [row.id for row in DraftFinding.select()]
    assert store.scans.rerun(scan) == (4, 0, 0)
    assert where(store, scan) == ("queued", "scanning")
    scan_all(store, scan)
    assert [row.id for row in DraftFinding.select()] == before
    assert where(store, scan) == ("completed", "completed")


def test_verifying_again_is_another_round(store: Store, root: Path) -> None:
    scan = through(store, root)
    change_rows(Finding, status="confirmed").execute()
    assert store.scans.rerun(scan, to="verify") == (0, 1, 0)
    assert where(store, scan) == ("queued", "verifying")
    (draft,) = store.drafts.claim(scan)
    assert draft.round == 2 and [vote.round for vote in store.drafts.votes(draft)] == [1]
    store.drafts.record_votes(draft, [{"model": "m", "decision": "verified"}])
    assert where(store, scan) == ("running", "enriching")
    enrich_all(store, scan, vulnerability_details="second")
    (finding,) = Finding.select()
    assert (finding.status, finding.vulnerability_details) == ("confirmed", "second")
    assert VerifiedFinding.select().count() == 1


def test_a_finding_that_is_not_upheld_is_a_false_positive(store: Store, root: Path) -> None:
    scan = through(store, root)
    store.scans.rerun(scan, to="verify")
    verify_all(store, scan, "rejected")
    (verified,), (finding,) = VerifiedFinding.select(), Finding.select()
    assert (verified.status, finding.status) == ("failed", "false_positive")
    assert where(store, scan) == ("completed", "completed")


def withdrawn(store: Store, root: Path) -> tuple[Scan, Finding]:
    """A finding that the votes of a second round took back."""
    scan = through(store, root)
    store.scans.rerun(scan, to="verify")
    verify_all(store, scan, "rejected")
    return scan, Finding.get()


def test_a_later_scan_that_verifies_it_again_opens_what_votes_had_withdrawn(store: Store, root: Path) -> None:
    scan, finding = withdrawn(store, root)
    later = through(store, root)
    assert [row.id for row in store.findings.list(later)] == [finding.id]
    assert store.findings.get(finding).status == "open"
    told = [(e.scan_id, e.by, e.from_status, e.to_status, e.note) for e in store.findings.history(finding)]
    assert told == [
        (scan.id, "scanstore", "open", "false_positive", "rejected in round 2"),
        (later.id, "scanstore", "false_positive", "open", "verified again"),
    ]
    store.scans.rerun(scan, to="verify")  # the older scan has no say any more
    verify_all(store, scan, "rejected")
    assert store.findings.get(finding).status == "open" and len(store.findings.history(finding)) == 2


def test_the_same_scan_may_verify_it_again(store: Store, root: Path) -> None:
    scan, finding = withdrawn(store, root)
    store.scans.rerun(scan, to="verify")
    verify_all(store, scan)
    assert store.findings.get(finding).status == "false_positive"
    enrich_all(store, scan)
    assert store.findings.get(finding).status == "open"


def test_an_older_scan_does_not_open_what_a_later_one_withdrew(store: Store, root: Path) -> None:
    scan = through(store, root)
    later = through(store, root)
    store.scans.rerun(later, to="verify")
    verify_all(store, later, "rejected")
    store.scans.rerun(scan, to="enrich")
    enrich_all(store, scan)
    assert Finding.get().status == "false_positive"


def test_what_a_person_calls_a_false_positive_stays_one(store: Store, root: Path) -> None:
    _, finding = withdrawn(store, root)
    store.findings.triage(finding, "false_positive", by="ann", reason="rightly so")
    assert [(e.by, e.note) for e in store.findings.history(finding)][1:] == [("ann", "rightly so")]
    store.findings.triage(finding, "false_positive", by="bob", reason="again")
    through(store, root)
    assert store.findings.get(finding).status == "false_positive" and len(store.findings.history(finding)) == 2
    store.findings.triage(finding, "open", by="ann")
    store.findings.triage(finding, "ignored", by="ann")
    through(store, root)
    assert store.findings.get(finding).status == "ignored"


def test_what_votes_took_back_is_not_enriched_again(store: Store, root: Path) -> None:
    scan, _ = withdrawn(store, root)
    (verified,) = store.verified.list(scan)
    assert store.scans.rerun(scan, to="enrich") == (0, 0, 0)
    with pytest.raises(IllegalMove, match="taken back by later votes"):
        store.verified.retry(verified)
    assert store.verified.claim(scan) == [] and store.verified.get(verified).status == "failed"


def test_enriching_again_updates_the_finding(store: Store, root: Path) -> None:
    scan = through(store, root)
    assert store.scans.rerun(scan, to="enrich") == (0, 0, 1)
    assert where(store, scan) == ("queued", "enriching")
    enrich_all(store, scan, vulnerability_details="second")
    (finding,) = Finding.select()
    assert finding.vulnerability_details == "second" and where(store, scan) == ("completed", "completed")


@pytest.mark.parametrize(("to", "stage"), [("scan", "chunks"), ("verify", "drafts"), ("enrich", "verified")])
def test_only_what_failed(store: Store, root: Path, to: str, stage: str) -> None:
    scan = begin(store, root)
    scan_all(store, scan, drafts=0)
    drafts = store.drafts.add(scan, [{**DRAFT, "file_path": "a.py", "title": title} for title in ("one", "two")])
    for draft in drafts:
        store.drafts.record_votes(draft, [{"model": "m", "decision": "verified"}])
    enrich_all(store, scan)
    store.scans.rerun(scan, to=to)
    row = getattr(store, stage).claim(scan)[0]
    assert getattr(store, stage).fail(row, "no", retry=False).status == "failed"
    scan_all(store, scan, drafts=0), verify_all(store, scan), enrich_all(store, scan)
    assert where(store, scan) == ("completed", "completed")
    assert tuple(store.scans.rerun(scan, to=to, failed_only=True)) == tuple(
        int(each == to) for each in ("scan", "verify", "enrich")
    )
    assert getattr(store, stage).claim(scan, limit=9)[0].id == row.id
    with pytest.raises(InvalidArgument, match="to is 'end'"):
        store.scans.rerun(scan, to="end")


def test_running_again_leaves_leased_work_with_its_worker(store: Store, root: Path) -> None:
    scan = begin(store, root)
    out, done = store.chunks.claim(scan, limit=2)
    store.chunks.complete(done)
    store.scans.pause(scan)
    assert store.scans.rerun(scan).chunks == 1
    store.chunks.complete(out)
    assert store.chunks.state(scan)[:4] == (3, 0, 0, 1)


# Figures -----------------------------------------------------------------------------------------------------------


def test_progress_counts_and_foresees(store: Store, root: Path, clock: Clock) -> None:
    scan = begin(store, root)
    first = store.scans.progress(scan)
    assert (first.phase, first.chunks, first.rate, first.eta) == ("scanning", {"pending": 4}, None, None)
    for number in range(2):
        clock.seconds += 30
        chunk = store.chunks.claim(scan)[0]
        with store.llm.call("m", purpose="analysis", chunk=chunk) as call:
            call.response, call.prompt_tokens, call.completion_tokens, call.cost = "[]", 100, 20, 0.25
        store.chunks.complete(chunk, drafts=[DRAFT] if number else [])
    store.chunks.claim(scan)
    seen = store.scans.progress()
    assert (seen.scan, seen.status, seen.phase) == (scan.id, "running", "scanning")
    assert seen.chunks == {"done": 2, "pending": 1, "running": 1} and seen.drafts == {"pending": 1}
    assert (seen.calls, seen.tokens, seen.cost) == (2, 240, 0.5)
    assert seen.rate == pytest.approx(2) and seen.eta == pytest.approx(60)  # two in a minute, two are left
    clock.seconds += 60  # nothing was done since
    later = store.scans.progress(scan)
    assert later.rate == pytest.approx(1) and later.eta == pytest.approx(120)
    store.scans.pause(scan, reason="night")
    assert store.scans.progress(scan).error == "night"
    clock.seconds += 30_000
    store.scans.resume(scan)
    assert store.scans.progress(scan).rate is None  # of before the night nothing is known
    clock.seconds = -50_000  # somebody sets the clock
    assert (store.scans.progress(scan).rate or 1) > 0


def test_progress_of_a_scan_that_was_only_recorded(store: Store, root: Path) -> None:
    scan = record(store, root)
    progress = store.scans.progress(scan)
    assert (progress.status, progress.chunks, progress.findings, progress.cost) == ("completed", {}, 0, 0)
    with pytest.raises(NotFound):
        store.scans.progress(99)


@pytest.mark.parametrize("analyzed", [False, True])
def test_progress_and_state_read_no_table_through(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, analyzed: bool
) -> None:
    scan = begin(store, root)
    scan_all(store, scan)
    verify_all(store, scan)
    if analyzed:
        store.database.execute_sql("ANALYZE")
    database = store.database
    real, said = type(database).execute_sql, []

    def watched(self: Any, sql: str, params: Any = None) -> Any:
        said.append((sql, params))
        return real(self, sql, params)

    monkeypatch.setattr(type(database), "execute_sql", watched)
    store.scans.progress(scan)
    for stage in (store.chunks, store.drafts, store.verified):
        stage.state(scan)
    monkeypatch.undo()
    assert len(said) < 20
    big = "chunk_work|draft_findings|verified_findings|findings|model_calls|scan_files|chunk_facts|votes"
    for sql, params in said:
        for row in real(database, "EXPLAIN QUERY PLAN " + sql, params).fetchall():
            assert not re.match(rf"SCAN ({big})\b", row[-1]), (sql, row[-1])


# Removing and recording ---------------------------------------------------------------------------------------------


def test_removing_a_scan_takes_its_analysis_with_it(store: Store, root: Path) -> None:
    kept, scan = through(store, root), begin(store, root)
    analyzer = store.llm.analyzer("m", prompt="p")
    chunk = store.chunks.claim(scan)[0]
    assert store.llm.ask(analyzer, chunk, lambda: "paid") == "paid"
    store.chunks.complete(chunk, drafts=[DRAFT], analyzer=analyzer)
    (draft,) = store.drafts.claim(scan)
    store.drafts.record_votes(draft, [{"model": m, "decision": "verified"} for m in ("m", "n")])
    enrich_all(store, scan)
    others = {table: store.database.execute_sql(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    removed = store.scans.remove(scan)
    assert removed == {  # no facts: the other scan has the same files
        "scans": 1, "scan_files": 4, "scan_configs": 1, "chunk_work": 4, "draft_findings": 1, "votes": 2,
        "verified_findings": 1, "sightings": 1, "model_calls": 1,
    }  # fmt: skip
    left = {table: store.database.execute_sql(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    assert {table: others[table] - left[table] for table in TABLES} == {
        "chunk_work": 4, "draft_findings": 1, "votes": 2, "verified_findings": 1, "findings": 0, "model_calls": 1,
        "analysis_cache": 0,
    }  # fmt: skip
    counts = "SELECT count(*) FROM work_counts WHERE scan_id = ?"
    assert store.database.execute_sql(counts, (scan.id,)).fetchone() == (0,)
    assert where(store, kept) == ("completed", "completed") and len(store.findings.list(kept)) == 1
    again = begin(store, root)
    same = next(row for row in store.chunks.list(again) if row.file_path == chunk.file_path)
    assert store.llm.answer(analyzer, same) == "paid"
    with pytest.raises(NotFound):
        store.chunks.claim(scan)


TABLES = ("chunk_work", "draft_findings", "votes", "verified_findings", "findings", "model_calls", "analysis_cache")


def test_recording_while_another_scan_is_analysed(store: Store, root: Path) -> None:
    scan = begin(store, root)
    chunk = store.chunks.claim(scan)[0]
    (root / "a.py").write_text("a = 2\n")
    other = record(store, root)
    assert other.status == "completed" and where(store, scan) == ("running", "scanning")
    store.chunks.complete(chunk, drafts=[DRAFT])
    scan_all(store, scan, drafts=0)
    assert store.chunks.state(scan).done == 4 and where(store, scan) == ("running", "verifying")
    assert store.chunks.state(other)[:4] == (0, 0, 0, 0)


def test_a_file_that_is_recorded_anew_has_new_work(store: Store) -> None:
    scan = store.scans.add("by hand")
    for name in "ab":
        store.symbols.record_file(scan, f"{name}.c", f"{name * 32}", line_count=1)
    scan = store.scans.analyze(store.scans.finish(scan))
    rows = store.chunks.claim(scan, limit=9)
    for row in rows:
        store.chunks.complete(row, drafts=[DRAFT])
    verify_all(store, scan, "rejected")
    before = store.chunks.state(scan).done
    assert before == len(rows) and where(store, scan) == ("completed", "completed")
    store.symbols.record_file(scan, "b.c", "c" * 32, line_count=3)
    assert store.chunks.state(scan).done == sum(row.file_path == "a.c" for row in rows)
    assert all(row.chunk_id is None for row in store.drafts.list(scan) if row.file_path == "b.c")
    store.scans.analyze(store.scans.finish(scan))
    assert set(paths(store.chunks.claim(scan, limit=9))) <= {"b.c"}


# Chunks and their texts ---------------------------------------------------------------------------------------------


def test_chunks_joined_are_the_files(store: Store) -> None:
    here = Path(__file__).parents[1]
    scan = store.scans.record(here, jobs=1, include=["test_c*.py"])
    files: dict[str, list[str]] = {}
    for chunk in store.chunks.list(scan):
        files.setdefault(chunk.file_path, []).append(store.chunks.text(chunk))
    assert len(files) > 10 and any(len(texts) > 20 for texts in files.values())
    for path, texts in files.items():
        assert "\n".join(texts).rstrip("\n") == (here / path).read_text(encoding="utf-8").rstrip("\n"), path


def test_the_text_of_a_chunk_that_is_there_no_more(store: Store, root: Path, tmp_path: Path) -> None:
    (root / "long.py").write_text(FUNCTIONS)
    scan = begin(store, root)
    row = store.chunks.list(scan, file="a.py")[0]
    assert store.chunks.text(row) == store.chunks.text(row.id) == "import os\na = os.environ\n".rstrip("\n")
    (root / "a.py").write_text("import sys\n")
    with pytest.raises(NotFound, match=f"has changed since scan {scan.id}; scan it again"):
        store.chunks.text(row)
    (root / "a.py").unlink()
    with pytest.raises(NotFound, match="cannot be read"):
        store.chunks.text(row)
    first, second = store.chunks.list(scan, file="long.py")
    (root / "long.py").write_text(FUNCTIONS.replace("return 29 + 1", "return 0"))  # in the second
    assert store.chunks.text(first) in FUNCTIONS
    with pytest.raises(NotFound, match="has changed"):
        store.chunks.text(second)
    root.rename(tmp_path / "moved")
    with pytest.raises(NotFound):
        store.chunks.text(first)
    assert store.chunks.text(first, root=tmp_path / "moved") in FUNCTIONS


FUNCTIONS = "".join(
    f"def {name}(x):\n" + "".join(f"    x = x + {n}\n" for n in range(28)) + f"    return {n} + 1\n\n"
    for name, n in (("one", 28), ("two", 29))
)


# Answers that were paid for -----------------------------------------------------------------------------------------


def draft_at(line: int, title: str = "Sum") -> dict[str, Any]:
    return {**DRAFT, "title": title, "line_number": line, "end_line": line + 1}


def test_an_unchanged_tree_costs_nothing(store: Store, root: Path) -> None:
    analyzer = store.llm.analyzer("m", prompt="p")
    first = begin(store, root)
    assert store.chunks.reuse(first, analyzer) == 0
    scan_all(store, first, drafts=2, analyzer=analyzer)
    second = begin(store, root)
    assert store.chunks.reuse(second, store.llm.analyzer("n", prompt="p")) == 0
    assert store.chunks.reuse(second, store.llm.analyzer("m", prompt="q")) == 0
    assert store.chunks.reuse(second, analyzer) == 4 and store.chunks.reuse(second, analyzer) == 0
    assert store.chunks.state(second)[:4] == (0, 0, 0, 4) and store.scans.progress(second).calls == 0
    texts = ("file_path", "title", "severity", "line_number", "source_models", "vote_count", "status")
    shown = [[[getattr(row, name) for name in texts] for row in store.drafts.list(scan)] for scan in (first, second)]
    assert shown[0] == shown[1] and len(shown[0]) == 2
    assert {row.attempt for row in store.chunks.list(second)} == {0}
    assert where(store, second)[1] == "verifying"
    (third,) = [begin(store, root)]
    assert store.llm.remove_answers(analyzer).total > 0 and store.chunks.reuse(third, analyzer) == 0


def test_only_the_changed_chunk_is_claimed_and_moved_ones_keep_their_drafts(store: Store, root: Path) -> None:
    (root / "long.py").write_text(FUNCTIONS)
    analyzer = store.llm.analyzer("m", prompt="p")
    first = begin(store, root)
    for chunk in store.chunks.work(first, wait=False):
        inside = chunk.file_path == "long.py"
        drafts = [draft_at(chunk.start_line + 3, f"in {chunk.symbol_name}")] if inside else []
        store.chunks.complete(chunk, drafts=drafts, analyzer=analyzer)
    (root / "long.py").write_text("def zero():\n    return 0\n" + FUNCTIONS)
    second = begin(store, root)
    assert store.chunks.reuse(second, analyzer) == 6
    assert [row.symbol_name for row in store.chunks.claim(second, limit=9)] == ["zero"]
    before, after = (
        {row.title: (row.line_number, row.end_line) for row in store.drafts.list(scan)} for scan in (first, second)
    )
    assert len(after) == 2
    assert after == {title: (line + 2, end + 2) for title, (line, end) in before.items()}
    chunks = {row.id: row.symbol_name for row in store.chunks.list(second)}
    assert {f"in {chunks[row.chunk_id]}" for row in store.drafts.list(second)} == set(after)


def test_what_is_found_again_is_merged_with_what_a_rule_found(store: Store, root: Path) -> None:
    analyzer = store.llm.analyzer("m", prompt="p")
    first = begin(store, root)
    for chunk in store.chunks.work(first, wait=False):
        drafts = [DRAFT] if chunk.file_path == "a.py" else []
        store.chunks.complete(chunk, drafts=drafts, analyzer=analyzer)
    second = begin(store, root)
    near = {**DRAFT, "file_path": "a.py", "line_number": 1, "title": "query from INPUT!", "severity": "critical"}
    (known,) = store.drafts.add(second, [near], source="rule")
    assert store.chunks.reuse(second, analyzer) == 4
    (row,) = store.drafts.list(second)
    assert (row.id, row.source_models, row.vote_count) == (known.id, ["rule", "m"], 2)
    assert (row.severity, row.line_number) == ("critical", 1)


@pytest.mark.parametrize("how", ["pause", "cancel"])
def test_nothing_is_reused_in_a_scan_that_was_stopped(store: Store, root: Path, how: str) -> None:
    analyzer = store.llm.analyzer("m", prompt="p")
    scan_all(store, begin(store, root), drafts=0, analyzer=analyzer)
    scan = begin(store, root)
    getattr(store.scans, how)(scan)
    assert store.chunks.reuse(scan, analyzer) == 0
    store.scans.resume(scan)
    claimed = store.chunks.claim(scan)[0]
    assert store.chunks.reuse(scan, analyzer) == 3  # what is out stays with its worker
    store.chunks.complete(claimed, analyzer=analyzer)
