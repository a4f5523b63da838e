"""Analysis sessions: their life, files, tasks and results, with workers that are late, cancelled or killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stressing import Program

from scanstore.accounts.models import User
from scanstore.db.state_machine import SESSION_STATUSES
from scanstore.db.values import utcnow
from scanstore.errors import Conflict, IllegalMove, InvalidArgument, LeaseLost, NotFound, WrongStore
from scanstore.sessions.sessions import Added, AnalysisResult, AnalysisSession, AnalysisTask, FileUpload, Sessions
from scanstore.store import Store

NOBODY = str(uuid.UUID(int=7))
HASH = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"two").hexdigest()


@pytest.fixture
def user(store: Store) -> Iterator[User]:
    yield store.accounts.add("ada@example.org")
    assert store.check() == []


@pytest.fixture
def session(store: Store, user: User) -> AnalysisSession:
    return store.sessions.add(user, "first")


def a_file(path: str = "docs/a.pdf", sha256: str | None = HASH, size: int = 3) -> dict[str, Any]:
    return {"file_path": path, "file_size": size, "sha256": sha256}


def rows(store: Store) -> dict[str, list[Any]]:
    """All that there is of sessions."""
    tables = ("analysis_sessions", "file_uploads", "analysis_tasks", "analysis_results", "configurations")
    return {name: store.database.execute_sql(f"SELECT * FROM {name} ORDER BY id").fetchall() for name in tables}


def refused(store: Store, error: type[Exception], words: str, call: Callable[[], Any]) -> None:
    """A call raises this error, with these words, and changes nothing."""
    before = rows(store)
    with pytest.raises(error, match=words):
        call()
    assert rows(store) == before


def over_lease(store: Store, task: AnalysisTask) -> None:
    store.database.execute_sql(
        "UPDATE analysis_tasks SET lease_until = '2020-01-01T00:00:00.000Z' WHERE id = ?", (task.id,)
    )


# Sessions -------------------------------------------------------------------------------------------------------------


def test_create_get_list_find_remove(store: Store, user: User) -> None:
    bob = store.accounts.add("bob@example.org")
    one, two = store.sessions.add(user.id, " one "), store.sessions.add(uuid.UUID(bob.id), "two")
    assert (one.session_name, one.status, one.total_files, one.processed_files, one.completed_at, one.over) == (
        "one", "created", 0, 0, None, False,
    )  # fmt: skip
    assert store.sessions.get(uuid.UUID(one.id)) == one == store.sessions.get(one) == store.sessions.find(one.id)
    assert [each.id for each in store.sessions.list()] == [two.id, one.id]
    assert store.sessions.list(user=bob) == [two] == store.sessions.list(limit=1)
    store.sessions.start(one)
    assert store.sessions.list(status="PROCESSING") == [one] == store.sessions.list(user=user, status="processing")
    assert store.sessions.remove(two) == {"analysis_sessions": 1}
    assert store.sessions.find(two) is None
    refused(store, NotFound, "no session", lambda: store.sessions.get(two.id))
    refused(store, NotFound, "no session", lambda: store.sessions.remove(two.id))
    json.dumps(one.to_dict())


def test_bad_sessions(store: Store, user: User) -> None:
    create = store.sessions.add
    for name in ("", "  ", "x" * 256, None, 5, "a\0b", "\ud800"):
        refused(store, InvalidArgument, "name", lambda name=name: create(user, name))  # type: ignore[misc]
    refused(store, NotFound, "no user", lambda: create(NOBODY, "x"))
    refused(store, InvalidArgument, "not a user", lambda: create("ada", "x"))
    store.accounts.deactivate(user)
    refused(store, IllegalMove, "not active", lambda: create(user, "x"))
    for value in ("nonsense", 5, None, b""):
        refused(store, InvalidArgument, "not a session", lambda value=value: store.sessions.get(value))  # type: ignore
    refused(store, InvalidArgument, "status is", lambda: store.sessions.list(status="done"))
    refused(store, InvalidArgument, "limit is", lambda: store.sessions.list(limit=-1))
    refused(store, NotFound, "no user", lambda: store.sessions.list(user=NOBODY))


def test_the_sessions_of_a_user_who_left_stay_and_hold_the_account(store: Store, session: AnalysisSession) -> None:
    store.accounts.deactivate(session.user_id)
    assert store.sessions.list(user=session.user_id) == [session]
    refused(store, IllegalMove, "deactivate", lambda: store.accounts.remove(session.user_id))
    store.sessions.remove(session)
    refused(store, NotFound, "no session", lambda: store.sessions.uploads.list(session))


LEGAL = {
    "start": {"created"}, "complete": {"processing"}, "fail": {"processing"}, "cancel": {"created", "processing"},
    "reopen": {"failed", "cancelled"},
}  # fmt: skip
WAY = {
    "created": [], "processing": ["start"], "completed": ["start", "complete"], "failed": ["start", "fail"],
    "cancelled": ["cancel"],
}  # fmt: skip


@pytest.mark.parametrize("status", SESSION_STATUSES)
@pytest.mark.parametrize("verb", LEGAL)
def test_every_move(store: Store, session: AnalysisSession, status: str, verb: str) -> None:
    for step in WAY[status]:
        getattr(store.sessions, step)(session)
    assert store.sessions.get(session).status == status
    if status in LEGAL[verb]:
        moved = getattr(store.sessions, verb)(session)
        assert moved.status != status and (moved.completed_at is not None) == (moved.status == "completed")
        assert moved.updated_at >= session.updated_at
    else:
        words = rf"session {session.id} is {status} and cannot become \w+; \w+"
        refused(store, IllegalMove, words, lambda: getattr(store.sessions, verb)(session))
    assert store.sessions.get(session).over == (
        store.sessions.get(session).status in ("completed", "failed", "cancelled")
    )


def test_moves_of_nothing(store: Store, user: User) -> None:
    for verb in LEGAL:
        refused(store, NotFound, "no session", lambda verb=verb: getattr(store.sessions, verb)(NOBODY))  # type: ignore


def test_a_session_ends_with_its_tasks(store: Store, session: AnalysisSession) -> None:
    tasks = [store.sessions.tasks.add(session, "read") for _ in range(4)]
    first, second = store.sessions.tasks.claim(session, limit=2, worker="ann")
    refused(store, IllegalMove, "has 4 tasks that are not finished", lambda: store.sessions.complete(session))
    store.sessions.tasks.complete(first, result={"result_content": "fine"})
    assert store.sessions.cancel(session).status == "cancelled"
    assert [task.status for task in store.sessions.tasks.list(session)] == ["completed"] + ["cancelled"] * 3
    assert store.sessions.tasks.heartbeat(second).status == "cancelled"
    refused(store, LeaseLost, "is cancelled", lambda: store.sessions.tasks.complete(second))
    refused(store, IllegalMove, "cannot be changed; reopen it", lambda: store.sessions.tasks.add(session, "read"))
    refused(store, IllegalMove, "cannot be changed", lambda: store.sessions.uploads.add(session, [a_file()]))
    refused(store, IllegalMove, "cannot be changed", lambda: store.sessions.tasks.retry(tasks[3]))
    assert store.sessions.tasks.claim(session) == [] == store.sessions.tasks.claim()
    assert store.sessions.reopen(session).status == "created"
    assert [task.status for task in store.sessions.tasks.list(session)] == ["completed"] + ["pending"] * 3
    assert store.sessions.tasks.get(second).progress == 0 and store.sessions.tasks.get(second).completed_at is None
    for task in store.sessions.tasks.claim(session, limit=9):
        store.sessions.tasks.fail(task, "no", retry=False)
    assert store.sessions.complete(session).completed_at is not None  # tasks that failed do not hold it
    refused(store, IllegalMove, "add another session", lambda: store.sessions.reopen(session))


def test_removing_a_session_takes_all_of_it_and_nothing_else(store: Store, user: User) -> None:
    prompt = store.sessions.prompts.add(user, "general", "Look for bugs.")
    for name in ("one", "two"):
        session = store.sessions.add(user, name)
        store.sessions.uploads.add(session, [a_file("a"), a_file("b")])
        store.sessions.tasks.add(session, "read")
        [task] = store.sessions.tasks.claim(session)
        store.sessions.tasks.complete(task, result={"result_content": "x", "configuration": prompt})
        store.sessions.tasks.add(session, "write")
    before = rows(store)
    store.sessions.remove(store.sessions.list(limit=1)[0])
    after = rows(store)
    for table in ("analysis_sessions", "file_uploads", "analysis_tasks", "analysis_results"):
        assert len(after[table]) * 2 == len(before[table]) and set(after[table]) < set(before[table])
    assert after["configurations"] == before["configurations"]


def test_a_worker_is_told_that_its_session_is_gone(store: Store, session: AnalysisSession) -> None:
    store.sessions.tasks.add(session, "read")
    [task] = store.sessions.tasks.claim()
    store.sessions.remove(session)
    for call in (store.sessions.tasks.heartbeat, store.sessions.tasks.complete, store.sessions.tasks.release):
        refused(store, NotFound, "task", lambda call=call: call(task))  # type: ignore[misc]


def test_relationships_lead_both_ways(store: Store, session: AnalysisSession) -> None:
    prompt = store.sessions.prompts.add(session.user_id, "general", "Look for bugs.")
    store.sessions.uploads.add(session, [a_file()])
    task = store.sessions.tasks.add(session, "read")
    assert store.sessions.tasks.get(task).result is None
    result = store.sessions.tasks.complete(
        store.sessions.tasks.claim(session)[0], result={"result_content": "x", "configuration": prompt.id}
    ).result
    assert isinstance(result, AnalysisResult)
    row = store.sessions.get(session)
    assert list(row.user.sessions) == [row] and row.user.email == "ada@example.org"
    assert [each.session for each in row.files] == [row] and [each.session for each in row.tasks] == [row]
    assert list(row.results) == [result] and result.session == row
    assert result.configuration == prompt and list(prompt.results) == [result]
    assert result.task == task and list(result.task.results) == [result] == [result.task.result]
    assert result.analysis_session_id == row.id and result.analysis_task_id == task.id


def test_a_row_of_another_store_is_refused(store: Store, session: AnalysisSession, tmp_path: Path) -> None:
    with Store(tmp_path / "other.db") as other:
        for call in (other.sessions.get, other.sessions.start, other.sessions.uploads.list):
            with pytest.raises(WrongStore):
                call(session)


def test_stats(store: Store, user: User, session: AnalysisSession) -> None:
    assert store.sessions.stats() == ({"created": 1}, 0, 0, 0, {}, 0, None)
    store.sessions.uploads.add(session, [a_file("a", size=5), a_file("b", size=6)])
    upload = store.sessions.uploads.list(session)[0]
    store.sessions.uploads.mark(store.sessions.uploads.mark(upload, "processing"), "completed")
    store.sessions.tasks.add(session, "read")
    for score in ("10.01", "20.02", None):
        store.sessions.results.add(session, analysis_type="general", result_content="x", score=score)
    empty = store.sessions.add(store.accounts.add("bob@example.org"), "empty")
    mine = ({"created": 1}, 2, 1, 11, {"pending": 1}, 3, Decimal("15.02"))
    assert store.sessions.stats(user=user)[:-1] == mine[:-1]
    assert store.sessions.stats(user=user).mean_score in (Decimal("15.01"), Decimal("15.02"))
    assert store.sessions.stats().sessions == {"created": 2}
    assert store.sessions.stats(user=empty.user_id) == ({"created": 1}, 0, 0, 0, {}, 0, None)


# Files ----------------------------------------------------------------------------------------------------------------


def counters(store: Store, session: AnalysisSession) -> tuple[int, int]:
    row = store.sessions.get(session)
    return row.total_files, row.processed_files


def test_files_are_added_once(store: Store, session: AnalysisSession) -> None:
    add = store.sessions.uploads.add
    assert add(session, [a_file("docs/./a.pdf"), {"file_path": Path("b"), "file_size": 0}]) == Added(2, 0)
    assert add(session, [a_file(), a_file("docs//a.pdf"), a_file("c")]) == Added(1, 2)
    assert add(session, []) == Added(0, 0)
    assert add(session, [a_file(sha256=None)]) == Added(0, 1)  # of that size too
    first, second, _ = sorted(store.sessions.uploads.list(session), key=lambda row: len(row.file_path), reverse=True)
    assert (first.file_path, first.file_name, first.file_type, first.file_size, first.sha256, first.upload_status) == (
        "docs/a.pdf", "a.pdf", "application/pdf", 3, HASH, "uploaded",
    )  # fmt: skip
    assert {row.file_type for row in store.sessions.uploads.list(session)[:2]} == {"application/octet-stream"}
    json.dumps(second.to_dict())
    for other in (a_file(sha256=OTHER), a_file(sha256=None, size=4), a_file(sha256=HASH, size=4)):
        refused(store, Conflict, "another content", lambda other=other: add(session, [a_file("new"), other]))  # type: ignore[misc]
    refused(store, Conflict, "another content", lambda: add(session, [a_file("n"), a_file("n", sha256=OTHER)]))
    assert counters(store, session) == (3, 0)
    another = store.sessions.add(session.user_id, "another")
    assert add(another, [a_file(sha256=OTHER)]) == Added(1, 0)  # unique in its session only


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../a", "leads out"), ("a/../../b", "leads out"), ("a/..", "leads out"), ("..", "leads out"),
        (".", "leads out"),
        ("/etc/passwd", "must be relative"), ("//a", "must be relative"), ("C:/a", "must be relative"),
        ("c:a", "must be relative"), ("a\\b", "must be relative"), ("..\\a", "must be relative"),
        ("a\0b", "give a rel"),
        ("", "give a rel"), ("  ", "give a rel"), (None, "give a rel"), (b"a", "give a rel"), (5, "give a rel"),
        ("x" * 501, "501 characters"), ("\ud800", "Unicode"), ("a ", "blank"),
    ],
)  # fmt: skip
def test_paths_that_escape_or_are_none(store: Store, session: AnalysisSession, path: Any, words: str) -> None:
    files = [a_file("good"), a_file() | {"file_path": path}]
    refused(store, InvalidArgument, words, lambda: store.sessions.uploads.add(session, files))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file_size": -1}, "file_size"), ({"file_size": None}, "file_size"), ({"file_size": 1.5}, "file_size"),
        ({"file_size": True}, "file_size"), ({"file_size": 2**63}, "file_size"), ({"sha256": "xyz"}, "sha256"),
        ({"sha256": b"short"}, "sha256"), ({"sha256": 5}, "not a hash"), ({"file_type": ""}, "file_type"),
        ({"file_type": "x" * 101}, "file_type"), ({"file_name": ""}, "file_name"),
        ({"file_name": "x" * 256}, "file_name"),
        ({"md5": "x"}, "no md5"), ({"file_path": "x" * 256}, "file_name"),
    ],
)  # fmt: skip
def test_files_that_are_none(store: Store, session: AnalysisSession, change: dict[str, Any], words: str) -> None:
    refused(
        store, InvalidArgument, words,
        lambda: store.sessions.uploads.add(session, [a_file("good"), a_file() | change]),
    )  # fmt: skip


def test_what_holds_no_files(store: Store, session: AnalysisSession) -> None:
    refused(store, InvalidArgument, "is no file", lambda: store.sessions.uploads.add(session, ["a"]))  # type: ignore
    refused(store, NotFound, "no session", lambda: store.sessions.uploads.add(NOBODY, [a_file()]))


def test_files_of_a_folder(store: Store, session: AnalysisSession, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "a.pdf").write_bytes(b"one")
    (root / "b.txt").write_bytes(b"two")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "inner").symlink_to(root / "b.txt")
    os.mkfifo(root / "pipe")
    add = store.sessions.uploads.add_files
    assert add(session, root, paths=["docs/a.pdf"]) == Added(1, 0)
    assert add(session, str(root)) == Added(1, 1)  # links and pipes are left out
    assert [(row.file_path, row.file_size, row.sha256) for row in store.sessions.uploads.list(session)] == [
        ("b.txt", 3, OTHER), ("docs/a.pdf", 3, HASH),
    ]  # fmt: skip
    assert add(session, root, paths=[Path("inner")]) == Added(1, 0)
    (root / "b.txt").write_bytes(b"three")
    refused(store, Conflict, "'b.txt' already, with another content", lambda: add(session, root))
    refused(store, InvalidArgument, "leads out of its folder", lambda: add(session, root, paths=["../secret"]))
    refused(store, InvalidArgument, "link that leads out", lambda: add(session, root, paths=["link"]))
    refused(store, InvalidArgument, "no regular file", lambda: add(session, root, paths=["docs"]))
    refused(store, InvalidArgument, "no regular file", lambda: add(session, root, paths=["pipe"]))
    refused(store, NotFound, "'none' in .* No such file", lambda: add(session, root, paths=["none"]))
    refused(store, NotFound, "no folder", lambda: add(session, root / "none"))
    refused(store, InvalidArgument, "give a list", lambda: add(session, root, paths="b.txt"))
    refused(store, NotFound, "no session", lambda: add(NOBODY, root))


def test_files_are_read_while_others_write(store: Store, session: AnalysisSession, tmp_path: Path) -> None:
    """Somebody else can write while a file is hashed."""
    (tmp_path / "a").write_bytes(b"x" * 5_000_000)
    seen = []
    measured = threading.Event()

    def write() -> None:
        with store.bound(), store.transaction():
            measured.set()
            store.sessions.add(session.user_id, "meanwhile")
            seen.append(store.database.in_sqlite_transaction())

    thread = threading.Thread(target=write)
    real = hashlib.sha256

    def sha256() -> Any:
        thread.start()
        thread.join(5)
        return real()

    from unittest import mock

    with mock.patch("scanstore.sessions.uploads.hashlib.sha256", sha256):
        store.sessions.uploads.add_files(session, tmp_path, paths=["a"])
    assert seen == [True]


def test_the_life_of_a_file(store: Store, session: AnalysisSession) -> None:
    store.sessions.uploads.add(session, [a_file(), a_file("b")])
    row = store.sessions.uploads.list(session, limit=1)[0]
    mark = store.sessions.uploads.mark
    refused(store, IllegalMove, "is uploaded and cannot become completed", lambda: mark(row, "completed"))
    assert mark(row, "PROCESSING").upload_status == "processing"
    assert counters(store, session) == (2, 0)
    failed = mark(row.id, "error", error=" no text in it ")
    assert (failed.upload_status, failed.error_message, counters(store, session)) == ("error", "no text in it", (2, 1))
    assert mark(row, "error", error="other").error_message == "no text in it"  # it is that already
    assert mark(row, "processing").error_message is None and counters(store, session) == (2, 0)
    assert mark(row, "completed") == mark(row, "completed") and counters(store, session) == (2, 1)
    refused(store, IllegalMove, "is completed and cannot become processing", lambda: mark(row, "processing"))
    refused(store, IllegalMove, "is completed and cannot become error", lambda: mark(row, "error"))
    refused(store, InvalidArgument, "status is 'done'", lambda: mark(row, "done"))
    refused(store, InvalidArgument, "status is 'uploaded'", lambda: mark(row, "uploaded"))
    refused(store, InvalidArgument, "has no error", lambda: mark(row, "processing", error="x"))
    refused(store, NotFound, "no upload", lambda: mark(NOBODY, "processing"))
    assert store.sessions.uploads.list(session, status="completed") == [store.sessions.uploads.get(row)]
    refused(store, InvalidArgument, "status is", lambda: store.sessions.uploads.list(session, status="done"))
    store.sessions.uploads.remove(row)
    refused(store, NotFound, "no upload", lambda: store.sessions.uploads.remove(row))
    refused(store, NotFound, "no upload", lambda: store.sessions.uploads.get(row))
    assert counters(store, session) == (1, 0)


def test_nobody_writes_the_counters(store: Store, session: AnalysisSession) -> None:
    store.sessions.uploads.add(session, [a_file("a"), a_file("b")])
    session.total_files = 9
    refused(store, InvalidArgument, "total_files of AnalysisSession .* counted from the files", lambda: session.save())
    refused(store, InvalidArgument, "processed_files", lambda: AnalysisSession.update(processed_files=1).execute())
    refused(
        store, InvalidArgument, "processed_files",
        lambda: AnalysisSession.update({AnalysisSession.processed_files: 1}).execute(),
    )  # fmt: skip
    other = AnalysisSession.create(user=session.user_id, session_name="x", total_files=5, processed_files=2)
    assert counters(store, other) == (0, 0)
    fresh = store.sessions.get(session)
    fresh.session_name = "renamed"
    fresh.save()
    assert store.sessions.get(session).session_name == "renamed"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT OR REPLACE {insert} ('x', :one, 'n', 'a', 1, 't', 'error')",
        "INSERT OR REPLACE {insert} (:a, :two, 'n', 'z', 1, 't', 'error')",
        "INSERT OR IGNORE {insert} ('x', :one, 'n', 'a', 1, 't', 'error')",
        "UPDATE OR REPLACE file_uploads SET file_path = 'b' WHERE id = :a",
        "UPDATE OR REPLACE file_uploads SET analysis_session_id = :two WHERE id = :a",
        "UPDATE OR REPLACE file_uploads SET id = :b WHERE id = :a",
    ],
)
def test_no_file_takes_the_place_of_another(store: Store, session: AnalysisSession, sql: str) -> None:
    two = store.sessions.add(session.user_id, "two")
    store.sessions.uploads.add(session, [a_file("a"), a_file("b")])
    store.sessions.uploads.add(two, [a_file("a", OTHER)])
    a, b = store.sessions.uploads.list(session)
    values = {"one": session.id, "two": two.id, "a": a.id, "b": b.id}
    text = sql.format(insert=INSERT.partition("(?")[0])
    refused(
        store, Conflict, "there already; remove it first",
        lambda: store.database.execute_sql(text, {name: values[name] for name in values if f":{name}" in text}),
    )  # fmt: skip


INSERT = (
    "INTO file_uploads (id, analysis_session_id, file_name, file_path, file_size, file_type, upload_status)"
    " VALUES (?, ?, 'n', ?, 1, 't', ?)"
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "insert", "replace", "ignore", "mark", "set", "move", "rename", "delete", "remove"]),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from(["uploaded", "processing", "completed", "error"]),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(steps=STEPS)
def test_counters_are_what_the_rows_say(steps: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is done to uploads, by the API, by models or in SQL, refused or not."""
    with _shared(tmp_path_factory) as store:
        user = store.accounts.add(f"{uuid.uuid4()}@example.org")
        keys = [store.sessions.add(user, str(n)).id for n in range(3)]
        run = store.database.execute_sql
        for what, n, s, status in steps:
            path = f"p{n}"
            found = run("SELECT id FROM file_uploads ORDER BY analysis_session_id, file_path").fetchall()
            own = found[n % len(found)][0] if found else NOBODY
            try:
                if what == "add":
                    store.sessions.uploads.add(keys[s], [a_file(path), a_file(f"p{n + 1}")])
                elif what == "insert":
                    FileUpload.create(
                        session=keys[s], file_name="n", file_path=path, file_size=1, file_type="t", upload_status=status
                    )  # fmt: skip
                elif what in ("replace", "ignore"):
                    run(f"INSERT OR {what} {INSERT}", (own if s else str(uuid.uuid4()), keys[s], path, status))
                elif what == "mark":
                    store.sessions.uploads.mark(own, status)
                elif what == "set":
                    run("UPDATE OR REPLACE file_uploads SET upload_status = ? WHERE id = ?", (status, own))
                elif what == "move":
                    run("UPDATE OR REPLACE file_uploads SET analysis_session_id = ? WHERE id = ?", (keys[s], own))
                elif what == "rename":
                    FileUpload.update(file_path=path).where(FileUpload.id == own).execute()
                elif what == "delete":
                    FileUpload.delete().where(FileUpload.id == own).execute()
                elif n == 0:
                    run("DELETE FROM analysis_sessions WHERE id = ?", (keys[s],))
            except (Conflict, IllegalMove, NotFound, InvalidArgument):
                pass
            wrong = run(
                "SELECT * FROM analysis_sessions AS s WHERE (total_files, processed_files) IS NOT (SELECT count(*),"
                " coalesce(sum(upload_status IN ('completed', 'error')), 0) FROM file_uploads AS f"
                " WHERE f.analysis_session_id = s.id)"
            ).fetchall()
            assert not wrong
        run("DELETE FROM analysis_sessions")


