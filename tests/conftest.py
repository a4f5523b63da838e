"""Fixtures that every test may use, and what makes all of them together quick."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from scanstore import migrating
from scanstore.store import Store

# A forked child is killed or leaves by os._exit: what it measures is never saved, so it need not measure.
os.register_at_fork(after_in_child=lambda: sys.settrace(None))

# How long an example takes depends on what else runs; a failure prints what repeats it.
settings.register_profile("scanstore", deadline=None, database=None, print_blob=True)
settings.load_profile("scanstore")


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
    real, content = migrating.up, new_file.read_bytes()

    def up(file: str, **options: Any) -> Any:
        if options.get("to") is None and options.get("key") is None and not os.path.getsize(file):
            with open(file, "r+b") as empty:
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
