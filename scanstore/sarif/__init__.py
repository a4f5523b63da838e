"""SARIF: reports of other tools are loaded, and findings are written for them.

``format`` reads and writes the files and knows no database. ``sarif`` loads results into a store, ``exporting`` writes
a scan, ``mapping`` is what both have in common, ``sources`` compares with the files, ``repeats`` recognises a report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.sarif.exporting import Dumped
    from scanstore.sarif.sarif import ImportResult, Sarif
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"exporting": ("Dumped",), "sarif": ("ImportResult", "Sarif")},
    )

__all__ = ["Dumped", "ImportResult", "Sarif"]
