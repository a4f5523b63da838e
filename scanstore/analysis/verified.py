"""Verified findings: created by the verdict on a draft in the same transaction, then enriched and published.

Change here: how a new verdict changes the results of earlier ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scanstore.analysis.models import DraftFinding, VerifiedFinding, Vote
from scanstore.analysis.stage import Stage
from scanstore.db.database import Database
from scanstore.db.domain import reads
from scanstore.db.pagination import check_window, listed
from scanstore.db.rows import Rows
from scanstore.db.state_machine import SEVERITIES, Machine
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove
from scanstore.findings.looks import UPHELD
from scanstore.findings.tracking import set_status
from scanstore.findings.triage import VOTED
from scanstore.leases import engine
from scanstore.leases.queue import Key
from scanstore.snapshots.models import Scan

if TYPE_CHECKING:
    from scanstore.db.words import VerifiedStatus

# The transitions of a verified finding without a lease; ``leases.engine`` performs the others.
UNLEASED = Machine(
    "verified_findings",
    "verified finding",
    {"pending": ("failed",), "complete": ("pending", "complete")},
    {
        "enriching": "its worker has to complete or release it first",
        "failed": "let it wait again first: store.verified.retry(row)",
        "pending": "it waits to be claimed as it is",
        "complete": "its finding is there; to judge it again: store.scans.rerun(scan, to='verify')",
    },
)
CONFIRM = """
INSERT INTO verified_findings
       (draft_id, scan_id, title, confidence, attack_vector, data_flow, adjusted_severity, rank)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (draft_id) DO UPDATE SET title = excluded.title, confidence = excluded.confidence,
       attack_vector = excluded.attack_vector, data_flow = excluded.data_flow,
       adjusted_severity = excluded.adjusted_severity, rank = excluded.rank,
       status = 'pending', retry_count = 0, lost_count = 0, lease_until = NULL, lease_clock = NULL,
       next_retry_at = NULL, error = NULL
RETURNING id
"""


def confirm(db: Database, draft: DraftFinding, votes: Sequence[Vote], confidence: int) -> int:
    """Create the verified finding of a draft, or update it and reset it to pending. Return its id.

    The severity is that of most agreeing votes, the higher one in a tie. The texts are those of the vote with the
    highest confidence.
    """
    agreeing = [vote for vote in votes if vote.decision == "verified"]
    agreeing.sort(key=lambda vote: -1 if vote.confidence is None else vote.confidence, reverse=True)
    said = Counter(vote.severity for vote in agreeing if vote.severity is not None)
    severity = min(said, key=lambda word: (-said[word], SEVERITIES.index(word)), default=draft.severity)
    texts = (
        next((vote.attack_vector for vote in agreeing if vote.attack_vector), ""),
        next((vote.data_flow for vote in agreeing if vote.data_flow), ""),
    )
    values = (draft.id, draft.scan_id, draft.title, confidence, *texts, severity, SEVERITIES.index(severity))
    return int(db.execute_sql(CONFIRM, values).fetchall()[0][0])


def withdraw(db: Database, draft: DraftFinding, outcome: str) -> int | None:
    """Revoke a verified finding of an earlier round: delete it, or fail it and return its id if it was published."""
    found = db.execute_sql(
        "SELECT v.id, s.finding_id FROM verified_findings AS v LEFT JOIN sightings AS s ON s.verified_id = v.id"
        " WHERE v.draft_id = ?",
        (draft.id,),
    ).fetchall()
    if not found:
        return None
    verified, finding = found[0]
    if finding is None:
        db.execute_sql("DELETE FROM verified_findings WHERE id = ?", (verified,))
        return None
    db.execute_sql(
        "UPDATE verified_findings SET status = 'failed', lease_until = NULL, lease_clock = NULL, next_retry_at = NULL,"
        " error = ?"
        " WHERE id = ?",
        (f"{outcome} in round {draft.round}", verified),
    )
    _turn(db, OPEN, finding, draft.scan_id, ("open", "false_positive"), f"{outcome} in round {draft.round}")
    return int(verified)


# Whether votes of this scan may change the status: not after a later sighting or a decision of a person.
OPEN = """
SELECT 1 FROM findings AS f WHERE f.id = ?1 AND f.status = 'open'
   AND NOT EXISTS (SELECT 1 FROM sightings WHERE finding_id = f.id AND scan_id > ?2 AND state <> 'fixed')
"""
WITHDRAWN = f"""
{VOTED.replace("?", "?1")} AND coalesce(e.scan_id, 0) <= ?2
   AND EXISTS (SELECT 1 FROM findings WHERE id = ?1 AND status = 'false_positive')
"""


def _turn(db: Database, may: str, finding: int, scan_id: int, move: tuple[str, str], note: str) -> None:
    """Change the status of a finding by the votes of a scan, if they may."""
    if db.execute_sql(may, (finding, scan_id)).fetchall():
        set_status(db, scan_id, [(finding, *move)], format_time(utcnow()), note)


class Verified(Stage[VerifiedFinding]):
    """Verified findings. A worker claims one, enriches it, and completes it with :meth:`Findings.publish`."""

    queue = engine.VERIFIED
    model = VerifiedFinding
    life = UNLEASED

    @reads
    def list(
        self,
        scan: Scan | int,
        *,
        status: VerifiedStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[VerifiedFinding]:
        """List the verified findings of a scan by severity and then age, optionally of one status.

        Raises InvalidArgument for an unknown status.
        """
        check_window(limit, offset)
        query = VerifiedFinding.select().where(VerifiedFinding.scan == self._scan(scan))
        if status is not None:
            query = query.where(VerifiedFinding.status == VerifiedFinding.status.db_value(status))
        query = query.order_by(VerifiedFinding.rank, VerifiedFinding.id)
        return listed(query, limit=limit, offset=offset, sort=sort)

    def _retry(self, key: Key) -> None:
        taken_back = self.db.execute_sql(f"SELECT 1 FROM verified_findings WHERE id = ? AND NOT ({UPHELD})", (key,))
        if taken_back.fetchall():
            raise IllegalMove(f"verified finding {key} was taken back by later votes; nothing is left to do about it")
        super()._retry(key)
