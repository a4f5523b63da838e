"""`scanstore schedules`: recurring jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import Misuse, basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, count, listing, note, plain_text, tell, window

if TYPE_CHECKING:
    from scanstore.jobs.models import ScheduledTask


@group
def schedules() -> None:
    """Manage scheduled jobs."""


def _next(task: ScheduledTask) -> str:
    """When a task runs next, as the clocks of its time zone say."""
    from zoneinfo import ZoneInfo

    if not task.enabled:
        return "disabled"
    if task.next_run is None:
        return "not planned"
    try:
        return f"next {task.next_run.astimezone(ZoneInfo(task.timezone)):%Y-%m-%d %H:%M %Z}"
    except (OSError, LookupError, ValueError, OverflowError):  # a zone that only another machine knows
        return f"next {task.next_run:%Y-%m-%d %H:%M} UTC"


def _last(task: ScheduledTask) -> str:
    begun = task.last_run
    return f"last {begun:%Y-%m-%d %H:%M} UTC, job {task.last_job_id or 'gone'}" if begun else "never ran"


COLUMNS: Columns[ScheduledTask] = (
    "name",
    Column("type", "task_type"),
    "schedule",
    "timezone",
    Column("next", _next, key=lambda task: task.next_run if task.enabled else None),
    Column("last", _last, key="last_run"),
)


@schedules.command()
@click.argument("name")
@click.argument("task_type", metavar="TYPE")
@click.argument("cron")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Time zone of CRON.")
@click.option("--config", metavar="JSON", help="The input of its jobs, an object.")
@click.option("--disabled", is_flag=True, help="Add the schedule disabled.")
@basic_options
@kept()
def add(name: str, task_type: str, cron: str, timezone: str, config: str | None, disabled: bool) -> None:
    """Add a schedule: a job of TYPE at the times of CRON. Creates the store if it is missing.

    CRON has five fields: minute, hour, day of month, month, day of week. When clocks are changed, a run at a skipped
    time starts right after the change, and a run at a repeated time starts the first time.

    \b
    Example:
      scanstore schedules add nightly sync "0 3 * * *" --timezone Europe/Berlin
      scanstore schedules add hourly analysis "0 * * * *" --config '{"model": "local"}'
    """
    import json

    try:
        given = json.loads(config or "{}")
    except (ValueError, RecursionError) as error:
        raise Misuse(f"--config is not JSON: {error}") from None
    with open_store(create=True) as store:
        task = store.schedules.add(name, task_type, cron, timezone=timezone, config=given, enabled=not disabled)
        tell(task, f"Added schedule {task.name}: {_next(task)}")


@schedules.command("list")
@rows_options("name", "type", "schedule", "timezone", "next", "last")
@basic_options
def list_() -> None:
    """List the schedules, with the next and the last run of each.

    \b
    Example:
      scanstore schedules list
    """
    with open_store() as store:
        hint = "add one with: scanstore schedules add NAME TYPE CRON"
        found = store.schedules.list(**window(parts.models.ScheduledTask, COLUMNS))
        listing(found, COLUMNS, none("schedules", hint))


@schedules.command("run-due")
@basic_options
@kept("added jobs stay, and the next run adds the rest")
def run_due() -> None:
    """Enqueue a job for every schedule that is due. Call it regularly, from a loop or the system's cron.

    If several runs were missed, one job makes up for all of them. A run is skipped while the previous job of the
    schedule is unfinished. Exits with 1 if another job has the name of a due schedule as its unique key; the schedule
    stays due.

    \b
    Example:
      scanstore schedules run-due
      while true; do scanstore schedules run-due; sleep 30; done
    """
    with open_store(write=True) as store:
        runs = store.schedules.run_due()
        enabled = len(store.schedules.list(enabled=True))
        empty = f"nothing is due; {count(enabled, 'task')} enabled: scanstore schedules list shows when"
        done = [run for run in runs if run.error is None]
        tell(runs, [plain_text(_ran(run.task.name, run.job.id, run.started)) for run in done], "" if runs else empty)
        for run in runs:
            if run.error is not None:
                note(f"Error: {run.error}")
        if len(done) < len(runs):
            click.get_current_context().exit(1)


def _ran(name: str, job: str, started: bool) -> str:
    return f"{name}: job {job}" if started else f"{name}: left out, job {job} is not over yet"


def _told(task: ScheduledTask) -> None:
    tell(task, f"Schedule {task.name}: {_next(task)}")


@schedules.command()
@click.argument("name")
@basic_options
@kept()
def enable(name: str) -> None:
    """Enable a schedule, from its next time on.

    \b
    Example:
      scanstore schedules enable nightly
    """
    with open_store(write=True) as store:
        _told(store.schedules.enable(name))


@schedules.command()
@click.argument("name")
@basic_options
@kept()
def disable(name: str) -> None:
    """Disable a schedule.

    \b
    Example:
      scanstore schedules disable nightly
    """
    with open_store(write=True) as store:
        _told(store.schedules.disable(name))


@schedules.command()
@click.argument("name")
@basic_options
@kept()
def remove(name: str) -> None:
    """Remove a schedule. Its jobs stay.

    \b
    Example:
      scanstore schedules remove nightly
    """
    with open_store(write=True) as store:
        store.schedules.remove(name)
        tell({"removed": name}, f"Removed schedule {name}")
