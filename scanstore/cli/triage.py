"""`scanstore findings`, the decisions: statuses, comments, suppressions and their history.

Every decision has a name to it: that of --by, of $SCANSTORE_USER or of the login.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import Failure, Misuse, basic_options, find_target, named_target, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import (
    Column,
    Columns,
    aside,
    caution,
    count,
    listing,
    row_limit,
    shown,
    tell,
    wants_json,
)

if TYPE_CHECKING:
    from datetime import datetime

    from scanstore.db.words import FindingStatus
    from scanstore.findings.models import Finding, FindingEvent, Suppression
    from scanstore.store import Store

STATUSES = ("open", "confirmed", "false_positive", "ignored", "fixed")
ID = click.IntRange(min=1)
UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def _author(_: click.Context, __: click.Parameter, value: str | None) -> str:
    if value is None:
        value = os.environ.get("SCANSTORE_USER") or None
    if value is None:
        import getpass

        try:
            value = getpass.getuser()
        except (KeyError, OSError, ImportError):
            raise Misuse("this login has no name; give the author with --by NAME") from None
    return value


#: `--by`, as the argument `by`, which always has a value.
by_option = click.option(
    "--by", metavar="NAME", callback=_author, help="Name of the author. [default: $SCANSTORE_USER, else your login]"
)


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """The end of a day, so much time from now, or an exact time."""
    if value is None:
        return None
    from datetime import UTC, date, datetime, time, timedelta

    if span := re.fullmatch(r"([0-9]{1,4})([hdw])", value.strip()):
        return datetime.now(UTC) + timedelta(**{UNITS[span[2]]: int(span[1])})
    exact: datetime | None
    try:
        exact = datetime.combine(date.fromisoformat(value.strip()), time(23, 59, 59, 999_000), UTC)
    except ValueError:
        try:
            exact = datetime.fromisoformat(value.strip())
        except ValueError:
            exact = None
    if exact is None or exact.tzinfo is None:
        raise click.BadParameter(f"{value!r} is no time; write 2027-01-31, 30d, 12h or 2027-01-31T12:00:00Z")
    if exact <= datetime.now(UTC):
        raise Failure(f"--expires is {value}, which is in the past; give a later time")
    return exact


@click.command()
@click.argument("findings", metavar="ID...", type=ID, nargs=-1, required=True)
@click.argument("status", metavar="STATUS", type=click.Choice(STATUSES, case_sensitive=False))
@click.option("--reason", "-r", metavar="TEXT", help="The reason.")
@by_option
@basic_options
@kept()
def triage(findings: tuple[int, ...], status: FindingStatus, reason: str | None, by: str) -> None:
    """Set the status of findings: of all of them or none.

    STATUS is open, confirmed, false_positive, ignored or fixed. Later scans keep it, but a fixed finding is reopened
    when a tool reports it again.

    \b
    Example:
      scanstore findings triage 3 4 false_positive --reason "the name is checked before"
    """
    with open_store(write=True) as store:
        with store.transaction():
            before = {key: store.findings.get(key).status for key in findings}
            said = {key: len(store.findings.history(key)) for key in before}
            rows = [store.findings.triage(key, status, by=by, reason=reason) for key in before]
            said = {key: len(store.findings.history(key)) - count for key, count in said.items()}
        for row in rows:
            if not said[row.id]:
                lost = "" if reason is None else ", and the reason was not kept; see: scanstore findings comment"
                caution(f"finding {row.id} is {before[row.id]} already{lost}")
        step: Column[Finding] = Column("status", lambda row: f"{before[row.id]} -> {row.status}")
        listing([row for row in rows if said[row.id] or wants_json()], ("id", step, "title"))


@click.command()
@click.argument("finding", metavar="ID", type=ID)
@click.argument("text")
@by_option
@basic_options
@kept()
def comment(finding: int, text: str, by: str) -> None:
    """Add a comment to the history of a finding.

    \b
    Example:
      scanstore findings comment 3 "only the tests call this"
    """
    with open_store(write=True) as store:
        made = store.findings.comment(finding, text, by=by)
        tell(made, f"Added a comment of {made.by} to finding {finding}")


@click.command()
@click.argument("finding", metavar="ID", type=ID)
@rows_options("time", "by", "decision", "reason")
@basic_options
def history(finding: int) -> None:
    """Show the decisions and comments about a finding: time, author, decision, reason.

    \b
    Example:
      scanstore findings history 3
    """
    with open_store() as store:
        columns: Columns[FindingEvent] = (
            Column("time", "created_at"), "by", Column("decision", _decision), Column("reason", "note"),
        )  # fmt: skip
        found = store.findings.history(finding, limit=row_limit())
        listing(found, columns, f"nothing was decided about finding {finding} yet")


def _decision(event: FindingEvent) -> str:
    return f"{event.from_status} -> {event.to_status}" if event.action == "status" else str(event.action)


# Suppressions


@click.command()
@click.argument("findings", metavar="[ID]...", type=ID, nargs=-1)
@click.option("--rule", metavar="RULE", help="Hide the findings of this rule, instead of single findings.")
@click.option("--tool", metavar="TOOL", help="Only findings of this tool.")
@click.option("--path", metavar="PATTERN", help="Only findings in files that match PATTERN, as in .gitignore.")
@click.option("--target", metavar="TARGET", help="The target. [default: the target of the current folder]")
@click.option("--reason", "-r", metavar="TEXT", required=True, help="The reason.")
@click.option(
    "--expires", metavar="WHEN", callback=_moment,
    help="End of the suppression: a day (2027-01-31) or a span (30d, 12h, 4w).",
)  # fmt: skip
@by_option
@basic_options
@kept()
def suppress(
    findings: tuple[int, ...],
    rule: str | None,
    tool: str | None,
    path: str | None,
    target: str | None,
    reason: str,
    expires: datetime | None,
    by: str,
) -> None:
    """Hide findings, or all findings of a rule. Their status stays.

    An expired suppression hides nothing; lists and reports say that it has expired. Days are in UTC, and the last day
    is included.

    \b
    Example:
      scanstore findings suppress 3 --reason "gone with the rewrite" --expires 30d
      scanstore findings suppress --rule B101 --tool Bandit --path tests/ --reason "tests may assert"
    """
    if bool(findings) == (rule is not None):
        raise click.UsageError("Give the ids of findings, or --rule.")
    if findings and (tool is not None or path is not None or target is not None):
        raise click.UsageError("--tool, --path and --target go with --rule.")
    with open_store(write=True) as store:
        suppress = partial(store.findings.suppress, reason=reason, by=by, expires=expires)
        with store.transaction():
            if rule is None:
                made = [suppress(key) for key in dict.fromkeys(findings)]
            else:
                target = find_target(store) if target is None else named_target(store, target) or target
                made = [suppress(rule=rule, tool=tool, path=path, target=target)]
        listing(made, SUPPRESSIONS)
        if rule is not None:
            aside(f"{count(_hidden(store, made[0]), 'finding')} hidden by it now")


def _hidden(store: Store, made: Suppression) -> int:

    models = parts.models
    likely = models.Finding.select().where(
        models.Finding.lineage == made.lineage_id,
        models.Finding.rule_id == made.rule_id,
        models.Finding.status != "fixed",
    )
    return sum(each.id == made.id for each in store.findings.suppressed(list(likely)).values())


@click.command()
@click.argument("suppressions", metavar="SUPPRESSION...", type=ID, nargs=-1, required=True)
@by_option
@basic_options
@kept()
def unsuppress(suppressions: tuple[int, ...], by: str) -> None:
    """Lift suppressions by their ids. The findings they hid are shown again.

    \b
    Example:
      scanstore findings unsuppress 2
    """
    with open_store(write=True) as store:
        with store.transaction():
            rows = [store.findings.unsuppress(key, by=by) for key in dict.fromkeys(suppressions)]
        listing(rows, SUPPRESSIONS)


@click.command("suppressions")
@click.option("--target", metavar="TARGET", help="Only suppressions of this target.")
@click.option("--all", "lifted", is_flag=True, help="Include lifted suppressions.")
@rows_options("id", "state", "scope", "end", "by", "reason")
@basic_options
def list_suppressions(target: str | None, lifted: bool) -> None:
    """List suppressions: id, active or expired, scope, end, author, reason.

    \b
    Example:
      scanstore findings suppressions --target src --all
    """
    with open_store() as store:
        found = store.findings.suppressions(None if target is None else named_target(store, target) or target)
        listing([row for row in found if lifted or row.state != "lifted"], SUPPRESSIONS, "nothing is suppressed")


def _scope(row: Suppression) -> str:
    if row.finding_id is not None:
        return f"finding {row.finding_id}"
    rule = f"{row.tool}: {row.rule_id}" if row.tool else f"{row.rule_id}"
    return f"{rule} in {row.path_pattern}" if row.path_pattern else rule


def _end(row: Suppression) -> str:
    if row.lifted_at is not None:
        by = "" if row.lifted_by is None else f" by {row.lifted_by}"
        return f"lifted {shown(row.lifted_at)}{by}"
    return f"until {shown(row.expires_at)}" if row.expires_at is not None else "for good"


SUPPRESSIONS: Columns[Suppression] = (
    "id",
    "state",
    Column("scope", _scope),
    Column("end", _end, key=lambda row: row.lifted_at or row.expires_at),
    "by",
    Column("reason", "justification"),
)


def hidden_by(row: Suppression | None) -> str:
    """What a list of findings says about a finding that a suppression is about."""
    if row is None:
        return ""
    if row.expired:
        return f"suppression {row.id} expired {shown(row.expires_at)}: {row.justification}"
    end = "" if row.expires_at is None else f" until {shown(row.expires_at)}"
    return f"suppressed{end}: {row.justification}"


COMMANDS = (triage, comment, history, suppress, unsuppress, list_suppressions)
