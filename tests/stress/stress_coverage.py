"""Fuzzing that sees where it gets: what Atheris thinks up for each door is taken, or refused in one line.

Atheris is for Linux on x86-64. See fuzzing.py.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import needs
import pytest
from stressing import LONG, ROOT, SEED

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="needs Atheris, which is for Linux on x86-64"
)

DOORS = ("reports", "tags", "dumps", "rows", "records", "code", "words")
LENGTH = f"-max_total_time={60 if LONG == 1 else LONG}" if LONG else "-runs=100"


@pytest.mark.parametrize("door", DOORS)
def test_what_it_thinks_up(tmp_path: Path, door: str) -> None:
    needs.package("atheris", "checks")
    paths = os.pathsep.join([str(ROOT.parent), str(ROOT / "support")])
    found = subprocess.run(
        [sys.executable, ROOT / "support" / "fuzzing.py", door, LENGTH, f"-seed={SEED}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    runs = re.search(r"Done (\d+)", found.stderr)
    covered = re.findall(r"cov: (\d+)", found.stderr)
    assert runs and covered, found.stderr[-3000:]
    assert int(covered[0]) > 50, "Atheris does not see the lines of the package"
    print(f"\n{door}: {runs[1]} inputs, {covered[0]} places reached at first and {covered[-1]} in the end")
