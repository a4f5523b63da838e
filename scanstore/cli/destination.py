"""FILE, the argument of the commands that write a document: a report or a dump.

Change here: the ways to name the file, and the names that are refused because they mean a scan.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, cast

import click

from scanstore.cli.base import Decorated, Misuse, db_option, is_one_scan, named_target

if TYPE_CHECKING:
    from scanstore.store import Store


REPORTS = {
    ".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown", ".json": "json", ".csv": "csv",
    ".txt": "text",
}  # fmt: skip
_COMMANDS = {  # the command that writes files with an ending
    **dict.fromkeys(REPORTS, "scanstore report {}"),
    **dict.fromkeys((".sarif", ".sarif.json"), "scanstore sarif dump {}"),
    **dict.fromkeys((".jsonl", ".ndjson"), "scanstore dump {}"),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "scanstore backup {}"),
    ".tsv": "scanstore findings list --tsv > {}",
}
#: Endings of well-known formats that no command writes.
_UNKNOWN = frozenset(
    ".pdf .xml .yaml .yml .toml .xls .xlsx .ods .docx .odt .rst .adoc .tex .parquet .zip .gz .svg .png .ipynb".split()
)


def check_ending(file: str | None, writes: str, own: Collection[str], otherwise: str) -> None:
    """Fail if the ending of FILE promises another format than the one that the command ``writes``.

    ``own`` are the endings that fit, and ``otherwise`` says how to write the file all the same.
    """
    name = os.path.basename(file or "").lower()
    ending = ".sarif.json" if name.endswith(".sarif.json") else os.path.splitext(name)[1]
    if file is None or ending in own or ending not in _COMMANDS and ending not in _UNKNOWN:
        return
    if ending in _UNKNOWN:
        remedy = f"no command writes {ending[1:].upper()}: give another ending"
    else:
        remedy = f"run: {_COMMANDS[ending].format(shlex.quote(file))}{db_option()}"
    raise Misuse(f"{file} ends with {ending}, but this command writes {writes}; {remedy}; or {otherwise}")


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
