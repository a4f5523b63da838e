"""Drafts: what models and rules reported, merged where they mean the same, and the votes on it.

Two reports are one draft when they are about the same file and vulnerability type, have the same title but for case and
punctuation, and lie within a few lines of each other. Whoever reports in one call tells its findings apart by their
lines, so those are never merged with each other, and each known draft takes one of them at most. That makes reporting
the same again change nothing.

Change here: what merging keeps, and how a verdict becomes a status. What may be reported is in reports.py, what votes
come to in policies.py.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import peewee

from scanstore import leases, life
from scanstore.arguments import stored_path
from scanstore.bulk import Writer
from scanstore.chunks import Chunks
from scanstore.database import Database, bound
from scanstore.errors import IllegalMove, InvalidArgument
from scanstore.fields import Base, EnumField, JSONField, UTCField, dump_json, utcnow
from scanstore.keys import WholeKey
from scanstore.llm import ModelConfig, Models
from scanstore.policies import Ballot, Majority, Policy, judge, mean_confidence, share
from scanstore.reports import absolute as absolute
from scanstore.reports import check_drafts as check_drafts
from scanstore.reports import check_votes, text, title_key, whole
from scanstore.reports import relative as relative
from scanstore.scans import Scan, ScanFileChunk
from scanstore.stages import Stage
from scanstore.states import DRAFT_STATUSES, SEVERITIES, VOTES, Machine, move

WINDOW = 5  #: lines within which two reports of the same thing are one
MAJORITY = Majority()


class Leased(Base):
    """Base of models whose rows are worked through: the columns of their lease, see :mod:`scanstore.leases`."""

    rank = peewee.IntegerField(default=2)
    retry_count = peewee.IntegerField(default=0)
    lost_count = peewee.IntegerField(default=0)
    attempt = peewee.IntegerField(default=0)
    worker = peewee.TextField(null=True)
    process = peewee.TextField(null=True)
    lease_until = UTCField(null=True)
    lease_clock = peewee.FloatField(null=True)
    next_retry_at = UTCField(null=True)
    error = peewee.TextField(null=True)
    created_at = UTCField(default=utcnow)
    updated_at = UTCField(default=utcnow)


class DraftFinding(Leased):
    """Something that was reported and is to be verified. ``source_models`` says by whom, ``vote_count`` is how many
    votes these have together, ``round`` counts its verifications. ``error`` says why it failed or was skipped."""

    if TYPE_CHECKING:
        scan_id: Any
        chunk_id: Any

    scan = peewee.ForeignKeyField(Scan, on_delete="CASCADE", backref="drafts", index=False)
    chunk = WholeKey(ScanFileChunk, on_delete="SET NULL", null=True, backref="drafts")
    file_path: Any = peewee.TextField()
    title: Any = peewee.TextField()
    title_key: Any = peewee.TextField()
    vulnerability_type: Any = peewee.TextField()
    severity: Any = EnumField(SEVERITIES)
    line_number: Any = peewee.IntegerField(null=True)
    end_line = peewee.IntegerField(null=True)
    snippet = peewee.TextField(default="")
    reason = peewee.TextField(default="")
    cwe = peewee.TextField(null=True)
    confidence = peewee.IntegerField(null=True)
    auto_detected = peewee.BooleanField(default=False)
    source_models = JSONField(default=list)
    vote_count = peewee.IntegerField(default=1)
    round: Any = peewee.IntegerField(default=1)
    status: Any = EnumField(DRAFT_STATUSES, default="pending")

    class Meta:
        table_name = "draft_findings"
        indexes = ((("scan", "file_path", "vulnerability_type", "title_key", "line_number"), True),)

    def save(self, force_insert: bool = False, only: Any = None) -> int:
        """Write the fields that were changed; those of a new row that follow from others need not be given."""
        if only is None and (force_insert or self.id is None):
            if self.title_key is None and isinstance(self.title, str):
                self.title_key = title_key(self.title)
            if self.file_path is None and self.chunk is not None:
                self.file_path = self.chunk.file_path
            if isinstance(self.severity, str) and self.severity.lower() in SEVERITIES:
                self.rank = SEVERITIES.index(self.severity.lower())
        return super().save(force_insert=force_insert, only=only)


class Vote(Base):
    """What one model thinks of a draft, in one round of its verification."""

    if TYPE_CHECKING:
        draft_id: Any
        model_config_id: Any

    draft = peewee.ForeignKeyField(DraftFinding, on_delete="CASCADE", backref="votes", index=False)
    model_config = peewee.ForeignKeyField(ModelConfig, on_delete="RESTRICT", backref="cast_votes")
    round = peewee.IntegerField(default=1)
    decision: Any = EnumField(VOTES)
    confidence: Any = peewee.IntegerField(null=True)
    severity: Any = EnumField(SEVERITIES, null=True)
    reason = peewee.TextField(default="")
    attack_vector: Any = peewee.TextField(default="")
    data_flow: Any = peewee.TextField(default="")
    created_at = UTCField(default=utcnow)
    updated_at = UTCField(default=utcnow)

    class Meta:
        table_name = "votes"
        indexes = ((("draft", "model_config", "round"), True),)


class Judgement(NamedTuple):
    """What the votes on a draft have come to: ``verified``, ``rejected``, ``weakness``, or ``undecided`` and what is
    ``missing``. ``votes`` were cast in this round; ``verified_id`` is the verified finding, if there is one."""

    outcome: str
    confidence: int | None
    missing: str
    votes: int
    draft_id: int
    verified_id: int | None


# Moves of a draft that nobody has leased; leases.py makes the others.
UNLEASED = Machine(
    "draft_findings",
    "draft",
    dict.fromkeys(("verified", "rejected", "weakness", "skipped"), ("pending",)),
    {
        "verifying": "its worker has to complete or release it first",
        "failed": "let it wait again first: store.drafts.retry(scan) (scanstore scans rerun --to verify --failed-only)",
        "skipped": "to take that back: set its status to pending and save it",
        **dict.fromkeys(leases.DRAFTS.done, "to judge it again: store.scans.rerun(scan, to='verify')"),
    },
)


# Merging

NEW = (
    "id", "scan_id", "chunk_id", "file_path", "title", "title_key", "vulnerability_type", "severity", "rank",
    "line_number", "end_line", "snippet", "reason", "cwe", "confidence", "auto_detected", "source_models", "vote_count",
)  # fmt: skip
MERGED = (
    "chunk_id", "severity", "rank", "end_line", "snippet", "reason", "cwe", "confidence", "source_models", "vote_count",
)  # fmt: skip
PLACES = "SELECT id, vulnerability_type, title_key, line_number FROM draft_findings WHERE scan_id = ? AND file_path = ?"
MERGE = f"UPDATE draft_findings SET {', '.join(f'{column} = ?' for column in MERGED)} WHERE id = ?"


def write_drafts(
    db: Database,
    scan_id: int,
    drafts: Sequence[Mapping[str, Any]],
    *,
    chunk: Any = None,
    source: str | None = None,
    window: int = WINDOW,
) -> list[int]:
    """Store checked drafts inside the caller's transaction, merged with what is known; return an id for each, in order.

    ``source`` reported those that do not name their own. A merge keeps the worse severity and the higher confidence,
    fills texts that were empty, and counts the votes of a source that is new; it changes no status. Doing it twice
    changes nothing.
    """
    if whole("window", window, 0, 2**31) is None:
        raise InvalidArgument("window is None; give a number of lines, or 0 for the same line only")
    if not drafts:
        return []
    votes = _votes_of(db, {draft["source"] or source for draft in drafts})
    by_file: dict[str, list[int]] = {}
    for number, draft in enumerate(drafts):
        by_file.setdefault(draft["file_path"], []).append(number)
    free = db.execute_sql("SELECT coalesce(max(id), 0) + 1 FROM draft_findings").fetchone()[0]
    ids = [0] * len(drafts)
    writer = Writer(db, DraftFinding, NEW, converted=True)
    for path, numbers in by_file.items():
        said: dict[tuple[tuple[str, str], int | None], list[int]] = {}  # in the order of the reports: it is their age
        lines: dict[tuple[str, str], list[int | None]] = {}
        for number in numbers:
            draft = drafts[number]
            key, line = (draft["vulnerability_type"].casefold(), title_key(draft["title"])), draft["line_number"]
            if (key, line) not in said:
                lines.setdefault(key, []).append(line)
            said.setdefault((key, line), []).append(number)
        known: dict[tuple[str, str], list[tuple[int | None, int]]] = {}
        for each, kind, folded, line in db.execute_sql(PLACES, (scan_id, path)).fetchall():
            known.setdefault((kind.casefold(), folded), []).append((line, each))
        pairs = {key: pair(some, known.get(key, ()), window) for key, some in lines.items()}
        rows = _read(db, [each for matches in pairs.values() for each in matches.values()])
        fresh, changed = [], []
        for (key, line), same in said.items():
            row = rows.get(pairs[key].get(line, 0))
            before = None if row is None else dict(row)
            if row is None:
                row = {**_first(drafts[same[0]]), "id": free, "scan_id": scan_id, "title_key": key[1]}
                free += 1
            for number in same:
                _merge(row, drafts[number], chunk, drafts[number]["source"] or source, votes)
                ids[number] = row["id"]
            if before is None:
                fresh.append([row[column] for column in NEW])
            elif row != before:
                changed.append([*(row[column] for column in MERGED), row["id"]])
        writer.write(_dumped(fresh, NEW))
        db.executemany(MERGE, _dumped(changed, MERGED))
    return ids


def pair(lines: Iterable[int | None], known: Sequence[tuple[int | None, int]], window: int) -> dict[int | None, int]:
    """Which known draft each line is about: the nearest within ``window`` lines first, and each taken once.

    ``known`` are (line, id). No line is near no line only.
    """
    matches: dict[int | None, int] = {}
    somewhere = sorted((line, each) for line, each in known if line is not None)
    near = []
    for line in lines:
        if line is None:
            nowhere = [each for known_line, each in known if known_line is None]
            if nowhere:
                matches[None] = min(nowhere)
            continue
        first = bisect_left(somewhere, (line - window, 0))
        for other, each in somewhere[first : bisect_right(somewhere, (line + window, 2**63))]:
            near.append((abs(line - other), line, other, each))
    taken = set()
    for _, line, _, each in sorted(near):
        if line not in matches and each not in taken:
            matches[line] = each
            taken.add(each)
    return matches


def _votes_of(db: Database, sources: Iterable[str | None]) -> dict[str, int]:
    names = dump_json([source for source in sources if source is not None])
    sql = "SELECT name, votes FROM model_configs WHERE name IN (SELECT value FROM json_each(?))"
    return dict(db.execute_sql(sql, (names,)).fetchall())


def _read(db: Database, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    if not ids:
        return {}
    columns = ("id", "line_number", *MERGED)
    sql = f"SELECT {', '.join(columns)} FROM draft_findings WHERE id IN (SELECT value FROM json_each(?))"
    rows = [dict(zip(columns, row, strict=True)) for row in db.execute_sql(sql, (dump_json(list(ids)),)).fetchall()]
    return {row["id"]: {**row, "source_models": json.loads(row["source_models"])} for row in rows}


def _first(draft: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in draft.items() if key != "source"}
    rank = SEVERITIES.index(draft["severity"])
    return {**row, "rank": rank, "chunk_id": None, "source_models": [], "vote_count": None}


def _merge(
    row: dict[str, Any], draft: Mapping[str, Any], chunk: Any, source: str | None, votes: dict[str, int]
) -> None:
    """Take into a draft's row what another report of the same thing adds to it."""
    rank = SEVERITIES.index(draft["severity"])
    if rank < row["rank"]:
        row["severity"], row["rank"] = draft["severity"], rank
    if draft["confidence"] is not None:
        row["confidence"] = max(draft["confidence"], row["confidence"] or 0)
    for column in ("snippet", "reason", "cwe"):
        row[column] = row[column] or draft[column]
    if row["end_line"] is None and draft["end_line"] is not None and draft["end_line"] >= (row["line_number"] or 2**63):
        row["end_line"] = draft["end_line"]
    if row["chunk_id"] is None and chunk is not None:
        row["chunk_id"] = chunk.id
    if source is not None and source not in row["source_models"]:
        row["source_models"] = [*row["source_models"], source]
        row["vote_count"] = (row["vote_count"] or 0) + votes.get(source, 1)
    elif row["vote_count"] is None:
        row["vote_count"] = 1


