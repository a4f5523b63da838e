"""Merging: what the other has is there afterwards and means the same, ours stays, and again it changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore import IllegalMove, InvalidArgument, NotFound, OutdatedSchema, ReadOnly, Store, seed_db
from scanstore.db import migrations
from scanstore.maintenance.merge.merge import NOT_MERGED, MergeResult
from scanstore.models import Finding, PlanChange, Sighting

ROOT = Path(__file__).parents[1]
SHOP = ROOT / "callgraph" / "shop"
GRAPH = {
    "symbols": "name, qualified_name, symbol_type, file_path, start_line, end_line, metadata, ordinal",
    "symbol_references": "from_file, from_line, reference_type, name, resolution, confidence, ordinal, from_ordinal,"
    " symbol_ordinal, (SELECT file_path FROM scan_files AS f WHERE f.id = symbol_file_id)",
    "import_relations": None,
    "scan_file_chunks": "file_path, chunk_index, chunk_type, symbol_name, start_line, end_line, content_hash, status",
}
DRAFT = {"title": "Bad call", "vulnerability_type": "injection", "severity": "high", "line_number": 2}


def write(tree: Path, **files: str) -> Path:
    tree.mkdir(exist_ok=True)
    for name, text in files.items():
        (tree / f"{name}.py").write_text(text)
    return tree


def graph(store: Store, scan: int) -> dict[str, list[Any]]:
    """Everything that the views say of a scan, without the numbers of this store."""
    found = {}
    for view, columns in GRAPH.items():
        if columns is None:
            names = [row[1] for row in store.database.execute_sql(f"PRAGMA table_info({view})").fetchall()]
            columns = ", ".join(n for n in names if n not in ("id", "scan_id") and not n.endswith("_id"))
        sql = f"SELECT {columns} FROM {view} WHERE scan_id = ?"
        found[view] = sorted(map(repr, store.database.execute_sql(sql, (scan,)).fetchall()))
    return found


def content(path: Path) -> list[bytes]:
    with Store(path) as store:
        file = path.with_suffix(".jsonl")
        store.dump(file, include_secrets=True)
        return file.read_bytes().splitlines()


def analyse(store: Store, tree: Path, *drafts: dict[str, Any]) -> int:
    scan = store.scans.analyze(store.scans.record(tree))
    if "m" not in {model.name for model in store.llm.list()}:
        store.llm.add("m", api_key="sk-123")
    for chunk in store.chunks.work(scan):
        with store.llm.call("m", purpose="analysis", chunk=chunk) as call:
            call.response = "[]"
        store.chunks.complete(chunk, drafts=list(drafts) if chunk.file_path == "a.py" else [])
        drafts = () if chunk.file_path == "a.py" else drafts
    for row in store.drafts.work(scan):
        store.drafts.record_votes(row, [{"model": "m", "decision": "verified"}])
    for verified in store.verified.work(scan):
        store.findings.publish(verified)
    return int(scan.id)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    with Store(tmp_path / "ours.db") as mine, Store(tmp_path / "theirs.db") as theirs:
        yield mine, theirs


def merged(mine: Store, theirs: Store) -> MergeResult:
    """Merge, and hold what is promised of every merge."""
    before = content(Path(theirs.path))
    result = mine.merge(theirs)
    assert mine.check() == [] and theirs.check() == []
    once = content(Path(mine.path))
    again = mine.merge(theirs.path)
    assert again.added == 0 and again.conflicts == result.conflicts
    assert content(Path(mine.path)) == once
    assert content(Path(theirs.path)) == before
    return result


def test_a_store_merged_into_an_empty_one_shows_the_same_graph(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    theirs.scans.record(SHOP)
    tree = write(tmp_path / "tree", a="from b import f\nf()\n", b="def f(): pass\n")
    for text in ("def f(): pass\n", "x = 1\n", "def g(): pass\ndef f(): g()\n"):
        write(tree, b=text)
        theirs.scans.record(tree)
    result = merged(mine, theirs)
    assert result.conflicts == [] and result.skipped == {}
    pairs = list(zip(mine.scans.list(), theirs.scans.list(), strict=True))
    assert len(pairs) == 4
    for a, b in pairs:
        assert graph(mine, a.id) == graph(theirs, b.id)
        assert graph(mine, a.id)["symbols"]


def test_scans_of_a_shared_target_come_after_ours_and_show_what_they_showed(
    two: tuple[Store, Store], tmp_path: Path
) -> None:
    mine, theirs = two
    tree = write(
        tmp_path / "tree", a="from b import f\nimport c\nf()\nc.h()\n", b="def f(): pass\n", c="def h(): pass\n"
    )
    store_of = {"def f(): pass\n": mine, "x = 1\n": theirs, "def k(): pass\nf = k\n": mine, "class f: pass\n": theirs}
    graphs: dict[str, list[Any]] = {mine.path: [], theirs.path: []}
    for text, store in store_of.items():
        write(tree, b=text)
        graphs[store.path].append(graph(store, store.scans.record(tree).id))
    merged(mine, theirs)
    scans = sorted(mine.scans.list(), key=lambda s: s.revision)
    assert [graph(mine, s.id) for s in scans] == graphs[mine.path] + graphs[theirs.path]
    assert graphs[mine.path][0] != graphs[theirs.path][0]
    # And the next scan goes on from there.
    write(tree, b="def f(): pass\n")
    new = mine.scans.record(tree)
    assert graph(mine, new.id) == graphs[mine.path][0]
    assert [graph(mine, s.id) for s in scans] == graphs[mine.path] + graphs[theirs.path]
    assert mine.check() == []
    assert mine.merge(theirs).added == 0


def test_revisions_that_were_removed_do_not_come_to_life(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    tree = write(tmp_path / "tree", a="from b import f\nf()\n")
    ids = []
    for text in ("def f(): pass\n", "x = 1\n", "f = 1\n"):
        write(tree, b=text)
        ids.append(mine.scans.record(tree).id)
    mine.scans.remove(ids[2])
    mine.scans.remove(ids[1])
    write(tree, b="class f: pass\n")
    theirs.scans.record(tree)
    write(tree, b="")
    theirs.scans.record(tree)
    want = [graph(mine, ids[0])] + [graph(theirs, s.id) for s in sorted(theirs.scans.list(), key=lambda s: s.revision)]
    merged(mine, theirs)
    assert [graph(mine, s.id) for s in sorted(mine.scans.list(), key=lambda s: s.revision)] == want


def test_facts_of_one_hash_that_differ_are_kept_apart(two: tuple[Store, Store]) -> None:
    for store, name in zip(two, ("mine", "theirs"), strict=True):
        scan = store.scans.add("t")
        symbols = [{"name": name}] + [{"name": "more"}] * (name == "theirs")
        store.symbols.record_file(scan, "a.x", "ab" * 32, symbols=symbols, references=[{"name": name, "line": 1}])
        store.symbols.record_file(scan, "b.x", "cd" * 32, symbols=[{"name": "both"}])
        store.scans.finish(scan)
    mine, theirs = two
    merged(mine, theirs)
    for store, scan_id in ((mine, 2), (theirs, 1)):
        assert {s.name for s in store.symbols.find("%", scan=scan_id)} | {"theirs", "more", "both"} == {
            "theirs",
            "more",
            "both",
        }
    assert graph(mine, 2) == graph(theirs, 1)
    assert mine.database.execute_sql("SELECT count(*) FROM file_versions").fetchone()[0] == 3


def test_analysis_comes_with_its_scan(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    mine.scans.record(SHOP)  # so that numbers differ
    mine.llm.add("other")
    scan = analyse(theirs, write(tmp_path / "tree", a="def f():\n  g()\n", b="def g(): f()\n"), DRAFT)
    (finding,) = theirs.findings.list()
    theirs.findings.triage(finding, "confirmed", by="ann", reason="seen it")
    theirs.findings.suppress(finding=finding, reason="not now", by="ann")
    merged(mine, theirs)
    (ours,) = mine.findings.list(target=theirs.scans.get(scan).target)
    assert (ours.title, ours.status) == ("Bad call", "confirmed")
    assert [(e.action, e.note) for e in mine.findings.history(ours)] == [
        (e.action, e.note) for e in theirs.findings.history(finding)
    ]
    assert mine.llm.get("m").api_key == "sk-123"
    new = mine.scans.latest()
    assert mine.chunks.state(new) == theirs.chunks.state(scan)
    assert len(mine.drafts.list(new)) == 1 and mine.drafts.list(new)[0].status == "verified"
    assert mine.search("bad")[0].id == ours.id


def test_work_that_is_leased_there_waits_here(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    scan = theirs.scans.analyze(theirs.scans.record(write(tmp_path / "t", a="def f(): pass\n", b="x = 1\n")))
    (chunk,) = theirs.chunks.claim(scan, limit=1)
    result = mine.merge(theirs)
    assert result.conflicts == [] and mine.check() == []
    assert mine.chunks.state(mine.scans.latest()).leased == 0 and theirs.chunks.state(scan).leased == 1
    theirs.chunks.complete(chunk)
    assert [c.table for c in mine.merge(theirs).conflicts] in ([], ["scans"])


def test_the_same_weakness_found_on_both_is_one_finding(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    tree = write(tmp_path / "tree", a="def f():\n  g()\n")
    for store in two:
        analyse(store, tree, DRAFT)
    theirs.findings.triage(theirs.findings.list()[0], "false_positive", by="bob")
    result = merged(mine, theirs)
    (finding,) = mine.findings.list()
    assert finding.status == "false_positive" and result.conflicts == []
    with mine.bound():
        assert [s.state for s in Sighting.select().order_by(Sighting.scan)] == ["new", "unchanged"]
    mine.findings.triage(finding, "open", by="ann")
    mine.findings.triage(finding, "confirmed", by="ann")
    theirs.findings.triage(theirs.findings.list()[0], "open", by="bob")
    result = merged(mine, theirs)
    assert [c.what for c in result.conflicts] == ["confirmed here and open there; ours stays"]
    assert mine.findings.get(finding.id).status == "confirmed"


def test_two_copies_go_on_apart_and_come_together(tmp_path: Path) -> None:
    tree = write(tmp_path / "tree", a="def f():\n  g()\n")
    with Store(tmp_path / "ours.db") as mine:
        analyse(mine, tree, DRAFT, {**DRAFT, "title": "Other", "line_number": 1})
    shutil.copy(tmp_path / "ours.db", tmp_path / "theirs.db")
    with Store(tmp_path / "ours.db") as mine, Store(tmp_path / "theirs.db") as theirs:
        write(tree, a="def f():\n  g()\n  h()\n")
        analyse(mine, tree, DRAFT)
        write(tree, a="\n\ndef f():\n  g()\n  i()\n")
        analyse(theirs, tree, {**DRAFT, "severity": "low", "line_number": 4})
        result = merged(mine, theirs)
        assert result.conflicts == []
        assert len(mine.scans.list()) == 3
        with mine.bound():
            first, second = Finding.select().order_by(Finding.title)
        assert (first.title, first.severity, first.line_number) == ("Bad call", "low", 4)
        with mine.bound():
            rows = list(Sighting.select().where(Sighting.finding == first.id).order_by(Sighting.scan))
        assert [(s.state, s.content_id is None) for s in rows] == [
            ("new", False),
            ("unchanged", False),
            ("updated", True),
        ]
        assert second.title == "Other"


def test_what_both_changed_stays_and_is_listed(two: tuple[Store, Store]) -> None:
    mine, theirs = two
    for store, size in zip(two, (10, 20), strict=True):
        seed_db(store)
        store.settings["page_size"] = size
        with store.library.sync("scene") as run:
            store.library.upsert_scenes([{"id": "sc-1", "title": f"Take {size}"}], run=run)
    with theirs.library.sync("tag") as run:
        theirs.library.upsert_tags([{"id": "new", "name": "new"}], run=run)
    result = merged(mine, theirs)
    assert ("settings", "page_size") in {c[:2] for c in result.conflicts}
    assert ("scenes", "sc-1") in {c[:2] for c in result.conflicts}
    assert mine.settings["page_size"] == 10
    assert {t.id for t in mine.library.names("tag")} >= {"new"}
    assert any("sync runs" in what for what in result.skipped)


def test_partial_dates_come_with_their_scenes(two: tuple[Store, Store]) -> None:
    mine, theirs = two
    dates = {"1": "2014", "2": "2006-08", "3": "2014-03-02T00:00:00.000Z", "4": None}
    theirs.library.upsert_scenes([{"id": key, "scene_date": value} for key, value in dates.items()])
    mine.library.upsert_scenes([{"id": "1", "scene_date": "2014-01"}])
    result = merged(mine, theirs)
    assert ("scenes", "1") in {c[:2] for c in result.conflicts}
    assert {row["id"]: row["scene_date"] for row in mine.library.records()} == {**dates, "1": "2014-01"}


def test_a_tag_whose_name_is_taken_is_left_out(two: tuple[Store, Store]) -> None:
    mine, theirs = two
    for store, key in zip(two, "ab", strict=True):
        with store.library.sync("tag") as run:
            store.library.upsert_tags([{"id": key, "name": "same"}], run=run)
    result = merged(mine, theirs)
    assert [c[:2] for c in result.conflicts] == [("tags", "b")]
    assert [t.id for t in mine.library.names("tag")] == ["a"]


def test_plans_bring_their_changes_and_point_at_our_findings(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    write(tmp_path / "one", a="import os\ndef k():\n  z()\n")
    analyse(mine, tmp_path / "one", {**DRAFT, "title": "Mine", "line_number": 3})
    seed_db(theirs)
    analyse(theirs, write(tmp_path / "tree", a="def f():\n  g()\n"), DRAFT)
    (finding,) = theirs.findings.list()
    plan = theirs.plans.add("tidy")
    theirs.plans.propose(plan, "sc-1", "title", "set", proposed="Better")
    theirs.plans.propose(plan, finding, "severity", "set", proposed="low")
    merged(mine, theirs)
    with mine.bound():
        rows = list(PlanChange.select().order_by(PlanChange.id))
        ours = Finding.get(Finding.title == "Bad call")
    assert [(r.target, r.target_key, r.finding_id) for r in rows] == [
        ("scene", "sc-1", None),
        ("finding", str(ours.id), ours.id),
    ]


def test_the_other_is_a_store_a_database_or_a_path(two: tuple[Store, Store]) -> None:
    ours, theirs = two
    theirs.settings["a"] = 1
    theirs.library.upsert_tags([{"id": "t", "name": "T"}])
    first = ours.merge(theirs)
    assert first.added and [ours.merge(other).same for other in (theirs.database, theirs.path)] == [first.added] * 2


def test_only_jobs_that_are_over_come(two: tuple[Store, Store]) -> None:
    mine, theirs = two
    parent = theirs.jobs.enqueue("all")
    done = theirs.jobs.enqueue("sync", parent=parent)
    theirs.jobs.enqueue("sync")
    (claimed,) = [j for j in theirs.jobs.claim("sync") if j.id == done.id]
    theirs.jobs.complete(claimed, result={"n": 1})
    result = merged(mine, theirs)
    assert [(j.id, j.status, j.parent_id) for j in mine.jobs.list()] == [(done.id, "completed", None)]
    assert result.skipped == {"2 jobs that are not over": "finish or cancel them there"}


INSERTS = """
INSERT INTO users (id, email, email_key, hashed_password) VALUES ('{who}-u', 'A@x.org', 'a@x.org', 'hash');
INSERT INTO configurations (id, user_id, config_type, prompt_content, version)
VALUES ('{who}-c1', '{who}-u', 'p', 'same', 1), ('{who}-c2', '{who}-u', 'p', 'of {who}', 2);
INSERT INTO analysis_sessions (id, user_id, session_name) VALUES ('{who}-s', '{who}-u', 'S');
INSERT INTO file_uploads (id, analysis_session_id, file_name, file_path, file_size, file_type, upload_status)
VALUES ('{who}-f', '{who}-s', 'n', 'n', 1, 't', 'completed');
INSERT INTO analysis_tasks (id, analysis_session_id, task_id, task_type, status, lease_until)
VALUES ('{who}-t', '{who}-s', '{who}-task', 'x', 'processing', '2000-01-01T00:00:00.000000Z');
INSERT INTO analysis_results (id, analysis_session_id, configuration_id, analysis_task_id, analysis_type,
                              result_content)
