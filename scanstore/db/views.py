"""Views over a scan's files and their shared facts, described once, so that a query reads only the tables it needs.

Such a view joins the files of all scans with facts, names and bindings. SQLite builds all of it before it counts or
sorts. From its description, a query gets a smaller source of the same rows: only with the columns that it uses, in the
order of the key, or for given keys. A view may also have figures, the kept counts of its rows for each scan by one
column; see ``migrations/012_page_indexes.py``.

The tests compare each description with its view.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import peewee

from scanstore.db.view_keys import MASK, SHIFT

_KEYS = f"""json_each(?) AS i CROSS JOIN scan_files AS f ON f.id = (i.value >> {SHIFT})
 CROSS JOIN {{facts}} AS x ON x.version_id = f.version_id AND x.{{ordinal}} = (i.value & {MASK})"""
_FILES = "scan_files AS f {cross}JOIN {facts} AS x ON x.version_id = f.version_id"


class View(NamedTuple):
    """A view: the facts ``x`` of the files ``f`` of all scans, and the tables that are joined to them."""

    facts: str
    key: tuple[str, str]  #: the columns of the view that identify a row: the file, and the place in it
    joins: Mapping[str, str]  #: by the name of the joined table, in order; each may use those before it
    columns: Mapping[str, str]  #: the expression of each column of the view
    ordinal: str = "ordinal"  #: the column of the facts that has the place
    names: Collection[str] = ()  #: joined tables that select few rows, so that SQLite may begin with them
    searched: Collection[str] = ()  #: columns that only the view itself can look up
    figures: str = ""  #: the kind of kept counts by scan alone
    counted: Collection[str] = ()  #: columns with kept counts by scan and column, which are the kinds of these

    def rows(self, columns: Iterable[str]) -> str:
        """Return a SELECT with the same rows, but only with the key and these columns."""
        wanted = set(columns)
        joined = self._joined(wanted)
        cross = "" if {*self.names} & {*joined} else "CROSS "
        return self._select({*wanted, *self.key}, joined, _FILES.format(cross=cross, facts=self.facts))

    def of_keys(self, columns: Iterable[str]) -> str:
        """Return a SELECT of these columns for a JSON list of ids, in its order."""
        wanted = set(columns)
        return self._select(wanted, self._joined(wanted), _KEYS.format(facts=self.facts, ordinal=self.ordinal))

    def counts(self, columns: Iterable[str]) -> str | None:
        """Return a SELECT of ``scan_id``, these columns and ``number``, the count of such rows. None without figures.

        Scans without figures are counted.
        """
        by = {*columns} - {"scan_id"}
        if not self.figures or len(by) > 1 or not by <= {*self.counted}:
            return None
        kind = next(iter(by), self.figures)
        value = "".join(f", k.value AS {column}" for column in by)
        live = f"{self._select({'scan_id', *by}, self._joined(by), _FILES.format(cross='CROSS ', facts=self.facts))}"
        return (
            f"SELECT k.scan_id{value}, k.count AS number FROM scan_counts AS k WHERE k.kind = '{kind}'"
            " AND k.scan_id IN (SELECT scan_id FROM scan_figures) UNION ALL"
            f" SELECT scan_id{''.join(f', {column}' for column in by)}, 1 FROM ({live}) WHERE scan_id NOT IN"
            " (SELECT scan_id FROM scan_figures)"
        )

    def _joined(self, columns: Iterable[str]) -> list[str]:
        """Return the joined tables that the columns need."""
        texts = " ".join(self.columns[column] for column in columns)
        found: list[str] = []
        for name, text in reversed(list(self.joins.items())):
            if re.search(rf"\b{name}\.", texts):
                found.insert(0, name)
                texts += f" {text}"
        return found

    def _select(self, columns: Collection[str], joined: Iterable[str], source: str) -> str:
        values = ", ".join(f"{text} AS {name}" for name, text in self.columns.items() if name in columns)
        return f"SELECT {values} FROM {source} {' '.join(self.joins[name] for name in joined)}"


def used(*nodes: object) -> set[str] | None:
    """Return the columns that conditions and orders use. None if there is more to them than columns and values."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, peewee.Field):
            found.add(node.column_name)
        elif isinstance(node, peewee.Model) or not isinstance(node, peewee.Node):
            continue
        elif isinstance(node, peewee.Expression):
            more = used(node.lhs, node.rhs)
            if more is None:
                return None
            found |= more
        elif isinstance(node, peewee.Ordering | peewee.Negated):
            more = used(node.node)
            if more is None:
                return None
            found |= more
        elif not isinstance(node, peewee.Value):
            return None
    return found
