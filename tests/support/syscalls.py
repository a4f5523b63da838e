"""Work done in processes whose system calls are written down, or fail (see syscalls.c).

The machine's C compiler makes a small library, which a Python process of its own loads before everything else. That
process imports what the work needs, once, and forks for each piece of work; the environment of the fork says what is
watched. Where this cannot be had, the tests that need it are skipped and say why.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import pkgutil
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from stressing import Child, Hung, Tell

import scanstore

HERE = Path(__file__).parent
HEAD = struct.Struct("=4I2Q")
KINDS = ("open", "read", "write", "truncate", "sync", "rename", "unlink", "lock", "map")


class Event(NamedTuple):
    """A change that was made: `kind` is one of

    C  a file was created: file, path        W  it was written: file, place, data, path
    T  it got a length: file, place          S  it reached the disk: file, path
    D  its folder reached the disk: path     R  it was renamed: path, data (the new path)
    L  it got a second name: path, data      U  its name was removed: path
    """

    kind: str
    file: int
    place: int
    path: str
    data: bytes


def events(trace: Path) -> list[Event]:
    """Everything that was written down, in order."""
    content, found, at = trace.read_bytes(), [], 0
    while at < len(content):
        kind, one, two, _, file, place = HEAD.unpack_from(content, at)
        at += HEAD.size
        path, data = content[at : at + one], content[at + one : at + one + two]
        found.append(Event(chr(kind), file, place, os.fsdecode(path), data))
        at += one + two
    return found


class Done(NamedTuple):
    """How a piece of work ended: its status (None if it had to be killed for hanging), what it told and raised, how
    many calls of each kind there were and how many of all failed."""

    status: int | None
    told: list[Any]
    raised: str | None
    calls: dict[str, int]
    failed: int


class Watcher:
    """The process that loads the library and forks for each piece of work."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if not sys.platform.startswith("linux") or compiler is None:
            pytest.skip("system calls are watched on Linux, with a C compiler")
        library = folder / "syscalls.so"
        options = ["-std=gnu11", "-O1", "-shared", "-fPIC", "-pthread", "-o", os.fspath(library)]
        made = subprocess.run([compiler, *options, os.fspath(HERE / "syscalls.c"), "-ldl"], capture_output=True)
        if made.returncode:
            pytest.skip(f"syscalls.c cannot be compiled here: {made.stderr.decode(errors='replace')[:500]}")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SYSCALLS_")},
            "LD_PRELOAD": os.fspath(library),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", HERE / "syscalls.py", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        probe = folder / "probe"
        probe.mkdir()
        self.run("syscalls:probe", os.fspath(probe / "a.db"), watch=probe, trace=folder / "probe.trace")
        if not {"C", "W", "S"} <= {event.kind for event in events(folder / "probe.trace")}:
            self.close()
            pytest.skip("the system calls of this Python's SQLite cannot be watched")

    def run(
        self,
        work: str,
        *arguments: Any,
        watch: Path,
        trace: Path | None = None,
        kinds: str = "",
        at: int = 0,
        number: int = 0,
        more: bool = False,
        limit: int = 60,
    ) -> Done:
        """Run `module:function`, called with `tell` and the arguments, in a fork that is watched below a folder."""
        environment = {
            "SYSCALLS_FOLDER": os.fspath(watch),
            "SYSCALLS_TRACE": os.fspath(trace or ""),
            "SYSCALLS_CALLS": kinds,
            "SYSCALLS_AT": str(at),
            "SYSCALLS_ERRNO": str(number),
            "SYSCALLS_MORE": str(int(more)),
        }
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([work, arguments, environment, limit]).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the process that forks has ended"
        status, told = json.loads(line)
        raised = [note["raised"] for note in told if isinstance(note, dict) and "raised" in note]
        counts = [note["counts"] for note in told if isinstance(note, dict) and "counts" in note]
        told = [note for note in told if not isinstance(note, dict)]
        return Done(status, told, raised[0] if raised else None, *(counts[0] if counts else ({}, 0)))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


def probe(tell: Tell, path: str) -> None:
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE probe(x)")
    connection.close()


def serve(library: str) -> None:
    """Fork for each line that comes in; in the process that was started with the library."""
    watcher = ctypes.CDLL(library)
    watcher.syscalls_count.restype = watcher.syscalls_hits.restype = ctypes.c_long
    os.environ.pop("LD_PRELOAD", None)  # of processes that the work starts; those that are watched get it again
    for module in pkgutil.walk_packages(scanstore.__path__, "scanstore."):  # once, and not in each fork
        if not module.name.endswith(("__main__", ".worker", ".dependencies")):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for line in sys.stdin:
        name, arguments, environment, limit = json.loads(line)
        module, _, function = name.partition(":")
        work = getattr(importlib.import_module(module), function)
        environment["LD_PRELOAD"] = library
        with tempfile.TemporaryFile() as stack:
            child = Child(watched(watcher, environment, work, arguments, stack, limit - 1), limit=limit + 10)
            try:
                told = child.end(limit)
                status = child.status
            except Hung as error:
                stack.seek(0)
                told, status = [{"raised": f"{error}, and is at\n{stack.read().decode()}"}], None
        print(json.dumps([status, told]), flush=True)


def watched(
    watcher: ctypes.CDLL, environment: dict[str, str], work: Any, arguments: list[Any], stack: IO[bytes], late: float
) -> Any:
    """The work, from begin to end under an environment of its own, and the counts after it; where it is, when late."""

    def watch(tell: Tell) -> None:
        faulthandler.dump_traceback_later(late, file=stack)
        os.environ.update(environment)
        watcher.syscalls_setup()
        try:
            work(tell, *arguments)
        finally:
            calls = {kind: watcher.syscalls_count(n) for n, kind in enumerate(KINDS)}
            failed = watcher.syscalls_hits()
            os.environ["SYSCALLS_FOLDER"] = ""
            watcher.syscalls_setup()
            tell({"counts": [calls, failed]})

    return watch


if __name__ == "__main__":
    serve(sys.argv[1])
