"""Whole stores: create, seed, check and drop one.

These functions are for setup scripts, so they take the path of a store. A seed file is TOML or JSON; ``sample.toml``,
the default, shows all its sections. Change here: how stores are created and deleted.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scanstore.db import open_files
from scanstore.db.arguments import check_path
from scanstore.db.blocks import closing
from scanstore.db.connections import connect
from scanstore.db.database import MEMORY, Database
from scanstore.db.files import ALONE, APPLICATION_ID, limited, quoted, real_path, refused, size_of, sync_folder
from scanstore.db.locations import default_path
from scanstore.db.sqlite_errors import translated
from scanstore.db.values import dump_json
from scanstore.errors import Busy, InvalidArgument, NotAScanstore, NotFound, ScanstoreError, shown
from scanstore.store import Store

Path = str | os.PathLike[str]

SAMPLE = os.path.join(os.path.dirname(__file__), "sample.toml")
QUICK = 32 << 20  # bytes of a file whose pages are all read by every look at its health: a fifth of a second
PATIENCE = 1.0  # seconds to wait for a store that is still in use before it is dropped


class Health(NamedTuple):
    """Whether a store is usable, and its ``problems``, each with its remedy.

    ``unchecked`` lists the parts that this look did not examine; ``store.check()`` examines all of them.
    ``schema_version`` is None if the store cannot be opened; ``sqlite`` is the version of the SQLite library.
    """

    ok: bool
    path: str
    schema_version: int | None
    sqlite: str
    writable: bool
    bytes: int
    problems: list[str]
    unchecked: list[str] = []


# Creating and deleting


def init_db(path: Path | None = None, *, key: str | None = None) -> str:
    """Create an empty store, or migrate the existing one. Return its absolute path.

    Idempotent, and safe in many processes at once. Path and key have the defaults of ``Store``. Raises OpenRefused and
    StorageError, and then leaves an existing file unchanged.
    """
    name = _name(path)
    if name == MEMORY:
        raise InvalidArgument(f"{MEMORY} is gone when it is closed, so it cannot be made ahead; name a file")
    with Store(name, key=key) as store:
        return store.path


def drop_db(path: Path | None = None, *, confirm: bool = False, key: str | None = None) -> str:
    """Delete a store with its log permanently. Return its absolute path. Backups in the same folder stay.

    ``confirm`` must be True. Path and key have the defaults of ``Store``. Raises NotFound, NotAScanstore for any other
    file, WrongKey, and Busy while the store is open in this or another process. Nothing is deleted then. After the call
    has returned, a power cut does not restore the store.
    """
    name = _name(path)
    if confirm is not True:
        raise InvalidArgument(f"drop_db deletes everything in {name}; if that is meant, say confirm=True")
    file = real_path(name)
    if not os.path.lexists(file):
        raise NotFound(f"{name} does not exist, so it cannot be dropped")
    if key is None:
        key = os.environ.get("SCANSTORE_KEY") or None
    try:
        _refuse_other_files(file, name, key)
        _refuse_while_in_use(file, name, key)
    except sqlite3.Error as error:
        raise translated(error, name) from error
    try:
        for suffix in ("-wal", "-shm", "-journal", ""):
            if os.path.lexists(file + suffix):
                open_files.unlink(file + suffix)
        sync_folder(os.path.dirname(file))
    except OSError as error:
        raise refused(error, name, "deleted") from error
    return file


def _refuse_other_files(file: str, name: str, key: str | None) -> None:
    application = None
    if os.path.isfile(file):
        connection = connect(file, "mode=ro" if os.path.exists(file + "-wal") else ALONE, key=key)
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_NOTADB:
                raise
            if key is not None:
                from scanstore.db.encryption import wrong_key  # the library is an extra

                raise wrong_key(file, name) from error
        finally:
            connection.close()
    if application != APPLICATION_ID:
        or_key = "" if key is not None else ", or needs its key"
        raise NotAScanstore(
            f"{name} is not a scanstore{or_key}, so it is not dropped; delete it yourself if that is meant"
        )


def _refuse_while_in_use(file: str, name: str, key: str | None) -> None:
    """Raise Busy unless the log can be removed, which SQLite allows only for the only connection of a file."""
    try:
        with closing(connect(file, "mode=rw", key=key, timeout=PATIENCE)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            (journal,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        journal = None
    if journal != "delete":
        raise Busy(f"{name} is in use, so it is not dropped; close it everywhere first")


def _name(path: Path | None) -> str:
    return check_path(path if path is not None else default_path(), "path")


# Health


def check_db_health(path: Path | None = None, *, thorough: bool = False, key: str | None = None) -> Health:
    """Return whether a store can be opened, has the current schema and readable tables, without changing it.

    Fast for any size: only in a file of at most 32 MB are all pages read. ``thorough`` adds the checks of
    ``store.check()`` that need no write. ``unchecked`` lists the other parts. Never raises for a missing, foreign,
    damaged or outdated file, which is reported in ``problems``. Creates no file beside the store. The log of a killed
    process is read and stays, with its index.
    """
    version: int | None = None
    library = sqlite3.sqlite_version
    problems: list[str] = []
    unchecked = [EVERYTHING]
    try:
        name = _name(path)
        file = real_path(name)
    except ScanstoreError as error:
        shown_path = path if isinstance(path, str) else shown(path)
        return Health(False, shown_path, version, library, False, 0, [str(error)], unchecked)
    key = key or os.environ.get("SCANSTORE_KEY") or None
    try:
        # An open store has a log. Without a log, the file can be read without creating one. If the file has changed
        # meanwhile, another process has opened it, and it is read again.
        before = _as_it_lies(file)
        try:
            version, library, problems, unchecked = _look(name, key, thorough, alone=before is not None)
            changed = before is not None and _as_it_lies(file) != before
        except ScanstoreError:
            changed = before is not None and _as_it_lies(file) != before
            if not changed:
                raise
        if changed:
            version, library, problems, unchecked = _look(name, key, thorough, alone=False)
    except NotFound:
        problems = [f"{name} does not exist; make it with init_db (scanstore init)"]
    except ScanstoreError as error:
        problems = [str(error)]
    if problems and os.path.isfile(file) and not size_of(file):
        problems = [f"{name} is empty; make a store of it with init_db (scanstore init)"]
    writable = os.access(file, os.W_OK) and os.access(os.path.dirname(file), os.W_OK)
    return Health(not problems, file, version, library, writable, size_of(file), problems, unchecked)


def _as_it_lies(file: str) -> tuple[int, ...] | None:
    """Return the size and times of a file without a log, or None for a missing file or one with a log."""
    try:
        now = os.stat(file)
    except (OSError, ValueError):
        return None
    return None if size_of(file + "-wal") else (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)


EVERYTHING = "the whole file"
PAGES, CONTENTS = "most pages of the file", "the contents of rows and indexes"
FULL_TEXT = "whether the full-text indexes fit their texts"


def _look(name: str, key: str | None, thorough: bool, *, alone: bool) -> tuple[int, str, list[str], list[str]]:
    """Open a store and read from each table. ``alone`` means that it is not open elsewhere, so that no locks are
    needed.
    """
    from scanstore.maintenance import health  # start-up: only when the file is looked at

    database = Database(name, read_only=True, key=key)
    if alone:
        database._options = ALONE
    try:
        database.open(migrate=False)
        run = database.execute_sql
        (version,) = run("PRAGMA user_version").fetchone()
        (library,) = run("SELECT sqlite_version()").fetchone()
        # A virtual table may take forever, so scanstore's own ones are read through their shadow tables.
        stored = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
        with limited(database.connection(), name):  # type: ignore[no-untyped-call]
            for (table,) in run(stored).fetchall():
                run(f"SELECT 1 FROM {quoted(table)} LIMIT 1").fetchall()
        problems: list[str] = []
        unchecked = [PAGES, CONTENTS]
        if not thorough and size_of(database.file) + size_of(database.file + "-wal") <= QUICK:
            unchecked.remove(PAGES)
            found = run("PRAGMA quick_check(1)").fetchall()
            problems = [f"the file is damaged: {text}; {health.SAVE}" for (text,) in found if text != "ok"]
        if thorough:
            unchecked = [FULL_TEXT]
            with database.bound():
                problems = [f"{problem.what}: {problem.remedy}" for problem in health.check(database)]
        return version, library, problems, unchecked
    finally:
        database.shut()


# Seeding


def seed_db(store: Store | Path | None = None, source: Path | Mapping[str, object] | None = None) -> dict[str, int]:
    """Add seed rows to a store, which is created if it is missing. Return the number of added rows by section.

    ``source`` is a TOML or JSON file, or its content; by default a small sample. Existing rows with the same name or id
    stay unchanged, so this is idempotent. Atomic. Raises NotFound for a missing file, and InvalidArgument and Conflict
    for errors in it.
    """
    sections = _sections(SAMPLE if source is None else source)
    if not isinstance(store, Store):
        with Store(_name(store)) as opened:
            return seed_db(opened, sections)
    added = dict.fromkeys(sections, 0)
    with store.bound(), store.transaction():
        for section, content in sections.items():
            added[section] = SECTIONS[section](store, content)
    return added


def _sections(source: Path | Mapping[str, object]) -> dict[str, object]:
    """Return the checked sections of a source, in the order of writing."""
    name, found = (
        ("the source", source) if isinstance(source, Mapping) else (check_path(source, "source"), _read(source))
    )
    if not isinstance(found, Mapping):
        raise InvalidArgument(f"{name} is no table of sections; there may be: {', '.join(SECTIONS)}")
    for section, content in found.items():
        if section not in SECTIONS:
            raise InvalidArgument(f"{name} has a section {section!r}; there may be: {', '.join(SECTIONS)}")
        if section == "settings":
            if not isinstance(content, Mapping):
                raise InvalidArgument(f"settings in {name} must be a table of names and values")
        elif not isinstance(content, list) or not all(isinstance(entry, Mapping) for entry in content):
            raise InvalidArgument(f"{section} in {name} must be a list of tables")
    return {section: found[section] for section in SECTIONS if section in found}


def _read(source: Path) -> object:
    import tomllib

    name = os.fspath(source)
    try:
        with open(source, "rb") as file:
            text = file.read().decode()
        return json.loads(text) if name.lower().endswith(".json") else tomllib.loads(text)
    except FileNotFoundError:
        raise NotFound(f"there is no file {name!r} to take first rows from") from None
    except OSError as error:
        raise refused(error, name, "read") from error
    except (ValueError, RecursionError) as error:
        kind = "JSON" if name.lower().endswith(".json") else "TOML"
        raise InvalidArgument(f"{name} is not {kind}: {error}") from None


def _settings(store: Store, content: Mapping[str, object]) -> int:
    before = len(store.settings)
    for key, value in content.items():
        store.settings.ensure(key, value)
    return len(store.settings) - before


def _models(store: Store, entries: list[Mapping[str, object]]) -> int:
    before = len(store.llm.list())
    for number, entry in enumerate(entries, 1):
        _call("models", number, store.llm.ensure, entry)
    return len(store.llm.list()) - before


def _schedules(store: Store, entries: list[Mapping[str, object]]) -> int:
    names = {task.name for task in store.schedules.list()}
    new = [(number, entry) for number, entry in enumerate(entries, 1) if not _is_in(names, entry.get("name"))]
    for number, entry in new:
        _call("schedules", number, store.schedules.add, entry)
    return len(new)


def _call(section: str, number: int, function: Callable[..., object], entry: Mapping[str, object]) -> None:
    """Call a function with an entry's columns. An unknown column is reported as an error of the entry."""
    import inspect

    try:
        inspect.signature(function).bind(**entry)
    except TypeError as error:
        raise InvalidArgument(f"entry {number} of {section}: {error}") from None
    function(**entry)


