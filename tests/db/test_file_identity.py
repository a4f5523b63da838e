"""Which file a store has open: a write that returned is in the file at the path, or the call raised."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from stressing import RAW, Child, Tell, copied

from scanstore import StorageError, Store
from scanstore.db import file_identity, migrations
from scanstore.errors import Damaged, FileReplaced, NotAScanstore
from scanstore.maintenance import backup
from scanstore.models import Job

KEYS = [None]
with contextlib.suppress(Exception):
    import scanstore.db.encryption  # noqa: F401

    KEYS.append(RAW)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str | None:
    return getattr(request, "param", None)


in_both = pytest.mark.parametrize("key", KEYS, indirect=True, ids=lambda key: "encrypted" if key else "plain")


@pytest.fixture
def path(tmp_path: Path, key: str | None) -> Path:
    with Store(tmp_path / "scan.db", key=key) as store:
        store.settings["before"] = 1
    return tmp_path / "scan.db"


@pytest.fixture
def copy(path: Path, key: str | None) -> Path:
    """A backup with something in it that the store itself has no more."""
    with Store(path, key=key) as store:
        store.settings["only in the backup"] = 1
        target = store.backup(path.with_name("copy.db")).path
        del store.settings["only in the backup"]
    return Path(target)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes these files: what is there is no checkpoint that goes on."""
    monkeypatch.setattr(file_identity, "UNSETTLED", 0.1)


def file_id(path: Path, key: str | None = None) -> str:
    with Store(path, key=key, read_only=True) as store:
        return str(store.database.execute_sql(file_identity.READ).fetchone()[0])


# What happens to the file ---------------------------------------------------------------------------------------------


def replace(path: Path, new: Path) -> None:
    os.replace(shutil.copy(new, path.with_name("moving")), path)


def overwrite(path: Path, new: Path) -> None:
    path.write_bytes(new.read_bytes())


def overwrite_with_text(path: Path, new: Path) -> None:
    path.write_text("not a database\n" * 9000)


def empty(path: Path, new: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path, new: Path) -> None:
    path.unlink()


def move(path: Path, new: Path) -> None:
    path.rename(path.with_name("moved.db"))


