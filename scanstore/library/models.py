"""The models of the library: scenes, performers, tags, studios, and sync runs."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, Required, TypeAlias, TypedDict

import peewee

from scanstore.db.fields import Base, EnumField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.notebooks import described
from scanstore.db.processes import me
from scanstore.db.rules import Rules, columns
from scanstore.db.state_machine import DATE_PRECISIONS, SYNC_KINDS, SYNC_STATUSES
from scanstore.db.values import utcnow
from scanstore.errors import Conflict
from scanstore.library.dates import written_date

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref as ManyToMany
    from scanstore.db.words import LibraryKind


class SyncedRow(Timestamped):
    """Base of models whose rows come from the remote system. They keep its ids."""

    __rules__ = Rules(state={"run_id": "call store.library.sync(kind)"})

    id = peewee.TextField(primary_key=True)
    last_synced = UTCField(default=utcnow)
    run_id = peewee.IntegerField(null=True)

    class Meta:
        column_order = (..., "last_synced", "run_id", "created_at", "updated_at")


class NamedRow(SyncedRow):
    """Base of models whose rows have a name."""

    __shown__ = ": name | last_synced"

    name = peewee.TextField(index=True)


class Studio(NamedRow):
    """The maker of scenes."""

    class Meta:
        table_name = "studios"
        without_rowid = True


class Performer(NamedRow):
    """A person in scenes. Two performers may have the same name."""

    if TYPE_CHECKING:
        scenes = ManyToMany["Scene"]()

    class Meta:
        table_name = "performers"
        without_rowid = True


class Tag(NamedRow):
    """A subject of scenes. Names are unique."""

    if TYPE_CHECKING:
        scenes = ManyToMany["Scene"]()

    name = peewee.TextField(unique=True)

    class Meta:
        table_name = "tags"
        without_rowid = True


class Scene(SyncedRow):
    """One scene. ``created_date`` is the time at which the remote system created it.

    ``scene_date`` is the date of the scene. If only its month or year is known, it is the first moment of that, and
    ``scene_date_precision`` is ``month`` or ``year``, else ``day``. A scene without a date has no precision.
    """

    __shown__ = ": title, scene_date, studio | organized, last_synced"

    if TYPE_CHECKING:
        studio_id = peewee.TextField(null=True)
        performers = ManyToMany["Performer"]()
        tags = ManyToMany["Tag"]()

    title = peewee.TextField(default="")
    paths: JSONField[list[str]] = JSONField(default=list)
    organized = peewee.BooleanField(default=False)
    details = peewee.TextField(null=True)
    created_date = UTCField(default=utcnow)
    scene_date = UTCField(null=True)
    scene_date_precision = EnumField(DATE_PRECISIONS, null=True)
    studio = peewee.ForeignKeyField(Studio, on_delete="SET NULL", null=True, backref="scenes")

    class Meta:
        table_name = "scenes"
        indexes = ((("title", "id"), False), (("scene_date", "id"), False))

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        """Return the row as plain values. A date of which only the month or year is known is text like 2006-08 or
        2014.
        """
        found = super().to_dict(secrets=secrets)
        moment = found["scene_date"]
        if isinstance(moment, str):
            found["scene_date"] = written_date(moment, self.scene_date_precision)
        return found

    def save(self, force_insert: bool = False, only: object = None) -> int:
        """Write the changed fields. A date that was set without a precision is a day. Return the number of rows."""
        changed = {field.name for field in self.dirty_fields}
        if "scene_date" in changed and "scene_date_precision" not in changed:
            self.scene_date_precision = None if self.scene_date is None else "day"
            if isinstance(only, list | tuple):
                only = [*only, Scene.scene_date_precision]
        return super().save(force_insert=force_insert, only=only)


class ScenePerformer(Base):
    """The link of a performer to a scene."""

    __shown__ = "scene, performer"

    if TYPE_CHECKING:
        scene_id = peewee.TextField()
        performer_id = peewee.TextField()

    scene = peewee.ForeignKeyField(Scene, on_delete="CASCADE", backref="+", index=False)
    performer = peewee.ForeignKeyField(Performer, on_delete="CASCADE", backref="+")

    class Meta:
        table_name = "scene_performers"
        primary_key = peewee.CompositeKey("scene", "performer")
        without_rowid = True


class SceneTag(Base):
    """The link of a tag to a scene."""

    __shown__ = "scene, tag"

    if TYPE_CHECKING:
        scene_id = peewee.TextField()
        tag_id = peewee.TextField()

    scene = peewee.ForeignKeyField(Scene, on_delete="CASCADE", backref="+", index=False)
    tag = peewee.ForeignKeyField(Tag, on_delete="CASCADE", backref="+")

    class Meta:
        table_name = "scene_tags"
        primary_key = peewee.CompositeKey("scene", "tag")
        without_rowid = True


class _Many(peewee.ManyToManyFieldAccessor):
    """Follows the links of a row, in the row's own store only."""

    def get_query(self, instance: Any) -> Any:
        instance.check_home()
        return super().get_query(instance)  # type: ignore[no-untyped-call]


