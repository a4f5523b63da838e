"""Windows, which neither replaces nor deletes an open file: simulated here (see windows_files.py), real there."""

from __future__ import annotations

import ast
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import needs
import pytest
import windows_files
from click.testing import CliRunner
from stressing import RAW
from windows_files import Layer
from windows_files import windows as windows

import scanstore
from scanstore import Busy, ReadOnly, StorageError, Store, StoreClosed, drop_db
from scanstore.cli import main
from scanstore.db import files, migrations, open_files
from scanstore.maintenance import backup
from scanstore.maintenance.repair import repair

PACKAGE = Path(scanstore.__file__).parent
ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
simulated = pytest.mark.skipif(os.name == "nt", reason="lets another program hold a file, which is simulated")


def filled(path: Path, value: str = "there") -> Path:
    with Store(path) as store:
        store.settings["word"] = value
    return path


def word(path: Path, **options: str) -> object:
    with Store(path, **options) as store:  # type: ignore[arg-type]
        assert store.check() == []
        return store.settings["word"]


def partials(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if ".partial-" in name]


def test_the_layer_refuses(windows: Layer, tmp_path: Path) -> None:
    """The simulation itself: without it none of these tests could fail."""
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("a")
    other.write_text("b")
    with path.open("rb"):
        for attempt in (path.unlink, lambda: os.replace(other, path), lambda: os.rename(path, tmp_path / "c")):
            with pytest.raises(PermissionError):
                attempt()
        with pytest.raises(PermissionError):
            open_files.unlink(str(path))
    with pytest.raises(FileExistsError):
        os.rename(other, path)
    os.replace(other, path)
    shutil.rmtree(tmp_path)
    assert not tmp_path.exists()


# What replaces or deletes files


def test_backups_rotate_and_replace(windows: Layer, db_path: Path) -> None:
    with Store(filled(db_path)) as store:
        for _ in range(3):
            store.backup(keep=2, verify=True)
        named = [store.backup(db_path.with_name("copy.db"), verify=True) for _ in range(2)]
    assert len(backup.backups(str(db_path))) == 2
    assert (word(Path(named[1].path)), windows.refusals, partials(db_path.parent)) == ("there", [], [])


def test_restore_writes_and_replaces(windows: Layer, db_path: Path) -> None:
    """A store that can be opened is written to, one that cannot is replaced; what was there is kept."""
    with Store(filled(db_path)) as store:
        copy = Path(store.backup(db_path.with_name("copy.db")).path)
    filled(db_path, "later")
    done = backup.restore(copy, db_path)
    assert done.kept is not None and (word(db_path), word(Path(done.kept))) == ("there", "later")
    for content in (b"not a database" * 1000, b""):
        db_path.write_bytes(content)
        kept = backup.restore(copy, db_path).kept
        assert (word(db_path), kept is None) == ("there", not content)
        assert kept is None or Path(kept).read_bytes() == content
    assert windows.refusals == []


def test_restore_leaves_a_damaged_file_that_is_open(windows: Layer, db_path: Path) -> None:
    with Store(filled(db_path)) as store:
        copy = store.backup(db_path.with_name("copy.db")).path
    db_path.write_bytes(b"not a database" * 1000)
    before = sorted(os.listdir(db_path.parent))
    with db_path.open("rb"), pytest.raises(Busy, match="is open in this or another process"):
        backup.restore(copy, db_path)
    assert sorted(os.listdir(db_path.parent)) == before


def test_repair_and_drop(windows: Layer, db_path: Path) -> None:
    new = db_path.with_name("new.db")
    done = repair.repair(filled(db_path), new)
    assert done.whole and word(new) == "there"
    drop_db(db_path, confirm=True)  # type: ignore[arg-type]
    with Store(new), pytest.raises(Busy):
        drop_db(new, confirm=True)  # type: ignore[arg-type]
    assert drop_db(new, confirm=True) == os.path.realpath(new)  # type: ignore[arg-type]
    assert (os.listdir(db_path.parent), windows.refusals) == ([], [])


def test_migrations_publish_their_backup(windows: Layer, db_path: Path) -> None:
    filled(db_path)
    down = migrations.down(db_path)
    with Store(db_path) as store:
        assert store.settings["word"] == "there"
    assert down.backup is not None and len(list(db_path.parent.glob("*.backup-*"))) == 2
    assert (windows.refusals, partials(db_path.parent)) == ([], [])


def test_a_load_that_fails_leaves_no_store(windows: Layer, db_path: Path) -> None:
    dump = db_path.with_name("dump.jsonl")
    with Store(filled(db_path)) as store:
        store.dump(dump)
    new = db_path.with_name("new.db")
    done = CliRunner().invoke(main, ["load", str(dump), "--db", str(new)])
    assert done.exit_code == 0, done.output
    dump.write_bytes(dump.read_bytes() + b"{")
    third = db_path.with_name("third.db")
    done = CliRunner().invoke(main, ["load", str(dump), "--db", str(third)])
    assert done.exit_code == 1 and not third.exists()
    assert windows.refusals == []


