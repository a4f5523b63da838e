"""Analysis sessions: a user's files, tasks, prompts and results.

A session is ``created``, then ``processing`` from its first claimed task or an explicit start, then ``completed``,
``failed`` or ``cancelled``. A failed or cancelled session can be reopened. A session with pending or leased tasks
cannot be completed. If it fails or is cancelled, these tasks are cancelled too.

Change here: the statuses of a session, and the queries about sessions. The other methods are in
:mod:`scanstore.sessions.uploads`, :mod:`scanstore.sessions.tasks` and :mod:`scanstore.sessions.prompts`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.accounts.models import UserKey, of_user, user_key
from scanstore.db.arguments import check_choice, check_text
from scanstore.db.domain import Domain, reads
from scanstore.db.notebooks import described
from scanstore.db.pagination import listed
from scanstore.db.rows import Removed, Rows, read, remove
from scanstore.db.state_machine import SESSION_STATUSES, Machine, move
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove
from scanstore.sessions.models import CENT, Session, no_session, session_key, session_status
from scanstore.sessions.models import AnalysisResult as AnalysisResult
from scanstore.sessions.models import AnalysisSession as AnalysisSession
from scanstore.sessions.models import AnalysisTask as AnalysisTask
from scanstore.sessions.models import FileUpload as FileUpload
from scanstore.sessions.prompts import Prompts
from scanstore.sessions.results import SessionResults
from scanstore.sessions.tasks import SessionTasks
from scanstore.sessions.uploads import Added as Added
from scanstore.sessions.uploads import SessionUploads

if TYPE_CHECKING:
    from scanstore.db.words import SessionStatus

LIFE = Machine(
    "analysis_sessions",
    "session",
    {
        "created": ("failed", "cancelled"),
        "processing": ("created",),
        "completed": ("processing",),
        "failed": ("processing",),
        "cancelled": ("created", "processing"),
    },
    {
        "created": "start it first: store.sessions.start(session)",
        "processing": "it was started already; complete, fail or cancel it",
        "completed": "add another session",
        "failed": "reopen it first: store.sessions.reopen(session)",
        "cancelled": "reopen it first: store.sessions.reopen(session)",
    },
)


@described
class SessionStats(NamedTuple):
    """The number of sessions and tasks by status, of files, processed files and bytes, of results, and their mean
    score.
    """

    sessions: dict[str, int]
    files: int
    processed_files: int
    bytes: int
    tasks: dict[str, int]
    results: int
    mean_score: Decimal | None


class Sessions(Domain):
    """Sessions of all users, with their files, tasks and results, and the prompts of users."""

    @cached_property
    def uploads(self) -> SessionUploads:
        """The files of sessions."""
        return SessionUploads(self.db)

    @cached_property
    def tasks(self) -> SessionTasks:
        """The tasks of sessions."""
        return SessionTasks(self.db)

    @cached_property
    def results(self) -> SessionResults:
        """The results of sessions."""
        return SessionResults(self.db)

    @cached_property
    def prompts(self) -> Prompts:
        """The prompts of users, in versions."""
        return Prompts(self.db)

    def add(self, user: UserKey, name: str) -> AnalysisSession:
        """Add a session. Raises InvalidArgument, NotFound, and IllegalMove for a deactivated user."""
        text = check_text(name, "name", 255)
        with self.db.atomic():
            key = user_key(self.db, user)
            if not self.db.execute_sql("SELECT is_active FROM users WHERE id = ?", (key,)).fetchone()[0]:
                raise IllegalMove(f"user {key} is not active; store.accounts.activate(user) first")
            return AnalysisSession.create(user=key, session_name=text)

    # -- statuses --------------------------------------------------------------------------------------------------

    def start(self, session: Session) -> AnalysisSession:
        """Start a created session. The first claim of its tasks does this too. Raises NotFound, IllegalMove."""
        return self._move(session, "processing")

    def complete(self, session: Session) -> AnalysisSession:
        """Complete a session whose tasks are all finished, including failed ones, and return it. It cannot be reopened.

        Raises NotFound, and IllegalMove while tasks are pending or leased, or if the session is not open.
        """
        key = session_key(session)
        with self.db.atomic():
            session_status(self.db, key)
            (left,) = self.db.execute_sql(
                "SELECT count(*) FROM analysis_tasks"
                " WHERE analysis_session_id = ? AND (status = 'pending' OR status = 'processing')",
                (key,),
            ).fetchone()
            if left:
                tasks = "a task that is" if left == 1 else f"{left:,} tasks that are"
                raise IllegalMove(
                    f"session {key} has {tasks} not finished; wait for them, or cancel them:"
                    " store.sessions.tasks.cancel(task)"
                )
            return self._move(key, "completed")

    def fail(self, session: Session) -> AnalysisSession:
        """Fail a session, cancel its unfinished tasks, and return it. Atomic.

        Raises NotFound, IllegalMove.
        """
        return self._move(session, "failed")

    def cancel(self, session: Session) -> AnalysisSession:
        """Cancel a session and its unfinished tasks, and return it. Atomic. Raises NotFound, IllegalMove."""
        return self._move(session, "cancelled")

    def reopen(self, session: Session) -> AnalysisSession:
        """Reopen a failed or cancelled session, and return it. Its failed and cancelled tasks become pending with all
        their retries; completed tasks stay completed. Atomic. Raises NotFound, IllegalMove.
        """
        return self._move(session, "created")

    def _move(self, session: Session, to: str) -> AnalysisSession:
        key, now = session_key(session), format_time(utcnow())
        with self.db.atomic():
            session_status(self.db, key)
            move(
                self.db, LIFE, key, to, completed_at=now if to == "completed" else None, updated_at=now
            )  # fmt: skip
            if to in ("failed", "cancelled"):
                self.db.execute_sql(
                    "UPDATE analysis_tasks SET status = 'cancelled', lease_until = NULL, next_retry_at = NULL,"
                    " completed_at = ?1, updated_at = ?1"
                    " WHERE analysis_session_id = ?2 AND (status = 'pending' OR status = 'processing')",
                    (now, key),
                )
            elif to == "created":
                anew = self.tasks._fresh()
                columns = ", ".join(f"{column} = ?" for column in anew)
                self.db.execute_sql(
                    f"UPDATE analysis_tasks SET status = 'pending', updated_at = ?, {columns}"
                    " WHERE analysis_session_id = ? AND (status = 'failed' OR status = 'cancelled')",
                    (now, *anew.values(), key),
                )
            return self._session(key)

    def _session(self, key: str) -> AnalysisSession:
        rows = read(self.db, AnalysisSession, "id = ?", (key,))
        if not rows:
            raise no_session(key)
        return rows[0]

    def remove(self, session: Session) -> Removed:
        """Remove a session with its files, results and tasks, and return the number of removed rows by table. Atomic.

        Later calls of the workers of its tasks raise NotFound. Raises NotFound.
        """
        key = session_key(session)
        with self.db.atomic():
            removed = remove(self.db, "analysis_sessions", "id = ?", (key,))
            if not removed:
                raise no_session(key)
            return removed

    # -- queries ----------------------------------------------------------------------------------------------------

    @reads
    def get(self, session: Session) -> AnalysisSession:
        """Return a session. Raises NotFound, InvalidArgument."""
        return self._session(session_key(session))

    @reads
    def find(self, session: Session) -> AnalysisSession | None:
        """Return a session, or None if there is no such session. Raises InvalidArgument."""
        rows = read(self.db, AnalysisSession, "id = ?", (session_key(session),))
        return rows[0] if rows else None

    @reads
    def list(
        self,
        *,
        user: UserKey | None = None,
        status: SessionStatus | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[AnalysisSession]:
        """List sessions, the newest first, optionally of a user or status. Raises NotFound, InvalidArgument."""
        query = AnalysisSession.select().order_by(AnalysisSession.created_at.desc(), AnalysisSession.id.desc())
        if status is not None:
            query = query.where(AnalysisSession.status == check_choice(status, "status", SESSION_STATUSES))
        if user is not None:
            query = query.where(of_user(AnalysisSession.user, user))
        rows = listed(query, limit=limit, offset=offset, sort=sort)
        if user is not None and not rows:
            user_key(self.db, user)  # raises NotFound
        return rows

    @reads
    def stats(self, *, user: UserKey | None = None) -> SessionStats:
        """Return counts of sessions, of all users or one. Raises NotFound."""
        key = None if user is None else user_key(self.db, user)
        whose = (
            "1" if key is None else "analysis_session_id IN (SELECT id FROM analysis_sessions WHERE user_id = :user)"
        )

        def rows(sql: str) -> Any:
            return self.db.execute_sql(sql, {"user": key}).fetchall()

        mine = "1" if key is None else "user_id = :user"
        sessions = rows(
            "SELECT status, count(*), sum(total_files), sum(processed_files)"
            f" FROM analysis_sessions WHERE {mine} GROUP BY status"
        )
        tasks = rows(f"SELECT status, count(*) FROM analysis_tasks WHERE {whose} GROUP BY status")
        [(size,)] = rows(f"SELECT coalesce(sum(file_size), 0) FROM file_uploads WHERE {whose}")
        [(results, mean)] = rows(f"SELECT count(*), avg(score) FROM analysis_results WHERE {whose}")
        return SessionStats(
            {status: number for status, number, _, _ in sessions},
            sum(files for _, _, files, _ in sessions),
            sum(done for _, _, _, done in sessions),
            size,
            dict(tasks),
            results,
            None if mean is None else Decimal(repr(mean)).quantize(CENT),
        )
