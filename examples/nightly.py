"""Look after a store every night: backup, prune, check, optimize, and a report in a file.

    python examples/nightly.py [STORE]

Run it from cron; STORE defaults to scanstore.db. The report has the date in its name and is written last, so the job is
done once per day: a run that was killed is repeated by the next one, and a run after that does nothing. Exits with 1 if
the check found a problem.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from scanstore import NotFound, Store

KEEP_COPIES = 3
KEEP_SCANS = 5
KEEP_DAYS = "30d"


def look_after(store: Store, copies: Path, lines: list[str]) -> bool:
    """Do the steps in order, the backup first, and add their results to the report. Return whether all is well."""

    def say(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    copy = store.backup(folder=copies, keep=KEEP_COPIES)  # verified; others may write meanwhile
    say(f"backup: {copy.bytes:,} bytes, {len(copy.removed)} older copies removed")

    # Without `dry_run=False`, prune only lists the rows.
    gone = store.prune(older_than=KEEP_DAYS, keep_last=KEEP_SCANS, what=["scans", "jobs", "calls"], dry_run=False)
    say(f"prune: {len(gone.scans)} scans, {gone.jobs} jobs, texts of {gone.calls} calls")

    problems = store.check(fix=True)  # safe repairs; recorded facts and decisions stay
    say(f"check: {len(problems)} problems")
    for problem in problems:
        say(f"  {problem.what}: {'fixed' if problem.fixed else problem.remedy}")

    store.optimize()
    say("optimize: done")
    return all(problem.fixed for problem in problems)


def findings(store: Store) -> Iterator[str]:
    """Yield the report of the findings of each target."""
    for target in store.scans.targets():
        try:
            yield store.report(target=target.target, format="text")
        except NotFound:
            yield f"{target.target}: no tool has run"


def main() -> int:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "scanstore.db")
    report = path.parent / f"nightly-{date.today()}.txt"
    if report.exists():
        print("done today:", report.name)
        return 0
    copies = path.parent / "copies"
    copies.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with Store(path) as store:
        good = look_after(store, copies, lines)
        lines += findings(store)
    partial = report.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(partial, report)  # the report is complete or missing
    print("report:", report.name)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
