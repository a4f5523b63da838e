"""The way out: what a scan saw, as runs and results of SARIF.

Rows stream from the store into the writer, so that the size of a report is no matter of memory. A result is told as
its scan saw it, also when later scans saw it otherwise; decisions are told as they are now.

Change here: what of a finding goes into which part of a result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from scanstore import __version__, publishing
from scanstore.checkout import provenance
from scanstore.contents import unpack
from scanstore.fields import dump_json
from scanstore.interchange.linehash import line_hashes
from scanstore.interchange.sarif import Artifact, Result, Rule
from scanstore.sarif import BY, justification, shifted, usual_level
from scanstore.sources import Sources, recorded
from scanstore.states import SEVERITIES

if TYPE_CHECKING:
    from scanstore.database import Database
    from scanstore.interchange.sarif_out import OutRun
    from scanstore.scans import Scan
    from scanstore.store import Store

OWN = "scanstore"  #: the tool of the findings that were published here
STATES = {"new": "new", "reopened": "new", "unchanged": "unchanged", "updated": "updated", "fixed": "absent"}
SCORES = {"critical": 9.5, "high": 8.0, "medium": 5.5, "low": 2.0, "info": None}  # as code hosts read them
LEVELS = dict(zip(SEVERITIES, ("error", "error", "warning", "note", "note"), strict=True))  # of our own findings
DECIDED = {"false_positive": "false positive", "ignored": "ignored"}
PLACES = ("code_flows", "related", "locations")
BATCH = 500  # rows

RUNS = """
SELECT id, tool, tool_version, rules, failed_files, detail FROM tool_runs WHERE scan_id = ? ORDER BY tool, id
"""
# Those that no report brought: our own ones, and what is missing from the reports.
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
RESULTS = """
SELECT f.id, f.rule_id, f.status, f.fingerprints, s.state, s.file_path, s.line_number, s.end_line, s.start_column,
       s.end_column, c.body, {columns}
  FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id LEFT JOIN finding_contents AS c ON c.id = s.content_id
 WHERE s.scan_id = :scan AND (s.run_id IS :run OR (s.run_id IS NULL AND :loose)) AND f.tool = :tool
   AND s.state IN (SELECT value FROM json_each(:states))
 ORDER BY s.file_path, s.line_number, s.start_column, f.rule_id, f.message, s.end_line, s.end_column, f.id
""".format(columns=", ".join(f'f."{name}"' for name in COLUMNS))
ANY_DECIDED = """
SELECT EXISTS (SELECT 1 FROM sightings AS s JOIN findings AS f ON f.id = s.finding_id
                WHERE s.scan_id = ? AND f.status IN ('false_positive', 'ignored'))
"""
NOTE = """
SELECT note FROM finding_events WHERE finding_id = ? AND to_status = ? AND note <> '' ORDER BY id DESC LIMIT 1
"""


class Dumped(NamedTuple):
    """What was written of a scan, and what a host's limits left out of it: see ``interchange.sarif_out.Left``."""

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
    store: Store, scan: Scan, file: str | os.PathLike[str] | BinaryIO, states: Sequence[str], github: bool
) -> Dumped:
    """Write a scan; see ``Sarif.dump``."""
    from scanstore.interchange.sarif_out import write

    if github:
        states = [state for state in states if state != "fixed"]
    dumping = _Dumping(store, scan, states)
    with publishing.writing(file, mode=0o666, store=store.database.file) as stream:
        left = write(stream, dumping.runs(), github=github)
    return Dumped(
        scan.id, dumping.written - left.runs, dumping.results - left.results,
        left.results, left.locations, left.flow_locations, left.runs, left.hidden, left.bytes_over,
    )  # fmt: skip


