"""`scanstore models`: the language models of an analysis and their settings.

A key is never printed. It comes from the environment, by name, or over stdin: the command line itself can be seen by
every user of the machine, and is kept in the shell's history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from scanstore import parts
from scanstore.cli.absence import none
from scanstore.cli.base import Decorated, Misuse, basic_options, group, open_store, rows_options
from scanstore.cli.interrupts import kept
from scanstore.cli.output import Column, Columns, Fact, card, count, listing, tell, window
from scanstore.cli.streams import is_terminal, text_input

if TYPE_CHECKING:
    from scanstore.llm.configs import ModelChanges, ModelColumns
    from scanstore.llm.models import ModelConfig

PROMPTS = {"analysis_prompt": "analysis_prompt_template", "verification_prompt": "verification_prompt_template"}


@group
def models() -> None:
    """Manage the language models of an analysis."""


def _reference(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """What names a key without being one. A refused value is not shown: it may be a key."""
    if value is None or value.startswith("env:"):
        return value
    if value == "none":
        return ""
    raise click.BadParameter(
        "a key does not belong on the command line, where others see it; give env:NAME for the variable that holds"
        " it, or use --api-key-stdin"
    )


def _settings(command: Decorated) -> Decorated:
    """Add the options that set columns of a model."""
    prompt = click.Path(exists=True, dir_okay=False)
    number = click.IntRange(min=1)
    for option in reversed(
        (
            click.option("--base-url", metavar="URL", help="Address of the model's API."),
            click.option(
                "--api-key", callback=_reference, metavar="env:NAME|none",
                help="Environment variable that holds the key; it is read when the key is used.",
            ),
            click.option("--api-key-stdin", is_flag=True, help="Read the key from standard input, and store it."),
            click.option("--max-tokens", type=number, metavar="N", help="Maximum tokens of an answer."),
            click.option(
                "--max-concurrent", type=number, metavar="N",
                help="Maximum calls at the same time, over all processes.",
            ),
            click.option("--votes", type=number, metavar="N", help="Weight of its vote."),
            click.option("--analyzer/--no-analyzer", "is_analyzer", default=None, help="The model may analyse chunks."),
            click.option("--verifier/--no-verifier", "is_verifier", default=None, help="The model may vote on drafts."),
            click.option("--analysis-prompt", type=prompt, metavar="FILE", help="Prompt template for analysing."),
            click.option("--verification-prompt", type=prompt, metavar="FILE", help="Prompt template for voting."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _columns(given: dict[str, Any]) -> dict[str, object]:
    """The columns that the options set; those not given are left out."""
    if given.pop("api_key_stdin"):
        if given["api_key"] is not None:
            raise Misuse("give one of --api-key and --api-key-stdin")
        given["api_key"] = _key_from_stdin()
    for option, column in PROMPTS.items():
        path = given.pop(option)
        if path is not None:
            given[column] = _text(path)
    return {column: value for column, value in given.items() if value is not None}


def _key_from_stdin() -> str:
    if is_terminal("stdin"):
        key = click.prompt("API key", hide_input=True, err=True)
    else:
        key = text_input()
    key = key.strip()
    if not key or not key.isprintable():
        raise Misuse("standard input has no key" if not key else "standard input is not a key: it has several lines")
    return str(key)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None


def _key(model: ModelConfig) -> str:
    key = str(model.api_key)
    return key if key.startswith("env:") else "(set)" if key else "(none)"


def _dict(model: ModelConfig) -> dict[str, object]:
    return {**model.to_dict(), "api_key": _key(model)}


def _roles(model: ModelConfig) -> str:
    roles = (("analyzer", model.is_analyzer), ("verifier", model.is_verifier))
    return ", ".join(role for role, has in roles if has) or "no role"


@models.command()
@click.argument("name")
@_settings
@basic_options
@kept()
def add(name: str, **given: object) -> None:
    """Add a model under a NAME. Creates the store if it is missing.

    \b
    Example:
      scanstore models add llama3 --base-url http://localhost:11434/v1 --analyzer
      scanstore models add gpt --api-key env:OPENAI_API_KEY --verifier --max-concurrent 4
    """
    columns_given = _columns(given)
    with open_store(create=True) as store:
        model = store.llm.add(name, **cast("ModelColumns", columns_given))
        tell(_dict(model), f"Added model {model.name}: {_roles(model)}, {_limits(model)}")


def _limits(model: ModelConfig) -> str:
    return f"{count(model.max_concurrent, 'call')} at once, {count(model.max_tokens, 'token')} an answer"


@models.command("list")
@rows_options("name", "roles", "limits", "key", "address")
@basic_options
def list_() -> None:
    """List the models: name, roles, limits, key, address.

    \b
    Example:
      scanstore models list
    """
    columns: Columns[ModelConfig] = (
        "name",
        Column("roles", _roles),
        Column("limits", _limits),
        Column("key", lambda model: f"key {_key(model)}"),
        Column("address", "base_url"),
    )
    with open_store() as store:
        found = store.llm.list(**window(parts.models.ModelConfig, columns))
        listing(found, columns, none("models", "add one with: scanstore models add NAME"), data=_dict)


@models.command()
@click.argument("name")
@basic_options
def show(name: str) -> None:
    """Show a model, its prompts, and how many of its slots are taken. The key is hidden; only its source is shown.

    \b
    Example:
      scanstore models show gpt
    """
    with open_store() as store:
        model = store.llm.get(name)
        held, waiting = parts.slots.taken(store.database, model.id)
        card(
            {**_dict(model), "places": {"held": held, "waiting": waiting}},
            model.name,
            _facts(model, held, waiting),
            *((option.replace("_", " "), getattr(model, column)) for option, column in PROMPTS.items()),
        )


def _facts(model: ModelConfig, held: int, waiting: int) -> list[Fact]:
    wait = f", {waiting:,} waiting" if waiting else ""
    return [
        ("base URL", model.base_url or "(none)"),
        ("key", _key(model)),
        ("roles", _roles(model)),
        ("weight", count(model.votes, "vote")),
        ("answer", f"at most {count(model.max_tokens, 'token')}"),
        ("places", f"{held:,} of {model.max_concurrent:,} taken{wait}"),
    ]


@models.command()
@click.argument("name")
@_settings
@basic_options
@kept()
def update(name: str, **given: object) -> None:
    """Change the given settings of a model. A new limit of calls applies at once, also to waiting calls.

    \b
    Example:
      scanstore models update gpt --max-concurrent 8 --no-verifier
    """
    columns_given = _columns(given)
    if not columns_given:
        raise Misuse("nothing to change; scanstore models update --help lists the settings")
    with open_store(write=True) as store:
        model = store.llm.update(name, **cast("ModelChanges", columns_given))
        tell(_dict(model), f"Model {model.name}: {_roles(model)}, {_limits(model)}")


@models.command()
@click.argument("name")
@basic_options
@kept()
def remove(name: str) -> None:
    """Remove a model that has not voted. The cost of its calls stays recorded.

    \b
    Example:
      scanstore models remove gpt
    """
    with open_store(write=True) as store:
        store.llm.remove(name)
        tell({"removed": name}, f"Removed model {name}")
