"""Verified findings and findings: enriched, published once, and what publishing again changes."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stressing import Program

from scanstore.db.rules import change_rows, save_row
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import utcnow
from scanstore.errors import IllegalMove, InvalidArgument, LeaseLost, NotFound
from scanstore.findings.cvss import rated
from scanstore.models import Finding, Scan, VerifiedFinding
from scanstore.store import Store

V2 = "AV:N/AC:L/Au:N/C:N/I:N/A:C"
V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


@pytest.fixture
def scan(store: Store, tmp_path: Path) -> Scan:
    """A scan of which only the enriching is left to do."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.py").write_text("x = 1\n")
    store.llm.add("m1")
    scan = store.scans.analyze(store.scans.record(root, jobs=1))
    for chunk in store.chunks.claim(scan, limit=10):
        store.chunks.complete(chunk)
    return scan


def verify(store: Store, scan: Scan, line: int = 7, **keys: Any) -> int:
    """The id of a new verified finding."""
    draft = {
        "title": "SQL injection", "vulnerability_type": "sqli", "severity": "high", "file_path": "a.py",
        "line_number": line, "end_line": line + 1, "snippet": "x = 1", "cwe": "CWE-89", **keys,
    }  # fmt: skip
    row = store.drafts.add(scan, [draft], window=0)[0]
    vote = {"model": "m1", "decision": "verified", "confidence": 77, "severity": keys.get("severity", "critical")}
    key = store.drafts.record_votes(row, [vote]).verified_id
    assert key is not None
    return key


def test_a_finding_is_published_with_what_its_draft_knows(store: Store, scan: Scan) -> None:
    verify(store, scan)
    (claimed,) = store.verified.claim(scan, worker="w1")
    finding = store.findings.publish(
        claimed, vulnerability_details="d", proof_of_concept="p", remediation_steps="r",
        references=["https://a", "https://b"], cvss_vector=V3,
    )  # fmt: skip
    assert (finding.scan_id, finding.verified_id) == (scan.id, claimed.id)
    assert (finding.title, finding.vulnerability_type, finding.severity) == ("SQL injection", "sqli", "critical")
    assert (finding.file_path, finding.line_number, finding.end_line, finding.snippet) == ("a.py", 7, 8, "x = 1")
    assert (finding.cwe, finding.confidence, finding.status) == ("CWE-89", 77, "open")
    assert (finding.vulnerability_details, finding.proof_of_concept, finding.remediation_steps) == ("d", "p", "r")
    assert (finding.references, finding.cvss_score, finding.cvss_vector) == ("https://a\nhttps://b", 9.8, V3)
    assert store.verified.get(claimed).status == "complete"
    assert [f.id for f in scan.findings] == [finding.id] == [f.id for f in claimed.findings]
    assert (store.scans.get(scan).status, store.scans.get(scan).phase) == ("completed", "completed")
    assert store.check() == []


def test_publishing_again_is_the_same_finding_and_keeps_its_status(store: Store, scan: Scan) -> None:
    verify(store, scan)
    (claimed,) = store.verified.claim(scan, worker="w1")
    first = store.findings.publish(claimed, severity="Low", title=" T ", cwe=79, references="one")
    assert (first.severity, first.title, first.cwe, first.references) == ("low", "T", "CWE-79", "one")
    first.status = "ignored"
    save_row(first)
    second = store.findings.publish(claimed, remediation_steps="now")
    assert (second.id, second.status, second.remediation_steps) == (first.id, "ignored", "now")
    assert (second.severity, second.title, second.cwe, second.references) == ("critical", "SQL injection", "CWE-89", "")
    third = store.findings.publish(claimed.id)
    assert (third.id, third.status) == (first.id, "ignored")
    with pytest.raises(LeaseLost):
        store.findings.publish(claimed, worker="w2", remediation_steps="not mine")
    assert store.findings.get(first).remediation_steps == ""
    assert Finding.select().count() == 1
    assert store.check() == []


