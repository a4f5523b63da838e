"""Plans: proposing, reviewing, looking; which moves are legal, and that counts always match the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from scanstore import Conflict, IllegalMove, InvalidArgument, NotFound, Store, WrongStore
from scanstore.db.rules import change_rows
from scanstore.db.state_machine import CHANGE_STATUSES, PLAN_STATUSES
from scanstore.findings.models import Finding
from scanstore.library.models import Performer, Scene, ScenePerformer, SceneTag, Studio, Tag
from scanstore.plans.changes import FIELDS, backward, forward
from scanstore.plans.models import CHANGES, AnalysisPlan, ChangeCounts, PlanChange
from scanstore.plans.plans import DECISIONS, Proposal


@pytest.fixture
def library(store: Store) -> Iterator[Store]:
    """Two scenes, three tags, two performers, a studio and a finding; checked at the end."""
    for name in "xyz":
        Tag.create(id=f"t{name}", name=f"tag {name}")
    for name in "ab":
        Performer.create(id=f"p{name}", name=f"performer {name}")
    Studio.create(id="s1", name="A Studio")
    Scene.create(id="1", title="One", details="d", studio="s1", scene_date=datetime(2020, 1, 2, tzinfo=UTC))
    Scene.create(id="2", title="Two")
    for tag in ("tx", "ty"):
        SceneTag.create(scene="1", tag=tag)
    ScenePerformer.create(scene="1", performer="pa")
    yield store
    assert store.check() == []


@pytest.fixture
def finding(store: Store) -> Finding:
    scan = store.scans.finish(store.scans.add("t"))
    made = Finding.create(
        lineage=scan.lineage_id, scan=scan, first_scan=scan, rule_id="r", title="T", vulnerability_type="v",
        severity="high", file_path="a.py",
    )  # fmt: skip
    return store.findings.get(made.id)


def counted(store: Store, plan: AnalysisPlan) -> ChangeCounts:
    """The counts, which must be those of the rows."""
    rows = Counter(change.status for change in store.plans.changes(plan))
    found = store.plans.get(plan).counts
    assert found == ChangeCounts(**rows)
    return found


def in_status(store: Store, status: str) -> AnalysisPlan:
    """A plan of that status with a change."""
    plan = store.plans.add(status)
    change = store.plans.propose(plan, "1", "title", "set", proposed=status)
    if status != "pending":
        store.plans.submit(plan)
    if status == "cancelled":
        store.plans.cancel(plan)
    if status in ("reviewing", "applied", "reverted"):
        store.plans.review(plan, "approve")
    if status in ("applied", "reverted"):
        store.plans.apply(plan)
    if status == "reverted":
        store.plans.revert(plan)
    assert store.plans.get(plan).status == status and change.id
    return store.plans.get(plan)


# Proposing


@pytest.mark.parametrize(
    ("field", "name", "action", "proposed", "kept", "now"),
    [
        ("performers", "performers", "add", "pb", ["pb"], ["pa"]),
        ("performer", "performers", "remove", ["pa"], ["pa"], ["pa"]),
        ("tags", "tags", "set", ("tz", "tx", "tz"), ["tx", "tz"], ["tx", "ty"]),
        ("TAG", "tags", "set", [], [], ["tx", "ty"]),
        ("tags", "tags", "remove", {"never known"}, ["never known"], ["tx", "ty"]),
        ("studio", "studio", "set", None, None, "s1"),
        ("studio_id", "studio", "update", "s1", "s1", "s1"),
        ("title", "title", "update", "", "", "One"),
        ("details", "details", "set", None, None, "d"),
        ("date", "date", "set", date(2021, 2, 3), "2021-02-03T00:00:00.000Z", "2020-01-02T00:00:00.000Z"),
        ("scene_date", "date", "set", "2021-02-03", "2021-02-03T00:00:00.000Z", "2020-01-02T00:00:00.000Z"),
        ("date", "date", "set", "2021", "2021", "2020-01-02T00:00:00.000Z"),
        ("date", "date", "set", "2021-02", "2021-02", "2020-01-02T00:00:00.000Z"),
        ("date", "date", "update", "2021-02-03T01:00:00+01:00", "2021-02-03T00:00:00.000Z", "2020-01-02T00:00:00.000Z"),
        ("date", "date", "set", datetime(2021, 2, 3, 2, tzinfo=timezone(timedelta(hours=2))),
         "2021-02-03T00:00:00.000Z", "2020-01-02T00:00:00.000Z"),
        ("organized", "organized", "set", True, True, False),
    ],
)  # fmt: skip
def test_propose_each_field(
    library: Store, field: str, name: str, action: str, proposed: Any, kept: Any, now: Any
) -> None:
    plan = library.plans.add("p")
    change = library.plans.propose(plan, "1", field, action, proposed=proposed, confidence=1)
    assert (change.field, change.action, change.proposed_value, change.current_value) == (name, action, kept, now)
    assert (change.target, change.target_key, change.scene_id, change.finding_id) == ("scene", "1", "1", None)
    assert (change.status, change.applied, change.confidence, change.conflict) == ("pending", False, 1.0, False)
    assert library.plans.get(plan).counts == ChangeCounts(pending=1)


def test_propose_rows_instead_of_ids(library: Store, finding: Finding) -> None:
    plan = library.plans.add("p")
    tag, studio = Tag.get_by_id("tz"), Studio.get_by_id("s1")
    assert library.plans.propose(plan, Scene.get_by_id("2"), "tags", "add", proposed=tag).proposed_value == ["tz"]
    assert library.plans.propose(plan, "2", "tags", "set", proposed=[tag]).proposed_value == ["tz"]
    assert library.plans.propose(plan.id, "2", "studio", "set", proposed=studio).proposed_value == "s1"
    assert library.plans.propose(plan, finding, "severity", "set", proposed="LOW").target_key == str(finding.id)
    with Store(":memory:") as other:
        theirs = other.plans.add("theirs")
        with pytest.raises(WrongStore):
            library.plans.propose(theirs, "2", "title", "set", proposed="x")
        Scene.create(id="1", title="One")
        with pytest.raises(WrongStore):
            library.plans.propose(plan, Scene.get_by_id("1"), "title", "set", proposed="x")


def test_propose_for_a_finding(library: Store, finding: Finding) -> None:
    plan = library.plans.add("p")
    for field, value, now in (("severity", "low", "high"), ("status", "ignored", "open"), ("remediation", "do", "")):
        change = library.plans.propose(plan, finding.id, field, "set", proposed=value)
        assert (change.target, change.finding_id, change.scene_id) == ("finding", finding.id, None)
        assert (change.proposed_value, change.current_value) == (value, now)
    assert library.plans.propose(plan, finding, "remediation_steps", "set", proposed="do").id == change.id


def test_the_database_wants_exactly_one_target(library: Store, finding: Finding) -> None:
    plan = library.plans.add("p")
    change = library.plans.propose(plan, "1", "title", "set", proposed="x")
    for columns in ({"finding_id": finding.id}, {"target": "finding"}, {"scene_id": "2"}, {"target_key": "2"}):
        with pytest.raises(Conflict):
            change_rows(PlanChange, **columns).where(PlanChange.id == change.id).execute()
    with pytest.raises(Conflict, match="ck_plan_changes_applied_at"):
        change_rows(PlanChange, status="applied").where(PlanChange.id == change.id).execute()


def test_current_may_be_given(library: Store) -> None:
    plan = library.plans.add("p")
    assert library.plans.propose(plan, "1", "title", "set", proposed="x", current="Old").current_value == "Old"
    assert library.plans.propose(plan, "1", "details", "set", proposed="x", current=None).current_value is None
    tags = library.plans.propose(plan, "1", "tags", "add", proposed="tz", current=["ty", "long gone"])
    assert tags.current_value == ["long gone", "ty"]


def test_proposing_again_changes_nothing(library: Store) -> None:
    plan, other = library.plans.add("p"), library.plans.add("p")
    first = library.plans.propose(plan, "1", "tags", "add", proposed=["tz", "ty"], confidence=0.5)
    again = library.plans.propose(plan, "1", "tag", "ADD", proposed=["ty", "tz", "ty"], confidence=0.9)
    assert (again.id, again.confidence) == (first.id, 0.5)
    for target, action, value in (("2", "add", ["ty", "tz"]), ("1", "set", ["ty", "tz"]), ("1", "add", ["tz"])):
        assert library.plans.propose(plan, target, "tags", action, proposed=value).id != first.id
    assert library.plans.propose(other, "1", "tags", "add", proposed=["tz", "ty"]).id != first.id
    assert library.plans.get(plan).counts == ChangeCounts(pending=4)


def test_propose_many(library: Store, finding: Finding) -> None:
    plan = library.plans.add("p")
    given = [
        Proposal("1", "title", "set", "x", confidence=0.5),
        {"scene": "2", "field": "tags", "action": "add", "proposed": "tx", "current": [], "confidence": 0.25},
        {"finding": finding.id, "field": "status", "action": "set", "proposed": "fixed"},
        Proposal("1", "title", "set", "x"),
    ]
    assert library.plans.propose_many(plan, iter(given)) == (3, 1)
    assert library.plans.propose_many(plan, given) == (0, 4)
    assert library.plans.propose_many(plan, []) == (0, 0)
    assert [(c.target_key, c.current_value, c.confidence) for c in library.plans.changes(plan)] == [
        ("1", "One", 0.5), ("2", [], 0.25), (str(finding.id), "open", None)
    ]  # fmt: skip


BAD = [
    (("1", "colour", "set", "x"), "field is 'colour'; there are performers, tags, studio, title"),
    (("1", None, "set", "x"), "field is None"),
    (("1", "title", "add", "x"), "action is 'add'; for title it must be one of: set, update"),
    (("1", "tags", "update", "tx"), "for tags it must be one of: add, remove, set"),
    (("1", "title", "drop", "x"), "action is 'drop'; it must be one of: add, remove, update, set"),
    (("1", "title", "set", None), "proposed is None"),
    (("1", "title", "set", 5), "proposed is 5; it must be text"),
    (("1", "organized", "set", 1), "proposed is 1; it must be True or False"),
    (("1", "tags", "add", []), "proposed is empty; say which tags to add"),
    (("1", "tags", "add", [5]), "proposed is 5; give a tag's id"),
    (("1", "performers", "add", {"name": "x"}), "proposed is {'name': 'x'}; give a performer's id"),
    (("1", "tags", "set", [""]), "proposed is ''; give a tag's id"),
    (("1", "studio", "set", ["s1"]), "proposed is ['s1']; give a studio's id"),
    (("1", "date", "set", "tomorrow"), "proposed is 'tomorrow'; write 2026-11-22"),
    (("1", "date", "set", datetime(2020, 1, 1)), "which is no time in UTC; give its zone"),
    (("1", "date", "set", 20200101), "it must be a date"),
    (("1", "title", "set", "x", 7), "current is 7; it must be text"),
    (("1", "title", "set", "x", ..., 1.5), "confidence is 1.5; it must be a number from 0 to 1"),
    (("1", "title", "set", "x", ..., float("nan")), "confidence is nan"),
    (("1", "title", "set", "x", ..., True), "confidence is True"),
    ((1, "title", "set", "x"), "target is 1; give a Scene or its id, which is text"),
    (("1", "severity", "set", "low"), "target is '1'; give a Finding or its id, which is a number"),
    ((True, "severity", "set", "low"), "target is True"),
    ((1, "severity", "set", "awful"), "proposed is 'awful'; it must be one of: critical"),
    ((1, "status", "set", "gone"), "proposed is 'gone'; it must be one of: open"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), BAD)
def test_what_does_not_fit_is_refused_when_proposed(library: Store, values: Any, message: str) -> None:
    plan = library.plans.add("p")
    with pytest.raises(InvalidArgument) as error:
        library.plans.propose_many(plan, [Proposal("2", "title", "set", "fine"), Proposal(*values)])
    assert str(error.value).startswith("proposal 1: ") and message in str(error.value)
    names = ("proposed", "current", "confidence")
    with pytest.raises(InvalidArgument) as single:
        library.plans.propose(plan, *values[:3], **dict(zip(names, values[3:], strict=False)))
    assert str(single.value) == str(error.value).removeprefix("proposal 1: ")
    assert library.plans.get(plan).counts == ChangeCounts()


@pytest.mark.parametrize(
    ("proposal", "message"),
    [
        ({"field": "title", "action": "set", "proposed": "x"}, "it must have scene or finding"),
        ({"scene": "1", "finding": 1, "field": "title", "action": "set", "proposed": "x"}, "and not both"),
        ({"scene": "1", "field": "title", "action": "set"}, "proposed is missing"),
        ({"scene": 1, "field": "severity", "action": "set", "proposed": "low"}, "which is of a finding"),
        ({"scene": "1", "field": "title", "action": "set", "proposed": "x", "why": "y"}, "there is no 'why'"),
        ("title", "it is 'title'; give a Proposal or a mapping"),
        (("1", "title", "set", "x"), "give a Proposal or a mapping"),
    ],
)
def test_bad_mappings(library: Store, proposal: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match="^proposal 0: .*" + message):
        library.plans.propose_many(library.plans.add("p"), [proposal])
    for many in ("12", {}, 5, Proposal("1", "title", "set", "x")):
        with pytest.raises(InvalidArgument, match="give a list of Proposals"):
            library.plans.propose_many(library.plans.add("p"), many)  # type: ignore[arg-type]


def test_what_there_is_not_cannot_be_proposed(library: Store) -> None:
    plan = library.plans.add("p")
    for values, message in (
        (("9", "title", "set", "x"), "no scene '9'; sync the library first"),
        ((9, "severity", "set", "low"), "no finding 9; scanstore findings list"),
        (("1", "tags", "add", ["tx", "nope"]), "no tag 'nope'; give the id of a tag (scanstore library list --kind"),
        (("1", "performers", "set", list("abcde")), "no performer 'a', 'b', 'c' and 2 more"),
        (("1", "studio", "set", "s9"), "no studio 's9'"),
    ):
        with pytest.raises(NotFound) as error:
            library.plans.propose_many(plan, [Proposal("2", "title", "set", "fine"), Proposal(*values)])
        assert message in str(error.value)
    assert library.plans.get(plan).counts == ChangeCounts()
    with pytest.raises(NotFound, match="no plan 99"):
        library.plans.propose(99, "1", "title", "set", proposed="x")


def test_bad_plans(library: Store) -> None:
    for name in ("", "  ", None, 5):
        with pytest.raises(InvalidArgument, match="^name is"):
            library.plans.add(name)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="metadata is"):
        library.plans.add("p", metadata=[1])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="JSON"):
        library.plans.add("p", metadata={"at": datetime.now(UTC)})
    calls: list[Any] = [library.plans.get, library.plans.submit, library.plans.remove, library.plans.changes]
    calls += [library.plans.cancel, library.plans.retry, library.plans.apply, library.plans.preview]
    for plan in ("1", True, 0, -1, 2**63, 1.0, None):
        for call in calls:
            with pytest.raises(InvalidArgument, match="is not a plan; give a row or its id; store.plans.list"):
                call(plan)
    for plan in (True, 0, -1, 2**63, 1.0, None, "", "\0"):
        with pytest.raises(InvalidArgument):
            library.plans.find(plan)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="status is 'done'"):
        library.plans.list(status="done")
    assert library.plans.list() == []


# Looking


def test_list_get_find(library: Store) -> None:
    made = {status: in_status(library, status) for status in PLAN_STATUSES}
    library.plans.add("pending", description="later", metadata={"model": "m"})
    assert [plan.name for plan in library.plans.list()] == ["pending", *reversed(PLAN_STATUSES)]
    assert [plan.counts.total for plan in library.plans.list()] == [0] + [1] * 6
    assert [plan.name for plan in library.plans.list(status="APPLIED")] == ["applied"]
    assert len(library.plans.list(limit=2)) == 2 and library.plans.list(limit=0) == []
    latest = library.plans.find("pending")
    assert latest is not None and (latest.description, latest.metadata) == ("later", {"model": "m"})
    assert library.plans.find("nothing") is None and library.plans.find(99) is None
    assert library.plans.find(latest) == library.plans.find(latest.id) == latest
    assert library.plans.find(latest.id).counts == ChangeCounts()
    names = [plan.name for plan in library.plans.list(sort="id")]
    assert names == [*PLAN_STATUSES, "pending"] and library.plans.list(limit=2, offset=1, sort="id")[0].name == names[1]
    for options in ({"limit": -1}, {"limit": True}, {"offset": 2**63}, {"offset": "1"}, {"sort": "metadata"}):
        with pytest.raises(InvalidArgument):
            library.plans.list(**options)  # type: ignore[arg-type]
    applied = library.plans.get(made["applied"].id)
    assert applied.submitted_at and applied.applied_at and applied.reverted_at is None
    assert applied.counts == ChangeCounts(applied=1) and json.dumps(applied.to_dict())
    assert applied.to_dict()["counts"]["applied"] == 1
    assert len({plan.key for plan in library.plans.list()}) == 7


def test_lists_and_their_counts_are_one_statement(library: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for status in PLAN_STATUSES:
        in_status(library, status)
    seen: list[tuple[str, Any]] = []
    real = type(library.database).execute_sql

    def watch(database: Any, sql: str, params: Any = None) -> Any:
        seen.append((sql, params))
        return real(database, sql, params)

    monkeypatch.setattr(type(library.database), "execute_sql", watch)
    assert len(library.plans.list()) == 6
    assert len(seen) == 1
    sql, params = seen[0]
    plan = " / ".join(row[3] for row in real(library.database, "EXPLAIN QUERY PLAN " + sql, params))
    assert "plan_changes" not in plan and "SEARCH plan_counts USING PRIMARY KEY (plan_id=?)" in plan


def test_look_ups_run_on_indexes(library: Store) -> None:
    from scanstore.plans import applying, preview

    filled = {"found": "1", "conflict": 0, "tries": 0, "now": "", "id": 1}
    for sql, values, index in (
        ("SELECT id FROM plan_changes WHERE plan_id = ? AND status = 'approved' ORDER BY id", (1,), "plan_id_status"),
        ("SELECT id FROM plan_changes WHERE scene_id = ?", ("1",), "ix_plan_changes_scene_id"),
        (applying.APPLIED, filled, "plan_id_target_target_key_field_action_proposed_hash"),
        (preview.CHANGES, (1, "[]", None, None), "plan_id"),
    ):
        rows = library.database.execute_sql("EXPLAIN QUERY PLAN " + sql, values).fetchall()
        said = " / ".join(row[3] for row in rows)
        assert index in said and "SCAN plan_changes" not in said, said


def test_changes_are_filtered(library: Store) -> None:
    plan = library.plans.add("p")
    library.plans.propose_many(
        plan, [Proposal(s, f, "set", v) for s in "12" for f, v in (("title", "x"), ("tags", []))]
    )
    library.plans.submit(plan)
    library.plans.review(plan, "approve", scene="2")
    assert [c.id for c in library.plans.changes(plan)] == [1, 2, 3, 4]
    assert [c.id for c in library.plans.changes(plan, status="approved", field="tag")] == [4]
    assert [c.id for c in library.plans.changes(plan, scene=Scene.get_by_id("1"), limit=1)] == [1]
    assert [c.id for c in library.plans.changes(plan, limit=2, offset=1, sort="-id")] == [3, 2]
    assert [c.id for c in Scene.get_by_id("2").plan_changes] == [3, 4]
    assert PlanChange.select().where(PlanChange.applied).count() == 0
    for options in ({"status": "x"}, {"field": "x"}, {"scene": 2}, {"limit": -1}, {"offset": None}, {"sort": "error"}):
        with pytest.raises(InvalidArgument):
            library.plans.changes(plan, **options)


def test_preview(library: Store, finding: Finding) -> None:
    plan = library.plans.add("p")
    library.plans.propose_many(plan, [
        Proposal("1", "tags", "add", "tz"),
        Proposal("2", "title", "set", "Zwei"),
        Proposal("1", "tags", "remove", "tx"),
        Proposal("1", "title", "set", "Uno", current="Another"),
        Proposal("1", "studio", "set", None),
        Proposal(finding.id, "severity", "set", "low"),
    ])  # fmt: skip
    Scene.delete().where(Scene.id == "2").execute()
    one, two, three = library.plans.preview(plan)
    assert (one.target, one.key, one.title, one.gone) == ("scene", "1", "One", False)
    tags, title, studio = one.fields
    assert tags == ("tags", ["tx", "ty"], ["ty", "tz"], [1, 3], [], {k: f"tag {k[1]}" for k in ("tx", "ty", "tz")})
    assert title == ("title", "One", "One", [4], [4], {})
    assert studio == ("studio", "s1", None, [5], [], {"s1": "A Studio"})
    assert (two.key, two.gone, two.fields) == ("2", True, [])
    assert (three.target, three.key, three.title) == ("finding", str(finding.id), "T")
    assert three.fields[0][:3] == ("severity", "high", "low")
    assert [each.key for each in library.plans.preview(plan, scene="1")] == ["1"]
    assert library.plans.preview(plan, status="approved") == []
    assert library.plans.preview(plan, limit=1, offset=1) == [two] and library.plans.preview(plan, offset=2) == [three]
    assert library.plans.preview(plan, limit=0) == [] and library.plans.preview(plan, limit=2) == [one, two]
    for options in ({"limit": -1}, {"offset": -1}, {"limit": 2**63}, {"status": "x"}):
        with pytest.raises(InvalidArgument):
            library.plans.preview(plan, **options)  # type: ignore[arg-type]
    library.plans.submit(plan)
    library.plans.review(plan, "reject", field="tags")
    assert [f.field for f in library.plans.preview(plan, scene="1")[0].fields] == ["title", "studio"]


# Reviewing


@pytest.fixture
def plan(library: Store) -> AnalysisPlan:
    """Six changes: title, details and tags of two scenes, with confidences."""
    made = library.plans.add("p")
    for scene, more in (("1", 0.0), ("2", 0.1)):
        library.plans.propose(made, scene, "title", "set", proposed="x", confidence=0.5 + more)
        library.plans.propose(made, scene, "details", "set", proposed="x", confidence=0.8 + more)
        library.plans.propose(made, scene, "tags", "add", proposed="tz")
    return library.plans.submit(made)


def approved(store: Store, plan: AnalysisPlan) -> list[int]:
    return [change.id for change in store.plans.changes(plan, status="approved")]


@pytest.mark.parametrize(
    ("options", "which"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"ids": []}, []),
        ({"ids": [4, 2, 4]}, [2, 4]),
        ({"field": "tag"}, [3, 6]),
        ({"scene": "2"}, [4, 5, 6]),
        ({"min_confidence": 0.8}, [2, 5]),
        ({"min_confidence": 0}, [1, 2, 4, 5]),
        ({"scene": "1", "min_confidence": 0.6, "field": "details"}, [2]),
        ({"ids": [1, 2, 3], "field": "title"}, [1]),
    ],
)
def test_review_by(library: Store, plan: AnalysisPlan, options: dict[str, Any], which: list[int]) -> None:
    done = library.plans.review(plan, "approve", **options)
    assert done == (len(which), ChangeCounts(pending=6 - len(which), approved=len(which)))
    assert approved(library, plan) == which
    assert counted(library, plan) == done.counts
    assert library.plans.get(plan).status == ("reviewing" if which else "draft")


def test_the_last_decision_counts(library: Store, plan: AnalysisPlan) -> None:
    library.plans.review(plan, "approve", by="ann")
    assert library.plans.review(plan, "Reject", field="title", by="bob").changed == 2
    assert library.plans.review(plan, "approve", by="eve").changed == 2
    assert {c.reviewer for c in library.plans.changes(plan, field="title")} == {"eve"}
    assert {c.reviewer for c in library.plans.changes(plan, field="tags")} == {"ann"}
    assert library.plans.review(plan, "reset", ids=library.plans.changes(plan, scene="1")).changed == 3
    first, *_ = library.plans.changes(plan)
    assert (first.status, first.reviewer, first.reviewed_at) == ("pending", None, None)
    assert counted(library, plan) == ChangeCounts(pending=3, approved=3)
    assert library.plans.get(plan).status == "reviewing"


def test_the_reviewer_is_the_person_of_the_environment_by_default(
    library: Store, plan: AnalysisPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSTORE_USER", "eve")
    library.plans.review(plan, "approve", ids=[1])
    monkeypatch.delenv("SCANSTORE_USER")
    library.plans.review(plan, "approve", ids=[2])
    assert [change.reviewer for change in library.plans.changes(plan, limit=3)] == ["eve", None, None]


def test_bad_reviews(library: Store, plan: AnalysisPlan) -> None:
    other = library.plans.add("other")
    theirs = library.plans.propose(other, "1", "title", "set", proposed="y")
    for decision, options in (
        ("approved", {}), ("", {}), (None, {}), ("approve", {"field": "x"}), ("approve", {"scene": 1}),
        ("approve", {"min_confidence": 2}), ("approve", {"ids": "12"}), ("approve", {"ids": [0]}),
        ("approve", {"ids": [True]}), ("approve", {"ids": theirs}), ("approve", {"by": " "}),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            library.plans.review(plan, decision, **options)  # type: ignore[arg-type]
    for ids in ([1, theirs], [1, 999]):
        with pytest.raises(NotFound, match=f"plan {plan.id} has no change"):
            library.plans.review(plan, "approve", ids=ids)
    assert counted(library, plan) == ChangeCounts(pending=6)


# Moves


LEGAL = {
    "submit": ("pending",),
    "propose": ("pending", "draft", "reviewing"),
    "review": ("draft", "reviewing"),
    "retry": ("reviewing", "applied"),
    "cancel": ("pending", "draft", "reviewing"),
    "apply": ("reviewing",),
    "revert": ("applied",),  # and one in review of which something is applied
}


@pytest.mark.parametrize(("verb", "status"), list(product(LEGAL, PLAN_STATUSES)))
def test_moves_of_a_plan(library: Store, verb: str, status: str) -> None:
    plan = in_status(library, status)
    before = plan.to_dict(), [change.to_dict() for change in library.plans.changes(plan)]
    call = {
        "propose": lambda: library.plans.propose(plan, "2", "title", "set", proposed="new"),
        "review": lambda: library.plans.review(plan, "reject"),
    }.get(verb, lambda: getattr(library.plans, verb)(plan))
    if status in LEGAL[verb]:
        call()
    else:
        with pytest.raises(IllegalMove, match=rf"plan {plan.id}\b.*;"):
            call()
        after = library.plans.get(plan)
        assert (after.to_dict(), [change.to_dict() for change in library.plans.changes(plan)]) == before


@pytest.mark.parametrize(("decision", "status"), list(product((*DECISIONS, "retry"), CHANGE_STATUSES)))
def test_moves_of_a_change(library: Store, decision: str, status: str) -> None:
    plan = library.plans.add("p")
    change = library.plans.propose(plan, "1", "title", "set", proposed="x")
    library.plans.propose(plan, "2", "title", "set", proposed="x")
    library.plans.submit(plan)
    library.plans.review(plan, "approve", ids=[2])
    when = "2026-01-01T00:00:00.000Z" if status in ("applied", "reverted") else None
    change_rows(PlanChange, status=status, applied_at=when).where(PlanChange.id == change.id).execute()
    to = DECISIONS.get(decision, "approved")
    known = ("failed", "skipped", "approved") if decision == "retry" else ("pending", "approved", "rejected")
    legal = status in CHANGES.moves[to] and status in known

    def call() -> Any:
        if decision == "retry":
            return len(library.plans.retry(plan, ids=[change.id]))
        return library.plans.review(plan, decision, ids=[change.id]).changed

    if status in known:
        assert call() == legal
        assert library.plans.changes(plan)[0].status == to
    else:
        with pytest.raises(IllegalMove, match=f"change {change.id} is {status} and cannot become {to}; "):
            call()
        assert library.plans.changes(plan)[0].status == status
    counted(library, plan)
    if status == "applied":  # left as it is by a decision about all
        library.plans.review(plan, "reject")
        assert library.plans.changes(plan)[0].status == "applied"
    library.plans.remove(plan)


def test_a_plan_with_applied_changes_cannot_be_cancelled(library: Store, plan: AnalysisPlan) -> None:
    library.plans.review(plan, "approve", ids=[1])
    library.plans.apply(plan)
    assert library.plans.get(plan).status == "reviewing"
    with pytest.raises(IllegalMove, match="plan 1 is reviewing and has 1 applied; revert it first"):
        library.plans.cancel(plan)
    library.plans.review(plan, "reject")
    assert library.plans.get(plan).status == "applied"  # nothing is left to decide


def test_remove(library: Store, plan: AnalysisPlan) -> None:
    keep = in_status(library, "draft")
    removed = library.plans.remove(plan)
    assert removed == {"analysis_plans": 1, "plan_changes": 6, "plan_counts": 1} and removed.total == 8
    for call in (library.plans.get, library.plans.remove):
        with pytest.raises(NotFound, match="no plan 1;"):
            call(plan)
    assert [row.id for row in library.plans.list()] == [keep.id]
    assert PlanChange.select().count() == 1
    assert library.database.execute_sql("SELECT sum(count) FROM plan_counts").fetchall() == [(1,)]


def test_changes_outlive_their_target(library: Store, finding: Finding, plan: AnalysisPlan) -> None:
    about = library.plans.propose(plan, finding, "severity", "set", proposed="low")
    Scene.delete().where(Scene.id == "1").execute()
    library.database.execute_sql("DELETE FROM findings")
    assert [(c.scene_id, c.target_key) for c in library.plans.changes(plan, scene="1")] == [(None, "1")] * 3
    gone = PlanChange.get_by_id(about.id)
    assert (gone.finding_id, gone.target_key) == (None, str(finding.id))


# What a change does, as such


@pytest.mark.parametrize(
    ("action", "now", "current", "proposed", "value", "conflict"),
    [
        ("add", [], [], ["a"], ["a"], False),
        ("add", ["a", "b"], [], ["a"], ["a", "b"], False),  # somebody else did it
        ("add", ["c"], ["b"], ["a"], ["a", "c"], False),  # others do not matter
        ("add", [], ["a"], ["a"], ["a"], True),  # it was there and was taken out since
        ("remove", ["a", "b"], ["a"], ["a"], ["b"], False),
        ("remove", ["b"], ["a"], ["a"], ["b"], False),
        ("remove", ["a"], [], ["a"], [], True),
        ("set", ["a"], ["a"], ["b"], ["b"], False),
        ("set", ["b"], ["a"], ["b"], ["b"], False),
        ("set", ["c"], ["a"], ["b"], ["b"], True),
    ],
)
def test_forward(action: str, now: Any, current: Any, proposed: Any, value: Any, conflict: bool) -> None:
    assert forward(FIELDS["tags"], action, now, current, proposed) == (value, conflict)


@pytest.mark.parametrize(
    ("action", "now", "found", "proposed", "value", "conflict"),
    [
        ("add", ["a", "b"], ["b"], ["a"], ["b"], False),
        ("add", ["a", "b"], ["a", "b"], ["a"], ["a", "b"], False),  # it was there before: not our doing
        ("add", ["c"], [], ["a"], ["c"], False),
        ("remove", ["b"], ["a", "b"], ["a"], ["a", "b"], False),
        ("remove", ["b"], ["b"], ["a"], ["b"], False),
        ("set", ["b"], ["a"], ["b"], ["a"], False),
        ("set", ["a"], ["a"], ["b"], ["a"], False),
        ("set", ["c"], ["a"], ["b"], ["a"], True),
    ],
)
def test_backward(action: str, now: Any, found: Any, proposed: Any, value: Any, conflict: bool) -> None:
    assert backward(FIELDS["tags"], action, now, found, proposed) == (value, conflict)


def test_a_plan_from_another_process_is_seen(library: Store, tmp_path: Path) -> None:
    with Store(library.path) as second:
        plan = second.plans.add("theirs")
    assert library.plans.get(plan.id).name == "theirs"
