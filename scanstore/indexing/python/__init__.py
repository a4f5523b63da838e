"""The indexer for Python: ``indexer`` walks the syntax tree, ``scopes`` bind names, ``source`` decodes, ``annotations``
reads type annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.indexing.python.indexer import PythonIndexer
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"indexer": ("PythonIndexer",)},
    )

__all__ = ["PythonIndexer"]
