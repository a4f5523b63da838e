"""The date of a scene may be a month or a year, and a sync run counts the records that it set aside.

Frozen. ``scene_date`` is the first moment of the month or year, and ``scene_date_precision`` says which of them it is.
On the way back only the first day remains, in scenes and in the changes of plans.
"""

from __future__ import annotations

import hashlib
import json

import peewee as pw
from peewee_migrate import Migrator

PRECISION = """
    ALTER TABLE scenes ADD COLUMN scene_date_precision TEXT CONSTRAINT ck_scenes_scene_date_precision CHECK (
        CASE WHEN scene_date IS NULL THEN scene_date_precision IS NULL
             ELSE coalesce(scene_date_precision IN ('day', 'month', 'year'), 0) END)
"""
CONTENT = "title, paths, organized, details, created_date, scene_date, studio_id"
TRIGGER = """
    CREATE TRIGGER tr_scenes_updated_at AFTER UPDATE OF {content} ON scenes
    WHEN NEW.updated_at IS OLD.updated_at
    BEGIN UPDATE scenes SET updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = NEW.id; END
"""
VALUES = ("current_value", "proposed_value", "found_value")


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("DROP TRIGGER tr_scenes_updated_at")
    # SQLite tests a new constraint on the rows that are there, so the dates are put aside until it stands.
    migrator.sql("CREATE TEMP TABLE dates AS SELECT id, scene_date FROM scenes WHERE scene_date IS NOT NULL")
    migrator.sql("UPDATE scenes SET scene_date = NULL WHERE scene_date IS NOT NULL")
    migrator.sql(PRECISION.strip())
    migrator.sql("""
        UPDATE scenes SET scene_date = d.scene_date, scene_date_precision = 'day'
          FROM temp.dates AS d WHERE d.id = scenes.id
    """)
    migrator.sql("DROP TABLE temp.dates")
    migrator.sql(TRIGGER.format(content=f"{CONTENT}, scene_date_precision").strip())
    migrator.sql("CREATE INDEX ix_scenes_scene_date ON scenes (scene_date, id)")
    migrator.sql("ALTER TABLE sync_runs ADD COLUMN rejected INTEGER NOT NULL DEFAULT 0")


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("ALTER TABLE sync_runs DROP COLUMN rejected")
    migrator.sql("DROP INDEX ix_scenes_scene_date")
    migrator.sql("DROP TRIGGER tr_scenes_updated_at")
    migrator.sql("ALTER TABLE scenes DROP COLUMN scene_date_precision")
    migrator.sql(TRIGGER.format(content=CONTENT).strip())
    migrator.run(_whole_dates, database)


def _whole_dates(database: pw.Database) -> None:
    """Replace months and years in the changes of plans by their first day."""
    partial = " OR ".join(f"length({value}) IN (6, 9)" for value in VALUES)  # as JSON text, with its quotes
    sql = f"SELECT id, {', '.join(VALUES)} FROM plan_changes WHERE target = 'scene' AND field = 'date' AND ({partial})"
    for key, *values in database.execute_sql(sql).fetchall():
        current, proposed, found = map(_whole_date, values)
        database.execute_sql(
            "UPDATE plan_changes SET current_value = ?, proposed_value = ?, found_value = ? WHERE id = ?",
            (current, proposed, found, key),
        )
        # A plan that proposes the first day as well keeps the digest that tells the two apart.
        digest = hashlib.sha256((proposed or "null").encode()).digest()
        database.execute_sql("UPDATE OR IGNORE plan_changes SET proposed_hash = ? WHERE id = ?", (digest, key))


def _whole_date(value: str | None) -> str | None:
    date = None if value is None else json.loads(value)
    if isinstance(date, str) and len(date) in (4, 7):
        return json.dumps(f"{date}-01-01T00:00:00.000Z" if len(date) == 4 else f"{date}-01T00:00:00.000Z")
    return value
