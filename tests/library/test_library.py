"""The library: records in, compared, linked, pruned, and given back as they came."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanstore.db.values import utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, NotFound, WrongStore
from scanstore.library import upserts
from scanstore.library.models import Performer, Scene, ScenePerformer, SceneTag, Studio, SyncCounts, SyncRun, Tag
from scanstore.store import Store

ANN, BOB = {"id": "p1", "name": "Ann"}, {"id": "p2", "name": "Bob"}
OUT, DAY, LONG = ({"id": f"t{n}", "name": name} for n, name in enumerate(("outdoor", "day", "long")))
MAKER = {"id": "s1", "name": "Maker"}
FULL = {
    "id": "1", "title": "One", "paths": ["/m/1.mp4", "/m/ü.mp4"], "organized": True, "details": "d",
    "created_date": "2026-03-01T12:00:00.000Z", "scene_date": "2026-02-28T00:00:00.000Z", "studio": MAKER,
    "performers": [ANN, BOB], "tags": [OUT, DAY],
}  # fmt: skip


def test_a_record_becomes_rows_and_reads_back_the_same(store: Store) -> None:
    library = store.library
    assert library.upsert_scenes([FULL, {"id": "2"}]) == SyncCounts(2, 0, 0, 4, 0)
    one, two = library.list()
    assert (one.title, one.paths, one.organized, one.details) == ("One", ["/m/1.mp4", "/m/ü.mp4"], True, "d")
    assert one.created_date == datetime(2026, 3, 1, 12, tzinfo=UTC) and one.scene_date.day == 28
    assert one.studio.name == "Maker" and [row.id for row in one.studio.scenes] == ["1"]
    assert sorted(row.name for row in one.performers) == ["Ann", "Bob"]
    assert [row.id for row in library.get("tag", "t1").scenes] == ["1"]
    assert (two.title, two.paths, two.organized, two.details, two.scene_date, two.studio) == (
        "",
        [],
        False,
        None,
        None,
        None,
    )
    assert utcnow() - two.created_date < timedelta(minutes=1)
    first, second = library.records()
    assert first == FULL
    assert second["performers"] == second["tags"] == []
    assert list(library.records(["2", two, "9"])) == [second, second]
    assert store.check() == []


def test_the_same_again_changes_nothing_but_when_it_was_seen(store: Store) -> None:
    store.library.upsert_scenes([FULL, {"id": "2"}])
    before = {model: list(model.select().dicts()) for model in (Scene, Performer, Tag, Studio)}
    Scene.update(last_synced="2026-01-01T00:00:00Z").execute()
    assert Scene.get_by_id("1").updated_at == before[Scene][0]["updated_at"]
    assert store.library.upsert_scenes([FULL, {"id": "2"}]) == SyncCounts(0, 0, 2, 0, 0)
    for model, rows in before.items():
        now = list(model.select().dicts())
        assert all(row["last_synced"] >= old["last_synced"] for row, old in zip(now, rows, strict=True))
        assert [{**row, "last_synced": 0} for row in now] == [{**row, "last_synced": 0} for row in rows]


def test_what_is_absent_stays_and_none_clears(store: Store) -> None:
    library = store.library
    library.upsert_scenes([FULL])
    old = library.get("scene", "1")
    Scene.update(updated_at="2026-01-01T00:00:00Z").execute()
    assert library.upsert_scenes([{"id": "1", "title": "Uno"}]) == SyncCounts(0, 1, 0, 0, 0)
    assert next(library.records()) == {**FULL, "title": "Uno"}
    assert library.get("scene", "1").updated_at > datetime(2026, 1, 2, tzinfo=UTC)
    Scene.update(updated_at="2026-01-01T00:00:00Z").execute()
    assert library.upsert_scenes([{"id": "1", "performers": [BOB], "tags": ["t2", "t1"][1:]}]) == SyncCounts(
        0, 1, 0, 0, 2
    )
    assert library.get("scene", "1").updated_at > datetime(2026, 1, 2, tzinfo=UTC)  # by its links alone
    empty = dict.fromkeys(("title", "paths", "organized", "details", "created_date", "scene_date", "studio", "tags"))
    assert library.upsert_scenes([{"id": "1", **empty, "performers": []}]) == SyncCounts(0, 1, 0, 0, 2)
    bare = {"title": "", "paths": [], "organized": False, "details": None, "scene_date": None, "studio": None}
    assert next(library.records()) == {**FULL, **bare, "performers": [], "tags": []}
    assert library.get("scene", "1").created_date == old.created_date
    assert library.stats()[:7] == (1, 0, 2, 2, 1, 0, 0)


def test_names_follow_and_known_ones_may_be_given_by_id(store: Store) -> None:
    library = store.library
    library.upsert_scenes([FULL])
    changed = {"id": "2", "performers": [{"id": "p1", "name": "Anna"}, "p2"], "tags": [{"id": "t1"}], "studio": "s1"}
    assert library.upsert_scenes([changed]) == SyncCounts(1, 0, 0, 3, 0)
    assert [row.name for row in library.names("performer")] == ["Anna", "Bob"]
    assert library.names("tag") == [("t1", "day", 2), ("t0", "outdoor", 1)]
    assert library.names("studio", limit=1) == [("s1", "Maker", 2)]
    with pytest.raises(NotFound, match=r"record 2: there is no performer 'p9'; give its name too"):
        library.upsert_scenes([{"id": "3"}, {"id": "4", "performers": ["p9"]}], strict=True)
    assert library.upsert_scenes([{"id": "3", "performers": [{"id": "p9", "name": "Neo"}, "p9"]}]).links_added == 1
    assert len(library.list()) == 3
    # In one call a later name counts, whoever it was first known as.
    three = [{"id": str(n), "performers": [{"id": "p1", "name": name}]} for n, name in enumerate("ABA", 5)]
    library.upsert_scenes(three)
    assert library.get("performer", "p1").name == "A"


def test_tags_swap_names_and_never_share_one(store: Store) -> None:
    library = store.library
    library.upsert_tags([OUT, DAY, LONG])
    swapped = [{"id": "t0", "name": "day"}, {"id": "t1", "name": "outdoor"}, {"id": "t5", "name": "new"}]
    assert library.upsert_tags(swapped) == SyncCounts(1, 2, 0, 0, 0)
    assert {row.id: row.name for row in library.names("tag")} == {
        "t0": "day", "t1": "outdoor", "t2": "long", "t5": "new"
    }  # fmt: skip
    with pytest.raises(Conflict, match=r"tag 't0' is to be named 'long', as tag 't2' is; .*remove\('tag', 't2'\)"):
        library.upsert_scenes([{"id": "1", "tags": [{"id": "t0", "name": "long"}]}], strict=True)
    with pytest.raises(Conflict, match="tags 't8' and 't9' are both to be named 'x'"):
        library.upsert_tags([{"id": "t8", "name": "x"}, {"id": "t9", "name": "x"}], strict=True)
    assert library.find("scene", "1") == [] and len(library.names("tag")) == 4
    assert library.upsert_studios([MAKER, {"id": "s2", "name": "Maker"}, "s1"]) == SyncCounts(2, 0, 0, 0, 0)
    assert [row.id for row in library.find("studio", "Maker")] == ["s1", "s2"]
    assert library.upsert_performers(iter([ANN])) == SyncCounts(1, 0, 0, 0, 0)
    assert store.check() == []


def test_ids_that_json_escapes(store: Store) -> None:
    odd = ['a","b', "a", "b", 'a\\","b', "ü", "\t", "'"]
    record = {"id": 'x","y', "performers": [{"id": key, "name": key + "!"} for key in odd]}
    assert store.library.upsert_scenes([record]).links_added == 7
    assert store.library.upsert_scenes([record]) == SyncCounts(0, 0, 1, 0, 0)
    assert store.library.upsert_scenes([{**record, "performers": ["a", "b"]}]).links_removed == 5
    assert store.library.upsert_scenes([{**record, "performers": ['a","b']}]) == SyncCounts(0, 1, 0, 1, 2)
    assert [row.id for row in store.library.get("scene", 'x","y').performers] == ['a","b']


def test_times(store: Store) -> None:
    there = timezone(timedelta(hours=2))
    given = [
        date(2026, 2, 28), "2026-02-28", "2026-02-28T02:00:00+02:00", datetime(2026, 2, 28, 2, tzinfo=there),
        "2026-02-28T00:00:00Z",
    ]  # fmt: skip
    store.library.upsert_scenes({"id": str(n), "scene_date": value} for n, value in enumerate(given))
    assert {row.scene_date for row in store.library.list()} == {datetime(2026, 2, 28, tzinfo=UTC)}


NONSENSE: list[tuple[Any, str]] = [
    (5, "record 2: 5 is not a record"),
    ({}, "record 2: it has no id"),
    ({"id": ""}, "record 2 .*it has no id"),
    ({"id": 7}, "record 2: its id is 7; ids are text, as '7'"),
    ({"id": "a\0"}, "cannot be stored"),
    ({"id": "9", "titel": "x"}, r"record 2 \(scene '9'\): titel: no such key; there are created_date, details"),
    ({"id": "9", "title": 5}, r"record 2 \(scene '9'\): title is 5; it must be text"),
    ({"id": "9", "details": []}, "details is"),
    ({"id": "9", "paths": "/a"}, "paths is '/a'; it must be a list of texts"),
    ({"id": "9", "paths": [1]}, "paths is"),
    ({"id": "9", "organized": "yes"}, "organized is 'yes'; it must be true or false"),
    ({"id": "9", "organized": 1}, "organized is 1"),
    ({"id": "9", "scene_date": "soon"}, "'soon' is not a time"),
    ({"id": "9", "scene_date": [1]}, "is not a time"),
    ({"id": "9", "scene_date": 5}, "is not a time"),
    ({"id": "9", "scene_date": "2026-02-28T02:00:00"}, "has no time zone"),
    ({"id": "9", "created_date": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))}, "is not a time"),
    ({"id": "9", "tags": {"id": "t"}}, "tags is .*; it must be a list"),
    ({"id": "9", "tags": "t"}, "tags is 't'; it must be a list"),
    ({"id": "9", "tags": [{"id": "t", "name": " "}]}, r"scene '9'\): tag .*: name is empty"),
    ({"id": "9", "tags": [{"id": "t", "name": None}]}, "tag .*: name is None"),
    ({"id": "9", "tags": [{"name": "x"}]}, "tag .*: it has no id"),
    ({"id": "9", "tags": [{"id": ["t"], "name": "x"}]}, "its id is"),
    ({"id": "9", "tags": [OUT, {**OUT, "extra": 1}]}, "extra: no such key; there are id, name"),
    ({"id": "9", "tags": [None]}, "tag None"),
    ({"id": "9", "studio": {"name": "x"}}, "studio .*: it has no id"),
    ({"id": "9", "studio": 5}, "studio 5"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "said"), NONSENSE, ids=repr)
def test_a_bad_record_is_set_aside_and_a_strict_call_stops_before_its_batch(
    store: Store, record: Any, said: str
) -> None:
    records = [{"id": "1", "tags": [OUT]}, record, {"id": "2", "studio": MAKER}]
    with pytest.raises(InvalidArgument, match=said):
        store.library.upsert_scenes(records, strict=True)
    assert store.library.stats()[:7] == (0, 0, 0, 0, 0, 0, 0)
    counts = store.library.upsert_scenes(iter(records))
    assert counts[:6] == (2, 0, 0, 1, 0, 1)
    ((key, reason),) = counts.rejections
    given = record.get("id") if isinstance(record, dict) else None
    assert key == (given if isinstance(given, str) and given else None)
    assert reason.startswith("record 2") and re.search(said, reason)
    assert store.library.stats()[:7] == (2, 0, 0, 1, 1, 0, 1)
    assert store.check() == []


def test_the_rest_of_a_batch_is_written_without_what_a_rejected_record_names(store: Store) -> None:
    """What only a rejected record names is not written, and its latest names do not count."""
    library = store.library
    library.upsert_tags([OUT, DAY])
    given: list[Any] = [
        {"id": "1", "studio": MAKER, "tags": [{"id": "new", "name": "new"}], "performers": [5]},
        {"id": "2", "studio": MAKER, "tags": [OUT], "performers": [ANN, "p9"]},  # nobody says who p9 is
        {"id": "3", "studio": {"id": "s2", "name": "Two"}, "performers": [{"id": "p2", "name": "Bobby"}]},
        {"id": "4", "performers": [BOB], "tags": [{"id": "t0", "name": "day"}]},  # the name of another one
        {"id": "5", "tags": ["t0"], "performers": [ANN]},
    ]
    with pytest.raises(InvalidArgument):
        library.upsert_scenes(given, strict=True)
    counts = library.upsert_scenes(given)
    assert counts[:6] == (2, 0, 0, 3, 0, 3)
    assert [key for key, _ in counts.rejections] == ["1", "2", "4"]
    assert [reason for _, reason in counts.rejections][1:] == [
        "record 2 (scene '2'): there is no performer 'p9'; give its name too: {'id': 'p9', 'name': ...}",
        "record 4 (scene '4'): tag 't0' is to be named 'day', as tag 't1' is; sync the tags all at once, or remove "
        "that one: store.library.remove('tag', 't1')",
    ]
    assert library.names("performer") == [("p1", "Ann", 1), ("p2", "Bobby", 1)]
    assert library.names("studio") == [("s2", "Two", 1)]
    assert library.names("tag") == [("t1", "day", 0), ("t0", "outdoor", 1)]
    # A chain of names whose last one is taken, two that want the same, and an id that is unknown.
    tags: list[Any] = [
        {"id": "t0", "name": "a"}, {"id": "t5", "name": "outdoor"}, {"id": "a", "name": "a"}, "t9", DAY,
        {"id": "t6", "name": "day"},
    ]  # fmt: skip
    counts = library.upsert_tags(tags)
    assert counts[:3] == (1, 0, 1) and sorted(str(key) for key, _ in counts.rejections) == ["t0", "t5", "t6", "t9"]
    assert {row.id: row.name for row in library.names("tag")} == {"a": "a", "t0": "outdoor", "t1": "day"}
    assert store.check() == []


def test_rejections_are_counted_and_the_first_hundred_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upserts, "SCENES_AT_ONCE", 7)
    counts = store.library.upsert_scenes({"id": str(n), "title": n if n % 2 else "x"} for n in range(500))
    assert (counts.created, counts.rejected, len(counts.rejections)) == (250, 250, 100)
    assert counts.rejections[99].id == "199"
    one: dict[str, Any] = {}

    def reused() -> Iterator[Any]:
        for n in range(6):
            one.clear()
            one.update(id=f"r{n}", performers=[f"p{n}"] if n % 2 else [])
            yield one

    assert store.library.upsert_scenes(reused())[:6] == (3, 0, 0, 0, 0, 3)
    assert store.check() == []


def test_a_rejected_record_is_neither_pruned_nor_passed_by_the_watermark(store: Store) -> None:
    library = store.library
    with library.sync("scene") as first:
        library.upsert_scenes([{"id": str(n)} for n in range(4)], run=first)
    Scene.update(last_synced="2026-01-01T00:00:00Z").execute()
    with library.sync("scene") as second:
        counts = library.upsert_scenes([{"id": "0"}, {"id": "1", "title": 5}, {"id": 2}, "3"], run=second)
        assert counts.rejected == 3
        Scene.update(last_synced="2026-01-01T00:00:00Z").execute()  # the clock was put back
        assert second.prune_unseen(dry_run=False) == ["2"]
    assert library.runs()[0].rejected == 3 and library.runs()[0].status == "completed"
    with library.sync("scene") as third:
        assert third.since == first.started_at


def full_sync(store: Store, tags: dict[str, str], *, prune: bool = True) -> SyncCounts:
    with store.library.sync("tag") as run:
        counts = store.library.upsert_tags([{"id": key, "name": name} for key, name in tags.items()], run=run)
        if prune:
            run.prune_unseen(dry_run=False)
    return counts


def named(store: Store) -> dict[str, str]:
    return {row.id: row.name for row in store.library.names("tag")}


def before_now(store: Store) -> None:
    Tag.update(last_synced="2026-01-01T00:00:00Z").execute()


CONVERGING: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"5": "A", "7": "B"}, {"7": "A"}),  # merged
    ({"5": "A"}, {"7": "A"}),  # another id
    ({"5": "A", "7": "B"}, {"7": "A", "5": "B"}),  # swapped
    ({"1": "a", "2": "b", "3": "c", "4": "d"}, {"1": "b", "2": "c", "3": "d", "4": "a"}),  # in a circle
    ({"1": "a", "2": "b", "3": "c"}, {"1": "b", "2": "c", "3": "d"}),  # in a chain
    ({"1": "a", "2": "b", "3": "c"}, {"3": "b", "2": "a", "1": "z", "4": "c"}),
    ({"1": "a", "2": "a (1)"}, {"3": "a", "4": "a (1)", "1": "b", "2": "c"}),  # a spare name is one of theirs
]


@pytest.mark.parametrize("size", [1, 2, 10_000])
@pytest.mark.parametrize(("old", "new"), CONVERGING)
def test_a_full_listing_of_tags_converges(
    store: Store, monkeypatch: pytest.MonkeyPatch, old: dict[str, str], new: dict[str, str], size: int
) -> None:
    monkeypatch.setattr(upserts, "NAMED_AT_ONCE", size)
    store.library.upsert_scenes([{"id": "1", "tags": [{"id": key, "name": name} for key, name in old.items()]}])
    before_now(store)
    counts = full_sync(store, new)
    assert named(store) == new and counts.rejected == 0
    assert (counts.created, counts.updated) == (len(new.keys() - old.keys()), len(new.keys() & old.keys()))
    assert full_sync(store, new)[:6] == (0, 0, len(new), 0, 0, 0)
    assert store.check() == []


def test_a_tag_that_gave_its_name_up_keeps_its_scenes_until_it_is_seen_or_pruned(store: Store) -> None:
    store.library.upsert_scenes([{"id": "1", "tags": [{"id": "5", "name": "A"}, {"id": "7", "name": "B"}]}])
    full_sync(store, {"7": "A"}, prune=False)
    assert store.library.names("tag") == [("7", "A", 1), ("5", "A (5)", 1)]
    full_sync(store, {"5": "B"}, prune=False)
    assert named(store) == {"7": "A", "5": "B"}
    # Two records of one listing that want the same name: the first one gets it, also at the next time.
    for _ in range(2):
        counts = full_sync(store, {"5": "C", "7": "C"}, prune=False)
        assert [key for key, _ in counts.rejections] == ["7"] and named(store) == {"7": "A", "5": "C"}
    # Without a run nothing tells whether the other one is gone.
    assert store.library.upsert_tags([{"id": "5", "name": "A"}]).rejected == 1
    with pytest.raises(Conflict):
        store.library.upsert_tags([{"id": "5", "name": "A"}], strict=True)


def test_a_rejected_tag_gives_its_name_up_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upserts, "NAMED_AT_ONCE", 1)
    store.library.upsert_tags([{"id": "5", "name": "A"}, {"id": "7", "name": "B"}])
    before_now(store)
    with store.library.sync("tag") as run:
        records: list[Any] = [{"id": "5", "name": " "}, {"id": "7", "name": "A"}]
        assert store.library.upsert_tags(records, run=run)[:6] == (0, 1, 0, 0, 0, 1)
        assert run.prune_unseen(dry_run=False) == []
    assert named(store) == {"7": "A", "5": "A (5)"}


KILLED = """
import os, signal, sys
from scanstore import Store
from scanstore.library import upserts
upserts.NAMED_AT_ONCE = 1
def listing(after):
    for key, name in ("1", "b"), ("2", "c"), ("4", "a"):
        yield {"id": key, "name": name}
        after -= 1
        if not after:
            os.kill(os.getpid(), signal.SIGKILL)
