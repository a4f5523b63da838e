"""Symbols that seem unused: no reference resolves to them, and no file mentions their name."""

from __future__ import annotations

import json

from scanstore.db.database import Database
from scanstore.db.view_keys import join
from scanstore.indexing.facts import unpack_words
from scanstore.indexing.languages import CTAGS, REFERENCES, coverage, language_of
from scanstore.snapshots.figures import groups
from scanstore.symbols.graph import Graph

# Decorators that do not register the function elsewhere.
_KEEPING = frozenset(
    "property staticmethod classmethod abstractmethod cached_property overload override final cache lru_cache"
    " contextmanager asynccontextmanager wraps dataclass total_ordering".split()
)

# Inner classes that a framework looks up by name.
_READ_BY_FRAMEWORKS = frozenset(("Meta", "Config"))

CANDIDATES = """
SELECT f.id, s.version_id, s.ordinal, n.text, q.text, s.symbol_type, s.metadata, f.file_path
  FROM scan_files AS f
  JOIN file_versions AS v ON v.id = f.version_id AND v.error IS NULL AND v.indexer NOT LIKE '{ctags}%'
  JOIN symbol_facts AS s ON s.version_id = f.version_id
  JOIN names AS n ON n.id = s.name_id JOIN names AS q ON q.id = s.qualified_name_id
 WHERE f.scan_id = {scan} AND s.symbol_type IN ({kinds})
   AND NOT EXISTS (SELECT 1 FROM reference_facts AS r WHERE r.version_id = s.version_id AND r.symbol_ordinal = s.ordinal
                      AND r.from_ordinal IS NOT s.ordinal)
   AND NOT EXISTS (SELECT 1 FROM bindings AS b WHERE b.version_id = s.version_id AND b.ordinal = s.ordinal AND {valid})
"""
MENTIONS = """
SELECT v.mentions FROM scan_files AS f JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = {scan} AND v.mentions IS NOT NULL
"""
# Calls of unknown objects: every symbol with their last name may be the target.
OPEN_CALLS = """
SELECT DISTINCT n.text FROM scan_files AS f
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id AND r.symbol_ordinal IS NULL
  JOIN names AS n ON n.id = r.name_id
 WHERE f.scan_id = {scan}
   AND NOT EXISTS (SELECT 1 FROM bindings AS b WHERE b.path_id = r.path_id AND {valid} AND b.ordinal IS NOT NULL)
"""
CLASSES_WITH_UNKNOWN_BASES = """
SELECT DISTINCT q.text FROM scan_files AS f
  CROSS JOIN reference_facts AS r ON r.version_id = f.version_id AND r.reference_type = 'inherit'
  JOIN symbol_facts AS s ON s.version_id = r.version_id AND s.ordinal = r.from_ordinal
  JOIN names AS q ON q.id = s.qualified_name_id
"""


def unreferenced(db: Database, graph: Graph, kinds: set[str]) -> list[int]:
    """Return the ids of the symbols of these types that seem unused."""
    options = {
        "scan": graph.scan,
        "valid": graph.valid,
        "kinds": ", ".join(f"'{kind}'" for kind in sorted(kinds)),
        "ctags": CTAGS,
    }
    # Only files with recorded references can prove that a symbol is unused.
    able = {row.language for row in coverage(groups(db, graph.scan)) if REFERENCES in row.recorded}
    used: set[str] = set()
    for (blob,) in db.execute_sql(MENTIONS.format(**options)):
        used.update(unpack_words(blob))
    for (written,) in db.execute_sql(OPEN_CALLS.format(**options)):
        used.add(written.rpartition(".")[2])
    derived = {q for (q,) in db.execute_sql(CLASSES_WITH_UNKNOWN_BASES + f" WHERE f.scan_id = {graph.scan}")}
    found = []
    for file_id, _, ordinal, name, qualified, kind, metadata, path in db.execute_sql(CANDIDATES.format(**options)):
        if language_of(path) not in able:
            continue
        if kind == "class" and name in _READ_BY_FRAMEWORKS:
            continue
        if name in used or name.startswith("__") and name.endswith("__"):
            continue
        if kind == "method" and qualified.rpartition(".")[0] in derived:
            continue  # it may override a method of a base class and be called through it
        file = path.rpartition("/")[2]
        if name.lower().startswith("test") or file.startswith(("test_", "conftest.")) or file.endswith("_test.py"):
            continue
        decorators = json.loads(metadata).get("decorators", []) if metadata else []
        if any(d.partition("(")[0].rpartition(".")[2] not in _KEEPING for d in decorators):
            continue
        found.append(join(file_id, ordinal))
    return found
