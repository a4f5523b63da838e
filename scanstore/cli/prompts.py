"""`scanstore prompts`: versions of prompts, and which is the default."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TypeVar

import click

from scanstore.cli.base import Failure, Group, json_option, open_store, store_option
from scanstore.cli.output import columns, note, paragraph, plain_text, say, say_json

if TYPE_CHECKING:
    from scanstore.sessions.models import Configuration

SHOWN = 60  # characters of a prompt in a list


@click.group(cls=Group)
@store_option
def prompts() -> None:
    """Keep versions of prompts."""


def _cells(row: Configuration) -> tuple[str, ...]:
    words = " ".join(row.prompt_content.split())
    short = words if len(words) <= SHOWN else words[: SHOWN - 1].rstrip() + "…"
    return row.config_type, str(row.version), "default" if row.is_default else "", f"{row.created_at:%Y-%m-%d}", short


def _told(row: Configuration, as_json: bool) -> None:
    if as_json:
        say_json(row)
    else:
        say([plain_text(f"Prompt {row.config_type}: version {row.version}{', the default' * bool(row.is_default)}")])


@prompts.command("list")
@click.argument("user")
@click.option("--type", "config_type", metavar="TYPE", help="Only the versions of this one.")
@json_option
@store_option
def list_(user: str, config_type: str | None, as_json: bool) -> None:
    """List the prompts of USER, an address or an id: the newest version first.

    \b
    Example:
      scanstore prompts list ada@example.org
      scanstore prompts list ada@example.org --type summary
    """
    with open_store() as store:
        found = store.sessions.prompts(store.accounts.get(user), config_type)
        if as_json:
            say_json(found)
        elif found:
            say(columns(map(_cells, found), right=[1]))
        else:
            note("no such prompts here; save one with: scanstore prompts save USER TYPE FILE")


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="Which one. [default: the default]")
@json_option
@store_option
def show(user: str, config_type: str, version: int | None, as_json: bool) -> None:
    """Print a prompt of USER.

    \b
    Example:
      scanstore prompts show ada@example.org summary
      scanstore prompts show ada@example.org summary --version 2
    """
    with open_store() as store:
        row = store.sessions.prompt(store.accounts.get(user), config_type, version)
        if as_json:
            say_json(row)
        else:
            note(f"{row.config_type}, version {row.version}{', the default' * bool(row.is_default)}")
            say(paragraph(row.prompt_content, indent=""))


_Decorated = TypeVar("_Decorated", bound=Callable[..., object])


def _default_option(command: _Decorated) -> _Decorated:
    return click.option("--default", is_flag=True, help="Make it the default of its type.")(command)


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@_default_option
@json_option
@store_option
def save(user: str, config_type: str, file: IO[str], default: bool, as_json: bool) -> None:
    """Save the text of FILE (- is standard input) as the next version of a prompt of USER.

    The first of a type is its default. Nothing is added when the latest version says the same.

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
        _told(store.sessions.save_prompt(store.accounts.get(user), config_type, content, default=default), as_json)


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.argument("version", type=click.IntRange(min=1))
@_default_option
@json_option
@store_option
def restore(user: str, config_type: str, version: int, default: bool, as_json: bool) -> None:
    """Save an old VERSION again, as the newest.

    \b
    Example:
      scanstore prompts restore ada@example.org summary 2 --default
    """
    with open_store(write=True) as store:
        row = store.accounts.get(user)
        _told(store.sessions.restore_prompt(row, config_type, version, default=default), as_json)


@prompts.command()
@click.argument("user")
@click.argument("config_type", metavar="TYPE")
@click.argument("version", type=click.IntRange(min=1))
@json_option
@store_option
def default(user: str, config_type: str, version: int, as_json: bool) -> None:
    """Make VERSION the default of its type.

    \b
    Example:
      scanstore prompts default ada@example.org summary 2
    """
    with open_store(write=True) as store:
        _told(store.sessions.default_prompt(store.accounts.get(user), config_type, version), as_json)
