"""The models that review code: where they are, what they may do, how many calls they take at once.

``store.llm`` is the one door to them. What stands behind it has rooms of its own, entered when first asked for: the
places of a model are in slots.py, what a call cost in calls.py, answers that were paid for in answers.py. Change here:
the columns of a configuration and what they accept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import peewee

from scanstore.database import Domain, bound
from scanstore.errors import Conflict, InvalidArgument, NotFound, shown
from scanstore.fields import Base, UTCField, utcnow

if TYPE_CHECKING:
    from scanstore.answers import Analyzer
    from scanstore.calls import Call, ModelCall, Usage
    from scanstore.job_worker import Stop
    from scanstore.scans import Scan
    from scanstore.slots import Slot


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


COUNTS = frozenset(("max_tokens", "max_concurrent", "votes"))
SWITCHES = frozenset(("is_analyzer", "is_verifier"))
TEXTS = frozenset(("name", "base_url", "api_key", "analysis_prompt_template", "verification_prompt_template"))
List = list  # the class below has a method of that name


class Models(Domain):
    """Model configurations by name; their places, their calls and what they have answered."""

    # -- configurations ----------------------------------------------------------------------------------------------

    @bound
    def add(self, name: str, **columns: Any) -> ModelConfig:
        """Add a model. Raises InvalidArgument for an unknown column or an unfit value, Conflict for a known name."""
        columns = _checked(name, {**columns, "name": name})
        try:
            return ModelConfig.create(**columns)
        except Conflict as error:
            raise self._known(columns["name"]) from error

    @bound
    def ensure(self, name: str, **columns: Any) -> ModelConfig:
        """The model of that name as it is, added with these columns when there is none. Raises InvalidArgument."""
        columns = _checked(name, {**columns, "name": name})
        ModelConfig.insert(**columns).on_conflict_ignore().execute()
        return self.get(columns["name"])

    @bound
    def get(self, model: str | int | ModelConfig) -> ModelConfig:
        """The model of that name or id, read anew. Raises NotFound."""
        key: Any = model
        if isinstance(model, ModelConfig):
            model.check_home()
            key = model.id or 0
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise InvalidArgument(f"{shown(key)} is not a model; give its name, its id or its row")
        found = None
        if isinstance(key, str):
            found = ModelConfig.get_or_none(ModelConfig.name == key)
        elif 0 < key < 2**63:
            found = ModelConfig.get_or_none(ModelConfig.id == key)
        if found is None:
            raise NotFound(f"no model {shown(model)}; store.llm.list() (scanstore models list) shows the known ones")
        return found

    @bound
    def list(self) -> List[ModelConfig]:
        """All models, by name."""
        return list(ModelConfig.select().order_by(ModelConfig.name))

    @bound
    def update(self, model: str | int | ModelConfig, **columns: Any) -> ModelConfig:
        """Change columns of a model and return it; whoever waits for a place sees a new ``max_concurrent`` at once.

        Raises NotFound, InvalidArgument for an unknown column or an unfit value, Conflict for the name of another one.
        """
        row = self.get(model)
        columns = _checked(row.name, columns)
        if columns:
            try:
                ModelConfig.update(columns).where(ModelConfig.id == row.id).execute()
            except Conflict as error:
                raise self._known(columns.get("name", row.name)) from error
        return self.get(row.id)

    @bound
    def remove(self, model: str | int | ModelConfig) -> None:
        """Remove a model; its calls stay, under its name. Raises NotFound, and Conflict when it has voted."""
        with self.db.atomic():
            row = self.get(model)
            votes = self.db.execute_sql("SELECT count(*) FROM votes WHERE model_config_id = ?", (row.id,)).fetchone()[0]
            if votes:
                cast = f"{votes} vote{'s' if votes > 1 else ''}"
                raise Conflict(
                    f"model {row.name!r} has cast {cast}, which would lose their voter; "
                    "keep it, or first remove the scans that it voted on"
                )
            ModelConfig.delete().where(ModelConfig.id == row.id).execute()

    @staticmethod
    def _known(name: str) -> Conflict:
        return Conflict(f"there is already a model {name!r}; change it with store.llm.update (scanstore models update)")

    # -- places ------------------------------------------------------------------------------------------------------

    @bound
    def slot(
        self, model: str | int | ModelConfig, *, timeout: float | None = None, lease: float = 600.0
    ) -> AbstractContextManager[Slot]:
        """Hold one of the ``max_concurrent`` places of a model: ``with store.llm.slot(model):``.

        At most that many blocks are inside at once, over all threads and processes that use the store; the others wait
        in the order in which they came, up to ``timeout`` seconds (None: for ever, 0: not at all). A process that ends
        leaves its places at once; one of another machine does so ``lease`` seconds after it took them or called
        ``slot.heartbeat()``. Raises NoSlot after the timeout, NotFound, and IllegalMove inside a transaction.
        """
        from scanstore.slots import Slot

        return Slot(self.db, self.get(model), timeout=timeout, lease=lease)

    # -- calls -------------------------------------------------------------------------------------------------------

    @bound
    def call(
        self,
        model: str | int | ModelConfig,
        *,
        purpose: str,
        scan: Any = None,
        chunk: Any = None,
        draft: Any = None,
        analyzer: Analyzer | int | None = None,
        prompt: str | None = None,
        keep: bool = False,
    ) -> AbstractContextManager[Call]:
        """Record one call of a model: ``with store.llm.call(model, purpose="analysis", chunk=chunk) as call:``.

        In the block set ``call.response``, and as far as they are known ``call.prompt_tokens``,
        ``call.completion_tokens`` and ``call.cost``. One short write is made at each end and none between. The call is
        ``answered`` once it has a response, whatever happens afterwards, else ``failed``. With ``keep``, ``prompt`` and
        response are kept with it, compressed. With ``analyzer``, the response to a chunk or draft is kept for
        :meth:`answer`, by the same transaction.

        Raises NotFound, InvalidArgument (rows of different scans; an analyzer of another model), and IllegalMove inside
        a transaction. What is unfit in the call's values is raised when the block ends, after the rest was recorded.
        """
        from scanstore.calls import begin

        return begin(
            self.db, model, purpose=purpose, scan=scan, chunk=chunk, draft=draft, analyzer=analyzer, prompt=prompt,
            keep=keep,
        )  # fmt: skip

    @bound
    def calls(
        self,
        scan: Scan | int | None = None,
        *,
        purpose: str | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> List[ModelCall]:
        """Calls, newest first, without their prompts and responses: :meth:`get_call` reads those."""
        from scanstore.calls import listed
        from scanstore.scans import Scans

        return listed(None if scan is None else Scans(self.db).get(scan).id, purpose, status, limit)

    @bound
    def get_call(self, call: ModelCall | int) -> ModelCall:
        """One call, with ``prompt_text`` and ``response_text`` as far as they were kept. Raises NotFound."""
        from scanstore.calls import get

        return get(call)

    @bound
    def usage(self, scan: Scan | int | None = None) -> List[Usage]:
        """Calls, tokens, cost and seconds by model and purpose, of one scan or of all together."""
        from scanstore.calls import usage
        from scanstore.scans import Scans

        return usage(self.db, None if scan is None else Scans(self.db).get(scan).id)

    # -- answers -----------------------------------------------------------------------------------------------------

    @bound
    def analyzer(self, model: str | int | ModelConfig, /, *, prompt: str | None = None, **parameters: Any) -> Analyzer:
        """A model asked in one certain way; its answers are kept. The same for the same arguments, whoever asks.

        ``prompt`` is the template (default: the model's ``analysis_prompt_template``), ``parameters`` whatever else
        decides about an answer, as JSON. Another model, another ``max_tokens``, template or parameter makes another
        analyzer. Make one for each question: verifying and enriching a draft are two.
        """
        from scanstore.answers import ensure

        return ensure(self.db, self.get(model), prompt, parameters)

    @bound
    def answer(self, analyzer: Analyzer | int, subject: Any) -> str | None:
        """What the analyzer has answered about the content of a chunk or draft, in whichever scan; else None.

        ``subject`` is a row or an id (one of 2**24 or more is a chunk's); a verified finding must be
        given as a row. Raises NotFound.
        """
        from scanstore.answers import answer, content_key, identify

        return answer(self.db, identify(analyzer).id, content_key(self.db, subject).content)

    @bound
    def ask(
        self,
        analyzer: Analyzer | int,
        subject: Any,
        function: Callable[[], str | tuple[str, Mapping[str, Any]]],
        *,
        purpose: str | None = None,
        timeout: float | None = None,
        keep: bool = False,
        lease: float = 600.0,
        stop: Stop | None = None,
    ) -> str:
        """The analyzer's answer about a chunk or draft: the one that is known, else what ``function()`` returns.

        The function is called in a slot of the model and inside a call, which keeps the answer. It returns the
        response, or the response and a mapping with any of ``prompt_tokens``, ``completion_tokens`` and ``cost``. What
        it raises is recorded and passed on. ``purpose`` is by default "analysis" for chunks, "verification" for drafts
        and "enrichment" for verified findings.

        When several workers ask the same question at the same moment, in any number of threads and processes, one of
        them asks and the others wait for its answer, without a slot or a transaction. When the asker fails or dies, or
        after ``lease`` seconds without an answer, the next one asks.

        It waits at most ``timeout`` seconds for a slot or another's answer (None: for ever, 0: not at all) and then, or
        once ``stop`` is set (a ``threading.Event``), raises NoSlot. When the subject is leased to the caller and that
        lease is about to end, it stops waiting and raises LeaseLost; nothing was asked then. Raises NotFound, and
        IllegalMove inside a transaction.
        """
        from scanstore.asking import ask

        return ask(
            self.db, analyzer, subject, function,
            purpose=purpose, timeout=timeout, keep=keep, lease=lease, stop=stop,
        )  # fmt: skip

    @bound
    def forget(self, analyzer: Analyzer | int) -> int:
        """Forget what an analyzer has answered, to ask anew; return how many answers that were."""
        from scanstore.answers import CachedAnswer, identify

        return int(CachedAnswer.delete().where(CachedAnswer.analyzer == identify(analyzer).id).execute())


def _checked(name: Any, columns: dict[str, Any]) -> dict[str, Any]:
    """The columns, if a model can have them; a key is never shown, not even one that is refused."""
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
    return columns
