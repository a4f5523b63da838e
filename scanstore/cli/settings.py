"""`scanstore settings`: JSON values by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, listing, tell, window

if TYPE_CHECKING:
    from scanstore.settings import Setting


@group
def settings() -> None:
    """Manage settings: JSON values by name."""


def _shown(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@settings.command()
@click.argument("key")
@basic_options
def get(key: str) -> None:
    """Print a value: text as it is, anything else as JSON. Exits with 1 when it is not set.

    \b
    Example:
      scanstore settings get page_size
    """
    with open_store() as store:
        value = store.settings[key]
        tell(value, _shown(value))


@settings.command("set")
@click.argument("key")
@click.argument("value")
@click.option("--text", is_flag=True, help="VALUE is text, even if it looks like a number.")
@click.option("--description", metavar="TEXT", help="Purpose of the setting. [default: unchanged]")
@basic_options
@kept()
def set_(key: str, value: str, text: bool, description: str | None) -> None:
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
        tell({"key": key, "value": kept}, f"{key} = {_shown(kept)}")


def _read(value: str) -> object:
    import json

    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


@settings.command("list")
@rows_options("key", "value", "description")
@basic_options
def list_() -> None:
    """List the settings: name, value, description.

    \b
    Example:
      scanstore settings list
    """
    with open_store() as store:
        value: Column[Setting] = Column("value", lambda row: _shown(row.value), key=_comparable)
        columns: Columns[Setting] = ("key", value, "description")
        hint = "set one with: scanstore settings set KEY VALUE"
        found = store.settings.list(**window(parts.models.Setting, columns))
        listing(found, columns, none("settings", hint))


def _comparable(row: Setting) -> object:
    """Numbers compare as numbers, and all other values by their text."""
    return row.value if isinstance(row.value, (int, float)) else _shown(row.value)


@settings.command()
@click.argument("key")
@basic_options
@kept()
def unset(key: str) -> None:
    """Remove a setting.

    \b
    Example:
      scanstore settings unset page_size
    """
    with open_store(write=True) as store:
        store.settings.remove(key)
        tell({"unset": key}, f"Unset {key}")
