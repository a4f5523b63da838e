"""`scanstore migrate`: the schema of a store, forwards and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.base import Group, existing_store_path, json_option, store_key, store_option
from scanstore.cli.output import columns, note, plain_text, say, say_json

if TYPE_CHECKING:
    from scanstore.db.migrations import MigrationNames


@click.group(cls=Group)
@store_option
def migrate() -> None:
    """Show and change the schema of a store."""


@migrate.command()
@json_option
@store_option
def status(as_json: bool) -> None:
    """List every migration, and when it was applied to the store.

    \b
    Example:
      scanstore migrate status
    """

    steps = parts.migrations.status(existing_store_path(), key=store_key())
    if as_json:
        say_json(steps)
    else:
        say(columns((step.name, step.applied_at or "", "" if step.applied else "pending") for step in steps))


@migrate.command()
@click.option("--to", metavar="NAME", help="The last one to apply, by name or number. [default: the newest]")
@json_option
@store_option
def up(to: str | None, as_json: bool) -> None:
    """Apply pending migrations, all or none. A copy of the file is made first.

    \b
    Example:
      scanstore migrate up
    """

    done = parts.migrations.up(existing_store_path(), to=to, key=store_key())
    _tell(done, "applied", "nothing to do: no migration is pending", as_json)


@migrate.command()
@click.option("--to", metavar="NAME", help="Undo every one after this, by name or number; 0 undoes all.")
@click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True, help="Without --to: how many.")
@json_option
@store_option
def down(to: str | None, steps: int, as_json: bool) -> None:
    """Roll back migrations, all or none. A copy of the file is made first.

    The rows of tables that go are lost, except in that copy.

    \b
    Example:
      scanstore migrate down --to 1
    """

    done = parts.migrations.down(existing_store_path(), to=to, steps=steps, key=store_key())
    _tell(done, "rolled back", "nothing to do: no migration to roll back", as_json)


def _tell(done: MigrationNames, verb: str, nothing: str, as_json: bool) -> None:
    if as_json:
        say_json({"migrations": list(done), "backup": done.backup})
        return
    say(plain_text(f"{verb} {name}") for name in done)
    if done.backup:
        say([plain_text(f"the file as it was: {done.backup}")])
    if not done:
        note(nothing)
