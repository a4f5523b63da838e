"""The search for parts of interned names, and the removal of unused ones.

``name_search`` has the trigrams of all names up to a highest id; see ``migrations/012_page_indexes.py``.

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
KNOWN = "(SELECT coalesce(max(id), 0) FROM name_search_docsize)"
LEARN = f"""
INSERT INTO name_search (rowid, text) SELECT id, text FROM names WHERE id > {KNOWN} ORDER BY id LIMIT {{most}}
"""
AT_ONCE = 20_000  # names per transaction, so that other writers can write between them
MOST_TRIGRAMS = 20
#: Ids of names that may contain a text: ?7 is the result of `trigrams`. Names that are not taken up yet all may.
CANDIDATES = f"""
SELECT rowid AS id FROM name_search WHERE name_search MATCH ?7 UNION ALL SELECT id FROM names WHERE id > {KNOWN}
"""


def take_up(db: Database) -> None:
    """Add new names to the search."""
    more = True
    while more:
        with db.atomic():
            more = db.execute_sql(LEARN.format(most=AT_ONCE)).rowcount == AT_ONCE


def trigrams(text: str) -> str | None:
    """Return a full-text query for names that contain all trigrams of a text.

    Return None if all names must be read instead: for less than three characters, and for characters other than ASCII,
    which the index folds in its own way.
    """
    if len(text) < 3 or not text.isascii() or "\0" in text:
        return None
    found = dict.fromkeys(text[place : place + 3].lower() for place in range(len(text) - 2))
    return " AND ".join('"{}"'.format(each.replace('"', '""')) for each in list(found)[:MOST_TRIGRAMS])


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
