"""SQLite's file format, read without SQLite: reading rows from the pages of a damaged file.

SQLite refuses a file at the first page that is wrong. Here every page is looked at by itself, and one that makes no
sense is noted and passed over. Nothing of a store's own tables is known here, only the format that
https://www.sqlite.org/fileformat2.html describes: b-trees of pages, and rows as records of varints. A record counts
only if its lengths add up to the byte, and a page makes sense only if its cells fill it, its rowids ascend between
those that its parent gives, and it stands where only one thing leads to it. Every page has to be accounted for: what
no tree, no overflow chain and no list of free pages leads to may hold rows that are missing elsewhere.

Change here: how much nonsense is taken for a row. Nothing in this file writes.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

from scanstore.maintenance.repair.write_ahead_log import Log

Value = int | float | str | bytes | None
SQLITE = b"SQLite format 3\0"  #: how a file begins

TABLE_INNER, TABLE_LEAF, INDEX_INNER, INDEX_LEAF = 0x05, 0x0D, 0x02, 0x0A
TABLE, INDEX = (TABLE_INNER, TABLE_LEAF), (INDEX_INNER, INDEX_LEAF)
_INNER = (TABLE_INNER, INDEX_INNER)
_DEFAULT_SIZE = 4096
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MOST_MISSING = 1 << 20  # pages at the end of a file; if page 1 promises more, it is page 1 that is wrong
_LOCKS = 1 << 30  # the page with this byte is never used


class Row(NamedTuple):
    """A row as it is stored: its rowid (none in a table without), and its values."""

    rowid: int | None
    values: list[Value]


class Cell(NamedTuple):
    """A cell of a page: its place, the page below it, its rowid, and where its payload is."""

    begin: int
    end: int
    child: int
    rowid: int | None
    length: int  # of the payload
    start: int
    local: int  # bytes of it that stand on the page itself
    following: int  # the page with the rest


class Nonsense(Exception):
    """These bytes are malformed."""


class PageCipher(Protocol):
    """What makes the pages of an encrypted file plain: `size` bytes each, of which `usable` are content."""

    size: int
    usable: int

    def page(self, number: int, data: bytes) -> bytes: ...


class Pages:
    """The pages of a file, as its write-ahead log has left them, made plain by a cipher if there is one; `close()` it.

    Without a `file` there is only the log. `count` is how many pages the database has, `seen` are the numbers of those
    that were read as a part of something, `free` those that SQLite had put aside: what stands on them was deleted.
    `wrong` describes damage of the file as a whole.
    """

    def __init__(self, file: str | None, cipher: PageCipher | None = None, log: Log | None = None) -> None:
        self._cipher = cipher
        self.log = Log(f"{file}-wal") if log is None else log
        self._handle: BinaryIO = io.BytesIO()
        if file is not None and (os.path.exists(file) or not self.log):
            self._handle = open(file, "rb")  # noqa: SIM115
        self.length = self._handle.seek(0, os.SEEK_END)
        self.wrong = [self.log.trouble] if self.log.trouble else []
        self.header = b""
        if cipher is not None:
            self.sound, self.size, self.usable = True, cipher.size, cipher.usable
        else:
            self._measure()
        try:
            self.header = self.page(1)[:100]
        except Nonsense:
            pass
        self.count = self._count()
        self.seen: set[int] = set()
        self.bad_free: set[int] = set()
        self.free = self._free()
        if missing := self._missing():
            self.wrong.append(f"the file is cut off: {len(missing)} of its {self.count} pages are not in it")

    def _measure(self) -> None:
        """Take the size of a page from page 1, or from the log."""
        head = (self.log.page(1) or self._read(0, 100))[:100]
        size = int.from_bytes(head[16:18], "big")
        size = 65536 if size == 1 else size
        self.sound = head[:16] == SQLITE and size >= 512 and size & (size - 1) == 0 and size - head[20] >= 480
        if self.sound and self.log and self.log.size != size:
            self.wrong.append("the write-ahead log is that of another file: it was not read")
            self.log.close()
            self.log = Log(None)
        self.size = size if self.sound else self.log.size or _DEFAULT_SIZE
        self.usable = self.size - (head[20] if self.sound else 0)

    def _count(self) -> int:
        """How many pages there should be."""
        there = -(-self.length // self.size)
        count = self.log.count
        if not count:
            count = there
            promised = int.from_bytes(self.header[28:32], "big")
            if self.sound and self.header[24:28] == self.header[92:96] and promised:
                if promised - there > _MOST_MISSING:
                    self.wrong.append(f"page 1 says that the file has {promised} pages; it has {there}")
                else:
                    count = max(there, promised)
        return count

    def _missing(self) -> set[int]:
        """Pages that should be in the file. While a log waits, free ones may never have been written."""
        missing = {number for number in range(self.length // self.size + 1, self.count + 1) if number not in self.log}
        return missing - self.free if self.log else missing

    def close(self) -> None:
        self._handle.close()
        self.log.close()

    def _read(self, start: int, length: int) -> bytes:
        try:
            self._handle.seek(start)
            return self._handle.read(length)
        except OSError:  # the disk itself is damaged there
            return b""

    def page(self, number: int) -> bytes:
        """Return the bytes of a page; raises Nonsense when the file has no such page, or not all of it."""
        data = self.log.page(number)
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

    # What pages are for

    def unaccounted(self) -> set[int]:
        """The pages that nothing leads to."""
        others = {_LOCKS // self.size + 1}
        if any(self.header[52:56]):  # the file moves its pages together, and has pages that say where each hangs
            step = self.usable // 5 + 1
            others.update(at + (at in others) for at in range(2, self.count + 1, step))
        return set(range(1, self.count + 1)) - self.seen - self.free - others

    def _free(self) -> set[int]:
        """The pages on the list of free pages."""
        found: set[int] = set()
        if not self.sound or not self.header:
            return found
        trunk, total = struct.unpack_from(">2I", self.header, 32)
        last = 1
        try:
            while trunk:
                if not 1 < trunk <= self.count or trunk in found:
                    raise Nonsense
                last = trunk
                following, count = struct.unpack_from(">2I", data := self.page(trunk))
                if count > self.usable // 4 - 2:
                    raise Nonsense
                leaves = set(struct.unpack_from(f">{count}I", data, 8))
                if len(leaves) < count or leaves & found or not all(1 < leaf <= self.count for leaf in leaves):
                    raise Nonsense
                found |= leaves | {trunk}
                trunk = following
            if len(found) != total:
                raise Nonsense
        except Nonsense:
            self.bad_free.add(last)
            self.wrong.append("the list of free pages is damaged: rows that were deleted may have come back")
        return found

    def loose(self, numbers: set[int]) -> Iterator[Orphan]:
        """Yield those of the pages that have rows and make sense by themselves."""
        for number in sorted(numbers):
            if number in self.seen:
                continue
            try:
                kind = self.page(number)[0]
            except Nonsense:
                continue
            if kind in (TABLE_LEAF, *INDEX):
                tree = PageTree(self, number)
                before = set(self.seen)
                rows = list(tree.rows_of_page())
                taken, self.seen = self.seen - before, before
                if rows and number not in tree.bad:
                    yield Orphan(number, rows, taken | {number}, tree.bad)

    # Cells

    def cells(self, data: bytes, at: int) -> tuple[list[Cell], int, bool]:
        """Return the cells of a page, how many more made no sense, and whether they fill it as they should.

        `at` is where its header begins. Raises Nonsense if that page is malformed.
        """
        kind = data[at]
        header = at + (12 if kind in _INNER else 8)
        free, count, content = struct.unpack_from(">3H", data, at + 1)
        begin = header + 2 * count
        if kind not in (*TABLE, *INDEX) or begin > self.usable:
            raise Nonsense
        cells: list[Cell] = []
        for place in struct.unpack_from(f">{count}H", data, header):
            try:
                if place < begin:
                    raise Nonsense
                cells.append(self._cell(data, place, kind))
            except (Nonsense, IndexError, struct.error):
                continue
        broken = count - len(cells)
        return cells, broken, not broken and self._filled(data, at, begin, free, content or 65536, cells)

    def _filled(self, data: bytes, at: int, begin: int, free: int, content: int, cells: list[Cell]) -> bool:
        """Whether cells and free blocks lie beside each other, with as many bytes between as the header says."""
        spans = [(cell.begin, cell.end) for cell in cells]
        while free:
            if not begin <= free <= self.usable - 4:
                return False
            following, size = struct.unpack_from(">2H", data, free)
            spans.append((free, free + size))
            if size < 4 or following and following <= free:
                return False
            free = following
        last, between = content, 0
        for start, end in sorted(spans):
            if start < last or end > self.usable:
                return False
            between += start - last
            last = end
        return content >= begin and between + self.usable - last == data[at + 7]

    def _cell(self, data: bytes, begin: int, kind: int) -> Cell:
        at, child, rowid, length, local, following = begin, 0, None, 0, 0, 0
        if kind in _INNER:
            (child,) = struct.unpack_from(">I", data, at)
            at += 4
        if kind != TABLE_INNER:
            length, at = _varint(data, at)
        if kind in TABLE:
            rowid, at = _varint(data, at)
        start = at
        if kind != TABLE_INNER:
            if not 0 < length <= self.count * self.size:
                raise Nonsense
            local = self._local(length, kind)
            at += local
            if local < length:
                (following,) = struct.unpack_from(">I", data, at)
                at += 4
        if at > self.usable:
            raise Nonsense
        return Cell(begin, max(at, begin + 4), child, rowid, length, start, local, following)

    def _local(self, length: int, kind: int) -> int:
        usable = self.usable
        most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if length <= most:
            return length
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        return local if local <= most else least

    @property
    def sealed(self) -> bool:
        """Whether each page has a checksum."""
        return self._cipher is not None


class Orphan(NamedTuple):
    """A page that nothing leads to, its rows, all the pages that these stand on, and those of these that are bad."""

    number: int
    rows: list[Row]
    pages: set[int]
    bad: set[int]


class PageTree:
    """One b-tree, read once, by `rows` or `skim`.

    Afterwards `bad` has its pages that make no sense, `broken` counts the cells that do not, `entries` the others.
    """

    def __init__(self, pages: Pages, root: int) -> None:
        self.pages, self.root = pages, root
        self.bad: set[int] = set()
        self.broken = self.entries = 0

    def rows(self) -> Iterator[Row]:
        """Yield the rows of a table; of an index, or a table without rowids, its entries."""
        for number, data, cells in self._walk():
            yield from self._rows(number, data, cells)

    def skim(self) -> PageTree:
        """Look at all pages without making rows of them."""
        for number, data, cells in self._walk():
            for cell in cells:
                try:
                    self._payload(number, data, cell)
                    self.entries += 1
                except Nonsense:
                    self.broken += 1
        return self

    def rows_of_page(self) -> Iterator[Row]:
        """Yield the rows of the first page alone; it is among the `bad` if not all of it makes sense."""
        try:
            data = self.pages.page(self.root)
            cells, _, filled = self.pages.cells(data, 0)
        except Nonsense:
            filled = False
        if not filled:
            self.bad.add(self.root)
        else:
            yield from self._rows(self.root, data, cells)

    def _rows(self, number: int, data: bytes, cells: list[Cell]) -> Iterator[Row]:
        for cell in cells:
            try:
                payload, zeros, last = self._payload(number, data, cell)
            except Nonsense:
                self.broken += 1
                continue
            try:
                row = Row(cell.rowid, _record(payload))
            except (Nonsense, IndexError, ValueError, struct.error):
                self.bad.add(number)
                self.broken += 1
                continue
            if zeros is not None and not _ends_in_zeros(row.values, len(payload), zeros):
                self.bad.add(last)
                self.broken += 1
                continue
            self.entries += 1
            yield row

    def _walk(self) -> Iterator[tuple[int, bytes, list[Cell]]]:
        """Yield (number, bytes, cells with a payload) of the pages, all of one kind, each once, in their order."""
        pages = self.pages
        kinds: tuple[int, ...] = (*TABLE, *INDEX)
        depth_of_leaves: int | None = None
        waiting: list[tuple[int, int, int | None, int | None]] = [(self.root, 0, None, None)]
        while waiting:
            number, depth, low, high = waiting.pop()
            if number in pages.seen or not 1 <= number <= pages.count:
                self.bad.add(number)
                continue
            at = 100 if number == 1 else 0
            try:
                data = pages.page(number)
                kind = data[at]
                if kind not in kinds:
                    raise Nonsense
                cells, broken, filled = pages.cells(data, at)
            except Nonsense:
                self.bad.add(number)
                continue
            # A tree is one of rows or one of keys, from top to bottom.
            kinds = TABLE if kind in TABLE else INDEX
            rowids = [cell.rowid for cell in cells if cell.rowid is not None]
            if rowids and (low is not None and min(rowids) <= low or high is not None and max(rowids) > high):
                self.bad.add(number)  # it is not a page of this place
                continue
            if number in pages.free or not filled or any(a >= b for a, b in zip(rowids, rowids[1:], strict=False)):
                self.bad.add(number)
            pages.seen.add(number)
            self.broken += broken
            if kind in _INNER:
                below = [(cell.child, cell.rowid) for cell in cells]
                below.append((struct.unpack_from(">I", data, at + 8)[0], high))
                children = []
                for child, bound in below:
                    children.append((child, depth + 1, low, bound))
                    low = low if bound is None else bound
                self.bad.update({number} if any(not 1 < child <= pages.count for child, _ in below) else ())
                waiting.extend(place for place in reversed(children) if 1 < place[0] <= pages.count)
            else:
                depth_of_leaves = depth if depth_of_leaves is None else depth_of_leaves
                if depth != depth_of_leaves or depth and not cells and not broken:
                    self.bad.add(number)
            yield number, data, cells if kind != TABLE_INNER else []

    def _payload(self, number: int, data: bytes, cell: Cell) -> tuple[bytes, int | None, int]:
        """The bytes of a record, collected from the pages that it flows over to; where in it a last page that is
        nothing but zeros begins, if it has such; and its last page. Raises Nonsense and notes the page that is wrong.
        """
        pages = self.pages
        parts = [data[cell.start : cell.start + cell.local]]
        left, following, zeros = cell.length - cell.local, cell.following, None
        while left > 0:
            if not 1 < following <= pages.count or following in pages.seen:
                self.bad.add(number)
                raise Nonsense
            number = following
            try:
                more = pages.page(number)
                following = struct.unpack_from(">I", more)[0]
                part = more[4 : 4 + min(left, pages.usable - 4)]
                left -= len(part)
                if bool(following) != (left > 0) or number in pages.free:
                    raise Nonsense
            except Nonsense:
                self.bad.add(number)
                raise
            pages.seen.add(number)
            if not left and not pages.sealed and not any(more):
                zeros = cell.length - len(part)
            parts.append(part)
        return b"".join(parts) if len(parts) > 1 else parts[0], zeros, number


def _ends_in_zeros(values: list[Value], length: int, zeros: int) -> bool:
    """Whether a record may end in zeros from there on: in a value that is nothing else, and begins before."""
    telling = (value for value in reversed(values) if value and (isinstance(value, bytes) or value != 1))
    last = next(telling, None)
    return isinstance(last, bytes) and length - len(last) < zeros and not any(last)


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
    """The values of a record; raises Nonsense, or ValueError for malformed text."""
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
