"""Queries about symbols: find, callers, callees, impact, imports, unused symbols, differences, and graphs.

``symbols`` has the public methods, and ``following`` those that follow references: ``reach`` searches the statements of
``graph``, ``overrides`` and ``tests_of`` know classes and tests. ``cycles`` finds circular imports, ``unused`` and
``frameworks`` what nothing uses. ``renames`` and ``spellings`` find what a rename changes. ``comparison`` finds the
changes between two scans, ``breaking`` those that importers notice; ``choosing`` and ``public`` filter them. ``export``
and ``graph_formats`` draw graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.symbols.breaking import Breakage
    from scanstore.symbols.comparison import SymbolChange, SymbolDiff, SymbolPlace
    from scanstore.symbols.cycles import ImportCycle
    from scanstore.symbols.graph import Edge, Reached
    from scanstore.symbols.renames import RenamePlace
    from scanstore.symbols.symbols import Symbols
    from scanstore.symbols.tests_of import ReachingTest
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "breaking": ("Breakage",),
            "comparison": ("SymbolChange", "SymbolDiff", "SymbolPlace"),
            "cycles": ("ImportCycle",),
            "graph": ("Edge", "Reached"),
            "renames": ("RenamePlace",),
            "symbols": ("Symbols",),
            "tests_of": ("ReachingTest",),
        },
    )

__all__ = [
    "Breakage",
    "Edge",
    "ImportCycle",
    "Reached",
    "ReachingTest",
    "RenamePlace",
    "SymbolChange",
    "SymbolDiff",
    "SymbolPlace",
    "Symbols",
]
