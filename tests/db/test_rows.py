"""Rows by a condition, lists of rows and their frames, and removal with its counts."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
import pickle
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import public_signatures
import pytest

from scanstore import Store
from scanstore import models as all_models
from scanstore.db.frames import column_types
from scanstore.db.pagination import listed
from scanstore.db.rows import Rows, read_keys, remove
from scanstore.errors import InvalidArgument
from scanstore.models import AnalysisSession, AnalysisTask, Finding, Scan, Scene, Setting
from scanstore.snapshots.scans import Target

has_pandas = pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="needs pandas")


def test_removal_counts_the_rows_that_are_deleted_with_a_row(store: Store) -> None:
    user = store.accounts.add("ann@x.org")
    first, second = (store.sessions.add(user, name) for name in "ab")
    for session in (first, first, second):
        store.sessions.tasks.add(session, "read")
    store.sessions.results.add(first, analysis_type="x", result_content="y")
    with store.transaction():
        removed = remove(store.database, "analysis_sessions", "id = ?", (first.id,))
    assert removed == {"analysis_sessions": 1, "analysis_tasks": 2, "analysis_results": 1} and removed.total == 4
    assert AnalysisSession.select().count() == AnalysisTask.select().count() == 1
    with store.transaction():
        assert remove(store.database, "analysis_sessions", "id = ?", (first.id,)) == {}
    assert store.check() == []


def test_keys_are_read_in_their_order(store: Store) -> None:
    user = store.accounts.add("ann@x.org")
    keys = [store.sessions.add(user, str(n)).id for n in range(3)]
    assert [row.id for row in read_keys(store.database, AnalysisSession, [keys[2], "missing", keys[0]])] == [
        keys[2],
        keys[0],
    ]


def test_a_list_has_a_window_and_an_order(store: Store) -> None:
    for name in "abcd":
        store.settings.set(name, 1)
    query = Setting.select().order_by(Setting.key)

    def keys(**options: Any) -> str:
        return "".join(row.key for row in listed(query, **options))

    assert (keys(), keys(limit=2), keys(offset=3), keys(limit=2, offset=1), keys(limit=0)) == (
        "abcd", "ab", "d", "bc", "",
    )  # fmt: skip
    assert keys(sort="-key", limit=2) == "dc"
    for bad in (-1, "2", True, 1.5, float("nan"), 2**63):
        for name in ("limit", "offset"):
            with pytest.raises(InvalidArgument, match=f"{name} is"):
                listed(query, **{name: bad})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="cannot be sorted by 'colour'"):
        listed(query, sort="colour")


# Lists


def test_rows_behave_like_a_list(store: Store) -> None:
    for name in "abc":
        store.settings.set(name, 1)
    rows = store.settings.list()
    assert type(rows) is Rows and isinstance(rows, list) and rows == list(rows) and rows[0] is list(rows)[0]
    assert type(rows[1:]) is Rows and [row.key for row in rows[1:]] == ["b", "c"] and type(rows.copy()) is Rows
    assert repr(rows[:2]) == "[<Setting a>, <Setting b>]" and rows[:0] == [] and not rows[:0]
    assert type(rows + rows) is list and sorted(rows, key=lambda row: row.key, reverse=True)[0] is rows[2]
    rows.append(rows[0])
    assert len(rows) == 4 and rows.pop() is rows[0]
    assert json.dumps(Rows(["a"])) == '["a"]'


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_rows_are_pickled_and_copied_with_their_kind(protocol: int) -> None:
    rows = Rows([Target("a", None, True, True)], Target)
    for again in (pickle.loads(pickle.dumps(rows, protocol)), copy.copy(rows), copy.deepcopy(rows)):
        assert type(again) is Rows and again == rows and again._kind is Target


def test_a_long_list_is_shown_by_its_first_rows() -> None:
    rows = Rows(range(1000), int)
    assert repr(rows).endswith("48, 49, … 950 more]") and repr(rows[:50]) == repr(list(range(50)))
    printed: list[object] = []

    class Printer:
        def pretty(self, value: object) -> None:
            printed.append(value)

        text = pretty

    rows._repr_pretty_(Printer(), False)
    assert printed == [list(range(50)), " and 950 more"]


def test_every_list_of_rows_that_a_call_returns_has_frames() -> None:
    """Lists of texts and values are plain lists."""
    plain = {"str", "JsonValue", "list", "List", "tuple", "bool"}
    found = [
        str(each)
        for each in public_signatures.annotations()
        if each.name == "return"
        and public_signatures.words(each.given) & {"list", "List"}
        and not each.where.startswith(("scanstore.db", "scanstore.report"))  # not results of a store
        and not public_signatures.words(each.given) <= plain
    ]
    assert not found, "\n".join(found)


# Frames


def test_without_pandas_the_error_names_the_extra(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for each in (store.scans.list(), store.page(Scan)):
        with pytest.raises(InvalidArgument, match=r"pip install 'scanstore\[notebooks\]'"):
            each.to_pandas()


@pytest.mark.parametrize("name", all_models.__all__)
def test_the_columns_of_a_frame_are_known_without_rows(name: str) -> None:
    model = getattr(all_models, name)
    words = column_types(model)
    assert list(words) == list(model(__no_default__=True).to_dict()) and not set(words) & model.__secret__
    known = {"int", "bool", "float", "datetime", "str", "object"}
    extra = {"state", "counts"}
    assert {word.partition(" | ")[0] for column, word in words.items() if column not in extra} <= known


@has_pandas
def test_a_frame_has_the_columns_and_types_of_the_model(store: Store) -> None:
    scan = store.scans.add("<tree>")
    Finding.create(scan=scan, rule_id="r", title="T", severity="high", file_path="a.py", line_number=7)
    Finding.create(scan=scan, rule_id="r", title="U", severity="low", file_path="b.py", confidence=50)
    store.scans.finish(scan)
    findings = store.findings.list(scan)
    frame = findings.to_pandas()
    assert list(frame.columns) == list(findings[0].to_dict()) and list(frame.index) == [0, 1]
    assert list(frame["title"]) == ["T", "U"] and list(frame["scan"]) == [scan.id] * 2
    kinds = {name: str(frame[name].dtype) for name in frame}
    assert (kinds["id"], kinds["line_number"], kinds["cvss_score"]) == ("int64", "Int64", "float64")
    assert kinds["created_at"] == "datetime64[ms, UTC]" and kinds["fingerprints"] == "object"
    assert frame["line_number"].isna().tolist() == [False, True] and frame["fingerprints"][0] == {}
    assert frame["created_at"][0].to_pydatetime() == findings[0].created_at
    empty = findings[:0].to_pandas()
    assert list(empty.columns) == list(frame.columns) and list(empty.dtypes) == list(frame.dtypes) and len(empty) == 0
    page = store.page(Scan)
    assert page.to_pandas().equals(page.items.to_pandas()) and list(page.to_pandas()["target"]) == ["<tree>"]


@has_pandas
def test_a_frame_takes_any_time_and_number() -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    rows = Rows([Scan(id=1, target="a", created_at=at, revision=2**62) for at in (first, last)], Scan)
    frame = rows.to_pandas()
    assert [each.year for each in frame["created_at"]] == [1, 9999] and list(frame["revision"]) == [2**62] * 2
    day = datetime(2014, 1, 1, tzinfo=UTC)
    dates = Rows([Scene(id=p, scene_date=day, scene_date_precision=p) for p in ("year", "month", "day")], Scene)
    assert [row.to_dict()["scene_date"] for row in dates[:2]] == ["2014", "2014-01"]
    assert [str(each) for each in dates.to_pandas()["scene_date"]] == ["2014-01-01 00:00:00+00:00"] * 3


@has_pandas
def test_secrets_are_in_no_frame(store: Store) -> None:
    store.llm.add("m", api_key="s3cr3t")
    store.accounts.add("ada@example.org", hashed_password="$2b$12$" + "a" * 53)
    for rows, secret in ((store.llm.list(), "api_key"), (store.accounts.list(), "hashed_password")):
        frame = rows.to_pandas()
        assert secret not in frame and "s3cr3t" not in frame.to_csv() and len(frame) == 1


@has_pandas
def test_results_that_are_no_rows_have_frames_too(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    return g()\n\ndef g():\n    return 1\n")
    scan = store.scans.record(tmp_path, target="t")
    frame = store.symbols.callers("a.g").to_pandas()
    assert list(frame["qualified_name"]) == ["a.f"] and str(frame["distance"].dtype) == "int64"
    assert list(store.scans.targets().to_pandas().columns) == ["target", "root", "has_tree", "completed"]
    usage = store.llm.usage().to_pandas()
    assert list(usage.columns)[:2] == ["model", "purpose"] and str(usage["cost"].dtype) == "float64"
    assert len(store.findings.diff(scan, scan).new.to_pandas().columns) == len(column_types(Finding))
    summary = store.scans.summary(scan)
    assert list(summary.languages.to_pandas()["language"]) == ["Python"] and len(summary.failed_files.to_pandas()) == 0


@has_pandas
@pytest.mark.parametrize(
    "domain", ["scans", "symbols", "llm", "findings", "plans", "jobs", "schedules", "settings", "accounts", "audits"]
)
def test_an_empty_list_of_each_domain_keeps_its_columns(store: Store, tmp_path: Path, domain: str) -> None:
    (tmp_path / "a.py").write_text("")
    store.scans.record(tmp_path, target="t")
    rows = getattr(store, domain).list()[:0]
    assert type(rows) is Rows and inspect.isclass(rows._kind)
    assert list(rows.to_pandas().columns) == list(column_types(rows._kind))


@has_pandas
def test_results_without_rows_keep_their_columns(store: Store) -> None:
    plan = store.plans.add("p")
    scan = store.scans.add("t")
    store.scans.finish(scan)
    for rows in (
        store.library.names("tag"), store.library.find("tag", "x"), store.search("x"), store.search("*"),
        store.symbols.find("x"), store.symbols.unreferenced(), store.symbols.coverage(), store.plans.preview(plan),
        store.plans.changes(plan), store.jobs.claim(), store.chunks.claim(), store.jobs.retry(),
        store.schedules.due(), store.schedules.run_due(), store.llm.usage(), store.llm.calls(), store.check(),
        store.migrate_status()[:0], store.page(Scene).items, store.symbols.diff(scan, scan).added,
        store.findings.diff(scan, scan).new, store.stats().growth[:0],
    ):  # fmt: skip
        assert isinstance(rows, Rows) and rows == [] and rows._kind is not None
        assert list(rows.to_pandas().columns) == list(column_types(rows._kind))
