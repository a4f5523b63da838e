"""The words of SARIF 2.1.0 that reader and writer share: plain tuples, and how grave a result is.

A tuple holds what the store has columns for; whatever else a report says is kept in ``properties``, named and shaped
as in SARIF, so that it can be written again. Change here which level or score becomes which severity.
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
    """Something that could not be used: where in the document, and why."""

    path: str
    reason: str


class Artifact(NamedTuple):
    """A file that the tool speaks of; ``digest`` is ``algorithm:hex``."""

    path: str
    roles: Sequence[str] = ()
    digest: str | None = None


class Rule(NamedTuple):
    """What a tool looks for; ``properties`` is the rest of the rule as SARIF has it."""

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
    """One run of one tool, as it is read, without its results.

    ``results`` is how many the run holds, the broken ones too, and None when it has no list of them: then the tool
    reports neither findings nor fixes. ``complete`` means that ``rules`` names rules without a result: then they are
    those that ran. ``successful`` is what the tool says of itself, None when it does not; ``failed_files`` are the
    files it says it failed on. ``properties`` is the rest of the run as SARIF has it, for `OutRun.properties`.

    ``doubts`` are the reasons why the run as a whole did not look, or cannot be relied on. ``used`` are the rules with
    a result, or enabled by the run's own configuration; ``off`` are those that it disables; ``failed_rules`` are those
    that the tool failed on. ``unsure`` are all rules about whose findings the run says nothing, with those of a result
    whose place could not be used: it grows while the results are read.
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
    """A run that cannot be used at all: its index, why, and how many results it held (None: unknown)."""

    run_index: int
    tool: str | None
    reason: str
    results: int | None


class Result(NamedTuple):
    """One finding of a run, read or to be written.

    ``uri`` is a relative path with slashes that stays inside the tree. Lines and columns count from 1, the end column
    is behind the last character; values missing from the report are None. ``locations`` holds all of them as SARIF has
    them where they say more than these fields do, else nothing. ``code_flows`` and ``related`` are as in SARIF, with
    what pointed elsewhere in the run put in its place; ``suppressions`` too, None when the tool does not know of any
    way to suppress. ``properties`` is the rest of the result as SARIF has it, the property bag under "properties".
    ``path`` is where it was read. A ``level`` of None is written as that of the severity.
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
    """The severity of a result: by the first score there is, else by its level."""
    for score in scores:
        if score is not None and score > 0:
            return "critical" if score >= 9 else "high" if score >= 7 else "medium" if score >= 4 else "low"
    return LEVELS[level]


def score_of(bag: Mapping[str, object]) -> float | None:
    """The ``security-severity`` in a property bag: a number or its text, at most 10, or a word such as ``high``. None
    for anything else."""
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
    """The weaknesses that tags or the like name, as ``CWE-79``, each once, in order."""
    return list(dict.fromkeys(f"CWE-{found[1]}" for word in words if (found := _CWE.search(str(word)))))
