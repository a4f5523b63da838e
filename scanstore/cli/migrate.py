"""`scanstore migrate`: apply and roll back migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import basic_options, existing_store_path, group, named_store_path, rows_options, store_key
from scanstore.cli.interrupts import finish, kept
from scanstore.cli.output import Column, Columns, listing, plain_text, tell
from scanstore.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanstore.db.migrations import MigrationNames, Step


@group
def migrate() -> None:
    """Show and change the schema of a store."""


@migrate.command()
@rows_options("name", "applied", "state")
@basic_options
def status() -> None:
    """List every migration, and when it was applied to the store.

    \b
    Example:
      scanstore migrate status
    """

    columns: Columns[Step] = (
        "name",
        Column("applied", "applied_at"),
        Column("state", lambda step: "" if step.applied else "pending"),
    )
    listing(parts.migrations.status(existing_store_path(), key=store_key()), columns)


@migrate.command()
@click.option("--to", metavar="NAME", help="The last migration to apply, by name or number. [default: the newest]")
@basic_options
@kept()
def up(to: str | None) -> None:
    """Apply pending migrations, all or none. A copy of the file is made first.

    \b
    Example:
      scanstore migrate up
    """

    path = existing_store_path()
    with progress(f"Migrating {path}"):
        done = parts.migrations.up(path, to=to, key=store_key())
    finish()
    _tell(done, "applied", "nothing to do: no migration is pending")


@migrate.command()
@click.option(
    "--to", metavar="NAME",
    help="Roll back every migration after this one, by name or number; 0 rolls back all.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(min=1), default=1, show_default=True,
    help="Number of migrations, without --to.",
)  # fmt: skip
@basic_options
@kept()
def down(to: str | None, steps: int) -> None:
    """Roll back migrations, all or none. A copy of the file is made first.

    Rows of removed tables are lost, except in that copy. A store above the current folder must be named with --db.

    \b
    Example:
      scanstore migrate down --to 1
    """

    named_store_path()
    path = existing_store_path()
    with progress(f"Migrating {path}"):
        done = parts.migrations.down(path, to=to, steps=steps, key=store_key())
    finish()
    _tell(done, "rolled back", "nothing to do: no migration to roll back")


def _tell(done: MigrationNames, verb: str, nothing: str) -> None:
    tell({"migrations": list(done), "backup": done.backup}, _lines(done, verb), nothing)


def _lines(done: MigrationNames, verb: str) -> Iterator[str]:
    yield from (plain_text(f"{verb} {name}") for name in done)
    if done.backup:
        yield plain_text(f"the file as it was: {done.backup}")
