"""One way to run mypy: the tests share its cache, and two runs at the same time would spoil it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".mypy_cache"


def run_mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run mypy with the cache of this checkout, once at a time."""
    CACHE.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(CACHE), *arguments]
    with open(CACHE / "lock", "w") as lock:
        with suppress(ImportError):  # Windows
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
