"""Tracking: match the findings of a scan with known ones, and record the state of each.

The findings of a scan are matched with the findings of its target that are not matched yet; each then has one sighting
in that scan. Its state depends on the previous sighting: without one it is ``new``, after a fixed one ``reopened``,
with other content ``updated``. A known finding that was not reported is ``fixed`` only if the scan checked for it;
otherwise it gets no sighting and is *not checked*. Decisions of people are never changed, with one exception: a finding
that was marked as fixed is reopened when it is reported again.

All functions work inside the caller's transaction and on many rows at once. Change here: the order in which candidates
are tried. The traits are in :mod:`scanstore.findings.identity`, the coverage in :mod:`scanstore.findings.coverage`, the
comparison of contents in :mod:`scanstore.findings.content`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from scanstore.db.database import Database
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import NotFound
from scanstore.findings.content import gist, pack, packed, unpacked
from scanstore.findings.coverage import Coverage, apart, categories
from scanstore.findings.identity import Traits, match

BY = "scanstore"  #: the author of changes that no person made
BATCH = 500  #: findings whose content is in memory at once


class Incoming(NamedTuple):
    """A finding as a scan reports it. Lines and columns count from 1, ``confidence`` is per cent.

    ``detail`` has the other values of the tool, as JSON or packed. ``more`` holds further columns of Finding that this
    tool sets; other columns keep their values.
    """

    tool: str
    rule_id: str
    title: str
    message: str
    vulnerability_type: str
    severity: str
    file_path: str
    traits: Traits
    line_number: int | None = None
    end_line: int | None = None
    start_column: int | None = None
    end_column: int | None = None
    snippet: str = ""
    cwe: str | None = None
    confidence: int | None = None
    symbol: str | None = None
    detail: Mapping[str, object] | bytes | None = None
    verified_id: int | None = None
    more: Mapping[str, object] = {}


class SightingCounts(NamedTuple):
    """The number of findings by state: those that a scan reported, those that are fixed, and those that were not
    checked.
    """

    new: int = 0
    unchanged: int = 0
    updated: int = 0
    reopened: int = 0
    fixed: int = 0
    not_checked: int = 0


class Closed(NamedTuple):
    """The number of findings that were not reported: those that were checked for, and those that were not."""

    fixed: int
    not_checked: int


PLACE = ("file_path", "line_number", "end_line", "start_column", "end_column")
SAID = ("title", "message", "vulnerability_type", "severity", "snippet", "cwe", "confidence", "detail")
TEXTS = (
    "vulnerability_details", "proof_of_concept", "remediation_steps", "references", "cvss_score", "cvss_vector",
)  # fmt: skip
NO_TEXTS = {**dict.fromkeys(TEXTS[:4], ""), "cvss_score": None, "cvss_vector": None}
CONTENT = (*SAID, *TEXTS)  #: columns whose old values the sightings keep
TRAITS = ("symbol", "line_hash", "context_hash", "message_key", "fingerprints")


def _names(columns: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def _sets(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}" = ?' for column in columns)


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({_names(columns)}) VALUES ({', '.join('?' * len(columns))})"


# A finding's state before this scan, from its latest sighting, by one index look-up each.
BEFORE = "(SELECT max(scan_id) FROM sightings WHERE finding_id = f.id AND scan_id < :scan)"
LAST_RUN = """(SELECT run_id FROM sightings WHERE finding_id = f.id AND scan_id < :scan AND run_id IS NOT NULL
                ORDER BY scan_id DESC LIMIT 1)"""
CANDIDATES = f"""
SELECT f.id, f.rule_id, f.file_path, f.symbol, f.line_number, f.line_hash, f.context_hash, f.message_key,
       f.fingerprints, g.file_hash, p.state IS 'fixed', iif(p.state = 'fixed', {LAST_RUN}, p.run_id)
  FROM findings AS f INDEXED BY ix_findings_lineage_id_tool_rule_id
  LEFT JOIN sightings AS p ON p.finding_id = f.id AND p.scan_id = {BEFORE}
  LEFT JOIN scan_files AS g ON g.scan_id = f.scan_id AND g.file_path = f.file_path
 WHERE f.lineage_id = :lineage AND f.tool = :tool AND (:rule IS NULL OR f.rule_id = :rule)
   AND NOT EXISTS (SELECT 1 FROM sightings AS s
                    WHERE s.scan_id = :scan AND s.finding_id = f.id AND s.state <> 'fixed')
 ORDER BY f.id
