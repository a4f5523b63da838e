"""What the two review systems that this store can carry were asked for, one promise after the other.

The documents are named after what they are about: *sessions* (users, analysis sessions, prompts, uploads, results,
tasks, migrations, connections) and *audits* (users, tasks, analyses, findings, asynchronous sessions, naming). A test
says in its first line which promise it holds. How well each part does its work is tested with that part.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import peewee
import pytest

from scanstore import AsyncStore, Store, dependencies, models
from scanstore.db.rules import insert_row
from scanstore.errors import Conflict, IllegalMove, InvalidArgument
from scanstore.models import (
    Analysis,
    AnalysisFinding,
    AnalysisResult,
    AnalysisSession,
    AnalysisTask,
    Configuration,
    FileUpload,
    Task,
    User,
)

ROOT = Path(__file__).parent.parent
HASH = "$2b$12$" + "a" * 53  # of no password that anybody has
AUDITED = (User, Task, Analysis, AnalysisFinding)
SESSIONS = (User, AnalysisSession, Configuration, FileUpload, AnalysisResult, AnalysisTask)


@pytest.fixture
def user(store: Store) -> User:
    return store.accounts.add("ada@example.org", hashed_password=HASH, full_name="Ada")


@pytest.fixture
def session(store: Store, user: User) -> AnalysisSession:
    """A session with one of everything."""
    session = store.sessions.add(user, "first")
    store.sessions.start(session)
    store.sessions.uploads.add(session, [{"file_path": "src/a.py", "file_size": 10, "file_type": "text/x-python"}])
    prompt = store.sessions.prompts.add(user, "review", "Look.")
    store.sessions.tasks.add(session, "review", task_id="outer-1")
    (task,) = store.sessions.tasks.claim(session)
    store.sessions.tasks.complete(
        task, result={"analysis_type": "review", "result_content": "fine", "score": "87.25", "configuration": prompt}
    )
    return store.sessions.get(session)


@pytest.fixture
def audit(store: Store, user: User) -> Task:
    """A completed audit with two findings."""
    task = store.audits.add(user, "report.pdf", 1000, file_path="kept/report.pdf")
    store.audits.complete(
        task,
        analysis={
            "equipment_type": "ground", "test_type": "resistance", "equipment_tag": "G-1", "confidence_score": 0.9,
            "extraction_result": {"pages": 3}, "validation_result": {"ok": True},
        },
        findings=[
            {"severity": "MAJOR", "rule_id": "GND-01", "message": "too high", "evidence": {"page": 2}},
            {"severity": "minor", "rule_id": "CAL-02", "message": "no date", "remediation": "ask for it"},
        ],
    )  # fmt: skip
    return store.audits.get(task)


# Tables and columns

# column -> (kind, length or None, may be null, default or ...)
TABLES: dict[type[peewee.Model], dict[str, tuple[str, int | None, bool, Any]]] = {
    User: {
        "email": ("text", 255, False, ...), "hashed_password": ("text", 255, False, ...),
        "full_name": ("text", 255, True, ...), "role": ("text", 50, False, "user"),
        "is_active": ("integer", None, False, True),
    },
    AnalysisSession: {
        "user_id": ("text", None, False, ...), "session_name": ("text", 255, False, ...),
        "status": ("text", 50, False, "created"), "completed_at": ("text", None, True, ...),
        "total_files": ("integer", None, False, 0), "processed_files": ("integer", None, False, 0),
    },
    Configuration: {
        "user_id": ("text", None, False, ...), "config_type": ("text", 50, False, ...),
        "prompt_content": ("text", None, False, ...), "is_default": ("integer", None, False, False),
        "version": ("integer", None, False, 1),
    },
    FileUpload: {
        "analysis_session_id": ("text", None, False, ...), "file_name": ("text", 255, False, ...),
        "file_path": ("text", 500, False, ...), "file_size": ("integer", None, False, ...),
        "file_type": ("text", 100, False, ...), "upload_status": ("text", 50, False, "uploaded"),
    },
    AnalysisResult: {
        "analysis_session_id": ("text", None, False, ...), "configuration_id": ("text", None, True, ...),
        "analysis_type": ("text", 50, False, ...), "file_name": ("text", 255, True, ...),
        "result_content": ("text", None, False, ...), "score": ("numeric", None, True, ...),
        "status": ("text", 50, False, "pending"),
    },
    AnalysisTask: {
        "analysis_session_id": ("text", None, False, ...), "task_id": ("text", 255, False, ...),
        "task_type": ("text", 50, False, ...), "status": ("text", 50, False, "pending"),
        "progress": ("integer", None, False, 0), "error_message": ("text", None, True, ...),
        "started_at": ("text", None, True, ...), "completed_at": ("text", None, True, ...),
    },
    Task: {
        "user_id": ("text", None, False, ...), "status": ("text", 50, False, "queued"),
        "original_filename": ("text", 255, False, ...), "file_path": ("text", 500, True, ...),
        "file_size": ("integer", None, False, ...), "error_message": ("text", None, True, ...),
    },
    Analysis: {
        "task_id": ("text", None, False, ...), "equipment_type": ("text", 50, False, ...),
        "test_type": ("text", 50, False, ...), "equipment_tag": ("text", 100, True, ...),
        "verdict": ("text", 50, True, ...), "compliance_score": ("real", None, True, ...),
        "confidence_score": ("real", None, True, ...), "extraction_result": ("text", None, True, ...),
        "validation_result": ("text", None, True, ...),
    },
    AnalysisFinding: {
        "analysis_id": ("text", None, False, ...), "severity": ("text", 50, False, ...),
        "rule_id": ("text", 100, False, ...), "message": ("text", None, False, ...),
        "evidence": ("text", None, True, ...), "remediation": ("text", None, True, ...),
    },
}  # fmt: skip
COLUMNS = [(model, name) for model, columns in TABLES.items() for name in columns]


@pytest.mark.parametrize(("model", "column"), COLUMNS, ids=lambda each: getattr(each, "__name__", each))
def test_columns(store: Store, model: Any, column: str) -> None:
    """sessions 7.1, audits task 2 and 3: every column, its type, whether it may be null, its default and length."""
    kind, length, null, default = TABLES[model][column]
    table = model._meta.table_name
    found = {row[1]: row for row in store.database.execute_sql(f"PRAGMA table_info({table})").fetchall()}[column]
    assert found[2].lower() == kind
    assert bool(found[3]) != null
    field = model._meta.combined[column]
    if default is not ...:
        assert field.default == default
        assert found[4].strip("'") == str(int(default) if isinstance(default, bool) else default)
    (sql,) = store.database.execute_sql("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    if length is not None and getattr(field, "words", None) is None:  # a status is one of a few short words
        assert re.search(rf"length\({column}\) (BETWEEN \d+ AND|<=) {length}\b", sql), column


@pytest.mark.parametrize("model", TABLES, ids=lambda m: m.__name__)
def test_every_row_has_a_uuid_and_times(store: Store, session: Any, audit: Any, model: Any) -> None:
    """sessions 7.1 BaseModel; audits task 1 TimestampMixin: UUID keys, created_at, and updated_at on every change."""
    row = model.select().first()
    assert str(uuid.UUID(str(row.id))) == str(row.id)
    assert row.created_at.tzinfo is UTC and row.updated_at >= row.created_at
    if model is Configuration:
        return  # versions do not change
    table = model._meta.table_name
    run = store.database.execute_sql
    run(f"UPDATE {table} SET updated_at = '2020-01-01T00:00:00.000Z' WHERE id = ?", (row.id,))
    run(f"UPDATE {table} SET created_at = created_at WHERE id = ?", (row.id,))  # whoever writes
    assert model.get_by_id(row.id).updated_at.year > 2020


def test_email_is_unique_and_indexed(store: Store, user: User) -> None:
    """audits task 2: email is unique, indexed and not null; here also in other case."""
    with pytest.raises(Conflict):
        store.accounts.add("ADA@Example.org", hashed_password=HASH)
    with pytest.raises(peewee.IntegrityError):
        store.database.execute_sql("UPDATE users SET email = NULL")
    plan = store.database.execute_sql("EXPLAIN QUERY PLAN SELECT id FROM users WHERE email_key = 'x'").fetchall()
    assert "uq_users_email_key" in str(plan) or "autoindex_users" in str(plan)


def test_task_ids_are_unique(store: Store, session: AnalysisSession) -> None:
    """sessions 7.1 AnalysisTask: task_id is unique."""
    with pytest.raises(peewee.IntegrityError):
        AnalysisTask.create(session=session, task_id="outer-1", task_type="other")


def test_scores_are_exact(store: Store, session: AnalysisSession) -> None:
    """sessions 7.1 AnalysisResult: score is Numeric(5, 2)."""
    (result,) = store.sessions.results.list(session)
    assert result.score == Decimal("87.25")
    with pytest.raises(InvalidArgument):
        store.sessions.results.add(session, analysis_type="x", result_content="y", score=101)


def test_json_columns_keep_any_shape(store: Store, audit: Task) -> None:
    """audits verification: JSON columns are JSON."""
    analysis = store.audits.analysis(audit)
    assert (analysis.extraction_result, analysis.validation_result) == ({"pages": 3}, {"ok": True})
    first, second = store.audits.findings(audit)
    assert (first.evidence, second.evidence) == ({"page": 2}, None)
    sql = "SELECT json_extract(evidence, '$.page') FROM audit_findings WHERE rule_id = 'GND-01'"
    assert store.database.execute_sql(sql).fetchone() == (2,)


def test_verdicts_and_severities_are_the_documents(store: Store, audit: Task) -> None:
    """audits task 3: APPROVED, REVIEW, REJECTED; CRITICAL, MAJOR, MINOR, INFO; 0 to 100 and 0 to 1."""
    analysis = store.audits.analysis(audit)
    assert Analysis.verdict.words == ("approved", "review", "rejected")
    assert set(AnalysisFinding.severity.words) == {"critical", "major", "minor", "info"}
    assert analysis.compliance_score == 88
    for column, value in (("compliance_score", 100.5), ("confidence_score", 1.2)):
        with pytest.raises(peewee.IntegrityError):
            store.database.execute_sql(f"UPDATE audit_analyses SET {column} = ?", (value,))


# Relationships


@pytest.mark.parametrize(
    ("child", "forth", "parent", "back"),
    [
        (AnalysisSession, "user", User, "sessions"),
        (Configuration, "user", User, "configurations"),
        (FileUpload, "session", AnalysisSession, "files"),
        (AnalysisResult, "session", AnalysisSession, "results"),
        (AnalysisTask, "session", AnalysisSession, "tasks"),
        (AnalysisResult, "configuration", Configuration, "results"),
        (Task, "user", User, "tasks"),
        (AnalysisFinding, "analysis", Analysis, "findings"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_relationships_work_in_both_directions(
    store: Store, session: Any, audit: Any, child: Any, forth: str, parent: Any, back: str
) -> None:
    """sessions 7.1 back_populates; audits must-have "All models have proper relationships defined", bidirectional."""
    row = child.select().first()
    owner = getattr(row, forth)
    assert isinstance(owner, parent)
    assert row in list(getattr(owner, back))


def test_an_audit_has_one_analysis_at_most(store: Store, audit: Task) -> None:
    """audits task 2 and 3: Task and Analysis are one to one, and optional."""
    analysis = audit.analysis
    assert analysis is not None and analysis.task == audit
    assert store.audits.add(audit.user_id, "next.pdf", 1).analysis is None
    with pytest.raises(peewee.IntegrityError):
        insert_row(Analysis, task=audit, equipment_type="x", test_type="y")


@pytest.mark.parametrize("model", [*TABLES, models.AuditEvent], ids=lambda m: m.__name__)
def test_foreign_keys_have_indexes(store: Store, model: Any) -> None:
    """audits verification: foreign keys have proper indexes."""
    table, run = model._meta.table_name, store.database.execute_sql
    firsts = set()
    for row in run(f"PRAGMA index_list({table})").fetchall():
        firsts.add(run(f"PRAGMA index_info({row[1]})").fetchone()[2])
    assert {row[3] for row in run(f"PRAGMA foreign_key_list({table})").fetchall()} <= firsts


def test_a_session_takes_its_files_results_and_tasks_along(store: Store, session: AnalysisSession, user: User) -> None:
    """sessions 7.1: cascade "all, delete-orphan" on files, results and tasks; the prompt stays."""
    store.sessions.remove(session)
    assert [model.select().count() for model in (AnalysisSession, FileUpload, AnalysisResult, AnalysisTask)] == [0] * 4
    assert store.sessions.prompts.get(user, "review").prompt_content == "Look."
    assert store.check() == []


def test_a_user_who_has_something_is_not_removed(store: Store, session: Any, audit: Any, user: User) -> None:
    """sessions 7.1: user_id may not be null, so nothing is left without its user."""
    with pytest.raises(IllegalMove, match="deactivate"):
        store.accounts.remove(user)
    with pytest.raises(peewee.IntegrityError):
        store.database.execute_sql("DELETE FROM users")
    assert not store.accounts.deactivate(user).is_active
    assert store.sessions.get(session).user_id == user.id
    assert store.check() == []


# Models, names, migrations


def test_models_import_without_a_database(tmp_path: Path) -> None:
    """audits must-have "SQLAlchemy models can be imported without database connection"; no circular imports."""
    code = """
