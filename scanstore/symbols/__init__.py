"""Queries about symbols: find, callers, callees, impact, imports, unused symbols, differences, and graphs.

``symbols`` has the public methods, ``graph`` follows references, ``export`` and ``graph_formats`` draw graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.symbols.graph import Edge, Reached
    from scanstore.symbols.symbols import SymbolChange, SymbolDiff, SymbolPlace, Symbols
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"graph": ("Edge", "Reached"), "symbols": ("SymbolChange", "SymbolDiff", "SymbolPlace", "Symbols")},
    )

__all__ = ["Edge", "Reached", "SymbolChange", "SymbolDiff", "SymbolPlace", "Symbols"]
