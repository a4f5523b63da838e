"""Pages and figures: what a list on a screen is made of, of any model."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scanstore import models
from scanstore.db.pagination import MOST, Page, _order, is_heavy, light, sorts
from scanstore.errors import InvalidArgument
from scanstore.models import Job, ModelConfig, Performer, ScheduledTask, Setting, Symbol, SymbolReference
from scanstore.store import Store

SHOP = Path(__file__).parents[1] / "callgraph" / "shop"
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


# Views


@pytest.fixture
def scanned(store: Store, tmp_path: Path) -> Store:
    """Two scans of a tree, of which the second has a changed file, and one of another target that is not complete."""
    tree = Path(shutil.copytree(SHOP, tmp_path / "shop"))
    store.scans.record(tree)
    file = tree / "models.py"
    file.write_text(f"{file.read_text()}\ndef added():\n    return added()\n")
    store.scans.record(tree)
    symbol = {"name": "f", "symbol_type": "function", "start_line": 1, "end_line": 2}
    reference = {"line": 1, "reference_type": "call", "name": "f"}
    store.symbols.record_file(
        store.scans.add("other"), "a.py", "ab", symbols=[symbol], references=[reference], chunks=[]
    )
    return store


@pytest.mark.parametrize("model", VIEWS, ids=lambda m: m.__name__)
def test_the_description_of_a_view_has_the_rows_of_the_view(scanned: Store, model: Any) -> None:
    view, columns = model.__view__, list(model._meta.columns)
    assert sorted(view.columns) == sorted(columns)

    def read(source: str, *values: object) -> list[tuple[object, ...]]:
        sql = f"SELECT {', '.join(columns)} FROM {source}"
        return scanned.database.execute_sql(sql, values).fetchall()  # type: ignore[no-any-return]

    rows = sorted(read(model._meta.table_name), key=repr)
    assert rows and sorted(read(f"({view.rows(columns)})"), key=repr) == rows
    ids = sorted((row[columns.index("id")] for row in rows), reverse=True)
    found = read(f"({view.of_keys(columns)})", str(ids))
    assert [row[columns.index("id")] for row in found] == ids
    assert sorted(found, key=repr) == rows
    for column in columns:  # each alone needs other joins
        sql = f"SELECT {column} FROM ({view.rows([column])}) ORDER BY 1"
        assert scanned.database.execute_sql(sql).fetchall() == sorted(
            ((row[columns.index(column)],) for row in rows), key=lambda row: (row[0] is not None, row)
        )


def _all(model: Any, where: tuple[Any, ...]) -> Any:
    return model.select().where(*where) if where else model.select()


@pytest.mark.parametrize("model", VIEWS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("kept", [True, False])
def test_pages_and_counts_of_views_are_those_of_the_view(scanned: Store, model: Any, kept: bool) -> None:
    if not kept:
        scanned.database.execute_sql("DELETE FROM scan_figures")
    for where in VIEW_CONDITIONS[model.__name__]:
        with scanned:
            ids = sorted((row.id for row in _all(model, where)), reverse=True)
        first = scanned.page(model, *where, per_page=5, heavy=True)
        second = scanned.page(model, *where, per_page=5, page=2)
        assert [row.id for row in (*first.items, *second.items)] == ids[:10]
        assert first.total == second.total == len(ids)
        for row in first.items:
            assert row.to_dict() == model.get_by_id(row.id).to_dict()
        for by in ("scan", *(each for each in ("symbol_type", "reference_type", "resolution", "status", "file_path")
                             if each in model._meta.fields)):  # fmt: skip
            with scanned:
                wanted = Counter(getattr(row, f"{by}_id" if by == "scan" else by)
                                 for row in _all(model, where))  # fmt: skip
            assert scanned.counts(model, by, *where) == wanted
            assert list(scanned.counts(model, by, *where)) == sorted(wanted)


VIEW_CONDITIONS: dict[str, list[tuple[Any, ...]]] = {
    "Symbol": [
        (), (Symbol.scan == 1,), (Symbol.symbol_type == "class",), (Symbol.name == "added",), (Symbol.id == 0,),
        (Symbol.scan == 2, Symbol.symbol_type == "function"), (Symbol.start_line > 10, Symbol.file_path != "models.py"),
        (Symbol.scan.in_(models.Scan.select().where(models.Scan.status == "completed")),),
    ],
    "SymbolReference": [
        (), (SymbolReference.scan == 2,), (SymbolReference.resolution == "imported",),
        (SymbolReference.confidence < 1, SymbolReference.reference_type == "call"),
        (SymbolReference.symbol.is_null(),), (SymbolReference.name == "added",),
        ((SymbolReference.scan == 1) | (SymbolReference.resolution == "exact"),),
    ],
    "ImportRelation": [(), (models.ImportRelation.scan == 1,), (models.ImportRelation.resolution == "external",)],
    "ScanFileChunk": [(), (models.ScanFileChunk.scan == 2,), (models.ScanFileChunk.status == "pending",)],
}  # fmt: skip


def test_a_page_of_a_view_reads_keys_from_indexes_and_then_its_rows(scanned: Store, statements: Statements) -> None:
    """All of a view's rows are neither built nor sorted; the kept figures say how many there are."""
    for model in (Symbol, SymbolReference):
        statements.clear()
        scanned.page(model)
        assert len(statements) == 3
        counted, keys, rows = (_plan(scanned, sql, params) for sql, params in list(statements))
        assert "SEARCH k USING PRIMARY KEY" in counted or "SCAN k" in counted
        assert "TEMP B-TREE" not in keys and "MATERIALIZE" not in keys and "names" not in keys
        assert "SCAN f" in keys and "SEARCH x USING" in keys
        assert "SEARCH f USING INTEGER PRIMARY KEY" in rows and "TEMP B-TREE" not in rows


