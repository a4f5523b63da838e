"""`scanstore findings`: list, show and compare findings; `triage` has the decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from scanstore import parts
from scanstore.cli.absence import known_tool, narrowed, reported_file
from scanstore.cli.base import (
    basic_options,
    common,
    find_pair,
    find_scan,
    group,
    is_one_scan,
    open_store,
    recorded_path,
    rows_options,
    target_option,
)
from scanstore.cli.drafts import FOUND, SEVERITIES, found_columns, percent, place_of, vote_section, votes_json
from scanstore.cli.output import Column, Fact, card, listing, note, plain_text, window
from scanstore.cli.report import warn
from scanstore.cli.triage import COMMANDS, STATUSES, hidden_by

if TYPE_CHECKING:
    from scanstore.db.words import FindingState
    from scanstore.findings.models import Finding, Suppression
    from scanstore.snapshots.models import Scan

STATES = ("new", "unchanged", "updated", "reopened", "fixed")
CHANGES = (*STATES, "not_checked")
SHOWN: tuple[FindingState, ...] = ("new", "reopened", "updated", "fixed")  # changes that `diff` lists


@group
def findings() -> None:
    """List, show and triage findings."""


@findings.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only findings with this status.")
@click.option("--severity", type=click.Choice(SEVERITIES, case_sensitive=False), help="Only findings of this severity.")
@click.option("--file", metavar="FILE", help="Only findings in this file of the scan.")
@click.option(
    "--state", type=click.Choice(CHANGES, case_sensitive=False),
    help="Only findings in this state since the previous run.",
)  # fmt: skip
@click.option("--tool", metavar="TOOL", help="Only findings of this tool.")
@click.option("--rule", metavar="RULE", help="Only findings of this rule.")
@click.option("--cwe", metavar="CWE", help="Only findings with this CWE, such as CWE-79 or 79.")
@click.option("--suppressed/--not-suppressed", default=None, help="Only suppressed findings, or only the others.")
@rows_options(*FOUND, "suppression")
@common
def list_(file: str | None, scan: str | None, **only: Any) -> None:
    """List the findings of a target, the most severe first.

    The findings of all tools are listed; --scan ID lists only those that this scan saw. The target is by default that
    of the current folder. The column suppression shows the reason of an active or expired suppression. --state fixed
    lists fixed findings. Failed tools are named on stderr.

    \b
    Example:
      scanstore findings list --status open --severity critical
    """
    with open_store() as store:
        where = find_scan(store, scan, findings=True)
        path = None if file is None else recorded_path(where, file)
        held: dict[int, Suppression] = {}
        columns = (*found_columns(where), _hidden_column(held))
        only |= window(parts.models.Finding, columns)
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
        held.update(store.findings.suppressed(found))
        place = f"scan {where.id}" + ("" if is_one_scan(scan) else f" or before, of {where.target}")
        listing(
            found,
            columns,
            f"no findings {'like that ' if narrowed() else ''}in {place}",
            data=lambda row: {**row.to_dict(), "state": row.state, "suppression": held.get(row.id)},
        )


def _hidden_column(held: Mapping[int, Suppression]) -> Column[Finding]:
    return Column("suppression", lambda row: hidden_by(held.get(row.id)))


@findings.command()
@click.argument("finding", metavar="ID", type=click.IntRange(min=1))
@basic_options
def show(finding: int) -> None:
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
        by = "" if draft is None else ", ".join(map(str, draft.source_models))
        origin = [] if draft is None else [plain_text(f"from draft {draft.id}{f', reported by {by}' if by else ''}")]
        rest = {"verified": verified, "draft": draft, "votes": votes_json(votes), "suppression": held}
        card(
            {**row.to_dict(), **rest},
            row.title,
            _facts(row, None if row.scan_id is None else store.scans.get(row.scan_id), held),
            ("message", row.message),
            ("snippet", row.snippet),
            ("details", row.vulnerability_details),
            ("proof of concept", row.proof_of_concept),
            ("remediation", row.remediation_steps),
            ("references", row.references),
            ("attack vector", "" if verified is None else verified.attack_vector),
            ("data flow", "" if verified is None else verified.data_flow),
            ("", origin),
            vote_section(votes),
        )


@findings.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option(
    "--change", "wanted", multiple=True, type=click.Choice(CHANGES, case_sensitive=False),
    help="Only findings with this change; repeatable. [default: new, reopened, updated, fixed]",
)  # fmt: skip
@rows_options("id", "change", *FOUND[1:], "suppression")
@target_option
@basic_options
def diff(a: str | None, b: str | None, wanted: tuple[FindingState, ...]) -> None:
    """Compare the findings of two scans: new, reopened, updated, fixed.

    A finding of A is not_checked if no later scan looked for it. B is by default the latest scan of A's target that
    looked for findings. Without A, the latest such scan is compared with the one before the last run of its tools.

    \b
    Example:
      scanstore findings diff 1 2
    """
    with open_store() as store:
        first, second = find_pair(store, a, b, findings=True)
        found = store.findings.diff(first, second)
        rows = [row for name in wanted or SHOWN for row in getattr(found, name)]
        names = {row.id: name for name, part in found._asdict().items() for row in part}
        held = store.findings.suppressed(rows)
        change: Column[Finding] = Column("change", lambda row: names[row.id])
        listing(
            rows,
            (change, *found_columns(second), _hidden_column(held)),
            data=lambda row: {**row.to_dict(), "change": names[row.id], "suppression": held.get(row.id)},
        )
        warn(store.findings.troubles(scan=second))
        counts = ", ".join(f"{len(rows):,} {name.replace('_', ' ')}" for name, rows in found._asdict().items())
        note(f"from scan {first.id} to scan {second.id}: {counts}")


def _facts(row: Finding, scan: Scan | None, held: Suppression | None) -> list[Fact]:
    score = "" if row.cvss_score is None else f"{row.cvss_score:.1f}"
    return [
        ("where", _place(row) if scan is None else place_of(row, scan)),
        ("severity", row.severity),
        ("status", row.status),
        ("suppression", hidden_by(held)),
        ("rule", None if row.tool == "scanstore" else f"{row.tool}: {row.rule_id}"),
        ("type", row.vulnerability_type),
        ("CWE", row.cwe),
        ("CVSS", " ".join(filter(None, (score, row.cvss_vector)))),
        ("confidence", percent(row.confidence)),
        ("published", row.created_at),
        ("id", str(row.id) if scan is None else f"{row.id} in scan {scan.id}"),
    ]


def _place(row: Finding) -> str:
    """Where it was, when no scan is left that saw it."""
    return str(row.file_path) if row.line_number is None else f"{row.file_path}:{row.line_number}"


for _command in COMMANDS:
    findings.add_command(_command)
