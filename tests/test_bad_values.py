"""Bad values: every public call of every domain is given values of every wrong kind, and refuses them as documented.

Driven by signatures, so that a new method is covered the day it is written. Nothing but a ScanstoreError may come, or
the TypeError of a call that has the wrong shape; and the store is as sound afterwards as before.
"""

from __future__ import annotations

import contextlib
import inspect
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hostile import limited
from stressing import fill

from scanstore import ScanstoreError, Store
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
    settings = store.settings
    for name in ("__getitem__", "__setitem__", "__delitem__", "__contains__"):
        yield f"settings.{name}", getattr(settings, name), inspect.signature(getattr(settings, name))


def plausible(parameter: inspect.Parameter, store: Store) -> Any:
    """A value that a parameter would take, so that a call gets as far as the one that is wrong."""
    kind, name = str(parameter.annotation), parameter.name
    if name in ("scan", "a", "b"):
        return Scan.select().order_by(Scan.id.desc()).get()
    if "Mapping" in kind or "Any" in kind and name == "records":
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
    if "str" in kind or "PathLike" in kind or kind == "Any":
        return "x"
    return 1


def call(method: Callable[..., Any], name: str, signature: inspect.Signature, given: dict[str, Any]) -> None:
    positional = [
        given[key]
        for key, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and key in given
    ]
    named = {
        key: value
        for key, value in given.items()
        if signature.parameters[key].kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    }
    for key, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL and key in given:
            positional.append(given[key])
    result = method(*positional, **named)
    if isinstance(result, Iterator):
        for _ in zip(range(1000), result, strict=False):
            pass
    elif isinstance(result, contextlib.AbstractContextManager) and name != "library.sync":
        with result:
            pass


def shape_of_call(error: TypeError) -> bool:
    """Whether a TypeError says that the call itself has the wrong shape, and not that something broke inside."""
    return error.__traceback__ is not None and len(list(traceback.walk_tb(error.__traceback__))) <= 2


@pytest.mark.parametrize("what", VALUES)
def test_every_call_refuses_a_bad_value(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "scan.db"
    shutil.copy(full, path)
    bad, outcomes, wrong = VALUES[what], Counter[str](), []
    with Store(path, durability="normal", timeout=1) as store:
        for name, method, signature in methods(store):
            for key, parameter in signature.parameters.items():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    continue
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
