"""A disk that loses power: what a trace of system calls may have left on it at any moment.

The model is a file system that keeps no more than it promises:

- What was written to a file since its last fsync or fdatasync may be there or not, whatever the order: all of it, none,
  a prefix, some of the writes, or some of their sectors of 512 bytes. A sector is old or new, never a mixture. Where a
  file has grown and nothing of it arrived, there are zeros. A length that was set by a truncation may be kept or not.
- A creation, rename, second name or removal in a folder is kept once that folder was synced. Later ones survive in the
  order in which they were made, up to any one of them, as on every file system with a journal. That a file was synced
  says nothing about its name: ext4, XFS, Btrfs and APFS promise more, POSIX does not.
- A sync that returned is kept: drives that lie about it are not modelled. Folders are not made or removed.
- The file -shm is SQLite's memory, which does not survive; it is left out.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

from syscalls import Event

SECTOR = 512
WAYS = ("none", "all", "prefix", "writes", "sectors")
Change = tuple[int, bytes | None]  # where, and what; without a what, the new length


class File:
    """What is on the disk for good, and what was done since, in order."""

    def __init__(self, content: bytes = b"") -> None:
        self.kept = bytearray(content)
        self.changes: list[Change] = []

    def sync(self) -> None:
        _apply(self.kept, self.changes)
        self.changes = []

    def now(self) -> bytes:
        """As a program reads it."""
        content = bytearray(self.kept)
        _apply(content, self.changes)
        return bytes(content)

    def lost(self, some: random.Random, way: str) -> bytes:
        """As the power loss leaves it."""
        changes, content = self.changes, bytearray(self.kept)
        if way == "none":
            changes = []
        elif way == "prefix":
            changes = changes[: some.randint(0, len(changes))]
        elif way == "writes":
            changes = [change for change in changes if some.random() < 0.5]
        elif way == "sectors":
            changes = [piece for change in changes for piece in _sectors(change) if some.random() < 0.5]
        _apply(content, changes)
        return bytes(content)


def _apply(content: bytearray, changes: Iterable[Change]) -> None:
    for place, data in changes:
        end = place if data is None else place + len(data)
        if end > len(content):
            content.extend(bytes(end - len(content)))
        if data is None:
            del content[place:]
        else:
            content[place:end] = data


def _sectors(change: Change) -> Iterable[Change]:
    place, data = change
    if data is None:
        yield change
        return
    at = 0
    while at < len(data):
        size = SECTOR - (place + at) % SECTOR
        yield place + at, data[at : at + size]
        at += size


class Disk:
    """The files below a folder, from what is there now and then by one event after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[int, File] = {}  # by the number that the system gives them now
        self.names: dict[str, File] = {}
        self.kept: dict[str, File] = {}
        self.renames: dict[str, list[tuple[str | None, str, File | None]]] = {}  # by folder: from, to, what
        for path in folder.rglob("*"):
            if path.is_file():
                file = self.files[path.stat().st_ino] = File(path.read_bytes())
                self.names[os.fspath(path)] = self.kept[os.fspath(path)] = file

    def apply(self, event: Event) -> None:
        kind, path = event.kind, event.path
        if kind == "C":
            file = self.files[event.file] = File()
            self._name(None, path, file)
        elif kind == "W":
            self.files[event.file].changes.append((event.place, event.data))
        elif kind == "T":
            self.files[event.file].changes.append((event.place, None))
        elif kind == "S":
            self.files[event.file].sync()
        elif kind == "D":
            for change in self.renames.pop(path, []):
                _rename(self.kept, *change)
        elif kind == "U":
            self._name(path, path, None)
        else:
            target = os.fsdecode(event.data)
            self._name(path if kind == "R" else None, target, self.names[path])

    def _name(self, old: str | None, new: str, file: File | None) -> None:
        self.renames.setdefault(os.path.dirname(new), []).append((old, new, file))
        _rename(self.names, old, new, file)

    def lost(self, some: random.Random, *, worst: bool = False) -> dict[str, bytes]:
        """What is there after the power is back: paths below the folder, and what is in them. At worst, that is what
        had to be kept and nothing else."""
        names, way = dict(self.kept), "none" if worst else some.choice(("some", "none", "all"))
        for changes in self.renames.values():
            count = {"none": 0, "all": len(changes), "some": some.randint(0, len(changes))}[way]
            for change in changes[:count]:
                _rename(names, *change)
        contents = {id(file): file.lost(some, "none" if worst else some.choice(WAYS)) for file in names.values()}
        return {
            os.path.relpath(path, self.folder): contents[id(file)]
            for path, file in names.items()
            if not path.endswith("-shm")
        }


def _rename(names: dict[str, File], old: str | None, new: str, file: File | None) -> None:
    if old is not None:
        names.pop(old, None)
    if file is not None:
        names[new] = file
