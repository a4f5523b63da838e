"""Failing disks: whatever the system refuses is an error of ours, and nothing half-written is left under a name.

The n-th call that touches a file fails, for every n until the work goes through, so that no call is left out.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from stressing import RAW, Child, Tell, done, fill, sound

from scanstore import (
    Busy,
    Damaged,
    DiskFull,
    InvalidArgument,
    MissingFolder,
    NotAScanstore,
    NotFound,
    ReadOnly,
    ScanstoreError,
    StorageError,
    Store,
    WrongKey,
    drop_db,
)
from scanstore.cli import main
from scanstore.db import migrations
from scanstore.db.files import refused
from scanstore.maintenance import backup

ROOT = Path(__file__).parents[2]
KEY, WRONG = RAW, RAW.replace("5a", "a5")
CODES = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENAMETOOLONG, errno.EISDIR)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "full.db"
    fill(path)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    return place


class Disk:
    """Makes the n-th call fail that has to do with a file in a folder, or with an open file."""

    NAMES = ("open", "fsync", "replace", "listdir", "truncate", "link")

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.code = errno.EIO
        self.left: int | None = None
        self.fired: str | None = None

    def _step(self, what: str, path: object) -> None:
        if self.left is None or isinstance(path, str | os.PathLike) and self.folder not in os.fspath(path):
            return
        self.left -= 1
        if self.left == 0:
            self.fired, self.left = what, None
            raise OSError(self.code, os.strerror(self.code), path if isinstance(path, str) else None)

    @contextmanager
    def failing(self, number: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
        self.left, self.fired, self.code = number, None, CODES[number % len(CODES)]
        with patch.context() as patched:
            for module, name in [*((os, name) for name in self.NAMES), (builtins, "open"), (shutil, "disk_usage")]:
                real = getattr(module, name)

                def call(path: Any, *args: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
                    self._step(_name, path)
                    return _real(path, *args, **options)

                patched.setattr(module, name, call)
            try:
                yield
            finally:
                self.left = None


def cli(*args: str) -> None:
    result = CliRunner().invoke(main, [*args])
    if result.exit_code:
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        *_, last = result.stderr.splitlines(keepends=True)  # before it, the line that names the scan
        assert last.startswith("Error: ") and result.stderr.count("\n") <= 2, result.stderr
        raise StorageError(last)


def opened(path: Path, work: Callable[[Store], object]) -> None:
    with Store(path) as store:
        work(store)


# What makes files: the name of each, what is under it when all went well, and the work.
DOORS: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "dump": ("out.jsonl", lambda path, place: opened(path, lambda store: store.dump(place / "out.jsonl"))),
    "sarif": ("out.sarif", lambda path, place: opened(path, lambda store: store.sarif.dump(1, place / "out.sarif"))),
    "report": (
        "out.html",
        lambda path, place: cli("report", "--db", str(path), "--scan", "1", "-o", str(place / "out.html")),
    ),
    "dump on the command line": ("out", lambda path, place: cli("dump", "--db", str(path), str(place / "out"))),
    "backup": ("copy.db", lambda path, place: opened(path, lambda store: store.backup(place / "copy.db"))),
    "repair": ("new.db", lambda path, place: Store.repair(path, place / "new.db")),
    "restore": ("back.db", lambda path, place: Store.restore(path, place / "back.db")),
}


@pytest.mark.parametrize("door", DOORS)
def test_any_call_may_fail(full: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str) -> None:
    name, work = DOORS[door]
    path = shutil.copy(full, tmp_path / "scan.db")
    disk, fired = Disk(place), []
    for number in range(1, 40):
        (place / name).unlink(missing_ok=True)
        failed = False
        with disk.failing(number, monkeypatch):
            try:
                work(path, place)
            except ScanstoreError as error:
                failed = True
                assert "\n" not in str(error).strip() and "place" in str(error), error
        assert [each for each in os.listdir(place) if each not in (name, f"{name}-wal", f"{name}-shm")] == []
        if disk.fired is None:
            assert not failed
            break
        fired.append(disk.fired)
        # Only when the folder could not be synced, the very last step, there is a whole file and an error.
        if failed and (place / name).exists():
            assert fired[-1] in ("open", "fsync")
        if not failed:
            assert (place / name).exists() and disk.fired in ("listdir", "open", "disk_usage", "truncate")
    assert "replace" in fired and "fsync" in fired
    assert (place / name).stat().st_size


CHANGING: dict[str, Callable[[Path], object]] = {
    "restore": lambda path: Store.restore(path.with_name("copy.db"), path),
    "migration": lambda path: migrations.up(path),
    "encryption": lambda path: opened(path, lambda store: store.rekey(KEY)),
    "rotation": lambda path: opened(path, lambda store: store.backup(keep=1)),
}


@pytest.mark.parametrize("what", CHANGING)
def test_what_changes_a_store_leaves_the_old_one_or_the_new_one(
    full: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "encryption":
        pytest.importorskip("sqlcipher3")
    start = Path(shutil.copy(full, tmp_path / "start.db"))
    if what == "migration":
        migrations.down(start, steps=1, backup=False)
    disk, path, fired = Disk(place), place / "scan.db", []
    for number in range(1, 60):
        for each in place.iterdir():
            each.unlink()
        shutil.copy(start, path)
        shutil.copy(full, place / "copy.db")
        with disk.failing(number, monkeypatch), suppress(ScanstoreError):
            CHANGING[what](path)
        left = [name for name in os.listdir(place) if ".partial-" in name]
        assert left == []
        key = KEY if what == "encryption" and path.read_bytes()[:6] != b"SQLite" else None
        with Store(path, key=key) as store:
            assert store.check() == []
        if disk.fired is None:
            break
        fired.append(disk.fired)
    assert fired.count("fsync") >= 1 and number < 59


@pytest.mark.parametrize(
    ("code", "reading", "writing"),
    [
        (errno.ENOSPC, DiskFull, DiskFull), (errno.EDQUOT, DiskFull, DiskFull), (errno.EACCES, StorageError, ReadOnly),
        (errno.EROFS, StorageError, ReadOnly), (errno.EIO, StorageError, StorageError),
        (errno.ENOENT, NotFound, MissingFolder), (errno.ENOTDIR, NotFound, MissingFolder),
        (errno.EMFILE, StorageError, StorageError), (errno.ENAMETOOLONG, StorageError, StorageError),
        (errno.EISDIR, StorageError, StorageError),
    ],
)  # fmt: skip
def test_what_the_system_says_is_said_with_the_name_and_what_to_do(
    code: int, reading: type[Exception], writing: type[Exception]
) -> None:
    for kind, verb in ((reading, "read"), (writing, "written")):
        error = refused(OSError(code, os.strerror(code)), "x\ny.db", verb)
        assert type(error) is kind
        name, _, remedy = str(error).partition(f" cannot be {verb}: {os.strerror(code)}; ")
        assert name == "x\\ny.db" and remedy


def test_a_full_disk_behind_a_stream(full: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(full, tmp_path / "scan.db"))
    with Store(path) as store, open("/dev/full", "wb", 0) as stream:
        for write in (store.dump, lambda file: store.sarif.dump(1, file)):
            with pytest.raises(DiskFull, match="cannot be written: No space left"):
                write(stream)
            with pytest.raises(DiskFull, match="/dev/full cannot be written"):
                write("/dev/full")
            with pytest.raises(InvalidArgument, match="closed"):
                write(_closed())
            with pytest.raises(InvalidArgument, match="binary mode"):
                write(io.StringIO())
            with pytest.raises(InvalidArgument, match="the store itself"):
                write(path)
        assert store.check() == []
    for command in (["report", "--scan", "1", "-o"], ["sarif", "dump", "--scan", "1", "-o"], ["dump"]):
        result = CliRunner().invoke(main, [*command, "/dev/full", "--db", str(path)])
        assert result.exit_code == 1 and "Error: /dev/full cannot be written: No space" in result.stderr, command
        result = CliRunner().invoke(main, [*command, str(path), "--db", str(path)])
        assert result.exit_code == 1 and "the store itself" in result.stderr
    sound(path)


def _closed() -> io.BytesIO:
    stream = io.BytesIO()
    stream.close()
    return stream


def test_a_reader_that_fails(store: Store) -> None:
    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        readline = read  # type: ignore[assignment]

    with pytest.raises(StorageError, match="the dump cannot be read"):
        store.load(Broken())
    with pytest.raises(NotFound, match="does not exist|cannot be read"):
        store.load("none")
    with pytest.raises(StorageError, match="give the path of a file"):
        store.load(os.path.dirname(store.path))


def test_a_current_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for work in (Store, drop_db, migrations.status, backup.verify, lambda path: Store.repair(path, path)):
        with pytest.raises(ScanstoreError, match="cannot be read"):
            work("scan.db", **({"confirm": True} if work is drop_db else {}))


# Killed while they write ----------------------------------------------------------------------------------------------

NAMES = {
    "plain": "out",
    "glob": "o*u?[t]",
    "blanks": " o u t ",
    "lines": "o\nu\tt",
    "bytes": os.fsdecode(b"o\xff\xfet"),
    "long": "o" * 255,
    "long in bytes": "\u00e9" * 127,
    "hidden": ".out",
    "like ours": "out.0123abcd.partial-x",
}
WRITERS: dict[str, str] = {
    "dump": "from scanstore import Store\nwith Store(path) as store: store.dump(target)",
    "sarif": "from scanstore import Store\nwith Store(path) as store: store.sarif.dump(1, target)",
    "report": "from scanstore.cli import main\nmain(['report', '--db', path, '--scan', '1', '-o', target])",
    "backup": "from scanstore import Store\nwith Store(path) as store: store.backup(target)",
    "repair": "from scanstore import Store\nStore.repair(path, target)",
    "restore": "from scanstore import Store\nStore.restore(path, target)",
}


def writing(code: str, path: Path, target: str, cwd: Path, *, pausing: bool = True) -> Callable[[Tell], None]:
    """What a process does that writes; it tells when it is about to sync, and stays there."""

    def work(tell: Tell) -> None:
        def fsync(_: int) -> None:
            tell("writing")
            time.sleep(600)

        if pausing:
            os.fsync = fsync
        os.chdir(cwd)
        try:
            exec(code, {"path": str(path), "target": target, "tell": tell})
        except SystemExit as end:
            assert not end.code, end

    return work


def writer(code: str, path: Path, target: str, cwd: Path, *, pausing: bool = True) -> Child:
    child = Child(writing(code, path, target, cwd, pausing=pausing))
    assert child.first() in ("writing", "open")
    return child


def written(code: str, path: Path, target: str, cwd: Path) -> None:
    done(writing(code, path, target, cwd, pausing=False))


def left(place: Path) -> list[str]:
    return [name for name in os.listdir(place) if ".partial-" in name and name != NAMES["like ours"]]


@pytest.mark.parametrize("what", WRITERS)
def test_the_next_run_removes_what_a_killed_one_has_left(full: Path, place: Path, tmp_path: Path, what: str) -> None:
    path = Path(shutil.copy(full, tmp_path / "scan.db"))
    process = writer(WRITERS[what], path, str(place / "out"), tmp_path)
    try:
        assert len(left(place)) == 1
        written(WRITERS[what], path, str(place / "other"), tmp_path)
        assert len(left(place)) == 1, "of a live process"
    finally:
        process.kill()
    assert left(place) and not (place / "out").exists()
    written(WRITERS[what], path, str(place / "out"), tmp_path)
    assert left(place) == [] and (place / "out").stat().st_size


@pytest.mark.parametrize("kind", NAMES)
def test_whatever_the_file_is_called(full: Path, place: Path, tmp_path: Path, kind: str) -> None:
    path, name = Path(shutil.copy(full, tmp_path / "scan.db")), NAMES[kind]
    for target, cwd in ((str(place / name), tmp_path), (name, place))[: 2 if kind in ("glob", "lines") else 1]:
        writer(WRITERS["report"], path, target, cwd).kill()
        assert left(place) and not os.path.lexists(place / name)
        written(WRITERS["report"], path, target, cwd)
        assert os.listdir(place) == [name] and (place / name).stat().st_size
        (place / name).unlink()


def test_a_link_is_followed(full: Path, place: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(full, tmp_path / "scan.db"))
    (tmp_path / "link").symlink_to("place/out")
    for code in (WRITERS["dump"], WRITERS["sarif"], WRITERS["report"]):
        (place / "out").write_text("old")
        writer(code, path, "link", tmp_path).kill()
        assert (place / "out").read_text() == "old" and len(left(place)) == 1
        written(code, path, "link", tmp_path)
        assert (tmp_path / "link").is_symlink() and os.listdir(place) == ["out"]
        assert (place / "out").read_text() != "old"


def test_who_may_read_it(full: Path, place: Path, tmp_path: Path) -> None:
    """Dumps and copies are the owner's; reports are as any file that the user makes."""
    path = Path(shutil.copy(full, tmp_path / "scan.db"))
    before = os.umask(0o027)
    try:
        for what, (name, work) in DOORS.items():
            work(path, place)
            mode = (place / name).stat().st_mode & 0o777
            assert mode == (0o640 if what in ("report", "sarif") else 0o600), what
    finally:
        os.umask(before)


