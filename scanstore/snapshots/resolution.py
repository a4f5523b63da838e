"""Finding the paths of a scan that must be resolved again, and resolving them.

:func:`whole` evaluates every path of a snapshot. :func:`since` evaluates only the paths that a few changed files can
affect; all other paths keep their targets. It returns None if it cannot be sure.

A path is resolved by looking up names in interfaces. Each name comes from the path itself or from the text of an
interface entry on the way. So a change can affect a path only if the path contains the simple name of a changed entry,
or of an entry whose text contains such a name, and so on. That closure, with the paths of the changed files and the
paths that lead into them, is evaluated again. The tests compare the result with a clean scan after every one of many
random edits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from scanstore.db.database import Database
from scanstore.snapshots.resolver import IMPLICIT, BoundTarget, Module, Resolver, Targets
from scanstore.snapshots.source_roots import Spelled, imported, place_of

#: With more changed files, or more names in the closure, everything is evaluated.
MOST_FILES = 50
MOST_NAMES = 60

MODULES = """
SELECT v.id, v.path, v.module, v.interface FROM scan_files AS f JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = ? AND v.interface IS NOT NULL
"""
PATHS = """
SELECT n.text, n.id FROM (
    SELECT r.path_id AS id FROM scan_files AS f CROSS JOIN reference_facts AS r ON r.version_id = f.version_id
     WHERE f.scan_id = :scan AND r.path_id IS NOT NULL
    UNION
    SELECT i.path_id FROM scan_files AS f CROSS JOIN import_facts AS i ON i.version_id = f.version_id
     WHERE f.scan_id = :scan AND i.path_id IS NOT NULL) AS p
  CROSS JOIN names AS n ON n.id = p.id
"""
QUALIFIED = """
SELECT q.text, s.version_id, s.ordinal FROM scan_files AS f
  CROSS JOIN symbol_facts AS s ON s.version_id = f.version_id CROSS JOIN names AS q ON q.id = s.qualified_name_id
 WHERE f.scan_id = ? ORDER BY f.file_path, s.ordinal
"""
CHANGED = """
SELECT version_id FROM scan_files WHERE scan_id = ? AND version_id IS NOT NULL
EXCEPT SELECT version_id FROM scan_files WHERE scan_id = ?
"""
PATHS_OF_VERSIONS = """
SELECT n.id, n.text FROM (
    SELECT r.path_id AS id FROM json_each(?1) AS w CROSS JOIN reference_facts AS r ON r.version_id = w.value
     WHERE r.path_id IS NOT NULL
    UNION
    SELECT i.path_id FROM json_each(?1) AS w CROSS JOIN import_facts AS i ON i.version_id = w.value
     WHERE i.path_id IS NOT NULL) AS p
  CROSS JOIN names AS n ON n.id = p.id
"""
PATHS_TO_VERSIONS = """
SELECT b.path_id FROM json_each(?1) AS w
  CROSS JOIN bindings AS b ON b.version_id = w.value AND b.lineage_id = ?2 AND b.since <= ?3
                          AND (b.until IS NULL OR b.until > ?3)
"""
USED = """
SELECT n.text, n.id,
       EXISTS (SELECT 1 FROM reference_facts AS r JOIN scan_files AS f ON f.version_id = r.version_id
                WHERE r.path_id = n.id AND f.scan_id = ?2)
    OR EXISTS (SELECT 1 FROM import_facts AS i JOIN scan_files AS f ON f.version_id = i.version_id
                WHERE i.path_id = n.id AND f.scan_id = ?2)
  FROM json_each(?1) AS w CROSS JOIN names AS n ON n.id = w.value
"""
# The texts of one range of names that are paths of a scan's references or imports.
SPELLED = """
SELECT n.text FROM names AS n WHERE n.text >= ?1 AND n.text < ?2
   AND (EXISTS (SELECT 1 FROM reference_facts AS r JOIN scan_files AS f ON f.version_id = r.version_id
                 WHERE r.path_id = n.id AND f.scan_id = ?3)
     OR EXISTS (SELECT 1 FROM import_facts AS i JOIN scan_files AS f ON f.version_id = i.version_id
                 WHERE i.path_id = n.id AND f.scan_id = ?3))
