"""A write-ahead log, read without SQLite: the pages that its committed transactions left.

A frame counts as SQLite counts it: its salts are those of the log's header, its checksum continues that of the frame
before it, and a commit follows. Reading stops at the first frame that does not count. That is the normal end of a log,
unless frames of the same log come after it, or bytes that no log ever held: then committed transactions may be lost,
and `trouble` says so. The format is described in https://www.sqlite.org/fileformat2.html#walformat.

Change here: which end of a log is taken for a normal one. Nothing in this file writes.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # the byte order of the checksums
_HEADER, _FRAME = 32, 24
_RESETS = 1 << 16  # of a log, after which the frames of an older one are taken for noise


class Log:
    """The committed pages of a log file; an empty one when there is no such file, or None is given. `close()` it.

    `size` is that of a page (0: unknown), `count` how many pages the database has after the last commit (0: no
    commit), `trouble` why committed transactions may be missing.
    """

    def __init__(self, file: str | None) -> None:
        self.size = self.count = 0
        self.trouble: str | None = None
        self._places: dict[int, int] = {}  # where in the file the latest content of each page is
        self._handle: BinaryIO | None = None
        if file is None:
            return
        try:
            self._handle = open(file, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return
        try:
            self._read(self._handle, os.path.getsize(file))
        except OSError as error:
            self.trouble = f"the write-ahead log cannot be read: {error.strerror}"

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()

    def page(self, number: int) -> bytes | None:
        """Return what the log has for a page."""
        place = self._places.get(number)
        if place is None or self._handle is None:
            return None
        try:
            self._handle.seek(place)
            return self._handle.read(self.size)
        except OSError:
            return b""

    def _read(self, handle: BinaryIO, length: int) -> None:
        if length <= _HEADER:
            return
        head = handle.read(_HEADER)
        magic, _, size, _, salt, *_ = struct.unpack(">8I", head)
        order = _MAGIC.get(magic, "<")
        sums = checksum(order, head[:24])
        size = 65536 if size == 1 else size
        if magic not in _MAGIC or size < 512 or size & (size - 1) or sums != struct.unpack_from(">2I", head, 24):
            self.trouble = "the header of the write-ahead log is damaged: what the log holds was not read"
            return
        self.size = size
        salts, pending, at = head[16:24], dict[int, int](), _HEADER
        while len(frame := handle.read(_FRAME + size)) == _FRAME + size and frame[8:16] == salts:
            sums = checksum(order, frame[_FRAME:], checksum(order, frame[:8], sums))
            number, commit = struct.unpack_from(">2I", frame)
            if sums != struct.unpack_from(">2I", frame, 16) or not number:
                break
            pending[number] = at + _FRAME
            at += _FRAME + size
            if commit:
                self._places.update(pending)
                self.count = commit
                pending.clear()
        self._end(handle, at, salt, salts)

    def _end(self, handle: BinaryIO, at: int, salt: int, salts: bytes) -> None:
        """Look at what follows the last frame that counts."""
        first = (at - _HEADER) // (_FRAME + self.size) + 1
        step = _FRAME + self.size
        lost, older, here = 0, True, at
        while True:
            handle.seek(here)
            frame = handle.read(_FRAME)
            if len(frame) < _FRAME or handle.seek(0, os.SEEK_END) < here + step:
                break
            number, commit, other = struct.unpack_from(">3I", frame)
            if frame[8:16] == salts:
                lost += commit > 0
            elif here == at:
                # A log that is used again begins with a salt that is greater by one.
                older = 0 < (salt - other) & 0xFFFFFFFF < _RESETS and number > 0
            here += step
        if lost:
            self.trouble = (
                f"frame {first} of the write-ahead log is damaged: {lost} committed transactions from there on were"
                " not read"
            )
        elif not older:
            self.trouble = f"frame {first} of the write-ahead log is damaged: transactions may have been lost with it"


def checksum(order: str, data: bytes, before: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Continue a checksum over a multiple of eight bytes, read as integers of this byte order."""
    one, two = before
    for first, second in struct.iter_unpack(f"{order}2I", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def is_log(file: str) -> bool:
    """Tell whether a file is a write-ahead log, by its first bytes."""
    with open(file, "rb") as handle:
        return int.from_bytes(handle.read(4), "big") in _MAGIC
