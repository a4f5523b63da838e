"""Findings of another store: matched with the findings of this store, with their sightings and decisions.

A finding of theirs is ours, the surest first, when a scan that both stores have saw it at the same place by the same
rule; when it is the same row, copied earlier; when the same rule of the same tool says the same of the same line of the
same file, and no scan that both have could have told the two apart. Any other is added.

Our finding then has the sightings of their scans, which come after ours, so it is as the last of those saw it. Decided
is three-way: a status that changed in one store only is taken, one that changed in both stays as it is here and is
listed, and the history of the other is not taken then. Comments always are.
"""

from __future__ import annotations

from scanstore.findings.content import packed
from scanstore.findings.tracking import CONTENT, PLACE, TRAITS
from scanstore.maintenance.merge.rows import STAYS, Merge, is_new, ours, text_of

SEEN_THERE = """EXISTS (SELECT 1 FROM other.sightings AS s JOIN temp.m_scans AS x ON x.theirs = s.scan_id
                         AND {new} x.new WHERE s.finding_id = o.id)"""
NEWLY_SEEN = SEEN_THERE.format(new="")
SEEN_IN_BOTH = SEEN_THERE.format(new="NOT")
NEW_SCANS = "(SELECT ours FROM temp.m_scans WHERE new)"
PREVIOUS = """(SELECT p.state FROM main.sightings AS p WHERE p.finding_id = s.finding_id AND p.scan_id < s.scan_id
    ORDER BY p.scan_id DESC LIMIT 1)"""
SIDE = """
INSERT INTO temp.{side} SELECT key, row_number() OVER (PARTITION BY key ORDER BY id), id FROM (
    SELECT {key} AS key, f.id FROM temp.m_scans AS x
      CROSS JOIN {db}.sightings AS s ON s.scan_id = x.{of} CROSS JOIN {db}.findings AS f ON f.id = s.finding_id
     WHERE NOT x.new)
"""
EVENT = ("action", "by", "from_status", "to_status", "note", "created_at")
COPY = ("tool", "rule_id", "created_at", "message_key", "fingerprints", "line_hash")
TWIN = ("tool", "rule_id", "file_path", "symbol", "message_key", "fingerprints", "line_hash")
# What recognises it: its line, or what the tool calls it.
KNOWN = "({0}.line_hash IS NOT NULL OR {0}.fingerprints <> '{{}}') AND {0}.file_path <> ''"


def merge_findings(merge: Merge) -> None:
    """Findings with their sightings, history and suppressions."""
    _match(merge)
    lineage = {"lineage_id": ours("lineages", "lineage_id")}
    seen = (
        "(SELECT {}(x.ours) FROM other.sightings AS s JOIN temp.m_scans AS x ON x.theirs = s.scan_id AND x.new"
        " WHERE s.finding_id = o.id AND s.state <> 'fixed')"
    )
    verified = ours("verified_findings", "verified_id")
    decided = """(NOT EXISTS (SELECT 1 FROM other.sightings AS s WHERE s.finding_id = o.id)
                  AND EXISTS (SELECT 1 FROM other.finding_events AS e WHERE e.finding_id = o.id))"""
    merge.add(
        "findings",
        {
            **lineage, "scan_id": seen.format("max"), "first_scan_id": seen.format("min"), "verified_id": verified,
        },
        where=f"{lineage['lineage_id']} IS NOT NULL AND ({NEWLY_SEEN} OR {decided})",
    )  # fmt: skip
    merge.skip(
        merge.number("SELECT count(*) FROM other.findings WHERE id NOT IN (SELECT theirs FROM temp.m_findings)"),
        "findings that no scan saw which was taken over",
        "finish their scans there, or remove ours of the same time and merge again",
    )
    _sightings(merge)
    _as_seen_last(merge)
    _decisions(merge)
    _suppressions(merge)


