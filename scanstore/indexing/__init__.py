"""Indexing: read a folder and extract the symbols, references, imports and chunks of each file. No database.

``facts`` has the protocol of an indexer, ``python`` the built-in indexer, ``languages`` the file endings. ``walk``
finds the files, ``pool`` and ``worker`` run indexers in processes, ``records`` checks facts that a caller passes,
``ctags`` reads Universal Ctags. To add a language, add an indexer beside ``python`` and an entry in ``languages``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanstore.db.exports import lazy

if TYPE_CHECKING:
    from scanstore.indexing.ctags import Broken, CtagsTag
    from scanstore.indexing.facts import FileFacts, Indexer
    from scanstore.indexing.languages import Gap, Language
    from scanstore.indexing.records import facts_of
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "ctags": ("Broken", "CtagsTag"),
            "facts": ("FileFacts", "Indexer"),
            "languages": ("Gap", "Language"),
            "records": ("facts_of",),
        },
    )

__all__ = ["Broken", "FileFacts", "Gap", "Indexer", "Language", "CtagsTag", "facts_of"]
