"""The expected schema: the result of the migrations, computed once per process and compared with that of a file.

Tables, indexes and triggers of the user are ignored. Change here: which differences count.

After adding a migration, run ``python -m scanstore.db.schema`` to regenerate scanstore/db/fingerprints.py. It migrates
an empty file up to each version, and down again from the newest, because a rollback may produce a different text of a
statement, and such a file must open too.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import peewee

from scanstore.db import opening, schema_digest
from scanstore.db.blocks import contextmanager
from scanstore.db.connections import connect
from scanstore.db.files import MEMORY, SCHEMA_VERSION
from scanstore.db.foreign_schema import digest
from scanstore.db.routed import default_folder
from scanstore.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanstore.db.transactions import Transactional

SCHEMA = """
SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid
"""
HARMLESS = ("index", "trigger", "view")  # these hold no rows, so they can be recreated


@lru_cache(maxsize=1)
def expected() -> dict[tuple[str, str], str]:
    """Return the statement of each table, index, view and trigger, by type and name, in order of creation."""
    return {(kind, name): sql for kind, name, _, sql in made(SCHEMA_VERSION)[1]}


@lru_cache(maxsize=1)
def texts() -> dict[str, list[str]]:
    """Return the quoted columns of each table that contain arbitrary text. The values of other text columns are listed
    in a constraint.
    """
    found: dict[str, list[str]] = {}
    for (kind, table), sql in expected().items():
        if kind == "table" and not sql.startswith("CREATE VIRTUAL"):
            columns = re.findall(r"^\s*\"?(\w+)\"? TEXT\b", sql, re.MULTILINE)
            free = [f'"{column}"' for column in columns if not re.search(rf"CHECK \({column} (IN \(|= ')", sql)]
            if free:
                found[table] = free
    return found


def differences(db: Transactional) -> Iterator[tuple[str, str]]:
    """Yield each missing or different part, with its remedy."""
    there = _schema(db)
    for (kind, name), sql in expected().items():
        remedy = "restore a backup, or save the readable part with: scanstore repair FILE NEW"
        if kind in HARMLESS:
            remedy = "put it right with: scanstore check --fix"
        if (kind, name) not in there:
            yield f"the {kind} {name} is missing", remedy
        elif there[kind, name] != sql and _words(there[kind, name]) != _words(sql):
            yield f"the {kind} {name} is not as it should be", remedy


TIME = "[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z"  # for GLOB
OF_TIMES = re.compile(r'(_at|_until|_run|_synced)"$')


def times() -> dict[str, list[str]]:
    """Return the columns of `texts` that contain times."""
    found = {table: [column for column in columns if OF_TIMES.search(column)] for table, columns in texts().items()}
    return {table: columns for table, columns in found.items() if columns}


def damage(db: Transactional) -> Damaged | None:
    """Return the error for a statement that fails because the schema is damaged. Return None if the schema is correct,
    so that the statement is wrong.
    """
    for what, remedy in differences(db):
        return Damaged(f"{db.name} is damaged: {what}; {remedy}")
    return None


def complete(db: Transactional) -> None:
    """Recreate missing or different indexes, views and triggers if possible. Atomic."""
    with db.atomic():
        for _ in range(2):  # dropping a view drops its triggers too
            there = _schema(db)
            for (kind, name), sql in expected().items():
                if kind in HARMLESS and _words(there.get((kind, name), "")) != _words(sql):
                    try:
                        with db.atomic():
                            db.execute_sql(f'DROP {kind} IF EXISTS "{name}"')
                            db.execute_sql(sql)
                    except peewee.DatabaseError:
                        continue  # its table is missing, or has rows that violate it; ``differences`` reports it again


def _schema(db: Transactional) -> dict[tuple[str, str], str]:
    return {(kind, name): sql for kind, name, sql in db.execute_sql(SCHEMA).fetchall()}


def _words(sql: str) -> list[str]:
    return sql.split()


# Fingerprints

FINGERPRINTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fingerprints.py")


Made = tuple[str, list[tuple[str, str, str, str]]]


@lru_cache
def made(version: int) -> Made:
    """Return the digest of the schema of a version, and the type, name, table and statement of each object in order of
    creation.
    """
    with _no_file_yet() as file:
        _migrate(file, max(version, 1))
        if not version:
            _migrate(file, 0, back=True)
        return _made(file)


def rolled_back() -> dict[int, Made]:
    """Return the schema of each earlier version, after migrating to the newest and rolling back step by step."""
    import shutil

    found: dict[int, Made] = {}
    with _no_file_yet() as file:
        # A copy of the folder: a schema that is not in the fingerprints yet would be refused as a stranger's.
        folder = shutil.copytree(default_folder(), os.path.join(os.path.dirname(file), "migrations"))
        _migrate(file, SCHEMA_VERSION, folder=folder)
        for version in range(SCHEMA_VERSION - 1, -1, -1):
            _migrate(file, version, back=True, folder=folder)
            found[version] = _made(file)
    return found


def _migrate(file: str, version: int, *, back: bool = False, folder: str | None = None) -> None:
    """Migrate a file up or, with ``back``, down to a version."""
    from scanstore.db import migrations  # start-up: loads the migrator

    if back:
        migrations.down(file, to=version, backup=False, folder=folder)
    else:
        migrations.up(file, to=version, folder=folder)


@contextmanager
def _no_file_yet() -> Iterator[str]:
    """Provide the path of a temporary file to migrate, in memory if possible."""
    import shutil

    folder = opening.memory_folder(MEMORY)
    try:
        yield os.path.join(folder, "schema.db")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(file: str) -> Made:
    connection = connect(file, "mode=ro")
    try:
        rows = connection.execute(
            "SELECT type, name, tbl_name, sql FROM main.sqlite_master WHERE sql IS NOT NULL"
            " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
        ).fetchall()
        return schema_digest.whole(connection), rows
    finally:
        connection.close()


def fingerprints() -> str:
    """Return the text of scanstore/db/fingerprints.py for the current migrations."""
    wholes: dict[int, str] = {}
    seen: dict[str, dict[str, list[int]]] = {}
    kinds: dict[str, str] = {}
    back = rolled_back()
    for version in range(SCHEMA_VERSION + 1):
        wholes[version], rows = made(version)
        for row in dict.fromkeys([*rows, *(back[version][1] if version in back else ())]):
            kinds[row[1].lower()] = row[0]
            seen.setdefault(row[1].lower(), {}).setdefault(digest(*row), []).append(version)
    lines = [
        '"""Digests of the schema in each version, by which a file is known before anything of it is read.',
        "",
        "Made by ``python -m scanstore.db.schema`` from the migrations; do not edit.",
        '"""',
        "",
        "# ruff: noqa: E501  a line for each object, so that two migrations change different lines",
        "",
        "# All of a version at once.",
        "WHOLE = {",
        *(f'    {version}: "{text}",' for version, text in wholes.items()),
        "}",
        "# The type of each object, and its digests with the versions that have it, the last one open.",
        "PARTS = {",
    ]
    for name, digests in sorted(seen.items()):
        spans = [f"{text}:{_span(versions)}" for text, versions in digests.items()]
        lines.append(f'    "{name}": "{" ".join([kinds[name], *spans])}",')
    return "\n".join([*lines, "}", ""])


def _span(versions: list[int]) -> str:
    """Return a range of versions as the first and the last."""
    if versions != list(range(versions[0], versions[-1] + 1)):
        raise Damaged(f"a part of the schema is the same in the versions {versions}, which are not consecutive")
    return f"{versions[0]}-{versions[-1] if versions[-1] < SCHEMA_VERSION else ''}"


if __name__ == "__main__":
    text = fingerprints()
    with open(FINGERPRINTS, "w", encoding="utf-8", newline="\n") as out:
        out.write(text)
    print(f"{FINGERPRINTS}: schema {SCHEMA_VERSION}")
