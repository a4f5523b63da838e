"""`scanstore backup|restore|vacuum|optimize|repair`: copies of the store, its size, what is left of a damaged one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from scanstore.cli.base import json_option, open_store, store_key, store_option, store_path
from scanstore.cli.output import columns, count, note, plain_text, say, say_json, size

if TYPE_CHECKING:
    from scanstore.compaction import Compacted
    from scanstore.repair import Repaired


@contextmanager
def _bar(label: str, *, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, and what moves it."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden) as bar:

        def move(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield move


def _quiet() -> bool:
    return not sys.stderr.isatty()


@click.command()
@click.argument("path", required=False)
@click.option("--folder", metavar="FOLDER", help="Where to put it, under a name with the time. [default: beside]")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Keep only so many of these copies.")
@click.option("--verify/--no-verify", default=True, help="Read the copy again and check its structure. [default: on]")
@json_option
@store_option
def backup(path: str | None, folder: str | None, keep: int | None, verify: bool, as_json: bool) -> None:
    """Copy the store while others use it.

    The copy is the store at one moment, whole and verified, or it is not there. Without PATH it gets a name with the
    time in it; --keep counts only these.

    \b
    Example:
      scanstore backup --folder /mnt/backups --keep 7
    """
    with open_store() as store, _bar("Copying", hidden=as_json or _quiet()) as progress:
        made = store.backup(path, folder=folder, keep=keep, verify=verify, progress=progress)
    if as_json:
        say_json(made)
        return
    checked = f", verified in {made.verifying:.1f} s" if verify else ""
    say([plain_text(f"{made.path}: {size(made.bytes)}, copied in {made.seconds:.1f} s{checked}")])
    say(plain_text(f"removed {old}") for old in made.removed)


@click.command()
@click.argument("copy")
@json_option
@store_option
def restore(copy: str, as_json: bool) -> None:
    """Make the store what a COPY of it is.

    The file that was there is kept beside it. The copy is verified first. The store must not be open anywhere.

    \b
    Example:
      scanstore restore /mnt/backups/scanstore.db.backup-20260301T030000000Z
    """
    from scanstore.backups import restore as put_back

    with _bar("Restoring", hidden=as_json or _quiet()) as progress:
        done = put_back(copy, store_path(), progress=progress, key=store_key())
    if as_json:
        say_json(done)
        return
    say([plain_text(f"{done.path}: restored, {size(done.bytes)}")])
    if done.kept:
        say([plain_text(f"the file as it was: {done.kept}")])


@click.command()
@json_option
@store_option
def vacuum(as_json: bool) -> None:
    """Make the file as small as its content.

    Needs free space: twice what will be left, beside the store and for temporary files.

    \b
    Example:
      scanstore vacuum
    """
    with open_store(write=True) as store:
        _tell(store.path, store.vacuum(), as_json)


@click.command()
@json_option
@store_option
def optimize(as_json: bool) -> None:
    """Tidy up the store's indexes and its log.

    \b
    Example:
      scanstore optimize
    """
    with open_store(write=True) as store:
        _tell(store.path, store.optimize(), as_json)


def _tell(path: str, done: Compacted, as_json: bool) -> None:
    if as_json:
        say_json(done)
    else:
        say([plain_text(f"{path}: {size(done.before)} before, {size(done.after)} after, {done.seconds:.1f} s")])


@click.command()
@click.argument("damaged")
@click.argument("new")
@json_option
@store_option
@click.pass_context
def repair(context: click.Context, damaged: str, new: str, as_json: bool) -> None:
    """Save what is left of a damaged store.

    What can be read of DAMAGED goes into a store at NEW; what is lost is said, table by table, and ends with 1.
    The damaged file is not changed. Of an encrypted one, $SCANSTORE_KEY is the key, and that of the new one.

    \b
    Example:
      scanstore repair scanstore.db saved.db
    """
    from scanstore.repair import repair as save

    done = save(damaged, new, key=store_key())
    if as_json:
        say_json({**done._asdict(), "whole": done.whole})
    else:
        say(_saved(done))
    context.exit(0 if done.whole else 1)


def _saved(done: Repaired) -> Iterator[str]:
    rows = sum(table.rows for table in done.tables)
    yield plain_text(f"{done.path}: {count(rows, 'row')} saved in {done.seconds:.1f} s")
    yield from columns(
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
    for problem in done.problems:
        yield plain_text(f"{problem.what}: {problem.remedy}")
    if done.whole:
        note("nothing was found missing")


COMMANDS = (backup, restore, vacuum, optimize, repair)
