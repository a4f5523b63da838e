"""The questions about a symbol that follow references: callers, callees, impact, classes, and the tests that reach it.

:mod:`scanstore.symbols.reach` searches. Change here: which references a question follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from scanstore.db.arguments import check_list
from scanstore.db.domain import Domain, reads
from scanstore.db.pagination import check_window, windowed
from scanstore.db.rows import Rows
from scanstore.db.view_keys import split
from scanstore.indexing.walk import patterns
from scanstore.symbols.graph import INCOMING, OUTGOING, Graph, Reached, check_depth
from scanstore.symbols.reach import ReferenceSearch
from scanstore.symbols.tests_of import ReachingTest, reaching_tests

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    from scanstore.snapshots.models import Scan
    from scanstore.symbols.models import Symbol, SymbolLike

_R = TypeVar("_R", Reached, ReachingTest)


class _Question(NamedTuple):
    """A search: its statement, the references that it follows, and the options of :class:`.reach.ReferenceSearch`."""

    sql: str
    kinds: Sequence[str]
    wide: bool = False  # with constructors and the heads of definitions
    overrides: str = ""


class Following(Domain):
    """The part of :class:`scanstore.symbols.symbols.Symbols` that follows references."""

    def _at(self, symbol: SymbolLike, scan: Scan | int | None, target: str | None) -> tuple[Symbol, int, Graph]:
        """Return a symbol, its file version, and the graph of its scan."""
        raise NotImplementedError

    def _follow(
        self,
        symbol: SymbolLike,
        where: tuple[Scan | int | None, str | None],
        question: _Question,
        *,
        depth: int | None,
        guesses: bool,
        limit: int | None,
        offset: int,
        file: str | Iterable[str] | None = None,
    ) -> Rows[Reached]:
        check_depth(depth)
        check_window(limit, offset)
        matcher = _matcher(file)
        row, version, graph = self._at(symbol, *where)
        search = ReferenceSearch(
            graph, question.sql, question.kinds, guesses=guesses, constructors=question.wide, heads=question.wide,
            overrides=question.overrides,
        )  # fmt: skip
        search.run((version, split(row.id)[1]), depth)
        return Rows(windowed(in_files(search.details(), matcher), limit, offset), Reached)

    @reads
    def callers(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = 1,
        guesses: bool = False,
        overrides: bool = False,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the functions, methods and modules that call a symbol, up to ``depth`` calls away (None: any), nearest
        first.

        ``overrides`` adds the callers of what a method overrides and of what overrides it; ``through`` names the called
        method. ``file`` keeps the callers in matching files: one or several patterns such as ``tests/**``, as in a
        ``.gitignore``.
        """
        question = _Question(INCOMING, ("call",), overrides="followed" if overrides else "")
        return self._follow(
            symbol, (scan, target), question, depth=depth, guesses=guesses, limit=limit, offset=offset, file=file
        )

    @reads
    def callees(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = 1,
        guesses: bool = False,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the symbols of the tree that a symbol calls, up to ``depth`` calls away (None: any), nearest first."""
        question = _Question(OUTGOING, ("call",))
        return self._follow(
            symbol, (scan, target), question, depth=depth, guesses=guesses, limit=limit, offset=offset, file=file
        )

    @reads
    def impact(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = True,
        overrides: bool = True,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List all symbols that depend on a symbol by calls, uses and base classes, with their distance.

        A class includes its constructor, a decorator reaches the functions that it decorates, and a method reaches
        those that it overrides and that override it, unless ``overrides`` is false. ``exact`` is false if the shortest
        path contains a guess. ``file`` keeps the symbols in matching files, as in ``callers``.
        """
        question = _Question(INCOMING, ("call", "inherit", "use"), True, "listed" if overrides else "")
        return self._follow(
            symbol, (scan, target), question, depth=depth, guesses=guesses, limit=limit, offset=offset, file=file
        )

    @reads
    def subclasses(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the classes that inherit from a class, directly or not."""
        question = _Question(INCOMING, ("inherit",))
        return self._follow(symbol, (scan, target), question, depth=depth, guesses=guesses, limit=limit, offset=offset)

    @reads
    def bases(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[Reached]:
        """List the classes of the tree that a class inherits from, directly or not."""
        question = _Question(OUTGOING, ("inherit",))
        return self._follow(symbol, (scan, target), question, depth=depth, guesses=guesses, limit=limit, offset=offset)

    @reads
    def tests_of(
        self,
        symbol: SymbolLike,
        *,
        scan: Scan | int | None = None,
        target: str | None = None,
        depth: int | None = None,
        guesses: bool = True,
        file: str | Iterable[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Rows[ReachingTest]:
        """List the tests that reach a symbol, nearest first, each with its path to the symbol.

        Tests are found as pytest and unittest find them. The path follows calls, uses, base classes, overrides,
        fixtures and set-up methods. ``exact`` is false if it contains a guess. ``file`` keeps the tests in matching
        files, as in ``callers``. A test that reaches the symbol by a name created at run time is not found.
        """
        check_depth(depth)
        check_window(limit, offset)
        matcher = _matcher(file)
        row, version, graph = self._at(symbol, scan, target)
        found = reaching_tests(graph, (version, split(row.id)[1]), depth=depth, guesses=guesses)
        return Rows(windowed(in_files(found, matcher), limit, offset), ReachingTest)


def _matcher(file: str | Iterable[str] | None) -> GitIgnoreSpec | None:
    if file is None:
        return None
    return patterns("file", [file] if isinstance(file, str) else check_list(file, "file"))


def in_files(rows: list[_R], matcher: GitIgnoreSpec | None) -> list[_R]:
    """Return the rows in files that match."""
    if matcher is None:
        return rows
    matches = {path: matcher.match_file(path) for path in {row.file_path for row in rows}}
    return [row for row in rows if matches[row.file_path]]
