"""Scans of another store, with the facts about their files and the analysis of them.

A scan is the same if it is of the same target and kind and was made and begun at the same time; its rows are then not
looked at one by one. Others come after ours, in their order: their revisions are moved past all of ours, and the
bindings with them, so that each interval covers the scans that it covered.

Facts of a file version that both have are trusted to be the same for indexers of our own. Facts that another store
recorded under one hash may differ: then theirs come as another version, so that each scan shows the same as before.
"""

from __future__ import annotations

from scanstore.indexing.facts import TEXT
from scanstore.indexing.python.indexer import PythonIndexer
from scanstore.maintenance.merge.rows import UNLEASED, Merge, is_new, ours

CHUNK = f"{ours('scan_files', '{0} >> 24')} << 24 | (o.{{0}} & 16777215)"
FACTS = {
    "symbol_facts": ("name_id", "qualified_name_id"),
    "reference_facts": ("name_id", "path_id"),
    "import_facts": ("module_id", "path_id"),
}
TRUSTED = f"('{PythonIndexer.name}', '{TEXT}')"
OWN_INDEXER = "o.indexer GLOB 'scan:[0-9]*'"
INDEXER = f"""iif({OWN_INDEXER}, 'scan:' || coalesce((SELECT ours FROM temp.m_scans WHERE theirs =
    CAST(substr(o.indexer, 6) AS INTEGER)), '?' || substr(o.indexer, 6)), o.indexer)"""
# What a version holds, as one text for each row; names are spelled, since their numbers differ.
SPELLED = """
SELECT 's', s.ordinal, n.text, q.text, s.symbol_type, s.start_line, s.end_line, s.metadata, s.body_hash, NULL
  FROM {db}.symbol_facts AS s JOIN {db}.names AS n ON n.id = s.name_id
  JOIN {db}.names AS q ON q.id = s.qualified_name_id WHERE s.version_id = {version}
UNION ALL
SELECT 'r', r.ordinal, n.text, p.text, r.reference_type, r.line, r.from_ordinal, r.symbol_ordinal, r.resolution,
       r.confidence
  FROM {db}.reference_facts AS r JOIN {db}.names AS n ON n.id = r.name_id
  LEFT JOIN {db}.names AS p ON p.id = r.path_id WHERE r.version_id = {version}
UNION ALL
SELECT 'i', i.ordinal, n.text, p.text, i.imported_names, i.line, NULL, NULL, NULL, NULL
  FROM {db}.import_facts AS i JOIN {db}.names AS n ON n.id = i.module_id
  LEFT JOIN {db}.names AS p ON p.id = i.path_id WHERE i.version_id = {version}
UNION ALL
SELECT 'c', c.chunk_index, c.chunk_type, c.symbol_name, c.content_hash, c.start_line, c.end_line, NULL, NULL, NULL
  FROM {db}.chunk_facts AS c WHERE c.version_id = {version}
"""
VERSION = "SELECT line_count, error, interface, mentions FROM {db}.file_versions WHERE id = {version}"
SCAN = "o.target || ' of ' || o.created_at"
# What a scan has said to be fixed depends on the scans before it.
COUNTED = dict.fromkeys(("scan_files", "draft_findings", "verified_findings", "model_calls", "tool_runs"), "1")
COUNTED["sightings"] = "state <> 'fixed'"


def merge_models(merge: Merge) -> None:
    """Configurations of models, by name; and cached answers, by their question."""
    merge.map("model_configs", by="name")
    merge.add("model_configs")
    merge.compare("model_configs", "o.name")
    merge.map("analyzers", by="key")
    merge.add("analyzers")
    merge.map("analysis_cache")
    analyzer = ours("analyzers", "analyzer_id")
    merge.match("analysis_cache", {"analyzer_id": analyzer, "content_hash": "o.content_hash"})
    merge.add("analysis_cache", {"analyzer_id": analyzer})


