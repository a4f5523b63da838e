"""Analysis sessions: a user's files, the work on them, the prompts it is done with, and what came out.

A session is ``created``, goes on (``processing``) with its first claimed task or when it is told to, and is over:
``completed``, ``failed`` or ``cancelled``. One that failed or was cancelled can be opened again. While tasks are
pending or leased it cannot be completed; when it ends otherwise, they are cancelled with it.

Change here: the life of a session, and the questions about them. Its parts are in :mod:`scanstore.sessions.uploads`,
:mod:`scanstore.sessions.tasks` and :mod:`scanstore.sessions.prompts`.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.accounts.models import User, known_user
from scanstore.db.arguments import check_integer, check_text
from scanstore.db.domain import reads
from scanstore.db.state_machine import Machine, move
from scanstore.db.values import format_time, utcnow
from scanstore.errors import IllegalMove
from scanstore.sessions.models import CENT, Session, no_session, read, session_key
from scanstore.sessions.models import AnalysisResult as AnalysisResult
from scanstore.sessions.models import AnalysisSession as AnalysisSession
from scanstore.sessions.models import AnalysisTask as AnalysisTask
from scanstore.sessions.models import FileUpload as FileUpload
from scanstore.sessions.prompts import Prompts
from scanstore.sessions.tasks import ANEW, SessionTasks
from scanstore.sessions.uploads import Added as Added

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
        "processing": "it goes on; complete, fail or cancel it",
        "completed": "create another one for another round",
        "failed": "open it again first: store.sessions.reopen(session)",
        "cancelled": "open it again first: store.sessions.reopen(session)",
    },
)

List = list  # the class below has a method of that name


class SessionStats(NamedTuple):
    """Sessions and tasks by status; files, those processed, and their bytes; results, and the mean of their scores."""

    sessions: dict[str, int]
    files: int
    processed_files: int
    bytes: int
    tasks: dict[str, int]
    results: int
    mean_score: Decimal | None


class Sessions(SessionTasks, Prompts):
    """Sessions of all users, with what belongs to them, and their prompts."""

    def create(self, user: User | str | uuid.UUID, name: str) -> AnalysisSession:
        """Add a session. Raises InvalidArgument, NotFound, and IllegalMove for a user who is not active."""
        text = check_text(name, "name", 255)
        with self.db.atomic():
            key = known_user(self.db, user)
            if not self.db.execute_sql("SELECT is_active FROM users WHERE id = ?", (key,)).fetchone()[0]:
                raise IllegalMove(f"user {key} is not active; store.accounts.activate(user) first")
            return AnalysisSession.create(user=key, session_name=text)

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self, session: Session) -> AnalysisSession:
        """Set a session going that was created; the first claim of its tasks does it too. Raises NotFound,
        IllegalMove."""
        return self._move(session, "processing")

    def complete(self, session: Session) -> AnalysisSession:
        """End a session whose tasks are all over, failed ones too; return it. For good.

        Raises NotFound, and IllegalMove while tasks are pending or leased, or when it is not open.
        """
        key = session_key(session)
        with self.db.atomic():
            self._session_status(key)
            (left,) = self.db.execute_sql(
                "SELECT count(*) FROM analysis_tasks"
                " WHERE analysis_session_id = ? AND (status = 'pending' OR status = 'processing')",
                (key,),
            ).fetchone()
            if left:
                tasks = "a task that is" if left == 1 else f"{left:,} tasks that are"
                raise IllegalMove(
                    f"session {key} has {tasks} not finished; wait for them, or cancel them:"
                    " store.sessions.cancel_task(task)"
                )
            return self._move(key, "completed")

    def fail(self, session: Session) -> AnalysisSession:
        """End a session that cannot go on; return it. Its tasks that are not over are cancelled; one transaction.

        Raises NotFound, IllegalMove.
        """
        return self._move(session, "failed")

    def cancel(self, session: Session) -> AnalysisSession:
        """End a session that is not wanted any more; return it. Its tasks that are not over are cancelled; one
        transaction. Raises NotFound, IllegalMove."""
        return self._move(session, "cancelled")

    def reopen(self, session: Session) -> AnalysisSession:
        """Begin again with a session that failed or was cancelled; return it. Its tasks that failed or were cancelled
        wait again, with all their tries; completed tasks stay completed. One transaction. Raises NotFound,
        IllegalMove."""
        return self._move(session, "created")

    def _move(self, session: Session, to: str) -> AnalysisSession:
        key, now = session_key(session), format_time(utcnow())
        with self.db.atomic():
            self._session_status(key)
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
                anew = ", ".join(f"{column} = ?" for column in ANEW)
                self.db.execute_sql(
                    f"UPDATE analysis_tasks SET status = 'pending', updated_at = ?, {anew}"
                    " WHERE analysis_session_id = ? AND (status = 'failed' OR status = 'cancelled')",
                    (now, *ANEW.values(), key),
                )
            return self._session(key)

    def remove(self, session: Session) -> None:
        """Delete a session with its files, results and tasks; a worker that has one is told NotFound. Raises
        NotFound."""
        key = session_key(session)
        if not self.db.execute_sql("DELETE FROM analysis_sessions WHERE id = ?", (key,)).rowcount:
            raise no_session(key)

    # -- asking ----------------------------------------------------------------------------------------------------

    @reads
    def get(self, session: Session) -> AnalysisSession:
        """The session, read anew. Raises NotFound."""
        return self._session(session_key(session))

    @reads
    def find(self, session: Session) -> AnalysisSession | None:
        """The session, read anew, or None when it is not there."""
        rows = read(self.db, AnalysisSession, "id = ?", (session_key(session),))
        return rows[0] if rows else None

    @reads
    def list(
        self,
        *,
        user: User | str | uuid.UUID | None = None,
        status: SessionStatus | None = None,
        limit: int | None = None,
    ) -> List[AnalysisSession]:
        """Sessions, the newest first: of a user, of a status. Raises NotFound, InvalidArgument."""
        query = AnalysisSession.select().order_by(AnalysisSession.created_at.desc(), AnalysisSession.id.desc())
        if status is not None:
            query = query.where(
                AnalysisSession.status == AnalysisSession.status.db_value(status)
            )  # refuses a word that is none
        if limit is not None:
            query = query.limit(check_integer(limit, "limit"))
        if user is not None:
            query = query.where(AnalysisSession.user == known_user(self.db, user))
        return list(query)

    @reads
    def stats(self, *, user: User | str | uuid.UUID | None = None) -> SessionStats:
        """Sessions in figures, of all users or one; counted in SQL. Raises NotFound."""
        key = None if user is None else known_user(self.db, user)
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
