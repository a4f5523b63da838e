"""Fixtures that every test may use, and what makes all of them together quick."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

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


@pytest.fixture
def store(db_path: Path, new_file: Path) -> Iterator[Store]:
    """A new store, current in the test."""
    shutil.copy(new_file, db_path)
    with Store(db_path, timeout=5) as opened:
        yield opened
