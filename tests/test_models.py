"""Each model by itself: it does all that the calls of the store do, or refuses and names the call.

Whatever is tried, the error is one of scanstore's, `store.check()` finds nothing afterwards, and a saved row holds the
values of the database.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanstore import Conflict, IllegalMove, InvalidArgument, NotFound, ScanstoreError, Store
from scanstore import models as all_models
from scanstore.db.fields import Base, EnumField
from scanstore.models import (
    Analysis,
    AnalysisFinding,
    AnalysisPlan,
    AnalysisResult,
    AnalysisSession,
    AnalysisTask,
    AuditEvent,
    Configuration,
    DraftFinding,
    FileUpload,
    Finding,
    FindingEvent,
    ImportRelation,
    Job,
    JobScene,
    ModelConfig,
    Performer,
    PlanChange,
    Scan,
    ScanConfig,
    ScanFile,
    ScanFileChunk,
    Scene,
    ScenePerformer,
    SceneTag,
    ScheduledTask,
    Setting,
    Sighting,
    Studio,
    Suppression,
    Symbol,
    SymbolReference,
    SyncRun,
    Tag,
    Task,
    ToolRun,
    User,
    Vote,
)

MODELS: list[type[Base]] = [getattr(all_models, name) for name in all_models.__all__]
Given = dict[str, Any]


@pytest.fixture
def world(store: Store, tmp_path: Path) -> Given:
    """Rows for the others to refer to."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("def f():\n    return g()\n\n\ndef g():\n    return 1\n")
    scan = store.scans.record(tmp_path / "tree")
    user = store.accounts.add("ada@example.org")
    audit = store.audits.add(user, "a.pdf", 1)
    done = store.audits.complete(audit, analysis={"equipment_type": "pump", "test_type": "leak"}, findings=[]).analysis
    Scene.create(id="s1", title="One")
    Tag.create(id="t1", name="tag")
    Performer.create(id="p1", name="performer")
    return {
        "scan": scan, "user": user, "analysis": done, "session": store.sessions.add(user, "first"),
        "plan": store.plans.add("plan"), "job": store.jobs.enqueue("work"), "model": store.llm.add("m"),
    }  # fmt: skip


#: The fields that a new row needs. Models that are missing here refuse, and name the call.
MINIMAL: dict[type[Base], Callable[[Given], Given]] = {
    AnalysisFinding: lambda w: {"analysis": w["analysis"], "severity": "Major", "rule_id": "r", "message": "m"},
    AnalysisPlan: lambda w: {"name": "p"},
    AnalysisResult: lambda w: {"session": w["session"], "analysis_type": "t", "result_content": "c"},
    AnalysisSession: lambda w: {"user": w["user"], "session_name": "s"},
    AnalysisTask: lambda w: {"session": w["session"], "task_type": "t"},
    AuditEvent: lambda w: {"analysis": w["analysis"], "action": "noted", "by": "ann"},
    Configuration: lambda w: {"user": w["user"], "config_type": "summary", "prompt_content": "c"},
    DraftFinding: lambda w: {
        "scan": w["scan"], "file_path": "a.py", "title": "T", "vulnerability_type": "x", "severity": "High",
    },
    FileUpload: lambda w: {"session": w["session"], "file_path": "d/a.txt", "file_size": 1},
    Finding: lambda w: {"scan": w["scan"], "rule_id": "r", "title": "T", "severity": "High", "file_path": "a.py"},
    FindingEvent: lambda w: {"finding": finding(w), "action": "Comment", "by": "ann", "note": "n"},
    Job: lambda w: {"type": "work"},
    JobScene: lambda w: {"job": w["job"], "scene": "s1"},
    ModelConfig: lambda w: {"name": "n"},
    Performer: lambda w: {"id": "p2", "name": "n"},
    PlanChange: lambda w: {
        "plan": w["plan"], "scene": "s1", "field": "title", "action": "Set", "proposed_value": "Two",
    },
    Scan: lambda w: {"target": "t"},
    ScanConfig: lambda w: {"scan": w["scan"]},
    ScanFile: lambda w: {"scan": w["scan"], "file_path": "b.py"},
    Scene: lambda w: {"id": "s2"},
    ScenePerformer: lambda w: {"scene": "s1", "performer": "p1"},
    SceneTag: lambda w: {"scene": "s1", "tag": "t1"},
    ScheduledTask: lambda w: {"name": "nightly", "task_type": "work", "schedule": "0 3 * * *"},
    Setting: lambda w: {"key": "k", "value": 1},
    Studio: lambda w: {"id": "u", "name": "n"},
    Symbol: lambda w: {
        "scan": Scan.create(target="other"), "file_path": "x.c", "name": "f", "symbol_type": "Function",
    },
    SyncRun: lambda w: {"kind": "Scene"},
    Tag: lambda w: {"id": "t2", "name": "n"},
    Task: lambda w: {"user": w["user"], "original_filename": "b.pdf", "file_size": 1},
    ToolRun: lambda w: {"scan": w["scan"], "tool": "t", "digest": "d"},
    User: lambda w: {"email": "Bob@example.org"},
}  # fmt: skip


