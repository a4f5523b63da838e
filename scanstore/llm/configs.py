"""Language models by name: their addresses, limits and concurrency.

Change here: the columns of a configuration and their accepted values.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypedDict, Unpack

from scanstore.db.arguments import encodable
from scanstore.db.domain import Domain, reads
from scanstore.db.pagination import listed
from scanstore.db.rows import Removed, Rows, remove
from scanstore.errors import Conflict, InvalidArgument, NotFound, shown
from scanstore.llm.models import ModelConfig, check_columns
from scanstore.llm.slots import Slot


class ModelColumns(TypedDict, total=False):
    """What may be set of a model. An ``api_key`` of ``env:NAME`` is read from the environment when it is used."""

    base_url: str
    api_key: str
    max_tokens: int
    max_concurrent: int
    votes: int
    is_analyzer: bool
    is_verifier: bool
    analysis_prompt_template: str
    verification_prompt_template: str


class ModelChanges(ModelColumns, total=False):
    """What may be changed of a model: its columns and its name."""

    name: str


class Configs(Domain):
    """Model configurations by name, and the slots of the models."""

    # -- configurations ----------------------------------------------------------------------------------------------

    def add(self, name: str, **columns: Unpack[ModelColumns]) -> ModelConfig:
        """Add a model. Raises InvalidArgument for an unknown column or an invalid value, Conflict for an
        existing name.
        """
        values = check_columns(name, {**columns, "name": name})
        try:
            return ModelConfig.create(**values)
        except Conflict as error:
            raise self._known(values["name"]) from error

    def ensure(self, name: str, **columns: Unpack[ModelColumns]) -> ModelConfig:
        """Return the model with this name unchanged, or add it with these columns. Raises InvalidArgument."""
        values = check_columns(name, {**columns, "name": name})
        ModelConfig.insert(**values).on_conflict_ignore().execute()
        return self.get(values["name"])

    @reads
    def get(self, model: str | int | ModelConfig) -> ModelConfig:
        """Read the model with this name or id. Raises NotFound, InvalidArgument."""
        found = self.find(model)
        if found is None:
            raise NotFound(f"no model {shown(model)}; store.llm.list() (scanstore models list) shows the known ones")
        return found

    @reads
    def find(self, model: str | int | ModelConfig) -> ModelConfig | None:
        """Read the model with this name or id, or return None. Raises InvalidArgument."""
        if isinstance(model, str):
            name = encodable(model, "the name of a model")
            return ModelConfig.get_or_none(ModelConfig.name == name)
        key: object = model
        if isinstance(model, ModelConfig):
            model.check_home()
            key = model.id
        if isinstance(key, bool) or not isinstance(key, int) or not 0 < key < 2**63:
            raise InvalidArgument(f"{shown(model)} is not a model; give its name, its id or its row")
        return ModelConfig.get_or_none(ModelConfig.id == key)

    @reads
    def list(self, *, limit: int | None = None, offset: int = 0, sort: str | None = None) -> Rows[ModelConfig]:
        """List all models by name."""
        return listed(ModelConfig.select().order_by(ModelConfig.name), limit=limit, offset=offset, sort=sort)

    def update(self, model: str | int | ModelConfig, **columns: Unpack[ModelChanges]) -> ModelConfig:
        """Change columns of a model and return it. A new ``max_concurrent`` applies to waiting workers immediately.

        Raises NotFound, InvalidArgument for an unknown column or an invalid value, Conflict if another model has the
        name.
        """
        row = self.get(model)
        values = check_columns(row.name, columns)
        if values:
            try:
                ModelConfig.update(values).where(ModelConfig.id == row.id).execute()
            except Conflict as error:
                raise self._known(values.get("name", row.name)) from error
        return self.get(row.id)

    def remove(self, model: str | int | ModelConfig) -> Removed:
        """Remove a model and return the number of removed rows by table. Its calls stay, under its name.

        Raises NotFound, and Conflict if it has voted.
        """
        with self.db.atomic():
            row = self.get(model)
            votes = self.db.execute_sql("SELECT count(*) FROM votes WHERE model_config_id = ?", (row.id,)).fetchone()[0]
            if votes:
                cast = f"{votes} vote{'s' if votes > 1 else ''}"
                raise Conflict(
                    f"model {row.name!r} has cast {cast}, which would lose their voter; "
                    "keep it, or first remove the scans that it voted on"
                )
            return remove(self.db, "model_configs", "id = ?", (row.id,))

    @staticmethod
    def _known(name: str) -> Conflict:
        return Conflict(f"there is already a model {name!r}; change it with store.llm.update (scanstore models update)")

    # -- slots ------------------------------------------------------------------------------------------------------

    def slot(
        self, model: str | int | ModelConfig, *, timeout: float | None = None, lease: float = 600.0
    ) -> AbstractContextManager[Slot]:
        """Hold one of the ``max_concurrent`` slots of a model: ``with store.llm.slot(model):``.

        At most ``max_concurrent`` blocks run at once, over all threads and processes of the store. Others wait in order
        of arrival, up to ``timeout`` seconds (None: no limit, 0: do not wait). The slots of a dead process become free
        immediately; on another machine, ``lease`` seconds after they were taken or ``slot.heartbeat()`` was called.
        Raises NoSlot after the timeout, NotFound, and IllegalMove inside a transaction.
        """
        return Slot(self.db, self.get(model), timeout=timeout, lease=lease)
