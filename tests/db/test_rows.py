"""Rows by a condition, the rows of a list, and removal with its counts."""

from __future__ import annotations

from typing import Any

import pytest

from scanstore import Store
from scanstore.db.pagination import listed
from scanstore.db.rows import read_keys, remove
from scanstore.errors import InvalidArgument
from scanstore.models import AnalysisSession, AnalysisTask, Setting


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
