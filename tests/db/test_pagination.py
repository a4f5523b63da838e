"""Pages and figures: what a list on a screen is made of, of any model."""

from __future__ import annotations

from typing import Any

import pytest

from scanstore import models
from scanstore.db.pagination import MOST, Page, _order, is_heavy, light, sorts
from scanstore.errors import InvalidArgument
from scanstore.models import Job, ModelConfig, Performer, ScheduledTask, Setting
from scanstore.store import Store

MODELS = [getattr(models, name) for name in models.__all__]
VIEWS = (models.ImportRelation, models.ScanFileChunk, models.Symbol, models.SymbolReference)
Statements = list[tuple[str, Any]]


@pytest.fixture
def statements(store: Store, monkeypatch: pytest.MonkeyPatch) -> Statements:
    """What is executed from now on."""
    executed: Statements = []
    run = store.database.execute_sql

    def noting(sql: str, params: Any = None) -> Any:
        executed.append((sql, params))
        return run(sql, params)

    monkeypatch.setattr(store.database, "execute_sql", noting)
    return executed


@pytest.fixture
def jobs(store: Store) -> Store:
    for n in range(25):
        store.jobs.enqueue(f"type {n % 3}", meta={"n": n})
    return store


def test_a_page_has_its_rows_and_says_how_many_there_are(jobs: Store) -> None:
    page = jobs.page(Job, page=3, per_page=10)
    assert (len(page.items), page.total, page.page, page.pages) == (5, 25, 3, 3)
    assert isinstance(page, Page) and all(isinstance(row, Job) for row in page.items)
    assert jobs.check() == []


def test_all_pages_together_are_every_row_once_the_newest_first(jobs: Store) -> None:
    seen = [row.id for n in (1, 2, 3, 4) for row in jobs.page(Job, page=n, per_page=7).items]
    assert seen == sorted((row.id for row in jobs.jobs.list()), reverse=True)
    assert len(seen) == 25


def test_a_page_behind_the_last_is_empty_and_so_is_one_of_nothing(jobs: Store) -> None:
    assert jobs.page(Job, page=9) == Page([], 25, 9, 1)
    assert jobs.page(Job, Job.type == "no such") == Page([], 0, 1, 0)


def test_conditions_hold_together(jobs: Store) -> None:
    first = jobs.jobs.claim("type 1")[0]
    page = jobs.page(Job, Job.type == "type 1", Job.status == "pending", per_page=5)
    assert page.total == 7
    assert first.id not in [row.id for row in page.items]


def test_sorting_goes_both_ways_and_equal_rows_keep_their_order(jobs: Store) -> None:
    jobs.jobs.claim("type 0", limit=4)
    up = [row.id for n in (1, 2, 3) for row in jobs.page(Job, sort="status", page=n, per_page=10).items]
    down = [row.id for n in (1, 2, 3) for row in jobs.page(Job, sort="-status", page=n, per_page=10).items]
    assert len(set(up)) == 25
    assert down == up[::-1]
    statuses = [row.status for row in jobs.page(Job, sort="status").items]
    assert statuses == sorted(statuses)


def test_other_keys_are_sorted_as_they_are_written(store: Store) -> None:
    store.library.upsert_performers([{"id": key, "name": key * 2} for key in "cab"])
    assert [row.id for row in store.page(Performer).items] == ["a", "b", "c"]
    assert [row.id for row in store.page(Performer, sort="-name").items] == ["c", "b", "a"]


def test_what_may_be_long_is_left_out_unless_asked_for(jobs: Store, statements: Statements) -> None:
    statements.clear()
    assert all(row.meta is None for row in jobs.page(Job).items)
    assert not [sql for sql, _ in statements if '"meta"' in sql]
    assert {row.meta["n"] for row in jobs.page(Job, heavy=True).items} == set(range(25))


def test_secrets_are_never_read(store: Store) -> None:
    store.llm.add("small", api_key="hidden-key", analysis_prompt_template="Look.")
    for heavy in (False, True):
        (row,) = store.page(ModelConfig, heavy=heavy).items
        assert row.api_key is None
        assert row.analysis_prompt_template == ("Look." if heavy else None)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_model_has_pages_and_sorts(store: Store, model: Any) -> None:
    for sort in (None, *sorts(model), *(f"-{name}" for name in sorts(model))):
        assert store.page(model, sort=sort) == Page([], 0, 1, 0)
    assert sorts(model)
    assert not [field.name for field in light(model) if is_heavy(field)]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_the_usual_order_needs_no_sorting(store: Store, statements: Statements, model: Any) -> None:
    """The rows of a page are read off the key; only the ids of views are computed."""
    query = model.select(*light(model)).order_by(*_order(model, None)).limit(5)
    statements.clear()
    list(query)
    sql, params = statements[-1]
    plan = store.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
    assert model in VIEWS or not [row for row in plan if "TEMP B-TREE" in row[3]], plan


def test_a_page_is_two_statements(jobs: Store, statements: Statements) -> None:
    statements.clear()
    jobs.page(Job, Job.status == "pending", sort="-status", page=2, per_page=5)
    assert [sql.startswith("SELECT") for sql, _ in statements] == [True, True]
    assert "LIMIT ?" in statements[1][0] and "ORDER BY" not in statements[0][0]


def test_figures_are_grouped_by_the_database(jobs: Store) -> None:
    jobs.jobs.claim("type 0", limit=2)
    assert jobs.counts(Job, "type") == {"type 0": 9, "type 1": 8, "type 2": 8}
    assert jobs.counts(Job, "status") == {"pending": 23, "running": 2}
    assert jobs.counts(Job, "type", Job.status == "running") == {"type 0": 2}
    assert jobs.counts(ScheduledTask, "enabled") == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"page": 0}, "page is 0"),
        ({"page": True}, "page is True"),
        ({"page": "2"}, "page is '2'"),
        ({"page": 2**70}, "page is"),
        ({"per_page": 0}, "per_page is 0"),
        ({"per_page": MOST + 1}, "1,000"),
        ({"per_page": 2.5}, "per_page is 2.5"),
        ({"sort": "message"}, "it can by: id, status"),
        ({"sort": "id; DROP TABLE jobs"}, "cannot be sorted"),
        ({"sort": "--id"}, "cannot be sorted"),
        ({"sort": ""}, "cannot be sorted"),
        ({"sort": 3}, "cannot be sorted by 3"),
    ],
)
def test_wrong_pages_are_refused(store: Store, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        store.page(Job, **arguments)


def test_wrong_models_and_conditions_are_refused(store: Store) -> None:
    for wrong in (object, "jobs", None, Job()):
        with pytest.raises(InvalidArgument, match="is no model"):
            store.page(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="is no model"):
            store.counts(wrong, "id")  # type: ignore[arg-type]
    for condition in (True, "status = 'pending'", None):
        with pytest.raises(InvalidArgument, match="is no condition"):
            store.page(Job, condition)
        with pytest.raises(InvalidArgument, match="is no condition"):
            store.counts(Job, "status", condition)
    for column in ("nothing", "meta"):
        with pytest.raises(InvalidArgument, match="cannot be counted by"):
            store.counts(Job, column)
    with pytest.raises(InvalidArgument, match="cannot be counted by 'api_key'"):
        store.counts(ModelConfig, "api_key")


def test_a_page_is_read_in_its_own_store(store: Store, tmp_path: Any) -> None:
    with Store(tmp_path / "other.db") as other:
        other.settings.set("where", "other")
        assert store.page(Setting).total == 0
        assert other.page(Setting).total == 1
