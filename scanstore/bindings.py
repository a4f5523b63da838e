"""Completing a scan: what every path in it means, written as the difference to the scan before.

The bindings of a lineage are kept as intervals of revisions (see ``migrations/001_snapshot.py``). A completed scan is
resolved whole, from the interfaces of its files, and compared with the latest completed revision: equal rows stay as
they are, others end or begin. So what a scan shows never depends on the scans before it.
"""

from __future__ import annotations

from typing import NamedTuple

from scanstore.database import Database
from scanstore.errors import NotFound
from scanstore.indexing import unpack_interface
from scanstore.resolve import Module, Resolver, Target

MODULES = """
SELECT v.id, v.path, v.module, v.interface FROM scan_files AS f JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = ? AND v.interface IS NOT NULL ORDER BY v.path
"""
PATHS = """
SELECT n.text, n.id FROM names AS n WHERE n.id IN (
    SELECT r.path_id FROM scan_files AS f JOIN reference_facts AS r ON r.version_id = f.version_id
     WHERE f.scan_id = :scan AND r.path_id IS NOT NULL
    UNION
    SELECT i.path_id FROM scan_files AS f JOIN import_facts AS i ON i.version_id = f.version_id
     WHERE f.scan_id = :scan AND i.path_id IS NOT NULL)
"""
QUALIFIED = """
SELECT q.text, s.version_id, s.ordinal FROM scan_files AS f
  JOIN symbol_facts AS s ON s.version_id = f.version_id JOIN names AS q ON q.id = s.qualified_name_id
 WHERE f.scan_id = ? ORDER BY f.file_path, s.ordinal
"""
SAME_FILES = """
SELECT NOT EXISTS (SELECT version_id FROM scan_files WHERE scan_id = :a AND version_id IS NOT NULL
                   EXCEPT SELECT version_id FROM scan_files WHERE scan_id = :b)
   AND NOT EXISTS (SELECT version_id FROM scan_files WHERE scan_id = :b AND version_id IS NOT NULL
                   EXCEPT SELECT version_id FROM scan_files WHERE scan_id = :a)
"""
CURRENT = """
SELECT path_id, since, until, version_id, ordinal, resolution, confidence FROM bindings
 WHERE lineage_id = ? AND since <= ? AND (until IS NULL OR until > ?)
"""
LATEST = """
SELECT id, revision FROM scans WHERE lineage_id = ? AND revision IS NOT NULL AND id <> ? ORDER BY revision DESC LIMIT 1
"""


class Baseline(NamedTuple):
    """The latest completed scan of a lineage (0, 0: none) and the highest revision it ever had."""

    scan_id: int
    revision: int


def baseline(db: Database, lineage_id: int, scan_id: int) -> Baseline:
    row = db.execute_sql(LATEST, (lineage_id, scan_id)).fetchone()
    return Baseline(*row) if row else Baseline(0, 0)


def resolve(db: Database, scan_id: int) -> dict[int, Target]:
    """What each path in a scan's files means, by path id; what is missing lies outside the tree."""
    modules: dict[str, Module] = {}
    rank: dict[str, tuple[bool, bool, str]] = {}
    for version, path, module, blob in db.execute_sql(MODULES, (scan_id,)):
        # One name, two files: Python takes the package before the module; a stub gives way to its source.
        order = (path.endswith(".pyi"), not path.endswith(("__init__.py", "__init__.pyi")), path)
        if module in rank and rank[module] <= order:
            continue
        rank[module] = order
        interface = unpack_interface(blob)
        modules[module] = Module(version, interface["names"], interface["stars"])
    paths = dict(db.execute_sql(PATHS, {"scan": scan_id}).fetchall())
    resolver = Resolver(modules)
    named = [text for text in paths if text.startswith("#")]
    found = resolver.resolve(text for text in paths if not text.startswith("#"))
    if named:
        found.update(_by_name(db, scan_id, named))
    return {paths[text]: target for text, target in found.items()}


def _by_name(db: Database, scan_id: int, paths: list[str]) -> dict[str, Target]:
    """``#name``: the symbol with that qualified name; a guess where several have it."""
    wanted = {path[1:]: path for path in paths}
    places: dict[str, list[tuple[int, int]]] = {}
    for qualified, version, ordinal in db.execute_sql(QUALIFIED, (scan_id,)):
        if qualified in wanted:
            places.setdefault(qualified, []).append((version, ordinal))
    found = {}
    for qualified, path in wanted.items():
        where = places.get(qualified, [])
        if where:
            sure = len(where) == 1
            found[path] = Target(*where[0], "imported" if sure else "guessed", 100 if sure else 50)
        else:
            found[path] = Target(None, None, "unresolved", 0)
    return found


