"""The SQL cookbook: its queries read tables that grow by their indexes, as planned for a large store."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stressing import done

from scanstore.store import Store

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
STORE_PAGE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^### (\d+)\. [^\n]+\n+```sql\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))

# Tables with few rows, whatever is scanned.
SMALL = {"lineages", "scans", "users", "configurations", "model_configs", "suppressions"}
# The page says that this query reads a whole table.
WHOLE = {"20": {"audit_analyses"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """The store of the page, with the statistics of a large one, so that SQLite plans as for a large one."""
    folder = tmp_path_factory.mktemp("cookbook")
    assert done(lambda tell: tell(made(folder))) == [4]
    with Store(folder / "scan.db") as store:
        store.optimize()
        assert store.check() == []
    with closing(sqlite3.connect(folder / "scan.db")) as connection, connection:
        for table, name, stat in connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall():
            rows, _, rest = stat.partition(" ")
            if table not in SMALL:
                values = (f"{int(rows) * 10_000} {rest}".strip(), table, name)
                connection.execute("UPDATE sqlite_stat1 SET stat = ? WHERE tbl = ? AND idx IS ?", values)
    with closing(sqlite3.connect(folder / "scan.db")) as connection:
        yield connection


def made(folder: Path) -> int:
    """Run the scripts of the page; return their number."""
    os.chdir(folder)
    scripts = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for script in scripts:
        exec(compile(script, "<script>", "exec", dont_inherit=True), {"__name__": "__main__"})
    return len(scripts)


def read_whole(store: sqlite3.Connection, query: str) -> set[str]:
    """Return the tables that a query reads from the beginning to the end, by the steps of SQLite's machine."""
    tables = dict(store.execute("SELECT rootpage, tbl_name FROM sqlite_schema WHERE rootpage > 0"))
    steps = store.execute(f"EXPLAIN {query}").fetchall()
    opened = {step[2]: tables[step[3]] for step in steps if step[1] == "OpenRead" and step[3] in tables}
    return {opened[step[2]] for step in steps if step[1] == "Rewind" and step[2] in opened}


def test_there_are_twenty_questions() -> None:
    assert list(QUERIES) == [str(number) for number in range(1, 21)]


@pytest.mark.parametrize("number", QUERIES)
def test_a_query_of_the_cookbook_reads_by_indexes(store: sqlite3.Connection, number: str) -> None:
    store.execute(QUERIES[number]).fetchall()
    assert read_whole(store, QUERIES[number]) - SMALL <= WHOLE.get(number, set())


def test_the_query_of_the_page_on_stores_reads_by_indexes(store: sqlite3.Connection) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", STORE_PAGE, re.DOTALL)
    assert len(store.execute(query).fetchall()) == 2
    assert not read_whole(store, query) - SMALL


def test_without_the_number_of_a_scan_a_view_reads_all_scans(store: sqlite3.Connection) -> None:
    """The page says so, and it shows that whole tables are seen."""
    one = "SELECT count(*) FROM symbol_references WHERE scan_id = 3"
    latest = "SELECT count(*) FROM symbol_references WHERE scan_id = (SELECT max(id) FROM scans)"
    assert not read_whole(store, one) - SMALL
    assert read_whole(store, latest) & {"reference_facts", "scan_files", "bindings"}
