"""What completing an audit costs, against SQL written by hand.

    python benchmarks/audits.py                   300 audits with 200 findings each
    python benchmarks/audits.py --quick           a tenth of them
    python benchmarks/audits.py --audits N
    python benchmarks/audits.py --json            one JSON object

Each audit was claimed, and is completed in one transaction: its findings with evidence are checked, judged and written,
with the analysis, the end of the work and the event. By hand is one transaction for each audit as well: an
`executemany` of the very rows of findings that were written, and an `execute` for each of the other three, on a bare
connection to a file of the same schema and with the same pragmas. The rows are read before the clock starts. CPU of the
process counts, the parts taking turns.

Everything runs in processes of its own (see `_common.py`). Exits with 1 when a bar is missed.
What may be changed here: the parts, the bars, the sizes.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import Bench, Clock, median, part, serve, show  # noqa: E402

FINDINGS = 200
ROUNDS = 5
ANALYSIS = {
    "equipment_type": "panel",
    "test_type": "grounding",
    "equipment_tag": "PNL-01",
    "confidence_score": 0.93,
    "extraction_result": {"points": [{"id": n, "ohm": n / 10} for n in range(20)]},
    "validation_result": {"rules": ["GND-01", "CAL-02"]},
}


def listing(number: int) -> list[dict[str, Any]]:
    """The findings of one audit."""
    chosen = random.Random(number)
    return [
        {
            "severity": chosen.choice(("major", "minor", "info")),
            "rule_id": f"GND-{n % 40:02}",
            "message": f"Point {n} has a resistance of {n / 10} ohm, which is above the limit of the standard",
            "evidence": {"page": n // 10, "found": n / 10, "limit": 5.0, "text": "Resistance at the point, in ohm"},
            "remediation": "Clean the contacts and measure once more",
        }
        for n in range(FINDINGS)
    ]


@part
def complete(db: str, audits: int) -> dict[str, Any]:
    """Seconds of completing so many audits."""
    from scanstore import Store
    from scanstore.accounts.models import User

    with Store(db, durability="normal") as store:
        user = User.create(email="someone@example.org", email_key="someone@example.org")
        for number in range(audits):
            store.audits.add(user, f"{number}.pdf", 1000)
        claimed = store.audits.claim(limit=audits)
        given = [listing(number) for number in range(audits)]
        clock = Clock()
        for task, findings in zip(claimed, given, strict=True):
            store.audits.complete(task, analysis=ANALYSIS, findings=findings)
        return clock.stop()


@part
def by_hand(db: str, rows_of: str) -> dict[str, Any]:
    """Seconds of writing the rows of another store's file."""
    from scanstore import Store

    Store(db).close()
    connection = sqlite3.connect(db, isolation_level=None)
    connection.executescript("PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000; PRAGMA temp_store=MEMORY")
    connection.execute("ATTACH ? AS other", (rows_of,))
    connection.executescript(
        "INSERT INTO users SELECT * FROM other.users; INSERT INTO audit_tasks SELECT * FROM other.audit_tasks;"
        "UPDATE audit_tasks SET status = 'processing', lease_until = '2099-01-01T00:00:00.000Z', completed_at = NULL"
    )
    tasks = []
    for (task,) in connection.execute("SELECT id FROM other.audit_tasks ORDER BY id"):
        analysis = connection.execute("SELECT * FROM other.audit_analyses WHERE task_id = ?", (task,)).fetchone()
        rows = connection.execute(
            "SELECT * FROM other.audit_findings WHERE analysis_id = ? ORDER BY ordinal", analysis[:1]
        ).fetchall()
        event = connection.execute(
            "SELECT * FROM other.audit_events WHERE task_id = ? AND action = 'completed'", (task,)
        ).fetchone()
        tasks.append((task, analysis, rows, event))
    connection.execute("DETACH other")
    connection.execute("PRAGMA foreign_keys=ON")
    marks = {name: ", ".join("?" * len(tasks[0][n][0] if n == 2 else tasks[0][n])) for n, name in
             ((1, "audit_analyses"), (2, "audit_findings"), (3, "audit_events"))}  # fmt: skip
    insert = {name: f"INSERT INTO {name} VALUES ({some})" for name, some in marks.items()}
    clock = Clock()
    for task, analysis, rows, event in tasks:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "UPDATE audit_tasks SET status = 'completed', lease_until = NULL, completed_at = ?1, updated_at = ?1"
            " WHERE id = ?2",
            (event[-1], task),
        )
        connection.execute(insert["audit_analyses"], analysis)
        connection.executemany(insert["audit_findings"], rows)
        connection.execute(insert["audit_events"], event)
        connection.execute("COMMIT")
    return {**clock.stop(), "rows": sum(3 + len(rows) for _, _, rows, _ in tasks)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the audits")
    parser.add_argument("--audits", type=int, help="audits [default: 300]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        serve(options.part)
        return 0
    audits = options.audits if options.audits is not None else 30 if options.quick else 300
    if audits < 2:
        parser.error("--audits must be at least 2")
    with tempfile.TemporaryDirectory(prefix="scanstore-audits-") as folder:
        work = Path(folder)
        bench = Bench(__file__, work)
        ours, hand = [], []
        for number in range(ROUNDS):
            db = str(work / f"audits{number}.db")
            ours.append(bench.run(complete, db=db, audits=audits))
            hand.append(bench.run(by_hand, db=str(work / f"hand{number}.db"), rows_of=db))
        ratio = median(a["own"] / b["own"] for a, b in zip(ours, hand, strict=True))
        spent, raw = (1000 * median(run["own"] for run in runs) / audits for runs in (ours, hand))
        bench.at_most(
            f"completing an audit with {FINDINGS} findings, time against by hand", 2, ratio, " x",
            f"{spent:.2f} ms against {raw:.2f} ms of CPU each",
        )  # fmt: skip
        wall = median(a["wall"] / b["wall"] for a, b in zip(ours, hand, strict=True))
        bench.row("the same, on the wall", "", f"{wall:.2f} x", None, "waits for the disk and for others, too")
    show(bench.rows, {"audits": audits, "rows": hand[0]["rows"], "rounds": ROUNDS}, as_json=options.json)
    return 0 if all(row.ok is not False for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
