"""``check`` finds each kind of damage that it promises to find, and nothing in a healthy store; ``stats`` adds up."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scanstore import Busy, ReadOnly, Store
from scanstore.cli import main
from scanstore.maintenance import health
from scanstore.maintenance.invariants import DANGLING

TREE = {"pkg/__init__.py": "from .a import f\n", "pkg/a.py": "import json\ndef f(): g()\ndef g(): json.dumps(1)\n"}


@pytest.fixture
def file(full: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(full, tmp_path / "s.db"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which everything was done once, beside the tree that was scanned."""
    tmp_path = tmp_path_factory.mktemp("full")
    for path, text in TREE.items():
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_text(text)
    with Store(tmp_path / "s.db") as store:
        store.scans.record(tmp_path / "tree")
        (tmp_path / "tree/pkg/a.py").write_text(TREE["pkg/a.py"] + "def h(): f()\n")
        scan = store.scans.analyze(store.scans.record(tmp_path / "tree"))
        store.llm.add("m")
        draft = {"title": "t", "vulnerability_type": "x", "severity": "low", "line_number": 2}
        for chunk in store.chunks.work(scan):
            with store.llm.call("m", purpose="analysis", chunk=chunk) as call:
                call.response = "[]"
            store.chunks.complete(chunk, drafts=[draft] if chunk.file_path == "pkg/a.py" else [])
        for row in store.drafts.work(scan):
            store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
        for verified in store.verified.work(scan):
            store.findings.publish(verified)
        assert store.search("t")
        with store.library.sync("scene") as run:
            store.library.upsert_scenes([{"id": "1", "title": "One"}, {"id": "2", "title": "Two"}], run=run)
        plan = store.plans.add("tidy")
        for scene in ("1", "2"):
            store.plans.propose(plan, scene, "title", "set", proposed="Better")
        store.plans.submit(plan)
        store.plans.review(plan, "approve")
        store.plans.apply(plan)
        store.jobs.enqueue("sync")
        store.jobs.complete(store.jobs.claim("sync")[0])
        store.schedules.add("nightly", "sync", "0 3 * * *")
        user = store.accounts.add("Ada@x.org")
        for name in ("one", "two"):
            session = store.sessions.add(user, name)
            store.sessions.uploads.add(session, [{"file_path": "a.py", "file_size": 1, "file_type": "text/x-python"}])
            store.sessions.tasks.add(session, "summary")
            task = store.sessions.tasks.claim(session)[0]
            store.sessions.tasks.complete(task, result={"result_content": "fine"})
            store.sessions.complete(session)
            audit = store.audits.add(user, f"{name}.pdf", 10)
            store.audits.complete(audit, analysis={"equipment_type": "panel", "test_type": "grounding"})
        assert store.check() == []
    return tmp_path / "s.db"


