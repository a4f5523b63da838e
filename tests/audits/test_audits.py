"""Audits: what their docstrings promise, step by step, and a trail that nobody can rewrite."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import textwrap
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stressing import Program

from scanstore.accounts.models import User
from scanstore.audits.audits import Analysis, AnalysisFinding, AuditEvent, AuditStats, Task
from scanstore.audits.policies import SEVERITIES, STANDARD, AuditJudgement, AuditPolicy, Deductions, judged
from scanstore.db.rules import insert_row
from scanstore.db.uuids import uuid7, uuid7s
from scanstore.db.values import utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, LeaseLost, NotFound, WrongStore
from scanstore.leases import under_way
from scanstore.store import Store

NOBODY = str(uuid.UUID(int=7))
ANALYSIS: dict[str, Any] = {
    "equipment_type": "PANEL",
    "test_type": "grounding",
    "equipment_tag": "PNL-01",
    "confidence_score": 0.9,
    "extraction_result": {"points": [1, 2.5, None, "é"]},
    "validation_result": ["GND-01"],
}


def finding(severity: str = "minor", **more: Any) -> dict[str, Any]:
    return {"severity": severity, "rule_id": "GND-01", "message": "too much resistance", **more}


@pytest.fixture
def user(store: Store) -> User:
    return User.create(email="ann@example.org", email_key="ann@example.org")


@pytest.fixture
def task(store: Store, user: User) -> Task:
    """An audit that waits."""
    return store.audits.add(user, "report.pdf", 1234)


def claimed(store: Store, **options: Any) -> Task:
    (row,) = store.audits.claim(**{"worker": "w", **options})
    return row


def actions(store: Store, audit: Any) -> list[str]:
    return [event.action for event in store.audits.trail(audit, per_page=1000).items]


def over_lease(store: Store, row: Task) -> None:
    """Let a lease have run out."""
    store.database.execute_sql(
        "UPDATE audit_tasks SET lease_until = '2020-01-01T00:00:00.000Z' WHERE id = ?", (row.id,)
    )


def rows(store: Store) -> dict[str, int]:
    names = ("audit_tasks", "audit_analyses", "audit_findings", "audit_events")
    return {n: store.database.execute_sql(f"SELECT count(*) FROM {n}").fetchone()[0] for n in names}


def process(db: Path, code: str, *args: str) -> Program:
    """Run code in a process of its own, with the store open as `store`."""
    head = "import os, signal, sys, time\nfrom scanstore import Store\nstore = Store(sys.argv[1])\n"
    return Program(head + textwrap.dedent(code), db, *args, stdout=subprocess.PIPE)


# Adding ---------------------------------------------------------------------------------------------------------------


def test_add_and_the_defaults(store: Store, user: User) -> None:
    row = store.audits.add(user, " report.pdf ", 2**40, file_path="2026/report.pdf")
    assert (row.status, row.original_filename, row.file_path, row.file_size) == (
        "queued",
        "report.pdf",
        "2026/report.pdf",
        2**40,
    )
    assert (row.error_message, row.started_at, row.completed_at, row.analysis) == (None,) * 4
    assert uuid.UUID(row.id).version == 7
    for key in (row, row.id, uuid.UUID(row.id), row.id.upper()):
        assert store.audits.get(key).id == row.id
    assert (store.audits.find(NOBODY), store.audits.find(row)) == (None, row)
    (event,) = store.audits.trail(row).items
    assert (event.action, event.by, event.analysis_id) == ("created", "ann@example.org", None)
    assert event.detail == {"original_filename": "report.pdf", "file_size": 2**40}
    assert store.audits.trail(store.audits.add(user.id, "b.pdf", 0, by="importer")).items[0].by == "importer"
    assert store.check() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": "ann"}, "'ann' is not a user"),
        ({"original_filename": " "}, "original_filename is ' '"),
        ({"original_filename": "x" * 256}, "original_filename has 256 characters; give at most 255"),
        ({"original_filename": b"x"}, "original_filename is b'x'"),
        ({"original_filename": "a\0b"}, "original_filename is"),
        ({"file_size": -1}, "file_size is -1"),
        ({"file_size": 1.5}, "file_size is 1.5"),
        ({"file_size": True}, "file_size is True"),
        ({"file_size": 2**63}, "file_size is"),
        ({"file_path": ""}, "file_path is ''"),
        ({"file_path": "x" * 501}, "file_path has 501"),
        ({"priority": 2**31}, "priority is"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"queue": ""}, "queue is ''"),
        ({"by": ""}, "by is ''"),
    ],
)
def test_what_cannot_be_added(store: Store, user: User, options: dict[str, Any], message: str) -> None:
    options = {"user": user, "original_filename": "a.pdf", "file_size": 1, **options}
    with pytest.raises(InvalidArgument, match=message):
        store.audits.add(**options)
    assert sum(rows(store).values()) == 0


def test_a_user_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound, match=f"no user {NOBODY}"):
        store.audits.add(NOBODY, "a.pdf", 1)
    assert sum(rows(store).values()) == 0


@pytest.mark.parametrize("verb", ["get", "remove", "heartbeat", "release", "analysis", "findings", "trail"])
def test_an_audit_that_is_not_there(store: Store, verb: str) -> None:
    with pytest.raises(NotFound, match=f"audit {NOBODY}"):
        getattr(store.audits, verb)(NOBODY)
    with pytest.raises(InvalidArgument, match="'x' is not an"):
        getattr(store.audits, verb)("x")


def test_a_user_with_audits_cannot_be_deleted(store: Store, user: User, task: Task) -> None:
    with pytest.raises(Conflict, match="1 rows of audit_tasks point at it"):
        user.delete_instance()
    assert store.audits.list() == [task]


def test_rows_lead_to_each_other_in_both_directions(store: Store, user: User, task: Task) -> None:
    analysis = store.audits.complete(task, analysis=ANALYSIS, findings=[finding()]).analysis
    task = store.audits.get(task)
    assert list(user.tasks) == [task] and task.user == user
    assert task.analysis == analysis and analysis.task == task
    (one,) = analysis.findings
    assert one.analysis == analysis
    assert [event.action for event in task.events.order_by(AuditEvent.id)] == ["created", "completed"]
    (event,) = analysis.events
    assert event.task == task and event.analysis == analysis


# Working --------------------------------------------------------------------------------------------------------------


def test_claims_take_the_most_pressing_then_the_oldest(store: Store, user: User) -> None:
    first, second = (store.audits.add(user, name, 1) for name in ("1", "2"))
    pressing = store.audits.add(user, "3", 1, priority=5)
    other = store.audits.add(user, "4", 1, queue="other")
    assert [row.id for row in store.audits.claim(limit=2, worker="w")] == [pressing.id, first.id]
    row = claimed(store)
    assert (row.id, row.status, row.worker, row.attempt) == (second.id, "processing", "w", 1)
    assert row.started_at is not None and row.lease_until > utcnow() + timedelta(minutes=9)
    assert store.audits.claim("default") == []
    assert claimed(store, scope="other").id == other.id
    assert actions(store, second) == ["created", "claimed"]
    assert store.check() == []


def test_the_state_of_the_queue(store: Store, user: User) -> None:
    assert store.audits.state().finished
    for n in range(5):
        store.audits.add(user, str(n), 1, queue="other" if n == 4 else "default")
    a, b, c = store.audits.claim(limit=3, worker="w")
    store.audits.complete(a, analysis=ANALYSIS)
    store.audits.fail(b, "later")
    state = store.audits.state("default")
    assert (state.ready, state.delayed, state.leased, state.done, state.failed) == (1, 1, 1, 1, 0)
    assert state.next_at is not None and not state.finished
    over_lease(store, c)
    assert store.audits.state().ready == 3  # what ran out may be claimed, and the other queue counts
    store.audits.cancel(c, by="ann")
    assert store.audits.state().skipped == 1


def test_an_owner_keeps_gives_back_or_fails(store: Store, task: Task) -> None:
    row = claimed(store)
    assert store.audits.heartbeat(row, lease=3600).lease_until > utcnow() + timedelta(minutes=59)
    store.audits.release(row)
    again = claimed(store)
    assert (again.id, again.retry_count, again.attempt) == (row.id, 0, 2)
    with pytest.raises(LeaseLost):  # the claim before
        store.audits.fail(row, "late")
    assert store.audits.fail(again, ValueError("bad page")).status == "queued"
    waiting = store.audits.get(row)
    assert (waiting.status, waiting.retry_count, waiting.error_message) == ("queued", 1, "ValueError: bad page")
    assert waiting.next_retry_at > utcnow() and store.audits.claim() == []
    assert actions(store, task) == ["created", "claimed", "released", "claimed", "failed"]
    assert store.audits.trail(task).items[-1].detail == {"error": "ValueError: bad page", "status": "queued"}
    assert store.check() == []


def test_it_fails_for_good_and_is_tried_again(store: Store, user: User) -> None:
    task = store.audits.add(user, "a.pdf", 1, max_retries=0)
    assert store.audits.fail(claimed(store), "no text in it").status == "failed"
    row = store.audits.get(task)
    assert (row.status, row.error_message) == ("failed", "no text in it") and row.completed_at is not None
    with pytest.raises(IllegalMove, match="is failed and cannot be completed; retry it first"):
        store.audits.complete(task, analysis=ANALYSIS)
    (row,) = store.audits.retry(task, by="bob")
    assert (row.status, row.retry_count, row.completed_at, row.error_message) == ("queued", 0, None, None)
    with pytest.raises(IllegalMove, match="is queued and cannot become queued; it waits"):
        store.audits.retry(task, by="bob")
    store.audits.complete(claimed(store), analysis=ANALYSIS)
    assert actions(store, task) == ["created", "claimed", "failed", "retried", "claimed", "completed"]
    retried = store.audits.trail(task).items[3]
    assert (retried.by, retried.detail) == ("bob", {"error": "no text in it"})
    assert store.audits.trail(task).items[2].analysis_id is None
    assert store.check() == []


def test_cancelling(store: Store, user: User) -> None:
    waits, runs, over = (store.audits.add(user, name, 1) for name in "abc")
    store.audits.complete(over, analysis=ANALYSIS)
    store.audits.cancel(waits, by="ann")
    row = claimed(store)
    assert row.id == runs.id
    assert store.audits.cancel(runs, by="ann", reason="wrong file").status == "cancelled"
    for late in (
        lambda: store.audits.heartbeat(row),
        lambda: store.audits.fail(row, "x"),
        lambda: store.audits.release(row),
    ):
        with pytest.raises(LeaseLost, match="is cancelled"):
            late()
    with pytest.raises(IllegalMove, match="is cancelled and cannot be completed"):
        store.audits.complete(row, analysis=ANALYSIS)
    for key in (waits, over):
        with pytest.raises(IllegalMove, match="cannot become cancelled"):
            store.audits.cancel(key, by="ann")
    assert store.audits.trail(runs).items[-1].detail == {"reason": "wrong file"}
    assert store.audits.claim() == [] and store.check() == []


def test_a_killed_worker_is_on_the_trail(store: Store, user: User, db_path: Path) -> None:
    task = store.audits.add(user, "a.pdf", 1, max_retries=0, max_lost=1)
    for expected in ("lost", "failed"):
        worker = process(
            db_path, "print(store.audits.claim(worker='doomed')[0].id, flush=True); time.sleep(60)"
        )  # fmt: skip
        assert worker.stdout is not None and worker.stdout.readline().strip() == task.id
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        assert sum(store.audits.recover()) == 1
        event = store.audits.trail(task).items[-1]
        assert (event.action, event.detail["worker"], event.detail["error"]) == (
            expected,
            "doomed",
            "its process ended",
        )
    assert store.audits.get(task).status == "failed"
    assert store.audits.retry(task, by="ann")[0].status == "queued"
    over_lease(store, claimed(store))
    assert claimed(store, worker="other").worker == "other"  # by the claim itself
    assert actions(store, task)[-3:] == ["claimed", "lost", "claimed"]
    assert store.check() == []


def test_opening_a_store_recovers(db_path: Path, store: Store, task: Task) -> None:
    over_lease(store, claimed(store))
    with Store(db_path) as again:
        assert again.recovered is not None and again.recovered.waiting == 1
        assert actions(again, task.id)[-1] == "lost"


def test_no_audit_is_claimed_twice(store: Store, user: User, db_path: Path) -> None:
    for n in range(40):
        store.audits.add(user, str(n), 1)
    code = """
    while rows := store.audits.claim(worker=sys.argv[2], limit=2):
        for row in rows:
            store.audits.complete(row, analysis={"equipment_type": "x", "test_type": "y"})
            print(row.id)
    """
    workers = [process(db_path, code, name) for name in ("a", "b", "c")]
    done = Counter(line for worker in workers for line in worker.communicate(timeout=60)[0].split())
    assert set(done.values()) == {1} and len(done) == 40
    assert rows(store) == {"audit_tasks": 40, "audit_analyses": 40, "audit_findings": 0, "audit_events": 120}
    assert store.check() == []


# Completing -----------------------------------------------------------------------------------------------------------


def test_complete_writes_everything(store: Store, task: Task) -> None:
    evidence: list[Any] = [{"page": 3, "box": [0.1, 2]}, None, "text", 0, False, [], {}, {"deep": {"é": "\ud83d"}}]
    found = [finding("Minor", evidence=each, remediation=None if n else "clean it") for n, each in enumerate(evidence)]
    row = claimed(store)
    analysis = store.audits.complete(row, analysis=ANALYSIS, findings=found).analysis
    for read in (analysis, Analysis.get_by_id(analysis.id), store.audits.analysis(task)):
        assert read.to_dict() == analysis.to_dict()
        assert {name: getattr(read, name) for name in ANALYSIS} == ANALYSIS
    assert (analysis.verdict, analysis.machine_verdict, analysis.compliance_score, analysis.policy) == (
        "review",
        "review",
        84.0,
        "deductions",
    )
    assert (analysis.reviewed_by, analysis.reviewed_at, analysis.review_reason) == (None,) * 3
    kept = store.audits.findings(analysis)
    assert [each.evidence for each in kept] == evidence
    assert [each.ordinal for each in kept] == list(range(1, 9))
    assert AnalysisFinding.select().where(AnalysisFinding.evidence.is_null()).count() == 1  # no JSON null
    assert (kept[0].severity, kept[0].remediation, kept[1].remediation) == ("minor", "clean it", None)
    assert [uuid.UUID(each.id).version for each in kept] == [7] * 8
    over = store.audits.get(task)
    assert (over.status, over.lease_until, over.error_message) == ("completed", None, None)
    event = store.audits.trail(task).items[-1]
    assert (event.action, event.by, event.analysis_id) == ("completed", "w", analysis.id)
    assert event.detail == {"verdict": "review", "compliance_score": 84.0, "policy": "deductions", "findings": 8}
    assert store.audits.findings(task, severity="critical") == []
    assert len(store.audits.findings(task.id, severity="MINOR")) == 8
    assert store.audits.analyses([task, NOBODY]) == {task.id: analysis}
    assert store.check() == []


def test_completing_twice_is_harmless_and_a_second_analysis_is_refused(store: Store, task: Task) -> None:
    found = [finding(evidence={"a": 1, "b": 2}), finding("major")]
    analysis = store.audits.complete(claimed(store), analysis=ANALYSIS, findings=found).analysis
    before = rows(store)
    same = [finding(evidence={"b": 2, "a": 1}), finding("Major", remediation=None)]
    for again in (
        lambda: store.audits.complete(task, analysis=ANALYSIS, findings=same),
        lambda: store.audits.complete(task.id, analysis=dict(reversed(ANALYSIS.items())), findings=iter(found)),
        lambda: store.audits.complete(task, analysis=ANALYSIS, findings=found, worker="another"),
    ):
        assert again().analysis.to_dict() == analysis.to_dict()
    for other in (
        {"analysis": ANALYSIS, "findings": []},
        {"analysis": ANALYSIS, "findings": found[::-1]},
        {"analysis": ANALYSIS, "findings": [finding(evidence={"a": True, "b": 2}), found[1]]},
        {"analysis": ANALYSIS, "findings": [finding(), found[1]]},
        {"analysis": {**ANALYSIS, "confidence_score": 0.91}, "findings": found},
        {"analysis": {**ANALYSIS, "extraction_result": None}, "findings": found},
        {"analysis": {**ANALYSIS, "equipment_tag": None}, "findings": found},
    ):
        with pytest.raises(IllegalMove, match=f"has a different analysis already, {analysis.id}; add the document"):
            store.audits.complete(task, **other)
    assert rows(store) == before and store.check() == []


def test_who_may_complete(store: Store, user: User) -> None:
    nobodys, mine = (store.audits.add(user, name, 1) for name in "ab")
    with pytest.raises(LeaseLost, match="is waiting, so w cannot"):  # says that it has it, and has not
        store.audits.complete(nobodys, analysis=ANALYSIS, worker="w")
    over = store.audits.complete(nobodys, analysis=ANALYSIS)
    assert over.status == "completed" and over.started_at == over.completed_at is not None
    row = claimed(store)
    assert row.id == mine.id
    with pytest.raises(LeaseLost, match="is leased to w"):
        store.audits.complete(mine.id, analysis=ANALYSIS, worker="other")
    over_lease(store, row)
    store.audits.recover()
    with pytest.raises(LeaseLost, match="is waiting"):  # it waits again, and only its owner may still complete it
        store.audits.complete(row.id, analysis=ANALYSIS)
    again = claimed(store)
    with pytest.raises(LeaseLost, match="later claim"):
        store.audits.complete(row, analysis=ANALYSIS)
    over_lease(store, again)
    store.audits.recover()
    assert Analysis.select().where(Analysis.task == mine).count() == 0
    assert store.check() == []


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        ([1], "analysis is \\[1\\]; give a mapping"),
        ({"equipment_type": None}, "equipment_type is None"),
        ({"equipment_type": "x" * 51}, "equipment_type has 51 characters; give at most 50"),
        ({"test_type": ""}, "test_type is ''"),
        ({"equipment_tag": "x" * 101}, "equipment_tag has 101"),
        ({"confidence_score": 1.2}, "confidence_score is 1.2; it must be a number from 0 to 1, or None"),
        ({"confidence_score": -0.1}, "confidence_score is -0.1"),
        ({"confidence_score": float("nan")}, "confidence_score is nan"),
        ({"confidence_score": True}, "confidence_score is True"),
        ({"confidence_score": "0.5"}, "confidence_score is '0.5'"),
        ({"extraction_result": {"x": float("inf")}}, "extraction_result: a value cannot be stored as JSON"),
        ({"validation_result": object()}, "validation_result: a value cannot be stored as JSON"),
        ({"compliance_score": 101}, "compliance_score is set by the policy"),
        ({"verdict": "approved"}, "verdict is set by the policy; leave it out, or give another policy: policy="),
        ({"colour": "red"}, "analysis has a key 'colour'; it may have confidence_score, "),
    ],
)
def test_an_analysis_that_is_refused(store: Store, task: Task, analysis: Any, message: str) -> None:
    analysis = {**ANALYSIS, **analysis} if isinstance(analysis, dict) else analysis
    before = rows(store)
    with pytest.raises(InvalidArgument, match=message):
        store.audits.complete(task, analysis=analysis)
    assert rows(store) == before and store.audits.get(task).status == "queued"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("x", "findings is 'x'; give a list of mappings"),
        (finding(), "findings is {"),
        (3, "findings is 3"),
        ([finding(), "x"], "finding 2 is 'x'; give a mapping"),
        ([finding("awful")], "finding 1: severity is 'awful'; it must be one of: critical, major, minor, info"),
        ([finding(None)], "finding 1: severity is None"),  # type: ignore[arg-type]
        ([finding(["minor"])], "finding 1: severity is \\['minor'\\]"),  # type: ignore[arg-type]
        ([finding(rule_id="x" * 101)], "finding 1: rule_id has 101"),
        ([finding(rule_id=None)], "finding 1: rule_id is None"),
        ([finding(message="\n")], "finding 1: message is"),
        ([finding(remediation=5)], "finding 1: remediation is 5"),
        ([finding(), finding(evidence={1, 2})], "finding 2: evidence: a value cannot be stored as JSON"),
        ([finding(line=3)], "finding 1: it has a key 'line'; it may have evidence, message, "),
    ],
)
def test_findings_that_are_refused(store: Store, task: Task, found: Any, message: str) -> None:
    before = rows(store)
    with pytest.raises(InvalidArgument, match=message):
        store.audits.complete(task, analysis=ANALYSIS, findings=found)
    assert rows(store) == before and store.audits.get(task).status == "queued"


def test_a_process_that_is_killed_while_it_completes_leaves_nothing(store: Store, task: Task, db_path: Path) -> None:
    code = """
    from scanstore.audits.audits import Audits
    Audits._tell_ = Audits._tell
    def last(self, *args, **detail):
        Audits._tell_(self, *args, **detail)
        if args[1] == "completed":
            os.kill(os.getpid(), signal.SIGKILL)
    Audits._tell = last
    (row,) = store.audits.claim()
    store.audits.complete(row, analysis={"equipment_type": "x", "test_type": "y"},
                          findings=[{"severity": "minor", "rule_id": "a", "message": "b"}] * 50)
    """
    worker = process(db_path, code)
    assert worker.wait(timeout=30) == -signal.SIGKILL
    assert rows(store) == {"audit_tasks": 1, "audit_analyses": 0, "audit_findings": 0, "audit_events": 2}
    assert store.audits.complete(claimed(store), analysis=ANALYSIS).analysis.verdict == "approved"
    assert actions(store, task) == ["created", "claimed", "lost", "claimed", "completed"]
    assert store.check() == []


def test_a_callers_transaction_takes_it_back(store: Store, task: Task) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.audits.complete(task, analysis=ANALYSIS, findings=[finding()])
        _ = 1 / 0
    assert rows(store) == {"audit_tasks": 1, "audit_analyses": 0, "audit_findings": 0, "audit_events": 1}


# Judging --------------------------------------------------------------------------------------------------------------


@given(
    severities=st.lists(st.sampled_from(SEVERITIES), max_size=30),
    confidence=st.none() | st.floats(0, 1) | st.sampled_from([0.7, 0.6999999]),
)
def test_the_usual_policy(severities: list[str], confidence: float | None) -> None:
    count = Counter(severities)
    score = max(0, 100 - 25 * count["critical"] - 10 * count["major"] - 2 * count["minor"])
    if count["critical"]:
        verdict = "rejected"
    elif score < 95 or confidence is None or confidence < 0.7:
        verdict = "review"
    else:
        verdict = "approved"
    (found, name) = judged(STANDARD, [finding(severity) for severity in severities], confidence)
    assert (found, name) == (AuditJudgement(verdict, score), "deductions")


@pytest.mark.parametrize(
    ("found", "confidence", "verdict", "score"),
    [
        ([], 0.7, "approved", 100),
        ([], 0.69, "review", 100),
        ([], None, "review", 100),
        (["minor", "minor", "info"], 1, "approved", 96),
        (["minor"] * 3, 1, "review", 94),
        (["major"] * 11, 1, "review", 0),
        (["critical"], 1, "rejected", 75),
        (["critical"] * 5, 0.1, "rejected", 0),
    ],
)
def test_the_verdict_is_stored(
    store: Store, task: Task, found: list[str], confidence: float | None, verdict: str, score: float
) -> None:
    columns = {**ANALYSIS, "confidence_score": confidence}
    analysis = store.audits.complete(task, analysis=columns, findings=[finding(each) for each in found]).analysis
    read = store.audits.analysis(analysis)
    assert (read.verdict, read.machine_verdict, read.compliance_score) == (verdict, verdict, score)


def test_enough_is_enough() -> None:
    policy = Deductions(minor=5)
    assert judged(policy, [finding()], 0.7)[0] == AuditJudgement("approved", 95)
    assert judged(policy, [finding(), finding()], 0.7)[0] == AuditJudgement("review", 90)


class Lenient(NamedTuple):
    says: Any = AuditJudgement("approved", 7)
    name: Any = "lenient"

    def judge(self, findings: Sequence[Mapping[str, Any]], confidence: float | None) -> AuditJudgement:
        assert all(set(each) == {"severity", "rule_id", "message", "evidence", "remediation"} for each in findings)
        return AuditJudgement(*self.says)


def test_another_policy(store: Store, user: User) -> None:
    made = []
    for policy in (Lenient(), Deductions(critical=1, minor=7.5)):
        task = store.audits.add(user, "a", 1)
        row = store.audits.complete(task, analysis=ANALYSIS, findings=[finding("MINOR")], policy=policy).analysis
        made.append((row.verdict, row.compliance_score, row.policy))
    assert made == [("approved", 7.0, "lenient"), ("review", 92.5, "deductions(critical=1, minor=7.5)")]
    protocol: AuditPolicy = Lenient()
    assert protocol.name == "lenient"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (None, "policy is None; give an object with a name and a method judge"),
        (Lenient(name=""), "policy is Lenient"),
        (Lenient(says=("fine", 1)), "policy lenient says 'fine'; it must be one of: approved, review, rejected"),
        (Lenient(says=("review", 101)), "policy lenient gives a score of 101; it must be a number from 0 to 100"),
        (Lenient(says=("review", -1)), "score of -1"),
        (Lenient(says=("review", float("nan"))), "score of nan"),
        (Lenient(says=("review", None)), "score of None"),
        (Deductions(minor=-1), "score of 101"),
    ],
)
def test_a_policy_that_is_none(store: Store, task: Task, policy: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        store.audits.complete(task, analysis=ANALYSIS, findings=[finding()], policy=policy)
    assert store.audits.get(task).status == "queued"


def test_the_database_knows_the_ranges(store: Store, task: Task) -> None:
    analysis = store.audits.complete(task, analysis=ANALYSIS, findings=[finding()]).analysis
    for column, value in (
        ("compliance_score", 100.5), ("confidence_score", 1.2), ("verdict", "'rejected'"), ("verdict", "'fine'"),
        ("reviewed_by", "'ann'"), ("extraction_result", "'{'"), ("equipment_type", "''"),
    ):  # fmt: skip
        with pytest.raises(Conflict, match="outside what that rule allows"):
            store.database.execute_sql(f"UPDATE audit_analyses SET {column} = {value}")
    with pytest.raises(Conflict):
        store.database.execute_sql("UPDATE audit_findings SET severity = 'awful'")
    with pytest.raises(Conflict, match="such a row exists"):
        insert_row(Analysis, task=task, equipment_type="a", test_type="b")
    assert store.audits.analysis(task).to_dict() == analysis.to_dict()


# Reviewing ------------------------------------------------------------------------------------------------------------


def test_a_person_decides_beside_the_machine(store: Store, task: Task) -> None:
    analysis = store.audits.complete(task, analysis=ANALYSIS, findings=[finding("major")]).analysis
    row = store.audits.review(analysis, "Approved", by="ann", reason="measured again")
    assert (row.verdict, row.machine_verdict, row.reviewed_by, row.review_reason) == (
        "approved",
        "review",
        "ann",
        "measured again",
    )
    assert row.reviewed_at is not None and row.compliance_score == 90
    assert store.audits.review(task, "approved", by="ann", reason="measured again").to_dict() == row.to_dict()
    again = store.audits.review(task.id, "rejected", by="bob", reason="the wrong device")
    assert (again.verdict, again.machine_verdict, again.reviewed_by) == ("rejected", "review", "bob")
    told = [(event.by, event.detail) for event in store.audits.trail(analysis).items if event.action == "reviewed"]
    machine = {"machine": "review"}
    assert told == [
        ("ann", {"from": "review", "to": "approved", **machine, "reason": "measured again"}),
        ("bob", {"from": "approved", "to": "rejected", **machine, "reason": "the wrong device"}),
    ]
    assert store.audits.complete(task, analysis=ANALYSIS, findings=[finding("major")]).analysis.verdict == "rejected"
    assert store.check() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reason": ""}, "reason is ''"),
        ({"reason": "  "}, "reason is"),
        ({"reason": None}, "reason is None"),
        ({"by": ""}, "by is ''"),
        ({"verdict": "review"}, "verdict is 'review'; it must be one of: approved, rejected"),
        ({"verdict": None}, "verdict is None"),
    ],
)
def test_a_review_that_is_refused(store: Store, task: Task, options: dict[str, Any], message: str) -> None:
    analysis = store.audits.complete(task, analysis=ANALYSIS, findings=[finding("major")]).analysis
    with pytest.raises(InvalidArgument, match=message):
        store.audits.review(analysis, **{"verdict": "approved", "by": "ann", "reason": "x", **options})
    with pytest.raises(TypeError):
        store.audits.review(analysis, "approved", by="ann")  # type: ignore[call-arg]
    assert store.audits.analysis(task).to_dict() == analysis.to_dict()
    assert actions(store, task) == ["created", "completed"]


@pytest.mark.parametrize(("severity", "machine"), [("critical", "rejected"), ("info", "approved")])
def test_what_the_machine_decided_by_itself_is_final(store: Store, task: Task, severity: str, machine: str) -> None:
    analysis = store.audits.complete(task, analysis=ANALYSIS, findings=[finding(severity)]).analysis
    with pytest.raises(IllegalMove, match=f"was {machine} by policy deductions and cannot be reviewed"):
        store.audits.review(analysis, "approved", by="ann", reason="x")
    assert store.audits.analysis(task).reviewed_by is None


def test_there_is_nothing_to_review_before_it_is_completed(store: Store, task: Task) -> None:
    with pytest.raises(NotFound, match=f"audit {task.id} is queued and has no analysis"):
        store.audits.review(task, "approved", by="ann", reason="x")


# The trail ------------------------------------------------------------------------------------------------------------


def test_the_trail_comes_in_pages(store: Store, task: Task, user: User) -> None:
    store.audits.add(user, "another", 1)
    for _ in range(7):
        store.audits.release(claimed(store))
    whole = store.audits.trail(task, per_page=1000)
    assert (whole.total, len(whole.items), whole.pages) == (15, 15, 1)
    pages = [store.audits.trail(task, page=n, per_page=4) for n in (1, 2, 3, 4, 5)]
    assert [event.id for page in pages for event in page.items] == [event.id for event in whole.items]
    assert [len(page.items) for page in pages] == [4, 4, 4, 3, 0]
    assert {(page.total, page.pages) for page in pages} == {(15, 4)}
    for options in ({"page": 0}, {"per_page": 0}, {"per_page": 1001}, {"page": 1.5}):
        with pytest.raises(InvalidArgument, match=" is "):
            store.audits.trail(task, **options)  # type: ignore[arg-type]


def test_a_page_of_the_trail_reads_only_its_index(store: Store, task: Task) -> None:
    query = AuditEvent.select().where(AuditEvent.task == task.id).order_by(AuditEvent.id).paginate(2, 10)
    sql, values = query.sql()
    plan = [row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert len(plan) == 1 and "USING INDEX ix_audit_events_task_id" in plan[0], plan


FORBIDDEN = {
    "update": "UPDATE audit_events SET by = 'nobody'",
    "update or replace": "UPDATE OR REPLACE audit_events SET id = id + 1",
    "delete": "DELETE FROM audit_events",
    "replace": "REPLACE INTO audit_events (id, task_id, action, by) SELECT id, task_id, 'x', 'x' FROM audit_events",
    "upsert": "INSERT INTO audit_events (id, task_id, action, by) SELECT id, task_id, 'x', 'x' FROM audit_events"
    " WHERE 1 ON CONFLICT DO UPDATE SET action = 'x'",
    "its audit replaced": "REPLACE INTO audit_tasks SELECT * FROM audit_tasks",
    "its audit renamed": "UPDATE audit_tasks SET id = 'x'",
    "another audit put in its place": "UPDATE OR REPLACE audit_tasks SET id = (SELECT max(id) FROM audit_tasks)",
    "its analysis deleted": "DELETE FROM audit_analyses",
}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("recursive", [False, True])
def test_no_statement_changes_the_trail(
    store: Store, task: Task, user: User, db_path: Path, name: str, recursive: bool
) -> None:
    store.audits.complete(task, analysis=ANALYSIS)
    store.audits.add(user, "another", 1)
    events = "SELECT * FROM audit_events ORDER BY id"
    before = store.database.execute_sql(events).fetchall()
    with pytest.raises(Conflict, match="of an audit|an audit cannot be replaced|rows still point at it"):
        store.database.execute_sql(FORBIDDEN[name])
    plain = sqlite3.connect(db_path)  # nor from outside
    plain.executescript(f"PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = {recursive}")
    with pytest.raises(sqlite3.IntegrityError):
        plain.execute(FORBIDDEN[name])
    plain.rollback()
    plain.close()
    assert store.database.execute_sql(events).fetchall() == before
    assert store.check() == []


def test_no_model_changes_the_trail(store: Store, task: Task) -> None:
    event = store.audits.trail(task).items[0]
    event.by = "nobody"
    for change in (
        event.save,
        event.delete_instance,
        AuditEvent.update(detail={}).execute,
        AuditEvent.delete().execute,
        AuditEvent.replace(id=event.id, task=task, action="x", by="y").execute,
    ):
        with pytest.raises(Conflict, match="events of an audit (cannot be changed|cannot be replaced|go only with)"):
            change()
    (kept,) = store.audits.trail(task).items
    assert (kept.by, kept.action) == ("ann@example.org", "created")


def test_the_trail_goes_with_its_audit_only(store: Store, user: User, task: Task) -> None:
    other = store.audits.add(user, "other", 1)
    store.audits.complete(task, analysis=ANALYSIS, findings=[finding()])
    row = claimed(store)
    with pytest.raises(IllegalMove, match="is processing and cannot be removed"):
        store.audits.remove(row)
    assert store.audits.remove(task) == {
        "audit_tasks": 1, "audit_analyses": 1, "audit_findings": 1, "audit_events": 2,
    }  # fmt: skip
    assert rows(store) == {"audit_tasks": 1, "audit_analyses": 0, "audit_findings": 0, "audit_events": 2}
    store.audits.release(row)
    other.delete_instance()
    assert sum(rows(store).values()) == 0
    assert store.check() == []


# Asking ---------------------------------------------------------------------------------------------------------------


def test_lists(store: Store, user: User) -> None:
    bob = User.create(email="bob@example.org", email_key="bob@example.org")
    made = [store.audits.add(whose, str(n), 1) for n, whose in enumerate((user, bob, user, bob))]
    store.audits.complete(made[0], analysis=ANALYSIS)
    store.audits.complete(made[3], analysis=ANALYSIS, findings=[finding("critical")])
    ids = {row.id: n for n, row in enumerate(made)}

    def found(**options: Any) -> list[int]:
        return [ids[row.id] for row in store.audits.list(**options)]

    assert found() == [3, 2, 1, 0]
    assert found(user=user) == [2, 0] and found(user=bob.id, limit=1) == [3]
    assert found(status="Completed") == [3, 0] and found(status="queued", user=bob) == [1]
    assert found(verdict="rejected") == [3] and found(queue="default", limit=2) == [3, 2]
    assert found(offset=1, limit=2) == [2, 1] and found(sort="id", limit=1) == [0]
    assert found(user="BOB@example.org", offset=1) == [1]
    for options in (
        {"status": "done"}, {"verdict": "fine"}, {"limit": -1}, {"user": "x"}, {"offset": True}, {"sort": "file_path"},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            store.audits.list(**options)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no user eve@x.org"):
        store.audits.list(user="eve@x.org")


def test_findings_have_a_window_and_an_order(store: Store, task: Task) -> None:
    given = [finding(severity) for severity in ("minor", "critical", "minor", "info")]
    result = store.audits.complete(task, analysis=ANALYSIS, findings=given).analysis

    def found(**options: Any) -> list[int]:
        return [row.ordinal for row in store.audits.findings(task, **options)]

    assert found() == [1, 2, 3, 4] == [row.ordinal for row in store.audits.findings(result)]
    assert (found(limit=2), found(offset=3), found(severity="Minor", offset=1)) == ([1, 2], [4], [3])
    assert (found(sort="-id"), found(severity="major"), found(limit=0)) == ([4, 3, 2, 1], [], [])
    for options in ({"limit": "1"}, {"offset": -1}, {"sort": "message"}, {"severity": "high"}):
        with pytest.raises(InvalidArgument):
            found(**options)


def test_the_author_is_given_or_that_of_the_environment_or_unknown(
    store: Store, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def authors(**options: Any) -> list[str]:
        task, other = store.audits.add(user, "a.pdf", 1, max_retries=0, **options), store.audits.add(user, "b.pdf", 1)
        store.audits.fail(claimed(store), "x")
        store.audits.retry(task, **options)
        store.audits.complete(claimed(store), analysis=ANALYSIS, findings=[finding("major")])
        row = store.audits.review(task, "approved", reason="x", **options)
        assert store.audits.review(task, "approved", reason="x", **options).to_dict() == row.to_dict()
        store.audits.cancel(other, **options)
        events = [*store.audits.trail(task).items, *store.audits.trail(other).items[1:]]
        acted = [event.by for event in events if event.action in ("created", "retried", "reviewed", "cancelled")]
        return [*acted, row.reviewed_by]

    monkeypatch.delenv("SCANSTORE_USER", raising=False)
    assert authors() == [user.email, *["unknown"] * 4]
    monkeypatch.setenv("SCANSTORE_USER", "cid")
    assert authors() == ["cid"] * 5
    assert authors(by="dan") == ["dan"] * 5
    task = store.audits.add(user, "a.pdf", 1)
    for wrong in ("", " ", 5, True, "x" * 256):
        for call in (
            lambda by: store.audits.cancel(task, by=by), lambda by: store.audits.retry(task, by=by),
            lambda by: store.audits.review(task, "approved", reason="x", by=by),
            lambda by: store.audits.add(user, "b.pdf", 1, by=by),
        ):  # fmt: skip
            with pytest.raises(InvalidArgument, match="by (is|has)"):
                call(wrong)
    assert store.check() == []


def test_stats(store: Store, user: User) -> None:
    nothing = AuditStats(
        dict.fromkeys(("queued", "processing", "completed", "failed", "cancelled"), 0),
        dict.fromkeys(("approved", "review", "rejected"), 0),
        dict.fromkeys(SEVERITIES, 0),
        0,
        None,
    )
    assert store.audits.stats() == nothing
    bob = User.create(email="bob@example.org", email_key="bob@example.org")
    mine, yours = store.audits.add(user, "1", 1), store.audits.add(bob, "2", 1)
    store.audits.add(user, "3", 1)
    store.audits.complete(mine, analysis=ANALYSIS, findings=[finding("major"), finding("minor")])
    store.audits.complete(yours, analysis=ANALYSIS, findings=[finding("critical"), finding("minor")])
    store.audits.review(mine, "rejected", by="ann", reason="x")
    whole = store.audits.stats()
    assert whole.tasks == {**nothing.tasks, "completed": 2, "queued": 1}
    assert whole.verdicts == {"approved": 0, "review": 0, "rejected": 2} and whole.reviewed == 1
    assert whole.findings == {"critical": 1, "major": 1, "minor": 2, "info": 0}
    assert whole.compliance_score == (88 + 73) / 2
    one = store.audits.stats(user=bob)
    assert (one.tasks["completed"], one.tasks["queued"], one.verdicts["rejected"], one.reviewed) == (1, 0, 1, 0)
    assert (one.findings["critical"], one.findings["major"], one.compliance_score) == (1, 0, 73)


def test_a_row_of_another_store(store: Store, task: Task, tmp_path: Path) -> None:
    with Store(tmp_path / "other.db") as other:
        for verb in (other.audits.get, other.audits.remove, other.audits.trail):
            with pytest.raises(WrongStore):
                verb(task)


# Ids that are made together -------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.lists(st.integers(0, 300), max_size=5))
def test_ids_made_together_sort_and_differ(counts: list[int]) -> None:
    made = [str(uuid7())]
    for count in counts:
        more = uuid7s(count)
        assert len(more) == count
        made += [*more, str(uuid7())]
    assert made == sorted(set(made))
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in made} == {(7, uuid.RFC_4122)}
    assert [str(uuid.UUID(each)) for each in made] == made


def test_an_old_clock_does_not_free_leases(store: Store, task: Task) -> None:
    """Rows that were touched in what is now the future keep what is left of their lease."""
    row = claimed(store, lease=60)
    later = "2999-01-01T00:00:{:02}.000Z"
    store.database.execute_sql(
        "UPDATE audit_tasks SET updated_at = ?, lease_until = ?", (later.format(0), later.format(30))
    )
    assert store.audits.claim() == []
    assert store.audits.get(task).lease_until - utcnow() < timedelta(seconds=31)
    assert store.audits.heartbeat(row).lease_until > utcnow()


def test_work_that_waits_is_woken_when_it_is_due(store: Store, task: Task) -> None:
    store.audits.fail(claimed(store), "x")
    assert store.audits.claim() == []
    store.database.execute_sql("UPDATE audit_tasks SET next_retry_at = '2020-01-01T00:00:00.000Z'")
    assert claimed(store).retry_count == 1
    assert under_way.lost(store.database) is False
