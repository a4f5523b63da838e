"""The models for language models: their configurations and slots."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import peewee

from scanstore.db.fields import Numbered, Timestamped, UTCField
from scanstore.db.values import utcnow
from scanstore.errors import NotFound


class ModelConfig(Numbered, Timestamped):
    """One model endpoint. ``api_key`` may be ``env:NAME``; it never appears in ``repr`` or ``to_dict``."""

    __secret__ = frozenset(("api_key",))

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

    if TYPE_CHECKING:
        model_config_id = peewee.IntegerField()

    model_config = peewee.ForeignKeyField(ModelConfig, on_delete="CASCADE", backref="+")
    process = peewee.TextField()
    lease_until = UTCField()
    created_at = UTCField(default=utcnow)

    class Meta:
        table_name = "model_slots"
