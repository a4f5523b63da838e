"""The Peewee face: the documents' models, with joins, keys and back references, although most of them sit on views."""

from __future__ import annotations

import itertools
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import peewee
import pytest
from peewee import fn

from scanstore import models
from scanstore.db import values
from scanstore.db.rules import change_rows
from scanstore.errors import Conflict, InvalidArgument, NotFound, ScanstoreError
from scanstore.models import (
    ImportRelation,
    ModelConfig,
    Scan,
    ScanConfig,
    ScanFile,
    ScanFileChunk,
    Symbol,
    SymbolReference,
    User,
)
from scanstore.store import Store

TREE = {
    "a.py": "class Base:\n    def run(self):\n        pass\n\nx = 1\n",
    "b.py": "import os\nfrom a import Base\n\ndef use():\n    Base().run()\n    use()\n",
    "long.py": "".join(f"def f{n}():\n    pass\n\n\n" for n in range(20)),
}


@pytest.fixture
def scan(store: Store, tmp_path: Path) -> Scan:
    root = tmp_path / "tree"
    root.mkdir()
    for path, text in TREE.items():
        (root / path).write_text(text)
    return store.scans.record(root, jobs=1)


def one(name: str) -> Symbol:
    return Symbol.get(Symbol.name == name)


# -- the documents' defaults ---------------------------------------------------------------------------------


def test_every_model_of_the_document_has_its_fields_and_defaults(store: Store) -> None:
    fields = {
        ModelConfig: "id name base_url api_key max_tokens max_concurrent votes is_analyzer is_verifier"
        " analysis_prompt_template verification_prompt_template",
        ScanConfig: "id scan analysis_mode primary_analyzer scope scanner_concurrency verifier_concurrency"
        " enricher_concurrency",
        ScanFile: "id scan file_path file_hash risk_level status created_at",
        ScanFileChunk: "id scan_file chunk_index chunk_type symbol_name start_line end_line content_hash status"
        " retry_count",
        Symbol: "id scan name qualified_name symbol_type file_path start_line end_line metadata",
        SymbolReference: "id scan symbol from_file from_line from_symbol reference_type",
        ImportRelation: "id scan importer_file imported_module imported_names resolved_file",
    }
    for model, names in fields.items():
        assert set(names.split()) <= set(model._meta.fields), model
    assert set(models.__all__) >= {model.__name__ for model in fields}
    model = ModelConfig.get_by_id(ModelConfig.create(name="llama3.3-70b").id)
    assert (model.max_tokens, model.max_concurrent, model.votes) == (4096, 2, 1)
    assert model.is_analyzer is False and model.is_verifier is False
    started = store.scans.add("t")
    config = ScanConfig.get_by_id(ScanConfig.create(scan=started).id)
    assert (config.analysis_mode, config.scope, config.primary_analyzer) == ("primary_verifiers", "full", None)
    assert (config.scanner_concurrency, config.verifier_concurrency, config.enricher_concurrency) == (20, 10, 5)
    file = ScanFile.get_by_id(ScanFile.create(scan=started, file_path="a").id)
    assert (file.status, file.risk_level) == ("pending", "normal")
    assert file.created_at.tzinfo is not None and abs(datetime.now(UTC) - file.created_at) < timedelta(seconds=30)
    bare = Scan.get_by_id(Scan.create(lineage=started.lineage_id, target="t", name="n").id)
    assert (bare.status, bare.phase, bare.options) == ("queued", "queued", {})


def test_the_defaults_hold_for_plain_sql_too(store: Store, db_path: Path) -> None:
    with sqlite3.connect(db_path) as raw:
        raw.execute("INSERT INTO lineages (target) VALUES ('t')")
        raw.execute("INSERT INTO scans (lineage_id, target, name) VALUES (1, 't', 'n')")
        raw.execute("INSERT INTO model_configs (name) VALUES ('m')")
        raw.execute("INSERT INTO scan_configs (scan_id) VALUES (1)")
        raw.execute("INSERT INTO scan_files (scan_id, file_path) VALUES (1, 'a')")
    raw.close()
    model, config, file = ModelConfig.get(), ScanConfig.get(), ScanFile.get()
    assert (model.max_concurrent, model.max_tokens, model.votes) == (2, 4096, 1)
    assert (config.scanner_concurrency, config.verifier_concurrency, config.enricher_concurrency) == (20, 10, 5)
    assert (Scan.get().status, file.status, file.risk_level) == ("queued", "pending", "normal")
    assert file.created_at.tzinfo is not None


