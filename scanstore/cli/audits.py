"""`scanstore audits`: audits of documents, with findings, verdicts, reviews and the trail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import (
    Column,
    Columns,
    Fact,
    card,
    count,
    dim,
    listing,
    paragraph,
    plain_text,
    shown,
    size,
    tell,
    window,
)
from scanstore.cli.triage import by_option

if TYPE_CHECKING:
    from scanstore.audits.audits import Analysis, AnalysisFinding, Task
    from scanstore.audits.models import AuditEvent
    from scanstore.db.words import AuditStatus, AuditVerdict, ReviewVerdict

STATUSES = ("queued", "processing", "completed", "failed", "cancelled")
VERDICTS = ("approved", "review", "rejected")

AUDIT = click.argument("audit", metavar="ID")
PER_PAGE = 1000


@group
def audits() -> None:
    """List, show and review audits of documents."""


@audits.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only audits with this status.")
@click.option("--verdict", type=click.Choice(VERDICTS, case_sensitive=False), help="Only audits with this verdict.")
@click.option("--user", metavar="USER", help="Only audits of this user: an address or an id.")
@rows_options("id", "status", "verdict", "score", "document", limit=50)
@basic_options
def list_(status: AuditStatus | None, verdict: AuditVerdict | None, user: str | None) -> None:
    """List audits: id, status, verdict, score, document.

    The newest come first. With --json, each audit has its analysis, or null.

    \b
    Example:
      scanstore audits list --verdict review
    """
    with open_store() as store:
        analyses: dict[str, Analysis] = {}
        columns: Columns[Task] = (
            "id",
            "status",
            Column("verdict", lambda row: analyses[row.id].verdict if row.id in analyses else None),
            Column(
                "score",
                lambda row: _score(analyses.get(row.id)),
                key=lambda row: analyses[row.id].compliance_score if row.id in analyses else None,
            ),
            Column("document", "original_filename"),
        )
        found = store.audits.list(user=user, status=status, verdict=verdict, **window(parts.models.Task, columns))
        analyses.update(store.audits.analyses(found))
        empty = none("audits", "add one with store.audits.add(user, filename, size)")
        listing(found, columns, empty, data=lambda row: row.to_dict() | {"analysis": analyses.get(row.id)})


def _score(analysis: Analysis | None) -> str:
    return "" if analysis is None or analysis.compliance_score is None else f"{analysis.compliance_score:g}"


@audits.command()
@AUDIT
@basic_options
def show(audit: str) -> None:
    """Show an audit, its analysis, and its findings with their evidence.

    ID is the id of the audit or of its analysis.

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
        card(
            {**row.to_dict(), "analysis": analysis, "findings": found},
            f"{row.original_filename}, {size(row.file_size)}: {row.status}",
            [*_task_facts(row), *([] if analysis is None else _analysis_facts(analysis, found))],
            (count(len(found), "finding"), _finding_lines(found)),
        )


def _task_facts(row: Task) -> list[Fact]:
    return [
        ("audit", row.id),
        ("user", row.user_id),
        ("kept at", row.file_path),
        ("added", row.created_at),
        ("lost leases", row.lost_count or None),
        ("worker", row.worker),
        ("over", row.completed_at),
        ("error", row.error_message),
    ]


def _analysis_facts(row: Analysis, found: list[AnalysisFinding]) -> list[Fact]:
    person = None if row.reviewed_by is None else f"{row.verdict} by {row.reviewed_by}, {shown(row.reviewed_at)}"
    return [
        ("analysis", row.id),
        ("equipment", _joined(row.equipment_type, row.equipment_tag)),
        ("test", row.test_type),
        ("verdict", row.verdict),
        ("score", _score(row)),
        ("confidence", None if row.confidence_score is None else f"{row.confidence_score:g}"),
        ("machine", f"{row.machine_verdict} by {row.policy}"),
        ("person", None if person is None else f"{person}: {row.review_reason}"),
        ("findings", None if found else "none"),
    ]


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _finding_lines(found: list[AnalysisFinding]) -> Iterator[str]:
    import json

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
@click.option("--reason", "-r", metavar="TEXT", required=True, help="The reason.")
@by_option
@basic_options
@kept()
def review(audit: str, verdict: ReviewVerdict, reason: str, by: str) -> None:
    """Approve or reject an audit, with a reason.

    The verdict of the machine is kept. You can change the decision later; the trail has both.

    \b
    Example:
      scanstore audits review 019ab0c4-3f6e-7d3c-9a43-2f1f7f0b7e11 approved --reason "measured again, 0.4 ohm"
    """
    with open_store(write=True) as store:
        row = store.audits.review(audit, verdict, by=by, reason=reason)
        tell(
            row,
            f"Audit {row.task_id}: {row.verdict} by {row.reviewed_by}; the machine verdict is {row.machine_verdict}",
        )


@audits.command()
@AUDIT
@rows_options("time", "by", "action", "detail")
@basic_options
def trail(audit: str) -> None:
    """Show the trail of an audit: time, author, action, details.

    The oldest events come first. Events cannot be changed.

    \b
    Example:
      scanstore audits trail 019ab0c4-3f6e-7d3c-9a43-2f1f7f0b7e11
    """
    with open_store() as store:
        events: list[AuditEvent] = []
        page = store.audits.trail(audit, per_page=PER_PAGE)
        while page.items:
            events += page.items
            page = store.audits.trail(audit, page=page.page + 1, per_page=PER_PAGE)
        listing(events, EVENTS)


def _detail(event: AuditEvent) -> str:
    return ", ".join(f"{name} {value}" for name, value in event.detail.items() if value is not None)


EVENTS: Columns[AuditEvent] = (Column("time", "created_at"), "by", "action", Column("detail", _detail))
