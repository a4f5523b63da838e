"""The hash of a source line that code hosts use to recognise a finding whose line has moved.

A line is hashed together with the text after it, 100 UTF-16 code units in all, without blanks. An edit therefore
changes the hashes of the edited line and of the lines shortly before it. Other programs compute the same values, so do
not change this algorithm.
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import accumulate, chain, islice, repeat

__all__ = ["line_hashes"]

_BLOCK = 100
_END = 0xFFFF
_MASK = 2**64 - 1
_LEAVING = pow(37, _BLOCK, 2**64)
_BLANKS = str.maketrans("", "", " \t")
_NATIVE = "utf-16-le" if sys.byteorder == "little" else "utf-16-be"


def line_hashes(text: str) -> list[str]:
    """Return the hash of each line, as ``hash:occurrence``; lines end at LF, CRLF or CR.

    A text that ends with a line end has one more, empty line after it. An empty text has one line.
    """
    kept = text.replace("\r\n", "\n").replace("\r", "\n").translate(_BLANKS)
    encoded = kept.encode(_NATIVE, "surrogatepass")
    starts = [0]
    if len(encoded) == 2 * len(kept):
        starts += accumulate(len(line) + 1 for line in kept.split("\n")[:-1])
    else:  # some characters have two code units
        starts += accumulate(len(line.encode(_NATIVE, "surrogatepass")) // 2 + 1 for line in kept.split("\n")[:-1])

    # The hash of a block is computed from the prefix hashes at its start and end.
    units = chain(memoryview(encoded).cast("H"), (_END,), repeat(0, _BLOCK))
    running = accumulate(units, lambda so_far, unit: (so_far * 37 + unit) & _MASK, initial=0)
    before: dict[int, int] = {}
    at = -1
    for wanted in sorted({*starts, *(start + _BLOCK for start in starts)}):
        before[wanted] = next(islice(running, wanted - at - 1, None))
        at = wanted

    seen: Counter[int] = Counter()
    hashes = []
    for start in starts:
        value = (before[start + _BLOCK] - before[start] * _LEAVING) & _MASK
        seen[value] += 1
        hashes.append(f"{value:x}:{seen[value]}")
    return hashes
