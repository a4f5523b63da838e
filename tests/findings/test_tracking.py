"""Tracking: what scan after scan says of the same findings, what counts as fixed, and what removing a scan undoes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanstore.analysis import publishing
from scanstore.db.rules import change_rows
from scanstore.errors import InvalidArgument, NotFound
from scanstore.findings import coverage, listing, removal, tracking
from scanstore.findings.identity import traits_of
from scanstore.findings.models import FindingContent, FindingEvent, Sighting, ToolRun
from scanstore.findings.tracking import Closed, Incoming, SightingCounts
from scanstore.models import Finding, Scan
from scanstore.store import Store

TOOL = "fake"


def incoming(lines: Sequence[str], line: int, **more: Any) -> Incoming:
    """What the tool says of a line of a file that reads like this."""
    rule, tool, path = more.pop("rule", "R1"), more.pop("tool", TOOL), more.pop("path", "a.py")
    values: dict[str, Any] = {
        "title": "Bad", "message": f"bad in line {line}", "vulnerability_type": rule, "severity": "high", **more,
    }  # fmt: skip
    traits = traits_of(lines, tool=tool, rule=rule, path=path, line=line, message=values["message"])
    return Incoming(
        tool=tool, rule_id=rule, file_path=path, line_number=line, snippet=lines[line - 1], traits=traits, **values
    )


def scanned(store: Store, *, target: str = "t", tool: str = TOOL, run: Mapping[str, Any] | None = None) -> Scan:
    """A scan of reports, with one run of the tool that ``run`` says more of."""
    scan = store.scans.finish(store.scans.add(target))
    change_rows(Scan, kind="results").where(Scan.id == scan.id).execute()
    ran(scan, tool=tool, **run or {})
    return scan


def ran(scan: Scan, *, tool: str = TOOL, **run: Any) -> None:
    ToolRun.create(scan=scan, tool=tool, digest=str(ToolRun.select().count()), **run)


def saw(store: Store, scan: Scan, what: Sequence[Incoming], *, tool: str = TOOL) -> tuple[SightingCounts, Closed]:
    with store.database.atomic():
        counts = tracking.record(store.database, scan.id, what)
        return counts, tracking.close(store.database, scan.id, tool=tool)


def evals(store: Store, lines: Sequence[str], **more: Any) -> tuple[Scan, SightingCounts, Closed]:
    """A scan that saw every line with an eval in it."""
    scan = scanned(store)
    found = [incoming(lines, n, **more) for n, text in enumerate(lines, 1) if "eval" in text]
    return scan, *saw(store, scan, found)


def states(store: Store, finding: Finding | int) -> list[str]:
    return [one.state for one in store.findings.sightings(finding)]


TEXT = ["import os", "eval(x)", "y = 1", "eval(y)", "z = 2"]


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_finding_is_new_unchanged_updated_fixed_and_reopened(store: Store) -> None:
    first, counts, closed = evals(store, TEXT)
    assert (counts, closed) == (SightingCounts(new=2), Closed(0, 0))
    second, counts, _ = evals(store, ["# more", "", *TEXT])
    assert counts == SightingCounts(unchanged=2)
    third, counts, _ = evals(store, TEXT, severity="low", title="Not so bad")
    assert counts == SightingCounts(updated=2)
    fourth, counts, closed = evals(store, [*TEXT[:3], "z = 2"], severity="low", title="Not so bad")
    assert (counts, closed) == (SightingCounts(unchanged=1), Closed(1, 0))
    fifth, counts, closed = evals(store, TEXT, severity="low", title="Not so bad")
    assert (counts, closed) == (SightingCounts(unchanged=1, reopened=1), Closed(0, 0))
    one, two = Finding.select().order_by(Finding.id)
    assert states(store, one) == ["new", "unchanged", "updated", "unchanged", "unchanged"]
    assert states(store, two) == ["new", "unchanged", "updated", "fixed", "reopened"]
    assert (two.first_scan_id, two.scan_id, two.status) == (first.id, fifth.id, "open")
    moves = [(e.from_status, e.to_status, e.by, e.scan_id) for e in FindingEvent.select().order_by(FindingEvent.id)]
    assert moves == [("open", "fixed", "scanstore", fourth.id), ("fixed", "open", "scanstore", fifth.id)]

    # As each scan saw it, though the row is as the last one did.
    assert [(f.severity, f.title, f.line_number) for f in store.findings.list(first)] == [
        ("high", "Bad", 2), ("high", "Bad", 4),
    ]  # fmt: skip
    assert [(f.message, f.line_number) for f in store.findings.list(second)] == [
        ("bad in line 4", 4), ("bad in line 6", 6),
    ]  # fmt: skip
    assert [f.severity for f in store.findings.list(third)] == ["low", "low"]
    assert [f.id for f in store.findings.list(fourth)] == [one.id]
    assert [(f.id, f.state, f.line_number) for f in store.findings.list(fourth, state="fixed")] == [
        (two.id, "fixed", 4)
    ]
    assert [f.id for f in store.findings.list(state="reopened")] == [two.id]
    assert [f.id for f in store.findings.list(first, severity="high", limit=1)] == [one.id]
    assert store.findings.list(first, severity="low") == store.findings.list(first, tool="other") == []
    assert store.check() == []


def test_diff_between_any_two_scans(store: Store) -> None:
    a, *_ = evals(store, TEXT)
    b, *_ = evals(store, TEXT[:3], severity="low")
    c, *_ = evals(store, [*TEXT, "eval(new)"], severity="low")
    one, two, three = (f.id for f in Finding.select().order_by(Finding.id))

    def told(*scans: Scan) -> dict[str, list[int]]:
        found = store.findings.diff(*scans)._asdict()
        return {name: [f.id for f in rows] for name, rows in found.items() if rows}

    assert told(a, b) == {"fixed": [two], "updated": [one]}
    assert told(b, c) == {"reopened": [two], "new": [three], "unchanged": [one]}
    assert told(a) == told(a, c) == {"new": [three], "updated": [one], "unchanged": [two]}
    assert told(c, c) == {"unchanged": [one, two, three]}
    partial = scanned(store, run={"files": ["other.py"]})
    saw(store, partial, [incoming(["eval()"], 1, path="other.py")])
    assert told(c, partial)["not_checked"] == [one, two, three]
    with pytest.raises(InvalidArgument, match="of one target"):
        store.findings.diff(a, scanned(store, target="u"))
    with pytest.raises(NotFound):
        store.findings.diff(99)
    assert store.check() == []


def test_equal_findings_are_as_many_as_they_are(store: Store) -> None:
    lines = ["eval(x)"] * 5
    evals(store, lines)
    assert evals(store, lines)[1:] == (SightingCounts(unchanged=5), Closed(0, 0))
    assert evals(store, lines[:3])[1:] == (SightingCounts(unchanged=3), Closed(2, 0))
    assert evals(store, lines)[1:] == (SightingCounts(unchanged=3, reopened=2), Closed(0, 0))
    assert evals(store, lines + lines)[1:] == (SightingCounts(unchanged=5, new=5), Closed(0, 0))
    assert store.check() == []


def test_what_people_decided_stays(store: Store) -> None:
    evals(store, TEXT)
    one, two = Finding.select().order_by(Finding.id)
    store.findings.triage(one, "false_positive", by="ann")
    store.findings.triage(two, "confirmed", by="ann")
    evals(store, TEXT, severity="low")
    assert [store.findings.get(f).status for f in (one, two)] == ["false_positive", "confirmed"]
    evals(store, ["gone"])
    assert [store.findings.get(f).status for f in (one, two)] == ["false_positive", "fixed"]
    evals(store, TEXT)
    assert [store.findings.get(f).status for f in (one, two)] == ["false_positive", "open"]
    store.findings.triage(two, "fixed", by="ann")  # and it is not
    assert evals(store, TEXT)[1] == SightingCounts(unchanged=1, reopened=1)
    assert store.findings.get(two).status == "open"
    assert store.check() == []


def test_two_tools_in_one_target_do_not_meet(store: Store) -> None:
    evals(store, TEXT)
    other = scanned(store, tool="other")
    found = [incoming(TEXT, n, tool="other") for n in (2, 4)]
    assert saw(store, other, found, tool="other") == (SightingCounts(new=2), Closed(0, 0))
    with store.database.atomic():
        assert tracking.close(store.database, other.id, tool=TOOL) == Closed(0, 2)
    assert [f.tool for f in Finding.select()] == [TOOL, TOOL, "other", "other"]
    assert len(store.findings.list(tool="other")) == 2
    assert saw(store, scanned(store, tool="other"), [], tool="other") == (SightingCounts(), Closed(2, 0))
    assert [f.status for f in Finding.select()] == ["open", "open", "fixed", "fixed"]
    assert store.check() == []


def test_targets_do_not_meet(store: Store) -> None:
    for target in ("t", "u"):
        assert saw(store, scanned(store, target=target), [incoming(TEXT, 2)]) == (SightingCounts(new=1), Closed(0, 0))
    assert saw(store, scanned(store, target="u"), []) == (SightingCounts(), Closed(1, 0))
    assert [f.status for f in Finding.select().order_by(Finding.id)] == ["open", "fixed"]
    assert store.check() == []


# -- edits -------------------------------------------------------------------------------------------------------------

LINES = ("x = 1", "eval(x)", "eval(y)", "", "return x")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, list[tuple[int, str]]]]:
    """Versions of a file, its lines with an identity of their own that the store never sees."""
    ids = count(1)
    lines = [(next(ids), text) for text in draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=12))]
    path, versions = "a.py", []
    for _ in range(draw(st.integers(1, 4))):
        versions.append((path, lines))
        lines = list(lines)
        at = draw(st.integers(0, len(lines)))
        edit = draw(st.sampled_from(["insert", "delete", "rename", "duplicate", "nothing"]))
        if edit == "insert":
            lines[at:at] = [(next(ids), text) for text in draw(st.lists(st.sampled_from(LINES), max_size=4))]
        elif edit == "delete":
            del lines[at : at + 2]
        elif edit == "duplicate" and lines:
            lines.insert(at, (next(ids), lines[min(at, len(lines) - 1)][1]))
        elif edit == "rename":
            path = f"m{len(versions)}.py"
    return versions


@pytest.mark.no_cover
@settings(
    max_examples=int(os.environ.get("SCANSTORE_EXAMPLES", "20")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(versions=histories(), unique=st.booleans())
def test_edits_never_turn_an_untouched_finding_into_a_new_and_a_fixed_one(
    versions: list[tuple[str, list[tuple[int, str]]]], unique: bool
) -> None:
    with Store(":memory:") as store:
        known: dict[int, int] = {}
        before: set[int] = set()
        for path, lines in versions:
            texts = [f"{text} # {uid}" if unique and text else text for uid, text in lines]
            found = [(uid, incoming(texts, n, path=path)) for n, (uid, text) in enumerate(lines, 1) if "eval" in text]
            scan = scanned(store)
            counts, closed = saw(store, scan, [one for _, one in found])
            there = {uid for uid, _ in found}
            places = {f.line_number: f.id for f in store.findings.list(scan)}
            assert len(places) == len(there) == sum(counts)
            if unique:
                now = {uid: places[one.line_number] for uid, one in found}
                assert {uid: now[uid] for uid in there & known.keys()} == {
                    uid: known[uid] for uid in there & known.keys()
                }
                known |= now
                assert (counts.new, closed.fixed) == (len(there - before), len(before - there))
            else:  # as many as there are more or fewer of each text
                assert counts.new + counts.reopened - closed.fixed == len(there) - len(before)
                if not before - there:
                    assert closed.fixed == 0
                if not there - before:
                    assert counts.new == counts.reopened == 0
            before = there
        assert store.check() == []


# -- fixed only where it was looked for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "fixed"),
    [
        ({}, True),
        ({"successful": False}, False),
        ({"rules": [{"id": "R1", "enabled": False}]}, False),
        ({"rules": [{"id": "R1"}]}, True),
        ({"rules": [{"id": "R2"}]}, True),
        ({"rules": [{"id": "R2"}], "complete": True}, False),
        ({"rules": [{"id": "R1"}, {"id": "R2"}], "complete": True}, True),
        ({"files": ["b.py"]}, False),
        ({"files": ["a.py", "b.py"]}, True),
        ({"failed_files": ["a.py"]}, False),
        ({"failed_files": ["b.py"]}, True),
        ({"scope": ["src/"]}, False),
        ({"scope": ["*.py"]}, True),
    ],
)
def test_a_report_fixes_only_what_it_looked_at(store: Store, run: dict[str, Any], fixed: bool) -> None:
    evals(store, TEXT)
    scan = scanned(store, run=run)
    closed = saw(store, scan, [])[1]
    assert closed == (Closed(2, 0) if fixed else Closed(0, 2))
    assert {f.status for f in Finding.select()} == {"fixed" if fixed else "open"}
    assert len(store.findings.list(scan, state="fixed")) == (2 if fixed else 0)
    assert saw(store, scanned(store), [])[1] == (Closed(0, 0) if fixed else Closed(2, 0))
    assert store.check() == []


def test_one_failed_run_of_several_fixes_nothing_and_any_that_looked_is_enough(store: Store) -> None:
    evals(store, TEXT)
    scan = scanned(store, run={"files": ["b.py"]})
    ran(scan, files=["a.py"])
    assert saw(store, scan, [])[1] == Closed(2, 0)
    ran(scan, successful=False)
    assert saw(store, scan, [])[1] == Closed(0, 2)  # and what was said before is taken back
    assert {f.status for f in Finding.select()} == {"open"} and Sighting.select().where(
        Sighting.scan == scan
    ).count() == 0
    assert store.check() == []


def test_closing_again_changes_nothing_and_one_that_turns_up_later_was_never_fixed(store: Store) -> None:
    evals(store, TEXT)
    one, two = Finding.select().order_by(Finding.id)
    store.findings.triage(two, "confirmed", by="ann")
    scan = scanned(store)
    assert saw(store, scan, [incoming(TEXT, 2)]) == (SightingCounts(unchanged=1), Closed(1, 0))
    events = FindingEvent.select().count()
    assert saw(store, scan, [])[1] == Closed(1, 0)
    assert FindingEvent.select().count() == events and store.findings.get(two).status == "fixed"
    assert saw(store, scan, [incoming(TEXT, 4)]) == (SightingCounts(unchanged=1), Closed(0, 0))
    assert states(store, two) == ["new", "unchanged"] and store.findings.get(two).status == "confirmed"
    assert store.check() == []


def test_a_snapshot_fixes_what_is_in_files_it_read_or_that_are_gone(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    names = ("read.py", "gone.py", "large.py", "left_out.py", "ignored.py")
    for name in names:
        (root / name).write_text("eval(x)\n")
    first = store.scans.record(root, jobs=1)
    found = [incoming(["eval(x)"], 1, path=name) for name in names]
    saw(store, first, found)
    (root / "gone.py").unlink()
    (root / "left_out.py").unlink()  # who knows
    (root / "large.py").write_text("#" * 1000)
    (root / ".gitignore").write_text("ignored.py\n")
    second = store.scans.record(root, jobs=1, exclude=["left*"], max_size=500)
    assert saw(store, second, [])[1] == Closed(0, 5)  # the tool did not run
    ran(second)
    assert saw(store, second, [])[1] == Closed(2, 3)
    assert {f.file_path for f in store.findings.list(second, state="fixed")} == {"read.py", "gone.py"}
    assert store.check() == []


def test_an_earlier_scan_may_be_loaded_late(store: Store) -> None:
    first, second = scanned(store), scanned(store)
    saw(store, second, [incoming(TEXT, 2)])
    assert saw(store, first, [incoming(TEXT, 2, severity="low")])[0] == SightingCounts(new=1)
    (finding,) = Finding.select()
    assert states(store, finding) == ["new", "unchanged"]
    assert (finding.first_scan_id, finding.scan_id, finding.severity) == (first.id, second.id, "high")
    assert [f.severity for f in store.findings.list(first)] == ["low"]
    assert store.check() == []


# -- removing scans ----------------------------------------------------------------------------------------------------

SEEN = st.dictionaries(st.sampled_from(["R1", "R2", "R3"]), st.sampled_from(["high", "low"]))


def told(store: Store, scans: Sequence[Scan]) -> list[Any]:
    """Of each rule what the scans said of it, and how it is now."""
    order = {scan.id: n for n, scan in enumerate(scans)}
    said = []
    for finding in Finding.select().order_by(Finding.rule_id):
        rows = [
            (order[scan.id], row.state, row.severity, row.line_number)
            for scan in scans
            for row in listing.as_seen(store.database, scan.id, [finding.id])
        ]
        said.append((finding.rule_id, rows, finding.severity, finding.status, order.get(finding.scan_id)))
    return said


@settings(
    max_examples=int(os.environ.get("SCANSTORE_EXAMPLES", "12")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(history=st.lists(SEEN, min_size=1, max_size=6), data=st.data())
def test_removing_scans_leaves_what_the_others_say(history: list[dict[str, str]], data: st.DataObject) -> None:
    gone = data.draw(st.permutations(data.draw(st.lists(st.integers(0, len(history) - 1), unique=True))))

    def fill(store: Store, which: Sequence[int]) -> list[Scan]:
        scans = []
        for n in which:
            scans.append(scanned(store))
            lines = ["pad"] * n + ["eval(1)", "eval(2)", "eval(3)"]
            what = [incoming(lines, n + int(r[1]), rule=r, severity=word) for r, word in history[n].items()]
            saw(store, scans[-1], what)
        return scans

    left = [n for n in range(len(history)) if n not in gone]
    with Store(":memory:") as store:
        scans = fill(store, range(len(history)))
        for n in gone:
            assert store.scans.remove(scans[n]).get("sightings", 0) >= len(history[n])
            assert store.check() == []
        outcome = told(store, [scans[n] for n in left])
        used = {row.content_id for row in Sighting.select()} - {None}
        assert {row.id for row in FindingContent.select()} == used
    with Store(":memory:") as store:
        assert outcome == told(store, fill(store, left))


def test_removing_what_saw_a_finding_keeps_what_somebody_decided(store: Store) -> None:
    scan, *_ = evals(store, TEXT)
    one, two = Finding.select().order_by(Finding.id)
    store.findings.triage(one, "ignored", by="ann", reason="never mind")
    store.scans.add("t")
    store.scans.remove(scan)
    assert [f.id for f in Finding.select()] == [one.id]
    kept = store.findings.get(one)
    assert (kept.status, kept.scan_id, kept.first_scan_id) == ("ignored", None, None)
    again, counts, _ = evals(store, TEXT)
    assert store.findings.get(one).scan_id == again.id and store.findings.get(one).status == "ignored"
    assert counts == SightingCounts(new=2)
    assert store.check() == []


# -- the pipeline ------------------------------------------------------------------------------------------------------

SOURCE = """import os


