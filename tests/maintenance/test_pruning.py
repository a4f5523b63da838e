"""``store.prune`` says what would go, removes exactly that, and leaves everything that the present depends on."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from stressing import Program

from scanstore import InvalidArgument, Store
from scanstore.analysis.removal import remove_scan
from scanstore.cli import main
from scanstore.db.spans import span
from scanstore.maintenance.pruning import OldScan, Pruned
from scanstore.snapshots.names import sweep_names

YEAR = timedelta(days=365)


def age(store: Store, days: int, *, table: str = "scans", where: str = "1") -> None:
    """Make rows look older than they are."""
    times = {"scans": ("completed_at", "analyzed_at", "updated_at"), "jobs": ("completed_at", "updated_at")}
    times.update(model_calls=("ended_at",), analysis_cache=("updated_at",))
    for column in times[table]:
        store.database.execute_sql(
            f"UPDATE {table} SET {column} = strftime('%Y-%m-%dT%H:%M:%fZ', {column}, '-{days} days')"
            f" WHERE {column} IS NOT NULL AND {where}"
        )


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "s.db") as store:
        yield store
        assert store.check() == []


def record(store: Store, tmp_path: Path, n: int, target: str = "t") -> Any:
    tree = tmp_path / "tree"
    tree.mkdir(exist_ok=True)
    (tree / "a.py").write_text(f"def f{n}():\n    return g{n}()\n")
    return store.scans.record(tree, target=target)


def report(tool: str, *rules: str, version: int) -> bytes:
    results = [
        {
            "ruleId": rule, "message": {"text": f"about {rule}"},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": "a.py"}, "region": {"startLine": 1}}}],
        }
        for rule in rules
    ]  # fmt: skip
    run = {
        "tool": {"driver": {"name": tool, "version": str(version), "rules": [{"id": "r"}, {"id": "q"}]}},
        "results": results,
    }
    return json.dumps({"version": "2.1.0", "runs": [run]}).encode()


def test_old_scans_go_and_the_latest_of_each_target_stays(store: Store, tmp_path: Path) -> None:
    scans = [record(store, tmp_path, n) for n in range(4)]
    other = record(store, tmp_path, 9, "other")
    age(store, 100)
    told = store.prune(older_than="90d")
    assert [scan.id for scan in told.scans] == [scan.id for scan in scans[:3]]
    assert told.dry_run and store.scans.list(target="t")[-1].id == scans[0].id  # nothing has gone
    done = store.prune(older_than=timedelta(days=90), dry_run=False)
    assert done == told._replace(dry_run=False)
    assert [scan.id for scan in store.scans.list()] == [other.id, scans[3].id]
    assert store.symbols.find("f3", scan=scans[3]) and store.symbols.find("f9", scan=other)
    names = {text for (text,) in store.database.execute_sql("SELECT text FROM names").fetchall()}
    assert "f0" not in names and "f3" in names  # the facts of what went, and no others
    assert store.prune(older_than="90d", dry_run=False) == Pruned(False, [], 0, 0, 0, {})


def test_keep_last_counts_scans_that_were_recorded(store: Store, tmp_path: Path) -> None:
    scans = [record(store, tmp_path, n) for n in range(4)]
    for _ in range(3):
        store.scans._end(store.scans.add("t"), "failed", "broken")
    found = store.prune(keep_last=2)
    assert [scan.id for scan in found.scans] == [scans[0].id, scans[1].id]
    assert [s.status for s in store.prune(keep_last=0).scans] == ["completed"] * 3 + ["failed"] * 3
    assert isinstance(found.scans[0], OldScan) and found.scans[0].target == "t"


def test_what_is_under_way_stays(store: Store, tmp_path: Path) -> None:
    running = store.scans.add("t")
    record(store, tmp_path, 1)
    analysed = store.scans.analyze(record(store, tmp_path, 2))
    record(store, tmp_path, 3)
    age(store, 999)
    going = [scan.id for scan in store.prune(keep_last=0).scans]
    assert running.id not in going and analysed.id not in going and len(going) == 1


def test_the_latest_analysed_scan_stays(store: Store, tmp_path: Path) -> None:
    scans = [store.scans.analyze(record(store, tmp_path, n)) for n in range(2)]
    for scan in scans:
        for chunk in store.chunks.work(scan):
            store.chunks.complete(chunk, drafts=[])
    record(store, tmp_path, 2)
    assert [scan.id for scan in store.prune(keep_last=0).scans] == [scans[0].id]


def test_findings_that_are_open_or_decided_about_stay(store: Store, tmp_path: Path) -> None:
    loads = iter(range(9))

    def load(tool: str, *rules: str) -> int:
        (tmp_path / "r.sarif").write_bytes(report(tool, *rules, version=next(loads)))
        return int(store.sarif.load(tmp_path / "r.sarif", target="t").scan)

    first = load("lint", "r", "q")
    keyed = {finding.rule_id: finding for finding in store.findings.list(first)}
    store.findings.triage(keyed["q"], "false_positive", by="ann", reason="test code")
    load("lint", "r", "q")
    load("lint", "r")
    load("other", "r")
    other = load("other")  # says that it is fixed
    latest = load("lint", "r")
    age(store, 400)
    before = [f.to_dict() for f in store.findings.list(latest)]
    done = store.prune(keep_last=0, dry_run=False)
    left = {scan.id for scan in store.scans.list()}
    assert left == {other, latest}  # the latest report of each tool
    assert {scan.id for scan in done.scans}.isdisjoint(left) and len(done.scans) == 4
    assert [f.to_dict()["status"] for f in store.findings.list(latest)] == [f["status"] for f in before]
    again = store.findings.get(keyed["q"].id)
    assert again.status == "false_positive"
    assert [(e.by, e.note) for e in store.findings.history(again) if e.by == "ann"] == [("ann", "test code")]


def test_jobs_and_texts_of_calls_and_answers(store: Store, tmp_path: Path) -> None:
    scan = store.scans.analyze(record(store, tmp_path, 1))
    model = store.llm.add("m")
    analyzer = store.llm.analyzer(model, prompt_template="?")
    (chunk,) = store.chunks.claim(scan)
    assert store.llm.ask(analyzer, chunk, lambda: ("said", {"cost": 2.5}), keep=True) == "said"
    store.chunks.complete(chunk, drafts=[])
    store.jobs.enqueue("old")
    store.jobs.complete(store.jobs.claim("old")[0])
    store.jobs.enqueue("new")
    for table in ("jobs", "model_calls", "analysis_cache"):
        age(store, 50, table=table)
    kinds = ("calls", "answers", "jobs")
    told = store.prune(older_than="7w", what=kinds)
    assert told == Pruned(True, [], 1, 1, 1, {})
    assert store.prune(older_than="8w", what=kinds) == Pruned(True, [], 0, 0, 0, {})
    assert store.prune(older_than="7w", dry_run=False, what=kinds) == told._replace(dry_run=False)
    (call,) = store.scans.get(scan).calls
    assert call.response_text is None and call.cost == 2.5  # what it cost stays
    assert [job.type for job in store.jobs.list()] == ["new"]
    assert store.prune(older_than="7w", what=kinds) == Pruned(True, [], 0, 0, 0, {})


def test_texts_go_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanstore.maintenance.pruning.AT_ONCE", 3)
    model = store.llm.add("m")
    for _ in range(8):
        with store.llm.call(model, purpose="p", keep=True) as call:
            call.response = "text"
    age(store, 2, table="model_calls")
    with store.llm.call(model, purpose="p", keep=True) as call:
        call.response = "new"
    assert store.prune(older_than="1d", what="calls", dry_run=False).calls == 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing says"),
        ({"older_than": "soon"}, "no span of time"),
        ({"older_than": timedelta(-1)}, "older_than is"),
        ({"older_than": 90}, "older_than is 90"),
        ({"keep_last": -1}, "keep_last is -1"),
        ({"keep_last": True}, "keep_last is True"),
        ({"keep_last": 1, "what": "files"}, "'files' is not"),
        ({"keep_last": 1, "what": ()}, "nothing is not"),
        ({"keep_last": 1, "what": ("scans", "answers")}, "answers go by their age"),
    ],
)
def test_bad_arguments_are_refused(store: Store, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        store.prune(dry_run=False, **options)


def test_spans() -> None:
    assert (span("12h"), span(" 90d"), span("8w")) == (timedelta(hours=12), timedelta(days=90), timedelta(weeks=8))
    assert timedelta(days=9999) == span("9999d")


def test_an_age_beyond_all_time_removes_nothing(store: Store, tmp_path: Path) -> None:
    record(store, tmp_path, 1)
    record(store, tmp_path, 2)
    assert store.prune(older_than=timedelta.max).scans == []


def test_a_scan_that_is_run_again_meanwhile_stays(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    first, broken = store.scans.add("t"), store.scans.add("t")
    for scan in (first, broken):
        store.scans._end(scan, "failed", "x")
    record(store, tmp_path, 1)

    def taking(db: Any, scan: Any) -> Any:
        store.database.execute_sql("UPDATE scans SET status = 'queued' WHERE id = ?", (broken.id,))
        return remove_scan(db, scan)

    monkeypatch.setattr("scanstore.maintenance.pruning.remove_scan", taking)
    assert [scan.id for scan in store.prune(keep_last=0, dry_run=False).scans] == [first.id]
    assert store.scans.get(broken).status == "queued"


def names(store: Store) -> set[str]:
    return {text for (text,) in store.database.execute_sql("SELECT text FROM names").fetchall()}


def test_names_are_looked_for_once_and_others_may_write_between_scans(
    store: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    for n in range(6):
        record(store, tmp_path, n)
    atomic, turns, sweeps = store.database.atomic, [], []
    other = sqlite3.connect(store.path, timeout=0, isolation_level=None)

    def entering(*args: Any) -> Any:
        if not store.database.transaction_depth():
            other.execute("BEGIN IMMEDIATE")  # or it is locked
            turns.append(other.execute("SELECT count(*) FROM scans").fetchone()[0])
            other.execute("COMMIT")
        return atomic(*args)

    with monkeypatch.context() as patch:
        patch.setattr(store.database, "atomic", entering)
        patch.setattr("scanstore.maintenance.pruning.sweep_names", lambda db: sweeps.append(sweep_names(db)))
        assert len(store.prune(keep_last=1, dry_run=False, what="scans").scans) == 5
    other.close()
    assert turns[:6] == [6, 5, 4, 3, 2, 1] and len(sweeps) == 1 and sweeps[0] >= 5
    assert "f0" not in names(store) and "f5" in names(store)


def test_a_name_that_is_used_again_before_it_is_swept_stays(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    for n in range(3):
        record(store, tmp_path, n)
    first = store.scans.list()[-1]
    with store.transaction():
        remove_scan(store.database, first)
    assert "f0" in names(store)
    atomic = store.database.atomic

    def entering(*args: Any) -> Any:
        monkeypatch.undo()
        (tmp_path / "other").mkdir()
        (tmp_path / "other/b.py").write_text("def f0():\n    return f0()\n")
        with Store(store.path) as other:
            other.scans.record(tmp_path / "other", jobs=1)
        return atomic(*args)

    monkeypatch.setattr(store.database, "atomic", entering)
    assert sweep_names(store.database) >= 1
    assert "f0" in names(store) and "g0" not in names(store)
    assert sweep_names(store.database) == 0 and store.symbols.find("f0", scan=store.scans.latest())


@pytest.mark.parametrize("scans", [0, 2, 4])
def test_a_killed_prune_leaves_whole_scans_and_the_next_one_goes_on(store: Store, tmp_path: Path, scans: int) -> None:
    for n in range(5):
        record(store, tmp_path, n)
    code = f"""
