"""Finding a name in the text of a scan's files, where no reference can record it: in strings, comments and documents.

A file is read only if it still has the content that was scanned. Strings and comments of Python are found by one
regular expression, in linear time. A name that is a plain word, such as ``total``, is often prose. So in texts of
several words it counts only if it is written like code: in backticks, after a dot, or before a parenthesis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from scanstore.db.paths import file_in, kept_in_cloud
from scanstore.db.values import pack_hash
from scanstore.indexing.files import load
from scanstore.indexing.languages import language_of

if TYPE_CHECKING:
    from scanstore.db.words import RenameKind

LONGEST_LINE = 200
_TRIPLE = r"\"\"\"(?:[^\"\\]|\\.|\"(?!\"\"))*+\"\"\"|'''(?:[^'\\]|\\.|'(?!''))*+'''"
_SINGLE = r"\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+'"


class Spelling(NamedTuple):
    line: int
    kind: RenameKind
    text: str


class Spellings:
    """Finds one name in files. ``keywords`` tells whether arguments of calls may have it."""

    def __init__(self, name: str, *, keywords: bool) -> None:
        word = re.escape(name)
        self.needle = name.encode("utf-8", "surrogatepass")
        self.anywhere = re.compile(rf"(?<!\w){word}(?!\w)")
        self.in_prose = re.compile(rf"[`.]{word}(?!\w)|(?<!\w){word}[`(]") if is_plain(name) else self.anywhere
        keyword = rf"|(?P<keyword>(?<=[(,])\s*+{word}\s*+=(?!=))" if keywords else ""
        self.code = re.compile(
            rf"(?P<comment>#[^\n]*+)|(?P<string>{_TRIPLE}|{_SINGLE})|(?P<attribute>\.[ \t]*+{word}(?!\w)){keyword}",
            re.DOTALL,
        )

    def of_file(self, root: str, path: str, digest: str | bytes | None) -> Iterator[Spelling]:
        """Yield the places of the name in a file, at most one of a kind for each line."""
        full = file_in(root, path)
        if full is None or kept_in_cloud(full):
            return
        try:
            content, found = load(full)
        except OSError:
            return
        if self.needle not in content or found != pack_hash(digest or ""):
            return
        text = content.decode("utf-8", "replace")
        lines = text.split("\n")
        seen: set[tuple[int, str]] = set()
        places = self._of_python(text) if language_of(path) == "Python" else self._of_text(text)
        line, last = 1, 0
        for start, kind in places:
            line += text.count("\n", last, start)
            last = start
            if (line, kind) not in seen:
                seen.add((line, kind))
                yield Spelling(line, kind, lines[line - 1].strip()[:LONGEST_LINE])

    def _of_python(self, text: str) -> Iterator[tuple[int, RenameKind]]:
        for match in self.code.finditer(text):
            kind = match.lastgroup
            if kind == "attribute" or kind == "keyword":
                yield match.end() - 1, "attribute" if kind == "attribute" else "keyword"
            elif kind == "comment" or kind == "string":
                one_word = kind == "string" and not any(map(str.isspace, match[0]))
                pattern = self.anywhere if one_word else self.in_prose
                for each in pattern.finditer(text, match.start(), match.end()):
                    yield each.start(), "comment" if kind == "comment" else "string"

    def _of_text(self, text: str) -> Iterator[tuple[int, RenameKind]]:
        for match in self.in_prose.finditer(text):
            yield match.start(), "text"


def is_plain(name: str) -> bool:
    """Whether a name looks like a word of a sentence."""
    return name.isalpha() and (name.islower() or name.istitle())
