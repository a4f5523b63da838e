"""`scanstore scans`: list, show, compare and remove snapshots; `analysis` has the commands that analyse them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from scanstore import parts
from scanstore.cli import analysis
from scanstore.cli.absence import none
from scanstore.cli.base import (
    basic_options,
    find_pair,
    find_scan,
    group,
    known_target,
    open_store,
    rows_options,
    scan_argument,
    target_option,
)
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, card, count, listing, note, tell, window
from scanstore.cli.progress import progress
from scanstore.cli.scan import diff_line, summary_lines

if TYPE_CHECKING:
    from scanstore.db.rows import Removed
    from scanstore.db.words import ScanStatus
    from scanstore.snapshots.models import Scan
    from scanstore.snapshots.scans import FileDiff

STATUSES = ("queued", "running", "paused", "completed", "failed", "cancelled")
FACTS = {"symbol_facts": "symbol", "reference_facts": "reference"}
ANALYSIS = {
    "draft_findings": "draft", "votes": "vote", "sightings": "sighting", "findings": "finding",
    "model_calls": "model call",
}  # fmt: skip


@group
def scans() -> None:
    """List, show, compare and remove snapshots, and analyse them."""


@scans.command("list")
@click.option("--target", help="Only scans of this target.")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only scans with this status.")
@rows_options("id", "status", "started", "name", "target", "error")
@basic_options
def list_(target: str | None, status: ScanStatus | None) -> None:
    """List scans, newest first.

    \b
    Example:
      scanstore scans list --status completed --limit 5
    """
    with open_store() as store:
        name = None if target is None else known_target(store, target)
        columns: Columns[Scan] = ("id", "status", Column("started", "started_at"), "name", "target", "error")
        found = store.scans.list(target=name, status=status, **window(parts.models.Scan, columns))
        listing(found, columns, none("scans", "make one with: scanstore scan PATH"))


@scans.command()
@scan_argument
@click.option("--verbose", "-v", is_flag=True, help="Name every file that was skipped or could not be read.")
@basic_options
def show(scan: str | None, verbose: bool) -> None:
    """Show the counts of a scan. SCAN is an id or a target, by default the target of the current folder.

    \b
    Example:
      scanstore scans show 3
    """
    with open_store() as store:
        row = find_scan(store, scan)
        summary = store.scans.summary(row)
        facts = [(name, getattr(row, name)) for name in ("name", "target", "root", "status", "error")]
        facts += [("started", row.started_at), ("completed", row.completed_at)]
        figures = summary_lines(summary, verbose=verbose)
        card({"scan": row, "summary": summary}, f"Scan {row.id}", facts, ("figures", figures))


@scans.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@rows_options("change", "file", "before")
@target_option
@basic_options
def diff(a: str | None, b: str | None) -> None:
    """List the files that differ between scans A and B: added, removed, changed, moved.

    B is by default the latest scan of A's target. Without A, the latest scan of the target is compared with the one
    before it.

    \b
    Example:
      scanstore scans diff 1 2
    """
    with open_store() as store:
        first, second = find_pair(store, a, b)
        found = store.scans.diff(first, second)
        listing(_changes(found), ("change", "file", "before"))
        note(f"from scan {first.id} to scan {second.id}: {diff_line(found)}")


class FileChange(NamedTuple):
    """A file that differs between two scans; `before` is the path that a moved one had."""

    change: str
    file: str
    before: str | None = None


def _changes(found: FileDiff) -> Iterator[FileChange]:
    for what in ("added", "removed", "changed"):
        yield from (FileChange(what, path) for path in getattr(found, what))
    yield from (FileChange("moved", new, old) for old, new in found.moved)


@scans.command()
@click.argument("scan", nargs=-1, required=True, type=click.IntRange(min=1))
@basic_options
@kept()
def remove(scan: tuple[int, ...]) -> None:
    """Remove scans by id, and the facts that no remaining scan uses. This cannot be undone.

    \b
    Example:
      scanstore scans remove 1 2
    """
    with open_store(write=True) as store:
        with progress("Removing"), store.transaction():
            removed = [(number, store.scans.remove(number)) for number in dict.fromkeys(scan)]
        data = [{"scan": number, "removed": gone} for number, gone in removed]
        tell(data, (_removed_line(number, gone) for number, gone in removed))


def _removed_line(scan: int, gone: Removed) -> str:
    versions = gone.get("file_versions", 0)
    more = f" and {count(versions, 'version')} of files that no other scan has" if versions else ""
    facts = [count(gone.get(table, 0), noun) for table, noun in FACTS.items()]
    rest = [count(gone[table], noun) for table, noun in ANALYSIS.items() if table in gone]
    return f"Removed scan {scan}: {count(gone.get('scan_files', 0), 'file')}{more}, {', '.join((*facts, *rest))}"


for _command in analysis.COMMANDS:
    scans.add_command(_command)
