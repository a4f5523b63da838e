"""SARIF: load reports of other tools, and write findings for them.

``format`` reads and writes the files, without a database. ``sarif`` loads results into a store, ``exporting`` writes a
scan, ``mapping`` has the code that both share, ``sources`` reads the source files, ``repeats`` recognises repeated
reports.
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
