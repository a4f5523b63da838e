"""Cases of which a default run takes some, and a run with ``--extras`` the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[object], every: int = 2, *, ids: Iterable[str] | None = None) -> list[Any]:
    """Return the parameters of a test, all but every second or ``every``-th of them marked as extras."""
    listed = list(cases)
    names = list(ids) if ids is not None else [None] * len(listed)
    return [
        pytest.param(case, id=name, marks=[pytest.mark.extras] * (number % every != 0))
        for number, (case, name) in enumerate(zip(listed, names, strict=True))
    ]
