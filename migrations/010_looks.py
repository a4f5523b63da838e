"""What a report says of itself is kept with its run: its category, why it cannot be relied on, and when it came again.

Frozen. ``category`` is the automation id up to its last slash; ``troubles`` are the reasons, a sentence each, for which
a check must not pass by this run; ``left_out`` counts its results that could not be used (none: unknown). A report that
repeats the latest one of its target, tool and category makes no new scan: it is counted in ``repeats``.
"""

from __future__ import annotations

import json
import zlib

import peewee as pw
from peewee_migrate import Migrator

COLUMNS = (
    "category TEXT NOT NULL DEFAULT ''",
    "troubles TEXT NOT NULL DEFAULT '[]' CONSTRAINT ck_tool_runs_troubles CHECK (json_valid(troubles))",
    "left_out INTEGER DEFAULT 0",
    "repeats INTEGER NOT NULL DEFAULT 0",
    "repeated_at TEXT",
)
UNKNOWN = "the tool failed, or some of its results could not be used"


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for column in COLUMNS:
        migrator.sql(f"ALTER TABLE tool_runs ADD COLUMN {column}")
    migrator.sql("UPDATE tool_runs SET troubles = json_array(?), left_out = NULL WHERE NOT successful", UNKNOWN)
    migrator.run(_categories, database)


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    for column in reversed(COLUMNS):
        migrator.sql(f"ALTER TABLE tool_runs DROP COLUMN {column.partition(' ')[0]}")


def _categories(database: pw.Database) -> None:
    """Read the category of each run from what was packed of its report."""
    for (key,) in database.execute_sql("SELECT id FROM tool_runs WHERE detail IS NOT NULL").fetchall():
        (detail,) = database.execute_sql("SELECT detail FROM tool_runs WHERE id = ?", (key,)).fetchone()
        try:
            told = json.loads(zlib.decompress(detail)).get("automation_id") or ""
        except (zlib.error, ValueError, AttributeError):  # damaged, which `check` reports
            continue
        category = told.rpartition("/")[0]
        if category:
            database.execute_sql("UPDATE tool_runs SET category = ? WHERE id = ?", (category, key))
