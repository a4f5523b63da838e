"""Reports: the findings of a scan, the changes since an earlier one and the decisions of people, in a chosen format.

A report shows the state of the whole target after the scan: a finding that the scan did not check for keeps the state
of the last scan that did. Each finding has the values of that sighting, and the current decisions. This module collects
the content with a constant number of statements; the other modules of this package format it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from scanstore.db.database import Database
from scanstore.db.state_machine import SEVERITIES
from scanstore.db.values import dump_json, format_time, utcnow
from scanstore.errors import InvalidArgument, shown
from scanstore.findings.content import content_of, unpack
from scanstore.findings.findings import LOOKS, Findings, pick
from scanstore.findings.listing import BETWEEN, Change
from scanstore.findings.looks import LoadedRun, Looks
from scanstore.findings.models import Suppression
from scanstore.report.document import UNDECIDED, Event, FlowStep, Item, Point, Report, RunInfo, ScanInfo, Silenced
from scanstore.sarif.mapping import shifted
from scanstore.snapshots.models import Scan
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.db.words import ReportFormat

FORMATS: tuple[ReportFormat, ...] = ("text", "json", "csv", "markdown", "html")


def render(
    db: Database,
    scan: Scan | int | None = None,
    format: str = "text",
    baseline: Scan | int | None = None,
    *,
    target: str | None = None,
) -> Iterator[str]:
    """Write a report piece by piece. Takes the arguments of :func:`gather`.

    ``format`` is one of ``FORMATS``. HTML is one self-contained page. Everything is read before the first piece is
    returned, so the store may be changed or closed meanwhile. Raises InvalidArgument and NotFound immediately.
    """
    write = writer(format)
    return write(gather(db, scan, baseline, target=target))


def writer(format: str) -> Callable[[Report], Iterator[str]]:
    """Return the function that writes a report in a format. Raises InvalidArgument for an unknown format."""
    name = format.strip().lower() if isinstance(format, str) else format
    if name not in FORMATS:
        raise InvalidArgument(f"format is {shown(format)}; it must be one of: {', '.join(FORMATS)}")
    if name == "html":
        from scanstore.report import html  # start-up: one format is asked for

        return html.html
    if name in ("json", "csv"):
        from scanstore.report import tabular  # start-up: one format is asked for

        return tabular.as_json if name == "json" else tabular.as_csv
    from scanstore.report import text  # start-up: one format is asked for

    return text.text if name == "text" else text.markdown


def gather(
    db: Database,
    scan: Scan | int | None = None,
    baseline: Scan | int | None = None,
    *,
    target: str | None = None,
    only: bool = False,
) -> Report:
    """Read the content of a report on a target after a scan, from one snapshot of the store.

    ``scan`` is by default the latest scan of ``target`` in which a tool ran, or else the latest. The target can be
    omitted if the store has only one. ``baseline`` is an earlier scan of the same target, by default the latest before
    the last run of its tools. With ``only``, findings of other scans are left out. Raises NotFound if there is no such
    scan, Ambiguous, InvalidArgument for a baseline that is later or of another target.
    """
    with db.bound(), db.atomic("DEFERRED"):
        row = pick(db, scan, target)
        before = _before(db, row, baseline)
        now = format_time(utcnow())
        items = _items(db, row, before)
        beside = [item for item in items if only and item.change != "fixed" and item.last_scan != row.id]
        if only:
            items = [item for item in items if item.closing_scan == row.id or item.last_scan == row.id]
        looks = Looks(db, row.lineage_id, row.id)
        one = row.id if only else None
        return Report(
            target=row.target,
            scan=_info(row),
            baseline=None if before is None else _info(before),
            made_at=now,
            tools=_tools(db, row),
            items=items,
            runs=[_run(each) for each in looks.runs(one)],
            troubles=looks.troubles(one),
            beside=len(beside),
            trend=_trend(db, row, [item.id for item in items if item.change != "fixed" and not item.counts]),
        )


# Which scans


def _before(db: Database, scan: Scan, baseline: Scan | int | None) -> Scan | None:
    if baseline is None:
        return Findings(db).baseline(scan)
    before = Scans(db).get(baseline)
    if before.lineage_id != scan.lineage_id:
        raise InvalidArgument(
            f"the baseline, scan {before.id}, is of {before.target!r} and scan {scan.id} of {scan.target!r};"
            " compare scans of one target"
        )
    if before.id >= scan.id:
        raise InvalidArgument(f"the baseline, scan {before.id}, is not before scan {scan.id}; give an earlier scan")
    return before


def _info(scan: Scan) -> ScanInfo:
    at = next(time for time in (scan.analyzed_at, scan.completed_at, scan.started_at, scan.created_at) if time)
    return ScanInfo(scan.id, str(scan.name), str(scan.kind), str(scan.status), format_time(at))


def _run(run: LoadedRun) -> RunInfo:
    return RunInfo(
        run.scan, run.tool, run.version, run.category, run.loaded_at, run.repeats, run.repeated_at, run.troubles
    )


def _tools(db: Database, scan: Scan) -> list[str]:
    return [" ".join(filter(None, row)) for row in db.execute_sql(TOOLS, {"scan": scan.id}).fetchall()]


# Findings


def _items(db: Database, scan: Scan, baseline: Scan | None) -> list[Item]:
    run = db.execute_sql
    before = 0 if baseline is None else baseline.id
    ids = {"scan": scan.id, "baseline": before, "lineage": scan.lineage_id}
    change = Change(db, scan.lineage_id, before, scan.id)
    since = None if baseline is None else (before, _info(baseline).at)
    cursor = run(ITEMS, ids)
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    events: dict[int, list[tuple[int, Event]]] = {}
    for finding, by_scan, *columns in run(EVENTS, (scan.lineage_id,)).fetchall():
        events.setdefault(finding, []).append((by_scan or 0, Event(*columns)))
    hidden = Findings(db).suppressed([row["id"] for row in rows])
    for row in rows:
        row["counted"] = since is None or _counted(row, since, events.get(row["id"], []), hidden.get(row["id"]))
        row["events"] = _history(row, scan.id, events.get(row["id"], []))
    items = [_item(row, change, hidden.get(row["id"])) for row in rows]
    return sorted(
        items,
        key=lambda item: (SEVERITIES.index(item.severity), item.file_path, item.line_number or 0, item.title, item.id),
    )


def _history(row: dict[str, object], scan: int, events: list[tuple[int, Event]]) -> list[Event]:
    """Return the events without those of later scans. Their changes of the status are undone, unless a person decided
    after them.
    """
    for by_scan, event in reversed(events):
        if by_scan <= scan:
            break
        row["status"] = event.from_status or row["status"]
    return [event for by_scan, event in events if by_scan <= scan]


def _counted(
    row: dict[str, Any], since: tuple[int, str], events: list[tuple[int, Event]], hidden: Suppression | None
) -> bool:
    """Whether a finding counted as open at the baseline, by the decisions until then."""
    scan, at = since
    later = [event for by_scan, event in events if (by_scan > scan if by_scan else event.at >= at)]
    status = next((event.from_status for event in later if event.action == "status"), None)
    if (status or row["status"]) not in UNDECIDED:
        return False
    turn = next((event.action for event in later if event.action in ("suppress", "unsuppress")), None)
    if turn == "unsuppress":
        return False
    if hidden is None or hidden.expires_at is None or not hidden.expired:
        return True
    return not (format_time(hidden.expires_at) >= at and format_time(hidden.created_at) < at)


def _item(row: dict[str, Any], change: Change, hidden: Suppression | None) -> Item:
    detail = unpack(row["detail"])
    before: Any = row["severity"] if row["body_then"] is None else content_of(row["body_then"])["severity"]
    if row["body"] is not None:
        content = content_of(row["body"])
        detail = content.pop("detail")
        row.update(content)
    get = row.__getitem__
    became = change(*map(get, ("tool", "category", "was", "state", "seen_by", "updated", "next")))
    there = became != "fixed" and get("was") not in (None, "fixed")
    return Item(
        **{name: get(name) for name in SAME},
        change=became or "fixed",
        severity_before=before if there else None,
        counted_before=bool(there and get("counted")),
        closing_scan=get("seen_by") if get("state") == "fixed" else None,
        details=get("vulnerability_details"),
        attack_vector=get("attack_vector") or "",
        data_flow=get("data_flow") or "",
        remediation=get("remediation_steps"),
        flows=_flows(detail, row["file_path"], row["line_number"]),
        suppression=None if hidden is None else _silenced(hidden),
    )


def _silenced(hidden: Suppression) -> Silenced:
    scope = "this finding"
    if hidden.finding_id is None:
        rule = " ".join(filter(None, (hidden.tool, hidden.rule_id)))
        scope = f"rule {rule} in {hidden.path_pattern}" if hidden.path_pattern else f"rule {rule} everywhere"
    ends = None if hidden.expires_at is None else format_time(hidden.expires_at)
    return Silenced(hidden.id, scope, hidden.justification, hidden.by, ends, bool(hidden.expired))


def _flows(detail: object, path: str, line: int | None) -> list[list[FlowStep]]:
    """Return the code flows of a finding. Malformed parts are left out.

    Steps in the finding's own file are stored relative to its line.
    """
    detail = shifted(detail, path or None, line or 0, away=False)
    flows = (_list(flow, "threadFlows") for flow in _list(detail, "code_flows", "codeFlows"))
    found = ([_step(each) for each in _list(way, "locations")] for ways in flows for way in ways)
    return [steps for steps in found if steps]


def _step(each: object) -> FlowStep:
    place = _at(each, "location", "physicalLocation")
    line = _at(place, "region").get("startLine")
    uri = _at(place, "artifactLocation").get("uri")
    said = _at(each, "location", "message").get("text") or _at(place, "region", "snippet").get("text")
    return FlowStep(
        unquote(uri) if isinstance(uri, str) else "",
        line if isinstance(line, int) and not isinstance(line, bool) and line > 0 else None,
        said if isinstance(said, str) else "",
    )


def _at(value: object, *keys: str) -> dict[str, object]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _list(value: object, *keys: str) -> list[object]:
    found = next((value[key] for key in keys if key in value), None) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


# Trend


def _trend(db: Database, scan: Scan, hidden: list[int]) -> list[Point]:
    ids = {"scan": scan.id, "lineage": scan.lineage_id, "hidden": dump_json(hidden)}
    moves: dict[int, list[int]] = {scan.id: [0] * len(SEVERITIES)}
    times = {scan.id: _info(scan).at}
    for other, at in db.execute_sql(LOOKED, ids).fetchall():
        moves[other], times[other] = [0] * len(SEVERITIES), at
    for other, severity, more in db.execute_sql(MOVES, ids).fetchall():
        moves[other][SEVERITIES.index(severity)] = more
    order = sorted(moves)
    sums = accumulate((tuple(moves[other]) for other in order), lambda a, b: tuple(map(sum, zip(a, b, strict=True))))
    return [Point(other, times[other], counts) for other, counts in zip(order, sums, strict=True)]


# Statements

LOOKED = f"""
SELECT s.id, coalesce(s.analyzed_at, s.completed_at, s.started_at, s.created_at) FROM scans AS s
 WHERE s.lineage_id = :lineage AND s.id <= :scan AND {LOOKS}