import sys, time
from scanstore import Store; from scanstore.maintenance import pruning
taken, remove_scan = [], pruning.remove_scan
def taking(db, scan):
    taken.append(remove_scan(db, scan))
    if len(taken) > {scans}:
        stop()
    return taken[-1]
def stop(*_):
    print("now", flush=True)
    time.sleep(60)
pruning.remove_scan = taking
pruning.sweep_names = stop
Store(sys.argv[1]).prune(keep_last=1, dry_run=False)
"""
    process = Program(code, store.path, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.kill()
    process.communicate()
    assert len(store.scans.list()) == 5 - scans and store.check() == []
    assert "f0" in names(store)
    record(store, tmp_path, 5)
    assert len(store.prune(keep_last=1, dry_run=False).scans) == 5 - scans
    assert "f0" not in names(store) and "f5" in names(store)


def test_what_a_scan_had_before_it_was_recorded_again_goes_when_it_is_finished(store: Store) -> None:
    def see(scan: Any, content: str) -> None:
        f = {"name": "f", "qualified_name": "a.f", "symbol_type": "function", "start_line": 1, "end_line": 2}
        store.symbols.record_file(scan, "a.py", content * 16, symbols=[f])

    def versions() -> int:
        assert store.check() == []
        return int(store.database.execute_sql("SELECT count(*) FROM file_versions").fetchone()[0])

    first, second = store.scans.add("t"), store.scans.add("t")
    for scan in (first, second):
        see(scan, "ab")
        store.symbols.record_file(scan, "b.py", "ef" * 16, references=[{"name": "f", "line": 1, "target": "a.f"}])
        store.scans.finish(scan)
    see(second, "cd")
    store.scans.remove(first)
    assert versions() == 3  # the bindings are still those of the file as it was
    store.scans.finish(second)
    assert versions() == 2
    see(second, "12")
    assert versions() == 3
    store.scans.remove(second)
    assert versions() == 0


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_dry_run_tells_exactly_what_goes(data: st.DataObject) -> None:
    with Store(":memory:") as store:
        steps = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["done", "failed", "open"]))))
        for target, end in steps:
            scan = store.scans.add(target)
            if end == "done":
                store.symbols.record_file(scan, "a.py", "ab" * 8)
                store.scans.finish(scan)
            elif end == "failed":
                store.scans._end(scan, "failed", "x")
        days = {scan.id: data.draw(st.integers(0, 20)) for scan in store.scans.list()}
        for key, many in days.items():
            age(store, many, where=f"id = {key}")
        options: dict[str, Any] = {
            "older_than": data.draw(st.none() | st.integers(0, 20).map(lambda d: timedelta(days=d))),
            "keep_last": data.draw(st.integers(0, 3)),
        }
        before = {scan.id for scan in store.scans.list()}
        told = store.prune(**options)
        assert store.prune(**options, dry_run=False) == told._replace(dry_run=False)
        after = {scan.id for scan in store.scans.list()}
        assert before - after == {scan.id for scan in told.scans}
        oldest = options["older_than"] or timedelta(0)
        assert all(timedelta(days=days[key]) >= oldest for key in before - after)
        for target in "abc":
            assert store.scans.list(target=target) or target not in {t for t, _ in steps}
        assert store.prune(**options).scans == []
        assert store.check() == []


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store(path) as store:
        for n in range(3):
            record(store, tmp_path, n)
        age(store, 40)

    def run(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["prune", "--db", str(path), *args])
        assert result.exit_code == code, result.output
        return result.output

    assert "choose the rows" in run(code=2)
    assert "no span of time" in run("--older-than", "x", code=2)
    assert "not both" in run("--keep-last", "1", "--dry-run", "--yes", code=2)
    assert "2 scans would be removed" in run("--keep-last", "1", "--dry-run")
    assert "2 scans would be removed; remove with: --yes" in run("--older-than", "30d")
    assert len(json.loads(run("--keep-last", "1", "--json"))["scans"]) == 2
    assert "Removed 1 scan" in run("--keep-last", "2", "--yes")
    assert "Nothing to remove" in run("--older-than", "60d", "--yes")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM scans").fetchone() == (2,)
    connection.close()


def test_the_last_scan_that_saw_an_open_finding_stays(store: Store, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()

    def analyse(scope: str, **files: str) -> Any:
        for name, text in files.items():
            (tree / f"{name}.py").write_text(text)
        scan = store.scans.analyze(store.scans.record(tree, target="t"), scope=scope)
        for chunk in store.chunks.work(scan):
            found = {"title": "t", "vulnerability_type": "x", "severity": "low", "line_number": 1}
            store.chunks.complete(chunk, drafts=[found] if chunk.file_path == "a.py" else [])
        for draft in store.drafts.work(scan):
            store.drafts.record_votes(draft, [{"model": "m", "decision": "verified"}])
        for verified in store.verified.work(scan):
            store.findings.publish(verified)
        return scan

    store.llm.add("m")
    nothing = analyse("full", b="def g():\n    return 1\n")
    saw = analyse("full", a="def f():\n    return 1\n")
    others = [analyse("changed", b=f"def g():\n    return {n}\n") for n in range(2, 4)]  # does not look at a.py
    (finding,) = (row for row in store.findings.list(saw))
    assert [old.id for old in store.prune(keep_last=0, dry_run=False).scans] == [nothing.id, others[0].id]
    assert store.findings.get(finding.id).status == "open"
    assert [s.state for s in store.findings.get(finding.id).sightings] == ["new"]
