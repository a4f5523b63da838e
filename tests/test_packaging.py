"""What is published: a source distribution that the whole suite runs from, and a wheel of the package alone."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_sdist(sys.argv[1]) if sys.argv[2] == "sdist" else build_meta.build_wheel(sys.argv[1]))
"""


def tracked() -> list[str]:
    """The files of the repository; an unpacked source distribution has none to compare with."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone of the repository")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def build(kind: str, source: Path, out: Path) -> Path:
    """Call the build backend of pyproject.toml, in an environment that has it already."""
    command = [sys.executable, "-c", BUILD, str(out), kind]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], Path]:
    """The files of the repository, and the source distribution made of them, unpacked."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs setuptools, which the extra `test` installs")
    files = tracked()
    folder = tmp_path_factory.mktemp("packaging")
    for name in files:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    with tarfile.open(build("sdist", folder / "source", folder)) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.glob("scanstore-*/")
    return set(files), unpacked


def test_the_source_distribution_has_every_file_of_the_repository(sdist: tuple[set[str], Path]) -> None:
    files, unpacked = sdist
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert files - there == set(), "name them in MANIFEST.in"
    assert {name for name in there - files if not name.startswith("scanstore.egg-info/")} == {"PKG-INFO"}
    assert {"tests/conftest.py", "tests/callgraph/shop/app.py", "docs/design.md", "benchmarks/snapshot.py"} <= there


def test_the_wheel_of_the_source_distribution_has_the_package_alone(
    sdist: tuple[set[str], Path], tmp_path: Path
) -> None:
    if int(version("setuptools").partition(".")[0]) < 71 and importlib.util.find_spec("wheel") is None:
        pytest.skip("needs setuptools 71 or newer, which the extra `test` installs")
    files, unpacked = sdist
    with zipfile.ZipFile(build("wheel", unpacked, tmp_path)) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
        info = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    package = {name for name in files if name.startswith("scanstore/")}
    migrations = {f"scanstore/{name}" for name in files if name.startswith("migrations/")}
    assert there == package | migrations
    assert {"scanstore/py.typed", "scanstore/aio/store.pyi", "scanstore/report/page.css"} <= there
    assert len(migrations) > 10 and "scanstore/migrations/__init__.py" in migrations
    assert "scanstore = scanstore.__main__:run" in info["entry_points.txt"] and "LICENSE" in info
    assert re.search(r"^# scanstore$", info["METADATA"], re.MULTILINE)  # the README
