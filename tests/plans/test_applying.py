"""Applying plans and taking them back: exactly, once, by one process, whatever is killed when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stressing import Program

from scanstore import IllegalMove, InvalidArgument, LeaseLost, NotFound, Store
from scanstore.db.processes import gone
from scanstore.db.rules import change_rows
from scanstore.findings.models import Finding
from scanstore.library.models import Performer, Scene, ScenePerformer, SceneTag, Studio, Tag
from scanstore.plans import applying
from scanstore.plans.models import AnalysisPlan, ChangeCounts, PlanChange
from scanstore.plans.plans import Proposal

EARLIER = datetime(2020, 1, 2, tzinfo=UTC)


def fill() -> None:
    for name in "xyz":
        Tag.create(id=f"t{name}", name=f"tag {name}")
        Performer.create(id=f"p{name}", name=f"performer {name}")
        Studio.create(id=f"s{name}", name=f"studio {name}")
    Scene.create(id="1", title="One", details="d", studio="sx", scene_date=EARLIER)
    Scene.create(id="2", title="Two")
    for tag in ("tx", "ty"):
        SceneTag.create(scene="1", tag=tag)
    ScenePerformer.create(scene="1", performer="px")


@pytest.fixture
def library(store: Store) -> Iterator[Store]:
    fill()
    yield store
    assert store.check() == []
    for plan in store.plans.list():
        assert plan.counts == ChangeCounts(**Counter(change.status for change in store.plans.changes(plan)))
        # Who was killed after the last change could not give it back, and is in nobody's way.
        assert (plan.process, plan.lease_until) == (None, None) or gone(plan.process)


@pytest.fixture
def finding(store: Store) -> Finding:
    scan = store.scans.finish(store.scans.add("t"))
    made = Finding.create(
        lineage=scan.lineage_id, scan=scan, first_scan=scan, rule_id="r", title="T", vulnerability_type="v",
        severity="high", file_path="a.py",
    )  # fmt: skip
    return store.findings.get(made.id)


def approved(store: Store, *proposals: Proposal, by: str | None = None) -> AnalysisPlan:
    """A plan whose changes are all approved."""
    plan = store.plans.add("p")
    store.plans.propose_many(plan, proposals)
    store.plans.submit(plan)
    store.plans.review(plan, "approve", by=by)
    return store.plans.get(plan)


def contents(store: Store) -> list[Any]:
    """Everything in the library that a plan may change."""
    run = store.database.execute_sql
    return [
        run("SELECT id, title, details, scene_date, organized, studio_id FROM scenes ORDER BY id").fetchall(),
        run("SELECT scene_id, tag_id FROM scene_tags ORDER BY 1, 2").fetchall(),
        run("SELECT scene_id, performer_id FROM scene_performers ORDER BY 1, 2").fetchall(),
        run("SELECT id, severity, status, remediation_steps FROM findings ORDER BY id").fetchall(),
    ]


def scene(key: str = "1") -> Any:
    return Scene.get_by_id(key)


def tags(key: str = "1") -> list[str]:
    return sorted(row.tag_id for row in SceneTag.select().where(SceneTag.scene == key))


def change(store: Store, plan: AnalysisPlan, number: int = 0) -> PlanChange:
    return store.plans.changes(plan)[number]


# There and back


@pytest.mark.parametrize(
    ("field", "action", "proposed", "get", "then"),
    [
        ("title", "set", "Uno", lambda: scene().title, "Uno"),
        ("title", "update", "", lambda: scene().title, ""),
        ("details", "set", None, lambda: scene().details, None),
        ("date", "set", "2021-02-03", lambda: scene().scene_date, datetime(2021, 2, 3, tzinfo=UTC)),
        ("date", "set", "2006-08", lambda: scene().to_dict()["scene_date"], "2006-08"),
        ("date", "update", "2014", lambda: (scene().scene_date.year, scene().scene_date_precision), (2014, "year")),
        ("date", "set", None, lambda: scene().scene_date, None),
        ("organized", "set", True, lambda: scene().organized, True),
        ("studio", "set", "sz", lambda: scene().studio_id, "sz"),
        ("studio", "set", None, lambda: scene().studio_id, None),
        ("tags", "add", ["tz", "ty"], tags, ["tx", "ty", "tz"]),
        ("tags", "remove", ["tx", "tz"], tags, ["ty"]),
        ("tags", "set", ["tz", "tx"], tags, ["tx", "tz"]),
        ("tags", "set", [], tags, []),
        ("performers", "add", "pz", lambda: [p.id for p in scene().performers.order_by(Performer.id)], ["px", "pz"]),
        ("performers", "set", ["py"], lambda: [p.id for p in scene().performers], ["py"]),
    ],
)
def test_each_field_there_and_back(
    library: Store, field: str, action: str, proposed: Any, get: Callable[[], Any], then: Any
) -> None:
    before, value, touched = contents(library), get(), scene().updated_at
    plan = approved(library, Proposal("1", field, action, proposed))
    time.sleep(0.002)
    assert library.plans.apply(plan) == (1, 0, 0)
    assert get() == then != value
    assert scene().updated_at > touched
    row = change(library, plan)
    assert (row.status, row.applied, row.tries, row.error, row.conflict) == ("applied", True, 1, None, False)
    assert row.applied_at is not None and row.found_value == row.current_value
    assert library.plans.get(plan).status == "applied" and library.plans.get(plan).applied_at
    assert library.plans.revert(plan) == (1, 0, 0)
    assert contents(library) == before and get() == value
    assert (change(library, plan).status, change(library, plan).applied) == ("reverted", False)
    assert library.plans.get(plan).status == "reverted" and library.plans.get(plan).reverted_at


def test_a_partial_date_comes_back_and_is_told_apart_from_its_first_day(library: Store) -> None:
    library.library.upsert_scenes([{"id": "1", "scene_date": "2014"}])
    plan = approved(library, Proposal("1", "date", "set", "2014-01-01"))
    assert change(library, plan).current_value == "2014"
    (row,) = library.plans.preview(plan)[0].fields
    assert (row.before, row.after) == ("2014", "2014-01-01T00:00:00.000Z")
    told: list[object] = []
    assert library.plans.apply(plan, handler=lambda change: told.append(change.value)).applied == 1
    assert scene().scene_date_precision == "day"
    assert library.plans.revert(plan, handler=lambda change: told.append(change.value)).reverted == 1
    assert scene().to_dict()["scene_date"] == "2014" and told == ["2014-01-01T00:00:00.000Z", "2014"]
    late = approved(library, Proposal("1", "date", "set", "2014-05", current="2014"))
    library.library.upsert_scenes([{"id": "1", "scene_date": "2014-01"}])
    assert library.plans.apply(late).skipped == 1  # January is not the year
    assert scene().to_dict()["scene_date"] == "2014-01"


def test_findings_there_and_back(library: Store, finding: Finding) -> None:
    library.findings.triage(finding, "confirmed", by="eve")
    before = contents(library)
    plan = approved(
        library,
        Proposal(finding.id, "severity", "set", "low"),
        Proposal(finding.id, "status", "set", "ignored"),
        Proposal(finding.id, "remediation", "update", "upgrade"),
        by="ann",
    )
    assert library.plans.apply(plan) == (3, 0, 0)
    found = library.findings.get(finding)
    assert (found.severity, found.status, found.remediation_steps) == ("low", "ignored", "upgrade")
    event = library.findings.history(finding)[-1]
    assert (event.by, event.to_status, event.note) == ("ann", "ignored", f"change 2 of plan {plan.id}")
    assert library.plans.revert(plan) == (3, 0, 0)
    assert contents(library) == before
    assert [e.to_status for e in library.findings.history(finding)] == ["confirmed", "ignored", "open", "confirmed"]


def test_a_finding_that_cannot_become_that(library: Store, finding: Finding) -> None:
    library.findings.triage(finding, "ignored", by="eve")
    plan = approved(library, Proposal(finding.id, "status", "set", "fixed"), Proposal("1", "title", "set", "x"))
    assert library.plans.apply(plan) == (1, 0, 1)
    assert "finding 1 is ignored and cannot become fixed; open it again first" in change(library, plan).error
    assert library.findings.get(finding).status == "ignored"
    assert [e.to_status for e in library.findings.history(finding)] == ["ignored"]
    unnamed = approved(library, Proposal(finding.id, "status", "set", "open"))
    library.plans.apply(unnamed)
    assert library.findings.history(finding)[-1].by == f"plan {unnamed.id}"


def test_what_is_so_already_is_applied_and_has_no_effect(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("1", "tags", "add", ["tx", "tz"]))
    Scene.update(title="x").execute()
    SceneTag.create(scene="1", tag="tz")
    before = contents(library)
    assert library.plans.apply(plan) == (2, 0, 0)
    assert library.plans.revert(plan) == (2, 0, 0)
    assert contents(library) == before


# Conflicts


def test_a_value_that_somebody_has_changed_is_skipped(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("1", "studio", "set", "sz"))
    Scene.update(title="Theirs").where(Scene.id == "1").execute()
    assert library.plans.apply(plan) == (1, 1, 0)
    row = change(library, plan)
    assert (row.status, row.conflict, row.current_value, row.found_value) == ("skipped", True, "One", "Theirs")
    assert 'title is now "Theirs"' in row.error and row.applied_at is None
    assert (scene().title, scene().studio_id) == ("Theirs", "sz")
    assert library.plans.get(plan).status == "applied"
    assert [row.id for row in library.plans.retry(plan)] == [row.id]
    assert library.plans.get(plan).status == "reviewing"
    assert library.plans.apply(plan, force=True) == (1, 0, 0)
    row = change(library, plan)
    assert (row.status, row.conflict, row.found_value, row.error) == ("applied", True, "Theirs", None)
    assert scene().title == "x"
    assert library.plans.revert(plan) == (2, 0, 0)
    assert scene().title == "Theirs"


def test_of_lists_only_what_is_named_counts(library: Store) -> None:
    plan = approved(
        library,
        Proposal("1", "tags", "add", "tz"),
        Proposal("1", "tags", "remove", "tx"),
        Proposal("2", "tags", "set", ["tx"]),
        Proposal("2", "performers", "remove", "py"),  # it is not there when this is proposed
    )
    SceneTag.delete().where(SceneTag.tag == "ty").execute()
    SceneTag.create(scene="2", tag="tz")
    ScenePerformer.create(scene="2", performer="py")
    assert library.plans.apply(plan) == (2, 2, 0)
    assert (tags("1"), tags("2")) == (["tz"], ["tz"])
    SceneTag.create(scene="1", tag="ty")
    assert library.plans.revert(plan) == (2, 0, 0)
    assert tags("1") == ["tx", "ty"]


def test_two_changes_of_one_value(library: Store) -> None:
    plan = approved(
        library, Proposal("1", "title", "set", "a"), Proposal("1", "title", "set", "b"),
        Proposal("1", "title", "set", "c", current="a"),
    )  # fmt: skip
    assert library.plans.apply(plan) == (2, 1, 0)
    assert scene().title == "c"
    assert library.plans.revert(plan) == (2, 0, 0)
    assert scene().title == "One"


def test_reverting_goes_back_in_the_order_of_applying(library: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock says: here it stands still."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(applying, "utcnow", lambda: moment)
    plan = approved(library, *(Proposal("1", "title", "set", word) for word in "abc"))
    for number in (2, 3, 1):
        assert library.plans.apply(plan, ids=[number], force=True) == (1, 0, 0)
    assert scene().title == "a"
    seen: list[int] = []
    assert library.plans.revert(plan, handler=lambda each: seen.append(each.id)) == (3, 0, 0)
    assert seen == [1, 3, 2]
    assert scene().title == "One"


def test_reverting_keeps_what_somebody_has_changed_since(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("1", "tags", "set", ["tz"]),
                    Proposal("1", "studio", "set", "sz"))  # fmt: skip
    library.plans.apply(plan)
    Scene.update(title="Theirs").where(Scene.id == "1").execute()
    SceneTag.create(scene="1", tag="ty")
    assert library.plans.revert(plan) == (1, 2, 0)
    row = change(library, plan)
    assert (row.status, row.conflict, row.found_value) == ("applied", True, "One")
    assert 'title is now "Theirs"' in row.error
    assert (scene().title, tags(), scene().studio_id) == ("Theirs", ["ty", "tz"], "sx")
    assert library.plans.get(plan).status == "applied"
    assert library.plans.revert(plan, force=True) == (2, 0, 0)
    assert (scene().title, tags()) == ("One", ["tx", "ty"])
    assert library.plans.get(plan).status == "reverted"


# What is gone


def test_a_scene_that_is_gone_fails_and_one_that_is_back_is_applied(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("2", "title", "set", "y"))
    Scene.delete().where(Scene.id == "1").execute()
    assert library.plans.apply(plan) == (1, 0, 1)
    row = change(library, plan)
    assert (row.status, row.error, row.scene_id, row.applied_at) == ("failed", "scene 1 is gone", None, None)
    Scene.create(id="1", title="One")
    assert [row.status for row in library.plans.retry(plan, ids=[row])] == ["approved"]
    assert library.plans.apply(plan) == (1, 0, 0)
    row = change(library, plan)
    assert (row.status, row.scene_id, row.error, row.tries, scene().title) == ("applied", "1", None, 2, "x")
    Scene.delete().where(Scene.id == "1").execute()
    assert library.plans.revert(plan) == (1, 0, 1)
    assert (change(library, plan).status, change(library, plan).error) == ("applied", "scene 1 is gone")
    assert scene("2").title == "Two"


def test_a_finding_that_is_gone_stays_gone(library: Store, finding: Finding) -> None:
    plan = approved(library, Proposal(finding.id, "severity", "set", "low"))
    library.database.execute_sql("DELETE FROM findings")
    assert library.plans.apply(plan) == (0, 0, 1)
    assert change(library, plan).error == f"finding {finding.id} is gone"
    assert library.plans.review(plan, "approve").changed == 0  # a decision about all is not another try
    assert library.plans.get(plan).status == "reviewing"


def test_a_value_that_is_gone_fails(library: Store) -> None:
    before_tags = tags()
    plan = approved(
        library, Proposal("1", "tags", "set", ["tx", "tz"]), Proposal("1", "studio", "set", "sz"),
        Proposal("2", "performers", "add", ["py", "pz"]), Proposal("1", "title", "set", "x"),
    )  # fmt: skip
    for model, key in ((Tag, "tz"), (Studio, "sz"), (Performer, "pz")):
        model.delete().where(model.id == key).execute()
    assert library.plans.apply(plan) == (1, 0, 3)
    assert [row.error for row in library.plans.changes(plan)] == [
        "tag 'tz' is gone", "studio 'sz' is gone", "performer 'pz' is gone", None
    ]  # fmt: skip
    assert tags() == before_tags and ScenePerformer.select().where(ScenePerformer.scene == "2").count() == 0


# Which changes, when


def test_ids(library: Store) -> None:
    plan = approved(library, *(Proposal("1", field, "set", "sy") for field in ("title", "details", "studio")))
    assert library.plans.apply(plan, ids=[]) == (0, 0, 0)
    assert library.plans.apply(plan, ids=library.plans.changes(plan, field="details")) == (1, 0, 0)
    assert library.plans.apply(plan, ids=[2, 3]) == (1, 0, 0)  # goes on where it was
    library.plans.review(plan, "reject", ids=[1])
    assert library.plans.get(plan).status == "applied"
    other = approved(library, Proposal("2", "title", "set", "x"), Proposal("2", "details", "set", "x"))
    library.plans.review(other, "reset", ids=[4])
    with pytest.raises(IllegalMove, match="change 4 is pending and cannot become applied; approve it first"):
        library.plans.apply(other, ids=[4, 5])
    with pytest.raises(NotFound, match=f"plan {other.id} has no change 1;"):
        library.plans.apply(other, ids=[1, 5])
    assert scene("2").details is None
    assert library.plans.apply(other) == (1, 0, 0)
    assert (scene("2").title, library.plans.get(other).status) == ("Two", "reviewing")


@pytest.mark.parametrize("handler", [None, lambda each: None])
def test_progress(library: Store, handler: Any) -> None:
    plan = approved(library, *(Proposal("1", field, "set", "sy") for field in ("title", "details", "studio")))
    said: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        assert not library.database.in_sqlite_transaction()
        said.append((done, total))

    library.plans.apply(plan, handler=handler, progress=progress)
    assert said[-1] == (3, 3) and said == sorted(said)
    library.plans.revert(plan, handler=handler, progress=progress)
    assert said[-1] == (3, 3)


def test_twice(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"))
    library.plans.apply(plan)
    with pytest.raises(IllegalMove, match=f"plan {plan.id} is applied and cannot be applied; revert it first"):
        library.plans.apply(plan)
    with pytest.raises(IllegalMove, match="is applied and cannot be reviewed; revert it first"):
        library.plans.review(plan, "reject")
    library.plans.revert(plan)
    with pytest.raises(IllegalMove, match="is reverted and cannot be reverted; make a new plan"):
        library.plans.revert(plan)
    waiting = approved(library, Proposal("1", "title", "set", "y"))
    with pytest.raises(IllegalMove, match="nothing of plan 2 is applied"):
        library.plans.revert(waiting)


def test_inside_a_transaction_of_the_caller(library: Store) -> None:
    before = contents(library)
    plan = approved(library, Proposal("1", "title", "set", "x"))
    with pytest.raises(ZeroDivisionError), library.transaction():
        assert library.plans.apply(plan) == (1, 0, 0)
        1 / 0  # noqa: B018
    assert contents(library) == before
    with library.transaction(), pytest.raises(IllegalMove, match="a transaction is open"):
        library.plans.apply(plan, handler=print)
    assert library.plans.apply(plan) == (1, 0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"handler": "push"}, {"lease": 0}, {"lease": True}, {"lease": 1e9}, {"lease": float("nan")}, {"ids": 1},
        {"ids": {1: 2}}, {"ids": [2**63]}, {"force": 1}, {"progress": 5},
    ],
    ids=str,
)  # fmt: skip
def test_bad_options(library: Store, options: dict[str, Any]) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"))
    with pytest.raises(InvalidArgument):
        library.plans.apply(plan, **options)
    assert library.plans.get(plan).status == "reviewing"


# Handlers


def test_a_handler_is_told_of_each_change_outside_any_transaction(library: Store) -> None:
    plan = approved(library, Proposal("1", "tags", "add", "tz"), Proposal("2", "title", "set", "x"))
    seen: list[tuple[Any, ...]] = []

    def push(each: PlanChange) -> None:
        assert not library.database.in_sqlite_transaction()
        now = PlanChange.get_by_id(each.id)
        seen.append((each.key, each.target_key, each.field, each.value, each.undoing, now.status, now.tries))
        assert tags() == (["tx", "ty", "tz"] if each.undoing or each.id == 2 else ["tx", "ty"])

    assert library.plans.apply(plan, handler=push) == (2, 0, 0)
    assert library.plans.revert(plan, handler=push) == (2, 0, 0)
    key = plan.key
    assert seen == [
        (f"{key}:1", "1", "tags", ["tx", "ty", "tz"], False, "approved", 1),
        (f"{key}:2", "2", "title", "x", False, "approved", 1),
        (f"{key}:2:revert", "2", "title", "Two", True, "applied", 1),
        (f"{key}:1:revert", "1", "tags", ["tx", "ty"], True, "applied", 1),
    ]
    assert tags() == ["tx", "ty"]


def test_a_handler_that_raises_fails_its_change_only(library: Store) -> None:
    plan = approved(library, *(Proposal("1", field, "set", "sy") for field in ("title", "details", "studio")))
    calls: list[int] = []

    def push(each: PlanChange) -> None:
        calls.append(each.id)
        if each.id == 2 and each.tries == 1:
            raise OSError("the remote\udc80 said no")

    assert library.plans.apply(plan, handler=push) == (2, 0, 1)
    row = change(library, plan, 1)
    assert (row.status, row.error, row.tries) == ("failed", "OSError: the remote\\udc80 said no", 1)
    assert (scene().details, scene().studio_id) == ("d", "sy")
    library.plans.retry(plan)
    assert library.plans.apply(plan, handler=push) == (1, 0, 0)
    assert calls == [1, 2, 3, 2] and change(library, plan, 1).tries == 2

    def refuse(each: PlanChange) -> None:
        raise ValueError("not back")

    assert library.plans.revert(plan, handler=refuse) == (0, 0, 3)
    assert {(row.status, row.error) for row in library.plans.changes(plan)} == {("applied", "ValueError: not back")}


def test_ctrl_c_leaves_the_change_approved(library: Store) -> None:
    plan = approved(library, *(Proposal("1", field, "set", "sy") for field in ("title", "details", "studio")))

    def push(each: PlanChange) -> None:
        if each.id == 2 and each.tries == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.plans.apply(plan, handler=push)
    assert [row.status for row in library.plans.changes(plan)] == ["applied", "approved", "approved"]
    assert library.plans.apply(plan, handler=push) == (2, 0, 0)
    assert [row.tries for row in library.plans.changes(plan)] == [1, 2, 1]


def test_a_coroutine_function_is_no_handler(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"))

    async def push(each: PlanChange) -> None: ...

    with pytest.raises(InvalidArgument, match="coroutine"):
        library.plans.apply(plan, handler=push)
    assert change(library, plan).status == "approved" and scene().title == "One"


def test_what_happens_while_a_handler_runs(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("1", "details", "set", "x"),
                    Proposal("1", "studio", "set", "sy"), Proposal("2", "title", "set", "x"),
                    Proposal("2", "details", "set", "x"))  # fmt: skip

    def push(each: PlanChange) -> None:
        if each.id == 1:  # it has happened elsewhere now, whatever is decided
            library.plans.review(plan, "reject", ids=[1, 3])
        elif each.id == 2:
            Scene.update(details="Theirs").where(Scene.id == "1").execute()
        elif each.id == 4:
            Scene.delete().where(Scene.id == "2").execute()
        for verb in (library.plans.apply, library.plans.cancel, library.plans.remove):
            with pytest.raises(IllegalMove, match="is being applied or reverted by"):
                verb(plan)

    assert library.plans.apply(plan, handler=push) == (2, 0, 2)
    rows = library.plans.changes(plan)
    assert [row.status for row in rows] == ["applied", "applied", "rejected", "failed", "failed"]
    assert (rows[1].found_value, rows[1].conflict, scene().details) == ("Theirs", True, "x")
    assert [row.tries for row in rows] == [1, 1, 0, 1, 1]


def test_a_handler_is_not_called_for_what_is_not_applied(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("2", "title", "set", "x"))
    Scene.update(title="Theirs").where(Scene.id == "1").execute()
    Scene.delete().where(Scene.id == "2").execute()
    assert library.plans.apply(plan, handler=lambda each: pytest.fail("called")) == (0, 1, 1)


# One at a time


def test_two_threads(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("2", "title", "set", "x"))
    inside, go = threading.Event(), threading.Event()

    def slow(each: PlanChange) -> None:
        inside.set()
        assert go.wait(10)

    def other() -> None:
        with pytest.raises(LeaseLost):
            library.plans.apply(plan, handler=slow)
        lost.append(True)

    lost: list[bool] = []
    with library.bound():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
        change_rows(
            AnalysisPlan, lease_until=datetime(2020, 1, 1, tzinfo=UTC)
        ).execute()  # here the clock decides nothing
        with pytest.raises(IllegalMove, match="is being applied or reverted by"):
            library.plans.apply(plan)
        library.database.execute_sql("UPDATE analysis_plans SET lease_until = ?", (in_an_hour(),))
        go.set()
        thread.join()
    assert lost
    library.database.execute_sql("UPDATE analysis_plans SET process = NULL, lease_until = NULL")
    assert change(library, plan).status == "approved"  # its lease was not its own any more
    assert library.plans.apply(plan) == (2, 0, 0)


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="milliseconds")[:23] + "Z"


def hold(store: Store, process: str, until: str) -> None:
    store.database.execute_sql("UPDATE analysis_plans SET process = ?, lease_until = ?", (process, until))


def test_leases_of_others(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"))
    hold(library, "elsewhere:12@1", in_an_hour())
    for verb in (library.plans.apply, library.plans.remove, library.plans.cancel):
        with pytest.raises(IllegalMove, match="by elsewhere:12@1; wait until that is done"):
            verb(plan)
    hold(library, "elsewhere:12@1", "2020-01-01T00:00:00.000Z")
    assert library.plans.apply(plan) == (1, 0, 0)
    ended = subprocess.run([sys.executable, "-c", "from scanstore.db.processes import me; print(me())"],
                           capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    hold(library, ended, in_an_hour())
    assert library.plans.revert(plan) == (1, 0, 0)


def test_a_lease_that_was_lost_is_noticed(library: Store) -> None:
    plan = approved(library, Proposal("1", "title", "set", "x"), Proposal("2", "title", "set", "x"))

    def slow(each: PlanChange) -> None:
        hold(library, "elsewhere:12@1", in_an_hour())

    with pytest.raises(LeaseLost, match="was taken over"):
        library.plans.apply(plan, handler=slow)
    assert [row.status for row in library.plans.changes(plan)] == ["approved"] * 2
    assert AnalysisPlan.get_by_id(plan.id).process == "elsewhere:12@1"
    hold(library, "elsewhere:12@1", "2020-01-01T00:00:00.000Z")
    assert library.plans.apply(plan) == (2, 0, 0)


def test_a_lease_is_extended_in_time(library: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = approved(library, *(Proposal("1", field, "set", "sy") for field in ("title", "details", "studio")))
    real, ahead = applying.utcnow, timedelta(0)
    monkeypatch.setattr(applying, "utcnow", lambda: real() + ahead)
    ends = []

    def slow(each: PlanChange) -> None:
        nonlocal ahead
        ahead += timedelta(seconds=400)
        ends.append(AnalysisPlan.get_by_id(plan.id).lease_until)

    assert library.plans.apply(plan, handler=slow) == (3, 0, 0)
    assert ends == sorted(set(ends)) and ends[2] - ends[0] > timedelta(seconds=700)


SCRIPT = """
import os, sys
from scanstore.store import Store
log = open(sys.argv[2], "a")
def push(change):
    log.write(f"{change.id}\\n"); log.flush(); os.fsync(log.fileno())