with Store(sys.argv[1]) as store, store.library.sync("tag") as run:
    store.library.upsert_tags(listing(int(sys.argv[2])), run=run)
    run.prune_unseen(dry_run=False)
"""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_sync_that_was_killed_converges_when_it_is_repeated(store: Store, after: int) -> None:
    store.library.upsert_tags([{"id": key, "name": name} for key, name in zip("123", "abc", strict=True)])
    before_now(store)
    command = [sys.executable, "-c", KILLED, store.path]
    assert subprocess.run([*command, str(after)], check=False).returncode == -signal.SIGKILL
    half = named(store)
    assert len(set(half.values())) == len(half) and store.check() == []
    assert (
        half
        == [
            {"1": "b", "2": "b (2)", "3": "c"},
            {"1": "b", "2": "c", "3": "c (3)"},
            {"1": "b", "2": "c", "3": "c (3)", "4": "a"},
        ][after - 1]
    )
    subprocess.run([*command, "0"], check=True)
    assert named(store) == {"1": "b", "2": "c", "4": "a"}
    assert [run.status for run in store.library.runs()] == ["completed", "failed"]
    assert store.check() == []


def test_dates_of_which_only_the_month_or_year_is_known(store: Store, tmp_path: Path) -> None:
    library = store.library
    dates = {"1": "2014", "2": "2006-08", "3": "2014-03-02", "4": None, "5": "2014-01", "6": "2014-01-01"}
    records: list[Any] = [{"id": key, "scene_date": value} for key, value in dates.items()]
    assert library.upsert_scenes(records).created == 6
    assert library.upsert_scenes(records).unchanged == 6
    first = library.get("scene", "1")
    assert first.scene_date == datetime(2014, 1, 1, tzinfo=UTC) and first.scene_date_precision == "year"
    assert library.get("scene", "2").scene_date == datetime(2006, 8, 1, tzinfo=UTC)
    told = {"1": "2014", "2": "2006-08", "3": "2014-03-02T00:00:00.000Z", "4": None, "5": "2014-01",
            "6": "2014-01-01T00:00:00.000Z"}  # fmt: skip
    assert {row["id"]: row["scene_date"] for row in library.records()} == told
    assert {row.id: row.to_dict()["scene_date"] for row in library.list()} == told
    assert [row.scene_date_precision for row in library.list()] == ["year", "month", "day", None, "month", "day"]
    assert library.upsert_scenes(library.records()).unchanged == 6
    assert [row.id for row in library.list(sort="scene_date")] == ["4", "2", "1", "5", "6", "3"]
    assert [row.id for row in library.list(sort="-scene_date", limit=1)] == ["3"]
    # The same first day with another precision is a change, which sets its time too.
    Scene.update(updated_at="2026-01-01T00:00:00Z").execute()
    assert library.upsert_scenes([{"id": "1", "scene_date": "2014-01"}, {"id": "2", "title": "x"}]).updated == 2
    assert [row.to_dict()["scene_date"] for row in library.list(limit=2)] == ["2014-01", "2006-08"]
    Scene.update(updated_at="2026-01-01T00:00:00Z").execute()
    Scene.update(scene_date_precision="year").where(Scene.id == "1").execute()
    assert library.get("scene", "1").updated_at > datetime(2026, 1, 2, tzinfo=UTC)
    library.upsert_scenes([{"id": "1", "scene_date": None}])
    assert library.get("scene", "1").scene_date_precision is None
    for bad in ("2014-13", "2014-00", "0000", "14", "2014-1", "2014-"):
        ((_, reason),) = library.upsert_scenes([{"id": "9", "scene_date": bad}]).rejections
        assert "is not a time; write 2026-11-22T01:46:31Z, 2026-11-22, 2026-11 or 2026" in reason
    assert library.upsert_scenes([{"id": "9", "created_date": "2014"}]).rejected == 1
    assert store.check() == []


def test_the_precision_of_a_date_is_kept_by_rows_and_by_the_file(store: Store) -> None:
    store.library.upsert_scenes([{"id": "1", "scene_date": "2014"}])
    row = store.library.get("scene", "1")
    row.title = "x"
    row.save()
    assert row.to_dict()["scene_date"] == "2014"
    row.scene_date = datetime(2015, 2, 3, tzinfo=UTC)
    row.save()
    assert store.library.get("scene", "1").scene_date_precision == "day"
    row.scene_date = None
    row.save(only=[Scene.scene_date])
    assert store.library.get("scene", "1").scene_date_precision is None
    assert Scene.create(id="2", scene_date=datetime(2015, 2, 3, tzinfo=UTC)).scene_date_precision == "day"
    run = store.database.execute_sql
    for change in ("scene_date = NULL", "scene_date_precision = NULL", "scene_date_precision = 'week'"):
        with pytest.raises(Conflict):
            run(f"UPDATE scenes SET {change} WHERE id = '2'")
    with pytest.raises(Conflict):
        run("UPDATE scenes SET scene_date_precision = 'day' WHERE id = '1'")


def test_bad_calls(store: Store) -> None:
    library = store.library
    for nothing in ({"id": "1"}, "1", 5, None):
        with pytest.raises(InvalidArgument, match="is not a list of records"):
            library.upsert_scenes(nothing)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="kind is 'movie'; it must be one of: scene, performer, tag, studio"):
        library.sync("movie")
    with pytest.raises(NotFound, match="no scene '1'"):
        library.get("scene", "1")
    with pytest.raises(InvalidArgument, match="1 is not a scene; give its id, which is text"):
        library.get("scene", 1)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no sync run 9"):
        library.upsert_scenes([], run=9)
    with pytest.raises(InvalidArgument, match="'x' is not a sync run"):
        library.upsert_scenes([], run="x")  # type: ignore[arg-type]
    with Store(":memory:") as other, other.library.sync("scene") as run:
        with pytest.raises(WrongStore):
            library.upsert_scenes([{"id": "1"}], run=run)
    with pytest.raises(InvalidArgument, match="True is not a sync run"):
        library.upsert_scenes([], run=True)
    with pytest.raises(InvalidArgument, match="strict is 1; it must be True or False"):
        library.upsert_scenes([], strict=1)  # type: ignore[arg-type]
    for wrong in (5, ["t1"], "", None, "\ud800"):
        with pytest.raises(InvalidArgument):
            library.remove("tag", wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            library.get("tag", wrong)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgument, match="what is 5; give a text"):
        library.find("tag", 5)  # type: ignore[call-overload]
    calls: list[Callable[..., object]] = [
        library.list, library.runs, partial(library.names, "tag"), partial(library.find, "tag", "x")
    ]  # fmt: skip
    for call in calls:
        for name in ("limit", "offset"):
            for number in (-1, 2**63, True, "1", 1.5):
                with pytest.raises(InvalidArgument, match=name):
                    call(**{name: number})
    for ordered in (library.list, library.runs):
        with pytest.raises(InvalidArgument, match="cannot be sorted by 'details'"):
            ordered(sort="details")


def test_batches_are_transactions_and_the_records_are_read_outside_of_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upserts, "SCENES_AT_ONCE", 2)

    def stream(last: Any) -> Iterator[Any]:
        for n in range(5):
            assert not store.database.in_sqlite_transaction()
            yield {"id": str(n), "title": "x"}
        yield last

    with pytest.raises(InvalidArgument, match="record 6: None"):
        store.library.upsert_scenes(stream(None), strict=True)
    assert [row.id for row in store.library.list()] == ["0", "1", "2", "3"]
    twice = {"id": "0", "title": "y", "tags": [OUT]}
    assert store.library.upsert_scenes(stream(twice)) == SyncCounts(1, 1, 4, 1, 0)
    assert store.library.upsert_scenes([twice, {"id": "0", "title": "z"}, {"id": "0", "tags": None}])[1:5] == (
        2,
        1,
        0,
        1,
    )
    assert store.library.get("scene", "0").title == "z"
    with pytest.raises(RuntimeError), store.transaction():
        store.library.upsert_scenes({"id": f"n{n}"} for n in range(5))
        raise RuntimeError
    assert len(store.library.list()) == 5


def test_the_watermark_is_the_start_of_the_last_run_that_succeeded(store: Store) -> None:
    library = store.library
    with library.sync("scene") as first:
        assert first.since is None
        library.upsert_scenes([FULL], run=first)
        library.upsert_scenes([FULL, {"id": "2"}], run=first.id)
    with pytest.raises(ZeroDivisionError), library.sync("Scene") as second:
        assert second.since == first.started_at
        library.upsert_scenes([{"id": "3"}], run=second)
        raise ZeroDivisionError("no luck")
    with library.sync("scene") as third:
        assert third.since == first.started_at
    with library.sync("tag") as other:
        assert other.since is None
        with pytest.raises(IllegalMove, match="sync run 4 is of tags; scenes want one of their own"):
            library.upsert_scenes([FULL], run=other)
    runs = library.runs("scene")
    assert [(run.id, run.status, run.error) for run in runs] == [
        (3, "completed", None), (2, "failed", "ZeroDivisionError: no luck"), (1, "completed", None)
    ]  # fmt: skip
    assert (library.get("scene", "1").run_id, library.get("performer", "p1").run_id) == (1, None)  # seen in passing
    assert (runs[2].created, runs[2].unchanged, runs[2].links_added) == (2, 1, 4)
    assert [run.id for run in library.runs(limit=2, offset=1)] == [3, 2] and library.runs(sort="id")[0].id == 1
    assert len(library.runs(limit=2)) == 2 and library.stats().synced["scene"] == runs[0]
    with pytest.raises(IllegalMove, match="sync run 1 is completed; begin another"):
        library.upsert_scenes([{"id": "9"}], run=runs[2])
    with pytest.raises(NotFound):
        library.get("scene", "9")
    assert store.check() == []


def test_prune_what_a_full_listing_lacks(store: Store) -> None:
    library = store.library
    library.upsert_scenes([{**FULL, "id": str(n)} for n in range(6)])
    Scene.update(last_synced="2026-01-01T00:00:00Z").execute()
    plan = store.plans.add("p")
    store.plans.propose(plan, "3", "title", "set", proposed="x")
    with library.sync("scene") as run:
        with pytest.raises(IllegalMove, match="sync run 1 has seen no scenes, so all would go"):
            run.prune_unseen(dry_run=False)
        library.upsert_scenes([{"id": "0"}, {"id": "1", "title": "new"}], run=run)
        library.upsert_scenes([{"id": "5"}])  # another one, meanwhile
        Scene.update(last_synced="2026-01-01T00:00:00Z").where(Scene.id == "0").execute()  # the clock was put back
        assert run.prune_unseen() == ["2", "3", "4"]
        assert len(library.list()) == 6
        assert run.prune_unseen(dry_run=False) == ["2", "3", "4"]
        assert run.prune_unseen(dry_run=False) == []
    assert [row.id for row in library.list()] == ["0", "1", "5"]
    assert ScenePerformer.select().count() == SceneTag.select().count() == 6
    assert library.runs()[0].pruned == 3
    (change,) = store.database.execute_sql("SELECT target_key, scene_id FROM plan_changes").fetchall()
    assert change == ("3", None)
    with pytest.raises(IllegalMove, match="is completed; prune inside"):
        run.prune_unseen()
    # Scenes name performers too, but only a listing of performers tells which are gone.
    Performer.update(last_synced="2026-01-01T00:00:00Z").execute()
    with library.sync("performer") as listed:
        library.upsert_performers([ANN], run=listed)
        assert listed.prune_unseen(dry_run=False) == ["p2"]
    assert ScenePerformer.select().count() == 3
    assert store.check() == []


def test_one_run_of_a_kind_at_a_time_unless_its_process_is_gone(store: Store, tmp_path: Path) -> None:
    code = """