def test_a_store_in_memory_leaves_no_folder(windows: Layer, tmp_path: Path) -> None:
    with Store(":memory:") as store:
        folder = Path(store.database.file).parent
        (folder / "kept").touch()
        list(store.settings.list())
    assert not folder.exists() and windows.refusals == []


def test_closing_lets_go_of_the_file(windows: Layer, db_path: Path) -> None:
    """Neither a cursor that was not read to its end nor the connection of another thread keeps it."""
    import threading

    filled(db_path)
    store = Store(db_path)
    rows = store.database.execute_sql("SELECT value FROM json_each('[1, 2, 3]')")
    rows.fetchone()
    threads = [threading.Thread(target=store.settings.list) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    os.unlink(db_path)
    with pytest.raises(StoreClosed):
        rows.fetchone()


@pytest.mark.parametrize(("old", "new"), [(None, RAW), (RAW, None)])
def test_rekey(windows: Layer, db_path: Path, old: str | None, new: str | None) -> None:
    pytest.importorskip("sqlcipher3")
    from scanstore.maintenance.rekeying import rekey

    with Store(db_path, key=old) as store:
        store.settings["word"] = "there"
    rekey(str(db_path), str(db_path), old, new)
    assert word(db_path, **({"key": new} if new else {})) == "there"
    assert (windows.refusals, partials(db_path.parent)) == ([], [])


@simulated
def test_rekey_loses_nothing_that_was_written_meanwhile(windows: Layer, db_path: Path) -> None:
    """The lock has to go before the file is replaced; whoever writes then is not overwritten."""
    pytest.importorskip("sqlcipher3")
    from scanstore.maintenance.rekeying import rekey

    filled(db_path)

    def replace(source: str, target: str) -> None:
        filled(db_path, "meanwhile")
        windows.refuse("replace", target, 5)  # it was open when it was asked for, and is asked for again

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Busy, match="was opened by another process meanwhile"):
        patch.setattr(os, "replace", replace)
        patch.setattr(open_files, "SECONDS", 60)  # the other store may take its time
        rekey(str(db_path), str(db_path), None, RAW)
    assert word(db_path) == "meanwhile" and partials(db_path.parent) == []


# Files that another program holds


@simulated
def test_a_file_that_is_held_for_a_moment_is_waited_for(windows: Layer, db_path: Path) -> None:
    with Store(filled(db_path)) as store:
        copy = store.backup(db_path.with_name("copy.db")).path
        windows.hold(copy, 2)
        store.backup(copy)
    assert len(windows.refusals) == 2 and word(Path(copy)) == "there"


@simulated
def test_a_file_that_stays_held_is_named(windows: Layer, db_path: Path) -> None:
    with Store(filled(db_path)) as store:
        copy = store.backup(db_path.with_name("copy.db")).path
        windows.hold(copy)
        with pytest.raises(ReadOnly, match=r"copy\.db cannot be replaced: Access is denied; .*if another program"):
            store.backup(copy)
        stamped = [store.backup(keep=1).path for _ in range(1)][0]
        windows.hold(stamped)
        with pytest.raises(StorageError, match=r"was made, but .* cannot be removed: .*used by another process"):
            store.backup(keep=1)
        report = db_path.with_name("report.jsonl")
        report.touch()
        windows.hold(report)
        with pytest.raises(ReadOnly, match=r"report\.jsonl cannot be replaced"):
            store.dump(report)
    windows.hold(db_path)
    with pytest.raises(Busy, match=r"scan\.db cannot be deleted: .*another program has it open; close it there, or ex"):
        drop_db(db_path, confirm=True)  # type: ignore[arg-type]
    windows.held.clear()
    assert word(db_path) == "there" and partials(db_path.parent) == []


def test_only_windows_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []

    def act() -> None:
        calls.append(1)
        error = PermissionError(13, "Permission denied")
        error.winerror = 32  # type: ignore[attr-defined, unused-ignore]
        raise error

    def opened() -> None:  # as `open` raises it, which does not know Windows' codes
        calls.append(1)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(open_files, "SECONDS", 0.03)
    for there in (False, True):
        monkeypatch.setattr(open_files, "WINDOWS", there)
        for call in (act, opened):
            calls.clear()
            with pytest.raises(PermissionError) as caught:
                open_files.patiently(call)
            assert (len(calls) > 1) == there
            told = str(files.refused(caught.value, "a.db"))
            assert ("another program has it open" in told) == there


