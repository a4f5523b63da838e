"""The fields of scenes and findings that a plan may change, the actions on each, and the format of their values.

A value is stored as canonical JSON, so that equal values are equal text: ids of performers and tags as a sorted list, a
studio as its id, a date as UTC text, or as its year or month alone. A field belongs either to scenes or to findings, so
it determines the kind of the target.

The pure functions :func:`forward` and :func:`backward` compute the value after applying and after reverting a change.
Previewing and applying use the same functions.

Change here: the fields, their accepted values, and when a value counts as changed by another person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.db.arguments import check_choice, clean_text
from scanstore.db.fields import Base
from scanstore.db.state_machine import CHANGE_ACTIONS, FINDING_STATUSES, SEVERITIES
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import InvalidArgument, NotFound, shown
from scanstore.findings.findings import Findings
from scanstore.findings.models import Finding
from scanstore.library.dates import WRITTEN, is_partial, read_date
from scanstore.library.models import Performer, Scene, Studio, Tag

if TYPE_CHECKING:
    from scanstore.db.database import Database

AT_ONCE = 500  #: targets read in one statement
REPLACING = ("set", "update")  # synonyms
_UNSET: Any = ...  # marks an absent current value


# Accepted values, converted to their stored form


def _ids(model: type[Base]) -> Callable[[str, object], list[str]]:
    def check(where: str, value: object) -> list[str]:
        if value is None:
            return []
        if isinstance(value, Mapping | bytes) or not isinstance(value, Iterable) or isinstance(value, str):
            value = [value]
        return sorted({_id(where, each, model) for each in value})

    return check


def _id(where: str, value: object, model: type[Base]) -> str:
    if isinstance(value, model):
        value.check_home()
        value = value.id
    if not isinstance(value, str) or not value:
        noun = model.__name__.lower()
        raise InvalidArgument(f"{where} is {shown(value)}; give a {noun}'s id, which is text, or its row")
    return value


def _studio(where: str, value: object) -> str | None:
    return None if value is None else _id(where, value, Studio)


def _title(where: str, value: object) -> str:
    if value is None:
        raise InvalidArgument(f"{where} is None; it must be text, perhaps empty")
    return clean_text(value, where)


def _details(where: str, value: object) -> str | None:
    return None if value is None else clean_text(value, where)


def _date(where: str, value: object) -> str | None:
    """Return a time, given as an aware time or as a date (midnight in UTC), or a year or month as it is."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            if is_partial(value):
                return value
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError:
            raise InvalidArgument(
                f"{where} is {shown(value)}; write 2026-11-22T01:46:31Z, 2026-11-22, 2026-11 or 2026"
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(), UTC)
    if not isinstance(value, datetime):
        raise InvalidArgument(f"{where} is {shown(value)}; it must be a date, an aware datetime, or None")
    try:
        return format_time(value)
    except (OverflowError, InvalidArgument) as error:
        raise InvalidArgument(f"{where} is {value.isoformat()}, which is no time in UTC; give its zone") from error