def test_a_secret_is_shown_nowhere_unless_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model = store.llm.add("m", api_key="sk-secret", base_url="http://x")
    for text in (repr(model), str(model), json.dumps(model.to_dict()), repr([model])):
        assert "sk-secret" not in text
    assert "api_key" not in model.to_dict() and model.to_dict(secrets=True)["api_key"] == "sk-secret"
    assert model.resolved_api_key() == "sk-secret"
    from_environment = store.llm.add("n", api_key="env:SCANSTORE_TEST_KEY")
    with pytest.raises(NotFound, match="SCANSTORE_TEST_KEY"):
        from_environment.resolved_api_key()
    monkeypatch.setenv("SCANSTORE_TEST_KEY", "k")
    assert store.llm.get("n").resolved_api_key() == "k"
    assert [m.name for m in store.llm.list()] == ["m", "n"]


def test_models_are_added_once_and_with_sense(store: Store) -> None:
    store.llm.add("m")
    with pytest.raises(Conflict):
        store.llm.add("m")
    for wrong in ({"votes": 0}, {"max_tokens": True}, {"max_concurrent": "2"}, {"colour": "red"}, {"id": 3}):
        with pytest.raises(InvalidArgument):
            store.llm.add("n", **wrong)
    for name in ("", "  "):
        with pytest.raises(InvalidArgument):
            store.llm.add(name)
    with pytest.raises(NotFound):
        store.llm.get("nobody")
    with pytest.raises(InvalidArgument):
        ModelConfig.create(name="z", votes=0)
    assert ModelConfig.select().count() == 1


@pytest.mark.parametrize(
    ("model", "column"), [(Scan, "status"), (ScanFile, "status"), (ScanFile, "risk_level"), (Scan, "phase")]
)
def test_statuses_take_any_case_and_refuse_other_words(store: Store, scan: Scan, model: Any, column: str) -> None:
    field = getattr(model, column)
    word = {"status": "FAILED", "risk_level": "High", "phase": "Verifying"}[column]
    assert change_rows(model, {field: word}).execute() >= 1
    assert getattr(model.select().order_by(model.id).first(), column) == word.lower()
    with pytest.raises(InvalidArgument):
        change_rows(model, {field: "sideways"}).execute()
    with pytest.raises(Conflict):
        store.database.execute_sql(f"UPDATE {model._meta.table_name} SET {column} = 'sideways'")


# -- reading -------------------------------------------------------------------------------------------------


def test_select_where_and_count(scan: Scan) -> None:
    assert [s.name for s in Symbol.select().where(Symbol.scan == scan, Symbol.name == "Base")] == ["Base"]
    assert [
        s.name
        for s in Symbol.select().where(Symbol.scan == scan.id, Symbol.file_path == "a.py").order_by(Symbol.start_line)
    ]
    assert Symbol.select().where(Symbol.symbol_type == "function").count() == 21
    assert Symbol.select().where(Symbol.symbol_type == "FUNCTION").count() == 21
    assert Symbol.select().where(Symbol.name.startswith("f"), Symbol.symbol_type << ["function"]).count() == 20
    assert Symbol.select().where(Symbol.scan == 999).count() == 0
    assert Symbol.select().where(Symbol.scan == scan).exists()
    assert sum(1 for _ in Symbol.select().iterator()) == Symbol.select().count()
    per_file = (
        Symbol.select(Symbol.file_path, fn.COUNT(Symbol.id).alias("n"))
        .group_by(Symbol.file_path)
        .order_by(Symbol.file_path)
    )
    assert [(r.file_path, r.n) for r in per_file] == [("a.py", 4), ("b.py", 2), ("long.py", 21)]
    assert [
        t for (t,) in Symbol.select(Symbol.name).where(Symbol.file_path == "b.py").order_by(Symbol.id).tuples()
    ] == ["b", "use"]
    assert Symbol.select().where(Symbol.metadata.is_null()).count() > 0
    assert [s["name"] for s in Symbol.select().where(Symbol.name == "run").dicts()] == ["run"]
    assert Symbol.select().order_by(Symbol.id).paginate(2, 5).count() == 5


