"""A library: scenes with their performers, tags and studios, as a foreign system has them.

All ids are that system's own, as text. Rows come in by :mod:`scanstore.library.upserts`, as often as one likes, and
what a listing of the whole no longer has is found by :mod:`scanstore.library.sync`. ``updated_at`` is when a row's
content changed here, ``last_synced`` when the other system was last seen to have it.

Change here: the columns of the library and the questions about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

from scanstore.db.arguments import check_bool, check_choice, check_iterable, check_optional_integer
from scanstore.db.domain import Domain, List, reads
from scanstore.db.fields import Base
from scanstore.db.state_machine import SYNC_KINDS
from scanstore.db.values import dump_json, format_time
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.library.models import (
    MODELS,
    NamedRecord,
    Performer,
    Row,
    Scene,
    ScenePerformer,
    SceneRecord,
    SceneTag,
    StoredName,
    StoredScene,
    Studio,
    SyncCounts,
    SyncRun,
    Tag,
)
from scanstore.library.sync import Sync
from scanstore.library.upserts import Upsert

if TYPE_CHECKING:
    from scanstore.db.words import LibraryKind, NamedKind

Run = Sync | SyncRun | int


class Named(NamedTuple):
    """A performer, a tag or a studio, and in how many scenes it is."""

    id: str
    name: str
    scenes: int


class LibraryStats(NamedTuple):
    """The library in figures; ``synced`` is the last run of each kind that had one."""

    scenes: int
    organized: int
    performers: int
    tags: int
    studios: int
    scene_performers: int
    scene_tags: int
    synced: dict[str, SyncRun]


AT_ONCE = 1_000  # rows read at a time
FIGURES = "SELECT (SELECT count(*) FROM scenes), (SELECT count(*) FROM scenes WHERE organized = 1), " + ", ".join(
    f"(SELECT count(*) FROM {table})" for table in LibraryStats._fields[2:-1]
)
NAMES = {
    **{
        kind: f"""
SELECT t.id, t.name, (SELECT count(*) FROM scene_{kind}s WHERE {kind}_id = t.id) FROM {kind}s AS t
 ORDER BY t.name, t.id LIMIT ?
"""
        for kind in ("performer", "tag")
    },
    "studio": """
SELECT t.id, t.name, (SELECT count(*) FROM scenes WHERE studio_id = t.id) FROM studios AS t
 ORDER BY t.name, t.id LIMIT ?
""",
}
LINKED = """
SELECT l.scene_id, t.id, t.name FROM json_each(?) AS i
 CROSS JOIN scene_{0}s AS l ON l.scene_id = i.value CROSS JOIN {0}s AS t ON t.id = l.{0}_id
