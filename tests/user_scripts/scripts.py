"""A script: plans, files of a scan, seeding and checking, with a type for each result."""

from __future__ import annotations

from pathlib import Path

import scanstore
from scanstore import Store, check_db_health, seed_db
from scanstore.db.words import Severity
from scanstore.models import ScanFile
from scanstore.plans import Proposal


def label(severity: Severity) -> str:
    return severity.upper()


def main() -> None:
    seeded = seed_db("scan.db")
    health = check_db_health("scan.db")
    print(seeded, health)
    Path("shop").mkdir(exist_ok=True)
    Path("shop/prices.py").write_text("def discount(price):\n    return price\n")
    with Store("scan.db") as store:
        scan = store.scans.record("shop")
        file: ScanFile
        for file in scan.files:
            print(file.file_path, file.status)
        paths: list[str] = [file.file_path for file in scan.files.where(ScanFile.status == "done")]
        print(paths, scan.files.count())
        store.library.upsert_scenes([{"id": "1", "title": "A"}])
        plan = store.plans.add("titles")
        store.plans.propose_many(plan, [Proposal("1", "title", "set", "B")])
        for change in store.plans.changes(plan):
            print(change.field, change.action, change.proposed_value)
        for finding in store.findings.list(severity="high"):
            print(label("high"), finding.severity, finding.title)
    with scanstore.open("scan.db", read_only=True) as again:
        print(again.stats(), scanstore.__version__)


if __name__ == "__main__":
    main()