def _plan(store: Store, sql: str, values: Any) -> str:
    rows = store.database.connection().execute(f"EXPLAIN QUERY PLAN {sql}", values or ())
    return " / ".join(row[3] for row in rows)


@pytest.mark.parametrize(
    ("model", "sort", "where", "index"),
    [
        (models.Scene, "title", (), "ix_scenes_title"),
        (models.Scene, "-scene_date", (), "ix_scenes_scene_date"),
        (models.AnalysisResult, "-score", (), "ix_analysis_results_score"),
        (models.PlanChange, "field", (), "ix_plan_changes_field"),
        (models.PlanChange, "-confidence", (), "ix_plan_changes_confidence"),
        (models.PlanChange, "field", (models.PlanChange.plan == 1,), "ix_plan_changes_plan_id_field"),
        (models.PlanChange, "-confidence", (models.PlanChange.plan == 1,), "ix_plan_changes_plan_id_confidence"),
    ],
)
def test_what_a_page_shows_is_sorted_by_an_index(store: Store, model: Any, sort: str, where: Any, index: str) -> None:
    query = model.select(*light(model)).order_by(*_order(model, sort)).limit(5)
    sql, values = (query.where(*where) if where else query).sql()
    plan = _plan(store, sql, values)
    assert index in plan and "TEMP B-TREE" not in plan


def test_recovery_reads_only_active_scans(store: Store) -> None:
    sql = "SELECT id, worker, updated_at FROM scans WHERE status = 'running' AND worker IS NOT NULL"
    assert "ix_scans_active" in _plan(store, sql, ())
    assert "ix_scans_active" in _plan(store, f"{sql} AND lineage_id = ?", (1,))


@pytest.mark.parametrize("text", ["ORDER", "hist", "xy", "ö", "%", "_", "s.mod", 'a"b', "models.History.Entry.show"])
def test_parts_of_names_are_found_with_and_without_their_index(scanned: Store, text: str) -> None:
    def find() -> list[int]:
        return [row.id for row in scanned.symbols.find(text, scan=2, match="contains")]

    found = find()
    with scanned:
        assert set(found) == {
            row.id for row in Symbol.select().where(Symbol.scan == 2) if text.lower() in row.qualified_name.lower()
        }
    scanned.database.execute_sql("INSERT INTO name_search (name_search) VALUES ('delete-all')")
    assert find() == found
