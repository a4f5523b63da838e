"""Settings: JSON values by name, that scripts and people keep in the store.

``store.settings`` reads like a dictionary. What several processes may change at once is changed by comparing:
``replace`` and ``update`` never lose a concurrent write. Change here: what a setting may hold and how it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import peewee

from scanstore.db.domain import Domain, List, reads
from scanstore.db.fields import JSONField, Timestamped
from scanstore.db.generic_fields import JsonValue
from scanstore.db.values import dump_json
from scanstore.errors import InvalidArgument, NotFound, shown

_T = TypeVar("_T", bool, int, float, str, list[JsonValue], dict[str, JsonValue])
_D = TypeVar("_D")

WITHOUT_LOCK = 5  # how often update() works beside other writers before it keeps them out
SET = """
INSERT INTO settings (key, value, description) VALUES (?1, ?2, ?3)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, description = coalesce(excluded.description, description)
    WHERE value <> excluded.value OR description IS NOT coalesce(excluded.description, description)
"""


class Setting(Timestamped):
    """One value; ``updated_at`` is when it last became another one."""

    key = peewee.TextField(primary_key=True)
    value: JSONField[JsonValue] = JSONField()
    description = peewee.TextField(null=True)

    class Meta:
        table_name = "settings"


class Settings(Domain):
    """Values by name: ``store.settings["page_size"] = 50``. Each call is atomic; iterating yields the names, sorted."""

    # -- reading -----------------------------------------------------------------------------------------------------

    @reads
    def __getitem__(self, key: str) -> JsonValue:
        """Return the value of that name; type checkers know its type by ``get(key, type=int)``. Raises NotFound."""
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
        """Return the value of that name, or ``default``.

        With ``type`` (bool, int, float, str, list or dict) a stored value of another one raises InvalidArgument, naming
        it. A whole number will do for float; true and false are no numbers.
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
        """The names, sorted; with it ``dict(store.settings)`` is all values."""
        return List(iter(self))

    @reads
    def list(self) -> List[Setting]:
        """All settings with their descriptions and times, by name."""
        return list(Setting.select().order_by(Setting.key))

    @reads
    def to_dict(self) -> dict[str, JsonValue]:
        """All values by name, as they are at one moment."""
        rows = self.db.execute_sql("SELECT key, value FROM settings ORDER BY key").fetchall()
        return {key: json.loads(value) for key, value in rows}

    # -- writing -----------------------------------------------------------------------------------------------------

    def set(self, key: str, value: object, *, description: str | None = None) -> None:
        """Keep a JSON value under a name, whatever was there; without ``description`` the old one stays.

        Idempotent. Raises InvalidArgument for an empty name and for what JSON cannot say.
        """
        self.db.execute_sql(SET, (_checked(key), dump_json(value), _described(key, description)))

    def __setitem__(self, key: str, value: object) -> None:
        self.set(key, value)

    @overload
    def define(self, key: str, default: _T, *, type: type[_T], description: str | None = None) -> _T: ...

    @overload
    def define(self, key: str, default: object, *, description: str | None = None) -> JsonValue: ...

    def define(self, key: str, default: object, *, type: object = None, description: str | None = None) -> object:
        """Keep a value under a name unless there is one, and return the one that is there then.

        Idempotent, so that a script can begin with it. Raises InvalidArgument, also when the default or the value that
        is there is not of ``type``.
        """
        _check_type(type)
        text = dump_json(_of_type(_checked(key), default, type))
        with self.db.atomic():
            self._add(key, text, _described(key, description))
            return _of_type(key, _read(self._text(key) or text), type)

    def unset(self, key: str) -> None:
        """Remove a setting. Raises NotFound."""
        if not self.db.execute_sql("DELETE FROM settings WHERE key = ?", (_checked(key),)).rowcount:
            raise _missing(key)

    def __delitem__(self, key: str) -> None:
        self.unset(key)

    def replace(self, key: str, old: object, new: object) -> bool:
        """Set a value if it is ``old`` now; return whether it was. False, too, when it is missing.

        What counts is what JSON says: the order of an object's keys does not matter, and 1, 1.0 and true differ.
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
        """Set a value to what ``function`` makes of it, and return that; nothing that others write is lost.

        When the value has changed meanwhile, ``function`` is called again with the new value, at last with other
        writers kept out, so it should have no side effects. It begins with ``default`` when there is no value. With
        ``type``, as for :meth:`get`, the old and the new value must be of that type. Raises NotFound without a
        default, InvalidArgument for another type and for what JSON cannot say.
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

    def _add(self, key: str, text: str, description: str | None) -> bool:
        sql = "INSERT INTO settings (key, value, description) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return bool(self.db.execute_sql(sql, (key, text, description)).rowcount)

    def _swap(self, key: str, now: str, text: str) -> bool:
        if now == text:
            return True  # as it should be: it has not become another one
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
