"""The caller's severities of rules count before those of a report."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from test_sarif import dumped, load, packed, report, result, rows

from scanstore import AsyncStore
from scanstore.errors import InvalidArgument
from scanstore.store import Store


def severities(store: Store) -> dict[str, str]:
    return {one.rule_id: one.severity for one in store.findings.list()}


RESULTS = [result(n, rule=rule, uri=f"src/{n}.py") for n, rule in enumerate(("R1", "python:S1", "r2"))]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["medium", "medium", "medium"]),
        ({"R1": "info", "r1 ": "info"}, None),
        ({"r1": "INFO"}, ["info", "medium", "medium"]),
        ({"demo:R1": "low", "R1": "info", "Demo:*": "high"}, ["low", "high", "high"]),
        ({"R1": "info", "demo:*": "high", "other:*": "low"}, ["info", "high", "high"]),
        ({"python:S1": "critical", "R2": "low"}, ["medium", "critical", "low"]),
        ({"other:R1": "low"}, ["medium", "medium", "medium"]),
    ],
)
def test_the_closest_name_counts(store: Store, given: Any, found: list[str] | None) -> None:
    document = report(*RESULTS)
    for each in document["runs"][0]["results"]:
        each["level"] = "warning"
    if found is None:
        with pytest.raises(InvalidArgument, match="twice"):
            load(store, document, severities=given)
        return
    load(store, document, severities=given)
    assert severities(store) == dict(zip(("R1", "python:S1", "r2"), found, strict=True))
    assert store.check() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([("R1", "low")], "give a mapping"),
        ("R1", "give a mapping"),
        ({3: "low"}, "severities has 3, no name of a rule"),
        ({"*": "low"}, "no name of a rule"),
        ({"": "low"}, "no name of a rule"),
        ({"R1": "nasty"}, "it must be one of: critical"),
        ({"R1": None}, "it must be one of: critical"),
    ],
)
def test_wrong_ones_are_refused_and_nothing_is_written(store: Store, given: Any, told: str) -> None:
    before = rows(store)
    with pytest.raises(InvalidArgument, match=told.replace("*", r"\*")):
        store.sarif.load(packed(report(result(1))), target="t", severities=given)
    assert rows(store) == before


def test_a_changed_severity_updates_the_finding_and_a_repetition_changes_nothing(store: Store) -> None:
    document = report(result(1, level="error"), result(2, rule="R2", level="error"))
    assert load(store, document).new == 2
    changed = load(store, document, severities={"R1": "low"})
    assert (changed.updated, changed.unchanged, changed.again) == (1, 1, False)
    before = {name: number for name, number in rows(store).items() if name != "tool_runs"}
    for given in ({"R1": "low"}, {"demo:r1": "LOW", "other:*": "info"}):  # the same effect
        again = load(store, document, severities=given)
        assert again.again and again.scan == changed.scan
    assert {name: number for name, number in rows(store).items() if name != "tool_runs"} == before
    assert severities(store) == {"R1": "low", "R2": "high"}
    back = load(store, document)
    assert (back.updated, back.again) == (1, False)
    assert severities(store) == {"R1": "high", "R2": "high"}
    assert load(store, document, severities={"R1": "high"}).again  # which the report says too
    assert store.check() == []


def test_a_part_of_a_scan(store: Store) -> None:
    document = report(result(1, level="error"))
    first = load(store, document)
    load(store, document, target=None, scan=first.scan, severities={"R1": "low"})
    assert load(store, document, target=None, scan=first.scan, severities={"R1": "low"}).again
    assert len(severities(store)) == 1 and store.check() == []


def test_a_written_report_keeps_the_severity(store: Store, tmp_path: Path) -> None:
    load(store, report(result(1, level="error")), severities={"R1": "info"})
    with Store(tmp_path / "copy.db") as other:
        load(other, dumped(store), target="t")
        assert severities(other) == {"R1": "info"}


def test_asynchronously(db_path: Path) -> None:
    async def use() -> list[str]:
        async with AsyncStore(db_path) as store:
            await store.sarif.load(packed(report(result(1))), target="t", severities={"R1": "info"})
            return [one.severity for one in await store.findings.list()]

    assert asyncio.run(use()) == ["info"]