import sys
from scanstore import Store
with Store(sys.argv[1]) as store, store.library.sync("scene") as run:
    store.library.upsert_scenes([{"id": "1"}], run=run)
    print("ready", flush=True)
    sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    with (
        pytest.raises(IllegalMove, match="sync run 1 of scenes is running since .* wait for it"),
        store.library.sync("scene"),
    ):
        pytest.fail("two at once")
    with store.library.sync("studio"):
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    with store.library.sync("scene") as run:
        assert run.since is None
    assert [(row.kind, row.status) for row in store.library.runs()] == [
        ("scene", "completed"), ("studio", "completed"), ("scene", "failed")
    ]  # fmt: skip
    assert "ended" in store.library.runs()[2].error and store.library.get("scene", "1")
    # Of another machine nobody knows: it may be taken over, and is told so.
    away = SyncRun.create(kind="tag", process="elsewhere:1@1")
    with pytest.raises(IllegalMove, match="take_over=True"), store.library.sync("tag"):
        pytest.fail("two at once")
    with store.library.sync("tag", take_over=True):
        with pytest.raises(IllegalMove, match=f"sync run {away.id} is failed"):
            store.library.upsert_tags([OUT], run=away)
    mine = store.library.sync("tag")
    with pytest.raises(IllegalMove, match="is failed and cannot become completed"), mine:
        with store.library.sync("tag", take_over=True):
            pass
    assert store.check() == []


