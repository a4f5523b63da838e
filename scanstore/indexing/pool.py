"""Indexing on several cores: worker processes that are ours alone.

Workers are started as ``python -m scanstore.indexing.worker``, so that a script needs no ``__main__`` guard and may
have threads. Each has a thread here that keeps a few files in flight. A file that kills its worker (the parser's
C stack is finite) costs that file only: it is reported with the reason and a new worker takes the rest.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from scanstore.indexing import FileFacts
from scanstore.indexing.worker import read_frame, write_frame

IN_FLIGHT = 4
CRASHED = "the parser crashed on this file"
#: Below this many files a worker costs more than it saves.
FILES_PER_WORKER = 12


class Task(NamedTuple):
    full: str
    path: str
    module: str


class Result(NamedTuple):
    """``digest`` and ``facts`` of a file, or the ``error`` that kept it from being read or indexed."""

    number: int
    digest: bytes | None
    size: int
    facts: FileFacts | None
    error: str | None


def run(tasks: Sequence[Task], jobs: int) -> Iterator[Result]:
    """Index the files in ``jobs`` processes; results come as they are ready, each exactly once."""
    todo = deque(range(len(tasks)))
    results: queue.Queue[Result | BaseException | None] = queue.Queue(maxsize=64)
    stop = threading.Event()
    threads = [
        threading.Thread(target=_serve, args=(tasks, todo, results, stop), daemon=True, name=f"scanstore-index-{n}")
        for n in range(jobs)
    ]
    for thread in threads:
        thread.start()
    running = jobs
    try:
        while running:
            item = results.get()
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


def _serve(
    tasks: Sequence[Task],
    todo: deque[int],
    results: queue.Queue[Result | BaseException | None],
    stop: threading.Event,
) -> None:
    try:
        while todo and not stop.is_set():
            flying = _one_worker(tasks, todo, results, stop)
            if flying:  # the worker died: the file it was at is to blame, the others were only waiting
                culprit = flying.popleft()
                todo.extendleft(reversed(flying))
                results.put(Result(culprit, None, 0, None, CRASHED))
    except BaseException as error:
        results.put(error)
    finally:
        results.put(None)


def _one_worker(
    tasks: Sequence[Task],
    todo: deque[int],
    results: queue.Queue[Result | BaseException | None],
    stop: threading.Event,
) -> deque[int]:
    """Feed one worker until nothing is left (returns an empty deque) or it dies (returns what it had)."""
    flying: deque[int] = deque()
    command = [sys.executable, "-m", "scanstore.indexing.worker"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=-1,
        env=_environment(),
    ) as worker:
        source, sink = cast("Any", worker.stdin), cast("Any", worker.stdout)
        try:
            while not stop.is_set():
                while len(flying) < IN_FLIGHT:
                    try:
                        number = todo.popleft()
                    except IndexError:
                        break
                    flying.append(number)
                    write_frame(source, (number, *tasks[number]))
                if not flying:
                    break
                frame = read_frame(sink)
                if frame is None:
                    break
                number, digest, size, facts = frame
                flying.remove(number)
                if digest is None:
                    results.put(Result(number, None, 0, None, size))
                else:
                    results.put(Result(number, digest, size, FileFacts(*facts), None))
        except (BrokenPipeError, EOFError, ValueError):
            pass
        finally:
            try:
                source.close()
            except OSError:
                pass
            if stop.is_set():
                worker.kill()
                flying.clear()
    return flying


def _environment() -> dict[str, str]:
    """Our environment, with the folder this package was imported from on the worker's path."""
    import os

    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": here + (os.pathsep + path if path else ""), "PYTHONWARNINGS": "ignore"}
