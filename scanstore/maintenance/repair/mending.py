"""Make saved rows consistent again if some are missing.

A row that points at something that is lost goes too or stops pointing, counters are counted again, and a row whose
values cannot be read by its model goes. Change here: MENDING, for promises that several tables break together. The
promises that a row breaks by itself are in :mod:`scanstore.maintenance.invariants`.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from scanstore import models
from scanstore.db import schema
from scanstore.db.fields import IdField, JSONField, UUIDField
from scanstore.db.values import format_time
from scanstore.maintenance import derived
from scanstore.maintenance.derived import Counted
from scanstore.maintenance.invariants import BROKEN
from scanstore.snapshots import facts
from scanstore.snapshots.facts import FACT_TABLES

_ROUNDS = 20  # each is a step of rows that point at rows

# Statements that make rows fit together again, where some are missing. They run until none finds anything.
MENDING = (
    *(broken.repair for broken in BROKEN),
    *(sql for each in derived.COLUMNS for sql in each.rebuild),
    "UPDATE draft_findings SET status = 'skipped', lease_until = NULL, next_retry_at = NULL WHERE status = 'verified'"
    " AND id NOT IN (SELECT draft_id FROM verified_findings)",
    "UPDATE verified_findings SET status = 'failed', error = 'its finding is lost' WHERE status = 'complete'"
    " AND NOT EXISTS (SELECT 1 FROM sightings WHERE verified_id = verified_findings.id)",
    "DELETE FROM findings WHERE id NOT IN (SELECT finding_id FROM sightings)"
    " AND id NOT IN (SELECT finding_id FROM finding_events)",
)
OF_FILES = ("scans", "lineages", "scan_files", "file_versions", "names", "bindings", *FACT_TABLES)
# Nobody can say of which file versions some facts are lost, nor of which scans some meanings: no scan to come takes
# them over, files are read anew.
OUTDATED = (
    "UPDATE file_versions SET indexer = indexer || ' (repaired)' WHERE indexer NOT LIKE 'scan:%'",
    "UPDATE scans SET options = json_set(options, '$.unfinished', json('true')) WHERE revision IS NOT NULL",
)


@contextmanager
def without_triggers(connection: sqlite3.Connection) -> Iterator[None]:
    """Rows are written as they are, for the time of the block."""
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f'DROP TRIGGER "{name}"')
    yield
    for _, sql in triggers:
        connection.execute(sql)


def foreign_keys(connection: sqlite3.Connection) -> Iterator[str]:
    """Statements that remove rows that point at nothing, or clear the column that does where it may be empty."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").fetchall()
    for (table,) in tables:
        nullable = {c[1] for c in connection.execute(f'PRAGMA table_info("{table}")') if not c[3] and not c[5]}
        for key in connection.execute(f'PRAGMA foreign_key_list("{table}")').fetchall():
            _, _, parent, column, there, _, on_delete, _ = key
            lost = (
                f'"{column}" IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "{parent}" AS parent'
                f' WHERE parent."{there}" = "{table}"."{column}")'
            )
            if column in nullable and on_delete != "CASCADE":
                yield f'UPDATE OR IGNORE "{table}" SET "{column}" = NULL WHERE {lost}'
            yield f'DELETE FROM "{table}" WHERE {lost}'


def until_settled(connection: sqlite3.Connection, statements: Iterable[str]) -> Counter[str]:
    """Run the statements again and again until none of them changes anything; return the changed rows by table."""
    again, changed = list(statements), Counter[str]()
    for _ in range(_ROUNDS):
        before = connection.total_changes
        for sql in again:
            rows = connection.execute(sql).rowcount
            if rows > 0 and (table := re.match(r'(?:DELETE FROM|UPDATE(?: OR IGNORE)?) "?(\w+)', sql)):
                changed[table[1]] += rows
        if connection.total_changes == before:
            break
    return changed


def count(connection: sqlite3.Connection) -> None:
    """Recalculate all counters, and index the names. Optimizing the store keeps the figures of the scans."""
    for each in (*derived.COUNTERS, derived.NAMES):
        for sql in each.rebuild:
            connection.execute(sql)


Rows = list[dict[str, object]]


def deficits(counted: Counted, before: Rows, now: Rows) -> Counter[str]:
    """Return how many rows fewer each counted table has than its counters said before."""
    number = counted.numbers[0]
    there = {tuple(row[column] for column in counted.key): row[number] for row in now}
    missing = Counter[str]()
    for row in before:
        said, found = row[number], there.get(tuple(row[column] for column in counted.key), 0)
        if isinstance(said, int) and isinstance(found, int) and said > found:
            missing[counted.source(row)] += said - found
    return missing


# Values that models can read


def unreadable(connection: sqlite3.Connection) -> Iterator[str]:
    """Statements that remove rows whose times, UUIDs or JSON cannot be read by their model."""
    connection.create_function("readable_time", 1, _readable_time, deterministic=True)
    connection.create_function("is_uuid", 1, _is_uuid, deterministic=True)
    for table, columns in schema.times().items():
        yield f"DELETE FROM {table} WHERE " + " OR ".join(
            f"{c} IS NOT NULL AND readable_time({c}) IS NULL" for c in columns
        )
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for model in (*(getattr(models, name) for name in models.__all__), *vars(facts).values()):
        meta = getattr(model, "_meta", None)
        if meta is None or meta.table_name not in tables:
            continue
        tests = [
            f'"{name}" IS NOT NULL AND NOT {"json_valid" if isinstance(field, JSONField) else "is_uuid"}("{name}")'
            for name, field in meta.columns.items()
            if isinstance(field, JSONField | UUIDField) and not isinstance(field, IdField)
        ]
        if tests:
            yield f'DELETE FROM "{meta.table_name}" WHERE ' + " OR ".join(tests)


def rewrite_times(connection: sqlite3.Connection) -> Iterator[str]:
    """Write readable times as all others are written, and say of which columns; one without a zone is in UTC."""
    for table, columns in schema.times().items():
        for column in columns:
            sql = (
                f"UPDATE OR IGNORE {table} SET {column} = readable_time({column})"
                f" WHERE {column} NOT GLOB '{schema.TIME}'"
            )
            if rows := connection.execute(sql).rowcount:
                name = column.strip('"')
                yield f"{rows} times of {name} in {table} were written in another way; they are written as others now"


def _readable_time(value: object) -> str | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        if time is None:
            return None
        return format_time(time if time.tzinfo else time.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False
