"""Keeping a store healthy: is everything in it as it should be, and how large has it become.

A check that finds nothing returns an empty list. Add one here for every promise about stored rows that the database
itself does not enforce.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from scanstore.database import Database
from scanstore.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator


class Problem(NamedTuple):
    """Something that should not be, and what to do about it."""

    what: str
    remedy: str


class TableStats(NamedTuple):
    """Rows of a table and bytes with its indexes (None where SQLite was built without ``dbstat``)."""

    name: str
    rows: int
    bytes: int | None


class Stats(NamedTuple):
    """A store in figures; ``bytes`` is the file with its log."""

    path: str
    bytes: int
    scans: int
    lines: int
    tables: list[TableStats]


# Rows that point at nothing, for what is not a foreign key: interned names, places in files, bindings.
DANGLING = {
    "symbols without a name": """
        SELECT count(*) FROM symbol_facts AS s WHERE NOT EXISTS (SELECT 1 FROM names WHERE id = s.name_id)
            OR NOT EXISTS (SELECT 1 FROM names WHERE id = s.qualified_name_id)""",
    "references without a name": """
        SELECT count(*) FROM reference_facts AS r WHERE NOT EXISTS (SELECT 1 FROM names WHERE id = r.name_id)
            OR (r.path_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM names WHERE id = r.path_id))""",
    "imports without a name": """
        SELECT count(*) FROM import_facts AS i WHERE NOT EXISTS (SELECT 1 FROM names WHERE id = i.module_id)
            OR (i.path_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM names WHERE id = i.path_id))""",
    "references from or to a symbol that their file does not have": """
        SELECT count(*) FROM reference_facts AS r
         WHERE (r.symbol_ordinal IS NOT NULL AND NOT EXISTS (SELECT 1 FROM symbol_facts AS s
                   WHERE s.version_id = r.version_id AND s.ordinal = r.symbol_ordinal))
            OR (r.from_ordinal IS NOT NULL AND NOT EXISTS (SELECT 1 FROM symbol_facts AS s
                   WHERE s.version_id = r.version_id AND s.ordinal = r.from_ordinal))""",
    "bindings to a symbol that is not there": """
        SELECT count(*) FROM bindings AS b WHERE b.version_id IS NOT NULL AND NOT EXISTS
            (SELECT 1 FROM symbol_facts AS s WHERE s.version_id = b.version_id AND s.ordinal = b.ordinal)""",
    "bindings that overlap": """
        SELECT count(*) FROM bindings AS a JOIN bindings AS b ON b.lineage_id = a.lineage_id AND b.path_id = a.path_id
           AND b.since > a.since AND (a.until IS NULL OR a.until > b.since)""",
    "bindings that no scan sees": """
        SELECT count(*) FROM bindings AS b WHERE NOT EXISTS (SELECT 1 FROM scans AS s WHERE s.lineage_id = b.lineage_id
           AND s.revision >= b.since AND (b.until IS NULL OR s.revision < b.until))""",
    "completed scans without a revision, or others with one": """
        SELECT count(*) FROM scans WHERE (status = 'completed') <> (revision IS NOT NULL)""",
    "files marked done without anything recorded": """
        SELECT count(*) FROM scan_files WHERE status = 'done' AND version_id IS NULL""",
    "file versions that no scan uses": """
        SELECT count(*) FROM file_versions AS v WHERE NOT EXISTS (SELECT 1 FROM scan_files WHERE version_id = v.id)
           AND NOT EXISTS (SELECT 1 FROM bindings WHERE version_id = v.id)""",
    "values that are not JSON": """
        SELECT (SELECT count(*) FROM symbol_facts WHERE metadata IS NOT NULL AND NOT json_valid(metadata))
             + (SELECT count(*) FROM import_facts WHERE NOT json_valid(imported_names))""",
}
AGAIN = "restore a backup, or remove the scans concerned and record them again"


def check(db: Database) -> list[Problem]:
    """Look for damage: SQLite's own integrity, foreign keys, and what the schema cannot enforce. Reads only.

    Returns one problem per kind, an empty list for a healthy store.
    """
    return list(_problems(db))


def _problems(db: Database) -> Iterator[Problem]:
    try:
        for (text,) in db.execute_sql("PRAGMA integrity_check(20)").fetchall():
            if text != "ok":
                yield Problem(f"the file is damaged: {text}", "restore a backup")
        orphans: dict[tuple[str, str], int] = {}
        for table, _, parent, _ in db.execute_sql("PRAGMA foreign_key_check").fetchall():
            orphans[table, parent] = orphans.get((table, parent), 0) + 1
        for (table, parent), count in sorted(orphans.items()):
            yield Problem(f"{count} rows of {table} point at rows of {parent} that are gone", AGAIN)
        for what, sql in DANGLING.items():
            count = db.execute_sql(sql).fetchone()[0]
            if count:
                yield Problem(f"{count} {what}", AGAIN)
    except (Damaged, sqlite3.DatabaseError) as error:
        yield Problem(f"the file is damaged: {error}", "restore a backup")


def stats(db: Database) -> Stats:
    """Count rows and bytes, largest tables first."""
    tables = [
        name for (name,) in db.execute_sql(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    ]  # fmt: skip
    sizes = _sizes(db)
    rows = [
        TableStats(
            name,
            db.execute_sql(f'SELECT count(*) FROM "{name}"').fetchone()[0],
            sizes.get(name) if sizes else None,
        )
        for name in tables
    ]
    rows.sort(key=lambda t: (-(t.bytes or 0), -t.rows, t.name))
    run = db.execute_sql
    return Stats(
        path=db.name,
        bytes=_file_bytes(db),
        scans=run("SELECT count(*) FROM scans").fetchone()[0],
        lines=run("SELECT coalesce(sum(line_count), 0) FROM file_versions").fetchone()[0],
        tables=rows,
    )


def _sizes(db: Database) -> dict[str, int]:
    """Bytes per table, indexes included; empty where SQLite cannot say."""
    import peewee

    try:
        return dict(
            db.execute_sql(
                "SELECT s.tbl_name, sum(d.pgsize) FROM dbstat AS d JOIN sqlite_schema AS s ON s.name = d.name"
                " WHERE d.aggregate = 1 GROUP BY s.tbl_name"
            ).fetchall()
        )
    except peewee.PeeweeException:
        return {}


def _file_bytes(db: Database) -> int:
    total = 0
    for suffix in ("", "-wal"):
        try:
            total += os.stat(db.file + suffix).st_size
        except OSError:
            continue
    return total
