"""Looks: the runs of tools on the scans of a target, and whether their results are complete.

The tools of a target run one after another, each in its own scan or several in one. A *round* ends where a tool, or one
of its categories, repeats. A finding is new if the previous round did not report it, whichever tool ran last. The
latest run of each tool counts. If that run failed, its findings are unknown, and this is reported until the tool runs
again.

Read-only. Change here: when a run counts, and what counts as trouble.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from scanstore.db.database import Database
from scanstore.findings.coverage import UNNAMED, apart

OWN = "scanstore"  #: the tool of findings that an analysis published

# Each scan of a target with its reports and its analysis, including an unfinished analysis that has published.
LOOKS = f"""
SELECT s.id, r.tool, r.category FROM scans AS s CROSS JOIN tool_runs AS r ON r.scan_id = s.id
 WHERE s.lineage_id = :lineage AND s.id <= :scan
UNION
SELECT s.id, '{OWN}', '' FROM scans AS s WHERE s.lineage_id = :lineage AND s.id <= :scan
   AND (s.analyzed_at IS NOT NULL OR (EXISTS (SELECT 1 FROM sightings AS g WHERE g.scan_id = s.id)
        AND (s.active_since IS NOT NULL OR NOT EXISTS (SELECT 1 FROM tool_runs AS r WHERE r.scan_id = s.id))))
 ORDER BY 1 DESC, 2, 3
"""
RUNS = """
SELECT scan_id, tool, tool_version, category, created_at, repeats, repeated_at, troubles FROM tool_runs
 WHERE scan_id = ? ORDER BY tool, id
"""
ANALYSIS = """
SELECT status, analyzed_at IS NOT NULL, active_since IS NOT NULL,
       (SELECT coalesce(sum(count), 0) FROM work_counts WHERE scan_id = s.id AND status = 'failed'
           AND kind <> 'verified'),
       (SELECT coalesce(sum(count), 0) FROM work_counts WHERE scan_id = s.id AND status = 'failed'
           AND kind = 'verified'),
       (SELECT coalesce(sum(count), 0) FROM work_counts WHERE scan_id = s.id)
  FROM scans AS s WHERE id = ?
"""
# Later votes have not revoked this verified finding.
UPHELD = """NOT EXISTS (SELECT 1 FROM draft_findings AS d
            WHERE d.id = verified_findings.draft_id AND d.status IN ('rejected', 'weakness'))"""
# Revoked ones have the status failed too, but no finding is missing because of them.
UNPUBLISHED = f"SELECT count(*) FROM verified_findings WHERE scan_id = ? AND status = 'failed' AND {UPHELD}"
# Files of the tree without chunks. Binary files and links do not count.
UNREAD = """
SELECT count(*) FROM scan_files AS f WHERE f.scan_id = ? AND f.status IN ('failed', 'skipped')
   AND (f.error LIKE 'larger than %' OR f.status = 'failed')
   AND NOT EXISTS (SELECT 1 FROM chunk_work AS w WHERE w.scan_file_id = f.id)
