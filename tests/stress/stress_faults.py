"""Faults: the disk is full, the file is read-only, gone, another one. (Of the clock: see stress_clock.)

Each is a clear error of its own, the old content stays, and it works again when the fault is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest
from stressing import Child, Tell, chance, done, rounds, sound

from scanstore import DiskFull, FileReplaced, NotAScanstore, NotFound, ReadOnly, ScanstoreError, StorageError, Store
from scanstore.db import connections
from scanstore.maintenance import backup, compaction

resource = needs.module("resource")

NOBODY = 65534
BLOCK = "x" * 20_000


@pytest.fixture
def path(db_path: Path, new_file: Path) -> Path:
    """A closed store with one setting in it."""
    shutil.copy(new_file, db_path)
    with Store(db_path) as store:
        store.settings["before"] = 1
    return db_path


def well(path: Path, **settings: object) -> None:
    """The store has what it had, says that it is well, and can be written."""
    sound(path)
    with Store(path, timeout=5) as store:
        assert store.settings["before"] == 1 and store.check() == []
        store.settings["after"] = 2
        for name, value in settings.items():
            assert store.settings[name] == value


def one_line(error: BaseException, path: Path) -> None:
    """It names the file, in one line, and says what to do."""
    text = str(error)
    assert path.name in text and "\n" not in text and re.search(r"[;:] ", text), text


def fill_up(store: Store, kind: type[ScanstoreError]) -> int:
    """Write until it is refused; return how many writes were acknowledged."""
    for n in range(4000):
        try:
            with store.transaction():
                store.settings[f"a{n}"] = BLOCK
                store.settings[f"b{n}"] = BLOCK
        except kind as error:
            one_line(error, Path(store.path))
            return n
    raise AssertionError("there was always room")


def whole(store: Store, count: int) -> None:
    names = set(store.settings) - {"before", "after"}
    assert names == {f"{letter}{n}" for n in range(count) for letter in "ab"}, "all of a transaction or nothing"
    assert store.settings["before"] == 1


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", os.fspath(folder)]
    if not needs.is_root() or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", os.fspath(folder)], check=False)


def test_a_full_disk(small: Path, path: Path) -> None:
    file = small / "scan.db"
    shutil.copy(path, file)
    ballast = small / "ballast"
    some = chance("disk")
    for _ in range(rounds(1, 40)):
        ballast.write_bytes(b"\0" * some.randrange(8_000_000, 16_000_000))
        with Store(file) as store:
            count = fill_up(store, StorageError)
            assert store.check() == [] or count  # reading goes on
            whole(store, count)
            with pytest.raises((DiskFull, StorageError)):
                store.settings["one more"] = BLOCK * 1000
            ballast.unlink()
            store.settings["after"] = 2  # room again
            whole(store, count)
            for name in [name for name in store.settings if name not in ("before",)]:
                store.settings.remove(name)
        well(file)
        with Store(file) as store:
            store.database.execute_sql("VACUUM").fetchall()


def test_no_room_for_a_new_store_or_a_copy_or_a_dump(small: Path, path: Path) -> None:
    (small / "ballast").write_bytes(b"\0" * (24 * 2**20 - 60_000))
    with pytest.raises(StorageError) as refused:
        Store(small / "new.db")
    one_line(refused.value, small / "new.db")
    left = {file.name for file in small.iterdir()} - {"ballast"}
    assert all((small / name).stat().st_size <= 60_000 for name in left)
    with Store(path) as store:
        for n in range(20):
            store.settings[f"x{n}"] = BLOCK
        for write in (lambda: store.dump(small / "dump.jsonl"), lambda: store.backup(small / "copy.db")):
            with pytest.raises((StorageError, OSError)):
                write()
        assert not (small / "dump.jsonl").exists() and not (small / "copy.db").exists()
        assert not [file for file in small.iterdir() if "part" in file.name], "nothing half-written is left"
    (small / "ballast").unlink()
    with Store(small / "new.db") as store:
        assert store.check() == []
    well(path)


def test_as_many_pages_as_are_allowed(path: Path) -> None:
    with Store(path) as store:
        (pages,) = store.database.execute_sql("PRAGMA page_count").fetchone()
        store.database.execute_sql(f"PRAGMA max_page_count={pages + 40}").fetchall()
        count = fill_up(store, DiskFull)
        assert count
        whole(store, count)
        store.database.execute_sql("PRAGMA max_page_count=1000000").fetchall()
        store.settings["after"] = 2
        whole(store, count)
    well(path)


def test_files_may_not_grow_further(path: Path) -> None:
    """A quota: the system refuses the write, and would kill whoever does not ignore its signal."""

    def work(tell: Tell) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Store(path) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
            count = fill_up(store, StorageError)
            whole(store, count)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            store.settings["after"] = 2
            whole(store, count)
            tell(count)

    (count,) = done(work)
    assert count
    well(path)
    with Store(path) as store:
        whole(store, count)


# What may not be written, or read -------------------------------------------------------------------------------------


def as_nobody(work: object, path: Path) -> list[object]:
    """Run as a user who has no rights of his own; as root, who may do everything, that takes a process."""
    if not needs.is_root():
        pytest.skip("needs root to become somebody else")
    for folder in path.parents:
        if folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)

    def other(tell: Tell) -> None:
        Store(":memory:").close()  # imports what it needs
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        work(tell)  # type: ignore[operator]

    return done(other)


@pytest.mark.parametrize("what", ["file", "folder", "nothing"])
def test_what_may_not_be_written(path: Path, tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    file = Path(shutil.copy(path, place / "scan.db"))
    os.chown(file, NOBODY, NOBODY)
    os.chown(place, NOBODY, NOBODY)
    file.chmod(0o444 if what == "file" else 0o000 if what == "nothing" else 0o644)
    place.chmod(0o555 if what == "folder" else 0o755)
    before = file.read_bytes()

    def refused(tell: Tell) -> None:
        try:
            Store(file)
        except StorageError as error:
            one_line(error, file)
            tell(type(error).__name__)
        if what != "nothing":
            with Store(file, read_only=True) as store:
                assert store.settings["before"] == 1 and store.check() == []
                with contextlib.suppress(ReadOnly):
                    store.settings["x"] = 1
                    raise AssertionError("written")

    assert as_nobody(refused, file) == ["StorageError" if what == "nothing" else "ReadOnly"]
    assert file.read_bytes() == before
    file.chmod(0o644)
    place.chmod(0o755)
    as_nobody(lambda tell: well(file), file)


def test_permission_that_is_lost_while_it_is_open(path: Path, tmp_path: Path) -> None:
    """Who has it open goes on; who comes is refused; afterwards all is as before."""
    place = tmp_path / "place"
    place.mkdir()
    file = Path(shutil.copy(path, place / "scan.db"))
    os.chown(place, NOBODY, NOBODY)
    os.chown(file, NOBODY, NOBODY)

    def work(tell: Tell) -> None:
        with Store(file) as store:
            store.settings["one"] = 1
            file.chmod(0o000)
            store.settings["two"] = 2
            try:
                Store(file)
            except StorageError as error:
                one_line(error, file)
                tell("refused")
            file.chmod(0o600)
            with Store(file) as other:
                assert other.settings["two"] == 2

    assert as_nobody(work, file) == ["refused"]
    as_nobody(lambda tell: well(file, one=1, two=2), file)


@pytest.mark.parametrize("call", ["vacuum", "optimize", "backup", "verify", "restore"])
def test_a_disk_that_fails_as_the_file_is_opened_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Some calls take a connection of their own."""
    copy, real, refused = Path(shutil.copy(path, tmp_path / "copy.db")), connections.connect, path

    def connect(file: str, *arguments: object, **more: object) -> object:
        if Path(file) == refused:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return real(file, *arguments, **more)  # type: ignore[arg-type]

    for module in (compaction, backup):
        monkeypatch.setattr(module, "connect", connect)
    with pytest.raises(StorageError) as raised:
        if call == "restore":
            backup.restore(copy, path)
        elif call == "verify":
            backup.verify(path)
        else:
            with Store(path) as store:
                {"vacuum": store.vacuum, "optimize": store.optimize, "backup": store.backup}[call]()
    one_line(raised.value, path)
    assert {file.name for file in tmp_path.iterdir()} <= {path.name, copy.name}
    well(path)


