"""Changes to findings when a scan that reported them is removed.

The findings become as if the scan had never existed, except for decisions of people and the history. A finding gets the
values of its previous sighting. A finding without sightings is deleted, unless a person has decided about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scanstore.db.database import Database
from scanstore.db.rows import Removed, remove
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.findings.content import gist, unpacked
from scanstore.findings.tracking import CONTENT, PLACE, close, set_status

# The first parameter of each of these is the list of findings.
OURS = "IN (SELECT value FROM json_each(?1))"
PREVIOUS = """(SELECT p.state FROM sightings AS p WHERE p.finding_id = s.finding_id AND p.scan_id < s.scan_id
    ORDER BY p.scan_id DESC LIMIT 1)"""
# A finding that never existed before, or was already fixed, was not fixed by this scan.
NEVER = f"""
DELETE FROM sightings AS s WHERE finding_id {OURS} AND state = 'fixed' AND coalesce({PREVIOUS}, 'fixed') = 'fixed'
"""
# A fixed finding has the values of its last sighting.
LAST = """
UPDATE sightings AS s SET (content_id, {places}) = (
       SELECT p.content_id, {of} FROM sightings AS p WHERE p.finding_id = s.finding_id AND p.scan_id < s.scan_id
        ORDER BY p.scan_id DESC LIMIT 1)
 WHERE finding_id {ours} AND state = 'fixed'
""".format(places=", ".join(PLACE), of=", ".join(f"p.{column}" for column in PLACE), ours=OURS)
STATES = f"""
UPDATE sightings AS s SET state = iif({PREVIOUS} IS NULL, 'new', 'reopened')
 WHERE finding_id {OURS} AND state NOT IN ('new', 'fixed') AND coalesce({PREVIOUS}, 'fixed') = 'fixed'
"""
# The sightings before and after a removed one, between which updates must be determined again.
SIDES = f"""
SELECT f.id, n.scan_id, n.state, a.body, b.body, p.content_id IS n.content_id, {", ".join(f'f."{c}"' for c in CONTENT)}
  FROM json_each(?1) AS i CROSS JOIN findings AS f ON f.id = i.value
  JOIN sightings AS p ON p.finding_id = f.id
        AND p.scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id AND scan_id < ?2)
  JOIN sightings AS n ON n.finding_id = f.id
        AND n.scan_id = (SELECT min(scan_id) FROM sightings WHERE finding_id = f.id AND scan_id > ?2)
  LEFT JOIN finding_contents AS a ON a.id = p.content_id
  LEFT JOIN finding_contents AS b ON b.id = n.content_id
 WHERE p.state <> 'fixed' AND n.state NOT IN ('new', 'fixed')
"""
STATE = "UPDATE sightings SET state = ? WHERE scan_id = ? AND finding_id = ?"
BEFORE = f"""
SELECT f.id, c.id, c.body, {", ".join(f"s.{column}" for column in PLACE)}
  FROM json_each(?1) AS i CROSS JOIN findings AS f ON f.id = i.value
  JOIN sightings AS s ON s.finding_id = f.id
        AND s.scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id)
  LEFT JOIN finding_contents AS c ON c.id = s.content_id
 WHERE f.scan_id = ?2
"""
PLACES = f"UPDATE findings SET {', '.join(f'{column} = ?' for column in PLACE)} WHERE id = ?"
CONTENTS = "UPDATE findings SET {} WHERE id = ?".format(", ".join(f'"{column}" = ?' for column in CONTENT))
POINT = "UPDATE sightings SET content_id = NULL WHERE content_id = ?"
SCANS = f"""
UPDATE findings AS f SET
       scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id AND state <> 'fixed'),
       first_scan_id = (SELECT min(scan_id) FROM sightings WHERE finding_id = f.id AND state <> 'fixed')
 WHERE id {OURS} AND (scan_id = ?2 OR first_scan_id = ?2)
