"""SQLite's file format, read without SQLite: what is left on the pages of a damaged file.

SQLite refuses a file at the first page that is wrong. Here every page is looked at by itself, and one that makes no
sense is noted and passed over. Nothing of a store's own tables is known here, only the format that
https://www.sqlite.org/fileformat2.html describes: b-trees of pages, and rows as records of varints. A record counts
only if its lengths add up to the byte.

Change here: how much nonsense is taken for a row. Nothing in this file writes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from scanstore.deciphering import Cipher

Value = int | float | str | bytes | None
SQLITE = b"SQLite format 3\0"  #: how a file begins

TABLE_INNER, TABLE_LEAF, INDEX_INNER, INDEX_LEAF = 0x05, 0x0D, 0x02, 0x0A
_DEFAULT_SIZE = 4096
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class Row(NamedTuple):
    """A row as it is stored: its rowid (none in a table without), and its values."""

    rowid: int | None
    values: list[Value]


class Nonsense(Exception):
    """These bytes are not what they should be."""


class Pages:
    """The pages of a file, as its write-ahead log has left them, made plain by a cipher if there is one; `close()` it.

    `seen` are the numbers of the pages that some tree has, `bad` of those that should be in one and make no sense.
    """

    def __init__(self, file: str, cipher: Cipher | None = None) -> None:
        self._cipher = cipher
        self._handle = open(file, "rb")  # noqa: SIM115
        length = os.path.getsize(file)
        if cipher is not None:
            self.sound, self.size, self.usable = True, cipher.size, cipher.usable
        else:
            head = self._read(0, 100)
            size = int.from_bytes(head[16:18], "big")
            size = 65536 if size == 1 else size
            self.sound = head[:16] == SQLITE and size >= 512 and size & (size - 1) == 0
            self.size = size if self.sound else _DEFAULT_SIZE
            self.usable = self.size - (head[20] if self.sound else 0)
        self._log = _log(file + "-wal", self.size)
        self.count = max(-(-length // self.size), max(self._log, default=0))
        self.seen: set[int] = set()
        self.bad: set[int] = set()

    def close(self) -> None:
        self._handle.close()

    def _read(self, start: int, length: int) -> bytes:
        try:
            self._handle.seek(start)
            return self._handle.read(length)
        except OSError:  # the disk itself is damaged there
            return b""

    def page(self, number: int) -> bytes:
        """Return the bytes of a page; raises Nonsense when the file has no such page, or not all of it."""
        data = self._log.get(number)
        if data is None:
            data = self._read((number - 1) * self.size, self.size) if number > 0 else b""
        if len(data) < self.size:
            raise Nonsense
        return data if self._cipher is None else self._cipher.page(number, data)

    def readable(self, number: int) -> bool:
        """Whether the file has this page and, where it is encrypted, the key opens it."""
        try:
            return bool(self.page(number))
        except Nonsense:
            return False

    # Trees

    def rows(self, root: int) -> Iterator[Row]:
        """Yield the rows of the tree that begins at this page; of an index, or a table without rowids, its entries."""
        for number, data, at in self._walk(root):
            yield from self._rows_of(number, data, at)

    def entries(self, root: int) -> int:
        """Count what a tree has, without reading it."""
        counts = (
            struct.unpack_from(">H", data, at + 3)[0] for _, data, at in self._walk(root) if data[at] != TABLE_INNER
        )
        return sum(count for count in counts if 8 + 2 * count <= self.usable)

    def loose(self, kind: int) -> Iterator[tuple[int, list[Row]]]:
        """Yield the pages of this kind that no tree has, with their rows: their tree lost the page that led to them."""
        free = self._free()
        for number in range(2, self.count + 1):
            if number in self.seen or number in free:
                continue
            try:
                data = self.page(number)
            except Nonsense:
                continue
            if data[0] == kind:
                before = set(self.bad)
                rows = list(self._rows_of(number, data, 0))
                if number not in self.bad and rows:
                    yield number, rows
                self.bad = before

    def _walk(self, root: int) -> Iterator[tuple[int, bytes, int]]:
        """Yield (number, bytes, where its header is) of the pages of a tree; all of one kind, each once."""
        kinds: tuple[int, ...] = (TABLE_INNER, TABLE_LEAF, INDEX_INNER, INDEX_LEAF)
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if number in self.seen:
                self.bad.add(number)
                continue
            try:
                data = self.page(number)
                at = 100 if number == 1 else 0
                if data[at] not in kinds:
                    raise Nonsense
                # A tree is one of rows or one of keys, from top to bottom.
                kinds = (
                    (TABLE_INNER, TABLE_LEAF) if data[at] in (TABLE_INNER, TABLE_LEAF) else (INDEX_INNER, INDEX_LEAF)
                )
                if data[at] in (TABLE_INNER, INDEX_INNER):
                    below = [struct.unpack_from(">I", data, cell)[0] for cell in self._cells(data, at, 12)]
                    below.append(struct.unpack_from(">I", data, at + 8)[0])
                    self.bad.update(child for child in below if not 1 < child <= self.count)
                    waiting.extend(child for child in reversed(below) if 1 < child <= self.count)
            except Nonsense:
                self.bad.add(number)
                continue
            self.seen.add(number)
            yield number, data, at

    def _cells(self, data: bytes, at: int, header: int) -> list[int]:
        """Where the cells of a page begin."""
        count = struct.unpack_from(">H", data, at + 3)[0]
        if at + header + 2 * count > self.usable:
            raise Nonsense
        cells = struct.unpack_from(f">{count}H", data, at + header)
        if any(not at + header + 2 * count <= cell < self.usable - 3 for cell in cells):
            raise Nonsense
        return list(cells)

    def _rows_of(self, number: int, data: bytes, at: int) -> Iterator[Row]:
        kind = data[at]
        if kind == TABLE_INNER:
            return
        try:
            cells = self._cells(data, at, 12 if kind == INDEX_INNER else 8)
        except Nonsense:
            self.bad.add(number)
            return
        for cell in cells:
            try:
                yield self._row(data, cell, kind)
            except (Nonsense, IndexError, ValueError, struct.error):
                self.bad.add(number)

    def _row(self, data: bytes, cell: int, kind: int) -> Row:
        cell += 4 if kind == INDEX_INNER else 0
        length, cell = _varint(data, cell)
        rowid = None
        if kind == TABLE_LEAF:
            rowid, cell = _varint(data, cell)
        return Row(rowid, _record(self._payload(data, cell, length, kind)))

    def _payload(self, data: bytes, start: int, length: int, kind: int) -> bytes:
        """The bytes of a record, collected from the pages that it flows over to."""
        usable = self.usable
        most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if not 0 < length <= self.count * self.size:
            raise Nonsense
        if length <= most:
            if start + length > usable:
                raise Nonsense
            return data[start : start + length]
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= most else least
        if start + local + 4 > usable:
            raise Nonsense
        parts = [data[start : start + local]]
        following = struct.unpack_from(">I", data, start + local)[0]
        left = length - local
        while left > 0:
            more = self.page(following)
            self.seen.add(following)
            parts.append(more[4 : 4 + min(left, usable - 4)])
            left -= len(parts[-1])
            following = struct.unpack_from(">I", more, 0)[0]
        return b"".join(parts)

    def _free(self) -> set[int]:
        """The pages that SQLite had put aside: what stands on them was deleted."""
        found: set[int] = set()
        try:
            trunk = struct.unpack_from(">I", self.page(1), 32)[0] if self.sound else 0
            while trunk and trunk not in found:
                data = self.page(trunk)
                found.add(trunk)
                trunk, count = struct.unpack_from(">II", data, 0)
                found.update(struct.unpack_from(f">{min(count, self.usable // 4 - 2)}I", data, 8))
        except Nonsense:
            pass
        return found


def _log(file: str, size: int) -> dict[int, bytes]:
    """The committed pages of a write-ahead log, the latest of each."""
    pages: dict[int, bytes] = {}
    try:
        with open(file, "rb") as handle:
            head = handle.read(32)
            if len(head) < 32 or struct.unpack_from(">I", head, 8)[0] != size:
                return pages
            pending: dict[int, bytes] = {}
            while len(frame := handle.read(24 + size)) == 24 + size and frame[8:16] == head[16:24]:
                number, committed = struct.unpack_from(">II", frame, 0)
                pending[number] = frame[24:]
                if committed:
                    pages.update(pending)
                    pending.clear()
    except FileNotFoundError:
        pass
    return pages


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, at + 9


def _record(data: bytes) -> list[Value]:
    """The values of a record; raises Nonsense, or ValueError for a text that is none."""
    end, at = _varint(data, 0)
    if not at <= end <= len(data):
        raise Nonsense
    start, values = end, []
    while at < end:
        kind = data[at]
        kind, at = (kind, at + 1) if kind < 0x80 else _varint(data, at)
        value: Value
        if kind == 0 or kind in (8, 9):
            length, value = 0, None if kind == 0 else kind - 8
        elif kind in _INTEGERS:
            length = _INTEGERS[kind]
            value = int.from_bytes(data[start : start + length], "big", signed=True)
        elif kind == 7:
            length = 8
            value = struct.unpack_from(">d", data, start)[0]
        elif kind >= 12:
            length = (kind - 12) // 2
            value = data[start : start + length]
            if kind % 2:
                value = value.decode()
        else:
            raise Nonsense
        start += length
        values.append(value)
    if at != end or start != len(data):
        raise Nonsense
    return values
