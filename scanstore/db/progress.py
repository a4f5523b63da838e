"""Progress of long calls: the callback of the caller, and the counts that it receives.

Each call counts in the unit of its work: rows, bytes, pages, results. It reports after a batch, outside SQLite and in
the thread of the caller, so the function may raise to cancel the work. The transaction is rolled back then; parts
that were committed before stay. The last report has the total, and comes before the commit.

Change here: the moments of the reports.
"""

from __future__ import annotations

from scanstore.errors import InvalidArgument, shown

TYPE_CHECKING = False  # typing takes long to import, and opening a store is measured
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    #: A function of the finished units and of all units. The total is 0 while it is unknown, and may grow.
    ProgressCallback: TypeAlias = Callable[[int, int], object]


class Meter:
    """The count of one call. It is falsy without a callback, so that callers can skip counting."""

    def __init__(self, progress: ProgressCallback | None, total: int = 0) -> None:
        if progress is not None and not callable(progress):
            raise InvalidArgument(f"progress is {shown(progress)}; give a function that takes two numbers, or None")
        self._progress = progress
        self.done, self.total = 0, total
        self._told: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return self._progress is not None

    def expect(self, more: int) -> None:
        """Raise the total, and report it."""
        self.total += more
        self.at(self.done)

    def add(self, count: int = 1) -> None:
        """Count finished units, and report them."""
        self.at(self.done + count)

    def at(self, done: int) -> None:
        """Report the number of finished units, which never decreases. More units than expected raise the total."""
        self.done = max(self.done, done)
        if self.total:
            self.total = max(self.total, self.done)
        self._report()

    def end(self) -> None:
        """Report that all units are finished."""
        self.done = self.total = max(self.done, self.total)
        self._report()

    def _report(self) -> None:
        told, self._told = self._told, (self.done, self.total)
        if self._progress is not None and told != self._told:
            self._progress(self.done, self.total)
