"""Lanes: threads that do one thing after the other, for callers of any event loop. The ground that store.py stands on.

A lane owns everything that is tied to a thread: a connection, a transaction. While a transaction is open, only calls of
the task that opened it, and of tasks which that one started, are done; the others wait their turn. Which transactions a
task is in is known by the marks in its context. Change here: whose turn it is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from scanstore.errors import StoreClosed

_T = TypeVar("_T")


class Mark:
    """A transaction of a lane, inside another one or not; ``open`` from its beginning to its end."""

    __slots__ = ("lane", "open", "outer")

    def __init__(self, lane: Lane, outer: Mark | None) -> None:
        self.lane, self.outer, self.open = lane, outer, False


#: the innermost transaction that the running task was begun in, or has begun, of whatever store
here: ContextVar[Mark | None] = ContextVar("scanstore.aio.lanes", default=None)


class _Job(NamedTuple):
    mark: Mark | None
    future: Future[Any]  # of whatever its function returns
    function: Callable[[], object]
    last: bool


class Lane:
    """One thread, started when it is needed, that runs its calls in order."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._holder: Mark | None = None  # the innermost open transaction
        self._thread: threading.Thread | None = None
        self._ended = False
        self._more = threading.Condition()
        self._waiting: deque[_Job] = deque()

    @property
    def running(self) -> bool:
        """Whether the thread was started and is not to end."""
        return self._thread is not None and not self._ended

    def inside(self) -> bool:
        """Whether the running task is inside a transaction of this lane."""
        return self._living(here.get()) is not None

    def submit(self, function: Callable[[], _T], *, last: bool = False, mark: Mark | None = None) -> Future[_T]:
        """Have a function run when it is its turn: that of a transaction, by default the one the task is in.

        The ``last`` call waits for no transaction, and the thread ends after it; whatever waits then, or comes later,
        fails with StoreClosed.
        """
        future: Future[_T] = Future()
        job = _Job(mark or here.get(), future, function, last)
        with self._more:
            if self._ended:
                _refuse(job)
                return future
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._more.notify()
        return future

    def begin(self, mark: Mark) -> None:
        """Let a transaction be the one whose turn it is; called in the thread, once it is open."""
        mark.open, self._holder = True, mark

    def end(self, mark: Mark) -> None:
        """Let it be the turn of the transaction around that one, or of everybody; called in the thread."""
        mark.open = False
        self._holder = self._living(mark)

    def _living(self, mark: Mark | None) -> Mark | None:
        """The innermost open transaction of this lane, from that one outwards."""
        while mark is not None and not (mark.open and mark.lane is self):
            mark = mark.outer
        return mark

    def _next(self) -> _Job | None:
        for place, job in enumerate(self._waiting):
            if job.last or self._living(job.mark) is self._holder:
                del self._waiting[place]
                return job
        return None

    def _work(self) -> None:
        last = False
        while not last:
            with self._more:
                while (job := self._next()) is None:
                    self._more.wait()
            last = job.last
            complete(job.future, job.function)
            del job  # so that nothing is kept alive by waiting for more
        with self._more:
            self._ended = True
            for job in self._waiting:
                _refuse(job)
            self._waiting.clear()


def complete(future: Future[object], function: Callable[[], object]) -> None:
    """Run a function for a future, unless that was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _refuse(job: _Job) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(StoreClosed("the store was closed; make another one"))
