"""Completing a scan: resolve all its paths, and store the differences to the previous scan.

The bindings of a lineage are kept as intervals of revisions (see ``migrations/001_snapshot.py``). The resolved paths of
a completed scan are compared with those of the latest completed revision: equal rows stay, others end or begin. The
result for a scan never depends on the scans before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from scanstore.db.database import Database
from scanstore.db.state_machine import SCANS, move
from scanstore.errors import NotFound
from scanstore.snapshots.facts import FACT_TABLES
from scanstore.snapshots.resolution import since, whole
from scanstore.snapshots.resolver import BoundTarget, Targets

SAME_FILES = """
SELECT NOT EXISTS (SELECT version_id FROM scan_files WHERE scan_id = :a AND version_id IS NOT NULL
                   EXCEPT SELECT version_id FROM scan_files WHERE scan_id = :b)
   AND NOT EXISTS (SELECT version_id FROM scan_files WHERE scan_id = :b AND version_id IS NOT NULL
                   EXCEPT SELECT version_id FROM scan_files WHERE scan_id = :a)
"""
CURRENT = """
SELECT path_id, nth, since, until, version_id, ordinal, resolution, confidence FROM bindings
 WHERE lineage_id = ? AND since <= ? AND (until IS NULL OR until > ?)
"""
CURRENT_OF = """
SELECT b.path_id, b.nth, b.since, b.until, b.version_id, b.ordinal, b.resolution, b.confidence
  FROM json_each(?1) AS w CROSS JOIN bindings AS b ON b.lineage_id = ?2 AND b.path_id = w.value
 WHERE b.since <= ?3 AND (b.until IS NULL OR b.until > ?3)
"""
NEXT_REVISION = """
SELECT 1 + max(coalesce((SELECT max(revision) FROM scans WHERE lineage_id = ?1), 0),
               coalesce((SELECT max(since) FROM bindings WHERE lineage_id = ?1), 0))
"""
LATEST = """
SELECT id, revision, coalesce(options ->> '$.unfinished', 0) FROM scans
 WHERE lineage_id = ? AND revision IS NOT NULL AND id <> ? ORDER BY revision DESC LIMIT 1
"""
# A completed scan to which files were added since, so that its bindings are outdated.
UNFINISHED = """
UPDATE scans SET options = json_set(options, '$.unfinished', json('true'))
 WHERE id = ? AND revision IS NOT NULL AND options ->> '$.unfinished' IS NULL
"""
FINISHED = """
UPDATE scans SET options = json_remove(options, '$.unfinished') WHERE id = ? AND options ->> '$.unfinished' IS NOT NULL
"""


UNSEEN = """
DELETE FROM bindings WHERE lineage_id = ?1 AND NOT EXISTS (
       SELECT 1 FROM scans AS s WHERE s.lineage_id = ?1
          AND s.revision >= bindings.since AND (bindings.until IS NULL OR s.revision < bindings.until))
RETURNING version_id
"""
UNUSED = """
SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM scan_files WHERE version_id = value)
   AND NOT EXISTS (SELECT 1 FROM bindings WHERE version_id = value)
