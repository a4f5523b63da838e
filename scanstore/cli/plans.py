"""`scanstore plans`: proposed changes: create from a file, review, apply, revert.

A decision has a name to it, as those about findings have: that of --by, of $SCANSTORE_USER or of the login.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import click

from scanstore.cli.base import Failure, Group, json_option, open_store, store_option
from scanstore.cli.handlers import WHERE, load_object, passed_over
from scanstore.cli.output import columns, count, note, paragraph, plain_text, say, say_json
from scanstore.cli.streams import errors, is_terminal
from scanstore.cli.triage import by_option

if TYPE_CHECKING:
    from scanstore.plans.applying import Applied, Reverted
    from scanstore.plans.models import AnalysisPlan, ChangeCounts, PlanChange
    from scanstore.plans.preview import FieldPreview, Preview

ID = click.IntRange(min=1)
PLAN = click.argument("plan", metavar="PLAN", type=ID)
STATUSES = ("pending", "draft", "reviewing", "applied", "cancelled", "reverted")
CHANGE_STATUSES = ("pending", "approved", "rejected", "applied", "failed", "skipped", "reverted")
LONGEST = 60  # characters of a value on a line


@click.group(cls=Group)
@store_option
def plans() -> None:
    """Review proposed changes, apply them, take them back."""


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
                raise Failure(f"{name} line {number} is not a JSON object; write one proposal a line")
            yield each
    except UnicodeDecodeError:
        raise Failure(f"{name} is not UTF-8 text; write one proposal a line, as JSON") from None


@plans.command()
@click.argument("name")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--description", metavar="TEXT", help="What it is for.")
@json_option
@store_option
def create(name: str, file: IO[str], description: str | None, as_json: bool) -> None:
    """Create a plan from the proposals in FILE, for review. All of them, or none.

    A line of FILE ("-": stdin) is a JSON object with scene or finding (its id), field, action, proposed, and perhaps
    current and confidence (0 to 1).

    \b
    Example:
      echo '{"scene": "12", "field": "title", "action": "set", "proposed": "A"}' > new.jsonl
      scanstore plans create "tidy titles" new.jsonl
    """
    given = list(_proposals(file, file.name))
    with open_store(write=True) as store:
        with store.transaction():
            plan = store.plans.create(name, description=description)
            store.plans.propose_many(plan, given)
            plan = store.plans.submit(plan)
        say_json(plan) if as_json else say([_line(plan)])


@plans.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only those that are this.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@json_option
@store_option
def list_(status: str | None, limit: int | None, as_json: bool) -> None:
    """List plans: id, status, name, changes by status.

    The latest first.

    \b
    Example:
      scanstore plans list --status reviewing
    """
    with open_store() as store:
        found = store.plans.list(status=status, limit=limit)
        if as_json:
            say_json(found)
        elif found:
            say(columns((plan.id, plan.status, plan.name, _tally(plan.counts)) for plan in found))
        else:
            note("no plans here; make one with: scanstore plans create NAME FILE, or store.plans.create(name)")


@plans.command()
@PLAN
@click.option("--status", type=click.Choice(CHANGE_STATUSES, case_sensitive=False), help="Only changes that are this.")
@click.option("--field", metavar="FIELD", help="Only changes of this field.")
@click.option("--scene", metavar="ID", help="Only changes of this scene.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="At most so many."
)
@json_option
@store_option
def show(plan: int, status: str | None, field: str | None, scene: str | None, limit: int, as_json: bool) -> None:
    """Show a plan and its changes.

    Of each change: id, status, target, field, action, confidence, reviewer, error.

    \b
    Example:
      scanstore plans show 1 --status failed
    """
    with open_store() as store:
        row = store.plans.get(plan)
        found = store.plans.changes(row, status=status, field=field, scene=scene, limit=limit)
        if as_json:
            say_json({**row.to_dict(), "changes": found})
        else:
            say(_card(row, found))
            if len(found) == limit:
                note(f"the first {limit:,} changes; see more with --limit")


def _card(plan: AnalysisPlan, found: list[PlanChange]) -> Iterator[str]:
    yield click.style(plain_text(plan.name), bold=True)
    if plan.description:
        yield from paragraph(plan.description)
    times = plan.to_dict()
    facts = [("status", plan.status), ("changes", _tally(plan.counts))]
    facts += [(name, times[f"{name}_at"]) for name in ("submitted", "applied", "reverted") if times[f"{name}_at"]]
    facts += [("in use by", plan.process)] if plan.process else []
    yield from columns(facts, indent="  ")
    if found:
        yield ""
        yield from columns(
            (
                each.id, each.status, f"{each.target} {each.target_key}", each.field,
                f"{each.action} {_value(each.proposed_value)}",
                "" if each.confidence is None else f"{each.confidence:.2f}", each.reviewer or "", each.error or "",
            )
            for each in found
        )  # fmt: skip


def _value(value: object) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


@plans.command()
@PLAN
@click.option("--status", type=click.Choice(CHANGE_STATUSES, case_sensitive=False), help="Of changes that are this.")
@click.option("--scene", metavar="ID", help="Of this scene only.")
@json_option
@store_option
def preview(plan: int, status: str | None, scene: str | None, as_json: bool) -> None:
    """Show each scene and finding before and after the plan. Without --status: through its pending and approved
    changes.

    \b
    Example:
      scanstore plans preview 1 --status approved
    """
    with open_store() as store:
        found = store.plans.preview(plan, status=status, scene=scene)
        if as_json:
            say_json(found)
        elif found:
            say(line for each in found for line in _before_and_after(each))
        else:
            note(f"plan {plan} has nothing left to apply; see: scanstore plans show {plan}")


def _before_and_after(each: Preview) -> Iterator[str]:
    yield click.style(plain_text(f"{each.target} {each.key}  {each.title}".rstrip()), bold=True)
    if each.gone:
        yield "  it is gone, its changes will fail"
    yield from columns(((field.field, _step(field)) for field in each.fields), indent="  ")


def _step(field: FieldPreview) -> str:
    if isinstance(field.before, list):
        more = [f"+ {field.names.get(key, key)}" for key in field.after if key not in field.before]
        more += [f"- {field.names.get(key, key)}" for key in field.before if key not in field.after]
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
@click.option("--id", "ids", type=ID, multiple=True, metavar="CHANGE", help="This change; may be repeated.")
@click.option("--field", metavar="FIELD", help="Changes of this field.")
@click.option("--scene", metavar="ID", help="Changes of this scene.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), metavar="X", help="Changes at least so confident.")
@by_option
@json_option
@store_option
def review(
    plan: int,
    decision: str,
    ids: tuple[int, ...],
    field: str | None,
    scene: str | None,
    min_confidence: float | None,
    by: str,
    as_json: bool,
) -> None:
    """Approve or reject changes, or reset them to pending.

    Those that all of the options given fit; without any, all. The last decision counts. Applied, failed and skipped
    changes stay unchanged.

    \b
    Example:
      scanstore plans review 1 approve --min-confidence 0.8
      scanstore plans review 1 reject --field details
    """
    with open_store(write=True) as store:
        done = store.plans.review(
            plan, decision, ids=ids or None, field=field, scene=scene, min_confidence=min_confidence, by=by
        )
        if as_json:
            say_json(done)
        else:
            word = {"approve": "approved", "reject": "rejected"}.get(decision, "set back to pending")
            note(f"{count(done.changed, 'change')} {word}")
            say([_line(store.plans.get(plan))])


def _handler(place: str | None) -> Callable[[object], object] | None:
    """The function that the user has written."""
    if place is None:
        return None
    found = load_object(place, needs="function", give="MODULE:FUNCTION, such as remote:push")
    if not callable(found):
        module, _, name = place.partition(":")
        raise Failure(f"{place} is no function; write: def {name}(change): ...{passed_over(module)}")
    return found


HANDLER = click.option(
    "--handler", metavar="MODULE:FUNCTION", help=f"Called with each change first, to do the same elsewhere. {WHERE}"
)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], object] | None]:
    """A bar on stderr when that is a terminal; None otherwise."""
    if not is_terminal("stderr"):
        yield None
        return
    with click.progressbar(length=1, file=errors(), show_pos=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


def _ended(as_json: bool, outcome: Applied | Reverted, said: list[tuple[int, str]], plan: AnalysisPlan) -> None:
    """Print how it went; the exit code tells whether something was left out."""
    if as_json:
        say_json(outcome)
    else:
        say([f"{', '.join(f'{number:,} {what}' for number, what in said)}", _line(plan)])
        if sum(outcome[1:]):
            note(f"see why with: scanstore plans show {plan.id}")
    if sum(outcome[1:]):
        click.get_current_context().exit(1)


@plans.command()
@PLAN
@click.option("--id", "ids", type=ID, multiple=True, metavar="CHANGE", help="Only this change; may be repeated.")
@HANDLER
@click.option("--force", is_flag=True, help="Also where the value is not what a change was proposed for.")
@json_option
@store_option
def apply(plan: int, ids: tuple[int, ...], handler: str | None, force: bool, as_json: bool) -> None:
    """Apply the approved changes of a plan. Interrupted or killed, it goes on where it was when called again.

    Exits with 1 when changes failed, or were skipped because their value has changed.

    \b
    Example:
      scanstore plans apply 1
      scanstore plans apply 1 --handler remote:push
    """
    push = _handler(handler)
    with open_store(write=True) as store:
        with _progress() as progress:
            done = store.plans.apply(plan, ids=ids or None, handler=push, force=force, progress=progress)
        said = [(done.applied, "applied"), (done.skipped, "skipped"), (done.failed, "failed")]
        _ended(as_json, done, said, store.plans.get(plan))


@plans.command()
@PLAN
@click.option("--id", "ids", type=ID, multiple=True, metavar="CHANGE", help="Only this change; may be repeated.")
@json_option
@store_option
def retry(plan: int, ids: tuple[int, ...], as_json: bool) -> None:
    """Approve failed or skipped changes again, for the next apply.

    \b
    Example:
      scanstore plans retry 1
    """
    with open_store(write=True) as store:
        changed = store.plans.retry(plan, ids=ids or None)
        if as_json:
            say_json({"changed": changed})
        else:
            note(f"{count(changed, 'change')} approved again")
            say([_line(store.plans.get(plan))])


@plans.command()
@PLAN
@HANDLER
@click.option("--force", is_flag=True, help="Also if the value has changed since.")
@json_option
@store_option
def revert(plan: int, handler: str | None, force: bool, as_json: bool) -> None:
    """Revert the applied changes of a plan. Values that have changed since are kept.

    Ends with 1 when changes failed, or were kept.

    \b
    Example:
      scanstore plans revert 1
    """
    push = _handler(handler)
    with open_store(write=True) as store:
        with _progress() as progress:
            done = store.plans.revert(plan, handler=push, force=force, progress=progress)
        said = [(done.reverted, "reverted"), (done.kept, "kept"), (done.failed, "failed")]
        _ended(as_json, done, said, store.plans.get(plan))


@plans.command()
@PLAN
@json_option
@store_option
def submit(plan: int, as_json: bool) -> None:
    """Submit a plan that a script has built for review.

    \b
    Example:
      scanstore plans submit 1
    """
    with open_store(write=True) as store:
        row = store.plans.submit(plan)
        say_json(row) if as_json else say([_line(row)])


@plans.command()
@PLAN
@json_option
@store_option
def cancel(plan: int, as_json: bool) -> None:
    """Cancel a plan. Plans with applied changes must be reverted first.

    \b
    Example:
      scanstore plans cancel 1
    """
    with open_store(write=True) as store:
        row = store.plans.cancel(plan)
        say_json(row) if as_json else say([_line(row)])


@plans.command()
@PLAN
@json_option
@store_option
def remove(plan: int, as_json: bool) -> None:
    """Delete a plan. Applied changes stay and can no longer be reverted.

    \b
    Example:
      scanstore plans remove 1
    """
    with open_store(write=True) as store:
        store.plans.remove(plan)
        say_json({"removed": plan}) if as_json else say([f"Removed plan {plan}"])
