"""Validation and normalisation of facts that a caller's own parser provides.

A row is a dict, or any object with these attributes. Other keys are refused, so that a typing error is reported.

=========== ==========================================================================================
symbol      ``name``; optional ``qualified_name`` (default: name), ``symbol_type`` (default: function),
            ``start_line`` (1), ``end_line`` (start_line), ``metadata`` (JSON), ``text`` (its source,
            to tell changed from moved in a diff), ``path`` and ``file_path`` (ignored)
reference   ``name`` as written, ``line``; optional ``reference_type`` (call), ``from_symbol`` (qualified
            name of a symbol of this file), ``target`` (qualified name of the symbol meant)
import      ``module``; optional ``names`` (list of text), ``line``, ``target`` (qualified name of a module
            symbol of the tree)
chunk       ``start_line``, ``end_line``; optional ``chunk_type`` (full_file), ``symbol_name``,
            ``content_hash`` or ``text``
=========== ==========================================================================================

A reference to a symbol in the same file is resolved immediately. Other references are resolved when the scan is
finished: to the only symbol with that qualified name (``imported``), to the first of several (``guessed``), or to none
(``unresolved``).
"""

from __future__ import annotations

from collections.abc import Iterable

from scanstore.db.values import dump_json, pack_hash
from scanstore.errors import InvalidArgument, shown
from scanstore.indexing.chunking import body_hash, content_hash
from scanstore.indexing.facts import (
    CHUNK_TYPES,
    EXACT,
    LARGEST_LINE,
    REFERENCE_TYPES,
    SYMBOL_TYPES,
    UNRESOLVED,
    ChunkRow,
    FileFacts,
    ImportRow,
    ReferenceRow,
    Strings,
    SymbolRow,
)

_FIELDS = {
    "symbol": frozenset("name qualified_name symbol_type start_line end_line metadata text path file_path".split()),
    "reference": frozenset("name line reference_type from_symbol target".split()),
    "import": frozenset("module names line target".split()),
    "chunk": frozenset("start_line end_line chunk_type symbol_name content_hash text".split()),
}


class _Row:
    """One passed row, with checked access to its fields. Errors name the row."""

    def __init__(self, what: str, number: int, given: object) -> None:
        self.label = f"{what} {number}"
        allowed = _FIELDS[what]
        if isinstance(given, dict):
            unknown = sorted(str(key) for key in given if key not in allowed)
            if unknown:
                raise InvalidArgument(
                    f"{self.label} has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(allowed))}"
                )
            self.values = given
        else:
            self.values = {key: getattr(given, key) for key in allowed if hasattr(given, key)}
            if not self.values:
                raise InvalidArgument(f"{self.label} is {shown(given)}; give a dict or an object with its fields")

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InvalidArgument(f"{key} of {self.label} is {value!r}; it must be text")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(f"{key} of {self.label} is not valid Unicode: {value!r}") from None
        return value

    def needed(self, key: str) -> str:
        value = self.text(key)
        if not value:
            raise InvalidArgument(f"{self.label} has no {key}")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < LARGEST_LINE:
            raise InvalidArgument(f"{key} of {self.label} is {value!r}; lines count from 1")
        return value

    def one_of(self, key: str, words: tuple[str, ...], default: str) -> str:
        value = self.text(key, default) or default
        if value.lower() not in words:
            raise InvalidArgument(f"{key} of {self.label} is {value!r}; it must be one of: {', '.join(words)}")
        return value.lower()

    def lines(self) -> tuple[int, int]:
        start = self.number("start_line", 1)
        end = self.number("end_line", start)
        if end < start:
            raise InvalidArgument(f"{self.label} ends on line {end}, before it starts on line {start}")
        return start, end


def facts_of(
    symbols: Iterable[object] = (),
    references: Iterable[object] = (),
    imports: Iterable[object] = (),
    chunks: Iterable[object] = (),
    *,
    line_count: int = 0,
) -> FileFacts:
    """Return the facts of one file from rows as ``store.symbols.record_file`` takes them, for an indexer of your own.

    The module docstring describes the rows. ``line_count`` is the number of lines of the file. Raises InvalidArgument,
    which names the first bad row.
    """
    for what, rows in (("symbols", symbols), ("references", references), ("imports", imports), ("chunks", chunks)):
        if isinstance(rows, (str, bytes, dict)) or not isinstance(rows, Iterable):
            raise InvalidArgument(f"{what} are {shown(rows)}; give rows, in a list or any other iterable")
    strings = Strings()
    ordinals: dict[str, int] = {}
    out_symbols: list[SymbolRow] = []
    last = line_count
    for n, given in enumerate(symbols):
        row = _Row("symbol", n, given)
        name = row.needed("name")
        qualified = row.text("qualified_name") or name
        start, end = row.lines()
        metadata = row.values.get("metadata")
        text = row.text("text")
        packed = dump_json(metadata) if metadata is not None else None
        body = body_hash(text.split("\n")) if text is not None else None
        kind = row.one_of("symbol_type", SYMBOL_TYPES, "function")
        ordinals.setdefault(qualified, n)
        last = max(last, end)
        out_symbols.append((strings(name), strings(qualified), kind, start, end, packed, body))
    out_references: list[ReferenceRow] = []
    for n, given in enumerate(references):
        row = _Row("reference", n, given)
        written, line = strings(row.needed("name")), row.number("line")
        kind = row.one_of("reference_type", REFERENCE_TYPES, "call")
        origin_name, target = row.text("from_symbol"), row.text("target")
        origin = None
        if origin_name is not None:
            origin = ordinals.get(origin_name)
            if origin is None:
                raise InvalidArgument(f"from_symbol of {row.label} is {origin_name!r}, which is no symbol of this file")
        if target is not None and target in ordinals:
            out_references.append((line, origin, kind, written, None, ordinals[target], EXACT, 100))
        else:
            path = strings("#" + target) if target else None
            out_references.append((line, origin, kind, written, path, None, UNRESOLVED, 0))
    out_imports: list[ImportRow] = []
    for n, given in enumerate(imports):
        row = _Row("import", n, given)
        names = row.values.get("names") or []
        if isinstance(names, str) or not isinstance(names, Iterable) or not all(isinstance(n, str) for n in names):
            raise InvalidArgument(f"names of {row.label} are {names!r}; give a list of text")
        target = row.text("target")
        path = strings("#" + target) if target else None
        out_imports.append((row.number("line", 1), strings(row.needed("module")), dump_json(list(names)), path))
    out_chunks: list[ChunkRow] = []
    for n, given in enumerate(chunks):
        row = _Row("chunk", n, given)
        start, end = row.lines()
        text, digest = row.text("text"), row.values.get("content_hash")
        if digest is None:
            if text is None:
                raise InvalidArgument(f"{row.label} needs its content_hash or its text")
            digest = content_hash(text.encode())
        label = row.text("symbol_name")
        kind = row.one_of("chunk_type", CHUNK_TYPES, "full_file")
        last = max(last, end)
        out_chunks.append((kind, None if label is None else strings(label), start, end, pack_hash(digest)))
    return FileFacts(
        line_count=last,
        strings=strings.list(),
        symbols=out_symbols,
        references=out_references,
        imports=out_imports,
        chunks=out_chunks,
    )
