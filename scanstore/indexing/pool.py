"""Indexing on several cores, in isolated worker processes.

Workers run :mod:`.worker` in an isolated Python (:mod:`scanstore.db.interpreter`), so that a script needs no
``__main__`` guard, may have threads, and no module of the scanned tree is imported. Besides the standard library, a
worker imports only this package, from the absolute folder of this process, which comes last on its path. Each worker
has a thread in this process that keeps a few files in flight. If a file kills its worker (the parser's C stack is
finite) or takes too long, only that file fails: it is reported with the reason, and a new worker continues. If no
worker can be started, this process indexes the files.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple, cast

from scanstore.db.interpreter import isolated
from scanstore.indexing.facts import FileFacts
from scanstore.indexing.files import index, load
from scanstore.indexing.python.indexer import PythonIndexer
from scanstore.indexing.worker import READY, read_frame, write_frame

IN_FLIGHT = 4
MOST_RESULTS = 64  #: results that wait to be read; workers wait for room
CRASHED = "the parser crashed on this file"
SLOW = "parsing this file took too long"
#: With fewer files, a worker costs more time than it saves.
FILES_PER_WORKER = 12
#: Files of at least this many bytes always go to a worker, because the parser's time may grow with the square of the
#: size.
LARGE = 1 << 15
#: The time limit of a file in seconds, and the additional seconds per megabyte.
PATIENCE, PATIENCE_PER_MB = 30.0, 5.0
LEAST_SHARE = 1 / 8
LOOK_EVERY = 0.5
CODE = "import sys; sys.path.append(sys.argv[1]); from scanstore.indexing.worker import main; main()"


class IndexTask(NamedTuple):
    full: str
    path: str
    module: str
    size: int = 0


class _Watch:
    """The deadline of each worker for its file. A worker that misses it is killed.

    Each late file halves the time of the later ones, so that a tree full of them ends in bounded time.
    """

    def __init__(self) -> None:
        self.due: dict[subprocess.Popen[bytes], float] = {}
        self.late: set[subprocess.Popen[bytes]] = set()
        self.share = 1.0

    def begin(self, worker: subprocess.Popen[bytes], size: int) -> None:
        self.due[worker] = time.monotonic() + (PATIENCE + PATIENCE_PER_MB * size / 1e6) * self.share

    def end(self, worker: subprocess.Popen[bytes]) -> None:
        self.due.pop(worker, None)

    def look(self) -> None:
        for worker, due in list(self.due.items()):
            if time.monotonic() > due and self.due.pop(worker, None) is not None:
                self.late.add(worker)
                self.share = max(self.share / 2, LEAST_SHARE)
                worker.kill()


class IndexResult(NamedTuple):
    """``digest`` and ``facts`` of a file, or the ``error`` that occurred while it was read or indexed."""

    number: int
    digest: bytes | None
    size: int
    facts: FileFacts | None
    error: str | None


def run(tasks: Sequence[IndexTask], jobs: int) -> Iterator[IndexResult]:
    """Index the files in ``jobs`` processes. Yields each result once, as soon as it is ready.

    If no worker can be started, the files are indexed in this process.
    """
    todo = deque(range(len(tasks)))
    results: queue.Queue[IndexResult | BaseException | None] = queue.Queue(maxsize=MOST_RESULTS)
    stop = threading.Event()
    watch = _Watch()
    parts = (tasks, todo, results, stop, watch)
    threads = [
        threading.Thread(target=_serve, args=parts, daemon=True, name=f"scanstore-index-{n}") for n in range(jobs)
    ]
    for thread in threads:
        thread.start()
    running = jobs
    try:
        while running:
            try:
                item = results.get(timeout=LOOK_EVERY)
            except queue.Empty:
                watch.look()
                continue
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stop.set()
        while any(thread.is_alive() for thread in threads):  # a thread may wait for room in the queue
            try:
                results.get(timeout=0.02)
            except queue.Empty:
                continue
    indexer = PythonIndexer()
    while todo:
        number = todo.popleft()
        yield _index_here(indexer, number, tasks[number])


def _index_here(indexer: PythonIndexer, number: int, task: IndexTask) -> IndexResult:
    try:
        content, digest = load(task.full)
    except OSError as error:
        return IndexResult(number, None, 0, None, (error.strerror or str(error)).lower())
    return IndexResult(number, digest, len(content), index(indexer, content, path=task.path, module=task.module), None)


def _serve(
    tasks: Sequence[IndexTask],
    todo: deque[int],
    results: queue.Queue[IndexResult | BaseException | None],
    stop: threading.Event,
    watch: _Watch,
) -> None:
    try:
        command = _command()
        while todo and not stop.is_set() and command is not None:
            with _started(command) as worker:
                if worker is None:
                    break
                flying = _feed(worker, tasks, todo, results, stop, watch)
                late = worker in watch.late
            if flying:  # the worker died: its current file is the cause, the others were only waiting
                culprit = flying.popleft()
                todo.extendleft(reversed(flying))
                results.put(IndexResult(culprit, None, 0, None, SLOW if late else CRASHED))
    except BaseException as error:
        results.put(error)
    finally:
        results.put(None)


def _command() -> list[str] | None:
    """Return the command of a worker, or None if none can be started safely."""
    if not os.path.isabs(__file__):
        return None
    # The folder, or the archive, that this package was imported from.
    return isolated(CODE, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes] | None]:
    """Return a worker that is ready, or None if it cannot be started."""
    try:
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=-1,
            cwd=os.path.dirname(command[0]),
        )
    except OSError:
        yield None
        return
    source = cast("IO[bytes]", worker.stdin)
    try:
        if _is_ready(worker):
            yield worker
        else:
            worker.kill()
            yield None
    finally:
        try:
            source.close()
        except OSError:  # Python's clean-up closes it again later, without an error
            pass
        with worker:
            pass


def _is_ready(worker: subprocess.Popen[bytes]) -> bool:
    try:
        return bool(read_frame(cast("IO[bytes]", worker.stdout)) == READY)
    except (OSError, EOFError, ValueError, TypeError):
        return False


def _feed(
    worker: subprocess.Popen[bytes],
    tasks: Sequence[IndexTask],
    todo: deque[int],
    results: queue.Queue[IndexResult | BaseException | None],
    stop: threading.Event,
    watch: _Watch,
) -> deque[int]:
    """Feed one worker until no file is left (returns an empty deque) or it dies (returns its unfinished tasks)."""
    flying: deque[int] = deque()
    source, sink = cast("IO[bytes]", worker.stdin), cast("IO[bytes]", worker.stdout)
    try:
        while not stop.is_set():
            while len(flying) < IN_FLIGHT:
                try:
                    number = todo.popleft()
                except IndexError:
                    break
                flying.append(number)
                full, path, module, _ = tasks[number]
                # Bytes, because the worker may encode file names differently.
                write_frame(source, (number, os.fsencode(full), path, module))
            if not flying:
                break
            watch.begin(worker, tasks[flying[0]].size)
            frame = read_frame(sink)
            watch.end(worker)
            if frame is None:
                break
            number, digest, size, facts = frame
            flying.remove(number)
            if digest is None:
                results.put(IndexResult(number, None, 0, None, size))
            else:
                results.put(IndexResult(number, digest, size, FileFacts(*facts), None))
    except (OSError, EOFError, ValueError, TypeError):  # the worker died; pipes on Windows raise EINVAL
        pass
    finally:
        watch.end(worker)
        if stop.is_set():
            worker.kill()
            flying.clear()
    return flying
