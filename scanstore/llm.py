"""The models that review code: where they are, what they may do, how many calls they take at once."""

from __future__ import annotations

import os
from typing import Any

import peewee

from scanstore.database import Domain, bound
from scanstore.errors import InvalidArgument, NotFound
from scanstore.fields import Base, UTCField, utcnow


class ModelConfig(Base):
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
    created_at = UTCField(default=utcnow)
    updated_at = UTCField(default=utcnow)

    class Meta:
        table_name = "model_configs"

    def resolved_api_key(self) -> str:
        """The key itself; of ``env:NAME``, what the environment holds now. Raises NotFound if it holds nothing."""
        if not self.api_key.startswith("env:"):
            return str(self.api_key)
        variable = self.api_key[4:]
        value = os.environ.get(variable)
        if not value:
            raise NotFound(f"model {self.name!r} takes its key from ${variable}, which is not set; export it first")
        return value


List = list  # the class below has a method of that name


class Models(Domain):
    """Model configurations by name."""

    @bound
    def add(self, name: str, **columns: Any) -> ModelConfig:
        """Add a model. Raises InvalidArgument for an unknown column or a count below one, Conflict for a known name."""
        if not name or not name.strip():
            raise InvalidArgument("a model needs a name, such as 'llama3.3-70b'")
        unknown = set(columns) - set(ModelConfig._meta.fields) | {"id", "created_at", "updated_at"} & set(columns)
        if unknown:
            raise InvalidArgument(f"a model has no column {', '.join(sorted(unknown))} to set")
        for column in ("max_tokens", "max_concurrent", "votes"):
            value = columns.get(column, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgument(f"{column} of model {name!r} must be a whole number of at least 1, not {value!r}")
        return ModelConfig.create(name=name.strip(), **columns)

    @bound
    def get(self, model: str | int | ModelConfig) -> ModelConfig:
        """The model of that name or id. Raises NotFound."""
        if isinstance(model, ModelConfig):
            return model
        field = ModelConfig.id if isinstance(model, int) else ModelConfig.name
        found = ModelConfig.get_or_none(field == model)
        if found is None:
            raise NotFound(f"no model {model!r}; store.llm.list() shows the known ones")
        return found

    @bound
    def list(self) -> List[ModelConfig]:
        return list(ModelConfig.select().order_by(ModelConfig.name))
