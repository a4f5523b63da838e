"""A preview of a plan: each value before and after, computed by the functions that apply it.

Change here: the values that a reviewer sees.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from scanstore.db.database import Database
from scanstore.db.generic_fields import JsonValue
from scanstore.db.notebooks import described
from scanstore.db.values import dump_json
from scanstore.plans.changes import AT_ONCE, FIELDS, forward, names, read, referred


class FieldPreview(NamedTuple):
    """A value before and after. ``changes`` are the ids of its changes, ``conflicts`` the ids of those that would be
    skipped, ``names`` the names for the ids in the values.
    """

    field: str
    before: JsonValue
    after: JsonValue
    changes: list[int]
    conflicts: list[int]
    names: dict[str, str]


@described
class Preview(NamedTuple):
    """A scene or finding with the fields that a plan changes. A removed target is ``gone`` and has no fields; applying
    would fail.
    """

    target: str
    key: str
    title: str
    gone: bool
    fields: list[FieldPreview]


CHANGES = """
SELECT id, target, target_key, coalesce(finding_id, target_key), field, action, current_value, proposed_value
  FROM plan_changes WHERE plan_id = ? AND status IN (SELECT value FROM json_each(?))
   AND (? IS NULL OR (target = 'scene' AND target_key = ?)) ORDER BY id
"""


def preview(
    db: Database, plan_id: int, statuses: tuple[str, ...], scene: str | None, *, limit: int | None, offset: int
) -> list[Preview]:
    """See :meth:`scanstore.plans.plans.Plans.preview`. Reads everything in one transaction."""
    with db.atomic("DEFERRED"):
        rows = db.execute_sql(CHANGES, (plan_id, dump_json(statuses), scene, scene)).fetchall()
        about: dict[tuple[str, str, object], list[object]] = {}
        for row in rows:
            about.setdefault((row[1], row[2], row[3]), []).append(row)
        end = None if limit is None else offset + limit
        about = dict(list(about.items())[offset:end])  # only the values of these are read
        titles: dict[tuple[str, object], str] = {}
        values: dict[tuple[str, object], dict[str, object]] = {}
        for target in ("scene", "finding"):
            keys = [key for kind, _, key in about if kind == target]
            fields = {row[4] for row in rows if row[1] == target}
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                values.update({(target, key): each for key, each in read(db, target, some, fields).items()})
                sql = f"SELECT t.id, t.title FROM json_each(?) AS i CROSS JOIN {target}s AS t ON t.id = i.value"
                titles.update({(target, key): name for key, name in db.execute_sql(sql, (dump_json(some),)).fetchall()})
        found = []
        for (target, text, key), some_changes in about.items():
            now = values.get((target, key))
            each = [] if now is None else _fields(now, some_changes)
            found.append(Preview(target, text, titles.get((target, key), ""), now is None, each))
        return _named(db, found)


def _fields(now: dict[str, Any], rows: list[Any]) -> list[FieldPreview]:
    """Return the values of one target after its changes, one after another."""
    found: dict[str, FieldPreview] = {}
    for number, _, _, _, name, action, current, proposed in rows:
        at = found.get(name) or FieldPreview(name, now[name], now[name], [], [], {})
        effect = forward(FIELDS[name], action, at.after, json.loads(current or "null"), json.loads(proposed or "null"))
        at.changes.append(number)
        if effect.conflict:
            at.conflicts.append(number)
        found[name] = at if effect.conflict else at._replace(after=effect.value)
    return list(found.values())


def _named(db: Database, previews: list[Preview]) -> list[Preview]:
    """Add the names of the rows that the values refer to."""
    wanted: dict[str, set[str]] = {}
    for each in (field for one in previews for field in one.fields):
        ids = referred(FIELDS[each.field], each.before) + referred(FIELDS[each.field], each.after)
        if ids:
            wanted.setdefault(FIELDS[each.field].refers, set()).update(ids)
    known = {table: names(db, table, ids) for table, ids in wanted.items()}
    for each in (field for one in previews for field in one.fields):
        here = known.get(FIELDS[each.field].refers, {})
        ids = referred(FIELDS[each.field], each.before) + referred(FIELDS[each.field], each.after)
        each.names.update({key: here[key] for key in ids if key in here})
    return previews
