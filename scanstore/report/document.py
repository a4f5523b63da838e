"""What a report says, before it is written in any format.

The writers next door read these tuples and nothing else. Change here what belongs to a report and which of its findings
count as open.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scanstore.db.plain_text import BLANKS, plain_text
from scanstore.db.state_machine import SEVERITIES

CHANGES = ("new", "reopened", "updated", "unchanged", "not_checked", "fixed")
"""What became of a finding since the baseline; ``not_checked``: it was there, and this scan did not look for it."""
UNDECIDED = ("open", "confirmed")
"""Statuses of open findings."""


class FlowStep(NamedTuple):
    """A stop on the way of the data."""

    file_path: str
    line_number: int | None
    text: str


class Event(NamedTuple):
    """A person's action on a finding."""

    at: str
    by: str
    action: str
    from_status: str | None
    to_status: str | None
    note: str


class Silenced(NamedTuple):
    """The suppression that fits a finding; one that has ``expired`` is told of and hides nothing."""

    id: int
    scope: str
    justification: str
    by: str
    expires_at: str | None
    expired: bool


class Item(NamedTuple):
    """A finding as the scan saw it, with what people decided until now."""

    id: int
    change: str
    severity: str
    status: str
    title: str
    message: str
    tool: str
    rule_id: str
    vulnerability_type: str
    file_path: str
    line_number: int | None
    end_line: int | None
    start_column: int | None
    symbol: str | None
    snippet: str
    cwe: str | None
    confidence: int | None
    cvss_score: float | None
    cvss_vector: str | None
    details: str
    attack_vector: str
    data_flow: str
    proof_of_concept: str
    remediation: str
    references: str
    flows: list[list[FlowStep]]
    first_scan: int | None
    last_scan: int | None
    events: list[Event]
    suppression: Silenced | None
    severity_before: str | None = None  # at the baseline, if it was there
    counted_before: bool = False  # whether it was to be fixed then
    closing_scan: int | None = None  # the scan that says that it is fixed

    @property
    def suppressed(self) -> bool:
        """Whether a suppression hides it."""
        return self.suppression is not None and not self.suppression.expired

    @property
    def counts(self) -> bool:
        """Whether it is still to be fixed: not seen as fixed, not judged away, not suppressed."""
        return self.change != "fixed" and self.status in UNDECIDED and not self.suppressed

    @property
    def worse(self) -> bool:
        """Whether it has become more severe since the baseline."""
        before = self.severity_before
        return before is not None and SEVERITIES.index(self.severity) < SEVERITIES.index(before)

    @property
    def came(self) -> bool:
        """Whether it was not to be fixed at the baseline, or not as urgently: it is new or reopened, a decision about
        it was taken back, its suppression is over, or it has become more severe."""
        return self.counts and (self.change in ("new", "reopened") or self.worse or not self.counted_before)

    @property
    def place(self) -> str:
        """``file:line``, as far as that is known."""
        return ":".join(str(part) for part in (self.file_path or "no file", self.line_number) if part is not None)

    @property
    def kind(self) -> str:
        """Its rule, with its tool unless it is one of our own."""
        return self.rule_id if self.tool == "scanstore" else f"{self.tool} {self.rule_id}"


class ScanInfo(NamedTuple):
    """A scan by which something is known; ``at`` is when it was complete, or else began."""

    id: int
    name: str
    kind: str
    status: str
    at: str


class RunInfo(NamedTuple):
    """A run of a tool by its report. The same report came ``repeats`` times more, the last time ``repeated_at``;
    ``troubles`` are the reasons why the absence of a finding proves nothing."""

    scan: int
    tool: str
    version: str
    category: str
    loaded_at: str
    repeats: int
    repeated_at: str | None
    troubles: list[str]


class Point(NamedTuple):
    """How many findings were open once a scan was done, by severity in the order of ``SEVERITIES``."""

    scan: int
    at: str
    counts: tuple[int, ...]


