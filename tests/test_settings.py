"""Settings: values come back as they were, by type when asked for, and nothing that anybody writes is lost."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanstore import InvalidArgument, NotFound, Store
from scanstore.settings import Setting

VALUES = [None, True, False, 0, 1, -(2**70), 1.5, "", "é\ud800", [], [1, [2]], {}, {"a": {"b": None}}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_were(store: Store, value: Any) -> None:
    store.settings["x"] = value
    found = store.settings["x"]
    assert found == value and type(found) is type(value)
    assert store.settings.get("x", "other") == value
    assert [row.value for row in store.settings.list()] == [value]
    assert store.check() == []


def test_it_reads_like_a_dictionary(store: Store) -> None:
    settings = store.settings
    assert len(settings) == 0 and list(settings) == [] and "a" not in settings
    settings["b"], settings["a"] = 1, [2]
    assert list(settings) == ["a", "b"] and len(settings) == 2 and "a" in settings and 5 not in settings
    assert settings.to_dict() == {"a": [2], "b": 1}
    assert settings.get("c") is None and settings.get("c", 7) == 7
    del settings["a"]
    settings.remove("b")
    assert settings.to_dict() == {}
    for missing in (lambda: settings["a"], lambda: settings.remove("a"), lambda: settings.__delitem__("a")):
        with pytest.raises(NotFound, match="no setting 'a'; set it first"):
            missing()


def test_all_is_given_as_lists_in_the_order_of_names(store: Store) -> None:
    settings = store.settings
    settings["b"], settings["a"], settings["c"] = None, [2], {"d": 1}
    assert settings.keys() == ["a", "b", "c"]
    assert settings.values() == [[2], None, {"d": 1}]
    assert settings.items() == [("a", [2]), ("b", None), ("c", {"d": 1})]
    assert dict(settings) == dict(settings.items()) == settings.to_dict()  # type: ignore[call-overload]
    assert [row.key for row in settings.list(limit=1, offset=1)] == ["b"]
    assert [row.key for row in settings.list(sort="-key")] == ["c", "b", "a"]
    for options in ({"limit": -1}, {"offset": "1"}, {"sort": "value"}):
        with pytest.raises(InvalidArgument):
            settings.list(**options)  # type: ignore[arg-type]


def test_removing_returns_counts_and_pop_the_value(store: Store) -> None:
    settings = store.settings
    settings["a"], settings["b"], settings["none"] = 1, [2], None
    assert settings.remove("a") == {"settings": 1}
    assert settings.pop("b") == [2] and "b" not in settings
    assert settings.pop("none", 7) is None and settings.pop("none", 7) == 7 and settings.pop("none", None) is None
    with pytest.raises(NotFound, match="no setting 'b'"):
        settings.pop("b")
    with pytest.raises(RuntimeError), store.transaction():
        settings["a"] = 1
        settings.pop("a")
        raise RuntimeError
    assert len(settings) == 0 and store.check() == []


def test_types_are_asked_for(store: Store) -> None:
    settings = store.settings
    settings["n"], settings["t"], settings["f"], settings["yes"] = 3, "x", 0.5, True
    assert settings.get("n", 1, type=int) == 3
    assert settings.get("none", 1, type=int) == 1
    assert settings.get("yes", False, type=bool) is True
    number = settings.get("n", 1.0, type=float)
    assert number == 3.0 and type(number) is float
    with pytest.raises(InvalidArgument, match="setting 't' is \"x\", which is not of type int; set it"):
        settings.get("t", 1, type=int)
    for key, kind in (("yes", int), ("yes", float), ("n", bool), ("f", int), ("n", str), ("t", list), ("t", dict)):
        with pytest.raises(InvalidArgument, match=f"setting '{key}' is .* not of type {kind.__name__}"):
            settings.get(key, type=kind)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgument, match="it must be bool, int, float, str, list or dict"):
        settings.get("n", type=set)  # type: ignore[call-overload]
    settings["long"] = "x" * 1000
    with pytest.raises(InvalidArgument) as caught:
        settings.get("long", 1, type=int)
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize("key", ["", "  ", None, 5, b"x"])
def test_bad_names_are_refused(store: Store, key: Any) -> None:
    settings = store.settings
    for use in (
        lambda: settings.set(key, 1), lambda: settings.get(key), lambda: settings[key], lambda: settings.remove(key),
        lambda: settings.pop(key), lambda: settings.pop(key, 1),
        lambda: settings.ensure(key, 1), lambda: settings.replace(key, 1, 2), lambda: settings.update(key, str),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="is no name of a setting"):
            use()
    assert key not in settings


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object, {1, 2}, b"x", {("a",): 1}], ids=repr)
def test_what_json_cannot_say_is_refused(store: Store, value: Any) -> None:
    store.settings["x"] = 1
    for use in (
        lambda: store.settings.set("x", value), lambda: store.settings.ensure("y", value),
        lambda: store.settings.replace("x", 1, value), lambda: store.settings.update("x", lambda _: value),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="cannot be stored as JSON"):
            use()
    assert store.settings.to_dict() == {"x": 1}


def test_descriptions_stay_until_another_is_given(store: Store) -> None:
    store.settings.set("x", 1, description="what it is for")
    store.settings.set("x", 2)
    store.settings["x"] = 3
    assert Setting.get_by_id("x").description == "what it is for"
    store.settings.set("x", 3, description="")
    assert Setting.get_by_id("x").description == ""
    with pytest.raises(InvalidArgument, match="the description of setting 'x' is 5; give text"):
        store.settings.set("x", 1, description=5)  # type: ignore[arg-type]


def test_updated_at_is_when_it_became_another_one(store: Store) -> None:
    store.settings["x"] = {"a": 1}
    store.database.execute_sql("UPDATE settings SET updated_at = '2020-01-01T00:00:00.000Z'")
    store.settings["x"] = {"a": 1}
    store.settings.update("x", dict)
    assert Setting.get_by_id("x").updated_at.year == 2020
    store.settings["x"] = {"a": 2}
    assert Setting.get_by_id("x").updated_at.year > 2020


def test_ensure_leaves_what_is_there(store: Store) -> None:
    assert store.settings.ensure("page_size", 50, type=int, description="rows of a page") == 50
    store.settings["page_size"] = 20
    assert store.settings.ensure("page_size", 50, type=int) == 20
    assert Setting.get_by_id("page_size").description == "rows of a page"
    with pytest.raises(InvalidArgument, match="'page_size' is 20, which is not of type str"):
        store.settings.ensure("page_size", "x", type=str)
    with pytest.raises(InvalidArgument, match="'other' is \"x\", which is not of type int"):
        store.settings.ensure("other", "x", type=int)
    assert "other" not in store.settings


def test_replace_compares_what_json_says(store: Store) -> None:
    settings = store.settings
    assert settings.replace("x", None, 1) is False and "x" not in settings
    settings["x"] = {"a": 1, "b": 2}
    assert settings.replace("x", {"b": 2, "a": 2}, 0) is False
    assert settings.replace("x", {"b": 2, "a": 1}, 1) is True
    assert settings.replace("x", True, 0) is False and settings.replace("x", 1.0, 0) is False
    assert settings.replace("x", 1, [1, 2]) is True
    assert settings.replace("x", (1, 2), None) is True and settings["x"] is None


def test_update_runs_again_when_somebody_else_was_faster(store: Store, db_path: Path) -> None:
    seen = []

    def more(value: int) -> int:
        seen.append(value)
        if len(seen) < 3:
            with Store(db_path) as other:
                other.settings["n"] = value + 10
        return value + 1

    store.settings["n"] = 0
    assert store.settings.update("n", more) == 21 == store.settings["n"]
    assert seen == [0, 10, 20]


def test_update_with_a_type_refuses_values_of_another_one(store: Store) -> None:
    assert store.settings.update("n", lambda n: n + 1, default=1, type=int) == 2
    store.settings["text"] = "2"
    for key, function in (("text", lambda n: n), ("n", str)):
        before = store.settings[key]
        with pytest.raises(InvalidArgument, match="not of type int"):
            store.settings.update(key, function, type=int)
        assert store.settings[key] == before
    with pytest.raises(InvalidArgument, match="type is"):
        store.settings.update("n", lambda n: n, type=bytes)  # type: ignore[type-var]


def test_update_of_what_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound):
        store.settings.update("n", lambda n: n + 1)
    assert store.settings.update("n", lambda n: n + 1, default=0) == 1
    assert store.settings.update("none", lambda n: n, default=None) is None and store.settings["none"] is None
    with pytest.raises(ZeroDivisionError):
        store.settings.update("n", lambda n: n / 0)
    assert store.settings["n"] == 1


def _count(path: str, times: int) -> None:
    with Store(path) as store:
        for _ in range(times):
            store.settings.update("n", lambda n: n + 1, default=0)
            while True:
                now = store.settings.get("m", 0, type=int)
                if "m" in store.settings and store.settings.replace("m", now, now + 1):
                    break


def test_no_change_is_lost_between_processes(db_path: Path) -> None:
    with Store(db_path) as store:
        store.settings["m"] = 0
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(str(db_path), 100)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with Store(db_path) as store:
        assert store.settings.to_dict() == {"m": 300, "n": 300}
        assert store.check() == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Store(tmp_path_factory.mktemp("settings") / "s.db", durability="normal") as opened:
        yield opened


@given(st.text(min_size=1).filter(str.strip), json_values, json_values)
def test_any_json_under_any_name(kept: Store, key: str, old: Any, new: Any) -> None:
    kept.settings[key] = old
    assert kept.settings[key] == old
    same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert kept.settings.replace(key, new, new) is same
    assert kept.settings.replace(key, old, new) is True
    assert kept.settings[key] == new


def test_a_transaction_of_the_caller_takes_settings_along(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        store.settings["x"] = 1
        store.settings.update("x", lambda x: x + 1)
        raise RuntimeError
    assert "x" not in store.settings
