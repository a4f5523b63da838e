"""The models that review code: asked, counted, and their answers kept.

``store.llm`` is the one door to them. Their configurations are in configs.py, their places in slots.py, what a call
cost in calls.py, answers that were paid for in answer_cache.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from scanstore.analysis import answer_cache, asking, calls
from scanstore.analysis.calls import Call, Usage
from scanstore.analysis.models import Analyzer, CachedAnswer, ModelCall
from scanstore.db.domain import List, long, reads
from scanstore.llm.configs import Configs
from scanstore.llm.models import ModelConfig
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.analysis.models import DraftFinding, VerifiedFinding
    from scanstore.db.words import CallStatus
    from scanstore.leases.queue import Stop
    from scanstore.snapshots.models import Scan, ScanFileChunk


class Models(Configs):
    """Model configurations by name; their places, calls and answers."""

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(
        self,
        model: str | int | ModelConfig,
        *,
        purpose: str,
        scan: Scan | int | None = None,
        chunk: ScanFileChunk | int | None = None,
        draft: DraftFinding | VerifiedFinding | int | None = None,
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
        a transaction. Invalid values of the call raise when the block ends, after the valid ones were recorded.
        """
        return calls.begin(
            self.db, model, purpose=purpose, scan=scan, chunk=chunk, draft=draft, analyzer=analyzer, prompt=prompt,
            keep=keep,
        )  # fmt: skip

    @reads
    def calls(
        self,
        scan: Scan | int | None = None,
        *,
        purpose: str | None = None,
        status: CallStatus | None = None,
        limit: int | None = None,
    ) -> List[ModelCall]:
        """Calls, newest first, without their prompts and responses: :meth:`get_call` reads those."""
        return calls.listed(None if scan is None else Scans(self.db).get(scan).id, purpose, status, limit)

    @reads
    def get_call(self, call: ModelCall | int) -> ModelCall:
        """One call, with ``prompt_text`` and ``response_text`` as far as they were kept. Raises NotFound."""
        return calls.get(call)

    @reads
    def usage(self, scan: Scan | int | None = None) -> List[Usage]:
        """Calls, tokens, cost and seconds by model and purpose, of one scan or of all together."""
        return calls.usage(self.db, None if scan is None else Scans(self.db).get(scan).id)

    # -- answers -----------------------------------------------------------------------------------------------------

    def analyzer(
        self, model: str | int | ModelConfig, /, *, prompt: str | None = None, **parameters: object
    ) -> Analyzer:
        """A model asked in one certain way; its answers are kept. The same arguments always give the same analyzer.

        ``prompt`` is the template (default: the model's ``analysis_prompt_template``), ``parameters`` whatever else
        decides about an answer, as JSON. Another model, another ``max_tokens``, template or parameter makes another
        analyzer. Make one for each question: verifying and enriching a draft are two.
        """
        return answer_cache.ensure(self.db, self.get(model), prompt, parameters)

    @reads
    def answer(self, analyzer: Analyzer | int, subject: object) -> str | None:
        """What the analyzer has answered about the content of a chunk or draft, in whichever scan; else None.

        ``subject`` is a row or an id (one of 2**24 or more is a chunk's); a verified finding must be
        given as a row. Raises NotFound.
        """
        return answer_cache.answer(
            self.db, answer_cache.identify(analyzer).id, answer_cache.content_key(self.db, subject).content
        )

    @long
    def ask(
        self,
        analyzer: Analyzer | int,
        subject: object,
        function: Callable[[], str | tuple[str, Mapping[str, object]]],
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
        return asking.ask(
            self.db, analyzer, subject, function,
            purpose=purpose, timeout=timeout, keep=keep, lease=lease, stop=stop,
        )  # fmt: skip

    def forget(self, analyzer: Analyzer | int) -> int:
        """Forget what an analyzer has answered, to ask anew; return how many answers that were."""
        return int(CachedAnswer.delete().where(CachedAnswer.analyzer == answer_cache.identify(analyzer).id).execute())
