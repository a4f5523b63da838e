"""The worker loop: claim a job, call the handler of its type, record the result, until it is told to stop.

A second thread extends the lease of the running job, so that a handler may take any time. A signal never interrupts a
handler: the first one stops the loop after the job, and the second one has its usual effect. The loop writes only
through the public methods of ``store.jobs``, so a worker that was considered dead can do no harm when it comes back.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from scanstore.db.arguments import check_bool
from scanstore.db.blocks import Block, Scope, contextmanager, ending
from scanstore.db.current import Bound
from scanstore.db.notebooks import described
from scanstore.db.rows import Rows
from scanstore.db.values import dump_json, utcnow
from scanstore.errors import Busy, IllegalMove, InvalidArgument, LeaseLost, ScanstoreError, shown
from scanstore.leases.checks import check_stop
from scanstore.leases.engine import check_lease
from scanstore.leases.queue import Stop

if TYPE_CHECKING:
    from types import FrameType

    from scanstore.db.database import Database
    from scanstore.jobs.models import Job

Handler = Callable[["Job"], object]
NAP = 0.1  #: seconds, at most, until a signal is noticed
BEATS = 3  #: how often a lease is extended before it would expire
AWAKE = 1.0  #: seconds, at most, until a sleep of the machine is detected
_log = logging.getLogger("scanstore.jobs")


class JobCalls(Protocol):
    """The calls of :class:`scanstore.jobs.jobs.Jobs` that the loop makes."""

    db: Database

    def claim(self, scope: Iterable[str], *, worker: str, lease: float, queue: str) -> Rows[Job]: ...
    def heartbeat(self, item: Job, *, lease: float) -> Job: ...
    def complete(self, job: Job, *, result: object) -> Job: ...
    def fail(self, item: Job, error: Exception, *, retry: bool) -> Job: ...
    def release(self, item: Job) -> Job: ...


@described
class Worked(NamedTuple):
    """The number of jobs by outcome. ``waiting`` jobs will be retried; another worker took over the ``lost`` ones.

    ``interrupted`` tells whether Ctrl-C ended the work.
    """

    completed: int
    waiting: int
    failed: int
    cancelled: int
    lost: int
    interrupted: bool = False


def run_worker(
    jobs: JobCalls,
    handlers: Mapping[str, Handler],
    *,
    worker: str | None,
    types: Iterable[str] | None,
    queue: str,
    lease: float,
    poll: float,
    until_empty: bool,
    stop: Stop | None,
    ended: Callable[[Job], None] | None,
) -> Worked:
    """See :meth:`scanstore.jobs.jobs.Jobs.run_worker`."""
    worker = check_lease(worker, lease)
    wanted = _checked(handlers, types)
    check_seconds(poll, "poll")
    check_bool(until_empty, "until_empty")
    check_stop(stop)
    if jobs.db.in_sqlite_transaction():
        raise IllegalMove("a transaction is open, which would keep all other workers out; leave it first")
    counts = dict.fromkeys(Worked._fields[:5], 0)
    stop = stop if stop is not None else threading.Event()
    with _signals() as signalled, _Pulse(jobs, lease) as pulse:

        def stopped() -> bool:
            return bool(signalled) or stop.is_set()

        while not stopped():
            try:
                claimed = jobs.claim(wanted, worker=worker, lease=lease, queue=queue)
            except Busy as busy:
                _log.warning("%s", busy)
                time.sleep(NAP)
                continue
            if claimed:
                job = claimed[0]
                with Bound(jobs.db):
                    counts[_work(jobs, job, handlers[job.type], pulse)] += 1
                    if ended is not None:
                        ended(job)
            elif until_empty:
                break
            else:
                until = time.monotonic() + poll
                while not stopped() and (rest := until - time.monotonic()) > 0:
                    stop.wait(min(rest, NAP))
    return Worked(**counts, interrupted=signal.SIGINT in signalled)


def check_seconds(value: float | None, what: str, *, zero: bool = False) -> None:
    """Raise InvalidArgument unless the value is a time to wait. With ``zero``, it may be 0, any number or None."""
    known = not isinstance(value, bool) and isinstance(value, int | float)
    if zero and value is not None and not (known and value >= 0):
        raise InvalidArgument(f"{what} is {shown(value)}; give seconds, 0 or more, or None for no limit")
    if not zero and not (known and value is not None and 0 < value <= 86400):
        raise InvalidArgument(f"{what} is {shown(value)}; give seconds, more than 0 and at most a day")


def _checked(handlers: object, types: Iterable[str] | None) -> list[str]:
    if not isinstance(handlers, Mapping) or not handlers:
        raise InvalidArgument("no handlers; give a mapping of types to functions, such as {'sync': handle}")
    for name, handler in handlers.items():
        if not isinstance(name, str) or not name.strip() or not callable(handler):
            raise InvalidArgument(f"{handler!r} is no handler for type {name!r}; give a name and a function")
    wanted = list(handlers) if types is None else [types] if isinstance(types, str) else list(types)
    unknown = [name for name in wanted if name not in handlers]
    if unknown or not wanted:
        known = ", ".join(sorted(handlers))
        raise InvalidArgument(f"no handler for {', '.join(map(repr, unknown)) or 'no type'}; there are: {known}")
    return wanted


def _work(jobs: JobCalls, job: Job, handler: Handler, pulse: _Pulse) -> str:
    """Do one job; return which count it goes to."""
    try:
        with pulse.of(job):
            result = error = None
            try:
                result = handler(job)
            except Exception as raised:
                error = raised
            return _record(jobs, job, result, error)
    except LeaseLost as lost:
        _log.warning("%s", lost)
        return "lost"
    except BaseException:
        with suppress(ScanstoreError):
            jobs.release(job)
        raise


def _record(jobs: JobCalls, job: Job, result: object, error: Exception | None) -> str:
    """Record how a job ended. A store that is busy does not undo the work: it is tried for as long as the lease is."""
    if job.status not in ("running", "cancelling"):  # the handler has said so itself
        if error is not None:
            _log.warning("job %s is %s, and then its handler failed: %r", job.id, job.status, error)
        return _count(job.status)
    retry = True
    if error is None:
        try:
            dump_json(result)
        except InvalidArgument as refused:
            error = InvalidArgument(f"its handler returned {type(result).__name__}: {refused}")
            retry = False  # a retry would fail in the same way
    while True:
        try:
            if error is None:
                return _count(jobs.complete(job, result=result).status)
            return _count(jobs.fail(job, error, retry=retry).status)
        except Busy as busy:
            _log.warning("%s", busy)
            time.sleep(NAP)


def _count(status: str) -> str:
    return "waiting" if status == "pending" else status


@ending
class _Pulse(threading.Thread):
    """Extends the lease of the running job, a few times before it would expire, and immediately after a sleep of the
    machine, because the wall clock advances during the sleep.
    """

    def __init__(self, jobs: JobCalls, lease: float) -> None:
        super().__init__(name="scanstore-jobs", daemon=True)
        self._jobs, self._lease = jobs, lease
        self._job: Job | None = None
        self._warned: Job | None = None  # the last job that a warning was logged for
        self._extended = 0.0  # when the lease of the job was last extended, by the monotonic clock
        self._over = threading.Event()

    def __enter__(self) -> _Pulse:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._block = None

    _block: Block | None = None

    def _abandoned(self, _: object) -> None:
        self._over.set()

    def of(self, job: Job) -> Scope[None]:
        """Extend the lease of this job inside the block."""
        # a separate row, because the heartbeats of the handler update the handler's row
        own = type(job)(__no_default__=True)
        own.__data__ = {"id": job.id, "type": job.type, "worker": job.worker, "attempt": job.attempt}

        def begin() -> None:
            self._extended = time.monotonic()
            self._job = own

        return Scope(begin, lambda: setattr(self, "_job", None))

    def run(self) -> None:
        pause = self._lease / BEATS
        beaten = utcnow()
        while not self._over.wait(min(pause, AWAKE)):
            job, now = self._job, utcnow()
            if job is None or 0 <= (now - beaten).total_seconds() < pause:
                continue
            beaten = now
            self._beat(job)

    def _beat(self, job: Job) -> None:
        # A transaction of the handler keeps this thread from writing until it ends.
        before, held = self._extended, self._jobs.db.in_any_transaction()
        kind, key = job.type, job.id
        # Busy: the next heartbeat is sufficient. Lost: the handler's own report is refused.
        with suppress(ScanstoreError):
            self._jobs.heartbeat(job, lease=self._lease)
            if self._job is job:
                self._extended = time.monotonic()
        if held and self._warned is not job and time.monotonic() - before > self._lease:
            self._warned = job
            _log.warning(
                "job %s of type %s kept a transaction open for longer than its lease of %g s, so its lease was not"
                " extended and other workers may claim it; commit more often, or give the worker a longer lease",
                key, kind, self._lease,
            )  # fmt: skip


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Record the first SIGINT or SIGTERM instead of the usual effect. Works only in the main thread."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before: dict[int, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def begin() -> None:
        for number in filter(None, (signal.SIGINT, getattr(signal, "SIGTERM", None))):
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):  # not set by Python, so it could not be restored; or ignored
                before[number] = handler
                signal.signal(number, note)

    with Scope(begin, restore):
        yield noted
