"""`scanstore sessions`: analysis sessions with their files, tasks and results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, card, count, listing, size, table, tell, window

if TYPE_CHECKING:
    from scanstore.db.words import SessionStatus
    from scanstore.sessions.sessions import AnalysisResult, AnalysisSession, AnalysisTask, FileUpload

STATUSES = ("created", "processing", "completed", "failed", "cancelled")


@group
def sessions() -> None:
    """List, show and remove analysis sessions."""


@sessions.command("list")
@click.option("--user", metavar="USER", help="Only sessions of this user: an address or an id.")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only sessions with this status.")
@rows_options("id", "status", "done", "user", "name")
@basic_options
def list_(user: str | None, status: SessionStatus | None) -> None:
    """List sessions, the newest first: status, files done, user, id, name.

    \b
    Example:
      scanstore sessions list --user ada@example.org --status processing
    """
    with open_store() as store:
        names = {each.id: each.email for each in store.accounts.list()}
        columns: Columns[AnalysisSession] = (
            "status",
            Column("done", _done, key="processed_files"),
            Column("user", lambda row: names[row.user_id]),
            "id",
            Column("name", "session_name"),
        )
        found = store.sessions.list(user=user, status=status, **window(parts.models.AnalysisSession, columns))
        listing(found, columns, none("sessions", "add one with: store.sessions.add(user, name)"))


def _done(row: AnalysisSession) -> str:
    return f"{row.processed_files:,} of {count(row.total_files, 'file')}"


@sessions.command()
@click.argument("session", metavar="ID")
@basic_options
def show(session: str) -> None:
    """Show a session with its files, tasks and results. --json includes the texts of results.

    \b
    Example:
      scanstore sessions show 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store() as store:
        row = store.sessions.get(session)
        files, tasks, results = (
            store.sessions.uploads.list(row),
            store.sessions.tasks.list(row),
            store.sessions.results.list(row),
        )
        card(
            {**row.to_dict(), "files": files, "tasks": tasks, "results": results},
            f"{row.session_name}, {row.status}, {_done(row)}",
            [
                ("id", row.id),
                ("user", store.accounts.get(row.user_id).email),
                ("created", row.created_at),
                ("completed", row.completed_at),
            ],
            ("files", table(files, FILES, indent="  ")),
            ("tasks", table(tasks, TASKS, indent="  ")),
            ("results", table(results, RESULTS, indent="  ")),
        )


def _first(task: AnalysisTask) -> str:
    """The first line of the error, and the number of lost leases."""
    lost = count(task.lost_count, "lost lease") if task.lost_count else ""
    return ", ".join(filter(None, ((task.error_message or "").strip().partition("\n")[0], lost)))


FILES: Columns[FileUpload] = (
    Column("status", "upload_status"),
    Column("size", lambda file: size(file.file_size), right=True, key="file_size"),
    Column("path", "file_path"),
    Column("error", "error_message"),
)
TASKS: Columns[AnalysisTask] = (
    "status",
    Column("progress", lambda task: f"{task.progress} %", right=True, key="progress"),
    Column("type", "task_type"),
    Column("id", "task_id"),
    Column("remark", _first),
)
RESULTS: Columns[AnalysisResult] = (
    "status",
    Column("score", right=True),
    Column("type", "analysis_type"),
    Column("file", "file_name"),
)


@sessions.command()
@click.argument("session", metavar="ID")
@rows_options("status", "size", "path", "error")
@basic_options
def files(session: str) -> None:
    """List the files of a session: status, size, path, error.

    \b
    Example:
      scanstore sessions files 01a20256-f7e1-744b-91c3-26422c0cc9f7 --sort -size
    """
    with open_store() as store:
        found = store.sessions.uploads.list(session, **window(parts.models.FileUpload, FILES))
        listing(found, FILES, none("files", "add some with: store.sessions.uploads.add(session, files)"))


@sessions.command()
@click.argument("session", metavar="ID")
@rows_options("id", "status", "progress", "type", "remark")
@basic_options
def tasks(session: str) -> None:
    """List the tasks of a session: id, status, progress, type, error.

    \b
    Example:
      scanstore sessions tasks 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store() as store:
        found = store.sessions.tasks.list(session, **window(parts.models.AnalysisTask, TASKS))
        listing(found, TASKS, none("tasks", "add one with: store.sessions.tasks.add(session, task_type)"))


@sessions.command()
@click.argument("session", metavar="ID")
@rows_options("status", "score", "type", "file")
@basic_options
def results(session: str) -> None:
    """List the results of a session: status, score, type, file. --json includes their texts.

    \b
    Example:
      scanstore sessions results 01a20256-f7e1-744b-91c3-26422c0cc9f7 --sort -score
    """
    with open_store() as store:
        found = store.sessions.results.list(session, **window(parts.models.AnalysisResult, RESULTS))
        hint = "add one with: store.sessions.results.add(session, result_content=text)"
        listing(found, RESULTS, none("results", hint))


@sessions.command()
@click.argument("session", metavar="ID")
@basic_options
@kept()
def remove(session: str) -> None:
    """Delete a session with its files, tasks and results. Prompts stay.

    \b
    Example:
      scanstore sessions remove 01a20256-f7e1-744b-91c3-26422c0cc9f7
    """
    with open_store(write=True) as store:
        row = store.sessions.get(session)
        store.sessions.remove(row)
        tell({"removed": row.id}, f"Removed session {row.session_name!r}")
