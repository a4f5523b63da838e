"""Upserts: records of the remote system are checked, compared with existing rows, and written.

Records are processed in batches. Each batch is checked completely before any SQL, and is one transaction: changed rows
are written, unchanged rows are only marked as seen. Links are compared as sets of pairs, for a whole batch at once.

Change here: the accepted keys and values of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time
from functools import lru_cache
from json import loads
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any

from scanstore.db.arguments import clean_text
from scanstore.db.domain import Domain
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import Conflict, InvalidArgument, NotFound, shown
from scanstore.library import sync
from scanstore.library.models import SyncCounts, SyncRun

SCENES_AT_ONCE = 2_000
NAMED_AT_ONCE = 10_000  # large, because swapped names must be in the same batch

# Reading


def _title(value: object) -> str:
    return value if type(value) is str and value.isprintable() else clean_text(value, "title")


def _details(value: object) -> str | None:
    return value if value is None or type(value) is str and value.isprintable() else clean_text(value, "details")


def _paths(value: object) -> str:
    if value is None:
        return "[]"
    try:
        if isinstance(value, list | tuple):
            written = f"[{','.join(map(encode_basestring, value))}]"  # the same text as dump_json, in half the time
            return written if written.isascii() else dump_json(value)
    except TypeError:
        pass
    raise InvalidArgument(f"paths is {shown(value)}; it must be a list of texts")


def _organized(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidArgument(f"organized is {shown(value)}; it must be true or false")


def _time(value: object) -> str | None:
    try:
        return None if value is None else _utc(value)
    except InvalidArgument:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"{shown(value)} is not a time; write 2026-11-22T01:46:31Z, or 2026-11-22") from error


@lru_cache(1 << 12)
def _utc(value: str | date) -> str:
    if isinstance(value, str):
        value = (date if len(value) <= 10 else datetime).fromisoformat(value)
    return format_time(value if isinstance(value, datetime) else datetime.combine(value, time(), UTC))


def _created(value: object) -> object:
    return KEEP if value is None else _time(value)


KEEP = object()  # marks an absent field
COLUMNS: dict[str, Callable[[Any], Any]] = {
    "title": _title,
    "paths": _paths,
    "organized": _organized,
    "details": _details,
    "created_date": _created,
    "scene_date": _time,
}
LINKS = {"performers": "performer", "tags": "tag"}
NAMED = ("studio", "performer", "tag")
ID = itemgetter("id")
SCENE_KEYS = frozenset(("id", *COLUMNS, "studio", *LINKS))
NAMED_KEYS = frozenset(("id", "name"))


class KnownNames:
    """The performers, tags and studios in the records of one call so far, by kind and id. ``names`` has their latest
    names, and ``known`` has their latest records. ``bare`` maps ids without a name to the record that uses them.
    ``plain``: no id contains a character that JSON would escape.
    """

    def __init__(self) -> None:
        self.names: dict[str, dict[str, str]] = {kind: {} for kind in NAMED}
        self.known: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in NAMED}
        self.bare: dict[str, dict[str, int]] = {kind: {} for kind in NAMED}
        self.plain = True

    def add(self, kind: str, record: Any, place: int) -> str:
        """Add a row, given as a record or an id, and return its id."""
        key = _key(record) if isinstance(record, str) else _checked(record, NAMED_KEYS)
        self.plain = self.plain and '"' not in key and "\\" not in key
        if isinstance(record, str) or "name" not in record:
            self.bare[kind].setdefault(key, place)
            return key
        name = clean_text(record["name"], "name", needed=True)
        self.names[kind][key] = name
        self.known[kind][key] = {"id": key, "name": name}
        return key


class Batch:
    """Checked records: the ``named`` rows by kind, ``scenes`` as column values, and their ``links``, ids by kind and
    scene.
    """

    def __init__(self, names: KnownNames) -> None:
        self.names, self.size = names, 0
        self.named: dict[str, set[str]] = {kind: set() for kind in NAMED}
        self.scenes: dict[str, list[object]] = {}
        self.links: dict[str, dict[str, list[str]]] = {kind: {} for kind in LINKS.values()}

    def add_named(self, kind: str, record: object, place: int) -> str:
        """Add a named row, given as a record or an id, and return its id."""
        key = self.names.add(kind, record, place)
        self.named[kind].add(key)
        return key

    def add_scene(self, key: str, record: Mapping[str, object], place: int) -> None:
        """Add a scene, and its performers, tags and studio."""
        values = [read(record[name]) if name in record else KEEP for name, read in COLUMNS.items()]
        studio = record.get("studio", KEEP)
        values.append(studio if studio is None or studio is KEEP else self._linked("studio", [studio], place)[0])
        self.scenes[key] = values
        for name, kind in LINKS.items():
            if name in record:
                self.links[kind][key] = self._linked(kind, record[name], place)

    def _linked(self, kind: str, items: object, place: int) -> list[str]:
        if items is None:
            return []
        if not isinstance(items, list | tuple | set | frozenset):
            raise InvalidArgument(f"{kind}s is {shown(items)}; it must be a list")
        try:  # fast path: earlier records have used most of these names
            ids = list(map(ID, items))
            if list(map(self.names.known[kind].get, ids)) == items:
                return ids
        except (KeyError, TypeError, IndexError):
            pass
        return [self._nested(kind, item, place) for item in items]

    def _nested(self, kind: str, item: object, place: int) -> str:
        try:
            return self.add_named(kind, item, place)
        except InvalidArgument as error:
            raise InvalidArgument(f"{kind} {shown(item)}: {error}") from error

    def mentioned(self, kind: str) -> set[str]:
        """Return the ids of a kind in the records."""
        return self.named[kind].union(*self.links.get(kind, {}).values())


def _checked(record: object, keys: frozenset[str]) -> str:
    """Return the id of a record after checking its keys."""
    if type(record) is not dict and not isinstance(record, Mapping):
        raise InvalidArgument(f"{shown(record)} is not a record; it must be a mapping of {', '.join(sorted(keys))}")
    if not keys.issuperset(record):
        unknown = ", ".join(sorted(map(str, set(record) - keys)))
        raise InvalidArgument(f"{unknown}: no such key; there are {', '.join(sorted(keys))}")
    return _key(record.get("id"))


def _key(value: object) -> str:
    if value is None or value == "":
        raise InvalidArgument("it has no id; give the foreign system's")
    if not isinstance(value, str):
        raise InvalidArgument(f"its id is {shown(value)}; ids are text, as {shown(str(value))}")
    if not value.isprintable() and clean_text(value, "id") != value:
        raise InvalidArgument(f"its id {shown(value)} cannot be stored; it must be valid Unicode")
    return value


# Writing

Pairs = list[tuple[str, str]]
SEPARATOR = '","'
ROWS = "SELECT {} FROM json_each(?) AS i CROSS JOIN {}s AS t ON t.id = i.value"
SEEN = """
UPDATE {}s SET last_synced = ?, run_id = coalesce(?, run_id) WHERE id IN (SELECT value FROM json_each(?))
"""
HOLDERS = "SELECT t.name, t.id FROM json_each(?) AS i CROSS JOIN tags AS t ON t.name = i.value"
LINKED = """
SELECT value, (SELECT json_group_array({0}_id) FROM scene_{0}s WHERE scene_id = value) FROM json_each(?)
"""
STORED = (*COLUMNS, "studio_id")
INSERT = f"""
INSERT INTO scenes ({", ".join(STORED)}, last_synced, run_id, created_at, updated_at, id)
VALUES ({", ".join("?" * len(STORED))}, ?, ?, ?, ?, ?)
"""
UPDATE = f"""
UPDATE scenes SET {", ".join(f"{column} = ?" for column in STORED)},
       last_synced = ?, run_id = coalesce(?, run_id), updated_at = ? WHERE id = ?
