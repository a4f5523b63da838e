"""The figures of a completed scan: counts of its files by language, and of its symbols and references by column.

``scans.finish`` keeps them in three tables if the scan has read many files; ``store.optimize`` keeps those of the
latest scan of each target. Triggers remove them when the files of the scan change, see
``migrations/012_page_indexes.py``. A scan without kept figures is counted by the same queries.

Change here: the counts that are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scanstore.indexing.facts import REFERENCE_TYPES, RESOLUTIONS, SYMBOL_TYPES
from scanstore.indexing.languages import FileGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scanstore.db.database import Database

# INDEXED BY: with statistics from a time of few scans, the planner would read the files of all scans.
FILES = "{scans} CROSS JOIN scan_files AS f INDEXED BY uq_scan_files_scan_id_file_path ON f.scan_id = c.id"
RESOLVED = """
CASE WHEN x.symbol_ordinal IS NOT NULL OR x.path_id IS NULL OR c.revision IS NULL THEN x.resolution
     WHEN b.path_id IS NULL THEN 'external'
     WHEN b.resolution = 'imported' AND b.version_id = x.version_id THEN 'exact' ELSE b.resolution END
"""
BOUND = """
LEFT JOIN bindings AS b ON x.symbol_ordinal IS NULL AND b.lineage_id = c.lineage_id AND b.path_id = x.path_id
      AND b.nth = 0 AND b.since <= c.revision AND (b.until IS NULL OR b.until > c.revision)
"""


def _counted(source: str, **kinds: Sequence[str]) -> str:
    """Return a query for the counts of each column with its words.

    The words are summed one by one, because to group the rows SQLite would sort them, which takes twice as long.
    """
    sums = []
    for kind, words in kinds.items():
        each = ", ".join(f"'{word}', sum({kind} = '{word}')" for word in words)
        sums.append(f"'{kind}', json_object({each})")
    return (
        "SELECT s.scan_id, trim(t.path, '$.\"') AS kind, t.key AS value, t.value AS count FROM"
        f" (SELECT scan_id, json_object({', '.join(sums)}) AS counts FROM ({source}) GROUP BY scan_id) AS s"
        " CROSS JOIN json_tree(s.counts) AS t WHERE t.type = 'integer' AND t.value > 0"
    )


# These count the rows of views, written out because grouping a view would build all its rows first. LIMIT keeps SQLite
# from computing a resolution for each word.
SYMBOLS = _counted(
    f"SELECT c.id AS scan_id, x.symbol_type FROM {FILES} CROSS JOIN symbol_facts AS x ON x.version_id = f.version_id",
    symbol_type=SYMBOL_TYPES,
)
REFERENCES = _counted(
    f"SELECT c.id AS scan_id, x.reference_type, {RESOLVED} AS resolution FROM {FILES}"
    f" CROSS JOIN reference_facts AS x ON x.version_id = f.version_id {BOUND} LIMIT -1",
    reference_type=REFERENCE_TYPES,
    resolution=RESOLUTIONS,
)
# The text after the last dot; rtrim removes all characters that are no dots from the end.
ENDING = "substr(f.file_path, length(rtrim(f.file_path, replace(f.file_path, '.', ''))) + 1)"
NUMBERS = ("files", "lines", "symbols", "refs", "imports", "chunks")
_FACTS = ("symbol_facts", "reference_facts", "import_facts", "chunk_facts")
_SUMS = ", ".join(
    f"sum((SELECT count(*) FROM {table} AS x WHERE x.version_id = f.version_id)) AS {name}"
    for table, name in zip(_FACTS, NUMBERS[2:], strict=True)
)
GROUPS = f"""
SELECT c.id AS scan_id,
       CASE WHEN instr(f.file_path, '.') AND NOT instr({ENDING}, '/') THEN {ENDING} ELSE '' END AS ending,
       coalesce(v.indexer, '') AS indexer, f.status, coalesce(v.error, f.error, '') <> '' AS broken,
       count(*) AS files, coalesce(sum(v.line_count), 0) AS lines, {_SUMS}
  FROM {FILES} LEFT JOIN file_versions AS v ON v.id = f.version_id
 GROUP BY 1, 2, 3, 4, 5
"""
REUSED = """
SELECT count(*) FROM scan_files AS f INDEXED BY uq_scan_files_scan_id_file_path WHERE f.scan_id = {scan}
   AND EXISTS (SELECT 1 FROM scan_files AS e WHERE e.version_id = f.version_id AND e.scan_id < f.scan_id)
