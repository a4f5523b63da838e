"""Repeats: recognises a report that is loaded again, byte for byte.

Only the latest report of its target can be repeated. The report is a new scan if another report of one of its tools and
categories was loaded since, if one of its findings was marked as fixed, or if the scope differs. A repetition records
only the time of the tool's run. Change here: when a report counts as a repetition.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from scanstore.db.database import Database
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.findings.coverage import apart

# The latest scan of a target with this report, or a given scan.
KNOWN = """
SELECT max(r.scan_id) FROM tool_runs AS r JOIN scans AS s ON s.id = r.scan_id
  JOIN lineages AS l ON l.id = s.lineage_id
 WHERE r.digest >= :digest || ':' AND r.digest < :digest || ';' AND l.target = :target
   AND (:scan IS NULL OR s.id = :scan)
"""
RUNS = """
SELECT tool, category, scope, troubles FROM tool_runs
 WHERE scan_id = :scan AND digest >= :digest || ':' AND digest < :digest || ';' ORDER BY id
"""
LATER = """
SELECT r.tool, r.category FROM scans AS s CROSS JOIN tool_runs AS r ON r.scan_id = s.id
 WHERE s.lineage_id = (SELECT lineage_id FROM scans WHERE id = :scan) AND s.id >= :scan
   AND NOT (s.id = :scan AND r.digest >= :digest || ':' AND r.digest < :digest || ';')
   AND (s.id > :scan OR r.id > (SELECT max(id) FROM tool_runs
                                 WHERE scan_id = :scan AND digest >= :digest || ':' AND digest < :digest || ';'))
"""
# Findings of the report that a person marked as fixed.
MARKED = """
SELECT EXISTS (SELECT 1 FROM tool_runs AS r CROSS JOIN sightings AS g ON g.run_id = r.id
                 CROSS JOIN findings AS f ON f.id = g.finding_id
                WHERE r.scan_id = :scan AND r.digest >= :digest || ':' AND r.digest < :digest || ';'
                  AND g.state <> 'fixed' AND f.status = 'fixed')
"""
COUNT = """
UPDATE tool_runs SET repeats = repeats + 1, repeated_at = :now
 WHERE scan_id = :scan AND digest >= :digest || ':' AND digest < :digest || ';'
"""


class Repeated(NamedTuple):
    """A report that was loaded before: its scan, and the reasons why its result is incomplete."""

    scan: int
    troubles: list[str]


def find(db: Database, target: str, digest: str, scan: int | None, scope: list[str] | None) -> Repeated | None:
    """Return the scan that this report repeats. With ``scan``, any report already loaded into it counts."""
    values = {"digest": digest, "target": target, "scan": scan}
    (known,) = db.execute_sql(KNOWN, values).fetchone()
    if known is None:
        return None
    values = {"digest": digest, "scan": known}
    runs = db.execute_sql(RUNS, values).fetchall()
    if scan is None:
        told = None if scope is None else dump_json(scope)
        if any(row[2] != told for row in runs):
            return None
        later = db.execute_sql(LATER, values).fetchall()
        if any(tool == other and not apart(category, series) for tool, category, *_ in runs for other, series in later):
            return None
        if db.execute_sql(MARKED, values).fetchone()[0]:
            return None
    return Repeated(known, [f"{row[0]}: {trouble}" for row in runs for trouble in json.loads(row[3])])


def count(db: Database, found: Repeated, digest: str) -> None:
    """Record another run of the tool, with the time. Inside a transaction."""
    db.execute_sql(COUNT, {"now": format_time(utcnow()), "scan": found.scan, "digest": digest})
