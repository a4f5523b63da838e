"""Triage: what people decide about findings, its history, and suppressions with their scope and end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore import Ambiguous, Conflict, IllegalMove, InvalidArgument, NotFound, Store, WrongStore
from scanstore.cli.output import places
from scanstore.db.rules import change_rows
from scanstore.db.state_machine import FINDING_STATUSES, FINDINGS
from scanstore.db.values import format_time, utcnow
from scanstore.findings.models import ToolRun
from scanstore.models import Finding, FindingEvent, Scan, Suppression

Make = Callable[..., Finding]
DECIDED = ("false_positive", "ignored", "fixed")
LEGAL = {("open", "confirmed"), ("confirmed", "open")}
LEGAL |= {(before, after) for before in ("open", "confirmed") for after in DECIDED} | {
    (each, "open") for each in DECIDED
}


@pytest.fixture
def scan(store: Store) -> Scan:
    """A scan of a target without files."""
    return store.scans.finish(store.scans.add("t"))


@pytest.fixture
def make(store: Store, scan: Scan) -> Make:
    """Make a finding as a scan would leave it."""

    def finding(where: Scan = scan, **columns: Any) -> Finding:
        columns = {
            "rule_id": "sqli", "title": "T", "vulnerability_type": "sqli", "severity": "high", "file_path": "src/a.py",
            **columns,
        }  # fmt: skip
        made = Finding.create(lineage=where.lineage_id, scan=where, first_scan=where, **columns)
        return store.findings.get(made.id)

    return finding


@pytest.fixture
def finding(make: Make) -> Finding:
    return make()


def later(**time: float) -> datetime:
    return utcnow() + timedelta(**time)


def expire(suppression: Suppression) -> None:
    Suppression.update(expires_at=later(seconds=-1)).where(Suppression.id == suppression.id).execute()


def counts() -> tuple[int, int]:
    return FindingEvent.select().count(), Suppression.select().count()


# Status


@pytest.mark.parametrize(("before", "after"), list(product(FINDING_STATUSES, FINDING_STATUSES)))
def test_a_status_goes_only_where_its_life_leads(store: Store, finding: Finding, before: str, after: str) -> None:
    change_rows(Finding, status=before).execute()
    if before == after:
        assert store.findings.triage(finding, after, by="ann", reason="again").status == before
        assert counts() == (0, 0)
    elif (before, after) in LEGAL:
        assert store.findings.triage(finding, after, by="ann", reason="why").status == after
        (event,) = store.findings.history(finding)
        assert (event.action, event.by, event.note) == ("status", "ann", "why")
        assert (event.from_status, event.to_status, event.scan_id) == (before, after, None)
        assert abs(event.created_at - utcnow()) < timedelta(minutes=1)
    else:
        with pytest.raises(IllegalMove, match=f"finding {finding.id} is {before} and cannot become {after}; open it"):
            store.findings.triage(finding, after, by="ann")
        assert store.findings.get(finding).status == before and counts() == (0, 0)
    assert store.check() == []


def test_every_status_is_in_the_machine() -> None:
    assert set(FINDINGS.moves) == set(FINDING_STATUSES)
    assert {(before, after) for after, origins in FINDINGS.moves.items() for before in origins} == LEGAL


def test_history_keeps_everything_in_order(store: Store, finding: Finding, make: Make) -> None:
    other = make()
    store.findings.triage(finding, "Confirmed", by=" ann ")
    store.findings.comment(finding.id, "seen\nin production", by="bob")
    store.findings.triage(other, "ignored", by="eve")
    held = store.findings.suppress(finding, reason="next week", by="ann")
    store.findings.unsuppress(held, by="bob")
    store.findings.triage(finding, "fixed", by="ann", reason="in 1.2")
    store.findings.triage(finding, "open", by="bob", reason="no, it is not")
    assert [(e.action, e.by, e.from_status, e.to_status, e.note) for e in store.findings.history(finding)] == [
        ("status", "ann", "open", "confirmed", ""),
        ("comment", "bob", None, None, "seen\nin production"),
        ("suppress", "ann", None, None, "next week"),
        ("unsuppress", "bob", None, None, ""),
        ("status", "ann", "confirmed", "fixed", "in 1.2"),
        ("status", "bob", "fixed", "open", "no, it is not"),
    ]
    assert [e.note for e in finding.events][:2] == ["", "seen\nin production"]
    assert len(store.findings.history(other.id)) == 1
    assert store.check() == []


def test_a_comment_is_returned(store: Store, finding: Finding) -> None:
    made = store.findings.comment(finding, " half \ud800 of it\0 ", by="ann")
    assert made.note == "half \ufffd of it\ufffd" and made.id == store.findings.history(finding)[0].id


def test_status_and_event_are_one_transaction(store: Store, finding: Finding) -> None:
    store.database.execute_sql(
        "CREATE TEMP TRIGGER no BEFORE INSERT ON finding_events BEGIN SELECT raise(ABORT, 'no'); END"
    )
    for attempt in (
        lambda: store.findings.triage(finding, "confirmed", by="ann"),
        lambda: store.findings.suppress(finding, reason="j", by="ann"),
    ):
        with pytest.raises(Conflict):
            attempt()
    assert store.findings.get(finding).status == "open" and counts() == (0, 0)
    store.database.execute_sql("DROP TRIGGER no")
    held = store.findings.suppress(finding, reason="j", by="ann")
    store.database.execute_sql(
        "CREATE TEMP TRIGGER no BEFORE INSERT ON finding_events BEGIN SELECT raise(ABORT, 'no'); END"
    )
    with pytest.raises(Conflict):
        store.findings.unsuppress(held, by="ann")
    assert [s.state for s in store.findings.suppressions()] == ["active"]
    with pytest.raises(Conflict):  # the former is not lifted either
        store.findings.suppress(finding, reason="another", by="ann")
    assert [s.state for s in store.findings.suppressions()] == ["active"]


RACER = """
import sys
from scanstore import IllegalMove, Store
with Store(sys.argv[1], timeout=60) as store:
    for _ in range(10):
        for status in ("confirmed", "false_positive", "open", "ignored", "open"):
            try:
                store.findings.triage(int(sys.argv[2]), status, by=sys.argv[3])
            except IllegalMove:
                pass