def test_who_may_publish(store: Store, scan: Scan) -> None:
    waiting = verify(store, scan)
    assert store.findings.publish(waiting).severity == "critical"  # unclaimed
    verify(store, scan, line=90)
    (claimed,) = store.verified.claim(scan, worker="w1")
    for late in ({"worker": "w2"}, {}):
        with pytest.raises(LeaseLost, match="leased to w1"):
            store.findings.publish(claimed.id, **late)
    past = utcnow() - timedelta(hours=1)
    change_rows(VerifiedFinding, lease_until=past, updated_at=past).where(VerifiedFinding.id == claimed.id).execute()
    (now,) = store.verified.claim(scan, worker="w1")
    assert now.id == claimed.id
    with pytest.raises(LeaseLost, match="later claim"):
        store.findings.publish(claimed)
    assert Finding.select().count() == 1
    store.verified.fail(now, "broken", retry=False)
    with pytest.raises(LeaseLost):
        store.findings.publish(now)
    with pytest.raises(IllegalMove, match=r"is failed and cannot become complete; .*store.verified.retry\(row\)"):
        store.findings.publish(now.id)
    assert Finding.select().count() == 1
    store.verified.retry(now)
    assert store.findings.publish(now.id).verified_id == now.id
    assert store.check() == []


@pytest.mark.parametrize(
    "options",
    [
        {"cvss_score": 11}, {"cvss_score": -0.1}, {"cvss_score": float("nan")}, {"cvss_score": True},
        {"cvss_score": "9.8"}, {"cvss_score": 5.0, "cvss_vector": V3}, {"cvss_vector": "CVSS:3.1/AV:N"},
        {"cvss_vector": "nonsense"}, {"cvss_vector": 7}, {"severity": "urgent"}, {"severity": 3}, {"title": " "},
        {"cwe": "XSS"}, {"vulnerability_details": 7}, {"proof_of_concept": b"x"}, {"remediation_steps": ["x"]},
        {"references": 7}, {"references": [7]}, {"references": [""]}, {"references": b"x"}, {"worker": ""},
    ],
)  # fmt: skip
def test_bad_values_are_refused_and_nothing_is_written(store: Store, scan: Scan, options: dict[str, Any]) -> None:
    key = verify(store, scan)
    with pytest.raises(InvalidArgument) as error:
        store.findings.publish(key, **options)
    assert next(iter(options)) in str(error.value) or "cvss" in str(error.value)
    assert Finding.select().count() == 0 and store.verified.get(key).status == "pending"


def test_odd_text_and_a_large_one_are_kept(store: Store, scan: Scan) -> None:
    large = "x" * 20_000_000
    finding = store.findings.publish(verify(store, scan), vulnerability_details=large, proof_of_concept="a\0\ud800")
    assert finding.vulnerability_details == large and finding.proof_of_concept == "a\ufffd\ufffd"
    assert store.check() == []


def test_unknown_things(store: Store, scan: Scan) -> None:
    with pytest.raises(NotFound, match="no finding"):
        store.findings.get(99)
    with pytest.raises(NotFound, match="no verified finding"):
        store.verified.get(99)
    with pytest.raises(NotFound, match="no verified finding"):
        store.findings.publish(99)
    for wrong in (True, None, "1", 1.0, 0, -1, 2**63, 2**80):
        for get in (store.findings.get, store.verified.get, store.findings.publish):
            with pytest.raises(InvalidArgument):
                get(wrong)  # type: ignore[operator]
    with pytest.raises(NotFound):
        store.findings.list(99)
    for options in ({"status": "nope"}, {"severity": "urgent"}, {"limit": -1}, {"limit": True}):
        with pytest.raises(InvalidArgument):
            store.findings.list(scan, **options)
    with pytest.raises(InvalidArgument):
        store.verified.list(scan, status="done")