def test_ids_are_found_again_in_every_way(scan: Scan) -> None:
    base = one("Base")
    run = one("run")
    assert Symbol.get_by_id(base.id) == base and Symbol.get(Symbol.id == base.id).name == "Base"
    assert {s.name for s in Symbol.select().where(Symbol.id.in_([base.id, run.id]))} == {"Base", "run"}
    assert {s.name for s in Symbol.select().where(Symbol.id << [base, run])} == {"Base", "run"}
    assert list(Symbol.select().where(Symbol.id.in_([]))) == []
    assert Symbol.select().where(Symbol.id.not_in([base.id])).count() == Symbol.select().count() - 1
    assert Symbol.select().where(Symbol.id != base.id).count() == Symbol.select().count() - 1
    assert Symbol.select().where((Symbol.id == base.id) | (Symbol.id == run.id)).count() == 2
    assert Symbol.select().where(~(Symbol.id == base.id)).count() == Symbol.select().count() - 1
    subquery = Symbol.select(Symbol.id).where(Symbol.name == "Base")
    assert [s.name for s in Symbol.select().where(Symbol.id.in_(subquery))] == ["Base"]
    assert Symbol.get_or_none(Symbol.id == 5) is None
    with pytest.raises(peewee.DoesNotExist):
        Symbol.get_by_id(1 << 40)
    assert Symbol.get(Symbol.id == str(base.id)) == base
    ids = [s.id for s in Symbol.select()]
    assert len(set(ids)) == len(ids)


def test_foreign_keys_are_followed_and_joined(scan: Scan) -> None:
    run = one("run")
    (call,) = SymbolReference.select().where(SymbolReference.symbol == run)
    assert call.symbol.name == "run" and call.symbol_id == run.id
    assert call.from_symbol.name == "use" and call.scan == scan
    query = (
        SymbolReference.select(SymbolReference, Symbol)
        .join(Symbol, on=SymbolReference.symbol)
        .where(SymbolReference.scan == scan, Symbol.name == "Base")
        .order_by(SymbolReference.from_line)
    )
    assert [(r.from_file, r.from_line, r.reference_type, r.symbol.qualified_name) for r in query] == [
        ("b.py", 2, "import", "a.Base"),
        ("b.py", 5, "call", "a.Base"),
    ]
    explicit = (
        SymbolReference.select().join(Symbol, on=(SymbolReference.symbol == Symbol.id)).where(Symbol.name == "use")
    )
    assert [r.from_line for r in explicit] == [6]
    assert SymbolReference.select().where(SymbolReference.symbol.is_null()).count() == 1  # import os
    assert SymbolReference.select().where(SymbolReference.symbol == None).count() == 1  # noqa: E711
    assert {r.name for r in SymbolReference.select().where(SymbolReference.symbol.in_([run, one("use")]))} == {
        "Base().run",
        "use",
    }
    by_scan = Symbol.select().join(Scan).where(Scan.target == scan.target)
    assert by_scan.count() == Symbol.select().count()
    by_file = Symbol.select().join(ScanFile, on=Symbol.file).where(ScanFile.file_path == "a.py")
    assert by_file.count() == 4


def test_both_ends_of_a_reference_are_joined_through_aliases(scan: Scan) -> None:
    target, origin = Symbol.alias(), Symbol.alias()
    both = (
        SymbolReference.select(SymbolReference.from_line, target.name.alias("t"), origin.name.alias("o"))
        .join(target, on=(SymbolReference.symbol_id == target.id))
        .switch(SymbolReference)
        .join(origin, on=(SymbolReference.from_symbol_id == origin.id))
        .where(SymbolReference.reference_type == "call")
        .order_by(SymbolReference.ordinal)
    )
    assert {(row["t"], row["o"]) for row in both.dicts()} == {("Base", "use"), ("run", "use"), ("use", "use")}


def test_back_references_and_prefetch(scan: Scan) -> None:
    assert scan.symbols.count() == Symbol.select().count()
    assert scan.references.count() == SymbolReference.select().count()
    assert scan.imports.count() == 2 and scan.files.count() == 3
    base, use = one("Base"), one("use")
    assert {r.reference_type for r in base.references} == {"import", "call"}
    assert {r.name for r in use.made_references} == {"Base", "Base().run", "use"}
    file = ScanFile.get(ScanFile.file_path == "long.py")
    chunks = list(file.chunks.order_by(ScanFileChunk.chunk_index))
    assert [c.symbol_name for c in chunks] == [f"f{n}" for n in range(20)]
    assert chunks[0].scan_file == file and chunks[0].scan == scan
    assert [s.name for s in file.symbols.where(Symbol.symbol_type == "module")] == ["long"]
    loaded = peewee.prefetch(ScanFile.select().order_by(ScanFile.file_path), ScanFileChunk.select())
    assert [(f.file_path, len(f.chunks)) for f in loaded] == [("a.py", 1), ("b.py", 1), ("long.py", 20)]
    found = peewee.prefetch(Symbol.select().where(Symbol.file_path == "a.py"), SymbolReference.select())
    assert {s.name: len(s.references) for s in found} == {"a": 0, "Base": 2, "run": 1, "x": 0} or {
        s.name: len(s.references) for s in found
    } == {"a": 1, "Base": 2, "run": 1, "x": 0}