def _shared(factory: pytest.TempPathFactory) -> Store:
    """One store for all examples of a test: making one takes longer than an example."""
    path = factory.getbasetemp() / "counters.db"
    return Store(path, durability="normal")


# Tasks ----------------------------------------------------------------------------------------------------------------


def test_tasks_are_added_once(store: Store, session: AnalysisSession) -> None:
    plain = store.sessions.tasks.add(session, "read")
    assert (plain.task_id, plain.status, plain.progress, plain.priority) == (plain.id, "pending", 0, 0)
    named = store.sessions.tasks.add(session, "read", task_id="queue-7", priority=5)
    assert store.sessions.tasks.add(session, "read", task_id="queue-7") == named == store.sessions.tasks.find("queue-7")
    assert store.sessions.tasks.find("queue-8") is None and named.priority == 5
    add = store.sessions.tasks.add
    refused(store, Conflict, "'queue-7' belongs to a task", lambda: add(session, "write", task_id="queue-7"))
    another = store.sessions.add(session.user_id, "another")
    refused(store, Conflict, "'queue-7' belongs to a task", lambda: add(another, "read", task_id="queue-7"))
    for kind in ("", None, "x" * 51):
        refused(store, InvalidArgument, "task_type", lambda kind=kind: add(session, kind))  # type: ignore[misc]
    refused(store, InvalidArgument, "task_id", lambda: add(session, "read", task_id="x" * 256))
    refused(store, InvalidArgument, "max_retries", lambda: add(session, "read", max_retries=-1))
    refused(store, InvalidArgument, "priority", lambda: add(session, "read", priority="high"))  # type: ignore[arg-type]
    refused(store, NotFound, "no session", lambda: add(NOBODY, "read"))
    assert store.sessions.tasks.list(session, status="pending", type="read", limit=1) == [plain]
    json.dumps(named.to_dict())


