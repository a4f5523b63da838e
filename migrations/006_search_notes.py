"""New findings are not noted for the full-text search any more: their ids say it.

Frozen. An id of a finding is never given twice, so those above the highest one in ``finding_search`` are the ones that
it does not have yet. To note each in ``search_changes`` took a quarter of the time in which findings are inserted.
"""

from __future__ import annotations

import peewee as pw
from peewee_migrate import Migrator

TRIGGER = """
    CREATE TRIGGER tr_findings_search_insert AFTER INSERT ON findings
    BEGIN INSERT INTO search_changes (kind, id) SELECT 'finding', NEW.id\
 WHERE NOT EXISTS (SELECT 1 FROM search_changes WHERE kind = 'finding' AND id = NEW.id); END
"""
NEW = "SELECT id FROM findings WHERE id > (SELECT coalesce(max(id), 0) FROM finding_search_docsize)"


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql("DROP TRIGGER tr_findings_search_insert")


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    migrator.sql(TRIGGER.strip())
    migrator.sql(f"INSERT OR IGNORE INTO search_changes (kind, id) SELECT 'finding', id FROM ({NEW})")
