"""`scanstore sessions`: what users analyse, how far it is, and what came out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore.cli.base import Group, json_option, open_store, store_option
from scanstore.cli.output import columns, count, note, plain_text, say, say_json, size

if TYPE_CHECKING:
    from scanstore.sessions.sessions import AnalysisResult, AnalysisSession, AnalysisTask, FileUpload

STATUSES = ("created", "processing", "completed", "failed", "cancelled")


@click.group(cls=Group)
@store_option
def sessions() -> None:
    """Look at analysis sessions, and remove them."""


@sessions.command("list")
@click.option("--user", metavar="USER", help="Only those of this user, an address or an id.")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only those that are this.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@json_option
@store_option
def list_(user: str | None, status: str | None, limit: int | None, as_json: bool) -> None:
    """List sessions, the newest first: status, files done, user, id, name.

    \b
    Example:
      scanstore sessions list --user ada@example.org --status processing
    """
    with open_store() as store:
        whose = None if user is None else store.accounts.get(user)
        found = store.sessions.list(user=whose, status=status, limit=limit)
        if as_json:
            say_json(found)
        elif found:
            names = {each.id: each.email for each in store.accounts.list()}
            say(columns((row.status, _done(row), names[row.user_id], row.id, row.session_name) for row in found))
        elif user is not None or status is not None:
            note("no sessions like that")
        else:
            note("no sessions here; a script makes one with: store.sessions.create(user, name)")


def _done(row: AnalysisSession) -> str:
    return f"{row.processed_files:,} of {count(row.total_files, 'file')}"


@sessions.command()
@click.argument("session", metavar="ID")
@json_option
@store_option
def show(session: str, as_json: bool) -> None:
    """Show a session with its files, tasks and results. --json includes the texts of results.

    \b
    Example:
      scanstore sessions show 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store() as store:
        row = store.sessions.get(session)
        files, tasks, results = store.sessions.uploads(row), store.sessions.tasks(row), store.sessions.results(row)
        if as_json:
            say_json({**row.to_dict(), "files": files, "tasks": tasks, "results": results})
        else:
            say(_card(row, store.accounts.get(row.user_id).email, files, tasks, results))


def _card(
    row: AnalysisSession, email: str, files: list[FileUpload], tasks: list[AnalysisTask], results: list[AnalysisResult]
) -> Iterator[str]:
    data = row.to_dict()
    yield click.style(plain_text(f"{row.session_name}, {row.status}, {_done(row)}"), bold=True)
    facts = [("id", row.id), ("user", email), ("created", data["created_at"]), ("completed", data["completed_at"])]
    yield from columns([fact for fact in facts if fact[1]], indent="  ")
    parts: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
        (
            "files",
            [(each.upload_status, size(each.file_size), each.file_path, each.error_message or "") for each in files],
        ),
        (
            "tasks",
            [(each.status, f"{each.progress} %", each.task_type, each.task_id, _first(each)) for each in tasks],
        ),
        (
            "results",
            [
                (each.status, "" if each.score is None else each.score, each.analysis_type, each.file_name or "")
                for each in results
            ],
        ),
    )
    for name, rows in parts:
        if rows:
            yield from ("", f"{name}:", *columns(rows, right=(1,), indent="  "))


def _first(task: AnalysisTask) -> str:
    """The first line of what went wrong, and how often a worker was lost."""
    lost = count(task.lost_count, "lost lease") if task.lost_count else ""
    return ", ".join(filter(None, ((task.error_message or "").strip().partition("\n")[0], lost)))


@sessions.command()
@click.argument("session", metavar="ID")
@json_option
@store_option
def remove(session: str, as_json: bool) -> None:
    """Delete a session with its files, tasks and results. Prompts stay.

    \b
    Example:
      scanstore sessions remove 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store(write=True) as store:
        row = store.sessions.get(session)
        store.sessions.remove(row)
        say_json({"removed": row.id}) if as_json else say([plain_text(f"Removed session {row.session_name!r}")])