def finding(world: Given) -> Finding:
    return Finding.create(scan=world["scan"], rule_id="r", title="T", severity="high", file_path="a.py")


def as_stored(row: Any) -> bool:
    """Whether a row holds the values of the database."""
    fresh = type(row).get(row._pk_expr())
    return dict(row.__data__) == dict(fresh.__data__)


def names_a_call(error: ScanstoreError) -> bool:
    return re.search(r"store\.\w+\.\w+", str(error)) is not None


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_each_model_adds_changes_and_deletes_or_names_the_call(store: Store, world: Given, model: Any) -> None:
    if model not in MINIMAL:
        with pytest.raises(InvalidArgument) as refused:
            model.create()
        assert names_a_call(refused.value)
        with pytest.raises(InvalidArgument):
            model.insert()
        return
    row = model.create(**MINIMAL[model](world))
    assert as_stored(row) and store.check() == []
    for name, field in model._meta.fields.items():
        attempt(row, name, field)
        assert store.check() == [], name
        row = model.get(row._pk_expr())
    try:
        assert row.delete_instance() >= 0
    except ScanstoreError as error:
        assert isinstance(error, Conflict) or names_a_call(error)
    assert store.check() == []


def attempt(row: Any, name: str, field: Any) -> None:
    """Set one column of a row to each of some values, through `save` and through `update`."""
    words = [*field.words, field.words[0].upper(), "sideways"] if isinstance(field, EnumField) else []
    for value in (*words, "x", 1, None):
        if name in row._key_names():
            continue
        try:
            setattr(row, name, value)
            row.save()
        except ScanstoreError as error:
            assert "\n" not in str(error)
            row = type(row).get(row._pk_expr())
        else:
            assert as_stored(row), (name, value)
        try:
            type(row).update({field: value}).where(row._pk_expr()).execute()
        except ScanstoreError:
            pass
        except (ValueError, TypeError):  # Peewee converts the value
            assert not isinstance(value, str) or not words
        row = type(row).get(row._pk_expr())


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_wrong_words_are_refused(store: Store, world: Given, model: Any) -> None:
    given = MINIMAL[model](world) if model in MINIMAL else {}
    with pytest.raises(ScanstoreError):
        model.create(**given, nonsense=1)
    for name, field in model._meta.fields.items():
        if isinstance(field, EnumField):
            with pytest.raises(ScanstoreError):
                model.create(**{**given, name: "sideways"})
    assert store.check() == []


def test_the_calls_that_models_name_exist() -> None:
    for model in MODELS:
        rules = model.__rules__
        for text in (
            rules.create, rules.delete, rules.held, rules.frozen, *rules.state.values(), *rules.fixed.values(),
        ):  # fmt: skip
            for path in re.findall(r"store\.([\w.]*\w)", text):
                thing: Any = Store
                for part in path.split("."):
                    thing = getattr(thing, part, None)
                    assert thing is not None, (model, text)
                    thing = domain(thing)


def domain(thing: Any) -> Any:
    """The class of the domain that a property returns, or the thing itself."""
    getter = getattr(thing, "func", None) or getattr(thing, "fget", None)
    if getter is None:
        return thing
    with Store(":memory:") as store:
        found: Any = store
        for name in (getter.__name__,):
            found = getattr(found, name, None) or getattr(store.sessions, name)
        return type(found)


# One by one


