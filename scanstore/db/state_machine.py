"""Statuses: the values of each status column, the allowed transitions, and the function that performs one.

A transition is one guarded UPDATE. It applies only to rows in a status that allows it, so a late or repeated call can
never reopen a finished row. Add a machine here for every table with a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.database import Database
from scanstore.errors import IllegalMove, NotFound

if TYPE_CHECKING:
    from scanstore.db import words

SCAN_STATUSES: tuple[words.ScanStatus, ...] = ("queued", "running", "paused", "completed", "failed", "cancelled")
PHASES: tuple[words.Phase, ...] = (
    "queued", "ingestion", "indexing", "chunking", "scanning", "verifying", "enriching", "completed",
)  # fmt: skip
FILE_STATUSES: tuple[words.ChunkStatus, ...] = ("pending", "running", "done", "failed", "skipped")
CHUNK_STATUSES = FILE_STATUSES
RISKS: tuple[words.Risk, ...] = ("high", "normal", "low")  # in the order in which their chunks are claimed
DRAFT_STATUSES: tuple[words.DraftStatus, ...] = (
    "pending", "verifying", "verified", "rejected", "weakness", "skipped", "failed",
)  # fmt: skip
VERIFIED_STATUSES: tuple[words.VerifiedStatus, ...] = ("pending", "enriching", "complete", "failed")
FINDING_STATUSES: tuple[words.FindingStatus, ...] = ("open", "confirmed", "false_positive", "ignored", "fixed")
# In the order in which rows are claimed.
SEVERITIES: tuple[words.Severity, ...] = ("critical", "high", "medium", "low", "info")
VOTES: tuple[words.VoteDecision, ...] = ("verified", "rejected", "weakness", "abstain")
SIGHTINGS: tuple[words.SightingState, ...] = ("new", "unchanged", "updated", "reopened", "fixed")
FINDING_STATES: tuple[words.FindingState, ...] = (*SIGHTINGS, "not_checked")  # of a target
SCAN_KINDS: tuple[words.ScanKind, ...] = ("source", "results")  # a scanned tree, or reports about one
CALL_STATUSES: tuple[words.CallStatus, ...] = ("running", "answered", "failed", "abandoned")
SYNC_KINDS: tuple[words.LibraryKind, ...] = ("scene", "performer", "tag", "studio")
DATE_PRECISIONS: tuple[words.DatePrecision, ...] = ("day", "month", "year")
SYNC_STATUSES = ("running", "completed", "failed")
PLAN_STATUSES: tuple[words.PlanStatus, ...] = ("pending", "draft", "reviewing", "applied", "cancelled", "reverted")
CHANGE_STATUSES: tuple[words.ChangeStatus, ...] = (
    "pending", "approved", "rejected", "applied", "failed", "skipped", "reverted",
)  # fmt: skip
CHANGE_TARGETS = ("scene", "finding")
CHANGE_ACTIONS: tuple[words.ChangeAction, ...] = ("add", "remove", "update", "set")
JOB_STATUSES: tuple[words.JobStatus, ...] = ("pending", "running", "cancelling", "completed", "failed", "cancelled")
JOB_LIVE = ("pending", "running", "cancelling")  # not over
SESSION_STATUSES: tuple[words.SessionStatus, ...] = ("created", "processing", "completed", "failed", "cancelled")
SESSION_OPEN = ("created", "processing")  # files and tasks can be added
UPLOAD_STATUSES: tuple[words.UploadStatus, ...] = ("uploaded", "processing", "completed", "error")
RESULT_STATUSES: tuple[words.ResultStatus, ...] = ("pending", "completed", "failed")
# Of a session.
TASK_STATUSES: tuple[words.SessionTaskStatus, ...] = ("pending", "processing", "completed", "failed", "cancelled")


class Machine(NamedTuple):
    """The statuses of one table: ``moves`` maps each status to the statuses that lead to it, and ``remedies`` maps a
    status to the advice in the error when a transition from it is refused.
    """

    table: str
    noun: str
    moves: Mapping[str, tuple[str, ...]]
    remedies: Mapping[str, str]


SCANS = Machine(
    "scans",
    "scan",
    {
        "queued": ("failed", "cancelled", "paused", "completed"),  # first or repeated analysis
        "running": ("queued", "paused"),
        "paused": ("running", "queued"),
        "completed": ("running", "completed", "queued"),  # completed again after more files were recorded
        "failed": ("queued", "running", "paused"),
        "cancelled": ("queued", "running", "paused"),
    },
    {
        "queued": "it has to run first",
        "paused": "resume it first",
        "failed": "record the target again with a new scan, or rerun its analysis",
        "cancelled": "record the target again with a new scan, or rerun its analysis",
        "completed": "its recorded files stay; a new scan shows later changes",
    },
)

_REOPEN = "open it again first: store.findings.triage(finding, 'open') (scanstore findings triage ID open)"
FINDINGS = Machine(
    "findings",
    "finding",
    {
        "open": ("confirmed", "false_positive", "ignored", "fixed"),
        "confirmed": ("open",),
        "false_positive": ("open", "confirmed"),
        "ignored": ("open", "confirmed"),
        "fixed": ("open", "confirmed"),
    },
    {"false_positive": _REOPEN, "ignored": _REOPEN, "fixed": _REOPEN},
)


def move(db: Database, machine: Machine, key: int | str, to: str, **columns: object) -> None:
    """Move a row to a status and set other columns, in one statement.

    Raises IllegalMove, which names the row, its status and the remedy, if its status does not allow the transition, and
    NotFound if it does not exist. Nothing is changed then.
    """
    origins = machine.moves[to]
    assignments = ", ".join(f"{column} = ?" for column in ("status", *columns))
    marks = ", ".join("?" * len(origins))
    done = db.execute_sql(
        f"UPDATE {machine.table} SET {assignments} WHERE id = ? AND status IN ({marks})",
        (to, *columns.values(), key, *origins),
    )
    if done.rowcount:
        return
    row = db.execute_sql(f"SELECT status FROM {machine.table} WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise NotFound(f"{machine.noun} {key} does not exist any more")
    remedy = machine.remedies.get(row[0], "look at it first")
    raise IllegalMove(f"{machine.noun} {key} is {row[0]} and cannot become {to}; {remedy}")
