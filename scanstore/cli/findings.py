"""`scanstore findings`: what is to be fixed, in full, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore.cli.base import Group, common, find_scan, json_option, open_store, recorded_path, store_option
from scanstore.cli.drafts import SEVERITIES, percent, place_of, reported_lines, texts, vote_lines, votes_json
from scanstore.cli.output import columns, note, plain_text, say, say_json

if TYPE_CHECKING:
    from scanstore.findings import Finding
    from scanstore.scans import Scan

STATUSES = ("open", "confirmed", "false_positive", "ignored", "fixed")


@click.group(cls=Group)
@store_option
def findings() -> None:
    """Look at what is to be fixed."""


@findings.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only those in this state.")
@click.option("--severity", type=click.Choice(SEVERITIES, case_sensitive=False), help="Only those this severe.")
@click.option("--file", metavar="FILE", help="Only those in this file of the scan.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@common
def list_(
    status: str | None, severity: str | None, file: str | None, limit: int | None, scan: str | None, as_json: bool
) -> None:
    """List the findings of a scan, the most severe first: where, severity, status, type, title, id.

    \b
    Example:
      scanstore findings list --status open --severity critical
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = None if file is None else recorded_path(where, file)
        found = store.findings.list(where, status=status, severity=severity, file=path, limit=limit)
        if as_json:
            say_json(found)
        elif found:
            say(reported_lines(found, where))
        else:
            note(f"no findings {'like that ' if status or severity or file else ''}in scan {where.id}")


@findings.command()
@click.argument("finding", metavar="ID", type=click.IntRange(min=1))
@json_option
@store_option
def show(finding: int, as_json: bool) -> None:
    """Show a finding: where, how bad, why, how to mend it, and the draft and votes that it comes from.

    \b
    Example:
      scanstore findings show 3
    """
    with open_store() as store:
        row = store.findings.get(finding)
        verified = row.verified
        draft = None if verified is None else verified.draft
        votes = [] if draft is None else store.drafts.votes(draft)
        if as_json:
            say_json({**row.to_dict(), "verified": verified, "draft": draft, "votes": votes_json(votes)})
            return
        say(_card(row, store.scans.get(row.scan_id)))
        if verified is not None:
            say(texts(("attack vector", verified.attack_vector), ("data flow", verified.data_flow)))
        if draft is not None:
            by = ", ".join(map(str, draft.source_models))
            say(["", plain_text(f"from draft {draft.id}{f', reported by {by}' if by else ''}")])
            say(vote_lines(votes))


def _card(row: Finding, scan: Scan) -> Iterator[str]:
    yield click.style(plain_text(row.title), bold=True)
    score = "" if row.cvss_score is None else f"{row.cvss_score:.1f}"
    facts = [
        ("where", place_of(row, scan)),
        ("severity", row.severity),
        ("status", row.status),
        ("type", row.vulnerability_type),
        ("CWE", row.cwe),
        ("CVSS", " ".join(filter(None, (score, row.cvss_vector)))),
        ("confidence", percent(row.confidence)),
        ("published", row.to_dict()["created_at"]),
        ("id", f"{row.id} in scan {row.scan_id}"),
    ]
    yield from columns([fact for fact in facts if fact[1]], indent="  ")
    yield from texts(
        ("snippet", row.snippet),
        ("details", row.vulnerability_details),
        ("proof of concept", row.proof_of_concept),
        ("remediation", row.remediation_steps),
        ("references", row.references),
    )