def test_the_same_selects_work_in_plain_sqlite(store: Store, scan: Scan, db_path: Path) -> None:
    with sqlite3.connect(db_path) as raw:
        assert raw.execute(
            "SELECT name, file_path, start_line FROM symbols WHERE scan_id = ? AND name = 'Base'", (scan.id,)
        ).fetchall() == [("Base", "a.py", 1)]
        rows = raw.execute(
            "SELECT r.from_file, r.from_line, r.resolution, s.qualified_name FROM symbol_references r"
            " JOIN symbols s ON s.id = r.symbol_id WHERE r.scan_id = ? AND r.reference_type = 'call' ORDER BY 1, 2, 4",
            (scan.id,),
        ).fetchall()
        assert rows == [
            ("b.py", 5, "imported", "a.Base"),
            ("b.py", 5, "imported", "a.Base.run"),
            ("b.py", 6, "exact", "b.use"),
        ]
        assert raw.execute(
            "SELECT imported_module, imported_names, resolved_file FROM import_relations ORDER BY line"
        ).fetchall() == [
            ("os", "[]", None),
            ("a", '["Base"]', "a.py"),
        ]
        (chunk,) = raw.execute("SELECT id FROM scan_file_chunks WHERE symbol_name = 'f3'").fetchone()
        raw.execute("UPDATE scan_file_chunks SET status = 'done' WHERE id = ?", (chunk,))
        names = [row[0] for row in raw.execute("SELECT name FROM symbols ORDER BY id")]
    raw.close()
    assert ScanFileChunk.get_by_id(chunk).status == "done"
    assert names == [s.name for s in Symbol.select().order_by(Symbol.id)]
    for query in (Symbol.select(), SymbolReference.select(), ImportRelation.select(), ScanFileChunk.select()):
        text, parameters = query.sql()
        with sqlite3.connect(db_path) as raw:
            assert len(raw.execute(text, parameters).fetchall()) == query.count()
        raw.close()


def test_rows_turn_into_plain_values(scan: Scan) -> None:
    for model in (Scan, ScanFile, ScanFileChunk, Symbol, SymbolReference, ImportRelation):
        row = model.select().first()
        data = row.to_dict()
        json.dumps(data)
        assert data["id"] == row.id
        assert str(row.id) in repr(row)
    assert one("Base").to_dict()["scan"] == scan.id


# -- writing symbols by hand ---------------------------------------------------------------------------------


def test_create_gives_an_id_that_finds_the_symbol_again(store: Store) -> None:
    scan = store.scans.add("by hand")
    made = Symbol.create(
        scan=scan,
        file_path="x.c",
        name="main",
        symbol_type="function",
        start_line=3,
        end_line=9,
        metadata={"params": [{"name": "argc"}]},
    )
    again = Symbol.get_by_id(made.id)
    assert again == made
    assert (again.name, again.qualified_name, again.start_line, again.end_line, again.file_path) == (
        "main",
        "main",
        3,
        9,
        "x.c",
    )
    assert again.metadata == {"params": [{"name": "argc"}]} and again.scan == scan
    second = Symbol.create(scan=scan.id, file_path="x.c", name="run", qualified_name="Thing.run", symbol_type="METHOD")
    assert second.id != made.id and second.symbol_type in ("method", "METHOD")
    assert (second.end_line, Symbol.get_by_id(second.id).symbol_type) == (1, "method")
    assert [s.name for s in scan.symbols.order_by(Symbol.id)] == ["main", "run"]
    store.scans.finish(scan)
    assert [s.id for s in store.symbols.find("Thing.run")] == [second.id]
    assert store.check() == []
    store.scans.remove(scan)
    assert Symbol.select().count() == 0 and store.stats().lines == 0
    assert store.database.execute_sql("SELECT count(*) FROM names").fetchone() == (0,)


