"""Queries about symbols: find, callers, callees, impact, imports, unused symbols, differences, and graphs.

``symbols`` has the public methods, ``graph`` follows references, ``comparison`` finds the changes between two scans,
``breaking`` those that importers notice, ``export`` and ``graph_formats`` draw graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.symbols.breaking import Breakage
    from scanstore.symbols.comparison import SymbolChange, SymbolDiff, SymbolPlace
    from scanstore.symbols.graph import Edge, Reached
    from scanstore.symbols.symbols import Symbols
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "breaking": ("Breakage",),
            "comparison": ("SymbolChange", "SymbolDiff", "SymbolPlace"),
            "graph": ("Edge", "Reached"),
            "symbols": ("Symbols",),
        },
    )

__all__ = ["Breakage", "Edge", "Reached", "SymbolChange", "SymbolDiff", "SymbolPlace", "Symbols"]