def test_claims(store: Store, session: AnalysisSession) -> None:
    later = store.sessions.add(session.user_id, "later")
    for kind, priority in (("a", 0), ("b", 0), ("c", 1)):
        store.sessions.tasks.add(session, kind, priority=priority)
    store.sessions.tasks.add(later, "d")
    assert [task.task_type for task in store.sessions.tasks.claim(types=["a", "d"], limit=9)] == ["a", "d"]
    assert store.sessions.get(session).status == "processing" == store.sessions.get(later).status
    [task] = store.sessions.tasks.claim(session, worker="ann", lease=60)
    assert (task.task_type, task.status, task.worker, task.attempt) == ("c", "processing", "ann", 1)
    assert 50 < (task.lease_until - utcnow()).total_seconds() <= 60 and task.started_at is not None
    assert store.sessions.tasks.claim(session, types="nothing") == []
    assert [task.task_type for task in store.sessions.tasks.claim(limit=9)] == ["b"]
    assert store.sessions.tasks.claim() == []
    state = store.sessions.tasks.state(session)
    assert (state.ready, state.leased, state.finished, state.next_at) == (0, 3, False, task.lease_until)
    refused(store, NotFound, "no session", lambda: store.sessions.tasks.claim(NOBODY))
    refused(store, NotFound, "no session", lambda: store.sessions.tasks.state(NOBODY))
    for options in ({"limit": 0}, {"lease": 0}, {"worker": " "}, {"types": [5]}):
        refused(store, InvalidArgument, " is ", lambda options=options: store.sessions.tasks.claim(**options))  # type: ignore


