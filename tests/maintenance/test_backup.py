"""Copies are the store at one moment, stand whole or not at all, and can be put back; rotation removes only copies."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import needs
import pytest
from click.testing import CliRunner
from stressing import Child, Tell

from scanstore import Store
from scanstore.cli import main
from scanstore.db.database import SCHEMA_VERSION
from scanstore.db.file_identity import renew
from scanstore.errors import (
    Busy,
    Damaged,
    DiskFull,
    InvalidArgument,
    MissingFolder,
    NewerSchema,
    NotAScanstore,
    NotFound,
)
from scanstore.maintenance import backup

ROOT = Path(__file__).parents[2]


@pytest.fixture
def full(store: Store) -> Store:
    for n in range(50):
        store.settings.set(f"key{n}", {"n": n})
    return store


def value(path: str | Path, key: str = "key1") -> Any:
    with Store(path) as store:
        assert store.check() == []
        return store.settings.get(key)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Making copies


def test_a_copy_has_all_that_is_committed_and_stands_alone(full: Store, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    made = full.backup(tmp_path / "b/copy.db")
    assert made.path == str(tmp_path / "b/copy.db")
    assert made.bytes == os.path.getsize(made.path)
    assert made.seconds > 0 and made.verifying > 0 and made.removed == []
    assert names(tmp_path / "b") == ["copy.db"]
    assert needs.is_private(made.path)
    assert value(made.path) == {"n": 1}
    assert full.backup(tmp_path / "b/other.db", verify=False).verifying < made.verifying


def test_what_is_not_committed_is_not_in_it(full: Store, tmp_path: Path) -> None:
    with full.transaction():
        full.settings.set("key1", "later")
        made = full.backup(tmp_path / "copy.db")
    assert value(made.path) == {"n": 1}


def test_progress_ends_at_all_pages(full: Store, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    full.backup(tmp_path / "copy.db", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == full.database.execute_sql("PRAGMA page_count").fetchone()[0]


def test_an_earlier_copy_is_replaced_and_nothing_else(full: Store, tmp_path: Path, new_file: Path) -> None:
    copy = tmp_path / "copy.db"
    full.backup(copy)
    full.settings.set("key1", "later")
    full.backup(copy)
    assert value(copy) == "later"
    (tmp_path / "notes.txt").write_text("mine " * 300)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    for path in ("notes.txt", "other.db"):
        before = (tmp_path / path).read_bytes()
        with pytest.raises(InvalidArgument, match="is not a copy of a store"):
            full.backup(tmp_path / path)
        assert (tmp_path / path).read_bytes() == before
    shutil.copy(new_file, tmp_path / "live.db")
    with Store(tmp_path / "live.db") as live:
        live.settings.set("a", 1)
        with pytest.raises(InvalidArgument, match="open, or was not closed"):
            full.backup(tmp_path / "live.db")
    with pytest.raises(InvalidArgument, match="is the store itself"):
        full.backup(full.path)


def test_wrong_places_are_refused(full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFolder):
        full.backup(tmp_path / "no/copy.db")
    with pytest.raises(MissingFolder):
        full.backup(folder=tmp_path / "no")
    with pytest.raises(InvalidArgument, match="is a folder"):
        full.backup(tmp_path)
    with pytest.raises(InvalidArgument, match="leave path out"):
        full.backup(tmp_path / "a.db", keep=3)
    for keep in (0, -1, True, "7"):
        with pytest.raises(InvalidArgument, match="keep is"):
            full.backup(keep=keep)  # type: ignore[arg-type]
    for path in ("", "a\0b"):
        with pytest.raises(InvalidArgument, match="is not a path"):
            full.backup(path)
    with Store(":memory:") as store, pytest.raises(InvalidArgument, match="goes with this process"):
        store.backup()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    before = names(tmp_path)
    with pytest.raises(DiskFull, match="1,000 are free"):
        full.backup(tmp_path / "copy.db")
    assert names(tmp_path) == before


def test_a_store_in_memory_can_be_kept(tmp_path: Path) -> None:
    with Store(":memory:") as store:
        store.settings.set("key1", 7)
        store.backup(tmp_path / "kept.db")
    assert value(tmp_path / "kept.db") == 7


def test_a_read_only_store_is_copied(full: Store, tmp_path: Path) -> None:
    path = full.path
    full.close()
    with Store(path, read_only=True) as store:
        store.backup(tmp_path / "copy.db")
    assert value(tmp_path / "copy.db") == {"n": 1}


def test_a_damaged_store_gives_no_copy(full: Store, tmp_path: Path) -> None:
    root = full.database.execute_sql("SELECT rootpage FROM sqlite_schema WHERE name = 'settings'").fetchone()[0]
    path = full.path
    full.close()
    with open(path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    (tmp_path / "b").mkdir()
    with Store(path) as store:
        with pytest.raises(Damaged, match="scanstore repair"):
            store.backup(folder=tmp_path / "b")
    assert names(tmp_path / "b") == []


def test_rotation_removes_the_oldest_copies_and_no_other_file(full: Store, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    others = [
        "scan.db.backup-6-20250101T000000000Z",  # of a migration
        "scan.db.backup-old", "scan.db", "other.db.backup-20250101T000000000Z", "scan.db.backup-20250101T000000000Zx",
    ]  # fmt: skip
    for name in others:
        (folder / name).write_text("not ours")
    made = [full.backup(folder=folder, keep=3) for _ in range(5)]
    assert backup.backups(full.path, folder) == [one.path for one in made[2:]]
    assert [one.removed for one in made] == [[], [], [], [made[0].path], [made[1].path]]
    assert set(others) <= set(names(folder)) and len(names(folder)) == len(others) + 3
    assert full.backup(folder=folder).removed == []
    # A clock that went back does not cost the newest copy.
    (folder / "scan.db.backup-29990101T000000000Z").write_text("from the future")
    last = full.backup(folder=folder, keep=1)
    assert backup.backups(full.path, folder) == [last.path]


# While others write


def _write(path: str, stop: Any, wrote: Any) -> None:
    with Store(path) as store:
        n = 0
        while not stop.is_set():
            with store.transaction():  # the two always agree
                store.settings.set("left", n)
                store.settings.set("right", n)
            n += 1
            wrote.value = n
    os._exit(0)


def test_copies_under_writers_are_of_one_moment(full: Store, tmp_path: Path) -> None:
    full.settings.set("filler", ["x" * 500] * 2000)
    full.settings.set("left", 0)
    full.settings.set("right", 0)
    context = multiprocessing.get_context("spawn")
    stop, wrote = context.Event(), context.Value("q", 0)
    writer = context.Process(target=_write, args=(full.path, stop, wrote))
    writer.start()
    try:
        deadline = time.monotonic() + 30
        while wrote.value < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        at_start = wrote.value
        for n in range(6):
            full.backup(tmp_path / f"copy{n}.db")
        assert wrote.value > at_start  # it was not locked out
    finally:
        stop.set()
        writer.join(30)
    assert writer.exitcode == 0
    lefts = []
    for n in range(6):
        with Store(tmp_path / f"copy{n}.db") as copy:
            assert copy.settings.get("left") == copy.settings.get("right")
            lefts.append(copy.settings.get("left"))
            assert copy.check() == []
    assert lefts == sorted(lefts) and lefts[-1] >= at_start - 1


def test_the_copy_is_of_one_moment_even_between_its_steps(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES", 10)
    steps = 0

    def meddle(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        full.settings.set("key1", steps)
        full.settings.set("key2", steps)

    full.backup(tmp_path / "copy.db", progress=meddle)
    assert steps <= -(-os.path.getsize(full.path) // 40960) + 1  # it never began again
    assert value(tmp_path / "copy.db") == {"n": 1}
    assert value(tmp_path / "copy.db", "key2") == {"n": 2}


def test_killed_copies_leave_nothing_under_the_name(full: Store, tmp_path: Path) -> None:
    """Real SIGKILLs at random moments; what was being written is removed by the next copy."""
    full.settings.set("filler", ["y" * 1000] * 4000)
    folder = tmp_path / "b"
    folder.mkdir()

    def copying(tell: Tell) -> None:
        with Store(full.path) as store:
            tell("go")
            while True:
                store.backup(folder / "copy.db")
                store.backup(folder=folder, keep=2)

    chosen = random.Random(7)
    left = 0
    for _ in range(8):
        process = Child(copying)
        assert process.first() == "go"
        time.sleep(chosen.uniform(0, 0.2))
        process.kill()
        left += sum(".partial-" in name for name in names(folder))
        for name in names(folder):
            if ".partial-" not in name:
                assert backup.verify(folder / name) == SCHEMA_VERSION
    assert left  # some were caught in the middle
    (folder / "scan.db.backup-0.partial-elsewhere%3A1%402").write_text("of another machine")
    full.backup(folder / "copy.db")
    full.backup(folder=folder, keep=1)
    assert [name for name in names(folder) if ".partial-" in name] == ["scan.db.backup-0.partial-elsewhere%3A1%402"]
    assert full.check() == []


# Putting back


@pytest.fixture
def copied(full: Store, tmp_path: Path) -> tuple[Path, Path]:
    """A closed store whose key1 is "later", and a copy of before."""
    full.backup(tmp_path / "copy.db")
    full.settings.set("key1", "later")
    full.close()
    return Path(full.path), tmp_path / "copy.db"


def test_restore_puts_back_and_keeps_what_was_there(copied: tuple[Path, Path]) -> None:
    path, copy = copied
    before = copy.read_bytes()
    done = Store.restore(copy, path)
    assert done.path == str(path) and done.bytes == os.path.getsize(path) and done.kept is not None
    assert copy.read_bytes() == before
    assert value(path) == {"n": 1}
    assert value(done.kept) == "later"
    assert needs.is_private(done.kept) and needs.is_private(path)


def test_restore_to_where_nothing_is(copied: tuple[Path, Path], tmp_path: Path) -> None:
    for end in ("-wal", "-shm"):
        (tmp_path / f"new.db{end}").write_bytes(b"of a file that is gone")
    assert Store.restore(copied[1], tmp_path / "new.db").kept is None
    assert value(tmp_path / "new.db") == {"n": 1}


def test_what_was_only_in_the_log_is_kept_too(full: Store, tmp_path: Path) -> None:
    """A store whose process was killed: its last commits are in the -wal, and belong to the old file only."""
    full.backup(tmp_path / "copy.db")
    code = (
        "import os, sys\nfrom scanstore import Store\n"
        "s = Store(sys.argv[1])\ns.settings.set('key1', 'later')\nos._exit(1)"
    )
    full.close()
    subprocess.run([sys.executable, "-c", code, full.path], cwd=ROOT, check=False)
    assert os.path.getsize(full.path + "-wal")
    done = Store.restore(tmp_path / "copy.db", full.path)
    assert value(full.path) == {"n": 1}
    assert done.kept is not None and value(done.kept) == "later"


HEADER, MIDDLE, SHORT = "header", "middle", "short"


@pytest.mark.parametrize("damage", [HEADER, MIDDLE, SHORT])
def test_a_damaged_store_is_replaced_and_kept(copied: tuple[Path, Path], damage: str) -> None:
    path, copy = copied
    with open(path, "r+b") as file:
        if damage == SHORT:
            file.truncate(4096 * 20)
        else:
            file.seek(0 if damage == HEADER else 4096 * 20)
            file.write(b"\xff" * 4096 * 5)
    (path.parent / f"{path.name}-shm").write_bytes(b"stale")
    damaged = path.read_bytes()
    done = Store.restore(copy, path)
    assert value(path) == {"n": 1}
    assert done.kept is not None
    assert Path(done.kept).read_bytes() == damaged


def _hold(path: str, ready: Any, stop: Any) -> None:
    with Store(path) as store:
        store.settings.get("key1")
        ready.set()
        stop.wait(60)
    os._exit(0)


def test_restore_is_refused_while_the_store_is_open(copied: tuple[Path, Path]) -> None:
    path, copy = copied
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(path), ready, stop))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(Busy, match="close it there"):
            Store.restore(copy, path, timeout=0.1)
        # Also when the file was damaged meanwhile.
        head = path.read_bytes()[:100]
        with open(path, "r+b") as file:
            file.write(b"\xff" * 100)
        with pytest.raises(Busy, match="close it there"):
            Store.restore(copy, path, timeout=0.1)
        with open(path, "r+b") as file:
            file.write(head)
    finally:
        stop.set()
        other.join(30)
    with Store(path) as store:
        with pytest.raises(Busy, match="close it there"):
            Store.restore(copy, path, timeout=0.1)
        assert store.settings.get("key1") == "later"
    assert value(path) == "later"
    assert not [name for name in names(path.parent) if "before-restore" in name or ".partial-" in name]


def test_only_a_sound_store_that_we_know_is_put_back(copied: tuple[Path, Path], tmp_path: Path) -> None:
    path, copy = copied
    before = path.read_bytes()
    with open(tmp_path / "bad.db", "wb") as file:
        file.write(copy.read_bytes()[: 4096 * 60])
    shutil.copy(copy, tmp_path / "newer.db")
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    newer.close()
    shutil.copy(copy, tmp_path / "partly.db")
    with sqlite3.connect(tmp_path / "partly.db") as partly:
        partly.execute("DELETE FROM migratehistory WHERE id = 2")
    partly.close()
    (tmp_path / "text.db").write_text("hello" * 1000)
    (tmp_path / "empty.db").touch()
    for name, error in (
        ("bad.db", Damaged), ("newer.db", NewerSchema), ("text.db", NotAScanstore), ("empty.db", NotAScanstore),
        ("none.db", NotFound), ("partly.db", Damaged),
    ):  # fmt: skip
        with pytest.raises(error):
            Store.restore(tmp_path / name, path)
    with pytest.raises(InvalidArgument, match="is the copy itself"):
        Store.restore(path, path)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(NotAScanstore, match="another program's"):
        Store.restore(copy, tmp_path / "other.db")
    assert path.read_bytes() == before
    assert value(path) == "later"


def test_an_older_schema_is_put_back_and_migrated_when_opened(copied: tuple[Path, Path]) -> None:
    path, copy = copied
    with Store(copy) as store:
        store.migrate_down(to=5)
    Store.restore(copy, path)
    assert value(path) == {"n": 1}


def test_killed_restores_leave_the_old_store_or_the_new_one(copied: tuple[Path, Path]) -> None:
    path, copy = copied
    with Store(copy) as store:
        store.settings.set("filler", ["z" * 1000] * 8000)
    shutil.copy(path, path.parent / "old.db")

    def restoring(tell: Tell) -> None:
        tell("go")
        Store.restore(copy, path)

    chosen, seen = random.Random(3), set()
    for _ in range(8):
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        shutil.copy(path.parent / "old.db", path)
        process = Child(restoring)
        assert process.first() == "go"
        time.sleep(chosen.uniform(0.0, 0.15))
        process.kill()
        found = value(path)
        assert found in ("later", {"n": 1})
        seen.add(str(found))
    assert seen


def test_a_restored_store_gets_its_id_without_a_log(
    copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = copied
    modes = []

    def renewing(connection: sqlite3.Connection) -> None:
        modes.append(connection.execute("PRAGMA journal_mode").fetchone()[0])
        renew(connection)
        modes.append(os.path.exists(f"{path}-wal"))

    monkeypatch.setattr(backup, "renew", renewing)
    Store.restore(copy, path)
    assert modes == ["delete", False]  # a process that is killed here leaves no log of another id
    assert value(path) == {"n": 1}


# The command line


def test_commands(copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = copied
    monkeypatch.setenv("SCANSTORE_DB", str(path))
    (tmp_path / "b").mkdir()

    def run(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, args)
        assert result.exit_code == code, result.output
        return result.output

    assert "verified in" in run("backup", "--folder", str(tmp_path / "b"), "--keep", "1")
    made = json.loads(run("backup", "--folder", str(tmp_path / "b"), "--keep", "1", "--json"))
    assert len(made["removed"]) == 1 and names(tmp_path / "b") == [os.path.basename(made["path"])]
    assert "removed " in run("backup", "--folder", str(tmp_path / "b"), "--keep", "1", "--no-verify")
    assert "before-restore" in run("restore", str(copy))
    assert value(path) == {"n": 1}
    assert json.loads(run("restore", str(copy), "--json"))["path"] == str(path)
    assert "does not exist" in run("restore", str(tmp_path / "no.db"), code=1)
