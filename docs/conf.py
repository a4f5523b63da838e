"""The settings of Sphinx: ``python -m pip install '.[docs]' && sphinx-build -W docs OUT`` builds the pages."""

from __future__ import annotations

from sphinx.application import Sphinx

from scanstore import __version__

project = "scanstore"
author = "the scanstore authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"scanstore {version}"

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_class_signature = "separated"


def escape(_app: Sphinx, _command: object, lines: list[str]) -> None:
    """Escape stars in help texts, such as those of ``tests/**``: they are no emphasis."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> None:
    for part in ("description", "options", "arguments", "epilog"):
        app.connect(f"sphinx-click-process-{part}", escape)
