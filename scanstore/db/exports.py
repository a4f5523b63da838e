"""Public names of a package, loaded when they are first asked for (PEP 562).

``from scanstore.findings.models import Finding`` runs ``scanstore/findings/__init__.py`` first. If that imported its
service, opening a store would import everything, and a worker process of indexing would import Peewee.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module


def lazy(package: str, modules: Mapping[str, Iterable[str]]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package whose public names are in these modules of it.

    ``modules`` has the names by the name of their module, relative to the package.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    def __dir__() -> list[str]:
        return sorted(homes)

    return __getattr__, __dir__
