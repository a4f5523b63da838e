"""Scripts as users write them: they run, and both type checkers accept them and refuse the mistakes in them.

``user_scripts/refused.py`` has the mistakes, each with the error that mypy reports. An unused ``type: ignore`` is an
error for both checkers, so each comment proves that its line is refused.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import async_stub
import needs
import pages
import public_names
import pytest
from typechecking import run_mypy

import scanstore
from scanstore.aio import store as aio_store

ROOT = Path(scanstore.__file__).parent.parent
FOLDER = Path(__file__).parent / "user_scripts"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]


def pyright(folder: Path, **options: object) -> list[str]:
    """Return the errors of Pyright in the scripts of a folder, one per line."""
    needs.package("pyright", "test")
    settings = {**SETTINGS, "include": ["."], "extraPaths": [str(ROOT)], **options}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    told = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert told.returncode in (0, 1), told.stdout + told.stderr
    found = json.loads(told.stdout)
    assert found["summary"]["filesAnalyzed"] == len(list(folder.glob("*.py")))
    return [
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1} {each['message']}"
        for each in found["generalDiagnostics"]
        if each["severity"] == "error"
    ]


@pytest.mark.extras
def test_mypy_accepts_the_scripts_of_users() -> None:
    told = run_mypy("--strict", *(str(FOLDER / name) for name in SCRIPTS))
    assert told.returncode == 0 and not told.stderr, told.stdout + told.stderr


@pytest.mark.extras
def test_pyright_accepts_the_scripts_of_users(tmp_path: Path) -> None:
    for name in SCRIPTS:
        shutil.copy(FOLDER / name, tmp_path)
    told = pyright(tmp_path)
    assert not told, "\n".join(told)


@pytest.mark.extras
def test_pyright_accepts_the_scripts_of_the_documentation(tmp_path: Path) -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, block in enumerate(pages.scripts(page)):
            (tmp_path / f"{page.stem.replace('-', '_')}{number}.py").write_text(block, encoding="utf-8")
    told = pyright(tmp_path, analyzeUnannotatedFunctions=False)
    assert not told, "\n".join(told)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_of_users_run(name: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, FOLDER / name], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_a_script_uses_every_public_name() -> None:
    code = ast.unparse(ast.parse(public_names.written()))
    current = ast.unparse(ast.parse(public_names.TARGET.read_text(encoding="utf-8")))
    assert current == code, "run: python tests/support/public_names.py"


def test_the_signatures_of_the_asynchronous_store_are_those_of_the_store() -> None:
    def code(text: str) -> list[str]:
        return ast.unparse(ast.parse(text)).split()

    written = async_stub.TARGET.read_text(encoding="utf-8")
    assert code(written) == code(async_stub.Stub().written()), "run: python tests/support/async_stub.py"


def test_every_class_and_method_of_the_stub_exists() -> None:
    classes = [node for node in ast.parse(async_stub.TARGET.read_text()).body if isinstance(node, ast.ClassDef)]
    assert len(classes) > 20
    for node in classes:
        if node.name.startswith("_"):  # the type of an object in an ``async with`` block
            continue
        class_ = getattr(aio_store, node.name)
        assert (class_.__name__, class_.__module__) == (node.name, aio_store.__name__)
        for member in node.body:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                assert getattr(class_, member.name).__doc__ == vars(class_)[member.name].__doc__
    with pytest.raises(AttributeError, match="has no attribute 'AsyncNothing'"):
        getattr(aio_store, "AsyncNothing")  # noqa: B009