"""
TOOLS = """
SELECT tool, tool_version FROM tool_runs WHERE scan_id = :scan
UNION SELECT 'scanstore', '' WHERE EXISTS (
    SELECT 1 FROM sightings AS g JOIN findings AS f ON f.id = g.finding_id
     WHERE g.scan_id = :scan AND f.tool = 'scanstore')
 ORDER BY 1, 2
"""
# A finding with its latest sighting until this scan and the latest until the baseline. Findings that were fixed before
# are omitted.
ITEMS = f"""
SELECT f.id, f.severity, f.status, f.title, f.message, f.tool, f.rule_id, f.vulnerability_type,
       n.file_path, n.line_number, n.end_line, n.start_column, f.symbol, f.snippet, f.cwe, f.confidence,
       f.cvss_score, f.cvss_vector, f.vulnerability_details, f.proof_of_concept, f.remediation_steps, f."references",
       f.detail, f.first_scan_id AS first_scan, n.state, n.scan_id AS seen_by, c.body,
       b.state AS was, p.body AS body_then, r.category, v.attack_vector, v.data_flow,
       {BETWEEN.format(a=":baseline", b=":scan")},
       CASE n.state WHEN 'fixed' THEN (SELECT max(g.scan_id) FROM sightings AS g
            WHERE g.finding_id = f.id AND g.scan_id < n.scan_id AND g.state <> 'fixed') ELSE n.scan_id END AS last_scan
  FROM findings AS f
  JOIN sightings AS n ON n.finding_id = f.id AND n.scan_id = (
       SELECT max(g.scan_id) FROM sightings AS g WHERE g.finding_id = f.id AND g.scan_id <= :scan)
  LEFT JOIN sightings AS b ON b.finding_id = f.id AND b.scan_id = (
       SELECT max(g.scan_id) FROM sightings AS g WHERE g.finding_id = f.id AND g.scan_id <= :baseline)
  LEFT JOIN finding_contents AS c ON c.id = n.content_id
  LEFT JOIN finding_contents AS p ON p.id = b.content_id
  LEFT JOIN tool_runs AS r ON r.id = n.run_id
  LEFT JOIN verified_findings AS v ON v.id = coalesce(n.verified_id, f.verified_id)
 WHERE f.lineage_id = :lineage AND (n.state <> 'fixed' OR coalesce(b.state, 'fixed') <> 'fixed')
