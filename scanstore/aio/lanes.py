"""Lanes: threads that run one call after another, for callers of any event loop. ``running.py`` builds on them.

A lane owns the objects that are tied to a thread: a connection and a transaction. While a transaction is open, the lane
runs only calls of the task that opened it, and of tasks started by that task. Other calls wait. Marks in the context of
a task record its transactions. Change here: the order of the calls.
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
    """A transaction of a lane, outer or nested; ``open`` is true until it ends."""

    __slots__ = ("lane", "open", "outer")

    def __init__(self, lane: Lane, outer: Mark | None) -> None:
        self.lane, self.outer, self.open = lane, outer, False


#: the innermost transaction of any store that the current task was started in or has begun
here: ContextVar[Mark | None] = ContextVar("scanstore.aio.lanes", default=None)


class _Job(NamedTuple):
    mark: Mark | None
    future: Future[Any]  # the result of its function
    function: Callable[[], object]
    last: bool


class Lane:
    """One thread that runs its calls in order. It is started on the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._holder: Mark | None = None  # the innermost open transaction
        self._thread: threading.Thread | None = None
        self._ended = False
        self._more = threading.Condition()
        self._waiting: deque[_Job] = deque()

    @property
    def running(self) -> bool:
        """Whether the thread was started and was not told to end."""
        return self._thread is not None and not self._ended

    def inside(self) -> bool:
        """Whether the current task is inside a transaction of this lane."""
        return self._living(here.get()) is not None

    def submit(self, function: Callable[[], _T], *, last: bool = False, mark: Mark | None = None) -> Future[_T]:
        """Queue a function for a transaction, by default that of the current task.

        The ``last`` call waits for no transaction, and the thread ends after it. Waiting and later calls fail with
        StoreClosed.
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
        """Run only calls of this transaction from now on. Called in the thread, once the transaction is open."""
        mark.open, self._holder = True, mark

    def end(self, mark: Mark) -> None:
        """Continue with the calls of the outer transaction, or with all calls. Called in the thread."""
        mark.open = False
        self._holder = self._living(mark)

    def _living(self, mark: Mark | None) -> Mark | None:
        """Return the innermost open transaction of this lane, from the given one outwards."""
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
            del job  # so that the waiting thread keeps no references
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
