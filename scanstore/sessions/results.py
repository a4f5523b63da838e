"""The results of sessions: at most one for each task, and results without a task.

Change here: the values of a result, and the queries about results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from scanstore.db.arguments import check_choice, check_string
from scanstore.db.database import Database
from scanstore.db.domain import Domain, reads
from scanstore.db.pagination import listed
from scanstore.db.rows import Rows, read
from scanstore.db.state_machine import RESULT_STATUSES
from scanstore.db.uuids import uuid7
from scanstore.db.values import format_time, utcnow
from scanstore.errors import InvalidArgument, NotFound
from scanstore.sessions.models import (
    AnalysisResult,
    Result,
    Session,
    check_open,
    result_columns,
    result_key,
    session_key,
    session_status,
)

if TYPE_CHECKING:
    from scanstore.db.words import ResultStatus
    from scanstore.sessions.models import ResultRecord


class SessionResults(Domain):
    """The results of sessions, ``store.sessions.results``. ``tasks.complete`` adds the result of a task."""

    def add(
        self, session: Session, *, status: ResultStatus = "completed", **result: Unpack[ResultRecord]
    ) -> AnalysisResult:
        """Add a result without a task. Takes the values of ``tasks.complete``; ``analysis_type`` is required.

        Raises InvalidArgument, NotFound, and IllegalMove for a finished session.
        """
        key = session_key(session)
        columns = result_columns(result)
        if columns["analysis_type"] is None:
            raise InvalidArgument("analysis_type is None; give a text")
        status = check_choice(status, "status", RESULT_STATUSES)
        with self.db.atomic():
            check_open(self.db, key)
            return add_result(self.db, key, columns, status=status)

    @reads
    def get(self, result: Result) -> AnalysisResult:
        """Return a result. Raises NotFound, InvalidArgument."""
        row = self.find(result)
        if row is None:
            raise NotFound(
                f"no result {result_key(result)}; store.sessions.results.list(session) lists the results of a session"
            )
        return row

    @reads
    def find(self, result: Result) -> AnalysisResult | None:
        """Return a result, or None if there is no such result. Raises InvalidArgument."""
        rows = read(self.db, AnalysisResult, "id = ?", (result_key(result),))
        return rows[0] if rows else None

    @reads
    def list(
        self,
        session: Session,
        *,
        type: str | None = None,
        status: ResultStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisResult]:
        """List the results of a session, the oldest first, optionally of a type or status. Raises NotFound,
        InvalidArgument.
        """
        key = session_key(session)
        query = AnalysisResult.select().where(AnalysisResult.session == key)
        query = query.order_by(AnalysisResult.created_at, AnalysisResult.id)
        if type is not None:
            query = query.where(AnalysisResult.analysis_type == check_string(type, "type"))
        if status is not None:
            query = query.where(AnalysisResult.status == check_choice(status, "status", RESULT_STATUSES))
        rows = listed(query, limit=limit, offset=offset, sort=sort)
        if not rows:
            session_status(self.db, key)  # raises NotFound
        return rows


def add_result(
    db: Database,
    session: str,
    columns: Mapping[str, object],
    *,
    task: str | None = None,
    status: str = "completed",
) -> AnalysisResult:
    """Add a result, with or without a task, inside the caller's transaction."""
    prompt = columns["configuration_id"]
    if prompt is not None and not db.execute_sql("SELECT 1 FROM configurations WHERE id = ?", (prompt,)).fetchone():
        raise NotFound(f"no prompt {prompt}; store.sessions.prompts.list(user) lists the prompts of a user")
    row = {**columns, "id": str(uuid7()), "analysis_session_id": session, "analysis_task_id": task, "status": status}
    row["created_at"] = row["updated_at"] = format_time(utcnow())
    db.execute_sql(
        f"INSERT INTO analysis_results ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
    )
    return read(db, AnalysisResult, "id = ?", (row["id"],))[0]
