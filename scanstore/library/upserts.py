"""Upserts: records of the remote system are checked, compared with existing rows, and written.

Records are processed in batches. Each batch is one transaction: changed rows are written, unchanged rows are only
marked as seen. Links are compared as sets of pairs, for a whole batch at once.

A bad record is set aside with its reason, and the others of its batch are written. Some records turn out to be bad only
in comparison with the store: the batch is then put together again without them, before anything of it is written.

Change here: the accepted keys and values of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from json import loads
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any, NamedTuple

from scanstore.db.arguments import clean_text
from scanstore.db.domain import Domain
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import Conflict, InvalidArgument, NotFound, ScanstoreError, shown
from scanstore.library import sync
from scanstore.library.dates import read_date, read_time
from scanstore.library.models import Rejection, SyncCounts, SyncRun

SCENES_AT_ONCE = 2_000
NAMED_AT_ONCE = 10_000  # large, because without a run swapped names must be in the same batch
REASONS_KEPT = 100  #: rejected records that are listed; all are counted

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


def _created(value: object) -> object:
    return KEEP if value is None else read_time(value)


KEEP = object()  # marks an absent field
COLUMNS: dict[str, Callable[[Any], Any]] = {
    "title": _title,
    "paths": _paths,
    "organized": _organized,
    "details": _details,
    "created_date": _created,
}  # and scene_date, which has two columns
LINKS = {"performers": "performer", "tags": "tag"}
NAMED = ("studio", "performer", "tag")
ID = itemgetter("id")
SCENE_KEYS = frozenset(("id", *COLUMNS, "scene_date", "studio", *LINKS))
NAMED_KEYS = frozenset(("id", "name"))


class KnownNames:
    """The performers, tags and studios in the records of one call so far, by kind and id. ``names`` has their latest
    names, and ``known`` has their latest records. ``bare`` maps ids without a name to the record that uses them.
    ``plain``: no id contains a character that JSON would escape. ``before`` has the values that were replaced since the
    last batch, so that the names of a rejected record can be forgotten.
    """

    def __init__(self) -> None:
        self.before: list[tuple[dict[str, Any], str, object]] = []
        self.names: dict[str, dict[str, str]] = {kind: {} for kind in NAMED}
        self.known: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in NAMED}
        self.bare: dict[str, dict[str, int]] = {kind: {} for kind in NAMED}
        self.plain = True

    def add(self, kind: str, record: Any, place: int) -> str:
        """Add a row, given as a record or an id, and return its id."""
        key = _key(record) if isinstance(record, str) else _checked(record, NAMED_KEYS)
        self.plain = self.plain and '"' not in key and "\\" not in key
        if isinstance(record, str) or "name" not in record:
            if key not in self.bare[kind]:
                self.put(self.bare[kind], key, place)
            return key
        name = clean_text(record["name"], "name", needed=True)
        self.put(self.names[kind], key, name)
        self.put(self.known[kind], key, {"id": key, "name": name})
        return key

    def put(self, mapping: dict[str, Any], key: str, value: object) -> None:
        """Set a value of a mapping, until `rewind`."""
        self.before.append((mapping, key, mapping.get(key, KEEP)))
        mapping[key] = value

    def rewind(self, to: int = 0) -> None:
        """Restore the values that were replaced since ``before`` had this length."""
        while len(self.before) > to:
            mapping, key, value = self.before.pop()
            if value is KEEP:
                del mapping[key]
            else:
                mapping[key] = value


class Batch:
    """Checked records: the ``named`` rows by kind, ``scenes`` as column values, and their ``links``, ids by kind and
    scene. ``records`` are the records themselves with their numbers, and ``rejected`` those that were set aside.
    """

    def __init__(self, names: KnownNames) -> None:
        self.names, self.size = names, 0
        self.records: list[tuple[int, Any]] = []
        self.rejected: list[Rejection] = []
        self.named: dict[str, dict[str, None]] = {kind: {} for kind in NAMED}
        self.scenes: dict[str, list[object]] = {}
        self.links: dict[str, dict[str, list[str]]] = {kind: {} for kind in LINKS.values()}

    def add_named(self, kind: str, record: object, place: int) -> str:
        """Add a named row, given as a record or an id, and return its id."""
        key = self.names.add(kind, record, place)
        self.names.put(self.named[kind], key, None)
        return key

    def add_scene(self, key: str, record: Mapping[str, object], place: int) -> None:
        """Add a scene, and its performers, tags and studio."""
        values = [read(record[name]) if name in record else KEEP for name, read in COLUMNS.items()]
        values += read_date(record["scene_date"]) if "scene_date" in record else (KEEP, KEEP)
        studio = record.get("studio", KEEP)
        values.append(studio if studio is None or studio is KEEP else self._linked("studio", [studio], place)[0])
        links = {kind: self._linked(kind, record[name], place) for name, kind in LINKS.items() if name in record}
        self.scenes[key] = values  # only now, because each line above may refuse the record
        for kind, ids in links.items():
            self.links[kind][key] = ids

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
        return set(self.named[kind]).union(*self.links.get(kind, {}).values())


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


def _mentions(kind: str, record: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yield the kind, the id and, if given, the name of each named row in a valid record."""
    if kind == "scene":
        nested = [("studio", [record.get("studio")]), *((kind, record.get(name)) for name, kind in LINKS.items())]
    else:
        nested = [(kind, [record])]
    for each, items in nested:
        for item in items or ():
            if isinstance(item, str):
                yield each, item, None
            elif item is not None:
                yield each, item["id"], clean_text(item["name"], "name", needed=True) if "name" in item else None