# What to break, and what check says of it.
DAMAGE = {
    "UPDATE file_identity SET file = 'mine'": "missing or malformed id of the file",
    "UPDATE symbol_facts SET name_id = 9999 WHERE ordinal = 1": "symbols without a name",
    "UPDATE reference_facts SET path_id = 9999 WHERE path_id IS NOT NULL": "references without a name",
    "UPDATE import_facts SET module_id = 9999": "imports without a name",
    "UPDATE reference_facts SET symbol_ordinal = 77 WHERE symbol_ordinal IS NOT NULL": "references from or to a symbol",
    "UPDATE bindings SET path_id = path_id + 9999": "bindings without a name",
    "UPDATE bindings SET ordinal = 77 WHERE ordinal IS NOT NULL": "bindings to a symbol that is not there",
    "INSERT INTO bindings (lineage_id, path_id, since, resolution, confidence)"
    " SELECT lineage_id, path_id, since + 1, 'unresolved', 0 FROM bindings WHERE until IS NULL": (
        "bindings that overlap"
    ),
    "UPDATE bindings SET since = 50, until = 51 WHERE until IS NOT NULL": "bindings that no scan sees",
    "INSERT INTO bindings (lineage_id, path_id, since, nth, version_id, ordinal, resolution, confidence)"
    " SELECT lineage_id, path_id, since, 1, version_id, 77, resolution, confidence FROM bindings"
    " WHERE ordinal IS NOT NULL AND until IS NULL": "bindings to a symbol that is not there",
    "UPDATE scans SET revision = NULL WHERE id = 2": "completed scans without a revision",
    "UPDATE scan_files SET version_id = NULL WHERE id = 1": "files marked done without anything recorded",
    "INSERT INTO file_versions (path, content_hash, indexer) VALUES ('x', x'00', 'i')": (
        "file versions that no scan uses"
    ),
    "UPDATE symbol_facts SET metadata = '{' WHERE ordinal = 1": "values that are not JSON",
    "INSERT INTO chunk_work (id, scan_file_id, scan_id) SELECT id << 24 | 999, id, scan_id FROM scan_files LIMIT 1": (
        "pieces of work for chunks that their file"
    ),
    "UPDATE work_counts SET count = count + 1": "counts of work that do not match",
    "UPDATE call_counts SET calls = calls + 1": "sums of model calls that do not",
    "UPDATE scans SET status = 'running' WHERE active_since IS NOT NULL": "analyses that are over with work left",
    "UPDATE draft_findings SET file_path = 'elsewhere.py'": "drafts in a chunk of another scan",
    "INSERT INTO draft_findings (scan_id, file_path, title, title_key, vulnerability_type, severity, line_number)"
    " SELECT scan_id, file_path, title, title_key, 'X', severity, line_number FROM draft_findings": (
        "drafts of the same thing at the same line"
    ),
    "DELETE FROM verified_findings": "verified drafts without a verified finding",
    "UPDATE sightings SET verified_id = NULL": "completed verified findings that were not published",
    "DELETE FROM sightings": "findings that no scan has seen, and",
    "INSERT INTO suppressions (lineage_id, finding_id, justification, by)"
    " SELECT lineage_id + 1, id, 'j', 'ann' FROM findings": ("suppressions of a finding of another target"),
    "UPDATE votes SET round = 9": "votes of a round that has not begun",
    "UPDATE model_calls SET scan_id = 1": "calls about something of another scan",
    "INSERT INTO finding_search (rowid, title) VALUES (99, 'x')": "findings that the full-text search misses",
    "DELETE FROM symbol_search WHERE rowid = (SELECT max(rowid) FROM symbol_search)": (
        "symbols that the full-text search misses"
    ),
    "UPDATE scenes SET run_id = 77": "library rows that were seen by a sync run which is not there",
    "INSERT INTO sync_runs (kind, process) VALUES ('tag', 'a'), ('tag', 'b')": "sync runs of one kind that run at once",
    "UPDATE plan_counts SET count = count + 1": "counts of plans that do not match",
    "UPDATE scan_counts SET count = count + 1": "counts of scans that do not match their symbols and references",
    "UPDATE scan_groups SET refs = 0": "counts of scans that do not match their files",
    "DELETE FROM name_search_docsize WHERE id = 1": "names that the search for parts of names",
    "UPDATE plan_changes SET status = 'approved', applied_at = NULL WHERE id = 1": "plans whose status is not what",
    "UPDATE analysis_plans SET status = 'reverted'": "plans whose status is not what their changes say",
    "UPDATE jobs SET next_retry_at = '2026'": "jobs that wait for a time though they do not",
    "UPDATE scheduled_tasks SET next_run = NULL": "schedules that are enabled without a next run",
    "UPDATE scheduled_tasks SET enabled = 0": "schedules that are enabled without a next run",
    "UPDATE users SET email_key = 'eve@x.org'": "users whose address does not match its folded form",
    "UPDATE analysis_sessions SET total_files = 2": "counts of sessions that do not match their files",
    "UPDATE analysis_sessions SET processed_files = 1": "counts of sessions that do not match their files",
    "UPDATE analysis_results SET analysis_session_id = (SELECT min(id) FROM analysis_sessions)": (
        "results of a task of another session"
    ),
    "UPDATE analysis_tasks SET status = 'pending'": "sessions that are completed with tasks left",
    "UPDATE analysis_tasks SET next_retry_at = '2026'": "tasks and audits that wait for a time though they do not",
    "UPDATE audit_tasks SET next_retry_at = '2026'": "tasks and audits that wait for a time though they do not",
    "DELETE FROM audit_analyses": "audits that are completed without an analysis",
    "UPDATE audit_tasks SET status = 'failed'": "audits that are completed without an analysis",
    "INSERT INTO audit_events (task_id, analysis_id, action, by) SELECT t.id, a.id, 'x', 'y' FROM audit_tasks AS t"
    " JOIN audit_analyses AS a ON a.task_id <> t.id": "events about the analysis of another audit",
    "UPDATE names SET text = CAST(x'66ff' AS TEXT) WHERE id = 1": '1 values of "text" in names are not text in UTF-8',
    "UPDATE jobs SET message = CAST(x'c3' AS TEXT)": '1 values of "message" in jobs are not text in UTF-8',
    "UPDATE findings SET \"references\" = CAST('[' || x'80' AS TEXT)": '"references" in findings are not text in UTF-8',
    "UPDATE scans SET completed_at = 'yesterday'": '2 values of "completed_at" in scans are no times',
    "UPDATE jobs SET run_at = '2026-11-22 01:46'": '1 values of "run_at" in jobs are no times',
    "DELETE FROM file_versions WHERE id = 1": "rows of symbol_facts point at rows of file_versions that are gone",
}