def test_a_killed_migration_leaves_nothing_for_long(full: Path, place: Path) -> None:
    path = Path(shutil.copy(full, place / "scan.db"))
    migrations.down(path, steps=1, backup=False)
    writer("from scanstore import Store\nStore(path)", path, "", place).kill()
    assert len(left(place)) == 1 and not list(place.glob("*.backup-*Z"))
    Store(path).close()
    assert left(place) == [] and len(list(place.glob("*.backup-*Z"))) == 1


def test_a_killed_encryption_leaves_nothing_for_long(full: Path, place: Path) -> None:
    pytest.importorskip("sqlcipher3")
    path = Path(shutil.copy(full, place / "scan.db"))
    code = f"from scanstore import Store\nstore = Store(path)\nstore.rekey({KEY!r})"
    writer(code, path, "", place).kill()
    assert len(left(place)) == 1
    with Store(path) as store:
        assert store.check() == []
        store.rekey(KEY)
    assert left(place) == [] and path.read_bytes()[:6] != b"SQLite"


def killed_in_memory() -> str:
    """The file of a store in memory whose process was killed."""
    code = "from scanstore import Store\nstore = Store(':memory:')\nprint(store.database.file, flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    file = process.stdout.readline().decode().strip()
    Store(":memory:").close()
    assert os.path.exists(file)
    process.kill()
    process.communicate()
    return file


