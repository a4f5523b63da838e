"""Identity: findings stay recognised while their files are edited, moved and renamed. Pure, so tested by properties."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanstore.findings import identity
from scanstore.findings.identity import (
    PASSES,
    Matched,
    Traits,
    match,
    message_key,
    renames,
    same_content,
    text_hash,
    traits_of,
)


def one(**changed: Any) -> Traits:
    """A finding on line 10 of a.py; its line reads ``text``, the lines around it ``around``."""
    text, around = changed.pop("text", "eval(x)"), changed.pop("around", None)
    known: dict[str, Any] = {"line": 10, "message_key": "eval is bad", "line_hash": text and text_hash(text)}
    known["context_hash"] = around and text_hash(around)
    return Traits("tool", "R1", "a.py")._replace(**{**known, **changed})


def by(matched: Matched) -> list[str]:
    return [pair.by for pair in matched.pairs]


def ends(matched: Matched) -> list[tuple[int, int]]:
    return [(pair.old, pair.new) for pair in matched.pairs]


# A file under edit: each line has an identity of its own, which the matching never sees.


class Line(NamedTuple):
    uid: int
    text: str

    @property
    def found(self) -> bool:
        return "eval" in self.text


TEXTS = ("x = 1", "eval(x)", "eval(y)", "", "}", "return x")


@st.composite
def edited(draw: st.DrawFn, *, unique: bool = False) -> tuple[list[Line], list[Line]]:
    """A file and what edits made of it; lines that were not touched keep their ``uid``."""

    uids = count(1)

    def fresh(text: str) -> Line:
        uid = next(uids)
        return Line(uid, f"{text} # {uid}" if unique and text else text)

    old = [fresh(text) for text in draw(st.lists(st.sampled_from(TEXTS), max_size=25))]
    new = list(old)
    for edit in draw(st.lists(st.sampled_from(["insert", "delete", "move", "duplicate", "indent"]), max_size=6)):
        start = draw(st.integers(0, len(new)))
        stop = min(start + draw(st.integers(1, 6)), len(new))
        if edit == "insert":
            new[start:start] = map(fresh, draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6)))
        elif edit == "delete":
            del new[start:stop]
        elif edit == "move":
            block = new[start:stop]
            del new[start:stop]
            at = draw(st.integers(0, len(new)))
            new[at:at] = block
        elif edit == "duplicate" and start < stop:
            new[start:start] = [fresh(new[start].text)]
        elif edit == "indent":
            new[start:stop] = [line._replace(text=f"    {line.text.strip()}") for line in new[start:stop]]
    return old, new


def findings(
    source: Sequence[Line], path: str = "a.py", *, text: bool = True, symbol: str | None = None
) -> list[Traits]:
    lines = [line.text for line in source]
    return [
        traits_of(
            lines if text else None,
            tool="tool",
            rule="R1",
            path=path,
            line=n,
            message=f"eval in line {n}",
            symbol=symbol,
        )
        for n, line in enumerate(source, 1)
        if line.found
    ]


def torn(matched: Matched, old: Sequence[Line], new: Sequence[Line]) -> set[int]:
    """Lines that were not touched and whose finding is both gone and come."""
    was, now = ([line.uid for line in side if line.found] for side in (old, new))
    return {was[i] for i in matched.gone} & {now[i] for i in matched.come}


def check(matched: Matched, old: Sequence[Traits], new: Sequence[Traits]) -> None:
    """What is true of any matching: one to one, complete, within tool and rule."""
    assert sorted([p.old for p in matched.pairs] + matched.gone) == list(range(len(old)))
    assert sorted([p.new for p in matched.pairs] + matched.come) == list(range(len(new)))
    for a, b, name in matched.pairs:
        assert old[a][:2] == new[b][:2] and name in PASSES


@given(edited(), st.sampled_from(["a.py", "b.py"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_untouched_finding_is_never_new_and_fixed(
    sources: tuple[list[Line], list[Line]], path: str, text: bool
) -> None:
    old, new = sources
    was, now = findings(old, text=text), findings(new, path, text=text)
    matched = match(was, now, renamed={"a.py": path})
    check(matched, was, now)
    assert not torn(matched, old, new)
    if not text:  # nothing tells them apart, so as many as there are stay
        assert len(matched.pairs) == min(len(was), len(now))


@given(edited(unique=True), st.sampled_from(["a.py", "b.py"]))
@settings(max_examples=60, deadline=None)
def test_lines_that_read_unlike_each_other_keep_their_findings(
    sources: tuple[list[Line], list[Line]], path: str
) -> None:
    old, new = sources
    matched = match(findings(old), findings(new, path), renamed={"a.py": path})
    was, now = ([line.uid for line in side if line.found] for side in (old, new))
    copies = Counter(line.text.strip() for line in new)
    for a, b, _ in matched.pairs:
        assert old_text(old, was[a]) == old_text(new, now[b])
        assert was[a] == now[b] or copies[old_text(new, now[b])] > 1
    texts = Counter(line.text.strip() for line in old if line.found)
    left = Counter(line.text.strip() for line in new if line.found)
    assert len(matched.gone) == (texts - left).total() and len(matched.come) == (left - texts).total()


def old_text(source: Sequence[Line], uid: int) -> str:
    return next(line.text.strip() for line in source if line.uid == uid)


@given(edited(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_findings_does_not_matter(sources: tuple[list[Line], list[Line]], rng: random.Random) -> None:
    was, now = findings(sources[0], symbol="f"), findings(sources[1], symbol="f")
    mixed_was, mixed_now = rng.sample(was, len(was)), rng.sample(now, len(now))
    assert lines(match(was, now), was, now) == lines(match(mixed_was, mixed_now), mixed_was, mixed_now)


def lines(matched: Matched, old: Sequence[Traits], new: Sequence[Traits]) -> set[tuple[int | None, int | None, str]]:
    return {(old[a].line, new[b].line, name) for a, b, name in matched.pairs}


@given(edited(), st.sampled_from(["a.py", "b.py"]))
@settings(max_examples=40, deadline=None)
def test_there_and_back_are_the_same(sources: tuple[list[Line], list[Line]], path: str) -> None:
    was, now = findings(sources[0]), findings(sources[1], path)
    there = match(was, now, renamed={"a.py": path})
    back = match(now, was, renamed={path: "a.py"})
    assert len(there.pairs) == len(back.pairs)
    if there.gone == [] or there.come == []:
        assert bool(back.gone) == bool(there.come) and bool(back.come) == bool(there.gone)


@given(st.lists(st.integers(1, 30), max_size=12), st.lists(st.integers(1, 30), max_size=12))
def test_the_nearest_of_equal_findings_come_first(old_lines: list[int], new_lines: list[int]) -> None:
    old, new = [one(line=n) for n in old_lines], [one(line=n) for n in new_lines]
    matched = match(old, new)
    check(matched, old, new)
    assert len(matched.pairs) == min(len(old), len(new))
    distances = sorted(abs(old[a].line - new[b].line) for a, b in ends(matched))  # type: ignore[operator]
    assert distances == sorted(greedy(old_lines, new_lines))


def greedy(old: list[int], new: list[int]) -> list[int]:
    """The distances that taking the two nearest again and again comes to, the slow way."""
    old, new, found = list(old), list(new), []
    while old and new:
        distance, _, a, b = min((abs(a - b), a + b, a, b) for a in old for b in new)
        found.append(distance)
        old.remove(a)
        new.remove(b)
    return found


@given(edited(unique=True))
@settings(max_examples=40, deadline=None)
def test_a_rename_is_guessed_from_the_content(sources: tuple[list[Line], list[Line]]) -> None:
    was = [t._replace(file_hash=b"same") for t in findings(sources[0])]
    now = [t._replace(path="lib/b.py") for t in was]
    assert ends(match(was, now)) == [(i, i) for i in range(len(was))]


# The passes, one by one.


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ({"fingerprints": {"h": "1"}}, {"fingerprints": {"h": "1"}, "path": "z.py", "text": "y"}, "fingerprint"),
        ({}, {}, "line"),
        ({}, {"message_key": "other", "around": "other"}, "line"),
        ({}, {"text": None}, "line"),
        ({"around": "{}"}, {"around": "{}"}, "line"),
        ({"text": None, "line": None}, {"text": None, "line": None}, "line"),
        ({"text": None, "line": None, "path": None}, {"text": None, "line": None, "path": None}, "line"),
        ({}, {"line": 90}, "text"),
        ({"text": None}, {"line": 90}, "text"),
        ({"text": None}, {"text": None, "line": 90}, "text"),
        ({"around": "{}"}, {"around": "{}", "line": 90}, "block"),
        ({"around": "{}"}, {"around": "{}", "line": 90, "message_key": "other"}, "block"),
        ({"file_hash": b"1"}, {"file_hash": b"1", "path": "b.py"}, "renamed"),
        ({}, {"path": "b.py", "line": 11, "message_key": "other"}, "renamed"),
        ({"symbol": "f"}, {"symbol": "f", "text": "eval(y)", "line": 90}, "symbol"),
        ({"symbol": "f"}, {"symbol": "f", "text": "eval(y)", "path": "b.py"}, "symbol"),
        ({"text": "eval(y)"}, {}, None),
        ({"text": None}, {"text": None, "message_key": "other"}, None),
        ({}, {"line": 90, "message_key": "other"}, None),
        ({"symbol": "f", "text": "eval(y)"}, {"symbol": "f", "message_key": "other"}, None),
        ({}, {"rule": "R2"}, None),
        ({}, {"tool": "another"}, None),
        ({"fingerprints": {"h": "1"}}, {"fingerprints": {"h": "1"}, "rule": "R2"}, None),
    ],
)
def test_what_each_pass_recognises(old: dict[str, Any], new: dict[str, Any], name: str | None) -> None:
    found = match([one(**old)], [one(**new)])
    assert by(found) == ([name] if name else [])
    assert by(match([one(**new)], [one(**old)])) == by(found)


def test_surer_passes_come_first() -> None:
    moved = one(line=30, fingerprints={"h": "1"})
    assert ends(match([one(fingerprints={"h": "1"})], [one(), moved])) == [(0, 1)]
    assert ends(match([one()], [one(line=11), one(path="b.py"), one()])) == [(0, 2)]
    assert ends(match([one(symbol="f")], [one(symbol="f", text="y"), one(line=99, symbol="g")])) == [(0, 1)]


def test_the_message_decides_between_findings_on_one_line() -> None:
    names = [one(message_key=m) for m in "abc"]
    assert ends(match(names, names[::-1])) == [(0, 2), (1, 1), (2, 0)]
    new = [one(message_key="c", around="changed"), one(message_key="new", around="changed")]
    assert ends(match(names, new)) == [(0, 1), (2, 0)]


def test_equal_findings_match_as_many_as_there_are() -> None:
    found = match([one()] * 3, [one()] * 5)
    assert ends(found) == [(0, 0), (1, 1), (2, 2)] and found.come == [3, 4] and found.gone == []
    found = match([one()] * 5, [one(path="b.py")] * 3, renamed={"a.py": "b.py"})
    assert len(found.pairs) == 3 and found.gone == [3, 4]


def test_neighbours_beat_a_line_number_where_another_equal_finding_stood() -> None:
    old = [one(line=n, around=str(n)) for n in (10, 20, 30)]
    new = [one(line=n + 10, around=str(n)) for n in (10, 20, 30)]
    assert ends(match(old, new)) == [(0, 0), (1, 1), (2, 2)]
    again = [one(line=n, around="same") for n in (10, 20)]
    new = [one(line=18, around="same"), one(line=20, around="changed")]
    assert ends(match(again, new)) == [(0, 0), (1, 1)], "neighbours found twice say nothing"


def test_neighbours_beat_the_distance() -> None:
    old = [one(line=n, around=around) for n, around in ((10, "a"), (11, "a"), (40, "b"), (41, "b"))]
    new = [one(line=n, around=around) for n, around in ((12, "b"), (13, "b"), (38, "a"), (39, "a"))]
    assert {(old[a].context_hash == new[b].context_hash) for a, b in ends(match(old, new))} == {True}
    old = [one(line=n, around=str(n)) for n in (10, 20)]
    new = [one(line=n + 10, around=str(n), path="b.py") for n in (10, 20)]
    assert ends(match(old, new)) == [(0, 0), (1, 1)]


def test_a_function_keeps_as_many_findings_as_it_has_when_it_is_rewritten() -> None:
    old = [one(text=f"old {n}", line=n, symbol="f") for n in (10, 20, 30)]
    new = [one(text=f"new {n}", line=n, symbol="f") for n in (32, 12)]
    assert ends(match(old, new)) == [(0, 1), (2, 0)]
    new = [t._replace(path="b.py") for t in new]
    assert match(old, new).pairs == [], "several findings of one name may be of another function"
    assert ends(match(old, new, renamed={"a.py": "b.py"})) == [(0, 1), (2, 0)]


def test_a_finding_moves_with_those_around_it() -> None:
    old = [one(line=9, rule="R2"), one(message_key="5 left")]
    new = [one(line=49, rule="R2"), one(line=50, message_key="none left"), one(line=60, message_key="none left")]
    found = match(old, new)
    assert ends(found) == [(0, 0), (1, 1)] and by(found) == ["text", "block"]


def test_a_deleted_line_is_gone_and_an_inserted_one_has_come() -> None:
    old = [one(text=f"eval({i})", line=10 * i) for i in range(5)]
    new = [one(text=f"eval({i})", line=10 * i + 3) for i in (0, 1, 3, 4, 7)]
    found = match(old, new)
    assert found.gone == [2] and found.come == [4]


def test_nothing_to_match() -> None:
    assert match([], []) == ([], [], [])
    assert match([one()], []) == ([], [0], [])
    assert match([], [one()]) == ([], [], [0])


# Fingerprints of tools.


@pytest.mark.parametrize("value", ["requires login", "constant", ""])
def test_a_constant_id_is_not_trusted(value: str) -> None:
    ids = {"matchBasedId/v1": value}
    old = [one(text=f"old {i}", path=f"{i}.py", fingerprints=ids) for i in range(3)]
    new = [one(text=f"new {i}", path=f"{i}.py", fingerprints=ids) for i in range(3)]
    assert match(old, new).pairs == []
    assert match(old[:1], new).pairs == [], "one finding alone cannot tell; the other side can"


def test_a_remark_instead_of_an_id_is_not_trusted_even_once() -> None:
    ids = {"id": "requires login"}
    assert match([one(fingerprints=ids)], [one(fingerprints=ids, text="y", path="b.py")]).pairs == []


def test_an_id_that_repeats_is_not_trusted_and_others_are() -> None:
    old = [one(text=f"old {i}", fingerprints={"h": h}) for i, h in enumerate("abcdd")]
    new = [one(text=f"new {i}", line=i, fingerprints={"h": h}) for i, h in enumerate("ddabc")]
    assert ends(match(old, new)) == [(0, 2), (1, 3), (2, 4)]


def test_a_name_whose_ids_mostly_repeat_is_not_trusted_at_all() -> None:
    old = [one(text=f"old {i}", fingerprints={"h": h}) for i, h in enumerate("abbcc")]
    new = [one(text=f"new {i}", line=i, fingerprints={"h": h}) for i, h in enumerate("ccbba")]
    assert match(old, new).pairs == []


def test_the_newer_of_two_names_counts_first() -> None:
    old = [one(text="x", fingerprints={"h/v1": "1", "h/v2": "2"})]
    new = [one(text="y", line=i, fingerprints=ids) for i, ids in enumerate([{"h/v1": "1"}, {"h/v2": "2"}])]
    assert ends(match(old, new)) == [(0, 1)]


# Renames.


def test_renames_are_by_content_that_is_nowhere_else() -> None:
    old = {"a": b"1", "b": b"2", "c": b"3", "d": b"3", "stays": b"4", "unread": None}
    new = {"x": b"1", "y": b"2", "z": b"2", "e": b"3", "stays": b"5", "copy": b"4", "unknown": None}
    assert renames(old, new) == {"a": "x"}
    assert renames(new, old) == {"x": "a"}


def test_a_rename_is_guessed_from_most_of_the_lines() -> None:
    old = [one(text=f"eval({i})", line=i + 1) for i in range(4)]
    new = [one(text=f"eval({i})", line=i + 9, path="b.py") for i in (0, 1, 2, 9)]
    found = match(old, new)
    assert ends(found) == [(0, 0), (1, 1), (2, 2)] and set(by(found)) == {"renamed"}
    other = [one(text=f"eval({i})", line=i + 9, path="b.py") for i in (0, 7, 8, 9)]
    assert match(old, other).pairs == []


def test_the_likeliest_file_is_the_new_one() -> None:
    old = [one(text=f"eval({i})", line=i + 1) for i in range(3)]
    some = [one(text=f"eval({i})", line=i + 1, path="b.py") for i in range(2)]
    most = [one(text=f"eval({i})", line=i + 1, path="c.py") for i in range(3)]
    assert ends(match(old, some + most)) == [(0, 2), (1, 3), (2, 4)]
    assert ends(match([one(path="x/y.py")], [one(path="z/a.py"), one(path="z/y.py")])) == [(0, 1)]
    content = one(file_hash=b"1")
    assert ends(match([content], [one(path="b.py"), content._replace(path="c.py")])) == [(0, 1)]


def test_a_file_that_is_known_to_stay_was_not_renamed() -> None:
    assert match([one()], [one(path="b.py")]).gone == []
    assert match([one()], [one(path="b.py")], renamed={"a.py": "a.py"}).gone == [0]
    assert match([one()], [one(path="b.py")], renamed={"b.py": "b.py"}).gone == [0]
    assert match([one()], [one(path="a.py", line=3), one(path="b.py")]).come == [1]
    content = one(file_hash=b"1")
    assert match([content], [content._replace(path="b.py")], renamed={"b.py": "b.py"}).gone == [0]
    assert match([one()], [one(line=90, message_key="other")], renamed={"a.py": "a.py"}).gone == [0]


def test_a_folder_is_renamed_with_the_same_line_in_all_its_files() -> None:
    old = [one(path=f"src/{i}.py") for i in range(300)]
    new = [one(path=f"lib/{i}.py") for i in range(299, -1, -1)]
    assert ends(match(old, new)) == [(i, 299 - i) for i in range(300)]


# Traits.


def test_white_space_is_no_difference() -> None:
    tabs, blanks = (
        traits_of(lines, tool="t", rule="r", path="p", line=2)
        for lines in (["a", "\tx  =\t1\r\n", "", "b"], ["a  ", "x = 1", "b"])
    )
    assert tabs == blanks and tabs.line_hash and tabs.context_hash


def test_the_context_is_three_lines_that_are_not_blank_on_each_side() -> None:
    def context(lines: list[str], line: int) -> bytes | None:
        return traits_of(lines, tool="t", rule="r", path="p", line=line).context_hash

    lines = ["1", "2", "3", "", "4", "x", "5", "", "6", "7", "8"]
    assert context(lines, 6) == context(lines[1:10], 5)
    assert context(lines, 6) != context(lines[2:], 4) and context(lines, 6) != context(lines[:-2], 6)
    assert context(["a", "x"], 2) != context(["x", "a"], 1)
    assert context(["", "x", " "], 2) is None


def test_without_source_the_snippet_gives_the_text() -> None:
    plain = traits_of(["eval(x)"], tool="t", rule="r", path="p", line=1)
    assert traits_of(None, tool="t", rule="r", path="p", line=1, snippet="\n  eval(x)\n  y\n") == plain
    assert traits_of(["short"], tool="t", rule="r", path="p", line=9, snippet="eval(x)").line_hash == plain.line_hash
    assert traits_of(["short"], tool="t", rule="r", path="p", line=9).line_hash is None
    assert traits_of(["", "x"], tool="t", rule="r", path="p", line=1).line_hash is None
    assert traits_of(["\udcff"], tool="t", rule="r", path="p", line=1).line_hash is not None


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("line 12 of 300", "line # of #"),
        ("lines 10-20 took 1.5 s, 12ms", "lines #-# took # s, #ms"),
        ("at 0x7fFFa01c and 0x0", "at # and #"),
        ('"src/a1.py:12:5"  and\n"src/a1.py:12"', '"src/a1.py:#" and "src/a1.py:#"'),
        ("md5 is weak, use sha256", "md5 is weak, use sha256"),
        ("CVE-2021-44228 in log4j 2.14.1", "CVE-2021-44228 in log4j #"),
        ("run 550e8400-E29B-41d4-a716-446655440000", "run #"),
        ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "commit #"),
        ("commit deadbeefdeadbeef1", "commit #"),
        ("feedface is a word", "feedface is a word"),
        ("größe2 und 3 Fälle", "größe2 und # Fälle"),
        ("", ""),
    ],
)
def test_a_messages_own_numbers_are_masked(message: str, key: str) -> None:
    assert message_key(message) == key == message_key(key)


@given(st.text(), st.text())
def test_any_text_has_traits(text: str, message: str) -> None:
    made = traits_of(text.splitlines(), tool="t", rule="r", path=None, line=1, message=message, snippet=text)
    assert ends(match([made], [made])) == [(0, 0)]
    assert message_key(made.message_key) == made.message_key


def test_same_content_is_about_the_text_of_the_line() -> None:
    assert same_content(one(), one(line=99, path="b.py", around="x"))
    assert not same_content(one(), one(text="eval(y)"))
    assert same_content(one(text=None), one()) and same_content(one(), one(text=None))


# Many.

MANY = 3_000


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n, side: one(line=2 * n + side), id="alike, near each other"),
        pytest.param(lambda n, side: one(line=n + MANY * side), id="alike, far from each other"),
        pytest.param(lambda n, side: one(), id="alike, on one line"),
        pytest.param(lambda n, side: one(path=f"{side}/{n}.py"), id="alike, each in a file that was renamed"),
        pytest.param(lambda n, side: one(path=f"{side}/x", line=n, text=f"{n}"), id="one file that was renamed"),
        pytest.param(lambda n, side: one(line=n + 1, text=f"{n}", message_key=f"{side}"), id="messages changed"),
        pytest.param(lambda n, side: one(text=f"{side}", symbol="f"), id="one function that was rewritten"),
        pytest.param(lambda n, side: one(text=f"{n}{side}", fingerprints={"h": f"{n}"}), id="fingerprints"),
    ],
)
def test_many_findings_take_no_more_than_n_log_n(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts what a matching does for each finding: keys that are made, and pairs of neighbours that are looked at."""
    work = Counter[str]()
    groups, pushed = identity._groups, heapq.heappush

    def counted(traits: Sequence[Traits], left: Any, key: Any) -> Any:
        left = list(left)
        work["keys"] += len(left)
        return groups(traits, left, key)

    def push(heap: Any, item: Any) -> None:
        work["heap"] += 1
        pushed(heap, item)

    monkeypatch.setattr(identity, "_groups", counted)
    monkeypatch.setattr(identity, "heappush", push)
    found = match([make(n, 0) for n in range(MANY)], [make(n, 1) for n in range(MANY)])
    assert len(found.pairs) == MANY
    assert work["keys"] <= 50 * MANY and work["heap"] <= 4 * MANY
