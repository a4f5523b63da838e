"""Export: the findings of a scan as runs and results of SARIF.

Rows are streamed from the store to the writer, so memory does not grow with the report. A result has the values of its
scan, even if later scans changed them; decisions are the current ones.

Change here: the mapping from a finding to a result.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from scanstore.db import atomic_files
from scanstore.db.paths import stored_root
from scanstore.db.progress import Meter
from scanstore.db.state_machine import SEVERITIES, SIGHTINGS
from scanstore.db.values import dump_json
from scanstore.findings.content import Detail, content_of, finding_detail, run_detail
from scanstore.findings.coverage import apart
from scanstore.findings.findings import Findings
from scanstore.findings.listing import changes
from scanstore.findings.looks import OWN, Looks
from scanstore.sarif.format.line_hashes import line_hashes
from scanstore.sarif.format.vocabulary import SEVERITY_LEVELS, STATE, Artifact, Result, Rule
from scanstore.sarif.format.writer import OutRun, write
from scanstore.sarif.mapping import BY, justification, shifted, usual_level
from scanstore.sarif.sources import Sources, recorded
from scanstore.snapshots.git import provenance
from scanstore.snapshots.models import Scan
from scanstore.snapshots.scans import Scans
from scanstore.version import __version__

if TYPE_CHECKING:
    from scanstore.db.database import Database
    from scanstore.db.progress import ProgressCallback
    from scanstore.db.words import Severity
    from scanstore.sarif.format.writer import OutRun

STATES = {
    "new": "new", "reopened": "new", "unchanged": "unchanged", "updated": "updated", "fixed": "absent",
    "not_checked": "unchanged",
}  # fmt: skip
TOLD = ("reopened", "not_checked")  #: states without a SARIF value, which a property contains
SCORES = {"critical": 9.5, "high": 8.0, "medium": 5.5, "low": 2.0, "info": None}  # the scores that code hosts expect
DECIDED = {"false_positive": "false positive", "ignored": "ignored"}
PLACES: tuple[Literal["code_flows", "related", "locations"], ...] = ("code_flows", "related", "locations")
BATCH = 500  # rows

RUNS = """
SELECT id, tool, tool_version, rules, failed_files, detail, category, troubles FROM tool_runs
 WHERE scan_id = ? ORDER BY tool, id
"""
# Findings without a report: scanstore's own ones, and those that are missing from the reports.
LOOSE = """
SELECT DISTINCT f.tool FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id
 WHERE s.scan_id = ? AND s.run_id IS NULL ORDER BY 1
"""
RULES = """
SELECT f.rule_id, f.severity, f.cwe, count(*) FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id
 WHERE s.scan_id = ? AND s.run_id IS NULL AND f.tool = ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
COLUMNS = (
    "title", "message", "severity", "snippet", "cwe", "confidence", "vulnerability_details", "proof_of_concept",
    "remediation_steps", "references", "cvss_score", "cvss_vector", "detail",
)  # fmt: skip
COLUMNS_OF = """
f.id, f.rule_id, f.status, f.fingerprints, s.state, s.file_path, s.line_number, s.end_line, s.start_column,
       s.end_column, c.body, {}
""".format(", ".join(f'f."{name}"' for name in COLUMNS)).strip()
ORDER = "s.file_path, s.line_number, s.start_column, f.rule_id, f.message, s.end_line, s.end_column, f.id"
RESULTS = f"""
SELECT {COLUMNS_OF}
  FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id LEFT JOIN finding_contents AS c ON c.id = s.content_id
 WHERE s.scan_id = :scan AND (s.run_id IS :run OR (s.run_id IS NULL AND :loose)) AND f.tool = :tool
   AND s.state IN (SELECT value FROM json_each(:states))
 ORDER BY {ORDER}
"""
# Findings with the values of their latest sightings.
REST = f"""
SELECT {COLUMNS_OF}
  FROM json_each(:ids) AS i CROSS JOIN findings AS f ON f.id = i.value
  JOIN sightings AS s ON s.finding_id = f.id
        AND s.scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id AND scan_id <= :scan)
  LEFT JOIN finding_contents AS c ON c.id = s.content_id
 ORDER BY {ORDER}
"""
# The tool of findings, and the scan and category of their latest sighting.
SEEN_BY = """
SELECT f.id, f.tool, s.scan_id, coalesce(r.category, '')
  FROM json_each(:ids) AS i CROSS JOIN findings AS f ON f.id = i.value
  JOIN sightings AS s ON s.finding_id = f.id
        AND s.scan_id = (SELECT max(scan_id) FROM sightings WHERE finding_id = f.id AND scan_id <= :scan)
  LEFT JOIN tool_runs AS r ON r.id = s.run_id
 ORDER BY f.id
"""
ANY_DECIDED = """
SELECT EXISTS (SELECT 1 FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id
                WHERE s.scan_id = ? AND f.status IN ('false_positive', 'ignored'))
"""
NOTE = """
SELECT note FROM finding_events WHERE finding_id = ? AND to_status = ? AND note <> '' ORDER BY id DESC LIMIT 1
"""