import sys, importlib
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event == "sqlite3.connect" else None)
importlib.import_module("scanstore." + sys.argv[1])
from scanstore.models import User, Task, Analysis, AnalysisFinding
print(User._meta.table_name, seen)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCANSTORE_DB": str(tmp_path / "no" / "such.db")}
    for first in ("models", "accounts", "sessions", "audits", "dependencies"):
        done = subprocess.run(
            [sys.executable, "-c", code, first], capture_output=True, text=True, timeout=60, env=environment
        )
        assert (done.stdout, done.stderr) == ("users []\n", ""), first


def test_rows_are_made_without_a_database() -> None:
    """audits success criterion "Models match Pydantic schema structure": a row is made from the fields of one."""
    made = Analysis(task=str(uuid.uuid4()), equipment_type="ground", test_type="resistance", verdict="REVIEW")
    assert made.to_dict()["equipment_type"] == "ground"
    for model in {*AUDITED, *SESSIONS}:
        assert set(model().to_dict()) == set(model._meta.sorted_field_names) - model.__secret__


def constraints(store: Store) -> list[tuple[str, str, str, str]]:
    """Every constraint of the schema: table, name, kind, and the columns of a key."""
    found = []
    sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE TABLE%'"
    for table, statement in store.database.execute_sql(sql).fetchall():
        text = re.sub(r"--[^\n]*", "", statement)
        for name, kind, columns in re.findall(
            r"CONSTRAINT\s+(\w+)\s+(PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY)(?:\s*\(([\w\s,]+)\))?", text
        ):
            found.append((table, name, kind, columns))
    return found


