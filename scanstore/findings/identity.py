"""Identity: the traits that identify a finding across scans, and the matching of two sets of findings.

A finding is identified by separate traits, never by one opaque hash, so that each pass of :func:`match` compares only
the traits that it needs. The most certain passes come first. Within a pass, pairs that agree in more traits (message,
neighbouring lines) come before pairs that agree in fewer. These are pure functions without access to a store.

Change here: the normalisation, the traits that a pass compares, and the order of the passes. Traits that were stored
before such a change no longer agree with new ones; the order of the passes is free to change.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import NamedTuple

PASSES = ("fingerprint", "line", "text", "block", "renamed", "symbol")  #: names of the passes, the most certain first
NEIGHBOURS = 3  #: number of lines before and after a line that form its context
FARTHEST = 100  #: maximum distance of these lines
CROWD = 64  #: a line text that more pairs of files share is not used to detect renames

# Kept: words with their numbers (sha256, CVE-2021-44228). Masked: all other numbers, hexadecimal addresses and ids, and
# positions such as 12:5.
_NUMBERS = re.compile(
    r"\b(?:0[xX][0-9a-fA-F]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|(?=[a-fA-F]*[0-9])[0-9a-fA-F]{8,})\b"
    r"|([^\W\d]\w*(?:-[0-9]\w*)*)"
    r"|[0-9]+(?:[.,:][0-9]+)*"
)


class Traits(NamedTuple):
    """The traits of one finding; None means unknown.

    ``path`` is relative to the root of the tree, ``line`` counts from 1, ``symbol`` is the qualified name around it.
    ``line_hash`` is the hash of its line and ``context_hash`` of the lines around it, both without white space.
    ``message_key`` is the message without its own numbers. ``fingerprints`` are those that the tool supplied, by name.
    """

    tool: str
    rule: str
    path: str | None
    symbol: str | None = None
    line: int | None = None
    line_hash: bytes | None = None
    context_hash: bytes | None = None
    message_key: str = ""
    fingerprints: Mapping[str, str] = {}
    file_hash: bytes | None = None


class Pair(NamedTuple):
    """A matched pair: the indexes of an old and a new finding, and the name of the pass that matched them."""

    old: int
    new: int
    by: str


class Matched(NamedTuple):
    """``pairs`` in the order of the old ones; ``gone`` and ``come`` are the indexes of those without a partner."""

    pairs: list[Pair]
    gone: list[int]
    come: list[int]


Key = Callable[[Traits], object]  #: the value in which two findings must agree; None excludes the finding


def traits_of(
    lines: Sequence[str] | None,
    *,
    tool: str,
    rule: str,
    path: str | None,
    line: int | None = None,
    message: str = "",
    snippet: str | None = None,
    fingerprints: Mapping[str, str] | None = None,
    symbol: str | None = None,
    file_hash: bytes | None = None,
) -> Traits:
    """Return the traits of a finding in a file with these ``lines``. The first line of the snippet replaces a missing
    line.

    A blank line counts as unknown.
    """
    if lines is not None and line is not None and 1 <= line <= len(lines):
        line_hash, context_hash = text_hash(lines[line - 1]), _context(lines, line - 1)
    else:
        first = snippet or ""
        if not first.isprintable():
            first = next(filter(str.strip, first.splitlines()), "")
        line_hash, context_hash = text_hash(first), None
    return Traits(
        tool,
        rule,
        path,
        symbol,
        line,
        line_hash,
        context_hash,
        message_key(message),
        dict(fingerprints or {}),
        file_hash,
    )


@lru_cache(maxsize=256)
def text_hash(text: str) -> bytes | None:
    """Return an eight-byte hash of a line without its white space, or None for a blank line."""
    words = " ".join(text.split())
    return blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest() if words else None


@lru_cache(maxsize=256)
def message_key(message: str) -> str:
    """Return the message on one line, with numbers, addresses and positions masked. Numbers within words are kept."""
    return " ".join([
        word if word.isalpha() else "#" if word.isdecimal() and word.isascii() else _masked(word)
        for word in message.split()
    ])  # fmt: skip


@lru_cache(maxsize=1024)
def _masked(word: str) -> str:
    return _NUMBERS.sub(lambda match: match[1] or "#", word)


def same_content(old: Traits, new: Traits) -> bool:
    """Whether the text of a finding's line is unchanged, independent of its position. True if the text is unknown."""
    return old.line_hash == new.line_hash or old.line_hash is None or new.line_hash is None


def renames(old_files: Mapping[str, bytes | None], new_files: Mapping[str, bytes | None]) -> dict[str, str]:
    """Map the old path to the new path of each file that was renamed, judged by a content hash that occurs once on each
    side.
    """
    gone, come = _contents(old_files, new_files), _contents(new_files, old_files)
    return {
        paths[0]: come[content][0]
        for content, paths in gone.items()
        if len(paths) == 1 and len(come.get(content, ())) == 1
    }


