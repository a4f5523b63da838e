"""The library: scenes with their performers, tags and studios, synced from a remote system.

All ids are those of the remote system, as text. :mod:`scanstore.library.upserts` writes rows and can be repeated.
:mod:`scanstore.library.sync` finds rows that a full listing no longer contains. ``updated_at`` is the time of the last
change of a row here, ``last_synced`` the last time at which the remote system reported it.

Change here: the columns of the library, and the queries about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from scanstore.db.arguments import check_bool, check_choice, check_iterable, check_string, encodable
from scanstore.db.domain import Domain, List, reads
from scanstore.db.fields import Base
from scanstore.db.notebooks import described
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Removed, Rows, remove
from scanstore.db.state_machine import SYNC_KINDS
from scanstore.db.values import dump_json, format_time
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.library.dates import written_date
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


@described
class Named(NamedTuple):
    """A performer, a tag or a studio, with the number of its scenes."""

    id: str
    name: str
    scenes: int


@described
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


AT_ONCE = 1_000  # rows read at once
FIGURES = "SELECT (SELECT count(*) FROM scenes), (SELECT count(*) FROM scenes WHERE organized = 1), " + ", ".join(
    f"(SELECT count(*) FROM {table})" for table in LibraryStats._fields[2:-1]
)
NAMES = {
    **{
        kind: f"""
SELECT t.id, t.name, (SELECT count(*) FROM scene_{kind}s WHERE {kind}_id = t.id) FROM {kind}s AS t
 ORDER BY t.name, t.id LIMIT ? OFFSET ?
"""
        for kind in ("performer", "tag")
    },
    "studio": """
SELECT t.id, t.name, (SELECT count(*) FROM scenes WHERE studio_id = t.id) FROM studios AS t
 ORDER BY t.name, t.id LIMIT ? OFFSET ?
""",
}
LINKED = """
SELECT l.scene_id, t.id, t.name FROM json_each(?) AS i
 CROSS JOIN scene_{0}s AS l ON l.scene_id = i.value CROSS JOIN {0}s AS t ON t.id = l.{0}_id