class Dumped(NamedTuple):
    """The counts of written results of a scan, and of those that a host's limits left out (``writer.Left``)."""

    scan: int
    runs: int
    results: int
    left_out: int = 0
    locations: int = 0
    flow_locations: int = 0
    left_out_runs: int = 0
    hidden: int = 0
    bytes_over: int = 0


def dump(
    db: Database,
    scan: Scan,
    file: str | os.PathLike[str] | BinaryIO,
    states: Sequence[str],
    github: bool,
    *,
    whole: bool = False,
    progress: ProgressCallback | None = None,
) -> Dumped:
    """Write a scan, or the ``whole`` target after that scan; see ``Sarif.dump``."""
    if github:
        states = [state for state in states if state != "fixed"]
    meter = Meter(progress)
    dumping = (_DumpingTarget if whole else _Dumping)(db, scan, states, meter)
    if meter:
        meter.expect(dumping.count())
    with atomic_files.writing(file, mode=0o666, store=db.file) as stream:
        left = write(stream, dumping.runs(), github=github)
        meter.end()
    return Dumped(
        scan.id, dumping.written - left.runs, dumping.results - left.results,
        left.results, left.locations, left.flow_locations, left.runs, left.hidden, left.bytes_over,
    )  # fmt: skip


def _root(scan: Scan) -> str | None:
    return None if scan.root is None else stored_root(scan.root)


