"""The report for programs and spreadsheets: one JSON document, or CSV with one row per finding."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from scanstore.db.state_machine import SEVERITIES
from scanstore.report.document import Item, Report, as_dict, clean

COLUMNS = (
    "id", "severity", "change", "status", "open", "suppression", "tool", "rule", "type", "title", "file", "line",
    "end_line", "symbol", "cwe", "confidence", "cvss_score", "cvss_vector", "first_scan", "last_scan", "message",
    "justification", "note",
)  # fmt: skip
"""Columns of the CSV; new ones come last."""
_FORMULA = ("=", "+", "-", "@", "\t", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_json(report: Report) -> Iterator[str]:
    """Yield one JSON document in ASCII, with one line per finding."""
    head = {
        "target": report.target,
        "scan": report.scan._asdict(),
        "baseline": None if report.baseline is None else report.baseline._asdict(),
        "made_at": report.made_at,
        "tools": report.tools,
        "runs": [run._asdict() for run in report.runs],
        "troubles": report.troubles,
        "beside": report.beside,
        "open": report.open,
        "changes": report.changes,
        "set_aside": report.set_aside,
        "expired_suppressions": report.expired,
        "trend": [
            {"scan": point.scan, "at": point.at, **dict(zip(SEVERITIES, point.counts, strict=True))}
            for point in report.trend
        ],
    }
    yield json.dumps(head, indent=2)[:-2] + ',\n  "findings": ['
    for number, item in enumerate(report.items):
        yield f"{',' if number else ''}\n    {json.dumps(as_dict(item))}"
    yield "\n  ]\n}\n" if report.items else "]\n}\n"


def as_csv(report: Report) -> Iterator[str]:
    """Yield a CSV table with the header ``COLUMNS``. A text that a spreadsheet would treat as a formula is prefixed
    with ``'``.
    """
    yield _row(COLUMNS)
    for item in report.items:
        yield _row(_cells(item))


def _row(cells: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return line.getvalue()


def _cells(item: Item) -> tuple[object, ...]:
    hidden = item.suppression
    decided = [event for event in item.events if event.action in ("status", "comment") and event.note]
    return (
        item.id, item.severity, item.change, item.status, "yes" if item.counts else "no",
        "" if hidden is None else "expired" if hidden.expired else "active",
        item.tool, item.rule_id, item.vulnerability_type, item.title, item.file_path, item.line_number,
        item.end_line, item.symbol, item.cwe, item.confidence, item.cvss_score, item.cvss_vector, item.first_scan,
        item.last_scan, item.message, "" if hidden is None else hidden.justification,
        decided[-1].note if decided else "",
    )  # fmt: skip


def _harmless(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = clean(cell)
    return f"'{text}" if text.lstrip(" \n").startswith(_FORMULA) else text
