"""The names that an importer of a tree can use, and the definitions behind them.

A name is public if neither it nor a part of its module begins with an underscore, except special methods such as
``__init__``. A literal ``__all__`` decides about the names of its module. An import makes a name public if ``__all__``
lists it, or if the ``__init__`` file of a package imports it from a module of this package; this is how packages
publish names of private modules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from scanstore.db.database import Database
from scanstore.indexing.facts import interface_text
from scanstore.snapshots.models import Scan
from scanstore.symbols.comparison import Definition

MODULES = """
SELECT v.module, f.file_path, v.interface FROM scan_files AS f JOIN file_versions AS v ON v.id = f.version_id
 WHERE f.scan_id = ? AND v.interface IS NOT NULL AND v.module <> '' ORDER BY f.file_path DESC
"""
ALL = """
SELECT q.text, s.symbol_type, f.file_path, s.start_line, s.body_hash, n.text, s.metadata, v.indexer
  FROM scan_files AS f JOIN symbol_facts AS s ON s.version_id = f.version_id
  JOIN file_versions AS v ON v.id = f.version_id
  JOIN names AS q ON q.id = s.qualified_name_id JOIN names AS n ON n.id = s.name_id
 WHERE f.scan_id = ? ORDER BY f.file_path, s.ordinal