# Writing

Pairs = list[tuple[str, str]]
SEPARATOR = '","'
ROWS = "SELECT {} FROM json_each(?) AS i CROSS JOIN {}s AS t ON t.id = i.value"
SEEN = """
UPDATE {}s SET last_synced = ?, run_id = coalesce(?, run_id) WHERE id IN (SELECT value FROM json_each(?))
"""
HOLDERS = "SELECT t.name, t.id, t.run_id FROM json_each(?) AS i CROSS JOIN tags AS t ON t.name = i.value"
LINKED = """
SELECT value, (SELECT json_group_array({0}_id) FROM scene_{0}s WHERE scene_id = value) FROM json_each(?)
"""
STORED = (*COLUMNS, "scene_date", "scene_date_precision", "studio_id")
INSERT = f"""
INSERT INTO scenes ({", ".join(STORED)}, last_synced, run_id, created_at, updated_at, id)
VALUES ({", ".join("?" * len(STORED))}, ?, ?, ?, ?, ?)
"""
UPDATE = f"""
UPDATE scenes SET {", ".join(f"{column} = ?" for column in STORED)},
       last_synced = ?, run_id = coalesce(?, run_id), updated_at = ? WHERE id = ?
"""


class NamedRows(NamedTuple):
    """The named rows of one kind in a batch, compared with the store: the names of ``new`` and ``changed`` rows by id,
    and the ids of ``stored`` rows. ``freed`` has names for rows that give theirs up.
    """

    kind: str
    new: dict[str, str]
    changed: dict[str, str]
    stored: set[str]
    freed: dict[str, str]


class Refusal(NamedTuple):
    """Why a mention of a named row is refused. ``name`` is that of the mention, None for one without a name."""

    name: str | None
    error: ScanstoreError


Refusals = dict[tuple[str, str], Refusal]  # by kind and id