def login(name):
    return sql("select " + name)


def show(page):
    return "<b>" + page
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text(SOURCE)
    (tmp_path / "tree" / "b.py").write_text("def other():\n    return 1\n")
    return tmp_path / "tree"


def analysed(store: Store, root: Path, *, decision: str = "verified", fail: str = "", **config: Any) -> Scan:
    """A scan whose model reports what stands in the source."""
    if not store.llm.list():
        store.llm.add("m")
    scan = store.scans.analyze(store.scans.record(root, jobs=1), **config)
    work(store, scan, decision=decision, fail=fail)
    return store.scans.get(scan)


def work(store: Store, scan: Scan, *, decision: str = "verified", fail: str = "") -> None:
    for chunk in store.chunks.work(scan, wait=False):
        drafts = [
            {
                "title": f"{kind} {scan.id}", "vulnerability_type": kind, "severity": "high", "line_number": line,
                "snippet": text, "file_path": chunk.file_path,
            }
            for line, text in enumerate(store.chunks.text(chunk).splitlines(), chunk.start_line)
            for kind, sign in (("sqli", "sql("), ("xss", "<b>"))
            if sign in text
        ]  # fmt: skip
        if fail and chunk.file_path == fail:
            store.chunks.fail(chunk, "no answer", retry=False)
        else:
            store.chunks.complete(chunk, drafts=drafts)
    for draft in store.drafts.work(scan, wait=False):
        store.drafts.record_votes(draft, [{"model": "m", "decision": decision}])
    for verified in store.verified.work(scan, wait=False):
        store.findings.publish(verified)