def test_ticks(store: Store, session: AnalysisSession) -> None:
    store.sessions.tasks.add(session, "read")
    [task] = store.sessions.tasks.claim(lease=5)
    before = task.lease_until
    assert store.sessions.tasks.heartbeat(task, progress=40.9) and task.progress == 40
    assert store.sessions.tasks.heartbeat(task, progress=10, lease=60) and store.sessions.tasks.get(task).progress == 40
    assert store.sessions.tasks.get(task).lease_until > before
    for progress in (-1, 101, True, "50"):
        refused(
            store, InvalidArgument, "progress",
            lambda progress=progress: store.sessions.tasks.heartbeat(task, progress=progress),  # type: ignore[misc]
        )  # fmt: skip
    refused(store, LeaseLost, "leased to", lambda: store.sessions.tasks.heartbeat(task.id, worker="bob"))
    refused(store, NotFound, "no task", lambda: store.sessions.tasks.heartbeat(NOBODY))
    over_lease(store, task)
    [again] = store.sessions.tasks.claim()
    assert (again.id, again.progress, again.attempt) == (task.id, 0, 2)
    refused(store, LeaseLost, "later claim of yours", lambda: store.sessions.tasks.complete(task))


def test_failures_are_tried_again(store: Store, session: AnalysisSession) -> None:
    store.sessions.tasks.add(session, "read", max_retries=1)
    [task] = store.sessions.tasks.claim()
    refused(store, InvalidArgument, "error is", lambda: store.sessions.tasks.fail(task, 5))  # type: ignore[arg-type]
    assert store.sessions.tasks.fail(task, ValueError("no luck")).status == "pending" == task.status
    row = store.sessions.tasks.get(task)
    assert row.error_message == "ValueError: no luck" and row.next_retry_at > utcnow()
    state = store.sessions.tasks.state()
    assert (state.ready, state.delayed, state.next_at) == (0, 1, row.next_retry_at)
    assert store.sessions.tasks.claim() == []
    store.database.execute_sql("UPDATE analysis_tasks SET next_retry_at = '2020-01-01T00:00:00.000Z'")
    [task] = store.sessions.tasks.claim()
    assert store.sessions.tasks.fail(task, "again").status == "failed"
    assert store.sessions.tasks.get(task).completed_at is not None and store.sessions.tasks.state().failed == 1
    assert store.sessions.tasks.state().finished
    refused(store, IllegalMove, "is failed and cannot become cancelled", lambda: store.sessions.tasks.cancel(task))
    (again,) = store.sessions.tasks.retry(task)
    assert (again.status, again.retry_count, again.error_message, again.completed_at) == ("pending", 0, None, None)
    refused(store, IllegalMove, "waits to be claimed", lambda: store.sessions.tasks.retry(task))
    [task] = store.sessions.tasks.claim()
    store.sessions.tasks.release(task)
    assert store.sessions.tasks.get(task).retry_count == 0 and store.sessions.tasks.claim() == [task]
    cancelled = store.sessions.tasks.cancel(task)
    assert cancelled.status == store.sessions.tasks.heartbeat(task).status == "cancelled"
    assert store.sessions.tasks.state().skipped == 1
    refused(store, LeaseLost, "is cancelled", lambda: store.sessions.tasks.fail(task, "late"))
    refused(store, NotFound, "no task", lambda: store.sessions.tasks.cancel(NOBODY))
    refused(store, NotFound, "no task", lambda: store.sessions.tasks.retry(NOBODY))
    refused(store, InvalidArgument, "not a task", lambda: store.sessions.tasks.get("queue-7"))