class _Links(peewee.ManyToManyField):
    accessor_class = _Many


def _link(model: type[Base], name: str, other: type[Base], back: str, through: type[Base]) -> None:
    """Add attributes for the linked rows in both directions, with `add`, `remove` and `clear`."""
    model._meta.add_field(name, _Links(other, backref="+", through_model=through))
    other._meta.add_field(back, _Links(model, backref="+", through_model=through))


_link(Scene, "performers", Performer, "scenes", ScenePerformer)
_link(Scene, "tags", Tag, "scenes", SceneTag)

Row: TypeAlias = Scene | Performer | Tag | Studio
MODELS: dict[LibraryKind, type[Row]] = {"scene": Scene, "performer": Performer, "tag": Tag, "studio": Studio}


class SyncRun(Numbered, Timestamped):
    """One run of a sync, with its counts and its ``process``. ``since`` is the watermark at its start, ``rejected`` the
    number of records that were set aside.
    """

    __shown__ = "status: kind, started_at | ended_at, created, updated, unchanged, pruned, rejected"
    __rules__ = Rules(
        state=columns(
            "call store.library.sync(kind)",
            *("status", "ended_at", "created", "updated", "unchanged", "links_added", "links_removed", "pruned"),
            *("error", "rejected"),
        ),
        fixed=columns("call store.library.sync(kind)", "kind", "process", "since", "started_at"),
    )

    kind = EnumField(SYNC_KINDS)
    status = EnumField(SYNC_STATUSES, default="running")
    since = UTCField(null=True)
    started_at = UTCField(default=utcnow)
    ended_at = UTCField(null=True)
    created = peewee.IntegerField(default=0)
    updated = peewee.IntegerField(default=0)
    unchanged = peewee.IntegerField(default=0)
    links_added = peewee.IntegerField(default=0)
    links_removed = peewee.IntegerField(default=0)
    pruned = peewee.IntegerField(default=0)
    rejected = peewee.IntegerField(default=0)
    process = peewee.TextField()
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "sync_runs"
        indexes = ((("kind", "status", "started_at"), False),)

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new:
            return
        if self.__data__.get("process") is None:
            self.process = me()
            names.add("process")
        kind = SyncRun.kind.db_value(self.__data__.get("kind"))
        other = SyncRun.get_or_none(SyncRun.kind == kind, SyncRun.status == "running")
        if other is not None:
            raise Conflict(f"run {other.id} syncs {kind}s already; call store.library.sync({kind!r}, take_over=True)")


class NamedRecord(TypedDict, total=False):
    """A performer, tag or studio as the foreign system has it; without a name it must be known."""

    id: Required[str]
    name: str


class SceneRecord(TypedDict, total=False):
    """A scene as the foreign system has it; absent fields stay unchanged. Times are aware, ISO text, or days.

    ``scene_date`` may also be a year or a month: 2014, 2006-08.
    """

    id: Required[str]
    title: str
    paths: list[str] | None
    organized: bool | None
    details: str | None
    created_date: str | date | None
    scene_date: str | date | None
    studio: NamedRecord | str | None
    performers: list[NamedRecord | str] | None
    tags: list[NamedRecord | str] | None


class StoredName(TypedDict):
    """A performer, tag or studio as the store has it."""

    id: str
    name: str


class StoredScene(TypedDict):
    """A scene as the store has it, with times as UTC text; it may be given as a `SceneRecord`.

    ``scene_date`` is text like 2014 or 2006-08 if only the year or month is known.
    """

    id: str
    title: str
    paths: list[str]
    organized: bool
    details: str | None
    created_date: str
    scene_date: str | None
    studio: StoredName | None
    performers: list[StoredName]
    tags: list[StoredName]


class Rejection(NamedTuple):
    """A record that was not written: its ``id``, if it has one, and the ``reason``."""

    id: str | None
    reason: str


@described
class SyncCounts(NamedTuple):
    """Counts of rows, of links between scenes and performers or tags, and of rejected records.

    ``rejections`` are the first 100 rejected records, with their reasons.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    links_added: int = 0
    links_removed: int = 0
    rejected: int = 0
    rejections: tuple[Rejection, ...] = ()
