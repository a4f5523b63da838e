"""Writes SARIF 2.1.0, result by result. The same findings always give the same bytes.

The names in every object are sorted and each result is on one line, so that two reports can be compared as text. Change
here: the members written for a field, and the limits of hosts (`MAX_…`).
"""

from __future__ import annotations

import heapq
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

from scanstore.db import atomic_files
from scanstore.errors import InvalidArgument
from scanstore.sarif.format.parts import as_dict, as_list
from scanstore.sarif.format.uris import address
from scanstore.sarif.format.vocabulary import (
    BASE,
    LINE_HASH,
    SEVERITIES,
    SEVERITY,
    SEVERITY_LEVELS,
    VERSION,
    Artifact,
    Result,
    Rule,
    cwe_in,
    score_of,
    severity_of,
)
from scanstore.snapshots.git import Vcs

__all__ = ["Left", "OutRun", "write"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MAX_TEXT = 1024
MAX_TAGS = 10
MAX_RUNS = 20
MAX_RESULTS = 25_000
MAX_SHOWN = 5_000
MAX_LOCATIONS = 100
MAX_STEPS = 1_000
MAX_ZIPPED = 10_000_000
"""Limits of code hosts: characters and tags of a rule; runs, results of a run, those that are shown, locations and flow
steps of a result; bytes of the document, zipped."""

_SPARE = 2**18  # bytes reserved for the rest of the document and for the compressor's buffer
_FLUSH = 2**16
_GUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-5][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")
_RANK = {severity: rank for rank, severity in enumerate(SEVERITIES)}


class OutRun(NamedTuple):
    """A run to be written. ``results`` is iterated once; with None the list is omitted.

    With ``baselined`` each result is written with its ``baseline_state``. ``base_uri`` is the URI of the root, with a
    final slash; without it the reader of the file must know the root of the relative paths. ``properties`` has the
    other members as in SARIF; ``successful`` and ``failed_files`` are written unless it contains invocations.
    """

    tool: str
    results: Iterable[Result] | None
    version: str | None = None
    rules: Iterable[Rule] = ()
    baselined: bool = False
    base_uri: str | None = None
    vcs: Vcs | None = None
    automation_id: str | None = None
    successful: bool | None = None
    failed_files: Sequence[str] = ()
    artifacts: Iterable[Artifact] = ()
    properties: Mapping[str, object] = {}


class Left(NamedTuple):
    """The omissions because of a host's limits: ``results``, ``locations`` and ``flow_locations`` of written results,
    and ``runs`` (their results count too). ``hidden`` results are written, but GitHub will not show them.
    ``bytes_over`` is the number of bytes by which the zipped document exceeds the limit.
    """

    results: int = 0
    locations: int = 0
    flow_locations: int = 0
    runs: int = 0
    hidden: int = 0
    bytes_over: int = 0


def write(file: str | os.PathLike[str] | BinaryIO, runs: Iterable[OutRun], *, github: bool = False) -> Left:
    """Write a document to a path or an open binary file, and return the omissions.

    Results keep their order. With ``github`` they are sorted by severity, and only as many are written as the host's
    limits allow; up to 25,000 results of a run are then held in memory. A file at a path is replaced when everything is
    written, and stays unchanged after an error.

    Raises InvalidArgument for a run without a tool name, and for a result without a baseline state in a baselined run.
    """
    with atomic_files.writing(file, mode=0o666) as stream:
        return _Writer(stream, github).write(runs)


class _Writer:
    def __init__(self, stream: BinaryIO, github: bool) -> None:
        self._stream = stream
        self._github = github
        self._left = dict.fromkeys(Left._fields, 0)
        self._zip = zlib.compressobj(wbits=31) if github else None
        self._zipped = 0
        self._pending = 0

    def write(self, runs: Iterable[OutRun]) -> Left:
        self._put(f'{{"$schema":{_json(SCHEMA)},"version":"{VERSION}","runs":[')
        written = 0
        for run in runs:
            if self._github and (written == MAX_RUNS or self._full()):
                self._left["runs"] += 1
                self._left["results"] += sum(1 for _ in run.results or ())
                continue
            self._put("\n" if written == 0 else ",\n")
            self._run(run)
            written += 1
        self._put("\n]}\n")
        if self._zip is not None:
            self._zipped += len(self._zip.flush())
            self._left["bytes_over"] = max(0, self._zipped - MAX_ZIPPED)
        return Left(**self._left)

    def _run(self, run: OutRun) -> None:
        rules = sorted({rule.id: rule for rule in run.rules}.values(), key=lambda rule: rule.id)
        self._put(_json(_head(run, rules))[:-1])
        if run.results is not None:
            self._put(',"results":[')
            numbers = {rule.id: (number, rule) for number, rule in enumerate(rules)}
            written = 0
            results = iter(self._chosen(run.results))
            for result in results:
                if self._github and self._full():
                    self._left["results"] += sum(1 for _ in chain((result,), results))
                    break
                if run.baselined and result.baseline_state is None:
                    where = f"{result.rule_id} in {result.uri}:{result.start_line}"
                    raise InvalidArgument(f"the result {where} has no baseline_state, and its run is baselined")
                document = _result(result, numbers, run.baselined)
                if self._github:
                    self._trim(document)
                self._put(("\n" if written == 0 else ",\n") + _json(document))
                written += 1
            if self._github:
                self._left["hidden"] += max(0, written - MAX_SHOWN)
            self._put("\n]")
        self._put("}")

    def _chosen(self, results: Iterable[Result]) -> Iterable[Result]:
        """Return all results, or the most severe ones that the host accepts."""
        if not self._github:
            return results
        total = 0

        def counted() -> Iterator[Result]:
            nonlocal total
            for total, result in enumerate(results, 1):  # noqa: B007
                yield result

        chosen = heapq.nsmallest(MAX_RESULTS, counted(), key=lambda result: _RANK[result.severity])
        self._left["results"] += total - len(chosen)
        return chosen

    def _trim(self, result: dict[str, Any]) -> None:
        locations = result.get("locations", ())
        self._left["locations"] += max(0, len(locations) - MAX_LOCATIONS)
        if len(locations) > MAX_LOCATIONS:
            result["locations"] = locations[:MAX_LOCATIONS]
        if "codeFlows" in result:
            result["codeFlows"], over = _flows(result["codeFlows"])
            self._left["flow_locations"] += over

    def _put(self, text: str) -> None:
        data = text.encode("ascii")
        self._stream.write(data)
        if self._zip is not None:
            self._zipped += len(self._zip.compress(data))
            self._pending += len(data)
            if self._pending > _FLUSH:
                self._zipped += len(self._zip.flush(zlib.Z_SYNC_FLUSH))
                self._pending = 0

    def _full(self) -> bool:
        return self._zipped > MAX_ZIPPED - _SPARE


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _over(rest: Mapping[str, object], ours: Mapping[str, object]) -> dict[str, object]:
    """Merge stored members with scanstore's own. None, and an object with only None, do not replace stored members."""
    both = dict(rest)
    for key, value in ours.items():
        if type(value) is dict:
            known = both.get(key)
            value = _over(known if isinstance(known, dict) else {}, value) or None
        if value is not None:
            both[key] = value
    return both


def _head(run: OutRun, rules: list[Rule]) -> dict[str, object]:
    if not run.tool.strip():
        raise InvalidArgument("a run has no tool name")
    rest = {key: value for key, value in run.properties.items() if key != "results"}
    if "invocations" not in rest and (run.successful is not None or run.failed_files):
        rest["invocations"] = [_invocation(run.successful, run.failed_files)]
    vcs = None
    if run.vcs is not None:
        known = {"repositoryUri": run.vcs.repository, "revisionId": run.vcs.revision, "branch": run.vcs.branch}
        first, *others = as_list(rest.get("versionControlProvenance")) or ({},)
        vcs = [_over({"mappedTo": {"uriBaseId": BASE}, **as_dict(first)}, known), *others]
    artifacts = sorted({one.path: one for one in run.artifacts}.values(), key=lambda one: one.path)
    return _over(
        rest,
        {
            "tool": {"driver": {"name": run.tool, "version": run.version, "rules": [_rule(rule) for rule in rules]}},
            "originalUriBaseIds": None if run.base_uri is None else {BASE: {"uri": run.base_uri}},
            "versionControlProvenance": vcs,
            "automationDetails": None if run.automation_id is None else {"id": run.automation_id},
            "artifacts": [_artifact(one) for one in artifacts] or None,
        },
    )


def _invocation(successful: bool | None, failed_files: Sequence[str]) -> dict[str, object]:
    failures = [
        {
            "level": "error",
            "message": {"text": "This file was not scanned to its end."},
            "locations": [{"physicalLocation": {"artifactLocation": _address(path)}}],
        }
        for path in sorted(set(failed_files))
    ]
    # A tool without a statement counts as successful.
    told: dict[str, object] = {"executionSuccessful": successful is not False}
    return {**told, "toolExecutionNotifications": failures} if failures else told


def _artifact(artifact: Artifact) -> dict[str, object]:
    algorithm, _, digest = (artifact.digest or "").partition(":")
    return _over(
        {"location": _address(artifact.path)},
        {"roles": list(artifact.roles) or None, "hashes": {algorithm: digest} if digest else None},
    )


def _address(path: str) -> dict[str, str]:
    return {"uri": address(path), "uriBaseId": BASE}


def _rule(rule: Rule) -> dict[str, object]:
    short = rule.short or rule.full or rule.name or rule.id
    full = rule.full or short
    score = rule.security_severity
    return _over(
        rule.properties,
        {
            "id": rule.id,
            "name": rule.name,
            "shortDescription": {"text": _cut(short)},
            "fullDescription": {"text": _cut(full)},
            "help": {"text": rule.help or full},
            "helpUri": rule.help_uri,
            "defaultConfiguration": {"level": rule.level, "enabled": None if rule.enabled else False},
            "properties": {
                "tags": _tags(rule) or None,
                "security-severity": None if score is None else str(float(score)),
            },
        },
    )


def _tags(rule: Rule) -> list[str]:
    """Return the tags. If there are too many, the weaknesses among them are kept."""
    known = cwe_in(rule.tags)
    added = [f"external/cwe/{cwe.lower()}" for cwe in rule.cwe if cwe not in known]
    tags = list(dict.fromkeys([*rule.tags, *added]))
    if len(tags) > MAX_TAGS:
        tags.sort(key=lambda tag: not cwe_in([tag]))
    return tags[:MAX_TAGS]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _result(result: Result, rules: Mapping[str, tuple[int, Rule]], baselined: bool) -> dict[str, object]:
    number, rule = _rule_of(result.rule_id, rules)
    level = result.level or SEVERITY_LEVELS[result.severity]
    bag: Any = result.properties.get("properties") or {}
    more: dict[str, object] = {}
    if severity_of(level, score_of(bag), rule and rule.security_severity) != result.severity:
        more[SEVERITY] = result.severity
    weaknesses = [cwe for cwe in result.cwe if rule is None or cwe not in rule.cwe]
    if weaknesses and "cwe" not in bag and "taxa" not in result.properties:
        missing = [cwe for cwe in weaknesses if cwe not in cwe_in(bag.get("tags") or ())]
        more.update({"cwe": missing} if missing else {})
    partial = dict(result.partial_fingerprints)
    if result.line_hash is not None:
        partial.setdefault(LINE_HASH, result.line_hash)
    guid = result.guid if result.guid and _GUID.fullmatch(result.guid) else None
    return _over(
        result.properties,
        {
            "ruleId": result.rule_id,
            "ruleIndex": number,
            "level": level,
            "kind": None if result.kind == "fail" else result.kind,
            "message": {"text": result.message},
            "locations": _locations(result) or None,
            "guid": guid,
            "fingerprints": dict(result.fingerprints) or None,
            "partialFingerprints": partial or None,
            "codeFlows": list(result.code_flows) or None,
            "relatedLocations": list(result.related) or None,
            "suppressions": None if result.suppressions is None else [_suppression(s) for s in result.suppressions],
            "baselineState": result.baseline_state if baselined else None,
            "properties": more or None,
        },
    )


def _suppression(given: Mapping[str, object]) -> dict[str, object]:
    return _over({"kind": "external"}, given)


def _rule_of(rule_id: str | None, rules: Mapping[str, tuple[int, Rule]]) -> tuple[int | None, Rule | None]:
    """Return the rule that describes a result's rule: the same one, or its parent."""
    stem = rule_id or ""
    while stem:
        if stem in rules:
            return rules[stem]
        stem = stem.rpartition("/")[0]
    return None, None


def _locations(result: Result) -> list[object]:
    first: Any
    first, *others = result.locations or ({},)
    if result.uri is None:
        return list(result.locations)
    place: dict[str, object] = {"artifactLocation": _address(result.uri)}
    if result.start_line is not None:
        known = (
            ("startLine", result.start_line),
            ("startColumn", result.start_column),
            ("endLine", result.end_line),
            ("endColumn", result.end_column),
            ("snippet", None if result.snippet is None else {"text": result.snippet}),
        )
        place["region"] = {name: value for name, value in known if value is not None}
    if not result.locations:
        return [{"physicalLocation": place}]
    return [_over(first, {"physicalLocation": place}), *others]


def _flows(flows: list[Any]) -> tuple[list[object], int]:
    """Return the flows with as many steps as a host accepts, and the number of omitted steps."""
    room = MAX_STEPS
    over = 0
    kept: list[object] = []
    for flow in flows:
        threads = []
        for thread in map(as_dict, as_list(flow.get("threadFlows"))):
            steps = as_list(thread.get("locations"))
            over += max(0, len(steps) - room)
            if steps[:room]:
                threads.append({**thread, "locations": steps[:room]})
            room -= min(room, len(steps))
        if threads:
            kept.append({**flow, "threadFlows": threads})
    return kept, over