def merge_scans(merge: Merge) -> None:
    """Targets, scans, and everything that the scans saw."""
    merge.map("lineages", by="target")
    whole = "EXISTS (SELECT 1 FROM other.scans AS s WHERE s.lineage_id = o.id AND s.revision IS NOT NULL)"
    merge.add("lineages", where=whole)
    _scans(merge)
    _facts(merge)
    merge.map("scan_files")
    scan = {"scan_id": ours("scans", "scan_id")}
    merge.add(
        "scan_files",
        {**scan, "version_id": ours("file_versions", "version_id")},
        where=is_new("scans", "scan_id"),
    )
    _bindings(merge)
    merge.copy(
        "scan_configs",
        {"id": "NULL", **scan, "primary_analyzer_id": ours("model_configs", "primary_analyzer_id")},
        where=is_new("scans", "scan_id"),
    )
    _analysis(merge)


def _scans(merge: Merge) -> None:
    merge.map("scans")
    lineage = ours("lineages", "lineage_id")
    merge.match(
        "scans",
        {"lineage_id": lineage, "kind": "o.kind", "created_at": "o.created_at", "started_at": "o.started_at"},
        where="o.revision IS NOT NULL",
        several=True,
    )
    merge.table("revisions", "lineage INTEGER PRIMARY KEY, trees INTEGER, reports INTEGER")
    merge.run(
        "INSERT INTO temp.revisions SELECT x.ours,"
        " max(0, coalesce((SELECT max(revision) FROM main.scans WHERE lineage_id = x.ours), 0),"
        "     coalesce((SELECT max(since) FROM main.bindings WHERE lineage_id = x.ours), 0)),"
        " min(0, coalesce((SELECT min(revision) FROM main.scans WHERE lineage_id = x.ours), 0))"
        " FROM temp.m_lineages AS x"
    )
    moved = f"(SELECT iif(o.revision > 0, trees, reports) FROM temp.revisions WHERE lineage = {lineage}) + o.revision"
    merge.add("scans", {"lineage_id": lineage, "revision": moved, "worker": "NULL"}, where="o.revision IS NOT NULL")
    merge.skip(
        merge.number("SELECT count(*) FROM other.scans WHERE revision IS NULL"),
        "scans that were not recorded whole",
        "finish or remove them there",
    )
    merge.compare("scans", SCAN, but=("lineage_id", "revision", "worker"))
    for table, which in COUNTED.items():
        merge.compare_counts("scans", SCAN, table, "scan_id", which)


def _facts(merge: Merge) -> None:
    """The file versions that new scans use, with their facts."""
    merge.table("needed", "id INTEGER PRIMARY KEY")
    merge.run(
        "INSERT OR IGNORE INTO temp.needed SELECT f.version_id FROM temp.m_scans AS x"
        " CROSS JOIN other.scan_files AS f ON f.scan_id = x.theirs WHERE x.new AND f.version_id IS NOT NULL"
    )
    merge.map("file_versions")
    needed = "o.id IN (SELECT id FROM temp.needed)"
    same = {"path": "o.path", "content_hash": "o.content_hash", "indexer": INDEXER, "module": "o.module"}
    merge.match("file_versions", same, where=needed)
    apart = [
        theirs
        for theirs, mine in merge.run(
            "SELECT x.theirs, x.ours FROM temp.m_file_versions AS x JOIN other.file_versions AS o ON o.id = x.theirs"
            f" WHERE o.indexer NOT IN {TRUSTED}"
        )
        if any(
            sorted(map(repr, merge.run(sql.format(db="main", version=mine))))
            != sorted(map(repr, merge.run(sql.format(db="other", version=theirs))))
            for sql in (VERSION, SPELLED)
        )
    ]
    merge.table("apart", "id INTEGER PRIMARY KEY")
    for key in apart:
        merge.run(f"INSERT INTO temp.apart VALUES ({key})")
    merge.run("DELETE FROM temp.m_file_versions WHERE theirs IN (SELECT id FROM temp.apart)")
    marked = f"iif(o.id IN (SELECT id FROM temp.apart), o.indexer || '~' || x.ours, {INDEXER})"
    merge.add("file_versions", {"indexer": marked}, where=needed)
    _names(merge)
    for table in (*FACTS, "chunk_facts"):
        values = {column: ours("names", column) for column in FACTS.get(table, ())}
        merge.copy(
            table,
            {"version_id": "x.ours", **values},
            "JOIN temp.m_file_versions AS x ON x.theirs = o.version_id AND x.new",
        )


