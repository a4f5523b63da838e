"""What the tests of leases share: a store whose clock goes on only when told to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from leased_work import Night, moment

from scanstore import Store
from scanstore.db import values


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.setattr(values, "NOW", values.utcnow(), raising=False)
    monkeypatch.setattr(values.utcnow, "__code__", moment.__code__)
    return Night()


@pytest.fixture
def night_store(tmp_path: Path, new_file: Path, night: Night) -> Iterator[Store]:
    shutil.copy(new_file, tmp_path / "scan.db")
    with Store(tmp_path / "scan.db", durability="normal") as opened:
        # The triggers of the schema look at the same clock.
        opened.database.connection().create_function("strftime", 2, lambda *_: values.format_time(values.utcnow()))
        yield opened
        assert opened.check() == []