def remove_all(path: Path, new: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink()


CHANGES = [replace, overwrite, overwrite_with_text, empty, remove, move, remove_all]
OF_EACH_KIND = [
    pytest.param(change, key, id=f"{change.__name__}{'-encrypted' if key else ''}")
    for key in KEYS
    for change in (CHANGES if key is None else CHANGES[:2])
]


def state(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("change", "key"), OF_EACH_KIND, indirect=["key"])
def test_no_write_is_acknowledged_and_the_file_at_the_path_stays(
    path: Path, copy: Path, key: str | None, change: Callable[[Path, Path], None]
) -> None:
    store = Store(path, key=key)
    store.settings["old"] = 1
    change(path, copy)
    there = state(path)
    with pytest.raises(FileReplaced) as refused:
        store.settings["late"] = 1
    assert "the open file is inode" in str(refused.value) and "\n" not in str(refused.value)
    for again in (
        lambda: store.settings.update("late", lambda value: 2, default=0),
        lambda: store.jobs.enqueue("late"),
        store.optimize,
        store.vacuum,
        store.check,
        lambda: store.backup(path.with_name("another.db")),
    ):
        with pytest.raises(FileReplaced):
            again()
    store.close()
    assert state(path) == there
    assert not path.with_name("another.db").exists()
    if change in (replace, overwrite):
        assert path.with_name("scan.db-wal.orphaned").stat().st_size
        assert "scan.db-wal.orphaned" in str(refused.value)
        with Store(path, key=key) as new:
            assert new.settings.to_dict() == {"before": 1, "only in the backup": 1} and new.check() == []
    elif change is not remove_all:
        assert path.with_name("scan.db-wal.orphaned").stat().st_size


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_closing_lays_no_log_over_another_file(
    path: Path, copy: Path, key: str | None, change: Callable[[Path, Path], None]
) -> None:
    store = Store(path, key=key)
    store.settings["old"] = 1
    change(path, copy)
    there = state(path)
    with pytest.raises(FileReplaced):
        store.close()
    assert store.closed and state(path) == there
    store.close()
    if change in (replace, overwrite):
        with Store(path, key=key) as new:
            assert "only in the backup" in new.settings and "old" not in new.settings and new.check() == []


def test_a_store_that_is_never_closed_lays_no_log_over_another_file(path: Path, copy: Path) -> None:
    code = """
import sys
from scanstore import Store
store = Store(sys.argv[1])
store.settings["old"] = 1
open(sys.argv[1], "wb").write(open(sys.argv[2], "rb").read())
"""
    subprocess.run([sys.executable, "-c", code, path, copy], check=True, timeout=60)
    with Store(path) as new:
        assert "only in the backup" in new.settings and "old" not in new.settings and new.check() == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_transaction_is_refused_at_its_end(
    path: Path, copy: Path, key: str | None, change: Callable[[Path, Path], None]
) -> None:
    store = Store(path, key=key)
    with store.transaction():
        store.settings["first"] = 1
    with pytest.raises(FileReplaced):
        with store.transaction():
            store.settings["late"] = 1
            change(path, copy)
            there = state(path)
    store.close()
    assert state(path) == there


def test_single_statements_are_refused_too(path: Path, copy: Path) -> None:
    with Store(path) as store:
        replace(path, copy)
        with pytest.raises(FileReplaced):
            store.database.execute_sql("INSERT INTO settings (key, value) VALUES ('x', '1')")
        with pytest.raises(FileReplaced):
            Job.create(type="late")


def test_other_threads_are_refused_and_close_quietly(path: Path, copy: Path) -> None:
    store, ready, go, came = Store(path), threading.Event(), threading.Event(), list[object]()

    def work() -> None:
        store.settings["thread"] = 1
        ready.set()
        go.wait()
        try:
            store.settings["late"] = 1
        except StorageError as error:
            came.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    overwrite(path, copy)
    there = state(path)
    with pytest.raises(FileReplaced):
        store.settings["late"] = 1
    go.set()
    thread.join()
    store.close()
    assert came == [FileReplaced] and state(path) == there


def test_two_processes_lose_one_file_and_a_third_keeps_the_new_one(path: Path, copy: Path) -> None:
    def work(tell: Tell) -> None:
        store = Store(path)
        store.settings[f"old {os.getpid()}"] = 1
        tell("open")
        while not path.with_name("go").exists():
            pass
        try:
            store.settings["late"] = 1
            tell("acknowledged")
        except FileReplaced:
            tell("refused")
        store.close()

    children = [Child(work), Child(work)]
    assert [child.first() for child in children] == ["open", "open"]
    replace(path, copy)
    with pytest.raises(FileReplaced):
        Store(path)  # the old log is in its way
    with Store(path) as new:
        new.settings["new"] = 1
        path.with_name("go").touch()
        assert [child.end(20)[-1] for child in children] == ["refused", "refused"]
        new.settings["newer"] = 1
    with Store(path) as new:
        assert set(new.settings) == {"before", "only in the backup", "new", "newer"} and new.check() == []


# A log that is left --------------------------------------------------------------------------------------------------


def killed(path: Path, key: str | None, checkpoints: int = 0) -> None:
    """Leave a log that has commits."""

    def work(tell: Tell) -> None:
        store = Store(path, key=key)
        for n in range(checkpoints):
            store.settings["n"] = n
            store.database.execute_sql("PRAGMA wal_checkpoint").fetchall()
        store.settings["old"] = 1
        os.kill(os.getpid(), signal.SIGKILL)

    Child(work).end(20)
    assert Path(f"{path}-wal").stat().st_size


@pytest.mark.parametrize(("checkpoints", "key"), [(0, None), (2, None), *((1, key) for key in KEYS)], indirect=["key"])
@pytest.mark.parametrize("change", [replace, overwrite], ids=lambda change: change.__name__)
def test_a_log_that_is_left_is_not_laid_over_another_file(
    path: Path, copy: Path, key: str | None, change: Callable[[Path, Path], None], checkpoints: int
) -> None:
    killed(path, key, checkpoints)
    change(path, copy)
    there, log = state(path), Path(f"{path}-wal").read_bytes()
    with pytest.raises(FileReplaced, match="id .* the log of another file"):
        Store(path, key=key, read_only=True)
    with pytest.raises(FileReplaced) as refused:
        Store(path, key=key)
    assert state(path) == there
    if key is None:
        assert path.with_name("scan.db-wal.orphaned").read_bytes() == log and "orphaned" in str(refused.value)
    else:  # it may be damage as well
        assert "move" in str(refused.value)
        Path(f"{path}-wal").rename(f"{path}-wal.mine")
    with Store(path, key=key) as new:
        assert new.settings.to_dict() == {"before": 1, "only in the backup": 1} and new.check() == []


@in_both
def test_its_own_log_is_used(path: Path, key: str | None) -> None:
    for n in range(4 if key is None else 1):
        killed(path, key, n)
        with Store(path, key=key) as store:
            assert store.settings["old"] == 1 and store.check() == []
            del store.settings["old"]


def test_each_new_log_holds_the_id(path: Path) -> None:
    """Whichever statement comes first after a checkpoint, and whichever process made that."""
    own = file_id(path).encode()
    with Store(path) as one, Store(path) as two:
        log = Path(f"{path}-wal")
        for n in range(40):
            store = (one, two)[n // 3 % 2]
            if n % 2:
                store.settings["n"] = n
            else:
                store.database.execute_sql("UPDATE settings SET value = ? WHERE key = 'before'", (str(n),))
            head = log.read_bytes()
            assert file_identity._foreign_id(str(log), "scanstore:file:" + "0" * 32) == own.decode()
            assert head[16:24] == head[32 + 8 : 32 + 16]
            if n % 5 < 3:
                (two, one)[n % 2].database.execute_sql("PRAGMA wal_checkpoint").fetchall()


@pytest.mark.parametrize("missing", [False, True])
def test_an_empty_or_missing_file_with_a_log_is_damaged(path: Path, missing: bool) -> None:
    killed(path, None)
    path.unlink() if missing else os.truncate(path, 0)
    log = Path(f"{path}-wal").read_bytes()
    for opening in (
        lambda: Store(path),
        lambda: Store(path, read_only=True),
        lambda: migrations.down(path),
    ):
        with pytest.raises(Damaged, match="scanstore repair"):
            opening()
        assert path.exists() is not missing and not (path.exists() and path.stat().st_size)
        assert Path(f"{path}-wal").read_bytes() == log


# Ids -----------------------------------------------------------------------------------------------------------------


@in_both
def test_every_copy_has_an_id_of_its_own(path: Path, copy: Path, key: str | None) -> None:
    ids = [file_id(path, key), file_id(copy, key)]
    backup.restore(copy, path, key=key)
    ids.append(file_id(path, key))
    backup.restore(copy, path.with_name("new.db"), key=key)
    ids.append(file_id(path.with_name("new.db"), key))
    with Store(path, key=key) as store:
        done = store.migrate_down(7)
        assert done.backup is not None
        store.migrate_up()
        store.settings["after"] = 1
        ids.append(str(store.database.execute_sql(file_identity.READ).fetchone()[0]))
    ids.append(file_id(Path(done.backup), key))
    assert len(set(ids)) == len(ids)
    shutil.copy(path, path.with_name("plain"))
    assert file_id(path.with_name("plain"), key) == file_id(path, key)


def test_rows_come_through_the_migration_and_its_rollback(path: Path) -> None:
    with Store(path) as store:
        store.jobs.enqueue("kept")
    migrations.down(path, to=7)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'file_identity'").fetchall()
    connection.close()
    with Store(path) as store:
        assert [job.type for job in store.jobs.list()] == ["kept"] and store.check() == []
        assert store.settings["before"] == 1


def test_checkpoints_of_others_are_not_mistaken(path: Path) -> None:
    def work(tell: Tell) -> None:
        with Store(path, durability="normal") as store:
            store.database.execute_sql("PRAGMA wal_autocheckpoint=5").fetchall()
            for n in range(30):
                store.settings[f"{os.getpid()} {n}"] = "x" * 3000
                if n % 20 == 7:
                    store.vacuum()
        tell("done")

    children = [Child(work, limit=240) for _ in range(3)]  # each vacuum waits for the others
    assert [child.end(240) for child in children] == [["done"]] * 3
    with Store(path) as store:
        assert len(list(store.settings)) == 91 and store.check() == []


def test_a_store_without_an_id_is_reported_and_gets_one(path: Path) -> None:
    with Store(path) as store:
        store.database.execute_sql("DELETE FROM file_identity")
    with Store(path) as store:
        store.settings["works"] = 1
        (problem,) = store.check()
        assert "id of the file" in problem.what
        assert [each.fixed for each in store.check(fix=True)] == [True]
        assert store.check() == []


def test_a_copy_made_by_sqlite_alone_is_the_same_store(path: Path) -> None:
    assert file_id(copied(path, path.with_name("copied.db"))) == file_id(path)


def test_an_id_that_cannot_be_written_is_refused_in_our_words(tmp_path: Path) -> None:
    broken = tmp_path / "copy.db"
    broken.write_bytes(b"SQLite format 3\0" + bytes(4080))
    with pytest.raises(NotAScanstore, match="the copy"):
        file_identity.renew_file(str(broken), "the copy")
