"""The language models that review code: configurations, slots, calls and cached answers.

This is ``store.llm``. It combines the configurations and slots of :mod:`scanstore.llm` with ``calls`` (cost and
outcome) and ``answer_cache``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from scanstore.analysis import answer_cache, asking, calls
from scanstore.analysis.calls import Call, Usage
from scanstore.analysis.models import Analyzer, ModelCall
from scanstore.db.domain import long, reads
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Removed, Rows, remove
from scanstore.llm.configs import Configs
from scanstore.llm.models import ModelConfig
from scanstore.snapshots.scans import Scans

if TYPE_CHECKING:
    from scanstore.analysis.models import DraftFinding, VerifiedFinding
    from scanstore.db.words import CallStatus
    from scanstore.leases.queue import Stop
    from scanstore.snapshots.models import Scan, ScanFileChunk


class Models(Configs):
    """Model configurations by name, with their slots, calls and answers."""

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

        In the block, set ``call.response`` and, if known, ``call.prompt_tokens``, ``call.completion_tokens`` and
        ``call.cost``. The row is written at the start and at the end of the block. A call with a response is
        ``answered``, even if a later step fails; otherwise it is ``failed``. With ``keep``, ``prompt`` and response are
        stored with the call, compressed. With ``analyzer``, the response to a chunk or draft is cached for
        :meth:`answer`, in the same transaction.

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
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ModelCall]:
        """List calls, newest first, without their prompts and responses; :meth:`get_call` reads these."""
        check_window(limit, offset)
        query = calls.query(None if scan is None else Scans(self.db).get(scan).id, purpose, status)
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def get_call(self, call: ModelCall | int) -> ModelCall:
        """Return one call, with ``prompt_text`` and ``response_text`` if they were stored.

        Raises NotFound, InvalidArgument.
        """
        return calls.get(call)

    @reads
    def usage(self, scan: Scan | int | None = None) -> Rows[Usage]:
        """Sum up calls, tokens, cost and seconds by model and purpose, of one scan or of all scans."""
        return calls.usage(self.db, None if scan is None else Scans(self.db).get(scan).id)

    # -- answers -----------------------------------------------------------------------------------------------------

    def analyzer(
        self, model: str | int | ModelConfig, /, *, prompt: str | None = None, **parameters: object
    ) -> Analyzer:
        """Return the analyzer for a model with a prompt and parameters. The same arguments always give the same
        analyzer.

        ``prompt`` is the template (default: the model's ``analysis_prompt_template``). ``parameters`` are all other
        values that influence an answer, as JSON. A different model, ``max_tokens``, template or parameter gives a
        different analyzer. Use one analyzer per question: verifying and enriching a draft are two questions.
        """
        return answer_cache.ensure(self.db, self.get(model), prompt, parameters)

    @reads
    def answer(self, analyzer: Analyzer | int, subject: object) -> str | None:
        """Return the analyzer's answer about the content of a chunk or draft, from any scan, or None.

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
        """Return the analyzer's answer about a chunk or draft: the cached one, or the result of ``function()``.

        The function is called in a slot of the model and inside a call, which caches the answer. It returns the
        response, or a tuple of the response and a mapping with any of ``prompt_tokens``, ``completion_tokens`` and
        ``cost``. Its exceptions are recorded and re-raised. ``purpose`` is by default "analysis" for chunks,
        "verification" for drafts and "enrichment" for verified findings.

        When several threads or processes ask the same question at the same time, one calls the function and the others
        wait for its answer, without a slot or a transaction. If that worker fails or dies, or after ``lease`` seconds
        without an answer, the next one calls the function.

        Raises NoSlot after waiting ``timeout`` seconds for a slot or another worker's answer (None: no limit, 0: do not
        wait), or when ``stop`` (a ``threading.Event``) is set. Raises LeaseLost, without calling the function, if the
        subject is leased to the caller and that lease is about to expire. Raises NotFound, and IllegalMove inside a
        transaction.
        """
        return asking.ask(
            self.db, analyzer, subject, function,
            purpose=purpose, timeout=timeout, keep=keep, lease=lease, stop=stop,
        )  # fmt: skip

    def remove_answers(self, analyzer: Analyzer | int) -> Removed:
        """Remove the cached answers of an analyzer, so that its questions are asked again.

        Return the number of removed rows by table. Raises NotFound, InvalidArgument.
        """
        key = answer_cache.identify(analyzer).id
        with self.db.atomic():
            return remove(self.db, "analysis_cache", "analyzer_id = ?", (key,))
