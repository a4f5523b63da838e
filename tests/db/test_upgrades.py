"""Stores of every earlier schema, with rows in them, come through each migration whole, up and down.

A store is taken down to the earlier schema, its rows are noted, and then it is opened by today's code.
"""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from comparing import rows, version
from stressing import LONG

from scanstore import Store, seed_db
from scanstore.db import migrations
from scanstore.db.database import SCHEMA_VERSION
from scanstore.models import ScanConfig, ScanFile, ScanFileChunk
from scanstore.snapshots import figures, names

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(first: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(first, tmp_path / "old.db"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of schema 1, with rows in each of its tables and chunks in each status."""
    path = tmp_path_factory.mktemp("first") / "old.db"
    with Store(path) as store:
        scan = store.scans.record(ROOT / "callgraph" / "shop")
        store.scans.record(ROOT / "callgraph" / "shop")
        model = store.llm.add("m", api_key="env:KEY", votes=2)
        ScanConfig.create(scan=scan, primary_analyzer=model, scanner_concurrency=7)
        ScanFile.update(risk_level="high").where(ScanFile.file_path == "models.py").execute()
        statuses = ("pending", "running", "done", "failed", "skipped")
        for n, chunk in enumerate(store.chunks.list(scan)[:10]):
            ScanFileChunk.update(status=statuses[n % 5], retry_count=n % 3).where(
                ScanFileChunk.id == chunk.id
            ).execute()
    migrations.down(path, to=1, backup=False)
    return path


def test_rows_of_the_first_schema_are_all_there_afterwards(path: Path) -> None:
    assert version(path) == 1
    before = rows(path)
    assert len(before["chunk_states"]) >= 7 and before["scan_configs"] and before["bindings"]
    with Store(path) as store:
        assert store.check() == []
        assert version(path) == SCHEMA_VERSION
        scan = store.scans.list()[-1]
        chunks = store.chunks.list(scan)[:10]
        assert [c.status for c in chunks] == ["pending", "running", "done", "failed", "skipped"] * 2 or all(
            c.status in ("pending", "done", "failed", "skipped") for c in chunks
        )
        assert [c.retry_count for c in chunks][2:5] == [2, 0, 1]
        config = scan.configs.get()
        assert (config.scanner_concurrency, config.max_retries, config.pause_after) == (7, 3, 10)
        assert scan.status == "completed" and scan.active_since is None
        # And it can be worked with: what was done stays done, a lease of nobody is free.
        store.scans.analyze(scan)
        claimed = store.chunks.claim(scan, limit=7)
        assert len(claimed) == 7 and claimed[0].risk_level == "high"
        assert store.chunks.state(scan).done == 2
        assert store.check() == []
    after = rows(path)
    for table in set(before) - {"bindings", "chunk_states", "scan_file_chunks", "scans", "scan_configs"}:
        assert after[table] == before[table], table


def test_down_and_up_again_changes_nothing_of_what_both_know(path: Path) -> None:
    before = rows(path)
    migrations.up(path)
    migrations.down(path, to=1)
    after = rows(path)
    before["chunk_states"] = [row for row in before["chunk_states"] if not row.endswith("'pending', 0)")]
    assert after == before


def test_going_down_leaves_a_scan_that_was_recorded(path: Path) -> None:
    with Store(path) as store:
        scan = store.scans.latest()
        store.scans.analyze(scan)
        (chunk,) = store.chunks.claim(scan)
        store.drafts.add(scan, [{"title": "t", "vulnerability_type": "x", "severity": "low"}], chunk=chunk)
        store.scans.pause(scan)
    migrations.down(path, to=1)
    connection = sqlite3.connect(path)
    assert set(connection.execute("SELECT status, phase FROM scans")) == {("completed", "completed")}
    connection.close()
    with Store(path) as store:
        assert store.check() == []
        assert store.scans.latest().active_since is None and store.drafts.list(scan) == []


def test_going_down_takes_the_library_and_what_drives_it(path: Path) -> None:
    Store(path).close()  # frees what nobody leases any more
    migrations.down(path, to=4)
    before = rows(path)
    with Store(path) as store:
        seed_db(store)
        plan = store.plans.add("tidy")
        store.plans.propose(plan, "sc-2", "title", "set", proposed="A talk")
        store.jobs.enqueue("sync", scenes=["sc-1"], parent=store.jobs.enqueue("all"))
        store.schedules.enable("nightly")
        assert len(store.schedules.run_due(now=datetime(2099, 1, 1, tzinfo=UTC))) == 1
        assert store.check() == []
    migrations.down(path, to=4)
    after = rows(path)
    assert {**after, "model_configs": []} == {**before, "model_configs": []}  # a model was added
    with Store(path) as store:
        assert store.check() == []
        assert store.library.list() == store.plans.list() == store.jobs.list() == store.schedules.list() == []


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of today with rows in nearly every table."""
    path = tmp_path_factory.mktemp("full") / "full.db"
    with Store(path) as store:
        seed_db(store)
        scan = store.scans.analyze(store.scans.record(ROOT / "callgraph" / "shop"))
        draft = {"title": "t", "vulnerability_type": "x", "severity": "low", "line_number": 2}
        store.llm.add("m")
        for chunk in store.chunks.claim(scan, limit=3):
            with store.llm.call("m", purpose="analysis", chunk=chunk) as call:
                call.response = "[]"
            store.chunks.complete(chunk, drafts=[draft])
        for row in store.drafts.claim(scan, limit=2):
            store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
        for verified in store.verified.claim(scan, limit=1):
            store.findings.publish(verified)
        store.scans.pause(scan)
        plan = store.plans.add("tidy")
        store.plans.propose(plan, "sc-2", "title", "set", proposed="A talk")
        store.jobs.enqueue("sync", scenes=["sc-1"])
        user = store.accounts.add("ada@example.org")
        session = store.sessions.add(user, "first")
        store.sessions.uploads.add(session, [{"file_path": "a.py", "file_size": 1, "file_type": "text/x-python"}])
        prompt = store.sessions.prompts.add(user, "summary", "Summarise.")
        store.sessions.tasks.add(session, "summary")
        (task,) = store.sessions.tasks.claim(session)
        store.sessions.tasks.complete(task, result={"result_content": "Fine.", "score": 99.5, "configuration": prompt})
        audit = store.audits.add(user, "report.pdf", 10)
        finding = {"severity": "minor", "rule_id": "GND-01", "message": "too high", "evidence": {"ohm": 12}}
        store.audits.complete(audit, analysis={"equipment_type": "panel", "test_type": "x"}, findings=[finding])
        assert store.check() == []
    return path


OURS = (
    "users", "configurations", "analysis_sessions", "file_uploads", "analysis_tasks", "analysis_results",
    "audit_tasks", "audit_analyses", "audit_findings", "audit_events",
)  # fmt: skip


SCHEMAS = sorted(int(path.name[:3]) for path in (ROOT.parent / "migrations").glob("[0-9][0-9][0-9]_*.py"))
# The ninth migration gave them columns.
LEASED = {
    "chunk_work", "draft_findings", "verified_findings", "scan_file_chunks", "scan_configs", "jobs", "analysis_tasks",
    "audit_tasks",
}  # fmt: skip


# The others are migrated, full as well, by stress_migration.
@pytest.mark.parametrize("schema", [schema for schema in SCHEMAS[:-1] if LONG or schema % 3 != SCHEMAS[-2] % 3])
def test_a_store_of_any_earlier_schema_comes_through_with_its_rows(full: Path, tmp_path: Path, schema: int) -> None:
    path = tmp_path / "old.db"
    shutil.copy(full, path)
    there = rows(path)
    assert all(there[table] for table in OURS)
    migrations.down(path, to=schema, backup=False)
    before = rows(path)
    assert version(path) == schema and before["symbol_facts"]
    assert set(OURS) & set(before) == (set(OURS) if schema >= 7 else set())
    with Store(path) as store:
        assert store.check() == []
        if schema < 7:
            assert store.accounts.list() == [] and store.accounts.add("ada@example.org").email == "ada@example.org"
        assert store.check() == []
    assert version(path) == SCHEMA_VERSION
    after = rows(path)
    wider = {1: {"chunk_states", "scan_file_chunks", "scans", "scan_configs"}, 2: {"findings", "scans"}}.get(
        schema, set()
    )
    if schema < 11:
        wider = wider | {table for table in ("scenes", "sync_runs") if before.get(table)}
    if schema < 13:
        wider = wider | {"bindings"}
    if schema < 9:
        wider = wider | {table for table in LEASED & before.keys() if before[table]}
    assert {table for table in before if after.get(table) != before[table]} == wider
    assert all(len(after[table]) == len(before[table]) for table in wider - {"chunk_states"})


def test_a_schema_that_was_migrated_equals_a_new_one(path: Path, tmp_path: Path) -> None:
    migrations.up(path)
    Store(tmp_path / "new.db").close()

    def schema(file: Path) -> set[tuple[str, str, str]]:
        connection = sqlite3.connect(file)
        found = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' AND name <> 'migratehistory'"
        ).fetchall()
        connection.close()
        return set(found)

    assert schema(path) == schema(tmp_path / "new.db")


def test_dates_of_scenes_come_through_the_eleventh_migration(tmp_path: Path) -> None:
    """Dates become days on the way up, and months and years their first day on the way down, also in plans."""
    path = tmp_path / "dates.db"
    days = {"1": "2014-01-01", "2": "2006-08-01", "3": "2014-03-02", "4": None}
    with Store(path) as store:
        with store.library.sync("scene") as run:
            records = [{"id": key, "scene_date": day, "tags": [{"id": "t", "name": "T"}]} for key, day in days.items()]
            store.library.upsert_scenes(records, run=run)
        store.library.upsert_scenes([{"id": "1", "scene_date": "2014"}, {"id": "2", "scene_date": "2006-08"}])
        plan = store.plans.add("dates")
        store.plans.propose(plan, "1", "date", "set", proposed="2014-05")
        store.plans.propose(plan, "2", "date", "set", proposed="2006")
        store.plans.propose(plan, "2", "date", "set", proposed="2006-01-01")
        store.database.execute_sql("UPDATE scenes SET updated_at = '2026-01-01T00:00:00.000Z'")
    migrations.down(path, to=10)
    connection = sqlite3.connect(path)
    first = {"1": "2014-01-01", "2": "2006-08-01", "3": "2014-03-02"}
    wanted = [(key, first.get(key) and f"{first[key]}T00:00:00.000Z") for key in "1234"]
    assert connection.execute("SELECT id, scene_date FROM scenes ORDER BY id").fetchall() == wanted
    assert connection.execute("SELECT count(*) FROM scene_tags").fetchone() == (4,)
    values = connection.execute("SELECT current_value, proposed_value FROM plan_changes ORDER BY id").fetchall()
    assert values[0] == ('"2014-01-01T00:00:00.000Z"', '"2014-05-01T00:00:00.000Z"')
    assert values[1] == values[2] == ('"2006-08-01T00:00:00.000Z"', '"2006-01-01T00:00:00.000Z"')
    assert {row[1] for row in connection.execute("PRAGMA table_info(scenes)")} & {"scene_date_precision"} == set()
    assert connection.execute("SELECT DISTINCT updated_at FROM scenes").fetchall() == [("2026-01-01T00:00:00.000Z",)]
    connection.close()
    with Store(path) as store:
        assert store.check() == [] and len(store.plans.changes(plan.id)) == 3
        assert [row.scene_date_precision for row in store.library.list()] == ["day", "day", "day", None]
        assert [row["scene_date"] for row in store.library.records()] == [date for _, date in wanted]
        assert {row.updated_at for row in store.library.list()} == {datetime(2026, 1, 1, tzinfo=UTC)}
        assert store.library.upsert_scenes([{"id": key, "scene_date": day} for key, day in days.items()]).unchanged == 4
        assert store.library.runs()[0].rejected == 0
        assert store.library.upsert_scenes([{"id": "1", "scene_date": "2014"}]).updated == 1


def test_leases_and_their_counts_come_through_the_ninth_migration(path: Path) -> None:
    """What is leased stays leased, its old owner may complete it, and the way back loses only what is new."""
    with Store(path) as store:
        scan = store.scans.analyze(store.scans.latest(), max_retries=2)
        job = store.jobs.enqueue("work", max_retries=5)
        store.jobs.claim(worker="ann")
        chunk = store.chunks.claim(scan, worker="ann")[0]
        before = chunk.to_dict()
    migrations.down(path, to=7)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT status, worker, attempt FROM jobs").fetchall() == [("running", "ann", 1)]
    columns = {
        row[1] for table in ("jobs", "scan_file_chunks") for row in connection.execute(f"PRAGMA table_info({table})")
    }
    assert columns.isdisjoint({"lost_count", "max_lost", "lease_clock"})
    connection.execute("UPDATE scan_file_chunks SET status = 'failed' WHERE id <> ?", (chunk.id,))
    connection.commit()
    connection.close()
    with Store(path) as store:
        row = store.jobs.get(job)
        assert (row.status, row.max_retries, row.lost_count, row.max_lost, row.lease_clock) == (
            "running",
            5,
            0,
            10,
            None,
        )
        assert store.chunks.get(chunk.id).to_dict() == before
        config = store.scans.get(scan).configs.get()
        assert (config.max_retries, config.max_lost) == (2, 10)
        store.database.execute_sql("UPDATE jobs SET lease_until = '2020-01-01T00:00:00.000Z'")
        assert store.jobs.recover() == (1, 0) and store.jobs.get(job).lost_count == 1
        assert store.jobs.complete(job, worker="ann").status == "completed"
        store.chunks.complete(chunk.id, worker="ann")
        assert store.check() == []


def test_uses_are_lost_by_going_down_and_read_again_after_the_thirteenth_migration(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("def f(): ...\nTABLE = {1: f}\n")
    path = tmp_path / "scan.db"
    with Store(path) as store:
        store.scans.record(tmp_path / "src")
        assert [(row.reference_type, row.from_line) for row in store.symbols.references("a.f")] == [("use", 2)]
    before = rows(path)
    migrations.down(path, to=12, backup=False)
    after = rows(path)
    assert {table for table in before if after.get(table) != before[table]} == {
        "file_versions", "reference_facts", "reference_targets", "symbol_references", "scan_figures",
        "scan_counts", "scan_groups",
    }  # fmt: skip
    assert after["reference_facts"] == [row for row in before["reference_facts"] if "'use'" not in row]
    with Store(path) as store:
        assert store.check() == [] and store.symbols.references("a.f") == []
        scan = store.scans.record(tmp_path / "src")
        assert store.scans.summary(scan).indexed == 1  # nothing of the earlier version is taken over
        assert [(row.reference_type, row.from_line) for row in store.symbols.references("a.f")] == [("use", 2)]
        assert store.check() == []


def test_rows_come_through_the_indexes_of_pages_and_lose_only_figures(full: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(full, tmp_path / "full.db"))
    migrations.down(path, to=12, backup=False)  # the next migration takes the figures away too
    with Store(path) as store:
        scan = store.scans.latest()
        figures.keep(store.database, scan.id)
        names.take_up(store.database)
        summary, found = store.scans.summary(scan), store.symbols.find("ORDER", match="contains")
    kept = {"scan_figures", "scan_counts", "scan_groups"}
    parts = {"name_search", *(f"name_search_{part}" for part in ("config", "data", "docsize", "idx"))}
    before = rows(path)
    assert all(before[table] for table in kept) and found
    migrations.down(path, to=11, backup=False)
    after = rows(path)
    later = {"bindings", "reference_targets"}  # the thirteenth migration gives the one a column, and makes the other
    assert len(after.pop("bindings")) == len(before["bindings"])
    assert after == {table: before[table] for table in before.keys() - kept - parts - later}
    with Store(path) as store:
        assert store.scans.summary(scan) == summary
        assert store.symbols.find("ORDER", match="contains") == found
        assert store.check() == []
        figures.keep(store.database, scan.id)  # as completing a scan does
        names.take_up(store.database)
        assert store.scans.summary(scan) == summary
        assert store.symbols.find("ORDER", match="contains") == found
        assert store.check() == []
    after = rows(path)
    assert {table: after[table] for table in kept} == {table: before[table] for table in kept}
