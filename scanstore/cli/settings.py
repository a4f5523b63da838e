"""`scanstore settings`: JSON values by name."""

from __future__ import annotations

import click

from scanstore.cli.base import Group, json_option, open_store, store_option
from scanstore.cli.output import columns, note, plain_text, say, say_json


@click.group(cls=Group)
@store_option
def settings() -> None:
    """Keep values by name."""


def _shown(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@settings.command()
@click.argument("key")
@json_option
@store_option
def get(key: str, as_json: bool) -> None:
    """Print a value: text as it is, anything else as JSON. Exits with 1 when it is not set.

    \b
    Example:
      scanstore settings get page_size
    """
    with open_store() as store:
        value = store.settings[key]
        if as_json:
            say_json(value)
        else:
            say([plain_text(_shown(value))])


@settings.command("set")
@click.argument("key")
@click.argument("value")
@click.option("--text", is_flag=True, help="VALUE is text, even if it looks like a number.")
@click.option("--description", metavar="TEXT", help="What the setting is for. [default: as it was]")
@json_option
@store_option
def set_(key: str, value: str, text: bool, description: str | None, as_json: bool) -> None:
    """Set a VALUE, as JSON. Anything that is not JSON is stored as text. Creates the store if it is missing.

    \b
    Example:
      scanstore settings set page_size 50
      scanstore settings set colours '["red", "blue"]'
      scanstore settings set greeting hello --description "Shown at the start"
    """
    kept = value if text else _read(value)
    with open_store(create=True) as store:
        store.settings.set(key, kept, description=description)
        if as_json:
            say_json({"key": key, "value": kept})
        else:
            say([plain_text(f"{key} = {_shown(kept)}")])


def _read(value: str) -> object:
    import json

    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


@settings.command("list")
@json_option
@store_option
def list_(as_json: bool) -> None:
    """List the settings: name, value, description.

    \b
    Example:
      scanstore settings list
    """
    with open_store() as store:
        found = store.settings.list()
        if as_json:
            say_json(found)
        elif found:
            say(columns((row.key, _shown(row.value), row.description or "") for row in found))
        else:
            note("no settings here; set one with: scanstore settings set KEY VALUE")


@settings.command()
@click.argument("key")
@json_option
@store_option
def unset(key: str, as_json: bool) -> None:
    """Remove a setting.

    \b
    Example:
      scanstore settings unset page_size
    """
    with open_store(write=True) as store:
        store.settings.unset(key)
        if as_json:
            say_json({"unset": key})
        else:
            say([plain_text(f"Unset {key}")])