def _names(merge: Merge) -> None:
    """The names that new rows use."""
    merge.table("used", "id INTEGER PRIMARY KEY")
    for table, columns in FACTS.items():
        for column in columns:
            merge.run(
                f"INSERT OR IGNORE INTO temp.used SELECT o.{column} FROM temp.m_file_versions AS x"
                f" CROSS JOIN other.{table} AS o ON o.version_id = x.theirs WHERE x.new AND o.{column} IS NOT NULL"
            )
    merge.run(f"INSERT OR IGNORE INTO temp.used SELECT o.path_id FROM other.bindings AS o WHERE {_seen()}")
    merge.map("names")
    merge.run(
        "INSERT INTO temp.m_names (theirs, ours, new) SELECT o.id, m.id, 0 FROM temp.used AS u"
        " CROSS JOIN other.names AS o ON o.id = u.id CROSS JOIN main.names AS m ON m.text = o.text"
    )
    merge.add("names", where="o.id IN (SELECT id FROM temp.used)")


def _seen() -> str:
    """Whether a binding is about a new scan."""
    return """EXISTS (SELECT 1 FROM other.scans AS s JOIN temp.m_scans AS x ON x.theirs = s.id AND x.new
        WHERE s.lineage_id = o.lineage_id AND s.revision >= o.since AND (o.until IS NULL OR s.revision < o.until))"""


def _bindings(merge: Merge) -> None:
    """What references mean: ours hold up to our last revision, theirs from there on."""
    merge.run(
        "UPDATE main.bindings AS b SET until = r.trees + 1 FROM temp.revisions AS r WHERE r.lineage = b.lineage_id"
        " AND (b.until IS NULL OR b.until > r.trees + 1) AND EXISTS (SELECT 1 FROM main.scans AS s"
        "       JOIN temp.m_scans AS x ON x.ours = s.id AND x.new WHERE s.lineage_id = b.lineage_id AND s.revision > 0)"
    )
    merge.copy(
        "bindings",
        {
            "lineage_id": "l.ours",
            "path_id": ours("names", "path_id"),
            "since": "r.trees + o.since",
            "until": "r.trees + o.until",
            "version_id": ours("file_versions", "version_id"),
        },
        "JOIN temp.m_lineages AS l ON l.theirs = o.lineage_id JOIN temp.revisions AS r ON r.lineage = l.ours",
        _seen(),
    )


def _analysis(merge: Merge) -> None:
    """Chunks, drafts, votes, verified findings and calls of new scans; leased work is pending again."""
    here = is_new("scans", "scan_id")
    scan = {"scan_id": ours("scans", "scan_id")}

    def waiting(status: str) -> dict[str, str]:
        return {**UNLEASED, "status": f"iif(o.status = '{status}', 'pending', o.status)"}

    merge.copy(
        "chunk_work",
        {**scan, **waiting("running"), "id": CHUNK.format("id"), "scan_file_id": ours("scan_files", "scan_file_id")},
        where=here,
    )
    chunk = {"chunk_id": CHUNK.format("chunk_id")}
    merge.map("draft_findings")
    merge.add("draft_findings", {**scan, **chunk, **waiting("verifying")}, where=here)
    draft = {"draft_id": ours("draft_findings", "draft_id")}
    model = {"model_config_id": ours("model_configs", "model_config_id")}
    merge.copy("votes", {"id": "NULL", **draft, **model}, where=is_new("draft_findings", "draft_id"))
    merge.map("verified_findings")
    merge.add("verified_findings", {**scan, **draft, **waiting("enriching")}, where=here)
    merge.map("model_calls")
    merge.match(
        "model_calls",
        {"model": "o.model", "purpose": "o.purpose", "process": "o.process", "started_at": "o.started_at"},
        where="o.scan_id IS NULL",
        mine="m.scan_id IS NULL",
        several=True,
    )
    merge.add(
        "model_calls",
        {
            **scan, **chunk, **draft, **model,
            "analyzer_id": ours("analyzers", "analyzer_id"),
            "status": "iif(o.status = 'running', 'abandoned', o.status)",
            "ended_at": "coalesce(o.ended_at, o.started_at)",
        },
        where=f"(o.scan_id IS NULL OR {here})",
    )  # fmt: skip
    merge.map("tool_runs")
    merge.add("tool_runs", scan, where=here)
