"""Fixtures that every test may use, and what makes all of them together quick."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import needs
import pytest
from hypothesis import settings

from scanstore import migrating
from scanstore.store import Store

# A forked child is killed or leaves by os._exit: what it measures is never saved, so it need not measure.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: sys.settrace(None))

# A quarter of the time would go to waiting for the disk; a process that is killed leaves the same files in memory.
SHARED, ROOM = "/dev/shm", 4 << 30
if "TMPDIR" not in os.environ and os.access(SHARED, os.W_OK) and shutil.disk_usage(SHARED).free >= ROOM:
    os.environ["TMPDIR"] = SHARED
    tempfile.tempdir = None  # or whoever asked before would be told the old one again

# Without bytecode, each of the hundreds of processes that the tests start would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes depends on what else runs; a failure prints what repeats it.
settings.register_profile("scanstore", deadline=None, database=None, print_blob=True)
settings.load_profile("scanstore")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores: many tests wait, for a process to start or a lease to run out."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)  # when coverage is measured already
def pytest_sessionstart(session: pytest.Session) -> None:
    """The workers compile the tests together: each begins elsewhere, and later finds what the others have written."""
    worker: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is not None and not session.config.option.file_or_dir:
        modules = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
        for name in modules[int(worker["workerid"][2:]) * len(modules) // worker["workercount"] :]:
            importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Whatever is there now stays to the end: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """Skip, by name, what needs something that this system lacks."""
    try:
        return (yield)
    except Exception as error:
        if (what := needs.lacking(error)) is not None:
            pytest.skip(what)
        raise


_started: list[subprocess.Popen[Any]] = []


class _Remembered(subprocess.Popen[Any]):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _started.append(self)


subprocess.Popen = _Remembered  # type: ignore[misc]


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    """Processes that a test started are ended with it, and their pipes are closed."""
    before = len(_started)
    yield
    for process in _started[before:]:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        process.wait()
    del _started[before:]


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    """The path of a store that does not exist yet."""
    return tmp_path / "scan.db"


@pytest.fixture(scope="session")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a new store, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("new") / "scan.db"
    Store(path).close()
    return path


# These are about how a store comes to be.
MADE_ANEW = (
    "test_crash",
    "test_database",
    "test_foreign_schemas",
    "test_logs",
    "test_migrating",
    "test_upgrades",
    "test_provisioning",
    "stress_",
)


@pytest.fixture(autouse=True)
def quickly_made(request: pytest.FixtureRequest, new_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever store a test makes, it begins as a copy of one that the migrations made."""
    if request.module.__name__.rpartition(".")[2].startswith(MADE_ANEW):
        return
    real, content, fcntl, turn = migrating.up, new_file.read_bytes(), needs.module("fcntl"), threading.Lock()

    def up(file: str, **options: Any) -> Any:
        if options.get("to") is None and options.get("key") is None and not os.path.getsize(file):
            with turn, open(file, "r+b") as empty:
                if os.name == "posix":
                    fcntl.flock(empty, fcntl.LOCK_EX)
                if not os.path.getsize(file):
                    empty.write(content)
                    return migrating.Names([])
        return real(file, **options)

    monkeypatch.setattr(migrating, "up", up)


@pytest.fixture
def store(db_path: Path, new_file: Path) -> Iterator[Store]:
    """A new store, current in the test."""
    shutil.copy(new_file, db_path)
    with Store(db_path, timeout=5) as opened:
        yield opened


@pytest.fixture(scope="session")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A process whose forks are watched as they call the system; the test is skipped where that cannot be had."""
    from syscalls import Watcher

    watcher = Watcher(tmp_path_factory.mktemp("syscalls"))
    yield watcher
    watcher.close()
