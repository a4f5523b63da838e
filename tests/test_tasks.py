"""The pages in docs/tasks/ reach their goals: the files and stores that a page leaves are looked at."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import needs
import pytest
from pages import ROOT, Page, Run, lacks

from scanstore import NotAScanstore, Store, WrongKey

TASKS = ROOT / "docs" / "tasks"
pytestmark = needs.fork


def followed(name: str, folder: Path) -> Path:
    """Do what a page says; return the folder of its reader."""
    page = Page((TASKS / f"{name}.md").read_text(encoding="utf-8"))
    if missing := lacks(page.needs):
        pytest.skip(f"needs {', '.join(missing)}")
    run = Run(page, folder)
    run(times=1)
    assert run.skipped == []
    return folder / "me" / "demo"


def test_each_task_is_a_page_with_a_goal_and_a_test() -> None:
    index = (TASKS / "index.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    for page in TASKS.glob("*.md"):
        if page.name != "index.md":
            text = page.read_text(encoding="utf-8")
            assert text.startswith("# How to ") and "**Goal:** " in text and f"]({page.name})" in index
            assert f'followed("{page.stem}"' in tests and len(text.splitlines()) <= 120


def test_dead_code_is_removed_and_code_that_is_used_stays(tmp_path: Path) -> None:
    folder = followed("dead-code", tmp_path)
    left = (folder / "shop.py").read_text(encoding="utf-8")
    assert "old_discount" not in left and "def halve" in left and "def export" in left
    kept = {line for line in (folder / "entry-points.allow").read_text().splitlines() if not line.startswith("#")}
    with Store(folder / "scanstore.db") as store, Store(folder / "without-tests.db") as alone:
        assert {row.qualified_name for row in store.symbols.unreferenced()} - kept == {"shop.halve"}
        assert {row.qualified_name for row in alone.symbols.unreferenced()} - kept == {"shop.halve", "shop.export"}
        assert "JavaScript" in [row.language for row in store.symbols.coverage() if row.lacks("references")]
        assert store.check() == alone.check() == []


def test_a_gate_stops_a_new_high_finding_until_it_is_accepted(tmp_path: Path) -> None:
    folder = followed("gate-ci", tmp_path)  # its `echo $?` shows that the gate ended with 1
    assert not (folder / "build.db").exists()
    with Store(folder / "kept.db") as store:
        assert [(row.rule_id, row.severity, row.status) for row in store.findings.list()] == [
            ("EVAL", "high", "open"), ("EVAL", "high", "open"), ("ASSERT", "low", "open"),
        ]  # fmt: skip
        (accepted,) = store.findings.list(suppressed=True)
        assert accepted.file_path == "app/views.py" and accepted.state == "new"
        (why,) = store.findings.suppressions(active=True)
        assert why.justification == "only admins can call it" and why.expires_at is not None
        assert timedelta(29) < why.expires_at - datetime.now(UTC) < timedelta(31)
        assert store.check() == []


def test_a_plan_is_applied_and_reverted_and_keeps_the_edit_of_a_person(tmp_path: Path) -> None:
    with Store(followed("review-plan", tmp_path) / "scanstore.db") as store:
        titles = {scene.id: (scene.title, scene.details) for scene in store.library.list()}
        assert titles == {"12": ("untitled_03", None), "13": ("Sea", None), "14": ("The harbour", "A harbour.")}
        assert [scene.id for scene in store.library.list(tag="1")] == ["12"]
        changes = [(row.status, row.reviewer) for row in store.plans.changes(1)]
        assert changes == [("reverted", "ann"), ("reverted", "ann"), ("skipped", "ann"), ("rejected", "ann")]
        assert store.plans.get(1).status == "reverted" and store.check() == []


def test_a_moved_store_has_the_same_rows_and_continues(tmp_path: Path) -> None:
    folder = followed("move-store", tmp_path)
    with Store(folder / "laptop/scanstore.db") as moved, Store(folder / "moved.db") as sent:
        first, second = sorted(moved.scans.list(), key=lambda scan: scan.id)
        assert (first.target, second.target) == ("shop", "shop")
        assert (first.root, second.root) == (str(folder / "desk/shop"), str(folder / "laptop/shop"))
        assert moved.scans.summary(second).reused == 1 and moved.check() == sent.check() == []
    with Store(folder / "copied.db") as copied:
        assert dict(copied.settings) == {}
    with Store(folder / "loaded.db") as loaded:
        assert dict(loaded.settings) == {"page_size": 50} and len(loaded.scans.list()) == 1 and loaded.check() == []
    assert (folder / "sent.jsonl").read_bytes() == (folder / "again.jsonl").read_bytes()


def test_callers_in_sql_are_those_of_the_store(tmp_path: Path) -> None:
    folder = followed("callers-in-sql", tmp_path)
    with Store(folder / "scanstore.db") as store:
        found = store.symbols.callers("prices.discount", depth=None)
        assert [(row.distance, row.qualified_name) for row in found] == [(1, "orders.total"), (2, "orders.invoice")]
        assert store.symbols.callers("orders.Printer.print_bill") == []
        assert len(store.symbols.callers("orders.Printer.print_bill", guesses=True)) == 1
        assert store.check() == []


def test_a_killed_review_pays_for_each_answer_once(tmp_path: Path) -> None:
    folder = followed("keep-answers", tmp_path)
    paid = (folder / "bill.txt").read_text(encoding="utf-8").splitlines()
    assert len(paid) == len(set(paid)) == 5
    with Store(folder / "scanstore.db") as store:
        scan = store.scans.latest()
        assert store.chunks.state(scan).done == 5 and store.chunks.state(scan).finished
        assert sum(row.calls for row in store.llm.usage()) == len(paid)
        assert [row.status for row in store.scans.list()][-1] == "running"  # the killed one
        assert store.check() == []


def test_an_encrypted_store_is_read_with_its_last_key_only(tmp_path: Path) -> None:
    folder = followed("encrypt", tmp_path)
    first, second = ((folder / f"{name}.key").read_text().strip() for name in ("first", "second"))
    for file in ("scanstore.db", "copy.db"):
        content = (folder / file).read_bytes()
        assert b"SECRET_RECIPE" not in content and not content.startswith(b"SQLite")
        with pytest.raises(NotAScanstore):
            Store(folder / file)
        with pytest.raises(WrongKey):
            Store(folder / file, key=first)
        with Store(folder / file, key=second) as store:
            assert store.symbols.find("SECRET_RECIPE") and store.check() == []
    assert "SECRET_RECIPE" in (folder / "plain.jsonl").read_text(encoding="utf-8")
    assert (folder / "first.key").stat().st_mode & 0o077 == 0


def test_forty_findings_are_decided_with_reasons_that_a_report_keeps(tmp_path: Path) -> None:
    with Store(followed("triage", tmp_path) / "scanstore.db") as store:
        findings = store.findings.list()
        hidden = {key: row.justification for key, row in store.findings.suppressed(findings).items()}
        reasons: dict[str, int] = {}
        for row in findings:
            notes = [event.note for event in store.findings.history(row) if event.action == "status"]
            why = hidden.get(row.id) or (notes[-1] if notes else "undecided")
            reasons[f"{row.status}: {why}"] = reasons.get(f"{row.status}: {why}", 0) + 1
        assert reasons == {
            "open: tests may assert": 24,
            "false_positive: only a key of the cache": 7,
            "confirmed: fix in May": 4,
            "open: the admin page goes in May": 5,
            "open: undecided": 1,
        }
        assert [row.state for row in findings].count("new") == 1 and len(store.scans.list()) == 2
        assert {event.by for row in findings for event in store.findings.history(row)} == {"ann"}
        assert store.check() == []


def test_the_rows_of_a_damaged_file_are_saved(tmp_path: Path) -> None:
    folder = followed("recover", tmp_path)
    with Store(folder / "scanstore.db") as store:
        rules = {row.rule_id for row in store.findings.suppressions()}
        assert rules == {f"rule-{number}" for number in range(200)}
        assert store.symbols.find("total") and store.check() == []
    (damaged,) = folder.glob("scanstore.db.before-restore-*")
    with sqlite3.connect(damaged) as file, pytest.raises(sqlite3.DatabaseError, match="malformed"):
        file.execute("SELECT * FROM suppressions").fetchall()
    file.close()


def test_an_indexer_of_ones_own_answers_for_its_files(tmp_path: Path) -> None:
    with Store(followed("own-indexer", tmp_path) / "scanstore.db") as store:
        edges = {(edge.from_symbol, edge.name): edge.resolution for edge in store.symbols.edges(store.scans.latest())}
        assert edges == {
            ("revenue", "orders"): "imported", ("best", "revenue"): "exact",
            ("best", "customers"): "unresolved", ("items", "orders"): "exact",
        }  # fmt: skip
        (sql,) = store.symbols.coverage()
        assert (sql.language, sql.files, sql.recorded) == ("SQL", 2, ("symbols", "references"))
        scan = store.scans.analyze(store.scans.latest())
        assert [json.dumps(store.chunks.text(chunk))[1:7] for chunk in store.chunks.list(scan)] == ["CREATE"] * 2
        assert store.check() == []
