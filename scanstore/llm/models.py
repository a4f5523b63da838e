"""The models for language models: their configurations and slots."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import peewee

from scanstore.db.fields import Numbered, Timestamped, UTCField
from scanstore.db.rules import Rules
from scanstore.db.values import utcnow
from scanstore.errors import InvalidArgument, NotFound, shown

COUNTS = frozenset(("max_tokens", "max_concurrent", "votes"))
SWITCHES = frozenset(("is_analyzer", "is_verifier"))
TEXTS = frozenset(("name", "base_url", "api_key", "analysis_prompt_template", "verification_prompt_template"))


class ModelConfig(Numbered, Timestamped):
    """One model endpoint. ``api_key`` may be ``env:NAME``; it never appears in ``repr`` or ``to_dict``."""

    __shown__ = ": name | votes, is_analyzer, is_verifier, max_tokens, max_concurrent"

    __secret__ = frozenset(("api_key",))
    __rules__ = Rules(held="keep the model, or first remove the scans that it voted on: store.scans.remove(scan)")

    name = peewee.TextField(unique=True)
    base_url = peewee.TextField(default="")
    api_key = peewee.TextField(default="")
    max_tokens = peewee.IntegerField(default=4096)
    max_concurrent = peewee.IntegerField(default=2)
    votes = peewee.IntegerField(default=1)
    is_analyzer = peewee.BooleanField(default=False)
    is_verifier = peewee.BooleanField(default=False)
    analysis_prompt_template = peewee.TextField(default="")
    verification_prompt_template = peewee.TextField(default="")

    class Meta:
        table_name = "model_configs"

    def _prepare(self, names: set[str], *, new: bool) -> None:
        checked = names & (COUNTS | SWITCHES | TEXTS) | ({"name"} if new else set())
        for name, value in check_columns(self.__data__.get("name"), {n: self.__data__.get(n) for n in checked}).items():
            setattr(self, name, value)

    @classmethod
    def _prepare_update(cls, values: dict[str, Any]) -> None:
        plain = {
            name: value
            for name, value in values.items()
            if name in COUNTS | SWITCHES | TEXTS and not isinstance(value, peewee.Node)
        }
        values.update(check_columns(plain.get("name", "…"), plain))

    def resolved_api_key(self) -> str:
        """Return the key, or for ``env:NAME`` the current value of the environment variable. Raises NotFound if it is
        not set.
        """
        if not self.api_key.startswith("env:"):
            return str(self.api_key)
        variable = self.api_key[4:]
        value = os.environ.get(variable)
        if not value:
            raise NotFound(f"model {self.name!r} takes its key from ${variable}, which is not set; export it first")
        return value


class ModelSlot(Numbered):
    """A ticket for one of the slots of a model."""

    __shown__ = "model_config: lease_until"

    if TYPE_CHECKING:
        model_config_id = peewee.IntegerField()

    model_config = peewee.ForeignKeyField(ModelConfig, on_delete="CASCADE", backref="+")
    process = peewee.TextField()
    lease_until = UTCField()
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "model_slots"


def check_columns(name: object, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked columns. A key is never shown, not even in an error."""
    unknown = set(columns) - COUNTS - SWITCHES - TEXTS
    if unknown:
        raise InvalidArgument(f"a model has no column {', '.join(sorted(unknown))} to set")
    for column, value in columns.items():
        said = "what was given" if column == "api_key" else shown(value)
        if column in COUNTS and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**63):
            raise InvalidArgument(f"{column} of model {shown(name)} must be a whole number of at least 1, not {said}")
        if column in SWITCHES and not isinstance(value, bool):
            raise InvalidArgument(f"{column} of model {shown(name)} must be True or False, not {said}")
        if column in TEXTS:
            if not isinstance(value, str):
                raise InvalidArgument(f"{column} of model {shown(name)} must be text, not {said}")
            if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
                raise InvalidArgument(f"{column} of model {shown(name)} has characters that cannot be stored in text")
    if "name" in columns:
        columns = {**columns, "name": columns["name"].strip()}
        if not columns["name"]:
            raise InvalidArgument("a model needs a name, such as 'llama3.3-70b'")
    key = columns.get("api_key", "")
    if key.startswith("env:") and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", key):
        raise InvalidArgument(
            f"api_key of model {shown(name)} begins with env: and no variable follows; write env:MY_KEY"
        )
    return dict(columns)
