"""`scanstore drafts`: reported drafts, the votes of models, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import known_file
from scanstore.cli.base import Group, common, find_scan, json_option, open_store, recorded_path, store_option
from scanstore.cli.output import columns, count, note, paragraph, places, plain_text, say, say_json

if TYPE_CHECKING:
    from scanstore.analysis.models import DraftFinding, Vote
    from scanstore.findings.models import Finding
    from scanstore.snapshots.models import Scan

STATUSES = ("pending", "verifying", "verified", "rejected", "weakness", "skipped", "failed")
SEVERITIES = ("critical", "high", "medium", "low", "info")


@click.group(cls=Group)
@store_option
def drafts() -> None:
    """Show drafts and the votes on them."""


@drafts.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only those in this state.")
@click.option("--severity", type=click.Choice(SEVERITIES, case_sensitive=False), help="Only those this severe.")
@click.option("--file", metavar="FILE", help="Only those in this file of the scan.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@common
def list_(
    status: str | None, severity: str | None, file: str | None, limit: int | None, scan: str | None, as_json: bool
) -> None:
    """List the drafts of a scan: place, severity, status, type, title, id.

    \b
    Example:
      scanstore drafts list --status pending --severity high
    """
    with open_store() as store:
        where = find_scan(store, scan)
        path = None if file is None else recorded_path(where, file)
        found = store.drafts.list(where, status=status, severity=severity, file=path, limit=limit)
        if not found:
            known_file(store, where, path)
        if as_json:
            say_json(found)
        elif found:
            place = places(where)
            say(columns(cells(row, place) for row in found))
        else:
            note(f"no drafts {'like that ' if status or severity or file else ''}in scan {where.id}{_unasked(where)}")


def _unasked(scan: Scan) -> str:
    """Why a scan may have no drafts yet."""
    if scan.active_since is None:
        return f"; its analysis was not begun, begin it with: scanstore scans analyze {scan.id}"
    return "" if scan.status == "completed" else f"; its analysis is {scan.status}"


def cells(row: DraftFinding | Finding, place: Callable[[str, int | None], str]) -> tuple[str, ...]:
    """`file:line  severity  status  type  title  id`, of a draft or a finding."""
    where = place(row.file_path, row.line_number)
    return (where, row.severity, row.status, row.vulnerability_type, row.title, str(row.id))


@drafts.command()
@click.argument("draft", metavar="ID", type=click.IntRange(min=1))
@json_option
@store_option
def show(draft: int, as_json: bool) -> None:
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
        if as_json:
            say_json({**row.to_dict(), "votes": votes_json(votes), "verified": verified, "finding": finding})
            return
        say(_card(row, store.scans.get(row.scan_id)))
        say(vote_lines(votes))
        if verified is not None:
            became = f", published as finding {finding.id} ({finding.status})" if finding is not None else ""
            say(["", f"verified finding {verified.id}: {verified.status}, {verified.confidence}% sure{became}"])


def _card(row: DraftFinding, scan: Scan) -> Iterator[str]:
    yield click.style(plain_text(row.title), bold=True)
    facts = [
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
        ("leased until", row.to_dict()["lease_until"]),
        ("next try", row.to_dict()["next_retry_at"]),
        ("reported", row.to_dict()["created_at"]),
        ("changed", row.to_dict()["updated_at"]),
        ("id", f"{row.id} in scan {row.scan_id}" + (f", of chunk {row.chunk_id}" if row.chunk_id is not None else "")),
    ]
    yield from columns([fact for fact in facts if fact[1] not in (None, "")], indent="  ")
    yield from texts(("reason", row.reason), ("snippet", row.snippet))


def place_of(row: DraftFinding | Finding, scan: Scan) -> str:
    """`file:line`, and the last line when there are several."""
    end = f"-{row.end_line}" if row.end_line is not None and row.end_line != row.line_number else ""
    return f"{places(scan)(row.file_path, row.line_number)}{end}"


def percent(number: int | None) -> str:
    """Return `80%`, or nothing."""
    return "" if number is None else f"{number}%"


def texts(*named: tuple[str, str]) -> Iterator[str]:
    """Longer texts below their names; empty ones are left out."""
    for name, text in named:
        if text.strip():
            yield ""
            yield f"{name}:"
            yield from paragraph(text)


def votes_json(votes: Iterable[Vote]) -> list[dict[str, object]]:
    """Votes with the names of their models."""
    return [{**vote.to_dict(), "model": vote.model_config.name} for vote in votes]


def vote_lines(votes: list[Vote]) -> Iterator[str]:
    """One line for each vote, after a blank one."""
    if votes:
        yield ""
        yield f"{count(len(votes), 'vote')}:"
        yield from columns(
            (
                (f"round {v.round}", v.model_config.name, v.decision, percent(v.confidence), v.severity or "", v.reason)
                for v in votes
            ),
            right=(3,),
            indent="  ",
        )  # fmt: skip