@pytest.mark.parametrize("model", [SymbolReference, ImportRelation, ScanFileChunk])
def test_rows_of_views_are_recorded_with_their_file(store: Store, world: Given, model: Any) -> None:
    for use in (lambda: model.create(scan=world["scan"]), lambda: model.insert(scan=1), model.delete):
        with pytest.raises(InvalidArgument, match=r"store\.(symbols\.record_file|scans\.remove)"):
            use()
    with pytest.raises(InvalidArgument, match="store"):
        model.update(scan=2)


def test_columns_that_the_database_computes(store: Store, world: Given) -> None:
    change = store.plans.propose(world["plan"], "s1", "title", "set", proposed="Two")
    with pytest.raises(InvalidArgument, match=r"applied of PlanChange .*store\.plans\.apply"):
        PlanChange.update(applied=True)
    change.applied = True
    with pytest.raises(InvalidArgument, match=r"store\.plans\.apply"):
        change.save()


def test_a_draft_in_a_chunk_needs_an_analysis(store: Store, world: Given) -> None:
    chunk = ScanFileChunk.select().first()
    given = {"chunk": chunk, "title": "T", "vulnerability_type": "x", "severity": "low"}
    with pytest.raises(IllegalMove, match=r"store\.scans\.analyze\(1\)"):
        DraftFinding.create(**given)
    store.scans.analyze(world["scan"])
    row = DraftFinding.create(**given)
    assert (row.scan_id, row.file_path, row.rank, row.title_key) == (world["scan"].id, "a.py", 3, "t")
    with pytest.raises(Conflict, match=r"store\.drafts\.add"):
        DraftFinding.create(**given | {"vulnerability_type": "X"})
    row.severity = "Critical"
    row.save()
    assert (row.severity, row.rank) == ("critical", 0)
    with pytest.raises(InvalidArgument, match=r"store\.chunks"):
        ScanFileChunk.update(status="done").execute(), store.drafts.skip(row, "no")
        ScanFileChunk.update(status="pending").execute()
    assert store.check() == []


def test_a_change_is_completed(store: Store, world: Given) -> None:
    made = PlanChange.create(plan=world["plan"], scene="s1", field="title", action="SET", proposed_value="Two")
    assert (made.target_key, made.current_value, made.status, made.applied) == ("s1", "One", "pending", False)
    assert store.plans.propose(world["plan"], "s1", "title", "set", proposed="Two") == made
    with pytest.raises(InvalidArgument, match="one scene or one finding"):
        PlanChange.create(plan=world["plan"], field="title", action="set", proposed_value="Two")
    with pytest.raises(NotFound, match="no plan 99"):
        PlanChange.create(plan=99, scene="s1", field="title", action="set", proposed_value="Two")
    store.plans.cancel(world["plan"])
    with pytest.raises(IllegalMove, match="takes no proposals"):
        PlanChange.create(plan=world["plan"], scene="s1", field="title", action="set", proposed_value="Three")


def test_findings_of_an_audit_are_numbered(store: Store, world: Given) -> None:
    given = {"analysis": world["analysis"], "severity": "minor", "rule_id": "r", "message": "m"}
    assert [AnalysisFinding.create(**given).ordinal for _ in range(3)] == [1, 2, 3]


def test_a_schedule_is_checked_and_becomes_due(store: Store) -> None:
    given = {"name": "nightly", "task_type": "work", "schedule": "0 3 * * *"}
    for wrong in ({"schedule": "soon"}, {"timezone": "Mars/Olympus"}, {"name": " "}, {"config": [1]}, {"enabled": 3}):
        with pytest.raises(InvalidArgument):
            ScheduledTask.create(**given | wrong)
    row = ScheduledTask.create(**given)
    assert row.next_run is not None
    first, row.schedule = row.next_run, "0 4 * * *"
    row.save()
    assert row.next_run is not None and row.next_run != first
    row.enabled = False
    row.save()
    assert row.next_run is None
    for columns in ({"enabled": True}, {"schedule": "soon"}, {"next_run": None}):
        with pytest.raises(InvalidArgument, match=r"store\.schedules\.update"):
            ScheduledTask.update(**columns)
    assert store.check() == []


def test_a_user_with_rows_is_deactivated(store: Store, world: Given) -> None:
    with pytest.raises(Conflict, match=r"2 rows|1 rows of analysis_sessions .*store\.accounts\.deactivate\(user\)"):
        world["user"].delete_instance()