class _Dumping:
    """One scan on its way out."""

    def __init__(self, store: Store, scan: Scan, states: Sequence[str]) -> None:
        self._db: Database = store.database
        self._scan = scan
        self._states = dump_json(list(states))
        self._sources = Sources(scan.root, recorded(self._db, scan.id))
        self._hashes: dict[str, list[str]] = {}
        self._suppressed = self._decisions(store)
        self._told = bool(self._suppressed) or bool(self._db.execute_sql(ANY_DECIDED, (scan.id,)).fetchone()[0])
        self.written = self.results = 0

    def _decisions(self, store: Store) -> dict[int, tuple[str, Mapping[str, Any]]]:
        """Who suppressed which finding, and how SARIF says it."""
        run = self._db.execute_sql
        if not run(
            "SELECT EXISTS (SELECT 1 FROM suppressions WHERE lineage_id = ?)", (self._scan.lineage_id,)
        ).fetchone()[0]:
            return {}
        ids = [key for (key,) in run("SELECT finding_id FROM sightings WHERE scan_id = ?", (self._scan.id,)).fetchall()]
        said: dict[int, tuple[str, Mapping[str, Any]]] = {}
        for key, one in store.findings.suppressed(ids).items():
            told: dict[str, Any] = {"kind": "external", "status": "accepted", "justification": one.justification}
            if one.expires_at is not None:
                told["properties"] = {"expires": one.to_dict()["expires_at"]}
            # An expired one is told, and hides nothing.
            said[key] = (one.by, {**told, "status": "rejected"} if one.expired else told)
        return said

    def runs(self) -> Iterator[OutRun]:
        """The runs, each to be gone through before the next."""
        from scanstore.interchange.sarif_out import OutRun

        loose = {tool for (tool,) in self._db.execute_sql(LOOSE, (self._scan.id,)).fetchall()}
        if self._scan.active_since is not None:
            loose.add(OWN)
        checkout = provenance(self._scan.root)
        for key, tool, version, rules, failed, detail in self._db.execute_sql(RUNS, (self._scan.id,)).fetchall():
            said = unpack(detail) or {}
            properties: dict[str, Any] = said.get("properties") or {}
            told = "versionControlProvenance" in properties
            described = [_rule(each) for each in _loaded(rules)]
            self.written += 1
            yield OutRun(
                tool=tool,
                results=self._results(tool, key, tool in loose, described),
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
                results=self._results(tool, None, True),
                version=__version__ if own else None,
                rules=self._rules(tool),
                baselined=True,
                vcs=checkout,
                successful=self._scan.analyzed_at is not None if own else None,
            )

    def _rules(self, tool: str) -> Iterator[Rule]:
        """Rules that nobody has described: of each its gravest severity, and its weakness if it has only one."""
        found: dict[str, tuple[set[str], set[str | None]]] = {}
        for rule_id, severity, cwe, _ in self._db.execute_sql(RULES, (self._scan.id, tool)).fetchall():
            severities, weaknesses = found.setdefault(rule_id, (set(), set()))
            severities.add(severity)
            weaknesses.add(cwe)
        for rule_id, (severities, weaknesses) in found.items():
            if rule_id:
                worst = min(severities, key=SEVERITIES.index)
                cwe = [one for one in weaknesses if one] if len(weaknesses) == 1 else []
                score = SCORES[worst]
                yield Rule(rule_id, level=LEVELS[worst], security_severity=score, tags=("security",), cwe=cwe)

    def _results(self, tool: str, run: int | None, loose: bool, described: Sequence[Rule] = ()) -> Iterator[Result]:
        values = {"scan": self._scan.id, "run": run, "loose": loose, "tool": tool, "states": self._states}
        rules = {rule.id: rule for rule in described}
        cursor = self._db.execute_sql(RESULTS, values)
        while rows := cursor.fetchmany(BATCH):
            for row in rows:
                self.results += 1
                yield self._result(row, rules, own=tool == OWN and run is None)

    def _result(self, row: Sequence[Any], rules: Mapping[str, Rule], *, own: bool) -> Result:
        key, rule_id, status, fingerprints, state, path, line, end, column, end_column, body, *columns = row
        said = dict(zip(COLUMNS, columns, strict=True))
        if body is not None:
            said = {**said, **unpack(body)}
            detail = said["detail"] or {}
        else:
            detail = unpack(said["detail"]) or {}
        severity = said["severity"]
        kind, partial = detail.get("kind", "fail"), detail.get("partial_fingerprints")
        places = {name: shifted(detail[name], path or None, line or 0, away=False) for name in PLACES if name in detail}
        return Result(
            rule_id=rule_id or None,
            message=said["message"] or said["title"],
            severity=severity,
            level=detail.get("level") or (LEVELS[severity] if own else usual_level(rules.get(rule_id), kind)),
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
            properties=_with_texts(detail.get("properties") or {}, said),
            **places,
        )

    def _line_hash(self, path: str, line: int | None) -> str | None:
        source = self._sources.get(path) if path and line is not None else None
        if source is None or line is None:
            return None
        if path not in self._hashes:
            if len(self._hashes) > 16:
                self._hashes.clear()  # results come file by file
            self._hashes[path] = line_hashes(source.text)
        known = self._hashes[path]
        return known[line - 1] if line <= len(known) else None

    def _suppressions(
        self, key: int, status: str, told: Sequence[Mapping[str, Any]] | None
    ) -> Sequence[Mapping[str, Any]] | None:
        by, decision = self._suppressed.get(key, (None, None))
        if told and justification(told) is not None:
            if by == BY:
                return told
            told = []  # somebody has lifted it
        if decision is not None:
            return [decision]
        if status in DECIDED:
            note = self._db.execute_sql(NOTE, (key, status)).fetchall()
            reason = f"{DECIDED[status]}: {note[0][0]}" if note else DECIDED[status]
            return [{"kind": "external", "status": "accepted", "justification": reason}]
        return [] if told is None and self._told else told


def _loaded(text: str) -> Any:
    import json

    return {} if text == "{}" else json.loads(text)


def _rule(columns: Mapping[str, Any]) -> Rule:
    return Rule(**{name: value for name, value in columns.items() if name in Rule._fields})


TEXTS = (*COLUMNS[5:12],)


def _with_texts(properties: Mapping[str, Any], said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties of a result, and in its bag what our own findings say beyond SARIF."""
    texts = {name: value for name in TEXTS if (value := said[name]) is not None and value != ""}
    if not texts:
        return properties
    if said["message"] and said["message"] != said["title"]:
        texts["title"] = said["title"]
    bag: Mapping[str, Any] = properties.get("properties") or {}
    return {**properties, "properties": {**bag, OWN: texts}}