class Upsert:
    """Writes the records of one call, all of one kind, with or without a run. If ``strict``, a bad record raises."""

    def __init__(
        self, domain: Domain, kind: str, run: sync.Sync | SyncRun | int | None, *, strict: bool = False
    ) -> None:
        self.domain, self.db, self.kind, self.strict = domain, domain.db, kind, strict
        self.run = None if run is None else sync.identified(domain, run, kind)
        self.names = KnownNames()
        self.touched: dict[str, set[str]] = {kind: set() for kind in NAMED}
        self.set_aside: set[str] = set()  # ids of rejected records; their rows count as seen, but may lose their names
        self.total = SyncCounts()

    def write(self, records: Iterable[Any]) -> SyncCounts:
        """Write all records, batch by batch."""
        if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
            raise InvalidArgument(f"{shown(records)} is not a list of records; put it in one")
        most = SCENES_AT_ONCE if self.kind == "scene" else NAMED_AT_ONCE
        batch = Batch(self.names)
        for number, record in enumerate(records, 1):
            if self.kind == "scene" and isinstance(record, Mapping) and _is_among(batch.scenes, record.get("id")):
                batch = self._write(batch)  # the record is repeated: write the first one before
            self._add(batch, number, record)
            batch.size += 1
            if batch.size == most:
                batch = self._write(batch)
        if batch.size:
            self._write(batch)
        return self.total

    def _add(self, batch: Batch, number: int, record: Any) -> None:
        """Add a record to a batch, or set it aside."""
        before = len(self.names.before)
        try:
            if self.kind == "scene":
                batch.add_scene(_checked(record, SCENE_KEYS), record, number)
            else:
                batch.add_named(self.kind, record, number)
        except InvalidArgument as error:
            self.names.rewind(before)
            self._reject(batch, number, record, error)
        else:
            if not self.strict:  # a copy, because the caller may fill the same mapping again
                batch.records.append((number, record if isinstance(record, str) else dict(record)))

    def _reject(self, batch: Batch, number: int, record: object, error: ScanstoreError) -> None:
        given = record.get("id") if isinstance(record, Mapping) else record
        key = given if isinstance(given, str) and given else None
        whose = f" ({self.kind} {shown(given)})" if isinstance(record, Mapping) and isinstance(given, str) else ""
        reason = f"record {number}{whose}: {error}"
        if self.strict:
            raise InvalidArgument(reason) from error
        batch.rejected.append(Rejection(key, reason))

    def _write(self, batch: Batch) -> Batch:
        """Write a batch, and return an empty one."""
        now = format_time(utcnow())
        with self.db.atomic():
            named, refusals = self._compare(batch)
            while refusals:
                batch = self._without(batch, refusals)
                named, refusals = self._compare(batch)
            counts = SyncCounts()
            for rows in named:
                counts = self._write_named(rows, now)
            if self.kind == "scene":
                counts = self._write_scenes(batch, now)
            if batch.rejected:
                self._mark_rejected(batch, now)
                counts = counts._replace(rejected=len(batch.rejected))
            if self.run is not None:
                sync.count(self.domain, self.run, counts)
        self.names.before.clear()
        self.total = _sum(self.total, counts._replace(rejections=tuple(batch.rejected)))
        return Batch(self.names)

    def _mark_rejected(self, batch: Batch, now: str) -> None:
        """Mark the rows of rejected records as seen: the remote system has them, so they must not be pruned."""
        ids = [each.id for each in batch.rejected if each.id is not None]
        self.db.execute_sql(SEEN.format(self.kind), (now, self.run, dump_json(ids)))
        self.set_aside.update(ids)

    # -- comparing ----------------------------------------------------------------------------------------------------

    def _compare(self, batch: Batch) -> tuple[list[NamedRows], Refusals]:
        """Compare the named rows of a batch with the store. Raises the first refusal if the call is strict."""
        found: list[NamedRows] = []
        refusals: Refusals = {}
        for kind in NAMED:
            mentioned = batch.mentioned(kind)
            if not mentioned:
                continue
            latest = self.names.names[kind]
            names = {key: name for key in sorted(mentioned) if (name := latest.get(key)) is not None}
            sql = ROWS.format("t.id, t.name", kind)
            stored = dict(self.db.execute_sql(sql, (dump_json(list(mentioned)),)).fetchall())
            for key in sorted(mentioned - names.keys() - stored.keys()):
                refusals[kind, key] = Refusal(None, NotFound(
                    f"there is no {kind} {key!r}; give its name too: {{'id': {key!r}, 'name': ...}}"
                ))  # fmt: skip
            new = {key: name for key, name in names.items() if key not in stored}
            changed = {key: name for key, name in names.items() if key in stored and stored[key] != name}
            freed: dict[str, str] = {}
            if kind == "tag" and (new or changed):
                refused, freed = self._compare_names(new, changed, stored)
                refusals |= {(kind, key): Refusal(names[key], error) for key, error in refused.items()}
            if self.strict and refusals:
                (_, key), refusal = next(iter(refusals.items()))
                if refusal.name is None:
                    raise NotFound(f"record {self.names.bare[kind][key]}: {refusal.error}")
                raise refusal.error
            found.append(NamedRows(kind, new, changed, set(stored), freed))
        return found, refusals

    def _compare_names(
        self, new: dict[str, str], changed: dict[str, str], stored: dict[str, str]
    ) -> tuple[dict[str, Conflict], dict[str, str]]:
        """Return the tags that cannot have their name, by id, and the tags that give theirs up, with their new name.

        In a run, a tag that the run has not seen gives its name up: the remote system has given it to another one.
        """
        wanted: dict[str, str] = {}
        refused: dict[str, Conflict] = {}
        for key, name in (*new.items(), *changed.items()):
            if wanted.setdefault(name, key) != key:
                refused[key] = Conflict(
                    f"tags {wanted[name]!r} and {key!r} are both to be named {name!r}; a name has one tag"
                )
        freed: dict[str, str] = {}
        holders = self.db.execute_sql(HOLDERS, (dump_json(list(wanted)),)).fetchall()
        for name, holder, run in holders:
            if holder in changed:
                continue
            unseen = self.run is not None and (run != self.run or holder in self.set_aside)
            if self.kind == "tag" and unseen and holder not in stored:
                freed[holder] = self._spare_name(name, holder, wanted)
            else:
                refused[wanted[name]] = _taken(wanted[name], name, holder)
        left = list(refused)
        while left:  # a tag that keeps its name keeps it from others
            key = left.pop()
            name = stored.get(key, "")
            if (other := wanted.get(name)) is not None and other not in refused and key in changed:
                refused[other] = _taken(other, name, key)
                left.append(other)
        return refused, freed

    def _spare_name(self, name: str, key: str, wanted: Mapping[str, str]) -> str:
        """Return a name for a tag whose name is given to another one. The next sync corrects it or prunes the tag."""
        while True:
            name = f"{name} ({key})"
            if name not in wanted and not self.db.execute_sql("SELECT 1 FROM tags WHERE name = ?", (name,)).fetchall():
                return name

    def _without(self, batch: Batch, refusals: Refusals) -> Batch:
        """Return the batch without the records that have one of the refusals, which are set aside."""
        for exact in (True, False):  # else any mention of the row: its name may come from an earlier batch
            bad: dict[int, ScanstoreError] = {}
            for number, record in batch.records:
                for kind, key, name in _mentions(self.kind, record):
                    refusal = refusals.get((kind, key))
                    if refusal is not None and (refusal.name == name or not exact):
                        bad[number] = refusal.error
                        break
            if bad:
                break
        else:
            raise next(iter(refusals.values())).error
        self.names.rewind()
        fresh = Batch(self.names)
        fresh.size, fresh.rejected = batch.size, batch.rejected
        for number, record in batch.records:
            if number in bad:
                self._reject(fresh, number, record, bad[number])
            else:
                self._add(fresh, number, record)
        return fresh

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write_named(self, rows: NamedRows, now: str) -> SyncCounts:
        kind, new, changed, stored, freed = rows
        run = self.run if kind == self.kind else None  # a run is of one kind; other kinds are not marked as seen
        update = f"UPDATE {kind}s SET name = ? WHERE id = ?"
        self.db.executemany(update, [(name, key) for key, name in freed.items()])
        if kind == "tag":  # names are unique, and may be swapped
            self.db.executemany("UPDATE tags SET name = char(31) || id WHERE id = ?", [(key,) for key in changed])
        self.db.executemany(update, [(name, key) for key, name in changed.items()])
        insert = (
            f"INSERT INTO {kind}s (id, name, last_synced, run_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
        )
        self.db.executemany(insert, [(key, name, now, run, now, now) for key, name in new.items()])
        touched = self.touched[kind]
        self.db.execute_sql(SEEN.format(kind), (now, run, dump_json(list(stored - touched))))
        touched.update(stored, new)
        return SyncCounts(len(new), len(changed), len(stored) - len(changed))

    def _write_scenes(self, batch: Batch, now: str) -> SyncCounts:
        keys = dump_json(list(batch.scenes))
        rows = self.db.execute_sql(ROWS.format(", ".join(("t.id", *STORED)), "scene"), (keys,)).fetchall()
        stored = {row[0]: row[1:] for row in rows}
        fresh = ("", "[]", False, None, now, None, None, None)  # the defaults of a new scene
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


def _sum(some: SyncCounts, more: SyncCounts) -> SyncCounts:
    return SyncCounts(
        some.created + more.created,
        some.updated + more.updated,
        some.unchanged + more.unchanged,
        some.links_added + more.links_added,
        some.links_removed + more.links_removed,
        some.rejected + more.rejected,
        (*some.rejections, *more.rejections)[:REASONS_KEPT],
    )


def _taken(key: str, name: str, holder: str) -> Conflict:
    return Conflict(
        f"tag {key!r} is to be named {name!r}, as tag {holder!r} is; sync the tags all at once, "
        f"or remove that one: store.library.remove('tag', {holder!r})"
    )


def _is_among(known: Mapping[str, object], key: object) -> bool:
    return isinstance(key, str) and key in known