"""
ONE = "(SELECT id, lineage_id, revision FROM scans WHERE id = ?1) AS c"
KEPT = "scan_figures AS k CROSS JOIN scans AS c ON c.id = k.scan_id"
TABLES = ("scan_figures", "scan_counts", "scan_groups")
SHARE = 10  #: figures are kept at once if one in so many files is new
GROUP_COLUMNS = ("ending", "indexer", "status", "broken", *NUMBERS)
_COUNTED = f"{SYMBOLS} UNION ALL {REFERENCES}".replace("{scans}", ONE)
_GROUPED = GROUPS.replace("{scans}", ONE)


class Figures(NamedTuple):
    """The counts of one scan; ``reused`` files were known from an earlier scan when it was completed."""

    reused: int
    groups: list[FileGroup]
    resolutions: dict[str, int]


# The files of a scan, and those of them that no earlier scan had read.
NEW = f"""
SELECT (SELECT count(*) FROM scan_files INDEXED BY uq_scan_files_scan_id_file_path WHERE scan_id = ?1),
       (SELECT count(*) FROM scan_files AS f INDEXED BY uq_scan_files_scan_id_file_path WHERE f.scan_id = ?1
           AND f.version_id IS NOT NULL) - ({REUSED.format(scan="?1")})
"""
# The latest scan of each target, if it has no figures.
LACKING = """
SELECT s.id
  FROM (SELECT lineage_id, max(revision) AS revision FROM scans WHERE revision > 0 GROUP BY lineage_id) AS last
 CROSS JOIN scans AS s ON s.lineage_id = last.lineage_id AND s.revision = last.revision
 WHERE NOT EXISTS (SELECT 1 FROM scan_figures WHERE scan_id = s.id)
"""


def keep_if_cheap(db: Database, scan_id: int) -> None:
    """Keep the figures of a scan that has read many files: counting all facts would double the cost of a small one."""
    files, new = db.execute_sql(NEW, (scan_id,)).fetchone()
    if new * SHARE >= files:
        keep(db, scan_id)


def keep_missing(db: Database) -> int:
    """Keep the figures of the latest scan of each target, if it has none; return the number of scans."""
    scans = db.execute_sql(LACKING).fetchall()
    for (scan_id,) in scans:
        keep(db, scan_id)
    return len(scans)


def keep(db: Database, scan_id: int) -> None:
    """Count a completed scan and keep the figures. Atomic."""
    run = db.execute_sql
    with db.atomic():
        for table in TABLES:
            run(f"DELETE FROM {table} WHERE scan_id = ?", (scan_id,))
        run(f"INSERT INTO scan_figures (scan_id, reused) SELECT ?1, ({REUSED.format(scan='?1')})", (scan_id,))
        run(f"INSERT INTO scan_counts (scan_id, kind, value, count) {_COUNTED}", (scan_id,))
        run(f"INSERT INTO scan_groups (scan_id, {', '.join(GROUP_COLUMNS)}) {_GROUPED}", (scan_id,))


def restored() -> tuple[str, ...]:
    """Return the statements that count all completed scans of a store without figures."""
    reused = REUSED.format(scan="s.id")
    return (f"INSERT INTO scan_figures (scan_id, reused) SELECT id, ({reused}) FROM scans AS s WHERE revision > 0",)


def groups(db: Database, scan_id: int) -> list[FileGroup]:
    """Return the files of a scan, grouped by all that decides about their language and facts."""
    return _groups(db, scan_id, kept=_reused(db, scan_id) is not None)


def figures(db: Database, scan_id: int) -> Figures:
    """Return the figures of a scan, kept or counted."""
    reused = _reused(db, scan_id)
    if reused is None:
        (count,) = db.execute_sql(REUSED.format(scan="?1"), (scan_id,)).fetchone()
        rows = db.execute_sql(REFERENCES.replace("{scans}", ONE), (scan_id,)).fetchall()
        resolutions = {value: number for _, kind, value, number in rows if kind == "resolution"}
        return Figures(count, _groups(db, scan_id, kept=False), resolutions)
    sql = "SELECT value, count FROM scan_counts WHERE scan_id = ? AND kind = 'resolution'"
    return Figures(reused, _groups(db, scan_id, kept=True), dict(db.execute_sql(sql, (scan_id,)).fetchall()))


def _reused(db: Database, scan_id: int) -> int | None:
    """Return the kept number of reused files, or None without kept figures."""
    row = db.execute_sql("SELECT reused FROM scan_figures WHERE scan_id = ?", (scan_id,)).fetchone()
    return None if row is None else row[0]


def _groups(db: Database, scan_id: int, *, kept: bool) -> list[FileGroup]:
    source = "scan_groups WHERE scan_id = ?1" if kept else f"({_GROUPED})"
    return [FileGroup(*row) for row in db.execute_sql(f"SELECT {', '.join(GROUP_COLUMNS)} FROM {source}", (scan_id,))]
