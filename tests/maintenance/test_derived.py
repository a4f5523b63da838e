"""Each derived table follows its description: ``check`` compares the two, and a fix or a repair restores the table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stressing import LONG, fill

from scanstore import Store
from scanstore.maintenance.cleaning import drop_foreign
from scanstore.maintenance.derived import (
    COUNTERS,
    DERIVED,
    NOTES,
    SEARCHES,
    TABLES,
    Counted,
    NameIndex,
    SearchIndex,
    is_part,
)
from scanstore.maintenance.repair.repair import repair

Rows = list[tuple[object, ...]]
DAMAGE = ("wrong", "missing", "surplus")
CASES = [
    pytest.param(each, damage, id=f"{each.table} {damage}")
    for each in DERIVED
    for damage in DAMAGE
    if (damage == "wrong" or not (isinstance(each, Counted) and each.in_rows))
    and not (damage == "wrong" and isinstance(each, NameIndex))
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    fill(path)
    with Store(path) as store:
        search(store)
    return path


def search(store: Store) -> None:
    """Bring the full-text indexes up to date."""
    store.search("flaw")


def run(file: Path, *statements: str) -> Rows:
    """Run statements on a file; return the rows of the last one."""
    rows: Rows = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for sql in statements:
            rows = connection.execute(sql).fetchall()
    return rows


def stored(file: Path, each: Counted | NameIndex | SearchIndex) -> Rows:
    """The derived rows of a file."""
    if isinstance(each, Counted):
        return run(file, f"SELECT {', '.join((*each.key, *each.numbers))} FROM {each.table} ORDER BY 1, 2, 3")
    if isinstance(each, NameIndex):
        return run(file, f"SELECT id FROM {each.table}_docsize ORDER BY id")
    return run(file, f"SELECT * FROM {each.table}_content ORDER BY id")


def wanted(file: Path, each: Counted) -> Rows:
    """The rows that the description says."""
    return run(file, f"SELECT {', '.join((*each.key, *each.numbers))} FROM ({each.query}) ORDER BY 1, 2, 3")


def damages(each: Counted | NameIndex | SearchIndex, damage: str) -> Iterator[tuple[str, ...]]:
    """Statements that do one kind of damage."""
    table = each.table
    if isinstance(each, SearchIndex):
        if damage == "wrong":
            columns = len(each.weights.split(","))
            for column in range(columns):
                yield (
                    f"UPDATE {table}_content SET c{column} = 'other' WHERE id = (SELECT min(id) FROM {table}_docsize)",
                    f"INSERT INTO {table} ({table}) VALUES ('rebuild')",
                )
        elif damage == "missing":
            yield (f"DELETE FROM {table} WHERE rowid = (SELECT min(id) FROM {table}_docsize)",)
        else:
            yield (f"INSERT INTO {table} (rowid) VALUES (99 << 24)",)
    elif isinstance(each, NameIndex):
        if damage == "missing":
            yield (f"DELETE FROM {table}_docsize WHERE id = 2",)
        else:
            yield (f"INSERT INTO {table} (rowid, text) VALUES (1 << 40, 'gone')",)
    elif damage == "wrong":
        for number in each.numbers:
            yield (f"UPDATE {table} SET {number} = {number} + 1",)
    elif damage == "missing":
        yield (f"DELETE FROM {table} WHERE {each.numbers[0]} = (SELECT max({each.numbers[0]}) FROM {table})",)
    else:
        columns = ", ".join((*each.key, *each.numbers))
        others = columns.replace("status", repr("surplus")).replace("value", repr("surplus"))
        some = f"SELECT {others} FROM {table} WHERE {each.numbers[0]} > 0"
        yield (f"INSERT OR IGNORE INTO {table} ({columns}) {some}",)


@pytest.mark.parametrize(("each", "damage"), CASES)
def test_damage_is_reported_fixed_and_repaired(
    file: Path, tmp_path: Path, each: Counted | NameIndex | SearchIndex, damage: str
) -> None:
    before, sound = stored(file, each), file.read_bytes()
    assert before, "the store of the test has no such rows"
    for number, statements in enumerate(damages(each, damage)):
        file.write_bytes(sound)
        run(file, *statements)
        assert stored(file, each) != before
        new = tmp_path / f"new{number}.db"
        repaired = LONG or damage == "wrong" or isinstance(each, NameIndex)  # a repair derives all rows anew
        if repaired:
            assert repair(file, new).problems == []
        with Store(file) as store:
            (problem,) = store.check()
            assert each.what in problem.what and "check --fix" in problem.remedy
            (fixed,) = store.check(fix=True)
            assert fixed == problem._replace(fixed=True)
            search(store)
            assert store.check() == []
        if repaired:
            with Store(new) as store:
                search(store)
                assert store.check() == []
        for path in (file, new)[: 1 + repaired]:
            if isinstance(each, Counted):
                assert stored(path, each) == wanted(path, each)
            elif isinstance(each, NameIndex):
                assert stored(path, each) == run(path, "SELECT id FROM names ORDER BY id")
            else:
                assert stored(path, each) == before


def test_a_surplus_counter_of_nothing_is_no_damage(file: Path) -> None:
    """The triggers leave a counter when its last row is gone."""
    run(file, "INSERT INTO work_counts SELECT id, 'chunk', 'failed', 0 FROM scans WHERE true ON CONFLICT DO NOTHING")
    with Store(file) as store:
        assert store.check() == []


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table_is_reported_and_created(file: Path, table: str) -> None:
    settings = {each.table: run(file, f"SELECT * FROM {each.table}_config") for each in SEARCHES}
    run(file, f"DROP TABLE {table}")
    with Store(file) as store:
        found = {problem.what: problem for problem in store.check()}
        assert f"the table {table} is missing" in found
        assert all("check --fix" in problem.remedy for problem in found.values()), found
        for each in DERIVED:
            looked_for = not any(
                is_part(part, table) for part in each.check.replace("(", " ").replace(")", " ").split()
            )
            assert looked_for or any(what.startswith(f"{each.what}: not looked for") for what in found), each.what
        assert all(problem.fixed for problem in store.check(fix=True))
        search(store)
        assert store.check() == []
    for counted in COUNTERS:
        assert [row for row in stored(file, counted) if row[len(counted.key)]] == wanted(file, counted)
    assert {each.table: run(file, f"SELECT * FROM {each.table}_config") for each in SEARCHES} == settings


def test_a_table_whose_source_is_missing_too_is_left_and_said(file: Path) -> None:
    run(file, "DROP TABLE plan_counts", "DROP TABLE plan_changes")
    with Store(file) as store:
        left = store.check(fix=True)
    told = {problem.what for problem in left if not problem.fixed}
    assert {"the table plan_counts is missing", "the table plan_changes is missing"} <= told
    assert (
        "counts of plans that do not match their changes: not looked for, as plan_changes, plan_counts are missing"
        in (told)
    )


@pytest.mark.parametrize("each", COUNTERS, ids=lambda each: each.table)
def test_a_repair_says_that_counters_are_missing(file: Path, tmp_path: Path, each: Counted) -> None:
    run(file, f"DROP TABLE {each.table}")
    done = repair(file, tmp_path / "new.db")
    assert not done.whole and any(f"{each.table} is missing" in warning for warning in done.warnings)
    assert stored(tmp_path / "new.db", each) == wanted(tmp_path / "new.db", each) != []


def test_a_repair_names_the_uploads_that_a_session_has_lost(file: Path, tmp_path: Path) -> None:
    run(file, "UPDATE analysis_sessions SET total_files = total_files + 3")
    done = repair(file, tmp_path / "new.db")
    assert {"file_uploads", "analysis_sessions"} <= set(done.affected)
    (uploads,) = (table for table in done.tables if table.table == "file_uploads")
    assert uploads.lost == 3 and not done.whole


def test_rows_without_their_owner_do_not_keep_a_fix_from_the_rest(file: Path) -> None:
    run(
        file, "DELETE FROM analysis_plans", "DELETE FROM scans WHERE id = (SELECT min(scan_id) FROM chunk_work)",
        "UPDATE call_counts SET calls = 7",
    )  # fmt: skip
    with Store(file) as store:
        told = store.check(fix=True)
    assert any("model calls" in problem.what and problem.fixed for problem in told)
    assert any("point at rows of scans" in problem.what and not problem.fixed for problem in told)


def test_a_replaced_index_gets_its_weights_again(file: Path) -> None:
    before = run(file, "SELECT * FROM finding_search_config")
    run(file, "DROP TABLE finding_search", "CREATE VIEW finding_search AS SELECT 1 AS title")
    assert any("made anew" in done for done in drop_foreign(str(file)))
    assert run(file, "SELECT * FROM finding_search_config") == before
    with Store(file) as store:
        search(store)
        assert store.check() == []


def test_a_change_without_its_trigger_is_noticed(file: Path) -> None:
    """A fix creates the trigger, and the index takes up the words that it has missed."""
    run(file, "DROP TRIGGER tr_findings_search_update", "UPDATE findings SET title = 'quagga'")
    with Store(file) as store:
        assert all(problem.fixed for problem in store.check(fix=True))
        assert store.search("quagga")


def test_every_full_text_index_and_note_table_is_described() -> None:
    with Store(":memory:") as store:
        names = {
            name
            for (name,) in store.database.execute_sql(
                "SELECT name FROM sqlite_schema WHERE type = 'table'"
                " AND (sql LIKE 'CREATE VIRTUAL%' OR name LIKE '%\\_counts' ESCAPE '\\')"
            ).fetchall()
        }
        assert names | {NOTES, "scan_figures", "scan_groups"} == set(TABLES)