def _dumped(rows: Iterable[list[Any]], columns: Sequence[str]) -> Iterable[list[Any]]:
    place = columns.index("source_models")
    for row in rows:
        row[place] = dump_json(row[place])
        yield row


List = list  # the class below has a method of that name


class Drafts(Stage[DraftFinding]):
    """Draft findings: reported, claimed, voted on, judged."""

    queue = leases.DRAFTS
    model = DraftFinding

    # -- reporting -------------------------------------------------------------------------------------------------

    @bound
    def add(
        self,
        scan: Scan | int,
        drafts: Iterable[Mapping[str, Any]],
        *,
        source: str | ModelConfig | None = None,
        window: int = WINDOW,
        chunk: ScanFileChunk | int | None = None,
    ) -> List[DraftFinding]:
        """Store what a rule or a person reports, merged with what is known; return a row for each, in order.

        A draft is a mapping with ``title``, ``vulnerability_type``, ``severity`` and ``file_path``, and as far as they
        are known ``line_number``, ``end_line``, ``snippet``, ``reason``, ``cwe``, ``confidence`` (per cent),
        ``auto_detected`` and ``source``. ``source`` is who reported those that name none. Reports of the same thing
        within ``window`` lines become one draft. With ``chunk`` they are about a chunk of the scan, and need no
        ``file_path``. One transaction; doing it twice changes nothing. Raises InvalidArgument, naming the draft.
        """
        scan_id = self._scan(scan)
        row = None if chunk is None else self._chunk(chunk, scan_id)
        given = check_drafts(drafts, chunk=row)
        name = source.name if isinstance(source, ModelConfig) else source
        if name is not None:
            name = text("source", name, needed=True)
        with self.db.atomic():
            ids = write_drafts(self.db, scan_id, given, chunk=row, source=name, window=window)
            life.advance(self.db, scan_id)
        return [draft for n in range(0, len(ids), 5000) for draft in self._rows(ids[n : n + 5000])]

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

    @bound
    def skip(self, draft: DraftFinding | int, reason: str) -> DraftFinding:
        """Leave a waiting draft out of the verification, for a reason; one transaction. Harmless when repeated.

        Raises IllegalMove for one that is leased or over.
        """
        why = text("reason", reason, needed=True)
        with self.db.atomic():
            row = self.get(draft)
            if row.status != "skipped":
                move(self.db, UNLEASED, row.id, "skipped", error=why, next_retry_at=None, lease_clock=None)
                life.advance(self.db, row.scan_id)
            return self.get(row.id)

    # -- judging ---------------------------------------------------------------------------------------------------

    @bound
    def record_votes(
        self,
        draft: DraftFinding | int,
        votes: Iterable[Mapping[str, Any]],
        *,
        policy: Policy = MAJORITY,
        worker: str | None = None,
    ) -> Judgement:
        """Record votes on a draft and judge it by all votes of its present round; one transaction.

        A vote is a mapping with ``model`` (name, id or row) and ``decision`` (verified, rejected, weakness or abstain),
        and if there are any ``confidence`` (per cent), ``severity``, ``reason``, ``attack_vector``, ``data_flow``. A
        model has one vote in a round; its last one counts. Once ``policy`` comes to a verdict the draft moves there,
        and a verified one gets its verified finding, of which there is never a second: judged again after
        ``store.scans.rerun(scan, to="verify")``, it is brought up to date and enriched again. One that is not verified
        any more goes, or fails when a finding came of it; that finding, if it is still open, is a false positive until
        it is verified once more.

        Undecided votes are kept and the draft stays where it is. A draft that waits unclaimed may be judged directly.
        Doing it twice is harmless. Raises LeaseLost when the draft was claimed and is leased to the worker no more,
        IllegalMove for one that was judged, failed or skipped, NotFound, InvalidArgument; nothing is written then.
        """
        from scanstore import findings

        leases.check_lease(worker, leases.LEASE)
        given = check_votes(votes)
        key, owner, attempt = self._owner(draft, worker)
        claimed = worker is not None or (isinstance(draft, DraftFinding) and draft.status == self.queue.leased)
        self._resolve(given)
        with self.db.atomic():
            row = self.get(key)
            if row.status in self.queue.done and self._has(row, given):
                return self._judged(row)
            mine = row.worker == owner and attempt in (None, row.attempt)
            if row.status == self.queue.leased or (claimed and not (mine and row.status in self.queue.done)):
                leases.held(self.db, self.queue, key, worker=owner, attempt=attempt)
            elif row.status != "pending":
                raise IllegalMove(f"draft {key} is {row.status}; {UNLEASED.remedies[row.status]}")
            self._write(row, given)
            cast = self.votes(row, round=row.round)
            ballots = [
                Ballot(vote.decision, vote.confidence, vote.model_config.votes, vote.model_config.name) for vote in cast
            ]
            verdict = judge(policy, ballots)
            outcome, sure = verdict.outcome, verdict.confidence
            if outcome == "undecided":
                return Judgement(outcome, sure, verdict.missing or "more votes", len(cast), key, None)
            if sure is None:
                sure = share(outcome, ballots)
            if outcome == "verified":
                verified_id: int | None = findings.confirm(self.db, row, cast, sure)
            else:
                verified_id = findings.withdraw(self.db, row, outcome)
            if claimed or row.status == self.queue.leased:
                self._settle(draft, outcome, worker=worker)
            else:
                move(self.db, UNLEASED, key, outcome, error=None, next_retry_at=None, lease_clock=None)
                life.advance(self.db, row.scan_id)
            return Judgement(outcome, sure, "", len(cast), key, verified_id)

    def _resolve(self, given: List[dict[str, Any]]) -> None:
        """Replace what the votes call their models by these."""
        models: dict[int, int] = {}
        for number, vote in enumerate(given):
            vote["model"] = Models(self.db).get(vote["model"])
            first = models.setdefault(vote["model"].id, number)
            if first != number:
                name = vote["model"].name
                raise InvalidArgument(
                    f"votes {first} and {number} are both of {name!r}; a model has one vote in a round"
                )

    def _has(self, row: DraftFinding, given: List[dict[str, Any]]) -> bool:
        """Whether these votes were all cast in the round that the draft was judged in."""
        cast = {(vote.model_config_id, vote.decision) for vote in self.votes(row, round=row.round)}
        return all((vote["model"].id, vote["decision"]) in cast for vote in given)

    def _judged(self, row: DraftFinding) -> Judgement:
        """The verdict that was reached before."""
        cast = self.votes(row, round=row.round)
        found = self.db.execute_sql("SELECT id, confidence FROM verified_findings WHERE draft_id = ?", (row.id,))
        verified_id, sure = next(iter(found.fetchall()), (None, None))
        if row.status != "verified" or sure is None:
            ballots = [Ballot(vote.decision, vote.confidence) for vote in cast]
            sure = mean_confidence(row.status, ballots)
            sure = share(row.status, ballots) if sure is None else sure
        return Judgement(row.status, sure, "", len(cast), row.id, verified_id)

    def _write(self, row: DraftFinding, given: List[dict[str, Any]]) -> None:
        columns = ("decision", "confidence", "severity", "reason", "attack_vector", "data_flow")
        self.db.executemany(
            f"INSERT INTO votes (draft_id, model_config_id, round, {', '.join(columns)})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (draft_id, model_config_id, round) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in columns),
            [(row.id, vote["model"].id, row.round, *(vote[column] for column in columns)) for vote in given],
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    @bound
    def votes(self, draft: DraftFinding | int, *, round: int | None = None) -> List[Vote]:
        """The votes on a draft, of one round or of all, with their models; by round and then in the order of arrival.

        Raises NotFound for a draft that is not there.
        """
        query = Vote.select(Vote, ModelConfig).join(ModelConfig).where(Vote.draft == self.get(draft).id)
        if round is not None:
            query = query.where(Vote.round == whole("round", round, 1, 2**31))
        return list(query.order_by(Vote.round, Vote.id))

    @bound
    def list(
        self,
        scan: Scan | int,
        *,
        status: str | None = None,
        severity: str | None = None,
        file: str | None = None,
        limit: int | None = None,
    ) -> List[DraftFinding]:
        """Drafts of a scan, the most severe first and then by file and line; of one status, severity or file if given.

        Raises InvalidArgument for a status or severity that there is not.
        """
        query = DraftFinding.select().where(DraftFinding.scan == self._scan(scan))
        if status is not None:
            query = query.where(DraftFinding.status == DraftFinding.status.db_value(status))
        if severity is not None:
            query = query.where(DraftFinding.severity == DraftFinding.severity.db_value(severity))
        if file is not None:
            query = query.where(DraftFinding.file_path == stored_path(file, "file"))
        query = query.order_by(DraftFinding.rank, DraftFinding.file_path, DraftFinding.line_number, DraftFinding.id)
        return list(query.limit(whole("limit", limit, 0, 2**31)))