def test_listing(store: Store, scan: Scan) -> None:
    keys = {}
    for n, severity in enumerate(("low", "critical", "info", "critical", "high")):
        keys[severity] = verify(store, scan, line=n * 10 + 1, severity=severity, file_path=f"{9 - n}.py")
    assert [v.adjusted_severity for v in store.verified.list(scan)] == ["critical", "critical", "high", "low", "info"]
    for row in store.verified.list(scan):
        store.findings.publish(row)
    found = store.findings.list()
    assert [f.severity for f in found] == ["critical", "critical", "high", "low", "info"]
    assert [f.file_path for f in found] == ["6.py", "8.py", "5.py", "9.py", "7.py"]
    assert [f.severity for f in store.findings.list(scan, severity="HIGH")] == ["high"]
    assert [f.severity for f in store.findings.list(scan, file="9.py", status="open")] == ["low"]
    assert [f.severity for f in store.findings.list(scan, limit=1)] == ["critical"]
    assert store.findings.list(scan, status="fixed") == []
    store.findings.publish(verify(store, scan, line=91, file_path="0.py"), cwe=79)
    for of in ({"scan": scan}, {"target": scan.target}):
        for cwe in (79, "79", "cwe-79"):
            assert [f.file_path for f in store.findings.list(**of, cwe=cwe, limit=1)] == ["0.py"]
        everything = store.findings.list(**of)
        rule = everything[-1].rule_id
        assert store.findings.list(**of, rule=rule) == [f for f in everything if f.rule_id == rule]
        assert store.findings.list(**of, rule="none") == store.findings.list(**of, rule=rule, cwe=1) == []
    with pytest.raises(InvalidArgument, match="cwe is 'x'; write it like CWE-79"):
        store.findings.list(scan, cwe="x")
    assert [v.status for v in store.verified.list(scan, status="complete", limit=2)] == ["complete"] * 2
    assert sorted(keys) == sorted(SEVERITIES[n] for n in (0, 1, 3, 4))
    assert store.check() == []


def test_a_draft_takes_its_verified_finding_along_and_leaves_the_finding(store: Store, scan: Scan) -> None:
    finding = store.findings.publish(verify(store, scan))
    store.database.execute_sql("DELETE FROM draft_findings")
    assert VerifiedFinding.select().count() == 0
    kept = store.findings.get(finding)
    assert kept.verified_id is None and kept.title == "SQL injection"
    assert store.check() == []


PUBLISHER = """
import sys
from scanstore import Store
with Store(sys.argv[1]) as store:
    for key in map(int, sys.argv[2].split(",")):
        print(store.findings.publish(key, remediation_steps=sys.argv[3]).id)
"""


def test_processes_that_publish_the_same_make_one_finding(store: Store, scan: Scan) -> None:
    keys = ",".join(str(verify(store, scan, line=n * 10 + 1)) for n in range(30))
    root = Path(__file__).parents[2]
    publishers = [Program(PUBLISHER, store.path, keys, name, stdout=subprocess.PIPE, cwd=root) for name in "ab"]
    told = [publisher.communicate(timeout=60)[0].split() for publisher in publishers]
    assert told[0] == told[1] and len(set(told[0])) == 30
    assert Finding.select().count() == 30
    assert store.check() == []


# -- CVSS ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "vector", "kept"),
    [
        (None, None, (None, None)),
        (None, "", (None, None)),
        (0, None, (0.0, None)),
        (10, None, (10.0, None)),
        (None, V2, (7.8, V2)),
        (None, f"({V2})", (7.8, V2)),
        (None, V3, (9.8, V3)),
        (9.8, f" {V3} ", (9.8, V3)),
        (None, V4, (9.3, V4)),
        (9.3, V3 + "/E:P", (9.3, V3 + "/E:P")),  # with what is known of exploits
        (None, V3 + "/E:P", (9.8, V3 + "/E:P")),
        (None, "CVSS:3.1/C:H/I:H/A:H/AV:N/AC:L/PR:N/UI:N/S:U", (9.8, V3)),
    ],
)
def test_scores_and_vectors(score: Any, vector: Any, kept: tuple[Any, Any]) -> None:
    assert rated(score, vector) == kept


def test_without_the_library_a_vector_is_refused_and_a_score_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvss", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'scanstore\[cvss\]'"):
        rated(None, V3)
    assert rated(9.8, None) == (9.8, None)