"""
BY_NAME = "SELECT 1 FROM names WHERE text >= '#' AND text < '$' LIMIT 1"


def whole(db: Database, scan_id: int) -> dict[int, Targets]:
    """Return the targets of each path in a scan's files, by path id. Paths without an entry lead outside the tree."""
    paths = dict(db.execute_sql(PATHS, {"scan": scan_id}).fetchall())
    resolver = Resolver(_modules(db, scan_id), _spelled(db, scan_id))
    found = resolver.resolve(text for text in paths if not text.startswith("#"))
    found.update(_by_name(db, scan_id, [text for text in paths if text.startswith("#")]))
    return {paths[text]: targets for text, targets in found.items()}


def since(db: Database, scan_id: int, base_id: int, lineage_id: int, revision: int) -> dict[int, Targets] | None:
    """Return the changes since the completed scan ``base_id``: path ids with their new targets (none: outside, or
    unused). Return None if a complete resolution is needed.
    """
    new = [version for (version,) in db.execute_sql(CHANGED, (scan_id, base_id))]
    old = [version for (version,) in db.execute_sql(CHANGED, (base_id, scan_id))]
    if len(new) > MOST_FILES or len(old) > MOST_FILES or db.execute_sql(BY_NAME).fetchone():
        return None
    before, after = _modules(db, base_id), _modules(db, scan_id)
    names = _touched(before, after)
    if names is None:
        return None
    resolver = Resolver(after, _spelled(db, scan_id))
    mentioned = dict(db.execute_sql(PATHS_OF_VERSIONS, (str(old),)).fetchall())
    now = dict(db.execute_sql(PATHS_OF_VERSIONS, (str(new),)).fetchall())
    tops = _spelled_otherwise(mentioned.values(), now.values()) | _redefined(before, after)
    roots_before = resolver.roots.before(before, _spelled(db, base_id))
    if any(roots_before.is_trusted(top) != resolver.roots.is_trusted(top) for top in tops):
        return None
    ids = mentioned.keys() | now.keys()
    # Also a file that still exists, but is no longer the module of its name.
    left = {*old, *(then.version for module, then in before.items() if then.version != after[module].version)}
    ids.update(path for (path,) in db.execute_sql(PATHS_TO_VERSIONS, (str(list(left)), lineage_id, revision)))
    if names:
        ids.update(_mentioning(db, names))
    result: dict[int, Targets] = {}
    for text, path, used in db.execute_sql(USED, (str(list(ids)), scan_id)).fetchall():
        result[path] = resolver.target(text) if used else ()
    return result


def lookup(db: Database, scan_id: int, name: str) -> BoundTarget | None:
    """Return the target of an imported dotted name, or None if it is not in the tree or not the only one."""
    parts = name.split(".")
    resolver = Resolver(_modules(db, scan_id), _spelled(db, scan_id))
    for n in range(len(parts) - 1, 0, -1):
        targets = resolver.target(f"={'.'.join(parts[:n])}:.{'.'.join(parts[n:])}")
        if len(targets) == 1 and targets[0].version is not None and targets[0].resolution != "guessed":
            return targets[0]
    return None


def _modules(db: Database, scan_id: int) -> dict[str, Module]:
    """Return the importable files of a scan. If two files have one name, a package takes precedence over a module, and
    a source over its stub.
    """
    modules: dict[str, Module] = {}
    rank: dict[str, tuple[bool, bool, str]] = {}
    for version, path, module, blob in db.execute_sql(MODULES, (scan_id,)).fetchall():
        order = (path.endswith(".pyi"), not path.endswith(("__init__.py", "__init__.pyi")), path)
        if module not in rank or order < rank[module]:
            rank[module] = order
            modules[module] = Module(version, blob, path)
    return modules