def _library(kind: str) -> Callable[[Store, list[Mapping[str, object]]], int]:
    def add(store: Store, entries: list[Mapping[str, object]]) -> int:
        for number, entry in enumerate(entries, 1):
            linked = (entry.get("studio"), *_several(entry, "performers"), *_several(entry, "tags"))
            if any(isinstance(each, Mapping) for each in linked):
                raise InvalidArgument(
                    f"entry {number} of {kind}: name its studio, performers and tags by id, and list them themselves"
                    " under studios, performers and tags"
                )
        ids = dump_json([str(entry.get("id")) for entry in entries])
        sql = f"SELECT id FROM {kind} WHERE id IN (SELECT value FROM json_each(?))"
        there = {key for (key,) in store.database.execute_sql(sql, (ids,)).fetchall()}
        new = [entry for entry in entries if not _is_in(there, entry.get("id"))]
        return int(getattr(store.library, f"upsert_{kind}")(new, strict=True).created) if new else 0

    return add


def _is_in(known: set[str], key: object) -> bool:
    return isinstance(key, str) and key in known


def _several(entry: Mapping[str, object], column: str) -> list[object]:
    value = entry.get(column)
    return value if isinstance(value, list) else []


#: the sections of a source, in the order of writing, because scenes refer to the sections before them
SECTIONS: dict[str, Callable[[Store, Any], int]] = {
    "settings": _settings,
    "studios": _library("studios"),
    "performers": _library("performers"),
    "tags": _library("tags"),
    "scenes": _library("scenes"),
    "models": _models,
    "schedules": _schedules,
}