"""
MISSING = "SELECT i.value FROM json_each(?) AS i WHERE NOT EXISTS (SELECT 1 FROM {}s WHERE id = i.value)"


class Library(Domain):
    """The library: brought up to date from records, asked, and given back as records."""

    # -- coming in ---------------------------------------------------------------------------------------------------

    def upsert_scenes(self, records: Iterable[SceneRecord | StoredScene], *, run: Run | None = None) -> SyncCounts:
        """Write scenes from records, with the performers, tags and studios that they name; counts scenes and links.

        A record is ``{"id", "title", "paths", "organized", "details", "created_date", "scene_date", "studio",
        "performers", "tags"}``, of which only the id is needed. Absent fields stay unchanged; None or ``[]`` clears it
        (a ``created_date`` stays). Studio, performers and tags are ``{"id", "name"}``, added or renamed as needed, or
        the id alone of one that is known. Times are aware datetimes, ISO text, or plain dates.

        Records are read as they come, and every 2,000 are checked and then written in one transaction: when a record is
        bad, earlier batches stay written, and its own batch is not written. Writing the same again changes nothing but
        ``last_synced``. Raises InvalidArgument and NotFound, with the number and the id of the record, Conflict for a
        tag's name that another tag has, IllegalMove for a run that is over or of another kind.
        """
        return self._upsert("scene", records, run)

    def upsert_performers(self, records: Iterable[NamedRecord], *, run: Run | None = None) -> SyncCounts:
        """Write performers, ``{"id", "name"}``, in batches of 10,000; promises and errors as of `upsert_scenes`."""
        return self._upsert("performer", records, run)

    def upsert_tags(self, records: Iterable[NamedRecord], *, run: Run | None = None) -> SyncCounts:
        """The same for tags. Within a batch they may swap their names."""
        return self._upsert("tag", records, run)

    def upsert_studios(self, records: Iterable[NamedRecord], *, run: Run | None = None) -> SyncCounts:
        """The same for studios."""
        return self._upsert("studio", records, run)

    def _upsert(self, kind: LibraryKind, records: Iterable[object], run: Run | None) -> SyncCounts:
        return Upsert(self, kind, run).write(records)

    def sync(self, kind: LibraryKind, *, take_over: bool = False) -> Sync:
        """A context for a sync of scenes, performers, tags or studios; ``run.since`` is where it may start from.

        That is when the last run that succeeded was started, None before there was one. Entering it raises IllegalMove
        while another run of the kind goes on; one whose process has ended has failed, and so has one of another machine
        or container after an hour without a write or ``run.heartbeat()``, or at once with ``take_over``. Raises
        InvalidArgument.
        """
        return Sync(self.db, check_choice(kind, "kind", SYNC_KINDS), take_over=take_over)

    @reads
    def runs(self, kind: LibraryKind | None = None, *, limit: int | None = None) -> List[SyncRun]:
        """Runs of syncs, the newest first; of one kind if given. Raises InvalidArgument."""
        query = SyncRun.select().order_by(SyncRun.id.desc()).limit(check_optional_integer(limit, "limit", 0, 2**31))
        return list(query if kind is None else query.where(SyncRun.kind == SyncRun.kind.db_value(kind)))

    # -- asking ------------------------------------------------------------------------------------------------------

    @overload
    def get(self, kind: Literal["scene"], key: Scene | str) -> Scene: ...

    @overload
    def get(self, kind: Literal["performer"], key: Performer | str) -> Performer: ...

    @overload
    def get(self, kind: Literal["tag"], key: Tag | str) -> Tag: ...

    @overload
    def get(self, kind: Literal["studio"], key: Studio | str) -> Studio: ...

    @overload
    def get(self, kind: LibraryKind, key: Row | str) -> Row: ...

    @reads
    def get(self, kind: LibraryKind, key: Row | str) -> Row:
        """The scene, performer, tag or studio of that id, read anew. Raises NotFound, InvalidArgument."""
        model = MODELS[check_choice(kind, "kind", SYNC_KINDS)]
        wanted = _id(key, model)
        found: Row | None = model.get_or_none(model.id == wanted)
        if found is None:
            raise NotFound(f"no {kind} {wanted!r}; store.library.upsert_{kind}s(...) adds what the foreign system has")
        return found

    @reads
    def get_scene(self, scene: Scene | str) -> Scene:
        """The scene of that id, read anew. Raises NotFound, InvalidArgument."""
        return self.get("scene", scene)

    @overload
    def find(self, kind: Literal["scene"], what: str) -> List[Scene]: ...

    @overload
    def find(self, kind: Literal["performer"], what: str) -> List[Performer]: ...

    @overload
    def find(self, kind: Literal["tag"], what: str) -> List[Tag]: ...

    @overload
    def find(self, kind: Literal["studio"], what: str) -> List[Studio]: ...

    @overload
    def find(self, kind: LibraryKind, what: str) -> Sequence[Row]: ...

    @reads
    def find(self, kind: LibraryKind, what: str) -> Sequence[Row]:
        """Rows of a kind that have this id, or exactly this name or title; an empty list when there are none."""
        model = MODELS[check_choice(kind, "kind", SYNC_KINDS)]
        name = model._meta.fields["title" if model is Scene else "name"]
        return list(model.select().where((model.id == what) | (name == what)).order_by(model.id))

    @reads
    def list(
        self,
        *,
        performer: Performer | str | None = None,
        tag: Tag | str | None = None,
        studio: Studio | str | None = None,
        organized: bool | None = None,
        limit: int | None = None,
    ) -> List[Scene]:
        """Scenes by id: those with this performer, tag, studio, and those that are, or are not, organized.

        Raises InvalidArgument.
        """
        query = Scene.select().order_by(Scene.id).limit(check_optional_integer(limit, "limit", 0, 2**31))
        if performer is not None:
            links = ScenePerformer.select(ScenePerformer.scene)
            query = query.where(Scene.id.in_(links.where(ScenePerformer.performer == _id(performer, Performer))))
        if tag is not None:
            query = query.where(Scene.id.in_(SceneTag.select(SceneTag.scene).where(SceneTag.tag == _id(tag, Tag))))
        if studio is not None:
            query = query.where(Scene.studio == _id(studio, Studio))
        if organized is not None:
            query = query.where(Scene.organized == check_bool(organized, "organized"))
        return list(query)

    @reads
    def names(self, kind: NamedKind, *, limit: int | None = None) -> List[Named]:
        """Performers, tags or studios by name, each with its number of scenes. Raises InvalidArgument."""
        sql = NAMES[check_choice(kind, "kind", tuple(NAMES))]
        most = check_optional_integer(limit, "limit", 0, 2**31)
        return [Named(*row) for row in self.db.execute_sql(sql, (-1 if most is None else most,)).fetchall()]

    @reads
    def records(self, scenes: Iterable[Scene | str] | None = None) -> Iterator[StoredScene]:
        """Scenes, all by id or these, as the nested records that `upsert_scenes` takes; ids that are gone are left out.

        They are read 1,000 at a time, each time as the library is then.
        """
        if scenes is None:
            last = ""
            while rows := list(Scene.select().where(Scene.id > last).order_by(Scene.id).limit(AT_ONCE)):
                last = rows[-1].id
                yield from self._records(rows)
            return
        ids = (_id(scene, Scene) for scene in check_iterable(scenes, "scenes"))
        while batch := list(islice(ids, AT_ONCE)):
            found = {row.id: row for row in Scene.select().where(Scene.id.in_(batch))}
            yield from self._records([found[key] for key in batch if key in found])

    def _records(self, rows: Sequence[Scene]) -> Iterator[StoredScene]:
        studios = {row.id: row.name for row in Studio.select().where(Studio.id.in_({row.studio_id for row in rows}))}
        linked: dict[str, dict[str, List[StoredName]]] = {}
        keys = dump_json([row.id for row in rows])
        for kind in ("performer", "tag"):
            linked[kind] = {row.id: [] for row in rows}
            for scene, key, name in self.db.execute_sql(LINKED.format(kind), (keys,)).fetchall():
                linked[kind][scene].append({"id": key, "name": name})
        for row in rows:
            studio = row.studio_id
            yield {
                "id": row.id,
                "title": row.title,
                "paths": row.paths,
                "organized": row.organized,
                "details": row.details,
                "created_date": format_time(row.created_date),
                "scene_date": None if row.scene_date is None else format_time(row.scene_date),
                "studio": None if studio is None or studio not in studios else {"id": studio, "name": studios[studio]},
                "performers": linked["performer"][row.id],
                "tags": linked["tag"][row.id],
            }

    @reads
    def stats(self) -> LibraryStats:
        """The library in figures."""
        synced: dict[str, SyncRun] = {}
        for kind in SYNC_KINDS:
            for run in self.runs(kind, limit=1):
                synced[kind] = run
        counts = self.db.execute_sql(FIGURES).fetchone()
        return LibraryStats(**dict(zip(LibraryStats._fields, (*counts, synced), strict=True)))

    # -- going -------------------------------------------------------------------------------------------------------

    def remove(self, kind: LibraryKind, ids: object) -> int:
        """Remove rows of a kind, one or several, with their links, in one transaction; how many there were.

        Scenes of a studio stay without it; changes that were proposed for a scene outlive it. Raises NotFound for an id
        that there is not, and InvalidArgument; nothing is removed then.
        """
        model = MODELS[check_choice(kind, "kind", SYNC_KINDS)]
        given = [ids] if isinstance(ids, str | Base) or not isinstance(ids, Iterable) else ids
        keys = {_id(key, model) for key in given}
        listed = dump_json(sorted(keys))
        with self.db.atomic():
            missing = self.db.execute_sql(MISSING.format(kind), (listed,)).fetchall()
            if missing:
                names = ", ".join(repr(key) for (key,) in missing[:3]) + ("" if len(missing) < 4 else ", …")
                raise NotFound(f"no {kind} {names}; nothing was removed")
            self.db.execute_sql(f"DELETE FROM {kind}s WHERE id IN (SELECT value FROM json_each(?))", (listed,))
        return len(keys)


def _id(key: object, model: type[Base]) -> str:
    """The id of a row of that model, or the id as it is."""
    if isinstance(key, model):
        key.check_home()
        key = key.id
    if not isinstance(key, str) or not key:
        raise InvalidArgument(f"{shown(key)} is not a {model.__name__.lower()}; give its id, which is text, or its row")
    return key
