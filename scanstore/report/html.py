"""The report as one HTML page: offline, light and dark, and usable without JavaScript.

All reported text is escaped and appears only between tags or in a quoted attribute, never inside the script or the
style sheet. The content security policy of the page lists the hashes of these two, so no other script can run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from importlib.resources import files

from scanstore.db.state_machine import SEVERITIES
from scanstore.report.chart import MOST, trend
from scanstore.report.document import CHANGES, FlowStep, Item, Report, ScanInfo, aside, clean, links, one_line, tools_of

SEVERE = (
    ("", "Any severity"), *((severity, severity) for severity in SEVERITIES),
    ("high+", "High and worse"), ("medium+", "Medium and worse"), ("low+", "Low and worse"),
)  # fmt: skip
STATES = (
    ("open", "To be fixed"), ("", "Any state"), ("confirmed", "Confirmed"), ("false_positive", "False positive"),
    ("ignored", "Ignored"), ("fixed", "Fixed"), ("suppressed", "Suppressed"), ("expired", "Suppression expired"),
)  # fmt: skip
ORDERS = (
    ("severity", "Most severe first"),
    ("file", "By file"),
    ("change", "New first"),
    ("age", "Latest found first"),
)


def html(report: Report) -> Iterator[str]:
    """Yield the page, piece by piece."""
    yield from (f"{line}\n" for line in _page(report))


def _page(report: Report) -> Iterator[str]:
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>{_line(report.target)}: findings of scan {report.scan.id}</title>"
    yield f"<style>{style}</style></head><body>"
    yield from _head(report)
    yield "<main>"
    for trouble in report.troubles:
        yield f'<p class="notice expired" role="alert">Not an all-clear: {_line(trouble)}.</p>'
    yield from _overview(report)
    yield from _toolbar()
    yield '<div id="files">'
    for path, items in report.files():
        yield from _file(path, items)
    yield "</div>"
    yield '<p class="none" id="none" hidden>No finding is like that.</p>'
    if not report.items:
        yield f'<p class="none">Nothing was found{", and not everything was checked" if report.troubles else ""}.</p>'
    yield f"</main><footer>Created {_time(report.made_at)}, with the decisions of that time.</footer>"
    yield f"<script>{script}</script></body></html>"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _line(text: object) -> str:
    return escape(one_line(str(text)))


def _text(text: str) -> str:
    return escape(clean(text))


def _time(at: str) -> str:
    return f'<time datetime="{_line(at)}">{_line(at[:10])} {_line(at[11:16])} UTC</time>'


# The top


def _head(report: Report) -> Iterator[str]:
    parts = [f"Scan {_scan(report.scan)}"]
    if report.baseline is not None:
        parts.append(f"compared with scan {_scan(report.baseline)}")
    if tools := tools_of(report):
        parts.append(_line(", ".join(tools)))
    if report.beside:
        parts.append(f"{report.beside:,} more of the target, which this scan did not see, left out")
    yield f'<header><h1>{_line(report.target)}</h1><p class="lead">{" · ".join(parts)}</p></header>'


def _scan(scan: ScanInfo) -> str:
    return f"{scan.id} of {_time(scan.at)}{'' if scan.status == 'completed' else f' ({_line(scan.status)})'}"


def _overview(report: Report) -> Iterator[str]:
    yield '<div class="overview"><section class="card"><h2>To be fixed</h2><div class="tiles">'
    for severity, number in report.open.items():
        word = f'<span class="severity {severity}">{severity}</span>'
        yield _tile(number, word, f'data-severity="{severity}" data-state="open"')
    since = "First scan" if report.baseline is None else f"Since scan {report.baseline.id}"
    yield f'</div><h2 class="since">{since}</h2><div class="tiles changes">'
    for change, number in report.changes.items():
        state = "" if change == "fixed" else "open"
        yield _tile(number, _words(change), f'data-change="{change}" data-state="{state}"')
    yield "</div>"
    if told := aside(report):
        yield f'<p class="aside soft">Set aside: {told}.</p>'
    yield "</section>"
    marked = [report.scan.id] if report.baseline is None else [report.scan.id, report.baseline.id]
    latest = f", the latest {MOST}" if len(report.trend) > MOST else ""
    yield f'<section class="card"><h2>To be fixed after each scan{latest}</h2>'
    yield from trend(report.trend, marked)
    yield "</section></div>"


def _tile(number: int, label: str, data: str) -> str:
    return f'<button type="button" class="tile{"" if number else " zero"}" {data}><b>{number:,}</b>{label}</button>'


def _toolbar() -> Iterator[str]:
    yield '<div class="tools" role="search"><input id="text" type="search" placeholder="Search" aria-label="Search">'
    yield _select("severity", "Severity", SEVERE)
    yield _select("change", "Change", (("", "Any change"), *((change, _words(change)) for change in CHANGES)))
    yield _select("state", "State", STATES)
    yield _select("order", "Order", ORDERS)
    yield '<button type="button" id="unfold">Unfold</button><button type="button" id="reset">Reset</button>'
    yield '<output id="shown"></output></div>'


def _select(name: str, label: str, options: tuple[tuple[str, str], ...]) -> str:
    inside = "".join(f'<option value="{value}">{text[:1].upper()}{text[1:]}</option>' for value, text in options)
    return f'<select id="{name}" aria-label="{label}" autocomplete="off">{inside}</select>'


# Findings


def _file(path: str, items: list[Item]) -> Iterator[str]:
    number = f"{len(items):,} finding{'' if len(items) == 1 else 's'}"
    yield f'<section class="file card" data-file="{_line(path)}">'
    yield f'<h2>{_line(path) or "Of no file"}<span class="count">{number}</span></h2>'
    for item in items:
        yield from _finding(item)
    yield "</section>"


def _finding(item: Item) -> Iterator[str]:
    hidden = item.suppression
    state = "" if hidden is None else "expired" if hidden.expired else "suppressed"
    yield (
        f'<details class="finding{"" if item.counts else " closed"}" id="f{item.id}" data-id="{item.id}"'
        f' data-file="{_line(item.file_path)}" data-line="{item.line_number or 0}" data-severity="{item.severity}"'
        f' data-change="{item.change}" data-status="{item.status}" data-suppression="{state}"'
        f' data-open="{"yes" if item.counts else "no"}" data-first="{item.first_scan or 0}">'
    )
    chips = [] if item.change == "unchanged" else [f'<span class="chip {item.change}">{_words(item.change)}</span>']
    if item.status not in ("open", item.change):
        chips.append(f'<span class="chip">{_words(item.status)}</span>')
    if item.worse:
        chips.append(f'<span class="chip new">was {item.severity_before}</span>')
    if state:
        label = "suppression expired" if state == "expired" else state
        chips.append(f'<span class="chip {state}">{label}</span>')
    under = [f"line {item.line_number}" if item.line_number else "", _line(item.kind), _line(item.symbol or "")]
    yield f'<summary><span class="severity {item.severity}">{item.severity}</span>'
    yield f'<span class="title">{_line(item.title)}</span><span class="chips">{"".join(chips)}</span>'
    yield f'<span class="under">{" · ".join(filter(None, under))}</span></summary><div class="body">'
    yield from _body(item)
    yield "</div></details>"


def _body(item: Item) -> Iterator[str]:
    if item.suppression is not None:
        yield _notice(item)
    if item.message and one_line(item.message) != one_line(item.title):
        yield f'<p class="said">{_text(item.message)}</p>'
    if item.snippet.strip():
        yield f"<pre><code>{_text(item.snippet.strip(chr(10)))}</code></pre>"
    for number, flow in enumerate(item.flows, 1):
        yield f"<h3>Way of the data{f' {number}' if len(item.flows) > 1 else ''}</h3>"
        yield f'<ol class="flow">{"".join(map(_step, flow))}</ol>'
    for title, told in (
        ("Details", item.details), ("Attack vector", item.attack_vector), ("Data flow", item.data_flow),
        ("Proof of concept", item.proof_of_concept), ("Remediation", item.remediation),
    ):  # fmt: skip
        if told.strip():
            yield f'<h3>{title}</h3><p class="said">{_text(told.strip())}</p>'
    if found := list(links(item.references)):
        yield f'<h3>References</h3><ul class="links">{"".join(f"<li>{_link(*link)}</li>" for link in found)}</ul>'
    yield from _history(item)
    yield from _facts(item)


def _notice(item: Item) -> str:
    hidden = item.suppression
    assert hidden is not None
    ends = "" if hidden.expires_at is None else f" until {_time(hidden.expires_at)}"
    verb = "Was suppressed" if hidden.expired else "Suppressed"
    over = " This has expired: the finding counts again." if hidden.expired else ""
    by = "" if hidden.by is None else f" by {_line(hidden.by)}"
    told = f"{verb}{by}{ends}, {_line(hidden.scope)}: {_line(hidden.justification)}.{over}"
    return f'<p class="notice{" expired" if hidden.expired else ""}">{told}</p>'


def _step(step: FlowStep) -> str:
    place = ":".join(str(part) for part in (step.file_path, step.line_number) if part not in ("", None))
    return f'<li><span class="mono">{_line(place)}</span> {_line(step.text)}</li>'


def _link(text: str, address: bool) -> str:
    return f'<a href="{escape(text)}" rel="noopener noreferrer">{escape(text)}</a>' if address else escape(text)


def _history(item: Item) -> Iterator[str]:
    if not item.events:
        return
    yield '<h3>History</h3><ul class="history">'
    for event in item.events:
        done = event.action
        if event.action == "status":
            done = f"{_words(event.from_status or 'none')} → {_words(event.to_status or 'none')}"
        note = f": {_line(event.note)}" if event.note.strip() else ""
        by = "" if event.by is None else f"{_line(event.by)}, "
        yield f'<li><span class="soft">{_time(event.at)}</span> {by}{done}{note}</li>'
    yield "</ul>"


def _facts(item: Item) -> Iterator[str]:
    score = "" if item.cvss_score is None else f"{item.cvss_score:.1f}"
    ends = "" if item.end_line in (None, item.line_number) else f"-{item.end_line}"
    facts = (
        ("place", f"{item.place}{ends}" if item.file_path else ""),
        ("CWE", item.cwe or ""),
        ("CVSS", " ".join(filter(None, (score, item.cvss_vector)))),
        ("confidence", "" if item.confidence is None else f"{item.confidence}%"),
        ("type", "" if item.vulnerability_type == item.rule_id else item.vulnerability_type),
        ("first seen in scan", item.first_scan or ""),
        ("last seen in scan", item.last_scan or ""),
        ("id", item.id),
    )
    inside = "".join(f"<div><dt>{name}</dt><dd>{_line(value)}</dd></div>" for name, value in facts if value)
    yield f'<dl class="facts">{inside}</dl>'


def _words(name: str) -> str:
    return name.replace("_", " ")