VALUES ('{who}-r', '{who}-s', '{who}-c2', '{who}-t', 'x', 'text');
INSERT INTO audit_tasks (id, user_id, original_filename, file_size) VALUES ('{who}-a', '{who}-u', 'd.pdf', 1);
INSERT INTO audit_analyses (id, task_id, equipment_type, test_type) VALUES ('{who}-an', '{who}-a', 'e', 't');
INSERT INTO audit_findings (id, analysis_id, ordinal, severity, rule_id, message)
VALUES ('{who}-af', '{who}-an', 1, 'minor', 'r', 'm');
INSERT INTO audit_events (task_id, analysis_id, action, by) VALUES ('{who}-a', '{who}-an', 'made', 'ann');
"""


def test_users_are_one_by_email_and_keep_their_work(two: tuple[Store, Store]) -> None:
    for store, who in zip(two, ("m", "t"), strict=True):
        for statement in INSERTS.format(who=who).split(";\n")[:-1]:
            store.database.execute_sql(statement).fetchall()
    mine, theirs = two
    before = theirs.database.execute_sql("SELECT total_files, processed_files FROM analysis_sessions").fetchall()
    result = mine.merge(theirs)
    run = mine.database.execute_sql
    assert result.conflicts == []
    assert run("SELECT id FROM users").fetchall() == [("m-u",)]
    assert run("SELECT id, version, prompt_content FROM configurations ORDER BY version").fetchall() == [
        ("m-c1", 1, "same"),
        ("m-c2", 2, "of m"),
        ("t-c2", 3, "of t"),
    ]
    assert run("SELECT DISTINCT user_id FROM analysis_sessions").fetchall() == [("m-u",)]
    assert run("SELECT total_files, processed_files FROM analysis_sessions WHERE id = 't-s'").fetchall() == before
    assert run("SELECT status, lease_until FROM analysis_tasks WHERE id = 't-t'").fetchall() == [("pending", None)]
    assert run("SELECT configuration_id, analysis_task_id FROM analysis_results WHERE id = 't-r'").fetchall() == [
        ("t-c2", "t-t")
    ]
    for table in ("audit_tasks", "audit_analyses", "audit_findings", "audit_events"):
        assert run(f"SELECT count(*) FROM {table}").fetchone()[0] == 2, table
    assert mine.merge(theirs).added == 0
    run("UPDATE users SET full_name = 'Ann'").fetchall()
    assert [(c.table, c.key) for c in mine.merge(theirs).conflicts] == [("users", "A@x.org")]


def test_every_table_is_merged_or_named(two: tuple[Store, Store]) -> None:
    mine, theirs = two
    names = {
        name
        for _, name, kind, *_ in mine.database.execute_sql("PRAGMA main.table_list").fetchall()
        if kind == "table" and not name.startswith("sqlite_")
    }
    assert names == set(mine.merge(theirs).tables) | set(NOT_MERGED)


def test_scans_that_are_not_whole_are_left_out_and_named(two: tuple[Store, Store]) -> None:
    mine, theirs = two
    theirs.scans.add("t")
    assert merged(mine, theirs).skipped == {"1 scans that were not recorded whole": "finish or remove them there"}
    assert mine.scans.list() == []


def test_reports_of_tools_come_with_their_runs(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    report = '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [%s]}]}'
    result = (
        '{"ruleId": "r%d", "message": {"text": "m%d"}, "locations": [{"physicalLocation":'
        ' {"artifactLocation": {"uri": "a.py"}, "region": {"startLine": %d, "snippet": {"text": "x%d"}}}}]}'
    )
    for store, numbers in ((mine, (1, 2)), (theirs, (2, 3)), (theirs, (3,)), (mine, (1,))):
        path = tmp_path / "r.sarif"
        path.write_text(report % ", ".join(result % ((n,) * 4) for n in numbers))
        store.sarif.load(path, target="repo")
    merged(mine, theirs)
    with mine.bound():
        states = {
            f.rule_id: [s.state for s in Sighting.select().where(Sighting.finding == f).order_by(Sighting.scan)]
            for f in Finding.select()
        }
    assert states == {
        "r1": ["new", "unchanged"],
        "r2": ["new", "fixed", "reopened", "fixed"],
        "r3": ["new", "unchanged"],
    }
    path.write_text(report % (result % ((3,) * 4)))  # theirs come after ours, and this is the latest of them
    assert mine.sarif.load(path, target="repo").again


def test_what_cannot_be_merged_is_refused(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    for other in (mine, mine.path):
        with pytest.raises(InvalidArgument, match="this store itself"):
            mine.merge(other)
    with pytest.raises(NotFound):
        mine.merge(tmp_path / "none.db")
    with mine.transaction(), pytest.raises(IllegalMove, match="transaction"):
        mine.merge(theirs)
    old = tmp_path / "old.db"
    migrations.up(old, to=6)
    with pytest.raises(OutdatedSchema):
        mine.merge(old)
    with Store(mine.path, read_only=True) as reader, pytest.raises(ReadOnly):
        reader.merge(theirs)
    with Store(":memory:") as memory:
        memory.settings["a"] = 1
        assert mine.merge(memory).added == 1


def test_a_merge_that_fails_changes_nothing(
    two: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanstore.maintenance.merge import merge

    mine, theirs = two
    mine.scans.record(SHOP)
    theirs.scans.record(write(tmp_path / "t", a="x = 1\n"))
    before = content(Path(mine.path))

    def fail(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merge, "PARTS", (*merge.PARTS, fail))
    with pytest.raises(KeyboardInterrupt):
        mine.merge(theirs)
    assert content(Path(mine.path)) == before
    monkeypatch.undo()
    merged(mine, theirs)


KILLED = """
import sys
from scanstore import Store
print("go", flush=True)
with Store(sys.argv[1]) as store:
    store.merge(sys.argv[2])
"""


def test_killed_in_the_middle_it_is_all_or_nothing(two: tuple[Store, Store], tmp_path: Path) -> None:
    mine, theirs = two
    for n in range(3):
        shutil.copytree(SHOP, tmp_path / f"t{n}")
        theirs.scans.record(tmp_path / f"t{n}")
    mine.settings["a"] = 1
    for wait in (0.02, 0.06, 0.12, 0.2):
        child = Program(KILLED, mine.path, theirs.path, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(wait)
        child.kill()
        child.wait()
        child.stdout.close()
        assert len(mine.scans.list()) in (0, 3)
        assert mine.check() == []
    merged(mine, theirs)
    assert len(mine.scans.list()) == 3


def test_the_other_may_lie_in_a_read_only_place(tmp_path: Path, new_file: Path) -> None:
    shutil.copy(new_file, tmp_path / "ours.db")
    with Store(tmp_path / "theirs.db") as theirs:
        theirs.settings["a"] = 1
    connection = sqlite3.connect(tmp_path / "theirs.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    (tmp_path / "theirs.db").chmod(0o400)
    with Store(tmp_path / "ours.db") as mine:
        assert mine.merge(tmp_path / "theirs.db").added == 1
