"""Settings: JSON values by name.

``store.settings`` works like a dictionary, except that ``update`` changes one value with a function. ``replace`` and
``update`` compare before they write, so they never lose a write of another process.

Change here: the accepted values of a setting, and how they are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import peewee

from scanstore.db.domain import Domain, List, reads
from scanstore.db.fields import JSONField, Timestamped
from scanstore.db.generic_fields import JsonValue
from scanstore.db.pagination import listed
from scanstore.db.rows import Removed, Rows
from scanstore.db.values import dump_json
from scanstore.errors import InvalidArgument, NotFound, shown

_T = TypeVar("_T", bool, int, float, str, list[JsonValue], dict[str, JsonValue])
_D = TypeVar("_D")

WITHOUT_LOCK = 5  # the number of optimistic attempts of update() before it takes the write lock
SET = """
INSERT INTO settings (key, value, description) VALUES (?1, ?2, ?3)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, description = coalesce(excluded.description, description)
    WHERE value <> excluded.value OR description IS NOT coalesce(excluded.description, description)
"""


class Setting(Timestamped):
    """One setting; ``updated_at`` is the time of the last change of its value."""

    __shown__ = ": description | value!r, updated_at"

    key = peewee.TextField(primary_key=True)
    value: JSONField[JsonValue] = JSONField()
    description = peewee.TextField(null=True)

    class Meta:
        table_name = "settings"


class Settings(Domain):
    """Values by name: ``store.settings["page_size"] = 50``. Each call is atomic. Iterating yields the sorted names."""

    # -- reading -----------------------------------------------------------------------------------------------------

    @reads
    def __getitem__(self, key: str) -> JsonValue:
        """Return the value with this name. Raises NotFound."""
        text = self._text(key)
        if text is None:
            raise _missing(key)
        return _read(text)

    @overload
    def get(self, key: str, default: None = None) -> JsonValue: ...

    @overload
    def get(self, key: str, default: _D) -> JsonValue | _D: ...

    @overload
    def get(self, key: str, default: _T, *, type: type[_T]) -> _T: ...

    @overload
    def get(self, key: str, default: None = None, *, type: type[_T]) -> _T | None: ...

    @reads
    def get(self, key: str, default: object = None, *, type: object = None) -> object:
        """Return the value with this name, or ``default``.

        With ``type`` (bool, int, float, str, list or dict), a stored value of another type raises InvalidArgument,
        which names the type. A whole number is accepted as float; true and false are not numbers.
        """
        _check_type(type)
        text = self._text(key)
        return default if text is None else _of_type(key, _read(text), type)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(key.strip()) and self._text(key) is not None

    def __len__(self) -> int:
        return int(self.db.execute_sql("SELECT count(*) FROM settings").fetchone()[0])

    @reads
    def __iter__(self) -> Iterator[str]:
        return iter([key for (key,) in self.db.execute_sql("SELECT key FROM settings ORDER BY key").fetchall()])

    @reads
    def keys(self) -> List[str]:
        """Return the sorted names. ``dict(store.settings)`` uses this."""
        return List(iter(self))

    @reads
    def values(self) -> List[JsonValue]:
        """Return all values, sorted by name."""
        return [value for _, value in self.items()]

    @reads
    def items(self) -> List[tuple[str, JsonValue]]:
        """Return all names with their values, sorted by name, from one snapshot."""
        return List(self.to_dict().items())

    @reads
    def list(self, *, limit: int | None = None, offset: int = 0, sort: str | None = None) -> Rows[Setting]:
        """List settings with their descriptions and times, by name. Raises InvalidArgument."""
        return listed(Setting.select().order_by(Setting.key), limit=limit, offset=offset, sort=sort)

    @reads
    def to_dict(self) -> dict[str, JsonValue]:
        """Return all values by name, from one snapshot."""
        rows = self.db.execute_sql("SELECT key, value FROM settings ORDER BY key").fetchall()
        return {key: json.loads(value) for key, value in rows}

    # -- writing -----------------------------------------------------------------------------------------------------

    def set(self, key: str, value: object, *, description: str | None = None) -> None:
        """Set a JSON value under a name. Without ``description``, the old one stays.

        Idempotent. Raises InvalidArgument for an empty name and for a value without a JSON form.
        """
        self.db.execute_sql(SET, (_checked(key), dump_json(value), _described(key, description)))

    def __setitem__(self, key: str, value: object) -> None:
        self.set(key, value)

    @overload
    def ensure(self, key: str, default: _T, *, type: type[_T], description: str | None = None) -> _T: ...

    @overload
    def ensure(self, key: str, default: object, *, description: str | None = None) -> JsonValue: ...

    def ensure(self, key: str, default: object, *, type: object = None, description: str | None = None) -> object:
        """Set a value under a name unless it exists, and return the stored value.

        Idempotent, so that scripts can call it at the start. Raises InvalidArgument, also if the default or the stored
        value is not of ``type``.
        """
        _check_type(type)
        text = dump_json(_of_type(_checked(key), default, type))
        with self.db.atomic():
            self._add(key, text, _described(key, description))
            return _of_type(key, _read(self._text(key) or text), type)

    def remove(self, key: str) -> Removed:
        """Remove a setting, and return the number of removed rows by table. Raises NotFound, InvalidArgument."""
        if self._remove(key) is None:
            raise _missing(key)
        return Removed(settings=1)

    def __delitem__(self, key: str) -> None:
        self.remove(key)

    @overload
    def pop(self, key: str) -> JsonValue: ...

    @overload
    def pop(self, key: str, default: _D) -> JsonValue | _D: ...

    def pop(self, key: str, default: object = ...) -> object:
        """Remove a setting and return its value. If it is missing, return ``default``; without one, raise NotFound."""
        text = self._remove(key)
        if text is not None:
            return _read(text)
        if default is ...:
            raise _missing(key)
        return default

    def replace(self, key: str, old: object, new: object) -> bool:
        """Set a value if the current value is ``old``. Return whether it was; False if the setting is missing.

        Values are compared as JSON: the order of an object's keys does not matter, and 1, 1.0 and true differ.
        """
        expected, text = _canonical(dump_json(old)), dump_json(new)
        with self.db.atomic():
            now = self._text(key)
            return now is not None and _canonical(now) == expected and self._swap(key, now, text)

    @overload
    def update(self, key: str, function: Callable[[_T], _T], *, default: _T = ..., type: type[_T]) -> _T: ...

    @overload
    def update(self, key: str, function: Callable[[JsonValue], object], *, default: object = ...) -> JsonValue: ...

    def update(
        self, key: str, function: Callable[[Any], object], *, default: object = ..., type: object = None
    ) -> object:
        """Set a value to ``function(value)``, and return it. No write of another process is lost.

        If the value has changed meanwhile, ``function`` is called again with the new value, finally under the write
        lock, so it should have no side effects. A missing value starts with ``default``. Raises NotFound without a
        default, InvalidArgument for a value without a JSON form.
        """
        _check_type(type)
        if not callable(function):
            raise InvalidArgument(
                f"function is {shown(function)}; give one that takes the value and returns the new one"
            )
        for _ in range(WITHOUT_LOCK):
            done, value = self._try(key, function, default, type)
            if done:
                return value
        with self.db.atomic():
            return self._try(key, function, default, type)[1]

    def _try(self, key: str, function: Callable[[Any], object], default: object, type_: object) -> tuple[bool, object]:
        now = self._text(key)
        if now is None and default is ...:
            raise _missing(key)
        value = _of_type(key, function(_of_type(key, default if now is None else _read(now), type_)), type_)
        text = dump_json(value)
        return (self._add(key, text, None) if now is None else self._swap(key, now, text)), _read(text)

    # -- statements --------------------------------------------------------------------------------------------------

    def _text(self, key: str) -> str | None:
        row = self.db.execute_sql("SELECT value FROM settings WHERE key = ?", (_checked(key),)).fetchone()
        return None if row is None else str(row[0])

    def _remove(self, key: str) -> str | None:
        """Remove a setting, and return the text of its value, or None if it is missing."""
        sql = "DELETE FROM settings WHERE key = ? RETURNING value"
        with self.db.atomic():
            rows = self.db.execute_sql(sql, (_checked(key),)).fetchall()
        return str(rows[0][0]) if rows else None

    def _add(self, key: str, text: str, description: str | None) -> bool:
        sql = "INSERT INTO settings (key, value, description) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return bool(self.db.execute_sql(sql, (key, text, description)).rowcount)

    def _swap(self, key: str, now: str, text: str) -> bool:
        if now == text:
            return True  # the value is unchanged, so it is correct
        sql = "UPDATE settings SET value = ? WHERE key = ? AND value = ?"
        return bool(self.db.execute_sql(sql, (text, key, now)).rowcount)


def _missing(key: str) -> NotFound:
    return NotFound(f"no setting {key!r}; set it first, or read it with store.settings.get(key, default)")


def _checked(key: object) -> str:
    if not isinstance(key, str) or not key.strip():
        raise InvalidArgument(f"{shown(key)} is no name of a setting; give text that is not empty")
    return key


def _described(key: str, description: object) -> str | None:
    if description is not None and not isinstance(description, str):
        raise InvalidArgument(f"the description of setting {shown(key)} is {shown(description)}; give text")
    return description


def _read(text: str) -> JsonValue:
    value: JsonValue = json.loads(text)
    return value


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def _check_type(type_: object) -> None:
    if type_ not in (None, bool, int, float, str, list, dict):
        raise InvalidArgument(f"type is {shown(type_)}; it must be bool, int, float, str, list or dict")


def _of_type(key: str, value: Any, type_: Any) -> Any:
    if type_ is None or type(value) is type_:
        return value
    if type_ is float and type(value) is int:
        return float(value)
    shown = json.dumps(value, default=repr)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    raise InvalidArgument(f"setting {key!r} is {shown}, which is not of type {type_.__name__}; set it to one that is")
