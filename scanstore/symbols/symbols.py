"""Symbols and the references between them: record them by hand, and query them by name or by reference.

Every query takes ``scan=`` or ``target=`` (its latest completed scan) and returns detached rows. In a store with
several targets, a query without either raises Ambiguous. Pass a symbol as a :class:`Symbol`, an object with its ``id``,
the id, or its qualified name; a row or an id determines the scan. An empty result proves absence only for languages
whose facts are recorded: ``coverage`` lists these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from scanstore.db.arguments import check_choice, check_integer, check_list, check_string, check_text, stored_path
from scanstore.db.domain import List, long, reads
from scanstore.db.pagination import check_window, listed, windowed
from scanstore.db.rows import Rows
from scanstore.db.values import format_time, pack_hash, utcnow
from scanstore.db.view_keys import join, split
from scanstore.errors import Ambiguous, InvalidArgument, NotFound, shown
from scanstore.indexing.facts import REFERENCE_TYPES
from scanstore.indexing.languages import SYMBOLS as OF_SYMBOLS
from scanstore.indexing.languages import Language, coverage, gap
from scanstore.indexing.records import facts_of
from scanstore.snapshots.figures import groups
from scanstore.snapshots.freshness import place_of
from scanstore.snapshots.models import Scan, ScanFile
from scanstore.snapshots.names import trigrams
from scanstore.snapshots.recorder import Content
from scanstore.snapshots.resolution import lookup
from scanstore.snapshots.scans import Scans, pick
from scanstore.symbols.breaking import Breakage, breakages
from scanstore.symbols.choosing import CHANGES, chooser
from scanstore.symbols.comparison import SymbolDiff, compared
from scanstore.symbols.cycles import CYCLE_KINDS, ImportCycle, import_cycles
from scanstore.symbols.following import Following
from scanstore.symbols.graph import (
    CONTAINS,
    FIND,
    SYMBOLS,
    TRUSTED,
    Edge,
    Graph,
)
from scanstore.symbols.models import ImportRelation, Symbol, SymbolLike, SymbolReference
from scanstore.symbols.reach import same_symbol
from scanstore.symbols.renames import RenamePlace, places
from scanstore.symbols.unused import unreferenced

if TYPE_CHECKING:
    from scanstore.db.words import (
        CycleKind,
        GraphDirection,
        GraphFormat,
        NameMatch,
        ReferenceType,
        SymbolChangeFilter,
        SymbolType,
    )
    from scanstore.snapshots.ctags_import import LoadedTags

# A row of ONLY_HERE: qualified name, kind, file, line, hash of the text, name, index among symbols with the same name


class Symbols(Following):
    """Symbols of a scan, and the references between them."""

    # -- writing ---------------------------------------------------------------------------------------------------

    def record_file(
        self,
        scan: Scan | int,
        path: str,
        content_hash: str | bytes,
        *,
        symbols: Iterable[object] = (),
        references: Iterable[object] = (),
        imports: Iterable[object] = (),
        chunks: Iterable[object] = (),
        indexer: str = "custom/1",
        line_count: int = 0,
    ) -> ScanFile:
        """Record the facts that your own parser found in one file; see :mod:`scanstore.indexing.records` for the
        fields.

        Rows are dicts or objects with these attributes, in any iterable. Atomic and idempotent: if the same path,
        content hash and ``indexer`` were recorded before, the stored facts are used and the given rows are not read.
        Raises InvalidArgument, which names the invalid row, and then writes nothing.
        """
        if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/"):
            raise InvalidArgument(
                f"{shown(path)} is not a path inside the tree; give it relative to the root, with '/'"
            )
        if not content_hash:
            raise InvalidArgument(f"{path} needs a content hash: it tells one version of the file from the next")
        recorder = Scans(self.db).recorder(scan)
        line_count = check_integer(line_count, "line_count")
        path = stored_path(path, "path")
        content = Content(path, pack_hash(content_hash), check_text(indexer, "indexer"))
        now = format_time(utcnow())
        if not recorder.attach([(content, now)])[0]:
            facts = facts_of(symbols, references, imports, chunks, line_count=line_count)
            recorder.record([(content, 0, facts)], now)
        return ScanFile.get(ScanFile.scan == recorder.scan_id, ScanFile.file_path == path)

    @long
    def load_ctags(self, scan: Scan | int, file: str | os.PathLike[str] | BinaryIO) -> LoadedTags:
        """Add the symbols of a universal-ctags JSON file (``ctags --output-format=json --fields='*' -R``) to a scan.

        Files with symbols keep them; skipped files stay skipped. Invalid lines are reported and do not stop the import.
        Finish the scan afterwards, or do both with ``store.scans.record(path, ctags=file)``. Raises NotFound for a
        missing file, InvalidArgument for another format. Nothing is written then.
        """
        from scanstore.snapshots.ctags_import import Tags  # start-up: only with a tags file

        row = Scans(self.db).get(scan)
        return Tags(file, row.root).record_into(self.db, Scans(self.db).recorder(row), root=row.root)

    @reads
    def find(
        self,
        name: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        match: NameMatch = "exact",
        symbol_type: SymbolType | None = None,
        file: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Symbol]:
        """Find symbols by name. The list is empty if none matches, or if the store has no scan.

        ``match`` is ``exact`` (name, qualified name, or the name by which code imports it: ``json.JSONEncoder`` finds
        ``json.encoder.JSONEncoder``), ``prefix`` (of name or qualified name), or ``contains`` (anywhere in the
        qualified name, case-insensitive). Classes and functions come before variables and modules.
        """
        if match not in ("exact", "prefix", "contains"):
            raise InvalidArgument(f"match is {shown(match)}; it must be one of: exact, prefix, contains")
        if not check_string(name, "name"):
            raise InvalidArgument("a name to find is needed; store.symbols.list() gives all symbols of a scan")
        check_window(limit, offset)
        kind = Symbol.symbol_type.db_value(symbol_type)
        file = None if file is None else stored_path(file, "file")
        try:
            row = pick(self.db, scan, target)
        except NotFound:
            if scan is None and target is None:
                return Rows(kind=Symbol)
            raise
        parts = trigrams(name) if match == "contains" else None
        values = (name, row.id, kind, file, -1 if limit is None else limit, offset)
        sql, more = (FIND[match], ()) if parts is None else (CONTAINS, (parts,))
        ids = [key for (key,) in self.db.execute_sql(sql, (*values, *more)).fetchall()]
        if not ids and not offset and limit != 0 and match == "exact" and "." in name:
            ids = windowed(self._imported_as(name, row.id), limit, offset)
        return self._rows(ids)

    def _imported_as(self, name: str, scan: int) -> List[int]:
        """Return the target of a dotted name through the imports of the scan's files."""
        target = lookup(self.db, scan, name)
        if target is None or target.ordinal is None:
            return []
        file_id = "SELECT id FROM scan_files WHERE scan_id = ? AND version_id = ?"
        return [f << 24 | target.ordinal for (f,) in self.db.execute_sql(file_id, (scan, target.version)).fetchall()]

    def _rows(self, ids: List[int]) -> Rows[Symbol]:
        """Return symbols by id, in the order of the ids."""
        return Rows(Symbol.raw(SYMBOLS, str(ids)), Symbol)

    @reads
    def get(self, symbol: SymbolLike, *, scan: Scan | int | None = None, target: str | None = None) -> Symbol:
        """Return the symbol for an id, a qualified or plain name, or a row with an ``id``.

        Raises NotFound, and Ambiguous (with ``candidates``) if a name matches several symbols.
        """
        scan = self._given(scan, target)
        if isinstance(symbol, Symbol) and (scan is None or symbol.scan_id == Scans(self.db).get(scan).id):
            return symbol
        if isinstance(symbol, str):
            found = self.find(symbol, scan=scan)
            precise = [s for s in found if s.qualified_name == symbol] or found
            places = {(s.qualified_name, s.file_path) for s in precise}
            if len(places) > 1:
                some = ", ".join(sorted(f"{name} ({path})" for name, path in places)[:5])
                message = f"{len(places)} symbols are called {symbol!r}: {some}; give one's qualified name or id"
                raise Ambiguous(message, precise)
            if not precise:
                where = pick(self.db, scan)
                hint = f"try: scanstore symbols find {symbol.rpartition('.')[2]} --contains"
                unseen = gap(coverage(groups(self.db, where.id)), OF_SYMBOLS)
                raise NotFound(unseen.after(f"no symbol {symbol!r} in scan {where.id}; {hint}"))
            alike = [s for s in precise if s.symbol_type == precise[0].symbol_type]
            return ([s for s in alike if not _sets(s)] or alike)[-1]  # the last definition counts, but not a setter
        key = symbol if isinstance(symbol, int) else getattr(symbol, "id", None)
        if not isinstance(key, int) or isinstance(key, bool):
            raise InvalidArgument(f"{shown(symbol)} is not a symbol; give a Symbol, its id or its qualified name")
        row = Symbol.get_or_none(Symbol.id == key)
        if row is None:
            raise NotFound(f"no symbol {shown(key)}; ids belong to a scan, and go with it when it is removed")
        if scan is not None and row.scan_id != Scans(self.db).get(scan).id:
            return self.get(row.qualified_name or row.name, scan=scan)
        return row

    def _given(self, scan: Scan | int | None, target: str | None) -> Scan | None:
        """Return the requested scan, or None without a scan and a target."""
        return None if scan is None and target is None else pick(self.db, scan, target)

    @reads
    def list(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        file: str | None = None,
        symbol_type: SymbolType | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[Symbol]:
        """List all symbols of a scan, or of one of its files, by file and line."""
        check_window(limit, offset)
        query = Symbol.select().where(Symbol.scan == pick(self.db, scan, target))
        if file is not None:
            query = query.where(Symbol.file_path == stored_path(file, "file"))
        if symbol_type is not None:
            query = query.where(Symbol.symbol_type == Symbol.symbol_type.db_value(symbol_type))
        return listed(query.order_by(Symbol.file_path, Symbol.ordinal), limit=limit, offset=offset, sort=sort)

    # -- by reference ----------------------------------------------------------------------------------------------

    def _graph(self, scan: Scan | int | None, target: str | None) -> Graph:
        """Return the graph of the scan that a query reads."""
        return Graph.of(self.db, pick(self.db, scan, target))

    def _at(self, symbol: SymbolLike, scan: Scan | int | None, target: str | None) -> tuple[Symbol, int, Graph]:
        """Return a symbol, its file version, and the graph of its scan."""
        row = self.get(symbol, scan=scan, target=target)
        place = self.db.execute_sql(PLACE, (split(row.id)[0],)).fetchone()
        if place is None:
            raise NotFound(f"{row!r} went with its scan; find it again in another one")
        return row, place[0], Graph(self.db, *place[1:])

    @reads
    def references(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        reference_type: ReferenceType | None = None,
        guesses: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[SymbolReference]:
        """List every reference to a symbol, by file and line. ``guesses=False`` leaves out guesses.

        Several definitions of one name in a file count as one symbol, such as the signatures of an overloaded function.
        """
        check_window(limit, offset)
        kind = SymbolReference.reference_type.db_value(reference_type)
        row, version, graph = self._at(symbol, scan, target)
        file_id, ordinal = split(row.id)
        group = [(version, ordinal), *(node for node, _ in same_symbol(graph, [(version, ordinal)]))]
        everything = {
            reference.id: reference
            for _, each in sorted(group, reverse=True)
            for reference in SymbolReference.raw(graph.references(), join(file_id, each), version, each)
        }
        found = [
            reference
            for reference in everything.values()
            if (guesses or reference.resolution in TRUSTED) and kind in (None, reference.reference_type)
        ]
        found.sort(key=lambda r: (r.from_file, r.from_line, r.id))
        return Rows(windowed(found, limit, offset), SymbolReference)

    @reads
    def rename_preview(
        self,
        symbol: SymbolLike,
        new: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[RenamePlace]:
        """List the places that a rename of a symbol must change, then those that it may have to change.

        Nothing is changed. The first rows, with ``sure``, are the definitions, also those of overriding methods, and
        the trusted references that spell the name. The others are guesses, unresolved references with the same last
        name, base classes outside the tree, and strings, comments and attributes of unknown objects. Text is read from
        the files of the tree that have not changed since the scan.

        Raises InvalidArgument if the new name is no identifier, a keyword, or used in a scope where it would replace
        the old one.
        """
        check_window(limit, offset)
        row, version, graph = self._at(symbol, scan, target)
        root = place_of(Scans(self.db).get(row.scan_id).root)
        found = places(graph, row, (version, split(row.id)[1]), new, root)
        return Rows(windowed(found, limit, offset), RenamePlace)

    @reads
    def edges(
        self, scan: Scan | int | None = None, *, target: str | None = None, reference_type: ReferenceType | None = None
    ) -> Iterator[Edge]:
        """Stream every reference of a scan, by file and line, with its target and resolution. One with several targets
        is given for each of them.
        """
        graph = self._graph(scan, target)
        kind = SymbolReference.reference_type.db_value(reference_type)
        yield from graph.edges(REFERENCE_TYPES if kind is None else (kind,))

    @reads
    def export(
        self,
        format: GraphFormat,
        *,
        root: SymbolLike | None = None,
        depth: int | None = 2,
        direction: GraphDirection = "callees",
        guesses: bool = False,
        imports: bool = False,
        scan: Scan | int | None = None,
        target: str | None = None,
    ) -> Iterator[str]:
        """Stream the call graph as lines of ``dot``, ``graphml`` or ``mermaid``: symbols that call or are called.

        ``root`` limits the graph to symbols up to ``depth`` calls away from it (None: any), in the ``direction``
        ``callers``, ``callees`` or ``both``, with all calls between them. With ``imports``, the graph shows which file
        imports which, and ``root`` is the path of a file. The same tree gives the same lines. Raises InvalidArgument
        and NotFound immediately.
        """
        scan = self._given(scan, target)
        from scanstore.symbols.export import export  # start-up: queries draw no graph
        return export(
            self, format, root=root, depth=depth, direction=direction, guesses=guesses, imports=imports, scan=scan
        )

    # -- imports ---------------------------------------------------------------------------------------------------

    @reads
    def imports(
        self,
        file: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ImportRelation]:
        """List the import statements of a file, by line. Raises NotFound for a file that the scan does not have."""
        check_window(limit, offset)
        row = self._file(file, scan, target)
        query = ImportRelation.select().where(ImportRelation.file == row).order_by(ImportRelation.ordinal)
        return listed(query, limit=limit, offset=offset, sort=sort)

    @reads
    def importers(
        self,
        file: str,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> List[str]:
        """List the files that import a file, sorted. Raises NotFound for a file that the scan does not have."""
        check_window(limit, offset)
        row = self._file(file, scan, target)
        found = self._graph(row.scan_id, None).importers(row.version_id)
        return windowed([path for path in found if path != row.file_path], limit, offset)

    @reads
    def import_cycles(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        only: CycleKind | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[ImportCycle]:
        """List groups of files that import each other, largest first, with the import that closes each cycle.

        The ``kind`` is ``runtime``; ``lazy`` if the cycle needs an import inside a function; ``typing`` if it needs one
        under ``if TYPE_CHECKING``. ``only`` gives the cycles of one kind.
        """
        check_window(limit, offset)
        if only not in (None, *CYCLE_KINDS):
            raise InvalidArgument(f"only is {shown(only)}; it must be one of: {', '.join(CYCLE_KINDS)}")
        found = [each for each in import_cycles(self._graph(scan, target)) if only in (None, each.kind)]
        return Rows(windowed(found, limit, offset), ImportCycle)

    @reads
    def unresolved_imports(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: str | None = None,
    ) -> Rows[ImportRelation]:
        """List imports of missing modules of this tree. Imports of modules outside the tree are not included."""
        check_window(limit, offset)
        query = ImportRelation.select().where(
            ImportRelation.scan == pick(self.db, scan, target), ImportRelation.resolution == "unresolved"
        )
        query = query.order_by(ImportRelation.importer_file, ImportRelation.ordinal)
        return listed(query, limit=limit, offset=offset, sort=sort)

    def _file(self, file: str, scan: Scan | int | None, target: str | None) -> ScanFile:
        row = pick(self.db, scan, target)
        found = ScanFile.get_or_none(ScanFile.scan == row, ScanFile.file_path == stored_path(file, "file"))
        if found is None:
            raise NotFound(f"scan {row.id} has no file {file!r}; paths are relative to {row.root or 'its root'}")
        return found

    # -- over a whole scan -----------------------------------------------------------------------------------------

    def coverage(self, *, scan: Scan | int | None = None) -> Rows[Language]:
        """Return the recorded facts (symbols, references, imports) by language, the most files first.

        An empty result of a query about symbols proves absence only for languages whose ``recorded`` includes the facts
        of the query. Files that ``failed`` or were ``skipped`` have no facts.
        """
        return Rows(coverage(groups(self.db, pick(self.db, scan).id)), Language)

    @reads
    def unreferenced(
        self,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        symbol_types: Iterable[SymbolType] = ("class", "function", "method"),
        ignore: Iterable[str] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Symbol]:
        """List symbols that seem unused: no reference resolves to them and no file mentions their name.

        This is a hint, not a proof, because names created at run time are not found. Tests, overrides of base classes
        outside the tree, decorated functions that may be registered, and names that a framework calls
        (:mod:`scanstore.symbols.frameworks`) are left out. ``ignore`` adds patterns of names or qualified names, such
        as ``visit_*``. Symbols of files whose references are not recorded are left out too; ``coverage`` lists their
        languages.
        """
        kinds = {Symbol.symbol_type.db_value(kind) for kind in check_list(symbol_types, "symbol_types")}
        check_window(limit, offset)
        patterns = [check_text(each, "a pattern of ignore") for each in check_list(ignore, "ignore")]
        ids = unreferenced(self.db, self._graph(scan, target), kinds, patterns)
        found = sorted(self._rows(ids), key=lambda s: (s.file_path, s.start_line, s.id))
        return Rows(windowed(found, limit, offset), Symbol)

    @reads
    def diff(
        self,
        a: Scan | int,
        b: Scan | int | None = None,
        *,
        public: bool = False,
        paths: Iterable[str] = (),
        symbol_types: Iterable[SymbolType] = (),
        changes: Iterable[SymbolChangeFilter] = (),
    ) -> SymbolDiff:
        """Return the changes of symbols from scan ``a`` to scan ``b`` (default: the latest of the same target).

        ``public`` leaves out names that importers do not use, ``paths`` are patterns of files such as ``src/**``, and
        ``changes`` are ``added``, ``removed``, ``changed``, ``moved`` or kinds of change. Empty filters choose all.
        """
        first, second = self._pair(a, b)
        chosen = {check_choice(each, "changes", CHANGES) for each in check_list(changes, "changes")}
        wanted = chooser(self.db, (first, second), public=public, paths=paths, symbol_types=symbol_types)
        return compared(self.db, first, second, wanted, frozenset(chosen))

    @reads
    def breaking(
        self,
        a: Scan | int,
        b: Scan | int | None = None,
        *,
        paths: Iterable[str] = (),
        symbol_types: Iterable[SymbolType] = (),
    ) -> Rows[Breakage]:
        """Return the changes from scan ``a`` to ``b`` that importers notice, by name. Only public names are compared.

        Rows of the kind ``not_compared`` are files that could not be compared: without any rows, nothing breaks.
        """
        first, second = self._pair(a, b)
        wanted = chooser(self.db, (first, second), public=False, paths=paths, symbol_types=symbol_types)
        return Rows(breakages(self.db, first, second, wanted), Breakage)

    def _pair(self, a: Scan | int, b: Scan | int | None) -> tuple[Scan, Scan]:
        first = Scans(self.db).get(a)
        second = Scans(self.db).get(b) if b is not None else Scans(self.db).latest(first.target)
        for scan in (first, second):
            if scan.kind != "source":
                raise InvalidArgument(f"scan {scan.id} is of reports and has no symbols; give scans of trees")
        return first, second


def _sets(symbol: Symbol) -> bool:
    """Whether a method is the setter or deleter of a property, whose references belong to the getter."""
    decorators = (symbol.metadata or {}).get("decorators")
    return isinstance(decorators, list) and any(str(each).endswith((".setter", ".deleter")) for each in decorators)


PLACE = """
SELECT f.version_id, c.id, c.lineage_id, c.revision FROM scan_files AS f JOIN scans AS c ON c.id = f.scan_id
 WHERE f.id = ?
"""