def test_every_constraint_is_named_after_its_table_and_columns(store: Store) -> None:
    """audits task 1: "Configure naming conventions for constraints (ix_, uq_, ck_, fk_, pk_)", of the whole schema."""
    prefixes = {"PRIMARY KEY": "pk", "UNIQUE": "uq", "CHECK": "ck", "FOREIGN KEY": "fk"}
    found = constraints(store)
    assert len(found) > 150
    for table, name, kind, columns in found:
        prefix = prefixes[kind]
        assert name.startswith(f"{prefix}_{table}"), name
        if kind == "PRIMARY KEY":
            assert name == f"pk_{table}"
        elif kind != "CHECK":
            assert name == "_".join((prefix, table, *re.split(r"[\s,]+", columns.strip()))), name
    assert len({name for _, name, _, _ in found}) == len(found)


def test_every_index_is_named_after_its_table(store: Store) -> None:
    """audits task 1: ix_ and uq_, of the whole schema."""
    sql = "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
    for name, table, statement in store.database.execute_sql(sql).fetchall():
        assert name.startswith(f"{'uq' if 'UNIQUE' in statement else 'ix'}_{table}_"), name


def test_migrations_go_up_and_down(tmp_path: Path) -> None:
    """sessions 7.2: an upgrade makes all tables, a downgrade drops them in reverse order."""
    tables = {model._meta.table_name for model in TABLES} | {"audit_events"}
    with Store(tmp_path / "a.db") as store:

        def names() -> set[str]:
            return {name for (name,) in store.database.execute_sql("SELECT name FROM sqlite_schema").fetchall()}

        assert tables <= names()
        store.migrate_down("006_search_notes")
        assert not [name for name in names() if any(table in name for table in tables)]
        store.migrate_up()
        assert tables <= names()


