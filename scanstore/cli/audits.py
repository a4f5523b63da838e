"""`scanstore audits`: documents that were checked, what came out, who decided, and the trail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import Group, json_option, open_store, store_option
from scanstore.cli.output import columns, count, dim, note, paragraph, plain_text, say, say_json, size
from scanstore.cli.triage import by_option

if TYPE_CHECKING:
    from scanstore.audits.audits import Analysis, AnalysisFinding, Task

STATUSES = ("queued", "processing", "completed", "failed", "cancelled")
VERDICTS = ("approved", "review", "rejected")

AUDIT = click.argument("audit", metavar="ID")


@click.group(cls=Group)
@store_option
def audits() -> None:
    """Look at audits of documents, and decide about them."""


@audits.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only those that are this.")
@click.option("--verdict", type=click.Choice(VERDICTS, case_sensitive=False), help="Only those that were judged so.")
@click.option("--user", metavar="USER", help="Only those of this user: an address, or an id.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="At most so many."
)
@json_option
@store_option
def list_(status: str | None, verdict: str | None, user: str | None, limit: int, as_json: bool) -> None:
    """List audits: id, status, verdict, score, document.

    The latest first. With --json each has its analysis, or null.

    \b
    Example:
      scanstore audits list --verdict review
    """
    with open_store() as store:
        whose = None if user is None else store.accounts.get(user)
        found = store.audits.list(user=whose, status=status, verdict=verdict, limit=limit)
        analyses = store.audits.analyses(found)
        if as_json:
            say_json([row.to_dict() | {"analysis": analyses.get(row.id)} for row in found])
        elif found:
            say(columns((row.id, row.status, *_judged(analyses.get(row.id)), row.original_filename) for row in found))
        else:
            note("no audits here; add one with store.audits.add(user, filename, size)")


def _judged(analysis: Analysis | None) -> tuple[str, str]:
    if analysis is None:
        return "", ""
    score = "" if analysis.compliance_score is None else f"{analysis.compliance_score:g}"
    return str(analysis.verdict or ""), score


@audits.command()
@AUDIT
@json_option
@store_option
def show(audit: str, as_json: bool) -> None:
    """Show an audit, what came out of it, and its findings with their evidence.

    ID is that of the audit, or of its analysis.

    \b
    Example:
      scanstore audits show 019ab0c4-3f6e-7d3c-9a43-2f1f7f0b7e11
    """

    with open_store() as store:
        analysis: Analysis | None
        try:
            analysis = store.audits.analysis(audit)
        except parts.errors.NotFound:
            analysis = None
        row = store.audits.get(audit if analysis is None else analysis.task_id)
        found = [] if analysis is None else store.audits.findings(analysis)
        if as_json:
            say_json({**row.to_dict(), "analysis": analysis, "findings": found})
        else:
            say(_task_lines(row))
            if analysis is not None:
                say(_analysis_lines(analysis))
                say(_finding_lines(found))


def _task_lines(row: Task) -> Iterator[str]:
    at = row.to_dict()
    yield plain_text(f"{row.original_filename}, {size(row.file_size)}: {row.status}")
    facts = [("audit", row.id), ("user", row.user_id), ("kept at", row.file_path), ("added", at["created_at"])]
    facts += [("lost leases", row.lost_count or None), ("worker", row.worker)]
    facts += [("over", at["completed_at"]), ("error", row.error_message)]
    yield from columns([fact for fact in facts if fact[1] is not None], indent="  ")


def _analysis_lines(row: Analysis) -> Iterator[str]:
    facts: list[tuple[str, str | None]] = [
        ("analysis", row.id),
        ("equipment", _joined(row.equipment_type, row.equipment_tag)),
    ]
    facts += [("test", row.test_type), ("verdict", row.verdict), ("score", _judged(row)[1])]
    facts += [("confidence", "" if row.confidence_score is None else f"{row.confidence_score:g}")]
    facts += [("machine", f"{row.machine_verdict} by {row.policy}")]
    if row.reviewed_by is not None:
        when = row.to_dict()["reviewed_at"]
        facts += [("person", f"{row.verdict} by {row.reviewed_by}, {when}: {row.review_reason}")]
    yield from columns(facts, indent="  ")


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _finding_lines(found: list[AnalysisFinding]) -> Iterator[str]:
    import json

    yield count(len(found), "finding")
    for row in found:
        yield plain_text(f"{row.ordinal:>3}  {row.severity:8}  {row.rule_id}")
        yield from paragraph(row.message, indent="     ")
        if row.evidence is not None:
            yield dim(plain_text(f"     evidence: {json.dumps(row.evidence, ensure_ascii=False)}"))
        if row.remediation is not None:
            yield from paragraph(f"to do: {row.remediation}", indent="     ")


@audits.command()
@AUDIT
@click.argument("verdict", metavar="VERDICT", type=click.Choice(("approved", "rejected"), case_sensitive=False))
@click.option("--reason", "-r", metavar="TEXT", required=True, help="Why.")
@by_option
@json_option
@store_option
def review(audit: str, verdict: str, reason: str, by: str, as_json: bool) -> None:
    """Approve or reject an audit, with a reason.

    What the machine has said stays beside it. It may be decided again; the trail has both.

    \b
    Example:
      scanstore audits review 019ab0c4-3f6e-7d3c-9a43-2f1f7f0b7e11 approved --reason "measured again, 0.4 ohm"
    """
    with open_store(write=True) as store:
        row = store.audits.review(audit, verdict, by=by, reason=reason)
        if as_json:
            say_json(row)
        else:
            note(f"Audit {row.task_id}: {row.verdict} by {row.reviewed_by}; the machine said {row.machine_verdict}")


@audits.command()
@AUDIT
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Which page.")
@click.option(
    "--per-page",
    type=click.IntRange(min=1, max=1000),
    default=50,
    show_default=True,
    metavar="N",
    help="Events of a page.",
)
@json_option
@store_option
def trail(audit: str, page: int, per_page: int, as_json: bool) -> None:
    """Show what happened to an audit: when, by whom, what, details.

    The oldest first. Nothing of it can be changed.

    \b
    Example:
      scanstore audits trail 019ab0c4-3f6e-7d3c-9a43-2f1f7f0b7e11
    """
    with open_store() as store:
        found = store.audits.trail(audit, page=page, per_page=per_page)
        if as_json:
            say_json(found)
            return
        say(columns((each.to_dict()["created_at"], each.by, each.action, _told(each.detail)) for each in found.items))
        if found.pages > 1 or not found.items:
            note(f"page {found.page} of {found.pages}, {count(found.total, 'event')} in all")


def _told(detail: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in detail.items() if value is not None)
