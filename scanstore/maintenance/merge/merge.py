"""Merging: copy the rows that only the other store has, in one transaction.

The other store is attached read-only, and is read as it is at one moment. What makes two rows the same is said in
:mod:`scanstore.maintenance.merge.scans`, :mod:`scanstore.maintenance.merge.findings` and
:mod:`scanstore.maintenance.merge.others`, what becomes of tables of the user's own in
:mod:`scanstore.maintenance.merge.user_tables`; the statements that all of them use are in
:mod:`scanstore.maintenance.merge.rows`. Each table of the schema is merged by one of these, or named in ``NOT_MERGED``
with the reason; a test holds that against the schema.

Change here: the order of the parts, and the tables that are not merged.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db import foreign_schema
from scanstore.db.arguments import check_path
from scanstore.db.blocks import Scope
from scanstore.db.database import SCHEMA_VERSION, Database
from scanstore.db.files import limited, quoted, seconds_for, uri
from scanstore.db.notebooks import described
from scanstore.db.opening import refuse
from scanstore.db.progress import Meter
from scanstore.errors import IllegalMove, InvalidArgument, ReadOnly
from scanstore.maintenance.compaction import ESTIMATE
from scanstore.maintenance.derived import COUNTERS, FIGURES, FIGURES_OF, NOTES, OF_FILE, OF_PROCESSES
from scanstore.maintenance.merge.findings import merge_findings
from scanstore.maintenance.merge.others import merge_accounts, merge_jobs, merge_library, merge_plans
from scanstore.maintenance.merge.rows import Merge, MergeConflict, Merged
from scanstore.maintenance.merge.scans import merge_models, merge_scans
from scanstore.maintenance.merge.user_tables import merge_user_tables

if TYPE_CHECKING:
    from scanstore.db.progress import ProgressCallback

PARTS = (
    merge_models, merge_scans, merge_library, merge_findings, merge_plans, merge_jobs, merge_accounts,
    merge_user_tables,
)  # fmt: skip
#: Tables that no part takes over, and why.
NOT_MERGED = {
    "sync_runs": "by one of theirs the next sync would take our library for newer than it is",
    **dict.fromkeys(OF_PROCESSES, "they belong to processes that run right now"),
    **dict.fromkeys((*(each.table for each in COUNTERS), NOTES), "they follow from other rows"),
    **dict.fromkeys((FIGURES_OF, *(each.table for each in FIGURES)), "completing a scan makes them of other rows"),
    **dict.fromkeys(OF_FILE, "they belong to the file"),
}


@described
class MergeResult(NamedTuple):
    """What a merge did: rows ``added`` and rows that both had, in all and per table.

    ``conflicts`` are the things that both have and say differently, where ours stays. ``skipped`` names omitted parts,
    and how to get them. A second merge adds nothing.
    """

    added: int
    same: int
    tables: dict[str, Merged]
    conflicts: list[MergeConflict]
    skipped: dict[str, str]


def merge(
    db: Database,
    other: Database | str | os.PathLike[str],
    *,
    timeout: float | None = None,
    progress: ProgressCallback | None = None,
) -> MergeResult:
    """Take over what the other store has and this one has not; atomic and idempotent.

    All of it may take `timeout` seconds, by default 30 and one for each megabyte of the other store. Must be called
    outside a transaction. `progress` is called after each table with the rows of the other store that were taken over
    or compared, and all its rows. Raises InvalidArgument for the store itself, OutdatedSchema for one that was not
    opened by this scanstore yet, ForeignSchema, ReadTimeout, NotFound, ReadOnly.
    """
    meter = Meter(progress)
    if db.read_only:
        raise ReadOnly(f"{db.name} was opened with read_only; open it without to merge something into it")
    if db.in_sqlite_transaction():
        raise IllegalMove(f"{db.name} is inside a transaction; leave it before merging")
    path = other.file if isinstance(other, Database) else check_path(other, "other")
    their = Database(path, read_only=True, key=db.key)
    with Scope(lambda: their.open(migrate=False), their.shut):
        if os.path.samefile(their.file, db.file):
            raise InvalidArgument(f"{their.name} is this store itself; give another one to merge")
        options = their._options
    # An encrypted store is merged with those of the same key.
    file = uri(their.file, options)
    limit = seconds_for(their.file, timeout)
    _detach(db)  # where an interrupt struck twice, an earlier merge has left its own attached
    with Scope(lambda: _attach(db, file, their.name, limit), lambda: _detach(db)):
        connection = db.connection()  # type: ignore[no-untyped-call]
        with limited(connection, their.name, limit), db.atomic():
            return _merge(db, meter)


def _attach(db: Database, file: str, name: str, limit: float) -> None:
    connection = db.connection()  # type: ignore[no-untyped-call]
    with limited(connection, name, limit):  # SQLite reads its schema now
        if db.key is None:
            db.execute_sql("ATTACH ? AS other", (file,)).fetchall()
        else:
            db.execute_sql("ATTACH ? AS other KEY ?", (file, db.key)).fetchall()
    refuse(connection, SCHEMA_VERSION, name, schema="other")


def _detach(db: Database) -> None:
    if any(name == "other" for _, name, _ in db.execute_sql("PRAGMA database_list").fetchall()):
        db.execute_sql("DETACH other").fetchall()


def _merge(db: Database, meter: Meter) -> MergeResult:
    work = Merge(db, meter)
    work.run("PRAGMA defer_foreign_keys = ON")
    for (name,) in work.run("SELECT name FROM other.sqlite_schema WHERE type = 'table'") if meter else ():
        if name in foreign_schema.names(SCHEMA_VERSION) and name not in NOT_MERGED:
            work.left[str(name)] = work.number(f"SELECT count(*) FROM other.{quoted(str(name))}")
    meter.total = sum(work.left.values())
    for part in PARTS:
        part(work)
    work.done()
    added = sum(table.added for table in work.tables.values())
    same = sum(table.same for table in work.tables.values())
    if added:
        for sql in ESTIMATE:
            work.run(sql)
    meter.end()
    return MergeResult(added, same, dict(sorted(work.tables.items())), work.conflicts, work.skipped)
