"""The pages of the documentation: complete, reachable, and built without a warning."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import needs
import pytest

from scanstore import Store

DOCS = Path(__file__).parents[1] / "docs"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {
        line.strip() for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.S) for line in block.split("\n")
    }
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - {"index"}
    assert pages and not pages - listed


def test_the_reference_names_every_domain() -> None:
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    with Store(":memory:") as store:
        for name, member in vars(Store).items():
            if not isinstance(member, cached_property):
                continue
            kind = type(getattr(store, name))
            assert f"## `store.{name}`" in page and f"{kind.__module__}.{kind.__name__}\n" in page
            for part in dir(kind):
                if isinstance(inspect.getattr_static(kind, part), cached_property):
                    assert f"## `store.{name}.{part}`" in page


@pytest.mark.extras
def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    needs.package("sphinx", "docs")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "store.findings" in (tmp_path / "reference" / "api.html").read_text(encoding="utf-8")
