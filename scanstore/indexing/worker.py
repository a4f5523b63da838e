"""The worker process of :mod:`.pool`: :func:`main` indexes the files it receives, in an isolated Python.

Writes ``READY`` first, so that the pool can distinguish a worker that cannot start from one that died at a file. Then
it reads frames from standard input and writes one frame per file to standard output. A frame is a length (4 bytes,
little endian) and a ``marshal`` value: both ends run the same interpreter. In: ``(number, full path as bytes, path,
module)``. Out: ``(number, content hash, size, facts as a tuple)``, or ``(number, None, reason, None)`` for a file that
cannot be read.
"""

from __future__ import annotations

import gc
import marshal
import signal
import sys
from typing import IO, Any

from scanstore.indexing.files import index, load
from scanstore.indexing.python.indexer import PythonIndexer

READY = "ready"


def read_frame(stream: IO[bytes]) -> Any:
    head = stream.read(4)
    if len(head) < 4:
        return None
    body = stream.read(int.from_bytes(head, "little"))
    return marshal.loads(body)


def write_frame(stream: IO[bytes], value: Any) -> None:
    body = marshal.dumps(value)
    stream.write(len(body).to_bytes(4, "little"))
    stream.write(body)
    stream.flush()


def main() -> None:
    try:
        _work()
    except BrokenPipeError:  # the parent has ended
        sys.stderr = None


def _work() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then closes this process's input
    gc.disable()  # reference counts free the syntax trees; garbage collection would cost a third of the parsing time
    indexer = PythonIndexer()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    write_frame(sink, READY)
    done = 0
    while (task := read_frame(source)) is not None:
        number, full, path, module = task
        try:
            content, digest = load(full)
        except OSError as error:
            write_frame(sink, (number, None, (error.strerror or str(error)).lower(), None))
            continue
        facts = index(indexer, content, path=path, module=module)
        write_frame(sink, (number, digest, len(content), tuple(facts)))
        done += 1
        if done % 200 == 0:
            gc.collect()
