"""Model calls: the cost, duration and outcome of each.

A call is one row. It is written when the call begins and updated when it ends; in between no transaction is open. A
crash therefore loses only the answer that had not arrived yet. :func:`recover` marks the calls of dead processes as
``abandoned``; a process that cannot be checked counts as dead one hour after its call began. An answer that has arrived
is always recorded, even if later steps fail, because it was paid for. The update at the end can be part of a larger
transaction (:func:`finish`), such as the one that completes a chunk.

Change here: the recorded figures of a call.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, TypedDict

import peewee

from scanstore.analysis.answer_cache import content_key, identify, keep_response
from scanstore.analysis.models import Analyzer, ModelCall
from scanstore.db.arguments import check_string
from scanstore.db.blocks import Block, ending
from scanstore.db.clocks import silent
from scanstore.db.database import Database
from scanstore.db.fields import read_row
from scanstore.db.notebooks import described
from scanstore.db.processes import gone, me
from scanstore.db.rows import Rows
from scanstore.db.values import format_time, pack, utcnow
from scanstore.errors import IllegalMove, InvalidArgument, WrongStore, shown
from scanstore.leases.engine import LAST_ERROR
from scanstore.llm.configs import Configs
from scanstore.llm.models import ModelConfig
from scanstore.snapshots.models import Scan, ScanFileChunk
from scanstore.snapshots.scans import Scans


@described
class Usage(NamedTuple):
    """The totals of one model's calls for one purpose. ``seconds`` is the sum of their latencies."""

    model: str
    purpose: str
    calls: int
    answered: int
    failed: int
    running: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float


# One call


class _Entry(TypedDict):
    """The columns of a call's row that are known before it begins."""

    scan: int | None
    model_config: int
    model: str
    purpose: str
    chunk: int | None
    draft: int | None
    analyzer: int | None
    prompt: bytes | None


class _Measures(NamedTuple):
    response: str | None
    prompt_tokens: int
    completion_tokens: int
    cost: float


