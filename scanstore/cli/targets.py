"""`scanstore targets`: the trees and report series that are scanned again and again."""

from __future__ import annotations

import click

from scanstore.cli.base import basic_options, group, known_target, open_store
from scanstore.cli.interrupts import kept
from scanstore.cli.output import plain_text, tell


@group
def targets() -> None:
    """Rename the targets of scans."""


@targets.command()
@click.argument("target", metavar="OLD")
@click.argument("new", metavar="NEW")
@basic_options
@kept()
def rename(target: str, new: str) -> None:
    """Rename the target OLD, a name or a folder, to NEW. Its scans, findings and decisions stay with it.

    Fails if there is a target NEW. Afterwards, give the new name to the commands that record: without `--target`, the
    target of a tree is its path.

    \b
    Example:
      scanstore targets rename /home/me/shop shop
      scanstore scan /home/me/shop --target shop
    """
    with open_store(write=True) as store:
        old = known_target(store, target)
        tell(store.scans.rename_target(old, new), plain_text(f"Renamed target {old} to {new.strip()}"))
