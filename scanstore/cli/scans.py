"""`scanstore scans`: list, show, compare and remove snapshots; what analyses them is in `analysis`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore.cli import analysis
from scanstore.cli.base import (
    Failure,
    Group,
    find_pair,
    find_scan,
    json_option,
    named_target,
    open_store,
    scan_argument,
    store_option,
    target_option,
)
from scanstore.cli.output import columns, count, note, plain_text, say, say_json
from scanstore.cli.scan import diff_json, diff_line, summary_lines

if TYPE_CHECKING:
    from scanstore.analysis.removal import Removed
    from scanstore.snapshots.models import Scan
    from scanstore.snapshots.scans import FileDiff

#: How a diff marks what it lists, and in which colour.
MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "moved": (">", "cyan")}


def marked(what: str, line: str) -> str:
    """Return a line of a diff with its mark."""
    mark, colour = MARKS[what]
    return click.style(f"{mark} {line}", fg=colour)


@click.group(cls=Group)
@store_option
def scans() -> None:
    """List, show, compare and remove snapshots, and analyse them."""


@scans.command("list")
@click.option("--target", help="Only those of this target.")
@click.option("--status", help="Only those in this state, such as completed or failed.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@json_option
@store_option
def list_(target: str | None, status: str | None, limit: int | None, as_json: bool) -> None:
    """List scans, newest first.

    \b
    Example:
      scanstore scans list --status completed --limit 5
    """
    with open_store() as store:
        name = None if target is None else named_target(store, target)
        if target is not None and name is None:
            raise Failure(f"there is no target {target!r}; see the targets with: scanstore scans list")
        found = store.scans.list(target=name, status=status, limit=limit)
        if as_json:
            say_json(found)
        elif found:
            say(columns(_row(scan) for scan in found))
        else:
            note("no scans here" + (" like that" if target or status else "; make one with: scanstore scan PATH"))


def _row(scan: Scan) -> tuple[object, ...]:
    return scan.id, scan.status, _time(scan, "started_at"), scan.name, scan.target, scan.error or ""


def _time(scan: Scan, field: str) -> str:
    return str(scan.to_dict()[field] or "")


@scans.command()
@scan_argument
@click.option("--verbose", "-v", is_flag=True, help="Name every file that was skipped or could not be read.")
@json_option
@store_option
def show(scan: str | None, verbose: bool, as_json: bool) -> None:
    """Show a scan in figures: SCAN is an id or a target, by default the one that the current folder is in.

    \b
    Example:
      scanstore scans show 3
    """
    with open_store() as store:
        row = find_scan(store, scan)
        summary = store.scans.summary(row)
        if as_json:
            say_json({"scan": row, "summary": summary})
            return
        facts = [(key, getattr(row, key)) for key in ("name", "target", "root", "status", "error")]
        facts += [("started", _time(row, "started_at")), ("completed", _time(row, "completed_at"))]
        say([f"Scan {row.id}"])
        say(columns([fact for fact in facts if fact[1]], indent="  "))
        say(summary_lines(summary, verbose=verbose))


@scans.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@target_option
@json_option
@store_option
def diff(a: str | None, b: str | None, as_json: bool) -> None:
    """Show which files differ between scans A and B, as + added, - removed, ~ changed, > moved.

    B is by default the latest scan of A's target; without A, a target's latest scan is compared with the one before.

    \b
    Example:
      scanstore scans diff 1 2
    """
    with open_store() as store:
        first, second = find_pair(store, a, b)
        found = store.scans.diff(first, second)
        if as_json:
            say_json({"a": first.id, "b": second.id, **diff_json(found)})
            return
        say(_diff_lines(found))
        note(f"from scan {first.id} to scan {second.id}: {diff_line(found)}")


def _diff_lines(found: FileDiff) -> Iterator[str]:
    for what in ("added", "removed", "changed"):
        for path in getattr(found, what):
            yield marked(what, plain_text(path))
    for old, new in found.moved:
        yield marked("moved", plain_text(f"{old} -> {new}"))


@scans.command()
@click.argument("scan", nargs=-1, required=True, type=click.IntRange(min=1))
@json_option
@store_option
def remove(scan: tuple[int, ...], as_json: bool) -> None:
    """Remove scans by id, and the facts that no remaining scan uses. This cannot be undone.

    \b
    Example:
      scanstore scans remove 1 2
    """
    with open_store(write=True) as store:
        with store.transaction():
            removed = [(number, store.scans.remove(number)) for number in dict.fromkeys(scan)]
        if as_json:
            say_json([{"scan": number, **gone._asdict()} for number, gone in removed])
            return
        for number, gone in removed:
            more = f" and {count(gone.versions, 'version')} of files that no other scan has" if gone.versions else ""
            say([f"Removed scan {number}: {count(gone.files, 'file')}{more}, {count(gone.symbols, 'symbol')},"
                 f" {count(gone.references, 'reference')}{_analysis(gone)}"])  # fmt: skip


def _analysis(gone: Removed) -> str:
    parts = ("draft", gone.drafts), ("vote", gone.votes), ("finding", gone.findings), ("model call", gone.calls)
    return "".join(f", {count(number, what)}" for what, number in parts if number)


for _command in analysis.COMMANDS:
    scans.add_command(_command)