# Results --------------------------------------------------------------------------------------------------------------

RESULT = {"result_content": "All is well.", "file_name": "a.pdf", "score": "87.50", "analysis_type": "general"}


def claimed(store: Store, session: AnalysisSession) -> AnalysisTask:
    store.sessions.tasks.add(session, "read")
    return store.sessions.tasks.claim(session, worker="ann")[0]


def test_a_task_and_its_result(store: Store, session: AnalysisSession) -> None:
    prompt = store.sessions.prompts.add(session.user_id, "general", "Look for bugs.")
    store.sessions.prompts.add(session.user_id, "general", "Look for all bugs.", default=True)
    task = claimed(store, session)
    told = RESULT | {"configuration": prompt}
    result = store.sessions.tasks.complete(task, result=told).result
    assert result is not None and result.score == Decimal("87.50") and str(result.score) == "87.50"
    assert (result.status, result.analysis_type, result.file_name) == ("completed", "general", "a.pdf")
    assert result.configuration.version == 1 and result.configuration.prompt_content == "Look for bugs."
    done = store.sessions.tasks.get(task)
    assert (done.status, done.progress, done.lease_until, task.status) == ("completed", 100, None, "completed")
    before = rows(store)
    assert store.sessions.tasks.complete(task, result=told).result == result  # once more
    assert store.sessions.tasks.complete(task.id, result=told | {"score": 87.5}, worker="ann").result == result
    assert rows(store) == before
    for other in (RESULT | {"score": 87}, told | {"result_content": "No."}, None):
        refused(
            store, IllegalMove, "completed with another result",
            lambda other=other: store.sessions.tasks.complete(task, result=other),  # type: ignore[misc]
        )  # fmt: skip
    refused(store, LeaseLost, "is completed", lambda: store.sessions.tasks.complete(task, result=told, worker="bob"))
    assert json.loads(json.dumps(result.to_dict()))["score"] == 87.5
    assert store.sessions.results.list(session, type="general", limit=5) == [result]
    plain = claimed(store, session)
    assert store.sessions.tasks.complete(plain).result is None is store.sessions.tasks.complete(plain).result
    bare = claimed(store, session)
    assert store.sessions.tasks.complete(bare, result={"result_content": ""}).result.analysis_type == "read"  # type: ignore