class _Dumping:
    """The export of one scan."""

    def __init__(self, db: Database, scan: Scan, states: Sequence[str], meter: Meter) -> None:
        self._db, self._meter = db, meter
        self._scan = scan
        self._wanted = frozenset(states)
        self._states = dump_json(list(states))
        self._sources = Sources(_root(scan), recorded(self._db, scan.id))
        self._hashes: dict[str, list[str]] = {}
        self._suppressed = self._decisions()
        self._any_told = bool(self._suppressed) or bool(self._db.execute_sql(ANY_DECIDED, (scan.id,)).fetchone()[0])
        self.written = self.results = 0

    def _decisions(self) -> dict[int, tuple[str | None, Mapping[str, object]]]:
        """Return the suppressions of findings, in the form of SARIF."""
        run = self._db.execute_sql
        if not run(
            "SELECT EXISTS (SELECT 1 FROM suppressions WHERE lineage_id = ?)", (self._scan.lineage_id,)
        ).fetchone()[0]:
            return {}
        ids = [key for (key,) in run("SELECT finding_id FROM sightings WHERE scan_id = ?", (self._scan.id,)).fetchall()]
        said: dict[int, tuple[str | None, Mapping[str, object]]] = {}
        for key, one in Findings(self._db).suppressed(ids).items():
            told: dict[str, object] = {"kind": "external", "status": "accepted", "justification": one.justification}
            if one.expires_at is not None:
                told["properties"] = {"expires": one.to_dict()["expires_at"]}
            # An expired suppression is written, but hides nothing.
            said[key] = (one.by, {**told, "status": "rejected"} if one.expired else told)
        return said

    def count(self) -> int:
        """Return the number of results."""
        sql = "SELECT count(*) FROM sightings WHERE scan_id = ? AND state IN (SELECT value FROM json_each(?))"
        return int(self._db.execute_sql(sql, (self._scan.id, self._states)).fetchone()[0])

    def runs(self) -> Iterator[OutRun]:
        """Yield the runs. Consume each before the next."""
        yield from self._runs(self._scan)

    def _runs(self, scan: Scan, only: Collection[tuple[str, str]] | None = None) -> Iterator[OutRun]:
        """Yield the runs of one scan, optionally only those of some tools and categories."""
        loose = {tool for (tool,) in self._db.execute_sql(LOOSE, (scan.id,)).fetchall()}
        if scan.active_since is not None:
            loose.add(OWN)
        if only is not None:
            loose &= {tool for tool, _ in only}
        checkout = provenance(_root(scan))
        for row in self._db.execute_sql(RUNS, (scan.id,)).fetchall():
            key, tool, version, rules, failed, detail, category, troubles = row
            if only is not None and (tool, category) not in only:
                continue
            said = run_detail(detail)
            properties = said.get("properties") or {}
            told = "versionControlProvenance" in properties
            described = [_rule(each) for each in _loaded(rules)]
            self.written += 1
            properties = _with_troubles(properties, said.get("successful"), _loaded(troubles))
            yield OutRun(
                tool=tool,
                results=self._results(scan, tool, key, tool in loose, described, category),
                version=version or None,
                rules=described,
                baselined=True,
                vcs=None if told else checkout,
                automation_id=said.get("automation_id"),
                successful=said.get("successful"),
                failed_files=_loaded(failed),
                artifacts=[Artifact(*each) for each in said.get("artifacts") or ()],
                properties=properties,
            )
            loose.discard(tool)
        for tool in sorted(loose):
            self.written += 1
            own = tool == OWN
            yield OutRun(
                tool=tool,
                results=self._results(scan, tool, None, True),
                version=__version__ if own else None,
                rules=self._rules(scan, tool),
                baselined=True,
                vcs=checkout,
                successful=scan.analyzed_at is not None if own else None,
            )

    def _rules(self, scan: Scan, tool: str) -> Iterator[Rule]:
        """Return the rules without a description, each with its highest severity, and its CWE if there is only one."""
        found: dict[str, tuple[set[Severity], set[str | None]]] = {}
        for rule_id, severity, cwe, _ in self._db.execute_sql(RULES, (scan.id, tool)).fetchall():
            severities, weaknesses = found.setdefault(rule_id, (set(), set()))
            severities.add(severity)
            weaknesses.add(cwe)
        for rule_id, (severities, weaknesses) in found.items():
            if rule_id:
                worst = min(severities, key=SEVERITIES.index)
                cwe = [one for one in weaknesses if one] if len(weaknesses) == 1 else []
                score = SCORES[worst]
                yield Rule(rule_id, level=SEVERITY_LEVELS[worst], security_severity=score, tags=("security",), cwe=cwe)

    def _results(
        self, scan: Scan, tool: str, run: int | None, loose: bool, described: Sequence[Rule] = (), category: str = ""
    ) -> Iterator[Result]:
        values = {"scan": scan.id, "run": run, "loose": loose, "tool": tool, "states": self._states}
        yield from self._told(RESULTS, values, described, own=tool == OWN and run is None)

    def _told(
        self, sql: str, values: Mapping[str, object], described: Sequence[Rule], *, own: bool
    ) -> Iterator[Result]:
        rules = {rule.id: rule for rule in described}
        cursor = self._db.execute_sql(sql, values)
        while rows := cursor.fetchmany(BATCH):
            for row in rows:
                state = self._state(row[0], row[4])
                if state in self._wanted:
                    self.results += 1
                    yield self._result(row, rules, state, own=own)
            self._meter.at(self.results)

    def _state(self, key: int, seen: str) -> str | None:
        """Return the state of a finding to write, from a sighting."""
        return seen

    def _result(self, row: Sequence[Any], rules: Mapping[str, Rule], state: str, *, own: bool) -> Result:
        key, rule_id, status, fingerprints, _, path, line, end, column, end_column, body, *columns = row
        said: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True))
        detail: Detail
        if body is not None:
            said = {**said, **content_of(body)}
            detail = said["detail"] or Detail()
        else:
            detail = finding_detail(said["detail"])
        severity = said["severity"]
        kind, partial = detail.get("kind", "fail"), detail.get("partial_fingerprints")
        places: dict[str, Any] = {
            name: shifted(detail[name], path or None, line or 0, away=False) for name in PLACES if name in detail
        }
        return Result(
            rule_id=rule_id or None,
            message=said["message"] or said["title"],
            severity=severity,
            level=detail.get("level") or (SEVERITY_LEVELS[severity] if own else usual_level(rules.get(rule_id), kind)),
            kind=kind,
            uri=path or None,
            start_line=line,
            start_column=column,
            end_line=end,
            end_column=end_column,
            snippet=said["snippet"] or None,
            fingerprints=detail.get("fingerprints") or {},
            partial_fingerprints=_loaded(fingerprints) if partial is None else partial,
            line_hash=self._line_hash(path, line),
            guid=detail.get("guid"),
            cwe=detail.get("cwe") or ([said["cwe"]] if said["cwe"] else []),
            suppressions=self._suppressions(key, status, detail.get("suppressions")),
            baseline_state=STATES[state],
            properties=_with_state(_with_texts(detail.get("properties") or {}, said), state),
            **places,
        )

    def _line_hash(self, path: str, line: int | None) -> str | None:
        source = self._sources.get(path) if path and line is not None else None
        if source is None or line is None:
            return None
        if path not in self._hashes:
            if len(self._hashes) > 16:
                self._hashes.clear()  # results are sorted by file
            self._hashes[path] = line_hashes(source.text)
        known = self._hashes[path]
        return known[line - 1] if line <= len(known) else None

    def _suppressions(
        self, key: int, status: str, told: Sequence[Mapping[str, object]] | None
    ) -> Sequence[Mapping[str, object]] | None:
        by, decision = self._suppressed.get(key, (None, None))
        if told and justification(told) is not None:
            if by == BY:
                return told
            told = []  # a person has lifted the suppression
        if decision is not None:
            return [decision]
        if status in DECIDED:
            note = self._db.execute_sql(NOTE, (key, status)).fetchall()
            reason = f"{DECIDED[status]}: {note[0][0]}" if note else DECIDED[status]
            return [{"kind": "external", "status": "accepted", "justification": reason}]
        return [] if told is None and self._any_told else told