def complete(db: Database, scan_id: int, lineage_id: int, now: str) -> None:
    """Resolve a scan and mark it completed, in one short transaction after the work.

    If another scan of the same target completes meanwhile, the comparison is done again.
    """
    targets: dict[int, Target] | None = None
    for attempt in range(4):
        base = baseline(db, lineage_id, scan_id)
        same = bool(base.scan_id) and bool(db.execute_sql(SAME_FILES, {"a": scan_id, "b": base.scan_id}).fetchone()[0])
        if not same and targets is None:
            targets = resolve(db, scan_id)
        with db.atomic():
            if attempt < 3 and baseline(db, lineage_id, scan_id) != base:
                continue
            row = db.execute_sql("SELECT revision FROM scans WHERE id = ?", (scan_id,)).fetchone()
            if row is None:
                raise NotFound(f"scan {scan_id} was removed while it was being recorded; record it again")
            old = row[0]
            if old is not None:  # completed before, and files were added since: its own bindings are replaced
                _forget(db, lineage_id, old)
            revision = (
                1
                + db.execute_sql(
                    "SELECT max(coalesce((SELECT max(revision) FROM scans WHERE lineage_id = ?1), 0),"
                    " coalesce((SELECT max(since) FROM bindings WHERE lineage_id = ?1), 0))",
                    (lineage_id,),
                ).fetchone()[0]
            )
            if same:
                _keep(db, lineage_id, base.revision)
            else:
                _write(db, lineage_id, base.revision, revision, targets or {})
                # The planner's idea of the tables, from samples: a few milliseconds, and the views need it.
                db.execute_sql("PRAGMA analysis_limit = 400")
                db.execute_sql("ANALYZE")
            db.execute_sql(
                "UPDATE scans SET status = 'completed', phase = 'completed', revision = ?, completed_at = ?,"
                " error = NULL, worker = NULL WHERE id = ?",
                (revision, now, scan_id),
            )
            return


def _keep(db: Database, lineage_id: int, base: int) -> None:
    """Carry the bindings of a revision on; they may have been ended by one that was removed since."""
    db.execute_sql(
        "UPDATE bindings SET until = NULL WHERE lineage_id = ?1 AND since <= ?2 AND until > ?2",
        (lineage_id, base),
    )


def _write(db: Database, lineage_id: int, base: int, revision: int, targets: dict[int, Target]) -> None:
    ended, extended = [], []
    rest = dict(targets)
    for path, since, until, version, ordinal, resolution, confidence in db.execute_sql(
        CURRENT, (lineage_id, base, base)
    ):
        target = rest.get(path)
        if target == (version, ordinal, resolution, confidence):
            del rest[path]
            if until is not None:
                extended.append((lineage_id, path, since))
        else:
            ended.append((revision, lineage_id, path, since))
    where = "WHERE lineage_id = ? AND path_id = ? AND since = ?"
    db.executemany(f"UPDATE bindings SET until = NULL {where}", extended)
    db.executemany(f"UPDATE bindings SET until = ? {where}", ended)
    db.executemany(
        "INSERT INTO bindings (lineage_id, path_id, since, version_id, ordinal, resolution, confidence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((lineage_id, path, revision, *target) for path, target in sorted(rest.items())),
    )


def _forget(db: Database, lineage_id: int, revision: int) -> None:
    """Take one revision out of the lineage; intervals in which no completed scan is left go."""
    db.execute_sql("UPDATE scans SET revision = NULL WHERE lineage_id = ? AND revision = ?", (lineage_id, revision))
    sweep(db, lineage_id)


def sweep(db: Database, lineage_id: int) -> None:
    """Remove the bindings that no completed scan of the lineage sees."""
    db.execute_sql(
        "DELETE FROM bindings WHERE lineage_id = ?1 AND NOT EXISTS (SELECT 1 FROM scans AS s WHERE s.lineage_id = ?1"
        " AND s.revision >= bindings.since AND (bindings.until IS NULL OR s.revision < bindings.until))",
        (lineage_id,),
    )