"""
# The findings of this scan in earlier reports.
REPEATED = f"""
SELECT f.id, s.run_id, f.rule_id, f.line_hash, f.message_key, f.fingerprints, {_names(PLACE, "s.")}
  FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id
 WHERE s.scan_id = ? AND s.run_id < ? AND s.state <> 'fixed' AND f.tool = ? ORDER BY f.id
"""
STANDING = f"""
SELECT f.id, f.status, own.state, own.content_id, p.state, p.content_id, c.body,
       EXISTS (SELECT 1 FROM sightings WHERE finding_id = f.id AND scan_id > :scan),
       EXISTS (SELECT 1 FROM sightings WHERE finding_id = f.id AND scan_id <> :scan AND content_id IS NULL),
       {_names(CONTENT, "f.")}, {_names((*PLACE, *TRAITS), "f.")}
  FROM json_each(:ids) AS i CROSS JOIN findings AS f ON f.id = i.value
  LEFT JOIN sightings AS own ON own.scan_id = :scan AND own.finding_id = f.id
  LEFT JOIN sightings AS p ON p.finding_id = f.id AND p.scan_id = {BEFORE}
  LEFT JOIN finding_contents AS c ON c.id = p.content_id
"""
ADDED = (
    "id", "lineage_id", "scan_id", "first_scan_id", "verified_id", "tool", "rule_id", "created_at", "updated_at",
    *PLACE, *TRAITS, *SAID,
)  # fmt: skip
ADD = _insert("findings", ADDED)
ADD_TEXTS = _insert("findings", (*ADDED, *TEXTS))  #: the same with the texts
# An unknown line text does not contradict a known one.
SEEN = f"""
UPDATE findings SET scan_id = ?, verified_id = coalesce(?, verified_id), {_sets(PLACE)}, symbol = coalesce(?, symbol),
       line_hash = coalesce(?, line_hash), context_hash = iif(? IS NULL, context_hash, ?), message_key = ?,
       fingerprints = ?, updated_at = ? WHERE id = ?
"""
CHANGE = f"UPDATE findings SET {_sets(CONTENT)} WHERE id = ?"
KEEP = "INSERT INTO finding_contents (id, finding_id, body) VALUES (?, ?, ?)"
POINT = "UPDATE sightings SET content_id = ? WHERE finding_id = ? AND scan_id <> ? AND content_id IS NULL"
SIGHTED = ("scan_id", "finding_id", "run_id", "verified_id", "state", "content_id", *PLACE)
SIGHT_NEW = f"""
INSERT INTO sightings ({_names(SIGHTED)})
SELECT scan_id, id, ?, verified_id, 'new', NULL, {_names(PLACE)} FROM findings WHERE id >= ? ORDER BY id
"""
SIGHT = (
    _insert("sightings", SIGHTED)
    + " ON CONFLICT (scan_id, finding_id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in SIGHTED[2:])
)
# The same for unchanged findings.
SAME = "UPDATE findings SET scan_id = ?, updated_at = ? WHERE id IN (SELECT value FROM json_each(?))"
SIGHT_SAME = f"""
INSERT INTO sightings ({_names(SIGHTED)})
SELECT f.scan_id, f.id, ?, NULL, 'unchanged', NULL, {_names(PLACE)}
  FROM json_each(?) AS i CROSS JOIN findings AS f ON f.id = i.value