def match(old: Sequence[Traits], new: Sequence[Traits], *, renamed: Mapping[str, str] | None = None) -> Matched:
    """Match equal findings of two scans one to one, never across tools or rules.

    Deterministic and independent of the order of the findings, except that findings with equal traits are paired in
    order. ``renamed`` maps old paths to new ones; a path mapped to itself was not renamed. Other renames are inferred
    from the content of the files, or from common lines of their findings. If the text of a line is unknown, the message
    decides. Takes n log n time, even if all findings are equal.
    """
    matching = _Matching(old, new)
    _match_fingerprints(matching)
    matching.sort()
    # A line number is good evidence, but unique neighbouring lines are better: after an insertion above several equal
    # lines, one of them is often at the old position of another.
    matching.run("line", lambda t: (t.path, t.line, t.line_hash, t.message_key, t.context_hash))
    matching.run("block", lambda t: _placed(t) and (t.path, t.line_hash, t.message_key, t.context_hash), unique=True)
    matching.run("line", lambda t: (t.path, t.line, t.line_hash, t.message_key))
    matching.run("line", lambda t: t.line_hash and t.line and (t.path, t.line, t.line_hash))
    matching.run_textless("line", lambda t: (t.path, t.line, t.message_key))
    matching.run("text", lambda t: _placed(t) and (t.path, t.line_hash, t.message_key, t.context_hash))
    matching.run("text", lambda t: (t.path, t.line_hash, t.message_key))
    matching.run_textless("text", lambda t: (t.path, t.message_key))
    matching.run("block", lambda t: _placed(t) and (t.path, t.line_hash, t.context_hash))
    _match_offsets(matching)
    moved = _moved(matching, renamed or {})
    matching.run_moved("renamed", moved, lambda t: _placed(t) and (t.path, t.line_hash, t.message_key, t.context_hash))
    matching.run_moved("renamed", moved, lambda t: (t.path, t.line_hash, t.message_key))
    matching.run_moved("renamed", moved, lambda t: t.line_hash and (t.path, t.line_hash))
    matching.run("symbol", lambda t: t.symbol and (t.path, t.symbol, t.message_key))
    matching.run_moved("symbol", moved, lambda t: t.symbol and (t.path, t.symbol, t.message_key))
    _match_symbols(matching)
    return matching.result()


class _Matching:
    """The two sets of findings and their unmatched members. The sort order depends only on the traits."""

    def __init__(self, old: Sequence[Traits], new: Sequence[Traits]) -> None:
        self.old, self.new = old, new
        self.pairs: list[Pair] = []
        self.old_left, self.new_left = dict.fromkeys(range(len(old))), dict.fromkeys(range(len(new)))

    def sort(self) -> None:
        """Sort both sides. The following passes depend on the order."""
        self.old_left = dict.fromkeys(sorted(self.old_left, key=lambda i: _order(self.old[i])))
        self.new_left = dict.fromkeys(sorted(self.new_left, key=lambda i: _order(self.new[i])))

    def pair(self, old: int, new: int, by: str) -> None:
        del self.old_left[old], self.new_left[new]
        self.pairs.append(Pair(old, new, by))

    def run(self, by: str, key: Key, new_key: Key | None = None, *, unique: bool = False) -> None:
        """Pair findings with the same key, nearest first. ``unique``: only if the key occurs once on each side."""
        if self.old_left and self.new_left:
            self._run(
                by, _groups(self.old, self.old_left, key), _groups(self.new, self.new_left, new_key or key), unique
            )

    def run_textless(self, by: str, key: Key) -> None:
        """Pair findings with the same key if the line text of exactly one of the two is unknown."""
        self.run(by, lambda t: t.line_hash is None and key(t), lambda t: t.line_hash is not None and key(t))
        self.run(by, lambda t: t.line_hash is not None and key(t), lambda t: t.line_hash is None and key(t))

    def run_moved(self, by: str, moved: Mapping[str, str], key: Key) -> None:
        """Pair findings with the same key after applying the renames to the old ones."""
        self.run(by, lambda t: t.path in moved and key(t._replace(path=moved[t.path or ""])), key)

    def _run(self, by: str, olds: Mapping[object, list[int]], news: Mapping[object, list[int]], unique: bool) -> None:
        for key, ours in olds.items():
            theirs = news.get(key)
            if theirs is None:
                continue
            if len(ours) == len(theirs) == 1:
                self.pair(ours[0], theirs[0], by)
            elif not unique:
                for old, new in _nearest(_by_line(self.old, ours), _by_line(self.new, theirs)):
                    self.pair(old, new, by)

    def result(self) -> Matched:
        return Matched(sorted(self.pairs), sorted(self.old_left), sorted(self.new_left))