def _match(merge: Merge) -> None:
    merge.map("findings")
    for side, db, of in (("a", "other", "theirs"), ("b", "main", "ours")):
        merge.table(side, "key TEXT, n INTEGER, id INTEGER, PRIMARY KEY (key, n)")
        key = text_of(("x.ours", "f.tool", "f.rule_id", *(f"s.{column}" for column in PLACE)))
        merge.run(SIDE.format(side=side, db=db, of=of, key=key))
    merge.run(
        "INSERT OR IGNORE INTO temp.m_findings (theirs, ours, new)"
        " SELECT a.id, min(b.id), 0 FROM temp.a JOIN temp.b USING (key, n) GROUP BY a.id ORDER BY a.id"
    )
    lineage = {"lineage_id": ours("lineages", "lineage_id")}
    merge.match("findings", {**lineage, **{column: f"o.{column}" for column in COPY}}, several=True)
    merge.match(
        "findings",
        {**lineage, **{column: f"o.{column}" for column in TWIN}},
        where=f"{KNOWN.format('o')} AND NOT {SEEN_IN_BOTH}",
        mine=KNOWN.format("m"),
        several=True,
    )


def _sightings(merge: Merge) -> None:
    """What new scans saw; states follow from what our scans saw before."""
    merge.map("finding_contents")
    known = "(SELECT ours FROM temp.m_findings WHERE theirs = o.finding_id)"
    brought = f"{is_new('scans', 'scan_id')} AND {known} IS NOT NULL"
    merge.add(
        "finding_contents",
        {"finding_id": known},
        where="EXISTS (SELECT 1 FROM other.sightings AS s JOIN temp.m_scans AS x ON x.theirs = s.scan_id AND x.new"
        f" WHERE s.content_id = o.id) AND {known} IS NOT NULL",
    )
    merge.copy(
        "sightings",
        {
            "scan_id": ours("scans", "scan_id"),
            "finding_id": known,
            "run_id": ours("tool_runs", "run_id"),
            "verified_id": ours("verified_findings", "verified_id"),
            "content_id": ours("finding_contents", "content_id"),
        },
        where=brought,
    )
    merge.run(
        f"DELETE FROM main.sightings AS s WHERE scan_id IN {NEW_SCANS} AND state = 'fixed'"
        f" AND coalesce({PREVIOUS}, 'fixed') = 'fixed'"
    )
    merge.run(
        f"UPDATE main.sightings AS s SET state = CASE {PREVIOUS} WHEN 'fixed' THEN 'reopened' ELSE 'new' END"
        f" WHERE scan_id IN {NEW_SCANS} AND state IN ('unchanged', 'updated', 'reopened', 'new')"
        f" AND coalesce({PREVIOUS}, 'fixed') = 'fixed'"
    )
    merge.run(
        f"UPDATE main.sightings AS s SET state = 'unchanged' WHERE scan_id IN {NEW_SCANS}"
        f" AND state IN ('new', 'reopened') AND {PREVIOUS} <> 'fixed'"
    )


def _as_seen_last(merge: Merge) -> None:
    """Bring our findings that new scans saw to what those saw; what ours saw is kept with the sightings."""
    newly = (
        "NOT p.new AND EXISTS (SELECT 1 FROM main.sightings AS s"
        f" WHERE s.finding_id = p.ours AND s.scan_id IN {NEW_SCANS}"
    )
    columns = (*CONTENT, *TRAITS)
    differ = " OR ".join(f'm."{column}" IS NOT o."{column}"' for column in columns)
    before = ", ".join(f'm."{column}"' for column in CONTENT)
    after = ", ".join(f'o."{column}"' for column in columns)
    rows = merge.run(
        f"SELECT p.ours, {before}, {after} FROM temp.m_findings AS p JOIN main.findings AS m ON m.id = p.ours"
        f" JOIN other.findings AS o ON o.id = p.theirs WHERE {newly} AND s.content_id IS NULL) AND ({differ})"
    )
    run = merge.db.execute_sql
    for key, *values in rows:
        body = packed(dict(zip(CONTENT, values, strict=False)))
        content = run("INSERT INTO finding_contents (finding_id, body) VALUES (?, ?)", (key, body)).lastrowid
        run(
            f"UPDATE sightings SET content_id = ? WHERE finding_id = ? AND content_id IS NULL"
            f" AND scan_id NOT IN {NEW_SCANS}",
            (content, key),
        ).fetchall()
        run(
            "UPDATE findings SET {} WHERE id = ?".format(", ".join(f'"{column}" = ?' for column in columns)),
            (*values[len(CONTENT) :], key),
        ).fetchall()
    merge.run(
        "DELETE FROM main.finding_contents AS c WHERE finding_id IN (SELECT ours FROM temp.m_findings)"
        " AND NOT EXISTS (SELECT 1 FROM main.sightings WHERE content_id = c.id)"
    )
    places = ", ".join(PLACE)
    merge.run(
        f"UPDATE main.findings AS f SET ({places}) = (SELECT {places} FROM main.sightings WHERE finding_id = f.id"
        " ORDER BY scan_id DESC LIMIT 1),"
        " scan_id = (SELECT max(scan_id) FROM main.sightings WHERE finding_id = f.id AND state <> 'fixed'),"
        " first_scan_id = (SELECT min(scan_id) FROM main.sightings WHERE finding_id = f.id AND state <> 'fixed')"
        f" WHERE id IN (SELECT p.ours FROM temp.m_findings AS p WHERE {newly}))"
    )