def test_saving_a_new_symbol_is_create(store: Store) -> None:
    symbol = Symbol(scan=store.scans.add("t"), file_path="x.c", name="main", symbol_type="function")
    symbol.save()
    assert Symbol.get_by_id(symbol.id).name == "main"
    symbol.name = "other"
    with pytest.raises(InvalidArgument, match="record_file"):
        symbol.save()
    assert Symbol.get_by_id(symbol.id).name == "main"


def test_symbols_of_two_scans_in_one_file_do_not_mix(store: Store) -> None:
    one_scan, other = store.scans.add("one"), store.scans.add("other")
    for scan in (one_scan, other):
        Symbol.create(scan=scan, file_path="x.c", name=f"of_{scan.id}", symbol_type="function")
    assert [s.name for s in one_scan.symbols] == [f"of_{one_scan.id}"]
    assert [s.name for s in other.symbols] == [f"of_{other.id}"]


def test_a_symbol_cannot_be_added_to_a_file_that_an_indexer_recorded(store: Store, scan: Scan) -> None:
    before = Symbol.select().count()
    with pytest.raises(ScanstoreError, match="record_file"):
        Symbol.create(scan=scan, file_path="a.py", name="extra", symbol_type="function")
    assert Symbol.select().count() == before
    assert store.database.execute_sql("SELECT count(*) FROM file_versions").fetchone() == (3,)
    assert store.database.execute_sql("SELECT 1 FROM names WHERE text = 'extra'").fetchone() is None
    assert store.check() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"symbol_type": "gadget"},
        {"name": None},
        {"scan": 999},
        {"metadata": {"x": float("nan")}},
        {"metadata": object()},
        {"start_line": "three"},
        {"start_line": 5, "end_line": 4},
        {"name": "\ud800"},
        {"start_line": 1 << 70},
    ],
    ids=lambda w: f"{next(iter(w))}={next(iter(w.values()))!r}".encode("ascii", "replace").decode()[:30],
)
def test_bad_symbols_are_refused_and_nothing_is_left(store: Store, wrong: dict[str, Any]) -> None:
    given = {"scan": store.scans.add("t"), "file_path": "x.c", "name": "f", "symbol_type": "function", **wrong}
    with pytest.raises((ScanstoreError, ValueError)):
        Symbol.create(**given)
    for table in ("file_versions", "scan_files", "names", "symbol_facts"):
        assert store.database.execute_sql(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_facts_cannot_be_changed_or_deleted_through_the_models(store: Store, scan: Scan) -> None:
    base, before = one("Base"), Symbol.select().count()
    for attempt in (
        lambda: Symbol.update(name="x").where(Symbol.id == base.id).execute(),
        lambda: Symbol.delete().where(Symbol.id == base.id).execute(),
        base.delete_instance,
        lambda: SymbolReference.delete().execute(),
        lambda: ImportRelation.update(line=1).execute(),
        lambda: ScanFileChunk.delete().execute(),
        lambda: ScanFileChunk.update(start_line=1).execute(),
    ):
        with pytest.raises(InvalidArgument, match="store\\."):
            attempt()
    assert Symbol.select().count() == before and one("Base").name == "Base"
    assert store.check() == []


# -- chunks --------------------------------------------------------------------------------------------------


def test_the_status_of_chunks_is_changed_through_the_model(store: Store, scan: Scan) -> None:
    file = ScanFile.get(ScanFile.file_path == "long.py")
    assert {c.status for c in file.chunks} == {"pending"} and {c.retry_count for c in file.chunks} == {0}
    some = ScanFileChunk.update(status="Done").where(ScanFileChunk.scan_file == file, ScanFileChunk.chunk_index < 5)
    some.execute()
    assert [c.status for c in file.chunks.order_by(ScanFileChunk.chunk_index)] == ["done"] * 5 + ["pending"] * 15
    chunk = ScanFileChunk.get(ScanFileChunk.symbol_name == "f7")
    chunk.status, chunk.retry_count = "failed", 2
    chunk.save()
    again = ScanFileChunk.get_by_id(chunk.id)
    assert (again.status, again.retry_count) == ("failed", 2)
    assert ScanFileChunk.select().where(ScanFileChunk.status == "failed").count() == 1
    ScanFileChunk.update(retry_count=ScanFileChunk.retry_count + 1).where(ScanFileChunk.id == chunk.id).execute()
    assert (ScanFileChunk.get_by_id(chunk.id).status, ScanFileChunk.get_by_id(chunk.id).retry_count) == ("failed", 3)
    for wrong in ({"status": "lost"},):
        with pytest.raises(InvalidArgument):
            ScanFileChunk.update(**wrong).execute()
    with pytest.raises(Conflict):
        ScanFileChunk.update(retry_count=-1).execute()
    assert store.check() == []


def test_the_status_of_a_chunk_belongs_to_its_scan(store: Store, scan: Scan) -> None:
    ScanFileChunk.update(status="done").execute()
    second = store.scans.record(scan.root)
    assert {c.status for c in ScanFileChunk.select().where(ScanFileChunk.scan == second)} == {"pending"}
    assert {c.status for c in ScanFileChunk.select().where(ScanFileChunk.scan == scan)} == {"done"}
    store.scans.remove(scan)
    assert store.database.execute_sql("SELECT count(*) FROM chunk_work").fetchone() == (0,)


def test_removing_a_scan_leaves_no_orphan_rows(store: Store, scan: Scan) -> None:
    ScanConfig.create(scan=scan, primary_analyzer=store.llm.add("m"))
    ScanFileChunk.update(status="done").execute()
    with pytest.raises(InvalidArgument, match="store.scans.remove"):
        scan.delete_instance()
    store.scans.remove(scan)
    assert [m.select().count() for m in (Scan, ScanConfig, ScanFile, ScanFileChunk, Symbol, SymbolReference)] == [0] * 6
    assert store.database.execute_sql("PRAGMA foreign_key_check").fetchall() == []


def test_deleting_a_model_keeps_the_configs_that_named_it(store: Store) -> None:
    model = store.llm.add("m")
    config = ScanConfig.create(scan=store.scans.add("t"), primary_analyzer=model)
    model.delete_instance()
    assert ScanConfig.get_by_id(config.id).primary_analyzer is None


def test_updated_at_moves_with_every_change(store: Store, scan: Scan) -> None:
    before = scan.updated_at
    store.database.execute_sql("UPDATE scans SET updated_at = '2020-01-01T00:00:00.000Z' WHERE id = ?", (scan.id,))
    Scan.update(name="x").where(Scan.id == scan).execute()
    assert Scan.get_by_id(scan.id).updated_at >= before
    file = ScanFile.select().first()
    store.database.execute_sql("UPDATE scan_files SET updated_at = '2020-01-01T00:00:00.000Z' WHERE id = ?", (file.id,))
    file.risk_level = "high"
    file.save()
    assert ScanFile.get_by_id(file.id).updated_at >= before


def test_the_times_of_a_new_row_are_one_reading_of_the_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading of this clock is a second later than the one before."""
    ticks = itertools.count()

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return cls(2026, 1, 1, tzinfo=tz) + timedelta(seconds=next(ticks))

    monkeypatch.setattr(values, "datetime", Clock)
    rows = [User(email="a@x.org"), User.create(email="b@x.org", email_key="b@x.org")]
    User.insert(id=str(uuid4()), email="c@x.org", email_key="c@x.org").execute()
    new = [{"id": str(uuid4()), "email": f"{n}@x.org", "email_key": f"{n}@x.org"} for n in range(3)]
    User.insert_many(new).execute()
    rows += list(User.select())
    assert len(rows) == 7
    for row in rows:
        assert row.created_at == row.updated_at


def test_inherited_columns_stand_where_column_order_says() -> None:
    first = ["id", "rank", "retry_count", "lost_count", "attempt", "worker", "process", "lease_until", "lease_clock"]
    assert models.DraftFinding._meta.sorted_field_names[:9] == first
    last = ["created_at", "updated_at", "errors_in_a_row", "active_since", "analyzed_at"]
    assert Scan._meta.sorted_field_names[-5:] == last
    assert models.Tag._meta.sorted_field_names == ["id", "name", "last_synced", "run_id", "created_at", "updated_at"]


def test_a_row_that_others_point_at_says_which(store: Store) -> None:
    user = store.accounts.add("ann@x.org")
    store.sessions.add(user, "first")
    store.audits.add(user, "report.pdf", 10)
    with pytest.raises(Conflict, match="1 rows of analysis_sessions and 1 rows of audit_tasks point at it"):
        user.delete_instance()
    assert store.accounts.find("ann@x.org") is not None