def kinds(store: Store, scan: Scan, **only: Any) -> dict[str, str | None]:
    return {f.vulnerability_type: f.state for f in store.findings.list(scan, **only)}


def test_the_pipeline_recognises_its_findings_in_the_next_scan(store: Store, root: Path) -> None:
    first = analysed(store, root)
    assert kinds(store, first) == {"sqli": "new", "xss": "new"}
    sqli, xss = Finding.select().order_by(Finding.vulnerability_type)
    assert sqli.symbol == "a.login" and sqli.line_hash is not None and sqli.context_hash is not None
    store.findings.triage(sqli, "confirmed", by="ann")
    (root / "a.py").write_text("# Two\n# more lines\n" + SOURCE.replace('sql("select', 'sql("SELECT'))
    second = analysed(store, root)
    assert Finding.select().count() == 2
    assert kinds(store, second) == {"sqli": "updated", "xss": "updated"}  # with other titles
    now = store.findings.get(sqli)
    assert (now.status, now.line_number, now.scan_id, now.first_scan_id) == ("confirmed", 7, second.id, first.id)
    assert [f.line_number for f in store.findings.list(first)] == [5, 9]
    (root / "c.py").write_text((root / "a.py").read_text())  # a copy is another place
    (root / "a.py").write_text((root / "a.py").read_text().replace("<b>", ""))
    third = analysed(store, root)
    assert kinds(store, third, file="c.py") == {"sqli": "new", "xss": "new"}
    assert kinds(store, third, file="a.py") == {"sqli": "updated"}
    assert kinds(store, third, state="fixed") == {"xss": "fixed"} and store.findings.get(xss).status == "fixed"
    assert store.check() == []