def _flag(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{where} is {shown(value)}; it must be True or False")
    return value


class Field(NamedTuple):
    """A field that a change can modify. ``source`` is the SQL expression of its value, for the target's row ``t``."""

    name: str
    target: str
    source: str
    check: Callable[[str, Any], Any]
    column: str = ""  #: the column of the target's table; empty for links
    link: str = ""  #: for example ``tag``: rows of ``scene_tags`` with a ``tag_id`` that refers to ``tags``
    refers: str = ""  #: the table that the ids in its values refer to

    @property
    def actions(self) -> tuple[str, ...]:
        return ("add", "remove", "set") if self.link else REPLACING


def _link(what: str, model: type[Base]) -> Field:
    rows = f"(SELECT json_group_array({what}_id) FROM scene_{what}s WHERE scene_id = t.id)"
    return Field(f"{what}s", "scene", rows, _ids(model), link=what, refers=f"{what}s")


def _plain(
    name: str, target: str, check: Callable[[str, object], object], *, column: str | None = None, refers: str = ""
) -> Field:
    column = column or name
    return Field(name, target, f"t.{column}", check, column=column, refers=refers)


FIELDS = {
    field.name: field
    for field in (
        _link("performer", Performer),
        _link("tag", Tag),
        _plain("studio", "scene", _studio, column="studio_id", refers="studios"),
        _plain("title", "scene", _title),
        _plain("details", "scene", _details),
        Field("date", "scene", WRITTEN, _date, column="scene_date"),
        _plain("organized", "scene", _flag),
        _plain("severity", "finding", lambda where, value: check_choice(value, where, SEVERITIES)),
        _plain("status", "finding", lambda where, value: check_choice(value, where, FINDING_STATUSES)),
        _plain("remediation", "finding", lambda where, value: clean_text(value, where), column="remediation_steps"),
    )
}
OTHER_NAMES = {
    "performer": "performers", "tag": "tags", "studio_id": "studio", "scene_date": "date",
    "remediation_steps": "remediation",
}  # fmt: skip


# A proposal, checked before any SQL


class Checked(NamedTuple):
    """A change in its stored form; ``key`` is text for scenes and a number for findings."""

    field: Field
    key: Any
    action: str
    proposed: Any
    current: Any  #: ``...`` if it must be looked up
    confidence: float | None


def field_named(where: str, name: object) -> Field:
    """Return the field with this name. Raises InvalidArgument, which lists the fields."""
    known = name.strip().lower() if isinstance(name, str) else ""
    found = FIELDS.get(OTHER_NAMES.get(known, known))
    if found is None:
        lists = (f"{', '.join(f.name for f in FIELDS.values() if f.target == t)} of {t}s" for t in ("scene", "finding"))
        raise InvalidArgument(f"{where} is {shown(name)}; there are {' and '.join(lists)}")
    return found


def check(
    where: str,
    target: object,
    name: object,
    action: object,
    proposed: object,
    current: object = _UNSET,
    confidence: object = None,
) -> Checked:
    """Return a change in its stored form. The message of InvalidArgument begins with ``where``."""
    field = field_named(where + "field", name)
    key = target_key(f"{where}target", target, field.target)
    act = check_choice(action, where + "action", CHANGE_ACTIONS)
    if act not in field.actions:
        raise InvalidArgument(
            f"{where}action is {act!r}; for {field.name} it must be one of: {', '.join(field.actions)}"
        )
    value = field.check(where + "proposed", proposed)
    if field.link and act != "set" and not value:
        raise InvalidArgument(f"{where}proposed is empty; say which {field.name} to {act}")
    if current is not ...:
        current = field.check(where + "current", current)
    return Checked(field, key, act, value, current, checked_confidence(where + "confidence", confidence))


def target_key(where: str, target: object, kind: str) -> Any:
    """Return the key of a scene or finding, given as the key or the row. Raises InvalidArgument for the wrong kind."""
    model: type[Base] = Scene if kind == "scene" else Finding
    if isinstance(target, model):
        target.check_home()
        target = target.id
    if kind == "scene" and isinstance(target, str) and target:
        return target
    if kind == "finding" and isinstance(target, int) and not isinstance(target, bool) and 0 < target < 2**63:
        return target
    says = "a Scene or its id, which is text" if kind == "scene" else "a Finding or its id, which is a number"
    raise InvalidArgument(f"{where} is {shown(target)}; give {says}")


def checked_confidence(where: str, value: object) -> float | None:
    """Return a checked confidence from 0 to 1, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidArgument(f"{where} is {shown(value)}; it must be a number from 0 to 1, or None")
    return float(value)


def digest(value: object) -> bytes:
    """Return a digest of 32 bytes that identifies a stored value."""
    return hashlib.sha256(dump_json(value).encode()).digest()


# Effects of changes


class Effect(NamedTuple):
    """The new ``value`` of the field; ``conflict``: the current value is neither the new nor the expected one."""

    value: Any
    conflict: bool


def forward(field: Field, action: str, now: Any, current: Any, proposed: Any) -> Effect:
    """Return the effect of applying a change. For additions to and removals from lists, only the named items count."""
    if action in REPLACING:
        return Effect(proposed, now != proposed and now != current)
    adding = action == "add"
    undone = [each for each in proposed if (each in now) is not adding]
    surprise = any((each in (current or ())) is adding for each in undone)
    return Effect(_joined(now, proposed) if adding else _without(now, proposed), surprise)


def backward(field: Field, action: str, now: Any, found: Any, proposed: Any) -> Effect:
    """Return the effect of reverting a change that was applied to the value ``found``. Only its own effect is
    undone.
    """
    if action in REPLACING:
        return Effect(found, now != proposed and now != found)
    if action == "add":
        return Effect(_without(now, _without(proposed, found)), False)
    return Effect(_joined(now, [each for each in proposed if each in found]), False)


def _joined(some: Iterable[str], more: Iterable[str]) -> list[str]:
    return sorted({*some, *more})


def _without(some: Iterable[str], others: Collection[str]) -> list[str]:
    return [each for each in some if each not in others]


# Reading and writing


def read(db: Database, target: str, keys: Iterable[object], fields: Iterable[str]) -> dict[Any, dict[str, Any]]:
    """Return the current values of fields, by the targets' keys, in one statement. Missing targets are left out."""
    names = tuple(sorted(set(fields)))
    rows = db.execute_sql(_reading(target, names), (dump_json(list(keys)),)).fetchall()
    return {row[0]: {name: _value(name, raw) for name, raw in zip(names, row[1:], strict=True)} for row in rows}


@lru_cache
def _reading(target: str, names: tuple[str, ...]) -> str:
    sources = "".join(f", {FIELDS[name].source}" for name in names)
    return f"SELECT t.id{sources} FROM json_each(?) AS i CROSS JOIN {target}s AS t ON t.id = i.value"


def _value(name: str, raw: Any) -> Any:
    if FIELDS[name].link:
        return sorted(json.loads(raw))
    return bool(raw) if name == "organized" else raw


def missing(db: Database, table: str, ids: Iterable[str]) -> list[str]:
    """Return the ids without a row in a table of the library."""
    sql = f"SELECT i.value FROM json_each(?) AS i WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE id = i.value)"
    return [key for (key,) in db.execute_sql(sql, (dump_json(list(ids)),)).fetchall()]


def referred(field: Field, value: Any) -> list[str]:
    """Return the ids in a value that must refer to rows."""
    if not field.refers or value is None:
        return []
    return list(value) if field.link else [value]


def names(db: Database, table: str, ids: Iterable[str]) -> dict[str, str]:
    """Return the names of existing rows of the library, by id."""
    sql = f"SELECT t.id, t.name FROM json_each(?) AS i CROSS JOIN {table} AS t ON t.id = i.value"
    return dict(db.execute_sql(sql, (dump_json(sorted(set(ids))),)).fetchall())


def write(
    db: Database, field: Field, key: Any, now: Any, value: Any, *, by: str, note: str, undo: bool = False
) -> None:
    """Write a value, inside the caller's transaction. An unchanged value is not written.

    The status of a finding is recorded as a decision of ``by``; to ``undo`` one, two decisions may be needed. Raises
    NotFound if the value refers to a missing row, and IllegalMove if the finding cannot get this status. Nothing is
    changed then.
    """
    if value == now:
        return
    new = [each for each in referred(field, value) if each not in referred(field, now)]
    if new and (gone := missing(db, field.refers, new)):
        raise NotFound(f"{field.refers[:-1]} {gone[0]!r} is gone")
    if field.name == "status":
        with db.atomic():
            if undo and "open" not in (now, value):  # a transition from one decision to another goes through open
                Findings(db).triage(key, "open", by=by, reason=note)
            Findings(db).triage(key, value, by=by, reason=note)
    elif field.link:
        for verb, ids in (
            (f"DELETE FROM scene_{field.link}s WHERE scene_id = ? AND {field.link}_id = ?", _without(now, value)),
            (f"INSERT INTO scene_{field.link}s (scene_id, {field.link}_id) VALUES (?, ?)", new),
        ):
            if ids:
                db.executemany(verb, [(key, each) for each in ids])
        db.execute_sql("UPDATE scenes SET updated_at = ? WHERE id = ?", (format_time(utcnow()), key))
    elif field.name == "date":
        db.execute_sql(
            "UPDATE scenes SET scene_date = ?, scene_date_precision = ? WHERE id = ?", (*read_date(value), key)
        )
    else:
        db.execute_sql(f"UPDATE {field.target}s SET {field.column} = ? WHERE id = ?", (value, key))
