"""The tables that a dump has, in an order in which they can be loaded.

Change here: omitted tables, and the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from scanstore.db import foreign_schema
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.files import quoted
from scanstore.maintenance.derived import NOTES, OF_FILE
from scanstore.maintenance.ownership import Run

LEFT_OUT = frozenset((*OF_FILE, NOTES))


class DumpTable(NamedTuple):
    """A table with the columns that are stored, and those by which its rows are in order."""

    name: str
    columns: list[str]
    key: list[str]


def tables_of(run: Run) -> list[DumpTable]:
    """Tables with content, parents before those that point at them, else by name."""
    listed = run("PRAGMA main.table_list").fetchall()
    names = sorted(name for _, name, kind, *_ in listed if kind == "table" and not name.startswith("sqlite_"))
    spelled = {name.lower(): name for name in names}  # a foreign key may write the name in another case
    parents = {
        name: {spelled.get(row[2].lower(), name) for row in run(f"PRAGMA foreign_key_list({quoted(name)})").fetchall()}
        - {name, *LEFT_OUT}
        for name in names
        if name not in LEFT_OUT
    }
    found: list[DumpTable] = []
    done: set[str] = set()
    ours = foreign_schema.names(SCHEMA_VERSION)
    while parents:
        # Tables of the user's own may point at each other in a circle.
        name = next((name for name, above in parents.items() if above <= done), min(parents))
        done.add(name)
        del parents[name]
        found.append(_table(run, name, own=name.lower() not in ours))
    return found


def _table(run: Run, name: str, *, own: bool) -> DumpTable:
    info = run(f"PRAGMA main.table_xinfo({quoted(name)})").fetchall()
    columns = [row[1] for row in info if not row[6]]  # generated columns are left out
    key = [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]
    if own:
        # Keys of the user's own may hold NULL, and columns may have the names of the rowid.
        (whole,) = run("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)).fetchone()
        taken = {row[1].lower() for row in info}
        rowid = [] if whole else [alias for alias in ("rowid", "_rowid_", "oid") if alias not in taken][:1]
        return DumpTable(name, columns, key + rowid or columns)
    if not key:
        for _, index, unique, *_ in run(f"PRAGMA index_list({quoted(name)})").fetchall():
            if unique:
                key = [row[2] for row in run(f"PRAGMA index_info({quoted(index)})").fetchall()]
    return DumpTable(name, columns, key or ["rowid"])


def names_of(columns: Iterable[str]) -> str:
    """Return the names of columns for a statement."""
    return ", ".join(map(quoted, columns))
