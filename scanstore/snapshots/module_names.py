"""The attributes of modules: own names, star imports, and names that are followed to their definition."""

from __future__ import annotations

from typing import Protocol

from scanstore.indexing.facts import BUILTINS
from scanstore.snapshots.interfaces import EXTERNAL, UNKNOWN, Found, Module, Value, builtin, is_external


class Evaluator(Protocol):
    """The part of a resolver that looks up the names of modules."""

    modules: dict[str, Module]
    packages: set[str]
    cyclic: bool

    def evaluate(self, path: str) -> Found: ...

    def entry(self, module: str, qual: str, receiver: Value, follow: bool = True) -> Found: ...


class ModuleNames:
    """Looks up the names of modules for a resolver."""

    def __init__(self, resolver: Evaluator) -> None:
        self.resolver = resolver
        self.definitions: dict[tuple[str, str], Found] = {}

    def attribute(self, module: str, name: str) -> Found:
        known = self.resolver.modules.get(module)
        if known is None or name in known.names or f"{module}.{name}" in self.resolver.packages:
            return self.own(module, name, known, True) or UNKNOWN
        outside = False
        for star in reversed(known.stars):
            base = self.resolver.evaluate(star)[0]
            if base is None or base[0] != "m":
                outside = outside or is_external(base)
                continue
            if name.startswith("_"):
                continue
            found = self.resolver.evaluate(f"{star}.{name}")
            if found[0] is not None and not is_external(found[0]):
                return found
        return (EXTERNAL if outside else builtin(name) if name in BUILTINS else None), False, False

    def own(self, module: str, name: str, known: Module | None, follow: bool) -> Found | None:
        """Return the attribute of a module from its own interface, or None if only its star imports can define it."""
        dotted = f"{module}.{name}"
        line = known.names.get(name) if known is not None else None
        if line is None:
            return (("m", dotted), False, False) if dotted in self.resolver.packages else None
        if line[0] == "i" and line[2] == f"{module}:.{name}" and dotted in self.resolver.packages:
            return ("m", dotted), False, False
        return self.resolver.entry(module, name, None, follow)

    def not_followed(self, module: str, name: str) -> Found:
        """Like :meth:`attribute`, but a variable is not followed to its value."""
        outside, seen, rest = False, set(), [module]
        while rest:
            place = rest.pop()
            if place in seen:
                continue
            seen.add(place)
            known = self.resolver.modules.get(place)
            found = self.own(place, name, known, False)
            if found is not None and (place == module or (found[0] is not None and not is_external(found[0]))):
                return found
            if found is not None or known is None:
                continue
            for star in known.stars:
                base = self.resolver.evaluate(star)[0]
                if base is not None and base[0] == "m":
                    if not name.startswith("_"):
                        rest.append(base[1])
                elif place == module:
                    outside = outside or is_external(base)
        external = module in self.resolver.modules and (outside or name in BUILTINS)
        return (EXTERNAL if external else None), False, False

    def defined(self, module: str, name: str) -> Found | None:
        """Follow a module's attribute along imports to its definition. Return None for circular imports."""
        trail: dict[tuple[str, str], bool] = {}  # whether the step from this attribute is a guess
        found: Found | None = None
        while (module, name) not in trail:
            found = self.definitions.get((module, name))
            if found is not None:
                break
            trail[module, name] = False
            known = self.resolver.modules.get(module)
            line = known.names.get(name) if known is not None else None
            if line is None or line[0] != "i" or not line[2]:
                found = self.not_followed(module, name)
                break
            onward = line[2].lstrip("?")
            trail[module, name] = onward != line[2]
            if onward.endswith(":"):
                found = self.resolver.evaluate(onward)
                break
            onward, _, name_there = onward.rpartition(".")
            there, _, also = self.resolver.evaluate(onward) if onward else UNKNOWN
            if there is None or there[0] != "m":
                break
            trail[module, name] = also or trail[module, name]
            module, name = there[1], name_there
        if found is None:
            return None
        for place in reversed(trail):
            found = found[0], found[1], found[2] or trail[place]
            if not self.resolver.cyclic:
                self.definitions[place] = found
        return found