"""


class Upsert:
    """Writes the records of one call, all of one kind, with or without a run."""

    def __init__(self, domain: Domain, kind: str, run: sync.Sync | SyncRun | int | None) -> None:
        self.domain, self.db, self.kind = domain, domain.db, kind
        self.run = None if run is None else sync.identified(domain, run, kind)
        self.names = KnownNames()
        self.touched: dict[str, set[str]] = {kind: set() for kind in NAMED}
        self.total = SyncCounts()

    def write(self, records: Iterable[Any]) -> SyncCounts:
        """Write all records, batch by batch."""
        if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
            raise InvalidArgument(f"{shown(records)} is not a list of records; put it in one")
        most = SCENES_AT_ONCE if self.kind == "scene" else NAMED_AT_ONCE
        batch = Batch(self.names)
        for number, record in enumerate(records, 1):
            try:
                if self.kind == "scene":
                    key = _checked(record, SCENE_KEYS)
                    if key in batch.scenes:  # the record is repeated: write the first one before
                        batch = self._write(batch)
                    batch.add_scene(key, record, number)
                else:
                    batch.add_named(self.kind, record, number)
            except InvalidArgument as error:
                given = record.get("id") if isinstance(record, Mapping) else None
                whose = f" ({self.kind} {shown(given)})" if isinstance(given, str) else ""
                raise InvalidArgument(f"record {number}{whose}: {error}") from error
            batch.size += 1
            if batch.size == most:
                batch = self._write(batch)
        if batch.size:
            self._write(batch)
        return self.total

    def _write(self, batch: Batch) -> Batch:
        """Write a batch, and return an empty one."""
        now = format_time(utcnow())
        with self.db.atomic():
            counts = SyncCounts()
            for kind in NAMED:
                if mentioned := batch.mentioned(kind):
                    counts = self._write_named(kind, mentioned, now)
            if self.kind == "scene":
                counts = self._write_scenes(batch, now)
            if self.run is not None:
                sync.count(self.domain, self.run, counts)
        self.total = SyncCounts(*map(sum, zip(self.total, counts, strict=True)))
        return Batch(self.names)

    def _write_named(self, kind: str, mentioned: set[str], now: str) -> SyncCounts:
        names = {key: name for key in sorted(mentioned) if (name := self.names.names[kind].get(key)) is not None}
        run = self.run if kind == self.kind else None  # a run is of one kind; other kinds are not marked as seen
        sql = ROWS.format("t.id, t.name", kind)
        stored = dict(self.db.execute_sql(sql, (dump_json(list(mentioned)),)).fetchall())
        for key in sorted(mentioned - names.keys()):
            if key not in stored:
                place = self.names.bare[kind][key]
                raise NotFound(
                    f"record {place}: there is no {kind} {key!r}; give its name too: {{'id': {key!r}, 'name': ...}}"
                )
        new = {key: name for key, name in names.items() if key not in stored}
        changed = {key: name for key, name in names.items() if key in stored and stored[key] != name}
        if kind == "tag" and (new or changed):
            self._free_names(new, changed)
        update = f"UPDATE {kind}s SET name = ? WHERE id = ?"
        self.db.executemany(update, [(name, key) for key, name in changed.items()])
        insert = (
            f"INSERT INTO {kind}s (id, name, last_synced, run_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
        )
        self.db.executemany(insert, [(key, name, now, run, now, now) for key, name in new.items()])
        touched = self.touched[kind]
        self.db.execute_sql(SEEN.format(kind), (now, run, dump_json(list(stored.keys() - touched))))
        touched.update(stored, new)
        return SyncCounts(len(new), len(changed), len(stored) - len(changed))

    def _free_names(self, new: Mapping[str, str], changed: Mapping[str, str]) -> None:
        """Free the names of tags that are renamed, so that the order does not matter. Raises Conflict if another tag
        keeps a name.
        """
        wanted: dict[str, str] = {}
        for key, name in (*new.items(), *changed.items()):
            if wanted.setdefault(name, key) != key:
                raise Conflict(f"tags {wanted[name]!r} and {key!r} are both to be named {name!r}; a name has one tag")
        for name, holder in self.db.execute_sql(HOLDERS, (dump_json(list(wanted)),)).fetchall():
            if holder not in changed:
                raise Conflict(
                    f"tag {wanted[name]!r} is to be named {name!r}, as tag {holder!r} is; sync the tags all at once, "
                    f"or remove that one: store.library.remove('tag', {holder!r})"
                )
        self.db.executemany("UPDATE tags SET name = char(31) || id WHERE id = ?", [(key,) for key in changed])

    def _write_scenes(self, batch: Batch, now: str) -> SyncCounts:
        keys = dump_json(list(batch.scenes))
        rows = self.db.execute_sql(ROWS.format(", ".join(("t.id", *STORED)), "scene"), (keys,)).fetchall()
        stored = {row[0]: row[1:] for row in rows}
        fresh = ("", "[]", False, None, now, None, None)  # the defaults of a new scene
        new, changed = [], {}
        for key, values in batch.scenes.items():
            have = stored.get(key)
            row = tuple(old if value is KEEP else value for value, old in zip(values, have or fresh, strict=True))
            if have is None:
                new.append((*row, now, self.run, now, now, key))
            elif row != have:
                changed[key] = row
        self.db.executemany(INSERT, new)
        added = removed = 0
        for kind in LINKS.values():
            plus, minus = self._write_links(kind, batch)
            added, removed = added + len(plus), removed + len(minus)
            for key, _ in (*plus, *minus):
                if key in stored and key not in changed:
                    changed[key] = stored[key]
        self.db.executemany(UPDATE, [(*row, now, self.run, now, key) for key, row in changed.items()])
        same = dump_json(list(stored.keys() - changed.keys()))
        self.db.execute_sql(SEEN.format("scene"), (now, self.run, same))
        return SyncCounts(len(new), len(changed), len(stored) - len(changed), added, removed)

    def _write_links(self, kind: str, batch: Batch) -> tuple[Pairs, Pairs]:
        """Update links. Return the added and the removed ones."""
        plus: Pairs = []
        minus: Pairs = []
        wanted = batch.links[kind]
        keys = dump_json(sorted(wanted))
        for key, have in self.db.execute_sql(LINKED.format(kind), (keys,)).fetchall():
            ids = sorted(wanted[key])
            # Most are unchanged: comparing them as JSON text from SQLite avoids decoding them.
            if not self.names.plain or have != f'["{SEPARATOR.join(ids)}"]':
                old, new = set(loads(have)), set(ids)
                plus += [(key, each) for each in sorted(new - old)]
                minus += [(key, each) for each in old - new]
        self.db.executemany(f"DELETE FROM scene_{kind}s WHERE scene_id = ? AND {kind}_id = ?", minus)
        self.db.executemany(f"INSERT INTO scene_{kind}s (scene_id, {kind}_id) VALUES (?, ?)", plus)
        return plus, minus