"""
SAME = (
    "id", "severity", "status", "title", "message", "tool", "rule_id", "vulnerability_type", "file_path", "line_number",
    "end_line", "start_column", "symbol", "snippet", "cwe", "confidence", "cvss_score", "cvss_vector",
    "proof_of_concept", "references", "first_scan", "last_scan", "events",
)  # fmt: skip
EVENTS = """
SELECT e.finding_id, e.scan_id, e.created_at, nullif(e.by, ''), e.action, e.from_status, e.to_status, e.note
  FROM findings AS f JOIN finding_events AS e ON e.finding_id = f.id WHERE f.lineage_id = ? ORDER BY e.id
"""
# The change in the number of findings after each scan, by severity. Removed scans are ignored.
MOVES = """
SELECT scan_id, severity, sum(there - before) FROM (
    SELECT g.scan_id, f.severity, g.state <> 'fixed' AS there,
           lag(g.state <> 'fixed', 1, 0) OVER (PARTITION BY g.finding_id ORDER BY g.scan_id) AS before
      FROM findings AS f JOIN sightings AS g ON g.finding_id = f.id AND g.scan_id <= :scan
     WHERE f.lineage_id = :lineage AND f.status NOT IN ('false_positive', 'ignored')
       AND f.id NOT IN (SELECT value FROM json_each(:hidden)))
 WHERE there <> before GROUP BY scan_id, severity
"""