@pytest.mark.parametrize("sql", DAMAGE)
def test_each_kind_of_damage_is_found_with_a_remedy(file: Path, sql: str) -> None:
    with sqlite3.connect(file) as connection:  # foreign keys are off here
        assert connection.execute(sql).rowcount > 0
    connection.close()
    with Store(file) as store:
        problems = store.check()
    assert any(DAMAGE[sql] in problem.what for problem in problems), problems
    assert all(problem.remedy for problem in problems)


# What `fix` puts right, and which of it is only known to have gone when a search has taken it up.
MENDED = [
    "DELETE FROM file_identity",
    "INSERT INTO file_versions (path, content_hash, indexer) VALUES ('x', x'00', 'i')",
    "INSERT INTO bindings (lineage_id, path_id, since, until, resolution, confidence)"
    " SELECT 1, max(path_id) + 1, 50, 51, 'unresolved', 0 FROM bindings",
    "UPDATE work_counts SET count = count + 1",
    "DELETE FROM work_counts",
    "UPDATE call_counts SET calls = calls + 1",
    "UPDATE plan_counts SET count = count + 1",
    "UPDATE scan_counts SET count = count + 1",
    "UPDATE scan_groups SET refs = 0",
    "DELETE FROM name_search_docsize WHERE id = 1",
    "UPDATE analysis_sessions SET total_files = 2",
    "INSERT INTO finding_search (rowid, title) VALUES (99, 'x')",
    "DELETE FROM symbol_search WHERE rowid = (SELECT max(rowid) FROM symbol_search)",
    "UPDATE jobs SET next_retry_at = '2026'",
    "UPDATE analysis_tasks SET next_retry_at = '2026'",
    "UPDATE audit_tasks SET next_retry_at = '2026'",
    "UPDATE scheduled_tasks SET next_run = NULL",
    "UPDATE scheduled_tasks SET enabled = 0",
    "UPDATE scenes SET run_id = 77",
    "UPDATE users SET email_key = 'eve@x.org'",
    "DROP INDEX ix_scan_files_file_path",
    "DROP TRIGGER tr_jobs_parent_id",
    "DROP VIEW scan_file_chunks",
    "UPDATE finding_search_content SET c0 = 'other words'",
]


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_a_schedule_without_a_next_run_can_be_enabled_or_disabled_again(file: Path, verb: str) -> None:
    with Store(file) as store:
        store.database.execute_sql("UPDATE scheduled_tasks SET next_run = NULL").fetchall()
        (problem,) = store.check()
        assert "check --fix" in problem.remedy and "backup" not in problem.remedy
        getattr(store.schedules, verb)("nightly")
        assert store.check() == []


def test_a_schedule_of_an_unknown_time_zone_is_left_and_its_remedy_helps(file: Path) -> None:
    with Store(file) as store:
        store.database.execute_sql("UPDATE scheduled_tasks SET next_run = NULL, timezone = 'Mars/Base'").fetchall()
        (problem,) = store.check(fix=True)
        assert not problem.fixed and "store.schedules.update(name, timezone=" in problem.remedy
        store.schedules.update("nightly", timezone="UTC")
        assert store.check() == []


#: What to break, what its remedy says, and how that is done.
REMEDIES = {
    "INSERT INTO sync_runs (kind, process) VALUES ('tag', 'a'), ('tag', 'b')": (
        "library.sync(kind, take_over=True)", lambda store: store.library.sync("tag", take_over=True).__enter__(),
    ),
    "UPDATE analysis_plans SET status = 'reverted'": (
        "scanstore plans remove", lambda store: [store.plans.remove(plan) for plan in store.plans.list()],
    ),
    "UPDATE analysis_tasks SET status = 'pending'": (
        "scanstore sessions remove", lambda store: [store.sessions.remove(row) for row in store.sessions.list()],
    ),
    "UPDATE audit_tasks SET status = 'failed'": (
        "store.audits.remove", lambda store: [store.audits.remove(row) for row in store.audits.list()],
    ),
}  # fmt: skip


