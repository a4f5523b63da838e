"""Findings as a scan saw them, and what became of them between two scans: reading only.

A finding's row is as its latest sighting saw it; here the place, and the content if it was another one, of a given
scan are put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from scanstore.contents import unpacked
from scanstore.database import Database
from scanstore.fields import dump_json
from scanstore.findings import Finding
from scanstore.states import SEVERITIES
from scanstore.tracking import BATCH, CONTENT, PLACE


class FindingDiff(NamedTuple):
    """Findings by what became of them between two scans."""

    new: list[Finding]
    fixed: list[Finding]
    reopened: list[Finding]
    updated: list[Finding]
    unchanged: list[Finding]
    not_checked: list[Finding]


RANK = "CASE {} END".format(" ".join(f"WHEN f.severity = '{word}' THEN {n}" for n, word in enumerate(SEVERITIES)))
LISTED = f"""
SELECT s.finding_id FROM sightings AS s CROSS JOIN findings AS f ON f.id = s.finding_id
 WHERE s.scan_id = :scan AND (:state IS NULL AND s.state <> 'fixed' OR s.state = :state)
   AND (:file IS NULL OR s.file_path = :file) AND (:status IS NULL OR f.status = :status)
   AND (:tool IS NULL OR f.tool = :tool) AND (:severity IS NULL OR f.severity = :severity OR s.content_id IS NOT NULL)
 ORDER BY {RANK}, s.file_path, s.line_number, f.id LIMIT :limit
"""
SIGHTED = f"""
SELECT s.finding_id, s.state, c.body, {", ".join(f"s.{column}" for column in PLACE)}
  FROM json_each(?2) AS i CROSS JOIN sightings AS s ON s.scan_id = ?1 AND s.finding_id = i.value
  LEFT JOIN finding_contents AS c ON c.id = s.content_id
"""
ROWS = "SELECT f.* FROM json_each(?) AS i CROSS JOIN findings AS f ON f.id = i.value"
# How each finding stood at either scan, by the latest sighting until then, and whether it was updated in between.
STOOD = """
SELECT f.id, a.state, b.state, b.scan_id,
       EXISTS (SELECT 1 FROM sightings AS u WHERE u.finding_id = f.id AND u.state = 'updated'
                  AND u.scan_id > min(:a, :b) AND u.scan_id <= max(:a, :b))
  FROM findings AS f INDEXED BY ix_findings_lineage_id_tool_rule_id
  LEFT JOIN sightings AS a ON a.finding_id = f.id
        AND a.scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id AND scan_id <= :a)
  LEFT JOIN sightings AS b ON b.finding_id = f.id
        AND b.scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id AND scan_id <= :b)
 WHERE f.lineage_id = :lineage
"""


def listed(db: Database, scan_id: int, *, severity: str | None, limit: int | None, **only: Any) -> list[Finding]:
    """Findings that a scan saw, as it saw them, in the order of lists."""
    # One whose content was another one then may have had another severity: sorted and cut when that is known.
    other = severity is not None or limit is not None
    if other:
        other = bool(db.execute_sql(
            "SELECT EXISTS (SELECT 1 FROM sightings WHERE scan_id = ? AND content_id IS NOT NULL)", (scan_id,)
        ).fetchone()[0])  # fmt: skip
    most = -1 if limit is None or other else limit
    keys = db.execute_sql(LISTED, {"scan": scan_id, "severity": severity, "limit": most, **only}).fetchall()
    found = as_seen(db, scan_id, [key for (key,) in keys])
    found.sort(key=_order)
    return [row for row in found if severity is None or row.severity == severity][:limit]


def as_seen(db: Database, scan_id: int, keys: Sequence[int]) -> list[Finding]:
    """The findings with these ids, in their order, as a scan saw them; without those that it has no sighting of."""
    rows: list[Finding] = []
    for start in range(0, len(keys), BATCH):
        batch = dump_json(list(keys[start : start + BATCH]))
        found = {row.id: row for row in Finding.raw(ROWS, batch)}
        for key, state, body, *place in db.execute_sql(SIGHTED, (scan_id, batch)).fetchall():
            row = found[key]
            row.state = state
            row.__data__.update(zip(PLACE, place, strict=True))
            if body is not None:
                row.__data__.update({name: value for name, value in unpacked(body).items() if name in CONTENT})
            rows.append(row)
    return rows


def diff(db: Database, lineage: int, a: int, b: int) -> FindingDiff:
    """What became of the findings of a target from scan ``a`` to scan ``b``."""
    parts: dict[str, list[int]] = {name: [] for name in FindingDiff._fields}
    for key, then, now, at, updated in db.execute_sql(STOOD, {"a": a, "b": b, "lineage": lineage}).fetchall():
        was, there = then not in (None, "fixed"), now not in (None, "fixed")
        if was and there:
            parts["not_checked" if at != b else "updated" if updated else "unchanged"].append(key)
        elif was:
            parts["fixed"].append(key)
        elif there:
            parts["reopened" if then == "fixed" else "new"].append(key)
    rows = {key: row for keys in parts.values() for key, row in _rows(db, keys).items()}
    return FindingDiff(*(sorted((rows[key] for key in keys), key=_order) for keys in parts.values()))


def _rows(db: Database, keys: Sequence[int]) -> dict[int, Finding]:
    return {row.id: row for row in Finding.raw(ROWS, dump_json(list(keys)))}


def _order(row: Finding) -> tuple[Any, ...]:
    return SEVERITIES.index(row.severity), row.file_path, row.line_number or 0, row.id
