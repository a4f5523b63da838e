"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scanstore.store import Store


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    """The path of a store that does not exist yet."""
    return tmp_path / "scan.db"


@pytest.fixture
def store(db_path: Path) -> Iterator[Store]:
    """A new store, current in the test."""
    with Store(db_path, timeout=5) as opened:
        yield opened