@pytest.mark.parametrize("score", [101, -1, "1.234", 1.234, float("nan"), "x", True, "Infinity", [1], 100.01, b"1"])
def test_scores_that_are_none(store: Store, session: AnalysisSession, score: Any) -> None:
    task = claimed(store, session)
    complete = store.sessions.tasks.complete
    refused(store, InvalidArgument, "score is", lambda: complete(task, result=RESULT | {"score": score}))
    refused(
        store, InvalidArgument, "score is",
        lambda: AnalysisResult.create(session=session, analysis_type="x", result_content="x", score=score),
    )  # fmt: skip


@pytest.mark.no_cover
def test_every_score_reads_back_as_it_was(store: Store, session: AnalysisSession) -> None:
    scores = [Decimal(n) / 100 for n in range(10_001)]
    with store.transaction():
        AnalysisResult.insert_many(
            {"session": session, "analysis_type": "x", "result_content": str(score), "score": score} for score in scores
        ).execute()
    found = store.sessions.results.list(session)
    assert [str(row.score) for row in found] == [f"{Decimal(row.result_content):.2f}" for row in found]
    assert AnalysisResult.select().where(AnalysisResult.score >= Decimal("99.99")).count() == 2
    assert {str(AnalysisResult(score=value).score) for value in (0, "0.00", -0.0)} == {"0", "0.00", "-0.0"}
    zero = store.sessions.results.add(session, analysis_type="x", result_content="zero", score="-0")
    assert str(zero.score) == "0.00"
    with pytest.raises(Conflict):  # nor does the database take more decimals
        store.database.execute_sql("UPDATE analysis_results SET score = 1.234 WHERE id = ?", (zero.id,))


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        ("text", InvalidArgument, "result is"),
        ({}, InvalidArgument, "result_content"),
        ({"result_content": None}, InvalidArgument, "result_content"),
        ({"result_content": "\ud800"}, InvalidArgument, "Unicode"),
        (RESULT | {"verdict": 1}, InvalidArgument, "no verdict"),
        (RESULT | {"analysis_type": "x" * 51}, InvalidArgument, "analysis_type"),
        (RESULT | {"file_name": "x" * 256}, InvalidArgument, "file_name"),
        (RESULT | {"configuration": "general"}, InvalidArgument, "not a prompt"),
        (RESULT | {"configuration": NOBODY}, NotFound, "no prompt"),
    ],
)
def test_results_that_are_none(
    store: Store, session: AnalysisSession, result: Any, error: type[Exception], words: str
) -> None:
    task = claimed(store, session)
    refused(store, error, words, lambda: store.sessions.tasks.complete(task, result=result))
    assert store.sessions.tasks.complete(task, result=RESULT) is not None  # it was not lost


