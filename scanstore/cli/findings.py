"""`scanstore findings`: findings in full, and their history; deciding about it is in `triage`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from scanstore.cli.absence import known_tool, reported_file
from scanstore.cli.base import (
    Failure,
    Group,
    common,
    find_scan,
    is_one_scan,
    json_option,
    note_scan,
    open_store,
    recorded_path,
    store_option,
    target_option,
)
from scanstore.cli.drafts import SEVERITIES, cells, percent, place_of, texts, vote_lines, votes_json
from scanstore.cli.output import columns, note, places, plain_text, say, say_json
from scanstore.cli.report import warn
from scanstore.cli.triage import COMMANDS, STATUSES, hidden_by

if TYPE_CHECKING:
    from scanstore.findings.models import Finding, Suppression
    from scanstore.snapshots.models import Scan
    from scanstore.store import Store

STATES = ("new", "unchanged", "updated", "reopened", "fixed")
CHANGES = (*STATES, "not_checked")


@click.group(cls=Group)
@store_option
def findings() -> None:
    """Show findings, and decide about them."""


@findings.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only those in this state.")
@click.option("--severity", type=click.Choice(SEVERITIES, case_sensitive=False), help="Only those this severe.")
@click.option("--file", metavar="FILE", help="Only those in this file of the scan.")
@click.option("--state", type=click.Choice(CHANGES, case_sensitive=False), help="Only those that became this.")
@click.option("--tool", metavar="TOOL", help="Only those of this tool.")
@click.option("--suppressed/--not-suppressed", default=None, help="Only those that are hidden, or are not.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@common
def list_(file: str | None, scan: str | None, as_json: bool, **only: Any) -> None:
    """List the findings of a target, the most severe first: place, severity, status, type, title, id.

    All findings are listed, whichever tool ran last; --scan ID lists only those that this scan saw. The target is by
    default the one that the current folder is in. A suppressed finding, or one whose suppression has expired, says so
    and why. Findings that are fixed are listed with --state fixed. Tools that failed are named on stderr.

    \b
    Example:
      scanstore findings list --status open --severity critical
    """
    with open_store() as store:
        where = find_scan(store, scan, findings=True)
        path = None if file is None else recorded_path(where, file)
        if is_one_scan(scan):
            found = store.findings.list(where, file=path, **only)
            troubles = store.findings.troubles(scan=where)
        else:
            found = store.findings.list(target=where.target, file=path, **only)
            troubles = store.findings.troubles(where.target)
        warn(troubles)
        if not found:
            known_tool(store, where.target, only["tool"])
            reported_file(store, where.target, path)
        held = store.findings.suppressed(found)
        if as_json:
            say_json([{**row.to_dict(), "state": row.state, "suppression": held.get(row.id)} for row in found])
        elif found:
            say(_lines({"": found}, where, held))
        else:
            asked = file is not None or any(value is not None for name, value in only.items() if name != "limit")
            place = f"scan {where.id}" + ("" if is_one_scan(scan) else f" or before, of {where.target}")
            note(f"no findings {'like that ' if asked else ''}in {place}")


def _lines(parts: Mapping[str, Iterable[Finding]], scan: Scan, held: Mapping[int, Suppression]) -> Iterator[str]:
    """A line for each, with the name of its part, if it has one, before it and what hides it behind it."""
    place = places(scan)
    return columns(
        ((name,) if name else ()) + cells(row, place) + ((hidden_by(held[row.id]),) if row.id in held else ())
        for name, rows in parts.items()
        for row in rows
    )


@findings.command()
@click.argument("finding", metavar="ID", type=click.IntRange(min=1))
@json_option
@store_option
def show(finding: int, as_json: bool) -> None:
    """Show a finding in full, with the draft and the votes behind it.

    \b
    Example:
      scanstore findings show 3
    """
    with open_store() as store:
        row = store.findings.get(finding)
        verified = None if row.verified_id is None else store.verified.get(row.verified_id)
        draft = None if verified is None else verified.draft
        votes = [] if draft is None else store.drafts.votes(draft)
        held = store.findings.suppressed([row]).get(row.id)
        if as_json:
            rest = {"verified": verified, "draft": draft, "votes": votes_json(votes), "suppression": held}
            say_json({**row.to_dict(), **rest})
            return
        say(_card(row, None if row.scan_id is None else store.scans.get(row.scan_id), held))
        if verified is not None:
            say(texts(("attack vector", verified.attack_vector), ("data flow", verified.data_flow)))
        if draft is not None:
            by = ", ".join(map(str, draft.source_models))
            say(["", plain_text(f"from draft {draft.id}{f', reported by {by}' if by else ''}")])
            say(vote_lines(votes))


@findings.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@target_option
@json_option
@store_option
def diff(a: str | None, b: str | None, as_json: bool) -> None:
    """Compare the findings of two scans: new, reopened, updated, fixed.

    Not checked are those of A that were not looked for since. B is by default the latest scan of A's target that
    looked for findings; without A, a target's latest one is compared with the one before its tools ran last.

    \b
    Example:
      scanstore findings diff 1 2
    """
    with open_store() as store:
        first, second = _pair(store, a, b)
        found = store.findings.diff(first, second)
        if as_json:
            say_json({"a": first.id, "b": second.id, **found._asdict()})
            return
        told = {name: getattr(found, name) for name in ("new", "reopened", "updated", "fixed")}
        held = store.findings.suppressed([row for rows in told.values() for row in rows])
        say(_lines(told, second, held))
        warn(store.findings.troubles(scan=second))
        counts = ", ".join(f"{len(rows):,} {name.replace('_', ' ')}" for name, rows in found._asdict().items())
        note(f"from scan {first.id} to scan {second.id}: {counts}")


def _pair(store: Store, a: str | None, b: str | None) -> tuple[Scan, Scan]:
    """The scans of a diff."""
    if a is not None:
        first = find_scan(store, a, findings=True)
        second = store.findings.latest(first.target) if b is None else find_scan(store, b, findings=True)
        note_scan(store, second)
        return first, second
    latest = find_scan(store, None, findings=True)
    before = store.findings.baseline(latest)
    if before is None:
        raise Failure(
            f"scan {latest.id} is the first of {latest.target} in which its tools looked; scan it again to compare, or"
            " name two scans"
        )
    note_scan(store, before)
    return before, latest


def _card(row: Finding, scan: Scan | None, held: Suppression | None) -> Iterator[str]:
    yield click.style(plain_text(row.title), bold=True)
    score = "" if row.cvss_score is None else f"{row.cvss_score:.1f}"
    facts = [
        ("where", _place(row) if scan is None else place_of(row, scan)),
        ("severity", row.severity),
        ("status", row.status),
        ("suppression", hidden_by(held)),
        ("rule", None if row.tool == "scanstore" else f"{row.tool}: {row.rule_id}"),
        ("type", row.vulnerability_type),
        ("CWE", row.cwe),
        ("CVSS", " ".join(filter(None, (score, row.cvss_vector)))),
        ("confidence", percent(row.confidence)),
        ("published", row.to_dict()["created_at"]),
        ("id", str(row.id) if scan is None else f"{row.id} in scan {scan.id}"),
    ]
    yield from columns([fact for fact in facts if fact[1]], indent="  ")
    yield from texts(
        ("message", row.message),
        ("snippet", row.snippet),
        ("details", row.vulnerability_details),
        ("proof of concept", row.proof_of_concept),
        ("remediation", row.remediation_steps),
        ("references", row.references),
    )


def _place(row: Finding) -> str:
    """Where it was, when no scan is left that saw it."""
    return str(row.file_path) if row.line_number is None else f"{row.file_path}:{row.line_number}"


for _command in COMMANDS:
    findings.add_command(_command)