def _spelled(db: Database, scan_id: int) -> Spelled:
    """Return the function that gives the paths of a scan by the first name of their module."""

    def spelled(top: str) -> Iterator[str]:
        for start in ("", "="):
            for end, after in (".", "/"), (":", ";"):
                limits = (f"{start}{top}{end}", f"{start}{top}{after}", scan_id)
                for (text,) in db.execute_sql(SPELLED, limits).fetchall():
                    yield text

    return spelled


def _touched(before: dict[str, Module], after: dict[str, Module]) -> set[str] | None:
    """Return the simple names that the changed interfaces can affect, or None if unknown."""
    if before.keys() != after.keys() or any(then.path != after[module].path for module, then in before.items()):
        return None
    names: set[str] = set()
    for module, now in after.items():
        then = before[module]
        if then.version == now.version or then.packed == now.packed:
            continue
        if then.stars != now.stars:
            return None
        for qual in then.names.keys() | now.names.keys():
            old, new = then.names.get(qual), now.names.get(qual)
            if old is None or new is None or old[0] != new[0] or old[2:] != new[2:]:
                names.add(simple(qual))
    fresh = names
    while fresh:
        if len(names) > MOST_NAMES or names & IMPLICIT or not all(name.isascii() for name in fresh):
            return None
        pattern = _any_of(fresh)
        found = {
            simple(qual)
            for module in after.values()
            if pattern.search(module.text)
            for qual, entry in module.names.items()
            if _entry_matches(entry[2], pattern)
        }
        fresh = found - names
        names |= fresh
    return names


def _spelled_otherwise(old: Iterable[str], new: Iterable[str]) -> set[str]:
    """Return the first names of modules whose imports differ."""
    before, after = imported(old), imported(new)
    return {top for top in before.keys() | after.keys() if before.get(top) != after.get(top)}


def _redefined(before: dict[str, Module], after: dict[str, Module]) -> set[str]:
    """Return all parts of the places of modules that define other names than before."""
    found: set[str] = set()
    for module, then in before.items():
        now = after[module]
        if then.packed != now.packed and (then.names.keys() != now.names.keys() or then.stars != now.stars):
            found.update(place_of(now.path)[0].split("."))
    return found


def _entry_matches(value: str | list[str] | None, pattern: re.Pattern[str]) -> bool:
    if isinstance(value, list):
        return any(pattern.search(path) for path in value)
    return value is not None and pattern.search(value) is not None


def simple(qual: str) -> str:
    """Return the last name of an interface entry: ``foo`` for ``C.foo`` and ``C().foo``."""
    return qual.rpartition(".")[2]


def _any_of(names: set[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, names)))})(?!\w)")


def _mentioning(db: Database, names: set[str]) -> Iterator[int]:
    """Return the ids of the interned texts that contain one of the names as a word."""
    pattern = _any_of(names)
    condition = " OR ".join("instr(text, ?)" for _ in names)
    for path, text in db.execute_sql(f"SELECT id, text FROM names WHERE {condition}", sorted(names)).fetchall():
        if pattern.search(text):
            yield path


def _by_name(db: Database, scan_id: int, paths: list[str]) -> dict[str, Targets]:
    """Resolve ``#name``: the symbol with this qualified name, or a guess if there are several."""
    if not paths:
        return {}
    wanted = {path[1:]: path for path in paths}
    places: dict[str, list[tuple[int, int]]] = {}
    for qualified, version, ordinal in db.execute_sql(QUALIFIED, (scan_id,)):
        if qualified in wanted:
            places.setdefault(qualified, []).append((version, ordinal))
    found: dict[str, Targets] = {}
    for qualified, path in wanted.items():
        where = places.get(qualified, [])
        if where:
            sure = len(where) == 1
            found[path] = (BoundTarget(*where[0], "imported" if sure else "guessed", 100 if sure else 50),)
        else:
            found[path] = (BoundTarget(None, None, "unresolved", 0),)
    return found
