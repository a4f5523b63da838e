"""`scanstore drafts`: reported drafts, the votes of models, and the outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import known_file, narrowed
from scanstore.cli.base import (
    basic_options,
    common,
    find_scan,
    group,
    open_store,
    recorded_path,
    rows_options,
)
from scanstore.cli.output import (
    Column,
    Columns,
    Fact,
    Section,
    card,
    count,
    listing,
    place_column,
    places,
    table,
    window,
)

if TYPE_CHECKING:
    from scanstore.analysis.models import DraftFinding, VerifiedFinding, Vote
    from scanstore.db.words import DraftStatus, Severity
    from scanstore.findings.models import Finding
    from scanstore.snapshots.models import Scan

STATUSES = ("pending", "verifying", "verified", "rejected", "weakness", "skipped", "failed")
SEVERITIES = ("critical", "high", "medium", "low", "info")
FOUND = ("id", "place", "severity", "status", "type", "title")  # the columns of a draft or a finding


@group
def drafts() -> None:
    """Show drafts and the votes on them."""


@drafts.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only drafts with this status.")
@click.option("--severity", type=click.Choice(SEVERITIES, case_sensitive=False), help="Only drafts of this severity.")
@click.option("--file", metavar="FILE", help="Only drafts in this file of the scan.")
@rows_options(*FOUND)
@common
def list_(status: DraftStatus | None, severity: Severity | None, file: str | None, scan: str | None) -> None:
    """List the drafts of a scan: id, place, severity, status, type, title.

    \b
    Example:
      scanstore drafts list --status pending --severity high
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = None if file is None else recorded_path(where, file)
        columns = found_columns(where)
        only = window(parts.models.DraftFinding, columns)
        found = store.drafts.list(where, status=status, severity=severity, file=path, **only)
        if not found:
            known_file(store, where, path)
        empty = f"no drafts {'like that ' if narrowed() else ''}in scan {where.id}{_unasked(where)}"
        listing(found, columns, empty)


def _unasked(scan: Scan) -> str:
    """Why a scan may have no drafts yet."""
    if scan.active_since is None:
        return f"; its analysis was not begun, begin it with: scanstore scans analyze {scan.id}"
    return "" if scan.status == "completed" else f"; its analysis is {scan.status}"


def found_columns(scan: Scan) -> Columns[DraftFinding | Finding]:
    """Return `file:line  severity  status  type  title  id`, the columns of a draft or a finding."""
    place, kind = place_column(scan, line="line_number"), Column[object]("type", "vulnerability_type")
    return (place, "severity", "status", kind, "title", "id")


@drafts.command()
@click.argument("draft", metavar="ID", type=click.IntRange(min=1))
@basic_options
def show(draft: int) -> None:
    """Show a draft in full, with the votes of models and the result.

    \b
    Example:
      scanstore drafts show 12
    """
    models = parts.models
    with open_store() as store:
        row = store.drafts.get(draft)
        votes = store.drafts.votes(row)
        verified = models.VerifiedFinding.get_or_none(models.VerifiedFinding.draft == row.id)
        finding = None if verified is None else models.Finding.get_or_none(models.Finding.verified == verified.id)
        card(
            {**row.to_dict(), "votes": votes_json(votes), "verified": verified, "finding": finding},
            row.title,
            _facts(row, store.scans.get(row.scan_id)),
            ("reason", row.reason),
            ("snippet", row.snippet),
            vote_section(votes),
            ("", [] if verified is None else [_became(verified, finding)]),
        )


def _became(verified: VerifiedFinding, finding: Finding | None) -> str:
    became = f", published as finding {finding.id} ({finding.status})" if finding is not None else ""
    return f"verified finding {verified.id}: {verified.status}, {verified.confidence}% sure{became}"


def _facts(row: DraftFinding, scan: Scan) -> list[Fact]:
    return [
        ("where", place_of(row, scan)),
        ("severity", row.severity),
        ("status", row.status + (f": {row.error}" if row.error else "")),
        ("type", row.vulnerability_type),
        ("CWE", row.cwe),
        ("confidence", percent(row.confidence)),
        ("reported by", ", ".join(map(str, row.source_models)) + (" (a rule)" if row.auto_detected else "")),
        ("weight", count(row.vote_count, "vote")),
        ("round", row.round if row.round > 1 else None),
        ("retries", row.retry_count or None),
        ("lost leases", row.lost_count or None),
        ("worker", row.worker),
        ("leased until", row.lease_until),
        ("next try", row.next_retry_at),
        ("reported", row.created_at),
        ("changed", row.updated_at),
        ("id", f"{row.id} in scan {row.scan_id}" + (f", of chunk {row.chunk_id}" if row.chunk_id is not None else "")),
    ]


def place_of(row: DraftFinding | Finding, scan: Scan) -> str:
    """`file:line`, and the last line when there are several."""
    end = f"-{row.end_line}" if row.end_line is not None and row.end_line != row.line_number else ""
    return f"{places(scan)(row.file_path, row.line_number)}{end}"


def percent(number: int | None) -> str:
    """Return `80%`, or nothing."""
    return "" if number is None else f"{number}%"


def votes_json(votes: Iterable[Vote]) -> list[dict[str, object]]:
    """Votes with the names of their models."""
    return [{**vote.to_dict(), "model": vote.model_config.name} for vote in votes]


def vote_section(votes: list[Vote]) -> Section:
    """Return the part of a card with a line for each vote."""
    columns: Columns[Vote] = (
        Column("round", lambda vote: f"round {vote.round}"),
        Column("model", lambda vote: vote.model_config.name),
        "decision",
        Column("confidence", lambda vote: percent(vote.confidence), right=True),
        "severity",
        "reason",
    )
    return count(len(votes), "vote"), table(votes, columns, indent="  ")