"""


class Baseline(NamedTuple):
    """The latest completed scan of a lineage (0, 0: none), its revision, and whether it must be finished again."""

    scan_id: int
    revision: int
    unfinished: int


def baseline(db: Database, lineage_id: int, scan_id: int) -> Baseline:
    row = db.execute_sql(LATEST, (lineage_id, scan_id)).fetchone()
    return Baseline(*row) if row else Baseline(0, 0, 0)


class ScanMeanings(NamedTuple):
    """The resolved paths of a scan, relative to a baseline: the ``changes`` since it or, if unknown, the ``whole``."""

    base: Baseline
    changes: dict[int, Targets] | None
    whole: dict[int, Targets] | None


ATTEMPTS = 3


def complete(
    db: Database, scan_id: int, lineage_id: int, now: str, then: Callable[[int], None] = lambda scan_id: None
) -> None:
    """Resolve a scan, then mark it completed in one short transaction.

    If another scan of the same target completes meanwhile, the scan is resolved again, finally with the write lock
    held. ``then`` is called with the id of the scan inside the transaction. Raises IllegalMove for a failed or
    cancelled scan. Nothing is written then.
    """
    for _ in range(ATTEMPTS):
        meanings = _resolve(db, scan_id, lineage_id)
        with db.atomic():
            if baseline(db, lineage_id, scan_id) == meanings.base:
                _settle(db, scan_id, lineage_id, meanings, now)
                then(scan_id)
                return
    with db.atomic():
        _settle(db, scan_id, lineage_id, _resolve(db, scan_id, lineage_id), now)
        then(scan_id)


def _resolve(db: Database, scan_id: int, lineage_id: int) -> ScanMeanings:
    base = baseline(db, lineage_id, scan_id)
    if base.scan_id and not base.unfinished:
        if db.execute_sql(SAME_FILES, {"a": scan_id, "b": base.scan_id}).fetchone()[0]:
            return ScanMeanings(base, {}, None)
        changes = since(db, scan_id, base.scan_id, lineage_id, base.revision)
        if changes is not None:
            return ScanMeanings(base, changes, None)
    return ScanMeanings(base, None, whole(db, scan_id))


def _settle(db: Database, scan_id: int, lineage_id: int, meanings: ScanMeanings, now: str) -> None:
    """Write the resolved paths of a scan as the next revision of its lineage. Inside a transaction, based on their
    baseline.
    """
    row = db.execute_sql("SELECT revision FROM scans WHERE id = ?", (scan_id,)).fetchone()
    if row is None:
        raise NotFound(f"scan {scan_id} was removed while it was being recorded; record it again")
    if row[0] is not None:  # completed before, but files were added since, so its own bindings are replaced
        _forget(db, lineage_id, row[0])
    revision = db.execute_sql(NEXT_REVISION, (lineage_id,)).fetchone()[0]
    if meanings.whole is None:
        _change(db, lineage_id, meanings.base.revision, revision, meanings.changes or {})
    else:
        _replace(db, lineage_id, meanings.base.revision, revision, meanings.whole)
    if meanings.changes != {}:
        # Update the planner's statistics from samples: this takes a few milliseconds, and the views need it.
        db.execute_sql("PRAGMA analysis_limit = 400")
        db.execute_sql("ANALYZE")
    done = {"phase": "completed", "revision": revision, "completed_at": now, "error": None, "worker": None}
    move(db, SCANS, scan_id, "completed", **done)
    db.execute_sql(FINISHED, (scan_id,)).fetchall()


Row = tuple[int, int, int, int | None, int | None, int | None, str, int]  # path, nth, since, until and target


def _replace(db: Database, lineage_id: int, base: int, revision: int, targets: dict[int, Targets]) -> None:
    """Replace all bindings of the lineage by ``targets``, from a revision on."""
    rows = db.execute_sql(CURRENT, (lineage_id, base, base)).fetchall()
    _write(db, lineage_id, revision, rows, targets)


def _change(db: Database, lineage_id: int, base: int, revision: int, changes: dict[int, Targets]) -> None:
    """Continue the bindings of a revision, except for the changes."""
    # A revision that was removed since may have ended them.
    db.execute_sql(
        "UPDATE bindings SET until = NULL WHERE lineage_id = ?1 AND since <= ?2 AND until > ?2", (lineage_id, base)
    )
    rows = db.execute_sql(CURRENT_OF, (str(list(changes)), lineage_id, base)).fetchall()
    _write(db, lineage_id, revision, rows, changes)


def _write(db: Database, lineage_id: int, revision: int, rows: list[Row], targets: dict[int, Targets]) -> None:
    """End obsolete rows, continue valid ones, and begin missing ones. Each target of a path has its own."""
    wanted: dict[tuple[int, int], BoundTarget] = {}
    for path, each in targets.items():
        for nth, target in enumerate(each):
            wanted[path, nth] = target
    ended, extended = [], []
    for path, nth, begun, until, version, ordinal, resolution, confidence in rows:
        if wanted.get((path, nth)) == (version, ordinal, resolution, confidence):
            del wanted[path, nth]
            if until is not None:
                extended.append((lineage_id, path, begun, nth))
        else:
            ended.append((revision, lineage_id, path, begun, nth))
    where = "WHERE lineage_id = ? AND path_id = ? AND since = ? AND nth = ?"
    db.executemany(f"UPDATE bindings SET until = NULL {where}", extended)
    db.executemany(f"UPDATE bindings SET until = ? {where}", ended)
    db.executemany(
        "INSERT INTO bindings (lineage_id, path_id, since, nth, version_id, ordinal, resolution, confidence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((lineage_id, path, revision, nth, *target) for (path, nth), target in sorted(wanted.items())),
    )


def _forget(db: Database, lineage_id: int, revision: int) -> None:
    """Remove one revision from the lineage, with the intervals without a remaining completed scan, and the file
    versions that only they use.
    """
    db.execute_sql("UPDATE scans SET revision = NULL WHERE lineage_id = ? AND revision = ?", (lineage_id, revision))
    sweep(db, lineage_id)


def sweep(db: Database, lineage_id: int, versions: Iterable[int] = ()) -> dict[str, int]:
    """Remove the bindings that no completed scan of the lineage uses, and the unused file versions among the given and
    the bound ones. Return the number of removed rows by table. Inside the transaction that made them unused.
    """
    run, many = db.execute_sql, db.executemany
    bound = run(UNSEEN, (lineage_id,)).fetchall()
    candidates = {*versions, *(version for (version,) in bound if version is not None)}
    unused = run(UNUSED, (str(sorted(candidates)),)).fetchall()
    facts = {table: many(f"DELETE FROM {table} WHERE version_id = ?", unused).rowcount for table in FACT_TABLES}
    unseen = many("DELETE FROM file_versions WHERE id = ?", unused).rowcount
    return {"bindings": len(bound), **facts, "file_versions": unseen}
