"""Drafts: unverified reports of models and rules, and the votes on them.

Change here: how a verdict becomes a status. ``draft_merge`` merges reports, ``payloads`` checks them, ``policies``
counts votes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from scanstore.analysis import lifecycle
from scanstore.analysis.chunks import Chunks
from scanstore.analysis.draft_merge import WINDOW, write_drafts
from scanstore.analysis.model_drafts import convert_votes, sort_drafts, summary
from scanstore.analysis.models import DraftFinding, Vote
from scanstore.analysis.payloads import CheckedVote, check_drafts, check_votes
from scanstore.analysis.policies import Ballot, Majority, Policy, judge, mean_confidence, share
from scanstore.analysis.stage import Stage
from scanstore.analysis.verified import confirm, withdraw
from scanstore.db.arguments import check_bool, check_integer, clean_text, stored_path
from scanstore.db.domain import List, reads
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Rows
from scanstore.db.state_machine import Machine, move
from scanstore.errors import IllegalMove, InvalidArgument
from scanstore.leases import engine
from scanstore.llm.configs import Configs
from scanstore.llm.models import ModelConfig
from scanstore.snapshots.models import Scan, ScanFileChunk, SetAside

if TYPE_CHECKING:
    from scanstore.db.words import DraftStatus, Outcome, Severity

log = logging.getLogger("scanstore.analysis")
MAJORITY = Majority()


class DraftJudgement(NamedTuple):
    """The result of the votes on a draft: ``verified``, ``rejected``, ``weakness``, or ``undecided``. For
    ``undecided``, ``missing`` describes the missing votes. ``votes`` is the number of votes in this round;
    ``verified_id`` is the verified finding, if there is one.
    """

    outcome: Outcome
    confidence: int | None
    missing: str
    votes: int
    draft_id: int
    verified_id: int | None


# The transitions of a draft without a lease; ``leases.engine`` performs the others.
UNLEASED = Machine(
    "draft_findings",
    "draft",
    {"pending": ("failed",), **dict.fromkeys(("verified", "rejected", "weakness", "skipped"), ("pending",))},
    {
        "verifying": "its worker has to complete or release it first",
        "failed": "let it wait again first: store.drafts.retry(draft)",
        "pending": "it waits to be claimed as it is",
        "skipped": "to take that back: set its status to pending and save it",
        **dict.fromkeys(engine.DRAFTS.done, "to judge it again: store.scans.rerun(scan, to='verify')"),
    },
)


class AddedDrafts(Rows[DraftFinding]):
    """The rows of added drafts, in order. ``set_aside`` has the drafts that could not be stored, with the reasons."""

    set_aside: tuple[SetAside, ...] = ()


class Drafts(Stage[DraftFinding]):
    """Draft findings: report, claim, vote and judge."""

    queue = engine.DRAFTS
    model = DraftFinding
    life = UNLEASED

    # -- reporting -------------------------------------------------------------------------------------------------

    def add(
        self,
        scan: Scan | int,
        drafts: Iterable[Mapping[str, object]],
        *,
        source: str | ModelConfig | None = None,
        window: int = WINDOW,
        chunk: ScanFileChunk | int | None = None,
        strict: bool = True,
    ) -> AddedDrafts:
        """Add drafts from a rule or a person, merged with existing ones. Return a row for each, in order.

        A draft is a mapping with ``title``, ``vulnerability_type``, ``severity`` and ``file_path``, and optionally
        ``line_number``, ``end_line``, ``snippet``, ``reason``, ``cwe``, ``confidence`` (per cent), ``auto_detected``
        and ``source``. The argument ``source`` is the reporter of drafts that do not name one. Equivalent reports
        within ``window`` lines become one draft. With ``chunk``, the drafts belong to a chunk of the scan, and need no
        ``file_path``. Atomic and idempotent.

        Raises InvalidArgument, which names the draft. With ``strict=False``, for the answer of a model, values are
        converted where possible, and a draft that cannot be stored is set aside: the ``set_aside`` of the returned list
        has these with the reasons, and they are logged; see :meth:`Chunks.complete`.
        """
        check_bool(strict, "strict")
        scan_id = self._scan(scan)
        row = None if chunk is None else self._chunk(chunk, scan_id)
        given, aside = (check_drafts(drafts, chunk=row), []) if strict else sort_drafts(drafts, chunk=row)
        if aside:
            log.warning("scan %d: %s", scan_id, summary(aside, len(given) + len(aside)))
        name = source.name if isinstance(source, ModelConfig) else source
        if name is not None:
            name = clean_text(name, "source", needed=True)
        with self.db.atomic():
            ids = write_drafts(self.db, scan_id, given, chunk=row, source=name, window=window)
            lifecycle.advance(self.db, scan_id)
        drafts_added = (draft for n in range(0, len(ids), 5000) for draft in self._rows(ids[n : n + 5000]))
        added = AddedDrafts(drafts_added, DraftFinding)
        added.set_aside = tuple(aside)
        return added

    def _chunk(self, chunk: ScanFileChunk | int, scan_id: int) -> ScanFileChunk:
        row = Chunks(self.db).get(chunk)
        if row.scan_id != scan_id:
            raise InvalidArgument(
                f"chunk {row.id} is of scan {row.scan_id}, not of scan {scan_id}; give one of its own"
            )
        if not self.db.execute_sql("SELECT 1 FROM chunk_work WHERE id = ?", (row.id,)).fetchall():
            raise IllegalMove(
                f"chunk {row.id} waits for the analysis of its scan; call store.scans.analyze({scan_id}) first"
            )
        return row

    def skip(self, draft: DraftFinding | int, reason: str) -> DraftFinding:
        """Exclude a pending draft from the verification, with a reason. Atomic and idempotent.

        Raises IllegalMove if the draft is leased or finished.
        """
        why = clean_text(reason, "reason", needed=True)
        with self.db.atomic():
            row = self.get(draft)
            if row.status != "skipped":
                move(self.db, UNLEASED, row.id, "skipped", error=why, next_retry_at=None, lease_clock=None)
                lifecycle.advance(self.db, row.scan_id)
            return self.get(row.id)

    # -- judging ---------------------------------------------------------------------------------------------------

    def record_votes(
        self,
        draft: DraftFinding | int,
        votes: Iterable[Mapping[str, object]],
        *,
        policy: Policy = MAJORITY,
        worker: str | None = None,
        strict: bool = True,
    ) -> DraftJudgement:
        """Record votes on a draft and judge it by all votes of the current round, in one transaction.

        A vote is a mapping with ``model`` (name, id or row) and ``decision`` (verified, rejected, weakness or abstain),
        and optionally ``confidence`` (per cent), ``severity``, ``reason``, ``attack_vector``, ``data_flow``. A model
        has one vote per round; its last one counts. When ``policy`` reaches a verdict, the draft gets that status. A
        verified draft gets its only verified finding. If it is verified again after ``store.scans.rerun(scan,
        to="verify")``, that verified finding is updated and enriched again. If it is no longer verified, the verified
        finding is removed, or fails if it was published; its finding, if still open, becomes a false positive until the
        draft is verified again.

        Without a verdict, the votes are stored and the draft keeps its status. A pending draft can be judged without a
        claim. With ``strict=False``, for answers of models, values such as ``"**Verified**"`` or ``"90%"`` are
        converted, unknown keys are ignored, and a confidence or severity that cannot be read is left out; a decision is
        never guessed. Idempotent. Raises LeaseLost if the draft was claimed and is no longer leased to the worker,
        IllegalMove if it was judged, failed or skipped, NotFound, InvalidArgument. Nothing is written then.
        """
        if not check_bool(strict, "strict"):
            votes = convert_votes(votes)
        given = check_votes(votes)
        key = self._id(draft)
        _, owner, attempt = self._owner(draft, worker)
        claimed = self._acts_as_owner(draft, worker)
        cast_by = self._resolve(given)
        with self.db.atomic():
            row = self.get(key)
            if row.status in self.queue.done and self._has(row, cast_by):
                return self._judged(row)
            mine = row.worker == owner and attempt in (None, row.attempt)
            if row.status == self.queue.leased or (claimed and not (mine and row.status in self.queue.done)):
                engine.held(self.db, self.queue, key, worker=owner, attempt=attempt)
            elif row.status != "pending":
                raise IllegalMove(f"draft {key} is {row.status}; {UNLEASED.remedies[row.status]}")
            self._write(row, cast_by)
            cast = self.votes(row, round=row.round)
            ballots = [
                Ballot(vote.decision, vote.confidence, vote.model_config.votes, vote.model_config.name) for vote in cast
            ]
            verdict = judge(policy, ballots)
            outcome, sure = verdict.outcome, verdict.confidence
            if outcome == "undecided":
                return DraftJudgement(outcome, sure, verdict.missing or "more votes", len(cast), key, None)
            if sure is None:
                sure = share(outcome, ballots)
            if outcome == "verified":
                verified_id: int | None = confirm(self.db, row, cast, sure)
            else:
                verified_id = withdraw(self.db, row, outcome)
            if claimed or row.status == self.queue.leased:
                self._settle(draft, outcome, worker=worker)
            else:
                move(self.db, UNLEASED, key, outcome, error=None, next_retry_at=None, lease_clock=None)
                lifecycle.advance(self.db, row.scan_id)
            return DraftJudgement(outcome, sure, "", len(cast), key, verified_id)

    def _resolve(self, given: List[CheckedVote]) -> List[tuple[ModelConfig, CheckedVote]]:
        """Return the votes with the models that cast them."""
        models: dict[int, int] = {}
        found = []
        for number, vote in enumerate(given):
            model = Configs(self.db).get(vote["model"])
            first = models.setdefault(model.id, number)
            if first != number:
                name = model.name
                raise InvalidArgument(
                    f"votes {first} and {number} are both of {name!r}; a model has one vote in a round"
                )
            found.append((model, vote))
        return found

    def _has(self, row: DraftFinding, given: List[tuple[ModelConfig, CheckedVote]]) -> bool:
        """Whether all these votes were cast in the round in which the draft was judged."""
        cast = {(vote.model_config_id, vote.decision) for vote in self.votes(row, round=row.round)}
        return all((model.id, vote["decision"]) in cast for model, vote in given)

    def _judged(self, row: DraftFinding) -> DraftJudgement:
        """Return the earlier verdict."""
        votes, outcome = self.votes(row, round=row.round), cast("Outcome", row.status)
        found = self.db.execute_sql("SELECT id, confidence FROM verified_findings WHERE draft_id = ?", (row.id,))
        verified_id, sure = next(iter(found.fetchall()), (None, None))
        if outcome != "verified" or sure is None:
            ballots = [Ballot(vote.decision, vote.confidence) for vote in votes]
            sure = mean_confidence(outcome, ballots)
            sure = share(outcome, ballots) if sure is None else sure
        return DraftJudgement(outcome, sure, "", len(votes), row.id, verified_id)

    def _write(self, row: DraftFinding, given: List[tuple[ModelConfig, CheckedVote]]) -> None:
        columns = ("decision", "confidence", "severity", "reason", "attack_vector", "data_flow")
        self.db.executemany(
            f"INSERT INTO votes (draft_id, model_config_id, round, {', '.join(columns)})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (draft_id, model_config_id, round) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in columns),
            [(row.id, model.id, row.round, *(dict(vote)[column] for column in columns)) for model, vote in given],
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    @reads
    def votes(
        self, draft: DraftFinding | int, *, round: int | None = None, limit: int | None = None, offset: int = 0
    ) -> Rows[Vote]:
        """List the votes on a draft, of one round or of all, with their models, by round and time.

        Raises NotFound if the draft does not exist.
        """
        check_window(limit, offset)
        query = Vote.select(Vote, ModelConfig).join(ModelConfig).where(Vote.draft == self.get(draft).id)
        if round is not None:
            query = query.where(Vote.round == check_integer(round, "round", least=1))
        return listed(query.order_by(Vote.round, Vote.id), limit=limit, offset=offset)

    @reads
    def list(
        self,
        scan: Scan | int,
        *,
        status: DraftStatus | None = None,
        severity: Severity | None = None,
        file: str | None = None,
        chunk: ScanFileChunk | int | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[DraftFinding]:
        """Drafts of a scan, the most severe first and then by file and line; of one status, severity, file or chunk.

        Raises InvalidArgument for an unknown status or severity.
        """
        check_window(limit, offset)
        query = DraftFinding.select().where(DraftFinding.scan == self._scan(scan))
        if status is not None:
            query = query.where(DraftFinding.status == DraftFinding.status.db_value(status))
        if severity is not None:
            query = query.where(DraftFinding.severity == DraftFinding.severity.db_value(severity))
        if file is not None:
            query = query.where(DraftFinding.file_path == stored_path(file, "file"))
        if chunk is not None:
            query = query.where(DraftFinding.chunk == Chunks(self.db)._id(chunk))
        query = query.order_by(DraftFinding.rank, DraftFinding.file_path, DraftFinding.line_number, DraftFinding.id)
        return listed(query, limit=limit, offset=offset, sort=sort)