"""
UNUSED = f"""
DELETE FROM finding_contents AS c WHERE finding_id {OURS}
   AND NOT EXISTS (SELECT 1 FROM sightings WHERE content_id = c.id)
"""
# Findings whose status was last changed by a scan and does not match the remaining sightings.
STATUSES = """
SELECT f.id, f.status, l.state IS 'fixed', CASE e.to_status WHEN 'fixed' THEN e.from_status ELSE 'open' END
  FROM json_each(?1) AS i CROSS JOIN findings AS f ON f.id = i.value
  JOIN finding_events AS e
    ON e.id = (SELECT max(id) FROM finding_events WHERE finding_id = f.id AND action = 'status') AND e.by = 'scanstore'
  LEFT JOIN sightings AS l
    ON l.finding_id = f.id AND l.scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id)
 WHERE iif(l.state IS 'fixed', f.status IN ('open', 'confirmed'), f.status = 'fixed')
"""
# Later scans that may have checked for findings that this scan marked as fixed: then these are fixed since the later
# scan.
LATER = """
SELECT DISTINCT s.id, f.tool FROM json_each(?1) AS i CROSS JOIN findings AS f ON f.id = i.value
  JOIN scans AS s ON s.lineage_id = f.lineage_id AND s.id > ?2 ORDER BY s.id
"""
UNSEEN = f"""
id {OURS} AND NOT EXISTS (SELECT 1 FROM sightings WHERE finding_id = findings.id)
   AND NOT EXISTS (SELECT 1 FROM finding_events AS e WHERE e.finding_id = findings.id AND e.by <> 'scanstore')
"""


def forget(db: Database, scan_id: int) -> Removed:
    """Undo all effects of a scan on findings, and return its removed sightings, and the rows of findings without a
    sighting left, by table. Inside the transaction that removes the scan.
    """
    run, many = db.execute_sql, db.executemany
    said = run("SELECT finding_id, state FROM sightings WHERE scan_id = ?", (scan_id,)).fetchall()
    if not said:
        return Removed()
    keys = dump_json([key for key, _ in said])
    run("DELETE FROM sightings WHERE scan_id = ?", (scan_id,))
    run(NEVER, (keys,))
    run(LAST, (keys,))
    run(STATES, (keys,))
    many(STATE, _joined(run(SIDES, (keys, scan_id)).fetchall(), {key for key, state in said if state == "fixed"}))
    rows = run(BEFORE, (keys, scan_id)).fetchall()
    many(PLACES, ((*place, key) for key, _, _, *place in rows))
    kept = [(key, content, unpacked(body)) for key, content, body, *_ in rows if content is not None]
    many(CONTENTS, ((*(body[name] for name in CONTENT), key) for key, _, body in kept))
    many(POINT, ((content,) for _, content, _ in kept))
    run(SCANS, (keys, scan_id))
    run(UNUSED, (keys,))
    moves = [(key, was, "fixed" if fixed else back) for key, was, fixed, back in run(STATUSES, (keys,)).fetchall()]
    set_status(db, None, moves, format_time(utcnow()), f"scan {scan_id} was removed")
    removed = Removed(sightings=len(said), **remove(db, "findings", UNSEEN, (keys,)))
    fixed = dump_json([key for key, state in said if state == "fixed"])
    for later, tool in run(LATER, (fixed, scan_id)).fetchall():
        close(db, later, tool=tool)
    return removed


def _joined(sides: Iterable[Sequence[Any]], fixed: set[int]) -> Iterator[tuple[str, int, int]]:
    """Return the states of sightings whose previous sighting has changed. Only findings that were fixed in between are
    reopened.
    """
    for key, scan_id, state, before, after, same, *columns in sides:
        if state == "reopened" and key not in fixed:
            continue
        now = dict(zip(CONTENT, columns, strict=True))
        old, new = (now if body is None else unpacked(body) for body in (before, after))
        should = "unchanged" if same or gist(old) == gist(new) else "updated"
        if should != state:
            yield should, scan_id, key
