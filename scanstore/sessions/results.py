"""The results of a session: one by each task at most, and those that were made elsewhere.

Change here: what a result may say, and the questions about results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from scanstore.db.arguments import check_choice, check_integer, check_string
from scanstore.db.database import Database
from scanstore.db.domain import Domain, List, reads
from scanstore.db.rows import read
from scanstore.db.state_machine import RESULT_STATUSES
from scanstore.db.uuids import uuid7
from scanstore.db.values import format_time, utcnow
from scanstore.errors import InvalidArgument, NotFound
from scanstore.sessions.models import (
    AnalysisResult,
    Session,
    check_open,
    result_columns,
    session_key,
    session_status,
)

if TYPE_CHECKING:
    from scanstore.db.words import ResultStatus
    from scanstore.sessions.models import ResultRecord


class SessionResults(Domain):
    """The results of sessions, ``store.sessions.results``; those of tasks come with ``tasks.complete``."""

    def add(
        self, session: Session, *, status: ResultStatus = "completed", **result: Unpack[ResultRecord]
    ) -> AnalysisResult:
        """Add a result without a task. Takes the values of ``tasks.complete``; ``analysis_type`` is required.

        Raises InvalidArgument, NotFound, and IllegalMove for a session that is over.
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
    def list(
        self, session: Session, *, analysis_type: str | None = None, limit: int | None = None
    ) -> List[AnalysisResult]:
        """List the results of a session, the oldest first, or those of a type. Raises NotFound, InvalidArgument."""
        key = session_key(session)
        query = AnalysisResult.select().where(AnalysisResult.session == key)
        query = query.order_by(AnalysisResult.created_at, AnalysisResult.id)
        if analysis_type is not None:
            query = query.where(AnalysisResult.analysis_type == check_string(analysis_type, "analysis_type"))
        if limit is not None:
            query = query.limit(check_integer(limit, "limit"))
        session_status(self.db, key)
        return list(query)


def add_result(
    db: Database,
    session: str,
    columns: Mapping[str, object],
    *,
    task: str | None = None,
    status: str = "completed",
) -> AnalysisResult:
    """Add a result of a task, or of none, inside the caller's transaction."""
    prompt = columns["configuration_id"]
    if prompt is not None and not db.execute_sql("SELECT 1 FROM configurations WHERE id = ?", (prompt,)).fetchone():
        raise NotFound(f"no prompt {prompt}; store.sessions.prompts.list(user) shows all versions of a user's prompts")
    row = {**columns, "id": str(uuid7()), "analysis_session_id": session, "analysis_task_id": task, "status": status}
    row["created_at"] = row["updated_at"] = format_time(utcnow())
    db.execute_sql(
        f"INSERT INTO analysis_results ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
    )
    return read(db, AnalysisResult, "id = ?", (row["id"],))[0]
