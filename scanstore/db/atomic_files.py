"""Files that stand under their name whole or not at all: copies, dumps, reports, repaired stores.

Such a file grows under a name of its own beside its place; the name tells which process makes it. When a process is
killed, its partial file stays until the next such file is made in that folder. A file of a process that still runs is
left alone. A file of a process that cannot be asked about, of another machine or container, is removed when nothing was
written to it for a day; a folder of one, after 30 days.

Change here: how such files are named, and which are removed.
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
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite puts beside a file
_PARTIAL = ".partial-"
_LEFT = re.compile(r".*\.[0-9a-f]{8}\.partial-([^/]*?)(?:-wal|-shm|-journal)?", re.DOTALL)
_FOLDER = re.compile(r"scanstore-([^/]+)-[^-]+")
_DAY, _MONTH = 86_400.0, 30 * 86_400.0  # seconds
_STEM = 24  # characters of the name that are kept: with all that follows it must fit where a name has 255 bytes


def beside(target: str, name: str, *, mode: int = 0o600) -> Scope[str]:
    """The path of a new file beside the target, gone at the end unless it was published."""
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
    """Remove what processes that were killed have left in a folder."""
    try:
        others = os.listdir(folder)
    except OSError:  # it may be written and not read
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
    """Whether the process with that quoted identity has left its files behind."""
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
    """A partial file with what SQLite put beside it, given any of them."""
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
    """A stream whose content replaces the file at a path when the block ends, or one that is open already.

    Until the end whatever is at the path stays as it is, and for good when the block raises. Links are followed;
    devices and pipes are written to directly. `store` is a file that the path must not be. Whatever the system refuses
    is raised as an error of ours; only a BrokenPipeError stays one.
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
    """Make a folder for this process alone, and remove those that killed processes of this user have left there."""
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
    except OSError:  # somebody else has removed it
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
    """Give the file its name, for good; `check` is called before, and may raise."""
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