with Store(sys.argv[1], timeout=30) as store:
    print("open", flush=True)
    try:
        print(store.plans.apply(1, handler=push if sys.argv[3] == "handler" else None), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


def start(store: Store, log: Path, how: str) -> subprocess.Popen[str]:
    process = Program(textwrap.dedent(SCRIPT), store.path, log, how, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    return process


def many(store: Store, number: int) -> AnalysisPlan:
    with store.transaction():
        Scene.insert_many([{"id": f"m{key}", "title": "before"} for key in range(number)]).execute()
    return approved(store, *(Proposal(f"m{key}", "title", "set", f"after {key}") for key in range(number)))


@pytest.mark.no_cover
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("how", ["handler", "none"])
def test_kill_9_in_the_middle(library: Store, tmp_path: Path, how: str) -> None:
    """Each handler ran at least once, none is recorded without, and only the one in flight ran again."""
    number, log = 150 if how == "handler" else 1200, tmp_path / "calls"
    plan, kills = many(library, number), 0
    while library.plans.get(plan).status == "reviewing":
        calls = log.read_text().split() if log.exists() else []
        done = library.plans.get(plan).counts.applied
        process = start(library, log, how)
        target = done + number // 4
        while process.poll() is None and library.plans.get(plan).counts.applied < target and kills < 3:
            time.sleep(0.002)
        if kills < 3:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        assert library.plans.get(plan).counts.applied > done
        calls = log.read_text().split() if log.exists() else []
        written = {row.id for row in Scene.select(Scene.id).where(Scene.title != "before")}
        for row in library.plans.changes(plan):
            assert (row.status == "applied") == (row.target_key in written)
            if how == "handler":
                assert row.status != "applied" or str(row.id) in calls
                assert calls.count(str(row.id)) <= row.tries
        assert library.check() == []
    assert kills and library.plans.get(plan).counts == ChangeCounts(applied=number)
    if how == "handler":
        times = Counter(calls)
        assert set(times) == {str(row.id) for row in library.plans.changes(plan)}
        assert sum(times.values()) <= number + kills and sum(each > 1 for each in times.values()) <= kills
        assert sum(row.tries - 1 for row in library.plans.changes(plan)) <= kills


def test_two_processes_never_apply_one_plan_at_once(library: Store, tmp_path: Path) -> None:
    plan, log = many(library, 150), tmp_path / "calls"
    both = [start(library, log, "handler") for _ in range(2)]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert said[0] == "Applied(applied=150, skipped=0, failed=0)"
    assert said[1].startswith("IllegalMove plan 1 is ")
    assert Counter(Counter(log.read_text().split()).values()) == {1: 150}
    assert library.plans.get(plan).status == "applied"


# Whatever is decided in whatever order

VALUES = {
    "title": st.sampled_from(["a", "b", "One"]),
    "details": st.sampled_from([None, "a", "d"]),
    "organized": st.booleans(),
    "date": st.sampled_from([None, "2021-02-03", "2020-01-02"]),
    "studio": st.sampled_from([None, "sx", "sy"]),
    "tags": st.lists(st.sampled_from(["tx", "ty", "tz"]), min_size=1, unique=True),
    "performers": st.lists(st.sampled_from(["px", "py", "pz"]), min_size=1, unique=True),
}


@st.composite
def proposals(draw: st.DrawFn) -> Proposal:
    field = draw(st.sampled_from(sorted(VALUES)))
    lists = field in ("tags", "performers")
    action = draw(st.sampled_from(["add", "remove", "set"] if lists else ["set", "update"]))
    return Proposal(draw(st.sampled_from("12")), field, action, draw(VALUES[field]))


steps = st.tuples(
    st.sampled_from(["approve", "reject", "reset", "apply", "apply", "force", "retry"]),
    st.none() | st.lists(st.integers(1, 8), max_size=3),
)


@pytest.mark.no_cover
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(proposals(), min_size=1, max_size=8), st.lists(steps, max_size=12), st.integers(0, 8))
def test_apply_then_revert_restores_the_library_exactly(some: list[Proposal], todo: list[Any], middle: int) -> None:
    with Store(":memory:") as store:
        fill()
        before = contents(store)
        plan = store.plans.add("p")
        store.plans.propose_many(plan, some)
        store.plans.submit(plan)
        first = PlanChange.select(PlanChange.id).order_by(PlanChange.id).first().id
        for verb, ids in todo:
            ids = None if ids is None else [first + number - 1 for number in ids]
            try:
                if verb in ("approve", "reject", "reset"):
                    store.plans.review(plan, verb, ids=ids)
                elif verb == "retry":
                    store.plans.retry(plan, ids=ids)
                else:
                    handler = (lambda each: None) if middle % 2 else None
                    store.plans.apply(plan, ids=ids, force=verb == "force", handler=handler)
            except (IllegalMove, NotFound):
                pass
            now = store.plans.get(plan)
            assert now.counts == ChangeCounts(**Counter(row.status for row in store.plans.changes(plan)))
            left = now.counts.pending + now.counts.approved
            assert (now.status == "applied") == bool(now.counts.applied and not left)
        if store.plans.get(plan).counts.applied:
            done = store.plans.revert(plan)
            assert (done.kept, done.failed) == (0, 0)
            assert store.plans.get(plan).status == "reverted"
        assert contents(store) == before
        assert store.check() == []
