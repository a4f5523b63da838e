"""What a forked child must do before it may open a file that its parent had open.

SQLite keeps its locks twice: in the kernel, per process, and in a table of its own, in memory, per inode. A
fork copies the second and not the first. A connection that the child opens on the same inode then believes in
locks that the child does not hold: it waits for ever for a transaction that was open in the parent, and the
parent, seeing no other process, removes the write-ahead log under the child's feet. Merely dropping the
inherited connection is no way out (the entry stays), and closing it may roll back into memory that the parent
still uses.

So the child first makes the inherited connections harmless: the shared memory of the log's index is replaced
by a private copy, their descriptors by a read-only one that leads nowhere. Then they are closed, which now
does nothing but tidy SQLite's own table. This runs only in a child that uses a store; any other child keeps
the connections untouched, and alive until it ends.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sqlite3

from scanstore.errors import StorageError

MAP_FIXED = 0x10


def keep(connection: sqlite3.Connection) -> None:
    """Keep an inherited connection alive even when the interpreter ends, so that nothing closes it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def disarm(inherited: list[tuple[str, sqlite3.Connection]]) -> None:
    """Detach this process from connections that belong to its parent; the list is empty afterwards.

    The parent notices nothing, whatever it was doing. Raises StorageError where it cannot be done (no /proc).
    """
    files = {file for file, _ in inherited}
    if not os.path.exists("/proc/self/maps"):
        names = ", ".join(sorted(files))
        raise StorageError(f"{names} was open when this process was forked; open the store after the fork")
    for file in files:
        _make_private(file + "-shm")
    targets = {file + suffix for file in files for suffix in ("", "-wal", "-shm", "-journal")}
    targets |= {target + " (deleted)" for target in targets}
    nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{descriptor}")
            except OSError:  # the descriptor of this very listing
                continue
            if target in targets:
                os.dup2(nowhere, int(descriptor), inheritable=False)
    finally:
        os.close(nowhere)
    while inherited:
        inherited.pop()[1].close()


def _make_private(file: str) -> None:
    """Replace every shared mapping of a file by private memory with the same content at the same address."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    number = ctypes.c_int
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_long]
    with open("/proc/self/maps", "rb") as maps:
        lines = maps.read().splitlines()
    wanted = os.fsencode(file).replace(b"\n", b"\\012")
    for line in lines:
        span, _, _, _, _, *name = line.split(maxsplit=5)
        if not name or name[0].removesuffix(b" (deleted)") != wanted:
            continue
        start, end = (int(text, 16) for text in span.split(b"-"))
        content = ctypes.string_at(start, end - start)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
        if libc.mmap(start, end - start, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) != start:
            reason = os.strerror(ctypes.get_errno())
            raise StorageError(f"{file}: cannot be detached from the parent process: {reason}")
        ctypes.memmove(start, content, end - start)
