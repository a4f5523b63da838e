"""Public names of a package, loaded on first access (PEP 562).

``from scanstore.findings.models import Finding`` runs ``scanstore/findings/__init__.py`` first. If the package imported
its modules eagerly, opening a store would import everything, and an indexing worker would import Peewee.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module


def lazy(
    package: str,
    modules: Mapping[str, Iterable[str]],
    *,
    into: str | None = None,
    first: Mapping[str, Iterable[str]] | None = None,
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package whose public names are in these modules.

    ``modules`` maps the names of modules, relative to the package, to their public names. A module without names is
    itself public, under the last part of its name. ``into`` is the module that gets the names, by default the package.
    ``first`` maps a name to the modules that are loaded before it.
    """
    homes = {name: module for module, names in modules.items() for name in names}
    own = {module.rpartition(".")[2]: module for module, names in modules.items() if not names}
    into = into or package

    def __getattr__(name: str) -> object:
        if name not in homes and name not in own:
            raise AttributeError(f"module {into!r} has no attribute {name!r}")
        for module in (first or {}).get(name, ()):
            import_module(f"{package}.{module}")
        found: object = import_module(f"{package}.{homes.get(name) or own[name]}")
        if name in homes:
            found = getattr(found, name)
        setattr(sys.modules[into], name, found)
        return found

    def __dir__() -> list[str]:
        return sorted({*homes, *own})

    return __getattr__, __dir__