"""


class LoadedRun(NamedTuple):
    """A run of a tool from its report: when it was loaded, how often it was loaded again, and why its result is
    incomplete.
    """

    scan: int
    tool: str
    version: str
    category: str
    loaded_at: str
    repeats: int
    repeated_at: str | None
    troubles: list[str]

    @property
    def name(self) -> str:
        """The tool with its version and category."""
        series = f"({self.category})" if self.category else ""
        return " ".join(filter(None, (self.tool, self.version, series)))

    def sentences(self) -> Iterator[str]:
        """Return the troubles as sentences, with the tool and the scan."""
        for trouble in self.troubles:
            yield f"{self.name}, scan {self.scan}: {trouble}"


class Looks:
    """The runs of tools on a target, up to a scan."""

    def __init__(self, db: Database, lineage: int, scan: int) -> None:
        self._db = db
        self.scan = scan
        self.scans: dict[int, list[tuple[str, str]]] = {}  # the latest first
        for key, tool, category in db.execute_sql(LOOKS, {"lineage": lineage, "scan": scan}).fetchall():
            self.scans.setdefault(key, []).append((tool, category))

    @property
    def baseline(self) -> int | None:
        """Return the scan before the current round: the latest one with a tool that has run again since."""
        round: list[tuple[str, str]] = []
        for key, looked in self.scans.items():
            if self.scan not in self.scans or any(_meet(one, other) for one in looked for other in round):
                return key
            round += looked
        return None

    def latest(self, tool: str, category: str = "") -> int:
        """Return the latest scan in which this tool ran, in this category, or 0."""
        return next(
            (key for key, looked in self.scans.items() if any(_meet((tool, category), one) for one in looked)), 0
        )

    def current(self) -> dict[int, list[tuple[str, str]]]:
        """Return each tool and category with the scan of its latest run, the latest scan first."""
        known: list[tuple[str, str]] = []
        found: dict[int, list[tuple[str, str]]] = {}
        for key, looked in self.scans.items():
            fresh = [one for one in looked if not any(_meet(one, other) for other in known)]
            if fresh:
                found[key] = fresh
            known += fresh
        return found

    def runs(self, only: int | None = None) -> list[LoadedRun]:
        """Return the latest runs of all tools, or the runs of one scan."""
        if only is not None:
            return [run for run, _ in _runs(self._db, only)]
        current = self.current()
        # A run without a tool name may be of any tool: the round ends only when all others have run again.
        named = [key for key, looked in current.items() if any(tool != UNNAMED for tool, _ in looked)]
        over = max(self.baseline or 0, min(named, default=1) - 1)
        found: list[LoadedRun] = []
        for key, looked in current.items():
            runs = [run for run, which in _runs(self._db, key) if which in looked]
            found += [run for run in runs if run.tool != UNNAMED or key > over]
        return sorted(found, key=lambda run: (run.tool, run.category, run.scan))

    def troubles(self, only: int | None = None) -> list[str]:
        """Return the reasons why findings may be missing, from the latest runs or those of one scan."""
        told = [each for run in self.runs(only) for each in run.sentences()]
        current = self.current()
        scans = [only] if only is not None else [self.scan, *(key for key in current if (OWN, "") in current[key])]
        for key in dict.fromkeys(scans):
            told += _unfinished(self._db, key)
        if not (self.scans if only is None else self.scans.get(only)) and not told:
            told.append(f"no tool has looked for findings in scan {self.scan if only is None else only}")
        return told


def _meet(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return one[0] == other[0] and not apart(one[1], other[1])


def _runs(db: Database, scan: int) -> Iterator[tuple[LoadedRun, tuple[str, str]]]:
    for row in db.execute_sql(RUNS, (scan,)).fetchall():
        run = LoadedRun._make((*row[:-1], json.loads(row[-1])))
        yield run, (run.tool, run.category)


def _unfinished(db: Database, scan: int) -> Iterator[str]:
    """Return the parts of a scan that an analysis has not covered."""
    status, over, begun, failed, verified, pieces = db.execute_sql(ANALYSIS, (scan,)).fetchone()
    if verified:
        failed += db.execute_sql(UNPUBLISHED, (scan,)).fetchone()[0]
    if begun and not (over and status == "completed"):
        yield f"the analysis of scan {scan} is {status}: not all of it was looked at"
    elif begun and not pieces:
        yield f"the analysis of scan {scan} had nothing to look at: no file of it has a chunk"
    elif begun and (unread := db.execute_sql(UNREAD, (scan,)).fetchone()[0]):
        files = "1 file that is" if unread == 1 else f"{unread:,} files that are"
        yield f"the analysis of scan {scan} did not look at {files} too large or unreadable"
    if begun and over and status == "completed" and failed:
        yield f"the analysis of scan {scan} failed on {failed:,} piece{'' if failed == 1 else 's'} of work"