def _decisions(merge: Merge) -> None:
    """History, and the statuses that come of it."""
    merge.table("events", "key TEXT PRIMARY KEY")
    merge.run(
        f"INSERT OR IGNORE INTO temp.events SELECT {text_of(('e.finding_id', *(f'e.{c}' for c in EVENT)))}"
        " FROM temp.m_findings AS p CROSS JOIN main.finding_events AS e ON e.finding_id = p.ours WHERE NOT p.new"
    )
    finding = ours("findings", "finding_id")
    key = text_of((finding, *(f"o.{column}" for column in EVENT)))
    unknown = f"{finding} IS NOT NULL AND {key} NOT IN (SELECT key FROM temp.events)"
    # Theirs that we have not, and ours that they have not.
    merge.table("moved", "finding INTEGER PRIMARY KEY")
    merge.run(
        f"INSERT OR IGNORE INTO temp.moved SELECT {finding} FROM other.finding_events AS o"
        f" WHERE o.action = 'status' AND {unknown} AND NOT {is_new('findings', 'finding_id')}"
    )
    merge.table("theirs_events", "key TEXT PRIMARY KEY")
    merge.run(
        f"INSERT OR IGNORE INTO temp.theirs_events SELECT {key} FROM other.finding_events AS o"
        f" WHERE {finding} IS NOT NULL AND NOT {is_new('findings', 'finding_id')}"
    )
    merge.table("kept", "finding INTEGER PRIMARY KEY")
    merge.run(
        "INSERT OR IGNORE INTO temp.kept SELECT e.finding_id FROM temp.m_findings AS p"
        " CROSS JOIN main.finding_events AS e ON e.finding_id = p.ours WHERE NOT p.new AND e.action = 'status'"
        f" AND {text_of(('e.finding_id', *(f'e.{c}' for c in EVENT)))} NOT IN (SELECT key FROM temp.theirs_events)"
    )
    pairs = (
        "FROM temp.m_findings AS p JOIN main.findings AS m ON m.id = p.ours JOIN other.findings AS o ON o.id = p.theirs"
        " WHERE NOT p.new AND m.status <> o.status AND"
    )
    for number, title, mine, theirs in merge.run(
        f"SELECT m.id, m.title, m.status, o.status {pairs} m.id IN (SELECT finding FROM temp.moved)"
        " AND m.id IN (SELECT finding FROM temp.kept) ORDER BY m.id"
    ):
        merge.conflict("findings", f"{number} {title}", f"{mine} here and {theirs} there; {STAYS}")
    merge.run(
        f"UPDATE main.findings AS f SET status = t.status FROM (SELECT m.id, o.status {pairs}"
        " m.id IN (SELECT finding FROM temp.moved) AND m.id NOT IN (SELECT finding FROM temp.kept)) AS t"
        " WHERE t.id = f.id"
    )
    merge.copy(
        "finding_events",
        {"id": "NULL", "finding_id": finding, "scan_id": ours("scans", "scan_id")},
        where=f"{unknown} AND (o.action <> 'status' OR {finding} NOT IN (SELECT finding FROM temp.kept)) ORDER BY o.id",
    )


def _suppressions(merge: Merge) -> None:
    lineage, finding = ours("lineages", "lineage_id"), ours("findings", "finding_id")
    merge.map("suppressions")
    said = ("tool", "rule_id", "path_pattern", "justification", "by", "created_at")
    merge.match(
        "suppressions",
        {"lineage_id": lineage, "finding_id": finding, **{column: f"o.{column}" for column in said}},
        several=True,
    )
    merge.add(
        "suppressions",
        {"lineage_id": lineage, "finding_id": finding},
        where=f"{lineage} IS NOT NULL AND (o.finding_id IS NULL OR {finding} IS NOT NULL)",
    )
    merge.compare("suppressions", "o.justification", but=("lineage_id", "finding_id"))
