"""`scanstore jobs`: add, list, cancel, retry and remove jobs, and run a worker.

The work itself is code of the user's: a module with a mapping of job types to functions, imported by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import Failure, Misuse, basic_options, group, open_store, rows_options
from scanstore.cli.handlers import WHERE, load_object, passed_over
from scanstore.cli.interrupts import INTERRUPTED, keep, kept
from scanstore.cli.output import (
    Column,
    Columns,
    Fact,
    aside,
    card,
    count,
    listing,
    note,
    plain_text,
    say,
    shown,
    table,
    tell,
    wants_json,
    window,
)
from scanstore.cli.streams import flush

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from scanstore.jobs.jobs import Job
    from scanstore.jobs.worker import Handler
    from scanstore.store import Store

STATUSES = ("pending", "running", "cancelling", "completed", "failed", "cancelled")


@group
def jobs() -> None:
    """Queue, watch and run background jobs."""


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter(f"{value!r} is no time with its zone; write 2026-11-22T03:00:00Z")
    return moment


def _span(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    from scanstore.db.spans import span  # start-up of the command line
    from scanstore.errors import InvalidArgument  # start-up of the command line

    try:
        return span(value)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from None


def _object(_: click.Context, __: click.Parameter, value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    import json

    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.BadParameter('give a JSON object, such as \'{"path": "src"}\'')
    return found


@jobs.command()
@click.argument("type")
@click.option("--meta", metavar="JSON", callback=_object, help="Input of the job, a JSON object.")
@click.option("--unique", metavar="KEY", help="Refuse the job while one with this key is unfinished.")
@click.option("--group", "exclusive_group", metavar="NAME", help="Only one job of a group runs at a time.")
@click.option("--parent", metavar="ID", help="The job of which it is a part.")
@click.option("--scene", "scenes", metavar="ID", multiple=True, help="A scene that the job is about; repeatable.")
@click.option("--at", "run_at", metavar="TIME", callback=_moment, help="Start the job no earlier than this time.")
@click.option(
    "--priority", type=int, default=0, metavar="N",
    help="Jobs with a higher priority start first. [default: 0]",
)  # fmt: skip
@basic_options
@kept("no job was added")
def add(type: str, **given: Any) -> None:
    """Add a job of TYPE for the workers of that type. Creates the store if it is missing.

    \b
    Example:
      scanstore jobs add sync --unique nightly --meta '{"full": true}'
    """
    with open_store(create=True) as store:
        row = store.jobs.enqueue(type, **given)
        tell(row, f"Job {row.id}: {row.type}, {row.status}")


@jobs.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only jobs with this status.")
@click.option("--type", metavar="TYPE", help="Only jobs of this type.")
@click.option("--parent", metavar="ID", help="Only the parts of this job.")
@click.option("--scene", metavar="ID", help="Only jobs about this scene.")
@rows_options("id", "status", "progress", "type", "remark")
@basic_options
def list_(**only: Any) -> None:
    """List jobs, the newest first: status, progress, type, id, message or error.

    \b
    Example:
      scanstore jobs list --status failed --limit 20
    """
    with open_store() as store:
        found = store.jobs.list(**only, **window(parts.models.Job, COLUMNS))
        listing(found, COLUMNS, none("jobs", "add one with: scanstore jobs add TYPE"))


def _remark(row: Job) -> str:
    """What there is to say about it, on one line."""
    if row.status == "pending" and row.next_retry_at is not None:
        again = f", then another try: {_line(row.error)}" if row.error else ""
        return f"waits until {shown(row.next_retry_at)}{again}"
    return _line(row.message if row.status in ("running", "cancelling", "completed") else row.error or row.message)


def _line(text: str | None) -> str:
    """The first line of a longer text."""
    return (text or "").strip().partition("\n")[0]


COLUMNS: Columns[Job] = (
    "status",
    Column("progress", lambda row: f"{row.progress} %", right=True, key="progress"),
    "type",
    "id",
    Column("remark", _remark),
)


@jobs.command()
@click.argument("job", metavar="ID")
@basic_options
def show(job: str) -> None:
    """Show a job: status, input, result, parts.

    \b
    Example:
      scanstore jobs show 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store() as store:
        row = store.jobs.get(job)
        parts, scenes = store.jobs.children(row), [scene.id for scene in row.scenes]
        card(
            {**row.to_dict(), "children": parts, "scenes": scenes},
            f"{row.type}, {row.status}, {row.progress} %",
            _facts(row, scenes),
            ("input", _json(row.meta or None)),
            ("result", _json(row.result)),
            ("error", row.error or ""),
            ("parts", table(parts, COLUMNS, indent="  ")),
        )


def _json(value: object) -> str:
    import json

    return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)


def _facts(row: Job, scenes: list[str]) -> list[Fact]:
    items = f"{row.processed_items:,}" + ("" if row.total_items is None else f" of {row.total_items:,}")
    tried = count(row.attempt, "claim") + f", {count(row.retry_count, 'retry', 'retries')} of {row.max_retries}"
    tried += f", {count(row.lost_count, 'lost lease')} of {row.max_lost}" if row.lost_count else ""
    return [
        ("id", row.id),
        ("part of", row.parent_id),
        ("unique key", row.unique_key),
        ("group", row.exclusive_group),
        ("priority", str(row.priority) if row.priority else None),
        ("queue", row.queue if row.queue != "default" else None),
        ("at", row.message),
        ("items", items if row.processed_items or row.total_items else None),
        ("tries", tried if row.attempt else None),
        ("worker", row.worker),
        ("scenes", ", ".join(scenes)),
        ("created", row.created_at),
        ("started", row.started_at),
        ("lease until", row.lease_until),
        ("waits until", row.next_retry_at),
        ("over", row.completed_at),
    ]


