"""What is published: a source distribution that the tests run from, and a wheel of the package alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import needs
import pytest

ROOT = Path(__file__).parent.parent
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_sdist(sys.argv[1]) if sys.argv[2] == "sdist" else build_meta.build_wheel(sys.argv[1]))
"""
#: A few tests that read the documentation and the migrations too.
SELECTION = ("tests/test_docs.py", "tests/test_settings.py", "tests/db/test_migrations.py")

pytestmark = pytest.mark.extras


def tracked() -> list[str]:
    """The files of the repository; an unpacked source distribution has none to compare with."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone of the repository")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run Python in a folder, with another folder first on its path, and return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Call the build backend of pyproject.toml, in an environment that has it already."""
    return out / run("-c", BUILD, out, kind, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def files() -> set[str]:
    return set(tracked())


@pytest.fixture(scope="module")
def sdist(files: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the files of the repository."""
    needs.package("setuptools", "test")
    folder = tmp_path_factory.mktemp("packaging")
    for name in files:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    return build("sdist", folder / "source", folder)


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (found,) = folder.glob("scanstore-*/")
    return found


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the source distribution makes."""
    source = tmp_path_factory.mktemp("building") / "source"
    shutil.copytree(unpacked, source)
    return build("wheel", source, source.parent)


def test_the_source_distribution_has_every_file_of_the_repository(files: set[str], unpacked: Path) -> None:
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    there = {name for name in there if "__pycache__" not in name and ".mypy_cache" not in name}
    assert files - there == set(), "name them in MANIFEST.in"
    assert {name for name in there - files if not name.startswith("scanstore.egg-info/")} == {"PKG-INFO"}
    assert {"tests/conftest.py", "tests/callgraph/shop/app.py", "docs/design.md", "benchmarks/snapshot.py"} <= there


def test_the_wheel_of_the_source_distribution_has_the_package_alone(files: set[str], wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
        info = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    package = {name for name in files if name.startswith("scanstore/")}
    migrations = {f"scanstore/{name}" for name in files if name.startswith("migrations/")}
    assert there == package | migrations
    assert {"scanstore/py.typed", "scanstore/aio/store.pyi", "scanstore/report/page.css"} <= there
    assert len(migrations) > 10 and "scanstore/migrations/__init__.py" in migrations
    assert "scanstore = scanstore.__main__:run" in info["entry_points.txt"] and "LICENSE" in info
    assert re.search(r"^# scanstore$", info["METADATA"], re.MULTILINE)  # the README


def test_the_checks_of_package_indexes_pass(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """The README is rendered, the metadata is complete, and the wheel has no stray file."""
    needs.package("twine", "checks")
    needs.package("check_wheel_contents", "checks")
    told = run("-m", "twine", "--no-color", "check", "--strict", sdist, wheel, cwd=tmp_path)
    assert told.count("PASSED") == 2, told
    told = run("-m", "check_wheel_contents", "--config", ROOT / "pyproject.toml", wheel, cwd=tmp_path)
    assert told == f"{wheel}: OK\n"


def test_tests_pass_in_an_unpacked_source_distribution(unpacked: Path) -> None:
    where = run("-c", "import scanstore, migrations; print(scanstore.__file__, migrations.__file__)", cwd=unpacked)
    assert all(Path(path).is_relative_to(unpacked) for path in where.split()), where
    told = run("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *SELECTION, cwd=unpacked, path=unpacked)
    assert int(re.findall(r"(\d+) passed", told)[-1]) > 50


def test_an_installed_wheel_scans_migrates_and_reports(wheel: Path, tmp_path: Path) -> None:
    """Without the checkout: migrations and the parts of the HTML page are inside."""
    target, work = tmp_path / "installed", tmp_path / "work"
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    work.mkdir()
    (work / "shop.py").write_text("def price(item):\n    return item.cost\n")
    where = run("-c", "import scanstore; print(scanstore.__file__)", cwd=work, path=target)
    assert Path(where.strip()).is_relative_to(target)
    assert "symbols" in run("-m", "scanstore", "scan", ".", cwd=work, path=target)
    assert "shop.price" in run("-m", "scanstore", "symbols", "find", "price", cwd=work, path=target)
    assert "012_page_indexes" in run("-m", "scanstore", "migrate", "status", cwd=work, path=target)
    run("-m", "scanstore", "report", "--format", "html", "-o", "report.html", cwd=work, path=target)
    assert "</style>" in (work / "report.html").read_text(encoding="utf-8")
