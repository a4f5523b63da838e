"""Ownership: the rows that need an owner, by the foreign keys of the schema.

A dump can be loaded without its accounts. The rows that need one then go too, whatever tables there are: this module
reads the schema and knows no table by name. Change here: what happens to a row whose owner was left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scanstore.db.files import quoted

Run = Callable[..., sqlite3.Cursor]  # (sql, parameters) -> cursor


class OwnerLink(NamedTuple):
    """A foreign key: its columns with those of the parent, and whether the row may lose it."""

    parent: str
    columns: list[tuple[str, str]]
    loses: bool


def remove_unowned(run: Run, owners: str, keys: Mapping[str, list[str]]) -> dict[str, int]:
    """Remove the rows that need an owner, where the table of owners is empty; return how many of each table.

    ``keys`` names the tables with their primary keys, parents before those that point at them.

    The foreign keys of the schema decide. A row whose key is ``ON DELETE SET NULL`` loses it and stays; any other row
    goes with its parent. Children go first, so that no key is violated meanwhile. Tables of the user's own may point at
    each other in a circle: there, rows whose parents are gone go last.
    """
    links: dict[str, list[OwnerLink]] = {owners: []}
    back: dict[str, list[OwnerLink]] = {}
    every = {table: links_of(run, table, keys) for table in keys}
    for table, all_links in every.items():
        found = [link for link in all_links if link.parent in links or link.parent == table]
        if any(link.parent != table for link in found):
            links[table] = found
    for table in links:  # what comes after it in the order, and still above it
        back[table] = [link for link in every[table] if link.parent in links and link not in links[table]]
    removed: dict[str, int] = {}
    for table in reversed(list(keys)):
        own: list[str] = []
        needs: list[str] = []
        for link in links.get(table, ()):
            if link.parent == table:
                own.append(dangling(link))
            elif link.loses:
                nothing = ", ".join(f"{quoted(column)} = NULL" for column, _ in link.columns)
                run(f"UPDATE {quoted(table)} AS t0 SET {nothing} WHERE {_unowned(links, link, 0)}").fetchall()
            else:
                needs.append(_unowned(links, link, 0))
        for conditions in (needs, own):
            number = 1
            while conditions and number:  # again for rows that point at others of their own table
                number = _delete(run, table, conditions)
                removed[table] = removed.get(table, 0) + number
    circles = {table: every[table] for table in links if back[table]}
    for table, number in remove_dangling(run, circles).items() if circles else ():
        removed[table] = removed.get(table, 0) + number
    return removed


def remove_dangling(run: Run, links: Mapping[str, list[OwnerLink]]) -> dict[str, int]:
    """Remove the rows of tables that point at rows which are gone, until there are none; return how many of each.

    A row whose key is ``ON DELETE SET NULL`` loses it and stays.
    """
    removed = dict.fromkeys(links, 0)
    more = True
    while more:
        more = False
        for table, each in links.items():
            for link in each:
                if link.loses:
                    nothing = ", ".join(f"{quoted(column)} = NULL" for column, _ in link.columns)
                    run(f"UPDATE {quoted(table)} AS t0 SET {nothing} WHERE {dangling(link)}").fetchall()
                elif number := _delete(run, table, [dangling(link)]):
                    removed[table] += number
                    more = True
    return removed


def _delete(run: Run, table: str, conditions: list[str]) -> int:
    run(f"DELETE FROM {quoted(table)} AS t0 WHERE {' OR '.join(conditions)}").fetchall()
    return int(run("SELECT changes()").fetchone()[0])


def links_of(run: Run, table: str, known: Mapping[str, list[str]]) -> list[OwnerLink]:
    """Return the foreign keys of a table that lead to tables which are known, with their primary keys."""
    spelled = {name.lower(): name for name in known}  # SQLite compares names without case
    keys: dict[int, list[tuple[Any, ...]]] = {}
    for row in run(f"PRAGMA foreign_key_list({quoted(table)})").fetchall():
        keys.setdefault(row[0], []).append(row)
    never = {row[1].lower() for row in run(f"PRAGMA table_xinfo({quoted(table)})").fetchall() if row[3]}
    found = []
    for parts in keys.values():
        parent = spelled.get(parts[0][2].lower())
        if parent is None:
            continue
        # A foreign key that names no columns means the primary key.
        columns = [(part[3], part[4] or known[parent][part[1]]) for part in parts]
        loses = parts[0][6] == "SET NULL" and never.isdisjoint(column.lower() for column, _ in columns)
        found.append(OwnerLink(parent, columns, loses))
    return found


def _unowned(links: dict[str, list[OwnerLink]], link: OwnerLink, depth: int) -> str:
    """The condition under which a row, called ``t`` and the depth, needs an owner by this foreign key."""
    has = " AND ".join(f"t{depth}.{quoted(column)} IS NOT NULL" for column, _ in link.columns)
    if not links[link.parent]:  # the owners, of whom there are none
        return f"({has})"
    same = " AND ".join(f"t{depth + 1}.{quoted(theirs)} = t{depth}.{quoted(column)}" for column, theirs in link.columns)
    needs = [_unowned(links, up, depth + 1) for up in links[link.parent] if not up.loses and up.parent != link.parent]
    if not needs:  # the parents stay
        return "(0)"
    above = f"SELECT 1 FROM {quoted(link.parent)} AS t{depth + 1} WHERE {same} AND ({' OR '.join(needs)})"
    return f"({has} AND EXISTS ({above}))"


def dangling(link: OwnerLink) -> str:
    """Return the condition under which a row, called ``t0``, points at one that is not there."""
    has = " AND ".join(f"t0.{quoted(column)} IS NOT NULL" for column, _ in link.columns)
    same = " AND ".join(f"t1.{quoted(theirs)} = t0.{quoted(column)}" for column, theirs in link.columns)
    return f"({has} AND NOT EXISTS (SELECT 1 FROM {quoted(link.parent)} AS t1 WHERE {same}))"
