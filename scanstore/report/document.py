"""The content of a report, independent of its format.

The writers of all formats read only these tuples. Change here: the content of a report, and which findings count as
open.
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
    """One step of a code flow."""

    file_path: str
    line_number: int | None
    text: str


class Event(NamedTuple):
    """A person's action on a finding."""

    at: str
    by: str | None
    action: str
    from_status: str | None
    to_status: str | None
    note: str


class Silenced(NamedTuple):
    """The suppression that matches a finding. An ``expired`` one is shown but hides nothing."""

    id: int
    scope: str
    justification: str
    by: str | None
    expires_at: str | None
    expired: bool


class Item(NamedTuple):
    """A finding as the scan reported it, with all decisions of people until now."""

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
    severity_before: str | None = None  # its severity at the baseline, if it existed
    counted_before: bool = False  # whether it counted as open at the baseline
    closing_scan: int | None = None  # the scan in which it was fixed

    @property
    def suppressed(self) -> bool:
        """Whether an active suppression hides the finding."""
        return self.suppression is not None and not self.suppression.expired

    @property
    def counts(self) -> bool:
        """Whether the finding is open: not fixed, not set aside by triage, not suppressed."""
        return self.change != "fixed" and self.status in UNDECIDED and not self.suppressed

    @property
    def worse(self) -> bool:
        """Whether the finding has become more severe since the baseline."""
        before = self.severity_before
        return before is not None and SEVERITIES.index(self.severity) < SEVERITIES.index(before)

    @property
    def came(self) -> bool:
        """Whether the finding came up since the baseline: it is new or reopened, a decision about it was reversed, its
        suppression ended, or it has become more severe.
        """
        return self.counts and (self.change in ("new", "reopened") or self.worse or not self.counted_before)

    @property
    def place(self) -> str:
        """``file:line``, as far as known."""
        return ":".join(str(part) for part in (self.file_path or "no file", self.line_number) if part is not None)

    @property
    def kind(self) -> str:
        """The rule, with the tool unless it is scanstore's own."""
        return self.rule_id if self.tool == "scanstore" else f"{self.tool} {self.rule_id}"


class ScanInfo(NamedTuple):
    """A scan that a value refers to; ``at`` is the time of its completion or, if incomplete, of its start."""

    id: int
    name: str
    kind: str
    status: str
    at: str


class RunInfo(NamedTuple):
    """A run of a tool. Its report was loaded again ``repeats`` times, last at ``repeated_at``. ``troubles`` are the
    reasons why a missing finding does not prove its absence.
    """

    scan: int
    tool: str
    version: str
    category: str
    loaded_at: str
    repeats: int
    repeated_at: str | None
    troubles: list[str]


class Point(NamedTuple):
    """The number of open findings after a scan, by severity in the order of ``SEVERITIES``."""

    scan: int
    at: str
    counts: tuple[int, ...]


class Report(NamedTuple):
    """The content of a report. ``items`` are sorted by severity, the most severe first, then by file and line.

    ``trend`` has a point for each scan of the target in which a tool ran, up to this scan. ``runs`` has the latest run
    of each tool. ``troubles`` are the reasons why findings may be missing; with any, no gate passes. ``beside`` counts
    the findings of other scans that this report leaves out.
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
        """Return the number of open findings by severity, with zeros."""
        found = Counter(item.severity for item in self.items if item.counts)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def changes(self) -> dict[str, int]:
        """Return the number of findings by change: open ones among the present findings, and fixed ones."""
        gone = (item.change == "fixed" and item.status not in ("false_positive", "ignored") for item in self.items)
        found = Counter(item.change for item, fixed in zip(self.items, gone, strict=True) if item.counts or fixed)
        return {change: found[change] for change in CHANGES}

    @property
    def set_aside(self) -> dict[str, int]:
        """Count the present findings that were set aside, by status."""
        there = [item for item in self.items if item.change != "fixed" and not item.counts]
        found = Counter("suppressed" if item.suppressed else item.status for item in there)
        return {decision: found[decision] for decision in ("suppressed", "false_positive", "ignored", "fixed")}

    @property
    def expired(self) -> int:
        """Return the number of findings that are open again because their suppression has expired."""
        return sum(item.counts and item.suppression is not None for item in self.items)

    def files(self, *, counting: bool = False) -> list[tuple[str, list[Item]]]:
        """Return the findings of each file, the files with the most severe open findings first; optionally only open
        findings.
        """
        found: dict[str, list[Item]] = {item.file_path: [] for item in self.items if item.counts}
        for item in self.items:
            if item.counts or not counting:
                found.setdefault(item.file_path, []).append(item)
        return list(found.items())

    def failing(self, rule: str) -> list[Item]:
        """Return the findings that fail a gate such as ``new-high`` or ``any-medium``: open findings that are at least
        that severe; with ``new``, only those that are new, came back or became more severe since the baseline
        (``Item.came``). ``troubles`` shows whether findings may be missing.
        """
        which, _, least = rule.partition("-")
        worst = SEVERITIES[: SEVERITIES.index(least) + 1]
        return [item for item in self.items if item.counts and item.severity in worst and (which == "any" or item.came)]


# Untrusted text

_KEPT = "\n\t" + BLANKS


def clean(text: str) -> str:
    """Return the text with escapes for characters that control a terminal or change the direction of text. Line breaks
    stay.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain_text(text, keep=_KEPT)


def one_line(text: str) -> str:
    """Return the same text on one line."""
    return " ".join(clean(text).split())


def described(counts: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Return texts such as ``2 critical``, ``1 not checked`` for the counts that are not zero."""
    for name, number in counts:
        if number:
            yield f"{number:,} {name.replace('_', ' ')}"


def links(references: str) -> Iterator[tuple[str, bool]]:
    """Return the references, one per line, each with whether it is a safe link for a browser."""
    for line in clean(references).splitlines():
        if line.strip():
            yield line.strip(), re.fullmatch(r"https?://[^\s/?#]\S*", line.strip()) is not None


def as_dict(item: Item) -> dict[str, object]:
    """Return the finding as JSON values."""
    return {
        **item._asdict(),
        "flows": [[step._asdict() for step in flow] for flow in item.flows],
        "events": [event._asdict() for event in item.events],
        "suppression": None if item.suppression is None else item.suppression._asdict(),
        "open": item.counts,
    }


def ran(run: RunInfo) -> str:
    """Describe the tool of a run, and when the same report was loaded again."""
    name = " ".join(filter(None, (run.tool, run.version, f"({run.category})" if run.category else "")))
    if not run.repeats:
        return name
    times = "once" if run.repeats == 1 else f"{run.repeats:,} times"
    at = run.repeated_at or ""
    return f"{name} (same report again {times}, last {at[:10]} {at[11:16]} UTC)"


def tools_of(report: Report) -> list[str]:
    """Describe the tools of the report, each with its version, and when its report was loaded again."""
    told = list(dict.fromkeys(map(ran, report.runs)))
    known = {name for run in report.runs for name in (run.tool, f"{run.tool} {run.version}")}
    return sorted([*told, *(tool for tool in report.tools if tool not in known)])


def aside(report: Report) -> str:
    """Describe set-aside findings, and those that came back. Empty without any."""
    told = ", ".join(described(report.set_aside.items()))
    count = f"{report.expired:,} counts again, its" if report.expired == 1 else f"{report.expired:,} count again, their"
    return "; ".join(filter(None, (told, f"{count} suppression has expired" if report.expired else "")))
