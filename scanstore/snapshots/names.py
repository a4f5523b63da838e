"""Sweeping: interned names that nothing uses any more go.

Rows point at names from seven columns, and not all of these have an index, which would cost more space than the names:
who wants to know which names are used reads all facts. That is done without keeping others from writing. Change here
where names are used: USES, whenever a table gets a column of them.
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
    """Remove the interned names that nothing uses; return how many. Until then they take space and do no harm."""
    run = db.execute_sql
    seen = run(VERSION).fetchone()
    unused = dump_json([name for (name,) in run(UNUSED).fetchall()])
    if unused == "[]":
        return 0
    with db.atomic():
        # Whoever has written since may use some of them again.
        same = run(VERSION).fetchone() == seen
        names = run(DROP if same else f"{DROP} AND id NOT IN ({USED})", (unused,)).rowcount
        db.sweeps += 1
        return names
