"""Finding the file that an absolute import means, if no module of the tree has exactly its name.

The name of a module follows from the packages of the tree. But code may be run with any folder on Python's path, and
then imports the modules of that folder by shorter names: ``from services.x import y`` for ``api/services/x.py``. Such a
folder is a *source root*. It is found from how the imports of the tree are spelled: a folder that is in no package, and
that has a package, folder or module with the first name of the import.

An import is trusted if only one file of the tree fits, and every import of that first name in the tree finds its
module and its attribute below some source root. Otherwise the name may be that of an installed package, or of another
folder, so the import is a guess: the folder with the fewest parts, then the first by name.

Everything here depends only on the paths of the files, their interfaces, and the spelled imports of one snapshot.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from typing import NamedTuple

from scanstore.snapshots.interfaces import Module

#: If more folders have something of the same name, no import of that name is followed.
MOST_ROOTS = 100
#: If more modules have the same last name, an import of one of them is at most a guess.
MOST_PLACES = 1000
#: What each module has, whether it defines it or not.
_ATTRIBUTES = frozenset("__doc__ __file__ __loader__ __name__ __package__ __path__ __spec__ __dict__".split())
_IMPORT = re.compile(r"=?([^:/?=]+):(?:\.(\w+))?")

#: Gives the paths of a snapshot that begin with a module of this first name.
Spelled = Callable[[str], Iterable[str]]


class FoundModule(NamedTuple):
    """A module, or a folder without one of its own, and whether it is a guess."""

    name: str
    guessed: bool


class SourceRoots:
    """The folders of a tree from which modules may be imported. Modules without a path are left out."""

    def __init__(self, modules: Mapping[str, Module], spelled: Spelled) -> None:
        self.modules = modules
        self.spelled = spelled
        self.files: dict[str, str] = {}  # dotted place in the tree -> module
        self.folders: set[str] = set()
        self.packages: set[str] = set()
        self.roots: dict[str, list[str]] = {}  # first name -> the folders that have it
        self.by_stem: dict[str, list[str]] = {}  # last name of a place -> the places with it
        self.inner: set[str] = set()  # folders that are no packages themselves, below a package
        self.renamed: set[str] = set()  # first names of imports that do not spell a module's own name
        self.known: dict[str, FoundModule | None] = {}
        self.trusted: dict[str, bool] = {}
        self._gather()

    def _gather(self) -> None:
        places = sorted((module.path, name) for name, module in self.modules.items() if module.path)
        for path, name in places:
            place, is_package = place_of(path)
            if not place:
                continue
            if place not in self.files:
                self.files[place] = name
                self.by_stem.setdefault(place.rpartition(".")[2], []).append(place)
            if is_package:
                self.packages.add(place)
            folder = place.rpartition(".")[0]
            while folder and folder not in self.folders:
                self.folders.add(folder)
                folder = folder.rpartition(".")[0]
        seen: set[str] = set()
        for place, name in self.files.items():
            own = len(place) - len(name) if place == name or place.endswith("." + name) else -1
            above, inside = "", False
            for part in place.split("."):
                node = f"{above}.{part}" if above else part
                if above not in self.packages and len(node) - len(part) != own:
                    self.renamed.add(part)
                if node not in seen:
                    seen.add(node)
                    if inside and node in self.folders and node not in self.packages:
                        self.inner.add(node)
                    if above not in self.packages:
                        self.roots.setdefault(part, []).append(above)
                inside = inside or node in self.packages
                above = node
        for folders in self.roots.values():
            folders.sort(key=lambda each: (each in self.inner, each.count(".") if each else -1, each))

    def find(self, name: str) -> FoundModule | None:
        """Return the module with this absolute name. ``/a.b`` is the one at this place of the tree.

        A folder that is no package is returned under the given name.
        """
        if name not in self.known:
            self.known[name] = self._at(name) if name.startswith("/") else self._find(name)
        return self.known[name]

    def _at(self, name: str) -> FoundModule | None:
        place = name[1:]
        if place in self.files:
            return FoundModule(self.files[place], False)
        return FoundModule(name, False) if place in self.folders else None

    def _find(self, name: str) -> FoundModule | None:
        top = name.partition(".")[0]
        roots = self.roots.get(top, ())
        if top not in self.renamed or top in sys.stdlib_module_names or len(roots) > MOST_ROOTS:
            return None
        found = [root for root in roots if _join(root, name) in self.files]
        only_folders = not found
        if only_folders:
            found = [root for root in roots if _join(root, name) in self.folders]
        if not found:
            return None
        # Python merges folders that are no packages, but a package or a module hides everything else of its name.
        hidden = any(_join(root, top) in self.files for root in roots if root != found[0])
        several = len(found) > 1 and not only_folders or self._is_elsewhere(name, roots)
        guessed = several or hidden or found[0] in self.inner or not self.is_trusted(top)
        return FoundModule(name if only_folders else self.files[_join(found[0], name)], guessed)

    def _is_elsewhere(self, name: str, roots: Collection[str]) -> bool:
        """Whether a package has a module that a script in its folder would import by this name."""
        places = self.by_stem.get(name.rpartition(".")[2], ())
        if len(places) > MOST_PLACES:
            return True
        end = "." + name
        return any(place.endswith(end) and place[: -len(end)] not in roots for place in places)

    def is_ambiguous(self, name: str) -> bool:
        """Whether too many folders have the first part of this name."""
        return len(self.roots.get(name.partition(".")[0], ())) > MOST_ROOTS

    def is_trusted(self, top: str) -> bool:
        """Whether every import that begins with this name can be found below a source root."""
        if top not in self.trusted:
            self.trusted[top] = self._is_trusted(top)
        return self.trusted[top]

    def _is_trusted(self, top: str) -> bool:
        roots = self.roots.get(top, ())
        if top not in self.renamed or top in sys.stdlib_module_names or len(roots) > MOST_ROOTS:
            return False
        certain = False
        for name, attribute in imported(self.spelled(top)).get(top, ()):
            if name not in self.modules and not any(self._has(_join(root, name), attribute) for root in roots):
                return False
            certain = certain or attribute is not None or name != top
        return certain

    def _has(self, place: str, attribute: str | None) -> bool:
        """Whether there is a module or folder at this place, with this attribute."""
        if place not in self.files and place not in self.folders:
            return False
        if attribute is None or attribute in _ATTRIBUTES or self._is_place(f"{place}.{attribute}"):
            return True
        module = self.modules[self.files[place]] if place in self.files else None
        if module is None:
            return False
        return attribute in module.names or "__getattr__" in module.names or bool(module.stars)

    def _is_place(self, place: str) -> bool:
        return place in self.files or place in self.folders

    def before(self, modules: Mapping[str, Module], spelled: Spelled) -> SourceRoots:
        """Return the source roots of another snapshot with files of the same paths and names."""
        other = copy(self)
        other.modules, other.spelled, other.known, other.trusted = modules, spelled, {}, {}
        return other


def imported(texts: Iterable[str]) -> dict[str, set[tuple[str, str | None]]]:
    """Return the modules in the paths of references, each with its attribute, by the first name of the module."""
    found: dict[str, set[tuple[str, str | None]]] = {}
    for text in texts:
        match = _IMPORT.match(text)
        if match is not None:
            found.setdefault(match[1].partition(".")[0], set()).add((match[1], match[2]))
    return found


def place_of(path: str) -> tuple[str, bool]:
    """Return the dotted place of a file in its tree, and whether it makes its folder a package.

    >>> place_of("api/services/x.py"), place_of("pkg/__init__.py")
    (('api.services.x', False), ('pkg', True))
    """
    stem = path.rpartition(".")[0]
    folder, _, name = stem.rpartition("/")
    is_package = name == "__init__"
    return (folder if is_package else stem).replace("/", "."), is_package


def _join(root: str, name: str) -> str:
    return f"{root}.{name}" if root else name