"""
STATUS = "UPDATE findings SET status = ?, updated_at = ? WHERE id = ?"
EVENT = """
INSERT INTO finding_events (finding_id, scan_id, action, by, from_status, to_status, note)
VALUES (?, ?, 'status', 'scanstore', ?, ?, ?)
"""
SINCE = "UPDATE findings SET first_scan_id = ? WHERE id = ? AND (first_scan_id IS NULL OR first_scan_id > ?)"
# If a later scan has a sighting of the finding, that sighting's predecessor has changed.
NEXT = """
UPDATE sightings SET state = iif(?3 = 'fixed', 'reopened', 'unchanged')
 WHERE finding_id = ?1 AND state <> 'fixed'
   AND scan_id = (SELECT min(scan_id) FROM sightings WHERE finding_id = ?1 AND scan_id > ?2)
   AND (?3 = 'fixed' OR state IN ('new', 'reopened'))
"""
CHANGED_HERE = """
SELECT e.from_status, e.to_status FROM finding_events AS e
 WHERE e.finding_id = ?1 AND e.action = 'status' AND e.by = 'scanstore' AND e.scan_id = ?2
   AND e.id = (SELECT max(id) FROM finding_events WHERE finding_id = ?1 AND action = 'status')
"""


def record(
    db: Database,
    scan_id: int,
    incoming: Sequence[Incoming],
    *,
    run_id: int | None = None,
    renamed: Mapping[str, str] | None = None,
) -> SightingCounts:
    """Write the findings of a scan; see :func:`record_runs`. ``run_id`` is their report, if there is one."""
    return record_runs(db, scan_id, [(run_id, incoming)], renamed=renamed)


def record_runs(
    db: Database,
    scan_id: int,
    runs: Sequence[tuple[int | None, Sequence[Incoming]]],
    *,
    renamed: Mapping[str, str] | None = None,
    told: Callable[[int], object] | None = None,
) -> SightingCounts:
    """Write the findings of all runs of a scan, and return their number by state. Inside a transaction.

    Each is matched, one to one, with the findings of its tool and category that have no sighting in this scan yet;
    fixed findings are tried last. An identical result of an earlier report of the same scan is the same finding.
    ``renamed`` maps old paths to new ones (a path mapped to itself was not renamed); by default renames are derived
    from the scan's files. Without a run, results that are recorded again count as additional findings. ``told`` is
    called after each run with the number of its results.
    """
    lineage = _lineage(db, scan_id)
    incoming = [one for _, found in runs for one in found]
    of = [run_id for run_id, found in runs for _ in found]
    known: list[int | None] = [None] * len(incoming)
    for tool in sorted({one.tool for one in incoming}):
        news = [n for n, one in enumerate(incoming) if one.tool == tool]
        found = candidates(db, scan_id, lineage, tool)
        moves = renamed if renamed is not None else _stayed(db, scan_id, (one.traits.path for one in found))
        own = {of[n] for n in news}
        series = categories(db, own.union(one.run_id for one in found))
        _repeat(db, scan_id, tool, incoming, {n: of[n] for n in news}, known)
        # One category at a time; runs without a category last.
        for category in sorted({series[run_id] for run_id in own}, reverse=True):
            for back in (False, True):
                left = [n for n in news if known[n] is None and series[of[n]] == category]
                olds = [one for one in found if one.fixed is back and not apart(category, series[one.run_id])]
                if not olds or not left:
                    continue
                matched = match([one.traits for one in olds], [incoming[n].traits for n in left], renamed=moves)
                for pair in matched.pairs:
                    known[left[pair.new]] = olds[pair.old].key
            taken = set(known)
            found = [one for one in found if one.key not in taken]
    states: Counter[str] = Counter()
    start = 0
    for run_id, said in runs:
        states.update(_see(db, scan_id, lineage, known[start : start + len(said)], said, run_id))
        start += len(said)
        if told is not None:
            told(len(said))
    return SightingCounts(*(states[name] for name in SightingCounts._fields[:4]))


def _repeat(
    db: Database,
    scan_id: int,
    tool: str,
    incoming: Sequence[Incoming],
    of: Mapping[int, int | None],
    known: list[int | None],
) -> None:
    """Find the results that earlier reports of this scan already contain, as often as they contain them. ``of`` is the
    run of each index.
    """
    first = min((run_id for run_id in of.values() if run_id is not None), default=0)
    rows = db.execute_sql(REPEATED, (scan_id, first, tool)).fetchall()
    if not rows:
        return
    series = categories(db, {row[1] for row in rows}.union(of.values()))
    before: dict[tuple[object, ...], list[int]] = {}
    for key, run_id, *said in reversed(rows):
        before.setdefault((series[run_id], *said), []).append(key)
    for n, run_id in of.items():
        one, traits = incoming[n], incoming[n].traits
        agreed = series[run_id], one.rule_id, traits.line_hash, traits.message_key, _fingerprints(traits.fingerprints)
        keys = before.get((*agreed, *_place(one)))
        if keys:
            known[n] = keys.pop()


def publish(db: Database, scan_id: int, one: Incoming, *, others: Sequence[Traits] = ()) -> int:
    """Write one finding of an analysis and return its id. The same ``verified_id`` gives the same finding.

    Findings are published one by one, so the others of the scan are not known yet. A known finding that matches one of
    the ``others`` better, which may still be published, is left to it. A known finding in another file is matched only
    if that file was removed or has changed. Inside a transaction.
    """
    lineage = _lineage(db, scan_id)
    own = db.execute_sql("SELECT finding_id FROM sightings WHERE verified_id = ?", (one.verified_id,)).fetchall()
    known: int | None = own[0][0] if own else None
    if known is None:
        found = candidates(db, scan_id, lineage, one.tool, one.rule_id)
        here = _files(db, scan_id, (each.traits.path for each in found))
        stayed = {path: path for path in here}
        for back in (False, True):
            olds = [
                each
                for each in found
                if each.fixed is back
                and (
                    each.traits.path == one.file_path or here.get(each.traits.path or "", b"") != each.traits.file_hash
                )
            ]
            pairs = match([each.traits for each in olds], [one.traits, *others], renamed=stayed).pairs
            known = next((olds[pair.old].key for pair in pairs if pair.new == 0), None)
            if known is not None:
                break
    keys = [known]
    _see(db, scan_id, lineage, keys, [one], None)
    assert keys[0] is not None
    return keys[0]


def close(db: Database, scan_id: int, *, tool: str) -> Closed:
    """Set the state of a tool's findings that this scan did not report: fixed or not checked. In a transaction.

    Can be repeated after more results were recorded; the outcome is the same as of one call at the end. A fixed finding
    with the status open or confirmed gets the status ``fixed``, with an event.
    """
    lineage = _lineage(db, scan_id)
    rows = db.execute_sql(UNSEEN, {"scan": scan_id, "lineage": lineage, "tool": tool}).fetchall()
    if not rows:
        return Closed(0, 0)
    coverage = Coverage(db, scan_id, tool, {row[2] for row in rows})
    series = categories(db, {row[6] for row in rows})
    gone = [row for row in rows if coverage.covers(row[1], row[2], series[row[6]], row[6])]
    closed = {row[0] for row in gone}
    back = [(row[0],) for row in rows if row[4] and row[0] not in closed]
    now = format_time(utcnow())
    if back:
        db.executemany(f"DELETE FROM sightings WHERE scan_id = {int(scan_id)} AND finding_id = ?", back)
        again = {row[0] for row in rows if row[3] == "fixed"} & {key for (key,) in back}
        set_status(db, scan_id, _reverted(db, scan_id, again), now, "not looked for")
        _follow(db, scan_id, [(key, "unchanged") for (key,) in back])
    fresh = [row for row in gone if not row[4]]
    db.executemany(GONE, [(scan_id, row[0]) for row in fresh])
    moves = [(row[0], row[3], "fixed") for row in fresh if row[3] in ("open", "confirmed") and not row[5]]
    set_status(db, scan_id, moves, now, "not seen any more")
    _follow(db, scan_id, [(row[0], "fixed") for row in fresh])
    return Closed(len(gone), len(rows) - len(gone))


# Existing findings of a tool that this scan has not reported.
UNSEEN = f"""
SELECT f.id, f.rule_id, p.file_path, f.status, own.state IS NOT NULL,
       EXISTS (SELECT 1 FROM sightings WHERE finding_id = f.id AND scan_id > :scan), p.run_id
  FROM findings AS f INDEXED BY ix_findings_lineage_id_tool_rule_id
  JOIN sightings AS p ON p.finding_id = f.id AND p.scan_id = {BEFORE}
  LEFT JOIN sightings AS own ON own.scan_id = :scan AND own.finding_id = f.id
 WHERE f.lineage_id = :lineage AND f.tool = :tool AND p.state <> 'fixed'
   AND (own.state IS NULL OR own.state = 'fixed')
 ORDER BY f.id