@pytest.mark.parametrize("sql", REMEDIES)
def test_a_remedy_helps(file: Path, sql: str) -> None:
    said, remedy = REMEDIES[sql]
    with sqlite3.connect(file) as connection:
        connection.execute(sql)
    connection.close()
    with Store(file) as store:
        (problem,) = store.check()
        assert said in problem.remedy and not re.search(r"\bscans\b", problem.remedy)
        remedy(store)
        assert store.check() == []


def test_rows_that_point_nowhere_have_a_remedy_for_their_table(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM scenes WHERE id = '1'")
        connection.execute("INSERT INTO job_scenes SELECT id, 'none' FROM jobs")
    connection.close()
    with Store(file) as store:
        found = {problem.what: problem.remedy for problem in store.check()}
        remedy = found["1 rows of job_scenes point at rows of scenes that are gone"]
        assert 'PRAGMA foreign_key_check("job_scenes")' in remedy and "scans" not in remedy
        assert len(store.database.execute_sql('PRAGMA foreign_key_check("job_scenes")').fetchall()) == 1


def contents(file: Path) -> dict[str, list[Any]]:
    """All rows of all tables, but for those that are made from others."""
    made = (
        "file_identity", "work_counts", "call_counts", "plan_counts", "search_changes", "finding_search",
        "symbol_search", "name_search", "sqlite_",
    )  # fmt: skip
    connection = sqlite3.connect(file)
    try:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]
        return {
            name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"')))
            for name in names
            if not name.startswith(made)
        }
    finally:
        connection.close()


@pytest.mark.parametrize("sql", MENDED)
def test_what_follows_from_other_rows_is_put_right(file: Path, sql: str) -> None:
    before, counts = contents(file), counters(file)
    connection = sqlite3.connect(file)
    connection.execute(sql)
    connection.commit()
    connection.close()
    with Store(file) as store:
        found = store.check()
        assert found and not any(problem.fixed for problem in found)
        assert any("--fix" in problem.remedy for problem in found), found
        done = store.check(fix=True)
        assert {problem.what for problem in done} >= {problem.what for problem in found}
        assert all(problem.fixed for problem in done)
        assert store.search("t") and store.check() == []
    assert counters(file) == counts
    after = contents(file)
    ours = ("bindings", "names")  # what nothing saw is gone
    assert {n: rows for n, rows in after.items() if n not in ours} == {
        n: rows for n, rows in before.items() if n not in ours
    } or "UPDATE" in sql


