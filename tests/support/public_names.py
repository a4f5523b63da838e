"""Writes ``tests/user_scripts/names.py``, which imports and uses every public name.

Run it after a change of what a package exports: ``python tests/support/public_names.py``.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import import_graph
import public_signatures

TARGET = Path(__file__).parent.parent / "user_scripts" / "names.py"
NO_NAMES = ("scanstore.cli", "scanstore.migrations", "scanstore.sarif.format")  # a command, and folders of files
HEAD = '"""Every public name. Written by tests/support/public_names.py; do not edit."""\n\n'


def exported() -> dict[str, list[str]]:
    """Return the public names of each package, and of the modules that users import."""
    found = {}
    for name, path in import_graph.own_modules().items():
        package = path.name == "__init__.py" and not name.startswith(NO_NAMES)
        if package or name in ("scanstore.models", "scanstore.policies", "scanstore.parts"):
            found[name] = sorted(importlib.import_module(name).__all__)
        elif name in ("scanstore.errors", "scanstore.dependencies", "scanstore.db.words"):
            words = public_signatures.module(name).defined
            found[name] = sorted(word for word in words if not word.startswith("_"))
    return found


def written() -> str:
    imports = "".join(f"import {name}\n" for name in exported())
    uses = "".join(f"    {name}.{word},\n" for name, words in exported().items() for word in words)
    return f"{HEAD}{imports}\nNAMES: tuple[object, ...] = (\n{uses})\nprint(len(NAMES))\n"


if __name__ == "__main__":
    TARGET.write_text(written(), encoding="utf-8")