def test_a_killed_store_in_memory_leaves_nothing_for_long() -> None:
    # Another test that opens a store in memory at this moment removes the file before it is seen.
    file = next(file for _ in range(10) if os.path.exists(file := killed_in_memory()))
    Store(":memory:").close()
    assert not os.path.exists(os.path.dirname(file))


# At once --------------------------------------------------------------------------------------------------------------


def at_once(*works: Callable[[], object]) -> list[BaseException | None]:
    """What each of these raised, when they began together."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> BaseException | None:
        barrier.wait()
        try:
            work()
        except ScanstoreError as error:
            return error
        return None

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


@pytest.mark.parametrize("keep", [1, 2])
def test_backups_in_rotation_at_once(full: Path, place: Path, tmp_path: Path, keep: int) -> None:
    """Whoever made the newest copy finds it there, and nobody stumbles over what another has removed."""
    path = Path(shutil.copy(full, tmp_path / "scan.db"))

    def work(tell: Any) -> None:
        with Store(path) as store:
            for _ in range(6):
                tell(store.backup(folder=place, keep=keep).path)

    with ThreadPoolExecutor(3) as pool:
        told = [each for made in pool.map(done, [work] * 3) for each in made]
    found = backup.backups(str(path), place)
    assert found[-1] == max(told) and set(found) <= set(told)
    for each in found:
        sound(Path(each))
    with Store(path) as store:
        last = store.backup(folder=place, keep=keep)
    assert len(backup.backups(str(path), place)) == keep and os.path.exists(last.path)


def test_a_rotation_spares_what_is_newer_and_what_another_has_removed(
    full: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(full, tmp_path / "scan.db"))
    with Store(path) as store:
        first = store.backup(folder=place).path
        second = store.backup(folder=place).path
        third = store.backup(folder=place).path
        assert backup._rotate(str(path), second, 1) == [first]  # the third was made by somebody else meanwhile
        assert backup.backups(str(path), place) == [second, third]
        real = os.unlink

        def gone(file: str) -> None:
            real(file)
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", file)

        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", gone)
            assert backup._rotate(str(path), third, 1) == []
        assert backup.backups(str(path), place) == [third]
        store.backup(folder=place)

        def refuse(file: str) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", file)

        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", refuse)
            with pytest.raises(StorageError, match="was made, but .* cannot be removed: Permission denied"):
                store.backup(folder=place, keep=1)


def test_the_same_file_written_by_several_at_once(full: Path, place: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(full, tmp_path / "scan.db"))
    for what in ("dump", "sarif", "backup"):
        name, work = DOORS[what]
        work(path, place)
        whole = (place / name).stat().st_size
        assert at_once(*[lambda work=work: work(path, place)] * 3) == [None] * 3  # type: ignore[misc]
        assert os.listdir(place) == [name] and (place / name).stat().st_size == whole
        (place / name).unlink()


def test_restores_at_once(full: Path, place: Path, tmp_path: Path) -> None:
    path, copy = Path(shutil.copy(full, place / "scan.db")), Path(shutil.copy(full, tmp_path / "copy.db"))
    for _ in range(3):
        found = at_once(*[lambda: Store.restore(copy, path, timeout=0.2)] * 3)
        assert all(error is None or isinstance(error, Busy) for error in found) and None in found
        assert left(place) == []
        with Store(path) as store:
            assert store.check() == []


@pytest.mark.parametrize("other", ["vacuum", "encryption", "drop"])
def test_a_backup_beside_what_wants_the_store_alone(full: Path, place: Path, tmp_path: Path, other: str) -> None:
    if other == "encryption":
        pytest.importorskip("sqlcipher3")
    works: dict[str, Callable[[Path], object]] = {
        "vacuum": lambda path: opened(path, lambda store: store.vacuum()),
        "encryption": lambda path: opened(path, lambda store: store.rekey(KEY)),
        "drop": lambda path: drop_db(path, confirm=True),
    }

    def copying(path: Path) -> None:
        with Store(path, migrate=False) as store:
            store.backup(folder=place)

    for number in range(4):
        path = Path(shutil.copy(full, tmp_path / f"{number}.db"))
        for error in at_once(lambda path=path: works[other](path), lambda path=path: copying(path)):  # type: ignore[misc]
            assert error is None or isinstance(error, Busy | NotFound | WrongKey | NotAScanstore | StorageError), error
        for copy in place.iterdir():
            sound(copy)
        assert left(place) == left(tmp_path) == []
        if other == "vacuum":
            sound(path)


# Encrypted stores -----------------------------------------------------------------------------------------------------

HOLD = """
from scanstore import Store
store = Store(path, key=target)
store.settings["a"] = "y" * 9999
tell("open")
__import__("time").sleep(600)
"""


@pytest.mark.parametrize("state", ["closed", "open", "killed"])
def test_an_encrypted_store_is_only_dropped_or_repaired_with_its_key(
    full: Path, place: Path, tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sqlcipher3")
    pytest.importorskip("cryptography")
    path = Path(shutil.copy(full, place / "scan.db"))
    opened(path, lambda store: store.rekey(KEY))
    holder = None
    if state != "closed":
        holder = writer(HOLD, path, KEY, tmp_path, pausing=False)
        if state == "killed":
            holder.kill()
    try:
        before = {each: each.read_bytes() for each in place.iterdir() if not each.name.endswith("-shm")}
        for key, dropping, repairing in (
            (None, NotAScanstore, Damaged), (WRONG, WrongKey, WrongKey), ("", InvalidArgument, InvalidArgument),
            (5, InvalidArgument, InvalidArgument),
        ):  # fmt: skip
            with pytest.raises(dropping):
                drop_db(path, confirm=True, key=key)  # type: ignore[arg-type]
            with pytest.raises(repairing):
                Store.repair(path, tmp_path / "new.db", key=key)  # type: ignore[arg-type]
            assert before == {each: each.read_bytes() for each in place.iterdir() if not each.name.endswith("-shm")}
            assert not (tmp_path / "new.db").exists() and left(tmp_path) == []
        for given in ("", WRONG):
            monkeypatch.setenv("SCANSTORE_KEY", given)
            for command in (["drop", "--yes", "--db", str(path)], ["repair", str(path), str(tmp_path / "new.db")]):
                with pytest.raises(StorageError, match="key"):
                    cli(*command)
        assert before == {each: each.read_bytes() for each in place.iterdir() if not each.name.endswith("-shm")}
        monkeypatch.delenv("SCANSTORE_KEY")
        assert Store.repair(path, tmp_path / "new.db", key=KEY).whole
        if state == "open":
            with pytest.raises(Busy):
                drop_db(path, confirm=True, key=KEY)
        else:
            drop_db(path, confirm=True, key=KEY)
            assert list(place.iterdir()) == []
    finally:
        if holder is not None and state != "killed":
            holder.kill()