def test_list_and_remove(store: Store, tmp_path: Path) -> None:
    library = store.library
    library.upsert_scenes([FULL, {"id": "2", "tags": [DAY]}, {"id": "3", "performers": [ANN], "organized": True}])
    ids = lambda **only: [row.id for row in library.list(**only)]  # noqa: E731
    assert ids() == ["1", "2", "3"] and ids(limit=1) == ["1"] and ids(limit=0) == []
    assert ids(tag="t1") == ["1", "2"] and ids(performer=Performer.get_by_id("p1")) == ["1", "3"]
    assert (
        ids(studio="s1") == ["1"]
        and ids(organized=False) == ["2"]
        and ids(organized=True, performer="p1", tag="t1") == ["1"]
    )
    assert ids(tag="nothing") == []
    assert [row.id for row in library.find("scene", "One")] == ["1"] and library.find("tag", "x") == []
    assert ids(offset=1) == ["2", "3"] and ids(limit=1, offset=2) == ["3"] and ids(sort="-id", limit=1) == ["3"]
    assert [row.name for row in library.names("tag", offset=1)] == ["outdoor"]
    assert library.find("tag", "day", offset=1) == library.find("tag", "day", limit=0) == []
    with pytest.raises(NotFound, match="no tag 'x', 'y'; nothing was removed"):
        library.remove("tag", "t1", "x", "y")
    removed = library.remove("tag", "t1")
    assert removed == {"tags": 1, "scene_tags": 2} and removed.total == 3
    assert library.remove("studio", Studio.get_by_id("s1")) == {"studios": 1}
    assert library.get("scene", "1").studio is None and ids(tag="t1") == []
    assert library.remove("scene", "1", "2", "1") == {"scenes": 2, "scene_performers": 2, "scene_tags": 1}
    assert library.remove("performer") == {}
    assert library.stats()[:7] == (1, 1, 2, 1, 0, 1, 0)
    row = library.get("scene", "3")
    with Store(tmp_path / "other.db") as other:
        with pytest.raises(WrongStore):
            other.library.get("scene", row)
        with pytest.raises(WrongStore):
            row.performers.clear()
    assert store.check() == []