class Report(NamedTuple):
    """All that a report says. ``items`` are sorted: the most severe first, then by file and line.

    ``trend`` has a point for each scan of the target that looked for findings, the last one being this scan. ``runs``
    are the latest of each tool. ``troubles`` say why findings may be missing: no check may pass then. ``beside`` counts
    findings that other scans saw and that this report leaves out.
    """

    target: str
    scan: ScanInfo
    baseline: ScanInfo | None
    made_at: str
    tools: list[str]
    items: list[Item]
    trend: list[Point]
    runs: list[RunInfo] = []
    troubles: list[str] = []
    beside: int = 0

    @property
    def open(self) -> dict[str, int]:
        """How many findings are to be fixed, by severity; every severity is there."""
        found = Counter(item.severity for item in self.items if item.counts)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def changes(self) -> dict[str, int]:
        """How many findings changed in which way: open ones among those present, and fixed ones."""
        gone = (item.change == "fixed" and item.status not in ("false_positive", "ignored") for item in self.items)
        found = Counter(item.change for item, fixed in zip(self.items, gone, strict=True) if item.counts or fixed)
        return {change: found[change] for change in CHANGES}

    @property
    def set_aside(self) -> dict[str, int]:
        """Count the findings that are still present and were set aside, by their status."""
        there = [item for item in self.items if item.change != "fixed" and not item.counts]
        found = Counter("suppressed" if item.suppressed else item.status for item in there)
        return {decision: found[decision] for decision in ("suppressed", "false_positive", "ignored", "fixed")}

    @property
    def expired(self) -> int:
        """How many findings count again because their suppression has expired."""
        return sum(item.counts and item.suppression is not None for item in self.items)

    def files(self, *, counting: bool = False) -> list[tuple[str, list[Item]]]:
        """The findings of each file, those files first that hold the most severe that count; only these if asked."""
        found: dict[str, list[Item]] = {item.file_path: [] for item in self.items if item.counts}
        for item in self.items:
            if item.counts or not counting:
                found.setdefault(item.file_path, []).append(item)
        return list(found.items())

    def failing(self, rule: str) -> list[Item]:
        """The findings because of which a check fails, by a rule like ``new-high`` or ``any-medium``: those that
        count and are at least that severe; by ``new`` only those that are new, came back or became more severe since
        the baseline (``Item.came``). Whether findings may be missing is in ``troubles``."""
        which, _, least = rule.partition("-")
        worst = SEVERITIES[: SEVERITIES.index(least) + 1]
        return [item for item in self.items if item.counts and item.severity in worst and (which == "any" or item.came)]


# Text from strangers

_KEPT = "\n\t" + BLANKS


def clean(text: str) -> str:
    """The text, in which nothing acts on a terminal or turns the direction of what follows: such characters become
    escapes. Line breaks stay."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain_text(text, keep=_KEPT)


def one_line(text: str) -> str:
    """The same, on one line."""
    return " ".join(clean(text).split())


def described(counts: Iterable[tuple[str, int]]) -> Iterator[str]:
    """``2 critical``, ``1 not checked``: those that are not zero."""
    for name, number in counts:
        if number:
            yield f"{number:,} {name.replace('_', ' ')}"


def links(references: str) -> Iterator[tuple[str, bool]]:
    """The references, line by line, with whether one is an address that a browser may be sent to."""
    for line in clean(references).splitlines():
        if line.strip():
            yield line.strip(), re.fullmatch(r"https?://[^\s/?#]\S*", line.strip()) is not None


def as_dict(item: Item) -> dict[str, object]:
    """The finding as values that JSON can say."""
    return {
        **item._asdict(),
        "flows": [[step._asdict() for step in flow] for flow in item.flows],
        "events": [event._asdict() for event in item.events],
        "suppression": None if item.suppression is None else item.suppression._asdict(),
        "open": item.counts,
    }


def ran(run: RunInfo) -> str:
    """The tool of a run, and when the same report came again."""
    name = " ".join(filter(None, (run.tool, run.version, f"({run.category})" if run.category else "")))
    if not run.repeats:
        return name
    times = "once" if run.repeats == 1 else f"{run.repeats:,} times"
    at = run.repeated_at or ""
    return f"{name} (same report again {times}, last {at[:10]} {at[11:16]} UTC)"


def tools_of(report: Report) -> list[str]:
    """The tools whose findings are told, each with its version, and when its report came again."""
    told = list(dict.fromkeys(map(ran, report.runs)))
    known = {name for run in report.runs for name in (run.tool, f"{run.tool} {run.version}")}
    return sorted([*told, *(tool for tool in report.tools if tool not in known)])


def aside(report: Report) -> str:
    """Describe set-aside findings, and those that came back; empty without any."""
    told = ", ".join(described(report.set_aside.items()))
    count = f"{report.expired:,} counts again, its" if report.expired == 1 else f"{report.expired:,} count again, their"
    return "; ".join(filter(None, (told, f"{count} suppression has expired" if report.expired else "")))