def test_a_result_that_cannot_be_written_leaves_its_task(store: Store, session: AnalysisSession) -> None:
    task = claimed(store, session)
    run = store.database.execute_sql
    run("CREATE TRIGGER broken BEFORE INSERT ON analysis_results BEGIN SELECT RAISE(ABORT, 'broken'); END")
    refused(store, Conflict, "broken", lambda: store.sessions.tasks.complete(task, result=RESULT))
    assert task.status == "processing"
    run("DROP TRIGGER broken")
    assert store.sessions.tasks.complete(task, result=RESULT) is not None


def test_results_without_a_task(store: Store, session: AnalysisSession) -> None:
    add = store.sessions.results.add
    row = add(session, status="PENDING", **RESULT)
    assert (row.status, row.task, row.configuration) == ("pending", None, None)
    refused(store, InvalidArgument, "analysis_type", lambda: add(session, result_content="x"))
    refused(store, InvalidArgument, "status is", lambda: add(session, status="done", **RESULT))
    refused(store, NotFound, "no session", lambda: add(NOBODY, **RESULT))
    refused(store, NotFound, "no session", lambda: store.sessions.results.list(NOBODY))
    store.sessions.cancel(session)
    refused(store, IllegalMove, "cannot be changed", lambda: add(session, **RESULT))


def lists(store: Store, session: AnalysisSession) -> list[Callable[..., list[Any]]]:
    """The lists of a session, of three rows each, in the order of their ids."""
    sessions = store.sessions
    sessions.uploads.add(session, [a_file(name) for name in "abc"])
    for name in "abc":
        sessions.tasks.add(session, "read", task_id=name)
        sessions.results.add(session, analysis_type="general", result_content=name)
    return [partial(domain.list, session) for domain in (sessions.uploads, sessions.tasks, sessions.results)]


def test_lists_have_a_window_and_an_order(store: Store, session: AnalysisSession) -> None:
    second, third = (store.sessions.add(session.user_id, name) for name in ("second", "third"))
    for listed in (*lists(store, session), lambda **options: store.sessions.list(**{"sort": "id"} | options)):
        whole = listed()
        assert len(whole) == 3
        assert (listed(limit=2), listed(offset=2), listed(limit=1, offset=1)) == (whole[:2], whole[2:], [whole[1]])
        assert (listed(limit=0), listed(sort="-id"), listed(sort="id")) == ([], whole[::-1], whole)
        for options in ({"limit": -1}, {"limit": True}, {"offset": 2**63}, {"sort": "x"}, {"status": "x"}):
            refused(
                store, InvalidArgument, f"{next(iter(options))} is|cannot be sorted by 'x'",
                lambda listed=listed, options=options: listed(**options),  # type: ignore[misc]
            )  # fmt: skip
    assert store.sessions.list() == [third, second, session]


