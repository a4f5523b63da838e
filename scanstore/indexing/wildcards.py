"""Ignore patterns that match in time linear in the lengths of the path and the pattern.

pathspec translates a pattern of a `.gitignore` to a regular expression that may try every wildcard at every position. A
pattern such as `*a*a*a*a*a*b`, which any tree may contain, then takes exponential time. But only the last of several
wildcards needs backtracking: each earlier one may match as little as possible, because the next one matches the rest.
This holds for `*` between two slashes and for `**` between whole names. So all wildcards but the last become atomic
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
    """Return an expression that matches the same paths as pathspec's, in linear time for each wildcard."""
    parts: list[str] = [""]  # the parts between `**`
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
    """Return the expression of one part between two slashes."""
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
    """Return a matcher for these lines of a `.gitignore`. Raises the same errors as pathspec."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `re` warns about a class such as [[:alpha:]]
        made = GitIgnoreSpec.from_lines(lines)
        for pattern in made.patterns:
            if isinstance(pattern, RegexPattern) and pattern.regex is not None:
                pattern.regex = re.compile(linear(pattern.regex.pattern))
    return made
