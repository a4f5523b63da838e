"""Bad values: every public call of every domain is given values of every wrong kind, and refuses them as documented.

Driven by signatures, so that a new method is covered the day it is written. Nothing but a ScanstoreError may come, or
the TypeError of a call that has the wrong shape; and the store is as sound afterwards as before. By default each
parameter is given every sixth value, each its own ones; SCANSTORE_LONG=1 gives all values to all.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import shutil
import sqlite3
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile import limited
from stressing import LONG, fill

from scanstore import ScanstoreError, Store, check_db_health, drop_db, init_db, seed_db
from scanstore.analysis.policies import Ballot, Majority, MinimumConfidence, Unanimous, Weighted, judge
from scanstore.cli import main
from scanstore.db.rules import change_rows
from scanstore.db.values import DEEPEST
from scanstore.errors import InvalidArgument, shown
from scanstore.maintenance import backup
from scanstore.maintenance.cleaning import drop_foreign
from scanstore.models import Scan

DOMAINS = (
    "scans", "symbols", "llm", "chunks", "drafts", "verified", "findings", "sarif", "library", "plans", "jobs",
    "schedules", "settings", "accounts", "sessions", "audits", "search",
)  # fmt: skip
LEFT_OUT = {"model", "run_worker", "work", "wait"}  # these wait for something, or are no calls


def deep(levels: int = 100_000) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Odd:
    """An object of no kind that anybody knows."""


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "2**31": 2**31,
    "2**63": 2**63,
    "-2**63-1": -(2**63) - 1,
    "10**400": 10**400,
    "10**5000": 10**5000,
    "1.5": 1.5,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    "1e308": 1e308,
    "complex": 1j,
    "empty": "",
    "blank": " \t\n",
    "nul": "a\0b",
    "surrogate": "a\ud800b",
    "escaped byte": "a\udcffb",
    "long text": "x" * 100_000,
    "digits": "9" * 5000,
    "a date": "2026-01-01",
    "bytes": b"\xff\xfe",
    "bytearray": bytearray(b"x"),
    "a list": [1, None, "x"],
    "a deep list": deep(),
    "a circle": circle(),
    "a huge list": list(range(100_000)),
    "a set": {1, "x"},
    "a tuple": (1, 2, 3),
    "a mapping": {"a": 1, 2: "b"},
    "a mapping of trouble": {"id": "\ud800", "name": 2**64, "title": deep(2000), "file_path": float("nan")},
    "mappings": [{"id": "a\0b"}, {"name": float("inf")}],
    "an iterator": iter(()),
    "a class": int,
    "a function": len,
    "an object": Odd(),
    "the year 1": datetime.min.replace(tzinfo=UTC),
    "the year 1 elsewhere": datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    "the year 9999": datetime.max.replace(tzinfo=UTC),
    "the year 9999 elsewhere": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    "naive": datetime(2026, 1, 1),
    "a day": datetime(2026, 1, 1).date(),
    "longest": timedelta.max,
    "shortest": timedelta.min,
    "year 1 as text": "0001-01-01T00:00:00+14:00",
    "year 9999 as text": "9999-12-31T23:59:59-12:00",
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("values") / "full.db"
    fill(path)
    return path


def methods(store: Store) -> Iterator[tuple[str, Callable[..., Any], inspect.Signature]]:
    owners = [(domain, getattr(store, domain)) for domain in DOMAINS]
    for domain, owner in owners:
        for name, _ in sorted(inspect.getmembers(type(owner), callable)):
            if not name.startswith("_") and name not in LEFT_OUT:
                method = getattr(owner, name)
                yield f"{domain}.{name}", method, inspect.signature(method)
        if callable(owner):
            yield domain, owner, inspect.signature(owner)
    for name in ("prune", "report", "page", "counts", "dump", "load", "merge", "backup"):
        yield name, getattr(store, name), inspect.signature(getattr(store, name))
    for function in (Store, init_db, drop_db, seed_db, check_db_health, Store.restore, Store.repair):
        yield function.__name__, function, inspect.signature(function)
    settings = store.settings
    for name in ("__getitem__", "__setitem__", "__delitem__", "__contains__"):
        yield f"settings.{name}", getattr(settings, name), inspect.signature(getattr(settings, name))


def plausible(parameter: inspect.Parameter, store: Store) -> Any:
    """A value that a parameter would take, so that a call gets as far as the one that is wrong."""
    kind, name = str(parameter.annotation), parameter.name
    if name in ("scan", "a", "b"):
        return Scan.select().order_by(Scan.id.desc()).get()
    if kind.startswith(("Callable", "collections.abc.Callable")):
        return lambda *_: "x"
    if "Mapping" in kind or "object" in kind and name == "records":
        return [{"id": "x", "title": "x", "name": "x", "file_path": "x"}] if "Iterable" in kind else {"a": 1}
    if "Iterable" in kind or "Sequence" in kind:
        return ["x"]
    if "Callable" in kind:
        return lambda *_: "x"
    if "bool" in kind:
        return False
    if "datetime" in kind:
        return datetime(2026, 1, 1, tzinfo=UTC)
    if "timedelta" in kind:
        return timedelta(days=1)
    if "str" in kind or "PathLike" in kind or kind in ("Any", "object"):
        return "x"
    return 1


def call(method: Callable[..., Any], name: str, signature: inspect.Signature, given: dict[str, Any]) -> None:
    kinds = {key: parameter.kind for key, parameter in signature.parameters.items()}
    first = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}
    if any(kinds[key] is inspect.Parameter.VAR_POSITIONAL for key in given):
        first.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [given[key] for key, kind in kinds.items() if key in given and kind in first]
    named = {key: value for key, value in given.items() if kinds[key] not in first}
    result = method(*positional, **named)
    if isinstance(result, Store):
        result.close()
    elif isinstance(result, Iterator):
        for _ in zip(range(1000), result, strict=False):
            pass
    elif isinstance(result, contextlib.AbstractContextManager) and name != "library.sync":
        with result:
            pass


@pytest.mark.parametrize("what", VALUES)
def test_every_call_refuses_a_bad_value(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "scan.db"
    shutil.copy(full, path)
    bad, outcomes, wrong, turn = VALUES[what], Counter[str](), [], itertools.count(list(VALUES).index(what))
    with Store(path, durability="normal", timeout=1) as store:
        for name, method, signature in methods(store):
            for key, parameter in signature.parameters.items():
                if next(turn) % 6 and not LONG:
                    continue
                if parameter.kind is inspect.Parameter.VAR_KEYWORD or key == "progress" and callable(bad):
                    continue  # what a caller's own function raises is the caller's
                given = {
                    other: plausible(each, store)
                    for other, each in signature.parameters.items()
                    if each.default is inspect.Parameter.empty
                    and each.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
                }
                given[key] = bad
                with limited(60):
                    try:
                        call(method, name, signature, given)
                        outcomes["fine"] += 1
                    except ScanstoreError as error:
                        outcomes[type(error).__name__] += 1
                        if "\n" in str(error) or not str(error):
                            wrong.append(f"{name}({key}): {error!r:.200} has several lines")
                    except Exception as error:
                        wrong.append(f"{name}({key}): {error!r:.150} {traceback.extract_tb(error.__traceback__)[-1]}")
        if store.check() != []:
            wrong.append(f"check: {store.check()}")
    assert not wrong, "\n".join(wrong)
    assert outcomes


@pytest.mark.parametrize("bad", ["1", True, -1, float("nan"), float("inf"), 10**400, deep(2000), Odd()])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(store: Store, tmp_path: Path, bad: Any) -> None:
    copy = store.backup(tmp_path / "copy.db").path
    before = Path(copy).read_bytes()
    for call in (
        lambda: store.merge(copy, timeout=bad),
        lambda: backup.verify(copy, timeout=bad),
        lambda: drop_foreign(copy, timeout=bad),
        lambda: Store.restore(copy, tmp_path / "new.db", timeout=bad),
        lambda: Store(copy, timeout=bad),
    ):
        with pytest.raises(InvalidArgument, match="timeout is "):
            call()
    assert Path(copy).read_bytes() == before and not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("bad", ["1", -1, float("nan"), float("inf"), 10**400, deep(2000), Odd()])
def test_a_policy_of_bad_values_is_refused(bad: Any) -> None:
    ballots = [Ballot("verified", 90)]
    for policy in (
        Majority(of=bad), Unanimous(of=bad), Weighted({"m": bad}), Weighted(bad), Weighted(threshold=bad),
        MinimumConfidence(bad), bad,
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            judge(policy, ballots)


# Values that are too large --------------------------------------------------------------------------------------------


def test_a_value_that_sqlite_does_not_take_is_refused_with_the_limit_and_its_size(store: Store) -> None:
    """SQLite takes a thousand million bytes; here it is told to take less."""
    connection = store.database.connection()
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
    store.settings["small"] = "x" * 10_000
    for write in (
        lambda: store.settings.set("large", "x" * 60_000),
        lambda: store.settings.set("large", "\u00e9" * 30_000),
        lambda: store.settings.update("small", lambda value: value * 6),
        lambda: store.settings.ensure("large", 1, description="x" * 60_000),
        lambda: store.jobs.enqueue("x", meta={"a": "x" * 60_000}),
        lambda: store.plans.add("x", description="x" * 60_000),
        lambda: store.library.upsert_scenes([{"id": "a"}, {"id": "b", "title": "x" * 60_000}]),
    ):
        with pytest.raises(
            InvalidArgument, match=r"scan\.db takes no value or row of more than 50,000 bytes"
        ) as caught:
            write()
        assert "\n" not in str(caught.value)
    with pytest.raises(InvalidArgument, match="and was given 60,002"):
        store.settings.set("large", "x" * 60_000)
    assert store.settings.to_dict() == {"small": "x" * 10_000}
    assert not store.jobs.list() and not store.plans.list() and not store.library.list()
    assert store.check() == []


# Times ----------------------------------------------------------------------------------------------------------------

FIRST = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
LAST = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))


@pytest.mark.parametrize("moment", [FIRST, LAST])
def test_a_time_that_no_calendar_has_is_refused_by_its_value(store: Store, moment: datetime) -> None:
    text = moment.isoformat()
    scan = store.scans.finish(store.scans.add("t"))
    for call in (
        lambda: store.jobs.enqueue("x", run_at=moment),
        lambda: store.schedules.due(now=moment),
        lambda: store.schedules.run_due(now=moment),
        lambda: store.library.upsert_scenes([{"id": "a", "scene_date": moment}], strict=True),
        lambda: store.library.upsert_scenes([{"id": "a", "scene_date": text}], strict=True),
        lambda: store.findings.suppress(target="t", rule="r", reason="x", by="a", expires=moment),
        lambda: change_rows(Scan, completed_at=moment).where(Scan.id == scan.id).execute(),
        lambda: change_rows(Scan, completed_at=text).where(Scan.id == scan.id).execute(),
    ):
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert str(moment.year) in str(caught.value)
    assert not store.jobs.list() and not store.library.list() and store.check() == []


def test_the_first_and_the_last_times_are_kept(store: Store) -> None:
    store.schedules.add("daily", "x", "0 3 * * *", timezone="Asia/Tokyo")
    early = datetime(1, 1, 1, tzinfo=UTC)
    late = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert store.jobs.enqueue("x", run_at=early).run_at == early
    assert store.jobs.enqueue("x", run_at=late).run_at == late
    (job,) = store.jobs.claim("x")
    store.jobs.complete(job)
    assert store.jobs.state().next_at == late
    assert store.schedules.due(now=early) == []
    with pytest.raises(InvalidArgument, match="has no next time after 9999-12-31"):
        store.schedules.run_due(now=late)
    assert len(store.schedules.run_due(now=late - timedelta(days=2))) == 1
    assert store.prune(older_than=timedelta.max, dry_run=True).scans == []
    assert store.jobs.prune(older_than=timedelta.max) == 0
    assert store.check() == []


# Messages -------------------------------------------------------------------------------------------------------------


def test_a_message_is_one_line_that_can_be_printed() -> None:
    error = InvalidArgument("a\nb\x1b[31m\u202e\ud800 \u00e9")
    assert str(error) == "a\\nb\\x1b[31m\\u202e\\ud800 \u00e9"
    str(error).encode()


def test_any_value_can_be_shown() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise KeyError("no")

    assert shown("x" * 200) == repr("x" * 200)[:80] and shown([1], 2) == "[1"
    assert shown(deep()) == "<list that cannot be shown>"
    assert shown(10**5000) == "<int that cannot be shown>" and shown(Rude()) == "<Rude that cannot be shown>"


def test_what_is_nested_as_deep_as_may_be_is_read_again_from_a_deep_stack(store: Store) -> None:
    def deeper(steps: int) -> Any:
        return deeper(steps - 1) if steps else (store.settings["deep"], store.jobs.get(job).meta)

    deepest = deep(DEEPEST - 1)
    store.settings["deep"] = deepest
    job = store.jobs.enqueue("x", meta={"a": deep(DEEPEST - 2)})
    assert deeper(300) == (deepest, {"a": deep(DEEPEST - 2)})
    store.settings["wide"] = [[]] * 1000
    for levels in (DEEPEST, 100_000):
        with pytest.raises(InvalidArgument, match="cannot be stored as JSON"):
            store.settings["deep"] = deep(levels)
        with pytest.raises(InvalidArgument, match="cannot be stored as JSON"):
            store.jobs.enqueue("x", meta={"a": deep(levels)})
    assert store.settings["deep"] == deepest and store.check() == []


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "add", "x", "--meta"],
        ["schedules", "add", "n", "x", "0 3 * * *", "--config"],
        ["jobs", "add", "x", "--at"],
    ],
)
@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000, "0001-01-01T00:00:00+14:00"])
def test_the_command_line_refuses_in_one_line(store: Store, words: list[str], value: str) -> None:
    result = CliRunner().invoke(main, [*words, value, "--db", store.path])
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1].startswith("Error: ")
