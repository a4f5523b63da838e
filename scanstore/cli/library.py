"""`scanstore library`: sync a media library from a file of records, list it and count it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from scanstore.cli.absence import narrowed
from scanstore.cli.base import Failure, basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import (
    Column,
    Columns,
    aligned,
    aside,
    caution,
    check_rows_options,
    count,
    listing,
    row_limit,
    tell,
)
from scanstore.cli.progress import BYTES, Display, progress
from scanstore.cli.streams import binary_input

if TYPE_CHECKING:
    from scanstore.db.words import LibraryKind, NamedKind
    from scanstore.library.library import LibraryStats
    from scanstore.library.models import StoredScene
    from scanstore.store import Store

REASONS = 10  # rejected records that are listed
KINDS = ("scene", "performer", "tag", "studio")
SCENE, NAMED = ("id", "date", "title", "studio"), ("id", "name", "scenes")  # the columns of scenes, and of other kinds
kind_option = click.option(
    "--kind", type=click.Choice(KINDS, case_sensitive=False), default="scene", show_default=True,
    help="The kind of the records.",
)


@group
def library() -> None:
    """Sync and list a media library."""


@library.command()
@click.argument("file", metavar="FILE")
@kind_option
@click.option("--prune", is_flag=True, help="FILE is a full listing: remove the rows that it lacks.")
@click.option("--strict", is_flag=True, help="Fail at the first record that cannot be written.")
@click.option(
    "--take-over", is_flag=True,
    help="Begin although another sync seems to run, and mark that one as failed.",
)  # fmt: skip
@basic_options
@kept("written records are kept, and the next sync continues")
def sync(file: str, kind: LibraryKind, prune: bool, strict: bool, take_over: bool) -> None:
    """Write the records of FILE, one JSON object per line, and count the changes. FILE may be - for the standard input.

    A scene is {"id", "title", "paths", "organized", "details", "created_date", "scene_date", "studio", "performers",
    "tags"}; only the id is required, and absent fields stay unchanged. The studio, performers and tags are {"id",
    "name"}, as are the records of these kinds. A scene_date may also be a year or a month: 2014, 2006-08. A record that
    cannot be written is set aside, with its reason on the standard error. Creates the store if it is missing.

    \b
    Example:
      scanstore library sync scenes.jsonl
      scanstore library sync tags.jsonl --kind tag --prune
    """
    name = "the input" if file == "-" else file
    with (
        _opened(file) as stream,
        open_store(create=True) as store,
        store.library.sync(kind, take_over=take_over) as run,
        progress(f"Syncing {name}", BYTES) as display,
    ):
        counts = getattr(store.library, f"upsert_{kind}s")(_records(stream, name, display), run=run, strict=strict)
        unseen = run.prune_unseen(dry_run=not prune) if sum(counts[:3]) or prune else []
    said = [
        count(sum(counts[:3]), kind) + f": {counts.created:,} created, {counts.updated:,} updated, "
        f"{counts.unchanged:,} unchanged"
    ]
    if kind == "scene":
        said.append(f"{count(counts.links_added, 'link')} added, {counts.links_removed:,} removed")
    if prune:
        said.append(f"{len(unseen):,} pruned")
    if counts.rejected:
        said.append(f"{counts.rejected:,} rejected")
    data = {"run": run.id, **counts._asdict(), "unseen": unseen, "pruned": len(unseen) if prune else 0}
    tell(data, "; ".join(said))
    for rejection in counts.rejections[:REASONS]:
        caution(f"rejected: {rejection.reason}")
    if counts.rejected > REASONS:
        caution(f"{count(counts.rejected - REASONS, 'more record')} rejected; --json lists the first 100")
    if unseen and not prune:
        aside(f"{count(len(unseen), kind)} that the store has {'was' if len(unseen) == 1 else 'were'} not in {name}; "
             "--prune removes what a full listing lacks")  # fmt: skip


@library.command("list")
@kind_option
@click.option("--performer", metavar="ID|NAME", help="Only scenes with this performer.")
@click.option("--tag", metavar="ID|NAME", help="Only scenes with this tag.")
@click.option("--studio", metavar="ID|NAME", help="Only scenes of this studio.")
@click.option("--organized/--not-organized", default=None, help="Only organized scenes, or only the others.")
@rows_options(*dict.fromkeys(SCENE + NAMED))
@basic_options
def list_(kind: LibraryKind, organized: bool | None, **only: str | None) -> None:
    """List scenes: id, date, title, studio. Or performers, tags, studios: id, name, number of scenes.

    --json prints scenes as the records that `library sync` takes.

    \b
    Example:
      scanstore library list --tag outdoor --not-organized
      scanstore library list --kind performer
    """
    given = {name: value for name, value in only.items() if value is not None}
    if kind != "scene" and (given or organized is not None):
        raise click.UsageError(f"--{next(iter(given), 'organized')} is about scenes; leave out --kind {kind}")
    check_rows_options(SCENE if kind == "scene" else NAMED)
    with open_store() as store:
        if kind == "scene":
            wanted: Any = {name: _one(store, cast("NamedKind", name), value) for name, value in given.items()}
            scenes = store.library.list(organized=organized, limit=row_limit(), **wanted)
            hint = f"no scenes {'like that' if narrowed() else 'yet; write some with: scanstore library sync FILE'}"
            listing(store.library.records(scenes), SCENES, hint)
        else:
            hint = f"no {kind}s yet; write some with: scanstore library sync FILE{_of(kind)}"
            listing(store.library.names(kind, limit=row_limit()), ("id", "name", Column("scenes", right=True)), hint)


@library.command()
@basic_options
def stats() -> None:
    """Count the rows of the library, with the time of the last syncs.

    \b
    Example:
      scanstore library stats
    """
    with open_store() as store:
        found = store.library.stats()
        tell(found, _stats_lines(found))
        if not found.synced:
            aside("nothing was synced yet: scanstore library sync FILE")


def _stats_lines(found: LibraryStats) -> Iterator[str]:
    names = ("scenes", "organized", "performers", "tags", "studios", "links to performers", "links to tags")
    yield from aligned([(name, f"{value:,}") for name, value in zip(names, found[:-1], strict=True)], right=(1,))
    yield from aligned(
        (f"last sync of {kind}s", run.status, run.ended_at or run.started_at, run.error)
        for kind, run in found.synced.items()
    )


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(binary_input())
    try:
        return open(file, "rb")
    except OSError as error:
        raise Failure(f"{file} cannot be read: {(error.strerror or str(error)).lower()}; check the path") from None


def _records(stream: BinaryIO, file: str, display: Display | None) -> Iterator[object]:
    import json

    done, total = 0, os.fstat(stream.fileno()).st_size if display is not None and stream.seekable() else 0
    for number, line in enumerate(stream, 1):
        done += len(line)
        if display is not None:
            display(done, total)
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Failure(f"line {number} of {file} is not JSON: {error}; write one object per line") from None


def _one(store: Store, kind: NamedKind, what: str) -> object:
    """Return the performer, tag or studio with that id, else with that name."""
    found = store.library.find(kind, what)
    row = next((row for row in found if row.id == what), found[0] if len(found) == 1 else None)
    if row is None:
        ids = ", ".join(row.id for row in found[:5])
        why = f"has {len(found)} {kind}s, give an id: {ids}" if found else f"is no {kind}; list them{_of(kind)}"
        raise Failure(f"{what!r} {why}")
    return row


def _of(kind: str) -> str:
    return f" --kind {kind}"


SCENES: Columns[StoredScene] = (
    "id",
    Column("date", lambda record: (record["scene_date"] or "")[:10]),
    "title",
    Column("studio", lambda record: record["studio"] and record["studio"]["name"]),
)