# A file that goes, or is another one ----------------------------------------------------------------------------------


def test_a_store_that_is_deleted_while_it_is_open(path: Path) -> None:
    """No write is acknowledged, and a new opening finds no store."""
    store = Store(path)
    kept = path.read_bytes()
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    with pytest.raises(FileReplaced) as refused:
        store.settings["more"] = 1
    one_line(refused.value, path)
    with pytest.raises(NotFound):
        Store(path, read_only=True)
    store.close()
    assert not path.exists()
    path.write_bytes(kept)
    well(path)


@pytest.mark.parametrize("by", ["a store", "a text"])
def test_a_store_that_is_replaced_while_it_is_open(path: Path, tmp_path: Path, by: str) -> None:
    other = tmp_path / "other.db"
    if by == "a store":
        with Store(other) as another:
            another.settings["other"] = True
    else:
        other.write_text("not a database, but long enough to look like something else\n" * 100)
    content = other.read_bytes()
    store = Store(path)
    store.settings["seen"] = 1
    os.replace(other, path)
    with pytest.raises(FileReplaced):
        store.settings["late"] = 1
    store.close()
    assert path.read_bytes() == content, "what was put there is not written into"
    if by == "a text":
        with pytest.raises(NotAScanstore) as refused:
            Store(path)
        one_line(refused.value, path)
    else:
        with Store(path) as again:
            assert again.settings.to_dict() == {"other": True} and again.check() == []


def test_a_log_that_is_removed_while_nobody_has_it_open(path: Path) -> None:
    """What had reached the file is there, whole; what was in the log alone is lost, as it must be."""

    def work(tell: Tell) -> None:
        store = Store(path)
        store.database.execute_sql("PRAGMA wal_autocheckpoint=0").fetchall()
        for n in range(50):
            with store.transaction():
                store.settings[f"a{n}"] = store.settings[f"b{n}"] = n
        os.kill(os.getpid(), signal.SIGKILL)

    assert Child(work).end(20) == []
    log = Path(f"{path}-wal")
    assert log.stat().st_size
    original, content = path.read_bytes(), log.read_bytes()
    some = chance("log")
    for cut in [len(content), *(some.randrange(len(content)) for _ in range(rounds(3, 200))), 0]:
        path.write_bytes(original)
        Path(f"{path}-shm").unlink(missing_ok=True)
        log.write_bytes(content[:cut]) if cut else log.unlink(missing_ok=True)
        with Store(path) as store:
            values = store.settings.to_dict()
            there = {int(name[1:]) for name in values if name != "before"}
            assert there == set(range(len(there))) and len(values) == 2 * len(there) + 1, "a prefix of it"
            assert store.check() == []
        well(path)
