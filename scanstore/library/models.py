"""The models of the library: scenes, performers, tags, studios, and sync runs."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, Required, TypeAlias, TypedDict

import peewee

from scanstore.db.fields import Base, EnumField, JSONField, Numbered, Timestamped, UTCField
from scanstore.db.state_machine import SYNC_KINDS, SYNC_STATUSES
from scanstore.db.values import utcnow

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref as ManyToMany
    from scanstore.db.words import LibraryKind


class SyncedRow(Timestamped):
    """Base of models whose rows come from the remote system. They keep its ids."""

    id = peewee.TextField(primary_key=True)
    last_synced = UTCField(default=utcnow)
    run_id = peewee.IntegerField(null=True)

    class Meta:
        column_order = (..., "last_synced", "run_id", "created_at", "updated_at")


class NamedRow(SyncedRow):
    """Base of models whose rows have a name."""

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
    """One scene. ``created_date`` is the time at which the remote system created it, ``scene_date`` the date of the
    scene.
    """

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
    studio = peewee.ForeignKeyField(Studio, on_delete="SET NULL", null=True, backref="scenes")

    class Meta:
        table_name = "scenes"
        indexes = ((("title", "id"), False), (("scene_date", "id"), False))


class ScenePerformer(Base):
    """The link of a performer to a scene."""

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
    """One run of a sync, with its counts and its ``process``. ``since`` is the watermark at its start."""

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
    process = peewee.TextField()
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "sync_runs"
        indexes = ((("kind", "status", "started_at"), False),)


class NamedRecord(TypedDict, total=False):
    """A performer, tag or studio as the foreign system has it; without a name it must be known."""

    id: Required[str]
    name: str


class SceneRecord(TypedDict, total=False):
    """A scene as the foreign system has it; absent fields stay unchanged. Times are aware, ISO text, or days."""

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
    """A scene as the store has it, with times as UTC text; it may be given as a `SceneRecord`."""

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


class SyncCounts(NamedTuple):
    """Counts of rows, and of links between scenes and performers or tags."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    links_added: int = 0
    links_removed: int = 0
