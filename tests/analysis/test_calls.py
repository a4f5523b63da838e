"""Calls of models: recorded at both ends, never losing an answer, and what they came to."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore.analysis import calls
from scanstore.analysis.calls import Usage
from scanstore.db.processes import me
from scanstore.db.values import utcnow
from scanstore.errors import IllegalMove, InvalidArgument, NotFound, WrongStore
from scanstore.snapshots.models import Scan, ScanFileChunk
from scanstore.store import Store


@pytest.fixture
def scan(store: Store, tmp_path: Path) -> Scan:
    (tmp_path / "a.py").write_text("def f(x):\n    return eval(x)\n")
    store.llm.add("m")
    return store.scans.analyze(store.scans.record(tmp_path / "a.py"))


@pytest.fixture
def chunk(scan: Scan) -> ScanFileChunk:
    found = ScanFileChunk.get_or_none(ScanFileChunk.scan == scan)
    assert found is not None
    return found


def writes(store: Store) -> int:
    """Rows that this connection has changed so far."""
    return int(store.database.execute_sql("SELECT total_changes()").fetchone()[0])


def test_a_call_is_recorded_at_both_ends_and_not_between(store: Store, scan: Scan, chunk: ScanFileChunk) -> None:
    with store.llm.call("m", purpose=" analysis ", chunk=chunk) as call:
        row = store.llm.get_call(call.id)
        assert (row.status, row.ended_at, row.model, row.purpose, row.scan_id, row.chunk_id, row.process) == (
            "running", None, "m", "analysis", scan.id, chunk.id, me(),
        )  # fmt: skip
        before = writes(store)
        call.response, call.prompt_tokens, call.completion_tokens, call.cost = "yes", 7, 2, 0.25
        time.sleep(0.03)
        assert writes(store) == before and not store.database.in_sqlite_transaction()
    row = store.llm.get_call(call.id)
    assert (row.status, row.prompt_tokens, row.completion_tokens, row.cost, row.error) == ("answered", 7, 2, 0.25, None)
    assert 30 <= row.latency_ms < 5000 and row.started_at <= row.ended_at <= utcnow()
    assert row.prompt_text is None and row.response_text is None  # not asked to keep them
    assert store.check() == []


def test_prompt_and_response_are_kept_when_asked_for(store: Store, scan: Scan) -> None:
    broken = "caf\u00e9 \ud800 \0"
    with store.llm.call("m", purpose="p", prompt="the prompt", keep=True, scan=scan) as call:
        call.response = broken
    row = store.llm.get_call(call.id)
    assert (row.prompt_text, row.response_text) == ("the prompt", broken)
    assert (row.to_dict()["prompt"], row.to_dict()["response"]) == ("the prompt", broken)
    (listed,) = store.llm.calls(scan)
    assert listed.prompt is None and listed.response_text is None  # left out of lists
    with store.llm.call("m", purpose="p", prompt="the prompt") as call:
        call.response = "x"
    assert store.llm.get_call(call.id).prompt is None


@pytest.mark.no_cover
def test_a_response_of_20_mb_is_kept(store: Store, scan: Scan, chunk: ScanFileChunk) -> None:
    response = os.urandom(10_000_000).hex()
    analyzer = store.llm.analyzer("m")
    with store.llm.call("m", purpose="p", chunk=chunk, analyzer=analyzer, keep=True) as call:
        call.response = response
    assert store.llm.get_call(call.id).response_text == response == store.llm.answer(analyzer, chunk)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_before_the_answer_is_a_failed_call(store: Store, scan: Scan, error: BaseException) -> None:
    with pytest.raises(type(error)), store.llm.call("m", purpose="p", scan=scan):
        raise error
    (row,) = store.llm.calls(scan)
    assert row.status == "failed" and type(error).__name__ in row.error


def test_an_exception_after_the_answer_does_not_lose_it(store: Store, scan: Scan, chunk: ScanFileChunk) -> None:
    analyzer = store.llm.analyzer("m")
    with pytest.raises(ZeroDivisionError), store.llm.call("m", purpose="p", chunk=chunk, analyzer=analyzer) as call:
        call.response = "paid"
        1 / 0  # noqa: B018
    row = store.llm.get_call(call.id)
    assert (row.status, row.error) == ("answered", "ZeroDivisionError: division by zero")
    assert store.llm.answer(analyzer, chunk) == "paid"


def test_a_block_without_an_answer_is_a_failed_call(store: Store, scan: Scan) -> None:
    with store.llm.call("m", purpose="p", scan=scan) as call:
        call.prompt_tokens = 5
    row = store.llm.get_call(call.id)
    assert row.status == "failed" and row.prompt_tokens == 5 and "call.response was not set" in row.error


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [Unspeakable(), ValueError("\ud800" * 9000), ValueError("\0")])
def test_errors_that_are_hard_to_write_down(store: Store, scan: Scan, error: Exception) -> None:
    with pytest.raises(type(error)), store.llm.call("m", purpose="p"):
        raise error
    (row,) = store.llm.calls()
    assert row.status == "failed" and row.error.startswith(type(error).__name__) and len(row.error) <= 4000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("prompt_tokens", v) for v in (-1, 1.5, True, None, "3", float("nan"), 2**63)),
        *(("completion_tokens", v) for v in (-1, [])),
        *(("cost", v) for v in (-0.01, float("nan"), float("inf"), True, None, "1", 10**400)),
    ],
)
def test_an_unfit_figure_is_refused_and_the_rest_recorded(
    store: Store, scan: Scan, chunk: ScanFileChunk, name: str, value: Any
) -> None:
    analyzer = store.llm.analyzer("m")
    with (
        pytest.raises(InvalidArgument, match=f"{name} is .*it must be"),
        store.llm.call("m", purpose="p", chunk=chunk, analyzer=analyzer) as call,
    ):
        call.prompt_tokens, call.completion_tokens, call.cost = 7, 8, 9
        setattr(call, name, value)
        call.response = "paid"
    row = store.llm.get_call(call.id)
    figures = {"prompt_tokens": 7, "completion_tokens": 8, "cost": 9.0, name: 0}
    assert {key: getattr(row, key) for key in figures} == figures
    assert row.status == "answered" and name in row.error and store.llm.answer(analyzer, chunk) == "paid"


def test_the_bodys_own_exception_comes_first(store: Store, scan: Scan) -> None:
    with pytest.raises(ZeroDivisionError), store.llm.call("m", purpose="p") as call:
        call.response, call.cost = "x", -1
        1 / 0  # noqa: B018
    row = store.llm.get_call(call.id)
    assert row.status == "answered" and "division" in row.error and "cost is -1" in row.error


def test_a_response_that_is_no_text_is_refused(store: Store, scan: Scan) -> None:
    with pytest.raises(InvalidArgument, match="response is of dict"), store.llm.call("m", purpose="p") as call:
        call.response = {"a": 1}  # type: ignore[assignment]
    assert store.llm.get_call(call.id).status == "failed"


def test_a_later_failure_leaves_the_answer_and_a_later_answer_replaces_it(
    store: Store, scan: Scan, chunk: ScanFileChunk
) -> None:
    analyzer = store.llm.analyzer("m")
    for response in ("one", None, "two"):
        with store.llm.call("m", purpose="p", chunk=chunk, analyzer=analyzer) as call:
            call.response = response
        assert store.llm.answer(analyzer, chunk) == (response or "one")


# What a call is about


def test_the_scan_follows_from_the_chunk_or_draft_and_must_agree(
    store: Store, scan: Scan, chunk: ScanFileChunk, tmp_path: Path
) -> None:
    other = store.scans.record(tmp_path / "a.py")
    with store.llm.call("m", purpose="p", chunk=chunk.id, scan=scan.id) as call:
        call.response = "x"
    assert store.llm.get_call(call.id).scan_id == scan.id
    run = store.database.execute_sql
    draft = int(
        run(
            "INSERT INTO draft_findings (scan_id, file_path, title, title_key, vulnerability_type, severity)"
            " VALUES (?, 'a.py', 't', 't', 'x', 'low')",
            (other.id,),
        ).lastrowid
        or 0
    )
    with store.llm.call("m", purpose="p", draft=draft) as call:
        call.response = "x"
    row = store.llm.get_call(call.id)
    assert (row.scan_id, row.draft_id, row.chunk_id) == (other.id, draft, None)
    before = len(store.llm.calls())
    for wrong in ({"chunk": chunk, "scan": other}, {"draft": draft, "scan": scan}, {"chunk": chunk, "draft": draft}):
        with pytest.raises(
            InvalidArgument, match=f"is of scan {other.id if 'draft' in wrong else scan.id}, not of scan"
        ):
            store.llm.call("m", purpose="p", **wrong)
    assert len(store.llm.calls()) == before


def test_what_is_no_call_is_refused_before_anything_is_written(
    store: Store, scan: Scan, chunk: ScanFileChunk, tmp_path: Path
) -> None:
    store.llm.add("n")
    way = store.llm.analyzer("n")
    for wrong in (
        {"purpose": ""}, {"purpose": None}, {"purpose": 3}, {"prompt": b"x"}, {"scan": "1"}, {"chunk": "1"},
        {"draft": True}, {"chunk": scan}, {"draft": chunk}, {"analyzer": "x"}, {"analyzer": way, "chunk": chunk},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            store.llm.call("m", **{"purpose": "p", **wrong})
    for absent in ({"scan": 99}, {"chunk": 99 << 24}, {"draft": 99}, {"analyzer": 99}):
        with pytest.raises(NotFound):
            store.llm.call("m", purpose="p", **absent)
    with pytest.raises(NotFound):
        store.llm.call("nobody", purpose="p")
    with pytest.raises(IllegalMove, match="transaction"), store.transaction():
        store.llm.call("m", purpose="p").__enter__()
    with pytest.raises(IllegalMove, match="not begun"):
        print(store.llm.call("m", purpose="p").id)  # type: ignore[attr-defined]
    assert store.llm.calls() == []
    with store.llm.call("m", purpose="p") as call:
        call.response = "x"
    with pytest.raises(IllegalMove, match="another"):
        call.__enter__()
    with Store(tmp_path / "other.db") as other, pytest.raises(WrongStore):
        calls.finish(call, other.database)


def test_a_chunk_that_is_not_analysed_and_a_scan_that_is_removed(store: Store, scan: Scan, tmp_path: Path) -> None:
    second = store.scans.record(tmp_path / "a.py")  # recorded, not analysed
    chunk = ScanFileChunk.get_or_none(ScanFileChunk.scan == second)
    analyzer = store.llm.analyzer("m")
    with store.llm.call("m", purpose="p", chunk=chunk, analyzer=analyzer) as call:
        assert store.llm.get_call(call.id).scan_id == second.id
        store.scans.remove(second)
        call.response = "paid"
    with pytest.raises(NotFound, match="store.llm.calls"):
        store.llm.get_call(call.id)
    assert store.llm.answer(analyzer, ScanFileChunk.get_or_none(ScanFileChunk.scan == scan)) == "paid"
    assert store.check() == []


# Ending inside a transaction


def test_finish_ends_the_call_with_the_callers_transaction(store: Store, scan: Scan, chunk: ScanFileChunk) -> None:
    analyzer = store.llm.analyzer("m")
    with store.llm.call("m", purpose="p", chunk=chunk, analyzer=analyzer) as call:
        call.response, call.cost = "paid", 2
        with store.transaction():
            calls.finish(call, store.database)
            calls.finish(call, store.database)
        assert store.llm.get_call(call.id).status == "answered" and store.llm.answer(analyzer, chunk) == "paid"
        ended = store.llm.get_call(call.id).ended_at
        before = writes(store)
        time.sleep(0.01)
    assert writes(store) == before and store.llm.get_call(call.id).ended_at == ended
    calls.finish(call, store.database)
    assert writes(store) == before


@pytest.mark.parametrize("nested", [False, True])
def test_a_finish_that_was_rolled_back_is_made_up_for(
    store: Store, scan: Scan, chunk: ScanFileChunk, nested: bool
) -> None:
    analyzer = store.llm.analyzer("m")
    with store.llm.call("m", purpose="p", chunk=chunk, analyzer=analyzer) as call:
        call.response = "paid"
        if nested:  # only the savepoint is rolled back
            with store.transaction(), pytest.raises(ZeroDivisionError), store.transaction():
                calls.finish(call, store.database)
                1 / 0  # noqa: B018
        else:
            with pytest.raises(ZeroDivisionError), store.transaction():
                calls.finish(call, store.database)
                1 / 0  # noqa: B018
        assert store.llm.get_call(call.id).status == "running"
    assert store.llm.get_call(call.id).status == "answered" and store.llm.answer(analyzer, chunk) == "paid"


def test_finish_and_then_trouble(store: Store, scan: Scan) -> None:
    with pytest.raises(ZeroDivisionError), store.llm.call("m", purpose="p") as call:
        calls.finish(call, store.database)  # completed from it, whatever it said
        1 / 0  # noqa: B018
    assert (store.llm.get_call(call.id).status, store.llm.get_call(call.id).error) == ("answered", None)
    with store.llm.call("m", purpose="p") as call:
        calls.finish(call, store.database)
        call.cost = 3  # known late
    row = store.llm.get_call(call.id)
    assert (row.status, row.cost) == ("answered", 3)
    with pytest.raises(InvalidArgument, match="cost"), store.llm.call("m", purpose="p") as call:
        call.response, call.cost = "paid", -3
        with store.transaction():
            calls.finish(call, store.database)
    assert store.llm.get_call(call.id).status == "answered"


def test_completing_a_chunk_ends_its_call(store: Store, scan: Scan) -> None:
    analyzer = store.llm.analyzer("m")
    (chunk,) = store.chunks.claim(scan)
    with store.llm.call("m", purpose="analysis", chunk=chunk, analyzer=analyzer) as call:
        call.response = "paid"
        store.chunks.complete(chunk, analyzer=analyzer, call=call)
        assert store.llm.get_call(call.id).status == "answered"
    (row,) = analyzer.answers
    assert (row.response_text, row.drafts) == ("paid", []) and store.check() == []


# Crashes


def kill_in_call(db: Path, chunk: int, before: str = "") -> int:
    code = textwrap.dedent(f"""
        import time
        from scanstore.store import Store
        with Store({str(db)!r}) as store:
            with store.llm.call("m", purpose="p", chunk={chunk}) as call:
                {before or "pass"}
                print(call.id, flush=True)
                time.sleep(60)
    """)
    process = Program(code, stdout=subprocess.PIPE)
    assert process.stdout is not None
    key = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return key


def test_a_killed_call_is_abandoned(store: Store, db_path: Path, scan: Scan, chunk: ScanFileChunk) -> None:
    key = kill_in_call(db_path, chunk.id)
    with store.llm.call("m", purpose="p") as mine:
        assert calls.recover(store.database) == 1
        assert calls.recover(store.database) == 0
        assert store.llm.get_call(mine.id).status == "running"
        mine.response = "x"
    row = store.llm.get_call(key)
    assert row.status == "abandoned" and row.ended_at is not None and "ended before an answer came" in row.error
    assert store.llm.get_call(mine.id).status == "answered" and store.check() == []


def test_what_a_killed_process_had_finished_stays(
    store: Store, db_path: Path, scan: Scan, chunk: ScanFileChunk
) -> None:
    before = "call.response = 'paid'; from scanstore.analysis import calls; calls.finish(call, store.database)"
    key = kill_in_call(db_path, chunk.id, before)
    assert calls.recover(store.database) == 0 and store.llm.get_call(key).status == "answered"


def test_calls_of_other_machines_are_left_alone_and_late_answers_count(store: Store, scan: Scan) -> None:
    with store.llm.call("m", purpose="p") as call:
        run = store.database.execute_sql
        run("UPDATE model_calls SET process = 'elsewhere:1@1'")
        assert calls.recover(store.database) == 0
        run("UPDATE model_calls SET status = 'abandoned', ended_at = started_at, error = 'gone'")
        call.response = "late"
    row = store.llm.get_call(call.id)
    assert (row.status, row.error) == ("answered", None)


def test_a_forked_child_does_not_end_its_parents_call(store: Store, scan: Scan) -> None:
    with store.llm.call("m", purpose="p") as call:
        child = os.fork()
        if not child:
            try:
                call.__exit__(None, None, None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert store.llm.get_call(call.id).status == "running"
        call.response = "x"
    assert store.llm.get_call(call.id).status == "answered"


def test_latency_does_not_follow_the_clock(store: Store, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.llm.call("m", purpose="p") as call:
        monkeypatch.setattr(calls, "utcnow", lambda: datetime(2020, 1, 1, tzinfo=UTC))
        call.response = "x"
    row = store.llm.get_call(call.id)
    assert 0 <= row.latency_ms < 5000 and row.ended_at < row.started_at - timedelta(days=365)


# Sums


def test_usage_sums_by_model_and_purpose(store: Store, scan: Scan, chunk: ScanFileChunk) -> None:
    store.llm.add("a")
    for model, purpose, about, cost in (
        ("m", "analysis", chunk, 1), ("m", "analysis", chunk, 2), ("m", "verification", chunk, 4),
        ("a", "analysis", None, 8),
    ):  # fmt: skip
        with store.llm.call(model, purpose=purpose, chunk=about) as call:
            call.response, call.prompt_tokens, call.completion_tokens, call.cost = "x", 10, 1, cost
    with store.llm.call("m", purpose="analysis", scan=scan):
        pass
    with store.llm.call("m", purpose="analysis", scan=scan) as call:
        store.database.execute_sql("UPDATE model_calls SET latency_ms = 500 WHERE status = 'answered'")
        found = store.llm.usage(scan)
        call.response = "x"
    assert [u._replace(seconds=round(u.seconds, 1)) for u in found] == [
        Usage("m", "analysis", 4, 2, 1, 1, 20, 2, 3.0, 1.0),
        Usage("m", "verification", 1, 1, 0, 0, 10, 1, 4.0, 0.5),
    ]
    assert [(u.model, u.purpose, u.calls, u.cost) for u in store.llm.usage()] == [
        ("a", "analysis", 1, 8.0), ("m", "analysis", 4, 3.0), ("m", "verification", 1, 4.0),
    ]  # fmt: skip
    with pytest.raises(NotFound):
        store.llm.usage(99)


def test_usage_runs_on_its_index(store: Store) -> None:
    sql = "EXPLAIN QUERY PLAN " + calls.USAGE.format(where=" WHERE scan_id = 1")
    plan = " ".join(row[3] for row in store.database.execute_sql(sql))
    assert "USING PRIMARY KEY (scan_id=?)" in plan and "TEMP" not in plan


def test_calls_are_listed_newest_first(store: Store, scan: Scan) -> None:
    for number in range(4):
        with store.llm.call("m", purpose="odd" if number % 2 else "even", scan=scan if number < 3 else None) as call:
            call.response = "x" if number else None
    ids = [c.id for c in store.llm.calls()]
    assert ids == sorted(ids, reverse=True) and len(ids) == 4
    assert [c.id for c in store.llm.calls(scan)] == ids[1:]
    assert [c.id for c in store.llm.calls(purpose="odd")] == [ids[0], ids[2]]
    assert [c.id for c in store.llm.calls(status="FAILED")] == [ids[3]]
    assert [c.id for c in store.llm.calls(limit=2)] == ids[:2] and store.llm.calls(limit=0) == []
    for wrong in ({"status": "lost"}, {"limit": -1}, {"limit": True}, {"limit": 1.5}):
        with pytest.raises(InvalidArgument):
            store.llm.calls(**wrong)  # type: ignore[arg-type]
    for odd in (True, "1", None):
        with pytest.raises(InvalidArgument):
            store.llm.get_call(odd)  # type: ignore[arg-type]
    assert store.llm.get_call(store.llm.calls()[0]).id == ids[0]
