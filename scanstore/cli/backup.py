"""`scanstore backup|restore|vacuum|optimize|repair`: copies of the store, its size, and repair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import basic_options, named_store_path, open_store, store_key, store_path
from scanstore.cli.destination import check_ending
from scanstore.cli.interrupts import finish, keep, kept
from scanstore.cli.output import aligned, count, note, plain_text, size, tell
from scanstore.cli.progress import progress

if TYPE_CHECKING:
    from scanstore.maintenance.compaction import Compacted
    from scanstore.maintenance.repair.repair import Repaired

MOST = 20  # ranges of pages that are listed


@click.command()
@click.argument("path", required=False)
@click.option(
    "--folder", metavar="FOLDER",
    help="Folder of a copy whose name contains the time. [default: that of the store]",
)  # fmt: skip
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Keep only the N newest of these copies.")
@click.option("--verify/--no-verify", default=True, help="Read the copy again and check its structure. [default: on]")
@basic_options
@kept("an unfinished copy was removed")
def backup(path: str | None, folder: str | None, keep: int | None, verify: bool) -> None:
    """Copy the store while others use it.

    The copy at PATH has the state of one moment and is verified; a failed backup leaves no copy. Without PATH, the
    name of the copy contains the time; --keep counts only such copies.

    \b
    Example:
      scanstore backup --folder /mnt/backups --keep 7
    """
    check_ending(path, "a store", (".db", ".sqlite", ".sqlite3", ".txt"), "give another ending, such as .db")
    with open_store() as store, progress(f"Copying {store_path()}", "pages") as told:
        made = store.backup(path, folder=folder, keep=keep, verify=verify, progress=told)
    checked = f", verified in {made.verifying:.1f} s" if verify else ""
    lines = [f"{made.path}: {size(made.bytes)}, copied in {made.seconds:.1f} s{checked}"]
    tell(made, map(plain_text, lines + [f"removed {old}" for old in made.removed]))


@click.command()
@click.argument("copy")
@basic_options
@kept("the store is as it was")
def restore(copy: str) -> None:
    """Restore the store from COPY, which `scanstore backup` has made.

    The copy is verified first. The replaced file is kept beside the store. The store must not be open anywhere. A
    store above the current folder must be named with --db.

    \b
    Example:
      scanstore restore /mnt/backups/scanstore.db.backup-20260301T030000000Z
    """
    path = named_store_path()
    with progress(f"Restoring {path}", "pages") as display:

        def told(done: int, total: int) -> None:
            if done == total:  # SQLite has written all of them
                keep("the store is restored")
            if display is not None:
                display(done, total)

        done = parts.backup.restore(copy, path, progress=told, key=store_key())
    finish()
    lines = [f"{done.path}: restored, {size(done.bytes)}"]
    tell(done, map(plain_text, lines + [f"the file as it was: {done.kept}"] * bool(done.kept)))


@click.command()
@basic_options
@kept("no row was changed")
def vacuum() -> None:
    """Shrink the file to the size of its content.

    It needs free space of the final size twice: beside the store, and for temporary files.

    \b
    Example:
      scanstore vacuum
    """
    with open_store(write=True) as store:
        with progress(f"Shrinking {store_path()}"):  # SQLite does not say how far it is
            done = store.vacuum()
        _tell(store.path, done)


@click.command()
@basic_options
@kept("finished steps are kept; optimize it again")
def optimize() -> None:
    """Optimize the store's indexes, and empty its log.

    \b
    Example:
      scanstore optimize
    """
    with open_store(write=True) as store:
        with progress(f"Optimizing {store_path()}", "steps") as told:
            done = store.optimize(progress=told)
        _tell(store.path, done)


def _tell(path: str, done: Compacted) -> None:
    tell(done, f"{path}: {size(done.before)} before, {size(done.after)} after, {done.seconds:.1f} s")


@click.command()
@click.argument("damaged")
@click.argument("new")
@basic_options
@click.pass_context
@kept("no new store was written")
def repair(context: click.Context, damaged: str, new: str) -> None:
    """Save the rows that are left in a damaged store.

    All readable rows of DAMAGED and its log are written to a new store at NEW. The exit code is 0 if every page was
    read and every table was found, else 1; unread pages and tables that may have lost rows are listed. DAMAGED stays
    unchanged. It may also be an orphaned log (NAME-wal.orphaned). $SCANSTORE_KEY is the key of an encrypted store and
    of the new one.

    \b
    Example:
      scanstore repair scanstore.db saved.db
    """

    with progress(f"Saving {damaged}", "pages") as told:
        done = parts.repair.repair(damaged, new, key=store_key(), progress=told)
    finish()
    tell({**done._asdict(), "whole": done.whole}, _saved(done))
    context.exit(0 if done.whole else 1)


def _saved(done: Repaired) -> Iterator[str]:
    rows = sum(table.rows for table in done.tables)
    yield plain_text(f"{done.path}: {count(rows, 'row')} saved in {done.seconds:.1f} s")
    yield from aligned(
        (
            (
                table.table,
                f"{table.rows:,}",
                "saved",
                f"{table.lost:,}" if table.lost or not table.bad_pages else "some",
                "lost" + (f", {count(table.bad_pages, 'page')} unreadable" if table.bad_pages else ""),
            )
            for table in done.tables
            if table.lost or table.bad_pages
        ),
        right=(1, 3),
        indent="  ",
    )
    if done.unread:
        parts: dict[str | None, list[int]] = {}
        for page in done.unread:
            parts.setdefault(page.part_of, []).append(page.page)
        yield "pages that were not read:"
        for part, numbers in parts.items():
            yield plain_text(f"  {_ranges(numbers)} {'that nothing leads to' if part is None else f'of {part}'}")
    if done.affected:
        yield plain_text(f"tables that may have lost rows: {', '.join(done.affected)}")
    elif done.unread:
        yield "no table is known to have lost rows"
    for left in done.left_out:
        yield plain_text(f"left out: {left.kind} {left.name}: {left.reason}")
    for warning in done.warnings:
        yield plain_text(warning)
    for problem in done.problems:
        yield plain_text(f"{problem.what}: {problem.remedy}")
    if done.whole:
        note("every page was read; nothing was found missing")


def _ranges(numbers: list[int]) -> str:
    """Numbers that ascend, as text like 1, 3-5; no more than some."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in found]
    more = f" and {len(numbers) - sum(last - first + 1 for first, last in found[:MOST]):,} more" if found[MOST:] else ""
    return ", ".join(texts[:MOST]) + more


COMMANDS = (backup, restore, vacuum, optimize, repair)
