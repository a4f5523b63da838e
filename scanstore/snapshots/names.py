"""Removal of unused interned names.

Seven columns refer to names. Not all of them have an index, because the indexes would be larger than the names. Finding
the used names therefore reads all facts; other processes can write meanwhile. When you add a column of names to a
table, add it to USES.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.values import dump_json

if TYPE_CHECKING:
    from scanstore.db.database import Database

USES = (
    ("symbol_facts", "name_id"), ("symbol_facts", "qualified_name_id"), ("reference_facts", "name_id"),
    ("reference_facts", "path_id"), ("import_facts", "module_id"), ("import_facts", "path_id"), ("bindings", "path_id"),
)  # fmt: skip
GIVEN = "IN (SELECT value FROM json_each(?1))"
UNUSED = "SELECT id FROM names WHERE id NOT IN ({})".format(
    " UNION ".join(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL" for table, column in USES)
)
USED = " UNION ".join(f"SELECT {column} FROM {table} WHERE {column} {GIVEN}" for table, column in USES)
DROP = f"DELETE FROM names WHERE id {GIVEN}"
VERSION = "PRAGMA data_version"


def sweep_names(db: Database) -> int:
    """Remove unused interned names and return their number. Unused names only take space."""
    run = db.execute_sql
    seen = run(VERSION).fetchone()
    unused = dump_json([name for (name,) in run(UNUSED).fetchall()])
    if unused == "[]":
        return 0
    with db.atomic():
        # Other processes may have used some of them again since.
        same = run(VERSION).fetchone() == seen
        names = run(DROP if same else f"{DROP} AND id NOT IN ({USED})", (unused,)).rowcount
        db.sweeps += 1
        return names
