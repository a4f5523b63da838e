"""The protocol of an indexer, and the format of its result.

An indexer reads one file and returns its facts. It never sees another file: :mod:`scanstore.snapshots.resolver`
resolves names across files later, for each snapshot.

Shape of :class:`FileFacts`, kept to tuples of plain values so that it crosses a process boundary cheaply:

``strings``
    every text the rows below use, once; rows hold positions in it.
``symbols``
    ``(name, qualified_name, type, start_line, end_line, metadata_json | None, body_hash | None)``; a symbol's ordinal
    is its place in the list. ``name`` and ``qualified_name`` are positions in ``strings``; ``type`` is one of
    :data:`SYMBOL_TYPES`; ``body_hash`` is :func:`scanstore.indexing.chunking.body_hash` of its lines.
``references``
    ``(line, from_ordinal, type, written, path | None, ordinal | None, resolution, confidence)``; ``written`` is the
    text in the source. Either ``ordinal`` names the target in this same file, or ``path`` spells the target for the
    resolver (see :mod:`scanstore.snapshots.resolver`), or neither is known. ``confidence`` is a percentage.
``imports``
    ``(line, module_as_written, names_json, path | None)``.
``chunks``
    ``(type, symbol_name | None, start_line, end_line, content_hash_bytes)``.
``interface``
    compressed JSON: what other files can see of this one (:func:`pack_interface`).
``mentions``
    names of attributes of unknown values, and in texts that are no code, compressed (:func:`pack_words`).
"""

from __future__ import annotations

import builtins
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from scanstore.db.words import ReferenceType, Resolution, SymbolType

SYMBOL_TYPES: tuple[SymbolType, ...] = ("module", "class", "function", "method", "variable")
REFERENCE_TYPES: tuple[ReferenceType, ...] = ("call", "import", "inherit", "use")
RESOLUTIONS: tuple[Resolution, ...] = ("unresolved", "external", "guessed", "inherited", "imported", "exact")
#: Used instead of an indexer's name for a file without an indexer.
TEXT = "text/1"
CHUNK_TYPES = ("function", "class", "full_file")
BUILTINS = frozenset(dir(builtins))
#: Builtins that return strings, numbers or files, whose methods lead to nothing else.
PLAIN_BUILTINS = frozenset(
    "str bytes bytearray memoryview int float complex bool range ascii bin chr format hash hex id input len oct open"
    " ord repr callable isinstance issubclass print".split()
)
#: The other builtin classes, and the type of a lambda. A ``type(x)`` or ``super()`` may be a class of the tree.
BUILTIN_CLASSES = frozenset(n for n in dir(builtins) if isinstance(getattr(builtins, n), type)).union(
    ("function",)
) - PLAIN_BUILTINS - {"type", "super", "object"}
#: The largest number of a line.
LARGEST_LINE = 2**31

#: Positions in the tuples above, for code that writes many of them.
UNRESOLVED, EXTERNAL, GUESSED, INHERITED, IMPORTED, EXACT = range(6)


SymbolRow = tuple[int, int, str, int, int, str | None, int | None]
ReferenceRow = tuple[int, int | None, str, int, int | None, int | None, int, int]
ImportRow = tuple[int, int, str, int | None]
ChunkRow = tuple[str, int | None, int, int, bytes | str]


class FileFacts(NamedTuple):
    """The facts of one file; see the module docstring for the rows."""

    error: str | None = None
    line_count: int = 0
    strings: Sequence[str] = ()
    symbols: Sequence[SymbolRow] = ()
    references: Sequence[ReferenceRow] = ()
    imports: Sequence[ImportRow] = ()
    chunks: Sequence[ChunkRow] = ()
    interface: bytes | None = None
    mentions: bytes | None = None


class Indexer(Protocol):
    """The protocol of an indexer: a name with a version, the file endings, and one function.

    ``index`` gets the whole content of one file and returns its facts. It must be a pure function of its
    arguments; it may raise, in which case the file is recorded with the error and one ``full_file`` chunk.
    ``module`` is the dotted name under which other files import this one ("" where that makes no sense).
    """

    @property
    def name(self) -> str:
        """Part of the key of a file version, such as ``python/2``. Change it whenever the facts change."""

    @property
    def endings(self) -> tuple[str, ...]: ...

    def index(self, content: bytes, *, path: str, module: str) -> FileFacts: ...


def pack_interface(interface: dict[str, object]) -> bytes:
    return zlib.compress(json.dumps(interface, ensure_ascii=True, separators=(",", ":")).encode(), 1)


def interface_text(blob: bytes) -> str:
    """Return the JSON of a packed interface: ``{"names": {qualified name: entry}, "stars": [path]}``."""
    return zlib.decompress(blob).decode("ascii")


def pack_words(words: Iterable[str]) -> bytes:
    return zlib.compress(" ".join(sorted(words)).encode("utf-8", "replace"), 1)


def unpack_words(blob: bytes) -> list[str]:
    return zlib.decompress(blob).decode().split(" ")


MOST_TEXT = 1 << 26


class Strings:
    """A growing list of distinct texts. Calling it with a text returns its index in the list.

    Raises MemoryError beyond :data:`MOST_TEXT` characters. Without the limit, a few megabytes of source with nested
    names, such as a class with a long name and many methods, would grow to terabytes.
    """

    __slots__ = ("places", "room")

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.room = MOST_TEXT

    def __call__(self, text: str) -> int:
        places = self.places
        place = places.get(text)
        if place is None:
            self.room -= len(text)
            if self.room < 0:
                raise MemoryError("the names of this file hold too much text")
            place = places[text] = len(places)
        return place

    def list(self) -> list[str]:
        return list(self.places)
