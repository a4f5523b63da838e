"""The models of analysis sessions, and the types of their arguments.

Triggers in the database count the files of a session, and the processed ones. They also refuse an upload that would
replace another one, because with REPLACE SQLite would do so silently.

Change here: the columns, and their accepted values. The methods are in :mod:`scanstore.sessions.sessions`, those for
uploads in :mod:`scanstore.sessions.uploads`, and those for tasks in :mod:`scanstore.sessions.tasks`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Required, TypedDict

import peewee

from scanstore.accounts.models import User
from scanstore.db.arguments import check_text, encodable, uuid_of
from scanstore.db.database import Database
from scanstore.db.fields import EnumField, HashField, Identified, UTCField
from scanstore.db.generic_fields import Number
from scanstore.db.rules import LEASE_COLUMNS, Rules, above, columns
from scanstore.db.state_machine import RESULT_STATUSES, SESSION_OPEN, SESSION_STATUSES, TASK_STATUSES, UPLOAD_STATUSES
from scanstore.errors import IllegalMove, InvalidArgument, NotFound, shown
from scanstore.leases.models import LeasedTask

if TYPE_CHECKING:
    from scanstore.db.generic_fields import Backref

CENT = Decimal("0.01")


class Configuration(Identified):
    """One version of a prompt. Only ``is_default`` can change."""

    __shown__ = "config_type: version, user, is_default | created_at"
    __rules__ = Rules(held="keep it: results say which version produced them")

    if TYPE_CHECKING:
        user_id = peewee.TextField()
        results = Backref["AnalysisResult"]()

    user = peewee.ForeignKeyField(User, backref="configurations", on_delete="RESTRICT", index=False)
    config_type = peewee.TextField()
    prompt_content = peewee.TextField()
    is_default = peewee.BooleanField(default=False)
    version = peewee.IntegerField(default=1)

    class Meta:
        table_name = "configurations"
        indexes = ((("user", "config_type", "version"), True),)

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if new and "version" not in self._given:
            mine = (Configuration.user == self.user_id, Configuration.config_type == self.__data__.get("config_type"))
            last = Configuration.select(peewee.fn.max(Configuration.version)).where(*mine).scalar()
            self.version = 1 + (last or 0)


class AnalysisSession(Identified):
    """An analysis session of a user, with its files, tasks and results."""

    __shown__ = "status: session_name, processed_files/total_files | created_at, completed_at"
    __rules__ = Rules(
        state=columns("call store.sessions.start, complete, fail, cancel or reopen", "status", "completed_at"),
        fixed=columns("it is counted from the files; add or mark those", "total_files", "processed_files"),
    )

    if TYPE_CHECKING:
        user_id = peewee.TextField()
        files = Backref["FileUpload"]()
        results = Backref["AnalysisResult"]()
        tasks = Backref["AnalysisTask"]()

    user = peewee.ForeignKeyField(User, backref="sessions", on_delete="RESTRICT", index=False)
    session_name = peewee.TextField()
    status = EnumField(SESSION_STATUSES, default="created")
    completed_at = UTCField(null=True)
    total_files = peewee.IntegerField(default=0)
    processed_files = peewee.IntegerField(default=0)

    class Meta:
        table_name = "analysis_sessions"
        indexes = ((("user", "created_at"), False), (("status", "created_at"), False))

    @property
    def over(self) -> bool:
        """Whether the row was completed, failed or cancelled when it was read."""
        return self.status not in SESSION_OPEN

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if new or "session_name" in names:
            self.session_name = check_text(self.__data__.get("session_name"), "session_name", 255)


class FileUpload(Identified):
    """A file of a session; ``file_path`` is relative, with slashes, and ``file_size`` in bytes."""

    __shown__ = "upload_status: file_path, file_size | file_type"
    __rules__ = Rules(
        state=columns("call store.sessions.uploads.mark(upload, status)", "upload_status", "error_message"),
        fixed={"session": "remove it and add another one: store.sessions.uploads.add(session, files)"},
    )

    if TYPE_CHECKING:
        analysis_session_id = peewee.TextField()

    session = peewee.ForeignKeyField(
        AnalysisSession, column_name="analysis_session_id", object_id_name="analysis_session_id", backref="files",
        on_delete="CASCADE", index=False,
    )  # fmt: skip
    file_name = peewee.TextField()
    file_path = peewee.TextField()
    file_size = peewee.IntegerField()
    file_type = peewee.TextField()
    sha256 = HashField(null=True)
    upload_status = EnumField(UPLOAD_STATUSES, default="uploaded")
    error_message = peewee.TextField(null=True)

    class Meta:
        table_name = "file_uploads"
        indexes = ((("session", "file_path"), True),)

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new:
            return
        _check_session(self)
        given = ("file_path", "file_size", "file_name", "file_type", "sha256")
        file = above(self, "uploads", "checked_file")({name: self.__data__.get(name) for name in given})
        self.file_name, self.file_path, self.file_size, self.file_type = file.name, file.path, file.size, file.type
        names |= {"file_name", "file_path", "file_size", "file_type"}


class AnalysisTask(LeasedTask):
    """A task of a session, leased to a worker. ``task_id`` is the caller's own id of the task."""

    __shown__ = "status: task_type, task_id | progress, created_at, completed_at"
    __rules__ = Rules(
        state={
            "status": "call store.sessions.tasks.complete, fail, cancel, release or retry",
            **columns("call store.sessions.tasks.claim, complete, fail or release", *LEASE_COLUMNS, "error_message"),
        },
        fixed={"session": "add another task: store.sessions.tasks.add(session, task_type)"},
    )

    if TYPE_CHECKING:
        analysis_session_id = peewee.TextField()
        results = Backref["AnalysisResult"]()

    session = peewee.ForeignKeyField(
        AnalysisSession, column_name="analysis_session_id", object_id_name="analysis_session_id", backref="tasks",
        on_delete="CASCADE", index=False,
    )  # fmt: skip
    task_id = peewee.TextField(unique=True)
    task_type = peewee.TextField()
    status = EnumField(TASK_STATUSES, default="pending")
    progress = peewee.IntegerField(default=0)
    error_message = peewee.TextField(null=True)

    class Meta:
        table_name = "analysis_tasks"
        indexes = ((("session", "status"), False),)

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new:
            return
        _check_session(self)
        if self.__data__.get("task_id") is None:
            self.task_id = self.id
            names.add("task_id")

    @property
    def result(self) -> AnalysisResult | None:
        """The result of the task, or None."""
        found: AnalysisResult | None = self.results.first()
        return found