def test_a_new_one_does_not_take_the_place_of_another_that_comes_after_it(store: Store, root: Path) -> None:
    lines = ["def f(x):", "    sql(x + 1)", "    sql(x + 2)", ""]
    (root / "a.py").write_text("\n".join(lines))
    analysed(store, root)
    before = {f.snippet: f.id for f in Finding.select()}
    lines.insert(1, "    sql(x + 3)")
    (root / "a.py").write_text("\n".join(lines))
    scan = analysed(store, root)
    after = {f.snippet: f.id for f in store.findings.list(scan)}
    assert len(before) == 2 and len(after) == 3 and before.items() <= after.items()
    assert store.check() == []


def test_a_renamed_file_keeps_its_findings(store: Store, root: Path) -> None:
    analysed(store, root)
    (root / "a.py").rename(root / "z.py")
    assert set(kinds(store, analysed(store, root)).values()) == {"updated"}
    assert {f.file_path for f in Finding.select()} == {"z.py"}
    assert store.check() == []


@pytest.mark.parametrize("config", [{"scope": "changed"}, {"fail": "a.py"}])
def test_an_analysis_that_did_not_look_fixes_nothing(store: Store, root: Path, config: dict[str, Any]) -> None:
    first = analysed(store, root)
    if "fail" in config:
        (root / "a.py").write_text("x = 1\n")
    second = analysed(store, root, **config)
    assert second.status == "completed"
    assert store.findings.list(second) == store.findings.list(second, state="fixed") == []
    assert {f.status for f in Finding.select()} == {"open"}
    assert len(store.findings.diff(first, second).not_checked) == (0 if second.id == first.id else 2)
    assert store.check() == []