# Connections


def test_a_session_of_the_environments_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sessions 7.3 get_db and get_db_context: DATABASE_URL says where; closed or given back in any case."""
    monkeypatch.delenv("SCANSTORE_DB", raising=False)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/web.db")
    try:
        assert inspect.isgeneratorfunction(dependencies.get_db)
        with pytest.raises(LookupError), dependencies.get_db_context() as db:
            db.settings.set("a", 1)
            raise LookupError
        with dependencies.get_db_context() as db:
            assert db.settings["a"] == 1
    finally:
        dependencies.close_all()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == ["web.db"]


def test_the_async_session_factory_is_configurable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """audits must-have "Async session factory is configurable via environment"; exports async_session_factory and
    get_async_session, an asynchronous generator for dependency injection."""
    monkeypatch.setenv("SCANSTORE_DB", str(tmp_path / "one.db"))
    assert inspect.isasyncgenfunction(dependencies.get_async_session)

    async def main() -> list[str]:
        found = []
        for name in ("one.db", "two.db"):
            monkeypatch.setenv("SCANSTORE_DB", str(tmp_path / name))
            async with dependencies.async_session_factory() as store:
                assert isinstance(store, AsyncStore)
                found.append(store.path)
            async for shared in dependencies.get_async_session():
                found.append(shared.path)
        return found

    try:
        assert [Path(path).name for path in asyncio.run(main())] == ["one.db", "one.db", "two.db", "two.db"]
    finally:
        dependencies.close_all()


@pytest.mark.parametrize(
    ("promise", "kept"),
    [
        ("DATA-01 stores analysis results", lambda s: s.audits.analyses),
        ("DATA-02 asynchronous", lambda s: AsyncStore),
        ("DATA-04 stores user and authentication data", lambda s: s.accounts.authenticate),
        ("DATA-05 stores document metadata and storage references", lambda s: Task.file_path),
    ],
)
def test_requirements(store: Store, promise: str, kept: Callable[[Store], Any]) -> None:
    """audits "Requirements this plan addresses": each has its place; the tests of that place say how well."""
    assert kept(store) is not None, promise


def test_an_audit_through_await(db_path: Path) -> None:
    """audits objective: the persistence of a whole audit, asynchronously."""

    async def main() -> None:
        async with AsyncStore(db_path) as store:
            user = await store.accounts.add("ada@example.org", hashed_password=HASH)
            task = await store.audits.add(user, "report.pdf", 1000)
            (claimed,) = await store.audits.claim()
            assert claimed == task
            completed = await store.audits.complete(
                claimed,
                analysis={"equipment_type": "ground", "test_type": "resistance", "confidence_score": 0.5},
                findings=[{"severity": "major", "rule_id": "GND-01", "message": "too high"}],
            )
            analysis = await store.audits.analysis(completed)
            assert (analysis.verdict, analysis.compliance_score) == ("review", 90)
            reviewed = await store.audits.review(analysis, "approved", by="Ada", reason="measured again")
            assert (reviewed.verdict, reviewed.machine_verdict) == ("approved", "review")
            assert (await store.audits.trail(task)).total >= 3
            assert [row.rule_id for row in await store.audits.findings(task)] == ["GND-01"]
            assert await store.check() == []

    asyncio.run(main())