class ScoreField(Number[Decimal]):
    """An exact score from 0 to 100 with at most two decimals. Accepts a number or text, and returns a ``Decimal``."""

    field_type = "NUMERIC"

    def get_modifiers(self) -> Any:
        return None

    def db_value(self, value: object) -> Any:
        if value is None or isinstance(value, peewee.Node):
            return value
        return float(check_score(value))  # the nearest float; with two decimals it converts back exactly

    def python_value(self, value: object) -> Any:
        return None if value is None else Decimal(str(value)).quantize(CENT)


class AnalysisResult(Identified):
    """A result, with the version of the prompt that produced it."""

    __shown__ = "status: analysis_type, file_name, score | created_at"
    __rules__ = Rules(fixed=columns("add another one: store.sessions.results.add(session, ...)", "session", "task"))

    if TYPE_CHECKING:
        analysis_session_id = peewee.TextField()
        configuration_id = peewee.TextField(null=True)
        analysis_task_id = peewee.TextField(null=True)

    session = peewee.ForeignKeyField(
        AnalysisSession, column_name="analysis_session_id", object_id_name="analysis_session_id", backref="results",
        on_delete="CASCADE", index=False,
    )  # fmt: skip
    configuration = peewee.ForeignKeyField(Configuration, null=True, backref="results", on_delete="RESTRICT")
    task = peewee.ForeignKeyField(
        AnalysisTask, column_name="analysis_task_id", object_id_name="analysis_task_id", backref="results",
        on_delete="SET NULL", null=True, unique=True,
    )  # fmt: skip
    analysis_type = peewee.TextField()
    file_name = peewee.TextField(null=True)
    result_content = peewee.TextField()
    score = ScoreField(null=True)
    status = EnumField(RESULT_STATUSES, default="pending")

    class Meta:
        table_name = "analysis_results"
        indexes = ((("session", "created_at"), False), (("score", "id"), False))

    def _prepare(self, names: set[str], *, new: bool) -> None:
        if not new or self.analysis_task_id is None:
            return
        task = AnalysisTask.get_or_none(AnalysisTask.id == self.analysis_task_id)
        if task is None:
            raise NotFound(f"no task {self.analysis_task_id}; store.sessions.tasks.list(session) shows the known ones")
        if self.__data__.get("session") is None:
            self.session = task.session
            names.add("session")
        if task.analysis_session_id != self.analysis_session_id:
            raise InvalidArgument(
                f"task {task.id} is of session {task.analysis_session_id}, not of {self.analysis_session_id};"
                " leave one out"
            )

    def to_dict(self, *, secrets: bool = False) -> dict[str, object]:
        """Return the row as plain values. The score is a number with the same digits."""
        data = super().to_dict(secrets=secrets)
        return data | {"score": None if self.score is None else float(self.score)}


