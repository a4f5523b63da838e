"""The types of SARIF 2.1.0 that reader and writer share, and the severity of a result.

A tuple has a field for each column of the store. All other members are kept in ``properties``, as in SARIF, so that
they can be written again. Change here: the mapping from levels and scores to severities.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scanstore.snapshots.git import Vcs

__all__ = [
    "Artifact", "Lost", "SarifProblem", "Result", "Rule", "Run", "Vcs", "cwe_in", "score_of", "severity_of", "unscored",
]  # fmt: skip

VERSION = "2.1.0"
BASE = "SRCROOT"
"""The name of the source root in written reports."""
SEVERITY = "scanstore/severity"
"""The property that says a severity which level and score do not."""
SCORE = "security-severity"
"""The property that holds a score."""
SCORES = {"critical": 9.0, "high": 7.0, "medium": 4.0, "moderate": 4.0, "low": 1.0}
"""What the words stand for that some tools write instead of one."""
UNSCORED = "it must be a number from 0 to 10; the level is taken instead"
STATE = "scanstore/state"
"""The property that says what ``baselineState`` has no word for."""
LINE_HASH = "primaryLocationLineHash"
BASELINE_STATES = ("new", "unchanged", "updated", "absent")
SEVERITIES = ("critical", "high", "medium", "low", "info")
"""The words of the store, the worst first."""
KINDS = ("notApplicable", "pass", "fail", "review", "open", "informational")
LEVELS = {"error": "high", "warning": "medium", "note": "low", "none": "info"}
"""Each level with the severity that it stands for when there is no score."""
SEVERITY_LEVELS = dict(zip(SEVERITIES, ("error", "error", "warning", "note", "note"), strict=True))
"""Each severity with the level of findings that did not come from a report."""

_CWE = re.compile(r"(?<![a-z])cwe[-_: /]?0*([1-9][0-9]{0,5})(?![0-9])", re.IGNORECASE)


class SarifProblem(NamedTuple):
    """A part of a document that could not be used: its location and the reason."""

    path: str
    reason: str


class Artifact(NamedTuple):
    """A file in a report; ``digest`` is ``algorithm:hex``."""

    path: str
    roles: Sequence[str] = ()
    digest: str | None = None


class Rule(NamedTuple):
    """A rule of a tool; ``properties`` has the other members as in SARIF."""

    id: str
    name: str | None = None
    short: str | None = None
    full: str | None = None
    help: str | None = None
    help_uri: str | None = None
    level: str | None = None
    security_severity: float | None = None
    tags: Sequence[str] = ()
    cwe: Sequence[str] = ()
    enabled: bool = True
    properties: Mapping[str, object] = {}


class Run(NamedTuple):
    """One run of one tool, without its results.

    ``results`` is the number of results, including broken ones. It is None if the run has no list of results; then it
    neither reports nor fixes findings. ``complete`` means that ``rules`` includes rules without a result, so the list
    is complete. ``successful`` is the tool's own statement, or None; ``failed_files`` are the files on which it failed
    by its own statement. ``properties`` has the other members as in SARIF, for `OutRun.properties`.

    ``doubts`` are the reasons why the run as a whole failed or is unreliable. ``used`` are the rules with a result or
    enabled by the run's own configuration; ``off`` are the rules that it disables; ``failed_rules`` are those on which
    the tool failed. ``unsure`` are the rules whose findings the run does not cover, including the rules of results with
    an unusable location. It grows while the results are read.
    """

    run_index: int
    tool: str
    tool_version: str | None
    rules: dict[str, Rule]
    artifacts: list[Artifact]
    base_ids: dict[str, object]
    complete: bool
    successful: bool | None
    failed_files: list[str]
    results: int | None
    automation_id: str | None
    vcs: Vcs | None
    properties: dict[str, object]
    doubts: Sequence[str] = ()
    used: frozenset[str] = frozenset()
    off: frozenset[str] = frozenset()
    unsure: set[str] = set()
    failed_rules: Sequence[str] = ()


class Lost(NamedTuple):
    """A run that cannot be used at all: its index, the reason, and its number of results (None: unknown)."""

    run_index: int
    tool: str | None
    reason: str
    results: int | None


class Result(NamedTuple):
    """One finding of a run, read or to be written.

    ``uri`` is a relative path with slashes inside the tree. Lines and columns count from 1, and the end column is after
    the last character; missing values are None. ``locations`` has all locations as in SARIF if they contain more than
    these fields, and is empty otherwise. ``code_flows``, ``related`` and ``suppressions`` are as in SARIF, with
    references resolved; ``suppressions`` is None if the tool does not support suppressing. ``properties`` has the other
    members as in SARIF, and the property bag under "properties". ``path`` is the location in the report. A ``level`` of
    None is written as the level of the severity.
    """

    rule_id: str | None
    message: str
    severity: str = "medium"
    level: str | None = None
    kind: str = "fail"
    uri: str | None = None
    start_line: int | None = None
    start_column: int | None = None
    end_line: int | None = None
    end_column: int | None = None
    snippet: str | None = None
    fingerprints: Mapping[str, str] = {}
    partial_fingerprints: Mapping[str, str] = {}
    line_hash: str | None = None
    guid: str | None = None
    cwe: Sequence[str] = ()
    code_flows: Sequence[object] = ()
    related: Sequence[object] = ()
    locations: Sequence[object] = ()
    suppressions: Sequence[Mapping[str, object]] | None = None
    baseline_state: str | None = None
    properties: Mapping[str, object] = {}
    run_index: int = 0
    number: int = 0
    path: str = ""


def severity_of(level: str, *scores: float | None) -> str:
    """Return the severity of a result: by the first available score, or else by its level."""
    for score in scores:
        if score is not None and score > 0:
            return "critical" if score >= 9 else "high" if score >= 7 else "medium" if score >= 4 else "low"
    return LEVELS[level]


def score_of(bag: Mapping[str, object]) -> float | None:
    """Return the ``security-severity`` of a property bag: a number or its text, at most 10, or a word such as ``high``.
    None for other values.
    """
    value = bag.get(SCORE)
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str) and value.strip().lower() in SCORES:
        return SCORES[value.strip().lower()]
    if not isinstance(value, str | int | float):
        return None
    try:
        score = float(value)
    except (ValueError, OverflowError):
        return None
    return min(score, 10.0) if 0 <= score < math.inf else None


def unscored(bag: Mapping[str, object]) -> bool:
    """Whether a property bag has a ``security-severity`` that cannot be read."""
    return bag.get(SCORE) is not None and score_of(bag) is None


def cwe_in(words: Iterable[object]) -> list[str]:
    """Return the weaknesses in tags and similar values, as ``CWE-79``, each once, in order."""
    return list(dict.fromkeys(f"CWE-{found[1]}" for word in words if (found := _CWE.search(str(word)))))
