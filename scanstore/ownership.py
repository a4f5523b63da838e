"""Ownership: which rows cannot be without their owner, by the foreign keys of the schema.

A dump can be loaded without its accounts. The rows that need one then go too, whatever tables there are: this module
reads the schema and knows no table by name. Change here: what happens to a row whose owner was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class _Link(NamedTuple):
    """A foreign key: its columns with those of the parent, and whether the row may lose it."""

    parent: str
    columns: list[tuple[str, str]]
    loses: bool


def remove_unowned(run: Callable[..., Any], owners: str, keys: Mapping[str, list[str]]) -> dict[str, int]:
    """Remove the rows that need an owner, where the table of owners is empty; return how many of each table.

    ``keys`` names the tables with their primary keys, parents before those that point at them.

    The foreign keys of the schema decide. A row whose key is ``ON DELETE SET NULL`` loses it and stays; any other row
    goes with its parent. Children go first, so that no key is violated meanwhile.
    """
    links: dict[str, list[_Link]] = {owners: []}
    for table in keys:
        found = [link for link in _links(run, table, keys) if link.parent in links or link.parent == table]
        if any(link.parent != table for link in found):
            links[table] = found
    removed: dict[str, int] = {}
    for table in reversed(list(keys)):
        own: list[str] = []
        needs: list[str] = []
        for link in links.get(table, ()):
            if link.parent == table:
                own.append(_dangling(link))
            elif link.loses:
                nothing = ", ".join(f'"{column}" = NULL' for column, _ in link.columns)
                run(f'UPDATE "{table}" AS t0 SET {nothing} WHERE {_unowned(links, link, 0)}').fetchall()
            else:
                needs.append(_unowned(links, link, 0))
        for conditions in (needs, own):
            number = 1
            while conditions and number:  # again for rows that point at others of their own table
                run(f'DELETE FROM "{table}" AS t0 WHERE {" OR ".join(conditions)}').fetchall()
                number = run("SELECT changes()").fetchone()[0]
                removed[table] = removed.get(table, 0) + number
    return removed


def _links(run: Callable[..., Any], table: str, known: Mapping[str, list[str]]) -> list[_Link]:
    """The foreign keys of a table."""
    keys: dict[int, list[Any]] = {}
    for row in run(f'PRAGMA foreign_key_list("{table}")').fetchall():
        keys.setdefault(row[0], []).append(row)
    found = []
    for parts in keys.values():
        parent = parts[0][2]
        if parent not in known:
            continue
        # A foreign key that names no columns means the primary key.
        columns = [(part[3], part[4] or known[parent][part[1]]) for part in parts]
        found.append(_Link(parent, columns, parts[0][6] == "SET NULL"))
    return found


def _unowned(links: dict[str, list[_Link]], link: _Link, depth: int) -> str:
    """The condition under which a row, called ``t`` and the depth, needs an owner by this foreign key."""
    has = " AND ".join(f't{depth}."{column}" IS NOT NULL' for column, _ in link.columns)
    if not links[link.parent]:  # the owners, of whom there are none
        return f"({has})"
    same = " AND ".join(f't{depth + 1}."{theirs}" = t{depth}."{column}"' for column, theirs in link.columns)
    needs = [_unowned(links, up, depth + 1) for up in links[link.parent] if not up.loses and up.parent != link.parent]
    if not needs:  # the parents stay
        return "(0)"
    above = f'SELECT 1 FROM "{link.parent}" AS t{depth + 1} WHERE {same} AND ({" OR ".join(needs)})'
    return f"({has} AND EXISTS ({above}))"


def _dangling(link: _Link) -> str:
    """The condition under which a row points at one of its own table that is gone."""
    has = " AND ".join(f't0."{column}" IS NOT NULL' for column, _ in link.columns)
    same = " AND ".join(f't1."{theirs}" = t0."{column}"' for column, theirs in link.columns)
    return f'({has} AND NOT EXISTS (SELECT 1 FROM "{link.parent}" AS t1 WHERE {same}))'