def test_questions_run_on_indexes(store: Store) -> None:
    for sql, table in (
        ("SELECT * FROM scene_tags WHERE tag_id = 'x'", "scene_tags"),
        ("SELECT * FROM scene_performers WHERE performer_id = 'x'", "scene_performers"),
        ("SELECT * FROM scenes WHERE studio_id = 'x'", "scenes"),
        (upserts.LINKED.format("tag").replace("?", "'[]'"), "scene_tags"),
        (upserts.SEEN.format("scene").replace("?", "'[]'"), "scenes"),
        (upserts.ROWS.format("t.id", "scene").replace("?", "'[]'"), "t"),
    ):
        plan = " ".join(row[3] for row in store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}").fetchall())
        assert f"SEARCH {table}" in plan and f"SCAN {table}" not in plan, plan


NAMES = st.sampled_from(["a", "b", "c", "d"])
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["1", "2", "3"])},
        optional={
            "title": st.sampled_from([None, "x", "y"]),
            "organized": st.booleans(),
            "studio": st.none() | NAMES.map(lambda key: {"id": key, "name": key}),
            "performers": st.none() | st.lists(NAMES.map(lambda key: {"id": key, "name": key * 2}), max_size=3),
            "tags": st.none() | st.lists(NAMES.map(lambda key: {"id": key, "name": key * 3}), max_size=3),
        },
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_any_records_leave_what_they_say(listings: list[list[dict[str, Any]]]) -> None:
    """The library equals a plain dictionary that takes the same records, and the counts say what has changed."""
    told: dict[str, dict[str, Any]] = {}
    with Store(":memory:") as store:
        for listing in listings:
            before = {key: dict(value) for key, value in told.items()}
            for record in listing:
                scene = told.setdefault(
                    record["id"], {"title": "", "organized": False, "studio": None, "performers": set(), "tags": set()}
                )
                for name, value in record.items():
                    if name in ("performers", "tags"):
                        scene[name] = {item["id"] for item in value or ()}
                    elif name != "id":
                        scene[name] = value["id"] if isinstance(value, dict) else value
                scene["title"] = scene["title"] or ""
            counts = store.library.upsert_scenes(listing)
            assert counts.created == len(told.keys() - before.keys())
            assert sum(counts[:3]) == len(listing)
            links = [
                sum(len(scene[kind]) for scene in state.values() for kind in ("performers", "tags"))
                for state in (before, told)
            ]
            assert counts.links_added - counts.links_removed == links[1] - links[0]
        got = list(store.library.records())
        found = {
            row["id"]: {
                "title": row["title"], "organized": row["organized"], "studio": row["studio"] and row["studio"]["id"],
                **{kind: {one["id"] for one in row[kind]} for kind in ("performers", "tags")},
            }
            for row in got
        }  # fmt: skip
        assert found == told
        assert store.library.upsert_scenes(got) == SyncCounts(0, 0, len(got), 0, 0)
        assert store.check() == []
