"""FILE, the argument of the commands that write a document: a report or a dump.

Change here: the ways to name the file, and the names that are refused because they mean a scan.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import click

from scanstore.cli.base import Decorated, Misuse, is_one_scan, named_target

if TYPE_CHECKING:
    from scanstore.store import Store


def output_argument(command: Decorated) -> Decorated:
    """Add the argument FILE, also as `--output`. The function gets it as `file`, which is None for the standard
    output.

    A command with `--scan` refuses a number, because it means a scan rather than a file.
    """
    scans = any(isinstance(each, click.Option) and "--scan" in each.opts for each in _params(command))

    @functools.wraps(command)
    def merged(*args: object, file: str | None, file_too: str | None, **options: object) -> object:
        if file is not None and file_too is not None:
            raise Misuse(f"FILE and --output are both given, {file} and {file_too}; give one of them")
        if scans and is_one_scan(file):
            raise Misuse(f"FILE is {file}: for the scan, give --scan {file}; for a file of that name, --output {file}")
        given = file_too if file is None else file
        return command(*args, file=None if given in (None, "-") else given, **options)

    text = "Another way to give the argument FILE."
    merged = click.option("-o", "--output", "file_too", metavar="FILE", type=click.Path(), help=text)(merged)
    return cast(Decorated, click.argument("file", metavar="[FILE]", type=click.Path(), required=False)(merged))


def _params(command: Callable[..., object]) -> list[click.Parameter]:
    """Return the parameters that decorators have added to a function so far."""
    return list(getattr(command, "__click_params__", ()))


def check_file(store: Store, file: str | None) -> None:
    """Fail if FILE is the name of a target, because a scan was meant."""
    if file is not None and named_target(store, file) is not None:
        raise Misuse(f"{file} is a target: for its findings, give --scan {file}; for a report, the name of a new file")