def test_running_again_ends_as_if_it_had_run_once(store: Store, root: Path) -> None:
    analysed(store, root)
    again = analysed(store, root, decision="rejected")
    assert {f.status for f in Finding.select()} == {"fixed"}
    assert set(kinds(store, again, state="fixed").values()) == {"fixed"}
    store.scans.rerun(again, to="verify")
    work(store, again)
    assert kinds(store, again) == {"sqli": "updated", "xss": "updated"} and Finding.select().count() == 2
    assert store.findings.list(again, state="fixed") == []
    assert {f.status for f in Finding.select()} == {"open"}
    before = [row.to_dict() for row in Sighting.select()]
    store.scans.rerun(again, to="enrich")
    work(store, again)
    assert [row.to_dict() for row in Sighting.select()] == before
    assert store.check() == []


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        tracking.CANDIDATES, tracking.STANDING, tracking.UNSEEN, tracking.NEXT, tracking.CHANGED_HERE, tracking.GONE,
        tracking.POINT, tracking.REPEATED, tracking.SIGHT_NEW, tracking.SAME, tracking.SIGHT_SAME, coverage.FILES,
        coverage.RUNS, coverage.DETAILS, listing.LISTED, listing.SIGHTED, listing.STOOD, removal.SIDES,
        removal.BEFORE, removal.STATES, removal.UNUSED, removal.STATUSES, removal.LAST, publishing.AROUND,
        publishing.SIBLINGS, f"DELETE FROM findings WHERE {removal.UNSEEN}",
    ],
)  # fmt: skip
def test_what_is_asked_of_large_tables_is_answered_by_indexes(store: Store, sql: str) -> None:
    named = dict.fromkeys(
        ("scan", "lineage", "tool", "rule", "ids", "paths", "state", "file", "status", "severity", "limit", "a", "b"), 1
    )
    values: Any = named if ":" in sql else tuple([1] * (sql.count("?") if "?1" not in sql else 3 if "?3" in sql else 2))
    if "?1" in sql and "?2" not in sql:
        values = (1,)
    plan = [row[3] for row in store.database.execute_sql("EXPLAIN QUERY PLAN " + sql, values).fetchall()]
    assert not [
        step for step in plan if step.startswith("SCAN") and "json_each" not in step and " i " not in step + " "
    ]


@pytest.mark.no_cover
def test_many_against_many(store: Store) -> None:
    lines = [f"eval({n % 7})" for n in range(3000)]
    first, *_ = evals(store, lines)
    second, counts, _ = evals(store, ["", *lines])
    assert counts == SightingCounts(unchanged=3000)
    ids = [[f.id for f in store.findings.list(scan)] for scan in (first, second)]
    assert ids[0] == ids[1] and len(set(ids[0])) == 3000