def test_no_other_module_deletes_or_renames() -> None:
    """Each of these calls goes through `open_files`; of `shutil`, only what removes a folder of this process."""
    forbidden = {"unlink", "remove", "rename", "renames", "replace", "rmdir", "removedirs", "move", "touch"}
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "open_files.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if node.value.id in ("os", "shutil") and node.attr in forbidden:
                    found.append(f"{path.name}:{node.lineno} {name}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if node.func.attr in ("unlink", "rmdir", "rename"):
                    if not isinstance(owner, ast.Name) or owner.id not in ("os", "open_files"):
                        found.append(f"{path.name}:{node.lineno} {node.func.attr}")
    assert found == []


# What Windows lacks

LACKING = """
import importlib, pkgutil, sys
from pathlib import Path
import windows_files
"""
BASIC = (
    LACKING
    + """
folder = Path(sys.argv[1])
windows_files.leave_posix(*windows_files.scanstore.__path__)
import scanstore
for module in pkgutil.walk_packages(scanstore.__path__, "scanstore."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)
from click.testing import CliRunner
from scanstore.cli import main
from scanstore.maintenance import backup as backups
with scanstore.Store(folder / "scan.db") as store:
    scan = store.scans.record(folder / "tree", jobs=2)
    assert store.symbols.find("f")
    store.jobs.enqueue("work")
    assert store.jobs.claim()
    store.jobs.enqueue("work")
    store.jobs.run_worker({"work": lambda job: None}, until_empty=True)
    copy = store.backup(folder / "copy.db").path
backups.restore(copy, folder / "scan.db")
for command in (["scan", str(folder / "tree")], ["check"], ["report"]):
    done = CliRunner().invoke(main, [*command, "--db", str(folder / "scan.db")])
    assert done.exit_code == 0, done.output
with scanstore.Store(":memory:") as store:
    assert store.check() == []
print("ok")
"""
)
TESTS = (
    LACKING
    + """
here = Path(windows_files.__file__).parents[1]
windows_files.leave_posix(str(here), *windows_files.scanstore.__path__)
scripts = [path for folder in ("callgraph", "user_scripts") for path in (here / folder).rglob("*.py")]
paths = sorted(set(here.rglob("*.py")) - set(scripts))
sys.path.extend(sorted({str(path.parent) for path in paths}))
for path in paths:
    if path.stem not in ("fuzzing", "stress_coverage", "windows_files"):  # these need atheris, which is for Linux
        importlib.import_module(path.stem)
print("ok")
"""
)


def run(code: str, *arguments: str) -> str:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), str(ROOT)])}
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    return done.stdout + done.stderr[-3000:]


@pytest.mark.extras
def test_the_package_needs_nothing_that_windows_lacks(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(3):
        (tmp_path / f"tree/a{number}.py").write_text("def f():\n    return g()\n")
    assert run(BASIC, str(tmp_path)) == "ok\n"


def test_a_system_that_does_not_tell_the_free_space_is_believed_to_have_it(
    db_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_usage(_: object) -> None:
        raise AttributeError("module 'os' has no attribute 'statvfs'")

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with Store(filled(db_path)) as store:
        assert word(Path(store.backup(db_path.with_name("copy.db")).path)) == "there"


@pytest.mark.extras
def test_the_tests_can_be_collected_there() -> None:
    assert run(TESTS) == "ok\n"


def test_only_what_a_test_asks_for_itself_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of scanstore that needs what is missing has failed."""
    with pytest.raises(AttributeError) as asked:
        windows_files.os_of_windows().fork()
    assert needs.lacking(asked.value) == "needs os.fork"
    monkeypatch.setattr(open_files, "os", windows_files.Lacking(os, {"unlink"}))
    with pytest.raises(AttributeError) as failed:
        open_files.unlink("nothing")
    assert needs.lacking(failed.value) is None
    odd = OSError(errno.EILSEQ, "Illegal byte sequence", "a\udcff")
    assert needs.lacking(odd) == "needs file names such as 'a\\udcff'"


# All of it

UNFIT = (  # the simulation, not scanstore, is what these fail for
    "test_backup.py::test_copies_under_writers_are_of_one_moment",  # multiprocessing deletes its open semaphores
    "test_backup.py::test_killed_copies_leave_nothing_under_the_name",  # it cannot know who is alive
    "test_backup.py::test_restore_is_refused_while_the_store_is_open",  # open files of other processes are not seen
    "test_health.py::test_waste_is_removed_and_lost_work_freed",  # as the second
)


@pytest.mark.skipif("SCANSTORE_LONG" not in os.environ, reason="takes minutes; set SCANSTORE_LONG=1")
@simulated
def test_maintenance_and_encryption() -> None:
    files = ("maintenance", "db/test_encryption.py", "db/test_migrations.py", "test_provisioning.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "windows_files", "-p", "no:cacheprovider"]
    command += [str(ROOT / "tests" / name) for name in files]
    command += [f"--deselect=tests/maintenance/{name}" for name in UNFIT]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), str(ROOT)])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stdout[-6000:]