def counters(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    try:
        return [
            sorted(connection.execute(f"SELECT * FROM {table} WHERE {some} > 0"))
            for table, some in (("work_counts", "count"), ("call_counts", "calls"), ("plan_counts", "count"))
        ]
    finally:
        connection.close()


@pytest.mark.parametrize("sql", ["DELETE FROM sightings", "UPDATE votes SET round = 9", "DELETE FROM audit_analyses"])
def test_what_only_a_person_can_decide_is_left_and_said(file: Path, sql: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(sql)
    connection.commit()
    connection.close()
    before = contents(file)
    with Store(file) as store:
        left = store.check(fix=True)
        assert any(DAMAGE[sql] in problem.what and not problem.fixed for problem in left)
    assert contents(file) == before


def test_a_broken_index_is_made_anew(file: Path) -> None:
    name = "ix_scan_files_file_path"
    row: Any = ()
    for sql, values in (
        ("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = ?", [name]),
        ("DELETE FROM sqlite_schema WHERE name = ?", [name]),
        ("UPDATE scan_files SET file_path = file_path || 'x' WHERE id = 1", []),  # which the index misses
        ("UPDATE scan_files SET file_path = rtrim(file_path, 'x') WHERE id = 1", []),
        ("DELETE FROM scan_files WHERE id = 2", []),
        ("INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES (?, ?, ?, ?, ?)", None),
    ):
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("PRAGMA writable_schema=ON")
        found = connection.execute(sql, row if values is None else values).fetchall()
        row = found[0] if found else row
        connection.close()
    with Store(file) as store:
        assert any("ix_scan_files_file_path" in problem.what for problem in store.check())
        done = [problem for problem in store.check(fix=True) if "index" in problem.what]
        assert done and all(problem.fixed for problem in done)
        assert not any("damaged" in problem.what for problem in store.check())


def test_waste_is_removed_and_lost_work_freed(file: Path) -> None:
    code = "import os, sys; from scanstore import Store; s = Store(sys.argv[1]); s.jobs.enqueue('x'); s.jobs.claim('x')"
    with Store(file) as store:
        subprocess.run([sys.executable, "-c", code + "; os._exit(1)", str(file)], check=False)
        store.database.execute_sql("INSERT INTO names (text) VALUES ('nobody.uses.this')")
        assert store.check() == []  # none of this is damage
        told = {problem.what for problem in store.check(fix=True)}
        assert "1 pieces of lost work" in told and any("interned names" in what for what in told)
        assert store.check(fix=True) == []
        assert store.jobs.state().ready == 1


def test_tables_of_the_user_are_no_business_of_ours(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.executescript("CREATE TABLE mine (x); CREATE INDEX ix_mine ON mine (x); INSERT INTO mine VALUES (1)")
    connection.close()
    with Store(file) as store:
        assert store.check(fix=True) == [] == store.check()
        assert store.database.execute_sql("SELECT x FROM mine").fetchall() == [(1,)]


def test_a_missing_table_is_reported(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("DROP TABLE job_scenes")
    connection.close()
    with Store(file) as store:
        (problem,) = (p for p in store.check(fix=True) if p.what.startswith("the table"))
    assert problem.what == "the table job_scenes is missing" and not problem.fixed and "backup" in problem.remedy


def test_a_read_only_store_is_not_fixed(file: Path) -> None:
    with Store(file, read_only=True) as store:
        assert store.check() == []
        with pytest.raises(ReadOnly, match="cannot be put right"):
            store.check(fix=True)


@pytest.mark.parametrize("page", ["an index", "nothing"])
def test_a_large_store_is_checked_by_two_at_once(file: Path, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    if page == "an index":
        with sqlite3.connect(file) as connection:
            (number,) = connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_scan_files_file_path'"
            ).fetchone()
        connection.close()
        with open(file, "r+b") as handle:
            handle.seek(4096 * (number - 1))
            handle.write(b"\xff" * 4096)
    with Store(file) as store:
        before = store.check()
        assert [problem.what[:19] for problem in before] == ["the file is damaged"] * bool(before)
        monkeypatch.setattr(health, "SMALL", 0)
        threads = threading.active_count()
        assert store.check() == before and bool(before) is (page == "an index")
        assert threading.active_count() == threads
        monkeypatch.setattr(health, "_others", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.check()
        assert threading.active_count() == threads
        monkeypatch.undo()
        if not before:
            with store.transaction():  # which sees what it has written itself
                store.settings.set("new", 1)
                assert store.check() == []


def test_what_keeps_a_check_from_writing_is_not_damage(file: Path) -> None:
    with Store(file, timeout=0.1) as store:
        store.database.execute_sql("PRAGMA query_only=ON")  # what a log of another user comes to
        assert store.check() == []
        store.database.execute_sql("PRAGMA query_only=OFF")
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy):
            store.check()
        other.close()
        assert store.check() == []


def test_the_command_fixes(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("DELETE FROM work_counts")
    connection.commit()
    connection.close()
    run = CliRunner().invoke
    assert run(main, ["check", "--db", str(file)]).exit_code == 1
    done = run(main, ["check", "--fix", "--db", str(file)])
    assert done.exit_code == 0 and done.output.startswith("fixed\t")
    assert run(main, ["check", "--db", str(file)]).output.endswith("no problems\n")


def test_every_check_is_tested() -> None:
    found = " ".join(DAMAGE.values())
    for what in DANGLING:
        assert any(part in found for part in (what, what[:30])), what


def test_a_malformed_file_is_reported_not_raised(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_scan_files_file_path'"
        ).fetchone()
    connection.close()
    with open(file, "r+b") as handle:
        handle.seek(4096 * (page - 1))
        handle.write(b"\xff" * 4096)
    with Store(file) as store:
        problems = store.check()
    assert problems and "damaged" in problems[0].what and "backup" in problems[0].remedy


def test_stats_add_up(file: Path, full: Path) -> None:
    with Store(file) as store:
        stats = store.stats()
        rows = dict(store.database.execute_sql("SELECT 'scans', count(*) FROM scans").fetchall())
    sizes = [table.bytes for table in stats.tables if table.bytes is not None]
    assert stats.scans == rows["scans"] == 2
    assert stats.lines == 1 + 3 + 4
    assert {table.name: table.rows for table in stats.tables}["scan_files"] == 4
    assert [(g.scan, g.files, g.lines) for g in stats.growth] == [(2, 1, 4), (1, 2, 4)]
    assert stats.growth[0].bytes > 0 and stats.growth[0].target == str(full.parent / "tree")
    assert 0 <= stats.free < stats.bytes
    assert not sizes or sum(sizes) <= os.path.getsize(file)