"""
MISSING = "SELECT i.value FROM json_each(?) AS i WHERE NOT EXISTS (SELECT 1 FROM {}s WHERE id = i.value)"


class Library(Domain):
    """The library: sync it from records, query it, and export it as records."""

    # -- upserts and syncs
    # ---------------------------------------------------------------------------------------------------

    def upsert_scenes(
        self, records: Iterable[SceneRecord | StoredScene], *, run: Run | None = None, strict: bool = False
    ) -> SyncCounts:
        """Write scenes from records, with their performers, tags and studios. Return the counts of scenes and links.

        A record is ``{"id", "title", "paths", "organized", "details", "created_date", "scene_date", "studio",
        "performers", "tags"}``, of which only the id is required. Absent fields stay unchanged; None or ``[]`` clears a
        field (except ``created_date``). Studio, performers and tags are ``{"id", "name"}``, which are added or renamed,
        or the id of a known row. Times are aware datetimes, ISO text, or plain dates. ``scene_date`` may also be a
        month or a year, such as ``2006-08`` and ``2014``.

        Records are streamed, and each batch of 2,000 is checked and then written in one transaction. Writing the same
        records again changes only ``last_synced``. A record is rejected if a value is invalid, if it names an unknown
        id without a name, or if another tag has the name of its tag. The other records of its batch are written, and
        the counts have ``rejected``, the number of such records, and ``rejections``, the first 100 of them as ``(id,
        reason)``.

        If ``strict``, the first rejected record raises instead. Its batch is not written, but earlier batches stay.
        Raises InvalidArgument and NotFound, with the index and the id of the record, or Conflict. IllegalMove is
        raised for a run that has ended or is of another kind.
        """
        return self._upsert("scene", records, run, strict)

    def upsert_performers(
        self, records: Iterable[NamedRecord], *, run: Run | None = None, strict: bool = False
    ) -> SyncCounts:
        """Write performers, ``{"id", "name"}``, in batches of 10,000, with the guarantees of `upsert_scenes`."""
        return self._upsert("performer", records, run, strict)

    def upsert_tags(
        self, records: Iterable[NamedRecord], *, run: Run | None = None, strict: bool = False
    ) -> SyncCounts:
        """Write tags, like `upsert_performers`. Tags of one batch may swap their names.

        With ``run`` they may swap names in any order: a tag that the run has not seen yet gives up a name that another
        tag gets. Until its own record comes, or ``run.prune_unseen`` removes it, it is named ``name (id)``.
        """
        return self._upsert("tag", records, run, strict)

    def upsert_studios(
        self, records: Iterable[NamedRecord], *, run: Run | None = None, strict: bool = False
    ) -> SyncCounts:
        """Write studios, like `upsert_performers`."""
        return self._upsert("studio", records, run, strict)

    def _upsert(self, kind: LibraryKind, records: Iterable[object], run: Run | None, strict: bool) -> SyncCounts:
        return Upsert(self, kind, run, strict=check_bool(strict, "strict")).write(records)

    def sync(self, kind: LibraryKind, *, take_over: bool = False) -> Sync:
        """Return a context manager for a sync of scenes, performers, tags or studios. ``run.since`` is the watermark.

        The watermark is the start of the last run that completed and rejected no record, or None. Entering raises
        IllegalMove while another run of the kind is active. A run whose process has ended counts as failed, and so does
        a run of another machine or container after an hour without a write or ``run.heartbeat()``, or immediately with
        ``take_over``. Raises InvalidArgument.
        """
        return Sync(self.db, check_choice(kind, "kind", SYNC_KINDS), take_over=take_over)

    @reads
    def runs(
        self,
        kind: LibraryKind | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[SyncRun]:
        """List sync runs, the newest first, optionally of one kind. ``sort`` as in `list`. Raises InvalidArgument."""
        query = SyncRun.select().order_by(SyncRun.id.desc())
        if kind is not None:
            query = query.where(SyncRun.kind == check_choice(kind, "kind", SYNC_KINDS))
        return listed(query, limit=limit, offset=offset, sort=sort)

    # -- queries ------------------------------------------------------------------------------------------------------

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
        """Return the scene, performer, tag or studio with this id. Raises NotFound, InvalidArgument."""
        model = MODELS[check_choice(kind, "kind", SYNC_KINDS)]
        wanted = _id(key, model)
        found: Row | None = model.get_or_none(model.id == wanted)
        if found is None:
            raise NotFound(f"no {kind} {wanted!r}; store.library.upsert_{kind}s(...) adds what the foreign system has")
        return found

    @overload
    def find(self, kind: Literal["scene"], what: str, *, limit: int | None = None, offset: int = 0) -> Rows[Scene]: ...

    @overload
    def find(
        self, kind: Literal["performer"], what: str, *, limit: int | None = None, offset: int = 0
    ) -> Rows[Performer]: ...

    @overload
    def find(self, kind: Literal["tag"], what: str, *, limit: int | None = None, offset: int = 0) -> Rows[Tag]: ...

    @overload
    def find(
        self, kind: Literal["studio"], what: str, *, limit: int | None = None, offset: int = 0
    ) -> Rows[Studio]: ...

    @overload
    def find(self, kind: LibraryKind, what: str, *, limit: int | None = None, offset: int = 0) -> Sequence[Row]: ...

    @reads
    def find(self, kind: LibraryKind, what: str, *, limit: int | None = None, offset: int = 0) -> Sequence[Row]:
        """Return the rows of a kind with this id, or with exactly this name or title, by id. Raises InvalidArgument."""
        model = MODELS[check_choice(kind, "kind", SYNC_KINDS)]
        text = encodable(check_string(what, "what"), "what")
        name = model._meta.fields["title" if model is Scene else "name"]
        query: Any = model.select().where((model.id == text) | (name == text)).order_by(model.id)
        return listed(query, limit=limit, offset=offset)

    @reads
    def list(
        self,
        *,
        performer: Performer | str | None = None,
        tag: Tag | str | None = None,
        studio: Studio | str | None = None,
        organized: bool | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Scene]:
        """List scenes by id, optionally with a performer, tag or studio, and organized or not.

        ``sort`` is ``id``, ``scene_date`` or ``studio``, with ``-`` before it for the reverse order. Scenes without a
        date come first. Raises InvalidArgument.
        """
        query = Scene.select().order_by(Scene.id)
        if performer is not None:
            links = ScenePerformer.select(ScenePerformer.scene)
            query = query.where(Scene.id.in_(links.where(ScenePerformer.performer == _id(performer, Performer))))
        if tag is not None:
            query = query.where(Scene.id.in_(SceneTag.select(SceneTag.scene).where(SceneTag.tag == _id(tag, Tag))))
        if studio is not None:
            query = query.where(Scene.studio == _id(studio, Studio))
        if organized is not None:
            query = query.where(Scene.organized == check_bool(organized, "organized"))
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def names(self, kind: NamedKind, *, limit: int | None = None, offset: int = 0) -> Rows[Named]:
        """List performers, tags or studios by name, each with its number of scenes. Raises InvalidArgument."""
        sql = NAMES[check_choice(kind, "kind", tuple(NAMES))]
        check_window(limit, offset)
        rows = self.db.execute_sql(sql, (-1 if limit is None else limit, offset)).fetchall()
        return Rows((Named(*row) for row in rows), Named)

    @reads
    def records(self, scenes: Iterable[Scene | str] | None = None) -> Iterator[StoredScene]:
        """Yield scenes, all by id or the given ones, as nested records for `upsert_scenes`. Missing ids are skipped.

        They are read in batches of 1,000, each in the current state of the library.
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
                "scene_date": None
                if row.scene_date is None
                else written_date(format_time(row.scene_date), row.scene_date_precision),
                "studio": None if studio is None or studio not in studios else {"id": studio, "name": studios[studio]},
                "performers": linked["performer"][row.id],
                "tags": linked["tag"][row.id],
            }

    @reads
    def stats(self) -> LibraryStats:
        """Return the counts of the library."""
        synced: dict[str, SyncRun] = {}
        for kind in SYNC_KINDS:
            for run in self.runs(kind, limit=1):
                synced[kind] = run
        counts = self.db.execute_sql(FIGURES).fetchone()
        return LibraryStats(**dict(zip(LibraryStats._fields, (*counts, synced), strict=True)))

    # -- removing
    # -------------------------------------------------------------------------------------------------------

    def remove(self, kind: LibraryKind, *keys: Row | str) -> Removed:
        """Remove rows of a kind, given as rows or ids, with their links. Return the number of removed rows by table.
        Atomic.

        The scenes of a removed studio stay, without a studio. Changes that were proposed for a removed scene stay.
        Raises NotFound for an unknown id, and InvalidArgument. Nothing is removed then.
        """
        model = MODELS[check_choice(kind, "kind", SYNC_KINDS)]
        given = dump_json(sorted({_id(key, model) for key in keys}))
        with self.db.atomic():
            missing = self.db.execute_sql(MISSING.format(kind), (given,)).fetchall()
            if missing:
                names = ", ".join(repr(key) for (key,) in missing[:3]) + ("" if len(missing) < 4 else ", …")
                raise NotFound(f"no {kind} {names}; nothing was removed")
            return remove(self.db, f"{kind}s", "id IN (SELECT value FROM json_each(?))", (given,))


def _id(key: object, model: type[Base]) -> str:
    """Return the id of a row of this model, or the id unchanged."""
    if isinstance(key, model):
        key.check_home()
        key = key.id
    if not isinstance(key, str) or not key:
        raise InvalidArgument(f"{shown(key)} is not a {model.__name__.lower()}; give its id, which is text, or its row")
    return encodable(key, "id")