"""
# With its last location and content.
GONE = f"""
INSERT INTO sightings (scan_id, finding_id, state, content_id, {_names(PLACE)})
SELECT ?1, finding_id, 'fixed', content_id, {_names(PLACE)} FROM sightings
 WHERE finding_id = ?2 AND scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = ?2 AND scan_id < ?1)
"""


class KnownFinding(NamedTuple):
    """A finding that this scan has not reported; ``run_id`` is the last report with it."""

    key: int
    traits: Traits
    fixed: bool
    run_id: int | None


def candidates(db: Database, scan_id: int, lineage: int, tool: str, rule: str | None = None) -> list[KnownFinding]:
    """Return the findings of a tool (and rule) that this scan has not reported, with their earlier values."""
    rows = db.execute_sql(CANDIDATES, {"scan": scan_id, "lineage": lineage, "tool": tool, "rule": rule})
    return [
        KnownFinding(
            key,
            Traits(
                tool, rule_id, path or None, symbol, line, line_hash, context_hash, message,
                json.loads(fingerprints) if fingerprints != "{}" else {}, file_hash,
            ),
            bool(fixed),
            run_id,
        )
        for key, rule_id, path, symbol, line, line_hash, context_hash, message, fingerprints, file_hash, fixed, run_id
        in rows
    ]  # fmt: skip


def _see(
    db: Database,
    scan_id: int,
    lineage: int,
    known: list[int | None],
    incoming: Sequence[Incoming],
    run_id: int | None,
) -> list[str]:
    """Write findings and sightings, and return their states. Adds the ids of new findings to ``known``."""
    now = format_time(utcnow())
    fresh = [n for n, key in enumerate(known) if key is None]
    free = _next_id(db, "findings") if fresh else 0
    for key, n in enumerate(fresh, free):
        known[n] = key
    db.executemany(ADD, (_added(known[n], lineage, scan_id, incoming[n], now) for n in fresh if not incoming[n].more))
    texts = [n for n in fresh if incoming[n].more]
    db.executemany(ADD_TEXTS, (_added(known[n], lineage, scan_id, incoming[n], now) for n in texts))
    if fresh:
        db.execute_sql(SIGHT_NEW, (run_id, free)).fetchall()
    states = ["new"] * len(incoming)
    new = set(fresh)
    places = {key: n for n, key in enumerate(known) if key is not None and n not in new}
    seen = sorted(places)
    for start in range(0, len(seen), BATCH):
        _see_again(
            db, scan_id, {key: places[key] for key in seen[start : start + BATCH]}, incoming, run_id, states, now
        )
    return states


def _see_again(
    db: Database,
    scan_id: int,
    batch: Mapping[int, int],
    incoming: Sequence[Incoming],
    run_id: int | None,
    states: list[str],
    now: str,
) -> None:
    """The same for existing findings, given by id and index."""
    rows = db.execute_sql(STANDING, {"scan": scan_id, "ids": dump_json(list(batch))}).fetchall()
    kept: list[tuple[int, int, bytes]] = []
    points, changes, sightings, seen, back, late, same = [], [], [], [], [], [], []
    free = _next_id(db, "finding_contents")
    for key, status, own, own_content, before, before_content, body, later, shared, *columns in rows:
        one = incoming[batch[key]]
        if (
            (own, before_content, body, later) == (None, None, None, 0)
            and before not in (None, "fixed")
            and status != "fixed"
            and _is_same(columns, one)
        ):
            states[batch[key]] = "unchanged"
            same.append(key)
            continue
        was = dict(zip(CONTENT, columns, strict=False))
        said = {**was, **_said(one)}
        base = was if before_content is None else unpacked(body)
        state = (
            "new" if before is None
            else "reopened" if before == "fixed" or own == "reopened" or (status == "fixed" and own is None)
            else "updated" if said != base and gist(said) != gist(base)
            else "unchanged"
        )  # fmt: skip
        states[batch[key]] = state
        content = None
        if later:
            late.append((key, state))
            if said != was:
                content = before_content if before_content is not None and said == base else own_content
                if content is None or said != base:
                    content = free + len(kept)
                    kept.append((content, key, packed(said)))
        else:
            if said != was:
                changes.append((*said.values(), key))
                if shared:
                    kept.append((free + len(kept), key, packed(was)))
                    points.append((kept[-1][0], key, scan_id))
            if status == "fixed" and own in (None, "fixed"):
                back.append(key)
            symbol, line_hash, *rest = _traits(one)
            seen.append((scan_id, one.verified_id, *_place(one), symbol, line_hash, line_hash, *rest, now, key))
        sightings.append(_sighting(scan_id, key, run_id, state, content, one))
    if back:
        here = _reverted(db, scan_id, back)
        reverted = {key for key, _, _ in here}
        set_status(db, scan_id, here, now, "seen after all")
        set_status(db, scan_id, [(key, "fixed", "open") for key in back if key not in reverted], now, "seen again")
    db.executemany(KEEP, kept)
    db.executemany(POINT, points)
    db.executemany(CHANGE, changes)
    db.executemany(SEEN, seen)
    db.executemany(SIGHT, sightings)
    if same:
        keys = dump_json(same)
        db.execute_sql(SAME, (scan_id, now, keys)).fetchall()
        db.execute_sql(SIGHT_SAME, (run_id, keys)).fetchall()
    _follow(db, scan_id, late)
    if late:
        db.executemany(SINCE, [(scan_id, key, scan_id) for key, _ in late])


def _follow(db: Database, scan_id: int, states: Sequence[tuple[int, str]]) -> None:
    """Update the sightings of later scans after new ones of this scan. There are rarely any."""
    if states and db.execute_sql(LATER, (scan_id,)).fetchone()[0]:
        db.executemany(NEXT, [(key, scan_id, state) for key, state in states])


LATER = """
SELECT EXISTS (SELECT 1 FROM scans AS a JOIN scans AS b ON b.lineage_id = a.lineage_id AND b.id > a.id WHERE a.id = ?)
"""


def _reverted(db: Database, scan_id: int, keys: Iterable[int]) -> list[tuple[int, str, str]]:
    """Return the findings that this scan marked as fixed, with their earlier status."""
    found = ((key, db.execute_sql(CHANGED_HERE, (key, scan_id)).fetchall()) for key in sorted(keys))
    return [(key, "fixed", rows[0][0]) for key, rows in found if rows and rows[0][1] == "fixed"]


def set_status(db: Database, scan_id: int | None, moves: Sequence[tuple[int, str, str]], now: str, note: str) -> None:
    """Change statuses, each ``(finding, from, to)``, and record the events."""
    if moves:
        db.executemany(STATUS, [(to, now, key) for key, _, to in moves])
        db.executemany(EVENT, [(key, scan_id, was, to, note) for key, was, to in moves])


# Values


def _said(one: Incoming) -> dict[str, object]:
    return {
        "title": one.title, "message": one.message, "vulnerability_type": one.vulnerability_type,
        "severity": one.severity, "snippet": one.snippet, "cwe": one.cwe, "confidence": one.confidence,
        "detail": one.detail if isinstance(one.detail, bytes) else pack(one.detail) if one.detail else None, **one.more,
    }  # fmt: skip


def _place(one: Incoming) -> tuple[object, ...]:
    return one.file_path, one.line_number, one.end_line, one.start_column, one.end_column


def _traits(one: Incoming) -> tuple[object, ...]:
    _, _, _, around, _, line_hash, context_hash, message, fingerprints, _ = one.traits
    return one.symbol or around, line_hash, context_hash, message, _fingerprints(fingerprints)


def _is_same(columns: Sequence[object], one: Incoming) -> bool:
    """Whether a report repeats exactly a finding's CONTENT, PLACE and TRAITS."""
    if one.more or one.verified_id is not None or not (one.detail is None or isinstance(one.detail, bytes)):
        return False
    said = (one.title, one.message, one.vulnerability_type, one.severity, one.snippet, one.cwe, one.confidence)
    return columns[: len(SAID)] == [*said, one.detail] and columns[len(CONTENT) :] == [*_place(one), *_traits(one)]