def test_rows_of_a_session_are_read_by_key(store: Store, session: AnalysisSession) -> None:
    listed = lists(store, session)
    domains = {"upload": store.sessions.uploads, "task": store.sessions.tasks, "result": store.sessions.results}
    for (noun, domain), rows in zip(domains.items(), listed, strict=True):
        row = rows()[1]
        for each in (row, row.id, uuid.UUID(row.id)):
            assert domain.get(each) == row == domain.find(each)  # type: ignore[attr-defined]
        assert domain.find(NOBODY) is None  # type: ignore[attr-defined]
        refused(store, NotFound, f"no {noun} {NOBODY}; .*list", lambda domain=domain: domain.get(NOBODY))  # type: ignore
        for wrong in (5, True, None, b"x", session):
            for call in (domain.get, domain.find):  # type: ignore[attr-defined]
                refused(store, InvalidArgument, f"is not an? {noun}", lambda call=call, wrong=wrong: call(wrong))  # type: ignore
    upload = listed[0]()[0]
    assert store.sessions.uploads.remove(upload) == {"file_uploads": 1}
    refused(store, NotFound, "no upload", lambda: store.sessions.uploads.remove(upload))
    store.sessions.results.add(session, status="failed", analysis_type="x", result_content="")
    assert len(store.sessions.results.list(session, status="completed", type="general")) == 3
    assert store.sessions.remove(session) == {
        "analysis_sessions": 1, "file_uploads": 2, "analysis_tasks": 3, "analysis_results": 4,
    }  # fmt: skip


# Processes ------------------------------------------------------------------------------------------------------------


def process(db: Path, code: str) -> subprocess.Popen[str]:
    head = "import os, sys, time\nfrom scanstore import Store\nstore = Store(sys.argv[1], durability='normal')\n"
    return Program(head + textwrap.dedent(code), db, stdout=subprocess.PIPE)


def test_a_killed_worker_loses_nothing(store: Store, session: AnalysisSession, db_path: Path) -> None:
    store.sessions.tasks.add(session, "read")
    child = process(
        db_path,
        """
        [task] = store.sessions.tasks.claim()
        with store.transaction():
            store.sessions.tasks.complete(task, result={"result_content": "half"})
            print(task.id, flush=True)
            time.sleep(60)
        """,
    )
    assert child.stdout is not None and child.stdout.readline().strip()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert store.sessions.results.list(session) == []
    [task] = store.sessions.tasks.claim()  # its process has ended
    assert (task.attempt, task.retry_count, task.lost_count) == (2, 0, 1)
    store.sessions.tasks.complete(task, result=RESULT)
    assert len(store.sessions.results.list(session)) == 1


def test_opening_a_store_frees_what_dead_workers_had(store: Store, session: AnalysisSession, db_path: Path) -> None:
    store.sessions.tasks.add(session, "read")
    child = process(db_path, "store.sessions.tasks.claim(); os._exit(0)")
    child.wait()
    assert child.stdout is not None
    child.stdout.close()
    assert store.sessions.tasks.state().leased == 1
    with Store(db_path) as other:
        assert other.recovered == (1, 0) and other.sessions.tasks.state().ready == 1
    assert store.recover() == (0, 0) == store.sessions.tasks.recover()


def test_several_processes_do_each_task_once(store: Store, session: AnalysisSession, db_path: Path) -> None:
    for n in range(60):
        store.sessions.tasks.add(session, "read", task_id=f"t{n}")
    code = """
        while tasks := store.sessions.tasks.claim(limit=3):
            for task in tasks:
                store.sessions.tasks.heartbeat(task, progress=50)
                store.sessions.tasks.complete(task, result={"result_content": task.task_id})
    """
    for child in [process(db_path, code) for _ in range(3)]:
        assert child.wait(60) == 0
        assert child.stdout is not None
        child.stdout.close()
    assert sorted(row.result_content for row in store.sessions.results.list(session)) == sorted(
        f"t{n}" for n in range(60)
    )
    assert {row.attempt for row in store.sessions.tasks.list(session)} == {1}
    assert store.sessions.complete(session).status == "completed"


# Plans ----------------------------------------------------------------------------------------------------------------


def test_questions_run_on_indexes(store: Store, session: AnalysisSession, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []
    real = type(store.database).execute_sql

    def execute_sql(database: Any, sql: str, params: Any = None) -> Any:
        asked.append((sql, params))
        return real(database, sql, params)

    store.sessions.uploads.add(session, [a_file()])
    task = claimed(store, session)
    monkeypatch.setattr(type(store.database), "execute_sql", execute_sql)
    sessions: Sessions = store.sessions
    sessions.list(user=session.user_id), sessions.list(status="created"), sessions.get(session)
    (
        sessions.uploads.list(session),
        sessions.tasks.list(session),
        sessions.results.list(session),
        sessions.tasks.state(session),
    )
    sessions.uploads.add(session, [a_file(), a_file("b")])
    sessions.stats(user=session.user_id)
    sessions.tasks.claim(session), sessions.tasks.claim()
    sessions.tasks.complete(task, result=RESULT)
    monkeypatch.undo()
    found = []
    for sql, params in asked:
        if sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
            plan = real(store.database, "EXPLAIN QUERY PLAN " + sql, params).fetchall()
            found += [(step[3], sql) for step in plan if step[3].startswith("SCAN") and "json_each" not in sql]
    found = [(step, sql) for step, sql in found if "CONSTANT" not in step]
    assert not found and len(asked) > 20
    raw = sqlite3.connect(store.path)
    assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()