def _groups(traits: Sequence[Traits], left: Iterable[int], key: Key) -> dict[object, list[int]]:
    groups: dict[object, list[int]] = {}
    for index in left:
        one = traits[index]
        agreed = key(one)
        if agreed:
            groups.setdefault((one.tool, one.rule, agreed), []).append(index)
    return groups


def _by_line(traits: Sequence[Traits], indexes: Iterable[int]) -> dict[int, list[int]]:
    lines: dict[int, list[int]] = {}
    for index in indexes:
        lines.setdefault(traits[index].line or 0, []).append(index)
    return lines


def _nearest(old: dict[int, list[int]], new: dict[int, list[int]]) -> Iterator[tuple[int, int]]:
    """Pair all findings of the smaller side, repeatedly taking the two nearest remaining lines.

    The nearest lines are adjacent in the sorted lines of both sides, so a heap of adjacent pairs is sufficient. When a
    line has no finding left, the lines beside it become adjacent.
    """
    nodes = sorted([(line, 0) for line in old] + [(line, 1) for line in new])
    waiting = [(new if side else old)[line][::-1] for line, side in nodes]
    before, after = list(range(-1, len(nodes) - 1)), list(range(1, len(nodes) + 1))

    def distance(left: int, right: int) -> tuple[int, int, int]:
        return nodes[right][0] - nodes[left][0], left, right

    heap = [distance(i, i + 1) for i in range(len(nodes) - 1) if nodes[i][1] != nodes[i + 1][1]]
    heapify(heap)
    while heap:
        _, left, right = heappop(heap)
        ours, theirs = (left, right) if nodes[right][1] else (right, left)
        while waiting[ours] and waiting[theirs]:
            yield waiting[ours].pop(), waiting[theirs].pop()
        for node in (left, right):
            if not waiting[node] and after[node] >= 0:
                low, high = before[node], after[node]
                after[node] = -1  # removed
                if low >= 0:
                    after[low] = high
                if high < len(nodes):
                    before[high] = low
                if low >= 0 and high < len(nodes) and nodes[low][1] != nodes[high][1]:
                    heappush(heap, distance(low, high))


def _match_fingerprints(matching: _Matching) -> None:
    """First pass: match by the tool's own fingerprints. Of several names the last is used first: x/v2 before x/v1."""
    olds, news = _fingerprints(matching.old), _fingerprints(matching.new)
    for name in sorted(olds.keys() & news.keys(), reverse=True):
        ours, theirs = olds[name], news[name]
        for value in ours.keys() & theirs.keys():  # each finding has only one of them, so their order does not matter
            old, new = ours[value], theirs[value]
            free = old in matching.old_left and new in matching.new_left
            if free and matching.old[old].rule == matching.new[new].rule:
                matching.pair(old, new, "fingerprint")


def _fingerprints(side: Sequence[Traits]) -> dict[tuple[str, str], dict[str, int]]:
    """Return the finding of each reliable fingerprint, by (name, tool) and value.

    A fingerprint shared by several findings is ignored. A name with mostly shared values (a constant, a hash of the
    rule) is ignored completely, and so is a value with blanks, which is a remark ("requires login").
    """
    holders: dict[tuple[str, str], dict[str, list[int]]] = {}
    for index, one in enumerate(side):
        for name, value in one.fingerprints.items():
            holders.setdefault((name, one.tool), {}).setdefault(value, []).append(index)
    trusted = {}
    for key, values in holders.items():
        alone = {value: found[0] for value, found in values.items() if len(found) == 1 and len(value.split()) == 1}
        if 2 * len(alone) > sum(map(len, values.values())):
            trusted[key] = alone
    return trusted


def _match_offsets(matching: _Matching) -> None:
    """Part of the block pass: same text, moved by the same distance as the nearest matched finding above or below."""
    steps: dict[str | None, list[tuple[int, int]]] = {}
    for old, new, _ in matching.pairs:
        was, now = matching.old[old], matching.new[new]
        if was.path == now.path and was.line and now.line:
            steps.setdefault(was.path, []).append((was.line, now.line - was.line))
    for known in steps.values():
        known.sort()
    waiting = _groups(
        matching.new, matching.new_left, lambda t: t.line_hash and t.line and (t.path, t.line, t.line_hash)
    )
    for index in list(matching.old_left):
        one = matching.old[index]
        known = steps.get(one.path, [])
        if not (one.line and one.line_hash and known):
            continue
        at = bisect_left(known, (one.line, 0))
        around = sorted(known[max(at - 1, 0) : at + 1], key=lambda step: abs(step[0] - (one.line or 0)))
        for _, offset in around:
            found = waiting.get((one.tool, one.rule, (one.path, one.line + offset, one.line_hash)))
            if found:
                matching.pair(index, found.pop(), "block")
                break