def test_a_saved_row_holds_what_the_database_holds(store: Store, world: Given) -> None:
    user = User.create(email="Bob@Example.org")
    assert user.email_key == "bob@example.org"
    store.database.execute_sql("UPDATE users SET updated_at = '2020-01-01T00:00:00.000Z'")
    before = User.get_by_id(user.id)
    before.email = "BOB@example.net"
    before.save()
    assert before.updated_at.year > 2020 and before.email_key == "bob@example.net" and as_stored(before)
    User.update(email="Eve@Example.org").where(User.id == user.id).execute()
    assert User.get_by_id(user.id).email_key == "eve@example.org"
    audit = Task.create(user=world["user"], original_filename="a", file_size=1, status="QUEUED")
    assert audit.status == "queued" and audit.events.count() == 1


def test_a_row_that_is_gone_is_not_saved_silently(store: Store) -> None:
    row = Tag.create(id="t", name="n")
    row.delete_instance()
    row.name = "m"
    with pytest.raises(NotFound, match=r"Tag\.create"):
        row.save()
    job = Job(type="work")
    assert job.save() == 1 and store.jobs.get(job.id).type == "work"


def test_a_decision_has_its_history(store: Store, world: Given) -> None:
    row = finding(world)
    assert store.check() == [] and Sighting.select().count() == 1
    row.status = "confirmed"
    with pytest.raises(InvalidArgument, match=r"store\.findings\.triage\(finding, status"):
        row.save()
    row = Finding.get_by_id(row.id)
    row.status, row.title = "OPEN", "Title"
    assert row.save() == 1 and (row.status, row.title) == ("open", "Title")
    with pytest.raises(InvalidArgument, match=r"store\.findings\.triage"):
        Finding.update(status="fixed")
    with pytest.raises(InvalidArgument, match=r"store\.findings\.triage, suppress"):
        FindingEvent.create(finding=row, action="status", by="ann", to_status="fixed")
    with pytest.raises(InvalidArgument, match=r"store\.sarif\.load"):
        Finding.create(rule_id="r", title="T", severity="low", file_path="a")


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (Job, "cancelled"), (AnalysisPlan, "applied"), (Scan, "paused"), (Task, "failed"),
        (AnalysisSession, "completed"), (AnalysisTask, "completed"),
        (DraftFinding, "verified"), (SyncRun, "completed"), (FileUpload, "error"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)  # fmt: skip
def test_a_status_with_a_life_is_changed_by_its_call(store: Store, world: Given, model: Any, word: str) -> None:
    row = model.create(**MINIMAL[model](world))
    column = "upload_status" if model is FileUpload else "status"
    setattr(row, column, word.upper())
    with pytest.raises(InvalidArgument, match=rf"{column} of {model.__name__} .*store\.\w+\.\w+"):
        row.save()
    with pytest.raises(InvalidArgument):
        model.update(**{column: word})
    with pytest.raises(InvalidArgument):
        model.create(**{**MINIMAL[model](world), column: word})


def test_finished_sessions_take_nothing_more(store: Store, world: Given) -> None:
    session = world["session"]
    store.sessions.start(session)
    store.sessions.complete(session)
    for model in (AnalysisTask, FileUpload):
        with pytest.raises(IllegalMove, match="so it cannot be changed"):
            model.create(**MINIMAL[model](world))


def test_prompts_are_numbered(store: Store, world: Given) -> None:
    rows = [Configuration.create(user=world["user"], config_type="t", prompt_content=text) for text in "ab"]
    assert [row.version for row in rows] == [1, 2]


def test_only_one_sync_of_a_kind_runs(store: Store) -> None:
    SyncRun.create(kind="tag")
    with pytest.raises(Conflict, match=r"store\.library\.sync\('tag', take_over=True\)"):
        SyncRun.create(kind="TAG")


def test_votes_analyses_and_suppressions_have_their_calls(store: Store) -> None:
    for model, call in (
        (Vote, "drafts.record_votes"),
        (Analysis, "audits.complete"),
        (Suppression, "findings.suppress"),
    ):
        with pytest.raises(InvalidArgument, match=re.escape(f"store.{call}")):
            model.create()
