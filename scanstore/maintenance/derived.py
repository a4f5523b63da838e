"""Derived tables and columns: counters, counted columns and full-text indexes, each described once.

A description names the table and the query that defines its content. :mod:`scanstore.maintenance.invariants` compares
the two, :mod:`scanstore.maintenance.fixes` restores the table, and :mod:`scanstore.maintenance.repair` fills it in a
new store. A repaired store has no figures of scans until it is optimized. Triggers keep the tables in daily use; see
the migrations.

Change here: add a description to ``DERIVED`` for each new table or column that follows from other rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scanstore.db import schema
from scanstore.db.foreign_schema import HISTORY
from scanstore.leases.queue import QUEUES
from scanstore.snapshots import figures

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


class Counted(NamedTuple):
    """Numbers that a query finds by counting rows: a table of counters, or some columns of another table.

    ``check`` is a query for the number of differences. ``rebuild`` are the statements that restore the content.
    """

    what: str  #: the name of a difference
    table: str
    key: tuple[str, ...]
    numbers: tuple[str, ...]  #: the first one counts rows
    query: str  #: selects the key and the numbers
    sources: Mapping[str, str]  #: the counted tables, by the column ``kind`` where there are several
    rounded: tuple[str, ...] = ()  #: numbers with rounding errors
    in_rows: bool = False  #: whether the numbers are columns of rows that have content of their own

    @property
    def check(self) -> str:
        """Count the keys with other numbers. A counter of 0 may be missing."""
        key, negated = ", ".join(self.key), ", ".join(f"-{number}" for number in self.numbers)
        differs = " OR ".join(
            f"abs(total({number})) > {f'1e-6 * max(1, max({number}))' if number in self.rounded else '0'}"
            for number in self.numbers
        )
        return (
            f"SELECT count(*) FROM (SELECT 1 FROM (SELECT {key}, {', '.join(self.numbers)} FROM {self.table}"
            f" UNION ALL SELECT {key}, {negated} FROM ({self.query})) GROUP BY {key} HAVING {differs})"
        )

    @property
    def rebuild(self) -> tuple[str, ...]:
        numbers = ", ".join(self.numbers)
        if not self.in_rows:
            columns = f"{', '.join(self.key)}, {numbers}"
            return (
                f"DELETE FROM {self.table}",
                f"INSERT INTO {self.table} ({columns}) SELECT {columns} FROM ({self.query})",
            )
        found = ", ".join(f"found.{number}" for number in self.numbers)
        same = " AND ".join(f"found.{column} = {self.table}.{column}" for column in self.key)
        stored = ", ".join(f"{self.table}.{number}" for number in self.numbers)
        return (
            f"UPDATE {self.table} SET ({numbers}) = ({found}) FROM ({self.query}) AS found"
            f" WHERE {same} AND ({stored}) IS NOT ({found})",
        )

    @property
    def fix(self) -> tuple[str, ...]:
        return self.rebuild

    def source(self, row: Mapping[str, object]) -> str:
        """Return the table that a row counts."""
        return self.sources.get(str(row.get("kind")), next(iter(self.sources.values())))


class SearchIndex(NamedTuple):
    """A full-text index. A search fills it and takes up the rows that are noted in ``search_changes``.

    ``check`` is a query for the number of differences that are not noted. ``fix`` notes them, and ``rebuild`` notes
    all that the index has. Only the next search restores the content.
    """

    what: str  #: the name of a difference
    table: str
    weights: str  #: how much a word counts in each column
    query: str  #: selects the ``id`` in the index and what its columns are made of
    lookup: str  #: finds the row ``q`` of the query for the row ``d`` of the index
    same: str  #: compares ``q`` with the stored columns of the row ``k``
    due: str  #: bounds the rows ``q`` to those that the index should have
    noted_id: str = "id"  #: the id in ``search_changes``

    @property
    def kind(self) -> str:
        return self.table.removesuffix("_search")

    @property
    def known(self) -> str:
        """Select the ids to note for all rows of the index."""
        return f"SELECT {self.noted_id} AS id FROM {self.table}_docsize"

    @property
    def stale(self) -> str:
        """Select the ids of rows that are missing, surplus or other than the query says, and are not noted."""
        return (
            f"SELECT id FROM (SELECT d.id FROM {self.table}_docsize AS d WHERE NOT EXISTS (SELECT 1"
            f" FROM {self.table}_content AS k, ({self.query}) AS q WHERE k.id = d.id AND {self.lookup} AND {self.same})"
            f" UNION ALL SELECT q.id FROM ({self.query}) AS q WHERE {self.due}"
            f" AND NOT EXISTS (SELECT 1 FROM {self.table}_docsize AS d WHERE d.id = q.id)) AS a"
            f" WHERE NOT EXISTS (SELECT 1 FROM search_changes AS c WHERE c.kind = '{self.kind}'"
            f" AND c.id = a.{self.noted_id})"
        )

    @property
    def check(self) -> str:
        return f"SELECT count(*) FROM ({self.stale})"

    @property
    def fix(self) -> tuple[str, ...]:
        return (self.note(f"SELECT {self.noted_id} AS id FROM ({self.stale})"),)

    @property
    def rebuild(self) -> tuple[str, ...]:
        return (self.note(self.known),)

    @property
    def setting(self) -> str:
        """The statement that a new index needs."""
        return f"INSERT INTO {self.table} ({self.table}, rank) VALUES ('rank', 'bm25({self.weights})')"

    def note(self, ids: str) -> str:
        return (
            f"INSERT INTO search_changes (kind, id) SELECT '{self.kind}', id FROM ({ids}) WHERE true"
            " ON CONFLICT DO NOTHING"
        )


class NameIndex(NamedTuple):
    """The index of parts of names, which completing a scan takes up. It reads their text from their table."""

    what: str = "names that the search for parts of names misses, or knows though they are gone"
    table: str = "name_search"

    @property
    def check(self) -> str:
        """Count the names up to the highest known one that are not known, and the known ones that are gone."""
        return (
            "SELECT (SELECT count(*) FROM names AS n WHERE n.id <= (SELECT max(id) FROM name_search_docsize)"
            " AND NOT EXISTS (SELECT 1 FROM name_search_docsize AS d WHERE d.id = n.id)) + (SELECT count(*)"
            " FROM name_search_docsize AS d WHERE NOT EXISTS (SELECT 1 FROM names AS n WHERE n.id = d.id))"
        )

    @property
    def rebuild(self) -> tuple[str, ...]:
        return ("INSERT INTO name_search (name_search) VALUES ('rebuild')",)

    @property
    def fix(self) -> tuple[str, ...]:
        return self.rebuild


WORK = {queue.kind: queue.table for queue in QUEUES}
SUMS = ("prompt_tokens", "completion_tokens", "cost", "latency_ms")
# Rows without their scan or plan are reported by themselves. They are not counted: a counter needs its owner.
COUNTERS = (
    Counted(
        "counts of work that do not match the rows",
        "work_counts",
        ("scan_id", "kind", "status"),
        ("count",),
        " UNION ALL ".join(
            f"SELECT scan_id, '{kind}' AS kind, status, count(*) AS count FROM {table} GROUP BY scan_id, status"
            " HAVING scan_id IN (SELECT id FROM scans)"
            for kind, table in WORK.items()
        ),
        WORK,
    ),
    Counted(
        "sums of model calls that do not match the calls",
        "call_counts",
        ("scan_id", "model", "purpose", "status"),
        ("calls", *SUMS),
        "SELECT coalesce(scan_id, 0) AS scan_id, model, purpose, status, count(*) AS calls, "
        + ", ".join(f"total({column}) AS {column}" for column in SUMS)
        + " FROM model_calls GROUP BY 1, 2, 3, 4",
        {"": "model_calls"},
        rounded=("cost",),
    ),
    Counted(
        "counts of plans that do not match their changes",
        "plan_counts",
        ("plan_id", "status"),
        ("count",),
        "SELECT plan_id, status, count(*) AS count FROM plan_changes GROUP BY plan_id, status"
        " HAVING plan_id IN (SELECT id FROM analysis_plans)",
        {"": "plan_changes"},
    ),
)
COLUMNS = (
    Counted(
        "counts of sessions that do not match their files",
        "analysis_sessions",
        ("id",),
        ("total_files", "processed_files"),
        "SELECT s.id, count(f.id) AS total_files,"
        " count(f.id) FILTER (WHERE f.upload_status IN ('completed', 'error')) AS processed_files"
        " FROM analysis_sessions AS s LEFT JOIN file_uploads AS f ON f.analysis_session_id = s.id GROUP BY s.id",
        {"": "file_uploads"},
        in_rows=True,
    ),
)
# Counts of scans with kept figures. A scan without them is counted whenever that is asked.
FIGURES = (
    Counted(
        "counts of scans that do not match their symbols and references",
        "scan_counts",
        ("scan_id", "kind", "value"),
        ("count",),
        f"{figures.SYMBOLS} UNION ALL {figures.REFERENCES}".replace("{scans}", figures.KEPT),
        {"symbol_type": "symbol_facts", "reference_type": "reference_facts", "resolution": "reference_facts"},
    ),
    Counted(
        "counts of scans that do not match their files",
        "scan_groups",
        ("scan_id", "ending", "indexer", "status", "broken"),
        figures.NUMBERS,
        figures.GROUPS.replace("{scans}", figures.KEPT),
        {"": "scan_files"},
    ),
)
TEXTS = ("title", "message", "vulnerability_details", "remediation_steps", "snippet", "notes")
# A name may be followed by the words that it consists of.
WORDS = "({0} = {1} OR {0} >= {1} || ' ' AND {0} < {1} || '!')"
# A qualified name without the name.
SCOPE = "substr(x.text, 1, length(x.text) - length(n.text))"
SEARCHES = (
    SearchIndex(
        "findings that the full-text search misses, knows with other words, or knows though they are gone",
        "finding_search",
        "8.0, 4.0, 2.0, 1.0, 2.0, 2.0",
        f"SELECT f.id, {', '.join(f'f.{column}' for column in TEXTS[:-1])}, (SELECT group_concat(note, char(10))"
        " FROM finding_events WHERE finding_id = f.id AND note <> '') AS notes FROM findings AS f",
        lookup="q.id = d.id",
        same=" AND ".join(f"q.{column} IS k.c{place}" for place, column in enumerate(TEXTS)),
        due="q.id <= (SELECT max(id) FROM finding_search_docsize)",  # a search takes up all newer ones
    ),
    SearchIndex(
        "symbols that the full-text search misses, knows with other words, or knows though they are gone",
        "symbol_search",
        "8.0, 3.0, 1.0",
        # Metadata that is not JSON is reported by itself.
        "SELECT s.version_id << 24 | s.ordinal AS id, s.version_id, s.ordinal, n.text AS name,"
        f" iif({SCOPE} || n.text = x.text, {SCOPE}, x.text) AS scope,"
        " iif(json_valid(coalesce(s.metadata, '{}')),"
        " coalesce(json_extract(s.metadata, '$.docstring'), ''), NULL) AS docstring FROM symbol_facts AS s"
        " JOIN names AS n ON n.id = s.name_id JOIN names AS x ON x.id = s.qualified_name_id",
        lookup="q.version_id = d.id >> 24 AND q.ordinal = d.id & 16777215",
        same=" AND ".join(
            (WORDS.format("k.c0", "q.name"), WORDS.format("k.c1", "q.scope"), "k.c2 IS coalesce(q.docstring, k.c2)")
        ),
        due="q.version_id IN (SELECT DISTINCT id >> 24 FROM symbol_search_docsize)",
        noted_id="id >> 24",
    ),
)
FIGURES_OF = "scan_figures"  #: the scans with kept figures
NAMES = NameIndex()
DERIVED = (*COUNTERS, *COLUMNS, *FIGURES, *SEARCHES, NAMES)
NOTES = "search_changes"  #: the rows that a search has to take up
#: Tables that follow from others.
TABLES = (
    *(each.table for each in (*COUNTERS, *SEARCHES)),
    NOTES,
    FIGURES_OF,
    *(each.table for each in (*FIGURES, NAMES)),
)
OF_FILE = (HISTORY, "file_identity")  #: tables that belong to the file, not to its content
OF_PROCESSES = ("model_slots", "answer_claims")  #: tables of running processes


def missing_tables(there: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the derived tables that are not ``there``, with the statement that creates each.

    A full-text index is yielded only if all of its own tables are missing too.
    """
    expected = schema.expected()
    for table in TABLES:
        parts = [name for kind, name in expected if kind == "table" and is_part(name, table)]
        if not any(name in there for name in parts):
            yield table, expected["table", table]


def is_part(name: str, table: str) -> bool:
    """Tell whether a table is the derived one or, for a full-text index, one of its own tables."""
    return name == table or table.endswith("_search") and name.startswith(f"{table}_")


def filling(table: str) -> Iterator[str]:
    """Yield the statements that fill a derived table that was just created."""
    if table == FIGURES_OF:
        yield from figures.restored()
        for counted in FIGURES:
            yield from counted.rebuild
    for each in DERIVED:
        if isinstance(each, SearchIndex):
            if table == each.table:
                yield each.setting
            elif table == NOTES:  # its notes are lost: everything may have changed
                yield from each.rebuild
        elif table == each.table:
            yield from each.rebuild
