"""Ignore patterns whose matching takes no longer than the path and the pattern are long.

pathspec writes a pattern of a `.gitignore` as a regular expression in which every wildcard may be tried at every place.
A line such as `*a*a*a*a*a*b`, which anybody may put into a tree, then takes longer than the universe lasts. But of
several wildcards only the last has a choice: each of the others may take as little as it can, since the next one takes
the rest. That holds for `*` between two slashes and for `**` between whole names. So all but the last become atomic
groups, which are never tried again.

Change here: how patterns are matched.
"""

from __future__ import annotations

import re
import warnings

from pathspec import GitIgnoreSpec, RegexPattern

FIRST, INNER, STAR = "^(?:.+/)?", "(?:/.+)?", "[^/]*"
_TOKEN = re.compile(
    r"(?P<first>\^\(\?:\.\+/\)\?)|(?P<inner>\(\?:/\.\+\)\?)|(?P<star>(?:\[\^/\]\*)+)"
    r"|(?P<end>\(\?P<\w+>/\)|\(\?:\(\?P<\w+>/\)\|\$\)|\(\?:/\.\*\)\?\$|/\.\*\$|\$)|(?P<slash>/)"
    r"|(?P<one>\\.|\[\^?\]?(?:\\.|[^\]\\])*\]\+?|.)",
    re.DOTALL,
)


def linear(regex: str) -> str:
    """Return an expression that matches the same paths as one that pathspec made, in linear time for each wildcard."""
    parts: list[str] = [""]  # what stands between two of `**`
    segment: list[tuple[str, str]] = []

    def flush() -> None:
        parts[-1] += _segment(segment)
        segment.clear()

    for token in _TOKEN.finditer(regex):
        kind = token.lastgroup or ""
        if kind in ("star", "one"):
            segment.append((kind, STAR if kind == "star" else token[0]))
            continue
        flush()
        if kind == "inner":
            parts.append("")
        else:
            parts[-1] += token[0]
    flush()
    *others, last = parts
    if not others:
        return last
    first, *inner = others
    begin = first.removeprefix(FIRST)
    head = first if begin == first else f"(?>^(?:.+?/)??{begin}(?=/))"
    return head + "".join(f"(?>(?:/.+?)??{part}(?=/))" for part in inner) + INNER + last


def _segment(tokens: list[tuple[str, str]]) -> str:
    """The expression of what stands between two slashes."""
    found, stars = "", sum(kind == "star" for kind, _ in tokens)
    is_open = False
    for kind, text in tokens:
        if kind == "star":
            stars -= 1
            found += ")" if is_open else ""
            is_open = stars > 0
            text = f"(?>{STAR}?" if is_open else text
        elif text.startswith("[^") and not text.startswith("[^/"):
            text = "[^/" + text[2:]  # a class never matches a slash
        found += text
    return found


def spec(lines: list[str]) -> GitIgnoreSpec:
    """Return what matches the paths that these lines of a `.gitignore` match; raises as pathspec does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `re`, at a class such as [[:alpha:]]
        made = GitIgnoreSpec.from_lines(lines)
        for pattern in made.patterns:
            if isinstance(pattern, RegexPattern) and pattern.regex is not None:
                pattern.regex = re.compile(linear(pattern.regex.pattern))
    return made
