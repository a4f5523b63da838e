"""The loop that works jobs: claim one, hand it to the handler of its type, record how it ended, until told to stop.

One thread beside it keeps the lease of whatever runs, so that a handler may take as long as it likes. A signal never
interrupts a handler: it is noted, and the same signal once more has its usual effect. Nothing here writes but by the
public methods of ``store.jobs``, so a worker that was thought dead can do no harm when it comes back.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from scanstore.db.blocks import Block, Scope, contextmanager, ending
from scanstore.db.current import Bound
from scanstore.db.values import dump_json, utcnow
from scanstore.errors import Busy, IllegalMove, InvalidArgument, LeaseLost, ScanstoreError
from scanstore.leases.engine import check_lease
from scanstore.leases.queue import Stop

if TYPE_CHECKING:
    from types import FrameType

    from scanstore.jobs.leasing import JobLeases
    from scanstore.jobs.models import Job

Handler = Callable[["Job"], object]
NAP = 0.1  #: seconds, at most, until a signal is noticed
BEATS = 3  #: how often a lease is extended before it would expire
AWAKE = 1.0  #: seconds, at most, until a sleep of the machine is noticed
_log = logging.getLogger("scanstore.jobs")


class Worked(NamedTuple):
    """How many jobs ended how; ``waiting`` are to be tried again, ``lost`` went to another worker meanwhile."""

    completed: int
    waiting: int
    failed: int
    cancelled: int
    lost: int


def run_worker(
    jobs: JobLeases,
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
    if isinstance(poll, bool) or not isinstance(poll, int | float) or not 0 < poll <= 86400:
        raise InvalidArgument(f"poll is {poll!r}; give seconds, more than 0 and at most a day")
    if jobs.db.in_sqlite_transaction():
        raise IllegalMove("a transaction is open, which would keep all other workers out; leave it first")
    counts = dict.fromkeys(Worked._fields, 0)
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
    return Worked(**counts)


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


def _work(jobs: JobLeases, job: Job, handler: Handler, pulse: _Pulse) -> str:
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


def _record(jobs: JobLeases, job: Job, result: object, error: Exception | None) -> str:
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
            retry = False  # it would come to the same
    while True:
        try:
            if error is None:
                return _count(jobs.complete(job, result=result))
            return _count(jobs.fail(job, error, retry=retry))
        except Busy as busy:
            _log.warning("%s", busy)
            time.sleep(NAP)


def _count(status: str) -> str:
    return "waiting" if status == "pending" else status


@ending
class _Pulse(threading.Thread):
    """Extends the lease of the job that is worked on, a few times before it would expire, and first of all after a
    sleep of the machine: by the wall clock, which goes on meanwhile."""

    def __init__(self, jobs: JobLeases, lease: float) -> None:
        super().__init__(name="scanstore-jobs", daemon=True)
        self._jobs, self._lease = jobs, lease
        self._job: Job | None = None
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
        """Keep the lease of this job inside the block."""
        own = type(job)(__no_default__=True)  # a row of its own: the handler's is brought up to date by its own ticks
        own.__data__ = {"id": job.id, "worker": job.worker, "attempt": job.attempt}
        return Scope(lambda: setattr(self, "_job", own), lambda: setattr(self, "_job", None))

    def run(self) -> None:
        pause = self._lease / BEATS
        beaten = utcnow()
        while not self._over.wait(min(pause, AWAKE)):
            job, now = self._job, utcnow()
            if job is None or 0 <= (now - beaten).total_seconds() < pause:
                continue
            beaten = now
            # Busy: the next beat will do. Lost: the handler's own report is refused.
            with suppress(ScanstoreError):
                self._jobs.tick(job, lease=self._lease)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM instead of obeying them, the first time; only the main thread can."""
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
            if handler not in (None, signal.SIG_IGN):  # not set by Python, which cannot put it back; or not wanted
                before[number] = handler
                signal.signal(number, note)

    with Scope(begin, restore):
        yield noted
