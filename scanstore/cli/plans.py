"""`scanstore plans`: proposed changes: create from a file, review, apply, revert.

A decision has a name to it, as those about findings have: that of --by, of $SCANSTORE_USER or of the login.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import Failure, basic_options, db_option, group, limit_option, open_store, rows_options
from scanstore.cli.handlers import WHERE, load_object, passed_over
from scanstore.cli.interrupts import NOTHING, finish, keep, kept
from scanstore.cli.output import (
    Column,
    Columns,
    Fact,
    aligned,
    aside,
    card,
    caution,
    count,
    listing,
    plain_text,
    table,
    tell,
    window,
)
from scanstore.cli.progress import progress
from scanstore.cli.triage import by_option

if TYPE_CHECKING:
    from scanstore.db.words import ChangeField, ChangeStatus, PlanDecision, PlanStatus
    from scanstore.plans.applying import Applied, Reverted
    from scanstore.plans.models import AnalysisPlan, ChangeCounts, PlanChange
    from scanstore.plans.preview import FieldPreview, Preview
    from scanstore.plans.proposals import ProposalRecord

ID = click.IntRange(min=1)
PLAN = click.argument("plan", metavar="PLAN", type=ID)
STATUSES = ("pending", "draft", "reviewing", "applied", "cancelled", "reverted")
CHANGE_STATUSES = ("pending", "approved", "rejected", "applied", "failed", "skipped", "reverted")
LONGEST = 60  # characters of a value on a line


@group
def plans() -> None:
    """Review, apply and revert proposed changes."""


def _tally(counts: ChangeCounts | None) -> str:
    said = [f"{number:,} {status}" for status, number in (counts._asdict() if counts else {}).items() if number]
    return ", ".join(said) or "no changes"


def _line(plan: AnalysisPlan) -> str:
    return plain_text(f"Plan {plan.id} {plan.name!r} is {plan.status}: {_tally(plan.counts)}")


def _proposals(file: Iterable[str], name: str) -> Iterator[dict[str, object]]:
    import json

    try:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                each = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Failure(f"{name} line {number} is not JSON: {error}") from None
            if not isinstance(each, dict):
                raise Failure(f"{name} line {number} is not a JSON object; write one proposal per line")
            yield each
    except UnicodeDecodeError:
        raise Failure(f"{name} is not UTF-8 text; write one proposal per line, as JSON") from None


@plans.command()
@click.argument("name")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--description", metavar="TEXT", help="The purpose of the plan.")
@basic_options
@kept()
def create(name: str, file: IO[str], description: str | None) -> None:
    """Create a plan from the proposals in FILE, for review. All proposals are taken, or none.

    Each line of FILE (- is standard input) is a JSON object with scene or finding (its id), field, action and
    proposed. It may also have current and confidence (0 to 1).

    \b
    Example:
      echo '{"scene": "12", "field": "title", "action": "set", "proposed": "A"}' > new.jsonl
      scanstore plans create "tidy titles" new.jsonl
    """
    given = cast("list[ProposalRecord]", list(_proposals(file, file.name)))  # checked where they are proposed
    with open_store(write=True) as store:
        with store.transaction():
            plan = store.plans.add(name, description=description)
            store.plans.propose_many(plan, given)
            plan = store.plans.submit(plan)
        tell(plan, _line(plan))


@plans.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only plans with this status.")
@rows_options("id", "status", "name", "changes")
@basic_options
def list_(status: PlanStatus | None) -> None:
    """List plans: id, status, name, changes by status.

    The newest plan comes first.

    \b
    Example:
      scanstore plans list --status reviewing
    """
    with open_store() as store:
        columns: Columns[AnalysisPlan] = (
            "id",
            "status",
            "name",
            Column("changes", lambda plan: _tally(plan.counts), key=lambda plan: sum(plan.counts or ())),
        )
        hint = "make one with: scanstore plans create NAME FILE, or store.plans.add(name)"
        found = store.plans.list(status=status, **window(parts.models.AnalysisPlan, columns))
        listing(found, columns, none("plans", hint))


@plans.command()
@PLAN
@click.option(
    "--status", type=click.Choice(CHANGE_STATUSES, case_sensitive=False),
    help="Only changes with this status.",
)  # fmt: skip
@click.option("--field", metavar="FIELD", help="Only changes of this field.")
@click.option("--scene", metavar="ID", help="Only changes of this scene.")
@rows_options("id", "status", "target", "field", "action", "confidence", "reviewer", "error")
@basic_options
def changes(plan: int, status: ChangeStatus | None, field: ChangeField | None, scene: str | None) -> None:
    """List the changes of a plan.

    \b
    Example:
      scanstore plans changes 1 --status pending --sort -confidence
    """
    with open_store() as store:
        only = window(parts.models.PlanChange, CHANGES)
        found = store.plans.changes(plan, status=status, field=field, scene=scene, **only)
        listing(found, CHANGES, none("changes", "propose some with: store.plans.propose_many(plan, changes)"))


@plans.command()
@PLAN
@click.option(
    "--status", type=click.Choice(CHANGE_STATUSES, case_sensitive=False),
    help="Only changes with this status.",
)  # fmt: skip
@click.option("--field", metavar="FIELD", help="Only changes of this field.")
@click.option("--scene", metavar="ID", help="Only changes of this scene.")
@limit_option(50)
@basic_options
def show(plan: int, status: ChangeStatus | None, field: ChangeField | None, scene: str | None, limit: int) -> None:
    """Show a plan and its changes.

    Each change is a line: id, status, target, field, action, confidence, reviewer, error.

    \b
    Example:
      scanstore plans show 1 --status failed
    """
    with open_store() as store:
        row = store.plans.get(plan)
        found = store.plans.changes(row, status=status, field=field, scene=scene, limit=limit)
        card(
            {**row.to_dict(), "changes": found},
            row.name,
            _facts(row),
            ("description", row.description or ""),
            ("", table(found, CHANGES)),
        )
        if len(found) == limit:
            caution(f"the first {limit:,} changes; see all with: scanstore plans changes {row.id}")


def _facts(plan: AnalysisPlan) -> list[Fact]:
    return [
        ("status", plan.status),
        ("changes", _tally(plan.counts)),
        ("submitted", plan.submitted_at),
        ("applied", plan.applied_at),
        ("reverted", plan.reverted_at),
        ("in use by", plan.process),
    ]


def _value(value: object) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


CHANGES: Columns[PlanChange] = (
    "id",
    "status",
    Column("target", lambda change: f"{change.target} {change.target_key}"),
    "field",
    Column("action", lambda change: f"{change.action} {_value(change.proposed_value)}"),
    Column(
        "confidence",
        lambda change: "" if change.confidence is None else f"{change.confidence:.2f}",
        right=True,
        key="confidence",
    ),
    "reviewer",
    "error",
)


@plans.command()
@PLAN
@click.option(
    "--status", type=click.Choice(CHANGE_STATUSES, case_sensitive=False),
    help="Only changes with this status.",
)  # fmt: skip
@click.option("--scene", metavar="ID", help="Only changes of this scene.")
@basic_options
def preview(plan: int, status: ChangeStatus | None, scene: str | None) -> None:
    """Show each scene and finding before and after the plan. Without --status, the pending and approved changes are
    shown.

    \b
    Example:
      scanstore plans preview 1 --status approved
    """
    with open_store() as store:
        found = store.plans.preview(plan, status=status, scene=scene)
        lines = (line for each in found for line in _before_and_after(each))
        tell(found, lines, f"plan {plan} has nothing left to apply; see: scanstore plans show {plan}")


def _before_and_after(each: Preview) -> Iterator[str]:
    yield click.style(plain_text(f"{each.target} {each.key}  {each.title}".rstrip()), bold=True)
    if each.gone:
        yield "  it is gone, its changes will fail"
    yield from aligned(((field.field, _step(field)) for field in each.fields), indent="  ")


def _step(field: FieldPreview) -> str:
    before, after = field.before, field.after
    if isinstance(before, list) and isinstance(after, list):
        more = [f"+ {field.names.get(str(key), str(key))}" for key in after if key not in before]
        more += [f"- {field.names.get(str(key), str(key))}" for key in before if key not in after]
        step = ", ".join(more) or "as it is"
    elif field.before == field.after:
        step = "as it is"
    else:
        step = " -> ".join(
            _value(field.names.get(value, value) if isinstance(value, str) else value)
            for value in (field.before, field.after)
        )
    if field.conflicts:
        step += f"  (conflict: change {', '.join(map(str, field.conflicts))} was proposed for another value)"
    return step


@plans.command()
@PLAN
@click.argument("decision", type=click.Choice(("approve", "reject", "reset"), case_sensitive=False))
@click.option("--id", "ids", type=ID, multiple=True, metavar="CHANGE", help="This change; repeatable.")
@click.option("--field", metavar="FIELD", help="Changes of this field.")
@click.option("--scene", metavar="ID", help="Changes of this scene.")
@click.option(
    "--min-confidence", type=click.FloatRange(0, 1), metavar="X",
    help="Changes with at least this confidence.",
)  # fmt: skip
@by_option
@basic_options
@kept()
def review(
    plan: int,
    decision: PlanDecision,
    ids: tuple[int, ...],
    field: ChangeField | None,
    scene: str | None,
    min_confidence: float | None,
    by: str,
) -> None:
    """Approve or reject changes, or reset them to pending.

    The options select the changes that match all of them. Without options, all changes are selected. A later decision
    replaces an earlier one. Applied, failed and skipped changes stay unchanged.

    \b
    Example:
      scanstore plans review 1 approve --min-confidence 0.8
      scanstore plans review 1 reject --field details
    """
    with open_store(write=True) as store:
        done = store.plans.review(
            plan, decision, ids=ids or None, field=field, scene=scene, min_confidence=min_confidence, by=by
        )
        word = {"approve": "approved", "reject": "rejected"}.get(decision, "set back to pending")
        tell(done, [f"{count(done.changed, 'change')} {word}", _line(store.plans.get(plan))])


def _handler(place: str | None) -> Callable[[object], object] | None:
    """The function that the user has written."""
    if place is None:
        return None
    found = load_object(place, needs="function", give="MODULE:FUNCTION, such as remote:push")
    if not callable(found):
        module, _, name = place.partition(":")
        raise Failure(f"{place} is not a function; write: def {name}(change): ...{passed_over(module)}")
    return found


HANDLER = click.option(
    "--handler",
    metavar="MODULE:FUNCTION",
    help=f"Function that is called with each change first, to change another system too. {WHERE}",
)


def _ended(outcome: Applied | Reverted, said: list[tuple[int, str]], plan: AnalysisPlan) -> None:
    """Print how it went; the exit code tells whether something was left out."""
    tell(outcome, [", ".join(f"{number:,} {what}" for number, what in said), _line(plan)])
    if sum(outcome[1:]):
        aside(f"see why with: scanstore plans show {plan.id}")
        click.get_current_context().exit(1)


@contextmanager
def _counted(plan: int, doing: str, verb: str) -> Iterator[Callable[[int, int], object]]:
    """Show the progress of a plan, and say after an interrupt how far it got."""
    processed = 0
    again = f"continue with: scanstore plans {verb} {plan}{db_option()}"
    keep(lambda: f"{count(processed, 'change')} of plan {plan} processed; {again}")
    with progress(f"{doing} plan {plan}", "changes") as display:

        def told(done: int, total: int) -> None:
            nonlocal processed
            processed = done
            if display is not None:
                display(done, total)

        yield told
    keep(NOTHING)
    finish()


@plans.command()
@PLAN
@click.option("--id", "ids", type=ID, multiple=True, metavar="CHANGE", help="Only this change; repeatable.")
@HANDLER
@click.option("--force", is_flag=True, help="Also overwrite values that have changed since the proposal.")
@basic_options
@kept()
def apply(plan: int, ids: tuple[int, ...], handler: str | None, force: bool) -> None:
    """Apply the approved changes of a plan. After an interrupt, the same command continues.

    The exit code is 1 if changes failed, or were skipped because their value has changed.

    \b
    Example:
      scanstore plans apply 1
      scanstore plans apply 1 --handler remote:push
    """
    push = _handler(handler)
    with open_store(write=True) as store:
        with _counted(plan, "Applying", "apply") as told:
            done = store.plans.apply(plan, ids=ids or None, handler=push, force=force, progress=told)
        said = [(done.applied, "applied"), (done.skipped, "skipped"), (done.failed, "failed")]
        _ended(done, said, store.plans.get(plan))


@plans.command()
@PLAN
@click.option("--id", "ids", type=ID, multiple=True, metavar="CHANGE", help="Only this change; repeatable.")
@basic_options
@kept()
def retry(plan: int, ids: tuple[int, ...]) -> None:
    """Approve failed or skipped changes again, for the next apply.

    \b
    Example:
      scanstore plans retry 1
    """
    with open_store(write=True) as store:
        changed = store.plans.retry(plan, ids=ids or None)
        said = [f"{count(len(changed), 'change')} approved again", _line(store.plans.get(plan))]
        tell({"changed": len(changed)}, said)


@plans.command()
@PLAN
@HANDLER
@click.option("--force", is_flag=True, help="Also revert values that have changed since.")
@basic_options
@kept()
def revert(plan: int, handler: str | None, force: bool) -> None:
    """Revert the applied changes of a plan. Values that have changed since are kept.

    The exit code is 1 if changes failed or values were kept.

    \b
    Example:
      scanstore plans revert 1
    """
    push = _handler(handler)
    with open_store(write=True) as store:
        with _counted(plan, "Reverting", "revert") as told:
            done = store.plans.revert(plan, handler=push, force=force, progress=told)
        said = [(done.reverted, "reverted"), (done.kept, "kept"), (done.failed, "failed")]
        _ended(done, said, store.plans.get(plan))


@plans.command()
@PLAN
@basic_options
@kept()
def submit(plan: int) -> None:
    """Submit a plan that a script has built for review.

    \b
    Example:
      scanstore plans submit 1
    """
    with open_store(write=True) as store:
        row = store.plans.submit(plan)
        tell(row, _line(row))


@plans.command()
@PLAN
@basic_options
@kept()
def cancel(plan: int) -> None:
    """Cancel a plan. Plans with applied changes must be reverted first.

    \b
    Example:
      scanstore plans cancel 1
    """
    with open_store(write=True) as store:
        row = store.plans.cancel(plan)
        tell(row, _line(row))


@plans.command()
@PLAN
@basic_options
@kept()
def remove(plan: int) -> None:
    """Remove a plan. Applied changes stay and can no longer be reverted.

    \b
    Example:
      scanstore plans remove 1
    """
    with open_store(write=True) as store:
        store.plans.remove(plan)
        tell({"removed": plan}, f"Removed plan {plan}")