def _fingerprints(known: Mapping[str, str]) -> str:
    # Join JSON texts: encoding a small object takes three times as long.
    return "{" + ",".join([f"{dump_json(name)}:{dump_json(value)}" for name, value in known.items()]) + "}"


def _sighting(
    scan_id: int, key: int | None, run_id: int | None, state: str, content: int | None, one: Incoming
) -> tuple[object, ...]:
    return scan_id, key, run_id, one.verified_id, state, content, *_place(one)


def _added(key: int | None, lineage: int, scan_id: int, one: Incoming, now: str) -> tuple[object, ...]:
    """Return the values of ADD or, with texts, of ADD_TEXTS."""
    # Unpacked at once: access by attribute would take half of the time that new findings take in Python.
    tool, rule, title, message, kind, severity, path, _, line, end, start_column, end_column, snippet, *rest = one
    cwe, confidence, _, detail, verified_id, more = rest
    if detail is not None and not isinstance(detail, bytes):
        detail = pack(detail) if detail else None
    values = (
        key, lineage, scan_id, scan_id, verified_id, tool, rule, now, now,
        path, line, end, start_column, end_column, *_traits(one),
    )  # fmt: skip
    if more:
        content = {**NO_TEXTS, **_said(one)}
        return *values, *(content[column] for column in CONTENT)
    return *values, title, message, kind, severity, snippet, cwe, confidence, detail


def _next_id(db: Database, table: str) -> int:
    """Return the next id of the table. No other process writes during this transaction."""
    top: int = db.execute_sql(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
    given = db.execute_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return max(top, given[0] if given else 0) + 1


def _lineage(db: Database, scan_id: int) -> int:
    row = db.execute_sql("SELECT lineage_id FROM scans WHERE id = ?", (scan_id,)).fetchone()
    if row is None:
        raise NotFound(f"no scan {scan_id}; store.scans.list() (scanstore scans list) shows the known ones")
    return int(row[0])


def _files(db: Database, scan_id: int, paths: Iterable[str | None]) -> dict[str, bytes | None]:
    """Return the paths that are files of a scan, with their hashes."""
    return dict(
        db.execute_sql(
            "SELECT g.file_path, g.file_hash FROM json_each(?) AS i"
            " CROSS JOIN scan_files AS g ON g.scan_id = ? AND g.file_path = i.value",
            (dump_json(sorted({path for path in paths if path})), scan_id),
        ).fetchall()
    )


def _stayed(db: Database, scan_id: int, paths: Iterable[str | None]) -> dict[str, str]:
    return {path: path for path in _files(db, scan_id, paths)}
