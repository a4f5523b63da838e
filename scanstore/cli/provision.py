"""`scanstore init|seed|health|drop`: create, fill, check and delete a store."""

from __future__ import annotations

import os

import click

from scanstore import parts
from scanstore.cli.base import (
    IN_FILE,
    Misuse,
    basic_options,
    db_option,
    existing_store_path,
    named_store_path,
    new_store_path,
    open_store,
    store_path,
)
from scanstore.cli.interrupts import finish, keep, kept
from scanstore.cli.output import count, note, plain_text, size, tell, wants_json


@click.command()
@basic_options
@kept("the next init continues")
def init() -> None:
    """Create an empty store. An existing store is kept, and migrated if it is older.

    `scanstore scan` creates a store by itself. The new store is in the current folder, even if there is one above,
    unless --db, the environment or the configuration names another place.

    \b
    Example:
      scanstore init --db audit.db
    """
    if (path := new_store_path()) == parts.locations.MEMORY:
        raise Misuse(f"a store in memory ends with its command, so {path} cannot be created ahead; {IN_FILE}")
    new = not os.path.exists(path)
    with open_store(create=True) as store:
        finish()  # an empty store is the result
        tell({"store": store.path, "created": new}, f"{'Created' if new else 'Exists already:'} {store.path}")


@click.command()
@click.argument("file", required=False)
@basic_options
@kept()
def seed(file: str | None) -> None:
    """Add first rows from a FILE, or a small sample. Creates the store if it is missing.

    FILE is TOML or JSON with the sections settings, studios, performers, tags, scenes, models and schedules. Existing
    rows stay unchanged, so you can repeat the command. A store above the current folder must be named with --db.

    \b
    Example:
      scanstore seed
      scanstore seed first.toml --db media.db
    """
    from scanstore.provisioning import seed_db  # start-up of the command line

    named_store_path(creates=True)
    with open_store(create=True) as store:
        added = seed_db(store, file)
        told = [count(number, section[:-1]) for section, number in added.items() if number]
        tell(added, [f"Added {', '.join(told)}"] if told else (), "nothing to add: all rows exist already")


@click.command()
@click.option("--thorough", is_flag=True, help="Also check the contents, as `scanstore check` does.")
@basic_options
@click.pass_context
def health(context: click.Context, thorough: bool) -> None:
    """Report whether the store is usable, without changing it. The exit code is 1 if it is not.

    All pages are read in a file of at most 32 MB. The last line names the parts that were not checked; `scanstore
    check` checks all of them.

    \b
    Example:
      scanstore health --json
    """
    from scanstore.provisioning import check_db_health  # start-up of the command line

    found = check_db_health(store_path(), thorough=thorough)
    lines = list(found.problems)
    if found.ok:
        how = "writable" if found.writable else "read-only"
        facts = f"schema {found.schema_version}, {size(found.bytes)}, {how}, SQLite {found.sqlite}"
        lines.append(f"{found.path}: no problems found ({facts})")
        lines.append(f"not checked: {', '.join(found.unchecked)}; check with: scanstore check{db_option()}")
    tell(found, map(plain_text, lines))
    context.exit(0 if found.ok else 1)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@basic_options
@click.pass_context
@kept("nothing was deleted")
def drop(context: click.Context, yes: bool) -> None:
    """Delete the store and everything in it, after asking. Backups beside it stay.

    Refuses files that are not stores, and a store that is open elsewhere. A store above the current folder must be
    named with --db.

    \b
    Example:
      scanstore drop --db old.db
    """
    from scanstore.provisioning import drop_db  # start-up of the command line

    named_store_path()
    path = existing_store_path()
    if not yes and wants_json():
        raise Misuse("with --json, no question is asked: give --yes to delete the store")
    if not yes and not click.confirm(plain_text(f"Delete {path}, {size(os.path.getsize(path))}, for good?"), err=True):
        note("Nothing was deleted.")
        context.exit(1)
    keep("some files of the store may be left; drop it again")
    dropped = drop_db(path, confirm=True)
    finish()
    tell({"dropped": dropped}, f"Deleted {dropped}")


COMMANDS = (init, seed, health, drop)
