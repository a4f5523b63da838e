"""`scanstore config`: the values of the configuration, each with its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click

from scanstore.cli import configuration as project
from scanstore.cli.base import (
    Misuse,
    absolute,
    basic_options,
    configuration,
    given_store,
    group,
    location,
    note_once,
    rows_options,
)
from scanstore.cli.output import Column, Columns, listing, note


class Value(NamedTuple):
    """A value of the configuration, or None, and its source."""

    name: str
    value: object
    source: str


@group
def config() -> None:
    """Show the configuration of the project."""


@config.command()
@rows_options("name", "value", "source")
@basic_options
@click.pass_context
def show(context: click.Context) -> None:
    """List each value with its source: an option, the environment, a file or the default.

    The first row is the store that a command in this folder uses, with the reason. The exit code is 1 if the
    configuration is wrong.

    \b
    Example:
      scanstore config show
      scanstore config show --json
    """
    problems: list[str] = []
    rows = list(_values(problems))
    columns: Columns[Value] = ("name", Column("value", lambda row: _shown(row.value)), "source")
    listing(rows, columns)
    for problem in dict.fromkeys(problems):
        note(f"Error: {problem}")
    context.exit(1 if problems else 0)


def _values(problems: list[str]) -> Iterator[Value]:
    try:
        place = location(given_store())
        note_once(place.passed)
        yield Value("store", absolute(place.path), place.origin)
    except Misuse as error:
        problems.append(error.message)
        yield Value("store", None, "unknown")
    try:
        found = configuration()
    except Misuse as error:
        problems.append(error.message)
        yield Value("file", None, "wrong")
        return
    names = " or ".join(project.NAMES)
    where = "" if found.file is None else "above the current folder" if found.above else "in the current folder"
    yield Value("file", found.file, where or f"no {names} with a configuration here or above")
    for key in ("db", "exclude", "include", "roots", "severities", "gates", "unused-ignore"):
        value = getattr(found, key.replace("-", "_"))
        yield Value(key, list(value) if isinstance(value, tuple) else value, _source(found, key))


def _source(found: project.ProjectConfiguration, key: str) -> str:
    return str(found.file) if key in found.keys else "default"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