def _match_symbols(matching: _Matching) -> None:
    """Part of the symbol pass: the symbol is in another file now. The symbol and the message must be unique."""

    def key(t: Traits) -> object:
        return t.symbol and (t.symbol, t.message_key)

    olds, news = (_groups(side, range(len(side)), key) for side in (matching.old, matching.new))
    for agreed, ours in olds.items():
        theirs = news.get(agreed, [])
        if len(ours) == len(theirs) == 1 and ours[0] in matching.old_left and theirs[0] in matching.new_left:
            matching.pair(ours[0], theirs[0], "symbol")


def _moved(matching: _Matching, known: Mapping[str, str]) -> dict[str, str]:
    """Map old to new paths of renamed files: the known ones, then those with the same content, then those whose
    findings have mostly the same lines.
    """
    moved = {was: now for was, now in known.items() if was != now}
    if not (matching.old_left and matching.new_left):
        return moved
    old_paths, new_paths = ({t.path: t.file_hash for t in side if t.path} for side in (matching.old, matching.new))
    targets = set(known.values())
    gone = {path: content for path, content in old_paths.items() if path not in new_paths and path not in known}
    come = {path: content for path, content in new_paths.items() if path not in old_paths and path not in targets}
    same = renames(gone, come)
    moved |= same
    targets |= set(same.values())
    for was, now in _alike(matching, gone.keys() - same.keys(), come.keys() - targets):
        if was not in moved and now not in targets:
            moved[was] = now
            targets.add(now)
    return moved


def _alike(matching: _Matching, gone: set[str], come: set[str]) -> list[tuple[str, str]]:
    """Return pairs of a removed and an added path whose findings have mostly the same lines, the most likely first."""
    olds, news = _texts(matching.old, gone), _texts(matching.new, come)
    common: Counter[tuple[str, str]] = Counter()
    for text, ours in olds.items():
        theirs = news.get(text, Counter())
        crowded = len(ours) * len(theirs) > CROWD
        for mine, their in _namesakes(ours, theirs) if crowded else [(ours, theirs)]:
            for was in mine:
                for now in their:
                    common[was, now] += min(ours[was], theirs[now])
    sizes = Counter(t.path for side in (matching.old, matching.new) for t in side if t.line_hash)
    likely = [pair for pair, count in common.items() if 2 * count >= min(sizes[pair[0]], sizes[pair[1]])]
    return sorted(likely, key=lambda pair: (-common[pair], _name(pair[0]) != _name(pair[1]), pair))


def _namesakes(ours: Iterable[str], theirs: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
    """If there are too many paths on both sides, return those with the same file names, up to a limit."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for side, paths in enumerate((ours, theirs)):
        for path in paths:
            groups.setdefault(_name(path), ([], []))[side].append(path)
    return (group for group in groups.values() if len(group[0]) * len(group[1]) <= CROWD)


def _texts(side: Sequence[Traits], paths: set[str]) -> dict[tuple[str, str, bytes], Counter[str]]:
    texts: dict[tuple[str, str, bytes], Counter[str]] = {}
    for one in side:
        if one.line_hash and one.path in paths:
            texts.setdefault((one.tool, one.rule, one.line_hash), Counter())[one.path] += 1
    return texts


def _contents(files: Mapping[str, bytes | None], others: Mapping[str, bytes | None]) -> dict[bytes, list[str]]:
    """Return the paths by content of the files that are not among the others."""
    contents: dict[bytes, list[str]] = {}
    for path, content in files.items():
        if content is not None and path not in others:
            contents.setdefault(content, []).append(path)
    return contents


def _context(lines: Sequence[str], at: int) -> bytes | None:
    """Return an eight-byte hash of the non-blank lines around a line, or None if there are none."""
    above = _neighbours(lines, range(at - 1, max(at - FARTHEST, 0) - 1, -1))
    below = _neighbours(lines, range(at + 1, min(at + FARTHEST, len(lines))))
    if not above and not below:
        return None
    return blake2b(b"".join(above) + b"|" + b"".join(below), digest_size=8).digest()


def _neighbours(lines: Sequence[str], ats: Iterable[int]) -> list[bytes]:
    found: list[bytes] = []
    for at in ats:
        hashed = text_hash(lines[at])
        if hashed:
            found.append(hashed)
            if len(found) == NEIGHBOURS:
                break
    return found


def _placed(t: Traits) -> bool:
    return t.line_hash is not None and t.context_hash is not None


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _order(t: Traits) -> tuple[object, ...]:
    return (
        t.path or "",
        t.line or 0,
        t.tool,
        t.rule,
        t.message_key,
        t.line_hash or b"",
        t.context_hash or b"",
        t.symbol or "",
        sorted(t.fingerprints.items()),
        t.file_hash or b"",
    )