@jobs.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@basic_options
@kept()
def cancel(ids: tuple[str, ...]) -> None:
    """Cancel jobs, and their parts: all of them or none.

    The worker of a running job learns of it when it next reports progress, and the job is cancelled when the worker
    ends it.

    \b
    Example:
      scanstore jobs cancel 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store(write=True) as store:
        with store.transaction():
            found = [store.jobs.cancel(each) for each in ids]
        listing(found, ("id", "type", "status"))


@jobs.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@basic_options
@kept()
def retry(ids: tuple[str, ...]) -> None:
    """Retry jobs that failed or were cancelled: all of them or none.

    \b
    Example:
      scanstore jobs retry 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store(write=True) as store:
        listing(store.jobs.retry(*ids), ("id", "type", "status"))


@jobs.command()
@click.option(
    "--import", "place", metavar="MODULE:NAME", required=True,
    help=f"The handlers: a mapping of job types to functions. NAME is by default handlers. {WHERE}",
)  # fmt: skip
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Only jobs of this type; repeatable.")
@click.option("--until-empty", is_flag=True, help="End when no job can be claimed.")
@click.option(
    "--lease", type=click.FloatRange(min=1), default=600, metavar="S",
    help="Seconds of a lease. [default: 600]",
)  # fmt: skip
@click.option(
    "--poll", type=click.FloatRange(min=0.01), default=0.5, metavar="S", help="Seconds between polls. [default: 0.5]"
)
@basic_options
@click.pass_context
@kept("no job was claimed")
def work(
    context: click.Context, place: str, types: tuple[str, ...], until_empty: bool, lease: float, poll: float
) -> None:
    """Work on jobs until interrupted. Ctrl-C lets the running job finish; the exit code is 130 then.

    A handler is called with the job: job.meta is its input, and job.store is the store. job.update_progress(50)
    reports progress, and returns False if the job was cancelled. A second Ctrl-C releases the running job. The exit
    code is 1 if a job failed for good.

    \b
    Example:
      scanstore jobs work --import mytasks:handlers
    """
    handlers = _handlers(place)
    with open_store(write=True) as store:
        aside(f"working on {', '.join(types or handlers)}; Ctrl-C stops")
        ended: Counter[str] = Counter()
        keep(lambda: f"{_tally(ended) or 'no job was finished'}; the running job was released")

        def count_ended(job: Job) -> None:
            ended["waiting" if job.status == "pending" else str(job.status)] += 1
            if not wants_json():
                _say_ended(job)

        done = store.jobs.run_worker(
            handlers, types=types or None, until_empty=until_empty, lease=lease, poll=poll, ended=count_ended
        )
        left = list(_left(store, types or tuple(handlers)))
        did = _tally(done._asdict())
        if done.interrupted:
            did = f"Interrupted: {did or 'no job was finished'}; the others wait."
        tell(done, (), did or ("no jobs that could be claimed" if left else "no jobs"))
        for line in left:
            note(line)
    context.exit(INTERRUPTED if done.interrupted else 1 if done.failed else 0)


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number and name != "interrupted")


def _left(store: Store, types: tuple[str, ...]) -> Iterator[str]:
    """The jobs that are not over: of other types, not due yet, held by another worker."""
    models = parts.models
    found = store.counts(models.Job, "type", models.Job.status.in_(parts.state_machine.JOB_LIVE))
    for known, why in ((True, "not claimed yet, not due yet, or held elsewhere"), (False, "not worked on here")):
        told = ", ".join(f"{number:,} {name}" for name, number in sorted(found.items()) if (name in types) is known)
        if told:
            yield f"left: {told}; {why}"


def _say_ended(job: Job) -> None:
    failure = f"  {_line(job.error)}" if job.status in ("pending", "failed") else ""
    say([plain_text(f"{job.status}  {job.type}  {job.id}{failure}")])
    flush()


def _handlers(place: str) -> dict[str, Handler]:
    """The mapping that the user has written."""
    found: Any = load_object(place, default="handlers", needs="module", give="MODULE:NAME, such as mytasks:handlers")
    if not hasattr(found, "keys"):
        module, _, name = place.partition(":")
        example = f"write {name or 'handlers'} = {{'sync': function}}"
        raise Failure(f"{place} is not a mapping; {example}{passed_over(module)}")
    return dict(found)


@jobs.command()
@click.option(
    "--older-than", metavar="SPAN", callback=_span,
    help="Only jobs that finished longer ago than this: 12h, 30d, 8w.",
)  # fmt: skip
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Keep this many of the newest.")
@click.option("--yes", is_flag=True, help="Remove the jobs; without --yes they are only counted.")
@basic_options
@kept()
def prune(older_than: timedelta | None, keep_last: int | None, yes: bool) -> None:
    """Remove finished jobs, each with all its parts or not at all.

    \b
    Example:
      scanstore jobs prune --older-than 30d --keep-last 100 --yes
    """
    if older_than is None and keep_last is None:
        raise Misuse("choose the jobs: give --older-than, --keep-last or both")
    with open_store(write=True) as store:
        number = store.jobs.prune(older_than=older_than, keep_last=keep_last, dry_run=not yes)
        if yes or not number:
            text = f"Removed {count(number, 'job')}" if number else "No jobs to remove"
        else:
            text = f"{count(number, 'job')} would be removed; remove with: --yes"
        tell({"jobs": number, "removed": yes}, text)
