"""The findings of a scan as it reported them, and their changes between two scans. Read-only.

The row of a finding has the values of its latest sighting. This module replaces them by the location and content of a
given scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.database import Database
from scanstore.db.notebooks import described
from scanstore.db.rows import Rows
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import dump_json
from scanstore.findings.content import unpacked
from scanstore.findings.looks import Looks
from scanstore.findings.models import Finding
from scanstore.findings.tracking import BATCH, CONTENT, PLACE

if TYPE_CHECKING:
    from scanstore.db.words import FindingState


@described
class FindingDiff(NamedTuple):
    """Findings by their change between two scans."""

    new: Rows[Finding]
    fixed: Rows[Finding]
    reopened: Rows[Finding]
    updated: Rows[Finding]
    unchanged: Rows[Finding]
    not_checked: Rows[Finding]


RANK = "CASE {} END".format(" ".join(f"WHEN f.severity = '{word}' THEN {n}" for n, word in enumerate(SEVERITIES)))
LISTED = f"""
SELECT s.finding_id FROM sightings AS s CROSS JOIN findings AS f ON f.id = s.finding_id
 WHERE s.scan_id = :scan AND (:state IS NULL AND s.state <> 'fixed' OR s.state = :state)
   AND (:file IS NULL OR s.file_path = :file) AND (:status IS NULL OR f.status = :status)
   AND (:tool IS NULL OR f.tool = :tool) AND (:severity IS NULL OR f.severity = :severity OR s.content_id IS NOT NULL)
 ORDER BY {RANK}, s.file_path, s.line_number, f.id LIMIT :limit
"""
CURRENT = f"""
SELECT f.id FROM json_each(:ids) AS i CROSS JOIN findings AS f ON f.id = i.value
 WHERE (:file IS NULL OR f.file_path = :file) AND (:status IS NULL OR f.status = :status)
   AND (:tool IS NULL OR f.tool = :tool) AND (:severity IS NULL OR f.severity = :severity)
 ORDER BY {RANK}, f.file_path, f.line_number, f.id LIMIT :limit
"""
SIGHTED = f"""
SELECT s.finding_id, s.state, c.body, {", ".join(f"s.{column}" for column in PLACE)}
  FROM json_each(?2) AS i CROSS JOIN sightings AS s ON s.scan_id = ?1 AND s.finding_id = i.value
  LEFT JOIN finding_contents AS c ON c.id = s.content_id
"""
ROWS = "SELECT f.* FROM json_each(?) AS i CROSS JOIN findings AS f ON f.id = i.value"
# The state of each finding at both scans, by its latest sighting until then, and the changes in between.
BETWEEN = """
       EXISTS (SELECT 1 FROM sightings AS u WHERE u.finding_id = f.id AND u.state = 'updated'
                  AND u.scan_id > min({a}, {b}) AND u.scan_id <= max({a}, {b})) AS updated,
       (SELECT u.state FROM sightings AS u WHERE u.finding_id = f.id AND u.scan_id > {a} AND u.scan_id <= {b}
         ORDER BY u.scan_id LIMIT 1) AS next
"""
AT = """
        AND {0}.scan_id = (SELECT max(u.scan_id) FROM sightings AS u WHERE u.finding_id = f.id AND u.scan_id <= :{0})
"""
STOOD = f"""
SELECT f.id, f.tool, r.category, a.state, b.state, b.scan_id, {BETWEEN.format(a=":a", b=":b")}
  FROM findings AS f INDEXED BY ix_findings_lineage_id_tool_rule_id
  LEFT JOIN sightings AS a ON a.finding_id = f.id {AT.format("a")}
  LEFT JOIN sightings AS b ON b.finding_id = f.id {AT.format("b")}
  LEFT JOIN tool_runs AS r ON r.id = b.run_id
 WHERE f.lineage_id = :lineage
"""


class Change:
    """The change of a finding from scan ``a`` to scan ``b`` of its target; 0 means no scan. All lists use this rule.

    A finding is ``not_checked`` if it existed and no run of its tool has reported it since ``a``, or if the latest run
    until ``b`` did not check for it. It is ``reopened`` if it was fixed at ``a``, or was marked as fixed before the
    next scan that reported it.
    """

    def __init__(self, db: Database, lineage: int, a: int, b: int) -> None:
        self._looks = Looks(db, lineage, max(a, b))
        self._looked: dict[tuple[str, str], int] = {}
        self.a, self.b = a, b

    def __call__(
        self,
        tool: str,
        category: str | None,
        then: str | None,
        now: str | None,
        at: int,
        updated: int,
        after: str | None,
    ) -> FindingState | None:
        """Return the change, or None for a finding that exists at neither scan. ``after`` is the state of the first
        sighting after ``a``.
        """
        was, there = then not in (None, "fixed"), now not in (None, "fixed")
        if not there:
            return "fixed" if was else None
        if then is None:
            return "new"
        if then == "fixed" or after == "reopened":
            return "reopened"
        if at < self.b and (at <= self.a or at < self._latest(tool, category or "")):
            return "not_checked"
        return "updated" if updated else "unchanged"

    def _latest(self, tool: str, category: str) -> int:
        key = tool, category
        if key not in self._looked:
            self._looked[key] = self._looks.latest(tool, category)
        return self._looked[key]


def listed(db: Database, scan_id: int, *, severity: str | None, limit: int | None, **only: object) -> list[Finding]:
    """Return the findings of a scan with the values of that scan, in list order."""
    # A finding with another content at that time may have had another severity, so sort and limit after loading it.
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
    """Return the findings with these ids, in this order, with the values of a scan. Findings without a sighting in it
    are omitted.
    """
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
    """Compare the findings of a target between scan ``a`` and scan ``b``."""
    parts: dict[str, list[int]] = {name: [] for name in FindingDiff._fields}
    for key, change in changes(db, lineage, a, b).items():
        parts[change].append(key)
    rows = {key: row for keys in parts.values() for key, row in _rows(db, keys).items()}
    return FindingDiff(*(Rows(sorted((rows[key] for key in keys), key=_order), Finding) for keys in parts.values()))


def changes(db: Database, lineage: int, a: int, b: int) -> dict[int, FindingState]:
    """Return the change of each finding of a target from scan ``a`` (0: none) to scan ``b`` that exists at
    either scan.
    """
    change = Change(db, lineage, a, b)
    rows = db.execute_sql(STOOD, {"a": a, "b": b, "lineage": lineage}).fetchall()
    return {key: became for key, *stood in rows if (became := change(*stood)) is not None}


def current(
    db: Database, lineage: int, scan_id: int, baseline: int, *, state: str | None, limit: int | None, **only: object
) -> list[Finding]:
    """Return all existing findings of a target after its latest scan, in list order."""
    became = changes(db, lineage, baseline, scan_id)
    keys = [key for key, change in became.items() if (change == state if state else change != "fixed")]
    values = {"ids": dump_json(keys), "limit": -1 if limit is None else limit, **only}
    order = [key for (key,) in db.execute_sql(CURRENT, values).fetchall()]
    rows = _rows(db, order)
    for key, row in rows.items():
        row.state = became[key]
    return [rows[key] for key in order]


def _rows(db: Database, keys: Sequence[int]) -> dict[int, Finding]:
    return {row.id: row for row in Finding.raw(ROWS, dump_json(list(keys)))}


def _order(row: Finding) -> tuple[object, ...]:
    return SEVERITIES.index(row.severity), row.file_path, row.line_number or 0, row.id
