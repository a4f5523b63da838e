"""The report as plain text for a terminal, or as Markdown for a comment or a wiki.

Both list the open findings, one per line, followed by fixed and suppressed ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from scanstore.report.document import Item, Report, aside, described, one_line, tools_of

_MARKS = re.compile(r"[\\`*_\[\]<>|~&@#!$]|:(?=\S)")
TOOLS = "Tools"
TROUBLE = "Not an all-clear"
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}


def text(report: Report) -> Iterator[str]:
    """Yield plain text without characters that control a terminal."""
    yield from (f"{line}\n" for line in _text(report))


def _text(report: Report) -> Iterator[str]:
    yield one_line(f"{report.target}: {_when(report)}")
    for trouble in report.troubles:
        yield one_line(f"{TROUBLE}: {trouble}")
    for name, told in _summary(report):
        yield f"{name:<13} {told}"
    for path, items in report.files(counting=True):
        yield ""
        yield one_line(path) or "of no file"
        yield from _aligned(items, lambda item: [_line(item), item.severity, _state(item)])
    for title, items in _rest(report):
        yield ""
        yield title
        yield from _aligned(items, lambda item: [one_line(item.place), item.severity, _state(item)])


def _aligned(items: list[Item], cells: Callable[[Item], list[str]]) -> Iterator[str]:
    rows = [cells(item) for item in items]
    widths = [min(max(map(len, column)), 60) for column in zip(*rows, strict=True)]
    for item, row in zip(items, rows, strict=True):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(padded)}  {one_line(item.title)} ({one_line(item.kind)}, {item.id})"


def markdown(report: Report) -> Iterator[str]:
    """Yield Markdown for code hosts. Reported text is escaped, so it cannot format, link or mention."""
    yield from (f"{line}\n" for line in _markdown(report))


def _markdown(report: Report) -> Iterator[str]:
    yield f"# {_plain(report.target)}"
    yield ""
    yield f"{_when(report)[:1].upper()}{_when(report)[1:]}"
    yield ""
    for trouble in report.troubles:
        yield f"**{TROUBLE}:** {_plain(trouble)}"
        yield ""
    yield "| Severity | To be fixed |"
    yield "| --- | ---: |"
    for severity, number in report.open.items():
        yield f"| {severity} | {number:,} |"
    yield ""
    for name, told in _summary(report)[1:]:
        yield f"- {name}: {_plain(told) if name == TOOLS else told}"
    for path, items in report.files(counting=True):
        yield ""
        yield f"## {_plain(path) or 'Of no file'}"
        yield from _table(items, "Line", _line)
    for title, items in _rest(report):
        yield ""
        yield f"## {title}"
        yield from _table(items, "Place", lambda item: _plain(item.place))


def _table(items: list[Item], place: str, cell: Callable[[Item], str]) -> Iterator[str]:
    yield ""
    yield f"| {place} | Severity | State | Finding | Rule | Id |"
    yield f"| {'---:' if place == 'Line' else '---'} | --- | --- | --- | --- | ---: |"
    for item in items:
        told = (cell(item), item.severity, _plain(_state(item)), _plain(item.title), _plain(item.kind), str(item.id))
        yield f"| {' | '.join(told)} |"


def _plain(text: str) -> str:
    return _MARKS.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), one_line(text))


# Shared parts


def _when(report: Report) -> str:
    compared = "" if report.baseline is None else f", compared with scan {report.baseline.id}"
    return f"scan {report.scan.id} of {report.scan.at[:10]} {report.scan.at[11:16]} UTC{compared}"


def _summary(report: Report) -> list[tuple[str, str]]:
    total = sum(report.open.values())
    severe = ", ".join(described(report.open.items()))
    lines = [("To be fixed", f"{total:,}{f': {severe}' if severe else ''}")]
    changes = ", ".join(described(report.changes.items())) or _none(report)
    lines.append((f"Since scan {report.baseline.id}" if report.baseline else "First scan", changes))
    if told := aside(report):
        lines.append(("Set aside", told))
    if report.beside:
        told = f"{report.beside:,} of the target, which this scan did not see"
        lines.append(("Left out", told))
    if tools := tools_of(report):
        lines.append((TOOLS, ", ".join(map(one_line, tools))))
    return lines


def _none(report: Report) -> str:
    """Return the line for a report without findings. It says "nothing found" only if the coverage is complete."""
    return "no findings in the examined files" if report.troubles else "nothing found"


def _rest(report: Report) -> Iterator[tuple[str, list[Item]]]:
    """List fixed and set-aside findings."""
    for title, items in (
        ("Fixed", [item for item in report.items if item.change == "fixed"]),
        ("Set aside", [item for item in report.items if item.change != "fixed" and not item.counts]),
    ):
        if items:
            yield title, items


def _line(item: Item) -> str:
    return "" if item.line_number is None else str(item.line_number)


def _state(item: Item) -> str:
    words = [item.change] if item.status in ("open", item.change) else [item.change, item.status]
    if item.worse:
        words.append(f"was {item.severity_before}")
    if item.suppression is not None:
        words.append("suppression expired" if item.suppression.expired else "suppressed")
    return ", ".join(words).replace("_", " ")