# Arguments: a row or its id

Session = AnalysisSession | str | uuid.UUID
Task = AnalysisTask | str | uuid.UUID
Upload = FileUpload | str | uuid.UUID
Prompt = Configuration | str | uuid.UUID
Result = AnalysisResult | str | uuid.UUID


def session_key(session: Session) -> str:
    return uuid_of(session, "a session", AnalysisSession)


def task_key(task: Task) -> str:
    return uuid_of(task, "a task", AnalysisTask)


def result_key(result: Result) -> str:
    return uuid_of(result, "a result", AnalysisResult)


def no_session(key: str) -> NotFound:
    return NotFound(f"no session {key}; store.sessions.list() (scanstore sessions list) lists all sessions")


def session_status(db: Database, key: str) -> str:
    """The status of a session. Raises NotFound."""
    row = db.execute_sql("SELECT status FROM analysis_sessions WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise no_session(key)
    return str(row[0])


def _check_session(row: FileUpload | AnalysisTask) -> None:
    if row.analysis_session_id is not None:
        check_open(row._meta.database, row.analysis_session_id)


def check_open(db: Database, key: str) -> None:
    """Raise IllegalMove for a finished session, NotFound for a missing one."""
    status = session_status(db, key)
    if status not in SESSION_OPEN:
        remedy = "add another session" if status == "completed" else "reopen it first: store.sessions.reopen(session)"
        raise IllegalMove(f"session {key} is {status}, so it cannot be changed; {remedy}")


# Values of columns


def check_score(value: object) -> Decimal:
    try:
        if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
            raise ValueError
        score = Decimal(float.__repr__(value) if isinstance(value, float) else value)
        if not (score.is_finite() and 0 <= score <= 100 and score == round(score, 2)):
            raise ValueError
    except (ValueError, InvalidOperation):
        raise InvalidArgument(
            f"score is {shown(value)}; give a number from 0 to 100 with at most two decimals"
        ) from None
    return round(score, 2) + 0  # no negative zero


RESULT = ("analysis_type", "result_content", "file_name", "score", "configuration")


class ResultRecord(TypedDict, total=False):
    """The values of a result; its ``score`` is from 0 to 100, with at most two decimals."""

    result_content: Required[str]
    analysis_type: str | None
    file_name: str | None
    score: Decimal | float | str | None
    configuration: Configuration | str | uuid.UUID | None


def result_columns(given: Mapping[str, object]) -> dict[str, object]:
    """Return the columns of a result in their stored form. ``analysis_type`` is not needed if the result has one."""
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"result is {shown(given)}; give a mapping with a result_content")
    unknown = [str(name) for name in given if name not in RESULT]
    if unknown:
        raise InvalidArgument(f"a result has no {', '.join(unknown)}; it may have {', '.join(RESULT)}")
    content = given.get("result_content")
    if not isinstance(content, str):
        raise InvalidArgument(f"result_content is {shown(content)}; give a text")
    kind, name, score, prompt = (given.get(each) for each in ("analysis_type", "file_name", "score", "configuration"))
    return {
        "configuration_id": None if prompt is None else uuid_of(prompt, "a prompt", Configuration),
        "analysis_type": None if kind is None else check_text(kind, "analysis_type", 50),
        "file_name": None if name is None else check_text(name, "file_name", 255),
        "result_content": encodable(content, "result_content"),
        "score": None if score is None else float(check_score(score)),
    }
