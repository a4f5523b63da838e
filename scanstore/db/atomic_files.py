"""Atomic writing of files: backups, dumps, reports and repaired stores get their name only when they are complete.

The file is written under a temporary name in the same folder; the name identifies the writing process. When a process
is killed, its partial file stays until the next such file is written in that folder. Partial files of running processes
are left alone. A partial file of a process that cannot be checked, on another machine or in a container, is removed
after a day without a write; a temporary folder after 30 days.

Change here: the temporary names, and which files are removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

from scanstore.db import open_files
from scanstore.db.arguments import check_path
from scanstore.db.blocks import Scope, contextmanager
from scanstore.db.files import create_file, flush, real_path, refusing, sync_folder
from scanstore.db.paths import same_file
from scanstore.db.processes import alive, gone, is_identity, me
from scanstore.errors import InvalidArgument, MissingFolder, StorageError, shown

STAMP = re.compile(r"\.backup-\d{8}T\d{9}Z")
BESIDE = ("-wal", "-shm", "-journal")  # the files that SQLite creates beside a database
_PARTIAL = ".partial-"
_LEFT = re.compile(r".*\.[0-9a-f]{8}\.partial-([^/]*?)(?:-wal|-shm|-journal)?", re.DOTALL)
_FOLDER = re.compile(r"scanstore-([^/]+)-[^-]+")
_DAY, _MONTH = 86_400.0, 30 * 86_400.0  # seconds
_STEM = 24  # characters of the name to keep, so that the temporary name fits into 255 bytes


def beside(target: str, name: str, *, mode: int = 0o600) -> Scope[str]:
    """Provide the path of a new file beside the target. The file is deleted at the end unless it was published."""
    from urllib.parse import quote

    folder, last = os.path.split(target)
    owner = quote(me(), safe="")
    partial = os.path.join(folder, f"{last[:_STEM]}.{os.urandom(4).hex()}{_PARTIAL}{owner}")

    def begin() -> str:
        sweep(folder)
        create_file(partial, name, mode)
        return partial

    def undo() -> None:
        for end in ("", *BESIDE):
            try:
                open_files.unlink(partial + end)
            except OSError:
                continue

    return Scope(begin, undo)


def sweep(folder: str) -> None:
    """Remove the partial files of killed processes in a folder."""
    try:
        others = os.listdir(folder)
    except OSError:  # the folder may be writable but not readable
        return
    for other in others:
        found = _LEFT.fullmatch(other)
        path = os.path.join(folder, other)
        if found is not None and _is_left(found[1], _family(path), _DAY):
            try:
                open_files.unlink(path)
            except OSError:
                continue


def _is_left(owner: str, paths: Iterable[str], age: float) -> bool:
    """Whether the process with this quoted identity has ended, so that its files can be removed."""
    import time
    from urllib.parse import unquote

    process = unquote(owner)
    if gone(process):
        return True
    if alive(process) or not is_identity(process):
        return False
    written = []
    for path in paths:
        with suppress(OSError):
            written.append(os.lstat(path).st_mtime)
    return bool(written) and max(written) < time.time() - age


def _family(path: str) -> list[str]:
    """Return a partial file with the files that SQLite created beside it, given any of them."""
    for end in BESIDE:
        path = path.removesuffix(end)
    return [path, *(path + end for end in BESIDE)]


def _inside(folder: str) -> list[str]:
    """Yield a folder and its entries."""
    try:
        return [folder, *(os.path.join(folder, name) for name in os.listdir(folder))]
    except OSError:
        return [folder]


@contextmanager
def writing(file: str | os.PathLike[str] | BinaryIO, *, mode: int = 0o600, store: str = "") -> Iterator[BinaryIO]:
    """Provide a stream whose content replaces the file at a path when the block ends. An open stream is passed through.

    The file at the path stays unchanged until the block ends, and also if the block raises. Links are followed; devices
    and pipes are written to directly. `store` is a file that must not be overwritten. Errors of the system are raised
    as scanstore's errors, except BrokenPipeError.
    """
    if not isinstance(file, str | os.PathLike):
        if not hasattr(file, "write") or hasattr(file, "encoding") or getattr(file, "mode", "w") == "rb":
            raise InvalidArgument(f"file is {shown(file)}; give a path, or a file opened in binary mode, to be written")
        if getattr(file, "closed", False):
            raise InvalidArgument(f"file is {shown(file)}, which is closed; give an open one, or a path")
        with refusing("the file that was given"):
            yield file
        return
    name = check_path(file, "file")
    target = real_path(name)
    with refusing(name):
        if store and any(same_file(target, store + end) for end in ("", *BESIDE)):
            raise InvalidArgument(f"{name} is the store itself; give another file")
        if os.path.isdir(target):
            raise InvalidArgument(f"{name} cannot be written: it is a folder; give the path of a file")
        if not os.path.isdir(os.path.dirname(target)):
            raise MissingFolder(f"{name} cannot be written: its folder does not exist; create it")
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as stream:
                yield stream
            return
        with beside(target, name, mode=mode) as partial:
            with open_files.patiently(lambda: open(partial, "wb")) as stream:
                yield stream
                stream.flush()
                flush(stream.fileno())
            publish(partial, target, name)


def own_folder(place: str, name: str) -> str:
    """Create a private folder for this process, and remove the folders of killed processes of this user."""
    import shutil
    import tempfile
    from urllib.parse import quote

    with refusing(name, "created"):
        for other in os.listdir(place):
            found, path = _FOLDER.fullmatch(other), os.path.join(place, other)
            if found is not None and _is_mine(path) and _is_left(found[1], _inside(path), _MONTH):
                shutil.rmtree(path, ignore_errors=True)
        return tempfile.mkdtemp(prefix=f"scanstore-{quote(me(), safe='')}-", dir=place)


def _is_mine(path: str) -> bool:
    try:
        return os.name != "posix" or os.lstat(path).st_uid == os.getuid()
    except OSError:  # another process has removed it
        return False


def sync(file: str, name: str) -> None:
    """Wait until a file is on the disk."""
    with refusing(name):
        handle = open_files.descriptor(file, os.O_RDWR)
        try:
            flush(handle)
        finally:
            os.close(handle)


def publish(partial: str, target: str, name: str, check: Callable[[], None] | None = None) -> None:
    """Rename the file to its final name. `check` is called before, and may raise."""
    with refusing(name, "replaced"):
        open_files.replace(partial, target, check)
    if os.name == "posix":
        try:
            sync_folder(os.path.dirname(target))
        except OSError as error:
            raise StorageError(
                f"{name} is written, but its folder cannot be synced: {error.strerror}; after a power cut the file"
                " of before may be there, so check the disk and write it again"
            ) from error