"""
DEEPEST = 40  # steps from an imported name to its definition, and from a class to an ancestor

Place = tuple[str, str]  #: a module, and the qualified name inside it; empty for the module itself


def is_public_name(name: str) -> bool:
    """Whether a name has no leading underscore, or is special."""
    return not name.startswith("_") or (len(name) > 4 and name.startswith("__") and name.endswith("__"))


class ImportedModule:
    """One module of a tree: its names, the modules of its star imports, and its ``__all__`` if that is a literal."""

    def __init__(self, name: str, path: str, interface: bytes) -> None:
        self.name = name
        self.path = path
        self.is_package = path.rpartition("/")[2].startswith("__init__.")
        self._packed = interface
        self._read = False
        self._names: dict[str, list[Any]] = {}
        self._stars: list[str] = []
        self._members: dict[str, list[str]] = {}

    def _load(self) -> None:
        if not self._read:
            self._read = True
            found = json.loads(interface_text(self._packed))
            self._stars = [str(each).partition(":")[0] for each in found["stars"]]
            self._names = {key: entry for key, entry in found["names"].items() if key.replace(".", "").isidentifier()}
            for key in self._names:
                owner, _, name = key.rpartition(".")
                self._members.setdefault(owner, []).append(name)

    @property
    def names(self) -> dict[str, list[Any]]:
        self._load()
        return self._names

    @property
    def stars(self) -> list[str]:
        self._load()
        return self._stars

    def members(self, owner: str) -> list[str]:
        """Return the names in a class, or in the module for an empty name."""
        self._load()
        return self._members.get(owner, [])


class Names:
    """The modules and symbols of one scan, with their public names."""

    def __init__(self, db: Database, scan: Scan) -> None:
        self.modules = {row[0]: ImportedModule(*row) for row in db.execute_sql(MODULES, (scan.id,)).fetchall()}
        self.symbols: dict[str, list[Definition]] = {}
        self.everywhere: dict[tuple[str, str], list[Definition]] = {}  # by file, for files that are no modules
        for row in db.execute_sql(ALL, (scan.id,)).fetchall():
            symbol = Definition(*row)
            if symbol.halves:
                self.symbols.setdefault(symbol.qualified, []).append(symbol)
            elif symbol.kind != "module":
                self.everywhere.setdefault((symbol.path, symbol.qualified), []).append(symbol)
        self._exports: dict[str, list[str] | None] = {}

    def exports(self, module: str) -> list[str] | None:
        """Return the literal ``__all__`` of a module, or None."""
        if module not in self._exports:
            found = self.symbols.get(f"{module}.__all__", [])
            names = found[0].facts.get("value") if len(found) == 1 else None
            self._exports[module] = [str(each) for each in names] if isinstance(names, list) else None
        return self._exports[module]

    def definitions(self, place: Place) -> list[Definition]:
        """Return the symbols with this name, which are several for overloads and properties."""
        module = self.modules.get(place[0])
        found = self.symbols.get(f"{place[0]}.{place[1]}" if place[1] else place[0], [])
        return [each for each in found if module is None or each.path == module.path]

    # -- following names -------------------------------------------------------------------------------------------

    def find(self, module: str, name: str, depth: int = 0) -> tuple[bool, Place | None]:
        """Return whether a module has a name, and its definition if that is in the tree."""
        known = self.modules.get(module)
        if known is None or depth > DEEPEST:
            return True, None
        entry = known.names.get(name)
        if entry is not None:
            if entry[0] != "i":
                return True, (module, name)
            return True, self._follow(entry[2], depth + 1)
        if f"{module}.{name}" in self.modules:
            return True, (f"{module}.{name}", "")
        for star in reversed(known.stars):
            if star not in self.modules:
                return True, None  # the name may come from outside the tree
            exported = self.exports(star)
            if name in exported if exported is not None else not name.startswith("_"):
                found, place = self.find(star, name, depth + 1)
                if found:
                    return True, place
        return False, None

    def _follow(self, path: object, depth: int) -> Place | None:
        if not isinstance(path, str) or depth > DEEPEST:
            return None
        module, colon, rest = path.lstrip("?=").partition(":")
        steps = rest.split(".")[1:]
        if not colon or module not in self.modules or (rest and not rest.startswith(".")):
            return None
        place: Place | None = (module, "")
        for step in steps:
            if place is None or not step.isidentifier():
                return None
            if place[1]:
                place = self.member(place, step)
            else:
                place = self.find(place[0], step, depth + 1)[1]
        return place

    def ancestors(self, place: Place) -> tuple[list[Place], set[str], bool]:
        """Return a class and its ancestors, the names of all its ancestors, and whether some lie outside the tree."""
        found, names, outside = [place], set(), False
        for each in found:
            module = self.modules.get(each[0])
            entry = module.names.get(each[1]) if module is not None else None
            if entry is None or entry[0] != "c":
                continue
            for path in entry[2]:
                if str(path).startswith("@"):
                    continue  # a metaclass
                names.add(str(path).rpartition(".")[2])
                base = self._follow(path, 0)
                outside = outside or base is None
                if base is not None and base not in found and len(found) < 1000:
                    found.append(base)
            for symbol in self.definitions(each):
                names.update(last_name(str(base)) for base in symbol.facts.get("bases") or ())
        return found, names, outside

    def member(self, place: Place, name: str) -> Place | None:
        """Return the definition of a name in a class or its ancestors."""
        for module, qualified in self.ancestors(place)[0]:
            known = self.modules.get(module)
            if known is not None and f"{qualified}.{name}" in known.names:
                return module, f"{qualified}.{name}"
        return None

    def is_class(self, place: Place) -> bool:
        module = self.modules.get(place[0])
        entry = module.names.get(place[1]) if module is not None else None
        return entry is not None and entry[0] == "c"

    # -- public names ----------------------------------------------------------------------------------------------

    def public(self) -> Iterator[tuple[Place, Place]]:
        """Yield ``(module, name)`` of each public name, and the place of its definition; a class before its members."""
        for name in sorted(self.modules):
            if not all(not part.startswith("_") for part in name.split(".")):
                continue
            yield (name, ""), (name, "")
            for each in self._names_of(self.modules[name]):
                place = self.find(name, each)[1]
                if place is not None and place[1] and self._publishes(name, each, place):
                    yield from self._with_members((name, each), place, 0)

    def _publishes(self, module: str, name: str, place: Place) -> bool:
        """Whether a name of a module is public: not if it is only imported there from elsewhere."""
        inside = place[0] == module or place[0].startswith(module + ".")
        return inside or self.exports(module) is not None

    def _names_of(self, module: ImportedModule) -> Sequence[str]:
        exported = self.exports(module.name)
        if exported is not None:
            return list(dict.fromkeys(exported))
        found = [
            name for name in module.members("")
            if not name.startswith("_") and (module.names[name][0] != "i" or module.is_package)
        ]  # fmt: skip
        if module.is_package:
            sources = list(module.stars)
            for star in sources:  # grows by the star imports of these modules
                source, other = self.modules.get(star), self.exports(star)
                if source is None or source is module:
                    continue
                found += [n for n in source.members("") if not n.startswith("_")] if other is None else other
                if other is None:
                    sources += [each for each in source.stars if each not in sources]
        return list(dict.fromkeys(found))

    def _with_members(self, shown: Place, place: Place, depth: int) -> Iterator[tuple[Place, Place]]:
        yield shown, place
        if depth > 5 or not self.is_class(place):
            return
        seen: set[str] = set()
        for module, qualified in self.ancestors(place)[0]:
            known = self.modules.get(module)
            for name in known.members(qualified) if known is not None else ():
                if name not in seen and is_public_name(name):
                    seen.add(name)
                    inner = (shown[0], f"{shown[1]}.{name}")
                    yield from self._with_members(inner, (module, f"{qualified}.{name}"), depth + 1)


def last_name(base: str) -> str:
    """Return the last name of a base class as written, without its brackets."""
    return base.partition("[")[0].rpartition(".")[2]