def _loaded(text: str) -> Any:
    import json

    return {} if text == "{}" else json.loads(text)


def _rule(columns: Mapping[str, Any]) -> Rule:
    return Rule(**{name: value for name, value in columns.items() if name in Rule._fields})


class _DumpingTarget(_Dumping):
    """The export of a whole target: the latest run of each tool, with the findings that this run did not check for."""

    def __init__(self, db: Database, scan: Scan, states: Sequence[str], meter: Meter) -> None:
        super().__init__(db, scan, (*SIGHTINGS,), meter)
        self._wanted = frozenset(states)
        self._scans = Scans(db)
        self._current = Looks(self._db, scan.lineage_id, scan.id).current()
        before = Findings(db).baseline(scan)
        self._changes = changes(self._db, scan.lineage_id, 0 if before is None else before.id, scan.id)
        self._latest = {one: key for key, looked in self._current.items() for one in looked}
        # Findings that the latest run of their tool and category did not report, by tool and category, or '' for a
        # single category.
        self._rest: dict[str, list[int]] = {}
        values = {"ids": dump_json(sorted(self._changes)), "scan": scan.id}
        for key, tool, seen_by, category in self._db.execute_sql(SEEN_BY, values).fetchall():
            if not any(seen_by == at and name == tool and not apart(series, category)
                       for (name, series), at in self._latest.items()):  # fmt: skip
                self._rest.setdefault(tool, []).append(key)

    def count(self) -> int:
        return sum(state in self._wanted for state in self._changes.values())

    def runs(self) -> Iterator[OutRun]:
        """Yield the latest runs of all tools."""
        for key, looked in self._current.items():
            yield from self._runs(self._scans.get(key), looked)
        for tool in sorted(self._rest):  # no run is left for these findings
            self.written += 1
            yield OutRun(tool=tool, results=self._left(tool, ()), baselined=True)

    def _results(
        self, scan: Scan, tool: str, run: int | None, loose: bool, described: Sequence[Rule] = (), category: str = ""
    ) -> Iterator[Result]:
        yield from super()._results(scan, tool, run, loose, described, category)
        yield from self._left(tool, described)

    def _left(self, tool: str, described: Sequence[Rule]) -> Iterator[Result]:
        """Return the findings that the latest runs of a tool did not report. They are written once, in the first of
        these runs.
        """
        values = {"ids": dump_json(self._rest.pop(tool, [])), "scan": self._scan.id}
        return self._told(REST, values, described, own=tool == OWN)

    def _state(self, key: int, seen: str) -> str | None:
        return self._changes.get(key)


TEXTS = (*COLUMNS[5:12],)


def _with_state(properties: Mapping[str, object], state: str) -> Mapping[str, object]:
    """Return the properties of a result, with a state that SARIF does not define in its property bag."""
    if state not in TOLD:
        return properties
    bag: Any = properties.get("properties") or {}
    return {**properties, "properties": {**bag, STATE: state}}


def _with_troubles(
    properties: dict[str, object], successful: bool | None, troubles: Sequence[str]
) -> dict[str, object]:
    """Return the properties of a run, with the reasons for an incomplete result that the tool itself does not
    report.
    """
    if not troubles or successful is False:
        return properties
    known = properties.get("invocations")
    told = [{"level": "error", "message": {"text": trouble}} for trouble in troubles]
    ours = {"executionSuccessful": False, "toolExecutionNotifications": told}
    return {**properties, "invocations": [*(known if isinstance(known, list) else ()), ours]}


def _with_texts(properties: Mapping[str, object], said: Mapping[str, object]) -> Mapping[str, object]:
    """Return the properties of a result, with values of scanstore's own findings that SARIF does not define in its
    property bag.
    """
    texts = {name: value for name in TEXTS if (value := said[name]) is not None and value != ""}
    if not texts:
        return properties
    if said["message"] and said["message"] != said["title"]:
        texts["title"] = said["title"]
    bag: Any = properties.get("properties") or {}
    return {**properties, "properties": {**bag, OWN: texts}}
