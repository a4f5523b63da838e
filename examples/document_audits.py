"""Audit documents: a machine checks rules, a policy gives the verdict, a person decides doubtful cases, a trail stays.

    python examples/document_audits.py [STORE]

STORE defaults to audits.db; the folder `sample_reports` is created beside it. Stop the script at any moment, even with
kill -9, and run it again: it continues with the audits that are left. The trail then also shows the lost attempt.

Replace `extract` and `check` by your extraction and your rules, and `decide` by your reviewers.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from scanstore import Store
from scanstore.audits.policies import Deductions
from scanstore.models import Task

REPORTS = {
    "hall.txt": "test: grounding\ncalibrated: 2026-05-01\nP1 0.3\nP2 0.4\n",
    "kitchen.txt": "test: grounding\ncalibrated: 2026-05-01\nP1 0.4\nP2 5.2\n",
    "garage.txt": "test: grounding\nP1 0.2\n",
    "roof.txt": "test: grounding\ncalibrated: 2026-05-01\nP1 48.0\n",
    "cellar.txt": "test: grounding\ncalibrated: 2026-05-01\nP1 0.?\nP2 0.3\n",
}
POLICY = Deductions(major=15)  # its name, deductions(major=15), is stored with each verdict


def extract(text: str) -> tuple[dict[str, str], dict[str, float], float]:
    """Stand in for a model that reads a document. Return its fields, its measurements in ohm, and a confidence."""
    time.sleep(0.05)
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    points = dict(line.split(" ", 1) for line in text.splitlines() if ": " not in line)
    ohms = {point: float(value) for point, value in points.items() if "?" not in value}
    return fields, ohms, 0.9 if len(ohms) == len(points) else 0.5


def check(fields: dict[str, str], ohms: dict[str, float]) -> list[dict[str, object]]:
    """Return the findings of a document, each with its evidence."""
    found: list[dict[str, object]] = []
    for point, ohm in ohms.items():
        if ohm > 1:
            severity = "critical" if ohm > 10 else "major"
            about = {"rule_id": "GND-01", "message": f"{ohm} ohm at {point}", "evidence": {"point": point, "ohm": ohm}}
            found.append({"severity": severity, **about, "remediation": "Tighten and measure again."})
    if "calibrated" not in fields:
        found.append({"severity": "minor", "rule_id": "CAL-02", "message": "no date of calibration"})
    return found


def queue(store: Store, folder: Path) -> None:
    """Queue each document once."""
    ann = store.accounts.find("ann@example.org") or store.accounts.add("ann@example.org", role="engineer")
    known = {audit.original_filename for audit in store.audits.list(user=ann)}
    for file in sorted(folder.glob("*.txt")):
        if file.name not in known:
            store.audits.add(ann, file.name, file.stat().st_size, file_path=f"{folder.name}/{file.name}")
            print("queued", file.name, flush=True)


def audit(store: Store, base: Path) -> None:
    """Audit the queued documents; run it in as many processes as you like."""
    for task in store.audits.work(worker="checker"):
        fields, ohms, confidence = extract((base / str(task.file_path)).read_text(encoding="utf-8"))
        store.audits.complete(
            task,
            analysis={
                "equipment_type": "panel",
                "test_type": fields["test"],
                "confidence_score": confidence,
                "extraction_result": {"fields": fields, "ohms": ohms},
            },
            findings=check(fields, ohms),
            policy=POLICY,
        )
        print("audited", task.original_filename, store.audits.analysis(task).verdict, flush=True)


def decide(store: Store) -> None:
    """Decide the audits that the policy left open, as a person would."""
    for task in store.audits.list(verdict="review"):
        if any(finding.rule_id == "GND-01" for finding in store.audits.findings(task)):
            store.audits.review(task, "rejected", by="ben", reason="the resistance is too high")
        else:
            store.audits.review(task, "approved", by="ben", reason="read the paper original")
        print("reviewed", task.original_filename, flush=True)


def show(store: Store, task: Task) -> None:
    result = store.audits.analysis(task)
    by = f"by {result.reviewed_by}: {result.review_reason}" if result.reviewed_by else f"by {result.policy}"
    print(f"{task.original_filename}: {result.verdict} {by} (score {result.compliance_score:g})")
    for finding in store.audits.findings(task):
        print(f"  {finding.severity} {finding.rule_id}: {finding.message}")


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "audits.db")
    folder = path.with_name("sample_reports")
    if not path.exists():  # the first run
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in REPORTS.items():
            (folder / name).write_text(text, encoding="utf-8")

    with Store(path) as store:
        queue(store, folder)
        audit(store, folder.parent)
        decide(store)
        audits = sorted(store.audits.list(), key=lambda task: str(task.original_filename))
        print("trail of", audits[0].original_filename, [event.action for event in store.audits.trail(audits[0]).items])
        for task in audits:
            show(store, task)
        stats = store.audits.stats()
        print("audits", stats.tasks["completed"], "verdicts", stats.verdicts, "reviewed", stats.reviewed)


if __name__ == "__main__":
    main()