"""


def test_processes_that_decide_at_once_leave_one_story(store: Store, finding: Finding, db_path: Path) -> None:
    racers = [Program(RACER, db_path, finding.id, f"p{n}") for n in range(4)]
    assert [racer.wait(timeout=120) for racer in racers] == [0] * 4
    story = store.findings.history(finding)
    assert {event.by for event in story} == {"p0", "p1", "p2", "p3"}
    assert [e.from_status for e in story] == ["open", *(e.to_status for e in story[:-1])]
    assert store.findings.get(finding).status == story[-1].to_status
    assert store.check() == []


def test_decisions_outlive_the_scans_that_saw_the_finding(store: Store, scan: Scan, make: Make) -> None:
    judged, hidden, plain = make(), make(), make()
    store.findings.triage(judged, "false_positive", by="ann")
    held = store.findings.suppress(hidden, reason="j", by="ann")
    store.scans.finish(store.scans.add("t"))
    store.scans.remove(scan)
    assert store.findings.get(judged).status == "false_positive"
    assert list(store.findings.suppressed([hidden.id])) == [hidden.id]
    assert store.findings.suppressed([hidden.id])[hidden.id].id == held.id
    with pytest.raises(NotFound):
        store.findings.get(plain.id)
    assert store.check() == []


# Bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"status": "closed"}, "status is 'closed'; it must be one of: open, confirmed"),
        ({"status": None}, "status is None"),
        ({"by": ""}, "by is ''"), ({"by": "  "}, "by is '  '"), ({"by": 7}, "by is 7"),
        ({"by": "Scanstore"}, "stands for scanstore itself"), ({"reason": 5}, "reason is 5"),
    ],
)  # fmt: skip
def test_triage_refuses(store: Store, finding: Finding, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        store.findings.triage(finding, **{"status": "confirmed", "by": "ann", **options})
    assert store.findings.get(finding).status == "open" and counts() == (0, 0)


def test_what_is_not_there(store: Store, scan: Scan) -> None:
    calls: list[Callable[[Any], Any]] = [
        lambda key: store.findings.triage(key, "confirmed", by="ann"),
        lambda key: store.findings.comment(key, "c", by="ann"),
        lambda key: store.findings.history(key),
        lambda key: store.findings.suppress(key, reason="j", by="ann"),
        lambda key: store.findings.unsuppress(key, by="ann"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="no (finding|suppression) 7; "):
            call(7)
        for wrong in (True, "1", 1.0, 0, -1, 2**63):
            with pytest.raises(InvalidArgument, match="is not a (finding|suppression)"):
                call(wrong)
    with pytest.raises(NotFound, match="there is no target 'x'"):
        store.findings.suppress(rule="r", target="x", reason="j", by="ann")
    with pytest.raises(NotFound, match="there is no target 'x'"):
        store.findings.suppressions("x")
    with pytest.raises(InvalidArgument, match="'1' is not a finding"):
        store.findings.suppressed(["1"])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="-1 is not a finding"):
        store.findings.suppressed([7, -1])
    assert store.findings.suppressed([7]) == {} == store.findings.suppressed([])
    assert counts() == (0, 0)


def test_rows_of_another_store(store: Store, finding: Finding, tmp_path: Path) -> None:
    held = store.findings.suppress(finding, reason="j", by="ann")
    with Store(tmp_path / "other.db") as other:
        with pytest.raises(WrongStore):
            other.findings.triage(finding, "confirmed", by="ann")
        with pytest.raises(WrongStore):
            other.findings.unsuppress(held, by="ann")
        with pytest.raises(WrongStore):
            other.findings.suppressed([finding])
    assert store.findings.get(finding).status == "open" and held.state == "active"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing says what to suppress"),
        ({"path": "*.py"}, "nothing says what"), ({"tool": "bandit"}, "nothing says what"),
        ({"finding": 1, "rule": "r"}, "leave out rule, or the finding"),
        ({"finding": 1, "tool": "t", "path": "*", "target": "t"}, "leave out tool, path, target"),
        ({"rule": " "}, "rule is empty"), ({"rule": 5}, "rule is 5"), ({"rule": "r", "tool": ""}, "tool is empty"),
        ({"rule": "r", "path": "!"}, "'!', which is no pattern"), ({"rule": "r", "path": "!a"}, "matches nothing"),
        ({"rule": "r", "path": "# a"}, "matches nothing"), ({"rule": "r", "path": ""}, "path is empty"),
        ({"rule": "r", "path": "a\nb"}, "matches nothing"), ({"rule": "r", "path": 7}, "path is 7"),
        ({"rule": "r", "target": 7}, "target is 7"),
        ({"finding": 1, "reason": ""}, "reason is empty"), ({"finding": 1, "reason": None}, "reason is None"),
        ({"finding": 1, "by": ""}, "by is ''"), ({"finding": 1, "by": "scanstore"}, "stands for scanstore itself"),
        ({"finding": 1, "expires": datetime(2099, 1, 1)}, "no time zone"),
        ({"finding": 1, "expires": datetime(2001, 1, 1, tzinfo=UTC)}, "in the past"),
        ({"finding": 1, "expires": "2099-01-01T00:00:00Z"}, "must be an aware datetime"),
        ({"finding": 1, "expires": datetime(2099, 1, 1).date()}, "must be an aware datetime"),
        ({"finding": 1, "expires": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "no calendar"),
        ({"rule": "r", "expires": datetime(2001, 1, 1, tzinfo=UTC)}, "in the past"),
    ],
)  # fmt: skip
def test_suppress_refuses(store: Store, finding: Finding, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        store.findings.suppress(**{"reason": "j", "by": "ann", **options})
    assert counts() == (0, 0)


def test_which_target_is_meant(store: Store, scan: Scan) -> None:
    with Store(":memory:") as empty, pytest.raises(NotFound, match="there is no target yet"):
        empty.findings.suppress(rule="r", reason="j", by="ann")
    assert store.findings.suppress(rule="r", reason="j", by="ann").lineage_id == scan.lineage_id
    second = store.scans.add("u")
    with pytest.raises(InvalidArgument, match="more than one target; name the one that is meant: 't', 'u'"):
        store.findings.suppress(rule="q", reason="j", by="ann")
    assert store.findings.suppress(rule="r", target="u", reason="j", by="ann").lineage_id == second.lineage_id
    assert [s.lineage_id for s in store.findings.suppressions("u")] == [second.lineage_id]
    assert len(store.findings.suppressions()) == 2


# Suppressions


def test_scopes(store: Store, make: Make) -> None:
    a, b = make(file_path="src/a.py"), make(file_path="tests/deep/b.py")
    bandit, xss = make(tool="bandit"), make(rule_id="xss")
    nowhere = make(file_path="")
    second = store.scans.finish(store.scans.add("u"))
    abroad = make(second)
    rows = [a, b, bandit, xss, nowhere, abroad]

    def hidden(**scope: Any) -> list[Finding]:
        given = scope.pop("finding", None)
        target = {} if given is not None else {"target": "t"}
        held = store.findings.suppress(given, reason="j", by="ann", **target, **scope)
        found = store.findings.suppressed(rows)
        assert {s.id for s in found.values()} <= {held.id}
        assert found.keys() == store.findings.suppressed([row.id for row in rows]).keys()
        store.findings.unsuppress(held, by="ann")
        assert store.findings.suppressed(rows) == {}
        return [row for row in rows if row.id in found]

    assert hidden(finding=a) == [a]
    assert hidden(rule="sqli") == [a, b, bandit, nowhere]
    assert hidden(rule="sqli", tool="bandit") == [bandit]
    assert hidden(rule="sqli", tool="scanstore") == [a, b, nowhere]
    assert hidden(rule="sqli", path="tests/") == [b]
    assert hidden(rule="sqli", path="*") == [a, b, bandit]
    assert hidden(rule="sqli", path="*.py") == [a, b, bandit]
    assert hidden(rule="sqli", path="/src/*.py", tool="bandit") == [bandit]
    assert hidden(rule="sqli", path="**/deep/**") == [b]
    assert hidden(rule="SQLI") == []
    assert [s.status for s in map(store.findings.get, rows)] == ["open"] * 6
    assert store.check() == []


def test_an_expired_one_hides_nothing_and_says_so(store: Store, finding: Finding) -> None:
    held = store.findings.suppress(finding, reason="j", by="ann", expires=later(seconds=0.15))
    found = store.findings.suppressed([finding])[finding.id]
    assert (found.expired, found.state, found.to_dict()["state"]) == (False, "active", "active")
    time.sleep(0.2)
    found = store.findings.suppressed([finding])[finding.id]
    assert (found.id, found.expired, found.state, found.to_dict()["state"]) == (held.id, True, "expired", "expired")
    assert store.findings.suppressions(active=True) == []
    assert [s.id for s in store.findings.suppressions(active=False)] == [held.id]
    assert [s.id for s in store.findings.suppressions("t")] == [held.id]
    lifted = store.findings.unsuppress(held.id, by="bob")
    assert (lifted.state, lifted.lifted_by, lifted.expired) == ("lifted", "bob", True)
    assert store.findings.suppressed([finding]) == {}


def test_the_one_that_speaks_for_a_finding(store: Store, make: Make) -> None:
    finding = make(tool="bandit")
    expires = later(hours=1)
    wide = {"reason": "j", "by": "ann", "expires": expires}
    order = [  # the narrowest first, so that being the latest is no help but between equals
        store.findings.suppress(finding, **wide),
        store.findings.suppress(rule="sqli", tool="bandit", path="*.py", **wide),
        store.findings.suppress(rule="sqli", path="*.py", **wide),
        store.findings.suppress(rule="sqli", path="src", **wide),
        store.findings.suppress(rule="sqli", tool="bandit", **wide),
        store.findings.suppress(rule="sqli", **wide),
    ]
    order[2:4] = order[3:1:-1]
    for held in order:
        assert store.findings.suppressed([finding])[finding.id].id == held.id
        expire(held)
    assert store.findings.suppressed([finding])[finding.id].id == order[0].id  # all have expired
    again = store.findings.suppress(rule="sqli", reason="j", by="ann")
    assert store.findings.suppressed([finding])[finding.id].id == again.id


def test_one_counts_for_each_scope(store: Store, finding: Finding) -> None:
    for scope in ({"finding": finding.id}, {"rule": "sqli"}, {"rule": "sqli", "path": "src"},
                  {"rule": "sqli", "tool": "x"}, {"rule": "sqli", "tool": "x", "path": "src"}):  # fmt: skip
        before = store.findings.suppressions(active=True)
        said: dict[str, Any] = {"reason": "j", "by": "ann", **scope}
        expires = later(days=30).astimezone(timezone(timedelta(hours=5))) + timedelta(microseconds=7)
        first = store.findings.suppress(**said)
        assert store.findings.suppress(**said).id == first.id
        second = store.findings.suppress(**said, expires=expires)
        assert second.id != first.id and store.findings.suppress(**said, expires=expires).id == second.id
        assert format_time(second.expires_at) == format_time(expires)
        now = {s.id: s for s in store.findings.suppressions()}
        assert (now[first.id].state, now[first.id].lifted_by, now[second.id].state) == ("lifted", "ann", "active")
        expire(second)
        third = store.findings.suppress(**said, expires=later(days=1))
        now = {s.id: s for s in store.findings.suppressions()}
        assert (now[second.id].state, now[third.id].state) == ("lifted", "active")
        assert [s.id for s in store.findings.suppressions(active=True)] == [*(s.id for s in before), third.id]
    assert [e.action for e in store.findings.history(finding)] == ["suppress"] * 3
    assert store.check() == []


def test_lifting_twice_is_lifting_once(store: Store, finding: Finding) -> None:
    held = store.findings.suppress(finding, reason="j", by="ann")
    first = store.findings.unsuppress(held, by="bob")
    second = store.findings.unsuppress(held.id, by="eve")
    assert (second.lifted_by, second.lifted_at) == ("bob", first.lifted_at)
    assert [e.action for e in store.findings.history(finding)] == ["suppress", "unsuppress"]
    lone = store.findings.suppress(rule="r", reason="j", by="ann")
    assert store.findings.unsuppress(lone, by="ann").state == "lifted"


@pytest.mark.no_cover
def test_many_findings_are_asked_about_at_once(store: Store, scan: Scan) -> None:
    with store.transaction():
        rows = [(n, scan.lineage_id, f"r{n % 50}", "T", "t", "low", f"src/d{n % 100}/f{n % 997}.py")
                for n in range(1, 10_001)]  # fmt: skip
        store.database.executemany(
            "INSERT INTO findings (id, lineage_id, rule_id, title, vulnerability_type, severity, file_path)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        seen = "INSERT INTO sightings (scan_id, finding_id, state) SELECT ?, id, 'new' FROM findings"
        store.database.execute_sql(seen, (scan.id,))
        for n in range(60):
            store.findings.suppress(n * 50 + 1, reason="j", by="ann")
        for n in range(20):
            store.findings.suppress(rule=f"r{n}", path=f"src/d{n}/", reason="j", by="ann")
    found = list(Finding.select())
    for question in (found, [row.id for row in found]):
        begun = time.perf_counter()
        answer = store.findings.suppressed(question)
        assert time.perf_counter() - begun < 1.5
        ids = {n * 50 + 1 for n in range(60)} | {n for n in range(1, 10_001) if n % 50 < 20 and n % 100 == n % 50}
        assert answer.keys() == ids
    assert store.check() == []


def test_questions_go_by_indexes(store: Store, finding: Finding) -> None:
    from scanstore.findings.triage import OF_TARGETS, PLACES

    for sql in (OF_TARGETS, PLACES, "SELECT * FROM finding_events WHERE finding_id = ? ORDER BY id"):
        plan = [row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", ("1",)).fetchall()]
        assert not [line for line in plan if line.startswith("SCAN") and "i VIRTUAL" not in line], plan
        assert not [line for line in plan if "TEMP B-TREE" in line], plan


def test_the_latest_scan_is_one_that_looked_though_it_found_nothing(store: Store, make: Make, scan: Scan) -> None:
    made = make()
    assert store.findings.latest().id == scan.id and [row.id for row in store.findings.list()] == [made.id]
    empty, idle = (store.scans.finish(store.scans.add("t")) for _ in range(2))
    other = store.scans.finish(store.scans.add("u"))
    ToolRun.create(scan=empty, tool="x", digest="1")
    assert store.findings.latest().id == store.findings.latest("t").id == empty.id
    assert store.findings.list(store.findings.latest()) == [] and store.findings.latest("u").id == other.id
    assert [(row.id, row.state) for row in store.findings.list(target="t")] == [(made.id, "new")]  # whoever looked last
    with pytest.raises(Ambiguous, match="2 targets"):
        store.findings.list()
    assert store.findings.latest(before=empty).id == scan.id and store.findings.latest(before=idle).id == empty.id
    with pytest.raises(NotFound, match="scan it again"):
        store.findings.latest(before=scan)
    with pytest.raises(NotFound):
        store.findings.latest("v")


def test_places_of_a_tree_that_is_elsewhere_are_as_reported(scan: Scan) -> None:
    assert scan.root is None and places(scan)("src/a.py", 3) == "src/a.py:3"
