"""`scanstore prompts`: versions of prompts, and the default of each type."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import Failure, basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, aside, listing, paragraph, tell, window

if TYPE_CHECKING:
    from scanstore.sessions.models import Configuration

DEFAULT = click.option("--default", is_flag=True, help="Make it the default of its type.")
SHOWN = 60  # characters of a prompt in a list


@group
def prompts() -> None:
    """Manage versions of prompts."""


def _short(row: Configuration) -> str:
    words = " ".join(row.prompt_content.split())
    return words if len(words) <= SHOWN else words[: SHOWN - 1].rstrip() + "…"


def _told(row: Configuration) -> None:
    tell(row, f"Prompt {row.config_type}: version {row.version}{', the default' * bool(row.is_default)}")


@prompts.command("list")
@click.argument("user")
@click.option("--type", "config_type", metavar="TYPE", help="Only prompts of this type.")
@rows_options("type", "version", "default", "created", "prompt")
@basic_options
def list_(user: str, config_type: str | None) -> None:
    """List the prompts of USER, an address or an id: the newest version first.

    \b
    Example:
      scanstore prompts list ada@example.org
      scanstore prompts list ada@example.org --type summary
    """
    with open_store() as store:
        columns: Columns[Configuration] = (
            Column("type", "config_type"),
            Column("version", right=True),
            Column("default", lambda row: "default" if row.is_default else ""),
            Column("created", lambda row: f"{row.created_at:%Y-%m-%d}", key="created_at"),
            Column("prompt", _short),
        )
        only = window(parts.models.Configuration, columns)
        found = store.sessions.prompts.list(user, type=config_type, **only)
        listing(found, columns, none("prompts", "save one with: scanstore prompts save USER TYPE FILE"))


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="The version. [default: the default version]")
@basic_options
def show(user: str, config_type: str, version: int | None) -> None:
    """Print a prompt of USER.

    \b
    Example:
      scanstore prompts show ada@example.org summary
      scanstore prompts show ada@example.org summary --version 2
    """
    with open_store() as store:
        row = store.sessions.prompts.get(user, config_type, version=version)
        aside(f"{row.config_type}, version {row.version}{', the default' * bool(row.is_default)}")
        tell(row, paragraph(row.prompt_content, indent=""))


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@DEFAULT
@basic_options
@kept()
def save(user: str, config_type: str, file: IO[str], default: bool) -> None:
    """Save the text of FILE (- is standard input) as the next version of a prompt of USER.

    The first version of a type is its default. If the latest version has the same text, none is added.

    \b
    Example:
      scanstore prompts save ada@example.org summary prompt.txt
      scanstore prompts save ada@example.org summary prompt.txt --default
    """
    try:
        content = file.read()
    except UnicodeDecodeError:
        raise Failure(f"{file.name} is not text in UTF-8") from None
    with open_store(write=True) as store:
        _told(store.sessions.prompts.add(user, config_type, content, default=default))


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.argument("version", type=click.IntRange(min=1))
@DEFAULT
@basic_options
@kept()
def restore(user: str, config_type: str, version: int, default: bool) -> None:
    """Save the text of an old VERSION as a new version.

    \b
    Example:
      scanstore prompts restore ada@example.org summary 2 --default
    """
    with open_store(write=True) as store:
        _told(store.sessions.prompts.restore(user, config_type, version, default=default))


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.argument("version", type=click.IntRange(min=1))
@basic_options
@kept()
def default(user: str, config_type: str, version: int) -> None:
    """Make VERSION the default of its type.

    \b
    Example:
      scanstore prompts default ada@example.org summary 2
    """
    with open_store(write=True) as store:
        _told(store.sessions.prompts.set_default(user, config_type, version))