@ending
class Call:
    """A running call, inside its ``with`` block; see ``store.llm.call``."""

    response: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    _block: Block | None = None

    def __init__(
        self, db: Database, model: ModelConfig, entry: _Entry, *, content: bytes | str | None, keep: bool
    ) -> None:
        self._db = db
        self._key = str(model.api_key)
        self._entry = entry
        self._content = content  # the subject of a cached response, with an analyzer
        self._keep = keep
        self._id: int | None = None
        self._process = self._started_at = ""
        self._entered = False
        self._began = 0.0
        self._written: _Measures | None = None

    @property
    def id(self) -> int:
        """The id of the call's row. Raises IllegalMove before the block is entered."""
        if self._id is None:
            raise IllegalMove("this call has not begun; enter it: 'with store.llm.call(…) as call:'")
        return self._id

    def __repr__(self) -> str:
        return f"<Call {self._id} of {self._entry['model']!r} for {self._entry['purpose']!r}>"

    def __enter__(self) -> Call:
        if self._id is not None:
            raise IllegalMove(f"{self!r} was made already; ask store.llm.call for another")
        if self._db.in_sqlite_transaction():
            raise IllegalMove("a transaction is open, and a call would keep all writers out; leave it first")
        self._process, self._started_at = me(), format_time(utcnow())
        values = {**self._entry, "process": self._process, "started_at": self._started_at}
        self._began = time.monotonic()
        try:
            with self._db.atomic():  # the id must be known before the row is committed
                self._id = self._db.execute_sql(BEGIN, values).lastrowid
        except BaseException:
            self._forget()
            raise
        self._entered = True
        return self

    def _forget(self) -> None:
        """Remove the row of a call that did not begin, because SQLite reuses ids that were rolled back."""
        if self._id is not None:
            mine = "id = ? AND process = ? AND started_at = ? AND status = 'running'"
            self._db.execute_sql(f"DELETE FROM model_calls WHERE {mine}", (self._id, self._process, self._started_at))
            self._id = None

    def _abandoned(self, _: object) -> None:
        """Record the end of the call if an interrupt prevented its block from doing so."""
        with suppress(Exception):
            if self._entered:
                self._end(KeyboardInterrupt("the end of the block was interrupted"))
            else:
                self._forget()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unfit = self._end(error)
        self._block = None
        if unfit and error is None:
            raise InvalidArgument(f"{'; '.join(unfit)} (call {self._id}, whose other values were recorded)")

    # -- ending ------------------------------------------------------------------------------------------------------

    def _end(self, error: BaseException | None) -> list[str]:
        """Record the end of the call and return the errors of invalid values."""
        if self._process != me():  # in a forked child, the call belongs to the parent
            return []
        measures, unfit = self._measures()
        if self._is_written(measures):
            return []
        words = [] if error is None else [self._described(error)]
        if not words and self.response is None:
            words = ["the block ended and call.response was not set"]
        self._write(measures, "; ".join([*words, *unfit]) or None)
        return unfit

    def _measures(self) -> tuple[_Measures, list[str]]:
        """Return the valid ones of (response, prompt tokens, completion tokens, cost), and the errors of the others."""
        unfit = []
        given: object = self.response
        response = given if isinstance(given, str) else None
        if given is not None and response is None:
            unfit.append(f"response is of {type(given).__name__}; it must be text")
        tokens = []
        for name in ("prompt_tokens", "completion_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
                unfit.append(f"{name} is {value!r}; it must be a whole number of at least 0")
                value = 0
            tokens.append(value)
        cost: object = self.cost
        number, fit = 0.0, False
        if isinstance(cost, int | float) and not isinstance(cost, bool):
            with suppress(OverflowError):
                number = float(cost)
                fit = 0 <= number < math.inf
        if not fit:
            unfit.append(f"cost is {cost!r}; it must be a number of at least 0")
        return _Measures(response, tokens[0], tokens[1], number if fit else 0.0), unfit

    def _is_written(self, measures: _Measures) -> bool:
        """Whether these values are in the database. A later rollback may have removed them."""
        if self._written != measures:
            return False
        row = self._db.execute_sql("SELECT status FROM model_calls WHERE id = ?", (self._id,)).fetchone()
        return row is None or row[0] in ("answered", "failed")

    def _write(self, measures: _Measures, error: str | None, *, answered: bool = False) -> None:
        response, prompt_tokens, completion_tokens, cost = measures
        packed = None if response is None else pack(response)
        values = {
            "id": self._id,
            "status": "failed" if response is None and not answered else "answered",
            "ended_at": format_time(utcnow()),
            "latency_ms": round((time.monotonic() - self._began) * 1000),
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "cost": cost,
            "error": None if error is None else error.encode("utf-8", "backslashreplace").decode()[:LAST_ERROR],
            "response": packed if self._keep else None,
        }
        with self._db.atomic():
            self._db.execute_sql(END, values)
            analyzer = self._entry["analyzer"]
            if packed is not None and self._content is not None and analyzer is not None:
                keep_response(self._db, analyzer, self._content, packed)
        self._written = measures

    def _described(self, error: BaseException) -> str:
        """Describe an error without the model's key, because clients may quote the request."""
        try:
            text = str(error)
        except Exception:
            text = ""
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        key = os.environ.get(self._key[4:], "") if self._key.startswith("env:") else self._key
        return text.replace(key, "…") if key else text


# A chunk has a row of its own only after its scan's analysis was started.
BEGIN = """
INSERT INTO model_calls (scan_id, model_config_id, model, purpose, chunk_id, draft_id, analyzer_id, process, started_at,
                         prompt)
VALUES (:scan, :model_config, :model, :purpose, (SELECT id FROM chunk_work WHERE id = :chunk), :draft, :analyzer,
        :process, :started_at, :prompt)
"""
# An answered call stays ``answered`` when more values are recorded later.
END = """
UPDATE model_calls
   SET status = CASE status WHEN 'answered' THEN status ELSE :status END, ended_at = :ended_at,
       latency_ms = :latency_ms, prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens, cost = :cost,
       error = :error, response = :response
 WHERE id = :id
"""


def begin(
    db: Database,
    model: str | int | ModelConfig,
    *,
    purpose: str,
    scan: Scan | int | None = None,
    chunk: object = None,
    draft: object = None,
    analyzer: Analyzer | int | None = None,
    prompt: str | None = None,
    keep: bool = False,
) -> Call:
    """See ``store.llm.call``. The row is written when the block is entered."""
    if not isinstance(purpose, str) or not purpose.strip():
        raise InvalidArgument(f"purpose is {shown(purpose)}; give a word, such as 'analysis' or 'verification'")
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidArgument(f"prompt is of {type(prompt).__name__}; give the text that was sent, or leave it out")
    row = Configs(db).get(model)
    way = None if analyzer is None else identify(analyzer)
    if way is not None and way.model != row.name:
        raise InvalidArgument(
            f"analyzer {way.id} is one of model {way.model!r}, and this is a call of {row.name!r}; "
            "make one with store.llm.analyzer(model)"
        )
    subjects = [
        content_key(db, given, kind) for kind, given in (("chunk", chunk), ("draft", draft)) if given is not None
    ]
    scan_id = None if scan is None else int(Scans(db).get(scan).id)
    for subject in subjects:
        if scan_id is not None and subject.scan_id != scan_id:
            noun = "chunk" if subject.kind == "chunk" else "draft"
            raise InvalidArgument(f"{noun} {subject.id} is of scan {subject.scan_id}, not of scan {scan_id}")
        scan_id = subject.scan_id
    entry: _Entry = {
        "scan": scan_id,
        "model_config": row.id,
        "model": row.name,
        "purpose": purpose.strip(),
        "chunk": next((s.id for s in subjects if s.kind == "chunk"), None),
        "draft": next((s.id for s in subjects if s.kind != "chunk"), None),
        "analyzer": None if way is None else way.id,
        "prompt": pack(prompt) if keep and prompt is not None else None,
    }
    content = subjects[-1].content if subjects and way is not None else None
    return Call(db, row, entry, content=content, keep=bool(keep))


def finish(call: Call, db: Database, *, note: str | None = None) -> None:
    """End a call as answered, inside the caller's transaction. The call's own block then writes nothing.

    A ``note`` says which part of the answer could not be used: it becomes the ``error`` of the call, and the response
    is stored with the call. Idempotent. If the transaction is rolled back, the call's block records the end. Raises
    InvalidArgument for invalid values.
    """
    if db.file != call._db.file:
        raise WrongStore(f"{call!r} is of {call._db.name} and {db.name} is current; use it in its own")
    key = call.id
    measures, unfit = call._measures()
    if unfit:
        raise InvalidArgument(f"{'; '.join(unfit)} (call {key})")
    call._keep = call._keep or note is not None
    if note is not None or not call._is_written(measures):
        call._write(measures, note, answered=True)


def note_answer(db: Database, chunk: ScanFileChunk, analyzer_id: int, note: str) -> None:
    """Set the ``error`` of the latest answered call of an analyzer about a chunk, if there is one."""
    db.execute_sql(NOTE, (note[:LAST_ERROR], chunk.scan_id, chunk.id, analyzer_id))


NOTE = """
UPDATE model_calls SET error = ? WHERE id = (
       SELECT max(id) FROM model_calls
        WHERE scan_id = ? AND chunk_id = ? AND analyzer_id = ? AND status = 'answered')
"""


# All calls


def query(scan_id: int | None, purpose: str | None, status: str | None) -> peewee.ModelSelect[ModelCall]:
    """Return the query for calls, newest first, without prompts and responses."""
    light = [field for field in ModelCall._meta.sorted_fields if field.name not in ("prompt", "response")]
    found = ModelCall.select(*light).order_by(ModelCall.id.desc())
    if scan_id is not None:
        found = found.where(ModelCall.scan == scan_id)
    if purpose is not None:
        found = found.where(ModelCall.purpose == check_string(purpose, "purpose"))
    if status is not None:
        found = found.where(ModelCall.status == ModelCall.status.db_value(status))
    return found


def get(call: ModelCall | int) -> ModelCall:
    """Return one call with its prompt and response. Raises NotFound."""
    return read_row(ModelCall, call, "call", "store.llm.calls() shows the known ones")


def usage(db: Database, scan_id: int | None) -> Rows[Usage]:
    """Sum up the calls of one scan, or of all scans, by model and purpose."""
    where, values = ("", ()) if scan_id is None else (" WHERE scan_id = ?", (scan_id,))
    rows = db.execute_sql(USAGE.format(where=where), values).fetchall()
    return Rows((Usage(row[0], row[1], *(value or 0 for value in row[2:])) for row in rows), Usage)


USAGE = """
SELECT model, purpose, sum(calls), sum(calls) FILTER (WHERE status = 'answered'),
       sum(calls) FILTER (WHERE status = 'failed'), sum(calls) FILTER (WHERE status = 'running'),
       sum(prompt_tokens), sum(completion_tokens), sum(cost), sum(latency_ms) / 1000.0
  FROM call_counts{where} GROUP BY model, purpose ORDER BY model, purpose
"""


def recover(db: Database) -> int:
    """Mark the running calls of dead processes as ``abandoned`` and return their number. Writes only if there are any.

    If the answer still arrives, it is recorded and the call becomes ``answered``.
    """
    rows = db.execute_sql("SELECT id, process, started_at FROM model_calls WHERE status = 'running'").fetchall()
    now, ended = utcnow(), []
    for key, process, started in rows:
        if gone(process):
            ended.append((format_time(now), f"its process ({process}) ended before an answer came", key))
        elif silent(process, started, now):
            ended.append((format_time(now), f"no answer came to its process ({process}) for an hour", key))
    if not ended:
        return 0
    return db.executemany(
        "UPDATE model_calls SET status = 'abandoned', ended_at = ?, error = ? WHERE id = ? AND status = 'running'",
        ended,
    ).rowcount
