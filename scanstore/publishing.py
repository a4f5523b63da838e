"""Files that stand under their name whole or not at all: copies, dumps, what was repaired.

Such a file grows under a name of its own beside its place, readable by its owner only; the name tells who makes it, so
that what somebody has left who was killed is removed by whoever makes the next one like it.

Change here: how such files are named, and what is removed.
"""

from __future__ import annotations

import os
import re

from scanstore.blocks import Scope
from scanstore.errors import StorageError
from scanstore.files import create_file

STAMP = re.compile(r"\.backup-\d{8}T\d{9}Z")
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite puts beside a file
_PARTIAL = ".partial-"


def beside(target: str, shown: str) -> Scope[str]:
    """The path of a new file beside the target, gone at the end unless it was published."""
    from urllib.parse import quote

    from scanstore.workers import me

    partial = f"{target}.{os.urandom(4).hex()}{_PARTIAL}{quote(me(), safe='')}"

    def begin() -> str:
        _sweep(target)
        create_file(partial, shown)
        return partial

    def undo() -> None:
        for end in ("", *BESIDE):
            try:
                os.unlink(partial + end)
            except OSError:
                continue

    return Scope(begin, undo)


def _sweep(target: str) -> None:
    """Remove what those have left who were killed while they made a copy like this one."""
    from urllib.parse import unquote

    from scanstore.workers import gone

    place, name = os.path.split(target)
    stem = STAMP.sub("", re.sub(r"\.(before-restore|backup-\d+)-\w+$", "", name))
    try:
        others = os.listdir(place)
    except OSError:  # it may be written and not read
        return
    for other in others:
        before, mark, owner = other.rpartition(_PARTIAL)
        for end in BESIDE:
            owner = owner.removesuffix(end)
        if mark and before.startswith(stem) and gone(unquote(owner)):
            try:
                os.unlink(os.path.join(place, other))
            except OSError:
                continue


def sync(file: str) -> None:
    handle = os.open(file, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(partial: str, target: str, shown: str) -> None:
    """Give the file its name, for good."""
    try:
        os.replace(partial, target)
        if os.name == "posix":
            handle = os.open(os.path.dirname(target), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        raise StorageError(f"{shown} cannot be written: {error.strerror}; choose another path") from error
