"""Fixtures that every test may use, and what makes all of them together quick."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
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

from scanstore.db import migrations
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

# A shell that starts this in the background has it ignore Ctrl-C, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else runs; a failure prints what repeats it.
examples = 100 if os.environ.get("SCANSTORE_LONG") else 40
settings.register_profile("scanstore", deadline=None, database=None, print_blob=True, max_examples=examples)
settings.load_profile("scanstore")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--extras", action="store_true", help="run the tests marked extras, and only those")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run either the tests marked ``extras`` or all others."""
    sides: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    for item in items:
        sides[item.get_closest_marker("extras") is not None].append(item)
    wanted = config.getoption("extras")
    if sides[not wanted]:
        config.hook.pytest_deselected(items=sides[not wanted])
    items[:] = sides[wanted]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not config.getoption("extras"):
        terminalreporter.write_line("tests marked extras run with --extras")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores: many tests wait, for a process to start or a lease to run out."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)  # when coverage is measured already
def pytest_sessionstart(session: pytest.Session) -> None:
    """The workers compile the tests together: each begins elsewhere, and later finds what the others have written."""
    worker: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is not None and not session.config.option.file_or_dir:
        paths = sorted(Path(__file__).parent.rglob("test_*.py"))
        sys.path.extend(sorted({str(path.parent) for path in paths}))
        modules = [path.stem for path in paths]
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


# What the migrations make of an empty file, up to a version and with a key: its content, and the names of what ran.
MADE: dict[tuple[int | None, str | None], tuple[bytes, list[str]]] = {}
UP = migrations.up


def made(to: int | None, key: str | None) -> tuple[bytes, list[str]]:
    """Migrate an empty file, once in each process: it takes longer than most tests."""
    if (to, key) not in MADE:
        with tempfile.TemporaryDirectory() as folder:
            names = UP(Path(folder, "new.db"), to=to, key=key)
            assert os.listdir(folder) == ["new.db"]
            MADE[to, key] = Path(folder, "new.db").read_bytes(), list(names)
    return MADE[to, key]


@pytest.fixture(scope="session")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a new store, to be copied."""
    path = tmp_path_factory.mktemp("new") / "scan.db"
    path.touch(mode=0o600)
    path.write_bytes(made(None, None)[0])
    Store(path).close()
    return path


# These are about how a store comes to be, or count each call on the way.
MADE_ANEW = (
    "test_database::test_a_file_that_is_removed_while_it_is_opened",
    "test_database::test_a_new_store_is_private",
    "test_database::test_a_relative_path",
    "test_database::test_an_empty_file",
    "test_database::test_any_file_name",
    "test_database::test_memory_",
    "test_database::test_the_path_defaults",
    "test_database::test_the_private_mode",
    "test_failing_disks::",
    "test_logs::test_the_environment",
    "test_logs::test_verbose",
    "test_logs::test_what_opening",
    "test_migrations::",
    "test_provisioning::test_init",
    "stress_",
)


TURN = threading.Lock()
fcntl = needs.module("fcntl")


def quick_up(path: str | os.PathLike[str], **options: Any) -> migrations.MigrationNames:
    """Do what `migrating.up` does; an empty or a missing file is given what the migrations have made before."""
    to, key = options.get("to"), options.get("key")
    empty = os.path.isdir(os.path.dirname(path)) and not (os.path.exists(path) and os.path.getsize(path))
    if empty and options.get("folder") is None and isinstance(to, int | None) and not os.path.islink(path):
        content, names = made(to, key)
        with TURN:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            try:
                if os.name == "posix":
                    fcntl.flock(handle, fcntl.LOCK_EX)
                if not os.path.getsize(path):
                    assert os.write(handle, content) == len(content)
                    return migrations.MigrationNames(names)
            finally:
                os.close(handle)
    return UP(path, **options)


@pytest.fixture(autouse=True)
def quickly_made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever store a test makes, it begins as a copy of one that the migrations made."""
    if not f"{request.module.__name__.rpartition('.')[2]}::{request.node.name}".startswith(MADE_ANEW):
        monkeypatch.setattr(migrations, "up", quick_up)


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
